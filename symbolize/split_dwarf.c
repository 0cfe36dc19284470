/* Names of files come from the program: they are only asked for, and what comes back is believed where it has a unit of the
 * skeleton's id. What it may cost is bounded: files in number, and bytes that are copied or decompressed.
 *
 * In a unit of split DWARF, offsets in lists of ranges may count from where the skeleton says that its code
 * begins. libdw can't be told that; so it is told of addresses less that beginning, and the caller adds it
 * to all that comes out. */
#include "symbolize/split_dwarf.h"

#include <dwarf.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "symbolize/debug_file.h"
#include "symbolize/debug_image.h"
#include "symbolize/elf_file.h"
#include "symbolize/split_package.h"
#include "util/cleanup.h"

#define SPLIT_MAX_FILES 16384u
#define SPLIT_MAX_MAPPED_BYTES (8ull << 30)
#define SPLIT_MAX_COPIED_BYTES (256u << 20)
#define SPLIT_MAX_UNITS 65536u /* that are looked at in one file */
#define SPLIT_MAX_SKELETONS (1u << 21)
/* libdw's and libelf's for one unit. */
#define SPLIT_UNIT_BYTES 8192u
/* The header of a unit's table of addresses: length, version, sizes. */
#define ADDR_HEADER_BYTES 8u

struct split_file {
    struct elf_file file;
    struct debug_image image; /* elf NULL: nothing is compressed */
    struct split_file *next;
};

struct split_dwarf {
    Elf *skeletons;
    const struct symbolizer_ops *ops;
    void *const *userdata;
    struct split_bytes addr, ranges; /* of the program */
    struct split_file *package, *files;
    size_t n_files, n_units, n_missing, copied_bytes, mapped_bytes, image_bytes;
    uint64_t *bases; /* of all skeletons' addresses */
    size_t n_bases, room;
    bool package_tried, incomplete;
    char *first_missing;
};

static struct split_bytes section_bytes(Elf *elf, const char *name)
{
    const struct elf_file file = {.elf = elf};
    GElf_Shdr header;
    Elf_Scn *section = elf_file_section(&file, name, &header);
    if (!section || header.sh_type == SHT_NOBITS || (header.sh_flags & SHF_COMPRESSED))
        return (struct split_bytes){0};
    const Elf_Data *data = elf_getdata(section, NULL);
    return data && data->d_buf ? (struct split_bytes){data->d_buf, data->d_size} : (struct split_bytes){0};
}

struct split_dwarf *split_dwarf_new(Elf *skeletons, const struct symbolizer_ops *ops, void *const *userdata)
{
    struct split_dwarf *split = calloc(1, sizeof(*split));
    if (!split)
        return NULL;
    split->skeletons = skeletons;
    split->ops = ops;
    split->userdata = userdata;
    split->addr = section_bytes(skeletons, ".debug_addr");
    split->ranges = section_bytes(skeletons, ".debug_ranges");
    return split;
}

static void split_file_free(struct split_file *file)
{
    if (!file)
        return;
    debug_image_free(&file->image);
    elf_file_close(&file->file);
    free(file);
}

static void split_file_cleanup(struct split_file **file)
{
    split_file_free(*file);
}

void split_dwarf_free(struct split_dwarf *split)
{
    if (!split)
        return;
    while (split->files) {
        struct split_file *next = split->files->next;
        split_file_free(split->files);
        split->files = next;
    }
    free(split->first_missing);
    free(split->bases);
    free(split);
}

/* An attribute by its standard number or GNU's older one. */
static Dwarf_Attribute *attribute(Dwarf_Die *die, unsigned standard, unsigned gnu, Dwarf_Attribute *room)
{
    Dwarf_Attribute *found = dwarf_attr(die, standard, room);
    return found ? found : dwarf_attr(die, gnu, room);
}

static const char *dwo_name(Dwarf_Die *skeleton)
{
    Dwarf_Attribute room;
    return dwarf_formstring(attribute(skeleton, DW_AT_dwo_name, DW_AT_GNU_dwo_name, &room));
}

bool split_dwarf_is_skeleton(Dwarf_Die *unit)
{
    return dwo_name(unit) != NULL;
}

static uint64_t section_base(Dwarf_Die *skeleton, unsigned standard, unsigned gnu)
{
    Dwarf_Attribute room;
    Dwarf_Word base = 0;
    return dwarf_formudata(attribute(skeleton, standard, gnu, &room), &base) == 0 ? base : 0;
}

