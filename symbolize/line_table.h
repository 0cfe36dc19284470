/* Addresses to lines: a line number program, and marks to enter it by.
 *
 * A program has some rows for each line of code, in a few bytes each; as an array they are ten times that.
 * So rows stay in the program. Reading it once leaves a mark at every LINE_MARK_ROWS-th row, sorted by
 * address; a lookup reads on from the mark before its address. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "symbolize/line_header.h"

struct elf_segments;

#define LINE_MARK_ROWS 32u

/* A row, and where the program goes on behind it. */
struct line_mark {
    uint64_t address;
    uint32_t next;  /* offset in the program; LINE_MARK_END: a sequence of rows ends here */
    uint32_t file;
    uint32_t line;
    uint32_t operation : 8; /* of an instruction with several */
    uint32_t order : 24;    /* of reading, by which marks of one address are sorted */
};
#define LINE_MARK_END UINT32_MAX

struct line_table {
    struct line_header header;
    struct line_mark *marks;
    size_t n_marks;
};

/* The program at an offset of .debug_line. Sequences that begin outside of code are left out: linkers
 * leave those of functions that they dropped. A program that ends in rubbish has the rows before it.
 * 0; -ENOEXEC: no header can be read; -ENOMEM. */
int line_table_read(const struct line_sections *sections, uint64_t offset, const struct elf_segments *segments,
                    struct line_table *ret);
/* The last row at or before an address, in sequences that hold it. False: there is none. */
bool line_table_find(const struct line_table *table, uint64_t address, uint64_t *ret_file, uint32_t *ret_line);
size_t line_table_bytes(const struct line_table *table);
void line_table_deinit(struct line_table *table);
