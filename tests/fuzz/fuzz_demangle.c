/* A symbol's name, from anybody: demangled within bounds, or not at all. */
#include <string.h>

#include "symbolize/demangle.h"
#include "tests/fuzz/fuzz.h"
#include "util/cleanup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_FREE char *name = strndup((const char *)data, size);
    FUZZ_CHECK(name);
    AUTO_FREE char *readable = demangle(name);
    FUZZ_CHECK(!readable || (readable[0] && strlen(readable) <= 1u << 20));
    return 0;
}
