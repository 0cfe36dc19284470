/* What programs of probes have in common: the registers of a call, the session that a probe is of, and tables of a session's own. Included by
 * *.bpf.c, after program_session.h and program_task.h. */
#pragma once

#include "bpf/control.h"

/* ARG's i is a constant. */
#if defined(__TARGET_ARCH_arm64)
#define REGS struct user_pt_regs___arm64
#define ARG(r, i) ((r)->regs[i])
#define RESULT(r) ((r)->regs[0])
#else
#define REGS struct pt_regs___x86
#define ARG(r, i) ((i) == 0 ? (r)->di : (i) == 1 ? (r)->si : (i) == 2 ? (r)->dx : (i) == 3 ? (r)->cx : (i) == 4 ? (r)->r8 : (r)->r9)
#define RESULT(r) ((r)->ax)
#endif

/* A table by address for each session, made for one that needs it. By sizes: see counts. */
#define MAP_OF_SESSIONS(name, bytes) \
    struct name##_map { \
        __uint(type, BPF_MAP_TYPE_HASH); \
        __uint(max_entries, 1); \
        __uint(key_size, sizeof(__u64)); \
        __uint(value_size, bytes); \
    }; \
    struct { \
        __uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS); \
        __uint(max_entries, CPROFD_MAX_SESSIONS); \
        __type(key, __u32); \
        __array(values, struct name##_map); \
    } name SEC(".maps")

static __always_inline bool probe_is_paused(struct session_ctl *s)
{
    if (s->paused && s->state == SESSION_OPEN)
        __sync_fetch_and_add(&s->paused_hits, 1);
    return s->paused;
}

/* The session that the probe was put there for, if it counts and its target is at it; before its window, hits are counted alone. stepped: those that
 * the kernel single-steps, which cost many times as much, are counted beside. */
static __always_inline struct session_ctl *session_of_hit(__u64 cookie, bool stepped)
{
    __u32 slot = COOKIE_SLOT(cookie);
    struct session_ctl *s = bpf_map_lookup_elem(&sessions, &slot);

    if (!s || s->instance != COOKIE_INSTANCE(cookie) || task_tgid(bpf_get_current_task_btf()) != s->tgid || probe_is_paused(s))
        return NULL;
    if (s->state == SESSION_ARMED)
        __sync_fetch_and_add(&s->armed_hits, 1);
    if (stepped && (s->state == SESSION_ARMED || s->state == SESSION_OPEN))
        __sync_fetch_and_add(s->state == SESSION_ARMED ? &s->armed_stepped : &s->stepped_hits, 1);
    return s->state == SESSION_OPEN ? s : NULL;
}

static __always_inline struct session_ctl *session_of_probe(__u64 cookie)
{
    return session_of_hit(cookie, false);
}
