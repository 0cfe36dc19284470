/* From FDEs in order, by way of rows, layers of marks and pages, to an image. Each FDE is run once, and its rows are passed on at once. */
#include "symbolize/unwind_builder.h"

#include <dwarf.h>
#include <errno.h>
#include <stdlib.h>

#include "symbolize/cfi_cursor.h"
#include "symbolize/unwind_assembly_find.h"
#include "symbolize/unwind_fdes.h"
#include "symbolize/unwind_file.h"
#include "symbolize/unwind_gaps.h"
#include "symbolize/unwind_known.h"
#include "symbolize/unwind_pages.h"
#include "symbolize/unwind_rule.h"
#include "util/cleanup.h"

/* Compilers align functions to this. */
#define FUNCTION_ALIGN 16

struct unwind_builder {
    const struct unwind_arch *arch;
    struct unwind_file file;
    struct unwind_fdes fdes;
    struct unwind_known known;
    struct unwind_pages *pages;
    struct unwind_layer gaps, over;
    /* The FDE that is being run. */
    const struct cfi_section *section;
    const struct cfi_cie *cie;
    uint64_t address_bias; /* address - file offset */
};

static const struct unwind_rule none = {.cfa = UNWIND_CFA_NONE}, unsupported = {.cfa = UNWIND_CFA_UNSUPPORTED};

static void builder_deinit(struct unwind_builder *b)
{
    if (b->pages)
        unwind_pages_deinit(b->pages);
    free(b->pages);
    unwind_known_deinit(&b->known);
    unwind_fdes_deinit(&b->fdes);
    unwind_file_close(&b->file);
}

static void put_in_pages(void *userdata, uint64_t offset, const struct unwind_rule *rule) { unwind_pages_put(userdata, offset, rule); }

static void put_in_layer(void *userdata, uint64_t offset, const struct unwind_rule *rule) { unwind_layer_put(userdata, offset, rule); }

static void put_row(void *userdata, uint64_t address, const struct cfi_row *row)
{
    struct unwind_builder *b = userdata;
    struct unwind_rule rule = row ? unwind_rule_make(b->arch, row, b->cie->is_signal) : unsupported;
    unwind_layer_put(&b->gaps, address - b->address_bias, &rule);
}

static uint64_t get_address(void *userdata, struct cfi_cursor *c)
{
    const struct unwind_builder *b = userdata;
    return cfi_pointer_read(b->section, c, b->cie->pointer_encoding);
}

static void put_go_row(void *userdata, uint64_t address, const struct unwind_rule *rule)
{
    struct unwind_builder *b = userdata;
    unwind_layer_put(&b->gaps, address - b->address_bias, rule);
}

static void run_go(struct unwind_builder *b, const struct unwind_fde *place, uint64_t end)
{
    struct go_function function;
    if (!go_pclntab_function(&b->fdes.go.table, place->entry, &function))
        return;
    b->address_bias = function.start - place->start;
    unwind_go_run(&b->fdes.go, &function, end + b->address_bias, put_go_row, b);
}

/* Of a function whose CFI says that nothing changes in it. True: its code tells otherwise, and the rule is put. Callers are looked up by the
 * byte before their return address, which of a function without a caller may be its first one: in front of it nothing is run. */
static bool put_contradiction(struct unwind_builder *b, const struct unwind_fde *place, const struct cfi_fde *fde, uint64_t previous_end)
{
    for (size_t i = 0; i < fde->code_bytes; i++)
        if (fde->code[i] != DW_CFA_nop)
            return false;
    enum unwind_cfa cfa = UNWIND_CFA_REGISTER;
    if (b->arch->first_instruction)
        cfa = b->arch->first_instruction(b->file.bytes + place->start, place->bytes);
    if (cfa == UNWIND_CFA_REGISTER)
        return false;
    const struct unwind_rule rule = {.cfa = (uint8_t)cfa};
    unwind_layer_put(&b->gaps, place->start - (cfa == UNWIND_CFA_ROOT && previous_end < place->start), &rule);
    return true;
}

