/* The settings: one table, every fault found and located, nothing half applied. */
#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/settings.h"
#include "config/settings_edit.h"
#include "util/cleanup.h"

static char folder[] = "/tmp/cprofd-settings-XXXXXX";
static char path[64];
static char *errors; /* of the last call */
static struct settings s;

static void setup(void)
{
    strcpy(folder + sizeof(folder) - 7, "XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(folder));
    (void)snprintf(path, sizeof(path), "%s/conf", folder);
    ck_assert_int_eq(settings_init(&s), 0);
}

static void teardown(void)
{
    settings_deinit(&s);
    settings_deinit(&s); /* twice is safe */
    free(TAKE_PTR(errors));
    (void)unlink(path);
    ck_assert_int_eq(rmdir(folder), 0);
}

static FILE *open_errors(size_t *len)
{
    free(TAKE_PTR(errors));
    FILE *f = open_memstream(&errors, len);
    ck_assert_ptr_nonnull(f);
    return f;
}

static int read_path(const char *name)
{
    size_t len;
    FILE *f = open_errors(&len);
    int r = settings_read(&s, name, f);
    fclose(f);
    return r;
}

static int read_bytes(const char *text, size_t len)
{
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(text, 1, len, f), len);
    fclose(f);
    return read_path(path);
}

static int read_text(const char *text)
{
    return read_bytes(text, strlen(text));
}

static int set(const char *name, const char *value)
{
    size_t len;
    FILE *f = open_errors(&len);
    int r = settings_set(&s, name, value, f);
    fclose(f);
    return r;
}

/* The fault, at its line, is among the errors. */
static void assert_fault(unsigned line, const char *what)
{
    char prefix[96];
    (void)snprintf(prefix, sizeof(prefix), "%s:%u: ", path, line);
    const char *at = strstr(errors, prefix);
    ck_assert_msg(at, "no fault at line %u in: %s", line, errors);
    const char *found = strstr(at, what);
    ck_assert_msg(found && found < strchrnul(at, '\n'), "line %u does not say \"%s\": %s", line, what,
                  errors);
}

static unsigned count_faults(void)
{
    unsigned n = 0;
    for (const char *c = errors; (c = strchr(c, '\n')); c++)
        n++;
    return n;
}

START_TEST(test_defaults)
{
    ck_assert_uint_eq(s.listen.n, 1);
    ck_assert_str_eq(s.listen.item[0], "127.0.0.1:6060");
    ck_assert_uint_eq(s.hosts.n + s.proxy_uids.n + s.n_grants, 0);
    ck_assert_uint_eq(s.debuginfod_urls.n, 0); /* nothing leaves the machine unasked */
    ck_assert_str_eq(s.debuginfod_cache, "/var/cache/cprofd");
    ck_assert_uint_eq(s.max_hz, 10000);
    ck_assert_uint_eq(s.max_sessions, 64);
    ck_assert_uint_eq(s.max_sessions_target, 16);
    ck_assert_uint_eq(s.max_sessions_asker, 16);
    ck_assert_uint_eq(s.max_rate_hz, 20000);
    ck_assert_uint_eq(s.max_rate_asker_hz, 10000);
    ck_assert_uint_eq(s.log_level, 2);
    ck_assert_uint_eq(s.workers, 0);
    ck_assert_uint_eq(s.worker_memory_bytes, 4ull << 30);
    ck_assert_uint_eq(s.worker_cache_bytes, 256ull << 20);
    ck_assert(s.worker_timeout_seconds == 30);
    ck_assert_int_eq(settings_check(&s, stderr), 0);
}
END_TEST

