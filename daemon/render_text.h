/* The pieces of the text formats (render_text.c), and what goroutines (render_goroutine_text.c) and contentions
 * (render_contention_text.c) have otherwise. Private to these. Each returns 0 or -ENOMEM. */
#pragma once

#include <stdio.h>

#include "daemon/render_job.h"

struct text_frame {
    struct frame *frame;
    uint64_t address, offset; /* offset: from where its function begins */
    size_t hidden_lines;      /* of its functions, so many innermost ones are not shown */
};

/* ---- render_text.c */

/* One line of UTF-8: names and paths are hostile. */
int text_line_part(FILE *out, const char *text);
int text_frame_get(struct render_job *job, const struct render_sample *sample, size_t i, struct text_frame *ret);
/* A function and its place, on two lines. */
int text_call(FILE *out, const struct render_job *job, const struct text_frame *f, const struct profile_line *line);

/* All functions of a frame, the innermost inlined one first. */
int text_frame_lines(FILE *out, const struct render_job *job, const struct text_frame *f);
/* Behind a record's numbers: the addresses of its frames, on lines of their own what these are, and an empty line. */
int text_stack(FILE *out, struct render_job *job, const struct render_sample *sample);
int text_facts(FILE *out, const struct facts *facts);
/* What readers need to say where addresses are from. */
int text_mappings(FILE *out, const struct raw_profile *raw);

/* ---- render_contention_text.c */

/* The profile's samples are contentions: then the text is of these. */
bool text_has_contentions(const struct render_job *job);
/* Changes the order of samples. */
int text_contentions(FILE *out, struct render_job *job, const struct render_sample **samples, size_t n);

/* ---- render_heap_text.c */

/* Of allocations. Changes the order of samples. */
int text_heaps(FILE *out, struct render_job *job, const struct render_sample **samples, size_t n);

/* ---- render_goroutine_text.c */

/* 0: the stacks and the labels are the same. */
int text_compare_goroutines(const struct render_sample *a, const struct render_sample *b);
/* "# labels: {...}", if there are any. */
int text_goroutine_labels(FILE *out, const struct render_job *job, const struct render_sample *sample);
/* The frame that the lines of a stack begin with, and how many of its innermost functions are not shown: those of the runtime before it are its
 * addresses alone. */
size_t text_goroutine_first(struct render_job *job, const struct render_sample *sample, size_t *ret_hidden);
/* A function's name; of Go's instances of generic functions without their types, as Go's own texts have it. */
int text_function(FILE *out, const struct render_job *job, const char *name);
/* goroutine N [state]: and its stack. */
int text_goroutine(FILE *out, struct render_job *job, const struct render_sample *sample);
