/* The parsers of what /proc says of a target. The first byte of the input chooses one: 's' status, 't' stat, 'm' the lines of maps,
 * 'f' maps as a file, 'h' the first page of a mapped file. What they accept is checked for what their callers rely on. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/mapped_head.h"
#include "daemon/target_maps.h"
#include "daemon/target_status.h"
#include "tests/fuzz/fuzz.h"

static void fuzz_status(const char *text, size_t len)
{
    struct target_status s;
    if (target_status_parse(text, len, &s) == 0)
        FUZZ_CHECK(s.n_groups <= TARGET_MAX_GROUPS && s.state != '\0' && s.tgid >= 0 && s.pid >= 0 && s.namespace_pid >= 0);
}

static void fuzz_stat(const char *text, size_t len)
{
    struct target_stat s;
    if (target_stat_parse(text, len, &s) == 0)
        FUZZ_CHECK(memchr(text, ')', len));
}

static int check_entry(const struct maps_entry *e, void *userdata)
{
    char *decoded = malloc(e->name_len + 1);
    FUZZ_CHECK(e->start < e->end && decoded);
    FUZZ_CHECK(maps_decode_name(e->name, e->name_len, decoded) <= e->name_len);
    free(decoded);
    return 0;
}

static void fuzz_maps_lines(const char *text, size_t len)
{
    for (const char *line = text, *end = text + len; line < end;) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        struct maps_entry e;
        if (!newline)
            newline = end;
        if (maps_parse_line(line, (size_t)(newline - line), &e) == 0)
            (void)check_entry(&e, NULL);
        line = newline + 1;
    }
}

static void fuzz_maps_file(const char *text, size_t len)
{
    int fd = memfd_create("maps", MFD_CLOEXEC);
    if (fd >= 0 && write(fd, text, len) == (ssize_t)len)
        (void)maps_read(fd, check_entry, NULL);
    (void)close(fd);
}

static void fuzz_head(const char *text, size_t len)
{
    struct mapped_head *head = calloc(1, sizeof(*head));
    size_t id_len;

    FUZZ_CHECK(head);
    head->len = len < sizeof(head->bytes) ? len : sizeof(head->bytes);
    memcpy(head->bytes, text, head->len);
    const uint8_t *id = mapped_head_build_id(head, &id_len);
    if (id)
        FUZZ_CHECK(id_len > 0 && id_len <= MAPPED_ID_MAX_BYTES && id > head->bytes && id + id_len <= head->bytes + head->len);
    free(head);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    /* A block of its own size, so that a byte read beyond it is seen; it ends with a NUL that the length does not count, as do
     * the texts that are read from files. */
    size_t len = size - 1;
    char *text = malloc(len + 1);
    FUZZ_CHECK(text);
    memcpy(text, data + 1, len);
    text[len] = '\0';
    switch (data[0]) {
    case 's':
        fuzz_status(text, len);
        break;
    case 't':
        fuzz_stat(text, len);
        break;
    case 'm':
        fuzz_maps_lines(text, len);
        break;
    case 'f':
        fuzz_maps_file(text, len);
        break;
    case 'h':
        fuzz_head(text, len);
        break;
    }
    free(text);
    return 0;
}