START_TEST(test_every_setting)
{
    ck_assert_int_eq(read_text("# a comment\n"
                               "[http]\n"
                               "listen = 0.0.0.0:80\n"
                               "  listen = [::1]:0\r\n"
                               "\tlisten = unix:/run/cprofd.sock\n"
                               "hosts = profiler.example.org\n"
                               "proxy = root\n"
                               "proxy = 4242\n"
                               "\n"
                               "[access] ; who\n"
                               "grant = everyone user:root\n"
                               "grant = user:root any kernel\n"
                               "grant =   group:root \t user:77   \n"
                               "[limits]\n"
                               "max-hz=1 ; one\n"
                               "max-sessions = 2\n"
                               "max-sessions-target = 3\n"
                               "max-sessions-asker = 4\n"
                               "max-rate-hz = 5\n"
                               "max-rate-asker-hz = 6\n"
                               "max-overhead = 2.5\n"
                               "[workers]\n"
                               "workers = 7\n"
                               "worker-memory = 1G\n"
                               "worker-cache = 2048K\n"
                               "worker-timeout = 0.5\n"
                               "[log]\n"
                               "log-level = debug"),
                     0);
    ck_assert_str_eq(errors, "");
    ck_assert_uint_eq(s.listen.n, 3);
    ck_assert_str_eq(s.listen.item[0], "0.0.0.0:80");
    ck_assert_str_eq(s.listen.item[1], "[::1]:0");
    ck_assert_str_eq(s.listen.item[2], "unix:/run/cprofd.sock");
    ck_assert_str_eq(s.hosts.item[0], "profiler.example.org");
    ck_assert(settings_is_proxy(&s, 0) && settings_is_proxy(&s, 4242) && !settings_is_proxy(&s, 424));
    ck_assert_uint_eq(s.n_grants, 3);
    ck_assert(s.grant[0].to == GRANT_TO_EVERYONE && s.grant[0].target == GRANT_TARGET_UID &&
              s.grant[0].target_uid == 0 && !s.grant[0].kernel);
    ck_assert(s.grant[1].to == GRANT_TO_UID && s.grant[1].to_id == 0 &&
              s.grant[1].target == GRANT_ANY_TARGET && s.grant[1].kernel);
    ck_assert(s.grant[2].to == GRANT_TO_GID && s.grant[2].to_id == 0 && s.grant[2].target_uid == 77);
    ck_assert_uint_eq(s.max_hz, 1);
    ck_assert_uint_eq(s.max_sessions, 2);
    ck_assert_uint_eq(s.max_sessions_target, 3);
    ck_assert_uint_eq(s.max_sessions_asker, 4);
    ck_assert_uint_eq(s.max_rate_hz, 5);
    ck_assert_uint_eq(s.max_rate_asker_hz, 6);
    ck_assert(s.max_overhead == 2.5);
    ck_assert_uint_eq(s.workers, 7);
    ck_assert_uint_eq(s.worker_memory_bytes, 1ull << 30);
    ck_assert_uint_eq(s.worker_cache_bytes, 2ull << 20);
    ck_assert(s.worker_timeout_seconds == 0.5);
    ck_assert_uint_eq(s.log_level, 3);
}
END_TEST

