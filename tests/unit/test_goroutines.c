/* Goroutines in memory that is known, that changes while it is read, and that is made up. */
#include "tests/unit/go_memory.h"

#include <stdlib.h>
#include <unistd.h>

#include "daemon/raw_profile.h"
#include "util/cleanup.h"

#define NOW_NS 1000000000000ull

static struct go_memory memory;

struct reading {
    struct raw_profile raw;
    struct goroutine_counts counts;
};

static struct reading read_memory(void)
{
    struct reading ret = {0};
    struct raw_writer *w = raw_writer_new();
    ck_assert_ptr_nonnull(w);
    ck_assert_int_eq(goroutines_read(&memory.source, NOW_NS, 3, w, &ret.counts), 0);
    AUTO_CLOSE int fd = raw_writer_finish(w);
    raw_writer_free(w);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(raw_table_open(fd, &ret.raw), 0);
    ck_assert_uint_eq(ret.raw.n_goroutines, ret.counts.read);
    ck_assert_uint_eq(ret.counts.listed, ret.counts.dead + ret.counts.read + ret.counts.unread);
    return ret;
}

static const struct stack_record *stack_of(const struct reading *r, const struct raw_goroutine *g)
{
    for (size_t i = 0; i < r->raw.n_records; i++) {
        const struct stack_record *record;
        for (size_t pos = 0; (record = raw_record_next(r->raw.records[i], &pos));)
            if (memcmp(record->stack_hash, g->stack_hash, sizeof(g->stack_hash)) == 0)
                return record;
    }
    return NULL;
}

static size_t count_stacks(const struct reading *r)
{
    size_t n = 0;
    for (size_t i = 0; i < r->raw.n_records; i++)
        for (size_t pos = 0; raw_record_next(r->raw.records[i], &pos);)
            n++;
    return n;
}

static void assert_frames(const struct reading *r, size_t i, const uint64_t *offsets, size_t n, enum stack_end end)
{
    const struct stack_record *stack = stack_of(r, &r->raw.goroutines[i]);
    ck_assert_ptr_nonnull(stack);
    ck_assert_uint_eq(stack->end, end);
    ck_assert_uint_eq(stack->n_user, n);
    for (size_t f = 0; f < n; f++)
        ck_assert_uint_eq(STACK_FRAME_ADDRESS(stack->frames[f]), GO_BIAS + GO_TEXT + offsets[f]);
}

static const uint64_t whole[] = {0xf, 0x20};

START_TEST(waiting)
{
    go_memory_init(&memory);
    const struct go_layout *l = &memory.runtime.layout;
    uint64_t first = go_memory_add(&memory, 7, GO_WAITING);
    go_memory_add(&memory, 8, GO_DEAD);
    go_memory_add(&memory, 9, 0x1000 | GO_WAITING); /* the collector looks at it */
    memory.bytes[first - GO_MEMORY_BASE + l->g_waitreason] = 14;
    go_memory_put(&memory, first + l->g_waitsince, NOW_NS - 120000000000ull);
    go_memory_put(&memory, first + l->g_parent, 1);
    go_memory_put(&memory, first + l->g_lockedm, 1);
    struct reading r = read_memory();
    ck_assert_uint_eq(r.counts.read, 2);
    ck_assert_uint_eq(r.counts.dead, 1);
    const struct raw_goroutine *g = r.raw.goroutines;
    ck_assert_uint_eq(g[0].id, 7);
    ck_assert_uint_eq(g[0].parent, 1);
    ck_assert_uint_eq(g[0].waited_ns, 120000000000ull);
    ck_assert_uint_eq(g[0].created_at, GO_BIAS + GO_TEXT + 0x100);
    ck_assert_uint_eq(g[0].start, GO_BIAS + GO_TEXT);
    ck_assert_uint_eq(g[0].flags, RAW_GOROUTINE_STACK | RAW_GOROUTINE_LOCKED);
    ck_assert_str_eq(go_wait_reason(g[0].reasons, (uint8_t)g[0].reason), "sleep");
    ck_assert_uint_eq(g[1].status, GO_WAITING);
    assert_frames(&r, 0, whole, 2, STACK_END_ROOT);
    assert_frames(&r, 1, whole, 2, STACK_END_ROOT);
    ck_assert_uint_eq(count_stacks(&r), 1); /* the same one */
    raw_profile_close(&r.raw);
}
END_TEST