/* Rows of an FDE, up to a file offset. What was readable when it was collected still is. */
static void run_fde(struct unwind_builder *b, const struct unwind_fde *place, uint64_t end, uint64_t previous_end)
{
    struct cfi_entry entry;
    struct cfi_fde fde;
    b->section = &b->fdes.sections[place->section];
    if (!cfi_entry_read(b->section, place->entry, &entry))
        return;
    const struct unwind_cie *cie = unwind_fdes_cie(&b->fdes, b->section, entry.cie_offset);
    if (!cie || !cfi_fde_read(b->section, &entry, &cie->cie, &fde))
        return;
    if (put_contradiction(b, place, &fde, previous_end))
        return;
    b->cie = &cie->cie;
    b->address_bias = fde.start - place->start;
    struct cfi_program program = {
        .code = fde.code,
        .bytes = fde.code_bytes,
        .code_align = cie->cie.code_align,
        .data_align = cie->cie.data_align,
        .registers = cie->registers,
        .initial = &cie->initial,
        .start = fde.start,
        .end = end + b->address_bias,
        .get_address = get_address,
        .put_row = put_row,
        .userdata = b,
    };
    cfi_run(&program);
}

/* Padding up to the next function is never run, and goes on with the row before it, which saves a row for each function. A small function
 * without CFI may be hidden there: its bytes tell. */
static bool is_padding(const struct unwind_builder *b, uint64_t start, uint64_t end)
{
    return end - start < FUNCTION_ALIGN && end % FUNCTION_ALIGN == 0 && b->arch->is_padding(b->file.bytes + start, end - start);
}

/* Of FDEs that overlap, the one that begins later covers the other from there on, as a search by address would have it; of those that
 * begin together, the first counts. */
static void run_fdes(struct unwind_builder *b)
{
    const struct unwind_fde *list = b->fdes.list;
    uint64_t previous_end = 0;
    size_t next;
    for (size_t i = 0; i < b->fdes.n && b->pages->error == 0; i = next) {
        uint64_t end = list[i].start + list[i].bytes;
        for (next = i + 1; next < b->fdes.n && list[next].start == list[i].start;)
            next++;
        bool is_last = next == b->fdes.n;
        if (!is_last && list[next].start < end)
            end = list[next].start;
        if (list[i].section == UNWIND_GO)
            run_go(b, &list[i], end);
        else
            run_fde(b, &list[i], end, previous_end);
        previous_end = end;
        if (is_last || !is_padding(b, end, list[next].start))
            unwind_layer_put(&b->gaps, end, &none);
    }
    unwind_layer_finish(&b->gaps);
    unwind_layer_finish(&b->over);
}

static void widen(uint64_t start, uint64_t end, uint64_t *low, uint64_t *high)
{
    *low = start < *low ? start : *low;
    *high = end > *high ? end : *high;
}

/* The file offsets of which anything is said, the byte before a function included (put_contradiction). False: none. */
static bool covered(const struct unwind_builder *b, uint64_t *ret_start, uint64_t *ret_end)
{
    uint64_t start = UINT64_MAX, end = 0;
    for (size_t i = 0; i < b->fdes.n; i++)
        widen(b->fdes.list[i].start - 1, b->fdes.list[i].start + b->fdes.list[i].bytes, &start, &end);
    const struct unwind_marks *all[] = {&b->known.gaps, &b->known.over};
    for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
        for (size_t j = 0; j < all[i]->n; j++)
            widen(all[i]->list[j].start, all[i]->list[j].end, &start, &end);
    *ret_start = start;
    *ret_end = end;
    return start < end;
}

