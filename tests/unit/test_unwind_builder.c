/* From call frame information made by hand to rules: each instruction and each expression that rows can follow, and what becomes of those
 * that they can't, or that are malformed. */
#include <check.h>
#include <dwarf.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>

#include "symbolize/unwind_builder.h"
#include "symbolize/unwind_fdes.h"
#include "tests/unwind/elf_image.h"
#include "util/unwind_table.h"

#define MAX_CFI 65536
#define CODE 0x100 /* of the function under test, in the text */
#define BYTES 0x100
#define RBP 6
#define RSP 7
#define RIP 16

/* ---- making .eh_frame */

struct cfi {
    uint8_t bytes[MAX_CFI];
    size_t n, cie;
};

static void put(struct cfi *cfi, const void *bytes, size_t n)
{
    ck_assert_uint_le(cfi->n + n, sizeof(cfi->bytes));
    memcpy(cfi->bytes + cfi->n, bytes, n);
    cfi->n += n;
}

static void put_u32(struct cfi *cfi, uint32_t value) { put(cfi, &value, sizeof(value)); }

/* The entry's length, once all of it is there. */
static void end_entry(struct cfi *cfi, size_t start)
{
    static const uint8_t zeros[8];
    put(cfi, zeros, -cfi->n & 7);
    uint32_t length = (uint32_t)(cfi->n - start - 4);
    memcpy(cfi->bytes + start, &length, sizeof(length));
}

static void put_cie(struct cfi *cfi, const char *letters, uint8_t data_align, uint8_t ra, const void *code, size_t n)
{
    const uint8_t numbers[] = {1, data_align, ra, 1, DW_EH_PE_pcrel | DW_EH_PE_sdata4};
    cfi->cie = cfi->n;
    put_u32(cfi, 0);
    put_u32(cfi, 0);
    put(cfi, "\1", 1);
    put(cfi, letters, strlen(letters) + 1);
    put(cfi, numbers, sizeof(numbers));
    put(cfi, code, n);
    end_entry(cfi, cfi->cie);
}

static void put_fde(struct cfi *cfi, uint32_t text_offset, uint32_t bytes, const void *code, size_t n)
{
    size_t start = cfi->n;
    put_u32(cfi, 0);
    put_u32(cfi, (uint32_t)(cfi->n - cfi->cie));
    put_u32(cfi, ELF_IMAGE_TEXT + text_offset - (ELF_IMAGE_CFI + (uint32_t)cfi->n));
    put_u32(cfi, bytes);
    put(cfi, "\0", 1);
    put(cfi, code, n);
    end_entry(cfi, start);
}

static const uint8_t x86_start[] = {DW_CFA_def_cfa, RSP, 8, DW_CFA_offset | RIP, 1};

static void put_x86_cie(struct cfi *cfi) { put_cie(cfi, "zR", 0x78, RIP, x86_start, sizeof(x86_start)); }

static int build(const struct cfi *cfi, uint16_t machine, struct unwind_output *ret)
{
    AUTO_CLOSE int fd = elf_image_open(elf_image_head(machine, ELF_IMAGE_EH_FRAME, cfi->n), NULL, 0, cfi->bytes, cfi->n);
    ck_assert_int_ge(fd, 0);
    int r = unwind_build(fd, ret);
    if (r == 0)
        ck_assert_int_eq(unwind_image_check(ret->image, ret->image_bytes), 0);
    return r;
}

/* ---- one function's rows */

#define R(kind, reg, offset, fp, ra, words) {UNWIND_CFA(UNWIND_CFA_##kind, reg), UNWIND_SAVED(UNWIND_FP_##fp, UNWIND_RA_##ra), words, offset}
#define AT_SP(offset) R(REGISTER, RSP, offset, SAME, CFA, 0)
#define UNSUPPORTED R(UNSUPPORTED, 0, 0, SAME, CFA, 0)
#define B(...) .code = {__VA_ARGS__}, .n = sizeof((const uint8_t[]){__VA_ARGS__})
#define LEB_1000 0xe8, 0x07

struct expected {
    uint32_t at;
    struct unwind_rule rule;
};

