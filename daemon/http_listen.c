/* Makes listening sockets. Owns nothing that outlives a call but what it returns. */
#include "daemon/http_listen.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "util/cleanup.h"

#define LISTEN_BACKLOG 128

static int __attribute__((format(printf, 4, 5))) fail(int error, char *text, size_t len, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, len, fmt, args);
    va_end(args);
    return -error;
}

/* A daemon that was killed leaves its socket file behind: nobody answers there, and bind would fail on it for ever. */
static int remove_stale(const struct sockaddr_un *sun, char *error, size_t error_len)
{
    struct stat st;
    if (lstat(sun->sun_path, &st) < 0)
        return errno == ENOENT ? 0 : fail(errno, error, error_len, "%s: %s", sun->sun_path, strerror(errno));
    if (!S_ISSOCK(st.st_mode))
        return fail(EEXIST, error, error_len, "%s is there already, and is not a socket", sun->sun_path);
    AUTO_CLOSE int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (probe < 0)
        return fail(errno, error, error_len, "socket: %s", strerror(errno));
    if (connect(probe, (const struct sockaddr *)sun, sizeof(*sun)) == 0 || errno != ECONNREFUSED)
        return fail(EADDRINUSE, error, error_len, "%s: another process listens there", sun->sun_path);
    if (unlink(sun->sun_path) < 0 && errno != ENOENT)
        return fail(errno, error, error_len, "%s: a stale socket that can't be removed: %s", sun->sun_path, strerror(errno));
    return 0;
}

static int open_unix(const char *path, struct http_listen_path *ret, char *error, size_t error_len)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    struct stat st;
    if (path[0] != '/' || strlen(path) >= sizeof(sun.sun_path))
        return fail(EINVAL, error, error_len, "unix:%s: need an absolute path of at most %zu bytes", path,
                    sizeof(sun.sun_path) - 1);
    strcpy(sun.sun_path, path);
    int r = remove_stale(&sun, error, error_len);
    if (r < 0)
        return r;
    AUTO_CLOSE int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&sun, sizeof(sun)) < 0)
        return fail(errno, error, error_len, "unix:%s: %s", path, strerror(errno));
    /* Anybody may connect, as on loopback: who asks is known from the peer's credentials. Nobody can before listen. */
    if (chmod(path, 0666) < 0 || lstat(path, &st) < 0 || listen(fd, LISTEN_BACKLOG) < 0) {
        r = errno;
        (void)unlink(path);
        return fail(r, error, error_len, "unix:%s: %s", path, strerror(r));
    }
    *ret = (struct http_listen_path){.dev = st.st_dev, .ino = st.st_ino};
    strcpy(ret->path, path);
    return TAKE_FD(fd);
}

static int bind_tcp(const struct addrinfo *ai)
{
    int on = 1;
    AUTO_CLOSE int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    /* A restart must not wait for old connections; [::] stands for itself, and 0.0.0.0 may be listed beside it. */
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
        (ai->ai_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0) ||
        bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 || listen(fd, LISTEN_BACKLOG) < 0)
        return -errno;
    return TAKE_FD(fd);
}

/* Splits at the last colon; an IPv6 address stands in brackets. */
static int split_address(const char *address, char host[64], const char **ret_port)
{
    const char *colon = strrchr(address, ':');
    if (!colon || colon == address || !colon[1] || colon[1 + strspn(colon + 1, "0123456789")])
        return -EINVAL;
    size_t len = (size_t)(colon - address);
    if (*address == '[') {
        if (address[len - 1] != ']')
            return -EINVAL;
        address++;
        len -= 2;
    } else if (memchr(address, ':', len)) {
        return -EINVAL;
    }
    if (len == 0 || len >= 64)
        return -EINVAL;
    memcpy(host, address, len);
    host[len] = '\0';
    *ret_port = colon + 1;
    return 0;
}

static int open_tcp(const char *address, char *error, size_t error_len)
{
    const struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE,
    };
    struct addrinfo *list = NULL;
    char host[64];
    const char *port;
    if (split_address(address, host, &port) < 0 || strlen(port) > 5 || atoi(port) > 65535 ||
        getaddrinfo(host, port, &hints, &list) != 0)
        return fail(EINVAL, error, error_len,
                    "%s: not an address to listen on; such as 127.0.0.1:6060, [::1]:6060 or unix:/run/cprofd.sock", address);
    int fd = bind_tcp(list);
    freeaddrinfo(list);
    return fd < 0 ? fail(-fd, error, error_len, "%s: %s", address, strerror(-fd)) : fd;
}

int http_listen_open(const char *address, struct http_listen_path *ret_path, char *error, size_t error_len)
{
    *ret_path = (struct http_listen_path){0};
    if (strncmp(address, "unix:", 5) == 0)
        return open_unix(address + 5, ret_path, error, error_len);
    return open_tcp(address, error, error_len);
}

void http_listen_name(int fd, const char *address, char ret[HTTP_LISTEN_NAME_LEN])
{
    struct sockaddr_storage ss = {.ss_family = AF_UNSPEC};
    socklen_t len = sizeof(ss);
    const char *colon = strrchr(address, ':');
    in_port_t port = 0;

    (void)getsockname(fd, (struct sockaddr *)&ss, &len);
    if (ss.ss_family == AF_INET)
        port = ((const struct sockaddr_in *)&ss)->sin_port;
    else if (ss.ss_family == AF_INET6)
        port = ((const struct sockaddr_in6 *)&ss)->sin6_port;
    if (port && colon)
        (void)snprintf(ret, HTTP_LISTEN_NAME_LEN, "%.*s:%u", (int)(colon - address), address, ntohs(port));
    else
        (void)snprintf(ret, HTTP_LISTEN_NAME_LEN, "%s", address);
}

static bool has_option(int fd, int option, int expected)
{
    int value = 0;
    socklen_t len = sizeof(value);
    return getsockopt(fd, SOL_SOCKET, option, &value, &len) == 0 && value == expected;
}

int http_listen_check(int fd)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);
    if (getsockname(fd, (struct sockaddr *)&ss, &len) < 0)
        return -errno;
    /* evhttp ends the process over an address that it cannot name (name_from_addr in http.c of 2.1.12). */
    if (ss.ss_family != AF_INET && ss.ss_family != AF_INET6 && ss.ss_family != AF_UNIX)
        return -EAFNOSUPPORT;
    if (!has_option(fd, SO_TYPE, SOCK_STREAM) || !has_option(fd, SO_ACCEPTCONN, 1))
        return -EINVAL;
    int flags = fcntl(fd, F_GETFL);
    return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ? -errno : 0;
}

void http_listen_unlink(const struct http_listen_path *path)
{
    struct stat st;
    if (path->path[0] && lstat(path->path, &st) == 0 && st.st_dev == path->dev && st.st_ino == path->ino)
        (void)unlink(path->path);
}
