/* Two looks at a dump. The first goes through all records, without the code in them, and keeps what covers an address that is
 * wanted; whenever that is too much, what is covered by something newer is dropped. Then names, files and lines are read of what is
 * left, newest first; for code that was moved, a second pass looks for the record that loaded it. Owns its buffers for the time of the
 * call. */
#include "symbolize/jitdump.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "symbolize/code_names.h"
#include "symbolize/jitdump_format.h"
#include "symbolize/jitdump_lines.h"
#include "util/cleanup.h"
#include "util/clock.h"

/* Heads of small records come several at once; what a large one holds is skipped. */
#define JITDUMP_BUFFER_BYTES 16384u
#define JITDUMP_MAX_HEADER_BYTES 4096u
#define JITDUMP_MAX_DEBUG_BYTES (4u << 20)
#define JITDUMP_CLOCK_RECORDS 1024 /* so many between looks at the clock */
/* Kept pieces of code beyond twice the number of addresses. */
#define JITDUMP_SPARE_CODES 65536u
/* V8 marks its dumps so, and adds to each address in its lines the size of the ELF header that "perf inject" puts before the code. */
#define JITDUMP_PAD_V8 0xDEADBEEFu
#define JITDUMP_BIAS_V8 0x40

struct jitdump_debug {
    uint64_t code_addr, n_entries;
    uint64_t offset, len; /* of the entries in the file; offset 0: there are none */
};

/* Code at an address from a time on. */
struct jitdump_code {
    uint64_t start, size, timestamp;
    uint64_t record;    /* its own in the file */
    uint64_t load;      /* the one that has its name, or 0: not known yet */
    uint64_t load_addr; /* where the code was then */
    uint64_t index;
    struct jitdump_debug debug;
};

struct jitdump {
    int fd;
    uint64_t size, first; /* of the file; the first record */
    struct code_names *names;
    const struct jitdump_options *options;
    struct jitdump_result *result;
    struct jitdump_code *codes;
    size_t n, room;
    struct jitdump_debug debug; /* of what is loaded next */
    uint64_t least_bias;        /* how far from its code's start the first line of any code is */
    bool by_v8;
    uint64_t buffer_at;
    size_t buffer_len;
    uint8_t buffer[JITDUMP_BUFFER_BYTES];
};

/* ---- the file */

static int jitdump_pread(int fd, void *data, size_t len, uint64_t offset)
{
    for (size_t have = 0; have < len;) {
        ssize_t n = pread(fd, (char *)data + have, len - have, (off_t)(offset + have));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -ENODATA;
        have += (size_t)n;
    }
    return 0;
}

/* Copies a few bytes that are known to lie in the file. */
static int jitdump_head(struct jitdump *d, uint64_t offset, void *data, size_t len)
{
    if (offset < d->buffer_at || offset + len > d->buffer_at + d->buffer_len) {
        size_t want = d->size - offset < sizeof(d->buffer) ? (size_t)(d->size - offset) : sizeof(d->buffer);
        d->buffer_len = 0;
        int r = jitdump_pread(d->fd, d->buffer, want, offset);
        if (r < 0)
            return r;
        d->buffer_at = offset;
        d->buffer_len = want;
    }
    memcpy(data, d->buffer + (offset - d->buffer_at), len);
    return 0;
}

static int jitdump_open(struct jitdump *d)
{
    struct jitdump_header h;
    struct stat st;

    if (fstat(d->fd, &st) < 0)
        return -errno;
    d->size = (uint64_t)st.st_size;
    if (d->size < sizeof(h))
        return -ENOEXEC;
    int r = jitdump_head(d, 0, &h, sizeof(h));
    if (r < 0)
        return r;
    if (h.magic == JITDUMP_MAGIC_SWAPPED)
        return -ENOTSUP; /* of another machine: no process here wrote it */
    if (h.magic != JITDUMP_MAGIC || h.total_size < sizeof(h) || h.total_size > JITDUMP_MAX_HEADER_BYTES)
        return -ENOEXEC;
    if (h.version != JITDUMP_VERSION)
        return -ENOTSUP;
    if (h.pid != d->options->pid)
        return -ESRCH;
    if (d->size > JITDUMP_MAX_BYTES)
        return -EFBIG;
    d->first = h.total_size;
    d->by_v8 = h.pad1 == JITDUMP_PAD_V8;
    d->result->other_clock = h.flags & JITDUMP_ARCH_TIMESTAMP;
    return 0;
}

