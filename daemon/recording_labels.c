/* From what workers found in a target's files to where its threads have their labels (include/cprofd/labels.h). Owns nothing.
 *
 * Nothing is read of the target here: where a loader decides, the BPF programs are told where it writes what it decided. */
#include <string.h>

#include "bpf/control.h"
#include "daemon/recording_unwind.h"

#define MAX_THREAD_OFFSET (1ll << 30)

/* The place in a mapping of a file's code, as the programs have it; 0: there is none. Workers are not believed. */
static uint64_t place_word(const struct label_place *place, const struct raw_mapping *m)
{
    uint64_t slot = m->start - m->offset + place->slot_offset;

    if (place->slot_address == 0) {
        bool sane = place->thread_offset >= -MAX_THREAD_OFFSET && place->thread_offset <= MAX_THREAD_OFFSET;
        return m->main_binary && sane ? LABELS_PLACE_OFFSET | (uint32_t)place->thread_offset : 0;
    }
    if (place->code_offset < m->offset || place->code_offset - m->offset >= m->end - m->start || slot >= 1ull << 56)
        return 0;
    return LABELS_PLACE_SLOT | slot;
}

static void labels_add(struct recording_unwind *u, uint64_t word)
{
    for (unsigned i = 0; i < u->n_labels; i++)
        if (u->labels[i] == word)
            return;
    if (u->n_labels == LABELS_PLACES)
        u->n_labels_left_out++;
    else
        u->labels[u->n_labels++] = word;
}

void recording_labels_find(struct recording_unwind *u)
{
    memset(u->labels, 0, sizeof(u->labels));
    u->n_labels = 0;
    u->n_labels_left_out = 0;
    for (size_t i = 0; i < u->list.n_mappings; i++) {
        const struct raw_mapping *m = &u->list.mappings[i];
        uint32_t use = m->object == RAW_NO_OBJECT ? RECORDING_UNWIND_NO_USE : u->use_of[m->object];
        if (use == RECORDING_UNWIND_NO_USE || !u->uses[use].entry || !u->uses[use].entry->has_labels)
            continue;
        uint64_t word = place_word(&u->uses[use].entry->labels, m);
        if (word)
            labels_add(u, word);
    }
    if (u->n_labels > u->n_labels_most)
        u->n_labels_most = u->n_labels;
}

void recording_labels_publish(const struct recording_unwind *u, struct session_ctl *ctl)
{
    struct session_labels *to = &ctl->labels;

    if (to->exec_epoch != u->place_epoch) {
        for (size_t i = 0; i < LABELS_PLACES; i++)
            __atomic_store_n(&to->places[i], 0, __ATOMIC_RELEASE);
        __atomic_store_n(&to->exec_epoch, u->place_epoch, __ATOMIC_RELEASE);
    }
    for (size_t i = 0; i < LABELS_PLACES; i++)
        __atomic_store_n(&to->places[i], u->place ? u->labels[i] : 0, __ATOMIC_RELEASE);
    __atomic_store_n(&to->known_epoch, u->place ? u->known_epoch : 0, __ATOMIC_RELEASE);
}
