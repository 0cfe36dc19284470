/* The children that load, one for each object, and what they tell their parent: a message each. Owns nothing beyond the call. */
#include "bpf/sampler_load.h"

#include <assert.h>
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
#include "bpf/syscall_states.h"
#include "bpf/heap.h"
#include "custom.skel.h"
#include "go.skel.h"
#include "heap.skel.h"
#include "sampler.skel.h"
#include "threads.skel.h"
#include "sched.skel.h"
#include "util/cleanup.h"
#include "util/fdmsg.h"

/* BPF_TRACE_UPROBE_MULTI, Linux 6.6: newer than the headers that we build against. */
#define ATTACH_TRACE_UPROBE_MULTI 48
/* BPF_TRACE_UPROBE_SESSION, Linux 6.13. */
#define ATTACH_TRACE_UPROBE_SESSION 57

/* libbpf's last words, for the error message. */
static char last_warning[256];

static int keep_last_warning(enum libbpf_print_level level, const char *fmt, va_list args)
{
    if (level == LIBBPF_WARN)
        (void)vsnprintf(last_warning, sizeof(last_warning), fmt, args);
    return 0;
}

/* ---- objects */

/* Where an object's program or map goes. */
struct loaded_fd {
    enum sampler_fd at;
    const char *program, *map; /* one of them is NULL */
};

/* What only newer kernels have: the most is tried first. */
enum load_level { LOAD_PLAIN, LOAD_MULTI /* links of many uprobes */, LOAD_SESSIONS /* and of such that see the return where the entry wants it */ };

/* A BPF object. Maps whose names an object before it has too are shared with that. To add one: a line in enum sampler_object, and here
 * in the same order. Its `whoami` is run behind its loading. */
struct loaded_object {
    /* What the skeleton takes beside the object is the child's to its end. */
    struct bpf_object *(*open)(uint32_t n_cpus, enum load_level level);
    const struct loaded_fd *fds;
    size_t n_fds;
    enum load_level most; /* PLAIN: as MULTI */
};

static struct bpf_object *open_sampler(uint32_t n_cpus, enum load_level level)
{
    struct sampler_bpf *s = sampler_bpf__open();
    if (!s)
        return NULL;
    s->rodata->n_cpus = n_cpus;
    (void)bpf_map__set_max_entries(s->maps.timer_phases, CPROFD_MAX_SESSIONS * CPROFD_TIMERS_PER_CPU * n_cpus);
    if (level >= LOAD_MULTI)
        (void)bpf_program__set_expected_attach_type(s->progs.on_probe_multi, ATTACH_TRACE_UPROBE_MULTI);
    else
        (void)bpf_program__set_autoload(s->progs.on_probe_multi, false);
    return s->obj;
}

static const struct loaded_fd sampler_fds[] = {
    {SAMPLER_TIMER_PROG, "on_timer", NULL},
    {SAMPLER_PERF_PROG, "on_perf_event", NULL},
    {SAMPLER_PROBE_PROG, "on_probe", NULL},
    {SAMPLER_TRACEPOINT_PROG, "on_tracepoint", NULL},
    {SAMPLER_RSS_PROG, "on_rss_stat", NULL},
    {SAMPLER_EXIT_PROG, "on_exit", NULL},
    {SAMPLER_EXEC_PROG, "on_exec", NULL},
    {SAMPLER_SESSIONS_MAP, NULL, "sessions"},
    {SAMPLER_TARGETS_MAP, NULL, "targets"},
    {SAMPLER_COUNTS_MAP, NULL, "counts"},
    {SAMPLER_RECORDS_MAP, NULL, "records"},
    {SAMPLER_NOTICES_MAP, NULL, "notices"},
    {SAMPLER_PHASES_MAP, NULL, "timer_phases"},
    {SAMPLER_SLABS_MAP, NULL, "unwind_slabs"},
    {SAMPLER_PROBE_MULTI_PROG, "on_probe_multi", NULL},
};

static struct bpf_object *open_threads(uint32_t n_cpus, enum load_level level)
{
    struct threads_bpf *s = threads_bpf__open();
    return s ? s->obj : NULL;
}