START_TEST(not_begun)
{
    static const uint64_t first[] = {0};
    go_memory_init(&memory);
    uint64_t g = go_memory_add(&memory, 7, GO_RUNNABLE), frame = 0;
    const struct go_layout *l = &memory.runtime.layout;
    memcpy(&frame, go_memory_at(&memory, g + l->g_sched_bp), sizeof(frame));
    go_memory_put(&memory, g + l->g_sched_pc, GO_BIAS + GO_TEXT);
    go_memory_put(&memory, frame + 8, GO_BIAS + GO_EXIT + 1);
    struct reading r = read_memory();
    assert_frames(&r, 0, first, 1, STACK_END_ROOT); /* that very address: nothing was called before it */
    raw_profile_close(&r.raw);
}
END_TEST

START_TEST(system_call)
{
    static const uint64_t in_call[] = {0x4f, 0x20};
    go_memory_init(&memory);
    const struct go_layout *l = &memory.runtime.layout;
    uint64_t g = go_memory_add(&memory, 7, GO_IN_SYSCALL), sp, bp;
    memcpy(&sp, go_memory_at(&memory, g + l->g_sched_sp), sizeof(sp));
    memcpy(&bp, go_memory_at(&memory, g + l->g_sched_bp), sizeof(bp));
    go_memory_put(&memory, g + l->g_syscallsp, sp);
    go_memory_put(&memory, g + l->g_syscallpc, GO_BIAS + GO_TEXT + 0x50);
    go_memory_put(&memory, g + l->g_syscallbp, bp);
    struct reading r = read_memory();
    assert_frames(&r, 0, in_call, 2, STACK_END_ROOT);
    raw_profile_close(&r.raw);
}
END_TEST

START_TEST(running)
{
    go_memory_init(&memory);
    uint64_t g = go_memory_add(&memory, 7, GO_RUNNING), m = go_memory_alloc(&memory, GO_M_MAX_BYTES);
    go_memory_put(&memory, g + memory.runtime.layout.g_m, m);
    go_memory_put(&memory, m + memory.runtime.layout.m_procid, 4711);
    go_memory_add(&memory, 8, GO_RUNNING); /* on no thread that is known */
    struct reading r = read_memory();
    ck_assert_uint_eq(r.counts.running, 2);
    ck_assert_uint_eq(r.raw.goroutines[0].tid, 4711);
    ck_assert_uint_eq(r.raw.goroutines[0].flags & RAW_GOROUTINE_STACK, 0);
    ck_assert_uint_eq(r.raw.goroutines[1].tid, 0);
    raw_profile_close(&r.raw);
}
END_TEST

/* ---- while it changes */

static void run_on(struct go_memory *m)
{
    go_memory_put(m, m->g[0] + m->runtime.layout.g_sched_pc, GO_BIAS + GO_TEXT + 0x30 + m->reads);
}

START_TEST(changes_once)
{
    go_memory_init(&memory);
    go_memory_add(&memory, 7, GO_WAITING);
    memory.change = run_on;
    memory.change_at = 5; /* while its stack is read */
    struct reading r = read_memory();
    const uint64_t later[] = {0x2f + 5, 0x20};
    ck_assert_uint_eq(r.counts.torn, 0);
    assert_frames(&r, 0, later, 2, STACK_END_ROOT);
    raw_profile_close(&r.raw);
}
END_TEST

START_TEST(changes_always)
{
    go_memory_init(&memory);
    go_memory_add(&memory, 7, GO_WAITING);
    memory.change = run_on;
    memory.changes_always = true;
    struct reading r = read_memory();
    ck_assert_uint_eq(r.counts.torn, 1);
    ck_assert_uint_eq(r.counts.read, 1);
    assert_frames(&r, 0, NULL, 0, STACK_END_RUNNING);
    raw_profile_close(&r.raw);
}
END_TEST

static void end_it(struct go_memory *m)
{
    const uint32_t dead = GO_DEAD;
    memcpy(go_memory_at(m, m->g[0] + m->runtime.layout.g_status), &dead, sizeof(dead));
}

START_TEST(ends_meanwhile)
{
    go_memory_init(&memory);
    go_memory_add(&memory, 7, GO_WAITING);
    memory.change = end_it;
    memory.change_at = 5;
    struct reading r = read_memory();
    ck_assert_uint_eq(r.counts.dead, 1);
    ck_assert_uint_eq(r.counts.read, 0);
    raw_profile_close(&r.raw);
}
END_TEST

