/* Entries are collected as places, sorted, and read again when their turn comes: a place is a third of an FDE, and there are hundreds
 * of thousands. */
#include "symbolize/unwind_fdes.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"

#define ELF_HEADER_BYTES 64 /* no code begins before: addresses that a linker has dropped are 0 */
#define RADIX_BITS 11
#define RADIX_SLOTS (1u << RADIX_BITS)

static void read_cie(struct unwind_fdes *fdes, const struct cfi_section *section, uint64_t offset, struct unwind_cie *ret)
{
    *ret = (struct unwind_cie){.section = section, .is_known = true, .cie.offset = offset};
    struct cfi_cie cie;
    if (!cfi_cie_read(section, offset, &cie))
        return;
    fdes->cie_bytes += cie.code_bytes;
    uint32_t ra = cie.return_register > UINT32_MAX ? UINT32_MAX : (uint32_t)cie.return_register;
    ret->cie = cie;
    ret->registers = (struct cfi_registers){.fp = fdes->fp, .sp = fdes->sp, .ra = ra};
    struct cfi_program program = {
        .code = cie.code,
        .bytes = cie.code_bytes,
        .code_align = cie.code_align,
        .data_align = cie.data_align,
        .registers = ret->registers,
    };
    ret->is_sound = cfi_run_initial(&program, &ret->initial);
    /* Where nothing is said of the return address, it is in its register: aarch64, and glibc's own calling conventions there. */
    if (ret->initial.ra.kind == CFI_UNSET)
        ret->initial.ra = (struct cfi_column){.kind = CFI_REGISTER, .reg = ra};
}

const struct unwind_cie *unwind_fdes_cie(struct unwind_fdes *fdes, const struct cfi_section *section, uint64_t offset)
{
    struct unwind_cie *slot = &fdes->cies[offset / 4 % UNWIND_CIE_SLOTS];
    if (!slot->is_known || slot->section != section || slot->cie.offset != offset)
        read_cie(fdes, section, offset, slot);
    return slot->is_sound ? slot : NULL;
}

/* An FDE's place in the file. False: it covers no code. */
static bool locate(const struct elf_segments *segments, uint64_t file_bytes, const struct cfi_fde *fde, struct unwind_fde *ret)
{
    for (size_t i = 0; i < segments->n && segments->list[i].executable; i++) {
        const struct elf_segment *s = &segments->list[i];
        if (fde->start < s->address || fde->start - s->address >= s->file_bytes)
            continue;
        uint64_t from = fde->start - s->address, bytes = s->file_bytes - from;
        if (bytes > fde->bytes)
            bytes = fde->bytes;
        ret->start = s->offset + from;
        ret->bytes = bytes > UINT32_MAX ? UINT32_MAX : (uint32_t)bytes;
        return ret->bytes > 0 && ret->start >= ELF_HEADER_BYTES && ret->start < file_bytes && ret->bytes <= file_bytes - ret->start;
    }
    return false;
}

static int add(struct unwind_fdes *fdes, struct unwind_fde fde)
{
    if (fdes->n == fdes->room) {
        size_t room = fdes->room ? 2 * fdes->room : 4096;
        if (room > UNWIND_MAX_FDES)
            return -EFBIG;
        struct unwind_fde *list = reallocarray(fdes->list, room, sizeof(*list));
        if (!list)
            return -ENOMEM;
        fdes->list = list;
        fdes->room = room;
    }
    fdes->list[fdes->n++] = fde;
    return 0;
}

/* The last of the first n FDEs that begins at start or before; NULL: none. */
static const struct unwind_fde *find_before(const struct unwind_fde *list, size_t n, uint64_t start)
{
    size_t from = 0, to = n;
    while (from < to) {
        size_t middle = from + (to - from) / 2;
        if (list[middle].start <= start)
            from = middle + 1;
        else
            to = middle;
    }
    return from > 0 ? &list[from - 1] : NULL;
}

/* Adds an FDE, unless it covers no code, or begins inside one of the first n_known, which are sorted. */
static int add_unknown(struct unwind_fdes *fdes, const struct elf_segments *segments, size_t n_known, const struct cfi_fde *fde,
                       struct unwind_fde place)
{
    if (!locate(segments, fdes->file_bytes, fde, &place))
        return 0;
    const struct unwind_fde *known = find_before(fdes->list, n_known, place.start);
    return known && place.start - known->start < known->bytes ? 0 : add(fdes, place);
}

