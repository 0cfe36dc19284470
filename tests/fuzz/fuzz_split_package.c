/* The index of a package of split units, from anybody: eight bytes of a unit's id, then the index. What is found lies within the
 * package's sections. */
#include <string.h>

#include "symbolize/split_package.h"
#include "tests/fuzz/fuzz.h"

#define SECTION_BYTES 4096u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t bytes[SPLIT_SECTIONS][SECTION_BYTES];
    struct split_bytes sections[SPLIT_SECTIONS];
    uint64_t id;

    if (size < sizeof(id))
        return 0;
    memcpy(&id, data, sizeof(id));
    for (size_t i = 0; i < SPLIT_SECTIONS; i++)
        sections[i] = (struct split_bytes){bytes[i], SECTION_BYTES};
    int r = split_package_find((struct split_bytes){data + sizeof(id), size - sizeof(id)}, id, sections);
    for (size_t i = 0; i < SPLIT_SECTIONS; i++) {
        FUZZ_CHECK(r == 0 || (sections[i].data == bytes[i] && sections[i].size == SECTION_BYTES));
        FUZZ_CHECK(sections[i].size == 0 || (sections[i].data >= bytes[i] && sections[i].size <= SECTION_BYTES
                                             && sections[i].data - bytes[i] <= (ptrdiff_t)(SECTION_BYTES - sections[i].size)));
    }
    FUZZ_CHECK(r != 0 || (sections[SPLIT_INFO].size > 0 && sections[SPLIT_ABBREV].size > 0));
    return 0;
}
