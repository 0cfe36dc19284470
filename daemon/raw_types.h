/* What a profile's values are called. Shared by kinds, sessions and the raw profile. */
#pragma once

#include <stdint.h>

#define RAW_MAX_TYPES 4

struct raw_types {
    char type[RAW_MAX_TYPES][64]; /* sample types, in order */
    char unit[RAW_MAX_TYPES][16];
    uint32_t n;                   /* 1: the number of samples; 2: and their weight; 4: of allocations, and what of these is live */
    uint32_t pad;
    char period_type[64], period_unit[16];
    char default_type[64];        /* "": the last */
};
