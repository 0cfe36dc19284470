/* The tables of a recording's target. Owns its uses of entries, its claims, the list of mappings, and the space in the arena.
 *
 * Whatever changes - the list, an entry, the arena's room - ends in recording_unwind_work, which does what can be done then: claims files,
 * writes a space where it would be another than the one that is there, and lets the window open. */
#include "daemon/recording_unwind.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bpf/unwind.h"
#include "daemon/recording_impl.h"
#include "daemon/server.h"
#include "util/cleanup.h"

static void recording_unwind_work(struct recording *rec);

static struct unwind_tables *recording_tables(const struct recording *rec)
{
    return rec->server->tables;
}

/* ---- what a use is */

static bool use_is_settled(const struct recording_use *use)
{
    return !use->entry || use->why || use->entry->state == UNWIND_READY || use->entry->state == UNWIND_NONE;
}

static const char *use_path(const struct recording_unwind *u, const struct recording_use *use)
{
    return use->object == COLLECTOR_OBJECT_VDSO ? "[vdso]" : raw_profile_string(&u->list, u->list.objects[use->object].path);
}

/* Notes a file that has no table for the profile. Memory of a JIT compiler is not meant to have one. */
static void use_note(struct recording_unwind *u, struct recording_use *use)
{
    enum unwind_why why = recording_use_why(use);

    if (use->noted || !why)
        return;
    use->noted = true;
    u->n_broken += use->begun && unwind_why_blames_file(why);
    if (why == UNWIND_WHY_NOT_ELF)
        return;
    u->n_missing++;
    if (u->n_named == RECORDING_UNWIND_MAX_NAMED)
        return;
    (void)snprintf(u->named[u->n_named].path, sizeof(u->named[0].path), "%s", use_path(u, use));
    u->named[u->n_named++].why = why;
}

static void use_pay(struct recording_unwind *u, struct recording_use *use)
{
    if (use->paid || !use->begun || !use->entry || !use_is_settled(use))
        return;
    use->paid = true;
    u->cpu_ns += use->entry->cpu_ns;
}

/* ---- claims */

static void recording_unwind_await(struct recording_unwind *u)
{
    struct timeval wait = {.tv_sec = RECORDING_UNWIND_ANSWER_MS / 1000, .tv_usec = RECORDING_UNWIND_ANSWER_MS % 1000 * 1000};

    if (u->n_asked > 0)
        (void)event_add(u->answer, &wait);
    else
        (void)event_del(u->answer);
}

static void recording_unwind_ask(struct recording *rec, struct recording_use *use)
{
    struct recording_unwind *u = &rec->unwind;
    struct collector_message m = {.type = COLLECTOR_OBJECT, .u.object = {.index = use->object}};

    if (child_send(rec->collector, &m, sizeof(m), NULL, 0) < 0)
        return; /* no room in the socket: its next answer makes some */
    unwind_tables_claim(recording_tables(rec), use->entry, use->priority);
    use->begun = true;
    u->asked[u->n_asked++] = unwind_tables_use(recording_tables(rec), &use->entry->id, false);
    if (u->n_asked == 1)
        recording_unwind_await(u);
}

static void recording_unwind_claim(struct recording *rec)
{
    struct recording_unwind *u = &rec->unwind;
    uint64_t bytes = 0;
    unsigned n_begun = 0;

    for (size_t i = 0; i < u->n_uses; i++) {
        n_begun += u->uses[i].begun && !use_is_settled(&u->uses[i]);
        bytes += u->uses[i].entry && u->uses[i].entry->state == UNWIND_READY ? u->uses[i].entry->bytes : 0;
    }
    for (size_t i = 0; i < u->n_uses && n_begun < RECORDING_UNWIND_MAX_BEGUN; i++) {
        struct recording_use *use = &u->uses[i];
        if (u->n_asked == RECORDING_UNWIND_MAX_BEGUN || !unwind_tables_may_claim(recording_tables(rec)))
            return;
        if (use->why || !use->entry || use->entry->state != UNWIND_WANTED)
            continue;
        if (u->n_broken >= RECORDING_UNWIND_MAX_BROKEN)
            use->why = UNWIND_WHY_BROKEN;
        else if (bytes > unwind_tables_share_bytes(recording_tables(rec)))
            use->why = UNWIND_WHY_NO_ROOM;
        else if (rec->collector && rec->phase <= PHASE_OPEN)
            recording_unwind_ask(rec, use);
        n_begun += use->begun && !use->why;
    }
}