/* ---- without symbols */

START_TEST(by_candidates)
{
    go_memory_init(&memory);
    go_memory_add(&memory, 7, GO_WAITING);
    go_memory_add(&memory, 8, GO_WAITING);
    uint64_t slice = GO_MEMORY_BASE + 32, bogus = go_memory_alloc(&memory, 64);
    go_memory_put(&memory, slice, GO_MEMORY_BASE + 64);
    go_memory_put(&memory, slice + 8, 2);
    go_memory_put(&memory, slice + 16, 4);
    struct go_runtime *run = &memory.runtime;
    run->allglen = run->allgptr = 0;
    const uint64_t candidates[] = {bogus, slice + 8, GO_ARRAY_AT, slice, slice + 16, GO_LENGTH_AT, 1};
    run->n_candidates = sizeof(candidates) / sizeof(candidates[0]);
    for (uint32_t i = 0; i < run->n_candidates; i++)
        run->candidates[i] = candidates[i] - GO_BIAS;
    struct reading r = read_memory();
    ck_assert_uint_eq(r.counts.read, 2);
    raw_profile_close(&r.raw);
}
END_TEST

START_TEST(no_list)
{
    struct goroutine_counts counts;
    struct raw_writer *w = raw_writer_new();
    go_memory_init(&memory);
    go_memory_put(&memory, GO_LENGTH_AT, 0);
    ck_assert_int_eq(goroutines_read(&memory.source, NOW_NS, 3, w, &counts), -ENODATA);
    memory.runtime.allglen = 0;
    ck_assert_int_eq(goroutines_read(&memory.source, NOW_NS, 3, w, &counts), -ENODATA);
    raw_writer_free(w);
}
END_TEST

START_TEST(list_ends_early)
{
    go_memory_init(&memory);
    go_memory_add(&memory, 7, GO_WAITING);
    go_memory_put(&memory, GO_LENGTH_AT, 600000000);
    struct reading r = read_memory();
    ck_assert_uint_eq(r.counts.unread, 600000000 - r.counts.read - r.counts.dead);
    raw_profile_close(&r.raw);
}
END_TEST

/* ---- labels */

static uint64_t put_string(uint64_t at, const char *text)
{
    uint64_t bytes = go_memory_alloc(&memory, strlen(text) + 1);
    memcpy(go_memory_at(&memory, bytes), text, strlen(text));
    go_memory_put(&memory, at, bytes);
    go_memory_put(&memory, at + 8, strlen(text));
    return at;
}

static void assert_labels(const struct reading *r, const char *expected)
{
    struct raw_labels labels;
    struct raw_text key, value;
    char text[256] = "";
    ck_assert_uint_ne(r->raw.goroutines[0].labels, RAW_NO_LABELS);
    raw_labels_begin(&r->raw, r->raw.goroutines[0].labels, &labels);
    while (raw_labels_next(&labels, &key, &value))
        (void)snprintf(text + strlen(text), sizeof(text) - strlen(text), "%.*s=%.*s;", (int)key.len, key.bytes, (int)value.len, value.bytes);
    ck_assert_str_eq(text, expected);
}

START_TEST(label_list)
{
    go_memory_init(&memory);
    uint64_t g = go_memory_add(&memory, 7, GO_WAITING), set = go_memory_alloc(&memory, 24), pairs = go_memory_alloc(&memory, 64);
    go_memory_put(&memory, g + memory.runtime.layout.g_labels, set);
    go_memory_put(&memory, set, pairs);
    go_memory_put(&memory, set + 8, 2);
    put_string(pairs, "path");
    put_string(pairs + 16, "/a b");
    put_string(pairs + 32, "k");
    put_string(pairs + 48, "");
    struct reading r = read_memory();
    ck_assert_uint_eq(r.counts.unlabeled, 0);
    assert_labels(&r, "path=/a b;k=;");
    raw_profile_close(&r.raw);
    go_memory_put(&memory, set + 8, GOROUTINES_MAX_LABELS + 1);
    r = read_memory();
    ck_assert_uint_eq(r.counts.unlabeled, 1);
    ck_assert_uint_eq(r.raw.goroutines[0].flags & RAW_GOROUTINE_UNLABELED, RAW_GOROUTINE_UNLABELED);
    raw_profile_close(&r.raw);
    go_memory_put(&memory, set + 8, 2);
    go_memory_put(&memory, pairs + 24, GOROUTINES_MAX_LABEL_BYTES);
    r = read_memory();
    ck_assert_uint_eq(r.counts.unlabeled, 1);
    raw_profile_close(&r.raw);
}
END_TEST

