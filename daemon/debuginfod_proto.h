/* Messages between the loop and a debuginfod client (util/fdmsg.h datagrams): one question at a time, each answered. What a client
 * sends may come from a server that took it over: the loop believes none of it.
 *
 *   client -> loop   READY     it may be asked, or why it never can
 *   loop -> client   LOOKUP    is there a file of that build id in the cache?
 *   loop -> client   DOWNLOAD  ask that server for it
 *   client -> loop   ANSWER    + the fd of a file, or an error */
#pragma once

#include <stdint.h>

enum debuginfod_message_type { DEBUGINFOD_READY = 1, DEBUGINFOD_LOOKUP, DEBUGINFOD_DOWNLOAD, DEBUGINFOD_ANSWER };

#define DEBUGINFOD_MAX_SERVERS 32 /* debuginfod_message.absent has a bit for each */
#define DEBUGINFOD_ID_ROOM 129    /* a build id in hex: 64 bytes at most */

struct debuginfod_message {
    uint32_t type;
    uint32_t server; /* DOWNLOAD: which one; ANSWER: whose file it is */
    int32_t error;   /* READY, ANSWER: 0 or -errno. -ENOENT: that server has none, or (LOOKUP) none is in the cache; -EFBIG: too large */
    uint32_t absent; /* ANSWER to LOOKUP: the servers that said not long ago that they have none */
    char build_id[DEBUGINFOD_ID_ROOM];
    char text[503];  /* READY: with an error what is wrong, without one what is less safe than it should be, or "". ANSWER: what failed */
};
_Static_assert(sizeof(struct debuginfod_message) == 648, "no holes: it is sent whole");
