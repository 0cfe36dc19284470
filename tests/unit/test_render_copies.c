/* Copied stacks in a raw profile: unwound as they are rendered, counted as any other sample. */
#include <elf.h>
#include <errno.h>

#include "symbolize/copy_unwind.h"
#include "tests/unit/render_fixture.h"

#define MADE 0x700000ull
#define STACK 0x7ffd0000ull

static struct raw_build build;
static struct fixture fixture;

static void setup(void)
{
    build_init(&build);
    fixture_init(&fixture);
}

static void teardown(void)
{
    renderer_free(fixture.renderer);
}

/* A copy with the last count's key. */
static struct copy_record *build_copy(const uint64_t *kernel, size_t n_kernel, const void *stack, size_t len, uint64_t samples)
{
    struct copy_record *c = (void *)((char *)build.records + build.records_len);
    *c = (struct copy_record){.type = RECORD_COPY, .n_kernel = (uint16_t)n_kernel, .stack_bytes = (uint32_t)len, .machine = EM_X86_64,
                              .key = build.key, .value = {samples, samples * 10000000}};
    if (n_kernel > 0)
        memcpy(c->data, kernel, n_kernel * 8);
    if (len > 0)
        memcpy(c->data + n_kernel, stack, len);
    build.records_len += COPY_RECORD_BYTES(n_kernel, len);
    ck_assert_uint_le(build.records_len, sizeof(build.records));
    return c;
}

/* Three frames of code that was made at run time. */
static struct copy_record *build_made(uint64_t samples)
{
    static const uint64_t stack[] = {STACK + 16, MADE + 0x21, 0, 0, 77, 78};
    struct copy_record *c = build_copy(NULL, 0, stack, sizeof(stack), samples);
    c->known = (1u << 17) - 1;
    c->stack_base = c->registers[6] = c->registers[7] = STACK;
    c->registers[16] = MADE + 0x10;
    return c;
}

START_TEST(test_frame_pointers_of_made_code)
{
    build_named(&build, MADE, MADE + 4096, "//anon");
    (void)build_made(2);
    (void)build_made(3);
    Perftools__Profiles__Profile *pb = fixture_profile(&fixture, &build, NULL);
    ck_assert_uint_eq(pb->n_sample, 1);
    ck_assert_int_eq(pb->sample[0]->value[0], 5);
    ck_assert_int_eq(pb->sample[0]->value[1], 50000000);
    ck_assert_str_eq(name_of(pb, 0, 0), "[anon]+0x700010");
    ck_assert_str_eq(name_of(pb, 0, 1), "[anon]+0x700020");
    ck_assert_str_eq(name_of(pb, 0, 2), "[truncated: unproven]");
    ck_assert(has_comment(pb, "cprofd.samples=5") && has_comment(pb, "cprofd.rooted=0"));
    ck_assert(has_comment(pb, "cprofd.cpu_sampled_ns=50000000"));
    reader_free(pb);
}
END_TEST

START_TEST(test_threads_are_told_apart)
{
    build_named(&build, MADE, MADE + 4096, "//anon");
    (void)build_made(2);
    build.key.tid = 79;
    (void)build_made(4);
    build.params.tid = 79;
    Perftools__Profiles__Profile *pb = fixture_profile(&fixture, &build, NULL);
    ck_assert_uint_eq(pb->n_sample, 1);
    ck_assert_int_eq(pb->sample[0]->value[0], 4);
    ck_assert(has_comment(pb, "cprofd.filtered=2"));
    reader_free(pb);
}
END_TEST

START_TEST(test_no_user_stack)
{
    const uint64_t kernel[] = {0xffffffff81000010, 0xffffffff81000020};
    (void)build_copy(kernel, 2, "", 0, 1);
    Perftools__Profiles__Profile *pb = fixture_profile(&fixture, &build, NULL);
    ck_assert_uint_eq(pb->n_sample, 1);
    ck_assert_uint_eq(pb->sample[0]->n_location_id, 3);
    ck_assert(has_comment(pb, "cprofd.truncated.no_user=1"));
    reader_free(pb);
}
END_TEST

START_TEST(test_nothing_is_mapped_there)
{
    build_named(&build, MADE + 4096, MADE + 8192, "//anon");
    (void)build_made(1);
    Perftools__Profiles__Profile *pb = fixture_profile(&fixture, &build, NULL);
    ck_assert_str_eq(name_of(pb, 0, 0), "0x700010");
    ck_assert(has_comment(pb, "cprofd.truncated.no_code=1"));
    reader_free(pb);
}
END_TEST

/* Checks are no samples. */
START_TEST(test_a_check_counts_nothing)
{
    build_named(&build, MADE, MADE + 4096, "//anon");
    (void)build_made(0);
    Perftools__Profiles__Profile *pb = fixture_profile(&fixture, &build, NULL);
    ck_assert_uint_eq(pb->n_sample, 0);
    reader_free(pb);
}
END_TEST

#ifdef __x86_64__
/* This very process's stack, by the unwind information of its files. */
static uint64_t own_frames[2]; /* the return addresses of copy_self and its caller */

/* Across frames' bounds, which sanitizers would have an eye on. */
static __attribute__((noinline, no_sanitize("address", "undefined"))) void copy_stack(uint64_t *to, size_t n, uint64_t from)
{
    for (size_t i = 0; i < n; i++)
        to[i] = ((const volatile uint64_t *)(uintptr_t)from)[i];
}

