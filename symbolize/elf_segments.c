/* Program headers, not sections: those are what the kernel maps, and a stripped file still has them. */
#include "symbolize/elf_segments.h"

#include <errno.h>
#include <gelf.h>
#include <stdlib.h>

#define ELF_SEGMENTS_MAX 4096u

static void segments_collect(Elf *elf, size_t n_headers, bool executable, struct elf_segments *ret)
{
    for (size_t i = 0; i < n_headers; i++) {
        GElf_Phdr header;
        if (!gelf_getphdr(elf, (int)i, &header) || header.p_type != PT_LOAD
            || !!(header.p_flags & PF_X) != executable)
            continue;
        if (header.p_offset + header.p_filesz < header.p_offset
            || header.p_vaddr + header.p_filesz < header.p_vaddr)
            continue;
        ret->list[ret->n++] =
            (struct elf_segment){header.p_offset, header.p_vaddr, header.p_filesz, executable};
    }
}

int elf_segments_load(Elf *elf, struct elf_segments *ret)
{
    struct elf_segments segments = {0};
    size_t n_headers;
    if (elf_getphdrnum(elf, &n_headers) < 0)
        n_headers = 0;
    if (n_headers > ELF_SEGMENTS_MAX)
        n_headers = ELF_SEGMENTS_MAX;
    segments.list = calloc(n_headers + 1, sizeof(*segments.list));
    if (!segments.list)
        return -ENOMEM;
    segments_collect(elf, n_headers, true, &segments);
    segments_collect(elf, n_headers, false, &segments);
    *ret = segments;
    return 0;
}

void elf_segments_deinit(struct elf_segments *segments)
{
    free(segments->list);
    *segments = (struct elf_segments){0};
}

bool elf_segments_address(const struct elf_segments *segments, uint64_t offset, uint64_t *ret_address)
{
    for (size_t i = 0; i < segments->n; i++) {
        const struct elf_segment *s = &segments->list[i];
        if (offset >= s->offset && offset - s->offset < s->file_bytes) {
            *ret_address = s->address + (offset - s->offset);
            return true;
        }
    }
    return false;
}

bool elf_segments_offset(const struct elf_segments *segments, uint64_t address, uint64_t *ret_offset)
{
    for (size_t i = 0; i < segments->n; i++) {
        const struct elf_segment *s = &segments->list[i];
        if (address >= s->address && address - s->address < s->file_bytes) {
            *ret_offset = s->offset + (address - s->address);
            return true;
        }
    }
    return false;
}

bool elf_segments_is_code(const struct elf_segments *segments, uint64_t address)
{
    for (size_t i = 0; i < segments->n; i++) {
        const struct elf_segment *s = &segments->list[i];
        if (s->executable && address >= s->address && address - s->address < s->file_bytes)
            return true;
    }
    return false;
}
