/* The same walk in the kernel: the pages that the host's walk has read are laid at their addresses in this process, in whose context the
 * program runs. */
#pragma once

#include <stdint.h>

#include "bpf/stack_walk.h"
#include "tests/unwind/kernel_walk_case.h"
#include "tests/unwind/tracee.h"

struct kernel_walk;

/* -EPERM: BPF programs can't be loaded here. */
int kernel_walk_new(struct tracee *tracee, struct kernel_walk **ret_walk);
void kernel_walk_free(struct kernel_walk *walk);
/* For an arena whose tables it finds. */
int kernel_walk_slabs_map(const struct kernel_walk *walk);
/* Lays the tracee's page at an address where it is, or sees to it that nothing is there where the tracee has nothing. -EEXIST: something of
 * this process is. */
int kernel_walk_add_page(struct kernel_walk *walk, uint64_t address);
/* The walk, borrowed until the next run. */
int kernel_walk_run(struct kernel_walk *walk, const struct kernel_walk_case *given, const struct stack_walk **ret_walk);
