/* What the parts of the renderer share: render.c (the whole), render_samples.c (counts joined with stacks, filters), render_frames.c
 * (addresses and their locations), render_names.c (their names), render_objects.c (files), render_jit.c (code made at run time) and
 * render_quality.c. Private to these. */
#pragma once

#include <regex.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/address_map.h"
#include "daemon/facts.h"
#include "daemon/raw_profile.h"
#include "daemon/render.h"
#include "daemon/worker_proto.h"
#include "pprof/profile.h"
#include "symbolize/code_names.h"
#include "symbolize/kallsyms.h"
#include "symbolize/symbolizer.h"

struct renderer {
    const struct render_ops *ops;
    void *userdata;
    struct symbolizer *symbolizer;
    struct kallsyms *kallsyms; /* NULL: none yet */
    uint64_t kallsyms_ns;      /* monotonic: when they were read */
    struct render_job *job;    /* under way */
    uint32_t object;           /* whose debug files the symbolizer asks for now */
    bool cancelled;            /* a need was answered by -ECANCELED */
};

/* ---- frames */

enum frame_kind {
    FRAME_USER,
    FRAME_KERNEL,
    FRAME_UNKNOWN, /* no mapping covers it */
    FRAME_END,     /* address: enum stack_end */
};

/* What makes two frames one. Hashed whole: zeroed before use. */
struct frame_key {
    uint64_t salt; /* a target chooses addresses, and must not choose hash chains */
    uint64_t address;
    uint64_t offset; /* FRAME_USER: in the file */
    uint32_t kind;
    uint32_t owner; /* FRAME_USER: the object, or OWNER_MAPPING | the mapping where there is none */
};
#define OWNER_MAPPING 0x80000000u

struct frame;
struct frame_table;

/* Frames of a job; each one is made once. NULL when memory is short. */
struct frame_table *frame_table_new(void);
void frame_table_free(struct frame_table *t);

/* A build id in hex. */
#define RENDER_BUILD_ID_ROOM (2 * RAW_BUILD_ID_BYTES + 1)

/* ---- a job */

/* Of one stack of allocations. */
struct render_heap {
    struct sample_value value; /* all objects, and their bytes */
    uint64_t live_objects, live_bytes;
};

struct render_sample {
    const struct sample_key *key;
    const struct sample_value *value;
    const struct stack_record *stack;
    size_t n_user;      /* of the stack's user frames, those that are code: see render_samples.c */
    enum stack_end end; /* how the stack ended, that considered */
    const struct raw_goroutine *goroutine; /* NULL: it is a thread's */
    const struct stack_record *on_thread;  /* of a goroutine that ran: what its thread was in, which may be something else; or NULL */
    bool earlier;       /* the stack is of a thread that was made earlier, in place of the one that made it */
    const struct render_heap *heap; /* what was allocated, and is live; NULL: it is of something else */
    size_t hidden;      /* innermost frames that are not shown, */
    size_t hidden_lines; /* and of the first that is, so many functions, which were inlined in those that are */
    bool started;       /* once frames have names: shown are one frame that says that the thread was made earlier, and those from `first` on */
    size_t first;
    uint64_t alike[2];  /* the same in samples that show the same stack */
};

/* A walk that the copy of its stack does not bear out: after which frame (render_frame_at). */
struct audit_difference {
    struct render_sample sample;
    size_t frame;
};

struct render_object {
    bool tried;
    bool excluded;         /* nothing of it is read; */
    bool no_debug;         /* its debug information is not */
    struct module *module; /* NULL: there is none */
    int error;             /* then: why, once it was tried */
    int debug_error;       /* why there may be a debug file that could not be had */
    size_t n_frames;       /* in it, once they have names; */
    size_t n_pending;      /* whose files, lines and inlined calls are not known yet */
    uint64_t weight;       /* of the samples that these are in */
    uint64_t effort;       /* what reading its symbol table takes, by its size; 0: it is cached */
};

/* What the loop has of a job that is not done. */
struct render_progress {
    bool drafted;
    bool news;           /* more is known now than in the newest draft */
    uint64_t drafted_ns; /* monotonic; how long that took */
    uint64_t cost_ns;
};

#define VERDICT_DEPTHS (CPROFD_MAX_KERNEL_FRAMES + CPROFD_MAX_FRAMES + 1)
#define VERDICT_INTERPRETERS 16

/* Samples by how good their stacks are. */
struct verdict {
    uint64_t ended[STACK_END_COUNT];  /* by how the walk ended */
    uint64_t depths[VERDICT_DEPTHS];  /* by the number of frames */
    uint64_t interpreted[VERDICT_INTERPRETERS]; /* by the interpreter that their leaf is in */
    uint64_t guessed;                 /* with a step that was a guess */
    uint64_t unmapped;                /* with a frame that no mapping covers */
};

