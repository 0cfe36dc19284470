/* The state machine of DWARF's section 6.2.5, for the registers that are asked for: address, file, line. */
#include "symbolize/line_table.h"

#include <dwarf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "symbolize/cfi_cursor.h"
#include "symbolize/elf_segments.h"
#include "util/cleanup.h"

#define LINE_MARKS_MAX (1u << 24) /* what `order` can count */

struct line_state {
    struct cfi_cursor c;
    uint64_t address;
    uint32_t operation, file, line;
};

enum line_step { LINE_NOTHING, LINE_ROW, LINE_END, LINE_DONE };

static void state_reset(struct line_state *s)
{
    s->address = 0;
    s->operation = 0;
    s->file = 1;
    s->line = 1;
}

static void advance(struct line_state *s, const struct line_header *h, uint64_t operations)
{
    if (h->max_operations == 1) {
        s->address += h->min_instruction_bytes * operations;
        return;
    }
    uint64_t sum = s->operation + operations;
    s->address += h->min_instruction_bytes * (sum / h->max_operations);
    s->operation = (uint32_t)(sum % h->max_operations);
}

/* files: where definitions of files go; NULL: they were read already. */
static enum line_step step_extended(struct line_state *s, struct line_header *files)
{
    uint64_t bytes = cfi_get_uleb(&s->c);
    if (s->c.bad || bytes == 0 || !cfi_cursor_has(&s->c, bytes))
        return LINE_DONE;
    struct cfi_cursor c = {s->c.at, s->c.at + bytes, false};
    s->c.at += bytes;
    switch (cfi_get(&c, 1)) {
    case DW_LNE_end_sequence:
        return LINE_END;
    case DW_LNE_set_address:
        s->address = bytes - 1 <= 8 ? cfi_get(&c, bytes - 1) : 0;
        s->operation = 0;
        break;
    case DW_LNE_define_file:
        if (files) {
            const uint8_t *name = c.at, *end = memchr(name, '\0', (size_t)(c.end - name));
            c.at = end ? end + 1 : c.end;
            (void)line_header_add_file(files, end ? (const char *)name : NULL, cfi_get_uleb(&c));
        }
        break;
    }
    return LINE_NOTHING;
}

static void step_standard(struct line_state *s, const struct line_header *h, uint8_t opcode)
{
    switch (opcode) {
    case DW_LNS_advance_pc:
        advance(s, h, cfi_get_uleb(&s->c));
        break;
    case DW_LNS_advance_line:
        s->line += (uint32_t)cfi_get_sleb(&s->c);
        break;
    case DW_LNS_set_file:
        s->file = (uint32_t)cfi_get_uleb(&s->c);
        break;
    case DW_LNS_const_add_pc:
        advance(s, h, (255u - h->opcode_base) / h->line_range);
        break;
    case DW_LNS_fixed_advance_pc:
        s->address += cfi_get(&s->c, 2);
        s->operation = 0;
        break;
    default:
        for (unsigned n = h->operands[opcode - 1]; n > 0 && !s->c.bad; n--)
            (void)cfi_get_uleb(&s->c);
    }
}

/* Reads on up to the next row, or the end of a sequence. */
static enum line_step state_next(struct line_state *s, const struct line_header *h, struct line_header *files)
{
    while (s->c.at < s->c.end) {
        uint8_t opcode = *s->c.at++;
        if (opcode >= h->opcode_base) {
            unsigned adjusted = opcode - h->opcode_base;
            advance(s, h, adjusted / h->line_range);
            s->line += (uint32_t)(h->line_base + (int)(adjusted % h->line_range));
            return LINE_ROW;
        }
        if (opcode == 0) {
            enum line_step step = step_extended(s, files);
            if (step != LINE_NOTHING)
                return step;
        } else if (opcode == DW_LNS_copy) {
            return LINE_ROW;
        } else {
            step_standard(s, h, opcode);
            if (s->c.bad)
                return LINE_DONE;
        }
    }
    return LINE_DONE;
}

struct line_marker {
    struct line_table *table;
    size_t room;
    size_t rows;   /* since the last mark */
    uint64_t last; /* address of the row before */
    bool in_sequence, dropped;
};

static int mark_add(struct line_marker *m, const struct line_state *s, bool end)
{
    struct line_table *t = m->table;
    if (t->n_marks >= LINE_MARKS_MAX)
        return -E2BIG;
    if (t->n_marks == m->room) {
        size_t room = m->room ? 2 * m->room : 64;
        struct line_mark *grown = reallocarray(t->marks, room, sizeof(*grown));
        if (!grown)
            return -ENOMEM;
        t->marks = grown;
        m->room = room;
    }
    t->marks[t->n_marks] = (struct line_mark){s->address, end ? LINE_MARK_END : (uint32_t)(s->c.at - t->header.program.bytes),
                                              s->file, s->line, s->operation, (uint32_t)t->n_marks};
    t->n_marks++;
    m->rows = 0;
    return 0;
}

