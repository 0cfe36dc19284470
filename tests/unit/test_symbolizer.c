/* The cache of modules, and the searches in one: on the sample program, whole and in two files, and on
 * files that are not what they should be. */
#include <check.h>
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <gnu/libc-version.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "symbolize/symbolizer.h"
#include "tests/unit/section_file.h"
#include "util/cleanup.h"

static const char *sample_path; /* whole */
static const char *stripped_path;
static const char *debug_path; /* what was split from it */

/* What the callback was asked for, and its answer. */
struct answers {
    const char *path, *path_of_server; /* NULL: */
    int error;                         /* or -ENOENT */
    int error_of_server, asked[4], order[4], n_asked; /* by kind; order: the first four kinds that were asked for */
};

static int open_debug_file(void *userdata, const struct debug_file_request *request, int *ret_fd)
{
    struct answers *answers = userdata;
    ck_assert_ptr_nonnull(request->name);
    bool server = request->kind == DEBUG_FILE_SERVER;
    const char *path = server ? answers->path_of_server : answers->path;
    int error = server ? answers->error_of_server : answers->error;
    answers->asked[request->kind]++;
    if (answers->n_asked < 4)
        answers->order[answers->n_asked++] = (int)request->kind;
    if (!path)
        return error ? error : -ENOENT;
    *ret_fd = open(path, O_RDONLY | O_CLOEXEC);
    return 0;
}

static const struct symbolizer_ops ops = {.open_debug_file = open_debug_file};

static int next_fd(void)
{
    AUTO_CLOSE int fd = dup(0);
    return fd;
}

static struct module *open_module(struct symbolizer *s, const char *path, uint64_t ino,
                                  struct answers *answers)
{
    struct module *m = NULL;
    struct file_identity id = {.ino = ino};
    ck_assert_int_eq(symbolizer_module(s, &id, open(path, O_RDONLY | O_CLOEXEC), answers, &m), 0);
    ck_assert_ptr_nonnull(m);
    return m;
}

START_TEST(test_cache)
{
    struct answers none = {0};
    struct module *m = NULL, *again = NULL;
    struct file_identity id = {.dev = 1, .ino = 2, .size = 3, .mtime_ns = 4, .ctime_ns = 5}, other = id;
    struct symbolizer *s = symbolizer_new(&ops, SIZE_MAX);
    int before = next_fd();
    other.ctime_ns++;
    ck_assert(!symbolizer_has(s, &id));
    ck_assert_int_eq(symbolizer_module(s, &id, -1, &none, &m), -EBADF);
    ck_assert_int_eq(symbolizer_module(s, &id, open(sample_path, O_RDONLY | O_CLOEXEC), &none, &m), 0);
    ck_assert(symbolizer_has(s, &id));
    ck_assert(!symbolizer_has(s, &other));
    ck_assert_int_eq(symbolizer_module(s, &id, -1, &none, &again), 0);
    ck_assert_ptr_eq(m, again);
    ck_assert_int_eq(symbolizer_module(s, &id, open(sample_path, O_RDONLY | O_CLOEXEC), &none, &again), 0);
    ck_assert_ptr_eq(m, again);
    ck_assert_int_eq(next_fd(), before); /* neither kept nor leaked */
    ck_assert_uint_gt(symbolizer_cache_bytes(s), 1000);
    symbolizer_free(s);
    symbolizer_free(NULL);
}
END_TEST

