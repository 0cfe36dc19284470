/* The arena's room against a plain model of it, in ordinary memory and, where BPF can be had, in maps of which a map of maps tells. */
#include <bpf/bpf.h>
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bpf/unwind_arena.h"
#include "util/cleanup.h"

#define MAX_BYTES (4 * UNWIND_SLAB_BYTES)

static struct unwind_arena *arena;

static void setup_host(void)
{
    ck_assert_int_eq(unwind_arena_new(-1, MAX_BYTES, &arena), 0);
}

static void teardown_host(void)
{
    unwind_arena_free(arena);
}

static struct unwind_arena_stats stats(void)
{
    struct unwind_arena_stats s;
    unwind_arena_stats(arena, &s);
    return s;
}

static void run_round(void)
{
    struct unwind_round round;
    ck_assert_int_eq(unwind_arena_begin_round(arena, true, &round), 0);
    int r = unwind_arena_run_round(&round);
    ck_assert_int_eq(r, 0);
    unwind_arena_end_round(arena, &round, r);
}

static void fail_round(void)
{
    struct unwind_round round;
    ck_assert_int_eq(unwind_arena_begin_round(arena, true, &round), 0);
    unwind_arena_end_round(arena, &round, -EIO);
}

static void grow(uint64_t bytes)
{
    ck_assert_int_eq(unwind_arena_reserve(arena, bytes), 0);
    run_round();
}

static uint32_t take(size_t bytes)
{
    uint32_t place = 0;
    ck_assert_int_eq(unwind_arena_take(arena, bytes, &place), 0);
    ck_assert_uint_ne(place, 0);
    return place;
}

START_TEST(holds_nothing_at_first)
{
    uint32_t place;
    ck_assert_uint_eq(stats().slab_bytes, 0);
    ck_assert_int_eq(unwind_arena_take(arena, 8, &place), -ENOSPC);
    ck_assert_int_eq(unwind_arena_take(arena, UNWIND_CHUNK_BYTES + 1, &place), -E2BIG);
    ck_assert(!unwind_arena_wants_round(arena));
}
END_TEST

START_TEST(has_room_once_a_round_has_ended)
{
    struct unwind_round round;
    uint32_t place;

    ck_assert_int_eq(unwind_arena_reserve(arena, 100), 0);
    ck_assert(unwind_arena_wants_round(arena));
    ck_assert_int_eq(unwind_arena_take(arena, 8, &place), -ENOSPC);
    ck_assert_int_eq(unwind_arena_begin_round(arena, true, &round), 0);
    ck_assert(!unwind_arena_wants_round(arena));
    ck_assert_int_eq(unwind_arena_take(arena, 8, &place), -ENOSPC);
    ck_assert_int_eq(unwind_arena_reserve(arena, UNWIND_SLAB_BYTES), 0); /* what is coming is enough */
    ck_assert_uint_eq(stats().slab_bytes, UNWIND_SLAB_BYTES);
    unwind_arena_end_round(arena, &round, unwind_arena_run_round(&round));
    place = take(8);
    memset(unwind_arena_at(arena, place), 0xff, 8);
    ck_assert_uint_eq(stats().used_bytes + stats().free_bytes, UNWIND_SLAB_BYTES);
}
END_TEST

START_TEST(tries_again_after_a_round_that_failed)
{
    ck_assert_int_eq(unwind_arena_reserve(arena, 1), 0);
    fail_round();
    ck_assert(unwind_arena_wants_round(arena));
    run_round();
    uint32_t place = take(64);
    unwind_arena_put(arena, place, 64);
    fail_round();
    ck_assert_uint_eq(stats().waiting_bytes, 64);
    ck_assert(unwind_arena_wants_round(arena));
    run_round();
    ck_assert_uint_eq(stats().waiting_bytes, 0);
    fail_round(); /* the slab was to go */
    ck_assert_uint_eq(stats().slab_bytes, UNWIND_SLAB_BYTES);
    run_round();
    ck_assert_uint_eq(stats().slab_bytes, 0);
}
END_TEST

