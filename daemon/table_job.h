/* The making of an unwinding table. Runs in a worker. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Writes the image (util/unwind_table.h) of an ELF file's table to out_fd. elf_fd stays the caller's. 0 with the bytes written, or -errno
 * with a message: -ENOEXEC: no ELF file of this machine; -ENODATA: it says nothing of its frames; -EFBIG; -ENOMEM. */
int table_make(int elf_fd, int out_fd, uint64_t *ret_len, char *message, size_t message_len);