static const struct loaded_fd threads_fds[] = {
    {SAMPLER_DUMP_THREAD_PROG, "dump_thread", NULL},
    {SAMPLER_DUMP_CPU_PROG, "dump_cpu", NULL},
    {SAMPLER_DUMP_CLOCK_PROG, "dump_clock", NULL},
    {SAMPLER_DUMP_CALIBRATE_PROG, "dump_calibrate", NULL},
    {SAMPLER_DUMP_MAP, NULL, "dump"},
};

static struct bpf_object *open_sched(uint32_t n_cpus, enum load_level level)
{
    struct sched_bpf *s = sched_bpf__open();
    if (!s)
        return NULL;
    syscall_states(s->rodata->syscall_states);
    return s->obj;
}

static const struct loaded_fd sched_fds[] = {
    {SAMPLER_SWITCH_PROG, "on_switch", NULL},
    {SAMPLER_WAKING_PROG, "on_waking", NULL},
    {SAMPLER_NEW_TASK_PROG, "on_new_task", NULL},
    {SAMPLER_THREADS_MAP, NULL, "threads"},
    {SAMPLER_SCHED_FILTER_MAP, NULL, "sched_filter"},
};

static struct bpf_object *open_go(uint32_t n_cpus, enum load_level level)
{
    struct go_bpf *s = go_bpf__open();
    if (!s)
        return NULL;
    if (level >= LOAD_MULTI)
        (void)bpf_program__set_expected_attach_type(s->progs.on_go_multi, ATTACH_TRACE_UPROBE_MULTI);
    else
        (void)bpf_program__set_autoload(s->progs.on_go_multi, false);
    return s->obj;
}

static const struct loaded_fd go_fds[] = {
    {SAMPLER_GO_PROG, "on_go", NULL},
    {SAMPLER_GO_MULTI_PROG, "on_go_multi", NULL},
    {SAMPLER_GO_WAITS_MAP, NULL, "go_waits"},
    {SAMPLER_GO_LOCKS_MAP, NULL, "go_locks"},
};

static struct bpf_object *open_heap(uint32_t n_cpus, enum load_level level)
{
    struct heap_bpf *s = heap_bpf__open();
    if (!s)
        return NULL;
    heap_tables_fill(&s->rodata->tables);
    struct bpf_program *const multi[] = {s->progs.on_heap_multi, s->progs.on_heap_return_multi, s->progs.on_heap_site_multi};
    for (size_t i = 0; i < sizeof(multi) / sizeof(multi[0]); i++) {
        (void)bpf_program__set_expected_attach_type(multi[i], ATTACH_TRACE_UPROBE_MULTI);
        (void)bpf_program__set_autoload(multi[i], level >= LOAD_MULTI);
    }
    (void)bpf_program__set_expected_attach_type(s->progs.on_heap_session, ATTACH_TRACE_UPROBE_SESSION);
    (void)bpf_program__set_autoload(s->progs.on_heap_session, level >= LOAD_SESSIONS);
    return s->obj;
}

static const struct loaded_fd heap_fds[] = {
    {SAMPLER_HEAP_PROG, "on_heap", NULL},
    {SAMPLER_HEAP_RETURN_PROG, "on_heap_return", NULL},
    {SAMPLER_HEAP_LIVE_MAP, NULL, "heap_live"},
    {SAMPLER_HEAP_HITS_MAP, NULL, "heap_hits"},
    {SAMPLER_HEAP_MAPS_MAP, NULL, "heap_maps"},
    {SAMPLER_HEAP_CODE_MAP, NULL, "heap_code"},
    {SAMPLER_HEAP_SITE_PROG, "on_heap_site", NULL},
    {SAMPLER_HEAP_SITE_MULTI_PROG, "on_heap_site_multi", NULL},
    {SAMPLER_HEAP_MULTI_PROG, "on_heap_multi", NULL},
    {SAMPLER_HEAP_RETURN_MULTI_PROG, "on_heap_return_multi", NULL},
    {SAMPLER_HEAP_SESSION_PROG, "on_heap_session", NULL},
};

static struct bpf_object *open_custom(uint32_t n_cpus, enum load_level level)
{
    struct custom_bpf *s = custom_bpf__open();
    if (!s)
        return NULL;
    (void)bpf_program__set_expected_attach_type(s->progs.on_custom_multi, ATTACH_TRACE_UPROBE_MULTI);
    (void)bpf_program__set_autoload(s->progs.on_custom_multi, level >= LOAD_MULTI);
    return s->obj;
}

