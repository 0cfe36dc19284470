/* Runs in a child of the loop. Owns the session's perf events, links and maps; they end with the process. */
#include "daemon/attacher.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bpf/copy_events.h"
#include "daemon/attacher_duty.h"
#include "daemon/attacher_locks.h"
#include "daemon/attacher_more.h"
#include "daemon/attacher_price.h"
#include "daemon/attacher_returns.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/fdmsg.h"

static int attacher_attach_tracepoint(const struct attacher_request *q, struct attachment *a)
{
    AUTO_FREE char *category = strdup(q->params->symbol);
    char *name = category ? strchr(category, ':') : NULL;
    if (!name)
        return category ? -ENOENT : -ENOMEM;
    *name++ = '\0';
    return attach_tracepoint(q->sampler, q->slot, category, name, a);
}

/* While they are tried, progress says so. */
static int attacher_locks(const struct attacher_request *q)
{
    q->progress->stage = ATTACHER_LOCKS;
    int r = attacher_try_locks(q->progress);
    q->progress->stage = ATTACHER_EVENTS;
    return r;
}

static int attacher_attach_go(const struct attacher_request *q, struct attachment *a)
{
    int r = attacher_locks(q);
    return r < 0 ? r : attach_go(q->sampler, q->slot, q->probe_fd, (uint32_t)q->pid, q->places, a);
}

/* Those that have several files: of allocators, and of custom profiles. */
static int attacher_attach_files(const struct attacher_request *q, struct attachment *a, struct attacher_price *ret_price)
{
    bool heap = q->params->event == EVENT_HEAP;
    int r = heap ? attach_heap_maps(q->sampler, q->slot) : attach_custom_maps(q->sampler, q->slot, a);

    r = r < 0 ? r : attacher_locks(q);
    r = r < 0 || !heap ? r : attacher_returns_check(q);
    if (r == 0)
        attacher_price_learn(q);
    for (size_t i = 0; r == 0 && i < q->n_files; i++)
        r = (heap ? attach_heap : attach_custom)(q->sampler, q->slot, (uint32_t)q->pid, &q->files[i], a);
    if (r < 0)
        return r;
    q->progress->stage = ATTACHER_PRICE;
    return attacher_price_check(q, ret_price);
}

static int attacher_attach_probes(const struct attacher_request *q, struct attachment *a, struct attacher_price *ret_price)
{
    attacher_price_learn(q);
    int r = attacher_locks(q);
    r = r < 0 ? r : attach_probes(q->sampler, q->slot, q->probe_fd, (uint32_t)q->pid, q->places, q->n_places, a);
    if (r < 0)
        return r;
    q->progress->stage = ATTACHER_PRICE;
    return attacher_price_check(q, ret_price);
}

static int attacher_attach(const struct attacher_request *q, struct attachment *a, struct attacher_price *ret_price)
{
    const struct session_params *p = q->params;

    switch (p->event) {
    case EVENT_CPU_CLOCK:
        return attach_timers(q->sampler, q->slot, a);
    case EVENT_PERF:
        return attach_perf(q->sampler, q->slot, p->perf_type, p->perf_config, p->period, p->kernel, a);
    case EVENT_UPROBE:
    case EVENT_USDT:
        return attacher_attach_probes(q, a, ret_price);
    case EVENT_GO:
        return attacher_attach_go(q, a);
    case EVENT_CUSTOM:
    case EVENT_HEAP:
        return attacher_attach_files(q, a, ret_price);
    case EVENT_TRACEPOINT:
        return attacher_attach_tracepoint(q, a);
    case EVENT_NEW_THREAD:
        return attach_tracepoint(q->sampler, q->slot, "task", "task_newtask", a);
    case EVENT_GROWTH:
        return attach_growth(q->sampler, q->slot, a);
    case EVENT_SCHED:
        return 0; /* the loop's */
    case EVENT_DUMP:
        break; /* a dumper's */
    }
    return -EINVAL;
}

static int attacher_say(int sock, const struct attacher_message *m, const int *fds, size_t n)
{
    return fdmsg_send(sock, m, sizeof(*m), fds, n) < 0;
}

