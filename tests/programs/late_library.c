/* Burns in before_load until it is told "load", then loads a library that keeps no frame pointers and burns in the innermost of three
 * functions of it. With now=1 it loads at once. library= is its path, if it is not beside the program. */
#include <dlfcn.h>
#include <libgen.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "program.h"

static struct tally tallies[] = { { .name = "before_load" }, { .name = "late_inner" } };
static atomic_bool told;

static void on_line(const char *line)
{
    if (strncmp(line, "load", 4) == 0)
        told = true;
}

static NOINLINE void before_load(void)
{
    BURN(&tallies[0], MS_NS);
}

typedef void late_function(struct tally *tally, uint64_t ns);

/* The library beside the program. */
static const char *find_library(char *path, size_t size)
{
    char own[PATH_MAX] = {};

    if (readlink("/proc/self/exe", own, sizeof(own) - 1) < 0)
        program_cannot("find itself");
    snprintf(path, size, "%s/liblate_code.so", dirname(own));
    return path;
}

static late_function *load(void)
{
    char path[PATH_MAX + 32];
    const char *named = program_option_text("library", NULL);
    late_function *work;

    void *library = dlopen(named ? named : find_library(path, sizeof(path)), RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        program_cannot("load a library");
    }
    *(void **)&work = dlsym(library, "late_outer");
    if (!work)
        program_cannot("find a library's function");
    return work;
}

int main(int argc, char **argv)
{
    late_function *work = NULL;

    program_on_line(on_line);
    program_init(argc, argv, tallies, 2);
    told = program_option("now", 0) != 0;
    program_ready();
    while (program_running()) {
        if (!told)
            before_load();
        else if (!work)
            work = load();
        else
            work(&tallies[1], MS_NS);
    }
    return program_end();
}
