/* The files that a collector opens: of hostile names, deleted, in containers, on overlays, and those that it must not open. */
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>

#include "tests/unit/mapper.h"

/* ---- files */

/* A program whose file is gone, or replaced, is found all the same. */
START_TEST(test_deleted_program)
{
    for (int replaced = 0; replaced < 2; replaced++) {
        struct mapper m = {.exe = scratch_path("gone")};
        struct stat st;
        scratch_copy_self(m.exe);
        ck_assert_int_eq(stat(m.exe, &st), 0);
        struct puppet target = puppet_start(run_mapper, &m);
        puppet_do(&target, 'x');
        ck_assert_int_eq(unlink(m.exe), 0);
        if (replaced)
            scratch_copy_self(m.exe);
        struct talk *t = talk_new(target.pid, talk_asker(0));
        talk_start(t, collector_main);
        (void)talk_expect(t, COLLECTOR_READY, NULL);
        ck_assert(is_file(talk_file_of_kind(t, WORKER_FILE_PATH, 0, ""), st.st_ino));
        struct raw_profile p = talk_finish(t);
        const struct raw_mapping *program = program_in(&p, 0);
        ck_assert_ptr_nonnull(program);
        ck_assert_str_eq(object_path(&p, program), m.exe);
        ck_assert_uint_eq(p.objects[program->object].deleted, 1);
        ck_assert_uint_eq(p.objects[program->object].available, 1);
        ck_assert(is_file(talk_file_of_kind(t, WORKER_FILE_OBJECT, program->object, ""), st.st_ino));
        raw_profile_close(&p);
        talk_free(t);
        puppet_end(&target);
    }
}
END_TEST

/* Names that look like something else. */
START_TEST(test_hostile_names)
{
    static const struct { const char *name; bool unlinked; } files[] = {
        {"really (deleted)", false}, {"really (deleted)", true}, {"two\nlines", false}, {"two\nlines", true}, {" blank ", false},
        {"\xff\xfe", false}, {"[vdso]", false}, {"55d0c0a00000-55d0c0a28000 r-xp", false}, {"back\\slash", false},
    };
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        struct mapper m = {.fd = {scratch_file(files[i].name, 'x'), -1}};
        struct puppet target = puppet_start(run_mapper, &m);
        struct talk *t = talk_new(target.pid, talk_asker(0));
        puppet_do(&target, 'a');
        if (files[i].unlinked)
            unlink(scratch_path(files[i].name));
        talk_start(t, collector_main);
        (void)talk_expect(t, COLLECTOR_READY, NULL);
        struct raw_profile p = talk_finish(t);
        const struct raw_mapping *found = find_mapping(&p, scratch_path(files[i].name), 0);
        ck_assert_msg(found != NULL, "%s", files[i].name);
        ck_assert_uint_eq(p.objects[found->object].deleted, files[i].unlinked);
        ck_assert_uint_eq(p.objects[found->object].available, 1);
        ck_assert_uint_eq(p.objects[found->object].id.size, PLACE_BYTES);
        ck_assert(is_file(talk_file_of_kind(t, WORKER_FILE_OBJECT, found->object, ""), inode_of(m.fd[0])));
        raw_profile_close(&p);
        talk_free(t);
        puppet_end(&target);
        close(m.fd[0]);
        unlink(scratch_path(files[i].name));
    }
}
END_TEST

START_TEST(test_memfd_and_device)
{
    struct mapper m = {.fd = {memfd_create("jit code", MFD_CLOEXEC), open("/dev/zero", O_RDONLY | O_CLOEXEC)}};
    ck_assert_int_eq(ftruncate(m.fd[0], PLACE_BYTES), 0);
    struct puppet target = puppet_start(run_mapper, &m);
    struct talk *t = talk_new(target.pid, talk_asker(0));
    puppet_do(&target, 'a');
    talk_start(t, collector_main);
    (void)talk_expect(t, COLLECTOR_READY, NULL);
    puppet_do(&target, 'b');
    talk_epoch(t, 1, false);
    struct raw_profile p = talk_finish(t);
    const struct raw_mapping *memfd = find_mapping(&p, "/memfd:jit code", 0), *zero = find_mapping(&p, "/dev/zero", 0);
    check_epochs(memfd, 0, 0);
    check_epochs(zero, 1, UINT32_MAX);
    ck_assert_uint_eq(p.objects[memfd->object].available, 1);
    ck_assert_uint_eq(p.objects[zero->object].available, 0); /* a device is never opened */
    ck_assert_int_eq(talk_file_of_kind(t, WORKER_FILE_OBJECT, zero->object, ""), -ENOENT);
    raw_profile_close(&p);
    talk_free(t);
    puppet_end(&target);
    close(m.fd[0]);
    close(m.fd[1]);
}
END_TEST

