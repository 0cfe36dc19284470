/* Owns a mapping of the ring, and a buffer for records that wrap or whose stack is long. */
#include "bpf/copy_ring.h"

#include <asm/perf_regs.h>
#include <errno.h>
#include <linux/perf_event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "util/cleanup.h"

#define MAX_RECORD_BYTES 65536 /* perf_event_header.size has 16 bits */

struct copy_ring {
    struct perf_event_mmap_page *page; /* the data lie behind it */
    size_t page_size, bytes;
    bool kernel;
    uint64_t record[MAX_RECORD_BYTES / sizeof(uint64_t)];
};

/* ---- registers: the kernel's order to DWARF's */

#if defined(__x86_64__)
static const uint8_t kernel_registers[] = {
    PERF_REG_X86_AX, PERF_REG_X86_DX, PERF_REG_X86_CX, PERF_REG_X86_BX,  PERF_REG_X86_SI,  PERF_REG_X86_DI,
    PERF_REG_X86_BP, PERF_REG_X86_SP, PERF_REG_X86_R8, PERF_REG_X86_R9,  PERF_REG_X86_R10, PERF_REG_X86_R11,
    PERF_REG_X86_R12, PERF_REG_X86_R13, PERF_REG_X86_R14, PERF_REG_X86_R15, PERF_REG_X86_IP,
};
#elif defined(__aarch64__)
static const uint8_t kernel_registers[] = {
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30,
    PERF_REG_ARM64_SP, PERF_REG_ARM64_PC,
};
#endif
#define N_REGISTERS (sizeof(kernel_registers) / sizeof(kernel_registers[0]))

uint64_t copy_ring_registers(void)
{
    uint64_t mask = 0;
    for (size_t i = 0; i < N_REGISTERS; i++)
        mask |= 1ull << kernel_registers[i];
    return mask;
}

uint64_t copy_ring_sample_type(bool kernel)
{
    return PERF_SAMPLE_TID | PERF_SAMPLE_TIME | PERF_SAMPLE_PERIOD | (kernel ? PERF_SAMPLE_CALLCHAIN : 0) | PERF_SAMPLE_REGS_USER |
           PERF_SAMPLE_STACK_USER;
}

/* ---- records */

/* What is left of a record. */
struct cursor {
    const uint8_t *at;
    size_t left;
};

static bool take(struct cursor *c, void *to, size_t len)
{
    if (c->left < len)
        return false;
    if (to)
        memcpy(to, c->at, len);
    c->at += len;
    c->left -= len;
    return true;
}

/* The marks between the parts of a call chain are no frames. */
static bool parse_kernel_frames(struct cursor *c, struct copy_item *ret)
{
    uint64_t n, first;

    if (!take(c, &n, sizeof(n)) || n > c->left / sizeof(n))
        return false;
    ret->kernel = (const uint64_t *)(const void *)c->at;
    ret->n_kernel = (size_t)n;
    if (n > 0) {
        memcpy(&first, c->at, sizeof(first));
        ret->kernel += first >= (uint64_t)PERF_CONTEXT_MAX;
        ret->n_kernel -= first >= (uint64_t)PERF_CONTEXT_MAX;
    }
    (void)take(c, NULL, (size_t)n * sizeof(n));
    if (ret->n_kernel > CPROFD_MAX_KERNEL_FRAMES)
        ret->n_kernel = CPROFD_MAX_KERNEL_FRAMES;
    return true;
}

static bool parse_registers(struct cursor *c, struct copy_item *ret)
{
    uint64_t abi, mask = copy_ring_registers(), by_kernel[64];

    if (!take(c, &abi, sizeof(abi)))
        return false;
    if (abi == PERF_SAMPLE_REGS_ABI_NONE)
        return true;
    for (unsigned i = 0; i < 64; i++)
        if (mask >> i & 1 && !take(c, &by_kernel[i], sizeof(by_kernel[i])))
            return false;
    for (size_t i = 0; i < N_REGISTERS; i++)
        ret->registers[i] = by_kernel[kernel_registers[i]];
    ret->has_registers = abi == PERF_SAMPLE_REGS_ABI_64;
    return true;
}

static bool parse_stack(struct cursor *c, struct copy_item *ret)
{
    uint64_t size, used;

    if (!take(c, &size, sizeof(size)))
        return false;
    if (size == 0)
        return true;
    ret->stack = c->at;
    if (!take(c, NULL, size) || !take(c, &used, sizeof(used)) || used > size)
        return false;
    ret->stack_len = (size_t)used;
    return true;
}

static bool parse_sample(struct cursor c, bool kernel, struct copy_item *ret)
{
    ret->type = COPY_ITEM_SAMPLE;
    return take(&c, &ret->pid, 4) && take(&c, &ret->tid, 4) && take(&c, &ret->time_ns, 8) && take(&c, &ret->period, 8) &&
           (!kernel || parse_kernel_frames(&c, ret)) && parse_registers(&c, ret) && parse_stack(&c, ret);
}

/* PERF_RECORD_COMM: pid, tid, name. */
static bool parse_name(struct cursor c, uint16_t misc, struct copy_item *ret)
{
    ret->type = misc & PERF_RECORD_MISC_COMM_EXEC ? COPY_ITEM_EXEC : COPY_ITEM_NAME;
    if (!take(&c, &ret->pid, 4) || !take(&c, &ret->tid, 4))
        return false;
    size_t len = strnlen((const char *)c.at, c.left < sizeof(ret->comm) ? c.left : sizeof(ret->comm));
    memcpy(ret->comm, c.at, len);
    return true;
}

