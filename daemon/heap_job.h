/* The search for an allocator's functions in a file. Runs in a worker. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Writes struct heap_function[] (symbolize/heap_functions.h) of an ELF file to out_fd: perhaps none. elf_fd becomes its own. 0 with the bytes
 * written, or -errno with a message: -ENOEXEC: no ELF program. */
int heap_make(int elf_fd, int out_fd, uint64_t *ret_len, char *message, size_t message_len);
