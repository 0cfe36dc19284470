/* From raw stacks to locations: whose address, which mapping, which name. */
#include <errno.h>

#include "tests/unit/render_fixture.h"

static struct raw_build b;
static struct fixture f;

static void setup(void)
{
    build_init(&b);
    fixture_init(&f);
}

static void teardown(void)
{
    renderer_free(f.renderer);
}

/* Functions of this file, whose names and lines are known. */
__attribute__((noinline, noclone)) static int first_function(int x)
{
    __asm__ volatile("" : "+r"(x));
    return x * 3;
}

/* Named as the C library's. */
__attribute__((noinline, noclone)) static int start_thread(int x)
{
    __asm__ volatile("" : "+r"(x));
    return x + 11;
}

__attribute__((noinline, noclone)) static int second_function(int x)
{
    __asm__ volatile("" : "+r"(x));
    return x + 7;
}

#define FIRST ((uint64_t)(uintptr_t)first_function)
#define SECOND ((uint64_t)(uintptr_t)second_function)
#define GETPPID ((uint64_t)(uintptr_t)getppid) /* in the C library, and no sanitizer's */

START_TEST(test_leaf_and_callers)
{
    struct raw_mapping *own = build_own(&b, (void *)first_function);
    own->main_binary = 1;
    build_user(&b, (uint64_t[]){FIRST, SECOND + 1, FIRST + 1}, 3, STACK_END_ROOT, 5);
    Perftools__Profiles__Profile *pb = fixture_profile(&f, &b, NULL);
    ck_assert_uint_eq(pb->n_sample, 1);
    ck_assert_uint_eq(pb->sample[0]->n_location_id, 3);
    ck_assert_uint_eq(location_of(pb, 0, 0)->address, FIRST);
    ck_assert_uint_eq(location_of(pb, 0, 1)->address, SECOND);
    ck_assert_uint_eq(location_of(pb, 0, 2)->address, FIRST); /* the leaf's own location again */
    ck_assert_str_eq(name_of(pb, 0, 0), "first_function");
    ck_assert_str_eq(name_of(pb, 0, 1), "second_function");
    const Perftools__Profiles__Line *line = location_of(pb, 0, 0)->line[0];
    const Perftools__Profiles__Function *function = pb->function[line->function_id - 1];
    ck_assert_int_gt(line->line, 0);
    ck_assert_int_gt(function->start_line, 0);
    ck_assert_ptr_nonnull(strstr(reader_string(pb, function->filename), "test_render.c"));
    ck_assert_int_eq(reader_string(pb, function->filename)[0], '/');
    ck_assert_int_eq(pb->sample[0]->value[0], 5);
    ck_assert_int_eq(pb->sample[0]->value[1], 50000000);
    const Perftools__Profiles__Mapping *m = mapping_of(pb, 0, 0);
    ck_assert(m->has_functions && m->has_filenames && m->has_line_numbers && m->has_inline_frames);
    ck_assert_uint_eq(m->memory_start, own->start);
    ck_assert_uint_eq(m->file_offset, own->offset);
    ck_assert(has_comment(pb, "cprofd.rooted=5"));
    ck_assert(fixture_touched(&f, 0));
    ck_assert_uint_eq(f.touched[f.n_touched - 1], WORKER_TOUCH_NONE); /* encoding can't be blamed on a file */
    reader_free(pb);
}
END_TEST

START_TEST(test_a_null_call_has_an_address)
{
    build_own(&b, (void *)first_function);
    build_user(&b, (uint64_t[]){0, 0, FIRST + 1}, 3, STACK_END_ROOT, 1);
    Perftools__Profiles__Profile *pb = fixture_profile(&f, &b, NULL); /* which checks that no address is 0 */
    ck_assert_str_eq(name_of(pb, 0, 0), "0x0");
    ck_assert_str_eq(reader_string(pb, mapping_of(pb, 0, 0)->filename), "[unknown]");
    ck_assert(has_comment(pb, "cprofd.unmapped=1"));
    reader_free(pb);
}
END_TEST

