/* Who may profile whom: every clause of the rule, by real processes that run as somebody else. Needs root, and user namespaces. */
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "daemon/access.h"
#include "tests/unit/talk.h"

#define ALICE 60001u
#define BOB 60002u

/* What a process of the test's is to be. */
struct identity {
    uid_t uid[3];
    gid_t gid[3];
    bool hides;           /* PR_SET_DUMPABLE 0 */
    bool capable;         /* keeps one capability */
    bool new_namespace;   /* goes into a user namespace of its own, as alice */
    bool roots_namespace; /* one that root made */
};

#define IDS(a, b, c) {a, b, c}
#define ALICES {.uid = IDS(ALICE, ALICE, ALICE), .gid = IDS(ALICE, ALICE, ALICE)}

static void keep_one_capability(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct caps[2] = {{.permitted = 1u << CAP_NET_RAW}};
    if (syscall(SYS_capset, &header, caps) < 0)
        _exit(1);
}

static void write_map(pid_t pid, const char *name)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
    AUTO_CLOSE int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (write(fd, "0 0 65536", 9) != 9)
        _exit(1);
}

/* A user namespace of root's, where ids are as outside; only a process outside can say so. */
static void enter_roots_namespace(void)
{
    int entered[2], status;
    char byte;
    if (pipe(entered) < 0)
        _exit(1);
    pid_t pid = getpid(), helper = fork();
    if (helper == 0) {
        if (read(entered[0], &byte, 1) != 1)
            _exit(1);
        write_map(pid, "uid_map");
        write_map(pid, "gid_map");
        _exit(0);
    }
    if (unshare(CLONE_NEWUSER) < 0 || write(entered[1], "x", 1) != 1 || waitpid(helper, &status, 0) != helper || status != 0)
        _exit(1);
}

static void become(int in, int out, void *arg)
{
    const struct identity *id = arg;

    if (id->roots_namespace)
        enter_roots_namespace();
    if (id->capable)
        prctl(PR_SET_KEEPCAPS, 1);
    if (setgroups(0, NULL) < 0 || setresgid(id->gid[0], id->gid[1], id->gid[2]) < 0 ||
        setresuid(id->uid[0], id->uid[1], id->uid[2]) < 0)
        _exit(1);
    if (id->capable)
        keep_one_capability();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (id->new_namespace && unshare(CLONE_NEWUSER) < 0)
        _exit(1);
    prctl(PR_SET_DUMPABLE, !id->hides); /* what an exec would do */
    puppet_idle(in, out, NULL);
}

static struct settings settings;

/* 0 or the status; d: the message. */
static int check(const struct identity *target, const struct asker *asker, bool kernel, struct denial *d)
{
    struct puppet p = puppet_start(become, (void *)target);
    struct target t = TARGET_INIT;
    struct target_status s;
    struct access a;

    *d = (struct denial){0};
    access_init(&a, &settings, asker);
    ck_assert_int_eq(target_open(p.pid, &t, d), 0);
    ck_assert_int_eq(target_refresh(&t, &s), 0);
    int r = access_check_asker(&a, d);
    if (r == 0)
        r = access_check_target(&a, &t, &s, d);
    if (r == 0 && kernel)
        r = access_check_kernel(&a, &s, d);
    target_deinit(&t);
    puppet_end(&p);
    ck_assert_int_eq(r, d->status ? -EACCES : 0);
    if (r < 0)
        ck_assert_uint_gt(strlen(d->message), 40);
    return d->status;
}

static int check_words(const struct identity *target, int uid, const char *words)
{
    struct asker asker = talk_asker(uid);
    struct denial d;
    int status = check(target, &asker, false, &d);
    if (words)
        ck_assert_msg(status != 0 && strstr(d.message, words), "%d \"%s\" lacks \"%s\"", status, d.message, words);
    return status;
}

static void settings_none(void)
{
    settings_init(&settings);
}