/* The loop asks for a probe's file by the name that the target knows. */
START_TEST(test_path)
{
    struct puppet target = puppet_start(puppet_idle, NULL);
    struct talk *t = talk_new(target.pid, talk_asker(0));
    int file = scratch_file("lib.so", 'l');
    ck_assert_int_eq(mkfifo(scratch_path("fifo"), 0644), 0);
    ck_assert_int_eq(symlink("lib.so", scratch_path("link")), 0);
    talk_start(t, collector_main);
    (void)talk_expect(t, COLLECTOR_READY, NULL);
    ck_assert(is_file(talk_file_of_kind(t, WORKER_FILE_PATH, 0, scratch_path("lib.so")), inode_of(file)));
    ck_assert(is_file(talk_file_of_kind(t, WORKER_FILE_PATH, 0, scratch_path("link")), inode_of(file)));
    ck_assert_int_eq(talk_file_of_kind(t, WORKER_FILE_PATH, 0, scratch_path("fifo")), -EINVAL);
    ck_assert_int_eq(talk_file_of_kind(t, WORKER_FILE_PATH, 0, scratch), -EINVAL);
    ck_assert_int_eq(talk_file_of_kind(t, WORKER_FILE_PATH, 0, "/dev/null"), -EINVAL);
    ck_assert_int_eq(talk_file_of_kind(t, WORKER_FILE_PATH, 0, scratch_path("none")), -ENOENT);
    ck_assert_int_eq(talk_file_of_kind(t, WORKER_FILE_PATH, 0, "lib.so"), -ENOENT); /* a name alone is of what is mapped */
    ck_assert_int_eq(talk_file_of_kind(t, WORKER_FILE_PATH, 0, "in/lib.so"), -EINVAL);
    ck_assert_int_eq(talk_file_of_kind(t, WORKER_FILE_PATH, 0, "/proc/self/exe"), -ELOOP); /* no magic links */
    talk_free(t);
    puppet_end(&target);
    close(file);
}
END_TEST

/* What is mapped under a name comes before what has the name now. */
START_TEST(test_path_of_what_is_mapped)
{
    if (getuid() != 0) {
        fprintf(stderr, "skipped: map_files needs root\n");
        return;
    }
    struct mapper m = {.fd = {scratch_file("lib.so", 'm'), -1}};
    struct puppet target = puppet_start(run_mapper, &m);
    struct talk *t = talk_new(target.pid, talk_asker(0));

    puppet_do(&target, 'a');
    ck_assert_int_eq(unlink(scratch_path("lib.so")), 0);
    int other = scratch_file("lib.so", 'o');
    talk_start(t, collector_main);
    (void)talk_expect(t, COLLECTOR_READY, NULL);
    ck_assert(is_file(talk_file_of_kind(t, WORKER_FILE_PATH, 0, scratch_path("lib.so")), inode_of(m.fd[0])));
    puppet_do(&target, 'u');
    talk_epoch(t, 1, false);
    ck_assert(is_file(talk_file_of_kind(t, WORKER_FILE_PATH, 0, scratch_path("lib.so")), inode_of(other)));
    talk_free(t);
    puppet_end(&target);
    close(m.fd[0]);
    close(other);
}
END_TEST

/* What the target may not read is not read for it. */
START_TEST(test_path_with_the_targets_rights)
{
    if (getuid() != 0) {
        fprintf(stderr, "skipped: only root can start processes as other users\n");
        return;
    }
    struct mapper m = {.uid = 60001};
    int secret = scratch_file("secret", 's'), own = scratch_file("own", 'o');
    ck_assert_int_eq(fchmod(secret, 0600), 0);
    ck_assert_int_eq(fchmod(own, 0600), 0);
    ck_assert_int_eq(fchown(own, 60001, 60001), 0);
    struct puppet target = puppet_start(run_mapper, &m);
    struct talk *t = talk_new(target.pid, talk_asker(0));
    talk_start(t, collector_main);
    (void)talk_expect(t, COLLECTOR_READY, NULL);
    ck_assert_int_eq(talk_file_of_kind(t, WORKER_FILE_PATH, 0, scratch_path("secret")), -EACCES);
    ck_assert(is_file(talk_file_of_kind(t, WORKER_FILE_PATH, 0, scratch_path("own")), inode_of(own)));
    struct raw_profile p = talk_finish(t); /* its own rights are back: the last look succeeds */
    ck_assert_ptr_nonnull(program_in(&p, 0));
    raw_profile_close(&p);
    talk_free(t);
    puppet_end(&target);
    close(secret);
    close(own);
}
END_TEST

