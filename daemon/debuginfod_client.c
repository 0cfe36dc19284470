/* The debuginfod client: asks libdebuginfod for one file at a time, looks whether it is what was wanted, and hands it over. Owns the
 * library's handle and the cache's folder.
 *
 * The library is loaded here and nowhere else: it brings a TLS library along, and may be missing. It takes its settings from the
 * environment, which the loop made for it. It can't tell a server's "no such file" from most failures, and remembers both for ten minutes;
 * what it writes for people can, so that is looked at, and what was no answer is forgotten. */
#include "daemon/debuginfod_client.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "daemon/debuginfod_cache.h"
#include "daemon/debuginfod_proto.h"
#include "util/cleanup.h"
#include "util/fdmsg.h"

#define CLIENT_SOCK 3

#ifdef CPROFD_HAVE_DEBUGINFOD
#include <dlfcn.h>
#include <elfutils/debuginfod.h>
#include <sys/mman.h>

#include "daemon/sandbox.h"
#include "daemon/sandbox_impl.h"
#include "symbolize/elf_file.h"
#include "util/clock.h"

#define CLIENT_LIBRARY "libdebuginfod.so.1"
#define CLIENT_MAX_TOLD 16384                /* of what the library writes for people, looked at */
#define CLIENT_FILE_SLACK_BYTES (16ull << 20) /* the library is asked to stop before the kernel makes it */
#define CLIENT_MEMORY_BYTES (1ull << 30)     /* beside the file, which is mapped to look at its build id */

struct client {
    debuginfod_client *handle;
    __typeof__(debuginfod_begin) *begin;
    __typeof__(debuginfod_find_debuginfo) *find;
    __typeof__(debuginfod_set_progressfn) *set_progress;
    __typeof__(debuginfod_set_verbose_fd) *set_verbose;
    const char *cache;
    uint64_t parent, timeout_seconds, file_bytes, cache_bytes;
    size_t n_servers;
    const char *url[DEBUGINFOD_MAX_SERVERS];
    char folder[DEBUGINFOD_MAX_SERVERS][PATH_MAX];
    int told_fd; /* a memfd */
};

/* Why the download under way was stopped; the library's callback has no other way to it. */
static struct {
    uint64_t deadline_ns, file_bytes;
    int error;
} watch;

/* a: bytes, once there are any. */
static int client_on_progress(debuginfod_client *handle, long a, long b)
{
    if (a > 0 && (uint64_t)a > watch.file_bytes)
        watch.error = -EFBIG;
    else if (monotonic_ns() > watch.deadline_ns)
        watch.error = -ETIMEDOUT;
    return watch.error;
}

/* ---- a question */

/* Did the server say that there is no such file? ret_text: how the library puts what happened, where it does. */
static bool client_was_refused(const struct client *c, char *ret_text, size_t len)
{
    static const char words[] = "server response ";
    char told[CLIENT_MAX_TOLD + 1] = "";
    ssize_t n = pread(c->told_fd, told, CLIENT_MAX_TOLD, 0);

    told[n > 0 ? n : 0] = '\0';
    const char *response = strstr(told, words);
    if (!response || strstr(response, "returned error: 404"))
        return true;
    response += sizeof(words) - 1;
    (void)snprintf(ret_text, len, "%.*s", (int)strcspn(response, "\n"), response);
    return false;
}

/* Is it an ELF file with that build id? */
static bool client_is_wanted(int fd, const char *build_id)
{
    CLEANUP(elf_file_close) struct elf_file file = {0};
    char id[BUILD_ID_HEX_ROOM];

    if (elf_file_open(fd, &file) < 0)
        return false;
    elf_file_build_id(&file, id);
    return strcmp(id, build_id) == 0;
}

static int client_fetch(struct client *c, const struct debuginfod_message *m)
{
    watch.deadline_ns = monotonic_ns() + c->timeout_seconds * NSEC_PER_SEC;
    watch.file_bytes = c->file_bytes;
    watch.error = 0;
    if (ftruncate(c->told_fd, 0) < 0 || lseek(c->told_fd, 0, SEEK_SET) < 0 || setenv(DEBUGINFOD_URLS_ENV_VAR, c->url[m->server], 1) < 0 ||
        setenv(DEBUGINFOD_CACHE_PATH_ENV_VAR, c->folder[m->server], 1) < 0)
        return -ENOMEM;
    return c->find(c->handle, (const unsigned char *)m->build_id, 0, NULL);
}