/* No file comes of a question, for this recording; another one may claim it. */
static void recording_unwind_unask(struct recording *rec, struct unwind_entry *entry)
{
    struct recording_unwind *u = &rec->unwind;

    unwind_tables_unclaim(recording_tables(rec), entry);
    for (size_t i = 0; i < u->n_uses; i++)
        if (u->uses[i].entry == entry)
            u->uses[i].why = UNWIND_WHY_UNREADABLE;
    unwind_tables_drop(recording_tables(rec), entry);
}

/* The oldest question has its answer. */
static void recording_unwind_answer(struct recording *rec, int error, int fd)
{
    AUTO_CLOSE int owned = fd;
    struct recording_unwind *u = &rec->unwind;
    struct unwind_entry *entry = u->asked[0];

    u->n_asked--;
    memmove(u->asked, u->asked + 1, u->n_asked * sizeof(u->asked[0]));
    recording_unwind_await(u);
    if (!entry)
        return;
    if (error < 0) {
        recording_unwind_unask(rec, entry);
        return;
    }
    unwind_tables_give(recording_tables(rec), entry, TAKE_FD(owned));
    unwind_tables_drop(recording_tables(rec), entry);
}

static void recording_unwind_on_silence(evutil_socket_t fd, short what, void *arg)
{
    struct recording *rec = arg;
    struct recording_unwind *u = &rec->unwind;

    for (unsigned i = 0; i < u->n_asked; i++)
        if (u->asked[i])
            recording_unwind_unask(rec, TAKE_PTR(u->asked[i]));
    recording_unwind_work(rec);
}

void recording_unwind_on_object(struct recording *rec, int error, int fd)
{
    AUTO_CLOSE int owned = fd;

    if (rec->unwind.n_asked == 0)
        return;
    if (error == 0 && owned < 0)
        error = -EBADF;
    recording_unwind_answer(rec, error, error == 0 ? TAKE_FD(owned) : -1);
    recording_unwind_work(rec);
}

void recording_unwind_on_collector_gone(struct recording *rec)
{
    while (rec->unwind.n_asked > 0)
        recording_unwind_answer(rec, -ESRCH, -1);
    recording_unwind_work(rec);
}

/* ---- the space */

static void recording_unwind_update(struct recording *rec)
{
    struct recording_unwind *u = &rec->unwind;
    struct timeval pause = {.tv_usec = RECORDING_UNWIND_PAUSE_US}, retry = {.tv_usec = RECORDING_UNWIND_RETRY_US};

    if (!u->listed || rec->phase > PHASE_OPEN || !recording_unwind_is_due(u) || event_pending(u->pause, EV_TIMEOUT, NULL))
        return;
    int r = recording_unwind_write(rec);
    if (r < 0 && u->n_replaced > 0 && u->place)
        recording_unwind_set_place(rec, 0); /* frame pointers rather than what was mapped before */
    if (r == -ENOSPC)
        return; /* the tables tell when there is room */
    if (r < 0 && u->due && u->place)
        recording_unwind_set_place(rec, 0);
    u->overdue = u->overdue || r < 0;
    u->due = u->due && r < 0;
    (void)event_add(u->pause, r < 0 ? &retry : &pause);
}

static bool recording_unwind_prolong(struct recording *rec);

/* ---- the list */

static enum unwind_priority object_priority(const char *path, bool main_binary)
{
    static const char *const early[] = {"libc.", "libc-", "ld-", "ld.", "libpthread"};
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;

    if (main_binary)
        return UNWIND_MAIN_BINARY;
    for (size_t i = 0; i < sizeof(early) / sizeof(early[0]); i++)
        if (strncmp(name, early[i], strlen(early[i])) == 0)
            return UNWIND_C_LIBRARY;
    return UNWIND_OTHERS;
}

/* The vdso is in no file: an identity that no file has. */
static const struct file_identity vdso_identity = {.dev = UINT64_MAX, .ino = UINT64_MAX};

static void use_begin(struct recording *rec, struct recording_use *use, uint32_t object, const struct raw_mapping *m)
{
    const struct raw_profile *list = &rec->unwind.list;
    const struct raw_object *o = object == COLLECTOR_OBJECT_VDSO ? NULL : &list->objects[object];

    *use = (struct recording_use){.object = object, .priority = UNWIND_C_LIBRARY};
    if (o)
        use->priority = object_priority(raw_profile_string(list, o->path), m->main_binary);
    if (o && !o->available) {
        use->why = o->error == -EUCLEAN ? UNWIND_WHY_OTHER : UNWIND_WHY_UNREADABLE;
        return;
    }
    use->entry = unwind_tables_use(recording_tables(rec), o ? &o->id : &vdso_identity, !rec->unwind.listed);
    if (!use->entry)
        use->why = UNWIND_WHY_TOO_MANY;
}

