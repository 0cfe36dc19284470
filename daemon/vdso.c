/* A copy of the vdso. Owns nothing. */
#include "daemon/vdso.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/target_maps.h"
#include "util/cleanup.h"

struct bounds {
    uint64_t start, end;
};

static int bounds_of_start(const struct maps_entry *e, void *userdata)
{
    struct bounds *b = userdata;
    if (e->start == b->start)
        b->end = e->end;
    return 0;
}

static int write_whole(int fd, const uint8_t *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

int vdso_open(void)
{
    struct bounds b = {.start = getauxval(AT_SYSINFO_EHDR)};
    AUTO_CLOSE int maps = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (maps < 0)
        return -errno;
    int r = maps_read(maps, bounds_of_start, &b);
    if (r < 0)
        return r;
    if (b.start == 0 || b.end == 0)
        return -ENOENT;
    AUTO_CLOSE int fd = memfd_create("cprofd-vdso", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -errno;
    r = write_whole(fd, (const uint8_t *)(uintptr_t)b.start, b.end - b.start);
    if (r < 0)
        return r;
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
        return -errno;
    return TAKE_FD(fd);
}
