/* The making of an unwinding table, and what else is looked for in each mapped file. Runs in a worker. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct label_place;

/* Writes the image (util/unwind_table.h) of an ELF file's table to out_fd. elf_fd stays the caller's. 0 with the bytes written, or -errno
 * with a message: -ENOEXEC: no ELF file of this machine; -ENODATA: it says nothing of its frames; -EFBIG; -ENOMEM. */
int table_make(int elf_fd, int out_fd, uint64_t *ret_len, char *message, size_t message_len);

/* Where threads have labels, if the file has a variable for them: 0; else -errno. elf_fd stays the caller's. */
int table_labels(int elf_fd, struct label_place *ret);
