/* Looks for an allocator in a file's symbol tables. One function that calls another of them is left out, whose probe sees the call: so musl's
 * calloc, and operator new of the C++ libraries. Which calls which is told by the distances in its code: four bytes that happen to lead to
 * exactly such a function are not to be expected. */
#include "symbolize/heap_functions.h"

#include <errno.h>
#include <gelf.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "symbolize/elf_file.h"
#include "symbolize/elf_plt.h"
#include "symbolize/elf_segments.h"
#include "symbolize/usdt.h"
#include "util/cleanup.h"

/* Further bytes of one function are not looked at. */
#define CODE_MAX_BYTES 65536u
/* What gives memory back and is longer may do so itself, and go on to another for some of it alone (tcmalloc's sized delete does). To see an end
 * twice is no harm. */
#define FREE_WRAPPER_MAX_BYTES 32u

struct known {
    const char *name;
    enum heap_call_kind kind;
};

/* To add an allocator: its names, if they are others than these with a prefix. */
static const struct known knowns[] = {
    {"malloc", HEAP_MALLOC}, {"valloc", HEAP_MALLOC}, {"pvalloc", HEAP_MALLOC}, {"mallocx", HEAP_MALLOC},
    {"calloc", HEAP_CALLOC}, {"realloc", HEAP_REALLOC}, {"rallocx", HEAP_REALLOC}, {"reallocarray", HEAP_REALLOCARRAY},
    {"memalign", HEAP_MEMALIGN}, {"aligned_alloc", HEAP_MEMALIGN}, {"posix_memalign", HEAP_POSIX_MEMALIGN},
    {"free", HEAP_FREE}, {"cfree", HEAP_FREE}, {"free_sized", HEAP_FREE}, {"free_aligned_sized", HEAP_FREE}, {"free_size", HEAP_FREE},
    {"free_size_aligned", HEAP_FREE}, {"free_aligned", HEAP_FREE}, {"dallocx", HEAP_FREE}, {"sdallocx", HEAP_FREE},
    {"mmap", HEAP_MAP}, {"mmap64", HEAP_MAP}, {"munmap", HEAP_UNMAP}, {"mremap", HEAP_REMAP},
};
/* C++'s: new, delete, and of arrays, by what their names go on with. That with a place (Pv) allocates nothing. */
static const struct known operators[] = {
    {"nwm", HEAP_NEW}, {"nwmSt11align_val_t", HEAP_NEW}, {"nwmRKSt9nothrow_t", HEAP_MALLOC}, {"nwmSt11align_val_tRKSt9nothrow_t", HEAP_MALLOC},
    {"nam", HEAP_NEW}, {"namSt11align_val_t", HEAP_NEW}, {"namRKSt9nothrow_t", HEAP_MALLOC}, {"namSt11align_val_tRKSt9nothrow_t", HEAP_MALLOC},
    {"dlPv", HEAP_FREE}, {"dlPvm", HEAP_FREE}, {"dlPvSt11align_val_t", HEAP_FREE}, {"dlPvmSt11align_val_t", HEAP_FREE},
    {"dlPvRKSt9nothrow_t", HEAP_FREE}, {"dlPvSt11align_val_tRKSt9nothrow_t", HEAP_FREE},
    {"daPv", HEAP_FREE}, {"daPvm", HEAP_FREE}, {"daPvSt11align_val_t", HEAP_FREE}, {"daPvmSt11align_val_t", HEAP_FREE},
    {"daPvRKSt9nothrow_t", HEAP_FREE}, {"daPvSt11align_val_tRKSt9nothrow_t", HEAP_FREE},
};
/* mimalloc's own, by what follows its prefix: to other readers than its own they would mean something else. */
static const struct known of_mimalloc[] = {
    {"malloc_small", HEAP_MALLOC}, {"zalloc", HEAP_MALLOC}, {"zalloc_small", HEAP_MALLOC}, {"malloc_aligned", HEAP_MALLOC},
    {"malloc_aligned_at", HEAP_MALLOC}, {"zalloc_aligned", HEAP_MALLOC}, {"zalloc_aligned_at", HEAP_MALLOC}, {"mallocn", HEAP_CALLOC},
    {"calloc_aligned", HEAP_CALLOC}, {"calloc_aligned_at", HEAP_CALLOC}, {"reallocf", HEAP_REALLOC}, {"rezalloc", HEAP_REALLOC},
    {"realloc_aligned", HEAP_REALLOC}, {"realloc_aligned_at", HEAP_REALLOC}, {"rezalloc_aligned", HEAP_REALLOC},
    {"rezalloc_aligned_at", HEAP_REALLOC}, {"reallocn", HEAP_REALLOCARRAY}, {"recalloc", HEAP_REALLOCARRAY},
    {"recalloc_aligned", HEAP_REALLOCARRAY}, {"recalloc_aligned_at", HEAP_REALLOCARRAY}, {"new", HEAP_NEW}, {"new_aligned", HEAP_NEW},
    {"new_nothrow", HEAP_MALLOC}, {"new_aligned_nothrow", HEAP_MALLOC},
};
#define OF(table) (table), sizeof(table) / sizeof((table)[0])

