/* Unwinding by the CFI of an ELF file from anybody: walks begin all over it, with a stack whose words are addresses in it, so
 * that they go on for a while. */
#include <elf.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "symbolize/copy_unwind.h"
#include "symbolize/symbolizer.h"
#include "tests/fuzz/fuzz.h"
#include "util/cleanup.h"

#define SCANNED_BYTES 8192u
#define MAX_PLACES 64u
#define FRAMES 64u
#define STACK_WORDS 512u
#define STACK_BASE 0x7ffd00000000ull
#define CODE_BASE 0x400000ull

struct input {
    const uint8_t *data;
    size_t size;
    struct module *module;
    uint64_t places[MAX_PLACES]; /* offsets of code that has CFI, or what passes for it */
    size_t n_places;
};

static int input_fd(const struct input *input)
{
    AUTO_CLOSE int fd = memfd_create("input", MFD_CLOEXEC);
    if (fd < 0 || write(fd, input->data, input->size) != (ssize_t)input->size)
        return -1;
    return TAKE_FD(fd);
}

/* The file is its own debug file too. */
static int open_debug_file(void *userdata, const struct debug_file_request *request, int *ret_fd)
{
    *ret_fd = input_fd(userdata);
    return *ret_fd < 0 ? -1 : 0;
}

static void find_code(void *userdata, uint64_t address, struct copy_code *ret)
{
    const struct input *input = userdata;
    if (address >= CODE_BASE && address - CODE_BASE < input->size)
        *ret = (struct copy_code){COPY_CODE_FILE, input->module, address - CODE_BASE};
    else if (address >= 2 * CODE_BASE && address < 3 * CODE_BASE)
        ret->kind = COPY_CODE_MADE;
}

/* Returns how it ended. */
static enum copy_end walk(const struct input *input, uint16_t machine, uint64_t offset)
{
    static const struct copy_ops ops = {.code = find_code};
    uint64_t words[STACK_WORDS];
    struct copy_frame frames[FRAMES];
    struct copy_stack stack = {.machine = machine, .known = UINT64_MAX, .base = STACK_BASE, .bytes = (const uint8_t *)words,
                               .len = sizeof(words)};
    size_t n = 0;

    for (size_t i = 0; i < STACK_WORDS; i++)
        words[i] = i % 3 || input->n_places == 0 ? STACK_BASE + 8 * i : CODE_BASE + input->places[(offset + i) % input->n_places] + 1;
    for (size_t i = 0; i < COPY_MAX_REGISTERS; i++)
        stack.registers[i] = STACK_BASE + 64 * i;
    stack.registers[machine == EM_X86_64 ? 7 : 31] = STACK_BASE;
    stack.registers[machine == EM_X86_64 ? 16 : 32] = CODE_BASE + offset;
    enum copy_end end = copy_unwind(&stack, &ops, (void *)input, UINT64_MAX, frames, FRAMES, &n);
    FUZZ_CHECK(n >= 1 && n <= FRAMES && end >= COPY_END_ROOT && end <= COPY_END_NO_TIME);
    FUZZ_CHECK(frames[0].pc == CODE_BASE + offset && frames[0].exact);
    FUZZ_CHECK(end != COPY_END_TOO_DEEP || n == FRAMES);
    return end;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct symbolizer_ops ops = {.open_debug_file = open_debug_file};
    const struct file_identity id = {.ino = 1};
    struct input input = {data, size, NULL};
    struct symbolizer *s = symbolizer_new(&ops, 1 << 20);
    FUZZ_CHECK(s);
    if (size > 0 && symbolizer_module(s, &id, input_fd(&input), &input, &input.module) == 0) {
        for (uint64_t offset = 0; offset < size && offset < SCANNED_BYTES && input.n_places < MAX_PLACES; offset++)
            if (walk(&input, EM_X86_64, offset) != COPY_END_NO_CFI)
                input.places[input.n_places++] = offset;
        for (size_t i = 0; i < input.n_places; i++) {
            (void)walk(&input, EM_X86_64, input.places[i]);
            (void)walk(&input, EM_AARCH64, input.places[i]);
        }
        FUZZ_CHECK(symbolizer_cache_bytes(s) > 0);
    }
    symbolizer_free(s);
    return 0;
}
