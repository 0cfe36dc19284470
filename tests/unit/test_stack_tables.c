/* The stack engine's rules, on tables and stacks made by hand: the very code that runs in the kernel. */
#include "tests/unit/stack_fixture.h"

#include "bpf/stack.h"

#include "tests/unit/stack_rows.h"

#define AT_SP(offset) RULE(UNWIND_CFA(UNWIND_CFA_REGISTER, STACK_SP), 0, 0, offset)
#define AT_FP(offset) RULE(UNWIND_CFA(UNWIND_CFA_REGISTER, STACK_FP), UNWIND_SAVED(UNWIND_FP_CFA, UNWIND_RA_CFA), -2, offset)

static const struct row plain[] = {
    {0x0, ROW_NONE},
    {0x100, AT_SP(8)},    /* a leaf */
    {0x200, AT_SP(32)},   /* a frame of 24 bytes */
    {0x300, AT_FP(16)},   /* push rbp; mov rsp, rbp */
    {0x400, ROW_ROOT},
    {0x500, ROW_NONE},
};
#define N_PLAIN (sizeof(plain) / sizeof(plain[0]))

START_TEST(test_walks_to_the_root)
{
    rows_setup(plain, N_PLAIN);
    stack[0] = CODE_BASE + 0x210;                 /* the leaf's return address */
    stack[1 + 3] = CODE_BASE + 0x310;             /* of the next, 24 bytes further */
    stack[10] = 0x1234;                           /* the caller's rbp, where rbp points */
    stack[11] = CODE_BASE + 0x410;
    rows_begin(CODE_BASE + 0x100, STACK_BASE, STACK_BASE + 80);
    rows_walk();
    ck_assert_uint_eq(walk.end, STACK_END_ROOT);
    ck_assert_uint_eq(walk.n, 4);
    ck_assert_uint_eq(rows_frame(1), 0x210);
    ck_assert_uint_eq(rows_frame(2), 0x310);
    ck_assert_uint_eq(rows_frame(3), 0x410);
    ck_assert(walk.frames[0] & STACK_FRAME_EXACT);
    ck_assert(!(walk.frames[1] & (STACK_FRAME_EXACT | STACK_FRAME_FP | STACK_FRAME_GUESSED)));
    ck_assert_uint_eq(walk.fp, 0x1234);
}
END_TEST

static void walk_plain(void)
{
    rows_begin(CODE_BASE + 0x100, STACK_BASE, STACK_BASE + 80);
    rows_walk();
    ck_assert_uint_eq(walk.end, STACK_END_ROOT);
    ck_assert_uint_eq(walk.n, 4);
}

/* A program was interrupted while it noted a rule, by one that noted that of another address in the same place: each wrote half of it. */
START_TEST(test_no_rule_of_another_address)
{
    const __u64 leaf = CODE_BASE + 0x100, caller = CODE_BASE + 0x20f;
    struct stack_cached *ours, *others;

    rows_setup(plain, N_PLAIN);
    stack[0] = CODE_BASE + 0x210;
    stack[1 + 3] = CODE_BASE + 0x310;
    stack[11] = CODE_BASE + 0x410;
    walk_plain();
    ours = stack_cache(stack_cache_index(leaf));
    others = stack_cache(stack_cache_index(caller));
    ck_assert_ptr_ne(ours, others);
    const struct stack_cached saved = *ours;
    ck_assert_uint_ne(saved.rule, others->rule);
    ours->rule = others->rule;
    walk_plain();
    ck_assert_uint_eq(ours->rule, saved.rule); /* it was found anew */
    ours->check = others->check;
    walk_plain();
    ck_assert_uint_eq(ours->check, saved.check);
    *ours = *others; /* all of another's */
    walk_plain();
    ck_assert_uint_eq(ours->rule, saved.rule);
}
END_TEST

/* A function that ends in a call: its return address is the next function's first instruction. */
START_TEST(test_return_address_behind_a_functions_end)
{
    rows_setup(plain, N_PLAIN);
    stack[0] = CODE_BASE + 0x300;
    stack[1 + 3] = CODE_BASE + 0x500; /* the root's last instruction is a call too */
    rows_begin(CODE_BASE + 0x1ff, STACK_BASE, 0);
    rows_walk();
    ck_assert_uint_eq(walk.end, STACK_END_ROOT);
    ck_assert_uint_eq(walk.n, 3);
}
END_TEST

