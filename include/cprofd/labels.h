/* Labels of threads, in the manner of Go's pprof.Do: what a thread does for whom ("request" = "/buy", "tenant" = "7"), as pairs of text that
 * stand in every sample taken of it meanwhile, so that `go tool pprof -tagfocus=request=/buy` shows what these requests cost. cprofd reads them from
 * outside, without stopping the thread; there is no library to link.
 *
 *     void serve(struct request *request)
 *     {
 *         CPROFD_LABEL(request_label, "request", request->path);   // until the block ends, however it is left
 *         ...
 *     }
 *
 * Labels nest: an inner block has the labels of those around it, and its own; the inner one of two with the same key counts. They belong to the
 * thread. What another thread is to inherit is handed over by hand, since nothing here stands between the program and its thread library:
 *
 *     struct cprofd_labels labels;                                   // in the thread that has them
 *     cprofd_labels_copy(&labels);
 *     ...                                                            // labels goes with the work: to a new thread, or a pool's queue
 *     CPROFD_LABELS_OF(work_labels, &work->labels);                  // in the thread that does it, until the block ends
 *
 * cprofd_pthread_create, with CPROFD_LABELS_PTHREAD defined before this header is included, does that for a new thread.
 *
 * A label costs the copying of the set it is added to (tens of ns), and 656 bytes of stack. Nothing is allocated or locked. Blocks may
 * stand in signal handlers, and may be left by return, break, goto, a C++ exception, and where the C code is built with -fexceptions by
 * pthread_exit or cancellation; not by longjmp out of it, which leaves the thread with labels that are no longer there.
 *
 * Limits. Of a key and its value 253 bytes together are kept, the value being cut first (at a character's beginning), and of all pairs
 * 612 bytes with 3 for each and 4 in all: a label for which there is no room is left out. The set says how many were cut and left out.
 *
 * C (gnu99 and later) and C++ (11 and later), by gcc or clang, on any machine with ELF thread-local storage. The variable below is in each
 * executable and shared object that includes this header (one that exports its own, as an executable linked with -rdynamic does, lends it to
 * the others): objects that do not share it have each their own labels. In C libraries without room for it (musl), an object that includes
 * this header can't be loaded by dlopen.
 *
 * What readers need to know. The variable cprofd_thread_labels_v1 (struct cprofd_thread_labels, thread-local, by initial-exec, so its offset
 * from the thread pointer is the same in all threads) points to the set, or to nothing. Where it is: in a shared object, what the loader wrote
 * where the relocation of that symbol's offset (R_X86_64_TPOFF64, R_AARCH64_TLS_TPREL64) says; in an executable, the symbol's value, and on
 * x86-64 (so that stripped ones have it too) a note in .note.cprofd: owner "cprofd", type 3, its descriptor the 8-byte offset in the
 * file's PT_TLS.
 *
 * A set is a Thread Context record of OpenTelemetry (OTEP 4947, "otel_thread_ctx_v1"), so one reader may serve for both, with this
 * difference: the keys are in the record itself, since no index of keys is published, which a reader would have to find in time. Each entry
 * of its attributes is
 *     uint8 kind, uint8 bytes, bytes[]: kind 255: a label: key, NUL, value; 254: two bytes: how many labels were cut, and left out (to 255).
 * A set does not change while it is pointed to. Its memory is used for other things afterwards, so a reader that does not interrupt the
 * thread reads `changes`, the pointer, the set, and `changes` again, until both are the same and even: each change of the pointer is counted
 * before and after.
 */
#ifndef CPROFD_LABELS_H
#define CPROFD_LABELS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define CPROFD_LABELS_MAX_BYTES 612
#define CPROFD_NOTE_LABELS 3
#define CPROFD_LABEL_PAIR 255
#define CPROFD_LABEL_LOST 254

