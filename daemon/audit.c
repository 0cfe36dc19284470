/* Formats the line; the log escapes what targets named. Owns nothing. */
#include "daemon/audit.h"

#include <stdio.h>

#include "daemon/asker.h"
#include "daemon/log.h"
#include "daemon/session_params.h"
#include "util/clock.h"

void audit_session(const struct asker *asker, pid_t pid, const char comm[16], uid_t uid, const char *kind,
                   const struct session_params *params, int status, const char *how)
{
    char who[32] = "unknown";

    if (asker->known)
        (void)snprintf(who, sizeof(who), "%u", asker->uid);
    log_info("session uid=%s address=%s pid=%d comm=\"%.16s\" target_uid=%u kind=%s event=%.200s period=%llu seconds=%g kernel=%d "
             "status=%d ended=\"%.300s\"",
             who, asker->address, pid, comm, uid, kind, params->event_text, (unsigned long long)params->period,
             (double)params->duration_ns / (double)NSEC_PER_SEC, params->kernel, status, how);
}
