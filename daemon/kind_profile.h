/* /pid/N/debug/quality: profile's parameters and session, answered by what it says of itself. */
#pragma once

#include <sys/types.h>

struct http_request;
struct server;

void quality_start(struct server *server, struct http_request *request, pid_t pid);
