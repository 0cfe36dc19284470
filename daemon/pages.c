/* Writes the pages and lists. Owns nothing. Every text that a target shaped goes through html_escape or json_string; links are
 * relative to the page's own path. */
#include "daemon/pages.h"

#include <event2/buffer.h>
#include <stdio.h>
#include <string.h>

#include "daemon/collector.h"
#include "daemon/custom_list.h"
#include "daemon/event_table.h"
#include "daemon/kind.h"
#include "daemon/kind_custom.h"
#include "daemon/params.h"
#include "daemon/quote.h"
#include "daemon/recorder.h"
#include "daemon/recording.h"
#include "daemon/watch.h"
#include "daemon/watch_query.h"

/* What is said of a profile by functions: these are the longest. */
#define NAMED_TEXT_LEN 2600

/* tests/unit/check_style_hash.py holds the two together. */
#define PAGE_STYLE "body{font-family:sans-serif;margin:2em}td,th{padding:0 1em 0 0;text-align:left}code{background:#eee}"
#define PAGE_STYLE_HASH "sha256-FVFYb25BMJSuTiOhvqq0gFRw+OotK7zwUFZVSW6j6W0="

const char *page_csp(void)
{
    return "default-src 'none'; style-src '" PAGE_STYLE_HASH "'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
}

static void page_text(struct evbuffer *out, const char *text)
{
    html_escape(out, text, strlen(text));
}

static void page_begin(struct evbuffer *out, const char *title)
{
    (void)evbuffer_add_printf(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>%s</title>\n"
                                   "<style>" PAGE_STYLE "</style>\n</head>\n<body>\n<h1>%s</h1>\n", title, title);
}

static void page_end(struct evbuffer *out)
{
    (void)evbuffer_add_printf(out, "</body>\n</html>\n");
}

/* ---- / */

void page_processes(struct evbuffer *out, const struct process_entry *entries, size_t n)
{
    page_begin(out, "cprofd");
    (void)evbuffer_add_printf(out, "<p>%zu process%s that you may profile.</p>\n<table>\n"
                                   "<tr><th>PID</th><th>User</th><th>Name</th><th>Program</th></tr>\n", n, n == 1 ? "" : "es");
    for (size_t i = 0; i < n; i++) {
        const struct process_entry *e = &entries[i];
        (void)evbuffer_add_printf(out, "<tr><td><a href=\"pid/%d\">%d</a></td><td>%u</td><td>", e->pid, e->pid, e->uid);
        html_escape(out, e->comm, strnlen(e->comm, sizeof(e->comm)));
        (void)evbuffer_add_printf(out, "</td><td>");
        html_escape(out, e->exe, strnlen(e->exe, sizeof(e->exe)));
        (void)evbuffer_add_printf(out, "</td></tr>\n");
    }
    (void)evbuffer_add_printf(out, "</table>\n<p><a href=\"metrics\">Metrics</a> of the daemon itself.</p>\n");
    page_end(out);
}

void page_processes_json(struct evbuffer *out, const struct process_entry *entries, size_t n)
{
    (void)evbuffer_add_printf(out, "[");
    for (size_t i = 0; i < n; i++) {
        const struct process_entry *e = &entries[i];
        (void)evbuffer_add_printf(out, "%s\n{\"pid\":%d,\"comm\":", i ? "," : "", e->pid);
        json_string(out, e->comm, strnlen(e->comm, sizeof(e->comm)));
        (void)evbuffer_add_printf(out, ",\"uid\":%u,\"path\":", e->uid);
        json_string(out, e->exe, strnlen(e->exe, sizeof(e->exe)));
        (void)evbuffer_add_printf(out, "}");
    }
    (void)evbuffer_add_printf(out, "%s]\n", n ? "\n" : "");
}

/* ---- /pid/N */

void page_process(struct evbuffer *out, struct watches *ws, pid_t pid)
{
    char title[64];
    (void)snprintf(title, sizeof(title), "Process %d", pid);
    page_begin(out, title);
    (void)evbuffer_add_printf(
        out,
        "<form action=\"%d/debug/pprof/profile\" method=\"get\">\n<p>CPU profile of\n"
        "<label><input name=\"seconds\" value=\"10\" size=\"5\"> seconds</label> at\n"
        "<label><input name=\"hz\" value=\"100\" size=\"5\"> samples a second</label>,\n"
        "<label>kernel frames <select name=\"kernel\"><option value=\"0\">hidden<option value=\"1\">shown</select></label>,\n"
        "<label>as <select name=\"format\"><option value=\"pprof\">pprof<option value=\"folded\">collapsed stacks</select></label>\n"
        "<button>Profile</button></p>\n</form>\n", pid);
    (void)evbuffer_add_printf(out, "<p><a href=\"%d/debug/pprof/\">All profiles</a>,\n"
                                   "<a href=\"%d/debug/quality?seconds=10\">what a profile says of itself</a>,\n"
                                   "<a href=\"../\">all processes</a></p>\n", pid, pid);
    (void)evbuffer_add_printf(out, "<p>In a terminal: <code>go tool pprof http://ADDRESS/pid/%d</code></p>\n", pid);
    page_end(out);
}

