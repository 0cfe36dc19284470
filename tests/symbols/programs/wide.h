// What the two files of the C++ program have in common, inlined into both.
#pragma once

#include <cstdint>
#include <string>

namespace wide {
inline std::uint32_t mixed(std::uint32_t h, unsigned char c)
{
    return (h ^ c) * 16777619u;
}

inline std::uint32_t hashed(const char *text)
{
    std::uint32_t h = 2166136261u;
    while (*text)
        h = mixed(h, static_cast<unsigned char>(*text++));
    return h;
}

template <typename T> struct Box {
    T value;
    T plus(T other) const { return value + other; }
    static Box of(T value) { return Box{value}; }
};

long other_hash(const char *text);
int other_main(int n);
} // namespace wide
