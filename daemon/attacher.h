/* The attacher: the child that attaches a recorder's events, holds them, and detaches them (daemon/child.h). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "bpf/attach.h"
#include "daemon/duty_scale.h"
#include "daemon/session_params.h"

enum attacher_stage { ATTACHER_MAPS = 1, ATTACHER_LOCKS, ATTACHER_EVENTS, ATTACHER_COPIES, ATTACHER_DUMP, ATTACHER_PRICE };

struct copy_request;

/* What probes cost their target, before the window. */
struct attacher_price {
    uint64_t hit_ns;   /* each; 0: it is not known */
    double per_second; /* hits in a second of the target's CPU time; */
    bool more;         /* there are more of them: probes took so much of it that what was its own can't be told */
    bool mostly_waits; /* the target: percent is of a fifth of a CPU */
    double percent;    /* of its CPU time, which is taken to be a fifth of a CPU at least, as long as they are attached for (duty=) */
};

/* child -> loop: READY with the session's two map fds (EVENT_CUSTOM: and that of its values), or FAILED. loop -> child: END. Detached, the
 * child ends.
 *
 * A dumper (daemon/dumper.h): READY with nothing; loop -> child: OPEN; then DUMPED with a memfd of RAW_* sections.
 *
 * Files that the target maps later: loop -> child: MORE with the file and a memfd of n_places struct role_place; back comes MORE with its
 * error.
 *
 * Where stacks are copied: RINGS with descriptors of rings, as often as it takes; then READY with a memfd of struct copy_name[]. */
enum attacher_message_type { ATTACHER_READY = 1, ATTACHER_FAILED, ATTACHER_END, ATTACHER_RINGS, ATTACHER_OPEN, ATTACHER_DUMPED,
                             ATTACHER_MORE };
struct attacher_message {
    uint32_t type;
    uint32_t stage; /* FAILED: enum attacher_stage */
    int32_t error;  /* FAILED, and child's MORE: 0 or -errno */
    uint32_t reach; /* READY: enum copy_reach */
    uint64_t ring_bytes; /* RINGS: of each */
    uint64_t n_places;   /* loop's MORE */
    struct attacher_price price; /* READY, and FAILED at ATTACHER_PRICE */
};

/* Shared with the loop, so that it can tell whose lock an attacher hangs on. */
struct attacher_progress {
    uint64_t attached_ns;       /* how long probes were attached, until they were taken away last; */
    uint64_t attached_since_ns; /* and since when they are, monotonic; 0: they are not, or always */
    uint64_t moving_ns;         /* how long it takes to attach them for a slice and to detach them, on average so far */
    uint32_t stage;
    int32_t lock_of; /* the process whose memory lock is being tried; 0: none */
    struct duty_work work; /* with duty=: read once the attacher has ended */
};

struct attacher_request {
    const struct sampler *sampler;
    uint32_t slot;
    pid_t pid;
    const struct session_params *params;
    uint32_t max_samples, ring_bytes;
    int probe_fd;
    const struct probe_place *places;
    size_t n_places;
    bool stepped; /* the kernel single-steps the instruction of some place */
    const struct role_file *files; /* EVENT_CUSTOM, EVENT_HEAP */
    size_t n_files;
    struct attacher_progress *progress;
    const struct copy_request *copy; /* events that copy stacks, in place of programs; NULL: none */
};

int attacher_main(int sock, void *arg); /* arg: struct attacher_request */

/* What went wrong, for the user: an HTTP status and a message. */
int attacher_explain(const struct attacher_message *failed, const struct session_params *params, char *message,
                     size_t message_len);
