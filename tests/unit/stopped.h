/* A process of the test's own, stopped by ptrace(2): its registers and stack are copied, and its mappings become modules. */
#pragma once

#include <check.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "symbolize/copy_unwind.h"
#include "symbolize/symbolizer.h"
#include "util/cleanup.h"

#define STOPPED_MAX_MAPPINGS 512
#define STOPPED_STACK_BYTES (1u << 20)

struct stopped_mapping {
    uint64_t start, end, offset;
    struct module *module; /* NULL: code made at run time */
    bool file;
};

struct stopped {
    pid_t pid;
    struct symbolizer *symbolizer;
    struct stopped_mapping mappings[STOPPED_MAX_MAPPINGS];
    size_t n;
    struct copy_stack stack;
    uint8_t bytes[STOPPED_STACK_BYTES];
};

static inline int stopped_no_debug_file(void *userdata, const struct debug_file_request *request, int *ret_fd)
{
    return -ENOENT;
}

static inline void stopped_add(struct stopped *s, uint64_t start, uint64_t end, uint64_t offset, uint64_t ino, const char *path)
{
    ck_assert_uint_lt(s->n, STOPPED_MAX_MAPPINGS);
    struct stopped_mapping *m = &s->mappings[s->n++];
    *m = (struct stopped_mapping){.start = start, .end = end, .offset = offset, .file = ino != 0};
    if (m->file)
        (void)symbolizer_module(s->symbolizer, &(struct file_identity){.ino = ino}, open(path, O_RDONLY | O_CLOEXEC), NULL, &m->module);
}

/* Its executable mappings, as they are now. */
static inline void stopped_read_maps(struct stopped *s)
{
    static const struct symbolizer_ops ops = {.open_debug_file = stopped_no_debug_file};
    char path[64], line[4352], name[4096];
    unsigned long start, end, offset, ino;
    char flags[8];

    if (!s->symbolizer)
        s->symbolizer = symbolizer_new(&ops, SIZE_MAX);
    s->n = 0;
    (void)snprintf(path, sizeof(path), "/proc/%d/maps", s->pid);
    AUTO_FCLOSE FILE *f = fopen(path, "re");
    ck_assert_ptr_nonnull(f);
    while (fgets(line, sizeof(line), f)) {
        name[0] = '\0';
        ck_assert_int_ge(sscanf(line, "%lx-%lx %7s %lx %*s %lu %4095s", &start, &end, flags, &offset, &ino, name), 5);
        if (flags[2] == 'x')
            stopped_add(s, start, end, offset, ino, name);
    }
}

static inline void stopped_code(void *userdata, uint64_t address, struct copy_code *ret)
{
    struct stopped *s = userdata;
    for (size_t i = 0; i < s->n; i++) {
        const struct stopped_mapping *m = &s->mappings[i];
        if (address < m->start || address >= m->end)
            continue;
        *ret = (struct copy_code){.kind = m->file ? COPY_CODE_FILE : COPY_CODE_MADE, .module = m->module,
                                  .file_offset = address - m->start + m->offset};
        return;
    }
}

#ifdef __x86_64__
/* Registers, and up to `most` bytes from `below` the stack pointer upwards. */
static inline void stopped_copy(struct stopped *s, size_t below, size_t most)
{
    struct user_regs_struct r;
    ck_assert_int_eq(ptrace(PTRACE_GETREGS, s->pid, NULL, &r), 0);
    const uint64_t registers[] = {r.rax, r.rdx, r.rcx, r.rbx, r.rsi, r.rdi, r.rbp, r.rsp, r.r8,
                                  r.r9,  r.r10, r.r11, r.r12, r.r13, r.r14, r.r15, r.rip};
    s->stack = (struct copy_stack){.machine = EM_X86_64, .known = (1u << 17) - 1, .base = r.rsp - below, .bytes = s->bytes};
    memcpy(s->stack.registers, registers, sizeof(registers));
    /* Page by page, as the stack's end is not known. */
    while (s->stack.len < most) {
        uint64_t at = s->stack.base + s->stack.len;
        size_t n = 4096 - at % 4096;
        struct iovec to = {s->bytes + s->stack.len, n}, from = {(void *)(uintptr_t)at, n};
        if (s->stack.len + n > sizeof(s->bytes) || process_vm_readv(s->pid, &to, 1, &from, 1, 0) != (ssize_t)n)
            break;
        s->stack.len += n;
    }
    if (s->stack.len > most)
        s->stack.len = most;
}
#endif

static inline void stopped_end(struct stopped *s)
{
    (void)kill(s->pid, SIGKILL);
    (void)waitpid(s->pid, NULL, 0);
    symbolizer_free(s->symbolizer);
    s->symbolizer = NULL;
}
