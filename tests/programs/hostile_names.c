/* Threads whose names are markup, newlines, control bytes and no UTF-8: whatever shows them must escape or
 * replace them. A test runs a copy of it from a path of the same kind. */
#include <pthread.h>
#include <sys/prctl.h>

#include "program.h"

static const char *const names[] = {
    "<script>a()//", "two\nlines\r\n", "\xff\xfe\x80 bytes", "\"quote'&amp;", "\x1b[31mred", "",
};

#define N_NAMES (sizeof(names) / sizeof(names[0]))

static struct tally tallies[] = { { .name = "named_work" } };

static NOINLINE void named_work(void)
{
    BURN(&tallies[0], MS_NS);
}

static void *named(void *name)
{
    prctl(PR_SET_NAME, (const char *)name);
    while (program_running())
        named_work();
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t threads[N_NAMES];

    program_init(argc, argv, tallies, 1);
    for (unsigned i = 1; i < N_NAMES; i++)
        if (pthread_create(&threads[i], NULL, named, (void *)(uintptr_t)names[i]) != 0)
            program_cannot("start threads");
    program_ready();
    named((void *)(uintptr_t)names[0]);
    for (unsigned i = 1; i < N_NAMES; i++)
        pthread_join(threads[i], NULL);
    return program_end();
}
