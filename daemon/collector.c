/* The collector of a session: checks access, keeps the target's mappings, and opens files. Owns the target's descriptors and the
 * table of mappings; runs in a child (daemon/child.h), where the target may make it wait for as long as it likes.
 *
 * Access is checked before an image is read and again after it, so that nothing is told of an image that was there in between. */
#include "daemon/collector.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "daemon/collector_check.h"
#include "daemon/debug_files.h"
#include "daemon/fs_identity.h"
#include "daemon/kallsyms_file.h"
#include "daemon/mapping_table.h"
#include "daemon/target_files.h"
#include "daemon/vdso.h"
#include "util/cleanup.h"
#include "util/fdmsg.h"

/* How often an image is opened anew that an exec took away while it was read. */
#define COLLECTOR_IMAGE_TRIES 8
/* EPOCH messages that are answered by one look at the mappings. */
#define COLLECTOR_MAX_PENDING 64

struct collector {
    int sock;
    pid_t parent;
    struct collector_check check;
    struct mapping_table *table; /* NULL unless the request is a session's */
    uint32_t epoch;              /* the newest that was told */
    bool finished;
    struct {                     /* EPOCH messages that wait to be acted upon together */
        unsigned n, n_exec;
        uint32_t first, first_exec, last_exec;
    } pending;
};

static int collector_send(const struct collector *c, const struct collector_message *m, int fd)
{
    return fdmsg_send(c->sock, m, sizeof(*m), &fd, fd >= 0 ? 1 : 0);
}

static int collector_send_access(const struct collector *c, uint32_t epoch, const struct denial *d)
{
    struct collector_message m = {.type = COLLECTOR_ACCESS, .u.access = {.epoch = epoch, .status = d->status}};

    memcpy(m.u.access.message, d->message, sizeof(m.u.access.message));
    return collector_send(c, &m, -1);
}

/* ---- mappings */

/* The first look. The process may exec meanwhile: then what is there now is looked at, by the same rule. */
static int collector_first_image(struct collector *c, struct denial *d)
{
    int r = -ESRCH;

    for (unsigned i = 0; i < COLLECTOR_IMAGE_TRIES && r == -ESRCH; i++) {
        r = mapping_table_open_image(c->table, &c->check.target);
        if (r == 0)
            r = mapping_table_snapshot(c->table, &c->check.target, c->epoch);
        if (collector_check_again(&c->check, d) < 0)
            return -EACCES;
    }
    if (r == -ESRCH)
        return deny(d, 503, "process %d executes one program after another: its mappings cannot be read", c->check.target.pid);
    if (r < 0)
        return deny(d, 503, "the mappings of process %d cannot be read: %s", c->check.target.pid, strerror(-r));
    return 0;
}

/* A new image. What it maps is kept only where the asker may trace it. */
static int collector_exec(struct collector *c, uint32_t ends, uint32_t begins)
{
    struct denial d = {0};
    int r = collector_check_again(&c->check, &d);

    if (r == 0) {
        (void)mapping_table_exec(c->table, &c->check.target, ends, begins); /* if it fails, nothing is known of the image */
        r = collector_check_again(&c->check, &d);
        ends = begins;
    }
    if (r < 0)
        mapping_table_end_image(c->table, ends);
    return collector_send_access(c, begins, &d);
}

/* Acts upon the EPOCH messages that came since the last look. 0 or -errno of the socket. */
static int collector_settle(struct collector *c)
{
    __typeof__(c->pending) p = c->pending;

    memset(&c->pending, 0, sizeof(c->pending));
    if (p.n_exec > 0)
        return collector_exec(c, p.first_exec, p.last_exec);
    if (p.n > 0)
        (void)mapping_table_snapshot(c->table, &c->check.target, p.first); /* if it fails, the table is as it was */
    return 0;
}

static void collector_on_epoch(struct collector *c, uint32_t epoch, bool exec)
{
    if (!c->table || c->finished || epoch < c->epoch)
        return;
    c->epoch = epoch;
    if (c->pending.n++ == 0)
        c->pending.first = epoch;
    if (!exec)
        return;
    if (c->pending.n_exec++ == 0)
        c->pending.first_exec = epoch;
    c->pending.last_exec = epoch;
}

static int collector_on_recheck(struct collector *c)
{
    struct denial d = {0};

    (void)collector_check_again(&c->check, &d);
    return collector_send_access(c, c->epoch, &d);
}

static int collector_on_finish(struct collector *c)
{
    struct denial d;

    if (!c->table)
        return -EPROTO;
    /* An exec that was not told yet shows as an image that is gone; one that the asker may not trace is not looked at. */
    if (!c->finished && collector_check_again(&c->check, &d) == 0)
        (void)mapping_table_final(c->table, &c->check.target, c->epoch);
    c->finished = true;
    AUTO_CLOSE int fd = mapping_table_write(c->table);
    return fd < 0 ? fd : collector_send_table(c->sock, fd);
}

/* ---- files */