static const struct {
    const char *what;
    uint8_t code[64];
    size_t n;
    struct expected rows[5]; /* the first one at 0 */
} cases[] = {
    {"nothing", B(DW_CFA_nop), {{0, AT_SP(8)}}},
    {"push, mov, pop",
     B(DW_CFA_advance_loc | 1, DW_CFA_def_cfa_offset, 16, DW_CFA_offset | RBP, 2, DW_CFA_advance_loc | 3, DW_CFA_def_cfa_register, RBP,
       DW_CFA_advance_loc1, 200, DW_CFA_restore | RBP, DW_CFA_def_cfa, RSP, 8),
     {{0, AT_SP(8)}, {1, R(REGISTER, RSP, 16, CFA, CFA, -2)}, {4, R(REGISTER, RBP, 16, CFA, CFA, -2)}, {204, AT_SP(8)}}},
    {"states nest",
     B(DW_CFA_def_cfa_offset, 16, DW_CFA_remember_state, DW_CFA_def_cfa_offset, 24, DW_CFA_offset | RBP, 3, DW_CFA_remember_state,
       DW_CFA_advance_loc | 1, DW_CFA_undefined, RIP, DW_CFA_advance_loc | 1, DW_CFA_restore_state, DW_CFA_advance_loc | 1,
       DW_CFA_restore_state),
     {{0, R(REGISTER, RSP, 24, CFA, CFA, -3)}, {1, R(ROOT, 0, 0, SAME, CFA, 0)}, {2, R(REGISTER, RSP, 24, CFA, CFA, -3)}, {3, AT_SP(16)}}},
    {"all advances",
     B(DW_CFA_advance_loc2, 2, 0, DW_CFA_def_cfa_offset, 16, DW_CFA_advance_loc4, 3, 0, 0, 0, DW_CFA_def_cfa_offset, 24,
       DW_CFA_MIPS_advance_loc8, 4, 0, 0, 0, 0, 0, 0, 0, DW_CFA_def_cfa_offset, 32),
     {{0, AT_SP(8)}, {2, AT_SP(16)}, {5, AT_SP(24)}, {9, AT_SP(32)}}},
    {"factored offsets",
     B(DW_CFA_def_cfa_sf, RSP, 0x7e, DW_CFA_offset_extended, RBP, 2, DW_CFA_advance_loc | 1, DW_CFA_def_cfa_offset_sf, 0x7d,
       DW_CFA_offset_extended_sf, RBP, 3, DW_CFA_advance_loc | 1, DW_CFA_GNU_negative_offset_extended, RBP, 1, DW_CFA_advance_loc | 1,
       DW_CFA_restore_extended, RBP),
     {{0, R(REGISTER, RSP, 16, CFA, CFA, -2)}, {1, R(REGISTER, RSP, 24, CFA, CFA, -3)}, {2, R(REGISTER, RSP, 24, CFA, CFA, 1)}, {3, AT_SP(24)}}},
    {"large frames",
     B(DW_CFA_def_cfa_offset, 0xff, 0xff, 0xff, 0xff, 0x07, DW_CFA_advance_loc | 1, DW_CFA_def_cfa_offset, 0x80, 0x80, 0x80, 0x80, 0x08,
       DW_CFA_advance_loc | 1, DW_CFA_def_cfa_offset, LEB_1000, DW_CFA_offset | RBP, 0x80, 0x80, 0x02, DW_CFA_advance_loc | 1,
       DW_CFA_offset | RBP, 0x81, 0x80, 0x02),
     {{0, AT_SP(INT32_MAX)}, {1, UNSUPPORTED}, {2, R(REGISTER, RSP, 1000, CFA, CFA, INT16_MIN)}, {3, R(REGISTER, RSP, 1000, UNDEFINED, CFA, 0)}}},
    {"a lost frame pointer",
     B(DW_CFA_undefined, RBP, DW_CFA_advance_loc | 1, DW_CFA_same_value, RBP, DW_CFA_advance_loc | 1, DW_CFA_register, RBP, 3,
       DW_CFA_advance_loc | 1, DW_CFA_val_offset, RBP, 2, DW_CFA_advance_loc | 1, DW_CFA_val_expression, RBP, 2, DW_OP_breg6, 0),
     {{0, R(REGISTER, RSP, 8, UNDEFINED, CFA, 0)}, {1, AT_SP(8)}, {2, R(REGISTER, RSP, 8, UNDEFINED, CFA, 0)}}},
    {"a stack pointer that is not the CFA",
     B(DW_CFA_val_offset, RSP, 0, DW_CFA_advance_loc | 1, DW_CFA_val_offset_sf, RSP, 1, DW_CFA_advance_loc | 1, DW_CFA_val_offset_sf, RSP, 0,
       DW_CFA_advance_loc | 1, DW_CFA_register, RSP, 8),
     {{0, AT_SP(8)}, {1, UNSUPPORTED}, {2, AT_SP(8)}, {3, UNSUPPORTED}}},
    {"other return addresses",
     B(DW_CFA_register, RIP, 5, DW_CFA_advance_loc | 1, DW_CFA_offset | RBP, 2, DW_CFA_advance_loc | 1, DW_CFA_offset | RIP, 3,
       DW_CFA_advance_loc | 1, DW_CFA_restore | RBP, DW_CFA_advance_loc | 1, DW_CFA_same_value, RIP),
     {{0, R(REGISTER, RSP, 8, SAME, REGISTER, 5)}, {1, UNSUPPORTED}, {2, R(REGISTER, RSP, 8, UNDEFINED, SAVED, -3)},
      {3, R(REGISTER, RSP, 8, SAME, SAVED, -3)}, {4, UNSUPPORTED}}},
    {"what is of no account",
     B(DW_CFA_GNU_args_size, 16, DW_CFA_offset | 3, 4, DW_CFA_advance_loc | 1, DW_CFA_offset_extended, 12, 5, DW_CFA_restore | 3,
       DW_CFA_expression, 13, 2, DW_OP_breg7, 8, DW_CFA_def_cfa_offset, 16),
     {{0, AT_SP(8)}, {1, AT_SP(16)}}},
    {"lazy PLT",
     B(DW_CFA_def_cfa_expression, 11, DW_OP_breg7, 8, DW_OP_breg16, 0, DW_OP_lit15, DW_OP_and, DW_OP_lit11, DW_OP_ge, DW_OP_lit3, DW_OP_shl,
       DW_OP_plus, DW_CFA_advance_loc | 16, DW_CFA_def_cfa_expression, 11, DW_OP_breg7, 8, DW_OP_breg16, 0, DW_OP_lit15, DW_OP_and,
       DW_OP_lit10, DW_OP_ge, DW_OP_lit3, DW_OP_shl, DW_OP_plus, DW_CFA_advance_loc | 16, DW_CFA_def_cfa_expression, 11, DW_OP_breg7, 8,
       DW_OP_breg16, 0, DW_OP_lit15, DW_OP_and, DW_OP_lit10, DW_OP_gt, DW_OP_lit3, DW_OP_shl, DW_OP_plus),
     {{0, R(PLT, RSP, 11, SAME, CFA, 0)}, {16, R(PLT, RSP, 10, SAME, CFA, 0)}, {32, UNSUPPORTED}}},
    {"stack realignment",
     B(DW_CFA_def_cfa, 10, 0, DW_CFA_advance_loc | 9, DW_CFA_expression, RBP, 2, DW_OP_breg6, 0, DW_CFA_advance_loc | 4,
       DW_CFA_def_cfa_expression, 3, DW_OP_breg6, 0x78, DW_OP_deref, DW_CFA_advance_loc | 9, DW_CFA_expression, RBP, 2, DW_OP_breg6, 0x70),
     {{0, R(REGISTER, 10, 0, SAME, CFA, 0)}, {9, R(REGISTER, 10, 0, FP, CFA, 0)}, {13, R(MEMORY, RBP, -8, FP, CFA, 0)},
      {22, R(MEMORY, RBP, -8, FP, CFA, -2)}}},
    {"other expressions",
     B(DW_CFA_def_cfa_expression, 5, DW_OP_breg7, 40, DW_OP_deref, DW_OP_plus_uconst, 56, DW_CFA_advance_loc | 1, DW_CFA_def_cfa_expression, 3,
       DW_OP_bregx, 7, 24, DW_CFA_expression, RBP, 2, DW_OP_breg7, 8, DW_CFA_advance_loc | 1, DW_CFA_def_cfa, RSP, 24, DW_CFA_advance_loc | 1,
       DW_CFA_def_cfa_expression, 5, DW_OP_breg7, 40, DW_OP_deref, DW_OP_plus_uconst, 60),
     {{0, {UNWIND_CFA(UNWIND_CFA_MEMORY, RSP), 7 << 4, 0, 40}}, {1, R(REGISTER, RSP, 24, UNDEFINED, CFA, 0)},
      {2, R(REGISTER, RSP, 24, CFA, CFA, -2)}, {3, UNSUPPORTED}}},
    {"an expression, then a register again", /* as libgcrypt's ends */
     B(DW_CFA_def_cfa_offset, 56, DW_CFA_def_cfa_expression, 5, DW_OP_breg7, 40, DW_OP_deref, DW_OP_plus_uconst, 56, DW_CFA_advance_loc | 1,
       DW_CFA_def_cfa_offset, 48, DW_CFA_offset | RBP, 2, DW_CFA_advance_loc | 1, DW_CFA_def_cfa_register, RSP),
     {{0, {UNWIND_CFA(UNWIND_CFA_MEMORY, RSP), 7 << 4, 0, 40}}, {1, {UNWIND_CFA(UNWIND_CFA_MEMORY, RSP), 7 << 4 | UNWIND_FP_CFA, -2, 40}},
      {2, R(REGISTER, RSP, 48, CFA, CFA, -2)}}},
    {"an empty expression", B(DW_CFA_def_cfa_expression, 0, DW_CFA_advance_loc | 1, DW_CFA_def_cfa, 40, 8), {{0, UNSUPPORTED}}},
    /* Malformed programs count up to where they are. */
    {"an unknown instruction", B(DW_CFA_advance_loc | 4, DW_CFA_def_cfa_offset, 16, DW_CFA_advance_loc | 1, 0x3e),
     {{0, AT_SP(8)}, {4, AT_SP(16)}, {5, UNSUPPORTED}}},
    {"an operand beyond the end", B(DW_CFA_advance_loc | 2, DW_CFA_def_cfa_expression, 60, DW_OP_breg7, 8), {{0, AT_SP(8)}, {2, UNSUPPORTED}}},
    {"no state to restore", B(DW_CFA_advance_loc | 2, DW_CFA_restore_state), {{0, AT_SP(8)}, {2, UNSUPPORTED}}},
    {"beyond the end", B(DW_CFA_advance_loc4, 0, 1, 0, 0, DW_CFA_def_cfa_offset, 16, 0x3e), {{0, AT_SP(8)}}},
};
#define N_CASES (sizeof(cases) / sizeof(cases[0]))

