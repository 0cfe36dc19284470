/* The head of a line number program: how its code is to be read, and the files that it names. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct line_bytes {
    const uint8_t *bytes; /* NULL: none */
    size_t n;
};

/* Sections of one file. */
struct line_sections {
    struct line_bytes line, line_str, str;
};

struct line_file {
    const char *name; /* in a section; NULL: in one that isn't there */
    const char *path; /* its reader's; NULL at first */
    uint64_t directory;
};

struct line_header {
    struct line_bytes program;
    const uint8_t *operands; /* how many each standard opcode takes */
    uint8_t version, min_instruction_bytes, max_operations, line_range, opcode_base;
    int8_t line_base;
    const char **directories; /* an element may be NULL */
    struct line_file *files;  /* as the program counts them, from 0 on in all versions */
    size_t n_directories, n_files, files_room;
};

/* DWARF 2 to 5, by their section 6.2.4. 0; -ENOEXEC: malformed, or of no known version; -ENOMEM. What it
 * refers to stays in the sections. */
int line_header_read(const struct line_sections *sections, uint64_t offset, struct line_header *ret);
/* A file that the program itself defines. 0, -E2BIG or -ENOMEM. */
int line_header_add_file(struct line_header *header, const char *name, uint64_t directory);
void line_header_deinit(struct line_header *header);