/* ---- records */

static size_t jitdump_fixed_bytes(uint32_t type)
{
    switch (type) {
    case JITDUMP_LOAD:
        return sizeof(struct jitdump_load);
    case JITDUMP_MOVE:
        return sizeof(struct jitdump_move);
    case JITDUMP_DEBUG_INFO:
        return sizeof(struct jitdump_debug_info);
    default:
        return sizeof(struct jitdump_record);
    }
}

/* Calls fn for each record whose fixed part is there, up to end. */
static int jitdump_scan(struct jitdump *d, uint64_t end,
                        int (*fn)(struct jitdump *d, uint64_t offset, const struct jitdump_record *record))
{
    struct jitdump_record record;
    uint64_t n = 0;

    for (uint64_t offset = d->first; offset + sizeof(record) <= end; offset += record.total_size) {
        if (n++ % JITDUMP_CLOCK_RECORDS == 0 && monotonic_ns() > d->options->deadline_ns)
            return -ETIMEDOUT;
        int r = jitdump_head(d, offset, &record, sizeof(record));
        if (r < 0)
            return r;
        d->result->malformed = record.total_size < jitdump_fixed_bytes(record.type);
        if (d->result->malformed || record.total_size > d->size - offset)
            break;
        r = fn(d, offset, &record);
        if (r < 0)
            return r;
    }
    return 0;
}

/* True where a record of code at an address and a time counts at all. */
static bool jitdump_counts(struct jitdump *d, const struct jitdump_record *record, uint64_t start, uint64_t size)
{
    uint64_t last;

    if (!d->result->other_clock && d->options->end_ns && record->timestamp > d->options->end_ns) {
        d->result->later++;
        return false;
    }
    return size > 0 && !__builtin_add_overflow(start, size - 1, &last) &&
           code_names_unnamed(d->names, start, size) < code_names_count(d->names);
}

/* Newest first. */
static int jitdump_compare(const void *va, const void *vb)
{
    const struct jitdump_code *a = va, *b = vb;

    if (a->timestamp != b->timestamp)
        return a->timestamp > b->timestamp ? -1 : 1;
    return a->record > b->record ? -1 : a->record < b->record;
}

/* Leaves, newest first, what is the newest at some address. */
static int jitdump_keep_newest(struct jitdump *d)
{
    struct code_names *seen = code_names_new(code_names_addresses(d->names), code_names_count(d->names));
    size_t kept = 0;

    if (!seen)
        return -ENOMEM;
    if (d->n > 0)
        qsort(d->codes, d->n, sizeof(*d->codes), jitdump_compare);
    for (size_t i = 0; i < d->n; i++) {
        struct jitdump_code code = d->codes[i];
        if (code_names_unnamed(seen, code.start, code.size) == code_names_count(seen))
            continue;
        (void)code_names_claim(seen, code.start, code.size, NULL, 0); /* without a name it can't fail */
        d->codes[kept++] = code;
    }
    d->n = kept;
    code_names_free(seen);
    return 0;
}

static int jitdump_add(struct jitdump *d, struct jitdump_code code)
{
    size_t most = 2 * code_names_count(d->names) + JITDUMP_SPARE_CODES;

    if (d->n == most) {
        int r = jitdump_keep_newest(d);
        if (r < 0)
            return r;
    }
    if (d->n == d->room) {
        size_t room = d->room ? d->room * 2 : 256;
        struct jitdump_code *codes = reallocarray(d->codes, room < most ? room : most, sizeof(*codes));
        if (!codes)
            return -ENOMEM;
        d->codes = codes;
        d->room = room < most ? room : most;
    }
    if (d->result->other_clock)
        code.timestamp = 0;
    d->codes[d->n++] = code;
    return 0;
}

