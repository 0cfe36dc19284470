/* DIEs one after another: each form is stepped over by its size, children are entered or gone over, and rubbish ends the walk. */
#include "symbolize/die_scan.h"

#include <check.h>
#include <dwarf.h>
#include <errno.h>

#include "symbolize/elf_file.h"
#include "tests/unit/section_file.h"
#include "util/cleanup.h"

#define ROOM 4096

/* Two sections as they are written, and what is opened of them. */
static struct {
    uint8_t info[ROOM], abbrev[ROOM];
    size_t info_n, abbrev_n;
    unsigned version;
    struct elf_file file;
    Dwarf *dwarf;
    Dwarf_Die unit;
} given;

static void put(uint64_t value, size_t n)
{
    ck_assert_uint_le(given.info_n + n, ROOM);
    memcpy(given.info + given.info_n, &value, n);
    given.info_n += n;
}

static void abbrev_put(unsigned value)
{
    for (; value >= 0x80; value >>= 7)
        given.abbrev[given.abbrev_n++] = (uint8_t)(value | 0x80);
    given.abbrev[given.abbrev_n++] = (uint8_t)value;
}

/* attributes: pairs of name and form, then 0. */
static void abbreviation(unsigned code, unsigned tag, bool children, const unsigned *attributes)
{
    abbrev_put(code);
    abbrev_put(tag);
    abbrev_put(children);
    for (; *attributes; attributes += 2) {
        abbrev_put(attributes[0]);
        abbrev_put(attributes[1]);
        if (attributes[1] == DW_FORM_implicit_const)
            abbrev_put(0x40); /* -64, one byte */
    }
    abbrev_put(0);
    abbrev_put(0);
}
#define ATTRIBUTES(...) ((const unsigned[]){__VA_ARGS__ __VA_OPT__(,) 0})

static void begin(unsigned version)
{
    given.info_n = given.abbrev_n = 0;
    given.version = version;
    put(0, 4);
    put(version, 2);
    if (version >= 5) {
        put(DW_UT_compile, 1);
        put(8, 1);
        put(0, 4);
    } else {
        put(0, 4);
        put(8, 1);
    }
    abbreviation(1, DW_TAG_compile_unit, true, ATTRIBUTES());
    put(1, 1);
}

static void end(const char *info_name, const char *abbrev_name)
{
    uint32_t length = (uint32_t)given.info_n - 4;
    memcpy(given.info, &length, 4);
    given.abbrev[given.abbrev_n++] = 0;
    const struct section_given sections[] = {{info_name, 0, given.info, given.info_n}, {abbrev_name, 0, given.abbrev, given.abbrev_n}};
    AUTO_CLOSE int fd = section_file(sections, 2, section_file_ident);
    ck_assert_int_eq(elf_file_open(fd, &given.file), 0);
    given.dwarf = dwarf_begin_elf(given.file.elf, DWARF_C_READ, NULL);
    ck_assert_ptr_nonnull(given.dwarf);
    Dwarf_CU *cu = NULL;
    ck_assert_int_eq(dwarf_get_units(given.dwarf, NULL, &cu, NULL, NULL, &given.unit, NULL), 0);
}

static void close_all(void)
{
    (void)dwarf_end(given.dwarf);
    elf_file_close(&given.file);
    given.dwarf = NULL;
}

static int table(struct die_table *ret)
{
    uint64_t budget = 1 << 20;
    return die_table_new(&given.unit, (uint32_t)given.info_n, &budget, ret);
}

/* The tags from the cursor on, as text: "(" where there are children, ")" at the end of a list. */
static const char *tags(struct die_cursor *c)
{
    static char text[ROOM];
    struct die_seen seen;
    size_t n = 0;
    while (die_cursor_next(c, &seen) && n < sizeof(text) - 16)
        n += (size_t)sprintf(text + n, seen.abbreviation ? "%x%s " : ") ", seen.abbreviation ? seen.abbreviation->tag : 0u,
                             seen.abbreviation && seen.abbreviation->children ? "(" : "");
    text[n] = '\0';
    return text;
}

