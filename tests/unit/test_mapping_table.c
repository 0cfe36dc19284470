/* Mappings by epoch, and every bound of the table: targets of files, so that any layout can be had. */
#include <sys/resource.h>
#include <sys/sysmacros.h>

#include "daemon/mapping_table.h"
#include "daemon/patience.h"
#include "tests/unit/mapper.h"

static struct patience *patience;

static void setup(void)
{
    scratch_make();
    patience = patience_new(PATIENCE_ONCE_NS, PATIENCE_ALL_NS);
    ck_assert_ptr_nonnull(patience);
}

static void teardown(void)
{
    patience_free(patience);
    scratch_remove();
}

/* A directory that stands for /proc/PID: "maps", "exe", "root". */
static struct target fake_target(void)
{
    struct target t = TARGET_INIT;
    ck_assert_int_eq(symlink("/", scratch_path("root")), 0);
    ck_assert_int_eq(symlink("/proc/self/exe", scratch_path("exe")), 0);
    t.dir_fd = open(scratch, O_PATH | O_DIRECTORY | O_CLOEXEC);
    return t;
}

static FILE *maps_begin(void)
{
    FILE *f = fopen(scratch_path("maps"), "we"); /* the same file, emptied: an open one shows what is written now */
    ck_assert_ptr_nonnull(f);
    return f;
}

static void maps_line(FILE *f, unsigned long start, unsigned long pages, const char *name)
{
    fprintf(f, "%lx-%lx r-xp 00000000 00:00 0 %s\n", start << 12, (start + pages) << 12, name);
}

/* Each letter is a page of that name; a blank is none. */
static void maps_of(const char *letters)
{
    FILE *f = maps_begin();
    fprintf(f, "1000-2000 rw-p 00000000 00:00 0 [data]\n"); /* not executable */
    for (unsigned long i = 0; letters[i]; i++)
        if (letters[i] != ' ')
            maps_line(f, 0x100 + i, 1, (char[]){'[', letters[i], ']', 0});
    fclose(f);
}

static struct raw_profile written_to(int table_fd)
{
    struct raw_profile p;
    struct raw_writer *w = raw_writer_new();
    struct raw_params params = {.format = RAW_FORMAT_SYMBOL, .period = 1};
    AUTO_CLOSE int fd = table_fd;

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(raw_writer_section(w, RAW_PARAMS, &params, sizeof(params)), 0);
    ck_assert_int_eq(raw_writer_append(w, fd), 0);
    AUTO_CLOSE int whole = raw_writer_finish(w);
    raw_writer_free(w);
    ck_assert_int_eq(raw_profile_open(whole, &p), 0);
    return p;
}

static struct raw_profile written(const struct mapping_table *table)
{
    return written_to(mapping_table_write(table));
}

/* "a0-1 b2-" : names with their epochs, in the table's order. */
static void check_written(int fd, const char *expected)
{
    struct raw_profile p = written_to(fd);
    char text[512] = "";
    for (size_t i = 0; i < p.n_mappings; i++) {
        const struct raw_mapping *m = &p.mappings[i];
        size_t len = strlen(text);
        if (m->last_epoch == UINT32_MAX)
            snprintf(text + len, sizeof(text) - len, "%c%u- ", raw_profile_string(&p, m->name)[1], m->first_epoch);
        else
            snprintf(text + len, sizeof(text) - len, "%c%u-%u ", raw_profile_string(&p, m->name)[1], m->first_epoch, m->last_epoch);
    }
    ck_assert_str_eq(text, expected);
    raw_profile_close(&p);
}

static void check_table(const struct mapping_table *table, const char *expected)
{
    check_written(mapping_table_write(table), expected);
}

struct fixture {
    struct target target;
    struct mapping_table *table;
};

static struct fixture begin(const char *letters)
{
    struct fixture f = {.target = fake_target(), .table = mapping_table_new(patience)};
    maps_of(letters);
    ck_assert_int_eq(mapping_table_open_image(f.table, &f.target), 0);
    ck_assert_int_eq(mapping_table_set_image(f.table, &f.target, 0, 0), 0);
    return f;
}

