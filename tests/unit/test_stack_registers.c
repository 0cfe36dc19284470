/* The stack engine's ways with registers that it does not follow: frames relative to them, and frame pointers that rules are wrong
 * about. */
#include "tests/unit/stack_fixture.h"

#include "bpf/stack.h"

#include "tests/unit/stack_rows.h"

#define AT(reg, offset) RULE(UNWIND_CFA(UNWIND_CFA_REGISTER, reg), 0, 0, offset)
#define RBX 3
#define R10 10
#define R11 11

static const struct row rows[] = {
    {0x000, ROW_NONE},
    {0x100, AT(STACK_SP, 8)}, /* a leaf */
    {0x200, AT(R11, 8)},
    {0x300, AT(RBX, 32)}, /* _dl_runtime_resolve_xsavec */
    {0x400, RULE(UNWIND_CFA(UNWIND_CFA_REGISTER, R10), UNWIND_SAVED(UNWIND_FP_FP, UNWIND_RA_CFA), 0, 0)}, /* a realigned frame */
    {0x500, RULE(UNWIND_CFA(UNWIND_CFA_REGISTER, STACK_FP), UNWIND_SAVED(UNWIND_FP_CFA, UNWIND_RA_CFA), -2, 16)},
    {0x600, ROW_ROOT},
};

static void setup(void)
{
    rows_setup(rows, sizeof(rows) / sizeof(rows[0]));
    memset(registers, 0, sizeof(registers));
    registers_known = 1;
}

/* A leaf that assembly calls which keeps its frame in r11. */
START_TEST(test_register_that_is_left_alone)
{
    setup();
    put_call(0x610, 0x200);
    stack[0] = CODE_BASE + 0x210;
    stack[20] = CODE_BASE + 0x615;
    registers[R11] = STACK_BASE + 160;
    rows_begin(CODE_BASE + 0x110, STACK_BASE, 0);
    rows_walk();
    ck_assert_uint_eq(walk.end, STACK_END_ROOT);
    ck_assert_uint_eq(rows_frame(2), 0x615);
    ck_assert(walk.frames[2] & STACK_FRAME_GUESSED);
    ck_assert(!(walk.frames[1] & STACK_FRAME_GUESSED));
}
END_TEST

START_TEST(test_register_that_has_changed)
{
    const __u64 values[] = {STACK_BASE + 160, STACK_BASE - 8, STACK_BASE + sizeof(stack), STACK_BASE + (2 << 20), 0};

    for (unsigned i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        setup();
        stack[0] = CODE_BASE + 0x210;
        stack[20] = CODE_BASE + 0x615; /* behind no call */
        registers[R11] = values[i];
        rows_begin(CODE_BASE + 0x110, STACK_BASE, 0);
        rows_walk();
        ck_assert_uint_ne(walk.end, STACK_END_ROOT);
        ck_assert_uint_eq(walk.n, 2);
        if (i == 0)
            ck_assert_uint_eq(walk.end, STACK_END_UNSUPPORTED);
    }
    setup();
    registers_known = 0;
    stack[0] = CODE_BASE + 0x210;
    rows_begin(CODE_BASE + 0x110, STACK_BASE, 0);
    rows_walk();
    ck_assert_uint_eq(walk.end, STACK_END_UNSUPPORTED);
}
END_TEST

/* ---- lazy binding */

#define SAVE_WORDS (8 + (512 + 64 + 256) / 8) /* registers, and an XSAVEC area with AVX */
#define LINK_MAP 2000                         /* words up the stack: any memory will do */

/* What _dl_runtime_resolve_xsavec's frame holds while it calls on, with rbx `gap` words above what it saved; sp is STACK_BASE + 64. */
static void lay_resolver(unsigned gap)
{
    __u64 *frame = stack + 8, *base = frame + SAVE_WORDS + gap;

    setup();
    put_call(0x610, 0x7000);
    stack[7] = CODE_BASE + 0x310; /* of the leaf */
    frame[8 + 64 + 1] = 1ull << 63 | 1 << 1 | 1 << 2;
    base[1] = STACK_BASE + 8 * LINK_MAP;
    base[2] = 5;
    base[3] = CODE_BASE + 0x615;
    stack[LINK_MAP + 3] = STACK_BASE + 8 * (LINK_MAP + 16); /* l_next, and its l_prev */
    stack[LINK_MAP + 16 + 4] = STACK_BASE + 8 * LINK_MAP;
    stack[3] = STACK_BASE + 8 * (__u64)(base - stack); /* rbx, as the leaf pushed it */
    registers[RBX] = 12345;
    rows_begin(CODE_BASE + 0x110, STACK_BASE + 56, 77);
}