/* Allocators, by what their names begin with. Rust's jemalloc has a prefix of its own. */
enum { FAMILY_C, FAMILY_MIMALLOC = 3 };
static const char *const families[] = {[FAMILY_C] = "", "je_", "tc_", [FAMILY_MIMALLOC] = "mi_", "rp", "_rjem_"};
#define N_FAMILIES (sizeof(families) / sizeof(families[0]))

static bool known_in(const struct known *table, size_t n, const char *name, enum heap_call_kind *ret)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(name, table[i].name) == 0)
            return *ret = table[i].kind, true;
    return false;
}

static bool known_find(const char *name, enum heap_call_kind *ret, uint32_t *ret_family)
{
    *ret_family = FAMILY_C;
    if (strncmp(name, "_Z", 2) == 0)
        return known_in(OF(operators), name + 2, ret);
    for (uint32_t i = 0; i < N_FAMILIES; i++) {
        size_t len = strlen(families[i]);
        if (strncmp(name, families[i], len) != 0 ||
            !(known_in(OF(knowns), name + len, ret) || (i == FAMILY_MIMALLOC && known_in(OF(of_mimalloc), name + len, ret))))
            continue;
        *ret_family = i;
        return true;
    }
    return false;
}

/* ---- what there is */

struct function {
    uint64_t address, bytes;
    enum heap_call_kind kind;
    uint32_t family;
    bool defined; /* here; else its address is that of a PLT entry, by which another file's is called */
    bool local;
    const char *name;
};

struct functions {
    struct function list[2 * HEAP_MAX_FUNCTIONS];
    size_t n;
};

static void functions_add(struct functions *f, const struct function *new)
{
    for (size_t i = 0; i < f->n; i++) {
        if (f->list[i].address == new->address) {
            f->list[i].local = f->list[i].local && new->local;
            return;
        }
    }
    if (f->n < sizeof(f->list) / sizeof(f->list[0]))
        f->list[f->n++] = *new;
}

static void functions_of_table(Elf *elf, Elf_Scn *section, const GElf_Shdr *header, struct functions *ret)
{
    Elf_Data *data = elf_getdata(section, NULL);
    GElf_Sym sym;

    for (int i = 0; data && gelf_getsym(data, i, &sym); i++) {
        const char *name = elf_strptr(elf, header->sh_link, sym.st_name);
        struct function f = {.address = sym.st_value, .bytes = sym.st_size, .defined = true, .local = GELF_ST_BIND(sym.st_info) == STB_LOCAL,
                             .name = name};
        if (name && GELF_ST_TYPE(sym.st_info) == STT_FUNC && sym.st_shndx != SHN_UNDEF && sym.st_value != 0 &&
            known_find(name, &f.kind, &f.family))
            functions_add(ret, &f);
    }
}

