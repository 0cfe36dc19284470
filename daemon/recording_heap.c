/* Before a recording of allocations is attached: which functions of the target's files allocate? A worker looks at each file that is mapped
 * executable. Owns the list and the files that have some. */
#include "daemon/recording_heap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bpf/heap.h"
#include "daemon/quote.h"
#include "daemon/raw_profile.h"
#include "daemon/recording_impl.h"
#include "daemon/server.h"
#include "util/cleanup.h"

#define RECORDING_HEAP_TIMEOUT_NS (2 * NSEC_PER_SEC)

void recording_heap_deinit(struct recording_heap *heap)
{
    free(TAKE_PTR(heap->objects));
    free(TAKE_PTR(heap->code));
}

/* ---- the session's place in what is kept of threads */

static int heap_find_index(const struct recording *rec, uint32_t *ret)
{
    uint32_t used = 0;

    for (uint32_t i = 0; i < CPROFD_MAX_SESSIONS; i++) {
        const struct session_ctl *ctl = &rec->server->sampler.ctl[i];
        if (i != rec->slot && ctl->heap && ctl->state != SESSION_FREE && ctl->tgid == (uint32_t)rec->pid)
            used |= 1u << ctl->heap_index;
    }
    for (uint32_t i = 0; i < HEAP_MAX_SESSIONS; i++) {
        if (used >> i & 1)
            continue;
        *ret = i;
        return 0;
    }
    return -EBUSY;
}

static void heap_attach(struct recording *rec)
{
    char message[256];

    if (rec->places.n_files == 0) {
        (void)snprintf(message, sizeof(message), "no functions that allocate were found in the files that process %d maps, of which %u could not be "
                       "read: are they stripped? (A Go program without cgo allocates by itself, and serves its own heap profile.)", rec->pid,
                       rec->heap->n_unread);
        recording_fail(rec, rec->heap->n_unread > 0 ? 503 : 400, message);
        return;
    }
    if (heap_find_index(rec, &rec->params.heap_index) < 0) {
        (void)snprintf(message, sizeof(message), "too many: %d recordings of the allocations of process %d run", HEAP_MAX_SESSIONS, rec->pid);
        recording_fail(rec, 429, message);
        return;
    }
    rec->params.heap_sites = rec->heap->sites;
    recording_heap_code_set(rec);
    recording_attach(rec, NULL, 0);
}

/* ---- one file after another */

static void heap_next(struct recording *rec)
{
    struct recording_heap *heap = rec->heap;

    if (heap->next < heap->n_objects && recording_places_ask(rec, heap->objects[heap->next]) < 0) {
        heap->n_unread += (unsigned)(heap->n_objects - heap->next);
        heap->next = heap->n_objects;
    }
    if (heap->next < heap->n_objects)
        heap->next++;
    else if (rec->phase == PHASE_PLACING)
        heap_attach(rec);
    else {
        recording_heap_code_set(rec);
        recording_late_looked(rec);
    }
}

static void heap_note(char *text, size_t size, const struct heap_function *f)
{
    size_t len = strlen(text);

    if (f->kind >= HEAP_SITE_ALLOC && strstr(text, f->name)) /* one of many */
        return;
    (void)snprintf(text + len, size - len, "%s%.47s", len ? "," : "", f->name);
    len = strlen(text);
    if (f->into > 0)
        (void)snprintf(text + len, size - len, "+%#x", f->into);
    len = strlen(text);
    (void)snprintf(text + len, size - len, "(%.15s%s)", f->insn, f->stepped ? ", single-stepped" : "");
    if (strlen(text) == size - 1) /* there are more than it has room for */
        memcpy(text + size - sizeof("..."), "...", sizeof("..."));
}

/* A worker's answer may be anything. */
static bool heap_is_sound(const struct heap_function *f)
{
    return memchr(f->name, '\0', sizeof(f->name)) && memchr(f->insn, '\0', sizeof(f->insn)) && is_plain_utf8(f->name) && is_plain_utf8(f->insn);
}

/* Where probes come and go nothing is followed: of what tells that objects go or move nothing is probed. */
static bool heap_is_left_alone(const struct recording *rec, uint32_t kind)
{
    return rec->params.duty > 0 && (kind == HEAP_FREE || kind == HEAP_UNMAP || kind == HEAP_SITE_FREE || kind == HEAP_SITE_UNTRACKED);
}

/* An allocator that samples by itself stands before the others, which would tell the same once more. */
static void heap_forget(struct recording *rec)
{
    struct recording_heap *heap = rec->heap;

    recording_places_clear(&rec->places);
    heap->n_left_out = 0;
    heap->functions[0] = heap->unprobed[0] = '\0';
}

