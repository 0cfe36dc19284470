/* The collector of a session: checks access, keeps the target's mappings, and opens files. Owns the target's
 * descriptors and the table of mappings; runs in a child (daemon/child.h), where the target may make it wait
 * for as long as it likes.
 *
 * An image is opened, then access is checked, then it is read: were it replaced in between, it would read as
 * empty. So nothing is told of an image that the asker may not trace. */
#include "daemon/collector.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "daemon/collector_check.h"
#include "daemon/collector_go.h"
#include "daemon/jit_files.h"
#include "daemon/kallsyms_file.h"
#include "daemon/mapping_table.h"
#include "daemon/named_files.h"
#include "daemon/patience.h"
#include "daemon/raw_profile.h"
#include "daemon/vdso.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/fdmsg.h"

/* How often an image is opened anew that an exec took away while it was read. */
#define COLLECTOR_IMAGE_TRIES 8
/* A target that changes its mappings all the time is not looked at all the time: after a look that took T of
 * CPU time comes a rest of three times T. What changes meanwhile waits, and is seen together. */
#define COLLECTOR_REST 3

struct collector {
    int sock;
    pid_t parent;
    struct collector_check check;
    struct patience *patience;   /* NULL unless the request is a session's */
    struct mapping_table *table; /* the same */
    uint32_t epoch;              /* the newest that was told */
    uint32_t image_epoch;        /* the one that the current image was looked at for */
    uint32_t exec_epoch;         /* of the exec that was looked at last; 0: none */
    uint64_t code_bytes;         /* that were mapped executable before the mappings were read last; 0: not known */
    bool told;                   /* the loop knows the mappings of this version */
    uint64_t told_version;
    bool finished;
    bool refused;                /* the image that was seen last is not the asker's to see */
    struct {                     /* EPOCH messages that wait to be acted upon together */
        unsigned n, n_exec;
        uint32_t first, first_exec, last_exec;
    } pending;
    uint64_t rest_until_ns;      /* CLOCK_MONOTONIC */
    struct collector_go go;
};

static int collector_send(const struct collector *c, const struct collector_message *m, int fd)
{
    return fdmsg_send(c->sock, m, sizeof(*m), &fd, fd >= 0 ? 1 : 0);
}

/* The second one may be missing. */
static int collector_send_two(const struct collector *c, const struct collector_message *m, int fd, int second)
{
    const int fds[] = {fd, second};
    return fdmsg_send(c->sock, m, sizeof(*m), fds, second >= 0 ? 2 : 1);
}

static int collector_send_access(const struct collector *c, uint32_t epoch, uint32_t unseen, const struct denial *d)
{
    struct collector_message m = {.type = COLLECTOR_ACCESS};

    m.u.access.epoch = epoch;
    m.u.access.unseen = unseen;
    m.u.access.status = d->status;
    memcpy(m.u.access.message, d->message, sizeof(m.u.access.message));
    return collector_send(c, &m, -1);
}

/* May the asker trace what the process is now? 0, or -EACCES with a denial. */
static int collector_may_see(struct collector *c, struct denial *d)
{
    int r = collector_check_again(&c->check, d);

    if (r == 0 || d->status != 404) /* it has not ended */
        c->refused = r < 0;
    return r;
}

/* ---- mappings */

/* Tells the loop what is mapped now. What can't be told is told the next time. */
static int collector_tell_mappings(struct collector *c)
{
    struct collector_message m = {.type = COLLECTOR_MAPPINGS,
                                  .u.mappings = {.epoch = c->epoch, .exec_epoch = c->exec_epoch, .code_bytes = c->code_bytes,
                                                 .read_ns = mapping_table_read_ns(c->table)}};
    uint64_t version = mapping_table_version(c->table);

    if (c->told && c->told_version == version) {
        m.u.mappings.same = 1;
        return collector_send(c, &m, -1);
    }
    m.u.mappings.cut = mapping_table_live_cut(c->table);
    AUTO_CLOSE int fd = mapping_table_write_live(c->table);
    c->told = fd >= 0;
    c->told_version = version;
    return fd < 0 ? 0 : collector_send(c, &m, fd);
}

/* What is mapped is about to be read. */
static void collector_measure(struct collector *c)
{
    struct target_status status;

    c->code_bytes = target_refresh(&c->check.target, &status) == 0 ? (status.exe_kib + status.lib_kib) * 1024 : 0;
}

static int collector_snapshot(struct collector *c, uint32_t epoch)
{
    collector_measure(c);
    return mapping_table_snapshot(c->table, &c->check.target, epoch);
}

