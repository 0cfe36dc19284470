/* Who may profile whom: the kernel's rule for PTRACE_MODE_READ (__ptrace_may_access in kernel/ptrace.c), plus
 * what the configuration grants. Runs in children alone: the user database may block.
 *
 *   root           all
 *   a known user   processes whose real, effective and saved user and group are all the asker's, that are
 *                  dumpable, and that are in the daemon's own user namespace and without capabilities, or in
 *                  a user namespace that belongs to the asker (who has all capabilities there)
 *   everybody      what a grant says
 *
 * Nobody but root is taken to have capabilities: what /proc says of a socket's peer now is not what it had
 * when it connected, since it may have exec'd since, or its number may be another process's.
 *
 * Kernel frames and kernel-only events: root; by a grant with kernel; or known users, where
 * perf_event_paranoid and kptr_restrict let everybody see them. */
#pragma once

#include <stdbool.h>

#include "daemon/asker.h"
#include "daemon/denial.h"
#include "daemon/target.h"

struct settings;

struct access {
    const struct settings *settings;
    struct asker asker; /* with the gid, where there is one */
    int lookup_error;   /* why there is none: 0 (no such user) or -errno */
};

/* Completes the asker by the user database. May block. */
void access_init(struct access *a, const struct settings *settings, const struct asker *asker);

/* Can this asker get anything at all? 0, or -EACCES with a 403, before anything of a target is looked at. */
int access_check_asker(const struct access *a, struct denial *d);
/* May the asker profile the process (or the thread) whose status this is, just read? 0; -EACCES with a denial
 * (404: it ended). */
int access_check_target(const struct access *a, const struct target *t, const struct target_status *s,
                        struct denial *d);
/* May the asker profile every process (with the kernel's part of it), whatever it is? */
bool access_is_unlimited(const struct access *a, bool kernel);
/* May the asker see the kernel's part of it? After access_check_target. 0, or -EACCES with a 403. */
int access_check_kernel(const struct access *a, const struct target_status *s, struct denial *d);

/* The rule for known users without a grant. paranoid, kptr_restrict: the sysctls' values. */
int access_kernel_rule(int paranoid, int kptr_restrict, struct denial *d);
