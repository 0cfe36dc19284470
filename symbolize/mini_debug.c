/* It comes with the file, so nobody need find it; yet who made the file may have put another's in. Its build id must be the file's, where it
 * has one, and code be at the same addresses, or its names would be those of other code. */
#include "symbolize/mini_debug.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "symbolize/unxz.h"
#include "util/cleanup.h"

static bool same_build_id(const struct elf_file *a, const struct elf_file *b)
{
    char id[BUILD_ID_HEX_ROOM], other[BUILD_ID_HEX_ROOM];
    elf_file_build_id(a, id);
    elf_file_build_id(b, other);
    return other[0] == '\0' || strcmp(id, other) == 0;
}

/* Each section with code is one of the other file's too, at the same place. */
static bool same_code(const struct elf_file *main, const struct elf_file *mini)
{
    GElf_Ehdr header, mini_header;
    Elf_Scn *section = NULL;
    size_t names;
    if (!gelf_getehdr(main->elf, &header) || !gelf_getehdr(mini->elf, &mini_header) || header.e_machine != mini_header.e_machine
        || elf_getshdrstrndx(mini->elf, &names) < 0)
        return false;
    while ((section = elf_nextscn(mini->elf, section))) {
        GElf_Shdr mine, his;
        if (!gelf_getshdr(section, &mine) || !(mine.sh_flags & SHF_EXECINSTR))
            continue;
        const char *name = elf_strptr(mini->elf, names, mine.sh_name);
        if (!name || !elf_file_section(main, name, &his) || mine.sh_addr != his.sh_addr || mine.sh_size != his.sh_size)
            return false;
    }
    return true;
}

int mini_debug_open(const struct elf_file *main, struct mini_debug *ret)
{
    CLEANUP(mini_debug_close) struct mini_debug mini = {0};
    GElf_Shdr header;
    Elf_Scn *section = elf_file_section(main, ".gnu_debugdata", &header);
    const Elf_Data *data = section && header.sh_type != SHT_NOBITS ? elf_rawdata(section, NULL) : NULL;
    if (!data || !data->d_buf)
        return -ENOENT;
    int r = unxz(data->d_buf, data->d_size, MINI_DEBUG_MAX_BYTES, &mini.image, &mini.image_bytes);
    if (r == 0)
        r = elf_file_from_memory(mini.image, mini.image_bytes, &mini.file);
    if (r == 0 && (!same_build_id(main, &mini.file) || !same_code(main, &mini.file)))
        r = -ESTALE;
    if (r == 0)
        r = elf_symbols_load(mini.file.elf, &mini.symbols);
    if (r < 0)
        return r;
    *ret = mini;
    mini = (struct mini_debug){0};
    return 0;
}

void mini_debug_close(struct mini_debug *mini)
{
    elf_symbols_deinit(&mini->symbols);
    elf_file_close(&mini->file);
    free(mini->image);
    *mini = (struct mini_debug){0};
}

size_t mini_debug_bytes(const struct mini_debug *mini)
{
    return mini->image_bytes + elf_file_bytes(&mini->file) + elf_symbols_bytes(&mini->symbols);
}
