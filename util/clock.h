/* Time is nanoseconds everywhere. */
#pragma once

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

static inline uint64_t monotonic_ns(void) { return clock_ns(CLOCK_MONOTONIC); }
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