static void end(struct fixture *f)
{
    mapping_table_free(f->table);
    target_deinit(&f->target);
}

static void snapshot(struct fixture *f, const char *letters, uint32_t epoch)
{
    maps_of(letters);
    ck_assert_int_eq(mapping_table_snapshot(f->table, &f->target, epoch), 0);
}

START_TEST(test_merge)
{
    struct fixture f = begin("abc");
    check_table(f.table, "a0- b0- c0- ");
    snapshot(&f, "abc", 1);
    check_table(f.table, "a0- b0- c0- ");
    snapshot(&f, "a c", 2);
    check_table(f.table, "a0- b0-1 c0- ");
    snapshot(&f, "axc", 3);
    check_table(f.table, "a0- b0-1 x3- c0- ");
    snapshot(&f, "  cde", 7);
    check_table(f.table, "a0-6 b0-1 x3-6 c0- d7- e7- ");
    snapshot(&f, "abcde", 8);
    check_table(f.table, "a0-6 a8- b0-1 x3-6 b8- c0- d7- e7- ");
    end(&f);
    mapping_table_free(NULL);
}
END_TEST

/* What a snapshot of the first epoch sees differently was never there for any sample. */
START_TEST(test_merge_in_the_same_epoch)
{
    struct fixture f = begin("ab");
    snapshot(&f, "xb", 0);
    check_table(f.table, "x0- b0- ");
    snapshot(&f, "", 4);
    check_table(f.table, "x0-3 b0-3 ");
    end(&f);
}
END_TEST

START_TEST(test_image_that_is_gone)
{
    struct fixture f = begin("ab");
    fclose(maps_begin());
    ck_assert_int_eq(mapping_table_snapshot(f.table, &f.target, 1), -ESRCH);
    check_table(f.table, "a0- b0- ");
    ck_assert_int_eq(mapping_table_final(f.table, &f.target, 1), -ESRCH);
    check_table(f.table, "a0- b0- ");
    mapping_table_end_image(f.table, 5);
    check_table(f.table, "a0-4 b0-4 ");
    ck_assert_int_eq(mapping_table_snapshot(f.table, &f.target, 6), -ESRCH); /* none is current */
    ck_assert_int_eq(mapping_table_set_image(f.table, &f.target, 6, 6), -ESRCH); /* none was opened */
    unlink(scratch_path("maps"));
    ck_assert_int_eq(mapping_table_open_image(f.table, &f.target), -ESRCH);
    end(&f);
}
END_TEST

START_TEST(test_images)
{
    struct fixture f = begin("ab");
    unlink(scratch_path("maps"));
    maps_of("xb");
    ck_assert_int_eq(mapping_table_open_image(f.table, &f.target), 0);
    check_table(f.table, "a0- b0- "); /* opened, it is not read yet */
    ck_assert_int_eq(mapping_table_set_image(f.table, &f.target, 3, 5), 0);
    check_table(f.table, "a0-2 x5- b0-2 b5- ");
    end(&f);
}
END_TEST

/* Word of an exec comes when its image is the next one's already. */
START_TEST(test_image_opened_late)
{
    struct fixture f = begin("a");
    unlink(scratch_path("maps"));
    maps_of("x");
    for (uint32_t exec = 3; exec <= 6; exec += 3) {
        ck_assert_int_eq(mapping_table_open_image(f.table, &f.target), 0);
        ck_assert_int_eq(mapping_table_set_image(f.table, &f.target, exec, exec), 0);
    }
    check_table(f.table, "a0-2 x6- ");
    end(&f);
}
END_TEST

START_TEST(test_final)
{
    struct fixture f = begin("abcd");
    snapshot(&f, "abcd", 2);
    maps_of("a xd ef");
    ck_assert_int_eq(mapping_table_final(f.table, &f.target, 2), 0);
    check_table(f.table, "a0- b0- c0-2 x3- d0- e2- f2- ");
    end(&f);
}
END_TEST

