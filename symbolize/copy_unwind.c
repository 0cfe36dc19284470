/* One step a frame: the CFI of the frame's code (.eh_frame, else .debug_frame) gives the CFA and each register of the
 * caller. libdw finds and interprets the tables; expressions are evaluated here (copy_expression.c), since all memory there
 * is is the copy. libdw's own walker (dwfl) would do that too, but guesses where CFI is missing and does not say so.
 *
 * Where there is no CFI, frame pointers are followed in code that has none anywhere (made at run time, or by Go), and in
 * the rest (assembly) the first word of the stack is taken for the return address that has a call before it. */
#include "symbolize/copy_unwind.h"

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "symbolize/copy_expression.h"
#include "symbolize/module.h"
#include "util/cleanup.h"
#include "util/clock.h"

#define WORD 8u
/* How far below the stack pointer a program may use the stack (x86-64). */
#define RED_ZONE_BYTES 128
/* How far above the stack pointer a return address is looked for, in words. */
#define GUESS_WORDS 256
/* Of an entry point that nothing says the length of. */
#define ENTRY_BYTES 64
/* Addresses of user space on aarch64: above them, pointer authentication has its code. */
#define AARCH64_ADDRESS 0x0000ffffffffffffull

struct machine_registers {
    uint16_t machine;
    uint8_t n, pc, sp, fp;
    uint64_t unmentioned; /* those that libdw takes for undefined where CFI does not mention them, though functions keep them */
};

static const struct machine_registers machines[] = {
    {EM_X86_64, 17, 16, 7, 6, 1u << 3}, /* rbx: elfutils 0.188 confuses its number with that of rax */
    {EM_AARCH64, 33, 32, 31, 29, 0},
};

struct walk {
    const struct copy_stack *stack;
    const struct copy_ops *ops;
    void *userdata;
    const struct machine_registers *machine;
    struct copy_registers registers;
    struct copy_frame frame; /* the current one */
    bool signal;             /* the current one is a signal's trampoline, and the caller is what a signal interrupted: it may be on any stack */
};

static uint64_t walk_pc(const struct walk *w)
{
    return w->registers.value[w->machine->pc];
}

static uint64_t walk_sp(const struct walk *w)
{
    return w->registers.value[w->machine->sp];
}

static bool is_code(const struct walk *w, uint64_t address)
{
    struct copy_code code = {0};
    w->ops->code(w->userdata, address, &code);
    return code.kind != COPY_CODE_NONE;
}

static enum copy_end end_of_error(int error)
{
    return error == -EFAULT ? COPY_END_UNREADABLE : COPY_END_UNSUPPORTED;
}

/* ---- by CFI */

/* CFI goes on naming the slot of a register that an epilogue has popped already. Where the copy does not reach below the
 * stack pointer, the register itself has the value, but for leaf functions that save registers without a push. */
static bool is_popped(const struct walk *w, uint64_t slot)
{
    return w->frame.exact && slot < w->stack->base && slot < walk_sp(w) && walk_sp(w) - slot <= RED_ZONE_BYTES;
}

/* What is in a register or in a slot of the stack. */
static int caller_saved(const struct walk *w, enum copy_place place, uint64_t where, int number, bool *ret_presumed,
                        uint64_t *ret)
{
    if (place == COPY_PLACE_REGISTER) {
        *ret_presumed = where < COPY_MAX_REGISTERS && w->registers.presumed >> where & 1;
        return copy_register(&w->registers, where, ret);
    }
    int r = copy_read(w->stack, where, WORD, ret);
    if (r == -EFAULT && number != w->machine->pc && is_popped(w, where)) {
        *ret_presumed = true;
        return copy_register(&w->registers, (uint64_t)number, ret);
    }
    return r;
}

/* The value of one of the caller's registers. 0; -ENOENT: CFI says that there is none; -ENODATA: it is lost; -EFAULT,
 * -ENOTSUP. */
static int caller_register(const struct walk *w, struct copy_context *c, Dwarf_Frame *frame, int number,
                           bool *ret_presumed, uint64_t *ret)
{
    enum copy_place place = COPY_PLACE_MEMORY;
    Dwarf_Op room[3], *ops = NULL;
    size_t n_ops = 0;
    uint64_t value;

    if (dwarf_frame_register(frame, number, room, &ops, &n_ops) < 0)
        return -ENOTSUP;
    if (n_ops == 0 && ops && !(w->machine->unmentioned >> number & 1))
        return -ENOENT;
    if (n_ops == 0)
        return caller_saved(w, COPY_PLACE_REGISTER, (uint64_t)number, number, ret_presumed, ret);
    int r = copy_evaluate(c, ops, n_ops, &place, &value);
    if (r < 0)
        return r;
    if (place != COPY_PLACE_VALUE)
        return caller_saved(w, place, value, number, ret_presumed, ret);
    *ret = value;
    return 0;
}

