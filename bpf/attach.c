/* Opens perf events and links. Owns what it collects in struct attachment until attach_end. */
#include "bpf/attach.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bpf/attach_impl.h"
#include "bpf/go_waits.h"
#include "util/cleanup.h"

/* Newer than the headers that we build against (Linux 6.6). */
struct uprobe_multi_attr {
    __u32 prog_fd, target_fd, attach_type, flags;
    __u64 path, offsets, ref_ctr_offsets, cookies;
    __u32 cnt, multi_flags, pid, pad;
};

int attach_keep(struct attachment *a, int fd)
{
    if (fd < 0)
        return -errno;
    if (a->n_fds == a->cap_fds) {
        size_t cap = a->cap_fds ? 2 * a->cap_fds : 16;
        int *fds = realloc(a->fds, cap * sizeof(int));
        if (!fds) {
            (void)close(fd);
            return -ENOMEM;
        }
        a->fds = fds;
        a->cap_fds = cap;
    }
    a->fds[a->n_fds++] = fd;
    return 0;
}

int attach_maps(const struct sampler *s, uint32_t slot, uint32_t max_samples, uint32_t ring_bytes, struct attachment *ret)
{
    ret->counts_fd = bpf_map_create(BPF_MAP_TYPE_HASH, "cprofd_counts", sizeof(struct sample_key),
                                    sizeof(struct sample_value), max_samples, NULL);
    if (ret->counts_fd < 0)
        return -errno;
    ret->records_fd = bpf_map_create(BPF_MAP_TYPE_RINGBUF, "cprofd_records", 0, 0, ring_bytes, NULL);
    if (ret->records_fd < 0)
        return -errno;
    if (bpf_map_update_elem(s->counts_map, &slot, &ret->counts_fd, BPF_ANY) < 0 ||
        bpf_map_update_elem(s->records_map, &slot, &ret->records_fd, BPF_ANY) < 0)
        return -errno;
    return 0;
}

int attach_perf_open(const struct perf_event_attr *attr, pid_t pid, int cpu)
{
    return (int)syscall(SYS_perf_event_open, attr, pid, cpu, -1, PERF_FLAG_FD_CLOEXEC);
}

int attach_link(int prog, int event_fd, uint64_t cookie, struct attachment *ret)
{
    LIBBPF_OPTS(bpf_link_create_opts, opts, .perf_event.bpf_cookie = cookie);
    int r = attach_keep(ret, event_fd);

    if (r < 0)
        return r;
    int link = bpf_link_create(prog, event_fd, BPF_PERF_EVENT, &opts);
    if (link < 0)
        return link;
    return attach_keep(ret, link);
}

int attach_each_cpu(int (*open_one)(int cpu, void *arg), void *arg)
{
    int n = libbpf_num_possible_cpus(), opened = 0;

    for (int cpu = 0; cpu < n; cpu++) {
        int r = open_one(cpu, arg);
        if (r == -ENODEV)
            continue;
        if (r < 0)
            return r;
        opened++;
    }
    return opened ? 0 : n < 0 ? n : -ENODEV;
}

/* ---- other perf events */

void attach_perf_attr(uint32_t type, uint64_t config, uint64_t period, bool kernel, struct perf_event_attr *ret)
{
    *ret = (struct perf_event_attr){
        .type = type, .size = sizeof(*ret), .config = config, .sample_period = period, .disabled = 1,
        .exclude_hv = 1,
        /* A software event happens in the kernel: to exclude that would count nothing. */
        .exclude_kernel = !kernel && type != PERF_TYPE_SOFTWARE,
    };
}

struct perf_attach {
    const struct sampler *sampler;
    uint32_t slot;
    struct perf_event_attr attr;
    struct attachment *to;
};

static int perf_open_one(int cpu, void *arg)
{
    struct perf_attach *p = arg;
    int fd = attach_perf_open(&p->attr, -1, cpu);
    if (fd < 0)
        return -errno;
    int r = attach_link(p->sampler->perf_prog, fd, COOKIE(p->slot, 0, p->sampler->ctl[p->slot].instance), p->to);
    if (r < 0)
        return r;
    return ioctl(fd, PERF_EVENT_IOC_ENABLE, 0) < 0 ? -errno : 0;
}

int attach_perf(const struct sampler *s, uint32_t slot, uint32_t type, uint64_t config, uint64_t period, bool kernel,
                struct attachment *ret)
{
    struct perf_attach p = {.sampler = s, .slot = slot, .to = ret};
    attach_perf_attr(type, config, period, kernel, &p.attr);
    return attach_each_cpu(perf_open_one, &p);
}

/* ---- probes */

