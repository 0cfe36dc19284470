/* For tests of the renderer: raw profiles made by hand, of this very process's files, and the files that a
 * job asks for. */
#pragma once

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/render.h"
#include "daemon/vdso.h"
#include "tests/unit/pprof_reader.h"
#include "util/clock.h"

#define MAX_ITEMS 64

/* ---- building a raw profile */

struct raw_build {
    struct raw_params params;
    char strings[8192];
    size_t strings_len;
    struct raw_object objects[MAX_ITEMS];
    size_t n_objects;
    struct raw_mapping mappings[MAX_ITEMS];
    size_t n_mappings;
    struct raw_count counts[MAX_ITEMS];
    size_t n_counts;
    uint64_t records[65536];
    size_t records_len; /* bytes */
    uint64_t addresses[MAX_ITEMS];
    size_t n_addresses;
    struct raw_thread threads[MAX_ITEMS];
    size_t n_threads;
    char facts[1024];
    size_t facts_len;
    struct sample_key key; /* of the next count */
};

static inline void build_init(struct raw_build *b)
{
    memset(b, 0, sizeof(*b));
    b->strings_len = 1;
    b->params = (struct raw_params){
        .cpu_clock = 1,
        .pid = 77,
        .time_ns = 1700000000000000000,
        .duration_ns = 1000000000,
        .period = 10000000,
        .types = {.type = {"samples", "cpu"}, .unit = {"count", "nanoseconds"}, .n = 2, .period_type = "cpu", .period_unit = "nanoseconds"},
    };
    b->key = (struct sample_key){.tid = 78, .tgid = 77, .comm = "worker-1"};
}

static inline uint64_t build_string(struct raw_build *b, const char *text)
{
    uint64_t at = b->strings_len;
    strcpy(b->strings + at, text);
    b->strings_len += strlen(text) + 1;
    return at;
}

static inline uint32_t build_object(struct raw_build *b, const char *path)
{
    struct stat st = {0};
    struct raw_object *o = &b->objects[b->n_objects];
    o->path = build_string(b, path);
    o->available = stat(path, &st) == 0;
    o->id = (struct file_identity){
        .dev = st.st_dev,
        .ino = st.st_ino,
        .size = (uint64_t)st.st_size,
        .mtime_ns = (uint64_t)st.st_mtim.tv_sec * NSEC_PER_SEC + (uint64_t)st.st_mtim.tv_nsec,
        .ctime_ns = (uint64_t)st.st_ctim.tv_sec * NSEC_PER_SEC + (uint64_t)st.st_ctim.tv_nsec,
    };
    return (uint32_t)b->n_objects++;
}

static inline struct raw_mapping *build_mapping(struct raw_build *b, uint64_t start, uint64_t end,
                                                uint64_t offset, uint32_t object)
{
    struct raw_mapping *m = &b->mappings[b->n_mappings++];
    *m = (struct raw_mapping){
        .start = start, .end = end, .offset = offset, .last_epoch = UINT32_MAX, .object = object};
    return m;
}

static inline struct raw_mapping *build_named(struct raw_build *b, uint64_t start, uint64_t end,
                                              const char *name)
{
    struct raw_mapping *m = build_mapping(b, start, end, 0, RAW_NO_OBJECT);
    m->name = build_string(b, name);
    return m;
}

/* The executable mapping of this process that holds an address, with its file. */
static inline struct raw_mapping *build_own(struct raw_build *b, const void *address)
{
    char line[PATH_MAX + 128], path[PATH_MAX], mode[8];
    unsigned long start, end, offset;
    FILE *f = fopen("/proc/self/maps", "re");
    while (fgets(line, sizeof(line), f)) {
        if (sscanf(line, "%lx-%lx %7s %lx %*s %*s %s", &start, &end, mode, &offset, path) != 5 ||
            !strchr(mode, 'x'))
            continue;
        if ((uintptr_t)address < start || (uintptr_t)address >= end)
            continue;
        fclose(f);
        return build_mapping(b, start, end, offset, build_object(b, path));
    }
    ck_abort_msg("no mapping of %p", address);
}

/* A stack record; its hash is its number, from 1. Returns that. */
static inline uint64_t build_stack(struct raw_build *b, const uint64_t *kernel, size_t n_kernel,
                                   const uint64_t *user, size_t n_user, enum stack_end end)
{
    static uint64_t next = 1;
    struct stack_record *s = (void *)((char *)b->records + b->records_len);
    *s = (struct stack_record){
        .type = RECORD_STACK, .n_kernel = (uint16_t)n_kernel, .n_user = (uint16_t)n_user, .end = end};
    s->stack_hash[0] = next;
    for (size_t i = 0; i < n_kernel + n_user; i++)
        s->frames[i] = i < n_kernel ? kernel[i] : user[i - n_kernel];
    b->records_len += sizeof(*s) + (n_kernel + n_user) * 8;
    ck_assert_uint_le(b->records_len, sizeof(b->records));
    return next++;
}

