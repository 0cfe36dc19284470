/* Go's table of functions: in the programs of go_table.S, whose every value is known, and in what is left of them when bytes are changed. */
#include <check.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "symbolize/symbolizer.h"
#include "util/cleanup.h"

/* As they come on the command line. */
enum program { LAYOUT_116, LAYOUT_118, LAYOUT_120, RELOCATED, MERGED, STRIPPED, N_PROGRAMS };
static const char *paths[N_PROGRAMS];

#define CODE_OFFSET 16 /* of outer, behind _start */
#define CODE_BYTES 128

static int open_debug_file(void *userdata, const struct debug_file_request *request, int *ret_fd)
{
    return -ENOENT;
}

static const struct symbolizer_ops ops = {.open_debug_file = open_debug_file};

struct image {
    uint8_t *bytes;
    size_t n;
};

static struct image read_image(enum program which)
{
    AUTO_CLOSE int fd = open(paths[which], O_RDONLY | O_CLOEXEC);
    struct stat st;
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fstat(fd, &st), 0);
    struct image image = {malloc((size_t)st.st_size), (size_t)st.st_size};
    ck_assert_ptr_nonnull(image.bytes);
    ck_assert_int_eq(read(fd, image.bytes, image.n), (ssize_t)image.n);
    return image;
}

static const Elf64_Shdr *find_section(const struct image *image, const char *name)
{
    const Elf64_Ehdr *header = (const void *)image->bytes;
    const Elf64_Shdr *sections = (const void *)(image->bytes + header->e_shoff);
    const char *names = (const char *)image->bytes + sections[header->e_shstrndx].sh_offset;
    for (unsigned i = 0; i < header->e_shnum; i++)
        if (strcmp(names + sections[i].sh_name, name) == 0)
            return &sections[i];
    ck_abort_msg("no section %s", name);
}

static struct module *open_image(struct symbolizer *s, const struct image *image, uint64_t ino)
{
    struct module *m = NULL;
    struct file_identity id = {.ino = ino};
    int fd = memfd_create("image", MFD_CLOEXEC);
    ck_assert_int_eq(write(fd, image->bytes, image->n), (ssize_t)image->n);
    ck_assert_int_eq(symbolizer_module(s, &id, fd, NULL, &m), 0);
    return m;
}

/* Frames at an offset in the code, against "name file line start; ...", the innermost first. */
static void check_at(struct module *m, const struct image *image, uint64_t at, enum symbolize_mode mode, const char *wanted)
{
    struct symbol_frame frames[SYMBOL_MAX_INLINED];
    char found[1024] = "";
    size_t len = 0;
    size_t n = module_resolve(m, find_section(image, ".text")->sh_offset + CODE_OFFSET + at, mode, frames);
    for (size_t i = 0; i < n; i++) {
        ck_assert_str_eq(frames[i].name, frames[i].system_name);
        len += (size_t)snprintf(found + len, sizeof(found) - len, "%s%s %s %lld %lld", i ? "; " : "", frames[i].name,
                                frames[i].filename ? frames[i].filename : "-", (long long)frames[i].line, (long long)frames[i].start_line);
    }
    ck_assert_msg(strcmp(found, wanted) == 0, "at %#llx: %s, not %s", (unsigned long long)at, found, wanted);
}

struct expected {
    uint64_t first, last;
    const char *frames;
};

static void check_program(enum program which, const struct expected *expected, size_t n, enum symbolize_mode mode)
{
    struct symbolizer *s = symbolizer_new(&ops, SIZE_MAX);
    struct image image = read_image(which);
    struct module *m = open_image(s, &image, 1);
    for (int again = 0; again < 2; again++)
        for (size_t i = 0; i < n; i++) {
            check_at(m, &image, expected[i].first, mode, expected[i].frames);
            check_at(m, &image, expected[i].last, mode, expected[i].frames);
        }
    symbolizer_free(s);
    free(image.bytes);
}
#define CHECK_PROGRAM(which, expected, mode) check_program(which, expected, sizeof(expected) / sizeof(expected[0]), mode)

static const struct expected of_120[] = {
    {0, 15, "main.outer /go/src/main.go 10 9"},
    {16, 19, "main.middle /go/src/other.go 100 90; main.outer /go/src/main.go 10 9"},
    {20, 27, "main.(*T).inner /go/src/other.go 110 105; main.middle /go/src/other.go 100 90; main.outer /go/src/main.go 10 9"},
    {28, 31, "main.middle /go/src/other.go 101 90; main.outer /go/src/main.go 10 9"},
    {32, 47, "main.outer /go/src/main.go 13 9"},
    {64, 95, "main.instance[go.shape.int] /go/src/main.go 30 29"},
    {96, 127, "c_code - 0 0"}, /* C that Go's linker took */
};

/* Their records don't tell where functions start. */
static const struct expected of_118[] = {
    {0, 15, "main.outer /go/src/main.go 10 0"},
    {16, 19, "main.middle /go/src/other.go 100 0; main.outer /go/src/main.go 10 0"},
    {20, 27, "main.(*T).inner /go/src/other.go 110 0; main.middle /go/src/other.go 100 0; main.outer /go/src/main.go 10 0"},
    {28, 31, "main.middle /go/src/other.go 101 0; main.outer /go/src/main.go 10 0"},
    {32, 47, "main.outer /go/src/main.go 13 0"},
    {64, 95, "main.instance[go.shape.int] /go/src/main.go 30 0"},
    {96, 127, "c_code - 0 0"},
};

