/* Runs in a child of the loop. Owns the threads of the dump, and their description while it is written. */
#include "daemon/dumper.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "bpf/dump.h"
#include "bpf/stack_walk.h"
#include "daemon/attacher.h"
#include "daemon/raw_profile.h"
#include "daemon/thread_state.h"
#include "util/cleanup.h"
#include "util/fdmsg.h"

/* Kernel stacks of which the kernel is asked for the name of the place where they wait. Threads mostly wait at the same few places. */
#define DUMPER_MAX_CHANNELS 256

/* ---- where in the kernel a thread waits */

struct channel {
    uint64_t stack[2]; /* hash of the kernel's frames */
    char name[64];
    UT_hash_handle hh;
};

/* A stack that is among the records. */
struct known_stack {
    uint64_t hash[2];
    UT_hash_handle hh;
};

struct dumper {
    const struct dumper_request *request;
    uint64_t seed[2];
    struct channel *channels;
    struct known_stack *stacks;
    uint8_t *records;
    struct raw_count *counts;
    struct raw_thread *threads;
    size_t records_len, n;
};

static void dumper_deinit(struct dumper *d)
{
    struct known_stack *stack, *next_stack;
    struct channel *channel, *next;

    HASH_ITER(hh, d->channels, channel, next) {
        HASH_DEL(d->channels, channel);
        free(channel);
    }
    HASH_ITER(hh, d->stacks, stack, next_stack) {
        HASH_DEL(d->stacks, stack);
        free(stack);
    }
    free(d->records);
    free(d->counts);
    free(d->threads);
}

static void hash_frames(const struct dumper *d, const uint64_t *frames, size_t n, uint64_t ret_hash[2])
{
    __u64 hash[2] = {d->seed[0], d->seed[1]};

    for (size_t i = 0; i < n; i++)
        stack_hash(hash, frames[i]);
    stack_hash(hash, n);
    ret_hash[0] = hash[0];
    ret_hash[1] = hash[1];
}

/* As the kernel tells whoever may trace the process; "" where it does not. */
static void channel_read(pid_t pid, uint32_t tid, char *ret, size_t size)
{
    char path[64];

    (void)snprintf(path, sizeof(path), "/proc/%d/task/%u/wchan", pid, tid);
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, ret, size - 1) : 0;
    ret[n > 0 ? n : 0] = '\0';
    if (strcmp(ret, "0") == 0)
        ret[0] = '\0';
}

/* The name of the place where a thread waits, asked for once for all that wait with the same kernel stack. */
static const char *dumper_channel(struct dumper *d, const struct thread_record *t, const uint64_t *frames)
{
    struct channel *channel;
    uint64_t hash[2];

    if (t->on_cpu || t->exit_state || t->state == 0 || t->stack.n_kernel == 0)
        return "";
    hash_frames(d, frames, t->stack.n_kernel, hash);
    HASH_FIND(hh, d->channels, hash, sizeof(hash), channel);
    if (channel)
        return channel->name;
    channel = HASH_COUNT(d->channels) < DUMPER_MAX_CHANNELS ? calloc(1, sizeof(*channel)) : NULL;
    if (!channel)
        return "";
    memcpy(channel->stack, hash, sizeof(hash));
    channel_read(d->request->pid, t->tid, channel->name, sizeof(channel->name));
    HASH_ADD(hh, d->channels, stack, sizeof(channel->stack), channel);
    if (!channel->hh.tbl) {
        free(channel);
        return "";
    }
    return channel->name;
}

/* ---- what becomes of a thread */

/* Frames of a stack that are kept, and the labels behind them. */
struct part {
    const uint64_t *frames;
    uint16_t n_kernel, n_user, label_words, label_state;
    uint32_t end;
};

/* Of a start function and what calls it, and some to spare. */
#define DUMPER_START_FRAMES 8

/* A stack that was cut does not show how its thread began. */
static struct part dumper_start(const struct thread_record *t, const uint64_t *frames)
{
    bool whole = t->stack.end == STACK_END_ROOT || t->stack.end == STACK_END_UNPROVEN;
    uint16_t n = !whole ? 0 : t->stack.n_user < DUMPER_START_FRAMES ? t->stack.n_user : DUMPER_START_FRAMES;

    return (struct part){.frames = frames + t->stack.n_kernel + t->stack.n_user - n, .n_user = n, .end = STACK_END_EARLIER};
}

static struct part dumper_part(const struct dumper *d, const struct thread_record *t, const uint64_t *frames)
{
    struct part p = {.frames = frames, .n_kernel = t->stack.n_kernel, .n_user = t->stack.n_user,
                     .label_words = t->stack.label_words, .label_state = t->stack.label_state, .end = t->stack.end};

    if (d->request->starts)
        return dumper_start(t, frames);
    if (!d->request->kernel) {
        p.frames += p.n_kernel;
        p.n_kernel = 0;
    }
    if (!t->seen && t->exit_state == 0)
        p.end = STACK_END_RUNNING;
    return p;
}

/* Whether the stack is new; where memory is short it may be there twice. */
static bool dumper_is_new(struct dumper *d, const uint64_t hash[2])
{
    struct known_stack *known;

    HASH_FIND(hh, d->stacks, hash, sizeof(known->hash), known);
    if (known)
        return false;
    known = calloc(1, sizeof(*known));
    if (!known)
        return true;
    memcpy(known->hash, hash, sizeof(known->hash));
    HASH_ADD(hh, d->stacks, hash, sizeof(known->hash), known);
    if (!known->hh.tbl)
        free(known);
    return true;
}

