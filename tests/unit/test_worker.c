/* The real worker in its real sandbox, as an own process, behind the pool: profiles, symbols, probes; and
 * files that are not what they seem. The arguments are its path, and that of a small program. */
#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <sys/wait.h>

#include "daemon/log.h"
#include "daemon/probe.h"
#include "daemon/worker_pool.h"
#include "tests/unit/render_fixture.h"
#include "util/unwind_table.h"

static const char *real_worker, *small_program;
static struct event_base *base;
static struct worker_pool *pool;
static struct raw_build b;

struct outcome {
    unsigned done, needs;
    int error;
    char message[512];
    uint8_t *body;
    size_t len;
    struct worker_result result;
};

__attribute__((noinline, noclone)) static int sampled_function(int x)
{
    __asm__ volatile("" : "+r"(x));
    return x * 3;
}

/* A USDT site, as systemtap's sys/sdt.h lays it out. */
void cprofd_test_site(void);
__asm__(".text\n"
        ".globl cprofd_test_site\n.type cprofd_test_site, @function\n"
        "cprofd_test_site: nop\nret\n"
        ".pushsection .note.stapsdt,\"\",\"note\"\n.balign 4\n"
        ".4byte 992f-991f, 994f-993f, 3\n"
        "991: .asciz \"stapsdt\"\n992: .balign 4\n"
        "993: .8byte cprofd_test_site, _.stapsdt.base, 0\n"
        ".asciz \"cprofd_test\"\n.asciz \"site\"\n.asciz \"\"\n"
        "994: .balign 4\n.popsection\n"
        ".pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n"
        ".weak _.stapsdt.base\n.hidden _.stapsdt.base\n"
        "_.stapsdt.base: .space 1\n.size _.stapsdt.base, 1\n.popsection\n");

#define SAMPLED ((uint64_t)(uintptr_t)sampled_function)

static void on_need(struct worker_job *job, const struct worker_message *need, void *userdata)
{
    struct outcome *o = userdata;
    int fd = -1;
    o->needs++;
    if (need->u.need.kind == WORKER_FILE_OBJECT)
        fd = open(b.strings + b.objects[need->u.need.object].path, O_RDONLY | O_CLOEXEC);
    else if (need->u.need.kind == WORKER_FILE_KALLSYMS)
        fd = open("/proc/kallsyms", O_RDONLY | O_CLOEXEC);
    else if (need->u.need.kind == WORKER_FILE_VDSO)
        fd = vdso_open();
    worker_job_file(job, fd < 0 ? -ENOENT : 0, fd);
}

static void on_done(struct worker_job *job, const struct worker_result *result, void *userdata)
{
    struct outcome *o = userdata;
    o->done++;
    o->error = result->error;
    o->result = *result;
    (void)snprintf(o->message, sizeof(o->message), "%s", result->message);
    if (result->error < 0)
        return;
    o->len = result->body.len;
    o->body = calloc(1, o->len + 1);
    ck_assert_int_eq(pread(result->body_fd, o->body, o->len, 0), o->len);
}

static const struct worker_job_ops ops = {on_need, on_done};

static void setup(void)
{
    struct worker_limits limits = {
        .workers = 1,
        .memory_bytes = 1ull << 30,
        .cache_bytes = 64 << 20,
        .job_timeout_ns = 600 * NSEC_PER_SEC,
        .executable = real_worker,
    };
    build_init(&b);
    log_set_level(LOG_LEVEL_ERROR);
    base = event_base_new();
    ck_assert_int_eq(worker_pool_new(base, &limits, &pool), 0);
}

static void teardown(void)
{
    worker_pool_free(pool);
    event_base_free(base);
    libevent_global_shutdown();
}

static void wait_for(struct outcome *o)
{
    while (!o->done)
        ck_assert_int_eq(event_base_loop(base, EVLOOP_ONCE), 0);
}

static struct outcome render_fd(int fd)
{
    struct outcome o = {0};
    ck_assert_ptr_nonnull(worker_pool_render(pool, fd, NULL, &ops, &o));
    wait_for(&o);
    return o;
}

