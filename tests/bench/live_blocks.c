/* Frees one of so many live blocks, chosen at random, and allocates another of 16 to 527 bytes in its place: "ready", then on "any CALLS" the ns of
 * CPU time that each took, as tests/bench/probed.c answers. Argument: how many are live. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static unsigned long state = 88172645463325252ul;

static unsigned long next_random(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

static double cpu_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static char *allocate(void)
{
    char *block = malloc(16 + (next_random() >> 20) % 512);
    if (!block)
        abort();
    *block = 1;
    return block;
}

int main(int argc, char **argv)
{
    unsigned long live = argc > 1 ? strtoul(argv[1], NULL, 10) : 1000;
    char name[64], **blocks = calloc(live, sizeof(*blocks));
    long n;

    if (!blocks || live == 0)
        return 1;
    for (unsigned long i = 0; i < live; i++)
        blocks[i] = allocate();
    printf("ready\n");
    (void)fflush(stdout);
    while (scanf("%63s %ld", name, &n) == 2) {
        double began = cpu_ns();
        for (long i = 0; i < n; i++) {
            char **block = &blocks[next_random() % live];
            free(*block);
            *block = allocate();
        }
        printf("%.2f\n", (cpu_ns() - began) / (double)n);
        (void)fflush(stdout);
    }
    return 0;
}
