/* Go's table of functions, from anybody. The input: which address is text, what FUNCDATA's entries are offsets in, and the table. */
#include <string.h>

#include "symbolize/go_symbols.h"
#include "tests/fuzz/fuzz.h"

#define TEXT_BYTES 8u
#define FURTHER_BYTES 64u
#define ADDRESSES 160u

static void check_frames(const struct symbol_frame *frames, size_t n)
{
    FUZZ_CHECK(n <= SYMBOL_MAX_INLINED);
    for (size_t i = 0; i < n; i++) {
        FUZZ_CHECK(frames[i].name && frames[i].name[0] && frames[i].system_name);
        FUZZ_CHECK(!frames[i].filename || frames[i].filename[0]);
        FUZZ_CHECK(frames[i].line >= 0 && frames[i].start_line >= 0);
    }
}

static void resolve_some(struct go_symbols *go, struct arena *arena)
{
    struct symbol_frame frames[SYMBOL_MAX_INLINED];
    struct go_function first;
    if (!go_pclntab_function(&go->module.table, 0, &first))
        return;
    for (uint64_t i = 0; i < ADDRESSES; i++) {
        check_frames(frames, go_symbols_resolve(go, arena, first.start + i, true, frames));
        check_frames(frames, go_symbols_resolve(go, arena, first.start + i, false, frames));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct go_symbols go = {.budget = 1u << 20};
    struct arena arena = {0};
    if (size < TEXT_BYTES + FURTHER_BYTES || !go_pclntab_open(data + TEXT_BYTES + FURTHER_BYTES, size - TEXT_BYTES - FURTHER_BYTES, &go.module.table))
        return 0;
    if (go.module.table.version != GO_1_16)
        memcpy(&go.module.table.text, data, TEXT_BYTES);
    go.module.further = data + TEXT_BYTES;
    go.module.further_bytes = FURTHER_BYTES;
    resolve_some(&go, &arena);
    go_symbols_deinit(&go);
    arena_deinit(&arena);
    return 0;
}