/* What the loop says: attaches more, or (*ret_end) detaches. 1: it goes on; 0: the loop asks for no more, or is gone. */
static int attacher_hear(int sock, const struct attacher_request *q, struct attacher_duty *duty, struct attachment *a, bool *ret_end)
{
    int fds[2] = {-1, -1};
    struct attacher_message m;
    size_t n_fds = 2;

    if (fdmsg_recv(sock, &m, sizeof(m), fds, &n_fds) != sizeof(m))
        return 0; /* it is gone, or does not care any more */
    *ret_end = m.type == ATTACHER_END;
    int r = m.type == ATTACHER_MORE ? attacher_more(sock, q, &m, fds, duty, a) : -ECANCELED;
    for (size_t i = 0; i < 2; i++)
        close_fd(&fds[i]);
    return r == 0;
}

/* Renews timers, where there are any, and attaches probes and detaches them by turns, until the loop wants no more, or is gone. 0, or
 * -errno: probes could not be attached again. */
static int attacher_hold(int sock, const struct attacher_request *q, struct attachment *a, bool *ret_end)
{
    struct pollfd from_loop = {.fd = sock, .events = POLLIN};
    struct attacher_duty duty;
    int n, r = 0, more = 1;

    attacher_duty_begin(q, &duty);
    do {
        uint64_t renewal_ns = attach_renewal_ns(a), next_ns = renewal_ns < duty.next_ns ? renewal_ns : duty.next_ns;
        uint64_t now_ns = monotonic_ns(), left_ns = next_ns > now_ns ? next_ns - now_ns : 0;
        struct timespec timeout = {(time_t)(left_ns / NSEC_PER_SEC), (long)(left_ns % NSEC_PER_SEC)};
        n = ppoll(&from_loop, 1, next_ns == UINT64_MAX ? NULL : &timeout, NULL);
        if (n > 0) {
            attacher_work_drop(&duty.work);
            more = attacher_hear(sock, q, &duty, a, ret_end);
        } else if (n == 0 && next_ns == duty.next_ns) {
            r = attacher_duty_turn(q, &duty, a);
        } else if (n == 0) {
            attach_renew(a);
        }
    } while (r == 0 && more && (n >= 0 || errno == EINTR));
    return r;
}

/* ---- events that copy stacks */

static int attacher_send_rings(int sock, const struct copy_events *e)
{
    struct attacher_message m = {.type = ATTACHER_RINGS, .ring_bytes = e->ring_bytes};

    for (size_t i = 0; i < e->n_rings; i += FDMSG_MAX_FDS) {
        size_t n = e->n_rings - i < FDMSG_MAX_FDS ? e->n_rings - i : FDMSG_MAX_FDS;
        int r = fdmsg_send(sock, &m, sizeof(m), e->rings + i, n);
        if (r < 0)
            return r;
    }
    return 0;
}

static int attacher_send_copies(int sock, const struct copy_events *e)
{
    struct attacher_message m = {.type = ATTACHER_READY, .reach = e->reach};
    size_t len = e->n_names * sizeof(*e->names);
    AUTO_CLOSE int names = memfd_create("cprofd-names", MFD_CLOEXEC);

    if (names < 0)
        return -errno;
    if (len > 0 && write(names, e->names, len) != (ssize_t)len)
        return -EIO;
    int r = attacher_send_rings(sock, e);
    return r < 0 ? r : fdmsg_send(sock, &m, sizeof(m), &names, 1);
}

static int attacher_copies(int sock, const struct attacher_request *q)
{
    CLEANUP(copy_events_close) struct copy_events e = {0};
    struct attacher_message m;

    q->progress->stage = ATTACHER_COPIES;
    int r = copy_events_open(q->copy, &e);
    if (r < 0)
        return attacher_say(sock, &(struct attacher_message){.type = ATTACHER_FAILED, .stage = ATTACHER_COPIES, .error = r}, NULL, 0);
    if (attacher_send_copies(sock, &e) < 0)
        return 1;
    (void)fdmsg_recv(sock, &m, sizeof(m), NULL, NULL); /* END, or the loop is gone */
    return 0;
}

