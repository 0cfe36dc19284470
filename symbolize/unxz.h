/* Decompression of xz, bounded. */
#pragma once

#include <stddef.h>

/* *ret is the caller's to free. 0; -EFBIG: it would be more than max bytes; -ENOEXEC: malformed, or cut short; -ENOTSUP: built without liblzma;
 * -ENOMEM. */
int unxz(const void *bytes, size_t n, size_t max, void **ret, size_t *ret_n);
