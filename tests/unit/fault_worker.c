/* A worker that does what its job's input says, one command a line, so that a pool meets every way to
 * misbehave. Not linked with the daemon's worker, and never sanitized: the sandbox in it is the production
 * one.
 *
 *   touch N | write TEXT | need N | crash | hang | exit | hog | fail | excluded
 *   lie | mumble | stray | greedy | endless | overdraw
 *   draft TEXT             what is known so far
 *   pid | spare            writes its own; what the job is to do without
 *   rest N                 its cache's bytes after the job
 *   pause N                N milliseconds
 *   table PAGES ROWS       writes the image of an unwinding table
 *   error N                the job fails by that errno
 *   unless N COMMAND       where object N is not excluded (N wholly: not wholly)
 *   symbols COMMAND        where symbols are still asked for */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "daemon/sandbox.h"
#include "daemon/worker_proto.h"
#include "tests/unit/table_image.h"
#include "util/fdmsg.h"

#define SOCK 3
#define HOG_STEP_BYTES (1 << 20)

static struct worker_message job;
static int output;
static struct worker_message done;
static uint64_t body_offset, rest_bytes;

static void reply(struct worker_message *m)
{
    m->job_id = job.job_id;
    if (fdmsg_send(SOCK, m, sizeof(*m), NULL, 0) < 0)
        _exit(4);
}

static void out(const char *text)
{
    if (write(output, text, strlen(text)) < 0)
        _exit(5);
}

static void need(unsigned object)
{
    struct worker_message m = {.type = WORKER_NEED, .u.need = {.kind = WORKER_FILE_OBJECT, .object = object}},
                          answer;
    char text[64] = "";
    size_t n_fds = 1;
    int fd = -1;

    reply(&m);
    if (fdmsg_recv(SOCK, &answer, sizeof(answer), &fd, &n_fds) != sizeof(answer) ||
        answer.type != WORKER_FILE)
        _exit(6);
    if (answer.u.file.error != 0)
        (void)snprintf(text, sizeof(text), "error %d;", -answer.u.file.error);
    else if (n_fds != 1 || pread(fd, text, sizeof(text) - 1, 0) < 0)
        _exit(7);
    out(text);
    if (fd >= 0)
        (void)close(fd);
}

static void draft(const char *text)
{
    struct worker_message m = {.type = WORKER_DRAFT, .u.draft = {.offset = body_offset, .samples = 5}};

    out(text);
    body_offset = (uint64_t)lseek(output, 0, SEEK_CUR);
    m.u.draft.len = body_offset - m.u.draft.offset;
    reply(&m);
}

static void describe(const char *command)
{
    char text[64];

    if (strcmp(command, "pid") == 0)
        (void)snprintf(text, sizeof(text), "%d", (int)getpid());
    else
        (void)snprintf(text, sizeof(text), "spare %u:%u", job.u.job.spare, job.u.job.spare_blame);
    out(text);
}

/* Takes all the memory that it gets, says how much, and reports the shortage as a real worker does. */
static void hog(void)
{
    size_t steps = 0;
    char *p;

    while ((p = malloc(HOG_STEP_BYTES))) {
        memset(p, 1, HOG_STEP_BYTES);
        steps++;
    }
    done.u.done.error = steps > 0 ? -ENOMEM : -EIO;
}

static void table(unsigned n_pages, unsigned n_rows)
{
    struct table_image image = table_image_new(0, n_pages, n_rows, 0);

    if (write(output, image.bytes, image.len) != (ssize_t)image.len)
        _exit(11);
    free(image.bytes);
}

static void excluded(void)
{
    char text[32];

    for (uint32_t i = 0; i < job.u.job.n_excluded; i++) {
        (void)snprintf(text, sizeof(text), "%u:%u;", job.u.job.excluded[i], job.u.job.blame[i]);
        out(text);
    }
    (void)snprintf(text, sizeof(text), "no_symbols %u", job.u.job.no_symbols);
    out(text);
}

static bool is_excluded(unsigned object, bool wholly)
{
    for (uint32_t i = 0; i < job.u.job.n_excluded; i++)
        if (job.u.job.excluded[i] == object && (!wholly || job.u.job.wholly[i]))
            return true;
    return false;
}

