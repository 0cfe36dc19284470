/* The check before anything of a target is shown. Owns the target's descriptors. */
#include "daemon/collector_check.h"

#include <errno.h>
#include <string.h>

#include "util/fdmsg.h"

static int unreadable(const struct collector_check *c, int error, struct denial *d)
{
    if (error == -ESRCH)
        return target_gone(c->request->pid, d);
    return deny(d, 503, "process %d cannot be read: %s", c->request->pid, target_error(-error));
}

/* One thread was asked for: it must be the target's, and the asker may trace it as well. */
static int check_thread(const struct collector_check *c, struct denial *d)
{
    struct target_status s;
    pid_t tid = c->request->tid;

    if (tid == 0)
        return 0;
    int r = target_thread_status(&c->target, tid, &s);
    if (r == -ESRCH)
        return deny(d, 404, "process %d has no thread %d (it may have ended)", c->request->pid, tid);
    if (r < 0)
        return unreadable(c, r, d);
    return access_check_target(&c->access, &c->target, &s, d);
}

int collector_check_again(struct collector_check *c, struct denial *d)
{
    int r = target_refresh(&c->target, &c->status);
    if (r < 0)
        return unreadable(c, r, d);
    struct target_clock clock = target_clock(&c->target);
    r = access_check_target(&c->access, &c->target, &c->status, d);
    if (r == 0 && c->request->kernel)
        r = access_check_kernel(&c->access, &c->status, d);
    if (r == 0)
        r = target_check_program(&c->target, d);
    if (r == 0)
        c->clock = clock; /* it lived */
    return r;
}

int collector_check_init(struct collector_check *c, const struct collector_request *request, struct denial *d)
{
    *c = (struct collector_check){.request = request, .target = TARGET_INIT};
    access_init(&c->access, request->settings, &request->asker);
    int r = access_check_asker(&c->access, d);
    if (r == 0)
        r = target_open(request->pid, &c->target, d);
    if (r == 0)
        r = collector_check_again(c, d);
    return r < 0 ? r : check_thread(c, d);
}

void collector_check_deinit(struct collector_check *c)
{
    target_deinit(&c->target);
}

int collector_send_ready(int sock, const struct collector_check *c, struct denial *d)
{
    struct collector_message m = {.type = COLLECTOR_READY};
    struct collector_target *ready = &m.u.ready;
    struct target_stat stat;

    ready->pid = c->target.pid;
    ready->uid = c->status.uid[TARGET_REAL];
    int r = target_stat(&c->target, &stat);
    if (r == 0)
        r = target_comm(&c->target, ready->comm);
    if (r == 0)
        r = target_readlink(&c->target, "exe", ready->exe, sizeof(ready->exe));
    if (r < 0)
        return unreadable(c, r, d);
    ready->start_ticks = stat.start_ticks;
    return fdmsg_send(sock, &m, sizeof(m), NULL, 0);
}

int collector_send_denied(int sock, const struct denial *d)
{
    struct collector_message m = {.type = COLLECTOR_DENIED, .u.denied.status = d->status};

    memcpy(m.u.denied.message, d->message, sizeof(m.u.denied.message));
    return fdmsg_send(sock, &m, sizeof(m), NULL, 0);
}

int collector_send_body(int sock, int fd)
{
    struct collector_message m = {.type = COLLECTOR_TABLE};
    return fdmsg_send(sock, &m, sizeof(m), &fd, 1);
}
