/* What a thread waits for, by the system call that it is in. Owns the table of them. */
#include "daemon/thread_state.h"

#include <fcntl.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Bits of a task's state and of its exit state: include/linux/sched.h. */
#define TASK_INTERRUPTIBLE 0x1u
#define TASK_UNINTERRUPTIBLE 0x2u
#define TASK_STOPPED 0x4u
#define TASK_TRACED 0x8u
#define TASK_RTLOCK_WAIT 0x1000u
#define TASK_FROZEN 0x8000u
#define TASK_WAITS (TASK_INTERRUPTIBLE | TASK_UNINTERRUPTIBLE | TASK_RTLOCK_WAIT)

#define LOCK_WAIT SAMPLE_STATE_LOCK
#define IO_WAIT SAMPLE_STATE_IO
#define SLEEP SAMPLE_STATE_SLEEP
#define OTHER SAMPLE_STATE_OTHER

/* By name: numbers differ from one architecture to the next. To add one: a line here. */
static const struct waiting_call {
    const char *name;
    enum sample_state state;
    const char *text;
} calls[] = {
    {"futex", LOCK_WAIT, "futex wait"}, {"futex_waitv", LOCK_WAIT, "futex wait"}, {"futex_wait", LOCK_WAIT, "futex wait"},
    {"semop", LOCK_WAIT, "semaphore wait"}, {"semtimedop", LOCK_WAIT, "semaphore wait"}, {"flock", LOCK_WAIT, "file lock wait"},
    {"nanosleep", SLEEP, "sleep"}, {"clock_nanosleep", SLEEP, "sleep"},
    {"select", SLEEP, "select"}, {"pselect6", SLEEP, "select"}, {"poll", SLEEP, "select"}, {"ppoll", SLEEP, "select"},
    {"epoll_wait", SLEEP, "select"}, {"epoll_pwait", SLEEP, "select"}, {"epoll_pwait2", SLEEP, "select"},
    {"pause", OTHER, "signal wait"}, {"rt_sigsuspend", OTHER, "signal wait"}, {"rt_sigtimedwait", OTHER, "signal wait"},
    {"wait4", OTHER, "child wait"}, {"waitid", OTHER, "child wait"},
    {"vfork", OTHER, "vfork wait"}, {"clone", OTHER, "vfork wait"}, {"clone3", OTHER, "vfork wait"},
    {"msgrcv", IO_WAIT, "IO wait"}, {"msgsnd", IO_WAIT, "IO wait"}, {"mq_timedreceive", IO_WAIT, "IO wait"},
    {"mq_timedsend", IO_WAIT, "IO wait"},
    {"read", IO_WAIT, "IO wait"}, {"readv", IO_WAIT, "IO wait"}, {"pread64", IO_WAIT, "IO wait"}, {"preadv", IO_WAIT, "IO wait"},
    {"preadv2", IO_WAIT, "IO wait"}, {"write", IO_WAIT, "IO wait"}, {"writev", IO_WAIT, "IO wait"}, {"pwrite64", IO_WAIT, "IO wait"},
    {"pwritev", IO_WAIT, "IO wait"}, {"pwritev2", IO_WAIT, "IO wait"}, {"recvfrom", IO_WAIT, "IO wait"}, {"recvmsg", IO_WAIT, "IO wait"},
    {"recvmmsg", IO_WAIT, "IO wait"}, {"sendto", IO_WAIT, "IO wait"}, {"sendmsg", IO_WAIT, "IO wait"}, {"sendmmsg", IO_WAIT, "IO wait"},
    {"accept", IO_WAIT, "IO wait"}, {"accept4", IO_WAIT, "IO wait"}, {"connect", IO_WAIT, "IO wait"}, {"fsync", IO_WAIT, "IO wait"},
    {"fdatasync", IO_WAIT, "IO wait"}, {"sync", IO_WAIT, "IO wait"}, {"syncfs", IO_WAIT, "IO wait"}, {"splice", IO_WAIT, "IO wait"},
    {"tee", IO_WAIT, "IO wait"}, {"sendfile", IO_WAIT, "IO wait"}, {"copy_file_range", IO_WAIT, "IO wait"},
    {"open", IO_WAIT, "IO wait"}, {"openat", IO_WAIT, "IO wait"}, {"io_getevents", IO_WAIT, "IO wait"},
    {"io_pgetevents", IO_WAIT, "IO wait"}, {"io_uring_enter", IO_WAIT, "IO wait"},
};

static const struct waiting_call *call_find(const char *name)
{
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
        if (strcmp(calls[i].name, name) == 0)
            return &calls[i];
    return NULL;
}

static bool is_lock_call(const struct thread_record *t, const char *name)
{
    return strcmp(name, "fcntl") == 0 && (t->args[1] == F_SETLKW || t->args[1] == F_OFD_SETLKW);
}

static enum sample_state state_set(enum sample_state state, const char *text, char ret_text[THREAD_STATE_TEXT])
{
    (void)snprintf(ret_text, THREAD_STATE_TEXT, "%s", text);
    return state;
}

static enum sample_state state_of_call(const struct thread_record *t, char ret_text[THREAD_STATE_TEXT])
{
    char *name = seccomp_syscall_resolve_num_arch(seccomp_arch_native(), (int)t->syscall);
    const struct waiting_call *call = name ? call_find(name) : NULL;
    enum sample_state state = t->in_iowait ? IO_WAIT : call ? call->state : OTHER;

    if (t->in_iowait)
        (void)state_set(IO_WAIT, "IO wait", ret_text);
    else if (call)
        (void)state_set(call->state, call->text, ret_text);
    else if (name && is_lock_call(t, name))
        state = state_set(LOCK_WAIT, "file lock wait", ret_text);
    else
        (void)snprintf(ret_text, THREAD_STATE_TEXT, "syscall %.30s", name ? name : "unknown");
    free(name);
    return state;
}

enum sample_state thread_state(const struct thread_record *t, char ret_text[THREAD_STATE_TEXT])
{
    if (t->exit_state)
        return state_set(OTHER, "exited", ret_text);
    if (t->on_cpu)
        return state_set(SAMPLE_STATE_CPU, "running", ret_text);
    if (t->state & TASK_STOPPED)
        return state_set(OTHER, "stopped", ret_text);
    if (t->state & TASK_TRACED)
        return state_set(OTHER, "traced", ret_text);
    if (t->state & TASK_FROZEN)
        return state_set(OTHER, "frozen", ret_text);
    if (!(t->state & TASK_WAITS))
        return state_set(SAMPLE_STATE_RUNQ, "runnable", ret_text);
    if (t->syscall >= 0)
        return state_of_call(t, ret_text);
    return state_set(t->in_iowait ? IO_WAIT : OTHER, "page fault", ret_text);
}