START_TEST(test_files_of_the_kernel)
{
    struct puppet target = puppet_start(puppet_idle, NULL);
    char text[4];
    for (int kernel = 0; kernel < 2; kernel++) {
        struct talk *t = talk_new(target.pid, talk_asker(0));
        t->request.kernel = kernel;
        talk_start(t, collector_main);
        (void)talk_expect(t, COLLECTOR_READY, NULL);
        int fd = talk_file_of_kind(t, WORKER_FILE_VDSO, 0, "");
        ck_assert_int_eq(pread(fd, text, 4, 0), 4);
        ck_assert_mem_eq(text, "\177ELF", 4);
        ck_assert_int_eq(pwrite(fd, text, 4, 0), -1); /* sealed */
        close(fd);
        fd = talk_file_of_kind(t, WORKER_FILE_KALLSYMS, 0, "");
        if (kernel)
            ck_assert_int_eq(read(fd, text, 4), 4);
        else
            ck_assert_int_eq(fd, -EPERM);
        close_fd(&fd);
        ck_assert_int_eq(talk_file_of_kind(t, 0, 0, ""), -EINVAL);
        ck_assert_int_eq(talk_file_of_kind(t, 99, 0, ""), -EINVAL);
        ck_assert_int_eq(talk_file_of_kind(t, WORKER_FILE_OBJECT, 9999, ""), -ENOENT);
        ck_assert_int_eq(talk_file_of_kind(t, WORKER_FILE_DEBUG, 9999, ""), -ENOENT);
        talk_free(t);
    }
    puppet_end(&target);
}
END_TEST

/* ---- containers */

static void write_proc(const char *path, const char *text)
{
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (write(fd, text, strlen(text)) < 0)
        _exit(1);
}

/* Root in there is who made it. */
static void enter_user_namespace(void)
{
    char map[2][32];
    (void)snprintf(map[0], sizeof(map[0]), "0 %u 1", geteuid());
    (void)snprintf(map[1], sizeof(map[1]), "0 %u 1", getegid());
    if (unshare(CLONE_NEWNS | CLONE_NEWUSER) < 0)
        _exit(1);
    write_proc("/proc/self/setgroups", "deny");
    write_proc("/proc/self/uid_map", map[0]);
    write_proc("/proc/self/gid_map", map[1]);
}

/* As root of a user namespace of its own, in a root directory that is a mount of its own, with nothing but the file that is mapped. */
static void run_in_container(int in, int out, void *arg)
{
    const struct mapper *m = arg;
    const char *root = m->exe;
    char path[PATH_MAX];

    enter_user_namespace();
    if (mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || mount("tmpfs", root, "tmpfs", 0, NULL) < 0)
        _exit(1);
    (void)snprintf(path, sizeof(path), "%s/inside.so", root);
    int fd = open(path, O_RDWR | O_CREAT, 0644);
    if (fd < 0 || ftruncate(fd, PLACE_BYTES) < 0)
        _exit(1);
    (void)snprintf(path, sizeof(path), "%s/out", root); /* absolute: in the target's root there is no such file */
    if (symlink("/etc/passwd", path) < 0)
        _exit(1);
    (void)snprintf(path, sizeof(path), "%s/up", root);
    if (symlink("../../../../../../etc/passwd", path) < 0 || chroot(root) < 0 || chdir("/") < 0)
        _exit(1);
    run_mapper(in, out, &(struct mapper){.fd = {fd, -1}});
}

