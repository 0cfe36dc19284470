/* Takes dumps of threads. Owns the descriptors and mappings of struct dump_programs, and a dump's bytes while it grows. */
#include "bpf/dump.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "util/cleanup.h"

/* How often threads that run are looked for again on all CPUs: they may have gone from one to another. */
#define DUMP_ROUNDS 8
/* GiB of memory among which the kernel's mapping of it is looked for, and how many one run of the program looks at. */
#define DUMP_CALIBRATE_GIB 65536
#define DUMP_CALIBRATE_STEP 128 /* CALIBRATE_PLACES */

/* ---- how memory is read */

/* How page tables are laid out: 0, or -EOPNOTSUPP. */
static int memory_layout(unsigned levels, struct dump_memory *ret)
{
#if defined(__x86_64__)
    unsigned a, b, c, d;

    if (!__get_cpuid(0x80000008, &a, &b, &c, &d))
        return -EOPNOTSUPP;
    uint64_t mask = (1ull << (a & 63)) - 4096;
    /* Encrypted memory (AMD): one bit of an entry says so, and is no part of the address. */
    if (__get_cpuid(0x8000001f, &a, &b, &c, &d) && (a & 3))
        mask &= ~(1ull << (b & 63));
    *ret = (struct dump_memory){.address_mask = mask, .levels = levels};
    return 0;
#else
    (void)levels;
    (void)ret;
    return -EOPNOTSUPP;
#endif
}

/* Looks for the kernel's mapping of all memory. 0, or -errno. */
static int memory_find(int prog, struct dump_area *area, unsigned levels)
{
    uint64_t number;

    int r = memory_layout(levels, &area->memory);
    if (r < 0)
        return r;
    if (getrandom(&number, sizeof(number), 0) != sizeof(number))
        return -EIO;
    for (uint64_t skip = 0; skip < DUMP_CALIBRATE_GIB; skip += DUMP_CALIBRATE_STEP) {
        uint64_t args[] = {(uintptr_t)&number, number, skip};
        LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = args, .ctx_size_in = sizeof(args));
        r = bpf_prog_test_run_opts(prog, &opts);
        if (r < 0)
            return r;
        if (opts.retval)
            return 0;
    }
    return -ENXIO;
}

static int memory_learn(int prog, struct dump_area *area, struct dump_memory *ret)
{
    int r = memory_find(prog, area, 4);
    if (r == -ENXIO)
        r = memory_find(prog, area, 5);
    if (r == 0)
        *ret = area->memory;
    return r;
}

/* ---- what is loaded */

static struct dump_area *map_area(int map)
{
    void *p = mmap(NULL, sizeof(struct dump_area), PROT_READ | PROT_WRITE, MAP_SHARED, map, 0);
    return p == MAP_FAILED ? NULL : p;
}

void dump_programs_open(const struct dump_loaded *loaded, uint32_t n_cpus, struct dump_programs *ret)
{
    AUTO_CLOSE int calibrate = loaded->calibrate_prog;
    AUTO_CLOSE int map = loaded->map;

    *ret = (struct dump_programs){.thread_prog = loaded->thread_prog, .cpu_prog = loaded->cpu_prog, .clock_prog = loaded->clock_prog,
                                  .lock_fd = -1, .n_cpus = n_cpus};
    int r = -ENOENT;
    if (loaded->error[0]) {
        (void)snprintf(ret->error, sizeof(ret->error), "%s", loaded->error);
    } else {
        ret->area = map_area(map);
        ret->lock_fd = ret->area ? memfd_create("cprofd-dump", MFD_CLOEXEC) : -1;
        r = ret->lock_fd < 0 ? -errno : memory_learn(calibrate, ret->area, &ret->memory);
        if (r == -EOPNOTSUPP || r == -ENXIO)
            (void)snprintf(ret->error, sizeof(ret->error), "how this machine keeps page tables is not known, so that other processes' "
                           "stacks can't be read");
        else if (r < 0)
            (void)snprintf(ret->error, sizeof(ret->error), "it can't be prepared: %s", strerror(-r));
    }
    if (r < 0)
        dump_programs_close(ret);
}