int split_dwarf_note(struct split_dwarf *split, Dwarf_Die *skeleton)
{
    if (split->n_bases >= SPLIT_MAX_SKELETONS)
        return 0;
    if (split->n_bases == split->room) {
        size_t room = split->room ? 2 * split->room : 64;
        uint64_t *grown = reallocarray(split->bases, room, sizeof(*grown));
        if (!grown)
            return -ENOMEM;
        split->bases = grown;
        split->room = room;
    }
    split->bases[split->n_bases++] = section_base(skeleton, DW_AT_addr_base, DW_AT_GNU_addr_base);
    return 0;
}

static int file_open(struct split_dwarf *split, enum debug_file_kind kind, const char *name, struct split_file **ret)
{
    CLEANUP(split_file_cleanup) struct split_file *file = calloc(1, sizeof(*file));
    const struct debug_file_request request = {.kind = kind, .name = name};
    AUTO_CLOSE int fd = -1;
    if (!file)
        return -ENOMEM;
    if (split->n_files >= SPLIT_MAX_FILES || split->mapped_bytes >= SPLIT_MAX_MAPPED_BYTES)
        return -E2BIG;
    int r = split->ops->open_debug_file(*split->userdata, &request, &fd);
    if (r == 0)
        r = elf_file_open(fd, &file->file);
    if (r == 0 && debug_image_is_wanted(&file->file))
        r = split->image_bytes < SPLIT_MAX_COPIED_BYTES
                ? debug_image_new(&file->file, DEBUG_IMAGE_NAMES, &file->image) : -EFBIG;
    if (r < 0)
        return r;
    split->mapped_bytes += file->file.map_bytes;
    split->image_bytes += file->image.map_bytes;
    split->n_files++;
    file->next = split->files;
    *ret = split->files = TAKE_PTR(file);
    return 0;
}

static void file_sections(const struct split_file *file, struct split_bytes sections[static SPLIT_SECTIONS])
{
    static const char *const names[] = {[SPLIT_INFO] = ".debug_info.dwo",
                                        [SPLIT_ABBREV] = ".debug_abbrev.dwo",
                                        [SPLIT_STR] = ".debug_str.dwo",
                                        [SPLIT_STR_OFFSETS] = ".debug_str_offsets.dwo",
                                        [SPLIT_RNGLISTS] = ".debug_rnglists.dwo"};
    Elf *elf = file->image.elf ? file->image.elf : file->file.elf;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        sections[i] = section_bytes(elf, names[i]);
}

static int sections_from_package(struct split_dwarf *split, uint64_t id, struct split_bytes sections[static SPLIT_SECTIONS])
{
    if (!split->package_tried) {
        split->package_tried = true;
        int r = file_open(split, DEBUG_FILE_DWP, "", &split->package);
        split->incomplete = split->incomplete || debug_file_is_passing(r);
    }
    if (!split->package)
        return -ENOENT;
    file_sections(split->package, sections);
    return split_package_find(section_bytes(split->package->file.elf, ".debug_cu_index"), id, sections);
}

static int sections_from_file(struct split_dwarf *split, Dwarf_Die *skeleton,
                              struct split_bytes sections[static SPLIT_SECTIONS])
{
    Dwarf_Attribute room;
    char path[PATH_MAX];
    struct split_file *file = NULL;
    const char *name = dwo_name(skeleton), *directory = dwarf_formstring(dwarf_attr(skeleton, DW_AT_comp_dir, &room));
    bool joined = name && name[0] != '/' && directory;
    if (!name || name[0] == '\0')
        return -ENOENT;
    int len = snprintf(path, sizeof(path), "%s%s%s", joined ? directory : "", joined ? "/" : "", name);
    if (len < 0 || (size_t)len >= sizeof(path))
        return -ENAMETOOLONG;
    int r = file_open(split, DEBUG_FILE_DWO, path, &file);
    split->incomplete = split->incomplete || debug_file_is_passing(r);
    if (r == 0)
        file_sections(file, sections);
    return r;
}

/* Where a unit's addresses end: its table says so in DWARF 5, the next unit's begin there before. */
static uint64_t addresses_end(const struct split_dwarf *split, uint64_t base, unsigned version)
{
    uint64_t end = split->addr.size;
    uint32_t length;
    if (version >= 5 && base >= ADDR_HEADER_BYTES) {
        memcpy(&length, split->addr.data + base - ADDR_HEADER_BYTES, sizeof(length));
        uint64_t told = base - ADDR_HEADER_BYTES + sizeof(length) + length;
        return told < end && told >= base ? told : end;
    }
    for (size_t i = 0; i < split->n_bases; i++)
        if (split->bases[i] > base && split->bases[i] < end)
            end = split->bases[i];
    return end;
}

