/* The rules are those that the kernel's programs walk running goroutines by (bpf/stack.h), as far as Go's own code has them: a walk never
 * leaves the goroutine's stack, and goes up it. */
#include "daemon/goroutine_walk.h"

#include <string.h>

#include "util/unwind_table.h"

#define X86_RBP 6
#define X86_RSP 7

/* A word of the stack. */
static bool read_word(struct goroutine_walk *w, uint64_t address, uint64_t *ret)
{
    if (address % GO_WORD_BYTES || address < w->low || address > w->high - GO_WORD_BYTES)
        return false;
    if (address < w->window_at || address - w->window_at + GO_WORD_BYTES > w->window_bytes) {
        size_t len = w->high - address < sizeof(w->window) ? w->high - address : sizeof(w->window);
        ssize_t n = w->source->read(w->source->userdata, address, w->window, len);
        w->window_at = address;
        w->window_bytes = n > 0 ? (size_t)n : 0;
        if (n < GO_WORD_BYTES)
            return false;
    }
    memcpy(ret, w->window + (address - w->window_at), sizeof(*ret));
    return true;
}

static bool is_in(const struct goroutine_walk *w, const struct go_range *range, uint64_t pc)
{
    uint64_t address = pc - w->source->bias;

    return address >= range->start && address < range->end;
}

static bool is_injected(const struct goroutine_walk *w)
{
    const struct go_runtime *r = w->source->runtime;

    for (uint32_t i = 0; i < r->n_injected; i++)
        if (is_in(w, &r->injected[i], w->pc))
            return true;
    return false;
}

static struct unwind_rule find_rule(const struct goroutine_walk *w)
{
    const struct go_runtime *r = w->source->runtime;
    uint64_t code = w->is_exact ? w->pc : w->pc - 1;

    if (!w->source->image)
        return (struct unwind_rule){.cfa = UNWIND_CFA_FRAME_POINTER};
    return unwind_image_find(w->source->image, code - w->source->bias - r->text + r->text_offset);
}

/* Where the caller's stack pointer was; 0: unknown, and *ret_end says why. */
static uint64_t find_cfa(const struct goroutine_walk *w, const struct unwind_rule *rule, enum stack_end *ret_end)
{
    switch (UNWIND_CFA_KIND(rule->cfa)) {
    case UNWIND_CFA_REGISTER:
        if (UNWIND_CFA_REG(rule->cfa) == X86_RSP)
            return w->sp + (uint64_t)(int64_t)rule->cfa_offset;
        if (UNWIND_CFA_REG(rule->cfa) == X86_RBP)
            return w->bp + (uint64_t)(int64_t)rule->cfa_offset;
        break;
    case UNWIND_CFA_FRAME_POINTER:
        return w->bp + 2 * GO_WORD_BYTES;
    case UNWIND_CFA_ROOT:
        *ret_end = STACK_END_ROOT;
        return 0;
    case UNWIND_CFA_NONE:
        *ret_end = STACK_END_NO_CFI;
        return 0;
    }
    *ret_end = STACK_END_UNSUPPORTED;
    return 0;
}

/* Goes on with the caller. False at the end, which is in the record then. */
static bool step(struct goroutine_walk *w)
{
    enum stack_end end = STACK_END_UNSUPPORTED;
    struct unwind_rule rule = find_rule(w);
    uint64_t cfa = find_cfa(w, &rule, &end), caller;
    bool keeps_bp = UNWIND_SAVED_FP(rule.saved) == UNWIND_FP_CFA || UNWIND_CFA_KIND(rule.cfa) == UNWIND_CFA_FRAME_POINTER;

    if (cfa == 0) {
        w->record.end = end;
        return false;
    }
    if (cfa <= w->sp || cfa > w->high || cfa - w->low < GO_WORD_BYTES) {
        w->record.end = STACK_END_BAD_CFA;
        return false;
    }
    uint64_t saved_at = rule.saved ? cfa + (uint64_t)(8 * (int64_t)rule.saved_offset) : cfa - 2 * GO_WORD_BYTES;
    if (!read_word(w, cfa - GO_WORD_BYTES, &caller) || (keeps_bp && !read_word(w, saved_at, &w->bp))) {
        w->record.end = STACK_END_UNREADABLE;
        return false;
    }
    w->is_exact = is_injected(w);
    w->pc = caller;
    w->sp = cfa;
    return true;
}

/* The first frame's address is a return address too, unless its function has not begun: Go's own profiles look for its line before it. */
static void add_frame(struct goroutine_walk *w)
{
    if (w->record.n_user == CPROFD_MAX_FRAMES) {
        w->record.end = STACK_END_TOO_DEEP;
        return;
    }
    bool is_first = w->record.n_user == 0;
    uint64_t pc = is_first && !w->is_exact ? w->pc - 1 : w->pc, flags = is_first || w->is_exact ? STACK_FRAME_EXACT : 0;
    w->frames[w->record.n_user++] = STACK_FRAME(pc, flags);
}

void goroutine_walk(struct goroutine_walk *w)
{
    w->record = (struct stack_record){.type = RECORD_STACK, .end = STACK_END_COUNT};
    w->window_bytes = 0;
    if (w->sp < w->low || w->sp >= w->high)
        w->record.end = STACK_END_BAD_CFA;
    while (w->record.end == STACK_END_COUNT) {
        if (w->record.n_user > 0 && is_in(w, &w->source->runtime->goexit, w->pc)) {
            w->record.end = STACK_END_ROOT;
            return;
        }
        if (w->pc >> 56 || w->pc < 4096) {
            w->record.end = w->record.n_user ? STACK_END_NO_CODE : STACK_END_UNREADABLE;
            return;
        }
        add_frame(w);
        if (w->record.end == STACK_END_COUNT && !step(w))
            return;
    }
}

size_t goroutine_walk_bytes(const struct goroutine_walk *w)
{
    return sizeof(w->record) + w->record.n_user * sizeof(w->frames[0]);
}
