/* Datagrams with descriptors. Owns nothing: every fd is either the caller's or closed here on error. */
#include "util/fdmsg.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "util/cleanup.h"

int fdmsg_pair(int ret_fds[2])
{
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
        return -errno;
    /* A message may hold a whole path and a header; the default buffer takes three of the largest. */
    int size = 4 * FDMSG_MAX_BYTES;
    for (int i = 0; i < 2; i++)
        (void)setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
    ret_fds[0] = fds[0];
    ret_fds[1] = fds[1];
    return 0;
}

int fdmsg_send(int sock, const void *data, size_t len, const int *fds, size_t n_fds)
{
    union {
        char buf[CMSG_SPACE(FDMSG_MAX_FDS * sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct iovec iov = {.iov_base = (void *)data, .iov_len = len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

    if (n_fds > FDMSG_MAX_FDS || len > FDMSG_MAX_BYTES)
        return -EMSGSIZE;
    if (n_fds > 0) {
        msg.msg_control = control.buf;
        msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
    }
    for (;;) {
        if (sendmsg(sock, &msg, MSG_NOSIGNAL) >= 0)
            return 0;
        if (errno != EINTR)
            return -errno;
    }
}

/* Hands the descriptors of one control message over, or closes those that find no room. */
static size_t take_fds(const struct cmsghdr *c, int *fds, size_t have, size_t room)
{
    size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    int received[FDMSG_MAX_FDS];
    memcpy(received, CMSG_DATA(c), n * sizeof(int));
    for (size_t i = 0; i < n; i++) {
        if (have < room)
            fds[have++] = received[i];
        else
            (void)close(received[i]);
    }
    return have;
}

ssize_t fdmsg_recv(int sock, void *buf, size_t cap, int *fds, size_t *n_fds)
{
    union {
        char buf[CMSG_SPACE(FDMSG_MAX_FDS * sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct iovec iov = {.iov_base = buf, .iov_len = cap};
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.buf, .msg_controllen = sizeof(control.buf),
    };
    ssize_t len;
    do
        len = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
    while (len < 0 && errno == EINTR);
    if (len < 0)
        return -errno;

    size_t room = n_fds ? *n_fds : 0, have = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
            have = take_fds(c, fds, have, room);
    if (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
        for (size_t i = 0; i < have; i++)
            close_fd(&fds[i]);
        return msg.msg_flags & MSG_TRUNC ? -EMSGSIZE : -EMFILE; /* the room here is for all that is ever sent */
    }
    if (n_fds)
        *n_fds = have;
    return len;
}
