/* What profiles a target declares, for a request: looked up in the files that it maps. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "daemon/custom_job.h"

struct http_request;
struct server;
struct session_params;

struct custom_declared {
    const struct profile_note *notes; /* by name; hostile text, but their names are usable */
    size_t n;
    unsigned left_out;                /* profiles that are not among them, or not whole */
    const char *error;                /* why nothing is known; NULL */
};

/* Replies to the request. */
typedef void (*custom_listed)(struct server *server, struct http_request *request, pid_t pid, const struct custom_declared *declared);
/* For one who may trace the process; else, and where there is none, the request is answered with that. */
void custom_list(struct server *server, struct http_request *request, pid_t pid, custom_listed listed);

/* The answer of a declared kind that is not watched: 409, or 404 where the process declares none of that name. */
void custom_answer_unwatched(struct server *server, struct http_request *request, pid_t pid, const struct session_params *params);
