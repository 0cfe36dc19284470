/* Code that no call frame information covers: whether it keeps frame pointers, and where threads begin in it. */
#pragma once

#include <stddef.h>

#include "symbolize/unwind_fdes.h"
#include "symbolize/unwind_file.h"
#include "symbolize/unwind_known.h"
#include "symbolize/unwind_rule.h"

/* Adds marks to *known. list: sorted. 0, -ENOMEM or -EFBIG. */
int unwind_gaps_mark(const struct unwind_file *file, const struct unwind_arch *arch, const struct unwind_fde *list, size_t n,
                     struct unwind_known *known);
