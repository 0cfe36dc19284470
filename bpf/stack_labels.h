/* The labels of a thread (include/cprofd/labels.h), read behind its stack's frames. Included after bpf/stack.h, by whose hooks it reads: compiled
 * for the host, too.
 *
 * A thread that is interrupted, or that asks the kernel for something, has its labels in a state that one reading finds whole: the pointer is
 * written last. Whoever else reads them compares the count of changes before and after. */
#pragma once

#include "bpf/control.h"
#include "bpf/stack_walk.h"

/* struct cprofd_thread_labels */
struct label_variable {
    __u64 current;
    __u64 changes;
};

/* struct cprofd_labels up to its entries */
struct label_head {
    __u8 ids[24];
    __u8 valid;
    __u8 flags;
    __u16 bytes;
};

/* Else a compiler that knows a number's bounds leaves out what verifiers learn them by. */
#define LABELS_OPAQUE(number) __asm__ volatile("" : "+r"(number))

/* What the variable at one place holds: 1: a set; 0: nothing; -1: it could not be read. */
STACK_INLINE int labels_variable(__u64 thread, __u64 place, struct label_variable *ret)
{
    __u64 offset = (__u64)(__s64)(__s32)place;

    if (place & LABELS_PLACE_SLOT) {
        if (stack_read(&offset, sizeof(offset), place & (LABELS_PLACE_OFFSET - 1)))
            return -1;
        if (!offset)
            return 0; /* the loader has not been there yet */
    }
    if (stack_read(ret, sizeof(*ret), thread + offset))
        return -1;
    return ret->current != 0;
}

/* A part of a set's entries, if it has so much. 0, or a negative error. */
STACK_INLINE long labels_part(__u64 *to, __u64 from, __u32 bytes, __u32 begin)
{
    __u32 n = bytes - begin;

    if (bytes <= begin)
        return 0;
    if (n > LABELS_READ_BYTES)
        n = LABELS_READ_BYTES;
    LABELS_OPAQUE(n);
    if (n > LABELS_READ_BYTES)
        return -1;
    return stack_read(to + begin / 8, n, from + begin);
}

/* Whether the set was found at an earlier place: an object may lend its variable to others. */
STACK_INLINE int labels_is_known(struct stack_walk *walk, __u32 index, __u64 set)
{
    int known = 0;

    for (__u32 i = 0; i < LABELS_PLACES; i++)
        if (i < index)
            known = known || walk->label_sets[i] == set;
        else if (i == index)
            walk->label_sets[i] = set;
    return known;
}

/* Adds the set of one place to the walk. 1: there is one; 0: none; -1: there is something else. */
STACK_GLOBAL int labels_add_set(struct stack_walk *walk, __u64 thread, __u64 place, __u32 index)
{
    struct label_variable variable = {}, after = {};
    struct label_head head = {};
    __u32 n, bytes, words;
    __u64 *to;
    int found, known;

    if (!walk)
        return 0;
    found = labels_variable(thread, place, &variable);
    known = labels_is_known(walk, index, variable.current); /* also of none and of what could not be read: later places compare with it */
    if (found <= 0 || known)
        return found < 0 ? -1 : 0;
    if (stack_read(&head, 28, variable.current) || head.valid != 1 || head.bytes > LABELS_SET_BYTES)
        return -1;
    n = walk->n;
    bytes = head.bytes;
    LABELS_OPAQUE(n);
    LABELS_OPAQUE(bytes);
    if (n > STACK_WALK_FRAMES + LABELS_MAX_WORDS - LABELS_SET_WORDS || bytes > LABELS_SET_BYTES)
        return -1;
    if (bytes == 0)
        return 1;
    words = (bytes + 7) / 8;
    to = walk->frames + n;
    to[0] = bytes;
    to[words] = 0;
    if (labels_part(to + 1, variable.current + 28, bytes, 0) || labels_part(to + 1, variable.current + 28, bytes, LABELS_READ_BYTES))
        return -1;
    if (labels_variable(thread, place, &after) != 1 || after.current != variable.current || after.changes != variable.changes)
        return -1;
    for (__u32 i = 0; i < LABELS_SET_WORDS && i <= words; i++)
        stack_hash(walk->hash, to[i]);
    walk->n = n + 1 + words;
    walk->record.label_words += 1 + words;
    return 1;
}

/* A number that stands for what the thread's variables hold; it stays the same for as long as its labels do. 0: it has none. */
STACK_GLOBAL __u64 labels_stamp(const struct session_labels *labels, __u64 thread)
{
    __u64 stamp = 0;

    if (!labels)
        return 0;
    for (__u32 i = 0; i < LABELS_PLACES && labels->places[i]; i++) {
        struct label_variable variable = {};
        int found = labels_variable(thread, labels->places[i], &variable);
        if (found)
            stamp = stack_check(stack_check(stamp + i + 1, found < 0 ? ~0ull : variable.current), variable.changes);
    }
    return stamp;
}

/* Adds all labels of the thread to its walk, which is complete but for them. */
STACK_GLOBAL int labels_add(struct stack_walk *walk, const struct session_labels *labels, __u64 thread, __u32 max_stacks)
{
    __u32 state = LABELS_KNOWN;

    if (!walk || !labels)
        return 0;
    if (labels->stacks >= max_stacks)
        state = labels_stamp(labels, thread) ? LABELS_NO_ROOM : LABELS_KNOWN;
    else
        for (__u32 i = 0; i < LABELS_PLACES && labels->places[i]; i++)
            if (labels_add_set(walk, thread, labels->places[i], i) < 0)
                state = LABELS_UNREADABLE;
    walk->record.label_state = state;
    if (state != LABELS_KNOWN)
        stack_hash(walk->hash, state);
    return 0;
}