START_TEST(test_ends_that_are_none)
{
    rows_setup(plain, N_PLAIN);
    rows_begin(CODE_BASE + 0x100, STACK_BASE + sizeof(stack), 0);
    rows_walk();
    ck_assert_uint_eq(walk.end, STACK_END_UNREADABLE);
    rows_begin(CODE_BASE + 0x100, STACK_BASE, 0);
    rows_walk();
    ck_assert_uint_eq(walk.end, STACK_END_UNPROVEN); /* a return address of 0 */
    stack[0] = 0xffffffff81000000ull;
    rows_begin(CODE_BASE + 0x100, STACK_BASE, 0);
    rows_walk();
    ck_assert_uint_eq(walk.end, STACK_END_NO_CODE);
    stack[0] = CODE_BASE - 0x100; /* no mapping */
    rows_begin(CODE_BASE + 0x100, STACK_BASE, 0);
    rows_walk();
    ck_assert_uint_eq(walk.end, STACK_END_NEW_CODE);
    ck_assert_uint_eq(walk.n, 2);
    stack[0] = CODE_BASE + 0xb000 + 1; /* above all mappings */
    rows_begin(CODE_BASE + 0x100, STACK_BASE, 0);
    rows_walk();
    ck_assert_uint_eq(walk.end, STACK_END_NEW_CODE);
    rows_begin(CODE_BASE + 0xa100, STACK_BASE, 0);
    rows_walk();
    ck_assert_uint_eq(walk.end, STACK_END_NEW_CODE); /* its table is being made */
    rows_begin(CODE_BASE + 0x310, STACK_BASE + 800, STACK_BASE);
    rows_walk();
    ck_assert_uint_eq(walk.end, STACK_END_BAD_CFA); /* downwards */
    rows_begin(CODE_BASE + 0x510, STACK_BASE + 800, STACK_BASE);
    rows_walk();
    ck_assert_uint_eq(walk.end, STACK_END_NO_CFI); /* nothing to guess from */
}
END_TEST

START_TEST(test_broken_tables_end_the_walk)
{
    rows_setup(plain, N_PLAIN);
    walk.space = 1; /* what lies there is no space */
    rows_begin(CODE_BASE + 0x100, STACK_BASE, 0);
    rows_walk();
    ck_assert_uint_eq(walk.n, 1);
    for (unsigned seed = 0; seed < 2000; seed++) {
        rows_setup(plain, N_PLAIN);
        srand(seed);
        for (unsigned i = 0; i < 64; i++)
            ((__u8 *)arena)[(unsigned)rand() % 12000] = (__u8)rand();
        for (unsigned i = 0; i < 64; i++)
            stack[i] = CODE_BASE + (unsigned)rand() % 0x1000;
        rows_begin(CODE_BASE + (unsigned)rand() % 0x1000, STACK_BASE, STACK_BASE + 64);
        rows_walk();
        ck_assert_uint_le(walk.n, CPROFD_MAX_FRAMES);
    }
}
END_TEST

static const struct row special[] = {
    {0x000, ROW_NONE},
    {0x100, RULE(UNWIND_CFA_PLT, 0, 0, 11)},
    {0x1ff, RULE(UNWIND_CFA_SIGNAL, 0, 0, 0)}, /* from one byte before, as libc has it: return addresses are looked up there */
    {0x300, AT_SP(8)},
    {0x400, RULE(UNWIND_CFA(UNWIND_CFA_REGISTER, 10), 0, 0, 0)}, /* stack realignment's prologue: r10 */
    {0x500, RULE(UNWIND_CFA(UNWIND_CFA_MEMORY, STACK_FP), UNWIND_SAVED(UNWIND_FP_FP, UNWIND_RA_CFA), 0, -8)},
    {0x580, RULE(UNWIND_CFA(UNWIND_CFA_MEMORY, STACK_SP), UNWIND_SAVED(UNWIND_FP_CFA, UNWIND_RA_CFA) | 3 << 4, -2, 16)}, /* 24 behind it */
    {0x5c0, RULE(UNWIND_CFA(UNWIND_CFA_REGISTER, STACK_FP), UNWIND_SAVED(UNWIND_FP_CFA, UNWIND_RA_CFA) | UNWIND_OTHER_STACK, -2, 16)},
    {0x5e0, RULE(UNWIND_CFA(UNWIND_CFA_REGISTER, STACK_FP), UNWIND_SAVED(UNWIND_FP_CFA, UNWIND_RA_CFA), -2, 16)},
    {0x600, RULE(UNWIND_CFA(UNWIND_CFA_REGISTER, STACK_SP), UNWIND_SAVED(UNWIND_FP_SAME, UNWIND_RA_REGISTER), 5, 0)},
    {0x700, RULE(UNWIND_CFA_UNSUPPORTED, 0, 0, 0)},
    {0x800, ROW_ROOT},
    {0x900, RULE(UNWIND_CFA_FRAME_POINTER, 0, 0, 0)},
    {0xa00, RULE(UNWIND_CFA(UNWIND_CFA_REGISTER, STACK_SP), UNWIND_SAVED(UNWIND_FP_UNDEFINED, UNWIND_RA_CFA), 0, 8)},
};
#define N_SPECIAL (sizeof(special) / sizeof(special[0]))

