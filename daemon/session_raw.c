/* Writes parameters, facts, records and counts in the layout of daemon/raw_profile.h. Owns nothing beyond the call. */
#include "daemon/session_raw.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/duty_scale.h"
#include "daemon/raw_profile.h"
#include "daemon/sched_settle.h"
#include "daemon/recording_go.h"
#include "daemon/recording_custom.h"
#include "daemon/recording_growth.h"
#include "daemon/recording_heap.h"
#include "daemon/recording_probe.h"
#include "daemon/recording_unwind.h"
#include "util/cleanup.h"
#include "util/clock.h"

/* Without any table the stack engine follows frame pointers. */
static bool session_raw_by_fp(const struct session_ctl *ctl, const struct session_params *p)
{
    return p->unwind != SESSION_UNWIND_COPY && (ctl->unwind == UNWIND_BY_FRAME_POINTERS || ctl->space == 0);
}

static const char *session_raw_unwind(const struct session_ctl *ctl, const struct session_params *p)
{
    if (p->unwind == SESSION_UNWIND_COPY)
        return "copy";
    return session_raw_by_fp(ctl, p) ? "fp" : "eh";
}

static void session_raw_scale(const struct recorder *r, const struct session_facts *facts, struct duty_scale *ret)
{
    recorder_duty_scale(r, facts->window_ns, facts->cpu_actual_known ? facts->cpu_actual_ns : 0, ret);
}

/* Thousandths. */
static uint32_t session_raw_thousandths(double factor)
{
    return factor > UINT32_MAX / 1000.0 ? UINT32_MAX : (uint32_t)(1000 * factor);
}

static int session_raw_params(struct raw_writer *w, const struct recorder *r, const struct session_params *p,
                              const struct session_facts *facts)
{
    struct raw_params params = {
        .format = p->format, .types = p->types, .cpu_clock = p->event == EVENT_CPU_CLOCK && p->sched_kind == SCHED_NONE,
        .releases = p->sched_kind == SCHED_MUTEX, .go_waits = facts->go->waits, .heap = p->event == EVENT_HEAP,
        .exec_epoch = recorder_ctl(r)->exec_epoch, .custom = facts->custom != NULL,
        .states = p->states, .symbolize = p->symbolize, .pid = (uint32_t)facts->pid, .tid = (uint32_t)p->tid,
        .time_ns = facts->time_ns, .duration_ns = (int64_t)facts->window_ns,
        .end_monotonic_ns = facts->end_ns, .end_target_ns = facts->clock.known ? facts->end_ns + facts->clock.ahead_ns : 0,
        .by_fp = session_raw_by_fp(recorder_ctl(r), p),
    };
    if (recorder_attached_ns(r) > 0) {
        struct duty_scale scale;
        session_raw_scale(r, facts, &scale);
        params.scale = session_raw_thousandths(scale.factor);
    }
    params.period = llround(recorder_period(r));
    if (facts->custom)
        recording_custom_types(facts->custom, &params.types);
    params.date = facts->since_ns ? RAW_DATE_NOW : p->delta ? RAW_DATE_END : RAW_DATE_BEGIN;
    (void)snprintf(params.focus, sizeof(params.focus), "%s", p->focus);
    (void)snprintf(params.thread, sizeof(params.thread), "%s", p->thread);
    return raw_writer_section(w, RAW_PARAMS, &params, sizeof(params));
}

/* The length of the record at data, by what all records begin with, and its event if it is one of a trace; false: it is none. */
static bool session_raw_event(const uint8_t *data, size_t room, struct trace_record *ret_event, size_t *ret_len)
{
    struct stack_record stack;

    if (room < sizeof(stack))
        return false;
    memcpy(&stack, data, sizeof(stack));
    ret_event->type = stack.type;
    *ret_len = stack.type == RECORD_TRACE ? sizeof(*ret_event) : STACK_RECORD_BYTES(&stack);
    if (*ret_len > room)
        return false;
    if (stack.type == RECORD_TRACE)
        memcpy(ret_event, data, sizeof(*ret_event));
    return true;
}

/* When the first event of an image came that the asker may not see; UINT64_MAX: there is none. */
static uint64_t session_raw_withheld_ns(const struct recorder_data *data, const struct image_access *access)
{
    const uint8_t *records = data->records;
    uint64_t first_ns = UINT64_MAX;
    struct trace_record event;
    size_t len;

    if (image_access_allows_all(access))
        return first_ns;
    for (size_t at = 0; session_raw_event(records + at, data->records_len - at, &event, &len); at += len)
        if (event.type == RECORD_TRACE && !image_access_allows(access, event.epoch) && event.time_ns < first_ns)
            first_ns = event.time_ns;
    return first_ns;
}