/* What each setting refuses, in a file and as a switch alike, and what the message must help with. */
static const struct {
    const char *name, *value, *help;
} wrong_values[] = {
    {"listen", "", "not an address to listen on"},
    {"listen", "6060", "write an IP address and a port"},
    {"listen", ":6060", "0.0.0.0:6060 for all"},
    {"listen", "localhost:6060", "127.0.0.1:6060"},
    {"listen", "1.2.3:6060", "not an address"},
    {"listen", "127.0.0.1", "not an address"},
    {"listen", "127.0.0.1:", "no port from 0 to 65535"},
    {"listen", "127.0.0.1:65536", "no port from 0 to 65535"},
    {"listen", "127.0.0.1:-1", "no port"},
    {"listen", "127.0.0.1:0x50", "no port"},
    {"listen", "::1:6060", "[::1]:6060"},
    {"listen", "[::g]:6060", "not an address"},
    {"listen", "[127.0.0.1]:6060", "not an address"},
    {"listen", "[]:6060", "not an address"},
    {"listen", "http://127.0.0.1:6060", "not an address"},
    {"listen", "unix:", "not an absolute path"},
    {"listen", "unix:run/x", "not an absolute path"},
    {"listen",
     "unix:/0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456"
     "789",
     ""},
    {"listen",
     "unix:/"
     "01234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567"
     "8901234567",
     "107 bytes"},
    {"hosts", "", "not a host name"},
    {"hosts", "http://x", "without scheme and port"},
    {"hosts", "x:80", "without scheme and port"},
    {"hosts", "a b", "not a host name"},
    {"proxy", "no-such-user-here", "there is no user"},
    {"proxy", "4294967295", "there is no user"},
    {"proxy", "-1", "there is no user"},
    {"grant", "", "WHO WHOM [kernel]"},
    {"grant", "everyone", "WHO WHOM [kernel]"},
    {"grant", "everyone any kernel too", "WHO WHOM [kernel]"},
    {"grant", "everyone any everything", "write kernel, or nothing"},
    {"grant", "somebody any", "everyone, user:NAME or group:NAME"},
    {"grant", "user:no-such-user-here any", "there is no user \"no-such-user-here\""},
    {"grant", "group:no-such-group-here any", "there is no group \"no-such-group-here\""},
    {"grant", "user: any", "there is no user"},
    {"grant", "everyone group:root", "write any or user:NAME"},
    {"grant", "everyone user:no-such-user-here", "there is no user"},
    {"max-hz", "", "whole number from 1 to 10000"},
    {"max-hz", "0", "whole number from 1 to 10000"},
    {"max-hz", "10001", "from 1 to 10000"},
    {"max-hz", "1e3", "whole number"},
    {"max-hz", "0x10", "whole number"},
    {"max-hz", "+5", "whole number"},
    {"max-hz", "-5", "whole number"},
    {"max-hz", "5.5", "whole number"},
    {"max-hz", "99999999999999999999999", "from 1 to 10000"},
    {"max-sessions", "0", "from 1 to 64"},
    {"max-sessions", "65", "from 1 to 64"},
    {"max-sessions-target", "65", "from 1 to 64"},
    {"max-sessions-asker", "many", "from 1 to 64"},
    {"max-rate-hz", "640001", "from 1 to 640000"},
    {"max-rate-asker-hz", "0", "from 1 to 640000"},
    {"max-overhead", "0", "0.001"},
    {"workers", "257", "from 0 to 256"},
    {"worker-memory", "", "K, M or G"},
    {"worker-memory", "G", "K, M or G"},
    {"worker-memory", "1T", "from 256M to 1024G"},
    {"worker-memory", "1g", "K, M or G"},
    {"worker-memory", "255M", "from 256M to 1024G"},
    {"worker-memory", "17179869185G", "from 256M"},
    {"worker-memory", "10000000000000000000000000000000G", "from 256M"},
    {"worker-cache", "1023K", "from 1M to 1024G"},
    {"worker-cache", "1.5G", "K, M or G"},
    {"table-memory", "5G", "from 4M to 4G"},
    {"worker-timeout", "", "number from 0.1 to 3600"},
    {"worker-timeout", "0.09", "number from 0.1 to 3600"},
    {"worker-timeout", "3600.1", "number from 0.1 to 3600"},
    {"watch", "nginx block", "does not say whom to watch"},
    {"debuginfod-urls", "", "not the address of a server"},
    {"debuginfod-urls", "debuginfod.example.org", "https://"},
    {"debuginfod-urls", "file:///srv", "https://"},
    {"debuginfod-urls", "https://", "https://"},
    {"debuginfod-urls", "https://a b", "https://"},
    {"debuginfod-urls", "https://a/?x=1", "https://"},
    {"debuginfod-urls", "https:///x", "https://"},
    {"debuginfod-cache", "", "not an absolute path"},
    {"debuginfod-cache", "cache", "not an absolute path"},
    {"debuginfod-cache", "/var/../etc", "not an absolute path"},
    {"debuginfod-cache", "/var/..", "not an absolute path"},
    {"debuginfod-wait", "4.1", "number from 0 to 4"},
    {"debuginfod-timeout", "0.5", "number from 1 to 3600"},
    {"debuginfod-file-size", "1023K", "from 1M to 64G"},
    {"debuginfod-cache-size", "1", "from 1M to 16384G"},
    {"worker-timeout", "inf", "number"},
    {"worker-timeout", "nan", "number"},
    {"worker-timeout", "1e1", "number"},
    {"worker-timeout", "1.2.3", "number"},
    {"worker-timeout", ".", "number"},
    {"worker-timeout", "30s", "number"},
    {"log-level", "", "error, warning, info, debug"},
    {"log-level", "INFO", "error, warning, info, debug"},
    {"log-level", "2", "error, warning, info, debug"},
};

