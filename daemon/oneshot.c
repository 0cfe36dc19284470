/* Owns the child of each such request until it is answered or its client has left. */
#include "daemon/oneshot.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/collector.h"
#include "daemon/http.h"
#include "daemon/quota.h"
#include "daemon/server.h"
#include "util/clock.h"

/* What it reads may hang on the target. */
#define ONESHOT_DEADLINE_NS (3 * NSEC_PER_SEC)

struct oneshot {
    struct server *server;
    struct http_request *request;
    struct collector_request collect;
    struct child *child;
    oneshot_body body;       /* one of these two */
    oneshot_allowed allowed;
};

static void oneshot_free(struct oneshot *o)
{
    child_kill(o->child);
    free(o);
}

static void oneshot_on_gone(struct http_request *request, void *userdata)
{
    oneshot_free(userdata);
}

static void oneshot_on_body(struct oneshot *o, int fd)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        http_reply_error(o->request, 503, "the answer could not be read");
    else
        o->body(o->server, o->request, fd, (uint64_t)st.st_size);
    oneshot_free(o);
}

static void oneshot_on_message(struct child *c, const void *data, size_t len, int *fds, size_t n_fds, void *userdata)
{
    struct oneshot *o = userdata;
    const struct collector_message *m = data;
    bool whole = len == sizeof(*m);

    if (whole && m->type == COLLECTOR_DENIED) {
        http_reply_error(o->request, m->u.denied.status, "%s", m->u.denied.message);
        oneshot_free(o);
    } else if (whole && m->type == COLLECTOR_READY && o->allowed) {
        o->allowed(o->server, o->request, o->collect.pid);
        oneshot_free(o);
    } else if (whole && m->type == COLLECTOR_TABLE && n_fds == 1 && o->body) {
        oneshot_on_body(o, fds[0]);
    }
    for (size_t i = 0; i < n_fds; i++)
        (void)close(fds[i]);
}

static void oneshot_on_ended(struct child *c, bool timed_out, uint64_t cpu_ns, void *userdata)
{
    struct oneshot *o = userdata;

    o->child = NULL;
    if (timed_out && o->collect.pid == 0)
        http_reply_error(o->request, 503, "the list of processes took too long");
    else if (timed_out)
        http_reply_error(o->request, 503, "the process does not let itself be read: its memory lock is held (is it stuck?)");
    else
        http_reply_error(o->request, 503, "the process that reads the target died");
    oneshot_free(o);
}

static void oneshot_spawn(const struct oneshot *like, pid_t pid, child_fn fn)
{
    static const struct child_ops ops = {.message = oneshot_on_message, .ended = oneshot_on_ended};
    char message[128];

    if (quota_check_child(http_request_asker(like->request), message, sizeof(message)) < 0) {
        http_reply_header(like->request, "Retry-After", "1");
        http_reply_error(like->request, 429, "%s", message);
        return;
    }
    struct oneshot *o = malloc(sizeof(*o));
    if (!o) {
        http_reply_error(like->request, 503, "no memory for another request");
        return;
    }
    *o = *like;
    o->collect = (struct collector_request){.settings = o->server->settings, .asker = *http_request_asker(o->request), .pid = pid};
    if (child_spawn(o->server->base, fn, &o->collect, NULL, 0, ONESHOT_DEADLINE_NS, &ops, o, &o->child) < 0) {
        http_reply_error(o->request, 503, "too much to do: no process could be started to look at the target");
        free(o);
        return;
    }
    quota_own_child(&o->collect.asker, o->child);
    http_request_on_gone(o->request, oneshot_on_gone, o);
}

void oneshot_start(struct server *server, struct http_request *request, pid_t pid, child_fn fn, oneshot_body body)
{
    oneshot_spawn(&(struct oneshot){.server = server, .request = request, .body = body}, pid, fn);
}

void oneshot_check(struct server *server, struct http_request *request, pid_t pid, oneshot_allowed allowed)
{
    oneshot_spawn(&(struct oneshot){.server = server, .request = request, .allowed = allowed}, pid, collector_main);
}
