/* Opening what a target maps: by the mapping, and by name where privileges for that are lacking; never another file than the
 * mapped one. */
#include <errno.h>
#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "daemon/target_files.h"
#include "tests/unit/mapper.h"

/* As a daemon without CAP_CHECKPOINT_RESTORE, for which /proc/PID/map_files is closed. */
static void drop_map_files(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct caps[2];
    ck_assert_int_eq(syscall(SYS_capget, &header, caps), 0);
    caps[CAP_SYS_ADMIN / 32].effective &= ~(1u << CAP_SYS_ADMIN % 32);
    caps[CAP_CHECKPOINT_RESTORE / 32].effective &= ~(1u << CAP_CHECKPOINT_RESTORE % 32);
    ck_assert_int_eq(syscall(SYS_capset, &header, caps), 0);
}

struct found {
    struct maps_entry e;
    char name[PATH_MAX];
    bool found;
};

static int find_place(const struct maps_entry *e, void *userdata)
{
    struct found *f = userdata;
    if (e->start != (uint64_t)(uintptr_t)PLACE)
        return 0;
    f->e = *e;
    memcpy(f->name, e->name, e->name_len);
    f->e.name = f->name;
    f->found = true;
    return 0;
}

/* The line of what a target maps at PLACE. */
static struct maps_entry entry_of(const struct target *t, struct found *f)
{
    AUTO_CLOSE int fd = target_open_file(t, "maps", O_RDONLY);
    *f = (struct found){0};
    ck_assert_int_eq(maps_read(fd, find_place, f), 0);
    ck_assert(f->found);
    return f->e;
}

enum change { CHANGE_NONE, CHANGE_DELETED, CHANGE_REPLACED, CHANGE_TO_FIFO, CHANGE_TO_LINK };

static void change_file(enum change change)
{
    if (change == CHANGE_NONE)
        return;
    ck_assert_int_eq(unlink(scratch_path("lib.so")), 0);
    if (change == CHANGE_REPLACED)
        close(scratch_file("lib.so", 'y'));
    if (change == CHANGE_TO_FIFO)
        ck_assert_int_eq(mkfifo(scratch_path("lib.so"), 0644), 0);
    if (change == CHANGE_TO_LINK)
        ck_assert_int_eq(symlink("/etc/passwd", scratch_path("lib.so")), 0);
}

/* Opens lib.so, which a target maps, after a change of its name. */
static void open_after(enum change change, bool expected)
{
    struct mapper m = {.fd = {scratch_file("lib.so", 'x'), -1}};
    struct puppet p = puppet_start(run_mapper, &m);
    struct target t = TARGET_INIT;
    struct denial d;
    struct found f;
    struct opened_file file;

    puppet_do(&p, 'a');
    ck_assert_int_eq(target_open(p.pid, &t, &d), 0);
    struct maps_entry e = entry_of(&t, &f);
    change_file(change); /* after maps was read: the name in it is out of date */
    AUTO_CLOSE int root = target_files_root(&t);
    target_files_open(&t, root, &e, &file);
    ck_assert_int_eq(file.fd >= 0, expected);
    ck_assert_str_eq(file.path, scratch_path("lib.so"));
    if (file.fd >= 0)
        ck_assert_uint_eq(file.st.st_ino, inode_of(m.fd[0]));
    close_fd(&file.fd);
    (void)unlink(scratch_path("lib.so"));
    target_deinit(&t);
    puppet_end(&p);
    close(m.fd[0]);
}

START_TEST(test_by_mapping)
{
    if (getuid() != 0) {
        fprintf(stderr, "skipped: map_files needs root\n");
        return;
    }
    for (enum change c = CHANGE_NONE; c <= CHANGE_TO_LINK; c++)
        open_after(c, true);
}
END_TEST

START_TEST(test_by_name)
{
    drop_map_files();
    open_after(CHANGE_NONE, true);
    for (enum change c = CHANGE_DELETED; c <= CHANGE_TO_LINK; c++)
        open_after(c, false);
}
END_TEST

/* Its own program is found even where its name is gone and map_files is closed. */
START_TEST(test_by_exe)
{
    struct mapper m = {.exe = scratch_path("program")};
    struct target t = TARGET_INIT;
    struct denial d;
    struct stat st;
    struct opened_file file;

    scratch_copy_self(m.exe);
    ck_assert_int_eq(stat(m.exe, &st), 0);
    struct puppet p = puppet_start(run_mapper, &m);
    puppet_do(&p, 'x');
    ck_assert_int_eq(unlink(scratch_path("program")), 0);
    drop_map_files();
    ck_assert_int_eq(target_open(p.pid, &t, &d), 0);
    char name[PATH_MAX];
    (void)snprintf(name, sizeof(name), "%s (deleted)", scratch_path("program"));
    struct maps_entry e = {.start = 0x1000, .end = 0x2000, .dev_major = major(st.st_dev), .dev_minor = minor(st.st_dev),
                           .ino = st.st_ino, .name = name, .name_len = strlen(name)};
    target_files_open(&t, -1, &e, &file);
    ck_assert_int_ge(file.fd, 0);
    ck_assert(file.deleted);
    ck_assert_uint_eq(file.st.st_ino, st.st_ino);
    ck_assert_str_eq(file.path, scratch_path("program"));
    close(file.fd);
    e.ino++; /* but no other file is taken for it */
    target_files_open(&t, -1, &e, &file);
    ck_assert_int_eq(file.fd, -1);
    target_deinit(&t);
    puppet_end(&p);
}
END_TEST

