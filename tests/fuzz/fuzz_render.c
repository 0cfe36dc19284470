/* The reader of raw profiles and the renderer behind it. The input describes a raw profile, so that mutations
 * get past its checks: a byte of formats, then chunks (type, 16 bits of length, content):
 *
 *   'k' a stack: numbers of kernel and user frames, end, hash (a byte each), then its frames
 *   'c' counts: hash, tid, epoch, samples (a byte each)...
 *   'l' the same, as a record that came late
 *   'p' a copy: numbers of kernel frames and stack words, tid, epoch, samples, known registers (a byte each), then words of frames and stack
 *   'e' a trace's format, then events: type, state, CPU, time, thread, actor, system call, epoch, stack's hash (a byte each)...
 *   'w' a text's format (bit 0), then threads of a dump: tid, seconds, state, channel (a byte each)...
 *   'o' objects: a byte each, the offset of the path
 *   'm' mappings: start, end, offset, first and last epoch, object, name (a byte each; addresses are in
 * pages)... 't' strings, 'f' facts, 'a' addresses: as they are 'x' then changes bytes of the finished raw
 * profile: offset (16 bits), what to xor... */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/raw_profile.h"
#include "daemon/render.h"
#include "tests/fuzz/fuzz.h"

#define MAX_RAW_BYTES 65536
#define MAX_SECTION_BYTES 8192
#define PAGE 4096u

struct raw {
    uint64_t words[MAX_RAW_BYTES / 8];
    size_t len;
};

static void put(struct raw *raw, enum raw_section_type type, const void *data, size_t len)
{
    struct raw_section section = {.type = type, .len = len};
    size_t padded = (len + 7) & ~(size_t)7;

    if (raw->len + sizeof(section) + padded > MAX_RAW_BYTES)
        return;
    memcpy((char *)raw->words + raw->len, &section, sizeof(section));
    memcpy((char *)raw->words + raw->len + sizeof(section), data, len);
    raw->len += sizeof(section) + padded;
}

static void put_stack(struct raw *raw, const uint8_t *data, size_t len)
{
    uint64_t words[sizeof(struct stack_record) / 8 + 32] = {0};
    struct stack_record *stack = (struct stack_record *)words;

    if (len < 4)
        return;
    stack->type = RECORD_STACK;
    stack->n_kernel = data[0] % 8;
    stack->n_user = data[1] % 8;
    stack->label_words = data[0] / 16;
    stack->label_state = data[1] / 64;
    stack->end = data[2] % STACK_END_COUNT;
    stack->stack_hash[0] = data[3];
    size_t frames = (stack->n_kernel + stack->n_user + stack->label_words) * 8u;
    memcpy(stack->frames, data + 4, len - 4 < frames ? len - 4 : frames);
    put(raw, RAW_RECORDS, stack, sizeof(*stack) + frames);
}

static struct raw_count count_of(const uint8_t *data)
{
    struct raw_count count = {.key = {.tid = data[1], .tgid = 1, .epoch = data[2], .comm = "fuzz"}};

    count.key.stack_hash[0] = data[0];
    count.value.samples = data[3] == 255 ? UINT64_MAX : data[3];
    count.value.weight = count.value.samples;
    return count;
}

static void put_counts(struct raw *raw, const uint8_t *data, size_t len)
{
    static struct raw_count counts[MAX_SECTION_BYTES / sizeof(struct raw_count)];
    size_t n = 0;

    for (; len >= 4 && n < sizeof(counts) / sizeof(counts[0]); data += 4, len -= 4)
        counts[n++] = count_of(data);
    put(raw, RAW_COUNTS, counts, n * sizeof(counts[0]));
}

static void put_late(struct raw *raw, const uint8_t *data, size_t len)
{
    for (; len >= 4; data += 4, len -= 4) {
        struct raw_count count = count_of(data);
        struct sample_record record = {.type = RECORD_SAMPLE, .key = count.key, .value = count.value};
        put(raw, RAW_RECORDS, &record, sizeof(record));
    }
}

