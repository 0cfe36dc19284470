/* ptrace: starts a program, steps it, passes its signals on, and reads what a stop shows. One thread is stepped; children are
 * not followed. Everything is read through a small cache of pages that one stop fills: a walk reads words, and often the same. */
#include "tests/unwind/tracee.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "util/cleanup.h"

#define STACK_LIMIT_BYTES (128ul << 20) /* for programs with frames of many MiB */

static _Noreturn void run_program(char **argv, int cpu)
{
    struct rlimit limit = {.rlim_cur = STACK_LIMIT_BYTES, .rlim_max = RLIM_INFINITY};
    cpu_set_t cpus;

    CPU_ZERO(&cpus);
    CPU_SET(cpu, &cpus);
    (void)sched_setaffinity(0, sizeof(cpus), &cpus);
    (void)personality(ADDR_NO_RANDOMIZE);
    (void)getrlimit(RLIMIT_STACK, &limit);
    limit.rlim_cur = STACK_LIMIT_BYTES;
    (void)setrlimit(RLIMIT_STACK, &limit);
    (void)unsetenv("LD_BIND_NOW");
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0)
        execv(argv[0], argv);
    _exit(127);
}

/* What a wait said. True: it is a stop of the thread that is stepped. A new thread's first stop may come before its creator's event:
 * it is left standing. */
static bool take_status(struct tracee *tracee, pid_t tid, int status)
{
    bool ended = WIFEXITED(status) || WIFSIGNALED(status);

    if (ended && (tid == tracee->pid || tid == tracee->tid)) {
        tracee->ended = true;
        tracee->status = status;
        return true;
    }
    if (tid == tracee->tid) {
        tracee->status = status;
        return true;
    }
    if (!ended && tid != tracee->pid) {
        tracee->born = tid;
    } else if (!ended) {
        int signal = WSTOPSIG(status) == SIGTRAP || WSTOPSIG(status) == SIGSTOP ? 0 : WSTOPSIG(status);
        (void)ptrace(PTRACE_CONT, tid, NULL, (void *)(long)signal);
    }
    return false;
}

/* Waits for a stop of the thread that is stepped. */
static int wait_stop(struct tracee *tracee)
{
    for (;;) {
        int status;
        pid_t tid = waitpid(tracee->follow_threads ? -1 : tracee->tid, &status, __WALL);

        if (tid < 0)
            return -errno;
        if (take_status(tracee, tid, status))
            break;
    }
    tracee->stop++;
    if (tracee->ended)
        return 0;
    return ptrace(PTRACE_GETREGS, tracee->tid, NULL, &tracee->regs) ? -errno : 0;
}

/* The thread that was stepped began another: that one is stepped from now on. */
static int follow_thread(struct tracee *tracee)
{
    unsigned long tid = 0;
    int status, r;

    if (ptrace(PTRACE_GETEVENTMSG, tracee->tid, NULL, &tid))
        return -errno;
    if (tracee->born != (pid_t)tid && waitpid((pid_t)tid, &status, __WALL) < 0)
        return -errno;
    r = ptrace(PTRACE_CONT, tracee->tid, NULL, NULL) ? -errno : 0;
    tracee->tid = (pid_t)tid;
    tracee->thread_began = true;
    if (!r && ptrace(PTRACE_GETREGS, tracee->tid, NULL, &tracee->regs))
        r = -errno;
    return r;
}

/* What a stop was for: a signal is kept for the next step, an event is looked into. */
static int take_stop(struct tracee *tracee)
{
    int event = tracee->status >> 16;

    tracee->signal = 0;
    tracee->thread_began = false;
    if (tracee->ended)
        return 0;
    if (event == PTRACE_EVENT_CLONE)
        return follow_thread(tracee);
    if (event == 0 && WSTOPSIG(tracee->status) != SIGTRAP)
        tracee->signal = WSTOPSIG(tracee->status);
    return 0;
}

static int cont(struct tracee *tracee, int request)
{
    int r;

    tracee->delivered = tracee->signal;
    if (ptrace(request, tracee->tid, NULL, (void *)(long)tracee->signal))
        return -errno;
    r = wait_stop(tracee);
    return r ? r : take_stop(tracee);
}

int tracee_start(struct tracee *tracee, char **argv, int cpu)
{
    pid_t pid = fork();
    long options = PTRACE_O_EXITKILL | (tracee->follow_threads ? PTRACE_O_TRACECLONE : 0);
    cpu_set_t cpus;
    int r;

    if (pid < 0)
        return -errno;
    if (pid == 0)
        run_program(argv, cpu);
    /* On one CPU: else each step wakes another CPU up, which takes three times as long. */
    CPU_ZERO(&cpus);
    CPU_SET(cpu, &cpus);
    (void)sched_setaffinity(0, sizeof(cpus), &cpus);
    tracee->pid = tracee->tid = pid;
    tracee->maps_stale = true;
    r = wait_stop(tracee);
    if (r || tracee->ended)
        return r ? r : -ENOEXEC;
    return ptrace(PTRACE_SETOPTIONS, pid, NULL, (void *)options) ? -errno : 0;
}

/* Mappings change in few system calls: of all others nothing is read again. */
static bool changes_maps(long number)
{
    return number == SYS_mmap || number == SYS_munmap || number == SYS_mremap || number == SYS_mprotect || number == SYS_brk;
}

int tracee_step(struct tracee *tracee, bool is_system_call)
{
    if (is_system_call && changes_maps((long)tracee->regs.rax))
        tracee->maps_stale = true;
    return cont(tracee, PTRACE_SINGLESTEP);
}

