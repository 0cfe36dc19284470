/* /proc/PID/maps: its lines, and reading all of them (man 5 proc; show_map_vma in fs/proc/task_mmu.c).
 *
 * An open maps file belongs to the image (the mm) that ran when it was opened: after an exec it is empty, so
 * that mappings of two images are never mixed up. While a process changes its mappings, the kernel still
 * promises that addresses rise, and that what was there throughout is seen. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Lines of one process; more are not read. The kernel's default limit is 65,530. */
#define MAPS_MAX_LINES 1000000
/* The longest line that is seen as a whole. */
#define MAPS_LINE_BYTES 65536

struct maps_entry {
    uint64_t start, end, offset;
    bool executable;
    uint32_t dev_major, dev_minor;
    uint64_t ino;      /* 0: no file */
    const char *name;  /* as printed: a newline is "\012"; "" where there is none. Not NUL-terminated */
    size_t name_len;
    bool name_cut;     /* the line was too long */
    uint64_t head;     /* where the file's first byte is mapped; 0: nowhere, or nobody looked. Not from this line */
};

/* One line without its newline. 0, or -EBADMSG. name points into the line. */
int maps_parse_line(const char *line, size_t len, struct maps_entry *ret);

/* A name as it is: newlines undone. Returns its length; to must have room for len bytes. */
size_t maps_decode_name(const char *name, size_t len, char *to);

/* Calls fn for each line from the first on. 0; -ESRCH: the image is gone, and what fn saw may be a part of
 * it; -E2BIG: more than MAPS_MAX_LINES; -EBADMSG; -errno; or what fn returned, if negative. */
int maps_read(int fd, int (*fn)(const struct maps_entry *e, void *userdata), void *userdata);
