/* Symbol tables that anybody wrote: an allocator's functions, and what is like a name. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "symbolize/elf_file.h"
#include "symbolize/heap_functions.h"
#include "symbolize/symbolizer.h"
#include "tests/fuzz/fuzz.h"
#include "util/cleanup.h"

static int no_debug_file(void *userdata, const struct debug_file_request *request, int *ret_fd)
{
    return -ENOENT;
}

static int input_fd(const uint8_t *data, size_t size)
{
    int fd = memfd_create("input", MFD_CLOEXEC);
    FUZZ_CHECK(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    return fd;
}

static void check_functions(const struct heap_function *list, size_t n)
{
    FUZZ_CHECK(n <= HEAP_MAX_FUNCTIONS);
    for (size_t i = 0; i < n; i++)
        FUZZ_CHECK(memchr(list[i].name, '\0', sizeof(list[i].name)) && memchr(list[i].insn, '\0', sizeof(list[i].insn)));
}

static void check_names(struct module *m)
{
    static const char *const wanted[] = {"Malloc", "store::blob", "free_sized", "twice"};
    struct symbol_suggestion list[SUGGESTIONS_MAX];

    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        uint64_t offset;
        (void)module_absence(m, wanted[i]);
        size_t n = module_similar(m, wanted[i], list);
        for (size_t k = 0; k < n; k++)
            FUZZ_CHECK(list[k].name[0] && memchr(list[k].name, '\0', sizeof(list[k].name)));
        FUZZ_CHECK(n <= SUGGESTIONS_MAX && module_namesakes(m, wanted[i], list) <= SUGGESTIONS_MAX);
        FUZZ_CHECK(module_usdt_names(m, wanted[i], list) <= SUGGESTIONS_MAX);
        (void)module_find_function(m, wanted[i], 0, &offset);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct symbolizer_ops ops = {.open_debug_file = no_debug_file};
    struct heap_function list[HEAP_MAX_FUNCTIONS];
    struct elf_file file = {0};
    struct module *m;
    size_t n = 0;
    AUTO_CLOSE int fd = input_fd(data, size);

    if (elf_file_open(fd, &file) < 0)
        return 0;
    bool found = heap_functions_find(&file, list, &n) == 0;
    elf_file_close(&file);
    struct symbolizer *symbolizer = symbolizer_new(&ops, 0);
    FUZZ_CHECK(symbolizer);
    if (symbolizer_module(symbolizer, &(struct file_identity){0}, input_fd(data, size), NULL, &m) == 0) {
        if (found)
            heap_functions_place(m, list, &n);
        check_names(m);
    }
    if (found)
        check_functions(list, n);
    symbolizer_free(symbolizer);
    return 0;
}