static const struct loaded_fd custom_fds[] = {
    {SAMPLER_CUSTOM_PROG, "on_custom", NULL},
    {SAMPLER_CUSTOM_MULTI_PROG, "on_custom_multi", NULL},
    {SAMPLER_CUSTOM_LIVE_MAP, NULL, "custom_live"},
    {SAMPLER_CUSTOM_CALLS_MAP, NULL, "custom_calls"},
};

static const struct loaded_object objects[] = {
    [SAMPLER_OBJECT_EVENTS] = {open_sampler, sampler_fds, sizeof(sampler_fds) / sizeof(sampler_fds[0])},
    [SAMPLER_OBJECT_THREADS] = {open_threads, threads_fds, sizeof(threads_fds) / sizeof(threads_fds[0])},
    [SAMPLER_OBJECT_SCHED] = {open_sched, sched_fds, sizeof(sched_fds) / sizeof(sched_fds[0])},
    [SAMPLER_OBJECT_GO] = {open_go, go_fds, sizeof(go_fds) / sizeof(go_fds[0])},
    [SAMPLER_OBJECT_CUSTOM] = {open_custom, custom_fds, sizeof(custom_fds) / sizeof(custom_fds[0])},
    [SAMPLER_OBJECT_HEAP] = {open_heap, heap_fds, sizeof(heap_fds) / sizeof(heap_fds[0]), LOAD_SESSIONS},
};
_Static_assert(sizeof(objects) / sizeof(objects[0]) == SAMPLER_OBJECTS, "each object is here");

/* ---- the child */

/* What it says of each object; the fds that are marked come beside it, in their order. */
struct load_answer {
    uint32_t object; /* enum sampler_object */
    int error;
    uint64_t present; /* a bit for each enum sampler_fd */
    char message[512];
};
_Static_assert(SAMPLER_FDS <= 64, "a bit for each");

/* Lets an object use the maps of one that is loaded. 0 or -errno. */
static int share_maps(const struct bpf_object *from, struct bpf_object *to)
{
    struct bpf_map *map;

    bpf_object__for_each_map(map, to) {
        const struct bpf_map *other = bpf_map__is_internal(map) ? NULL : bpf_object__find_map_by_name(from, bpf_map__name(map));
        int r = other ? bpf_map__reuse_fd(map, bpf_map__fd(other)) : 0;
        if (r < 0)
            return r;
    }
    return 0;
}

/* Runs the program that records the daemon's own PID namespace. */
static int learn_namespace(const struct bpf_object *object)
{
    LIBBPF_OPTS(bpf_test_run_opts, opts);
    int r = bpf_prog_test_run_opts(bpf_program__fd(bpf_object__find_program_by_name(object, "whoami")), &opts);
    return r < 0 ? r : opts.retval ? -EIO : 0;
}

