/* Images on their way into the arena, and spaces in it: read back as the BPF programs read them, by the stack engine's own search. */
#include <check.h>
#include <errno.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bpf/unwind_arena.h"
#include "daemon/unwind_load.h"
#include "daemon/unwind_space.h"
#include "tests/unit/table_image.h"
#include "util/cleanup.h"

static struct unwind_arena *arena;

/* What the stack engine asks of its surroundings: the arena, and nothing else. */
static const __u8 *stack_chunk(__u32 place)
{
    return place ? (const __u8 *)unwind_arena_at(arena, place) - UNWIND_PLACE_OFFSET(place) : NULL;
}

static struct stack_cached *stack_cache(__u32 index)
{
    return NULL;
}
#include "bpf/stack_tables.h"

static void round_now(bool give_back)
{
    struct unwind_round round;
    ck_assert_int_eq(unwind_arena_begin_round(arena, give_back, &round), 0);
    unwind_arena_end_round(arena, &round, unwind_arena_run_round(&round));
}

static void grow(uint64_t bytes)
{
    ck_assert_int_eq(unwind_arena_reserve(arena, bytes), 0);
    round_now(false);
}

static void setup(void)
{
    ck_assert_int_eq(unwind_arena_new(-1, 64 * UNWIND_SLAB_BYTES, &arena), 0);
}

static void teardown(void)
{
    unwind_arena_free(arena);
}

static struct unwind_arena_stats stats(void)
{
    struct unwind_arena_stats s;
    unwind_arena_stats(arena, &s);
    return s;
}

static int image_fd(const struct table_image *image)
{
    int fd = memfd_create("image", MFD_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, image->bytes, image->len), (ssize_t)image->len);
    return fd;
}

static int begin(const struct table_image *image, struct unwind_load **ret)
{
    AUTO_CLOSE int fd = image_fd(image);
    return unwind_load_new(arena, fd, image->len, ret);
}

static uint32_t load_all(const struct table_image *image)
{
    struct unwind_load *load;
    uint32_t place = 0;
    int r;

    ck_assert_int_eq(begin(image, &load), 0);
    while ((r = unwind_load_step(load, &place)) == 1)
        continue;
    ck_assert_int_eq(r, 0);
    unwind_load_free(load);
    return place;
}

/* The rule that the walker finds at a file offset of a table. */
static uint64_t find(uint32_t table, uint64_t file_offset)
{
    struct stack_walk *walk = calloc(1, sizeof(*walk));
    walk->mapping = (struct unwind_mapping){.start = 0x1000, .end = UINT64_MAX, .offset = 0, .table = table, .kind = UNWIND_MAPPING_TABLE};
    (void)stack_find_rule(walk, 0x1000 + file_offset);
    uint64_t rule = walk->rule;
    free(walk);
    return rule;
}

static uint64_t as_word(struct unwind_rule rule)
{
    uint64_t word;
    memcpy(&word, &rule, sizeof(word));
    return word;
}

START_TEST(walkers_find_what_the_image_says)
{
    struct table_image image = table_image_new(0x30000, 40, 3000, 5);

    grow(UNWIND_SLAB_BYTES);
    uint32_t table = load_all(&image);
    ck_assert_uint_eq(find(table, 0x2ffff), 0);
    for (uint32_t page = 0; page < 40; page++)
        for (uint32_t row = 0; row < 3000; row += 77) {
            uint64_t offset = 0x30000 + page * 0x10000ull + row * 16 + 15;
            ck_assert_uint_eq(find(table, offset), page % 5 == 4 ? 0 : as_word(table_image_rule(page, row)));
            struct unwind_rule rule = unwind_image_find(image.bytes, offset);
            ck_assert_uint_eq(find(table, offset), as_word(rule));
        }
    ck_assert_uint_eq(find(table, 0x30000 + 40 * 0x10000ull), 0);
    free(image.bytes);
}
END_TEST

START_TEST(what_is_put_back_leaves_nothing)
{
    struct table_image image = table_image_new(0, 64, 500, 3);

    grow(UNWIND_SLAB_BYTES);
    uint32_t place = load_all(&image);
    ck_assert_uint_gt(stats().used_bytes, 0);
    unwind_load_put(arena, place);
    ck_assert_uint_eq(stats().used_bytes, 0);
    round_now(true);
    round_now(true);
    ck_assert_uint_eq(stats().slab_bytes, 0);
    free(image.bytes);
}
END_TEST

