/* From the text of an event to the places of its probes: the collector opens the file, a worker finds the places. Owns nothing: the recording
 * does. */
#include "daemon/recording_probe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/probe.h"
#include "daemon/quote.h"
#include "daemon/raw_profile.h"
#include "daemon/recording_impl.h"
#include "daemon/server.h"
#include "util/cleanup.h"

#define MAX_PLACES 256

/* ---- what was chosen */

static const char *cost_name(bool stepped)
{
    return stepped ? "single-stepped" : "emulated";
}

static void probe_note(struct recording_probe *probe, const struct session_params *params, const struct probe_found *found,
                       const struct probe_site *sites)
{
    const struct probe_point *first = &sites[0].point;
    char into[24] = "";

    probe->at_entry = true;
    for (uint32_t i = 0; i < found->n; i++) {
        probe->stepped = probe->stepped || sites[i].point.cost != PROBE_EMULATED;
        probe->at_entry = probe->at_entry && sites[i].point.at_entry;
    }
    probe->result = params->symbol_result;
    probe->tail_calls = found->tail_calls;
    probe->ways_in = found->ways_in;
    if (found->n == 1 && first->into > 0 && params->event == EVENT_UPROBE)
        (void)snprintf(into, sizeof(into), "+%#x", first->into);
    (void)snprintf(probe->text, sizeof(probe->text), "%.180s%s (%u x %.15s, %s)", params->symbol, into, found->n, first->insn,
                   cost_name(probe->stepped));
}

int recording_probe_facts(const struct recording_probe *probe, uint64_t hit_ns, struct raw_writer *w)
{
    int e = 0;

    if (!probe->text[0])
        return 0;
    e = raw_writer_fact(w, "probe", "%s", probe->text);
    if (hit_ns > 0)
        e = e ? e : raw_writer_fact(w, "probe.hit_ns", "%llu", (unsigned long long)hit_ns);
    else
        e = e ? e : raw_writer_fact(w, "probe.unpriced", "what a hit costs could not be measured, so max_overhead does not bound it");
    if (probe->result) {
        e = e ? e : raw_writer_fact(w, "probe.tail_calls", "%u", probe->tail_calls);
        e = e ? e : raw_writer_fact(w, "probe.ways_in", "%u", probe->ways_in);
    }
    return e;
}

/* ---- the answer of a worker, which may be anything */

static int read_sites(const struct worker_result *result, struct probe_found *ret_found, struct probe_site sites[MAX_PLACES])
{
    size_t len;

    if (pread(result->body_fd, ret_found, sizeof(*ret_found), 0) != sizeof(*ret_found) || ret_found->n == 0)
        return -EIO;
    if (ret_found->n > MAX_PLACES)
        return -E2BIG;
    len = ret_found->n * sizeof(*sites);
    if (result->body.len != sizeof(*ret_found) + len || pread(result->body_fd, sites, len, sizeof(*ret_found)) != (ssize_t)len)
        return -EIO;
    for (uint32_t i = 0; i < ret_found->n; i++)
        if (!memchr(sites[i].point.insn, '\0', sizeof(sites[i].point.insn)) || !is_plain_utf8(sites[i].point.insn))
            return -EIO;
    return 0;
}

static void recording_on_places(struct worker_job *job, const struct worker_result *result, void *userdata)
{
    struct recording *rec = userdata;
    struct probe_found found;
    struct probe_site sites[MAX_PLACES];
    struct probe_place places[MAX_PLACES];
    char message[1024];

    rec->placing = NULL;
    if (result->error) {
        (void)snprintf(message, sizeof(message), "event %.300s: %s", rec->params.event_text, result->message);
        recording_fail(rec, 400, message);
        return;
    }
    int r = read_sites(result, &found, sites);
    if (r == -E2BIG) {
        (void)snprintf(message, sizeof(message), "event %.300s: it has more than %d places", rec->params.event_text, MAX_PLACES);
        recording_fail(rec, 400, message);
        return;
    }
    if (r < 0) {
        recording_fail(rec, 503, "the places of the probe could not be read");
        return;
    }
    probe_note(&rec->probe, &rec->params, &found, sites);
    for (uint32_t i = 0; i < found.n; i++)
        places[i] = (struct probe_place){sites[i].point.file_offset, sites[i].semaphore};
    recording_attach(rec, places, found.n);
}

/* ---- the way there */

static const char *probe_file_error(int error, bool by_name)
{
    if (by_name && error == -ENOENT)
        return "it maps none of that name for execution";
    return by_name && error == -ENOTUNIQ ? "it maps several of that name for execution: write the path of one" : strerror(-error);
}

/* The probed file has come from the collector. */
void recording_find_places(struct recording *rec, int error, int fd)
{
    static const struct worker_job_ops ops = {.done = recording_on_places};
    struct worker_probe probe = {.usdt = rec->params.event == EVENT_USDT, .offset = rec->params.symbol_offset,
                                 .result = rec->params.symbol_result};
    char message[512];

    (void)snprintf(probe.symbol, sizeof(probe.symbol), "%s", rec->params.symbol);
    if (error < 0) {
        (void)snprintf(message, sizeof(message), "event %.300s: the process's file can't be opened: %s", rec->params.event_text,
                       probe_file_error(error, rec->params.object[0] != '/' && rec->params.object[0]));
        recording_fail(rec, 400, message);
        return;
    }
    rec->probe_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    rec->placing = worker_pool_probe(rec->server->pool, fd, &probe, &ops, rec);
    if (!rec->placing || rec->probe_fd < 0)
        recording_fail(rec, 503, "too much to do: no worker is free to look for the probe's place");
}

void recording_ask_probe_file(struct recording *rec)
{
    struct collector_message m = {.type = COLLECTOR_FILE, .u.file = {.type = WORKER_NEED}};

    rec->phase = PHASE_PLACING;
    m.u.file.u.need.kind = WORKER_FILE_PATH;
    (void)snprintf(m.u.file.u.need.name, sizeof(m.u.file.u.need.name), "%s", rec->params.object);
    (void)child_send(rec->collector, &m, sizeof(m), NULL, 0); /* where it is gone, its end is told */
    child_set_deadline(rec->collector, RECORDING_ANSWER_DEADLINE_NS);
}
