/* A .debug_line, .debug_line_str and .debug_str from anybody: two lengths of 16 bits, the two string sections, the rest. */
#include <errno.h>
#include <string.h>

#include "symbolize/line_table.h"
#include "tests/fuzz/fuzz.h"
#include "util/cleanup.h"

#define LOOKUPS 256u

static void check_name(const struct line_sections *sections, const char *name)
{
    const struct line_bytes *all[] = {&sections->line, &sections->line_str, &sections->str};
    if (!name)
        return;
    for (size_t i = 0; i < 3; i++) {
        const char *begin = (const char *)all[i]->bytes;
        if (name >= begin && name < begin + all[i]->n) {
            FUZZ_CHECK(strlen(name) < (size_t)(begin + all[i]->n - name));
            return;
        }
    }
    FUZZ_CHECK(false);
}

static void look_up(const struct line_table *t, uint64_t address)
{
    uint64_t file = UINT64_MAX;
    uint32_t line = 0;
    if (line_table_find(t, address, &file, &line))
        FUZZ_CHECK(file <= UINT32_MAX);
    else
        FUZZ_CHECK(file == UINT64_MAX && line == 0);
}

static void check_table(const struct line_sections *sections, const struct line_table *t)
{
    for (size_t i = 0; i < t->header.n_directories; i++)
        check_name(sections, t->header.directories[i]);
    for (size_t i = 0; i < t->header.n_files; i++)
        check_name(sections, t->header.files[i].name);
    for (size_t i = 1; i < t->n_marks; i++)
        FUZZ_CHECK(t->marks[i - 1].address <= t->marks[i].address);
    FUZZ_CHECK(t->n_marks <= sections->line.n);
    size_t step = t->n_marks / LOOKUPS + 1;
    for (size_t i = 0; i < t->n_marks; i += step) {
        look_up(t, t->marks[i].address);
        look_up(t, t->marks[i].address + 1);
    }
    look_up(t, 0);
    look_up(t, UINT64_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP(line_table_deinit) struct line_table table = {0};
    struct line_sections sections;
    uint16_t lengths[2];
    if (size < sizeof(lengths))
        return 0;
    memcpy(lengths, data, sizeof(lengths));
    data += sizeof(lengths);
    size -= sizeof(lengths);
    if (lengths[0] > size || lengths[1] > size - lengths[0])
        return 0;
    sections.line_str = (struct line_bytes){data, lengths[0]};
    sections.str = (struct line_bytes){data + lengths[0], lengths[1]};
    sections.line = (struct line_bytes){data + lengths[0] + lengths[1], size - lengths[0] - lengths[1]};
    int r = line_table_read(&sections, 0, NULL, &table);
    FUZZ_CHECK(r == 0 || r == -ENOEXEC || r == -ENOMEM);
    if (r == 0)
        check_table(&sections, &table);
    return 0;
}
