/* See shadow.h. Calls and returns are known by their instructions; everything else that moves the stack pointer drops the return
 * addresses it leaves behind. A stack is its mapping: programs that switch stacks give each one of its own. */
#include "tests/unwind/shadow.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <uthash.h>

#include "util/cleanup.h"

#define INSTRUCTION_MAX_BYTES 15

struct instruction_cache {
    uint64_t pc;
    struct instruction instruction;
    UT_hash_handle hh;
};

int shadow_init(struct shadow *shadow)
{
    *shadow = (struct shadow){0};
    return cs_open(CS_ARCH_X86, CS_MODE_64, &shadow->decoder) == CS_ERR_OK ? 0 : -ENOMEM;
}

void shadow_deinit(struct shadow *shadow)
{
    struct instruction_cache *entry, *next;

    HASH_ITER(hh, shadow->instructions, entry, next) {
        HASH_DEL(shadow->instructions, entry);
        free(entry);
    }
    for (size_t i = 0; i < shadow->n_parked; i++)
        free(shadow->parked[i].entries);
    free(shadow->parked);
    free(shadow->chain.entries);
    if (shadow->decoder)
        (void)cs_close(&shadow->decoder);
    *shadow = (struct shadow){0};
}

/* ---- instructions */

static uint8_t kind_of(unsigned id)
{
    switch (id) {
    case X86_INS_CALL:
    case X86_INS_LCALL:
        return INSTRUCTION_CALL;
    case X86_INS_RET:
    case X86_INS_RETF:
    case X86_INS_RETFQ:
        return INSTRUCTION_RET;
    case X86_INS_JMP:
    case X86_INS_LJMP:
        return INSTRUCTION_JUMP;
    case X86_INS_POP:
        return INSTRUCTION_POP;
    case X86_INS_SYSCALL:
        return INSTRUCTION_SYSTEM_CALL;
    default:
        return INSTRUCTION_PLAIN;
    }
}

static struct instruction decode(struct shadow *shadow, struct tracee *tracee, uint64_t pc)
{
    uint8_t code[INSTRUCTION_MAX_BYTES];
    size_t size = sizeof(code);
    struct instruction result = {0};
    cs_insn *found = NULL;

    while (size && tracee_read(tracee, code, size, pc))
        size--;
    if (cs_disasm(shadow->decoder, code, size, pc, 1, &found) == 1) {
        result.kind = kind_of(found->id);
        result.length = (uint8_t)found->size;
        cs_free(found, 1);
    }
    return result;
}

struct instruction shadow_decode(struct shadow *shadow, struct tracee *tracee, uint64_t pc)
{
    struct instruction_cache *entry;
    struct instruction instruction;

    HASH_FIND(hh, shadow->instructions, &pc, sizeof(pc), entry);
    if (entry)
        return entry->instruction;
    instruction = decode(shadow, tracee, pc);
    entry = malloc(sizeof(*entry));
    if (entry) {
        *entry = (struct instruction_cache){.pc = pc, .instruction = instruction};
        HASH_ADD(hh, shadow->instructions, pc, sizeof(pc), entry);
    }
    return instruction;
}

/* ---- chains */

static int push(struct shadow_chain *chain, struct shadow_entry entry)
{
    if (chain->n == chain->size) {
        size_t size = chain->size ? 2 * chain->size : 256;
        struct shadow_entry *entries = reallocarray(chain->entries, size, sizeof(*entries));

        if (!entries)
            return -ENOMEM;
        chain->entries = entries;
        chain->size = size;
    }
    entry.stack = chain->stack;
    chain->entries[chain->n++] = entry;
    return 0;
}

/* Drops what lies below `lowest` on the current stack. */
static void trim(struct shadow_chain *chain, uint64_t lowest)
{
    while (chain->n && chain->entries[chain->n - 1].stack == chain->stack && chain->entries[chain->n - 1].slot < lowest)
        chain->n--;
}

static int locate(struct shadow_chain *chain, struct tracee *tracee, uint64_t sp)
{
    const struct tracee_map *map = tracee_map_at(tracee, sp);

    if (!map)
        return -EFAULT;
    chain->stack_start = map->start;
    chain->stack = map->end;
    return 0;
}

int shadow_begin(struct shadow *shadow, struct tracee *tracee)
{
    shadow->chain.n = 0;
    shadow->chain.bottom = SHADOW_ROOT;
    shadow->chain.fresh = false;
    return locate(&shadow->chain, tracee, tracee->regs.rsp);
}