static int collect_section(struct unwind_fdes *fdes, const struct elf_segments *segments, uint32_t number, size_t n_known)
{
    const struct cfi_section *section = &fdes->sections[number];
    struct cfi_entry entry;
    for (uint64_t offset = 0; section->data && cfi_entry_read(section, offset, &entry); offset = entry.next) {
        struct cfi_fde fde;
        const struct unwind_fde place = {.entry = offset, .section = number};
        if (entry.kind != CFI_ENTRY_FDE)
            continue;
        const struct unwind_cie *cie = unwind_fdes_cie(fdes, section, entry.cie_offset);
        if (fdes->cie_bytes > UNWIND_MAX_CIE_BYTES)
            return -EFBIG;
        if (!cie || !cfi_fde_read(section, &entry, &cie->cie, &fde))
            continue;
        int r = add_unknown(fdes, segments, n_known, &fde, place);
        if (r < 0)
            return r;
    }
    return 0;
}

static int collect_go(struct unwind_fdes *fdes, const struct elf_segments *segments, size_t n_known)
{
    int r = 0;
    for (uint64_t i = 0; r == 0 && i < fdes->go.table.n; i++) {
        struct go_function function;
        if (!go_pclntab_function(&fdes->go.table, i, &function))
            continue;
        const struct cfi_fde fde = {.start = function.start, .bytes = function.end - function.start};
        r = add_unknown(fdes, segments, n_known, &fde, (struct unwind_fde){.entry = i, .section = UNWIND_GO});
    }
    return r;
}

static void radix_pass(const struct unwind_fde *from, size_t n, unsigned shift, struct unwind_fde *to)
{
    size_t places[RADIX_SLOTS] = {0}, sum = 0;
    for (size_t i = 0; i < n; i++)
        places[from[i].start >> shift & (RADIX_SLOTS - 1)]++;
    for (size_t i = 0; i < RADIX_SLOTS; i++) {
        size_t count = places[i];
        places[i] = sum;
        sum += count;
    }
    for (size_t i = 0; i < n; i++)
        to[places[from[i].start >> shift & (RADIX_SLOTS - 1)]++] = from[i];
}

/* By start; of two that begin together, the first stays so. Linkers leave most of them sorted already. */
static int sort(struct unwind_fdes *fdes)
{
    uint64_t highest = 0;
    bool is_sorted = true;
    for (size_t i = 0; i < fdes->n; i++) {
        is_sorted &= fdes->list[i].start >= highest;
        highest = fdes->list[i].start > highest ? fdes->list[i].start : highest;
    }
    if (is_sorted)
        return 0;
    struct unwind_fde *other = reallocarray(NULL, fdes->n, sizeof(*other));
    if (!other)
        return -ENOMEM;
    for (unsigned shift = 0; shift < 64 && highest >> shift; shift += RADIX_BITS) {
        radix_pass(fdes->list, fdes->n, shift, other);
        struct unwind_fde *swap = fdes->list;
        fdes->list = other;
        other = swap;
    }
    fdes->room = fdes->n;
    free(other);
    return 0;
}

int unwind_fdes_collect(struct unwind_fdes *fdes, const struct elf_segments *segments)
{
    fdes->cies = calloc(UNWIND_CIE_SLOTS, sizeof(*fdes->cies));
    if (!fdes->cies)
        return -ENOMEM;
    static const uint32_t order[] = {UNWIND_EH_FRAME, UNWIND_GO, UNWIND_DEBUG_FRAME};
    size_t n_known = 0;
    for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
        int r = order[i] == UNWIND_GO ? collect_go(fdes, segments, n_known) : collect_section(fdes, segments, order[i], n_known);
        if (r == 0)
            r = sort(fdes);
        if (r < 0)
            return r;
        n_known = fdes->n;
    }
    return 0;
}

void unwind_fdes_deinit(struct unwind_fdes *fdes)
{
    free(fdes->cies);
    free(fdes->list);
    fdes->cies = NULL;
    fdes->list = NULL;
    fdes->n = fdes->room = 0;
}