/* An event is handed over so long after its time, at most: by then stacks were walked, with interrupts off. */
#define TRACE_LATE_NS NSEC_PER_MSEC

/* A trace from which events are missing tells what never was, from then on: it ends before the first of them, and says why. */
static void session_raw_cut(const struct recorder *r, struct recorder_data *data, struct session_facts *facts)
{
    const struct session_ctl *ctl = recorder_ctl(r);
    uint64_t withheld_ns = session_raw_withheld_ns(data, facts->access), end_ns = withheld_ns;

    if (ctl->full_ns && ctl->full_ns - TRACE_LATE_NS < end_ns)
        end_ns = ctl->full_ns - TRACE_LATE_NS;
    if (end_ns >= facts->end_ns)
        return;
    facts->ended = end_ns == withheld_ns ? "exec: who asked may not trace the program that was executed then"
                                         : "room: there were more events than a trace holds, or more at once than can be taken; take fewer seconds";
    facts->cut = true;
    facts->end_ns = end_ns > ctl->opened_ns ? end_ns : ctl->opened_ns;
    facts->window_ns = facts->end_ns - ctl->opened_ns;
    const struct raw_count *looks = data->counts; /* of threads that did nothing: value.weight is when */
    for (size_t i = 0; i < data->counts_len / sizeof(*looks); i++)
        data->elders_missing = data->elders_missing || looks[i].value.weight > facts->end_ns;
}

/* Copies the records without the overflowed counts of images that the asker may not see; *lost counts those samples. */
static int session_raw_records(struct raw_writer *w, const struct recorder_data *data, const struct image_access *access,
                               uint64_t *lost)
{
    if (image_access_allows_all(access))
        return raw_writer_section(w, RAW_RECORDS, data->records, data->records_len);
    AUTO_FREE uint8_t *kept = malloc(data->records_len + 1);
    size_t n = 0, at = 0;
    if (!kept)
        return -ENOMEM;
    while (at + sizeof(struct stack_record) <= data->records_len) {
        const uint8_t *record = (const uint8_t *)data->records + at;
        struct stack_record stack;
        struct sample_record sample;
        struct copy_record copy;
        struct trace_record event;
        memcpy(&stack, record, sizeof(stack));
        size_t len = STACK_RECORD_BYTES(&stack);
        bool keep = stack.type == RECORD_STACK;
        if (stack.type == RECORD_COPY) {
            memcpy(&copy, record, sizeof(copy));
            len = COPY_RECORD_BYTES(copy.n_kernel, copy.stack_bytes);
            keep = image_access_allows(access, copy.key.epoch);
            *lost += keep ? 0 : copy.value.samples;
        }
        if (stack.type == RECORD_SAMPLE) {
            memcpy(&sample, record, sizeof(sample));
            len = sizeof(sample);
            keep = image_access_allows(access, sample.key.epoch);
            *lost += keep ? 0 : sample.value.samples;
        }
        if (stack.type == RECORD_TRACE) {
            memcpy(&event, record, sizeof(event));
            len = sizeof(event);
            keep = image_access_allows(access, event.epoch);
            *lost += !keep;
        }
        if (at + len > data->records_len)
            break;
        if (keep) {
            memcpy(kept + n, record, len);
            n += len;
        }
        at += len;
    }
    return raw_writer_section(w, RAW_RECORDS, kept, n);
}

static int session_raw_counts(struct raw_writer *w, const struct recorder_data *data, const struct image_access *access,
                              uint64_t *lost)
{
    const struct raw_count *counts = data->counts;
    size_t n = data->counts_len / sizeof(*counts), kept = 0;

    if (image_access_allows_all(access) || n == 0)
        return raw_writer_section(w, RAW_COUNTS, counts, data->counts_len);
    AUTO_FREE struct raw_count *allowed = calloc(n, sizeof(*allowed));
    if (!allowed)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        if (image_access_allows(access, counts[i].key.epoch))
            allowed[kept++] = counts[i];
        else
            *lost += counts[i].value.samples;
    }
    return raw_writer_section(w, RAW_COUNTS, allowed, kept * sizeof(*allowed));
}