struct render_job {
    struct renderer *renderer;
    const struct raw_profile *raw;
    const struct worker_message *message;
    struct render_result *result;
    int out_fd;
    uint64_t start_cpu_ns;
    struct render_progress progress;
    struct frame *main_binary;     /* NULL: not known */
    struct facts facts;
    struct address_map map;
    struct frame_table *frames;
    struct render_object *objects; /* raw->n_objects */
    uint64_t *mapping_ids;         /* raw->n_mappings; 0: not in the profile yet */
    struct render_sample *samples; /* that passed tid and thread */
    size_t n_samples, room_samples;
    struct render_heap *heaps;     /* raw->n_counts; NULL: it is no profile of allocations */
    struct sample_key goroutine_key; /* of all of them */
    struct verdict verdict;
    uint64_t filtered;                   /* samples that a filter left out */
    uint64_t signals;                    /* samples of wakings that release no lock */
    uint64_t unscaled;                   /* thousandths of weights that were put into no sample yet */
    uint64_t cpu_sampled;                /* weights, before all filters */
    bool has_thread, has_focus;
    bool has_labels; /* some object of the target has labels for its threads */
    regex_t thread, focus;
    bool vdso_tried, kallsyms_tried, kallsyms_read, kallsyms_stale;
    struct module *vdso;
    const struct kallsyms *kallsyms;
    uint32_t touched;            /* the object whose turn the loop was told last */
    unsigned n_touches;
    struct copied_stack *copied; /* stacks that were unwound here */
    struct audit_difference *differences;
    size_t n_differences;
    uint64_t copies_until_ns;    /* monotonic: no more are; 0: none was so far */
    struct code_names *jit;      /* NULL: no code was made at run time, that is known */
    bool jit_named;              /* it knows some names */
    bool jit_lines;              /* and files and lines were looked for */
    bool jit_no_map;             /* the perf map is not to be read */
    struct render_trace *trace;  /* events; NULL: none so far */
};

uint64_t render_plus(uint64_t a, uint64_t b); /* stops at UINT64_MAX */
/* By raw_params.scale, rounded down; it stops there, too. */
uint64_t render_times(uint64_t value, uint32_t scale);

/* ---- render_samples.c */

/* Fills job->samples. 0 or -ENOMEM. */
int render_join(struct render_job *job);
/* Adds one; key and value must outlive the job's samples. 0 or -ENOMEM. */
int render_add_stack(struct render_job *job, const struct sample_key *key, const struct sample_value *value,
                     const struct stack_record *stack);
/* Adds to the frame table what samples and their ends need. 0 or -ENOMEM. */
int render_collect(struct render_job *job);
/* Adds the samples that pass focus to the profile, and counts them. 0 or -errno. */
int render_add_samples(struct render_job *job, struct profile *p);
/* The stack of a hash; NULL: there is none. */
struct stack_index;
const struct stack_record *stack_index_find(const struct stack_index *index, const uint64_t hash[2]);
/* After its stack was changed: which of its frames are code. */
void render_trim(const struct render_job *job, struct render_sample *sample);
/* "bad_fp": of truncated.REASON and [truncated: REASON]. */
const char *render_end_name(enum stack_end end);
/* How many of the frames that render_frame_at knows a stack has: its own, and perhaps one that says how it
 * ended. */
size_t render_frame_count(const struct render_sample *sample);
/* The i-th frame of a sample's stack, leaf first, made where it is new. NULL when memory is short. */
struct frame *render_frame_at(struct render_job *job, const struct render_sample *sample, size_t i);
bool render_focused(struct render_job *job, const struct render_sample *sample);
/* Neither a filter leaves it out, nor is it a goroutine of Go's own. */
bool render_is_shown(struct render_job *job, const struct render_sample *sample);

/* ---- render_goroutines.c: where a raw profile has some, they are its samples, and its threads are not */

/* 0 or -ENOMEM. */
int render_join_goroutines(struct render_job *job, const struct stack_index *index);
/* Adds to the frame table where they began and were created. 0 or -ENOMEM. */
int render_collect_goroutines(struct render_job *job);
/* Once frames have names: which of those that ran have the stack of their thread. */
void render_settle_goroutines(struct render_job *job);
/* Whether Go's own profiles would show it. */
bool render_goroutine_is_shown(struct render_job *job, const struct raw_goroutine *g);
/* The call that created it; NULL: not known. */
struct frame *render_created_frame(struct render_job *job, const struct raw_goroutine *g);
/* Adds one with its labels. 0 or -errno. */
int render_put_goroutine(const struct render_job *job, struct profile *p, const struct render_sample *sample, const uint64_t *ids, size_t n);