static struct outcome probe(const char *path, struct worker_probe p)
{
    struct outcome o = {0};
    ck_assert_ptr_nonnull(worker_pool_probe(pool, open(path, O_RDONLY | O_CLOEXEC), &p, &ops, &o));
    wait_for(&o);
    return o;
}

static struct outcome table(const char *path)
{
    struct outcome o = {0};
    ck_assert_ptr_nonnull(worker_pool_table(pool, open(path, O_RDONLY | O_CLOEXEC), UINT64_MAX, &ops, &o));
    wait_for(&o);
    return o;
}

static uint64_t restarts(void)
{
    struct worker_pool_stats stats;
    worker_pool_stats(pool, &stats);
    return stats.restarts;
}

START_TEST(test_a_profile_of_this_process)
{
    build_own(&b, (void *)sampled_function)->main_binary = 1;
    build_named(&b, 0x7fff00000000, 0x7fff00002000, "[vdso]");
    build_count(&b,
                build_stack(&b, (uint64_t[]){0xffffffff81001000}, 1, (uint64_t[]){SAMPLED, 0x7fff00000801}, 2,
                            STACK_END_ROOT),
                3);
    for (int i = 0; i < 3; i++) {
        struct outcome o = render_fd(build_finish(&b));
        ck_assert_msg(o.error == 0, "%s", o.message);
        Perftools__Profiles__Profile *pb = reader_decode(o.body, o.len);
        reader_check(pb);
        ck_assert_str_eq(name_of(pb, 0, 1), "sampled_function");
        ck_assert_uint_eq(o.result.body.samples, 3);
        ck_assert_uint_eq(o.result.body.rooted, 3);
        ck_assert(i == 0 ? o.needs >= 3 : o.needs == 0); /* later on, all is cached */
        reader_free(pb);
        free(o.body);
    }
    struct worker_pool_stats stats;
    worker_pool_stats(pool, &stats);
    ck_assert_uint_gt(stats.cache_bytes, 0);
    ck_assert_uint_eq(stats.alive, 1);
    ck_assert_uint_eq(stats.restarts, 0);
}
END_TEST

START_TEST(test_malformed_input_is_an_error)
{
    int fd = memfd_create("x", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    ck_assert_int_eq(write(fd, "not a raw profile", 17), 17);
    ck_assert_int_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE), 0);
    struct outcome o = render_fd(fd);
    ck_assert_int_eq(o.error, -EBADMSG);
    strcpy(b.params.focus, "*(");
    o = render_fd(build_finish(&b));
    ck_assert_int_eq(o.error, -EINVAL);
    ck_assert_ptr_nonnull(strstr(o.message, "focus"));
    ck_assert_uint_eq(restarts(), 0);
}
END_TEST

/* This process's C library. */
static const char *libc_path(void)
{
    build_own(&b, (void *)getppid);
    return b.strings + b.objects[b.n_objects - 1].path;
}

/* Never run: the entry is single-stepped, the jump behind it is not. */
__asm__(".text\n.globl cprofd_test_probed\n.type cprofd_test_probed, @function\n"
        "cprofd_test_probed: test %rdi, %rdi\n  je 1f\n  lea 1(%rdi), %rdi\n1: ret\n"
        ".size cprofd_test_probed, . - cprofd_test_probed\n");
void cprofd_test_probed(void);

static void check_site(const struct outcome *o, uint32_t n, uint64_t offset, const char *insn)
{
    const struct probe_found *found = (const void *)o->body;
    const struct probe_site *sites = (const struct probe_site *)(found + 1);
    ck_assert_msg(o->error == 0, "%s", o->message);
    ck_assert_uint_eq(found->n, n);
    ck_assert_uint_eq(o->len, sizeof(*found) + n * sizeof(*sites));
    ck_assert_uint_eq(sites[0].point.file_offset, offset);
    ck_assert_str_eq(sites[0].point.insn, insn);
}

