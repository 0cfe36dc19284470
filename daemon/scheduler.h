/* Who has the scheduler's programs attached (bpf/sched.h): a child, while any recording needs them, since attaching and detaching wait for all of
 * the kernel's readers, and looking through all threads takes its time, for which the loop has none. It owns the links; the loop has the map
 * of threads beside it. Requests are done one after the other, and no target is added while threads are looked through. */
#pragma once

struct recording;
struct scheduler;
struct server;

/* 0 or -ENOMEM. */
int scheduler_new(struct server *server, struct scheduler **ret);
/* Once no recording uses it. NULL is fine. */
void scheduler_free(struct scheduler *s);

/* The recording, which is in the server's table, gets its target's events from when recording_sched_ready is called, later. Where that can't
 * be, it fails. 0; or -errno, and it uses nothing. */
int scheduler_use(struct scheduler *s, struct recording *rec);
/* What it used, waiting or not. */
void scheduler_leave(struct scheduler *s, struct recording *rec);
