/* What a wait is called. Go's viewer sorts waits by words in their reasons: "sync", "chan" and "select" go to the synchronization
 * blocking profile, exactly "network" goes to the network blocking profile (go/src/cmd/trace/pprof.go). So locks say sync, waits for
 * sockets and for readiness are network, and no other reason holds one of these words, be it in a system call's name (fsync). */
#include <stdio.h>
#include <string.h>

#include "pprof/exec_trace_impl.h"

static const char *const state_words[EXEC_STATE_COUNT] = {
    [EXEC_RUNNING] = "running", [EXEC_RUNNABLE] = "preempted", [EXEC_LOCK] = "lock",
    [EXEC_IO] = "io",           [EXEC_SLEEP] = "sleep",        [EXEC_OTHER] = "wait",
};

/* Calls that wait for sockets or for readiness. */
static const char *const network_calls[] = {
    "accept",  "accept4", "connect",     "recvfrom",   "recvmsg",     "recvmmsg", "sendto", "sendmsg",
    "sendmmsg", "poll",   "ppoll",       "select",     "pselect6",    "epoll_wait", "epoll_pwait", "epoll_pwait2",
};

/* Calls whose names hold a word that has a meaning in reasons. */
static const struct {
    const char *call, *shown;
} renamed_calls[] = {
    {"fsync", "flush of a file"},     {"fdatasync", "flush of data"},         {"sync", "flush of all files"},
    {"syncfs", "flush of a file system"}, {"sync_file_range", "flush of a range"}, {"msync", "flush of a mapping"},
};

static const char *call_name(const struct exec_trace *trace, uint16_t call)
{
    return call == EXEC_NO_CALL ? NULL : trace->call_name(call - 1u);
}

static bool is_network(const char *call)
{
    for (size_t i = 0; call && i < sizeof(network_calls) / sizeof(*network_calls); i++)
        if (strcmp(call, network_calls[i]) == 0)
            return true;
    return false;
}

static const char *reason_name(const char *call)
{
    for (size_t i = 0; call && i < sizeof(renamed_calls) / sizeof(*renamed_calls); i++)
        if (strcmp(call, renamed_calls[i].call) == 0)
            return renamed_calls[i].shown;
    return call;
}

static void words(const char *state, const char *call, char ret[EXEC_WORDS_BYTES])
{
    if (call)
        (void)snprintf(ret, EXEC_WORDS_BYTES, "%s (%s)", state, call);
    else
        (void)snprintf(ret, EXEC_WORDS_BYTES, "%s", state);
}

void exec_reason(const struct exec_trace *trace, uint8_t state, uint16_t call, char ret[EXEC_WORDS_BYTES])
{
    const char *name = call_name(trace, call);
    if (state == EXEC_LOCK)
        words("sync", name, ret);
    else if (exec_state_waits(state) && is_network(name))
        words("network", NULL, ret);
    else
        words(state_words[state], exec_state_waits(state) ? reason_name(name) : NULL, ret);
}

void exec_state_words(const struct exec_trace *trace, uint8_t state, uint16_t call, char ret[EXEC_WORDS_BYTES])
{
    words(state_words[state], exec_state_waits(state) ? call_name(trace, call) : NULL, ret);
}
