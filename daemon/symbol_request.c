/* A collector for the mappings and files, a worker for the names. Owns both until the answer. */
#include "daemon/symbol_request.h"

#include <ctype.h>
#include <errno.h>
#include <event2/buffer.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/afterwork.h"
#include "daemon/child.h"
#include "daemon/collector.h"
#include "daemon/debuginfod.h"
#include "daemon/http.h"
#include "daemon/quota.h"
#include "daemon/raw_profile.h"
#include "daemon/reply_due.h"
#include "daemon/server.h"
#include "daemon/worker_pool.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define SYMBOL_DEADLINE_NS (5 * NSEC_PER_SEC)
#define SYMBOL_MAX_ADDRESSES 100000

struct symbol_request {
    struct server *server;
    struct http_request *request;
    struct collector_request collect;
    struct child *collector;
    struct worker_job *job;
    uint64_t request_ns, key;
    struct debuginfod_asker debuginfod;
    uint64_t *addresses;
    size_t n_addresses;
};

static void symbol_free(struct symbol_request *q)
{
    child_kill(q->collector);
    worker_job_cancel(q->job);
    debuginfod_asker_deinit(&q->debuginfod);
    free(q->addresses);
    free(q);
}

static void symbol_error(struct symbol_request *q, int status, const char *message)
{
    http_reply_error(q->request, status, "%s", message);
    symbol_free(q);
}

static void symbol_on_gone(struct http_request *request, void *userdata)
{
    symbol_free(userdata);
}

/* As Go's handler reads them: numbers joined by '+', what is no number left out. */
static int symbol_parse(struct symbol_request *q, const char *text)
{
    while (*text) {
        char *end;
        errno = 0;
        uint64_t address = strtoull(text, &end, 0);
        bool number = isdigit((unsigned char)*text) && (*end == '+' || *end == '\0' || isspace((unsigned char)*end)) && errno == 0;
        if (number && q->n_addresses == SYMBOL_MAX_ADDRESSES)
            return -E2BIG;
        if (number && address)
            q->addresses[q->n_addresses++] = address;
        q->collect.kernel = q->collect.kernel || (number && address >= RAW_KERNEL_HALF);
        text += strcspn(text, "+");
        text += *text == '+';
    }
    return 0;
}

static int symbol_read_addresses(struct symbol_request *q)
{
    q->addresses = calloc(SYMBOL_MAX_ADDRESSES, sizeof(*q->addresses));
    if (!q->addresses)
        return -ENOMEM;
    if (http_request_method(q->request) != HTTP_POST)
        return symbol_parse(q, http_request_raw_query(q->request));
    struct evbuffer *body = http_request_body(q->request);
    size_t len = evbuffer_get_length(body);
    AUTO_FREE char *text = malloc(len + 1);
    if (!text)
        return -ENOMEM;
    (void)evbuffer_copyout(body, text, len);
    text[len] = '\0';
    return symbol_parse(q, text);
}

/* ---- the worker */

static void symbol_on_need(struct worker_job *job, const struct worker_message *need, void *userdata)
{
    struct symbol_request *q = userdata;
    struct collector_message m = {.type = COLLECTOR_FILE, .u.file = *need};

    if (debuginfod_asker_need(&q->debuginfod, job, need))
        return;
    if (!q->collector || child_send(q->collector, &m, sizeof(m), NULL, 0) < 0)
        worker_job_file(job, -ESRCH, -1);
    else
        child_set_deadline(q->collector, SYMBOL_DEADLINE_NS);
}

static void symbol_on_done(struct worker_job *job, const struct worker_result *result, void *userdata)
{
    struct symbol_request *q = userdata;

    q->job = NULL;
    if (result->more)
        afterwork_begin(job, TAKE_PTR(q->collector), &q->debuginfod);
    if (result->error) {
        symbol_error(q, 503, result->message);
        return;
    }
    http_reply_fd(q->request, 200, "text/plain; charset=utf-8", result->body_fd, result->body.offset, result->body.len);
    symbol_free(q);
}

