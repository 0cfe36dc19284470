/* The labels of a goroutine (runtime/pprof's Do), of which the runtime keeps nothing but an address. */
#pragma once

#include "daemon/goroutines.h"
#include "daemon/raw_profile.h"

/* A set as it stands in RAW_LABELS. */
struct goroutine_labels {
    size_t bytes;
    uint8_t data[sizeof(struct raw_label_set) + GOROUTINES_MAX_LABELS * (sizeof(struct raw_label) + 7) + GOROUTINES_MAX_LABEL_BYTES]
        __attribute__((aligned(8)));
};

/* Those at an address that is not 0. False: they can't be had, or exceed the bounds. */
bool goroutine_labels_read(const struct goroutine_source *source, uint64_t address, struct goroutine_labels *ret);
