/* Time is nanoseconds everywhere. What the kernel notes (BPF, perf events) is in its own CLOCK_MONOTONIC; that of a process in a time namespace
 * is ahead of it. So all times here are the kernel's, and what tells another its time, or takes one from it, adds the difference. */
#pragma once

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#define NSEC_PER_SEC 1000000000ull
#define NSEC_PER_MSEC 1000000ull

static inline uint64_t clock_ns(clockid_t id)
{
    struct timespec ts = {0};
    (void)clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

/* How far this process's CLOCK_MONOTONIC is ahead of the kernel's (modulo 2^64, where it is behind). */
extern uint64_t clock_ahead_ns;

/* Reads clock_ahead_ns, once, before anybody asks for a time. 0; -EXDEV: children will be in another time namespace than this process; -EBADMSG;
 * -errno of what can't be read. */
int clock_init(void);
/* Of the text of /proc/PID/timens_offsets: how far CLOCK_MONOTONIC is ahead there. 0 or -EBADMSG. */
int clock_parse_offsets(const char *text, uint64_t *ret_ahead_ns);

/* The kernel's CLOCK_MONOTONIC. */
static inline uint64_t monotonic_ns(void) { return clock_ns(CLOCK_MONOTONIC) - clock_ahead_ns; }
/* Such a time for system calls and the C library. */
static inline struct timespec monotonic_timespec(uint64_t at_ns)
{
    at_ns += clock_ahead_ns;
    return (struct timespec){.tv_sec = (time_t)(at_ns / NSEC_PER_SEC), .tv_nsec = (long)(at_ns % NSEC_PER_SEC)};
}
static inline void monotonic_sleep_until(uint64_t at_ns)
{
    struct timespec at = monotonic_timespec(at_ns);
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
        ;
}
static inline uint64_t realtime_ns(void) { return clock_ns(CLOCK_REALTIME); }

#define CLOCK_TEXT_LEN 40
/* Wall clock time as RFC 3339 has it, in UTC. Returns out. */
static inline const char *clock_text(uint64_t realtime_ns, char out[CLOCK_TEXT_LEN])
{
    time_t seconds = (time_t)(realtime_ns / NSEC_PER_SEC);
    struct tm tm = {0};
    char text[24] = "";

    (void)gmtime_r(&seconds, &tm);
    (void)strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
    (void)snprintf(out, CLOCK_TEXT_LEN, "%s.%09uZ", text, (unsigned)(realtime_ns % NSEC_PER_SEC));
    return out;
}