static void put_copy(struct raw *raw, const uint8_t *data, size_t len)
{
    uint64_t words[sizeof(struct copy_record) / 8 + 64] = {0};
    struct copy_record *copy = (struct copy_record *)words;

    if (len < 6)
        return;
    *copy = (struct copy_record){.type = RECORD_COPY, .n_kernel = data[0] % 8, .machine = data[5] & 1 ? 62 : 183, .stack_bytes = data[1] % 56 * 8,
                                 .known = data[5] ? UINT64_MAX : 0, .key = {.tid = data[2], .tgid = 1, .epoch = data[3]},
                                 .value = {data[4], data[4]}};
    for (unsigned i = 0; i < COPY_REGISTERS; i++)
        copy->registers[i] = i * PAGE;
    copy->stack_base = copy->registers[data[5] & 1 ? 7 : 31];
    size_t room = (copy->n_kernel + data[1] % 56) * 8u;
    memcpy(copy->data, data + 6, len - 6 < room ? len - 6 : room);
    put(raw, RAW_RECORDS, copy, sizeof(*copy) + room);
}

static void put_events(struct raw *raw, const uint8_t *data, size_t len)
{
    struct raw_params *params = (struct raw_params *)((char *)raw->words + sizeof(struct raw_section));

    if (len == 0)
        return;
    params->format = RAW_FORMAT_TRACE_GO + data[0] % 3;
    params->end_monotonic_ns = params->end_target_ns = 200;
    params->duration_ns = 150;
    for (data++, len--; len >= 9; data += 9, len -= 9) {
        struct trace_record event = {.type = RECORD_TRACE, .event = data[0], .state = data[1], .cpu = data[2] == 255 ? 9000 : data[2],
                                     .time_ns = data[3], .tid = data[4], .actor = data[5], .syscall = data[6] - 1, .epoch = data[7],
                                     .stack_hash = {data[8]}, .comm = "fuzz\xff"};
        put(raw, RAW_RECORDS, &event, sizeof(event));
    }
}

static void put_threads(struct raw *raw, const uint8_t *data, size_t len)
{
    struct raw_params *params = (struct raw_params *)((char *)raw->words + sizeof(struct raw_section));
    static struct raw_thread threads[256];
    size_t n = 0;

    if (len == 0)
        return;
    params->format = data[0] & 1 ? RAW_FORMAT_COUNTS : RAW_FORMAT_STACKS;
    for (data++, len--; len >= 4 && n < 256; data += 4, len -= 4)
        threads[n++] = (struct raw_thread){.tid = data[0], .wait_ns = data[1] * 1000000000ull, .state = {(char)data[2]}, .channel = {(char)data[3]}};
    put(raw, RAW_THREADS, threads, n * sizeof(threads[0]));
}

static void put_objects(struct raw *raw, const uint8_t *data, size_t len)
{
    static struct raw_object objects[256];
    size_t n = len < 256 ? len : 256;

    for (size_t i = 0; i < n; i++)
        objects[i] = (struct raw_object){.path = data[i], .available = data[i] & 1, .id.ino = data[i], .error = -(int32_t)data[i],
                                           .build_id_len = data[i] / 2};
    put(raw, RAW_OBJECTS, objects, n * sizeof(objects[0]));
}

static void put_mappings(struct raw *raw, const uint8_t *data, size_t len)
{
    static struct raw_mapping mappings[MAX_SECTION_BYTES / sizeof(struct raw_mapping)];
    size_t n = 0;

    for (; len >= 7 && n < sizeof(mappings) / sizeof(mappings[0]); data += 7, len -= 7)
        mappings[n++] = (struct raw_mapping){
            .start = data[0] * PAGE,
            .end = data[1] * PAGE,
            .offset = data[2] * PAGE,
            .first_epoch = data[3],
            .last_epoch = data[4] == 255 ? UINT32_MAX : data[4],
            .object = data[5] == 255 ? RAW_NO_OBJECT : data[5],
            .name = data[6],
            .main_binary = data[6] & 1,
        };
    put(raw, RAW_MAPPINGS, mappings, n * sizeof(mappings[0]));
}

