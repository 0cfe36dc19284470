/* Code of anybody: 16 bits each for where the function begins, ends, and where one of its parts and the offset that is asked for are; the argument
 * registers that are wanted; then the code. What is chosen must be an instruction of the function, whatever that is. */
#include <errno.h>
#include <string.h>

#include "symbolize/elf_segments.h"
#include "symbolize/probe_insn.h"
#include "symbolize/probe_place.h"
#include "tests/fuzz/fuzz.h"
#include "util/cleanup.h"

#define BASE 0x1000u

struct head {
    uint16_t start, end, part_start, part_end, into;
    uint8_t args, segmented;
};

static void check_args(const struct probe_code *code, const struct probe_function *f, const struct probe_points *points)
{
    const struct probe_point *p = points->list;
    FUZZ_CHECK(points->n == 1 && p->file_offset < code->n_bytes && p->file_offset - points->entry == p->into);
    FUZZ_CHECK(p->into < f->main.end - f->main.start);
    FUZZ_CHECK(p->into == 0 || (p->cost == PROBE_EMULATED && f->main.start + p->into < f->other_entry));
    size_t left = (size_t)(code->n_bytes - p->file_offset), known = 0;
    for (size_t n = 1; n <= 6 && n <= left; n++)
        known += probe_insn_is_emulated(code->bytes + p->file_offset, n);
    FUZZ_CHECK(p->cost != PROBE_EMULATED || known > 0);
}

static void check_returns(const struct probe_code *code, const struct probe_points *points)
{
    FUZZ_CHECK(points->n > 0 && points->n <= PROBE_MAX_RETURNS);
    for (size_t i = 0; i < points->n; i++) {
        FUZZ_CHECK(points->list[i].file_offset < code->n_bytes);
        FUZZ_CHECK(strstr(points->list[i].insn, "ret"));
    }
}

static bool is_refusal(int r)
{
    return r == -ERANGE || r == -EILSEQ || r == -ENODATA || r == -E2BIG || r == -ENOMEM;
}

/* All that lies behind an address, which may be none. */
static bool tail_of(void *userdata, uint64_t address, struct probe_range *ret)
{
    const struct head *head = userdata;

    *ret = (struct probe_range){address, address + head->into};
    return !(address & 1);
}

static void find(const struct probe_code *code, const struct probe_function *f, const struct head *head)
{
    CLEANUP(probe_points_deinit) struct probe_points args = {0}, results = {0}, named = {0};
    int r = probe_place_find(code, f, PROBE_ARGS, head->args, &args);
    FUZZ_CHECK(r == 0 || is_refusal(r));
    if (r == 0)
        check_args(code, f, &args);
    r = probe_place_find(code, f, PROBE_RESULT, 0, &results);
    FUZZ_CHECK(r == 0 || is_refusal(r));
    if (r == 0)
        check_returns(code, &results);
    probe_points_deinit(&results);
    r = probe_place_find(code, f, PROBE_ENDS, 0, &results);
    FUZZ_CHECK(r == 0 || is_refusal(r));
    if (r == 0)
        check_returns(code, &results);
    r = probe_place_at(code, f, head->into, &named);
    FUZZ_CHECK(r == 0 || is_refusal(r));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct head head;
    if (size < sizeof(head))
        return 0;
    memcpy(&head, data, sizeof(head));
    data += sizeof(head);
    size -= sizeof(head);
    /* One segment; or the second half is another one, not of code, or further away. */
    size_t half = head.segmented & 1 ? size / 2 : size;
    struct elf_segment list[] = {
        {.offset = 0, .address = BASE, .file_bytes = half, .executable = true},
        {.offset = half, .address = BASE + 0x10000, .file_bytes = size - half + (head.segmented >> 4), .executable = head.segmented & 2},
    };
    struct elf_segments segments = {.list = list, .n = 2};
    const struct probe_code code = {.bytes = data, .n_bytes = size, .segments = &segments, .tail = tail_of, .userdata = &head};
    const struct probe_function f = {
        .main = {BASE + head.start, BASE + head.end}, .parts = {{BASE + head.part_start, BASE + head.part_end}}, .n_parts = 1,
        .before = BASE, .other_entry = head.segmented & 4 ? BASE + head.start + head.into : UINT64_MAX,
    };
    find(&code, &f, &head);
    return 0;
}
