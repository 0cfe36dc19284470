/* Who knows what is at an address of a file, ranked. Sources are asked in this order, and the first that has a name answers; a source that is
 * missing, malformed or hostile has none, so the next one is asked.
 *
 *   source                                 names      lines  inlined  start   asked by symbolize=fast
 *   Go's pclntab, from 1.20 on             as Go's    yes    yes      yes     names alone
 *   DWARF, own or a separate debug file's  demangled  yes    yes      yes     no
 *   Go's pclntab, older                    as Go's    yes    >=1.18   -       names alone
 *   .symtab of the separate debug file     demangled  -      -        -       no
 *   .symtab, .dynsym, stubs of the PLT     demangled  -      -        -       yes
 *   .gnu_debugdata (xz)                    demangled  -      -        -       yes
 *   the ELF header's entry point           _start     -      -        -       yes
 *
 * Go's table goes before DWARF: it says the same of Go's code, in the words of Go's own profiles, and costs a hundredth to read.
 * Within the symbol tables elf_symbols.c says which of several names is shown. Code that none of them knows is "FILE+0x1234" to whoever shows
 * it, by where its function begins (module_code_start). What is no file (the kernel, JIT code) has sources of its own.
 *
 * To add a source: a row in symbol_sources.c, where its rank is, and one here. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "symbolize/symbolizer.h"

struct module;

/* As module_resolve, at a link-time address, without its cache. */
size_t symbol_sources_resolve(struct module *m, uint64_t address, enum symbolize_mode mode, struct symbol_frame out[SYMBOL_MAX_INLINED]);
