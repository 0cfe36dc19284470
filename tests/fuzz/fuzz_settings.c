/* The reader of configuration files: whatever a file holds, it is applied whole or not at all, and what is applied is within bounds. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "config/settings.h"
#include "tests/fuzz/fuzz.h"
#include "util/cleanup.h"

static void check_bounds(const struct settings *s)
{
    FUZZ_CHECK(s->listen.n >= 1 && s->listen.n <= SETTINGS_MAX_LIST && s->hosts.n <= SETTINGS_MAX_LIST);
    FUZZ_CHECK(s->proxy_uids.n <= SETTINGS_MAX_LIST && s->n_grants <= SETTINGS_MAX_LIST);
    FUZZ_CHECK(s->max_hz >= 1 && s->max_hz <= 10000 && s->max_sessions >= 1 && s->max_sessions <= 64);
    FUZZ_CHECK(s->log_level <= 3 && s->workers <= 256);
    FUZZ_CHECK(s->worker_cache_bytes <= s->worker_memory_bytes / 2);
    FUZZ_CHECK(s->worker_timeout_seconds >= 0.1 && s->worker_timeout_seconds <= 3600);
    for (size_t i = 0; i < s->hosts.n; i++)
        FUZZ_CHECK(s->hosts.item[i][0] && strlen(s->hosts.item[i]) <= 253);
}

/* Faults, and nothing but faults, are reported, each as one line that begins with the file's name. */
static void check_report(const char *report, const char *path, int result)
{
    FUZZ_CHECK((result < 0) == (*report != '\0'));
    for (const char *line = report; *line; line = strchr(line, '\n') + 1)
        FUZZ_CHECK(strncmp(line, path, strlen(path)) == 0 && strchr(line, '\n'));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_CLOSE int fd = memfd_create("settings", MFD_CLOEXEC);
    AUTO_FREE char *report = NULL;
    struct settings s, before;
    char path[32];
    size_t len = 0;
    FILE *errors = open_memstream(&report, &len);

    FUZZ_CHECK(fd >= 0 && errors && write(fd, data, size) == (ssize_t)size && settings_init(&s) == 0);
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    memcpy(&before, &s, sizeof(s));
    int r = settings_read(&s, path, errors);
    (void)fclose(errors);
    FUZZ_CHECK(r == 0 || r == -EINVAL || r == -EFBIG);
    FUZZ_CHECK(r == 0 || memcmp(&before, &s, sizeof(s)) == 0);
    check_report(report, path, r);
    check_bounds(&s);
    settings_deinit(&s);
    return 0;
}
