/* The named profiles of a file: what the macros of include/cprofd/profile.h left in it. That header has the layout. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "symbolize/elf_file.h"

#define PROFILE_NOTE_TEXT_BYTES 256 /* with the NUL */
#define PROFILE_NOTES_MAX 1024u
#define PROFILE_NOTES_MAX_SITES 65536u

/* Bytes as the program's author (who may be anybody) wrote them, no UTF-8 and nothing printable promised; cut to their room. No
 * pointers: what a worker answers with. */
struct profile_note {
    char name[PROFILE_NOTE_TEXT_BYTES]; /* never empty */
    char description[PROFILE_NOTE_TEXT_BYTES];
    char unit[PROFILE_NOTE_TEXT_BYTES]; /* "count" where the note has none */
};

/* Where a probe goes. The arguments are then in a function call's registers, first to last: adding: name, key, weight, skip;
 * removing: name, key. */
struct profile_note_site {
    uint64_t file_offset;
    uint32_t profile; /* index in profiles */
    uint32_t adds;    /* 1; 0: it removes */
};

struct profile_notes {
    struct profile_note *profiles; /* each name once, in the file's order: the first note of a name counts */
    size_t n;
    struct profile_note_site *sites; /* by profile, then by offset; none twice */
    size_t n_sites;
    size_t left_out; /* profiles beyond the bound; sites beyond theirs, outside of the file's segments, or of no known profile */
};

/* 0 (where there are none, with n 0), or -errno: -ENOMEM. Malformed notes are passed over. */
int profile_notes_read(const struct elf_file *file, struct profile_notes *ret);
void profile_notes_deinit(struct profile_notes *notes);

/* The note of include/cprofd/labels.h: the offset of its variable in the file's thread-local storage. False: there is none. */
bool profile_notes_labels(const struct elf_file *file, uint64_t *ret_offset);
