/* Spans of waits, kept in one array that is never emptied: see wait_log.h. A program that notes more than it has room for has failed. */
#include "wait_log.h"

#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "program.h"

#define MAX_SPANS (1u << 20)

struct span {
    const char *function, *what, *object;
    uint64_t from_ns, to_ns;
    uint32_t tid;
    uint32_t is_there; /* set last */
};

static struct span spans[MAX_SPANS];
static uint32_t n_spans;
static bool is_asked;

static void on_line(const char *line)
{
    is_asked = strncmp(line, "waits", 5) == 0;
}

static void print_spans(void)
{
    uint32_t n = __atomic_load_n(&n_spans, __ATOMIC_RELAXED);
    const char *comma = "";

    if (!is_asked)
        return;
    printf(", \"waits\": [");
    for (uint32_t i = 0; i < n && i < MAX_SPANS; i++) {
        const struct span *s = &spans[i];

        if (!__atomic_load_n(&s->is_there, __ATOMIC_ACQUIRE))
            continue;
        printf("%s[\"%s\", \"%s\", \"%s\", %u, %llu, %llu]", comma, s->function, s->what, s->object, s->tid, (unsigned long long)s->from_ns,
               (unsigned long long)__atomic_load_n(&s->to_ns, __ATOMIC_RELAXED));
        comma = ", ";
    }
    printf("]");
    is_asked = false;
}

void wait_log_init(void)
{
    program_on_line(on_line);
    program_on_truth(print_spans);
}

uint32_t wait_begin(const char *function, const char *what, const char *object)
{
    static __thread uint32_t tid;
    uint32_t i = __atomic_fetch_add(&n_spans, 1, __ATOMIC_RELAXED);

    if (i >= MAX_SPANS)
        program_cannot("note so many waits");
    if (tid == 0)
        tid = (uint32_t)syscall(SYS_gettid);
    spans[i].function = function;
    spans[i].what = what;
    spans[i].object = object;
    spans[i].tid = tid;
    spans[i].from_ns = program_clock_ns(CLOCK_MONOTONIC);
    __atomic_store_n(&spans[i].is_there, 1, __ATOMIC_RELEASE);
    return i;
}

void wait_end(uint32_t span)
{
    __atomic_store_n(&spans[span].to_ns, program_clock_ns(CLOCK_MONOTONIC), __ATOMIC_RELAXED);
}
