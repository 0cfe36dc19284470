/* Which perf map is a target's: the rule of jit_files.c, file by file; and that collectors keep it. */
#include <errno.h>

#include "daemon/jit_files.h"
#include "tests/unit/mapper.h"

/* A root directory for targets; the process's number in it. */
#define OWN_PID 4711
#define MAP "root/tmp/perf-4711.map"
#define USER 60001

static struct target target = TARGET_INIT;
static struct target_status status;
static int root = -1;

static void setup(void)
{
    struct denial d;

    scratch_make();
    ck_assert_int_eq(mkdir(scratch_path("root"), 0755), 0);
    ck_assert_int_eq(mkdir(scratch_path("root/tmp"), 01777), 0);
    root = open(scratch_path("root"), O_PATH | O_DIRECTORY | O_CLOEXEC);
    ck_assert_int_ge(root, 0);
    ck_assert_int_eq(target_open(getpid(), &target, &d), 0);
    ck_assert_int_eq(target_refresh(&target, &status), 0);
    status.namespace_pid = OWN_PID;
}

static void teardown(void)
{
    target_deinit(&target);
    close_fd(&root);
    scratch_remove();
}

/* 0 or the error. */
static int try_open(void)
{
    AUTO_CLOSE int fd = jit_files_open_perf_map(&target, &status, root);
    return fd < 0 ? fd : 0;
}

static void put_map(uid_t uid, mode_t mode)
{
    AUTO_CLOSE int fd = scratch_file(MAP, 'm');
    ck_assert_int_eq(fchmod(fd, mode), 0);
    ck_assert_int_eq(fchown(fd, uid, (gid_t)-1), 0);
}

START_TEST(test_owners_and_modes)
{
    static const struct {
        uid_t uid;
        mode_t mode;
        uid_t target;
        int error;
    } cases[] = {
        {USER, 0600, USER, 0},      {USER, 0664, USER, 0},  {USER, 0666, USER, -EPERM}, {USER, 0602, USER, -EPERM},
        {0, 0644, USER, 0},         {0, 0604, USER, 0},     {0, 0600, USER, -EPERM},    {0, 0640, USER, -EPERM},
        {0, 0646, USER, -EPERM},    {0, 0600, 0, 0},        {USER, 0644, 0, -EPERM},    {USER + 1, 0644, USER, -EPERM},
    };
    if (getuid() != 0) {
        fprintf(stderr, "skipped: only root can give files away\n");
        return;
    }
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        put_map(cases[i].uid, cases[i].mode);
        status.uid[TARGET_EFFECTIVE] = cases[i].target;
        status.uid[TARGET_REAL] = status.uid[TARGET_SAVED] = status.uid[TARGET_FS] = 1; /* not what counts */
        ck_assert_msg(try_open() == cases[i].error, "case %zu: %d", i, try_open());
    }
}
END_TEST

START_TEST(test_types)
{
    ck_assert_int_eq(try_open(), -ENOENT);
    put_map(getuid(), 0644);
    ck_assert_int_eq(try_open(), 0);
    ck_assert_int_eq(rename(scratch_path(MAP), scratch_path("root/tmp/real")), 0);
    ck_assert_int_eq(symlink("real", scratch_path(MAP)), 0);
    ck_assert_int_eq(try_open(), -ELOOP);
    ck_assert_int_eq(unlink(scratch_path(MAP)), 0);
    ck_assert_int_eq(mkfifo(scratch_path(MAP), 0644), 0);
    ck_assert_int_eq(try_open(), -EINVAL);
    ck_assert_int_eq(unlink(scratch_path(MAP)), 0);
    ck_assert_int_eq(mkdir(scratch_path(MAP), 0755), 0);
    ck_assert_int_eq(try_open(), -EINVAL);
    ck_assert_int_eq(jit_files_open_perf_map(&target, &status, -1), -ENOENT);
}
END_TEST

/* Wherever links lead, it is within the target's root. */
START_TEST(test_links_of_directories)
{
    put_map(getuid(), 0644);
    ck_assert_int_eq(rename(scratch_path("root/tmp"), scratch_path("root/private")), 0);
    ck_assert_int_eq(symlink("/private", scratch_path("root/tmp")), 0);
    ck_assert_int_eq(try_open(), 0);
    ck_assert_int_eq(rename(scratch_path("root/private"), scratch_path("private")), 0);
    ck_assert_int_eq(try_open(), -ENOENT);
    ck_assert_int_eq(unlink(scratch_path("root/tmp")), 0);
    ck_assert_int_eq(symlink("../private", scratch_path("root/tmp")), 0);
    ck_assert_int_eq(try_open(), -ENOENT);
}
END_TEST

static void set_age(time_t seconds)
{
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = time(NULL) - seconds}};
    ck_assert_int_eq(utimensat(AT_FDCWD, scratch_path(MAP), times, 0), 0);
}

START_TEST(test_older_than_the_process)
{
    put_map(getuid(), 0644);
    set_age(1);
    ck_assert_int_eq(try_open(), 0); /* this process may be that young, but for the slack */
    set_age(3600 * 24 * 365);
    ck_assert_int_eq(try_open(), -ESTALE);
    set_age(-3600);
    ck_assert_int_eq(try_open(), 0);
}
END_TEST

