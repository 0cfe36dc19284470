/* A program that notes that it ran, a child that waits until its function is probed, and then shuts itself in. */
#include "bpf/uprobe_returns.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bpf/attach.h"
#include "bpf/attach_impl.h"
#include "bpf/uprobe_code.h"
#include "util/cleanup.h"

#define DONE 7

/* Stores 1 as the map's only value. */
static int program_load(int map, uint32_t attach_type)
{
    LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = attach_type);
    const struct bpf_insn code[] = {
        {.code = BPF_LD | BPF_DW /* BPF_IMM: 0 */, .dst_reg = BPF_REG_1, .src_reg = BPF_PSEUDO_MAP_VALUE, .imm = map}, {},
        {.code = BPF_ST | BPF_MEM | BPF_DW, .dst_reg = BPF_REG_1, .imm = 1},
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0},
        {.code = BPF_JMP | BPF_EXIT},
    };
    return bpf_prog_load(BPF_PROG_TYPE_KPROBE, "cprofd_noted", "GPL", code, sizeof(code) / sizeof(code[0]), &opts);
}

/* All but exit_group kills. */
static int shut_in(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    const struct sock_fprog program = {.len = sizeof(filter) / sizeof(filter[0]), .filter = filter};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) < 0 ? -errno : 0;
}

/* In the child. Ends with DONE where it lives. */
static void run_shut_in(const struct uprobe_code *code, int go)
{
    char byte;

    if (read(go, &byte, 1) == 1 && shut_in() == 0) {
        uprobe_code_call(code, UPROBE_CODE_EMULATED);
        (void)syscall(SYS_exit_group, DONE);
    }
    _exit(1);
}

static int probe_return(const struct uprobe_code *code, pid_t pid, int prog, int multi_prog, struct attachment *a)
{
    const struct probe_place place = {.offset = UPROBE_CODE_EMULATED};
    const uint64_t cookie = 0;
    const struct probe_set set = {.prog = prog, .multi_prog = multi_prog, .multi_type = ATTACH_TRACE_UPROBE_MULTI, .at_return = true,
                                  .places = &place, .cookies = &cookie, .n = 1};
    return attach_probe_set(&set, code->fd, (uint32_t)pid, a);
}

static void detach(struct attachment *a)
{
    attach_pause(a);
    free(a->fds);
}

int uprobe_returns_try(bool *ret_survive)
{
    CLEANUP(uprobe_code_deinit) struct uprobe_code code = UPROBE_CODE_INIT;
    CLEANUP(detach) struct attachment a = ATTACHMENT_INIT;
    AUTO_CLOSE int map = bpf_map_create(BPF_MAP_TYPE_ARRAY, "cprofd_ran", sizeof(uint32_t), sizeof(uint64_t), 1, NULL);
    AUTO_CLOSE int prog = program_load(map, 0);
    AUTO_CLOSE int multi_prog = program_load(map, ATTACH_TRACE_UPROBE_MULTI);
    uint64_t ran = 0;
    uint32_t zero = 0;
    int go[2], status = 0, r = uprobe_code_init(&code);

    if (r < 0)
        return r;
    if (pipe2(go, O_CLOEXEC) < 0)
        return -errno;
    pid_t pid = fork();
    if (pid == 0) {
        (void)close(go[1]);
        run_shut_in(&code, go[0]);
    }
    r = pid < 0 ? -errno : probe_return(&code, pid, prog, multi_prog, &a);
    if (r == 0 && write(go[1], "", 1) != 1)
        r = -EIO;
    (void)close(go[0]);
    (void)close(go[1]); /* without a byte it ends of itself */
    if (pid > 0 && waitpid(pid, &status, 0) < 0)
        r = -errno;
    if (r < 0)
        return r;
    if (!(WIFEXITED(status) && WEXITSTATUS(status) == DONE) && !WIFSIGNALED(status))
        return -ENOTSUP; /* no filter could be set */
    /* What died on the way back had been probed, and died before the program ran. */
    if (WIFEXITED(status) && (bpf_map_lookup_elem(map, &zero, &ran) < 0 || !ran))
        return -EIO;
    *ret_survive = WIFEXITED(status);
    return 0;
}
