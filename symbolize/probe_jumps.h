/* Whether anything in a file goes to a window of code, by whatever way. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "symbolize/probe_place.h"

struct probe_flow;

/* True where some jump or call may lead into (f's start, last]: of all bytes of the file's code that could be one with a wide distance, of the
 * instructions near it with a narrow one, and where the function itself has computed jumps, by their tables. flow: of that function. */
bool probe_jumps_lead_into(struct probe_flow *flow, const struct probe_function *f, uint64_t last);

/* How many wide jumps lead from outside of the function's own parts into its first one, behind its start. */
uint32_t probe_jumps_count_ways_in(const struct probe_flow *flow);