/* fd, or what the answer's error is. The library's own descriptor can be written to. */
static int client_download(struct client *c, const struct debuginfod_message *m, char *ret_text, size_t len)
{
    const char *folder = c->folder[m->server];
    AUTO_CLOSE int own = client_fetch(c, m);

    if (own >= 0) {
        AUTO_CLOSE int fd = debuginfod_cache_find(folder, m->build_id);
        (void)debuginfod_cache_trim(c->cache, c->cache_bytes);
        if (fd >= 0 && client_is_wanted(fd, m->build_id))
            return TAKE_FD(fd);
        debuginfod_cache_forget(folder, m->build_id);
        (void)snprintf(ret_text, len, "it sent something else than the debug file of %s", m->build_id);
        return -EBADMSG;
    }
    if (watch.error == -EFBIG) /* that there is none is remembered: else it would be fetched again and again */
        return -EFBIG;
    bool was_refused = client_was_refused(c, ret_text, len);
    if (watch.error == 0 && own == -ENOENT && was_refused)
        return -ENOENT;
    if (own == -EFBIG)
        return -EFBIG;
    debuginfod_cache_forget(folder, m->build_id);
    if (!ret_text[0])
        (void)snprintf(ret_text, len, "%s", strerror(watch.error ? -watch.error : -own));
    return own == -ENOENT ? watch.error ? watch.error : -EIO : own;
}

static int client_lookup(const struct client *c, const struct debuginfod_message *m, struct debuginfod_message *answer)
{
    for (uint32_t i = 0; i < c->n_servers; i++) {
        int fd = debuginfod_cache_find(c->folder[i], m->build_id);
        answer->server = i;
        if (fd >= 0)
            return fd;
        if (fd == -ENOENT)
            answer->absent |= 1u << i;
    }
    return -ENOENT;
}

static int client_serve(struct client *c)
{
    struct debuginfod_message m;

    for (;;) {
        ssize_t n = fdmsg_recv(CLIENT_SOCK, &m, sizeof(m), NULL, NULL);
        if (n == 0)
            return EXIT_SUCCESS;
        if (n != sizeof(m) || m.server >= c->n_servers || !memchr(m.build_id, '\0', sizeof(m.build_id)))
            return EXIT_FAILURE;
        struct debuginfod_message answer = {.type = DEBUGINFOD_ANSWER, .server = m.server};
        strcpy(answer.build_id, m.build_id);
        AUTO_CLOSE int fd = m.type == DEBUGINFOD_LOOKUP ? client_lookup(c, &m, &answer)
                                                        : client_download(c, &m, answer.text, sizeof(answer.text));
        answer.error = fd < 0 ? fd : 0;
        if (fdmsg_send(CLIENT_SOCK, &answer, sizeof(answer), &fd, fd >= 0 ? 1 : 0) < 0)
            return EXIT_FAILURE;
    }
}

/* ---- the beginning */

static int client_load(struct client *c, char *text, size_t len)
{
    void *library = dlopen(CLIENT_LIBRARY, RTLD_NOW | RTLD_LOCAL);

    if (!library) {
        (void)snprintf(text, len, "the library can't be loaded (libdebuginfod1 is the package): %s", dlerror());
        return -ELIBACC;
    }
    c->begin = (__typeof__(c->begin))dlsym(library, "debuginfod_begin");
    c->find = (__typeof__(c->find))dlsym(library, "debuginfod_find_debuginfo");
    c->set_progress = (__typeof__(c->set_progress))dlsym(library, "debuginfod_set_progressfn");
    c->set_verbose = (__typeof__(c->set_verbose))dlsym(library, "debuginfod_set_verbose_fd");
    c->handle = c->begin && c->find && c->set_progress && c->set_verbose ? c->begin() : NULL;
    if (!c->handle) {
        (void)snprintf(text, len, "%s is too old, or can't begin", CLIENT_LIBRARY);
        return -ELIBACC;
    }
    c->told_fd = memfd_create("cprofd-debuginfod", MFD_CLOEXEC);
    if (c->told_fd < 0)
        return -errno;
    c->set_verbose(c->handle, c->told_fd);
    c->set_progress(c->handle, client_on_progress);
    return 0;
}

