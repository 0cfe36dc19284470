/* Owns nothing beyond the call. Most files have no such function: no more than their symbol tables are read. */
#include "daemon/heap_job.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "symbolize/elf_file.h"
#include "symbolize/heap_functions.h"
#include "symbolize/symbolizer.h"
#include "util/cleanup.h"

static int heap_no_debug_file(void *userdata, const struct debug_file_request *request, int *ret_fd)
{
    return -ENOENT;
}

static void heap_free_symbolizer(struct symbolizer **s)
{
    symbolizer_free(*s);
}

static int heap_find(int elf_fd, struct heap_function *ret, size_t *ret_n)
{
    CLEANUP(elf_file_close) struct elf_file file = {0};

    int r = elf_file_open(elf_fd, &file);
    if (r == 0 && !elf_file_is_program(&file))
        r = -ENOEXEC;
    return r < 0 ? r : heap_functions_find(&file, ret, ret_n);
}

static int heap_place(int *elf_fd, struct heap_function *list, size_t *n)
{
    static const struct symbolizer_ops ops = {.open_debug_file = heap_no_debug_file};
    CLEANUP(heap_free_symbolizer) struct symbolizer *symbolizer = symbolizer_new(&ops, 0);
    struct module *module;

    if (!symbolizer)
        return -ENOMEM;
    int r = symbolizer_module(symbolizer, &(struct file_identity){0}, TAKE_FD(*elf_fd), NULL, &module);
    if (r == 0)
        heap_functions_place(module, list, n);
    return r;
}

int heap_make(int elf_fd, int out_fd, uint64_t *ret_len, char *message, size_t message_len)
{
    struct heap_function functions[HEAP_MAX_FUNCTIONS];
    AUTO_CLOSE int fd = elf_fd;
    size_t n = 0;

    int r = heap_find(fd, functions, &n);
    if (r == 0 && n > 0)
        r = heap_place(&fd, functions, &n);
    size_t len = n * sizeof(functions[0]);
    if (r == 0 && write(out_fd, functions, len) != (ssize_t)len)
        r = -EIO;
    if (r < 0)
        (void)snprintf(message, message_len, "%s", strerror(-r));
    else
        *ret_len = len;
    return r;
}