static int caller_cfa(struct copy_context *c, Dwarf_Frame *frame)
{
    enum copy_place place = COPY_PLACE_VALUE;
    Dwarf_Op *ops = NULL;
    size_t n_ops = 0;

    if (dwarf_frame_cfa(frame, &ops, &n_ops) < 0 || n_ops == 0)
        return -ENOTSUP;
    int r = copy_evaluate(c, ops, n_ops, &place, &c->cfa);
    c->has_cfa = r == 0;
    return r;
}

/* Makes the caller's registers the current ones. 1: there is a caller; 0: *ret_end says why not. */
static int walk_enter(struct walk *w, struct copy_registers *caller, uint64_t pc, enum copy_end *ret_end)
{
    uint64_t old_sp = walk_sp(w), sp = caller->value[w->machine->sp];

    if (w->machine->machine == EM_AARCH64)
        pc &= AARCH64_ADDRESS;
    if (pc == 0) {
        *ret_end = COPY_END_ZERO;
        return 0;
    }
    /* Each frame is larger than nothing, but for a leaf function whose return address is in a register. */
    bool above = sp > old_sp || (sp == old_sp && pc != walk_pc(w));
    if (!(caller->known >> w->machine->sp & 1) || (!above && !w->signal)) {
        *ret_end = COPY_END_BAD_CFA;
        return 0;
    }
    caller->value[w->machine->pc] = pc;
    caller->known |= 1ull << w->machine->pc;
    w->registers = *caller;
    w->frame.pc = pc;
    w->frame.exact = w->signal;
    return 1;
}

static int walk_by_cfi(struct walk *w, Dwarf_Frame *frame, uint64_t bias, enum copy_end *ret_end)
{
    struct copy_context context = {.stack = w->stack, .registers = &w->registers, .bias = bias};
    struct copy_registers caller = {0};
    uint64_t pc = 0;
    Dwarf_Addr start, end;
    bool presumed = false;

    int return_address = dwarf_frame_info(frame, &start, &end, &w->signal);
    int r = return_address < 0 || return_address >= w->machine->n ? -ENOTSUP : caller_cfa(&context, frame);
    if (r == 0)
        r = caller_register(w, &context, frame, return_address, &presumed, &pc);
    w->frame.guessed = presumed || context.used & w->registers.presumed;
    if (r < 0) {
        *ret_end = r == -ENOENT ? COPY_END_ROOT : end_of_error(r);
        return 0;
    }
    for (int i = 0; i < w->machine->n; i++) {
        presumed = false;
        if (i == w->machine->pc || caller_register(w, &context, frame, i, &presumed, &caller.value[i]) < 0)
            continue;
        caller.known |= 1ull << i;
        caller.presumed |= (uint64_t)presumed << i;
    }
    return walk_enter(w, &caller, pc, ret_end);
}

/* What CFI says of an address (of the file). NULL: nothing. The caller's to free. */
static Dwarf_Frame *cfi_frame(struct module *m, uint64_t address)
{
    Dwarf_Frame *frame = NULL;
    Dwarf_CFI *cfi = module_cfi(m);

    if (cfi && dwarf_cfi_addrframe(cfi, address, &frame) == 0)
        return frame;
    cfi = module_debug_cfi(m);
    return cfi && dwarf_cfi_addrframe(cfi, address, &frame) == 0 ? frame : NULL;
}

/* ---- by guesses */

static int walk_by_frame_pointer(struct walk *w, enum copy_end *ret_end)
{
    struct copy_registers caller = w->registers;
    uint64_t fp, next, pc;
    int r = copy_register(&w->registers, w->machine->fp, &fp);

    if (r == 0 && (fp < walk_sp(w) || fp % WORD))
        r = fp ? -ENOTSUP : -ENOENT;
    r = r ? r : copy_read(w->stack, fp, WORD, &next);
    r = r ? r : copy_read(w->stack, fp + WORD, WORD, &pc);
    if (r < 0 || (pc && !is_code(w, pc - 1))) {
        *ret_end = r == -ENOENT ? COPY_END_ZERO : r == -EFAULT ? COPY_END_UNREADABLE : COPY_END_NO_CFI;
        return 0;
    }
    caller.value[w->machine->fp] = next;
    caller.value[w->machine->sp] = fp + 2 * WORD;
    w->frame.fp = true;
    return walk_enter(w, &caller, pc, ret_end);
}

/* Whether a call ends where p ends: x86-64's call rel32, and call r/m in its lengths of 2, 3, 4, 6 and 7 bytes. */
static bool ends_in_call(const uint8_t *p, size_t before)
{
    static const uint8_t lengths[] = {2, 3, 4, 6, 7};

    if (before >= 5 && p[-5] == 0xe8)
        return true;
    for (size_t i = 0; i < sizeof(lengths); i++)
        if (before >= lengths[i] && p[-lengths[i]] == 0xff && (p[-lengths[i] + 1] & 0x38) == 0x10)
            return true;
    return false;
}

