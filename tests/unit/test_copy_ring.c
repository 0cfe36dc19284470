/* Events that copy, and the reader of their rings: records made by hand, and a thread of this very process, with and without
 * privileges. */
#include <check.h>
#include <errno.h>
#include <linux/perf_event.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bpf/copy_events.h"
#include "bpf/copy_ring.h"
#include "util/clock.h"

#ifdef __x86_64__
#define N_REGISTERS 17
#define SP 7
#define PC 16
#else
#define N_REGISTERS 33
#define SP 31
#define PC 32
#endif
#define NOBODY 65534

/* ---- records made by hand */

struct record {
    uint64_t words[512];
    size_t n;
};

static void begin(struct record *r, uint32_t type, uint16_t misc)
{
    struct perf_event_header header = {.type = type, .misc = misc};
    *r = (struct record){.n = 1};
    memcpy(r->words, &header, sizeof(header));
}

static void put(struct record *r, uint64_t word)
{
    r->words[r->n++] = word;
}

static void put_pair(struct record *r, uint32_t first, uint32_t second)
{
    put(r, first | (uint64_t)second << 32);
}

static void end(struct record *r, bool trailer)
{
    struct perf_event_header header;
    if (trailer) {
        put_pair(r, 7, 8);
        put(r, 555);
    }
    memcpy(&header, r->words, sizeof(header));
    header.size = (uint16_t)(8 * r->n);
    memcpy(r->words, &header, sizeof(header));
}

static bool parse(const struct record *r, bool kernel, struct copy_item *ret)
{
    return copy_item_parse(r->words, 8 * r->n, kernel, ret);
}

/* No part of it is taken for the whole. */
static void check_cut(const struct record *r, bool kernel)
{
    struct copy_item item;
    for (size_t len = 0; len < 8 * r->n; len++)
        ck_assert_msg(!copy_item_parse(r->words, len, kernel, &item), "%zu bytes of %zu", len, 8 * r->n);
}

static void build_sample(struct record *r, size_t n_kernel, uint64_t abi, size_t stack_words, uint64_t used)
{
    begin(r, PERF_RECORD_SAMPLE, 0);
    put_pair(r, 10, 11);
    put(r, 1234);
    put(r, 4567);
    if (n_kernel > 0) {
        put(r, n_kernel);
        put(r, (uint64_t)PERF_CONTEXT_KERNEL);
        for (size_t i = 1; i < n_kernel; i++)
            put(r, 0xffffffff81000000 + i);
    }
    put(r, abi);
    for (size_t i = 0; abi && i < N_REGISTERS; i++)
        put(r, 100 + i);
    put(r, 8 * stack_words);
    for (size_t i = 0; i < stack_words; i++)
        put(r, i);
    if (stack_words > 0)
        put(r, used);
    end(r, false);
}

START_TEST(test_sample)
{
    struct record r;
    struct copy_item item;

    build_sample(&r, 0, PERF_SAMPLE_REGS_ABI_64, 4, 24);
    ck_assert(parse(&r, false, &item));
    ck_assert_int_eq(item.type, COPY_ITEM_SAMPLE);
    ck_assert(item.pid == 10 && item.tid == 11 && item.time_ns == 1234 && item.period == 4567);
    ck_assert(item.has_registers && item.stack_len == 24 && item.stack[8] == 1 && item.n_kernel == 0);
    uint64_t sum = 0;
    for (size_t i = 0; i < N_REGISTERS; i++)
        sum += item.registers[i];
    ck_assert_uint_eq(sum, 100 * N_REGISTERS + N_REGISTERS * (N_REGISTERS - 1) / 2);
#ifdef __x86_64__ /* AX, BX, CX, DX, SI, DI, BP, SP, IP, R8...: DWARF has them in another order */
    ck_assert(item.registers[1] == 103 && item.registers[3] == 101 && item.registers[SP] == 107 && item.registers[PC] == 108);
    ck_assert(item.registers[8] == 109 && item.registers[15] == 116);
#endif
    check_cut(&r, false);
}
END_TEST

