/* Privileged disposable children. Owns, for each: the process, a pidfd, the loop's end of the socket pair,
 * and the events on them.
 *
 * A child may be stuck in the kernel where SIGKILL does not reach it at once, so its user is told at the
 * deadline, and the process is reaped when its pidfd says so: the struct outlives the user's interest in it
 * until both are over. */
#include "daemon/child.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/log.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/fdmsg.h"

/* Messages read in one go, before other events get their turn. */
#define CHILD_BATCH 16

struct child {
    struct child *next, **prev_next; /* all children that are not reaped */
    pid_t pid;
    int pidfd, sock;
    struct event *message_event, *deadline_event, *exit_event;
    const struct child_ops *ops;
    void *userdata;
    bool live;       /* the user has not been told of its end */
    bool reaped;
    unsigned busy;   /* callbacks under way that will touch the struct again */
    uint64_t cpu_ns; /* once reaped */
    uint64_t owner;
};

static struct child *children;
static size_t n_children;
static uint64_t total_cpu_ns;

static void child_unlink(struct child *c)
{
    if (!c->prev_next)
        return;
    *c->prev_next = c->next;
    if (c->next)
        c->next->prev_next = c->prev_next;
    c->prev_next = NULL;
    n_children--;
}

static void child_link(struct child *c)
{
    c->next = children;
    c->prev_next = &children;
    if (children)
        children->prev_next = &c->next;
    children = c;
    n_children++;
}

/* Frees what the user sees of a child: its socket, and its deadline. */
static void child_disconnect(struct child *c)
{
    if (c->message_event)
        event_free(TAKE_PTR(c->message_event));
    if (c->deadline_event)
        event_free(TAKE_PTR(c->deadline_event));
    close_fd(&c->sock);
}

static void child_free(struct child *c)
{
    child_disconnect(c);
    if (c->exit_event)
        event_free(c->exit_event);
    close_fd(&c->pidfd);
    child_unlink(c);
    free(c);
}

static void cleanup_child(struct child **c)
{
    if (*c)
        child_free(*c);
}

static void child_free_if_over(struct child *c)
{
    if (!c->live && c->reaped && c->busy == 0)
        child_free(c);
}

uint64_t child_cpu_ns(const struct child *c)
{
    clockid_t clock;

    if (c->reaped)
        return c->cpu_ns;
    return clock_getcpuclockid(c->pid, &clock) == 0 ? clock_ns(clock) : 0;
}

static void child_signal_kill(const struct child *c)
{
    if (!c->reaped)
        (void)kill(c->pid, SIGKILL); /* not reaped: the number is still its own */
}

static void child_end(struct child *c, bool timed_out)
{
    child_signal_kill(c);
    c->live = false;
    child_disconnect(c);
    c->busy++;
    c->ops->ended(c, timed_out, child_cpu_ns(c), c->userdata);
    c->busy--;
    child_free_if_over(c);
}

/* Hands one message over. False at the end of the socket, or when there is none. */
static bool child_receive(struct child *c, bool *ret_ended)
{
    static char buf[FDMSG_MAX_BYTES]; /* the loop is single-threaded, and a callback does not receive */
    int fds[FDMSG_MAX_FDS];
    size_t n_fds = FDMSG_MAX_FDS;
    ssize_t len = fdmsg_recv(c->sock, buf, sizeof(buf), fds, &n_fds);

    if (len == -EMFILE)
        log_error("no file descriptors are left for what a child sends, and it is given up: raise LimitNOFILE");
    *ret_ended = len <= 0 && len != -EAGAIN;
    if (len <= 0)
        return false;
    c->ops->message(c, buf, (size_t)len, fds, n_fds, c->userdata);
    return true;
}

static void child_on_message(evutil_socket_t fd, short what, void *arg)
{
    struct child *c = arg;
    bool ended = false;

    c->busy++;
    for (int i = 0; i < CHILD_BATCH && c->live; i++)
        if (!child_receive(c, &ended))
            break;
    c->busy--;
    if (c->live && ended)
        child_end(c, false);
    else
        child_free_if_over(c);
}

