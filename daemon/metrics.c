/* The registry of counters: a fixed number of places, since label values can come from what a session or a client made up. */
#include "daemon/metrics.h"

#include <event2/buffer.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MAX_PLACES 64
#define LABEL_LEN 48

struct place {
    char label[2][LABEL_LEN];
    uint64_t value;
};

/* To add a counter by label: a family here, a line in families[], and a function that adds to it. */
struct family {
    const char *name, *help, *label[2];
    struct place place[MAX_PLACES];
    unsigned n;
};

enum { REQUESTS, SAMPLES, LOST, N_FAMILIES };

static struct family families[N_FAMILIES] = {
    [REQUESTS] = {.name = "cprofd_requests_total", .help = "Answers, by HTTP status.", .label = {"code"}},
    [SAMPLES] = {.name = "cprofd_samples_total", .help = "Samples in finished profiles.", .label = {"kind"}},
    [LOST] = {.name = "cprofd_lost_total", .help = "Samples that were lost, by reason.", .label = {"kind", "reason"}},
};

static struct place *find_place(struct family *f, const char *a, const char *b)
{
    for (unsigned i = 0; i < f->n; i++)
        if (strncmp(f->place[i].label[0], a, LABEL_LEN - 1) == 0 && strncmp(f->place[i].label[1], b, LABEL_LEN - 1) == 0)
            return &f->place[i];
    return NULL;
}

static void add(struct family *f, const char *a, const char *b, uint64_t n)
{
    struct place *p = find_place(f, a, b);
    if (!p && f->n >= MAX_PLACES - 1) { /* the last place is everybody else's */
        a = "other";
        b = f->label[1] ? "other" : "";
        p = find_place(f, a, b);
    }
    if (!p) {
        p = &f->place[f->n++];
        (void)snprintf(p->label[0], LABEL_LEN, "%s", a);
        (void)snprintf(p->label[1], LABEL_LEN, "%s", b);
    }
    p->value += n;
}

void metrics_add_request(int code)
{
    char text[16];
    (void)snprintf(text, sizeof(text), "%d", code);
    add(&families[REQUESTS], text, "", 1);
}

void metrics_add_samples(const char *kind, uint64_t n)
{
    add(&families[SAMPLES], kind, "", n);
}

void metrics_add_lost(const char *kind, const char *reason, uint64_t n)
{
    add(&families[LOST], kind, reason, n);
}

void metrics_reset(void)
{
    for (unsigned i = 0; i < N_FAMILIES; i++) {
        families[i].n = 0;
        memset(families[i].place, 0, sizeof(families[i].place));
    }
}

static void print_label(struct evbuffer *out, const char *name, const char *value)
{
    (void)evbuffer_add_printf(out, "%s=\"", name);
    for (; *value; value++) {
        if (*value == '\n')
            (void)evbuffer_add(out, "\\n", 2);
        else if (*value == '"' || *value == '\\')
            (void)evbuffer_add_printf(out, "\\%c", *value);
        else /* the format is UTF-8; what is not ASCII has no place in our labels */
            (void)evbuffer_add_printf(out, "%c", *value >= 0x20 && *value < 0x7f ? *value : '?');
    }
    (void)evbuffer_add(out, "\"", 1);
}

static void print_family(struct evbuffer *out, const struct family *f)
{
    (void)evbuffer_add_printf(out, "# HELP %s %s\n# TYPE %s counter\n", f->name, f->help, f->name);
    for (unsigned i = 0; i < f->n; i++) {
        (void)evbuffer_add_printf(out, "%s{", f->name);
        print_label(out, f->label[0], f->place[i].label[0]);
        if (f->label[1]) {
            (void)evbuffer_add(out, ",", 1);
            print_label(out, f->label[1], f->place[i].label[1]);
        }
        (void)evbuffer_add_printf(out, "} %" PRIu64 "\n", f->place[i].value);
    }
}

static void print_value(struct evbuffer *out, const char *name, const char *type, const char *help, uint64_t value)
{
    (void)evbuffer_add_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s %" PRIu64 "\n", name, help, name, type, name, value);
}

static void print_cpu(struct evbuffer *out, const char *role, uint64_t ns)
{
    (void)evbuffer_add_printf(out, "cprofd_cpu_seconds_total{role=\"%s\"} %" PRIu64 ".%09" PRIu64 "\n", role,
                              ns / 1000000000, ns % 1000000000);
}

static void print_debuginfod(struct evbuffer *out, const struct metrics_sources *s)
{
    const struct {
        const char *result;
        uint64_t n;
    } results[] = {{"found", s->debuginfod_found}, {"absent", s->debuginfod_absent}, {"failed", s->debuginfod_failed}, {"late", s->debuginfod_late}};

    (void)evbuffer_add_printf(out, "# HELP cprofd_debuginfod_total Debug files that servers were asked for, by outcome.\n"
                                   "# TYPE cprofd_debuginfod_total counter\n");
    for (size_t i = 0; i < sizeof(results) / sizeof(results[0]); i++)
        (void)evbuffer_add_printf(out, "cprofd_debuginfod_total{result=\"%s\"} %" PRIu64 "\n", results[i].result, results[i].n);
}

void metrics_print(struct evbuffer *out, const struct metrics_sources *s)
{
    print_value(out, "cprofd_sessions", "gauge", "Sessions under way, watches included.", s->sessions);
    print_value(out, "cprofd_sessions_open", "gauge", "Sessions whose window has begun and goes on, watches included.", s->open_sessions);
    print_value(out, "cprofd_watches", "gauge", "Kinds of profiles that processes are watched for.", s->watches);
    for (unsigned i = 0; i < N_FAMILIES; i++)
        print_family(out, &families[i]);
    print_value(out, "cprofd_worker_restarts_total", "counter", "Workers that died or hung.", s->worker_restarts);
    print_value(out, "cprofd_table_bytes", "gauge", "Memory of unwinding tables.", s->table_bytes);
    print_value(out, "cprofd_cache_bytes", "gauge", "Memory of the workers' symbol caches.", s->cache_bytes);
    print_debuginfod(out, s);
    (void)evbuffer_add_printf(out, "# HELP cprofd_cpu_seconds_total CPU time of the daemon, by role.\n"
                                   "# TYPE cprofd_cpu_seconds_total counter\n");
    print_cpu(out, "loop", s->cpu_loop_ns);
    print_cpu(out, "collector", s->cpu_collector_ns);
    print_cpu(out, "worker", s->cpu_worker_ns);
    print_cpu(out, "debuginfod", s->cpu_debuginfod_ns);
    (void)evbuffer_add_printf(out, "# HELP cprofd_build_info What runs here.\n# TYPE cprofd_build_info gauge\n"
                                   "cprofd_build_info{version=\"%s\"} 1\n", CPROFD_VERSION);
}