START_TEST(test_plt)
{
    rows_setup(special, N_SPECIAL);
    stack[0] = CODE_BASE + 0x810;
    rows_begin(CODE_BASE + 0x10a, STACK_BASE, 0); /* before its push */
    rows_walk();
    ck_assert_uint_eq(walk.end, STACK_END_ROOT);
    stack[0] = 7; /* what it pushed */
    stack[1] = CODE_BASE + 0x810;
    rows_begin(CODE_BASE + 0x10b, STACK_BASE, 0);
    rows_walk();
    ck_assert_uint_eq(walk.end, STACK_END_ROOT);
    ck_assert_uint_eq(walk.n, 2);
}
END_TEST

static void lay_context(__u64 *context, __u64 pc, __u64 sp, __u64 fp, __u64 r10)
{
    context[stack_context_offset(STACK_PC) / 8] = pc;
    context[stack_context_offset(STACK_SP) / 8] = sp;
    context[stack_context_offset(STACK_FP) / 8] = fp;
    context[stack_context_offset(10) / 8] = r10;
}

/* The interrupted function goes on with its own stack, wherever that is, at its exact address, all registers known. */
START_TEST(test_signal_frame)
{
    rows_setup(special, N_SPECIAL);
    stack[1000] = CODE_BASE + 0x200; /* the handler returns to the trampoline's first instruction */
    lay_context(stack + 1001, CODE_BASE + 0x400, STACK_BASE + 8, 0, STACK_BASE + 80);
    stack[9] = CODE_BASE + 0x810;
    rows_begin(CODE_BASE + 0x300, STACK_BASE + 8000, 0);
    rows_walk();
    ck_assert_uint_eq(walk.end, STACK_END_ROOT);
    ck_assert_uint_eq(walk.n, 4);
    ck_assert_uint_eq(rows_frame(2), 0x400);
    ck_assert(walk.frames[2] & STACK_FRAME_EXACT);
    ck_assert_uint_eq(rows_frame(3), 0x810);
    rows_begin(CODE_BASE + 0x200, STACK_BASE + sizeof(stack) - 8, 0);
    rows_walk();
    ck_assert_uint_eq(walk.end, STACK_END_UNREADABLE);
}
END_TEST

/* A trampoline without CFI (musl's, Go's) is known by its instructions. */
START_TEST(test_signal_frame_without_cfi)
{
    static const __u8 trampoline[] = {0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05};

    rows_setup(special, N_SPECIAL);
    memcpy(code_bytes + 0x20, trampoline, sizeof(trampoline));
    stack[0] = CODE_BASE + 0x20;
    lay_context(stack + 1, CODE_BASE + 0x300, STACK_BASE + 2000, 0, 0);
    stack[250] = CODE_BASE + 0x810;
    rows_begin(CODE_BASE + 0x300, STACK_BASE, 0);
    rows_walk();
    ck_assert_uint_eq(walk.end, STACK_END_ROOT);
    ck_assert_uint_eq(walk.n, 4);
}
END_TEST

START_TEST(test_other_registers_are_known_in_the_innermost_frame)
{
    rows_setup(special, N_SPECIAL);
    stack[3] = CODE_BASE + 0x810;
    registers[10] = STACK_BASE + 32;
    registers_known = 1;
    rows_begin(CODE_BASE + 0x400, STACK_BASE, 0);
    rows_walk();
    ck_assert_uint_eq(walk.end, STACK_END_ROOT);
    stack[0] = CODE_BASE + 0x410; /* a caller: r10 is no longer what it was */
    rows_begin(CODE_BASE + 0x300, STACK_BASE, 0);
    rows_walk();
    ck_assert_uint_eq(walk.end, STACK_END_UNSUPPORTED);
    rows_begin(CODE_BASE + 0x700, STACK_BASE, 0);
    rows_walk();
    ck_assert_uint_eq(walk.end, STACK_END_UNSUPPORTED);
}
END_TEST

