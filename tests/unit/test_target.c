/* Processes as they are: live ones, ended ones, threads, kernel threads, 32-bit programs, and numbers that are used anew. */
#include <elf.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "daemon/target.h"
#include "tests/unit/talk.h"

static struct target open_target(pid_t pid)
{
    struct target t = TARGET_INIT;
    struct denial d = {0};
    if (target_open(pid, &t, &d) < 0)
        ck_abort_msg("%d %s", d.status, d.message);
    return t;
}

static void check_refused(pid_t pid, int status, const char *words)
{
    struct target t = TARGET_INIT;
    struct denial d = {0};
    ck_assert_int_eq(target_open(pid, &t, &d), -EACCES);
    ck_assert_int_eq(d.status, status);
    ck_assert_msg(strstr(d.message, words) != NULL, "\"%s\" lacks \"%s\"", d.message, words);
    ck_assert_int_eq(t.dir_fd, -1);
}

START_TEST(test_live_process)
{
    struct puppet p = puppet_start(puppet_idle, NULL);
    struct target t = open_target(p.pid);
    struct target_status s;
    struct target_stat stat;
    char comm[16], exe[4096], own[4096];

    ck_assert_int_eq(target_refresh(&t, &s), 0);
    ck_assert_int_eq(s.tgid, p.pid);
    ck_assert_uint_eq(s.uid[TARGET_REAL], getuid());
    ck_assert_int_eq(target_stat(&t, &stat), 0);
    ck_assert_uint_eq(stat.flags & TARGET_PF_KTHREAD, 0);
    ck_assert_int_eq(target_comm(&t, comm), 0);
    ck_assert_str_eq(comm, "test_target");
    ck_assert_int_eq(target_readlink(&t, "exe", exe, sizeof(exe)), 0);
    own[readlink("/proc/self/exe", own, sizeof(own) - 1)] = '\0';
    ck_assert_str_eq(exe, own);
    ck_assert_int_eq(target_readlink(&t, "exe", exe, 5), -ENAMETOOLONG);
    ck_assert_int_eq(target_thread_status(&t, p.pid, &s), 0);
    ck_assert_int_eq(target_thread_status(&t, getpid(), &s), -ESRCH);
    ck_assert_int_eq(target_thread_status(&t, -1, &s), -ESRCH);
    struct denial d;
    ck_assert_int_eq(target_check_program(&t, &d), 0);
    ck_assert(target_alive(&t));
    target_deinit(&t);
    target_deinit(&t);
    puppet_end(&p);
}
END_TEST