static void put_params(struct raw *raw, uint8_t flags)
{
    struct raw_params params = {
        .format = flags & 3,
        .symbolize = (flags >> 2) % 3,
        .cpu_clock = flags >> 4 & 1,
        .period = flags >> 5 & 1,
        .types = {.type = {"samples", "cpu"}, .unit = {"count", "nanoseconds"}, .n = 2, .period_type = "cpu", .period_unit = "nanoseconds"},
        .tid = flags >> 6 & 1,
    };
    if (flags >> 7)
        strcpy(params.focus, "0x[0-9]");
    put(raw, RAW_PARAMS, &params, sizeof(params));
}

static void change(struct raw *raw, const uint8_t *data, size_t len)
{
    for (; len >= 3; data += 3, len -= 3)
        ((uint8_t *)raw->words)[(data[0] | data[1] << 8) % raw->len] ^= data[2];
}

static void put_chunk(struct raw *raw, uint8_t type, const uint8_t *data, size_t len)
{
    switch (type) {
    case 'k':
        put_stack(raw, data, len);
        break;
    case 'c':
        put_counts(raw, data, len);
        break;
    case 'p':
        put_copy(raw, data, len);
        break;
    case 'l':
        put_late(raw, data, len);
        break;
    case 'e':
        put_events(raw, data, len);
        break;
    case 'w':
        put_threads(raw, data, len);
        break;
    case 'o':
        put_objects(raw, data, len);
        break;
    case 'm':
        put_mappings(raw, data, len);
        break;
    case 't':
        put(raw, RAW_STRINGS, data, len);
        break;
    case 'f':
        put(raw, RAW_FACTS, data, len);
        break;
    case 'a':
        put(raw, RAW_ADDRESSES, data, len & ~(size_t)7);
        break;
    case 'x':
        change(raw, data, len);
        break;
    }
}

static int no_file(void *userdata, struct worker_message *need, int *ret_fd)
{
    return -2; /* -ENOENT */
}

static void no_touch(void *userdata, uint32_t object) {}

static void render(const struct raw_profile *p)
{
    static const struct render_ops ops = {no_file, no_touch};
    static const struct worker_message job = {
        .u.job = {.n_excluded = 1, .excluded = {1}, .blame = {WORKER_BLAME_CRASH}}};
    struct renderer *r = renderer_new(&ops, NULL, 1 << 20);
    struct render_result result;
    int out = memfd_create("body", MFD_CLOEXEC);

    FUZZ_CHECK(r && out >= 0);
    int e = renderer_render(r, p, &job, out, &result);
    FUZZ_CHECK(e == 0 || result.message[0]);
    FUZZ_CHECK(e < 0 || (uint64_t)lseek(out, 0, SEEK_END) == result.body.len);
    renderer_trim(r);
    renderer_free(r);
    (void)close(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct raw raw;
    struct raw_profile p;

    if (size == 0)
        return 0;
    memset(&raw, 0, sizeof(raw));
    put_params(&raw, data[0]);
    for (size_t at = 1; size - at >= 3;) {
        size_t len = (size_t)(data[at + 1] | data[at + 2] << 8), left = size - at - 3;
        len = len < left ? len : left;
        put_chunk(&raw, data[at], data + at + 3, len < MAX_SECTION_BYTES ? len : MAX_SECTION_BYTES);
        at += 3 + len;
    }
    /* A block of its own size, so that a byte read beyond it is seen. */
    void *exact = malloc(raw.len);
    FUZZ_CHECK(exact);
    memcpy(exact, raw.words, raw.len);
    if (raw_profile_parse(exact, raw.len, &p) == 0) {
        p.params.thread[0] = '\0';
        if (p.params.focus[0])
            strcpy(p.params.focus, "0x[0-9]"); /* the C library's expressions are not what is tried here */
        render(&p);
        raw_profile_close(&p);
    }
    free(exact);
    return 0;
}
