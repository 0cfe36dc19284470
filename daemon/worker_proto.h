/* Messages between the loop and a worker (util/fdmsg.h datagrams). One job at a time in a worker, and one
 * NEED at a time in a job. What a worker sends may come from whoever took it over: the loop believes none of
 * it.
 *
 *   loop -> worker   JOB      + fds: input (raw profile, or the ELF file of another job), output memfd
 *   worker -> loop   TOUCH    which object is about to be parsed: blamed if the worker dies now
 *   worker -> loop   NEED     a file; the loop asks the session's collector, and answers
 *   loop -> worker   FILE     + the fd, or an error
 *   worker -> loop   DRAFT    a body of what is known so far is in the output memfd, and the job goes on
 *   worker -> loop   DONE     the body is in the output memfd, behind the drafts
 *   worker -> loop   REST     the caches are back at their bound; nobody waits for this one */
#pragma once

#include <stdint.h>

#include "daemon/custom_spec.h"
#include "symbolize/label_place.h"

enum worker_message_type { WORKER_JOB = 1, WORKER_TOUCH, WORKER_NEED, WORKER_FILE, WORKER_DRAFT, WORKER_DONE, WORKER_REST };

enum worker_job_kind {
    WORKER_RENDER = 1, /* raw profile -> body, by raw_params.format */
    WORKER_PROBE,      /* ELF file + struct worker_probe -> struct probe_found (daemon/probe.h) */
    WORKER_TABLE,      /* ELF file -> struct unwind_image (util/unwind_table.h), and where its labels are */
    WORKER_CUSTOM,     /* what is mapped + struct custom_request -> struct custom_found (daemon/custom_job.h) */
    WORKER_HEAP,       /* ELF file -> struct heap_function[] (symbolize/heap_functions.h) */
    WORKER_GO,         /* ELF file of a Go program -> struct go_runtime (symbolize/go_runtime.h), and behind it its struct unwind_image */
};

enum worker_file_kind {
    WORKER_FILE_OBJECT = 1, /* objects[index] of the raw profile */
    WORKER_FILE_DEBUG,      /* a debug file for objects[index]: debug_kind, name, build_id */
    WORKER_FILE_KALLSYMS,   /* /proc/kallsyms */
    WORKER_FILE_VDSO,       /* an image of the vdso */
    WORKER_FILE_PATH, /* name: an absolute path as the target sees it, the last part of one that it maps, "" its main binary; asked by the loop,
                         for probes */
    WORKER_FILE_PERF_MAP, /* the target's perf map (daemon/jit_files.h) */
    WORKER_FILE_JITDUMP,  /* objects[index], if it is the target's jitdump */
};

struct worker_probe {
    uint32_t usdt; /* 1: symbol is "PROVIDER:NAME"; 0: a function */
    uint16_t result; /* of a function: 1: where it returns; 0: its entry, or the instruction at offset, */
    uint16_t args;   /* with these argument registers as at the entry (symbolize/probe_place.h) */
    uint32_t at_entry; /* 1: at the function's first instruction, and nowhere else */
    uint32_t pad;
    uint64_t offset;
    char symbol[512];
};

#define WORKER_MAX_EXCLUDED 16
#define WORKER_TOUCH_NONE UINT32_MAX /* TOUCH: what follows parses no object */
#define WORKER_TOUCH_PERF_MAP (UINT32_MAX - 1) /* TOUCH and excluded: the target's perf map */

/* What an object did to a worker. */
enum worker_blame { WORKER_BLAME_NOTHING, WORKER_BLAME_CRASH, WORKER_BLAME_HANG, WORKER_BLAME_MEMORY };

/* Why a job makes do with what is known and with symbol tables: no debug information is read for it. */
enum worker_spare {
    WORKER_SPARE_NOTHING,
    WORKER_SPARE_ELSEWHERE, /* another worker reads it just now, for a job on the same target */
    WORKER_SPARE_SPOILED,   /* not long ago it broke a worker behind a reply: spare_blame says how */
};

/* A body in the output memfd, and the counts of samples in it for the response headers. */
struct worker_body {
    uint64_t offset, len;
    uint64_t samples, rooted, lost;
    uint64_t repaired; /* of a trace: events that were made up or left out; its samples are events */
};

struct worker_message {
    uint32_t type;
    uint32_t job_id;
    union {
        struct {
            uint32_t kind; /* enum worker_job_kind */
            uint32_t
                no_symbols; /* enum worker_blame: parse no file at all, so often did that go wrong; 0: do */
            uint32_t n_excluded;
            uint32_t excluded[WORKER_MAX_EXCLUDED]; /* objects that broke a worker before: rendered without */
            uint32_t blame[WORKER_MAX_EXCLUDED];    /* enum worker_blame of each */
            uint32_t wholly[WORKER_MAX_EXCLUDED];   /* 0: only its debug information is left out */
            uint32_t spare, spare_blame; /* enum worker_spare, enum worker_blame */
            uint64_t key; /* who asks about what: what only they may share in a cache is known by it; 0: nobody else */
            uint64_t deadline_ns;        /* monotonic: drafts are of use until then; 0: none are */
            struct worker_probe probe;
            struct custom_request custom;
        } job;
        struct {
            uint32_t object; /* or WORKER_TOUCH_NONE */
        } touch;
        struct {
            uint32_t kind; /* enum worker_file_kind */
            uint32_t object;
            uint32_t debug_kind; /* enum debug_file_kind */
            uint32_t pad;
            char name[4096];
            char build_id[256];
        } need;
        struct {
            int32_t error; /* 0 with an fd, or -errno */
        } file;
        struct {
            int32_t error; /* 0, or -errno with a message for the user; -ENOMEM: tried again as a crash is */
            uint32_t has_labels; /* TABLE: 1: the file has a variable for labels, there: */
            struct label_place labels;
            struct worker_body body;
            uint64_t cpu_ns; /* of the job */
            uint64_t cache_bytes;
            char message[1024];
        } done;
        struct worker_body draft;
        struct {
            uint64_t cache_bytes;
        } rest;
    } u;
};