START_TEST(test_container)
{
    struct mapper m = {.exe = scratch_path("root")};
    struct stat st;
    char inside[PATH_MAX];

    ck_assert_int_eq(mkdir(m.exe, 0755), 0);
    struct puppet target = puppet_start(run_in_container, &m);
    struct talk *t = talk_new(target.pid, talk_asker((int)getuid()));
    puppet_do(&target, 'a');
    (void)snprintf(inside, sizeof(inside), "/proc/%d/root/inside.so", target.pid);
    ck_assert_int_eq(stat(inside, &st), 0);
    talk_start(t, collector_main);
    (void)talk_expect(t, COLLECTOR_READY, NULL);
    ck_assert(is_file(talk_file_of_kind(t, WORKER_FILE_PATH, 0, "/inside.so"), st.st_ino));
    ck_assert_int_eq(talk_file_of_kind(t, WORKER_FILE_PATH, 0, "/out"), -ENOENT);
    ck_assert_int_eq(talk_file_of_kind(t, WORKER_FILE_PATH, 0, "/up"), -ENOENT);
    ck_assert_int_eq(talk_file_of_kind(t, WORKER_FILE_PATH, 0, "/../../../../../etc/passwd"), -ENOENT);
    struct raw_profile p = talk_finish(t);
    const struct raw_mapping *found = find_mapping(&p, "/inside.so", 0);
    ck_assert_ptr_nonnull(found);
    ck_assert_str_eq(object_path(&p, found), "/inside.so"); /* as the target sees it */
    ck_assert_uint_eq(p.objects[found->object].available, 1);
    ck_assert(is_file(talk_file_of_kind(t, WORKER_FILE_OBJECT, found->object, ""), st.st_ino));
    raw_profile_close(&p);
    talk_free(t);
    puppet_end(&target);
}
END_TEST

/* A process whose number differs within its own PID namespace. */
START_TEST(test_pid_namespace)
{
    if (getuid() != 0) {
        fprintf(stderr, "skipped: only root can make PID namespaces\n");
        return;
    }
    struct mapper m = {.exe = "/proc/self/exe"};
    ck_assert_int_eq(unshare(CLONE_NEWPID), 0);
    struct puppet target = puppet_start(run_mapper, &m);
    struct talk *t = talk_new(target.pid, talk_asker(0));
    /* Children are born into the new namespace, where /proc is still the old one's: the collector must be asked from outside. */
    AUTO_CLOSE int own = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(setns(own, CLONE_NEWPID), 0);
    talk_start(t, collector_main);
    ck_assert_int_eq(talk_expect(t, COLLECTOR_READY, NULL)->u.ready.pid, target.pid);
    struct raw_profile p = talk_finish(t);
    ck_assert_ptr_nonnull(program_in(&p, 0));
    raw_profile_close(&p);
    talk_free(t);
    puppet_end(&target);
}
END_TEST

/* The unit's daemon: not root, with the few capabilities that a collector needs. Even of a process of root's it finds a file without a name. */
static void become_daemon_user(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct caps[2] = {0};
    static const unsigned needed[] = {CAP_SYS_PTRACE, CAP_CHECKPOINT_RESTORE, CAP_DAC_READ_SEARCH, CAP_SYSLOG};

    for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
        caps[needed[i] / 32].permitted = caps[needed[i] / 32].effective |= 1u << needed[i] % 32;
    ck_assert_int_eq(prctl(PR_SET_KEEPCAPS, 1), 0);
    ck_assert_int_eq(setgroups(0, NULL), 0);
    ck_assert_int_eq(setresgid(60020, 60020, 60020), 0);
    ck_assert_int_eq(setresuid(60020, 60020, 60020), 0);
    ck_assert_int_eq(syscall(SYS_capset, &header, caps), 0);
}

static void ask_as_daemon_user(pid_t target, ino_t gone_ino)
{
    struct talk *t = talk_new(target, talk_asker(60020)); /* the daemon's own user is nobody special */
    char line[64] = "";

    talk_start(t, collector_main);
    ck_assert_int_eq(talk_expect(t, COLLECTOR_DENIED, NULL)->u.denied.status, 403);
    talk_free(t);
    t = talk_new(target, talk_asker(0));
    t->request.kernel = true;
    talk_start(t, collector_main);
    (void)talk_expect(t, COLLECTOR_READY, NULL);
    int fd = talk_file_of_kind(t, WORKER_FILE_KALLSYMS, 0, "");
    ck_assert_int_gt(read(fd, line, sizeof(line) - 1), 16);
    close(fd);
    ck_assert_int_ne(strncmp(line, "0000000000000000 ", 17), 0); /* real addresses */
    struct raw_profile p = talk_finish(t);
    const struct raw_mapping *gone = find_mapping(&p, "/gone.so", 0);
    ck_assert_ptr_nonnull(gone);
    ck_assert(is_file(talk_file_of_kind(t, WORKER_FILE_OBJECT, gone->object, ""), gone_ino));
    ck_assert_ptr_nonnull(program_in(&p, 0));
    ck_assert_int_eq(talk_file_of_kind(t, WORKER_FILE_PATH, 0, "/etc/shadow"), -EACCES);
    raw_profile_close(&p);
    talk_free(t);
}