/* As it would be at the end, while it goes on as it was. */
START_TEST(test_now)
{
    struct fixture f = begin("abcd");
    snapshot(&f, "abcd", 2);
    maps_of("a xd ef");
    for (unsigned i = 0; i < 2; i++)
        check_written(mapping_table_write_now(f.table, &f.target, 2), "a0- b0- c0-2 x3- d0- e2- f2- ");
    check_table(f.table, "a0- b0- c0- d0- ");
    snapshot(&f, "a xd ef", 3);
    check_table(f.table, "a0- b0-2 c0-2 x3- d0- e3- f3- ");
    fclose(maps_begin()); /* the image is gone */
    check_written(mapping_table_write_now(f.table, &f.target, 4), "a0- b0-2 c0-2 x3- d0- e3- f3- ");
    end(&f);
}
END_TEST

/* One large new mapping over many old ones, and many over one. */
START_TEST(test_final_of_other_sizes)
{
    struct fixture f = begin("abc");
    FILE *maps = maps_begin();
    maps_line(maps, 0x101, 5, "[L]");
    fclose(maps);
    ck_assert_int_eq(mapping_table_final(f.table, &f.target, 0), 0);
    check_table(f.table, "a0- b0-0 L1- c0-0 ");
    end(&f);
    scratch_remove();
    scratch_make();

    f = (struct fixture){.target = fake_target(), .table = mapping_table_new(patience)};
    maps = maps_begin();
    maps_line(maps, 0x100, 3, "[L]");
    fclose(maps);
    ck_assert_int_eq(mapping_table_open_image(f.table, &f.target), 0);
    ck_assert_int_eq(mapping_table_set_image(f.table, &f.target, 0, 0), 0);
    maps_of("abcd");
    ck_assert_int_eq(mapping_table_final(f.table, &f.target, 0), 0);
    check_table(f.table, "L0-0 a1- b1- c1- d0- ");
    end(&f);
}
END_TEST

/* By the last part of its path, a library without its version too, if that is one file's alone. */
START_TEST(test_find_named)
{
    static const struct {
        const char *name;
        int error;
        unsigned object; /* in the order of their mappings */
    } cases[] = {{"one", 0, 0}, {"libx.so.6", 0, 1}, {"libx.so", 0, 1}, {"libx", 0, 1}, {"two", -ENOTUNIQ, 0}, {"liby", -ENOTUNIQ, 0},
                 {"liby.so.1", 0, 4},
                 {"lib", -ENOENT, 0}, {"on", -ENOENT, 0}, {"[data]", -ENOENT, 0}};
    static const char *const paths[] = {"/nowhere/one", "/nowhere/libx.so.6", "/nowhere/a/two", "/nowhere/b/two", "/nowhere/liby.so.1",
                                        "/nowhere/liby.so.2"};
    struct fixture f = begin("");
    FILE *maps = maps_begin();
    for (unsigned i = 0; i < sizeof(paths) / sizeof(paths[0]); i++)
        fprintf(maps, "%x-%x r-xp 00000000 08:01 %u %s\n", (0x100 + i) << 12, (0x101 + i) << 12, i + 1, paths[i]);
    fprintf(maps, "200000-201000 r-xp 00001000 08:01 1 %s\n", paths[0]); /* once more */
    fclose(maps);
    ck_assert_int_eq(mapping_table_snapshot(f.table, &f.target, 1), 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint32_t object = UINT32_MAX;
        ck_assert_msg(mapping_table_find_named(f.table, cases[i].name, &object) == cases[i].error, "%s", cases[i].name);
        ck_assert_uint_eq(object, cases[i].error ? UINT32_MAX : mapping_table_find(f.table, paths[cases[i].object]));
    }
    end(&f);
}
END_TEST

/* ---- bounds */

static void many_lines(size_t n, const char *name)
{
    FILE *f = maps_begin();
    for (size_t i = 0; i < n; i++)
        maps_line(f, 0x1000 + i, 1, name);
    fclose(f);
}

static uint64_t cut_mappings(const struct mapping_table *table)
{
    uint64_t mappings, files;
    mapping_table_cut(table, &mappings, &files);
    return mappings;
}

