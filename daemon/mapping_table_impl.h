/* What the files of a table of mappings share: mapping_table.c (what is in it) and mapping_table_write.c (handing it over). Private to these. */
#pragma once

#include <limits.h>

#include "daemon/file_table.h"
#include "daemon/mapping_table.h"
#include "daemon/raw_profile.h"

struct mapping_list {
    struct raw_mapping *items;
    size_t n, cap;
};

/* One image (mm) of the process. */
struct image {
    int maps_fd, root_fd;
    bool exe_known;
    uint64_t exe_dev, exe_ino;
    char exe[PATH_MAX];  /* as in maps; "": unknown */
};

struct mapping_table {
    struct file_table files;
    struct mapping_list live, past;
    struct image image;  /* the current one */
    struct image opened; /* to be the next */
    unsigned n_images;   /* that were current so far */
    uint64_t past_cut;   /* ended, and not kept */
    uint64_t most_cut;   /* of the snapshot that had most to leave out */
    uint64_t version;    /* counts the changes of live */
    uint64_t read_ns;    /* CLOCK_MONOTONIC, as the newest reading of live began */
};
