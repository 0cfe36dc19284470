/* The stack engine's way from an address to the rule that holds there: the mapping, its table's page, the row. Reads the arena of
 * bpf/unwind.h, of which nothing is believed: an offset that a broken table names is masked into its chunk.
 *
 * The includer defines
 *   const __u8 *stack_chunk(__u32 place)                the chunk of UNWIND_CHUNK_BYTES that holds a place, or NULL
 *   struct stack_cached *stack_cache(__u32 index)       an entry of STACK_CACHE_ENTRIES, of this CPU's alone, or NULL */
#pragma once

#include "bpf/stack_walk.h"
#include "bpf/unwind.h"

/* Reads within a chunk, at any byte offset: the verifier sees the mask. */
STACK_INLINE __u64 chunk_u64(const __u8 *chunk, __u32 offset)
{
    return *(const __u64 *)(chunk + (offset & (UNWIND_CHUNK_BYTES - 8)));
}

STACK_INLINE __u32 chunk_u32(const __u8 *chunk, __u32 offset)
{
    return *(const __u32 *)(chunk + (offset & (UNWIND_CHUNK_BYTES - 4)));
}

STACK_INLINE __u16 chunk_u16(const __u8 *chunk, __u32 offset)
{
    return *(const __u16 *)(chunk + (offset & (UNWIND_CHUNK_BYTES - 2)));
}

STACK_INLINE __u8 chunk_u8(const __u8 *chunk, __u32 offset)
{
    return chunk[offset & (UNWIND_CHUNK_BYTES - 1)];
}

/* The last of n sorted elements, stride bytes apart from offset on, whose __u64 is at most key; n where the first is greater. The
 * bounds are kept in memory, where the verifier does not follow them: else it would walk each of the ways that a search can take. */
STACK_INLINE __u32 chunk_search(struct stack_walk *walk, const __u8 *chunk, __u32 offset, __u32 stride, __u32 n, __u64 key)
{
    walk->low = 0;
    walk->high = n;
    for (__u32 i = 0; i < 12; i++) {
        __u32 low = walk->low, high = walk->high, middle = (low + high) / 2;
        if (low >= high)
            break;
        if (chunk_u64(chunk, offset + middle * stride) <= key)
            walk->low = middle + 1;
        else
            walk->high = middle;
    }
    return walk->low == 0 ? n : walk->low - 1;
}
_Static_assert(UNWIND_PART_MAPPINGS <= 1 << 11 && UNWIND_SPACE_PARTS <= 1 << 11, "twelve halvings find one");

/* Makes walk->mapping the one that holds an address. 1, or 0 where none does. */
STACK_GLOBAL int stack_find_mapping(struct stack_walk *walk, __u64 address)
{
    const __u8 *chunk;
    __u32 at, n, i;

    if (!walk)
        return 0;
    if (address >= walk->mapping.start && address < walk->mapping.end)
        return 1;
    chunk = stack_chunk(walk->space);
    if (!chunk)
        return 0;
    at = UNWIND_PLACE_OFFSET(walk->space);
    n = chunk_u32(chunk, at) & (2 * UNWIND_SPACE_PARTS - 1);
    at += 8;
    i = chunk_search(walk, chunk, at, 16, n, address);
    if (i == n)
        return 0;
    at += i * 16;
    n = chunk_u32(chunk, at + 12) & (2 * UNWIND_PART_MAPPINGS - 1);
    at = chunk_u32(chunk, at + 8);
    chunk = stack_chunk(at);
    if (!chunk)
        return 0;
    at = UNWIND_PLACE_OFFSET(at);
    i = chunk_search(walk, chunk, at, sizeof(struct unwind_mapping), n, address);
    if (i == n)
        return 0;
    at += i * sizeof(struct unwind_mapping);
    if (address >= chunk_u64(chunk, at + 8))
        return 0;
    walk->mapping.start = chunk_u64(chunk, at);
    walk->mapping.end = chunk_u64(chunk, at + 8);
    walk->mapping.offset = chunk_u64(chunk, at + 16);
    walk->mapping.table = chunk_u32(chunk, at + 24);
    walk->mapping.kind = chunk_u32(chunk, at + 28);
    return 1;
}

