/* Opens the events, from the most that the kernel may allow to the least. Owns what it collects in struct copy_events. */
#include "bpf/copy_events.h"

#include <bpf/libbpf.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "bpf/copy_ring.h"
#include "util/cleanup.h"
#include "util/clock.h"

/* A ring's data, and those of all CPUs together. An unprivileged user may lock 512 KiB and a page for each CPU by default
 * (kernel.perf_event_mlock_kb): of halves, the first that is granted is taken. */
#define RING_MOST_BYTES (1u << 22)
#define RING_LEAST_BYTES (1u << 17)
#define RINGS_MOST_BYTES (1u << 25)
/* Threads may start while others are being looked at. */
#define THREAD_ROUNDS 8
#define MAX_THREADS 65536

static void cleanup_dir(DIR **d)
{
    if (*d)
        (void)closedir(*d);
}

void copy_events_attr(const struct copy_request *q, size_t i, enum copy_reach reach, struct perf_event_attr *ret)
{
    bool bound = reach != COPY_REACH_HOST, first = i == 0, software = q->type == PERF_TYPE_SOFTWARE;

    *ret = (struct perf_event_attr){
        .type = q->type, .size = sizeof(*ret), .config = q->config, .sample_period = q->periods[i],
        .sample_type = copy_ring_sample_type(q->kernel), .sample_regs_user = copy_ring_registers(), .sample_stack_user = q->stack_bytes,
        .exclude_callchain_user = 1, .exclude_hv = 1, .sample_id_all = 1, .use_clockid = 1, .clockid = CLOCK_MONOTONIC,
        .watermark = 1, .wakeup_watermark = 1, .inherit = bound, .inherit_thread = bound,
        /* Time in the kernel is the caller's, whether its frames are wanted or not. */
        .exclude_kernel = reach == COPY_REACH_USER || (!software && !q->kernel),
        /* What happens beside samples is told once. */
        .comm = first, .comm_exec = first, .task = first, .mmap = first, .disabled = !first,
    };
}

/* ---- rings */

static size_t ring_most_bytes(void)
{
    size_t bytes = RING_MOST_BYTES;
    while (bytes > RING_LEAST_BYTES && bytes * (size_t)libbpf_num_possible_cpus() > RINGS_MOST_BYTES)
        bytes /= 2;
    return bytes;
}