START_TEST(test_resolver)
{
    for (unsigned gap = 0; gap < 8; gap += 2) {
        lay_resolver(gap);
        rows_walk();
        ck_assert_uint_eq(walk.end, STACK_END_ROOT);
        ck_assert_uint_eq(walk.n, 3);
        ck_assert_uint_eq(rows_frame(2), 0x615);
        ck_assert(!(walk.frames[2] & STACK_FRAME_GUESSED));
        ck_assert_uint_eq(walk.fp, 77);
    }
    for (unsigned gap = 0; gap < 8; gap += 6) { /* below it, and above, what another one has left */
        lay_resolver(gap);
        memcpy(stack + 8 + SAVE_WORDS + (6 - gap) + 1, stack + 8 + SAVE_WORDS + gap + 1, 24);
        put_call(0x620, 0x7000);
        stack[8 + SAVE_WORDS + (6 - gap) + 3] = CODE_BASE + 0x625;
        rows_walk();
        ck_assert_uint_eq(rows_frame(2), 0x615);
    }
    lay_resolver(4); /* before the leaf has pushed it */
    registers[RBX] = stack[3];
    stack[3] = 0;
    rows_walk();
    ck_assert_uint_eq(walk.end, STACK_END_ROOT);
    lay_resolver(0); /* the last object of the list */
    stack[LINK_MAP + 3] = 0;
    stack[LINK_MAP + 4] = STACK_BASE + 8 * (LINK_MAP + 32);
    stack[LINK_MAP + 32 + 3] = STACK_BASE + 8 * LINK_MAP;
    rows_walk();
    ck_assert_uint_eq(walk.end, STACK_END_ROOT);
}
END_TEST

START_TEST(test_no_resolver)
{
    for (unsigned i = 0; i < 8; i++) {
        lay_resolver(0);
        switch (i) {
        case 0: stack[8 + 8 + 64 + 1] = 0; break;                 /* not compacted */
        case 1: stack[8 + SAVE_WORDS + 3] = CODE_BASE + 0x620; break; /* behind no call */
        case 2: stack[8 + SAVE_WORDS + 2] = 1ull << 40; break;    /* no relocation's number */
        case 3: stack[LINK_MAP + 16 + 4] = 0; break;              /* no link map */
        case 4: stack[LINK_MAP + 3] = 0; break;
        case 5: stack[8 + SAVE_WORDS + 1] = 16; break;
        case 7: stack[3] += 8; break;                             /* another rbx */
        case 6: rows_begin(CODE_BASE + 0x110, STACK_BASE + 48, 77); stack[6] = CODE_BASE + 0x310; break; /* unaligned */
        }
        rows_walk();
        ck_assert_uint_eq(walk.end, STACK_END_UNSUPPORTED);
        ck_assert_uint_eq(walk.n, 2);
    }
}
END_TEST

/* ---- a frame pointer that its rule is wrong about */

START_TEST(test_frame_pointer_in_an_epilogue)
{
    setup();
    registers[R10] = STACK_BASE + 80;
    stack[9] = CODE_BASE + 0x510;
    stack[41] = CODE_BASE + 0x610;
    stack[4] = STACK_BASE + 320; /* the caller's rbp, where ours points while the frame is there */
    rows_begin(CODE_BASE + 0x410, STACK_BASE, STACK_BASE + 32);
    rows_walk();
    ck_assert_uint_eq(walk.end, STACK_END_ROOT);
    ck_assert_uint_eq(rows_frame(2), 0x610);
    stack[4] = 0;
    rows_begin(CODE_BASE + 0x410, STACK_BASE, STACK_BASE + 320); /* popped already */
    rows_walk();
    ck_assert_uint_eq(walk.end, STACK_END_ROOT);
    ck_assert_uint_eq(rows_frame(2), 0x610);
}
END_TEST

/* ---- which call is the best guess */

START_TEST(test_guess_knows_who_may_have_called)
{
    /* What has unwinding information did not become a function without it: its caller is taken only where there is no better one, or on
     * top of the stack. */
    setup();
    put_call(0x610, 0x100);
    put_call(0x620, 0x9500); /* anything may be there */
    stack[1] = CODE_BASE + 0x615;
    stack[2] = CODE_BASE + 0x625;
    rows_begin(CODE_BASE + 0x8010, STACK_BASE, 0);
    rows_walk();
    ck_assert_uint_eq(rows_frame(1), 0x625);
    ck_assert_uint_eq(walk.end, STACK_END_ROOT);
    rows_begin(CODE_BASE + 0x8010, STACK_BASE + 8, 0);
    rows_walk();
    ck_assert_uint_eq(rows_frame(1), 0x615);
    stack[2] = 0;
    rows_begin(CODE_BASE + 0x8010, STACK_BASE, 0);
    rows_walk();
    ck_assert_uint_eq(rows_frame(1), 0x615);
    /* The function that is called is this very one; or that has rules and lies near. */
    stack[2] = CODE_BASE + 0x635;
    put_call(0x630, 0x8000);
    rows_begin(CODE_BASE + 0x8010, STACK_BASE, 0);
    rows_walk();
    ck_assert_uint_eq(rows_frame(1), 0x635);
    stack[1] = CODE_BASE + 0x625;
    put_call(0x630, 0x500);
    rows_begin(CODE_BASE + 0x8010, STACK_BASE, 0);
    rows_walk();
    ck_assert_uint_eq(rows_frame(1), 0x625);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("stack_registers");
    TCase *tc = tcase_create("registers");

    tcase_add_test(tc, test_register_that_is_left_alone);
    tcase_add_test(tc, test_register_that_has_changed);
    tcase_add_test(tc, test_resolver);
    tcase_add_test(tc, test_no_resolver);
    tcase_add_test(tc, test_frame_pointer_in_an_epilogue);
    tcase_add_test(tc, test_guess_knows_who_may_have_called);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
