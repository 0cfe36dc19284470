/* The stack engine on arbitrary registers, stacks and tables: it ends, within its bounds, and says how. (In the kernel the verifier has
 * proven that it reads nothing else; here the sanitizers watch.) */
#include <string.h>

#include "bpf/stack_walk.h"
#include "tests/fuzz/fuzz.h"

/* An input: registers, then what is in the arena (from place 1 on), then what is on the stack. */
struct input {
    uint64_t pc, fp;
    uint32_t space, sp_bytes, arena_bytes, flags;
};

#define STACK_BASE 0x7ffe00000000ull
static uint8_t stack[8192], arena[2][UNWIND_CHUNK_BYTES];

static long stack_read(void *to, __u32 size, __u64 address)
{
    if (address < STACK_BASE || address - STACK_BASE > sizeof(stack) - size)
        return -1;
    memcpy(to, stack + (address - STACK_BASE), size);
    return 0;
}

static const __u8 *stack_chunk(__u32 place)
{
    size_t chunk = (size_t)place * 8 / UNWIND_CHUNK_BYTES;
    return place && chunk < 2 ? arena[chunk] : NULL;
}

static struct stack_cached *stack_cache(__u32 index)
{
    return NULL; /* inputs are independent of one another */
}

static int stack_register(__u32 reg, __u64 *ret)
{
    *ret = STACK_BASE + reg * 64ull;
    return reg < 16;
}

static __u64 stack_probed_return(__u64 slot)
{
    return 0;
}

#include "bpf/stack.h"

static void fill(const uint8_t *data, size_t size, const struct input *input)
{
    size_t n = input->arena_bytes % 4096 < size ? input->arena_bytes % 4096 : size;

    memset(arena, 0, sizeof(arena));
    memcpy(arena[0] + 8, data, n);
    memcpy(arena[1], data, n);
    memset(stack, 0, sizeof(stack));
    for (size_t at = 0; size > n && at < sizeof(stack); at += size - n) {
        size_t room = sizeof(stack) - at;
        memcpy(stack + at, data + n, size - n < room ? size - n : room);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct stack_walk walk;
    struct input input;
    unsigned steps = 0;

    if (size < sizeof(input))
        return 0;
    memcpy(&input, data, sizeof(input));
    fill(data + sizeof(input), size - sizeof(input), &input);
    memset(&walk, 0, sizeof(walk));
    walk.pc = input.pc;
    walk.fp = input.fp;
    walk.sp = STACK_BASE + input.sp_bytes % sizeof(stack);
    walk.space = input.space % (2 * UNWIND_CHUNK_BYTES / 8);
    walk.by_fp = input.flags & 1;
    walk.exact = 1;
    walk.end = STACK_END_COUNT;
    stack_begin(&walk);
    stack_push(&walk, STACK_FRAME_EXACT);
    while (stack_step(&walk))
        FUZZ_CHECK(++steps <= CPROFD_MAX_FRAMES);
    FUZZ_CHECK(walk.end < STACK_END_COUNT && walk.n >= 1 && walk.n <= CPROFD_MAX_FRAMES && walk.n >= steps);
    return 0;
}
