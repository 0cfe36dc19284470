/* The sampling programs: timers and PMU events, probes, tracepoints; and the two watches (exec, exit) that serve all
 * sessions. An event finds its session by its cookie, asks whether the current task is the session's target, and
 * counts (stack, thread, epoch) in the session's own table. Nothing here is shared by two sessions but code. */
#include "bpf/kernel_types.h"

#include <linux/bpf.h>
#include <linux/bpf_perf_event.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "bpf/audit.h"
#include "bpf/program_count.h"
#include "bpf/program_session.h"
#include "bpf/program_task.h"
#include "bpf/program_probe.h"
#include "bpf/program_walk.h"
#include "bpf/sampler_maps.h"

char LICENSE[] SEC("license") = "GPL";

const volatile __u32 n_cpus = 1; /* possible ones */

/* ---- one sample */

static __always_inline void take_sample(void *ctx, __u32 slot, struct session_ctl *s, struct task_struct *task,
                                        __u64 samples, __u64 weight, __u64 began_ns)
{
    void *table = bpf_map_lookup_elem(&counts, &slot);
    void *ring = bpf_map_lookup_elem(&records, &slot);
    struct scratch *x;
    __u32 level, thin = s->thin;

    if (!table || !ring)
        return;
    if (thin > 1) {
        if (bpf_get_prandom_u32() % thin)
            return;
        weight *= thin;
        if (s->new_threads || s->grows) /* which are counted, too */
            samples *= thin;
    }
    x = scratch_take(&level);
    if (!x) {
        __sync_fetch_and_add(&s->lost_nested, samples);
        return;
    }
    session_follow(s, slot, task);
    collect_stack(ctx, s, task, &x->walk);
    __builtin_memset(&x->key, 0, sizeof(x->key));
    x->key.stack_hash[0] = x->walk.record.stack_hash[0];
    x->key.stack_hash[1] = x->walk.record.stack_hash[1];
    x->key.tid = task_tid(task);
    x->key.tgid = s->tgid;
    x->key.epoch = s->epoch;
    x->key.state = s->sched_kind == SCHED_WALL ? SAMPLE_STATE_CPU : SAMPLE_STATE_NONE;
    bpf_probe_read_kernel_str(x->key.comm, sizeof(x->key.comm), task->comm);
    __sync_fetch_and_add(&s->samples, samples);
    count_sample(s, table, ring, x, &(struct sample_value){.samples = samples, .weight = weight});
    audit_sample(s, ring, task, &x->key, began_ns);
    scratch_release(level);
    charge_cost(s, began_ns);
}

/* ---- sources of samples */

SEC("perf_event")
int on_timer(struct bpf_perf_event_data *ctx)
{
    __u64 now_ns = bpf_ktime_get_ns(), cookie = bpf_get_attach_cookie(ctx), lost;
    __u32 slot = COOKIE_SLOT(cookie), timer = COOKIE_TIMER(cookie), key = slot * CPROFD_TIMERS_PER_CPU + timer;
    __u32 phase_key = TIMER_PHASE(slot, n_cpus, bpf_get_smp_processor_id(), timer);
    struct session_ctl *s = bpf_map_lookup_elem(&sessions, &slot);
    struct tick *t = bpf_map_lookup_elem(&ticks, &key);
    struct timer_phase *phase = bpf_map_lookup_elem(&timer_phases, &phase_key);
    struct tick_result tick;
    struct task_struct *task;
    bool late;

    if (!s || !t || !phase || timer >= CPROFD_TIMERS_PER_CPU || s->instance != COOKIE_INSTANCE(cookie) || s->weight == 0)
        return 0;
    if (s->state != SESSION_ARMED && s->state != SESSION_OPEN)
        return 0;
    tick_take(t, phase, s->instance, CPROFD_TIMERS_PER_CPU * s->weight, now_ns, &tick);
    if (!(tick.samples + tick.missed) || s->state != SESSION_OPEN)
        return 0;
    task = bpf_get_current_task_btf();
    if (task_tgid(task) != s->tgid)
        return 0;
    /* One that was due while this task was on the CPU already is in place. The kernel brings a task's run time up to date a few
     * hundred times a second, so this may be missed, but is never wrong. */
    late = tick.late_ns > task->se.sum_exec_runtime - task->se.prev_sum_exec_runtime;
    lost = tick.missed + (late ? tick.samples : 0);
    if (lost)
        __sync_fetch_and_add(&s->late_weight, lost * s->weight);
    if (!late && tick.samples)
        take_sample(ctx, slot, s, task, tick.samples, tick.samples * s->weight, now_ns);
    return 0;
}

