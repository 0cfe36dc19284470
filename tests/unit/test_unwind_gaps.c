/* Code without CFI: whether it counts as keeping frame pointers, and where threads begin. */
#include <check.h>
#include <elf.h>
#include <stdlib.h>
#include <string.h>

#include "symbolize/unwind_gaps.h"

#define OFFSET 0x1000u
#define ADDRESS 0x401000u
#define TEXT_BYTES 0x20000u
#define FUNCTION_BYTES 64u

static uint8_t bytes[OFFSET + TEXT_BYTES];
static struct elf_segment segments[] = {{OFFSET, ADDRESS, TEXT_BYTES, true}, {0, 0x400000, OFFSET, false}};
static struct unwind_known known;

/* Functions that call the one three further on; each `every`th sets up no frame. */
static void lay_functions(uint16_t machine, unsigned every)
{
    static const uint8_t x86[] = {0x55, 0x48, 0x89, 0xe5, 0xe8}, arm[] = {0x3f, 0x23, 0x03, 0xd5, 0xfd, 0x7b, 0xbe, 0xa9};
    static const uint8_t x86_leaf[] = {0x48, 0x83, 0xec, 8, 0xe8}, arm_leaf[] = {0xff, 0x43, 0, 0xd1, 0xfe, 0x0f, 0x1f, 0xf8};
    memset(bytes, 0, sizeof(bytes));
    for (unsigned i = 0; (i + 4) * FUNCTION_BYTES <= TEXT_BYTES; i++) {
        uint8_t *code = bytes + OFFSET + i * FUNCTION_BYTES;
        bool has_frame = i % every != 0;
        if (machine == EM_X86_64) {
            uint32_t distance = 3 * FUNCTION_BYTES - sizeof(x86) - 4;
            memcpy(code, has_frame ? x86 : x86_leaf, sizeof(x86));
            memcpy(code + sizeof(x86), &distance, sizeof(distance));
        } else {
            uint32_t call = 0x94000000u | (3 * FUNCTION_BYTES - sizeof(arm)) / 4;
            memcpy(code, has_frame ? arm : arm_leaf, sizeof(arm));
            memcpy(code + sizeof(arm), &call, sizeof(call));
        }
    }
}

static void mark(uint16_t machine, const struct unwind_fde *list, size_t n)
{
    struct unwind_file file = {.bytes = bytes, .n_bytes = sizeof(bytes), .segments = {segments, 2}};
    unwind_known_deinit(&known);
    ck_assert_int_eq(unwind_gaps_mark(&file, unwind_arch_find(machine), list, n, &known), 0);
    unwind_known_settle(&known);
}

static const uint16_t machines[] = {EM_X86_64, EM_AARCH64};

START_TEST(test_frame_pointers)
{
    lay_functions(machines[_i], 6);
    mark(machines[_i], NULL, 0);
    ck_assert_uint_eq(known.gaps.n, 1);
    ck_assert_uint_eq(known.gaps.list[0].start, OFFSET);
    ck_assert_uint_eq(known.gaps.list[0].end, OFFSET + TEXT_BYTES);
    ck_assert_uint_eq(known.gaps.list[0].rule.cfa, UNWIND_CFA_FRAME_POINTER);
    lay_functions(machines[_i], 4);
    mark(machines[_i], NULL, 0);
    ck_assert_uint_eq(known.gaps.n, 0);
}
END_TEST

/* What FDEs leave: too little in the first piece, enough in the last. */
START_TEST(test_between_fdes)
{
    const struct unwind_fde list[] = {{.start = OFFSET + 0x100, .bytes = 0x80}, {.start = OFFSET + 0x140, .bytes = 0x10},
                                      {.start = OFFSET + 0x8000, .bytes = 0x4000}};
    lay_functions(EM_X86_64, 100);
    mark(EM_X86_64, list, 3);
    ck_assert_uint_eq(known.gaps.n, 1);
    ck_assert_uint_eq(known.gaps.list[0].start, OFFSET + 0xc000);
    ck_assert_uint_eq(known.gaps.list[0].end, OFFSET + TEXT_BYTES);
}
END_TEST

