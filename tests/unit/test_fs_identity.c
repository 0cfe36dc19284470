/* Opening with a target's rights, and having one's own back. Needs root. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/fs_identity.h"
#include "util/cleanup.h"

#define ALICE 60001u
#define FRIENDS 60007u

static char directory[64];

static int open_file(const char *name)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/%s", directory, name);
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    return fd < 0 ? -errno : 0;
}

static void make_file(const char *name, uid_t uid, gid_t gid, mode_t mode)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/%s", directory, name);
    AUTO_CLOSE int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fchown(fd, uid, gid), 0);
    ck_assert_int_eq(fchmod(fd, mode), 0);
}

static void make_files(void)
{
    strcpy(directory, "/tmp/test_fs_identity.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(directory));
    ck_assert_int_eq(chmod(directory, 0755), 0);
    make_file("all", 0, 0, 0644);
    make_file("roots", 0, 0, 0600);
    make_file("root_group", 0, 0, 0640);
    make_file("alices", ALICE, ALICE, 0600);
    make_file("alices_group", 0, ALICE, 0640);
    make_file("friends", 0, FRIENDS, 0640);
    make_file("nobodys", 60009, 60009, 0600);
}

static void remove_files(void)
{
    char command[128];
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", directory);
    ck_assert_int_eq(system(command), 0);
}

static struct target_status status_of(uid_t uid, gid_t gid)
{
    struct target_status s = {.group = {FRIENDS}, .n_groups = 1};
    for (int i = 0; i < TARGET_N_IDS; i++) {
        s.uid[i] = uid;
        s.gid[i] = gid;
    }
    return s;
}

START_TEST(test_rights_of_a_user)
{
    struct target_status s = status_of(ALICE, ALICE);
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct before[2], after[2];
    gid_t groups_before[64], groups_after[64];
    int n_before = getgroups(64, groups_before), death = 0;

    ck_assert_int_eq(syscall(SYS_capget, &header, before), 0);
    struct fs_identity *f = fs_identity_assume(&s);
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(open_file("all"), 0);
    ck_assert_int_eq(open_file("alices"), 0);
    ck_assert_int_eq(open_file("alices_group"), 0);
    ck_assert_int_eq(open_file("friends"), 0);
    ck_assert_int_eq(open_file("roots"), -EACCES);
    ck_assert_int_eq(open_file("root_group"), -EACCES);
    ck_assert_int_eq(open_file("nobodys"), -EACCES);
    ck_assert_uint_eq(getuid(), 0);
    ck_assert_uint_eq(geteuid(), 0);
    fs_identity_restore(f, getppid());
    ck_assert_int_eq(open_file("nobodys"), 0);
    ck_assert_int_eq(open_file("roots"), 0);
    ck_assert_int_eq(syscall(SYS_capget, &header, after), 0);
    ck_assert_mem_eq(before, after, sizeof(before));
    ck_assert_int_eq(getgroups(64, groups_after), n_before);
    ck_assert_mem_eq(groups_before, groups_after, (size_t)n_before * sizeof(gid_t));
    ck_assert_int_eq(setfsuid((uid_t)-1), 0);
    ck_assert_int_eq(prctl(PR_GET_PDEATHSIG, &death), 0);
    ck_assert_int_eq(death, SIGKILL); /* which the kernel forgot meanwhile */
    fs_identity_restore(NULL, getppid());
}
END_TEST

/* A target that is root reads as root does without any capability: what is root's, and what all may. */
START_TEST(test_rights_of_root)
{
    struct target_status s = status_of(0, 0);
    struct fs_identity *f = fs_identity_assume(&s);
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(open_file("roots"), 0);
    ck_assert_int_eq(open_file("nobodys"), -EACCES);
    fs_identity_restore(f, getppid());
    ck_assert_int_eq(open_file("nobodys"), 0);
}
END_TEST

/* A daemon that is not root, with capabilities that override permissions but none to change its ids. */
START_TEST(test_daemon_without_setuid)
{
    struct target_status s = status_of(ALICE, ALICE);
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct caps[2] = {{.permitted = 1u << CAP_DAC_READ_SEARCH, .effective = 1u << CAP_DAC_READ_SEARCH}};

    ck_assert_int_eq(prctl(PR_SET_KEEPCAPS, 1), 0);
    ck_assert_int_eq(setgroups(0, NULL), 0);
    ck_assert_int_eq(setresgid(60020, 60020, 60020), 0);
    ck_assert_int_eq(setresuid(60020, 60020, 60020), 0);
    ck_assert_int_eq(syscall(SYS_capset, &header, caps), 0);
    ck_assert_int_eq(open_file("roots"), 0);
    struct fs_identity *f = fs_identity_assume(&s);
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(open_file("all"), 0);
    ck_assert_int_eq(open_file("roots"), -EACCES);
    ck_assert_int_eq(open_file("alices"), -EACCES); /* less than the target may, never more */
    fs_identity_restore(f, getppid());
    ck_assert_int_eq(open_file("roots"), 0);
    ck_assert_int_eq(setresuid(60020, 60020, 60020), 0);
}
END_TEST

/* Whose parent is gone by then ends at once. */
START_TEST(test_parent_that_is_gone)
{
    struct target_status s = status_of(ALICE, ALICE);
    int status = 0;
    pid_t pid = fork();
    if (pid == 0) {
        fs_identity_restore(fs_identity_assume(&s), 1);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(WEXITSTATUS(status), EXIT_FAILURE);
}
END_TEST

int main(void)
{
    if (getuid() != 0) {
        fprintf(stderr, "skipped: only root can take others' rights\n");
        return 77; /* meson: skipped */
    }
    Suite *suite = suite_create("fs_identity");
    TCase *tc = tcase_create("fs_identity");
    tcase_add_unchecked_fixture(tc, make_files, remove_files);
    tcase_add_test(tc, test_rights_of_a_user);
    tcase_add_test(tc, test_rights_of_root);
    tcase_add_test(tc, test_daemon_without_setuid);
    tcase_add_test(tc, test_parent_that_is_gone);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
