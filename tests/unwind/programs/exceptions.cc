// Exceptions through several frames: with clean-ups, caught by type, thrown again, out of a constructor and a callback; beside the
// frames that C++ code has otherwise.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#define NOINLINE __attribute__((noinline))

static volatile uint64_t sink;

struct Cleanup {
    uint64_t value;
    NOINLINE explicit Cleanup(uint64_t v) : value(v) { sink = sink + v; }
    NOINLINE ~Cleanup() { sink = sink - value; }
};

struct Shape {
    virtual ~Shape() = default;
    virtual uint64_t area(uint64_t n) const = 0;
};

struct Square : Shape {
    NOINLINE uint64_t area(uint64_t n) const override { return n * n; }
};

struct Failing : Shape {
    NOINLINE uint64_t area(uint64_t n) const override
    {
        Cleanup cleanup(n);
        throw std::out_of_range("area " + std::to_string(n));
    }
};

NOINLINE uint64_t thrower(unsigned depth)
{
    Cleanup cleanup(depth);
    if (depth == 0)
        throw std::runtime_error("deep");
    return thrower(depth - 1) + cleanup.value;
}

NOINLINE uint64_t rethrows(unsigned depth)
{
    try {
        return thrower(depth);
    } catch (const std::logic_error &) {
        return 1;
    } catch (...) {
        Cleanup cleanup(3);
        throw;
    }
}

struct Constructed {
    Cleanup first{1};
    std::unique_ptr<Square> square = std::make_unique<Square>();
    NOINLINE Constructed() { throw 42; }
};

NOINLINE uint64_t through_callback(std::vector<uint64_t> values)
{
    std::sort(values.begin(), values.end(), [](uint64_t a, uint64_t b) {
        if (a + b == 9)
            throw a;
        return a < b;
    });
    return values[0];
}

NOINLINE uint64_t catches(unsigned round)
{
    uint64_t sum = 0;
    try {
        sum += rethrows(4);
    } catch (const std::exception &e) {
        sum += std::string(e.what()).size();
    }
    try {
        Constructed constructed;
    } catch (int code) {
        sum += static_cast<uint64_t>(code);
    }
    try {
        sum += through_callback({5, 3, 8, 6, 2, 4, 1});
    } catch (uint64_t value) {
        sum += value;
    }
    std::unique_ptr<Shape> shape;
    if (round)
        shape = std::make_unique<Failing>();
    else
        shape = std::make_unique<Square>();
    try {
        sum += shape->area(round + 7);
        sum += dynamic_cast<Square *>(shape.get()) ? 1 : 2;
    } catch (const std::out_of_range &e) {
        sum += e.what()[0];
    }
    return sum;
}

int main()
{
    uint64_t sum = 0;
    for (unsigned round = 0; round < 2; round++)
        sum += catches(round);
    std::printf("%lu\n", static_cast<unsigned long>(sum));
    return 0;
}
