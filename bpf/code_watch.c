/* Owns an event and its ring on each CPU. */
#include "bpf/code_watch.h"

#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/perf_event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "util/cleanup.h"

#define RING_PAGES 8
#define MAX_RECORD 8192 /* a path and some fields */

struct code_ring {
    int fd;
    struct perf_event_mmap_page *page; /* the data lie behind it */
};

struct code_watch {
    code_watch_fn fn;
    void *userdata;
    size_t page_size, n;
    struct code_ring rings[];
};

/* PERF_RECORD_MMAP, as perf_event_open(2) has it. */
struct mmap_record {
    struct perf_event_header header;
    __u32 pid, tid;
    __u64 addr, len, pgoff;
    char filename[];
};

static int code_ring_open(struct code_ring *ring, int cpu, size_t page_size)
{
    struct perf_event_attr attr = {
        .type = PERF_TYPE_SOFTWARE, .size = sizeof(attr), .config = PERF_COUNT_SW_DUMMY, .mmap = 1, .watermark = 1,
        .wakeup_watermark = 1, .sample_id_all = 1, .sample_type = PERF_SAMPLE_TIME, .use_clockid = 1, .clockid = CLOCK_MONOTONIC,
    };

    ring->fd = (int)syscall(SYS_perf_event_open, &attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
    if (ring->fd < 0)
        return -errno;
    void *page = mmap(NULL, (1 + RING_PAGES) * page_size, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, 0);
    if (page == MAP_FAILED) {
        int error = errno;
        close_fd(&ring->fd);
        return -error;
    }
    ring->page = page;
    return 0;
}

int code_watch_new(code_watch_fn fn, void *userdata, struct code_watch **ret)
{
    int cpus = libbpf_num_possible_cpus();
    if (cpus < 0)
        return cpus;
    struct code_watch *w = calloc(1, sizeof(*w) + (size_t)cpus * sizeof(w->rings[0]));
    if (!w)
        return -ENOMEM;
    w->fn = fn;
    w->userdata = userdata;
    w->page_size = (size_t)sysconf(_SC_PAGESIZE);
    for (int cpu = 0; cpu < cpus; cpu++) {
        int r = code_ring_open(&w->rings[w->n], cpu, w->page_size);
        if (r == -ENODEV)
            continue; /* offline */
        if (r < 0) {
            code_watch_free(w);
            return r;
        }
        w->n++;
    }
    *ret = w;
    return 0;
}

void code_watch_free(struct code_watch *w)
{
    if (!w)
        return;
    for (size_t i = 0; i < w->n; i++) {
        (void)munmap(w->rings[i].page, (1 + RING_PAGES) * w->page_size);
        close_fd(&w->rings[i].fd);
    }
    free(w);
}

int code_watch_fd(const struct code_watch *w, size_t i)
{
    return i < w->n ? w->rings[i].fd : -1;
}

/* Copies len bytes at a position of the ring, which may wrap. */
static void code_ring_copy(const struct code_watch *w, const struct code_ring *ring, uint64_t at, void *to, size_t len)
{
    const uint8_t *data = (const uint8_t *)ring->page + w->page_size;
    size_t size = RING_PAGES * w->page_size, start = at % size;
    size_t first = len < size - start ? len : size - start;

    memcpy(to, data + start, first);
    memcpy((uint8_t *)to + first, data, len - first);
}

static void code_ring_read(struct code_watch *w, struct code_ring *ring)
{
    uint64_t head = __atomic_load_n(&ring->page->data_head, __ATOMIC_ACQUIRE), tail = ring->page->data_tail;
    union {
        struct mmap_record mmap;
        uint8_t bytes[MAX_RECORD];
    } record;

    while (tail < head) {
        uint64_t time_ns; /* the last word of each record */
        code_ring_copy(w, ring, tail, &record.mmap.header, sizeof(record.mmap.header));
        size_t len = record.mmap.header.size;
        if (len < sizeof(record.mmap.header) + sizeof(time_ns))
            break;
        code_ring_copy(w, ring, tail + len - sizeof(time_ns), &time_ns, sizeof(time_ns));
        if (record.mmap.header.type == PERF_RECORD_MMAP && len > sizeof(record.mmap) && len <= MAX_RECORD) {
            code_ring_copy(w, ring, tail, &record, len);
            struct new_code code = {
                .pid = (pid_t)record.mmap.pid, .start = record.mmap.addr, .end = record.mmap.addr + record.mmap.len, .time_ns = time_ns,
            };
            /* "//anon" and "[vdso]" are no files. */
            code.is_file = record.mmap.filename[0] == '/' && record.mmap.filename[1] != '/';
            w->fn(&code, w->userdata);
        } else if (record.mmap.header.type == PERF_RECORD_LOST) {
            w->fn(&(struct new_code){.pid = 0, .end = UINT64_MAX, .time_ns = time_ns, .is_file = true}, w->userdata);
        }
        tail += len;
    }
    __atomic_store_n(&ring->page->data_tail, head, __ATOMIC_RELEASE);
}

void code_watch_read(struct code_watch *w)
{
    for (size_t i = 0; i < w->n; i++)
        code_ring_read(w, &w->rings[i]);
}