START_TEST(refuses_more_than_its_budget)
{
    uint32_t place;

    grow(MAX_BYTES);
    ck_assert_uint_eq(stats().slab_bytes, MAX_BYTES);
    ck_assert_int_eq(unwind_arena_reserve(arena, 1), -ENOSPC);
    size_t n = 0;
    while (unwind_arena_take(arena, 32768, &place) == 0)
        n++;
    ck_assert_uint_eq(n, MAX_BYTES / 32768 - 1); /* place 0 is never used */
    unwind_arena_set_max(arena, MAX_BYTES + UNWIND_SLAB_BYTES);
    grow(1);
    ck_assert_uint_eq(stats().slab_bytes, MAX_BYTES + UNWIND_SLAB_BYTES);
    unwind_arena_set_max(arena, 1); /* one slab is the least */
    ck_assert_uint_eq(stats().max_bytes, UNWIND_SLAB_BYTES);
    run_round(); /* the empty one is over the budget */
    ck_assert_uint_eq(stats().slab_bytes, MAX_BYTES);
}
END_TEST

START_TEST(reuses_what_was_put_back_after_the_round_that_followed)
{
    struct unwind_round round;

    grow(1);
    uint32_t first = take(100), second = take(100);
    ck_assert_uint_ne(first, second);
    ck_assert_int_eq(unwind_arena_begin_round(arena, true, &round), 0);
    unwind_arena_put(arena, first, 100); /* after the round began: the next one's */
    unwind_arena_end_round(arena, &round, 0);
    ck_assert_uint_ne(take(100), first);
    ck_assert(unwind_arena_wants_round(arena));
    run_round();
    ck_assert_uint_eq(take(100), first);
}
END_TEST

START_TEST(reuses_what_nobody_could_see_at_once)
{
    grow(1);
    uint32_t first = take(100);
    (void)take(100);
    unwind_arena_put_unseen(arena, first, 100);
    ck_assert_uint_eq(take(100), first);
}
END_TEST

START_TEST(keeps_what_has_come_for_those_who_need_it)
{
    struct unwind_round round;

    grow(1);
    ck_assert_int_eq(unwind_arena_begin_round(arena, false, &round), 0);
    ck_assert_uint_eq(round.n_going, 0);
    unwind_arena_end_round(arena, &round, unwind_arena_run_round(&round));
    ck_assert_uint_eq(stats().slab_bytes, UNWIND_SLAB_BYTES);
}
END_TEST

START_TEST(gives_empty_slabs_back_but_one)
{
    static uint32_t places[4 * 16];

    grow(MAX_BYTES);
    for (size_t i = 0; i < 4 * 16 - 1; i++)
        places[i] = take(i == 0 ? 1000 : UNWIND_CHUNK_BYTES);
    for (size_t i = 1; i < 4 * 16 - 1; i++)
        unwind_arena_put(arena, places[i], UNWIND_CHUNK_BYTES);
    run_round(); /* frees */
    run_round(); /* gives back */
    ck_assert_uint_eq(stats().slab_bytes, 2 * UNWIND_SLAB_BYTES); /* one in use, one at hand */
    ck_assert(!unwind_arena_wants_round(arena));
    unwind_arena_put(arena, places[0], 1000);
    run_round();
    run_round();
    ck_assert_uint_eq(stats().slab_bytes, 0);
    ck_assert_uint_eq(stats().used_bytes + stats().waiting_bytes, 0);
}
END_TEST

/* Makes a slab while the only one there is on its way out, then frees: there must still be something to wait for. */
START_TEST(grows_while_it_gives_back)
{
    struct unwind_round round;

    grow(1);
    ck_assert_int_eq(unwind_arena_begin_round(arena, true, &round), 0);
    ck_assert_uint_eq(round.n_going, 1);
    ck_assert_int_eq(unwind_arena_reserve(arena, 1), 0);
    unwind_arena_end_round(arena, &round, unwind_arena_run_round(&round));
    run_round();
    uint32_t place = take(64);
    unwind_arena_put(arena, place, 64);
    ck_assert_int_eq(unwind_arena_begin_round(arena, true, &round), 0);
    ck_assert(round.slabs_map < 0 || round.staying_fd >= 0);
    unwind_arena_end_round(arena, &round, unwind_arena_run_round(&round));
}
END_TEST

