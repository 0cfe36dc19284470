/* Changing settings by rows of the table: what the reader of files and the switches share. */
#pragma once

#include "config/setting.h"
#include "config/value.h"

/* The setting of that name, or NULL. */
const struct setting *setting_find(const char *name);
/* Sets it, or appends to it where it is a list. 0, -EINVAL with a message, or -ENOMEM; s is untouched then.
 */
int setting_parse(const struct setting *setting, struct settings *s, const char *text,
                  struct value_error *error);
/* Empties a list. */
void setting_clear(const struct setting *setting, struct settings *s);
/* What is wrong where one setting does not go with another, and *ret_blamed; or NULL. */
const char *settings_conflict(const struct settings *s, const struct setting **ret_blamed);
/* A deep copy; on failure *ret holds nothing. 0 or -ENOMEM. */
int settings_copy(const struct settings *s, struct settings *ret);