START_TEST(test_sample_with_kernel_frames)
{
    struct record r;
    struct copy_item item;

    build_sample(&r, 3, PERF_SAMPLE_REGS_ABI_64, 2, 16);
    ck_assert(parse(&r, true, &item));
    ck_assert_uint_eq(item.n_kernel, 2); /* without the mark */
    ck_assert_uint_eq(item.kernel[0], 0xffffffff81000001);
    ck_assert(item.has_registers && item.stack_len == 16);
    check_cut(&r, true);
    build_sample(&r, 200, PERF_SAMPLE_REGS_ABI_64, 0, 0);
    ck_assert(parse(&r, true, &item));
    ck_assert_uint_eq(item.n_kernel, CPROFD_MAX_KERNEL_FRAMES);
    r.words[4] = UINT64_MAX; /* more frames than there is record */
    ck_assert(!parse(&r, true, &item));
}
END_TEST

START_TEST(test_sample_without_a_user_stack)
{
    struct record r;
    struct copy_item item;

    build_sample(&r, 0, PERF_SAMPLE_REGS_ABI_NONE, 0, 0);
    ck_assert(parse(&r, false, &item));
    ck_assert(!item.has_registers && item.stack_len == 0);
    build_sample(&r, 0, PERF_SAMPLE_REGS_ABI_64, 2, 17); /* more than there is */
    ck_assert(!parse(&r, false, &item));
}
END_TEST

START_TEST(test_other_records)
{
    const struct {
        uint32_t type;
        uint16_t misc;
        enum copy_item_type item;
    } cases[] = {
        {PERF_RECORD_COMM, 0, COPY_ITEM_NAME}, {PERF_RECORD_COMM, PERF_RECORD_MISC_COMM_EXEC, COPY_ITEM_EXEC},
        {PERF_RECORD_FORK, 0, COPY_ITEM_FORK}, {PERF_RECORD_EXIT, 0, COPY_ITEM_EXIT},
        {PERF_RECORD_LOST, 0, COPY_ITEM_LOST}, {PERF_RECORD_THROTTLE, 0, COPY_ITEM_THROTTLE},
        {PERF_RECORD_UNTHROTTLE, 0, COPY_ITEM_UNTHROTTLE},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct record r;
        struct copy_item item;
        begin(&r, cases[i].type, cases[i].misc);
        put_pair(&r, 20, 21);
        memcpy(&r.words[2], "name\0\0\0\0", 8);
        if (cases[i].type != PERF_RECORD_COMM)
            r.words[2] = 22 | 23ull << 32;
        r.n = 3;
        put(&r, 9);
        end(&r, true);
        ck_assert(parse(&r, false, &item));
        ck_assert_int_eq(item.type, cases[i].item);
        ck_assert_uint_eq(item.time_ns, 555);
        if (cases[i].type == PERF_RECORD_COMM)
            ck_assert(item.pid == 20 && item.tid == 21 && strcmp(item.comm, "name") == 0);
        if (cases[i].type == PERF_RECORD_FORK)
            ck_assert(item.pid == 20 && item.tid == 22 && item.parent_tid == 23);
        if (cases[i].type == PERF_RECORD_LOST)
            ck_assert_uint_eq(item.lost, 22 | 23ull << 32);
    }
}
END_TEST

START_TEST(test_code)
{
    const struct {
        const char *name;
        bool taken;
    } cases[] = {{"/lib/a.so", true}, {"//anon", false}, {"[vdso]", false}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct record r;
        struct copy_item item;
        begin(&r, PERF_RECORD_MMAP, 0);
        put_pair(&r, 30, 31);
        for (uint64_t w = 0; w < 3; w++)
            put(&r, w);
        put(&r, 0);
        put(&r, 0);
        memcpy(&r.words[5], cases[i].name, strlen(cases[i].name));
        end(&r, true);
        ck_assert(parse(&r, false, &item) == cases[i].taken);
        if (cases[i].taken)
            ck_assert(item.type == COPY_ITEM_CODE && item.pid == 30);
    }
}
END_TEST

