/* Settles a window of the scheduler's events. Owns the table of threads while it does. */
#include "daemon/sched_settle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "daemon/sched_borrow.h"

/* What is known of a thread, by its number. */
struct settled {
    uint32_t tid;
    bool counted;                 /* the programs have seen it switch */
    const struct raw_count *found;
    struct sample_key key;        /* its name, and where and when it was seen last */
    uint64_t run_ns;              /* exact */
    uint64_t loose_ns[SAMPLE_STATE_COUNT]; /* waits without a stack, by state; NONE: those that it was in at first */
    uint64_t loose_samples[SAMPLE_STATE_COUNT];
    char loose_comm[SAMPLE_STATE_COUNT][CPROFD_COMM_LEN]; /* the name then */
    struct sample_value sum[SAMPLE_STATE_COUNT];   /* with one: what is spread by */
    struct sample_value real[SAMPLE_STATE_COUNT];  /* that these stand for, */
    struct sample_value given[SAMPLE_STATE_COUNT]; /* and have been given */
    size_t largest[SAMPLE_STATE_COUNT];    /* 1 + index of the largest count with one; 0: none */
    UT_hash_handle hh;
};

struct settler {
    const struct settle_request *q;
    struct settle_result *ret;
    struct settled *by_tid;
    struct borrow_want *wants; /* waits of threads of which none was walked, to save time */
    size_t n_wants, wants_room;
};

static uint64_t clip(uint64_t ns, uint64_t from_ns, uint64_t until_ns)
{
    return ns < from_ns ? from_ns : ns > until_ns ? until_ns : ns;
}

static uint64_t between(const struct settler *s, uint64_t from_ns, uint64_t to_ns)
{
    uint64_t from = clip(from_ns, s->q->ctl->opened_ns, s->q->until_ns), to = clip(to_ns, s->q->ctl->opened_ns, s->q->until_ns);
    return to > from ? to - from : 0;
}

/* The thread of that number, made where it is new. NULL: no memory. */
static struct settled *settled_at(struct settler *s, uint32_t tid, const struct sample_key *key)
{
    struct settled *t;

    HASH_FIND(hh, s->by_tid, &tid, sizeof(tid), t);
    if (t)
        return t;
    t = calloc(1, sizeof(*t));
    if (!t)
        return NULL;
    t->tid = tid;
    t->key = *key;
    HASH_ADD(hh, s->by_tid, tid, sizeof(t->tid), t);
    if (t->hh.tbl)
        return t;
    free(t);
    return NULL;
}

static bool has_stack(const struct sample_key *key)
{
    return key->stack_hash[0] || key->stack_hash[1];
}

/* ---- counts */

static int add_count(struct settler *s, const struct sample_key *key, uint64_t samples, uint64_t ns)
{
    struct settle_result *r = s->ret;

    if (r->n_counts == r->room) {
        size_t room = r->room ? 2 * r->room : 1024;
        struct raw_count *grown = reallocarray(r->counts, room, sizeof(*grown));
        if (!grown)
            return -ENOMEM;
        r->counts = grown;
        r->room = room;
    }
    r->counts[r->n_counts++] = (struct raw_count){*key, {samples, ns}};
    return 0;
}

/* Time of a thread, with a stack or without. */
static int add_time(struct settler *s, const struct sample_key *key, uint64_t samples, uint64_t ns)
{
    struct settled *t = settled_at(s, key->tid, key);
    uint32_t state = key->state < SAMPLE_STATE_COUNT ? key->state : SAMPLE_STATE_OTHER;

    if (!t)
        return -ENOMEM;
    if (!has_stack(key)) {
        t->counted = true;
        if (state == SAMPLE_STATE_CPU)
            t->run_ns += ns;
        else
            t->loose_ns[state] += ns;
        if (state != SAMPLE_STATE_CPU)
            t->loose_samples[state] += samples;
        memcpy(t->loose_comm[state], key->comm, sizeof(key->comm));
        return 0;
    }
    t->counted = t->counted || state != SAMPLE_STATE_CPU;
    if (add_count(s, key, samples, ns) < 0)
        return -ENOMEM;
    t->sum[state].samples += samples;
    t->sum[state].weight += ns;
    if (t->largest[state] == 0 || ns > s->ret->counts[t->largest[state] - 1].value.weight)
        t->largest[state] = s->ret->n_counts;
    return 0;
}

static int add_counts(struct settler *s)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < s->q->n_counts; i++)
        r = add_time(s, &s->q->counts[i].key, s->q->counts[i].value.samples, s->q->counts[i].value.weight);
    return r;
}

