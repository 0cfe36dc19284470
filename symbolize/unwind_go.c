/* Go's .debug_frame is made from the same tables, but for the frame pointer: it says nothing, though functions save it. And some
 * functions change to another stack, of which neither says anything; they have set their frame pointer before. */
#include "symbolize/unwind_go.h"

#include <string.h>

#include "symbolize/cfi_cursor.h"

#define MAGIC_1_16 0xfffffffau
#define MAGIC_1_18 0xfffffff0u
#define MAGIC_1_20 0xfffffff1u
#define HEADER_BYTES 8
#define WORD 8
#define X86_RBP 6
#define X86_RSP 7
#define MODULE_TEXT (22 * WORD) /* of the field text in struct moduledata */
#define PROBED_FUNCTIONS 256 /* to see that text is where it is thought to be */
#define PROBED_BYTES 4096    /* of each */
#define MAX_FUNCTIONS (1u << 22)
#define MAX_NAME_BYTES 64    /* longer ones are none that mean anything here */

/* ---- the table */

static uint64_t get_at(const struct unwind_go *go, uint64_t offset, size_t bytes, bool *ok)
{
    struct cfi_cursor c = {go->table, go->table + go->bytes, false};
    cfi_skip(&c, offset);
    uint64_t value = cfi_get(&c, bytes);
    *ok &= !c.bad;
    return value;
}

/* Header: magic, 2 zeros, the least instruction size, a word's size; then words. False: another version, or another machine's. */
static bool read_header(struct unwind_go *go)
{
    bool ok = true;
    uint64_t magic = get_at(go, 0, 4, &ok), sizes = get_at(go, 4, 4, &ok);
    if (!ok || sizes != (WORD << 24 | 1 << 16) || (magic != MAGIC_1_16 && magic != MAGIC_1_18 && magic != MAGIC_1_20))
        return false;
    go->has_addresses = magic == MAGIC_1_16;
    uint64_t words = HEADER_BYTES + (go->has_addresses ? 2 : 3) * WORD;
    go->n = get_at(go, HEADER_BYTES, WORD, &ok);
    go->text = go->has_addresses ? 0 : get_at(go, HEADER_BYTES + 2 * WORD, WORD, &ok);
    go->names = get_at(go, words, WORD, &ok);
    go->stack_tables = get_at(go, words + 3 * WORD, WORD, &ok);
    go->functions = get_at(go, words + 4 * WORD, WORD, &ok);
    return ok && go->n > 0 && go->n < MAX_FUNCTIONS && go->names < go->bytes && go->stack_tables < go->bytes && go->functions < go->bytes;
}

static const char *string_at(const struct unwind_go *go, uint64_t offset)
{
    uint64_t room = offset < go->bytes ? go->bytes - offset : 0;
    if (room == 0 || !memchr(go->table + offset, 0, room < MAX_NAME_BYTES ? room : MAX_NAME_BYTES))
        return "";
    return (const char *)go->table + offset;
}

bool unwind_go_function(const struct unwind_go *go, uint64_t index, struct unwind_go_function *ret)
{
    size_t field = go->has_addresses ? WORD : 4;
    uint64_t entry = go->functions + index * 2 * field;
    bool ok = true;
    ret->start = go->text + get_at(go, entry, field, &ok);
    ret->end = go->text + get_at(go, entry + 2 * field, field, &ok);
    uint64_t at = go->functions + get_at(go, entry + field, field, &ok);
    /* Its record: entry, name, args, deferreturn, pcsp, ... */
    ret->name = string_at(go, go->names + get_at(go, at + field, 4, &ok));
    uint64_t table = get_at(go, at + field + 12, 4, &ok);
    ret->stack_table = table ? go->stack_tables + table : 0;
    return ok && ret->start < ret->end;
}

/* ---- prologues */

/* Bytes of a function's code from an address on; ret_room of them. */
static const uint8_t *code_at(const struct unwind_go *go, uint64_t address, uint64_t end, uint64_t *ret_room)
{
    const uint8_t *code = unwind_file_at(go->file, address, ret_room);
    if (code && *ret_room > end - address)
        *ret_room = end - address;
    return code;
}

struct prologue {
    uint64_t saved; /* from this address on the caller's rbp is below the return address; UINT64_MAX: it is not saved */
    uint64_t set;   /* and from this one on rbp points there */
};

/* The instruction mov or lea between rbp and rsp + something: its length, or 0. opcode: its second byte. */
static uint64_t frame_instruction(const uint8_t *code, uint64_t room, uint8_t opcode)
{
    if (room < 8 || code[0] != 0x48 || code[1] != opcode || code[3] != 0x24)
        return 0;
    return code[2] == 0x6c ? 5 : code[2] == 0xac ? 8 : 0;
}

/* At the first address whose stack is deeper: push %rbp | mov %rsp,%rbp since 1.21; before sub $n,%rsp | mov %rbp,n-8(%rsp) and
 * lea n-8(%rsp),%rbp. */