static int pack(struct unwind_builder *b, uint32_t page_shift, bool cut_down, struct unwind_output *ret)
{
    uint64_t start, end;
    if (!covered(b, &start, &end))
        return -ENODATA;
    int r = unwind_pages_init(b->pages, b->arch->machine, start, end, page_shift, cut_down);
    if (r < 0)
        return r;
    b->over = (struct unwind_layer){.marks = &b->known.over, .put = put_in_pages, .userdata = b->pages};
    b->gaps = (struct unwind_layer){.marks = &b->known.gaps, .only_gaps = true, .put = put_in_layer, .userdata = &b->over};
    run_fdes(b);
    ret->image = unwind_pages_finish(b->pages, &ret->image_bytes, &r);
    if (!ret->image) {
        unwind_pages_deinit(b->pages);
        return r;
    }
    if (b->pages->header.n_rows == 0) { /* of CFI that is not believed */
        unwind_output_deinit(ret);
        return -ENODATA;
    }
    ret->n_fdes = (uint32_t)b->fdes.n;
    ret->n_rows = b->pages->header.n_rows;
    ret->unsupported_rows = (uint32_t)b->pages->unsupported_rows;
    ret->fp_lost_rows = (uint32_t)b->pages->fp_lost_rows;
    return 0;
}

/* In pages as large as can be. Where smaller ones would be too many, what has no room in a page is left unsupported. */
static int pack_best(struct unwind_builder *b, struct unwind_output *ret)
{
    int r = -ENOSPC;
    b->pages = calloc(1, sizeof(*b->pages));
    if (!b->pages)
        return -ENOMEM;
    for (uint32_t shift = UNWIND_PAGE_MAX_SHIFT; r == -ENOSPC && shift >= UNWIND_PAGE_MIN_SHIFT; shift--) {
        r = pack(b, shift, false, ret);
        if (r == -EFBIG && shift < UNWIND_PAGE_MAX_SHIFT)
            return pack(b, shift + 1, true, ret);
    }
    return r;
}

/* Where the function at the entry point ends by its FDE; 0: it has none. */
static uint64_t entry_end(const struct unwind_builder *b)
{
    uint64_t entry;
    if (!elf_segments_offset(&b->file.segments, b->file.header.e_entry, &entry))
        return 0;
    for (size_t i = 0; i < b->fdes.n; i++) {
        const struct unwind_fde *fde = &b->fdes.list[i];
        if (fde->start > entry)
            return b->file.header.e_entry + (fde->start - entry);
        if (entry - fde->start < fde->bytes)
            return b->file.header.e_entry + (fde->start + fde->bytes - entry);
    }
    return 0;
}

int unwind_build(int elf_fd, struct unwind_output *ret)
{
    CLEANUP(builder_deinit) struct unwind_builder b = {0};
    struct unwind_output output = {0};
    int r = unwind_file_open(elf_fd, &b.file);
    if (r < 0)
        return r;
    b.arch = unwind_arch_find(b.file.header.e_machine);
    if (!b.arch)
        return -ENOEXEC;
    b.fdes.file_bytes = b.file.n_bytes;
    b.fdes.fp = b.arch->fp;
    b.fdes.sp = b.arch->sp;
    unwind_file_eh_frame(&b.file, &b.fdes.sections[UNWIND_EH_FRAME]);
    unwind_go_open(&b.file, &b.fdes.go);
    r = unwind_file_debug_frame(&b.file, &b.fdes.sections[UNWIND_DEBUG_FRAME]);
    if (r == 0)
        r = unwind_fdes_collect(&b.fdes, &b.file.segments);
    if (r == 0)
        r = unwind_known_find(&b.file, b.arch, &b.fdes.go, entry_end(&b), &b.known);
    if (r == 0)
        r = unwind_gaps_mark(&b.file, b.arch, b.fdes.list, b.fdes.n, &b.known);
    unwind_known_settle(&b.known);
    if (r == 0)
        r = unwind_assembly_find(&b.file, b.arch, &b.fdes, &b.known.gaps);
    if (r == 0)
        r = pack_best(&b, &output);
    if (r < 0)
        return r;
    *ret = output;
    return 0;
}

void unwind_output_deinit(struct unwind_output *output)
{
    free(output->image);
    *output = (struct unwind_output){0};
}
