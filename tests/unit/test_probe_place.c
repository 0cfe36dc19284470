/* Places for probes in functions that are written here: which one is chosen, and which ones must not be. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "symbolize/elf_segments.h"
#include "symbolize/probe_insn.h"
#include "symbolize/probe_place.h"

/* Never run. f_NAME to e_NAME is the function; p_NAME the place that is right for its arguments. */
__asm__(".text\n.balign 64\n"
        "code_begin: .globl code_begin\n"
        "f_push: .globl f_push\np_push: .globl p_push\n  push %rbx\n  pop %rbx\n  ret\ne_push: .globl e_push\n"
        "f_cet: .globl f_cet\n  endbr64\np_cet: .globl p_cet\n  push %r12\n  pop %r12\n  ret\ne_cet: .globl e_cet\n"
        /* nops of several bytes are passed over */
        "f_nops: .globl f_nops\n  nopl 0(%rax,%rax,1)\n"
        "  xchg %ax, %ax\np_nops: .globl p_nops\n  push %rbx\n  pop %rbx\n  ret\ne_nops: .globl e_nops\n"
        "f_free: .globl f_free\n  test %rdi, %rdi\n"
        "p_free: .globl p_free\n  je 1f\n  push %rbx\n  pop %rbx\n  ret\n1: ret\ne_free: .globl e_free\n"
        /* the frame moves before the place */
        "f_frame: .globl f_frame\n  endbr64\n  sub $0x18, %rsp\n  mov %fs:0x28, %rax\n  mov %rax, 8(%rsp)\n  xor %eax, %eax\n  cmp $5, %rdi\n"
        "p_frame: .globl p_frame\n  ja 1f\n  nop\n1: add $0x18, %rsp\n  ret\ne_frame: .globl e_frame\n"
        /* the first argument is gone before anything is emulated */
        "f_gone: .globl f_gone\np_gone: .globl p_gone\n  endbr64\n  mov %edi, %edi\n  push %rbx\n  pop %rbx\n  ret\ne_gone: .globl e_gone\n"
        /* the same by a part of a register */
        "f_part: .globl f_part\np_part: .globl p_part\n  mov $1, %ch\n  push %rbx\n  pop %rbx\n  ret\ne_part: .globl e_part\n"
        /* it may fault before */
        "f_fault: .globl f_fault\np_fault: .globl p_fault\n  mov (%rdi), %rax\n  push %rbx\n  pop %rbx\n  ret\ne_fault: .globl e_fault\n"
        "f_store: .globl f_store\np_store: .globl p_store\n  mov %rax, (%rdi)\n  push %rbx\n  pop %rbx\n  ret\ne_store: .globl e_store\n"
        /* a loop back to the place, narrow and wide */
        "f_loop: .globl f_loop\np_loop: .globl p_loop\n  xor %eax, %eax\n1: test %rdi, %rdi\n  je 2f\n  dec %rdi\n  jmp 1b\n2: ret\n"
        "e_loop: .globl e_loop\n"
        "f_wide: .globl f_wide\np_wide: .globl p_wide\n  xor %eax, %eax\n1: test %rdi, %rdi\n  je 2f\n  dec %rdi\n"
        "  .byte 0xe9\n  .long 1b - . - 4\n2: ret\ne_wide: .globl e_wide\n"
        /* a loop back to the entry itself passes both */
        "f_again: .globl f_again\n  test %rdi, %rdi\np_again: .globl p_again\n  je 2f\n  dec %rdi\n  jmp f_again\n2: ret\ne_again: .globl e_again\n"
        /* another function jumps behind the test */
        "f_joined: .globl f_joined\np_joined: .globl p_joined\n  test %rdi, %rdi\n9: je 1f\n  nop\n1: ret\ne_joined: .globl e_joined\n"
        "f_joins: .globl f_joins\np_joins: .globl p_joins\n  push %rax\n  pop %rax\n  jmp 9b\ne_joins: .globl e_joins\n"
        /* a call is emulated, but not everywhere right */
        "f_calls: .globl f_calls\np_calls: .globl p_calls\n  sub $8, %rsp\n  call f_push\n  add $8, %rsp\n  ret\ne_calls: .globl e_calls\n"
        /* the kernel takes no probe where a prefix of a segment is */
        "f_prefix: .globl f_prefix\n"
        "p_prefix: .globl p_prefix\n  test %edi, %edi\n  .byte 0x2e\n  je 1f\n  nop\n1: ret\ne_prefix: .globl e_prefix\n"
        ".balign 8\n"
        /* a switch: its table leads back behind the entry, or does not */
        "f_switch: .globl f_switch\np_switch: .globl p_switch\n  xor %eax, %eax\n3: cmp $3, %edi\n  ja 1f\n  lea t_switch(%rip), %rdx\n"
        "  movslq (%rdx,%rdi,4), %rcx\n  add %rdx, %rcx\n  jmp *%rcx\n2: ret\n1: ret\ne_switch: .globl e_switch\n"
        ".balign 8\n"
        "f_case: .globl f_case\n  cmp $3, %edi\np_case: .globl p_case\n  ja 1f\n  lea t_case(%rip), %rdx\n  movslq (%rdx,%rdi,4), %rcx\n"
        "  add %rdx, %rcx\n  jmp *%rcx\n2: ret\n1: ret\ne_case: .globl e_case\n"
        ".balign 8\nt_switch: .long 3b - t_switch\n.long 2b - t_switch\nt_case: .long 2b - t_case\n"
        ".balign 8\n"
        /* the same by a table of addresses: the place's own is a pointer somewhere */
        "f_table: .globl f_table\n  cmp $3, %edi\np_table: .globl p_table\n  ja 1f\n  jmp *(%rsi,%rdi,8)\n1: ret\ne_table: .globl e_table\n"
        /* the last thing that it does is another function, which may end so as well */
        "f_last: .globl f_last\np_last: .globl p_last\n  test %rdi, %rdi\n  je 1f\n  ret\n1: jmp f_push\ne_last: .globl e_last\n"
        "f_chain: .globl f_chain\np_chain: .globl p_chain\n  push %rbx\n  pop %rbx\n  jmp f_last\ne_chain: .globl e_chain\n"
        "f_lost: .globl f_lost\np_lost: .globl p_lost\n  test %rdi, %rdi\n  je 1f\n  ret\n1: jmp f_table\ne_lost: .globl e_lost\n"
        /* no instruction */
        "f_bad: .globl f_bad\n  .byte 0x06\n  ret\ne_bad: .globl e_bad\n"
        ".balign 8\nslot: .globl slot\n.quad 0\n"
        "code_end: .globl code_end\n");

