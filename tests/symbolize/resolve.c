/* resolve [--times] [--fast] [--table] [--debug-dir DIR]... FILE < addresses
 *
 * Prints the functions at link-time addresses (hex, one a line) the way `addr2line -a -i -f` does, so that
 * the two can be compared: the address, a name and a "file:line" for each frame, an empty line. --table:
 * all that is known instead, a line for each frame: address, name, system name, file, line and first line, parted by tabs. --times:
 * the CPU time that it took, cold and warm, to stderr. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "symbolize/elf_file.h"
#include "symbolize/elf_segments.h"
#include "symbolize/symbolizer.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define MAX_DIRS 8

struct resolve {
    const char *path;
    const char *dirs[MAX_DIRS];
    size_t n_dirs;
    enum symbolize_mode mode;
    bool times, table;
    uint64_t *offsets, *addresses;
    size_t n, room;
};

static int open_in(const char *dir, const char *format, const char *a, const char *b)
{
    char path[PATH_MAX], name[PATH_MAX];
    (void)snprintf(name, sizeof(name), format, a, b);
    if (snprintf(path, sizeof(path), "%s%s%s", dir, dir[0] ? "/" : "", name) >= (int)sizeof(path))
        return -ENAMETOOLONG;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static int open_debug_file(void *userdata, const struct debug_file_request *request, int *ret_fd)
{
    const struct resolve *r = userdata;
    const char *id = request->build_id;
    int fd = -ENOENT;
    if (request->kind == DEBUG_FILE_DWO || request->kind == DEBUG_FILE_DWP) {
        /* A package stands for all, so that it can't be missing some unnoticed. */
        AUTO_CLOSE int package = open_in("", "%s%s", r->path, ".dwp");
        fd = package >= 0 ? TAKE_FD(package) : open_in("", "%s%s", request->name, "");
    }
    for (size_t i = 0; fd < 0 && i < r->n_dirs; i++) {
        if (request->kind <= DEBUG_FILE_ALTLINK && request->kind != DEBUG_FILE_DEBUGLINK && id && strlen(id) > 2)
            fd = open_in(r->dirs[i], ".build-id/%.2s/%s.debug", id, id + 2);
        else if (request->kind == DEBUG_FILE_DEBUGLINK && !strchr(request->name, '/'))
            fd = open_in(r->dirs[i], "%s%s", request->name, "");
    }
    if (fd < 0)
        return fd;
    *ret_fd = fd;
    return 0;
}

/* Addresses to offsets: what is sampled is an offset in a file. */
static int read_addresses(struct resolve *r, int fd)
{
    CLEANUP(elf_file_close) struct elf_file file = {0};
    CLEANUP(elf_segments_deinit) struct elf_segments segments = {0};
    char line[64];
    int error = elf_file_open(fd, &file);
    if (error == 0)
        error = elf_segments_load(file.elf, &segments);
    while (error == 0 && fgets(line, sizeof(line), stdin)) {
        if (r->n == r->room) {
            r->room = r->room ? 2 * r->room : 1024;
            r->offsets = reallocarray(r->offsets, r->room, sizeof(*r->offsets));
            r->addresses = reallocarray(r->addresses, r->room, sizeof(*r->addresses));
            if (!r->offsets || !r->addresses)
                return -ENOMEM;
        }
        r->addresses[r->n] = strtoull(line, NULL, 16);
        r->offsets[r->n] = UINT64_MAX;
        (void)elf_segments_offset(&segments, r->addresses[r->n], &r->offsets[r->n]);
        r->n++;
    }
    return error;
}

static void print_frames(uint64_t address, const struct symbol_frame *frames, size_t n)
{
    printf("0x%016" PRIx64 "\n", address);
    for (size_t i = 0; i < n; i++)
        printf("%s\n%s:%" PRId64 "\n", frames[i].name, frames[i].filename ? frames[i].filename : "??",
               frames[i].line);
    if (n == 0)
        printf("??\n??:0\n");
    printf("\n");
}

static void print_table(uint64_t address, const struct symbol_frame *frames, size_t n)
{
    for (size_t i = 0; i < n; i++)
        printf("%" PRIx64 "\t%s\t%s\t%s\t%" PRId64 "\t%" PRId64 "\n", address, frames[i].name, frames[i].system_name,
               frames[i].filename ? frames[i].filename : "", frames[i].line, frames[i].start_line);
    if (n == 0)
        printf("%" PRIx64 "\n", address);
}

static int resolve_all(struct resolve *r, int fd)
{
    struct symbol_frame frames[SYMBOL_MAX_INLINED];
    struct stat st;
    struct module *module;
    const struct symbolizer_ops ops = {.open_debug_file = open_debug_file};
    struct symbolizer *s = symbolizer_new(&ops, SIZE_MAX);
    if (!s || fstat(fd, &st) < 0)
        return -ENOMEM;
    struct file_identity id = {.dev = st.st_dev, .ino = st.st_ino, .size = (uint64_t)st.st_size};
    uint64_t begin = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    int error = symbolizer_module(s, &id, dup(fd), r, &module);
    for (size_t i = 0; error == 0 && i < r->n; i++) {
        size_t n = module_resolve(module, r->offsets[i], r->mode, frames);
        if (!r->times)
            (r->table ? print_table : print_frames)(r->addresses[i], frames, n);
    }
    uint64_t cold = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    for (size_t i = 0; error == 0 && r->times && i < r->n; i++)
        (void)module_resolve(module, r->offsets[i], r->mode, frames);
    if (error == 0 && r->times && r->n > 0)
        fprintf(stderr, "%zu addresses, cold %.1f ms, warm %.3f us each, cache %zu KiB\n", r->n,
                (double)(cold - begin) / 1e6,
                (double)(clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cold) / 1e3 / (double)r->n,
                symbolizer_cache_bytes(s) / 1024);
    symbolizer_free(s);
    return error;
}

static bool parse_arguments(struct resolve *r, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--times") == 0)
            r->times = true;
        else if (strcmp(argv[i], "--fast") == 0)
            r->mode = SYMBOLIZE_FAST;
        else if (strcmp(argv[i], "--table") == 0)
            r->table = true;
        else if (strcmp(argv[i], "--debug-dir") == 0 && i + 1 < argc && r->n_dirs < MAX_DIRS)
            r->dirs[r->n_dirs++] = argv[++i];
        else if (argv[i][0] != '-' && !r->path)
            r->path = argv[i];
        else
            return false;
    }
    return r->path != NULL;
}

int main(int argc, char **argv)
{
    struct resolve r = {.mode = SYMBOLIZE_FULL};
    if (!parse_arguments(&r, argc, argv)) {
        fprintf(stderr, "usage: resolve [--times] [--fast] [--table] [--debug-dir DIR]... FILE < addresses\n");
        return 2;
    }
    AUTO_CLOSE int fd = open(r.path, O_RDONLY | O_CLOEXEC);
    int error = fd < 0 ? -errno : read_addresses(&r, fd);
    if (error == 0)
        error = resolve_all(&r, fd);
    if (error < 0)
        fprintf(stderr, "resolve: %s: %s\n", r.path, strerror(-error));
    free(r.offsets);
    free(r.addresses);
    return error < 0;
}
