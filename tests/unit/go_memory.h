/* The memory of a Go program that never ran: a list of goroutines, their stacks and labels, laid out as Go 1.26 has them. Its code keeps
 * frame pointers. */
#pragma once

#include <check.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "daemon/goroutines.h"

#define GO_MEMORY_BASE 0x100000ull
#define GO_MEMORY_BYTES (1u << 16)
#define GO_TEXT 0x400000ull
#define GO_TEXT_BYTES 0x1000ull
#define GO_BIAS 0x7000000ull
#define GO_LENGTH_AT (GO_MEMORY_BASE + 8)
#define GO_ARRAY_AT (GO_MEMORY_BASE + 16)
#define GO_EXIT 0x400f00ull /* the function that goroutines return to */

struct go_memory {
    uint8_t bytes[GO_MEMORY_BYTES];
    uint64_t used;      /* addresses from here on are free */
    uint64_t n;         /* goroutines */
    uint64_t g[64];
    struct go_runtime runtime;
    struct goroutine_source source;
    uint64_t reads, change_at; /* after so many readings... */
    void (*change)(struct go_memory *m); /* ... and before the next one; NULL: never */
    bool changes_always;
};

static inline void *go_memory_at(struct go_memory *m, uint64_t address)
{
    return m->bytes + (address - GO_MEMORY_BASE);
}

static inline void go_memory_put(struct go_memory *m, uint64_t address, uint64_t value)
{
    memcpy(go_memory_at(m, address), &value, sizeof(value));
}

static inline uint64_t go_memory_alloc(struct go_memory *m, uint64_t bytes)
{
    uint64_t address = m->used;
    m->used += (bytes + 15) & ~15ull;
    ck_assert_uint_le(m->used, GO_MEMORY_BASE + GO_MEMORY_BYTES);
    return address;
}

static inline ssize_t go_memory_read(void *userdata, uint64_t address, void *to, size_t len)
{
    struct go_memory *m = userdata;
    m->reads++;
    if (m->change && (m->changes_always || m->reads == m->change_at))
        m->change(m);
    if (address < GO_MEMORY_BASE || address >= GO_MEMORY_BASE + GO_MEMORY_BYTES)
        return -EIO;
    uint64_t room = GO_MEMORY_BASE + GO_MEMORY_BYTES - address, n = len < room ? len : room;
    memcpy(to, go_memory_at(m, address), n);
    return (ssize_t)n;
}

/* A goroutine that waits in three functions: the return addresses are those of the 1st, 2nd and 3rd call. */
static inline uint64_t go_memory_add(struct go_memory *m, uint64_t id, uint32_t status)
{
    const struct go_layout *l = &m->runtime.layout;
    uint64_t g = go_memory_alloc(m, GO_G_MAX_BYTES), stack = go_memory_alloc(m, 256), high = stack + 256, frame = stack + 64;
    go_memory_put(m, g + l->g_stack, stack);
    go_memory_put(m, g + l->g_stack + 8, high);
    go_memory_put(m, g + l->g_sched_sp, stack + 32);
    go_memory_put(m, g + l->g_sched_pc, GO_BIAS + GO_TEXT + 0x10);
    go_memory_put(m, g + l->g_sched_bp, frame);
    go_memory_put(m, frame, frame + 64);
    go_memory_put(m, frame + 8, GO_BIAS + GO_TEXT + 0x20);
    go_memory_put(m, frame + 64, 0);
    go_memory_put(m, frame + 72, GO_BIAS + GO_EXIT + 1);
    go_memory_put(m, g + l->g_goid, id);
    go_memory_put(m, g + l->g_startpc, GO_BIAS + GO_TEXT);
    go_memory_put(m, g + l->g_gopc, GO_BIAS + GO_TEXT + 0x100);
    memcpy(go_memory_at(m, g + l->g_status), &status, sizeof(status));
    m->g[m->n] = g;
    go_memory_put(m, GO_MEMORY_BASE + 64 + 8 * m->n++, g);
    go_memory_put(m, GO_LENGTH_AT, m->n);
    return g;
}

static inline void go_memory_init(struct go_memory *m)
{
    enum go_labels labels;
    *m = (struct go_memory){.used = GO_MEMORY_BASE + 1024};
    ck_assert(go_layout_known("go1.26", &m->runtime.layout, &labels, &m->runtime.reasons));
    m->runtime.labels = labels;
    m->runtime.text = GO_TEXT;
    m->runtime.allglen = GO_LENGTH_AT - GO_BIAS;
    m->runtime.allgptr = GO_ARRAY_AT - GO_BIAS;
    m->runtime.goexit = (struct go_range){GO_EXIT, GO_EXIT + 16};
    ck_assert(go_runtime_is_sound(&m->runtime));
    m->source = (struct goroutine_source){.read = go_memory_read, .userdata = m, .runtime = &m->runtime, .bias = GO_BIAS};
    go_memory_put(m, GO_ARRAY_AT, GO_MEMORY_BASE + 64);
}
