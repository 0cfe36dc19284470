/* Before a recording of a custom profile is attached: where are its values added and removed? Owns the places and the files that have some. */
#include "daemon/recording_custom.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bpf/custom.h"
#include "daemon/quote.h"
#include "daemon/raw_profile.h"
#include "daemon/recording_impl.h"
#include "daemon/server.h"
#include "daemon/watch_query.h"
#include "util/cleanup.h"

void recording_custom_deinit(struct recording_custom *custom)
{
    free(TAKE_PTR(custom->sites));
}

int recording_custom_refuse(const struct server *server, const struct session_params *params, char *message, size_t message_len)
{
    unsigned n = 0;

    if (params->event != EVENT_CUSTOM)
        return 0;
    if (server->can_sample && server->sampler.custom_error[0]) {
        (void)snprintf(message, message_len, "custom profiles can't be had here: %s", server->sampler.custom_error);
        return 503;
    }
    for (size_t i = 0; i < CPROFD_MAX_SESSIONS; i++)
        n += server->recordings[i] && recording_params(server->recordings[i])->event == EVENT_CUSTOM;
    if (n < RECORDING_CUSTOM_MAX)
        return 0;
    (void)snprintf(message, message_len, "too many custom profiles: %d are recorded at once at most", RECORDING_CUSTOM_MAX);
    return 429;
}

/* ---- the files */

static void custom_attach(struct recording *rec)
{
    struct recording_custom *custom = rec->custom;

    for (uint32_t i = 0; i < custom->found.n_sites; i++)
        custom->stepped = custom->stepped || custom->sites[i].cost != PROBE_EMULATED;
    custom_spec_types(&rec->params.custom, custom->found.unit, &custom->types);
    recording_attach(rec, NULL, 0);
}

/* The sites from the next one on are those of no file. */
static void custom_give_up(struct recording_custom *custom)
{
    custom->sites_missed += custom->found.n_sites - (uint32_t)custom->next;
    custom->next = custom->found.n_sites;
}

/* Asks for the file of the next sites; they are attached once all are there. */
static void custom_next_file(struct recording *rec)
{
    struct recording_custom *custom = rec->custom;
    bool first = rec->phase == PHASE_PLACING, full = custom->next < custom->found.n_sites && rec->places.n_files == RECORDING_MAX_FILES;

    if (full && first) {
        recording_fail(rec, 400, "the profile's values are added and removed in too many files");
        return;
    }
    if (full || (custom->next < custom->found.n_sites && recording_places_ask(rec, custom->sites[custom->next].object) < 0))
        custom_give_up(custom);
    if (custom->next < custom->found.n_sites)
        return;
    if (first)
        custom_attach(rec);
    else
        recording_late_looked(rec);
}

static void custom_take_file(struct recording *rec, int error, int fd)
{
    struct recording_custom *custom = rec->custom;
    struct role_place places[CUSTOM_MAX_SITES];
    AUTO_CLOSE int owned = fd;
    uint32_t object = custom->sites[custom->next].object;
    size_t n = 0;

    for (; custom->next < custom->found.n_sites && custom->sites[custom->next].object == object; custom->next++)
        places[n++] = (struct role_place){.offset = custom->sites[custom->next].file_offset, .role = custom->sites[custom->next].role};
    bool taken = error == 0 && owned >= 0 && recording_places_add(&rec->places, object, owned, places, n) == 0;
    if (!taken && rec->phase == PHASE_PLACING) {
        recording_fail(rec, 503, "a file of the process could not be opened a second time");
        return;
    }
    custom->files_missed += !taken;
    custom_next_file(rec);
}

/* ---- the answer of a worker, which may be anything */

static int custom_read(const struct worker_result *result, struct custom_found *ret, struct custom_site **ret_sites)
{
    if (result->body.len < sizeof(*ret) || pread(result->body_fd, ret, sizeof(*ret), 0) != sizeof(*ret))
        return -EIO;
    size_t len = ret->n_sites * sizeof(struct custom_site);
    if (ret->n_sites == 0 || ret->n_sites > CUSTOM_MAX_SITES || result->body.len != sizeof(*ret) + len ||
        !memchr(ret->unit, '\0', sizeof(ret->unit)))
        return -EIO;
    AUTO_FREE struct custom_site *sites = calloc(ret->n_sites, sizeof(*sites));
    if (!sites)
        return -ENOMEM;
    if (pread(result->body_fd, sites, len, sizeof(*ret)) != (ssize_t)len)
        return -EIO;
    for (uint32_t i = 0; i < ret->n_sites; i++)
        if (!memchr(sites[i].insn, '\0', sizeof(sites[i].insn)) || !is_plain_utf8(sites[i].insn) || sites[i].role > 0xffffff)
            return -EIO;
    *ret_sites = TAKE_PTR(sites);
    return 0;
}