/* What a frame pointer says beyond the function that starts a thread means nothing: that stack is whole. */
START_TEST(test_a_stack_that_reaches_its_start_is_rooted)
{
    b.params.by_fp = 1;
    build_own(&b, (void *)first_function);
    build_user(&b, (uint64_t[]){FIRST, (uint64_t)(uintptr_t)start_thread + 1}, 2, STACK_END_BAD_FP, 2);
    build_user(&b, (uint64_t[]){(uint64_t)(uintptr_t)start_thread, FIRST + 1}, 2, STACK_END_BAD_FP, 1);
    Perftools__Profiles__Profile *pb = fixture_profile(&f, &b, NULL);
    ck_assert(has_comment(pb, "cprofd.rooted=2"));
    ck_assert(has_comment(pb, "cprofd.truncated.bad_fp=1"));
    reader_free(pb);
    /* By tables, only the walk itself can prove it. */
    b.params.by_fp = 0;
    pb = fixture_profile(&f, &b, NULL);
    ck_assert(has_comment(pb, "cprofd.rooted=0"));
    reader_free(pb);
}
END_TEST

/* What lies in no code is no return address: the stack is cut there, and says so. In between, and at the leaf, it is shown. */
START_TEST(test_addresses_outside_of_code_end_a_stack)
{
    build_own(&b, (void *)first_function);
    build_user(&b, (uint64_t[]){0x10, FIRST + 1, 0x20, SECOND + 1, 0x30, 0x40}, 6, STACK_END_UNPROVEN, 1);
    Perftools__Profiles__Profile *pb = fixture_profile(&f, &b, NULL);
    ck_assert_uint_eq(pb->sample[0]->n_location_id, 5);
    ck_assert_str_eq(name_of(pb, 0, 0), "0x10");
    ck_assert_str_eq(name_of(pb, 0, 2), "0x1f");
    ck_assert_str_eq(name_of(pb, 0, 3), "second_function");
    ck_assert_str_eq(name_of(pb, 0, 4), "[truncated: no_code]");
    ck_assert(has_comment(pb, "cprofd.truncated.no_code=1"));
    reader_free(pb);
}
END_TEST

START_TEST(test_kernel_frames_come_first)
{
    build_own(&b, (void *)first_function);
    uint64_t kernel[] = {0xffffffffc0001000, 0xffffffff81001001, 0xffffffff70000001},
             user[] = {FIRST, SECOND + 1};
    build_count(&b, build_stack(&b, kernel, 3, user, 2, STACK_END_ROOT), 1);
    Perftools__Profiles__Profile *pb = fixture_profile(&f, &b, NULL);
    ck_assert_str_eq(name_of(pb, 0, 0), "nft_do_chain [nf_tables]");
    ck_assert_str_eq(name_of(pb, 0, 1), "do_syscall_64");
    ck_assert_str_eq(name_of(pb, 0, 2), "[kernel]+0xffffffff70000000");
    ck_assert_str_eq(name_of(pb, 0, 3), "first_function");
    ck_assert_str_eq(name_of(pb, 0, 4), "second_function");
    ck_assert_uint_eq(location_of(pb, 0, 0)->address, 0xffffffffc0001000);
    ck_assert_uint_eq(location_of(pb, 0, 1)->address, 0xffffffff81001000);
    ck_assert_uint_eq(location_of(pb, 0, 3)->address, FIRST);
    ck_assert_str_eq(reader_string(pb, mapping_of(pb, 0, 1)->filename), "[kernel.kallsyms]");
    ck_assert_uint_eq(mapping_of(pb, 0, 1)->memory_start, 0xffffffff81000000);
    ck_assert(mapping_of(pb, 0, 1)->has_functions && !mapping_of(pb, 0, 1)->has_filenames);
    reader_free(pb);
    pb = fixture_profile(&f, &b, NULL);
    ck_assert_uint_eq(f.needs[WORKER_FILE_KALLSYMS], 1); /* a module may have come since */
    reader_free(pb);
    f.kallsyms_error = -EPERM; /* then only what never moves has a name */
    pb = fixture_profile(&f, &b, NULL);
    ck_assert_str_eq(name_of(pb, 0, 0), "[kernel]+0xffffffffc0001000");
    ck_assert_str_eq(name_of(pb, 0, 1), "do_syscall_64");
    ck_assert_uint_eq(f.needs[WORKER_FILE_KALLSYMS], 1);
    reader_free(pb);
}
END_TEST

