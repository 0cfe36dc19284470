/* How much may run at once: sessions in all, on one target, of one asker, and sampling rates together. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

struct asker;
struct child;
struct server;
struct session_params;

/* 0, or -EBUSY with a message that gives the figures. Root is refused only when no slot is left. */
int quota_check(const struct server *server, const struct asker *asker, pid_t pid, const struct session_params *params,
                 char *message, size_t message_len);

/* Whether a child may be started for this asker: the last places are root's, and no other has more than so many that hang. 0, or -EBUSY
 * with a message. */
int quota_check_child(const struct asker *asker, char *message, size_t message_len);
/* Counts a child, which was just started, as this asker's. */
void quota_own_child(const struct asker *asker, struct child *child);

/* What a session's events are counted as, in events a second: timers by their rate, others by what they may come to on the host. */
double quota_rate_hz(const struct session_params *params);