/* The numbers are right and the contents are not, as on overlayfs: what is mapped is told, and the file is not taken. */
START_TEST(test_other_contents)
{
    extern const char __ehdr_start[];
    struct mapper m = {.fd = {scratch_file("lib.so", 'x'), -1}};
    struct puppet p = puppet_start(run_mapper, &m);
    struct target t = TARGET_INIT;
    struct denial d;
    struct found f;
    struct opened_file file;

    puppet_do(&p, 'a');
    ck_assert_int_eq(target_open(p.pid, &t, &d), 0);
    struct maps_entry e = entry_of(&t, &f);
    AUTO_CLOSE int root = target_files_root(&t);
    e.head = e.start;
    target_files_open(&t, root, &e, &file);
    ck_assert_int_ge(file.fd, 0);
    ck_assert(file.error == 0 && file.build_id_len == 0);
    close_fd(&file.fd);
    e.head = (uint64_t)(uintptr_t)__ehdr_start; /* a fork of this program: it has the same there */
    target_files_open(&t, root, &e, &file);
    ck_assert_int_eq(file.fd, -1);
    ck_assert_int_eq(file.error, -EUCLEAN);
    ck_assert_str_eq(file.path, scratch_path("lib.so"));
    target_files_name(&t, root, &e, &file);
    ck_assert_int_eq(file.error, -ENODEV);
    target_deinit(&t);
    puppet_end(&p);
    close(m.fd[0]);
}
END_TEST

/* In maps they look the same. */
START_TEST(test_newlines_and_backslashes)
{
    static const char *const names[] = {"a\nb", "a\\012b", "a\n\\012b", "\\012"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct mapper m = {.fd = {scratch_file(names[i], 'x'), -1}};
        struct puppet p = puppet_start(run_mapper, &m);
        struct target t = TARGET_INIT;
        struct denial d;
        struct found f;
        struct opened_file file;

        puppet_do(&p, 'a');
        ck_assert_int_eq(target_open(p.pid, &t, &d), 0);
        struct maps_entry e = entry_of(&t, &f);
        AUTO_CLOSE int root = target_files_root(&t);
        target_files_open(&t, root, &e, &file);
        ck_assert_str_eq(file.path, scratch_path(names[i]));
        ck_assert(file.fd >= 0 && !file.deleted);
        close_fd(&file.fd);
        ck_assert_int_eq(unlink(scratch_path(names[i])), 0);
        e = entry_of(&t, &f);
        target_files_name(&t, root, &e, &file);
        ck_assert_str_eq(file.path, scratch_path(names[i]));
        ck_assert(file.deleted);
        target_deinit(&t);
        puppet_end(&p);
        close(m.fd[0]);
    }
}
END_TEST

START_TEST(test_same_file)
{
    AUTO_CLOSE int file = scratch_file("a", 'a'), other = scratch_file("b", 'b');
    struct stat st;
    ck_assert_int_eq(fstat(file, &st), 0);
    struct maps_entry e = {.dev_major = major(st.st_dev), .dev_minor = minor(st.st_dev), .ino = st.st_ino};
    ck_assert(target_files_same(file, &e));
    ck_assert(!target_files_same(other, &e));
    e.dev_minor++;
    ck_assert(!target_files_same(file, &e));
    ck_assert(!target_files_same(-1, &e));
}
END_TEST