static int attach_probes_multi(const struct probe_set *set, const char *path, uint32_t pid, struct attachment *ret)
{
    AUTO_FREE uint64_t *columns = calloc(2 * set->n, sizeof(uint64_t));
    if (!columns)
        return -ENOMEM;
    bool semaphores = false;
    for (size_t i = 0; i < set->n; i++) {
        columns[i] = set->places[i].offset;
        columns[set->n + i] = set->places[i].semaphore;
        semaphores = semaphores || set->places[i].semaphore;
    }
    union {
        struct uprobe_multi_attr multi;
        char room[128];
    } attr = {.multi = {
        .prog_fd = (__u32)set->multi_prog, .attach_type = set->multi_type,
        .path = (uintptr_t)path, .offsets = (uintptr_t)columns, .cookies = (uintptr_t)set->cookies,
        .ref_ctr_offsets = semaphores ? (uintptr_t)(columns + set->n) : 0, .cnt = (__u32)set->n, .pid = pid,
        .multi_flags = set->at_return ? ATTACH_UPROBE_MULTI_RETURN : 0,
    }};
    return attach_keep(ret, (int)syscall(SYS_bpf, BPF_LINK_CREATE, &attr, sizeof(attr.multi)));
}

/* The number of the uprobe PMU, or -errno. */
static int uprobe_pmu_type(void)
{
    AUTO_FCLOSE FILE *f = fopen("/sys/bus/event_source/devices/uprobe/type", "re");
    int type;
    if (!f)
        return -errno;
    return fscanf(f, "%d", &type) == 1 ? type : -ENODATA;
}

static int attach_probes_perf(const struct probe_set *set, const char *path, uint32_t pid, struct attachment *ret)
{
    int type = uprobe_pmu_type();
    if (type < 0)
        return type;
    for (size_t i = 0; i < set->n; i++) {
        /* The semaphore's offset goes into the upper half of config (PMU_FORMAT_ATTR ref_ctr_offset), its first bit says that it is at the
         * return. */
        struct perf_event_attr attr = {
            .type = (__u32)type, .size = sizeof(attr), .config = set->places[i].semaphore << 32 | set->at_return,
            .config1 = (uintptr_t)path, .config2 = set->places[i].offset,
        };
        int fd = attach_perf_open(&attr, (pid_t)pid, -1);
        if (fd < 0)
            return -errno;
        int r = attach_link(set->prog, fd, set->cookies[i], ret);
        if (r < 0)
            return r;
    }
    return 0;
}

int attach_probe_set(const struct probe_set *set, int file_fd, uint32_t pid, struct attachment *ret)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", file_fd);
    int r = -EOPNOTSUPP;
    if (set->multi_prog >= 0)
        r = attach_probes_multi(set, path, pid, ret);
    if ((r == -EOPNOTSUPP || r == -EINVAL) && set->prog >= 0)
        r = attach_probes_perf(set, path, pid, ret);
    return r;
}

int attach_probes(const struct sampler *s, uint32_t slot, int file_fd, uint32_t pid, const struct probe_place *places,
                  size_t n, struct attachment *ret)
{
    AUTO_FREE uint64_t *cookies = calloc(n, sizeof(*cookies));
    if (!cookies)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++)
        cookies[i] = COOKIE(slot, 0, s->ctl[slot].instance);
    const struct probe_set set = {.prog = s->probe_prog, .multi_prog = s->probe_multi_prog, .multi_type = ATTACH_TRACE_UPROBE_MULTI,
                                  .places = places, .cookies = cookies, .n = n};
    return attach_probe_set(&set, file_fd, pid, ret);
}

int attach_own_map(int outer, uint32_t slot, const char *name, uint32_t value_bytes, uint32_t entries)
{
    AUTO_CLOSE int map = bpf_map_create(BPF_MAP_TYPE_HASH, name, sizeof(uint64_t), value_bytes, entries, NULL);
    if (map < 0)
        return -errno;
    return bpf_map_update_elem(outer, &slot, &map, BPF_ANY) < 0 ? -errno : 0;
}

int attach_go(const struct sampler *s, uint32_t slot, int file_fd, uint32_t pid, const struct probe_place *places, struct attachment *ret)
{
    uint64_t cookies[GO_PLACES - GO_PLACE_PARK];
    const size_t n = sizeof(cookies) / sizeof(cookies[0]);
    const struct probe_set set = {.prog = s->go_prog, .multi_prog = s->go_multi_prog, .multi_type = ATTACH_TRACE_UPROBE_MULTI,
                                  .places = places, .cookies = cookies, .n = n};
    if (s->go_prog < 0)
        return -EOPNOTSUPP;
    for (size_t i = 0; i < n; i++)
        cookies[i] = COOKIE(slot, GO_PLACE_PARK + i, s->ctl[slot].instance);
    int r = attach_own_map(s->go_waits_map, slot, "cprofd_go_waits", sizeof(struct go_wait), GO_MAX_WAITS);
    r = r < 0 ? r : attach_own_map(s->go_locks_map, slot, "cprofd_go_locks", sizeof(struct go_lock), GO_MAX_LOCKS);
    return r < 0 ? r : attach_probe_set(&set, file_fd, pid, ret);
}

/* ---- tracepoints */

