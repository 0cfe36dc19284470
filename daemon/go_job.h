/* What is to be known of a Go program to read its goroutines. Made in a worker, used in a collector: between them it is a file that starts
 * with struct go_runtime and ends with the program's unwinding table. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "symbolize/go_runtime.h"

#define GO_PROGRAM_MAX_BYTES (256u << 20)

/* In a worker: writes it of an ELF file to out_fd. elf_fd stays the caller's. 0 with the bytes written, or -errno with a message: -ENOEXEC: no
 * Go program; -ENODATA: one whose goroutines can't be found; -EFBIG; -ENOMEM. */
int go_make(int elf_fd, int out_fd, uint64_t *ret_len, char *message, size_t message_len);

struct go_program {
    struct go_runtime runtime;
    void *image;
};

/* Elsewhere: reads it, and believes none of it. fd stays the caller's. 0, -EBADMSG, -errno. */
int go_program_read(int fd, struct go_program *ret);
void go_program_deinit(struct go_program *p); /* zeroed memory is fine */
