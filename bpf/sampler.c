/* Keeps the loaded programs and maps as plain descriptors. Owns all fds in struct sampler and the mapping of the control array. */
#include "bpf/sampler.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bpf/sampler_load.h"
#include "bpf/sched.h"
#include "bpf/uprobe_price.h"
#include "util/cleanup.h"

static size_t sampler_phases_bytes(const struct sampler *s)
{
    return (size_t)CPROFD_MAX_SESSIONS * CPROFD_TIMERS_PER_CPU * s->n_cpus * sizeof(struct timer_phase);
}

/* A map's array, shared with BPF; NULL with errno set. */
static void *sampler_map(int map, size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);
    return p == MAP_FAILED ? NULL : p;
}

/* Shared with children; NULL with errno set. */
static void *sampler_shared(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

int sampler_open(struct sampler *ret, char *error, size_t error_len)
{
    struct sampler_loaded loaded;
    int n_cpus = libbpf_num_possible_cpus();
    if (n_cpus < 0) {
        (void)snprintf(error, error_len, "the number of CPUs can't be read: %s", strerror(-n_cpus));
        return n_cpus;
    }
    int r = sampler_load((uint32_t)n_cpus, &loaded, error, error_len);
    if (r < 0)
        return r;
    const int *fds = loaded.fds;

    AUTO_CLOSE int sessions = fds[SAMPLER_SESSIONS_MAP];
    AUTO_CLOSE int phases = fds[SAMPLER_PHASES_MAP];
    AUTO_CLOSE int filter = fds[SAMPLER_SCHED_FILTER_MAP];
    struct sampler s = {
        .timer_prog = fds[SAMPLER_TIMER_PROG], .perf_prog = fds[SAMPLER_PERF_PROG], .probe_prog = fds[SAMPLER_PROBE_PROG],
        .tracepoint_prog = fds[SAMPLER_TRACEPOINT_PROG], .rss_prog = fds[SAMPLER_RSS_PROG],
        .probe_multi_prog = fds[SAMPLER_PROBE_MULTI_PROG],
        .exit_prog = fds[SAMPLER_EXIT_PROG], .exec_prog = fds[SAMPLER_EXEC_PROG], .targets_map = fds[SAMPLER_TARGETS_MAP],
        .counts_map = fds[SAMPLER_COUNTS_MAP], .records_map = fds[SAMPLER_RECORDS_MAP],
        .notices_map = fds[SAMPLER_NOTICES_MAP], .slabs_map = fds[SAMPLER_SLABS_MAP], .n_cpus = (uint32_t)n_cpus, .exit_link = -1,
        .exec_link = -1, .switch_prog = fds[SAMPLER_SWITCH_PROG], .waking_prog = fds[SAMPLER_WAKING_PROG],
        .new_task_prog = fds[SAMPLER_NEW_TASK_PROG], .threads_map = fds[SAMPLER_THREADS_MAP],
        .go_prog = fds[SAMPLER_GO_PROG],
        .go_multi_prog = fds[SAMPLER_GO_MULTI_PROG], .go_waits_map = fds[SAMPLER_GO_WAITS_MAP], .go_locks_map = fds[SAMPLER_GO_LOCKS_MAP],
        .heap = {.prog = fds[SAMPLER_HEAP_PROG], .return_prog = fds[SAMPLER_HEAP_RETURN_PROG], .multi_prog = fds[SAMPLER_HEAP_MULTI_PROG],
                 .return_multi_prog = fds[SAMPLER_HEAP_RETURN_MULTI_PROG], .session_prog = fds[SAMPLER_HEAP_SESSION_PROG],
                 .live_map = fds[SAMPLER_HEAP_LIVE_MAP], .hits_map = fds[SAMPLER_HEAP_HITS_MAP],
                 .site_prog = fds[SAMPLER_HEAP_SITE_PROG], .site_multi_prog = fds[SAMPLER_HEAP_SITE_MULTI_PROG],
                 .maps_map = fds[SAMPLER_HEAP_MAPS_MAP], .code_map = fds[SAMPLER_HEAP_CODE_MAP]},
        .custom = {.prog = fds[SAMPLER_CUSTOM_PROG], .multi_prog = fds[SAMPLER_CUSTOM_MULTI_PROG], .live_map = fds[SAMPLER_CUSTOM_LIVE_MAP],
                   .calls_map = fds[SAMPLER_CUSTOM_CALLS_MAP]},
    };
    (void)snprintf(s.sched_error, sizeof(s.sched_error), "%s", loaded.errors[SAMPLER_OBJECT_SCHED]);
    (void)snprintf(s.go_error, sizeof(s.go_error), "%s", loaded.errors[SAMPLER_OBJECT_GO]);
    (void)snprintf(s.heap_error, sizeof(s.heap_error), "%s", loaded.errors[SAMPLER_OBJECT_HEAP]);
    (void)snprintf(s.custom_error, sizeof(s.custom_error), "%s", loaded.errors[SAMPLER_OBJECT_CUSTOM]);
    s.ctl = sampler_map(sessions, CPROFD_MAX_SESSIONS * sizeof(struct session_ctl));
    s.phases = s.ctl ? sampler_map(phases, sampler_phases_bytes(&s)) : NULL;
    s.price = s.phases ? sampler_shared(sizeof(*s.price)) : NULL;
    if (!s.price) {
        r = -errno;
        (void)snprintf(error, error_len, "the sessions' control arrays can't be mapped: %s", strerror(errno));
        sampler_close(&s);
        return r;
    }
    dump_programs_open(&(struct dump_loaded){.thread_prog = fds[SAMPLER_DUMP_THREAD_PROG], .cpu_prog = fds[SAMPLER_DUMP_CPU_PROG],
                                             .clock_prog = fds[SAMPLER_DUMP_CLOCK_PROG], .map = fds[SAMPLER_DUMP_MAP],
                                             .calibrate_prog = fds[SAMPLER_DUMP_CALIBRATE_PROG],
                                             .error = loaded.errors[SAMPLER_OBJECT_THREADS]},
                       s.n_cpus, &s.dump);
    sched_init(&s, filter);
    *ret = s;
    return 0;
}

int sampler_open_bare(struct sampler *ret)
{
    struct session_ctl *ctl = sampler_shared(CPROFD_MAX_SESSIONS * sizeof(*ctl));
    if (!ctl)
        return -errno;
    *ret = (struct sampler){
        .timer_prog = -1, .perf_prog = -1, .probe_prog = -1, .tracepoint_prog = -1, .rss_prog = -1, .probe_multi_prog = -1, .exit_prog = -1,
        .exec_prog = -1, .targets_map = -1, .counts_map = -1, .records_map = -1, .notices_map = -1, .slabs_map = -1,
        .dump = {.thread_prog = -1, .cpu_prog = -1, .clock_prog = -1, .lock_fd = -1},
        .exit_link = -1, .exec_link = -1, .ctl = ctl, .switch_prog = -1, .waking_prog = -1, .new_task_prog = -1, .threads_map = -1,
        .go_prog = -1, .go_multi_prog = -1, .go_waits_map = -1, .go_locks_map = -1,
        .heap = {-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1}, .custom = {-1, -1, -1, -1},
    };
    sched_init(ret, -1);
    return 0;
}

void sampler_close(struct sampler *s)
{
    int *fds[] = {&s->timer_prog, &s->perf_prog,  &s->probe_prog,  &s->tracepoint_prog, &s->probe_multi_prog, &s->rss_prog,
                  &s->exit_prog,  &s->exec_prog,  &s->targets_map, &s->counts_map,      &s->records_map,
                  &s->notices_map, &s->slabs_map, &s->exit_link, &s->exec_link, &s->switch_prog, &s->waking_prog,
                  &s->new_task_prog, &s->threads_map, &s->go_prog, &s->go_multi_prog,
                  &s->go_waits_map, &s->go_locks_map, &s->heap.prog, &s->heap.return_prog, &s->heap.multi_prog,
                  &s->heap.return_multi_prog, &s->heap.session_prog, &s->heap.live_map, &s->heap.hits_map, &s->heap.site_prog,
                  &s->heap.site_multi_prog, &s->custom.prog, &s->custom.multi_prog, &s->custom.live_map, &s->custom.calls_map};
    sched_deinit(s);
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
        close_fd(fds[i]);
    dump_programs_close(&s->dump);
    if (s->ctl)
        (void)munmap(s->ctl, CPROFD_MAX_SESSIONS * sizeof(struct session_ctl));
    if (s->phases)
        (void)munmap(s->phases, sampler_phases_bytes(s));
    if (s->price)
        (void)munmap(s->price, sizeof(*s->price));
    s->ctl = NULL;
    s->phases = NULL;
    s->price = NULL;
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

/* Whether another session that still counts has the same target. */
static bool sampler_target_shared(const struct sampler *s, uint32_t slot)
{
    for (uint32_t i = 0; i < CPROFD_MAX_SESSIONS; i++) {
        uint32_t state = s->ctl[i].state;
        if (i != slot && s->ctl[i].tgid == s->ctl[slot].tgid && (state == SESSION_ARMED || state == SESSION_OPEN))
            return true;
    }
    return false;
}

int sampler_target_add(struct sampler *s, uint32_t slot)
{
    struct target_state target = {0};

    /* What another session's watch has counted is this one's too; what is left of an earlier process of that number is not. */
    if (sampler_target_shared(s, slot))
        return 0;
    return bpf_map_update_elem(s->targets_map, &s->ctl[slot].tgid, &target, BPF_ANY);
}

void sampler_target_remove(struct sampler *s, uint32_t slot)
{
    if (!sampler_target_shared(s, slot))
        (void)bpf_map_delete_elem(s->targets_map, &s->ctl[slot].tgid);
}
