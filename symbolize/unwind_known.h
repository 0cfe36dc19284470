/* Code of which something is known that its call frame information does not say: entry points, starts of threads, signal trampolines
 * without CFI, code that keeps frame pointers. */
#pragma once

#include "symbolize/unwind_file.h"
#include "symbolize/unwind_marks.h"

struct unwind_known {
    struct unwind_marks over; /* these count whatever CFI says */
    struct unwind_marks gaps; /* these only where CFI says nothing */
};

struct unwind_arch;
struct unwind_go;

/* 0, -ENOMEM or -EFBIG. entry_end: an address where the function at the entry point ends, as CFI has it; 0: unknown. */
int unwind_known_find(const struct unwind_file *file, const struct unwind_arch *arch, const struct unwind_go *go, uint64_t entry_end,
                      struct unwind_known *ret);
/* Once all marks are there. */
void unwind_known_settle(struct unwind_known *known);
void unwind_known_deinit(struct unwind_known *known);
