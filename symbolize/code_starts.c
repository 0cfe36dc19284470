/* Each FDE covers one function, or a part that the compiler put elsewhere. All are read at once, when the first address asks: a file
 * without names has many such addresses. */
#include "symbolize/code_starts.h"

#include <errno.h>
#include <stdlib.h>

#include "symbolize/cfi_entries.h"
#include "util/cleanup.h"

#define CODE_STARTS_MAX (1u << 22)

/* Pointers to pointers: not those of functions. */
static bool read_nothing(const struct cfi_image *image, uint64_t address, uint64_t *ret)
{
    return false;
}

static const struct cfi_image no_image = {read_nothing};

static bool find_section(const struct elf_file *file, struct cfi_section *ret)
{
    GElf_Ehdr elf_header;
    GElf_Shdr header;
    size_t n_bytes = 0;
    const uint8_t *bytes = (const uint8_t *)elf_rawfile(file->elf, &n_bytes);
    if (!bytes || !gelf_getehdr(file->elf, &elf_header) || elf_header.e_ident[EI_CLASS] != ELFCLASS64
        || elf_header.e_ident[EI_DATA] != ELFDATA2LSB || !elf_file_section(file, ".eh_frame", &header) || header.sh_type == SHT_NOBITS
        || header.sh_offset > n_bytes || header.sh_size > n_bytes - header.sh_offset)
        return false;
    *ret = (struct cfi_section){bytes + header.sh_offset, header.sh_size, header.sh_addr, 0, true, &no_image};
    return true;
}

static int collect(const struct cfi_section *section, struct range_list *ret)
{
    struct cfi_entry entry;
    struct cfi_cie cie;
    uint64_t cie_offset = UINT64_MAX; /* of what cie has */
    for (uint64_t offset = 0; cfi_entry_read(section, offset, &entry); offset = entry.next) {
        struct cfi_fde fde;
        if (entry.kind != CFI_ENTRY_FDE)
            continue;
        if (entry.cie_offset != cie_offset && !cfi_cie_read(section, entry.cie_offset, &cie))
            continue;
        cie_offset = entry.cie_offset;
        if (!cfi_fde_read(section, &entry, &cie, &fde) || fde.start + fde.bytes < fde.start)
            continue;
        int r = range_list_add(ret, (struct range){fde.start, fde.start + fde.bytes, (uint32_t)ret->n, 0}, CODE_STARTS_MAX);
        if (r < 0)
            return r;
    }
    return 0;
}

int code_starts_load(const struct elf_file *file, struct code_starts *ret)
{
    CLEANUP(range_list_deinit) struct range_list ranges = {0};
    CLEANUP(code_starts_deinit) struct code_starts starts = {0};
    struct cfi_section section;
    int r = find_section(file, &section) ? collect(&section, &ranges) : 0;
    if (r == -ENOMEM)
        return r;
    starts.n = ranges.n;
    starts.list = calloc(ranges.n + 1, sizeof(*starts.list));
    starts.ends = calloc(ranges.n + 1, sizeof(*starts.ends));
    if (!starts.list || !starts.ends)
        return -ENOMEM;
    for (size_t i = 0; i < ranges.n; i++) {
        starts.list[i] = ranges.ranges[i].low;
        starts.ends[i] = ranges.ranges[i].high;
    }
    r = range_map_build(ranges.ranges, ranges.n, &starts.map);
    if (r < 0)
        return r;
    *ret = starts;
    starts = (struct code_starts){0};
    return 0;
}

void code_starts_deinit(struct code_starts *starts)
{
    free(starts->list);
    free(starts->ends);
    range_map_deinit(&starts->map);
    *starts = (struct code_starts){0};
}

uint64_t code_starts_find(const struct code_starts *starts, uint64_t address)
{
    uint32_t i = range_map_find(&starts->map, address);
    return i == RANGE_NONE ? address : starts->list[i];
}

uint64_t code_starts_end(const struct code_starts *starts, uint64_t address)
{
    uint32_t i = range_map_find(&starts->map, address);
    return i == RANGE_NONE ? UINT64_MAX : starts->ends[i];
}

size_t code_starts_bytes(const struct code_starts *starts)
{
    return starts->n * (sizeof(*starts->list) + sizeof(*starts->ends)) + range_map_bytes(&starts->map);
}