#define BUCKET 272

static void put_slot(uint64_t bucket, unsigned i, const char *key, const char *value)
{
    *(uint8_t *)go_memory_at(&memory, bucket + i) = 5;
    put_string(bucket + 8 + 16 * i, key);
    put_string(bucket + 136 + 16 * i, value);
}

START_TEST(label_map)
{
    go_memory_init(&memory);
    uint64_t g = go_memory_add(&memory, 7, GO_WAITING), pointer = go_memory_alloc(&memory, 8), map = go_memory_alloc(&memory, 48);
    uint64_t buckets = go_memory_alloc(&memory, 2 * BUCKET), old = go_memory_alloc(&memory, BUCKET), more = go_memory_alloc(&memory, BUCKET);
    memory.runtime.labels = GO_LABELS_MAP;
    go_memory_put(&memory, g + memory.runtime.layout.g_labels, pointer);
    struct reading r = read_memory();
    assert_labels(&r, ""); /* a map that nothing was put into */
    raw_profile_close(&r.raw);
    go_memory_put(&memory, pointer, map);
    go_memory_put(&memory, map, 3);
    *(uint8_t *)go_memory_at(&memory, map + 9) = 1; /* two buckets */
    go_memory_put(&memory, map + 16, buckets);
    put_slot(buckets, 0, "a", "1");
    put_slot(buckets + BUCKET, 7, "b", "2");
    go_memory_put(&memory, buckets + BUCKET + 264, more);
    put_slot(more, 3, "c", "3");
    r = read_memory();
    assert_labels(&r, "a=1;b=2;c=3;");
    raw_profile_close(&r.raw);
    go_memory_put(&memory, map, 4); /* one is still in the old bucket */
    go_memory_put(&memory, map + 24, old);
    put_slot(old, 1, "d", "4");
    r = read_memory();
    assert_labels(&r, "a=1;b=2;c=3;d=4;");
    raw_profile_close(&r.raw);
    *(uint8_t *)go_memory_at(&memory, old) = 2; /* what it had has moved: one is missing */
    r = read_memory();
    ck_assert_uint_eq(r.counts.unlabeled, 1);
    raw_profile_close(&r.raw);
    go_memory_put(&memory, more + 264, more); /* no end */
    r = read_memory();
    ck_assert_uint_eq(r.counts.unlabeled, 1);
    raw_profile_close(&r.raw);
}
END_TEST

/* ---- stacks that are none */

START_TEST(stack_elsewhere)
{
    go_memory_init(&memory);
    const struct go_layout *l = &memory.runtime.layout;
    uint64_t g = go_memory_add(&memory, 7, GO_WAITING);
    go_memory_put(&memory, g + l->g_sched_sp, GO_MEMORY_BASE);
    struct reading r = read_memory();
    assert_frames(&r, 0, NULL, 0, STACK_END_BAD_CFA);
    raw_profile_close(&r.raw);
    go_memory_put(&memory, g + l->g_stack, GO_MEMORY_BASE - 8192);
    go_memory_put(&memory, g + l->g_sched_sp, GO_MEMORY_BASE - 4096);
    go_memory_put(&memory, g + l->g_sched_bp, GO_MEMORY_BASE - 2048);
    r = read_memory();
    static const uint64_t one[] = {0xf};
    assert_frames(&r, 0, one, 1, STACK_END_UNREADABLE);
    raw_profile_close(&r.raw);
}
END_TEST

START_TEST(too_deep)
{
    go_memory_init(&memory);
    const struct go_layout *l = &memory.runtime.layout;
    uint64_t g = go_memory_add(&memory, 7, GO_WAITING), bytes = 16 * (CPROFD_MAX_FRAMES + 8), stack = go_memory_alloc(&memory, bytes);
    go_memory_put(&memory, g + l->g_stack, stack);
    go_memory_put(&memory, g + l->g_stack + 8, stack + bytes);
    go_memory_put(&memory, g + l->g_sched_sp, stack);
    go_memory_put(&memory, g + l->g_sched_bp, stack);
    for (uint64_t at = stack; at < stack + bytes; at += 16) {
        go_memory_put(&memory, at, at + 16);
        go_memory_put(&memory, at + 8, GO_BIAS + GO_TEXT + 0x40);
    }
    struct reading r = read_memory();
    const struct stack_record *record = stack_of(&r, &r.raw.goroutines[0]);
    ck_assert_uint_eq(record->n_user, CPROFD_MAX_FRAMES);
    ck_assert_uint_eq(record->end, STACK_END_TOO_DEEP);
    raw_profile_close(&r.raw);
}
END_TEST

