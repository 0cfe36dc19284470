/* The reader of jitdumps. The input is the file, but for the header, which is right; its first byte is the end of the window, and says
 * whether V8 wrote it. */
#include "symbolize/jitdump.h"
#include "symbolize/jitdump_format.h"
#include "tests/fuzz/fuzz_code_names.h"

static struct jitdump_options options = {.pid = 77, .deadline_ns = UINT64_MAX, .lines = true};

static int read_dump(int fd, struct code_names *names)
{
    struct jitdump_result result;
    return jitdump_read(fd, names, &options, &result);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct jitdump_header header = {.magic = JITDUMP_MAGIC, .version = JITDUMP_VERSION, .total_size = sizeof(header), .pid = 77};

    if (size == 0)
        return 0;
    header.pad1 = data[0] & 1 ? 0xDEADBEEF : 0;
    header.flags = data[0] & 2 ? JITDUMP_ARCH_TIMESTAMP : 0;
    options.end_ns = data[0] >> 2;
    AUTO_FREE uint8_t *file = malloc(sizeof(header) + size - 1);
    FUZZ_CHECK(file);
    memcpy(file, &header, sizeof(header));
    memcpy(file + sizeof(header), data + 1, size - 1);
    fuzz_code_names(file, sizeof(header) + size - 1, read_dump);
    fuzz_code_names(data + 1, size - 1, read_dump); /* and a header of its own */
    return 0;
}