/* A realigned frame: the CFA is in memory below rbp, and the caller's rbp at rbp. */
START_TEST(test_cfa_in_memory)
{
    rows_setup(special, N_SPECIAL);
    stack[10] = 0x5678;             /* [rbp] */
    stack[9] = STACK_BASE + 30 * 8; /* [rbp - 8]: the CFA */
    stack[29] = CODE_BASE + 0x810;
    rows_begin(CODE_BASE + 0x510, STACK_BASE, STACK_BASE + 80);
    rows_walk();
    ck_assert_uint_eq(walk.end, STACK_END_ROOT);
    ck_assert_uint_eq(walk.fp, 0x5678);
    rows_begin(CODE_BASE + 0x510, STACK_BASE, 0x10);
    rows_walk();
    ck_assert_uint_eq(walk.end, STACK_END_UNREADABLE);
}
END_TEST

/* libcrypto keeps the stack pointer of its caller's pushes in its frame. */
START_TEST(test_cfa_behind_what_is_in_memory)
{
    rows_setup(special, N_SPECIAL);
    stack[2] = STACK_BASE + 20 * 8;
    stack[20 + 1] = 0x5678;
    stack[20 + 2] = CODE_BASE + 0x810;
    rows_begin(CODE_BASE + 0x590, STACK_BASE, 0);
    rows_walk();
    ck_assert_uint_eq(walk.end, STACK_END_ROOT);
    ck_assert_uint_eq(walk.sp, STACK_BASE + 23 * 8);
    ck_assert_uint_eq(walk.fp, 0x5678);
}
END_TEST

/* Go's runtime runs functions on its thread's stack, which may lie above its caller's. Elsewhere that is a broken frame. */
START_TEST(test_another_stack)
{
    rows_setup(special, N_SPECIAL);
    stack[10] = 0x5678;
    stack[11] = CODE_BASE + 0x810;
    rows_begin(CODE_BASE + 0x5c8, STACK_BASE + 800, STACK_BASE + 80);
    rows_walk();
    ck_assert_uint_eq(walk.end, STACK_END_ROOT);
    ck_assert_uint_eq(walk.sp, STACK_BASE + 12 * 8);
    ck_assert_uint_eq(walk.fp, 0x5678);
    rows_begin(CODE_BASE + 0x5e8, STACK_BASE + 800, STACK_BASE + 80);
    rows_walk();
    ck_assert_uint_eq(walk.end, STACK_END_BAD_CFA);
}
END_TEST

/* vfork keeps its return address in rdi. */
START_TEST(test_return_address_in_a_register)
{
    rows_setup(special, N_SPECIAL);
    registers[5] = CODE_BASE + 0x810;
    registers_known = 1;
    rows_begin(CODE_BASE + 0x600, STACK_BASE, 0);
    rows_walk();
    ck_assert_uint_eq(walk.end, STACK_END_ROOT);
    ck_assert_uint_eq(walk.sp, STACK_BASE);
    stack[0] = CODE_BASE + 0x610;
    rows_begin(CODE_BASE + 0x300, STACK_BASE, 0);
    rows_walk();
    ck_assert_uint_eq(walk.end, STACK_END_UNSUPPORTED);
}
END_TEST

static void lay_frame_pointers(void)
{
    stack[0] = STACK_BASE + 80;
    stack[1] = CODE_BASE + 0x9100;
    stack[10] = 0;
    stack[11] = CODE_BASE + 0x810;
}

START_TEST(test_code_that_keeps_frame_pointers)
{
    const __u64 pcs[] = {CODE_BASE + 0x9010, CODE_BASE + 0x910}; /* JIT code; by the table's word */

    for (unsigned i = 0; i < 2; i++) {
        rows_setup(special, N_SPECIAL);
        lay_frame_pointers();
        rows_begin(pcs[i], STACK_BASE, STACK_BASE);
        rows_walk();
        ck_assert_uint_eq(walk.end, STACK_END_ROOT);
        ck_assert_uint_eq(walk.n, 3);
        ck_assert(walk.frames[1] & STACK_FRAME_FP);
    }
    walk.space = 0;
    rows_begin(CODE_BASE + 0x9010, STACK_BASE, STACK_BASE);
    walk.by_fp = 1;
    rows_walk();
    ck_assert_uint_eq(walk.end, STACK_END_UNPROVEN);
    ck_assert_uint_eq(walk.n, 3);
}
END_TEST

