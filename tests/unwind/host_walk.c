/* See host_walk.h. */
#include "tests/unwind/host_walk.h"

#include "bpf/stack_walk.h"

#include <errno.h>
#include <stdlib.h>

#define HOST_WALK_PAGES 256 /* of a walk; what is read beyond is not noted */

struct host_walk;
static struct host_walk *walking; /* whose surroundings the engine's questions are about */

static long stack_read(void *to, __u32 size, __u64 address);
static const __u8 *stack_chunk(__u32 place);
static int stack_register(__u32 reg, __u64 *ret);
static __u64 stack_probed_return(__u64 slot);
static struct stack_cached *stack_cache(__u32 index);

#include "bpf/stack.h"

struct host_walk {
    struct tracee *tracee;
    struct space *space;
    struct stack_walk walk;
    struct stack_cached cache[STACK_CACHE_ENTRIES];
    uint64_t pages[HOST_WALK_PAGES]; /* that were read */
    size_t n_pages;
};

static void note_page(uint64_t address)
{
    uint64_t page = address & ~(uint64_t)(TRACEE_PAGE_BYTES - 1);

    for (size_t i = walking->n_pages; i--;)
        if (walking->pages[i] == page)
            return;
    if (walking->n_pages < HOST_WALK_PAGES)
        walking->pages[walking->n_pages++] = page;
}

static long stack_read(void *to, __u32 size, __u64 address)
{
    note_page(address);
    note_page(address + size - 1);
    return tracee_read(walking->tracee, to, size, address);
}

static const __u8 *stack_chunk(__u32 place)
{
    return space_chunk(walking->space, place);
}

static int stack_register(__u32 reg, __u64 *ret)
{
    const struct user_regs_struct *regs = &walking->tracee->regs;
    const __u64 values[] = {
        regs->rax, regs->rdx, regs->rcx, regs->rbx, regs->rsi, regs->rdi, regs->rbp, regs->rsp,
        regs->r8,  regs->r9,  regs->r10, regs->r11, regs->r12, regs->r13, regs->r14, regs->r15,
    };

    if (reg >= sizeof(values) / sizeof(values[0]))
        return 0;
    *ret = values[reg];
    return 1;
}

static __u64 stack_probed_return(__u64 slot)
{
    return 0;
}

static struct stack_cached *stack_cache(__u32 index)
{
    return &walking->cache[index];
}

int host_walk_new(struct tracee *tracee, struct space *space, struct host_walk **ret_walk)
{
    struct host_walk *walk = calloc(1, sizeof(*walk));

    if (!walk)
        return -ENOMEM;
    walk->tracee = tracee;
    walk->space = space;
    *ret_walk = walk;
    return 0;
}

void host_walk_free(struct host_walk *walk)
{
    free(walk);
}

/* As sampler.bpf.c begins it. */
static void begin(struct host_walk *walk, uint32_t place)
{
    struct stack_walk *w = &walk->walk;

    w->pc = walk->tracee->regs.rip;
    w->sp = walk->tracee->regs.rsp;
    w->fp = walk->tracee->regs.rbp;
    w->space = place;
    w->by_fp = 0;
    w->registers = 0;
    w->mapping.end = 0;
    w->guessed_fp = 0;
    w->exact = 1;
    w->end = STACK_END_TOO_DEEP;
    w->n = 0;
    w->record.n_kernel = 0;
}

int host_walk_frames(struct host_walk *walk, const __u64 **ret_frames, size_t *ret_n, unsigned *ret_end)
{
    uint32_t place;
    int r = space_refresh(walk->space, &place);

    if (r)
        return r;
    walking = walk;
    walk->n_pages = 0;
    begin(walk, place);
    stack_begin(&walk->walk);
    stack_push(&walk->walk, STACK_FRAME_EXACT);
    while (stack_step(&walk->walk))
        ;
    *ret_frames = walk->walk.frames;
    *ret_n = walk->walk.n;
    *ret_end = walk->walk.end;
    return 0;
}

const struct stack_walk *host_walk_last(const struct host_walk *walk)
{
    return &walk->walk;
}

size_t host_walk_pages(const struct host_walk *walk, const uint64_t **ret_addresses)
{
    *ret_addresses = walk->pages;
    return walk->n_pages;
}

const char *host_walk_end_name(unsigned end)
{
    static const char *const names[STACK_END_COUNT] = {
        [STACK_END_ROOT] = "root", [STACK_END_UNPROVEN] = "unproven", [STACK_END_BAD_FP] = "bad frame pointer",
        [STACK_END_UNREADABLE] = "unreadable", [STACK_END_TOO_DEEP] = "too deep", [STACK_END_NO_USER] = "no user stack",
        [STACK_END_NO_CODE] = "no code", [STACK_END_NEW_CODE] = "new code", [STACK_END_NO_CFI] = "no CFI",
        [STACK_END_UNSUPPORTED] = "unsupported", [STACK_END_BAD_CFA] = "bad CFA",
    };

    return end < STACK_END_COUNT ? names[end] : "?";
}
