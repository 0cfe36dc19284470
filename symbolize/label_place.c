/* A shared object's thread-local storage lies where the loader found room, which its relocation tells once it has run. An executable's lies at a
 * fixed offset from the thread pointer, by its program header and the machine's rules (below it on x86-64, above two words on aarch64). */
#include "symbolize/label_place.h"

#include <errno.h>
#include <string.h>

#include "symbolize/profile_notes.h"

#define LABELS "cprofd_thread_labels_v1"
#define AARCH64_HEAD_BYTES 16u /* of the thread's control block, before the first storage */
#define MAX_OFFSET (1ull << 30)

/* The first program header of a type that has these flags. */
static bool find_header(Elf *elf, uint32_t type, uint32_t flags, GElf_Phdr *ret)
{
    size_t n;
    if (elf_getphdrnum(elf, &n) < 0)
        return false;
    for (size_t i = 0; i < n && i < PN_XNUM; i++)
        if (gelf_getphdr(elf, (int)i, ret) && ret->p_type == type && (ret->p_flags & flags) == flags)
            return true;
    return false;
}

static bool is_labels(Elf *elf, size_t strings, const GElf_Sym *symbol)
{
    const char *name = GELF_ST_TYPE(symbol->st_info) == STT_TLS ? elf_strptr(elf, strings, symbol->st_name) : NULL;
    return name && strcmp(name, LABELS) == 0;
}

/* What a relocation is against: the variable by its name; or, where a linker was told to hide that, its offset, if that is known. */
static bool is_slot(Elf *elf, size_t strings, Elf_Data *symbols, const GElf_Rela *relocation, const uint64_t *offset)
{
    size_t index = GELF_R_SYM(relocation->r_info);
    GElf_Sym symbol;
    if (index == 0)
        return offset && relocation->r_addend >= 0 && (uint64_t)relocation->r_addend == *offset;
    return gelf_getsym(symbols, (int)index, &symbol) && is_labels(elf, strings, &symbol) && relocation->r_addend == 0;
}

/* The relocation of the variable's offset, in a section of relocations. offset: in the thread-local storage; NULL: not known. */
static bool find_slot(Elf *elf, uint16_t machine, Elf_Scn *section, const GElf_Shdr *header, const uint64_t *offset, uint64_t *ret_slot)
{
    unsigned wanted = machine == EM_X86_64 ? R_X86_64_TPOFF64 : R_AARCH64_TLS_TPREL;
    GElf_Shdr table_header;
    Elf_Data *data = elf_getdata(section, NULL);
    Elf_Scn *table = elf_getscn(elf, header->sh_link);
    Elf_Data *symbols = table && gelf_getshdr(table, &table_header) && table_header.sh_type == SHT_DYNSYM ? elf_getdata(table, NULL) : NULL;
    size_t n = data && header->sh_entsize ? data->d_size / header->sh_entsize : 0;
    for (size_t i = 0; symbols && i < n; i++) {
        GElf_Rela relocation;
        if (!gelf_getrela(data, (int)i, &relocation) || GELF_R_TYPE(relocation.r_info) != wanted
            || !is_slot(elf, table_header.sh_link, symbols, &relocation, offset))
            continue;
        *ret_slot = relocation.r_offset;
        return relocation.r_offset != 0;
    }
    return false;
}

static bool find_symbol(Elf *elf, Elf_Scn *section, const GElf_Shdr *header, uint64_t *ret_offset)
{
    Elf_Data *data = elf_getdata(section, NULL);
    size_t n = data && header->sh_entsize ? data->d_size / header->sh_entsize : 0;
    for (size_t i = 0; i < n; i++) {
        GElf_Sym symbol;
        if (!gelf_getsym(data, (int)i, &symbol) || symbol.st_shndx == SHN_UNDEF || !is_labels(elf, header->sh_link, &symbol))
            continue;
        *ret_offset = symbol.st_value;
        return true;
    }
    return false;
}