static void settings_gone(void)
{
    settings_deinit(&settings);
}

static void grant(struct settings_grant g)
{
    settings.grant[settings.n_grants++] = g;
}

/* ---- the kernel's rule */

START_TEST(test_own_and_others)
{
    static const struct identity alices = ALICES;
    ck_assert_int_eq(check_words(&alices, ALICE, NULL), 0);
    ck_assert_int_eq(check_words(&alices, BOB, "is not uid 60002's"), 403);
    ck_assert_int_eq(check_words(&alices, 0, NULL), 0);
    ck_assert_int_eq(check_words(&alices, -1, "no user"), 403);
}
END_TEST

/* One id of six that is another's is enough. */
START_TEST(test_every_id_counts)
{
    for (int which = 0; which < 6; which++) {
        for (int others = 0; others < 2; others++) {
            struct identity id = ALICES;
            uint32_t other = others ? BOB : 0;
            if (which < 3)
                id.uid[which] = other;
            else
                id.gid[which - 3] = other;
            ck_assert_int_eq(check_words(&id, ALICE, which < 3 ? "real, effective and saved users" : "other groups"), 403);
            ck_assert_int_eq(check_words(&id, 0, NULL), 0);
        }
    }
}
END_TEST

START_TEST(test_undumpable)
{
    struct identity id = ALICES;
    id.hides = true;
    ck_assert_int_eq(check_words(&id, ALICE, "not dumpable"), 403);
    ck_assert_int_eq(check_words(&id, 0, NULL), 0);
}
END_TEST

START_TEST(test_capable)
{
    struct identity id = ALICES;
    id.capable = true;
    ck_assert_int_eq(check_words(&id, ALICE, "capabilities"), 403);
    ck_assert_int_eq(check_words(&id, 0, NULL), 0);
}
END_TEST

/* In a user namespace of her own, alice has all capabilities; root's namespaces are not hers, whoever runs in them. */
START_TEST(test_user_namespaces)
{
    struct identity own = ALICES, roots = ALICES;
    own.new_namespace = roots.roots_namespace = true;
    ck_assert_int_eq(check_words(&own, ALICE, NULL), 0);
    ck_assert_int_eq(check_words(&own, BOB, "is not uid"), 403);
    ck_assert_int_eq(check_words(&roots, ALICE, "user namespace"), 403);
    ck_assert_int_eq(check_words(&roots, 0, NULL), 0);
    own.hides = true;
    ck_assert_int_eq(check_words(&own, ALICE, NULL), 403);
}
END_TEST

/* ---- groups over TCP come from the user database */

START_TEST(test_group_of_a_user)
{
    struct asker nobody = {.known = true, .uid = 65534}, stranger = {.known = true, .uid = ALICE};
    struct identity id = {.uid = IDS(65534, 65534, 65534), .gid = IDS(65534, 65534, 65534)}, alices = ALICES;
    struct denial d;

    ck_assert_int_eq(check(&id, &nobody, false, &d), 0); /* nobody's primary group is 65534 */
    id.gid[0] = ALICE;
    ck_assert_int_eq(check(&id, &nobody, false, &d), 403);
    ck_assert_int_eq(check(&alices, &stranger, false, &d), 403);
    ck_assert_ptr_nonnull(strstr(d.message, "user database"));
}
END_TEST

/* ---- grants */

START_TEST(test_grant_to_a_user)
{
    struct identity bobs = {.uid = IDS(BOB, BOB, BOB), .gid = IDS(BOB, BOB, BOB), .hides = true, .capable = true}, mixed = bobs;
    grant((struct settings_grant){.to = GRANT_TO_UID, .to_id = ALICE, .target = GRANT_TARGET_UID, .target_uid = BOB});
    ck_assert_int_eq(check_words(&bobs, ALICE, NULL), 0);
    ck_assert_int_eq(check_words(&bobs, ALICE + 5, "is not uid"), 403);
    ck_assert_int_eq(check_words(&bobs, -1, "no user"), 403);
    for (int which = 0; which < 3; which++) { /* a set-user-ID program that bob runs is not his */
        mixed = bobs;
        mixed.uid[which] = 0;
        ck_assert_int_eq(check_words(&mixed, ALICE, "is not uid"), 403);
    }
}
END_TEST