/* What was known of the same object in the list before. The vdso has the last place in both. */
static const struct recording_use *use_before(const struct recording_use *uses, const uint32_t *use_of, size_t n_objects, uint32_t object)
{
    size_t index = object == COLLECTOR_OBJECT_VDSO ? n_objects : object;

    return use_of && index <= n_objects && use_of[index] != RECORDING_UNWIND_NO_USE ? &uses[use_of[index]] : NULL;
}

static int compare_uses(const void *va, const void *vb)
{
    const struct recording_use *a = va, *b = vb;
    int r = (a->priority > b->priority) - (a->priority < b->priority);

    return r ? r : (a->object > b->object) - (a->object < b->object);
}

/* The files of the list, each once. */
static void uses_collect(struct recording *rec, const struct recording_use *old, const uint32_t *old_use_of, size_t old_n_objects)
{
    struct recording_unwind *u = &rec->unwind;

    for (size_t i = 0; i < u->list.n_mappings; i++) {
        const struct raw_mapping *m = &u->list.mappings[i];
        bool vdso = m->object == RAW_NO_OBJECT && strcmp(raw_profile_string(&u->list, m->name), "[vdso]") == 0;
        if (m->object == RAW_NO_OBJECT && !vdso)
            continue;
        uint32_t object = vdso ? COLLECTOR_OBJECT_VDSO : m->object;
        uint32_t *use_of = &u->use_of[vdso ? u->list.n_objects : object];
        if (*use_of != RECORDING_UNWIND_NO_USE)
            continue;
        if (u->n_uses == RECORDING_UNWIND_MAX_USES) {
            u->n_left_out++;
            continue;
        }
        struct recording_use *use = &u->uses[u->n_uses];
        use_begin(rec, use, object, m);
        const struct recording_use *before = use_before(old, old_use_of, old_n_objects, object);
        if (before && before->entry == use->entry) {
            use->why = before->why;
            use->begun = before->begun;
            use->noted = before->noted;
            use->paid = before->paid;
        }
        *use_of = (uint32_t)u->n_uses++;
    }
    qsort(u->uses, u->n_uses, sizeof(*u->uses), compare_uses);
    for (size_t i = 0; i < u->n_uses; i++) {
        uint32_t object = u->uses[i].object;
        u->use_of[object == COLLECTOR_OBJECT_VDSO ? u->list.n_objects : object] = (uint32_t)i;
    }
}

static void uses_drop(struct recording *rec, struct recording_use *uses, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (uses[i].entry)
            unwind_tables_drop(recording_tables(rec), uses[i].entry);
    free(uses);
}

/* Takes over a list. What both lists have stays in use all the while. */
static int recording_unwind_take_list(struct recording *rec, struct raw_profile *list)
{
    struct recording_unwind *u = &rec->unwind;
    struct recording_unwind old = *u;
    size_t room = list->n_objects < RECORDING_UNWIND_MAX_USES ? list->n_objects + 1 : RECORDING_UNWIND_MAX_USES;
    AUTO_FREE struct recording_use *uses = calloc(room, sizeof(*uses));
    AUTO_FREE uint32_t *use_of = malloc((list->n_objects + 1) * sizeof(*use_of));

    if (!uses || !use_of)
        return -ENOMEM;
    memset(use_of, 0xff, (list->n_objects + 1) * sizeof(*use_of));
    u->list = *list;
    u->uses = TAKE_PTR(uses);
    u->use_of = TAKE_PTR(use_of);
    u->n_uses = 0;
    u->n_left_out = 0;
    uses_collect(rec, old.uses, old.use_of, old.listed ? old.list.n_objects : 0);
    uses_drop(rec, old.uses, old.n_uses);
    free(old.use_of);
    if (old.listed)
        raw_profile_close(&old.list);
    u->listed = true;
    return 0;
}

bool recording_unwind_maps(const struct recording *rec, uint64_t start, uint64_t end)
{
    const struct recording_unwind *u = &rec->unwind;

    for (size_t i = 0; u->listed && i < u->list.n_mappings; i++) {
        const struct raw_mapping *m = &u->list.mappings[i];
        if (m->object == RAW_NO_OBJECT || m->start >= end || start >= m->end)
            continue;
        uint32_t use = u->use_of[m->object];
        if (use == RECORDING_UNWIND_NO_USE || recording_use_why(&u->uses[use]) != UNWIND_WHY_NOT_ELF)
            return true;
    }
    return false;
}