START_TEST(test_unknown_records)
{
    struct record r;
    struct copy_item item;
    begin(&r, 9999, 0);
    end(&r, true);
    ck_assert(!parse(&r, false, &item));
    begin(&r, PERF_RECORD_LOST, 0); /* without a trailer */
    end(&r, false);
    ck_assert(!parse(&r, false, &item));
}
END_TEST

/* ---- attributes */

START_TEST(test_attributes)
{
    const struct copy_request clock = {.type = PERF_TYPE_SOFTWARE, .config = PERF_COUNT_SW_CPU_CLOCK, .periods = {10, 20}, .n_periods = 2,
                                       .stack_bytes = 4096};
    const struct copy_request cycles = {.type = PERF_TYPE_HARDWARE, .periods = {10}, .n_periods = 1, .stack_bytes = 4096};
    struct perf_event_attr a;

    copy_events_attr(&clock, 0, COPY_REACH_HOST, &a);
    ck_assert(!a.inherit && !a.exclude_kernel && a.comm && a.mmap && a.task && a.comm_exec && !a.disabled && a.sample_period == 10);
    copy_events_attr(&clock, 1, COPY_REACH_TARGET, &a);
    ck_assert(a.inherit && a.inherit_thread && !a.exclude_kernel && !a.comm && !a.mmap && a.disabled && a.sample_period == 20);
    copy_events_attr(&clock, 0, COPY_REACH_USER, &a);
    ck_assert(a.exclude_kernel && a.exclude_callchain_user);
    copy_events_attr(&cycles, 0, COPY_REACH_HOST, &a);
    ck_assert(a.exclude_kernel);
}
END_TEST

/* ---- live */

struct seen {
    unsigned samples, others, names, forks;
    bool kernel;
};

static __attribute__((noinline)) void burn(uint64_t ns)
{
    uint64_t until = monotonic_ns() + ns;
    while (monotonic_ns() < until)
        ;
}

static void on_item(const struct copy_item *item, void *userdata)
{
    struct seen *seen = userdata;
    if (item->type == COPY_ITEM_NAME)
        seen->names += item->pid == (uint32_t)getpid() && strcmp(item->comm, "renamed") == 0;
    if (item->type == COPY_ITEM_FORK)
        seen->forks += item->pid == (uint32_t)getpid();
    if (item->type != COPY_ITEM_SAMPLE)
        return;
    seen->kernel = seen->kernel || item->n_kernel > 0;
    if (item->pid != (uint32_t)getpid() || !item->has_registers) {
        seen->others += item->pid != (uint32_t)getpid();
        return;
    }
    ck_assert(item->time_ns <= monotonic_ns());
    ck_assert_uint_gt(item->stack_len, 0);
    ck_assert_uint_gt(item->registers[SP], item->registers[SP] > UINT64_MAX - 4096 ? UINT64_MAX : 4096);
    seen->samples++;
}

static void *burn_in_thread(void *unused)
{
    (void)prctl(PR_SET_NAME, "renamed");
    burn(100 * NSEC_PER_MSEC);
    return NULL;
}

static struct copy_request own_request(bool kernel)
{
    return (struct copy_request){.pid = getpid(), .type = PERF_TYPE_SOFTWARE, .config = PERF_COUNT_SW_CPU_CLOCK,
                                 .periods = {1900000, 2000000, 2100000}, .n_periods = 3, .kernel = kernel, .stack_bytes = 8192};
}