/* True: some place of the file, whichever, is a site that can be probed and tells of allocations. */
static bool heap_has_sites(const struct heap_function *functions, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (functions[i].kind == HEAP_SITE_ALLOC)
            return true;
    return false;
}

static void heap_take(struct recording *rec, int fd, const struct heap_function *functions, size_t n)
{
    struct recording_heap *heap = rec->heap;
    bool sites = heap_has_sites(functions, n);

    if (heap->sites && !sites)
        return;
    if (sites && !heap->sites && rec->phase != PHASE_PLACING) { /* it would tell the same once more */
        heap->n_left_out++;
        return;
    }
    if (sites && !heap->sites)
        heap_forget(rec);
    heap->sites = sites;
    struct role_place places[HEAP_MAX_FUNCTIONS];
    size_t n_places = 0;

    for (size_t i = 0; i < n; i++) {
        const struct heap_function *f = &functions[i];
        if (!heap_is_sound(f) || heap_is_left_alone(rec, f->kind))
            continue;
        bool probed = f->kind >= HEAP_MALLOC && f->kind < (sites ? HEAP_CALL_KINDS : HEAP_SITE_ALLOC);
        if (rec->params.duty > 0 && f->kind == HEAP_REMAP) /* of what nobody followed, or nobody knows whose it is */
            probed = false;
        heap_note(probed ? heap->functions : heap->unprobed, probed ? sizeof(heap->functions) : sizeof(heap->unprobed), f);
        if (probed)
            places[n_places++] = (struct role_place){f->file_offset, f->semaphore, f->kind | (f->stepped ? HEAP_STEPPED : 0)};
    }
    if (n_places > 0 && recording_places_add(&rec->places, heap->objects[heap->next - 1], fd, places, n_places) < 0)
        heap->n_left_out++;
}

static void heap_on_functions(struct worker_job *job, const struct worker_result *result, void *userdata)
{
    struct recording *rec = userdata;
    struct recording_heap *heap = rec->heap;
    struct heap_function functions[HEAP_MAX_FUNCTIONS];

    rec->placing = NULL;
    rec->daemon_cpu_ns += result->cpu_ns;
    ssize_t len = result->error ? -1 : pread(result->body_fd, functions, sizeof(functions), 0);
    AUTO_CLOSE int fd = TAKE_FD(rec->probe_fd);
    if (rec->phase > PHASE_OPEN)
        return;
    if (len > 0 && rec->places.n_files == RECORDING_MAX_FILES)
        heap->n_left_out++;
    else if (len > 0)
        heap_take(rec, fd, functions, (size_t)len / sizeof(functions[0]));
    else if (len < 0 && result->error != -ENOEXEC)
        heap->n_unread++;
    heap_next(rec);
}

void recording_heap_on_file(struct recording *rec, int error, int fd)
{
    static const struct worker_job_ops ops = {.done = heap_on_functions};

    if (error < 0 || fd < 0) {
        rec->heap->n_unread++;
        heap_next(rec);
        return;
    }
    rec->probe_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    rec->placing = worker_pool_heap(rec->server->pool, fd, RECORDING_HEAP_TIMEOUT_NS, &ops, rec);
    if (rec->placing && rec->probe_fd >= 0)
        return;
    if (rec->phase == PHASE_OPEN) { /* what is watched goes on without it */
        worker_job_cancel(TAKE_PTR(rec->placing));
        close_fd(&rec->probe_fd);
        rec->heap->n_unread++;
        heap_next(rec);
    } else
        recording_fail(rec, 503, "too much to do: no worker is free to look for the process's allocator");
}

/* ---- what is mapped */

/* Which objects are known, by their numbers, so that a target with many mappings does not hold up the loop. NULL: no memory. */
static bool *heap_known(const struct recording_heap *heap, size_t n_objects)
{
    bool *known = calloc(n_objects + 1, sizeof(*known));

    for (size_t i = 0; known && i < heap->n_objects; i++)
        if (heap->objects[i] < n_objects)
            known[heap->objects[i]] = true;
    return known;
}

/* How many files are mapped that could not be opened. */
static unsigned heap_unavailable(const struct raw_profile *list)
{
    unsigned n = 0;

    for (size_t i = 0; i < list->n_objects; i++)
        n += !list->objects[i].available;
    return n;
}

