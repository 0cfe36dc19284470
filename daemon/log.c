/* The one place that writes to stderr once the daemon runs. Owns the level, nothing else. */
#include "daemon/log.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static enum log_level max_level = LOG_LEVEL_INFO;

void log_set_level(enum log_level level)
{
    max_level = level;
}

/* What a target named itself must not move the terminal's cursor or forge a line. */
static void escape_controls(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = '?';
}

void log_print(enum log_level level, const char *fmt, ...)
{
    static const char priority[] = {'3', '4', '6', '7'};
    static const char *const name[] = {"error", "warning", "info", "debug"};
    char text[2048];
    va_list args;

    if (level > max_level)
        return;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    escape_controls(text);
    if (getenv("JOURNAL_STREAM")) {
        fprintf(stderr, "<%c>%s\n", priority[level], text);
        return;
    }
    char stamp[32];
    time_t now = time(NULL);
    struct tm tm;
    (void)strftime(stamp, sizeof(stamp), "%FT%TZ", gmtime_r(&now, &tm));
    fprintf(stderr, "%s %s: %s\n", stamp, name[level], text);
}
