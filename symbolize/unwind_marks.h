/* What is known of code from elsewhere than its call frame information, laid over the rows that come from there. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "util/unwind_table.h"

struct unwind_mark {
    uint64_t start, end; /* file offsets */
    struct unwind_rule rule;
};

#define UNWIND_MAX_MARKS (1u << 18)

struct unwind_marks {
    struct unwind_mark *list;
    size_t n, room;
};

/* 0, -ENOMEM, or -EFBIG beyond UNWIND_MAX_MARKS. Empty ones are not added. */
int unwind_marks_add(struct unwind_marks *marks, uint64_t start, uint64_t end, struct unwind_rule rule);
/* Sorts them; of two that overlap the later one begins where it does, and the other ends there. */
void unwind_marks_settle(struct unwind_marks *marks);
void unwind_marks_deinit(struct unwind_marks *marks);

/* A layer: rows go in, and come out with the marks laid over them: over everything, or only where nothing is known. */
struct unwind_layer {
    const struct unwind_marks *marks;
    bool only_gaps;
    size_t next;              /* mark: the first one that has not ended */
    bool inside;              /* of it */
    struct unwind_rule under; /* the last row that came in */
    void (*put)(void *userdata, uint64_t offset, const struct unwind_rule *rule);
    void *userdata;
};

/* Rows ascend. */
void unwind_layer_put(struct unwind_layer *layer, uint64_t offset, const struct unwind_rule *rule);
/* Lets marks out that lie behind the last row. */
void unwind_layer_finish(struct unwind_layer *layer);
