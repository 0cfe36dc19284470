/* The entries of .eh_frame and .debug_frame: CIEs and FDEs (DWARF 5, 6.4.1; LSB Core, 10.6). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "symbolize/cfi_program.h"

struct cfi_image; /* where a DW_EH_PE_indirect pointer is read */

struct cfi_section {
    const uint8_t *data;
    size_t bytes;
    uint64_t address;      /* of data[0]: pointers may be relative to themselves */
    uint64_t data_address; /* what DW_EH_PE_datarel counts from; 0: unknown */
    bool is_eh_frame;
    const struct cfi_image *image;
};

struct cfi_image {
    /* 8 bytes of the file at an address. False: there are none. */
    bool (*read)(const struct cfi_image *image, uint64_t address, uint64_t *ret);
};

struct cfi_cie {
    uint64_t offset; /* in its section */
    uint64_t code_align;
    int64_t data_align;
    uint64_t return_register;
    uint8_t pointer_encoding;
    bool has_augmentation_data;
    bool is_signal; /* 'S' */
    const uint8_t *code;
    size_t code_bytes;
};

struct cfi_fde {
    uint64_t start, bytes; /* addresses covered */
    const uint8_t *code;
    size_t code_bytes;
};

enum cfi_entry_kind { CFI_ENTRY_CIE, CFI_ENTRY_FDE };

struct cfi_entry {
    enum cfi_entry_kind kind;
    uint64_t next;       /* offset of the entry behind it */
    uint64_t cie_offset; /* FDE: of its CIE */
    uint64_t body, end;  /* offsets behind the CIE pointer, and of the end */
};

/* The entry at an offset. False: the section ends here, by its length or by a terminator, or nothing more can be made of it. */
bool cfi_entry_read(const struct cfi_section *section, uint64_t offset, struct cfi_entry *ret);

/* False: malformed, or of a version or augmentation that is unknown. */
bool cfi_cie_read(const struct cfi_section *section, uint64_t offset, struct cfi_cie *ret);
bool cfi_fde_read(const struct cfi_section *section, const struct cfi_entry *entry, const struct cfi_cie *cie, struct cfi_fde *ret);

/* A pointer in one of the encodings DW_EH_PE_*; fails the cursor where it can't be known. */
struct cfi_cursor;
uint64_t cfi_pointer_read(const struct cfi_section *section, struct cfi_cursor *c, uint8_t encoding);
