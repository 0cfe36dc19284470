/* What programs do with a session before they count for it: its notices, and its epochs - what the target's addresses mean. Included by *.bpf.c,
 * after their kernel types. */
#pragma once

#include "bpf/control.h"
#include "bpf/shared_maps.h"

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

static __noinline void session_begin_epoch(struct session_ctl *s, __u32 slot, struct task_struct *task)
{
    __u64 mm = (__u64)task->mm;

    if (!s->mm) {
        s->exec_vm = s->listed_vm ? s->listed_vm : task->mm->exec_vm;
        s->mm = mm;
    }
    if (s->mm != mm) {
        session_new_image(s, task);
        notify(NOTICE_EXEC, slot, s, 0);
    } else if (s->exec_vm != task->mm->exec_vm) {
        __sync_fetch_and_add(&s->epoch, 1); /* first: whoever finds no change is in the new epoch */
        s->exec_vm = task->mm->exec_vm;
        notify(NOTICE_EPOCH, slot, s, 0);
    }
}

/* Begins a new epoch where the target's address space or its executable pages are others than at the last sample; at the first one, than when
 * they were listed. */
static __always_inline void session_follow(struct session_ctl *s, __u32 slot, struct task_struct *task)
{
    __u64 mm = (__u64)task->mm;

    if (mm && (s->mm != mm || s->exec_vm != task->mm->exec_vm))
        session_begin_epoch(s, slot, task);
}
