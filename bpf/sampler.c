/* Loads the BPF object and keeps what the daemon needs of it as plain descriptors: libbpf's own object, with its copies of
 * BTF and code, is given back at once. Owns all fds in struct sampler and the mapping of the control array. */
#include "bpf/sampler.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sampler.skel.h"
#include "util/cleanup.h"

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

static int load(bool multi, struct sampler_bpf **ret)
{
    struct sampler_bpf *object = sampler_bpf__open();
    if (!object)
        return -errno;
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

static int keep(int fd)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    return copy < 0 ? -errno : copy;
}

static int keep_all(struct sampler *s, const struct sampler_bpf *object, bool multi)
{
    const struct {
        int *to;
        int from;
    } fds[] = {
        {&s->timer_prog, bpf_program__fd(object->progs.on_timer)},
        {&s->perf_prog, bpf_program__fd(object->progs.on_perf_event)},
        {&s->probe_prog, bpf_program__fd(object->progs.on_probe)},
        {&s->tracepoint_prog, bpf_program__fd(object->progs.on_tracepoint)},
        {&s->exit_prog, bpf_program__fd(object->progs.on_exit)},
        {&s->exec_prog, bpf_program__fd(object->progs.on_exec)},
        {&s->targets_map, bpf_map__fd(object->maps.targets)},
        {&s->counts_map, bpf_map__fd(object->maps.counts)},
        {&s->records_map, bpf_map__fd(object->maps.records)},
        {&s->notices_map, bpf_map__fd(object->maps.notices)},
    };
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        *fds[i].to = keep(fds[i].from);
        if (*fds[i].to < 0)
            return *fds[i].to;
    }
    if (multi)
        s->probe_multi_prog = keep(bpf_program__fd(object->progs.on_probe_multi));
    void *ctl = mmap(NULL, CPROFD_MAX_SESSIONS * sizeof(struct session_ctl), PROT_READ | PROT_WRITE, MAP_SHARED,
                     bpf_map__fd(object->maps.sessions), 0);
    if (ctl == MAP_FAILED)
        return -errno;
    s->ctl = ctl;
    return 0;
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

int sampler_open(struct sampler *ret, char *error, size_t error_len)
{
    struct sampler_bpf *object = NULL;
    struct sampler s = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, NULL, -1, -1, 0};
    bool multi = true;

    last_warning[0] = '\0';
    libbpf_set_print(keep_last_warning);
    int r = load(true, &object);
    if (r < 0) {
        multi = false;
        r = load(false, &object);
    }
    if (r == 0)
        r = learn_namespace(bpf_program__fd(object->progs.whoami));
    if (r == 0)
        r = keep_all(&s, object, multi);
    sampler_bpf__destroy(object);
    (void)malloc_trim(0); /* the kernel's type information took megabytes for a moment */
    if (r < 0) {
        sampler_close(&s);
        last_warning[strcspn(last_warning, "\n")] = '\0';
        (void)snprintf(error, error_len, "%s (%s; %s)", load_advice(r), strerror(-r), last_warning);
        return r;
    }
    *ret = s;
    return 0;
}

void sampler_close(struct sampler *s)
{
    int *fds[] = {&s->timer_prog, &s->perf_prog,  &s->probe_prog,  &s->tracepoint_prog, &s->probe_multi_prog,
                  &s->exit_prog,  &s->exec_prog,  &s->targets_map, &s->counts_map,      &s->records_map,
                  &s->notices_map, &s->exit_link, &s->exec_link};
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
        close_fd(fds[i]);
    if (s->ctl)
        (void)munmap(s->ctl, CPROFD_MAX_SESSIONS * sizeof(struct session_ctl));
    s->ctl = NULL;
}

int sampler_watch(struct sampler *s)
{
    if (s->watchers == 0) {
        s->exit_link = bpf_raw_tracepoint_open(NULL, s->exit_prog);
        if (s->exit_link < 0)
            return s->exit_link;
        s->exec_link = bpf_raw_tracepoint_open(NULL, s->exec_prog);
        if (s->exec_link < 0) {
            close_fd(&s->exit_link);
            return s->exec_link;
        }
    }
    s->watchers++;
    return 0;
}

void sampler_unwatch(struct sampler *s)
{
    if (--s->watchers > 0)
        return;
    close_fd(&s->exit_link);
    close_fd(&s->exec_link);
}

int sampler_target_add(struct sampler *s, uint32_t slot)
{
    struct target_state target = {0};
    int r = bpf_map_update_elem(s->targets_map, &s->ctl[slot].tgid, &target, BPF_NOEXIST);

    return r == -EEXIST ? 0 : r; /* watched already, for another session */
}

void sampler_target_remove(struct sampler *s, uint32_t slot)
{
    for (uint32_t i = 0; i < CPROFD_MAX_SESSIONS; i++) {
        uint32_t state = s->ctl[i].state;
        if (i != slot && s->ctl[i].tgid == s->ctl[slot].tgid && (state == SESSION_ARMED || state == SESSION_OPEN))
            return;
    }
    (void)bpf_map_delete_elem(s->targets_map, &s->ctl[slot].tgid);
}
