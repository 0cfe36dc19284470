/* The stack engine on the host: stacks made by hand, and an arena of tables in ordinary memory. Included once, before any test of
 * bpf/stack.h; what it asks of its surroundings is answered from here. */
#pragma once

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bpf/stack_walk.h"
#include "bpf/unwind.h"

/* A stack of 4,096 words, and some code, at addresses of their own. */
#define STACK_BASE 0x7ffe00000000ull
#define STACK_WORDS 4096
#define CODE_BASE 0x401000ull
static __u64 stack[STACK_WORDS];
static __u8 code_bytes[65536];

static long stack_read(void *to, __u32 size, __u64 address)
{
    if (address >= STACK_BASE && address + size <= STACK_BASE + sizeof(stack))
        memcpy(to, (char *)stack + (address - STACK_BASE), size);
    else if (address >= CODE_BASE && address + size <= CODE_BASE + sizeof(code_bytes))
        memcpy(to, code_bytes + (address - CODE_BASE), size);
    else
        return -EFAULT;
    return 0;
}

static __u8 arena[4][UNWIND_CHUNK_BYTES] __attribute__((aligned(8)));
static __u64 arena_used; /* bytes; the first 8 are place 0, which is none */

static const __u8 *stack_chunk(__u32 place)
{
    __u64 at = (__u64)place << 3;
    return place && at < sizeof(arena) ? arena[at / UNWIND_CHUNK_BYTES] : NULL;
}

/* A copy in the arena; its place. */
static __attribute__((unused)) __u32 arena_put(const void *data, size_t len)
{
    if (arena_used == 0)
        arena_used = 8;
    if (arena_used % UNWIND_CHUNK_BYTES + len > UNWIND_CHUNK_BYTES)
        arena_used += UNWIND_CHUNK_BYTES - arena_used % UNWIND_CHUNK_BYTES;
    ck_assert_uint_le(arena_used + len, sizeof(arena));
    memcpy((__u8 *)arena + arena_used, data, len);
    __u32 place = UNWIND_PLACE(arena_used);
    arena_used += (len + 7) & ~7ull;
    return place;
}

static struct stack_cached cache[STACK_CACHE_ENTRIES];

static __attribute__((unused)) struct stack_cached *stack_cache(__u32 index)
{
    return &cache[index];
}

static __u64 registers[64]; /* of the innermost frame, by DWARF number */
static int registers_known;

static int stack_register(__u32 reg, __u64 *ret)
{
    *ret = registers[reg];
    return registers_known;
}

static __u64 probed_slot, probed_return;

static __u64 stack_probed_return(__u64 slot)
{
    return slot == probed_slot ? probed_return : 0;
}
