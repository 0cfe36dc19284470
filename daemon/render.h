/* From a raw profile to the finished body: pprof, folded stacks, quality or symbols. Runs in a worker.
 *
 * A frame's address is the program counter itself in the innermost frame (and in the first user frame under
 * kernel frames, where the counter is that of the interrupted or calling instruction), and the return address
 * minus one in callers: both for the lookup and in the profile.
 *
 * What nothing is known of has a name all the same: "libfoo.so+0x1234" (link-time address),
 * "[anon]+0x7f12..." (code that was made at run time: its own address), "0x1234" in "[unknown]" (no mapping
 * covers it). */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "daemon/raw_profile.h"
#include "daemon/worker_proto.h"

struct renderer;

struct render_ops {
    /* A file: need->u.need says which. 0 with an fd that becomes the renderer's, or -errno; -ECANCELED ends
     * the job. */
    int (*need)(void *userdata, struct worker_message *need, int *ret_fd);
    /* An object is about to be parsed; WORKER_TOUCH_NONE: none is any more. */
    void (*touch)(void *userdata, uint32_t object);
    /* A body of what is known so far is written, before the job's deadline unless it is the first. NULL: of no use. */
    void (*draft)(void *userdata, const struct worker_body *body);
};

/* Keeps caches from job to job: modules, kernel symbols. NULL when memory is short. */
struct renderer *renderer_new(const struct render_ops *ops, void *userdata, size_t cache_bytes);
void renderer_free(struct renderer *r);
/* Between jobs: brings the caches back to their bound. */
void renderer_trim(struct renderer *r);
size_t renderer_cache_bytes(const struct renderer *r);

struct render_result {
    struct worker_body body; /* counts of samples: in the profile; of these, with a proven bottom; lost, whatever the
                                reason */
    char message[512];       /* for the user, with an error */
};

/* Renders p into out_fd, from its start on: drafts, where the job has a deadline, then the body. job: WORKER_JOB, for what to
 * leave out, and until when drafts are of use. 0; -EINVAL: a
 * filter is no regular expression; -ENOMEM; -ECANCELED; -EFBIG: the body is too long; each with a message. */
int renderer_render(struct renderer *r, const struct raw_profile *p, const struct worker_message *job,
                    int out_fd, struct render_result *ret);