#define LABEL(name) extern const uint8_t name[]
LABEL(code_begin); LABEL(code_end); LABEL(slot);
#define FUNCTION(name) LABEL(f_##name); LABEL(p_##name); LABEL(e_##name)
FUNCTION(push); FUNCTION(cet); FUNCTION(free); FUNCTION(frame); FUNCTION(gone); FUNCTION(part); FUNCTION(fault); FUNCTION(store); FUNCTION(loop);
FUNCTION(wide);
FUNCTION(again); FUNCTION(joined); FUNCTION(joins); FUNCTION(calls); FUNCTION(prefix); FUNCTION(nops); FUNCTION(switch); FUNCTION(case);
FUNCTION(table); FUNCTION(last); FUNCTION(chain); FUNCTION(lost);
LABEL(f_bad); LABEL(e_bad);

#define BASE 0x400000u

static uint8_t code[8192];
static struct elf_segment segment;
static struct elf_segments segments = {.list = &segment, .n = 1};
static struct probe_code image;

static uint64_t address(const uint8_t *label)
{
    return BASE + (uint64_t)(label - code_begin);
}

static void setup(void)
{
    size_t n = (size_t)(code_end - code_begin);
    ck_assert_uint_le(n, sizeof(code));
    memcpy(code, code_begin, n);
    segment = (struct elf_segment){.address = BASE, .file_bytes = n, .executable = true};
    image = (struct probe_code){.bytes = code, .n_bytes = n, .segments = &segments};
}

