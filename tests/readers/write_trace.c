/* Writes execution traces into a directory, for readers that are not ours to read: of a scheduler whose events are all there, of one
 * whose events get lost, and of chance alone. */
#include <stdio.h>
#include <stdlib.h>

#include "pprof/exec_trace.h"
#include "tests/unit/exec_scene.h"
#include "util/cleanup.h"

static _Noreturn void fail(const char *what)
{
    perror(what);
    exit(EXIT_FAILURE);
}

static void write_file(const char *directory, const char *name, const char *suffix, const uint8_t *data, size_t len)
{
    char path[4096];
    (void)snprintf(path, sizeof(path), "%s/%s.%s", directory, name, suffix);
    AUTO_FCLOSE FILE *file = fopen(path, "we");
    if (!file || fwrite(data, 1, len, file) != len || fflush(file) != 0)
        fail(path);
}

static void write_all(const struct exec_trace *trace, const char *directory, const char *name)
{
    static const struct {
        const char *suffix;
        int (*encode)(const struct exec_order *order, uint8_t **ret_data, size_t *ret_len);
    } formats[] = {{"go", exec_encode_go}, {"perfetto", exec_encode_perfetto}, {"json", exec_encode_chrome}};
    struct exec_order *order;
    if (exec_order_build(trace, &order) < 0)
        fail(name);
    for (size_t i = 0; i < sizeof(formats) / sizeof(*formats); i++) {
        AUTO_FREE uint8_t *data = NULL;
        size_t len;
        if (formats[i].encode(order, &data, &len) < 0)
            fail(name);
        write_file(directory, name, formats[i].suffix, data, len);
    }
    exec_order_free(order);
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: %s DIRECTORY COUNT\n", argv[0]);
        return EXIT_FAILURE;
    }
    AUTO_FREE struct scene *s = malloc(sizeof(*s));
    if (!s)
        fail("memory");
    scene_init(s, 1);
    write_all(&s->trace, argv[1], "empty");
    scene_simulate(s, 3500, 0);
    write_all(&s->trace, argv[1], "whole");
    for (uint64_t i = 1; i <= strtoul(argv[2], NULL, 10); i++) {
        char name[32];
        scene_init(s, i);
        scene_simulate(s, 20 + scene_random(s, 600), scene_random(s, 300));
        (void)snprintf(name, sizeof(name), "lossy%zu", (size_t)i);
        write_all(&s->trace, argv[1], name);
        scene_init(s, i);
        scene_chaos(s, 20 + scene_random(s, 600));
        (void)snprintf(name, sizeof(name), "chaos%zu", (size_t)i);
        write_all(&s->trace, argv[1], name);
    }
    return EXIT_SUCCESS;
}
