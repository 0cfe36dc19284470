/* A whole ELF file from anybody: headers, sections, symbol tables, compressed sections. */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "symbolize/unwind_builder.h"
#include "tests/fuzz/fuzz.h"
#include "util/cleanup.h"
#include "util/unwind_table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct unwind_output output = {0};
    AUTO_CLOSE int fd = memfd_create("input", MFD_CLOEXEC);
    FUZZ_CHECK(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    int r = unwind_build(fd, &output);
    FUZZ_CHECK(r == 0 || r == -ENOEXEC || r == -ENODATA || r == -EFBIG);
    if (r == 0)
        FUZZ_CHECK(unwind_image_check(output.image, output.image_bytes) == 0);
    unwind_output_deinit(&output);
    return 0;
}