/* Opens events on this process, uses time in it and in a thread, and reads. */
static int look_at_self(bool kernel, struct copy_events *events, struct seen *seen)
{
    struct copy_request q = own_request(kernel);
    pthread_t thread;
    struct copy_ring *rings[1024];

    int r = copy_events_open(&q, events);
    if (r < 0)
        return r;
    for (size_t i = 0; i < events->n_rings; i++)
        ck_assert_int_eq(copy_ring_new(events->rings[i], events->ring_bytes, kernel, &rings[i]), 0);
    ck_assert_int_eq(pthread_create(&thread, NULL, burn_in_thread, NULL), 0);
    for (unsigned n = 0; n < 100 && seen->samples < 40; n++) { /* until there was time enough */
        burn(20 * NSEC_PER_MSEC);
        for (size_t i = 0; i < events->n_rings; i++)
            copy_ring_read(rings[i], on_item, seen);
    }
    (void)pthread_join(thread, NULL);
    for (size_t i = 0; i < events->n_rings; i++) {
        copy_ring_read(rings[i], on_item, seen);
        copy_ring_free(rings[i]);
    }
    return 0;
}

START_TEST(test_host)
{
    struct copy_events events = {0};
    struct seen seen = {0};

    if (look_at_self(true, &events, &seen) < 0 || events.reach != COPY_REACH_HOST) {
        printf("skipped: needs CAP_PERFMON\n");
    } else {
        ck_assert_uint_ge(seen.samples, 40);
        ck_assert(seen.others > 0 && seen.names > 0 && seen.forks > 0);
        ck_assert_uint_ge(events.n_names, 1);
        ck_assert_str_eq(events.names[0].comm, "test_copy_ring");
    }
    copy_events_close(&events);
    ck_assert(events.n_rings == 0 && !events.names);
}
END_TEST

/* As a user without privileges. */
START_TEST(test_bound)
{
    struct copy_events events = {0};
    struct seen seen = {0};

    if (setresgid(NOBODY, NOBODY, NOBODY) < 0 || setresuid(NOBODY, NOBODY, NOBODY) < 0) {
        printf("skipped: needs root, to become another user\n");
        return;
    }
    (void)prctl(PR_SET_DUMPABLE, 1);
    int r = look_at_self(false, &events, &seen);
    if (r == -EACCES || r == -EPERM) {
        printf("skipped: kernel.perf_event_paranoid lets nobody use perf events\n");
        return;
    }
    ck_assert_int_eq(r, 0);
    ck_assert_uint_ge(seen.samples, 40);
    if (events.reach != COPY_REACH_HOST)
        ck_assert_uint_eq(seen.others, 0);
    ck_assert(seen.names > 0 && seen.forks > 0); /* the thread that began meanwhile */
    copy_events_close(&events);
    struct copy_request q = own_request(true);
    r = copy_events_open(&q, &events);
    ck_assert(r == 0 || r == -EACCES);
    copy_events_close(&events);
}
END_TEST

START_TEST(test_no_such_process)
{
    struct copy_request q = own_request(false);
    struct copy_events events = {0};
    pid_t pid = fork();

    if (pid == 0)
        _exit(0);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
    q.pid = pid;
    ck_assert_int_eq(copy_events_open(&q, &events), -ESRCH);
    copy_events_close(&events);
}
END_TEST

START_TEST(test_no_such_event)
{
    struct copy_request q = own_request(false);
    struct copy_events events = {0};

    q.config = 0xffff;
    ck_assert_int_lt(copy_events_open(&q, &events), 0);
    copy_events_close(&events);
    ck_assert_int_eq(copy_events_probe(), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("copy_ring");
    TCase *c = tcase_create("all");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, test_sample);
    tcase_add_test(c, test_sample_with_kernel_frames);
    tcase_add_test(c, test_sample_without_a_user_stack);
    tcase_add_test(c, test_other_records);
    tcase_add_test(c, test_code);
    tcase_add_test(c, test_unknown_records);
    tcase_add_test(c, test_attributes);
    tcase_add_test(c, test_host);
    tcase_add_test(c, test_bound);
    tcase_add_test(c, test_no_such_process);
    tcase_add_test(c, test_no_such_event);
    suite_add_tcase(suite, c);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