/* Where such code has not set its own frame pointer yet, or has given it up, no caller is skipped. */
START_TEST(test_code_between_frame_pointers)
{
    static const struct {
        __u8 code[5]; /* the first one in front of pc */
        unsigned pushed;
    } cases[] = {
        {{0x90, 0x55, 0x48, 0x89, 0xe5}, 0}, {{0x90, 0xf3, 0x0f, 0x1e, 0xfa}, 0}, {{0x5d, 0xc3}, 0}, {{0x5d, 0xc2, 8}, 0},
        {{0x55, 0x48, 0x89, 0xe5}, 1},
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        rows_setup(special, N_SPECIAL);
        memcpy(code_bytes + 0x91f, cases[i].code, sizeof(cases[i].code));
        stack[0] = STACK_BASE + 80; /* the caller's, where it is pushed */
        stack[cases[i].pushed] = CODE_BASE + 0x9100;
        stack[10] = 0;
        stack[11] = CODE_BASE + 0x810;
        rows_begin(CODE_BASE + 0x920, STACK_BASE, STACK_BASE + 80);
        rows_walk();
        ck_assert_uint_eq(walk.end, STACK_END_ROOT);
        ck_assert_uint_eq(walk.n, 3);
        ck_assert_uint_eq(rows_frame(1), 0x9100);
    }
}
END_TEST

/* Assembly without CFI: of the words on its stack, the one behind a call of this function is the return address, not one that an
 * earlier call left. */
START_TEST(test_guess)
{
    rows_setup(special, N_SPECIAL);
    put_call(0x330, 0x700);
    put_call(0x340, 0x8000);
    code_bytes[0x34e] = 0xff; /* call *%rax */
    code_bytes[0x34f] = 0xd0;
    stack[2] = CODE_BASE + 0x350;
    stack[3] = CODE_BASE + 0x335;
    stack[4] = CODE_BASE + 0x345;
    stack[5] = CODE_BASE + 0x810; /* of the function at 0x345, which is a leaf */
    rows_begin(CODE_BASE + 0x8010, STACK_BASE, 0);
    rows_walk();
    ck_assert_uint_eq(walk.end, STACK_END_ROOT);
    ck_assert_uint_eq(walk.n, 3);
    ck_assert_uint_eq(rows_frame(1), 0x345);
    ck_assert(walk.frames[1] & STACK_FRAME_GUESSED);
    /* Through a pointer: any call will do, the nearest. */
    stack[4] = 0;
    stack[3] = CODE_BASE + 0x810;
    rows_begin(CODE_BASE + 0x8010, STACK_BASE, 0);
    rows_walk();
    ck_assert_uint_eq(rows_frame(1), 0x350);
    ck_assert_uint_eq(walk.end, STACK_END_ROOT);
    /* Far up the stack, in the last block. */
    memset(stack, 0, 64);
    stack[STACK_GUESS_WORDS * STACK_GUESS_BLOCKS - 1] = CODE_BASE + 0x350;
    rows_begin(CODE_BASE + 0x8010, STACK_BASE, 0);
    ck_assert_int_eq(stack_step(&walk), 1);
    ck_assert_uint_eq(rows_frame(1), 0x350);
}
END_TEST

/* A stack that is nothing but addresses behind calls of anything: each frame's guess would look at all of it. */
START_TEST(test_guesses_end)
{
    rows_setup(special, N_SPECIAL);
    code_bytes[0x80fe] = 0xff; /* call *%rax */
    code_bytes[0x80ff] = 0xd0;
    for (size_t i = 0; i < STACK_WORDS; i++)
        stack[i] = CODE_BASE + 0x8100;
    rows_begin(CODE_BASE + 0x8010, STACK_BASE, 0);
    rows_walk();
    ck_assert_uint_eq(walk.end, STACK_END_NO_CFI);
    ck_assert_uint_eq(walk.rated, STACK_GUESS_MOST_RATED);
    ck_assert_uint_eq(walk.n, 1 + STACK_GUESS_MOST_RATED / (STACK_GUESS_WORDS * STACK_GUESS_BLOCKS));
    /* Another walk begins anew. */
    rows_begin(CODE_BASE + 0x8010, STACK_BASE, 0);
    ck_assert_int_eq(stack_step(&walk), 1);
}
END_TEST

