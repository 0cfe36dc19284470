/* The goroutines of a Go program, read from its memory while it runs. Runs in a collector.
 *
 * Nothing stops the program meanwhile, so a goroutine is read twice, with its stack and labels in between: what it was has held for all
 * that time only where both are the same (a count of the times that it ran is among what is compared). What can't be had so is counted,
 * and never put together from two moments. Whatever is read may be the target's invention: every loop has its bound. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "symbolize/go_runtime.h"

struct raw_writer;

/* Goroutines that are read, and for how long at most. Those beyond are counted. */
#define GOROUTINES_MAX (1u << 20)
#define GOROUTINES_MAX_READ_NS (2 * 1000000000ull)
/* How often one is read that changes all the time. */
#define GOROUTINES_TRIES 5
/* Labels of one goroutine, and the bytes of them. */
#define GOROUTINES_MAX_LABELS 64
#define GOROUTINES_MAX_LABEL_BYTES 4096u

struct goroutine_source {
    /* Bytes of the target's memory at an address: how many there were, or -errno. */
    ssize_t (*read)(void *userdata, uint64_t address, void *to, size_t len);
    void *userdata;
    const struct go_runtime *runtime; /* sound */
    uint64_t bias;                    /* what is added to the file's addresses */
    const void *image;                /* the program's unwinding table (util/unwind_table.h), checked; NULL: frame pointers alone */
};

/* They sum up: listed = dead + read + unread. */
struct goroutine_counts {
    uint64_t listed;    /* the runtime never forgets one: */
    uint64_t dead;      /* most of these ended */
    uint64_t read;
    uint64_t unread;    /* beyond the bounds, or not in memory */
    uint64_t torn;      /* of those read: without a stack, since they ran all the time */
    uint64_t running;   /* of those read: on a thread */
    uint64_t unlabeled; /* of those read: whose labels could not be had */
};

/* Adds RAW_RECORDS (stacks), RAW_GOROUTINES and RAW_LABELS. now_ns: CLOCK_MONOTONIC as the process sees it; 0: not known; epoch: of the mappings.
 * 0; -ENODATA: there is no list where it must be; -ENOMEM; -errno of the writer. */
int goroutines_read(const struct goroutine_source *source, uint64_t now_ns, uint32_t epoch, struct raw_writer *w, struct goroutine_counts *ret);
