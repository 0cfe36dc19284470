/* The daemon as a service: what it tells the service manager (sd_notify(3)), the watchdog, and the sockets
 * that the manager passes (sd_listen_fds(3)). Without a manager every call does nothing. */
#pragma once

#include <stddef.h>

struct event_base;
struct service;

#define SERVICE_MAX_SOCKETS 32

/* Reads the manager's environment variables, and removes them, so that no child takes itself for the service;
 * starts the watchdog's timer where one is asked for. 0 or -errno. */
int service_new(struct event_base *base, struct service **ret);
void service_free(struct service *service);

/* status: one line, shown by systemctl status. */
void service_ready(struct service *service, const char *status);
void service_reloading(struct service *service); /* until the next service_ready */
void service_stopping(struct service *service);

/* The listening sockets that were passed, CLOEXEC, now the caller's; *ret_n is 0 where there are none. 0, or
 * -errno (-ENOTSOCK, -EINVAL: what was passed is not a listening stream socket; -E2BIG), and then all are
 * closed. Call once, before a child is started: until then it would inherit them. */
int service_sockets(int ret_fds[SERVICE_MAX_SOCKETS], size_t *ret_n);
