/* The life of watches. Owns them, and through them their runs. */
#include "daemon/watch.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/kind.h"
#include "daemon/log.h"
#include "daemon/recording.h"
#include "daemon/server.h"
#include "daemon/watch_impl.h"
#include "util/cleanup.h"
#include "util/clock.h"

/* ---- the list */

struct watch *watch_find(struct watches *ws, pid_t pid, const struct kind *kind)
{
    struct watch *w;

    TAILQ_FOREACH(w, &ws->all, link)
        if (w->pid == pid && w->kind == kind_watched(kind))
            return w;
    return NULL;
}

struct watch *watch_next(struct watches *ws, pid_t pid, const struct watch *after)
{
    struct watch *w = after ? TAILQ_NEXT(after, link) : TAILQ_FIRST(&ws->all);

    while (w && pid != 0 && w->pid != pid)
        w = TAILQ_NEXT(w, link);
    return w;
}

static void watch_free(struct watch *w)
{
    TAILQ_REMOVE(&w->watches->all, w, link);
    w->watches->n--;
    if (w->again)
        event_free(w->again);
    free(w);
}

void watch_end(struct watch *w, const char *how)
{
    struct watch_run *run = w->run, *next = w->next;

    watch_free(w);
    watch_run_retire(run, how);
    if (next)
        watch_run_retire(next, how);
}

/* ---- runs */

int watch_begin(struct watches *ws, const struct watch_order *order, watch_told told, void *userdata, struct watch_run **ret, char *message,
                size_t message_len)
{
    struct watch *place = calloc(1, sizeof(*place));
    int status = place ? watch_run_new(ws, order, told, userdata, ret, message, message_len) : 503;

    if (!place)
        (void)snprintf(message, message_len, "no memory for another watch");
    if (status) {
        free(place);
        return status;
    }
    (*ret)->place = place;
    (*ret)->aside = true;
    return 0;
}

void watch_drop(struct watch_run *run)
{
    assert(!run->watch);
    watch_run_retire(run, "what was asked for with it could not be begun");
}

static struct watch *watch_new(struct watch_run *run)
{
    struct watch *w = TAKE_PTR(run->place);

    *w = (struct watch){.watches = run->watches, .pid = run->pid, .kind = run->wish.kind};
    TAILQ_INSERT_TAIL(&w->watches->all, w, link);
    w->watches->n++;
    return w;
}

bool watch_can_commit(const struct watch_run *run)
{
    return recording_is_open(run->recording);
}

void watch_commit(struct watch_run *run)
{
    static const char other[] = "other parameters were asked for";
    struct watch *w = watch_find(run->watches, run->pid, run->wish.kind);
    struct watch_run *before = w ? w->run : NULL;

    assert(watch_can_commit(run));
    if (!w)
        w = watch_new(run);
    w->run = run;
    run->watch = w;
    run->aside = false;
    watch_forget_past(run->watches, run->pid, run->wish.kind);
    if (!before)
        return;
    if (w->next)
        watch_run_retire(TAKE_PTR(w->next), other);
    if (w->again)
        (void)event_del(w->again);
    w->n_tries = 0;
    (void)snprintf(run->anew, sizeof(run->anew), "%s", other);
    watch_run_retire(before, other);
}

/* ---- begun anew */

static void watch_on_again_told(struct watch_run *run, int status, const char *message, void *userdata)
{
    struct watch *w = userdata;
    struct watch_run *before = w->run;
    char why[WATCH_WHY_LEN];

    w->next = NULL;
    if (status) {
        (void)snprintf(why, sizeof(why), "%s", message); /* it may be the run's */
        watch_run_retire(run, NULL);
        watch_run_ended(w, why, status != 503 && status != 429);
        return;
    }
    run->watch = w;
    w->run = run;
    (void)snprintf(run->anew, sizeof(run->anew), "%s", before->anew);
    watch_run_retire(before, NULL);
}

static void watch_on_again(evutil_socket_t fd, short what, void *arg)
{
    struct watch *w = arg;
    const struct watch_order order = {.asker = &w->run->asker, .rule = w->run->rule, .pid = w->pid, .wish = &w->run->wish};
    char message[1024];

    int status = watch_run_new(w->watches, &order, watch_on_again_told, w, &w->next, message, sizeof(message));
    if (status)
        watch_run_ended(w, message, status != 503 && status != 429);
}

/* Later, and not for ever. */
static int watch_try_again(struct watch *w, const char *how)
{
    if (w->run->since_ns && realtime_ns() - w->run->since_ns > WATCH_SETTLED_NS)
        w->n_tries = 0;
    if (w->n_tries == WATCH_MAX_TRIES)
        return -ETIMEDOUT;
    struct timeval pause = {.tv_sec = WATCH_AGAIN_S << w->n_tries++};
    if (!w->again)
        w->again = evtimer_new(w->watches->server->base, watch_on_again, w);
    if (!w->again || event_add(w->again, &pause) < 0)
        return -ENOMEM;
    (void)snprintf(w->run->anew, sizeof(w->run->anew), "%s", how);
    return 0;
}

void watch_run_ended(struct watch *w, const char *how, bool for_good)
{
    if (!for_good && watch_try_again(w, how) == 0) {
        log_warning("%s of process %d is watched anew: %s", w->kind->name, w->pid, how);
        return;
    }
    if (!recording_target_exited(w->run->recording))
        watch_remember(w->watches, w, how);
    watch_end(w, NULL);
}

struct watch_run *watch_current(const struct watch *w)
{
    return w->next || (w->again && event_pending(w->again, EV_TIMEOUT, NULL)) || w->run->over ? NULL : w->run;
}

/* ---- who */

bool watch_is_of(const struct watch *w, const struct asker *asker)
{
    const struct asker *first = &w->run->asker;

    if (asker->known && asker->uid == 0)
        return true;
    return !w->run->rule && asker->known == first->known && (!asker->known || asker->uid == first->uid);
}

const struct recording *watch_recording(const struct watch *w)
{
    return w->run->recording;
}

uint64_t watch_mark(const struct watch *w)
{
    return w->mark;
}

void watch_set_mark(struct watch *w, uint64_t mark)
{
    w->mark = mark;
}

const char *watch_rule(const struct watch *w)
{
    return w->run->rule;
}

const struct watch_wish *watch_wish(const struct watch *w)
{
    return &w->run->wish;
}

pid_t watch_pid(const struct watch *w)
{
    return w->pid;
}

/* ---- life */

int watches_new(struct server *server, struct watches **ret)
{
    struct watches *ws = calloc(1, sizeof(*ws));

    if (!ws)
        return -ENOMEM;
    ws->server = server;
    TAILQ_INIT(&ws->all);
    TAILQ_INIT(&ws->runs);
    *ret = ws;
    return 0;
}

void watches_free(struct watches *ws)
{
    struct watch *w;
    struct watch_run *run;

    if (!ws)
        return;
    while ((w = TAILQ_FIRST(&ws->all)))
        watch_free(w);
    while ((run = TAILQ_FIRST(&ws->runs)))
        watch_run_stop(run);
    free(ws);
}

size_t watches_count(const struct watches *ws)
{
    return ws->n;
}
