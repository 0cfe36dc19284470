/* Rounds that fail: whoever needs room is told, and asks no child again at once. */
#include <check.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "bpf/unwind_arena.h"
#include "daemon/child.h"
#include "daemon/log.h"
#include "daemon/unwind_room.h"
#include "util/clock.h"

static int n_changed, last_error;

static void on_changed(int error, void *userdata)
{
    n_changed++;
    last_error = error;
}

static const struct unwind_room_ops ops = {on_changed};

START_TEST(test_a_failure_is_not_repeated_at_once)
{
    struct event_base *base = event_base_new();
    struct unwind_room *room;
    int no_map = open("/dev/null", O_RDONLY | O_CLOEXEC);
    uint64_t begin_ns;

    log_set_level(LOG_LEVEL_ERROR);
    ck_assert_int_eq(unwind_room_new(base, no_map, 64 << 20, &ops, NULL, &room), 0);
    begin_ns = monotonic_ns();
    ck_assert_int_eq(unwind_room_make(room, 1 << 20), 0);
    while (n_changed == 0)
        ck_assert_int_eq(event_base_loop(base, EVLOOP_ONCE), 0);
    ck_assert_int_lt(last_error, 0);
    int r = unwind_room_make(room, 1 << 20);
    ck_assert(r == last_error || monotonic_ns() - begin_ns >= UNWIND_ROOM_PAUSE_NS);
    while (r < 0) { /* and is tried again later */
        ck_assert_int_eq(r, last_error);
        (void)usleep(20000);
        r = unwind_room_make(room, 1 << 20);
    }
    ck_assert_uint_ge(monotonic_ns() - begin_ns, UNWIND_ROOM_PAUSE_NS);
    while (n_changed == 1)
        ck_assert_int_eq(event_base_loop(base, EVLOOP_ONCE), 0);
    ck_assert_int_lt(last_error, 0);
    unwind_room_free(room);
    child_kill_all();
    event_base_free(base);
    (void)close(no_map);
    libevent_global_shutdown();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("unwind_room");
    TCase *tc = tcase_create("unwind_room");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, test_a_failure_is_not_repeated_at_once);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
