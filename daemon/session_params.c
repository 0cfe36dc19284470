/* Parses a profile's query by one table. A parameter that is unknown, repeated or malformed is refused, and the answer
 * says what is right: a typo must not cost half a minute of the wrong profile. */
#include "daemon/session_params.h"

#include <assert.h>
#include <errno.h>
#include <event2/keyvalq_struct.h>
#include <linux/perf_event.h>
#include <regex.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "daemon/quote.h"
#include "daemon/raw_profile.h"
#include "util/clock.h"

#define MAX_SECONDS 3600
#define MAX_HZ 1000000
#define MAX_OVERHEAD_PERCENT 1000000
#define MAX_PERIOD 1000000000000000ull
#define MAX_TID 4194304
/* glibc's regcomp unrolls + and {n,m}: its cost is the product of nested counts, without a bound of its own. */
#define MAX_REGEX_REPEATS 1024

struct param_parse {
    struct session_params params;
    double hz;       /* 0: not given */
    uint64_t period; /* 0: not given */
    char *error;
    size_t error_len;
};

static int __attribute__((format(printf, 2, 3))) refuse(struct param_parse *p, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(p->error, p->error_len, fmt, args);
    va_end(args);
    return -EINVAL;
}

static int refuse_value(struct param_parse *p, const struct param_spec *spec, const char *value, const char *why)
{
    char quoted[QUOTE_LEN];
    return refuse(p, "invalid value %s for \"%s\": %s; give %s (default %s)", quote(value, quoted), spec->name, why,
                  spec->bounds, spec->fallback);
}

/* Digits with one point at most: what strtod takes beside that (signs, spaces, hex, inf, nan) is a typo here. */
static int parse_number(const char *text, double *ret)
{
    size_t digits = strspn(text, "0123456789");
    const char *rest = text + digits;
    if (*rest == '.') {
        size_t fraction = strspn(rest + 1, "0123456789");
        digits += fraction;
        rest += 1 + fraction;
    }
    if (digits == 0 || *rest)
        return -EINVAL;
    *ret = strtod(text, NULL);
    return 0;
}

static int parse_integer(const char *text, uint64_t *ret)
{
    if (!*text || text[strspn(text, "0123456789")])
        return -EINVAL;
    errno = 0;
    unsigned long long value = strtoull(text, NULL, 10);
    if (errno)
        return -ERANGE;
    *ret = value;
    return 0;
}

static int parse_seconds(struct param_parse *p, const struct param_spec *spec, const char *value)
{
    double seconds;
    if (parse_number(value, &seconds) < 0)
        return refuse_value(p, spec, value, "not a number");
    if (seconds > MAX_SECONDS || (uint64_t)(seconds * NSEC_PER_SEC) == 0)
        return refuse_value(p, spec, value, "out of bounds");
    p->params.duration_ns = (uint64_t)(seconds * NSEC_PER_SEC + 0.5);
    return 0;
}

static int parse_event(struct param_parse *p, const struct param_spec *spec, const char *value)
{
    return event_parse(value, &p->params, p->error, p->error_len);
}

static int parse_hz(struct param_parse *p, const struct param_spec *spec, const char *value)
{
    double hz;
    if (parse_number(value, &hz) < 0)
        return refuse_value(p, spec, value, "not a number");
    if (hz > MAX_HZ || NSEC_PER_SEC > hz * MAX_PERIOD)
        return refuse_value(p, spec, value, "out of bounds");
    p->hz = hz;
    return 0;
}

static int parse_period(struct param_parse *p, const struct param_spec *spec, const char *value)
{
    uint64_t period;
    int r = parse_integer(value, &period);
    if (r == -EINVAL)
        return refuse_value(p, spec, value, "not a whole number");
    if (r < 0 || period == 0 || period > MAX_PERIOD)
        return refuse_value(p, spec, value, "out of bounds");
    p->period = period;
    return 0;
}