/* ---- against a model: every byte has one owner */

#define MODEL_RUNS 600
static struct {
    uint32_t place;
    size_t bytes;
    uint8_t mark;
} runs[MODEL_RUNS];

static void check_run(size_t i)
{
    const uint8_t *p = unwind_arena_at(arena, runs[i].place);
    size_t intact = 0;
    while (intact < runs[i].bytes && p[intact] == runs[i].mark)
        intact++;
    ck_assert_uint_eq(intact, runs[i].bytes);
}

static bool fill_run(size_t i)
{
    size_t bytes = 1 + (size_t)random() % (random() % 8 ? 3000 : UNWIND_CHUNK_BYTES);
    if (unwind_arena_take(arena, bytes, &runs[i].place) < 0)
        return false;
    ck_assert_uint_le(UNWIND_PLACE_OFFSET(runs[i].place) + bytes, UNWIND_CHUNK_BYTES);
    runs[i].bytes = bytes;
    runs[i].mark = (uint8_t)random();
    memset(unwind_arena_at(arena, runs[i].place), runs[i].mark, bytes);
    return true;
}

START_TEST(keeps_runs_apart)
{
    size_t refused = 0;

    srandom(1);
    grow(1);
    for (size_t step = 0; step < 20000; step++) {
        size_t i = (size_t)random() % MODEL_RUNS;
        if (runs[i].place == 0) {
            if (!fill_run(i)) {
                refused++;
                (void)unwind_arena_reserve(arena, 1);
                run_round();
            }
            continue;
        }
        check_run(i);
        (random() % 2 ? unwind_arena_put : unwind_arena_put_unseen)(arena, runs[i].place, runs[i].bytes);
        runs[i].place = 0;
    }
    ck_assert_uint_gt(refused, 3);
    for (size_t i = 0; i < MODEL_RUNS; i++) {
        if (runs[i].place == 0)
            continue;
        check_run(i);
        unwind_arena_put(arena, runs[i].place, runs[i].bytes);
    }
    run_round();
    run_round();
    ck_assert_uint_eq(stats().slab_bytes, 0);
}
END_TEST

/* ---- with maps */

static int slabs_map = -1;

/* Not BPF's business in a build that can't have it: those who may not create maps skip. */
static void setup_maps(void)
{
    LIBBPF_OPTS(bpf_map_create_opts, inner_opts, .map_flags = BPF_F_MMAPABLE);
    AUTO_CLOSE int inner = bpf_map_create(BPF_MAP_TYPE_ARRAY, "inner", 4, UNWIND_CHUNK_BYTES, UNWIND_SLAB_CHUNKS, &inner_opts);
    LIBBPF_OPTS(bpf_map_create_opts, opts, .inner_map_fd = (__u32)inner);
    if (inner >= 0)
        slabs_map = bpf_map_create(BPF_MAP_TYPE_ARRAY_OF_MAPS, "slabs", 4, 4, UNWIND_MAX_SLABS, &opts);
    if (slabs_map < 0)
        printf("skipped: no BPF maps here: %s\n", strerror(errno));
    ck_assert_int_eq(unwind_arena_new(slabs_map, MAX_BYTES, &arena), 0);
}

static void teardown_maps(void)
{
    unwind_arena_free(arena);
    close_fd(&slabs_map);
}

static int slab_id(uint32_t slot)
{
    uint32_t id = 0;
    return bpf_map_lookup_elem(slabs_map, &slot, &id) < 0 ? -errno : (int)id;
}

/* What a program would read at a place: by the maps alone. */
static void read_as_bpf(uint32_t place, void *to, size_t len)
{
    static uint8_t chunk[UNWIND_CHUNK_BYTES];
    uint32_t number = UNWIND_PLACE_CHUNK(place);

    AUTO_CLOSE int fd = bpf_map_get_fd_by_id((uint32_t)slab_id(UNWIND_PLACE_SLAB(place)));
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bpf_map_lookup_elem(fd, &number, chunk), 0);
    memcpy(to, chunk + UNWIND_PLACE_OFFSET(place), len);
}

