/* Reads and drops what clients still send to connections that were answered and closed early: a request that is too long, say. To
 * close with unread bytes resets the connection, and the client may never see what was wrong with it.
 *
 * Owns a copy of each such connection's fd for a short while. */
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/http_internal.h"
#include "util/cleanup.h"

#define LINGER_MAX 32
#define LINGER_MAX_BYTES (4 * 1024 * 1024)
#define LINGER_SECONDS 2

struct http_linger {
    TAILQ_ENTRY(http_linger) next;
    struct http_server *server;
    struct event *readable, *deadline;
    size_t dropped;
    int fd;
};

static void linger_free(struct http_linger *l)
{
    TAILQ_REMOVE(&l->server->lingers, l, next);
    l->server->n_lingers--;
    if (l->readable)
        event_free(l->readable);
    if (l->deadline)
        event_free(l->deadline);
    close_fd(&l->fd);
    free(l);
}

static void linger_read(evutil_socket_t fd, short what, void *arg)
{
    struct http_linger *l = arg;
    char unread[16384];
    ssize_t n = recv(fd, unread, sizeof(unread), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    l->dropped += n > 0 ? (size_t)n : 0;
    if (n <= 0 || l->dropped > LINGER_MAX_BYTES)
        linger_free(l);
}

static void linger_deadline(evutil_socket_t fd, short what, void *arg)
{
    linger_free(arg);
}

void http_linger_start(struct http_server *server, int fd)
{
    const struct timeval tv = {.tv_sec = LINGER_SECONDS};
    struct http_linger *l = server->n_lingers < LINGER_MAX ? calloc(1, sizeof(*l)) : NULL;
    if (!l)
        return; /* the connection is reset, then */
    l->server = server;
    TAILQ_INSERT_TAIL(&server->lingers, l, next);
    server->n_lingers++;
    l->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    l->readable = event_new(server->base, l->fd, EV_READ | EV_PERSIST, linger_read, l);
    l->deadline = evtimer_new(server->base, linger_deadline, l);
    if (l->fd < 0 || !l->readable || !l->deadline || event_add(l->readable, NULL) < 0 || event_add(l->deadline, &tv) < 0)
        linger_free(l);
}

void http_linger_stop(struct http_server *server)
{
    struct http_linger *l;
    while ((l = TAILQ_FIRST(&server->lingers)))
        linger_free(l);
}