static struct probe_function function(const uint8_t *start, const uint8_t *end)
{
    return (struct probe_function){.main = {address(start), address(end)}, .before = BASE, .other_entry = UINT64_MAX};
}
#define FIND(name) function(f_##name, e_##name)

static struct probe_point args_of(struct probe_function f, uint32_t args)
{
    struct probe_points points = {0};
    ck_assert_int_eq(probe_place_find(&image, &f, PROBE_ARGS, args, &points), 0);
    ck_assert_uint_eq(points.n, 1);
    ck_assert_uint_eq(points.entry, f.main.start - BASE);
    struct probe_point point = points.list[0];
    ck_assert_uint_eq(point.into, point.file_offset - points.entry);
    probe_points_deinit(&points);
    return point;
}

static void check_place(struct probe_function f, uint32_t args, const uint8_t *place, const char *insn, enum probe_cost cost, bool at_entry,
                        const char *name)
{
    struct probe_point p = args_of(f, args);
    ck_assert_msg(p.file_offset + BASE == address(place) && strcmp(p.insn, insn) == 0 && p.cost == cost && p.at_entry == at_entry,
                  "%s: +%u %s cost %u at entry %u", name, p.into, p.insn, p.cost, p.at_entry);
}
#define CHECK(name, insn, cost, at_entry) check_place(FIND(name), PROBE_ALL_ARGS, p_##name, insn, cost, at_entry, #name)

START_TEST(test_emulated_places)
{
    CHECK(push, "push", PROBE_EMULATED, true);
    CHECK(cet, "push", PROBE_EMULATED, true);
    CHECK(free, "je", PROBE_EMULATED, true);
    CHECK(frame, "ja", PROBE_EMULATED, false);
    CHECK(again, "je", PROBE_EMULATED, true);
    CHECK(joins, "push", PROBE_EMULATED, true);
    CHECK(nops, "push", PROBE_EMULATED, true);
    CHECK(case, "ja", PROBE_EMULATED, true);
    CHECK(table, "ja", PROBE_EMULATED, true);
}
END_TEST

START_TEST(test_what_is_not_the_entry)
{
    CHECK(gone, "endbr64", PROBE_STEPPED, true);
    CHECK(part, "mov", PROBE_STEPPED, true);
    CHECK(fault, "mov", PROBE_STEPPED, true);
    CHECK(loop, "xor", PROBE_STEPPED, true);
    CHECK(wide, "xor", PROBE_STEPPED, true);
    CHECK(joined, "test", PROBE_STEPPED, true);
    CHECK(calls, "sub", PROBE_STEPPED, true);
    CHECK(prefix, "test", PROBE_STEPPED, true);
    CHECK(switch, "xor", PROBE_STEPPED, true);
}
END_TEST

START_TEST(test_only_the_arguments_that_are_wanted)
{
    check_place(FIND(gone), 0x3e, p_gone + 6, "push", PROBE_EMULATED, true, "all but the first");
    check_place(FIND(part), 0x37, p_part + 2, "push", PROBE_EMULATED, true, "all but the fourth");
    check_place(FIND(part), 0x08, p_part, "mov", PROBE_STEPPED, true, "the fourth");
}
END_TEST

START_TEST(test_faults)
{
    check_place(FIND(fault), PROBE_ALL_ARGS | PROBE_FAULTS_END, p_fault + 3, "push", PROBE_EMULATED, true, "a read");
    check_place(FIND(store), PROBE_ALL_ARGS | PROBE_FAULTS_END, p_store, "mov", PROBE_STEPPED, true, "a write");
}
END_TEST

START_TEST(test_a_second_entry)
{
    struct probe_function f = FIND(cet);
    f.other_entry = f.main.start + 4;
    check_place(f, 0, f_cet, "endbr64", PROBE_STEPPED, true, "another entry at the place");
    f.other_entry = f.main.start + 6;
    check_place(f, 0, p_cet, "push", PROBE_EMULATED, true, "another entry behind it");
}
END_TEST

