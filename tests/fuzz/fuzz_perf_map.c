/* The reader of perf maps. The input is the file. */
#include "symbolize/perf_map.h"
#include "tests/fuzz/fuzz_code_names.h"

static int read_map(int fd, struct code_names *names)
{
    struct perf_map_result result;
    int r = perf_map_read(fd, names, UINT64_MAX, &result);
    FUZZ_CHECK(result.malformed <= result.lines && !result.cut);
    return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_code_names(data, size, read_map);
    return 0;
}
