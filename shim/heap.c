/* The malloc family, between the program and the allocator that it would have had: each call goes on to that one, and those that are sampled
 * pass a probe site. Put there by LD_PRELOAD or by linking (the dynamic library's names stand before the C library's), or in static programs by the
 * linker's --wrap (CPROFD_HEAP_WRAP).
 *
 * What is not sampled goes on by a jump, so that neither debuggers nor profilers see a frame of ours. What is sampled is told from
 * malloc_sampled and its like, which stand in the stack in place of the function that was called: next comes its caller. A pointer's end is told
 * before its memory goes back, and its birth before anybody has it: so readers see the lives of an address in their order, whatever threads do.
 *
 * Nothing here allocates, locks or throws; errno stays as the allocator left it. */
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <sched.h>
#include <string.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "shim/heap_live.h"
#include "shim/heap_sampler.h"
#include "shim/heap_sites.h"

#define EXPORTED __attribute__((visibility("default")))
#define HOT __attribute__((hot)) /* together, apart from what is seldom run */
#define MAX_LIVE (1u << 22)

/* All that we stand before. name, result, parameters. */
#define HEAP_FUNCTIONS(X) \
    X(malloc, void *, (size_t bytes)) \
    X(free, void, (void *pointer)) \
    X(calloc, void *, (size_t n, size_t bytes)) \
    X(realloc, void *, (void *old, size_t bytes)) \
    X(posix_memalign, int, (void **ret, size_t alignment, size_t bytes)) \
    X(aligned_alloc, void *, (size_t alignment, size_t bytes)) \
    X(memalign, void *, (size_t alignment, size_t bytes)) \
    X(valloc, void *, (size_t bytes)) \
    X(pvalloc, void *, (size_t bytes))

/* Those that come down to the above. */
#define HEAP_DERIVED(X) \
    X(reallocarray, void *, (void *old, size_t n, size_t bytes)) \
    X(free_sized, void, (void *pointer, size_t bytes)) \
    X(free_aligned_sized, void, (void *pointer, size_t alignment, size_t bytes))

struct heap_real {
#define X(name, result, parameters) result (*name) parameters;
    HEAP_FUNCTIONS(X)
#undef X
};

/* Those that call another of ours for what they do (musl's calloc calls malloc, through its public name), or that are not the allocator's (jemalloc
 * has no pvalloc: the C library's gives memory that jemalloc's free does not know). They are let alone; what they call is counted. */
struct heap_nests {
    bool calloc, realloc, posix_memalign, aligned_alloc, memalign, valloc, pvalloc;
};

/* Beside the real functions, not behind all that is zero: what each call reads is in few pages. */
static struct heap_nests nests __attribute__((section(".data")));

#ifdef CPROFD_HEAP_WRAP

#define X(name, result, parameters) extern result __real_##name parameters;
HEAP_FUNCTIONS(X)
#undef X
extern __typeof__(__real_pvalloc) __real_pvalloc __attribute__((weak)); /* musl has none */
static struct heap_real real = {
#define X(name, result, parameters) .name = __real_##name,
    HEAP_FUNCTIONS(X)
#undef X
};
#define ENTRY(name) __wrap_##name

static bool resolve(void)
{
    return true;
}

static bool is_early(const void *pointer)
{
    return false;
}

static size_t early_bytes(const void *pointer)
{
    return 0;
}

#else

#define ENTRY(name) name

/* What is allocated while the real functions are looked up, which some C libraries allocate for: never given back. */
#define EARLY_BYTES 65536u
#define EARLY_HEAD 16u /* its size, before each */

static char early[EARLY_BYTES] __attribute__((aligned(64)));
static size_t early_used;
static enum { UNRESOLVED, RESOLVING, RESOLVED } resolved;
static __thread bool resolving __attribute__((tls_model("initial-exec")));

static bool is_early(const void *pointer)
{
    return (const char *)pointer >= early && (const char *)pointer < early + EARLY_BYTES;
}

static size_t early_bytes(const void *pointer)
{
    size_t bytes;
    memcpy(&bytes, (const char *)pointer - EARLY_HEAD, sizeof(bytes));
    return bytes;
}