void recording_unwind_on_replaced(struct recording *rec, uint64_t start, uint64_t end, uint32_t epoch)
{
    struct recording_unwind *u = &rec->unwind;
    unsigned i = u->n_replaced;

    if (i == RECORDING_UNWIND_MAX_REPLACED) {
        i--;
        start = start < u->replaced[i].start ? start : u->replaced[i].start;
        end = end > u->replaced[i].end ? end : u->replaced[i].end;
    } else {
        u->n_replaced++;
    }
    u->replaced[i].start = start;
    u->replaced[i].end = end;
    u->replaced[i].epoch = epoch;
    u->due = true;
    (void)event_del(u->pause); /* this can't wait */
    recording_unwind_work(rec);
}

/* A list that was read in that epoch has what is there now. */
static void recording_unwind_forget_replaced(struct recording_unwind *u, uint32_t epoch)
{
    unsigned n = 0;

    for (unsigned i = 0; i < u->n_replaced; i++)
        if (u->replaced[i].epoch > epoch)
            u->replaced[n++] = u->replaced[i];
    u->due = u->due || n != u->n_replaced;
    u->n_replaced = n;
}

void recording_unwind_on_mappings(struct recording *rec, const struct collector_message *m, int fd)
{
    AUTO_CLOSE int owned = fd;
    struct raw_profile list;

    if (rec->phase > PHASE_OPEN || !rec->unwind.observing)
        return;
    if (!m->u.mappings.same) {
        if (raw_table_open(owned, &list) < 0)
            return;
        if (recording_unwind_take_list(rec, &list) < 0) {
            raw_profile_close(&list);
            return;
        }
        recording_labels_withdraw(rec);
        rec->unwind.exec_epoch = m->u.mappings.exec_epoch;
        rec->unwind.n_left_out += m->u.mappings.cut;
        rec->unwind.due = true;
        /* It took its time, and events are not even attached. */
        if (rec->unwind.waited && rec->phase < PHASE_RECHECKING)
            rec->unwind.waited = !recording_unwind_prolong(rec);
    }
    rec->unwind.listed_vm = m->u.mappings.code_bytes / (uint64_t)sysconf(_SC_PAGESIZE);
    if (rec->recorder)
        __atomic_store_n(&recording_ctl(rec)->listed_vm, rec->unwind.listed_vm, __ATOMIC_RELEASE);
    rec->unwind.listed_ns = m->u.mappings.read_ns;
    rec->unwind.epoch = m->u.mappings.epoch;
    recording_unwind_forget_replaced(&rec->unwind, m->u.mappings.epoch);
    recording_unwind_work(rec);
}

/* ---- when */

static bool recording_unwind_is_complete(const struct recording_unwind *u)
{
    for (size_t i = 0; i < u->n_uses; i++)
        if (!use_is_settled(&u->uses[i]))
            return false;
    return u->listed && !recording_unwind_is_due(u);
}

bool recording_unwind_is_ready(const struct recording *rec)
{
    return rec->unwind.waited || !rec->unwind.observing || recording_unwind_is_complete(&rec->unwind);
}

static void recording_unwind_work(struct recording *rec)
{
    for (size_t i = 0; i < rec->unwind.n_uses; i++) {
        use_note(&rec->unwind, &rec->unwind.uses[i]);
        use_pay(&rec->unwind, &rec->unwind.uses[i]);
    }
    recording_unwind_claim(rec);
    recording_unwind_update(rec);
    if (!recording_unwind_is_complete(&rec->unwind))
        return;
    rec->unwind.known_epoch = rec->unwind.epoch + 1;
    rec->unwind.labels_known = true;
    if (rec->recorder)
        recording_labels_publish(&rec->unwind, recording_ctl(rec));
    if (!rec->unwind.waited) {
        rec->unwind.waited = true;
        recording_unwind_ready(rec);
    }
}

static void recording_unwind_on_change(void *userdata)
{
    recording_unwind_work(userdata);
}

static void recording_unwind_on_pause(evutil_socket_t fd, short what, void *arg)
{
    recording_unwind_work(arg);
}

/* Each stack counts for good, of a dump, and of what lives: these wait for longer, once their target's mappings are known. */
static bool recording_unwind_prolong(struct recording *rec)
{
    bool for_good = rec->params.event == EVENT_DUMP || rec->params.event == EVENT_HEAP || rec->params.event == EVENT_CUSTOM;
    struct timeval more = {.tv_sec = (RECORDING_UNWIND_LONG_WAIT_MS - RECORDING_UNWIND_WAIT_MS) / 1000,
                           .tv_usec = (RECORDING_UNWIND_LONG_WAIT_MS - RECORDING_UNWIND_WAIT_MS) % 1000 * 1000};
    struct recording_unwind *u = &rec->unwind;

    if (!for_good || !u->listed || u->prolonged || event_add(u->deadline, &more) < 0)
        return false;
    u->prolonged = true;
    return true;
}

