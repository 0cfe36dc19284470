/* From what workers found in a target's files to where its threads have their labels (include/cprofd/labels.h). Owns nothing.
 *
 * Nothing is read of the target here: where a loader decides, the BPF programs are told where it writes what it decided. */
#include <string.h>

#include "bpf/control.h"
#include "daemon/recording_impl.h"

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

static bool labels_have(const uint64_t *words, unsigned n, uint64_t word)
{
    for (unsigned i = 0; i < n; i++)
        if (words[i] == word)
            return true;
    return false;
}

static void labels_add(struct recording_unwind *u, uint64_t word, uint64_t *left_out)
{
    if (labels_have(u->labels, u->n_labels, word))
        return;
    if (u->n_labels == LABELS_PLACES)
        (*left_out)++;
    else
        u->labels[u->n_labels++] = word;
}

void recording_labels_find(struct recording_unwind *u)
{
    uint64_t before[LABELS_PLACES], left_out = 0;
    unsigned n_before = u->n_labels;

    memcpy(before, u->labels, sizeof(before));
    memset(u->labels, 0, sizeof(u->labels));
    u->n_labels = 0;
    for (size_t i = 0; i < u->list.n_mappings; i++) {
        const struct raw_mapping *m = &u->list.mappings[i];
        uint32_t use = m->object == RAW_NO_OBJECT ? RECORDING_UNWIND_NO_USE : u->use_of[m->object];
        if (use == RECORDING_UNWIND_NO_USE || !u->uses[use].entry || !u->uses[use].entry->has_labels)
            continue;
        uint64_t word = place_word(&u->uses[use].entry->labels, m);
        if (word)
            labels_add(u, word, &left_out);
    }
    if (u->n_labels > u->n_labels_most)
        u->n_labels_most = u->n_labels;
    if (left_out > u->n_labels_left_out)
        u->n_labels_left_out = left_out;
    for (unsigned i = 0; u->opened && i < u->n_labels; i++)
        u->n_labels_late += !labels_have(before, n_before, u->labels[i]);
}

void recording_labels_withdraw(struct recording *rec)
{
    rec->unwind.known_epoch = 0;
    if (rec->recorder)
        __atomic_store_n(&recording_ctl(rec)->labels.known_epoch, 0, __ATOMIC_RELEASE);
}

void recording_labels_publish(const struct recording_unwind *u, struct session_ctl *ctl)
{
    struct session_labels *to = &ctl->labels;
    bool same = to->exec_epoch == u->place_epoch;

    for (size_t i = 0; same && i < LABELS_PLACES; i++)
        same = to->places[i] == (u->place ? u->labels[i] : 0);
    if (!same) /* while they are changed a sample may find some of either */
        __atomic_store_n(&to->known_epoch, 0, __ATOMIC_RELEASE);
    if (to->exec_epoch != u->place_epoch) {
        for (size_t i = 0; i < LABELS_PLACES; i++)
            __atomic_store_n(&to->places[i], 0, __ATOMIC_RELEASE);
        __atomic_store_n(&to->exec_epoch, u->place_epoch, __ATOMIC_RELEASE);
    }
    for (size_t i = 0; i < LABELS_PLACES; i++)
        __atomic_store_n(&to->places[i], u->place ? u->labels[i] : 0, __ATOMIC_RELEASE);
    __atomic_store_n(&to->known_epoch, u->place ? u->known_epoch : 0, __ATOMIC_RELEASE);
}

/* Whether nobody has looked into the file. */
static bool use_is_unread(const struct recording_use *use)
{
    switch (recording_use_why(use)) {
    case UNWIND_WHY_NOT_ELF:
    case UNWIND_WHY_NO_CFI:
    case UNWIND_WHY_MALFORMED:
    case UNWIND_WHY_TOO_LARGE:
        return false;
    case UNWIND_WHY_NO_ROOM:
        return use->why; /* else it was the table that found none */
    default:
        return recording_use_why(use) || !use->entry || use->entry->state != UNWIND_READY;
    }
}

int recording_labels_facts(const struct recording_unwind *u, struct raw_writer *w)
{
    uint64_t n_unread = u->n_left_out;
    int r = 0;

    for (size_t i = 0; i < u->n_uses; i++)
        n_unread += use_is_unread(&u->uses[i]);
    if (!u->observing)
        return raw_writer_fact(w, "labels.unknown", "unwind=copy reads none: threads may have labels");
    if (!u->labels_known)
        r = raw_writer_fact(w, "labels.unknown", "not all files of the process were read in time: its threads may have labels");
    if (n_unread)
        r = r ? r : raw_writer_fact(w, "labels.files_unread", "%llu: whether threads have labels in these is not known",
                                    (unsigned long long)n_unread);
    if (u->n_labels_most)
        r = r ? r : raw_writer_fact(w, "labels.places", "%u", u->n_labels_most);
    if (u->n_labels_late)
        r = r ? r : raw_writer_fact(w, "labels.places_late", "%llu: labels there were not read from the beginning",
                                    (unsigned long long)u->n_labels_late);
    if (u->n_labels_left_out)
        r = r ? r : raw_writer_fact(w, "labels.places_left_out", "%llu", (unsigned long long)u->n_labels_left_out);
    return r;
}
