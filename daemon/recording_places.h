/* The places that a recording probes in several files of its target: of allocators, and of custom profiles. Which these are, others find
 * (recording_heap.c, recording_custom.c). Private to the recording's files. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "bpf/attach.h"

struct recording;
struct worker_message;

/* Of one target. */
#define RECORDING_MAX_FILES 16

struct recording_places {
    struct role_file files[RECORDING_MAX_FILES];
    uint32_t objects[RECORDING_MAX_FILES]; /* the collector's */
    size_t n_files;
};

/* Adds a file; fd stays the caller's, places are copied. 0; -ENOBUFS: there are RECORDING_MAX_FILES; -errno. */
int recording_places_add(struct recording_places *p, uint32_t object, int fd, const struct role_place *places, size_t n);
/* Drops all. */
void recording_places_clear(struct recording_places *p);

/* Asks the collector for a file: one that a worker needs, or the one behind one of its objects. 0; -errno: it will not answer. */
int recording_places_need(struct recording *rec, const struct worker_message *need);
int recording_places_ask(struct recording *rec, uint32_t object);