/* ---- /pid/N/debug/pprof/ */

/* As Go counts: the values that are open, or the different stacks of what has accrued; 0 for what is taken when it is asked for. */
static size_t page_count(struct watches *ws, pid_t pid, const struct kind *kind)
{
    const struct watch *w = ws && kind->cumulative ? watch_find(ws, pid, kind) : NULL;
    const struct watch_run *run = w ? watch_current(w) : NULL;

    const struct recorder *recorder = run ? recording_recorder(watch_run_recording(run)) : NULL;
    if (recorder && watch_wish(w)->params.event == EVENT_CUSTOM)
        return recorder_ctl(recorder)->live_values;
    return recorder ? recorder_stacks(recorder) : 0;
}

/* A link to what is called so, relative to this page. */
static void page_link(struct evbuffer *out, const char *name)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-/";

    (void)evbuffer_add_printf(out, "./"); /* or a colon in it would look like a scheme's */
    for (const char *c = name; *c; c++)
        (void)evbuffer_add_printf(out, strchr(plain, *c) ? "%c" : "%%%02X", (unsigned char)*c);
}

/* A declared profile that has a kind's name is not to be had; one whose name a query has given away is not as long as that is watched. */
static bool is_shown(struct watches *ws, pid_t pid, const struct profile_note *note)
{
    const struct kind *kind = ws ? custom_kind_in_use(ws, note->name) : NULL;
    const struct watch *w = kind ? watch_find(ws, pid, kind) : NULL;

    return !kind_find(note->name) && (!w || custom_is_declared(&watch_wish(w)->params.custom));
}

/* Values that are open: only where it is watched are they known. */
static size_t declared_count(struct watches *ws, pid_t pid, const struct profile_note *note, bool *ret_watched)
{
    const struct kind *kind = ws ? custom_kind_in_use(ws, note->name) : NULL;

    *ret_watched = kind && watch_find(ws, pid, kind);
    return *ret_watched ? page_count(ws, pid, kind) : 0;
}

/* Profiles that are watched, and that a query made of functions and gave a name to: one after another, NULL past the last. */
static const struct watch *next_named(struct watches *ws, pid_t pid, const struct watch *after)
{
    const struct watch *w = ws ? watch_next(ws, pid, after) : NULL;

    while (w && (!watch_wish(w)->kind->declared || custom_is_declared(&watch_wish(w)->params.custom)))
        w = watch_next(ws, pid, w);
    return w;
}

static void page_named(struct evbuffer *out, struct watches *ws, pid_t pid)
{
    for (const struct watch *w = next_named(ws, pid, NULL); w; w = next_named(ws, pid, w)) {
        const char *name = watch_wish(w)->kind->name;
        (void)evbuffer_add_printf(out, "<tr><td>%zu</td><td><a href='", page_count(ws, pid, watch_wish(w)->kind));
        page_link(out, name);
        (void)evbuffer_add_printf(out, "?debug=1'>");
        page_text(out, name);
        (void)evbuffer_add_printf(out, "</a> (watched)</td></tr>\n");
    }
}

/* The functions, as a query names them. */
static void named_description(const struct watch *w, char *text, size_t len)
{
    const struct watch_wish *wish = watch_wish(w);

    (void)snprintf(text, len, "Values of functions, by the stacks that added them:");
    for (size_t i = 0; i < wish->n_values; i++)
        if (strcmp(wish->values[i].name, "add") == 0 || strcmp(wish->values[i].name, "remove") == 0)
            (void)snprintf(text + strlen(text), len - strlen(text), " %s=%s", wish->values[i].name, wish->values[i].text);
}

static void page_describe_named(struct evbuffer *out, struct watches *ws, pid_t pid)
{
    char text[NAMED_TEXT_LEN];

    for (const struct watch *w = next_named(ws, pid, NULL); w; w = next_named(ws, pid, w)) {
        (void)evbuffer_add_printf(out, "<li>");
        page_text(out, watch_wish(w)->kind->name);
        (void)evbuffer_add_printf(out, ": ");
        named_description(w, text, sizeof(text));
        page_text(out, text);
        (void)evbuffer_add_printf(out, "</li>\n");
    }
}

