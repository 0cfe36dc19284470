/* The child that looks for processes to watch, again and again (daemon/child.h). It reads names alone, none of which a target can make
 * it wait for. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "config/settings.h"
#include "config/watch_rule.h"

#define WATCH_SCAN_INTERVAL_MS 5000
/* Processes that rules fit, in one scan; further ones are left out. */
#define WATCH_SCAN_MAX 4096

struct watch_scan_request {
    struct watch_rule rules[SETTINGS_MAX_LIST];
    size_t n;
};

/* A process and a rule that fits it; of one process in the order of the rules. */
struct watch_match {
    pid_t pid;
    uint32_t rule;
    uint64_t start_ticks;
};

/* After each scan, with a memfd of struct watch_match[]. */
struct watch_scan_message {
    uint64_t n;
};

/* arg: struct watch_scan_request. */
int watch_scan_main(int sock, void *arg);

/* Whether a process of this name and with this text of /proc/PID/cgroup is whom a rule means. */
int watch_rule_fits(const struct watch_rule *rule, const char *comm, const char *cgroups);
