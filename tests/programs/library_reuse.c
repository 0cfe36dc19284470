/* Loads a library, works in it, unloads it and loads another at the same address, each for hold_ms=
 * (default 40): addresses alone don't say whose time it was. The truth's note "reused" counts how often the
 * address really was the same. */
#include <dlfcn.h>
#include <libgen.h>
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <unistd.h>

#include "program.h"

static struct tally tallies[] = { { .name = "first_library_work" }, { .name = "second_library_work" } };
static uint64_t last_address, n_reused;

static void *load(const char *directory, const char *name)
{
    char path[PATH_MAX];
    void *library;

    snprintf(path, sizeof(path), "%s/%s", directory, name);
    library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        program_cannot("load a library");
    }
    return library;
}

static void count_reuse(void *library)
{
    struct link_map *map = NULL;

    if (dlinfo(library, RTLD_DI_LINKMAP, &map) < 0)
        program_cannot("ask for a library's address");
    n_reused += map->l_addr == last_address;
    last_address = map->l_addr;
    program_note("reused", n_reused);
}

static void use(const char *directory, const char *name, const char *symbol, struct tally *tally, uint64_t ns)
{
    void *library = load(directory, name);
    void (*work)(struct tally *, uint64_t);

    *(void **)&work = dlsym(library, symbol);
    if (!work)
        program_cannot("find a library's function");
    count_reuse(library);
    work(tally, ns);
    dlclose(library);
}

int main(int argc, char **argv)
{
    char path[PATH_MAX] = {}, *directory;
    uint64_t hold_ns;

    program_init(argc, argv, tallies, 2);
    hold_ns = (uint64_t)program_option("hold_ms", 40) * MS_NS;
    if (readlink("/proc/self/exe", path, sizeof(path) - 1) < 0)
        program_cannot("find itself");
    directory = dirname(path);
    program_ready();
    while (program_running()) {
        use(directory, "libfirst_reuse.so", "first_library_work", &tallies[0], hold_ns);
        use(directory, "libsecond_reuse.so", "second_library_work", &tallies[1], hold_ns);
    }
    return program_end();
}
