/* Owns an event and its ring on each CPU. No program is run: the records are read once ticks have stopped. */
#include "bpf/mode_ticks.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bpf/attach_impl.h"
#include "util/cleanup.h"

#define RING_PAGES 8

/* What PERF_SAMPLE_IP | PERF_SAMPLE_TID gives, behind the header. All is in units of 8 bytes, so that no unit wraps in the ring. */
enum { WORD_HEADER, WORD_ADDRESS, WORD_PID_TID };

struct mode_ring {
    int fd;
    struct perf_event_mmap_page *page; /* the data lie behind it */
};

struct mode_ticks {
    pid_t pid;
    size_t page_size, n;
    struct mode_ring *rings;
};

static int ring_open(int cpu, void *arg)
{
    struct mode_ticks *t = arg;
    struct mode_ring *rings = reallocarray(t->rings, t->n + 1, sizeof(*rings));
    const struct perf_event_attr attr = {
        .type = PERF_TYPE_SOFTWARE, .size = sizeof(attr), .config = PERF_COUNT_SW_CPU_CLOCK, .sample_period = MODE_TICK_NS, .disabled = 1,
        .sample_type = PERF_SAMPLE_IP | PERF_SAMPLE_TID, .exclude_idle = 1,
    };

    if (!rings)
        return -ENOMEM;
    t->rings = rings;
    AUTO_CLOSE int fd = attach_perf_open(&attr, -1, cpu);
    if (fd < 0)
        return -errno;
    void *page = mmap(NULL, (1 + RING_PAGES) * t->page_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED)
        return -errno;
    t->rings[t->n++] = (struct mode_ring){.fd = TAKE_FD(fd), .page = page};
    return 0;
}

int mode_ticks_new(pid_t pid, struct mode_ticks **ret)
{
    struct mode_ticks *t = calloc(1, sizeof(*t));

    if (!t)
        return -ENOMEM;
    t->pid = pid;
    t->page_size = (size_t)sysconf(_SC_PAGESIZE);
    int r = attach_each_cpu(ring_open, t);
    if (r < 0) {
        mode_ticks_free(t);
        return r;
    }
    *ret = t;
    return 0;
}

void mode_ticks_free(struct mode_ticks *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < t->n; i++) {
        (void)munmap(t->rings[i].page, (1 + RING_PAGES) * t->page_size);
        close_fd(&t->rings[i].fd);
    }
    free(t->rings);
    free(t);
}

void mode_ticks_start(struct mode_ticks *t)
{
    for (size_t i = 0; i < t->n; i++)
        (void)ioctl(t->rings[i].fd, PERF_EVENT_IOC_ENABLE, 0);
}

/* A place in a ring, which only the kernel writes. */
static uint64_t ring_word(const struct mode_ticks *t, const struct mode_ring *ring, uint64_t at)
{
    const uint64_t *data = (const void *)((const uint8_t *)ring->page + t->page_size);
    return data[at % (RING_PAGES * t->page_size) / sizeof(*data)];
}

static void ring_read(const struct mode_ticks *t, const struct mode_ring *ring, mode_tick_fn fn, void *userdata)
{
    uint64_t head = __atomic_load_n(&ring->page->data_head, __ATOMIC_ACQUIRE), at = ring->page->data_tail;
    union {
        uint64_t word;
        struct perf_event_header header;
    } first;
    union {
        uint64_t word;
        struct {
            uint32_t pid, tid;
        } of;
    } who;

    for (; at < head; at += first.header.size) {
        first.word = ring_word(t, ring, at + 8 * WORD_HEADER);
        if (first.header.size < sizeof(first.header))
            break;
        who.word = ring_word(t, ring, at + 8 * WORD_PID_TID);
        if (first.header.type != PERF_RECORD_SAMPLE || who.of.pid != (uint32_t)t->pid)
            continue;
        fn(&(struct mode_tick){.tid = who.of.tid, .user = (first.header.misc & PERF_RECORD_MISC_CPUMODE_MASK) == PERF_RECORD_MISC_USER,
                               .address = ring_word(t, ring, at + 8 * WORD_ADDRESS)}, userdata);
    }
    __atomic_store_n(&ring->page->data_tail, head, __ATOMIC_RELEASE);
}

void mode_ticks_stop(struct mode_ticks *t, mode_tick_fn fn, void *userdata)
{
    for (size_t i = 0; i < t->n; i++)
        (void)ioctl(t->rings[i].fd, PERF_EVENT_IOC_DISABLE, 0);
    for (size_t i = 0; i < t->n; i++)
        ring_read(t, &t->rings[i], fn, userdata);
}