/* The frame of the stack's own frames[own]. NULL when memory is short. */
struct frame *render_own_frame(struct render_job *job, const struct render_sample *sample, size_t own);
/* Which of the stack's own frames the i-th that is shown is; -1: none of them. */
ptrdiff_t render_frame_index(const struct render_sample *sample, size_t i);

/* ---- render_heap.c: where counts are of allocations */

/* 0 or -ENOMEM. */
int render_join_heap(struct render_job *job, const struct stack_index *index);
/* Hides C++'s operators beside the allocator's own functions, once frames have names. */
void render_hide_allocators(struct render_job *job);

/* ---- render_custom.c */

/* Hides the functions that a custom profile's samples leave out. Before each body. */
void render_skip_functions(struct render_job *job);

/* ---- render_starts.c */

/* Shows of the stacks of threads that were made earlier the function that each began with, once frames have names. */
void render_show_starts(struct render_job *job);
/* ---- render_frames.c */

/* The frame of a user's or the kernel's address. NULL when memory is short. */
struct frame *frame_user(struct render_job *job, uint64_t address, uint32_t epoch);
struct frame *frame_kernel(struct render_job *job, uint64_t address);
/* The frame that says how a walk ended; last: the outermost frame before it, or NULL. */
struct frame *frame_end(struct render_job *job, enum stack_end end, const struct frame *last);
/* A sample is in the frame. */
void frame_add_weight(struct frame *frame, uint64_t weight);
/* Before the frames go into another profile. */
void frames_forget(struct render_job *job);
/* Its mapping and its location in the profile, once the frame is resolved; 0 when memory is short. */
uint64_t frame_mapping(struct render_job *job, struct profile *p, const struct frame *frame);
uint64_t frame_location(struct render_job *job, struct profile *p, struct frame *frame);
/* The same without its innermost functions: fewer than it has. */
uint64_t frame_location_without(struct render_job *job, struct profile *p, struct frame *frame, size_t n_lines);
bool frame_matches(struct frame *frame, const regex_t *focus);
bool frame_is_unmapped(const struct frame *frame);
/* Where there are goroutines: Go's own stacks have no such frame. */
bool frame_is_elided(const struct frame *frame);
/* The same: the function that a resolved frame is in, whatever was inlined into it or left out; "": not known. */
const char *frame_function(const struct frame *frame);
/* It has a name that stays, be it one of its place in a file. */
bool frame_is_named(const struct frame *frame);
/* A symbol was found, and the name is not made from an address. */
bool frame_is_known(const struct frame *frame);
/* The symbol of a resolved frame's outermost function, as the linker knows it; "" where there is none. */
const char *frame_symbol(const struct frame *frame);
/* Of the outermost and the innermost function of a resolved frame. */
const char *frame_outer_name(const struct frame *frame);
const char *frame_inner_name(const struct frame *frame);
/* The path or the name of what the frame is in. */
const char *frame_object_name(const struct render_job *job, const struct frame *frame);

/* As readers see it: what is no code has one, too. */
uint64_t frame_shown_address(const struct frame *frame);
/* Its functions, once it is resolved, the innermost inlined one first. */
size_t frame_lines(const struct frame *frame, const struct profile_line **ret_lines);
/* From where the function of a resolved frame begins to an address in it; 0 where that is not known. */
uint64_t frame_function_offset(struct render_job *job, struct frame *frame, uint64_t address);

/* ---- render_names.c */

/* Names all frames of the table, by what is cached and by symbol tables first, then by debug information, the heaviest file
 * first; drafts in between. 0, -ENOMEM or -ECANCELED. */
int frames_resolve(struct render_job *job);
/* Gives frames that were not resolved yet a name of their address, for a draft. 0 or -ENOMEM. */
int frames_name_unread(struct render_job *job);
/* Says in the facts what is still to come. */
void frames_note_pending(struct render_job *job);

/* ---- render.c */

/* Adds what is known of the whole, once the samples are judged. */
void render_add_facts(struct render_job *job);
enum draft_reason {
    DRAFT_BY_TIME,
    DRAFT_BEFORE_FILE, /* what comes next can't be interrupted, */
    DRAFT_BEFORE_LARGE_FILE, /* and takes long */
    DRAFT_BEFORE_DEBUG, /* all symbol tables are read */
};
/* Gives the loop what is known so far, where that is of use. 0 or -errno. */
int render_draft(struct render_job *job, enum draft_reason reason);
/* The same, before an object's file is read. */
int render_draft_before(struct render_job *job, uint32_t object);

/* Until when (monotonic) something may take that no draft interrupts: half of what is left before the reply is due, some time in any
 * case, and most_ns at most. */
