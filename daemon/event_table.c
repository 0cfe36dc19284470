/* The table of events and the grammar of event=. Whether this machine has an event is found out by opening it, once. */
#include "daemon/event_table.h"

#include <assert.h>
#include <errno.h>
#include <linux/perf_event.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/quote.h"
#include "daemon/session_params.h"
#include "util/cleanup.h"

#define GRAMMAR "raw:HEX, uprobe:PATH:SYMBOL[+0xOFF][:ret], usdt:PATH:PROVIDER:NAME, tracepoint:CATEGORY:NAME"

static const struct event_periods hardware_periods = {.fallback = 1000000, .least = 10000};
static const struct event_periods software_periods = {.fallback = 1, .least = 1};
static const struct event_periods clock_periods = {.fallback = 10000000, .least = 100000};

/* To add a hardware or software event: a line here. */
static const struct event_spec {
    const char *name;
    enum event_kind kind;
    uint32_t type;
    uint64_t config;
} event_table[] = {
    {"cpu-clock", EVENT_CPU_CLOCK, PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CPU_CLOCK},
    {"cycles", EVENT_PERF, PERF_TYPE_HARDWARE, PERF_COUNT_HW_CPU_CYCLES},
    {"instructions", EVENT_PERF, PERF_TYPE_HARDWARE, PERF_COUNT_HW_INSTRUCTIONS},
    {"cache-references", EVENT_PERF, PERF_TYPE_HARDWARE, PERF_COUNT_HW_CACHE_REFERENCES},
    {"cache-misses", EVENT_PERF, PERF_TYPE_HARDWARE, PERF_COUNT_HW_CACHE_MISSES},
    {"branch-instructions", EVENT_PERF, PERF_TYPE_HARDWARE, PERF_COUNT_HW_BRANCH_INSTRUCTIONS},
    {"branch-misses", EVENT_PERF, PERF_TYPE_HARDWARE, PERF_COUNT_HW_BRANCH_MISSES},
    {"bus-cycles", EVENT_PERF, PERF_TYPE_HARDWARE, PERF_COUNT_HW_BUS_CYCLES},
    {"page-faults", EVENT_PERF, PERF_TYPE_SOFTWARE, PERF_COUNT_SW_PAGE_FAULTS},
    {"context-switches", EVENT_PERF, PERF_TYPE_SOFTWARE, PERF_COUNT_SW_CONTEXT_SWITCHES},
};
#define N_EVENTS (sizeof(event_table) / sizeof(event_table[0]))

struct event_error {
    char *text;
    size_t len;
};

static int __attribute__((format(printf, 2, 3))) refuse(const struct event_error *error, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(error->text, error->len, fmt, args);
    va_end(args);
    return -EINVAL;
}

static int try_open(uint32_t type, uint64_t config, pid_t pid, int cpu)
{
    struct perf_event_attr attr = {
        .size = sizeof(attr), .type = type, .config = config, .disabled = 1,
        .exclude_kernel = type != PERF_TYPE_SOFTWARE, .exclude_hv = type != PERF_TYPE_SOFTWARE,
    };
    AUTO_CLOSE int fd = (int)syscall(SYS_perf_event_open, &attr, pid, cpu, -1, PERF_FLAG_FD_CLOEXEC);
    return fd >= 0 ? 0 : -errno;
}

/* Without the right to open it nobody can tell; then it counts as there, and the session says what right it lacks. */
static bool machine_has(uint32_t type, uint64_t config)
{
    int r = try_open(type, config, -1, 0);
    if (r == -EACCES || r == -EPERM)
        r = try_open(type, config, 0, -1);
    return r == 0 || r == -EACCES || r == -EPERM || r == -EMFILE || r == -ENFILE || r == -EBUSY;
}

struct availability {
    bool probed, has[N_EVENTS], hardware;
    char text[1024];
};

static const struct availability *availability(void)
{
    static struct availability a;
    size_t n = 0;
    if (a.probed)
        return &a;
    a.probed = true;
    for (size_t i = 0; i < N_EVENTS; i++) {
        const struct event_spec *e = &event_table[i];
        a.has[i] = machine_has(e->type, e->config);
        a.hardware |= a.has[i] && e->type == PERF_TYPE_HARDWARE;
        if (a.has[i])
            n += (size_t)snprintf(a.text + n, sizeof(a.text) - n, "%s, ", e->name);
    }
    const char *rest = GRAMMAR;
    if (!a.hardware)
        rest = strstr(rest, "uprobe:");
    (void)snprintf(a.text + n, sizeof(a.text) - n, "%s", rest);
    return &a;
}