void dump_programs_close(struct dump_programs *d)
{
    close_fd(&d->thread_prog);
    close_fd(&d->cpu_prog);
    close_fd(&d->clock_prog);
    close_fd(&d->lock_fd);
    if (d->area)
        (void)munmap(d->area, sizeof(*d->area));
    d->area = NULL;
}

/* ---- threads of a dump */

void dump_threads_deinit(struct dump_threads *t)
{
    free(t->data);
    *t = (struct dump_threads){0};
}

static size_t record_bytes(const struct thread_record *r)
{
    return sizeof(*r) - sizeof(r->stack) + STACK_RECORD_BYTES(&r->stack);
}

const struct thread_record *dump_threads_next(const struct dump_threads *t, size_t *pos)
{
    const struct thread_record *r = (const void *)(t->data + *pos);

    if (t->len - *pos < sizeof(*r) || t->len - *pos < record_bytes(r))
        return NULL;
    *pos += record_bytes(r);
    return r;
}

static int grow(struct dump_threads *t, size_t *room, size_t more)
{
    if (t->len + more <= *room)
        return 0;
    size_t wanted = 2 * (t->len + more);
    if (t->len + more > DUMP_MAX_BYTES)
        return -EFBIG;
    uint8_t *data = realloc(t->data, wanted);
    if (!data)
        return -ENOMEM;
    t->data = data;
    *room = wanted;
    return 0;
}

/* ---- threads that wait */

static int iterator_open(int prog, pid_t pid)
{
    /* The whole union bpf_iter_link_info; its member task is newer than some headers. */
    uint32_t info[4] = {0, (uint32_t)pid};
    LIBBPF_OPTS(bpf_link_create_opts, opts, .iter_info = (void *)info, .iter_info_len = sizeof(union bpf_iter_link_info));

    AUTO_CLOSE int link = bpf_link_create(prog, 0, BPF_TRACE_ITER, &opts);
    if (link < 0) /* a kernel that can't choose (before 6.1): the program does */
        link = bpf_link_create(prog, 0, BPF_TRACE_ITER, NULL);
    if (link < 0)
        return link;
    return bpf_iter_create(link);
}

static int iterate(const struct dump_programs *p, pid_t pid, struct dump_threads *ret)
{
    CLEANUP(dump_threads_deinit) struct dump_threads t = {0};
    AUTO_CLOSE int fd = iterator_open(p->thread_prog, pid);
    size_t room = 0;
    ssize_t n;

    if (fd < 0)
        return fd;
    do {
        int r = grow(&t, &room, 1 << 18);
        if (r < 0)
            return r;
        n = read(fd, t.data + t.len, room - t.len);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return -errno;
        t.len += n > 0 ? (size_t)n : 0;
    } while (n != 0);
    *ret = t;
    t = (struct dump_threads){0};
    return 0;
}

/* ---- threads that run */

/* A thread's record in a dump under construction. */
struct place {
    const struct thread_record *record;
    struct thread_record *later; /* one of its own, that was taken later */
};

struct places {
    struct place *all;
    size_t n, n_unseen;
};

static void places_deinit(struct places *p)
{
    for (size_t i = 0; i < p->n; i++)
        free(p->all[i].later);
    free(p->all);
}

static bool is_unseen(const struct thread_record *r)
{
    return !r->seen && r->exit_state == 0;
}

static int compare_places(const void *va, const void *vb)
{
    const struct place *a = va, *b = vb;

    return (a->record->tid > b->record->tid) - (a->record->tid < b->record->tid);
}

static int places_fill(struct places *p, const struct dump_threads *t)
{
    const struct thread_record *r;
    size_t n = 0;

    for (size_t pos = 0; dump_threads_next(t, &pos);)
        n++;
    p->all = calloc(n + 1, sizeof(*p->all));
    if (!p->all)
        return -ENOMEM;
    for (size_t pos = 0; (r = dump_threads_next(t, &pos));)
        if (r->tid != 0) {
            p->n_unseen += is_unseen(r);
            p->all[p->n++].record = r;
        }
    qsort(p->all, p->n, sizeof(*p->all), compare_places);
    return 0;
}

