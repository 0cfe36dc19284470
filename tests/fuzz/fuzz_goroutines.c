/* Goroutines in the memory of a program that may have been made to deceive, and what is known of such a program, which came from a worker
 * that may have been taken over. The first byte of the input says how it is laid out: the lower half by which release, HAS_CANDIDATES that
 * no symbol says where the list is, IS_CHANGING that memory changes while it is read, HAS_PROGRAM that the length of a program stands
 * behind it, and the program. The rest is memory. */
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/go_job.h"
#include "daemon/goroutines.h"
#include "daemon/raw_profile.h"
#include "tests/fuzz/fuzz.h"
#include "util/cleanup.h"

#define HAS_CANDIDATES 0x10
#define IS_CHANGING 0x20
#define HAS_PROGRAM 0x40

/* Where the corpus has what (tests/unit/go_memory.h). */
#define MEMORY_BASE 0x100000ull
#define MEMORY_MAX_BYTES 32768u
#define BIAS 0x7000000ull
#define TEXT 0x400000ull
#define TEXT_END 0x400f00ull
#define NOW_NS 1000000000000ull

struct memory {
    uint8_t bytes[MEMORY_MAX_BYTES];
    size_t len;
    uint64_t reads;
    bool is_changing;
};

static ssize_t memory_read(void *userdata, uint64_t address, void *to, size_t len)
{
    struct memory *m = userdata;

    m->reads++;
    if (m->is_changing && m->len)
        m->bytes[m->reads * 61 % m->len]++;
    if (address < MEMORY_BASE || address - MEMORY_BASE >= m->len)
        return -EIO;
    size_t room = m->len - (address - MEMORY_BASE), n = len < room ? len : room;
    memcpy(to, m->bytes + (address - MEMORY_BASE), n);
    return (ssize_t)n;
}

static void check_labels(const struct raw_profile *raw, const struct raw_goroutine *g)
{
    struct raw_labels labels;
    struct raw_text key, value;
    size_t n = 0, bytes = 0;

    if (g->labels == RAW_NO_LABELS)
        return;
    raw_labels_begin(raw, g->labels, &labels);
    while (raw_labels_next(&labels, &key, &value)) {
        n++;
        bytes += key.len + value.len;
    }
    FUZZ_CHECK(labels.left == 0 && n <= GOROUTINES_MAX_LABELS && bytes <= GOROUTINES_MAX_LABEL_BYTES);
}

/* What was read of hostile memory is sound in itself: who renders it believes that. */
static void check_read(int fd, const struct goroutine_counts *counts)
{
    struct raw_profile raw;
    size_t n_stacks = 0;

    FUZZ_CHECK(raw_table_open(fd, &raw) == 0);
    FUZZ_CHECK(raw.n_goroutines == counts->read && counts->listed == counts->dead + counts->read + counts->unread);
    for (size_t i = 0; i < raw.n_records; i++)
        for (size_t pos = 0; raw_record_next(raw.records[i], &pos);)
            n_stacks++;
    FUZZ_CHECK(n_stacks <= counts->read);
    for (size_t i = 0; i < raw.n_goroutines; i++)
        check_labels(&raw, &raw.goroutines[i]);
    raw_profile_close(&raw);
}

static void read_all(struct memory *m, const struct go_runtime *runtime, const void *image)
{
    const struct goroutine_source source = {.read = memory_read, .userdata = m, .runtime = runtime, .bias = BIAS, .image = image};
    struct raw_writer *w = raw_writer_new();
    struct goroutine_counts counts;

    FUZZ_CHECK(w);
    if (goroutines_read(&source, NOW_NS, 1, w, &counts) == 0) {
        AUTO_CLOSE int fd = raw_writer_finish(w);
        FUZZ_CHECK(fd >= 0);
        check_read(fd, &counts);
    }
    raw_writer_free(w);
}

static bool runtime_of_release(uint8_t how, struct go_runtime *ret)
{
    static const char *const versions[] = {"go1.26", "go1.24", "go1.23", "go1.21", "go1.19"};
    enum go_labels labels = GO_LABELS_UNKNOWN;

    *ret = (struct go_runtime){.text = TEXT, .goexit = {TEXT_END, TEXT_END + 16}, .injected = {{TEXT + 0x80, TEXT + 0x90}}, .n_injected = 1};
    if (!go_layout_known(versions[(how & 0xf) % (sizeof(versions) / sizeof(versions[0]))], &ret->layout, &labels, &ret->reasons))
        return false;
    ret->labels = labels;
    if (how & HAS_CANDIDATES) {
        ret->n_candidates = GO_MAX_CANDIDATES;
        for (uint32_t i = 0; i < GO_MAX_CANDIDATES; i++)
            ret->candidates[i] = MEMORY_BASE - BIAS + i * GO_WORD_BYTES;
    } else {
        ret->allglen = MEMORY_BASE - BIAS + GO_WORD_BYTES;
        ret->allgptr = MEMORY_BASE - BIAS + 2 * GO_WORD_BYTES;
    }
    FUZZ_CHECK(go_runtime_is_sound(ret));
    return true;
}

static int read_program(const uint8_t *data, size_t len, struct go_program *ret)
{
    AUTO_CLOSE int fd = memfd_create("program", MFD_CLOEXEC);

    FUZZ_CHECK(fd >= 0 && write(fd, data, len) == (ssize_t)len);
    return go_program_read(fd, ret);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct memory m;
    struct go_program program = {0};
    uint32_t program_len = 0;

    if (size < 1 + sizeof(program_len))
        return 0;
    uint8_t how = data[0];
    size_t at = 1;
    if (how & HAS_PROGRAM) {
        memcpy(&program_len, data + at, sizeof(program_len));
        at += sizeof(program_len);
        if (program_len > size - at || read_program(data + at, program_len, &program) < 0)
            return 0;
        at += program_len;
    } else if (!runtime_of_release(how, &program.runtime)) {
        return 0;
    }
    m = (struct memory){.len = size - at < sizeof(m.bytes) ? size - at : sizeof(m.bytes), .is_changing = how & IS_CHANGING};
    memcpy(m.bytes, data + at, m.len);
    read_all(&m, &program.runtime, program.image);
    go_program_deinit(&program);
    return 0;
}