struct form_case {
    unsigned form;
    const char *bytes; /* of one value; SIZE: in `size` */
    size_t size;
    bool varies;
};

START_TEST(test_forms)
{
    static const struct form_case cases[] = {
        {DW_FORM_addr, "", 8}, {DW_FORM_data1, "", 1}, {DW_FORM_data2, "", 2}, {DW_FORM_data4, "", 4}, {DW_FORM_data8, "", 8},
        {DW_FORM_data16, "", 16}, {DW_FORM_flag, "", 1}, {DW_FORM_flag_present, "", 0}, {DW_FORM_implicit_const, "", 0},
        {DW_FORM_ref1, "", 1}, {DW_FORM_ref2, "", 2}, {DW_FORM_ref4, "", 4}, {DW_FORM_ref8, "", 8}, {DW_FORM_ref_sig8, "", 8},
        {DW_FORM_ref_addr, "", 4}, {DW_FORM_strp, "", 4}, {DW_FORM_line_strp, "", 4}, {DW_FORM_sec_offset, "", 4},
        {DW_FORM_GNU_strp_alt, "", 4}, {DW_FORM_GNU_ref_alt, "", 4}, {DW_FORM_strx1, "", 1}, {DW_FORM_strx2, "", 2},
        {DW_FORM_strx3, "", 3}, {DW_FORM_strx4, "", 4}, {DW_FORM_addrx3, "", 3}, {DW_FORM_ref_sup4, "", 4}, {DW_FORM_ref_sup8, "", 8},
        {DW_FORM_udata, "\x80\x80\x01", 3, true}, {DW_FORM_sdata, "\xff\x7f", 2, true}, {DW_FORM_strx, "\x81\x01", 2, true},
        {DW_FORM_addrx, "\x01", 1, true}, {DW_FORM_rnglistx, "\x01", 1, true}, {DW_FORM_loclistx, "\x80\x01", 2, true},
        {DW_FORM_ref_udata, "\x7f", 1, true}, {DW_FORM_string, "abc", 4, true}, {DW_FORM_string, "", 1, true},
        {DW_FORM_block, "\x02xy", 3, true}, {DW_FORM_exprloc, "\x01x", 2, true}, {DW_FORM_block1, "\x03xyz", 4, true},
        {DW_FORM_block2, "\x01\0x", 3, true}, {DW_FORM_block4, "\x02\0\0\0xy", 6, true},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        for (unsigned version = 4; version <= 5; version++) {
            CLEANUP(die_table_deinit) struct die_table t = {0};
            uint8_t value[16] = {0};
            begin(version);
            abbreviation(2, DW_TAG_variable, false, ATTRIBUTES(DW_AT_name, cases[i].form, DW_AT_type, cases[i].form));
            abbreviation(300, DW_TAG_member, false, ATTRIBUTES(DW_AT_type, DW_FORM_data1));
            memcpy(value, cases[i].bytes, cases[i].varies ? cases[i].size : 0);
            put(2, 1);
            for (int twice = 0; twice < 2; twice++)
                for (size_t b = 0; b < cases[i].size; b++)
                    put(value[b], 1);
            put(0x02ac, 2); /* 300 */
            put(0xff, 1);
            put(0, 1);
            end(".debug_info", ".debug_abbrev");
            ck_assert_msg(table(&t) == 0, "form %#x", cases[i].form);
            struct die_cursor c = {&t, given.unit.addr};
            ck_assert_str_eq(tags(&c), "11( 34 d ) ");
            ck_assert_uint_eq(t.list[2].bytes == DIE_BYTES_VARY, cases[i].varies);
            ck_assert(c.at == t.end);
            ck_assert_uint_gt(die_table_bytes(&t), 0);
            close_all();
        }
    }
}
END_TEST