/* How many periods of a CPU's counter passed since its last overflow that was not refused: the kernel drops those that come while
 * a BPF program runs, or too fast. What was refused while one task ran on is that task's; else nobody knows whose it was (a
 * CPU's idle task may be refused all the time), and it counts as late alone. */
static __always_inline __u64 overflows_passed(struct bpf_perf_event_data *ctx, struct session_ctl *s, struct overflow *o,
                                              struct task_struct *task, bool *ret_own)
{
    struct bpf_perf_event_value value = {};
    __u64 n = 1, switches = task->nvcsw + task->nivcsw;

    *ret_own = o->task == (__u64)task && o->switches == switches;
    o->task = (__u64)task;
    o->switches = switches;
    if (s->weight == 0 || bpf_perf_prog_read_value(ctx, &value, sizeof(value)))
        return 1;
    if (o->instance == s->instance && value.counter > o->counter)
        n = (value.counter - o->counter + s->weight / 2) / s->weight;
    o->instance = s->instance;
    o->counter = value.counter;
    return n ? n : 1;
}

/* Hardware, software and raw events: the kernel counts to the period. */
SEC("perf_event")
int on_perf_event(struct bpf_perf_event_data *ctx)
{
    __u64 now_ns = bpf_ktime_get_ns(), cookie = bpf_get_attach_cookie(ctx), n;
    __u32 slot = COOKIE_SLOT(cookie);
    struct session_ctl *s = bpf_map_lookup_elem(&sessions, &slot);
    struct overflow *o = bpf_map_lookup_elem(&overflows, &slot);
    struct task_struct *task = bpf_get_current_task_btf();
    bool own;

    if (!s || !o || s->instance != COOKIE_INSTANCE(cookie))
        return 0;
    n = overflows_passed(ctx, s, o, task, &own);
    if (s->state != SESSION_OPEN || task_tgid(task) != s->tgid)
        return 0;
    if (n > 1)
        __sync_fetch_and_add(&s->late_weight, (n - 1) * s->weight);
    take_sample(ctx, slot, s, task, 1, (own ? n : 1) * s->weight, now_ns);
    return 0;
}

/* Of probes and tracepoints: here we count to the period, each CPU from a random start. */
static __always_inline bool hit_is_due(const struct session_ctl *s, struct hit_count *h)
{
    if (h->instance != s->instance) {
        h->instance = s->instance;
        h->left = ((__u64)bpf_get_prandom_u32() << 32 | bpf_get_prandom_u32()) % s->every + 1;
    }
    if (--h->left)
        return false;
    h->left = s->every;
    return true;
}

static __always_inline int on_hit(void *ctx, __u64 cookie)
{
    __u64 now_ns = bpf_ktime_get_ns();
    __u32 slot = COOKIE_SLOT(cookie);
    struct session_ctl *s = bpf_map_lookup_elem(&sessions, &slot);
    struct hit_count *h = bpf_map_lookup_elem(&hit_counts, &slot);
    struct task_struct *task = bpf_get_current_task_btf();

    if (!s || !h || s->instance != COOKIE_INSTANCE(cookie) || task_tgid(task) != s->tgid || s->every == 0 || probe_is_paused(s))
        return 0;
    if (s->state == SESSION_ARMED)
        __sync_fetch_and_add(&s->armed_hits, 1);
    if (s->state != SESSION_OPEN)
        return 0;
    __sync_fetch_and_add(&s->hits, 1);
    if (hit_is_due(s, h))
        take_sample(ctx, slot, s, task, 1, s->weight, now_ns);
    return 0;
}

SEC("kprobe")
int on_probe(struct pt_regs *ctx)
{
    return on_hit(ctx, bpf_get_attach_cookie(ctx));
}

/* The same, loaded for uprobe_multi links (its own attach type) where the kernel has them. */
SEC("kprobe")
int on_probe_multi(struct pt_regs *ctx)
{
    return on_hit(ctx, bpf_get_attach_cookie(ctx));
}

#define CLONE_THREAD 0x10000 /* include/uapi/linux/sched.h */

/* task:task_newtask, in its maker's place, for a new process. */
static __always_inline bool is_new_process(void *ctx)
{
    __u32 slot = COOKIE_SLOT(bpf_get_attach_cookie(ctx));
    struct session_ctl *s = bpf_map_lookup_elem(&sessions, &slot);
    __u64 flags = 0;

    if (!s || !s->new_threads)
        return false;
    /* By a helper: what a program reads of its context by itself, each tracepoint that it is attached to must have. */
    bpf_probe_read_kernel(&flags, sizeof(flags), ctx + bpf_core_field_offset(struct trace_event_raw_task_newtask, clone_flags));
    return !(flags & CLONE_THREAD);
}