/* The layout of OpenTelemetry's record: 640 bytes. May be copied, and kept anywhere; it has no pointers. */
struct cprofd_labels {
    uint8_t trace_id[16]; /* zero: none */
    uint8_t span_id[8];
    uint8_t valid; /* 1 */
    uint8_t trace_flags;
    uint16_t bytes; /* of entries that are used */
    uint8_t entries[CPROFD_LABELS_MAX_BYTES];
};

struct cprofd_thread_labels {
    const struct cprofd_labels *current;
    uintptr_t changes; /* even: none is under way */
};

/* A block's own set, and the one to go back to. */
struct cprofd_label_scope {
    const struct cprofd_labels *before;
    struct cprofd_labels labels;
};

#ifdef __cplusplus
extern "C" {
#endif
__attribute__((weak, used, visibility("default"), tls_model("initial-exec"))) __thread struct cprofd_thread_labels cprofd_thread_labels_v1;
#ifdef __cplusplus
}
#endif

#if defined(__x86_64__) && defined(__LP64__)
__asm__(".pushsection .note.cprofd,\"a\",\"note\"\n"
        ".balign 4\n"
        ".4byte 7, 8, 3\n"
        ".asciz \"cprofd\"\n"
        ".balign 4\n"
        ".8byte cprofd_thread_labels_v1@dtpoff\n"
        ".popsection\n");
#endif

static inline void cprofd_labels_publish(const struct cprofd_labels *labels)
{
    uintptr_t changes = cprofd_thread_labels_v1.changes;
    __atomic_store_n(&cprofd_thread_labels_v1.changes, changes + 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE); /* who sees the new pointer sees that it was being changed */
    __atomic_store_n(&cprofd_thread_labels_v1.current, labels, __ATOMIC_RELEASE);
    __atomic_store_n(&cprofd_thread_labels_v1.changes, changes + 2, __ATOMIC_RELEASE);
    __atomic_thread_fence(__ATOMIC_RELEASE); /* what overwrites the set before comes later */
}

/* The labels that the thread has now, to hand over to another. */
static inline void cprofd_labels_copy(struct cprofd_labels *ret)
{
    const struct cprofd_labels *current = cprofd_thread_labels_v1.current;
    uint16_t bytes = current ? current->bytes : (uint16_t)0;
    memset(ret, 0, offsetof(struct cprofd_labels, entries));
    ret->valid = 1;
    ret->bytes = bytes;
    if (current)
        memcpy(ret->entries, current->entries, bytes);
}

/* Counts a label that was cut (0) or left out (1), in the entry that is there for it or in a new one. */
static inline void cprofd_labels_lose(struct cprofd_labels *labels, size_t left_out)
{
    size_t at = 0;
    while (at < labels->bytes && labels->entries[at] != CPROFD_LABEL_LOST)
        at += 2u + labels->entries[at + 1];
    if (at >= labels->bytes) {
        labels->entries[at] = CPROFD_LABEL_LOST; /* cprofd_labels_add keeps room for it */
        labels->entries[at + 1] = 2;
        labels->entries[at + 2] = labels->entries[at + 3] = 0;
        labels->bytes = (uint16_t)(at + 4);
    }
    if (labels->entries[at + 2 + left_out] < 255)
        labels->entries[at + 2 + left_out]++;
}

/* Takes out the label of that key, if there is one. */
static inline void cprofd_labels_remove(struct cprofd_labels *labels, const char *key, size_t key_bytes)
{
    size_t at = 0;
    while (at < labels->bytes) {
        size_t n = 2u + labels->entries[at + 1];
        const uint8_t *entry = labels->entries + at;
        if (entry[0] == CPROFD_LABEL_PAIR && n - 2 > key_bytes && memcmp(entry + 2, key, key_bytes) == 0 && entry[2 + key_bytes] == 0) {
            memmove(labels->entries + at, entry + n, labels->bytes - at - n);
            labels->bytes = (uint16_t)(labels->bytes - n);
            return;
        }
        at += n;
    }
}

