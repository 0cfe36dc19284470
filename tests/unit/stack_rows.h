/* Tables, mappings and walks made by hand, for the tests of the stack engine's rules. After bpf/stack.h. */
#pragma once

#include "bpf/stack.h"
#include "tests/unit/stack_fixture.h"

static struct stack_walk walk;

/* Rows of one page that begins at file offset 0; mapped at CODE_BASE. */
struct row {
    __u16 low;
    struct unwind_rule rule;
};

#define RULE(cfa_, saved_, saved_offset_, cfa_offset_) \
    (struct unwind_rule){.cfa = (cfa_), .saved = (saved_), .saved_offset = (saved_offset_), .cfa_offset = (cfa_offset_)}
#define ROW_ROOT RULE(UNWIND_CFA_ROOT, 0, 0, 0)
#define ROW_NONE RULE(UNWIND_CFA_NONE, 0, 0, 0)

static __u32 put_table(const struct row *rows, unsigned n, unsigned shift)
{
    __u8 page[8192] = {0};
    struct unwind_page *head = (struct unwind_page *)page;
    struct unwind_rule *rules = (struct unwind_rule *)(head + 1);
    __u16 *low = (__u16 *)(rules + n);
    struct {
        struct unwind_table table;
        __u32 pages[2];
    } index = {.table = {.base = 0, .page_shift = shift, .n_pages = 2}};

    *head = (struct unwind_page){.n_rows = (__u16)n, .n_rules = (__u16)n};
    for (unsigned i = 0; i < n; i++) {
        rules[i] = rows[i].rule;
        low[i] = rows[i].low;
        ((__u8 *)(low + n))[i] = (__u8)i;
    }
    index.pages[0] = arena_put(page, sizeof(page));
    return arena_put(&index, sizeof(index));
}

static __u32 put_space(const struct unwind_mapping *mappings, unsigned n)
{
    static __u32 version;
    struct unwind_space space = {.n_parts = 1, .version = ++version};

    space.parts[0].start = mappings[0].start;
    space.parts[0].mappings = arena_put(mappings, n * sizeof(*mappings));
    space.parts[0].n = n;
    return arena_put(&space, sizeof(space));
}

static void rows_begin(__u64 pc, __u64 sp, __u64 fp)
{
    __u32 space = walk.space;

    memset(&walk, 0, sizeof(walk));
    walk.space = space;
    walk.pc = pc;
    walk.sp = sp;
    walk.fp = fp;
    walk.exact = 1;
    walk.end = STACK_END_TOO_DEEP;
    stack_begin(&walk);
    stack_push(&walk, STACK_FRAME_EXACT);
}

static void rows_setup(const struct row *rows, unsigned n)
{
    memset(stack, 0, sizeof(stack));
    memset(code_bytes, 0x90, sizeof(code_bytes));
    memset(arena, 0, sizeof(arena));
    arena_used = 0;
    registers_known = 0;
    probed_slot = 0;
    struct unwind_mapping mappings[] = {
        {.start = CODE_BASE, .end = CODE_BASE + 0x8000, .table = put_table(rows, n, 16), .kind = UNWIND_MAPPING_TABLE},
        {.start = CODE_BASE + 0x8000, .end = CODE_BASE + 0x9000, .kind = UNWIND_MAPPING_NO_CFI},
        {.start = CODE_BASE + 0x9000, .end = CODE_BASE + 0xa000, .kind = UNWIND_MAPPING_ANONYMOUS},
        {.start = CODE_BASE + 0xa000, .end = CODE_BASE + 0xb000, .kind = UNWIND_MAPPING_PENDING},
    };
    walk.space = put_space(mappings, sizeof(mappings) / sizeof(mappings[0]));
}

static __attribute__((unused)) void put_call(__u64 at, __u64 target)
{
    __u32 offset = (__u32)(target - (at + 5));

    code_bytes[at] = 0xe8;
    memcpy(code_bytes + at + 1, &offset, 4);
}

static void rows_walk(void)
{
    while (stack_step(&walk))
        ;
}

static __u64 rows_frame(unsigned i)
{
    ck_assert_uint_lt(i, walk.n);
    return STACK_FRAME_ADDRESS(walk.frames[i]) - CODE_BASE;
}
