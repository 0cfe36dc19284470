/* What fuzz targets share. Each is one file with LLVMFuzzerTestOneInput; linked with fuzz_runner.c it runs its corpus and mutations of
 * it as a test, and with clang and -Dfuzzers=true it is a libFuzzer target. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Holds in builds without assertions as well. */
#define FUZZ_CHECK(what) \
    do { \
        if (!(what)) \
            abort(); \
    } while (0)
