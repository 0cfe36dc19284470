/* Both ends of a go_program. Owns nothing beyond the calls. */
#include "daemon/go_job.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/table_job.h"
#include "util/cleanup.h"
#include "util/unwind_table.h"

/* ---- the worker's */

static void explain(int error, const struct go_runtime *r, char *message, size_t message_len)
{
    if (error == -ENOEXEC)
        (void)snprintf(message, message_len, "it is no Go program");
    else if (error == -ENODATA && r->version[0])
        (void)snprintf(message, message_len, "how %s lays out its goroutines is not known, and its DWARF does not say", r->version);
    else if (error == -ENODATA)
        (void)snprintf(message, message_len, "it does not say which Go it was built by");
    else
        (void)snprintf(message, message_len, "%s", strerror(-error));
}

int go_make(int elf_fd, int out_fd, uint64_t *ret_len, char *message, size_t message_len)
{
    struct go_runtime runtime = {0};
    uint64_t table_len;

    int r = go_runtime_open(elf_fd, &runtime);
    if (r < 0) {
        explain(r, &runtime, message, message_len);
        return r;
    }
    if (write(out_fd, &runtime, sizeof(runtime)) != sizeof(runtime))
        return -EIO;
    r = table_make(elf_fd, out_fd, &table_len, message, message_len);
    if (r == 0)
        *ret_len = sizeof(runtime) + table_len;
    return r;
}

/* ---- the collector's */

static int read_at(int fd, void *to, size_t len, off_t at)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pread(fd, (char *)to + done, len - done, at + (off_t)done);
        if (n <= 0)
            return n < 0 ? -errno : -EBADMSG;
        done += (size_t)n;
    }
    return 0;
}

int go_program_read(int fd, struct go_program *ret)
{
    struct go_program p = {0};
    struct stat st;

    if (fstat(fd, &st) < 0)
        return -errno;
    if ((size_t)st.st_size <= sizeof(p.runtime) || st.st_size > GO_PROGRAM_MAX_BYTES)
        return -EBADMSG;
    size_t len = (size_t)st.st_size - sizeof(p.runtime);
    AUTO_FREE void *image = malloc(len);
    if (!image)
        return -ENOMEM;
    int r = read_at(fd, &p.runtime, sizeof(p.runtime), 0);
    r = r ? r : read_at(fd, image, len, sizeof(p.runtime));
    if (r == 0 && (!go_runtime_is_sound(&p.runtime) || unwind_image_check(image, len) < 0))
        r = -EBADMSG;
    if (r < 0)
        return r;
    p.image = TAKE_PTR(image);
    *ret = p;
    return 0;
}

void go_program_deinit(struct go_program *p)
{
    free(p->image);
    *p = (struct go_program){0};
}
