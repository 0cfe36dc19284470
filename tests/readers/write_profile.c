/* Writes profiles with a bit of everything into a directory, for readers that are not ours to read. What they hold is known to
 * the tests beside. */
#include <stdio.h>
#include <stdlib.h>

#include "pprof/profile.h"
#include "util/cleanup.h"

static const struct profile_value_type types[] = {{"samples", "count"}, {"cpu", "nanoseconds"}};

static const struct profile_mapping demo = {
    .start = 0x400000, .limit = 0x500000, .offset = 0x1000, .filename = "/usr/bin/demo", .build_id = "00ab12cd",
    .has_functions = true, .has_filenames = true, .has_line_numbers = true, .has_inline_frames = true,
};
static const struct profile_mapping library = {
    .start = 0x7f0000000000, .limit = 0x7f0000100000, .filename = "/usr/lib/lib\xff.so", .has_functions = true,
};
static const struct profile_mapping kernel = {
    .start = 0xffffffff81000000, .limit = 0xffffffff82000000, .filename = "[kernel.kallsyms]", .has_functions = true,
};
static const struct profile_mapping unknown = {.start = 0x10000, .limit = 0x20000, .filename = "//anon"};

static const struct profile_line line_main = {
    .name = "main", .filename = "/src/main.c", .start_line = 10, .line = 12,
};
static const struct profile_line line_spin = {
    .name = "ns::spin(int)", .system_name = "_ZN2ns4spinEi", .filename = "/src/spin.cc", .start_line = 3, .line = 7,
};
static const struct profile_line line_inlined = {
    .name = "ns::tiny()", .system_name = "_ZN2ns4tinyEv", .filename = "/src/tiny.h", .start_line = 1, .line = 2,
};

static _Noreturn void fail(const char *what)
{
    perror(what);
    exit(EXIT_FAILURE);
}

static void write_file(const char *directory, const char *name, const uint8_t *data, size_t len)
{
    char path[4096];
    (void)snprintf(path, sizeof(path), "%s/%s", directory, name);
    AUTO_FCLOSE FILE *file = fopen(path, "we");
    if (!file || fwrite(data, 1, len, file) != len || fflush(file) != 0)
        fail(path);
}

static void write_both(const struct profile *p, const char *directory, const char *pprof, const char *folded)
{
    AUTO_FREE uint8_t *body = NULL, *text = NULL;
    size_t body_len, text_len;
    if (profile_encode_pprof(p, &body, &body_len) < 0 || profile_encode_folded(p, &text, &text_len) < 0)
        fail("encode");
    write_file(directory, pprof, body, body_len);
    write_file(directory, folded, text, text_len);
}

static void add(struct profile *p, const uint64_t *ids, size_t n_ids, int64_t samples, int64_t tid, const char *thread)
{
    struct profile_label labels[] = {
        {.key = "tid", .num = tid}, {.key = "pid", .num = 4711}, {.key = "thread", .str = thread},
    };
    if (profile_sample(p, ids, n_ids, (int64_t[]){samples, samples * 10000000}, labels, 3) < 0)
        fail("profile_sample");
}

static void fill(struct profile *p)
{
    uint64_t m_demo = profile_mapping(p, &demo), m_library = profile_mapping(p, &library);
    uint64_t m_kernel = profile_mapping(p, &kernel), m_unknown = profile_mapping(p, &unknown);
    struct profile_line inlined[] = {line_inlined, line_spin}, nameless = {.name = "lib.so+0x40"};
    struct profile_line syscall = {.name = "do_syscall_64"};
    uint64_t root = profile_location(p, m_demo, 0x400100, &line_main, 1);
    uint64_t spin = profile_location(p, m_demo, 0x400200, inlined, 2);
    uint64_t other_image = profile_location(p, m_demo, 0x400200, &line_main, 1);
    uint64_t in_library = profile_location(p, m_library, 0x7f0000000040, &nameless, 1);
    uint64_t in_kernel = profile_location(p, m_kernel, 0xffffffff81000010, &syscall, 1);
    uint64_t nowhere = profile_location(p, m_unknown, 0x10010, NULL, 0);
    add(p, (uint64_t[]){spin, root}, 2, 60, 100, "worker");
    add(p, (uint64_t[]){spin, root}, 2, 10, 101, "w\x80rker");
    add(p, (uint64_t[]){spin, root}, 2, 5, 100, "worker");
    add(p, (uint64_t[]){in_kernel, in_library, root}, 3, 15, 0, "");
    add(p, (uint64_t[]){other_image}, 1, 7, 100, "worker");
    add(p, (uint64_t[]){nowhere, root}, 2, 3, 100, "worker");
}

static struct profile *new_profile(const char *default_type)
{
    struct profile *p = profile_new(types, 2, default_type);
    if (!p)
        fail("profile_new");
    profile_set_period(p, (struct profile_value_type){"cpu", "nanoseconds"}, 10000000);
    profile_set_time(p, 1800000000000000000, 2000000000);
    (void)profile_comment(p, "cprofd.version=%s", "1.2.3");
    (void)profile_comment(p, "cprofd.lost.ring=%d", 0);
    (void)profile_comment(p, "cprofd.path=%s", "/\xff");
    (void)profile_set_doc_url(p, "https://example.org/cprofd");
    return p;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        (void)fprintf(stderr, "usage: write_profile DIRECTORY\n");
        return EXIT_FAILURE;
    }
    struct profile *p = new_profile(NULL);
    write_both(p, argv[1], "empty.pb.gz", "empty.folded");
    fill(p);
    write_both(p, argv[1], "full.pb.gz", "full.folded");
    profile_free(p);
    p = new_profile("samples");
    fill(p);
    write_both(p, argv[1], "by_samples.pb.gz", "by_samples.folded");
    profile_free(p);
    return EXIT_SUCCESS;
}
