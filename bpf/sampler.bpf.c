/* The sampling programs: timers and PMU events, probes, tracepoints; and the two watches (exec, exit) that serve all
 * sessions. An event finds its session by its cookie, asks whether the current task is the session's target, and
 * counts (stack, thread, epoch) in the session's own table. Nothing here is shared by two sessions but code. */
#include "bpf/kernel_types.h"

#include <linux/bpf.h>
#include <linux/bpf_perf_event.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_tracing.h>

#include "bpf/control.h"
#include "bpf/unwind.h"

#include "bpf/sampler_maps.h"

#include "bpf/stack_hooks.h"

#include "bpf/stack.h"

#include "bpf/audit.h"

char LICENSE[] SEC("license") = "GPL";

const volatile __u32 n_cpus = 1; /* possible ones */

/* ---- PID namespaces: numbers are those of the daemon's own namespace */

__u64 self_namespace; /* a struct pid_namespace *; set by whoami, run once in the daemon */
__u32 self_level;

/* Where a pid has its number of the daemon's namespace. Verifiers before Linux 6.2 let nothing be added to a kernel's pointer that has no
 * bounds which they see; the kernel has 32 levels at most. */
static __always_inline const void *pid_own_number(struct pid *pid)
{
    __u64 offset = (__u64)self_level * bpf_core_type_size(struct upid);

    return (void *)pid + bpf_core_field_offset(struct pid, numbers) + (offset & 1023);
}

SEC("raw_tp/whoami")
int whoami(void *ctx)
{
    struct task_struct *task = bpf_get_current_task_btf();
    struct pid *pid = task->thread_pid;
    struct upid upid = {};

    self_level = pid->level;
    if (bpf_probe_read_kernel(&upid, bpf_core_type_size(struct upid), pid_own_number(pid)))
        return 1;
    self_namespace = (__u64)upid.ns;
    return 0;
}

/* The number of a pid in the daemon's namespace; 0 where it has none there. */
static __noinline __u32 pid_number(struct pid *pid)
{
    struct upid upid = {};

    if (!pid || pid->level < self_level)
        return 0;
    if (bpf_probe_read_kernel(&upid, sizeof(upid), pid_own_number(pid)))
        return 0;
    return (__u64)upid.ns == self_namespace ? upid.nr : 0;
}

static __always_inline __u32 task_tgid(struct task_struct *task)
{
    return self_level == 0 ? task->tgid : pid_number(task->signal->pids[PIDTYPE_TGID]);
}

static __always_inline __u32 task_tid(struct task_struct *task)
{
    return self_level == 0 ? task->pid : pid_number(task->thread_pid);
}

/* ---- epochs: what the target's addresses mean */

static __always_inline void notify(__u32 type, __u32 slot, struct session_ctl *s, __u64 runtime_ns)
{
    struct session_notice notice = {
        .type = type, .slot = slot, .instance = s->instance, .epoch = s->epoch,
        .runtime_ns = runtime_ns, .time_ns = bpf_ktime_get_ns(),
    };
    /* A full ring loses no truth: of an exec the control word knows too, and of mappings the final reading. */
    bpf_ringbuf_output(&notices, &notice, sizeof(notice), 0);
}

static __always_inline bool session_is_of(const struct session_ctl *s, __u32 tgid)
{
    return s && s->tgid == tgid && (s->state == SESSION_ARMED || s->state == SESSION_OPEN);
}

/* A new image begins a new epoch. */
static __always_inline void session_new_image(struct session_ctl *s, struct task_struct *task)
{
    s->mm = (__u64)task->mm;
    s->exec_vm = task->mm->exec_vm;
    __sync_fetch_and_add(&s->epoch, 1);
    s->exec_epoch = s->epoch;
    if (!s->pending_exec)
        s->pending_exec = s->epoch;
}

/* Begins a new epoch where the target's address space or its executable pages are others than at the last sample. */
static __noinline void session_follow(struct session_ctl *s, __u32 slot, struct task_struct *task)
{
    __u64 mm = (__u64)task->mm;

    if (!mm)
        return;
    if (!s->mm) {
        s->mm = mm;
        s->exec_vm = task->mm->exec_vm;
    } else if (s->mm != mm) {
        session_new_image(s, task);
        notify(NOTICE_EXEC, slot, s, 0);
    } else if (s->exec_vm != task->mm->exec_vm) {
        s->exec_vm = task->mm->exec_vm;
        __sync_fetch_and_add(&s->epoch, 1);
        notify(NOTICE_EPOCH, slot, s, 0);
    }
}

/* ---- one sample */

