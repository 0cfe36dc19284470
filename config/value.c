/* Parsers of single values. They own nothing and know no setting: bounds and words come from the table.
 * Strict on purpose: strtoul's blanks, signs and "0x" are refused, since a value that means something else
 * than its writer thinks is worse than an error at start. */
#include "config/value.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <grp.h>
#include <math.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "config/settings.h"
#include "util/cleanup.h"

#define VALUE_MAX_HOST 253 /* RFC 1035, section 2.3.4 */

int value_refuse(struct value_error *error, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(error->text, sizeof(error->text), fmt, args);
    va_end(args);
    for (char *c = error->text; *c; c++)
        if (iscntrl((unsigned char)*c))
            *c = '?'; /* what was typed must not move the terminal's cursor */
    return -EINVAL;
}

/* All of text is digits, and it fits. */
static bool parse_digits(const char *text, uint64_t *ret)
{
    char *end;
    if (!isdigit((unsigned char)*text))
        return false;
    errno = 0;
    unsigned long long n = strtoull(text, &end, 10);
    if (errno || *end)
        return false;
    *ret = n;
    return true;
}

int value_integer(const char *text, uint64_t min, uint64_t max, uint64_t *ret, struct value_error *error)
{
    uint64_t n;
    if (!parse_digits(text, &n) || n < min || n > max)
        return value_refuse(error, "\"%.80s\" is not a whole number from %llu to %llu", text,
                            (unsigned long long)min, (unsigned long long)max);
    *ret = n;
    return 0;
}

static const struct {
    char suffix;
    unsigned shift;
} byte_units[] = {{'G', 30}, {'M', 20}, {'K', 10}};

void value_bytes_text(uint64_t bytes, char ret[32])
{
    for (size_t i = 0; i < sizeof(byte_units) / sizeof(byte_units[0]); i++) {
        if (!bytes || bytes & ((1ull << byte_units[i].shift) - 1))
            continue;
        (void)snprintf(ret, 32, "%llu%c", (unsigned long long)(bytes >> byte_units[i].shift),
                       byte_units[i].suffix);
        return;
    }
    (void)snprintf(ret, 32, "%llu", (unsigned long long)bytes);
}

static bool parse_bytes(const char *text, uint64_t *ret)
{
    char digits[24];
    size_t len = strlen(text);
    unsigned shift = 0;

    for (size_t i = 0; len && i < sizeof(byte_units) / sizeof(byte_units[0]); i++)
        if (text[len - 1] == byte_units[i].suffix)
            shift = byte_units[i].shift;
    if (shift)
        len--;
    if (len >= sizeof(digits))
        return false;
    memcpy(digits, text, len);
    digits[len] = '\0';
    uint64_t n;
    if (!parse_digits(digits, &n) || n > UINT64_MAX >> shift)
        return false;
    *ret = n << shift;
    return true;
}

int value_bytes(const char *text, uint64_t min, uint64_t max, uint64_t *ret, struct value_error *error)
{
    uint64_t n;
    if (!parse_bytes(text, &n) || n < min || n > max) {
        char least[32], most[32];
        value_bytes_text(min, least);
        value_bytes_text(max, most);
        return value_refuse(error,
                            "\"%.80s\" is not a size from %s to %s (bytes, or with a suffix K, M or G)", text,
                            least, most);
    }
    *ret = n;
    return 0;
}

int value_number(const char *text, double min, double max, double *ret, struct value_error *error)
{
    char *end;
    /* Only digits and a point: strtod also takes "inf", "nan", hexadecimal and exponents. */
    double n = strspn(text, "0123456789.") == strlen(text) ? strtod(text, &end) : NAN;
    if (isnan(n) || end == text || *end || n < min || n > max)
        return value_refuse(error, "\"%.80s\" is not a number from %g to %g", text, min, max);
    *ret = n;
    return 0;
}

int value_word(const char *text, const char *const *words, size_t n, uint32_t *ret, struct value_error *error)
{
    char known[256] = "";
    for (size_t i = 0; i < n; i++) {
        if (strcmp(text, words[i]) == 0) {
            *ret = (uint32_t)i;
            return 0;
        }
        (void)snprintf(known + strlen(known), sizeof(known) - strlen(known), "%s%s", i ? ", " : "", words[i]);
    }
    return value_refuse(error, "\"%.80s\" is not one of %s", text, known);
}

static int unix_path_check(const char *path, struct value_error *error)
{
    struct sockaddr_un sun;
    if (*path != '/')
        return value_refuse(
            error, "\"unix:%.80s\" is not an absolute path; write unix:/run/cprofd/cprofd.sock", path);
    if (strlen(path) >= sizeof(sun.sun_path))
        return value_refuse(error,
                            "the path \"%.120s\" has more than the %zu bytes that a Unix socket may have",
                            path, sizeof(sun.sun_path) - 1);
    return 0;
}