START_TEST(test_layouts)
{
    CHECK_PROGRAM(LAYOUT_120, of_120, SYMBOLIZE_FULL);
    CHECK_PROGRAM(STRIPPED, of_120, SYMBOLIZE_FULL);
    CHECK_PROGRAM(LAYOUT_118, of_118, SYMBOLIZE_FULL);
}
END_TEST

/* What was inlined can't be told there: no place is named that would be another function's. */
START_TEST(test_oldest)
{
    static const struct expected expected[] = {
        {0, 15, "main.outer /go/src/main.go 10 0"}, {16, 31, "main.outer - 0 0"}, {32, 47, "main.outer /go/src/main.go 13 0"}};
    CHECK_PROGRAM(LAYOUT_116, expected, SYMBOLIZE_FULL);
}
END_TEST

/* Where the record is zeros but for relocations, and where the table has no section of its own. */
START_TEST(test_relocated)
{
    CHECK_PROGRAM(RELOCATED, of_120, SYMBOLIZE_FULL);
    CHECK_PROGRAM(MERGED, of_120, SYMBOLIZE_FULL);
}
END_TEST

START_TEST(test_names_alone)
{
    static const struct expected expected[] = {
        {0, 47, "main.outer - 0 9"}, {64, 95, "main.instance[go.shape.int] - 0 29"}, {96, 127, "c_code - 0 0"}};
    CHECK_PROGRAM(STRIPPED, expected, SYMBOLIZE_FAST);
}
END_TEST

/* Padding is nobody's. */
START_TEST(test_padding)
{
    static const struct expected expected[] = {{48, 63, ""}};
    CHECK_PROGRAM(STRIPPED, expected, SYMBOLIZE_FULL);
}
END_TEST

/* A table that can't be believed leaves the program to its symbols. */
START_TEST(test_next_source)
{
    static const struct {
        const char *section;
        size_t at;
    } changes[] = {
        {".gopclntab", 0},       /* magic */
        {".gopclntab", 6},       /* quantum */
        {".gopclntab", 7},       /* word */
        {".gopclntab", 15},      /* functions: more than there can be */
        {".gopclntab", 39},      /* names: beyond the end */
        {".gopclntab", 71},      /* functions' entries: beyond the end */
        {".noptrdata", 32 + 20 * 8}, /* the least address isn't the first function's */
        {".noptrdata", 32 + 21 * 8},
        {".noptrdata", 32 + 22 * 8},
    };
    struct symbolizer *s = symbolizer_new(&ops, SIZE_MAX);
    struct image image = read_image(LAYOUT_120);
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        uint8_t *byte = image.bytes + find_section(&image, changes[i].section)->sh_offset + changes[i].at;
        *byte ^= 0x40;
        check_at(open_image(s, &image, i + 1), &image, 20, SYMBOLIZE_FULL, "outer - 0 0");
        *byte ^= 0x40;
    }
    check_at(open_image(s, &image, 100), &image, 32, SYMBOLIZE_FULL, "main.outer /go/src/main.go 13 9");
    symbolizer_free(s);
    free(image.bytes);
}
END_TEST

static void resolve_all(struct module *m, const struct image *image)
{
    struct symbol_frame frames[SYMBOL_MAX_INLINED];
    for (uint64_t at = 0; at < CODE_OFFSET + CODE_BYTES; at++) {
        size_t n = module_resolve(m, find_section(image, ".text")->sh_offset + at, SYMBOLIZE_FULL, frames);
        ck_assert_uint_le(n, SYMBOL_MAX_INLINED);
        for (size_t i = 0; i < n; i++) {
            ck_assert(frames[i].name && frames[i].name[0] && frames[i].system_name);
            ck_assert(frames[i].line >= 0 && frames[i].start_line >= 0);
        }
    }
}

static void change_each_byte(const char *name)
{
    static const uint8_t values[] = {0, 1, 0x7f, 0x80, 0xff};
    struct image image = read_image(STRIPPED);
    const Elf64_Shdr *section = find_section(&image, name);
    for (size_t at = 0; at < section->sh_size; at++) {
        struct symbolizer *s = symbolizer_new(&ops, SIZE_MAX);
        uint8_t *byte = image.bytes + section->sh_offset + at, old = *byte;
        for (size_t i = 0; i < sizeof(values); i++) {
            *byte = values[i];
            resolve_all(open_image(s, &image, i + 1), &image);
        }
        *byte = old;
        symbolizer_free(s);
    }
    free(image.bytes);
}

START_TEST(test_changed_table)
{
    change_each_byte(".gopclntab");
}
END_TEST

START_TEST(test_changed_tree)
{
    change_each_byte(".rodata");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("go_symbols");
    TCase *c = tcase_create("go_symbols");
    tcase_add_test(c, test_layouts);
    tcase_add_test(c, test_oldest);
    tcase_add_test(c, test_relocated);
    tcase_add_test(c, test_names_alone);
    tcase_add_test(c, test_padding);
    tcase_add_test(c, test_next_source);
    tcase_add_test(c, test_changed_table);
    tcase_add_test(c, test_changed_tree);
    tcase_set_timeout(c, 60);
    suite_add_tcase(s, c);
    return s;
}

int main(int argc, char **argv)
{
    if (argc != 1 + N_PROGRAMS)
        return 2;
    memcpy(paths, argv + 1, sizeof(paths));
    SRunner *runner = srunner_create(suite());
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