START_TEST(test_grant_to_a_group)
{
    struct identity roots = {0};
    struct asker by_group = {.known = true, .uid = ALICE, .gid = 4711, .has_gid = true}, no_group = {.known = true, .uid = ALICE};
    struct denial d;
    grant((struct settings_grant){.to = GRANT_TO_GID, .to_id = 4711, .target = GRANT_ANY_TARGET});
    ck_assert_int_eq(check(&roots, &by_group, false, &d), 0);
    ck_assert_int_eq(check(&roots, &no_group, false, &d), 403);
    by_group.gid = 4712;
    ck_assert_int_eq(check(&roots, &by_group, false, &d), 403);
    ck_assert_int_eq(check_words(&roots, -1, "no user"), 403);
}
END_TEST

START_TEST(test_grant_to_everyone)
{
    struct identity bobs = {.uid = IDS(BOB, BOB, BOB), .gid = IDS(BOB, BOB, BOB)}, roots = {0};
    grant((struct settings_grant){.to = GRANT_TO_EVERYONE, .target = GRANT_TARGET_UID, .target_uid = BOB});
    ck_assert_int_eq(check_words(&bobs, -1, NULL), 0);
    ck_assert_int_eq(check_words(&bobs, ALICE, NULL), 0);
    ck_assert_int_eq(check_words(&roots, -1, "granted to everyone"), 403);
}
END_TEST

START_TEST(test_unlimited)
{
    struct asker askers[] = {talk_asker(0), talk_asker(ALICE), talk_asker(-1)};
    struct access a[3];

    for (int i = 0; i < 3; i++)
        access_init(&a[i], &settings, &askers[i]);
    ck_assert(access_is_unlimited(&a[0], true));
    grant((struct settings_grant){.to = GRANT_TO_EVERYONE, .target = GRANT_TARGET_UID, .target_uid = ALICE, .kernel = true});
    ck_assert(!access_is_unlimited(&a[1], false));
    ck_assert(!access_is_unlimited(&a[2], false));
    grant((struct settings_grant){.to = GRANT_TO_UID, .to_id = ALICE, .target = GRANT_ANY_TARGET});
    ck_assert(access_is_unlimited(&a[1], false));
    ck_assert(!access_is_unlimited(&a[1], true));
    ck_assert(!access_is_unlimited(&a[2], false));
    grant((struct settings_grant){.to = GRANT_TO_UID, .to_id = ALICE, .target = GRANT_ANY_TARGET, .kernel = true});
    ck_assert(access_is_unlimited(&a[1], true));
}
END_TEST

/* A stranger's uid field means nothing. */
START_TEST(test_stranger_is_not_root)
{
    struct identity roots = {0};
    struct asker stranger = {.known = false, .uid = 0, .gid = 0, .has_gid = true};
    struct denial d;
    grant((struct settings_grant){.to = GRANT_TO_UID, .to_id = 0, .target = GRANT_ANY_TARGET});
    grant((struct settings_grant){.to = GRANT_TO_GID, .to_id = 0, .target = GRANT_ANY_TARGET});
    ck_assert_int_eq(check(&roots, &stranger, false, &d), 403);
}
END_TEST

/* ---- the kernel's part */

static int read_int(const char *path)
{
    int value = -1;
    AUTO_FCLOSE FILE *f = fopen(path, "re");
    ck_assert(f && fscanf(f, "%d", &value) == 1);
    return value;
}

