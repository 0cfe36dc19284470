/* What a target does by itself while its probes are attached, and while they are not (duty=): see daemon/duty_scale.h. Runs in the attacher. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "daemon/attacher_price.h"

struct attacher_request;
struct mode_ticks;
struct role_file;

/* A bit for each place of a page: places where threads are as a probe lets them go on. A tick that was due in the kernel comes there. */
#define WORK_PAGE_PLACES 4096

struct attacher_work {
    struct mode_ticks *ticks; /* NULL: they can't be had */
    bool open, ticking;       /* the window was, as this part began; and ticks run */
    struct attacher_look began;
    uint64_t overhead_ns, began_ns;
    uint8_t resumed[WORK_PAGE_PLACES / 8];
};

/* The probes of a request, which are attached. */
void attacher_work_begin(const struct attacher_request *q, struct attacher_work *ret);
/* Probes of a file that came later. */
void attacher_work_more(struct attacher_work *w, const struct role_file *file);

/* Whether ticks are worth what they cost. */
bool attacher_work_needs_ticks(const struct attacher_request *q, const struct attacher_work *w);
/* Parts of the time in which threads are told apart, with probes or without; and in which hits are compared with CPU time. */
void attacher_work_tick(const struct attacher_request *q, struct attacher_work *w);
void attacher_work_ticked(const struct attacher_request *q, struct attacher_work *w, bool probed);
/* Something else comes between: ticks end here, and tell nothing. */
void attacher_work_drop(struct attacher_work *w);
void attacher_work_count(const struct attacher_request *q, struct attacher_work *w);
void attacher_work_counted(const struct attacher_request *q, struct attacher_work *w);

/* Where the instruction goes on of which these are the bytes, and which the kernel emulates, counted from its beginning: a jump or a call that
 * is taken. False: it goes on behind itself. */
bool attacher_work_jump(const uint8_t *code, long len, int64_t *ret);
