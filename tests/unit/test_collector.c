/* Conversations with a collector, about real processes. With the arguments "puppet IN OUT" it is a target that has exec'd; with the
 * path of the program mmap_lock, a target that holds its memory lock is one more. */
#include <poll.h>

#include "tests/unit/mapper.h"

static const char *mmap_lock_program; /* NULL: was not built */

/* ---- the beginning */

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

START_TEST(test_denied)
{
    struct puppet target = puppet_start(puppet_idle, NULL);
    struct talk *t = talk_new(target.pid, talk_asker(-1));
    talk_start(t, collector_main);
    const struct collector_message *m = talk_expect(t, COLLECTOR_DENIED, NULL);
    ck_assert_int_eq(m->u.denied.status, 403);
    ck_assert_ptr_null(talk_next(t, NULL));
    ck_assert(t->ended && !t->timed_out);
    talk_free(t);

    t = talk_new(target.pid, talk_asker(60001));
    talk_start(t, collector_main);
    m = talk_expect(t, COLLECTOR_DENIED, NULL);
    ck_assert_int_eq(m->u.denied.status, 403);
    ck_assert_ptr_nonnull(strstr(m->u.denied.message, "cprofd.conf"));
    talk_free(t);
    puppet_end(&target);

    t = talk_new(target.pid, talk_asker(0));
    talk_start(t, collector_main);
    ck_assert_int_eq(talk_expect(t, COLLECTOR_DENIED, NULL)->u.denied.status, 404);
    talk_free(t);
}
END_TEST

START_TEST(test_thread_that_is_not_the_targets)
{
    struct puppet target = puppet_start(puppet_idle, NULL);
    struct talk *t = talk_new(target.pid, talk_asker(0));
    t->request.tid = getpid();
    talk_start(t, collector_main);
    const struct collector_message *m = talk_expect(t, COLLECTOR_DENIED, NULL);
    ck_assert_int_eq(m->u.denied.status, 404);
    ck_assert_ptr_nonnull(strstr(m->u.denied.message, "no thread"));
    talk_free(t);
    t = talk_new(target.pid, talk_asker(0));
    t->request.tid = target.pid;
    t->request.mappings = false;
    talk_start(t, collector_main);
    (void)talk_expect(t, COLLECTOR_READY, NULL);
    ck_assert_ptr_null(talk_next(t, NULL)); /* without mappings, that is all */
    talk_free(t);
    puppet_end(&target);
}
END_TEST

START_TEST(test_malformed_messages_end_it)
{
    static const uint32_t types[] = {0, COLLECTOR_READY, COLLECTOR_DENIED, COLLECTOR_ACCESS, COLLECTOR_TABLE, 99};
    struct puppet target = puppet_start(puppet_idle, NULL);
    for (size_t i = 0; i <= sizeof(types) / sizeof(types[0]); i++) {
        struct talk *t = talk_new(target.pid, talk_asker(0));
        talk_start(t, collector_main);
        (void)talk_expect(t, COLLECTOR_READY, NULL);
        if (i < sizeof(types) / sizeof(types[0]))
            talk_send(t, &(struct collector_message){.type = types[i]});
        else
            ck_assert_int_eq(child_send(t->child, "short", 5, NULL, 0), 0);
        ck_assert_ptr_null(talk_next(t, NULL));
        talk_free(t);
    }
    puppet_end(&target);
}
END_TEST

/* ---- epochs */