static int load_one(const struct loaded_object *o, const struct bpf_object *first, uint32_t n_cpus, enum load_level level, struct bpf_object **ret)
{
    struct bpf_object *object = o->open(n_cpus, level);
    if (!object)
        return -errno;
    int r = first ? share_maps(first, object) : 0;
    r = r < 0 ? r : bpf_object__load(object);
    r = r < 0 ? r : learn_namespace(object);
    if (r < 0) {
        bpf_object__close(object);
        return r;
    }
    *ret = object;
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

/* 0, or -errno where the parent is gone. */
static int answer_error(int sock, uint32_t which, int error)
{
    struct load_answer answer = {.object = which, .error = error};

    last_warning[strcspn(last_warning, "\n")] = '\0';
    (void)snprintf(answer.message, sizeof(answer.message), "%s (%s; %s)", load_advice(error), strerror(-error), last_warning);
    return fdmsg_send(sock, &answer, sizeof(answer), NULL, 0);
}

static int answer_fds(int sock, uint32_t which, const struct bpf_object *object)
{
    const struct loaded_object *o = &objects[which];
    struct load_answer answer = {.object = which};
    int all[SAMPLER_FDS], fds[SAMPLER_FDS];
    size_t n = 0;

    for (size_t i = 0; i < o->n_fds; i++) {
        const struct loaded_fd *f = &o->fds[i];
        int fd = f->program ? bpf_program__fd(bpf_object__find_program_by_name(object, f->program))
                            : bpf_map__fd(bpf_object__find_map_by_name(object, f->map));
        all[f->at] = fd;
        if (fd >= 0)
            answer.present |= 1ull << f->at;
    }
    for (size_t i = 0; i < SAMPLER_FDS; i++)
        if (answer.present & 1ull << i)
            fds[n++] = all[i];
    return fdmsg_send(sock, &answer, sizeof(answer), fds, n);
}

/* The object, or NULL: it was answered why not, or the parent is gone. */
static struct bpf_object *load_and_answer(int sock, uint32_t which, const struct bpf_object *first, uint32_t n_cpus)
{
    struct bpf_object *object = NULL;
    int level = objects[which].most > LOAD_MULTI ? (int)objects[which].most : LOAD_MULTI, error;

    do {
        error = load_one(&objects[which], first, n_cpus, (enum load_level)level, &object);
    } while (error < 0 && error != -EPERM && level-- > LOAD_PLAIN);
    int r = error < 0 ? answer_error(sock, which, error) : answer_fds(sock, which, object);
    return r < 0 ? NULL : object;
}

/* Verifiers take their time: once the maps are there that all share, each of the other objects has a process of its own. Where there can be no
 * more processes, one after the other does. */
_Noreturn static void load_in_child(uint32_t n_cpus, int sock)
{
    libbpf_set_print(keep_last_warning);
    const struct bpf_object *first = load_and_answer(sock, 0, NULL, n_cpus);
    if (!first)
        _exit(1);
    for (uint32_t i = 1; i < SAMPLER_OBJECTS; i++) {
        pid_t pid = fork();
        if (pid <= 0)
            (void)load_and_answer(sock, i, first, n_cpus);
        if (pid == 0)
            _exit(0);
    }
    while (wait(NULL) > 0)
        ;
    _exit(0);
}

/* ---- the parent */

static void close_all(int fds[SAMPLER_FDS])
{
    for (size_t i = 0; i < SAMPLER_FDS; i++)
        close_fd(&fds[i]);
}

/* The answer for one object. 0, or -ECHILD. */
static int receive_answer(int sock, struct load_answer *ret, int fds[SAMPLER_FDS])
{
    int received[FDMSG_MAX_FDS];
    size_t n = FDMSG_MAX_FDS, next = 0;

    if (fdmsg_recv(sock, ret, sizeof(*ret), received, &n) != sizeof(*ret))
        return -ECHILD;
    assert(n == (size_t)__builtin_popcountll(ret->present) && ret->object < SAMPLER_OBJECTS);
    for (size_t i = 0; i < SAMPLER_FDS; i++)
        if (ret->present & 1ull << i)
            fds[i] = received[next++];
    return 0;
}

static int receive_all(int sock, struct sampler_loaded *ret, char *error, size_t error_len)
{
    struct load_answer answer;

    for (size_t i = 0; i < SAMPLER_OBJECTS; i++) {
        if (receive_answer(sock, &answer, ret->fds) < 0) { /* the first object's comes first */
            (void)snprintf(error, error_len, "the process that loads the BPF programs died: has it enough memory (some 100 MiB, for the moment)?");
            return -ECHILD;
        }
        if (answer.error < 0 && answer.object == 0) {
            (void)snprintf(error, error_len, "%s", answer.message);
            return answer.error;
        }
        memcpy(ret->errors[answer.object], answer.message, sizeof(answer.message));
    }
    return 0;
}

static int load_failed(int r, char *error, size_t error_len)
{
    (void)snprintf(error, error_len, "no process can be started that loads the BPF programs: %s", strerror(-r));
    return r;
}

int sampler_load(uint32_t n_cpus, struct sampler_loaded *ret, char *error, size_t error_len)
{
    struct sampler_loaded loaded = {0};
    int pair[2];

    int r = fdmsg_pair(pair);
    if (r < 0)
        return load_failed(r, error, error_len);
    AUTO_CLOSE int ours = pair[0];
    AUTO_CLOSE int theirs = pair[1];
    pid_t pid = fork();
    if (pid < 0)
        return load_failed(-errno, error, error_len);
    if (pid == 0)
        load_in_child(n_cpus, theirs);
    close_fd(&theirs);
    memset(loaded.fds, -1, sizeof(loaded.fds));
    r = receive_all(ours, &loaded, error, error_len);
    close_fd(&ours); /* else a child with more to say would wait for room */
    (void)waitpid(pid, NULL, 0);
    if (r < 0) {
        close_all(loaded.fds);
        return r;
    }
    *ret = loaded;
    return 0;
}
