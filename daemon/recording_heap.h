/* What a recording does to find its target's allocators: looks through the files that are mapped, one after another. Private to the
 * recording's files. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "symbolize/heap_functions.h"

struct collector_message;
struct raw_writer;
struct recording;

/* Files that are looked at. */
#define RECORDING_HEAP_MAX_LOOKS 1024

struct recording_heap {
    bool listed;        /* what is mapped is known, */
    bool full;          /* and there was no room for all of it */
    uint32_t *objects;  /* of the collector's, to be looked at; */
    size_t n_objects, next;
    struct recording_heap_code {
        uint64_t start, end;
        uint32_t object;
        bool main_binary;
    } *code;            /* what is mapped of files, as it was listed last */
    size_t n_code;
    bool own, no_code;  /* the program has an allocator in its own file; it is not known where all of them are */
    bool sites;         /* an allocator that samples by itself is among them: others are not probed */
    unsigned n_unavailable; /* files in the newest list that could not be opened; */
    unsigned n_unread;  /* those that could not be looked at, for whatever reason, */
    unsigned n_left_out; /* and for which there was no room */
    char functions[1024]; /* that are probed, for the profile; */
    char unprobed[256]; /* and that are not; "" */
};

/* Attaches in the end. */
void recording_heap_begin(struct recording *rec);
/* What is mapped; fd stays the caller's. */
void recording_heap_on_mappings(struct recording *rec, int fd);
/* What is mapped now: looks through what is new, and ends in recording_late_looked. fd stays the caller's. */
void recording_heap_look(struct recording *rec, int fd);
/* A file has come from the collector, or an error. fd becomes the recording's. */
void recording_heap_on_file(struct recording *rec, int error, int fd);
/* The target became another program: that one's allocator may be another, and what was live is gone. Ends the recording: a watch begins anew. */
void recording_heap_exec(struct recording *rec);
void recording_heap_deinit(struct recording_heap *heap);

/* ---- recording_heap_code.c */

/* What is mapped now. */
struct raw_profile;
void recording_heap_code_take(struct recording_heap *heap, const struct raw_profile *list);
/* Tells the programs which of that are files with an allocator. */
void recording_heap_code_set(struct recording *rec);
/* Why the program's own mappings are not counted; NULL: they are. */
const char *recording_heap_code_why(const struct recording_heap *heap);

/* What a profile says of it. 0 or -errno. */
int recording_heap_facts(const struct recording *rec, struct raw_writer *w);