START_TEST(test_too_many_mappings)
{
    struct fixture f = begin("a");
    ck_assert_uint_eq(cut_mappings(f.table), 0);
    many_lines(TABLE_MAX_MAPPINGS + 10, "[x]");
    ck_assert_int_eq(mapping_table_snapshot(f.table, &f.target, 1), 0);
    ck_assert_uint_eq(cut_mappings(f.table), 10);
    ck_assert_int_eq(mapping_table_snapshot(f.table, &f.target, 2), 0);
    ck_assert_uint_eq(cut_mappings(f.table), 10); /* the same ones */
    struct raw_profile p = written(f.table);
    ck_assert_uint_eq(p.n_mappings, TABLE_MAX_MAPPINGS + 1);
    raw_profile_close(&p);
    end(&f);
}
END_TEST

/* ---- what is told while the window is open */

static struct raw_profile live(const struct mapping_table *table)
{
    struct raw_profile p;
    AUTO_CLOSE int fd = mapping_table_write_live(table);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(raw_table_open(fd, &p), 0);
    return p;
}

static void check_live(const struct mapping_table *table, const char *expected)
{
    struct raw_profile p = live(table);
    char text[64] = "";
    for (size_t i = 0; i < p.n_mappings; i++)
        text[i] = raw_profile_string(&p, p.mappings[i].name)[1];
    ck_assert_str_eq(text, expected);
    raw_profile_close(&p);
}

START_TEST(test_live)
{
    struct fixture f = begin("abba");
    uint64_t version = mapping_table_version(f.table);
    check_live(f.table, "abba");
    snapshot(&f, "abba", 1);
    ck_assert_uint_eq(mapping_table_version(f.table), version);
    snapshot(&f, "ab a", 2);
    ck_assert_uint_ne(mapping_table_version(f.table), version);
    check_live(f.table, "aba");
    version = mapping_table_version(f.table);
    snapshot(&f, "abca", 3);
    ck_assert_uint_ne(mapping_table_version(f.table), version);
    check_live(f.table, "abca");
    version = mapping_table_version(f.table);
    mapping_table_end_image(f.table, 4);
    ck_assert_uint_ne(mapping_table_version(f.table), version);
    check_live(f.table, "");
    end(&f);
}
END_TEST

START_TEST(test_live_files)
{
    struct fixture f = begin("a");
    FILE *maps = maps_begin();
    for (unsigned long i = 0; i < 3; i++) {
        char name[16];
        struct stat st;
        snprintf(name, sizeof(name), "lib%lu.so", i % 2);
        close(scratch_file(name, 'x'));
        ck_assert_int_eq(stat(scratch_path(name), &st), 0);
        fprintf(maps, "%lx-%lx r-xp 00000000 %02x:%02x %lu %s\n", (0x100 + i) << 12, (0x101 + i) << 12, major(st.st_dev),
                minor(st.st_dev), (unsigned long)st.st_ino, scratch_path(name));
    }
    fclose(maps);
    ck_assert_int_eq(mapping_table_snapshot(f.table, &f.target, 1), 0);
    struct raw_profile p = live(f.table);
    ck_assert_uint_eq(p.n_mappings, 3);
    ck_assert_uint_eq(p.mappings[0].object, p.mappings[2].object);
    ck_assert_str_eq(object_path(&p, &p.mappings[0]), scratch_path("lib0.so"));
    ck_assert_str_eq(object_path(&p, &p.mappings[1]), scratch_path("lib1.so"));
    raw_profile_close(&p);
    snapshot(&f, "b", 2); /* files that are gone keep their numbers, and need no names */
    p = live(f.table);
    ck_assert_uint_eq(p.n_objects, 2);
    ck_assert_uint_eq(p.objects[0].path, 0);
    raw_profile_close(&p);
    end(&f);
}
END_TEST

