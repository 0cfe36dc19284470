/* What is known of the probes of a recording, and what its profile says of them. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct raw_writer;

struct recording_probe {
    char text[256]; /* "malloc+0x4 (push, emulated)"; "": it has none */
    bool at_entry, stepped; /* as in struct recorder_config */
    bool result;            /* they are where a function returns, and these calls of it are not seen: */
    uint32_t tail_calls, ways_in; /* struct probe_points */
};

/* Facts: probe, probe.*. hit_ns: of each hit, 0 where it is not known. 0 or -errno. */
int recording_probe_facts(const struct recording_probe *probe, uint64_t hit_ns, struct raw_writer *w);
