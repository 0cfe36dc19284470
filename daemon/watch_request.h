/* /pid/N/watch: PUT begins to watch, GET shows what is watched, DELETE ends it. */
#pragma once

#include <sys/types.h>

struct http_request;
struct server;

/* Answers, now or later. */
void watch_request(struct server *server, struct http_request *request, pid_t pid);
/* The daemon stops. */
void watch_requests_stop(void);