/* ---- whatever there is */

START_TEST(random_memory)
{
    srandom((unsigned)_i);
    go_memory_init(&memory);
    for (unsigned i = 0; i < 8; i++)
        go_memory_add(&memory, i, i % 12);
    memory.runtime.labels = random() % 3;
    for (unsigned i = 0; i < 2000; i++) {
        uint64_t at = GO_MEMORY_BASE + 64 + (uint64_t)random() % (memory.used - GO_MEMORY_BASE - 64);
        uint64_t value = random() % 2 ? GO_MEMORY_BASE + (uint64_t)random() % GO_MEMORY_BYTES : (uint64_t)random() << (random() % 40);
        if (i % 2)
            *(uint8_t *)go_memory_at(&memory, at) = (uint8_t)random();
        else
            go_memory_put(&memory, at & ~7ull, value);
        if (i % 100 == 0) {
            struct reading r = read_memory();
            raw_profile_close(&r.raw);
        }
    }
}
END_TEST

/* ---- releases */

START_TEST(releases)
{
    struct go_layout layout;
    enum go_labels labels;
    uint32_t reasons;
    ck_assert(go_layout_known("go1.18", &layout, &labels, &reasons));
    ck_assert_int_eq(labels, GO_LABELS_MAP);
    ck_assert_str_eq(go_wait_reason(reasons, 9), "select");
    ck_assert(go_layout_known("go1.26.8 X:nogreenteagc", &layout, &labels, &reasons));
    ck_assert_int_eq(labels, GO_LABELS_LIST);
    ck_assert_str_eq(go_wait_reason(reasons, 18), "select");
    ck_assert_str_eq(go_wait_reason(reasons, 46), "cleanup wait");
    ck_assert_str_eq(go_wait_reason(reasons, 47), "");
    ck_assert_str_eq(go_wait_reason(0, 1), "");
    const char *const unknown[] = {"", "go1.17.13", "go1.27", "go1.26rc1", "devel go1.26-abcdef", "go1.", "go2.26", "go1.26.x"};
    for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++)
        ck_assert(!go_layout_known(unknown[i], &layout, &labels, &reasons));
    ck_assert_str_eq(go_status_name(GO_RUNNABLE), "runnable");
    ck_assert_str_eq(go_status_name(5), "???");
    ck_assert_str_eq(go_status_name(4096), "???");
}
END_TEST

START_TEST(soundness)
{
    go_memory_init(&memory);
    struct go_runtime r = memory.runtime;
    r.layout.g_labels = GO_G_MAX_BYTES;
    ck_assert(!go_runtime_is_sound(&r));
    r = memory.runtime;
    r.layout.g_stack = UINT16_MAX - 4; /* whose second word is past what the type holds */
    ck_assert(!go_runtime_is_sound(&r));
    r = memory.runtime;
    r.n_candidates = GO_MAX_CANDIDATES + 1;
    ck_assert(!go_runtime_is_sound(&r));
    r = memory.runtime;
    memset(r.version, 'x', sizeof(r.version));
    ck_assert(!go_runtime_is_sound(&r));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("goroutines");
    TCase *c = tcase_create("goroutines");
    tcase_set_timeout(c, 60);
    tcase_add_test(c, waiting);
    tcase_add_test(c, not_begun);
    tcase_add_test(c, system_call);
    tcase_add_test(c, running);
    tcase_add_test(c, changes_once);
    tcase_add_test(c, changes_always);
    tcase_add_test(c, ends_meanwhile);
    tcase_add_test(c, by_candidates);
    tcase_add_test(c, no_list);
    tcase_add_test(c, list_ends_early);
    tcase_add_test(c, label_list);
    tcase_add_test(c, label_map);
    tcase_add_test(c, stack_elsewhere);
    tcase_add_test(c, too_deep);
    tcase_add_loop_test(c, random_memory, 0, 40);
    tcase_add_test(c, releases);
    tcase_add_test(c, soundness);
    suite_add_tcase(s, c);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
