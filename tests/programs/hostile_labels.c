/* A program that publishes labels that are none (cprofd/labels.h): way=large says that there are 65535 bytes, way=unmapped points to nothing,
 * way=invalid to what is not marked as a set, way=malformed to one whose entries do not add up; in way=race another thread points the burning
 * thread's variable to one of two whole sets (side=left, or side=right and more) and to nothing, as fast as it can, and never tells; way=many has
 * another label for each few microseconds. */
#include "cprofd/labels.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "program.h"

static struct tally tallies[] = { { .name = "burn_hostile" } };
static struct cprofd_labels sets[2];

static NOINLINE void burn_hostile(uint64_t ns)
{
    BURN(&tallies[0], ns);
}

static void *race(void *given)
{
    struct cprofd_thread_labels *labels = given;

    for (unsigned i = 0; program_running(); i++)
        __atomic_store_n(&labels->current, i % 3 == 2 ? (const struct cprofd_labels *)16 : &sets[i % 3], __ATOMIC_RELAXED);
    return NULL;
}

static void begin(const char *way)
{
    pthread_t thread;

    if (strcmp(way, "large") == 0)
        sets[0].bytes = 65535;
    if (strcmp(way, "malformed") == 0)
        sets[0].entries[1] = 200;
    if (strcmp(way, "invalid") == 0)
        sets[0].valid = 0;
    cprofd_labels_publish(strcmp(way, "unmapped") == 0 ? (const struct cprofd_labels *)4096 : &sets[0]);
    if (strcmp(way, "race") == 0 && pthread_create(&thread, NULL, race, &cprofd_thread_labels_v1))
        program_cannot("make a thread");
}

int main(int argc, char **argv)
{
    char number[32];

    program_init(argc, argv, tallies, 1);
    const char *way = program_option_text("way", "");
    for (int i = 0; i < 2; i++) {
        cprofd_labels_copy(&sets[i]);
        cprofd_labels_add(&sets[i], "side", i ? "right" : "left");
        cprofd_labels_add(&sets[i], i ? "other" : "more", "1");
    }
    begin(way);
    program_ready();
    for (uint64_t i = 0; program_running(); i++) {
        if (strcmp(way, "many") != 0) {
            burn_hostile(5 * MS_NS);
            continue;
        }
        (void)snprintf(number, sizeof(number), "%llu", (unsigned long long)i);
        CPROFD_LABEL(label, "number", number);
        burn_hostile(1000);
    }
    return program_end();
}