START_TEST(test_probe_places)
{
    struct worker_probe p = {.symbol = "cprofd_test_probed"};
    struct raw_mapping *own = build_own(&b, (void *)cprofd_test_probed);
    uint64_t entry = (uint64_t)(uintptr_t)cprofd_test_probed - own->start + own->offset;
    struct outcome o = probe("/proc/self/exe", p);
    ck_assert_msg(o.error == 0, "%s", o.message);
    check_site(&o, 1, entry + 3, "je");
    free(o.body);
    p.offset = 5;
    o = probe("/proc/self/exe", p);
    check_site(&o, 1, entry + 5, "lea");
    free(o.body);
    p = (struct worker_probe){.symbol = "cprofd_test_probed", .result = 1};
    o = probe("/proc/self/exe", p);
    check_site(&o, 1, entry + 9, "ret");
    free(o.body);
    p = (struct worker_probe){.usdt = 1, .symbol = "cprofd_test:site"};
    o = probe("/proc/self/exe", p);
    ck_assert_msg(o.error == 0, "%s", o.message);
    own = build_own(&b, (void *)cprofd_test_site);
    check_site(&o, 1, (uint64_t)(uintptr_t)cprofd_test_site - own->start + own->offset, "nop");
    free(o.body);
}
END_TEST

