/* Rules for code without call frame information, from the code itself: hand-written assembly. They are marked as guesses
 * (UNWIND_REG_GUESSED). x86-64. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "symbolize/unwind_marks.h"

/* In one file. A file with more is not assembly here and there: it was built without unwinding information. */
#define UNWIND_MAX_ASSEMBLY_BYTES (4u << 20)

/* Reads the code of [start, end), file offsets in bytes, and adds marks for what it understands. 0, -ENOMEM or -EFBIG. */
int unwind_assembly_read(const uint8_t *bytes, uint64_t start, uint64_t end, struct unwind_marks *marks);