START_TEST(test_wrong_value)
{
    const char *name = wrong_values[_i].name, *value = wrong_values[_i].value, *help = wrong_values[_i].help;
    AUTO_FREE char *text = NULL;

    if (!*help) { /* the longest value that is right */
        ck_assert_int_eq(set(name, value), 0);
        return;
    }
    ck_assert_int_eq(set(name, value), -EINVAL);
    ck_assert_ptr_nonnull(strstr(errors, name));
    ck_assert_msg(strstr(errors, help), "%s", errors);
    ck_assert_uint_eq(s.by_switch, 0);
    ck_assert_int_ge(asprintf(&text, "[%s]\n%s = %s\n", setting_find(name)->section, name, value), 0);
    ck_assert_int_eq(read_text(text), -EINVAL);
    assert_fault(2, name);
    assert_fault(2, help);
    ck_assert_uint_eq(count_faults(), 1);
}
END_TEST

/* No setting is left out of the table above. */
START_TEST(test_every_setting_has_a_wrong_value)
{
    for (size_t i = 0; settings_name(i); i++) {
        bool found = false;
        for (size_t k = 0; k < sizeof(wrong_values) / sizeof(wrong_values[0]); k++)
            found = found || strcmp(wrong_values[k].name, settings_name(i)) == 0;
        ck_assert_msg(found, "%s", settings_name(i));
    }
}
END_TEST

START_TEST(test_all_faults_at_once_and_nothing_applied)
{
    ck_assert_int_eq(read_text("max-hz = 5\n" /* 1: before any section */
                               "[limits]\n"
                               "max-sessions = 3\n"     /* right, and yet not applied */
                               "max-hz = none\n"        /* 4 */
                               "max-hertz = 5\n"        /* 5 */
                               "listen = 127.0.0.1:1\n" /* 6: another section's */
                               "max-sessions = 4\n"     /* 7: again */
                               "just words\n"           /* 8 */
                               "[nowhere]\n"            /* 9 */
                               "x = y\n"                /* 10 */
                               "[http\n"                /* 11 */
                               "[http] listen = x\n"    /* 12 */
                               "listen = 127.0.0.1:7\n"
                               "listen = 127.0.0.1:7\n"), /* 14: twice the same */
                     -EINVAL);
    assert_fault(1, "belongs in the section [limits]");
    assert_fault(4, "\"none\" is not a whole number");
    assert_fault(5, "\"max-hertz\" is not a setting; [limits] has max-hz, max-sessions");
    assert_fault(6, "listen belongs in the section [http]");
    assert_fault(7, "max-sessions is set a second time; keep this line or line 3");
    assert_fault(8, "write NAME = VALUE");
    assert_fault(9, "[nowhere] is not a section; there are [http], [access]");
    assert_fault(10, "\"x\" is not a setting; see cprofd.conf(5)");
    assert_fault(11, "is not a section");
    assert_fault(12, "nothing behind them");
    assert_fault(14, "stands here twice");
    ck_assert_uint_eq(count_faults(), 11);
    ck_assert_uint_eq(s.max_sessions, 64);
    ck_assert_str_eq(s.listen.item[0], "127.0.0.1:6060");
}
END_TEST

START_TEST(test_last_line_without_newline)
{
    ck_assert_int_eq(read_text("[log]\nnonsense"), -EINVAL);
    assert_fault(2, "write NAME = VALUE");
}
END_TEST

START_TEST(test_rubbish)
{
    static const char nul[] = "[log]\nlog-level = debug\0\nlog-level = err\033or\n";
    ck_assert_int_eq(read_bytes(nul, sizeof(nul) - 1), -EINVAL);
    assert_fault(2, "the byte 0x00 at column 18 is no text");
    assert_fault(3, "the byte 0x1b at column 16 is no text");
    ck_assert_ptr_null(strchr(errors, '\033'));
    ck_assert_int_eq(read_bytes("\177ELF\002\001\001", 7), -EINVAL);
    assert_fault(1, "0x7f");
    ck_assert_int_eq(set("log-level", "\033[2J"), -EINVAL);
    ck_assert_ptr_null(strchr(errors, '\033'));
}
END_TEST

START_TEST(test_long_lines)
{
    char text[4096] = "[http]\n# ";
    memset(text + strlen(text), 'x', 3000);
    strcat(text, "\nhosts = ");
    memset(text + strlen(text), 'y', 300);
    strcat(text, "\nhosts = z\n");
    ck_assert_int_eq(read_text(text), -EINVAL);
    assert_fault(2, "the line has 3002 bytes; at most 198 are possible");
    assert_fault(3, "the line has 308 bytes");
    ck_assert_uint_eq(count_faults(), 2);
    (void)snprintf(text, sizeof(text), "[http]\n#%197s\nhosts = z\n", "");
    ck_assert_int_eq(read_text(text), 0);
    ck_assert_str_eq(s.hosts.item[0], "z");
}
END_TEST