static int session_raw_threads(struct raw_writer *w, const struct recorder_data *data, const struct image_access *access)
{
    AUTO_FREE struct raw_thread *allowed = calloc(data->n_threads + 1, sizeof(*allowed));
    size_t n = 0;

    if (!allowed)
        return -ENOMEM;
    for (size_t i = 0; i < data->n_threads; i++)
        if (image_access_allows(access, data->threads[i].epoch))
            allowed[n++] = data->threads[i];
    int e = raw_writer_section(w, RAW_THREADS, allowed, n * sizeof(*allowed));
    return e ? e : raw_writer_fact(w, "threads", "%zu", data->n_threads);
}

/* What a share of the samples cost at most, ns. */
static uint64_t session_raw_cost(const struct session_ctl *ctl, double share)
{
    uint64_t total = 0, seen = 0;
    uint32_t bucket = 0;

    for (uint32_t i = 0; i < COST_BUCKETS; i++)
        total += ctl->costs[i];
    for (; bucket < COST_BUCKETS - 1; bucket++) {
        seen += ctl->costs[bucket];
        if ((double)seen >= share * (double)total)
            break;
    }
    return cost_bucket_ns(bucket);
}

static int session_raw_overhead(struct raw_writer *w, const struct recorder *r, const struct session_facts *facts)
{
    const struct session_ctl *ctl = recorder_ctl(r);
    uint64_t overhead_ns = ctl->overhead_ns + recorder_hits_ns(r);
    int e = 0;

    if (facts->thin > 1)
        e = e ? e : raw_writer_fact(w, "thinned", "%u", facts->thin);
    if (facts->cpu_actual_known && facts->cpu_actual_ns > 0)
        e = e ? e : raw_writer_fact(w, "overhead_percent", "%.3f", 100.0 * (double)overhead_ns / (double)facts->cpu_actual_ns);
    if (ctl->samples > 0) {
        e = e ? e : raw_writer_fact(w, "overhead.p50_ns", "%llu", (unsigned long long)session_raw_cost(ctl, 0.5));
        e = e ? e : raw_writer_fact(w, "overhead.p99_ns", "%llu", (unsigned long long)session_raw_cost(ctl, 0.99));
    }
    return e ? e : raw_writer_fact(w, "overhead_ns", "%llu", (unsigned long long)overhead_ns);
}

/* What a copied profile can't show. */
static int session_raw_copy(struct raw_writer *w, const struct recorder *r)
{
    enum copy_reach reach = recorder_reach(r);
    uint64_t changes_lost = recorder_changes_lost(r);
    int e = 0;

    if (reach != COPY_REACH_HOST)
        e = raw_writer_fact(w, "events_bound", "each thread has timers of its own, so what runs for less than a period at a time in new threads "
                            "is hardly seen: timers of the whole host need CAP_PERFMON");
    if (reach == COPY_REACH_USER)
        e = e ? e : raw_writer_fact(w, "user_time_only", "kernel.perf_event_paranoid is 2 or more: time in the kernel is missing (cpu_actual_ns "
                                    "less cpu_sampled_ns); set it to 1, or run the daemon as root or by its systemd unit");
    if (changes_lost)
        e = e ? e : raw_writer_fact(w, "changes_lost", "%llu changes of what is mapped found no room: code mapped since then may have the "
                                    "names of what was there before; take a shorter window", (unsigned long long)changes_lost);
    return e;
}

/* Counted where the copies are unwound. */
static int session_raw_audit(struct raw_writer *w, const struct session_ctl *ctl, const struct session_params *p)
{
    if (!p->audit)
        return 0;
    int e = raw_writer_fact(w, "audited", "0");
    e = e ? e : raw_writer_fact(w, "agreed", "0");
    if (ctl->audits_lost)
        e = e ? e : raw_writer_fact(w, "audit.lost", "%u", ctl->audits_lost);
    return e;
}

static int session_raw_common_facts(struct raw_writer *w, const struct session_facts *facts, const struct recorder_data *data,
                                    uint64_t lost_access)
{
    int e = 0;

    if (lost_access && !facts->cut)
        e = raw_writer_fact(w, "lost.access", "%llu", (unsigned long long)lost_access);
    if (facts->target)
        e = e ? e : raw_writer_fact(w, "target", "%s", facts->target);
    if (facts->ended)
        e = e ? e : raw_writer_fact(w, "ended", "%s", facts->ended);
    if (data->elders_missing)
        e = e ? e : raw_writer_fact(w, "older_threads", "unknown: threads that were there before, and did nothing since, are not shown");
    if (facts->mappings)
        e = e ? e : raw_writer_fact(w, "mappings", "%s", facts->mappings);
    return e ? e : raw_writer_fact(w, "daemon_cpu_ns", "%llu", (unsigned long long)facts->daemon_cpu_ns + data->attacher_cpu_ns);
}