/* ---- what was under way */

static struct sample_key key_of(const struct settler *s, const struct thread_state *t, uint32_t state, bool stack)
{
    struct sample_key key = {.tid = t->tid, .tgid = t->tgid, .epoch = s->q->ctl->epoch, .state = state};

    if (stack)
        memcpy(key.stack_hash, t->stack_hash[s->q->way], sizeof(key.stack_hash));
    memcpy(key.comm, t->comm, sizeof(key.comm));
    return key;
}

static int add_running(struct settler *s, const struct thread_state *t)
{
    struct sample_key key = key_of(s, t, SAMPLE_STATE_CPU, false);

    return s->q->running ? add_time(s, &key, 0, between(s, t->in_ns, s->q->until_ns)) : 0;
}

/* As bpf/sched_session.h counts a wait that is over. */
static int add_waiting(struct settler *s, const struct thread_state *t, bool given)
{
    bool unseen = t->place <= THREAD_UNSEEN, queued = t->place == THREAD_QUEUED;
    uint64_t woken_ns = queued ? t->out_ns : t->wake_ns > t->out_ns ? t->wake_ns : s->q->until_ns;
    bool found = unseen || (!given && t->out_ns < s->q->ctl->opened_ns);
    struct sample_key key = key_of(s, t, found ? SAMPLE_STATE_NONE : t->state, given && !unseen);
    uint64_t wait_ns = between(s, t->out_ns, woken_ns), queue_ns = between(s, woken_ns, s->q->until_ns);
    int r = 0;

    if (!queued && wait_ns)
        r = add_time(s, &key, 1, wait_ns);
    key.state = SAMPLE_STATE_RUNQ;
    if (r == 0 && queue_ns)
        r = add_time(s, &key, queued || !wait_ns, queue_ns);
    return r;
}

/* Of what is noted for slots. */
static bool has_bit(const struct settler *s, const struct thread_state *t, uint64_t slots)
{
    return t->generation >= s->q->ctl->generation && (slots >> s->q->slot & 1);
}

/* What the programs have kept beside the thread for the window's session. */
static int add_sums(struct settler *s, const struct thread_state *t)
{
    const struct thread_sums *sums = &t->sums;
    struct sample_key key = key_of(s, t, SAMPLE_STATE_CPU, false);
    int r = 0;

    if (sums->generation != s->q->ctl->generation || sums->slot != s->q->slot)
        return 0;
    if (sums->run_ns)
        r = add_time(s, &key, 0, sums->run_ns);
    for (size_t i = 0; r == 0 && i < SCHED_KNOWN_STACKS; i++) {
        const struct thread_sum *sum = &sums->waits[i];
        memcpy(key.stack_hash, sum->hash, sizeof(key.stack_hash));
        key.epoch = sum->epoch;
        key.state = sum->state;
        if (sum->wait.weight)
            r = add_time(s, &key, sum->wait.samples, sum->wait.weight);
        key.state = SAMPLE_STATE_RUNQ;
        if (r == 0 && sum->queued.weight)
            r = add_time(s, &key, sum->queued.samples, sum->queued.weight);
    }
    return r;
}

/* Nobody told of its leaving: what is left of the window, it waits as it did last. */
static int add_left(struct settler *s, const struct settle_thread *closed)
{
    struct thread_state t = closed->state;
    struct sample_key key = key_of(s, &t, SAMPLE_STATE_CPU, false);
    int r = 0;

    s->ret->missed++;
    if (s->q->running)
        r = add_time(s, &key, 0, between(s, t.in_ns, closed->left_ns));
    t.out_ns = closed->left_ns;
    t.wake_ns = 0;
    t.place = THREAD_WAITING;
    if (t.state == SAMPLE_STATE_RUNQ || t.state == SAMPLE_STATE_NONE)
        t.state = SAMPLE_STATE_OTHER;
    return r ? r : add_waiting(s, &t, has_bit(s, &t, t.given));
}