/* A thread's first function, a few words below the end of its stack, as musl lays them out. */
START_TEST(test_guess_at_the_end_of_a_stack)
{
    rows_setup(special, N_SPECIAL);
    put_call(0x80b, 0x8000);
    stack[STACK_WORDS - 3] = CODE_BASE + 0x810;
    rows_begin(CODE_BASE + 0x8010, STACK_BASE + sizeof(stack) - 10 * 8, 0);
    rows_walk();
    ck_assert_uint_eq(walk.end, STACK_END_ROOT);
    ck_assert_uint_eq(walk.n, 2);
    rows_begin(CODE_BASE + 0x8010, STACK_BASE + sizeof(stack) - 2 * 8, 0);
    rows_walk();
    ck_assert_uint_eq(walk.end, STACK_END_NO_CFI);
}
END_TEST

/* What assembly left in rbp may be anything: the frame that it leads to must be one that a call returns to. */
START_TEST(test_frame_pointer_after_a_guess)
{
    static const struct row rows[] = {{0, ROW_NONE}, {0x300, AT_FP(16)}, {0x400, ROW_ROOT}};

    for (int good = 0; good < 2; good++) {
        rows_setup(rows, 3);
        put_call(0x340, 0x8000);
        put_call(0x430, 0x300);
        stack[0] = CODE_BASE + 0x345;
        stack[21] = CODE_BASE + (good ? 0x435 : 0x460);
        rows_begin(CODE_BASE + 0x8010, STACK_BASE, STACK_BASE + 160);
        rows_walk();
        ck_assert_uint_eq(walk.end, good ? STACK_END_ROOT : STACK_END_NO_CFI);
    }
    rows_setup(special, N_SPECIAL);
    stack[0] = CODE_BASE + 0x810;
    rows_begin(CODE_BASE + 0xa00, STACK_BASE, 0);
    ck_assert_int_eq(stack_step(&walk), 1);
    ck_assert_uint_eq(walk.guessed_fp, 1); /* its rule says that rbp is lost */
}
END_TEST

START_TEST(test_calls_by_their_bytes)
{
    static const struct {
        __u8 code[8];
        int call;
    } cases[] = {
        {{0x90, 0x90, 0x90, 0xe8, 1, 0, 0, 0}, 1},
        {{0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xff, 0xd0}, 1},             /* *%rax */
        {{0x90, 0x90, 0x90, 0x90, 0x90, 0x41, 0xff, 0xd7}, 1},             /* *%r15 */
        {{0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xff, 0x10}, 1},             /* *(%rax) */
        {{0x90, 0x90, 0x90, 0x90, 0x90, 0xff, 0x50, 0x18}, 1},             /* *0x18(%rax) */
        {{0x90, 0x90, 0x90, 0x90, 0x90, 0xff, 0x14, 0xc3}, 1},             /* *(%rbx,%rax,8) */
        {{0x90, 0x90, 0x90, 0x90, 0xff, 0x54, 0x24, 0x08}, 1},             /* *8(%rsp) */
        {{0x90, 0x90, 0xff, 0x15, 1, 2, 3, 4}, 1},                         /* *1(%rip) */
        {{0x90, 0x90, 0xff, 0x90, 1, 2, 3, 4}, 1},                         /* *disp32(%rax) */
        {{0x90, 0xff, 0x14, 0xc5, 1, 2, 3, 4}, 1},                         /* *disp32(,%rax,8) */
        {{0x90, 0xff, 0x94, 0x24, 1, 2, 3, 4}, 1},                         /* *disp32(%rsp) */
        {{0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xff, 0xe0}, 0},             /* jmp *%rax */
        {{0x90, 0x90, 0x90, 0xe9, 1, 0, 0, 0}, 0},                         /* jmp */
        {{0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xff, 0xf0}, 0},             /* push %rax */
        {{0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xc3}, 0},
    };

    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        __u64 target = 1;
        ck_assert_msg(stack_call_before(cases[i].code, 0x1000, &target) == cases[i].call, "case %u", i);
        ck_assert_uint_eq(target, i == 0 ? 0x1001 : cases[i].call ? 0 : target);
    }
}
END_TEST

