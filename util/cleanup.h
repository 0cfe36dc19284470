/* Ownership by scope: each owning local carries one of these attributes and an initial value, and each
 * hand-over to another owner is spelled TAKE_PTR or TAKE_FD. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* unused: clang does not count the cleanup as a use. */
#define CLEANUP(fn) __attribute__((cleanup(fn), unused))

static inline void cleanup_free(void *p) { free(*(void **)p); }
static inline void cleanup_close(int *fd) { if (*fd >= 0) (void)close(*fd); }
static inline void cleanup_fclose(FILE **f) { if (*f) (void)fclose(*f); }

#define AUTO_FREE CLEANUP(cleanup_free)
#define AUTO_CLOSE CLEANUP(cleanup_close)
#define AUTO_FCLOSE CLEANUP(cleanup_fclose)

#define TAKE_PTR(p) ({ __typeof__(p) _taken = (p); (p) = NULL; _taken; })
#define TAKE_FD(fd) ({ int _taken = (fd); (fd) = -1; _taken; })

/* Closes *fd where it is open, and marks it closed; safe to call twice. */
static inline void close_fd(int *fd)
{
    cleanup_close(fd);
    *fd = -1;
}
