/* The runtime's record of a module begins with a pointer to the table and one to the table's names: two words that nothing else has side
 * by side. In a position-independent file they may be zero, and relocations say what the loader writes there. A record is believed if its
 * least and greatest addresses are those of the table's first and last function, as the runtime itself demands when it starts. */
#include "symbolize/go_module.h"

#include <string.h>

#define MODULE_WORDS 42 /* of struct moduledata, as far as it is read */
#define MODULE_NAMES 1
#define MODULE_LEAST 20
#define MODULE_GREATEST 21
#define MODULE_TEXT 22
#define MODULE_FURTHER_1_18 38
#define MODULE_FURTHER 40
#define MAX_CANDIDATES 16
#define PROBED_FUNCTIONS 256 /* to see that text is where it is thought to be */
#define PROBED_VALUES 64     /* of each */

struct search {
    const struct elf_file *file;
    const struct elf_segments *segments;
    const uint8_t *bytes;
    size_t n_bytes;
    unsigned machine;
    uint64_t address; /* of the table */
    struct go_module found;
};

/* ---- bytes */

static const uint8_t *section_bytes(const struct search *s, const GElf_Shdr *header)
{
    bool is_there = header->sh_type != SHT_NOBITS && !(header->sh_flags & SHF_COMPRESSED) && header->sh_offset <= s->n_bytes
                    && header->sh_size <= s->n_bytes - header->sh_offset;
    return is_there ? s->bytes + header->sh_offset : NULL;
}

/* What the file has at an address: *ret_room bytes of it. */
static const uint8_t *address_bytes(const struct search *s, uint64_t address, size_t *ret_room)
{
    for (size_t i = 0; i < s->segments->n; i++) {
        const struct elf_segment *segment = &s->segments->list[i];
        if (address < segment->address || address - segment->address >= segment->file_bytes)
            continue;
        uint64_t from = address - segment->address, offset = segment->offset + from, room = segment->file_bytes - from;
        if (offset >= s->n_bytes)
            return NULL;
        *ret_room = room < s->n_bytes - offset ? room : s->n_bytes - offset;
        return s->bytes + offset;
    }
    return NULL;
}

static uint64_t word_at(const uint8_t *bytes)
{
    uint64_t word;
    memcpy(&word, bytes, sizeof(word));
    return word;
}

/* ---- the record */

static bool is_relative(const struct search *s, uint64_t info)
{
    return ELF64_R_TYPE(info) == (s->machine == EM_AARCH64 ? R_AARCH64_RELATIVE : R_X86_64_RELATIVE);
}

/* Calls back for what the loader adds its base to and writes. False from there ends. */
static void each_relocation(const struct search *s, bool (*call)(void *userdata, const Elf64_Rela *rela), void *userdata)
{
    Elf_Scn *section = NULL;
    while ((section = elf_nextscn(s->file->elf, section))) {
        GElf_Shdr header;
        const uint8_t *bytes;
        if (!gelf_getshdr(section, &header) || header.sh_type != SHT_RELA || !(header.sh_flags & SHF_ALLOC) || !(bytes = section_bytes(s, &header)))
            continue;
        for (uint64_t at = 0; at + sizeof(Elf64_Rela) <= header.sh_size; at += sizeof(Elf64_Rela)) {
            Elf64_Rela rela;
            memcpy(&rela, bytes + at, sizeof(rela));
            if (is_relative(s, rela.r_info) && !call(userdata, &rela))
                return;
        }
    }
}

struct record {
    uint64_t address;
    uint64_t words[MODULE_WORDS];
};

static bool relocate_record(void *userdata, const Elf64_Rela *rela)
{
    struct record *record = userdata;
    uint64_t at = rela->r_offset - record->address;
    if (at < sizeof(record->words) && at % GO_WORD == 0)
        record->words[at / GO_WORD] = (uint64_t)rela->r_addend;
    return true;
}

/* The table's functions begin and end where the record says. */
static bool is_record(const struct search *s, const struct record *record)
{
    struct go_pclntab t = s->found.table;
    struct go_function first, last;
    t.text = record->words[MODULE_TEXT];
    return record->words[0] == s->address && record->words[MODULE_NAMES] == s->address + t.names
           && go_pclntab_function(&t, 0, &first) && go_pclntab_function(&t, t.n - 1, &last)
           && record->words[MODULE_LEAST] == first.start && record->words[MODULE_GREATEST] == last.end;
}

static bool take_record(struct search *s, uint64_t address)
{
    struct record record = {.address = address};
    size_t room;
    const uint8_t *bytes = address_bytes(s, address, &room);
    if (!bytes || room < sizeof(record.words))
        return false;
    memcpy(record.words, bytes, sizeof(record.words));
    each_relocation(s, relocate_record, &record);
    if (!is_record(s, &record))
        return false;
    struct go_module *found = &s->found;
    found->table.text = found->table.version == GO_1_16 ? 0 : record.words[MODULE_TEXT];
    uint64_t further = record.words[found->table.version == GO_1_20 ? MODULE_FURTHER : MODULE_FURTHER_1_18];
    found->further = found->table.version == GO_1_16 ? NULL : address_bytes(s, further, &found->further_bytes);
    return true;
}

struct candidates {
    uint64_t wanted;
    uint64_t addresses[MAX_CANDIDATES];
    size_t n;
};

static bool add_candidate(void *userdata, const Elf64_Rela *rela)
{
    struct candidates *c = userdata;
    if ((uint64_t)rela->r_addend == c->wanted)
        c->addresses[c->n++] = rela->r_offset;
    return c->n < MAX_CANDIDATES;
}

