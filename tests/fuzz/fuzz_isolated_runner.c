/* As fuzz_runner.c, for targets whose input goes through a library that promises nothing about malformed
 * input:
 *
 *     fuzz_NAME DIRECTORY [MUTATIONS [TOLERATED]]
 *
 * Inputs run in a child process. Where it dies, the report of the sanitizer (or none, for a plain signal)
 * tells where: a fault inside a library is tolerated if file TOLERATED has the line "LIBRARY FUNCTION",
 * the function being ours that had called into the library; one in our own code never is. The next child
 * goes on behind the input that killed the last. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"
#include "util/cleanup.h"

#define DEFAULT_MUTATIONS 300
#define MAX_FILE_BYTES (1 << 20)
#define REPORT_BYTES (1 << 20)
#define HANG_SECONDS 120
#define MAX_FAULTS 50

struct runner {
    const char *tolerated; /* the text of the file, or NULL */
    unsigned *next;        /* shared with the child: the input it is at */
    unsigned mutations, faults, tolerated_faults, killed;
};

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Changes a few bytes in place, as formats with sizes and offsets are hurt most. */
static void mutate(uint8_t *buf, size_t len, uint64_t random)
{
    static const uint64_t values[] = {
        0, 1, 2, 0x7f, 0x80, 0xff, 0x1000, 0x7fff, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000000,
        INT64_MAX, 1ull << 63, UINT64_MAX,
    };
    for (unsigned changes = 1 + (unsigned)(next_random(&random) % 12); changes > 0 && len > 8; changes--) {
        size_t at = next_random(&random) % (len - 8), width = 1u << (next_random(&random) % 4);
        uint64_t value = values[next_random(&random) % (sizeof(values) / sizeof(*values))];
        size_t from = next_random(&random) % (len - 8);
        switch (next_random(&random) % 4) {
        case 0:
            buf[at] = (uint8_t)next_random(&random);
            break;
        case 1:
            buf[at] ^= (uint8_t)(1u << (next_random(&random) % 8));
            break;
        case 2:
            memcpy(buf + at, &value, width);
            break;
        default:
            memmove(buf + at, buf + from, width);
            break;
        }
    }
}

/* Input 0 is the file itself. */
static void run_inputs(const struct runner *r, const uint8_t *data, size_t len)
{
    AUTO_FREE uint8_t *buf = malloc(len + 1);
    FUZZ_CHECK(buf);
    for (; *r->next <= r->mutations; ++*r->next) {
        size_t now = len;
        memcpy(buf, data, len);
        if (*r->next > 0) {
            uint64_t random = 0x9e3779b97f4a7c15ull * (*r->next + 1);
            mutate(buf, len, random);
            if (*r->next % 16 == 0)
                now = next_random(&random) % (len + 1);
        }
        (void)alarm(HANG_SECONDS);
        (void)LLVMFuzzerTestOneInput(buf, now);
    }
}

/* Runs a child from *r->next on; its stderr into report. Returns its wait status. */
static int run_child(const struct runner *r, const uint8_t *data, size_t len, char *report)
{
    int pipe_fds[2], status = 0;
    size_t got = 0;
    ssize_t n;
    FUZZ_CHECK(pipe2(pipe_fds, O_CLOEXEC) == 0);
    pid_t child = fork();
    FUZZ_CHECK(child >= 0);
    if (child == 0) {
        FUZZ_CHECK(dup2(pipe_fds[1], STDERR_FILENO) >= 0);
        run_inputs(r, data, len);
        exit(0); /* not _exit: leaks are looked for here */
    }
    (void)close(pipe_fds[1]);
    while ((n = read(pipe_fds[0], report + got, REPORT_BYTES - 1 - got)) > 0 || (n < 0 && errno == EINTR))
        got += n > 0 ? (size_t)n : 0;
    report[got] = '\0';
    (void)close(pipe_fds[0]);
    FUZZ_CHECK(waitpid(child, &status, 0) == child);
    return status;
}

/* True where the line of a stack has a word. */
static bool line_has(const char *line, const char *word)
{
    return memmem(line, strcspn(line, "\n"), word, strlen(word)) != NULL;
}

