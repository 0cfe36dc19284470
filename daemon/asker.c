/* Who asks, from the kernel's own books. On a Unix socket the peer's credentials; on loopback TCP the owner of the socket at
 * the client's end, by an exact NETLINK_SOCK_DIAG lookup of its four-tuple (man 7 sock_diag).
 *
 * A client that has closed its end leaves an entry without an owner, which reads as uid 0, and where the tuple is
 * not found the kernel answers with a listener: so only an ESTABLISHED entry of that very tuple with an inode
 * counts. Our own end is looked up too: a socket that was made in another network namespace (socket activation) has
 * namesakes here that belong to others. */
#include "daemon/asker.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "config/settings.h"
#include "util/cleanup.h"

/* An end of a connection in the form that inet_diag wants: v4-mapped addresses as the IPv4 that they are. */
struct endpoint {
    int family;
    uint32_t address[4]; /* network order; IPv4: the first word */
    uint16_t port;       /* network order */
};

static bool endpoint_from_sockaddr(const struct sockaddr_storage *ss, struct endpoint *ret)
{
    struct endpoint e = {0};
    if (ss->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)ss;
        e = (struct endpoint){.family = AF_INET, .address = {in->sin_addr.s_addr}, .port = in->sin_port};
    } else if (ss->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)ss;
        e.port = in6->sin6_port;
        e.family = IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr) ? AF_INET : AF_INET6;
        memcpy(e.address, in6->sin6_addr.s6_addr + (e.family == AF_INET ? 12 : 0), e.family == AF_INET ? 4 : 16);
    } else {
        return false;
    }
    *ret = e;
    return true;
}

static bool endpoint_is_loopback(const struct endpoint *e)
{
    if (e->family == AF_INET)
        return ntohl(e->address[0]) >> 24 == IN_LOOPBACKNET;
    return memcmp(e->address, &in6addr_loopback, sizeof(in6addr_loopback)) == 0;
}

static void endpoint_print(const struct endpoint *e, char *out, size_t size)
{
    char text[INET6_ADDRSTRLEN] = "?";
    (void)inet_ntop(e->family, e->address, text, sizeof(text));
    (void)snprintf(out, size, e->family == AF_INET6 ? "[%s]:%u" : "%s:%u", text, ntohs(e->port));
}

static int diag_send(int sock, const struct endpoint *local, const struct endpoint *remote)
{
    struct {
        struct nlmsghdr header;
        struct inet_diag_req_v2 req;
    } m = {
        .header = {.nlmsg_len = sizeof(m), .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST},
        .req = {
            .sdiag_family = (uint8_t)local->family, .sdiag_protocol = IPPROTO_TCP, .idiag_states = UINT32_MAX,
            .id = {
                .idiag_sport = local->port, .idiag_dport = remote->port,
                .idiag_cookie = {INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE},
            },
        },
    };
    memcpy(m.req.id.idiag_src, local->address, sizeof(local->address));
    memcpy(m.req.id.idiag_dst, remote->address, sizeof(remote->address));
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    ssize_t n = sendto(sock, &m, sizeof(m), MSG_DONTWAIT, (struct sockaddr *)&kernel, sizeof(kernel));
    return n == (ssize_t)sizeof(m) ? 0 : -EIO;
}

static bool same_tuple(const struct inet_diag_sockid *id, const struct endpoint *local, const struct endpoint *remote)
{
    size_t len = local->family == AF_INET ? 4 : 16;
    size_t skip = 0;
    /* An IPv6 socket that speaks IPv4 may come back with its mapped addresses. */
    if (local->family == AF_INET && id->idiag_src[2] == htonl(0xffff) && id->idiag_src[0] == 0 && id->idiag_src[1] == 0)
        skip = 12;
    return id->idiag_sport == local->port && id->idiag_dport == remote->port &&
           memcmp((const char *)id->idiag_src + skip, local->address, len) == 0 &&
           memcmp((const char *)id->idiag_dst + skip, remote->address, len) == 0;
}