static void check_rows(const struct unwind_output *output, const struct expected *rows, const char *what)
{
    for (size_t i = 0; i < 5 && (i == 0 || rows[i].at > 0); i++) {
        uint32_t end = i + 1 < 5 && rows[i + 1].at > 0 ? rows[i + 1].at : 0;
        const uint32_t places[] = {rows[i].at, end ? end - 1 : rows[i].at};
        for (size_t j = 0; j < 2; j++) {
            struct unwind_rule found = unwind_image_find(output->image, ELF_IMAGE_TEXT + CODE + places[j]);
            ck_assert_msg(memcmp(&found, &rows[i].rule, sizeof(found)) == 0, "%s: at %u: %x %x %d %d", what, places[j], found.cfa, found.saved,
                          found.saved_offset, found.cfa_offset);
        }
    }
}

START_TEST(test_instructions)
{
    struct cfi cfi = {0};
    struct unwind_output output;
    put_x86_cie(&cfi);
    put_fde(&cfi, CODE, BYTES, cases[_i].code, cases[_i].n);
    ck_assert_int_eq(build(&cfi, EM_X86_64, &output), 0);
    check_rows(&output, cases[_i].rows, cases[_i].what);
    ck_assert_uint_eq(output.n_fdes, 1);
    unsigned kind = UNWIND_CFA_KIND(unwind_image_find(output.image, ELF_IMAGE_TEXT + CODE + BYTES).cfa);
    ck_assert_uint_eq(kind, UNWIND_CFA_NONE);
    unwind_output_deinit(&output);
}
END_TEST

