/* What a collector does for a Go program: reads its goroutines, once it was told how. */
#pragma once

#include <stdbool.h>

#include "daemon/go_job.h"
#include "daemon/goroutines.h"

struct mapping_table;
struct target_clock;

struct collector_go {
    bool known;
    unsigned images; /* how many there had been when the program's file was handed out */
    struct go_program program;
};

/* What the loop sends; fd stays the caller's. 0 or -errno. */
int collector_go_take(struct collector_go *go, int fd);
void collector_go_deinit(struct collector_go *go); /* zeroed memory is fine */

/* memory: of the image that the table was read of last. A memfd with RAW_* sections; -ESTALE: that is another image; -ENODATA: there is no list of
 * goroutines where it must be; -errno. */
int collector_go_read(const struct collector_go *go, const struct mapping_table *table, const struct target_clock *clock, uint32_t epoch, int memory,
                      struct goroutine_counts *ret);