/* An fd of tracefs: where it is mounted, or else a mount of our own that has no place in the file system. */
static int tracefs_open(void)
{
    int fd = open("/sys/kernel/tracing/events", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        close_fd(&fd);
        return open("/sys/kernel/tracing", O_PATH | O_DIRECTORY | O_CLOEXEC);
    }
    AUTO_CLOSE int fs = (int)syscall(SYS_fsopen, "tracefs", FSOPEN_CLOEXEC);
    if (fs < 0)
        return -EACCES;
    if (syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return -EACCES;
    int mount = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, 0);
    return mount < 0 ? -EACCES : mount;
}

/* The number of a tracepoint, or -errno. */
static int tracepoint_id(const char *category, const char *name)
{
    char path[512], text[32] = "";
    AUTO_CLOSE int root = tracefs_open();
    if (root < 0)
        return root;
    if (strchr(category, '/') || strchr(name, '/') || category[0] == '.' || name[0] == '.')
        return -ENOENT;
    if (snprintf(path, sizeof(path), "events/%s/%s/id", category, name) >= (int)sizeof(path))
        return -ENOENT;
    AUTO_CLOSE int fd = openat(root, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (read(fd, text, sizeof(text) - 1) <= 0)
        return -EIO;
    return atoi(text);
}

/* A tracepoint takes a program once, whatever its cookie. So each session has one of its own, which goes on in the common one. Returns the
 * program, or -errno. */
static int tracepoint_entry(int prog, struct attachment *ret)
{
    uint32_t zero = 0;
    int next = bpf_map_create(BPF_MAP_TYPE_PROG_ARRAY, "cprofd_next", sizeof(uint32_t), sizeof(uint32_t), 1, NULL);
    int r = attach_keep(ret, next); /* without an fd of its own it would lose what is in it */
    if (r < 0)
        return r;
    if (bpf_map_update_elem(next, &zero, &prog, BPF_ANY) < 0)
        return -errno;
    const struct bpf_insn code[] = {
        {.code = BPF_LD | BPF_DW /* BPF_IMM: 0 */, .dst_reg = BPF_REG_2, .src_reg = BPF_PSEUDO_MAP_FD, .imm = next}, {},
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_3, .imm = 0},
        {.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_tail_call},
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 0},
        {.code = BPF_JMP | BPF_EXIT},
    };
    int entry = bpf_prog_load(BPF_PROG_TYPE_TRACEPOINT, "cprofd_entry", "GPL", code, sizeof(code) / sizeof(code[0]), NULL);
    return entry < 0 ? -errno : entry;
}

static int attach_tracepoint_prog(const struct sampler *s, uint32_t slot, const char *category, const char *name, int prog,
                                  struct attachment *ret)
{
    int id = tracepoint_id(category, name);
    if (id < 0)
        return id;
    struct perf_event_attr attr = {
        .type = PERF_TYPE_TRACEPOINT, .size = sizeof(attr), .config = (__u64)id, .sample_period = 1,
    };
    /* One event on one CPU: the kernel runs a tracepoint's programs wherever it is hit. */
    int fd = attach_perf_open(&attr, -1, 0);
    if (fd < 0)
        return -errno;
    AUTO_CLOSE int entry = tracepoint_entry(prog, ret);
    if (entry < 0) {
        (void)close(fd);
        return entry;
    }
    return attach_link(entry, fd, COOKIE(slot, 0, s->ctl[slot].instance), ret);
}

int attach_tracepoint(const struct sampler *s, uint32_t slot, const char *category, const char *name, struct attachment *ret)
{
    return attach_tracepoint_prog(s, slot, category, name, s->tracepoint_prog, ret);
}

int attach_growth(const struct sampler *s, uint32_t slot, struct attachment *ret)
{
    return attach_tracepoint_prog(s, slot, "kmem", "rss_stat", s->rss_prog, ret);
}

/* ---- the end */

void attach_drop(struct attachment *a, size_t n_kept)
{
    /* Links before their events: in the order of opening an event comes first. */
    while (a->n_fds > n_kept)
        (void)close(a->fds[--a->n_fds]);
}

void attach_pause(struct attachment *a)
{
    attach_drop(a, 0);
}

void attach_end(const struct sampler *s, uint32_t slot, struct attachment *a)
{
    attach_pause(a);
    free(a->fds);
    a->fds = NULL;
    a->cap_fds = 0;
    timer_events_free(TAKE_PTR(a->timers));
    /* To take an inner map out waits until no program can have it in hand. */
    (void)bpf_map_delete_elem(s->counts_map, &slot);
    (void)bpf_map_delete_elem(s->records_map, &slot);
    if (s->ctl[slot].go_kind != GO_WAITS_NONE) {
        (void)bpf_map_delete_elem(s->go_waits_map, &slot);
        (void)bpf_map_delete_elem(s->go_locks_map, &slot);
    }
    if (s->custom.prog >= 0 && a->live_fd >= 0) {
        (void)bpf_map_delete_elem(s->custom.live_map, &slot);
        (void)bpf_map_delete_elem(s->custom.calls_map, &slot);
    }
    if (s->ctl[slot].heap) {
        (void)bpf_map_delete_elem(s->heap.live_map, &slot);
        (void)bpf_map_delete_elem(s->heap.maps_map, &slot);
    }
}
