/* The BPF programs for real, without a daemon: a child burns CPU time, and what was sampled agrees with the kernel's clock of it. Needs
 * CAP_BPF and CAP_PERFMON; skipped with the reason where BPF can't be loaded. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <check.h>
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bpf/attach.h"
#include "bpf/sampler.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define MAX_KEYS 4096

static struct sampler sampler;

static pid_t start_burner(void)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nobody behind who takes a CPU from all others */
    for (volatile unsigned long x = 0;; x++)
        ;
}

static uint64_t cpu_of(pid_t pid)
{
    clockid_t id;
    ck_assert_int_eq(clock_getcpuclockid(pid, &id), 0);
    return clock_ns(id);
}

static void fill_ctl(uint32_t slot, pid_t pid, uint64_t period_ns)
{
    struct session_ctl *ctl = &sampler.ctl[slot];
    uint32_t instance = ctl->instance;
    memset(ctl, 0, sizeof(*ctl));
    ctl->instance = instance + 1;
    ctl->tgid = (uint32_t)pid;
    ctl->weight = period_ns;
    ctl->every = 1;
    ctl->state = SESSION_ARMED;
}

/* Sums of a finished session's table, and the tick at which its ring began. */
static void read_counts(const struct attachment *a, uint64_t *ret_samples, uint64_t *ret_weight)
{
    static struct sample_key keys[MAX_KEYS];
    static struct sample_value values[MAX_KEYS];
    uint32_t position, n = MAX_KEYS;

    int r = bpf_map_lookup_batch(a->counts_fd, NULL, &position, keys, values, &n, NULL);
    ck_assert(r == 0 || r == -ENOENT);
    *ret_samples = *ret_weight = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (keys[i].tgid == 0)
            continue;
        *ret_samples += values[i].samples;
        *ret_weight += values[i].weight;
    }
}

/* What an attacher does while a window is open. */
static void hold(struct attachment *a, uint64_t end_ns)
{
    uint32_t renewals = 0;

    for (;;) {
        uint64_t next_ns = attach_renewal_ns(a), until_ns = next_ns < end_ns ? next_ns : end_ns;
        struct timespec ts = {(time_t)(until_ns / NSEC_PER_SEC), (long)(until_ns % NSEC_PER_SEC)};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
        if (until_ns == end_ns)
            break;
        attach_renew(a);
        ck_assert_uint_gt(attach_renewal_ns(a), next_ns);
        renewals++;
    }
    ck_assert_uint_gt(renewals, 0);
}

/* Samples pid for a while, and checks the time sampled against its clock: within 5 sigma of what uniformly placed ticks can
 * differ by. A window of n periods holds n ticks plus or minus one for each timer and CPU. */
static void check_total(pid_t pid, uint64_t period_ns, uint64_t window_ns)
{
    struct attachment a = ATTACHMENT_INIT;
    uint64_t samples, weight;

    fill_ctl(0, pid, period_ns);
    ck_assert_int_eq(attach_maps(&sampler, 0, MAX_KEYS, 1 << 20, &a), 0);
    ck_assert_int_eq(attach_timers(&sampler, 0, &a), 0);
    uint64_t before = cpu_of(pid);
    sampler.ctl[0].opened_ns = monotonic_ns();
    sampler.ctl[0].state = SESSION_OPEN;
    hold(&a, sampler.ctl[0].opened_ns + window_ns);
    sampler.ctl[0].state = SESSION_CLOSED;
    uint64_t actual = cpu_of(pid) - before;
    attach_end(&sampler, 0, &a);
    read_counts(&a, &samples, &weight);
    double error = fabs((double)weight - (double)actual) / (double)period_ns;
    fprintf(stderr, "period %g ms: %llu samples, %.1f ms sampled, %.1f ms actual, late %.1f ms, overhead %.0f ns a sample\n", (double)period_ns / 1e6,
            (unsigned long long)samples, (double)weight / 1e6, (double)actual / 1e6, (double)sampler.ctl[0].late_weight / 1e6,
            (double)sampler.ctl[0].overhead_ns / (double)(samples ? samples : 1));
    ck_assert_double_le(error, 5 * sqrt((double)actual / (double)period_ns) + 5);
    ck_assert_uint_eq(sampler.ctl[0].lost_ring + sampler.ctl[0].lost_nested, 0);
    close_fd(&a.counts_fd);
    close_fd(&a.records_fd);
    sampler.ctl[0].state = SESSION_FREE;
}

