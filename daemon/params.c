/* Parses the values of parameters. Owns nothing. */
#include "daemon/params.h"

#include <errno.h>
#include <regex.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bpf/heap.h"
#include "daemon/quote.h"
#include "daemon/raw_profile.h"
#include "util/clock.h"

#define MAX_SECONDS 3600
#define MAX_HZ 1000000
#define MAX_OVERHEAD_PERCENT 1000000
#define MAX_PERIOD 1000000000000000ull
#define MAX_TID 4194304
#define MAX_FRACTION 1000000000ull
/* glibc's regcomp unrolls + and {n,m}: its cost is the product of nested counts, without a bound of its own. */
#define MAX_REGEX_REPEATS 1024


int param_refuse(struct param_parse *p, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(p->error, p->error_len, fmt, args);
    va_end(args);
    return -EINVAL;
}

int param_refuse_value(struct param_parse *p, const struct param_spec *spec, const char *value, const char *why)
{
    char quoted[QUOTE_LEN];
    return param_refuse(p, "invalid value %s for \"%s\": %s; give %s (default %s)", quote(value, quoted), spec->name, why,
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

int param_seconds(struct param_parse *p, const struct param_spec *spec, const char *value)
{
    double seconds;
    if (parse_number(value, &seconds) < 0)
        return param_refuse_value(p, spec, value, "not a number");
    if (seconds > MAX_SECONDS || (uint64_t)(seconds * NSEC_PER_SEC) == 0)
        return param_refuse_value(p, spec, value, "out of bounds");
    p->params.duration_ns = (uint64_t)(seconds * NSEC_PER_SEC + 0.5);
    return 0;
}

int param_delta_seconds(struct param_parse *p, const struct param_spec *spec, const char *value)
{
    uint64_t seconds = 0;

    if (!*value) /* as missing */
        return 0;
    int r = parse_integer(value, &seconds);
    if (r == -EINVAL || (r == 0 && seconds == 0))
        return param_refuse(p, "invalid value for \"seconds\" - must be a positive integer");
    if (r < 0 || seconds > MAX_SECONDS)
        return param_refuse_value(p, spec, value, "out of bounds");
    p->params.duration_ns = seconds * NSEC_PER_SEC;
    return 0;
}

static int parse_bounded(struct param_parse *p, const struct param_spec *spec, const char *value, uint64_t max, uint64_t *ret)
{
    uint64_t n;
    int r = parse_integer(value, &n);

    if (r == -EINVAL)
        return param_refuse_value(p, spec, value, "not a whole number");
    if (r < 0 || n > max)
        return param_refuse_value(p, spec, value, "out of bounds");
    *ret = n;
    return 0;
}

int param_rate(struct param_parse *p, const struct param_spec *spec, const char *value)
{
    return parse_bounded(p, spec, value, MAX_PERIOD, &p->params.rate);
}

int param_heap_rate(struct param_parse *p, const struct param_spec *spec, const char *value)
{
    uint64_t rate = 0;
    int r = parse_bounded(p, spec, value, HEAP_MAX_RATE, &rate);

    if (r == 0 && rate == 0)
        r = param_refuse_value(p, spec, value, "out of bounds");
    if (r == 0)
        p->params.rate = rate;
    return r;
}

int param_fraction(struct param_parse *p, const struct param_spec *spec, const char *value)
{
    return parse_bounded(p, spec, value, MAX_FRACTION, &p->params.fraction);
}

int param_event(struct param_parse *p, const struct param_spec *spec, const char *value)
{
    return event_parse(value, &p->params, p->error, p->error_len);
}

int param_hz(struct param_parse *p, const struct param_spec *spec, const char *value)
{
    double hz;
    if (parse_number(value, &hz) < 0)
        return param_refuse_value(p, spec, value, "not a number");
    if (hz > MAX_HZ || NSEC_PER_SEC > hz * MAX_PERIOD)
        return param_refuse_value(p, spec, value, "out of bounds");
    p->hz = hz;
    return 0;
}

int param_period(struct param_parse *p, const struct param_spec *spec, const char *value)
{
    uint64_t period;
    int r = parse_integer(value, &period);
    if (r == -EINVAL)
        return param_refuse_value(p, spec, value, "not a whole number");
    if (r < 0 || period == 0 || period > MAX_PERIOD)
        return param_refuse_value(p, spec, value, "out of bounds");
    p->period = period;
    return 0;
}

static int parse_flag(struct param_parse *p, const struct param_spec *spec, const char *value, bool *ret)
{
    if (strcmp(value, "0") != 0 && strcmp(value, "1") != 0)
        return param_refuse_value(p, spec, value, "neither 0 nor 1");
    *ret = *value == '1';
    return 0;
}

int param_audit(struct param_parse *p, const struct param_spec *spec, const char *value)
{
    return parse_flag(p, spec, value, &p->params.audit);
}

int param_kernel(struct param_parse *p, const struct param_spec *spec, const char *value)
{
    return parse_flag(p, spec, value, &p->params.kernel);
}

int param_waker(struct param_parse *p, const struct param_spec *spec, const char *value)
{
    return parse_flag(p, spec, value, &p->params.waker);
}

int param_tid(struct param_parse *p, const struct param_spec *spec, const char *value)
{
    uint64_t tid;
    int r = parse_integer(value, &tid);
    if (r == -EINVAL)
        return param_refuse_value(p, spec, value, "not a whole number");
    if (r < 0 || tid == 0 || tid > MAX_TID)
        return param_refuse_value(p, spec, value, "out of bounds");
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
        return param_refuse_value(p, spec, value, "too long");
    if (!is_plain_utf8(value))
        return param_refuse_value(p, spec, value, "control characters, or not UTF-8");
    if (fault)
        return param_refuse_value(p, spec, value, fault);
    int r = regcomp(&regex, value, REG_EXTENDED | REG_NOSUB);
    if (r != 0) {
        (void)regerror(r, &regex, why, sizeof(why));
        return param_refuse_value(p, spec, value, why);
    }
    regfree(&regex);
    strcpy(out, value);
    return 0;
}

int param_thread(struct param_parse *p, const struct param_spec *spec, const char *value)
{
    return parse_regex(p, spec, value, p->params.thread, sizeof(p->params.thread));
}

int param_focus(struct param_parse *p, const struct param_spec *spec, const char *value)
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
    return param_refuse_value(p, spec, value, "not one of them");
}

int param_format(struct param_parse *p, const struct param_spec *spec, const char *value)
{
    static const struct choice choices[] = {{"pprof", RAW_FORMAT_PPROF}, {"folded", RAW_FORMAT_FOLDED}};
    if (p->params.format != RAW_FORMAT_PPROF)
        return param_refuse(p, "\"debug\" and \"format\" name two formats: give one of them");
    return parse_choice(p, spec, value, choices, sizeof(choices) / sizeof(choices[0]), &p->params.format);
}

int param_debug(struct param_parse *p, const struct param_spec *spec, const char *value)
{
    int debug = atoi(value);

    if (debug > 0 && p->params.format != RAW_FORMAT_PPROF)
        return param_refuse(p, "\"debug\" and \"format\" name two formats: give one of them");
    if (debug > 0)
        p->params.format = debug == 1 ? RAW_FORMAT_COUNTS : RAW_FORMAT_STACKS;
    return 0;
}

int param_no_seconds(struct param_parse *p, const struct param_spec *spec, const char *value)
{
    return param_refuse(p, "\"seconds\" parameter is not supported for this profile type");
}

int param_trace_format(struct param_parse *p, const struct param_spec *spec, const char *value)
{
    static const struct choice choices[] = {
        {"go", RAW_FORMAT_TRACE_GO}, {"perfetto", RAW_FORMAT_TRACE_PERFETTO}, {"chrome", RAW_FORMAT_TRACE_CHROME},
    };
    return parse_choice(p, spec, value, choices, sizeof(choices) / sizeof(choices[0]), &p->params.format);
}

int param_symbolize(struct param_parse *p, const struct param_spec *spec, const char *value)
{
    static const struct choice choices[] = {
        {"full", RAW_SYMBOLIZE_FULL}, {"fast", RAW_SYMBOLIZE_FAST}, {"none", RAW_SYMBOLIZE_NONE},
    };
    return parse_choice(p, spec, value, choices, sizeof(choices) / sizeof(choices[0]), &p->params.symbolize);
}

int param_unwind(struct param_parse *p, const struct param_spec *spec, const char *value)
{
    static const struct choice choices[] = {
        {"auto", SESSION_UNWIND_AUTO}, {"eh", SESSION_UNWIND_TABLES}, {"fp", SESSION_UNWIND_FP}, {"copy", SESSION_UNWIND_COPY},
    };
    return parse_choice(p, spec, value, choices, sizeof(choices) / sizeof(choices[0]), &p->params.unwind);
}

int param_duty(struct param_parse *p, const struct param_spec *spec, const char *value)
{
    double percent;
    if (parse_number(value, &percent) < 0)
        return param_refuse_value(p, spec, value, "not a number");
    if (percent == 0 || percent > 100)
        return param_refuse_value(p, spec, value, "out of bounds");
    p->params.duty = percent < 100 ? percent : 0;
    return 0;
}

int param_no_duty(struct param_parse *p, const struct param_spec *spec, const char *value)
{
    return param_refuse(p, "\"duty\": %s", spec->description);
}

int param_max_overhead(struct param_parse *p, const struct param_spec *spec, const char *value)
{
    double percent;
    if (parse_number(value, &percent) < 0)
        return param_refuse_value(p, spec, value, "not a number");
    if (percent == 0 || percent > MAX_OVERHEAD_PERCENT)
        return param_refuse_value(p, spec, value, "out of bounds");
    p->params.max_overhead = percent;
    return 0;
}

int param_state(struct param_parse *p, const struct param_spec *spec, const char *value)
{
    uint32_t states = 0;

    for (const char *at = value; *at; at += *at == ',') {
        size_t len = strcspn(at, ",");
        uint32_t state = SAMPLE_STATE_NONE + 1;
        while (state < SAMPLE_STATE_COUNT && (strlen(sample_state_name(state)) != len || strncmp(sample_state_name(state), at, len) != 0))
            state++;
        if (state == SAMPLE_STATE_COUNT)
            return param_refuse_value(p, spec, value, "not one of them, nor several with commas between");
        states |= 1u << state;
        at += len;
    }
    if (states == 0)
        return param_refuse_value(p, spec, value, "none is named");
    p->params.states = states;
    return 0;
}

/* As net/http/pprof does for this profile: whatever its value. */
int param_ignored(struct param_parse *p, const struct param_spec *spec, const char *value)
{
    return 0;
}