static int poke_byte(struct tracee *tracee, uint64_t address, uint8_t byte, uint8_t *ret_old)
{
    long word;

    errno = 0;
    word = ptrace(PTRACE_PEEKTEXT, tracee->tid, (void *)address, NULL);
    if (errno)
        return -errno;
    *ret_old = (uint8_t)word;
    word = (word & ~0xffl) | byte;
    return ptrace(PTRACE_POKETEXT, tracee->tid, (void *)address, (void *)word) ? -errno : 0;
}

int tracee_run_to(struct tracee *tracee, uint64_t address)
{
    uint8_t old, breakpoint = 0xcc;
    int r = poke_byte(tracee, address, breakpoint, &old);

    if (r)
        return r;
    do {
        r = cont(tracee, PTRACE_CONT);
        if (r || tracee->ended)
            return r ? r : -ESRCH;
    } while (tracee->regs.rip != address + 1 || WSTOPSIG(tracee->status) != SIGTRAP);
    tracee->regs.rip = address;
    if (ptrace(PTRACE_SETREGS, tracee->tid, NULL, &tracee->regs))
        return -errno;
    tracee->stop++;
    tracee->maps_stale = true;
    return poke_byte(tracee, address, old, &breakpoint);
}

static void free_maps(struct tracee *tracee)
{
    for (size_t i = 0; i < tracee->n_maps; i++)
        free(tracee->maps[i].path);
    free(tracee->maps);
    tracee->maps = NULL;
    tracee->n_maps = 0;
}

void tracee_end(struct tracee *tracee)
{
    int status;

    if (!tracee->ended && tracee->pid > 0) {
        (void)kill(tracee->pid, SIGKILL);
        while (waitpid(-1, &status, __WALL) > 0 || errno == EINTR)
            ;
    }
    free_maps(tracee);
    tracee->pid = 0;
}

static const uint8_t *page_at(struct tracee *tracee, uint64_t address)
{
    size_t i = (address / TRACEE_PAGE_BYTES) % TRACEE_CACHED_PAGES;
    struct iovec local = {.iov_base = tracee->pages[i].bytes, .iov_len = TRACEE_PAGE_BYTES};
    struct iovec remote = {.iov_base = (void *)address, .iov_len = TRACEE_PAGE_BYTES};

    if (tracee->pages[i].address == address && tracee->pages[i].stop == tracee->stop)
        return tracee->pages[i].bytes;
    tracee->pages[i].stop = 0;
    if (process_vm_readv(tracee->pid, &local, 1, &remote, 1, 0) != TRACEE_PAGE_BYTES)
        return NULL;
    tracee->pages[i].address = address;
    tracee->pages[i].stop = tracee->stop;
    return tracee->pages[i].bytes;
}

int tracee_read(struct tracee *tracee, void *to, size_t size, uint64_t address)
{
    uint8_t *out = to;

    while (size) {
        uint64_t offset = address % TRACEE_PAGE_BYTES;
        size_t part = size < TRACEE_PAGE_BYTES - offset ? size : TRACEE_PAGE_BYTES - offset;
        const uint8_t *page = page_at(tracee, address - offset);

        if (!page)
            return -EFAULT;
        memcpy(out, page + offset, part);
        out += part;
        address += part;
        size -= part;
    }
    return 0;
}

static int add_map(struct tracee *tracee, const char *line)
{
    struct tracee_map map = {0}, *maps;
    char permissions[5];
    int path_at = 0;

    if (sscanf(line, "%lx-%lx %4s %lx %x:%x %lu %n", &map.start, &map.end, permissions, &map.offset, &map.device_major,
               &map.device_minor, &map.inode, &path_at) < 7)
        return -EINVAL;
    map.executable = permissions[2] == 'x';
    map.path = strndup(line + path_at, strcspn(line + path_at, "\n"));
    maps = reallocarray(tracee->maps, tracee->n_maps + 1, sizeof(*maps));
    if (!map.path || !maps) {
        free(map.path);
        return -ENOMEM;
    }
    tracee->maps = maps;
    tracee->maps[tracee->n_maps++] = map;
    return 0;
}

int tracee_read_maps(struct tracee *tracee)
{
    char path[64];
    AUTO_FREE char *line = NULL;
    AUTO_FCLOSE FILE *file = NULL;
    size_t size = 0;
    int r = 0;

    (void)snprintf(path, sizeof(path), "/proc/%d/maps", tracee->pid);
    file = fopen(path, "re");
    if (!file)
        return -errno;
    free_maps(tracee);
    while (!r && getline(&line, &size, file) > 0)
        r = add_map(tracee, line);
    tracee->maps_stale = false;
    tracee->maps_read++;
    return r;
}

static const struct tracee_map *find_map(struct tracee *tracee, uint64_t address)
{
    size_t low = 0, high = tracee->n_maps;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (tracee->maps[middle].end <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low < tracee->n_maps && tracee->maps[low].start <= address ? &tracee->maps[low] : NULL;
}

const struct tracee_map *tracee_map_at(struct tracee *tracee, uint64_t address)
{
    const struct tracee_map *map;

    if (tracee->maps_stale && tracee_read_maps(tracee))
        return NULL;
    map = find_map(tracee, address);
    /* A stack grows without a system call. */
    if (!map && !tracee_read_maps(tracee))
        map = find_map(tracee, address);
    return map;
}

uint64_t tracee_auxv(struct tracee *tracee, uint64_t type)
{
    char path[64];
    Elf64_auxv_t entry;
    AUTO_FCLOSE FILE *file = NULL;

    (void)snprintf(path, sizeof(path), "/proc/%d/auxv", tracee->pid);
    file = fopen(path, "re");
    while (file && fread(&entry, sizeof(entry), 1, file) == 1 && entry.a_type != AT_NULL)
        if (entry.a_type == type)
            return entry.a_un.a_val;
    return 0;
}
