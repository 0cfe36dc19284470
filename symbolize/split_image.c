/* libdw 0.188 knows .dwo files, but opens them by itself, by names of the target's choice, and knows no
 * packages. So it is given an ELF file in memory that has headers alone, with the plain names of sections; their data is then
 * put in place: slices of the files that were opened and checked. The unit in it lacks what its skeleton
 * says (where its addresses, strings and range lists begin), and libdw takes what it lacks for the beginning
 * of each section: so that is where slices begin. */
#include "symbolize/split_image.h"

#include <errno.h>
#include <gelf.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "util/cleanup.h"

#define NAME_BYTES 32u
/* libdw looks at the length of a section's first table before it looks at the section's size. */
#define SECTION_MIN_BYTES 4u

static const char section_names[SPLIT_SECTIONS][NAME_BYTES] = {
    ".debug_info", ".debug_abbrev", ".debug_str", ".debug_str_offsets", ".debug_rnglists", ".debug_addr", ".debug_ranges",
};

/* What is in memory: a header of no section first, then those that libdw is to find, then that of the
 * names. Each has the names' bytes as its own at first. */
struct image_headers {
    Elf64_Ehdr file;
    Elf64_Shdr sections[SPLIT_SECTIONS + 2];
    char names[SPLIT_SECTIONS + 1][NAME_BYTES];
};

static void headers_fill(const GElf_Ehdr *like, struct image_headers *headers)
{
    size_t names = SPLIT_SECTIONS;
    headers->file = (Elf64_Ehdr){.e_type = ET_EXEC, .e_machine = like->e_machine, .e_version = EV_CURRENT,
                                 .e_ehsize = sizeof(headers->file), .e_shoff = offsetof(struct image_headers, sections),
                                 .e_shentsize = sizeof(headers->sections[0]), .e_shnum = SPLIT_SECTIONS + 2,
                                 .e_shstrndx = SPLIT_SECTIONS + 1};
    memcpy(headers->file.e_ident, like->e_ident, EI_NIDENT);
    for (size_t i = 0; i <= names; i++) {
        if (i < names)
            memcpy(headers->names[i], section_names[i], NAME_BYTES);
        headers->sections[i + 1] = (Elf64_Shdr){.sh_name = (Elf64_Word)(i * NAME_BYTES),
                                                .sh_type = i < names ? SHT_PROGBITS : SHT_STRTAB,
                                                .sh_offset = offsetof(struct image_headers, names),
                                                .sh_size = sizeof(headers->names), .sh_addralign = 1};
    }
}

static int sections_place(Elf *elf, const struct split_bytes sections[static SPLIT_SECTIONS])
{
    for (size_t i = 0; i < SPLIT_SECTIONS; i++) {
        Elf_Scn *section = elf_getscn(elf, i + 1);
        Elf_Data *forms[] = {elf_getdata(section, NULL), elf_rawdata(section, NULL)};
        bool any = sections[i].size >= SECTION_MIN_BYTES;
        for (size_t form = 0; form < sizeof(forms) / sizeof(forms[0]); form++) {
            if (!forms[form])
                return -ENOMEM;
            forms[form]->d_buf = any ? (void *)sections[i].data : NULL; /* which is only read */
            forms[form]->d_size = any ? sections[i].size : 0;
        }
    }
    return 0;
}

int split_image_new(Elf *like, const struct split_bytes sections[static SPLIT_SECTIONS], struct split_image *ret)
{
    CLEANUP(split_image_free) struct split_image image = {0};
    GElf_Ehdr header;
    if (!gelf_getehdr(like, &header) || header.e_ident[EI_CLASS] != ELFCLASS64)
        return -ENOTSUP;
    struct image_headers *headers = calloc(1, sizeof(*headers));
    if (!headers)
        return -ENOMEM;
    image.headers = headers;
    headers_fill(&header, headers);
    image.elf = elf_memory((char *)headers, sizeof(*headers));
    int r = image.elf ? sections_place(image.elf, sections) : -ENOMEM;
    if (r < 0)
        return r;
    image.dwarf = dwarf_begin_elf(image.elf, DWARF_C_READ, NULL);
    if (!image.dwarf)
        return -ENOEXEC;
    *ret = image;
    image = (struct split_image){0};
    return 0;
}

void split_image_free(struct split_image *image)
{
    if (image->dwarf)
        (void)dwarf_end(image->dwarf);
    if (image->elf)
        (void)elf_end(image->elf);
    free(image->headers);
    *image = (struct split_image){0};
}
