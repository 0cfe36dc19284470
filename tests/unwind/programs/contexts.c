/* Coroutines: by makecontext and swapcontext, and by a switch of our own as fiber libraries have it. Each stack is a mapping of its own. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

#define NOINLINE __attribute__((noinline))
#define STACK_BYTES 65536

static volatile uint64_t sink;
static ucontext_t main_context, contexts[2];
static void *own_main, *own_fiber;

static char *make_stack(void)
{
    char *memory = mmap(NULL, STACK_BYTES + 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED || mprotect(memory + 4096, STACK_BYTES, PROT_READ | PROT_WRITE))
        abort();
    return memory + 4096;
}

NOINLINE uint64_t work(uint64_t n)
{
    sink += n * 3;
    return sink;
}

static void coroutine(int self)
{
    for (int i = 0; i < 3; i++) {
        work((uint64_t)i);
        (void)swapcontext(&contexts[self], &contexts[!self]);
    }
}

NOINLINE void by_context(void)
{
    for (int i = 0; i < 2; i++) {
        if (getcontext(&contexts[i]))
            abort();
        contexts[i].uc_stack.ss_sp = make_stack();
        contexts[i].uc_stack.ss_size = STACK_BYTES;
        contexts[i].uc_link = i == 0 ? &main_context : &contexts[0];
        makecontext(&contexts[i], (void (*)(void))coroutine, 1, i);
    }
    (void)swapcontext(&main_context, &contexts[0]);
    work(9);
}

/* Saves the callee-saved registers and the stack pointer, and takes another's. */
__asm__(".text\n.globl switch_to\n.type switch_to, @function\n"
        "switch_to:\n.cfi_startproc\n"
        "push %rbp\n.cfi_adjust_cfa_offset 8\n.cfi_rel_offset %rbp, 0\npush %rbx\n.cfi_adjust_cfa_offset 8\npush %r12\n.cfi_adjust_cfa_offset 8\n"
        "mov %rsp, (%rdi)\nmov %rsi, %rsp\n"
        "pop %r12\n.cfi_adjust_cfa_offset -8\npop %rbx\n.cfi_adjust_cfa_offset -8\npop %rbp\n.cfi_adjust_cfa_offset -8\n.cfi_restore %rbp\n"
        "ret\n.cfi_endproc\n.size switch_to, .-switch_to\n");
void switch_to(void **ret_from, void *to);

static void fiber(void)
{
    for (int i = 0;; i++) {
        work((uint64_t)i);
        switch_to(&own_fiber, own_main);
    }
}

NOINLINE void by_own_switch(void)
{
    uint64_t *top = (uint64_t *)(make_stack() + STACK_BYTES) - 8;

    top[0] = top[1] = top[2] = 0;
    top[3] = (uint64_t)fiber;
    top[4] = 0; /* its caller: none */
    own_fiber = top;
    for (int i = 0; i < 3; i++) {
        switch_to(&own_main, own_fiber);
        work(5);
    }
}

int main(void)
{
    by_context();
    by_own_switch();
    return 0;
}
