/* How far a stack agrees with the true one, counted by program counter, and what is wrong where it does not. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "bpf/sample.h"

/* A stack as somebody found it, and the true one. */
struct tally_stack {
    const uint64_t *frames;
    size_t n;
    bool rooted; /* it says that the last frame is the outermost */
};

struct tally_truth {
    const uint64_t *frames;
    const bool *interrupted;
    size_t n;             /* may be more than what frames holds: CPROFD_MAX_FRAMES */
    bool whole;           /* its last frame is the outermost, and may be proven to be; else a stack that was switched to */
    bool open;            /* what is beyond its last frame is not known */
};

#define TALLY_AGREES SIZE_MAX
/* The first frame that is wrong, or that is missing or too much; the number of frames where only the end is wrong. */
size_t tally_compare(const struct tally_stack *stack, const struct tally_truth *truth);

struct tally_pc;
struct tally_class;

/* One reference or the walker: its verdicts by program counter. */
struct tally {
    const char *name;
    struct tally_pc *pcs;
    struct tally_class *classes;
    uint64_t stacks, stacks_agreed;
};

/* How a stack was found, for what is counted apart. */
enum tally_way { TALLY_BY_CFI, TALLY_BY_FRAME_POINTER, TALLY_BY_GUESS, TALLY_WAYS };

/* One stack, stopped at pc of object. kind is NULL where it agrees; else what is wrong, and culprit_* the frame that the wrong step was made
 * from. Names are copied. */
struct tally_verdict {
    const char *object;
    uint64_t object_pc;
    enum tally_way way;
    const char *kind, *culprit_object, *culprit_function;
    uint64_t culprit_pc;
    bool seconded; /* where it does not agree: another unwinder found the very same */
};
int tally_add(struct tally *tally, const struct tally_verdict *verdict);
void tally_print_json(const struct tally *tally, FILE *to);
void tally_deinit(struct tally *tally);