/* ---- what is mapped later */

static bool custom_knows(const struct recording_custom *custom, uint32_t n_sites, uint32_t object)
{
    for (uint32_t i = 0; i < n_sites; i++)
        if (custom->sites[i].object == object)
            return true;
    return false;
}

/* Puts what is new behind what there was. What else is said is of all that is mapped, but for what was found before and could not be probed. */
static int custom_merge(struct recording_custom *custom, const struct custom_found *found, const struct custom_site *sites)
{
    uint32_t n_before = custom->found.n_sites;
    struct custom_site *all = reallocarray(custom->sites, n_before + found->n_sites, sizeof(*all));

    if (!all)
        return -ENOMEM;
    custom->sites = all;
    custom->found.left_out = found->left_out;
    custom->found.unread = found->unread;
    custom->found.tail_calls = found->tail_calls;
    custom->found.ways_in = found->ways_in;
    for (uint32_t i = 0; i < found->n_sites; i++) {
        if (custom_knows(custom, n_before, sites[i].object))
            continue;
        if (custom->found.n_sites < CUSTOM_MAX_SITES)
            all[custom->found.n_sites++] = sites[i];
        else if (custom_knows(custom, custom->found.n_sites, sites[i].object)) /* which is not found once more */
            custom->sites_missed++;
        else
            custom->found.left_out++;
    }
    return 0;
}

static void custom_on_found_later(struct recording *rec, const struct worker_result *result)
{
    AUTO_FREE struct custom_site *sites = NULL;
    struct custom_found found;

    int r = result->error ? result->error : custom_read(result, &found, &sites);
    r = r < 0 ? r : custom_merge(rec->custom, &found, sites);
    if (r < 0 && r != -ENOENT) { /* else what was there is mapped no more */
        rec->custom->found.unread++;
        rec->custom->n_objects = 0; /* the next list is looked through again */
    }
    custom_next_file(rec);
}

/* Whoever wants to watch may have meant a kind. */
static void custom_fail_watch(struct recording *rec, const char *why)
{
    char known[256], quoted[QUOTE_LEN], message[1024];

    (void)snprintf(message, sizeof(message), "%s is not a kind that can be watched; these can: %s; and profiles that process %d declares: %.300s",
                   quote(rec->params.custom.name, quoted), watch_query_kinds(", ", known, sizeof(known)), rec->pid, why);
    recording_fail(rec, 400, message);
}

static void custom_on_found(struct worker_job *job, const struct worker_result *result, void *userdata)
{
    struct recording *rec = userdata;
    int error = result->error, status = 503;

    rec->placing = NULL;
    rec->custom->n_stale += rec->custom->asked;
    rec->custom->asked = false;
    rec->daemon_cpu_ns += result->cpu_ns;
    if (rec->phase > PHASE_PLACING) {
        custom_on_found_later(rec, result);
        return;
    }
    if (error == -ENOENT || error == -EINVAL) /* by name, it is a path that is not there */
        status = error == -ENOENT && custom_is_declared(&rec->params.custom) && !rec->watch ? 404 : 400;
    if (error == -ENOENT && status == 400 && custom_is_declared(&rec->params.custom)) {
        custom_fail_watch(rec, result->message);
        return;
    }
    if (error) {
        recording_fail(rec, status, result->message);
        return;
    }
    if (custom_read(result, &rec->custom->found, &rec->custom->sites) < 0) {
        recording_fail(rec, 503, "the places of the profile's probes could not be read");
        return;
    }
    custom_next_file(rec);
}

/* Nothing but what is mapped. */
static void custom_on_need(struct worker_job *job, const struct worker_message *need, void *userdata)
{
    struct recording *rec = userdata;

    rec->custom->asked = need->u.need.kind == WORKER_FILE_OBJECT && recording_places_need(rec, need) == 0;
    if (!rec->custom->asked)
        worker_job_file(job, -EPERM, -1);
}

/* Answers come in the order of the questions. A worker waits for one for a while only: what comes once it is done is another file than the one that
 * was asked for since, whose places are no instructions there. */
void recording_custom_on_file(struct recording *rec, int error, int fd)
{
    struct recording_custom *custom = rec->custom;

    if (custom->n_stale > 0) {
        custom->n_stale--;
        close_fd(&fd);
    } else if (rec->placing) {
        custom->asked = false;
        worker_job_file(rec->placing, error, fd);
    } else {
        custom_take_file(rec, error, fd);
    }
}

