/* Line tables: headers of all versions, what each opcode does, lookups beside a plain list of rows, rubbish. */
#include "symbolize/line_table.h"

#include <check.h>
#include <dwarf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "symbolize/elf_segments.h"
#include "tests/unit/line_writer.h"
#include "util/cleanup.h"

static int read_with(const struct written *w, const struct elf_segments *segments, struct line_table *ret)
{
    struct line_sections sections = {.line = {w->bytes, w->n}};
    return line_table_read(&sections, 0, segments, ret);
}

static void check_row(const struct line_table *t, uint64_t address, uint64_t file, uint32_t line)
{
    uint64_t found_file;
    uint32_t found_line;
    ck_assert_msg(line_table_find(t, address, &found_file, &found_line), "%#lx", (unsigned long)address);
    ck_assert_uint_eq(found_file, file);
    ck_assert_uint_eq(found_line, line);
}

static void check_none(const struct line_table *t, uint64_t address)
{
    uint64_t file = 77;
    uint32_t line = 78;
    ck_assert(!line_table_find(t, address, &file, &line) && file == 77 && line == 78);
}

static void opcodes(struct written *w)
{
    set_address(w, 0x1000);
    put(w, DW_LNS_copy, 1); /* line 1 */
    special(w, 3, 4);       /* 0x1003, line 5 */
    put(w, DW_LNS_advance_pc, 1);
    put_uleb(w, 300);
    put(w, DW_LNS_advance_line, 1);
    put_sleb(w, 1000);
    put(w, DW_LNS_set_file, 1);
    put_uleb(w, 2);
    put(w, DW_LNS_negate_stmt, 1);
    put(w, DW_LNS_set_column, 1);
    put_uleb(w, 1 << 20);
    put(w, DW_LNS_copy, 1); /* 0x112f, line 1005, file 2 */
    put(w, DW_LNS_const_add_pc, 1);
    put(w, DW_LNS_set_isa, 1);
    put_uleb(w, 1);
    special(w, 0, -5); /* 0x1140, line 1000 */
    put(w, DW_LNS_fixed_advance_pc, 1);
    put(w, 0x100, 2);
    put(w, DW_LNS_advance_line, 1);
    put_sleb(w, -999);
    put(w, 0, 1); /* an extended opcode that nobody knows */
    put_uleb(w, 4);
    put(w, 0x80, 4);
    put(w, DW_LNS_copy, 1); /* 0x1240, line 1 */
    put(w, DW_LNS_advance_pc, 1);
    put_uleb(w, 16);
    end_sequence(w); /* 0x1250 */
}

START_TEST(test_versions)
{
    static struct written w;
    for (unsigned version = 2; version <= 5; version++) {
        for (int wide = 0; wide < 2; wide++) {
            CLEANUP(line_table_deinit) struct line_table t = {0};
            begin(&w, version, wide, OPCODE_BASE, 1);
            lists(&w);
            opcodes(&w);
            end(&w);
            ck_assert_int_eq(read_with(&w, NULL, &t), 0);
            ck_assert_uint_eq(t.header.n_directories, 3);
            ck_assert_uint_eq(t.header.n_files, 3);
            ck_assert(version == 5 ? strcmp(t.header.directories[0], "/build") == 0 : !t.header.directories[0]);
            ck_assert_str_eq(t.header.directories[2], "src");
            ck_assert_str_eq(t.header.files[1].name, "main.c");
            ck_assert_str_eq(t.header.files[2].name, "stdio.h");
            ck_assert_uint_eq(t.header.files[2].directory, 1);
            check_none(&t, 0xfff);
            check_row(&t, 0x1000, 1, 1);
            check_row(&t, 0x1002, 1, 1);
            check_row(&t, 0x1003, 1, 5);
            check_row(&t, 0x112e, 1, 5);
            check_row(&t, 0x112f, 2, 1005);
            check_row(&t, 0x1140, 2, 1000);
            check_row(&t, 0x124f, 2, 1);
            check_none(&t, 0x1250);
            ck_assert_uint_gt(line_table_bytes(&t), 0);
        }
    }
}
END_TEST

