/* Who waits for which lock, and what a release costs those who wait. Compiled into the BPF programs, and for the host too, so that a unit
 * test runs the very code that the kernel runs.
 *
 * A lock is a futex's address in an address space. Who goes to wait there is counted in, who is woken is counted out, and the time that all
 * of them have waited since the last release is the area under that count: so a release, at which the area is charged and begins anew,
 * costs the same for two waiters and for a thousand. That is how the hold which a release ends is charged, for every waiter, with the part
 * of its wait that fell into it.
 *
 * A release is seen by whom it wakes: a thread that is woken by one of its own address space which is in a call that wakes at the
 * lock's address. What ends otherwise (a timeout, a signal) counts its waiter out, and its wait stays what the next release costs, unless
 * nobody waits any more: then the release will wake nobody, and won't be seen. Such waits are abandoned, and counted as that.
 *
 * Threads are woken before they have what they wait for, and others may take it meanwhile: a thread that goes to wait again at once, at the
 * same place, for the same value and having woken nobody, still waits for the same thing (lock_wait.again), and has waited since it was
 * woken. Where the value is 0, which locks that are taken seldom are, it is a counter, whose changes are things of their own. */
#pragma once

#include <linux/bpf.h>

#include "bpf/lock_calls.h"

#define LOCK_BUCKETS 2048 /* a power of two */
#define LOCK_WAYS 8       /* locks that are waited for now, and fall together */

/* How long a thread may run between two waits that are one: back from the kernel to a look at the lock, and to wait again. */
#define LOCK_AGAIN_NS 10000

/* Address spaces are aligned: below that, an entry tells for whom it was made: each target whose locks are looked at has a generation of its
 * own. By these there is a table of since when (monotonic; LOCK_NOBODY: nobody has it): what is older is void. */
#define LOCK_GENERATION 63ull
#define LOCK_GENERATIONS 64
#define LOCK_NOBODY (~0ull)

struct lock_entry {
    __u64 space;       /* as in struct lock_place; 0: free */
    __u64 address;
    __u64 changed_ns;  /* until when waited_ns is counted */
    __u64 waited_ns;   /* by all, since the last release */
    __u64 released_ns; /* the last release; 0: none */
    __u32 n_waiters;   /* 0: may be taken for another lock; waited_ns is void */
    __u32 releaser;    /* whose that was, by the kernel's number */
    __u32 wakes_left;  /* how many more it may wake */
    __u32 pad;
};

struct lock_bucket {
    struct bpf_spin_lock guard;
    __u32 pad;
    struct lock_entry entries[LOCK_WAYS];
};

struct lock_place {
    __u64 space; /* the address space, as a number, with the generation in its low bits */
    __u64 address;
};

enum lock_wait_state {
    LOCK_WAIT_NONE = 0,
    LOCK_WAIT_COUNTED, /* it is one of its lock's waiters */
};

/* What is known of a thread's waits: the one now, or the last one. Zeroed for a new thread. */
struct lock_wait {
    struct lock_place place;
    __u64 began_ns;    /* as its lock counts it: not before it was woken last, where it is one with the wait before */
    __u64 woken_ns;
    __u64 returned_ns; /* when it ran again */
    __u64 stack;       /* what tells one stack from another */
    __u32 state;       /* enum lock_wait_state */
    __u32 again;       /* 1: one contention with the wait before */
    __u32 value;       /* lock_call.value */
    __u32 wakes;       /* threads that it woke, ever; */
    __u32 wakes_then;  /* and when it went to wait */
    __u32 queued_us;   /* since it ran again: ready to run, without a CPU */
};

/* What a waking means. */
struct lock_release {
    __u32 contentions;  /* 1: it ends a hold that others waited for, 0: it does not */
    __u32 pad;
    __u64 waited_ns;    /* what those waits cost in that hold */
    __u64 abandoned_ns; /* waits in a hold that no release will be charged with */
};

#ifdef __bpf__
#define LOCK_GUARD(bucket) bpf_spin_lock(&(bucket)->guard)
#define LOCK_UNGUARD(bucket) bpf_spin_unlock(&(bucket)->guard)
#else
#define LOCK_GUARD(bucket) ((void)(bucket))
#define LOCK_UNGUARD(bucket) ((void)(bucket))
#endif

LOCK_INLINE __u32 lock_bucket_of(const struct lock_place *place)
{
    __u64 x = (place->space ^ place->address) * 0x9e3779b97f4a7c15ull;

    return (x >> 40) & (LOCK_BUCKETS - 1);
}

/* ---- one lock. The bucket's guard is held */

LOCK_INLINE bool lock_entry_is_void(const struct lock_entry *e, const __u64 *since_ns)
{
    return e->changed_ns < since_ns[e->space & LOCK_GENERATION];
}