/* By when it was born: its place in memory may be another's by now. */
static const struct settle_thread *thread_in(const struct settle_thread **threads, size_t n, uint64_t born_ns)
{
    size_t low = 0, high = n;

    while (low < high) {
        size_t middle = (low + high) / 2;
        if (threads[middle]->state.born_ns == born_ns)
            return threads[middle];
        if (threads[middle]->state.born_ns < born_ns)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* A thread that was there at the end. closed: as it was then, ended: a moment later; each may be NULL. */
static int add_alive(struct settler *s, const struct settle_thread *closed, const struct settle_thread *ended)
{
    const struct thread_state *t = &ended->state;
    struct sample_key key = key_of(s, t, SAMPLE_STATE_NONE, false);
    bool dead = t->place == THREAD_DEAD;
    uint64_t life_ns = between(s, t->born_ns, dead ? t->out_ns : s->q->until_ns);

    if (add_sums(s, t) < 0)
        return -ENOMEM;
    if (life_ns == 0 || (dead && has_bit(s, t, t->buried)))
        return 0; /* it began later, ended before, or is counted as it is */
    struct settled *known = settled_at(s, t->tid, &key);
    if (!known)
        return -ENOMEM;
    known->counted = true;
    s->ret->threads++;
    s->ret->lifetimes_ns += life_ns;
    if (has_bit(s, t, t->settled))
        return 0; /* a program has come first, and counted to the end */
    /* What others' programs have seen of it since is not this window's. */
    if (dead || t->out_ns > s->q->until_ns || t->in_ns > s->q->until_ns)
        t = closed ? &closed->state : NULL;
    if (!t || t->place == THREAD_NEW) {
        known->counted = false; /* it had not switched until then: a dump has it */
        s->ret->threads--;
        s->ret->lifetimes_ns -= life_ns;
        return 0;
    }
    if (t->place == THREAD_RUNNING && closed && closed->left_ns && closed->state.in_ns == t->in_ns)
        return add_left(s, closed);
    return t->place == THREAD_RUNNING ? add_running(s, t) : add_waiting(s, t, has_bit(s, t, t->given));
}

static int by_birth(const void *a, const void *b)
{
    const struct settle_thread *x = *(const struct settle_thread *const *)a, *y = *(const struct settle_thread *const *)b;
    return x->state.born_ns < y->state.born_ns ? -1 : x->state.born_ns > y->state.born_ns;
}

static int add_all_alive(struct settler *s)
{
    const struct settle_thread **closed = calloc(s->q->n_closed + 1, sizeof(*closed)); /* each is large, and there may be many */
    int r = closed ? 0 : -ENOMEM;

    for (size_t i = 0; closed && i < s->q->n_closed; i++)
        closed[i] = &s->q->closed[i];
    if (closed)
        qsort(closed, s->q->n_closed, sizeof(*closed), by_birth);
    for (size_t i = 0; r == 0 && i < s->q->n_ended; i++)
        r = add_alive(s, thread_in(closed, s->q->n_closed, s->q->ended[i].state.born_ns), &s->q->ended[i]);
    free(closed);
    return r;
}

/* ---- what a dump found */

static int add_found(struct settler *s)
{
    for (size_t i = 0; i < s->q->n_found; i++) {
        const struct raw_count *found = &s->q->found[i];
        struct settled *t = found->key.tid ? settled_at(s, found->key.tid, &found->key) : NULL;
        if (!t && found->key.tid)
            return -ENOMEM;
        if (t)
            t->found = found;
    }
    return 0;
}

/* A thread that was found and not seen since did the same all the time. */
static int add_unmoved(struct settler *s, struct settled *t)
{
    uint64_t window_ns = between(s, 0, UINT64_MAX);
    const struct raw_count *found = t->found;

    if (!found || t->counted || found->key.state == SAMPLE_STATE_NONE)
        return 0;
    s->ret->threads++;
    s->ret->lifetimes_ns += window_ns;
    if (found->key.state == SAMPLE_STATE_CPU) {
        t->run_ns += s->q->running ? window_ns : 0;
        return 0;
    }
    return add_time(s, &found->key, 1, window_ns);
}

/* ---- time without a stack */

/* Off the CPU: under which stack, for want of a better one. */
static int add_nearest(struct settler *s, struct settled *t, uint32_t state, uint64_t samples, uint64_t ns)
{
    static const uint64_t unseen[2] = SETTLE_UNSEEN_HASH;
    struct sample_key key = t->key;

    if (t->largest[state] > 0) {
        key = s->ret->counts[t->largest[state] - 1].key;
    } else if (t->found) {
        key = t->found->key;
    } else {
        memcpy(key.stack_hash, unseen, sizeof(unseen));
        s->ret->unseen_ns += ns;
    }
    key.state = state;
    return add_count(s, &key, samples, ns);
}

/* On it, and no timer met the thread: where it waited is not where it ran. A dump may have seen it run. */
static int add_unsampled(struct settler *s, struct settled *t, uint64_t ns)
{
    static const uint64_t unsampled[2] = SETTLE_UNSAMPLED_HASH;
    struct sample_key key = t->key;

    if (t->found && t->found->key.state == SAMPLE_STATE_CPU) {
        key = t->found->key;
    } else {
        memcpy(key.stack_hash, unsampled, sizeof(unsampled));
        s->ret->unsampled_ns += ns;
    }
    key.state = SAMPLE_STATE_CPU;
    return add_count(s, &key, 0, ns);
}

/* The wait that the thread was in at the beginning. What ran when it was found could run all the time before. */
static int settle_first(struct settler *s, struct settled *t)
{
    uint64_t ns = t->loose_ns[SAMPLE_STATE_NONE];
    struct sample_key key;

    if (ns == 0)
        return 0;
    if (!t->found)
        return add_nearest(s, t, SAMPLE_STATE_OTHER, t->loose_samples[SAMPLE_STATE_NONE], ns);
    key = t->found->key;
    if (key.state == SAMPLE_STATE_CPU || key.state == SAMPLE_STATE_NONE)
        key.state = SAMPLE_STATE_RUNQ;
    return add_count(s, &key, t->loose_samples[SAMPLE_STATE_NONE], ns);
}

/* Of a thread of which no wait of that state was walked, to save time: others' waits tell more than what it did else. */
static bool is_left_out(const struct settler *s, const struct settled *t, uint32_t state)
{
    return s->q->ctl->thin > 1 && state != SAMPLE_STATE_CPU && t->largest[state] == 0 && !(t->found && t->found->key.state == state);
}

static int add_want(struct settler *s, const struct settled *t, uint32_t state)
{
    if (s->n_wants == s->wants_room) {
        size_t room = s->wants_room ? 2 * s->wants_room : 256;
        struct borrow_want *grown = reallocarray(s->wants, room, sizeof(*grown));
        if (!grown)
            return -ENOMEM;
        s->wants = grown;
        s->wants_room = room;
    }
    struct borrow_want *want = &s->wants[s->n_wants++];
    *want = (struct borrow_want){.count = {t->key, {t->loose_samples[state], t->loose_ns[state]}}};
    memcpy(want->count.key.comm, t->loose_comm[state], sizeof(want->count.key.comm));
    want->count.key.state = state;
    return 0;
}

/* What is known exactly beside what the stacks stand for. */
static int settle_state(struct settler *s, struct settled *t, uint32_t state)
{
    uint64_t loose_ns = state == SAMPLE_STATE_CPU ? t->run_ns : t->loose_ns[state];

    t->real[state].samples = t->sum[state].samples + t->loose_samples[state];
    t->real[state].weight = state == SAMPLE_STATE_CPU ? loose_ns : t->sum[state].weight + loose_ns;
    if (loose_ns == 0)
        return 0;
    if (t->sum[state].weight == 0 && state == SAMPLE_STATE_CPU)
        return add_unsampled(s, t, loose_ns);
    if (is_left_out(s, t, state))
        return add_want(s, t, state);
    if (t->sum[state].weight == 0)
        return add_nearest(s, t, state, t->loose_samples[state], loose_ns);
    s->ret->spread_ns += state == SAMPLE_STATE_CPU ? 0 : loose_ns;
    return 0;
}

static uint64_t scaled(uint64_t part, uint64_t sum, uint64_t real)
{
    return sum ? (uint64_t)((long double)part / (long double)sum * (long double)real) : 0;
}

/* Makes counts with stacks stand for as much as it really was; what rounding leaves, the largest of each thread and state gets. */
static void settle_weights(struct settler *s, size_t n)
{
    struct raw_count *counts = s->ret->counts;
    struct settled *t, *next;

    for (size_t i = 0; i < n; i++) {
        uint32_t state = counts[i].key.state;
        struct sample_value *value = &counts[i].value;
        HASH_FIND(hh, s->by_tid, &counts[i].key.tid, sizeof(t->tid), t);
        if (!t || state >= SAMPLE_STATE_COUNT || t->sum[state].weight == 0)
            continue;
        value->samples = scaled(value->samples, t->sum[state].samples, t->real[state].samples);
        value->weight = scaled(value->weight, t->sum[state].weight, t->real[state].weight);
        t->given[state].samples += value->samples;
        t->given[state].weight += value->weight;
    }
    HASH_ITER(hh, s->by_tid, t, next)
        for (uint32_t state = 0; state < SAMPLE_STATE_COUNT; state++)
            if (t->largest[state] > 0 && t->sum[state].weight > 0) {
                counts[t->largest[state] - 1].value.samples += t->real[state].samples - t->given[state].samples;
                counts[t->largest[state] - 1].value.weight += t->real[state].weight - t->given[state].weight;
            }
}

/* The waits of a thread that could have been walked; those in the run queue are walked as what they follow. */
static uint64_t waits_of(const struct settled *t, uint32_t state)
{
    uint64_t waits = 0;

    for (uint32_t i = SAMPLE_STATE_CPU + 1; i < SAMPLE_STATE_COUNT; i++)
        waits += state == i || state == SAMPLE_STATE_RUNQ ? t->sum[i].samples + t->loose_samples[i] : 0;
    return waits;
}

/* How many of all waits were walked; 0: none. */
static double part_walked(const struct settler *s)
{
    const struct settled *t, *next;
    uint64_t walked = 0, all = 0;

    HASH_ITER(hh, s->by_tid, t, next)
        for (uint32_t i = SAMPLE_STATE_CPU + 1; i < SAMPLE_STATE_COUNT; i++) {
            walked += t->sum[i].samples;
            all += t->sum[i].samples + t->loose_samples[i];
        }
    return walked < all ? (double)walked / (double)all : 0;
}

/* Those that nobody lends to, as where time was saved on nothing. */
static int add_wants(struct settler *s)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < s->n_wants; i++) {
        const struct sample_key *key = &s->wants[i].count.key;
        struct settled *t = settled_at(s, key->tid, key);
        if (!t)
            return -ENOMEM;
        if (s->wants[i].is_served)
            s->ret->borrowed_ns += s->wants[i].count.value.weight;
        else
            r = add_nearest(s, t, key->state, s->wants[i].count.value.samples, s->wants[i].count.value.weight);
    }
    return r;
}

