/* Owns the ring's mapping, the watch of code and their events. */
#include "daemon/notices.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

#include "bpf/code_watch.h"
#include "daemon/log.h"
#include "daemon/server.h"
#include "daemon/recording.h"

/* A host that starts thousands of programs a second wakes the loop this often at most. */
#define NOTICES_CODE_PAUSE_US 1000

struct notices {
    struct server *server;
    struct ring_buffer *ring;
    struct event *event;
    unsigned watchers;
    struct code_watch *code; /* while watched; NULL where the kernel does not let us */
    struct event **code_events;
    size_t n_code_events;
    struct event *code_pause;
};

/* ---- the ring */

static int notices_on_record(void *arg, void *data, size_t len)
{
    struct server *server = arg;
    const struct session_notice *notice = data;

    if (len < sizeof(*notice) || notice->slot >= CPROFD_MAX_SESSIONS)
        return 0;
    struct recording *rec = server->recordings[notice->slot];
    /* A late one of an earlier recording in the slot is nobody's. */
    if (rec && server->sampler.ctl[notice->slot].instance == notice->instance)
        recording_notice(rec, notice);
    return 0;
}

static void notices_on_event(evutil_socket_t fd, short what, void *arg)
{
    struct notices *n = arg;
    (void)ring_buffer__consume(n->ring);
}

/* ---- new code */

static void notices_on_code(const struct new_code *code, void *userdata)
{
    struct notices *n = userdata;

    for (size_t i = 0; i < CPROFD_MAX_SESSIONS; i++) {
        struct recording *rec = n->server->recordings[i];
        if (rec && (code->pid == 0 || recording_pid(rec) == code->pid))
            recording_new_code(rec, code);
    }
}

static void notices_on_code_event(evutil_socket_t fd, short what, void *arg)
{
    struct notices *n = arg;
    struct timeval pause = {.tv_usec = NOTICES_CODE_PAUSE_US};

    code_watch_read(n->code);
    for (size_t i = 0; i < n->n_code_events; i++)
        (void)event_del(n->code_events[i]);
    (void)event_add(n->code_pause, &pause);
}

static void notices_on_code_pause(evutil_socket_t fd, short what, void *arg)
{
    struct notices *n = arg;

    for (size_t i = 0; i < n->n_code_events; i++)
        (void)event_add(n->code_events[i], NULL);
}

static void notices_unwatch_code(struct notices *n)
{
    for (size_t i = 0; i < n->n_code_events; i++)
        event_free(n->code_events[i]);
    free(n->code_events);
    n->code_events = NULL;
    n->n_code_events = 0;
    if (n->code_pause)
        event_free(n->code_pause);
    n->code_pause = NULL;
    code_watch_free(n->code);
    n->code = NULL;
}

static int notices_watch_code(struct notices *n)
{
    size_t room = 0;
    int r = code_watch_new(notices_on_code, n, &n->code);
    if (r < 0)
        return r;
    while (code_watch_fd(n->code, room) >= 0)
        room++;
    n->code_events = calloc(room, sizeof(struct event *));
    n->code_pause = evtimer_new(n->server->base, notices_on_code_pause, n);
    if (!n->code_events || !n->code_pause)
        return -ENOMEM;
    for (; n->n_code_events < room; n->n_code_events++) {
        struct event *e = event_new(n->server->base, code_watch_fd(n->code, n->n_code_events), EV_READ | EV_PERSIST,
                                    notices_on_code_event, n);
        if (!e)
            return -ENOMEM;
        n->code_events[n->n_code_events] = e;
        if (event_add(e, NULL) < 0)
            return -ENOMEM;
    }
    return 0;
}

int notices_watch(struct notices *n)
{
    int r = sampler_watch(&n->server->sampler);
    if (r < 0)
        return r;
    if (n->watchers++ > 0)
        return 0;
    r = notices_watch_code(n);
    if (r < 0) {
        /* Sessions go on: a library that takes another's place unseen is then found only where their sizes differ. */
        log_warning("new code can't be watched as it is mapped: %s", strerror(-r));
        notices_unwatch_code(n);
    }
    return 0;
}

void notices_unwatch(struct notices *n)
{
    sampler_unwatch(&n->server->sampler);
    if (--n->watchers == 0)
        notices_unwatch_code(n);
}

/* ---- life */

int notices_new(struct server *server, struct notices **ret)
{
    struct notices *n = calloc(1, sizeof(*n));
    if (!n)
        return -ENOMEM;
    n->server = server;
    n->ring = ring_buffer__new(server->sampler.notices_map, notices_on_record, server, NULL);
    if (n->ring)
        n->event = event_new(server->base, ring_buffer__epoll_fd(n->ring), EV_READ | EV_PERSIST, notices_on_event, n);
    if (!n->event || event_add(n->event, NULL) < 0) {
        notices_free(n);
        return -ENOMEM;
    }
    *ret = n;
    return 0;
}

void notices_free(struct notices *n)
{
    if (!n)
        return;
    notices_unwatch_code(n);
    if (n->event)
        event_free(n->event);
    ring_buffer__free(n->ring);
    free(n);
}
