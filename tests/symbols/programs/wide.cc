// C++ of many kinds: much of the standard library's templates, and names of every shape.
#include "wide.h"

#include <algorithm>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <tuple>
#include <unordered_map>
#include <variant>
#include <vector>

namespace {
// Names that no other file can link with.
struct Counter {
    int count = 0;
    int operator()(int by) { return count += by * 3; }
    explicit operator bool() const { return count > 0; }
    friend Counter operator+(Counter a, const Counter &b)
    {
        a.count += b.count;
        return a;
    }
};

template <typename T, int N> struct Ring {
    T slots[N] = {};
    unsigned at = 0;
    void put(T value) { slots[at++ % N] = std::move(value); }
    template <typename F> auto fold(F f) const
    {
        return std::accumulate(std::begin(slots), std::end(slots), T{}, f);
    }
};

int recursive(int n)
{
    return n < 2 ? n : recursive(n - 1) + recursive(n - 2);
}

__attribute__((noinline)) std::string joined(const std::vector<std::string> &parts, char by)
{
    std::ostringstream out;
    for (const auto &part : parts)
        out << part << by;
    return out.str();
}
} // namespace

namespace wide {
inline namespace v2 {
struct Shape {
    virtual ~Shape() = default;
    virtual double area() const = 0;
    virtual std::string describe() const { return "shape of " + std::to_string(area()); }
};

struct Square final : Shape {
    double side;
    explicit Square(double s) : side(s) {}
    double area() const override { return side * side; }
};

struct Tagged : virtual Shape {
    std::string tag;
    explicit Tagged(std::string t) : tag(std::move(t)) {}
    double area() const override { return static_cast<double>(tag.size()); }
    std::string describe() const override { return tag + Shape::describe(); }
};
} // namespace v2

template <typename... Ts> struct Visitor : Ts... {
    using Ts::operator()...;
};
template <typename... Ts> Visitor(Ts...) -> Visitor<Ts...>;

using Value = std::variant<int, double, std::string>;

std::string shown(const Value &value)
{
    return std::visit(Visitor{[](int i) { return "int " + std::to_string(i); },
                              [](double d) { return "double " + std::to_string(d); },
                              [](const std::string &s) { return "string " + s; }},
                      value);
}

__attribute__((noinline)) int throws(int x)
{
    struct Local {
        int v;
        int twice() const { return v > 900 ? throw std::out_of_range("local") : 2 * v; }
    };
    try {
        if (x > 1000)
            throw std::runtime_error(joined({"too", "many", std::to_string(x)}, ' '));
        return Local{x}.twice();
    } catch (const std::out_of_range &e) {
        return static_cast<int>(std::string(e.what()).size());
    }
}

template <typename Map> std::size_t words(const std::string &text, Map &counts)
{
    std::istringstream in(text);
    std::string word;
    while (in >> word)
        counts[word + std::to_string(word.size())] += 1;
    return counts.size();
}
} // namespace wide

int main(int argc, char **argv)
{
    std::vector<std::string> arguments(argv, argv + argc);
    std::map<std::string, int> ordered;
    std::unordered_map<std::string, int> hashed;
    Ring<long, 16> ring;
    Ring<std::string, 4> strings;
    Counter counter, other;

    for (int i = 0; i < 100 * argc; i++)
        ring.put(wide::other_hash(std::to_string(i).c_str()));
    for (const auto &argument : arguments)
        strings.put(argument + "x");
    std::size_t n = wide::words(joined(arguments, ' '), ordered) + wide::words(strings.fold(std::plus<>{}), hashed);
    std::vector<std::unique_ptr<wide::Shape>> shapes;
    shapes.push_back(std::make_unique<wide::Square>(argc));
    shapes.push_back(std::make_unique<wide::Tagged>(arguments[0]));
    std::sort(shapes.begin(), shapes.end(), [](const auto &a, const auto &b) { return a->area() < b->area(); });
    std::function<int(int)> indirect = [&](int k) { return counter(k) + static_cast<int>(shapes.size()); };
    std::set<std::tuple<int, std::string>> tuples;
    for (auto &shape : shapes)
        tuples.emplace(indirect(recursive(argc)), shape->describe());
    std::optional<wide::Value> value = argc > 2 ? std::optional<wide::Value>(2.5) : std::nullopt;
    std::printf("%zu %zu %d %s %ld %d\n", n, tuples.size(), wide::throws(argc), wide::shown(value.value_or(argc)).c_str(),
                ring.fold([](long a, long b) { return a ^ b; }), static_cast<bool>(counter + other));
    return wide::other_main(argc);
}