static void dumper_add_stack(struct dumper *d, const struct thread_record *t, const uint64_t *frames, uint64_t ret_hash[2])
{
    struct part part = dumper_part(d, t, frames);
    size_t n = (size_t)part.n_kernel + part.n_user + part.label_words;

    hash_frames(d, part.frames, n, ret_hash);
    ret_hash[0] += part.n_kernel;
    ret_hash[1] += part.end + ((uint64_t)part.label_state << 32);
    if (!dumper_is_new(d, ret_hash))
        return;
    struct stack_record stack = {.type = RECORD_STACK, .n_kernel = part.n_kernel, .n_user = part.n_user, .end = part.end,
                                 .label_words = part.label_words, .label_state = part.label_state,
                                 .stack_hash = {ret_hash[0], ret_hash[1]}};
    memcpy(d->records + d->records_len, &stack, sizeof(stack));
    memcpy(d->records + d->records_len + sizeof(stack), part.frames, n * sizeof(uint64_t));
    d->records_len += sizeof(stack) + n * sizeof(uint64_t);
}

static void dumper_add(struct dumper *d, const struct thread_record *t)
{
    const uint64_t *frames = (const uint64_t *)(t + 1);
    const struct dumper_request *q = d->request;
    struct raw_thread *thread = &d->threads[d->n];
    struct raw_count *count = &d->counts[d->n++];
    uint64_t hash[2];

    *thread = (struct raw_thread){.tid = t->tid, .epoch = t->epoch, .wait_ns = t->wait_ns};
    enum sample_state state = thread_state(t, thread->state);
    if (!q->starts)
        (void)snprintf(thread->channel, sizeof(thread->channel), "%s", dumper_channel(d, t, frames));
    dumper_add_stack(d, t, frames, hash);
    *count = (struct raw_count){
        .key = {.stack_hash = {hash[0], hash[1]}, .tid = q->anonymous ? 0 : t->tid, .tgid = (uint32_t)q->pid, .epoch = t->epoch,
                .state = q->starts ? SAMPLE_STATE_NONE : state},
        .value = {.samples = 1, .weight = 1},
    };
    if (!q->anonymous)
        memcpy(count->key.comm, t->comm, sizeof(count->key.comm));
}

static bool dumper_wants(const struct dumper *d, const struct thread_record *t)
{
    const struct dumper_request *q = d->request;

    return !q->starts || (t->tid != (uint32_t)q->pid && (q->before_ns == 0 || t->start_ns < q->before_ns));
}

static int dumper_describe(struct dumper *d, const struct dump_threads *t)
{
    const struct thread_record *record;

    d->records = malloc(t->len + 1); /* a stack's record is shorter than its thread's */
    d->counts = calloc(t->n + 1, sizeof(*d->counts));
    d->threads = calloc(t->n + 1, sizeof(*d->threads));
    if (!d->records || !d->counts || !d->threads)
        return -ENOMEM;
    if (getrandom(d->seed, sizeof(d->seed), 0) != sizeof(d->seed))
        return -EIO;
    for (size_t pos = 0; (record = dump_threads_next(t, &pos));)
        if (dumper_wants(d, record))
            dumper_add(d, record);
    return 0;
}

/* The memfd or -errno. */
static int dumper_write(const struct dumper *d, const struct dump_threads *t)
{
    CLEANUP(raw_writer_cleanup) struct raw_writer *w = raw_writer_new();

    if (!w)
        return -ENOMEM;
    int r = raw_writer_section(w, RAW_RECORDS, d->records, d->records_len);
    r = r ? r : raw_writer_section(w, RAW_COUNTS, d->counts, d->n * sizeof(*d->counts));
    r = r ? r : raw_writer_section(w, RAW_THREADS, d->threads, d->n * sizeof(*d->threads));
    return r ? r : raw_writer_finish(w);
}

/* ---- the conversation */

static int dumper_say(int sock, enum attacher_message_type type, int error, int fd)
{
    struct attacher_message m = {.type = type, .stage = ATTACHER_DUMP, .error = error};
    return fdmsg_send(sock, &m, sizeof(m), &fd, fd >= 0);
}

static int dumper_dump(int sock, const struct dumper_request *q)
{
    struct dump_request request = {.pid = q->pid, .slot = q->slot, .kernel = q->kernel};
    CLEANUP(dump_threads_deinit) struct dump_threads threads = {0};
    CLEANUP(dumper_deinit) struct dumper d = {.request = q};

    int r = dump_take(q->programs, &request, &threads);
    r = r ? r : dumper_describe(&d, &threads);
    AUTO_CLOSE int fd = r ? -1 : dumper_write(&d, &threads);
    r = r ? r : fd < 0 ? fd : 0;
    return dumper_say(sock, r < 0 ? ATTACHER_FAILED : ATTACHER_DUMPED, r, fd);
}

int dumper_main(int sock, void *arg)
{
    struct attacher_message m;

    int r = dumper_say(sock, ATTACHER_READY, 0, -1);
    if (r == 0 && fdmsg_recv(sock, &m, sizeof(m), NULL, NULL) == sizeof(m) && m.type == ATTACHER_OPEN) {
        r = dumper_dump(sock, arg);
        (void)fdmsg_recv(sock, &m, sizeof(m), NULL, NULL); /* END, or the loop is gone */
    }
    return r < 0;
}
