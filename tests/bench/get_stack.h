/* What get_stack.bpf.c counts, for its loader. */
#pragma once

struct get_stack_sum {
    unsigned long long samples, frames, ns;
};
