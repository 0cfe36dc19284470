/* Allocators in the files of this process. */
#include <check.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "symbolize/elf_file.h"
#include "symbolize/heap_functions.h"

/* What this program has of allocators, which nobody calls. Linkers make what is hidden local, as functions are that are static. */
#define FUNCTION __attribute__((used, noinline))
void *_rjem_mallocx(size_t bytes, int flags);
void *mi_zalloc_aligned(size_t bytes, size_t alignment);
void *mi_realloc_aligned(void *pointer, size_t bytes, size_t alignment);

FUNCTION void *_rjem_mallocx(size_t bytes, int flags)
{
    return (void *)(bytes + (size_t)flags);
}

FUNCTION void *mi_zalloc_aligned(size_t bytes, size_t alignment)
{
    return (void *)(bytes * alignment);
}

FUNCTION void *mi_realloc_aligned(void *pointer, size_t bytes, size_t alignment)
{
    return (char *)pointer + bytes + alignment;
}

FUNCTION static void *tc_malloc(size_t bytes)
{
    return (void *)(bytes + 1);
}

FUNCTION static void *tc_calloc(size_t n, size_t bytes)
{
    return (void *)(n * bytes + 2);
}

FUNCTION static void tc_free(void *pointer)
{
    __asm__ volatile("" : : "r"(pointer));
}

FUNCTION static void je_free(const char *name)
{
    __asm__ volatile("" : : "r"(name + 1));
}

/* A program's own, beside an allocator that hides nothing. */
FUNCTION static void _rjem_sdallocx(const char *name)
{
    __asm__ volatile("" : : "r"(name + 2));
}

/* As a Go program with functions of C has. */
static const char go[] __attribute__((used, section(".go.buildinfo"))) = "Go";

static size_t find_in(const char *path, struct heap_function *ret)
{
    struct elf_file file;
    size_t n = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(elf_file_open(fd, &file), 0);
    ck_assert_int_eq(heap_functions_find(&file, ret, &n), 0);
    elf_file_close(&file);
    (void)close(fd);
    return n;
}

static const struct heap_function *named(const struct heap_function *list, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(list[i].name, name) == 0)
            return &list[i];
    return NULL;
}

/* Each function once, though it has several names; what ends in another one is left out. Found by a function that no sanitizer's library
 * has, too. */
START_TEST(test_c_library)
{
    struct heap_function list[HEAP_MAX_FUNCTIONS];
    long (*function)(int) = sysconf;
    Dl_info info;

    ck_assert_int_ne(dladdr(*(void **)&function, &info), 0);
    size_t n = find_in(info.dli_fname, list);
    const struct heap_function *f = named(list, n, "malloc");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(f->kind, HEAP_MALLOC);
    ck_assert_uint_eq(named(list, n, "free")->kind, HEAP_FREE);
    ck_assert_uint_eq(named(list, n, "realloc")->kind, HEAP_REALLOC);
    ck_assert_ptr_null(named(list, n, "reallocarray"));
    for (size_t i = 1; i < n; i++)
        ck_assert_uint_lt(list[i - 1].file_offset, list[i].file_offset);
}
END_TEST

/* Its operators call malloc and free. */
START_TEST(test_cxx_library)
{
    struct heap_function list[HEAP_MAX_FUNCTIONS];
    void *library = dlopen("libstdc++.so.6", RTLD_NOW);
    void *function = library ? dlsym(library, "_Znwm") : NULL;
    Dl_info info;

    if (!function || !dladdr(function, &info))
        return; /* there is none here */
    ck_assert_uint_eq(find_in(info.dli_fname, list), 0);
    (void)dlclose(library);
}
END_TEST

/* Of C's it has stubs alone. */
START_TEST(test_program)
{
    struct heap_function list[HEAP_MAX_FUNCTIONS];

    ck_assert_ptr_null(named(list, find_in("/proc/self/exe", list), "malloc"));
}
END_TEST

/* Under the names that Rust's jemalloc and mimalloc have, too. */
START_TEST(test_names_of_allocators)
{
    struct heap_function list[HEAP_MAX_FUNCTIONS];
    const struct {
        const char *name;
        enum heap_call_kind kind;
    } due[] = {{"_rjem_mallocx", HEAP_MALLOC}, {"mi_zalloc_aligned", HEAP_MALLOC}, {"mi_realloc_aligned", HEAP_REALLOC}};

    size_t n = find_in("/proc/self/exe", list);
    for (size_t i = 0; i < sizeof(due) / sizeof(due[0]); i++) {
        const struct heap_function *f = named(list, n, due[i].name);
        ck_assert_msg(f && f->kind == due[i].kind, "%s", due[i].name);
    }
}
END_TEST

/* What is not seen of a Go program is told, as one that can't be probed. */
START_TEST(test_heap_of_go)
{
    struct heap_function list[HEAP_MAX_FUNCTIONS];

    size_t n = find_in("/proc/self/exe", list);
    const struct heap_function *f = named(list, n, "runtime.mallocgc");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(f->kind, 0);
}
END_TEST

/* A local function counts where both halves of an allocator are there. */
START_TEST(test_local_functions)
{
    struct heap_function list[HEAP_MAX_FUNCTIONS];

    size_t n = find_in("/proc/self/exe", list);
    ck_assert_ptr_nonnull(named(list, n, "tc_malloc"));
    ck_assert_ptr_nonnull(named(list, n, "tc_calloc"));
    ck_assert_ptr_nonnull(named(list, n, "tc_free"));
    ck_assert_ptr_null(named(list, n, "je_free"));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("heap_functions");
    TCase *t = tcase_create("all");

    tcase_add_test(t, test_c_library);
    tcase_add_test(t, test_cxx_library);
    tcase_add_test(t, test_program);
    tcase_add_test(t, test_names_of_allocators);
    tcase_add_test(t, test_heap_of_go);
    tcase_add_test(t, test_local_functions);
    suite_add_tcase(s, t);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
