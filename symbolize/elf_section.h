/* A section's bytes, whatever they are compressed with in the file. */
#pragma once

#include <gelf.h>
#include <stddef.h>
#include <stdint.h>

#include "symbolize/elf_file.h"

enum section_compression { SECTION_PLAIN, SECTION_ZLIB, SECTION_ZSTD };

struct elf_section {
    const uint8_t *stored; /* in the file's mapping */
    size_t stored_bytes;   /* without the header of what is compressed */
    uint64_t plain_bytes;  /* as the file says: not checked yet */
    enum section_compression compression;
};

/* Where a section's bytes are: compressed by SHF_COMPRESSED, or in GNU's older way, which its name
 * (.zdebug_) tells. 0; -ENOENT: it has none; -ENOEXEC: malformed; -ENOTSUP: compressed in an unknown way. */
int elf_section_locate(const struct elf_file *file, const GElf_Shdr *header, const char *name, struct elf_section *ret);

/* All plain_bytes of them into the caller's room, which are as many as the file promised, or it is
 * malformed. Pages of the file are given back as they are consumed. 0; -ENOEXEC; -ENOMEM. */
int elf_section_read(const struct elf_section *section, uint8_t *into);
