/* See kernel_walk.h. The tracee's addresses are not randomized, and this process's are, so that hardly anything of its own is in the way;
 * where something is, the page is not had. */
#include "tests/unwind/kernel_walk.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <uthash.h>

#include "kernel_walk.skel.h"

struct page {
    uint64_t address;
    uint64_t stop; /* of the tracee, when its bytes were taken */
    bool is_ours;  /* mapped here */
    int error;     /* why it can't be, at that stop */
    UT_hash_handle hh;
};

struct kernel_walk {
    struct tracee *tracee;
    struct kernel_walk_bpf *bpf;
    struct page *pages;
};

static int print_nothing(enum libbpf_print_level level, const char *format, va_list arguments)
{
    return 0;
}

int kernel_walk_new(struct tracee *tracee, struct kernel_walk **ret_walk)
{
    struct kernel_walk *walk = calloc(1, sizeof(*walk));

    if (!walk)
        return -ENOMEM;
    (void)libbpf_set_print(print_nothing);
    walk->tracee = tracee;
    walk->bpf = kernel_walk_bpf__open_and_load();
    if (!walk->bpf) {
        int r = -errno;

        free(walk);
        return r;
    }
    *ret_walk = walk;
    return 0;
}

void kernel_walk_free(struct kernel_walk *walk)
{
    struct page *page, *next;

    if (!walk)
        return;
    HASH_ITER(hh, walk->pages, page, next) {
        HASH_DEL(walk->pages, page);
        if (page->is_ours)
            (void)munmap((void *)page->address, TRACEE_PAGE_BYTES);
        free(page);
    }
    kernel_walk_bpf__destroy(walk->bpf);
    free(walk);
}

int kernel_walk_slabs_map(const struct kernel_walk *walk)
{
    return bpf_map__fd(walk->bpf->maps.slabs);
}

static struct page *page_at(struct kernel_walk *walk, uint64_t address)
{
    struct page *page;

    HASH_FIND(hh, walk->pages, &address, sizeof(address), page);
    if (page)
        return page;
    page = calloc(1, sizeof(*page));
    if (!page)
        return NULL;
    page->address = address;
    HASH_ADD(hh, walk->pages, address, sizeof(page->address), page);
    return page;
}

static int place(struct page *page)
{
    void *at = (void *)page->address;

    if (page->is_ours)
        return 0;
    if (mmap(at, TRACEE_PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != at)
        return -errno;
    page->is_ours = true;
    return 0;
}

int kernel_walk_add_page(struct kernel_walk *walk, uint64_t address)
{
    uint8_t bytes[TRACEE_PAGE_BYTES];
    struct page *page = page_at(walk, address);
    int r;

    if (!page)
        return -ENOMEM;
    if (page->stop == walk->tracee->stop)
        return page->error;
    page->stop = walk->tracee->stop;
    if (tracee_read(walk->tracee, bytes, sizeof(bytes), address)) {
        /* Nor may it be there for the kernel. */
        if (page->is_ours)
            (void)munmap((void *)address, TRACEE_PAGE_BYTES);
        page->is_ours = false;
        page->error = 0;
        return 0;
    }
    r = page->error = place(page);
    if (!r)
        memcpy((void *)address, bytes, sizeof(bytes));
    return r;
}

int kernel_walk_run(struct kernel_walk *walk, const struct kernel_walk_case *given, const struct stack_walk **ret_walk)
{
    LIBBPF_OPTS(bpf_test_run_opts, opts);

    memcpy(&walk->bpf->bss->given, given, sizeof(*given));
    if (bpf_prog_test_run_opts(bpf_program__fd(walk->bpf->progs.walk_given), &opts))
        return -errno;
    *ret_walk = (const struct stack_walk *)&walk->bpf->bss->walk;
    return 0;
}