static bool is_return_address(const struct walk *w, uint64_t address)
{
    struct copy_code code = {0};
    size_t len = 0;

    if (address == 0)
        return false;
    w->ops->code(w->userdata, address - 1, &code);
    if (code.kind != COPY_CODE_FILE || !code.module)
        return false;
    const uint8_t *bytes = (const uint8_t *)elf_rawfile(code.module->file.elf, &len);
    uint64_t at = code.file_offset + 1;
    return bytes && at <= len && ends_in_call(bytes + at, at);
}

/* Assembly without CFI: the nearest word that can be a return address. */
static int walk_by_guess(struct walk *w, enum copy_end *ret_end)
{
    struct copy_registers caller = w->registers;
    uint64_t sp = walk_sp(w), pc;

    *ret_end = COPY_END_NO_CFI;
    if (w->machine->machine != EM_X86_64)
        return 0;
    for (unsigned i = 0; i < GUESS_WORDS && copy_read(w->stack, sp + i * WORD, WORD, &pc) == 0; i++) {
        if (!is_return_address(w, pc))
            continue;
        caller.value[w->machine->sp] = sp + (i + 1) * WORD;
        w->frame.guessed = true;
        return walk_enter(w, &caller, pc, ret_end);
    }
    return 0;
}

/* ---- the walk */

/* Is this where the kernel enters the program? Some C libraries have no CFI there. */
static bool is_entry_point(const struct module *m, uint64_t address)
{
    GElf_Ehdr header;

    if (!gelf_getehdr(m->file.elf, &header) || header.e_entry == 0)
        return false;
    const struct elf_symbol *symbol = elf_symbols_find(&m->symbols, address);
    if (symbol && symbol->size_known)
        return symbol->start == header.e_entry;
    return address >= header.e_entry && address - header.e_entry < ENTRY_BYTES;
}

/* To the caller of the current frame, whose code is in a file. */
static int walk_in_file(struct walk *w, const struct copy_code *code, uint64_t at, enum copy_end *ret_end)
{
    uint64_t address;

    *ret_end = COPY_END_NO_CFI;
    if (!code->module || !elf_segments_address(&code->module->segments, code->file_offset, &address))
        return 0;
    AUTO_FREE Dwarf_Frame *frame = cfi_frame(code->module, address);
    if (frame)
        return walk_by_cfi(w, frame, at - address, ret_end);
    if (is_entry_point(code->module, address)) {
        *ret_end = COPY_END_ROOT;
        return 0;
    }
    if (!module_cfi(code->module) && !module_debug_cfi(code->module))
        return walk_by_frame_pointer(w, ret_end);
    return walk_by_guess(w, ret_end);
}

static int walk_step(struct walk *w, enum copy_end *ret_end)
{
    uint64_t at = walk_pc(w) - !w->frame.exact; /* of a return address, the call before it */
    struct copy_code code = {0};

    w->frame.fp = w->frame.guessed = false;
    w->ops->code(w->userdata, at, &code);
    switch (code.kind) {
    case COPY_CODE_FILE:
        return walk_in_file(w, &code, at, ret_end);
    case COPY_CODE_MADE:
        return walk_by_frame_pointer(w, ret_end);
    default:
        *ret_end = COPY_END_NO_CODE;
        return 0;
    }
}

/* False: no machine of ours, or neither pc nor sp are known. */
static bool walk_init(struct walk *w)
{
    for (size_t i = 0; i < sizeof(machines) / sizeof(machines[0]); i++)
        if (machines[i].machine == w->stack->machine)
            w->machine = &machines[i];
    if (!w->machine)
        return false;
    memcpy(w->registers.value, w->stack->registers, sizeof(w->registers.value));
    w->registers.known = w->stack->known & ((1ull << w->machine->n) - 1);
    uint64_t needed = 1ull << w->machine->pc | 1ull << w->machine->sp;
    w->frame = (struct copy_frame){.pc = walk_pc(w), .exact = true};
    return (w->registers.known & needed) == needed;
}

enum copy_end copy_unwind(const struct copy_stack *stack, const struct copy_ops *ops, void *userdata, uint64_t deadline_ns,
                          struct copy_frame *frames, size_t room, size_t *ret_n)
{
    struct walk w = {.stack = stack, .ops = ops, .userdata = userdata};
    enum copy_end end = COPY_END_UNSUPPORTED;
    bool more = walk_init(&w);
    size_t n = 0;

    frames[n++] = w.frame;
    while (more) {
        if (monotonic_ns() >= deadline_ns) {
            end = COPY_END_NO_TIME;
            break;
        }
        w.signal = false;
        more = walk_step(&w, &end);
        frames[n - 1].exact |= w.signal; /* its return address was made up by the kernel: no call stands before it */
        if (!more)
            break;
        if (n == room) {
            end = COPY_END_TOO_DEEP;
            break;
        }
        frames[n++] = w.frame;
    }
    *ret_n = n;
    return end;
}
