/* A process as a child sees it: /proc/PID, opened once, and a pidfd of the same process, so that everything
 * read concerns one process even where its number is used anew meanwhile.
 *
 * Its main thread may have exited while others run: then /proc/PID/maps and exe are empty, and a live thread
 * stands in. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/denial.h"
#include "daemon/target_status.h"

struct target {
    pid_t pid;
    int dir_fd;    /* /proc/PID, O_PATH */
    int pidfd;
    int thread_fd; /* /proc/PID/task/TID of a live thread where the main one has exited; else -1 */
    pid_t tid;     /* of that thread, else pid */
};

/* The CLOCK_MONOTONIC that it sees. */
struct target_clock {
    uint64_t ahead_ns; /* of the kernel's (util/clock.h) */
    uint32_t known;    /* 1; 0: it is in a time namespace of its own, and cannot be asked */
};

#define TARGET_INIT {.dir_fd = -1, .pidfd = -1, .thread_fd = -1}

/* 0; or -EACCES with a 404: no such process, one that has ended, or the number of a thread (the message says
 * of which process). */
int target_open(pid_t pid, struct target *ret, struct denial *d);
void target_deinit(struct target *t); /* safe to call twice */

/* Reads status afresh, of a live thread where the main one has exited. 0; -ESRCH: the process has ended;
 * -EBADMSG. */
int target_refresh(struct target *t, struct target_status *ret);
/* The same of one of its threads. -ESRCH: it has no such thread. */
int target_thread_status(const struct target *t, pid_t tid, struct target_status *ret);
int target_stat(const struct target *t, struct target_stat *ret);

/* Opens a file below /proc/PID (of a live thread). fd, or -errno: -ESRCH once the process has ended. */
int target_open_file(const struct target *t, const char *name, int flags);
/* Reads one as a whole. *ret_text is the caller's to free, and ends with a NUL that *ret_len does not count.
 * 0; -ESRCH; -EFBIG for more than max bytes; -errno. */
int target_read_file(const struct target *t, const char *name, size_t max, char **ret_text, size_t *ret_len);
/* Reads a link below /proc/PID, "exe" or "root"; "" where the process has none (a kernel thread's exe). 0,
 * -ESRCH, -ENAMETOOLONG, -errno. */
int target_readlink(const struct target *t, const char *name, char *buf, size_t size);
/* Its name, any bytes, NUL-padded. */
int target_comm(const struct target *t, char ret_comm[16]);
/* May the process be traced by those who share its ids? False after a change of credentials, PR_SET_DUMPABLE,
 * or for a program that they may not read. 0 or -errno. */
int target_dumpable(const struct target *t, const struct target_status *s, bool *ret);
struct target_clock target_clock(const struct target *t);
bool target_alive(const struct target *t);

/* Is there a program that can be profiled? 0, or -EACCES with a 400: a kernel thread, a 32-bit program; 404:
 * it ended. */
int target_check_program(const struct target *t, struct denial *d);
/* The denial for a process that ended. -EACCES. */
int target_gone(pid_t pid, struct denial *d);
/* Why nothing of it can be read (an errno), and what helps. */
const char *target_error(int error);