#define STEPS 32 /* in one call; CPROFD_MAX_FRAMES is its square */
_Static_assert(STEPS * STEPS == CPROFD_MAX_FRAMES, "two levels of loops reach the deepest frame");

STACK_GLOBAL int stack_steps(struct stack_walk *walk)
{
    if (!walk)
        return 0;
    for (__u32 i = 0; i < STEPS; i++)
        if (!stack_step(walk))
            return 0;
    return 1;
}

/* Inline, and what a program does beside walking is not: a chain of calls has 512 bytes of stack in all, of which verifiers before
 * Linux 6.8 count 32 at least for each call. */
static __always_inline void stack_step_all(struct stack_walk *walk)
{
    for (__u32 i = 0; i < STEPS; i++)
        if (!stack_steps(walk))
            break;
}

static __always_inline struct scratch *scratch_take(__u32 *ret_level)
{
    __u32 zero = 0;
    __u64 *used = bpf_map_lookup_elem(&scratches_used, &zero);

    if (!used)
        return NULL;
#pragma unroll
    for (__u32 level = 0; level < SCRATCH_LEVELS; level++) {
        __u64 bit = 1ull << level;
        if (!(__sync_fetch_and_or(used, bit) & bit)) {
            __u32 key = level;
            *ret_level = level;
            return bpf_map_lookup_elem(&scratches, &key);
        }
    }
    return NULL;
}

static __always_inline void scratch_release(__u32 level)
{
    __u32 zero = 0;
    __u64 *used = bpf_map_lookup_elem(&scratches_used, &zero);

    if (used)
        __sync_fetch_and_and(used, ~(1ull << level));
}

/* Begins the walk with the kernel's frames. Kernel and user parts are hashed apart: a user stack that ends as a
 * kernel stack begins is another stack. */
static __always_inline void walk_kernel(void *ctx, struct stack_walk *walk)
{
    long bytes = bpf_get_stack(ctx, walk->frames, CPROFD_MAX_KERNEL_FRAMES * sizeof(__u64), 0);
    __u32 n = bytes > 0 ? bytes / sizeof(__u64) : 0;

    for (__u32 i = 0; i < CPROFD_MAX_KERNEL_FRAMES && i < n; i++)
        stack_hash(walk->hash, walk->frames[i]);
    stack_hash(walk->hash, n);
    walk->record.n_kernel = n;
    walk->n = n;
}

static __always_inline void walk_user(struct session_ctl *s, struct task_struct *task, struct stack_walk *walk)
{
    __u64 space = s->space;

    stack_first_registers(task, walk);
    walk->space = (__u32)space;
    walk->by_fp = s->unwind == UNWIND_BY_FRAME_POINTERS || walk->space == 0;
    if (space >> 32 != s->exec_epoch)
        walk->space = 0; /* of the image before */
    walk->registers = 0;
    walk->mapping.end = 0;
    walk->guessed_fp = 0;
    walk->unprobed = !task->utask;
    walk->exact = 1;
    walk->end = STACK_END_TOO_DEEP;
    stack_begin(walk);
    stack_push(walk, STACK_FRAME_EXACT);
    if (!s->at_entry || stack_step_entry(walk))
        stack_step_all(walk);
    walk->record.n_user = walk->n - walk->record.n_kernel;
}

static __always_inline void collect_stack(void *ctx, struct session_ctl *s, struct task_struct *task,
                                          struct stack_walk *walk)
{
    walk->hash[0] = s->seed[0];
    walk->hash[1] = s->seed[1];
    walk->end = STACK_END_NO_USER;
    walk->n = 0;
    walk->record.type = RECORD_STACK;
    walk->record.n_kernel = 0;
    walk->record.n_user = 0;
    walk->record.pad = 0;
    if (s->kernel)
        walk_kernel(ctx, walk);
    if (task->mm)
        walk_user(s, task, walk);
    stack_hash(walk->hash, walk->end);
    walk->record.end = walk->end;
    walk->record.stack_hash[0] = walk->hash[0];
    walk->record.stack_hash[1] = walk->hash[1];
}

/* Wakes the reader once half of the ring is full: it need not look before the window ends otherwise. */
static __always_inline long emit(void *ring, void *record, __u64 size)
{
    __u64 half = bpf_ringbuf_query(ring, BPF_RB_RING_SIZE) / 2;
    __u64 flags = bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA) > half ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP;

    return bpf_ringbuf_output(ring, record, size, flags);
}

static __always_inline long emit_stack(void *ring, struct stack_walk *walk)
{
    __u64 n = walk->n;

    barrier_var(n); /* else a compiler may compare one copy and use another, whose bounds verifiers before Linux 6.2 don't know */
    if (n > STACK_WALK_FRAMES)
        return -1;
    return emit(ring, &walk->record, sizeof(walk->record) + n * sizeof(__u64));
}

