/* Handlers: plain, nested, on a stack of their own, at a function's first instruction, at a fault, in a leaf function whose locals are in
 * the red zone; and left by a jump. */
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline))
#define STACK_BYTES 65536

static volatile uint64_t sink;
static sigjmp_buf back;

NOINLINE void work(uint64_t n)
{
    sink += n * 3;
}

static void plain(int signal)
{
    work((uint64_t)signal);
}

static void nesting(int signal)
{
    work((uint64_t)signal);
    if (signal == SIGUSR1)
        (void)raise(SIGUSR2);
    work((uint64_t)signal);
}

static void jumping(int signal)
{
    work((uint64_t)signal);
    siglongjmp(back, signal);
}

/* Goes on behind the two bytes of ud2. */
static void skipping(int signal, siginfo_t *info, void *context)
{
    ucontext_t *c = context;

    work((uint64_t)signal);
    c->uc_mcontext.gregs[REG_RIP] += 2;
}

static void handle(int signal, void (*handler)(int), int flags)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = flags};

    if (sigaction(signal, &action, NULL))
        abort();
}

static void handle_with_context(int signal, int flags)
{
    struct sigaction action = {.sa_sigaction = skipping, .sa_flags = SA_SIGINFO | flags};

    if (sigaction(signal, &action, NULL))
        abort();
}

/* Interrupted at its first instruction: one byte before it is another function. */
__asm__(".text\n.globl first_instruction\n.type first_instruction, @function\n"
        "first_instruction:\n.cfi_startproc\nud2\nret\n.cfi_endproc\n.size first_instruction, .-first_instruction\n");
void first_instruction(void);

/* Interrupted in the prologue, where neither the stack pointer nor the frame pointer is in place. */
__asm__(".text\n.globl in_prologue\n.type in_prologue, @function\n"
        "in_prologue:\n.cfi_startproc\npush %rbp\n.cfi_def_cfa_offset 16\n.cfi_offset %rbp, -16\nud2\nmov %rsp, %rbp\n"
        ".cfi_def_cfa_register %rbp\nud2\npop %rbp\n.cfi_def_cfa %rsp, 8\nret\n.cfi_endproc\n.size in_prologue, .-in_prologue\n");
void in_prologue(void);

NOINLINE uint64_t leaf_with_fault(volatile uint64_t *from)
{
    volatile uint64_t local[8] = {1, 2, 3, 4, 5, 6, 7, 8};

    local[3] += *from;
    return local[3];
}

static void map_page(int signal, siginfo_t *info, void *context)
{
    work((uint64_t)signal);
    if (mprotect((void *)((uintptr_t)info->si_addr & ~4095ul), 4096, PROT_READ))
        abort();
}

NOINLINE void faults(int flags)
{
    struct sigaction action = {.sa_sigaction = map_page, .sa_flags = SA_SIGINFO | flags};
    uint64_t *page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (page == MAP_FAILED || sigaction(SIGSEGV, &action, NULL))
        abort();
    sink += leaf_with_fault(page);
    (void)munmap(page, 4096);
}

NOINLINE void all_ways(int flags)
{
    handle(SIGUSR1, plain, flags);
    (void)raise(SIGUSR1);
    handle(SIGUSR1, nesting, flags);
    handle(SIGUSR2, nesting, flags);
    (void)raise(SIGUSR1);
    handle_with_context(SIGILL, flags);
    first_instruction();
    in_prologue();
    faults(flags);
    handle(SIGUSR1, jumping, flags);
    if (sigsetjmp(back, 1) == 0)
        (void)kill(getpid(), SIGUSR1);
    work(4);
}

int main(void)
{
    stack_t stack = {.ss_size = STACK_BYTES};
    char *memory = mmap(NULL, STACK_BYTES + 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        return 1;
    stack.ss_sp = memory + 4096; /* a mapping of its own */
    if (mprotect(stack.ss_sp, STACK_BYTES, PROT_READ | PROT_WRITE))
        return 1;
    all_ways(0);
    if (sigaltstack(&stack, NULL))
        return 1;
    all_ways(SA_ONSTACK);
    return 0;
}
