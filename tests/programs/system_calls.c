/* Four fifths of the time in system calls (kernel_us= of every kernel_us + user_us): reads of /dev/zero,
 * each long enough that the way in and out is nothing beside the kernel's clearing of the buffer. */
#include <fcntl.h>
#include <unistd.h>

#include "program.h"

static struct tally tallies[] = { { .name = "in_kernel" }, { .name = "in_user" } };
static char buffer[256 * 1024];

static NOINLINE void in_kernel(int zero_fd, uint64_t ns)
{
    uint64_t start_ns = program_clock_ns(CLOCK_THREAD_CPUTIME_ID), last_ns = start_ns, now_ns;

    do {
        if (program_syscall(SYS_read, zero_fd, (long)buffer, sizeof(buffer)) != (long)sizeof(buffer))
            program_cannot("read /dev/zero");
        now_ns = program_clock_ns(CLOCK_THREAD_CPUTIME_ID);
        __atomic_fetch_add(&tallies[0].cpu_ns, now_ns - last_ns, __ATOMIC_RELAXED);
        last_ns = now_ns;
    } while (now_ns - start_ns < ns);
}

static NOINLINE void in_user(uint64_t ns)
{
    BURN(&tallies[1], ns);
}

int main(int argc, char **argv)
{
    uint64_t kernel_ns, user_ns;
    int zero_fd;

    program_init(argc, argv, tallies, 2);
    kernel_ns = (uint64_t)program_option("kernel_us", 4000) * 1000;
    user_ns = (uint64_t)program_option("user_us", 1000) * 1000;
    zero_fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    if (zero_fd < 0)
        program_cannot("open /dev/zero");
    program_ready();
    while (program_running()) {
        in_kernel(zero_fd, kernel_ns);
        in_user(user_ns);
    }
    close(zero_fd);
    return program_end();
}
