/* Starts a debuginfod client. Owns nothing. */
#include "daemon/debuginfod_process.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "util/cleanup.h"

#define PROCESS_SOCK 3

/* What libcurl reads. Nothing else of the environment may decide whom the client asks. */
static const char *const proxies[] = {"http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"};
#define N_PROXIES (sizeof(proxies) / sizeof(proxies[0]))

struct process_image {
    const char *executable;
    char *argv[8], *envp[N_PROXIES + 2];
};

static int process_execute(int sock, void *arg)
{
    const struct process_image *image = arg;

    if (sock == PROCESS_SOCK ? fcntl(sock, F_SETFD, 0) < 0 : dup2(sock, PROCESS_SOCK) < 0)
        return EXIT_FAILURE;
    (void)execve(image->executable, image->argv, image->envp);
    return EXIT_FAILURE;
}

static int process_environment(struct process_image *image, const char *urls)
{
    size_t n = 0;

    if (asprintf(&image->envp[n], "DEBUGINFOD_URLS=%s", urls) < 0)
        image->envp[n] = NULL;
    for (size_t i = 0; i < N_PROXIES && image->envp[n]; i++) {
        const char *value = getenv(proxies[i]);
        if (value && asprintf(&image->envp[++n], "%s=%s", proxies[i], value) < 0)
            image->envp[n] = NULL;
    }
    return image->envp[n] ? 0 : -ENOMEM;
}

static void process_image_deinit(struct process_image *image)
{
    for (size_t i = 0; i <= N_PROXIES; i++)
        free(image->envp[i]);
}

int debuginfod_process_start(struct event_base *base, const struct debuginfod_command *command, uint64_t deadline_ns,
                             const struct child_ops *ops, void *userdata, struct child **ret)
{
    char number[4][32];
    const uint64_t value[] = {(uint64_t)getpid(), command->timeout_seconds, command->file_bytes, command->cache_bytes};
    CLEANUP(process_image_deinit) struct process_image image = {
        .executable = command->executable ? command->executable : "/proc/self/exe",
        .argv = {"cprofd", "--role=debuginfod", number[0], number[1], number[2], number[3], (char *)command->cache},
    };

    for (size_t i = 0; i < sizeof(value) / sizeof(value[0]); i++)
        (void)snprintf(number[i], sizeof(number[i]), "%llu", (unsigned long long)value[i]);
    int r = process_environment(&image, command->urls);
    return r < 0 ? r : child_spawn(base, process_execute, &image, NULL, 0, deadline_ns, ops, userdata, ret);
}
