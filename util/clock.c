/* How far this process's clock is ahead of the kernel's. Owns that number. */
#include "util/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "util/cleanup.h"

uint64_t clock_ahead_ns;

int clock_parse_offsets(const char *text, uint64_t *ret_ahead_ns)
{
    int64_t seconds;
    uint64_t ns;

    /* The kernel takes seconds of up to 2^63 / 10^9 to either side, and writes nanoseconds as what is to be added to them. */
    for (const char *line = text; line; line = strchr(line, '\n'), line = line ? line + 1 : NULL)
        if (sscanf(line, "monotonic %" SCNd64 " %" SCNu64, &seconds, &ns) == 2 && ns < NSEC_PER_SEC) {
            *ret_ahead_ns = (uint64_t)seconds * NSEC_PER_SEC + ns;
            return 0;
        }
    return -EBADMSG;
}

/* The file tells of the namespace that children will be in. */
static int clock_check_children(void)
{
    char own[64] = "", children[64] = "";

    if (readlink("/proc/self/ns/time", own, sizeof(own) - 1) < 0 || readlink("/proc/self/ns/time_for_children", children, sizeof(children) - 1) < 0)
        return -errno;
    return strcmp(own, children) == 0 ? 0 : -EXDEV;
}

int clock_init(void)
{
    char text[256] = "";
    AUTO_CLOSE int fd = open("/proc/self/timens_offsets", O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return errno == ENOENT ? 0 : -errno; /* a kernel without time namespaces */
    ssize_t len = read(fd, text, sizeof(text) - 1);
    if (len < 0)
        return -errno;
    int r = clock_check_children();
    return r < 0 ? r : clock_parse_offsets(text, &clock_ahead_ns);
}