START_TEST(test_total_agrees_with_the_clock)
{
    pid_t pid = start_burner();
    check_total(pid, 10 * NSEC_PER_MSEC, NSEC_PER_SEC);
    check_total(pid, NSEC_PER_MSEC, NSEC_PER_SEC / 2);
    check_total(pid, 100000, NSEC_PER_SEC / 2);
    check_total(pid, 100 * NSEC_PER_MSEC, NSEC_PER_SEC);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}
END_TEST

/* What it maps executable, in pages. */
static uint64_t code_of(pid_t pid)
{
    char path[64], line[256];
    uint64_t kib, sum = 0;

    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    FILE *status = fopen(path, "re");
    ck_assert_ptr_nonnull(status);
    while (fgets(line, sizeof(line), status))
        if (sscanf(line, "VmExe: %lu kB", &kib) == 1 || sscanf(line, "VmLib: %lu kB", &kib) == 1)
            sum += kib;
    fclose(status);
    return sum * 1024 / (uint64_t)sysconf(_SC_PAGESIZE);
}

/* How many epochs begin in a process that maps no more code, by what was listed before its first sample. */
static uint32_t epochs_from(pid_t pid, uint64_t listed_vm)
{
    struct attachment a = ATTACHMENT_INIT;

    fill_ctl(0, pid, NSEC_PER_MSEC);
    sampler.ctl[0].listed_vm = listed_vm;
    ck_assert_int_eq(attach_maps(&sampler, 0, MAX_KEYS, 1 << 20, &a), 0);
    ck_assert_int_eq(attach_timers(&sampler, 0, &a), 0);
    sampler.ctl[0].opened_ns = monotonic_ns();
    sampler.ctl[0].state = SESSION_OPEN;
    while (__atomic_load_n(&sampler.ctl[0].samples, __ATOMIC_ACQUIRE) < 3)
        usleep(1000);
    sampler.ctl[0].state = SESSION_CLOSED;
    attach_end(&sampler, 0, &a);
    close_fd(&a.counts_fd);
    close_fd(&a.records_fd);
    sampler.ctl[0].state = SESSION_FREE;
    return sampler.ctl[0].epoch;
}

/* Code that is mapped after the list was made, and before the first sample, is in no list. */
START_TEST(test_first_sample_follows_the_list)
{
    pid_t pid = start_burner();

    ck_assert_uint_gt(code_of(pid), 1);
    ck_assert_uint_eq(epochs_from(pid, code_of(pid)), 0);
    ck_assert_uint_eq(epochs_from(pid, code_of(pid) - 1), 1);
    ck_assert_uint_eq(epochs_from(pid, 0), 0); /* not known */
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}
END_TEST

static void *burn(void *ms)
{
    uint64_t end = clock_ns(CLOCK_THREAD_CPUTIME_ID) + (uintptr_t)ms * NSEC_PER_MSEC;
    while (clock_ns(CLOCK_THREAD_CPUTIME_ID) < end)
        ;
    return NULL;
}

/* Long and short threads, some gone before the process ends, and a main thread that ends first. */
static void run_threads(void)
{
    pthread_t t[3];
    for (int i = 0; i < 20; i++) {
        pthread_create(&t[0], NULL, burn, (void *)2);
        pthread_join(t[0], NULL);
    }
    for (int i = 0; i < 3; i++)
        pthread_create(&t[i], NULL, burn, (void *)(uintptr_t)(60 + 20 * i));
    burn((void *)30);
    pthread_exit(NULL);
}

