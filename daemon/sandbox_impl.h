/* What the two sandboxes share: sandbox.c (workers) and sandbox_network.c (the debuginfod client). Private to these and to the roles
 * that enter them. */
#pragma once

#include <seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#if defined(__SANITIZE_ADDRESS__)
#define SANDBOX_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANDBOX_ASAN 1
#endif
#endif
#ifndef SANDBOX_ASAN
#define SANDBOX_ASAN 0
#endif

/* A system call that is allowed where all n conditions hold. */
struct sandbox_rule {
    int syscall;
    unsigned n;
    struct scmp_arg_cmp condition[2];
};

struct sandbox_filter {
    const int *allowed; /* system calls without conditions */
    size_t n_allowed;
    const struct sandbox_rule *rules;
    size_t n_rules;
    const int *missing; /* those that the kernel seems not to have (ENOSYS): a library then takes an older one */
    size_t n_missing;
};

/* Each: 0 or -errno. */

/* Closes all descriptors above last_fd; stdio leads to /dev/null. */
int sandbox_close_fds(int last_fd);
/* Lowers both limits to most; RLIMIT_AS not under AddressSanitizer, whose shadow takes 16 TiB of address space. */
int sandbox_limit(int resource, uint64_t most);
/* None left, and none to be had by execve. */
int sandbox_drop_capabilities(void);
/* Not to be read or traced by the same user; dies with parent. After the last change of credentials, which can clear both. */
int sandbox_bind_to_parent(pid_t parent);
/* What is not allowed is EPERM from now on; other architectures' system calls kill. */
int sandbox_load(const struct sandbox_filter *f);