static int session_raw_since(struct raw_writer *w, const struct session_facts *facts)
{
    char text[CLOCK_TEXT_LEN];

    if (!facts->since_ns)
        return 0;
    int e = raw_writer_fact(w, "since", "%s", clock_text(facts->since_ns, text));
    return e || !facts->anew ? e : raw_writer_fact(w, "anew", "%s", facts->anew);
}

/* What the scheduler's programs say of their session. */
static int session_raw_sched(struct raw_writer *w, const struct session_ctl *ctl)
{
    bool is_block = ctl->sched_kind == SCHED_BLOCK, is_mutex = ctl->sched_kind == SCHED_MUTEX;
    int e = raw_writer_fact(w, "lost.threads", "%llu", (unsigned long long)ctl->lost_threads);
    if (ctl->sched_kind != SCHED_TRACE) /* which counts by itself what does not fit, and what of it could be recovered */
        e = e ? e : raw_writer_fact(w, "lost.switches", "%llu", (unsigned long long)ctl->lost_switches);

    if (ctl->go_kind != GO_WAITS_NONE)
        return e ? e : raw_writer_fact(w, "lost.locks", "%llu", (unsigned long long)ctl->lost_locks);
    if (is_block)
        e = e ? e : raw_writer_fact(w, "began_before", "%llu", (unsigned long long)ctl->began_before);
    if (is_mutex) {
        e = e ? e : raw_writer_fact(w, "lost.locks", "%llu", (unsigned long long)ctl->lost_locks);
        e = e ? e : raw_writer_fact(w, "abandoned_ns", "%llu", (unsigned long long)ctl->abandoned_ns);
        e = e ? e : raw_writer_fact(w, "foreign_releases", "%llu", (unsigned long long)ctl->foreign_releases);
    }
    return e;
}

/* What became of the threads' time. */
static int session_raw_settled(struct raw_writer *w, const struct settle_result *settled, const struct session_params *p)
{
    int e = 0;

    if (p->sched_kind == SCHED_WALL) {
        e = raw_writer_fact(w, "threads", "%llu", (unsigned long long)settled->threads);
        e = e ? e : raw_writer_fact(w, "lifetimes_ns", "%llu", (unsigned long long)settled->lifetimes_ns);
    }
    for (uint32_t state = SAMPLE_STATE_CPU; e == 0 && state < SAMPLE_STATE_COUNT; state++) {
        char key[32];
        (void)snprintf(key, sizeof(key), "%s_ns", sample_state_name(state));
        if (state != SAMPLE_STATE_CPU || p->sched_kind == SCHED_WALL)
            e = raw_writer_fact(w, key, "%llu", (unsigned long long)settled->state_ns[state]);
    }
    if (settled->missed)
        e = e ? e : raw_writer_fact(w, "lost.leaves", "%llu", (unsigned long long)settled->missed);
    if (settled->unsampled_ns)
        e = e ? e : raw_writer_fact(w, "unsampled_ns", "%llu", (unsigned long long)settled->unsampled_ns);
    if (settled->unseen_ns)
        e = e ? e : raw_writer_fact(w, "unseen_ns", "%llu", (unsigned long long)settled->unseen_ns);
    if (settled->spread_ns)
        e = e ? e : raw_writer_fact(w, "spread_ns", "%llu", (unsigned long long)settled->spread_ns);
    if (settled->borrowed_ns)
        e = e ? e : raw_writer_fact(w, "borrowed_ns", "%llu", (unsigned long long)settled->borrowed_ns);
    if (settled->not_dumped[0])
        e = e ? e : raw_writer_fact(w, "not_dumped", "what threads did at the beginning of the window is not known: %s", settled->not_dumped);
    return e;
}

/* Above this an error is more than one would take for chance, and a correction (of the window's length over that of slices) more than a detail. */
#define DUTY_WARN_PERCENT 5
#define DUTY_WARN_TIMES 2