/* A module that has no room keeps what it found, if that fits, and finds the rest again. */
START_TEST(test_shed)
{
    struct answers answers = {.path = debug_path};
    struct symbol_frame first[SYMBOL_MAX_INLINED], again[SYMBOL_MAX_INLINED];
    uint64_t outermost, recursive;
    struct symbolizer *s = symbolizer_new(&ops, SIZE_MAX);
    struct module *m = open_module(s, sample_path, 1, &answers);
    ck_assert_int_eq(module_find_function(m, "outermost", 0, &outermost), 0);
    ck_assert_int_eq(module_find_function(m, "recursive", 0, &recursive), 0);
    ck_assert_uint_eq(module_resolve(m, outermost, SYMBOLIZE_FULL, first), 1);
    size_t whole = symbolizer_cache_bytes(s);
    symbolizer_trim(s);
    ck_assert_uint_eq(symbolizer_cache_bytes(s), whole);
    symbolizer_free(s);

    s = symbolizer_new(&ops, whole - 1);
    m = open_module(s, stripped_path, 1, &answers);
    size_t bare = symbolizer_cache_bytes(s);
    for (int round = 0; round < 3; round++) {
        ck_assert_uint_eq(module_resolve(m, outermost, SYMBOLIZE_FULL, first), 1);
        ck_assert_uint_eq(module_resolve(m, recursive + (uint64_t)round, SYMBOLIZE_FULL, again), 1);
        ck_assert_str_eq(again[0].name, "recursive");
        ck_assert_ptr_nonnull(again[0].filename);
        ck_assert_uint_gt(symbolizer_cache_bytes(s), bare);
        ck_assert_int_eq(answers.asked[DEBUG_FILE_BUILD_ID], round + 1);
        size_t before = symbolizer_cache_bytes(s);
        symbolizer_trim(s);
        ck_assert_uint_lt(symbolizer_cache_bytes(s), before);
        ck_assert(symbolizer_has(s, &(struct file_identity){.ino = 1}));
        ck_assert_uint_eq(module_resolve(m, outermost, SYMBOLIZE_FULL, again), 1);
        ck_assert_ptr_eq(again[0].name, first[0].name); /* remembered */
        ck_assert_int_eq(again[0].line, first[0].line);
        ck_assert_int_eq(answers.asked[DEBUG_FILE_BUILD_ID], round + 1);
    }
    symbolizer_free(s);
}
END_TEST

START_TEST(test_trim)
{
    struct answers none = {0};
    struct symbol_frame frames[SYMBOL_MAX_INLINED];
    uint64_t offset;
    struct symbolizer *s = symbolizer_new(&ops, 0);
    struct module *m = open_module(s, sample_path, 1, &none);
    size_t before = symbolizer_cache_bytes(s);
    ck_assert_int_eq(module_find_function(m, "outermost", 0, &offset), 0);
    ck_assert_uint_ge(module_resolve(m, offset, SYMBOLIZE_FULL, frames), 1);
    ck_assert_uint_gt(symbolizer_cache_bytes(s), before); /* what was loaded counts */
    symbolizer_trim(s);
    ck_assert(!symbolizer_has(s, &(struct file_identity){.ino = 1}));
    ck_assert_uint_eq(symbolizer_cache_bytes(s), 0);
    symbolizer_free(s);

    s = symbolizer_new(&ops, 5 * before / 2); /* room for two */
    for (uint64_t i = 1; i <= 3; i++)
        (void)open_module(s, sample_path, i, &none);
    (void)open_module(s, sample_path, 1, &none); /* used again: the second is the oldest now */
    symbolizer_trim(s);
    ck_assert(symbolizer_has(s, &(struct file_identity){.ino = 1}));
    ck_assert(!symbolizer_has(s, &(struct file_identity){.ino = 2}));
    ck_assert(symbolizer_has(s, &(struct file_identity){.ino = 3}));
    symbolizer_free(s);
}
END_TEST

static int open_bytes(const void *bytes, size_t len)
{
    int fd = memfd_create("bytes", MFD_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, bytes, len), (ssize_t)len);
    return fd;
}

START_TEST(test_not_elf)
{
    struct symbolizer *s = symbolizer_new(&ops, SIZE_MAX);
    struct module *m = NULL;
    const Elf64_Ehdr relocatable = {
        .e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT},
        .e_type = ET_REL,
        .e_version = EV_CURRENT,
        .e_ehsize = sizeof(Elf64_Ehdr)};
    const char text[] = "#!/bin/sh\nexit 0 # long enough for a header, but no ELF file at all ............\n";
    const struct {
        const void *bytes;
        size_t len;
    } files[] = {{"", 0},
                 {"\177ELF", 4},
                 {text, sizeof(text)},
                 {&relocatable, sizeof(relocatable)},
                 {&relocatable, 20}};
    for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
        struct file_identity id = {.ino = i + 1};
        ck_assert_int_eq(symbolizer_module(s, &id, open_bytes(files[i].bytes, files[i].len), NULL, &m),
                         -ENOEXEC);
        ck_assert(symbolizer_has(s, &id)); /* remembered */
        ck_assert_int_eq(symbolizer_module(s, &id, -1, NULL, &m), -ENOEXEC);
    }
    ck_assert_int_eq(
        symbolizer_module(s, &(struct file_identity){.ino = 99}, open("/", O_RDONLY | O_CLOEXEC), NULL, &m),
        -ENOEXEC);
    ck_assert_int_eq(symbolizer_module(s, &(struct file_identity){.ino = 98},
                                       open("/dev/null", O_RDONLY | O_CLOEXEC), NULL, &m),
                     -ENOEXEC);
    ck_assert_ptr_null(m);
    symbolizer_free(s);
}
END_TEST