START_TEST(test_beneath)
{
    static const struct { const char *path; int error; } cases[] = {
        {"/file", 0}, {"file", 0}, {"/../../file", 0}, {"/link", 0}, {"/absolute", 0}, {"/up", 0}, {"/escape", -ENOENT},
        {"/escape_up", -ENOENT}, {"/loop", -ELOOP}, {"/fifo", -EINVAL}, {"/directory", -EINVAL}, {"/none", -ENOENT},
        {"", -ENOENT}, {"/file/x", -ENOTDIR},
    };
    close(scratch_file("file", 'f'));
    ck_assert_int_eq(mkdir(scratch_path("directory"), 0755), 0);
    ck_assert_int_eq(mkfifo(scratch_path("fifo"), 0644), 0);
    ck_assert_int_eq(symlink("file", scratch_path("link")), 0);
    ck_assert_int_eq(symlink("/file", scratch_path("absolute")), 0);
    ck_assert_int_eq(symlink("../../../file", scratch_path("up")), 0);
    ck_assert_int_eq(symlink("/etc/passwd", scratch_path("escape")), 0);
    ck_assert_int_eq(symlink("../../../../../../etc/passwd", scratch_path("escape_up")), 0);
    ck_assert_int_eq(symlink("loop", scratch_path("loop")), 0);
    AUTO_CLOSE int root = open(scratch, O_PATH | O_DIRECTORY | O_CLOEXEC);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int fd = target_files_open_beneath(root, cases[i].path);
        ck_assert_msg(cases[i].error ? fd == cases[i].error : fd >= 0, "%s: %d", cases[i].path, fd);
        if (fd >= 0)
            ck_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        close_fd(&fd);
    }
}
END_TEST

/* Changes what "swapped" is, all the time. */
static void run_swapper(int in, int out, void *arg)
{
    char link[PATH_MAX], other[PATH_MAX], name[PATH_MAX], inside[PATH_MAX];

    (void)snprintf(inside, sizeof(inside), "%s", scratch_path("root/inside"));
    (void)snprintf(name, sizeof(name), "%s", scratch_path("root/swapped"));
    (void)snprintf(link, sizeof(link), "%s", scratch_path("link"));
    (void)snprintf(other, sizeof(other), "%s", scratch_path("other"));
    (void)!write(out, "!", 1);
    for (struct pollfd p = {.fd = in, .events = POLLIN}; poll(&p, 1, 0) == 0;)
        if (symlink("../../../outside", link) < 0 || rename(link, name) < 0 || linkat(AT_FDCWD, inside, AT_FDCWD, other, 0) < 0 ||
            rename(other, name) < 0)
            _exit(1);
}

/* Whenever a name is changed, what is opened lies within the root; and what others rename keeps nobody from opening. */
START_TEST(test_beneath_while_names_change)
{
    ck_assert_int_eq(mkdir(scratch_path("root"), 0755), 0);
    ck_assert_int_eq(mkdir(scratch_path("root/up"), 0755), 0);
    AUTO_CLOSE int outside = scratch_file("outside", 'o'), inside = scratch_file("root/inside", 'i');
    ck_assert_int_eq(symlink("../up/../inside", scratch_path("root/up/steady")), 0);
    AUTO_CLOSE int root = open(scratch_path("root"), O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct puppet p = puppet_start(run_swapper, NULL);
    unsigned n_opened = 0;

    for (unsigned i = 0; i < 20000; i++) {
        int swapped = target_files_open_beneath(root, "/swapped"), steady = target_files_open_beneath(root, "/up/steady");
        ck_assert_msg(steady >= 0, "%d", steady);
        ck_assert(is_file(steady, inode_of(inside)));
        n_opened += swapped >= 0;
        if (swapped >= 0)
            ck_assert(is_file(swapped, inode_of(inside)));
        else
            ck_assert_msg(swapped == -ENOENT || swapped == -EAGAIN, "%d", swapped);
    }
    ck_assert_uint_gt(n_opened, 0);
    puppet_end(&p);
}
END_TEST

/* A lease that its holder does not give up would make an opener wait. */
START_TEST(test_lease)
{
    AUTO_CLOSE int root = open(scratch, O_PATH | O_DIRECTORY | O_CLOEXEC), file = scratch_file("leased", 'l');
    (void)signal(SIGIO, SIG_IGN);
    if (fcntl(file, F_SETLEASE, F_WRLCK) < 0) {
        fprintf(stderr, "skipped: no leases on this file system\n");
        return;
    }
    ck_assert_int_eq(target_files_open_beneath(root, "/leased"), -EWOULDBLOCK);
}
END_TEST

int main(int argc, char **argv)
{
    if (argc >= 4 && strcmp(argv[1], "puppet") == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        run_mapper(atoi(argv[2]), atoi(argv[3]), &(struct mapper){.exe = "/proc/self/exe"});
    }
    Suite *suite = suite_create("target_files");
    TCase *tc = tcase_create("target_files");
    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, scratch_make, scratch_remove);
    tcase_add_test(tc, test_by_mapping);
    tcase_add_test(tc, test_by_name);
    tcase_add_test(tc, test_by_exe);
    tcase_add_test(tc, test_other_contents);
    tcase_add_test(tc, test_newlines_and_backslashes);
    tcase_add_test(tc, test_same_file);
    tcase_add_test(tc, test_beneath);
    tcase_add_test(tc, test_beneath_while_names_change);
    tcase_add_test(tc, test_lease);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
