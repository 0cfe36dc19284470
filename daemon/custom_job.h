/* Finds what a target declares of profiles, or where the probes of one go, in the files that it maps. Runs in a worker, which asks for the files
 * one by one. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "daemon/custom_spec.h"
#include "daemon/render.h"
#include "symbolize/profile_notes.h"

#define CUSTOM_MAX_SITES 1024
/* Profiles of one target that are shown. */
#define CUSTOM_MAX_DECLARED 256

struct custom_found {
    uint32_t n_sites, n_notes;
    uint32_t unread;   /* files that could not be looked at */
    uint32_t left_out; /* profiles whose name is of no use, or for which there is no room; sites that are no nop, or one too many */
    uint32_t tail_calls, ways_in; /* struct probe_points, of the results that are added */
    uint32_t declared; /* the unit is one that the target declares; else that of the spec */
    uint32_t pad;
    char unit[PROFILE_NOTE_TEXT_BYTES];
};

struct custom_site {
    uint64_t file_offset;
    uint32_t object; /* of what is mapped */
    uint32_t role;   /* CUSTOM_ROLE (bpf/custom.h) */
    uint32_t cost;   /* enum probe_cost */
    char insn[16];
    uint32_t pad;
};

/* Writes the answer to out_fd. 0 with its length; or -errno with a message for the user: -ENOENT: nothing of that name is there; -EINVAL: it is, but
 * can't be probed so; -ENOMEM, -EIO. */
int custom_make(int input_fd, const struct custom_request *request, const struct render_ops *ops, void *userdata, int out_fd, uint64_t *ret_len,
                char *message, size_t message_len);
