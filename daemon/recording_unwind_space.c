/* From what a recording knows of its target's mappings and tables to the space that the BPF programs search. Owns nothing: the place of the
 * newest space is the recording's. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bpf/unwind.h"
#include "bpf/unwind_arena.h"
#include "daemon/recording_impl.h"
#include "daemon/server.h"
#include "daemon/unwind_space.h"
#include "util/cleanup.h"

enum unwind_why recording_use_why(const struct recording_use *use)
{
    if (use->why || !use->entry)
        return use->why;
    return use->entry->state == UNWIND_NONE ? use->entry->why : 0;
}

static void use_show(const struct recording_use *use, uint32_t *ret_kind, uint32_t *ret_place)
{
    enum unwind_why why = recording_use_why(use);

    *ret_place = 0;
    if (why) {
        *ret_kind = why == UNWIND_WHY_NOT_ELF ? UNWIND_MAPPING_ANONYMOUS : UNWIND_MAPPING_NO_CFI;
    } else if (use->entry->state == UNWIND_READY) {
        *ret_kind = UNWIND_MAPPING_TABLE;
        *ret_place = use->entry->place;
    } else {
        *ret_kind = UNWIND_MAPPING_PENDING;
    }
}

void recording_unwind_publish(struct recording *rec)
{
    const struct recording_unwind *u = &rec->unwind;
    uint64_t space = u->place && !u->labels_alone ? UNWIND_SPACE(u->place, u->place_epoch) : 0;

    if (!rec->recorder)
        return;
    recording_labels_publish(u, recording_ctl(rec));
    __atomic_store_n(&recording_ctl(rec)->listed_vm, u->listed_vm, __ATOMIC_RELEASE);
    __atomic_store_n(&recording_ctl(rec)->space, space, __ATOMIC_RELEASE);
}

void recording_unwind_set_place(struct recording *rec, uint32_t place)
{
    struct recording_unwind *u = &rec->unwind;
    uint32_t old = u->place;

    u->place = place;
    u->place_epoch = u->exec_epoch;
    recording_unwind_publish(rec);
    unwind_space_put(unwind_tables_arena(rec->server->tables), old);
    unwind_tables_tidy(rec->server->tables);
    while (u->n_held > 0)
        unwind_tables_drop(rec->server->tables, u->held[--u->n_held]);
    free(TAKE_PTR(u->held));
}

/* The kernel's own code: no file has it, and no frame pointers keep it. */
static bool name_is_kernel(const char *name)
{
    return strcmp(name, "[vsyscall]") == 0 || strcmp(name, "[uprobes]") == 0;
}

static const struct recording_use *use_of_mapping(const struct recording_unwind *u, const struct raw_mapping *m)
{
    size_t index = m->object;

    if (m->object == RAW_NO_OBJECT) {
        if (strcmp(raw_profile_string(&u->list, m->name), "[vdso]") != 0)
            return NULL;
        index = u->list.n_objects;
    }
    return u->use_of[index] == RECORDING_UNWIND_NO_USE ? NULL : &u->uses[u->use_of[index]];
}

static bool is_replaced(const struct recording_unwind *u, const struct raw_mapping *m)
{
    for (unsigned i = 0; i < u->n_replaced; i++)
        if (m->start < u->replaced[i].end && u->replaced[i].start < m->end)
            return true;
    return false;
}

static struct unwind_mapping space_mapping(const struct recording_unwind *u, const struct raw_mapping *m)
{
    struct unwind_mapping r = {.start = m->start, .end = m->end, .offset = m->offset, .kind = UNWIND_MAPPING_ANONYMOUS};
    const struct recording_use *use = use_of_mapping(u, m);

    if (use)
        use_show(use, &r.kind, &r.table);
    else if (m->object != RAW_NO_OBJECT || name_is_kernel(raw_profile_string(&u->list, m->name)))
        r.kind = UNWIND_MAPPING_NO_CFI;
    if (r.kind != UNWIND_MAPPING_ANONYMOUS && is_replaced(u, m))
        r.kind = UNWIND_MAPPING_PENDING;
    return r;
}

/* JIT compilers reserve a range, and make it executable piece by piece while they run: what lies between two pieces, and is no file's, will be
 * code of theirs before anybody can tell us. */
#define JIT_RESERVED_BYTES (256ull << 20)

static bool mappings_are_one(const struct unwind_mapping *last, const struct unwind_mapping *next)
{
    return last->kind == UNWIND_MAPPING_ANONYMOUS && next->kind == UNWIND_MAPPING_ANONYMOUS &&
           next->start - last->end <= JIT_RESERVED_BYTES;
}

/* All mappings as a space has them: in order, none over another, and neighbours without a file as one. */
static size_t space_mappings(const struct recording_unwind *u, struct unwind_mapping *to)
{
    size_t n = 0;

    for (size_t i = 0; i < u->list.n_mappings; i++) {
        struct unwind_mapping m = space_mapping(u, &u->list.mappings[i]);
        struct unwind_mapping *last = n > 0 ? &to[n - 1] : NULL;
        if (last && m.start < last->end)
            continue;
        if (last && mappings_are_one(last, &m))
            last->end = m.end;
        else
            to[n++] = m;
    }
    return n;
}

int recording_unwind_write(struct recording *rec)
{
    struct recording_unwind *u = &rec->unwind;
    struct unwind_tables *tables = rec->server->tables;
    AUTO_FREE struct unwind_mapping *mappings = calloc(u->list.n_mappings + 1, sizeof(*mappings));
    AUTO_FREE struct unwind_entry **held = calloc(u->n_uses + 1, sizeof(struct unwind_entry *));
    uint32_t place;
    size_t cut, n_held = 0;

    if (!mappings || !held)
        return -ENOMEM;
    size_t n = space_mappings(u, mappings);
    int r = unwind_space_write(unwind_tables_arena(tables), mappings, n, &place, &cut);
    if (r == -ENOSPC) {
        size_t bytes = sizeof(struct unwind_space) + n * sizeof(*mappings) + UNWIND_CHUNK_BYTES;
        r = unwind_tables_make_room(tables, bytes);
        return r == -ENOSPC ? -ENOBUFS : r < 0 ? r : -ENOSPC;
    }
    if (r < 0)
        return r;
    if (cut + u->n_left_out > u->n_cut)
        u->n_cut = cut + u->n_left_out;
    for (size_t i = 0; i < u->n_uses; i++) {
        use_show(&u->uses[i], &u->uses[i].written_kind, &u->uses[i].written_place);
        if (u->uses[i].written_kind == UNWIND_MAPPING_TABLE)
            held[n_held++] = unwind_tables_use(tables, &u->uses[i].entry->id, false);
    }
    recording_labels_find(u);
    recording_unwind_set_place(rec, place);
    u->held = TAKE_PTR(held);
    u->n_held = n_held;
    return 0;
}

bool recording_unwind_is_due(const struct recording_unwind *u)
{
    bool due = u->due;

    for (size_t i = 0; i < u->n_uses && !due; i++) {
        uint32_t kind, place;
        use_show(&u->uses[i], &kind, &place);
        due = kind != u->uses[i].written_kind || place != u->uses[i].written_place;
    }
    return due;
}