static int symbol_raw(const struct symbol_request *q, int table_fd)
{
    CLEANUP(raw_writer_cleanup) struct raw_writer *w = raw_writer_new();
    struct raw_params params = {.format = RAW_FORMAT_SYMBOL, .pid = (uint32_t)q->collect.pid};
    int r = w ? raw_writer_section(w, RAW_PARAMS, &params, sizeof(params)) : -ENOMEM;

    r = r ? r : raw_writer_section(w, RAW_ADDRESSES, q->addresses, q->n_addresses * sizeof(*q->addresses));
    r = r ? r : raw_writer_append(w, table_fd);
    return r ? r : raw_writer_finish(w);
}

/* ---- the collector */

static void symbol_on_table(struct symbol_request *q, int table_fd)
{
    static const struct worker_job_ops ops = {.need = symbol_on_need, .done = symbol_on_done};
    struct worker_due due = {.key = q->key, .deadline_ns = reply_due_ns(q->request_ns, 0, q->request_ns)};
    int raw_fd = symbol_raw(q, table_fd);

    child_set_deadline(q->collector, 0);
    debuginfod_asker_init(&q->debuginfod, q->server->debuginfod);
    if (raw_fd >= 0)
        q->job = worker_pool_render(q->server->pool, raw_fd, &due, &ops, q);
    if (!q->job)
        symbol_error(q, 503, "too much to do: no worker is free to look the names up");
}

static void symbol_on_file(struct symbol_request *q, int error, int fd)
{
    child_set_deadline(q->collector, 0);
    worker_job_file(q->job, error, fd);
}

static void symbol_on_message(struct child *c, const void *data, size_t len, int *fds, size_t n_fds, void *userdata)
{
    struct symbol_request *q = userdata;
    const struct collector_message *m = data;
    struct collector_message finish = {.type = COLLECTOR_FINISH};
    AUTO_CLOSE int fd = n_fds > 0 ? fds[0] : -1;

    if (len != sizeof(*m))
        return;
    if (m->type == COLLECTOR_READY) {
        q->key = reply_key(&m->u.ready);
        (void)child_send(c, &finish, sizeof(finish), NULL, 0); /* where it is gone, its end is told */
    } else if (m->type == COLLECTOR_DENIED) {
        symbol_error(q, m->u.denied.status, m->u.denied.message);
    } else if (m->type == COLLECTOR_TABLE && fd >= 0 && !q->job) {
        symbol_on_table(q, fd);
    } else if (m->type == COLLECTOR_FILE && q->job) {
        symbol_on_file(q, m->u.file.u.file.error, TAKE_FD(fd));
    }
}

static void symbol_on_ended(struct child *c, bool timed_out, uint64_t cpu_ns, void *userdata)
{
    struct symbol_request *q = userdata;

    q->collector = NULL;
    if (q->job)
        worker_job_file(q->job, -ESRCH, -1);
    else
        symbol_error(q, 503, timed_out ? "the process does not let itself be read: its memory lock is held (is it stuck?)"
                                       : "the process that reads the target died");
}

void symbol_request_start(struct server *server, struct http_request *request, pid_t pid, const struct kind *kind)
{
    static const struct child_ops ops = {.message = symbol_on_message, .ended = symbol_on_ended};
    char message[128];

    if (quota_check_child(http_request_asker(request), message, sizeof(message)) < 0) {
        http_reply_header(request, "Retry-After", "1");
        http_reply_error(request, 429, "%s", message);
        return;
    }
    struct symbol_request *q = calloc(1, sizeof(*q));
    if (!q) {
        http_reply_error(request, 503, "no memory for another request");
        return;
    }
    *q = (struct symbol_request){.server = server, .request = request, .request_ns = monotonic_ns()};
    q->collect = (struct collector_request){.settings = server->settings, .asker = *http_request_asker(request), .pid = pid,
                                            .mappings = true};
    http_request_on_gone(request, symbol_on_gone, q);
    int r = symbol_read_addresses(q);
    if (r < 0) {
        symbol_error(q, r == -ENOMEM ? 503 : 400, r == -ENOMEM ? "no memory for the addresses"
                                                               : "too many addresses: at most 100000 in one request");
        return;
    }
    if (child_spawn(server->base, collector_main, &q->collect, NULL, 0, SYMBOL_DEADLINE_NS, &ops, q, &q->collector) < 0)
        symbol_error(q, 503, "too much to do: no process could be started to look at the target");
    else
        quota_own_child(&q->collect.asker, q->collector);
}