START_TEST(test_a_pointer_to_the_place)
{
    uint64_t to = address(p_table);
    memcpy(code + (slot - code_begin), &to, sizeof(to));
    check_place(FIND(table), 0, f_table, "cmp", PROBE_STEPPED, true, "a table of addresses");
    check_place(FIND(free), 0, p_free, "je", PROBE_EMULATED, true, "no computed jump, no table");
}
END_TEST

/* What was before it is not known, and looks like a jump. */
START_TEST(test_bytes_before_it)
{
    struct probe_function f = FIND(cet);
    f.before = f.main.start;
    check_place(f, 0, p_cet, "push", PROBE_EMULATED, true, "nothing like it");
    /* known from a place that is nearer than such a jump reaches */
    f = FIND(joined);
    f.before = f.main.start - 2;
    check_place(f, 0, f_joined, "test", PROBE_STEPPED, true, "the neighbour behind");
    f = FIND(cet);
    uint8_t *before = code + (f_cet - code_begin) - 2;
    before[0] = 0x75; /* jne to the place */
    before[1] = 4;
    f.before = f.main.start;
    check_place(f, 0, f_cet, "endbr64", PROBE_STEPPED, true, "bytes like a jump");
    f.before = f.main.start - 1; /* bytes that are not known to be instructions lie before that */
    check_place(f, 0, f_cet, "endbr64", PROBE_STEPPED, true, "bytes like a jump before what is known");
}
END_TEST

/* ---- results */

static int results_of(struct probe_function f, struct probe_points *ret)
{
    *ret = (struct probe_points){0};
    return probe_place_find(&image, &f, PROBE_RESULT, 0, ret);
}

static void check_returns(struct probe_function f, size_t n, uint32_t tail_calls, uint32_t ways_in, const char *name)
{
    struct probe_points points;
    int r = results_of(f, &points);
    ck_assert_msg(r == 0 && points.n == n && points.tail_calls == tail_calls && points.ways_in == ways_in,
                  "%s: %d, %zu rets, %u tail calls, %u ways in", name, r, points.n, points.tail_calls, points.ways_in);
    for (size_t i = 0; i < points.n; i++) {
        ck_assert_str_eq(points.list[i].insn, "ret");
        ck_assert_uint_eq(code[points.list[i].file_offset], 0xc3);
        ck_assert(points.list[i].at_entry && points.list[i].cost == PROBE_STEPPED);
    }
    probe_points_deinit(&points);
}
#define CHECK_RETURNS(name, n, tails, ways) check_returns(FIND(name), n, tails, ways, #name)

START_TEST(test_returns)
{
    struct probe_points points;
    CHECK_RETURNS(push, 1, 0, 0); /* a call of its start is none of its middle */
    CHECK_RETURNS(joined, 1, 0, 0); /* a narrow one from the neighbour is not looked for */
    CHECK_RETURNS(free, 2, 0, 0);
    CHECK_RETURNS(loop, 1, 0, 0);
    CHECK_RETURNS(switch, 2, 1, 0); /* the computed jump may leave it */
    CHECK_RETURNS(table, 1, 1, 0);
    ck_assert_int_eq(results_of(FIND(joins), &points), -ENODATA);
    struct probe_function bad = function(f_bad, e_bad);
    ck_assert_int_eq(results_of(bad, &points), -EILSEQ);
    ck_assert_int_eq(probe_place_find(&image, &bad, PROBE_ARGS, 0, &points), -EILSEQ);
}
END_TEST

static bool tail_of(void *userdata, uint64_t at, struct probe_range *ret)
{
    const struct probe_range known[] = {{address(f_push), address(e_push)}, {address(f_last), address(e_last)}, {address(f_table), address(e_table)}};

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
        if (known[i].start == at)
            return *ret = known[i], true;
    return false;
}

static void check_ends(struct probe_function f, size_t n, uint32_t tail_calls)
{
    struct probe_points points = {0};

    ck_assert_int_eq(probe_place_find(&image, &f, PROBE_ENDS, 0, &points), 0);
    ck_assert_uint_eq(points.n, n);
    ck_assert_uint_eq(points.tail_calls, tail_calls);
    probe_points_deinit(&points);
}

