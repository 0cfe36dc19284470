/* Files that a target maps once its probes are attached: an allocator or a library that it loads later. Each new list of what is mapped is looked
 * through as the first one was, and what is found is probed from then on. Private to the recording's files. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct raw_writer;
struct recording;

struct recording_late {
    int fd;               /* the newest list, which is to be looked through; -1: none */
    bool busy;            /* one is being looked through */
    size_t n_attached;    /* of the recording's files: those that are probed, or are about to be */
    unsigned n_probed, n_failed;
    int error;            /* of the last that failed */
};

/* What is mapped now; fd stays the caller's. */
void recording_late_on_mappings(struct recording *rec, int fd);
/* Looks through what there is, if it may: it is open, and nothing else is under way. */
void recording_late_work(struct recording *rec);
/* All of a list has been looked through: probes what was found. */
void recording_late_looked(struct recording *rec);
/* A file came, or an error. fd becomes the recording's. */
void recording_late_on_file(struct recording *rec, int error, int fd);
/* The recorder has tried. */
void recording_late_on_probed(struct recording *rec, int error);
void recording_late_deinit(struct recording *rec);

/* What a profile says of it; its kind comes first in the keys. 0 or -errno. */
int recording_late_facts(const struct recording *rec, const char *kind, struct raw_writer *w);
