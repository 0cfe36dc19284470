/* /debug/pprof/symbol: the names of a target's addresses, from the same source as a profile's. */
#pragma once

#include <sys/types.h>

struct http_request;
struct kind;
struct server;

/* Addresses "0xA+0xB" in the body of a POST or the raw query of a GET. Every outcome is a reply. */
void symbol_request_start(struct server *server, struct http_request *request, pid_t pid, const struct kind *kind);
