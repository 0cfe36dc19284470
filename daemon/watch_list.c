/* What is said of watches: as JSON, and where there is none. Owns nothing but the memory of those that ended. */
#include <event2/buffer.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "daemon/kind.h"
#include "daemon/quote.h"
#include "daemon/recorder.h"
#include "daemon/recording.h"
#include "daemon/watch_impl.h"
#include "util/clock.h"

/* ---- those that ended */

void watch_remember(struct watches *ws, const struct watch *w, const char *why)
{
    struct watch_past *past = &ws->past[ws->n_past++ % WATCH_MAX_PAST];

    *past = (struct watch_past){.pid = w->pid, .kind = w->kind, .at_ns = realtime_ns()};
    (void)snprintf(past->why, sizeof(past->why), "%s", why);
}

bool watches_use(const struct watches *ws, const struct kind *kind)
{
    const struct watch *w;
    const struct watch_run *run;

    TAILQ_FOREACH(w, &ws->all, link)
        if (w->kind == kind)
            return true;
    TAILQ_FOREACH(run, &ws->runs, link)
        if (run->wish.kind == kind)
            return true;
    for (size_t i = 0; i < WATCH_MAX_PAST; i++)
        if (ws->past[i].pid != 0 && ws->past[i].kind == kind)
            return true;
    return false;
}

void watch_forget_past(struct watches *ws, pid_t pid, const struct kind *kind)
{
    for (size_t i = 0; i < WATCH_MAX_PAST; i++)
        if (ws->past[i].pid == pid && ws->past[i].kind == kind)
            ws->past[i].pid = 0;
}

static const struct watch_past *watch_find_past(const struct watches *ws, pid_t pid, const struct kind *kind)
{
    const struct watch_past *found = NULL;

    for (size_t i = 0; i < WATCH_MAX_PAST; i++)
        if (ws->past[i].pid == pid && ws->past[i].kind == kind && (!found || ws->past[i].at_ns > found->at_ns))
            found = &ws->past[i];
    return found;
}

void watch_explain_none(struct watches *ws, pid_t pid, const struct kind *kind, char *message, size_t message_len)
{
    const struct watch_past *past = watch_find_past(ws, pid, kind);
    char when[CLOCK_TEXT_LEN], before[WATCH_WHY_LEN + 80] = "";

    if (past)
        (void)snprintf(before, sizeof(before), "; its last watch ended at %s: %s", clock_text(past->at_ns, when), past->why);
    (void)snprintf(message, message_len,
                   "%s of process %d is not being watched%s. Ask for /pid/%d/debug/pprof/%s?seconds=10 to have what accrues from now on, "
                   "or begin to watch with PUT /pid/%d/watch?kinds=%s, or by the setting watch",
                   kind->name, pid, before, pid, kind->name, pid, kind->name);
}

/* ---- those that are */

static void watch_print_values(const struct watch_wish *wish, struct evbuffer *out)
{
    for (size_t i = 0; i < wish->n_values; i++) {
        (void)evbuffer_add_printf(out, "%s\"%s\":", i ? "," : "", wish->values[i].name);
        json_string(out, wish->values[i].text, strlen(wish->values[i].text));
    }
}

static void watch_print(const struct watch *w, struct evbuffer *out)
{
    const struct watch_run *run = w->run;
    const struct session_ctl *ctl = recorder_ctl(recording_recorder(run->recording));
    char since[CLOCK_TEXT_LEN];

    (void)evbuffer_add_printf(out, "{\"kind\":");
    json_string(out, w->kind->name, strlen(w->kind->name));
    (void)evbuffer_add_printf(out, ",\"since\":\"%s\",\"by\":{", clock_text(run->since_ns, since));
    if (run->rule) {
        (void)evbuffer_add_printf(out, "\"rule\":");
        json_string(out, run->rule, strlen(run->rule));
    } else if (run->asker.known) {
        (void)evbuffer_add_printf(out, "\"uid\":%u", run->asker.uid);
    }
    (void)evbuffer_add_printf(out, "},\"parameters\":{");
    watch_print_values(&run->wish, out);
    (void)evbuffer_add_printf(out, "},\"running\":%s,\"samples\":%llu,\"lost\":%llu", watch_current(w) ? "true" : "false",
                              (unsigned long long)ctl->samples,
                              (unsigned long long)(ctl->lost_ring + ctl->lost_nested + ctl->lost_table));
    if (run->anew[0]) {
        (void)evbuffer_add_printf(out, ",\"anew\":");
        json_string(out, run->anew, strlen(run->anew));
    }
    (void)evbuffer_add_printf(out, "}");
}

static bool watch_is_among(const struct kind *kind, const struct kind *const *kinds, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (kinds[i] == kind)
            return true;
    return n == 0;
}

static void watches_print_past(const struct watches *ws, pid_t pid, const struct kind *const *kinds, size_t n, struct evbuffer *out)
{
    const char *separator = "";
    char at[CLOCK_TEXT_LEN];

    for (size_t i = 0; i < WATCH_MAX_PAST; i++) {
        const struct watch_past *past = &ws->past[i];
        if (past->pid != pid || !watch_is_among(past->kind, kinds, n))
            continue;
        (void)evbuffer_add_printf(out, "%s\n {\"kind\":", separator);
        json_string(out, past->kind->name, strlen(past->kind->name)); /* which a target may have chosen */
        (void)evbuffer_add_printf(out, ",\"at\":\"%s\",\"why\":", clock_text(past->at_ns, at));
        json_string(out, past->why, strlen(past->why));
        (void)evbuffer_add_printf(out, "}");
        separator = ",";
    }
}

void watches_print(struct watches *ws, pid_t pid, const struct kind *const *kinds, size_t n, struct evbuffer *out)
{
    const char *separator = "";

    (void)evbuffer_add_printf(out, "{\"pid\":%d,\"watched\":[", pid);
    for (struct watch *w = watch_next(ws, pid, NULL); w; w = watch_next(ws, pid, w)) {
        if (!watch_is_among(w->kind, kinds, n))
            continue;
        (void)evbuffer_add_printf(out, "%s\n ", separator);
        watch_print(w, out);
        separator = ",";
    }
    (void)evbuffer_add_printf(out, "],\"ended\":[");
    watches_print_past(ws, pid, kinds, n, out);
    (void)evbuffer_add_printf(out, "]}\n");
}
