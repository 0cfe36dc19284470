/* Reads the configuration file. inih knows the grammar (sections, keys, comments); this file owns what a
 * person who made a mistake needs: the number of each line, all faults and not only the first, and a result
 * that is applied whole or not at all.
 *
 * inih, as distributions build it, passes no line numbers and reports one bad line at most. So it reads
 * through a reader of ours, one line at a time, which counts them, and which notices a line that
 * should have been a setting when inih did not report it as one. */
#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>

#include "config/settings.h"
#include "config/settings_edit.h"
#include "util/cleanup.h"

#define SETTINGS_MAX_FILE_BYTES (1u << 20)
#define SETTINGS_MAX_FAULTS 50 /* shown; a binary file would fill the log */

struct settings_file {
    const char *path;
    FILE *errors;
    struct settings *settings;         /* a copy, which is kept where there is no fault */
    unsigned first_line[SETTINGS_MAX]; /* where each setting of the table stands first; 0: not in the file */
    char *data;
    size_t len, pos;
    unsigned line, n_faults;
    bool expects_setting; /* the line handed out last is one, and inih did not report it yet */
    int error;            /* -ENOMEM */
};

static void file_fault(struct settings_file *f, unsigned line, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void file_fault(struct settings_file *f, unsigned line, const char *fmt, ...)
{
    va_list args;

    if (++f->n_faults > SETTINGS_MAX_FAULTS)
        return;
    fprintf(f->errors, "%s:%u: ", f->path, line);
    va_start(args, fmt);
    (void)vfprintf(f->errors, fmt, args);
    va_end(args);
    fputc('\n', f->errors);
}

static void file_list_section(char *text, size_t len, const char *section)
{
    *text = '\0';
    for (size_t i = 0; i < n_settings; i++)
        if (strcmp(settings_table[i].section, section) == 0)
            (void)snprintf(text + strlen(text), len - strlen(text), "%s%s", *text ? ", " : "",
                           settings_table[i].name);
}

/* A key that is not known, or not here. */
static void file_refuse_key(struct settings_file *f, const char *section, const char *name)
{
    const struct setting *elsewhere = setting_find(name);
    char known[512];

    if (elsewhere) {
        file_fault(f, f->line, "%s belongs in the section [%s]", name, elsewhere->section);
        return;
    }
    file_list_section(known, sizeof(known), section);
    if (*known)
        file_fault(f, f->line, "\"%s\" is not a setting; [%s] has %s", name, section, known);
    else
        file_fault(f, f->line, "\"%s\" is not a setting; see cprofd.conf(5)", name);
}

/* inih's handler. Always 1: faults are counted here. */
static int file_take(void *userdata, const char *section, const char *name, const char *value)
{
    struct settings_file *f = userdata;
    const struct setting *setting = setting_find(name);
    struct value_error error;

    f->expects_setting = false;
    if (!setting || strcmp(setting->section, section) != 0) {
        file_refuse_key(f, section, name);
        return 1;
    }
    unsigned *first = &f->first_line[setting - settings_table];
    if (*first && !setting_is_list(setting)) {
        file_fault(f, f->line, "%s is set a second time; keep this line or line %u", name, *first);
        return 1;
    }
    if (!*first && setting_is_list(setting))
        setting_clear(setting, f->settings);
    if (!*first)
        *first = f->line;
    int r = setting_parse(setting, f->settings, value, &error);
    if (r == -EINVAL)
        file_fault(f, f->line, "%s: %s", name, error.text);
    else if (r < 0)
        f->error = r;
    return 1;
}

static void file_check_section(struct settings_file *f, const char *line)
{
    char known[256] = "";
    size_t len = strcspn(line + 1, "]");
    const char *rest = line + 1 + len;

    if (*rest != ']' || !strchr(";#", rest[1 + strspn(rest + 1, " \t\r")])) {
        file_fault(f, f->line,
                   "\"%.80s\" is not a section; write its name in brackets and nothing behind them", line);
        return;
    }
    for (size_t i = 0; i < n_setting_sections; i++) {
        const char *name = setting_sections[i].name;
        if (strlen(name) == len && strncmp(line + 1, name, len) == 0)
            return;
        (void)snprintf(known + strlen(known), sizeof(known) - strlen(known), "%s[%s]", i ? ", " : "", name);
    }
    file_fault(f, f->line, "[%.*s] is not a section; there are %s", (int)len, line + 1, known);
}

/* What stops a line from being read at all. */
static bool file_line_is_text(struct settings_file *f, const char *line, size_t len, size_t max)
{
    if (len && line[len - 1] == '\r')
        len--;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)line[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            file_fault(f, f->line, "the byte 0x%02x at column %zu is no text; this must be a text file", c,
                       i + 1);
            return false;
        }
    }
    if (len > max) {
        file_fault(f, f->line, "the line has %zu bytes; at most %zu are possible", len, max);
        return false;
    }
    return true;
}