START_TEST(test_many_faults_are_capped)
{
    char text[1024] = "[log]\n";
    for (int i = 0; i < 60; i++)
        strcat(text, "nonsense\n");
    ck_assert_int_eq(read_text(text), -EINVAL);
    ck_assert_uint_eq(count_faults(), 51);
    ck_assert_ptr_nonnull(strstr(errors, "conf: 10 more faults are not shown\n"));
}
END_TEST

START_TEST(test_byte_order_mark_and_foreign_comments)
{
    ck_assert_int_eq(
        read_text("\xef\xbb\xbf[log]\r\n\r\n; \xe4 Latin-1\r\n[log] ; again\r\nlog-level = error\r\n"), 0);
    ck_assert_uint_eq(s.log_level, 0);
    ck_assert_int_eq(read_text(""), 0);
    ck_assert_uint_eq(s.log_level, 0);
}
END_TEST

START_TEST(test_unreadable)
{
    ck_assert_int_eq(read_path(path), -ENOENT);
    ck_assert_ptr_nonnull(strstr(errors, "conf: cannot be read: No such file"));
    ck_assert_int_eq(read_path(folder), -EISDIR);
    ck_assert_ptr_nonnull(strstr(errors, "Is a directory"));
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    ck_assert_int_eq(read_path(path), -ENOTSUP); /* and does not wait for a writer */
    ck_assert_ptr_nonnull(strstr(errors, "not a regular file"));
    ck_assert_int_eq(unlink(path), 0);
    AUTO_FREE char *big = malloc((1u << 20) + 1);
    memset(big, '\n', (1u << 20) + 1);
    ck_assert_int_eq(read_bytes(big, (1u << 20) + 1), -EFBIG);
    ck_assert_int_eq(read_bytes(big, 1u << 20), 0);
}
END_TEST

START_TEST(test_conflict)
{
    size_t len;
    ck_assert_int_eq(read_text("[workers]\nworker-memory = 512M\nworker-cache = 257M\n"), -EINVAL);
    assert_fault(3, "worker-cache is more than half of worker-memory");
    ck_assert_int_eq(read_text("[workers]\nworker-memory = 511M\n"), -EINVAL);
    assert_fault(2, "worker-cache is more than half of worker-memory");
    ck_assert_int_eq(read_text("[workers]\nworker-cache = 257M\nworker-memory = 514M\n"), 0);
    ck_assert_int_eq(set("worker-cache", "258M"), 0); /* switches come one by one: checked at their end */
    FILE *f = open_errors(&len);
    ck_assert_int_eq(settings_check(&s, f), -EINVAL);
    fclose(f);
    ck_assert_ptr_nonnull(strstr(errors, "raise worker-memory"));
}
END_TEST

START_TEST(test_lists_of_file_and_switches)
{
    ck_assert_int_eq(
        read_text("[http]\nlisten = 127.0.0.1:1\nlisten = 127.0.0.1:2\n[access]\ngrant = everyone any\n"), 0);
    ck_assert_uint_eq(s.listen.n, 2); /* in place of the default */
    ck_assert_int_eq(read_text("[http]\nlisten = 127.0.0.1:3\n"), 0);
    ck_assert_uint_eq(s.listen.n, 1);
    ck_assert_uint_eq(s.n_grants, 1); /* a list that the file does not name stays */
    ck_assert_int_eq(set("listen", "[::]:4"), 0);
    ck_assert_int_eq(set("listen", "[::]:5"), 0);
    ck_assert_int_eq(set("listen", "[::]:5"), -EINVAL);
    ck_assert_uint_eq(s.listen.n, 2);
    ck_assert_str_eq(s.listen.item[0], "[::]:4");
    ck_assert_int_eq(set("grant", "user:5 any"), 0);
    ck_assert_int_eq(set("grant", "user:6 any"), 0);
    ck_assert_int_eq(set("grant", "user:6 any"), -EINVAL);
    ck_assert_uint_eq(s.n_grants, 2);
    ck_assert_uint_eq(s.grant[1].to_id, 6);
    ck_assert_int_eq(set("hosts", "a"), 0);
    ck_assert_int_eq(set("hosts", "::1"), 0);
    ck_assert_int_eq(set("max-hz", "7"), 0);
    ck_assert_int_eq(set("max-hz", "8"), 0); /* the last one counts, as with any switch */
    ck_assert_uint_eq(s.max_hz, 8);
    ck_assert_int_eq(set("max_hz", "8"), -EINVAL);
    ck_assert_ptr_nonnull(strstr(errors, "--max_hz: there is no such setting"));
}
END_TEST