START_TEST(test_no_process)
{
    check_refused(0, 404, "no such process");
    check_refused(-1, 404, "no such process");
    check_refused(0x7ffffff0, 404, "no such process");
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    siginfo_t info;
    ck_assert_int_eq(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    check_refused(pid, 404, "no such process"); /* a zombie */
    waitpid(pid, NULL, 0);
    check_refused(pid, 404, "no such process");
}
END_TEST

/* Everything that is read of a process says that it has ended once it has, and never speaks of another one. */
START_TEST(test_process_that_ends)
{
    for (int reaped = 0; reaped < 2; reaped++) {
        struct puppet p = puppet_start(puppet_idle, NULL);
        struct target t = open_target(p.pid);
        struct target_status s;
        struct target_stat stat;
        struct denial d = {0};
        char comm[16], exe[64], *text;
        bool dumpable;
        size_t len;
        siginfo_t info;

        kill(p.pid, SIGKILL);
        ck_assert_int_eq(waitid(P_PID, (id_t)p.pid, &info, WEXITED | WNOWAIT), 0);
        if (reaped)
            puppet_end(&p);
        ck_assert(!target_alive(&t));
        ck_assert_int_eq(target_refresh(&t, &s), -ESRCH);
        ck_assert_int_eq(target_thread_status(&t, p.pid, &s), -ESRCH);
        ck_assert_int_eq(target_readlink(&t, "exe", exe, sizeof(exe)), -ESRCH);
        ck_assert_int_eq(target_check_program(&t, &d), -EACCES);
        ck_assert_int_eq(d.status, 404);
        if (reaped) {
            ck_assert_int_eq(target_stat(&t, &stat), -ESRCH);
            ck_assert_int_eq(target_comm(&t, comm), -ESRCH);
            ck_assert_int_eq(target_dumpable(&t, &s, &dumpable), -ESRCH);
            ck_assert_int_eq(target_open_file(&t, "maps", O_RDONLY), -ESRCH);
            ck_assert_int_eq(target_read_file(&t, "cmdline", 100, &text, &len), -ESRCH);
        }
        target_deinit(&t);
        if (!reaped)
            puppet_end(&p);
    }
}
END_TEST

/* ---- threads */

_Noreturn static void *thread_idle(void *arg)
{
    *(pid_t *)arg = (pid_t)syscall(SYS_gettid);
    for (;;)
        pause();
}

static void run_threads(int in, int out, void *arg)
{
    pid_t *tid = arg;
    pthread_t thread;
    pthread_create(&thread, NULL, thread_idle, tid);
    while (*(volatile pid_t *)tid == 0)
        usleep(100);
    if (puppet_wait(in, out, true) == 'e') {
        (void)!write(out, "!", 1);
        syscall(SYS_exit, 0); /* the main thread alone */
    }
    _exit(0);
}

START_TEST(test_threads)
{
    pid_t *tid = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct puppet p = puppet_start(run_threads, tid);
    char words[64];

    snprintf(words, sizeof(words), "thread of process %d", p.pid);
    check_refused(*tid, 404, words);
    struct target t = open_target(p.pid);
    struct target_status s;
    ck_assert_int_eq(target_thread_status(&t, *tid, &s), 0);
    ck_assert_int_eq(s.pid, *tid);
    ck_assert_uint_eq(s.threads, 2);

    /* The main thread ends: the process is one all the same, and another thread stands for it. */
    puppet_do(&p, 'e');
    do
        ck_assert_int_eq(target_refresh(&t, &s), 0);
    while (t.thread_fd < 0);
    ck_assert_int_eq(s.pid, *tid);
    char exe[4096];
    ck_assert_int_eq(target_readlink(&t, "exe", exe, sizeof(exe)), 0);
    ck_assert_ptr_nonnull(strstr(exe, "test_target"));
    AUTO_FREE char *maps = NULL;
    size_t len = 0;
    ck_assert_int_eq(target_read_file(&t, "maps", 1 << 20, &maps, &len), 0);
    ck_assert_uint_gt(len, 100);
    ck_assert_int_eq(target_thread_status(&t, p.pid, &s), -ESRCH);
    struct denial d;
    ck_assert_int_eq(target_check_program(&t, &d), 0);
    struct target again = open_target(p.pid);
    target_deinit(&again);
    target_deinit(&t);
    puppet_end(&p);
    munmap(tid, 4096);
}
END_TEST

/* ---- names */

static void rename_itself(int in, int out, void *arg)
{
    char command = puppet_wait(in, out, true);
    if (command == 'n')
        prctl(PR_SET_NAME, ") S 1 (x\n) 9 9");
    else
        prctl(PR_SET_NAME, "");
    for (;;)
        command = puppet_wait(in, out, true);
}

START_TEST(test_hostile_name)
{
    for (int empty = 0; empty < 2; empty++) {
        struct puppet p = puppet_start(rename_itself, NULL);
        struct target t = open_target(p.pid);
        struct target_stat before, after;
        struct target_status s;
        char comm[16];

        ck_assert_int_eq(target_stat(&t, &before), 0);
        puppet_do(&p, empty ? 'e' : 'n');
        ck_assert_int_eq(target_stat(&t, &after), 0);
        ck_assert_uint_eq(before.start_ticks, after.start_ticks);
        ck_assert_int_eq(target_refresh(&t, &s), 0);
        ck_assert_int_eq(target_comm(&t, comm), 0);
        ck_assert_str_eq(comm, empty ? "" : ") S 1 (x\n) 9 9");
        target_deinit(&t);
        puppet_end(&p);
    }
}
END_TEST

/* ---- what is no program to profile */

START_TEST(test_kernel_thread)
{
    char text[64] = "";
    AUTO_FCLOSE FILE *f = fopen("/proc/2/comm", "re");
    if (!f || !fgets(text, sizeof(text), f) || strcmp(text, "kthreadd\n") != 0) {
        fprintf(stderr, "skipped: no kernel threads are to be seen\n");
        return;
    }
    struct target t = open_target(2);
    struct denial d;
    char exe[64];
    ck_assert_int_eq(target_check_program(&t, &d), -EACCES);
    ck_assert_int_eq(d.status, 400);
    ck_assert_ptr_nonnull(strstr(d.message, "kernel"));
    ck_assert_int_eq(target_readlink(&t, "exe", exe, sizeof(exe)), getuid() == 0 ? 0 : -EACCES);
    target_deinit(&t);
}
END_TEST

/* The smallest 32-bit program: sleeps in pause(2) for good. */
static int make_32_bit_program(void)
{
    static const unsigned char code[] = {0xb8, 29, 0, 0, 0, 0xcd, 0x80, 0xeb, 0xf7};
    struct {
        Elf32_Ehdr header;
        Elf32_Phdr segment;
        unsigned char code[sizeof(code)];
    } file = {
        .header = {.e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS32, ELFDATA2LSB, EV_CURRENT}, .e_type = ET_EXEC,
                   .e_machine = EM_386, .e_version = EV_CURRENT, .e_entry = 0x10000 + sizeof(Elf32_Ehdr) + sizeof(Elf32_Phdr),
                   .e_phoff = sizeof(Elf32_Ehdr), .e_ehsize = sizeof(Elf32_Ehdr), .e_phentsize = sizeof(Elf32_Phdr), .e_phnum = 1},
        .segment = {.p_type = PT_LOAD, .p_vaddr = 0x10000, .p_filesz = sizeof(file), .p_memsz = sizeof(file), .p_flags = PF_R | PF_X,
                    .p_align = 0x1000},
    };
    memcpy(file.code, code, sizeof(code));
    int fd = memfd_create("program", MFD_CLOEXEC);
    ck_assert_int_eq(write(fd, &file, sizeof(file)), sizeof(file));
    return fd;
}

