/* One worker process. Owns its socket, a pidfd (so that its pid can't be mistaken for a later process's) and
 * the events on both. posix_spawn starts it without copying the loop's page tables. */
#include "daemon/worker_process.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/worker_pool.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/fdmsg.h"

/* At the daemon's end; a killed process that is still there then may hang in a target's file. */
#define WORKER_REAP_WAIT_MSEC 1000

struct worker_process {
    const struct worker_process_ops *ops;
    void *userdata;
    pid_t pid;
    int pidfd;
    int sock;
    struct event *readable, *exited;
    bool killed;
};

static bool worker_text_ends(const char *text, size_t cap)
{
    return memchr(text, '\0', cap) != NULL;
}

static bool worker_message_ok(const struct worker_message *m, ssize_t len)
{
    if (len != (ssize_t)sizeof(*m))
        return false;
    if (m->type == WORKER_NEED)
        return worker_text_ends(m->u.need.name, sizeof(m->u.need.name)) &&
               worker_text_ends(m->u.need.build_id, sizeof(m->u.need.build_id));
    if (m->type == WORKER_DONE)
        return worker_text_ends(m->u.done.message, sizeof(m->u.done.message));
    return m->type == WORKER_TOUCH || m->type == WORKER_DRAFT || m->type == WORKER_REST;
}

/* Reads one message. False where there is none yet. */
static bool worker_process_read(struct worker_process *p)
{
    struct worker_message message;
    ssize_t n = fdmsg_recv(p->sock, &message, sizeof(message), NULL, NULL);

    if (n == -EAGAIN)
        return false;
    if (worker_message_ok(&message, n))
        p->ops->message(p, &message, p->userdata);
    else
        p->ops->lost(p, p->userdata);
    return true;
}

/* One message a call: a worker that floods its socket gets no more of the loop than others do. */
static void worker_process_on_readable(evutil_socket_t fd, short what, void *arg)
{
    (void)worker_process_read(arg);
}

static uint64_t worker_timeval_ns(struct timeval tv)
{
    return (uint64_t)tv.tv_sec * NSEC_PER_SEC + (uint64_t)tv.tv_usec * 1000;
}

static void worker_process_destroy(struct worker_process *p)
{
    if (p->readable)
        event_free(p->readable);
    if (p->exited)
        event_free(p->exited);
    cleanup_close(&p->sock);
    cleanup_close(&p->pidfd);
    free(p);
}

static void worker_process_on_exit(evutil_socket_t fd, short what, void *arg)
{
    struct worker_process *p = arg;
    struct rusage usage = {0};
    int status = 0;

    /* An end that nobody asked for: its last words count (which object it had touched), then it is told as a
     * loss. */
    while (!p->killed && worker_process_read(p))
        continue;
    if (!p->killed)
        p->ops->lost(p, p->userdata);
    if (wait4(p->pid, &status, WNOHANG, &usage) == 0)
        return;
    p->ops->reaped(p, status, worker_timeval_ns(usage.ru_utime) + worker_timeval_ns(usage.ru_stime),
                   p->userdata);
    worker_process_destroy(p);
}

/* The terminal's and the service manager's signals go to the whole group: the daemon decides when a worker
 * ends. */
static int worker_spawn_attributes(posix_spawnattr_t *attr)
{
    static const int blocked[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGTSTP};
    sigset_t mask, defaults;

    (void)sigemptyset(&mask);
    for (size_t i = 0; i < sizeof(blocked) / sizeof(blocked[0]); i++)
        (void)sigaddset(&mask, blocked[i]);
    (void)sigfillset(&defaults);
    int r = posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    if (r == 0)
        r = posix_spawnattr_setsigmask(attr, &mask);
    if (r == 0)
        r = posix_spawnattr_setsigdefault(attr, &defaults);
    return -r;
}

