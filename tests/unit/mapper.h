/* For tests of collectors: targets that map files and exec when they are told to, files to map, and what is asked of the table. */
#pragma once

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "daemon/raw_profile.h"
#include "tests/unit/talk.h"

/* Where targets map the test's files. */
#define PLACE ((void *)0x200000000000)
#define PLACE_BYTES 8192

__attribute__((unused)) static struct raw_profile talk_finish(struct talk *t)
{
    struct raw_profile p;
    int fd = -1;
    AUTO_CLOSE int whole = -1;

    talk_send(t, &(struct collector_message){.type = COLLECTOR_FINISH});
    (void)talk_expect(t, COLLECTOR_TABLE, &fd);
    ck_assert_int_ge(fd, 0);
    struct raw_writer *w = raw_writer_new();
    struct raw_params params = {.format = RAW_FORMAT_SYMBOL, .period = 1};
    ck_assert_int_eq(raw_writer_section(w, RAW_PARAMS, &params, sizeof(params)), 0);
    ck_assert_int_eq(raw_writer_append(w, fd), 0);
    whole = raw_writer_finish(w);
    raw_writer_free(w);
    close(fd);
    ck_assert_int_eq(raw_profile_open(whole, &p), 0);
    return p;
}

__attribute__((unused)) static const char *object_path(const struct raw_profile *p, const struct raw_mapping *m)
{
    return m->object == RAW_NO_OBJECT ? "" : raw_profile_string(p, p->objects[m->object].path);
}

/* The mapping of a file or name whose text ends so, the n-th in the table's order. */
__attribute__((unused)) static const struct raw_mapping *find_mapping(const struct raw_profile *p, const char *suffix, size_t n)
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

__attribute__((unused)) static const struct collector_message *talk_recheck(struct talk *t)
{
    talk_send(t, &(struct collector_message){.type = COLLECTOR_RECHECK});
    return talk_expect(t, COLLECTOR_ACCESS, NULL);
}

/* Asks for a file: fd, or -errno as it was answered. */
__attribute__((unused)) static int talk_file(struct talk *t, struct worker_message need)
{
    struct collector_message m = {.type = COLLECTOR_FILE, .u.file = need};
    int fd = -1;

    m.u.file.type = WORKER_NEED;
    m.u.file.job_id = 77;
    talk_send(t, &m);
    const struct collector_message *reply = talk_expect(t, COLLECTOR_FILE, &fd);
    ck_assert_uint_eq(reply->u.file.type, WORKER_FILE);
    ck_assert_uint_eq(reply->u.file.job_id, 77);
    ck_assert_int_eq(reply->u.file.u.file.error == 0, fd >= 0);
    return fd >= 0 ? fd : reply->u.file.u.file.error;
}

__attribute__((unused)) static int talk_file_of_kind(struct talk *t, uint32_t kind, uint32_t object, const char *name)
{
    struct worker_message need = {.u.need = {.kind = kind, .object = object}};
    (void)snprintf(need.u.need.name, sizeof(need.u.need.name), "%s", name);
    return talk_file(t, need);
}

/* One message, acted upon: what follows it in the conversation is answered after it. */
__attribute__((unused)) static void talk_epoch(struct talk *t, uint32_t epoch, bool exec)
{
    talk_send(t, &(struct collector_message){.type = COLLECTOR_EPOCH, .u.epoch = {epoch, exec}});
    if (!exec)
        ck_assert_int_eq(talk_file_of_kind(t, 0, 0, ""), -EINVAL);
}

__attribute__((unused)) static bool is_file(int fd, ino_t ino)
{
    struct stat st;
    bool same = fd >= 0 && fstat(fd, &st) == 0 && st.st_ino == ino;
    close_fd(&fd);
    return same;
}

/* A directory of the test's, removed at its end. */
static char scratch[64];

__attribute__((unused)) static const char *scratch_path(const char *name)
{
    static char path[4][PATH_MAX];
    static unsigned next;
    char *to = path[next++ % 4];
    (void)snprintf(to, PATH_MAX, "%s/%s", scratch, name);
    return to;
}

__attribute__((unused)) static void scratch_make(void)
{
    strcpy(scratch, "/tmp/test_collector.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(scratch));
    ck_assert_int_eq(chmod(scratch, 0755), 0);
}

__attribute__((unused)) static void scratch_remove(void)
{
    char command[128];
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", scratch);
    ck_assert_int_eq(system(command), 0);
}

/* A file of two pages, open. Its contents are all one byte. */
__attribute__((unused)) static int scratch_file(const char *name, char fill)
{
    char page[PLACE_BYTES];
    int fd = open(scratch_path(name), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    ck_assert_int_ge(fd, 0);
    memset(page, fill, sizeof(page));
    ck_assert_int_eq(write(fd, page, sizeof(page)), sizeof(page));
    return fd;
}

__attribute__((unused)) static ino_t inode_of(int fd)
{
    struct stat st;
    ck_assert_int_eq(fstat(fd, &st), 0);
    return st.st_ino;
}

__attribute__((unused)) static void scratch_copy_self(const char *to)
{
    char command[256];
    (void)snprintf(command, sizeof(command), "cp /proc/%d/exe '%s'", getpid(), to);
    ck_assert_int_eq(system(command), 0);
}

/* ---- targets */

struct mapper {
    int fd[2];       /* what 'a' and 'b' map */
    const char *exe; /* what 'x' executes */
    uint32_t uid;    /* whose it is; 0: the test's */
};

__attribute__((unused)) static void mapper_exec(const struct mapper *m, int in, int out)
{
    char in_text[16], out_text[16];
    (void)snprintf(in_text, sizeof(in_text), "%d", in);
    (void)snprintf(out_text, sizeof(out_text), "%d", out);
    execl(m->exe, "puppet with spaces", "puppet", in_text, out_text, "", NULL);
    _exit(1);
}

__attribute__((unused)) static void run_mapper(int in, int out, void *arg)
{
    const struct mapper *m = arg;

    if (m->uid && (setresgid(m->uid, m->uid, m->uid) < 0 || setresuid(m->uid, m->uid, m->uid) < 0))
        _exit(1);
    if (m->uid)
        prctl(PR_SET_DUMPABLE, 1);
    for (;;) {
        char command = puppet_wait(in, out, true);
        int prot = PROT_READ | PROT_EXEC, flags = MAP_PRIVATE | MAP_FIXED;
        void *at = PLACE;
        if (command == 'a' || command == 'b')
            at = mmap(PLACE, PLACE_BYTES, prot, flags, m->fd[command - 'a'], 0);
        else if (command == 'u')
            munmap(PLACE, PLACE_BYTES);
        else if (command == '0')
            at = mmap(PLACE, PLACE_BYTES, prot, flags | MAP_ANONYMOUS, -1, 0);
        else if (command == 'x')
            mapper_exec(m, in, out);
        if (at == MAP_FAILED)
            _exit(1);
    }
}

/* ---- the table */

/* The mapping of the program at an epoch. */
__attribute__((unused)) static const struct raw_mapping *program_in(const struct raw_profile *p, uint32_t epoch)
{
    for (size_t i = 0; i < p->n_mappings; i++) {
        const struct raw_mapping *m = &p->mappings[i];
        if (m->main_binary && m->first_epoch <= epoch && epoch <= m->last_epoch)
            return m;
    }
    return NULL;
}

__attribute__((unused)) static void check_epochs(const struct raw_mapping *m, uint32_t first, uint32_t last)
{
    ck_assert_ptr_nonnull(m);
    ck_assert_uint_eq(m->first_epoch, first);
    ck_assert_uint_eq(m->last_epoch, last);
}
