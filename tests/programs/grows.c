/* Memory that grows in known places: for each line of standard input, named as a way below, so much. The truth counts pages: of what is touched
 * for the first time, as far as it is this process's own memory and has no file. What is mapped and not touched, what a child touches, what is copied
 * because a child had it too, what has a file and what is shared is not counted, nor shown as grown. */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "program.h"

#define PAGES 300
#define HUGE_BYTES (2ul << 20)
#define PARALLEL 2
#define PARALLEL_PAGES 4000

enum { TOUCHES_MAPPED, TOUCHES_HEAP, TOUCHES_BREAK, TOUCHES_HUGE, TOUCHES_STACK, TOUCHES_BY_READ, POPULATES, TOUCHES_IN_PARALLEL, ANON, N_TALLIES };
static struct tally tallies[N_TALLIES] = {
    [TOUCHES_MAPPED] = { .name = "touches_mapped" }, [TOUCHES_HEAP] = { .name = "touches_heap" }, [TOUCHES_BREAK] = { .name = "touches_break" },
    [TOUCHES_HUGE] = { .name = "touches_huge" }, [TOUCHES_STACK] = { .name = "touches_stack" }, [TOUCHES_BY_READ] = { .name = "touches_by_read" },
    [POPULATES] = { .name = "populates" }, [TOUCHES_IN_PARALLEL] = { .name = "touches_in_parallel" },
    [ANON] = { .name = "[RssAnon]" },
};
static long page;
static char *kept; /* what touches_mapped mapped last */

static void tell(int which, long pages)
{
    __atomic_fetch_add(&tallies[which].calls, (uint64_t)pages, __ATOMIC_RELAXED);
}

static char *map(size_t bytes, int flags)
{
    char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    if (p == MAP_FAILED)
        program_cannot("map memory");
    (void)madvise(p, bytes, MADV_NOHUGEPAGE);
    return p;
}

/* What the kernel counts now, by a way that touches no memory anew. */
static long anon_pages(void)
{
    static char text[8192];
    int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    ssize_t n = read(fd, text, sizeof(text) - 1);
    const char *line = n > 0 ? strstr(text, "\nRssAnon:") : NULL;
    (void)close(fd);
    return line ? atol(line + 9) * 1024 / page : 0;
}

#define TOUCH(p, pages)                                   \
    do {                                                  \
        for (long touch_i_ = 0; touch_i_ < (pages); touch_i_++) \
            ((volatile char *)(p))[touch_i_ * page] = 1;        \
    } while (0)

static NOINLINE void touches_mapped(void)
{
    kept = map(PAGES * (size_t)page, 0);
    TOUCH(kept, PAGES);
    tell(TOUCHES_MAPPED, PAGES);
}

/* Blocks below malloc's threshold for mappings, in fresh memory. */
static NOINLINE void touches_heap(void)
{
    for (int i = 0; i < 40; i++) {
        char *p = malloc(64 * 1024);
        if (!p)
            program_cannot("allocate");
        memset(p, 1, 64 * 1024);
    }
    tell(TOUCHES_HEAP, 40 * 64 * 1024 / page);
}

static NOINLINE void touches_break(void)
{
    char *p = sbrk(PAGES * page);
    if (p == (void *)-1)
        program_cannot("move the break");
    p += -(unsigned long)p & (unsigned long)(page - 1);
    TOUCH(p, PAGES - 1);
    tell(TOUCHES_BREAK, PAGES - 1);
}

