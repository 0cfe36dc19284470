/* What the collector tells while the window is open: what is mapped executable now, and the files of that. With the arguments "puppet IN
 * OUT" this is a target that has exec'd. */
#include "tests/unit/mapper.h"

static uint64_t code_bytes; /* of the newest list */

/* The next list of mappings. */
static struct raw_profile talk_mappings(struct talk *t, uint32_t *ret_exec_epoch)
{
    struct raw_profile p;
    int fd = -1;

    const struct collector_message *m = talk_expect(t, COLLECTOR_MAPPINGS, &fd);
    ck_assert_uint_eq(m->u.mappings.same, 0);
    ck_assert_uint_ge(m->u.mappings.epoch, m->u.mappings.exec_epoch);
    *ret_exec_epoch = m->u.mappings.exec_epoch;
    code_bytes = m->u.mappings.code_bytes;
    ck_assert_int_eq(raw_table_open(fd, &p), 0);
    close(fd);
    for (size_t i = 0; i < p.n_mappings; i++) {
        ck_assert(i == 0 || p.mappings[i].start >= p.mappings[i - 1].end);
        ck_assert_uint_eq(p.mappings[i].last_epoch, UINT32_MAX); /* there now */
    }
    return p;
}

static void talk_tell(struct talk *t, uint32_t epoch, bool exec)
{
    talk_send(t, &(struct collector_message){.type = COLLECTOR_EPOCH, .u.epoch = {epoch, exec}});
}

static int talk_object(struct talk *t, uint32_t index)
{
    int fd = -1;

    talk_send(t, &(struct collector_message){.type = COLLECTOR_OBJECT, .u.object = {.index = index}});
    const struct collector_message *m = talk_expect(t, COLLECTOR_OBJECT, &fd);
    ck_assert_uint_eq(m->u.object.index, index);
    ck_assert_int_eq(m->u.object.error == 0, fd >= 0);
    return fd >= 0 ? fd : m->u.object.error;
}

START_TEST(test_lists_come_when_they_have_changed)
{
    struct mapper m = {.fd = {scratch_file("a.so", 'a'), scratch_file("b.so", 'b')}};
    struct puppet target = puppet_start(run_mapper, &m);
    struct talk *t = talk_new(target.pid, talk_asker(0));
    uint32_t exec_epoch;

    talk_start(t, collector_main);
    (void)talk_expect(t, COLLECTOR_READY, NULL);
    struct raw_profile p = talk_mappings(t, &exec_epoch);
    ck_assert_uint_eq(exec_epoch, 0);
    ck_assert_ptr_nonnull(program_in(&p, 0));
    ck_assert_ptr_nonnull(find_mapping(&p, "[vdso]", 0));
    ck_assert_ptr_null(find_mapping(&p, "/a.so", 0));
    raw_profile_close(&p);
    uint64_t before = code_bytes;
    ck_assert_uint_gt(before, 0);

    puppet_do(&target, 'a');
    talk_tell(t, 1, false);
    p = talk_mappings(t, &exec_epoch);
    ck_assert_uint_gt(code_bytes, before);
    ck_assert_ptr_nonnull(find_mapping(&p, "/a.so", 0));
    raw_profile_close(&p);

    puppet_do(&target, 'b'); /* in its place */
    talk_tell(t, 2, false);
    p = talk_mappings(t, &exec_epoch);
    ck_assert_ptr_null(find_mapping(&p, "/a.so", 0));
    const struct raw_mapping *b = find_mapping(&p, "/b.so", 0);
    ck_assert_uint_eq(b->start, (uint64_t)(uintptr_t)PLACE);
    uint32_t object = b->object;
    raw_profile_close(&p);

    talk_tell(t, 3, false); /* nothing has changed */
    int none = 0;
    const struct collector_message *same = talk_expect(t, COLLECTOR_MAPPINGS, &none);
    ck_assert_uint_eq(same->u.mappings.same, 1);
    ck_assert_uint_eq(same->u.mappings.epoch, 3);
    ck_assert_int_eq(none, -1);

    puppet_do(&target, 'u');
    talk_send(t, &(struct collector_message){.type = COLLECTOR_RECHECK}); /* it looks too, and tells before it answers */
    p = talk_mappings(t, &exec_epoch);
    ck_assert_ptr_null(find_mapping(&p, "/b.so", 0));
    ck_assert_uint_eq(talk_next_but(t, 0, NULL)->type, COLLECTOR_ACCESS);
    raw_profile_close(&p);
    /* Its file can still be had. */
    ck_assert(is_file(talk_object(t, object), inode_of(m.fd[1])));
    talk_free(t);
    puppet_end(&target);
    close(m.fd[0]);
    close(m.fd[1]);
}
END_TEST

