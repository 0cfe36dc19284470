/* One thread at a time that works, and those that were given up. Owns the thread that waits for work. What is shared is counted, and goes
 * with the last who uses it: the caller, or a thread that comes back when the caller is gone. */
#include "daemon/patience.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <time.h>

#include "util/cleanup.h"

/* What opening a file takes of a stack, paths and a page of a file included, and much more. */
#define PATIENCE_STACK_BYTES (512u << 10)

/* A thread, and what it is asked. */
struct helper {
    pthread_mutex_t lock;
    pthread_cond_t asked, answered;
    struct patient_work *work; /* to be done; NULL: none, or it is done */
    bool left;                 /* nobody waits for it any more */
};

struct patience {
    struct helper *helper; /* NULL: none yet */
    uint64_t once_ns, left_ns;
};

static void helper_free(struct helper *h)
{
    (void)pthread_cond_destroy(&h->asked);
    (void)pthread_cond_destroy(&h->answered);
    (void)pthread_mutex_destroy(&h->lock);
    free(h);
}

/* Takes what there is to do; NULL: there will be nothing more. */
static struct patient_work *helper_take(struct helper *h)
{
    (void)pthread_mutex_lock(&h->lock);
    while (!h->work && !h->left)
        (void)pthread_cond_wait(&h->asked, &h->lock);
    struct patient_work *work = h->work;
    (void)pthread_mutex_unlock(&h->lock);
    return work;
}

/* The work is done. False where nobody waits for it: it is dropped. */
static bool helper_hand_over(struct helper *h, struct patient_work *work)
{
    (void)pthread_mutex_lock(&h->lock);
    bool left = h->left;
    h->work = NULL;
    (void)pthread_cond_signal(&h->answered);
    (void)pthread_mutex_unlock(&h->lock);
    if (left)
        work->drop(work);
    return !left;
}

static void *helper_main(void *arg)
{
    struct helper *h = arg;
    struct patient_work *work;

    do {
        work = helper_take(h);
        if (work)
            work->run(work);
    } while (work && helper_hand_over(h, work));
    helper_free(h);
    return NULL;
}

static int helper_start(struct helper *h)
{
    pthread_attr_t attributes;
    pthread_t thread;
    int r = pthread_attr_init(&attributes);

    if (r != 0)
        return -r;
    r = pthread_attr_setstacksize(&attributes, PATIENCE_STACK_BYTES);
    if (r == 0)
        r = pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    if (r == 0)
        r = pthread_create(&thread, &attributes, helper_main, h);
    (void)pthread_attr_destroy(&attributes);
    return -r;
}

static struct helper *helper_new(void)
{
    struct helper *h = calloc(1, sizeof(*h));
    pthread_condattr_t monotonic;

    if (!h)
        return NULL;
    (void)pthread_condattr_init(&monotonic); /* none of these can fail on Linux */
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_mutex_init(&h->lock, NULL);
    (void)pthread_cond_init(&h->asked, NULL);
    (void)pthread_cond_init(&h->answered, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    if (helper_start(h) < 0) {
        helper_free(h);
        return NULL;
    }
    return h;
}

/* It ends, and frees itself, once it has no work. */
static void helper_leave(struct helper *h)
{
    (void)pthread_mutex_lock(&h->lock);
    h->left = true;
    (void)pthread_cond_signal(&h->asked);
    (void)pthread_mutex_unlock(&h->lock);
}

struct patience *patience_new(uint64_t once_ns, uint64_t all_ns)
{
    struct patience *p = calloc(1, sizeof(*p));

    if (p)
        *p = (struct patience){.once_ns = once_ns, .left_ns = all_ns};
    return p;
}

void patience_free(struct patience *p)
{
    if (p && p->helper)
        helper_leave(p->helper);
    free(p);
}

/* Waits until the work is done. False where it takes too long: nobody waits for it then. */
static bool helper_wait(struct helper *h, struct patient_work *work, uint64_t ns)
{
    struct timespec until = monotonic_timespec(monotonic_ns() + ns);
    int r = 0;

    (void)pthread_mutex_lock(&h->lock);
    h->work = work;
    (void)pthread_cond_signal(&h->asked);
    while (h->work && r == 0)
        r = pthread_cond_timedwait(&h->answered, &h->lock, &until);
    bool done = !h->work;
    h->left = !done;
    (void)pthread_mutex_unlock(&h->lock);
    return done;
}

int patience_run(struct patience *p, struct patient_work *work)
{
    uint64_t wait_ns = p->once_ns < p->left_ns ? p->once_ns : p->left_ns;

    if (wait_ns == 0) {
        work->drop(work);
        return -ETIMEDOUT;
    }
    if (!p->helper)
        p->helper = helper_new();
    if (!p->helper)
        return -EAGAIN;
    if (helper_wait(p->helper, work, wait_ns))
        return 0;
    p->left_ns -= wait_ns;
    p->helper = NULL;
    return -ETIMEDOUT;
}