static void heap_list(struct recording_heap *heap, const struct raw_profile *list)
{
    AUTO_FREE bool *known = heap_known(heap, list->n_objects);
    unsigned n_unavailable = heap_unavailable(list);
    bool full = false;

    if (n_unavailable > heap->n_unavailable)
        heap->n_unread += n_unavailable - heap->n_unavailable;
    heap->n_unavailable = n_unavailable;
    recording_heap_code_take(heap, list);
    if (!known) {
        heap->n_unread++; /* one at least */
        return;
    }
    for (size_t i = 0; i < list->n_mappings; i++) {
        uint32_t object = list->mappings[i].object;
        if (object == RAW_NO_OBJECT || object >= list->n_objects || !list->objects[object].available || known[object])
            continue;
        known[object] = true;
        if (heap->n_objects < RECORDING_HEAP_MAX_LOOKS)
            heap->objects[heap->n_objects++] = object;
        else if (!heap->full) /* one at least */
            heap->n_unread++, full = true;
    }
    heap->full = heap->full || full;
}

void recording_heap_on_mappings(struct recording *rec, int fd)
{
    struct raw_profile list;

    if (!rec->heap || fd < 0)
        return;
    if (rec->heap->listed) {
        recording_late_on_mappings(rec, fd);
        return;
    }
    if (rec->phase != PHASE_PLACING)
        return;
    child_set_deadline(rec->collector, 0);
    if (raw_table_open(fd, &list) < 0) {
        recording_fail(rec, 503, "what the process maps could not be read");
        return;
    }
    heap_list(rec->heap, &list);
    raw_profile_close(&list);
    rec->heap->listed = true;
    heap_next(rec);
}

void recording_heap_look(struct recording *rec, int fd)
{
    struct raw_profile list;

    if (raw_table_open(fd, &list) < 0) {
        recording_late_looked(rec);
        return;
    }
    heap_list(rec->heap, &list);
    raw_profile_close(&list);
    heap_next(rec);
}

void recording_heap_begin(struct recording *rec)
{
    rec->phase = PHASE_PLACING;
    rec->heap = calloc(1, sizeof(*rec->heap));
    if (rec->heap)
        rec->heap->objects = calloc(RECORDING_HEAP_MAX_LOOKS, sizeof(*rec->heap->objects));
    if (!rec->heap || !rec->heap->objects) {
        recording_fail(rec, 503, "no memory to look for the process's allocator");
        return;
    }
    child_set_deadline(rec->collector, RECORDING_ANSWER_DEADLINE_NS); /* it tells what is mapped, unasked */
}

void recording_heap_exec(struct recording *rec)
{
    rec->lost = true;
    rec->ended = "exec: what was allocated before is gone";
    recording_close(rec);
}

/* ---- facts */

int recording_heap_facts(const struct recording *rec, struct raw_writer *w)
{
    const struct recording_heap *heap = rec->heap;
    const struct session_ctl *ctl = recording_ctl(rec);
    const struct {
        const char *key;
        uint64_t value;
    } counts[] = {{"heap.untracked", ctl->lost_live}, {"heap.lost_frees", ctl->lost_frees}, {"heap.replaced", ctl->replaced},
                  {"lost.threads", ctl->lost_threads}, {"heap.files_unread", heap->n_unread}, {"heap.files_left_out", heap->n_left_out}};

    uint64_t hits = recording_ctl(rec)->hits, hit_ns = hits > 0 ? recorder_hits_ns(rec->recorder) / hits : recorder_hit_ns(rec->recorder);
    int e = raw_writer_fact(w, "heap.sampled", "%llu", (unsigned long long)ctl->samples);
    e = e ? e : raw_writer_fact(w, "heap.functions", "%s", heap->functions);
    if (recording_heap_code_why(heap))
        e = e ? e : raw_writer_fact(w, "heap.mmap", "%s", recording_heap_code_why(heap));
    if (heap->sites)
        e = e ? e : raw_writer_fact(w, "heap.sampling", "the allocator's own: rate is not looked at");
    if (hit_ns > 0)
        e = e ? e : raw_writer_fact(w, "probe.hit_ns", "%llu", (unsigned long long)hit_ns);
    e = e ? e : recording_late_facts(rec, "heap", w);
    if (heap->unprobed[0])
        e = e ? e : raw_writer_fact(w, "heap.unprobed", "%s: what these allocate is missing", heap->unprobed);
    for (size_t i = 0; e == 0 && i < sizeof(counts) / sizeof(counts[0]); i++)
        if (counts[i].value > 0)
            e = raw_writer_fact(w, counts[i].key, "%llu", (unsigned long long)counts[i].value);
    return e;
}
