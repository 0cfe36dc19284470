/* C++'s operators new and delete, for allocators that have their own (jemalloc's, tcmalloc's, mimalloc's do not call malloc). In a library of its own
 * (libcprofd-heap-cxx), which brings the C++ library into the process: else, in a program that loads C++ code late, ours would be found first and the
 * real ones not at all. Those that do call malloc (libstdc++'s) are let alone, as other functions that nest. Included by heap.c.
 *
 * In C, by their mangled names. Exceptions of the real ones pass through: none of these frames has anything to clean up. */
#pragma once

/* Those that allocate: name, mangled name, parameters, arguments, and arguments to try it with. */
#define HEAP_NEW(X) \
    X(new, "_Znwm", (size_t bytes), (bytes), (100)) \
    X(new_array, "_Znam", (size_t bytes), (bytes), (100)) \
    X(new_nothrow, "_ZnwmRKSt9nothrow_t", (size_t bytes, const void *nothrow), (bytes, nothrow), (100, &heap_thread)) \
    X(new_array_nothrow, "_ZnamRKSt9nothrow_t", (size_t bytes, const void *nothrow), (bytes, nothrow), (100, &heap_thread)) \
    X(new_aligned, "_ZnwmSt11align_val_t", (size_t bytes, size_t alignment), (bytes, alignment), (100, 64)) \
    X(new_array_aligned, "_ZnamSt11align_val_t", (size_t bytes, size_t alignment), (bytes, alignment), (100, 64)) \
    X(new_aligned_nothrow, "_ZnwmSt11align_val_tRKSt9nothrow_t", (size_t bytes, size_t alignment, const void *nothrow), \
      (bytes, alignment, nothrow), (100, 64, &heap_thread)) \
    X(new_array_aligned_nothrow, "_ZnamSt11align_val_tRKSt9nothrow_t", (size_t bytes, size_t alignment, const void *nothrow), \
      (bytes, alignment, nothrow), (100, 64, &heap_thread))

/* Those that give back. */
#define HEAP_DELETE(X) \
    X(delete, "_ZdlPv", (void *pointer), (pointer)) \
    X(delete_array, "_ZdaPv", (void *pointer), (pointer)) \
    X(delete_sized, "_ZdlPvm", (void *pointer, size_t bytes), (pointer, bytes)) \
    X(delete_array_sized, "_ZdaPvm", (void *pointer, size_t bytes), (pointer, bytes)) \
    X(delete_nothrow, "_ZdlPvRKSt9nothrow_t", (void *pointer, const void *nothrow), (pointer, nothrow)) \
    X(delete_array_nothrow, "_ZdaPvRKSt9nothrow_t", (void *pointer, const void *nothrow), (pointer, nothrow)) \
    X(delete_aligned, "_ZdlPvSt11align_val_t", (void *pointer, size_t alignment), (pointer, alignment)) \
    X(delete_array_aligned, "_ZdaPvSt11align_val_t", (void *pointer, size_t alignment), (pointer, alignment)) \
    X(delete_sized_aligned, "_ZdlPvmSt11align_val_t", (void *pointer, size_t bytes, size_t alignment), (pointer, bytes, alignment)) \
    X(delete_array_sized_aligned, "_ZdaPvmSt11align_val_t", (void *pointer, size_t bytes, size_t alignment), (pointer, bytes, alignment)) \
    X(delete_aligned_nothrow, "_ZdlPvSt11align_val_tRKSt9nothrow_t", (void *pointer, size_t alignment, const void *nothrow), \
      (pointer, alignment, nothrow)) \
    X(delete_array_aligned_nothrow, "_ZdaPvSt11align_val_tRKSt9nothrow_t", (void *pointer, size_t alignment, const void *nothrow), \
      (pointer, alignment, nothrow))

static struct {
#define X(name, mangled, parameters, ...) void *(*name) parameters;
    HEAP_NEW(X)
#undef X
#define X(name, mangled, parameters, arguments) void (*name) parameters;
    HEAP_DELETE(X)
#undef X
} cxx;

/* True: the real one calls malloc, or another of ours. Until it was tried, it is let alone. */
static struct {
    bool tried;
#define X(name, ...) bool name;
    HEAP_NEW(X)
#undef X
} cxx_nests;

/* All are there: they come with the C++ library, whichever it is. */
static void cxx_look_up(void)
{
    void *found;
#define X(name, mangled, ...) \
    found = dlsym(RTLD_NEXT, mangled); \
    __atomic_store_n((void **)&cxx.name, found, __ATOMIC_RELEASE);
    HEAP_NEW(X)
    HEAP_DELETE(X)
#undef X
}

/* Tried with the countdown set, as find_nests does. What is given back goes by the plain delete or the aligned one. */
static void cxx_find_nests(void)
{
    struct heap_thread before = heap_thread;
    cxx_look_up();
#define X(name, mangled, parameters, arguments, trial) \
    heap_thread.left = SIZE_MAX / 2; \
    if (cxx.name) { \
        void *pointer = cxx.name trial; \
        cxx_nests.name = heap_thread.left != SIZE_MAX / 2; \
        if (strstr(mangled, "align_val_t")) \
            cxx.delete_aligned(pointer, 64); \
        else \
            cxx.delete(pointer); \
    }
    HEAP_NEW(X)
#undef X
    heap_thread = before;
    __atomic_store_n(&cxx_nests.tried, true, __ATOMIC_RELEASE);
}

#define X(name, mangled, parameters, arguments, trial) \
    static void *SAMPLED(name) parameters \
    { \
        void *pointer = cxx.name arguments; \
        TELL(pointer, bytes); \
        return pointer; \
    } \
    EXPORTED void *operator_##name parameters __asm__(mangled); \
    EXPORTED void *operator_##name parameters \
    { \
        if (__builtin_expect(!cxx.name, 0)) \
            cxx_look_up(); \
        if (cxx_nests.name || !cxx_nests.tried || LIKELY(!heap_sampler_passed(bytes))) \
            return cxx.name arguments; \
        return name##_sampled arguments; \
    }
HEAP_NEW(X)
#undef X

#define X(name, mangled, parameters, arguments) \
    static void SAMPLED(name) parameters \
    { \
        struct heap_sampled unused; \
        if (heap_live_take(pointer, &unused)) \
            HEAP_SITE_FREE(pointer); \
        cxx.name arguments; \
    } \
    EXPORTED void operator_##name parameters __asm__(mangled); \
    EXPORTED void operator_##name parameters \
    { \
        if (__builtin_expect(!cxx.name, 0)) \
            cxx_look_up(); \
        if (heap_live_maybe(pointer)) \
            name##_sampled arguments; \
        else \
            cxx.name arguments; \
    }
HEAP_DELETE(X)
#undef X
