/* Opens the files that a target maps: the very inode, whatever the target does with names meanwhile. Only
 * regular files, never one that opening could do something to, and never outside of the target's root. */
#pragma once

#include <limits.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "daemon/mapped_head.h"
#include "daemon/target.h"
#include "daemon/target_maps.h"

struct opened_file {
    int fd;              /* read-only; -1: it could not be opened */
    struct stat st;      /* where fd >= 0 */
    bool deleted;
    int error;           /* why it is not open: -ENODEV; -EUCLEAN: what is found in its place has other contents than what is mapped;
                            -ETIMEDOUT: its file system does not answer */
    size_t build_id_len; /* of what is mapped; 0: unknown */
    uint8_t build_id[MAPPED_ID_MAX_BYTES];
    char path[PATH_MAX]; /* as the target sees it; " (deleted)" removed */
};

/* /proc/PID/root, O_PATH. fd or -errno. */
int target_files_root(const struct target *t);

/* The file of a mapping, by its numbers and, where the target's memory can be read (e->head), by its contents. Always fills *ret (fd -1
 * where it can't be had). root_fd: of target_files_root, or -1. */
void target_files_open(const struct target *t, int root_fd, const struct maps_entry *e,
                       struct opened_file *ret);
/* The same, but only its name. */
void target_files_name(const struct target *t, int root_fd, const struct maps_entry *e,
                       struct opened_file *ret);

/* The program itself, /proc/PID/exe. fd or -errno. */
int target_files_open_exe(const struct target *t);

/* Opens a path below root_fd that need not be trusted: no symbolic link leads out of it, regular files alone,
 * never blocks on a FIFO, a device or a lease. fd or -errno. */
int target_files_open_beneath(int root_fd, const char *path);

/* The two halves of that: finds a path below root_fd, of whatever type it is (a link too: the last name is not followed), without opening
 * it; and opens what was found, if it is a regular file. fd or -errno. */
int target_files_find_beneath(int root_fd, const char *path);
int target_files_reopen(int path_fd);

/* True where the open file is the one that maps shows as this device and inode; on file systems that show
 * other numbers to fstat (btrfs, overlayfs) it is mapped here to compare like with like. */
bool target_files_same(int fd, const struct maps_entry *e);