START_TEST(test_kernel_symbols_are_kept)
{
    build_count(&b, build_stack(&b, (uint64_t[]){0xffffffff81001000}, 1, NULL, 0, STACK_END_NO_USER), 1);
    for (unsigned i = 0; i < 2; i++) {
        Perftools__Profiles__Profile *pb = fixture_profile(&f, &b, NULL);
        ck_assert_str_eq(name_of(pb, 0, 0), "do_syscall_64");
        ck_assert_uint_eq(f.needs[WORKER_FILE_KALLSYMS], i == 0);
        reader_free(pb);
    }
}
END_TEST

START_TEST(test_hidden_kernel_symbols_are_said)
{
    f.kallsyms_error = -EPERM;
    build_count(&b, build_stack(&b, (uint64_t[]){0xffffffff81001000}, 1, NULL, 0, STACK_END_NO_USER), 1);
    Perftools__Profiles__Profile *pb = fixture_profile(&f, &b, NULL);
    ck_assert_str_eq(name_of(pb, 0, 0), "[kernel]+0xffffffff81001000");
    ck_assert_str_eq(name_of(pb, 0, 1), "[truncated: no_user]");
    ck_assert_ptr_nonnull(comment_of(pb, "cprofd.unavailable=[kernel.kallsyms]: hidden by kernel.kptr_restrict"));
    reader_free(pb);
}
END_TEST

