/* The raw profile: what a session has when its window is closed, handed to a worker in one memfd and
 * immutable from then on. A sequence of sections, each 8-aligned: struct raw_section, then len bytes.
 *
 * The writer is the loop; the reader is a worker, which checks every length and index all the same: a
 * target can shape much of what is in here. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bpf/sample.h"
#include "daemon/raw_types.h"
#include "symbolize/symbolizer.h"

enum raw_section_type {
    RAW_PARAMS = 1, /* struct raw_params, first */
    RAW_RECORDS,    /* ring records (bpf/sample.h), back to back; there may be several such sections */
    RAW_COUNTS,     /* struct raw_count[] */
    RAW_OBJECTS,    /* struct raw_object[] */
    RAW_MAPPINGS,   /* struct raw_mapping[] */
    RAW_STRINGS,    /* NUL-terminated strings; offsets point into it; offset 0 is "" */
    RAW_FACTS,      /* "key=value\0" ...: what the session says of itself, without the prefix "cprofd." */
    RAW_ADDRESSES,  /* uint64_t[]: for format RAW_FORMAT_SYMBOL */
    RAW_GOROUTINES, /* struct raw_goroutine[]; their stacks are among RAW_RECORDS */
    RAW_LABELS,     /* sets of labels: struct raw_label_set, and so many struct raw_label, each with its bytes behind it, padded to 8 */
    RAW_THREADS,    /* struct raw_thread[], by tid: of a dump */
};

struct raw_section {
    uint32_t type, pad;
    uint64_t len;
};

enum raw_format {
    RAW_FORMAT_PPROF, RAW_FORMAT_FOLDED, RAW_FORMAT_QUALITY, RAW_FORMAT_SYMBOL,
    RAW_FORMAT_COUNTS, /* text: stacks by how often, as debug=1 of Go's goroutine and threadcreate */
    RAW_FORMAT_STACKS, /* text: a stack for each thread, as debug=2 of Go's goroutine */
    RAW_FORMAT_TRACE_GO, RAW_FORMAT_TRACE_PERFETTO, RAW_FORMAT_TRACE_CHROME, /* events (struct trace_record) */
    RAW_FORMAT_END,
};

static inline bool raw_format_is_trace(uint32_t format)
{
    return format >= RAW_FORMAT_TRACE_GO && format <= RAW_FORMAT_TRACE_CHROME;
}

enum raw_symbolize { RAW_SYMBOLIZE_FULL, RAW_SYMBOLIZE_FAST, RAW_SYMBOLIZE_NONE };

/* What a profile is dated by. */
enum raw_date {
    RAW_DATE_BEGIN, /* of its window */
    RAW_DATE_END,   /* of its window, as Go dates differences */
    RAW_DATE_NOW,   /* without a duration, as Go dates totals: a reader that saw one would take totals for differences */
};

struct raw_params {
    uint32_t format;    /* enum raw_format */
    uint32_t symbolize; /* enum raw_symbolize */
    uint32_t cpu_clock; /* 1: the weights are CPU time, which the kernel counts too */
    uint32_t pid;
    int64_t time_ns, duration_ns; /* wall clock of the window's start; its length */
    uint64_t end_monotonic_ns;    /* CLOCK_MONOTONIC of the window's end; 0: now */
    uint64_t end_target_ns;       /* the same by the target's own CLOCK_MONOTONIC; 0: now, or that is not known */
    int64_t period;               /* ns or events */
    struct raw_types types;
    char focus[256];  /* regular expression on function names (POSIX extended); empty: all */
    char thread[256]; /* the same on the thread's name */
    uint32_t tid;     /* only this thread; 0: all */
    uint16_t by_fp;   /* 1: user stacks were walked by frame pointers alone */
    uint16_t go_waits; /* 1: of goroutines, by probes in Go's runtime, whose own functions are left out */
    uint32_t states;  /* bits 1 << enum sample_state: only these; 0: all */
    uint32_t scale;   /* each weight stands for so many thousandths of it: what was seen in a part of the window; 0: for itself */
    uint32_t heap;     /* 1: counts are of allocations, or of what of them was freed (bpf/heap.h); four values each */
    uint32_t releases; /* 1: samples are of threads that wake others: those that release no lock are left out. Their state is LOCK where
                        * the word that was waited for looks like a lock's, else OTHER, and is not shown */
    uint32_t date;    /* enum raw_date */
    uint32_t custom;   /* 1: counts are values that are live; their state is how many functions are left out at the leaf */
    uint32_t pad_custom;
    uint32_t exec_epoch; /* heap: what was allocated in epochs before is no longer there */
};

struct raw_count {
    struct sample_key key;
    struct sample_value value;
};

/* What a thread did when it was dumped. */
struct raw_thread {
    uint32_t tid, epoch;
    uint64_t wait_ns;  /* since it was on a CPU */
    char state[48];    /* "futex wait" */
    char channel[64];  /* the kernel's function that it waits in; "": not known */
};

#define RAW_BUILD_ID_BYTES 64

/* A mapped file. */
struct raw_object {
    struct file_identity id;
    uint64_t path; /* offset in RAW_STRINGS: as the target sees it, " (deleted)" removed */
    uint32_t deleted;
    uint32_t available; /* 0: it could not be opened: names are libfoo.so+0x1234 */
    int32_t error;      /* where it is not available: -ENODEV; -EUCLEAN: what is found in its place has other contents than what is mapped;
                           -ETIMEDOUT: its file system did not answer */
    uint32_t build_id_len;
    uint8_t build_id[RAW_BUILD_ID_BYTES]; /* of what is mapped; build_id_len 0: unknown, or there is none */
};

