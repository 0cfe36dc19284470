/* Why a request is refused: an HTTP status, and a message that tells the asker what to do. */
#pragma once

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

struct denial {
    int status;
    char message[1024];
};

/* Fills *d and returns -EACCES, so that a check can end with `return deny(...)`. */
__attribute__((format(printf, 3, 4))) static inline int deny(struct denial *d, int status, const char *fmt,
                                                             ...)
{
    va_list args;

    d->status = status;
    va_start(args, fmt);
    (void)vsnprintf(d->message, sizeof(d->message), fmt, args);
    va_end(args);
    return -EACCES;
}