static int session_raw_scaled(struct raw_writer *w, const struct recorder *r, const struct session_facts *facts)
{
    static const char *const ways[] = {
        [DUTY_BY_TIME] = "time: the window is that much longer than the slices",
        [DUTY_BY_PRICE] = "own CPU time: all of it in the slices, less hits times probe.hit_ns",
        [DUTY_BY_TICKS] = "own CPU time: ticks in slices and before them told whether threads were in their own code",
    };
    const struct session_ctl *ctl = recorder_ctl(r);
    uint64_t attached_ns = recorder_attached_ns(r);
    double times = (double)facts->window_ns / (double)attached_ns;
    double cost_ns = (double)(ctl->overhead_ns + recorder_hits_ns(r));
    struct duty_scale scale;

    session_raw_scale(r, facts, &scale);
    int e = raw_writer_fact(w, "scaled", "%.3f: what was seen in these slices, times that", session_raw_thousandths(scale.factor) / 1000.0);
    e = e ? e : raw_writer_fact(w, "scaled_by", "%s", ways[scale.way]);
    e = e ? e : raw_writer_fact(w, "slowed_percent", "%.1f: so much of one CPU the probes took while they were attached",
                                100 * cost_ns / (double)attached_ns);
    if (!isfinite(scale.error))
        return e ? e : raw_writer_fact(w, "warning.duty", "totals may be far too low: probes slowed the process by more than could be measured");
    e = e ? e : raw_writer_fact(w, "scaled_error_percent", "%.1f: one standard deviation", 100 * scale.error);
    if (100 * scale.error > DUTY_WARN_PERCENT)
        return e ? e : raw_writer_fact(w, "warning.duty", "totals may be wrong by more than a little: see scaled_error_percent");
    if (scale.factor > DUTY_WARN_TIMES * times)
        return e ? e : raw_writer_fact(w, "warning.duty", "probes slowed the process much: totals are %.1f times what the time alone says",
                                       scale.factor / times);
    return e;
}

static int session_raw_duty(struct raw_writer *w, const struct recorder *r, const struct session_params *p, const struct session_facts *facts)
{
    uint64_t attached_ns = recorder_attached_ns(r);
    int e = raw_writer_fact(w, "duty", "%g", p->duty);

    e = e ? e : raw_writer_fact(w, "attached_ns", "%llu", (unsigned long long)attached_ns);
    e = e ? e : raw_writer_fact(w, "slices", "%u", recorder_slices(r));
    if (attached_ns > 0)
        return e ? e : session_raw_scaled(w, r, facts);
    return e ? e : raw_writer_fact(w, "warning.duty", "no slice fell into the window: nothing was seen");
}

static int session_raw_facts(struct raw_writer *w, const struct recorder *r, const struct session_params *p,
                             const struct session_facts *facts, const struct recorder_data *data, uint64_t lost_access)
{
    const struct session_ctl *ctl = recorder_ctl(r);
    double period = recorder_period(r);
    int e = raw_writer_fact(w, "version", "%s", CPROFD_VERSION);

    e = e ? e : raw_writer_fact(w, "unwind", "%s", session_raw_unwind(ctl, p));
    e = e ? e : recording_unwind_facts(facts->unwind, w);
    e = e ? e : recording_probe_facts(facts->probe, recorder_hit_ns(r), w);
    if (p->duty > 0)
        e = e ? e : session_raw_duty(w, r, p, facts);
    if (p->event == EVENT_DUMP)
        return e ? e : session_raw_common_facts(w, facts, data, lost_access);
    e = e ? e : session_raw_since(w, facts);
    e = e ? e : raw_writer_fact(w, "window_ns", "%llu", (unsigned long long)facts->window_ns);
    if (p->event == EVENT_CPU_CLOCK && facts->cpu_actual_known)
        e = e ? e : raw_writer_fact(w, "cpu_actual_ns", "%llu", (unsigned long long)facts->cpu_actual_ns);
    if (p->sched_kind == SCHED_TRACE)
        e = e ? e : raw_writer_fact(w, "start_monotonic_ns", "%llu", (unsigned long long)(facts->end_ns - facts->window_ns));
    if (p->sched_kind != SCHED_NONE) {
        e = e ? e : session_raw_sched(w, ctl);
    } else if (p->event == EVENT_CPU_CLOCK && facts->cpu_actual_known) {
        e = e ? e : raw_writer_fact(w, "expected", "%.0f", (double)facts->cpu_actual_ns / period);
    } else if (p->event == EVENT_GROWTH) { /* a sample counts for all that it stands for */
        e = e ? e : raw_writer_fact(w, "expected", "%llu", (unsigned long long)ctl->hits);
    } else if (p->event != EVENT_CPU_CLOCK && p->event != EVENT_PERF && p->event != EVENT_HEAP && p->event != EVENT_CUSTOM) {
        e = e ? e : raw_writer_fact(w, "expected", "%.0f", (double)ctl->hits / period);
    }
    e = e ? e : raw_writer_fact(w, "lost.ring", "%llu", facts->cut ? 0 : (unsigned long long)ctl->lost_ring);
    if (ctl->standing)
        e = e ? e : raw_writer_fact(w, "lost.table", "%llu", (unsigned long long)ctl->lost_table);
    e = e ? e : raw_writer_fact(w, "lost.nested", "%llu", (unsigned long long)ctl->lost_nested);
    if (recorder_settled(r))
        e = e ? e : session_raw_settled(w, recorder_settled(r), p);
    e = e ? e : raw_writer_fact(w, "lost.memory", "%llu", facts->cut ? 0 : (unsigned long long)data->lost_memory);
    if (p->event == EVENT_CPU_CLOCK || p->event == EVENT_PERF)
        e = e ? e : raw_writer_fact(w, "throttled", "%.0f", (double)ctl->late_weight / period);
    if (p->period_raised)
        e = e ? e : raw_writer_fact(w, "period_raised", "%llu", (unsigned long long)p->period);
    e = e ? e : session_raw_audit(w, ctl, p);
    e = e ? e : p->unwind == SESSION_UNWIND_COPY ? session_raw_copy(w, r) : session_raw_overhead(w, r, facts);
    return e ? e : session_raw_common_facts(w, facts, data, lost_access);
}

