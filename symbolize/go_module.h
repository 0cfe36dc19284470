/* Where in an ELF file Go's tables are: .gopclntab, and what its runtime knows of it (struct moduledata, src/runtime/symtab.go), which
 * no symbol need name: it is what points at the table. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "symbolize/elf_file.h"
#include "symbolize/elf_segments.h"
#include "symbolize/go_pclntab.h"

struct go_module {
    struct go_pclntab table;    /* its data NULL: no Go binary, or one that can't be read */
    const uint8_t *further;     /* what FUNCDATA's entries are offsets in (go:func.*); NULL: not found */
    size_t further_bytes;
};

/* All that *ret points at is in the file's bytes. *ret is as it was where there is no table, or where it is not known which address its
 * functions are counted from. */
void go_module_open(const struct elf_file *file, const struct elf_segments *segments, struct go_module *ret);
