/* The search in what is mapped. A file that can't be read is passed over, and counted; what was asked for by name must be there. Owns nothing
 * beyond the call. */
#include "daemon/custom_job.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bpf/custom.h"
#include "daemon/probe.h"
#include "symbolize/elf_file.h"
#include "util/cleanup.h"
#include "util/clock.h"

/* The arguments of the sites of include/cprofd/profile.h: name, key, weight, skip. */
#define DECLARED_KEY CUSTOM_ARG1
#define DECLARED_WEIGHT CUSTOM_ARG2
/* Files of one target that are looked at. */
#define CUSTOM_MAX_LOOKS 1024
/* And for a function that was not where it was looked for. */
#define CUSTOM_HINT_MAX_FILES 64
#define CUSTOM_HINT_MAX_NS (500 * NSEC_PER_MSEC)

struct custom_search {
    const struct custom_request *request;
    const struct render_ops *ops;
    void *userdata;
    struct raw_profile mapped;
    struct custom_found found;
    uint32_t *objects;
    size_t n_objects;
    struct custom_site *sites;
    struct profile_note *notes;
    char *message;
    size_t message_len;
};

static void custom_search_deinit(struct custom_search *s)
{
    raw_profile_close(&s->mapped);
    free(s->objects);
    free(s->sites);
    free(s->notes);
}

static const char *object_path(const struct custom_search *s, uint32_t object)
{
    return raw_profile_string(&s->mapped, s->mapped.objects[object].path);
}

/* fd or -errno. */
static int open_object(const struct custom_search *s, uint32_t object)
{
    struct worker_message need = {.u.need = {.kind = WORKER_FILE_OBJECT, .object = object}};
    int fd = -1;

    int r = s->ops->need(s->userdata, &need, &fd);
    return r < 0 ? r : fd;
}

/* The files that are mapped, each once, as far as they are looked at. */
static int list_objects(struct custom_search *s)
{
    AUTO_FREE bool *seen = calloc(s->mapped.n_objects + 1, sizeof(*seen));

    s->objects = calloc(CUSTOM_MAX_LOOKS, sizeof(*s->objects));
    if (!seen || !s->objects)
        return -ENOMEM;
    for (size_t i = 0; i < s->mapped.n_mappings; i++) {
        uint32_t object = s->mapped.mappings[i].object;
        if (object == RAW_NO_OBJECT || object >= s->mapped.n_objects || seen[object])
            continue;
        seen[object] = true;
        if (s->n_objects == CUSTOM_MAX_LOOKS)
            s->found.unread++;
        else
            s->objects[s->n_objects++] = object;
    }
    return 0;
}

static int add_site(struct custom_search *s, const struct custom_site *site)
{
    for (uint32_t i = 0; i < s->found.n_sites; i++)
        if (s->sites[i].object == site->object && s->sites[i].file_offset == site->file_offset &&
            CUSTOM_ROLE_OP(s->sites[i].role) == CUSTOM_ROLE_OP(site->role))
            return 0;
    if (s->found.n_sites == CUSTOM_MAX_SITES)
        return -E2BIG;
    s->sites[s->found.n_sites++] = *site;
    return 0;
}

/* ---- declared ones */

/* Whoever wrote the note may have written anything: what is no nop is some instruction's middle. */
static bool is_nop(const struct elf_file *file, uint64_t offset)
{
#if defined(__aarch64__)
    static const uint8_t nop[] = {0x1f, 0x20, 0x03, 0xd5};
#else
    static const uint8_t nop[] = {0x90};
#endif
    return offset <= file->map_bytes && file->map_bytes - offset >= sizeof(nop) && memcmp(file->map + offset, nop, sizeof(nop)) == 0;
}

static void take_declared_sites(struct custom_search *s, const struct elf_file *file, const struct profile_notes *notes, uint32_t object)
{
    bool weighs = strcmp(s->found.unit, "count") != 0;

    for (size_t i = 0; i < notes->n_sites; i++) {
        const struct profile_note_site *site = &notes->sites[i];
        uint32_t role = site->adds ? CUSTOM_ROLE(CUSTOM_ADD, DECLARED_KEY, weighs ? DECLARED_WEIGHT : CUSTOM_NOWHERE, 0) | CUSTOM_ROLE_SKIPS
                                   : CUSTOM_ROLE(CUSTOM_REMOVE, DECLARED_KEY, CUSTOM_NOWHERE, 0);
        struct custom_site found = {.file_offset = site->file_offset, .object = object, .role = role, .cost = PROBE_EMULATED, .insn = "nop"};
        if (strcmp(notes->profiles[site->profile].name, s->request->spec.name) != 0)
            continue;
        if (!is_nop(file, site->file_offset) || add_site(s, &found) < 0)
            s->found.left_out++;
    }
}