START_TEST(test_set_loc)
{
    struct cfi cfi = {0};
    struct unwind_output output;
    uint8_t code[] = {DW_CFA_set_loc, 0, 0, 0, 0, DW_CFA_def_cfa_offset, 16, DW_CFA_set_loc, 0, 0, 0, 0, DW_CFA_def_cfa_offset, 24};
    put_x86_cie(&cfi);
    for (size_t i = 0; i < 2; i++) { /* to CODE + 32, then back to CODE + 16, of which nothing is believed */
        size_t at = cfi.n + 17 + 1 + 7 * i;
        uint32_t distance = (uint32_t)(ELF_IMAGE_TEXT + CODE + 32 - 16 * i - (ELF_IMAGE_CFI + at));
        memcpy(code + 1 + 7 * i, &distance, sizeof(distance));
    }
    put_fde(&cfi, CODE, BYTES, code, sizeof(code));
    ck_assert_int_eq(build(&cfi, EM_X86_64, &output), 0);
    check_rows(&output, (const struct expected[5]){{0, AT_SP(8)}, {32, UNSUPPORTED}}, "set_loc");
    unwind_output_deinit(&output);
}
END_TEST

START_TEST(test_too_many_states)
{
    struct cfi cfi = {0};
    struct unwind_output output;
    uint8_t code[1 + CFI_MAX_REMEMBERED + 1];
    code[0] = DW_CFA_advance_loc | 1;
    memset(code + 1, DW_CFA_remember_state, sizeof(code) - 1);
    put_x86_cie(&cfi);
    put_fde(&cfi, CODE, BYTES, code, sizeof(code) - 1);
    put_fde(&cfi, CODE + BYTES, BYTES, code, sizeof(code));
    ck_assert_int_eq(build(&cfi, EM_X86_64, &output), 0);
    check_rows(&output, (const struct expected[5]){{0, AT_SP(8)}, {BYTES, AT_SP(8)}, {BYTES + 1, UNSUPPORTED}}, "states");
    unwind_output_deinit(&output);
}
END_TEST

