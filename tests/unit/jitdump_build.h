/* For tests: jitdumps, record by record. */
#pragma once

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "symbolize/jitdump_format.h"

struct dump {
    uint8_t data[1 << 20];
    size_t len;
};

static inline void dump_put(struct dump *d, const void *data, size_t len)
{
    if (len > sizeof(d->data) - d->len)
        abort();
    memcpy(d->data + d->len, data, len);
    d->len += len;
}

static inline void dump_begin(struct dump *d, uint32_t pid, uint32_t pad, uint64_t flags)
{
    d->len = 0;
    dump_put(d, &(struct jitdump_header){.magic = JITDUMP_MAGIC, .version = 1, .total_size = 40, .pad1 = pad, .pid = pid, .flags = flags}, 40);
}

static inline void dump_load(struct dump *d, uint64_t time, uint64_t address, uint64_t size, uint64_t index, const char *name)
{
    struct jitdump_load load = {.record = {JITDUMP_LOAD, (uint32_t)(sizeof(load) + strlen(name) + 1 + (size < 64 ? size : 64)), time},
                                .vma = address, .code_addr = address, .code_size = size, .code_index = index};
    dump_put(d, &load, sizeof(load));
    dump_put(d, name, strlen(name) + 1);
    for (uint64_t i = 0; i < size && i < 64; i++)
        dump_put(d, "\xcc", 1);
}

static inline void dump_move(struct dump *d, uint64_t time, uint64_t from, uint64_t to, uint64_t size, uint64_t index)
{
    struct jitdump_move move = {.record = {JITDUMP_MOVE, sizeof(move), time}, .vma = to, .old_code_addr = from, .new_code_addr = to,
                                .code_size = size, .code_index = index};
    dump_put(d, &move, sizeof(move));
}

/* An entry of lines; the file's name may be "\377". */
struct dump_line {
    uint64_t address;
    uint32_t line;
    const char *file;
};

static inline void dump_lines(struct dump *d, uint64_t address, const struct dump_line *lines, size_t n, size_t padding)
{
    struct jitdump_debug_info info = {.record = {JITDUMP_DEBUG_INFO, sizeof(info), 0}, .code_addr = address, .n_entries = n};
    for (size_t i = 0; i < n; i++)
        info.record.total_size += (uint32_t)(sizeof(struct jitdump_debug_entry) + strlen(lines[i].file) + 1);
    info.record.total_size += (uint32_t)padding;
    dump_put(d, &info, sizeof(info));
    for (size_t i = 0; i < n; i++) {
        dump_put(d, &(struct jitdump_debug_entry){.address = lines[i].address, .line = lines[i].line}, sizeof(struct jitdump_debug_entry));
        dump_put(d, lines[i].file, strlen(lines[i].file) + 1);
    }
    dump_put(d, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", padding);
}
