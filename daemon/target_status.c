/* Parsers of status and stat. Own nothing; strict in numbers, since access is decided by them. */
#include "daemon/target_status.h"

#include <errno.h>
#include <string.h>

/* A piece of text that is being read from the front. */
struct cursor {
    const char *at, *end;
};

static void cursor_skip_blanks(struct cursor *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\t'))
        c->at++;
}

static int digit_value(char ch)
{
    if (ch >= '0' && ch <= '9')
        return ch - '0';
    if (ch >= 'a' && ch <= 'f')
        return ch - 'a' + 10;
    return -1;
}

/* Blanks, then a number that ends at a blank or at the end. */
static bool cursor_number(struct cursor *c, unsigned base, uint64_t max, uint64_t *ret)
{
    uint64_t value = 0;

    cursor_skip_blanks(c);
    const char *start = c->at;
    for (; c->at < c->end; c->at++) {
        int digit = digit_value(*c->at);
        if (digit < 0 || (unsigned)digit >= base)
            break;
        if (__builtin_mul_overflow(value, base, &value) ||
            __builtin_add_overflow(value, (unsigned)digit, &value) || value > max)
            return false;
    }
    if (c->at == start || (c->at < c->end && *c->at != ' ' && *c->at != '\t'))
        return false;
    *ret = value;
    return true;
}

static bool parse_u32(struct cursor *c, uint32_t *ret)
{
    uint64_t value;
    if (!cursor_number(c, 10, UINT32_MAX, &value))
        return false;
    *ret = (uint32_t)value;
    return true;
}

static bool parse_pid(struct cursor *c, pid_t *ret)
{
    uint64_t value;
    if (!cursor_number(c, 10, INT32_MAX, &value))
        return false;
    *ret = (pid_t)value;
    return true;
}

static bool parse_ids(struct cursor *c, uint32_t ids[TARGET_N_IDS])
{
    for (size_t i = 0; i < TARGET_N_IDS; i++)
        if (!parse_u32(c, &ids[i]))
            return false;
    return true;
}

static bool parse_state(struct cursor *c, struct target_status *s)
{
    cursor_skip_blanks(c);
    s->state = c->at < c->end ? *c->at : '\0';
    return s->state != '\0';
}

static bool parse_groups(struct cursor *c, struct target_status *s)
{
    s->n_groups = 0;
    for (;;) {
        uint32_t group;
        cursor_skip_blanks(c);
        if (c->at == c->end)
            return true;
        if (!parse_u32(c, &group))
            return false;
        if (s->n_groups < TARGET_MAX_GROUPS)
            s->group[s->n_groups++] = group;
    }
}

/* The last number of the list is the one in the process's own namespace. */
static bool parse_namespace_pid(struct cursor *c, struct target_status *s)
{
    for (;;) {
        cursor_skip_blanks(c);
        if (c->at == c->end)
            return true;
        if (!parse_pid(c, &s->namespace_pid))
            return false;
    }
}

static bool parse_uids(struct cursor *c, struct target_status *s) { return parse_ids(c, s->uid); }
static bool parse_gids(struct cursor *c, struct target_status *s) { return parse_ids(c, s->gid); }
static bool parse_tgid(struct cursor *c, struct target_status *s) { return parse_pid(c, &s->tgid); }
static bool parse_own_pid(struct cursor *c, struct target_status *s) { return parse_pid(c, &s->pid); }
static bool parse_threads(struct cursor *c, struct target_status *s) { return parse_u32(c, &s->threads); }
/* "1234 kB" */
static bool parse_kib(struct cursor *c, uint64_t *ret)
{
    return cursor_number(c, 10, UINT64_MAX / 4096, ret);
}
static bool parse_exe(struct cursor *c, struct target_status *s) { return parse_kib(c, &s->exe_kib); }
static bool parse_lib(struct cursor *c, struct target_status *s) { return parse_kib(c, &s->lib_kib); }
static bool parse_permitted(struct cursor *c, struct target_status *s)
{
    return cursor_number(c, 16, UINT64_MAX, &s->cap_permitted);
}
static bool parse_effective(struct cursor *c, struct target_status *s)
{
    return cursor_number(c, 16, UINT64_MAX, &s->cap_effective);
}

static const struct status_key {
    const char *name;
    bool (*parse)(struct cursor *c, struct target_status *s);
    bool optional;
} status_keys[] = {
    {"State", parse_state, false},
    {"Tgid", parse_tgid, false},
    {"Pid", parse_own_pid, false},
    {"Uid", parse_uids, false},
    {"Gid", parse_gids, false},
    {"Groups", parse_groups, false},
    {"NStgid", parse_namespace_pid, true},
    {"Threads", parse_threads, false},
    {"VmExe", parse_exe, true},
    {"VmLib", parse_lib, true},
    {"CapPrm", parse_permitted, false},
    {"CapEff", parse_effective, false},
};
#define N_STATUS_KEYS (sizeof(status_keys) / sizeof(status_keys[0]))

/* One line without its newline. A key that was seen already is ignored: the kernel writes each once. */
static bool parse_status_line(const char *line, size_t len, struct target_status *s, uint32_t *seen)
{
    const char *colon = memchr(line, ':', len);

    if (!colon)
        return true;
    for (size_t i = 0; i < N_STATUS_KEYS; i++) {
        size_t name_len = strlen(status_keys[i].name);
        if ((size_t)(colon - line) != name_len || memcmp(line, status_keys[i].name, name_len) != 0 ||
            (*seen & 1u << i))
            continue;
        *seen |= 1u << i;
        return status_keys[i].parse(&(struct cursor){.at = colon + 1, .end = line + len}, s);
    }
    return true;
}

int target_status_parse(const char *text, size_t len, struct target_status *ret)
{
    struct target_status s = {0};
    uint32_t seen = 0;

    for (const char *line = text, *end = text + len; line < end;) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        if (!newline)
            newline = end;
        if (!parse_status_line(line, (size_t)(newline - line), &s, &seen))
            return -EBADMSG;
        line = newline < end ? newline + 1 : end;
    }
    for (size_t i = 0; i < N_STATUS_KEYS; i++)
        if (!status_keys[i].optional && !(seen & 1u << i))
            return -EBADMSG;
    *ret = s;
    return 0;
}

int target_stat_parse(const char *text, size_t len, struct target_stat *ret)
{
    const char *name_end = memrchr(text, ')', len); /* no later field has one */
    struct target_stat stat = {0};

    if (!name_end)
        return -EBADMSG;
    struct cursor c = {.at = name_end + 1, .end = text + len};
    for (unsigned field = 3; field <= 22; field++) {
        cursor_skip_blanks(&c);
        const char *start = c.at;
        while (c.at < c.end && *c.at != ' ')
            c.at++;
        uint64_t value;
        struct cursor word = {.at = start, .end = c.at};
        if (field != 9 && field != 22)
            continue;
        if (!cursor_number(&word, 10, field == 9 ? UINT32_MAX : UINT64_MAX, &value))
            return -EBADMSG;
        if (field == 9)
            stat.flags = (uint32_t)value;
        else
            stat.start_ticks = value;
    }
    *ret = stat;
    return 0;
}
