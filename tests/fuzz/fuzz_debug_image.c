/* A file with debug sections from anybody: their headers, and what they are compressed with. */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "symbolize/debug_image.h"
#include "tests/fuzz/fuzz.h"
#include "util/cleanup.h"

/* Every byte of an image can be read. */
static uint64_t sum(const struct debug_image *image)
{
    uint64_t s = 0;
    for (size_t i = 0; i < image->map_bytes; i += 64)
        s += image->map[i];
    return s;
}

static void make(const struct elf_file *file, enum debug_image_kind kind)
{
    CLEANUP(debug_image_free) struct debug_image image = {0};
    int r = debug_image_new(file, kind, &image);
    FUZZ_CHECK(r == 0 || r == -ENOENT || r == -EFBIG || r == -ENOTSUP || r == -ENOMEM);
    if (r < 0) {
        FUZZ_CHECK(!image.map);
        return;
    }
    FUZZ_CHECK(image.elf && elf_kind(image.elf) == ELF_K_ELF);
    if (image.map_bytes < 1u << 24)
        FUZZ_CHECK(sum(&image) < UINT64_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP(elf_file_close) struct elf_file file = {0};
    AUTO_CLOSE int fd = memfd_create("input", MFD_CLOEXEC);
    FUZZ_CHECK(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    if (elf_file_open(fd, &file) < 0)
        return 0;
    (void)debug_image_is_wanted(&file);
    make(&file, DEBUG_IMAGE_NAMES);
    make(&file, DEBUG_IMAGE_FRAMES);
    return 0;
}
