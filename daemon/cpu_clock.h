/* The kernel's exact run time of a process: all its threads, those that exited too. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

/* ns so far. 0, or -ESRCH where there is no such process any more. Takes no lock that a target can hold. */
int process_cpu_ns(pid_t pid, uint64_t *ret_ns);
