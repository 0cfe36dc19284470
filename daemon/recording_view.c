/* What sessions read of a recording: mappings and files, which its collector gives, and counts. Owns the views' places in the queues of
 * questions; a view belongs to its session. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/recording_impl.h"
#include "daemon/session_raw.h"
#include "util/clock.h"

/* ---- questions */

static void questions_forget(struct recording_questions *q, const struct recording_view *v)
{
    for (unsigned i = 0; i < q->n; i++)
        if (q->asked[i].view == v)
            q->asked[i].view = NULL;
}

static struct recording_question questions_take(struct recording_questions *q)
{
    if (q->n == 0)
        return (struct recording_question){0};
    struct recording_question oldest = q->asked[0];
    q->n--;
    memmove(q->asked, q->asked + 1, q->n * sizeof(q->asked[0]));
    return oldest;
}

static int recording_ask(struct recording *rec, struct recording_questions *q, struct recording_question from, const struct collector_message *m)
{
    if (!rec->collector)
        return -ESRCH;
    if (q->n == RECORDING_MAX_QUESTIONS)
        return -EBUSY;
    int r = child_send(rec->collector, m, sizeof(*m), NULL, 0);
    if (r < 0)
        return r;
    q->asked[q->n++] = from;
    if (!rec->watch)
        child_set_deadline(rec->collector, RECORDING_ANSWER_DEADLINE_NS);
    return 0;
}

static int view_ask(struct recording_view *v, struct recording_questions *q, const struct collector_message *m)
{
    return recording_ask(v->recording, q, (struct recording_question){.view = v}, m);
}

int recording_ask_late(struct recording *rec, const struct collector_message *m)
{
    return recording_ask(rec, &rec->files, (struct recording_question){.late = true}, m);
}

int recording_view_ask_table(struct recording_view *v)
{
    struct collector_message m = {.type = COLLECTOR_SNAPSHOT};
    return view_ask(v, &v->recording->tables, &m);
}

int recording_view_ask_file(struct recording_view *v, const struct worker_message *need)
{
    struct collector_message m = {.type = COLLECTOR_FILE, .u.file = *need};
    return view_ask(v, &v->recording->files, &m);
}

/* ---- answers */

void recording_answer_table(struct recording *rec, int fd)
{
    struct recording_view *v = questions_take(&rec->tables).view;

    if (v)
        v->ops.table(v->userdata, fd);
    else if (fd >= 0)
        (void)close(fd);
}

void recording_answer_file(struct recording *rec, int error, int fd)
{
    struct recording_question from = questions_take(&rec->files);

    if (from.view)
        from.view->ops.file(from.view->userdata, error, fd);
    else if (from.late)
        recording_late_on_file(rec, error, fd);
    else if (fd >= 0)
        (void)close(fd);
}

void recording_answer_all(struct recording *rec)
{
    while (rec->files.n > 0)
        recording_answer_file(rec, -ESRCH, -1);
    while (rec->tables.n > 0)
        recording_answer_table(rec, -1);
}

/* ---- life */

struct recording_view *recording_view_new(struct recording *rec, const struct recording_view_ops *ops, void *userdata)
{
    struct recording_view *v = rec->n_views < RECORDING_MAX_VIEWS ? calloc(1, sizeof(*v)) : NULL;

    if (!v)
        return NULL;
    *v = (struct recording_view){.recording = rec, .ops = *ops, .userdata = userdata};
    TAILQ_INSERT_TAIL(&rec->views, v, link);
    rec->n_views++;
    return v;
}

void recording_view_free(struct recording_view *v)
{
    if (!v)
        return;
    questions_forget(&v->recording->tables, v);
    questions_forget(&v->recording->files, v);
    TAILQ_REMOVE(&v->recording->views, v, link);
    v->recording->n_views--;
    free(v);
}

struct child *recording_view_take_collector(struct recording_view *v)
{
    struct child *collector = v->recording->collector;

    if (v->recording->watch)
        return NULL;
    v->recording->collector = NULL;
    return collector;
}

/* ---- the counts */

const struct image_access *recording_access(const struct recording *rec)
{
    return &rec->access;
}

int recording_view_raw(struct recording_view *v, const struct session_params *params, const struct recording_reading *reading)
{
    struct recording *rec = v->recording;
    const struct session_ctl *ctl = recording_ctl(rec);
    bool running = rec->phase == PHASE_OPEN;
    uint64_t window_ns = running ? monotonic_ns() - ctl->opened_ns : rec->window_ns;
    struct session_facts facts = {
        .pid = rec->pid, .time_ns = (int64_t)rec->time_ns, .window_ns = window_ns, .cpu_actual_ns = rec->cpu_actual_ns,
        .cpu_actual_known = rec->cpu_known, .daemon_cpu_ns = rec->daemon_cpu_ns + rec->unwind.cpu_ns, .ended = rec->ended,
        .mappings = rec->mappings, .target = rec->exited ? "exited" : rec->execed ? "execed" : NULL,
        .access = reading->access ? reading->access : &rec->access, .unwind = &rec->unwind, .go = &rec->go, .probe = &rec->probe,
        .heap = rec->heap ? rec : NULL, .growth = rec->params.event == EVENT_GROWTH ? &rec->growth : NULL,
        .custom = rec->custom ? rec : NULL, .thin = rec->spent.thin,
        .end_ns = ctl->opened_ns + window_ns, .clock = v->recording->clock, .since_ns = reading->since_ns, .anew = reading->anew,
    };

    if (rec->collector)
        facts.daemon_cpu_ns += child_cpu_ns(rec->collector);
    if (running) {
        int r = recorder_read(rec->recorder);
        if (r < 0)
            return r;
    }
    return session_raw(rec->recorder, params, &facts, reading->table_fd >= 0 ? reading->table_fd : rec->table_fd);
}
