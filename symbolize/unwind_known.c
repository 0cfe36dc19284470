/* Symbols name most of it; an entry point needs none. */
#include "symbolize/unwind_known.h"

#include <errno.h>
#include <string.h>

#include "symbolize/unwind_go.h"
#include "symbolize/unwind_rule.h"

#define MAX_TABLES 4       /* of symbols; linkers make two */
#define START_MAX_BYTES 64 /* of an entry point's function that nothing ends */

static const struct unwind_rule root = {.cfa = UNWIND_CFA_ROOT}, frame_pointer = {.cfa = UNWIND_CFA_FRAME_POINTER};
static const struct unwind_rule kernel_frame = {.cfa = UNWIND_CFA_SIGNAL};

struct search {
    const struct unwind_file *file;
    const struct unwind_arch *arch;
    struct unwind_known *known;
};

/* What a handler returns to is its first byte, and callers are looked up by the byte before. */
#define TRAMPOLINE_LEAD 1
#define TRAMPOLINE_MAX_BYTES 9 /* where a symbol has no size */

/* Names of functions of which something is known. A name also stands for the same with ".abi0" behind it, as Go writes it. */
struct known_name {
    const char *name;
    bool is_prefix;
    bool over; /* whatever CFI says */
    const struct unwind_rule *rule;
};

static const struct known_name known_names[] = {
    /* Where Go's stacks begin. Its linker describes them as if somebody had called them. */
    {"runtime.goexit", false, true, &root},
    {"runtime.mstart", false, true, &root},
    {"runtime.rt0_go", false, true, &root},
    {"runtime.sigreturn", false, true, &kernel_frame},
    {"runtime.sigreturn__sigaction", false, true, &kernel_frame},
    {"__restore_rt", false, true, &kernel_frame}, /* musl has no CFI for it */
    /* V8's, as they are embedded in a program: code without CFI that keeps frame pointers. */
    {"Builtins_", true, false, &frame_pointer},
};

static bool is_named(const char *name, size_t room, const struct known_name *known)
{
    size_t len = strlen(known->name);
    if (len >= room || memcmp(name, known->name, len) != 0)
        return false;
    return known->is_prefix || name[len] == '\0' || (room - len > 5 && strcmp(name + len, ".abi0") == 0);
}

/* room: bytes up to the end of the string table, whose last one is 0. */
static const struct known_name *find_known(const char *name, size_t room)
{
    if (*name != 'r' && *name != '_' && *name != 'B')
        return NULL;
    for (size_t i = 0; i < sizeof(known_names) / sizeof(*known_names); i++)
        if (is_named(name, room, &known_names[i]))
            return &known_names[i];
    return NULL;
}

static int mark(const struct unwind_file *file, struct unwind_marks *marks, uint64_t address, uint64_t bytes, struct unwind_rule rule)
{
    uint64_t offset;
    if (bytes == 0 || !elf_segments_is_code(&file->segments, address) || !elf_segments_offset(&file->segments, address, &offset))
        return 0;
    uint64_t room = 0;
    (void)unwind_file_at(file, address, &room);
    return unwind_marks_add(marks, offset, offset + (bytes < room ? bytes : room), rule);
}

/* A symbol table's bytes and those of its names. False: it is malformed. */
static bool read_table(const struct unwind_file *file, Elf_Scn *section, const GElf_Shdr *header, const Elf_Data **ret_symbols,
                       const Elf_Data **ret_names)
{
    *ret_symbols = elf_getdata(section, NULL);
    Elf_Scn *names = elf_getscn(file->elf.elf, header->sh_link);
    *ret_names = names ? elf_getdata(names, NULL) : NULL;
    if (!*ret_symbols || !*ret_names || !(*ret_symbols)->d_buf || !(*ret_names)->d_buf || (*ret_names)->d_size == 0)
        return false;
    return ((const char *)(*ret_names)->d_buf)[(*ret_names)->d_size - 1] == '\0';
}

