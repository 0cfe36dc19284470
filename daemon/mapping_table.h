/* What a session knows of its target's executable mappings: which were there in which epochs (bpf/sample.h),
 * and the files they map, held open so that they survive dlclose, exec, deletion and the target's end.
 *
 * Filled by snapshots of /proc/PID/maps, each for an epoch. What a snapshot does not show any more ended
 * before its epoch. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/target.h"

struct mapping_table;
struct patience;
struct raw_mapping;

/* Executable mappings at one time, and in all epochs together; further ones are left out, and counted. */
#define TABLE_MAX_MAPPINGS 262144
#define TABLE_MAX_PAST_MAPPINGS 524288
/* Distinct files and names, and the bytes of their text. */
#define TABLE_MAX_NAMES 131072
#define TABLE_MAX_STRING_BYTES (64u << 20)
/* What is told of while the window is open: mappings, and the bytes of their names. */
#define TABLE_MAX_LIVE_MAPPINGS 65536
#define TABLE_MAX_LIVE_STRING_BYTES (1u << 20)
/* Files held open; what is mapped beyond that is named, but has no symbols. */
#define TABLE_MAX_FILES 4096

/* patience: for files that are opened; borrowed. NULL: no memory. */
struct mapping_table *mapping_table_new(struct patience *patience);
void mapping_table_free(struct mapping_table *t);

/* Opens the image that runs now, without reading it. What is read of it later is read of no other, so access
 * is checked between the two. 0; -ESRCH: the process has ended; -errno. */
int mapping_table_open_image(struct mapping_table *t, const struct target *target);
/* Is the one just opened the very one that is current? Word of an exec comes late: the image that was opened for
 * it may have been that of the next exec already, of which word comes now. */
bool mapping_table_is_same_image(const struct mapping_table *t);
/* Makes the image just opened the current one, and reads it. It is there since the epoch `begins`; what was there
 * ends before the epoch `ends`: the same one, or that of an earlier exec whose image was not seen. 0; -ESRCH: it is
 * gone already; -errno. Then there is no current image, but what was there stays known. */
int mapping_table_set_image(struct mapping_table *t, const struct target *target, uint32_t ends, uint32_t begins);

/* Reads the image's mappings as they are in an epoch, opening files seen for the first time. 0; -ESRCH: the
 * image is gone, and the table as it was; -errno (the table as it was). */
int mapping_table_snapshot(struct mapping_table *t, const struct target *target, uint32_t epoch);

/* Ends all current mappings before the epoch: the asker may not see what runs now. */
void mapping_table_end_image(struct mapping_table *t, uint32_t epoch);

/* The last look, when the window is closed and `epoch` is the last one known: what appeared since is added,
 * nothing is ended but what something else took the place of. */
int mapping_table_final(struct mapping_table *t, const struct target *target, uint32_t epoch);

/* A sealed memfd with RAW_OBJECTS, RAW_MAPPINGS and RAW_STRINGS (daemon/raw_profile.h). fd or -errno. Objects
 * keep their indexes. */
int mapping_table_write(const struct mapping_table *t);

/* The same, with what is there now as after mapping_table_final; the table stays as it was. Without that where the image is gone. */
int mapping_table_write_now(struct mapping_table *t, const struct target *target, uint32_t epoch);

/* The same of the mappings that are there now alone, in the order of their addresses. Not after mapping_table_final. */
int mapping_table_write_live(const struct mapping_table *t);
/* Another number where they are not those that they were. */
uint64_t mapping_table_version(const struct mapping_table *t);
/* CLOCK_MONOTONIC: whatever was mapped before, they tell of. */
uint64_t mapping_table_read_ns(const struct mapping_table *t);
/* How many are there now that mapping_table_write_live leaves out. */
uint64_t mapping_table_live_cut(const struct mapping_table *t);

/* The file of an object, borrowed; -1: it could not be opened. path: as the target sees it. -ENOENT: no such
 * object. */
int mapping_table_object(const struct mapping_table *t, uint32_t index, int *ret_fd, const char **ret_path);

/* The object of that path which is mapped now; RAW_NO_OBJECT: none is. */
uint32_t mapping_table_find(const struct mapping_table *t, const char *path);
/* The one that is mapped now whose path ends in that name, a library's without its version too ("libc.so", "libc"). 0; -ENOENT; -ENOTUNIQ: there are
 * several. */
int mapping_table_find_named(const struct mapping_table *t, const char *name, uint32_t *ret);

/* The mappings of the program's own file as they are now, one after another; NULL past the last. Borrowed, until the next look. */
const struct raw_mapping *mapping_table_program(const struct mapping_table *t, size_t index);
/* Images that were current so far: another number, another image. */
unsigned mapping_table_images(const struct mapping_table *t);

/* The image's root directory, O_PATH, borrowed; that of the last one where none is current; -1: it could not
 * be opened. */
int mapping_table_root(const struct mapping_table *t);

/* What was left out: mappings (that have no place in the table), and files that could not be held open for
 * lack of room. */
void mapping_table_cut(const struct mapping_table *t, uint64_t *ret_mappings, uint64_t *ret_files);
