/* Where the stack engine finds unwinding tables, shared with their loader (bpf/unwind_arena.h).
 *
 * The arena: an array of slabs, each a mmapable BPF array of 64 KiB chunks, written by the loop through its own mapping, so that
 * loading a table costs no system call. A place is an offset in the arena in units of 8 bytes; nothing crosses a chunk. Place 0 is
 * never used.
 *
 * In it: the pages of tables as in util/unwind_table.h; for each table an index (struct unwind_table and the places of its pages); for
 * each target a space: its executable mappings, sorted. What a program may be reading is never changed: a new space is written beside
 * the old one, then the session's word that names it. What nothing names any more is reused only after a grace period. */
#pragma once

#include "util/unwind_table.h"

#define UNWIND_CHUNK_BYTES 65536u
#define UNWIND_CHUNK_SHIFT 16
#define UNWIND_SLAB_CHUNKS 16
#define UNWIND_SLAB_SHIFT 20
#define UNWIND_MAX_SLABS 4096 /* 4 GiB of tables */

#define UNWIND_PLACE(byte_offset) ((__u32)((byte_offset) >> 3))
#define UNWIND_PLACE_SLAB(place) ((place) >> (UNWIND_SLAB_SHIFT - 3))
#define UNWIND_PLACE_CHUNK(place) (((place) >> (UNWIND_CHUNK_SHIFT - 3)) & (UNWIND_SLAB_CHUNKS - 1))
#define UNWIND_PLACE_OFFSET(place) (((place) << 3) & (UNWIND_CHUNK_BYTES - 1))

/* A table's index; __u32 pages[n_pages] follow: places, 0 where nothing covers the page. */
struct unwind_table {
    __u64 base;       /* file offset of the first page */
    __u32 page_shift;
    __u32 n_pages;
};

enum unwind_mapping_kind {
    UNWIND_MAPPING_TABLE = 1, /* table names its index */
    UNWIND_MAPPING_PENDING,   /* its table is being made */
    UNWIND_MAPPING_NO_CFI,    /* a file that has none, or that could not be read */
    UNWIND_MAPPING_ANONYMOUS, /* JIT code: frame pointers */
};

/* An executable mapping of a target. */
struct unwind_mapping {
    __u64 start, end;   /* addresses */
    __u64 offset;       /* of its first byte in the file */
    __u32 table;        /* TABLE: the place of its index */
    __u32 kind;         /* enum unwind_mapping_kind */
};

/* A space's parts, each a sorted array of mappings in one chunk, sorted among themselves. */
#define UNWIND_SPACE_PARTS 64
#define UNWIND_PART_MAPPINGS 1024

struct unwind_space {
    __u32 n_parts;
    __u32 version; /* of each space another one, never 0: what was found in one (struct stack_cached) holds in no other */
    struct {
        __u64 start; /* of its first mapping */
        __u32 mappings; /* place */
        __u32 n;
    } parts[UNWIND_SPACE_PARTS];
};

#ifndef __bpf__
_Static_assert(sizeof(struct unwind_table) == 16, "layout shared with BPF");
_Static_assert(sizeof(struct unwind_mapping) == 32, "layout shared with BPF");
_Static_assert(sizeof(struct unwind_space) == 8 + 16 * UNWIND_SPACE_PARTS, "layout shared with BPF");
#endif