/* Entries of version 5 with what else they may consist of. */
START_TEST(test_forms)
{
    static struct written w;
    CLEANUP(line_table_deinit) struct line_table t = {0};
    static const uint64_t formats[][2] = {
        {DW_LNCT_MD5, DW_FORM_data16}, {DW_LNCT_size, DW_FORM_block}, {DW_LNCT_timestamp, DW_FORM_data8},
        {0x2001, DW_FORM_block1}, {0x2002, DW_FORM_block2}, {0x2003, DW_FORM_block4}, {0x2004, DW_FORM_strx3},
        {0x2005, DW_FORM_strp_sup}, {DW_LNCT_directory_index, DW_FORM_data2}, {DW_LNCT_path, DW_FORM_line_strp},
    };
    begin(&w, 5, false, OPCODE_BASE, 1);
    put(&w, 1, 1);
    put_uleb(&w, DW_LNCT_path);
    put_uleb(&w, DW_FORM_strp);
    put_uleb(&w, 2);
    put(&w, 2, 4);
    put(&w, 99, 4); /* beyond the section */
    put(&w, sizeof(formats) / sizeof(*formats), 1);
    for (size_t i = 0; i < sizeof(formats) / sizeof(*formats); i++) {
        put_uleb(&w, formats[i][0]);
        put_uleb(&w, formats[i][1]);
    }
    put_uleb(&w, 2);
    for (unsigned i = 0; i < 2; i++) {
        put(&w, 1, 8);
        put(&w, 2, 8);
        put(&w, 0x0801, 2);
        put(&w, 3, 8);
        put(&w, 0x0801, 2);
        put(&w, 0x080001, 3);
        put(&w, 0x0800000001, 5);
        put(&w, 0xabcdef, 3);
        put(&w, 7, 4);
        put(&w, i, 2);
        put(&w, 4 * i, 4); /* the second is cut short by the section's end */
    }
    end_header(&w);
    end(&w);
    struct line_sections sections = {{w.bytes, w.n}, {(const uint8_t *)"abc\0def", 7}, {(const uint8_t *)"x\0/y", 5}};
    ck_assert_int_eq(line_table_read(&sections, 0, NULL, &t), 0);
    ck_assert_uint_eq(t.header.n_directories, 2);
    ck_assert_str_eq(t.header.directories[0], "/y");
    ck_assert_ptr_null(t.header.directories[1]);
    ck_assert_uint_eq(t.header.n_files, 2);
    ck_assert_str_eq(t.header.files[0].name, "abc");
    ck_assert_ptr_null(t.header.files[1].name);
    ck_assert_uint_eq(t.header.files[1].directory, 1);
    check_none(&t, 0);
}
END_TEST

static void version_5_list(struct written *w, unsigned n_formats, uint64_t form, uint64_t count)
{
    begin(w, 5, false, OPCODE_BASE, 1);
    put(w, n_formats, 1);
    if (n_formats) {
        put_uleb(w, DW_LNCT_path);
        put_uleb(w, form);
    }
    put_uleb(w, count);
    put(w, 0, 8);
    end_header(w);
    end(w);
}

