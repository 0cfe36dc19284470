/* How alike two names of functions are, for one who wrote a name that is nowhere. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Longer names are compared by their beginnings. */
#define NAME_FORM_BYTES 256

/* A name without what is easily got wrong: of upper and lower case, underscores, template arguments and parameters. */
struct name_form {
    char whole[NAME_FORM_BYTES]; /* with its namespaces */
    const char *base;            /* what follows the last "::" in whole */
};

void name_form_make(const char *name, struct name_form *ret);
/* The lower the more alike; NAME_UNLIKE: not at all. */
unsigned name_likeness(const struct name_form *wanted, const struct name_form *other);
#define NAME_UNLIKE 1000u