START_TEST(copies_in_steps_and_waits_for_room)
{
    struct table_image image = table_image_new(0, 400, 4000, 0); /* 4.8 MB */
    struct unwind_load *load;
    unsigned steps = 0, waits = 0;
    uint32_t place;
    int r;

    ck_assert_int_eq(begin(&image, &load), 0);
    uint64_t left = unwind_load_left_bytes(load);
    while ((r = unwind_load_step(load, &place)) != 0) {
        if (r == -ENOSPC) {
            waits++;
            grow(1);
        } else {
            ck_assert_int_eq(r, 1);
            steps++;
        }
        ck_assert_uint_le(unwind_load_left_bytes(load), left);
        left = unwind_load_left_bytes(load);
    }
    ck_assert_uint_ge(steps, 4);
    ck_assert_uint_ge(waits, 5);
    ck_assert_uint_ge(unwind_load_total_bytes(load), stats().used_bytes);
    unwind_load_free(load);
    ck_assert_uint_eq(find(place, 399 * 0x10000ull + 160), as_word(table_image_rule(399, 10)));
    free(image.bytes);
}
END_TEST

START_TEST(half_a_load_gives_its_room_back)
{
    struct table_image image = table_image_new(0, 400, 4000, 0);
    struct unwind_load *load;
    uint32_t place;

    grow(UNWIND_SLAB_BYTES);
    ck_assert_int_eq(begin(&image, &load), 0);
    while (unwind_load_step(load, &place) == 1)
        continue;
    ck_assert_uint_gt(stats().used_bytes, UNWIND_SLAB_BYTES / 2);
    unwind_load_free(load);
    ck_assert_uint_eq(stats().used_bytes, 0);
    ck_assert_uint_eq(stats().waiting_bytes, 0); /* nobody has seen it */
    free(image.bytes);
}
END_TEST

/* ---- hostile images: of a worker that was taken over */

static struct unwind_image *header_of(struct table_image *image)
{
    return (struct unwind_image *)image->bytes;
}

static void refuse(struct table_image *image)
{
    struct unwind_load *load = NULL;
    ck_assert_int_eq(begin(image, &load), -EBADMSG);
    ck_assert_ptr_null(load);
    ck_assert_uint_eq(stats().used_bytes, 0);
}

START_TEST(refuses_what_is_no_table)
{
    static uint8_t text[4096] = "not a table";
    struct table_image image = {.bytes = text, .len = sizeof(text)};

    grow(1);
    refuse(&image);
    image.len = 8;
    refuse(&image);
    image.len = 0;
    refuse(&image);
}
END_TEST

START_TEST(refuses_images_that_reach_out_of_themselves)
{
    struct table_image image = table_image_new(0, 8, 100, 0);
    uint32_t *places = (uint32_t *)(header_of(&image) + 1);

    grow(1);
    header_of(&image)->n_pages = UNWIND_IMAGE_MAX_PAGES;
    refuse(&image);
    header_of(&image)->n_pages = UINT32_MAX;
    refuse(&image);
    header_of(&image)->n_pages = 8;
    header_of(&image)->len += 8;
    refuse(&image);
    header_of(&image)->len -= 8;
    header_of(&image)->page_shift = 17;
    refuse(&image);
    header_of(&image)->page_shift = 16;
    places[7] = UINT32_MAX;
    refuse(&image);
    places[7] = (uint32_t)(image.len / 8);
    refuse(&image);
    free(image.bytes);
}
END_TEST

START_TEST(refuses_pages_that_do_not_add_up)
{
    struct table_image image = table_image_new(0, 2, 100, 0);
    struct unwind_page *page = (struct unwind_page *)(image.bytes + 8 * ((uint32_t *)(header_of(&image) + 1))[1]);

    grow(1);
    page->n_rows = UINT16_MAX; /* beyond the image */
    refuse(&image);
    page->n_rows = 0;
    refuse(&image);
    page->n_rows = 100;
    page->n_rules = 1; /* rows name the second one */
    refuse(&image);
    page->n_rules = 257;
    refuse(&image);
    free(image.bytes);
}
END_TEST

/* Whatever a broken image says, it is refused or loaded, and no sanitizer has anything to say. */
START_TEST(survives_random_damage)
{
    struct table_image image = table_image_new(0x1000000, 20, 200, 4);
    struct table_image damaged = {.bytes = malloc(image.len), .len = image.len};
    unsigned loaded = 0, refused = 0;

    srandom(7);
    grow(4 * UNWIND_SLAB_BYTES);
    for (unsigned i = 0; i < 3000; i++) {
        struct unwind_load *load;
        uint32_t place;
        memcpy(damaged.bytes, image.bytes, image.len);
        damaged.bytes[(size_t)random() % (i % 2 ? 256 : image.len)] ^= (uint8_t)(1 << random() % 8);
        if (begin(&damaged, &load) < 0) {
            refused++;
            continue;
        }
        while (unwind_load_step(load, &place) == 1)
            continue;
        unwind_load_free(load);
        (void)find(place, (uint64_t)random());
        unwind_load_put(arena, place);
        round_now(false);
        loaded++;
    }
    ck_assert_uint_gt(loaded, 100);
    ck_assert_uint_gt(refused, 100);
    ck_assert_uint_eq(stats().used_bytes + stats().waiting_bytes, 0);
    free(image.bytes);
    free(damaged.bytes);
}
END_TEST

