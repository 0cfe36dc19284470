/* Profiles that a target declares: kinds that have the name which the target gives them. */
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
