/* For the fuzzers of perf maps and jitdumps: what a file says of an address does not depend on what else is asked. */
#pragma once

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "symbolize/code_names.h"
#include "tests/fuzz/fuzz.h"
#include "util/cleanup.h"

/* Addresses that the corpora name, and the edges. */
static const uint64_t fuzz_addresses[] = {0, 1, 0x1000, 0x1001, 0x100f, 0x1010, 0x10ff, 0x1100, 0x2000, 0x2010, 0x3000,
                                          0x7f6500ec7180, 0x7fffffffffffffff, UINT64_MAX - 1, UINT64_MAX};
#define N_FUZZ_ADDRESSES (sizeof(fuzz_addresses) / sizeof(fuzz_addresses[0]))

static inline struct code_names *fuzz_names(const uint64_t *addresses, size_t n)
{
    struct code_names *names = code_names_new(addresses, n);
    FUZZ_CHECK(names);
    return names;
}

static inline void fuzz_same_text(const char *a, const char *b)
{
    FUZZ_CHECK(!a == !b && (!a || strcmp(a, b) == 0));
}

/* read names what it can: all addresses at once, and each alone. */
static inline void fuzz_code_names(const uint8_t *data, size_t size, int (*read)(int fd, struct code_names *names))
{
    AUTO_CLOSE int fd = memfd_create("fuzz", MFD_CLOEXEC);
    FUZZ_CHECK(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    struct code_names *all = fuzz_names(fuzz_addresses, N_FUZZ_ADDRESSES);
    int r = read(fd, all);

    for (size_t i = 0; i < N_FUZZ_ADDRESSES; i++) {
        struct code_names *one = fuzz_names(&fuzz_addresses[i], 1);
        FUZZ_CHECK(read(fd, one) == r);
        const struct code_name *a = code_names_find(all, fuzz_addresses[i]), *b = code_names_find(one, fuzz_addresses[i]);
        FUZZ_CHECK(!a == !b);
        if (a) {
            FUZZ_CHECK(a->name[0] && a->line == b->line && a->line >= 0 && (!a->filename || a->filename[0]));
            fuzz_same_text(a->name, b->name);
            fuzz_same_text(a->filename, b->filename);
        }
        code_names_free(one);
    }
    code_names_free(all);
}