/* Takes a record of a thread that was unseen. 0 or -ENOMEM. */
static int places_take(struct places *p, const struct thread_record *r, const uint64_t *frames)
{
    const struct place key = {.record = r};
    struct place *place = bsearch(&key, p->all, p->n, sizeof(*p->all), compare_places);

    if (!place || place->later || !is_unseen(place->record) || !r->seen)
        return 0;
    place->later = malloc(record_bytes(r));
    if (!place->later)
        return -ENOMEM;
    memcpy(place->later, r, sizeof(*r));
    memcpy(place->later + 1, frames, record_bytes(r) - sizeof(*r));
    p->n_unseen--;
    return 0;
}

/* Looks at what each CPU runs. A CPU that is offline has nothing to show. */
static int look_at_cpus(const struct dump_programs *d, struct places *p)
{
    for (uint32_t cpu = 0; cpu < d->n_cpus && p->n_unseen > 0; cpu++) {
        LIBBPF_OPTS(bpf_test_run_opts, opts, .flags = BPF_F_TEST_RUN_ON_CPU, .cpu = cpu);
        if (bpf_prog_test_run_opts(d->cpu_prog, &opts) < 0 || opts.retval == 0)
            continue;
        int r = places_take(p, &d->area->thread, (const uint64_t *)d->area->walk.frames);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Looks at threads that have left their CPUs since. */
static int look_again(const struct dump_programs *d, pid_t pid, struct places *p)
{
    CLEANUP(dump_threads_deinit) struct dump_threads t = {0};
    const struct thread_record *record;

    int r = iterate(d, pid, &t);
    for (size_t pos = 0; r == 0 && (record = dump_threads_next(&t, &pos));)
        r = places_take(p, record, (const uint64_t *)(record + 1));
    return r;
}

static int look_for_running(const struct dump_programs *d, pid_t pid, struct places *p)
{
    int r = look_at_cpus(d, p);

    for (unsigned i = 0; r == 0 && i < DUMP_ROUNDS && p->n_unseen > 0; i++) {
        r = look_again(d, pid, p);
        r = r ? r : look_at_cpus(d, p);
    }
    return r;
}

/* Each thread's newest record, one behind the other. */
static int places_gather(const struct places *p, struct dump_threads *ret)
{
    CLEANUP(dump_threads_deinit) struct dump_threads t = {.n = p->n, .n_unseen = p->n_unseen};
    size_t room = 0;

    for (size_t i = 0; i < p->n; i++) {
        const struct thread_record *record = p->all[i].later ? p->all[i].later : p->all[i].record;
        int r = grow(&t, &room, record_bytes(record));
        if (r < 0)
            return r;
        memcpy(t.data + t.len, record, record_bytes(record));
        t.len += record_bytes(record);
    }
    *ret = t;
    t = (struct dump_threads){0};
    return 0;
}

/* ---- a dump */

/* Lock or unlock. The kernel does the latter too, where the process is killed. */
static int take_turn(int lock_fd, short type)
{
    struct flock whole = {.l_type = type, .l_whence = SEEK_SET};
    int r;

    do {
        r = fcntl(lock_fd, F_SETLKW, &whole);
    } while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : 0;
}

static int dump_begin(const struct dump_programs *d, const struct dump_request *q)
{
    struct timespec moment = {.tv_nsec = 1000};
    LIBBPF_OPTS(bpf_test_run_opts, opts);

    d->area->slot = q->slot;
    d->area->tgid = (uint32_t)q->pid;
    d->area->kernel = q->kernel;
    d->area->memory = d->memory;
    (void)nanosleep(&moment, NULL); /* to be put on a CPU anew */
    return bpf_prog_test_run_opts(d->clock_prog, &opts);
}

int dump_take(const struct dump_programs *programs, const struct dump_request *request, struct dump_threads *ret)
{
    CLEANUP(dump_threads_deinit) struct dump_threads first = {0};
    CLEANUP(places_deinit) struct places places = {0};

    int r = take_turn(programs->lock_fd, F_WRLCK);
    if (r < 0)
        return r;
    r = dump_begin(programs, request);
    r = r ? r : iterate(programs, request->pid, &first);
    r = r ? r : places_fill(&places, &first);
    if (r == 0 && places.n == 0)
        r = -ESRCH;
    r = r ? r : look_for_running(programs, request->pid, &places);
    (void)take_turn(programs->lock_fd, F_UNLCK);
    return r ? r : places_gather(&places, ret);
}