static void take_declared(struct custom_search *s, const struct elf_file *file, const struct profile_notes *notes, uint32_t object)
{
    for (size_t i = 0; i < notes->n; i++) {
        if (strcmp(notes->profiles[i].name, s->request->spec.name) != 0)
            continue;
        if (!s->found.declared) /* the first note of a name counts */
            memcpy(s->found.unit, notes->profiles[i].unit, sizeof(s->found.unit));
        s->found.declared = 1;
        take_declared_sites(s, file, notes, object);
    }
}

static void take_list(struct custom_search *s, const struct profile_notes *notes)
{
    for (size_t i = 0; i < notes->n; i++) {
        uint32_t at = 0;
        while (at < s->found.n_notes && strcmp(s->notes[at].name, notes->profiles[i].name) != 0)
            at++;
        if (at < s->found.n_notes)
            continue;
        if (!custom_name_is_usable(notes->profiles[i].name) || at == CUSTOM_MAX_DECLARED)
            s->found.left_out++;
        else
            s->notes[s->found.n_notes++] = notes->profiles[i];
    }
}

static int read_declared(struct custom_search *s, uint32_t object)
{
    CLEANUP(elf_file_close) struct elf_file file = {0};
    CLEANUP(profile_notes_deinit) struct profile_notes notes = {0};
    AUTO_CLOSE int fd = open_object(s, object);

    int r = fd < 0 ? fd : elf_file_open(fd, &file);
    r = r < 0 ? r : profile_notes_read(&file, &notes);
    if (r < 0)
        return r;
    if (s->request->wish == CUSTOM_LIST)
        take_list(s, &notes);
    else
        take_declared(s, &file, &notes, object);
    s->found.left_out += (uint32_t)notes.left_out;
    return 0;
}

