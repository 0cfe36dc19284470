/* Reads a ring of copying events (bpf/copy_events.h). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "bpf/sample.h"

struct copy_ring;

enum copy_item_type { COPY_ITEM_SAMPLE, COPY_ITEM_NAME, COPY_ITEM_EXEC, COPY_ITEM_FORK, COPY_ITEM_EXIT, COPY_ITEM_CODE, COPY_ITEM_LOST,
                      COPY_ITEM_THROTTLE, COPY_ITEM_UNTHROTTLE };

struct copy_item {
    enum copy_item_type type;
    uint32_t pid, tid;        /* FORK: of the new thread; THROTTLE, LOST: of nobody */
    uint32_t parent_tid;      /* FORK */
    uint64_t time_ns;         /* monotonic */
    char comm[CPROFD_COMM_LEN]; /* NAME, EXEC */
    uint64_t lost;            /* LOST: records */

    /* SAMPLE */
    uint64_t period;          /* the event's: says which it is */
    const uint64_t *kernel;   /* frames, leaf first */
    size_t n_kernel;
    bool has_registers;       /* false: no user stack (a kernel thread) */
    uint64_t registers[33];   /* by DWARF number: x86-64 17, aarch64 33 */
    const uint8_t *stack;     /* from the stack pointer upwards */
    size_t stack_len;
};

/* Called for each; what it points to is gone afterwards. */
typedef void (*copy_item_fn)(const struct copy_item *item, void *userdata);

/* kernel: samples have kernel frames. fd stays the caller's. 0 or -errno. */
int copy_ring_new(int fd, size_t ring_bytes, bool kernel, struct copy_ring **ret);
void copy_ring_free(struct copy_ring *r);
/* All that is there. What a hostile or newer kernel might write that is not understood is passed over. */
void copy_ring_read(struct copy_ring *r, copy_item_fn fn, void *userdata);

/* The record at data[0 .. len) as an item. False: it is none. */
bool copy_item_parse(const void *data, size_t len, bool kernel, struct copy_item *ret);
/* Calls fn for records of a ring that nobody has read from so far, and leaves them there. page: its mapping. */
void copy_ring_peek(void *page, size_t ring_bytes, bool kernel, copy_item_fn fn, void *userdata);

/* The registers that samples carry (PERF_REG_*), and the sample type. */
uint64_t copy_ring_registers(void);
uint64_t copy_ring_sample_type(bool kernel);
