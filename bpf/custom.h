/* Custom profiles: values that a program adds to a named profile and removes again, each with the stack that added it. What the programs of
 * custom.bpf.c and user code tell each other.
 *
 * A place is probed by what is done there: its role, which is in the probe's cookie. */
#pragma once

#include "bpf/control.h"

/* Live values of one profile, and calls that are on their way to the place where their value is known; what finds no room is counted. */
#define CUSTOM_MAX_LIVE 65536
#define CUSTOM_MAX_CALLS 16384

enum custom_op {
    CUSTOM_ADD,
    CUSTOM_REMOVE,
    CUSTOM_CALL, /* a function is entered whose result is added where it returns: its weight is an argument */
};

/* Where a value or a weight stands. */
enum custom_from {
    CUSTOM_ARG0, CUSTOM_ARG1, CUSTOM_ARG2, CUSTOM_ARG3, CUSTOM_ARG4, CUSTOM_ARG5,
    CUSTOM_RESULT,
    CUSTOM_NOWHERE, /* of a weight: it has none */
};

#define CUSTOM_MAX_SKIP 31
#define CUSTOM_DEFAULT_SKIP 1
/* What one value weighs, where all that were added are summed up in the kernel. */
#define CUSTOM_MAX_WEIGHT (1ull << 40)

/* COOKIE's timer. */
#define CUSTOM_ROLE(op, key, weight, skip) ((__u32)(op) | (__u32)(key) << 8 | (__u32)(weight) << 11 | (__u32)(skip) << 14)
#define CUSTOM_ROLE_OP(role) ((role) & 3)
#define CUSTOM_ROLE_KEY(role) ((role) >> 8 & 7)
#define CUSTOM_ROLE_WEIGHT(role) ((role) >> 11 & 7)
#define CUSTOM_ROLE_SKIP(role) ((role) >> 14 & CUSTOM_MAX_SKIP)
#define CUSTOM_ROLE_AT_ENTRY 4u /* the return address is at the stack's top */
#define CUSTOM_ROLE_SKIPS 8u    /* skip is the fourth argument (include/cprofd/profile.h) */
#define CUSTOM_ROLE_CALLED 16u  /* the weight was noted by CUSTOM_CALL */
#define CUSTOM_ROLE_MAY_FAIL 32u /* it is a result, which may be no value, but an error: */
#define CUSTOM_ROLE_NUMBER 64u  /* one below 0; else (it is a pointer) NULL, and what stands for an errno */
#define CUSTOM_ROLE_COUNTED (1u << 19) /* nothing is removed: each add counts, whatever the value */
#define CUSTOM_ROLE_INT 128u    /* the value is the lower half of its register, with its sign; nobody says what is in the other half */

#define CUSTOM_COOKIE_ROLE(cookie) ((__u32)((cookie) >> 8) & 0xffffff)

/* A value that is live, by itself. */
struct custom_value {
    __u64 stack_hash[2];
    __u64 weight;
    __u32 epoch;
    __u32 times; /* of how many it stands, as one in so many is taken */
    __u32 skip;
    __u32 pad;
};

#ifndef __bpf__
_Static_assert(sizeof(struct custom_value) == 40, "layout shared with BPF");
#endif