static int jitdump_on_load(struct jitdump *d, uint64_t offset)
{
    struct jitdump_debug debug = d->debug;
    struct jitdump_load load;
    int r = jitdump_head(d, offset, &load, sizeof(load));

    d->debug = (struct jitdump_debug){0};
    if (r < 0 || !jitdump_counts(d, &load.record, load.code_addr, load.code_size))
        return r;
    if (debug.code_addr != load.code_addr)
        debug = (struct jitdump_debug){0};
    return jitdump_add(d, (struct jitdump_code){.start = load.code_addr, .size = load.code_size, .timestamp = load.record.timestamp,
                                                .record = offset, .load = offset, .load_addr = load.code_addr,
                                                .index = load.code_index, .debug = debug});
}

static int jitdump_on_move(struct jitdump *d, uint64_t offset)
{
    struct jitdump_move move;
    int r = jitdump_head(d, offset, &move, sizeof(move));

    if (r < 0 || !jitdump_counts(d, &move.record, move.new_code_addr, move.code_size))
        return r;
    return jitdump_add(d, (struct jitdump_code){.start = move.new_code_addr, .size = move.code_size,
                                                .timestamp = move.record.timestamp, .record = offset, .index = move.code_index});
}

static int jitdump_on_debug_info(struct jitdump *d, uint64_t offset, const struct jitdump_record *record)
{
    struct jitdump_debug_info info;
    uint64_t len = record->total_size - sizeof(info), first;
    int r = jitdump_head(d, offset, &info, sizeof(info));

    d->debug = (struct jitdump_debug){0};
    if (r < 0 || len < sizeof(struct jitdump_debug_entry))
        return r;
    d->debug = (struct jitdump_debug){
        .code_addr = info.code_addr, .n_entries = info.n_entries, .offset = offset + sizeof(info), .len = len};
    r = jitdump_head(d, d->debug.offset, &first, sizeof(first));
    if (r == 0 && first - info.code_addr < d->least_bias)
        d->least_bias = first - info.code_addr;
    return r;
}

static int jitdump_on_record(struct jitdump *d, uint64_t offset, const struct jitdump_record *record)
{
    d->result->records++;
    switch (record->type) {
    case JITDUMP_LOAD:
        return jitdump_on_load(d, offset);
    case JITDUMP_MOVE:
        return jitdump_on_move(d, offset);
    case JITDUMP_DEBUG_INFO:
        return jitdump_on_debug_info(d, offset, record);
    }
    return 0; /* the end, unwinding tables, and what later versions may add */
}

/* ---- code that was moved */

/* What was loaded with an index last before it was moved is what was moved. */
static int jitdump_on_moved_load(struct jitdump *d, uint64_t offset, const struct jitdump_record *record)
{
    struct jitdump_debug debug = d->debug;
    struct jitdump_load load;

    if (record->type == JITDUMP_DEBUG_INFO)
        return jitdump_on_debug_info(d, offset, record);
    if (record->type != JITDUMP_LOAD)
        return 0;
    int r = jitdump_head(d, offset, &load, sizeof(load));
    d->debug = (struct jitdump_debug){0};
    for (size_t i = 0; r == 0 && i < d->n; i++) {
        struct jitdump_code *code = &d->codes[i];
        if (code->load == code->record || code->index != load.code_index || offset > code->record)
            continue;
        code->load = offset;
        code->load_addr = load.code_addr;
        code->debug = debug.code_addr == load.code_addr ? debug : (struct jitdump_debug){0};
    }
    return r;
}

static int jitdump_find_moved(struct jitdump *d)
{
    struct jitdump_result result = *d->result;
    uint64_t end = 0;

    for (size_t i = 0; i < d->n; i++)
        if (d->codes[i].load == 0 && d->codes[i].record > end)
            end = d->codes[i].record;
    if (end == 0)
        return 0;
    d->debug = (struct jitdump_debug){0};
    int r = jitdump_scan(d, end, jitdump_on_moved_load);
    *d->result = result;
    return r;
}

/* ---- names and lines */

