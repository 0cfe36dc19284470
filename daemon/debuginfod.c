/* The questions that are open, and who waits for them. Owns both; the clients are debuginfod_slots.c's. */
#include "daemon/debuginfod.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/debug_files.h"
#include "daemon/debuginfod_impl.h"
#include "daemon/log.h"
#include "util/cleanup.h"
#include "util/clock.h"

/* How long the cache may take, which answers at once unless its client has to be started. */
#define DEBUGINFOD_CACHE_NS NSEC_PER_SEC

/* ---- who waits */

static void wait_free(struct debuginfod_wait *w)
{
    TAILQ_REMOVE(&w->fetch->waits, w, link);
    if (w->timer)
        event_free(w->timer);
    free(w);
}

/* fd stays the caller's. */
static void wait_tell(struct debuginfod_wait *w, int error, int fd)
{
    struct debuginfod_stats *stats = &w->d->stats;
    debuginfod_done done = w->done;
    void *userdata = w->userdata;
    int copy = error == 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;

    if (error == 0 && copy < 0)
        error = -EAGAIN;
    *(error == 0 ? &stats->found : error == -ENOENT ? &stats->absent : error == -EAGAIN ? &stats->late : &stats->failed) += 1;
    wait_free(w);
    done(error, copy, userdata);
}

static void wait_on_timer(evutil_socket_t fd, short what, void *arg)
{
    wait_tell(arg, -EAGAIN, -1);
}

static void wait_begin(struct debuginfod_wait *w, uint64_t ns)
{
    struct timeval tv = {.tv_sec = (time_t)(ns / NSEC_PER_SEC), .tv_usec = (suseconds_t)(ns % NSEC_PER_SEC / 1000)};
    (void)event_add(w->timer, &tv);
}

void debuginfod_set_user(struct debuginfod_wait *w, void *userdata)
{
    w->userdata = userdata;
}

void debuginfod_cancel(struct debuginfod_wait *w)
{
    if (w)
        wait_free(w);
}

/* ---- questions */

static struct fetch *fetch_find(const struct debuginfod *d, const char *build_id)
{
    struct fetch *f;

    TAILQ_FOREACH(f, &d->fetches, link)
        if (strcmp(f->build_id, build_id) == 0)
            return f;
    return NULL;
}

static struct fetch *fetch_new(struct debuginfod *d, const char *build_id)
{
    struct fetch *f = d->n_fetches < DEBUGINFOD_MAX_FETCHES ? calloc(1, sizeof(*f)) : NULL;

    if (!f)
        return NULL;
    strcpy(f->build_id, build_id);
    TAILQ_INIT(&f->waits);
    TAILQ_INSERT_TAIL(&d->fetches, f, link);
    d->n_fetches++;
    return f;
}

void fetch_finish(struct debuginfod *d, struct fetch *f, int error, int fd)
{
    struct debuginfod_wait *w;

    TAILQ_REMOVE(&d->fetches, f, link);
    d->n_fetches--;
    while ((w = TAILQ_FIRST(&f->waits)))
        wait_tell(w, error, fd);
    free(f);
}

/* Who is told may cancel others' waits, or ask anew: the list is begun again after each. */
void fetch_queue(struct debuginfod *d, struct fetch *f)
{
    bool stuck = slots_are_stuck(d);
    struct debuginfod_wait *w;

    f->stage = FETCH_QUEUED;
    debuginfod_wake(d);
    if (!servers_left(d, f)) {
        (void)servers_choose(d, f); /* counts whom it does without */
        fetch_finish(d, f, fetch_error(f), -1);
        return;
    }
    TAILQ_FOREACH(w, &f->waits, link)
        wait_begin(w, w->wait_ns);
    while ((w = TAILQ_FIRST(&f->waits)) && (stuck || w->wait_ns == 0))
        wait_tell(w, -EAGAIN, -1);
}

void debuginfod_finish_all(struct debuginfod *d, int error)
{
    struct fetch *f;

    while ((f = TAILQ_FIRST(&d->fetches)))
        fetch_finish(d, f, error, -1);
}

void debuginfod_wake(struct debuginfod *d)
{
    event_active(d->pump, EV_TIMEOUT, 0);
}

static void debuginfod_on_pump(evutil_socket_t fd, short what, void *arg)
{
    slots_pump(arg);
}

static int debuginfod_refuse(struct debuginfod *d, int error)
{
    if (error == -EAGAIN)
        d->stats.late++;
    else if (error == -ELIBACC)
        d->stats.failed++;
    return error;
}