int shadow_begin_with(struct shadow *shadow, struct tracee *tracee, const uint64_t *callers, const uint64_t *stack_pointers, size_t n)
{
    int r = shadow_begin(shadow, tracee);

    for (size_t i = n; i-- && !r;) {
        struct shadow_entry entry = {.slot = stack_pointers[i] - sizeof(uint64_t), .address = callers[i]};

        r = push(&shadow->chain, entry);
    }
    return r;
}

static int push_top_word(struct shadow *shadow, struct tracee *tracee)
{
    struct shadow_entry entry = {.slot = tracee->regs.rsp};

    if (tracee_read(tracee, &entry.address, sizeof(entry.address), entry.slot))
        return -EFAULT;
    return push(&shadow->chain, entry);
}

int shadow_called(struct shadow *shadow, struct tracee *tracee)
{
    trim(&shadow->chain, tracee->regs.rsp + 1);
    return push_top_word(shadow, tracee);
}

int shadow_copy(const struct shadow_chain *from, struct shadow_chain *ret_to)
{
    struct shadow_entry *entries = NULL;

    if (from->n) {
        entries = reallocarray(NULL, from->n, sizeof(*entries));
        if (!entries)
            return -ENOMEM;
        memcpy(entries, from->entries, from->n * sizeof(*entries));
    }
    free(ret_to->entries);
    *ret_to = *from;
    ret_to->entries = entries;
    ret_to->size = from->n;
    return 0;
}

/* ---- stack switches */

/* A handler on a stack of its own that left by a jump: what it interrupted is below it in the same chain. */
static bool leave_signal_stack(struct shadow_chain *chain, const struct shadow_chain *to)
{
    size_t i = chain->n;

    while (i && chain->entries[i - 1].stack != to->stack)
        i--;
    if (i == 0)
        return false;
    chain->n = i;
    chain->stack_start = to->stack_start;
    chain->stack = to->stack;
    return true;
}

static int park(struct shadow *shadow)
{
    struct shadow_chain *parked = reallocarray(shadow->parked, shadow->n_parked + 1, sizeof(*parked));

    if (!parked)
        return -ENOMEM;
    shadow->parked = parked;
    shadow->parked[shadow->n_parked++] = shadow->chain;
    shadow->chain = (struct shadow_chain){0};
    return 0;
}

/* The stack pointer lies in another mapping: a stack that was seen before goes on, any other begins. */
static int switch_stack(struct shadow *shadow, struct tracee *tracee)
{
    struct shadow_chain to = {.fresh = true, .bottom = SHADOW_UNKNOWN};
    int r;

    /* In no mapping: a large frame, of a stack that grows once it is touched. */
    if (locate(&to, tracee, tracee->regs.rsp))
        return 0;
    if (to.stack == shadow->chain.stack) {
        shadow->chain.stack_start = to.stack_start; /* it grew */
        return 0;
    }
    if (leave_signal_stack(&shadow->chain, &to))
        return 0;
    r = park(shadow);
    if (r)
        return r;
    for (size_t i = 0; i < shadow->n_parked; i++) {
        if (shadow->parked[i].stack == to.stack) {
            shadow->chain = shadow->parked[i];
            shadow->parked[i] = shadow->parked[--shadow->n_parked];
            return 0;
        }
    }
    shadow->chain = to;
    return 0;
}

/* A stack that is begun by a jump: above it lies a return address, if it has one. */
static int begin_fresh_stack(struct shadow *shadow, struct tracee *tracee)
{
    uint64_t address = 0;
    const struct tracee_map *map;

    shadow->chain.fresh = false;
    shadow->chain.bottom = SHADOW_NOTHING;
    if (tracee_read(tracee, &address, sizeof(address), tracee->regs.rsp))
        return 0;
    map = tracee_map_at(tracee, address);
    return map && map->executable ? push_top_word(shadow, tracee) : 0;
}

/* ---- signals */

/* On x86-64 a handler begins with sp at struct rt_sigframe: the restorer's address, then the ucontext. */
struct signal_frame {
    uint64_t restorer;
    ucontext_t context;
};

#define SIGNAL_CONTEXT_RIP (offsetof(ucontext_t, uc_mcontext.gregs) + REG_RIP * sizeof(greg_t))

/* True: the step that passed a signal began its handler. */
static bool was_delivered(struct tracee *tracee, const struct user_regs_struct *before, struct signal_frame *ret_frame)
{
    /* The whole ucontext_t of libc is larger than the kernel's. */
    size_t size = offsetof(struct signal_frame, context.uc_mcontext.fpregs);

    if (tracee_read(tracee, ret_frame, size, tracee->regs.rsp))
        return false;
    return (uint64_t)ret_frame->context.uc_mcontext.gregs[REG_RSP] == before->rsp && ret_frame->restorer &&
           tracee->regs.rdx == tracee->regs.rsp + offsetof(struct signal_frame, context);
}

