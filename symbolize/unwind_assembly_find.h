/* Code between the FDEs: hand-written assembly, whose rules come from the code itself. */
#pragma once

#include "symbolize/unwind_fdes.h"
#include "symbolize/unwind_file.h"
#include "symbolize/unwind_marks.h"

struct unwind_arch;

/* Adds to marks (settled before and after), which are of code without CFI, where they say nothing yet. A file of which more than
 * UNWIND_MAX_ASSEMBLY_BYTES lies between FDEs is left alone; musl, which has none at all, is small enough. 0 or -ENOMEM. */
int unwind_assembly_find(const struct unwind_file *file, const struct unwind_arch *arch, const struct unwind_fdes *fdes, struct unwind_marks *marks);
