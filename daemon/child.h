/* Privileged disposable children (collectors): a fork of the loop that runs one function for one request, and
 * may block wherever a target makes it block. The loop talks to it by messages and kills it at its deadline.
 *
 * A child has no descriptor of its parent's but its socket, stdio and the fds named at the spawn; it dies
 * with the daemon; its comm is "cprofd". It is forked without exec: what a request needs is there in memory,
 * and nothing is parsed. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct event_base;
struct child;

/* Children at one time, those included that were killed and hang in the kernel; one more is -EAGAIN. */
#define CHILD_MAX 512

struct child_ops {
    /* A message (util/fdmsg.h). The fds become the callee's. */
    void (*message)(struct child *c, const void *data, size_t len, int *fds, size_t n_fds, void *userdata);
    /* The child ended, hung past its deadline and was killed (timed_out), or closed its socket. Exactly once,
     * unless child_kill came first; the child is freed after it returns. cpu_ns: what it used, user and
     * system. */
    void (*ended)(struct child *c, bool timed_out, uint64_t cpu_ns, void *userdata);
    /* The process is gone, with all that it held: before ended or after it, in any case but child_kill_all. May be NULL. */
    void (*gone)(void *userdata);
    /* What its CPU time is added to once it is reaped; NULL: what child_total_cpu_ns tells. */
    uint64_t *total_cpu_ns;
};

/* The function a child runs; its return value is the exit status. sock is blocking; its end of file is the
 * parent's wish to end. */
typedef int (*child_fn)(int sock, void *arg);

/* Forks. keep_fds (n_keep of them) stay open in the child under the same numbers. deadline_ns: from now; 0:
 * none. 0 or -errno. */
int child_spawn(struct event_base *base, child_fn fn, void *arg, const int *keep_fds, size_t n_keep,
                uint64_t deadline_ns, const struct child_ops *ops, void *userdata, struct child **ret);
/* Sends it a message. 0 or -errno. */
int child_send(struct child *c, const void *data, size_t len, const int *fds, size_t n_fds);
/* Another user's from now on. */
void child_set_user(struct child *c, const struct child_ops *ops, void *userdata);
/* A new deadline from now, in place of the old one; 0: none. */
void child_set_deadline(struct child *c, uint64_t deadline_ns);
/* SIGKILL, no callback any more. Reaped in the background. NULL is fine, and so is a child whose ended is
 * just being called. */
void child_kill(struct child *c);
/* The end of the daemon: kills all, without callbacks; every struct child is gone after it. Before the event
 * base is freed. */
void child_kill_all(void);
/* How many there are, killed ones included until they are reaped. */
size_t child_count(void);
/* On whose behalf it works, a number of the caller's; 0 (none) at first. */
void child_set_owner(struct child *c, uint64_t owner);
/* Children of an owner that were killed and are not gone: they hang in the kernel, if they stay. */
size_t child_count_hanging(uint64_t owner);
/* For a child: dies with its parent from now on (again after a change of credentials, which the kernel
 * answers by forgetting it). 0, or -errno: the parent is gone. */
int child_die_with_parent(pid_t parent);
/* CPU time that it used so far. */
uint64_t child_cpu_ns(const struct child *c);
/* CPU time of all children that ended so far, for /metrics. */
uint64_t child_total_cpu_ns(void);
