/* What a recording does to find where its custom profile's values are added and removed: a worker looks through the files that are mapped. Private
 * to the recording's files. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/custom_job.h"
#include "daemon/raw_types.h"

struct raw_writer;
struct recording;
struct server;
struct session_params;
struct worker_message;

/* Recordings of custom profiles at one time: each takes some megabytes. */
#define RECORDING_CUSTOM_MAX 32

struct recording_custom {
    bool listed;          /* what is mapped is known */
    struct custom_found found;
    uint32_t n_objects;   /* of what was mapped when it was looked for them */
    struct custom_site *sites; /* found.n_sites of them, by object; those that were found later behind the others */
    size_t next;          /* of the sites: the first one whose file is not there yet */
    bool asked;           /* a worker has asked for a file, and has no answer yet */
    unsigned n_stale;     /* answers that are still to come, to workers that went on without them */
    uint32_t files_missed, sites_missed; /* for good: those that were found, and could not be probed */
    bool stepped;
    struct raw_types types;
};

/* Attaches in the end. */
void recording_custom_begin(struct recording *rec);
/* What is mapped; fd stays the caller's. */
void recording_custom_on_mappings(struct recording *rec, int fd);
/* What is mapped now: looks for the profile's places in what is new, and ends in recording_late_looked. fd stays the caller's. */
void recording_custom_look(struct recording *rec, int fd);
/* A file has come from the collector, or an error. fd becomes the recording's. */
void recording_custom_on_file(struct recording *rec, int error, int fd);
/* The target became another program, and its values are gone. Ends the recording: a watch begins anew. */
void recording_custom_exec(struct recording *rec);
void recording_custom_deinit(struct recording_custom *custom);

/* Whether another one can be had: 0, or an HTTP status and a message. */
int recording_custom_refuse(const struct server *server, const struct session_params *params, char *message, size_t message_len);

/* Once it is attached. */
void recording_custom_types(const struct recording *rec, struct raw_types *ret);
/* What a profile says of it. 0 or -errno. */
int recording_custom_facts(const struct recording *rec, struct raw_writer *w);
