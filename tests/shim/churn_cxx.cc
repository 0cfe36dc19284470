// All operators new and delete, in turns, from inline and library code; what it allocated by them, as JSON (see churn.c). Sizes are 7 mod 16.
// One allocation that cannot be granted throws, through the shim; with huge=0 none is tried, since some allocators end the process then. aligned=0 leaves
// out those with an alignment, whose sizes libstdc++ rounds.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <new>
#include <unistd.h>
#include <vector>

struct tally {
    unsigned long allocs, bytes;
    long live, live_bytes;
};

static tally total;

static void note(std::size_t bytes, long times)
{
    if (times > 0) {
        total.allocs++;
        total.bytes += bytes;
    }
    total.live += times;
    total.live_bytes += times * static_cast<long>(bytes);
}

static void *make(unsigned how, std::size_t bytes)
{
    const std::align_val_t align{64};
    note(bytes, 1);
    switch (how) {
    case 0: return ::operator new(bytes);
    case 1: return ::operator new[](bytes);
    case 2: return ::operator new(bytes, std::nothrow);
    case 3: return ::operator new[](bytes, std::nothrow);
    case 4: return ::operator new(bytes, align);
    case 5: return ::operator new[](bytes, align);
    case 6: return ::operator new(bytes, align, std::nothrow);
    default: return ::operator new[](bytes, align, std::nothrow);
    }
}

static void drop(unsigned how, unsigned i, void *pointer, std::size_t bytes)
{
    const std::align_val_t align{64};
    note(bytes, -1);
    switch (how) {
    case 0: return i % 3 == 0 ? ::operator delete(pointer) : i % 3 == 1 ? ::operator delete(pointer, bytes) : ::operator delete(pointer, std::nothrow);
    case 1: return i % 3 == 0 ? ::operator delete[](pointer) : i % 3 == 1 ? ::operator delete[](pointer, bytes) : ::operator delete[](pointer, std::nothrow);
    case 2: return ::operator delete(pointer);
    case 3: return ::operator delete[](pointer);
    case 4: return i % 2 ? ::operator delete(pointer, align) : ::operator delete(pointer, bytes, align);
    case 5: return i % 2 ? ::operator delete[](pointer, align) : ::operator delete[](pointer, bytes, align);
    case 6: return ::operator delete(pointer, align, std::nothrow);
    default: return ::operator delete[](pointer, align, std::nothrow);
    }
}

extern "C" __attribute__((weak)) void heap_record_begin(); // of a shim that records, if it is one

int main(int argc, char **argv)
{
    if (heap_record_begin)
        heap_record_begin();
    bool huge = true;
    unsigned ways = 8;
    for (int i = 1; i < argc; i++) {
        if (std::strcmp(argv[i], "huge=0") == 0)
            huge = false;
        if (std::strcmp(argv[i], "aligned=0") == 0)
            ways = 4;
    }
    struct made {
        void *pointer;
        std::size_t bytes;
    };
    std::vector<made> list(16000);
    for (unsigned i = 0; i < list.size(); i++) {
        list[i].bytes = (i * 7919ul % 3000) / 16 * 16 + 7;
        list[i].pointer = make(i % ways, list[i].bytes);
        if (!list[i].pointer)
            return 1;
        std::memset(list[i].pointer, 0x5a, list[i].bytes);
    }
    for (unsigned i = 0; i < list.size(); i += 1 + i % 2)
        drop(i % ways, i / 8, list[i].pointer, list[i].bytes);
    if (huge) {
        void *volatile none = nullptr;
        try {
            none = ::operator new(static_cast<std::size_t>(1) << 62);
            return 2;
        } catch (const std::bad_alloc &) {
        }
        if (none || ::operator new(static_cast<std::size_t>(1) << 62, std::nothrow))
            return 3;
    }
    std::printf("{\"pid\": %d, \"allocs\": %lu, \"bytes\": %lu, \"live\": %ld, \"live_bytes\": %ld}\n", static_cast<int>(getpid()), total.allocs,
                total.bytes, total.live, total.live_bytes);
}