static int parse_flag(struct param_parse *p, const struct param_spec *spec, const char *value, bool *ret)
{
    if (strcmp(value, "0") != 0 && strcmp(value, "1") != 0)
        return refuse_value(p, spec, value, "neither 0 nor 1");
    *ret = *value == '1';
    return 0;
}

static int parse_audit(struct param_parse *p, const struct param_spec *spec, const char *value)
{
    return parse_flag(p, spec, value, &p->params.audit);
}

static int parse_kernel(struct param_parse *p, const struct param_spec *spec, const char *value)
{
    return parse_flag(p, spec, value, &p->params.kernel);
}

static int parse_tid(struct param_parse *p, const struct param_spec *spec, const char *value)
{
    uint64_t tid;
    int r = parse_integer(value, &tid);
    if (r == -EINVAL)
        return refuse_value(p, spec, value, "not a whole number");
    if (r < 0 || tid == 0 || tid > MAX_TID)
        return refuse_value(p, spec, value, "out of bounds");
    p->params.tid = (pid_t)tid;
    return 0;
}

/* How often a quantifier at s makes regcomp copy what stands before it: "+" twice, {n,m} n and m times. *ret_end: behind it. */
static uint64_t quantifier_copies(const char *s, const char **ret_end)
{
    uint64_t copies = *s == '+' ? 2 : 1;
    if (*s++ == '{') {
        for (; *s >= '0' && *s <= '9'; s += *s == ',') {
            char *end;
            uint64_t n = strtoull(s, &end, 10);
            n = n < MAX_REGEX_REPEATS ? n + 1 : n;
            copies = n > copies ? n : copies;
            s = end;
        }
        s += *s == '}';
    }
    *ret_end = s;
    return copies;
}

/* What would make regcomp, or the matching in a worker, take time or memory without a bound. NULL: nothing. Copies of groups, and of
 * what is quantified already, multiply; brackets are not told apart, which errs on the safe side. */
static const char *regex_fault(const char *text)
{
    uint64_t groups = 1, atoms = 1;
    char before = '\0';
    for (const char *s = text; *s;) {
        if (*s == '\\' && s[1] >= '1' && s[1] <= '9')
            return "back-references are not supported";
        if (*s == '\\' && s[1]) {
            before = 'x';
            s += 2;
        } else if (strchr("+*?{", *s)) {
            uint64_t copies = quantifier_copies(s, &s);
            if (before == ')')
                groups *= copies;
            else
                atoms = copies > atoms ? copies : atoms;
            before = ')';
        } else {
            before = *s++;
        }
        if (groups > MAX_REGEX_REPEATS || groups * atoms > MAX_REGEX_REPEATS)
            return "its repetitions multiply to more than 1024";
    }
    return NULL;
}

static int parse_regex(struct param_parse *p, const struct param_spec *spec, const char *value, char *out, size_t size)
{
    regex_t regex;
    char why[128];
    const char *fault = regex_fault(value);
    if (strlen(value) >= size)
        return refuse_value(p, spec, value, "too long");
    if (!is_plain_utf8(value))
        return refuse_value(p, spec, value, "control characters, or not UTF-8");
    if (fault)
        return refuse_value(p, spec, value, fault);
    int r = regcomp(&regex, value, REG_EXTENDED | REG_NOSUB);
    if (r != 0) {
        (void)regerror(r, &regex, why, sizeof(why));
        return refuse_value(p, spec, value, why);
    }
    regfree(&regex);
    strcpy(out, value);
    return 0;
}

static int parse_thread(struct param_parse *p, const struct param_spec *spec, const char *value)
{
    return parse_regex(p, spec, value, p->params.thread, sizeof(p->params.thread));
}

static int parse_focus(struct param_parse *p, const struct param_spec *spec, const char *value)
{
    return parse_regex(p, spec, value, p->params.focus, sizeof(p->params.focus));
}

struct choice {
    const char *name;
    uint32_t value;
};

