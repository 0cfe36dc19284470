/* What threads wait for, by the system call that they are in. */
#pragma once

#include <stdint.h>

#include "bpf/sched_state.h"

/* Fills enum sample_state by number; 0: nothing in particular. */
void syscall_states(uint8_t ret[SCHED_SYSCALLS]);