START_TEST(test_epochs_of_mappings)
{
    struct mapper m = {.fd = {scratch_file("a.so", 'a'), scratch_file("b.so", 'b')}};
    struct puppet target = puppet_start(run_mapper, &m);
    struct talk *t = talk_new(target.pid, talk_asker(0));

    talk_start(t, collector_main);
    (void)talk_expect(t, COLLECTOR_READY, NULL);
    puppet_do(&target, 'a');
    talk_epoch(t, 1, false);
    puppet_do(&target, 'u');
    talk_epoch(t, 2, false);
    puppet_do(&target, 'b');
    talk_epoch(t, 3, false);
    puppet_do(&target, 'a');
    talk_epoch(t, 4, false);
    puppet_do(&target, '0');
    talk_epoch(t, 7, false);
    unlink(scratch_path("a.so"));
    struct raw_profile p = talk_finish(t);
    const struct raw_mapping *a = find_mapping(&p, "/a.so", 0);
    check_epochs(a, 1, 1);
    check_epochs(find_mapping(&p, "/a.so", 1), 4, 6);
    ck_assert_ptr_null(find_mapping(&p, "/a.so", 2));
    check_epochs(find_mapping(&p, "/b.so", 0), 3, 3);
    check_epochs(find_mapping(&p, "//anon", 0), 7, UINT32_MAX);
    check_epochs(find_mapping(&p, "/test_collector", 0), 0, UINT32_MAX);
    ck_assert_uint_eq(a->object, find_mapping(&p, "/a.so", 1)->object); /* one file, one object */
    ck_assert_uint_eq(a->start, (uint64_t)(uintptr_t)PLACE);
    ck_assert_uint_eq(a->end - a->start, PLACE_BYTES);
    /* Files are there although nothing maps them any more, and one of them has no name either. */
    ck_assert(is_file(talk_file_of_kind(t, WORKER_FILE_OBJECT, a->object, ""), inode_of(m.fd[0])));
    puppet_end(&target);
    ck_assert(is_file(talk_file_of_kind(t, WORKER_FILE_OBJECT, find_mapping(&p, "/b.so", 0)->object, ""), inode_of(m.fd[1])));
    raw_profile_close(&p);
    talk_free(t);
    close(m.fd[0]);
    close(m.fd[1]);
}
END_TEST

/* Several changes are told before the first is looked at: one look stands for all. */
START_TEST(test_epochs_told_together)
{
    struct mapper m = {.fd = {scratch_file("a.so", 'a'), scratch_file("b.so", 'b')}};
    struct puppet target = puppet_start(run_mapper, &m);
    struct talk *t = talk_new(target.pid, talk_asker(0));

    talk_start(t, collector_main);
    (void)talk_expect(t, COLLECTOR_READY, NULL);
    puppet_do(&target, 'a');
    for (uint32_t epoch = 1; epoch < 30; epoch++)
        talk_send(t, &(struct collector_message){.type = COLLECTOR_EPOCH, .u.epoch = {epoch, 0}});
    talk_epoch(t, 30, false);
    talk_epoch(t, 5, false); /* an old one is nothing new */
    struct raw_profile p = talk_finish(t);
    check_epochs(find_mapping(&p, "/a.so", 0), 1, UINT32_MAX);
    raw_profile_close(&p);
    talk_free(t);
    puppet_end(&target);
    close(m.fd[0]);
    close(m.fd[1]);
}
END_TEST

/* What changed without a word before the end is seen by the last look. */
START_TEST(test_last_look)
{
    struct mapper m = {.fd = {scratch_file("a.so", 'a'), scratch_file("b.so", 'b')}};

    for (int replaced = 0; replaced < 2; replaced++) {
        struct puppet target = puppet_start(run_mapper, &m);
        struct talk *t = talk_new(target.pid, talk_asker(0));
        if (replaced)
            puppet_do(&target, 'a');
        talk_start(t, collector_main);
        (void)talk_expect(t, COLLECTOR_READY, NULL);
        talk_epoch(t, 5, false);
        puppet_do(&target, 'b');
        struct raw_profile p = talk_finish(t);
        /* Where one took the place of another, the epoch that nobody told of divides them. */
        check_epochs(find_mapping(&p, "/b.so", 0), replaced ? 6 : 5, UINT32_MAX);
        if (replaced)
            check_epochs(find_mapping(&p, "/a.so", 0), 0, 5);
        raw_profile_close(&p);
        talk_free(t);
        puppet_end(&target);
    }
    close(m.fd[0]);
    close(m.fd[1]);
}
END_TEST

START_TEST(test_target_that_ends)
{
    struct puppet target = puppet_start(puppet_idle, NULL);
    struct talk *t = talk_new(target.pid, talk_asker(0));
    talk_start(t, collector_main);
    (void)talk_expect(t, COLLECTOR_READY, NULL);
    puppet_end(&target);
    ck_assert_int_eq(talk_recheck(t)->u.access.status, 404);
    talk_send(t, &(struct collector_message){.type = COLLECTOR_EPOCH, .u.epoch = {1, 0}});
    struct raw_profile p = talk_finish(t);
    const struct raw_mapping *m = find_mapping(&p, "/test_collector", 0);
    check_epochs(m, 0, UINT32_MAX);
    int fd = talk_file_of_kind(t, WORKER_FILE_OBJECT, m->object, "");
    ck_assert_int_ge(fd, 0);
    close(fd);
    ck_assert_int_eq(talk_file_of_kind(t, WORKER_FILE_PATH, 0, ""), -ESRCH);
    raw_profile_close(&p);
    talk_free(t);
}
END_TEST

