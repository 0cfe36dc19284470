// Labels in C++ (cprofd/labels.h): they end with their block, also when an exception leaves it. burn_within has request=/thrown, burn_after none.
#include "cprofd/labels.h"

#include <stdexcept>

extern "C" {
#include "program.h"
}

static struct tally tallies[2];

static NOINLINE void burn_within()
{
    BURN(&tallies[0], 5 * MS_NS);
}

static NOINLINE void burn_after()
{
    BURN(&tallies[1], 5 * MS_NS);
}

static NOINLINE void throws()
{
    CPROFD_LABEL(request, "request", "/thrown");
    burn_within();
    throw std::runtime_error("over");
}

int main(int argc, char **argv)
{
    tallies[0].name = "burn_within()";
    tallies[1].name = "burn_after()";
    program_init(argc, argv, tallies, 2);
    program_ready();
    while (program_running()) {
        try {
            throws();
        } catch (const std::runtime_error &) {
            burn_after();
        }
    }
    return program_end();
}
