/* Which epochs of a session's samples the asker may see. Each exec begins a new image, which is the asker's only once a check made
 * of that very image has granted it.
 *
 * A check and an exec may cross: a check that was made for one image may have seen the next one. So a grant counts only while no
 * newer exec is known, and what turns out not to have been looked at is taken back. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define IMAGE_ACCESS_MAX_RANGES 32

struct image_access {
    struct {
        uint32_t first, last;
    } ranges[IMAGE_ACCESS_MAX_RANGES]; /* granted epochs; images beyond the room are not granted */
    unsigned n;
    bool open; /* the last range is the running image's */
};

/* The first image, granted. */
void image_access_init(struct image_access *a);
/* An exec: epochs from this one on are another image's. */
void image_access_exec(struct image_access *a, uint32_t epoch);
/* A check made for the exec of that epoch granted access; newest: the newest exec's epoch. */
void image_access_grant(struct image_access *a, uint32_t epoch, uint32_t newest);
/* Nobody looked at the images of the epochs [first, end): they are granted no more. */
void image_access_revoke(struct image_access *a, uint32_t first, uint32_t end);
bool image_access_allows(const struct image_access *a, uint32_t epoch);
/* Some epoch of [first, last]. */
bool image_access_allows_some(const struct image_access *a, uint32_t first, uint32_t last);
/* What of it is in the epochs from this one on. */
void image_access_since(const struct image_access *a, uint32_t epoch, struct image_access *ret);
/* Nothing was refused so far: every epoch is allowed. */
bool image_access_allows_all(const struct image_access *a);
