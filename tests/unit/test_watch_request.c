/* Requests to begin watching, and what becomes of watches meanwhile. Recordings, clients and kinds are the test's own. */
#include <check.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "daemon/audit.h"
#include "daemon/collector.h"
#include "daemon/http.h"
#include "daemon/kind.h"
#include "daemon/kind_custom.h"
#include "daemon/metrics.h"
#include "daemon/oneshot.h"
#include "daemon/params.h"
#include "daemon/recorder.h"
#include "daemon/recording.h"
#include "daemon/server.h"
#include "daemon/watch.h"
#include "daemon/watch_request.h"
#include "daemon/watch_rules.h"

#define PID 4711
#define MAX_RECORDINGS 8

/* ---- kinds */

static const struct param_spec specs[] = {PARAM_DELTA_SECONDS, PARAM_RATE("rate", "1", "ns"), PARAM_MAX_OVERHEAD};
static const struct param_table params = PARAM_TABLE(specs);

static void record(struct session_params *p)
{
    p->rate = 1;
}

static const struct kind first = {.name = "first", .cumulative = true, .params = &params, .record = record};
static const struct kind second = {.name = "second", .cumulative = true, .params = &params, .record = record};
static const struct kind *const kinds[] = {&first, &second};

const struct kind *kind_at(size_t i)
{
    return i < 2 ? kinds[i] : NULL;
}

const struct kind *custom_kind(struct watches *ws, const char *name)
{
    return NULL;
}

const struct kind *custom_kind_any(const char *name)
{
    return NULL;
}

const struct kind *custom_kind_in_use(const struct watches *ws, const char *name)
{
    return NULL;
}

const struct kind *kind_find(const char *name)
{
    return strcmp(name, "first") == 0 ? &first : strcmp(name, "second") == 0 ? &second : NULL;
}

/* ---- recordings */

struct recording {
    struct recording_ops ops;
    void *userdata;
    bool open, freed;
};

static struct recording recordings[MAX_RECORDINGS];
static size_t n_recordings;

int recording_new(struct server *server, const struct recording_config *config, const struct recording_ops *ops, void *userdata,
                  struct recording **ret, char *message, size_t message_len)
{
    ck_assert_uint_lt(n_recordings, MAX_RECORDINGS);
    *ret = &recordings[n_recordings++];
    **ret = (struct recording){.ops = *ops, .userdata = userdata};
    return 0;
}

void recording_free(struct recording *rec)
{
    ck_assert(!rec->freed);
    *rec = (struct recording){.freed = true};
}

int recording_open(struct recording *rec)
{
    rec->open = true;
    return 0;
}

void recording_close(struct recording *rec)
{
    if (!rec->open)
        return;
    rec->open = false;
    rec->ops.closed(rec, rec->userdata);
}

bool recording_is_open(const struct recording *rec)
{
    return rec->open;
}

const char *recording_ended(const struct recording *rec)
{
    return NULL;
}

bool recording_is_lost(const struct recording *rec)
{
    return false;
}

bool recording_target_exited(const struct recording *rec)
{
    return true;
}

const struct collector_target *recording_target(const struct recording *rec)
{
    return NULL;
}

const struct recorder *recording_recorder(const struct recording *rec)
{
    return NULL;
}

const struct session_ctl *recorder_ctl(const struct recorder *r)
{
    static const struct session_ctl ctl;
    return &ctl;
}

static void get_ready(size_t i)
{
    recordings[i].ops.ready(&recordings[i], recordings[i].userdata);
}

/* The process ended: all is read at once. */
static void end(size_t i)
{
    recording_close(&recordings[i]);
    recordings[i].ops.done(&recordings[i], recordings[i].userdata);
}

static size_t n_freed(void)
{
    size_t n = 0;

    for (size_t i = 0; i < n_recordings; i++)
        n += recordings[i].freed;
    return n;
}

/* ---- what is told of them */

void audit_watch(const struct asker *asker, const struct collector_target *target, pid_t pid, const char *kind, const char *rule,
                 uint64_t window_ns, int status, const char *ended)
{
}

void metrics_add_samples(const char *kind, uint64_t n)
{
}

void metrics_add_lost(const char *kind, const char *reason, uint64_t n)
{
}

void watch_rules_keep_off(struct watch_rules *r, const struct watch *w)
{
}

/* ---- clients */

struct http_request {
    struct evkeyvalq query;
    struct asker asker;
    int status; /* of the answer; 0: none yet */
};

const struct evkeyvalq *http_request_query(const struct http_request *r)
{
    return &r->query;
}

enum http_method http_request_method(const struct http_request *r)
{
    return HTTP_PUT;
}

static struct evbuffer *no_body;

struct evbuffer *http_request_body(const struct http_request *r)
{
    return no_body;
}

const struct asker *http_request_asker(const struct http_request *r)
{
    return &r->asker;
}

void http_request_on_gone(struct http_request *r, void (*gone)(struct http_request *r, void *userdata), void *userdata)
{
}

void http_reply_header(struct http_request *r, const char *name, const char *value)
{
}

