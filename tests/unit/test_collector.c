/* Conversations with a collector, about real processes. */
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "daemon/raw_profile.h"
#include "tests/unit/talk.h"

/* ---- helpers */

static struct raw_profile talk_finish(struct talk *t)
{
    struct raw_profile p;
    int fd = -1;
    AUTO_CLOSE int whole = -1;

    talk_send(t, &(struct collector_message){.type = COLLECTOR_FINISH});
    (void)talk_expect(t, COLLECTOR_TABLE, &fd);
    ck_assert_int_ge(fd, 0);
    struct raw_writer *w = raw_writer_new();
    struct raw_params params = {.period = 1};
    ck_assert_int_eq(raw_writer_section(w, RAW_PARAMS, &params, sizeof(params)), 0);
    ck_assert_int_eq(raw_writer_append(w, fd), 0);
    whole = raw_writer_finish(w);
    raw_writer_free(w);
    close(fd);
    ck_assert_int_eq(raw_profile_open(whole, &p), 0);
    return p;
}

static const char *object_path(const struct raw_profile *p, const struct raw_mapping *m)
{
    return m->object == RAW_NO_OBJECT ? "" : raw_profile_string(p, p->objects[m->object].path);
}

/* The mapping of a file or name whose text ends so, the n-th in the table's order. */
static const struct raw_mapping *find_mapping(const struct raw_profile *p, const char *suffix, size_t n)
{
    for (size_t i = 0; i < p->n_mappings; i++) {
        const struct raw_mapping *m = &p->mappings[i];
        const char *text = m->object == RAW_NO_OBJECT ? raw_profile_string(p, m->name) : object_path(p, m);
        size_t len = strlen(text), suffix_len = strlen(suffix);
        if (len >= suffix_len && strcmp(text + len - suffix_len, suffix) == 0 && n-- == 0)
            return m;
    }
    return NULL;
}

/* ---- tests */

START_TEST(test_ready_and_table)
{
    struct puppet target = puppet_start(puppet_idle, NULL);
    struct talk *t = talk_new(target.pid, talk_asker(0));
    char exe[4096] = {0};

    ck_assert_int_gt(readlink("/proc/self/exe", exe, sizeof(exe) - 1), 0);
    talk_start(t, collector_main);
    const struct collector_message *m = talk_expect(t, COLLECTOR_READY, NULL);
    ck_assert_int_eq(m->u.ready.pid, target.pid);
    ck_assert_uint_eq(m->u.ready.uid, getuid());
    ck_assert_uint_gt(m->u.ready.start_ticks, 0);
    ck_assert_str_eq(m->u.ready.exe, exe);
    ck_assert_str_eq(m->u.ready.comm, "test_collector");
    struct raw_profile p = talk_finish(t);
    const struct raw_mapping *program = find_mapping(&p, "/test_collector", 0);
    ck_assert_ptr_nonnull(program);
    ck_assert_uint_eq(program->main_binary, 1);
    ck_assert_uint_eq(program->first_epoch, 0);
    ck_assert_uint_eq(program->last_epoch, UINT32_MAX);
    ck_assert_str_eq(object_path(&p, program), exe);
    ck_assert_uint_eq(p.objects[program->object].available, 1);
    struct stat st;
    ck_assert_int_eq(stat(exe, &st), 0);
    ck_assert_uint_eq(p.objects[program->object].id.ino, st.st_ino);
    ck_assert_uint_eq(p.objects[program->object].id.dev, st.st_dev);
    const struct raw_mapping *libc = find_mapping(&p, "/libc.so.6", 0);
    ck_assert_ptr_nonnull(libc);
    ck_assert_uint_eq(libc->main_binary, 0);
    ck_assert_ptr_nonnull(find_mapping(&p, "[vdso]", 0));
    raw_profile_close(&p);
    talk_free(t);
    puppet_end(&target);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("collector");
    TCase *tc = tcase_create("collector");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, test_ready_and_table);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
