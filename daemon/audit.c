/* Formats the line; the log escapes what targets named. Owns nothing. */
#include "daemon/audit.h"

#include <stdio.h>
#include <string.h>

#include "daemon/asker.h"
#include "daemon/log.h"
#include "daemon/session_params.h"
#include "util/clock.h"

/* In quotes, so that no name or message can pass for another field. */
static const char *audit_quote(const char *text, size_t len, char *out, size_t out_len)
{
    size_t n = 0;

    out[n++] = '"';
    for (size_t i = 0; i < len && text[i] && n + 3 < out_len; i++) {
        if (text[i] == '"' || text[i] == '\\')
            out[n++] = '\\';
        out[n++] = text[i];
    }
    out[n++] = '"';
    out[n] = '\0';
    return out;
}

void audit_session(const struct asker *asker, pid_t pid, const char *comm, uid_t uid, const char *kind,
                   const struct session_params *params, int status, const char *how)
{
    char who[32] = "unknown", whose[32] = "-", name[64], event[512], end[1024];

    if (asker->known)
        (void)snprintf(who, sizeof(who), "%u", asker->uid);
    if (uid != AUDIT_NO_UID)
        (void)snprintf(whose, sizeof(whose), "%u", uid);
    log_info("session uid=%s address=%s pid=%d comm=%s target_uid=%s kind=%s event=%s period=%llu seconds=%g kernel=%d status=%d ended=%s",
             who, asker->address, pid, audit_quote(comm, 16, name, sizeof(name)), whose, kind,
             audit_quote(params->event_text, sizeof(params->event_text), event, sizeof(event)), (unsigned long long)params->period,
             (double)params->duration_ns / (double)NSEC_PER_SEC, params->kernel, status,
             audit_quote(how, strlen(how), end, sizeof(end)));
}