START_TEST(test_malformed_headers)
{
    static struct written w;
    struct line_table t = {0};
    version_5_list(&w, 0, 0, 1ull << 40); /* entries of nothing */
    ck_assert_int_eq(read_with(&w, NULL, &t), -ENOEXEC);
    version_5_list(&w, 1, DW_FORM_addr, 1); /* a form of unknown size */
    ck_assert_int_eq(read_with(&w, NULL, &t), -ENOEXEC);
    version_5_list(&w, 1, DW_FORM_string, UINT64_MAX);
    ck_assert_int_eq(read_with(&w, NULL, &t), -ENOEXEC);
    version_5_list(&w, 1, DW_FORM_string, 0); /* then a list of files without formats, of 0 entries */
    ck_assert_int_eq(read_with(&w, NULL, &t), 0);
    line_table_deinit(&t);
    for (unsigned version = 0; version < 8; version++) {
        begin(&w, version, false, OPCODE_BASE, 1);
        lists(&w);
        end(&w);
        ck_assert_int_eq(read_with(&w, NULL, &t), version >= 2 && version <= 5 ? 0 : -ENOEXEC);
        line_table_deinit(&t);
    }
    begin(&w, 4, false, OPCODE_BASE, 0), lists(&w), end(&w); /* no operation */
    ck_assert_int_eq(read_with(&w, NULL, &t), -ENOEXEC);
    begin(&w, 3, false, OPCODE_BASE, 1), lists(&w), end(&w);
    w.bytes[13] = 0; /* the range of lines */
    ck_assert_int_eq(read_with(&w, NULL, &t), -ENOEXEC);
    w.bytes[13] = LINE_RANGE;
    w.bytes[14] = 0; /* the first special opcode */
    ck_assert_int_eq(read_with(&w, NULL, &t), -ENOEXEC);
    w.bytes[14] = OPCODE_BASE;
    ck_assert_int_eq(read_with(&w, NULL, &t), 0);
    line_table_deinit(&t);
    w.bytes[6] = 0xff; /* the header's length */
    w.bytes[7] = 0xff;
    ck_assert_int_eq(read_with(&w, NULL, &t), -ENOEXEC);
    struct line_sections sections = {.line = {w.bytes, w.n}};
    ck_assert_int_eq(line_table_read(&sections, w.n, NULL, &t), -ENOEXEC);
    ck_assert_int_eq(line_table_read(&sections, UINT64_MAX, NULL, &t), -ENOEXEC);
    ck_assert_int_eq(line_table_read(&(struct line_sections){0}, 0, NULL, &t), -ENOEXEC);
}
END_TEST

/* Wherever it ends: no more than it has, and no row that isn't in it. */
START_TEST(test_cut)
{
    static struct written w;
    begin(&w, 4, false, OPCODE_BASE, 1);
    lists(&w);
    opcodes(&w);
    size_t whole = w.n;
    for (size_t n = whole; n-- > 0;) {
        uint8_t *exact = malloc(n);
        CLEANUP(line_table_deinit) struct line_table t = {0};
        w.n = n;
        if (n >= 4)
            end(&w);
        memcpy(exact, w.bytes, n);
        struct line_sections sections = {.line = {exact, n}};
        int r = line_table_read(&sections, 0, NULL, &t);
        ck_assert_int_eq(r, n >= w.program ? 0 : -ENOEXEC);
        uint64_t file;
        uint32_t line;
        for (uint64_t address = 0xff0; r == 0 && address < 0x1300; address++)
            (void)line_table_find(&t, address, &file, &line);
        free(exact);
    }
}
END_TEST

START_TEST(test_defined_files)
{
    static struct written w;
    CLEANUP(line_table_deinit) struct line_table t = {0};
    begin(&w, 4, false, OPCODE_BASE, 1);
    lists(&w);
    put(&w, 0, 1);
    put_uleb(&w, 1 + 6 + 3);
    put(&w, DW_LNE_define_file, 1);
    put_string(&w, "new.c");
    put(&w, 0x000002, 3);
    put(&w, 0, 1);
    put_uleb(&w, 3);
    put(&w, DW_LNE_define_file, 1);
    put(&w, 0x4141, 2); /* without its end */
    end(&w);
    ck_assert_int_eq(read_with(&w, NULL, &t), 0);
    ck_assert_uint_eq(t.header.n_files, 5);
    ck_assert_str_eq(t.header.files[3].name, "new.c");
    ck_assert_uint_eq(t.header.files[3].directory, 2);
    ck_assert_ptr_null(t.header.files[4].name);
}
END_TEST

