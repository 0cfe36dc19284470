/* Owns the ring's mapping and its event. */
#include "daemon/notices.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>

#include "daemon/server.h"
#include "daemon/session.h"

struct notices {
    struct server *server;
    struct ring_buffer *ring;
    struct event *event;
};

static int notices_on_record(void *arg, void *data, size_t len)
{
    struct server *server = arg;
    const struct session_notice *notice = data;

    if (len < sizeof(*notice) || notice->slot >= CPROFD_MAX_SESSIONS)
        return 0;
    struct session *s = server->sessions[notice->slot];
    /* A late one of an earlier session in the slot is nobody's. */
    if (s && server->sampler.ctl[notice->slot].instance == notice->instance)
        session_notice(s, notice);
    return 0;
}

static void notices_on_event(evutil_socket_t fd, short what, void *arg)
{
    struct notices *n = arg;
    (void)ring_buffer__consume(n->ring);
}

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
    if (n->event)
        event_free(n->event);
    ring_buffer__free(n->ring);
    free(n);
}
