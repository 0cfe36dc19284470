/* The loop's side of a recorder. Owns the attacher, the session's ring and table (by fd), and what was read from them. */
#include "daemon/recorder_impl.h"

#include <assert.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/child.h"
#include "daemon/dumper.h"
#include "daemon/log.h"
#include "daemon/sched_settle.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/fdmsg.h"

#define RECORDER_RING_BYTES (1u << 20)
#define RECORDER_AUDIT_RING_BYTES (1u << 23) /* copies of stacks are long */
#define RECORDER_TRACE_RING_BYTES (1u << 23) /* events are many */
#define RECORDER_MIN_KEYS 1024u
#define RECORDER_MAX_KEYS 131072u
/* Of a standing one: half of them are the stacks' markers. */
#define RECORDER_STANDING_KEYS 32768u

static size_t recorders_bytes, recorders_standing_bytes;

/* Attaching: making maps, opening events on each CPU, and a period of waiting. Two seconds more are for locks. */
#define RECORDER_ATTACH_DEADLINE_NS (10 * NSEC_PER_SEC)
#define RECORDER_END_DEADLINE_NS (2 * NSEC_PER_SEC)

/* ---- control */

static uint32_t recorder_keys(const struct session_params *p, bool standing)
{
    if (p->event == EVENT_HEAP) /* each stack takes three */
        return RECORDER_MAX_KEYS;
    if (standing)
        return RECORDER_STANDING_KEYS;
    if (p->event != EVENT_CPU_CLOCK || p->sched_kind != SCHED_NONE)
        return RECORDER_MAX_KEYS / 2;
    /* At worst each sample is a new stack in a new thread: its key, and the stack's marker. */
    double samples = (double)p->duration_ns / (double)p->period * libbpf_num_possible_cpus();
    double keys = 2 * 1.1 * samples;
    return keys < RECORDER_MIN_KEYS ? RECORDER_MIN_KEYS : keys > RECORDER_MAX_KEYS ? RECORDER_MAX_KEYS : (uint32_t)keys;
}

const struct session_ctl *recorder_ctl(const struct recorder *r)
{
    return &r->sampler->ctl[r->slot];
}

double recorder_period(const struct recorder *r)
{
    if (r->params.event == EVENT_HEAP)
        return (double)r->params.rate;
    return r->copy ? recorder_copy_period(r->copy) : (double)r->params.period;
}

static bool recorder_is_dump(const struct recorder *r)
{
    return r->params.event == EVENT_DUMP;
}

bool recorder_is_trace(const struct recorder *r)
{
    return r->params.event == EVENT_SCHED && r->params.sched_kind == SCHED_TRACE;
}

/* A window's edge, which programs compare with their clocks. It is told in advance: one that reads its clock now does not yet know. */
static void recorder_set_edge(__u64 *edge_ns)
{
    uint64_t at_ns = monotonic_ns() + SESSION_EDGE_NOTICE_NS;

    __atomic_store_n(edge_ns, at_ns, __ATOMIC_RELEASE);
    while (monotonic_ns() < at_ns)
        ;
}

