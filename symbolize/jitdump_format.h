/* What a jitdump is made of. Private to its readers. Numbers are in the writer's byte order; nothing is aligned. */
#pragma once

#include <stdint.h>

#define JITDUMP_MAGIC 0x4A695444u
#define JITDUMP_MAGIC_SWAPPED 0x4454694Au
#define JITDUMP_VERSION 1
#define JITDUMP_ARCH_TIMESTAMP 1u /* flags: times are the processor's counter */

struct jitdump_header {
    uint32_t magic, version;
    uint32_t total_size; /* of the header */
    uint32_t elf_mach, pad1, pid;
    uint64_t timestamp, flags;
};

enum jitdump_record_type { JITDUMP_LOAD, JITDUMP_MOVE, JITDUMP_DEBUG_INFO, JITDUMP_CLOSE, JITDUMP_UNWINDING_INFO };

struct jitdump_record {
    uint32_t type;
    uint32_t total_size; /* this included */
    uint64_t timestamp;
};

/* Followed by the name, its NUL, and code_size bytes. */
struct jitdump_load {
    struct jitdump_record record;
    uint32_t pid, tid;
    uint64_t vma, code_addr, code_size, code_index;
};

struct jitdump_move {
    struct jitdump_record record;
    uint32_t pid, tid;
    uint64_t vma, old_code_addr, new_code_addr, code_size, code_index;
};

/* Of the code that is loaded at code_addr next. Followed by n_entries entries. */
struct jitdump_debug_info {
    struct jitdump_record record;
    uint64_t code_addr, n_entries;
};

/* Followed by the file's name and its NUL; "\377": the name of the entry before. */
struct jitdump_debug_entry {
    uint64_t address;
    uint32_t line, discriminator;
};

_Static_assert(sizeof(struct jitdump_header) == 40, "as in the file");
_Static_assert(sizeof(struct jitdump_record) == 16, "as in the file");
_Static_assert(sizeof(struct jitdump_load) == 56, "as in the file");
_Static_assert(sizeof(struct jitdump_move) == 64, "as in the file");
_Static_assert(sizeof(struct jitdump_debug_info) == 32, "as in the file");
_Static_assert(sizeof(struct jitdump_debug_entry) == 16, "as in the file");
