/* Functions whose entry a probe is dear at, and that can be probed behind it: on a line with a number N each is called N times. With spin=1 they are
 * called all the time as well, in two threads, as fast as can be: a target that can't bear probes. */
#include <pthread.h>
#include <stdlib.h>

#include "program.h"

#define FUNCTION(name, code) \
    ".balign 64\n.globl " name "\n.type " name ", @function\n" name ": .cfi_startproc\n" code ".cfi_endproc\n.size " name ", . - " name "\n"
__asm__(".text\n"
        FUNCTION("called_test", "test %rdi, %rdi\n je 1f\n nop\n1: ret\n")
        FUNCTION("called_frame", "endbr64\n sub $0x18, %rsp\n.cfi_adjust_cfa_offset 0x18\n mov %fs:0x28, %rax\n mov %rax, 8(%rsp)\n"
                                 "cmp $5, %rdi\n ja 1f\n nop\n1: add $0x18, %rsp\n.cfi_adjust_cfa_offset -0x18\n ret\n")
        FUNCTION("called_leaf", "lea 1(%rdi), %rax\n ret\n")
        FUNCTION("called_loop", "xor %eax, %eax\n1: inc %eax\n cmp $3, %eax\n jne 1b\n ret\n")
        FUNCTION("called_returns", "push %rbx\n.cfi_adjust_cfa_offset 8\n test $1, %dil\n je 1f\n mov $1, %eax\n pop %rbx\n"
                                   ".cfi_adjust_cfa_offset -8\n ret\n.cfi_adjust_cfa_offset 8\n1: mov $2, %eax\n pop %rbx\n"
                                   ".cfi_adjust_cfa_offset -8\n ret\n")
        FUNCTION("called_last", "test %rdi, %rdi\n jmp called_leaf\n"));

uint64_t called_test(uint64_t), called_frame(uint64_t), called_leaf(uint64_t), called_loop(uint64_t), called_returns(uint64_t), called_last(uint64_t);

static struct tally tallies[] = {
    {.name = "called_test"}, {.name = "called_frame"},   {.name = "called_leaf"},
    {.name = "called_loop"}, {.name = "called_returns"}, {.name = "called_last"}, {.name = "spins"},
};
static uint64_t (*const functions[])(uint64_t) = {called_test, called_frame, called_leaf, called_loop, called_returns, called_last};
#define N_FUNCTIONS (sizeof(functions) / sizeof(functions[0]))

static NOINLINE void call_all(uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        for (size_t f = 0; f < N_FUNCTIONS; f++)
            (void)functions[f](i);
    KEEP_FRAME();
}

static void call_on_line(const char *line)
{
    uint64_t n = strtoull(line, NULL, 0);

    call_all(n);
    for (size_t f = 0; f < N_FUNCTIONS; f++)
        tallies[f].calls += n;
}

static uint64_t call_rightly(uint64_t i)
{
    return called_leaf(i) == i + 1 && called_loop(i) == 3 && called_returns(i) == 2 - (i & 1) && called_last(i) == i + 1;
}

static void *spin(void *arg)
{
    (void)arg;
    while (program_running()) {
        uint64_t right = 0;
        for (uint64_t i = 0; i < 1000; i++)
            right += call_rightly(i);
        if (right != 1000)
            abort(); /* a probe has broken one of them */
        __atomic_add_fetch(&tallies[N_FUNCTIONS].calls, right, __ATOMIC_RELAXED);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t thread;

    program_on_line(call_on_line);
    program_init(argc, argv, tallies, N_FUNCTIONS + 1);
    program_ready();
    if (program_option("spin", 0)) {
        if (pthread_create(&thread, NULL, spin, NULL) != 0)
            program_cannot("start a thread");
        (void)spin(NULL);
        (void)pthread_join(thread, NULL);
    }
    while (program_running())
        program_sleep_until(program_clock_ns(CLOCK_MONOTONIC) + 100 * MS_NS);
    return program_end();
}