uint64_t render_until_ns(const struct render_job *job, uint64_t most_ns);

/* ---- render_objects.c. NULL: there is none, and if it's worth a word, a note says so. */

/* Says what split DWARF was asked for in vain. */
void render_note_split(struct render_job *job);

/* Marks what the loop wants left out. */
void render_exclude(struct render_job *job);
struct module *render_module(struct render_job *job, uint32_t object);
/* Its file need not be opened. */
bool render_is_cached(const struct render_job *job, uint32_t object);
struct module *render_vdso(struct render_job *job);
/* Notes which files could not be had. */
void render_note_unavailable(struct render_job *job);
/* The build id of what the target has mapped of an object, in ret; NULL: it could not be read, or there is none. */
const char *render_build_id(const struct render_job *job, uint32_t object, char ret[RENDER_BUILD_ID_ROOM]);
const struct kernel_symbol *render_kernel_symbol(struct render_job *job, uint64_t address);
int render_open_debug_file(void *renderer, const struct debug_file_request *request, int *ret_fd);

/* Another object's bytes are read from now on; WORKER_TOUCH_NONE: nobody's. */
void render_touch(struct render_job *job, uint32_t object);

/* Asks the loop for a file: need->u.need says which. 0 with an fd, or -errno; -ECANCELED ends the job. */
int render_need(struct renderer *r, struct worker_message *need, int *ret_fd);

/* ---- render_jit.c */

/* Is that the path of memory that has no file? */
bool render_path_is_memory(const char *path);
/* Names frames whose code was made at run time, where its runtime tells names, and says in the facts what was found. The others keep
 * theirs. All others must have theirs, for a draft: what a target keeps its names in may take long to read. 0, -ENOMEM or -ECANCELED. */
int frames_resolve_jit(struct render_job *job);
/* How many of such frames it has not come to yet. */
size_t frames_count_untold(const struct render_job *job);

/* ---- render_copies.c */

/* Unwinds a copied stack; what it returns is the job's. 0, -ENOMEM or -ECANCELED. */
int render_unwind_copy(struct render_job *job, const struct copy_record *copy, const struct stack_record **ret);
/* Checks a stack that was walked by a copy of it, and counts the outcome. 0, -ENOMEM or -ECANCELED. */
int render_audit(struct render_job *job, const struct copy_record *copy, const struct stack_record *walked);
void render_copies_deinit(struct render_job *job);

/* ---- render_verdict.c */

/* Functions that nothing of the program calls: the kernel or the thread library (glibc's, musl's) enters them, so a stack whose outermost
 * frame is in one is whole at that end, whatever the frame pointer says that they left in place. */
bool render_is_start(const char *symbol);
/* Once frames have names: marks the stacks whose outermost function is where threads start, if they were walked by frame pointers. */
void render_prove_roots(struct render_job *job);
/* Counts a sample that is kept. */
void render_judge(struct render_job *job, const struct render_sample *sample, bool unmapped);
/* Adds what was counted to the facts. */
void render_add_verdict(struct render_job *job);

/* ---- render_signals.c */

/* Of samples that may be releases: it wakes others for another reason, as far as names tell. Once frames have names. */
bool render_is_signal(struct render_job *job, const struct render_sample *sample);
/* Hides what our own programs and their callers add to the kernel's part of stacks, once frames have names. */
void render_hide_tracing(struct render_job *job);

/* ---- render_text.c */

/* The formats COUNTS and STACKS. 0 or -ENOMEM; *ret_data is the caller's to free. */
int render_text(struct render_job *job, uint8_t **ret_data, size_t *ret_len);

/* ---- render_trace.c */

/* Takes an event of a trace, and its stack (NULL: there is none) among the samples. 0 or -ENOMEM. */
int render_trace_add(struct render_job *job, const struct trace_record *event, const struct stack_record *stack);
/* The same for a thread that was looked up: a count whose weight is the time (monotonic) of that. */
int render_trace_add_thread(struct render_job *job, const struct sample_key *key, const struct sample_value *value,
                            const struct stack_record *stack);
/* The trace in its format. 0; -ENOMEM; -EFBIG; -EBADE, with a message: it lacks too much. *ret_data is the caller's to free. */
int render_encode_trace(struct render_job *job, uint8_t **ret_data, size_t *ret_len);
void render_trace_deinit(struct render_job *job);

/* ---- render_quality.c */

/* Says in the facts where most samples were cut short, and where callers were guessed. 0 or -ENOMEM. */
int render_note_places(struct render_job *job);
/* The quality format. 0 or -ENOMEM; *ret_data is the caller's to free. */
int render_quality(struct render_job *job, uint8_t **ret_data, size_t *ret_len);
