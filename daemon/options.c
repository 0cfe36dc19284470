/* getopt_long over main's few switches and one for each setting. Owns nothing: strings stay argv's. */
#include "daemon/options.h"

#include <errno.h>
#include <getopt.h>
#include <string.h>

enum { OPTION_CONFIG = 256, OPTION_CHECK_CONFIG, OPTION_HELP, OPTION_VERSION, OPTION_SETTING };

#define OPTIONS_MAX 128

static void options_table(struct option table[OPTIONS_MAX])
{
    static const struct option own[] = {
        {"config", required_argument, NULL, OPTION_CONFIG},
        {"check-config", no_argument, NULL, OPTION_CHECK_CONFIG},
        {"help", no_argument, NULL, OPTION_HELP},
        {"version", no_argument, NULL, OPTION_VERSION},
    };
    size_t n = sizeof(own) / sizeof(own[0]);

    memcpy(table, own, sizeof(own));
    /* Each has a value of its own: where those are equal, getopt_long takes the first of several that an abbreviation fits. */
    for (int i = 0; settings_name((size_t)i) && n < OPTIONS_MAX - 1; i++)
        table[n++] = (struct option){settings_name((size_t)i), required_argument, NULL, OPTION_SETTING + i};
    table[n] = (struct option){0};
}

static int options_add_switch(struct options *o, const char *name, const char *value, FILE *errors)
{
    if (o->n_switches == OPTIONS_MAX_SWITCHES) {
        (void)fprintf(errors, "--%s: too many switches (at most %d): use a configuration file\n", name, OPTIONS_MAX_SWITCHES);
        return -EINVAL;
    }
    o->switches[o->n_switches].name = name;
    o->switches[o->n_switches++].value = value;
    return 0;
}

int options_parse(int argc, char **argv, struct options *ret, FILE *errors)
{
    struct option table[OPTIONS_MAX];
    int c;

    *ret = (struct options){0};
    options_table(table);
    opterr = 0;
    optind = 0;
    while ((c = getopt_long(argc, argv, ":h", table, NULL)) != -1) {
        switch (c) {
        case OPTION_CONFIG:
            ret->config = optarg;
            break;
        case OPTION_CHECK_CONFIG:
            ret->check_config = true;
            break;
        case OPTION_HELP:
        case 'h':
            ret->help = true;
            break;
        case OPTION_VERSION:
            ret->version = true;
            break;
        case ':':
            (void)fprintf(errors, "%s: a value is missing; see --help\n", argv[optind - 1]);
            return -EINVAL;
        case '?':
            (void)fprintf(errors, "%s: no such switch, or an ambiguous one; see --help\n", argv[optind - 1]);
            return -EINVAL;
        default:
            if (options_add_switch(ret, settings_name((size_t)(c - OPTION_SETTING)), optarg, errors) < 0)
                return -EINVAL;
        }
    }
    if (optind < argc) {
        (void)fprintf(errors, "%s: only switches are understood; see --help\n", argv[optind]);
        return -EINVAL;
    }
    return 0;
}

void options_print_help(FILE *out)
{
    (void)fputs("Usage: cprofd [SWITCH]...\n"
                "Serves /pid/N/debug/pprof/ for every process N of this machine.\n"
                "\n"
                "  --config FILE     read settings from FILE (see cprofd.conf(5)); switches win over it\n"
                "  --check-config    check the settings, say what is wrong with them, and exit\n"
                "  --version         print the version and exit\n"
                "  -h, --help        print this and exit\n"
                "\n"
                "Settings:\n",
                out);
    settings_print_help(out);
}

int options_settings(const struct options *o, struct settings *ret, FILE *errors)
{
    struct settings s;
    int r = settings_init(&s);

    if (r < 0)
        return r;
    if (o->config)
        r = settings_read(&s, o->config, errors);
    for (size_t i = 0; i < o->n_switches; i++) {
        int one = settings_set(&s, o->switches[i].name, o->switches[i].value, errors);
        r = r ? r : one;
    }
    if (r == 0)
        r = settings_check(&s, errors);
    if (r < 0) {
        settings_deinit(&s);
        return r;
    }
    *ret = s;
    return 0;
}