static int client_set_number(const char *name, uint64_t value)
{
    char text[32];

    (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    return setenv(name, text, 1) < 0 ? -errno : 0;
}

/* urls is cut into pieces. */
static int client_set_up(struct client *c, char *urls, char *text, size_t len)
{
    int r = debuginfod_cache_open(c->cache, text, len);

    for (char *url = strtok(urls, " "); r == 0 && url && c->n_servers < DEBUGINFOD_MAX_SERVERS; url = strtok(NULL, " ")) {
        c->url[c->n_servers] = url;
        r = debuginfod_cache_server(c->cache, url, c->folder[c->n_servers++]);
    }
    r = r ? r : client_set_number(DEBUGINFOD_TIMEOUT_ENV_VAR, c->timeout_seconds);
    r = r ? r : client_set_number(DEBUGINFOD_MAXTIME_ENV_VAR, c->timeout_seconds);
    r = r ? r : client_set_number(DEBUGINFOD_MAXSIZE_ENV_VAR, c->file_bytes);
    r = r ? r : client_set_number(DEBUGINFOD_RETRY_LIMIT_ENV_VAR, 0); /* the loop knows when to ask again */
    return r ? r : client_load(c, text, len);
}

/* In this order: a folder may have to be made by root, and a library loaded before no memory can be made executable any more. */
static int client_begin(struct client *c, char *urls, char *text, size_t len)
{
    bool confined = false;
    int r = sandbox_close_fds(CLIENT_SOCK);

    r = r ? r : client_set_up(c, urls, text, len);
    if (r < 0)
        return r;
    struct sandbox_network sandbox = {
        .parent = (pid_t)c->parent, .memory_bytes = CLIENT_MEMORY_BYTES + c->file_bytes,
        .file_bytes = c->file_bytes + CLIENT_FILE_SLACK_BYTES, .folder = c->cache,
    };
    r = sandbox_enter_network(&sandbox, &confined);
    if (r < 0)
        (void)snprintf(text, len, "the sandbox can't be entered: %s", strerror(-r));
    else if (!confined)
        (void)snprintf(text, len, "this kernel, or the service manager's filter, has no Landlock: what speaks with the servers may read and "
                       "write what its user may");
    else
        (void)debuginfod_cache_trim(c->cache, c->cache_bytes); /* what killed downloads left */
    return r;
}

static bool client_arguments(struct client *c, int argc, char **argv)
{
    uint64_t *const numbers[] = {&c->parent, &c->timeout_seconds, &c->file_bytes, &c->cache_bytes};
    const size_t n = sizeof(numbers) / sizeof(numbers[0]);

    if (argc != (int)n + 3)
        return false;
    for (size_t i = 0; i < n; i++) {
        char *end;
        *numbers[i] = strtoull(argv[i + 2], &end, 10);
        if (*end != '\0' || end == argv[i + 2])
            return false;
    }
    c->cache = argv[n + 2];
    return true;
}

static int client_main(int argc, char **argv, char *urls, struct debuginfod_message *ready)
{
    static struct client c; /* its folders are too large for a stack */

    if (!client_arguments(&c, argc, argv)) {
        fputs("cprofd: --role=debuginfod is for the daemon's own use\n", stderr);
        return EXIT_FAILURE;
    }
    ready->error = client_begin(&c, urls, ready->text, sizeof(ready->text));
    if (ready->error < 0 && !ready->text[0])
        (void)snprintf(ready->text, sizeof(ready->text), "%s", strerror(-ready->error));
    if (fdmsg_send(CLIENT_SOCK, ready, sizeof(*ready), NULL, 0) < 0 || ready->error < 0)
        return EXIT_FAILURE;
    return client_serve(&c);
}

#else

static int client_main(int argc, char **argv, char *urls, struct debuginfod_message *ready)
{
    ready->error = -ENOSYS;
    strcpy(ready->text, "this cprofd was built without libdebuginfod");
    (void)fdmsg_send(CLIENT_SOCK, ready, sizeof(*ready), NULL, 0);
    return EXIT_FAILURE;
}

#endif

int debuginfod_client_main(int argc, char **argv)
{
    struct debuginfod_message ready = {.type = DEBUGINFOD_READY};
    const char *given = getenv("DEBUGINFOD_URLS");
    AUTO_FREE char *urls = strdup(given ? given : "");

    (void)prctl(PR_SET_NAME, "cprofd");
    if (!urls)
        return EXIT_FAILURE;
    int status = client_main(argc, argv, urls, &ready);
    _exit(status); /* libraries' threads and handlers have nothing to tidy up that their end does not */
}