static int mark_known(const struct search *s, const struct known_name *known, uint64_t address, uint64_t bytes)
{
    struct unwind_rule rule = *known->rule;
    if (UNWIND_CFA_KIND(rule.cfa) == UNWIND_CFA_SIGNAL) {
        rule.cfa_offset = s->arch->trampoline_context;
        address -= TRAMPOLINE_LEAD;
        bytes = TRAMPOLINE_LEAD + (bytes ? bytes : TRAMPOLINE_MAX_BYTES);
    }
    return mark(s->file, known->over ? &s->known->over : &s->known->gaps, address, bytes, rule);
}

static int mark_table(const struct search *s, Elf_Scn *section, const GElf_Shdr *header)
{
    const Elf_Data *symbols, *names;
    if (!read_table(s->file, section, header, &symbols, &names))
        return 0;
    for (size_t at = 0; at + sizeof(Elf64_Sym) <= symbols->d_size; at += sizeof(Elf64_Sym)) {
        Elf64_Sym symbol;
        memcpy(&symbol, (const char *)symbols->d_buf + at, sizeof(symbol));
        if (symbol.st_shndx == SHN_UNDEF || symbol.st_name >= names->d_size)
            continue;
        const struct known_name *found = find_known((const char *)names->d_buf + symbol.st_name, names->d_size - symbol.st_name);
        int r = found ? mark_known(s, found, symbol.st_value, symbol.st_size) : 0;
        if (r < 0)
            return r;
    }
    return 0;
}

static int mark_symbols(const struct search *s)
{
    Elf_Scn *section = NULL;
    for (unsigned n = 0; n < MAX_TABLES && (section = elf_nextscn(s->file->elf.elf, section));) {
        GElf_Shdr header;
        if (!gelf_getshdr(section, &header) || (header.sh_type != SHT_SYMTAB && header.sh_type != SHT_DYNSYM))
            continue;
        n++;
        int r = mark_table(s, section, &header);
        if (r < 0)
            return r;
    }
    return 0;
}

/* By Go's own names, which a stripped binary has too. Where its table can't be read and there is no .debug_frame, its functions are known to
 * keep frame pointers. */
static int mark_go(const struct search *s, const struct unwind_go *go)
{
    GElf_Shdr text, table;
    struct go_function function;
    if (!go->table.data && elf_file_section(&s->file->elf, ".gopclntab", &table) && elf_file_section(&s->file->elf, ".text", &text))
        return mark(s->file, &s->known->gaps, text.sh_addr, text.sh_size, frame_pointer);
    int r = 0;
    for (uint64_t i = 0; r == 0 && i < go->table.n; i++) {
        if (!go_pclntab_function(&go->table, i, &function))
            continue;
        const char *name = go_pclntab_name(&go->table, function.name, UNWIND_GO_NAME_BYTES);
        const struct known_name *found = name ? find_known(name, strlen(name) + 1) : NULL;
        r = found ? mark_known(s, found, function.start, function.end - function.start) : 0;
    }
    return r;
}

/* Nothing called the code at the entry point of what the kernel started. */
static int mark_entry(const struct search *s, uint64_t end)
{
    const struct unwind_file *file = s->file;
    uint64_t entry = file->header.e_entry, room;
    const uint8_t *code = entry ? unwind_file_at(file, entry, &room) : NULL;
    if (!code || (!unwind_file_is_program(file) && !s->arch->is_start(code, room)))
        return 0;
    uint64_t bytes = end > entry && end - entry < START_MAX_BYTES ? end - entry : START_MAX_BYTES;
    return mark(file, &s->known->over, entry, bytes, root);
}

int unwind_known_find(const struct unwind_file *file, const struct unwind_arch *arch, const struct unwind_go *go, uint64_t entry_end,
                      struct unwind_known *ret)
{
    struct unwind_known known = {0};
    const struct search search = {file, arch, &known};
    int r = mark_symbols(&search);
    if (r == 0)
        r = mark_go(&search, go);
    if (r == 0)
        r = mark_entry(&search, entry_end);
    if (r < 0) {
        unwind_known_deinit(&known);
        return r;
    }
    *ret = known;
    return 0;
}

void unwind_known_settle(struct unwind_known *known)
{
    unwind_marks_settle(&known->over);
    unwind_marks_settle(&known->gaps);
}

void unwind_known_deinit(struct unwind_known *known)
{
    unwind_marks_deinit(&known->over);
    unwind_marks_deinit(&known->gaps);
}