static int functions_of_stubs(Elf *elf, struct functions *ret)
{
    AUTO_FREE struct plt_stub *stubs = NULL;
    size_t n = 0;

    int r = plt_stubs_load(elf, &stubs, &n);
    for (size_t i = 0; r == 0 && i < n; i++) {
        const char *name = stubs[i].names != PLT_CHOSEN ? elf_strptr(elf, stubs[i].names, stubs[i].name_offset) : NULL;
        struct function f = {.address = stubs[i].start, .name = name};
        if (name && known_find(name, &f.kind, &f.family))
            functions_add(ret, &f);
    }
    return r;
}

static bool family_hides(const struct functions *f, uint32_t family, enum heap_call_kind kind)
{
    for (size_t i = 0; i < f->n; i++)
        if (f->list[i].defined && f->list[i].local && f->list[i].family == family && f->list[i].kind == kind)
            return true;
    return false;
}

/* Linkers make what a file hides local, all of it. Where an allocator's other half is local, too, that is what it is; else it is somebody's own
 * function of such a name. */
static void functions_drop_strangers(struct functions *f)
{
    bool whole[N_FAMILIES];
    size_t n = 0;

    for (uint32_t i = 0; i < N_FAMILIES; i++)
        whole[i] = family_hides(f, i, HEAP_MALLOC) && family_hides(f, i, HEAP_FREE);
    for (size_t i = 0; i < f->n; i++)
        if (!f->list[i].local || whole[f->list[i].family])
            f->list[n++] = f->list[i];
    f->n = n;
}

static int functions_collect(Elf *elf, struct functions *ret)
{
    Elf_Scn *section = NULL;

    while ((section = elf_nextscn(elf, section))) {
        GElf_Shdr header;
        if (gelf_getshdr(section, &header) && (header.sh_type == SHT_SYMTAB || header.sh_type == SHT_DYNSYM))
            functions_of_table(elf, section, &header, ret);
    }
    functions_drop_strangers(ret);
    return ret->n > 0 ? functions_of_stubs(elf, ret) : 0;
}

/* ---- which ends in which */

/* Who calls these is told when they are. */
static bool function_maps(const struct function *f)
{
    return f->kind == HEAP_MAP || f->kind == HEAP_UNMAP || f->kind == HEAP_REMAP;
}

/* A call of the one that does for the caller what it is there for. */
static bool is_served_by(const struct function *caller, const struct function *callee)
{
    return caller->address != callee->address && !function_maps(caller) && !function_maps(callee) &&
           (caller->kind == HEAP_FREE) == (callee->kind == HEAP_FREE);
}

static bool calls_address(const struct functions *all, const struct function *caller, uint64_t target)
{
    for (size_t i = 0; i < all->n; i++)
        if (all->list[i].address == target)
            return is_served_by(caller, &all->list[i]);
    return false;
}

static bool is_call_or_jump(const uint8_t *code)
{
    return code[0] == 0xe8 || code[0] == 0xe9; /* x86-64, with a distance of 32 bits */
}

static bool function_ends_elsewhere(const struct elf_file *file, const struct functions *all, const struct function *f, uint64_t offset)
{
    uint64_t bytes = f->bytes < CODE_MAX_BYTES ? f->bytes : CODE_MAX_BYTES;

    if (offset > file->map_bytes || bytes > file->map_bytes - offset)
        return false;
    const uint8_t *code = file->map + offset;
    for (uint64_t at = 0; at + 5 <= bytes; at++) {
        int32_t distance;
        memcpy(&distance, code + at + 1, sizeof(distance));
        if (is_call_or_jump(code + at) && calls_address(all, f, f->address + at + 5 + (uint64_t)(int64_t)distance))
            return true;
    }
    return false;
}

/* What others come down to is never left out: realloc, too, calls malloc for a NULL. */
static bool function_is_basic(const struct function *f)
{
    size_t len = strlen(f->name);

    return f->kind == HEAP_REALLOC || (f->kind == HEAP_MALLOC && len >= 6 && strcmp(f->name + len - 6, "malloc") == 0) ||
           (f->kind == HEAP_FREE && len >= 4 && strcmp(f->name + len - 4, "free") == 0);
}

static int compare_functions(const void *va, const void *vb)
{
    const struct heap_function *a = va, *b = vb;

    return (a->file_offset > b->file_offset) - (a->file_offset < b->file_offset);
}