const char *events_available(void)
{
    return availability()->text;
}

void event_periods(const struct session_params *params, struct event_periods *ret)
{
    if (params->event == EVENT_CPU_CLOCK)
        *ret = clock_periods;
    else if (params->event == EVENT_PERF && params->perf_type != PERF_TYPE_SOFTWARE)
        *ret = hardware_periods;
    else
        *ret = software_periods;
}

static int lacks(const char *text, const struct event_error *error)
{
    char quoted[QUOTE_LEN];
    return refuse(error, "this machine has no event %s; it has: %s", quote(text, quoted), events_available());
}

static int copy_part(char *out, size_t size, const char *from, size_t len, const char *what, const struct event_error *error)
{
    if (len == 0)
        return refuse(error, "event: %s is empty", what);
    if (len >= size)
        return refuse(error, "event: %s is longer than %zu bytes", what, size - 1);
    memcpy(out, from, len);
    out[len] = '\0';
    return 0;
}

/* Sample types carry the name; a cut must not split a character. */
static void set_event_name(struct session_params *p, const char *name)
{
    size_t len = strlen(name);
    if (len >= sizeof(p->event_name))
        for (len = sizeof(p->event_name) - 1; len > 0 && ((unsigned char)name[len] & 0xc0) == 0x80; len--)
            ;
    memcpy(p->event_name, name, len);
    p->event_name[len] = '\0';
}

/* The next separator: a single colon. A pair is part of a name (ns::f); of an odd run the first one separates ("" and "::f"). */
static const char *find_separator(const char *text)
{
    for (const char *p = text; (p = strchr(p, ':')); ) {
        size_t run = strspn(p, ":");
        if (run % 2)
            return p;
        p += run;
    }
    return NULL;
}

/* PATH of "PATH:REST". *ret_rest: what follows the separator. */
static int parse_path(const char *text, struct session_params *p, const char **ret_rest, const struct event_error *error)
{
    const char *end = find_separator(text);
    if (!end)
        return refuse(error, "event: a separator is missing; write uprobe:PATH:SYMBOL or usdt:PATH:PROVIDER:NAME, with an empty "
                             "PATH for the process's main binary");
    if (end != text && *text != '/' && memchr(text, '/', (size_t)(end - text)))
        return refuse(error, "event: PATH must be absolute, as the process sees it, or the name alone of a file that it maps (libc.so.6), or empty "
                             "for its main binary");
    if (end != text) {
        int r = copy_part(p->object, sizeof(p->object), text, (size_t)(end - text), "PATH", error);
        if (r < 0)
            return r;
    }
    *ret_rest = end + 1;
    return 0;
}

/* The "+0xOFF" at the end; a query that was not encoded has a space where the plus was. NULL where there is none. */
static char *find_offset(char *symbol)
{
    size_t len = strlen(symbol), digits = 0;
    while (digits < len && strchr("0123456789abcdefABCDEF", symbol[len - 1 - digits]))
        digits++;
    if (digits == 0 || digits + 3 > len)
        return NULL;
    char *plus = symbol + len - digits - 3;
    return (*plus == '+' || *plus == ' ') && plus[1] == '0' && (plus[2] | 0x20) == 'x' ? plus : NULL;
}

static uint64_t parse_hex(const char *digits)
{
    uint64_t value = 0;
    for (; *digits; digits++)
        value = value << 4 | (uint64_t)(*digits <= '9' ? *digits - '0' : (*digits | 0x20) - 'a' + 10);
    return value;
}

int event_cut_offset(char *symbol, uint64_t *ret_offset, const char **ret_why)
{
    char *offset = find_offset(symbol);

    *ret_why = "the offset has more than 16 digits";
    if (offset && strlen(offset + 3) > 16)
        return -EINVAL;
    *ret_offset = offset ? parse_hex(offset + 3) : 0;
    if (offset)
        *offset = '\0';
    return 0;
}

/* Cuts a ":ret" off the end. */
static bool cut_result(char *symbol)
{
    size_t len = strlen(symbol);
    if (len < 5 || strcmp(symbol + len - 4, ":ret") != 0 || symbol[len - 5] == ':')
        return false;
    symbol[len - 4] = '\0';
    return true;
}

