/* Reads /proc/PID/status, whose counts the kernel gives without asking for the target's locks. Owns nothing. */
#include "daemon/recording_growth.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bpf/control.h"
#include "daemon/raw_profile.h"
#include "util/cleanup.h"

/* Longer than what stands before the lines that count here, with as many groups as a process can well have. */
#define STATUS_BYTES 16384

/* "NAME  123 kB" at the beginning of a line. */
static int growth_field(const char *text, const char *name, uint64_t *ret_bytes)
{
    size_t len = strlen(name);
    const char *line = text;

    while (line && strncmp(line, name, len) != 0) {
        line = strchr(line, '\n');
        line = line ? line + 1 : NULL;
    }
    if (!line)
        return -ESRCH;
    char *end;
    const char *digits = line + len + strspn(line + len, " \t");
    if (*digits < '0' || *digits > '9')
        return -EBADMSG;
    errno = 0;
    unsigned long long kib = strtoull(digits, &end, 10);
    if (errno || strncmp(end, " kB", 3) != 0 || kib > UINT64_MAX / 1024)
        return -EBADMSG;
    *ret_bytes = kib * 1024;
    return 0;
}

int growth_memory_parse(const char *text, struct growth_memory *ret)
{
    struct growth_memory memory;
    int r = growth_field(text, "RssAnon:", &memory.anon);

    r = r < 0 ? r : growth_field(text, "VmSwap:", &memory.swap);
    if (r == 0)
        *ret = memory;
    return r;
}

static bool growth_read(pid_t pid, struct growth_memory *ret)
{
    char path[32], text[STATUS_BYTES];

    (void)snprintf(path, sizeof(path), "/proc/%d/status", pid);
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (n <= 0)
        return false;
    text[n] = '\0';
    return growth_memory_parse(text, ret) == 0;
}

/* What an event has told in the meantime is newer. */
static void growth_set(__u64 *now, uint64_t bytes)
{
    __u64 unknown = GROWTH_UNKNOWN;
    (void)__atomic_compare_exchange_n(now, &unknown, bytes, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

void recording_growth_open(struct recording_growth *growth, pid_t pid, struct session_ctl *ctl)
{
    growth->before_known = growth_read(pid, &growth->before);
    if (!growth->before_known)
        return;
    growth_set(&ctl->growth.anon, growth->before.anon);
    growth_set(&ctl->growth.swap, growth->before.swap);
}

void recording_growth_close(struct recording_growth *growth, pid_t pid, const struct session_ctl *ctl)
{
    growth->after_known = ctl->closed_ns == 0 && growth_read(pid, &growth->after);
}

/* What the kernel itself says. */
static int growth_write_kernels(const struct recording_growth *growth, struct raw_writer *w)
{
    int e = 0;

    if (growth->before_known)
        e = raw_writer_fact(w, "rss_anon_before_bytes", "%llu", (unsigned long long)growth->before.anon);
    if (growth->after_known)
        e = e ? e : raw_writer_fact(w, "rss_anon_after_bytes", "%llu", (unsigned long long)growth->after.anon);
    if (growth->before_known && growth->after_known)
        e = e ? e : raw_writer_fact(w, "rss_anon_growth_bytes", "%lld", (long long)(growth->after.anon - growth->before.anon));
    return e;
}

int recording_growth_facts(const struct recording_growth *growth, const struct session_ctl *ctl, struct raw_writer *w)
{
    const struct session_growth *g = &ctl->growth;
    const struct {
        const char *key;
        uint64_t bytes;
        bool always;
    } counts[] = {
        {"growth.added_bytes", g->added, true}, {"growth.freed_bytes", g->freed, true}, {"growth.others_added_bytes", g->others_added, false},
        {"growth.others_freed_bytes", g->others_freed, false}, {"growth.swap_left_bytes", g->swap_left, false},
        {"growth.exec_bytes", g->exec_bytes, false},
    };
    int e = growth_write_kernels(growth, w);

    for (size_t i = 0; e == 0 && i < sizeof(counts) / sizeof(counts[0]); i++)
        if (counts[i].always || counts[i].bytes > 0)
            e = raw_writer_fact(w, counts[i].key, "%llu", (unsigned long long)counts[i].bytes);
    if (g->swap_left > 0)
        e = e ? e : raw_writer_fact(w, "warning.swap", "memory was swapped out before: what of it came back is shown as growth, "
                                    "up to growth.swap_left_bytes");
    if (g->batched)
        e = e ? e : raw_writer_fact(w, "growth.batched", "this kernel (before Linux 6.2) tells of a thread's page faults by 64: "
                                    "all of them have the stack of the last one, "
                                    "and what came after that is not told yet");
    return e;
}