/* Without the mappings of images that the asker may not see, whose names are in no frame of what is left. */
static int session_raw_table(struct raw_writer *w, int table_fd, const struct image_access *access)
{
    struct raw_profile table;

    if (image_access_allows_all(access))
        return raw_writer_append(w, table_fd);
    int r = raw_table_open(table_fd, &table);
    if (r < 0)
        return r;
    struct raw_mapping *kept = calloc(table.n_mappings + 1, sizeof(*kept));
    size_t n = 0;
    for (size_t i = 0; kept && i < table.n_mappings; i++)
        if (image_access_allows_some(access, table.mappings[i].first_epoch, table.mappings[i].last_epoch))
            kept[n++] = table.mappings[i];
    r = kept ? raw_writer_section(w, RAW_OBJECTS, table.objects, table.n_objects * sizeof(*table.objects)) : -ENOMEM;
    r = r ? r : raw_writer_section(w, RAW_MAPPINGS, kept, n * sizeof(*kept));
    r = r ? r : raw_writer_section(w, RAW_STRINGS, table.strings, table.strings_len);
    free(kept);
    raw_profile_close(&table);
    return r;
}

int session_raw(const struct recorder *recorder, const struct session_params *params, const struct session_facts *given_facts,
                int table_fd)
{
    CLEANUP(raw_writer_cleanup) struct raw_writer *w = raw_writer_new();
    struct session_facts shown = *given_facts, *facts = &shown;
    struct recorder_data data;
    if (!w)
        return -ENOMEM;
    recorder_data(recorder, &data);
    if (params->sched_kind == SCHED_TRACE)
        session_raw_cut(recorder, &data, facts);
    int r = session_raw_params(w, recorder, params, facts);
    uint64_t lost_access = 0;
    r = r ? r : session_raw_records(w, &data, facts->access, &lost_access);
    r = r ? r : session_raw_counts(w, &data, facts->access, &lost_access);
    if (params->event == EVENT_DUMP)
        r = r ? r : session_raw_threads(w, &data, facts->access);
    if (table_fd >= 0)
        r = r ? r : session_raw_table(w, table_fd, facts->access);
    r = r ? r : recording_go_write(facts->go, w);
    if (facts->go->fd >= 0 && !facts->clock.known)
        r = r ? r : raw_writer_fact(w, "goroutines.waited", "not known: the clock of the process's time namespace could not be read");
    if (facts->heap)
        r = r ? r : recording_heap_facts(facts->heap, w);
    if (facts->growth)
        r = r ? r : recording_growth_facts(facts->growth, recorder_ctl(recorder), w);
    if (facts->custom)
        r = r ? r : recording_custom_facts(facts->custom, w);
    r = r ? r : session_raw_facts(w, recorder, params, facts, &data, lost_access);
    if (r < 0)
        return r;
    return raw_writer_finish(w);
}