static void page_declared(struct evbuffer *out, struct watches *ws, pid_t pid, const struct custom_declared *declared)
{
    for (size_t i = 0; i < declared->n; i++) {
        bool watched;
        if (!is_shown(ws, pid, &declared->notes[i]))
            continue;
        (void)evbuffer_add_printf(out, "<tr><td>%zu</td><td><a href='", declared_count(ws, pid, &declared->notes[i], &watched));
        page_link(out, declared->notes[i].name);
        (void)evbuffer_add_printf(out, "?debug=1'>");
        page_text(out, declared->notes[i].name);
        (void)evbuffer_add_printf(out, "</a>%s</td></tr>\n", watched ? " (watched)" : " (not watched)");
    }
}

static void page_describe_declared(struct evbuffer *out, struct watches *ws, pid_t pid, const struct custom_declared *declared)
{
    for (size_t i = 0; i < declared->n; i++) {
        if (!is_shown(ws, pid, &declared->notes[i]))
            continue;
        (void)evbuffer_add_printf(out, "<li>");
        page_text(out, declared->notes[i].name);
        (void)evbuffer_add_printf(out, ": ");
        page_text(out, declared->notes[i].description);
        (void)evbuffer_add_printf(out, "</li>\n");
    }
    if (declared->error) {
        (void)evbuffer_add_printf(out, "<li>The profiles that the process declares are not known: ");
        page_text(out, declared->error);
        (void)evbuffer_add_printf(out, "</li>\n");
    }
    if (declared->left_out)
        (void)evbuffer_add_printf(out, "<li>%u profiles that the process declares, or files that may declare some, are left out.</li>\n",
                                  declared->left_out);
}

void page_index(struct evbuffer *out, struct watches *ws, pid_t pid, const struct custom_declared *declared)
{
    const struct kind *kind;
    char kinds[256];
    page_begin(out, "/debug/pprof/");
    (void)evbuffer_add_printf(out, "<p>Of process <a href=\"../../../%d\">%d</a>; <a href=\"../../../../\">all processes</a>.</p>\n"
                                   "<table>\n<tr><th>Count</th><th>Profile</th></tr>\n", pid, pid);
    for (size_t i = 0; (kind = kind_at(i)); i++) {
        (void)evbuffer_add_printf(out, "<tr><td>%zu</td><td><a href='", page_count(ws, pid, kind));
        page_text(out, kind->path);
        (void)evbuffer_add_printf(out, "'>");
        page_text(out, kind->name);
        (void)evbuffer_add_printf(out, "</a>%s</td></tr>\n",
                                  !kind->cumulative ? "" : ws && watch_find(ws, pid, kind) ? " (watched)" : " (not watched)");
    }
    page_declared(out, ws, pid, declared);
    page_named(out, ws, pid);
    (void)evbuffer_add_printf(out, "</table>\n<p><a href='goroutine?debug=2'>full goroutine stack dump</a></p>\n<p>What they are:</p>\n<ul>\n");
    for (size_t i = 0; (kind = kind_at(i)); i++) {
        (void)evbuffer_add_printf(out, "<li>");
        page_text(out, kind->name);
        (void)evbuffer_add_printf(out, ": ");
        page_text(out, kind->description);
        (void)evbuffer_add_printf(out, "</li>\n");
    }
    page_describe_declared(out, ws, pid, declared);
    page_describe_named(out, ws, pid);
    (void)evbuffer_add_printf(out, "</ul>\n<p>What is not watched is had for a time with <code>?seconds=10</code>, or watched from now on by\n"
                                   "<code>curl -X PUT 'http://ADDRESS/pid/%d/watch?kinds=", pid);
    page_text(out, watch_query_kinds(",", kinds, sizeof(kinds)));
    (void)evbuffer_add_printf(out, "'</code>; <a href=\"../../watch\">what is watched</a>.</p>\n"
                                   "<p><a href=\"../fgprof?seconds=10\">fgprof</a> is wall as the Go package of that name serves it.</p>\n"
                                   "<p>Parameters and their bounds: <a href=\"?format=json\">as JSON</a>.</p>\n");
    page_end(out);
}

static void json_member(struct evbuffer *out, const char *name, const char *value)
{
    (void)evbuffer_add_printf(out, ",\"%s\":", name);
    json_string(out, value, strlen(value));
}

