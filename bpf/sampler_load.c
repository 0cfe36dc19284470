/* The child that loads, and what it tells its parent. Owns nothing beyond the call. */
#include "bpf/sampler_load.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bpf/control.h"
#include "sampler.skel.h"
#include "util/cleanup.h"
#include "util/fdmsg.h"

/* BPF_TRACE_UPROBE_MULTI, Linux 6.6: newer than the headers that we build against. */
#define ATTACH_TRACE_UPROBE_MULTI 48

/* libbpf's last words, for the error message. */
static char last_warning[256];

static int keep_last_warning(enum libbpf_print_level level, const char *fmt, va_list args)
{
    if (level == LIBBPF_WARN)
        (void)vsnprintf(last_warning, sizeof(last_warning), fmt, args);
    return 0;
}

static int load(uint32_t n_cpus, bool multi, struct sampler_bpf **ret)
{
    struct sampler_bpf *object = sampler_bpf__open();
    if (!object)
        return -errno;
    object->rodata->n_cpus = n_cpus;
    (void)bpf_map__set_max_entries(object->maps.timer_phases, CPROFD_MAX_SESSIONS * CPROFD_TIMERS_PER_CPU * n_cpus);
    if (multi)
        (void)bpf_program__set_expected_attach_type(object->progs.on_probe_multi, ATTACH_TRACE_UPROBE_MULTI);
    else
        (void)bpf_program__set_autoload(object->progs.on_probe_multi, false);
    int r = sampler_bpf__load(object);
    if (r < 0) {
        sampler_bpf__destroy(object);
        return r;
    }
    *ret = object;
    return 0;
}

/* Runs the program that records the daemon's own PID namespace. */
static int learn_namespace(int prog)
{
    LIBBPF_OPTS(bpf_test_run_opts, opts);
    int r = bpf_prog_test_run_opts(prog, &opts);
    return r < 0 ? r : opts.retval ? -EIO : 0;
}

static const char *load_advice(int error)
{
    if (error == -EPERM || error == -EACCES)
        return "the daemon needs CAP_BPF and CAP_PERFMON (run it as root or by its systemd unit), "
               "and the kernel must not be locked down";
    if (error == -ENOENT || error == -ESRCH || error == -EINVAL)
        return "the kernel needs BPF with type information (CONFIG_DEBUG_INFO_BTF), Linux 5.15 or later";
    return "the BPF programs could not be loaded";
}

/* What the child says; the fds come beside it. */
struct load_answer {
    int error;
    char message[512];
};

static size_t load_fds(const struct sampler_bpf *object, bool multi, int fds[SAMPLER_FDS])
{
    fds[SAMPLER_TIMER_PROG] = bpf_program__fd(object->progs.on_timer);
    fds[SAMPLER_PERF_PROG] = bpf_program__fd(object->progs.on_perf_event);
    fds[SAMPLER_PROBE_PROG] = bpf_program__fd(object->progs.on_probe);
    fds[SAMPLER_TRACEPOINT_PROG] = bpf_program__fd(object->progs.on_tracepoint);
    fds[SAMPLER_EXIT_PROG] = bpf_program__fd(object->progs.on_exit);
    fds[SAMPLER_EXEC_PROG] = bpf_program__fd(object->progs.on_exec);
    fds[SAMPLER_SESSIONS_MAP] = bpf_map__fd(object->maps.sessions);
    fds[SAMPLER_TARGETS_MAP] = bpf_map__fd(object->maps.targets);
    fds[SAMPLER_COUNTS_MAP] = bpf_map__fd(object->maps.counts);
    fds[SAMPLER_RECORDS_MAP] = bpf_map__fd(object->maps.records);
    fds[SAMPLER_NOTICES_MAP] = bpf_map__fd(object->maps.notices);
    fds[SAMPLER_PHASES_MAP] = bpf_map__fd(object->maps.timer_phases);
    fds[SAMPLER_SLABS_MAP] = bpf_map__fd(object->maps.unwind_slabs);
    fds[SAMPLER_PROBE_MULTI_PROG] = multi ? bpf_program__fd(object->progs.on_probe_multi) : -1;
    return multi ? SAMPLER_FDS : SAMPLER_FDS - 1;
}

_Noreturn static void load_in_child(uint32_t n_cpus, int sock)
{
    struct sampler_bpf *object = NULL;
    struct load_answer answer = {0};
    int fds[SAMPLER_FDS];
    bool multi = true;

    libbpf_set_print(keep_last_warning);
    answer.error = load(n_cpus, true, &object);
    if (answer.error < 0) {
        multi = false;
        answer.error = load(n_cpus, false, &object);
    }
    if (answer.error == 0)
        answer.error = learn_namespace(bpf_program__fd(object->progs.whoami));
    if (answer.error < 0) {
        last_warning[strcspn(last_warning, "\n")] = '\0';
        (void)snprintf(answer.message, sizeof(answer.message), "%s (%s; %s)", load_advice(answer.error),
                       strerror(-answer.error), last_warning);
        _exit(fdmsg_send(sock, &answer, sizeof(answer), NULL, 0) < 0);
    }
    _exit(fdmsg_send(sock, &answer, sizeof(answer), fds, load_fds(object, multi, fds)) < 0);
}

int sampler_load(uint32_t n_cpus, int ret_fds[SAMPLER_FDS], char *error, size_t error_len)
{
    struct load_answer answer;
    size_t n = SAMPLER_FDS;
    int pair[2], fds[SAMPLER_FDS];

    int r = fdmsg_pair(pair);
    if (r < 0)
        return r;
    AUTO_CLOSE int ours = pair[0];
    AUTO_CLOSE int theirs = pair[1];
    pid_t pid = fork();
    if (pid < 0)
        return -errno;
    if (pid == 0)
        load_in_child(n_cpus, theirs);
    close_fd(&theirs);
    ssize_t len = fdmsg_recv(ours, &answer, sizeof(answer), fds, &n);
    (void)waitpid(pid, NULL, 0);
    if (len != sizeof(answer)) {
        (void)snprintf(error, error_len, "the process that loads the BPF programs died");
        return -ECHILD;
    }
    if (answer.error < 0) {
        (void)snprintf(error, error_len, "%s", answer.message);
        return answer.error;
    }
    memcpy(ret_fds, fds, sizeof(fds));
    if (n < SAMPLER_FDS)
        ret_fds[SAMPLER_PROBE_MULTI_PROG] = -1;
    return 0;
}
