/* Names in headers of line tables that are none. All else of headers is in test_line_table.c. */
#include "symbolize/line_header.h"

#include <check.h>
#include <dwarf.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"

#define HEADER_BYTES 32
#define LENGTH_BYTES 4

/* No directories, and two files by their names' places in .debug_line_str. */
static void write_header(uint32_t first, uint32_t second, uint8_t ret[HEADER_BYTES])
{
    static const uint8_t start[] = {HEADER_BYTES - LENGTH_BYTES, 0, 0, 0, 5, 0, 8, 0, HEADER_BYTES - 12, 0, 0, 0, 1, 1, 1, 0xfb, 14, 1,
                                    0, 0, 1, DW_LNCT_path, DW_FORM_line_strp, 2};
    _Static_assert(sizeof(start) + sizeof(first) + sizeof(second) == HEADER_BYTES, "all of it");
    memcpy(ret, start, sizeof(start));
    memcpy(ret + sizeof(start), &first, sizeof(first));
    memcpy(ret + sizeof(start) + sizeof(first), &second, sizeof(second));
}

/* The longest path, and one that is none. */
START_TEST(test_long_names)
{
    static uint8_t text[2 * PATH_MAX];
    uint8_t bytes[HEADER_BYTES];
    CLEANUP(line_header_deinit) struct line_header header = {0};
    memset(text, 'a', sizeof(text) - 1);
    write_header(PATH_MAX, PATH_MAX - 1, bytes);
    struct line_sections sections = {.line = {bytes, sizeof(bytes)}, .line_str = {text, sizeof(text)}};
    ck_assert_int_eq(line_header_read(&sections, 0, &header), 0);
    ck_assert_uint_eq(header.n_files, 2);
    ck_assert_ptr_eq(header.files[0].name, text + PATH_MAX);
    ck_assert_ptr_null(header.files[1].name);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("line_header");
    TCase *tcase = tcase_create("line_header");
    tcase_add_test(tcase, test_long_names);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