/* ---- size, and targets that do not answer */

/* Every other page executable: none is merged with its neighbour. */
static void run_many_mappings(int in, int out, void *arg)
{
    size_t n = *(size_t *)arg;
    char *at = mmap(NULL, 2 * n * 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    for (size_t i = 0; i < n; i++)
        if (mprotect(at + 2 * i * 4096, 4096, PROT_READ | PROT_EXEC) < 0)
            _exit(1);
    puppet_idle(in, out, NULL);
}

START_TEST(test_many_mappings)
{
    size_t n = 30000; /* twice that many lines: the kernel's default allows 65,530 */
    struct puppet target = puppet_start(run_many_mappings, &n);
    struct talk *t = talk_new(target.pid, talk_asker(0));
    talk_start(t, collector_main);
    (void)talk_expect(t, COLLECTOR_READY, NULL);
    talk_epoch(t, 1, false);
    struct raw_profile p = talk_finish(t);
    size_t seen = 0;
    for (size_t i = 0; i < p.n_mappings; i++) {
        const struct raw_mapping *m = &p.mappings[i];
        seen += m->object == RAW_NO_OBJECT && strcmp(raw_profile_string(&p, m->name), "//anon") == 0;
        check_epochs(m, 0, UINT32_MAX);
        ck_assert(i == 0 || p.mappings[i - 1].end <= m->start);
    }
    ck_assert_uint_ge(seen, n);
    raw_profile_close(&p);
    talk_free(t);
    puppet_end(&target);
}
END_TEST

/* Its command line can never be read. (Its mappings can, by kernels that take no lock for them.) */
START_TEST(test_target_that_never_answers)
{
    int out[2];
    char byte;
    if (!mmap_lock_program || getuid() != 0 || access("/dev/fuse", R_OK | W_OK) < 0) {
        fprintf(stderr, "skipped: needs root, /dev/fuse and the program mmap_lock\n");
        return;
    }
    ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        (void)setpgid(0, 0);
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        (void)dup2(out[1], STDOUT_FILENO);
        execl(mmap_lock_program, mmap_lock_program, NULL);
        _exit(1);
    }
    close(out[1]);
    if (read(out[0], &byte, 1) == 1) {
        struct talk *t = talk_new(pid, talk_asker(0));
        talk_start(t, cmdline_main);
        child_set_deadline(t->child, 300 * NSEC_PER_MSEC);
        ck_assert_ptr_null(talk_next(t, NULL));
        ck_assert(t->ended && t->timed_out);
        /* A bystander is not held up. */
        struct puppet target = puppet_start(puppet_idle, NULL);
        struct talk *other = talk_new(target.pid, talk_asker(0));
        talk_start(other, collector_main);
        (void)talk_expect(other, COLLECTOR_READY, NULL);
        talk_free(other);
        puppet_end(&target);
        talk_free(t);
    } else {
        fprintf(stderr, "skipped: mmap_lock could not hold its lock\n");
    }
    (void)kill(-pid, SIGKILL);
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, NULL, 0);
    close(out[0]);
}
END_TEST

static int hang_for_good(int sock, void *arg)
{
    for (;;)
        (void)poll(NULL, 0, -1);
    return 0;
}

START_TEST(test_deadline)
{
    struct talk *t = talk_new(getpid(), talk_asker(0));
    talk_start(t, hang_for_good);
    child_set_deadline(t->child, 20 * NSEC_PER_MSEC);
    ck_assert_ptr_null(talk_next(t, NULL));
    ck_assert(t->timed_out);
    talk_free(t);
}
END_TEST

/* ---- lists */

static char *body_text(struct talk *t, size_t *ret_len)
{
    int fd = -1;
    struct stat st;
    (void)talk_expect(t, COLLECTOR_TABLE, &fd);
    ck_assert_int_eq(fstat(fd, &st), 0);
    char *text = calloc(1, (size_t)st.st_size + 1);
    ck_assert_int_eq(pread(fd, text, (size_t)st.st_size, 0), st.st_size);
    *ret_len = (size_t)st.st_size;
    close(fd);
    ck_assert_ptr_null(talk_next(t, NULL));
    return text;
}

