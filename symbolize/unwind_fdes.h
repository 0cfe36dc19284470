/* Which FDE covers which part of a file: those of .eh_frame, then Go's functions, which are as good, then those of .debug_frame. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "symbolize/cfi_entries.h"
#include "symbolize/elf_segments.h"
#include "symbolize/unwind_go.h"

/* Beyond these, -EFBIG. The largest binaries at hand have 0.7 million FDEs. */
#define UNWIND_MAX_FDES (1u << 22)
#define UNWIND_MAX_CIE_BYTES (64u << 20) /* of CIEs' programs, as often as they are read */

struct unwind_fde {
    uint64_t start; /* file offset */
    uint64_t entry; /* offset in its section */
    uint32_t bytes; /* covered; longer ones are cut down */
    uint32_t section; /* UNWIND_GO: none, and entry is the index of a function */
};

enum { UNWIND_EH_FRAME, UNWIND_DEBUG_FRAME, UNWIND_N_SECTIONS, UNWIND_GO = UNWIND_N_SECTIONS };

/* CIEs by offset; an entry may be lost to another one, and is then read again. */
#define UNWIND_CIE_SLOTS 1024

struct unwind_cie {
    struct cfi_cie cie;
    const struct cfi_section *section;
    bool is_known, is_sound;
    struct cfi_registers registers;
    struct cfi_row initial;
};

struct unwind_fdes {
    struct cfi_section sections[UNWIND_N_SECTIONS];
    struct unwind_go go;
    uint64_t file_bytes;
    uint8_t fp, sp; /* the machine's registers */
    struct unwind_cie *cies;
    uint64_t cie_bytes; /* read so far */
    struct unwind_fde *list; /* ascending */
    size_t n, room;
};

/* 0, -ENOMEM or -EFBIG. The sections' bytes, Go's table, the file's size and the registers are set before. */
int unwind_fdes_collect(struct unwind_fdes *fdes, const struct elf_segments *segments);
void unwind_fdes_deinit(struct unwind_fdes *fdes);

/* The CIE at an offset; NULL where it is malformed. */
const struct unwind_cie *unwind_fdes_cie(struct unwind_fdes *fdes, const struct cfi_section *section, uint64_t offset);