/* Looks at the image that runs, which nobody told of: the first one, or one that came before events were
 * attached. The process may exec meanwhile: then what is there now is looked at, by the same rule. */
static int collector_look(struct collector *c, struct denial *d)
{
    int r = -ESRCH;

    for (unsigned i = 0; i < COLLECTOR_IMAGE_TRIES && r == -ESRCH; i++) {
        r = mapping_table_open_image(c->table, &c->check.target);
        if (collector_may_see(c, d) < 0)
            return -EACCES;
        collector_measure(c);
        if (r == 0)
            r = mapping_table_set_image(c->table, &c->check.target, c->epoch, c->epoch);
    }
    c->image_epoch = c->epoch;
    if (r == -ESRCH && collector_may_see(c, d) < 0)
        return -EACCES; /* it ended */
    if (r == -ESRCH)
        return deny(d, 503, "process %d executes one program after another: its mappings cannot be read",
                    c->check.target.pid);
    if (r < 0)
        return deny(d, 503, "the mappings of process %d cannot be read: %s", c->check.target.pid, target_error(-r));
    return 0;
}

/* A new image. What it maps is read only where the asker may trace it; where it cannot be read, nothing is
 * known of it. Images that were gone by now were not judged: those of execs that were told together with a later
 * one, and that of the exec before, if what was looked at then was this image already. */
static int collector_exec(struct collector *c, uint32_t ends, uint32_t begins)
{
    struct denial d = {0};
    int r = mapping_table_open_image(c->table, &c->check.target);
    c->code_bytes = 0; /* events have come */
    uint32_t unseen = mapping_table_is_same_image(c->table) ? c->image_epoch : ends;

    if (access_is_unlimited(&c->check.access, c->check.request->kernel))
        unseen = begins; /* whatever they were, they were granted */

    if (collector_may_see(c, &d) < 0 || r < 0)
        mapping_table_end_image(c->table, ends);
    else
        (void)mapping_table_set_image(c->table, &c->check.target, ends, begins);
    c->image_epoch = begins;
    c->exec_epoch = begins;
    c->told = false; /* the same mappings are another image's now */
    return collector_send_access(c, begins, unseen, &d);
}

/* Acts upon the EPOCH messages that came since the last look. 0 or -errno of the socket. */
static int collector_settle(struct collector *c)
{
    __typeof__(c->pending) p = c->pending;
    uint64_t before_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    int r = 0;

    if (p.n == 0)
        return 0;
    memset(&c->pending, 0, sizeof(c->pending));
    bool looked = true; /* else it stays as it was */
    if (p.n_exec > 0)
        r = collector_exec(c, p.first_exec, p.last_exec);
    else
        looked = collector_snapshot(c, p.first) == 0;
    if (r == 0 && looked)
        r = collector_tell_mappings(c);
    c->rest_until_ns = monotonic_ns() + COLLECTOR_REST * (clock_ns(CLOCK_PROCESS_CPUTIME_ID) - before_ns);
    return r;
}

