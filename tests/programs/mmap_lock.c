/* Holds its own mmap_lock until it ends, which nothing that reads its /proc files can outwait. How: it maps
 * a file of a FUSE file system whose server (a child of its own) never answers a read, and reads that page
 * through /proc/self/mem. The kernel then waits for the page with the lock held for reading, since this
 * path (access_remote_vm in mm/memory.c) asks for no retry; a second thread's mmap queues behind it for
 * writing, and from then on readers wait as well. A third thread burns in locked_work. Needs root (mount)
 * and /dev/fuse. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "program.h"

#define FILE_NODE 2
#define FILE_BYTES 4096

static struct tally tallies[] = { { .name = "locked_work" } };
static void *stuck_page;

static struct fuse_attr node_attr(uint64_t node)
{
    struct fuse_attr attr = {
        .ino = node,
        .size = FILE_BYTES,
        .mode = node == FILE_NODE ? S_IFREG | 0444 : S_IFDIR | 0555,
        .nlink = 1,
        .blksize = FILE_BYTES,
    };

    return attr;
}

static void fuse_answer(int fd, uint64_t unique, int error, const void *body, size_t len)
{
    char out[512];
    struct fuse_out_header header = {
        .len = (uint32_t)(sizeof(header) + len),
        .error = -error,
        .unique = unique,
    };

    memcpy(out, &header, sizeof(header));
    if (len > 0)
        memcpy(out + sizeof(header), body, len);
    if (write(fd, out, header.len) < 0 && errno != ENOENT)
        _exit(1);
}

/* Reads get no answer, which is the point; what wants none gets none. */
static void fuse_serve_one(int fd, const struct fuse_in_header *in)
{
    struct fuse_init_out init = {
        .major = FUSE_KERNEL_VERSION,
        .minor = FUSE_KERNEL_MINOR_VERSION,
        .max_write = 4096,
    };
    struct fuse_entry_out entry = {
        .nodeid = FILE_NODE,
        .entry_valid = 3600,
        .attr_valid = 3600,
        .attr = node_attr(FILE_NODE),
    };
    struct fuse_attr_out attr = { .attr_valid = 3600, .attr = node_attr(in->nodeid) };
    struct fuse_open_out opened = {};

    switch (in->opcode) {
    case FUSE_INIT:
        fuse_answer(fd, in->unique, 0, &init, sizeof(init));
        break;
    case FUSE_LOOKUP:
        fuse_answer(fd, in->unique, 0, &entry, sizeof(entry));
        break;
    case FUSE_GETATTR:
        fuse_answer(fd, in->unique, 0, &attr, sizeof(attr));
        break;
    case FUSE_OPEN:
        fuse_answer(fd, in->unique, 0, &opened, sizeof(opened));
        break;
    case FUSE_READ:
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT:
        break;
    default:
        fuse_answer(fd, in->unique, ENOSYS, NULL, 0);
    }
}

static void fuse_serve(int fd)
{
    static _Alignas(uint64_t) char request[FUSE_MIN_READ_BUFFER + 4096];

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGINT, SIG_IGN);
    for (;;)
        if (read(fd, request, sizeof(request)) >= (ssize_t)sizeof(struct fuse_in_header))
            fuse_serve_one(fd, (const struct fuse_in_header *)request);
        else if (errno != EINTR && errno != ENOENT)
            _exit(0);
}

/* The mount is detached at once, so that nothing is left behind; the open file keeps the file system alive. */
static void *map_stuck_page(void)
{
    char directory[] = "/tmp/mmap_lock.XXXXXX", options[96], path[64];
    int fuse_fd = open("/dev/fuse", O_RDWR | O_CLOEXEC), fd;
    void *page;

    if (fuse_fd < 0 || !mkdtemp(directory))
        program_cannot("open /dev/fuse");
    snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0", fuse_fd);
    if (mount("mmap_lock", directory, "fuse", MS_NOSUID | MS_NODEV, options) < 0) {
        rmdir(directory);
        program_cannot("mount a FUSE file system");
    }
    if (fork() == 0)
        fuse_serve(fuse_fd);
    close(fuse_fd);
    snprintf(path, sizeof(path), "%s/file", directory);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    page = fd < 0 ? MAP_FAILED : mmap(NULL, FILE_BYTES, PROT_READ, MAP_PRIVATE, fd, 0);
    umount2(directory, MNT_DETACH);
    rmdir(directory);
    if (page == MAP_FAILED)
        program_cannot("map a file of it");
    return page;
}

static void *hold_for_reading(void *unused)
{
    int fd = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    char byte;

    (void)unused;
    if (fd < 0 || pread(fd, &byte, 1, (off_t)(uintptr_t)stuck_page) < 0)
        program_cannot("read the page");
    return NULL;
}

/* Late enough that the reader holds the lock already. */
static void *queue_for_writing(void *unused)
{
    (void)unused;
    program_sleep_until(program_clock_ns(CLOCK_MONOTONIC) + 100 * MS_NS);
    if (mmap(NULL, FILE_BYTES, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
        program_cannot("map memory");
    return NULL;
}

static NOINLINE void locked_work(void)
{
    BURN(&tallies[0], MS_NS);
}

int main(int argc, char **argv)
{
    static char output[BUFSIZ];
    pthread_t reader, writer;

    program_init(argc, argv, tallies, 1);
    /* Left behind, it would hang every ps of the host. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    /* A page that is first touched once the lock is held stays away for good: all that the main thread needs is there before. */
    if (setvbuf(stdout, output, _IOLBF, sizeof(output)) != 0 || mlockall(MCL_CURRENT) < 0)
        program_cannot("lock its memory");
    stuck_page = map_stuck_page();
    if (pthread_create(&reader, NULL, hold_for_reading, NULL) != 0 ||
        pthread_create(&writer, NULL, queue_for_writing, NULL) != 0)
        program_cannot("start threads");
    program_sleep_until(program_clock_ns(CLOCK_MONOTONIC) + 200 * MS_NS);
    program_ready();
    while (program_running())
        locked_work();
    (void)program_end();
    _exit(0);
}