static void candidates_in_section(const struct search *s, const GElf_Shdr *header, struct candidates *c)
{
    const uint8_t *bytes = section_bytes(s, header);
    for (uint64_t at = -header->sh_addr % GO_WORD; bytes && c->n < MAX_CANDIDATES && at + 2 * GO_WORD <= header->sh_size; at += GO_WORD)
        if (word_at(bytes + at) == s->address && word_at(bytes + at + GO_WORD) == s->address + s->found.table.names)
            c->addresses[c->n++] = header->sh_addr + at;
}

static bool find_record(struct search *s)
{
    struct candidates c = {.wanted = s->address};
    Elf_Scn *section = NULL;
    while ((section = elf_nextscn(s->file->elf, section))) {
        GElf_Shdr header;
        if (gelf_getshdr(section, &header) && header.sh_type == SHT_PROGBITS && header.sh_flags & SHF_WRITE && header.sh_addr != s->address)
            candidates_in_section(s, &header, &c);
    }
    if (c.n < MAX_CANDIDATES)
        each_relocation(s, add_candidate, &c);
    for (size_t i = 0; i < c.n; i++)
        if (take_record(s, c.addresses[i]))
            return true;
    return false;
}

/* ---- without a record */

/* Where a function's stack becomes deeper, an instruction must end that does this: push %rbp, or a subtraction from rsp. */
static bool is_deepening(const uint8_t *end, size_t room)
{
    static const uint8_t sub_8[] = {0x48, 0x83, 0xec}, add_8[] = {0x48, 0x83, 0xc4}, sub_32[] = {0x48, 0x81, 0xec};
    return (room >= 1 && end[-1] == 0x55) || (room >= 4 && (memcmp(end - 4, sub_8, 3) == 0 || memcmp(end - 4, add_8, 3) == 0))
           || (room >= 7 && memcmp(end - 7, sub_32, 3) == 0);
}

static bool is_seen_to_begin(const struct search *s, const struct go_pclntab *t, const struct go_function *function)
{
    struct go_values depth;
    bool ok = true;
    size_t room;
    const uint8_t *code = address_bytes(s, function->start, &room);
    go_values_begin(t, function, (uint32_t)go_pclntab_get(t, function->record + GO_STACK, 4, &ok), &depth);
    for (unsigned i = 0; ok && code && i < PROBED_VALUES && go_values_next(&depth); i++) {
        uint64_t at = depth.from - function->start;
        if (depth.value > 0)
            return at <= room && is_deepening(code + at, at);
    }
    return false;
}

/* Wherever text is thought to be, most functions must be seen to begin. */
static bool text_is_right(const struct search *s, const struct go_pclntab *t)
{
    uint64_t seen = 0, probed = 0, step = t->n / PROBED_FUNCTIONS + 1;
    for (uint64_t i = 0; i < t->n; i += step) {
        struct go_function function;
        if (!go_pclntab_function(t, i, &function))
            return false;
        seen += is_seen_to_begin(s, t, &function);
        probed++;
    }
    return 2 * seen > probed;
}

/* The table itself says it up to 1.25, unless that is left to the dynamic linker; it is .text where no C code was linked before it. */
static bool guess_text(struct search *s)
{
    GElf_Shdr header;
    struct go_pclntab *t = &s->found.table;
    const uint64_t guesses[] = {t->text, elf_file_section(s->file, ".text", &header) ? header.sh_addr : 0};
    if (s->machine != EM_X86_64)
        return false;
    for (size_t i = 0; i < sizeof(guesses) / sizeof(guesses[0]); i++) {
        t->text = guesses[i];
        if ((t->text || t->version == GO_1_16) && text_is_right(s, t))
            return true;
    }
    return false;
}

/* may_guess: the section's name says that it is such a table. */
static bool try_table(struct search *s, const uint8_t *bytes, size_t n, uint64_t address, bool may_guess)
{
    s->address = address;
    return go_pclntab_open(bytes, n, &s->found.table) && (find_record(s) || (may_guess && guess_text(s)));
}

static bool try_section(struct search *s, const char *name)
{
    GElf_Shdr header;
    const uint8_t *bytes = elf_file_section(s->file, name, &header) ? section_bytes(s, &header) : NULL;
    return bytes && try_table(s, bytes, header.sh_size, header.sh_addr, true);
}

/* Linkers other than Go's put the table of a position-independent file where all is that need be relocated once. */
static bool search_section(struct search *s, const char *name)
{
    GElf_Shdr header;
    const uint8_t *bytes = elf_file_section(s->file, name, &header) ? section_bytes(s, &header) : NULL;
    unsigned tries = 0;
    for (uint64_t at = 0; bytes && tries < MAX_CANDIDATES && at + GO_WORD <= header.sh_size; at += GO_WORD) {
        if (!go_pclntab_begins(bytes + at))
            continue;
        tries++;
        if (try_table(s, bytes + at, header.sh_size - at, header.sh_addr + at, false))
            return true;
    }
    return false;
}

void go_module_open(const struct elf_file *file, const struct elf_segments *segments, struct go_module *ret)
{
    struct search s = {.file = file, .segments = segments};
    GElf_Shdr section;
    GElf_Ehdr header;
    if (!gelf_getehdr(file->elf, &header) || header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB)
        return;
    s.machine = header.e_machine;
    s.bytes = (const uint8_t *)elf_rawfile(file->elf, &s.n_bytes);
    bool is_go = s.bytes && elf_file_section(file, ".go.buildinfo", &section);
    if (s.bytes && (try_section(&s, ".gopclntab") || try_section(&s, ".data.rel.ro.gopclntab") || (is_go && search_section(&s, ".data.rel.ro"))))
        *ret = s.found;
}
