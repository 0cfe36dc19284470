/* The one-shot collectors: a process's command line, and the processes that an asker may profile. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/access.h"
#include "daemon/collector.h"
#include "daemon/collector_check.h"
#include "util/cleanup.h"
#include "util/fdmsg.h"

/* The kernel's own bound on arguments is 6 MiB; a process can make its /proc/PID/cmdline longer than that. */
#define CMDLINE_MAX_BYTES (8 << 20)
/* A list that is cut would look whole. */
#define PROCESSES_MAX 65536

/* A sealed memfd. fd or -errno. */
static int body_of(const void *data, size_t len)
{
    AUTO_CLOSE int fd = memfd_create("cprofd-body", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    const char *at = data;

    if (fd < 0)
        return -errno;
    while (len > 0) {
        ssize_t n = write(fd, at, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        at += n;
        len -= (size_t)n;
    }
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
        return -errno;
    return TAKE_FD(fd);
}

static int send_body(int sock, const void *data, size_t len, struct denial *d)
{
    AUTO_CLOSE int fd = body_of(data, len);
    if (fd < 0)
        return deny(d, 503, "no memory for the answer: %s", strerror(-fd));
    return collector_send_body(sock, fd);
}

static int exit_status(int sock, int error, const struct denial *d)
{
    if (error == -EACCES)
        error = collector_send_denied(sock, d);
    return error < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* ---- the command line */

/* Reads it, and checks again: an exec may have put another program's arguments there. */
static int cmdline_read(struct collector_check *c, char **ret_text, size_t *ret_len, struct denial *d)
{
    AUTO_FREE char *text = NULL;
    size_t len;
    int r = target_read_file(&c->target, "cmdline", CMDLINE_MAX_BYTES, &text, &len);

    if (r == -ESRCH)
        return target_gone(c->target.pid, d);
    if (r == -EFBIG)
        return deny(d, 503, "the command line of process %d is longer than %d bytes", c->target.pid,
                    CMDLINE_MAX_BYTES);
    if (r < 0)
        return deny(d, 503, "the command line of process %d cannot be read: %s", c->target.pid, target_error(-r));
    r = collector_check_again(c, d);
    if (r < 0)
        return r;
    if (len > 0 && text[len - 1] == '\0')
        len--;
    *ret_text = TAKE_PTR(text);
    *ret_len = len;
    return 0;
}

int cmdline_main(int sock, void *arg)
{
    struct collector_check c;
    struct denial d = {0};
    AUTO_FREE char *text = NULL;
    size_t len = 0;

    int r = collector_check_init(&c, arg, &d);
    if (r == 0)
        r = cmdline_read(&c, &text, &len, &d);
    if (r == 0)
        r = collector_send_ready(sock, &c, &d);
    if (r == 0)
        r = send_body(sock, text, len, &d);
    collector_check_deinit(&c);
    return exit_status(sock, r, &d);
}

/* ---- processes */

struct process_list {
    struct process_entry *items;
    size_t n, cap;
};

static void cleanup_process_list(struct process_list *list)
{
    free(list->items);
}

static void cleanup_target(struct target *t)
{
    target_deinit(t);
}

static void cleanup_closedir(DIR **dir)
{
    if (*dir)
        (void)closedir(*dir);
}

/* Paths longer than an entry's are cut: they are shown, not used. */
static int process_describe(const struct target *t, const struct target_status *s, struct process_entry *ret)
{
    char exe[4096];
    struct target_stat stat;
    struct process_entry entry = {.pid = t->pid, .uid = s->uid[TARGET_REAL]};
    int r = target_stat(t, &stat);

    if (r == 0 && stat.flags & TARGET_PF_KTHREAD)
        return -ENOEXEC;
    if (r == 0)
        r = target_comm(t, entry.comm);
    if (r == 0)
        r = target_readlink(t, "exe", exe, sizeof(exe));
    if (r < 0)
        return r;
    memcpy(entry.exe, exe, strnlen(exe, sizeof(entry.exe) - 1));
    *ret = entry;
    return 0;
}

/* Adds a process, if the asker may profile it and it is there still. 0, -E2BIG, -ENOMEM. */
static int process_list_add(struct process_list *list, const struct access *access, pid_t pid)
{
    CLEANUP(cleanup_target) struct target t = TARGET_INIT;
    struct target_status s;
    struct process_entry entry;
    struct denial ignored;

    if (target_open(pid, &t, &ignored) < 0 || target_refresh(&t, &s) < 0 ||
        access_check_target(access, &t, &s, &ignored) < 0 || process_describe(&t, &s, &entry) < 0)
        return 0;
    if (list->n >= PROCESSES_MAX)
        return -E2BIG;
    if (list->n == list->cap) {
        size_t cap = list->cap ? list->cap * 2 : 256;
        struct process_entry *items = reallocarray(list->items, cap, sizeof(*items));
        if (!items)
            return -ENOMEM;
        list->items = items;
        list->cap = cap;
    }
    list->items[list->n++] = entry;
    return 0;
}

/* The number that a directory's name is; 0 for all others. */
static pid_t pid_of_name(const char *name)
{
    char *end;

    if (!isdigit((unsigned char)name[0]))
        return 0;
    errno = 0;
    long pid = strtol(name, &end, 10);
    return errno || *end || pid > INT32_MAX ? 0 : (pid_t)pid;
}

static int process_list_fill(struct process_list *list, const struct access *access, struct denial *d)
{
    CLEANUP(cleanup_closedir) DIR *dir = opendir("/proc");
    int r = dir ? 0 : -errno;

    for (struct dirent *entry; r == 0 && (entry = readdir(dir));) {
        pid_t pid = pid_of_name(entry->d_name);
        if (pid > 0)
            r = process_list_add(list, access, pid);
    }
    if (r == -E2BIG)
        return deny(d, 503, "more than %d processes: ask for one by its number, /pid/N", PROCESSES_MAX);
    if (r < 0)
        return deny(d, 503, "the processes cannot be listed: %s", strerror(-r));
    return 0;
}

int processes_main(int sock, void *arg)
{
    const struct collector_request *request = arg;
    CLEANUP(cleanup_process_list) struct process_list list = {0};
    struct collector_message ready = {.type = COLLECTOR_READY};
    struct access access;
    struct denial d = {0};

    access_init(&access, request->settings, &request->asker);
    int r = access_check_asker(&access, &d);
    if (r == 0)
        r = process_list_fill(&list, &access, &d);
    if (r == 0)
        r = fdmsg_send(sock, &ready, sizeof(ready), NULL, 0);
    if (r == 0)
        r = send_body(sock, list.items, list.n * sizeof(*list.items), &d);
    return exit_status(sock, r, &d);
}
