/* Burns in before_exec for after_ms=, then becomes another program: to= its path (default: this one again,
 * which then burns in after_exec), with all arguments passed on. Which image of a process time belongs to
 * must not get mixed up. thread=1: a second thread does so, while the main thread sleeps: it gets the main thread's number. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "program.h"

static struct tally tallies[] = { { .name = "before_exec" }, { .name = "after_exec" } };

static NOINLINE void before_exec(void)
{
    BURN(&tallies[0], MS_NS);
}

static NOINLINE void after_exec(void)
{
    BURN(&tallies[1], MS_NS);
}

static bool is_second(int argc, char **argv)
{
    return argc > 1 && strcmp(argv[argc - 1], "second=1") == 0;
}

static void become(int argc, char **argv)
{
    char second[] = "second=1";
    char **next_argv = calloc((size_t)argc + 2, sizeof(*next_argv));

    if (!next_argv)
        program_cannot("allocate");

    memcpy(next_argv, argv, (size_t)argc * sizeof(*argv));
    next_argv[argc] = second;
    program_end();
    execv(program_option_text("to", "/proc/self/exe"), next_argv);
    program_cannot("exec");
}

struct arguments {
    int argc;
    char **argv;
};

static void *live(void *arg)
{
    const struct arguments *a = arg;
    uint64_t exec_ns = program_clock_ns(CLOCK_MONOTONIC) + (uint64_t)program_option("after_ms", 500) * MS_NS;

    while (program_running()) {
        if (is_second(a->argc, a->argv)) {
            after_exec();
            continue;
        }
        before_exec();
        if (program_clock_ns(CLOCK_MONOTONIC) >= exec_ns)
            become(a->argc, a->argv);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    struct arguments arguments = { argc, argv };
    pthread_t thread;

    program_init(argc, argv, tallies, 2);
    program_ready();
    if (!is_second(argc, argv) && program_option("thread", 0)) {
        if (pthread_create(&thread, NULL, live, &arguments) != 0)
            program_cannot("start a thread");
        pthread_join(thread, NULL);
    } else {
        live(&arguments);
    }
    return program_end();
}
