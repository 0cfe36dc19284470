/* libc's own code: allocation, formatting with long arithmetic, parsing, strings of all sizes, regular expressions, files. */
#include <math.h>
#include <regex.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static volatile uint64_t sink;

static void allocates(void)
{
    void *blocks[24];

    for (unsigned i = 0; i < 24; i++)
        blocks[i] = malloc((size_t)1 << (i % 12));
    for (unsigned i = 0; i < 24; i++)
        blocks[i] = realloc(blocks[i], (size_t)3 << (i % 14));
    for (unsigned i = 0; i < 24; i++)
        free(blocks[(i * 7) % 24]);
    free(malloc(1 << 20));
}

static void formats(void)
{
    char text[600];

    sink += (uint64_t)snprintf(text, sizeof(text), "%.200f %.40Le %a %g", 1e100 / 3, 2.0L / 7, 1.25, 1e-300);
    sink += (uint64_t)snprintf(text, sizeof(text), "%d %lx %s %10.3s %c %p %%", 7, 8ul, "text", "longer", 'c', (void *)text);
    sink += (uint64_t)strtod("123456789.12345678901234567890e-20", NULL);
    sink += (uint64_t)strtold("3.14159265358979323846264338327950288e300", NULL);
    sink += strtoul("0x1234abcd", NULL, 0);
    sink += (uint64_t)sscanf("12 abc 3.5", "%*d %20s %*f", text);
}

static void strings(void)
{
    static char from[5000], to[5000];

    for (size_t n = 1; n < sizeof(from); n = n * 3 + 1) {
        memset(from, 'a', n);
        memcpy(to, from, n);
        memmove(to + 1, to, n - 1);
        sink += strlen(from) + (uint64_t)memcmp(from, to, n);
        sink += (uint64_t)strcmp(from, to) + (uint64_t)(strchr(from, 'b') != NULL) + (uint64_t)(strstr(from, "ab") != NULL);
        sink += (uint64_t)(memchr(from, 'b', n) != NULL) + (uint64_t)(strrchr(from, 'a') != NULL) + strspn(from, "a");
        (void)strcpy(to, from);
        (void)strncat(to, "tail", 3);
    }
}

static void matches(void)
{
    regex_t regex;

    if (regcomp(&regex, "^(a|b)*c[0-9]+$", REG_EXTENDED))
        abort();
    sink += (uint64_t)regexec(&regex, "ababc12", 0, NULL, 0);
    regfree(&regex);
}

static void files(void)
{
    char line[200];
    FILE *file = fopen("/proc/self/maps", "r");
    time_t now = 1700000000;
    struct tm parts;

    while (file && fgets(line, sizeof(line), file))
        sink += strlen(line);
    if (file)
        (void)fclose(file);
    sink += strftime(line, sizeof(line), "%c", gmtime_r(&now, &parts));
    sink += (uint64_t)(sin((double)sink) + pow(1.5, (double)(sink % 10)) + exp(1.0) + fmod(7.5, 2.0));
    (void)getenv("HOME");
}

int main(void)
{
    allocates();
    formats();
    strings();
    matches();
    files();
    puts("done");
    return 0;
}