static void child_on_deadline(evutil_socket_t fd, short what, void *arg)
{
    child_end(arg, true);
}

/* The process is gone. Its last messages may still wait in the socket, whose end tells the user. */
static void child_on_exit(evutil_socket_t fd, short what, void *arg)
{
    struct child *c = arg;
    struct rusage usage;

    if (wait4(c->pid, NULL, WNOHANG, &usage) != c->pid)
        return;
    c->reaped = true;
    c->cpu_ns = ((uint64_t)usage.ru_utime.tv_sec + (uint64_t)usage.ru_stime.tv_sec) * NSEC_PER_SEC +
                ((uint64_t)usage.ru_utime.tv_usec + (uint64_t)usage.ru_stime.tv_usec) * 1000;
    *(c->ops->total_cpu_ns ? c->ops->total_cpu_ns : &total_cpu_ns) += c->cpu_ns;
    event_free(TAKE_PTR(c->exit_event));
    close_fd(&c->pidfd);
    if (c->ops->gone)
        c->ops->gone(c->userdata);
    child_free_if_over(c);
}

/* ---- in the child */

static int compare_ints(const void *a, const void *b)
{
    return (*(const int *)a > *(const int *)b) - (*(const int *)a < *(const int *)b);
}

/* Closes every descriptor above stdio but keep[0 .. n), which is sorted here. */
static void child_close_others(int *keep, size_t n)
{
    unsigned next = STDERR_FILENO + 1;

    qsort(keep, n, sizeof(*keep), compare_ints);
    for (size_t i = 0; i < n; i++) {
        if ((unsigned)keep[i] < next)
            continue;
        if ((unsigned)keep[i] > next)
            (void)close_range(next, (unsigned)keep[i] - 1, 0);
        next = (unsigned)keep[i] + 1;
    }
    (void)close_range(next, ~0u, 0);
}

/* The parent's handlers write to descriptors that are gone here. What a terminal or a service manager sends
 * to the whole group is the parent's to answer: it ends its children itself. */
