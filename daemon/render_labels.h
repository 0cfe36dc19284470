/* The labels that threads had given themselves, for samples. Private to the renderer's files. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bpf/sample.h"
#include "pprof/profile.h"

struct render_job;

/* Before keys that are ours. */
#define RENDER_LABELS_PREFIX "label."
/* Of a sample; further ones are left out. One more says what was lost. */
#define RENDER_MAX_LABELS 128
/* The shortest entry has three bytes. Of a pair: its bytes, two ends in place of one and of two bytes before it, and the prefix. */
#define RENDER_MAX_PAIRS (LABELS_PLACES * (LABELS_SET_BYTES / 3))
#define RENDER_LABELS_TEXT_BYTES (LABELS_PLACES * LABELS_SET_BYTES + RENDER_MAX_PAIRS * sizeof(RENDER_LABELS_PREFIX))

struct render_labels {
    struct profile_label list[RENDER_MAX_LABELS + 1];
    size_t n;
    const char *lost;   /* what went wrong with some of them, in a word; NULL: nothing. The list says it, too */
    bool cut, left_out; /* some, mostly by the program itself */
    size_t text_bytes;
    char text[RENDER_LABELS_TEXT_BYTES]; /* of keys and values */
};

/* The labels of a stack, of any bytes. */
void render_labels_read(const struct render_job *job, const struct stack_record *stack, struct render_labels *ret);
/* Says of so many samples what is to be said of their labels. */
void render_labels_count(struct render_job *job, const struct stack_record *stack, uint64_t samples);