static int parse_uprobe(const char *rest, struct session_params *p, const struct event_error *error)
{
    int r = parse_path(rest, p, &rest, error);
    if (r < 0)
        return r;
    r = copy_part(p->symbol, sizeof(p->symbol), rest, strlen(rest), "SYMBOL", error);
    if (r < 0)
        return r;
    p->symbol_result = cut_result(p->symbol);
    const char *why;
    if (event_cut_offset(p->symbol, &p->symbol_offset, &why) < 0)
        return refuse(error, "event: %s", why);
    if (!p->symbol[0])
        return refuse(error, "event: SYMBOL is empty");
    if (find_separator(p->symbol))
        return refuse(error, "event: a single colon in SYMBOL; write uprobe:PATH:SYMBOL[+0xOFF][:ret], where ns::f is a name");
    p->event = EVENT_UPROBE;
    set_event_name(p, p->symbol);
    return 0;
}

/* "A:B", both without a single colon, into p->symbol. form: what should have been written. */
static int parse_pair(const char *text, struct session_params *p, const char *form, const struct event_error *error)
{
    const char *separator = find_separator(text);
    if (!separator || separator == text || !separator[1] || find_separator(separator + 1))
        return refuse(error, "event: write %s, with single colons between and nothing empty", form);
    int r = copy_part(p->symbol, sizeof(p->symbol), text, strlen(text), form, error);
    if (r < 0)
        return r;
    set_event_name(p, separator + 1);
    return 0;
}

static int parse_usdt(const char *rest, struct session_params *p, const struct event_error *error)
{
    int r = parse_path(rest, p, &rest, error);
    if (r < 0)
        return r;
    p->event = EVENT_USDT;
    return parse_pair(rest, p, "usdt:PATH:PROVIDER:NAME", error);
}

/* The names become a path in tracefs. */
static int parse_tracepoint(const char *rest, struct session_params *p, const struct event_error *error)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-:";
    int r = parse_pair(rest, p, "tracepoint:CATEGORY:NAME", error);
    if (r < 0)
        return r;
    if (rest[strspn(rest, allowed)] || strstr(rest, "::"))
        return refuse(error, "event: CATEGORY and NAME of a tracepoint have letters, digits, _ and - alone");
    p->event = EVENT_TRACEPOINT;
    return 0;
}

static int parse_raw(const char *digits, struct session_params *p, const struct event_error *error)
{
    size_t len = strlen(digits);
    if (len == 0 || len > 16 || digits[strspn(digits, "0123456789abcdefABCDEF")])
        return refuse(error, "event: raw: needs 1 to 16 hexadecimal digits, such as raw:1a2");
    p->event = EVENT_PERF;
    p->perf_type = PERF_TYPE_RAW;
    p->perf_config = parse_hex(digits);
    set_event_name(p, p->event_text);
    if (!machine_has(PERF_TYPE_RAW, p->perf_config))
        return lacks(p->event_text, error);
    return 0;
}

static int parse_named(struct session_params *p, const struct event_error *error)
{
    for (size_t i = 0; i < N_EVENTS; i++) {
        const struct event_spec *e = &event_table[i];
        if (strcmp(e->name, p->event_text) != 0)
            continue;
        if (!availability()->has[i])
            return lacks(e->name, error);
        p->event = e->kind;
        p->perf_type = e->type;
        p->perf_config = e->config;
        set_event_name(p, e->name);
        return 0;
    }
    return lacks(p->event_text, error);
}

static const struct {
    const char *prefix;
    int (*parse)(const char *rest, struct session_params *p, const struct event_error *error);
} forms[] = {
    {"raw:", parse_raw}, {"uprobe:", parse_uprobe}, {"usdt:", parse_usdt}, {"tracepoint:", parse_tracepoint},
};

int event_parse(const char *text, struct session_params *ret, char *error_text, size_t error_len)
{
    const struct event_error error = {error_text, error_len};
    size_t len = strlen(text);
    if (len == 0 || len >= sizeof(ret->event_text))
        return refuse(&error, "event: need 1 to %zu bytes; this machine has: %s", sizeof(ret->event_text) - 1, events_available());
    if (!is_plain_utf8(text))
        return refuse(&error, "event: control characters, or not UTF-8");
    memcpy(ret->event_text, text, len + 1);
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++)
        if (strncmp(text, forms[i].prefix, strlen(forms[i].prefix)) == 0)
            return forms[i].parse(text + strlen(forms[i].prefix), ret, &error);
    return parse_named(ret, &error);
}
