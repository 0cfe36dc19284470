/* Messages with file descriptors over SOCK_SEQPACKET socket pairs: how the loop, its children and its
 * workers talk. One message is one datagram, so a reader never sees half of one. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#define FDMSG_MAX_FDS 16
#define FDMSG_MAX_BYTES 65536

/* A connected pair, both ends CLOEXEC and blocking, with room for a few messages. 0 or -errno. */
int fdmsg_pair(int ret_fds[2]);

/* Sends one message. fds stay the caller's. 0, or -errno (-EAGAIN on a full non-blocking socket,
 * -EPIPE when the peer is gone). MSG_NOSIGNAL is used. */
int fdmsg_send(int sock, const void *data, size_t len, const int *fds, size_t n_fds);

/* Receives one message into buf. Returns its length, 0 at the peer's end of file, or -errno.
 * Received fds (CLOEXEC) become the caller's; n_fds is in: room in fds, out: how many came.
 * A message longer than cap is -EMSGSIZE, and its fds are closed; one with fds for which this process has no descriptors left is -EMFILE; fds
 * beyond the room are closed. */
ssize_t fdmsg_recv(int sock, void *buf, size_t cap, int *fds, size_t *n_fds);