START_TEST(test_daemon_that_is_not_root)
{
    if (getuid() != 0) {
        fprintf(stderr, "skipped: needs root to become another user\n");
        return;
    }
    struct mapper m = {.fd = {scratch_file("gone.so", 'g'), -1}};
    struct puppet target = puppet_start(run_mapper, &m);
    int status = -1;

    puppet_do(&target, 'a');
    unlink(scratch_path("gone.so"));
    pid_t daemon = fork();
    if (daemon == 0) {
        become_daemon_user();
        ask_as_daemon_user(target.pid, inode_of(m.fd[0]));
        _exit(0);
    }
    ck_assert_int_eq(waitpid(daemon, &status, 0), daemon);
    ck_assert_int_eq(status, 0);
    puppet_end(&target);
    close(m.fd[0]);
}
END_TEST

/* On an overlay, maps and fstat may show different numbers for one file. */
START_TEST(test_overlay)
{
    char options[512];
    (void)snprintf(options, sizeof(options), "lowerdir=%s/low,upperdir=%s/up,workdir=%s/work", scratch, scratch, scratch);
    if (mkdir(scratch_path("low"), 0755) < 0 || mkdir(scratch_path("up"), 0755) < 0 || mkdir(scratch_path("work"), 0755) < 0 ||
        mkdir(scratch_path("merged"), 0755) < 0)
        ck_abort();
    close(scratch_file("low/lower.so", 'l'));
    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("overlay", scratch_path("merged"), "overlay", 0, options) < 0) {
        fprintf(stderr, "skipped: no overlay can be mounted: %s\n", strerror(errno));
        return;
    }
    struct mapper m = {.fd = {open(scratch_path("merged/lower.so"), O_RDONLY | O_CLOEXEC), scratch_file("merged/upper.so", 'u')}};
    for (int upper = 0; upper < 2; upper++) {
        struct puppet target = puppet_start(run_mapper, &m);
        struct talk *t = talk_new(target.pid, talk_asker(0));
        puppet_do(&target, upper ? 'b' : 'a');
        talk_start(t, collector_main);
        (void)talk_expect(t, COLLECTOR_READY, NULL);
        struct raw_profile p = talk_finish(t);
        const struct raw_mapping *found = find_mapping(&p, upper ? "/upper.so" : "/lower.so", 0);
        ck_assert_ptr_nonnull(found);
        ck_assert_uint_eq(p.objects[found->object].available, 1);
        char byte;
        int fd = talk_file_of_kind(t, WORKER_FILE_OBJECT, found->object, "");
        ck_assert_int_eq(pread(fd, &byte, 1, 0), 1);
        ck_assert_int_eq(byte, upper ? 'u' : 'l');
        close(fd);
        raw_profile_close(&p);
        talk_free(t);
        puppet_end(&target);
    }
    close(m.fd[0]);
    close(m.fd[1]);
    ck_assert_int_eq(umount2(scratch_path("merged"), MNT_DETACH), 0);
}
END_TEST

int main(int argc, char **argv)
{
    if (argc >= 4 && strcmp(argv[1], "puppet") == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        run_mapper(atoi(argv[2]), atoi(argv[3]), &(struct mapper){.exe = "/proc/self/exe"});
    }
    Suite *suite = suite_create("collector_files");
    TCase *tc = tcase_create("collector_files");
    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, scratch_make, scratch_remove);
    tcase_add_test(tc, test_deleted_program);
    tcase_add_test(tc, test_hostile_names);
    tcase_add_test(tc, test_memfd_and_device);
    tcase_add_test(tc, test_path_of_what_is_mapped);
    tcase_add_test(tc, test_path);
    tcase_add_test(tc, test_path_with_the_targets_rights);
    tcase_add_test(tc, test_files_of_the_kernel);
    tcase_add_test(tc, test_container);
    tcase_add_test(tc, test_pid_namespace);
    tcase_add_test(tc, test_daemon_that_is_not_root);
    tcase_add_test(tc, test_overlay);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