/* ---- aarch64, signals */

START_TEST(test_aarch64)
{
    static const uint8_t start[] = {DW_CFA_def_cfa, 31, 0};
    static const uint8_t code[] = {DW_CFA_advance_loc | 4, DW_CFA_AARCH64_negate_ra_state, DW_CFA_def_cfa_offset, 32, DW_CFA_offset | 29, 4,
                                   DW_CFA_advance_loc | 4, DW_CFA_offset | 30, 3, DW_CFA_advance_loc | 4, DW_CFA_restore | 29,
                                   DW_CFA_advance_loc | 4, DW_CFA_offset | 29, 1};
    struct cfi cfi = {0};
    struct unwind_output output;
    put_cie(&cfi, "zRB", 0x78, 30, start, sizeof(start));
    put_fde(&cfi, CODE, BYTES, code, sizeof(code));
    ck_assert_int_eq(build(&cfi, EM_AARCH64, &output), 0);
    check_rows(&output,
               (const struct expected[5]){{0, R(REGISTER, 31, 0, SAME, REGISTER, 30)},
                                          {4, R(REGISTER, 31, 32, CFA, REGISTER, -4)},
                                          {8, R(REGISTER, 31, 32, CFA, AFTER_FP, -4)},
                                          {12, R(REGISTER, 31, 32, SAME, SAVED, -3)},
                                          {16, R(REGISTER, 31, 32, UNDEFINED, SAVED, -3)}},
               "aarch64");
    unwind_output_deinit(&output);
}
END_TEST

/* As in parts of glibc: the return address is in another register, which the walker does not know. */
START_TEST(test_other_return_register)
{
    static const uint8_t start[] = {DW_CFA_def_cfa, 31, 0}, code[] = {DW_CFA_advance_loc | 4, DW_CFA_same_value, 15};
    struct cfi cfi = {0};
    struct unwind_output output;
    put_cie(&cfi, "zR", 0x78, 15, start, sizeof(start));
    put_fde(&cfi, CODE, BYTES, "", 0);
    put_cie(&cfi, "zR", 0x78, 30, start, sizeof(start));
    put_fde(&cfi, CODE + BYTES, BYTES, code, sizeof(code));
    ck_assert_int_eq(build(&cfi, EM_AARCH64, &output), 0);
    check_rows(&output, (const struct expected[5]){{0, UNSUPPORTED}, {BYTES, R(REGISTER, 31, 0, SAME, REGISTER, 30)}}, "another register");
    unwind_output_deinit(&output);
}
END_TEST