static int on_notice(void *arg, void *data, size_t len)
{
    const struct session_notice *notice = data;
    if (notice->type == NOTICE_EXIT && notice->slot == 1)
        *(struct session_notice *)arg = *notice;
    return 0;
}

/* The last exit closes the window and says what the process used in all, as the kernel's own accounting has it. */
START_TEST(test_watch_closes_at_exit)
{
    struct session_notice notice = {0};
    struct rusage usage;
    int go[2];
    ck_assert_int_eq(pipe(go), 0);
    pid_t pid = fork();
    if (pid == 0) {
        (void)!read(go[0], &(char){0}, 1);
        run_threads();
    }
    fill_ctl(1, pid, NSEC_PER_MSEC);
    sampler.ctl[1].state = SESSION_OPEN;
    struct ring_buffer *ring = ring_buffer__new(sampler.notices_map, on_notice, &notice, NULL);
    ck_assert_ptr_nonnull(ring);
    ck_assert_int_eq(sampler_watch(&sampler), 0);
    ck_assert_int_eq(sampler_target_add(&sampler, 1), 0);
    ck_assert_int_eq(write(go[1], "x", 1), 1);
    ck_assert_int_eq(wait4(pid, NULL, 0, &usage), pid);
    ck_assert_int_ge(ring_buffer__consume(ring), 1);
    ring_buffer__free(ring);
    ck_assert_uint_eq(sampler.ctl[1].state, SESSION_CLOSED);
    ck_assert_uint_ne(sampler.ctl[1].closed_ns, 0);
    ck_assert_uint_eq(notice.type, NOTICE_EXIT);
    double total_ms = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e3 +
                      (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e3;
    fprintf(stderr, "used %.1f ms, the watch says %.1f ms\n", total_ms, (double)notice.runtime_ns / 1e6);
    /* Of each of the last threads, the part since the last tick may be on one side only. */
    ck_assert_double_le(fabs(total_ms - (double)notice.runtime_ns / 1e6), 25);
    sampler_target_remove(&sampler, 1);
    sampler_unwatch(&sampler);
    ck_assert_int_eq(sampler.exit_link, -1);
    sampler.ctl[1].state = SESSION_FREE;
    close(go[0]);
    close(go[1]);
}
END_TEST

START_TEST(test_no_such_event)
{
    struct attachment a = ATTACHMENT_INIT;
    fill_ctl(2, getpid(), NSEC_PER_MSEC);
    ck_assert_int_eq(attach_maps(&sampler, 2, 16, 4096, &a), 0);
    ck_assert_uint_eq(attach_renewal_ns(&a), UINT64_MAX);
    attach_renew(&a);
    ck_assert_int_lt(attach_perf(&sampler, 2, 4 /* PERF_TYPE_RAW */, ~0ull, 10000, false, &a), 0);
    ck_assert_int_eq(attach_tracepoint(&sampler, 2, "sched", "no_such_tracepoint", &a), -ENOENT);
    ck_assert_int_eq(attach_tracepoint(&sampler, 2, "..", "x", &a), -ENOENT);
    attach_end(&sampler, 2, &a);
    close_fd(&a.counts_fd);
    close_fd(&a.records_fd);
    sampler.ctl[2].state = SESSION_FREE;
}
END_TEST

int main(void)
{
    char error[512];
    if (sampler_open(&sampler, error, sizeof(error)) < 0) {
        fprintf(stderr, "skipped: %s\n", error);
        return 77; /* meson: skipped */
    }
    Suite *suite = suite_create("sampler");
    TCase *tc = tcase_create("sampler");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, test_total_agrees_with_the_clock);
    tcase_add_test(tc, test_first_sample_follows_the_list);
    tcase_add_test(tc, test_watch_closes_at_exit);
    tcase_add_test(tc, test_no_such_event);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    sampler_close(&sampler);
    sampler_close(&sampler);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
