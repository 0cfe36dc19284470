/* The table of system calls that wait. One that is not here waits for something that has no better name than OTHER, unless the kernel says
 * that it is a disk. */
#include "bpf/syscall_states.h"

#include <string.h>
#include <sys/syscall.h>

/* For other threads and processes to let go of something. */
static const int lock_calls[] = {
    SYS_futex, SYS_semop, SYS_semtimedop, SYS_flock, SYS_fcntl, /* which waits for F_SETLKW alone */
#ifdef SYS_futex_wait
    SYS_futex_wait,
#endif
#ifdef SYS_futex_waitv
    SYS_futex_waitv,
#endif
};

/* For data to come, or to be taken. */
static const int io_calls[] = {
    SYS_read, SYS_write, SYS_readv, SYS_writev, SYS_pread64, SYS_pwrite64, SYS_preadv, SYS_pwritev, SYS_preadv2, SYS_pwritev2,
    SYS_recvfrom, SYS_sendto, SYS_recvmsg, SYS_sendmsg, SYS_recvmmsg, SYS_sendmmsg, SYS_accept, SYS_accept4, SYS_connect,
    SYS_fsync, SYS_fdatasync, SYS_sync, SYS_syncfs, SYS_sync_file_range, SYS_msync, SYS_fallocate, SYS_ftruncate, SYS_truncate,
    SYS_sendfile, SYS_splice, SYS_tee, SYS_vmsplice, SYS_copy_file_range, SYS_readahead, SYS_openat, SYS_openat2, SYS_close,
    SYS_unlinkat, SYS_mkdirat, SYS_renameat2, SYS_statx, SYS_getdents64, SYS_io_getevents, SYS_io_pgetevents, SYS_io_submit, SYS_io_uring_enter,
    SYS_mq_timedreceive, SYS_mq_timedsend, SYS_msgrcv, SYS_msgsnd,
#ifdef SYS_open
    SYS_open, SYS_creat, SYS_stat, SYS_lstat, SYS_getdents, SYS_unlink, SYS_mkdir, SYS_rmdir, SYS_rename,
#endif
#ifdef SYS_renameat
    SYS_renameat,
#endif
#ifdef SYS_newfstatat
    SYS_newfstatat,
#endif
};

/* For time to pass, or for any of several events. */
static const int sleep_calls[] = {
    SYS_nanosleep, SYS_clock_nanosleep, SYS_ppoll, SYS_pselect6, SYS_epoll_pwait, SYS_rt_sigsuspend, SYS_rt_sigtimedwait,
#ifdef SYS_epoll_pwait2
    SYS_epoll_pwait2,
#endif
#ifdef SYS_poll
    SYS_poll, SYS_select, SYS_epoll_wait, SYS_pause,
#endif
};

static void fill(uint8_t ret[SCHED_SYSCALLS], const int *calls, size_t n, enum sample_state state)
{
    for (size_t i = 0; i < n; i++)
        if (calls[i] < SCHED_SYSCALLS)
            ret[calls[i]] = (uint8_t)state;
}

void syscall_states(uint8_t ret[SCHED_SYSCALLS])
{
    memset(ret, SAMPLE_STATE_NONE, SCHED_SYSCALLS);
    fill(ret, lock_calls, sizeof(lock_calls) / sizeof(lock_calls[0]), SAMPLE_STATE_LOCK);
    fill(ret, io_calls, sizeof(io_calls) / sizeof(io_calls[0]), SAMPLE_STATE_IO);
    fill(ret, sleep_calls, sizeof(sleep_calls) / sizeof(sleep_calls[0]), SAMPLE_STATE_SLEEP);
}
