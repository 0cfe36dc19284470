/* What a thread of a dump waits for, by the system call that it is in. Owns what such waits are called. */
#include "daemon/thread_state.h"

#include <fcntl.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

#include "bpf/syscall_states.h"

/* Bits of a task's state and of its exit state: include/linux/sched.h. */
#define TASK_INTERRUPTIBLE 0x1u
#define TASK_UNINTERRUPTIBLE 0x2u
#define TASK_STOPPED 0x4u
#define TASK_TRACED 0x8u
#define TASK_RTLOCK_WAIT 0x1000u
#define TASK_FROZEN 0x8000u
#define TASK_WAITS (TASK_INTERRUPTIBLE | TASK_UNINTERRUPTIBLE | TASK_RTLOCK_WAIT)

#define OTHER SAMPLE_STATE_OTHER

/* What waits are called, by the system call's name: numbers differ from one architecture to the next. For what is not here its state tells enough, or
 * its name does. */
static const struct waiting_call {
    const char *name;
    const char *text;
} calls[] = {
    {"futex", "futex wait"}, {"futex_waitv", "futex wait"}, {"futex_wait", "futex wait"},
    {"semop", "semaphore wait"}, {"semtimedop", "semaphore wait"}, {"flock", "file lock wait"}, {"fcntl", "file lock wait"},
    {"nanosleep", "sleep"}, {"clock_nanosleep", "sleep"},
    {"select", "select"}, {"pselect6", "select"}, {"poll", "select"}, {"ppoll", "select"},
    {"epoll_wait", "select"}, {"epoll_pwait", "select"}, {"epoll_pwait2", "select"},
    {"pause", "signal wait"}, {"rt_sigsuspend", "signal wait"}, {"rt_sigtimedwait", "signal wait"},
    {"wait4", "child wait"}, {"waitid", "child wait"},
    {"vfork", "vfork wait"}, {"clone", "vfork wait"}, {"clone3", "vfork wait"},
};

static const char *call_text(const char *name)
{
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
        if (strcmp(calls[i].name, name) == 0)
            return calls[i].text;
    return NULL;
}

/* As the scheduler's programs have it, so that a wait has the same state however it was seen. */
static enum sample_state call_state(int64_t number)
{
    static uint8_t states[SCHED_SYSCALLS]; /* SAMPLE_STATE_NONE: it is not filled in; or nothing in particular */

    if (states[SYS_nanosleep] == SAMPLE_STATE_NONE)
        syscall_states(states);
    if (number < 0 || number >= SCHED_SYSCALLS || states[number] == SAMPLE_STATE_NONE)
        return OTHER;
    return states[number];
}

/* fcntl waits for file locks alone, by these. */
static bool waits_for_nothing(const struct thread_record *t)
{
    return t->syscall == SYS_fcntl && t->args[1] != F_SETLKW && t->args[1] != F_OFD_SETLKW;
}

static enum sample_state state_set(enum sample_state state, const char *text, char ret_text[THREAD_STATE_TEXT])
{
    (void)snprintf(ret_text, THREAD_STATE_TEXT, "%s", text);
    return state;
}

static enum sample_state state_of_call(const struct thread_record *t, char ret_text[THREAD_STATE_TEXT])
{
    enum sample_state state = t->in_iowait ? SAMPLE_STATE_IO : waits_for_nothing(t) ? OTHER : call_state(t->syscall);
    char *name = seccomp_syscall_resolve_num_arch(seccomp_arch_native(), (int)t->syscall);
    const char *text = state == SAMPLE_STATE_IO ? "IO wait" : name && !waits_for_nothing(t) ? call_text(name) : NULL;

    if (text)
        (void)state_set(state, text, ret_text);
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
    return state_set(t->in_iowait ? SAMPLE_STATE_IO : OTHER, "page fault", ret_text);
}
