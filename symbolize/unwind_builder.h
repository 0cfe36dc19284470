/* Unwinding tables of ELF files: from .eh_frame, .debug_frame and what else tells how a frame is left, to the image that
 * util/unwind_table.h describes. Reads bytes that somebody else wrote: for a sandboxed process. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct unwind_output {
    void *image;               /* malloc'd */
    size_t image_bytes;
    uint32_t n_fdes;           /* used */
    uint32_t n_rows;
    uint32_t unsupported_rows; /* UNWIND_CFA_UNSUPPORTED */
    uint32_t fp_lost_rows;     /* UNWIND_FP_UNDEFINED */
};

/* fd stays the caller's. 0 or -errno:
 *   -ENOEXEC  not a 64-bit little-endian ELF program or library of a machine that has rules
 *   -ENODATA  nothing in it tells how a frame is left
 *   -EFBIG    beyond a cap: UNWIND_MAX_FDES, UNWIND_MAX_CIE_BYTES (unwind_fdes.h), UNWIND_MAX_CFI_BYTES (unwind_file.h), UNWIND_MAX_MARKS
 *             (unwind_marks.h), UNWIND_IMAGE_MAX_BYTES (unwind_pages.h), UNWIND_IMAGE_MAX_PAGES pages of 64 KiB (util/unwind_table.h)
 *   -ENOMEM */
int unwind_build(int elf_fd, struct unwind_output *ret);
void unwind_output_deinit(struct unwind_output *output);
