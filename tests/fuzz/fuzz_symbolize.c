/* An ELF file with DWARF, from anybody: opened, resolved at many offsets, searched for probe places. It is
 * its own debug file and its own common file too, so that those ways are taken. */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "symbolize/symbolizer.h"
#include "tests/fuzz/fuzz.h"
#include "util/cleanup.h"

#define OFFSETS 96u

struct input {
    const uint8_t *data;
    size_t size;
};

static int input_fd(const struct input *input)
{
    AUTO_CLOSE int fd = memfd_create("input", MFD_CLOEXEC);
    if (fd < 0 || write(fd, input->data, input->size) != (ssize_t)input->size)
        return -1;
    return TAKE_FD(fd);
}

static int open_debug_file(void *userdata, const struct debug_file_request *request, int *ret_fd)
{
    FUZZ_CHECK(strlen(request->name) < SIZE_MAX / 2);
    *ret_fd = input_fd(userdata);
    return *ret_fd < 0 ? -1 : 0;
}

static void check_frames(const struct symbol_frame *frames, size_t n)
{
    size_t bytes = 0;
    FUZZ_CHECK(n <= SYMBOL_MAX_INLINED);
    for (size_t i = 0; i < n; i++) {
        FUZZ_CHECK(frames[i].name && frames[i].system_name);
        bytes += strlen(frames[i].name) + strlen(frames[i].system_name)
                 + (frames[i].filename ? strlen(frames[i].filename) : 0);
        FUZZ_CHECK(frames[i].line >= 0 && frames[i].start_line >= 0);
    }
    FUZZ_CHECK(bytes < 1u << 28);
}

static void resolve_some(struct module *m, size_t size)
{
    struct symbol_frame frames[SYMBOL_MAX_INLINED];
    uint64_t step = size / OFFSETS + 1;
    for (uint64_t offset = 0; offset < size; offset += step) {
        check_frames(frames, module_resolve(m, offset, SYMBOLIZE_FAST, frames));
        check_frames(frames, module_resolve(m, offset, SYMBOLIZE_FULL, frames));
        (void)module_vaddr(m, offset);
        (void)module_code_start(m, offset);
    }
}

static void find_some(struct module *m)
{
    static const char *const names[] = {"outer", "inner", "_start", "ns::f", "x"};
    struct usdt_site *sites = NULL;
    uint64_t offset;
    size_t n = 0;
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        (void)module_find_function(m, names[i], 1, &offset);
    if (module_find_usdt(m, "tiny", "probe", &sites, &n) == 0)
        FUZZ_CHECK(n > 0 && sites);
    free(sites);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct symbolizer_ops ops = {.open_debug_file = open_debug_file};
    const struct file_identity id = {.ino = 1};
    struct input input = {data, size};
    struct module *m = NULL;
    struct symbolizer *s = symbolizer_new(&ops, 1 << 20);
    FUZZ_CHECK(s);
    if (symbolizer_module(s, &id, input_fd(&input), &input, &m) == 0) {
        (void)module_build_id(m);
        resolve_some(m, size);
        find_some(m);
        FUZZ_CHECK(symbolizer_cache_bytes(s) > 0);
    }
    symbolizer_trim(s);
    symbolizer_free(s);
    return 0;
}
