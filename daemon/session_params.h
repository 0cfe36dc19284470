/* A validated query: what a session is asked to do. Filled by session_params_parse from the kind's table of parameters,
 * which is also where the index page's JSON, the errors and the manual get their names and bounds. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/custom_spec.h"
#include "daemon/event_table.h"
#include "daemon/raw_types.h"
#include "util/clock.h"

/* unwind=. AUTO is settled as the session begins: TABLES where the programs are loaded, else COPY. */
enum session_unwind_way { SESSION_UNWIND_AUTO, SESSION_UNWIND_TABLES, SESSION_UNWIND_FP, SESSION_UNWIND_COPY };

/* With duty= a window has a slice at least, of those that come once a second on average, and never more than one and a half apart. */
#define DUTY_LEAST_NS (2 * NSEC_PER_SEC)

struct session_params {
    struct raw_types types; /* of the profile */
    uint64_t duration_ns;  /* seconds=; 0: no window: what has accrued */
    enum event_kind event;
    bool waker;            /* waker= */
    uint32_t sched_kind;   /* enum sched_kind (bpf/control.h): what is wanted of the scheduler's events, beside event */
    uint32_t go_kind;      /* EVENT_GO, what EVENT_SCHED becomes for a Go program: enum go_waits_kind */
    struct custom_spec custom; /* EVENT_CUSTOM */
    bool heap_sites;       /* EVENT_HEAP: the allocator samples by itself */
    uint32_t heap_index;   /* EVENT_HEAP: as in struct session_ctl */
    uint64_t go_reasons, go_sema_reasons; /* as in struct session_ctl */
    char event_text[4096]; /* as asked: "cpu-clock", "cycles", "raw:1a2", "uprobe:/usr/lib/libc.so.6:malloc" */
    char event_name[128];  /* for sample types: "cycles", the SYMBOL of a uprobe, the NAME of usdt and tracepoint */
    uint32_t perf_type;    /* EVENT_PERF: perf_event_attr.type and .config */
    uint64_t perf_config;
    char object[2048];     /* EVENT_UPROBE, EVENT_USDT: PATH as the target sees it; "" = its main binary */
    char symbol[512];      /* EVENT_UPROBE: SYMBOL; EVENT_USDT: "PROVIDER:NAME"; EVENT_TRACEPOINT: "CATEGORY:NAME" */
    uint64_t symbol_offset;
    bool symbol_result;    /* EVENT_UPROBE: where the function returns, not where it begins */
    uint64_t period;       /* ns for cpu-clock, events otherwise; after raising */
    bool period_raised;    /* it was below the least, and raised */
    bool kernel;           /* kernel= */
    pid_t tid;             /* 0: all */
    char thread[256];      /* regular expressions; "" = all */
    char focus[256];
    uint32_t states;       /* state=: bits 1 << enum sample_state; 0: all */
    uint32_t format;       /* enum raw_format */
    uint32_t symbolize;    /* enum raw_symbolize */
    uint32_t unwind;       /* enum session_unwind_way */
    bool goroutines;       /* of a Go program */
    bool audit;            /* audit= */
    bool delta;            /* a window of a kind that accrues */
    uint64_t rate;         /* rate=, block_rate=: ns or bytes that one sample stands for on average; 0: none are taken */
    uint64_t fraction;     /* fraction=: one event in so many; 0: none */
    bool starts;           /* EVENT_DUMP: of each thread but the first its start function alone */
    double duty;           /* duty=: probes are attached for so many per cent of the time; 0: always */
    double max_overhead;   /* per cent of the target's CPU time that sampling may take; 0: as the setting says */
};

/* The parameters that a kind takes (daemon/params.h). */
struct param_spec;
struct param_table {
    const struct param_spec *specs;
    size_t n; /* at most 64 */
};
extern const struct param_table profile_params;

/* What holds where a query says nothing: 30 s of cpu-clock, all threads, as pprof. A kind changes what it wants otherwise. */
void session_params_init(struct session_params *ret);

struct evkeyvalq;
/* params: in, the defaults; out, with what the query says, untouched on failure. max_hz: the setting; a cpu-clock period below 1/max_hz
 * is raised (0: no such bound). 0, or -EINVAL with a message that names the parameter, what was wrong, and what is right. */
int session_params_parse(const struct evkeyvalq *query, const struct param_table *table, uint32_t max_hz, struct session_params *params,
                         char *error, size_t error_len);
