/* Which server is asked next, and which is left alone for now. One that fails is not asked for a while, twice as long each time, so that
 * a dead one costs a reply nothing; each of these times is one line in the log. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/debuginfod_impl.h"
#include "daemon/log.h"
#include "util/clock.h"

#define SERVER_PAUSE_NS (30 * NSEC_PER_SEC)
#define SERVER_MAX_PAUSE_NS (600 * NSEC_PER_SEC)
#define SERVER_MAX_DOUBLINGS 8

int servers_init(struct debuginfod *d, const struct settings_list *urls)
{
    _Static_assert(SETTINGS_MAX_LIST <= DEBUGINFOD_MAX_SERVERS, "a list of settings holds no more");

    for (; d->n_servers < urls->n; d->n_servers++) {
        d->servers[d->n_servers] = (struct debug_server){.url = strdup(urls->item[d->n_servers])};
        if (!d->servers[d->n_servers].url)
            return -ENOMEM;
    }
    return 0;
}

void servers_deinit(struct debuginfod *d)
{
    while (d->n_servers > 0)
        free(d->servers[--d->n_servers].url);
}

bool servers_left(const struct debuginfod *d, const struct fetch *f)
{
    uint64_t now_ns = monotonic_ns();

    for (size_t i = 0; i < d->n_servers; i++)
        if (!((f->absent | f->tried) & 1u << i) && d->servers[i].retry_ns <= now_ns)
            return true;
    return false;
}

int servers_choose(struct debuginfod *d, struct fetch *f)
{
    uint64_t now_ns = monotonic_ns();

    for (size_t i = 0; i < d->n_servers; i++) {
        struct debug_server *s = &d->servers[i];
        uint32_t bit = 1u << i;
        if ((f->absent | f->tried) & bit)
            continue;
        f->tried |= bit;
        if (s->retry_ns <= now_ns)
            return (int)i;
        s->skipped++;
        f->error = f->error ? f->error : -EHOSTUNREACH;
    }
    return -1;
}

int fetch_error(const struct fetch *f)
{
    return f->error ? f->error : -ENOENT;
}

/* Of downloads that fail together, the first one counts. */
void server_failed(struct debug_server *s, const char *why)
{
    uint64_t now_ns = monotonic_ns(), pause_ns;

    if (s->retry_ns > now_ns)
        return;
    pause_ns = SERVER_PAUSE_NS << (s->failures < SERVER_MAX_DOUBLINGS ? s->failures : SERVER_MAX_DOUBLINGS);
    if (pause_ns > SERVER_MAX_PAUSE_NS)
        pause_ns = SERVER_MAX_PAUSE_NS;
    s->failures++;
    s->retry_ns = now_ns + pause_ns;
    log_warning("debuginfod: %s: %s; not asked again for %u s (failed %u times in a row, %llu files were not asked for meanwhile)", s->url,
                why, (unsigned)(pause_ns / NSEC_PER_SEC), s->failures, (unsigned long long)s->skipped);
}

void server_answered(struct debug_server *s)
{
    if (s->failures > 0)
        log_info("debuginfod: %s answers again, after %u failures; %llu files were not asked for meanwhile", s->url, s->failures,
                 (unsigned long long)s->skipped);
    s->failures = 0;
    s->retry_ns = s->skipped = 0;
}