START_TEST(test_debug_file)
{
    struct answers answers = {.path = debug_path};
    struct symbol_frame frames[SYMBOL_MAX_INLINED];
    uint64_t offset;
    struct symbolizer *s = symbolizer_new(&ops, SIZE_MAX);
    struct module *m = open_module(s, stripped_path, 1, &answers);
    ck_assert_str_eq(module_build_id(m), "5a5a0123456789abcdef0123");
    ck_assert_uint_eq(module_resolve(m, 0x1000, SYMBOLIZE_FAST, frames), 0);
    ck_assert_int_eq(answers.asked[DEBUG_FILE_BUILD_ID], 0); /* the fast way asks for none */
    ck_assert_int_eq(module_find_function(m, "recursive", 0, &offset), 0);
    ck_assert_uint_ge(module_resolve(m, offset, SYMBOLIZE_FULL, frames), 1);
    ck_assert_str_eq(frames[0].name, "recursive");
    ck_assert_ptr_eq(frames[0].name, frames[0].system_name);
    ck_assert(frames[0].filename && strstr(frames[0].filename, "/sample.c"));
    ck_assert_int_gt(frames[0].start_line, 0);
    ck_assert_int_ge(frames[0].line, frames[0].start_line);
    ck_assert_int_eq(answers.asked[DEBUG_FILE_BUILD_ID], 1);
    ck_assert_int_eq(answers.asked[DEBUG_FILE_DEBUGLINK], 0);
    symbolizer_free(s);
}
END_TEST

START_TEST(test_wrong_debug_file)
{
    const char *wrong[] = {NULL, "/dev/null", "/proc/self/exe", stripped_path, "/nonexistent"};
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
        struct answers answers = {.path = wrong[i]};
        uint64_t offset;
        struct symbolizer *s = symbolizer_new(&ops, SIZE_MAX);
        struct module *m = open_module(s, stripped_path, 1, &answers);
        ck_assert_int_eq(module_find_function(m, "recursive", 0, &offset), -ENOENT);
        ck_assert_int_eq(answers.asked[DEBUG_FILE_BUILD_ID], 1);
        ck_assert_int_eq(answers.asked[DEBUG_FILE_DEBUGLINK], wrong[i] == stripped_path ? 0 : 1);
        ck_assert_int_eq(module_find_function(m, "recursive", 0, &offset), -ENOENT);
        ck_assert_int_eq(answers.asked[DEBUG_FILE_BUILD_ID], 1); /* asked once */
        symbolizer_free(s);
    }
}
END_TEST

