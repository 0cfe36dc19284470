/* libdw reads a unit's line table when it is first asked for a row, and keeps it. What is added here are
 * absolute paths, each made once. */
#include "symbolize/dwarf_lines.h"

#include <dwarf.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* What libdw holds for each row and file. */
#define LINE_ROW_BYTES 40u
#define LINE_FILE_BYTES 96u

int dwarf_lines_load(Dwarf_Die *unit, struct dwarf_lines *ret)
{
    struct dwarf_lines lines = {0};
    Dwarf_Attribute attr;
    Dwarf_Lines *rows;
    if (dwarf_getsrclines(unit, &rows, &lines.n_lines) != 0
        || dwarf_getsrcfiles(unit, &lines.files, &lines.n_files) != 0) {
        *ret = (struct dwarf_lines){0};
        return 0;
    }
    lines.directory = dwarf_formstring(dwarf_attr(unit, DW_AT_comp_dir, &attr));
    lines.paths = calloc(lines.n_files + 1, sizeof(*lines.paths));
    if (!lines.paths)
        return -ENOMEM;
    *ret = lines;
    return 0;
}

void dwarf_lines_deinit(struct dwarf_lines *lines)
{
    free(lines->paths);
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

static const char *path_join(struct arena *arena, const char *directory, const char *path)
{
    char buf[2 * PATH_MAX + 4];
    size_t len = 0;
    bool joined = path[0] != '/' && directory;
    if (strnlen(path, PATH_MAX) == PATH_MAX || (joined && strnlen(directory, PATH_MAX) == PATH_MAX))
        return NULL;
    if ((joined ? directory : path)[0] == '/')
        buf[len++] = '/';
    if (joined)
        len = path_append(buf, len, directory);
    len = path_append(buf, len, path);
    return arena_strndup(arena, buf, len);
}

const char *dwarf_lines_path(struct dwarf_lines *lines, struct arena *arena, size_t file)
{
    if (!lines->files || file >= lines->n_files)
        return NULL;
    if (!lines->paths[file]) {
        const char *recorded = dwarf_filesrc(lines->files, file, NULL, NULL);
        if (!recorded || recorded[0] == '\0' || strcmp(recorded, "???") == 0)
            return NULL;
        lines->paths[file] = path_join(arena, lines->directory, recorded);
    }
    return lines->paths[file];
}

bool dwarf_lines_find(struct dwarf_lines *lines, Dwarf_Die *unit, struct arena *arena, uint64_t address,
                      const char **ret_path, int64_t *ret_line)
{
    Dwarf_Files *files;
    size_t file;
    int number;
    if (!lines->files)
        return false;
    Dwarf_Line *line = dwarf_getsrc_die(unit, address);
    if (!line || dwarf_lineno(line, &number) != 0 || dwarf_line_file(line, &files, &file) != 0)
        return false;
    *ret_path = dwarf_lines_path(lines, arena, file);
    *ret_line = number > 0 ? number : 0;
    return true;
}

size_t dwarf_lines_bytes(const struct dwarf_lines *lines)
{
    return lines->n_lines * LINE_ROW_BYTES + lines->n_files * (LINE_FILE_BYTES + sizeof(*lines->paths));
}