static void file_end_line(struct settings_file *f)
{
    if (f->expects_setting)
        file_fault(f, f->line, "this is not a setting; write NAME = VALUE, or # before a comment");
    f->expects_setting = false;
}

/* inih's reader, as fgets: the next line without what precedes its first word (an indented line would
 * continue the one before it), or an empty one in place of what cannot be read. */
static char *file_next_line(char *buf, int room, void *userdata)
{
    struct settings_file *f = userdata;

    file_end_line(f);
    if (f->pos == f->len)
        return NULL;
    const char *line = f->data + f->pos;
    const char *newline = memchr(line, '\n', f->len - f->pos);
    size_t len = newline ? (size_t)(newline - line) : f->len - f->pos;
    f->pos += len + (newline ? 1 : 0);
    f->line++;
    if (!file_line_is_text(f, line, len, (size_t)room - 2))
        len = 0;
    while (len && (*line == ' ' || *line == '\t')) {
        line++;
        len--;
    }
    memcpy(buf, line, len);
    buf[len] = '\0';
    if (*buf == '[')
        file_check_section(f, buf);
    else
        f->expects_setting = *buf && !strchr(";#\r", *buf);
    memcpy(buf + len, "\n", 2);
    return buf;
}

/* Reads it at once, so that no line changes under the reader; the fault is the caller's to report. */
static int file_load(struct settings_file *f)
{
    AUTO_CLOSE int fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode))
        return S_ISDIR(st.st_mode) ? -EISDIR : -ENOTSUP;
    f->data = malloc(SETTINGS_MAX_FILE_BYTES + 1);
    if (!f->data)
        return -ENOMEM;
    for (;;) {
        ssize_t n = read(fd, f->data + f->len, SETTINGS_MAX_FILE_BYTES + 1 - f->len);
        if (n < 0)
            return -errno;
        f->len += (size_t)n;
        if (f->len > SETTINGS_MAX_FILE_BYTES)
            return -EFBIG;
        if (n == 0)
            break;
    }
    if (f->len >= 3 && memcmp(f->data, "\xef\xbb\xbf", 3) == 0)
        f->pos = 3; /* a byte order mark, which some editors write */
    return 0;
}

/* Settings that do not go together: the blame is on the line of one of them, or on the end of the file. */
static void file_check_whole(struct settings_file *f)
{
    const struct setting *blamed;
    const char *conflict = settings_conflict(f->settings, &blamed);

    if (!conflict)
        return;
    unsigned line = f->first_line[blamed - settings_table];
    file_fault(f, line ? line : f->line, "%s %s", blamed->name, conflict);
}

static int file_read(struct settings_file *f)
{
    int r = file_load(f);
    if (r < 0)
        return r;
    (void)ini_parse_stream(file_next_line, f, file_take, f);
    if (f->error)
        return f->error;
    if (!f->n_faults)
        file_check_whole(f);
    if (f->n_faults > SETTINGS_MAX_FAULTS)
        fprintf(f->errors, "%s: %u more faults are not shown\n", f->path, f->n_faults - SETTINGS_MAX_FAULTS);
    return f->n_faults ? -EINVAL : 0;
}

int settings_read(struct settings *s, const char *path, FILE *errors)
{
    struct settings copy;
    struct settings_file f = {.path = path, .errors = errors, .settings = &copy};
    int r = settings_copy(s, &copy);

    if (r == 0)
        r = file_read(&f);
    free(f.data);
    if (r == 0) {
        settings_deinit(s);
        *s = copy;
        return 0;
    }
    if (!f.n_faults)
        fprintf(errors, "%s: cannot be read: %s\n", path,
                r == -ENOTSUP ? "it is not a regular file" : strerror(-r));
    settings_deinit(&copy);
    return r;
}