void http_reply(struct http_request *r, int status, const char *content_type, struct evbuffer *body)
{
    ck_assert_int_eq(r->status, 0);
    r->status = status;
}

void http_reply_error(struct http_request *r, int status, const char *fmt, ...)
{
    http_reply(r, status, NULL, NULL);
}

void oneshot_check(struct server *server, struct http_request *request, pid_t pid, oneshot_allowed allowed)
{
    allowed(server, request, pid);
}

/* ---- the tests */

static struct settings settings;
static struct server server;

static void setup(void)
{
    n_recordings = 0;
    settings.max_overhead = 5;
    server = (struct server){.base = event_base_new(), .settings = &settings};
    no_body = evbuffer_new();
    ck_assert_int_eq(watches_new(&server, &server.watches), 0);
}

/* Nothing stays behind, however it went. */
static void teardown(void)
{
    watch_requests_stop();
    watches_free(server.watches);
    ck_assert_uint_eq(n_freed(), n_recordings);
    event_base_free(server.base);
    evbuffer_free(no_body);
}

static void put(struct http_request *request, uid_t uid, const char *query)
{
    *request = (struct http_request){.asker = {.known = true, .uid = uid}};
    TAILQ_INIT(&request->query);
    ck_assert_int_eq(evhttp_parse_query_str(query, &request->query), 0);
    watch_request(&server, request, PID);
}

static const struct recording *watched(const struct kind *kind)
{
    const struct watch *w = watch_find(server.watches, PID, kind);
    return w ? watch_recording(w) : NULL;
}

START_TEST(test_all_kinds_begin_at_once)
{
    struct http_request request;

    put(&request, 1, "kinds=first,second");
    get_ready(1);
    ck_assert_int_eq(request.status, 0);
    ck_assert_uint_eq(watches_count(server.watches), 0);
    get_ready(0);
    ck_assert_int_eq(request.status, 204);
    ck_assert_ptr_eq(watched(&first), &recordings[0]);
    ck_assert_ptr_eq(watched(&second), &recordings[1]);
    evhttp_clear_headers(&request.query);
}
END_TEST

/* Another user was faster with the second, and wants it otherwise. */
START_TEST(test_one_that_conflicts_lets_none_begin)
{
    struct http_request request, faster;

    put(&request, 1, "kinds=first,second&rate=7");
    put(&faster, 2, "kinds=second&rate=8");
    get_ready(2);
    ck_assert_int_eq(faster.status, 204);
    get_ready(0);
    get_ready(1);
    ck_assert_int_eq(request.status, 409);
    ck_assert_ptr_null(watched(&first));
    ck_assert_ptr_eq(watched(&second), &recordings[2]);
    evhttp_clear_headers(&request.query);
    evhttp_clear_headers(&faster.query);
}
END_TEST

/* Somebody was faster with just the same: that is the one. */
START_TEST(test_one_that_is_there_meanwhile_is_taken)
{
    struct http_request request, faster;

    put(&request, 1, "kinds=first,second");
    put(&faster, 2, "kinds=second");
    get_ready(2);
    get_ready(0);
    get_ready(1);
    ck_assert_int_eq(request.status, 204);
    ck_assert_ptr_eq(watched(&first), &recordings[0]);
    ck_assert_ptr_eq(watched(&second), &recordings[2]);
    evhttp_clear_headers(&request.query);
    evhttp_clear_headers(&faster.query);
}
END_TEST

/* It has all that there is to be had of the first before the second is ready. */
START_TEST(test_process_that_ends_meanwhile_lets_none_begin)
{
    struct http_request request;

    put(&request, 1, "kinds=first,second");
    get_ready(0);
    end(0);
    ck_assert_int_eq(request.status, 0);
    if (_i == 0)
        get_ready(1);
    else
        recordings[1].ops.failed(&recordings[1], 404, "it ended", recordings[1].userdata);
    ck_assert_int_eq(request.status, 404);
    ck_assert_uint_eq(watches_count(server.watches), 0);
    evhttp_clear_headers(&request.query);
}
END_TEST

START_TEST(test_other_values_take_the_place)
{
    struct http_request request, again;

    put(&request, 1, "kinds=first");
    get_ready(0);
    put(&again, 1, "kinds=first&rate=7");
    ck_assert_ptr_eq(watched(&first), &recordings[0]);
    get_ready(1);
    ck_assert_int_eq(again.status, 204);
    ck_assert_ptr_eq(watched(&first), &recordings[1]);
    ck_assert(!recordings[0].open);
    ck_assert_uint_eq(watches_count(server.watches), 1);
    evhttp_clear_headers(&request.query);
    evhttp_clear_headers(&again.query);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("watch_request");
    TCase *tc = tcase_create("watch_request");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, test_all_kinds_begin_at_once);
    tcase_add_test(tc, test_one_that_conflicts_lets_none_begin);
    tcase_add_test(tc, test_one_that_is_there_meanwhile_is_taken);
    tcase_add_loop_test(tc, test_process_that_ends_meanwhile_lets_none_begin, 0, 2);
    tcase_add_test(tc, test_other_values_take_the_place);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