/* Finds stacks for waits of threads of which none was walked, among the first n counts. */
static int settle_wants(struct settler *s, size_t n)
{
    double walked = part_walked(s);
    struct borrow_lender *lenders = calloc(n + 1, sizeof(*lenders));
    struct raw_count *borrowed = NULL;
    struct settled *t;
    size_t n_lenders = 0, n_borrowed = 0;

    if (!lenders)
        return -ENOMEM;
    for (size_t i = 0; walked > 0 && i < n; i++) {
        const struct raw_count *count = &s->ret->counts[i];
        HASH_FIND(hh, s->by_tid, &count->key.tid, sizeof(t->tid), t);
        if (t && count->key.state > SAMPLE_STATE_CPU && count->key.state < SAMPLE_STATE_COUNT)
            lenders[n_lenders++] = (struct borrow_lender){count, waits_of(t, count->key.state)};
    }
    int r = sched_borrow(lenders, n_lenders, s->wants, s->n_wants, walked, &borrowed, &n_borrowed);
    free(lenders);
    for (size_t i = 0; r == 0 && i < n_borrowed; i++)
        r = add_count(s, &borrowed[i].key, borrowed[i].value.samples, borrowed[i].value.weight);
    free(borrowed);
    return r ? r : add_wants(s);
}