/* unit( namespace( subprogram subprogram( variable block( variable ) ) ) variable ) */
static size_t write_tree(bool siblings, bool varies)
{
    unsigned first = varies ? DW_FORM_udata : DW_FORM_data1;
    begin(4);
    abbreviation(2, DW_TAG_namespace, true, ATTRIBUTES());
    abbreviation(3, DW_TAG_subprogram, false, ATTRIBUTES(DW_AT_low_pc, DW_FORM_data1));
    if (siblings)
        abbreviation(4, DW_TAG_subprogram, true, ATTRIBUTES(DW_AT_decl_line, first, DW_AT_sibling, DW_FORM_ref4, DW_AT_ranges, DW_FORM_data1));
    else
        abbreviation(4, DW_TAG_subprogram, true, ATTRIBUTES(DW_AT_decl_line, first, DW_AT_ranges, DW_FORM_data1));
    abbreviation(5, DW_TAG_variable, false, ATTRIBUTES());
    abbreviation(6, DW_TAG_lexical_block, true, ATTRIBUTES());
    put(2, 1);
    put(0x0103, 2);
    put(0x0104, 2);
    size_t sibling = given.info_n;
    put(0, siblings ? 4 : 0);
    put(0, 1);
    put(0x0000050605, 5); /* the variable, the block and its own, two ends */
    uint32_t behind = (uint32_t)given.info_n;
    if (siblings)
        memcpy(given.info + sibling, &behind, 4);
    put(0x000500, 3);
    return sibling;
}

START_TEST(test_tree)
{
    for (unsigned how = 0; how < 4; how++) {
        CLEANUP(die_table_deinit) struct die_table t = {0};
        struct die_seen seen;
        uint64_t budget = 100;
        write_tree(how & 1, how & 2);
        end(".debug_info", ".debug_abbrev");
        ck_assert_int_eq(table(&t), 0);
        struct die_cursor c = {&t, given.unit.addr};
        ck_assert_str_eq(tags(&c), "11( 39( 2e 2e( 34 b( 34 ) ) ) 34 ) ");
        ck_assert(!t.list[2].code && t.list[3].code && t.list[4].code && !t.list[5].code);
        c.at = given.unit.addr;
        for (int i = 0; i < 4; i++)
            ck_assert(die_cursor_next(&c, &seen));
        Dwarf_Die die = die_seen_die(&t, &seen);
        ck_assert_int_eq(dwarf_tag(&die), DW_TAG_subprogram);
        ck_assert_int_eq(dwarf_haschildren(&die), 1);
        ck_assert(die_cursor_skip(&c, &seen, &budget));
        ck_assert_uint_eq(100 - budget, how & 1 ? 0 : 5); /* each DIE and end that it went over */
        ck_assert_str_eq(tags(&c), ") 34 ) ");
        close_all();
    }
}
END_TEST

START_TEST(test_skip_ends)
{
    CLEANUP(die_table_deinit) struct die_table t = {0};
    struct die_seen seen;
    uint64_t budget = 4;
    write_tree(false, false);
    given.info_n -= 3; /* lists that do not end */
    end(".debug_info", ".debug_abbrev");
    ck_assert_int_eq(table(&t), 0);
    struct die_cursor c = {&t, given.unit.addr};
    for (int i = 0; i < 4; i++)
        ck_assert(die_cursor_next(&c, &seen));
    struct die_cursor again = c;
    ck_assert(!die_cursor_skip(&again, &seen, &budget));
    ck_assert_uint_eq(budget, 0);
    budget = 100;
    again = (struct die_cursor){&t, given.unit.addr};
    ck_assert(die_cursor_next(&again, &seen));
    ck_assert(!die_cursor_skip(&again, &seen, &budget));
    close_all();
}
END_TEST

/* A sibling that leads back, to itself, or out of the unit is not followed. */
START_TEST(test_bad_siblings)
{
    static const uint32_t bad[] = {0, 11, 16, 0x7fffffff, UINT32_MAX};
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        CLEANUP(die_table_deinit) struct die_table t = {0};
        struct die_seen seen;
        uint64_t budget = 100;
        size_t at = write_tree(true, false);
        memcpy(given.info + at, &bad[i], 4);
        end(".debug_info", ".debug_abbrev");
        ck_assert_int_eq(table(&t), 0);
        struct die_cursor c = {&t, given.unit.addr};
        for (int d = 0; d < 4; d++)
            ck_assert(die_cursor_next(&c, &seen));
        ck_assert_ptr_null(seen.sibling);
        ck_assert(die_cursor_skip(&c, &seen, &budget));
        ck_assert_str_eq(tags(&c), ") 34 ) ");
        close_all();
    }
}
END_TEST