int value_listen_address(const char *text, struct value_error *error)
{
    char host[INET6_ADDRSTRLEN + 2];
    struct in6_addr in6;
    struct in_addr in;
    uint64_t port;

    if (strncmp(text, "unix:", 5) == 0)
        return unix_path_check(text + 5, error);
    const char *colon = strrchr(text, ':');
    size_t len = colon ? (size_t)(colon - text) : 0;
    if (colon && len < sizeof(host)) {
        memcpy(host, text, len);
        host[len] = '\0';
        if (!parse_digits(colon + 1, &port) || port > 65535)
            return value_refuse(
                error, "\"%.80s\" has no port from 0 to 65535 at its end; write 127.0.0.1:6060", text);
        if (inet_pton(AF_INET, host, &in) == 1)
            return 0;
        if (len > 2 && host[0] == '[' && host[len - 1] == ']') {
            host[len - 1] = '\0';
            if (inet_pton(AF_INET6, host + 1, &in6) == 1)
                return 0;
        }
    }
    return value_refuse(error,
                        "\"%.80s\" is not an address to listen on; write an IP address and a port "
                        "(127.0.0.1:6060, [::1]:6060, 0.0.0.0:6060 for all) or unix:/PATH",
                        text);
}

int value_host(const char *text, struct value_error *error)
{
    struct in6_addr in6;
    size_t len = strlen(text);
    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)text[i]) && !strchr("-._", text[i]))
            len = 0;
    if ((len && len <= VALUE_MAX_HOST) || inet_pton(AF_INET6, text, &in6) == 1)
        return 0;
    return value_refuse(
        error, "\"%.80s\" is not a host name; write it as profiler.example.org, without scheme and port",
        text);
}

int value_path(const char *text, size_t room, struct value_error *error)
{
    size_t len = strlen(text);
    if (text[0] == '/' && len < room && !strstr(text, "/../") && (len < 3 || strcmp(text + len - 3, "/..") != 0))
        return 0;
    return value_refuse(error, "\"%.80s\" is not an absolute path without \"..\", of at most %zu bytes", text, room - 1);
}

/* Blanks separate URLs where they are handed on. */
int value_url(const char *text, struct value_error *error)
{
    const char *host = strncmp(text, "https://", 8) == 0 ? text + 8 : strncmp(text, "http://", 7) == 0 ? text + 7 : "";
    bool plain = isalnum((unsigned char)host[0]) || host[0] == '[';
    for (const char *c = host; *c; c++)
        plain = plain && isgraph((unsigned char)*c) && !strchr("\"'<>\\^`{|}?#", *c);
    if (plain)
        return 0;
    return value_refuse(error, "\"%.80s\" is not the address of a server; write it as https://debuginfod.example.org", text);
}

/* (uid_t)-1 and (gid_t)-1 mean "none" to the kernel. */
static bool parse_id(const char *text, uint32_t *ret)
{
    uint64_t id;
    if (!parse_digits(text, &id) || id >= UINT32_MAX)
        return false;
    *ret = (uint32_t)id;
    return true;
}

int value_user(const char *text, uint32_t *ret_uid, struct value_error *error)
{
    const struct passwd *pw = getpwnam(text);
    if (pw)
        *ret_uid = pw->pw_uid;
    else if (!parse_id(text, ret_uid))
        return value_refuse(
            error, "there is no user \"%.80s\"; write a name that `getent passwd` lists, or a number", text);
    return 0;
}

static int value_group(const char *text, uint32_t *ret_gid, struct value_error *error)
{
    const struct group *gr = getgrnam(text);
    if (gr)
        *ret_gid = gr->gr_gid;
    else if (!parse_id(text, ret_gid))
        return value_refuse(
            error, "there is no group \"%.80s\"; write a name that `getent group` lists, or a number", text);
    return 0;
}

static int parse_grant_who(const char *word, struct settings_grant *grant, struct value_error *error)
{
    if (strcmp(word, "everyone") == 0) {
        grant->to = GRANT_TO_EVERYONE;
        return 0;
    }
    if (strncmp(word, "user:", 5) == 0) {
        grant->to = GRANT_TO_UID;
        return value_user(word + 5, &grant->to_id, error);
    }
    if (strncmp(word, "group:", 6) == 0) {
        grant->to = GRANT_TO_GID;
        return value_group(word + 6, &grant->to_id, error);
    }
    return value_refuse(
        error, "\"%.80s\" does not say who is granted; write everyone, user:NAME or group:NAME", word);
}

static int parse_grant_whom(const char *word, struct settings_grant *grant, struct value_error *error)
{
    if (strcmp(word, "any") == 0) {
        grant->target = GRANT_ANY_TARGET;
        return 0;
    }
    if (strncmp(word, "user:", 5) == 0) {
        grant->target = GRANT_TARGET_UID;
        return value_user(word + 5, &grant->target_uid, error);
    }
    return value_refuse(error, "\"%.80s\" does not say whose processes; write any or user:NAME", word);
}

int value_grant(const char *text, struct settings_grant *ret, struct value_error *error)
{
    AUTO_FREE char *copy = strdup(text);
    struct settings_grant grant = {0};
    char *rest = NULL, *word[4] = {NULL};
    int r;

    if (!copy)
        return -ENOMEM;
    word[0] = strtok_r(copy, " \t", &rest);
    for (size_t i = 1; i < 4 && word[i - 1]; i++)
        word[i] = strtok_r(NULL, " \t", &rest);
    if (!word[0] || !word[1] || word[3])
        return value_refuse(
            error, "\"%.80s\" is not WHO WHOM [kernel]; write for example: group:sre any kernel", text);
    r = parse_grant_who(word[0], &grant, error);
    if (r == 0)
        r = parse_grant_whom(word[1], &grant, error);
    if (r < 0)
        return r;
    if (word[2] && strcmp(word[2], "kernel") != 0)
        return value_refuse(error, "\"%.80s\" is not known here; write kernel, or nothing", word[2]);
    grant.kernel = word[2];
    *ret = grant;
    return 0;
}