/* Counts the sample in the session's table, and hands a stack that is new over to the reader. */
static __always_inline void count_sample(struct session_ctl *s, void *table, void *ring, struct scratch *x,
                                         const struct sample_value *add)
{
    struct sample_value *value = bpf_map_lookup_elem(table, &x->key);

    if (!value) {
        /* The marker that this stack was handed over: a key that no thread has. */
        __builtin_memset(&x->seen, 0, sizeof(x->seen));
        x->seen.stack_hash[0] = x->key.stack_hash[0];
        x->seen.stack_hash[1] = x->key.stack_hash[1];
        if (bpf_map_update_elem(table, &x->seen, add, BPF_NOEXIST) != -17 /* EEXIST */ && emit_stack(ring, &x->walk)) {
            bpf_map_delete_elem(table, &x->seen);
            __sync_fetch_and_add(&s->lost_ring, add->samples);
            return;
        }
        if (!bpf_map_update_elem(table, &x->key, add, BPF_NOEXIST))
            return;
        value = bpf_map_lookup_elem(table, &x->key);
    }
    if (value) {
        __sync_fetch_and_add(&value->samples, add->samples);
        __sync_fetch_and_add(&value->weight, add->weight);
        return;
    }
    __sync_fetch_and_add(&s->table_full, add->samples);
    x->overflow.type = RECORD_SAMPLE;
    x->overflow.pad = 0;
    x->overflow.key = x->key;
    x->overflow.value = *add;
    if (emit(ring, &x->overflow, sizeof(x->overflow)))
        __sync_fetch_and_add(&s->lost_ring, add->samples);
}

static __always_inline void take_sample(void *ctx, __u32 slot, struct session_ctl *s, struct task_struct *task,
                                        __u64 samples, __u64 weight, __u64 began_ns)
{
    void *table = bpf_map_lookup_elem(&counts, &slot);
    void *ring = bpf_map_lookup_elem(&records, &slot);
    struct scratch *x;
    __u32 level, bucket, thin = s->thin;
    __u64 spent_ns;

    if (!table || !ring)
        return;
    if (thin > 1) {
        if (bpf_get_prandom_u32() % thin)
            return;
        weight *= thin;
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
    bpf_probe_read_kernel_str(x->key.comm, sizeof(x->key.comm), task->comm);
    __sync_fetch_and_add(&s->samples, samples);
    count_sample(s, table, ring, x, &(struct sample_value){.samples = samples, .weight = weight});
    audit_sample(s, ring, task, &x->key, began_ns);
    scratch_release(level);
    spent_ns = bpf_ktime_get_ns() - began_ns;
    __sync_fetch_and_add(&s->overhead_ns, spent_ns);
    bucket = cost_bucket(spent_ns);
    barrier_var(bucket); /* else a compiler that knows its bounds leaves out the mask, by which verifiers before Linux 6.2 learn them */
    __sync_fetch_and_add(&s->costs[bucket & (COST_BUCKETS - 1)], 1);
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

/* Probes and tracepoints: here we count to the period, each CPU from a random start. */
static __always_inline int on_hit(void *ctx, __u64 cookie)
{
    __u64 now_ns = bpf_ktime_get_ns();
    __u32 slot = COOKIE_SLOT(cookie);
    struct session_ctl *s = bpf_map_lookup_elem(&sessions, &slot);
    struct hit_count *h = bpf_map_lookup_elem(&hit_counts, &slot);
    struct task_struct *task = bpf_get_current_task_btf();

    if (!s || !h || s->instance != COOKIE_INSTANCE(cookie) || s->state != SESSION_OPEN || task_tgid(task) != s->tgid || s->every == 0)
        return 0;
    __sync_fetch_and_add(&s->hits, 1);
    if (h->instance != s->instance) {
        h->instance = s->instance;
        h->left = ((__u64)bpf_get_prandom_u32() << 32 | bpf_get_prandom_u32()) % s->every + 1;
    }
    if (--h->left)
        return 0;
    h->left = s->every;
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

SEC("tracepoint")
int on_tracepoint(void *ctx)
{
    return on_hit(ctx, bpf_get_attach_cookie(ctx));
}

/* ---- watches */

/* The end of a target: closes the window of the session in a slot, if it is this target's. */
__noinline int session_exit(__u32 slot, __u32 tgid, __u64 runtime_ns)
{
    struct session_ctl *s = bpf_map_lookup_elem(&sessions, &slot);

    if (!s || !session_is_of(s, tgid))
        return 0;
    s->closed_ns = bpf_ktime_get_ns();
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
