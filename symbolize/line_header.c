/* Every count in a header is a claim: lists grow as their entries are read, and each entry takes bytes. */
#include "symbolize/line_header.h"

#include <dwarf.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "symbolize/cfi_cursor.h"
#include "util/cleanup.h"

#define LINE_LIST_MAX (1u << 20) /* directories, or files */
#define ENTRY_FORMATS_MAX 255u

struct entry_format {
    uint64_t content, form;
};

struct entry {
    const char *name;
    uint64_t directory;
};

void line_header_deinit(struct line_header *header)
{
    free(header->directories);
    free(header->files);
    *header = (struct line_header){0};
}

/* NULL where the section has no such string, or it is too long for a path: many names may point into the same endless one. */
static const char *string_at(const struct line_bytes *section, uint64_t offset)
{
    size_t room = offset < section->n ? section->n - (size_t)offset : 0;
    if (room == 0 || !memchr(section->bytes + offset, '\0', room < PATH_MAX ? room : PATH_MAX))
        return NULL;
    return (const char *)section->bytes + offset;
}

static const char *get_string(struct cfi_cursor *c)
{
    const uint8_t *at = c->at, *end = memchr(at, '\0', (size_t)(c->end - at));
    if (!end) {
        cfi_cursor_fail(c);
        return "";
    }
    c->at = end + 1;
    return (const char *)at;
}

int line_header_add_file(struct line_header *header, const char *name, uint64_t directory)
{
    if (header->n_files >= LINE_LIST_MAX)
        return -E2BIG;
    if (header->n_files == header->files_room) {
        size_t room = header->files_room ? 2 * header->files_room : 16;
        struct line_file *grown = reallocarray(header->files, room, sizeof(*grown));
        if (!grown)
            return -ENOMEM;
        header->files = grown;
        header->files_room = room;
    }
    header->files[header->n_files++] = (struct line_file){.name = name, .directory = directory};
    return 0;
}

static int add_directory(struct line_header *header, size_t *room, const char *name)
{
    if (header->n_directories >= LINE_LIST_MAX)
        return -ENOEXEC;
    if (header->n_directories == *room) {
        size_t more = *room ? 2 * *room : 16;
        const char **grown = reallocarray(header->directories, more, sizeof(*grown));
        if (!grown)
            return -ENOMEM;
        header->directories = grown;
        *room = more;
    }
    header->directories[header->n_directories++] = name;
    return 0;
}

/* Version 2 to 4: lists that end with an empty string. Directory 0 is where the compiler ran, which the
 * unit tells; file 0 is none. */
static int read_old_lists(struct cfi_cursor *c, struct line_header *header)
{
    size_t room = 0;
    int r = add_directory(header, &room, NULL);
    while (r == 0 && !c->bad) {
        const char *name = get_string(c);
        if (name[0] == '\0')
            break;
        r = add_directory(header, &room, name);
    }
    if (r == 0)
        r = line_header_add_file(header, NULL, 0);
    while (r == 0 && !c->bad) {
        const char *name = get_string(c);
        if (name[0] == '\0')
            break;
        uint64_t directory = cfi_get_uleb(c);
        (void)cfi_get_uleb(c); /* time */
        (void)cfi_get_uleb(c); /* size */
        r = line_header_add_file(header, name, directory);
    }
    return r < 0 ? r : c->bad ? -ENOEXEC : 0;
}

static const char *get_name(struct cfi_cursor *c, const struct line_sections *sections, uint64_t form, unsigned offset_bytes)
{
    switch (form) {
    case DW_FORM_string:
        return get_string(c);
    case DW_FORM_line_strp:
        return string_at(&sections->line_str, cfi_get(c, offset_bytes));
    case DW_FORM_strp:
        return string_at(&sections->str, cfi_get(c, offset_bytes));
    default:
        return NULL;
    }
}

/* A number, or 0 past what is none. A form of unknown size ends the header. */
static uint64_t get_number(struct cfi_cursor *c, uint64_t form, unsigned offset_bytes)
{
    static const uint8_t sizes[] = {
        [DW_FORM_data1] = 1, [DW_FORM_data2] = 2, [DW_FORM_data4] = 4, [DW_FORM_data8] = 8,
        [DW_FORM_strx1] = 1, [DW_FORM_strx2] = 2, [DW_FORM_strx3] = 3, [DW_FORM_strx4] = 4,
    };
    switch (form) {
    case DW_FORM_udata:
    case DW_FORM_strx:
        return cfi_get_uleb(c);
    case DW_FORM_data16:
        cfi_skip(c, 16);
        return 0;
    case DW_FORM_block:
        cfi_skip(c, cfi_get_uleb(c));
        return 0;
    case DW_FORM_block1:
        cfi_skip(c, cfi_get(c, 1));
        return 0;
    case DW_FORM_block2:
        cfi_skip(c, cfi_get(c, 2));
        return 0;
    case DW_FORM_block4:
        cfi_skip(c, cfi_get(c, 4));
        return 0;
    case DW_FORM_strp_sup:
    case DW_FORM_GNU_strp_alt:
        return cfi_get(c, offset_bytes);
    }
    if (form < sizeof(sizes) && sizes[form])
        return cfi_get(c, sizes[form]);
    cfi_cursor_fail(c);
    return 0;
}