static void *early_alloc(size_t bytes, size_t alignment)
{
    size_t from = __atomic_load_n(&early_used, __ATOMIC_RELAXED), at;
    if (alignment < EARLY_HEAD)
        alignment = EARLY_HEAD;
    do {
        at = (from + EARLY_HEAD + alignment - 1) & ~(alignment - 1);
        if (bytes > EARLY_BYTES || alignment > 64 || at + bytes > EARLY_BYTES) {
            errno = ENOMEM;
            return NULL;
        }
    } while (!__atomic_compare_exchange_n(&early_used, &from, at + bytes, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    heap_live_mark(early, EARLY_BYTES);
    memcpy(early + at - EARLY_HEAD, &bytes, sizeof(bytes));
    return early + at;
}

static bool resolve(void);

static void *first_malloc(size_t bytes);
static void *first_calloc(size_t n, size_t bytes);
static void *first_realloc(void *old, size_t bytes);
static int first_posix_memalign(void **ret, size_t alignment, size_t bytes);
static void *first_memalign(size_t alignment, size_t bytes);
static void *first_valloc(size_t bytes);
static void first_free(void *pointer);

static struct heap_real real = {
    .malloc = first_malloc, .calloc = first_calloc, .realloc = first_realloc, .posix_memalign = first_posix_memalign,
    .aligned_alloc = first_memalign, .memalign = first_memalign, .valloc = first_valloc, .pvalloc = first_valloc, .free = first_free,
};

static void *first_malloc(size_t bytes)
{
    return resolve() ? real.malloc(bytes) : early_alloc(bytes, 1);
}

static void *first_calloc(size_t n, size_t bytes)
{
    if (resolve())
        return real.calloc(n, bytes);
    return bytes && n > EARLY_BYTES / bytes ? NULL : early_alloc(n * bytes, 1); /* never used before: zero */
}

static void *first_realloc(void *old, size_t bytes)
{
    return resolve() ? real.realloc(old, bytes) : NULL; /* of what was allocated before us */
}

static int first_posix_memalign(void **ret, size_t alignment, size_t bytes)
{
    if (resolve())
        return real.posix_memalign(ret, alignment, bytes);
    void *pointer = early_alloc(bytes, alignment);
    if (!pointer)
        return ENOMEM;
    *ret = pointer;
    return 0;
}

static void *first_memalign(size_t alignment, size_t bytes)
{
    return resolve() ? real.memalign(alignment, bytes) : early_alloc(bytes, alignment);
}

static void *first_valloc(size_t bytes)
{
    if (resolve())
        return real.valloc(bytes);
    errno = ENOMEM;
    return NULL;
}

static void first_free(void *pointer)
{
    if (resolve())
        real.free(pointer);
}

/* A function that the allocator lacks stays at what says that there is no memory. */
static void *lacking_valloc(size_t bytes)
{
    errno = ENOMEM;
    return NULL;
}

static void *lacking_memalign(size_t alignment, size_t bytes)
{
    errno = ENOMEM;
    return NULL;
}

static int lacking_posix_memalign(void **ret, size_t alignment, size_t bytes)
{
    return ENOMEM;
}

static bool look_up(void)
{
    struct heap_real found = {
#define X(name, result, parameters) .name = (result(*) parameters)dlsym(RTLD_NEXT, #name),
        HEAP_FUNCTIONS(X)
#undef X
    };
    if (!found.malloc || !found.calloc || !found.realloc || !found.free)
        return false;
    found.posix_memalign = found.posix_memalign ? found.posix_memalign : lacking_posix_memalign;
    found.aligned_alloc = found.aligned_alloc ? found.aligned_alloc : lacking_memalign;
    found.memalign = found.memalign ? found.memalign : lacking_memalign;
    found.valloc = found.valloc ? found.valloc : lacking_valloc;
    found.pvalloc = found.pvalloc ? found.pvalloc : lacking_valloc;
#define X(name, result, parameters) __atomic_store_n(&real.name, found.name, __ATOMIC_RELEASE);
    HEAP_FUNCTIONS(X)
#undef X
    return true;
}

/* True: the real functions are there. False: this thread is looking for them just now (or there are none). */
static bool resolve(void)
{
    int none = UNRESOLVED;
    if (__atomic_load_n(&resolved, __ATOMIC_ACQUIRE) == RESOLVED)
        return true;
    if (resolving)
        return false;
    if (!__atomic_compare_exchange_n((int *)&resolved, &none, RESOLVING, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        while (__atomic_load_n(&resolved, __ATOMIC_ACQUIRE) == RESOLVING)
            (void)sched_yield();
        return __atomic_load_n(&resolved, __ATOMIC_ACQUIRE) == RESOLVED;
    }
    resolving = true;
    bool found = look_up();
    __atomic_store_n(&resolved, found ? RESOLVED : UNRESOLVED, __ATOMIC_RELEASE);
    resolving = false;
    return found;
}

#endif

/* <stdlib.h> has not all of them, and says of some what the compiler would take for granted here. */
#define X(name, result, parameters) result ENTRY(name) parameters;
HEAP_FUNCTIONS(X)
HEAP_DERIVED(X)
#undef X

/* The object in whose code malloc is: where it is mapped. Nothing is looked up by name here, as dladdr does, which takes longer than all else at the
 * start of a program. */
struct allocator {
    uintptr_t from, to;
};

#ifdef CPROFD_HEAP_WRAP

static struct allocator find_allocator(void)
{
    return (struct allocator){1, UINTPTR_MAX}; /* all that is there */
}

#else

static int has_malloc(struct dl_phdr_info *info, size_t size, void *ret)
{
    struct allocator found = {.from = UINTPTR_MAX};
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *segment = &info->dlpi_phdr[i];
        uintptr_t from = info->dlpi_addr + segment->p_vaddr, to = from + segment->p_memsz;
        if (segment->p_type != PT_LOAD)
            continue;
        found.from = from < found.from ? from : found.from;
        found.to = to > found.to ? to : found.to;
    }
    if ((uintptr_t)real.malloc < found.from || (uintptr_t)real.malloc >= found.to)
        return 0;
    *(struct allocator *)ret = found;
    return 1;
}

static struct allocator find_allocator(void)
{
    struct allocator found = {0};
    (void)dl_iterate_phdr(has_malloc, &found);
    return found;
}

#endif

/* Whether one nests: our countdown tells whether one of ours was called meanwhile. What is not malloc's neighbour is taken for such. */
#define NESTS(function, call) \
    ((uintptr_t)real.function < allocator.from || (uintptr_t)real.function >= allocator.to || ({ \
         heap_thread.left = SIZE_MAX / 2; \
         void *pointer_ = (call); \
         bool counted_ = heap_thread.left != SIZE_MAX / 2; \
         real.free(pointer_); \
         counted_; \
     }))

static void *aligned(void)
{
    void *pointer = NULL;
    return real.posix_memalign(&pointer, 64, 100) == 0 ? pointer : NULL;
}

static void find_nests(void)
{
    struct heap_thread before = heap_thread;
    struct allocator allocator = find_allocator();
    nests.calloc = NESTS(calloc, real.calloc(1, 100));
    nests.realloc = NESTS(realloc, real.realloc(NULL, 100));
    nests.posix_memalign = NESTS(posix_memalign, aligned());
    nests.aligned_alloc = NESTS(aligned_alloc, real.aligned_alloc(64, 128));
    nests.memalign = NESTS(memalign, real.memalign(64, 100));
    nests.valloc = NESTS(valloc, real.valloc(100));
    nests.pvalloc = NESTS(pvalloc, real.pvalloc(100));
    heap_thread = before;
}

static uint64_t weight_of(size_t bytes);

/* Passes the sites, in the function that holds it. */
#define TELL(pointer_given, bytes_given) \
    do { \
        struct heap_sampled sampled_ = {.bytes = (bytes_given), .weight = weight_of(bytes_given)}; \
        if ((pointer_given) && sampled_.weight) { \
            bool tracked_ = heap_live_put(pointer_given, sampled_); \
            HEAP_SITE_ALLOC(pointer_given, sampled_.bytes, sampled_.weight); \
            if (!tracked_) { \
                HEAP_SITE_FREE(pointer_given); \
                HEAP_SITE_UNTRACKED(sampled_.bytes, sampled_.weight); \
            } \
        } \
    } while (0)

/* What holds the sites of FUNCTION: FUNCTION jumps to it, so that it stands in its place in the stack, and needs no frame itself. */
#define SAMPLED(function) __attribute__((noinline, cold)) function##_sampled

#ifdef CPROFD_HEAP_CXX
#include "shim/heap_cxx.h"
#else
static void cxx_find_nests(void)
{
}
#endif

/* As many as can be live and sampled in this machine's memory. */
static size_t most_live(uint64_t rate)
{
    struct sysinfo info;
    uint64_t bytes = sysinfo(&info) == 0 ? (uint64_t)info.totalram * info.mem_unit : 1ull << 33;
    uint64_t pointers = rate ? bytes / rate : 0;
    return pointers < MAX_LIVE ? (size_t)pointers : MAX_LIVE;
}

/* Once, as soon as there is an environment to read: constructors of other libraries run before ours, and allocate. */
static void begin(void)
{
    static bool begun;
    int error = errno;
    if (!environ || !resolve() || __atomic_exchange_n(&begun, true, __ATOMIC_ACQ_REL))
        return;
    find_nests();
    cxx_find_nests();
    uint64_t rate = heap_sampler_wanted_rate();
    if (heap_live_init(most_live(rate)))
        heap_sampler_set_rate(rate);
    errno = error;
}

__attribute__((constructor)) static void begin_at_the_latest(void)
{
    begin();
}

static uint64_t weight_of(size_t bytes)
{
    if (__builtin_expect(!heap_thread.random, 0))
        begin();
    return heap_sampler_weight(bytes);
}

/* A function that allocates as real.FUNCTION does, NESTS telling where that one calls another of ours. */
#define ALLOCATES(function, nests_too, parameters, arguments, bytes) \
    static void *SAMPLED(function) parameters \
    { \
        void *pointer = real.function arguments; \
        TELL(pointer, bytes); \
        return pointer; \
    } \
    EXPORTED HOT void *ENTRY(function) parameters \
    { \
        if ((nests_too) || LIKELY(!heap_sampler_passed(bytes))) \
            return real.function arguments; \
        return function##_sampled arguments; \
    }

ALLOCATES(malloc, false, (size_t bytes), (bytes), bytes)
ALLOCATES(aligned_alloc, nests.aligned_alloc, (size_t alignment, size_t bytes), (alignment, bytes), bytes)
ALLOCATES(memalign, nests.memalign, (size_t alignment, size_t bytes), (alignment, bytes), bytes)
ALLOCATES(valloc, nests.valloc, (size_t bytes), (bytes), bytes)
ALLOCATES(pvalloc, nests.pvalloc, (size_t bytes), (bytes), bytes)

static void *SAMPLED(calloc)(size_t n, size_t bytes)
{
    void *pointer = real.calloc(n, bytes);
    TELL(pointer, n * bytes);
    return pointer;
}

EXPORTED HOT void *ENTRY(calloc)(size_t n, size_t bytes)
{
    size_t all;
    if (nests.calloc || __builtin_mul_overflow(n, bytes, &all) || LIKELY(!heap_sampler_passed(all)))
        return real.calloc(n, bytes);
    return calloc_sampled(n, bytes);
}

static int SAMPLED(posix_memalign)(void **ret, size_t alignment, size_t bytes)
{
    int r = real.posix_memalign(ret, alignment, bytes);
    TELL(r == 0 ? *ret : NULL, bytes);
    return r;
}

EXPORTED int ENTRY(posix_memalign)(void **ret, size_t alignment, size_t bytes)
{
    if (nests.posix_memalign || LIKELY(!heap_sampler_passed(bytes)))
        return real.posix_memalign(ret, alignment, bytes);
    return posix_memalign_sampled(ret, alignment, bytes);
}

/* What was allocated while we looked for the real functions: they don't know it. */
static void *move_early(void *old, size_t bytes)
{
    void *pointer = real.malloc(bytes);
    if (pointer)
        memcpy(pointer, old, early_bytes(old) < bytes ? early_bytes(old) : bytes);
    return pointer;
}

/* The old memory or the new one is sampled, or both may be. The old one's end is told at once, since another thread may have its address as
 * soon as it moves; where it then stays, for want of memory, it is told anew. */
static void *SAMPLED(realloc)(void *old, size_t bytes)
{
    struct heap_sampled was;
    if (is_early(old))
        return move_early(old, bytes);
    bool sampled = heap_live_take(old, &was);
    if (sampled)
        HEAP_SITE_FREE(old);
    bool passed = heap_sampler_passed(bytes);
    void *pointer = real.realloc(old, bytes);
    if (sampled && !pointer && bytes > 0 && heap_live_put(old, was))
        HEAP_SITE_ALLOC(old, was.bytes, was.weight);
    if (passed)
        TELL(pointer, bytes);
    return pointer;
}

HOT static void *reallocate(void *old, size_t bytes)
{
    if (heap_live_maybe(old) || bytes > heap_thread.left)
        return nests.realloc && !is_early(old) ? real.realloc(old, bytes) : realloc_sampled(old, bytes);
    if (!nests.realloc)
        heap_thread.left -= bytes;
    return real.realloc(old, bytes);
}

EXPORTED void *ENTRY(realloc)(void *old, size_t bytes)
{
    return reallocate(old, bytes);
}

EXPORTED void *ENTRY(reallocarray)(void *old, size_t n, size_t bytes)
{
    size_t all;
    if (__builtin_mul_overflow(n, bytes, &all)) {
        errno = ENOMEM;
        return NULL;
    }
    return reallocate(old, all);
}

/* Of one that may be sampled. */
static void SAMPLED(free)(void *pointer)
{
    struct heap_sampled unused;
    if (is_early(pointer))
        return;
    if (heap_live_take(pointer, &unused))
        HEAP_SITE_FREE(pointer);
    real.free(pointer);
}

EXPORTED HOT void ENTRY(free)(void *pointer)
{
    if (heap_live_maybe(pointer))
        free_sampled(pointer);
    else
        real.free(pointer);
}

/* C23's. An allocator that has them takes free for the same. */
EXPORTED void ENTRY(free_sized)(void *pointer, size_t bytes)
{
    if (heap_live_maybe(pointer))
        free_sampled(pointer);
    else
        real.free(pointer);
}

EXPORTED void ENTRY(free_aligned_sized)(void *pointer, size_t alignment, size_t bytes)
{
    if (heap_live_maybe(pointer))
        free_sampled(pointer);
    else
        real.free(pointer);
}