#define RAW_NO_OBJECT UINT32_MAX
/* Of RAW_ADDRESSES: from here on they are the kernel's, whose names the asker may see then. */
#define RAW_KERNEL_HALF 0xffff800000000000ull

/* Of one raw profile: what a writer refuses to exceed (-EFBIG) and a reader to map. */
#define RAW_PROFILE_MAX_BYTES (512ull << 20)
#define RAW_PROFILE_MAX_RECORD_SECTIONS 65536

/* An executable mapping of the target, and in which epochs (bpf/sample.h) it was there. */
struct raw_mapping {
    uint64_t start, end, offset;
    uint32_t first_epoch, last_epoch; /* inclusive; last: UINT32_MAX while it is there */
    uint32_t object;                  /* index, or RAW_NO_OBJECT */
    uint32_t main_binary;             /* 1: of /proc/PID/exe */
    uint64_t name; /* offset in RAW_STRINGS, where there is no object: "[vdso]", "[vsyscall]", "//anon" */
};

enum raw_goroutine_flag {
    RAW_GOROUTINE_STACK = 1,     /* stack_hash names its stack */
    RAW_GOROUTINE_LOCKED = 2,    /* to a thread */
    RAW_GOROUTINE_UNLABELED = 4, /* it has labels that could not be read */
};

#define RAW_NO_LABELS UINT64_MAX

struct raw_goroutine {
    uint64_t id, parent;     /* 0: not known */
    uint64_t created_at;     /* the return address of the go statement */
    uint64_t start;          /* of its first function */
    uint64_t waited_ns;      /* so long at least; 0: not known */
    uint64_t stack_hash[2];
    uint64_t labels;         /* offset in RAW_LABELS of a set, or RAW_NO_LABELS */
    uint32_t status;         /* as Go's runtime has it, without the bit of its collector */
    uint32_t tid;            /* of a running one: its thread's, as the target sees it; 0: not known */
    uint32_t flags;
    uint32_t reasons, reason; /* for go_wait_reason */
    uint32_t epoch;           /* of the mappings */
};

struct raw_label_set {
    uint64_t n;
};

struct raw_label {
    uint32_t key_bytes, value_bytes; /* behind this: the key, the value */
};

/* ---- writer */

struct raw_writer;
/* NULL when a memfd can't be had. */
struct raw_writer *raw_writer_new(void);
void raw_writer_free(struct raw_writer *w);
/* Appends a section. 0 or -errno. */
int raw_writer_section(struct raw_writer *w, enum raw_section_type type, const void *data, size_t len);
/* Appends the sections of another sealed raw profile (a collector's table), which need not begin with
 * RAW_PARAMS. fd stays the caller's. 0; -EBADMSG where it is not sealed or not a sequence of sections; or
 * -errno. */
int raw_writer_append(struct raw_writer *w, int fd);
/* Adds to RAW_FACTS, which is written by finish. */
int raw_writer_fact(struct raw_writer *w, const char *key, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Seals the memfd and hands it over; w can only be freed then. fd or -errno. */
int raw_writer_finish(struct raw_writer *w);
/* For CLEANUP (util/cleanup.h). */
static inline void raw_writer_cleanup(struct raw_writer **w)
{
    raw_writer_free(*w);
}

/* ---- reader */

struct raw_profile {
    struct raw_params params;
    const uint8_t *base; /* the mapping; the rest points into it */
    size_t size;
    bool mapped;                        /* by raw_profile_open, and unmapped by close */
    const struct raw_section **records; /* RAW_RECORDS sections */
    size_t n_records;
    const struct raw_count *counts;
    size_t n_counts;
    const struct raw_object *objects;
    size_t n_objects;
    const struct raw_mapping *mappings;
    size_t n_mappings;
    const char *strings;
    size_t strings_len;
    const char *facts;
    size_t facts_len;
    const uint64_t *addresses;
    size_t n_addresses;
    const struct raw_goroutine *goroutines;
    size_t n_goroutines;
    const uint8_t *labels;
    size_t labels_len;
    const struct raw_thread *threads;
    size_t n_threads;
};

/* Maps and checks a raw profile. It must be sealed, or it could change after the check. fd stays the
 * caller's. 0, -EBADMSG for anything that does not add up, or -errno (fstat, mmap). */
int raw_profile_open(int fd, struct raw_profile *ret);
/* The same for the sections of a collector's table, which have no RAW_PARAMS. */
int raw_table_open(int fd, struct raw_profile *ret);
/* As raw_profile_open, for bytes in memory (8-aligned), which must outlive ret. */
int raw_profile_parse(const void *data, size_t len, struct raw_profile *ret);
void raw_profile_close(struct raw_profile *p); /* safe to call twice, and on zeroed memory */
/* A string by offset; "" where the offset is out of bounds. */
const char *raw_profile_string(const struct raw_profile *p, uint64_t offset);

/* A set of labels (struct raw_goroutine), one after another. Keys and values are the profile's bytes, without an end of their own. */
struct raw_labels {
    const uint8_t *at;
    size_t room;
    uint64_t left;
};
struct raw_text {
    const char *bytes;
    size_t len;
};
void raw_labels_begin(const struct raw_profile *p, uint64_t offset, struct raw_labels *ret);
/* False at the end, and where the set is malformed. */
bool raw_labels_next(struct raw_labels *labels, struct raw_text *ret_key, struct raw_text *ret_value);

/* The record at *pos (0: the first) of a RAW_RECORDS section of an opened profile, and *pos moved to the
 * next; NULL at the end. Begins with its type: struct stack_record, struct sample_record, struct copy_record or struct
 * trace_record. */
const void *raw_record_next(const struct raw_section *section, size_t *pos);
