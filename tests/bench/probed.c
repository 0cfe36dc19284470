/* What is probed by tests/bench/probes: on "NAME CALLS" it calls a function so often and prints the ns of CPU time that each call took, the loop
 * included; "pair" is malloc and free. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Each begins in another way. */
__asm__(".text\n"
#define FUNCTION(name, code) \
    ".balign 64\n.globl probed_" name "\n.type probed_" name ", @function\n" \
    "probed_" name ": " code "\n.size probed_" name ", . - probed_" name "\n"
        FUNCTION("push", "push %rbp\n pop %rbp\n ret")
        FUNCTION("nop", "nop\n ret")
        FUNCTION("jmp", "jmp 1f\n1: ret")
        FUNCTION("test", "test %rdi, %rdi\n je 1f\n nop\n1: ret")
        FUNCTION("endbr64", "endbr64\n push %rbp\n pop %rbp\n ret")
        FUNCTION("sub", "sub $0x18, %rsp\n test %rdi, %rdi\n je 1f\n nop\n1: add $0x18, %rsp\n ret")
        FUNCTION("lea", "lea 1(%rdi), %rax\n ret"));

void probed_push(long), probed_nop(long), probed_jmp(long), probed_test(long), probed_endbr64(long), probed_sub(long), probed_lea(long);

static void pair(long i)
{
    void *volatile p = malloc(100 + (size_t)(i & 7));
    free(p);
}

static const struct {
    const char *name;
    void (*call)(long);
} calls[] = {
    {"pair", pair}, {"push", probed_push}, {"nop", probed_nop}, {"jmp", probed_jmp}, {"test", probed_test}, {"endbr64", probed_endbr64},
    {"sub", probed_sub}, {"lea", probed_lea},
};

static double cpu_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

int main(void)
{
    char line[128], name[64];
    long n;

    printf("ready\n");
    (void)fflush(stdout);
    while (fgets(line, sizeof(line), stdin) && sscanf(line, "%63s %ld", name, &n) == 2) {
        for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
            if (strcmp(calls[i].name, name) != 0)
                continue;
            double began = cpu_ns();
            for (long j = 0; j < n; j++)
                calls[i].call(j);
            printf("%.2f\n", (cpu_ns() - began) / (double)n);
        }
        (void)fflush(stdout);
    }
    return 0;
}