/* What is on this machine is not asked for elsewhere; a server's file is taken by its build id alone. */
START_TEST(test_server)
{
    struct answers answers = {.path = "/dev/null", .path_of_server = debug_path};
    struct symbol_frame frames[SYMBOL_MAX_INLINED];
    uint64_t offset;
    struct symbolizer *s = symbolizer_new(&ops, SIZE_MAX);
    struct module *m = open_module(s, stripped_path, 1, &answers);
    ck_assert_int_eq(module_find_function(m, "recursive", 0, &offset), 0);
    ck_assert_uint_ge(module_resolve(m, offset, SYMBOLIZE_FULL, frames), 1);
    ck_assert(frames[0].filename && strstr(frames[0].filename, "/sample.c"));
    ck_assert_int_eq(answers.n_asked, 3);
    ck_assert_int_eq(answers.order[0], DEBUG_FILE_BUILD_ID);
    ck_assert_int_eq(answers.order[1], DEBUG_FILE_DEBUGLINK);
    ck_assert_int_eq(answers.order[2], DEBUG_FILE_SERVER);
    answers = (struct answers){.path = debug_path, .path_of_server = debug_path};
    m = open_module(s, stripped_path, 2, &answers);
    (void)module_resolve(m, 0x1000, SYMBOLIZE_FULL, frames);
    ck_assert_int_eq(answers.asked[DEBUG_FILE_SERVER], 0);
    answers = (struct answers){.path_of_server = "/proc/self/exe"};
    m = open_module(s, stripped_path, 3, &answers);
    ck_assert_int_eq(module_find_function(m, "recursive", 0, &offset), -ENOENT);
    ck_assert_int_eq(answers.asked[DEBUG_FILE_SERVER], 1);
    symbolizer_free(s);
}
END_TEST

/* A file that is on its way, or servers that do not answer now, are asked for again; what no server has is not. */
START_TEST(test_server_passing)
{
    static const struct { int error; bool kept; } cases[] = {{-EAGAIN, false}, {-EHOSTUNREACH, false}, {-EBADMSG, false}, {-ENOENT, true},
                                                             {-EFBIG, true}, {-ENOSYS, true}};
    struct symbol_frame frames[SYMBOL_MAX_INLINED];
    const struct file_identity id = {.ino = 1};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct answers answers = {.error_of_server = cases[i].error};
        struct symbolizer *s = symbolizer_new(&ops, SIZE_MAX);
        struct module *m = open_module(s, stripped_path, 1, &answers);
        (void)module_resolve(m, 0x1000, SYMBOLIZE_FULL, frames);
        symbolizer_trim(s);
        ck_assert_int_eq(symbolizer_has(s, &id), cases[i].kept);
        symbolizer_free(s);
    }
}
END_TEST

/* Debug information that is there is used, or it is said why not, also to who finds its names in the cache later. */
START_TEST(test_debug_information_that_is_not_read)
{
    static const uint8_t zeros[100], link[] = "common\0" "0123456789012345678";
    const Elf64_Chdr huge = {.ch_type = ELFCOMPRESS_ZLIB, .ch_size = 3ull << 30}, unknown = {.ch_type = 99, .ch_size = 100};
    const struct section_given large[] = {{".debug_info", SHF_COMPRESSED, (const uint8_t *)&huge, sizeof(huge), 0}},
                               strange[] = {{".debug_info", SHF_COMPRESSED, (const uint8_t *)&unknown, sizeof(unknown), 0}},
                               half[] = {{".debug_info", 0, zeros, sizeof(zeros), 0}, {".gnu_debugaltlink", 0, link, sizeof(link), 0}},
                               none[] = {{".text", 0, zeros, sizeof(zeros), 0}};
    const struct {
        const struct section_given *given;
        size_t n;
        int error;
    } cases[] = {{large, 1, -EFBIG}, {strange, 1, -ENOENT}, {half, 2, -ENOLINK}, {none, 1, 0}};
    struct answers answers = {0};
    struct symbol_frame frames[SYMBOL_MAX_INLINED];
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct file_identity id = {.ino = 1};
        struct symbolizer *s = symbolizer_new(&ops, 64 << 10);
        struct module *m = NULL;
        ck_assert_int_eq(symbolizer_module(s, &id, section_file(cases[i].given, cases[i].n, section_file_ident), &answers, &m), 0);
        (void)module_resolve(m, 0x1000, SYMBOLIZE_FAST, frames);
        ck_assert_int_eq(module_debug_error(m), 0); /* not looked for */
        (void)module_resolve(m, 0x1000, SYMBOLIZE_FULL, frames);
        ck_assert_int_eq(module_debug_error(m), cases[i].error);
        symbolizer_trim(s);
        ck_assert_int_eq(symbolizer_module(s, &id, -1, &answers, &m), 0);
        ck_assert_int_eq(module_debug_error(m), cases[i].error);
        symbolizer_free(s);
    }
}
END_TEST

