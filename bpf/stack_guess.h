/* Guesses the caller of code without unwinding information: hand-written assembly, mostly. Its return address is the first word
 * up the stack that points behind a call instruction, in code; best a call of the very function that we are in. What is found is
 * marked as guessed. */
#pragma once

#include "bpf/stack_tables.h"

/* How far up: assembly keeps small frames. */
#define STACK_GUESS_BLOCKS 8
/* How large a function without unwinding information may be: a direct call to it names a place at most so far before. */
#define STACK_GUESS_FUNCTION_BYTES 65536

/* How well an address does as the current frame's return address: 0: not at all; 1: a call of anything stands before it; 2: a call of the
 * function that we are in. */
STACK_GLOBAL int stack_rate_return(struct stack_walk *walk, __u64 address)
{
    struct unwind_mapping mine;
    __u64 target;
    __u8 code[8];
    int known;

    if (!walk || address < 4096 || address >> 47)
        return 0;
    mine = walk->mapping;
    known = stack_find_mapping(walk, address - 1);
    walk->mapping = mine;
    if (!known || stack_read(code, sizeof(code), address - sizeof(code)))
        return 0;
    if (!stack_call_before(code, address, &target))
        return 0;
    if (target && target <= walk->pc && walk->pc - target < STACK_GUESS_FUNCTION_BYTES && target >= mine.start)
        return 2;
    return 1;
}

/* Is an address one that a call returns to? */
STACK_INLINE int stack_is_return(struct stack_walk *walk, __u64 address)
{
    return stack_rate_return(walk, address) > 0;
}

/* Looks through a block of words from `at` on. The best so far is in walk->slot, with the rating returned. */
STACK_GLOBAL int stack_guess_block(struct stack_walk *walk, __u64 at, int best)
{
    if (!walk || stack_read(walk->words, sizeof(walk->words), at))
        return best;
    for (__u32 i = 0; i < STACK_GUESS_WORDS; i++) {
        __u64 word = walk->words[i];
        int rating;
        /* Most words are small numbers, or point into the stack itself. */
        if (word < 4096 || word >> 47 || word - walk->sp < 1 << 20)
            continue;
        rating = stack_rate_return(walk, word);
        if (rating <= best)
            continue;
        best = rating;
        walk->slot = at + i * 8;
        if (best == 2)
            break;
    }
    return best;
}

STACK_GLOBAL int stack_guess(struct stack_walk *walk)
{
    __u64 address;
    int best = 0;

    if (!walk)
        return 0;
    for (__u32 i = 0; i < STACK_GUESS_BLOCKS && best < 2; i++)
        best = stack_guess_block(walk, walk->sp + i * sizeof(walk->words), best);
    if (best == 0 || stack_read(&address, 8, walk->slot))
        return stack_ends(walk, STACK_END_NO_CFI);
    walk->sp = walk->slot + 8;
    walk->guessed_fp = 1;
    return stack_goes_on(walk, address, STACK_FRAME_GUESSED);
}