static void jitdump_set_lines(struct jitdump *d, const struct jitdump_code *code, const struct jitdump_lines *lines)
{
    const uint64_t *addresses = code_names_addresses(d->names), end = code->start + code->size;
    size_t n = code_names_count(d->names);

    for (size_t i = code_names_unnamed(d->names, code->start, code->size); i < n;) {
        uint64_t after = addresses[i] + 1;
        const struct jitdump_line *line = jitdump_lines_find(lines, addresses[i] - code->start + code->load_addr);
        if (line && line->line > 0 && code_names_set_line(d->names, i, line->filename, line->line) < 0)
            return; /* the name still has a chance */
        i = after != end ? code_names_unnamed(d->names, after, end - after) : n;
    }
}

/* Files and lines of what a piece of code is about to name. 0, -ENOMEM or -errno of the file. */
static int jitdump_read_lines(struct jitdump *d, const struct jitdump_code *code)
{
    const struct jitdump_debug *debug = &code->debug;
    uint64_t bias = d->by_v8 && d->least_bias != UINT64_MAX && d->least_bias >= JITDUMP_BIAS_V8 ? JITDUMP_BIAS_V8 : 0;
    struct jitdump_lines lines;

    if (!d->options->lines || debug->offset == 0 || debug->len > JITDUMP_MAX_DEBUG_BYTES)
        return 0;
    AUTO_FREE char *data = malloc(debug->len);
    if (!data)
        return -ENOMEM;
    int r = jitdump_pread(d->fd, data, debug->len, debug->offset);
    if (r == 0)
        r = jitdump_lines_parse(data, debug->len, debug->n_entries, code->load_addr, code->size, bias, &lines);
    if (r == -EBADMSG)
        return 0;
    if (r < 0)
        return r;
    jitdump_set_lines(d, code, &lines);
    jitdump_lines_deinit(&lines);
    return 0;
}

/* name has room for the longest. */
static int jitdump_name(struct jitdump *d, const struct jitdump_code *code, char *name)
{
    struct jitdump_load load;

    if (code->load == 0) /* moved, and never loaded: not known, but what was there before is gone */
        return code_names_claim(d->names, code->start, code->size, NULL, 0);
    int r = jitdump_head(d, code->load, &load, sizeof(load));
    if (r < 0)
        return r;
    size_t most = d->size - code->load - sizeof(load), len;
    if (load.record.total_size - sizeof(load) < most)
        most = load.record.total_size - sizeof(load);
    most = most < CODE_NAME_MAX_BYTES + 1 ? most : CODE_NAME_MAX_BYTES + 1;
    r = jitdump_pread(d->fd, name, most, code->load + sizeof(load));
    if (r < 0)
        return r;
    len = strnlen(name, most);
    bool named = len > 0 && len < most;
    r = named ? jitdump_read_lines(d, code) : 0;
    return r < 0 ? r : code_names_claim(d->names, code->start, code->size, named ? name : NULL, len);
}

static int jitdump_name_all(struct jitdump *d)
{
    AUTO_FREE char *name = malloc(CODE_NAME_MAX_BYTES + 1);
    int r = name ? 0 : -ENOMEM;

    for (size_t i = 0; r == 0 && i < d->n; i++) {
        if (i % JITDUMP_CLOCK_RECORDS == 0 && monotonic_ns() > d->options->deadline_ns)
            return -ETIMEDOUT;
        r = jitdump_name(d, &d->codes[i], name);
    }
    return r;
}

int jitdump_read(int fd, struct code_names *names, const struct jitdump_options *options, struct jitdump_result *ret)
{
    AUTO_FREE struct jitdump *d = calloc(1, sizeof(*d));

    *ret = (struct jitdump_result){0};
    if (!d)
        return -ENOMEM;
    *d = (struct jitdump){.fd = fd, .names = names, .options = options, .result = ret, .least_bias = UINT64_MAX};
    int r = jitdump_open(d);
    if (r == 0)
        r = jitdump_scan(d, d->size, jitdump_on_record);
    if (r == 0)
        r = jitdump_keep_newest(d);
    if (r == 0)
        r = jitdump_find_moved(d);
    if (r == 0)
        r = jitdump_name_all(d);
    free(d->codes);
    return r;
}
