/* glibc's _dl_runtime_resolve_xsavec, which a function's first call through a lazy PLT enters. It keeps its frame in rbx, which the code
 * that it calls uses for itself, so that the CFA can't be had by its rule. But what it saved tells how much it was: rbx, aligned down to
 * 64 bytes, is the end of 64 bytes of registers and an XSAVEC area, whose header names its parts. Which of four places that leaves is the
 * one, rbx's own value tells: the function that it called (_dl_fixup) has pushed it, or has not changed it yet. */
#pragma once

#include "bpf/stack_guess.h"

#ifdef STACK_LR

/* aarch64's is found from sp. */
STACK_INLINE __u64 stack_resolver_cfa(struct stack_walk *walk, __u32 reg, __s32 offset)
{
    return 0;
}

#else

#define STACK_RESOLVER_BASE 3 /* rbx */
#define STACK_RESOLVER_PUSHES 6 /* of the function that it calls: all registers that a function must keep */
#define STACK_RESOLVER_REGISTERS 64
#define STACK_RESOLVER_PARTS (STACK_RESOLVER_REGISTERS + 512 + 8) /* XCOMP_BV: Intel SDM volume 1, 13.4 */
#define STACK_RESOLVER_COMPACTED (1ull << 63)

/* Of the XSAVEC area, by the parts that it has room for. */
STACK_INLINE __u32 stack_resolver_bytes(__u64 parts)
{
    __u32 bytes = 512 + 64;

    if (parts & 1 << 2)
        bytes += 256; /* AVX */
    if (parts & 1 << 3)
        bytes += 64; /* MPX */
    if (parts & 1 << 5)
        bytes += 64; /* AVX-512: masks, upper halves, upper registers */
    if (parts & 1 << 6)
        bytes += 512;
    if (parts & 1 << 7)
        bytes += 1024;
    return bytes;
}

/* Is it a struct link_map (link.h)? They are a list, linked both ways. */
STACK_GLOBAL int stack_is_link_map(__u64 address)
{
    __u64 links[2], back = 0; /* l_next at 24, l_prev at 32 */

    if (stack_read(links, sizeof(links), address + 24))
        return 0;
    if (links[0])
        return !stack_read(&back, 8, links[0] + 32) && back == address;
    return links[1] && !stack_read(&back, 8, links[1] + 24) && back == address;
}

/* Is this the value that rbx had? walk->words has what was pushed, and what it is in the innermost frame. */
STACK_INLINE int stack_resolver_had(struct stack_walk *walk, __u64 value)
{
    for (__u32 i = 0; i <= STACK_RESOLVER_PUSHES; i++)
        if (walk->words[i] == value)
            return 1;
    return 0;
}

/* 0: this is not such a frame. */
STACK_GLOBAL __u64 stack_resolver_cfa(struct stack_walk *walk, __u32 reg, __s32 offset)
{
    __u64 parts, base, words[3]; /* what the PLT pushed - the object and a relocation's number - and the return address */

    if (!walk || reg != STACK_RESOLVER_BASE || (walk->sp & 63))
        return 0;
    if (stack_read(&parts, 8, walk->sp + STACK_RESOLVER_PARTS) || !(parts & STACK_RESOLVER_COMPACTED))
        return 0;
    if (stack_read(walk->words, STACK_RESOLVER_PUSHES * 8, walk->sp - 8 - STACK_RESOLVER_PUSHES * 8))
        return 0;
    walk->words[STACK_RESOLVER_PUSHES] = 0;
    if (!walk->registers)
        (void)stack_register(reg, &walk->words[STACK_RESOLVER_PUSHES]);
    base = walk->sp + STACK_RESOLVER_REGISTERS + stack_resolver_bytes(parts);
    for (__u32 i = 0; i < 64; i += 16) {
        __u64 cfa = base + i + (__s64)offset;
        if (!stack_resolver_had(walk, base + i) || stack_read(words, sizeof(words), cfa - sizeof(words)))
            continue;
        if (!(words[1] >> 32) && stack_is_link_map(words[0]) && stack_is_return(walk, words[2]))
            return cfa;
    }
    return 0;
}

#endif