static int push_signal(struct shadow *shadow, struct tracee *tracee, const struct signal_frame *frame)
{
    struct shadow_entry interrupted = {
        .slot = tracee->regs.rsp + offsetof(struct signal_frame, context),
        .address = (uint64_t)frame->context.uc_mcontext.gregs[REG_RIP],
        .interrupted = true,
    };
    int r = locate(&shadow->chain, tracee, tracee->regs.rsp);

    if (!r)
        r = push(&shadow->chain, interrupted);
    return r ? r : push_top_word(shadow, tracee);
}

static int return_from_signal(struct shadow *shadow, struct tracee *tracee)
{
    struct shadow_chain *chain = &shadow->chain;

    while (chain->n && !chain->entries[chain->n - 1].interrupted)
        chain->n--;
    if (chain->n)
        chain->n--;
    return locate(chain, tracee, tracee->regs.rsp);
}

/* ---- one step */

static int after_call(struct shadow *shadow, const struct user_regs_struct *before, struct instruction instruction, uint64_t sp)
{
    struct shadow_entry entry = {.slot = sp, .address = before->rip + instruction.length};

    shadow->chain.fresh = false;
    trim(&shadow->chain, sp + 1);
    return push(&shadow->chain, entry);
}

/* A jump to what was popped is a return; so is one that longjmp ends with, whose stack pointer has passed the slots by then. */
static void after_jump(struct shadow_chain *chain, const struct user_regs_struct *now)
{
    const struct shadow_entry *top = chain->n ? &chain->entries[chain->n - 1] : NULL;

    if (top && top->slot + sizeof(uint64_t) == now->rsp && top->address == now->rip)
        trim(chain, now->rsp);
}

int shadow_step(struct shadow *shadow, struct tracee *tracee, const struct user_regs_struct *before, struct instruction instruction)
{
    const struct user_regs_struct *now = &tracee->regs;
    struct signal_frame frame;
    int r = 0;

    if (tracee->delivered && was_delivered(tracee, before, &frame))
        return push_signal(shadow, tracee, &frame);
    if (instruction.kind == INSTRUCTION_SYSTEM_CALL && before->rax == SYS_rt_sigreturn)
        return return_from_signal(shadow, tracee);
    if (now->rsp < shadow->chain.stack_start || now->rsp >= shadow->chain.stack)
        r = switch_stack(shadow, tracee);
    if (r)
        return r;
    if (instruction.kind == INSTRUCTION_CALL)
        return after_call(shadow, before, instruction, now->rsp);
    if (instruction.kind == INSTRUCTION_JUMP)
        after_jump(&shadow->chain, now);
    /* A return address that a pop took is in a register, and may be pushed again (vfork): its slot is kept for the time. */
    trim(&shadow->chain, instruction.kind == INSTRUCTION_POP || now->rsp == before->rsp ? now->rsp - sizeof(uint64_t) : now->rsp);
    if (shadow->chain.fresh && (instruction.kind == INSTRUCTION_RET || instruction.kind == INSTRUCTION_JUMP))
        return begin_fresh_stack(shadow, tracee);
    return 0;
}

/* A return address that was popped may be in a register only. */
static bool is_live(const struct shadow_chain *chain, const struct shadow_entry *entry, uint64_t sp)
{
    return entry->stack != chain->stack || entry->slot >= sp;
}

size_t shadow_frames(struct shadow *shadow, struct tracee *tracee, uint64_t *frames, bool *interrupted, size_t size, bool *ret_settled)
{
    const struct shadow_chain *chain = &shadow->chain;

    *ret_settled = !chain->fresh;
    for (size_t i = 0; i < chain->n + 1 && i < size; i++) {
        const struct shadow_entry *entry = i ? &chain->entries[chain->n - i] : NULL;
        uint64_t word = 0;

        frames[i] = entry ? entry->address : tracee->regs.rip;
        interrupted[i] = !entry || entry->interrupted;
        /* A handler may have changed where it returns to. */
        if (entry && entry->interrupted && !tracee_read(tracee, &word, sizeof(word), entry->slot + SIGNAL_CONTEXT_RIP))
            frames[i] = word;
        if (entry && !entry->interrupted && is_live(chain, entry, tracee->regs.rsp) &&
            (tracee_read(tracee, &word, sizeof(word), entry->slot) || word != entry->address))
            *ret_settled = false;
    }
    return chain->n + 1;
}