/* Few standard opcodes, and more than there are. */
START_TEST(test_opcode_bases)
{
    static struct written w;
    CLEANUP(line_table_deinit) struct line_table few = {0}, many = {0};
    begin(&w, 3, false, 4, 1), lists(&w), set_address(&w, 0x10);
    put(&w, 4 + 2 * LINE_RANGE + 7, 1); /* 0x12, line 3 */
    put(&w, DW_LNS_advance_pc, 1);
    put_uleb(&w, 1);
    end_sequence(&w);
    end(&w);
    ck_assert_int_eq(read_with(&w, NULL, &few), 0);
    check_none(&few, 0x11);
    check_row(&few, 0x12, 1, 3);
    check_none(&few, 0x13);
    begin(&w, 3, false, 14, 1), lists(&w), set_address(&w, 0x10);
    put(&w, 13, 1); /* with three operands */
    for (int i = 0; i < 3; i++)
        put_uleb(&w, 1000);
    put(&w, DW_LNS_copy, 1);
    put(&w, DW_LNS_advance_pc, 1);
    put_uleb(&w, 1);
    end_sequence(&w);
    end(&w);
    ck_assert_int_eq(read_with(&w, NULL, &many), 0);
    check_row(&many, 0x10, 1, 1);
    check_none(&many, 0x11);
}
END_TEST

/* Instructions of three operations. */
START_TEST(test_operations)
{
    static struct written w;
    CLEANUP(line_table_deinit) struct line_table t = {0};
    begin(&w, 4, false, OPCODE_BASE, 3);
    lists(&w);
    set_address(&w, 0x100);
    for (int i = 0; i < 100; i++)
        special(&w, 2, 1); /* 2/3 of an instruction each */
    end_sequence(&w);
    end(&w);
    ck_assert_int_eq(read_with(&w, NULL, &t), 0);
    for (unsigned i = 1; i < 66; i++)
        check_row(&t, 0x100 + i, 1, 1 + (3 * i + 2) / 2);
}
END_TEST

START_TEST(test_dropped)
{
    static struct written w;
    CLEANUP(line_table_deinit) struct line_table t = {0};
    struct elf_segment code = {.address = 0x1000, .file_bytes = 0x100, .executable = true};
    const struct elf_segments segments = {&code, 1};
    begin(&w, 4, false, OPCODE_BASE, 1);
    lists(&w);
    static const uint64_t starts[] = {0, 0x1080, UINT64_MAX, 0x1000, 0x1028};
    for (size_t i = 0; i < 5; i++) {
        set_address(&w, starts[i]);
        special(&w, 0, 1 + (int)i);
        special(&w, 8, 1);
        put(&w, DW_LNS_advance_pc, 1);
        put_uleb(&w, 0x20);
        end_sequence(&w);
    }
    end_sequence(&w); /* of nothing */
    end(&w);
    ck_assert_int_eq(read_with(&w, &segments, &t), 0);
    ck_assert_uint_eq(t.n_marks, 5); /* the last one begins where another ends */
    check_none(&t, 0);
    check_none(&t, UINT64_MAX);
    check_row(&t, 0x1007, 1, 5);
    check_row(&t, 0x1008, 1, 6);
    check_row(&t, 0x1027, 1, 6);
    check_row(&t, 0x1028, 1, 6);
    check_row(&t, 0x104f, 1, 7);
    check_none(&t, 0x1050);
    check_row(&t, 0x1080, 1, 3);
    check_none(&t, 0x10a8);
}
END_TEST

struct row {
    uint64_t address;
    uint32_t line;
    bool end;
    size_t order;
};

static int row_compare(const void *a, const void *b)
{
    const struct row *x = a, *y = b;
    if (x->address != y->address)
        return x->address < y->address ? -1 : 1;
    if (x->end != y->end)
        return x->end ? -1 : 1;
    return x->order < y->order ? -1 : 1;
}

static void check_rows(const struct line_table *t, const struct row *rows, size_t n, uint64_t last)
{
    for (uint64_t address = 0; address < last; address++) {
        const struct row *found = NULL;
        for (size_t i = 0; i < n && rows[i].address <= address; i++)
            found = &rows[i];
        if (!found || found->end)
            check_none(t, address);
        else
            check_row(t, address, 1, found->line);
    }
}

