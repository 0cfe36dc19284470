/* The parameters of a query: their names, bounds and texts, from which the index page's JSON, the errors and the manual are made,
 * and the parsers of their values.
 *
 * To add a parameter: a field in struct session_params, a parser here, and a line in the tables of the kinds that take it: a macro here
 * where there are several. */
#pragma once

#include "daemon/session_params.h"

/* A query that is being parsed. */
struct param_parse {
    struct session_params params;
    double hz;       /* 0: not given */
    uint64_t period; /* 0: not given */
    char *error;
    size_t error_len;
};

struct param_spec {
    const char *name;
    const char *type;     /* "number", "integer", "boolean", "enum", "regex", "event", "states", "ignored" */
    const char *bounds;   /* for people and JSON: "(0, 3600]", "pprof|folded" */
    const char *fallback; /* the default, as text */
    const char *description;
    /* 0, or -EINVAL with the message in p. */
    int (*parse)(struct param_parse *p, const struct param_spec *spec, const char *value);
    bool watch;           /* what a watch can be given by this name, too */
};

/* Says what is wrong with a value, and what is right. Always -EINVAL. */
int param_refuse_value(struct param_parse *p, const struct param_spec *spec, const char *value, const char *why);
/* Writes the message. Always -EINVAL. */
int param_refuse(struct param_parse *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

int param_seconds(struct param_parse *p, const struct param_spec *spec, const char *value);
int param_event(struct param_parse *p, const struct param_spec *spec, const char *value);
int param_hz(struct param_parse *p, const struct param_spec *spec, const char *value);
int param_period(struct param_parse *p, const struct param_spec *spec, const char *value);
int param_audit(struct param_parse *p, const struct param_spec *spec, const char *value);
int param_kernel(struct param_parse *p, const struct param_spec *spec, const char *value);
int param_waker(struct param_parse *p, const struct param_spec *spec, const char *value);
int param_tid(struct param_parse *p, const struct param_spec *spec, const char *value);
int param_thread(struct param_parse *p, const struct param_spec *spec, const char *value);
int param_focus(struct param_parse *p, const struct param_spec *spec, const char *value);
int param_state(struct param_parse *p, const struct param_spec *spec, const char *value);
int param_format(struct param_parse *p, const struct param_spec *spec, const char *value);
int param_trace_format(struct param_parse *p, const struct param_spec *spec, const char *value);
int param_symbolize(struct param_parse *p, const struct param_spec *spec, const char *value);
int param_unwind(struct param_parse *p, const struct param_spec *spec, const char *value);
/* As Go has it where a profile has accrued: whole seconds, and in its words. */
int param_delta_seconds(struct param_parse *p, const struct param_spec *spec, const char *value);
int param_rate(struct param_parse *p, const struct param_spec *spec, const char *value);
/* Bytes. */
int param_heap_rate(struct param_parse *p, const struct param_spec *spec, const char *value);
int param_fraction(struct param_parse *p, const struct param_spec *spec, const char *value);
int param_duty(struct param_parse *p, const struct param_spec *spec, const char *value);
int param_no_duty(struct param_parse *p, const struct param_spec *spec, const char *value);
int param_max_overhead(struct param_parse *p, const struct param_spec *spec, const char *value);
/* As Go reads it: what is no number is 0. 1 and 2: texts. */
int param_debug(struct param_parse *p, const struct param_spec *spec, const char *value);
int param_custom_add(struct param_parse *p, const struct param_spec *spec, const char *value);
int param_custom_remove(struct param_parse *p, const struct param_spec *spec, const char *value);
int param_custom_weight(struct param_parse *p, const struct param_spec *spec, const char *value);
int param_custom_key(struct param_parse *p, const struct param_spec *spec, const char *value);
int param_custom_skip(struct param_parse *p, const struct param_spec *spec, const char *value);
int param_custom_unit(struct param_parse *p, const struct param_spec *spec, const char *value);
/* Of kinds without a window. */
int param_no_seconds(struct param_parse *p, const struct param_spec *spec, const char *value);
/* Whatever the value is. */
int param_ignored(struct param_parse *p, const struct param_spec *spec, const char *value);

/* ---- lines of tables */

#define PARAM_TABLE(specs) {(specs), sizeof(specs) / sizeof((specs)[0])}
#define PARAM_SECONDS(fallback) \
    {"seconds", "number", "(0, 3600]", fallback, "how long to sample, in seconds; a fraction will do", param_seconds}
#define PARAM_KERNEL \
    {"kernel", "boolean", "0|1", "0", "show kernel frames (their time counts in any case)", param_kernel}
#define PARAM_TID \
    {"tid", "integer", "[1, 4194304]", "all threads", "only this thread", param_tid}
#define PARAM_THREAD \
    {"thread", "regex", "an extended regular expression of at most 255 bytes", "all threads", "only threads whose name matches", param_thread}
#define PARAM_FOCUS \
    {"focus", "regex", "an extended regular expression of at most 255 bytes", "all functions", \
     "only stacks with a function whose name matches", param_focus}
#define PARAM_FORMAT \
    {"format", "enum", "pprof|folded", "pprof", "gzipped profile.proto, or collapsed stacks as text", param_format}
#define PARAM_SYMBOLIZE \
    {"symbolize", "enum", "full|fast|none", "full", "how much to say of each address", param_symbolize}
#define PARAM_UNWIND \
    {"unwind", "enum", "auto|eh|fp|copy", "auto", \
     "how stacks are walked: by unwinding tables in the kernel (eh), by frame pointers there (fp), or later, from copies of them (copy); " \
     "auto is eh where BPF can be loaded, else copy", param_unwind}
#define PARAM_MAX_OVERHEAD \
    {"max_overhead", "number", "(0, 1000000]", "the setting max-overhead", \
     "per cent of the process's CPU time that sampling may take: above it, fewer samples are taken, or the window ends", param_max_overhead, \
     .watch = true}
#define PARAM_DUTY \
    {"duty", "number", "(0, 100]", "100", \
     "per cent of the time that probes are attached, in slices, about one each second: what is seen then stands for all of the window", param_duty}
/* Of kinds that show what is live; refused with these words. */
#define PARAM_NO_DUTY(description) {"duty", "none", "nothing", "none", description, param_no_duty}
#define PARAM_DELTA_SECONDS \
    {"seconds", "integer", "[1, 3600]", "all since the process is watched", "only what accrues in so many seconds from now on", \
     param_delta_seconds}
#define PARAM_RATE(name, fallback, description) {name, "integer", "[0, 1000000000000000]", fallback, description, param_rate, .watch = true}
/* The same by a name that is another kind's where a watch says it. */
#define PARAM_OWN_RATE(name, fallback, description) {name, "integer", "[0, 1000000000000000]", fallback, description, param_rate}
#define PARAM_FRACTION(fallback, description) {"fraction", "integer", "[0, 1000000000]", fallback, description, param_fraction, .watch = true}
#define PARAM_STATE \
    {"state", "states", "cpu|runq|lock|io|sleep|other, or several with commas between", "all states", "only time in these states", \
     param_state}
#define PARAM_DEBUG(description) {"debug", "integer", "a whole number", "0", description, param_debug}
#define PARAM_NO_SECONDS {"seconds", "none", "nothing", "none", "refused, as by Go: this is what there is now", param_no_seconds}
#define PARAM_IGNORED(name, fallback) \
    {name, "ignored", "anything", fallback, "accepted for Go's clients, without effect here", param_ignored}
/* What kinds that accrue take beside their own. */
#define PARAMS_OF_CUMULATIVE \
    PARAM_KERNEL, PARAM_TID, PARAM_THREAD, PARAM_FOCUS, PARAM_FORMAT, PARAM_SYMBOLIZE, PARAM_UNWIND, PARAM_MAX_OVERHEAD, \
    PARAM_IGNORED("gc", "none")