/* The variable's offset in the thread-local storage, by a table of symbols. */
static bool search_symbol(Elf *elf, uint64_t *ret_offset)
{
    Elf_Scn *section = NULL;
    GElf_Shdr header;
    while ((section = elf_nextscn(elf, section)))
        if (gelf_getshdr(section, &header) && (header.sh_type == SHT_SYMTAB || header.sh_type == SHT_DYNSYM)
            && find_symbol(elf, section, &header, ret_offset))
            return true;
    return false;
}

/* What the sections say: a slot, or else the offset in the thread-local storage. */
static int search(const struct elf_file *file, uint16_t machine, uint64_t *ret_slot, uint64_t *ret_offset)
{
    Elf_Scn *section = NULL;
    bool found = profile_notes_labels(file, ret_offset);
    GElf_Phdr storage;
    GElf_Shdr header;
    *ret_slot = 0;
    if (!found && !find_header(file->elf, PT_TLS, 0, &storage))
        return -ENOENT; /* most files: there is no need to look through all that they have */
    found = found || search_symbol(file->elf, ret_offset);
    while ((section = elf_nextscn(file->elf, section)))
        if (gelf_getshdr(section, &header) && header.sh_type == SHT_RELA
            && find_slot(file->elf, machine, section, &header, found ? ret_offset : NULL, ret_slot))
            return 0;
    return found ? 0 : -ENOENT;
}

static bool is_pie(const struct elf_file *file)
{
    GElf_Shdr header;
    Elf_Scn *section = elf_file_section(file, ".dynamic", &header);
    Elf_Data *data = section ? elf_getdata(section, NULL) : NULL;
    GElf_Dyn entry;
    for (int i = 0; data && gelf_getdyn(data, i, &entry) && entry.d_tag != DT_NULL; i++)
        if (entry.d_tag == DT_FLAGS_1 && (entry.d_un.d_val & DF_1_PIE))
            return true;
    return false;
}

static int offset_in_thread(uint16_t machine, const GElf_Phdr *storage, uint64_t offset, int64_t *ret)
{
    uint64_t alignment = storage->p_align ? storage->p_align : 1;
    if (storage->p_memsz > MAX_OFFSET || alignment > MAX_OFFSET || (alignment & (alignment - 1)) || offset >= storage->p_memsz)
        return -ENOEXEC;
    uint64_t head = machine == EM_X86_64 ? storage->p_memsz : AARCH64_HEAD_BYTES;
    head = (head + alignment - 1) & ~(alignment - 1);
    *ret = machine == EM_X86_64 ? (int64_t)offset - (int64_t)head : (int64_t)(head + offset);
    return 0;
}

int label_place_find(const struct elf_file *file, struct label_place *ret)
{
    struct label_place place = {0};
    GElf_Ehdr header;
    GElf_Phdr storage, interpreter, code;
    uint64_t offset;
    if (!gelf_getehdr(file->elf, &header) || header.e_ident[EI_CLASS] != ELFCLASS64
        || (header.e_machine != EM_X86_64 && header.e_machine != EM_AARCH64))
        return -ENOENT;
    int r = search(file, header.e_machine, &place.slot_address, &offset);
    if (r == 0 && place.slot_address) {
        if (!find_header(file->elf, PT_LOAD, PF_X, &code))
            return -ENOEXEC;
        place.slot_offset = place.slot_address - code.p_vaddr + code.p_offset;
        place.code_offset = code.p_offset;
    } else if (r == 0) {
        if (!find_header(file->elf, PT_TLS, 0, &storage))
            return -ENOEXEC;
        /* A library has a slot if any of its code uses the variable: if not, no thread has labels there. */
        if (header.e_type != ET_EXEC && !find_header(file->elf, PT_INTERP, 0, &interpreter) && !is_pie(file))
            return -ENOENT;
        r = offset_in_thread(header.e_machine, &storage, offset, &place.thread_offset);
    }
    if (r == 0)
        *ret = place;
    return r;
}