START_TEST(test_probe_errors_help)
{
    static const struct {
        const char *path; /* NULL: the C library */
        struct worker_probe probe;
        int error;
        const char *message;
    } cases[] = {
        {NULL, {.symbol = "no_such_function"}, -ENOENT, "no_such_function: the file has no such function"},
        {NULL, {.symbol = "malloc", .offset = 1 << 30}, -ERANGE, "outside of the function"},
        {"/proc/self/exe", {.symbol = "cprofd_test_probed", .offset = 4}, -EILSEQ, "no instruction begins at that offset"},
        {"/proc/self/exe", {.symbol = "cprofd_test_probed", .offset = 5, .result = 1}, -ENODATA, "there is no ret at that offset"},
        {NULL, {.symbol = "libc:nothing", .usdt = 1}, -ENOENT, "no such USDT probe"},
        {NULL, {.symbol = "nocolon", .usdt = 1}, -ENOENT, "no such USDT probe"},
        {"/etc/passwd", {.symbol = "malloc"}, -ENOEXEC, "not an ELF file"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct outcome o = probe(cases[i].path ? cases[i].path : libc_path(), cases[i].probe);
        ck_assert_int_eq(o.error, cases[i].error);
        ck_assert_msg(strstr(o.message, cases[i].message) != NULL, "%s", o.message);
    }
}
END_TEST

START_TEST(test_table_of_a_program)
{
    const struct raw_mapping *own = build_own(&b, (void *)sampled_function);
    struct outcome o = table("/proc/self/exe");
    ck_assert_msg(o.error == 0, "%s", o.message);
    ck_assert_int_eq(unwind_image_check(o.body, o.len), 0);
    ck_assert_uint_gt(o.result.cpu_ns, 0);
    uint64_t entry = (uint64_t)(uintptr_t)sampled_function - own->start + own->offset;
    struct unwind_rule rule = unwind_image_find(o.body, entry);
    ck_assert_uint_eq(UNWIND_CFA_KIND(rule.cfa), UNWIND_CFA_REGISTER); /* the stack pointer and a return address, at its first instruction */
    free(o.body);
    o = table("/etc/passwd");
    ck_assert_int_eq(o.error, -ENOEXEC);
    ck_assert_int_eq(o.result.blame, WORKER_BLAME_NOTHING);
    o = table("/dev/null");
    ck_assert_int_eq(o.error, -ENOEXEC);
    ck_assert_uint_eq(restarts(), 0);
}
END_TEST

/* A file that is cut off while the worker has it mapped: SIGBUS, and another worker sees what became of it. */
START_TEST(test_a_file_cut_off_in_use_costs_its_names_only)
{
    char path[] = "/tmp/cprofd-test-XXXXXX", copy[64];
    int fd = mkostemp(path, O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    (void)snprintf(copy, sizeof(copy), "cp /proc/%d/exe %s", (int)getpid(), path);
    ck_assert_int_eq(system(copy), 0);
    struct raw_mapping *own = build_own(&b, (void *)sampled_function);
    own->object = build_object(&b, path);
    build_user(&b, (uint64_t[]){SAMPLED}, 1, STACK_END_ROOT, 1);
    b.params.symbolize = RAW_SYMBOLIZE_FAST; /* so that the rest of the file is yet unread */
    struct outcome o = render_fd(build_finish(&b));
    ck_assert_int_eq(o.error, 0);
    free(o.body);
    ck_assert_int_eq(ftruncate(fd, 64), 0);
    b.params.symbolize = RAW_SYMBOLIZE_FULL;
    o = render_fd(build_finish(&b));
    ck_assert_msg(o.error == 0, "%s", o.message);
    Perftools__Profiles__Profile *pb = reader_decode(o.body, o.len);
    ck_assert_ptr_nonnull(strstr(name_of(pb, 0, 0), "+0x"));
    ck_assert_ptr_nonnull(strstr(comment_of(pb, "cprofd.unavailable="), ": changed since it was mapped"));
    ck_assert_uint_eq(restarts(), 1);
    reader_free(pb);
    free(o.body);
    close(fd);
    unlink(path);
}
END_TEST

/* The small program with some bytes changed: others for each seed, the same ones in every run. */
static void write_broken_program(const char *path, unsigned seed)
{
    static uint8_t data[1 << 20];
    FILE *in = fopen(small_program, "re"), *out = fopen(path, "we");
    ck_assert(in && out);
    size_t len = fread(data, 1, sizeof(data), in);
    ck_assert_uint_gt(len, 4096);
    srandom(seed);
    for (size_t i = 0; i < len / 256; i++)
        data[(size_t)random() % len] = (uint8_t)random();
    for (int i = 0; i < 8; i++) /* headers decide about all the rest; the magic number stays */
        data[seed % 2 ? len - 1 - (size_t)random() % 2048 : 16 + (size_t)random() % 1024] ^= (uint8_t)random();
    ck_assert_uint_eq(fwrite(data, 1, len, out), len);
    fclose(in);
    fclose(out);
}

/* The worker survives, or dies alone: the reply comes all the same. */
START_TEST(test_broken_files)
{
    char path[] = "/tmp/cprofd-test-XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    close(fd);
    write_broken_program(path, (unsigned)_i);
    build_mapping(&b, 0x10000, 0x10000 + (1 << 20), 0, build_object(&b, path))->main_binary = 1;
    uint64_t frames[512];
    for (uint64_t i = 0; i < 512; i++)
        frames[i] = 0x10000 + i * 61;
    build_user(&b, frames, 512, STACK_END_ROOT, 1);
    struct outcome o = render_fd(build_finish(&b));
    ck_assert_msg(o.error == 0, "%s", o.message);
    Perftools__Profiles__Profile *pb = reader_decode(o.body, o.len);
    reader_check(pb);
    ck_assert_uint_eq(pb->sample[0]->n_location_id, 512);
    ck_assert_uint_le(restarts(), 1); /* once is enough to leave it out */
    reader_free(pb);
    free(o.body);
    o = probe(path, (struct worker_probe){.symbol = "main"});
    free(o.body);
    o = table(path);
    if (o.error == 0)
        ck_assert_int_eq(unwind_image_check(o.body, o.len), 0);
    free(o.body);
    unlink(path);
}
END_TEST

START_TEST(test_wrong_arguments)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        close(2);
        execl(real_worker, "cprofd", "--role=worker", NULL);
        _exit(99);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(WEXITSTATUS(status), 2);
}
END_TEST

int main(int argc, char **argv)
{
    if (argc != 3)
        return EXIT_FAILURE;
    real_worker = argv[1];
    small_program = argv[2];
    Suite *suite = suite_create("worker");
    TCase *tc = tcase_create("worker");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, test_a_profile_of_this_process);
    tcase_add_test(tc, test_malformed_input_is_an_error);
    tcase_add_test(tc, test_probe_places);
    tcase_add_test(tc, test_probe_errors_help);
    tcase_add_test(tc, test_table_of_a_program);
    tcase_add_test(tc, test_a_file_cut_off_in_use_costs_its_names_only);
    tcase_add_loop_test(tc, test_broken_files, 0, 40);
    tcase_add_test(tc, test_wrong_arguments);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