static int compare_notes(const void *a, const void *b)
{
    const struct profile_note *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static int search_declared(struct custom_search *s)
{
    for (size_t i = 0; i < s->n_objects; i++) {
        int r = s->mapped.objects[s->objects[i]].available ? read_declared(s, s->objects[i]) : -ENOENT;
        if (r == -ENOMEM || r == -ECANCELED)
            return r;
        s->found.unread += r < 0 && r != -ENOEXEC;
    }
    if (s->request->wish == CUSTOM_LIST) {
        qsort(s->notes, s->found.n_notes, sizeof(*s->notes), compare_notes);
        return 0;
    }
    if (s->found.declared && s->found.n_sites == 0)
        (void)snprintf(s->message, s->message_len, "profile \"%.200s\" is declared, but no place in the process's files adds to it",
                       s->request->spec.name);
    else if (!s->found.declared)
        (void)snprintf(s->message, s->message_len, "Unknown profile: the process declares none that is named \"%.200s\"", s->request->spec.name);
    return s->found.declared && s->found.n_sites > 0 ? 0 : -ENOENT;
}

/* ---- by functions */

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Whether a mapped file is meant by a name: that of the main binary (""), a path, its last part; or, loosely, what that begins with, so that a
 * library may be named without its version. */
static bool is_named(const struct custom_search *s, const struct raw_mapping *m, const char *name, bool loosely)
{
    const char *path = m->object == RAW_NO_OBJECT || m->object >= s->mapped.n_objects ? NULL : object_path(s, m->object);
    size_t len = strlen(name);

    if (!path)
        return false;
    if (!*name || *name == '/')
        return *name ? strcmp(name, path) == 0 : m->main_binary;
    return strncmp(last_part(path), name, len) == 0 && last_part(path)[len] == (loosely ? '.' : '\0');
}

/* What there is, for one who named something else, or several. */
static void name_objects(struct custom_search *s, const char *what, const char *name, bool loosely)
{
    size_t len = (size_t)snprintf(s->message, s->message_len, what, name);
    bool *seen = calloc(s->mapped.n_objects + 1, sizeof(*seen));

    for (size_t i = 0; seen && i < s->mapped.n_mappings && len < s->message_len; i++) {
        const struct raw_mapping *m = &s->mapped.mappings[i];
        if (m->object == RAW_NO_OBJECT || m->object >= s->mapped.n_objects || seen[m->object] || (loosely && !is_named(s, m, name, true)))
            continue;
        seen[m->object] = true;
        len += (size_t)snprintf(s->message + len, s->message_len - len, " %.60s", last_part(object_path(s, m->object)));
    }
    free(seen);
}

/* Number of different files of that name: 2: more than one. */
static unsigned count_named(const struct custom_search *s, const char *name, bool loosely, uint32_t *ret)
{
    unsigned n = 0;

    for (size_t i = 0; i < s->mapped.n_mappings && n < 2; i++) {
        const struct raw_mapping *m = &s->mapped.mappings[i];
        if (!is_named(s, m, name, loosely) || (n > 0 && m->object == *ret))
            continue;
        *ret = m->object;
        n++;
    }
    return n;
}

static int find_object(struct custom_search *s, const char *name, uint32_t *ret)
{
    if (count_named(s, name, false, ret) > 0) /* of the same name in several places one: the path tells them apart */
        return 0;
    unsigned n = *name ? count_named(s, name, true, ret) : 0;
    if (n == 1)
        return 0;
    if (!*name)
        (void)snprintf(s->message, s->message_len, "the process's main binary is not mapped");
    else if (n == 0)
        name_objects(s, "no file \"%.100s\" is mapped for execution; these are:", name, false);
    else
        name_objects(s, "several files are mapped for execution that \"%.100s\" may mean:", name, true);
    return -ENOENT;
}

/* For one who named no file, or the wrong one: those that have such a function. */
static void name_owners(struct custom_search *s, const struct worker_probe *probe, uint32_t but)
{
    const uint64_t until_ns = monotonic_ns() + CUSTOM_HINT_MAX_NS;

    for (size_t i = 0; i < s->n_objects && i < CUSTOM_HINT_MAX_FILES && monotonic_ns() < until_ns; i++) {
        uint32_t object = s->objects[i];
        int fd = object != but && s->mapped.objects[object].available ? open_object(s, object) : -1;
        size_t len = strlen(s->message);
        if (fd >= 0 && probe_has_function(fd, probe->symbol))
            (void)snprintf(s->message + len, s->message_len - len, "; %.100s has it: write %.100s:%.100s", last_part(object_path(s, object)),
                           last_part(object_path(s, object)), probe->symbol);
    }
}

/* The places of one function, all of that role. */
static int find_function(struct custom_search *s, const struct custom_function *f, const struct worker_probe *probe, uint32_t role)
{
    struct probe_found found;
    AUTO_FREE struct probe_site *sites = NULL;
    char why[PROBE_WHY_BYTES] = "";
    uint32_t object = 0;

    int r = find_object(s, f->object, &object);
    if (r < 0)
        return r;
    int fd = open_object(s, object);
    r = fd < 0 ? fd : probe_find_sites(fd, probe, &found, &sites, why, sizeof(why));
    if (r < 0) {
        (void)snprintf(s->message, s->message_len, "%.200s in %.200s: %s", f->symbol, last_part(object_path(s, object)), why[0] ? why : strerror(-r));
        if (r == -ENOENT && fd >= 0)
            name_owners(s, probe, object);
        return r == -ENOMEM || r == -ECANCELED ? r : -ENOENT;
    }
    s->found.tail_calls += found.tail_calls;
    s->found.ways_in += found.ways_in;
    for (uint32_t i = 0; r == 0 && i < found.n; i++) {
        struct custom_site site = {.file_offset = sites[i].point.file_offset, .object = object, .cost = sites[i].point.cost,
                                   .role = role | (sites[i].point.at_entry ? CUSTOM_ROLE_AT_ENTRY : 0)};
        memcpy(site.insn, sites[i].point.insn, sizeof(site.insn));
        r = add_site(s, &site);
    }
    if (r < 0)
        (void)snprintf(s->message, s->message_len, "%.200s: it has more than %d places", f->symbol, CUSTOM_MAX_SITES);
    return r < 0 ? -EINVAL : 0;
}

static struct worker_probe probe_of(const struct custom_function *f, uint32_t weight)
{
    struct worker_probe probe = {.offset = f->offset, .result = f->from == CUSTOM_RESULT};

    (void)snprintf(probe.symbol, sizeof(probe.symbol), "%s", f->symbol);
    if (!probe.result)
        probe.args = (uint16_t)(1u << f->from | (weight <= CUSTOM_ARG5 ? 1u << weight : 0));
    return probe;
}

/* Where a call's weight is noted: where its return address is the stack's top, as it is when it returns. */
static int find_call(struct custom_search *s)
{
    const struct custom_spec *spec = &s->request->spec;
    struct worker_probe probe = {.at_entry = 1};

    (void)snprintf(probe.symbol, sizeof(probe.symbol), "%s", spec->add.symbol);
    return find_function(s, &spec->add, &probe, CUSTOM_ROLE(CUSTOM_CALL, CUSTOM_NOWHERE, spec->weight, 0));
}

/* Of all that adds or removes. */
static uint32_t key_role(const struct custom_spec *spec)
{
    static const uint32_t roles[] = {[CUSTOM_INT] = CUSTOM_ROLE_NUMBER | CUSTOM_ROLE_INT, [CUSTOM_LONG] = CUSTOM_ROLE_NUMBER};

    return roles[spec->key];
}

static int search_functions(struct custom_search *s)
{
    const struct custom_spec *spec = &s->request->spec;
    bool adds_result = spec->add.from == CUSTOM_RESULT, calls = adds_result && spec->weight <= CUSTOM_ARG5;
    const struct worker_probe add = probe_of(&spec->add, spec->weight), remove = probe_of(&spec->remove, CUSTOM_NOWHERE);
    uint32_t role = CUSTOM_ROLE(CUSTOM_ADD, spec->add.from, calls ? CUSTOM_NOWHERE : spec->weight, spec->skip) | key_role(spec) |
                    (adds_result ? CUSTOM_ROLE_MAY_FAIL : 0) | (calls ? CUSTOM_ROLE_CALLED : 0) |
                    (custom_is_counted(spec) ? CUSTOM_ROLE_COUNTED : 0);

    (void)snprintf(s->found.unit, sizeof(s->found.unit), "%s", spec->unit);
    if (!adds_result && spec->weight == CUSTOM_RESULT) {
        (void)snprintf(s->message, s->message_len, "weight=ret goes with an add= that ends in :ret");
        return -EINVAL;
    }
    int r = find_function(s, &spec->add, &add, role);
    r = r < 0 || !calls ? r : find_call(s);
    if (r < 0 || custom_is_counted(spec))
        return r;
    return find_function(s, &spec->remove, &remove, CUSTOM_ROLE(CUSTOM_REMOVE, spec->remove.from, CUSTOM_NOWHERE, 0) | key_role(spec));
}

/* ---- all */

static int compare_sites(const void *a, const void *b)
{
    const struct custom_site *x = a, *y = b;

    if (x->object != y->object)
        return x->object < y->object ? -1 : 1;
    return (x->file_offset > y->file_offset) - (x->file_offset < y->file_offset);
}

static int search(struct custom_search *s)
{
    bool declared = s->request->wish == CUSTOM_LIST || custom_is_declared(&s->request->spec);

    s->sites = calloc(CUSTOM_MAX_SITES, sizeof(*s->sites));
    s->notes = calloc(CUSTOM_MAX_DECLARED, sizeof(*s->notes));
    if (!s->sites || !s->notes)
        return -ENOMEM;
    int r = list_objects(s);
    r = r < 0 ? r : declared ? search_declared(s) : search_functions(s);
    qsort(s->sites, s->found.n_sites, sizeof(*s->sites), compare_sites);
    return r;
}

static int write_answer(const struct custom_search *s, int out_fd, uint64_t *ret_len)
{
    size_t sites = s->found.n_sites * sizeof(*s->sites), notes = s->found.n_notes * sizeof(*s->notes);

    if (write(out_fd, &s->found, sizeof(s->found)) != sizeof(s->found) || write(out_fd, s->sites, sites) != (ssize_t)sites ||
        write(out_fd, s->notes, notes) != (ssize_t)notes)
        return -EIO;
    *ret_len = sizeof(s->found) + sites + notes;
    return 0;
}

int custom_make(int input_fd, const struct custom_request *request, const struct render_ops *ops, void *userdata, int out_fd, uint64_t *ret_len,
                char *message, size_t message_len)
{
    CLEANUP(custom_search_deinit) struct custom_search s = {.request = request, .ops = ops, .userdata = userdata, .message = message,
                                                            .message_len = message_len};

    int r = raw_table_open(input_fd, &s.mapped);
    r = r < 0 ? r : search(&s);
    r = r < 0 ? r : write_answer(&s, out_fd, ret_len);
    if (r < 0 && !message[0])
        (void)snprintf(message, message_len, "%s", strerror(-r));
    return r;
}