START_TEST(test_each_epoch_has_its_own_mapping)
{
    struct raw_mapping *m;
    uint32_t one = build_object(&b, "/nonexistent/one.so"), two = build_object(&b, "/nonexistent/two.so");
    m = build_mapping(&b, 0x10000, 0x20000, 0, one);
    m->first_epoch = 2;
    m->last_epoch = 3;
    m = build_mapping(&b, 0x18000, 0x28000, 0, two);
    m->first_epoch = 10;
    m->last_epoch = 12;
    static const struct {
        uint32_t epoch;
        uint64_t address;
        const char *name;
    } cases[] = {
        {2, 0x18010, "one.so+0x8010"}, {3, 0x18010, "one.so+0x8010"}, {10, 0x18010, "two.so+0x10"},
        {12, 0x18010, "two.so+0x10"},  {0, 0x18010, "one.so+0x8010"}, {5, 0x18010, "one.so+0x8010"},
        {8, 0x18010, "two.so+0x10"},   {99, 0x18010, "two.so+0x10"},  {2, 0x20010, "two.so+0x8010"},
        {12, 0x10010, "one.so+0x10"},  {2, 0x28000, "0x28000"},       {2, 0xffff, "0xffff"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        b.n_counts = 0;
        b.records_len = 0;
        b.key.epoch = cases[i].epoch;
        build_user(&b, &cases[i].address, 1, STACK_END_ROOT, 1);
        Perftools__Profiles__Profile *pb = fixture_profile(&f, &b, NULL);
        ck_assert_str_eq(name_of(pb, 0, 0), cases[i].name);
        reader_free(pb);
    }
}
END_TEST

START_TEST(test_one_address_in_two_images)
{
    uint32_t one = build_object(&b, "/nonexistent/one"), two = build_object(&b, "/nonexistent/two");
    build_mapping(&b, 0x10000, 0x20000, 0, one)->last_epoch = 0;
    build_mapping(&b, 0x10000, 0x20000, 0, two)->first_epoch = 1;
    uint64_t stack = build_stack(&b, NULL, 0, (uint64_t[]){0x10010}, 1, STACK_END_ROOT);
    build_count(&b, stack, 1);
    b.key.epoch = 1;
    build_count(&b, stack, 2);
    Perftools__Profiles__Profile *pb = fixture_profile(&f, &b, NULL);
    ck_assert_uint_eq(pb->n_sample, 2);
    ck_assert_str_eq(name_of(pb, 0, 0), "one+0x10");
    ck_assert_str_eq(name_of(pb, 1, 0), "two+0x10");
    reader_free(pb);
}
END_TEST

START_TEST(test_code_without_a_file)
{
    build_named(&b, 0x10000, 0x20000, "//anon");
    build_named(&b, 0x20000, 0x30000, "");
    build_named(&b, 0x30000, 0x40000, "[heap]");
    build_named(&b, 0x40000, 0x50000, "/memfd:jit");
    build_named(&b, 0xffffffffff600000, 0xffffffffff601000, "[vsyscall]");
    build_user(&b, (uint64_t[]){0x10010, 0x20011, 0x30011, 0x40011,
                              STACK_FRAME(0xffffffffff600400, 0), STACK_FRAME(0xffffffffff600d01, 0)},
               6, STACK_END_ROOT, 1);
    Perftools__Profiles__Profile *pb = fixture_profile(&f, &b, NULL);
    ck_assert_str_eq(name_of(pb, 0, 0), "[anon]+0x10010");
    ck_assert_str_eq(name_of(pb, 0, 1), "[anon]+0x20010");
    ck_assert_str_eq(name_of(pb, 0, 2), "[heap]+0x30010");
    ck_assert_str_eq(name_of(pb, 0, 3), "memfd:jit+0x40010");
    ck_assert_str_eq(name_of(pb, 0, 4), "gettimeofday");
    ck_assert_str_eq(name_of(pb, 0, 5), "[vsyscall]+0xd00");
    ck_assert_str_eq(reader_string(pb, mapping_of(pb, 0, 0)->filename), "//anon");
    ck_assert_str_eq(reader_string(pb, mapping_of(pb, 0, 1)->filename), "//anon");
    ck_assert(mapping_of(pb, 0, 0)->has_functions);
    ck_assert(!has_comment(pb, "cprofd.unmapped=1"));
    reader_free(pb);
}
END_TEST

/* The offset of the vdso's clock_gettime: the test asks for what the renderer says of it by another way than
 * the renderer's. */
START_TEST(test_vdso)
{
    build_named(&b, 0x7fff00000000, 0x7fff00002000, "[vdso]");
    for (uint64_t i = 0; i < 0x2000; i += 0x40)
        b.addresses[b.n_addresses < MAX_ITEMS ? b.n_addresses++ : 0] = 0x7fff00000000 + 0x400 + i;
    b.params.format = RAW_FORMAT_SYMBOL;
    char *text = fixture_text(&f, &b, NULL);
    ck_assert_ptr_nonnull(strstr(text, "clock_gettime"));
    ck_assert_uint_eq(f.needs[WORKER_FILE_VDSO], 1);
    free(text);
    free(fixture_text(&f, &b, NULL));
    ck_assert_uint_eq(f.needs[WORKER_FILE_VDSO], 0); /* cached */
}
END_TEST

START_TEST(test_files_that_can_not_be_read)
{
    uint32_t gone = build_object(&b, "/nonexistent/libgone.so"), text = build_object(&b, "/etc/passwd");
    build_mapping(&b, 0x10000, 0x20000, 0x1000, gone);
    build_mapping(&b, 0x20000, 0x30000, 0x1000, text);
    build_user(&b, (uint64_t[]){0x10010, 0x20021}, 2, STACK_END_ROOT, 1);
    Perftools__Profiles__Profile *pb = fixture_profile(&f, &b, NULL);
    ck_assert_str_eq(name_of(pb, 0, 0), "libgone.so+0x1010");
    ck_assert_str_eq(name_of(pb, 0, 1), "passwd+0x1020");
    ck_assert(has_comment(pb, "cprofd.unavailable=/nonexistent/libgone.so: could not be opened"));
    ck_assert(has_comment(pb, "cprofd.unavailable=/etc/passwd: no ELF file"));
    ck_assert(mapping_of(pb, 0, 0)->has_functions && !mapping_of(pb, 0, 0)->has_line_numbers);
    reader_free(pb);
}
END_TEST

START_TEST(test_a_file_that_changed_gives_no_names)
{
    build_own(&b, (void *)first_function);
    build_user(&b, (uint64_t[]){FIRST}, 1, STACK_END_ROOT, 1);
    f.swap = "/bin/true";
    Perftools__Profiles__Profile *pb = fixture_profile(&f, &b, NULL);
    ck_assert_str_ne(name_of(pb, 0, 0), "first_function");
    const char *comment = comment_of(pb, "cprofd.unavailable=");
    ck_assert_ptr_nonnull(strstr(comment, ": changed since it was mapped"));
    reader_free(pb);
    f.swap = NULL; /* nothing of it was kept */
    pb = fixture_profile(&f, &b, NULL);
    ck_assert_str_eq(name_of(pb, 0, 0), "first_function");
    reader_free(pb);
}
END_TEST

static void set_build_id(struct raw_object *o, const char *bytes, uint32_t len)
{
    memcpy(o->build_id, bytes, len < sizeof(o->build_id) ? len : sizeof(o->build_id));
    o->build_id_len = len;
}

/* Another build than the one that is mapped: none of its names is one of the target's. */
START_TEST(test_another_build_is_not_used)
{
    struct raw_mapping *own = build_own(&b, (void *)first_function);
    struct raw_object *o = &b.objects[own->object];
    build_user(&b, (uint64_t[]){FIRST}, 1, STACK_END_ROOT, 1);
    set_build_id(o, "\x01\xab\0\xff", 4);
    for (unsigned i = 0; i < 2; i++) { /* from the cache, too */
        Perftools__Profiles__Profile *pb = fixture_profile(&f, &b, NULL);
        ck_assert_ptr_nonnull(strstr(name_of(pb, 0, 0), "test_render+0x"));
        ck_assert_ptr_nonnull(strstr(comment_of(pb, "cprofd.unavailable="), ": what is found there now has other contents"));
        ck_assert_str_eq(reader_string(pb, mapping_of(pb, 0, 0)->build_id), "01ab00ff");
        reader_free(pb);
    }
    set_build_id(o, "", 0);
    Perftools__Profiles__Profile *pb = fixture_profile(&f, &b, NULL);
    ck_assert_str_eq(name_of(pb, 0, 0), "first_function");
    reader_free(pb);
}
END_TEST

/* Whoever reads the profile may have the file. */
START_TEST(test_build_id_of_a_file_that_cannot_be_had)
{
    struct raw_mapping *own = build_own(&b, (void *)first_function);
    struct raw_object *o = &b.objects[own->object];
    build_user(&b, (uint64_t[]){FIRST}, 1, STACK_END_ROOT, 1);
    o->available = 0;
    set_build_id(o, "\x12\x34", 2);
    static const char *const whys[] = {"could not be opened", "has other contents", "opened in time"};
    for (size_t i = 0; i < 3; i++) {
        o->error = (int32_t[]){-ENODEV, -EUCLEAN, -ETIMEDOUT}[i];
        Perftools__Profiles__Profile *pb = fixture_profile(&f, &b, NULL);
        ck_assert_str_eq(reader_string(pb, mapping_of(pb, 0, 0)->build_id), "1234");
        ck_assert_ptr_nonnull(strstr(comment_of(pb, "cprofd.unavailable="), whys[i]));
        ck_assert_uint_eq(f.needs[WORKER_FILE_OBJECT], 0);
        reader_free(pb);
    }
    o->build_id_len = UINT32_MAX; /* nobody writes that, and nobody reads beyond */
    Perftools__Profiles__Profile *pb = fixture_profile(&f, &b, NULL);
    ck_assert_str_eq(reader_string(pb, mapping_of(pb, 0, 0)->build_id), "");
    reader_free(pb);
}
END_TEST

START_TEST(test_build_id_of_the_vdso)
{
    build_named(&b, 0x7fff00000000, 0x7fff00002000, "[vdso]");
    build_user(&b, (uint64_t[]){0x7fff00000800}, 1, STACK_END_ROOT, 1);
    for (b.params.symbolize = RAW_SYMBOLIZE_FULL; b.params.symbolize <= RAW_SYMBOLIZE_NONE; b.params.symbolize++) {
        Perftools__Profiles__Profile *pb = fixture_profile(&f, &b, NULL);
        ck_assert_uint_ge(strlen(reader_string(pb, mapping_of(pb, 0, 0)->build_id)), 16);
        reader_free(pb);
    }
}
END_TEST

START_TEST(test_objects_are_asked_for_once)
{
    build_own(&b, (void *)first_function);
    build_own(&b, (void *)getppid);
    build_user(&b, (uint64_t[]){GETPPID, FIRST + 1, GETPPID + 1, SECOND + 1}, 4, STACK_END_ROOT, 1);
    Perftools__Profiles__Profile *pb = fixture_profile(&f, &b, NULL);
    ck_assert_uint_eq(f.needs[WORKER_FILE_OBJECT], 2);
    ck_assert_ptr_nonnull(strstr(name_of(pb, 0, 0), "getppid"));
    ck_assert(fixture_touched(&f, 0) && fixture_touched(&f, 1));
    reader_free(pb);
    pb = fixture_profile(&f, &b, NULL);
    ck_assert_uint_eq(f.needs[WORKER_FILE_OBJECT], 0);
    ck_assert(fixture_touched(&f, 0) &&
              fixture_touched(&f, 1)); /* a cached one can crash the worker all the same */
    reader_free(pb);
}
END_TEST

START_TEST(test_a_debug_file_that_was_late_is_asked_for_again)
{
    build_own(&b, (void *)getppid); /* distributions strip it */
    build_user(&b, (uint64_t[]){GETPPID}, 1, STACK_END_ROOT, 1);
    f.debug_error = -ETIMEDOUT;
    Perftools__Profiles__Profile *pb = fixture_profile(&f, &b, NULL);
    ck_assert_ptr_nonnull(strstr(comment_of(pb, "cprofd.unavailable="), ": its debug file: could not be opened in time"));
    reader_free(pb);
    unsigned asked = f.needs[WORKER_FILE_DEBUG];
    ck_assert_uint_gt(asked, 0);
    f.debug_error = 0;
    reader_free(fixture_profile(&f, &b, NULL));
    ck_assert_uint_eq(f.needs[WORKER_FILE_DEBUG], asked);
    reader_free(fixture_profile(&f, &b, NULL));
    ck_assert_uint_eq(f.needs[WORKER_FILE_DEBUG], 0); /* there is none: that can be kept */
}
END_TEST

START_TEST(test_a_debug_file_that_anybody_wrote_is_for_one_job)
{
    static const mode_t modes[] = {0664, 0646, 0644};
    build_own(&b, (void *)getppid);
    build_user(&b, (uint64_t[]){GETPPID}, 1, STACK_END_ROOT, 1);
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        f.debug_mode = modes[i];
        reader_free(fixture_profile(&f, &b, NULL));
        ck_assert_uint_gt(f.needs[WORKER_FILE_DEBUG], 0);
    }
    reader_free(fixture_profile(&f, &b, NULL));
    ck_assert(geteuid() == 0
                  ? f.needs[WORKER_FILE_DEBUG] == 0
                  : f.needs[WORKER_FILE_DEBUG] > 0); /* root's own, that nobody else can write, is kept */
}
END_TEST