/* ---- spaces */

static struct unwind_mapping *mappings_new(size_t n)
{
    struct unwind_mapping *m = calloc(n + 1, sizeof(*m));
    for (size_t i = 0; i < n; i++)
        m[i] = (struct unwind_mapping){.start = 0x10000 * (i + 1), .end = 0x10000 * (i + 1) + 0x8000, .offset = i * 0x1000,
                                       .table = (uint32_t)i, .kind = UNWIND_MAPPING_PENDING};
    return m;
}

static bool space_has(uint32_t space, uint64_t address, struct unwind_mapping *ret)
{
    struct stack_walk *walk = calloc(1, sizeof(*walk));
    walk->space = space;
    int found = stack_find_mapping(walk, address);
    *ret = walk->mapping;
    free(walk);
    return found;
}

static void check_space(size_t n)
{
    struct unwind_mapping *m = mappings_new(n), found;
    size_t cut, expected_cut = n > UNWIND_SPACE_MAX_MAPPINGS ? n - UNWIND_SPACE_MAX_MAPPINGS : 0;
    uint32_t place;

    ck_assert_int_eq(unwind_space_write(arena, m, n, &place, &cut), 0);
    ck_assert_uint_eq(cut, expected_cut);
    ck_assert(!space_has(place, 0, &found));
    ck_assert(!space_has(place, 0x10000 - 1, &found));
    for (size_t i = 0; i < n; i += n > 5000 ? 501 : 1) {
        bool there = i < n - expected_cut;
        ck_assert_int_eq(space_has(place, m[i].start, &found), there);
        ck_assert_int_eq(space_has(place, m[i].end - 1, &found), there);
        if (there)
            ck_assert_mem_eq(&found, &m[i], sizeof(found));
        ck_assert(!space_has(place, m[i].end, &found));
    }
    ck_assert(!space_has(place, UINT64_MAX, &found));
    unwind_space_put(arena, place);
    ck_assert_uint_eq(stats().used_bytes, 0);
    free(m);
}

START_TEST(spaces_of_all_sizes)
{
    static const size_t sizes[] = {0, 1, 2, 3, 1023, 1024, 1025, 2048, 3000, UNWIND_SPACE_MAX_MAPPINGS, UNWIND_SPACE_MAX_MAPPINGS + 5};

    grow(20 * UNWIND_SLAB_BYTES);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        check_space(sizes[i]);
    unwind_space_put(arena, 0); /* none */
}
END_TEST

START_TEST(a_space_without_room_leaves_nothing)
{
    struct unwind_mapping *m = mappings_new(UNWIND_SPACE_MAX_MAPPINGS);
    uint32_t place;
    size_t cut;

    ck_assert_int_eq(unwind_space_write(arena, m, 10, &place, &cut), -ENOSPC);
    grow(1);
    ck_assert_int_eq(unwind_space_write(arena, m, UNWIND_SPACE_MAX_MAPPINGS, &place, &cut), -ENOSPC);
    ck_assert_uint_eq(stats().used_bytes + stats().waiting_bytes, 0);
    free(m);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("unwind_load");
    TCase *t = tcase_create("images"), *spaces = tcase_create("spaces");

    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, walkers_find_what_the_image_says);
    tcase_add_test(t, what_is_put_back_leaves_nothing);
    tcase_add_test(t, copies_in_steps_and_waits_for_room);
    tcase_add_test(t, half_a_load_gives_its_room_back);
    tcase_add_test(t, refuses_what_is_no_table);
    tcase_add_test(t, refuses_images_that_reach_out_of_themselves);
    tcase_add_test(t, refuses_pages_that_do_not_add_up);
    tcase_add_test(t, survives_random_damage);
    tcase_set_timeout(t, 60);
    suite_add_tcase(s, t);
    tcase_add_checked_fixture(spaces, setup, teardown);
    tcase_add_test(spaces, spaces_of_all_sizes);
    tcase_add_test(spaces, a_space_without_room_leaves_nothing);
    tcase_set_timeout(spaces, 60);
    suite_add_tcase(s, spaces);

    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