/* All rings are as large as the first. */
static int ring_map(struct copy_events *e, int fd)
{
    size_t page_size = (size_t)sysconf(_SC_PAGESIZE);
    size_t most = e->ring_bytes ? e->ring_bytes : ring_most_bytes(), least = e->ring_bytes ? e->ring_bytes : RING_LEAST_BYTES;

    for (size_t bytes = most; bytes >= least; bytes /= 2) {
        void *page = mmap(NULL, page_size + bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (page != MAP_FAILED) {
            e->ring_bytes = bytes;
            e->rings[e->n_rings] = fd;
            e->pages[e->n_rings++] = page;
            return 0;
        }
    }
    return errno == EPERM || errno == ENOMEM ? -ENOBUFS : -errno;
}

static int event_open(const struct perf_event_attr *attr, pid_t tid, int cpu)
{
    struct perf_event_attr old = *attr;
    int fd = (int)syscall(SYS_perf_event_open, attr, tid, cpu, -1, PERF_FLAG_FD_CLOEXEC);

    if (fd < 0 && attr->inherit_thread && (errno == EINVAL || errno == E2BIG)) { /* before Linux 5.13; the reader knows processes apart */
        old.inherit_thread = 0;
        fd = (int)syscall(SYS_perf_event_open, &old, tid, cpu, -1, PERF_FLAG_FD_CLOEXEC);
    }
    return fd < 0 ? -errno : fd;
}

/* One thread's events (-1: all threads') on one CPU. ring: the CPU's; -1: it has none yet. */
static int events_open_on(const struct copy_request *q, struct copy_events *e, pid_t tid, int cpu, int ring)
{
    for (size_t i = 0; i < q->n_periods; i++) {
        struct perf_event_attr attr;
        copy_events_attr(q, i, e->reach, &attr);
        int fd = event_open(&attr, tid, cpu);
        int r = fd < 0 ? fd : attach_keep(&e->events[i], fd);
        if (r < 0)
            return r;
        if (ring < 0) {
            r = ring_map(e, fd);
            ring = fd;
        } else if (ioctl(fd, PERF_EVENT_IOC_SET_OUTPUT, ring) < 0) {
            r = -errno;
        }
        if (r < 0)
            return r;
    }
    return 0;
}

/* Opens a thread's events on each CPU that is online. The first thread's rings are everybody's. */
static int events_open(const struct copy_request *q, struct copy_events *e, pid_t tid)
{
    int cpus = libbpf_num_possible_cpus();
    bool first = e->n_rings == 0;
    size_t ring = 0;

    for (int cpu = 0; cpu < cpus; cpu++) {
        int r = events_open_on(q, e, tid, cpu, first ? -1 : ring < e->n_rings ? e->rings[ring] : -1);
        if (r == -ENODEV)
            continue;
        if (r < 0)
            return r;
        ring++;
    }
    return ring > 0 ? 0 : -ENODEV;
}

/* ---- threads */

static bool name_known(const struct copy_events *e, uint32_t tid)
{
    for (size_t i = 0; i < e->n_names; i++)
        if (e->names[i].tid == tid)
            return true;
    return false;
}

static int name_add(struct copy_events *e, uint32_t tid, int task_dir)
{
    char path[64];
    struct copy_name *grown = reallocarray(e->names, e->n_names + 1, sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    e->names = grown;
    struct copy_name *name = &e->names[e->n_names++];
    *name = (struct copy_name){.tid = tid};
    (void)snprintf(path, sizeof(path), "%u/comm", tid);
    AUTO_CLOSE int fd = openat(task_dir, path, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 ? 0 : read(fd, name->comm, sizeof(name->comm));
    if (len > 0 && name->comm[len - 1] == '\n')
        name->comm[len - 1] = '\0';
    return 0;
}

/* Calls fn for each thread of the target that was not known so far. How many there were, or -errno. */
static int threads_new(const struct copy_request *q, struct copy_events *e, int (*fn)(const struct copy_request *, struct copy_events *, pid_t))
{
    char path[64];
    struct dirent *entry;
    int found = 0;

    (void)snprintf(path, sizeof(path), "/proc/%d/task", q->pid);
    CLEANUP(cleanup_dir) DIR *dir = opendir(path);
    if (!dir)
        return errno == ENOENT ? -ESRCH : -errno;
    while ((entry = readdir(dir))) {
        uint32_t tid = isdigit((unsigned char)entry->d_name[0]) ? (uint32_t)atoi(entry->d_name) : 0;
        if (tid == 0 || name_known(e, tid))
            continue;
        if (e->n_names == MAX_THREADS)
            return -E2BIG;
        int r = fn ? fn(q, e, (pid_t)tid) : 0;
        if (r == 0)
            r = name_add(e, tid, dirfd(dir));
        if (r < 0 && r != -ESRCH) /* that thread has ended */
            return r;
        found += r == 0;
    }
    return found;
}

/* A thread that the rings tell of was started by one that has events, and inherited them. */
static void thread_inherited(const struct copy_item *item, void *userdata)
{
    struct copy_events *e = userdata;
    if (item->type == COPY_ITEM_FORK && !name_known(e, item->tid)) {
        char path[64];
        (void)snprintf(path, sizeof(path), "/proc/%u/task", item->pid);
        AUTO_CLOSE int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        (void)name_add(e, item->tid, dir);
    }
}

static int bound_open(const struct copy_request *q, struct copy_events *e)
{
    for (unsigned round = 0; round < THREAD_ROUNDS; round++) {
        int found = threads_new(q, e, events_open);
        if (found <= 0)
            return found < 0 ? found : e->n_rings > 0 ? 0 : -ESRCH;
        for (size_t i = 0; i < e->n_rings; i++)
            copy_ring_peek(e->pages[i], e->ring_bytes, q->kernel, thread_inherited, e);
    }
    return 0;
}

/* ---- all */

static int reach_open(const struct copy_request *q, enum copy_reach reach, struct copy_events *e)
{
    int cpus = libbpf_num_possible_cpus();
    if (cpus < 0)
        return cpus;
    *e = (struct copy_events){.reach = reach, .ring_bytes = e->ring_bytes};
    e->rings = calloc((size_t)cpus, sizeof(*e->rings));
    e->pages = calloc((size_t)cpus, sizeof(*e->pages));
    if (!e->rings || !e->pages)
        return -ENOMEM;
    if (reach != COPY_REACH_HOST)
        return bound_open(q, e);
    int r = events_open(q, e, -1);
    if (r < 0)
        return r;
    r = threads_new(q, e, NULL);
    return r < 0 ? r : 0;
}

/* The events of further periods begin to tick at random times after the first ones, which do already. */
static int events_start(const struct copy_request *q, const struct copy_events *e)
{
    uint64_t begin_ns = monotonic_ns(), longest_ns = 0, random;

    for (size_t i = 0; i < q->n_periods; i++) {
        longest_ns = q->periods[i] > longest_ns ? q->periods[i] : longest_ns;
        if (getrandom(&random, sizeof(random), 0) < 0)
            return -errno;
        if (i > 0)
            monotonic_sleep_until(begin_ns + (i - 1) * q->periods[i] / (q->n_periods - 1) + random % (q->periods[i] / (q->n_periods - 1)));
        for (size_t k = 0; i > 0 && k < e->events[i].n_fds; k++)
            if (ioctl(e->events[i].fds[k], PERF_EVENT_IOC_ENABLE, 0) < 0)
                return -errno;
    }
    if (q->n_periods > 1)
        monotonic_sleep_until(begin_ns + longest_ns);
    return 0;
}

/* Where the first rings took what memory may be locked, all are made smaller. */
static int reach_open_smaller(const struct copy_request *q, enum copy_reach reach, struct copy_events *e)
{
    int r = reach_open(q, reach, e);

    while (r == -ENOBUFS && e->ring_bytes > RING_LEAST_BYTES) {
        size_t bytes = e->ring_bytes / 2;
        copy_events_close(e);
        e->ring_bytes = bytes;
        r = reach_open(q, reach, e);
    }
    return r;
}

int copy_events_open(const struct copy_request *q, struct copy_events *e)
{
    static const enum copy_reach reaches[] = {COPY_REACH_HOST, COPY_REACH_TARGET, COPY_REACH_USER};
    int r = -EACCES;

    for (size_t i = 0; i < sizeof(reaches) / sizeof(reaches[0]) && (r == -EACCES || r == -EPERM); i++) {
        if (reaches[i] == COPY_REACH_USER && q->kernel)
            break;
        copy_events_close(e);
        r = reach_open_smaller(q, reaches[i], e);
    }
    return r < 0 ? r : events_start(q, e);
}

int copy_events_probe(void)
{
    const struct copy_request q = {.type = PERF_TYPE_SOFTWARE, .config = PERF_COUNT_SW_CPU_CLOCK, .periods = {NSEC_PER_SEC}, .n_periods = 1,
                                   .stack_bytes = 4096};
    struct perf_event_attr attr;

    copy_events_attr(&q, 0, COPY_REACH_USER, &attr);
    AUTO_CLOSE int fd = event_open(&attr, 0, -1);
    return fd < 0 ? fd : 0;
}

void copy_events_close(struct copy_events *e)
{
    size_t page_size = (size_t)sysconf(_SC_PAGESIZE);

    while (e->n_rings > 0)
        (void)munmap(e->pages[--e->n_rings], page_size + e->ring_bytes);
    for (size_t i = 0; i < CPROFD_TIMERS_PER_CPU; i++) {
        while (e->events[i].n_fds > 0)
            (void)close(e->events[i].fds[--e->events[i].n_fds]);
        free(e->events[i].fds);
    }
    free(e->rings);
    free(e->pages);
    free(e->names);
    *e = (struct copy_events){0};
}
