/* Who asks: found out from the connection, never from what the client says. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

struct settings;

struct asker {
    bool known;      /* false: from another machine, or through a configured proxy: only what everyone is granted */
    uid_t uid;       /* valid where known */
    gid_t gid;       /* valid where has_gid: Unix sockets; over TCP it is looked up in the user database (in a child) */
    bool has_gid;
    pid_t pid;       /* of a Unix socket's peer, for the capability check; 0: unknown (TCP): no capability is assumed unless uid 0 */
    bool proxied;    /* through a configured proxy (settings: proxy_uids) */
    bool local;      /* over a Unix socket: no browser can be made to speak on it, so Host is not checked */
    char address[80]; /* "127.0.0.1:4711", "[::1]:4711", "unix": for the audit log */
};

/* Finds out who is at the other end of a connected socket, now: the answer holds for this moment. Never fails: who can't be
 * found out is not known. Nothing in here blocks. */
void asker_identify(int fd, const struct settings *settings, struct asker *ret);
