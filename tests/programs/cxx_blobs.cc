/* Named profiles from C++: in a constructor and destructor, in a template and in an inline function, under a namespace. For each line on
 * standard input it makes open= (100) handles of two types in open_handles, and drops half of them. */
#include <memory>
#include <vector>

#include "cprofd/profile.h"

extern "C" {
#include "program.h"
}

namespace store {
CPROFD_PROFILE(handles, "store::Handle", "handles: 100% of {them|these}, \"quoted\"", "count");

template <typename Value> class handle {
  public:
    NOINLINE handle() : value() { CPROFD_PROFILE_ADD(handles, this); }
    NOINLINE ~handle() { CPROFD_PROFILE_REMOVE(handles, this); }
    handle(const handle &) = delete;
    handle &operator=(const handle &) = delete;

  private:
    Value value;
};

inline void touch(unsigned long key, unsigned long bytes)
{
    CPROFD_PROFILE_ADD_WEIGHT(handles, key, bytes, 0);
    CPROFD_PROFILE_REMOVE(handles, key);
}
}

static struct tally tallies[] = { { "open_handles", 0, 0 } };
static std::vector<std::unique_ptr<store::handle<int>>> ints;
static std::vector<std::unique_ptr<store::handle<double>>> doubles;
static long open_handles_n;

static NOINLINE void open_handles()
{
    for (long i = 0; i < open_handles_n; i++) {
        ints.push_back(std::unique_ptr<store::handle<int>>(new store::handle<int>()));
        doubles.push_back(std::unique_ptr<store::handle<double>>(new store::handle<double>()));
        if (i % 2)
            doubles.pop_back(), ints.pop_back();
        else
            tallies[0].calls += 2;
        store::touch(static_cast<unsigned long>(i) + 1, 7);
    }
    KEEP_FRAME();
}

static void on_line(const char *)
{
    open_handles();
}

int main(int argc, char **argv)
{
    program_on_line(on_line);
    program_init(argc, argv, tallies, 1);
    open_handles_n = program_option("open", 100);
    program_ready();
    while (program_running())
        program_sleep_until(program_clock_ns(CLOCK_MONOTONIC) + 10 * MS_NS);
    return program_end();
}
