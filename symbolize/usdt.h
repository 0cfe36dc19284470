/* The notes of USDT probe sites (section .note.stapsdt), one by one. Those who look for one probe's sites take
 * module_find_usdt (symbolizer.h). */
#pragma once

#include <stdint.h>

#include "symbolize/elf_file.h"

/* Addresses are those of the file as it is now (what prelink moved is added). The strings are the file's, and end. */
struct usdt_note {
    uint64_t address;
    uint64_t semaphore; /* 0: none */
    uint64_t moved;     /* what was added to the two */
    const char *provider, *name;
    const char *arguments; /* "" where the note ends before them */
};

/* Calls visit for each; what it returns other than 0 ends the walk, and is the result. Malformed notes are passed over. */
int usdt_each(const struct elf_file *file, int (*visit)(void *userdata, const struct usdt_note *note), void *userdata);
