/* Looks for processes that rules fit. Runs in a child. */
#include "daemon/watch_scan.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/target_status.h"
#include "util/cleanup.h"
#include "util/fdmsg.h"

#define SCAN_MAX_TEXT_BYTES 65536

/* ---- one process */

/* The unit is a part of the path, outside of what a user's own service manager made: there anybody can choose names. */
static bool path_has_unit(const char *path, size_t len, const char *unit)
{
    const char *end = path + len;

    while (path < end) {
        const char *slash = memchr(path, '/', (size_t)(end - path));
        size_t n = (size_t)((slash ? slash : end) - path);
        if (n == strlen(unit) && memcmp(path, unit, n) == 0)
            return true;
        if (n > 5 && memcmp(path, "user@", 5) == 0)
            return false;
        path += n + 1;
    }
    return false;
}

static bool path_is_below(const char *path, size_t len, const char *group)
{
    size_t n = strlen(group);

    if (n == 1) /* "/" */
        return true;
    return len >= n && memcmp(path, group, n) == 0 && (len == n || path[n] == '/');
}

/* The unified hierarchy, or where there is none systemd's own: "0::/PATH", "1:name=systemd:/PATH". */
static const char *cgroup_path(const char *cgroups, size_t *ret_len)
{
    const char *unified = NULL, *named = NULL, *next;

    for (const char *line = cgroups; *line; line = next) {
        const char *end = strchrnul(line, '\n');
        next = *end ? end + 1 : end;
        if (strncmp(line, "0::", 3) == 0)
            unified = line + 3;
        const char *name = strstr(line, ":name=systemd:");
        if (name && name < end)
            named = name + strlen(":name=systemd:");
    }
    const char *path = named ? named : unified;
    *ret_len = path ? (size_t)(strchrnul(path, '\n') - path) : 0;
    return path;
}

/* In any of the hierarchies: with several, those of containers and of hands differ from the service manager's. */
static bool is_in_cgroup(const char *cgroups, const char *group)
{
    for (const char *line = cgroups, *end; *line; line = *end ? end + 1 : end) {
        end = strchrnul(line, '\n');
        const char *controllers = memchr(line, ':', (size_t)(end - line));
        const char *path = controllers ? memchr(controllers + 1, ':', (size_t)(end - controllers - 1)) : NULL;
        if (path && path_is_below(path + 1, (size_t)(end - path - 1), group))
            return true;
    }
    return false;
}

int watch_rule_fits(const struct watch_rule *rule, const char *comm, const char *cgroups)
{
    size_t len;
    const char *path;

    if (rule->by == WATCH_BY_NAME)
        return strcmp(rule->whom, comm) == 0;
    if (rule->by == WATCH_BY_CGROUP)
        return is_in_cgroup(cgroups, rule->whom);
    path = cgroup_path(cgroups, &len);
    return path && path_has_unit(path, len, rule->whom);
}

struct scan {
    const struct watch_scan_request *request;
    bool wants_cgroups;
    int proc_fd;
    char text[SCAN_MAX_TEXT_BYTES];
    struct watch_match *matches;
    size_t n;
};

/* Reads a file of a process into scan->text, with a NUL behind it. Its length; 0: it can't be had. */
static size_t scan_read(struct scan *scan, pid_t pid, const char *name)
{
    char path[32];

    (void)snprintf(path, sizeof(path), "%d/%s", pid, name);
    AUTO_CLOSE int fd = openat(scan->proc_fd, path, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd >= 0 ? read(fd, scan->text, sizeof(scan->text) - 1) : -1;
    scan->text[len > 0 ? len : 0] = '\0';
    return len > 0 ? (size_t)len : 0;
}

/* The name in parentheses, which may hold any bytes. */
static void scan_comm(const char *stat, char ret[16])
{
    const char *begin = strchr(stat, '('), *end = strrchr(stat, ')');
    size_t len = begin && end > begin ? (size_t)(end - begin - 1) : 0;

    memset(ret, 0, 16);
    if (len > 0)
        memcpy(ret, begin + 1, len < 15 ? len : 15);
}

/* By one file, or two: there may be many thousand processes. */
static void scan_process(struct scan *scan, pid_t pid)
{
    struct target_stat stat;
    char comm[16];
    size_t len = scan_read(scan, pid, "stat");

    if (len == 0 || target_stat_parse(scan->text, len, &stat) < 0 || stat.flags & TARGET_PF_KTHREAD)
        return;
    scan_comm(scan->text, comm);
    scan->text[0] = '\0';
    if (scan->wants_cgroups && scan_read(scan, pid, "cgroup") == 0)
        return;
    for (uint32_t i = 0; i < scan->request->n && scan->n < WATCH_SCAN_MAX; i++)
        if (watch_rule_fits(&scan->request->rules[i], comm, scan->text))
            scan->matches[scan->n++] = (struct watch_match){.pid = pid, .rule = i, .start_ticks = stat.start_ticks};
}

/* ---- all of them */

static void cleanup_closedir(DIR **dir)
{
    if (*dir)
        (void)closedir(*dir);
}

/* The daemon's own processes are not looked at. 0 or -errno. */
static int scan_all(struct scan *scan)
{
    CLEANUP(cleanup_closedir) DIR *dir = opendir("/proc");
    pid_t daemon = getppid();

    if (!dir)
        return -errno;
    scan->proc_fd = dirfd(dir);
    scan->n = 0;
    for (struct dirent *entry; (entry = readdir(dir));) {
        pid_t pid = isdigit((unsigned char)entry->d_name[0]) ? (pid_t)strtol(entry->d_name, NULL, 10) : 0;
        if (pid > 0 && pid != daemon && pid != getpid())
            scan_process(scan, pid);
    }
    return 0;
}

static int scan_send(int sock, const struct scan *scan)
{
    struct watch_scan_message m = {.n = scan->n};
    size_t len = scan->n * sizeof(*scan->matches);
    AUTO_CLOSE int fd = memfd_create("cprofd-matches", MFD_CLOEXEC);

    if (fd < 0)
        return -errno;
    if (len > 0 && write(fd, scan->matches, len) != (ssize_t)len)
        return -EIO;
    return fdmsg_send(sock, &m, sizeof(m), &fd, 1);
}

int watch_scan_main(int sock, void *arg)
{
    const struct watch_scan_request *request = arg;
    static struct scan scan;
    struct pollfd from_loop = {.fd = sock, .events = POLLIN};

    scan = (struct scan){.request = request, .matches = calloc(WATCH_SCAN_MAX, sizeof(*scan.matches))};
    int r = scan.matches ? 0 : -ENOMEM;

    for (size_t i = 0; i < request->n; i++)
        scan.wants_cgroups = scan.wants_cgroups || request->rules[i].by != WATCH_BY_NAME;
    while (r == 0) {
        r = scan_all(&scan);
        r = r ? r : scan_send(sock, &scan);
        if (r == 0 && poll(&from_loop, 1, WATCH_SCAN_INTERVAL_MS) > 0) /* the loop has closed its end */
            break;
    }
    free(scan.matches);
    return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