static int collector_open_object(struct collector *c, uint32_t index)
{
    const char *path;
    int fd, r = mapping_table_object(c->table, index, &fd, &path);

    if (r < 0)
        return r;
    if (fd < 0)
        return -ENOENT;
    fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return fd < 0 ? -errno : fd;
}

static int collector_open_debug(struct collector *c, const struct worker_message *need)
{
    AUTO_CLOSE int host = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct debug_roots roots = {.target = mapping_table_root(c->table), .host = host};
    const char *path;
    int fd, r = mapping_table_object(c->table, need->u.need.object, &fd, &path);

    return r < 0 ? r : debug_file_open(&roots, path, fd, need);
}

static int collector_open_path(struct collector *c, const struct worker_message *need)
{
    const char *name = need->u.need.name;

    if (!memchr(name, '\0', sizeof(need->u.need.name)) || name[0] != '/')
        return -EINVAL;
    return target_files_open_beneath(mapping_table_root(c->table), name);
}

/* By a name that the target or its files chose: with the target's rights alone. */
static int collector_open_named(struct collector *c, const struct worker_message *need)
{
    struct fs_identity *before = fs_identity_assume(&c->check.status);
    if (!before)
        return -EPERM;
    int fd = need->u.need.kind == WORKER_FILE_DEBUG ? collector_open_debug(c, need) : collector_open_path(c, need);
    fs_identity_restore(before, c->parent);
    return fd;
}

static int collector_open_kallsyms(const struct collector *c)
{
    return c->check.request->kernel ? kallsyms_file_open() : -EPERM;
}

static int collector_open(struct collector *c, const struct worker_message *need)
{
    switch (need->u.need.kind) {
    case WORKER_FILE_OBJECT:
        return collector_open_object(c, need->u.need.object);
    case WORKER_FILE_PATH:
        if (need->u.need.name[0] == '\0')
            return target_files_open_exe(&c->check.target);
        return collector_open_named(c, need);
    case WORKER_FILE_DEBUG:
        return collector_open_named(c, need);
    case WORKER_FILE_KALLSYMS:
        return collector_open_kallsyms(c);
    case WORKER_FILE_VDSO:
        return vdso_open();
    }
    return -EINVAL;
}

static int collector_on_file(struct collector *c, const struct worker_message *need)
{
    struct collector_message m = {.type = COLLECTOR_FILE, .u.file = {.type = WORKER_FILE, .job_id = need->job_id}};

    if (!c->table)
        return -EPROTO;
    AUTO_CLOSE int fd = collector_open(c, need);
    m.u.file.u.file.error = fd < 0 ? fd : 0;
    return collector_send(c, &m, fd);
}

/* ---- the conversation */

static bool collector_has_message(const struct collector *c)
{
    struct pollfd p = {.fd = c->sock, .events = POLLIN};
    return poll(&p, 1, 0) > 0;
}

static int collector_handle(struct collector *c, const struct collector_message *m)
{
    if (m->type == COLLECTOR_EPOCH) {
        collector_on_epoch(c, m->u.epoch.epoch, m->u.epoch.exec);
        return 0;
    }
    int r = collector_settle(c);
    if (r < 0)
        return r;
    switch (m->type) {
    case COLLECTOR_RECHECK:
        return collector_on_recheck(c);
    case COLLECTOR_FINISH:
        return collector_on_finish(c);
    case COLLECTOR_FILE:
        return collector_on_file(c, &m->u.file);
    }
    return -EPROTO;
}

/* Until the loop closes its end. */
static int collector_serve(struct collector *c)
{
    struct collector_message m;

    for (;;) {
        int r = 0;
        if (c->pending.n >= COLLECTOR_MAX_PENDING || (c->pending.n > 0 && !collector_has_message(c)))
            r = collector_settle(c);
        if (r < 0)
            return r;
        ssize_t len = fdmsg_recv(c->sock, &m, sizeof(m), NULL, NULL);
        if (len == 0)
            return 0;
        r = len == sizeof(m) ? collector_handle(c, &m) : -EPROTO;
        if (r < 0)
            return r;
    }
}

static int collector_begin(struct collector *c, const struct collector_request *request, struct denial *d)
{
    int r = collector_check_init(&c->check, request, d);
    if (r < 0 || !request->mappings)
        return r;
    c->table = mapping_table_new();
    if (!c->table)
        return deny(d, 503, "no memory for the mappings of process %d", request->pid);
    return collector_first_image(c, d);
}

int collector_main(int sock, void *arg)
{
    const struct collector_request *request = arg;
    struct collector c = {.sock = sock, .parent = getppid()};
    struct denial d = {0};

    int r = collector_begin(&c, request, &d);
    if (r == 0)
        r = collector_send_ready(sock, &c.check, &d);
    if (r == -EACCES)
        (void)collector_send_denied(sock, &d);
    else if (r == 0 && request->mappings)
        r = collector_serve(&c);
    mapping_table_free(c.table);
    collector_check_deinit(&c.check);
    return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