static NOINLINE void touches_huge(void)
{
    char *p = mmap(NULL, 2 * HUGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    p += -(unsigned long)p & (HUGE_BYTES - 1);
    (void)madvise(p, HUGE_BYTES, MADV_HUGEPAGE);
    long before = anon_pages();
    *(volatile char *)p = 1;
    tell(TOUCHES_HUGE, anon_pages() - before);
}

static NOINLINE void *touches_stack(void *unused)
{
    char room[PAGES * 4096];
    for (long i = (long)sizeof(room) - 4096; i >= 0; i -= 4096)
        ((volatile char *)room)[i] = 1;
    tell(TOUCHES_STACK, (long)sizeof(room) / page);
    return unused;
}

static void on_new_stack(void)
{
    pthread_t thread;
    pthread_attr_t attr;
    (void)pthread_attr_init(&attr);
    (void)pthread_attr_setstack(&attr, map(4ul << 20, 0), 4ul << 20);
    if (pthread_create(&thread, &attr, touches_stack, NULL) != 0)
        program_cannot("start a thread");
    (void)pthread_join(thread, NULL);
}

static NOINLINE void touches_by_read(void)
{
    int fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    char *p = map(PAGES * (size_t)page, 0);
    if (read(fd, p, PAGES * (size_t)page) != PAGES * page)
        program_cannot("read zeros");
    (void)close(fd);
    tell(TOUCHES_BY_READ, PAGES);
}

static NOINLINE void populates(void)
{
    if (mmap(NULL, PAGES * (size_t)page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0) == MAP_FAILED)
        program_cannot("map memory");
    tell(POPULATES, PAGES);
}

static NOINLINE void *touches_in_parallel(void *p)
{
    TOUCH(p, PARALLEL_PAGES);
    tell(TOUCHES_IN_PARALLEL, PARALLEL_PAGES);
    return p;
}

static void parallel(void)
{
    pthread_t threads[PARALLEL];
    for (int i = 0; i < PARALLEL; i++)
        if (pthread_create(&threads[i], NULL, touches_in_parallel, map(PARALLEL_PAGES * (size_t)page, 0)) != 0)
            program_cannot("start a thread");
    for (int i = 0; i < PARALLEL; i++)
        (void)pthread_join(threads[i], NULL);
}

static NOINLINE void does_not_touch(void)
{
    (void)map(64ul << 20, 0);
}

/* Looks at pages, which are all the one of zeros. */
static NOINLINE void reads_only(void)
{
    const volatile char *p = map(PAGES * (size_t)page, 0);
    for (long i = 0; i < PAGES; i++)
        (void)p[i * page];
}

static NOINLINE void touches_shared(void)
{
    char *p = mmap(NULL, PAGES * (size_t)page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    TOUCH(p, PAGES);
}

/* A child touches memory of its own; while it lives, its parent writes to what they share. */
static NOINLINE void copies_and_has_children(void)
{
    int ends[2];
    char byte;
    if (!kept)
        return;
    if (pipe(ends) < 0)
        program_cannot("make a pipe");
    pid_t pid = fork();
    if (pid == 0) {
        (void)close(ends[1]);
        TOUCH(map(PAGES * (size_t)page, 0), PAGES);
        (void)!read(ends[0], &byte, 1);
        _exit(0);
    }
    TOUCH(kept, PAGES);
    (void)close(ends[1]);
    (void)close(ends[0]);
    (void)waitpid(pid, NULL, 0);
}

static NOINLINE void gives_back(void)
{
    if (kept)
        (void)munmap(kept, PAGES * (size_t)page);
    kept = NULL;
}

static void all(void)
{
    touches_mapped();
    touches_heap();
    touches_break();
    on_new_stack();
    touches_by_read();
    populates();
    parallel();
    does_not_touch();
    reads_only();
    touches_shared();
    copies_and_has_children();
}

static void on_line(const char *line)
{
    static const struct program_way ways[] = {{"all", all}, {"huge", touches_huge}, {"free", gives_back}, {"mapped", touches_mapped},
                                              {"parallel", parallel}};
    program_run_way(line, ways, sizeof(ways) / sizeof(ways[0]));
    tallies[ANON].calls = (uint64_t)anon_pages();
}

int main(int argc, char **argv)
{
    page = sysconf(_SC_PAGESIZE);
    program_on_line(on_line);
    program_init(argc, argv, tallies, N_TALLIES);
    program_ready();
    while (program_running())
        program_sleep_until(program_clock_ns(CLOCK_MONOTONIC) + 50 * MS_NS);
    return program_end();
}
