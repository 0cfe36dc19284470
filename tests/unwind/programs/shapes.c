/* Functions of many frame shapes, each called a few times: built in many ways, and stepped through. The result is printed, so that
 * nothing is optimized away. */
#include <alloca.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOINLINE __attribute__((noinline))

static volatile uint64_t sink;

NOINLINE uint64_t leaf_in_red_zone(uint64_t a)
{
    volatile uint64_t local[12];

    for (unsigned i = 0; i < 12; i++)
        local[i] = a + i;
    return local[a % 12];
}

NOINLINE uint64_t leaf_without_frame(uint64_t a)
{
    return a * 3 + 1;
}

/* Every callee-saved register is in use over a call. */
NOINLINE uint64_t all_saved(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
    uint64_t x = leaf_without_frame(a), y = leaf_without_frame(b), z = leaf_without_frame(c);

    sink += leaf_without_frame(d + x);
    sink += leaf_without_frame(e + y);
    sink += leaf_without_frame(f + z);
    return a + b + c + d + e + f + x + y + z;
}

NOINLINE uint64_t arguments_on_stack(int a, int b, int c, int d, int e, int f, uint64_t g, uint64_t h, uint64_t i)
{
    return leaf_in_red_zone(a + b + c + d + e + f + g + h + i);
}

struct large {
    uint64_t words[20];
};

NOINLINE struct large by_value(struct large in)
{
    for (unsigned i = 0; i < 20; i++)
        in.words[i] += leaf_without_frame(i);
    return in;
}

NOINLINE uint64_t variadic(unsigned n, ...)
{
    va_list arguments;
    uint64_t sum = 0;

    va_start(arguments, n);
    for (unsigned i = 0; i < n; i++)
        sum += leaf_without_frame(va_arg(arguments, uint64_t));
    va_end(arguments);
    return sum;
}

NOINLINE uint64_t with_alloca(unsigned n)
{
    uint8_t *bytes = alloca(n);

    memset(bytes, (int)n, n);
    return bytes[n / 2] + leaf_in_red_zone(n);
}

NOINLINE uint64_t with_vla(unsigned n)
{
    uint64_t sum = 0;

    for (unsigned i = 1; i < 4; i++) {
        uint64_t array[n * i];

        for (unsigned j = 0; j < n * i; j++)
            array[j] = leaf_without_frame(j);
        sum += array[n * i - 1];
    }
    return sum;
}

NOINLINE uint64_t realigned(unsigned n)
{
    uint64_t local[8] __attribute__((aligned(64)));

    for (unsigned i = 0; i < 8; i++)
        local[i] = leaf_without_frame(i + n);
    return local[n % 8] + ((uintptr_t)local & 63);
}

/* Realigned, with alloca and arguments on the stack: the CFA is kept in a register of its own. */
NOINLINE uint64_t realigned_dynamically(unsigned n, int b, int c, int d, int e, int f, uint64_t g, uint64_t h)
{
    uint64_t local[8] __attribute__((aligned(64)));
    uint8_t *bytes = alloca(n);

    memset(bytes, b + c + d + e + f, n);
    for (unsigned i = 0; i < 8; i++)
        local[i] = variadic(2, g + i, h);
    return local[n % 8] + bytes[n - 1];
}

NOINLINE uint64_t huge_frame(unsigned n)
{
    volatile uint8_t local[100000];

    for (unsigned i = 0; i < sizeof(local); i += 10000)
        local[i] = (uint8_t)leaf_without_frame(n + i);
    return local[50000] + leaf_in_red_zone(n);
}

NOINLINE uint64_t tail_second(uint64_t a, uint64_t b)
{
    return a ^ b;
}

NOINLINE uint64_t tail_first(uint64_t a)
{
    sink += leaf_without_frame(a);
    return tail_second(a, sink);
}

typedef uint64_t (*unary)(uint64_t);
static const unary unaries[] = {leaf_in_red_zone, leaf_without_frame, tail_first};

NOINLINE uint64_t tail_through_pointer(unsigned i, uint64_t a)
{
    return unaries[i % 3](a);
}

NOINLINE uint64_t recursive(unsigned depth)
{
    volatile uint64_t local[3] = {depth, depth + 1, depth + 2};

    return depth == 0 ? leaf_in_red_zone(1) : recursive(depth - 1) + local[depth % 3];
}

