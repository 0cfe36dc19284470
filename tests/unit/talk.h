/* For tests: a collector in a child on a real event base, and targets that are children of the test. */
#pragma once

#include <check.h>
#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "config/settings.h"
#include "daemon/child.h"
#include "daemon/collector.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define TALK_MAX_MESSAGES 64
/* Far beyond what anything here takes: a test that hangs fails by Check's own timeout. */
#define TALK_DEADLINE_NS (30 * NSEC_PER_SEC)

struct talk {
    struct event_base *base;
    struct child *child;
    struct settings settings;
    struct collector_request request;
    struct collector_message messages[TALK_MAX_MESSAGES];
    int fds[TALK_MAX_MESSAGES];
    size_t n, next;
    bool ended, timed_out;
};

static void talk_on_message(struct child *c, const void *data, size_t len, int *fds, size_t n_fds, void *userdata)
{
    struct talk *t = userdata;
    ck_assert_uint_eq(len, sizeof(struct collector_message));
    ck_assert_uint_lt(t->n, TALK_MAX_MESSAGES);
    memcpy(&t->messages[t->n], data, len);
    t->fds[t->n++] = n_fds > 0 ? fds[0] : -1;
    (void)event_base_loopbreak(t->base);
}

static void talk_on_ended(struct child *c, bool timed_out, uint64_t cpu_ns, void *userdata)
{
    struct talk *t = userdata;
    ck_assert(!t->ended);
    t->ended = true;
    t->timed_out = timed_out;
    t->child = NULL;
    (void)event_base_loopbreak(t->base);
}

static const struct child_ops talk_ops = {.message = talk_on_message, .ended = talk_on_ended};

/* An asker with this uid and its group of the same number; -1: a stranger. */
__attribute__((unused)) static struct asker talk_asker(int uid)
{
    if (uid < 0)
        return (struct asker){.address = "192.0.2.1:1"};
    return (struct asker){.known = true, .uid = (uid_t)uid, .gid = (gid_t)uid, .has_gid = true, .address = "unix"};
}

__attribute__((unused)) static struct talk *talk_new(pid_t pid, struct asker asker)
{
    struct talk *t = calloc(1, sizeof(*t));
    ck_assert_ptr_nonnull(t);
    t->base = event_base_new();
    settings_init(&t->settings);
    t->request = (struct collector_request){.settings = &t->settings, .asker = asker, .pid = pid, .mappings = true};
    return t;
}

__attribute__((unused)) static void talk_start(struct talk *t, child_fn fn)
{
    ck_assert_int_eq(child_spawn(t->base, fn, &t->request, NULL, 0, TALK_DEADLINE_NS, &talk_ops, t, &t->child), 0);
}

/* The next message that is not of a type; NULL where the child ended without one. *ret_fd (may be NULL) is the caller's. */
static const struct collector_message *talk_next_but(struct talk *t, uint32_t type, int *ret_fd)
{
    do {
        while (t->next == t->n && !t->ended)
            (void)event_base_loop(t->base, EVLOOP_ONCE);
        if (t->next == t->n)
            return NULL;
    } while (t->messages[t->next++].type == type);
    if (ret_fd)
        *ret_fd = TAKE_FD(t->fds[t->next - 1]);
    return &t->messages[t->next - 1];
}

/* Lists of mappings come when they have changed: they are skipped, unless they are asked for. */
__attribute__((unused)) static const struct collector_message *talk_next(struct talk *t, int *ret_fd)
{
    return talk_next_but(t, COLLECTOR_MAPPINGS, ret_fd);
}

__attribute__((unused)) static void talk_send(struct talk *t, const struct collector_message *m)
{
    ck_assert_int_eq(child_send(t->child, m, sizeof(*m), NULL, 0), 0);
}

__attribute__((unused)) static void talk_free(struct talk *t)
{
    child_kill_all();
    event_base_free(t->base);
    for (size_t i = 0; i < t->n; i++)
        close_fd(&t->fds[i]);
    settings_deinit(&t->settings);
    free(t);
}

__attribute__((unused)) static const struct collector_message *talk_expect(struct talk *t, enum collector_message_type type, int *ret_fd)
{
    const struct collector_message *m = talk_next_but(t, type == COLLECTOR_MAPPINGS ? 0 : COLLECTOR_MAPPINGS, ret_fd);
    ck_assert_ptr_nonnull(m);
    if (m->type == COLLECTOR_DENIED && type != COLLECTOR_DENIED)
        ck_abort_msg("denied: %d %s", m->u.denied.status, m->u.denied.message);
    ck_assert_uint_eq(m->type, type);
    return m;
}

/* ---- targets */

/* A process of the test's: does what it is told by a byte on its pipe, and says so on the other one. */
struct puppet {
    pid_t pid;
    int to, from;
};

/* In the puppet: waits for the next command; ends with the test. */
__attribute__((unused)) static char puppet_wait(int in, int out, bool done)
{
    char command;
    if (done && write(out, "!", 1) != 1)
        _exit(1);
    if (read(in, &command, 1) != 1)
        _exit(0);
    return command;
}

/* fn runs in the child, where the pipes' ends have the given numbers; it must say that it is ready by puppet_wait(in, out, true). */
__attribute__((unused)) static struct puppet puppet_start(void (*fn)(int in, int out, void *arg), void *arg)
{
    int to[2], from[2];
    ck_assert_int_eq(pipe(to), 0);
    ck_assert_int_eq(pipe(from), 0);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(to[1]);
        close(from[0]);
        fn(to[0], from[1], arg);
        _exit(0);
    }
    close(to[0]);
    close(from[1]);
    char byte;
    struct puppet p = {.pid = pid, .to = to[1], .from = from[0]};
    ck_assert_int_eq(read(p.from, &byte, 1), 1);
    return p;
}

/* Sends a command and waits until it is done. */
__attribute__((unused)) static void puppet_do(struct puppet *p, char command)
{
    char byte;
    ck_assert_int_eq(write(p->to, &command, 1), 1);
    ck_assert_int_eq(read(p->from, &byte, 1), 1);
}

__attribute__((unused)) static void puppet_end(struct puppet *p)
{
    (void)kill(p->pid, SIGKILL);
    (void)waitpid(p->pid, NULL, 0);
    close(p->to);
    close(p->from);
}

__attribute__((unused)) static void puppet_idle(int in, int out, void *arg)
{
    for (;;)
        (void)puppet_wait(in, out, true);
}
