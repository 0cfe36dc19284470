/* What a walk in the kernel is given: shared with kernel_walk.bpf.c. */
#pragma once

#ifndef __bpf__
#include <linux/types.h>
#endif

#define KERNEL_WALK_REGISTERS 16

struct kernel_walk_case {
    __u64 registers[KERNEL_WALK_REGISTERS]; /* by DWARF number */
    __u64 pc;
    __u32 space;
    __u32 pad;
};