/* "TYPE/UNIT", "" where there is none. */
static void json_pair(struct evbuffer *out, const char *type, const char *unit)
{
    char text[128];

    (void)snprintf(text, sizeof(text), "%s%s%s", type, *type ? "/" : "", unit);
    json_string(out, text, strlen(text));
}

static void json_types(struct evbuffer *out, const struct raw_types *t)
{
    (void)evbuffer_add_printf(out, ",\"sample_types\":[");
    for (uint32_t i = 0; i < t->n; i++) {
        (void)evbuffer_add_printf(out, "%s", i ? "," : "");
        json_pair(out, t->type[i], t->unit[i]);
    }
    (void)evbuffer_add_printf(out, "],\"period_type\":");
    json_pair(out, t->period_type, t->period_unit);
}

static void json_params(struct evbuffer *out, const struct kind *kind)
{
    (void)evbuffer_add_printf(out, ",\"parameters\":[");
    for (size_t i = 0; kind->params && i < kind->params->n; i++) {
        const struct param_spec *p = &kind->params->specs[i];
        (void)evbuffer_add_printf(out, "%s\n {\"name\":", i ? "," : "");
        json_string(out, p->name, strlen(p->name));
        json_member(out, "type", p->type);
        json_member(out, "bounds", strcmp(p->type, "event") == 0 ? events_available() : p->bounds);
        json_member(out, "default", p->fallback);
        json_member(out, "description", p->description);
        (void)evbuffer_add_printf(out, "%s}", kind->cumulative && p->watch ? ",\"watch\":true" : "");
    }
    (void)evbuffer_add_printf(out, "]");
}

/* A profile that is not in the table of kinds. */
struct json_custom {
    const char *name, *description;
    struct raw_types types;
    bool declared, watched;
    size_t count;
};

static void json_custom(struct evbuffer *out, const struct json_custom *p)
{
    (void)evbuffer_add_printf(out, ",\n{\"name\":");
    json_string(out, p->name, strlen(p->name));
    json_member(out, "description", p->description);
    (void)evbuffer_add_printf(out, ",\"path\":\"");
    page_link(out, p->name);
    (void)evbuffer_add_printf(out, "\"");
    json_types(out, &p->types);
    (void)evbuffer_add_printf(out, ",\"windowed\":false,\"cumulative\":true,\"declared\":%s,\"watched\":%s,\"count\":%zu",
                              p->declared ? "true" : "false", p->watched ? "true" : "false", p->count);
    json_params(out, &kind_custom);
    (void)evbuffer_add_printf(out, "}");
}

static void json_declared(struct evbuffer *out, struct watches *ws, pid_t pid, const struct profile_note *note)
{
    struct json_custom p = {.name = note->name, .description = note->description, .declared = true};

    p.count = declared_count(ws, pid, note, &p.watched);
    custom_types(note->name, note->unit, &p.types);
    json_custom(out, &p);
}

static void json_named(struct evbuffer *out, struct watches *ws, pid_t pid)
{
    char text[NAMED_TEXT_LEN];

    for (const struct watch *w = next_named(ws, pid, NULL); w; w = next_named(ws, pid, w)) {
        const struct custom_spec *spec = &watch_wish(w)->params.custom;
        struct json_custom p = {.name = spec->name, .description = text, .watched = true, .count = page_count(ws, pid, watch_wish(w)->kind)};
        named_description(w, text, sizeof(text));
        custom_spec_types(spec, spec->unit, &p.types);
        json_custom(out, &p);
    }
}

void page_index_json(struct evbuffer *out, struct watches *ws, pid_t pid, const struct custom_declared *declared)
{
    const struct kind *kind;
    (void)evbuffer_add_printf(out, "[");
    for (size_t i = 0; (kind = kind_at(i)); i++) {
        (void)evbuffer_add_printf(out, "%s\n{\"name\":", i ? "," : "");
        json_string(out, kind->name, strlen(kind->name));
        json_member(out, "description", kind->description);
        json_member(out, "path", kind->path);
        json_types(out, &kind->types);
        (void)evbuffer_add_printf(out, ",\"windowed\":%s,\"cumulative\":%s,\"watched\":%s", kind->windowed ? "true" : "false",
                                  kind->cumulative ? "true" : "false", ws && watch_find(ws, pid, kind) ? "true" : "false");
        json_params(out, kind);
        (void)evbuffer_add_printf(out, "}");
    }
    for (size_t i = 0; i < declared->n; i++)
        if (is_shown(ws, pid, &declared->notes[i]))
            json_declared(out, ws, pid, &declared->notes[i]);
    json_named(out, ws, pid);
    (void)evbuffer_add_printf(out, "\n]\n");
}