START_TEST(test_objects)
{
    struct puppet target = puppet_start(run_mapper, &(struct mapper){.exe = "/proc/self/exe"});
    struct talk *t = talk_new(target.pid, talk_asker(0));
    struct stat st;
    uint32_t exec_epoch;
    char magic[4] = "";

    talk_start(t, collector_main);
    (void)talk_expect(t, COLLECTOR_READY, NULL);
    struct raw_profile p = talk_mappings(t, &exec_epoch);
    ck_assert_int_eq(stat("/proc/self/exe", &st), 0);
    ck_assert(is_file(talk_object(t, program_in(&p, 0)->object), st.st_ino));
    ck_assert_int_eq(talk_object(t, (uint32_t)p.n_objects), -ENOENT);
    ck_assert_int_eq(talk_object(t, 0x80000000), -ENOENT);
    AUTO_CLOSE int vdso = talk_object(t, COLLECTOR_OBJECT_VDSO);
    ck_assert_int_eq(pread(vdso, magic, 4, 0), 4);
    ck_assert_mem_eq(magic, "\177ELF", 4);
    raw_profile_close(&p);
    talk_free(t);
    puppet_end(&target);
}
END_TEST

START_TEST(test_a_list_is_of_its_exec)
{
    struct puppet target = puppet_start(run_mapper, &(struct mapper){.exe = "/proc/self/exe"});
    struct talk *t = talk_new(target.pid, talk_asker(0));
    uint32_t exec_epoch;

    talk_start(t, collector_main);
    (void)talk_expect(t, COLLECTOR_READY, NULL);
    struct raw_profile p = talk_mappings(t, &exec_epoch);
    raw_profile_close(&p);
    talk_tell(t, 4, false);
    puppet_do(&target, 'x');
    talk_tell(t, 5, true);
    ck_assert_int_eq(talk_expect(t, COLLECTOR_ACCESS, NULL)->u.access.status, 0);
    p = talk_mappings(t, &exec_epoch);
    ck_assert_uint_eq(exec_epoch, 5);
    ck_assert_ptr_nonnull(program_in(&p, 5));
    raw_profile_close(&p);
    /* The word of an exec comes late: what is there already was told as another exec's. It is told again. */
    talk_tell(t, 6, true);
    ck_assert_int_eq(talk_expect(t, COLLECTOR_ACCESS, NULL)->u.access.status, 0);
    p = talk_mappings(t, &exec_epoch);
    ck_assert_uint_eq(exec_epoch, 6);
    ck_assert_ptr_nonnull(program_in(&p, 6));
    raw_profile_close(&p);
    talk_free(t);
    puppet_end(&target);
}
END_TEST

START_TEST(test_a_denied_image_is_not_shown)
{
    if (getuid() != 0) {
        printf("skipped: only root has an image that others may not trace\n");
        return;
    }
    struct mapper m = {.exe = scratch_path("secret"), .uid = 60001};
    scratch_copy_self(m.exe);
    ck_assert_int_eq(chmod(m.exe, 0711), 0); /* who may not read it may not trace it */
    struct puppet target = puppet_start(run_mapper, &m);
    struct talk *t = talk_new(target.pid, talk_asker(60001));
    uint32_t exec_epoch;

    talk_start(t, collector_main);
    (void)talk_expect(t, COLLECTOR_READY, NULL);
    struct raw_profile p = talk_mappings(t, &exec_epoch);
    raw_profile_close(&p);
    puppet_do(&target, 'x');
    talk_tell(t, 4, true);
    ck_assert_int_eq(talk_expect(t, COLLECTOR_ACCESS, NULL)->u.access.status, 403);
    p = talk_mappings(t, &exec_epoch);
    ck_assert_uint_eq(exec_epoch, 4);
    ck_assert_uint_eq(p.n_mappings, 0);
    raw_profile_close(&p);
    talk_free(t);
    puppet_end(&target);
}
END_TEST

int main(int argc, char **argv)
{
    if (argc >= 4 && strcmp(argv[1], "puppet") == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        run_mapper(atoi(argv[2]), atoi(argv[3]), &(struct mapper){.exe = "/proc/self/exe"});
    }
    Suite *suite = suite_create("collector_mappings");
    TCase *tc = tcase_create("collector_mappings");
    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, scratch_make, scratch_remove);
    tcase_add_test(tc, test_lists_come_when_they_have_changed);
    tcase_add_test(tc, test_objects);
    tcase_add_test(tc, test_a_list_is_of_its_exec);
    tcase_add_test(tc, test_a_denied_image_is_not_shown);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
