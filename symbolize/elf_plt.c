/* Linkers lay out stubs in many ways (.plt, .plt.sec with control-flow protection, .plt.got, lld's .iplt), but all of
 * them jump through a slot of the GOT, and a relocation says which function's address the loader writes
 * there, or which function chooses it. So stubs are decoded: `jmp *slot(%rip)`, after endbr64 and bnd where they are. */
#include "symbolize/elf_plt.h"

#include <errno.h>
#include <gelf.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"

#define PLT_SLOTS_MAX (1u << 20)

struct plt_slot {
    uint64_t address;
    uint32_t name_offset, names;
};

struct plt_slots {
    struct plt_slot *list;
    size_t n, room;
};

static void plt_slots_deinit(struct plt_slots *slots)
{
    free(slots->list);
}

static int plt_slots_add(struct plt_slots *slots, struct plt_slot slot)
{
    if (slots->n == slots->room) {
        size_t room = slots->room ? 2 * slots->room : 64;
        struct plt_slot *grown = reallocarray(slots->list, room, sizeof(*grown));
        if (!grown)
            return -ENOMEM;
        slots->list = grown;
        slots->room = room;
    }
    slots->list[slots->n++] = slot;
    return 0;
}

/* False: no function's address is written there, or its name can't be read. */
static bool slot_read(const GElf_Rela *rela, Elf_Data *symbols, uint32_t names, struct plt_slot *ret)
{
    unsigned type = GELF_R_TYPE(rela->r_info);
    GElf_Sym sym;
    *ret = (struct plt_slot){rela->r_offset, (uint32_t)rela->r_addend, PLT_CHOSEN};
    if (type == R_X86_64_IRELATIVE)
        return (uint64_t)rela->r_addend <= UINT32_MAX;
    if ((type != R_X86_64_JUMP_SLOT && type != R_X86_64_GLOB_DAT) || !symbols || GELF_R_SYM(rela->r_info) > INT32_MAX
        || !gelf_getsym(symbols, (int)GELF_R_SYM(rela->r_info), &sym) || sym.st_name == 0)
        return false;
    *ret = (struct plt_slot){rela->r_offset, sym.st_name, names};
    return true;
}

/* The slots that one section of relocations fills with addresses of functions. A static program's has no symbols. */
static int plt_slots_collect(Elf *elf, Elf_Scn *section, const GElf_Shdr *header, struct plt_slots *ret)
{
    GElf_Shdr symbols_header;
    Elf_Scn *symbols_section = elf_getscn(elf, header->sh_link);
    Elf_Data *relocations = elf_getdata(section, NULL), *symbols = NULL;
    GElf_Rela rela;
    if (!relocations)
        return 0;
    if (gelf_getshdr(symbols_section, &symbols_header) && symbols_header.sh_type == SHT_DYNSYM)
        symbols = elf_getdata(symbols_section, NULL);
    for (int i = 0; ret->n < PLT_SLOTS_MAX && gelf_getrela(relocations, i, &rela); i++) {
        struct plt_slot slot;
        if (slot_read(&rela, symbols, symbols ? symbols_header.sh_link : 0, &slot) && plt_slots_add(ret, slot) < 0)
            return -ENOMEM;
    }
    return 0;
}

static int slot_compare(const void *a, const void *b)
{
    const struct plt_slot *x = a, *y = b;
    return x->address < y->address ? -1 : x->address > y->address;
}

/* The slot that the stub at bytes jumps through. False: it is no such stub. */
static bool stub_decode(const uint8_t *bytes, size_t len, uint64_t address, uint64_t *ret_slot)
{
    static const uint8_t endbr64[] = {0xf3, 0x0f, 0x1e, 0xfa};
    int32_t distance;
    size_t at = len >= sizeof(endbr64) && memcmp(bytes, endbr64, sizeof(endbr64)) == 0 ? sizeof(endbr64) : 0;
    if (at + 6 <= len && bytes[at] == 0x41 && bytes[at + 1] == 0xbb) /* mold's: mov $index, %r11d */
        at += 6;
    at += at < len && bytes[at] == 0xf2; /* bnd */
    if (len < at + 6 || bytes[at] != 0xff || bytes[at + 1] != 0x25)
        return false;
    memcpy(&distance, bytes + at + 2, sizeof(distance));
    *ret_slot = address + at + 6 + (uint64_t)(int64_t)distance;
    return true;
}

static size_t section_stubs(const struct plt_slots *slots, const GElf_Shdr *header, const Elf_Data *data,
                            struct plt_stub *ret)
{
    size_t step = header->sh_entsize == 8 ? 8 : 16, n = 0;
    for (size_t at = 0; at + step <= data->d_size; at += step) {
        struct plt_slot wanted;
        if (!stub_decode((const uint8_t *)data->d_buf + at, step, header->sh_addr + at, &wanted.address))
            continue;
        const struct plt_slot *slot = bsearch(&wanted, slots->list, slots->n, sizeof(wanted), slot_compare);
        if (slot)
            ret[n++] = (struct plt_stub){header->sh_addr + at, header->sh_addr + at + step, slot->name_offset,
                                         slot->names};
    }
    return n;
}

static int stubs_collect(Elf *elf, const struct plt_slots *slots, struct plt_stub **stubs, size_t *n)
{
    size_t names;
    Elf_Scn *section = NULL;
    if (elf_getshdrstrndx(elf, &names) < 0)
        return 0;
    while ((section = elf_nextscn(elf, section))) {
        GElf_Shdr header;
        const char *name = gelf_getshdr(section, &header) ? elf_strptr(elf, names, header.sh_name) : NULL;
        if (!name || (strncmp(name, ".plt", 4) != 0 && strcmp(name, ".iplt") != 0) || header.sh_type != SHT_PROGBITS
            || !(header.sh_flags & SHF_EXECINSTR))
            continue;
        const Elf_Data *data = elf_getdata(section, NULL);
        if (!data || !data->d_buf)
            continue;
        struct plt_stub *grown = reallocarray(*stubs, *n + data->d_size / 8 + 1, sizeof(*grown));
        if (!grown)
            return -ENOMEM;
        *stubs = grown;
        *n += section_stubs(slots, &header, data, grown + *n);
    }
    return 0;
}

int plt_stubs_load(Elf *elf, struct plt_stub **ret_stubs, size_t *ret_n)
{
    CLEANUP(plt_slots_deinit) struct plt_slots slots = {0};
    AUTO_FREE struct plt_stub *stubs = NULL;
    Elf_Scn *section = NULL;
    GElf_Ehdr elf_header;
    size_t n = 0;
    int r = 0;
    if (!gelf_getehdr(elf, &elf_header) || elf_header.e_machine != EM_X86_64
        || elf_header.e_ident[EI_DATA] != ELFDATA2LSB)
        return 0;
    while (r == 0 && (section = elf_nextscn(elf, section))) {
        GElf_Shdr header;
        if (gelf_getshdr(section, &header) && header.sh_type == SHT_RELA)
            r = plt_slots_collect(elf, section, &header, &slots);
    }
    if (r == 0 && slots.n > 0) {
        qsort(slots.list, slots.n, sizeof(*slots.list), slot_compare);
        r = stubs_collect(elf, &slots, &stubs, &n);
    }
    if (r < 0)
        return r;
    *ret_stubs = TAKE_PTR(stubs);
    *ret_n = n;
    return 0;
}
