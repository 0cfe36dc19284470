/* Bytes in, one gzip member out, the same for the same input: no name, no time in its header. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct gzip;

/* 0 or -ENOMEM. */
int gzip_new(struct gzip **ret);
void gzip_free(struct gzip *g);

/* 0 or -ENOMEM. */
int gzip_write(struct gzip *g, const void *data, size_t len);
/* Ends the member and hands it over; g takes no more. 0 or -ENOMEM. */
int gzip_finish(struct gzip *g, uint8_t **ret_data, size_t *ret_len);
