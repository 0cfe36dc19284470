/* The functions of an allocator that a file defines: those of C, of the allocators that are in use under names of their own, and C++'s
 * operators where they do not end in one of these. And the sites by which an allocator that samples by itself tells of it. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "util/heap_call.h"

struct elf_file;
struct module;

/* As many as a file may have. */
#define HEAP_MAX_FUNCTIONS 128

struct heap_function {
    uint64_t file_offset; /* where it is probed */
    uint64_t semaphore;   /* file offset of a site's; 0: none */
    uint16_t kind;        /* enum heap_call_kind; 0: it can't be probed */
    uint16_t stepped;     /* 1: the kernel single-steps the instruction there */
    uint32_t into;        /* bytes behind its entry */
    char name[48], insn[16];
};

/* By their addresses, each address once; where there are sites, these alone. ret has room for HEAP_MAX_FUNCTIONS. 0 or -errno. */
int heap_functions_find(const struct elf_file *file, struct heap_function *ret, size_t *ret_n);
/* Moves them from their entries to where probes are cheap, and adds what sees the results of operator new. list has room as above. */
void heap_functions_place(struct module *m, struct heap_function *list, size_t *n);