static int parse_choice(struct param_parse *p, const struct param_spec *spec, const char *value, const struct choice *choices,
                        size_t n, uint32_t *ret)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(choices[i].name, value) == 0) {
            *ret = choices[i].value;
            return 0;
        }
    }
    return refuse_value(p, spec, value, "not one of them");
}

static int parse_format(struct param_parse *p, const struct param_spec *spec, const char *value)
{
    static const struct choice choices[] = {{"pprof", RAW_FORMAT_PPROF}, {"folded", RAW_FORMAT_FOLDED}};
    return parse_choice(p, spec, value, choices, sizeof(choices) / sizeof(choices[0]), &p->params.format);
}

static int parse_symbolize(struct param_parse *p, const struct param_spec *spec, const char *value)
{
    static const struct choice choices[] = {
        {"full", RAW_SYMBOLIZE_FULL}, {"fast", RAW_SYMBOLIZE_FAST}, {"none", RAW_SYMBOLIZE_NONE},
    };
    return parse_choice(p, spec, value, choices, sizeof(choices) / sizeof(choices[0]), &p->params.symbolize);
}

static int parse_unwind(struct param_parse *p, const struct param_spec *spec, const char *value)
{
    static const struct choice choices[] = {
        {"auto", SESSION_UNWIND_AUTO}, {"eh", SESSION_UNWIND_TABLES}, {"fp", SESSION_UNWIND_FP}, {"copy", SESSION_UNWIND_COPY},
    };
    return parse_choice(p, spec, value, choices, sizeof(choices) / sizeof(choices[0]), &p->params.unwind);
}

static int parse_max_overhead(struct param_parse *p, const struct param_spec *spec, const char *value)
{
    double percent;
    if (parse_number(value, &percent) < 0)
        return refuse_value(p, spec, value, "not a number");
    if (percent == 0 || percent > MAX_OVERHEAD_PERCENT)
        return refuse_value(p, spec, value, "out of bounds");
    p->params.max_overhead = percent;
    return 0;
}

/* As net/http/pprof does for this profile: whatever its value. */
static int parse_ignored(struct param_parse *p, const struct param_spec *spec, const char *value)
{
    return 0;
}

const struct param_spec profile_params[] = {
    {"seconds", "number", "(0, 3600]", "30", "how long to sample, in seconds; a fraction will do", parse_seconds},
    {"event", "event", "an event of this machine", "cpu-clock", "what to count", parse_event},
    {"hz", "number", "(0, 1000000]", "100", "samples a second of CPU time; for cpu-clock alone, and not with period", parse_hz},
    {"period", "integer", "[1, 1000000000000000]", "10000000 ns for cpu-clock, 1000000 for hardware and raw events, 1 for others",
     "one sample in so many nanoseconds of CPU time (cpu-clock) or events; the least are 100000, 10000 (hardware and raw) and 1, "
     "and a shorter one is raised", parse_period},
    {"kernel", "boolean", "0|1", "0", "show kernel frames (their time counts in any case)", parse_kernel},
    {"tid", "integer", "[1, 4194304]", "all threads", "only this thread", parse_tid},
    {"thread", "regex", "an extended regular expression of at most 255 bytes", "all threads", "only threads whose name matches",
     parse_thread},
    {"focus", "regex", "an extended regular expression of at most 255 bytes", "all functions",
     "only stacks with a function whose name matches", parse_focus},
    {"format", "enum", "pprof|folded", "pprof", "gzipped profile.proto, or collapsed stacks as text", parse_format},
    {"symbolize", "enum", "full|fast|none", "full", "how much to say of each address", parse_symbolize},
    {"unwind", "enum", "auto|eh|fp|copy", "auto",
     "how stacks are walked: by unwinding tables in the kernel (eh), by frame pointers there (fp), or later, from copies of them (copy); "
     "auto is eh where BPF can be loaded, else copy", parse_unwind},
    {"audit", "boolean", "0|1", "0", "unwind some samples a second time, by other means, and say how many agreed", parse_audit},
    {"max_overhead", "number", "(0, 1000000]", "the setting max-overhead",
     "per cent of the process's CPU time that sampling may take: above it, fewer samples are taken, or the window ends", parse_max_overhead},
    {"debug", "ignored", "anything", "0", "accepted for Go's clients, without effect here", parse_ignored},
    {"gc", "ignored", "anything", "none", "accepted for Go's clients, without effect here", parse_ignored},
};
const size_t n_profile_params = sizeof(profile_params) / sizeof(profile_params[0]);

