/* Large programs (chromium is one) are built without CFI, but with frame pointers. Functions that are called tell: what calls name in some
 * samples of the code is looked at, and where nearly all of it begins by setting up a frame, the code counts as keeping them.
 *
 * Samples, because text is not read otherwise, and a program's coldest pages may have to come from a disk. */
#include "symbolize/unwind_gaps.h"

#include <string.h>

#define MIN_PROBED_GAP_BYTES 65536u
#define SAMPLES 64u
#define SAMPLE_BYTES 2048u
#define MIN_TARGETS 64u
#define MAX_TARGETS 1024u
#define MIN_FRAME_PERCENT 80u
#define MAX_SEARCHED_BYTES (4u << 20) /* for starts of threads, in a whole file */

struct gap {
    uint64_t offset, address, bytes; /* in the file */
    const uint8_t *code;
};

struct targets {
    unsigned n, with_frame;
};

static void probe_calls(const struct unwind_arch *arch, const struct gap *gap, uint64_t from, uint64_t bytes, struct targets *targets)
{
    for (uint64_t at = from; at + UNWIND_CALL_BYTES <= from + bytes && targets->n < MAX_TARGETS; at += arch->code_align) {
        uint64_t target;
        if (!arch->call_target(gap->code + at, gap->address + at, &target) || target < gap->address || target - gap->address >= gap->bytes)
            continue;
        uint64_t place = target - gap->address;
        targets->n++;
        targets->with_frame += arch->sets_up_frame(gap->code + place, gap->bytes - place);
    }
}

static bool keeps_frame_pointers(const struct unwind_arch *arch, const struct gap *gap)
{
    struct targets targets = {0};
    uint64_t step = gap->bytes / SAMPLES / arch->code_align * arch->code_align;
    for (uint64_t i = 0; i < SAMPLES; i++)
        probe_calls(arch, gap, i * step, step < SAMPLE_BYTES ? step : SAMPLE_BYTES, &targets);
    return targets.n >= MIN_TARGETS && 100 * targets.with_frame >= MIN_FRAME_PERCENT * targets.n;
}

/* musl's clone, whose child is a thread's outermost frame. */
static int mark_thread_starts(const struct unwind_arch *arch, const struct gap *gap, struct unwind_known *known)
{
    static const struct unwind_rule root = {.cfa = UNWIND_CFA_ROOT};
    uint64_t at = 0, start, end;
    int r = 0;
    while (r == 0 && arch->find_thread_start(gap->code, gap->bytes, at, &start, &end)) {
        r = unwind_marks_add(&known->over, gap->offset + start, gap->offset + end, root);
        at = end;
    }
    return r;
}

struct search {
    const struct unwind_file *file;
    const struct unwind_arch *arch;
    struct unwind_known *known;
    uint64_t searched;
};

static int mark_gap(struct search *s, const struct gap *gap)
{
    static const struct unwind_rule frame_pointer = {.cfa = UNWIND_CFA_FRAME_POINTER};
    int r = 0;
    s->searched += gap->bytes;
    if (s->searched <= MAX_SEARCHED_BYTES)
        r = mark_thread_starts(s->arch, gap, s->known);
    if (r == 0 && gap->bytes >= MIN_PROBED_GAP_BYTES && keeps_frame_pointers(s->arch, gap))
        r = unwind_marks_add(&s->known->gaps, gap->offset, gap->offset + gap->bytes, frame_pointer);
    return r;
}

/* From `from` to the FDE's start, or to the segment's end. */
static int mark_between(struct search *s, const struct elf_segment *segment, uint64_t from, uint64_t to)
{
    if (from >= to)
        return 0;
    struct gap gap = {from, segment->address + (from - segment->offset), to - from, s->file->bytes + from};
    return mark_gap(s, &gap);
}

int unwind_gaps_mark(const struct unwind_file *file, const struct unwind_arch *arch, const struct unwind_fde *list, size_t n,
                     struct unwind_known *known)
{
    struct search s = {.file = file, .arch = arch, .known = known};
    int r = 0;
    for (size_t i = 0; r == 0 && i < file->segments.n && file->segments.list[i].executable; i++) {
        const struct elf_segment *segment = &file->segments.list[i];
        if (segment->offset >= file->n_bytes)
            continue;
        uint64_t room = file->n_bytes - segment->offset, at = segment->offset;
        uint64_t end = at + (segment->file_bytes < room ? segment->file_bytes : room);
        for (size_t j = 0; r == 0 && j < n && list[j].start < end; j++) {
            uint64_t fde_end = list[j].start + list[j].bytes;
            if (fde_end <= at)
                continue;
            r = mark_between(&s, segment, at, list[j].start);
            at = fde_end;
        }
        if (r == 0)
            r = mark_between(&s, segment, at, end);
    }
    return r;
}
