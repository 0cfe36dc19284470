/* Where a unit's line table is, and absolute paths, each made once. libdw's own reader of line tables keeps
 * every row, in ten times the bytes that the file has for it; so it isn't asked for them. */
#include "symbolize/dwarf_lines.h"

#include <dwarf.h>
#include <errno.h>
#include <limits.h>
#include <string.h>

#include "symbolize/dwarf_functions.h"
#include "symbolize/elf_file.h"

/* What reading a program costs, in DIEs of a reader's budget: one for so many bytes. */
#define LINE_BYTES_PER_DIE 16u
/* The unit's directory, the file's, and its name. */
#define PATH_PARTS 3

static struct line_bytes section_bytes(Elf *elf, const char *name)
{
    const struct elf_file file = {.elf = elf};
    GElf_Shdr header;
    Elf_Scn *section = elf_file_section(&file, name, &header);
    const Elf_Data *data = section && header.sh_type != SHT_NOBITS ? elf_rawdata(section, NULL) : NULL;
    return data && data->d_buf ? (struct line_bytes){data->d_buf, data->d_size} : (struct line_bytes){0};
}

void dwarf_lines_sections(Dwarf *dwarf, struct line_sections *ret)
{
    static const uint8_t host_order = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? ELFDATA2LSB : ELFDATA2MSB;
    GElf_Ehdr header;
    Elf *elf = dwarf_getelf(dwarf);
    *ret = (struct line_sections){0};
    if (!gelf_getehdr(elf, &header) || header.e_ident[EI_DATA] != host_order)
        return;
    ret->line = section_bytes(elf, ".debug_line");
    ret->line_str = section_bytes(elf, ".debug_line_str");
    ret->str = section_bytes(elf, ".debug_str");
}

int dwarf_lines_load(Dwarf_Die *unit, struct dwarf_reader *reader, struct dwarf_lines *ret)
{
    struct dwarf_lines lines = {0};
    Dwarf_Attribute attr;
    Dwarf_Word offset;
    *ret = lines;
    if (dwarf_formudata(dwarf_attr(unit, DW_AT_stmt_list, &attr), &offset) != 0)
        return 0;
    if (reader->budget == 0)
        return 0;
    int r = line_table_read(&reader->lines, offset, reader->segments, &lines.table);
    if (r < 0)
        return r == -ENOMEM ? r : 0;
    uint64_t cost = lines.table.header.program.n / LINE_BYTES_PER_DIE + lines.table.header.n_files;
    if (cost > reader->budget) {
        line_table_deinit(&lines.table);
        reader->budget = 0;
        return 0;
    }
    reader->budget -= cost;
    lines.directory = dwarf_formstring(dwarf_attr(unit, DW_AT_comp_dir, &attr));
    *ret = lines;
    return 0;
}

void dwarf_lines_deinit(struct dwarf_lines *lines)
{
    line_table_deinit(&lines->table);
    *lines = (struct dwarf_lines){0};
}

/* Appends a path's components but "." and empty ones; ".." stays, as it may go through a symbolic link. */
static size_t path_append(char *out, size_t len, const char *path)
{
    while (*path) {
        size_t part = strcspn(path, "/");
        if (part > 0 && !(part == 1 && path[0] == '.')) {
            if (len > 0 && out[len - 1] != '/')
                out[len++] = '/';
            memcpy(out + len, path, part);
            len += part;
        }
        path += part + (path[part] == '/');
    }
    return len;
}

/* Of some parts of a path, those from the last absolute one on. */
static const char *path_join(struct arena *arena, const char *const parts[PATH_PARTS])
{
    char buf[PATH_PARTS * (PATH_MAX + 1)];
    size_t len = 0, first = PATH_PARTS - 1;
    while (first > 0 && parts[first][0] != '/')
        first--;
    if (parts[first][0] == '/')
        buf[len++] = '/';
    for (size_t i = first; i < PATH_PARTS; i++) {
        if (strnlen(parts[i], PATH_MAX) == PATH_MAX)
            return NULL;
        len = path_append(buf, len, parts[i]);
    }
    return arena_strndup(arena, buf, len);
}

const char *dwarf_lines_path(struct dwarf_lines *lines, struct arena *arena, size_t file)
{
    const struct line_header *header = &lines->table.header;
    if (file >= header->n_files || !header->files[file].name || header->files[file].name[0] == '\0')
        return NULL;
    struct line_file *f = &header->files[file];
    if (!f->path) {
        if (f->directory >= header->n_directories)
            return NULL;
        const char *base = lines->directory, *directory = header->directories[f->directory];
        f->path = path_join(arena, (const char *const[]){base ? base : "", directory ? directory : "", f->name});
    }
    return f->path;
}

bool dwarf_lines_find(struct dwarf_lines *lines, struct arena *arena, uint64_t address, const char **ret_path,
                      int64_t *ret_line)
{
    uint64_t file;
    uint32_t line;
    if (!line_table_find(&lines->table, address, &file, &line))
        return false;
    *ret_path = dwarf_lines_path(lines, arena, file);
    *ret_line = line <= INT32_MAX ? line : 0;
    return true;
}

size_t dwarf_lines_bytes(const struct dwarf_lines *lines)
{
    return line_table_bytes(&lines->table);
}
