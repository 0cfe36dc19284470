/* Copied stacks become walked ones: by the files that the target maps, each by its own unwind information. Owns the stacks that it
 * makes until the job's end. */
#include "daemon/render_job.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "symbolize/copy_unwind.h"
#include "util/clock.h"

/* Of a job, for all its copies. What is left over then keeps its innermost frame. */
#define COPIES_MAX_NS (10 * NSEC_PER_SEC)

struct copied_stack {
    struct copied_stack *next;
    struct stack_record record; /* its frames follow */
};

/* A step's question: what is mapped at an address. */
struct copy_walk {
    struct render_job *job;
    uint32_t epoch;
};

static void copy_find_code(void *userdata, uint64_t address, struct copy_code *ret)
{
    const struct copy_walk *w = userdata;
    struct render_job *job = w->job;
    uint32_t mapping = address_map_find(&job->map, address, w->epoch);

    if (mapping == ADDRESS_MAP_NONE)
        return;
    const struct raw_mapping *m = &job->raw->mappings[mapping];
    *ret = (struct copy_code){.kind = COPY_CODE_FILE, .file_offset = address - m->start + m->offset};
    if (m->object != RAW_NO_OBJECT) {
        ret->module = render_module(job, m->object);
        if (ret->module)
            render_touch(job, m->object);
        return;
    }
    const char *name = raw_profile_string(job->raw, m->name);
    ret->file_offset = address - m->start;
    if (strcmp(name, "[vdso]") == 0) /* the mapping is the file */
        ret->module = render_vdso(job);
    else if (name[0] != '[')
        ret->kind = COPY_CODE_MADE;
}

static enum stack_end end_of(enum copy_end end)
{
    static const enum stack_end ends[] = {
        [COPY_END_ROOT] = STACK_END_ROOT,               [COPY_END_ZERO] = STACK_END_UNPROVEN,
        [COPY_END_UNREADABLE] = STACK_END_UNREADABLE,   [COPY_END_TOO_DEEP] = STACK_END_TOO_DEEP,
        [COPY_END_NO_CODE] = STACK_END_NO_CODE,         [COPY_END_NO_CFI] = STACK_END_NO_CFI,
        [COPY_END_UNSUPPORTED] = STACK_END_UNSUPPORTED, [COPY_END_BAD_CFA] = STACK_END_BAD_CFA,
        [COPY_END_NO_TIME] = STACK_END_NO_TIME,
    };
    return ends[end];
}

static uint64_t flags_of(const struct copy_frame *frame)
{
    return (frame->exact ? STACK_FRAME_EXACT : 0) | (frame->guessed ? STACK_FRAME_GUESSED : 0) | (frame->fp ? STACK_FRAME_FP : 0);
}

/* The frames of a copy's user stack. Returns how many, at most CPROFD_MAX_FRAMES. */
static size_t copy_walk_user(struct render_job *job, const struct copy_record *copy, struct copy_frame *frames, enum stack_end *ret_end)
{
    static const struct copy_ops ops = {.code = copy_find_code};
    struct copy_walk walk = {job, copy->key.epoch};
    struct copy_stack stack = {.machine = copy->machine, .known = copy->known, .base = copy->stack_base,
                               .bytes = (const uint8_t *)(copy->data + copy->n_kernel), .len = copy->stack_bytes};
    size_t n = 0;

    _Static_assert(sizeof(stack.registers) == sizeof(copy->registers), "the same registers");
    memcpy(stack.registers, copy->registers, sizeof(stack.registers));
    if (copy->known == 0) {
        *ret_end = STACK_END_NO_USER;
        return 0;
    }
    if (job->copies_until_ns == 0)
        job->copies_until_ns = render_until_ns(job, COPIES_MAX_NS); /* without stacks there is nothing to reply */
    *ret_end = end_of(copy_unwind(&stack, &ops, &walk, job->copies_until_ns, frames, CPROFD_MAX_FRAMES, &n));
    return n;
}

int render_unwind_copy(struct render_job *job, const struct copy_record *copy, const struct stack_record **ret)
{
    struct copy_frame frames[CPROFD_MAX_FRAMES];
    enum stack_end end;
    size_t n = copy_walk_user(job, copy, frames, &end);

    if (job->renderer->cancelled)
        return -ECANCELED;
    struct copied_stack *stack = malloc(sizeof(*stack) + (copy->n_kernel + n) * sizeof(uint64_t));
    if (!stack)
        return -ENOMEM;
    stack->next = job->copied;
    stack->record = (struct stack_record){.type = RECORD_STACK, .n_kernel = copy->n_kernel, .n_user = (uint16_t)n, .end = end};
    memcpy(stack->record.frames, copy->data, copy->n_kernel * sizeof(uint64_t));
    for (size_t i = 0; i < n; i++)
        stack->record.frames[copy->n_kernel + i] = STACK_FRAME(frames[i].pc, flags_of(&frames[i]));
    job->copied = stack;
    *ret = &stack->record;
    return 0;
}

/* ---- checks of walks */

#define AUDIT_AGREES SIZE_MAX

/* The first user frame in which a walk and the copy of its stack differ. What the copy only guesses says nothing against a walk, and
 * neither does what it does not reach. */
static size_t audit_compare(const struct stack_record *walked, const struct stack_record *copied)
{
    const uint64_t *w = (const uint64_t *)walked->frames + walked->n_kernel, *c = (const uint64_t *)copied->frames;

    for (size_t i = 0; i < copied->n_user; i++) {
        if (c[i] & (STACK_FRAME_GUESSED | STACK_FRAME_FP))
            return AUDIT_AGREES;
        if (i == walked->n_user)
            return walked->end == STACK_END_ROOT ? i : AUDIT_AGREES; /* a walk that was cut short says so itself */
        if (STACK_FRAME_ADDRESS(w[i]) != STACK_FRAME_ADDRESS(c[i]))
            return i;
    }
    return walked->n_user > copied->n_user && copied->end == STACK_END_ROOT ? copied->n_user : AUDIT_AGREES;
}

int render_audit(struct render_job *job, const struct copy_record *copy, const struct stack_record *walked)
{
    const struct stack_record *copied;
    int r = render_unwind_copy(job, copy, &copied);
    if (r < 0 || copied->end == STACK_END_NO_TIME)
        return r;
    facts_count(&job->facts, "audited", 1);
    size_t at = audit_compare(walked, copied);
    if (at == AUDIT_AGREES) {
        facts_count(&job->facts, "agreed", 1);
        return 0;
    }
    struct audit_difference *grown = reallocarray(job->differences, job->n_differences + 1, sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    job->differences = grown;
    /* The step from the frame before is what went wrong. */
    job->differences[job->n_differences++] = (struct audit_difference){
        .sample = {.key = &copy->key, .value = &copy->value, .stack = walked, .n_user = walked->n_user, .end = (enum stack_end)walked->end},
        .frame = walked->n_kernel + (at > 0 && walked->n_user > 0 ? at - 1 : 0),
    };
    return 0;
}

void render_copies_deinit(struct render_job *job)
{
    free(job->differences);

    while (job->copied) {
        struct copied_stack *next = job->copied->next;
        free(job->copied);
        job->copied = next;
    }
}
