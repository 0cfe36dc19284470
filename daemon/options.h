/* The command line: what main does, and the switches, kept so that a reload applies them again over the file. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "config/settings.h"

#define OPTIONS_MAX_SWITCHES 128

struct options {
    bool help, version, check_config;
    const char *config; /* NULL: no file */
    struct {
        const char *name, *value;
    } switches[OPTIONS_MAX_SWITCHES];
    size_t n_switches;
};

/* Strings point into argv. 0, or -EINVAL with what is wrong on errors. */
int options_parse(int argc, char **argv, struct options *ret, FILE *errors);
void options_print_help(FILE *out);

/* Defaults, then the file, then the switches, checked as a whole. *ret is to be settings_deinit'ed. 0, or -errno with all faults on errors. */
int options_settings(const struct options *o, struct settings *ret, FILE *errors);