START_TEST(programs_read_what_was_written)
{
    char text[4096];

    if (slabs_map < 0)
        return;
    ck_assert_int_eq(slab_id(0), -ENOENT);
    grow(2 * UNWIND_SLAB_BYTES);
    ck_assert_int_gt(slab_id(0), 0);
    ck_assert_int_gt(slab_id(1), 0);
    ck_assert_int_eq(slab_id(2), -ENOENT);
    for (int i = 0; i < 40; i++) {
        uint32_t place = take(50000);
        (void)snprintf(unwind_arena_at(arena, place), 50000, "run %d", i);
        read_as_bpf(place, text, sizeof(text));
        ck_assert_int_eq(atoi(text + 4), i);
        if (i == 16)
            (void)grow(UNWIND_SLAB_BYTES);
        if (UNWIND_PLACE_SLAB(place) == 1)
            break;
    }
}
END_TEST

START_TEST(maps_go_with_their_slabs)
{
    if (slabs_map < 0)
        return;
    grow(2 * UNWIND_SLAB_BYTES);
    uint32_t place = take(10);
    unwind_arena_put(arena, place, 10);
    run_round();
    run_round();
    ck_assert_int_eq(slab_id(0), -ENOENT);
    ck_assert_int_eq(slab_id(1), -ENOENT);
    ck_assert_uint_eq(stats().slab_bytes, 0);
    grow(1);
    ck_assert_int_gt(slab_id(0), 0);
}
END_TEST

START_TEST(says_that_maps_could_not_be_brought)
{
    struct unwind_round round;

    if (slabs_map < 0)
        return;
    ck_assert_int_eq(unwind_arena_reserve(arena, 1), 0);
    ck_assert_int_eq(unwind_arena_begin_round(arena, true, &round), 0);
    struct unwind_round broken = round;
    AUTO_CLOSE int other = bpf_map_create(BPF_MAP_TYPE_ARRAY, "other", 4, 4, 1, NULL);
    broken.coming_fds = &other; /* not what the map of maps holds */
    int r = unwind_arena_run_round(&broken);
    ck_assert_int_lt(r, 0);
    unwind_arena_end_round(arena, &round, r);
    ck_assert_int_eq(slab_id(0), -ENOENT);
    run_round();
    ck_assert_int_gt(slab_id(0), 0);
}
END_TEST

static void add_common(TCase *t)
{
    tcase_add_test(t, holds_nothing_at_first);
    tcase_add_test(t, has_room_once_a_round_has_ended);
    tcase_add_test(t, tries_again_after_a_round_that_failed);
    tcase_add_test(t, refuses_more_than_its_budget);
    tcase_add_test(t, reuses_what_was_put_back_after_the_round_that_followed);
    tcase_add_test(t, reuses_what_nobody_could_see_at_once);
    tcase_add_test(t, keeps_what_has_come_for_those_who_need_it);
    tcase_add_test(t, gives_empty_slabs_back_but_one);
    tcase_add_test(t, grows_while_it_gives_back);
}

int main(void)
{
    Suite *s = suite_create("unwind_arena");
    TCase *host = tcase_create("memory"), *maps = tcase_create("maps");

    tcase_add_checked_fixture(host, setup_host, teardown_host);
    add_common(host);
    tcase_add_test(host, keeps_runs_apart);
    suite_add_tcase(s, host);

    tcase_add_checked_fixture(maps, setup_maps, teardown_maps);
    add_common(maps);
    tcase_add_test(maps, programs_read_what_was_written);
    tcase_add_test(maps, maps_go_with_their_slabs);
    tcase_add_test(maps, says_that_maps_could_not_be_brought);
    tcase_set_timeout(host, 60);
    tcase_set_timeout(maps, 60);
    suite_add_tcase(s, maps);

    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