SEC("tracepoint")
int on_tracepoint(void *ctx)
{
    if (is_new_process(ctx))
        return 0;
    return on_hit(ctx, bpf_get_attach_cookie(ctx));
}

/* ---- growth: kmem:rss_stat, which the kernel hits behind each change of a process's counts of pages, with the count of one sort, in bytes */

#define MM_ANONPAGES 1 /* include/linux/mm_types_task.h */
#define MM_SWAPENTS 2

struct rss_event {
    __u64 bytes;
    __s32 member;
    __u32 mm_id;
    __u32 curr; /* of the process that runs */
    __u32 pad;
};

/* By a helper: see is_new_process. */
#define RSS_READ(to, ctx, field) \
    bpf_probe_read_kernel(&(to), sizeof(to), (ctx) + bpf_core_field_offset(struct trace_event_raw_rss_stat, field))

#define RSS_TRIES 16

/* Takes note of a count, and tells by how much it changed. rising: it can't have shrunk. The kernel reads the count before we come, so that of two
 * threads the later one may bring the older count: one that can't have shrunk did not, and the other's event had this one's page, too. */
static __always_inline __s64 rss_change(__u64 *last, __u64 bytes, bool rising)
{
    for (__u32 i = 0; i < RSS_TRIES; i++) {
        __u64 old = *(volatile __u64 *)last;
        if (old != GROWTH_UNKNOWN && rising && bytes <= old)
            return 0;
        if (__sync_val_compare_and_swap(last, old, bytes) == old)
            return old == GROWTH_UNKNOWN ? 0 : (__s64)(bytes - old);
    }
    return 0; /* others bring news all the time: the next one's has this, too */
}

/* Another address space than before: of a new image, whose first pages were there before anybody touched them. */
static __always_inline void rss_new_image(struct session_ctl *s, const struct rss_event *e)
{
    if (s->growth.mm_id) {
        if (s->state == SESSION_OPEN && s->growth.anon != GROWTH_UNKNOWN)
            __sync_fetch_and_add(&s->growth.freed, s->growth.anon);
        if (s->state == SESSION_OPEN)
            __sync_fetch_and_add(&s->growth.exec_bytes, e->bytes);
        s->growth.anon = e->bytes;
        s->growth.swap = 0;
    }
    s->growth.batched = bpf_core_field_exists(struct task_struct___before_6_2, rss_stat);
    s->growth.mm_id = e->mm_id;
}

/* What an event adds that counts. own: by a thread of the target. */
static __always_inline __u64 rss_added(struct session_ctl *s, const struct rss_event *e, bool own, bool rising)
{
    bool anon = e->member == MM_ANONPAGES;
    __s64 change = rss_change(anon ? &s->growth.anon : &s->growth.swap, e->bytes, anon && rising);

    if (s->state != SESSION_OPEN)
        return 0;
    if (!anon) {
        if (change < 0)
            __sync_fetch_and_add(&s->growth.swap_left, -change);
        return 0;
    }
    if (change < 0)
        __sync_fetch_and_add(own ? &s->growth.freed : &s->growth.others_freed, -change);
    else if (change > 0)
        __sync_fetch_and_add(own ? &s->growth.added : &s->growth.others_added, change);
    return own && change > 0 ? change : 0;
}

/* A task's signal_struct is its process's for as long as that lives, and costs less to ask for than its number: most events are other processes'. */
static __always_inline bool rss_is_of(struct session_ctl *s, struct task_struct *task)
{
    if (s->growth.process)
        return s->growth.process == (__u64)task->signal;
    if (task_tgid(task) != s->tgid)
        return false;
    s->growth.process = (__u64)task->signal;
    return true;
}

static __noinline __u64 rss_follow(void *ctx, struct session_ctl *s)
{
    struct task_struct *task = bpf_get_current_task_btf();
    struct rss_event e = {};
    bool own;

    RSS_READ(e.member, ctx, member);
    if (!s || (e.member != MM_ANONPAGES && e.member != MM_SWAPENTS))
        return 0;
    RSS_READ(e.mm_id, ctx, mm_id);
    own = rss_is_of(s, task);
    if (!own && e.mm_id != s->growth.mm_id)
        return 0;
    RSS_READ(e.bytes, ctx, size);
    RSS_READ(e.curr, ctx, curr);
    own = own && e.curr;
    if (own && e.member == MM_ANONPAGES && e.mm_id != s->growth.mm_id)
        rss_new_image(s, &e);
    if (e.mm_id != s->growth.mm_id)
        return 0;
    /* A thread in no system call touches memory: pages are added then, and none is taken away. */
    return rss_added(s, &e, own, own && task_syscall(task) == -1);
}