static int worker_spawn_with(const struct worker_limits *limits, const posix_spawn_file_actions_t *actions,
                             const posix_spawnattr_t *attr, pid_t *ret_pid)
{
    char parent[32], memory[48], cache[48];
    char *argv[] = {"cprofd", "--role=worker", parent, memory, cache, NULL};

    (void)snprintf(parent, sizeof(parent), "--parent=%d", (int)getpid());
    (void)snprintf(memory, sizeof(memory), "--memory-bytes=%llu", (unsigned long long)limits->memory_bytes);
    (void)snprintf(cache, sizeof(cache), "--cache-bytes=%llu", (unsigned long long)limits->cache_bytes);
    return -posix_spawn(ret_pid, limits->executable ? limits->executable : "/proc/self/exe", actions, attr,
                        argv, environ);
}

/* Executes a worker with sock as its descriptor 3. */
static int worker_spawn(const struct worker_limits *limits, int sock, pid_t *ret_pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;

    int r = -posix_spawn_file_actions_init(&actions);
    if (r < 0)
        return r;
    r = -posix_spawnattr_init(&attr);
    if (r == 0) {
        r = -posix_spawn_file_actions_adddup2(&actions, sock, 3);
        if (r == 0)
            r = worker_spawn_attributes(&attr);
        if (r == 0)
            r = worker_spawn_with(limits, &actions, &attr, ret_pid);
        (void)posix_spawnattr_destroy(&attr);
    }
    (void)posix_spawn_file_actions_destroy(&actions);
    return r;
}

static int worker_process_watch(struct event_base *base, struct worker_process *p)
{
    p->readable = event_new(base, p->sock, EV_READ | EV_PERSIST, worker_process_on_readable, p);
    p->exited = event_new(base, p->pidfd, EV_READ | EV_PERSIST, worker_process_on_exit, p);
    if (!p->readable || !p->exited || event_add(p->readable, NULL) < 0 || event_add(p->exited, NULL) < 0)
        return -ENOMEM;
    return 0;
}

int worker_process_start(struct event_base *base, const struct worker_limits *limits,
                         const struct worker_process_ops *ops, void *userdata, struct worker_process **ret)
{
    struct worker_process *p = calloc(1, sizeof(*p));
    int pair[2];

    if (!p)
        return -ENOMEM;
    *p = (struct worker_process){.ops = ops, .userdata = userdata, .pidfd = -1, .sock = -1};
    int r = fdmsg_pair(pair);
    if (r < 0) {
        free(p);
        return r;
    }
    AUTO_CLOSE int theirs = pair[1];
    p->sock = pair[0];
    r = fcntl(p->sock, F_SETFL, O_NONBLOCK) < 0 ? -errno : worker_spawn(limits, theirs, &p->pid);
    if (r < 0) {
        worker_process_destroy(p);
        return r;
    }
    close_fd(&theirs); /* its place is the pidfd's, where there are few */
    p->pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0);
    r = p->pidfd < 0 ? -errno : worker_process_watch(base, p);
    if (r < 0) {
        worker_process_free(p);
        return r;
    }
    *ret = p;
    return 0;
}

int worker_process_send(struct worker_process *p, const struct worker_message *message, const int *fds,
                        size_t n_fds)
{
    return fdmsg_send(p->sock, message, sizeof(*message), fds, n_fds);
}

void worker_process_kill(struct worker_process *p)
{
    if (p->killed)
        return;
    p->killed = true;
    (void)event_del(p->readable);
    close_fd(&p->sock);
    (void)kill(p->pid, SIGKILL); /* not reaped yet, so the pid is still its own */
}

pid_t worker_process_pid(const struct worker_process *p)
{
    return p->pid;
}

uint64_t worker_process_cpu_ns(const struct worker_process *p)
{
    clockid_t clock;

    return clock_getcpuclockid(p->pid, &clock) == 0 ? clock_ns(clock) : 0;
}

void worker_process_free(struct worker_process *p)
{
    struct pollfd exited = {.fd = p->pidfd, .events = POLLIN};

    (void)kill(p->pid, SIGKILL);
    if (p->pidfd >= 0)
        (void)poll(&exited, 1, WORKER_REAP_WAIT_MSEC);
    (void)waitpid(p->pid, NULL, p->pidfd < 0 ? 0 : WNOHANG); /* one without was spawned just now: nothing holds it up */
    worker_process_destroy(p);
}