int attacher_main(int sock, void *arg)
{
    const struct attacher_request *q = arg;
    struct attachment a = ATTACHMENT_INIT;
    struct attacher_message m = {0};
    bool end = false;

    if (q->copy)
        return attacher_copies(sock, q);
    q->progress->stage = ATTACHER_MAPS;
    int r = attach_maps(q->sampler, q->slot, q->max_samples, q->ring_bytes, &a);
    if (r == 0) {
        q->progress->stage = ATTACHER_EVENTS;
        r = attacher_attach(q, &a, &m.price);
    }
    if (r < 0) {
        attach_end(q->sampler, q->slot, &a);
        m.type = ATTACHER_FAILED;
        m.stage = q->progress->stage;
        m.error = r;
        return attacher_say(sock, &m, NULL, 0);
    }
    m.type = ATTACHER_READY;
    if (q->params->duty > 0) /* until the first slice begins, which is soon: the window may open before */
        __atomic_store_n(&q->sampler->ctl[q->slot].paused, 1, __ATOMIC_RELEASE);
    if (attacher_say(sock, &m, (int[]){a.counts_fd, a.records_fd, a.live_fd}, a.live_fd >= 0 ? 3 : 2))
        return 1;
    if (attacher_hold(sock, q, &a, &end) < 0)
        return 1;
    if (end)
        attach_end(q->sampler, q->slot, &a);
    return 0;
}

static int attacher_paranoid(void)
{
    AUTO_FCLOSE FILE *f = fopen("/proc/sys/kernel/perf_event_paranoid", "re");
    int level;
    return f && fscanf(f, "%d", &level) == 1 ? level : -1;
}

/* Why the kernel shows nothing: the setting that must be changed. */
static void attacher_explain_copies(const struct session_params *params, char *message, size_t message_len)
{
    int level = attacher_paranoid();

    if (level > 2)
        (void)snprintf(message, message_len, "stacks can't be copied: kernel.perf_event_paranoid is %d, which lets no unprivileged process "
                       "use perf events: set it to 2 (user time alone) or 1, or run the daemon as root or by its systemd unit", level);
    else if (params->kernel || (params->event == EVENT_PERF && level > 1))
        (void)snprintf(message, message_len, "event %.200s%s: kernel.perf_event_paranoid is %d: set it to 1, or run the daemon as root or by "
                       "its systemd unit", params->event_text, params->kernel ? " with kernel frames" : "", level);
    else
        (void)snprintf(message, message_len, "stacks can't be copied: perf_event_open is refused (by seccomp, lockdown or a security module)");
}

static const char *attacher_no_permission(enum event_kind event)
{
    switch (event) {
    case EVENT_UPROBE:
    case EVENT_USDT:
    case EVENT_CUSTOM:
    case EVENT_HEAP:
        return "the kernel has no uprobe_multi links (before Linux 6.6), and without them uprobes need CAP_SYS_ADMIN: enable the "
               "drop-in cprofd.service.d/sys-admin.conf, or run the daemon as root";
    case EVENT_TRACEPOINT:
    case EVENT_NEW_THREAD:
    case EVENT_GROWTH:
        return "tracefs can't be read: mount it on /sys/kernel/tracing and give the daemon CAP_DAC_READ_SEARCH, or run it as "
               "root";
    default:
        return "perf events on all CPUs need CAP_PERFMON: run the daemon as root or by its systemd unit";
    }
}

#define DUTY_TEXT_LEN 24

/* Digits that duty= takes, rounded down: what they say fits. */
static void attacher_duty_text(double percent, char ret[DUTY_TEXT_LEN])
{
    double unit = percent >= 10 ? 1 : percent >= 0.1 ? 10 : 1000, rounded = floor(percent * unit) / unit;

    (void)snprintf(ret, DUTY_TEXT_LEN, "%.10g", rounded > 0.001 ? rounded : 0.001);
}

