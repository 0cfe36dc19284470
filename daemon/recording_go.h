/* What a recording does for the goroutines of a Go program: finds out whether it is one, and how they are read. Private to the
 * recording's files. */
#pragma once

#include <stdbool.h>

#include "daemon/goroutines.h"

struct collector_message;
struct raw_writer;
struct recording;

struct recording_go {
    bool waits;     /* goroutines' waits are recorded, not threads' */
    bool asked;     /* the collector reads goroutines when it finishes */
    int fd;         /* of them: sections; -1: none */
    struct goroutine_counts counts;
    char note[256]; /* why there are none, though it is a Go program; "": it is none, or there are */
};

/* Whether what is recorded of a Go program is something else than of others. */
bool recording_wants_go(const struct recording *rec);
/* Attaches in the end. */
void recording_ask_program(struct recording *rec);
/* The program's file has come from the collector, or an error. fd becomes the recording's. */
void recording_find_go(struct recording *rec, int error, int fd);
/* TABLE has come; fd, its second one, becomes the recording's. */
void recording_take_goroutines(struct recording *rec, const struct collector_message *m, int fd);

/* Adds the goroutines, and what a profile says of them. 0 or -errno. */
int recording_go_write(const struct recording_go *go, struct raw_writer *w);