START_TEST(test_signal_frames)
{
    static const uint8_t start[] = {DW_CFA_def_cfa_expression, 4, DW_OP_breg7, 0xa8, 0x01, DW_OP_deref, /* 8 + 160 */
                                    DW_CFA_expression, RIP, 3, DW_OP_breg7, 0xb0, 0x01};
    static const uint8_t odd[] = {DW_CFA_advance_loc | 1, DW_CFA_expression, RIP, 3, DW_OP_breg7, 0xb8, 0x01};
    static const uint8_t none[] = {DW_CFA_nop};
    struct cfi cfi = {0};
    struct unwind_output output;
    put_cie(&cfi, "zRS", 0x78, RIP, start, sizeof(start));
    put_fde(&cfi, CODE, BYTES, odd, sizeof(odd));
    ck_assert_int_eq(build(&cfi, EM_X86_64, &output), 0);
    check_rows(&output, (const struct expected[5]){{0, R(SIGNAL, 0, 8, SAME, CFA, 0)}, {1, UNSUPPORTED}}, "x86-64");
    unwind_output_deinit(&output);
    cfi = (struct cfi){0};
    put_cie(&cfi, "zRS", 0x78, 30, none, 1);
    put_fde(&cfi, CODE, BYTES, none, 1);
    ck_assert_int_eq(build(&cfi, EM_AARCH64, &output), 0);
    check_rows(&output, (const struct expected[5]){{0, R(SIGNAL, 0, 128, SAME, CFA, 0)}}, "aarch64");
    unwind_output_deinit(&output);
}
END_TEST

/* ---- which FDE counts */

static unsigned depth_at(const struct unwind_output *output, uint32_t at)
{
    struct unwind_rule rule = unwind_image_find(output->image, ELF_IMAGE_TEXT + at);
    return UNWIND_CFA_KIND(rule.cfa) == UNWIND_CFA_NONE ? 0 : (unsigned)rule.cfa_offset;
}

START_TEST(test_overlaps)
{
    struct cfi cfi = {0};
    struct unwind_output output;
    put_x86_cie(&cfi);
    put_fde(&cfi, 0x600, 0x100, (const uint8_t[]){DW_CFA_def_cfa_offset, 48}, 2);
    put_fde(&cfi, 0x200, 0x200, (const uint8_t[]){DW_CFA_def_cfa_offset, 16}, 2);
    put_fde(&cfi, 0x300, 0x40, (const uint8_t[]){DW_CFA_def_cfa_offset, 24}, 2); /* inside: nothing behind it is known */
    put_fde(&cfi, 0x300, 0x80, (const uint8_t[]){DW_CFA_def_cfa_offset, 32}, 2); /* the same start: not heard */
    put_fde(&cfi, 0x500, 0, (const uint8_t[]){DW_CFA_def_cfa_offset, 40}, 2);
    put_fde(&cfi, 0x680, 0xffffffff, (const uint8_t[]){DW_CFA_def_cfa_offset, 56}, 2); /* to the segment's end */
    put_fde(&cfi, ELF_IMAGE_TEXT_BYTES, 16, (const uint8_t[]){DW_CFA_def_cfa_offset, 64}, 2); /* no code */
    ck_assert_int_eq(build(&cfi, EM_X86_64, &output), 0);
    ck_assert_uint_eq(depth_at(&output, 0x1ff), 0);
    ck_assert_uint_eq(depth_at(&output, 0x200), 16);
    ck_assert_uint_eq(depth_at(&output, 0x2ff), 16);
    ck_assert_uint_eq(depth_at(&output, 0x300), 24);
    ck_assert_uint_eq(depth_at(&output, 0x33f), 24);
    ck_assert_uint_eq(depth_at(&output, 0x340), 0);
    ck_assert_uint_eq(depth_at(&output, 0x500), 0);
    ck_assert_uint_eq(depth_at(&output, 0x67f), 48);
    ck_assert_uint_eq(depth_at(&output, 0x680), 56);
    ck_assert_uint_eq(depth_at(&output, ELF_IMAGE_TEXT_BYTES - 1), 56);
    ck_assert_uint_eq(depth_at(&output, ELF_IMAGE_TEXT_BYTES), 0);
    ck_assert_uint_eq(output.n_fdes, 5);
    unwind_output_deinit(&output);
}
END_TEST