NOINLINE uint64_t odd(unsigned n);

NOINLINE uint64_t even(unsigned n)
{
    return n == 0 ? 1 : odd(n - 1) + (sink & 1);
}

NOINLINE uint64_t odd(unsigned n)
{
    return n == 0 ? 0 : even(n - 1) + (sink & 1);
}

/* The frame is made on one of its ways alone. */
NOINLINE uint64_t shrink_wrapped(uint64_t a)
{
    if (a < 10)
        return a;
    return all_saved(a, a + 1, a + 2, a + 3, a + 4, a + 5) + tail_first(a);
}

NOINLINE uint64_t many_cases(unsigned n)
{
    switch (n) {
    case 0: return leaf_without_frame(n);
    case 1: return leaf_in_red_zone(n) + 1;
    case 2: return variadic(1, (uint64_t)5);
    case 3: return with_alloca(32);
    case 4: return tail_first(4);
    case 5: return shrink_wrapped(50);
    default: return 0;
    }
}

static jmp_buf back;

/* The call is the last instruction of its function: the return address is in the next one. */
__attribute__((noinline, noreturn, cold)) void leave(int code)
{
    sink += leaf_without_frame((uint64_t)code);
    longjmp(back, code);
}

NOINLINE void leave_at_end(int code)
{
    volatile uint64_t local[4] = {1, 2, 3, 4};

    sink += local[code % 4];
    leave(code);
}

NOINLINE uint64_t unlikely_way(uint64_t a)
{
    if (__builtin_expect(a > 100, 0)) {
        sink += all_saved(a, a, a, a, a, a);
        leave_at_end(3);
    }
    return a + leaf_without_frame(a);
}

NOINLINE uint64_t jumps(void)
{
    int code = setjmp(back);

    if (code == 0)
        leave_at_end(1);
    if (code == 1)
        sink += unlikely_way(101);
    return (uint64_t)code + leaf_without_frame(2);
}

static int compare_words(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    sink += leaf_without_frame(x);
    return x < y ? -1 : x > y;
}

NOINLINE uint64_t sorts(void)
{
    uint64_t words[12];

    for (unsigned i = 0; i < 12; i++)
        words[i] = (i * 7919) % 31;
    qsort(words, 12, sizeof(words[0]), compare_words);
    return words[5];
}

NOINLINE double floating(double a, double b)
{
    double saved[3] = {a, b, a * b};

    for (unsigned i = 0; i < 3; i++)
        saved[i] += (double)leaf_without_frame((uint64_t)saved[i]);
    return saved[0] + saved[1] / saved[2];
}

/* 16 MiB and more: offsets beyond 16 bits, beyond 24 bits in bytes. */
NOINLINE uint64_t giant_frame(unsigned n)
{
    volatile uint8_t local[(16 << 20) + 4096];

    local[0] = local[sizeof(local) / 2] = (uint8_t)n;
    return local[0] + leaf_in_red_zone(n);
}

int main(void)
{
    uint64_t sum = 0;
    struct large large = {{1, 2, 3}};

    for (unsigned round = 0; round < 2; round++) {
        sum += leaf_in_red_zone(round) + leaf_without_frame(round);
        sum += all_saved(1, 2, 3, 4, 5, round);
        sum += arguments_on_stack(1, 2, 3, 4, 5, 6, 7, 8, round);
        large = by_value(large);
        sum += variadic(3, (uint64_t)1, (uint64_t)2, (uint64_t)3);
        sum += with_alloca(100 + round) + with_vla(3 + round);
        sum += realigned(round) + realigned_dynamically(64 + round, 1, 2, 3, 4, 5, 6, 7);
        sum += huge_frame(round);
        sum += tail_first(round) + tail_through_pointer(round, 3);
        sum += recursive(6) + even(7);
        sum += shrink_wrapped(5) + shrink_wrapped(20);
        for (unsigned n = 0; n < 7; n++)
            sum += many_cases(n);
        sum += jumps() + sorts();
        sum += (uint64_t)floating(1.5, round + 2.5);
        sum += giant_frame(round);
    }
    printf("%lu %lu\n", (unsigned long)sum, (unsigned long)large.words[3]);
    return 0;
}