START_TEST(test_cmdline)
{
    struct mapper m = {.exe = "/proc/self/exe"};
    struct puppet target = puppet_start(run_mapper, &m);
    size_t len;
    puppet_do(&target, 'x');
    struct talk *t = talk_new(target.pid, talk_asker(0));
    talk_start(t, cmdline_main);
    ck_assert_int_eq(talk_expect(t, COLLECTOR_READY, NULL)->u.ready.pid, target.pid);
    char *text = body_text(t, &len);
    static const char start[] = "puppet with spaces\0puppet\0";
    ck_assert_mem_eq(text, start, sizeof(start) - 1);
    ck_assert_int_eq(text[len - 1], '\0'); /* the last argument is empty: the NUL that ends it is gone, the one before it stands */
    ck_assert_int_ne(text[len - 2], '\0');
    free(text);
    talk_free(t);

    t = talk_new(target.pid, talk_asker(60001));
    talk_start(t, cmdline_main);
    ck_assert_int_eq(talk_expect(t, COLLECTOR_DENIED, NULL)->u.denied.status, 403);
    talk_free(t);
    puppet_end(&target);
    t = talk_new(target.pid, talk_asker(0));
    talk_start(t, cmdline_main);
    ck_assert_int_eq(talk_expect(t, COLLECTOR_DENIED, NULL)->u.denied.status, 404);
    talk_free(t);
}
END_TEST

static bool lists(const struct process_entry *entries, size_t n, pid_t pid)
{
    for (size_t i = 0; i < n; i++) {
        if (entries[i].pid != pid)
            continue;
        ck_assert_str_eq(entries[i].comm, "test_collector");
        ck_assert_ptr_nonnull(strstr(entries[i].exe, "/test_collector"));
        return true;
    }
    return false;
}

START_TEST(test_processes)
{
    struct mapper alices = {.uid = 60001}, bobs = {.uid = 60002};
    size_t len;
    if (getuid() != 0) {
        fprintf(stderr, "skipped: only root can start processes as other users\n");
        return;
    }
    struct puppet alice = puppet_start(run_mapper, &alices), bob = puppet_start(run_mapper, &bobs);
    for (int asker = 0; asker <= 60002; asker += asker ? 1 : 60001) {
        struct talk *t = talk_new(0, talk_asker(asker));
        talk_start(t, processes_main);
        (void)talk_expect(t, COLLECTOR_READY, NULL);
        struct process_entry *entries = (struct process_entry *)body_text(t, &len);
        size_t n = len / sizeof(*entries);
        ck_assert_uint_eq(len % sizeof(*entries), 0);
        ck_assert(lists(entries, n, alice.pid) == (asker != 60002));
        ck_assert(lists(entries, n, bob.pid) == (asker != 60001));
        ck_assert(lists(entries, n, getpid()) == (asker == 0));
        for (size_t i = 0; i < n; i++) {
            ck_assert(asker == 0 || entries[i].uid == (uid_t)asker);
            ck_assert_int_ne(entries[i].pid, 2); /* no threads of the kernel */
        }
        free(entries);
        talk_free(t);
    }
    struct talk *t = talk_new(0, talk_asker(-1));
    talk_start(t, processes_main);
    ck_assert_int_eq(talk_expect(t, COLLECTOR_DENIED, NULL)->u.denied.status, 403);
    talk_free(t);
    puppet_end(&alice);
    puppet_end(&bob);
}
END_TEST

int main(int argc, char **argv)
{
    if (argc >= 4 && strcmp(argv[1], "puppet") == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        run_mapper(atoi(argv[2]), atoi(argv[3]), &(struct mapper){.exe = "/proc/self/exe"});
    }
    mmap_lock_program = argc > 1 ? argv[1] : NULL;
    Suite *suite = suite_create("collector");
    TCase *tc = tcase_create("collector");
    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, scratch_make, scratch_remove);
    tcase_add_test(tc, test_ready_and_table);
    tcase_add_test(tc, test_denied);
    tcase_add_test(tc, test_thread_that_is_not_the_targets);
    tcase_add_test(tc, test_malformed_messages_end_it);
    tcase_add_test(tc, test_epochs_of_mappings);
    tcase_add_test(tc, test_epochs_told_together);
    tcase_add_test(tc, test_last_look);
    tcase_add_test(tc, test_target_that_ends);
    tcase_add_test(tc, test_many_mappings);
    tcase_add_test(tc, test_target_that_never_answers);
    tcase_add_test(tc, test_deadline);
    tcase_add_test(tc, test_cmdline);
    tcase_add_test(tc, test_processes);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