static struct prologue read_prologue(const struct unwind_go *go, uint64_t address, uint64_t end)
{
    static const uint8_t mov_rsp_rbp[] = {0x48, 0x89, 0xe5};
    struct prologue none = {UINT64_MAX, UINT64_MAX};
    uint64_t room, mov, lea;
    const uint8_t *code = code_at(go, address - 1, end, &room);
    if (!code || room < 1 + sizeof(mov_rsp_rbp))
        return none;
    if (code[0] == 0x55)
        return memcmp(code + 1, mov_rsp_rbp, sizeof(mov_rsp_rbp)) == 0 ? (struct prologue){address, address + sizeof(mov_rsp_rbp)} : none;
    mov = frame_instruction(code + 1, room - 1, 0x89);
    lea = mov ? frame_instruction(code + 1 + mov, room - 1 - mov, 0x8d) : 0;
    return lea ? (struct prologue){address + mov, address + mov + lea} : none;
}

/* Where a function has changed its stack: behind its first mov to rsp. UINT64_MAX: nowhere. */
static uint64_t find_switch(const struct unwind_go *go, const struct unwind_go_function *function)
{
    uint64_t room;
    const uint8_t *code = code_at(go, function->start, function->end, &room);
    for (uint64_t at = 0; code && at + 4 <= room; at++) {
        bool is_wide = (code[at] & 0xf8) == 0x48;
        if (is_wide && !(code[at] & 4) && code[at + 1] == 0x8b && (code[at + 2] & 0x38) == 0x20)
            return function->start + at + 3;
        if (is_wide && !(code[at] & 1) && code[at + 1] == 0x89 && (code[at + 2] & 0xc7) == 0xc4)
            return function->start + at + 3;
    }
    return UINT64_MAX;
}

/* ---- rows */

/* What becomes of a function whose stack pointer is moved to another stack. */
enum change { STAYS, GOES_ON_BY_RBP, IS_ROOT, IS_LOST };

static const struct {
    const char *name;
    enum change change;
} changes[] = {
    {"runtime.systemstack", GOES_ON_BY_RBP},
    {"runtime.asmcgocall", GOES_ON_BY_RBP},
    {"runtime.asmcgocall_no_g", GOES_ON_BY_RBP},
    {"runtime.cgocallback", GOES_ON_BY_RBP}, /* to C, which called it; its rows would go on with the Go code that had called C */
    {"runtime.nanotime1", GOES_ON_BY_RBP}, /* the vDSO runs on the thread's own stack */
    {"runtime.walltime", GOES_ON_BY_RBP},
    {"time.now", GOES_ON_BY_RBP},
    {"runtime.mcall", IS_ROOT},    /* the scheduler: nobody waits for it */
    {"runtime.clone", IS_ROOT},    /* a new thread's stack */
    {"runtime.morestack", IS_LOST}, /* its caller is known to the scheduler alone */
};

static enum change find_change(const char *name)
{
    for (size_t i = 0; *name && i < sizeof(changes) / sizeof(changes[0]); i++)
        if (strcmp(name, changes[i].name) == 0)
            return changes[i].change;
    return STAYS;
}

struct run {
    const struct unwind_go *go;
    const struct unwind_go_function *function;
    enum change change;
    uint64_t moved;     /* where the stack pointer has left; UINT64_MAX: it stays */
    struct prologue prologue;
    bool has_prologue;  /* looked for */
    uint64_t end;
    void (*put)(void *userdata, uint64_t address, const struct unwind_rule *rule);
    void *userdata;
};

static struct unwind_rule rule_of(const struct run *r, uint64_t address, int64_t depth)
{
    if (address >= r->moved && r->change == IS_ROOT)
        return (struct unwind_rule){.cfa = UNWIND_CFA_ROOT};
    if (depth < 0 || depth > INT32_MAX - WORD || (address >= r->moved && r->change == IS_LOST))
        return (struct unwind_rule){.cfa = UNWIND_CFA_UNSUPPORTED};
    struct unwind_rule rule = {.cfa = UNWIND_CFA(UNWIND_CFA_REGISTER, X86_RSP), .cfa_offset = (int32_t)depth + WORD};
    if (depth == 0 || address < r->prologue.saved)
        return rule;
    rule.saved = UNWIND_SAVED(UNWIND_FP_CFA, UNWIND_RA_CFA);
    rule.saved_offset = -2;
    if (r->change == GOES_ON_BY_RBP && address >= r->prologue.set) {
        rule.cfa = UNWIND_CFA(UNWIND_CFA_REGISTER, X86_RBP);
        rule.cfa_offset = 2 * WORD;
        rule.saved |= UNWIND_OTHER_STACK;
    }
    return rule;
}

static void put_at(const struct run *r, uint64_t address, int64_t depth)
{
    struct unwind_rule rule = rule_of(r, address, depth);
    if (address < r->end)
        r->put(r->userdata, address, &rule);
}

