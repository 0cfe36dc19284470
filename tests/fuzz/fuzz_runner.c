/* Runs a fuzz target on each file of a corpus, and on mutations of each, the same ones in every run:
 *
 *     fuzz_NAME DIRECTORY [MUTATIONS]
 *
 * Fails where the target crashes or a sanitizer speaks up; what it ran last is in the message then. */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"
#include "util/cleanup.h"

#define DEFAULT_MUTATIONS 2000
#define MAX_FILE_BYTES (1 << 20)

static char doing[512];

static void say_what_failed(int sig)
{
    (void)!write(STDERR_FILENO, doing, strlen(doing));
    (void)signal(sig, SIG_DFL);
    (void)raise(sig);
}

/* xorshift64: the same numbers everywhere. */
static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* One change in place; returns the new length. buf has room for 64 bytes more. */
static size_t mutate_once(uint8_t *buf, size_t len, uint64_t *random)
{
    static const char *const words[] = {"0", "-1", "18446744073709551615", "4294967296", "ffffffffffffffff", " ", "\n", ")", ":", "\t", "\\012"};
    size_t at = len ? next_random(random) % len : 0, n = len ? next_random(random) % (len - at) % 64 : 0;
    const char *word = words[next_random(random) % (sizeof(words) / sizeof(words[0]))];

    switch (next_random(random) % 5) {
    case 0: /* another byte */
        if (len)
            buf[at] = (uint8_t)next_random(random);
        return len;
    case 1: /* without a piece */
        memmove(buf + at, buf + at + n, len - at - n);
        return len - n;
    case 2: /* a piece twice */
        memmove(buf + at + n, buf + at, len - at);
        return len + n;
    case 3: /* a word that parsers stumble over */
        memmove(buf + at + strlen(word), buf + at, len - at);
        memcpy(buf + at, word, strlen(word));
        return len + strlen(word);
    default: /* cut off */
        return at;
    }
}

static void run_mutations(const uint8_t *data, size_t len, unsigned n, const char *name)
{
    uint64_t random = 0x9e3779b97f4a7c15;
    AUTO_FREE uint8_t *buf = malloc(len + 1024);

    FUZZ_CHECK(buf);
    for (unsigned i = 0; i < n; i++) {
        size_t now = len;
        memcpy(buf, data, len);
        (void)snprintf(doing, sizeof(doing), "failed: mutation %u of %s\n", i, name);
        for (unsigned changes = 1 + next_random(&random) % 8; changes > 0; changes--)
            now = mutate_once(buf, now, &random);
        (void)LLVMFuzzerTestOneInput(buf, now);
    }
}

static int run_file(const char *directory, const char *name, unsigned mutations)
{
    char path[4096];
    (void)snprintf(path, sizeof(path), "%s/%s", directory, name);
    AUTO_FCLOSE FILE *f = fopen(path, "re");
    AUTO_FREE uint8_t *data = malloc(MAX_FILE_BYTES);
    if (!f || !data)
        return -1;
    size_t len = fread(data, 1, MAX_FILE_BYTES, f);
    (void)snprintf(doing, sizeof(doing), "failed: %s\n", name);
    (void)LLVMFuzzerTestOneInput(data, len);
    run_mutations(data, len, mutations, name);
    return 0;
}

int main(int argc, char **argv)
{
    unsigned mutations = argc > 2 ? (unsigned)atoi(argv[2]) : DEFAULT_MUTATIONS, files = 0;
    DIR *dir = argc > 1 ? opendir(argv[1]) : NULL;

    if (!dir) {
        fprintf(stderr, "usage: %s DIRECTORY [MUTATIONS]\n", argv[0]);
        return EXIT_FAILURE;
    }
    (void)signal(SIGABRT, say_what_failed);
    for (struct dirent *e; (e = readdir(dir));) {
        if (e->d_name[0] == '.')
            continue;
        if (run_file(argv[1], e->d_name, mutations) < 0) {
            perror(e->d_name);
            return EXIT_FAILURE;
        }
        files++;
    }
    closedir(dir);
    printf("%u files, %u mutations of each\n", files, mutations);
    return files ? EXIT_SUCCESS : EXIT_FAILURE;
}