/* The row of a page that holds an offset in it, as its rule. */
STACK_INLINE __u64 stack_page_rule(struct stack_walk *walk, const __u8 *chunk, __u32 at, __u32 offset)
{
    __u32 n_rows = chunk_u16(chunk, at), n_rules = chunk_u16(chunk, at + 2);
    __u32 rules = at + sizeof(struct unwind_page), lows = rules + n_rules * sizeof(struct unwind_rule);

    walk->low = 0;
    walk->high = n_rows;
    for (__u32 i = 0; i < 16; i++) {
        __u32 low = walk->low, high = walk->high, middle = (low + high) / 2;
        if (low + 1 >= high)
            break;
        if (chunk_u16(chunk, lows + 2 * middle) <= offset)
            walk->low = middle;
        else
            walk->high = middle;
    }
    return chunk_u64(chunk, rules + chunk_u8(chunk, lows + 2 * n_rows + walk->low) * sizeof(struct unwind_rule));
}

/* Makes walk->rule the one at an address in walk->mapping, which has a table. Where nothing covers it: UNWIND_CFA_NONE. */
STACK_GLOBAL int stack_find_rule(struct stack_walk *walk, __u64 address)
{
    const __u8 *chunk;
    __u64 offset;
    __u32 at, shift, page;

    if (!walk)
        return 0;
    walk->rule = 0;
    offset = address - walk->mapping.start + walk->mapping.offset;
    chunk = stack_chunk(walk->mapping.table);
    if (!chunk)
        return 0;
    at = UNWIND_PLACE_OFFSET(walk->mapping.table);
    if (offset < chunk_u64(chunk, at))
        return 0;
    offset -= chunk_u64(chunk, at);
    shift = chunk_u32(chunk, at + 8) & 31;
    if (offset >> shift >= chunk_u32(chunk, at + 12))
        return 0;
    page = chunk_u32(chunk, at + sizeof(struct unwind_table) + 4 * (__u32)(offset >> shift));
    if (page == 0)
        return 0;
    chunk = stack_chunk(page);
    if (chunk)
        walk->rule = stack_page_rule(walk, chunk, UNWIND_PLACE_OFFSET(page), offset & ((1u << shift) - 1) & 0xffff);
    return 0;
}

/* ---- rules found before */

STACK_INLINE __u32 stack_cache_index(__u64 address)
{
    return (__u32)((address * 0x9fb21c651e98df25ull) >> 53);
}
_Static_assert(STACK_CACHE_ENTRIES == 1 << (64 - 53), "an index's bits");

/* Makes walk->rule the one at an address, by the mapping that holds it. 1, or 0 where no mapping is known, or its table is not there
 * yet. */
STACK_GLOBAL int stack_search_rule(struct stack_walk *walk, __u64 address)
{
    if (!walk || !stack_find_mapping(walk, address))
        return 0;
    walk->rule = 0;
    switch (walk->mapping.kind) {
    case UNWIND_MAPPING_TABLE:
        stack_find_rule(walk, address);
        return 1;
    case UNWIND_MAPPING_NO_CFI:
        return 1;
    case UNWIND_MAPPING_ANONYMOUS:
        walk->rule = UNWIND_CFA_FRAME_POINTER;
        return 1;
    default:
        return 0;
    }
}

STACK_INLINE __u64 stack_cached_check(__u64 address, __u32 version, __u64 rule)
{
    __u64 check = (address ^ (__u64)version << 32) * 0xd6e8feb86659fd93ull;

    check = ((check ^ check >> 29) + rule) * 0x9fb21c651e98df25ull;
    return check ^ check >> 32;
}

/* The same, by what was found before. */
STACK_INLINE int stack_rule_at(struct stack_walk *walk, __u64 address)
{
    struct stack_cached *cached = stack_cache(stack_cache_index(address));

    if (cached && walk->version) {
        walk->rule = *(volatile __u64 *)&cached->rule;
        if (cached->check == stack_cached_check(address, walk->version, walk->rule))
            return 1;
    }
    if (!stack_search_rule(walk, address))
        return 0;
    if (cached) {
        cached->rule = walk->rule;
        cached->check = stack_cached_check(address, walk->version, walk->rule);
    }
    return 1;
}

/* A walk begins: walk->space is known. */
STACK_INLINE void stack_begin(struct stack_walk *walk)
{
    const __u8 *chunk = stack_chunk(walk->space);

    walk->window_at = 1;
    walk->rated = 0;
    walk->version = chunk ? chunk_u32(chunk, UNWIND_PLACE_OFFSET(walk->space) + 4) : 0;
}
