// C++: templates, lambdas, unnamed namespaces, virtual and inlined functions, exceptions in split parts.
#include <algorithm>
#include <cstdio>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace {
struct Scale {
    int factor;
    __attribute__((always_inline)) int apply(int x) const { return x * factor + helper(x); }
    static int helper(int x)
    {
        volatile int v = x;
        return v / 3;
    }
};

__attribute__((noinline)) int unnamed(int x)
{
    Scale scale{x};
    return scale.apply(x) + 1;
}
} // namespace

namespace outer {
namespace inner {
template <class T> struct Box {
    T value;
    __attribute__((noinline)) T get(T other) { return value + other + unnamed(static_cast<int>(other)); }
};
} // namespace inner
static inline int doubled(int a)
{
    volatile int z = a;
    return z * 2;
}
} // namespace outer

struct Base {
    virtual ~Base() = default;
    virtual int run(int x) = 0;
};

struct Derived : Base {
    std::map<std::string, int> counts;
    int run(int x) override
    {
        if (x > 1000)
            throw std::runtime_error("too many: " + std::to_string(x));
        counts[std::to_string(x)] += outer::doubled(x);
        return static_cast<int>(counts.size());
    }
};

// Its second base's function is reached by a thunk, which has a line and no DIE.
struct Left {
    virtual ~Left() = default;
    virtual int left(int x) { return x; }
};

struct Right {
    virtual ~Right() = default;
    virtual int right(int x) = 0;
};

struct Both : Left, Right {
    int right(int x) override { return x * 3; }
};

int main(int argc, char **)
{
    std::vector<int> numbers;
    for (int i = 0; i < argc * 100; i++)
        numbers.push_back(i * 7919 % 1000);
    std::sort(numbers.begin(), numbers.end(), [&](int a, int b) { return a % 7 < b % 7; });
    int size = static_cast<int>(numbers.size());
    auto apart = [&](int a) __attribute__((noinline)) { return outer::doubled(a) + size; };
    outer::inner::Box<long> box{argc};
    Derived derived;
    Base *base = &derived;
    Right *right = argc > 5 ? nullptr : new Both;
    std::printf("%ld %d %d %d\n", box.get(numbers[0]), apart(3), base->run(argc), right->right(argc));
    delete right;
    return 0;
}
