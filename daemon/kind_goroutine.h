/* What the kinds that dump threads share. */
#pragma once

#include <stdbool.h>

struct http_request;
struct server;

/* Whether threads can be dumped here; else the request is answered. */
bool dump_is_possible(const struct server *server, struct http_request *request);
