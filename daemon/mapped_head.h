/* The first bytes of a file as a target has them mapped, and whether an open file is that one by its contents: device and inode are one
 * file's on most file systems, but on overlayfs a file that is written to is copied to another layer, and shows the same numbers. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/target.h"

/* The ELF header, the program headers and the notes, as linkers place them, are within. */
#define MAPPED_HEAD_BYTES 4096
#define MAPPED_ID_MAX_BYTES 64

struct mapped_head {
    uint8_t bytes[MAPPED_HEAD_BYTES];
    size_t len; /* 0: it could not be read */
};

/* Reads from the target's memory, where the kernel allows it; address 0: nothing is mapped. *ret->len tells what there is. */
void mapped_head_read(const struct target *t, uint64_t address, struct mapped_head *ret);
/* The same of a file. */
void mapped_head_read_file(int fd, struct mapped_head *ret);
/* The build id in it, of length *ret_len; NULL: there is none. */
const uint8_t *mapped_head_build_id(const struct mapped_head *head, size_t *ret_len);
/* False where the file is another than the one that is mapped: another build id, or without one, other program headers. What a target
 * did to its own headers tells nothing of the file. */
bool mapped_head_is_of(const struct mapped_head *head, int fd);
