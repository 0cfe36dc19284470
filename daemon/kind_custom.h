/* Profiles that a target declares, or that a query makes of its functions and names: kinds that have these names. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct kind;
struct watches;

/* Names that are in use at one time: of watches, and of watches that ended. */
#define CUSTOM_MAX_NAMES 256

/* The kind of that name; NULL: it can be none's. Whether a target declares it, nobody has looked. It stays while a watch has it, and otherwise
 * until the next call. */
const struct kind *custom_kind(struct watches *ws, const char *name);
/* The same, where some watch has or had it; else NULL. */
const struct kind *custom_kind_in_use(const struct watches *ws, const char *name);
/* What stands for all of them, to check what is said of one before anything is watched. NULL: it can be none's. */
const struct kind *custom_kind_any(const char *name);
