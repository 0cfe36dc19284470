/* A small symbol table for what was stripped: an ELF file, compressed by xz, in the section .gnu_debugdata of the file that it is about. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "symbolize/elf_file.h"
#include "symbolize/elf_symbols.h"

/* Zeroed: none. */
struct mini_debug {
    struct elf_file file;
    void *image; /* that file, decompressed */
    size_t image_bytes;
    struct elf_symbols symbols;
};

#define MINI_DEBUG_MAX_BYTES (64u << 20) /* decompressed; distributions' are below 10 MiB */

/* 0; -ENOENT: there is none; -ENOTSUP: built without liblzma; -EFBIG: it would be more; -ESTALE: it is another file's; -ENOEXEC, -ENOMEM. */
int mini_debug_open(const struct elf_file *main, struct mini_debug *ret);
void mini_debug_close(struct mini_debug *mini);
size_t mini_debug_bytes(const struct mini_debug *mini);
