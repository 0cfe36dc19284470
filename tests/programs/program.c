/* Options, the truth as JSON, and the end of a test program: see program.h. The truth is printed by
 * whichever thread asks, under a lock, so that lines never mix. */
#include "program.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_NOTES 8

static int option_argc;
static char **option_argv;
static struct tally *truth;
static unsigned n_truth;
static struct tally notes[MAX_NOTES];
static unsigned n_notes;
static pthread_mutex_t print_lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t end_ns = UINT64_MAX;
static volatile sig_atomic_t stopped;
static void (*line_handler)(const char *line);
static void (*truth_printer)(void);

uint64_t program_clock_ns(clockid_t clock)
{
    struct timespec ts = {};

    clock_gettime(clock, &ts);
    return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

uint64_t program_run_delay_ns(void)
{
    static __thread unsigned long long last_ns;
    unsigned long long ran_ns = 0, delay_ns = last_ns;
    FILE *f = fopen("/proc/thread-self/schedstat", "re");

    if (!f)
        return 0;
    if (fscanf(f, "%llu %llu", &ran_ns, &delay_ns) != 2)
        delay_ns = last_ns;
    fclose(f);
    ran_ns = delay_ns - last_ns;
    last_ns = delay_ns;
    return ran_ns;
}

void program_sleep_until(uint64_t monotonic_ns)
{
    struct timespec ts = {
        .tv_sec = (time_t)(monotonic_ns / 1000000000ull),
        .tv_nsec = (long)(monotonic_ns % 1000000000ull),
    };

    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

const char *program_option_text(const char *name, const char *fallback)
{
    size_t len = strlen(name);

    for (int i = 1; i < option_argc; i++)
        if (strncmp(option_argv[i], name, len) == 0 && option_argv[i][len] == '=')
            return option_argv[i] + len + 1;
    return fallback;
}

long program_option(const char *name, long fallback)
{
    const char *text = program_option_text(name, NULL);

    return text ? strtol(text, NULL, 0) : fallback;
}

bool program_chooses(const char *name)
{
    const char *only = program_option_text("only", NULL), *at = only ? strstr(only, name) : name;
    size_t len = strlen(name);

    return at && (!only || at[len] == '\0' || at[len] == ',');
}

static void print_truth(void)
{
    pthread_mutex_lock(&print_lock);
    printf("{\"pid\": %d, \"monotonic_ns\": %llu, \"process_cpu_ns\": %llu", (int)getpid(),
           (unsigned long long)program_clock_ns(CLOCK_MONOTONIC),
           (unsigned long long)program_clock_ns(CLOCK_PROCESS_CPUTIME_ID));
    for (unsigned i = 0; i < n_notes; i++)
        printf(", \"%s\": %llu", notes[i].name, (unsigned long long)notes[i].calls);
    if (truth_printer)
        truth_printer();
    printf(", \"functions\": {");
    for (unsigned i = 0; i < n_truth; i++)
        printf("%s\"%s\": {\"cpu_ns\": %llu, \"calls\": %llu}", i ? ", " : "", truth[i].name,
               (unsigned long long)__atomic_load_n(&truth[i].cpu_ns, __ATOMIC_RELAXED),
               (unsigned long long)__atomic_load_n(&truth[i].calls, __ATOMIC_RELAXED));
    printf("}}\n");
    fflush(stdout);
    pthread_mutex_unlock(&print_lock);
}

static void *answer(void *unused)
{
    char line[64];

    (void)unused;
    while (fgets(line, sizeof(line), stdin)) {
        if (line_handler)
            line_handler(line);
        print_truth();
    }
    kill(getpid(), SIGTERM);
    return NULL;
}

static void on_stop(int signal)
{
    (void)signal;
    stopped = 1;
}

/* The reader of standard input must not eat the signal that ends a sleep of the main thread, so it blocks
 * them all. */
static void start_answering(void)
{
    struct stat st;
    sigset_t all, old;
    pthread_t thread;

    if (fstat(STDIN_FILENO, &st) < 0 || !S_ISFIFO(st.st_mode))
        return;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    if (pthread_create(&thread, NULL, answer, NULL) != 0)
        program_cannot("no thread for standard input");
    pthread_detach(thread);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void program_on_line(void (*handler)(const char *line))
{
    line_handler = handler;
}

void program_run_way(const char *line, const struct program_way *ways, unsigned n_ways)
{
    for (unsigned i = 0; i < n_ways; i++)
        if (strncmp(line, ways[i].name, strlen(ways[i].name)) == 0)
            ways[i].run();
}

void program_on_truth(void (*printer)(void))
{
    truth_printer = printer;
}

void program_init(int argc, char **argv, struct tally *tallies, unsigned n_tallies)
{
    struct sigaction stop = { .sa_handler = on_stop };
    sigset_t none;
    long seconds;

    option_argc = argc;
    option_argv = argv;
    truth = tallies;
    n_truth = n_tallies;
    seconds = program_option("seconds", 0);
    if (seconds > 0)
        end_ns = program_clock_ns(CLOCK_MONOTONIC) + (uint64_t)seconds * 1000000000ull;
    sigaction(SIGTERM, &stop, NULL);
    sigaction(SIGINT, &stop, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL); /* the thread that answers may have exec'ed this */
    start_answering();
}

void program_ready(void)
{
    pthread_mutex_lock(&print_lock);
    printf("ready %d\n", (int)getpid());
    fflush(stdout);
    pthread_mutex_unlock(&print_lock);
}

bool program_running(void)
{
    return !stopped && program_clock_ns(CLOCK_MONOTONIC) < end_ns;
}

int program_end(void)
{
    print_truth();
    return 0;
}

void program_note(const char *name, uint64_t value)
{
    pthread_mutex_lock(&print_lock);
    for (unsigned i = 0; i <= n_notes && i < MAX_NOTES; i++) {
        if (i < n_notes && strcmp(notes[i].name, name) != 0)
            continue;
        notes[i].name = name;
        notes[i].calls = value;
        n_notes += i == n_notes;
        break;
    }
    pthread_mutex_unlock(&print_lock);
}

void program_cannot(const char *why)
{
    printf("cannot %s: %s\n", why, strerror(errno));
    fflush(stdout);
    _exit(77);
}
