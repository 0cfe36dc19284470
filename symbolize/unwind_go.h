/* How far the stack pointer is from the return address at each instruction of a Go function, by Go's own table of functions. */
#pragma once

#include <stdint.h>

#include "symbolize/go_module.h"
#include "symbolize/unwind_file.h"
#include "util/unwind_table.h"

struct unwind_go {
    const struct unwind_file *file;
    struct go_pclntab table; /* its data NULL: no Go binary, or one that can't be read */
};

#define UNWIND_GO_NAME_BYTES 64 /* of a function: longer ones are none that mean anything to unwinding */

/* *ret is as it was where there is no such table. */
void unwind_go_open(const struct unwind_file *file, struct unwind_go *ret);

/* Rows of a function, up to an address: put is called with ascending addresses. */
void unwind_go_run(const struct unwind_go *go, const struct go_function *function, uint64_t end,
                   void (*put)(void *userdata, uint64_t address, const struct unwind_rule *rule), void *userdata);