/* The owner of the established socket whose own end is local and whose peer is remote. 0 or -errno. */
static int diag_owner(const struct endpoint *local, const struct endpoint *remote, uid_t *ret_uid, ino_t *ret_inode)
{
    /* The kernel answers within sendto, so the reply is there or never comes: nothing waits. */
    AUTO_CLOSE int sock = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    if (sock < 0)
        return -errno;
    int r = diag_send(sock, local, remote);
    if (r < 0)
        return r;

    union {
        struct nlmsghdr header;
        char bytes[4096];
    } reply;
    struct sockaddr_nl from = {0};
    socklen_t from_len = sizeof(from);
    ssize_t n = recvfrom(sock, &reply, sizeof(reply), MSG_DONTWAIT, (struct sockaddr *)&from, &from_len);
    if (n < 0)
        return -errno;
    if (from.nl_pid != 0)
        return -EPROTO; /* netlink lets other processes send to us */
    if (!NLMSG_OK(&reply.header, (size_t)n) || reply.header.nlmsg_type != SOCK_DIAG_BY_FAMILY ||
        reply.header.nlmsg_len < NLMSG_LENGTH(sizeof(struct inet_diag_msg)))
        return -ENOENT;
    const struct inet_diag_msg *msg = NLMSG_DATA(&reply.header);
    if (msg->idiag_state != TCP_ESTABLISHED || msg->idiag_inode == 0 || !same_tuple(&msg->id, local, remote))
        return -ENOENT;
    *ret_uid = msg->idiag_uid;
    *ret_inode = msg->idiag_inode;
    return 0;
}

/* Whether local and remote name this very socket in this network namespace. A half-closed end of ours is no longer
 * ESTABLISHED, and then nobody is known: the client has left anyway. */
static bool is_our_end(int fd, const struct endpoint *local, const struct endpoint *remote)
{
    uid_t uid;
    ino_t inode;
    struct stat st;
    return diag_owner(local, remote, &uid, &inode) == 0 && fstat(fd, &st) == 0 && st.st_ino == inode;
}

static void identify_tcp(int fd, const struct sockaddr_storage *peer, struct asker *a)
{
    struct sockaddr_storage own;
    socklen_t len = sizeof(own);
    struct endpoint local, remote;
    ino_t inode;
    if (!endpoint_from_sockaddr(peer, &remote))
        return;
    endpoint_print(&remote, a->address, sizeof(a->address));
    if (getsockname(fd, (struct sockaddr *)&own, &len) < 0 || !endpoint_from_sockaddr(&own, &local))
        return;
    if (!endpoint_is_loopback(&remote) || !endpoint_is_loopback(&local) || local.family != remote.family)
        return;
    a->known = is_our_end(fd, &local, &remote) && diag_owner(&remote, &local, &a->uid, &inode) == 0;
}

static void identify_unix(int fd, struct asker *a)
{
    struct ucred cred;
    socklen_t len = sizeof(cred);
    a->local = true;
    (void)snprintf(a->address, sizeof(a->address), "unix");
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0 || len != sizeof(cred))
        return;
    a->known = a->has_gid = true;
    a->uid = cred.uid;
    a->gid = cred.gid;
    a->pid = cred.pid;
}

/* In a user namespace that does not map every user, the kernel reports those it leaves out by one number
 * (overflowuid in man 5 proc): that is no user, and must not pass for the one of that number. */
#define OVERFLOW_UID 65534

static bool all_users_are_mapped(void)
{
    static int all = -1;
    unsigned inside, outside, count;
    if (all < 0) {
        AUTO_FCLOSE FILE *map = fopen("/proc/self/uid_map", "re");
        all = map && fscanf(map, "%u %u %u", &inside, &outside, &count) == 3 && inside == 0 && count == UINT32_MAX;
    }
    return all;
}

void asker_identify(int fd, const struct settings *settings, struct asker *ret)
{
    struct sockaddr_storage peer;
    socklen_t len = sizeof(peer);
    struct asker a = {.address = "?"};
    if (getpeername(fd, (struct sockaddr *)&peer, &len) == 0) {
        if (peer.ss_family == AF_UNIX)
            identify_unix(fd, &a);
        else
            identify_tcp(fd, &peer, &a);
    }
    a.proxied = a.known && settings_is_proxy(settings, a.uid);
    if (a.proxied || (a.uid == OVERFLOW_UID && !all_users_are_mapped())) {
        a.known = a.has_gid = false;
        a.pid = 0;
    }
    *ret = a;
}