static bool custom_ask_worker(struct recording *rec, int fd)
{
    static const struct worker_job_ops ops = {.need = custom_on_need, .done = custom_on_found};
    const struct custom_request request = {.wish = CUSTOM_FIND, .spec = rec->params.custom};

    int mapped = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    rec->placing = mapped >= 0 ? worker_pool_custom(rec->server->pool, mapped, &request, &ops, rec) : NULL;
    return rec->placing;
}

/* True: files are there that were not there when this was asked last. */
static bool custom_has_more(struct recording_custom *custom, int fd)
{
    struct raw_profile list;

    if (raw_table_open(fd, &list) < 0)
        return false;
    bool more = list.n_objects > custom->n_objects;
    custom->n_objects = (uint32_t)list.n_objects;
    raw_profile_close(&list);
    return more;
}

void recording_custom_look(struct recording *rec, int fd)
{
    bool more = custom_has_more(rec->custom, fd);

    if (more && custom_ask_worker(rec, fd))
        return;
    if (more) {
        rec->custom->found.unread++;
        rec->custom->n_objects = 0; /* the next list is looked through again */
    }
    recording_late_looked(rec);
}

void recording_custom_on_mappings(struct recording *rec, int fd)
{
    if (!rec->custom || fd < 0)
        return;
    if (rec->custom->listed) {
        recording_late_on_mappings(rec, fd);
        return;
    }
    if (rec->phase != PHASE_PLACING)
        return;
    child_set_deadline(rec->collector, 0);
    rec->custom->listed = true;
    (void)custom_has_more(rec->custom, fd);
    if (!custom_ask_worker(rec, fd))
        recording_fail(rec, 503, "too much to do: no worker is free to look for the profile's places");
}

void recording_custom_begin(struct recording *rec)
{
    rec->phase = PHASE_PLACING;
    rec->custom = calloc(1, sizeof(*rec->custom));
    if (!rec->custom) {
        recording_fail(rec, 503, "no memory to look for the profile's places");
        return;
    }
    child_set_deadline(rec->collector, RECORDING_ANSWER_DEADLINE_NS); /* it tells what is mapped, unasked */
}

void recording_custom_exec(struct recording *rec)
{
    rec->lost = true;
    rec->ended = "exec: the values of what was before are gone";
    recording_close(rec);
}

void recording_custom_types(const struct recording *rec, struct raw_types *ret)
{
    *ret = rec->custom->types;
}

/* ---- facts */

static int custom_site_facts(const struct recording_custom *custom, struct raw_writer *w)
{
    static const char *const names[] = {[CUSTOM_ADD] = "custom.adds_at", [CUSTOM_REMOVE] = "custom.removes_at", [CUSTOM_CALL] = "custom.calls_at"};
    int e = 0;

    for (uint32_t op = CUSTOM_ADD; e == 0 && op <= CUSTOM_CALL; op++) {
        const struct custom_site *one = NULL;
        uint32_t n = 0, stepped = 0;
        for (uint32_t i = 0; i < custom->found.n_sites; i++) {
            if (CUSTOM_ROLE_OP(custom->sites[i].role) != op)
                continue;
            one = &custom->sites[i];
            n++;
            stepped += one->cost != PROBE_EMULATED;
        }
        if (n > 0)
            e = raw_writer_fact(w, names[op], "%u x %.15s, %s", n, one->insn, stepped ? "single-stepped" : "emulated");
    }
    return e;
}

int recording_custom_facts(const struct recording *rec, struct raw_writer *w)
{
    const struct recording_custom *custom = rec->custom;
    const struct session_ctl *ctl = recording_ctl(rec);
    const struct {
        const char *key;
        uint64_t value;
    } counts[] = {{"custom.untracked", ctl->lost_live}, {"custom.replaced", ctl->replaced}, {"custom.unknown_removes", ctl->unknown_removes},
                  {"custom.failed_adds", ctl->failed_adds}, {"custom.cut_weights", ctl->cut_weights}, {"lost.calls", ctl->lost_calls},
                  {"custom.files_unread", custom->found.unread + custom->files_missed},
                  {"custom.left_out", custom->found.left_out + custom->sites_missed}, {"custom.tail_calls", custom->found.tail_calls},
                  {"custom.ways_in", custom->found.ways_in}};

    int e = raw_writer_fact(w, "custom.added", "%llu", (unsigned long long)ctl->samples);
    if (custom_is_counted(&rec->params.custom))
        e = e ? e : raw_writer_fact(w, "custom.counted", "each value that was added: nothing says which are removed");
    e = e ? e : custom_site_facts(custom, w);
    e = e ? e : recording_late_facts(rec, "custom", w);
    for (size_t i = 0; e == 0 && i < sizeof(counts) / sizeof(counts[0]); i++)
        if (counts[i].value > 0)
            e = raw_writer_fact(w, counts[i].key, "%llu", (unsigned long long)counts[i].value);
    return e;
}
