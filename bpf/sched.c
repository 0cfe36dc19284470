/* Attaches the scheduler's programs, and says whose events they are to look at. Owns the links, the map of threads and the filter's mapping. */
#include "bpf/sched.h"

#include <assert.h>
#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "util/cleanup.h"
#include "util/clock.h"

void sched_init(struct sampler *s, int filter)
{
    s->sched = (struct sampler_sched){.links = {-1, -1, -1}, .threads = -1};
    if (filter < 0) {
        if (!s->sched_error[0])
            (void)snprintf(s->sched_error, sizeof(s->sched_error), "the BPF programs are not loaded");
        return;
    }
    void *p = mmap(NULL, sizeof(*s->sched.filter), PROT_READ | PROT_WRITE, MAP_SHARED, filter, 0);
    if (p == MAP_FAILED || getrandom(s->sched.seed, sizeof(s->sched.seed), 0) != sizeof(s->sched.seed)) {
        (void)snprintf(s->sched_error, sizeof(s->sched_error), "the filter of processes can't be mapped: %s", strerror(errno));
        return;
    }
    s->sched.filter = p;
    for (size_t i = 0; i < LOCK_GENERATIONS; i++)
        s->sched.filter->locks_since_ns[i] = LOCK_NOBODY;
}

/* ---- the programs */

void sched_detach(struct sampler *s)
{
    uint32_t zero = 0;

    for (size_t i = 0; i < sizeof(s->sched.links) / sizeof(s->sched.links[0]); i++)
        close_fd(&s->sched.links[i]);
    if (s->sched.threads >= 0)
        (void)bpf_map_delete_elem(s->threads_map, &zero);
    close_fd(&s->sched.threads);
}

int sched_attach(struct sampler *s)
{
    const int progs[] = {s->switch_prog, s->waking_prog, s->new_task_prog};
    uint32_t zero = 0;

    s->sched.threads = bpf_map_create(BPF_MAP_TYPE_HASH, "cprofd_threads", sizeof(uint64_t), sizeof(struct thread_state),
                                      SCHED_MAX_THREADS, NULL);
    int r = s->sched.threads < 0 ? -errno : 0;
    s->sched.filter->kept = 0;
    if (r == 0 && bpf_map_update_elem(s->threads_map, &zero, &s->sched.threads, BPF_ANY) < 0)
        r = -errno;
    for (size_t i = 0; r == 0 && i < sizeof(progs) / sizeof(progs[0]); i++) {
        s->sched.links[i] = bpf_raw_tracepoint_open(NULL, progs[i]);
        r = s->sched.links[i] < 0 ? -errno : 0;
    }
    if (r < 0)
        sched_detach(s);
    return r;
}

void sched_deinit(struct sampler *s)
{
    sched_detach(s);
    if (s->sched.filter)
        (void)munmap(s->sched.filter, sizeof(*s->sched.filter));
    s->sched.filter = NULL;
}

/* ---- whose events */

static uint8_t *sched_filter(struct sampler *s, uint32_t tgid)
{
    return &s->sched.filter->targets[tgid % SCHED_FILTER_ENTRIES];
}

/* Where the wishes of a target are; NULL: it has none. */
static struct sched_wishes *sched_find(struct sampler *s, uint32_t tgid)
{
    struct sched_wishes *all = s->sched.filter->wishes;

    for (uint32_t at = *sched_filter(s, tgid); at; at = all[at - 1].next)
        if (all[at - 1].tgid == tgid)
            return &all[at - 1];
    return NULL;
}

/* The slots of a target whose sessions want its events. */
static struct sched_wishes sched_wishes(struct sampler *s, uint32_t tgid)
{
    const struct sched_wishes *found = s->sched.filter ? sched_find(s, tgid) : NULL;

    return found ? *found : (struct sched_wishes){.tgid = tgid};
}

/* There is room for those of a new target: there are as many as sessions. */
static struct sched_wishes *sched_new_target(struct sampler *s, uint32_t tgid)
{
    struct sched_wishes *all = s->sched.filter->wishes;
    uint32_t at = 0;

    while (all[at].all)
        at++;
    assert(at < CPROFD_MAX_SESSIONS);
    all[at] = (struct sched_wishes){.tgid = tgid, .next = *sched_filter(s, tgid)};
    __atomic_store_n(sched_filter(s, tgid), (uint8_t)(at + 1), __ATOMIC_RELEASE);
    return &all[at];
}

static void sched_forget_target(struct sampler *s, const struct sched_wishes *target)
{
    struct sched_wishes *all = s->sched.filter->wishes, *before = NULL;
    uint32_t at = (uint32_t)(target - all) + 1;

    for (uint32_t i = *sched_filter(s, target->tgid); i != at; i = before->next)
        before = &all[i - 1];
    if (before)
        __atomic_store_n(&before->next, target->next, __ATOMIC_RELEASE);
    else
        __atomic_store_n(sched_filter(s, target->tgid), (uint8_t)target->next, __ATOMIC_RELEASE);
}

/* What is wanted of a target from now on. */
static void sched_wish(struct sampler *s, const struct sched_wishes *wishes)
{
    struct sched_wishes *target = sched_find(s, wishes->tgid);

    if (!target && wishes->all)
        target = sched_new_target(s, wishes->tgid);
    if (!target)
        return;
    target->slot = wishes->all ? (uint32_t)__builtin_ctzll(wishes->all) : 0;
    target->tracing = wishes->tracing;
    target->waking = wishes->waking;
    __atomic_store_n(&target->all, wishes->all, __ATOMIC_RELEASE);
    if (!wishes->all)
        sched_forget_target(s, target);
}

