/* What a frame is, for render_frames.c (which frames there are, and their locations), render_names.c (the names of those in files),
 * render_jit.c (the names of those in code made at run time) and render_signals.c (what names tell). Private to these. */
#pragma once

#include "daemon/render_job.h"

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

struct frame {
    struct frame_key key;
    uint32_t mapping;           /* FRAME_USER: the first one that it was met in */
    struct profile_line *lines; /* strings of the module, or name */
    size_t n_lines;
    char *name; /* made here */
    bool known; /* lines come from a symbol */
    bool made;  /* in code that was made at run time */
    bool tried; /* by a symbolizer that knows files and lines as well */
    bool unread; /* its name is made up, for drafts, until it is resolved */
    bool pending; /* debug information may tell more */
    bool elided;  /* Go's own stacks leave it out */
    const char *function; /* where there are goroutines: its outermost function, whether it is left out or not; NULL: not known */
    uint64_t weight; /* of the samples that it is in */
    uint64_t location;
    uint64_t in_function; /* its address less its function's, once `placed` */
    bool placed;
    enum { MATCH_UNASKED, MATCH_YES, MATCH_NO } match;
    UT_hash_handle hh;
};

struct frame_table {
    struct frame *by_key;
    struct frame **in_files; /* those in objects, in the order of the pass under way; may be NULL */
    size_t n_in_files;
    uint64_t salt;
    uint64_t kernel_id, unknown_id, end_id; /* of mappings in the profile; 0: not there yet */
};

/* ---- render_frames.c */

void frame_clear_name(struct frame *frame);
/* A name that is made here. 0 or -ENOMEM. */
int frame_set_name(struct frame *frame, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* One that lives as long as the job. 0 or -ENOMEM. */
int frame_set_lines(struct frame *frame, const struct symbol_frame *symbols, size_t n);
/* What a symbolizer said, or where that is nothing fallback+0xADDRESS. 0 or -ENOMEM. */
/* Of goroutines' frames: leaves out functions that Go's own stacks leave out. How many are left; where none would be, the frame itself is
 * left out (frame_is_elided). */
size_t frame_elide(const struct render_job *job, struct frame *frame, struct symbol_frame *symbols, size_t n);
int frame_name_in(struct frame *frame, struct module *module, const struct symbol_frame *symbols, size_t n, uint64_t offset,
                  const char *fallback);
/* The same, asked here. module: NULL, there is none. */
int frame_resolve_in(struct render_job *job, struct frame *frame, struct module *module, uint64_t offset, const char *fallback);
/* A frame that is in no file: no reader has a binary to look it up in, so it is named in any case. 0 or -ENOMEM. */
int frame_resolve_elsewhere(struct render_job *job, struct frame *frame);
bool frame_in_file(const struct frame *frame);
const char *path_basename(const char *path);
