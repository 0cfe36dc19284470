// C++: two instances of a template and a method, whose names only demangling makes readable.
#include <cstdint>
#include <vector>

extern "C" {
#include "program.h"
}

static struct tally tallies[] = {
    {"mix<unsigned int>", 0, 0},
    {"mix<unsigned long>", 0, 0},
    {"Matrix::fill", 0, 0},
};

namespace shapes {

template <typename T> NOINLINE void mix(struct tally *tally)
{
    volatile T value = 1;

    value = value + static_cast<T>(3);
    BURN(tally, MS_NS);
}

class Matrix {
public:
    explicit Matrix(unsigned size) : cells(size) {}
    NOINLINE void fill(struct tally *tally)
    {
        cells[0]++;
        BURN(tally, MS_NS);
    }

private:
    std::vector<uint64_t> cells;
};

} // namespace shapes

int main(int argc, char **argv)
{
    shapes::Matrix matrix(16);

    program_init(argc, argv, tallies, 3);
    program_ready();
    while (program_running()) {
        shapes::mix<unsigned int>(&tallies[0]);
        shapes::mix<unsigned long>(&tallies[1]);
        matrix.fill(&tallies[2]);
    }
    return program_end();
}