START_TEST(test_passing_failure)
{
    struct answers answers = {.error = -ETIMEDOUT};
    struct symbol_frame frames[SYMBOL_MAX_INLINED];
    const struct file_identity id = {.ino = 1};
    struct symbolizer *s = symbolizer_new(&ops, SIZE_MAX);
    struct module *m = open_module(s, stripped_path, 1, &answers);
    (void)module_resolve(m, 0x1000, SYMBOLIZE_FULL, frames);
    ck_assert(symbolizer_has(s, &id));
    symbolizer_trim(s);
    ck_assert(!symbolizer_has(s, &id)); /* the next job asks again */
    answers.error = -ENOENT;
    m = open_module(s, stripped_path, 1, &answers);
    (void)module_resolve(m, 0x1000, SYMBOLIZE_FULL, frames);
    symbolizer_trim(s);
    ck_assert(symbolizer_has(s, &id));
    symbolizer_free(s);
}
END_TEST

/* Neither a crash nor silence: what is known without it, and a word. */
START_TEST(test_debug_information_without_room)
{
    char path[] = "/tmp/test_symbolizer.XXXXXX";
    struct answers answers = {.path = path};
    struct symbol_frame frames[SYMBOL_MAX_INLINED];
    struct rlimit limit = {4ull << 30, RLIM_INFINITY};
    char bytes[65536];
    int from = open(debug_path, O_RDONLY | O_CLOEXEC), to = mkstemp(path);
    for (ssize_t n; (n = read(from, bytes, sizeof(bytes))) > 0;)
        ck_assert_int_eq(write(to, bytes, (size_t)n), n);
    ck_assert_int_eq(ftruncate(to, 64ll << 30), 0);
    struct symbolizer *s = symbolizer_new(&ops, SIZE_MAX);
    struct module *m = open_module(s, stripped_path, 1, &answers);
    ck_assert_int_eq(module_debug_error(m), 0);
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &limit), 0);
    (void)module_resolve(m, 0x1000, SYMBOLIZE_FULL, frames);
    ck_assert_int_gt(answers.asked[DEBUG_FILE_BUILD_ID], 0);
    ck_assert_int_eq(module_debug_error(m), -ENOMEM);
    symbolizer_trim(s);
    ck_assert(!symbolizer_has(s, &(struct file_identity){.ino = 1})); /* another time there may be room */
    symbolizer_free(s);
    close(from);
    close(to);
    unlink(path);
}
END_TEST

START_TEST(test_c_library)
{
    struct answers none = {0};
    uint64_t offset;
    Dl_info info;
    struct symbol_frame frames[SYMBOL_MAX_INLINED];
    struct symbolizer *s = symbolizer_new(&ops, SIZE_MAX);
    ck_assert_int_ne(dladdr((void *)(uintptr_t)gnu_get_libc_version, &info), 0);
    struct module *m = open_module(s, info.dli_fname, 1, &none);
    ck_assert_int_eq(module_find_function(m, "gnu_get_libc_version", 0, &offset), 0);
    ck_assert_uint_eq(module_vaddr(m, offset) + (uintptr_t)info.dli_fbase, (uintptr_t)gnu_get_libc_version);
    ck_assert_uint_eq(module_resolve(m, offset, SYMBOLIZE_FAST, frames), 1);
    ck_assert_str_eq(frames[0].name, "gnu_get_libc_version");
    ck_assert_int_eq(module_find_function(m, "malloc", 0, &offset), 0);
    ck_assert_uint_eq(module_resolve(m, offset, SYMBOLIZE_FULL, frames), 1);
    ck_assert_str_eq(frames[0].name, "malloc");
    int r = module_find_function(m, "glob", 0, &offset); /* two versions of it in glibc: the new one */
    ck_assert_msg(r == 0, "glob: %d", r);
    symbolizer_free(s);
}
END_TEST