int debuginfod_ask(struct debuginfod *d, const char *build_id, uint64_t wait_ns, debuginfod_done done, void *userdata,
                   struct debuginfod_wait **ret)
{
    if (d->n_servers == 0)
        return -ENOSYS;
    if (d->unusable)
        return debuginfod_refuse(d, -ELIBACC);
    if (!debug_file_is_build_id(build_id))
        return -EINVAL;
    struct fetch *f = fetch_find(d, build_id);
    bool begun = f && f->stage >= FETCH_QUEUED;
    bool hopeless = begun ? wait_ns == 0 || slots_are_stuck(d) : slots_cache_is_stuck(d);
    f = f ? f : fetch_new(d, build_id);
    debuginfod_wake(d);
    struct debuginfod_wait *w = f && !hopeless ? calloc(1, sizeof(*w)) : NULL;
    if (!w)
        return debuginfod_refuse(d, -EAGAIN);
    *w = (struct debuginfod_wait){.d = d, .fetch = f, .wait_ns = wait_ns, .done = done, .userdata = userdata};
    TAILQ_INSERT_TAIL(&f->waits, w, link);
    w->timer = evtimer_new(d->base, wait_on_timer, w);
    if (!w->timer) {
        wait_free(w);
        return debuginfod_refuse(d, -EAGAIN);
    }
    wait_begin(w, begun ? wait_ns : wait_ns + DEBUGINFOD_CACHE_NS);
    *ret = w;
    return 0;
}

/* ---- life */

static void debuginfod_forget_settings(struct debuginfod *d)
{
    servers_deinit(d);
    free((char *)d->command.urls);
    free((char *)d->command.cache);
    d->command.urls = d->command.cache = NULL;
}

/* The URLs in one string, separated by blanks. NULL when memory is short. */
static char *debuginfod_join(const struct settings_list *urls)
{
    size_t len = 1;

    for (size_t i = 0; i < urls->n; i++)
        len += strlen(urls->item[i]) + 1;
    char *text = calloc(1, len);
    for (size_t i = 0; text && i < urls->n; i++) {
        if (i > 0)
            strcat(text, " ");
        strcat(text, urls->item[i]);
    }
    return text;
}

static int debuginfod_take_settings(struct debuginfod *d, const struct settings *s)
{
    d->wait_ns = (uint64_t)(s->debuginfod_wait_seconds * (double)NSEC_PER_SEC);
    d->command.timeout_seconds = (uint64_t)(s->debuginfod_timeout_seconds + 0.5);
    d->command.file_bytes = s->debuginfod_file_bytes;
    d->command.cache_bytes = s->debuginfod_cache_bytes;
    d->command.urls = debuginfod_join(&s->debuginfod_urls);
    d->command.cache = strdup(s->debuginfod_cache);
    int r = d->command.urls && d->command.cache ? servers_init(d, &s->debuginfod_urls) : -ENOMEM;
    if (r < 0)
        debuginfod_forget_settings(d);
    return r;
}

void debuginfod_stop(struct debuginfod *d)
{
    if (!d)
        return;
    slots_kill(d);
    d->unusable = true;
    debuginfod_finish_all(d, -ELIBACC);
}

int debuginfod_set(struct debuginfod *d, const struct settings *settings)
{
    slots_kill(d);
    debuginfod_finish_all(d, -EAGAIN);
    debuginfod_forget_settings(d);
    d->unusable = d->told = false;
    int r = debuginfod_take_settings(d, settings);
    if (r == 0 && d->n_servers > 0) {
        log_info("debug files that are not here are fetched: build IDs of what is profiled go to %s", d->command.urls);
        slots_begin(d);
    }
    return r;
}

int debuginfod_new(struct event_base *base, const struct settings *settings, const char *executable, struct debuginfod **ret)
{
    struct debuginfod *d = calloc(1, sizeof(*d));

    if (!d)
        return -ENOMEM;
    *d = (struct debuginfod){.base = base, .command.executable = executable};
    TAILQ_INIT(&d->fetches);
    for (size_t i = 0; i < DEBUGINFOD_SLOTS; i++)
        d->slots[i].d = d;
    d->pump = event_new(base, -1, 0, debuginfod_on_pump, d);
    int r = d->pump ? debuginfod_set(d, settings) : -ENOMEM;
    if (r < 0) {
        debuginfod_free(d);
        return r;
    }
    *ret = d;
    return 0;
}

void debuginfod_free(struct debuginfod *d)
{
    struct fetch *f;

    if (!d)
        return;
    slots_kill(d);
    TAILQ_FOREACH(f, &d->fetches, link)
        assert(TAILQ_EMPTY(&f->waits));
    debuginfod_finish_all(d, -EAGAIN);
    debuginfod_forget_settings(d);
    if (d->pump)
        event_free(d->pump);
    free(d);
}

uint64_t debuginfod_wait_ns(const struct debuginfod *d)
{
    return d->wait_ns;
}

void debuginfod_stats(const struct debuginfod *d, struct debuginfod_stats *ret)
{
    *ret = d->stats;
}
