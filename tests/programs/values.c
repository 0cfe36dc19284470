/* Values of a declared profile (cprofd/profile.h) in whatever way a line on standard input says: "add N" opens N, each by a key of its own;
 * "threads N" has N threads open one each; "fork N" has a child open N, and close all that its parent has; "exec" becomes this program
 * anew; "close" closes all that are open, and keys begin anew; "give N" has give_value return N, and "take N" has take_value take it. The
 * names of two more profiles, which it also declares, are made to be hard to show. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cprofd/profile.h"
#include "program.h"

CPROFD_PROFILE(values, "values", "values that are open", "count");
CPROFD_PROFILE(hostile, "</td><script>alert('1')</script>%s\"\\", "<b>100%</b> \"&\"", "count");
CPROFD_PROFILE(unusable, "one,\ntwo", "its name can't be shown", "count");
CPROFD_PROFILE(kinds, "heap", "it has a kind's name", "count");

static struct tally tallies[] = { { .name = "open_value" } };
static unsigned long n_open;
static char **own_argv;

static NOINLINE void open_value(unsigned long key)
{
    CPROFD_PROFILE_ADD(values, key);
    CPROFD_PROFILE_ADD(hostile, key);
    CPROFD_PROFILE_ADD(unusable, key);
    CPROFD_PROFILE_ADD(kinds, key);
    tallies[0].calls++;
    KEEP_FRAME();
}

static NOINLINE void close_value(unsigned long key)
{
    CPROFD_PROFILE_REMOVE(values, key);
    KEEP_FRAME();
}

static NOINLINE void open_many(unsigned long n)
{
    for (unsigned long i = 0; i < n; i++)
        open_value(n_open++);
    KEEP_FRAME();
}

static NOINLINE void close_all(void)
{
    for (unsigned long i = 0; i < n_open; i++)
        close_value(i);
    n_open = 0;
    KEEP_FRAME();
}

/* For probes on what a function returns. */
NOINLINE long give_value(long value)
{
    KEEP_FRAME();
    return value;
}

NOINLINE void take_value(long value)
{
    (void)value;
    KEEP_FRAME();
}

static NOINLINE void want_value(long value)
{
    (void)give_value(value);
    KEEP_FRAME();
}

static void *open_in_thread(void *key)
{
    open_value((unsigned long)key);
    return NULL;
}

static NOINLINE void open_in_threads(unsigned long n)
{
    for (unsigned long i = 0; i < n; i++) {
        pthread_t thread;

        if (pthread_create(&thread, NULL, open_in_thread, (void *)n_open++) || pthread_join(thread, NULL))
            program_cannot("make a thread");
    }
}

static void open_in_child(unsigned long n)
{
    pid_t pid = fork();

    if (pid < 0)
        program_cannot("fork");
    if (pid == 0) {
        close_all();
        open_many(n);
        _exit(0);
    }
    (void)waitpid(pid, NULL, 0);
}

static void on_line(const char *line)
{
    unsigned long n = 0;
    long value = 0;

    if (sscanf(line, "give %li", &value) == 1) {
        want_value(value);
    } else if (sscanf(line, "take %li", &value) == 1) {
        take_value(value);
    } else if (sscanf(line, "add %lu", &n) == 1) {
        open_many(n);
    } else if (sscanf(line, "threads %lu", &n) == 1) {
        open_in_threads(n);
    } else if (sscanf(line, "fork %lu", &n) == 1) {
        open_in_child(n);
    } else if (strncmp(line, "close", 5) == 0) {
        close_all();
    } else if (strncmp(line, "exec", 4) == 0) {
        execv("/proc/self/exe", own_argv);
        program_cannot("exec");
    }
}

int main(int argc, char **argv)
{
    own_argv = argv;
    program_on_line(on_line);
    program_init(argc, argv, tallies, 1);
    program_ready();
    while (program_running())
        program_sleep_until(program_clock_ns(CLOCK_MONOTONIC) + 10 * MS_NS);
    return program_end();
}
