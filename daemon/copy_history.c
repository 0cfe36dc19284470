/* Two lists, sorted at the end. Owns them. */
#include "daemon/copy_history.h"

#include <stdlib.h>
#include <string.h>

#define MAX_NAMES 262144
#define MAX_EPOCHS 65536
#define MAX_PARENTS 64 /* threads that started one another, all without a name of their own */

/* A thread's name from a time on. */
struct copy_name_change {
    uint64_t time_ns;
    uint32_t tid;
    uint32_t parent_tid; /* it has begun, by the name of this thread; 0: comm is its name */
    char comm[CPROFD_COMM_LEN];
};

void copy_history_deinit(struct copy_history *h)
{
    free(h->names);
    free(h->epochs);
    *h = (struct copy_history){0};
}

/* list with room for one more; NULL: there is none. */
static void *list_grow(void *list, size_t n, size_t *room, size_t max, size_t size)
{
    if (n < *room)
        return list;
    size_t more = *room ? 2 * *room : 64;
    void *grown = more <= max ? reallocarray(list, more, size) : NULL;
    if (grown)
        *room = more;
    return grown;
}

/* ---- names */

static void name_add(struct copy_history *h, const struct copy_name_change *change)
{
    struct copy_name_change *grown = list_grow(h->names, h->n_names, &h->room_names, MAX_NAMES, sizeof(*grown));

    if (!grown)
        return;
    h->names = grown;
    h->names[h->n_names++] = *change;
}

void copy_history_named(struct copy_history *h, uint64_t time_ns, uint32_t tid, const char comm[static CPROFD_COMM_LEN])
{
    struct copy_name_change change = {.time_ns = time_ns, .tid = tid};

    memcpy(change.comm, comm, CPROFD_COMM_LEN);
    name_add(h, &change);
}

void copy_history_forked(struct copy_history *h, uint64_t time_ns, uint32_t tid, uint32_t parent_tid)
{
    name_add(h, &(struct copy_name_change){.time_ns = time_ns, .tid = tid, .parent_tid = parent_tid});
}

static int name_compare(const void *a, const void *b)
{
    const struct copy_name_change *x = a, *y = b;
    if (x->tid != y->tid)
        return x->tid < y->tid ? -1 : 1;
    return x->time_ns < y->time_ns ? -1 : x->time_ns > y->time_ns;
}

void copy_history_sort(struct copy_history *h)
{
    if (h->n_names > 0)
        qsort(h->names, h->n_names, sizeof(*h->names), name_compare);
}

static const struct copy_name_change *name_find(const struct copy_history *h, uint32_t tid, uint64_t time_ns)
{
    size_t low = 0, high = h->n_names;

    while (low < high) { /* the first that is beyond */
        size_t middle = low + (high - low) / 2;
        const struct copy_name_change *n = &h->names[middle];
        if (n->tid < tid || (n->tid == tid && n->time_ns <= time_ns))
            low = middle + 1;
        else
            high = middle;
    }
    if (low > 0 && h->names[low - 1].tid == tid)
        return &h->names[low - 1];
    return low < h->n_names && h->names[low].tid == tid ? &h->names[low] : NULL;
}

const char *copy_history_name(const struct copy_history *h, uint32_t tgid, uint32_t tid, uint64_t time_ns)
{
    const struct copy_name_change *n = name_find(h, tid, time_ns);

    for (unsigned i = 0; i < MAX_PARENTS && n && n->parent_tid; i++)
        n = name_find(h, n->parent_tid, n->time_ns);
    if (!n || n->parent_tid) /* the record of its beginning was lost */
        n = name_find(h, tgid, time_ns);
    return n && !n->parent_tid ? n->comm : NULL;
}

/* ---- epochs */

uint32_t copy_history_changed(struct copy_history *h, uint64_t time_ns, bool exec)
{
    uint64_t *grown = list_grow(h->epochs, h->n_epochs, &h->room_epochs, MAX_EPOCHS, sizeof(*grown));

    if (grown)
        h->epochs = grown;
    else
        h->n_left_out++;
    if (!grown && (!exec || h->n_epochs == 0))
        return 0;
    for (size_t i = h->n_epochs; exec && i > 0 && time_ns < h->epochs[i - 1]; i--)
        h->epochs[i - 1] = time_ns;
    if (grown) {
        bool sooner = h->n_epochs > 0 && time_ns < h->epochs[h->n_epochs - 1];
        h->epochs[h->n_epochs] = sooner ? h->epochs[h->n_epochs - 1] : time_ns;
        h->n_epochs++;
    }
    return (uint32_t)h->n_epochs;
}

uint32_t copy_history_epoch(const struct copy_history *h, uint64_t time_ns)
{
    size_t low = 0, high = h->n_epochs;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (h->epochs[middle] <= time_ns)
            low = middle + 1;
        else
            high = middle;
    }
    return (uint32_t)low;
}
