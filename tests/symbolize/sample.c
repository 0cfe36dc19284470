/* A program whose every address has a known place: nested inlined calls, a macro, recursion, a function in
 * two parts, assembly without sizes, aliases, mangled and doubled names. */
#include <stdio.h>
#include <stdlib.h>
#ifdef HAVE_SDT
#define _SDT_HAS_SEMAPHORES 1
#define SDT_SEMAPHORE(name) \
    __extension__ unsigned short sample_##name##_semaphore __attribute__((unused, section(".probes")))
#include <sys/sdt.h>
SDT_SEMAPHORE(split);
SDT_SEMAPHORE(end);
#else
#define DTRACE_PROBE1(provider, name, arg) ((void)(arg))
#endif

#define STEP(x) ((x) * 3 + (x) / 7)

static volatile unsigned sink;

static inline __attribute__((always_inline)) unsigned innermost(unsigned x)
{
    sink += x;
    return STEP(x) + sink;
}

static inline __attribute__((always_inline)) unsigned middle(unsigned x)
{
    unsigned y = innermost(x + 1);
    if (y & 1)
        y += innermost(y);
    return y;
}

__attribute__((noinline)) unsigned outermost(unsigned x)
{
    unsigned sum = 0;
    for (unsigned i = 0; i < x; i++)
        sum += middle(i) ^ sum;
    return sum;
}

__attribute__((noinline)) unsigned original(unsigned x)
{
    return sink + x;
}
extern unsigned weak_alias_of_it(unsigned x) __attribute__((alias("original"), weak));
static unsigned local_alias_of_it(unsigned x) __attribute__((alias("original"), used));

__attribute__((noinline)) unsigned recursive(unsigned depth)
{
    return depth == 0 ? original(sink) : recursive(depth - 1) + depth;
}

/* The unlikely half is moved away from the rest. */
__attribute__((noinline)) unsigned split(int argc)
{
    if (__builtin_expect(argc > 1000, 0)) {
        fprintf(stderr, "many arguments: %d\n", argc);
        sink += outermost((unsigned)argc);
        abort();
    }
    DTRACE_PROBE1(sample, split, argc);
    return (unsigned)argc + sink;
}

/* C++ names without a C++ compiler. */
__attribute__((noinline, used)) int marked(int x) __asm__("_ZN2ns6markedEi");
__attribute__((noinline, used)) int marked(int x)
{
    return x + 1;
}
__attribute__((noinline, used)) int overloaded_int(int x) __asm__("_ZN2ns10overloadedEi");
__attribute__((noinline, used)) int overloaded_int(int x)
{
    return x + 2;
}
__attribute__((noinline, used)) long overloaded_long(long x) __asm__("_ZN2ns10overloadedEl");
__attribute__((noinline, used)) long overloaded_long(long x)
{
    return x + 3;
}

/* Chosen when the program is loaded: what its symbol marks is the chooser. */
__attribute__((used)) static void *choose(void)
{
    return (void *)original;
}
extern unsigned chosen_at_load(unsigned x) __attribute__((ifunc("choose")));

/* sample_other.c has one of this name, too. */
static __attribute__((noinline, used)) unsigned named_twice(void)
{
    return sink;
}

#if defined(__x86_64__)
__asm__(".text\n"
        ".globl no_size\n.type no_size, @function\n"
        "no_size:\n nop\n nop\n.Llabel: nop\ninner_label: nop\n ret\n"
        ".globl after_no_size\n.type after_no_size, @function\n"
        "after_no_size:\n nop\n ret\n.size after_no_size, . - after_no_size\n");
extern void no_size(void);
extern void after_no_size(void);
#else
static void no_size(void) { sink++; }
static void after_no_size(void) { sink++; }
#endif

int main(int argc, char **argv)
{
    (void)argv;
    no_size();
    after_no_size();
    printf("%u %u %u %u\n", outermost((unsigned)argc), recursive((unsigned)argc), split(argc),
           weak_alias_of_it(1) + local_alias_of_it(2));
    DTRACE_PROBE1(sample, end, argc);
    return 0;
}
