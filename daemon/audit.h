/* The audit log: one line for each session, at its end. */
#pragma once

#include <sys/types.h>

struct asker;
struct session_params;

#define AUDIT_NO_UID ((uid_t)-1) /* the target was never looked at */

/* comm: at most 16 bytes count. who: uid and address; whom: pid, comm, uid; what: kind and parameters; how it ended: status and words. */
void audit_session(const struct asker *asker, pid_t pid, const char *comm, uid_t uid, const char *kind,
                   const struct session_params *params, int status, const char *how);
