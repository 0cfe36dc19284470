/* What a thread's system call says of its waiting for a lock, or of its waking others: read from its registers, at a switch and at a
 * waking, so that nothing is asked of threads that don't wait. Compiled into the BPF programs, and for the host too.
 *
 * Source: futex(2), include/uapi/linux/futex.h and kernel/futex of Linux. */
#pragma once

#ifndef __bpf__
#include <linux/types.h>

#include <stdbool.h>
#include <stddef.h>
#endif

#define LOCK_INLINE static inline __attribute__((always_inline))

#if defined(__TARGET_ARCH_arm64) || (!defined(__bpf__) && defined(__aarch64__))
#define LOCK_SYS_FUTEX 98
#else
#define LOCK_SYS_FUTEX 202
#endif
#define LOCK_SYS_FUTEX_WAKE 454
#define LOCK_SYS_FUTEX_WAIT 455

/* Operations of futex(), without its flags. */
enum lock_futex {
    LOCK_FUTEX_WAIT = 0,
    LOCK_FUTEX_WAKE = 1,
    LOCK_FUTEX_WAKE_OP = 5,
    LOCK_FUTEX_LOCK_PI = 6,
    LOCK_FUTEX_UNLOCK_PI = 7,
    LOCK_FUTEX_WAIT_BITSET = 9,
    LOCK_FUTEX_WAKE_BITSET = 10,
    LOCK_FUTEX_WAIT_REQUEUE_PI = 11,
    LOCK_FUTEX_LOCK_PI2 = 13,
};
#define LOCK_FUTEX_OPERATION 0x7f
#define LOCK_FUTEX_PRIVATE 0x80

/* A system call: its number, -1 for none, and its arguments. */
struct lock_syscall {
    __s64 number;
    __u64 args[5];
};

enum lock_call_type {
    LOCK_CALL_OTHER = 0, /* nothing that we know the lock of */
    LOCK_CALL_WAIT,      /* waits at address */
    LOCK_CALL_WAKE,      /* wakes who waits at address, which may be what ends a hold */
};

struct lock_call {
    __u32 type;
    __u32 wakes;     /* WAKE: how many at most */
    __u32 value;     /* WAIT: while the word is that; of a lock that the kernel hands over 1 */
    __u32 is_shared; /* the word may be shared with other processes, at other addresses */
    __u64 address;
    __u64 second;    /* WAKE: another one; 0: none */
};

LOCK_INLINE void lock_call_wait(struct lock_call *ret, __u64 address, __u32 value, bool is_shared)
{
    ret->type = LOCK_CALL_WAIT;
    ret->address = address;
    ret->value = value;
    ret->is_shared = is_shared;
}

LOCK_INLINE void lock_call_wake(struct lock_call *ret, __u64 address, __u64 second, __u32 wakes, bool is_shared)
{
    ret->type = LOCK_CALL_WAKE;
    ret->address = address;
    ret->second = second;
    ret->wakes = wakes;
    ret->is_shared = is_shared;
}

LOCK_INLINE void lock_call_futex(const struct lock_syscall *call, struct lock_call *ret)
{
    bool is_shared = !(call->args[1] & LOCK_FUTEX_PRIVATE);

    switch (call->args[1] & LOCK_FUTEX_OPERATION) {
    case LOCK_FUTEX_WAIT:
    case LOCK_FUTEX_WAIT_BITSET:
    case LOCK_FUTEX_WAIT_REQUEUE_PI:
        lock_call_wait(ret, call->args[0], (__u32)call->args[2], is_shared);
        break;
    case LOCK_FUTEX_LOCK_PI:
    case LOCK_FUTEX_LOCK_PI2:
        lock_call_wait(ret, call->args[0], 1, is_shared);
        break;
    case LOCK_FUTEX_WAKE:
    case LOCK_FUTEX_WAKE_BITSET:
        lock_call_wake(ret, call->args[0], 0, (__u32)call->args[2], is_shared);
        break;
    case LOCK_FUTEX_WAKE_OP:
        lock_call_wake(ret, call->args[0], call->args[4], (__u32)call->args[2], is_shared);
        break;
    case LOCK_FUTEX_UNLOCK_PI:
        lock_call_wake(ret, call->args[0], 0, 1, is_shared);
        break;
    default:
        break; /* requeuing wakes who waits for a signal, as no lock does */
    }
}

LOCK_INLINE void lock_call_of(const struct lock_syscall *call, struct lock_call *ret)
{
    *ret = (struct lock_call){.type = LOCK_CALL_OTHER};
    if (call->number == LOCK_SYS_FUTEX)
        lock_call_futex(call, ret);
    else if (call->number == LOCK_SYS_FUTEX_WAIT)
        lock_call_wait(ret, call->args[0], (__u32)call->args[1], !(call->args[3] & LOCK_FUTEX_PRIVATE));
    else if (call->number == LOCK_SYS_FUTEX_WAKE)
        lock_call_wake(ret, call->args[0], 0, (__u32)call->args[2], !(call->args[3] & LOCK_FUTEX_PRIVATE));
}
