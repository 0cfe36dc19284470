/* What a custom profile is made of: the name that a program gives it (include/cprofd/profile.h), or the functions whose calls add and remove
 * its values. Part of a query, and of a worker's job: no pointers. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/raw_types.h"

#define CUSTOM_NAME_LEN 256
#define CUSTOM_UNIT_LEN 16

/* [OBJECT:]SYMBOL[+0xOFF][:ret|arg0..arg5] */
struct custom_function {
    char object[512]; /* path as the target sees it, or its last part; "": the main binary */
    char symbol[512]; /* "": not given */
    uint64_t offset;
    uint32_t from;    /* enum custom_from (bpf/custom.h) */
    uint32_t pad;
};

struct custom_spec {
    char name[CUSTOM_NAME_LEN]; /* of one that the target declares; or that a query gives to one by functions, "": none: */
    struct custom_function add, remove;
    uint32_t weight; /* enum custom_from */
    uint32_t skip;
    uint32_t key; /* enum custom_key */
    uint32_t pad;
    char unit[CUSTOM_UNIT_LEN]; /* of weights; "": count */
};

/* What the values of functions are: of which results are errors, and not added. */
enum custom_key {
    CUSTOM_POINTER, /* 0, and what stands for an errno: -4095 to -1 */
    CUSTOM_INT,     /* of 32 bits: what is below 0 */
    CUSTOM_LONG,    /* the same of 64 */
};

enum custom_wish {
    CUSTOM_LIST = 1, /* -> struct custom_found, and behind it n_notes struct profile_note, by name */
    CUSTOM_FIND,     /* a spec -> struct custom_found, and behind it n_sites struct custom_site, by object */
};

/* What a worker is asked: with the sections of what is mapped (COLLECTOR_MAPPINGS) as its input. */
struct custom_request {
    uint32_t wish; /* enum custom_wish */
    uint32_t pad;
    struct custom_spec spec;
};

/* Reads a function. 0, or -EINVAL with what is wrong with it. */
int custom_function_parse(const char *text, struct custom_function *ret, const char **ret_why);
/* "ret" and "arg0" to "arg5". 0 or -EINVAL. */
int custom_from_parse(const char *text, size_t len, uint32_t *ret);
/* "pointer", "int" and "long". 0 or -EINVAL. */
int custom_key_parse(const char *text, uint32_t *ret);

/* Else by functions. */
static inline bool custom_is_declared(const struct custom_spec *spec)
{
    return spec->name[0] && !spec->add.symbol[0];
}

/* Nothing is removed: each call that adds counts. */
static inline bool custom_is_counted(const struct custom_spec *spec)
{
    return spec->add.symbol[0] && !spec->remove.symbol[0];
}

/* Whether it says what values are, and nothing of a declared one that its program says. 0, or -EINVAL with what is wrong with it. */
int custom_spec_check(const struct custom_spec *spec, char *error, size_t error_len);

/* What a path and a list of kinds can have: plain UTF-8, without a comma, and not so long as to be cut. */
bool custom_name_is_usable(const char *name);

/* What the samples of a profile are called. unit: of weights; "count": there are none. */
void custom_types(const char *name, const char *unit, struct raw_types *ret);
/* The same of a profile; unit: where it is declared, the program's. */
void custom_spec_types(const struct custom_spec *spec, const char *unit, struct raw_types *ret);
