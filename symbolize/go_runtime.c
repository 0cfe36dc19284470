/* The version stands in .go.buildinfo. The list of goroutines is where the symbols runtime.allglen and runtime.allgptr say; where they
 * were stripped, the places that runtime.allgadd speaks of are candidates, among which the values in memory decide: it keeps a slice, its
 * length and its first element's address. */
#include "symbolize/go_runtime.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "symbolize/go_module.h"
#include "symbolize/unwind_file.h"
#include "util/cleanup.h"

#define BUILDINFO_VERSION_AT 32
#define BUILDINFO_INLINE 2 /* flag: strings follow, not pointers to them */
#define MAX_FUNCTION_BYTES 65536u
#define MAX_NAME_BYTES 64u

/* ---- the version */

static void read_version(const struct unwind_file *file, char ret[GO_VERSION_BYTES])
{
    static const uint8_t magic[] = {0xff, ' ', 'G', 'o', ' ', 'b', 'u', 'i', 'l', 'd', 'i', 'n', 'f', ':'};
    GElf_Shdr header;
    uint64_t room = 0;
    const uint8_t *bytes = elf_file_section(&file->elf, ".go.buildinfo", &header) ? unwind_file_at(file, header.sh_addr, &room) : NULL;
    if (!bytes || room < BUILDINFO_VERSION_AT || memcmp(bytes, magic, sizeof(magic)) != 0 || !(bytes[15] & BUILDINFO_INLINE))
        return;
    struct cfi_cursor c = {bytes + BUILDINFO_VERSION_AT, bytes + room, false};
    uint64_t len = cfi_get_uleb(&c);
    if (c.bad || len >= GO_VERSION_BYTES || !cfi_cursor_has(&c, len))
        return;
    for (uint64_t i = 0; i < len; i++)
        if (!isprint(c.at[i]))
            return;
    memcpy(ret, c.at, len);
    ret[len] = '\0';
}

/* ---- the list of goroutines */

static uint64_t symbol_address(const struct elf_file *file, Elf_Scn *section, const GElf_Shdr *header, const char *name)
{
    Elf_Data *data = header->sh_entsize ? elf_getdata(section, NULL) : NULL;
    GElf_Sym symbol;
    for (int i = 0; data && (uint64_t)i < header->sh_size / header->sh_entsize && gelf_getsym(data, i, &symbol); i++) {
        const char *its = GELF_ST_TYPE(symbol.st_info) == STT_OBJECT ? elf_strptr(file->elf, header->sh_link, symbol.st_name) : NULL;
        if (its && strcmp(its, name) == 0)
            return symbol.st_value;
    }
    return 0;
}

static bool find_symbols(const struct unwind_file *file, struct go_runtime *r)
{
    Elf_Scn *section = NULL;
    while ((section = elf_nextscn(file->elf.elf, section))) {
        GElf_Shdr header;
        if (!gelf_getshdr(section, &header) || header.sh_type != SHT_SYMTAB || (header.sh_flags & SHF_COMPRESSED))
            continue;
        r->allglen = symbol_address(&file->elf, section, &header, "runtime.allglen");
        r->allgptr = symbol_address(&file->elf, section, &header, "runtime.allgptr");
    }
    return r->allglen && r->allgptr;
}

static bool is_writable(const struct unwind_file *file, uint64_t address)
{
    for (size_t i = 0; i < file->header.e_phnum; i++) {
        GElf_Phdr segment;
        if (gelf_getphdr(file->elf.elf, (int)i, &segment) && segment.p_type == PT_LOAD && (segment.p_flags & PF_W)
            && address >= segment.p_vaddr && address - segment.p_vaddr < segment.p_memsz)
            return true;
    }
    return false;
}

static void add_candidate(struct go_runtime *r, uint64_t address)
{
    for (uint32_t i = 0; i < r->n_candidates; i++)
        if (r->candidates[i] == address)
            return;
    if (r->n_candidates < GO_MAX_CANDIDATES)
        r->candidates[r->n_candidates++] = address;
}

/* Every four bytes that may be the distance from an instruction's end to writable memory, whatever instruction that is, and whether one
 * or four bytes of it follow or none. x86-64 alone speaks of memory in this way. */
static void find_candidates(const struct unwind_file *file, const struct go_function *function, struct go_runtime *r)
{
    static const uint32_t rests[] = {0, 1, 4};
    uint64_t room = 0, bytes = function->end - function->start;
    const uint8_t *code = bytes <= MAX_FUNCTION_BYTES ? unwind_file_at(file, function->start, &room) : NULL;
    if (!code || room < bytes || file->header.e_machine != EM_X86_64)
        return;
    for (uint64_t at = 0; at + 4 <= bytes; at++) {
        int32_t distance;
        memcpy(&distance, code + at, sizeof(distance));
        for (size_t i = 0; i < sizeof(rests) / sizeof(rests[0]); i++) {
            uint64_t address = function->start + at + 4 + rests[i] + (uint64_t)(int64_t)distance;
            if (address % GO_WORD == 0 && is_writable(file, address))
                add_candidate(r, address);
        }
    }
}

/* ---- functions */

