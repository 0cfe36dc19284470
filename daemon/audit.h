/* The audit log: one line for each session, at its end. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

struct asker;
struct collector_target;
struct session_params;

#define AUDIT_NO_UID ((uid_t)-1) /* the target was never looked at */

/* comm: at most 16 bytes count. who: uid and address; whom: pid, comm, uid; what: kind and parameters; how it ended: status and words. */
void audit_session(const struct asker *asker, pid_t pid, const char *comm, uid_t uid, const char *kind,
                   const struct session_params *params, int status, const char *how);
/* The same of a watch that went on for duration_ns. target: NULL: it was never looked at. kind: in quotes unless it is as one of ours. rule: of the
 * configuration; NULL: the asker's. */
void audit_watch(const struct asker *asker, const struct collector_target *target, pid_t pid, const char *kind, const char *rule,
                 uint64_t duration_ns, int status, const char *how);
