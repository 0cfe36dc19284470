/* Who asks: found out from the connection, never from what the client says. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

struct asker {
    bool known;      /* false: from another machine, or through a configured proxy: only what everyone is granted */
    uid_t uid;       /* valid where known */
    gid_t gid;       /* valid where has_gid: Unix sockets; over TCP it is looked up in the user database (in a child) */
    bool has_gid;
    pid_t pid;       /* of a Unix socket's peer, for the capability check; 0: unknown (TCP): no capability is assumed unless uid 0 */
    char address[80]; /* "127.0.0.1:4711", "unix": for the audit log */
};