static void recording_unwind_on_deadline(evutil_socket_t fd, short what, void *arg)
{
    struct recording *rec = arg;
    struct recording_unwind *u = &rec->unwind;

    if (u->waited || recording_unwind_prolong(rec))
        return;
    u->waited = true;
    recording_unwind_ready(rec);
}

void recording_unwind_on_open(struct recording *rec)
{
    struct recording_unwind *u = &rec->unwind;

    u->waited = true;
    u->opened = true;
    for (size_t i = 0; i < u->n_uses; i++)
        u->n_late += !use_is_settled(&u->uses[i]);
}

/* ---- life */

int recording_unwind_init(struct recording *rec)
{
    struct recording_unwind *u = &rec->unwind;
    struct timeval wait = {.tv_usec = RECORDING_UNWIND_WAIT_MS * 1000};

    u->recording = rec;
    if (rec->params.unwind == SESSION_UNWIND_COPY)
        return 0; /* nobody would read them, nor labels */
    u->labels_alone = rec->params.unwind == SESSION_UNWIND_FP;
    u->pause = evtimer_new(rec->server->base, recording_unwind_on_pause, rec);
    u->deadline = evtimer_new(rec->server->base, recording_unwind_on_deadline, rec);
    u->answer = evtimer_new(rec->server->base, recording_unwind_on_silence, rec);
    if (!u->pause || !u->deadline || !u->answer || event_add(u->deadline, &wait) < 0)
        return -ENOMEM;
    u->observer = (struct unwind_observer){.changed = recording_unwind_on_change, .userdata = rec};
    unwind_tables_observe(recording_tables(rec), &u->observer);
    u->observing = true;
    return 0;
}

void recording_unwind_deinit(struct recording *rec)
{
    struct recording_unwind *u = &rec->unwind;

    if (u->observing) {
        while (u->n_asked > 0)
            recording_unwind_answer(rec, -ECANCELED, -1);
        recording_unwind_set_place(rec, 0);
        uses_drop(rec, TAKE_PTR(u->uses), u->n_uses);
        unwind_tables_unobserve(recording_tables(rec), &u->observer);
    }
    free(TAKE_PTR(u->use_of));
    if (u->listed)
        raw_profile_close(&u->list);
    if (u->pause)
        event_free(u->pause);
    if (u->deadline)
        event_free(u->deadline);
    if (u->answer)
        event_free(u->answer);
    *u = (struct recording_unwind){0};
}

/* ---- what is said */

static int tables_facts(const struct recording_unwind *u, struct raw_writer *w)
{
    uint64_t n_tables = 0, n_unfinished = 0;
    int r = 0;

    for (size_t i = 0; i < u->n_uses; i++) {
        n_tables += u->uses[i].written_kind == UNWIND_MAPPING_TABLE;
        n_unfinished += !use_is_settled(&u->uses[i]);
    }
    r = raw_writer_fact(w, "unwind.tables", "%llu", (unsigned long long)n_tables);
    if (u->n_late)
        r = r ? r : raw_writer_fact(w, "unwind.tables_late", "%llu", (unsigned long long)u->n_late);
    if (u->n_missing + n_unfinished)
        r = r ? r : raw_writer_fact(w, "unwind.tables_missing", "%llu", (unsigned long long)(u->n_missing + n_unfinished));
    for (size_t i = 0; i < u->n_named; i++)
        r = r ? r : raw_writer_fact(w, "unwind.no_table", "%s: %s", u->named[i].path, unwind_why_text(u->named[i].why));
    for (size_t i = 0, named = u->n_named; i < u->n_uses && named < RECORDING_UNWIND_MAX_NAMED; i++) {
        if (use_is_settled(&u->uses[i]))
            continue;
        r = r ? r : raw_writer_fact(w, "unwind.no_table", "%.255s: %s", use_path(u, &u->uses[i]), unwind_why_text(UNWIND_WHY_LATE));
        named++;
    }
    if (u->n_cut)
        r = r ? r : raw_writer_fact(w, "unwind.mappings_cut", "%llu", (unsigned long long)u->n_cut);
    if (u->overdue)
        r = r ? r : raw_writer_fact(w, "unwind.space", "there was no room for all mappings: table-memory is used up");
    return r;
}

int recording_unwind_facts(const struct recording_unwind *u, struct raw_writer *w)
{
    int r = u->observing && !u->labels_alone ? tables_facts(u, w) : 0;

    return r ? r : recording_labels_facts(u, w);
}
