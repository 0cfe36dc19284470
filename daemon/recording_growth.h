/* What the kernel says of a target's memory as its window opens and closes, beside what the samples add up to. Private to recordings. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct raw_writer;
struct session_ctl;

/* Memory that has no file, bytes: what of it is there, and what is swapped out. */
struct growth_memory {
    uint64_t anon, swap;
};

struct recording_growth {
    struct growth_memory before, after;
    bool before_known, after_known;
};

/* Parses the text of /proc/PID/status. 0; -ESRCH: it has no memory any more (a zombie); -EBADMSG: it says something else. */
int growth_memory_parse(const char *text, struct growth_memory *ret);

/* Right before the window, and right after it. ctl: the session's. */
void recording_growth_open(struct recording_growth *growth, pid_t pid, struct session_ctl *ctl);
void recording_growth_close(struct recording_growth *growth, pid_t pid, const struct session_ctl *ctl);

/* Adds what a profile says of it. 0 or -errno. */
int recording_growth_facts(const struct recording_growth *growth, const struct session_ctl *ctl, struct raw_writer *w);
