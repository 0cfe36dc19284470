/* Marks are few and rows many: each row is passed on at once, and a mark's borders are put in between. */
#include "symbolize/unwind_marks.h"

#include <errno.h>
#include <stdlib.h>

int unwind_marks_add(struct unwind_marks *marks, uint64_t start, uint64_t end, struct unwind_rule rule)
{
    if (start >= end)
        return 0;
    if (marks->n == marks->room) {
        size_t room = marks->room ? 2 * marks->room : 64;
        if (room > UNWIND_MAX_MARKS)
            return -EFBIG;
        struct unwind_mark *list = reallocarray(marks->list, room, sizeof(*list));
        if (!list)
            return -ENOMEM;
        marks->list = list;
        marks->room = room;
    }
    marks->list[marks->n++] = (struct unwind_mark){start, end, rule};
    return 0;
}

static int compare_marks(const void *a, const void *b)
{
    const struct unwind_mark *x = a, *y = b;
    if (x->start != y->start)
        return x->start < y->start ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

void unwind_marks_settle(struct unwind_marks *marks)
{
    size_t kept = 0;
    if (marks->n > 1)
        qsort(marks->list, marks->n, sizeof(*marks->list), compare_marks);
    for (size_t i = 0; i < marks->n; i++) {
        struct unwind_mark mark = marks->list[i];
        if (i + 1 < marks->n && marks->list[i + 1].start < mark.end)
            mark.end = marks->list[i + 1].start;
        if (mark.start < mark.end)
            marks->list[kept++] = mark;
    }
    marks->n = kept;
}

void unwind_marks_deinit(struct unwind_marks *marks)
{
    free(marks->list);
    *marks = (struct unwind_marks){0};
}

/* What comes out where a mark is in force, and where none is. */
static const struct unwind_rule *visible(const struct unwind_layer *layer)
{
    bool is_gap = UNWIND_CFA_KIND(layer->under.cfa) == UNWIND_CFA_NONE;
    return layer->inside && (is_gap || !layer->only_gaps) ? &layer->marks->list[layer->next].rule : &layer->under;
}

/* The borders of marks that begin before an offset, and end there or before. */
static void put_borders(struct unwind_layer *layer, uint64_t before)
{
    for (; layer->next < layer->marks->n; layer->next++) {
        const struct unwind_mark *mark = &layer->marks->list[layer->next];
        if (!layer->inside) {
            if (mark->start >= before)
                return;
            layer->inside = true;
            layer->put(layer->userdata, mark->start, visible(layer));
        }
        if (mark->end > before)
            return;
        layer->inside = false;
        layer->put(layer->userdata, mark->end, visible(layer));
    }
}

void unwind_layer_put(struct unwind_layer *layer, uint64_t offset, const struct unwind_rule *rule)
{
    put_borders(layer, offset);
    layer->under = *rule;
    if (!layer->inside && layer->next < layer->marks->n && layer->marks->list[layer->next].start == offset)
        layer->inside = true;
    layer->put(layer->userdata, offset, visible(layer));
}

void unwind_layer_finish(struct unwind_layer *layer) { put_borders(layer, UINT64_MAX); }