START_TEST(test_excluded_objects_have_names_without_symbols)
{
    struct worker_message job = {
        .u.job = {.n_excluded = 3, .excluded = {0, 0, 99}, .blame = {WORKER_BLAME_CRASH}, .wholly = {1}}};
    build_own(&b, (void *)first_function);
    build_own(&b, (void *)getppid);
    build_user(&b, (uint64_t[]){FIRST, GETPPID + 1}, 2, STACK_END_ROOT, 1);
    Perftools__Profiles__Profile *pb = fixture_profile(&f, &b, &job);
    ck_assert_ptr_nonnull(strstr(name_of(pb, 0, 0), "test_render+0x"));
    ck_assert_ptr_nonnull(strstr(name_of(pb, 0, 1), "getppid"));
    ck_assert(!fixture_touched(&f, 0));
    ck_assert_ptr_nonnull(strstr(comment_of(pb, "cprofd.excluded="), "test_render: crashed the symbolizer"));
    reader_free(pb);
    job.u.job.no_symbols = WORKER_BLAME_HANG;
    build_named(&b, 0x7fff00000000, 0x7fff00002000, "[vdso]");
    build_user(&b, (uint64_t[]){0x7fff00000800}, 1, STACK_END_ROOT, 1);
    pb = fixture_profile(&f, &b, &job);
    ck_assert_ptr_nonnull(strstr(name_of(pb, 0, 1), "libc.so.6+0x"));
    ck_assert_str_eq(name_of(pb, 1, 0), "[vdso]+0x800");
    ck_assert_uint_eq(f.needs[WORKER_FILE_OBJECT] + f.needs[WORKER_FILE_VDSO], 0);
    ck_assert_ptr_nonnull(comment_of(pb, "cprofd.no_symbols="));
    reader_free(pb);
}
END_TEST