LOCK_INLINE struct lock_entry *lock_find(struct lock_bucket *bucket, const struct lock_place *place, const __u64 *since_ns)
{
    struct lock_entry *found = NULL;

#pragma GCC unroll 8
    for (__u32 i = 0; i < LOCK_WAYS; i++)
        if (bucket->entries[i].space == place->space && bucket->entries[i].address == place->address)
            found = &bucket->entries[i];
    return found && lock_entry_is_void(found, since_ns) ? NULL : found;
}

/* A free one, for a lock that has none. */
LOCK_INLINE struct lock_entry *lock_take(struct lock_bucket *bucket, const struct lock_place *place, const __u64 *since_ns)
{
    struct lock_entry *found = NULL;

#pragma GCC unroll 8
    for (__u32 i = 0; i < LOCK_WAYS; i++)
        if (bucket->entries[i].n_waiters == 0 || lock_entry_is_void(&bucket->entries[i], since_ns))
            found = &bucket->entries[i];
    if (!found)
        return NULL;
    found->space = place->space;
    found->address = place->address;
    found->released_ns = 0;
    found->n_waiters = 0;
    found->releaser = 0;
    found->wakes_left = 0;
    return found;
}

/* Counts the waits up to now. Clocks of two CPUs may be read in one order and taken in the other. */
LOCK_INLINE void lock_advance(struct lock_entry *e, __u64 now_ns)
{
    if (e->n_waiters == 0) {
        e->waited_ns = 0;
        e->changed_ns = now_ns;
        return;
    }
    if (now_ns <= e->changed_ns)
        return;
    e->waited_ns += (now_ns - e->changed_ns) * e->n_waiters;
    e->changed_ns = now_ns;
}

LOCK_INLINE __u64 lock_later(__u64 a_ns, __u64 b_ns)
{
    return a_ns > b_ns ? a_ns : b_ns;
}

LOCK_INLINE __u64 lock_since(__u64 then_ns, __u64 now_ns)
{
    return now_ns > then_ns ? now_ns - then_ns : 0;
}

/* A waiter leaves. What is lost with the last one; of what is hardly a lock, nothing is. */
LOCK_INLINE __u64 lock_leave(const struct lock_wait *w, struct lock_entry *e)
{
    return --e->n_waiters == 0 && w->value != 0 ? e->waited_ns : 0;
}

/* Whether a waking is one more of the release before: of those that wake several, nobody is woken who came after it. */
LOCK_INLINE bool lock_is_same_release(const struct lock_entry *e, __u32 waker, const struct lock_wait *w)
{
    return e->released_ns != 0 && e->releaser == waker && e->wakes_left > 0 && w->began_ns < e->released_ns;
}

/* The waits so far are the releaser's. */
LOCK_INLINE void lock_charge(struct lock_entry *e, const struct lock_wait *w, __u32 waker, __u32 wakes, __u64 now_ns,
                             struct lock_release *ret)
{
    if (lock_is_same_release(e, waker, w)) {
        ret->contentions = 0;
        e->wakes_left--;
    } else {
        ret->waited_ns = e->waited_ns;
        e->released_ns = now_ns;
        e->releaser = waker;
        e->wakes_left = wakes > 0 ? wakes - 1 : 0;
    }
    e->waited_ns = 0;
}

/* ---- what happens to threads. bucket: lock_bucket_of(place), of the table; since_ns: by generation */

/* Whether the thread goes on with the wait that it has just come back from. */
LOCK_INLINE bool lock_wait_goes_on(const struct lock_wait *w, const struct lock_place *place, __u32 value, __u64 stack,
                                   __u64 now_ns)
{
    return place->address != 0 && value != 0 && w->returned_ns != 0 && w->place.space == place->space &&
           w->place.address == place->address && w->value == value && w->stack == stack &&
           w->wakes == w->wakes_then && now_ns - w->returned_ns <= LOCK_AGAIN_NS + w->queued_us * 1000ull;
}

/* The thread has a CPU again, which it lost on its way to a look at the lock: that is none of the time that it ran. */
LOCK_INLINE void lock_wait_queued(struct lock_wait *w, __u64 queued_ns)
{
    w->queued_us += (queued_ns + 999) / 1000;
}

/* A thread goes to wait, for what is no lock that we know where place->address is 0. False: there is no room for its lock. */
LOCK_INLINE bool lock_wait_begin(struct lock_bucket *bucket, const __u64 *since_ns, struct lock_wait *w, const struct lock_place *place,
                                 __u32 value, __u64 stack, __u64 now_ns)
{
    struct lock_entry *e;
    __u64 began_ns = now_ns;
    bool again = lock_wait_goes_on(w, place, value, stack, now_ns);

    if (again && w->woken_ns != 0 && w->woken_ns < now_ns)
        began_ns = w->woken_ns;
    w->again = again;
    w->wakes_then = w->wakes;
    w->place = *place;
    w->stack = stack;
    w->value = value;
    w->began_ns = began_ns;
    w->state = LOCK_WAIT_NONE;
    if (place->address == 0)
        return true;
    LOCK_GUARD(bucket);
    e = lock_find(bucket, place, since_ns);
    if (!e)
        e = lock_take(bucket, place, since_ns);
    if (e) {
        lock_advance(e, now_ns);
        e->waited_ns += lock_since(lock_later(began_ns, e->released_ns), now_ns);
        e->n_waiters++;
    }
    LOCK_UNGUARD(bucket);
    if (!e)
        return false;
    w->state = LOCK_WAIT_COUNTED;
    return true;
}

