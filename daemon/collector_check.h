/* What every collector does first: opens the target, and checks that the asker may profile it. */
#pragma once

#include "daemon/access.h"
#include "daemon/collector.h"
#include "daemon/target.h"

struct collector_check {
    const struct collector_request *request;
    struct access access;
    struct target target;
    struct target_status status; /* as last checked */
    struct target_clock clock;   /* of the image that was checked last */
};

/* 0, or -EACCES with a denial. What was opened is for collector_check_deinit in both cases. */
int collector_check_init(struct collector_check *c, const struct collector_request *request,
                         struct denial *d);
void collector_check_deinit(struct collector_check *c);

/* The same process, as it is now: does it live, may the asker profile it, can it be profiled? 0, or -EACCES
 * with a denial. */
int collector_check_again(struct collector_check *c, struct denial *d);

/* READY with who the target is; DENIED; TABLE with a body in the memfd fd. 0 or -errno. */
int collector_send_ready(int sock, const struct collector_check *c, struct denial *d);
int collector_send_denied(int sock, const struct denial *d);
int collector_send_body(int sock, int fd);