START_TEST(test_kernel_rule)
{
    struct denial d;
    ck_assert_int_eq(access_kernel_rule(-1, 0, &d), 0);
    ck_assert_int_eq(access_kernel_rule(1, 0, &d), 0);
    ck_assert_int_eq(access_kernel_rule(2, 0, &d), -EACCES);
    ck_assert_int_eq(d.status, 403);
    ck_assert_ptr_nonnull(strstr(d.message, "perf_event_paranoid is 2"));
    ck_assert_int_eq(access_kernel_rule(1, 1, &d), -EACCES);
    ck_assert_ptr_nonnull(strstr(d.message, "kptr_restrict is 1"));
}
END_TEST

START_TEST(test_kernel_by_asker)
{
    struct identity alices = ALICES;
    struct asker alice = talk_asker(ALICE), root = talk_asker(0), stranger = talk_asker(-1);
    struct denial d;
    bool open_to_all = read_int("/proc/sys/kernel/perf_event_paranoid") <= 1 && read_int("/proc/sys/kernel/kptr_restrict") == 0;

    ck_assert_int_eq(check(&alices, &root, true, &d), 0);
    ck_assert_int_eq(check(&alices, &alice, true, &d), open_to_all ? 0 : 403);
    grant((struct settings_grant){.to = GRANT_TO_EVERYONE, .target = GRANT_TARGET_UID, .target_uid = ALICE});
    ck_assert_int_eq(check(&alices, &stranger, false, &d), 0);
    ck_assert_int_eq(check(&alices, &stranger, true, &d), 403);
    ck_assert_ptr_nonnull(strstr(d.message, "kernel"));
    /* A grant with kernel counts for its own targets alone. */
    grant((struct settings_grant){.to = GRANT_TO_EVERYONE, .target = GRANT_TARGET_UID, .target_uid = BOB, .kernel = true});
    ck_assert_int_eq(check(&alices, &stranger, true, &d), 403);
    grant((struct settings_grant){.to = GRANT_TO_EVERYONE, .target = GRANT_ANY_TARGET, .kernel = true});
    ck_assert_int_eq(check(&alices, &stranger, true, &d), 0);
}
END_TEST

/* ---- a process that ends between two looks */

START_TEST(test_process_that_ends)
{
    struct identity id = ALICES;
    struct puppet p = puppet_start(become, &id);
    struct target t = TARGET_INIT;
    struct target_status s;
    struct access a;
    struct denial d = {0};
    struct asker alice = talk_asker(ALICE);

    access_init(&a, &settings, &alice);
    ck_assert_int_eq(target_open(p.pid, &t, &d), 0);
    ck_assert_int_eq(target_refresh(&t, &s), 0);
    puppet_end(&p);
    ck_assert_int_eq(access_check_target(&a, &t, &s, &d), -EACCES);
    ck_assert_int_eq(d.status, 404);
    target_deinit(&t);
}
END_TEST

int main(void)
{
    if (getuid() != 0) {
        fprintf(stderr, "skipped: only root can start processes as other users\n");
        return 77; /* meson: skipped */
    }
    Suite *suite = suite_create("access");
    TCase *tc = tcase_create("access");
    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, settings_none, settings_gone);
    tcase_add_test(tc, test_own_and_others);
    tcase_add_test(tc, test_every_id_counts);
    tcase_add_test(tc, test_undumpable);
    tcase_add_test(tc, test_capable);
    tcase_add_test(tc, test_user_namespaces);
    tcase_add_test(tc, test_group_of_a_user);
    tcase_add_test(tc, test_grant_to_a_user);
    tcase_add_test(tc, test_grant_to_a_group);
    tcase_add_test(tc, test_grant_to_everyone);
    tcase_add_test(tc, test_unlimited);
    tcase_add_test(tc, test_stranger_is_not_root);
    tcase_add_test(tc, test_kernel_rule);
    tcase_add_test(tc, test_kernel_by_asker);
    tcase_add_test(tc, test_process_that_ends);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
