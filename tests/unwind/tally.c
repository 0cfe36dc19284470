/* See tally.h. A program counter agrees where each stack that was compared there does. */
#include "tests/unwind/tally.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

struct tally_pc {
    uint64_t pc;
    char *object;
    bool agrees, seconded;
    enum tally_way way; /* the weakest of its stacks' */
    uint64_t key[2];
    UT_hash_handle hh;
};

struct tally_class {
    char *name; /* kind, object and function, each behind a NUL */
    uint64_t pcs, stacks;
    uint64_t example; /* an address of the culprit in its object */
    UT_hash_handle hh;
};

size_t tally_compare(const struct tally_stack *stack, const struct tally_truth *truth)
{
    size_t known = truth->n < CPROFD_MAX_FRAMES ? truth->n : CPROFD_MAX_FRAMES;
    size_t i = 0;

    while (i < known && i < stack->n && stack->frames[i] == truth->frames[i])
        i++;
    if (i < known || (truth->n <= CPROFD_MAX_FRAMES && stack->n > truth->n && !truth->open))
        return i;
    if (truth->n > CPROFD_MAX_FRAMES)
        return stack->rooted ? i : TALLY_AGREES; /* cut, or as deep as it is */
    return stack->rooted || !truth->whole ? TALLY_AGREES : i;
}

static uint64_t hash_name(const char *name)
{
    uint64_t hash = 14695981039346656037ull;

    for (; *name; name++)
        hash = (hash ^ (uint8_t)*name) * 1099511628211ull;
    return hash;
}

static struct tally_pc *pc_of(struct tally *tally, const struct tally_verdict *verdict)
{
    uint64_t key[2] = {verdict->object_pc, hash_name(verdict->object)};
    struct tally_pc *pc;

    HASH_FIND(hh, tally->pcs, key, sizeof(key), pc);
    if (pc)
        return pc;
    pc = calloc(1, sizeof(*pc));
    if (!pc)
        return NULL;
    pc->pc = verdict->object_pc;
    pc->object = strdup(verdict->object);
    pc->agrees = pc->seconded = true;
    memcpy(pc->key, key, sizeof(key));
    HASH_ADD(hh, tally->pcs, key, sizeof(pc->key), pc);
    return pc;
}

static struct tally_class *class_of(struct tally *tally, const struct tally_verdict *verdict)
{
    char name[512];
    int length = snprintf(name, sizeof(name), "%.60s%c%.100s%c%.300s", verdict->kind, 0, verdict->culprit_object, 0, verdict->culprit_function);
    size_t bytes = (size_t)length + 1;
    struct tally_class *class;

    HASH_FIND(hh, tally->classes, name, bytes, class);
    if (class)
        return class;
    class = calloc(1, sizeof(*class));
    if (!class)
        return NULL;
    class->name = malloc(bytes);
    if (!class->name) {
        free(class);
        return NULL;
    }
    memcpy(class->name, name, bytes);
    class->example = verdict->culprit_pc;
    HASH_ADD_KEYPTR(hh, tally->classes, class->name, bytes, class);
    return class;
}

int tally_add(struct tally *tally, const struct tally_verdict *verdict)
{
    struct tally_pc *pc = pc_of(tally, verdict);
    struct tally_class *class = NULL;

    if (!pc)
        return -ENOMEM;
    if (verdict->kind) {
        class = class_of(tally, verdict);
        if (!class)
            return -ENOMEM;
        class->stacks++;
        class->pcs += pc->agrees;
    }
    tally->stacks++;
    tally->stacks_agreed += !verdict->kind;
    pc->agrees &= !verdict->kind;
    pc->seconded &= !verdict->kind || verdict->seconded;
    if (verdict->way > pc->way)
        pc->way = verdict->way;
    return 0;
}

static void print_string(const char *text, FILE *to)
{
    (void)fputc('"', to);
    for (; *text; text++) {
        unsigned char byte = (unsigned char)*text;

        if (byte < ' ' || byte == '"' || byte == '\\' || byte > '~')
            (void)fprintf(to, "\\u%04x", byte);
        else
            (void)fputc(byte, to);
    }
    (void)fputc('"', to);
}

static void print_classes(const struct tally *tally, FILE *to)
{
    const char *separator = "";

    for (const struct tally_class *class = tally->classes; class; class = class->hh.next) {
        const char *object = class->name + strlen(class->name) + 1, *function = object + strlen(object) + 1;

        (void)fprintf(to, "%s{\"kind\": ", separator);
        print_string(class->name, to);
        (void)fprintf(to, ", \"object\": ");
        print_string(object, to);
        (void)fprintf(to, ", \"function\": ");
        print_string(function, to);
        (void)fprintf(to, ", \"pcs\": %lu, \"stacks\": %lu, \"example\": \"0x%lx\"}", class->pcs, class->stacks, class->example);
        separator = ", ";
    }
}

static void print_pcs(const struct tally *tally, FILE *to)
{
    static const char *const ways[TALLY_WAYS] = {"cfi", "frame pointer", "guess"};
    const char *separator = "";

    for (const struct tally_pc *pc = tally->pcs; pc; pc = pc->hh.next) {
        (void)fprintf(to, "%s[", separator);
        print_string(pc->object, to);
        (void)fprintf(to, ", %lu, \"%s\", %s]", pc->pc, ways[pc->way], pc->agrees ? "\"truth\"" : pc->seconded ? "\"other\"" : "\"no\"");
        separator = ", ";
    }
}

void tally_print_json(const struct tally *tally, FILE *to)
{
    (void)fprintf(to, "\"%s\": {\"stacks\": %lu, \"stacks_agreed\": %lu, \"pcs\": [", tally->name, tally->stacks, tally->stacks_agreed);
    print_pcs(tally, to);
    (void)fprintf(to, "], \"classes\": [");
    print_classes(tally, to);
    (void)fprintf(to, "]}");
}

void tally_deinit(struct tally *tally)
{
    struct tally_pc *pc, *next_pc;
    struct tally_class *class, *next_class;

    HASH_ITER(hh, tally->pcs, pc, next_pc) {
        HASH_DEL(tally->pcs, pc);
        free(pc->object);
        free(pc);
    }
    HASH_ITER(hh, tally->classes, class, next_class) {
        HASH_DEL(tally->classes, class);
        free(class->name);
        free(class);
    }
}