static struct entry get_entry(struct cfi_cursor *c, const struct line_sections *sections, const struct entry_format *formats,
                              size_t n_formats, unsigned offset_bytes)
{
    struct entry entry = {0};
    for (size_t i = 0; i < n_formats && !c->bad; i++) {
        uint64_t form = formats[i].form;
        bool string = form == DW_FORM_string || form == DW_FORM_line_strp || form == DW_FORM_strp;
        const char *name = string ? get_name(c, sections, form, offset_bytes) : NULL;
        uint64_t number = string ? 0 : get_number(c, form, offset_bytes);
        if (formats[i].content == DW_LNCT_path)
            entry.name = name;
        else if (formats[i].content == DW_LNCT_directory_index)
            entry.directory = number;
    }
    return entry;
}

/* Version 5: a list says first what its entries consist of. */
static int read_list(struct cfi_cursor *c, const struct line_sections *sections, unsigned offset_bytes, bool files,
                     struct line_header *header)
{
    struct entry_format formats[ENTRY_FORMATS_MAX];
    size_t n_formats = (size_t)cfi_get(c, 1), room = 0;
    for (size_t i = 0; i < n_formats; i++) {
        formats[i].content = cfi_get_uleb(c);
        formats[i].form = cfi_get_uleb(c);
    }
    int r = 0;
    for (uint64_t n = cfi_get_uleb(c); n > 0 && r == 0 && !c->bad; n--) {
        const uint8_t *before = c->at;
        struct entry entry = get_entry(c, sections, formats, n_formats, offset_bytes);
        if (c->bad || c->at == before)
            return -ENOEXEC;
        r = files ? line_header_add_file(header, entry.name, entry.directory) : add_directory(header, &room, entry.name);
    }
    return r < 0 ? r : c->bad ? -ENOEXEC : 0;
}

/* What stands between the header's length and its lists. */
static int read_parameters(struct cfi_cursor *c, struct line_header *header)
{
    header->min_instruction_bytes = (uint8_t)cfi_get(c, 1);
    header->max_operations = header->version >= 4 ? (uint8_t)cfi_get(c, 1) : 1;
    cfi_skip(c, 1); /* whether rows are statements at first */
    header->line_base = (int8_t)cfi_get(c, 1);
    header->line_range = (uint8_t)cfi_get(c, 1);
    header->opcode_base = (uint8_t)cfi_get(c, 1);
    header->operands = c->at;
    cfi_skip(c, header->opcode_base ? header->opcode_base - 1u : 0);
    if (c->bad || header->max_operations == 0 || header->line_range == 0 || header->opcode_base == 0)
        return -ENOEXEC;
    return 0;
}

int line_header_read(const struct line_sections *sections, uint64_t offset, struct line_header *ret)
{
    CLEANUP(line_header_deinit) struct line_header header = {0};
    if (offset >= sections->line.n)
        return -ENOEXEC;
    struct cfi_cursor c = {sections->line.bytes + offset, sections->line.bytes + sections->line.n, false};
    uint64_t length = cfi_get(&c, 4);
    unsigned offset_bytes = length == UINT32_MAX ? 8 : 4;
    if (offset_bytes == 8)
        length = cfi_get(&c, 8);
    if (!cfi_cursor_has(&c, length))
        return -ENOEXEC;
    c.end = c.at + length;
    uint64_t version = cfi_get(&c, 2);
    if (version < 2 || version > 5)
        return -ENOEXEC;
    header.version = (uint8_t)version;
    if (version >= 5)
        cfi_skip(&c, 2); /* sizes of addresses and segment selectors */
    uint64_t header_bytes = cfi_get(&c, offset_bytes);
    if (c.bad || !cfi_cursor_has(&c, header_bytes))
        return -ENOEXEC;
    header.program = (struct line_bytes){c.at + header_bytes, (size_t)(c.end - c.at) - (size_t)header_bytes};
    c.end = header.program.bytes;
    int r = read_parameters(&c, &header);
    if (r == 0 && version < 5)
        r = read_old_lists(&c, &header);
    else if (r == 0) {
        r = read_list(&c, sections, offset_bytes, false, &header);
        if (r == 0)
            r = read_list(&c, sections, offset_bytes, true, &header);
    }
    if (r < 0)
        return r == -E2BIG ? -ENOEXEC : r;
    *ret = header;
    header = (struct line_header){0};
    return 0;
}
