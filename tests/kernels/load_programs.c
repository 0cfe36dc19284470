/* Loads the BPF programs of an object file one by one, and says of each what the verifier did with it: what a kernel refuses, it
 * refuses here with its whole reason. Of each one that loads: how many instructions the verifier followed, and for how long.
 *
 *   load_programs OBJECT [PROGRAM]     exit status: 0, or 1 where one was refused that the daemon can't do without */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "util/clock.h"

#define LOG_BYTES (16 * 1024 * 1024)
#define LOG_SHOWN 6000 /* of its end, where the reason is */

/* BPF_TRACE_UPROBE_MULTI, Linux 6.6: newer than the headers that we build against. */
#define ATTACH_TRACE_UPROBE_MULTI 48
#define ATTACH_TRACE_UPROBE_SESSION 57 /* Linux 6.13 */

static char verifier_log[LOG_BYTES];
static char warnings[4096];

static int keep_warnings(enum libbpf_print_level level, const char *fmt, va_list args)
{
    size_t used = strlen(warnings);

    if (level == LIBBPF_WARN && used < sizeof(warnings))
        (void)vsnprintf(warnings + used, sizeof(warnings) - used, fmt, args);
    return 0;
}

/* Loaded for links of a kind that older kernels lack; the daemon has another program for those. */
static bool can_be_missing(const char *name)
{
    return strcmp(name, "on_probe_multi") == 0 || strcmp(name, "on_heap_session") == 0;
}

static int load_one(const char *path, const char *name, unsigned log_level)
{
    struct bpf_object *object = bpf_object__open_file(path, NULL);
    struct bpf_program *program;

    if (!object)
        return -errno;
    bpf_object__for_each_program(program, object) {
        bool chosen = strcmp(bpf_program__name(program), name) == 0;
        (void)bpf_program__set_autoload(program, chosen);
        if (chosen)
            (void)bpf_program__set_log_level(program, log_level);
        if (chosen)
            (void)bpf_program__set_log_buf(program, verifier_log, sizeof(verifier_log));
        if (chosen && can_be_missing(name))
            (void)bpf_program__set_expected_attach_type(program, strstr(name, "_session") ? ATTACH_TRACE_UPROBE_SESSION : ATTACH_TRACE_UPROBE_MULTI);
    }
    verifier_log[0] = warnings[0] = '\0';
    int r = bpf_object__load(object);
    bpf_object__close(object);
    return r;
}

static const char *last_part(const char *text)
{
    size_t n = strlen(text);
    return n > LOG_SHOWN ? text + n - LOG_SHOWN : text;
}

/* The log's line that begins so. */
static void print_logged(const char *begin)
{
    const char *found = strstr(verifier_log, begin);

    if (found)
        (void)printf(" %.*s", (int)strcspn(found, "\n"), found);
}

/* 1 where the daemon could not start for it. */
static int report(const char *path, const char *name)
{
    uint64_t began_ns = monotonic_ns();
    int r = load_one(path, name, 4 /* BPF_LOG_STATS */);
    double ms = (double)(monotonic_ns() - began_ns) / 1e6;

    if (r == 0) {
        (void)printf("loaded %s in %.0f ms:", name, ms);
        print_logged("processed ");
        print_logged("stack depth "); /* of each function: 512 in all along any chain of calls, each rounded up to 32 on older kernels */
        (void)printf("\n");
        return 0;
    }
    (void)load_one(path, name, 1 /* BPF_LOG_LEVEL1 */);
    (void)printf("refused %s: %s\n%s\n%s\n", name, strerror(-r), warnings, last_part(verifier_log));
    return !can_be_missing(name);
}

int main(int argc, char **argv)
{
    struct bpf_program *program;
    int failed = 0;

    if (argc < 2)
        return 2;
    (void)libbpf_set_print(keep_warnings);
    struct bpf_object *object = bpf_object__open_file(argv[1], NULL);
    if (!object)
        return 2;
    bpf_object__for_each_program(program, object)
        if (argc < 3 || strcmp(argv[2], bpf_program__name(program)) == 0)
            failed |= report(argv[1], bpf_program__name(program));
    bpf_object__close(object);
    return failed;
}