/* What may be done about it, beside the figures: what that kind of profile has. */
static void attacher_explain_price(const struct attacher_price *price, const struct session_params *params, char *message, size_t message_len)
{
    char choices[256], duty[DUTY_TEXT_LEN];

    attacher_duty_text((params->duty > 0 ? params->duty : 100) * params->max_overhead / price->percent, duty);
    if (params->event == EVENT_CUSTOM)
        (void)snprintf(choices, sizeof(choices), "raise max_overhead=, have functions add and remove that are called less often, or count "
                       "calls alone, for a part of the time: profile?event=uprobe:PATH:SYMBOL&duty=%s", duty);
    else if (params->event == EVENT_HEAP)
        (void)snprintf(choices, sizeof(choices), "ask for what is allocated alone, in a part of the time (allocs?seconds=10&duty=%s), raise "
                       "max_overhead=, or load the library libcprofd-heap.so into the process, which costs less", duty);
    else
        (void)snprintf(choices, sizeof(choices), "attach them for a part of the time alone (duty=%s), raise max_overhead=, or probe what is called "
                       "less often", duty);
    (void)snprintf(message, message_len, "event %.200s: overhead: it happens %s %.0f times a second of the process's CPU time, and each "
                   "probe costs %llu ns: %.1f %% of %s, where max_overhead=%g may be taken; %s",
                   params->event_text, price->more ? "more than" : "about", price->per_second, (unsigned long long)price->hit_ns, price->percent,
                   price->mostly_waits ? "a fifth of a CPU, which one that mostly waits is taken to use" : "that time", params->max_overhead,
                   choices);
}

int attacher_explain(const struct attacher_message *failed, const struct session_params *params, char *message,
                     size_t message_len)
{
    int error = failed->error;

    if (failed->stage == ATTACHER_DUMP && error != -ESRCH) {
        (void)snprintf(message, message_len, "the threads could not be dumped: %s", strerror(-error));
        return 503;
    }

    if (failed->stage == ATTACHER_MAPS) {
        (void)snprintf(message, message_len, "no memory for the session's BPF maps: %s", strerror(-error));
        return 503;
    }
    if (failed->stage == ATTACHER_COPIES && (error == -EACCES || error == -EPERM)) {
        attacher_explain_copies(params, message, message_len);
        return 503;
    }
    if (failed->stage == ATTACHER_COPIES && error == -ENOBUFS) {
        (void)snprintf(message, message_len, "no memory may be locked for the copies of stacks: raise kernel.perf_event_mlock_kb or "
                       "LimitMEMLOCK, or end another profile");
        return 503;
    }
    if (error == -EUCLEAN) {
        (void)snprintf(message, message_len, "this kernel kills programs under seccomp at a return probe (some of Linux 6.11 to 6.13 do), and any "
                       "program may be or go under it: another kernel, or the library libcprofd-heap.so in the process, makes this possible");
        return 503;
    }
    if (failed->stage == ATTACHER_PRICE && error == -EDQUOT) {
        attacher_explain_price(&failed->price, params, message, message_len);
        return 409;
    }
    if (error == -EACCES || error == -EPERM) {
        (void)snprintf(message, message_len, "event %.200s: %s", params->event_text, attacher_no_permission(params->event));
        return 503;
    }
    if (error == -EMFILE || error == -ENFILE) {
        (void)snprintf(message, message_len, "the daemon has no file descriptors left: raise LimitNOFILE");
        return 503;
    }
    if (error == -ENOENT && params->event == EVENT_GROWTH) {
        (void)snprintf(message, message_len, "growth: this kernel has no tracepoint kmem:rss_stat");
        return 503;
    }
    if (error == -ENOENT || error == -EOPNOTSUPP || error == -ENODEV || error == -EINVAL) {
        (void)snprintf(message, message_len, "event %.200s: this machine does not have it; it has: %s", params->event_text,
                       events_available());
        return 400;
    }
    if (error == -ESRCH) {
        (void)snprintf(message, message_len, "the process ended before sampling began");
        return 404;
    }
    (void)snprintf(message, message_len, "event %.200s could not be attached: %s", params->event_text, strerror(-error));
    return 503;
}