START_TEST(test_too_few_calls)
{
    memset(bytes, 0x90, sizeof(bytes));
    mark(EM_X86_64, NULL, 0);
    ck_assert_uint_eq(known.gaps.n, 0);
    memset(bytes, 0xe8, sizeof(bytes)); /* calls of what is not there */
    mark(EM_X86_64, NULL, 0);
    ck_assert_uint_eq(known.gaps.n, 0);
}
END_TEST

/* A file that is shorter than its segment. */
START_TEST(test_short_file)
{
    struct elf_segment large = {OFFSET, ADDRESS, UINT64_MAX - OFFSET, true};
    struct unwind_file file = {.bytes = bytes, .n_bytes = sizeof(bytes), .segments = {&large, 1}};
    lay_functions(EM_X86_64, 100);
    unwind_known_deinit(&known);
    ck_assert_int_eq(unwind_gaps_mark(&file, unwind_arch_find(EM_X86_64), NULL, 0, &known), 0);
    ck_assert_uint_eq(known.gaps.list[0].end, sizeof(bytes));
    file.n_bytes = OFFSET;
    unwind_known_deinit(&known);
    ck_assert_int_eq(unwind_gaps_mark(&file, unwind_arch_find(EM_X86_64), NULL, 0, &known), 0);
    ck_assert_uint_eq(known.gaps.n, 0);
}
END_TEST

START_TEST(test_thread_starts)
{
    static const uint8_t x86[] = {0x0f, 0x05, 0x85, 0xc0, 0x75, 11, 0x31, 0xed, 0x5f, 0x41, 0xff, 0xd1, 0x89, 0xc7, 0x31, 0xc0, 0xf4, 0xc3};
    static const uint32_t arm[] = {0xd4000001, 0xb4000040, 0xd65f03c0, 0xd280001d, 0xa8c103e1, 0xd63f0020, 0xd2800ba8, 0xd4000001};
    memset(bytes, 0, sizeof(bytes));
    memcpy(bytes + OFFSET + 0x123, x86, sizeof(x86));
    memcpy(bytes + OFFSET + 0x223, x86, 8);                            /* the same, but its jump goes nowhere sensible */
    bytes[OFFSET + 0x228] = 1;
    memcpy(bytes + OFFSET + TEXT_BYTES - sizeof(x86) + 9, x86, 9);    /* and one beyond the end */
    mark(EM_X86_64, NULL, 0);
    ck_assert_uint_eq(known.over.n, 1);
    ck_assert_uint_eq(known.over.list[0].start, OFFSET + 0x129);
    ck_assert_uint_eq(known.over.list[0].end, OFFSET + 0x129 + 11);
    ck_assert_uint_eq(known.over.list[0].rule.cfa, UNWIND_CFA_ROOT);
    memset(bytes, 0, sizeof(bytes));
    memcpy(bytes + OFFSET + 0x120, arm, sizeof(arm));
    memcpy(bytes + OFFSET + TEXT_BYTES - 16, arm, 16);
    mark(EM_AARCH64, NULL, 0);
    ck_assert_uint_eq(known.over.n, 1);
    ck_assert_uint_eq(known.over.list[0].start, OFFSET + 0x12c);
    ck_assert_uint_eq(known.over.list[0].end, OFFSET + 0x120 + sizeof(arm));
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("gaps");
    tcase_add_loop_test(t, test_frame_pointers, 0, 2);
    tcase_add_test(t, test_between_fdes);
    tcase_add_test(t, test_too_few_calls);
    tcase_add_test(t, test_short_file);
    tcase_add_test(t, test_thread_starts);
    Suite *s = suite_create("unwind_gaps");
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed > 0;
}
