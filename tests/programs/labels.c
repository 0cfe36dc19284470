/* Threads with labels (cprofd/labels.h), each function under a set of its own: what a sample of it should have is known. The main thread does one
 * after the other: burn_plain has none, burn_buy request=/buy, burn_tenant tenant=7 as well, burn_inner request=/inner in place of /buy, wait_sell
 * request=/sell, keep request=/keep (which allocates, 100 KB each time, and adds it to the profile "kept"). A second thread was made in a scope of
 * team=blue: burn_inherited. Two threads meet at a lock: wait_lock has request=/lock. only=NAME,... leaves the others out. A line "load" loads
 * library=PATH, in which a further thread, burn_in_library, then has request=/library; "fork" makes a child that burns as its parent does, "exec"
 * starts the program anew, with only=burn_plain; "odd" gives labels that are hard to show to burn_odd. */
#define CPROFD_LABELS_PTHREAD
#include "cprofd/labels.h"
#include "cprofd/profile.h"

#ifndef NO_LIBRARIES
#include <dlfcn.h>
#endif
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "program.h"

static struct tally tallies[] = { { .name = "burn_plain" },     { .name = "burn_buy" },  { .name = "burn_tenant" }, { .name = "burn_inner" },
                                  { .name = "burn_inherited" }, { .name = "wait_sell" }, { .name = "keep" },        { .name = "wait_lock" },
                                  { .name = "burn_in_library" }, { .name = "burn_odd" } };
CPROFD_PROFILE(all_kept, "kept", "what is never freed", "count");
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *own_path;
static bool odd;

static NOINLINE void burn_plain(void)
{
    BURN(&tallies[0], 3 * MS_NS);
}

static NOINLINE void burn_buy(void)
{
    BURN(&tallies[1], 5 * MS_NS);
}

static NOINLINE void burn_tenant(void)
{
    BURN(&tallies[2], 4 * MS_NS);
}

static NOINLINE void burn_inner(void)
{
    BURN(&tallies[3], 3 * MS_NS);
}

static NOINLINE void burn_inherited(void)
{
    BURN(&tallies[4], 10 * MS_NS);
}

static NOINLINE void wait_sell(void)
{
    uint64_t from_ns = program_clock_ns(CLOCK_MONOTONIC);

    program_sleep_until(from_ns + 5 * MS_NS);
    __atomic_fetch_add(&tallies[5].calls, program_clock_ns(CLOCK_MONOTONIC) - from_ns, __ATOMIC_RELAXED);
}

/* Is never freed. */
static NOINLINE void keep(void)
{
    char *kept = malloc(100000);

    if (kept)
        *(volatile char *)kept = 1;
    CPROFD_PROFILE_ADD_WEIGHT(all_kept, kept, 1, 0);
    program_sleep_until(program_clock_ns(CLOCK_MONOTONIC) + 2 * MS_NS);
    __atomic_fetch_add(&tallies[6].calls, 1, __ATOMIC_RELAXED);
}

static NOINLINE void wait_lock(void)
{
    pthread_mutex_lock(&lock);
    pthread_mutex_unlock(&lock);
    __atomic_fetch_add(&tallies[7].calls, 1, __ATOMIC_RELAXED);
}

static NOINLINE void burn_in_library(void)
{
    BURN(&tallies[8], 5 * MS_NS);
}

static NOINLINE void burn_odd(void)
{
    BURN(&tallies[9], 5 * MS_NS);
}

static NOINLINE void serve(void)
{
    CPROFD_LABEL(request, "request", "/buy");
    if (program_chooses("burn_buy"))
        burn_buy();
    if (program_chooses("burn_tenant")) {
        CPROFD_LABEL(tenant, "tenant", "7");
        burn_tenant();
    }
    if (program_chooses("burn_inner")) {
        CPROFD_LABEL(inner, "request", "/inner");
        burn_inner();
    }
}

static NOINLINE void serve_others(void)
{
    if (program_chooses("wait_sell")) {
        CPROFD_LABEL(request, "request", "/sell");
        wait_sell();
    }
    if (program_chooses("keep")) {
        CPROFD_LABEL(request, "request", "/keep");
        keep();
    }
    if (odd) {
        char value[400];
        memset(value, 'v', sizeof(value) - 1);
        value[sizeof(value) - 1] = '\0';
        CPROFD_LABEL(ours, "thread", "theirs");
        CPROFD_LABEL(bytes, "bytes\xff", "a\nb\x1b[2J");
        CPROFD_LABEL(cut, "long", value);
        burn_odd();
    }
}

static void *inherits(void *unused)
{
    while (program_running())
        burn_inherited();
    return unused;
}

static void *waits_for_lock(void *unused)
{
    while (program_running()) {
        CPROFD_LABEL(request, "request", "/lock");
        wait_lock();
        program_sleep_until(program_clock_ns(CLOCK_MONOTONIC) + 2 * MS_NS);
    }
    return unused;
}

static void *holds_lock(void *unused)
{
    while (program_running()) {
        CPROFD_LABEL(request, "request", "/hold");
        pthread_mutex_lock(&lock);
        program_sleep_until(program_clock_ns(CLOCK_MONOTONIC) + 6 * MS_NS);
        pthread_mutex_unlock(&lock);
        program_sleep_until(program_clock_ns(CLOCK_MONOTONIC) + 1 * MS_NS);
    }
    return unused;
}

static __attribute__((unused)) void *works_in_library(void *given)
{
    void (*work)(const char *, void (*)(void)) = *(void (**)(const char *, void (*)(void)))given;

    while (program_running())
        work("/library", burn_in_library);
    return NULL;
}

static void start(void *(*run)(void *), void *argument)
{
    pthread_t thread;

    if (cprofd_pthread_create(&thread, NULL, run, argument))
        program_cannot("make a thread");
    pthread_detach(thread);
}

static void load_library(void)
{
#ifndef NO_LIBRARIES
    static void *work;
    void *library = dlopen(program_option_text("library", ""), RTLD_NOW);

    work = library ? dlsym(library, "library_work") : NULL;
    if (work)
        start(works_in_library, &work);
#endif
}

/* It ends with its parent, for whose output nobody must wait. */
static void fork_child(void)
{
    pid_t child = fork();

    if (child != 0) {
        program_note("child", (uint64_t)child);
        return;
    }
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)close(STDOUT_FILENO);
    for (int i = 0; i < 5000; i++)
        serve();
    _exit(0);
}

static void on_line(const char *line)
{
    if (strncmp(line, "load", 4) == 0)
        load_library();
    if (strncmp(line, "odd", 3) == 0)
        odd = true;
    if (strncmp(line, "exec", 4) == 0)
        execl(own_path, own_path, "only=burn_plain", (char *)NULL);
    if (strncmp(line, "fork", 4) == 0)
        fork_child();
}

int main(int argc, char **argv)
{
    own_path = argv[0];
    program_on_line(on_line);
    program_init(argc, argv, tallies, sizeof(tallies) / sizeof(tallies[0]));
    if (program_chooses("burn_inherited")) {
        CPROFD_LABEL(team, "team", "blue");
        start(inherits, NULL);
    }
    if (program_chooses("wait_lock")) {
        start(holds_lock, NULL);
        start(waits_for_lock, NULL);
    }
    program_ready();
    while (program_running()) {
        if (program_chooses("burn_plain"))
            burn_plain();
        serve();
        serve_others();
    }
    return program_end();
}