START_TEST(test_symbolize_fast_and_none)
{
    struct raw_mapping *own = build_own(&b, (void *)first_function);
    own->main_binary = 1;
    build_count(&b,
                build_stack(&b, (uint64_t[]){0xffffffff81001000}, 1, (uint64_t[]){0x10, FIRST + 1}, 2,
                            STACK_END_BAD_FP),
                1);
    b.params.symbolize = RAW_SYMBOLIZE_FAST;
    Perftools__Profiles__Profile *pb = fixture_profile(&f, &b, NULL);
    ck_assert_str_eq(name_of(pb, 0, 2), "first_function");
    ck_assert_int_eq(location_of(pb, 0, 2)->line[0]->line, 0);
    ck_assert(pb->mapping[0]->has_functions && !pb->mapping[0]->has_filenames &&
              !pb->mapping[0]->has_line_numbers);
    ck_assert_uint_eq(f.needs[WORKER_FILE_DEBUG], 0);
    reader_free(pb);
    b.params.symbolize = RAW_SYMBOLIZE_NONE;
    pb = fixture_profile(&f, &b, NULL);
    ck_assert_str_eq(name_of(pb, 0, 0), "do_syscall_64"); /* of the kernel, or in no mapping: no reader has a file to look it up in */
    ck_assert_str_eq(name_of(pb, 0, 1), "0x10");
    ck_assert_uint_eq(location_of(pb, 0, 2)->n_line, 0);
    for (size_t i = 0; i < 3; i++)
        ck_assert_int_eq(mapping_of(pb, 0, i)->has_functions, i < 2);
    ck_assert_str_eq(name_of(pb, 0, 3), "[truncated: bad_fp]");
    ck_assert(mapping_of(pb, 0, 3)->has_functions);
    ck_assert_str_ne(reader_string(pb, pb->mapping[0]->build_id), "");
    reader_free(pb);
}
END_TEST