static void functions_select(const struct elf_file *file, const struct functions *all, const struct elf_segments *segments,
                             struct heap_function *ret, size_t *ret_n)
{
    size_t n = 0;

    for (size_t i = 0; i < all->n && n < HEAP_MAX_FUNCTIONS; i++) {
        const struct function *f = &all->list[i];
        uint64_t offset;
        if (!f->defined || !elf_segments_is_code(segments, f->address) || !elf_segments_offset(segments, f->address, &offset))
            continue;
        bool may_be_wrapper = f->kind != HEAP_FREE || f->bytes <= FREE_WRAPPER_MAX_BYTES;
        if (!function_is_basic(f) && may_be_wrapper && function_ends_elsewhere(file, all, f, offset))
            continue;
        ret[n] = (struct heap_function){.file_offset = offset, .kind = f->kind};
        (void)snprintf(ret[n++].name, sizeof(ret->name), "%s", f->name);
    }
    qsort(ret, n, sizeof(*ret), compare_functions);
    *ret_n = n;
}

/* ---- sites */

/* In opentelemetry-ebpf-profiler's design-docs/00003, where it is that provider's; the last is what libcprofd-heap tells beside. */
static const struct site {
    const char *provider, *name, *arguments;
    enum heap_call_kind kind;
} sites[] = {
    {"otel_memory", "alloc", "8@%rdi 8@%rsi 8@%rdx", HEAP_SITE_ALLOC},
    {"otel_memory", "free", "8@%rdi", HEAP_SITE_FREE},
    {"cprofd", "heap_untracked", "8@%rdi 8@%rsi", HEAP_SITE_UNTRACKED},
};

struct site_list {
    const struct elf_segments *segments;
    struct heap_function *list;
    size_t n;
};

/* Sizes may be signed: "-8@%rdi". */
static bool same_arguments(const char *found, const char *wanted)
{
    while (*found || *wanted) {
        if (*found == '-')
            found++;
        else if (*found++ != *wanted++)
            return false;
    }
    return true;
}

static int site_visit(void *userdata, const struct usdt_note *note)
{
    struct site_list *to = userdata;

    for (size_t i = 0; i < sizeof(sites) / sizeof(sites[0]) && to->n < HEAP_MAX_FUNCTIONS; i++) {
        struct heap_function f = {.kind = (uint16_t)sites[i].kind};
        if (strcmp(note->provider, sites[i].provider) != 0 || strcmp(note->name, sites[i].name) != 0)
            continue;
        if (!elf_segments_offset(to->segments, note->address, &f.file_offset) ||
            (note->semaphore && !elf_segments_offset(to->segments, note->semaphore, &f.semaphore)))
            continue;
        if (!same_arguments(note->arguments, sites[i].arguments)) /* which is said */
            f.kind = 0;
        (void)snprintf(f.name, sizeof(f.name), "%s:%s", sites[i].provider, sites[i].name);
        to->list[to->n++] = f;
    }
    return 0;
}

/* A Go program's own heap has no probe, whatever else there is. */
static void note_go(const struct elf_file *file, struct heap_function *list, size_t *n)
{
    GElf_Shdr header;

    if (*n < HEAP_MAX_FUNCTIONS && elf_file_section(file, ".go.buildinfo", &header))
        list[(*n)++] = (struct heap_function){.name = "runtime.mallocgc", .insn = "Go's own heap"};
}

int heap_functions_find(const struct elf_file *file, struct heap_function *ret, size_t *ret_n)
{
    CLEANUP(elf_segments_deinit) struct elf_segments segments = {0};
    AUTO_FREE struct functions *all = calloc(1, sizeof(*all));

    if (!all)
        return -ENOMEM;
    int r = functions_collect(file->elf, all);
    r = r ? r : elf_segments_load(file->elf, &segments);
    if (r < 0)
        return r;
    struct site_list told = {&segments, ret, 0};
    (void)usdt_each(file, site_visit, &told);
    *ret_n = told.n;
    if (told.n == 0)
        functions_select(file, all, &segments, ret, ret_n);
    note_go(file, ret, ret_n);
    return 0;
}