static bool is_injected(const char *name)
{
    static const char *const names[] = {"runtime.asyncPreempt", "runtime.sigpanic", "runtime.debugCallV2"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

/* Functions begin with a look at how much stack there is: cmp 16(%r14),%rsp, or for large frames lea -n(%rsp),%r12 and cmp 16(%r14),%r12; then jbe,
 * which the kernel need not single-step, and at which nothing has changed. */
static uint64_t find_probe(const struct unwind_file *file, const struct go_function *function)
{
    static const uint8_t cmp_rsp[] = {0x49, 0x3b, 0x66, 0x10}, cmp_r12[] = {0x4d, 0x3b, 0x66, 0x10};
    static const uint8_t lea_8[] = {0x4c, 0x8d, 0x64, 0x24}, lea_32[] = {0x4c, 0x8d, 0xa4, 0x24};
    uint64_t room = 0, at = 0, offset;
    const uint8_t *code = unwind_file_at(file, function->start, &room);
    if (!code || room < 24 || file->header.e_machine != EM_X86_64 || !elf_segments_offset(&file->segments, function->start, &offset))
        return 0;
    if (memcmp(code, lea_8, sizeof(lea_8)) == 0)
        at = sizeof(lea_8) + 1;
    else if (memcmp(code, lea_32, sizeof(lea_32)) == 0)
        at = sizeof(lea_32) + 4;
    if (memcmp(code + at, at ? cmp_r12 : cmp_rsp, sizeof(cmp_rsp)) != 0)
        return offset;
    at += sizeof(cmp_rsp);
    bool is_jbe = code[at] == 0x76 || (code[at] == 0x0f && code[at + 1] == 0x86);
    return is_jbe ? offset + at : offset;
}

static void note_probe(const struct unwind_file *file, const struct go_function *function, const char *name, struct go_runtime *r)
{
    static const char *const names[GO_PROBES] = {"runtime.gopark", "runtime.ready", "runtime.semacquire1"};
    for (size_t i = 0; i < GO_PROBES; i++)
        if (strcmp(name, names[i]) == 0)
            r->probes[i] = find_probe(file, function);
}

static void find_functions(const struct unwind_file *file, const struct go_pclntab *t, bool want_candidates, struct go_runtime *r)
{
    for (uint64_t i = 0; i < t->n; i++) {
        struct go_function function;
        const char *name = go_pclntab_function(t, i, &function) ? go_pclntab_name(t, function.name, MAX_NAME_BYTES) : NULL;
        if (!name || strncmp(name, "runtime.", 8) != 0)
            continue;
        note_probe(file, &function, name, r);
        if (is_injected(name) && r->n_injected < GO_MAX_INJECTED)
            r->injected[r->n_injected++] = (struct go_range){function.start, function.end};
        else if (strcmp(name, "runtime.goexit") == 0)
            r->goexit = (struct go_range){function.start, function.end};
        else if (want_candidates && strcmp(name, "runtime.allgadd") == 0)
            find_candidates(file, &function, r);
    }
}

/* ---- all */

static bool find_layout(const struct unwind_file *file, struct go_runtime *r)
{
    enum go_labels labels = GO_LABELS_UNKNOWN;
    if (go_layout_known(r->version, &r->layout, &labels, &r->reasons)) {
        r->labels = labels;
        return true;
    }
    return go_layout_dwarf(&file->elf, &r->layout) == 0;
}

static int read_runtime(const struct unwind_file *file, struct go_runtime *r)
{
    struct go_module module = {0};
    struct go_function first;
    go_module_open(&file->elf, &file->segments, &module);
    read_version(file, r->version);
    if (!module.table.data || !go_pclntab_function(&module.table, 0, &first))
        return r->version[0] ? -ENODATA : -ENOEXEC;
    r->text = first.start;
    bool has_list = find_symbols(file, r);
    find_functions(file, &module.table, !has_list, r);
    has_list = has_list || r->n_candidates > 0;
    bool is_placed = elf_segments_offset(&file->segments, r->text, &r->text_offset);
    return has_list && is_placed && find_layout(file, r) && go_runtime_is_sound(r) ? 0 : -ENODATA;
}

int go_runtime_open(int fd, struct go_runtime *ret)
{
    struct unwind_file file;
    struct go_runtime runtime = {0};
    int r = unwind_file_open(fd, &file);
    if (r < 0)
        return r;
    r = read_runtime(&file, &runtime);
    unwind_file_close(&file);
    if (r == 0 || r == -ENODATA)
        *ret = runtime;
    return r;
}

bool go_runtime_is_sound(const struct go_runtime *r)
{
    const struct go_layout *l = &r->layout;
    const uint32_t words[] = {l->g_stack + GO_WORD, l->g_m, l->g_sched_sp, l->g_sched_pc, l->g_sched_bp, l->g_syscallsp, l->g_syscallpc,
                              l->g_syscallbp, l->g_status, l->g_goid, l->g_waitsince, l->g_waitreason, l->g_lockedm, l->g_parent, l->g_gopc,
                              l->g_startpc, l->g_labels};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (words[i] > GO_G_MAX_BYTES - GO_WORD)
            return false;
    return l->m_procid <= GO_M_MAX_BYTES - GO_WORD && r->n_candidates <= GO_MAX_CANDIDATES && r->n_injected <= GO_MAX_INJECTED
           && memchr(r->version, '\0', sizeof(r->version)) && r->labels <= GO_LABELS_LIST;
}
