/* Named profiles, from three kinds of notes: a profile's own (name, description, unit), those that say which site belongs to which
 * profile, and USDT's, which say whether a site adds or removes. */
#include "symbolize/profile_notes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "include/cprofd/profile.h"
#include "symbolize/elf_segments.h"
#include "symbolize/usdt.h"
#include "util/cleanup.h"

#define OWNER "cprofd"
#define NOTE_LABELS 3 /* CPROFD_NOTE_LABELS of cprofd/labels.h, whose variable the daemon needs not have */
#define NOTE_HEAD_BYTES (sizeof(Elf64_Nhdr) + 8) /* with the owner, filled up to words */

/* A profile's note, by the address that site notes have for it. */
struct note_place {
    uint64_t address;
    uint32_t profile;
};

/* A site that USDT's notes tell of. */
struct note_probe {
    uint64_t address, moved;
    bool adds;
};

struct note_reader {
    struct elf_segments segments;
    struct note_place *places;
    size_t n_places, places_room;
    struct note_probe *probes;
    size_t n_probes, probes_room;
    size_t profiles_room, sites_room;
    struct profile_notes notes;
    uint64_t labels_offset;
    bool labels_found;
};

static void note_reader_deinit(struct note_reader *reader)
{
    elf_segments_deinit(&reader->segments);
    free(reader->places);
    free(reader->probes);
    profile_notes_deinit(&reader->notes);
}

void profile_notes_deinit(struct profile_notes *notes)
{
    free(notes->profiles);
    free(notes->sites);
    *notes = (struct profile_notes){0};
}

/* Room for one more in *list. */
static int need_room(void **list, size_t n, size_t *room, size_t element_bytes)
{
    if (n < *room)
        return 0;
    size_t more = *room ? 2 * *room : 16;
    void *grown = reallocarray(*list, more, element_bytes);
    if (!grown)
        return -ENOMEM;
    *list = grown;
    *room = more;
    return 0;
}
#define NEED_ROOM(list, n, room) need_room((void **)&(list), n, &(room), sizeof(*(list)))

/* The text at *offset of a descriptor, cut to its room; moves on behind it. False: it doesn't end. */
static bool take_text(const uint8_t *bytes, size_t len, size_t *offset, char ret[PROFILE_NOTE_TEXT_BYTES])
{
    const uint8_t *end = *offset < len ? memchr(bytes + *offset, 0, len - *offset) : NULL;
    if (!end)
        return false;
    size_t n = (size_t)(end - (bytes + *offset));
    size_t kept = n < PROFILE_NOTE_TEXT_BYTES ? n : PROFILE_NOTE_TEXT_BYTES - 1;
    memcpy(ret, bytes + *offset, kept);
    memset(ret + kept, 0, PROFILE_NOTE_TEXT_BYTES - kept);
    *offset += n + 1;
    return true;
}

/* The index of the profile of that name; n where it is new. */
static size_t find_profile(const struct profile_notes *notes, const char *name)
{
    size_t i = 0;
    while (i < notes->n && strcmp(notes->profiles[i].name, name) != 0)
        i++;
    return i;
}

static int read_profile(struct note_reader *reader, uint64_t address, const uint8_t *bytes, size_t len)
{
    struct profile_notes *notes = &reader->notes;
    struct profile_note note;
    size_t offset = 0;
    if (!take_text(bytes, len, &offset, note.name) || !take_text(bytes, len, &offset, note.description)
        || !take_text(bytes, len, &offset, note.unit) || !note.name[0])
        return 0;
    if (!note.unit[0])
        strcpy(note.unit, "count");
    size_t i = find_profile(notes, note.name);
    if (i == notes->n && notes->n == PROFILE_NOTES_MAX) {
        notes->left_out++;
        return 0;
    }
    if (reader->n_places == PROFILE_NOTES_MAX_SITES)
        return 0; /* its sites are left out, and counted */
    if (NEED_ROOM(reader->places, reader->n_places, reader->places_room) < 0
        || NEED_ROOM(notes->profiles, notes->n, reader->profiles_room) < 0)
        return -ENOMEM;
    if (i == notes->n)
        notes->profiles[notes->n++] = note;
    reader->places[reader->n_places++] = (struct note_place){.address = address, .profile = (uint32_t)i};
    return 0;
}

static int compare_places(const void *a, const void *b)
{
    const struct note_place *x = a, *y = b;
    return (x->address > y->address) - (x->address < y->address);
}

static int compare_probes(const void *a, const void *b)
{
    const struct note_probe *x = a, *y = b;
    return (x->address > y->address) - (x->address < y->address);
}

static int compare_sites(const void *a, const void *b)
{
    const struct profile_note_site *x = a, *y = b;
    if (x->profile != y->profile)
        return x->profile < y->profile ? -1 : 1;
    return (x->file_offset > y->file_offset) - (x->file_offset < y->file_offset);
}

static int read_site(struct note_reader *reader, uint64_t unused, const uint8_t *bytes, size_t len)
{
    struct profile_notes *notes = &reader->notes;
    uint64_t words[2];
    if (len != sizeof(words))
        return 0;
    memcpy(words, bytes, sizeof(words));
    struct note_probe wanted = {.address = words[0]};
    const struct note_probe *probe = NULL;
    if (reader->n_probes)
        probe = bsearch(&wanted, reader->probes, reader->n_probes, sizeof(*reader->probes), compare_probes);
    struct note_place place = {.address = words[1] + (probe ? probe->moved : 0)};
    const struct note_place *found
        = probe && reader->n_places ? bsearch(&place, reader->places, reader->n_places, sizeof(place), compare_places) : NULL;
    struct profile_note_site site = {0};
    if (!found || !elf_segments_offset(&reader->segments, words[0] + probe->moved, &site.file_offset)
        || notes->n_sites == PROFILE_NOTES_MAX_SITES) {
        notes->left_out++;
        return 0;
    }
    if (NEED_ROOM(notes->sites, notes->n_sites, reader->sites_room) < 0)
        return -ENOMEM;
    site.profile = found->profile;
    site.adds = probe->adds;
    notes->sites[notes->n_sites++] = site;
    return 0;
}

