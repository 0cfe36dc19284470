/* Allocates in known places. For each line "N" of standard input each function below does N times what it says; what it has allocated in all, and
 * what of that is live, stands in the truth. before=1: does so 10 times before it says that it is ready. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "program.h"

enum site { KEEP_SMALL, KEEP_CALLOC, FREE_MOST, GROW, SHRINK, FAIL_TO_GROW, GIVE_BACK, FREE_ELSEWHERE, ALIGN, ALIGN_MORE, DUPLICATE,
            FORK_AND_FREE, SITES };

static struct tally tallies[1] = { { .name = "main" } };

static struct account {
    const char *name;
    uint64_t alloc_objects, alloc_bytes, live_objects, live_bytes;
} accounts[SITES] = { [KEEP_SMALL] = { "keep_small" }, [KEEP_CALLOC] = { "keep_calloc" }, [FREE_MOST] = { "free_most" }, [GROW] = { "grow" },
                      [SHRINK] = { "shrink" }, [FAIL_TO_GROW] = { "fail_to_grow" }, [GIVE_BACK] = { "give_back" },
                      [FREE_ELSEWHERE] = { "free_elsewhere" }, [ALIGN] = { "align" }, [ALIGN_MORE] = { "align_more" },
                      [DUPLICATE] = { "duplicate" }, [FORK_AND_FREE] = { "fork_and_free" } };

/* What is live is reachable, so that no compiler leaves it out. */
static void *volatile kept;

static void allocated(enum site site, void *p, size_t bytes)
{
    if (!p)
        program_cannot("allocate");
    kept = p;
    accounts[site].alloc_objects++;
    accounts[site].alloc_bytes += bytes;
    accounts[site].live_objects++;
    accounts[site].live_bytes += bytes;
}

static void freed(enum site site, size_t bytes)
{
    accounts[site].live_objects--;
    accounts[site].live_bytes -= bytes;
}

static NOINLINE void keep_small(void)
{
    allocated(KEEP_SMALL, malloc(100), 100);
}

static NOINLINE void keep_calloc(void)
{
    allocated(KEEP_CALLOC, calloc(10, 50), 500);
}

/* Of ten it keeps the first. */
static NOINLINE void free_most(void)
{
    for (int i = 0; i < 10; i++) {
        void *p = malloc(1000);
        allocated(FREE_MOST, p, 1000);
        if (i == 0)
            continue;
        free(p);
        freed(FREE_MOST, 1000);
    }
}

/* From nothing, by doubling: each step is an allocation and a free of what was there. */
static NOINLINE void grow(void)
{
    void *p = NULL;

    for (size_t bytes = 64, last = 0; bytes <= 65536; last = bytes, bytes *= 2) {
        p = realloc(p, bytes);
        allocated(GROW, p, bytes);
        if (last)
            freed(GROW, last);
    }
}

/* In its place. */
static NOINLINE void shrink(void)
{
    void *p = malloc(3000);

    allocated(SHRINK, p, 3000);
    p = realloc(p, 2900);
    freed(SHRINK, 3000);
    allocated(SHRINK, p, 2900);
}

static NOINLINE void fail_to_grow(void)
{
    void *p = malloc(200);

    allocated(FAIL_TO_GROW, p, 200);
    if (realloc(p, (size_t)1 << 46))
        program_cannot("fail to allocate");
    kept = p;
}

/* realloc to 0 is free in this C library, or gives an object without bytes in others. */
static NOINLINE void give_back(void)
{
    void *p = malloc(300);

    allocated(GIVE_BACK, p, 300);
    p = realloc(p, 0);
    freed(GIVE_BACK, 300);
    if (p)
        allocated(GIVE_BACK, p, 0);
}

static void *free_it(void *p)
{
    free(p);
    return NULL;
}

static void free_in_a_thread(void *p)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, free_it, p) != 0)
        program_cannot("start a thread");
    (void)pthread_join(thread, NULL);
}

/* Two, of which another thread frees one. */
static NOINLINE void free_elsewhere(void)
{
    void *p = malloc(400);

    allocated(FREE_ELSEWHERE, p, 400);
    allocated(FREE_ELSEWHERE, malloc(400), 400);
    free_in_a_thread(p);
    freed(FREE_ELSEWHERE, 400);
}

static NOINLINE void align(void)
{
    void *p;

    if (posix_memalign(&p, 64, 640) != 0)
        program_cannot("allocate");
    allocated(ALIGN, p, 640);
    if (posix_memalign(&p, 3, 640) == 0)
        program_cannot("fail to allocate");
}

/* The least alignment is malloc's own, and may end there. */
static NOINLINE void align_more(void)
{
    allocated(ALIGN_MORE, aligned_alloc(16, 160), 160);
    allocated(ALIGN_MORE, aligned_alloc(4096, 8192), 8192);
}

/* By a function of the C library, which calls malloc. */
static NOINLINE void duplicate(void)
{
    allocated(DUPLICATE, strdup("0123456789abcde"), 16);
}

/* The child frees what is its own copy, and allocates what is not the parent's. */
static NOINLINE void fork_and_free(void)
{
    void *p = malloc(700);

    allocated(FORK_AND_FREE, p, 700);
    pid_t pid = fork();
    if (pid == 0) {
        free(p);
        for (int i = 0; i < 10; i++)
            kept = malloc(700);
        _exit(0);
    }
    (void)waitpid(pid, NULL, 0);
}

static void all(int n)
{
    for (int i = 0; i < n; i++) {
        keep_small();
        keep_calloc();
        free_most();
        grow();
        shrink();
        fail_to_grow();
        give_back();
        free_elsewhere();
        align();
        align_more();
        duplicate();
        if (i % 100 == 0)
            fork_and_free();
    }
}

static void on_line(const char *line)
{
    all(atoi(line));
}

static void on_truth(void)
{
    printf(", \"sites\": {");
    for (int i = 0; i < SITES; i++)
        printf("%s\"%s\": [%llu, %llu, %llu, %llu]", i ? ", " : "", accounts[i].name, (unsigned long long)accounts[i].alloc_objects,
               (unsigned long long)accounts[i].alloc_bytes, (unsigned long long)accounts[i].live_objects, (unsigned long long)accounts[i].live_bytes);
    printf("}");
}

int main(int argc, char **argv)
{
    program_on_line(on_line);
    program_on_truth(on_truth);
    program_init(argc, argv, tallies, 1);
    free_in_a_thread(NULL); /* what the C library allocates for a thread it keeps for the next */
    if (program_option("before", 0))
        all(10);
    program_ready();
    while (program_running())
        program_sleep_until(program_clock_ns(CLOCK_MONOTONIC) + 50 * MS_NS);
    return program_end();
}