START_TEST(test_too_many_live_mappings)
{
    struct fixture f = begin("a");
    many_lines(TABLE_MAX_LIVE_MAPPINGS + 10, "[x]");
    ck_assert_int_eq(mapping_table_snapshot(f.table, &f.target, 1), 0);
    ck_assert_uint_eq(mapping_table_live_cut(f.table), 10);
    struct raw_profile p = live(f.table);
    ck_assert_uint_eq(p.n_mappings, TABLE_MAX_LIVE_MAPPINGS);
    ck_assert_uint_lt(p.strings_len, 100); /* one name stands once */
    raw_profile_close(&p);
    /* Memory is left out before files and the vdso, and files before the program. */
    FILE *maps = maps_begin();
    struct stat st;
    close(scratch_file("lib.so", 'x'));
    ck_assert_int_eq(stat(scratch_path("lib.so"), &st), 0);
    for (size_t i = 0; i < TABLE_MAX_LIVE_MAPPINGS + 7; i++)
        fprintf(maps, "%zx-%zx r-xp 00000000 %02x:%02x %lu %s\n", (0x1000 + 2 * i) << 12, (0x1001 + 2 * i) << 12, major(st.st_dev),
                minor(st.st_dev), (unsigned long)st.st_ino, scratch_path("lib.so"));
    maps_line(maps, 0x1000000, 1, "");
    maps_line(maps, 0x1000002, 1, "[vdso]");
    fclose(maps);
    ck_assert_int_eq(mapping_table_snapshot(f.table, &f.target, 2), 0);
    p = live(f.table);
    ck_assert_uint_eq(p.n_mappings, TABLE_MAX_LIVE_MAPPINGS);
    ck_assert_uint_eq(p.mappings[0].start, (uint64_t)(0x1000 + 2 * 8) << 12);
    ck_assert_ptr_nonnull(find_mapping(&p, "[vdso]", 0));
    ck_assert_ptr_null(find_mapping(&p, "//anon", 0));
    raw_profile_close(&p);
    snapshot(&f, "ab", 3);
    ck_assert_uint_eq(mapping_table_live_cut(f.table), 0);
    end(&f);
}
END_TEST

START_TEST(test_too_much_live_text)
{
    struct fixture f = begin("a");
    char name[4000];
    FILE *maps = maps_begin();
    for (unsigned long i = 0; i < 600; i++) {
        snprintf(name, sizeof(name), "[%03lu%0*d]", i, (int)sizeof(name) - 10, 0);
        maps_line(maps, 0x100 + i, 1, name);
    }
    fclose(maps);
    ck_assert_int_eq(mapping_table_snapshot(f.table, &f.target, 1), 0);
    struct raw_profile p = live(f.table);
    ck_assert_uint_eq(p.n_mappings, 600);
    ck_assert_uint_le(p.strings_len, TABLE_MAX_LIVE_STRING_BYTES);
    ck_assert_str_ne(raw_profile_string(&p, p.mappings[0].name), "");
    ck_assert_str_eq(raw_profile_string(&p, p.mappings[599].name), "");
    raw_profile_close(&p);
    end(&f);
}
END_TEST

START_TEST(test_too_many_past_mappings)
{
    struct fixture f = begin("");
    for (uint32_t epoch = 1; epoch <= 4; epoch++) {
        many_lines(TABLE_MAX_MAPPINGS, epoch % 2 ? "[x]" : "[y]");
        ck_assert_int_eq(mapping_table_snapshot(f.table, &f.target, epoch), 0);
    }
    ck_assert_uint_eq(cut_mappings(f.table), 3 * TABLE_MAX_MAPPINGS - TABLE_MAX_PAST_MAPPINGS);
    struct raw_profile p = written(f.table);
    ck_assert_uint_eq(p.n_mappings, TABLE_MAX_PAST_MAPPINGS + TABLE_MAX_MAPPINGS);
    raw_profile_close(&p);
    end(&f);
}
END_TEST

START_TEST(test_too_many_names)
{
    struct fixture f = begin("");
    FILE *maps = maps_begin();
    for (size_t i = 0; i < TABLE_MAX_NAMES + 5; i++) {
        char name[32];
        snprintf(name, sizeof(name), "[anon:%zu]", i);
        maps_line(maps, 0x1000 + i, 1, name);
    }
    fclose(maps);
    ck_assert_int_eq(mapping_table_snapshot(f.table, &f.target, 1), 0);
    ck_assert_uint_eq(cut_mappings(f.table), 5);
    end(&f);
}
END_TEST