SEC("tracepoint")
int on_rss_stat(void *ctx)
{
    __u64 cookie = bpf_get_attach_cookie(ctx), added, now_ns;
    __u32 slot = COOKIE_SLOT(cookie);
    struct session_ctl *s = bpf_map_lookup_elem(&sessions, &slot);
    struct hit_count *h;

    if (!s || s->instance != COOKIE_INSTANCE(cookie) || s->every == 0 || (s->state != SESSION_ARMED && s->state != SESSION_OPEN))
        return 0;
    added = rss_follow(ctx, s);
    if (added == 0)
        return 0;
    now_ns = bpf_ktime_get_ns();
    __sync_fetch_and_add(&s->hits, 1);
    h = bpf_map_lookup_elem(&hit_counts, &slot);
    if (h && hit_is_due(s, h))
        take_sample(ctx, slot, s, bpf_get_current_task_btf(), s->every, added * s->every, now_ns);
    return 0;
}

/* ---- watches */

/* The end of a target: closes the window of the session in a slot, if it is this target's. */
__noinline int session_exit(__u32 slot, __u32 tgid, __u64 runtime_ns)
{
    struct session_ctl *s = bpf_map_lookup_elem(&sessions, &slot);

    if (!s || !session_is_of(s, tgid))
        return 0;
    if (s->sched_kind == SCHED_NONE)
        s->closed_ns = bpf_ktime_get_ns();
    else if (!s->until_ns) /* else the loop has closed it, and threads have been counted until then */
        s->closed_ns = bpf_ktime_get_ns() + SESSION_EDGE_NOTICE_NS;
    s->state = SESSION_CLOSED;
    notify(NOTICE_EXIT, slot, s, runtime_ns);
    return 0;
}

/* A new image: a new epoch, unless a sample has seen the new address space before this. */
__noinline int session_exec(__u32 slot, __u32 tgid)
{
    struct session_ctl *s = bpf_map_lookup_elem(&sessions, &slot);
    struct task_struct *task = bpf_get_current_task_btf();

    if (!s || !session_is_of(s, tgid))
        return 0;
    if (s->mm != (__u64)task->mm)
        session_new_image(s, task);
    notify(NOTICE_EXEC, slot, s, 0);
    return 0;
}

/* The kernel adds a thread's run time to its process's when the thread is released, a moment after this. So at the first
 * exit that we see, sum_sched_runtime is what earlier threads used, and from then on each exit adds its own. A main
 * thread that ended before stays unreleased to the end: it is added once. */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *task)
{
    __u32 tgid = task_tgid(task);
    struct target_state *target = bpf_map_lookup_elem(&targets, &tgid);
    __u64 runtime_ns, released_ns;

    if (!target)
        return 0;
    if (__sync_fetch_and_add(&target->exits, 1) == 0) {
        struct task_struct *leader = task->group_leader;
        __u64 reaped = task->signal->sum_sched_runtime;
        if (leader->exit_state)
            reaped += leader->se.sum_exec_runtime;
        __sync_fetch_and_add(&target->reaped_runtime_ns, reaped);
    }
    __sync_fetch_and_add(&target->exited_runtime_ns, task->se.sum_exec_runtime);
    if (task->signal->live.counter != 0)
        return 0;
    runtime_ns = target->reaped_runtime_ns + target->exited_runtime_ns;
    /* Threads whose exit we have not seen, or that ran on after it, may be released by now. */
    released_ns = task->signal->sum_sched_runtime + task->se.sum_exec_runtime;
    if (released_ns > runtime_ns)
        runtime_ns = released_ns;
    for (__u32 slot = 0; slot < CPROFD_MAX_SESSIONS; slot++)
        session_exit(slot, tgid, runtime_ns);
    return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task)
{
    __u32 tgid = task_tgid(task);
    struct target_state *target = bpf_map_lookup_elem(&targets, &tgid);

    if (!target)
        return 0;
    for (__u32 slot = 0; slot < CPROFD_MAX_SESSIONS; slot++)
        session_exec(slot, tgid);
    return 0;
}