static void child_reset_signals(void)
{
    static const int to_parent[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigset_t none;

    for (int sig = 1; sig < NSIG; sig++)
        (void)sigaction(sig, &action, NULL);
    action.sa_handler = SIG_IGN;
    for (size_t i = 0; i < sizeof(to_parent) / sizeof(to_parent[0]); i++)
        (void)sigaction(to_parent[i], &action, NULL);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

int child_die_with_parent(pid_t parent)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
        return -errno;
    return getppid() == parent ? 0 : -ESRCH; /* it may have died before */
}

_Noreturn static void child_run(pid_t parent, int sock, child_fn fn, void *arg, int *keep, size_t n_keep)
{
    if (child_die_with_parent(parent) < 0)
        _exit(EXIT_FAILURE);
    (void)prctl(PR_SET_NAME, "cprofd");
    child_reset_signals();
    child_close_others(keep, n_keep);
    _exit(fn(sock, arg));
}

/* ---- in the loop */

/* Signals are blocked around the fork: none may run the parent's handler in the child. */
static pid_t child_fork(int sock, child_fn fn, void *arg, int *keep, size_t n_keep)
{
    sigset_t all, old;
    pid_t parent = getpid();

    (void)sigfillset(&all);
    (void)sigprocmask(SIG_SETMASK, &all, &old);
    pid_t pid = fork();
    if (pid == 0)
        child_run(parent, sock, fn, arg, keep, n_keep);
    int error = errno;
    (void)sigprocmask(SIG_SETMASK, &old, NULL);
    return pid < 0 ? -error : pid;
}

static int child_start(struct child *c, child_fn fn, void *arg, const int *keep_fds, size_t n_keep)
{
    int pair[2];
    AUTO_FREE int *keep = malloc((n_keep + 1) * sizeof(*keep));

    if (!keep)
        return -ENOMEM;
    int r = fdmsg_pair(pair);
    if (r < 0)
        return r;
    c->sock = pair[0];
    AUTO_CLOSE int theirs = pair[1];
    if (fcntl(c->sock, F_SETFL, O_NONBLOCK) < 0)
        return -errno;
    if (n_keep > 0)
        memcpy(keep, keep_fds, n_keep * sizeof(*keep));
    keep[n_keep] = theirs;
    pid_t pid = child_fork(theirs, fn, arg, keep, n_keep + 1);
    if (pid < 0)
        return pid;
    c->pid = pid;
    c->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    return c->pidfd < 0 ? -errno : 0;
}

static int child_watch(struct child *c, struct event_base *base)
{
    c->message_event = event_new(base, c->sock, EV_READ | EV_PERSIST, child_on_message, c);
    c->deadline_event = event_new(base, -1, 0, child_on_deadline, c);
    c->exit_event = event_new(base, c->pidfd, EV_READ | EV_PERSIST, child_on_exit, c);
    if (!c->message_event || !c->deadline_event || !c->exit_event || event_add(c->message_event, NULL) < 0 ||
        event_add(c->exit_event, NULL) < 0)
        return -ENOMEM;
    return 0;
}

int child_spawn(struct event_base *base, child_fn fn, void *arg, const int *keep_fds, size_t n_keep,
                uint64_t deadline_ns, const struct child_ops *ops, void *userdata, struct child **ret)
{
    CLEANUP(cleanup_child) struct child *c = NULL;

    assert(ops->message && ops->ended);
    if (n_children >= CHILD_MAX)
        return -EAGAIN;
    c = calloc(1, sizeof(*c));
    if (!c)
        return -ENOMEM;
    c->pidfd = c->sock = -1;
    c->ops = ops;
    c->userdata = userdata;
    int r = child_start(c, fn, arg, keep_fds, n_keep);
    if (r == 0)
        r = child_watch(c, base);
    if (r < 0) {
        if (c->pid > 0) { /* just forked: nothing it does yet can hold it up */
            (void)kill(c->pid, SIGKILL);
            (void)waitpid(c->pid, NULL, 0);
        }
        return r;
    }
    c->live = true;
    child_link(c);
    child_set_deadline(c, deadline_ns);
    *ret = TAKE_PTR(c);
    return 0;
}

int child_send(struct child *c, const void *data, size_t len, const int *fds, size_t n_fds)
{
    assert(c->live);
    return fdmsg_send(c->sock, data, len, fds, n_fds);
}

void child_set_user(struct child *c, const struct child_ops *ops, void *userdata)
{
    c->ops = ops;
    c->userdata = userdata;
}

void child_set_deadline(struct child *c, uint64_t deadline_ns)
{
    struct timeval tv = {
        .tv_sec = (time_t)(deadline_ns / NSEC_PER_SEC),
        .tv_usec = (suseconds_t)(deadline_ns % NSEC_PER_SEC / 1000),
    };

    assert(c->live);
    if (deadline_ns == 0)
        (void)event_del(c->deadline_event);
    else
        (void)event_add(c->deadline_event, &tv);
}

void child_kill(struct child *c)
{
    if (!c || !c->live)
        return;
    child_signal_kill(c);
    c->live = false;
    child_disconnect(c);
    child_free_if_over(c);
}

void child_kill_all(void)
{
    while (children) {
        struct child *c = children;
        child_signal_kill(c);
        if (!c->reaped)
            (void)waitpid(c->pid, NULL, WNOHANG);
        child_free(c);
    }
}

size_t child_count(void)
{
    return n_children;
}

void child_set_owner(struct child *c, uint64_t owner)
{
    c->owner = owner;
}

size_t child_count_hanging(uint64_t owner)
{
    size_t n = 0;

    for (const struct child *c = children; c; c = c->next)
        n += c->owner == owner && !c->live && !c->reaped;
    return n;
}

uint64_t child_total_cpu_ns(void)
{
    return total_cpu_ns;
}