START_TEST(test_usdt)
{
    struct answers none = {0};
    struct usdt_site *sites = NULL;
    size_t n = 0;
    struct symbol_frame frames[SYMBOL_MAX_INLINED];
    struct symbolizer *s = symbolizer_new(&ops, SIZE_MAX);
    struct module *m = open_module(s, sample_path, 1, &none);
    ck_assert_int_eq(module_find_usdt(m, "sample", "nothing", &sites, &n), -ENOENT);
    ck_assert_int_eq(module_find_usdt(m, "other", "split", &sites, &n), -ENOENT);
    ck_assert_ptr_null(sites);
    int r = module_find_usdt(m, "sample", "split", &sites, &n);
#ifdef HAVE_SDT
    ck_assert_int_eq(r, 0);
    ck_assert_uint_ge(n, 1);
    ck_assert_uint_ge(module_resolve(m, sites[0].file_offset, SYMBOLIZE_FULL, frames), 1);
    ck_assert_str_eq(frames[0].name, "split");
    ck_assert_uint_ne(sites[0].semaphore_file_offset, 0);
#else
    ck_assert_int_eq(r, -ENOENT);
    (void)frames;
#endif
    free(sites);
    symbolizer_free(s);
}
END_TEST

/* What is stripped has bounds of functions still. */
START_TEST(test_code_start)
{
    struct answers none = {0};
    uint64_t outermost, recursive;
    struct symbolizer *s = symbolizer_new(&ops, SIZE_MAX);
    struct module *whole = open_module(s, sample_path, 1, &none), *m = open_module(s, stripped_path, 2, &none);
    ck_assert_int_eq(module_find_function(whole, "outermost", 0, &outermost), 0);
    ck_assert_int_eq(module_find_function(whole, "recursive", 0, &recursive), 0);
    size_t before = symbolizer_cache_bytes(s);
    for (uint64_t i = 0; i < 12; i++) {
        ck_assert_uint_eq(module_code_start(m, outermost + i), module_vaddr(m, outermost));
        ck_assert_uint_eq(module_code_start(m, recursive + i), module_vaddr(m, recursive));
    }
    ck_assert_uint_gt(symbolizer_cache_bytes(s), before);
    ck_assert_uint_eq(module_code_start(m, 0), module_vaddr(m, 0));
    ck_assert_uint_eq(module_code_start(m, UINT64_MAX), UINT64_MAX);
    symbolizer_free(s);
}
END_TEST

START_TEST(test_offsets_out_of_all)
{
    struct answers none = {0};
    struct symbol_frame frames[SYMBOL_MAX_INLINED];
    const uint64_t offsets[] = {0, 1, 1ull << 32, UINT64_MAX};
    struct symbolizer *s = symbolizer_new(&ops, SIZE_MAX);
    struct module *m = open_module(s, sample_path, 1, &none);
    for (size_t i = 0; i < sizeof(offsets) / sizeof(*offsets); i++) {
        ck_assert_uint_eq(module_resolve(m, offsets[i], SYMBOLIZE_FULL, frames), 0);
        ck_assert_uint_eq(module_resolve(m, offsets[i], SYMBOLIZE_FAST, frames), 0);
    }
    ck_assert_uint_eq(module_vaddr(m, UINT64_MAX), UINT64_MAX);
    symbolizer_free(s);
}
END_TEST

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: test_symbolizer SAMPLE STRIPPED_SAMPLE DEBUG_FILE\n");
        return EXIT_FAILURE;
    }
    sample_path = argv[1];
    stripped_path = argv[2];
    debug_path = argv[3];
    Suite *suite = suite_create("symbolizer");
    TCase *tc = tcase_create("symbolizer");
    tcase_add_test(tc, test_cache);
    tcase_add_test(tc, test_trim);
    tcase_add_test(tc, test_shed);
    tcase_add_test(tc, test_not_elf);
    tcase_add_test(tc, test_debug_file);
    tcase_add_test(tc, test_wrong_debug_file);
    tcase_add_test(tc, test_passing_failure);
    tcase_add_test(tc, test_debug_information_that_is_not_read);
    tcase_add_test(tc, test_server);
    tcase_add_test(tc, test_server_passing);
    if (!dlsym(RTLD_DEFAULT, "__asan_init")) /* whose shadow is larger than any limit */
        tcase_add_test(tc, test_debug_information_without_room);
    tcase_add_test(tc, test_c_library);
    tcase_add_test(tc, test_usdt);
    tcase_add_test(tc, test_code_start);
    tcase_add_test(tc, test_offsets_out_of_all);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
