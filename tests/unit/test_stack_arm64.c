/* aarch64's rules of the stack engine, run on the host: return addresses in the link register or beside the frame pointer, signed ones,
 * its signal frame and calls. */
#define STACK_ARM64
#include "tests/unit/stack_fixture.h"

#include "bpf/stack.h"
#include "tests/unit/stack_rows.h"

#define LEAF RULE(UNWIND_CFA(UNWIND_CFA_REGISTER, STACK_SP), UNWIND_SAVED(UNWIND_FP_SAME, UNWIND_RA_REGISTER), 0, 0)
/* stp x29, x30, [sp, #-32]!: both at the frame's low end */
#define PAIR RULE(UNWIND_CFA(UNWIND_CFA_REGISTER, STACK_SP), UNWIND_SAVED(UNWIND_FP_CFA, UNWIND_RA_AFTER_FP), -4, 32)
#define BY_FP RULE(UNWIND_CFA(UNWIND_CFA_REGISTER, STACK_FP), UNWIND_SAVED(UNWIND_FP_CFA, UNWIND_RA_AFTER_FP), -4, 32)
/* str x30, [sp, #-16]! */
#define LR_ALONE RULE(UNWIND_CFA(UNWIND_CFA_REGISTER, STACK_SP), UNWIND_SAVED(UNWIND_FP_SAME, UNWIND_RA_SAVED), -2, 16)

static const struct row rows[] = {
    {0x0, ROW_NONE}, {0x100, LEAF}, {0x200, PAIR}, {0x300, BY_FP}, {0x400, LR_ALONE}, {0x4fc, RULE(UNWIND_CFA_SIGNAL, 0, 0, 16)},
    {0x600, ROW_ROOT},
};

static void lay_callers(void)
{
    rows_setup(rows, sizeof(rows) / sizeof(rows[0]));
    stack[0] = STACK_BASE + 64;                             /* x29, x30 of the function at 0x210 */
    stack[1] = CODE_BASE + 0x310 + (0x5aull << 48);         /* signed */
    stack[8] = 0x1234;                                      /* of the one at 0x310 */
    stack[9] = CODE_BASE + 0x410;
    stack[12] = CODE_BASE + 0x610;                          /* of the one at 0x410, which saved x30 alone */
}

START_TEST(test_link_register_and_frame_records)
{
    lay_callers();
    rows_begin(CODE_BASE + 0x100, STACK_BASE, STACK_BASE);
    walk.lr = CODE_BASE + 0x210;
    rows_walk();
    ck_assert_uint_eq(walk.end, STACK_END_ROOT);
    ck_assert_uint_eq(walk.n, 5);
    ck_assert_uint_eq(rows_frame(1), 0x210);
    ck_assert_uint_eq(rows_frame(2), 0x310);
    ck_assert_uint_eq(rows_frame(3), 0x410);
    ck_assert_uint_eq(rows_frame(4), 0x610);
    ck_assert_uint_eq(walk.fp, 0x1234);
}
END_TEST

/* Only the innermost frame's link register is known. */
START_TEST(test_link_register_of_a_caller)
{
    rows_setup(rows, sizeof(rows) / sizeof(rows[0]));
    rows_begin(CODE_BASE + 0x100, STACK_BASE, 0);
    walk.lr = CODE_BASE + 0x110;
    rows_walk();
    ck_assert_uint_eq(walk.end, STACK_END_UNSUPPORTED);
    ck_assert_uint_eq(walk.n, 2);
}
END_TEST

START_TEST(test_signal_frame)
{
    lay_callers();
    __u64 *context = stack + 1002; /* 16 bytes above sp at the trampoline */
    context[stack_context_offset(STACK_PC) / 8] = CODE_BASE + 0x100;
    context[stack_context_offset(STACK_SP) / 8] = STACK_BASE;
    context[stack_context_offset(STACK_FP) / 8] = STACK_BASE;
    context[stack_context_offset(STACK_LR) / 8] = CODE_BASE + 0x210;
    rows_begin(CODE_BASE + 0x110, STACK_BASE + 8000, 0);
    walk.lr = CODE_BASE + 0x500;
    rows_walk();
    ck_assert_uint_eq(walk.end, STACK_END_ROOT);
    ck_assert_uint_eq(walk.n, 7);
    ck_assert(walk.frames[2] & STACK_FRAME_EXACT);
    ck_assert_uint_eq(rows_frame(2), 0x100);
    ck_assert_uint_eq(rows_frame(3), 0x210);
}
END_TEST

START_TEST(test_instructions)
{
    static const __u8 trampoline[16] = {0x68, 0x11, 0x80, 0xd2, 0x01, 0, 0, 0xd4};
    static const __u8 bl[8] = {0, 0, 0, 0, 0xff, 0xff, 0xff, 0x97}, blr[8] = {0, 0, 0, 0, 0x00, 0x00, 0x3f, 0xd6};
    static const __u8 ret[8] = {0, 0, 0, 0, 0xc0, 0x03, 0x5f, 0xd6};
    __u64 target;

    ck_assert(stack_is_signal_return(trampoline));
    ck_assert(!stack_is_signal_return((const __u8[16]){0}));
    ck_assert(stack_call_before(bl, 0x1000, &target));
    ck_assert_uint_eq(target, 0x1000 - 8); /* one instruction before the call */
    ck_assert(stack_call_before(blr, 0x1000, &target));
    ck_assert_uint_eq(target, 0);
    ck_assert(!stack_call_before(ret, 0x1000, &target));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("stack_arm64");
    TCase *tc = tcase_create("stack_arm64");
    tcase_add_test(tc, test_link_register_and_frame_records);
    tcase_add_test(tc, test_link_register_of_a_caller);
    tcase_add_test(tc, test_signal_frame);
    tcase_add_test(tc, test_instructions);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
