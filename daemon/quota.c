/* Counts the running sessions against the settings. Owns nothing. */
#include "daemon/quota.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <stdbool.h>
#include <stdio.h>

#include "daemon/asker.h"
#include "daemon/child.h"
#include "daemon/recording.h"
#include "daemon/server.h"
#include "util/clock.h"

struct quota_use {
    unsigned all, target, asker;
    double hz, asker_hz;
};

/* Children that only root may start. */
#define QUOTA_ROOT_CHILDREN 64
/* Children of one asker that were killed and hang, in a file system that does not answer. */
#define QUOTA_HANGING_CHILDREN 128

static uint64_t quota_owner(const struct asker *asker)
{
    return asker->known ? (uint64_t)asker->uid + 1 : UINT64_MAX; /* strangers are one asker */
}

void quota_own_child(const struct asker *asker, struct child *child)
{
    child_set_owner(child, quota_owner(asker));
}

int quota_check_child(const struct asker *asker, char *message, size_t message_len)
{
    bool root = asker->known && asker->uid == 0;

    size_t n_hanging = child_count_hanging(quota_owner(asker));
    if (!root && n_hanging >= QUOTA_HANGING_CHILDREN)
        (void)snprintf(message, message_len, "too much to do: %zu requests of yours hang in processes that do not let themselves be read", n_hanging);
    else if (!root && child_count() >= CHILD_MAX - QUOTA_ROOT_CHILDREN)
        (void)snprintf(message, message_len, "too much to do: %zu requests look at processes already", child_count());
    else
        return 0;
    return -EBUSY;
}

/* All that come from elsewhere count as one asker: nothing tells them apart that they could not change. */
static bool quota_same_asker(const struct asker *a, const struct asker *b)
{
    return a->known == b->known && (!a->known || a->uid == b->uid);
}

static struct quota_use quota_count(const struct server *server, const struct asker *asker, pid_t pid)
{
    struct quota_use use = {0};

    for (size_t i = 0; i < CPROFD_MAX_SESSIONS; i++) {
        const struct recording *rec = server->recordings[i];
        if (!rec)
            continue;
        double hz = recording_rate_hz(rec);
        /* What root does is not held against others. */
        bool by_root = recording_asker(rec)->known && recording_asker(rec)->uid == 0;
        use.all += !by_root;
        use.hz += by_root ? 0 : hz;
        use.target += !by_root && recording_pid(rec) == pid;
        if (quota_same_asker(recording_asker(rec), asker)) {
            use.asker++;
            use.asker_hz += hz;
        }
    }
    return use;
}

/* A CPU's counter of cycles or instructions runs at about this rate; other hardware events at less. */
#define QUOTA_HARDWARE_HZ 3e9
/* Events of software and probes come as often as the host makes them: each is counted as so many. */
#define QUOTA_SOFTWARE_HZ 1000

double quota_rate_hz(const struct session_params *params)
{
    if (params->event == EVENT_DUMP || params->event == EVENT_SCHED || params->event == EVENT_HEAP || params->event == EVENT_CUSTOM)
        return 0; /* one look */
    if (params->event == EVENT_CPU_CLOCK)
        return (double)NSEC_PER_SEC / (double)params->period;
    if (params->event == EVENT_PERF && params->perf_type != PERF_TYPE_SOFTWARE)
        return QUOTA_HARDWARE_HZ / (double)params->period;
    return QUOTA_SOFTWARE_HZ;
}

int quota_check(const struct server *server, const struct asker *asker, pid_t pid, const struct session_params *params,
                 char *message, size_t message_len)
{
    const struct settings *set = server->settings;
    struct quota_use use = quota_count(server, asker, pid);
    double hz = quota_rate_hz(params);

    if (asker->known && asker->uid == 0)
        return 0;
    if (use.all >= set->max_sessions)
        (void)snprintf(message, message_len, "too many sessions: %u run, the limit is %u", use.all, set->max_sessions);
    else if (use.target >= set->max_sessions_target)
        (void)snprintf(message, message_len, "too many sessions on process %d: %u run, the limit is %u", pid, use.target,
                       set->max_sessions_target);
    else if (use.asker >= set->max_sessions_asker)
        (void)snprintf(message, message_len, "too many sessions of yours: %u run, the limit is %u", use.asker,
                       set->max_sessions_asker);
    else if (use.hz + hz > set->max_rate_hz)
        (void)snprintf(message, message_len, "too high a sampling rate: %.0f Hz run, %.0f more would pass the limit of %u Hz",
                       use.hz, hz, set->max_rate_hz);
    else if (use.asker_hz + hz > set->max_rate_asker_hz)
        (void)snprintf(message, message_len,
                       "too high a sampling rate: %.0f Hz of yours run, %.0f more would pass your limit of %u Hz",
                       use.asker_hz, hz, set->max_rate_asker_hz);
    else
        return 0;
    return -EBUSY;
}