static inline void build_count(struct raw_build *b, uint64_t stack, uint64_t samples)
{
    struct raw_count *c = &b->counts[b->n_counts++];
    c->key = b->key;
    c->key.stack_hash[0] = stack;
    c->value = (struct sample_value){.samples = samples, .weight = samples * 10000000};
}

static inline void build_sample_record(struct raw_build *b, uint64_t stack, uint64_t samples)
{
    struct sample_record *s = (void *)((char *)b->records + b->records_len);
    *s = (struct sample_record){.type = RECORD_SAMPLE, .key = b->key, .value = {samples, samples * 10000000}};
    s->key.stack_hash[0] = stack;
    b->records_len += sizeof(*s);
}

/* One user stack and its count. */
static inline void build_user(struct raw_build *b, const uint64_t *user, size_t n, enum stack_end end,
                              uint64_t samples)
{
    build_count(b, build_stack(b, NULL, 0, user, n, end), samples);
}

static inline void build_fact(struct raw_build *b, const char *fact)
{
    strcpy(b->facts + b->facts_len, fact);
    b->facts_len += strlen(fact) + 1;
}

static inline int build_finish(const struct raw_build *b)
{
    struct raw_writer *w = raw_writer_new();
    ck_assert_ptr_nonnull(w);
    ck_assert_int_eq(raw_writer_section(w, RAW_PARAMS, &b->params, sizeof(b->params)), 0);
    ck_assert_int_eq(raw_writer_section(w, RAW_RECORDS, b->records, b->records_len), 0);
    ck_assert_int_eq(raw_writer_section(w, RAW_COUNTS, b->counts, b->n_counts * sizeof(b->counts[0])), 0);
    ck_assert_int_eq(raw_writer_section(w, RAW_OBJECTS, b->objects, b->n_objects * sizeof(b->objects[0])), 0);
    ck_assert_int_eq(raw_writer_section(w, RAW_MAPPINGS, b->mappings, b->n_mappings * sizeof(b->mappings[0])),
                     0);
    ck_assert_int_eq(raw_writer_section(w, RAW_STRINGS, b->strings, b->strings_len), 0);
    ck_assert_int_eq(raw_writer_section(w, RAW_FACTS, b->facts, b->facts_len), 0);
    ck_assert_int_eq(raw_writer_section(w, RAW_ADDRESSES, b->addresses, b->n_addresses * 8), 0);
    ck_assert_int_eq(raw_writer_section(w, RAW_THREADS, b->threads, b->n_threads * sizeof(b->threads[0])), 0);
    int fd = raw_writer_finish(w);
    ck_assert_int_ge(fd, 0);
    raw_writer_free(w);
    return fd;
}

/* ---- a renderer and the files that it asks for */

static const char fixture_kallsyms[] = "ffffffff81000000 T _stext\n"
                                       "ffffffff81001000 T do_syscall_64\n"
                                       "ffffffff81002000 t __schedule\n"
                                       "ffffffff82000000 T _etext\n"
                                       "ffffffffc0001000 t nft_do_chain\t[nf_tables]\n"
                                       "ffffffffc0002000 t nft_other\t[nf_tables]\n";

struct fixture {
    struct renderer *renderer;
    const struct raw_profile *raw; /* of the job under way */
    unsigned needs[16];            /* by enum worker_file_kind */
    uint32_t touched[MAX_ITEMS];
    size_t n_touched;
    int object_error, kallsyms_error, debug_error; /* instead of files */
    mode_t debug_mode; /* a debug file (of no use) with this mode; 0: there is none */
    const char *swap;  /* an object's path: this file instead */
    const char *perf_map; /* its text; NULL: perf_map_error */
    int perf_map_error;
    const void *jitdump;  /* NULL: jitdump_error */
    size_t jitdump_len;
    int jitdump_error;
};

