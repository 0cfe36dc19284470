/* What the demo and test programs share. Each program has one subject, burns CPU in functions with telling
 * names, and knows its own truth: the CPU time that each of these functions really got, by the thread's CPU
 * clock. So a test can compare a profile with what happened, instead of with what was meant to happen on an
 * idle machine.
 *
 * Protocol: options are NAME=VALUE arguments. "ready PID" goes out once the program does what it is for.
 * Where standard input is a pipe, each line read from it is answered with the truth so far, one line of
 * JSON, and its end ends the program (none outlives its test); SIGTERM, SIGINT and seconds=N end it too.
 * The last line is the truth, again. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>


/* A clone (main.constprop.0) would have another name in profiles. */
#define NOINLINE __attribute__((noinline, noclone))

/* Stands behind a function's last call, which would replace the function's frame otherwise. */
#define KEEP_FRAME() __asm__ volatile("" ::: "memory")

/* A function's account. cpu_ns is its CPU time; calls is for programs that count instead. */
struct tally {
    const char *name;
    uint64_t cpu_ns;
    uint64_t calls;
};

/* Reads options, starts what answers on standard input. tallies is the truth's table, borrowed until the
 * end. */
void program_init(int argc, char **argv, struct tally *tallies, unsigned n_tallies);
/* The value of NAME=VALUE, or fallback. */
long program_option(const char *name, long fallback);
const char *program_option_text(const char *name, const char *fallback);
/* Whether a part called name is in only=NAME,..., or all are wanted. */
bool program_chooses(const char *name);
/* Called for each line of standard input, in a thread of its own, before the truth is printed; set before
 * program_init. */
void program_on_line(void (*handler)(const char *line));
/* What a program can do, by how the line begins that asks for it. */
struct program_way {
    const char *name;
    void (*run)(void);
};
void program_run_way(const char *line, const struct program_way *ways, unsigned n_ways);
/* Called where the truth is printed, within its object: prints ", \"name\": value". */
void program_on_truth(void (*printer)(void));
void program_ready(void);
/* False once it is time to end. */
bool program_running(void);
/* Prints the truth and flushes; 0, for return from main. */
int program_end(void);
/* A further number in the truth, for what is no function: program_note("mappings", 100000). */
void program_note(const char *name, uint64_t value);

uint64_t program_clock_ns(clockid_t clock);
/* How long this thread could have run, but had no CPU, since it asked last; 0 where the kernel does not tell. */
uint64_t program_run_delay_ns(void);
void program_sleep_until(uint64_t monotonic_ns);
/* Fails loudly: the program can't show its subject here. Exit code 77 tells the test to skip. */
void program_cannot(const char *why) __attribute__((noreturn));

/* Burns ns of this thread's CPU time right here: a macro, so that the time is the function's that it stands
 * in, and not a helper's. The clock is asked every few microseconds, about a hundredth of the time. */
#define BURN(tally, ns) BURN_BY(CLOCK_THREAD_CPUTIME_ID, tally, ns)

/* The same until the clock has advanced by ns; what is tallied is the thread's CPU time in any case. */
#define BURN_BY(clock, tally, ns)                                                                       \
    do {                                                                                                \
        uint64_t burn_end_ = program_clock_ns(clock) + (uint64_t)(ns);                                  \
        uint64_t burn_last_ = program_clock_ns(CLOCK_THREAD_CPUTIME_ID), burn_now_ = burn_last_;        \
        do {                                                                                            \
            for (unsigned burn_i_ = 0; burn_i_ < 20000; burn_i_++)                                      \
                __asm__ volatile("" : "+r"(burn_i_));                                                   \
            burn_now_ = program_clock_ns(CLOCK_THREAD_CPUTIME_ID);                                      \
            __atomic_fetch_add(&(tally)->cpu_ns, burn_now_ - burn_last_, __ATOMIC_RELAXED);             \
            burn_last_ = burn_now_;                                                                     \
        } while (((clock) == CLOCK_THREAD_CPUTIME_ID ? burn_now_ : program_clock_ns(clock)) < burn_end_); \
    } while (0)

#define MS_NS 1000000ull

/* A system call right here: libc's wrappers have no frame pointer, so a walk by frame pointers misses who
 * called them, which is another program's subject. */
static inline __attribute__((always_inline)) long program_syscall(long number, long a, long b, long c)
{
#ifdef __x86_64__
    long result;

    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
#else
    return syscall(number, a, b, c);
#endif
}