static void collector_on_epoch(struct collector *c, uint32_t epoch, bool exec)
{
    if (c->finished || epoch < c->epoch)
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

/* Before the window opens: what changed since the first look, before anybody watched, is there from the first
 * sample on. */
static int collector_on_recheck(struct collector *c)
{
    struct denial d = {0};

    if (!c->finished && collector_snapshot(c, c->epoch) < 0)
        (void)collector_look(c, &d);
    else
        (void)collector_may_see(c, &d);
    int r = d.status == 0 ? collector_tell_mappings(c) : 0;
    return r < 0 ? r : collector_send_access(c, c->epoch, c->epoch, &d);
}

/* What is there now stands beside all that was there before. */
static int collector_on_snapshot(struct collector *c)
{
    struct collector_message m = {.type = COLLECTOR_SNAPSHOT};
    AUTO_CLOSE int fd = c->finished ? mapping_table_write(c->table) : mapping_table_write_now(c->table, &c->check.target, c->epoch);

    mapping_table_cut(c->table, &m.u.table.mappings_cut, &m.u.table.files_cut);
    m.u.table.clock = c->check.clock;
    return collector_send(c, &m, fd);
}

/* Of the image that the asker may trace, and that is the one which was looked at: its memory is opened before either is checked. */
static int collector_read_goroutines(struct collector *c, struct goroutine_counts *ret_counts)
{
    struct denial d = {0};
    AUTO_CLOSE int memory = target_open_file(&c->check.target, "mem", O_RDONLY);

    if (memory < 0)
        return memory;
    if (collector_may_see(c, &d) < 0)
        return -EACCES;
    if (mapping_table_snapshot(c->table, &c->check.target, c->epoch) < 0)
        return -ESTALE;
    return collector_go_read(&c->go, c->table, &c->check.clock, c->epoch, memory, ret_counts);
}

static int collector_on_finish(struct collector *c)
{
    struct collector_message m = {.type = COLLECTOR_TABLE};
    AUTO_CLOSE int goroutines = -1;

    if (!c->finished && c->go.known)
        goroutines = collector_read_goroutines(c, &m.u.table.goroutines);
    m.u.table.go_error = goroutines < 0 && c->go.known ? goroutines : 0;
    if (!c->finished) /* an exec that was not told yet shows as an image that is gone */
        (void)mapping_table_final(c->table, &c->check.target, c->epoch);
    c->finished = true;
    AUTO_CLOSE int fd = mapping_table_write(c->table);
    mapping_table_cut(c->table, &m.u.table.mappings_cut, &m.u.table.files_cut);
    m.u.table.clock = c->check.clock;
    return fd < 0 ? fd : collector_send_two(c, &m, fd, goroutines);
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

/* By a name that the target or its files chose. */
static int collector_open_named(struct collector *c, const struct worker_message *need)
{
    struct named_file file = {.target = &c->check.target, .status = &c->check.status, .parent = c->parent,
                              .root_fd = mapping_table_root(c->table), .object_path = "", .object_fd = -1, .need = need};
    int r = need->u.need.kind == WORKER_FILE_DEBUG
                ? mapping_table_object(c->table, need->u.need.object, &file.object_fd, &file.object_path)
                : 0;

    return r < 0 ? r : named_file_open(c->patience, &file);
}

static int collector_open_kallsyms(const struct collector *c)
{
    return c->check.request->kernel ? kallsyms_file_open() : -EPERM;
}

/* What the target has mapped under that name, if anything: another file may have it by now, and what is done to that one does nothing to
 * the target. */
static int collector_open_path(struct collector *c, const struct worker_message *need)
{
    const char *name = need->u.need.name;
    bool whole = memchr(name, '\0', sizeof(need->u.need.name));
    uint32_t named;

    if (whole && name[0] && !strchr(name, '/')) {
        int r = mapping_table_find_named(c->table, name, &named);
        return r < 0 ? r : collector_open_object(c, named);
    }
    uint32_t mapped = whole && name[0] == '/' ? mapping_table_find(c->table, name) : RAW_NO_OBJECT;
    int fd = mapped != RAW_NO_OBJECT ? collector_open_object(c, mapped) : -ENOENT;

    return fd >= 0 ? fd : collector_open_named(c, need);
}

static int collector_open_jitdump(struct collector *c, uint32_t index)
{
    const char *path;
    int fd, r = mapping_table_object(c->table, index, &fd, &path);

    if (r == 0 && !jit_files_is_jitdump(&c->check.status, path))
        r = -ENOENT;
    return r < 0 ? r : collector_open_object(c, index);
}

/* Of the image that runs, or ran last: that one's secrets are in it. */
static int collector_open_perf_map(struct collector *c, const struct worker_message *need)
{
    struct denial d = {0};

    (void)collector_may_see(c, &d);
    if (c->refused)
        return -EACCES;
    return collector_open_named(c, need);
}

static int collector_open(struct collector *c, const struct worker_message *need)
{
    switch (need->u.need.kind) {
    case WORKER_FILE_OBJECT:
        return collector_open_object(c, need->u.need.object);
    case WORKER_FILE_PATH:
        return collector_open_path(c, need);
    case WORKER_FILE_DEBUG:
        return collector_open_named(c, need);
    case WORKER_FILE_KALLSYMS:
        return collector_open_kallsyms(c);
    case WORKER_FILE_VDSO:
        return vdso_open();
    case WORKER_FILE_PERF_MAP:
        return collector_open_perf_map(c, need);
    case WORKER_FILE_JITDUMP:
        return collector_open_jitdump(c, need->u.need.object);
    }
    return -EINVAL;
}

static int collector_on_file(struct collector *c, const struct worker_message *need)
{
    struct collector_message m = {.type = COLLECTOR_FILE,
                                  .u.file = {.type = WORKER_FILE, .job_id = need->job_id}};

    struct denial d;
    AUTO_CLOSE int fd = collector_open(c, need);
    /* A path is looked up in what the process is now, which may have become another image meanwhile. */
    if (need->u.need.kind == WORKER_FILE_PATH && fd >= 0 && collector_may_see(c, &d) < 0) {
        close_fd(&fd);
        fd = -EACCES;
    }
    m.u.file.u.file.error = fd < 0 ? fd : 0;
    return collector_send(c, &m, fd);
}

/* A file for its table. It is open: nothing here waits for the target. */
static int collector_on_object(struct collector *c, uint32_t index)
{
    struct collector_message m = {.type = COLLECTOR_OBJECT, .u.object = {.index = index}};
    AUTO_CLOSE int fd = index == COLLECTOR_OBJECT_VDSO ? vdso_open() : collector_open_object(c, index);

    m.u.object.error = fd < 0 ? fd : 0;
    return collector_send(c, &m, fd);
}

/* ---- Go programs */

static int collector_on_program(struct collector *c)
{
    struct collector_message m = {.type = COLLECTOR_PROGRAM};
    const struct raw_mapping *program = mapping_table_program(c->table, 0);
    AUTO_CLOSE int fd = program ? collector_open_object(c, program->object) : -ENOENT;

    c->go.images = mapping_table_images(c->table);
    m.u.program.error = fd < 0 ? fd : 0;
    return collector_send(c, &m, fd);
}

/* ---- the conversation */

/* Waits for a message, as long as there is nothing else to do. True where there is one, or the end of the
 * socket. */
static bool collector_wait(const struct collector *c)
{
    struct pollfd p = {.fd = c->sock, .events = POLLIN};
    uint64_t now_ns = monotonic_ns();
    struct timespec rest = {0}, *timeout = &rest;

    if (c->pending.n == 0)
        timeout = NULL;
    else if (c->pending.n_exec == 0 && c->rest_until_ns > now_ns)
        rest = (struct timespec){.tv_sec = (time_t)((c->rest_until_ns - now_ns) / NSEC_PER_SEC),
                                 .tv_nsec = (long)((c->rest_until_ns - now_ns) % NSEC_PER_SEC)};
    return ppoll(&p, 1, timeout, NULL) > 0;
}

static int collector_handle(struct collector *c, const struct collector_message *m, int fd)
{
    if (m->type == COLLECTOR_EPOCH) {
        collector_on_epoch(c, m->u.epoch.epoch, m->u.epoch.exec);
        return 0;
    }
    if (m->type == COLLECTOR_OBJECT) /* without a look at the target, which may change its mappings all the time */
        return collector_on_object(c, m->u.object.index);
    int r = collector_settle(c);
    if (r < 0)
        return r;
    switch (m->type) {
    case COLLECTOR_RECHECK:
        return collector_on_recheck(c);
    case COLLECTOR_SNAPSHOT:
        return collector_on_snapshot(c);
    case COLLECTOR_FINISH:
        return collector_on_finish(c);
    case COLLECTOR_PROGRAM:
        return collector_on_program(c);
    case COLLECTOR_GO:
        return collector_go_take(&c->go, fd);
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
        int r;
        if (collector_wait(c)) {
            AUTO_CLOSE int fd = -1;
            size_t n_fds = 1;
            ssize_t len = fdmsg_recv(c->sock, &m, sizeof(m), &fd, &n_fds);
            if (len == 0)
                return 0;
            r = len == sizeof(m) ? collector_handle(c, &m, fd) : -EPROTO;
        } else {
            r = collector_settle(c);
        }
        if (r < 0)
            return r;
    }
}

static int collector_begin(struct collector *c, const struct collector_request *request, struct denial *d)
{
    int r = collector_check_init(&c->check, request, d);
    if (r < 0 || !request->mappings)
        return r;
    c->patience = patience_new(PATIENCE_ONCE_NS, PATIENCE_ALL_NS);
    if (c->patience)
        c->table = mapping_table_new(c->patience);
    if (!c->table)
        return deny(d, 503, "no memory for the mappings of process %d", request->pid);
    return collector_look(c, d);
}

int collector_main(int sock, void *arg)
{
    const struct collector_request *request = arg;
    struct collector c = {.sock = sock, .parent = getppid()};
    struct denial d = {0};

    int r = collector_begin(&c, request, &d);
    if (r == 0)
        r = collector_send_ready(sock, &c.check, &d);
    if (r == 0 && request->mappings)
        r = collector_tell_mappings(&c);
    if (r == -EACCES)
        (void)collector_send_denied(sock, &d);
    else if (r == 0 && request->mappings)
        r = collector_serve(&c);
    collector_go_deinit(&c.go);
    mapping_table_free(c.table);
    patience_free(c.patience);
    collector_check_deinit(&c.check);
    return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