/* The thread is woken, by no release of its lock. */
LOCK_INLINE void lock_wait_quit(struct lock_bucket *bucket, const __u64 *since_ns, struct lock_wait *w, __u64 now_ns,
                                struct lock_release *ret)
{
    struct lock_entry *e;

    if (w->state != LOCK_WAIT_COUNTED)
        return;
    w->state = LOCK_WAIT_NONE;
    LOCK_GUARD(bucket);
    e = lock_find(bucket, &w->place, since_ns);
    if (e) {
        lock_advance(e, now_ns);
        ret->abandoned_ns = lock_leave(w, e);
    }
    LOCK_UNGUARD(bucket);
}

/* The thread is woken by one in a call that wakes at this place, the kernel's number of which is waker. It may be about to wait, and not be
 * counted yet: a release it is all the same, for others. One that waited elsewhere was moved here, nobody knows when: it counts since
 * the last release here, and not before the waker itself came back from a wait (came_ns; 0: from none): as musl has it, who comes back from
 * a condition moves the next one to the lock that it has by then. */
LOCK_INLINE void lock_wait_release(struct lock_bucket *bucket, const __u64 *since_ns, struct lock_wait *w, const struct lock_place *place,
                                   __u32 waker, __u64 came_ns, __u32 wakes, __u64 now_ns, struct lock_release *ret)
{
    bool waits = w->state == LOCK_WAIT_COUNTED, here = waits && w->place.space == place->space && w->place.address == place->address;
    struct lock_entry *e;

    ret->contentions = waits;
    LOCK_GUARD(bucket);
    e = lock_find(bucket, place, since_ns);
    if (e) {
        lock_advance(e, now_ns);
        if (e->n_waiters > 0)
            ret->contentions = 1;
        if (waits && !here && (e->released_ns != 0 || came_ns != 0))
            e->waited_ns += lock_since(lock_later(w->began_ns, lock_later(e->released_ns, came_ns)), now_ns);
        lock_charge(e, w, waker, wakes, now_ns, ret);
        if (here)
            e->n_waiters--;
    }
    LOCK_UNGUARD(bucket);
    if (here)
        w->state = LOCK_WAIT_NONE;
}

/* The thread runs again. Where it was never seen to be woken (that happened while it went to sleep), its wait is nobody's. */
LOCK_INLINE void lock_wait_end(struct lock_bucket *bucket, const __u64 *since_ns, struct lock_wait *w, __u64 now_ns,
                               struct lock_release *ret)
{
    struct lock_entry *e;
    __u64 own_ns;

    w->returned_ns = now_ns;
    w->queued_us = 0;
    if (w->state != LOCK_WAIT_COUNTED)
        return;
    w->state = LOCK_WAIT_NONE;
    w->woken_ns = now_ns;
    LOCK_GUARD(bucket);
    e = lock_find(bucket, &w->place, since_ns);
    if (e) {
        lock_advance(e, now_ns);
        own_ns = lock_since(lock_later(w->began_ns, e->released_ns), now_ns);
        e->waited_ns -= own_ns < e->waited_ns ? own_ns : e->waited_ns;
        ret->abandoned_ns = lock_leave(w, e) + (w->value == 0 ? 0 : own_ns);
    }
    LOCK_UNGUARD(bucket);
}

/* ---- what of it is kept */

/* Another number of a random one's. */
LOCK_INLINE __u64 lock_mix(__u64 random)
{
    random = (random ^ (random >> 32)) * 0xd6e8feb86659fd93ull;
    return random ^ (random >> 32);
}

/* A wait, as runtime.SetBlockProfileRate(rate) keeps it: for certain from rate on, shorter ones with a chance that is proportional, and
 * then scaled up. How many contentions it stands for, with *ret_weight_ns of waiting; 0: it is left out. */
LOCK_INLINE __u64 lock_keep_wait(__u64 rate_ns, __u64 waited_ns, __u64 random, __u64 *ret_weight_ns)
{
    __u64 d = waited_ns ? waited_ns : 1;

    if (rate_ns <= d) {
        *ret_weight_ns = waited_ns;
        return 1;
    }
    if (random % rate_ns >= d)
        return 0;
    *ret_weight_ns = rate_ns;
    /* rate/d is no whole number: rounded up as often as it must be. */
    return rate_ns / d + (lock_mix(random) % d < rate_ns % d);
}