/* PERF_RECORD_FORK and EXIT: pid, ppid, tid, ptid. */
static bool parse_task(struct cursor c, enum copy_item_type type, struct copy_item *ret)
{
    ret->type = type;
    return take(&c, &ret->pid, 4) && take(&c, NULL, 4) && take(&c, &ret->tid, 4) && take(&c, &ret->parent_tid, 4);
}

/* PERF_RECORD_MMAP: pid, tid, address, length, offset, name. "//anon" and "[vdso]" are no files. */
static bool parse_code(struct cursor c, struct copy_item *ret)
{
    char name[2];

    ret->type = COPY_ITEM_CODE;
    return take(&c, &ret->pid, 4) && take(&c, &ret->tid, 4) && take(&c, NULL, 24) && take(&c, name, 2) && name[0] == '/' &&
           name[1] != '/';
}

static bool parse_lost(struct cursor c, struct copy_item *ret)
{
    ret->type = COPY_ITEM_LOST;
    return take(&c, NULL, 8) && take(&c, &ret->lost, 8);
}

static bool parse_body(const struct perf_event_header *header, struct cursor c, bool kernel, struct copy_item *ret)
{
    switch (header->type) {
    case PERF_RECORD_SAMPLE:
        return parse_sample(c, kernel, ret);
    case PERF_RECORD_COMM:
        return parse_name(c, header->misc, ret);
    case PERF_RECORD_FORK:
        return parse_task(c, COPY_ITEM_FORK, ret);
    case PERF_RECORD_EXIT:
        return parse_task(c, COPY_ITEM_EXIT, ret);
    case PERF_RECORD_MMAP:
        return parse_code(c, ret);
    case PERF_RECORD_LOST:
        return parse_lost(c, ret);
    case PERF_RECORD_THROTTLE:
        ret->type = COPY_ITEM_THROTTLE;
        return true;
    case PERF_RECORD_UNTHROTTLE:
        ret->type = COPY_ITEM_UNTHROTTLE;
        return true;
    default:
        return false;
    }
}

bool copy_item_parse(const void *data, size_t len, bool kernel, struct copy_item *ret)
{
    struct perf_event_header header;
    uint64_t trailer[2]; /* of all but samples: pid and tid, time (sample_id_all) */

    *ret = (struct copy_item){.type = COPY_ITEM_LOST};
    if (len < sizeof(header))
        return false;
    memcpy(&header, data, sizeof(header));
    struct cursor c = {(const uint8_t *)data + sizeof(header), len - sizeof(header)};
    if (header.type != PERF_RECORD_SAMPLE) {
        if (c.left < sizeof(trailer))
            return false;
        c.left -= sizeof(trailer);
        memcpy(trailer, c.at + c.left, sizeof(trailer));
        ret->time_ns = trailer[1];
    }
    return parse_body(&header, c, kernel, ret);
}

/* ---- the ring */

/* Copies len bytes at a position of the ring, which may wrap. */
static void ring_copy(const struct perf_event_mmap_page *page, size_t page_size, size_t bytes, uint64_t at, void *to, size_t len)
{
    const uint8_t *data = (const uint8_t *)page + page_size;
    size_t start = at % bytes, first = len < bytes - start ? len : bytes - start;

    memcpy(to, data + start, first);
    memcpy((uint8_t *)to + first, data, len - first);
}

/* Reads from tail on; returns where it came to. */
static uint64_t ring_walk(const struct copy_ring *r, uint64_t tail, uint64_t *record, copy_item_fn fn, void *userdata)
{
    uint64_t head = __atomic_load_n(&r->page->data_head, __ATOMIC_ACQUIRE);
    struct perf_event_header header;
    struct copy_item item;

    while (tail < head) {
        ring_copy(r->page, r->page_size, r->bytes, tail, &header, sizeof(header));
        if (header.size < sizeof(header))
            return head;
        ring_copy(r->page, r->page_size, r->bytes, tail, record, header.size);
        if (copy_item_parse(record, header.size, r->kernel, &item))
            fn(&item, userdata);
        tail += header.size;
    }
    return tail;
}

void copy_ring_read(struct copy_ring *r, copy_item_fn fn, void *userdata)
{
    uint64_t tail = ring_walk(r, r->page->data_tail, r->record, fn, userdata);
    __atomic_store_n(&r->page->data_tail, tail, __ATOMIC_RELEASE);
}

void copy_ring_peek(void *page, size_t ring_bytes, bool kernel, copy_item_fn fn, void *userdata)
{
    AUTO_FREE uint64_t *record = malloc(MAX_RECORD_BYTES);
    struct copy_ring r = {.page = page, .page_size = (size_t)sysconf(_SC_PAGESIZE), .bytes = ring_bytes, .kernel = kernel};

    if (record)
        (void)ring_walk(&r, 0, record, fn, userdata);
}

int copy_ring_new(int fd, size_t ring_bytes, bool kernel, struct copy_ring **ret)
{
    struct copy_ring *r = calloc(1, sizeof(*r));
    if (!r)
        return -ENOMEM;
    r->page_size = (size_t)sysconf(_SC_PAGESIZE);
    r->bytes = ring_bytes;
    r->kernel = kernel;
    void *page = mmap(NULL, r->page_size + ring_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED) {
        int error = errno;
        free(r);
        return -error;
    }
    r->page = page;
    *ret = r;
    return 0;
}

void copy_ring_free(struct copy_ring *r)
{
    if (!r)
        return;
    (void)munmap(r->page, r->page_size + r->bytes);
    free(r);
}
