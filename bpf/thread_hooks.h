/* What the stack engine asks of its surroundings (bpf/stack.h), for a thread that is not the current one: the memory of its process, by its page
 * tables, and its saved registers. Included by threads.bpf.c alone, by way of program_walk.h. */
#pragma once

#include "bpf/threads.h"

/* One dump at a time. */
struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct dump_area);
} dump SEC(".maps");

static __always_inline struct dump_area *dump_area(void)
{
    __u32 zero = 0;

    return bpf_map_lookup_elem(&dump, &zero);
}

/* ---- memory */

#if defined(__TARGET_ARCH_x86)

#define ENTRY_PRESENT (1ull << 0)
#define ENTRY_USER (1ull << 2)
#define ENTRY_HUGE (1ull << 7)
/* A page that is there, but whose next access the kernel wants to see (NUMA balancing). Its address is stored inverted then: see
 * arch/x86/include/asm/pgtable-invert.h. */
#define ENTRY_HINTED (1ull << 8)

/* A page table's entry for an address, at a level: 0 is the last. 0: it could not be read. */
static __always_inline __u64 page_entry(__u64 table, __u64 address, __u32 level, __u64 *ret_at)
{
    __u64 entry = 0;

    *ret_at = table + (address >> (12 + 9 * level) & 511) * sizeof(entry);
    if (bpf_probe_read_kernel(&entry, sizeof(entry), (void *)*ret_at))
        return 0;
    return entry;
}

/* Fills a page's place in the cache. 1, or 0 where it is not in memory. */
STACK_GLOBAL int dump_find_page(struct dump_page *page, __u64 address)
{
    struct dump_area *d = dump_area();
    __u64 table, entry = 0, at = 0, mask;
    __u32 level = 0, top;

    if (!d || !page)
        return 0;
    page->address = 1;
    table = d->pgd;
    mask = d->memory.address_mask;
    top = d->memory.levels == 5 ? 4 : 3;
    if (!table || address >> (12 + 9 * (top + 1) - 1))
        return 0;
    for (__u32 i = 0; i < 5; i++) {
        if (i > top)
            return 0;
        level = top - i;
        entry = page_entry(table, address, level, &at);
        page->entry = entry;
        if (!(entry & ENTRY_PRESENT) && (entry & ENTRY_HINTED) && level < 2)
            entry = (entry ^ mask) | ENTRY_PRESENT;
        if (!(entry & ENTRY_PRESENT) || !(entry & ENTRY_USER))
            return 0;
        if (level == 0 || ((entry & ENTRY_HUGE) && level < 3))
            break;
        table = d->memory.direct_map + (entry & mask);
    }
    page->entry_at = at;
    mask &= ~((4096ull << (9 * level)) - 1);
    page->at = d->memory.direct_map + (entry & mask) + (address & ((4096ull << (9 * level)) - 1) & ~4095ull);
    page->address = address & ~4095ull;
    return 1;
}

#else

/* Page tables of other architectures are laid out in other ways, of which each kernel has several. */
STACK_GLOBAL int dump_find_page(struct dump_page *page, __u64 address)
{
    return 0;
}

#endif

/* Whether a page is where it was found. Other bits of its entry change as others use it. */
static __always_inline bool dump_page_stays(const struct dump_area *d, const struct dump_page *page)
{
    __u64 entry = 0;

    if (bpf_probe_read_kernel(&entry, sizeof(entry), (void *)page->entry_at))
        return false;
    return !((entry ^ page->entry) & (d->memory.address_mask | 1));
}

/* Bytes of one page. 0, or a negative error. What is no longer there by now may have been anybody's memory when it was read: once more. */
static __always_inline long dump_read_page(struct dump_area *d, void *to, __u32 size, __u64 address)
{
    struct dump_page *page = &d->pages[(address >> 12) & (DUMP_PAGES - 1)];

    for (__u32 i = 0; i < 2; i++) {
        if (page->address != (address & ~4095ull) && !dump_find_page(page, address))
            return -14; /* EFAULT */
        if (!bpf_probe_read_kernel(to, size, (void *)(page->at + (address & 4095))) && dump_page_stays(d, page))
            return 0;
        page->address = 1;
    }
    return -14;
}

/* Fetches at most DUMP_READ_MAX bytes, perhaps across a page's end, into d->bounce. 0, or a negative error. One function for all that read,
 * which verifiers prove once. */
STACK_GLOBAL int dump_fetch(__u64 address, __u32 size)
{
    struct dump_area *d = dump_area();
    __u32 first = 4096 - (__u32)(address & 4095), rest = 0;

    if (!d || size > DUMP_READ_MAX)
        return -14;
    if (first < size)
        rest = size - first;
    else
        first = size;
    barrier_var(first); /* else a compiler that knows its bounds leaves out the mask, by which verifiers learn them */
    first &= 2 * DUMP_READ_MAX - 1;
    if (first > DUMP_READ_MAX || dump_read_page(d, d->bounce, first, address))
        return -14;
    barrier_var(rest);
    rest &= DUMP_READ_MAX - 1;
    return rest && dump_read_page(d, d->bounce + first, rest, address + first) ? -14 : 0;
}

static __always_inline long stack_read(void *to, __u32 size, __u64 address)
{
    struct dump_area *d = dump_area();

    if (!d || dump_fetch(address, size))
        return -14;
    return bpf_probe_read_kernel(to, size, d->bounce);
}

/* ---- registers */

STACK_GLOBAL __u64 stack_probed_return(__u64 slot)
{
    struct dump_area *d = dump_area();

    return d ? task_probed_return((struct task_struct *)d->task, slot) : 0;
}

STACK_GLOBAL __u64 dump_register(__u32 reg)
{
    struct dump_area *d = dump_area();
    __u64 i = reg;

    barrier_var(i); /* else a compiler that knows its bounds leaves out the mask, by which verifiers before Linux 6.2 learn them */
    i &= 15;
    return d ? d->registers[i] : 0;
}

static __always_inline int stack_register(__u32 reg, __u64 *ret)
{
    *ret = dump_register(reg);
    return reg < 16;
}

static __always_inline void stack_first_registers(struct task_struct *task, struct stack_walk *walk)
{
    struct dump_area *d = dump_area();

    if (!d)
        return;
#if defined(__TARGET_ARCH_arm64)
    struct user_pt_regs___arm64 *regs = (struct user_pt_regs___arm64 *)bpf_task_pt_regs(task);

    walk->pc = regs->pc;
    walk->sp = regs->sp;
    walk->fp = regs->regs[29];
    walk->lr = regs->regs[30];
#else
    struct pt_regs___x86 *regs = (struct pt_regs___x86 *)bpf_task_pt_regs(task);
    __u64 *to = d->registers;

    to[0] = regs->ax;
    to[1] = regs->dx;
    to[2] = regs->cx;
    to[3] = regs->bx;
    to[4] = regs->si;
    to[5] = regs->di;
    to[6] = regs->bp;
    to[7] = regs->sp;
    to[8] = regs->r8;
    to[9] = regs->r9;
    to[10] = regs->r10;
    to[11] = regs->r11;
    to[12] = regs->r12;
    to[13] = regs->r13;
    to[14] = regs->r14;
    to[15] = regs->r15;
    walk->pc = regs->ip;
    walk->sp = regs->sp;
    walk->fp = regs->bp;
#endif
}
