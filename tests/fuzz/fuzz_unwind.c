/* Call frame information from anybody, in an ELF file of ours: the first byte chooses machine and section (.eh_frame, .debug_frame or
 * .gopclntab), the rest is the section. What comes out must pass the check that its loader makes, in little time. */
#include <elf.h>
#include <errno.h>

#include "symbolize/unwind_builder.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unwind/elf_image.h"
#include "util/unwind_table.h"

#define DEBUG_FRAME 1
#define AARCH64 2
#define GO 4

/* Some prologues (push %rbp; mov %rsp,%rbp), and further on code that takes another stack pointer (mov %rbx,%rsp): what is believed of CFI
 * and of Go's table depends on the code. */
#define PROLOGUES_BYTES 0x400
#define CHANGES_OFFSET 0x4000
#define CHANGES_BYTES 0x200
static uint8_t code[CHANGES_OFFSET + CHANGES_BYTES];

static void lay_code(void)
{
    static const uint8_t prologue[] = {0x55, 0x48, 0x89, 0xe5}, change[] = {0x48, 0x89, 0xdc, 0x90};
    for (size_t i = 0; i < PROLOGUES_BYTES; i++)
        code[i] = prologue[i % sizeof(prologue)];
    for (size_t i = 0; i < CHANGES_BYTES; i++)
        code[CHANGES_OFFSET + i] = change[i % sizeof(change)];
}

static void check_output(const struct unwind_output *output)
{
    uint32_t unsupported = 0;
    FUZZ_CHECK(unwind_image_check(output->image, output->image_bytes) == 0);
    for (uint64_t offset = 0; offset < ELF_IMAGE_TEXT + ELF_IMAGE_TEXT_BYTES + 64; offset += 7) {
        struct unwind_rule rule = unwind_image_find(output->image, offset);
        unsupported += UNWIND_CFA_KIND(rule.cfa) == UNWIND_CFA_UNSUPPORTED;
        if (offset + 1 < ELF_IMAGE_TEXT || offset >= ELF_IMAGE_TEXT + ELF_IMAGE_TEXT_BYTES)
            FUZZ_CHECK(UNWIND_CFA_KIND(rule.cfa) == UNWIND_CFA_NONE);
    }
    FUZZ_CHECK(unsupported == 0 || output->unsupported_rows > 0);
    FUZZ_CHECK(output->n_rows > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct unwind_output output = {0};
    if (size < 2 || size > ELF_IMAGE_MAX_CFI)
        return 0;
    enum elf_image_kind kind = data[0] & GO ? ELF_IMAGE_GO : data[0] & DEBUG_FRAME ? ELF_IMAGE_DEBUG_FRAME : ELF_IMAGE_EH_FRAME;
    struct elf_image_head head = elf_image_head(data[0] & AARCH64 ? EM_AARCH64 : EM_X86_64, kind, size - 1);
    lay_code();
    AUTO_CLOSE int fd = elf_image_open(head, code, sizeof(code), data + 1, size - 1);
    FUZZ_CHECK(fd >= 0);
    int r = unwind_build(fd, &output);
    if (r == 0)
        check_output(&output);
    else
        FUZZ_CHECK(r == -ENODATA || r == -EFBIG);
    unwind_output_deinit(&output);
    return 0;
}
