/* Before a recording of goroutines is attached: is it a Go program, and how are its goroutines read? Where it is none, or nobody knows, its
 * threads are what there is. Owns nothing: the recording does. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bpf/control.h"
#include "daemon/raw_profile.h"
#include "daemon/recording_impl.h"
#include "daemon/server.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define RECORDING_GO_TIMEOUT_NS (2 * NSEC_PER_SEC)

bool recording_wants_go(const struct recording *rec)
{
    return rec->params.goroutines || rec->params.sched_kind == SCHED_BLOCK || rec->params.sched_kind == SCHED_MUTEX;
}

/* why: nobody knows how its goroutines are read; NULL. */
static void recording_go_attach(struct recording *rec, const char *why)
{
    if (why)
        (void)snprintf(rec->go.note, sizeof(rec->go.note), "unknown: %.160s; its threads are shown", why);
    recording_attach(rec, NULL, 0);
}

/* ---- goroutines */

static void recording_go_ask(struct recording *rec, const struct worker_result *result)
{
    struct collector_message m = {.type = COLLECTOR_GO};

    int r = rec->collector ? child_send(rec->collector, &m, sizeof(m), &result->body_fd, 1) : -ESRCH;
    rec->go.asked = r == 0;
    recording_go_attach(rec, r < 0 ? strerror(-r) : NULL);
}

/* ---- their waits */

/* Parameters that ask for threads are answered by threads. */
static bool recording_is_of_threads(const struct session_params *p)
{
    return p->tid != 0 || p->thread[0] || p->kernel;
}

static void recording_go_probe(struct recording *rec, const struct worker_result *result)
{
    struct session_params *p = &rec->params;
    struct probe_place places[GO_PROBES];
    struct go_runtime runtime;
    bool is_whole = pread(result->body_fd, &runtime, sizeof(runtime), 0) == sizeof(runtime) && go_runtime_is_sound(&runtime);

    for (size_t i = 0; is_whole && i < GO_PROBES; i++) {
        places[i] = (struct probe_place){.offset = runtime.probes[i]};
        is_whole = places[i].offset != 0;
    }
    if (is_whole)
        go_block_reasons(runtime.reasons, &p->go_reasons, &p->go_sema_reasons);
    if (!is_whole || p->go_reasons == 0) {
        recording_go_attach(rec, "where its runtime's waits begin and end was not found");
        return;
    }
    p->go_kind = p->sched_kind == SCHED_MUTEX ? GO_WAITS_MUTEX : GO_WAITS_BLOCK;
    p->event = EVENT_GO;
    p->sched_kind = SCHED_NONE;
    rec->go.waits = true;
    recording_attach(rec, places, GO_PROBES);
}

/* ---- the program */

static void recording_on_go(struct worker_job *job, const struct worker_result *result, void *userdata)
{
    struct recording *rec = userdata;
    bool goroutines = rec->params.goroutines, can_probe = rec->server->sampler.go_prog >= 0;

    rec->placing = NULL;
    rec->daemon_cpu_ns += result->cpu_ns;
    if (goroutines || result->error || !can_probe)
        close_fd(&rec->probe_fd);
    if (result->error)
        recording_go_attach(rec, result->error == -ENOEXEC ? NULL : result->message);
    else if (goroutines)
        recording_go_ask(rec, result);
    else if (!can_probe)
        recording_go_attach(rec, rec->server->sampler.go_error);
    else
        recording_go_probe(rec, result);
}

void recording_find_go(struct recording *rec, int error, int fd)
{
    static const struct worker_job_ops ops = {.done = recording_on_go};

    if (!rec->params.goroutines && recording_is_of_threads(&rec->params)) {
        close_fd(&fd);
        recording_go_attach(rec, NULL);
        return;
    }
    if (error < 0 || fd < 0) {
        recording_go_attach(rec, error < 0 ? strerror(-error) : "it has no file");
        return;
    }
    rec->probe_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    rec->placing = worker_pool_go(rec->server->pool, fd, RECORDING_GO_TIMEOUT_NS, &ops, rec);
    if (!rec->placing || rec->probe_fd < 0)
        recording_fail(rec, 503, "too much to do: no worker is free to look at the program");
}

void recording_ask_program(struct recording *rec)
{
    struct collector_message m = {.type = COLLECTOR_PROGRAM};

    rec->phase = PHASE_PLACING;
    (void)child_send(rec->collector, &m, sizeof(m), NULL, 0); /* where it is gone, its end is told */
    child_set_deadline(rec->collector, RECORDING_ANSWER_DEADLINE_NS);
}

void recording_take_goroutines(struct recording *rec, const struct collector_message *m, int fd)
{
    int error = m->u.table.go_error;

    rec->go.counts = m->u.table.goroutines;
    rec->go.fd = fd;
    if (rec->go.asked && fd < 0)
        (void)snprintf(rec->go.note, sizeof(rec->go.note), "unknown: %.160s; its threads are shown",
                       error == -ENODATA  ? "its list of them is not where it must be"
                       : error == -ESTALE ? "it executed another program"
                       : error < 0        ? strerror(-error)
                                          : "they could not be read");
}

int recording_go_write(const struct recording_go *go, struct raw_writer *w)
{
    const struct goroutine_counts *c = &go->counts;
    const struct {
        const char *key;
        uint64_t value;
    } counts[] = {{"goroutines.running", c->running}, {"goroutines.torn", c->torn}, {"goroutines.unread", c->unread},
                  {"goroutines.unlabeled", c->unlabeled}};

    if (go->waits)
        return raw_writer_fact(w, "waits", "of goroutines");
    if (go->fd < 0 && go->asked && !go->note[0])
        return raw_writer_fact(w, "goroutines", "unknown: they could not be read in time; its threads are shown");
    if (go->fd < 0)
        return go->note[0] ? raw_writer_fact(w, "goroutines", "%s", go->note) : 0;
    int e = raw_writer_append(w, go->fd);
    e = e ? e : raw_writer_fact(w, "goroutines", "%llu", (unsigned long long)c->read);
    for (size_t i = 0; e == 0 && i < sizeof(counts) / sizeof(counts[0]); i++)
        if (counts[i].value > 0)
            e = raw_writer_fact(w, counts[i].key, "%llu", (unsigned long long)counts[i].value);
    return e;
}