/* Each of our notes of a type in a section's bytes. Not libelf's own walk: zero words between notes are no notes. */
static int each_note(struct note_reader *reader, const Elf_Data *data, uint64_t address, uint32_t type,
                     int (*visit)(struct note_reader *reader, uint64_t address, const uint8_t *bytes, size_t len))
{
    const uint8_t *bytes = data->d_buf;
    size_t offset = 0;
    while (offset + NOTE_HEAD_BYTES <= data->d_size) {
        Elf64_Nhdr header;
        memcpy(&header, bytes + offset, sizeof(header));
        if (header.n_namesz == 0) {
            offset += sizeof(uint32_t);
            continue;
        }
        size_t left = data->d_size - offset - sizeof(header), owner = (header.n_namesz + (size_t)3) & ~(size_t)3;
        if (owner > left || header.n_descsz > left - owner)
            return 0;
        const uint8_t *name = bytes + offset + sizeof(header);
        int r = 0;
        if (header.n_type == type && header.n_namesz == sizeof(OWNER) && memcmp(name, OWNER, sizeof(OWNER)) == 0)
            r = visit(reader, address + offset, name + owner, header.n_descsz);
        if (r < 0)
            return r;
        offset += sizeof(header) + owner + ((header.n_descsz + (size_t)3) & ~(size_t)3);
    }
    return 0;
}

static int each_section(struct note_reader *reader, const struct elf_file *file, const char *name, uint32_t type,
                        int (*visit)(struct note_reader *reader, uint64_t address, const uint8_t *bytes, size_t len))
{
    GElf_Shdr header;
    Elf_Scn *section = elf_file_section(file, name, &header);
    Elf_Data *data = section && header.sh_type != SHT_NOBITS ? elf_rawdata(section, NULL) : NULL;
    return data && data->d_buf ? each_note(reader, data, header.sh_addr, type, visit) : 0;
}

static int read_probe(void *userdata, const struct usdt_note *note)
{
    struct note_reader *reader = userdata;
    bool adds = strcmp(note->name, "profile_add") == 0;
    if (strcmp(note->provider, OWNER) != 0 || (!adds && strcmp(note->name, "profile_remove") != 0)
        || reader->n_probes == PROFILE_NOTES_MAX_SITES)
        return 0;
    if (NEED_ROOM(reader->probes, reader->n_probes, reader->probes_room) < 0)
        return -ENOMEM;
    reader->probes[reader->n_probes++]
        = (struct note_probe){.address = note->address - note->moved, .moved = note->moved, .adds = adds};
    return 0;
}

static void drop_doubles(struct profile_notes *notes)
{
    size_t kept = 0;
    for (size_t i = 0; i < notes->n_sites; i++)
        if (kept == 0 || compare_sites(&notes->sites[kept - 1], &notes->sites[i]) != 0)
            notes->sites[kept++] = notes->sites[i];
    notes->n_sites = kept;
}

static bool is_native(const struct elf_file *file)
{
    GElf_Ehdr header;
    return gelf_getehdr(file->elf, &header) && header.e_ident[EI_CLASS] == ELFCLASS64
           && header.e_ident[EI_DATA] == (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? ELFDATA2LSB : ELFDATA2MSB);
}

int profile_notes_read(const struct elf_file *file, struct profile_notes *ret)
{
    CLEANUP(note_reader_deinit) struct note_reader reader = {0};
    int r = is_native(file) ? each_section(&reader, file, ".note.cprofd", CPROFD_NOTE_PROFILE, read_profile) : 0;
    if (r == 0 && reader.notes.n > 0) {
        r = elf_segments_load(file->elf, &reader.segments);
        if (r == 0)
            r = usdt_each(file, read_probe, &reader);
        if (r < 0)
            return r;
        if (reader.n_probes)
            qsort(reader.probes, reader.n_probes, sizeof(*reader.probes), compare_probes);
        qsort(reader.places, reader.n_places, sizeof(*reader.places), compare_places);
        r = each_section(&reader, file, ".note.cprofd.site", CPROFD_NOTE_SITE, read_site);
    }
    if (r < 0)
        return r;
    if (reader.notes.n_sites)
        qsort(reader.notes.sites, reader.notes.n_sites, sizeof(*reader.notes.sites), compare_sites);
    drop_doubles(&reader.notes);
    *ret = reader.notes;
    reader.notes = (struct profile_notes){0};
    return 0;
}

static int read_labels(struct note_reader *reader, uint64_t unused, const uint8_t *bytes, size_t len)
{
    if (len != sizeof(reader->labels_offset) || reader->labels_found)
        return 0;
    memcpy(&reader->labels_offset, bytes, len);
    reader->labels_found = true;
    return 0;
}

bool profile_notes_labels(const struct elf_file *file, uint64_t *ret_offset)
{
    struct note_reader reader = {0};
    if (!is_native(file) || each_section(&reader, file, ".note.cprofd", NOTE_LABELS, read_labels) < 0 || !reader.labels_found)
        return false;
    *ret_offset = reader.labels_offset;
    return true;
}
