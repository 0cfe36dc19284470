/* Formats the line; the log escapes what targets named. Owns nothing. */
#include "daemon/audit.h"

#include <stdio.h>
#include <string.h>

#include "daemon/asker.h"
#include "daemon/collector.h"
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

/* A kind's own name stands as it is; one that a client has given to a profile may have anything in it. */
static const char *audit_kind(const char *kind, char *out, size_t out_len)
{
    return kind[strspn(kind, "abcdefghijklmnopqrstuvwxyz0123456789_")] ? audit_quote(kind, strlen(kind), out, out_len) : kind;
}

struct audit_people {
    char who[32], whose[32];
};

static struct audit_people audit_people(const struct asker *asker, uid_t uid)
{
    struct audit_people p = {"unknown", "-"};

    if (asker->known)
        (void)snprintf(p.who, sizeof(p.who), "%u", asker->uid);
    if (uid != AUDIT_NO_UID)
        (void)snprintf(p.whose, sizeof(p.whose), "%u", uid);
    return p;
}

void audit_session(const struct asker *asker, pid_t pid, const char *comm, uid_t uid, const char *kind,
                   const struct session_params *params, int status, const char *how)
{
    struct audit_people people = audit_people(asker, uid);
    char name[64], event[512], end[1024];

    log_info("session uid=%s address=%s pid=%d comm=%s target_uid=%s kind=%s event=%s period=%llu seconds=%g kernel=%d status=%d ended=%s",
             people.who, asker->address, pid, audit_quote(comm, 16, name, sizeof(name)), people.whose, kind,
             audit_quote(params->event_text, sizeof(params->event_text), event, sizeof(event)), (unsigned long long)params->period,
             (double)params->duration_ns / (double)NSEC_PER_SEC, params->kernel, status,
             audit_quote(how, strlen(how), end, sizeof(end)));
}

void audit_watch(const struct asker *asker, const struct collector_target *target, pid_t pid, const char *kind, const char *rule,
                 uint64_t duration_ns, int status, const char *how)
{
    struct audit_people people = audit_people(asker, target ? target->uid : AUDIT_NO_UID);
    char name[64], named[512], by[512], end[1024];

    log_info("watch uid=%s address=%s pid=%d comm=%s target_uid=%s kind=%s rule=%s seconds=%g status=%d ended=%s",
             people.who, asker->address, pid, audit_quote(target ? target->comm : "", 16, name, sizeof(name)), people.whose,
             audit_kind(kind, named, sizeof(named)), audit_quote(rule ? rule : "", rule ? strlen(rule) : 0, by, sizeof(by)),
             (double)duration_ns / (double)NSEC_PER_SEC, status,
             audit_quote(how, strlen(how), end, sizeof(end)));
}