START_TEST(test_ends_elsewhere)
{
    CHECK_RETURNS(last, 1, 1, 0);
    check_ends(FIND(last), 1, 1); /* nobody knows where that is */
    image.tail = tail_of;
    CHECK_RETURNS(last, 1, 1, 0);
    check_ends(FIND(last), 2, 0);
    check_ends(FIND(chain), 2, 0);
    check_ends(FIND(lost), 2, 1); /* which goes on by a computed jump */
}
END_TEST

START_TEST(test_an_own_part_elsewhere)
{
    struct probe_function f = FIND(free);
    f.parts[0] = (struct probe_range){address(f_loop), address(e_loop)};
    f.n_parts = 1;
    check_returns(f, 3, 0, 0, "a part");
}
END_TEST

START_TEST(test_named_instructions)
{
    struct probe_function f = FIND(free);
    struct probe_points points = {0};
    ck_assert_int_eq(probe_place_at(&image, &f, 3, &points), 0);
    ck_assert_str_eq(points.list[0].insn, "je");
    probe_points_deinit(&points);
    ck_assert_int_eq(probe_place_at(&image, &f, 1, &points), -EILSEQ);
    ck_assert_int_eq(probe_place_at(&image, &f, 0x1000, &points), -EILSEQ);
    f.main.end = f.main.start;
    ck_assert_int_eq(probe_place_at(&image, &f, 0, &points), -ERANGE);
    f = function(code_end, code_end + 16);
    ck_assert_int_eq(probe_place_find(&image, &f, PROBE_ARGS, 0, &points), -ERANGE);
}
END_TEST

/* ---- the kernel's rules */

START_TEST(test_what_the_kernel_emulates)
{
    static const struct {
        const char *bytes;
        size_t n;
        bool emulated, refused;
    } cases[] = {
        {"\x55", 1, true, false}, {"\x41\x54", 2, true, false}, {"\x48\x55", 2, false, false}, {"\x66\x55", 2, false, false},
        {"\x90", 1, true, false}, {"\x66\x90", 2, false, false}, {"\xf3\x90", 2, false, false}, {"\x41\x90", 2, false, false},
        {"\xeb\x05", 2, true, false}, {"\xe9\0\0\0\0", 5, true, false}, {"\x74\x05", 2, true, false}, {"\x0f\x84\0\0\0\0", 6, true, false},
        {"\x2e\x74\x05", 3, false, true}, {"\x3e\xff\xe0", 3, false, true}, {"\xf0\xff\x07", 3, false, true},
        {"\xe8\0\0\0\0", 5, false, false}, {"\xc3", 1, false, false}, {"\x0f\x1f\x44\0\0", 5, false, false}, {"\x6a\x05", 2, false, false},
        {"\xff\x30", 2, false, false}, {"\xf3\x0f\x1e\xfa", 4, false, false}, {"\x66", 1, false, false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const uint8_t *bytes = (const uint8_t *)cases[i].bytes;
        ck_assert_msg(probe_insn_is_emulated(bytes, cases[i].n) == cases[i].emulated, "case %zu", i);
        ck_assert_msg(probe_insn_is_refused(bytes, cases[i].n) == cases[i].refused, "case %zu", i);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("probe_place");
    TCase *t = tcase_create("places");
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_add_test(t, test_emulated_places);
    tcase_add_test(t, test_what_is_not_the_entry);
    tcase_add_test(t, test_only_the_arguments_that_are_wanted);
    tcase_add_test(t, test_faults);
    tcase_add_test(t, test_a_second_entry);
    tcase_add_test(t, test_a_pointer_to_the_place);
    tcase_add_test(t, test_bytes_before_it);
    tcase_add_test(t, test_returns);
    tcase_add_test(t, test_ends_elsewhere);
    tcase_add_test(t, test_an_own_part_elsewhere);
    tcase_add_test(t, test_named_instructions);
    tcase_add_test(t, test_what_the_kernel_emulates);
    suite_add_tcase(s, t);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