static bool looks_at_locks(const struct session_ctl *ctl)
{
    return ctl->sched_kind == SCHED_BLOCK || ctl->sched_kind == SCHED_MUTEX;
}

/* One of the other sessions of the target that looks at locks; NULL: none does. */
static struct session_ctl *sched_finds_locks(struct sampler *s, uint32_t slot, uint64_t others)
{
    for (uint32_t i = 0; i < CPROFD_MAX_SESSIONS; i++)
        if ((others >> i & 1) && i != slot && looks_at_locks(&s->ctl[i]))
            return &s->ctl[i];
    return NULL;
}

/* One that nobody has: there are at least as many as sessions. Not that which was let go last, whose events may be still under way. */
static uint64_t sched_free_generation(struct sampler *s)
{
    do {
        s->sched.lock_generation = (s->sched.lock_generation + 1) % LOCK_GENERATIONS;
    } while (s->sched.filter->locks_since_ns[s->sched.lock_generation] != LOCK_NOBODY);
    return s->sched.lock_generation;
}

/* All sessions of a target that look at locks see the same ones: those that were there before any of them did are others. */
static void sched_look_at_locks(struct sampler *s, uint32_t slot, uint64_t others)
{
    struct session_ctl *ctl = &s->ctl[slot], *other = sched_finds_locks(s, slot, others);

    if (!looks_at_locks(ctl))
        return;
    ctl->lock_generation = other ? other->lock_generation : sched_free_generation(s);
    if (!other)
        s->sched.filter->locks_since_ns[ctl->lock_generation] = monotonic_ns();
}

static void sched_look_away(struct sampler *s, uint32_t slot, uint64_t others)
{
    if (looks_at_locks(&s->ctl[slot]) && !sched_finds_locks(s, slot, others))
        s->sched.filter->locks_since_ns[s->ctl[slot].lock_generation] = LOCK_NOBODY;
}

#define SWEEP_STEP 256

/* One of these sessions' windows has ended, and who settles it still wants to know of threads that died since. */
static bool sched_closes(const struct sampler *s, uint64_t slots)
{
    for (uint32_t i = 0; i < CPROFD_MAX_SESSIONS; i++)
        if ((slots >> i & 1) && (s->ctl[i].until_ns || s->ctl[i].closed_ns))
            return true;
    return false;
}

static bool sched_wants_thread(struct sampler *s, const struct thread_state *t)
{
    uint64_t slots = sched_wishes(s, t->tgid).all;
    bool wanted = slots && (t->place != THREAD_DEAD || sched_closes(s, slots));

    if (wanted && t->place == THREAD_DEAD)
        __atomic_fetch_add(&s->sched.filter->kept, 1, __ATOMIC_RELAXED); /* as ever */
    return wanted;
}

/* A new thread may have its place in memory by now. */
static void sched_forget_thread(struct sampler *s, uint64_t key, struct thread_state *t)
{
    if (bpf_map_lookup_elem(s->sched.threads, &key, t) == 0 && !sched_wants_thread(s, t))
        (void)bpf_map_delete_elem(s->sched.threads, &key);
}

void sched_sweep(struct sampler *s)
{
    AUTO_FREE struct thread_state *threads = calloc(SWEEP_STEP, sizeof(*threads));
    uint64_t keys[SWEEP_STEP], position;
    void *from = NULL;
    int r = threads ? 0 : -ENOMEM;

    while (r == 0) {
        uint32_t n = SWEEP_STEP;
        r = bpf_map_lookup_batch(s->sched.threads, from, &position, keys, threads, &n, NULL);
        for (uint32_t i = 0; (r == 0 || r == -ENOENT) && i < n; i++)
            if (!sched_wants_thread(s, &threads[i]))
                sched_forget_thread(s, keys[i], &threads[i]);
        from = &position;
    }
}

int sched_add(struct sampler *s, uint32_t slot)
{
    struct session_ctl *ctl = &s->ctl[slot];
    uint32_t tgid = ctl->tgid;

    if (ctl->sched_kind == SCHED_NONE)
        return 0;
    if (!s->sched.filter)
        return -EOPNOTSUPP;
    struct sched_wishes wishes = sched_wishes(s, tgid);
    uint64_t before = wishes.all;
    wishes.all |= 1ull << slot;
    wishes.tracing |= ctl->sched_kind == SCHED_TRACE ? 1ull << slot : 0;
    wishes.waking |= ctl->sched_kind == SCHED_TRACE || ctl->waker ? 1ull << slot : 0;
    ctl->generation = ++s->sched.generation; /* in the order in which programs begin to look at sessions: they tell old from new by it */
    sched_look_at_locks(s, slot, before);
    sched_wish(s, &wishes);
    return 0;
}

bool sched_remove(struct sampler *s, uint32_t slot)
{
    uint32_t tgid = s->ctl[slot].tgid;
    struct sched_wishes wishes = sched_wishes(s, tgid);

    if (!(wishes.all >> slot & 1))
        return false;
    wishes.all &= ~(1ull << slot);
    wishes.tracing &= ~(1ull << slot);
    wishes.waking &= ~(1ull << slot);
    sched_wish(s, &wishes);
    sched_look_away(s, slot, wishes.all);
    return __atomic_exchange_n(&s->sched.filter->kept, 0, __ATOMIC_RELAXED) > 0;
}