/* Names of 60,000 bytes: the table's text is bounded, whatever their number. */
START_TEST(test_too_much_text)
{
    struct fixture f = begin("");
    FILE *maps = maps_begin();
    size_t n = TABLE_MAX_STRING_BYTES / 60000 + 10;
    for (size_t i = 0; i < n; i++)
        fprintf(maps, "%zx-%zx r-xp 00000000 00:00 0 [%060000zu]\n", (0x1000 + i) << 12, (0x1001 + i) << 12, i);
    fclose(maps);
    ck_assert_int_eq(mapping_table_snapshot(f.table, &f.target, 1), 0);
    ck_assert_uint_ge(cut_mappings(f.table), 10);
    ck_assert_uint_lt(cut_mappings(f.table), 13);
    end(&f);
}
END_TEST

/* Files beyond the limit of descriptors are named, and counted. */
START_TEST(test_too_many_files)
{
    struct fixture f = {.target = fake_target()};
    uint64_t mappings, files;
    size_t n = 100, available = 0;

    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &(struct rlimit){.rlim_cur = 40, .rlim_max = 100}), 0);
    f.table = mapping_table_new(patience);
    FILE *maps = maps_begin();
    for (size_t i = 0; i < n; i++) {
        char name[32];
        struct stat st;
        snprintf(name, sizeof(name), "lib%zu.so", i);
        int fd = scratch_file(name, 'x');
        ck_assert_int_eq(fstat(fd, &st), 0);
        close(fd);
        fprintf(maps, "%zx-%zx r-xp 00000000 %x:%x %lu %s\n", (0x1000 + i) << 12, (0x1001 + i) << 12, major(st.st_dev), minor(st.st_dev),
                st.st_ino, scratch_path(name));
    }
    fclose(maps);
    ck_assert_int_eq(mapping_table_open_image(f.table, &f.target), 0);
    ck_assert_int_eq(mapping_table_set_image(f.table, &f.target, 0, 0), 0);
    mapping_table_cut(f.table, &mappings, &files);
    struct raw_profile p = written(f.table);
    ck_assert_uint_eq(p.n_objects, n);
    for (size_t i = 0; i < n; i++)
        available += p.objects[i].available;
    ck_assert_uint_eq(available, 100 - 64); /* what is spared for all else */
    ck_assert_uint_eq(files, n - available);
    ck_assert_uint_eq(mappings, 0);
    int fd;
    const char *path;
    ck_assert_int_eq(mapping_table_object(f.table, 99, &fd, &path), 0);
    ck_assert_int_eq(fd, -1);
    ck_assert_str_eq(path, scratch_path("lib99.so"));
    ck_assert_int_eq(mapping_table_object(f.table, 100, &fd, &path), -ENOENT);
    raw_profile_close(&p);
    end(&f);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("mapping_table");
    TCase *tc = tcase_create("mapping_table");
    tcase_set_timeout(tc, 120);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, test_merge);
    tcase_add_test(tc, test_merge_in_the_same_epoch);
    tcase_add_test(tc, test_image_that_is_gone);
    tcase_add_test(tc, test_images);
    tcase_add_test(tc, test_image_opened_late);
    tcase_add_test(tc, test_final);
    tcase_add_test(tc, test_now);
    tcase_add_test(tc, test_final_of_other_sizes);
    tcase_add_test(tc, test_find_named);
    tcase_add_test(tc, test_too_many_mappings);
    tcase_add_test(tc, test_live);
    tcase_add_test(tc, test_live_files);
    tcase_add_test(tc, test_too_many_live_mappings);
    tcase_add_test(tc, test_too_much_live_text);
    tcase_add_test(tc, test_too_many_past_mappings);
    tcase_add_test(tc, test_too_many_names);
    tcase_add_test(tc, test_too_much_text);
    tcase_add_test(tc, test_too_many_files);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
