/* Beside the table of kinds: /pid/N/debug/fgprof takes wall's parameters. */
#pragma once

#include <sys/types.h>

struct http_request;
struct server;

void fgprof_start(struct server *server, struct http_request *request, pid_t pid);