START_TEST(test_whose_number)
{
    put_map(getuid(), 0644);
    status.namespace_pid = 0; /* an old kernel does not say */
    status.tgid = OWN_PID;
    ck_assert_int_eq(try_open(), 0);
    status.tgid = OWN_PID + 1;
    ck_assert_int_eq(try_open(), -ENOENT);
}
END_TEST

START_TEST(test_names_of_jitdumps)
{
    ck_assert(jit_files_is_jitdump(&status, "/jit-4711.dump"));
    ck_assert(jit_files_is_jitdump(&status, "/home/x/.debug/jit/jit-4711.dump"));
    ck_assert(!jit_files_is_jitdump(&status, "jit-4711.dump"));
    ck_assert(!jit_files_is_jitdump(&status, "/tmp/jit-4712.dump"));
    ck_assert(!jit_files_is_jitdump(&status, "/tmp/jit-4711.dump2"));
    ck_assert(!jit_files_is_jitdump(&status, "/tmp/xjit-4711.dump"));
    ck_assert(!jit_files_is_jitdump(&status, "/jit-4711.dump/x"));
}
END_TEST

/* ---- the collector */

static const char *own_map(pid_t pid)
{
    static char path[64];
    (void)snprintf(path, sizeof(path), "/tmp/perf-%d.map", pid);
    return path;
}

START_TEST(test_collector)
{
    char name[64];
    struct mapper m = {.exe = "/proc/self/exe"};
    struct puppet puppet = puppet_start(run_mapper, &m);
    (void)snprintf(name, sizeof(name), "jit-%d.dump", puppet.pid);
    puppet_end(&puppet);
    /* The next one has another number: its dump is not the one that it maps. */
    m.fd[0] = scratch_file(name, 'j');
    puppet = puppet_start(run_mapper, &m);
    puppet_do(&puppet, 'a');
    struct talk *t = talk_new(puppet.pid, talk_asker((int)getuid()));
    talk_start(t, collector_main);
    (void)talk_expect(t, COLLECTOR_READY, NULL);
    ck_assert_int_eq(talk_file_of_kind(t, WORKER_FILE_PERF_MAP, 0, ""), -ENOENT);
    int map = open(own_map(puppet.pid), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    ck_assert_int_ge(map, 0);
    ck_assert_int_eq(fchmod(map, 0644), 0);
    int fd = talk_file_of_kind(t, WORKER_FILE_PERF_MAP, 0, "");
    ck_assert_int_ge(fd, 0);
    ck_assert_uint_eq(inode_of(fd), inode_of(map));
    ck_assert_int_eq(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
    close(fd);
    ck_assert_int_eq(unlink(own_map(puppet.pid)), 0);
    struct raw_profile p = talk_finish(t);
    const struct raw_mapping *dump = find_mapping(&p, name, 0);
    ck_assert_ptr_nonnull(dump);
    ck_assert_int_eq(talk_file_of_kind(t, WORKER_FILE_JITDUMP, dump->object, ""), -ENOENT);
    ck_assert_int_eq(talk_file_of_kind(t, WORKER_FILE_JITDUMP, 9999, ""), -ENOENT);
    raw_profile_close(&p);
    talk_free(t);
    puppet_end(&puppet);
    close(map);
    close(m.fd[0]);
}
END_TEST

static void run_dumper(int in, int out, void *arg)
{
    char name[128];
    (void)snprintf(name, sizeof(name), "%s/jit-%d.dump", (const char *)arg, getpid());
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, 4096) < 0)
        _exit(1);
    run_mapper(in, out, &(struct mapper){.fd = {fd, -1}});
}

START_TEST(test_collector_of_its_own_dump)
{
    struct puppet puppet = puppet_start(run_dumper, scratch);
    struct talk *t = talk_new(puppet.pid, talk_asker((int)getuid()));
    puppet_do(&puppet, 'a');
    talk_start(t, collector_main);
    (void)talk_expect(t, COLLECTOR_READY, NULL);
    struct raw_profile p = talk_finish(t);
    const struct raw_mapping *dump = find_mapping(&p, ".dump", 0);
    ck_assert_ptr_nonnull(dump);
    int fd = talk_file_of_kind(t, WORKER_FILE_JITDUMP, dump->object, "");
    ck_assert_int_ge(fd, 0);
    close(fd);
    raw_profile_close(&p);
    talk_free(t);
    puppet_end(&puppet);
}
END_TEST

int main(int argc, char **argv)
{
    Suite *suite = suite_create("jit_files");
    TCase *tc = tcase_create("jit_files");
    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, test_owners_and_modes);
    tcase_add_test(tc, test_types);
    tcase_add_test(tc, test_links_of_directories);
    tcase_add_test(tc, test_older_than_the_process);
    tcase_add_test(tc, test_whose_number);
    tcase_add_test(tc, test_names_of_jitdumps);
    tcase_add_test(tc, test_collector);
    tcase_add_test(tc, test_collector_of_its_own_dump);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
