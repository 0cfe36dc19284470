/* One look at a target's declared profiles: its collector tells what is mapped, a worker reads the notes. Owns both until the request is answered or
 * its client has left. */
#include "daemon/custom_list.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/child.h"
#include "daemon/collector.h"
#include "daemon/http.h"
#include "daemon/kind.h"
#include "daemon/kind_custom.h"
#include "daemon/quota.h"
#include "daemon/server.h"
#include "daemon/watch.h"
#include "daemon/worker_pool.h"
#include "util/cleanup.h"
#include "util/clock.h"

/* For what the target may hold up, each time. */
#define CUSTOM_LIST_DEADLINE_NS (3 * NSEC_PER_SEC)

struct custom_list {
    struct server *server;
    struct http_request *request;
    struct collector_request collect;
    struct child *collector;
    struct worker_job *job;
    bool allowed;
    custom_listed listed;
};

static void list_free(struct custom_list *l)
{
    worker_job_cancel(l->job);
    child_kill(l->collector);
    free(l);
}

static void list_on_gone(struct http_request *request, void *userdata)
{
    list_free(userdata);
}

static void list_answer(struct custom_list *l, const struct custom_declared *declared)
{
    l->listed(l->server, l->request, l->collect.pid, declared);
    list_free(l);
}

static void list_answer_none(struct custom_list *l, const char *error)
{
    list_answer(l, &(struct custom_declared){.error = error});
}

/* ---- the worker, whose answer may be anything */

static void list_on_need(struct worker_job *job, const struct worker_message *need, void *userdata)
{
    struct custom_list *l = userdata;
    struct collector_message m = {.type = COLLECTOR_FILE, .u.file = *need};

    if (need->u.need.kind != WORKER_FILE_OBJECT || !l->collector || child_send(l->collector, &m, sizeof(m), NULL, 0) < 0)
        worker_job_file(job, -EPERM, -1);
    else
        child_set_deadline(l->collector, CUSTOM_LIST_DEADLINE_NS);
}

static void list_read(struct custom_list *l, const struct worker_result *result)
{
    struct custom_found found;
    AUTO_FREE struct profile_note *notes = calloc(CUSTOM_MAX_DECLARED, sizeof(*notes));

    if (!notes || pread(result->body_fd, &found, sizeof(found), 0) != sizeof(found) || found.n_notes > CUSTOM_MAX_DECLARED || found.n_sites > 0 ||
        pread(result->body_fd, notes, found.n_notes * sizeof(*notes), sizeof(found)) != (ssize_t)(found.n_notes * sizeof(*notes))) {
        list_answer_none(l, "the list could not be read");
        return;
    }
    for (uint32_t i = 0; i < found.n_notes; i++) {
        struct profile_note *n = &notes[i];
        n->name[sizeof(n->name) - 1] = n->description[sizeof(n->description) - 1] = n->unit[sizeof(n->unit) - 1] = '\0';
        if (!custom_name_is_usable(n->name)) {
            list_answer_none(l, "the list could not be read");
            return;
        }
    }
    list_answer(l, &(struct custom_declared){.notes = notes, .n = found.n_notes, .left_out = found.left_out + found.unread});
}

static void list_on_done(struct worker_job *job, const struct worker_result *result, void *userdata)
{
    struct custom_list *l = userdata;

    l->job = NULL;
    if (result->error)
        list_answer_none(l, result->message);
    else
        list_read(l, result);
}

static void list_on_mappings(struct custom_list *l, int fd)
{
    static const struct worker_job_ops ops = {.need = list_on_need, .done = list_on_done};
    const struct custom_request request = {.wish = CUSTOM_LIST};

    child_set_deadline(l->collector, 0);
    l->job = worker_pool_custom(l->server->pool, fd, &request, &ops, l);
    if (!l->job)
        list_answer_none(l, "too much to do: no worker is free to look for them");
}

/* ---- the collector */

static void list_on_message(struct child *c, const void *data, size_t len, int *fds, size_t n_fds, void *userdata)
{
    struct custom_list *l = userdata;
    const struct collector_message *m = data;
    bool whole = len == sizeof(*m);
    AUTO_CLOSE int fd = n_fds > 0 ? fds[0] : -1;

    for (size_t i = 1; i < n_fds; i++)
        (void)close(fds[i]);
    if (whole && m->type == COLLECTOR_DENIED) {
        http_reply_error(l->request, m->u.denied.status, "%s", m->u.denied.message);
        list_free(l);
    } else if (whole && m->type == COLLECTOR_READY) {
        l->allowed = true;
    } else if (whole && m->type == COLLECTOR_MAPPINGS && l->allowed && !l->job && fd >= 0) {
        list_on_mappings(l, TAKE_FD(fd));
    } else if (whole && m->type == COLLECTOR_FILE && l->job) {
        child_set_deadline(l->collector, 0);
        worker_job_file(l->job, m->u.file.u.file.error, TAKE_FD(fd));
    }
}

static void list_on_ended(struct child *c, bool timed_out, uint64_t cpu_ns, void *userdata)
{
    struct custom_list *l = userdata;

    l->collector = NULL;
    if (l->allowed) {
        list_answer_none(l, timed_out ? "what the process maps could not be read in time" : "the process that reads the target died");
        return;
    }
    http_reply_error(l->request, 503, timed_out ? "the process does not let itself be read: its memory lock is held (is it stuck?)"
                                                : "the process that reads the target died");
    list_free(l);
}

void custom_list(struct server *server, struct http_request *request, pid_t pid, custom_listed listed)
{
    static const struct child_ops ops = {.message = list_on_message, .ended = list_on_ended};
    const struct asker *asker = http_request_asker(request);
    char message[128];

    if (quota_check_child(asker, message, sizeof(message)) < 0) {
        http_reply_header(request, "Retry-After", "1");
        http_reply_error(request, 429, "%s", message);
        return;
    }
    struct custom_list *l = malloc(sizeof(*l));
    if (!l) {
        http_reply_error(request, 503, "no memory for another request");
        return;
    }
    *l = (struct custom_list){.server = server, .request = request, .listed = listed};
    l->collect = (struct collector_request){.settings = server->settings, .asker = *asker, .pid = pid, .mappings = true};
    if (child_spawn(server->base, collector_main, &l->collect, NULL, 0, CUSTOM_LIST_DEADLINE_NS, &ops, l, &l->collector) < 0) {
        http_reply_error(request, 503, "too much to do: no process could be started to look at the target");
        free(l);
        return;
    }
    quota_own_child(asker, l->collector);
    http_request_on_gone(request, list_on_gone, l);
}

/* ---- declared kinds that are not watched */

static void unwatched_answer(struct server *server, struct http_request *request, pid_t pid, const struct custom_declared *declared)
{
    const char *name = strstr(http_request_path(request), "/debug/pprof/") + sizeof("/debug/pprof/") - 1;
    const struct kind *kind = custom_kind(server->watches, name);
    char message[1024];

    for (size_t i = 0; kind && i < declared->n; i++) {
        if (strcmp(declared->notes[i].name, name) != 0)
            continue;
        watch_explain_none(server->watches, pid, kind, message, sizeof(message));
        http_reply_error(request, 409, "%s", message);
        return;
    }
    if (declared->error)
        http_reply_error(request, 503, "the profiles that process %d declares are not known: %s", pid, declared->error);
    else
        http_reply_error(request, 404, "Unknown profile: /pid/%d/debug/pprof/ lists those there are", pid);
}

void custom_answer_unwatched(struct server *server, struct http_request *request, pid_t pid, const struct session_params *params)
{
    custom_list(server, request, pid, unwatched_answer);
}