/* "LIBRARY FUNCTION" of a report: the library of its first frame, and the first function of ours. False:
 * the fault is ours. */
static bool fault_place(const char *report, char *ret, size_t room)
{
    const char *library = NULL, *line = strstr(report, "    #0 ");
    char function[128] = "";
    for (; line && (line = strstr(line, "    #")); line++) {
        const char *here = line_has(line, "libdw") ? "libdw" : line_has(line, "libelf") ? "libelf" : NULL;
        library = library ? library : here;
        if (here || line_has(line, "sanitizer") || line_has(line, "libasan") || line_has(line, "libc.so")
            || line_has(line, "interceptor"))
            continue;
        if (sscanf(line, " #%*d %*s in %127s", function) != 1)
            return false;
        break;
    }
    if (!library || !function[0])
        return false;
    (void)snprintf(ret, room, "%s %s", library, function);
    return true;
}

static bool is_tolerated(const struct runner *r, const char *place)
{
    const char *found = r->tolerated ? strstr(r->tolerated, place) : NULL;
    return found && (found == r->tolerated || found[-1] == '\n') && found[strlen(place)] == '\n';
}

static void judge(struct runner *r, const char *name, int status, const char *report)
{
    char place[256] = "";
    bool in_library = fault_place(report, place, sizeof(place));
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
        r->killed++; /* memory, most likely: as the worker's limit would do */
        return;
    }
    if (in_library && is_tolerated(r, place)) {
        r->tolerated_faults++;
        return;
    }
    r->faults++;
    fprintf(stderr, "failed: input %u of %s, %s, status %x\n%.6000s\n", *r->next, name,
            in_library ? place : "in our own code", status, report);
}

static int run_file(struct runner *r, const char *directory, const char *name)
{
    char path[4096];
    (void)snprintf(path, sizeof(path), "%s/%s", directory, name);
    AUTO_FCLOSE FILE *f = fopen(path, "re");
    AUTO_FREE uint8_t *data = malloc(MAX_FILE_BYTES);
    AUTO_FREE char *report = malloc(REPORT_BYTES);
    if (!f || !data || !report)
        return -1;
    size_t len = fread(data, 1, MAX_FILE_BYTES, f);
    for (*r->next = 0; *r->next <= r->mutations && r->faults < MAX_FAULTS; ++*r->next) {
        int status = run_child(r, data, len, report);
        /* The undefined behaviour sanitizer may let a child go on. */
        if (status != 0 || strstr(report, "runtime error:"))
            judge(r, name, status, report);
        if (status == 0)
            break;
    }
    return 0;
}

static char *read_text(const char *path)
{
    AUTO_FCLOSE FILE *f = fopen(path, "re");
    char *text = calloc(1, 65536);
    if (!f || !text || fread(text, 1, 65535, f) == 0)
        return NULL;
    return text;
}

int main(int argc, char **argv)
{
    struct runner r = {.mutations = argc > 2 ? (unsigned)atoi(argv[2]) : DEFAULT_MUTATIONS};
    unsigned files = 0;
    DIR *dir = argc > 1 ? opendir(argv[1]) : NULL;
    AUTO_FREE char *tolerated = argc > 3 ? read_text(argv[3]) : NULL;
    if (!dir) {
        fprintf(stderr, "usage: %s DIRECTORY [MUTATIONS [TOLERATED]]\n", argv[0]);
        return EXIT_FAILURE;
    }
    r.tolerated = tolerated;
    r.next = mmap(NULL, sizeof(*r.next), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    FUZZ_CHECK(r.next != MAP_FAILED);
    for (struct dirent *e; (e = readdir(dir));) {
        if (e->d_name[0] == '.')
            continue;
        if (run_file(&r, argv[1], e->d_name) < 0) {
            perror(e->d_name);
            return EXIT_FAILURE;
        }
        files++;
    }
    closedir(dir);
    printf("%u files, %u mutations of each: %u faults, %u tolerated in libraries, %u killed\n", files,
           r.mutations, r.faults, r.tolerated_faults, r.killed);
    return files && r.faults == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