static int refuse_unknown(struct param_parse *p, const char *name)
{
    char quoted[QUOTE_LEN], known[512];
    size_t n = 0;
    for (size_t i = 0; i < n_profile_params && n < sizeof(known); i++)
        n += (size_t)snprintf(known + n, sizeof(known) - n, "%s%s", i ? ", " : "", profile_params[i].name);
    return refuse(p, "unknown parameter %s; known: %s", quote(name, quoted), known);
}

/* hz and period are two names of one thing, and what they mean hangs on the event, which may come after them. */
static int settle_period(struct param_parse *p, uint32_t max_hz)
{
    struct session_params *params = &p->params;
    struct event_periods periods;
    event_periods(params, &periods);
    if (p->hz > 0 && p->period > 0)
        return refuse(p, "\"hz\" and \"period\" say the same thing: give one of them");
    if (p->hz > 0 && params->event != EVENT_CPU_CLOCK)
        return refuse(p, "\"hz\" goes with event=cpu-clock alone; for other events give \"period\", one sample in so many events");
    params->period = p->period ? p->period : periods.fallback;
    if (p->hz > 0)
        params->period = (uint64_t)(NSEC_PER_SEC / p->hz + 0.5);
    uint64_t least = periods.least;
    if (params->event == EVENT_CPU_CLOCK && max_hz > 0 && NSEC_PER_SEC > (uint64_t)max_hz * least)
        least = (NSEC_PER_SEC + max_hz - 1) / max_hz;
    if (params->period < least) {
        params->period = least;
        params->period_raised = true;
    }
    return 0;
}

int session_params_parse(const struct evkeyvalq *query, uint32_t max_hz, struct session_params *ret, char *error,
                         size_t error_len)
{
    struct param_parse p = {
        .params = {
            .duration_ns = 30 * NSEC_PER_SEC, .event = EVENT_CPU_CLOCK, .event_text = "cpu-clock", .event_name = "cpu-clock",
            .perf_type = PERF_TYPE_SOFTWARE, .perf_config = PERF_COUNT_SW_CPU_CLOCK,
            .format = RAW_FORMAT_PPROF, .symbolize = RAW_SYMBOLIZE_FULL,
        },
        .error = error, .error_len = error_len,
    };
    uint64_t seen = 0;
    const struct evkeyval *kv;
    TAILQ_FOREACH(kv, query, next) {
        size_t i = 0;
        while (i < n_profile_params && strcmp(profile_params[i].name, kv->key) != 0)
            i++;
        if (i == n_profile_params)
            return refuse_unknown(&p, kv->key);
        if (seen & 1ull << i)
            return refuse(&p, "parameter \"%s\" is given twice", kv->key);
        seen |= 1ull << i;
        int r = profile_params[i].parse(&p, &profile_params[i], kv->value);
        if (r < 0)
            return r;
    }
    int r = settle_period(&p, max_hz);
    if (r == 0 && p.params.unwind == SESSION_UNWIND_COPY && p.params.event != EVENT_CPU_CLOCK && p.params.event != EVENT_PERF)
        r = refuse(&p, "\"unwind=copy\" goes with cpu-clock, hardware, software and raw events: probes and tracepoints need BPF");
    if (r == 0 && p.params.unwind == SESSION_UNWIND_COPY && p.params.audit)
        r = refuse(&p, "\"audit=1\" checks stacks that were walked in the kernel: with \"unwind=copy\" none are");
    if (r == 0)
        *ret = p.params;
    return r;
}