START_TEST(test_cut)
{
    for (size_t n = 0; n < 18; n++) {
        CLEANUP(die_table_deinit) struct die_table t = {0};
        write_tree(true, true);
        given.info_n -= n;
        end(".debug_info", ".debug_abbrev");
        ck_assert_int_eq(table(&t), 0);
        struct die_cursor c = {&t, given.unit.addr};
        (void)tags(&c);
        ck_assert(c.at <= t.end);
        close_all();
    }
}
END_TEST

START_TEST(test_malformed)
{
    static const unsigned unknown[] = {0x7f, DW_FORM_indirect};
    struct die_table t = {0};
    for (size_t i = 0; i < 2; i++) {
        begin(4);
        abbreviation(2, DW_TAG_variable, false, ATTRIBUTES(DW_AT_name, unknown[i]));
        put(0x0002, 2);
        end(".debug_info", ".debug_abbrev");
        ck_assert_int_eq(table(&t), 0);
        struct die_cursor c = {&t, given.unit.addr};
        ck_assert_str_eq(tags(&c), "11( ");
        die_table_deinit(&t);
        close_all();
    }
    begin(4);
    put(0x7f, 1); /* a code that has no abbreviation */
    end(".debug_info", ".debug_abbrev");
    ck_assert_int_eq(table(&t), 0);
    struct die_cursor c = {&t, given.unit.addr};
    ck_assert_str_eq(tags(&c), "11( ");
    uint64_t budget = 0;
    die_table_deinit(&t);
    ck_assert_int_eq(die_table_new(&given.unit, (uint32_t)given.info_n, &budget, &t), -ENOEXEC);
    budget = 10;
    ck_assert_int_eq(die_table_new(&given.unit, 5, &budget, &t), -ENOEXEC); /* a unit that ends before its DIE */
    close_all();
    begin(4);
    abbreviation(1u << 20, DW_TAG_variable, false, ATTRIBUTES()); /* a code that nobody has */
    end(".debug_info", ".debug_abbrev");
    ck_assert_int_eq(table(&t), -ENOEXEC);
    close_all();
    begin(4);
    abbreviation(2, DW_TAG_variable, false, ATTRIBUTES(DW_AT_name, 0x8006));
    end(".debug_info", ".debug_abbrev");
    ck_assert_int_eq(table(&t), -ENOEXEC);
    close_all();
}
END_TEST

START_TEST(test_first_code_counts)
{
    CLEANUP(die_table_deinit) struct die_table t = {0};
    begin(4);
    abbreviation(1, DW_TAG_variable, false, ATTRIBUTES(DW_AT_name, DW_FORM_data4));
    put(0, 1);
    end(".debug_info", ".debug_abbrev");
    ck_assert_int_eq(table(&t), 0);
    ck_assert_uint_eq(t.list[1].tag, DW_TAG_compile_unit);
    close_all();
}
END_TEST

/* The abbreviations of split files. */
START_TEST(test_split)
{
    CLEANUP(die_table_deinit) struct die_table t = {0};
    write_tree(true, false);
    end(".debug_info.dwo", ".debug_abbrev.dwo");
    ck_assert_int_eq(table(&t), 0);
    struct die_cursor c = {&t, given.unit.addr};
    ck_assert_str_eq(tags(&c), "11( 39( 2e 2e( 34 b( 34 ) ) ) 34 ) ");
    close_all();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("die_scan");
    TCase *tcase = tcase_create("die_scan");
    tcase_add_test(tcase, test_forms);
    tcase_add_test(tcase, test_tree);
    tcase_add_test(tcase, test_skip_ends);
    tcase_add_test(tcase, test_bad_siblings);
    tcase_add_test(tcase, test_cut);
    tcase_add_test(tcase, test_malformed);
    tcase_add_test(tcase, test_first_code_counts);
    tcase_add_test(tcase, test_split);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
