/* For LD_PRELOAD: the kernel refuses the scheduler's program of the daemon, and takes all others. */
#include <dlfcn.h>
#include <errno.h>
#include <linux/bpf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/syscall.h>

long syscall(long number, ...)
{
    long (*next)(long, ...) = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    long args[6];
    va_list list;

    va_start(list, number);
    for (int i = 0; i < 6; i++)
        args[i] = va_arg(list, long);
    va_end(list);
    if (number == SYS_bpf && args[0] == BPF_PROG_LOAD && strcmp(((const union bpf_attr *)args[1])->prog_name, "on_switch") == 0) {
        errno = EINVAL;
        return -1;
    }
    return next(number, args[0], args[1], args[2], args[3], args[4], args[5]);
}