static int settle_all(struct settler *s)
{
    struct settled *t, *next;
    int r = 0;

    HASH_ITER(hh, s->by_tid, t, next)
        if (r == 0)
            r = add_unmoved(s, t);
    size_t n = s->ret->n_counts;
    HASH_ITER(hh, s->by_tid, t, next) {
        for (uint32_t state = SAMPLE_STATE_CPU; r == 0 && state < SAMPLE_STATE_COUNT; state++)
            r = settle_state(s, t, state);
        r = r ? r : settle_first(s, t);
    }
    if (r < 0)
        return r;
    settle_weights(s, n);
    return s->n_wants ? settle_wants(s, n) : 0;
}

int sched_settle(const struct settle_request *request, struct settle_result *ret)
{
    struct settle_result result = {.threads = request->ctl->deaths, .lifetimes_ns = request->ctl->lifetimes_ns};
    struct settler s = {.q = request, .ret = &result};
    struct settled *t, *next;

    int r = add_counts(&s);
    r = r ? r : add_all_alive(&s);
    r = r ? r : add_found(&s);
    r = r ? r : settle_all(&s);
    HASH_ITER(hh, s.by_tid, t, next) {
        HASH_DEL(s.by_tid, t);
        free(t);
    }
    free(s.wants);
    if (r < 0) {
        free(result.counts);
        return r;
    }
    for (size_t i = 0; i < result.n_counts; i++)
        if (result.counts[i].key.state < SAMPLE_STATE_COUNT)
            result.state_ns[result.counts[i].key.state] += result.counts[i].value.weight;
    *ret = result;
    return 0;
}