/* What the protocol forbids. */
static void misbehave(const char *command)
{
    struct worker_message m = {.type = WORKER_NEED, .u.need.kind = WORKER_FILE_OBJECT},
                          overdraft = {.type = WORKER_DRAFT, .u.draft = {.offset = UINT64_MAX, .len = 1}}, answer;

    if (strcmp(command, "lie") == 0) /* about the body's length */
        done.u.done.body.len = 1 << 20;
    else if (strcmp(command, "mumble") == 0) /* half a message */
        (void)fdmsg_send(SOCK, "?", 1, NULL, 0);
    else if (strcmp(command, "stray") == 0) /* another job's */
        job.job_id++;
    else if (strcmp(command, "greedy") == 0) { /* two files at once; where it lives on, both answers come */
        reply(&m);
        reply(&m);
        for (int i = 0; i < 2; i++)
            if (fdmsg_recv(SOCK, &answer, sizeof(answer), NULL, NULL) != sizeof(answer))
                _exit(8);
    } else if (strcmp(command, "overdraw") == 0) { /* a draft that is not there */
        reply(&overdraft);
    } else if (strcmp(command, "endless") == 0) { /* a string without an end */
        memset(m.u.need.name, 'a', sizeof(m.u.need.name));
        reply(&m);
    } else {
        _exit(8);
    }
}

static void run(const char *command)
{
    struct worker_message touch = {.type = WORKER_TOUCH};
    unsigned n, rows;
    int at = 0;

    if (sscanf(command, "unless %u wholly %n", &n, &at) == 1 && at > 0) {
        if (!is_excluded(n, true))
            run(command + at);
    } else if (sscanf(command, "unless %u %n", &n, &at) == 1 && at > 0) {
        if (!is_excluded(n, false))
            run(command + at);
    } else if (strncmp(command, "symbols ", 8) == 0) {
        if (!job.u.job.no_symbols)
            run(command + 8);
    } else if (sscanf(command, "touch %u", &touch.u.touch.object) == 1) {
        reply(&touch);
    } else if (sscanf(command, "need %u", &n) == 1) {
        need(n);
    } else if (strncmp(command, "write ", 6) == 0) {
        out(command + 6);
    } else if (sscanf(command, "table %u %u", &n, &rows) == 2) {
        table(n, rows);
    } else if (sscanf(command, "error %u", &n) == 1) {
        done.u.done.error = -(int)n;
    } else if (strncmp(command, "draft ", 6) == 0) {
        draft(command + 6);
    } else if (strcmp(command, "pid") == 0 || strcmp(command, "spare") == 0) {
        describe(command);
    } else if (sscanf(command, "rest %u", &n) == 1) {
        rest_bytes = n;
    } else if (sscanf(command, "pause %u", &n) == 1) {
        (void)usleep(n * 1000);
    } else if (strcmp(command, "crash") == 0) {
        abort();
    } else if (strcmp(command, "hang") == 0) {
        for (;;)
            continue;
    } else if (strcmp(command, "exit") == 0) {
        _exit(0);
    } else if (strcmp(command, "hog") == 0) {
        hog();
    } else if (strcmp(command, "excluded") == 0) {
        excluded();
    } else if (strcmp(command, "fail") == 0) {
        done.u.done.error = -EINVAL;
        (void)snprintf(done.u.done.message, sizeof(done.u.done.message), "no such thing");
    } else {
        misbehave(command);
    }
}

static void serve(int input)
{
    char script[4096] = "", *save = NULL;

    if (job.u.job.kind == WORKER_PROBE)
        (void)snprintf(script, sizeof(script), "%s", job.u.job.probe.symbol);
    else if (pread(input, script, sizeof(script) - 1, 0) < 0)
        _exit(9);
    done = (struct worker_message){.type = WORKER_DONE,
                                   .u.done = {.body = {.samples = 3, .rooted = 2, .lost = 1}, .cache_bytes = 7}};
    body_offset = rest_bytes = 0;
    for (char *line = strtok_r(script, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
        run(line);
    done.u.done.body.offset = body_offset;
    if (done.u.done.body.len == 0)
        done.u.done.body.len = (uint64_t)lseek(output, 0, SEEK_CUR) - body_offset;
    reply(&done);
    if (rest_bytes)
        reply(&(struct worker_message){.type = WORKER_REST, .u.rest.cache_bytes = rest_bytes});
}

int main(int argc, char **argv)
{
    struct sandbox sandbox = {.last_fd = SOCK, .file_bytes = 1 << 20};

    if (argc != 5 || strcmp(argv[1], "--role=worker") != 0 ||
        sscanf(argv[2], "--parent=%d", &sandbox.parent) != 1 ||
        sscanf(argv[3], "--memory-bytes=%lu", &sandbox.memory_bytes) != 1)
        return 2;
    if (sandbox_enter(&sandbox) < 0)
        return 3;
    for (;;) {
        int fds[2];
        size_t n_fds = 2;
        ssize_t n = fdmsg_recv(SOCK, &job, sizeof(job), fds, &n_fds);
        if (n == 0)
            return 0;
        if (n != sizeof(job) || n_fds != 2)
            return 10;
        output = fds[1];
        serve(fds[0]);
        (void)close(fds[0]);
        (void)close(fds[1]);
    }
}