START_TEST(test_lists_have_an_end)
{
    char value[32];
    for (int i = 0; i < SETTINGS_MAX_LIST; i++) {
        (void)snprintf(value, sizeof(value), "host%d", i);
        ck_assert_int_eq(set("hosts", value), 0);
        (void)snprintf(value, sizeof(value), "user:%d any", 1000 + i);
        ck_assert_int_eq(set("grant", value), 0);
    }
    ck_assert_int_eq(set("hosts", "more"), -EINVAL);
    ck_assert_ptr_nonnull(strstr(errors, "at most 32 are possible"));
    ck_assert_int_eq(set("grant", "everyone any"), -EINVAL);
    ck_assert_ptr_nonnull(strstr(errors, "at most 32 are possible"));
}
END_TEST

START_TEST(test_help_names_all)
{
    size_t len, i = 0;
    FILE *f = open_errors(&len);
    settings_print_help(f);
    fclose(f);
    for (; settings_name(i); i++) {
        char name[64];
        (void)snprintf(name, sizeof(name), "  --%s ", settings_name(i));
        ck_assert_msg(strstr(errors, name), "%s", name);
    }
    ck_assert_uint_eq(i, n_settings);
    ck_assert_ptr_nonnull(strstr(errors, "(default 127.0.0.1:6060); may be given more than once"));
}
END_TEST

/* Each section of the table is declared, and each declared one is used. */
START_TEST(test_watch_rules)
{
    ck_assert_int_eq(read_text("[watch]\nwatch = unit:a.service block,mutex block_rate=7\nwatch = name:b block\n"), 0);
    ck_assert_uint_eq(s.watch.n, 2);
    ck_assert_str_eq(s.watch.item[0], "unit:a.service block,mutex block_rate=7");
    ck_assert_int_eq(read_text("[watch]\nwatch = name:b\nwatch = b block\nwatch = name:b block x\n"), -EINVAL);
    assert_fault(2, "is not WHOM KINDS");
    assert_fault(3, "does not say whom to watch");
    assert_fault(4, "is not NAME=VALUE");
    ck_assert_uint_eq(count_faults(), 3);
    ck_assert_uint_eq(s.watch.n, 2);
}
END_TEST

START_TEST(test_sections)
{
    for (size_t i = 0; i < n_settings; i++) {
        bool known = false;
        for (size_t k = 0; k < n_setting_sections; k++)
            known = known || strcmp(setting_sections[k].name, settings_table[i].section) == 0;
        ck_assert_msg(known, "%s", settings_table[i].name);
    }
    for (size_t k = 0; k < n_setting_sections; k++) {
        bool used = false;
        for (size_t i = 0; i < n_settings; i++)
            used = used || strcmp(setting_sections[k].name, settings_table[i].section) == 0;
        ck_assert_msg(used, "%s", setting_sections[k].name);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("settings");
    TCase *tc = tcase_create("settings");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, test_watch_rules);
    tcase_add_test(tc, test_defaults);
    tcase_add_test(tc, test_every_setting);
    tcase_add_loop_test(tc, test_wrong_value, 0, sizeof(wrong_values) / sizeof(wrong_values[0]));
    tcase_add_test(tc, test_every_setting_has_a_wrong_value);
    tcase_add_test(tc, test_all_faults_at_once_and_nothing_applied);
    tcase_add_test(tc, test_last_line_without_newline);
    tcase_add_test(tc, test_rubbish);
    tcase_add_test(tc, test_long_lines);
    tcase_add_test(tc, test_many_faults_are_capped);
    tcase_add_test(tc, test_byte_order_mark_and_foreign_comments);
    tcase_add_test(tc, test_unreadable);
    tcase_add_test(tc, test_conflict);
    tcase_add_test(tc, test_lists_of_file_and_switches);
    tcase_add_test(tc, test_lists_have_an_end);
    tcase_add_test(tc, test_help_names_all);
    tcase_add_test(tc, test_sections);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
