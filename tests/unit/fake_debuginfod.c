/* A debuginfod client that does what the first byte of a build id says, and begins as the first server's name says. It stands in for
 * the real one, so that each of its ends can be tried. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/debuginfod_proto.h"
#include "util/fdmsg.h"

#define SOCK 3

static void answer_with(const struct debuginfod_message *m, int fd)
{
    if (fdmsg_send(SOCK, m, sizeof(*m), &fd, fd >= 0 ? 1 : 0) < 0)
        _exit(1);
}

static int open_self(int flags)
{
    return open("/proc/self/exe", flags);
}

static bool is(const struct debuginfod_message *m, const char *prefix)
{
    return strncmp(m->build_id, prefix, 2) == 0;
}

static void on_lookup(const struct debuginfod_message *m, struct debuginfod_message *a)
{
    if (is(m, "a0")) {
        answer_with(a, open_self(O_RDONLY));
        return;
    }
    if (is(m, "a2"))
        _exit(1);
    a->error = -ENOENT;
    a->absent = is(m, "a1") ? ~0u : 0;
    answer_with(a, -1);
}

static void refuse(struct debuginfod_message *a, int error)
{
    a->error = error;
    memset(a->text, 'x', sizeof(a->text)); /* no end */
    answer_with(a, -1);
}

static void on_download(const struct debuginfod_message *m, struct debuginfod_message *a)
{
    int pair[2];

    if (is(m, "b1") && m->server == 0)
        refuse(a, -ENOENT);
    else if (is(m, "b2"))
        refuse(a, -ENOENT);
    else if (is(m, "b3"))
        (void)pause();
    else if (is(m, "b4"))
        _exit(1);
    else if (is(m, "b5"))
        refuse(a, -EIO);
    else if (is(m, "b6"))
        refuse(a, -EBADMSG);
    else if (is(m, "b7"))
        refuse(a, -EFBIG);
    else if (is(m, "c0")) {
        strcpy(a->build_id, "c1");
        answer_with(a, open_self(O_RDONLY));
    } else if (is(m, "c1"))
        refuse(a, EIO);
    else if (is(m, "c2"))
        answer_with(a, -1);
    else if (is(m, "c3"))
        answer_with(a, pipe(pair) == 0 ? pair[0] : -1);
    else if (is(m, "c4"))
        answer_with(a, open(".", O_TMPFILE | O_RDWR, 0600));
    else if (is(m, "c5"))
        (void)fdmsg_send(SOCK, a, sizeof(*a) - 8, NULL, 0);
    else if (is(m, "c6")) {
        a->type = DEBUGINFOD_READY;
        answer_with(a, -1);
    } else {
        if (is(m, "b8"))
            (void)usleep(300000);
        answer_with(a, open_self(O_RDONLY));
    }
}

static void begin(void)
{
    struct debuginfod_message ready = {.type = DEBUGINFOD_READY};
    const char *urls = getenv("DEBUGINFOD_URLS");

    if (!urls || getenv("HOME")) /* nothing but what is for it */
        _exit(1);
    if (strcmp(urls, "http://dies") == 0)
        _exit(1);
    if (strcmp(urls, "http://hangs") == 0)
        (void)pause();
    if (strcmp(urls, "http://unusable") == 0) {
        ready.error = -ELIBACC;
        strcpy(ready.text, "as the test wants it");
    }
    answer_with(&ready, -1);
}

int main(void)
{
    struct debuginfod_message m;

    begin();
    while (fdmsg_recv(SOCK, &m, sizeof(m), NULL, NULL) == sizeof(m)) {
        struct debuginfod_message a = {.type = DEBUGINFOD_ANSWER, .server = m.server};
        strcpy(a.build_id, m.build_id);
        if (m.type == DEBUGINFOD_LOOKUP)
            on_lookup(&m, &a);
        else
            on_download(&m, &a);
    }
    return 0;
}
