/* Measures into the page that is shared with the loop. Parts of the time that don't lie in the window count for nothing: in them hits are not
 * counted, or cost something else. */
#include "daemon/attacher_work.h"

#include <string.h>
#include <unistd.h>

#include "bpf/mode_ticks.h"
#include "bpf/sampler.h"
#include "bpf/uprobe_price.h"
#include "daemon/attacher.h"
#include "util/clock.h"

/* Longer than any instruction. */
#define INSN_BYTES 16
#define WORK_PAGE (WORK_PAGE_PLACES - 1)
/* What probes take at least, one part in so many of the target's CPU time, for ticks to be of use. */
#define WORK_TICKS_PART 100

static const struct session_ctl *work_ctl(const struct attacher_request *q)
{
    return &q->sampler->ctl[q->slot];
}

static bool work_is_open(const struct attacher_request *q)
{
    return __atomic_load_n(&work_ctl(q)->state, __ATOMIC_ACQUIRE) == SESSION_OPEN;
}

/* ---- where threads go on behind a probe */

bool attacher_work_jump(const uint8_t *code, long len, int64_t *ret)
{
    bool near = len >= 6 && code[0] == 0x0f && (code[1] & 0xf0) == 0x80, far = len >= 5 && (code[0] == 0xe8 || code[0] == 0xe9);
    bool brief = len >= 2 && ((code[0] & 0xf0) == 0x70 || code[0] == 0xeb);
    int32_t distance;

    if (brief) {
        *ret = 2 + (int8_t)code[1];
        return true;
    }
    if (!near && !far)
        return false;
    memcpy(&distance, code + (near ? 2 : 1), sizeof(distance));
    *ret = (near ? 6 : 5) + (int64_t)distance;
    return true;
}

static void work_resumes(struct attacher_work *w, uint64_t at)
{
    w->resumed[(at & WORK_PAGE) / 8] |= (uint8_t)(1u << (at & 7));
}

/* Behind the instruction, however long it is. What a program does there by itself is left out with probes and without. */
static void work_place(struct attacher_work *w, int fd, uint64_t offset)
{
    uint8_t code[INSN_BYTES];
    int64_t distance;

    for (uint64_t i = 1; i < INSN_BYTES; i++)
        work_resumes(w, offset + i);
    if (attacher_work_jump(code, pread(fd, code, sizeof(code), (off_t)offset), &distance))
        work_resumes(w, offset + (uint64_t)distance);
}

void attacher_work_more(struct attacher_work *w, const struct role_file *file)
{
    for (size_t i = 0; i < file->n; i++)
        work_place(w, file->fd, file->places[i].offset);
}

void attacher_work_begin(const struct attacher_request *q, struct attacher_work *ret)
{
    *ret = (struct attacher_work){0};
    /* Behind a return probe threads go on wherever they were called: such ticks can't be told from those in their own code. */
    if (q->params->event != EVENT_HEAP || q->sampler->heap.session_prog >= 0)
        (void)mode_ticks_new(q->pid, &ret->ticks);
    for (size_t i = 0; i < q->n_places; i++)
        work_place(ret, q->probe_fd, q->places[i].offset);
    for (size_t i = 0; i < q->n_files; i++)
        attacher_work_more(ret, &q->files[i]);
}

/* ---- ticks */

/* On average so far. 0: not known. */
static uint64_t work_hit_ns(const struct attacher_request *q)
{
    const struct uprobe_price *price = q->sampler->price;
    uint64_t hit_ns = q->stepped ? price->stepped_ns : price->emulated_ns, hits = work_ctl(q)->hits;

    return hit_ns > 0 && hits > 0 ? hit_ns + work_ctl(q)->stepped_hits * uprobe_price_of_step_ns(price) / hits : hit_ns;
}

bool attacher_work_needs_ticks(const struct attacher_request *q, const struct attacher_work *w)
{
    const struct duty_work *done = &q->progress->work;
    uint64_t hit_ns = work_hit_ns(q);

    return w->ticks && (hit_ns == 0 || done->cpu_ns == 0 || done->hits * hit_ns + done->overhead_ns > done->cpu_ns / WORK_TICKS_PART);
}

void attacher_work_tick(const struct attacher_request *q, struct attacher_work *w)
{
    w->ticking = attacher_work_needs_ticks(q, w);
    w->open = work_is_open(q);
    if (w->ticking)
        mode_ticks_start(w->ticks);
}

/* Where the kernel single-steps instructions: the last page but one that a process may have, of 47 bits of addresses or of 56. */
static bool work_is_stepping(uint64_t address)
{
    uint64_t page = address / WORK_PAGE_PLACES;

    return page == (1ull << 47) / WORK_PAGE_PLACES - 2 || page == (1ull << 56) / WORK_PAGE_PLACES - 2;
}

struct work_ticks {
    const struct attacher_work *w;
    struct duty_work *to;
    bool counts, probed;
};

static void work_on_tick(const struct mode_tick *tick, void *userdata)
{
    const struct work_ticks *t = userdata;
    uint64_t at = tick->address & WORK_PAGE;

    if (!t->counts)
        return;
    bool own = tick->user && !(t->w->resumed[at / 8] >> (at & 7) & 1) && !work_is_stepping(tick->address);
    duty_tick(t->to, tick->tid, t->probed, own);
}

void attacher_work_ticked(const struct attacher_request *q, struct attacher_work *w, bool probed)
{
    struct work_ticks t = {.w = w, .to = &q->progress->work, .counts = w->open && work_is_open(q), .probed = probed};

    if (w->ticking)
        mode_ticks_stop(w->ticks, work_on_tick, &t);
    duty_part_end(t.to, probed);
    w->ticking = false;
}

void attacher_work_drop(struct attacher_work *w)
{
    struct work_ticks none = {.w = w};

    if (w->ticking)
        mode_ticks_stop(w->ticks, work_on_tick, &none);
    w->ticking = false;
}

/* ---- CPU time */

static int work_look(const struct attacher_request *q, struct attacher_look *ret)
{
    return attacher_look(q, (const uint64_t *)&work_ctl(q)->hits, ret);
}

void attacher_work_count(const struct attacher_request *q, struct attacher_work *w)
{
    w->overhead_ns = work_ctl(q)->overhead_ns;
    w->open = work_is_open(q) && work_look(q, &w->began) == 0;
    w->began_ns = monotonic_ns();
}

void attacher_work_counted(const struct attacher_request *q, struct attacher_work *w)
{
    struct attacher_look now;

    if (!w->open || work_look(q, &now) < 0 || !work_is_open(q))
        return;
    duty_count(&q->progress->work, monotonic_ns() - w->began_ns, now.hits - w->began.hits, now.before_ns - w->began.before_ns,
               work_ctl(q)->overhead_ns - w->overhead_ns);
}