void recorder_open(struct recorder *r)
{
    struct session_ctl *ctl = &r->sampler->ctl[r->slot];
    uint32_t armed = SESSION_ARMED;

    if (r->params.sched_kind != SCHED_NONE)
        recorder_set_edge(&ctl->opened_ns);
    else
        ctl->opened_ns = monotonic_ns();
    recorder_duty_open(r);
    /* The target's end may have closed it already. */
    (void)__atomic_compare_exchange_n(&ctl->state, &armed, SESSION_OPEN, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
    if (recorder_is_dump(r)) {
        struct attacher_message m = {.type = ATTACHER_OPEN};
        (void)child_send(r->attacher, &m, sizeof(m), NULL, 0); /* where it is gone, its end is told */
    }
    if ((r->standing && r->params.event == EVENT_NEW_THREAD) || recorder_is_trace(r))
        recorder_elders_begin(r);
}

void recorder_thin(struct recorder *r, uint32_t thin)
{
    assert(thin > 0);
    __atomic_store_n(&r->sampler->ctl[r->slot].thin, thin, __ATOMIC_RELAXED);
}

size_t recorder_stacks(const struct recorder *r)
{
    return r->n_records;
}

enum copy_reach recorder_reach(const struct recorder *r)
{
    return r->copy ? recorder_copy_reach(r->copy) : COPY_REACH_HOST;
}

uint64_t recorder_changes_lost(const struct recorder *r)
{
    return r->copy ? recorder_copy_changes_lost(r->copy) : 0;
}

void recorder_close(struct recorder *r)
{
    recorder_duty_close(r);
    if (r->copy)
        recorder_copy_close(r->copy);
    if (r->params.sched_kind != SCHED_NONE && r->sampler->ctl[r->slot].until_ns == 0)
        recorder_set_edge(&r->sampler->ctl[r->slot].until_ns);
    __atomic_store_n(&r->sampler->ctl[r->slot].state, SESSION_CLOSED, __ATOMIC_RELEASE);
}

/* More of them, or fewer: n wraps. */
static void recorder_take_bytes(const struct recorder *r, size_t n)
{
    recorders_bytes += n;
    recorders_standing_bytes += r->standing ? n : 0;
}

static bool recorder_has_room(const struct recorder *r, size_t need, size_t cap)
{
    size_t more = cap - r->records_cap;

    if (r->standing && (need > RECORDER_STANDING_MAX_BYTES || recorders_standing_bytes + more > RECORDERS_STANDING_MAX_BYTES))
        return false;
    return need <= RECORDER_MAX_BYTES && recorders_bytes + more <= RECORDERS_MAX_BYTES;
}

static void recorder_destroy(struct recorder *r)
{
    if (r->ring_event)
        event_free(r->ring_event);
    ring_buffer__free(r->ring);
    recorder_copy_free(r->copy);
    recorder_elders_end(r);
    recorder_sched_free(r);
    if (r->dumped)
        raw_profile_close(&r->dump);
    close_fd(&r->counts_fd);
    close_fd(&r->records_fd);
    close_fd(&r->live_fd);
    if (r->progress)
        (void)munmap(r->progress, sizeof(*r->progress));
    __atomic_store_n(&r->sampler->ctl[r->slot].state, SESSION_FREE, __ATOMIC_RELEASE);
    recorder_take_bytes(r, -r->records_cap);
    free(r->records);
    free(r->counts);
    recorder_past_free(r);
    free(r);
}

/* ---- reading */

static int recorder_make_room(struct recorder *r, size_t len)
{
    size_t need = r->records_len + len, cap = need + need / 4 + 65536;

    if (need <= r->records_cap)
        return 0;
    if (!recorder_has_room(r, need, cap))
        return -ENOBUFS;
    uint8_t *records = realloc(r->records, cap);
    if (!records)
        return -ENOMEM;
    recorder_take_bytes(r, cap - r->records_cap);
    r->records = records;
    r->records_cap = cap;
    return 0;
}

void *recorder_reserve(struct recorder *r, size_t len)
{
    if (recorder_make_room(r, len) < 0) {
        r->lost_memory++;
        return NULL;
    }
    void *room = r->records + r->records_len;
    r->records_len += len;
    r->n_records++;
    return room;
}

/* A copy of a stack takes room in the ring for the longest that there may be. */
static size_t recorder_record_len(const void *data, size_t len)
{
    const struct copy_record *copy = data;

    if (len < sizeof(*copy) || copy->type != RECORD_COPY)
        return len;
    size_t used = COPY_RECORD_BYTES(copy->n_kernel, copy->stack_bytes);
    return used < len ? used : len;
}

/* A trace ends where its first event is lost: what came after it would be told wrong. */
static void recorder_on_lost(struct recorder *r, const void *data, size_t len)
{
    const struct trace_record *event = data;
    struct session_ctl *ctl = &r->sampler->ctl[r->slot];

    r->full = recorder_is_trace(r);
    if (r->full && len == sizeof(*event) && event->type == RECORD_TRACE && (ctl->full_ns == 0 || event->time_ns < ctl->full_ns))
        __atomic_store_n(&ctl->full_ns, event->time_ns, __ATOMIC_RELAXED);
}

static int recorder_on_record(void *arg, void *data, size_t ring_len)
{
    struct recorder *r = arg;
    size_t len = recorder_record_len(data, ring_len);
    void *room = r->full ? NULL : recorder_reserve(r, len);
    if (room)
        memcpy(room, data, len);
    else
        recorder_on_lost(r, data, len);
    return 0;
}

static void recorder_on_ring(evutil_socket_t fd, short what, void *arg)
{
    struct recorder *r = arg;
    (void)ring_buffer__consume(r->ring);
}

/* Appends keys and values to counts, without the markers of stacks (bpf/sampler.bpf.c, count_sample). */
static void recorder_add_counts(struct recorder *r, const struct sample_key *keys, const struct sample_value *values, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (keys[i].tgid != 0)
            r->counts[r->n_counts++] = (struct raw_count){keys[i], values[i]};
}

static int recorder_read_counts(struct recorder *r)
{
    AUTO_FREE struct sample_key *keys = calloc(r->max_keys, sizeof(*keys));
    AUTO_FREE struct sample_value *values = calloc(r->max_keys, sizeof(*values));
    uint32_t position = 0, n;
    bool first = true;
    int result;

    if (r->standing) /* there may be more that are past */
        free(TAKE_PTR(r->counts));
    if (!r->counts)
        r->counts = calloc(r->max_keys + r->n_elders + r->n_past, sizeof(*r->counts));
    if (!keys || !values || !r->counts)
        return -ENOMEM;
    r->n_counts = 0;
    do {
        n = r->max_keys;
        result = bpf_map_lookup_batch(r->counts_fd, first ? NULL : &position, &position, keys, values, &n, NULL);
        if (result < 0 && result != -ENOENT)
            return result;
        if (r->n_counts + n > r->max_keys)
            return -EOVERFLOW;
        recorder_add_counts(r, keys, values, n);
        first = false;
    } while (result == 0 && n > 0);
    for (size_t i = 0; i < r->n_elders; i++)
        r->counts[r->n_counts++] = r->elders[i];
    for (size_t i = 0; i < r->n_past; i++)
        r->counts[r->n_counts++] = r->past[i];
    return 0;
}

int recorder_read(struct recorder *r)
{
    assert(!r->copy);
    (void)ring_buffer__consume(r->ring);
    return r->live_fd >= 0 && !custom_is_counted(&r->params.custom) ? recorder_custom_read(r) : recorder_read_counts(r);
}

static void recorder_fail(struct recorder *r, int status, const char *message)
{
    r->ops.failed(r, status, message, r->userdata);
}

static void recorder_finish_dump(struct recorder *r)
{
    if (!r->dumped) {
        recorder_fail(r, 503, "the process that dumps the threads took too long, or died");
        return;
    }
    r->sampler->ctl[r->slot].samples = r->dump.n_counts;
    r->ops.drained(r, r->userdata);
}

static void recorder_drain(struct recorder *r)
{
    char message[128];
    if (r->copy) {
        recorder_copy_finish(r->copy);
        r->ops.drained(r, r->userdata);
        return;
    }
    if (recorder_is_dump(r)) {
        recorder_finish_dump(r);
        return;
    }
    int result = recorder_read(r);
    result = result < 0 ? result : recorder_sched_settle(r);
    if (result < 0) {
        (void)snprintf(message, sizeof(message), "the session's counts could not be read: %s", strerror(-result));
        recorder_fail(r, 503, message);
        return;
    }
    r->ops.drained(r, r->userdata);
}

/* ---- the attacher */

static int recorder_on_ready(struct recorder *r, const int *fds, size_t n_fds)
{
    r->counts_fd = fds[0];
    r->records_fd = fds[1];
    r->live_fd = n_fds > 2 ? fds[2] : -1;
    r->ring = ring_buffer__new(r->records_fd, recorder_on_record, r, NULL);
    if (!r->ring)
        return -errno;
    r->ring_event = event_new(r->base, ring_buffer__epoll_fd(r->ring), EV_READ | EV_PERSIST, recorder_on_ring, r);
    if (!r->ring_event || event_add(r->ring_event, NULL) < 0)
        return -ENOMEM;
    return 0;
}

/* Takes what an attacher has to give. 0; -EPROTO: it is nothing that was due; -errno. The fds become the recorder's in all cases. */
static int recorder_take(struct recorder *r, const struct attacher_message *m, int *fds, size_t n_fds)
{
    size_t due = recorder_is_dump(r) ? 0 : r->copy ? 1 : r->params.event == EVENT_CUSTOM ? 3 : 2;

    if (m->type == ATTACHER_RINGS && r->copy && !r->ready && !r->orphaned)
        return recorder_copy_rings(r->copy, m, fds, n_fds);
    if (m->type == ATTACHER_READY && n_fds == due && !r->ready && !r->orphaned) {
        int e = recorder_is_dump(r) ? 0 : r->copy ? recorder_copy_ready(r->copy, m, fds[0]) : recorder_on_ready(r, fds, n_fds);
        r->ready = e == 0;
        r->hit_ns = m->price.hit_ns;
        return e;
    }
    int e = -EPROTO;
    if (m->type == ATTACHER_DUMPED && n_fds == 1 && r->ready && !r->dumped && !r->orphaned) {
        e = raw_table_open(fds[0], &r->dump);
        r->dumped = e == 0;
    }
    for (size_t i = 0; i < n_fds; i++)
        (void)close(fds[i]);
    return e;
}

static void recorder_on_message(struct child *c, const void *data, size_t len, int *fds, size_t n_fds, void *userdata)
{
    struct recorder *r = userdata;
    const struct attacher_message *m = data;
    char message[2048];

    if (len != sizeof(*m)) {
        log_error("an attacher sent %zu bytes where %zu were due", len, sizeof(*m));
        return;
    }
    if (m->type == ATTACHER_MORE && n_fds == 0) {
        recorder_on_more(r, m->error);
        return;
    }
    bool was_ready = r->ready;
    int e = recorder_take(r, m, fds, n_fds);
    if (e < 0 && e != -EPROTO) {
        recorder_fail(r, 503, e == -EMFILE || e == -ENFILE ? "the daemon has no file descriptors left: raise LimitNOFILE"
                                                           : "no memory to read the session's samples");
        return;
    }
    if (r->ready && !was_ready) {
        child_set_deadline(r->attacher, 0);
        r->ops.ready(r, r->userdata);
        return;
    }
    if (m->type == ATTACHER_FAILED && !r->orphaned) {
        int status = attacher_explain(m, &r->params, message, sizeof(message));
        recorder_fail(r, status, message);
    }
}

static void recorder_on_ended(struct child *c, bool timed_out, uint64_t cpu_ns, void *userdata)
{
    struct recorder *r = userdata;
    char message[256];

    r->attacher = NULL;
    r->attacher_cpu_ns += cpu_ns; /* beside that of a dumper */
    if (r->orphaned) {
        recorder_destroy(r);
        return;
    }
    if (timed_out && r->progress->stage == ATTACHER_LOCKS && r->progress->lock_of) {
        (void)snprintf(message, sizeof(message),
                       "a probe needs the memory lock of every process, and process %d does not give its lock: it is stuck; "
                       "try again when it runs, or end it", r->progress->lock_of);
        recorder_fail(r, 503, message);
        return;
    }
    if (r->ready && r->ending) {
        recorder_drain(r); /* even one that was killed: its end has detached all, and what was counted is there */
        return;
    }
    if (r->ready && !r->copy && !recorder_is_dump(r)) {
        r->ops.lost(r, timed_out && r->n_more > 0 ? "probing a file that the process has loaded later took too long, and ended all its probes"
                                                  : "the process that holds what was attached died", r->userdata);
        return;
    }
    recorder_fail(r, 503, timed_out ? "attaching the events took too long" : "the process that attaches the events died");
}

static const struct child_ops attacher_ops = {.message = recorder_on_message, .ended = recorder_on_ended};

static int recorder_spawn_dumper(struct recorder *r)
{
    const struct dump_programs *d = &r->sampler->dump;
    struct dumper_request request = {.programs = d, .slot = r->slot, .pid = r->pid, .kernel = r->params.kernel,
                                     .starts = r->params.starts};
    const int keep[] = {d->thread_prog, d->cpu_prog, d->clock_prog, d->lock_fd};

    if (!d->area)
        return -EOPNOTSUPP;
    return child_spawn(r->base, dumper_main, &request, keep, sizeof(keep) / sizeof(keep[0]), RECORDER_ATTACH_DEADLINE_NS, &attacher_ops, r,
                       &r->attacher);
}

static uint32_t recorder_ring_bytes(const struct recorder *r)
{
    if (recorder_is_trace(r))
        return RECORDER_TRACE_RING_BYTES;
    return r->params.audit ? RECORDER_AUDIT_RING_BYTES : RECORDER_RING_BYTES;
}

static int recorder_spawn(struct recorder *r, const struct recorder_config *config)
{
    struct copy_request copy;
    struct attacher_request request = {
        .sampler = r->sampler, .slot = r->slot, .pid = config->pid, .params = &r->params, .max_samples = r->max_keys,
        .ring_bytes = recorder_ring_bytes(r), .probe_fd = config->probe_fd, .places = config->places,
        .n_places = config->n_places, .stepped = config->stepped, .files = config->files, .n_files = config->n_files,
        .progress = r->progress,
    };
    const struct sampler *s = r->sampler;
    int keep[64] = {s->timer_prog, s->perf_prog, s->probe_prog, s->tracepoint_prog, s->counts_map, s->records_map, s->rss_prog};
    const int of_go[] = {s->go_prog, s->go_waits_map, s->go_locks_map, s->go_multi_prog};
    size_t n = 7;
    if (recorder_is_dump(r))
        return recorder_spawn_dumper(r);
    if (r->params.unwind == SESSION_UNWIND_COPY) {
        int e = recorder_copy_new(r, &copy);
        if (e < 0)
            return e;
        request.copy = &copy;
        n = 0;
    } else if (s->probe_multi_prog >= 0) {
        keep[n++] = s->probe_multi_prog;
    }
    for (size_t i = 0; r->params.event == EVENT_GO && i < sizeof(of_go) / sizeof(of_go[0]) && of_go[i] >= 0; i++)
        keep[n++] = of_go[i];
    n += r->params.event == EVENT_CUSTOM ? recorder_custom_keep(s, keep + n) : 0;
    n += r->params.event == EVENT_HEAP ? recorder_heap_keep(s, keep + n) : 0;
    for (size_t i = 0; i < config->n_files; i++)
        keep[n++] = config->files[i].fd;
    if (config->probe_fd >= 0)
        keep[n++] = config->probe_fd;
    return child_spawn(r->base, attacher_main, &request, keep, n, RECORDER_ATTACH_DEADLINE_NS, &attacher_ops, r, &r->attacher);
}

int recorder_new(struct event_base *base, struct sampler *sampler, const struct recorder_config *config,
                 const struct recorder_ops *ops, void *userdata, struct recorder **ret)
{
    AUTO_CLOSE int probe_fd = config->probe_fd;
    struct recorder *r = calloc(1, sizeof(*r));
    if (!r)
        return -ENOMEM;
    *r = (struct recorder){.base = base, .sampler = sampler, .ops = *ops, .userdata = userdata, .params = *config->params,
                           .pid = config->pid, .slot = config->slot, .standing = config->standing, .at_entry = config->at_entry,
                           .max_keys = recorder_keys(config->params, config->standing), .counts_fd = -1, .records_fd = -1,
                           .live_fd = -1};
    r->progress = mmap(NULL, sizeof(*r->progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (r->progress == MAP_FAILED) {
        free(r);
        return -ENOMEM;
    }
    int result = recorder_fill_ctl(r);
    if (result == 0)
        result = recorder_sched_new(r);
    if (result == 0)
        result = recorder_spawn(r, config);
    if (result < 0) {
        recorder_free(r);
        return result;
    }
    *ret = r;
    return 0;
}

/* Asks the attacher to detach and end. */
static void recorder_ask_end(struct recorder *r)
{
    struct attacher_message m = {.type = ATTACHER_END};

    child_set_deadline(r->attacher, RECORDER_END_DEADLINE_NS);
    (void)child_send(r->attacher, &m, sizeof(m), NULL, 0); /* where it is gone, its end is told */
}

void recorder_end(struct recorder *r)
{
    assert(!r->ending);
    r->ending = true;
    recorder_sched_close(r);
    if (r->attacher)
        recorder_ask_end(r);
    else
        recorder_drain(r); /* it was lost */
}

void recorder_free(struct recorder *r)
{
    if (!r)
        return;
    recorder_close(r);
    if (!r->attacher) {
        recorder_destroy(r);
        return;
    }
    r->orphaned = true;
    recorder_elders_end(r);
    recorder_ask_end(r);
}

void recorder_data(const struct recorder *r, struct recorder_data *ret)
{
    *ret = (struct recorder_data){.records = r->records, .records_len = r->records_len, .counts = r->counts,
                                  .counts_len = r->n_counts * sizeof(*r->counts), .lost_memory = r->lost_memory,
                                  .attacher_cpu_ns = r->attacher_cpu_ns, .elders_missing = r->elders_missing};
    const struct settle_result *settled = recorder_settled(r);
    if (settled) {
        ret->counts = settled->counts;
        ret->counts_len = settled->n_counts * sizeof(*settled->counts);
    }
    if (r->dumped) {
        ret->records = r->dump.n_records > 0 ? r->dump.records[0] + 1 : NULL;
        ret->records_len = r->dump.n_records > 0 ? r->dump.records[0]->len : 0;
        ret->counts = r->dump.counts;
        ret->counts_len = r->dump.n_counts * sizeof(*r->dump.counts);
        ret->threads = r->dump.threads;
        ret->n_threads = r->dump.n_threads;
    }
}
