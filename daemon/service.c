/* Talks to the service manager. Owns the notification socket and the watchdog's timer.
 *
 * The protocol is implemented here instead of by libsystemd: it is documented as stable (sd_notify(3),
 * sd_listen_fds(3), sd_watchdog_enabled(3)) and comes to one datagram and three environment
 * variables, while the library would be loaded into every process of the daemon, with four libraries of its
 * own. */
#include "daemon/service.h"

#include <ctype.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "daemon/log.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define SERVICE_FIRST_FD 3 /* SD_LISTEN_FDS_START */

struct service {
    int fd; /* connected to the manager; -1: there is none */
    struct event *watchdog;
};

/* The variable's number; 0 where it is missing or not one. */
static uint64_t service_env_number(const char *name)
{
    const char *text = getenv(name);
    char *end;

    if (!text || !isdigit((unsigned char)*text))
        return 0;
    errno = 0;
    uint64_t n = strtoull(text, &end, 10);
    return errno || *end ? 0 : n;
}

static bool service_env_is_ours(const char *name)
{
    return service_env_number(name) == (uint64_t)getpid();
}

static void service_send(struct service *service, const char *text)
{
    if (!service || service->fd < 0)
        return;
    if (send(service->fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
        log_warning("The service manager cannot be told \"%.*s\": %s", (int)strcspn(text, "\n"), text,
                    strerror(errno));
}

/* path: NOTIFY_SOCKET: absolute, or "@" and an abstract name. */
static int service_connect(const char *path, int *ret_fd)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    size_t len = strlen(path);
    AUTO_CLOSE int fd = -1;

    if ((*path != '/' && *path != '@') || !path[1])
        return -EAFNOSUPPORT;
    if (len >= sizeof(sun.sun_path))
        return -ENAMETOOLONG;
    memcpy(sun.sun_path, path, len);
    if (*path == '@')
        sun.sun_path[0] = '\0';
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 ||
        connect(fd, (struct sockaddr *)&sun, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) < 0)
        return -errno;
    *ret_fd = TAKE_FD(fd);
    return 0;
}

static void service_watchdog_due(evutil_socket_t fd, short events, void *service)
{
    service_send(service, "WATCHDOG=1");
}

/* Twice as often as asked for. The timer is the loop's: a loop that hangs is what the watchdog is there to
 * see. */
static int service_start_watchdog(struct service *service, struct event_base *base)
{
    uint64_t usec = service_env_number("WATCHDOG_USEC") / 2;
    struct timeval interval = {.tv_sec = (time_t)(usec / 1000000), .tv_usec = (suseconds_t)(usec % 1000000)};

    if (!usec || service->fd < 0 || (getenv("WATCHDOG_PID") && !service_env_is_ours("WATCHDOG_PID")))
        return 0;
    service->watchdog = event_new(base, -1, EV_PERSIST, service_watchdog_due, service);
    return service->watchdog && event_add(service->watchdog, &interval) == 0 ? 0 : -ENOMEM;
}

int service_new(struct event_base *base, struct service **ret)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct service *service = calloc(1, sizeof(*service));
    int r = 0;

    if (!service)
        return -ENOMEM;
    service->fd = -1;
    if (path)
        r = service_connect(path, &service->fd);
    if (r == 0)
        r = service_start_watchdog(service, base);
    (void)unsetenv("NOTIFY_SOCKET");
    (void)unsetenv("WATCHDOG_USEC");
    (void)unsetenv("WATCHDOG_PID");
    if (r < 0) {
        service_free(service);
        return r;
    }
    *ret = service;
    return 0;
}

void service_free(struct service *service)
{
    if (!service)
        return;
    if (service->watchdog)
        event_free(service->watchdog);
    close_fd(&service->fd);
    free(service);
}

void service_ready(struct service *service, const char *status)
{
    char text[512];
    int len = snprintf(text, sizeof(text), "READY=1\nSTATUS=%s", status);
    /* A newline would begin another assignment. */
    for (char *c = text + strlen("READY=1\n"); len > 0 && *c; c++)
        if (iscntrl((unsigned char)*c))
            *c = ' ';
    service_send(service, text);
}

void service_reloading(struct service *service)
{
    char text[128];
    (void)snprintf(text, sizeof(text),
                   "RELOADING=1\nMONOTONIC_USEC=%" PRIu64 "\nSTATUS=Reading its configuration",
                   clock_ns(CLOCK_MONOTONIC) / 1000); /* as the manager's own clock has it */
    service_send(service, text);
}

void service_stopping(struct service *service)
{
    service_send(service, "STOPPING=1\nSTATUS=Ending its sessions");
}

static int service_check_socket(int fd)
{
    int value = 0;
    socklen_t len = sizeof(value);

    if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 || getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &len) < 0)
        return -errno;
    if (value != SOCK_STREAM)
        return -EINVAL;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &len) < 0)
        return -errno;
    return value ? 0 : -EINVAL;
}

int service_sockets(int ret_fds[SERVICE_MAX_SOCKETS], size_t *ret_n)
{
    uint64_t n = service_env_is_ours("LISTEN_PID") ? service_env_number("LISTEN_FDS") : 0;
    int r = n > SERVICE_MAX_SOCKETS ? -E2BIG : 0;

    (void)unsetenv("LISTEN_PID");
    (void)unsetenv("LISTEN_FDS");
    (void)unsetenv("LISTEN_FDNAMES");
    for (uint64_t i = 0; r == 0 && i < n; i++) {
        ret_fds[i] = SERVICE_FIRST_FD + (int)i;
        r = service_check_socket(ret_fds[i]);
    }
    for (uint64_t i = 0; r < 0 && i < n && i < SERVICE_MAX_SOCKETS; i++)
        (void)close(SERVICE_FIRST_FD + (int)i);
    if (r == 0)
        *ret_n = n;
    return r;
}