/* [from, to) with one depth of the stack, in as many rows as it needs. */
static void put_range(struct run *r, uint64_t from, uint64_t to, int64_t depth)
{
    if (depth > 0 && !r->has_prologue) {
        r->prologue = read_prologue(r->go, from, r->function->end);
        r->has_prologue = true;
    }
    const uint64_t borders[] = {r->prologue.saved, r->prologue.set, r->moved};
    for (uint64_t at = from, next; at < to; at = next) {
        put_at(r, at, depth);
        next = to;
        for (size_t i = 0; i < sizeof(borders) / sizeof(borders[0]); i++)
            if (borders[i] > at && borders[i] < next)
                next = borders[i];
    }
}

/* Pairs of differences: of the depth (from -1 on; 0 ends), and how many bytes of code have it. */
void unwind_go_run(const struct unwind_go *go, const struct unwind_go_function *function, uint64_t end,
                   void (*put)(void *userdata, uint64_t address, const struct unwind_rule *rule), void *userdata)
{
    struct run r = {.go = go, .function = function, .change = find_change(function->name), .end = end, .put = put, .userdata = userdata,
                    .moved = UINT64_MAX, .prologue = {UINT64_MAX, UINT64_MAX}};
    struct cfi_cursor c = {go->table, go->table + go->bytes, false};
    uint64_t address = function->start;
    int64_t depth = -1;
    cfi_skip(&c, function->stack_table);
    if (function->stack_table == 0)
        cfi_cursor_fail(&c);
    if (r.change == IS_ROOT || r.change == IS_LOST)
        r.moved = find_switch(go, function);
    while (!c.bad && address < end) {
        uint64_t difference = cfi_get_uleb(&c);
        if (difference == 0 && address > function->start)
            break;
        uint64_t bytes = cfi_get_uleb(&c);
        depth = (int64_t)((uint64_t)depth + ((difference >> 1) ^ (0 - (difference & 1))));
        if (c.bad || bytes == 0 || bytes > end - address)
            bytes = end - address;
        put_range(&r, address, address + bytes, c.bad ? -1 : depth);
        address += bytes;
    }
    if (address == function->start)
        put_at(&r, address, -1);
}

/* ---- finding it */

static void count_prologue(void *userdata, uint64_t address, const struct unwind_rule *rule)
{
    uint64_t *saved = userdata;
    *saved += UNWIND_SAVED_FP(rule->saved) == UNWIND_FP_CFA;
}

/* Wherever text is thought to be, functions must be seen to begin: most have a prologue. */
static bool text_is_right(const struct unwind_go *go)
{
    uint64_t saved = 0, probed = 0, step = go->n / PROBED_FUNCTIONS + 1;
    for (uint64_t i = 0; i < go->n; i += step) {
        struct unwind_go_function function;
        uint64_t before = saved;
        if (!unwind_go_function(go, i, &function))
            return false;
        uint64_t bytes = function.end - function.start;
        unwind_go_run(go, &function, function.start + (bytes < PROBED_BYTES ? bytes : PROBED_BYTES), count_prologue, &saved);
        saved = saved > before ? before + 1 : before;
        probed++;
    }
    return 2 * saved > probed;
}

static uint64_t module_text(const struct unwind_file *file)
{
    GElf_Shdr header;
    uint64_t text = 0;
    if (elf_file_section(&file->elf, ".go.module", &header) && header.sh_type != SHT_NOBITS && header.sh_size >= MODULE_TEXT + WORD
        && header.sh_offset <= file->n_bytes && header.sh_size <= file->n_bytes - header.sh_offset)
        memcpy(&text, file->bytes + header.sh_offset + MODULE_TEXT, sizeof(text));
    return text;
}

static uint64_t section_text(const struct unwind_file *file)
{
    GElf_Shdr header;
    return elf_file_section(&file->elf, ".text", &header) ? header.sh_addr : 0;
}

/* The table itself says it up to 1.25, unless that is left to the dynamic linker; later the module does; it is .text where no C code was
 * linked before it. */
static bool find_text(struct unwind_go *go)
{
    const uint64_t candidates[] = {go->text, module_text(go->file), section_text(go->file)};
    if (go->has_addresses)
        return text_is_right(go);
    for (size_t i = 0; i < sizeof(candidates) / sizeof(candidates[0]); i++) {
        go->text = candidates[i];
        if (go->text && text_is_right(go))
            return true;
    }
    return false;
}

void unwind_go_open(const struct unwind_file *file, struct unwind_go *ret)
{
    struct unwind_go go = {.file = file};
    GElf_Shdr header;
    if (file->header.e_machine != EM_X86_64
        || (!elf_file_section(&file->elf, ".gopclntab", &header) && !elf_file_section(&file->elf, ".data.rel.ro.gopclntab", &header)))
        return;
    if (header.sh_type == SHT_NOBITS || header.sh_offset > file->n_bytes || header.sh_size > file->n_bytes - header.sh_offset)
        return;
    go.table = file->bytes + header.sh_offset;
    go.bytes = header.sh_size;
    if (read_header(&go) && find_text(&go))
        *ret = go;
}
