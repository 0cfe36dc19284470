/* The table of settings: data alone, so that the generator of the manuals can be built from it for the
 * machine that builds, whatever machine the daemon is built for.
 *
 * To add a setting: a field in struct settings, and one row here, in the order in which the manuals shall
 * show it. A row of a new type needs its functions in settings.c (setting_types). File, switch, --help,
 * bounds, errors, cprofd(8) and cprofd.conf(5) then follow; nothing else names a setting. The example,
 * cprofd.conf, is kept in the source tree for its readers: a test says when it must be made anew. */
#include "config/setting.h"

const struct setting_section setting_sections[] = {
    {"http", "Where the daemon listens, and to whom it speaks"},
    {"access", "Who may profile whom, beyond the kernel's own rule"},
    {"limits", "What sessions may cost"},
    {"watch", "Which processes are watched from the start"},
    {"workers", "The sandboxed processes that read symbols"},
    {"debuginfod", "Servers to fetch debug files from"},
    {"log", "What is logged"},
};
const size_t n_setting_sections = sizeof(setting_sections) / sizeof(setting_sections[0]);

static const char *const log_levels[] = {"error", "warning", "info", "debug"}; /* as in struct settings */

#define AT(field) .offset = offsetof(struct settings, field)

const struct setting settings_table[] = {
    {.name = "listen", .section = "http", .type = SETTING_ADDRESSES, AT(listen),
     .value = "ADDR:PORT|unix:PATH", .fallback = "127.0.0.1:6060", .example = "unix:/run/cprofd/cprofd.sock",
     .brief = "where to listen",
     .manual = "An address to listen on: an IPv4 address and port, an IPv6 address in brackets and port, or "
               "unix: and the absolute path of a socket, which for the installed service must be in "
               "/run/cprofd. Port 0 takes any free port, which the log names. Askers who do not come from "
               "this machine have no user: they get only what is granted to everyone. Sockets passed by "
               "the service manager take the place of this setting."},
    {.name = "hosts", .section = "http", .type = SETTING_HOSTS, AT(hosts),
     .value = "NAME", .example = "profiler.example.org",
     .brief = "a further Host name that requests may carry",
     .manual = "A name that requests may carry in their Host header, besides IP addresses, localhost and "
               "the machine's own name. Others are refused, so that a web page cannot reach the daemon "
               "by a name that its owner points at this machine."},
    {.name = "proxy", .section = "http", .type = SETTING_USERS, AT(proxy_uids),
     .value = "USER", .example = "www-data",
     .brief = "the user (name or number) of a reverse proxy on this machine",
     .manual = "The user (name or number) as whom a reverse proxy runs on this machine. What comes "
               "through it has no user of its own, and gets only what is granted to everyone. Without "
               "this setting, requests with the headers Forwarded, X-Forwarded-* or Via are refused."},

    {.name = "grant", .section = "access", .type = SETTING_GRANTS, AT(grant),
     .value = "WHO WHOM [kernel]", .example = "group:adm any kernel",
     .brief = "let WHO (everyone, user:NAME, group:NAME) profile WHOM (any, user:NAME)",
     .manual = "Lets WHO (everyone, user:NAME or group:NAME) profile the processes of WHOM (any, or "
               "user:NAME), even where the kernel would not let them trace those. The word kernel at the "
               "end grants kernel frames and kernel-only events as well. Names may be numbers. A group "
               "is compared with the group of the asker's process on a Unix socket, and with the user's "
               "primary group on TCP."},

    {.name = "max-hz", .section = "limits", .type = SETTING_INTEGER, AT(max_hz), .min = 1, .max = 10000,
     .value = "N", .fallback = "10000",
     .brief = "the highest sampling rate of one session",
     .manual = "The highest sampling rate of one session, in samples per second of CPU time. A higher "
               "one that is asked for is lowered to it, and the profile says so."},
    {.name = "max-sessions", .section = "limits", .type = SETTING_INTEGER, AT(max_sessions),
     .min = 1, .max = 64, .value = "N", .fallback = "64",
     .brief = "sessions at one time",
     .manual = "How many sessions may run at one time. Root is not refused because of others."},
    {.name = "max-sessions-target", .section = "limits", .type = SETTING_INTEGER, AT(max_sessions_target),
     .min = 1, .max = 64, .value = "N", .fallback = "16",
     .brief = "sessions on one process at one time",
     .manual = "How many sessions may run on one process at one time."},
    {.name = "max-sessions-asker", .section = "limits", .type = SETTING_INTEGER, AT(max_sessions_asker),
     .min = 1, .max = 64, .value = "N", .fallback = "16",
     .brief = "sessions of one user at one time",
     .manual = "How many sessions one user may run at one time. All askers without a user count as one."},
    {.name = "max-rate-hz", .section = "limits", .type = SETTING_INTEGER, AT(max_rate_hz),
     .min = 1, .max = 640000, .value = "N", .fallback = "20000",
     .brief = "the sampling rates of all sessions together",
     .manual = "The sum of the sampling rates of all sessions. Every sample costs the process that is "
               "running on its CPU some microseconds, whether that is the one profiled or not."},
    {.name = "max-rate-asker-hz", .section = "limits", .type = SETTING_INTEGER, AT(max_rate_asker_hz),
     .min = 1, .max = 640000, .value = "N", .fallback = "10000",
     .brief = "the sampling rates of one user's sessions together",
     .manual = "The sum of the sampling rates of one user's sessions."},

    {.name = "max-overhead", .section = "limits", .type = SETTING_NUMBER, AT(max_overhead),
     .min = 0.001, .max = 1000000, .value = "PERCENT", .fallback = "5",
     .brief = "what sampling may take of a process's CPU time",
     .manual = "What taking samples may cost a process, in per cent of the CPU time that it uses. Every session "
               "measures its own time in the kernel; above this, fewer samples are taken, each with the "
               "weight of those left out, or the session ends, and the profile says so. A query's "
               "max_overhead takes its place."},

    {.name = "watch", .section = "watch", .type = SETTING_WATCHES, AT(watch),
     .value = "WHOM KINDS [NAME=VALUE ...]", .example = "unit:nginx.service threadcreate",
     .brief = "watch processes (name:NAME, unit:NAME, cgroup:/PATH) for kinds of profiles that accrue",
     .manual = "Watches processes for kinds of profiles that accrue (with commas between), as PUT /pid/N/watch does, without anybody's "
               "asking for it. WHOM is name: and a process's name as ps -o comm has it, which any user can take; unit: and the "
               "name of a unit of the system's service manager; or cgroup: and the path of a control group, "
               "with all below it. Parameters such as max_overhead=2 follow. New processes are found within five seconds: as "
               "long as there is a rule, a process of the daemon's reads the names of all processes so often, which takes about "
               "15 microseconds of CPU time for each of them. A profile that programs declare, or that add= and remove= make of "
               "functions under a name, is named as a kind is. Where several rules fit a process, the first one counts for each kind. "
               "At most 32 kinds of processes are watched by rules at one time, and what is beyond that is logged. "
               "Reloading ends the watches whose rule is gone. Only root can change or end what a rule watches."},

    {.name = "workers", .section = "workers", .type = SETTING_INTEGER, AT(workers), .min = 0, .max = 256,
     .value = "N", .fallback = "0",
     .brief = "the most symbolizing processes; 0: one for each core",
     .manual = "How many worker processes may run; 0 is one for each core. They are started when they "
               "are needed, and kept."},
    {.name = "worker-memory", .section = "workers", .type = SETTING_BYTES, AT(worker_memory_bytes),
     .min = 0x1p28, .max = 0x1p40, .value = "SIZE", .fallback = "4G",
     .brief = "address space of one worker (suffix K, M or G)",
     .manual = "The address space that one worker may use, with a suffix K, M or G. A worker maps the "
               "files that it reads, so this must exceed the largest binary and its debug information. "
               "What finds no room is done without, and the profile names the file."},
    {.name = "worker-cache", .section = "workers", .type = SETTING_BYTES, AT(worker_cache_bytes),
     .min = 0x1p20, .max = 0x1p40, .value = "SIZE", .fallback = "256M",
     .brief = "symbol cache of one worker (suffix K, M or G)",
     .manual = "What one worker keeps of symbols between requests, with a suffix K, M or G. At most half "
               "of worker-memory. Where a program's debug information is larger, what it answered is kept."},
    {.name = "table-memory", .section = "workers", .type = SETTING_BYTES, AT(table_memory_bytes),
     .min = 0x1p22, .max = 0x1p32, .value = "SIZE", .fallback = "256M",
     .brief = "unwinding tables of all processes that are profiled (suffix K, M or G)",
     .manual = "How much memory unwinding tables may take, with a suffix K, M or G. Each file that a profiled "
               "process maps has one, which is made once and kept for some minutes after the last profile "
               "that used it; when room is short, those that were not used for the longest time go first. "
               "Once the tables of one process take a quarter of it, no further file is read for that process. "
               "Code whose table finds no room is unwound by guesses, and the profile says so."},
    {.name = "worker-timeout", .section = "workers", .type = SETTING_NUMBER, AT(worker_timeout_seconds),
     .min = 0.1, .max = 3600, .value = "SECONDS", .fallback = "30",
     .brief = "how long a worker may take for one profile",
     .manual = "How long a worker may take for one profile, in seconds. After that it is ended, and the "
               "profile is made without the file that it was reading. Replies don't wait for that: they "
               "leave in time with what is known, and workers read on behind them."},

    {.name = "debuginfod-urls", .section = "debuginfod", .type = SETTING_URLS, AT(debuginfod_urls),
     .value = "URL", .example = "https://debuginfod.debian.net",
     .brief = "a debuginfod server to fetch debug files from; without any, nothing is fetched",
     .manual = "The address of a debuginfod server. Where a profiled file has no debug information on this machine, "
               "the servers are asked for it in this order, by build ID. They thereby learn the build IDs of what runs here and is "
               "profiled. Without this setting nothing is fetched, whatever the environment says. cprofd(8) tells what the installed "
               "service needs."},
    {.name = "debuginfod-cache", .section = "debuginfod", .type = SETTING_PATH, AT(debuginfod_cache),
     .value = "DIR", .fallback = "/var/cache/cprofd",
     .brief = "the folder that keeps what was fetched",
     .manual = "The folder that keeps what was fetched. It is created if only its last part is missing. Where the "
               "daemon runs as root, what fetches runs as the folder's owner, who must not be root."},
    {.name = "debuginfod-wait", .section = "debuginfod", .type = SETTING_NUMBER, AT(debuginfod_wait_seconds),
     .min = 0, .max = 4, .value = "SECONDS", .fallback = "1",
     .brief = "how long one reply waits in all for files to be fetched",
     .manual = "How long one reply waits for files to be fetched, in seconds, all its files together. What has not "
               "come by then is fetched all the same, for the next one; the profile names the files that it did without."},
    {.name = "debuginfod-timeout", .section = "debuginfod", .type = SETTING_NUMBER, AT(debuginfod_timeout_seconds),
     .min = 1, .max = 3600, .value = "SECONDS", .fallback = "90",
     .brief = "how long it may take to fetch one file",
     .manual = "How long it may take to fetch one file, in seconds. A server that does not answer, or not in this time, "
               "is not asked for half a minute, then for twice as long, and at most for ten minutes."},
    {.name = "debuginfod-file-size", .section = "debuginfod", .type = SETTING_BYTES, AT(debuginfod_file_bytes),
     .min = 0x1p20, .max = 0x1p36, .value = "SIZE", .fallback = "1G",
     .brief = "the largest file that is fetched (suffix K, M or G)",
     .manual = "The largest file that is fetched, with a suffix K, M or G."},
    {.name = "debuginfod-cache-size", .section = "debuginfod", .type = SETTING_BYTES, AT(debuginfod_cache_bytes),
     .min = 0x1p20, .max = 0x1p44, .value = "SIZE", .fallback = "4G",
     .brief = "what the folder may hold (suffix K, M or G)",
     .manual = "What the folder may hold beside what is just being fetched, with a suffix K, M or G. The files that "
               "were not used for the longest time go first."},

    {.name = "log-level", .section = "log", .type = SETTING_WORD, AT(log_level), .words = log_levels,
     .n_words = sizeof(log_levels) / sizeof(log_levels[0]), .value = "LEVEL", .fallback = "info",
     .brief = "error, warning, info or debug",
     .manual = "What is logged: error, warning, info or debug, each with all before it. The audit line "
               "of each session is info."},
};
const size_t n_settings = sizeof(settings_table) / sizeof(settings_table[0]);
_Static_assert(sizeof(settings_table) / sizeof(settings_table[0]) <= SETTINGS_MAX, "see setting.h");
