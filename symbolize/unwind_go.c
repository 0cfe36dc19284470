/* Go's .debug_frame is made from the same tables, but for the frame pointer: it says nothing, though functions save it. And some
 * functions change to another stack, of which neither says anything; they have set their frame pointer before. */
#include "symbolize/unwind_go.h"

#include <string.h>

#define X86_RBP 6
#define X86_RSP 7

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
static uint64_t find_switch(const struct unwind_go *go, const struct go_function *function)
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
    for (size_t i = 0; name && i < sizeof(changes) / sizeof(changes[0]); i++)
        if (strcmp(name, changes[i].name) == 0)
            return changes[i].change;
    return STAYS;
}

struct run {
    const struct unwind_go *go;
    const struct go_function *function;
    enum change change;
    uint64_t moved;     /* where the stack pointer has left; UINT64_MAX: it stays */
    struct prologue prologue;
    bool has_prologue;  /* looked for */
    uint64_t end;
    void (*put)(void *userdata, uint64_t address, const struct unwind_rule *rule);
    void *userdata;
};

/* Before 1.21 these have no frame: rbp is still that of who called them, whose own caller is found by it. That leaves out the one who called, and is
 * said to be a guess. */
static struct unwind_rule callers_frame(void)
{
    return (struct unwind_rule){.cfa = UNWIND_CFA(UNWIND_CFA_REGISTER, X86_RBP | UNWIND_REG_GUESSED), .cfa_offset = 2 * GO_WORD,
                                .saved = UNWIND_SAVED(UNWIND_FP_CFA, UNWIND_RA_CFA) | UNWIND_OTHER_STACK, .saved_offset = -2};
}

static struct unwind_rule rule_of(const struct run *r, uint64_t address, int64_t depth)
{
    if (address >= r->moved && r->change == IS_ROOT)
        return (struct unwind_rule){.cfa = UNWIND_CFA_ROOT};
    if (depth < 0 || depth > INT32_MAX - GO_WORD || (address >= r->moved && r->change == IS_LOST))
        return (struct unwind_rule){.cfa = UNWIND_CFA_UNSUPPORTED};
    struct unwind_rule rule = {.cfa = UNWIND_CFA(UNWIND_CFA_REGISTER, X86_RSP), .cfa_offset = (int32_t)depth + GO_WORD};
    if (r->change == GOES_ON_BY_RBP && address >= r->moved && r->prologue.saved == UINT64_MAX)
        return callers_frame();
    if (depth == 0 || address < r->prologue.saved)
        return rule;
    rule.saved = UNWIND_SAVED(UNWIND_FP_CFA, UNWIND_RA_CFA);
    rule.saved_offset = -2;
    if (r->change == GOES_ON_BY_RBP && address >= r->prologue.set) {
        rule.cfa = UNWIND_CFA(UNWIND_CFA_REGISTER, X86_RBP);
        rule.cfa_offset = 2 * GO_WORD;
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

void unwind_go_run(const struct unwind_go *go, const struct go_function *function, uint64_t end,
                   void (*put)(void *userdata, uint64_t address, const struct unwind_rule *rule), void *userdata)
{
    const char *name = go_pclntab_name(&go->table, function->name, UNWIND_GO_NAME_BYTES);
    struct run r = {.go = go, .function = function, .change = find_change(name), .end = end, .put = put, .userdata = userdata,
                    .moved = UINT64_MAX, .prologue = {UINT64_MAX, UINT64_MAX}};
    struct go_values depth;
    bool ok = true;
    go_values_begin(&go->table, function, (uint32_t)go_pclntab_get(&go->table, function->record + GO_STACK, 4, &ok), &depth);
    if (r.change != STAYS)
        r.moved = find_switch(go, function);
    while (depth.to < end && go_values_next(&depth))
        put_range(&r, depth.from, depth.to < end ? depth.to : end, depth.value);
    if (depth.c.bad && depth.to < end)
        put_range(&r, depth.to, end, -1);
    else if (depth.to == function->start)
        put_at(&r, function->start, -1);
}

/* Its instructions are looked at, too. */
void unwind_go_open(const struct unwind_file *file, struct unwind_go *ret)
{
    struct go_module module = {0};
    if (file->header.e_machine == EM_X86_64)
        go_module_open(&file->elf, &file->segments, &module);
    *ret = (struct unwind_go){file, module.table};
}
