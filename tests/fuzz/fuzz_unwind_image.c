/* Unwinding tables from a worker that was taken over: what passes the check can be searched anywhere. */
#include <errno.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "util/cleanup.h"
#include "util/unwind_table.h"

#define PLACES 512u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct unwind_image header;
    /* Of exactly its size, for the sanitizers. */
    AUTO_FREE uint8_t *exact = malloc(size ? size : 1);
    FUZZ_CHECK(exact);
    memcpy(exact, data, size);
    /* The length is set right mostly, or nothing behind it would be seen. */
    if (size >= sizeof(header) && size % 8 == 0) {
        memcpy(&header, exact, sizeof(header));
        header.len = size;
        memcpy(exact, &header, sizeof(header));
    }
    int r = unwind_image_check(exact, size);
    FUZZ_CHECK(r == 0 || r == -EBADMSG);
    if (r < 0)
        return 0;
    uint64_t bytes = ((uint64_t)header.n_pages + 2) << header.page_shift, step = bytes / PLACES + 1;
    for (uint64_t at = 0; at < bytes; at += step) {
        struct unwind_rule rule = unwind_image_find(exact, header.base + at);
        FUZZ_CHECK(UNWIND_SAVED_ADDEND(rule.saved) == 0 || UNWIND_CFA_KIND(rule.cfa) == UNWIND_CFA_MEMORY
                   || (UNWIND_CFA_KIND(rule.cfa) == UNWIND_CFA_REGISTER && rule.saved >> 4 == UNWIND_OTHER_STACK >> 4));
    }
    FUZZ_CHECK(header.base == 0 || UNWIND_CFA_KIND(unwind_image_find(exact, header.base - 1).cfa) == UNWIND_CFA_NONE);
    return 0;
}
