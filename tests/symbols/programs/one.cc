// All code of this unit is in one section, so that lists of ranges may count from where it begins. (GCC gives main one of its own.)
#include "wide.h"

static int volatile sink;

static inline __attribute__((always_inline)) int clamped(int x, int low, int high)
{
    if (x < low)
        sink = low;
    return x > high ? high : x;
}

static inline __attribute__((always_inline)) int summed(const int *list, int n)
{
    int sum = 0;
    for (int i = 0; i < n; i++) {
        int part = clamped(list[i], 0, n);
        if (part & 1)
            sum += part * 3;
        else
            sum ^= clamped(part, sum, n * 2);
    }
    return sum;
}

__attribute__((noinline)) static int turned(int *list, int n)
{
    for (int i = 1; i < n; i++) {
        int at = list[i], j = i;
        for (; j > 0 && list[j - 1] > clamped(at, 1, n); j--)
            list[j] = list[j - 1];
        list[j] = at;
    }
    return summed(list, n) + static_cast<int>(wide::hashed("turned"));
}

namespace wide {
template <typename T> __attribute__((noinline)) T folded(const T *list, int n)
{
    T value = 1;
    for (int i = 0; i < n; i++)
        value = static_cast<T>(Box<T>::of(list[i]).plus(value) * 31 + clamped(i, 2, 5));
    return value;
}
} // namespace wide

int one(int n)
{
    int list[64];
    long longs[8] = {n, 2, 3};
    for (int i = 0; i < 64; i++)
        list[i] = i * 7919 % (n + 50);
    sink = turned(list, 64) + summed(list, n & 31);
    return static_cast<int>(wide::folded(longs, 8)) + wide::folded(list, 64) > 0;
}
