/* What is understood of assembly without CFI: functions written here, each with the rule that must hold at its labels. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "symbolize/unwind_assembly.h"

/* The code, never run: a label before each instruction of which a rule is asked. */
__asm__(".text\n"
        ".balign 64\n"
        ".globl code_begin, code_end\n"
        "code_begin:\n"
        "plain: .globl plain\n  push %rbp\n"
        "plain1: .globl plain1\n  push %rbx\n"
        "  sub $0x118, %rsp\n"
        "plain2: .globl plain2\n  mov %rsp, %rbp\n"
        "  test %rdi, %rdi\n"
        "  jz 1f\n"
        "  call leaf\n"
        "plain3: .globl plain3\n  nop\n"
        "1: add $0x118, %rsp\n"
        "  pop %rbx\n"
        "plain4: .globl plain4\n  pop %rbp\n"
        "plain5: .globl plain5\n  ret\n"
        ".balign 16\n"
        "leaf: .globl leaf\n  paddd %xmm1, %xmm0\n"
        "  ret\n"
        ".balign 16\n"
        /* perlasm's way: the old rsp in rax, then in a slot of the aligned frame, then back by rsi */
        "aligned: .globl aligned\n  mov %rsp, %rax\n"
        "  push %rbx\n"
        "aligned1: .globl aligned1\n  push %rbp\n"
        "  sub $0xa0, %rsp\n"
        "  and $-64, %rsp\n"
        "aligned2: .globl aligned2\n  mov %rax, 0x98(%rsp)\n"
        "  xor %eax, %eax\n"
        "aligned3: .globl aligned3\n  mov %rdi, %rbp\n"
        "aligned4: .globl aligned4\n  mov 0x98(%rsp), %rsi\n"
        "  mov -16(%rsi), %rbp\n"
        "aligned5: .globl aligned5\n  lea (%rsi), %rsp\n"
        "aligned6: .globl aligned6\n  ret\n"
        ".balign 16\n"
        /* x86inc's way: the slot is loaded into rsp itself */
        "inc: .globl inc\n  push %rbx\n"
        "  mov %rsp, %r10\n"
        "  sub $0x80, %rsp\n"
        "  and $-32, %rsp\n"
        "  mov %r10, 0x60(%rsp)\n"
        "  xor %r10d, %r10d\n"
        "inc1: .globl inc1\n  mov 0x60(%rsp), %rsp\n"
        "inc2: .globl inc2\n  pop %rbx\n"
        "  ret\n"
        ".balign 16\n"
        "framed: .globl framed\n  push %rbp\n"
        "  mov %rsp, %rbp\n"
        "  sub %rdi, %rsp\n"
        "framed1: .globl framed1\n  nop\n"
        "  leave\n"
        "framed2: .globl framed2\n  ret\n"
        ".balign 16\n"
        /* Two ways that meet with different frames */
        "torn: .globl torn\n  test %rdi, %rdi\n"
        "  jz 1f\n"
        "  push %rax\n"
        "1:\n"
        "torn1: .globl torn1\n  nop\n"
        "  ret\n"
        ".balign 16\n"
        /* Calls of what does not return: behind them is the next function, with padding or without */
        "fails: .globl fails\n  sub $0x18, %rsp\n"
        "  call called\n"
        ".balign 16\n"
        "fails_too: .globl fails_too\n  sub $0x28, %rsp\n"
        "  mov %rdi, %rdi\n  mov %rdi, %rdi\n  nop\n"
        "fails_too1: .globl fails_too1\n  call leaf\n"
        "called: .globl called\n  push %rbx\n"
        "called1: .globl called1\n  pop %rbx\n"
        "  ret\n"
        ".balign 16\n"
        /* What a computed jump leads to, aligned or not, and back; and a function behind it that is called */
        "table: .globl table\n  push %rbx\n"
        "table0: .globl table0\n  jmp *%rax\n"
        "table1: .globl table1\n  pop %rbx\n"
        "  ret\n"
        ".balign 16\n"
        "table2: .globl table2\n  call quits\n"
        "  jmp table0\n"
        ".balign 16\n"
        "quits: .globl quits\n  push %rcx\n"
        "  ud2\n"
        "  .byte 0x06, 0x06\n" /* no instruction */
        "code_end:\n");

#define LABEL(name) extern const uint8_t name[]
LABEL(code_begin); LABEL(code_end); LABEL(plain); LABEL(plain1); LABEL(plain2); LABEL(plain3); LABEL(plain4); LABEL(plain5); LABEL(leaf);
LABEL(aligned); LABEL(aligned1); LABEL(aligned2); LABEL(aligned3); LABEL(aligned4); LABEL(aligned5); LABEL(aligned6); LABEL(inc);
LABEL(inc1); LABEL(inc2); LABEL(framed); LABEL(framed1); LABEL(framed2); LABEL(torn); LABEL(torn1); LABEL(fails); LABEL(fails_too);
LABEL(fails_too1); LABEL(called); LABEL(called1); LABEL(table); LABEL(table0); LABEL(table1); LABEL(table2); LABEL(quits);

#define G UNWIND_REG_GUESSED
#define RSP 7
#define RBP 6
#define SAME UNWIND_SAVED(UNWIND_FP_SAME, UNWIND_RA_CFA)
#define AT_CFA UNWIND_SAVED(UNWIND_FP_CFA, UNWIND_RA_CFA)

static struct unwind_marks marks;

static void read_all(void)
{
    marks = (struct unwind_marks){0};
    ck_assert_int_eq(unwind_assembly_read(code_begin, 0, (uint64_t)(code_end - code_begin), &marks), 0);
    unwind_marks_settle(&marks);
}

