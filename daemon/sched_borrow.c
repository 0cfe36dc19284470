/* Lends the stacks of waits that were walked to threads of which none was. Owns nothing. */
#include "daemon/sched_borrow.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Those of a name and state. */
struct group {
    const struct borrow_lender *lenders;
    size_t n_lenders;
    struct borrow_want *wants;
    size_t n_wants;
};

static int by_group(const struct sample_key *a, const struct sample_key *b)
{
    if (a->state != b->state)
        return a->state < b->state ? -1 : 1;
    return strncmp(a->comm, b->comm, sizeof(a->comm));
}

static int lender_order(const void *a, const void *b)
{
    const struct borrow_lender *x = a, *y = b;
    int order = by_group(&x->count->key, &y->count->key);

    return order ? order : (x->count > y->count) - (x->count < y->count);
}

static int want_order(const void *a, const void *b)
{
    const struct borrow_want *x = a, *y = b;
    int order = by_group(&x->count.key, &y->count.key);

    return order ? order : (x->count.key.tid > y->count.key.tid) - (x->count.key.tid < y->count.key.tid);
}

static double power(double base, uint64_t exponent)
{
    double result = 1;

    for (; exponent; exponent >>= 1, base *= base)
        if (exponent & 1)
            result *= base;
    return result;
}

/* What it stands for beside itself. */
static double lender_weight(const struct borrow_lender *l, double walked)
{
    double none = power(1 - walked, l->waits ? l->waits : 1);

    return (double)l->count->value.weight * none / (1 - none);
}

/* Lays the time that is wanted beside what can be lent, end to end each: where two lie side by side, one lends to the other. So each lends
 * as much as is its due, to the nanosecond, in no more pieces than there are of both. */
static size_t group_lend(const struct group *g, double walked, struct raw_count *to)
{
    double all = 0, sum = 0;
    uint64_t wanted_ns = 0, at_ns = 0, want_end_ns = 0;
    size_t n = 0, w = 0;

    for (size_t i = 0; i < g->n_lenders; i++)
        all += lender_weight(&g->lenders[i], walked);
    for (size_t i = 0; i < g->n_wants; i++)
        wanted_ns += g->wants[i].count.value.weight;
    if (!(all > 0))
        return 0;
    for (size_t i = 0; i < g->n_lenders; i++) {
        sum += lender_weight(&g->lenders[i], walked);
        uint64_t end_ns = i + 1 == g->n_lenders || sum >= all ? wanted_ns : (uint64_t)(sum / all * (double)wanted_ns);
        while (at_ns < end_ns && at_ns < wanted_ns) {
            bool begins = at_ns == want_end_ns;
            if (begins)
                want_end_ns += g->wants[w++].count.value.weight;
            uint64_t until_ns = want_end_ns < end_ns ? want_end_ns : end_ns;
            const struct borrow_want *want = &g->wants[w - 1];
            to[n] = (struct raw_count){want->count.key, {begins ? want->count.value.samples : 0, until_ns - at_ns}};
            memcpy(to[n++].key.stack_hash, g->lenders[i].count->key.stack_hash, sizeof(to->key.stack_hash));
            at_ns = until_ns;
        }
    }
    for (size_t i = 0; i < g->n_wants; i++)
        g->wants[i].is_served = true;
    return n;
}

int sched_borrow(struct borrow_lender *lenders, size_t n_lenders, struct borrow_want *wants, size_t n_wants, double walked,
                 struct raw_count **ret_counts, size_t *ret_n)
{
    struct raw_count *counts = calloc(n_lenders + n_wants + 1, sizeof(*counts));
    size_t n = 0, l = 0, w = 0;

    if (!counts)
        return -ENOMEM;
    if (n_lenders)
        qsort(lenders, n_lenders, sizeof(*lenders), lender_order);
    if (n_wants)
        qsort(wants, n_wants, sizeof(*wants), want_order);
    while (w < n_wants) {
        const struct sample_key *key = &wants[w].count.key;
        struct group g = {.wants = &wants[w]};
        while (l < n_lenders && by_group(&lenders[l].count->key, key) < 0)
            l++;
        g.lenders = &lenders[l];
        for (; l < n_lenders && by_group(&lenders[l].count->key, key) == 0; l++)
            g.n_lenders++;
        for (; w < n_wants && by_group(&wants[w].count.key, key) == 0; w++)
            g.n_wants++;
        n += group_lend(&g, walked, counts + n);
    }
    *ret_counts = counts;
    *ret_n = n;
    return 0;
}
