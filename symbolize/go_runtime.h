/* What must be known of a Go program to read its goroutines from its memory: where its runtime lists them, and how it lays them out.
 * Layouts are known by release, since stripped programs have nothing else to tell; of a release that is not known, DWARF tells where a
 * goroutine's members are. Made by a worker of a file that somebody else wrote; who uses it believes none of it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GO_VERSION_BYTES 64
#define GO_WORD_BYTES 8u
/* Places in memory that the function which lists a new goroutine speaks of, where no symbol says which is which. */
#define GO_MAX_CANDIDATES 32
/* Functions that the runtime makes believe were called where a signal came: what is below them was at that very instruction. */
#define GO_MAX_INJECTED 4
/* The furthest a member of a goroutine may be in it. */
#define GO_G_MAX_BYTES 1024u
#define GO_M_MAX_BYTES 1024u

/* Where members are; of struct g, and of struct m. 0: it has none such. */
struct go_layout {
    uint16_t g_stack; /* lo, then hi */
    uint16_t g_m;
    uint16_t g_sched_sp, g_sched_pc, g_sched_bp;
    uint16_t g_syscallsp, g_syscallpc, g_syscallbp;
    uint16_t g_status, g_goid, g_waitsince, g_waitreason;
    uint16_t g_lockedm, g_parent, g_gopc, g_startpc, g_labels;
    uint16_t m_procid;
};

/* What a goroutine's status says (src/runtime/runtime2.go). */
enum go_status {
    GO_IDLE = 0, GO_RUNNABLE = 1, GO_RUNNING = 2, GO_IN_SYSCALL = 3, GO_WAITING = 4, GO_DEAD = 6, GO_COPYING_STACK = 8, GO_PREEMPTED = 9,
    GO_LEAKED = 10, GO_DEAD_EXTRA = 11,
};

enum go_labels { GO_LABELS_UNKNOWN, GO_LABELS_MAP, GO_LABELS_LIST };

/* Functions of the runtime by which goroutines go to wait and come back: gopark, ready, semacquire1. */
#define GO_PROBES 3

struct go_range {
    uint64_t start, end;
};

/* Addresses are those of the file. */
struct go_runtime {
    char version[GO_VERSION_BYTES]; /* "go1.26.8"; "": not said */
    struct go_layout layout;
    uint32_t labels;                /* enum go_labels */
    uint32_t reasons;               /* for go_wait_reason; 0: not known */
    uint64_t text, text_offset;     /* an address of its code, and where in the file that is */
    uint64_t allglen, allgptr;      /* of a length and of a pointer; 0: among the candidates, with a slice of the same */
    uint64_t candidates[GO_MAX_CANDIDATES];
    uint32_t n_candidates;
    uint32_t n_injected;
    struct go_range injected[GO_MAX_INJECTED];
    uint64_t probes[GO_PROBES];     /* file offsets where they are probed: every call passes there once its arguments are in place; 0: not found */
    struct go_range goexit;         /* what every goroutine returns to: no frame of its own */
};

/* fd stays the caller's. 0; -ENOEXEC: no Go program; -ENODATA: one whose goroutines can't be found: *ret says its version; -ENOMEM. */
int go_runtime_open(int fd, struct go_runtime *ret);
/* Every member is within what is read of a goroutine, every count within its array, and strings end. */
bool go_runtime_is_sound(const struct go_runtime *runtime);

/* A status as Go's own dumps say it. */
const char *go_status_name(uint32_t status);
/* What a goroutine waits for, as Go's own dumps say it: "chan receive". "": nothing, or it isn't known. */
const char *go_wait_reason(uint32_t reasons, uint8_t reason);

/* A bit for each reason that Go's own block profile has, and those of them that are semaphores, of which not all are. Both 0: not known. */
void go_block_reasons(uint32_t reasons, uint64_t *ret_all, uint64_t *ret_semaphores);

/* ---- for tests */

/* The layout of a release ("go1.26.8"), as far as it is known. False: it isn't. */
bool go_layout_known(const char *version, struct go_layout *ret, enum go_labels *ret_labels, uint32_t *ret_reasons);
/* What DWARF says. 0; -ENODATA; -ENOMEM. */
struct elf_file;
int go_layout_dwarf(const struct elf_file *file, struct go_layout *ret);
