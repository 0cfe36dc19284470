/* The files and names that a target's mappings had, each once: numbered as objects, and held open. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/raw_profile.h"
#include "daemon/target.h"
#include "daemon/target_maps.h"

struct patience;

/* File systems that did not answer: their files are not opened any more. */
#define FILE_TABLE_MAX_STUCK 4

struct file_table {
    struct patience *patience;
    struct {
        uint32_t dev_major, dev_minor;
    } stuck[FILE_TABLE_MAX_STUCK];
    unsigned n_stuck;
    bool memory_asked, memory_stuck; /* the target's memory lock is held: not read */
    struct raw_object *objects;
    int *fds; /* of each object; -1: not open */
    size_t n_objects, cap_objects;
    char *strings; /* RAW_STRINGS */
    size_t strings_len, strings_cap;
    void *names;   /* a search tree of what was seen */
    size_t n_names, name_bytes;
    size_t n_open, max_open;
    uint64_t files_cut; /* not opened for lack of room */
};

/* What a mapping is of. */
struct file_ref {
    uint32_t object; /* or RAW_NO_OBJECT: then */
    uint64_t name;   /* in strings */
};

/* patience is borrowed. 0 or -ENOMEM. */
int file_table_init(struct file_table *t, struct patience *patience);
void file_table_deinit(struct file_table *t);

/* The file of a mapping, opened if it is new. 0; -ENOSPC: the table is full; -ENOMEM. */
int file_table_lookup(struct file_table *t, const struct target *target, int root_fd,
                      const struct maps_entry *e, struct file_ref *ret);