static __attribute__((noinline)) struct copy_record *copy_self(uint64_t samples)
{
    static uint64_t copy[128];
    uint64_t rip, rsp, rbp, rbx, r12, r13, r14, r15;
    __asm__ volatile("lea 0(%%rip), %0\n mov %%rsp, %1\n mov %%rbp, %2\n mov %%rbx, %3" : "=r"(rip), "=r"(rsp), "=r"(rbp), "=r"(rbx));
    __asm__ volatile("mov %%r12, %0\n mov %%r13, %1\n mov %%r14, %2\n mov %%r15, %3" : "=r"(r12), "=r"(r13), "=r"(r14), "=r"(r15));
    copy_stack(copy, sizeof(copy) / sizeof(copy[0]), rsp);
    struct copy_record *c = build_copy(NULL, 0, copy, sizeof(copy), samples);
    c->known = 1u << 3 | 1u << 6 | 1u << 7 | 0xfu << 12 | 1u << 16;
    c->stack_base = c->registers[7] = rsp;
    c->registers[16] = rip;
    c->registers[6] = rbp;
    c->registers[3] = rbx;
    c->registers[12] = r12;
    c->registers[13] = r13;
    c->registers[14] = r14;
    c->registers[15] = r15;
    own_frames[0] = (uintptr_t)__builtin_return_address(0);
    return c;
}

static __attribute__((noinline)) struct copy_record *call_copy_self(uint64_t samples)
{
    struct copy_record *c = copy_self(samples);
    own_frames[1] = (uintptr_t)__builtin_return_address(0);
    return c;
}

/* A copy checks walks of the same stack. */
START_TEST(test_audit)
{
    static const struct {
        size_t n, wrong; /* of the walk: how many frames of the copy's it has, and which is another */
        enum stack_end end;
        bool agrees;
        const char *function; /* after which it differs */
    } cases[] = {
        {3, 99, STACK_END_UNREADABLE, true, NULL},       {2, 99, STACK_END_NO_CFI, true, NULL},
        {2, 99, STACK_END_ROOT, false, "call_copy_self"}, {3, 1, STACK_END_ROOT, false, "copy_self"},
    };
    char text[256];

    (void)build_own(&build, (const void *)(uintptr_t)copy_self);
    struct copy_record *c = call_copy_self(0);
    uint64_t frames[3] = {c->registers[16], own_frames[0], own_frames[1]};
    if (cases[_i].wrong < 3)
        frames[cases[_i].wrong] += 8;
    uint64_t hash = build_stack(&build, NULL, 0, frames, cases[_i].n, cases[_i].end);
    build_count(&build, hash, 7);
    c->key.stack_hash[0] = hash;
    build_fact(&build, "audited=0");
    build_fact(&build, "agreed=0");
    build.params.format = RAW_FORMAT_QUALITY;
    char *json = fixture_text(&fixture, &build, NULL);
    ck_assert_ptr_nonnull(strstr(json, "\"audited\": 1"));
    ck_assert_ptr_nonnull(strstr(json, cases[_i].agrees ? "\"agreed\": 1" : "\"agreed\": 0"));
    (void)snprintf(text, sizeof(text), "\"function\": \"%s\", \"samples\": 1}", cases[_i].agrees ? "" : cases[_i].function);
    const char *by = strstr(json, "\"differs_by\": [");
    ck_assert_ptr_nonnull(by);
    if (cases[_i].agrees)
        ck_assert_ptr_nonnull(strstr(by, "[]"));
    else
        ck_assert_msg(strstr(by, text), "%s", by);
    free(json);
}
END_TEST
#endif

START_TEST(test_malformed_copies)
{
    struct raw_profile p;
    for (int i = 0; i < 4; i++) {
        build_init(&build);
        struct copy_record *c = build_made(1);
        if (i == 1)
            c->n_kernel = CPROFD_MAX_KERNEL_FRAMES + 1;
        if (i == 2)
            c->stack_bytes = COPY_MAX_STACK_BYTES + 1;
        if (i == 3)
            c->stack_bytes += 8;
        int fd = build_finish(&build);
        ck_assert_int_eq(raw_profile_open(fd, &p), i == 0 ? 0 : -EBADMSG);
        if (i == 0)
            raw_profile_close(&p);
        (void)close(fd);
    }
}
END_TEST

#ifdef __x86_64__
START_TEST(test_own_stack)
{
    (void)build_own(&build, (const void *)(uintptr_t)copy_self);
    (void)call_copy_self(1);
    Perftools__Profiles__Profile *pb = fixture_profile(&fixture, &build, NULL);
    ck_assert_str_eq(name_of(pb, 0, 0), "copy_self");
    ck_assert_str_eq(name_of(pb, 0, 1), "call_copy_self");
    ck_assert_str_eq(name_of(pb, 0, 2), "test_own_stack_fn");
    ck_assert(fixture_touched(&fixture, 0));
    reader_free(pb);
}
END_TEST
#endif

int main(void)
{
    Suite *suite = suite_create("render_copies");
    TCase *c = tcase_create("all");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, test_frame_pointers_of_made_code);
    tcase_add_test(c, test_threads_are_told_apart);
    tcase_add_test(c, test_no_user_stack);
    tcase_add_test(c, test_nothing_is_mapped_there);
    tcase_add_test(c, test_a_check_counts_nothing);
    tcase_add_test(c, test_malformed_copies);
#ifdef __x86_64__
    tcase_add_test(c, test_own_stack);
    tcase_add_loop_test(c, test_audit, 0, 4);
#endif
    suite_add_tcase(suite, c);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