/* A row whose address is before the last one's begins a stretch of its own, so that each is ascending. */
static int mark_row(struct line_marker *m, const struct elf_segments *segments, const struct line_state *s)
{
    bool first = !m->in_sequence;
    if (first)
        m->dropped = segments && !elf_segments_is_code(segments, s->address);
    m->in_sequence = true;
    if (m->dropped)
        return 0;
    int r = 0;
    if (first || s->address < m->last || ++m->rows >= LINE_MARK_ROWS)
        r = mark_add(m, s, false);
    m->last = s->address;
    return r;
}

static int mark_end(struct line_marker *m, const struct line_state *s)
{
    int r = m->in_sequence && !m->dropped ? mark_add(m, s, true) : 0;
    m->in_sequence = false;
    return r;
}

/* The end of one sequence stands before the beginning of the next. */
static int mark_compare(const void *a, const void *b)
{
    const struct line_mark *x = a, *y = b;
    bool x_end = x->next == LINE_MARK_END, y_end = y->next == LINE_MARK_END;
    if (x->address != y->address)
        return x->address < y->address ? -1 : 1;
    if (x_end != y_end)
        return x_end ? -1 : 1;
    return x->order < y->order ? -1 : x->order > y->order;
}

static void marks_sort(struct line_table *t)
{
    for (size_t i = 1; i < t->n_marks; i++)
        if (mark_compare(&t->marks[i - 1], &t->marks[i]) > 0) {
            qsort(t->marks, t->n_marks, sizeof(*t->marks), mark_compare);
            break;
        }
}

/* An end where something begins says nothing: functions mostly lie side by side, each with a sequence of its
 * own. */
static void marks_finish(struct line_table *t)
{
    size_t n = 0;
    marks_sort(t);
    for (size_t i = 0; i < t->n_marks; i++)
        if (t->marks[i].next != LINE_MARK_END || i + 1 == t->n_marks || t->marks[i + 1].address != t->marks[i].address)
            t->marks[n++] = t->marks[i];
    struct line_mark *shrunk = reallocarray(t->marks, n ? n : 1, sizeof(*shrunk));
    t->marks = shrunk ? shrunk : t->marks;
    t->n_marks = n;
}

static int marks_read(struct line_table *t, const struct elf_segments *segments)
{
    struct line_marker m = {.table = t};
    const struct line_bytes *program = &t->header.program;
    struct line_state s = {.c = {program->bytes, program->bytes + program->n, false}};
    int r = 0;
    state_reset(&s);
    while (r == 0) {
        enum line_step step = state_next(&s, &t->header, &t->header);
        if (step == LINE_DONE)
            break;
        r = step == LINE_ROW ? mark_row(&m, segments, &s) : mark_end(&m, &s);
        if (step == LINE_END)
            state_reset(&s);
    }
    return r == -E2BIG ? 0 : r;
}

int line_table_read(const struct line_sections *sections, uint64_t offset, const struct elf_segments *segments,
                    struct line_table *ret)
{
    CLEANUP(line_table_deinit) struct line_table table = {0};
    int r = line_header_read(sections, offset, &table.header);
    if (r == 0 && table.header.program.n >= LINE_MARK_END)
        r = -ENOEXEC;
    if (r == 0)
        r = marks_read(&table, segments);
    if (r < 0)
        return r;
    marks_finish(&table);
    *ret = table;
    table = (struct line_table){0};
    return 0;
}

/* The last mark at or before an address. */
static const struct line_mark *mark_find(const struct line_table *t, uint64_t address)
{
    size_t low = 0, high = t->n_marks;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (t->marks[middle].address <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 ? &t->marks[low - 1] : NULL;
}

/* Rows of programs that compilers write take some bytes each; one that takes very many would be read again for each address. */
#define LINE_FIND_MAX_BYTES 16384u

bool line_table_find(const struct line_table *t, uint64_t address, uint64_t *ret_file, uint32_t *ret_line)
{
    const struct line_mark *mark = mark_find(t, address);
    const struct line_bytes *program = &t->header.program;
    if (!mark || mark->next == LINE_MARK_END)
        return false;
    size_t left = program->n - mark->next, n_bytes = left < LINE_FIND_MAX_BYTES ? left : LINE_FIND_MAX_BYTES;
    struct line_state s = {.c = {program->bytes + mark->next, program->bytes + mark->next + n_bytes, false},
                           .address = mark->address, .operation = mark->operation, .file = mark->file, .line = mark->line};
    struct line_state row = s;
    for (unsigned n = 0; n < LINE_MARK_ROWS && state_next(&s, &t->header, NULL) == LINE_ROW; n++) {
        if (s.address > address || s.address < row.address)
            break;
        row = s;
    }
    if (s.c.at == s.c.end && n_bytes < left)
        return false;
    *ret_file = row.file;
    *ret_line = row.line;
    return true;
}

size_t line_table_bytes(const struct line_table *table)
{
    return table->n_marks * sizeof(*table->marks) + table->header.files_room * sizeof(*table->header.files)
           + table->header.n_directories * sizeof(*table->header.directories);
}

void line_table_deinit(struct line_table *table)
{
    free(table->marks);
    line_header_deinit(&table->header);
    *table = (struct line_table){0};
}