static inline void cprofd_labels_add(struct cprofd_labels *labels, const char *key, const char *value)
{
    size_t key_bytes = strlen(key), value_bytes = strlen(value), at;
    int cut = 0;
    if (key_bytes > 253) {
        cprofd_labels_lose(labels, 1);
        return;
    }
    if (key_bytes + value_bytes > 253) {
        value_bytes = 253 - key_bytes;
        while (value_bytes > 0 && ((unsigned char)value[value_bytes] & 0xc0) == 0x80)
            value_bytes--;
        cut = 1;
    }
    cprofd_labels_remove(labels, key, key_bytes);
    at = labels->bytes;
    if (at + 3 + key_bytes + value_bytes + 4 > CPROFD_LABELS_MAX_BYTES) {
        cprofd_labels_lose(labels, 1);
        return;
    }
    labels->entries[at] = CPROFD_LABEL_PAIR;
    labels->entries[at + 1] = (uint8_t)(key_bytes + 1 + value_bytes);
    memcpy(labels->entries + at + 2, key, key_bytes);
    labels->entries[at + 2 + key_bytes] = 0;
    memcpy(labels->entries + at + 3 + key_bytes, value, value_bytes);
    labels->bytes = (uint16_t)(at + 3 + key_bytes + value_bytes);
    if (cut)
        cprofd_labels_lose(labels, 0);
}

static inline void cprofd_label_begin(struct cprofd_label_scope *scope, const char *key, const char *value)
{
    scope->before = cprofd_thread_labels_v1.current;
    cprofd_labels_copy(&scope->labels);
    cprofd_labels_add(&scope->labels, key, value);
    cprofd_labels_publish(&scope->labels);
}

static inline void cprofd_label_end(struct cprofd_label_scope *scope)
{
    cprofd_labels_publish(scope->before);
}

static inline void cprofd_labels_end_of(const struct cprofd_labels *const *before)
{
    cprofd_labels_publish(*before);
}

/* One label, until the end of the block that this declaration stands in. NAME is a name for it, not used otherwise. KEY and VALUE are strings, copied
 * at once. Several in one block are added one to the other. */
#define CPROFD_LABEL(name, key, value) \
    __attribute__((cleanup(cprofd_label_end), unused)) struct cprofd_label_scope name; \
    cprofd_label_begin(&name, key, value)

/* The same where a block is not what one wants: from BEGIN, which declares NAME, to END, in the same thread, the inner pair first. */
#define CPROFD_LABEL_BEGIN(name, key, value) \
    struct cprofd_label_scope name; \
    cprofd_label_begin(&name, key, value)
#define CPROFD_LABEL_END(name) cprofd_label_end(&name)

/* The labels of that copy (struct cprofd_labels *) instead of the thread's own, until the end of the block. The copy must not change meanwhile. */
#define CPROFD_LABELS_OF(name, copy) \
    __attribute__((cleanup(cprofd_labels_end_of), unused)) const struct cprofd_labels *const name = cprofd_thread_labels_v1.current; \
    cprofd_labels_publish(copy)

#ifdef CPROFD_LABELS_PTHREAD

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

struct cprofd_thread_start {
    struct cprofd_labels labels;
    void *(*start)(void *);
    void *argument;
};

static inline void *cprofd_thread_run(void *given)
{
    struct cprofd_thread_start begun = *(struct cprofd_thread_start *)given;
    free(given);
    CPROFD_LABELS_OF(inherited, &begun.labels);
    return begun.start(begun.argument);
}

/* pthread_create, of a thread that has the labels of the one that makes it, for as long as START runs. 0 or an error number, as there. */
static inline int cprofd_pthread_create(pthread_t *ret, const pthread_attr_t *attributes, void *(*start)(void *), void *argument)
{
    struct cprofd_thread_start *given = (struct cprofd_thread_start *)malloc(sizeof(*given));
    int error;
    if (!given)
        return EAGAIN;
    cprofd_labels_copy(&given->labels);
    given->start = start;
    given->argument = argument;
    error = pthread_create(ret, attributes, cprofd_thread_run, given);
    if (error)
        free(given);
    return error;
}

#endif

#endif
