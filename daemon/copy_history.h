/* What changed in a target while its stacks were copied: names of threads, and what is mapped. The rings of CPUs are read one after the
 * other, so changes come in any order, and are asked for by time when all have come. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bpf/sample.h"

struct copy_name_change;

struct copy_history {
    struct copy_name_change *names;
    size_t n_names, room_names;
    uint64_t *epochs; /* when each epoch from the second on began */
    size_t n_epochs, room_epochs;
    uint64_t n_left_out; /* changes of what is mapped, for want of room */
};

void copy_history_deinit(struct copy_history *h);

/* A thread goes by comm from time_ns on (0: from the first), or has begun, by the name of the thread that started it. What finds no room is
 * left out: the thread goes by the name before. */
void copy_history_named(struct copy_history *h, uint64_t time_ns, uint32_t tid, const char comm[static CPROFD_COMM_LEN]);
void copy_history_forked(struct copy_history *h, uint64_t time_ns, uint32_t tid, uint32_t parent_tid);

/* What the target maps has changed. An earlier change that comes late goes with the one that came before it; but an exec begins
 * that epoch sooner, for no sample of the new image may count as one of the image before. Nor is an exec left out for want of room: the last
 * epoch is its own then. Returns the number of the epoch, which counts from 1; 0: there was no room, which is
 * counted. */
uint32_t copy_history_changed(struct copy_history *h, uint64_t time_ns, bool exec);

/* All have come. */
void copy_history_sort(struct copy_history *h);
/* The epoch of a time. */
uint32_t copy_history_epoch(const struct copy_history *h, uint64_t time_ns);
/* A thread's name at a time, or else the first that is known of it, or else its process's. NULL: nothing is known. */
const char *copy_history_name(const struct copy_history *h, uint32_t tgid, uint32_t tid, uint64_t time_ns);