START_TEST(test_the_main_binary_is_the_first_mapping)
{
    build_own(&b, (void *)getppid);
    build_own(&b, (void *)first_function)->main_binary = 1;
    build_user(&b, (uint64_t[]){GETPPID}, 1, STACK_END_ROOT, 1);
    Perftools__Profiles__Profile *pb = fixture_profile(&f, &b, NULL);
    ck_assert_uint_eq(pb->n_mapping, 2);
    ck_assert_ptr_nonnull(strstr(reader_string(pb, pb->mapping[0]->filename), "test_render"));
    ck_assert_str_ne(reader_string(pb, pb->mapping[0]->build_id), "");
    reader_free(pb);
    b.n_counts = 0;
    pb = fixture_profile(&f, &b, NULL); /* no samples at all */
    ck_assert_uint_eq(pb->n_mapping, 1);
    ck_assert(has_comment(pb, "cprofd.samples=0"));
    reader_free(pb);
}
END_TEST

START_TEST(test_symbols)
{
    build_own(&b, (void *)first_function);
    char expected[256];
    (void)snprintf(expected, sizeof(expected),
                   "num_symbols: 1\n0x%lx second_function\n0x%lx first_function\n0x%lx second_function\n",
                   SECOND + 1, FIRST, SECOND + 1);
    memcpy(b.addresses, (uint64_t[]){SECOND + 1, 0x1234, FIRST, SECOND + 1}, 32);
    b.n_addresses = 4;
    b.params.format = RAW_FORMAT_SYMBOL;
    char *text = fixture_text(&f, &b, NULL);
    ck_assert_str_eq(text, expected);
    free(text);
    b.n_addresses = 0;
    text = fixture_text(&f, &b, NULL);
    ck_assert_str_eq(text, "num_symbols: 1\n");
    free(text);
}
END_TEST