/* The addresses from base on, less what the unit counts from. */
static int addresses_slice(struct split_dwarf *split, Dwarf_Die *skeleton, unsigned version, struct split_unit *unit,
                           struct split_bytes *ret)
{
    uint64_t base = section_base(skeleton, DW_AT_addr_base, DW_AT_GNU_addr_base);
    Dwarf_Addr low = 0;
    *ret = (struct split_bytes){0};
    if (base >= split->addr.size)
        return 0;
    if (dwarf_lowpc(skeleton, &low) != 0)
        low = 0;
    size_t size = addresses_end(split, base, version) - base;
    if (low == 0) {
        *ret = (struct split_bytes){split->addr.data + base, size};
        return 0;
    }
    size -= size % sizeof(low);
    if (size == 0)
        return 0;
    if (size > SPLIT_MAX_COPIED_BYTES - split->copied_bytes)
        return -E2BIG;
    unit->addresses = malloc(size);
    if (!unit->addresses)
        return -ENOMEM;
    split->copied_bytes += size;
    unit->bias = low;
    for (size_t at = 0; at < size; at += sizeof(low)) {
        uint64_t address;
        memcpy(&address, split->addr.data + base + at, sizeof(address));
        address -= low;
        memcpy(unit->addresses + at, &address, sizeof(address));
    }
    *ret = (struct split_bytes){unit->addresses, size};
    return 0;
}

static int unit_find(struct split_unit *unit, uint64_t id)
{
    Dwarf_CU *cu = NULL;
    Dwarf_Die die;
    uint64_t found;
    uint8_t type;
    for (unsigned i = 0; i < SPLIT_MAX_UNITS && dwarf_get_units(unit->image.dwarf, cu, &cu, NULL, &type, &die, NULL) == 0; i++) {
        if (type == DW_UT_split_compile && dwarf_cu_info(cu, NULL, NULL, NULL, NULL, &found, NULL, NULL) == 0 && found == id) {
            unit->die = die;
            return 0;
        }
    }
    return -ESTALE;
}

static int unit_open(struct split_dwarf *split, Dwarf_Die *skeleton, struct split_unit *ret)
{
    CLEANUP(split_unit_close) struct split_unit unit = {0};
    struct split_bytes sections[SPLIT_SECTIONS] = {0};
    Dwarf_Half version;
    uint64_t id;
    if (dwarf_cu_info(skeleton->cu, &version, NULL, NULL, NULL, &id, NULL, NULL) != 0)
        return -ENOEXEC;
    int r = sections_from_package(split, id, sections);
    if (r < 0)
        r = sections_from_file(split, skeleton, sections);
    if (r == 0)
        r = addresses_slice(split, skeleton, version, &unit, &sections[SPLIT_ADDR]);
    uint64_t ranges = section_base(skeleton, DW_AT_GNU_ranges_base, DW_AT_GNU_ranges_base);
    if (version < 5 && ranges < split->ranges.size)
        sections[SPLIT_RANGES] = (struct split_bytes){split->ranges.data + ranges, split->ranges.size - ranges};
    if (r == 0)
        r = split_image_new(split->skeletons, sections, &unit.image);
    if (r == 0)
        r = unit_find(&unit, id);
    if (r < 0)
        return r;
    *ret = unit;
    unit = (struct split_unit){0};
    return 0;
}

int split_dwarf_open(struct split_dwarf *split, Dwarf_Die *skeleton, struct split_unit *ret)
{
    int r = unit_open(split, skeleton, ret);
    if (r == 0)
        split->n_units++;
    else if (split->n_missing++ == 0)
        split->first_missing = strndup(dwo_name(skeleton) ? dwo_name(skeleton) : "", PATH_MAX);
    return r;
}

void split_unit_close(struct split_unit *unit)
{
    split_image_free(&unit->image);
    free(unit->addresses);
    *unit = (struct split_unit){0};
}

size_t split_dwarf_missing(const struct split_dwarf *split, const char **ret_first)
{
    *ret_first = split->first_missing;
    return split->n_missing;
}

bool split_dwarf_is_incomplete(const struct split_dwarf *split)
{
    return split->incomplete;
}

size_t split_dwarf_bytes(const struct split_dwarf *split)
{
    return sizeof(*split) + split->copied_bytes + split->image_bytes + split->room * sizeof(*split->bases)
           + split->n_units * SPLIT_UNIT_BYTES;
}

size_t split_dwarf_mapped_bytes(const struct split_dwarf *split)
{
    return split->mapped_bytes;
}
