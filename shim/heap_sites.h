/* The two sites that readers know (OpenTelemetry's memory profiling contract): otel_memory:alloc(pointer, bytes, weight) and
 * otel_memory:free(pointer), their arguments in the registers of a function call, as its first reader takes them. And one of ours,
 * cprofd:heap_untracked(bytes, weight): an allocation whose end will not be told, so that both of the others were passed for it. Each is one nop
 * in the function that the program called (malloc, free, ...), so that this function's caller is next in the stack.
 *
 * A test's build records them instead (CPROFD_HEAP_RECORD). */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "include/cprofd/profile.h"

#if defined(CPROFD_HEAP_RECORD)

void heap_record_alloc(void *pointer, size_t bytes, uint64_t weight);
void heap_record_free(void *pointer);
void heap_record_untracked(size_t bytes, uint64_t weight);
#define HEAP_SITE_ALLOC(pointer, bytes, weight) heap_record_alloc(pointer, bytes, weight)
#define HEAP_SITE_FREE(pointer) heap_record_free(pointer)
#define HEAP_SITE_UNTRACKED(bytes, weight) heap_record_untracked(bytes, weight)

#elif defined(__x86_64__)

#define HEAP_SITE_ALLOC(pointer, bytes, weight) \
    __asm__ volatile(CPROFD_USDT("otel_memory", "alloc", "8@%%rdi 8@%%rsi 8@%%rdx") \
                     : : "D"(pointer), "S"(bytes), "d"(weight) : "memory")
#define HEAP_SITE_FREE(pointer) \
    __asm__ volatile(CPROFD_USDT("otel_memory", "free", "8@%%rdi") : : "D"(pointer) : "memory")
#define HEAP_SITE_UNTRACKED(bytes, weight) \
    __asm__ volatile(CPROFD_USDT("cprofd", "heap_untracked", "8@%%rdi 8@%%rsi") : : "D"(bytes), "S"(weight))

#elif defined(__aarch64__)

#define HEAP_SITE_ALLOC(pointer, bytes, weight) \
    do { \
        register void *x0_ __asm__("x0") = (pointer); \
        register size_t x1_ __asm__("x1") = (bytes); \
        register uint64_t x2_ __asm__("x2") = (weight); \
        __asm__ volatile(CPROFD_USDT("otel_memory", "alloc", "8@x0 8@x1 8@x2") : : "r"(x0_), "r"(x1_), "r"(x2_) : "memory"); \
    } while (0)
#define HEAP_SITE_FREE(pointer) \
    do { \
        register void *x0_ __asm__("x0") = (pointer); \
        __asm__ volatile(CPROFD_USDT("otel_memory", "free", "8@x0") : : "r"(x0_) : "memory"); \
    } while (0)
#define HEAP_SITE_UNTRACKED(bytes, weight) \
    do { \
        register size_t x0_ __asm__("x0") = (bytes); \
        register uint64_t x1_ __asm__("x1") = (weight); \
        __asm__ volatile(CPROFD_USDT("cprofd", "heap_untracked", "8@x0 8@x1") : : "r"(x0_), "r"(x1_)); \
    } while (0)

#else
#error "no probe sites for this machine"
#endif