START_TEST(test_return_probe_is_seen_through)
{
    rows_setup(special, N_SPECIAL);
    stack[0] = 0x7fffffffe000;
    probed_slot = STACK_BASE;
    probed_return = CODE_BASE + 0x810;
    rows_begin(CODE_BASE + 0x300, STACK_BASE, 0);
    rows_walk();
    ck_assert_uint_eq(walk.end, STACK_END_ROOT);
    ck_assert_uint_eq(rows_frame(1), 0x810);
}
END_TEST

START_TEST(test_too_deep)
{
    rows_setup(plain, N_PLAIN);
    for (unsigned i = 0; i < STACK_WORDS; i++)
        stack[i] = CODE_BASE + 0x110;
    rows_begin(CODE_BASE + 0x110, STACK_BASE, 0);
    rows_walk();
    ck_assert_uint_eq(walk.end, STACK_END_TOO_DEEP);
    ck_assert_uint_eq(walk.n, CPROFD_MAX_FRAMES);
}
END_TEST

/* Each mapping of many, in several parts, and nothing between them. */
START_TEST(test_finds_each_of_many_mappings)
{
    struct unwind_space space = {.n_parts = 3};
    static struct unwind_mapping mappings[3][UNWIND_PART_MAPPINGS];

    memset(arena, 0, sizeof(arena));
    arena_used = 0;
    for (unsigned part = 0; part < 3; part++) {
        unsigned n = part == 2 ? 1 : UNWIND_PART_MAPPINGS;
        for (unsigned i = 0; i < n; i++) {
            __u64 start = 0x10000000ull + (part * UNWIND_PART_MAPPINGS + i) * 0x2000ull;
            mappings[part][i] = (struct unwind_mapping){.start = start, .end = start + 0x1000, .kind = UNWIND_MAPPING_ANONYMOUS};
        }
        space.parts[part].start = mappings[part][0].start;
        space.parts[part].n = n;
        space.parts[part].mappings = arena_put(mappings[part], n * sizeof(mappings[0][0]));
    }
    walk.space = arena_put(&space, sizeof(space));
    rows_begin(0, 0, 0);
    for (unsigned i = 0; i < 2 * UNWIND_PART_MAPPINGS + 1; i++) {
        __u64 start = 0x10000000ull + i * 0x2000ull;
        ck_assert_int_eq(stack_find_mapping(&walk, start), 1);
        ck_assert_uint_eq(walk.mapping.start, start);
        walk.mapping.end = 0;
        ck_assert_int_eq(stack_find_mapping(&walk, start + 0xfff), 1);
        ck_assert_int_eq(stack_find_mapping(&walk, start + 0x1000), 0);
        ck_assert_int_eq(stack_find_mapping(&walk, start - 1), 0);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("stack_tables");
    TCase *tc = tcase_create("stack_tables");
    tcase_add_test(tc, test_walks_to_the_root);
    tcase_add_test(tc, test_no_rule_of_another_address);
    tcase_add_test(tc, test_return_address_behind_a_functions_end);
    tcase_add_test(tc, test_ends_that_are_none);
    tcase_add_test(tc, test_broken_tables_end_the_walk);
    tcase_add_test(tc, test_plt);
    tcase_add_test(tc, test_signal_frame);
    tcase_add_test(tc, test_signal_frame_without_cfi);
    tcase_add_test(tc, test_other_registers_are_known_in_the_innermost_frame);
    tcase_add_test(tc, test_cfa_in_memory);
    tcase_add_test(tc, test_cfa_behind_what_is_in_memory);
    tcase_add_test(tc, test_another_stack);
    tcase_add_test(tc, test_return_address_in_a_register);
    tcase_add_test(tc, test_code_that_keeps_frame_pointers);
    tcase_add_test(tc, test_code_between_frame_pointers);
    tcase_add_test(tc, test_guess);
    tcase_add_test(tc, test_guesses_end);
    tcase_add_test(tc, test_guess_at_the_end_of_a_stack);
    tcase_add_test(tc, test_frame_pointer_after_a_guess);
    tcase_add_test(tc, test_calls_by_their_bytes);
    tcase_add_test(tc, test_return_probe_is_seen_through);
    tcase_add_test(tc, test_too_deep);
    tcase_add_test(tc, test_finds_each_of_many_mappings);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
