/* Guesses the caller of code without unwinding information: hand-written assembly, mostly. Its return address is the first word
 * up the stack that points behind a call instruction, in code; best a call of the very function that we are in. What is found is
 * marked as guessed. */
#pragma once

#include "bpf/stack_tables.h"

/* How far up: assembly keeps small frames. */
#define STACK_GUESS_BLOCKS 8
/* How many words of one stack are looked at closely: interrupts wait meanwhile, and a stack may be made to have a thousand frames whose
 * callers are guessed, all of it addresses behind calls. Real ones take some dozens of words a frame. */
#define STACK_GUESS_MOST_RATED 32768
/* How large a function without unwinding information may be: a direct call to it names a place at most so far before. */
#define STACK_GUESS_FUNCTION_BYTES 65536

/* How well an address does as the current frame's return address. */
enum stack_rating {
    STACK_NO_RETURN = 0,
    STACK_RETURN_ELSEWHERE, /* behind a call of a function that says of itself where it is: it may have jumped to ours */
    STACK_RETURN,           /* behind a call of anything */
    STACK_RETURN_OURS,      /* behind a call of the very function that we are in */
};

/* The rating of a call by the function that it names. walk->mapping and walk->rule are the caller's to restore. */
STACK_INLINE int stack_rate_target(struct stack_walk *walk, const struct unwind_mapping *mine, __u64 target)
{
    if (!target || !stack_find_mapping(walk, target))
        return STACK_RETURN;
    walk->rule = 0;
    if (walk->mapping.kind == UNWIND_MAPPING_TABLE)
        stack_find_rule(walk, target);
    if (UNWIND_CFA_KIND(walk->rule & 0xff) == UNWIND_CFA_NONE) {
        if (target <= walk->pc && walk->pc - target < STACK_GUESS_FUNCTION_BYTES && target >= mine->start)
            return STACK_RETURN_OURS;
        return STACK_RETURN;
    }
    return UNWIND_CFA_KIND(walk->rule & 0xff) == UNWIND_CFA_PLT ? STACK_RETURN : STACK_RETURN_ELSEWHERE;
}

/* enum stack_rating */
STACK_GLOBAL int stack_rate_return(struct stack_walk *walk, __u64 address)
{
    __u64 target, rule;
    __u8 code[8];
    int rating = STACK_NO_RETURN;

    if (!walk || address < 4096 || address >> 47)
        return STACK_NO_RETURN;
    walk->mine = walk->mapping;
    rule = walk->rule;
    if (stack_find_mapping(walk, address - 1) && !stack_read(code, sizeof(code), address - sizeof(code)) &&
        stack_call_before(code, address, &target))
        rating = stack_rate_target(walk, &walk->mine, target);
    walk->mapping = walk->mine;
    walk->rule = rule;
    return rating;
}

/* Is an address one that a call returns to? */
STACK_INLINE int stack_is_return(struct stack_walk *walk, __u64 address)
{
    return stack_rate_return(walk, address) != STACK_NO_RETURN;
}

/* The block of words from `at` on; of one that reaches beyond the stack, zeros there. 0, or a negative error. */
STACK_INLINE long stack_read_words(struct stack_walk *walk, __u64 at)
{
    __u32 room = (4096 - (__u32)(at & 4095)) & ~7u;

    if (!stack_read(walk->words, sizeof(walk->words), at))
        return 0;
    if (room >= sizeof(walk->words))
        return -1;
    for (__u32 i = 0; i < STACK_GUESS_WORDS; i++)
        walk->words[i] = 0;
    return stack_read(walk->words, room & (sizeof(walk->words) - 1), at);
}

/* Looks through a block of words from `at` on. The best so far is in walk->slot, its rating in walk->best: in memory, where the verifier
 * does not follow it. */
STACK_GLOBAL int stack_guess_block(struct stack_walk *walk, __u64 at)
{
    if (!walk || stack_read_words(walk, at))
        return 0;
    for (__u32 i = 0; i < STACK_GUESS_WORDS; i++) {
        __u64 word = walk->words[i];
        int rating;
        /* Most words are small numbers, or point into the stack itself. */
        if (word < 4096 || word >> 47 || word - walk->sp < 1 << 20)
            continue;
        if (walk->rated >= STACK_GUESS_MOST_RATED)
            break;
        walk->rated++;
        rating = stack_rate_return(walk, word);
        /* On top, where a function's first instruction finds it: it may have been jumped to. */
        if (rating == STACK_RETURN_ELSEWHERE && at + i * 8 == walk->sp && walk->exact)
            rating = STACK_RETURN;
        if (rating <= walk->best)
            continue;
        walk->best = rating;
        walk->slot = at + i * 8;
        if (rating == STACK_RETURN_OURS)
            break;
    }
    return 0;
}

STACK_GLOBAL int stack_guess(struct stack_walk *walk)
{
    __u64 address;

    if (!walk)
        return 0;
    walk->best = STACK_NO_RETURN;
    (void)stack_find_mapping(walk, walk->exact ? walk->pc : walk->pc - 1);
    for (__u32 i = 0; i < STACK_GUESS_BLOCKS && walk->best != STACK_RETURN_OURS; i++)
        stack_guess_block(walk, walk->sp + i * sizeof(walk->words));
    if (walk->best == STACK_NO_RETURN || stack_read(&address, 8, walk->slot))
        return stack_ends(walk, STACK_END_NO_CFI);
    walk->sp = walk->slot + 8;
    walk->guessed_fp = 1;
    return stack_goes_on(walk, address, STACK_FRAME_GUESSED);
}
