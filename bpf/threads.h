/* A dump of a process's threads: what the programs of threads.bpf.c and their reader (daemon/dumper.c) share. Included by *.bpf.c and by
 * user code.
 *
 * No thread is stopped or woken. A thread that is off the CPU has its registers saved and its stack in memory: an iterator looks at each. One
 * that is on a CPU is looked at there, by a program that the kernel runs in an interrupt of that CPU (BPF_F_TEST_RUN_ON_CPU).
 *
 * Memory of other processes is read by their page tables, through the kernel's own mapping of all memory. That takes no lock and brings
 * nothing in, so it works however the process hangs, and on kernels without bpf_copy_from_user_task; what is not in memory can't be read.
 *
 * One dump at a time: all of the programs' state is in one struct dump_area, whose user holds the lock. */
#pragma once

#include "bpf/sample.h"
#include "bpf/stack_walk.h"

/* A thread; frames follow. */
struct thread_record {
    __u32 tid;         /* in the daemon's PID namespace; 0: it has none there, or has just ended */
    __u32 state;       /* task->__state */
    __u32 exit_state;
    __u8 on_cpu;
    __u8 in_iowait;
    __u8 seen;         /* 1: registers were valid when the stack was walked; 0: it ran, and its frames are none */
    __u8 pad;
    __u32 epoch;       /* of the target's mappings */
    __u32 pad2;
    __s64 syscall;     /* the system call that it is in; -1: none */
    __u64 args[2];     /* its first ones */
    __u64 wait_ns;     /* since it was last on a CPU */
    __u64 start_ns;    /* monotonic: when it was made */
    char comm[CPROFD_COMM_LEN];
    struct stack_record stack;
};

/* How the kernel maps all memory, and how a CPU's page tables are read: found out once. */
struct dump_memory {
    __u64 direct_map;   /* where the kernel has physical address 0; 0: not known */
    __u64 address_mask; /* of a page table entry: the physical address */
    __u64 levels;       /* 4 or 5 */
};

#define DUMP_PAGES 4

/* A page that was found. */
struct dump_page {
    __u64 address; /* in the process; 1: none */
    __u64 at;      /* in the kernel's mapping */
    __u64 entry;   /* of the page table, and */
    __u64 entry_at; /* where that is */
};

#define DUMP_READ_MAX 512 /* bytes, in one call of stack_read */

struct dump_area {
    /* written by the reader */
    __u32 slot;         /* of the session */
    __u32 tgid;
    __u32 kernel;       /* 1: kernel frames are kept */
    __u32 pad;
    struct dump_memory memory;

    /* the programs' own */
    __s64 clock_offset_ns; /* from the scheduler's clock to the monotonic one */
    __u64 task;            /* that is walked */
    __u64 pgd;
    __u64 registers[17];   /* by DWARF number */
    struct dump_page pages[DUMP_PAGES];
    __u8 bounce[2 * DUMP_READ_MAX];
    struct stack_walk walk;
    struct thread_record thread; /* of a CPU's look at itself: its frames are in walk */
};

#ifndef __bpf__
_Static_assert(sizeof(struct thread_record) == 112, "layout shared with BPF");
#endif
