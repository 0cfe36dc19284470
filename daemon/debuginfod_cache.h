/* The folder that keeps what debuginfod servers sent, as libdebuginfod lays it out, one folder in it for each server: what one server
 * does not have, another may. FOLDER/SERVER/BUILDID/debuginfo; an empty file says that there is none. For the debuginfod client alone. */
#pragma once

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

struct debuginfod_cache_file {
    uint64_t used_ns; /* realtime */
    uint64_t bytes;
    char *path;
};

/* The folder, made where it is missing. Where we are root we become its owner, who must not be root: a folder that is made then is
 * given to the user cprofd, or else to nobody. 0, or -errno with a text for the log. */
int debuginfod_cache_open(const char *path, char *ret_text, size_t len);
/* The folder of a server in it, made where it is missing. 0 or -errno. */
int debuginfod_cache_server(const char *path, const char *url, char ret[PATH_MAX]);
/* The file of a build id: fd, read-only; -ENOENT: that server said not long ago that it has none; -EAGAIN: unknown. */
int debuginfod_cache_find(const char *server_folder, const char *build_id);
/* Removes what there is of a build id, a file or the note that there is none. */
void debuginfod_cache_forget(const char *server_folder, const char *build_id);
/* Removes files until those that are left take most_bytes, least recently used first; what may be being written stays. 0 or -errno. */
int debuginfod_cache_trim(const char *path, uint64_t most_bytes);
