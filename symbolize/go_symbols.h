/* Functions, files, lines and inlined calls of Go's code, by Go's own table: what a Go program without DWARF says of itself in its
 * panics and profiles. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "symbolize/arena.h"
#include "symbolize/go_module.h"
#include "symbolize/symbolizer.h"

struct go_string;

/* Zeroed: no Go binary. */
struct go_symbols {
    struct go_module module;
    int wrapper;                     /* which functions the compiler made: what such a function's record says; -1: not known */
    uint64_t budget;                 /* entries of tables that may still be gone through: a hostile table can make each look long */
    struct go_string *names, *files; /* that were handed out */
};

/* file and segments outlive *ret. */
void go_symbols_open(const struct elf_file *file, const struct elf_segments *segments, struct go_symbols *ret);
void go_symbols_deinit(struct go_symbols *go);

/* Whether the compiler made the function that holds an address. */
bool go_symbols_is_wrapper(const struct go_symbols *go, uint64_t address);
/* As module_resolve. with_lines false: the function's name alone, whatever was inlined into it. The strings are the arena's. */
size_t go_symbols_resolve(struct go_symbols *go, struct arena *arena, uint64_t address, bool with_lines,
                          struct symbol_frame out[SYMBOL_MAX_INLINED]);
