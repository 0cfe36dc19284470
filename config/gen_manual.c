/* Writes what follows from the table of settings: the example configuration, and the parts of the manual pages that
 * name settings. Runs at build time on the building machine.
 *
 *     gen_manual example            the example configuration
 *     gen_manual manual < TEMPLATE  the template, with the lines .\" SWITCHES and .\" SETTINGS replaced
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/setting.h"
#include "config/value.h"

#define EXAMPLE_COLUMNS 78

/* Text as roff takes it: hyphens that can be copied, no escapes, no requests. */
static void print_roff(const char *text)
{
    for (; *text; text++) {
        if (*text == '-')
            fputs("\\-", stdout);
        else if (*text == '\\')
            fputs("\\e", stdout);
        else
            putchar(*text);
    }
}

/* "a whole number from 1 to 64", or "" for what the manual text describes. */
static void describe_bounds(const struct setting *setting, char *ret, size_t len)
{
    char least[32], most[32];

    *ret = '\0';
    if (setting->type == SETTING_INTEGER) {
        (void)snprintf(ret, len, "A whole number from %.0f to %.0f", setting->min, setting->max);
    } else if (setting->type == SETTING_NUMBER) {
        (void)snprintf(ret, len, "A number from %g to %g", setting->min, setting->max);
    } else if (setting->type == SETTING_BYTES) {
        value_bytes_text((uint64_t)setting->min, least);
        value_bytes_text((uint64_t)setting->max, most);
        (void)snprintf(ret, len, "A size from %s to %s", least, most);
    }
}

/* What stands under each setting beyond its text: bounds, default, how often. */
static void describe_rest(const struct setting *setting, char *ret, size_t len)
{
    describe_bounds(setting, ret, len);
    size_t used = strlen(ret);
    if (setting->fallback)
        used += (size_t)snprintf(ret + used, len - used, "%s %s", used ? "; default" : "Default:",
                                 setting->fallback);
    if (used)
        used += (size_t)snprintf(ret + used, len - used, ".%s", setting_is_list(setting) ? " " : "");
    if (setting_is_list(setting))
        (void)snprintf(ret + used, len - used, "May be given more than once.");
}

static void print_switches(void)
{
    for (size_t i = 0; i < n_settings; i++) {
        const struct setting *setting = &settings_table[i];
        printf(".TP\n.BI \\-\\-");
        print_roff(setting->name);
        printf(" \" ");
        print_roff(setting->value);
        printf("\"\n");
        print_roff(setting->brief);
        if (setting->fallback) {
            printf(" (default ");
            print_roff(setting->fallback);
            putchar(')');
        }
        printf("%s.\n", setting_is_list(setting) ? "; may be given more than once" : "");
    }
}

static void print_setting(const struct setting *setting)
{
    char rest[256];

    describe_rest(setting, rest, sizeof(rest));
    printf(".TP\n.BI ");
    print_roff(setting->name);
    printf(" \" = ");
    print_roff(setting->value);
    printf("\"\n");
    print_roff(setting->manual);
    putchar('\n');
    print_roff(rest);
    putchar('\n');
}

static void print_settings(void)
{
    for (size_t i = 0; i < n_setting_sections; i++) {
        printf(".SS [%s]\n", setting_sections[i].name);
        print_roff(setting_sections[i].title);
        puts(".");
        for (size_t k = 0; k < n_settings; k++)
            if (strcmp(settings_table[k].section, setting_sections[i].name) == 0)
                print_setting(&settings_table[k]);
    }
}

static int print_manual(void)
{
    char line[4096];
    while (fgets(line, sizeof(line), stdin)) {
        if (strcmp(line, ".\\\" SWITCHES\n") == 0)
            print_switches();
        else if (strcmp(line, ".\\\" SETTINGS\n") == 0)
            print_settings();
        else
            fputs(line, stdout);
    }
    return ferror(stdin) ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* A comment of several lines, broken between words. */
static void print_comment(const char *text)
{
    size_t column = 0;
    while (*text) {
        size_t word = strcspn(text, " ");
        if (column && column + 1 + word > EXAMPLE_COLUMNS) {
            putchar('\n');
            column = 0;
        }
        column += (size_t)printf("%s%.*s", column ? " " : "# ", (int)word, text);
        text += word + strspn(text + word, " ");
    }
    putchar('\n');
}

static void print_example_setting(const struct setting *setting)
{
    char rest[256];

    describe_rest(setting, rest, sizeof(rest));
    putchar('\n');
    print_comment(setting->manual);
    if (*rest)
        print_comment(rest);
    if (setting->fallback)
        printf("#%s = %s\n", setting->name, setting->fallback);
    if (setting->example)
        printf("#%s = %s\n", setting->name, setting->example);
}

static void print_example(void)
{
    print_comment("Settings of cprofd(8); cprofd.conf(5) describes this file. Each line of the form \"#name = value\" "
                  "shows a default, or an example where there is none. After a change, check it with cprofd --config FILE "
                  "--check-config, and apply it with systemctl reload cprofd: sessions go on meanwhile.");
    for (size_t i = 0; i < n_setting_sections; i++) {
        printf("\n[%s]\n", setting_sections[i].name);
        print_comment(setting_sections[i].title);
        for (size_t k = 0; k < n_settings; k++)
            if (strcmp(settings_table[k].section, setting_sections[i].name) == 0)
                print_example_setting(&settings_table[k]);
    }
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "manual") == 0)
        return print_manual();
    if (argc != 2 || strcmp(argv[1], "example") != 0) {
        fprintf(stderr, "usage: gen_manual example | gen_manual manual < TEMPLATE\n");
        return EXIT_FAILURE;
    }
    print_example();
    return EXIT_SUCCESS;
}