START_TEST(test_32_bit_program)
{
    AUTO_CLOSE int fd = make_32_bit_program();
    int failed[2];
    char byte;
    ck_assert_int_eq(pipe2(failed, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        char *argv[] = {"x", NULL}, *env[] = {NULL};
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        fexecve(fd, argv, env);
        (void)!write(failed[1], "x", 1);
        _exit(1);
    }
    close(failed[1]);
    bool runs = read(failed[0], &byte, 1) == 0;
    if (runs) {
        struct target t = open_target(pid);
        struct denial d;
        ck_assert_int_eq(target_check_program(&t, &d), -EACCES);
        ck_assert_int_eq(d.status, 400);
        ck_assert_ptr_nonnull(strstr(d.message, "32-bit"));
        target_deinit(&t);
    } else {
        fprintf(stderr, "skipped: this kernel runs no 32-bit programs\n");
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    close(failed[0]);
}
END_TEST

/* ---- reading */

START_TEST(test_file_that_is_too_long)
{
    struct puppet p = puppet_start(puppet_idle, NULL);
    struct target t = open_target(p.pid);
    char *text;
    size_t len;
    ck_assert_int_eq(target_read_file(&t, "maps", 100, &text, &len), -EFBIG);
    ck_assert_int_eq(target_read_file(&t, "maps", 1 << 20, &text, &len), 0);
    ck_assert_uint_eq(strlen(text), len);
    free(text);
    ck_assert_int_eq(target_read_file(&t, "fd", 100, &text, &len), -EISDIR);
    target_deinit(&t);
    puppet_end(&p);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("target");
    TCase *tc = tcase_create("target");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, test_live_process);
    tcase_add_test(tc, test_no_process);
    tcase_add_test(tc, test_process_that_ends);
    tcase_add_test(tc, test_threads);
    tcase_add_test(tc, test_hostile_name);
    tcase_add_test(tc, test_kernel_thread);
    tcase_add_test(tc, test_32_bit_program);
    tcase_add_test(tc, test_file_that_is_too_long);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