/* Zeros and nops up to an aligned function are padding; code is not, nor is a larger gap, nor one before an unaligned function. */
START_TEST(test_padding)
{
    static const uint8_t code[0x100] = {[0x3a] = 0xb8, 15, 0, 0, 0, 0xc3, [0x78] = 0x66, 0x0f, 0x1f, 0x44, 0, 0, 0x90, 0xcc};
    static const struct {
        uint32_t at, bytes, behind; /* of what is behind it */
    } functions[] = {{0, 0x1a, 8}, {0x20, 0x1a, 0}, {0x40, 0x1e, 8}, {0x60, 0x18, 8}, {0x80, 0xf, 0}, {0xa0, 8, 0}, {0xac, 8, 0}};
    const size_t n = sizeof(functions) / sizeof(functions[0]);
    struct cfi cfi = {0};
    struct unwind_output output;
    put_x86_cie(&cfi);
    for (size_t i = 0; i < n; i++)
        put_fde(&cfi, functions[i].at, functions[i].bytes, "", 0);
    AUTO_CLOSE int fd = elf_image_open(elf_image_head(EM_X86_64, ELF_IMAGE_EH_FRAME, cfi.n), code, sizeof(code), cfi.bytes, cfi.n);
    ck_assert_int_eq(unwind_build(fd, &output), 0);
    for (size_t i = 0; i < n; i++) {
        ck_assert_uint_eq(depth_at(&output, functions[i].at + functions[i].bytes - 1), 8);
        ck_assert_uint_eq(depth_at(&output, functions[i].at + functions[i].bytes), functions[i].behind);
    }
    unwind_output_deinit(&output);
}
END_TEST

/* A function whose CFI says that nothing changes, while its first instruction moves sp: the CFI is not believed. One that takes another sp
 * has no caller; what would be its return address, its first byte, is looked up by the byte before. */
START_TEST(test_first_instructions)
{
    static const uint8_t code[0x100] = {
        [0x00] = 0x53, 0x55,                         /* push %rbx; push %rbp */
        [0x20] = 0x41, 0x57,                         /* push %r15 */
        [0x40] = 0xf3, 0x0f, 0x1e, 0xfa, 0x55,       /* endbr64; push %rbp */
        [0x60] = 0x48, 0x89, 0xdc,                   /* mov %rbx,%rsp */
        [0x80] = 0x48, 0x89, 0xe0, 0x50,             /* mov %rsp,%rax */
        [0xa0] = 0x55,                               /* push %rbp, with CFI that says so */
    };
    static const struct {
        uint32_t at;
        enum unwind_cfa kind;
    } expected[] = {{0, UNWIND_CFA_NONE}, {0x20, UNWIND_CFA_NONE}, {0x40, UNWIND_CFA_NONE}, {0x5e, UNWIND_CFA_NONE}, {0x5f, UNWIND_CFA_ROOT},
                    {0x60, UNWIND_CFA_ROOT}, {0x6f, UNWIND_CFA_ROOT}, {0x80, UNWIND_CFA_REGISTER}, {0xa0, UNWIND_CFA_REGISTER}};
    static const uint8_t pushed[] = {DW_CFA_advance_loc | 1, DW_CFA_def_cfa_offset, 16};
    struct cfi cfi = {0};
    struct unwind_output output;
    put_x86_cie(&cfi);
    for (uint32_t at = 0; at < 0xa0; at += 0x20)
        put_fde(&cfi, at, 0x10, "", 0);
    put_fde(&cfi, 0xa0, 0x10, pushed, sizeof(pushed));
    AUTO_CLOSE int fd = elf_image_open(elf_image_head(EM_X86_64, ELF_IMAGE_EH_FRAME, cfi.n), code, sizeof(code), cfi.bytes, cfi.n);
    ck_assert_int_eq(unwind_build(fd, &output), 0);
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
        ck_assert_uint_eq(UNWIND_CFA_KIND(unwind_image_find(output.image, ELF_IMAGE_TEXT + expected[i].at).cfa), expected[i].kind);
    ck_assert_uint_eq(depth_at(&output, 0xa1), 16);
    unwind_output_deinit(&output);
}
END_TEST

/* A function of 4000 bytes with a rule for each four. */
static void put_many_rules(struct cfi *cfi, uint32_t text_offset)
{
    static uint8_t code[4 * 1000];
    for (unsigned i = 0; i < 1000; i++) {
        const uint8_t one[] = {DW_CFA_def_cfa_offset, 0x80 | ((16 + i) & 0x7f), (uint8_t)((16 + i) >> 7), DW_CFA_advance_loc | 4};
        memcpy(code + 4 * i, one, sizeof(one));
    }
    put_fde(cfi, text_offset, 4 * 1000, code, sizeof(code));
}