static struct unwind_rule rule_at(const uint8_t *label)
{
    uint64_t at = (uint64_t)(label - code_begin);
    for (size_t i = 0; i < marks.n; i++)
        if (at >= marks.list[i].start && at < marks.list[i].end)
            return marks.list[i].rule;
    return (struct unwind_rule){0};
}

static void check_rule(const uint8_t *label, uint8_t cfa, int32_t offset, uint8_t saved, int16_t saved_offset, const char *name)
{
    struct unwind_rule r = rule_at(label);
    ck_assert_msg(r.cfa == cfa && r.cfa_offset == offset && r.saved == saved && r.saved_offset == saved_offset,
                  "%s: kind %u reg %u offset %d saved %#x at %d", name, UNWIND_CFA_KIND(r.cfa), UNWIND_CFA_REG(r.cfa), r.cfa_offset,
                  r.saved, r.saved_offset);
}
#define CHECK(label, kind, reg, offset, saved, at) check_rule(label, UNWIND_CFA(kind, (reg) | G), offset, saved, at, #label)
#define CHECK_SP(label, offset) CHECK(label, UNWIND_CFA_REGISTER, RSP, offset, SAME, 0)
#define CHECK_NONE(label) check_rule(label, 0, 0, 0, 0, #label)

START_TEST(test_pushes_and_pops)
{
    read_all();
    CHECK_SP(plain, 8);
    CHECK_SP(plain1, 16);
    CHECK_SP(plain2, 24 + 0x118);
    CHECK(plain3, UNWIND_CFA_REGISTER, RSP, 24 + 0x118, AT_CFA, -2); /* rbp is changed, and saved */
    CHECK(plain4, UNWIND_CFA_REGISTER, RSP, 16, AT_CFA, -2);
    CHECK_SP(plain5, 8);
    CHECK_SP(leaf, 8); /* known by its call, and by its place */
    unwind_marks_deinit(&marks);
}
END_TEST

START_TEST(test_aligned_frames)
{
    read_all();
    CHECK_SP(aligned, 8);
    CHECK_SP(aligned1, 16);
    CHECK(aligned2, UNWIND_CFA_REGISTER, 0, 8, SAME, 0); /* by rax */
    CHECK(aligned3, UNWIND_CFA_MEMORY, RSP, 0x98, SAME | 1 << 4, 0);
    CHECK(aligned4, UNWIND_CFA_MEMORY, RSP, 0x98, AT_CFA | 1 << 4, -3);
    CHECK(aligned5, UNWIND_CFA_MEMORY, RSP, 0x98, SAME | 1 << 4, 0); /* rbp is back */
    CHECK_SP(aligned6, 8);
    CHECK(inc1, UNWIND_CFA_MEMORY, RSP, 0x60, SAME | 2 << 4, 0);
    CHECK_SP(inc2, 16);
    unwind_marks_deinit(&marks);
}
END_TEST

START_TEST(test_frame_pointers)
{
    read_all();
    CHECK(framed1, UNWIND_CFA_REGISTER, RBP, 16, AT_CFA, -2);
    CHECK_SP(framed2, 8);
    unwind_marks_deinit(&marks);
}
END_TEST

START_TEST(test_calls_that_do_not_return)
{
    read_all();
    CHECK_SP(fails, 8);
    CHECK_SP(fails_too, 8);
    CHECK_SP(fails_too1, 0x30);
    CHECK_SP(called, 8);
    CHECK_SP(called1, 16);
    unwind_marks_deinit(&marks);
}
END_TEST

START_TEST(test_what_is_not_known_is_left_out)
{
    read_all();
    CHECK_SP(torn, 8);
    CHECK_NONE(torn1);
    unwind_marks_deinit(&marks);
}
END_TEST

START_TEST(test_computed_jumps)
{
    read_all();
    CHECK_SP(table, 8);
    CHECK_SP(table0, 16);
    CHECK_SP(table1, 16);
    CHECK_SP(table2, 16);
    CHECK_SP(quits, 8);
    unwind_marks_deinit(&marks);
}
END_TEST

/* Any bytes: it ends, and its marks lie within. */
START_TEST(test_rubbish)
{
    static uint8_t bytes[4096];
    for (unsigned seed = 0; seed < 300; seed++) {
        srand(seed);
        for (size_t i = 0; i < sizeof(bytes); i++)
            bytes[i] = seed % 2 ? (uint8_t)rand() : code_begin[(size_t)rand() % (size_t)(code_end - code_begin)];
        marks = (struct unwind_marks){0};
        ck_assert_int_eq(unwind_assembly_read(bytes, 100, sizeof(bytes), &marks), 0);
        for (size_t i = 0; i < marks.n; i++)
            ck_assert(marks.list[i].start >= 100 && marks.list[i].end <= sizeof(bytes) && marks.list[i].start < marks.list[i].end);
        unwind_marks_deinit(&marks);
    }
    marks = (struct unwind_marks){0};
    ck_assert_int_eq(unwind_assembly_read(bytes, 5, 5, &marks), 0);
    ck_assert_int_eq(unwind_assembly_read(bytes, 0, UNWIND_MAX_ASSEMBLY_BYTES + 1, &marks), 0); /* not looked at */
    ck_assert_uint_eq(marks.n, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("unwind_assembly");
    TCase *tc = tcase_create("unwind_assembly");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, test_pushes_and_pops);
    tcase_add_test(tc, test_aligned_frames);
    tcase_add_test(tc, test_frame_pointers);
    tcase_add_test(tc, test_what_is_not_known_is_left_out);
    tcase_add_test(tc, test_calls_that_do_not_return);
    tcase_add_test(tc, test_computed_jumps);
    tcase_add_test(tc, test_rubbish);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
