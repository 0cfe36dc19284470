/* Looks in .text alone: what lies between functions elsewhere (.plt, .init) is known by other means. */
#include "symbolize/unwind_assembly_find.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

#include "symbolize/unwind_assembly.h"
#include "symbolize/unwind_rule.h"
#include "util/cleanup.h"

struct range {
    uint64_t start, end; /* file offsets */
};

struct gaps {
    const uint8_t *code; /* the file's bytes */
    bool (*is_padding)(const uint8_t *code, size_t bytes);
    struct range *list;
    size_t n, room;
    uint64_t bytes;
};

static int gaps_add(struct gaps *gaps, uint64_t start, uint64_t end)
{
    if (start >= end || gaps->is_padding(gaps->code + start, end - start))
        return 0;
    if (gaps->n == gaps->room) {
        size_t room = gaps->room ? 2 * gaps->room : 256;
        struct range *list = reallocarray(gaps->list, room, sizeof(*list));
        if (!list)
            return -ENOMEM;
        gaps->list = list;
        gaps->room = room;
    }
    gaps->list[gaps->n++] = (struct range){start, end};
    gaps->bytes += end - start;
    return 0;
}

static void gaps_deinit(struct gaps *gaps)
{
    free(gaps->list);
}

/* What of [start, end) no mark speaks of. *next: the first mark that may reach it. */
static int gaps_add_unmarked(struct gaps *gaps, const struct unwind_marks *marks, size_t *next, uint64_t start, uint64_t end)
{
    int r = 0;

    while (*next < marks->n && marks->list[*next].end <= start)
        (*next)++;
    for (size_t i = *next; r == 0 && i < marks->n && marks->list[i].start < end; i++) {
        r = gaps_add(gaps, start, marks->list[i].start);
        start = marks->list[i].end > start ? marks->list[i].end : start;
    }
    return r == 0 ? gaps_add(gaps, start, end) : r;
}

static int gaps_find(struct gaps *gaps, const struct range *text, const struct unwind_fdes *fdes, const struct unwind_marks *marks)
{
    uint64_t at = text->start;
    size_t next = 0;
    int r = 0;

    for (size_t i = 0; r == 0 && i < fdes->n && at < text->end; i++) {
        const struct unwind_fde *fde = &fdes->list[i];
        if (fde->start + fde->bytes <= at)
            continue;
        if (fde->start > at)
            r = gaps_add_unmarked(gaps, marks, &next, at, fde->start < text->end ? fde->start : text->end);
        at = fde->start + fde->bytes;
    }
    return r == 0 ? gaps_add_unmarked(gaps, marks, &next, at, text->end) : r;
}

static bool find_text(const struct unwind_file *file, struct range *ret)
{
    GElf_Shdr text;

    if (!elf_file_section(&file->elf, ".text", &text) || text.sh_type == SHT_NOBITS || text.sh_offset >= file->n_bytes)
        return false;
    uint64_t room = file->n_bytes - text.sh_offset;
    *ret = (struct range){text.sh_offset, text.sh_offset + (text.sh_size < room ? text.sh_size : room)};
    return true;
}

int unwind_assembly_find(const struct unwind_file *file, const struct unwind_arch *arch, const struct unwind_fdes *fdes, struct unwind_marks *marks)
{
    CLEANUP(gaps_deinit) struct gaps gaps = {.code = file->bytes, .is_padding = arch->is_padding};
    struct range text;

    if (!arch->read_assembly || fdes->go.table.data || !find_text(file, &text))
        return 0;
    int r = gaps_find(&gaps, &text, fdes, marks);
    if (r < 0 || gaps.bytes > UNWIND_MAX_ASSEMBLY_BYTES)
        return r;
    for (size_t i = 0; r == 0 && i < gaps.n; i++)
        r = arch->read_assembly(file->bytes, gaps.list[i].start, gaps.list[i].end, marks);
    unwind_marks_settle(marks);
    return r == -EFBIG ? 0 : r; /* what found no room stays unknown */
}