static inline int fixture_text_fd(const char *text)
{
    int fd = memfd_create("text", MFD_CLOEXEC);
    ck_assert_int_eq(write(fd, text, strlen(text)), strlen(text));
    ck_assert_int_eq(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

static inline int fixture_need(void *userdata, struct worker_message *need, int *ret_fd)
{
    struct fixture *f = userdata;
    f->needs[need->u.need.kind]++;
    switch (need->u.need.kind) {
    case WORKER_FILE_OBJECT:
        if (f->object_error)
            return f->object_error;
        *ret_fd =
            open(f->swap ? f->swap : raw_profile_string(f->raw, f->raw->objects[need->u.need.object].path),
                 O_RDONLY | O_CLOEXEC);
        ck_assert_int_ge(*ret_fd, 0);
        return 0;
    case WORKER_FILE_KALLSYMS:
        if (f->kallsyms_error)
            return f->kallsyms_error;
        *ret_fd = fixture_text_fd(fixture_kallsyms);
        return 0;
    case WORKER_FILE_VDSO:
        *ret_fd = vdso_open();
        return *ret_fd < 0 ? *ret_fd : 0;
    case WORKER_FILE_PERF_MAP:
        if (f->perf_map)
            *ret_fd = fixture_text_fd(f->perf_map);
        return f->perf_map ? 0 : f->perf_map_error ? f->perf_map_error : -ENOENT;
    case WORKER_FILE_JITDUMP:
        if (!f->jitdump)
            return f->jitdump_error;
        *ret_fd = memfd_create("jitdump", MFD_CLOEXEC);
        ck_assert_int_eq(write(*ret_fd, f->jitdump, f->jitdump_len), (ssize_t)f->jitdump_len);
        return 0;
    default:
        if (f->debug_error || !f->debug_mode)
            return f->debug_error ? f->debug_error : -ENOENT;
        *ret_fd = fixture_text_fd("not what was asked for");
        ck_assert_int_eq(fchmod(*ret_fd, f->debug_mode), 0);
        return 0;
    }
}

static inline void fixture_touch(void *userdata, uint32_t object)
{
    struct fixture *f = userdata;
    ck_assert_uint_lt(f->n_touched, MAX_ITEMS);
    f->touched[f->n_touched++] = object;
}

static const struct render_ops fixture_ops = {.need = fixture_need, .touch = fixture_touch};

static inline void fixture_init(struct fixture *f)
{
    memset(f, 0, sizeof(*f));
    f->renderer = renderer_new(&fixture_ops, f, 64 << 20);
    ck_assert_ptr_nonnull(f->renderer);
}

static inline bool fixture_touched(const struct fixture *f, uint32_t object)
{
    for (size_t i = 0; i < f->n_touched; i++)
        if (f->touched[i] == object)
            return true;
    return false;
}

struct rendered {
    int error;
    struct render_result result;
    char *body; /* NUL-terminated */
};

static inline struct rendered fixture_render(struct fixture *f, const struct raw_build *b,
                                             const struct worker_message *job)
{
    static const struct worker_message plain = {.type = WORKER_JOB, .u.job.kind = WORKER_RENDER};
    struct raw_profile raw;
    struct rendered out = {0};
    int raw_fd = build_finish(b), body_fd = memfd_create("body", MFD_CLOEXEC);
    ck_assert_int_eq(raw_profile_open(raw_fd, &raw), 0);
    f->raw = &raw;
    f->n_touched = 0;
    memset(f->needs, 0, sizeof(f->needs));
    out.error = renderer_render(f->renderer, &raw, job ? job : &plain, body_fd, &out.result);
    renderer_trim(f->renderer);
    raw_profile_close(&raw);
    out.body = calloc(1, out.result.body.len + 1);
    if (out.error == 0)
        ck_assert_int_eq(pread(body_fd, out.body, out.result.body.len + 1, 0), out.result.body.len);
    close(raw_fd);
    close(body_fd);
    return out;
}

/* Renders as text and compares with what is asked for. */
static inline char *fixture_text(struct fixture *f, const struct raw_build *b,
                                 const struct worker_message *job)
{
    struct rendered r = fixture_render(f, b, job);
    ck_assert_msg(r.error == 0, "%s", r.result.message);
    return r.body;
}

static inline Perftools__Profiles__Profile *fixture_profile(struct fixture *f, const struct raw_build *b,
                                                            const struct worker_message *job)
{
    struct rendered r = fixture_render(f, b, job);
    ck_assert_msg(r.error == 0, "%s", r.result.message);
    Perftools__Profiles__Profile *pb = reader_decode((const uint8_t *)r.body, r.result.body.len);
    reader_check(pb);
    free(r.body);
    return pb;
}

/* ---- reading a profile */

static inline const Perftools__Profiles__Location *location_of(const Perftools__Profiles__Profile *pb,
                                                               size_t sample, size_t frame)
{
    ck_assert_uint_lt(sample, pb->n_sample);
    ck_assert_uint_lt(frame, pb->sample[sample]->n_location_id);
    return pb->location[pb->sample[sample]->location_id[frame] - 1];
}

static inline const Perftools__Profiles__Mapping *mapping_of(const Perftools__Profiles__Profile *pb,
                                                             size_t sample, size_t frame)
{
    return pb->mapping[location_of(pb, sample, frame)->mapping_id - 1];
}

/* The name of the innermost function of a frame. */
static inline const char *name_of(const Perftools__Profiles__Profile *pb, size_t sample, size_t frame)
{
    const Perftools__Profiles__Location *l = location_of(pb, sample, frame);
    return l->n_line ? reader_string(pb, pb->function[l->line[0]->function_id - 1]->name) : "";
}

static inline bool has_comment(const Perftools__Profiles__Profile *pb, const char *text)
{
    for (size_t i = 0; i < pb->n_comment; i++)
        if (strcmp(reader_string(pb, pb->comment[i]), text) == 0)
            return true;
    return false;
}

/* The first comment that begins so, or NULL. */
static inline const char *comment_of(const Perftools__Profiles__Profile *pb, const char *prefix)
{
    for (size_t i = 0; i < pb->n_comment; i++)
        if (strncmp(reader_string(pb, pb->comment[i]), prefix, strlen(prefix)) == 0)
            return reader_string(pb, pb->comment[i]);
    return NULL;
}