/* Sequences of many rows in any order, beside each other and with gaps, beside a list of all rows. */
START_TEST(test_many_rows)
{
    static struct written w;
    static struct row rows[2000];
    for (unsigned seed = 1; seed <= 30; seed++) {
        CLEANUP(line_table_deinit) struct line_table t = {0};
        size_t n = 0;
        srand(seed);
        begin(&w, 2 + seed % 4, false, OPCODE_BASE, 1);
        lists(&w);
        for (uint64_t s = 0; s < 8; s++) {
            uint64_t address = (s * 5 % 8) * 0x400 + (seed & 1) * 0x10;
            uint32_t line = 100;
            set_address(&w, address);
            put(&w, DW_LNS_advance_line, 1);
            put_sleb(&w, 99);
            for (int i = rand() % 200; i >= 0 && address < (s * 5 % 8) * 0x400 + 0x3f0; i--) {
                unsigned step = (unsigned)rand() % 3 * ((unsigned)rand() % 6);
                int by = rand() % 10 - 4;
                special(&w, step, by);
                address += step;
                line += (uint32_t)by;
                rows[n] = (struct row){address, line, false, n};
                n++;
            }
            put(&w, DW_LNS_advance_pc, 1);
            put_uleb(&w, 2);
            end_sequence(&w);
            rows[n] = (struct row){address + 2, line, true, n};
            n++;
        }
        end(&w);
        qsort(rows, n, sizeof(*rows), row_compare);
        ck_assert_int_eq(read_with(&w, NULL, &t), 0);
        ck_assert_uint_lt(t.n_marks, n);
        check_rows(&t, rows, n, 0x2100);
    }
}
END_TEST

/* Back within one sequence: each stretch is ascending. */
START_TEST(test_backwards)
{
    static struct written w;
    CLEANUP(line_table_deinit) struct line_table t = {0};
    begin(&w, 4, false, OPCODE_BASE, 1);
    lists(&w);
    set_address(&w, 0x200);
    special(&w, 0, 1); /* line 2 */
    special(&w, 8, 1); /* 0x208, line 3 */
    set_address(&w, 0x100);
    special(&w, 0, 1); /* 0x100, line 4 */
    special(&w, 8, 1); /* 0x108, line 5 */
    put(&w, DW_LNS_advance_pc, 1);
    put_uleb(&w, 8);
    end_sequence(&w);
    end(&w);
    ck_assert_int_eq(read_with(&w, NULL, &t), 0);
    check_row(&t, 0x107, 1, 4);
    check_row(&t, 0x10f, 1, 5);
    check_none(&t, 0x110);
    check_row(&t, 0x207, 1, 2);
    check_row(&t, 0x208, 1, 3);
}
END_TEST

/* A row that takes very many bytes to reach: it is not looked for at each address. */
START_TEST(test_far_rows)
{
    static struct written w;
    CLEANUP(line_table_deinit) struct line_table t = {0};
    begin(&w, 4, false, OPCODE_BASE, 1);
    lists(&w);
    set_address(&w, 0x100);
    special(&w, 0, 1); /* line 2 */
    special(&w, 8, 1); /* 0x108, line 3 */
    for (int i = 0; i < 40000; i++)
        put(&w, DW_LNS_negate_stmt, 1);
    special(&w, 8, 1); /* 0x110, line 4 */
    end_sequence(&w);
    end(&w);
    ck_assert_int_eq(read_with(&w, NULL, &t), 0);
    check_row(&t, 0x107, 1, 2);
    check_none(&t, 0x108);
    check_none(&t, 0x110);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("line_table");
    TCase *tcase = tcase_create("line_table");
    tcase_add_test(tcase, test_versions);
    tcase_add_test(tcase, test_forms);
    tcase_add_test(tcase, test_malformed_headers);
    tcase_add_test(tcase, test_cut);
    tcase_add_test(tcase, test_defined_files);
    tcase_add_test(tcase, test_opcode_bases);
    tcase_add_test(tcase, test_operations);
    tcase_add_test(tcase, test_dropped);
    tcase_add_test(tcase, test_many_rows);
    tcase_add_test(tcase, test_backwards);
    tcase_add_test(tcase, test_far_rows);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
