/* A session that reads a watch. Who asks may be another than who watches: the target is checked for him, as it is now, and he sees
 * what its present image did. Owns nothing: the session does.
 *
 *   checked -> mappings so far (the recording's collector) -> still that image? -> counts so far -> rendered
 *
 * An exec between the check and the counts would show him an image that he was not checked for: then all is done again. */
#include <event2/event.h>
#include <unistd.h>

#include "daemon/child.h"
#include "daemon/http.h"
#include "daemon/quota.h"
#include "daemon/recording.h"
#include "daemon/server.h"
#include "daemon/session_impl.h"
#include "daemon/watch.h"
#include "util/cleanup.h"
#include "util/clock.h"

/* How long a target may hold up its check, and its mappings: what Parca's patience leaves beside them is the symbolizer's. */
#define SESSION_READ_CHECK_NS (2 * NSEC_PER_SEC)
#define SESSION_READ_TABLE_S 2
/* Of a target that executes one program after another. */
#define SESSION_READ_CHECKS 4

static void session_read_check(struct session *s);

void session_reading_deinit(struct session *s)
{
    struct session_reading *r = &s->reading;

    child_kill(r->checker);
    close_fd(&r->table_fd);
    if (r->run)
        watch_run_let_go(r->run);
}

static bool session_read_by_owner(const struct session *s)
{
    const struct asker *owner = recording_asker(session_recording(s));

    return s->asker.known && (s->asker.uid == 0 || (owner->known && owner->uid == s->asker.uid));
}

/* The image that was checked still runs? Where it does not, another check begins, or the request ends. */
static bool session_read_still(struct session *s)
{
    if (recording_exec_epoch(session_recording(s)) == s->reading.exec_epoch)
        return true;
    recording_view_free(TAKE_PTR(s->view));
    (void)event_del(s->timer);
    if (s->reading.n_checks < SESSION_READ_CHECKS)
        session_read_check(s);
    else
        session_error(s, 503, "the process executes one program after another: its profile can't be read in between");
    return false;
}

void session_read_on_table(void *userdata, int fd)
{
    AUTO_CLOSE int table_fd = fd;
    struct session *s = userdata;
    const struct image_access *all = recording_access(session_recording(s));

    (void)event_del(s->timer);
    if (!session_read_still(s))
        return;
    if (table_fd < 0 || !recording_is_open(session_recording(s))) {
        session_error(s, 503, "watching this process has just ended, or is being begun anew: ask again");
        return;
    }
    if (session_read_by_owner(s))
        s->reading.access = *all;
    else
        image_access_since(all, s->reading.exec_epoch, &s->reading.access);
    session_render(s, table_fd);
}

static void session_read_on_timer(evutil_socket_t fd, short what, void *arg)
{
    session_error(arg, 503, "the process does not let itself be read: its memory lock is held (is it stuck?)");
}

static void session_read_begin(struct session *s)
{
    struct timeval patience = {.tv_sec = SESSION_READ_TABLE_S};

    if (!session_read_still(s))
        return;
    if (!recording_is_open(session_recording(s))) {
        session_error(s, 503, "watching this process has just ended, or is being begun anew: ask again");
        return;
    }
    s->view = recording_view_new((struct recording *)watch_run_recording(s->reading.run), &session_view_ops, s);
    if (!s->view || recording_view_ask_table(s->view) < 0 || event_add(s->timer, &patience) < 0)
        session_error(s, s->view ? 503 : 429, "too much to do: others read the same watch");
}

static void session_read_on_message(struct child *c, const void *data, size_t len, int *fds, size_t n_fds, void *userdata)
{
    struct session *s = userdata;
    const struct collector_message *m = data;

    for (size_t i = 0; i < n_fds; i++)
        (void)close(fds[i]);
    if (len != sizeof(*m) || s->view)
        return;
    if (m->type == COLLECTOR_DENIED) {
        session_error(s, m->u.denied.status, m->u.denied.message);
    } else if (m->type == COLLECTOR_READY) {
        s->reading.target = m->u.ready;
        session_read_begin(s);
    }
}

static void session_read_on_ended(struct child *c, bool timed_out, uint64_t cpu_ns, void *userdata)
{
    struct session *s = userdata;

    s->reading.checker = NULL;
    if (s->reading.target.pid == 0)
        session_error(s, 503, timed_out ? "the process does not let itself be read: its memory lock is held (is it stuck?)"
                                        : "the process that looks at the target died");
}

static void session_read_check(struct session *s)
{
    static const struct child_ops ops = {.message = session_read_on_message, .ended = session_read_on_ended};
    struct session_reading *r = &s->reading;
    struct collector_request request = {.settings = s->server->settings, .asker = s->asker, .pid = s->pid};
    char message[128];

    r->n_checks++;
    r->target.pid = 0;
    r->exec_epoch = recording_exec_epoch(session_recording(s));
    child_kill(TAKE_PTR(r->checker));
    if (quota_check_child(&s->asker, message, sizeof(message)) < 0) {
        session_error(s, 429, message);
        return;
    }
    if (child_spawn(s->server->base, collector_main, &request, NULL, 0, SESSION_READ_CHECK_NS, &ops, s, &r->checker) < 0) {
        session_error(s, 503, "no process could be started to look at the target");
        return;
    }
    quota_own_child(&s->asker, r->checker);
}

void session_read(struct server *server, struct http_request *request, pid_t pid, const struct session_params *params, const char *kind,
                  struct watch_run *run)
{
    struct session *s = session_new(server, request, pid, params, kind, session_read_on_timer);

    if (!s)
        return;
    s->reading.run = run;
    watch_run_hold(run);
    session_read_check(s);
}