/* More rules than a page holds: smaller pages. */
START_TEST(test_many_rules)
{
    struct cfi cfi = {0};
    struct unwind_output output;
    put_x86_cie(&cfi);
    put_many_rules(&cfi, 0);
    ck_assert_int_eq(build(&cfi, EM_X86_64, &output), 0);
    for (unsigned i = 0; i < 1000; i++)
        ck_assert_uint_eq(depth_at(&output, 4 * i + i % 4), 16 + i);
    ck_assert_uint_eq(((const struct unwind_image *)output.image)->page_shift, 9); /* 256 rows are one too many */
    ck_assert_uint_eq(output.unsupported_rows, 0);
    unwind_output_deinit(&output);
}
END_TEST

/* A coroutine's start takes its sp from elsewhere, and is looked up by the byte before it: here before the first page. */
START_TEST(test_root_at_a_page)
{
    static const uint8_t code[] = {0x48, 0x89, 0xdc}; /* mov %rbx,%rsp */
    struct cfi cfi = {0};
    struct unwind_output output;
    put_x86_cie(&cfi);
    put_fde(&cfi, 0, 16, "", 0);
    put_many_rules(&cfi, 0x100);
    AUTO_CLOSE int fd = elf_image_open(elf_image_head(EM_X86_64, ELF_IMAGE_EH_FRAME, cfi.n), code, sizeof(code), cfi.bytes, cfi.n);
    ck_assert_int_eq(unwind_build(fd, &output), 0);
    ck_assert_int_eq(unwind_image_check(output.image, output.image_bytes), 0);
    ck_assert_uint_eq(ELF_IMAGE_TEXT % (1u << ((const struct unwind_image *)output.image)->page_shift), 0);
    for (uint32_t i = 0; i <= 16; i++)
        ck_assert_int_eq(UNWIND_CFA_KIND(unwind_image_find(output.image, ELF_IMAGE_TEXT - 1 + i).cfa), UNWIND_CFA_ROOT);
    unwind_output_deinit(&output);
}
END_TEST

/* ---- errors */

START_TEST(test_no_cfi)
{
    struct cfi cfi = {0};
    struct unwind_output output = {.n_rows = 7};
    put_x86_cie(&cfi);
    ck_assert_int_eq(build(&cfi, EM_X86_64, &output), -ENODATA);
    ck_assert_int_eq(build(&cfi, EM_386, &output), -ENOEXEC);
    ck_assert_uint_eq(output.n_rows, 7);
    AUTO_CLOSE int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(unwind_build(null, &output), -ENOEXEC);
    ck_assert_int_eq(unwind_build(-1, &output), -EBADF);
}
END_TEST

START_TEST(test_kinds_of_files)
{
    struct elf_image_head head = elf_image_head(EM_X86_64, ELF_IMAGE_EH_FRAME, 0);
    struct unwind_output output;
    for (int i = 0; i < 3; i++) {
        struct elf_image_head odd = head;
        if (i == 0)
            odd.ehdr.e_ident[EI_CLASS] = ELFCLASS32;
        else if (i == 1)
            odd.ehdr.e_ident[EI_DATA] = ELFDATA2MSB;
        else
            odd.ehdr.e_type = ET_REL;
        AUTO_CLOSE int fd = elf_image_open(odd, NULL, 0, NULL, 0);
        ck_assert_int_eq(unwind_build(fd, &output), -ENOEXEC);
    }
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("builder");
    tcase_add_loop_test(t, test_instructions, 0, (int)N_CASES);
    tcase_add_test(t, test_set_loc);
    tcase_add_test(t, test_too_many_states);
    tcase_add_test(t, test_aarch64);
    tcase_add_test(t, test_other_return_register);
    tcase_add_test(t, test_signal_frames);
    tcase_add_test(t, test_overlaps);
    tcase_add_test(t, test_padding);
    tcase_add_test(t, test_first_instructions);
    tcase_add_test(t, test_many_rules);
    tcase_add_test(t, test_root_at_a_page);
    tcase_add_test(t, test_no_cfi);
    tcase_add_test(t, test_kinds_of_files);
    Suite *s = suite_create("unwind_builder");
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed > 0;
}
