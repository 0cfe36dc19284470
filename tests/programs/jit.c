/* Makes code in memory and burns in it, three times as long in jit::hot as in jit::warm, both called by jit::caller, which is made code
 * too; tells their names as runtimes do, by a perf map (map=1) and a jitdump with files and lines (dump=1), in directory=. region: what
 * memory the code is in, "anon", "memfd" or "zero". Told "replace", it says that the code of jit::hot is jit::replaced from then on. */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "program.h"

#define REGION_BYTES 65536
/* Where functions are in the region. */
#define HOT 0x100
#define WARM 0x200
#define CALLER 0x300
#define LOOP 7 /* in hot and warm: what is before it is the prologue */
#define ROUNDS 200000

static struct tally tallies[] = {{.name = "jit::hot"}, {.name = "jit::warm"}};
static atomic_bool told;
static char map_path[512], dump_path[512];
static FILE *map, *dump;

static void on_line(const char *line)
{
    if (strncmp(line, "replace", 7) == 0)
        told = true;
}

#ifdef __x86_64__
/* push rbp; mov rbp, rsp; mov rcx, rdi; 1: dec rcx; jnz 1b; pop rbp; ret */
static const unsigned char spin[] = {0x55, 0x48, 0x89, 0xe5, 0x48, 0x89, 0xf9, 0x48, 0xff, 0xc9, 0x75, 0xfb, 0x5d, 0xc3};
/* push rbp; mov rbp, rsp; call rsi; pop rbp; ret */
static const unsigned char call[] = {0x55, 0x48, 0x89, 0xe5, 0xff, 0xd6, 0x5d, 0xc3};
#else
static const unsigned char spin[1], call[1];
#endif

/* ---- the code */

static unsigned char *make_region(const char *kind)
{
    int fd = -1, flags = MAP_PRIVATE | MAP_ANONYMOUS;

#ifndef __x86_64__
    program_cannot("make code for this processor");
#endif
    if (strcmp(kind, "memfd") == 0)
        fd = memfd_create("jit", 0);
    else if (strcmp(kind, "zero") == 0)
        fd = open("/dev/zero", O_RDWR);
    if (fd >= 0 && strcmp(kind, "memfd") == 0 && ftruncate(fd, REGION_BYTES) < 0)
        program_cannot("make room in a memfd");
    if (fd >= 0)
        flags = MAP_SHARED;
    unsigned char *at = mmap(NULL, REGION_BYTES, PROT_READ | PROT_WRITE | PROT_EXEC, flags, fd, 0);
    if (at == MAP_FAILED)
        program_cannot("map memory for code");
    memcpy(at + HOT, spin, sizeof(spin));
    memcpy(at + WARM, spin, sizeof(spin));
    memcpy(at + CALLER, call, sizeof(call));
    return at;
}

static NOINLINE void run(unsigned char *region, size_t function, struct tally *tally)
{
    void (*caller)(unsigned long, void *);
    uint64_t start_ns = program_clock_ns(CLOCK_THREAD_CPUTIME_ID);
    void *at = region + CALLER;

    memcpy(&caller, &at, sizeof(caller));
    caller(ROUNDS, region + function);
    tally->cpu_ns += program_clock_ns(CLOCK_THREAD_CPUTIME_ID) - start_ns;
}

/* ---- its names */

static void put(uint64_t value, unsigned bytes)
{
    fwrite(&value, bytes, 1, dump);
}

static void put_record(unsigned type, size_t size)
{
    put(type, 4);
    put(16 + size, 4);
    put(program_clock_ns(CLOCK_MONOTONIC), 8);
}

static void put_lines(const void *code, unsigned line)
{
    static const char file[] = "/srv/app.js";
    uint64_t at = (uint64_t)(uintptr_t)code;

    put_record(2, 16 + 2 * (16 + sizeof(file)));
    put(at, 8);
    put(2, 8);
    for (unsigned i = 0; i < 2; i++) {
        put(at + i * LOOP, 8);
        put(line + i, 4);
        put(1, 4);
        fwrite(file, sizeof(file), 1, dump);
    }
}

static void put_load(const void *code, size_t size, const char *name)
{
    static uint64_t index;

    put_record(0, 40 + strlen(name) + 1 + size);
    put((uint64_t)getpid(), 4);
    put((uint64_t)getpid(), 4);
    put((uint64_t)(uintptr_t)code, 8);
    put((uint64_t)(uintptr_t)code, 8);
    put(size, 8);
    put(index++, 8);
    fwrite(name, strlen(name) + 1, 1, dump);
    fwrite(code, size, 1, dump);
}

static void tell(const unsigned char *code, size_t size, const char *name, unsigned line)
{
    if (map) {
        fprintf(map, "%llx %zx %s\n", (unsigned long long)(uintptr_t)code, size, name);
        fflush(map);
    }
    if (dump) {
        put_lines(code, line);
        put_load(code, size, name);
        fflush(dump);
    }
}

/* Profilers find a dump by its mapping. */
static void begin_dump(const char *directory)
{
    snprintf(dump_path, sizeof(dump_path), "%s/jit-%d.dump", directory, getpid());
    dump = fopen(dump_path, "w+");
    if (!dump || mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fileno(dump), 0) == MAP_FAILED)
        program_cannot("map a jitdump");
    put(0x4A695444, 4);
    put(1, 4);
    put(40, 4);
    put(62, 4);
    put(0, 4);
    put((uint64_t)getpid(), 4);
    put(program_clock_ns(CLOCK_MONOTONIC), 8);
    put(0, 8);
}

static void begin_map(const char *directory)
{
    snprintf(map_path, sizeof(map_path), "%s/perf-%d.map", directory, getpid());
    map = fopen(map_path, "w");
    if (!map)
        program_cannot("write a perf map");
}

int main(int argc, char **argv)
{
    program_on_line(on_line);
    program_init(argc, argv, tallies, 2);
    const char *directory = program_option_text("directory", "/tmp");
    unsigned char *region = make_region(program_option_text("region", "anon"));
    bool replaced = false;

    if (program_option("map", 0))
        begin_map(directory);
    if (program_option("dump", 0))
        begin_dump(directory);
    tell(region + HOT, sizeof(spin), "jit::hot /srv/app.js:10:2", 10);
    tell(region + WARM, sizeof(spin), "jit::warm /srv/app.js:20:2", 20);
    tell(region + CALLER, sizeof(call), "jit::caller /srv/app.js:30:2", 30);
    program_note("region", (uint64_t)(uintptr_t)region);
    program_ready();
    while (program_running()) {
        if (told && !replaced)
            tell(region + HOT, sizeof(spin), "jit::replaced", 50);
        replaced = told;
        for (unsigned i = 0; i < 3; i++)
            run(region, HOT, &tallies[0]);
        run(region, WARM, &tallies[1]);
    }
    if (map)
        unlink(map_path);
    if (dump)
        unlink(dump_path);
    return program_end();
}