START_TEST(test_folded)
{
    build_own(&b, (void *)first_function);
    build_user(&b, (uint64_t[]){FIRST, SECOND + 1}, 2, STACK_END_UNREADABLE, 3);
    b.params.format = RAW_FORMAT_FOLDED;
    char *text = fixture_text(&f, &b, NULL);
    ck_assert_str_eq(text, "[truncated: unreadable];second_function;first_function 30000000\n");
    free(text);
    strcpy(b.params.types.default_type, "samples");
    text = fixture_text(&f, &b, NULL);
    ck_assert_str_eq(text, "[truncated: unreadable];second_function;first_function 3\n");
    free(text);
    strcpy(b.params.types.default_type, "neither");
    text = fixture_text(&f, &b, NULL);
    ck_assert_str_eq(text, "[truncated: unreadable];second_function;first_function 30000000\n");
    free(text);
}
END_TEST

START_TEST(test_a_cancelled_job_ends_at_once)
{
    build_own(&b, (void *)first_function);
    build_own(&b, (void *)getppid);
    build_user(&b, (uint64_t[]){FIRST, GETPPID}, 2, STACK_END_ROOT, 1);
    f.object_error = -ECANCELED;
    struct rendered r = fixture_render(&f, &b, NULL);
    ck_assert_int_eq(r.error, -ECANCELED);
    ck_assert_uint_eq(f.needs[WORKER_FILE_OBJECT], 1);
    free(r.body);
    f.object_error = 0;
    reader_free(fixture_profile(&f, &b, NULL));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("render");
    TCase *tc = tcase_create("render");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, test_leaf_and_callers);
    tcase_add_test(tc, test_a_null_call_has_an_address);
    tcase_add_test(tc, test_a_stack_that_reaches_its_start_is_rooted);
    tcase_add_test(tc, test_addresses_outside_of_code_end_a_stack);
    tcase_add_test(tc, test_kernel_frames_come_first);
    tcase_add_test(tc, test_kernel_symbols_are_kept);
    tcase_add_test(tc, test_hidden_kernel_symbols_are_said);
    tcase_add_test(tc, test_each_epoch_has_its_own_mapping);
    tcase_add_test(tc, test_one_address_in_two_images);
    tcase_add_test(tc, test_code_without_a_file);
    tcase_add_test(tc, test_vdso);
    tcase_add_test(tc, test_files_that_can_not_be_read);
    tcase_add_test(tc, test_a_file_that_changed_gives_no_names);
    tcase_add_test(tc, test_another_build_is_not_used);
    tcase_add_test(tc, test_build_id_of_a_file_that_cannot_be_had);
    tcase_add_test(tc, test_build_id_of_the_vdso);
    tcase_add_test(tc, test_objects_are_asked_for_once);
    tcase_add_test(tc, test_a_debug_file_that_was_late_is_asked_for_again);
    tcase_add_test(tc, test_a_debug_file_that_anybody_wrote_is_for_one_job);
    tcase_add_test(tc, test_excluded_objects_have_names_without_symbols);
    tcase_add_test(tc, test_symbolize_fast_and_none);
    tcase_add_test(tc, test_the_main_binary_is_the_first_mapping);
    tcase_add_test(tc, test_symbols);
    tcase_add_test(tc, test_folded);
    tcase_add_test(tc, test_a_cancelled_job_ends_at_once);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
