/* The raw profile on both of its sides. The writer owns a memfd that grows section by section until it is
 * sealed; the reader owns a mapping of one, and checks in one pass all that later code relies on, so that
 * nobody behind it needs to ask again whether an index or a length is right. */
#include "daemon/raw_profile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/cleanup.h"

#define RAW_ALIGN 8
#define RAW_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)
#define RAW_COPY_BYTES 65536

static size_t raw_padded(size_t len)
{
    return (len + RAW_ALIGN - 1) & ~(size_t)(RAW_ALIGN - 1);
}

/* ---- writer */

struct raw_writer {
    int fd;
    uint64_t size;
    FILE *facts; /* into facts_data; NULL until there is one */
    char *facts_data;
    size_t facts_len;
};

struct raw_writer *raw_writer_new(void)
{
    struct raw_writer *w = calloc(1, sizeof(*w));
    if (!w)
        return NULL;
    w->fd = memfd_create("cprofd-raw", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (w->fd < 0) {
        free(w);
        return NULL;
    }
    return w;
}

void raw_writer_free(struct raw_writer *w)
{
    if (!w)
        return;
    cleanup_close(&w->fd);
    cleanup_fclose(&w->facts);
    free(w->facts_data);
    free(w);
}

static int raw_writer_put(struct raw_writer *w, const void *data, size_t len)
{
    const uint8_t *bytes = data;

    if (len > RAW_PROFILE_MAX_BYTES - w->size)
        return -EFBIG;
    while (len > 0) {
        ssize_t n = write(w->fd, bytes, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        bytes += n;
        len -= (size_t)n;
        w->size += (size_t)n;
    }
    return 0;
}

int raw_writer_section(struct raw_writer *w, enum raw_section_type type, const void *data, size_t len)
{
    static const uint8_t zeros[RAW_ALIGN];
    struct raw_section section = {.type = type, .len = len};

    if (len > RAW_PROFILE_MAX_BYTES)
        return -EFBIG;
    int r = raw_writer_put(w, &section, sizeof(section));
    if (r == 0)
        r = raw_writer_put(w, data, len);
    if (r == 0)
        r = raw_writer_put(w, zeros, raw_padded(len) - len);
    return r;
}

int raw_writer_fact(struct raw_writer *w, const char *key, const char *fmt, ...)
{
    va_list args;

    if (!w->facts)
        w->facts = open_memstream(&w->facts_data, &w->facts_len);
    if (!w->facts)
        return -ENOMEM;
    fprintf(w->facts, "%s=", key);
    va_start(args, fmt);
    vfprintf(w->facts, fmt, args);
    va_end(args);
    fputc('\0', w->facts);
    return ferror(w->facts) ? -ENOMEM : 0;
}

int raw_writer_finish(struct raw_writer *w)
{
    if (w->facts) {
        if (fflush(w->facts) != 0)
            return -ENOMEM;
        int r = raw_writer_section(w, RAW_FACTS, w->facts_data, w->facts_len);
        if (r < 0)
            return r;
    }
    if (fcntl(w->fd, F_ADD_SEALS, RAW_SEALS | F_SEAL_SEAL) < 0)
        return -errno;
    return TAKE_FD(w->fd);
}

/* ---- reader */

/* The size of a raw profile that can neither change nor shrink under a mapping. */
static int raw_sealed_size(int fd, size_t *ret_size)
{
    struct stat st;
    int seals = fcntl(fd, F_GET_SEALS);

    if (seals < 0 || (seals & RAW_SEALS) != RAW_SEALS)
        return -EBADMSG;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (st.st_size < 0 || (uint64_t)st.st_size > RAW_PROFILE_MAX_BYTES)
        return -EBADMSG;
    *ret_size = (size_t)st.st_size;
    return 0;
}

static int raw_map(int fd, void **ret_data, size_t *ret_len)
{
    size_t len = 0;
    int r = raw_sealed_size(fd, &len);

    if (r < 0)
        return r;
    if (len == 0)
        return -EBADMSG;
    void *data = mmap(NULL, len, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED)
        return -errno;
    *ret_data = data;
    *ret_len = len;
    return 0;
}

/* The section at *pos, and *pos moved behind it. 0; -ENODATA at the end; -EBADMSG. */
static int raw_section_next(const uint8_t *base, size_t size, size_t *pos, const struct raw_section **ret)
{
    if (*pos == size)
        return -ENODATA;
    if (size - *pos < sizeof(struct raw_section))
        return -EBADMSG;
    const struct raw_section *section = (const void *)(base + *pos);
    size_t room = size - *pos - sizeof(*section);
    if (section->len > room || raw_padded(section->len) > room)
        return -EBADMSG;
    *pos += sizeof(*section) + raw_padded(section->len);
    *ret = section;
    return 0;
}

static const void *raw_section_data(const struct raw_section *section)
{
    return section + 1;
}

int raw_writer_append(struct raw_writer *w, int fd)
{
    const struct raw_section *section;
    void *data = NULL;
    size_t len = 0, pos = 0;
    int r = raw_map(fd, &data, &len);

    if (r < 0)
        return r;
    while ((r = raw_section_next(data, len, &pos, &section)) == 0)
        continue;
    r = r == -ENODATA ? raw_writer_put(w, data, len) : r;
    (void)munmap(data, len);
    return r;
}

static bool raw_text_ends(const char *text, size_t cap)
{
    return memchr(text, '\0', cap) != NULL;
}

/* A sample type; symbols have none. */
static bool raw_type_ok(const struct raw_types *types, uint32_t i)
{
    return raw_text_ends(types->type[i], sizeof(types->type[i])) && raw_text_ends(types->unit[i], sizeof(types->unit[i])) &&
           types->type[i][0] && types->unit[i][0];
}

static bool raw_types_ok(const struct raw_params *params)
{
    const struct raw_types *types = &params->types;
    bool ok = types->n <= RAW_MAX_TYPES && (types->n > 0 || params->format == RAW_FORMAT_SYMBOL || raw_format_is_trace(params->format));

    for (uint32_t i = 0; ok && i < types->n; i++)
        ok = raw_type_ok(types, i);
    return ok && raw_text_ends(types->period_type, sizeof(types->period_type)) &&
           raw_text_ends(types->period_unit, sizeof(types->period_unit)) && raw_text_ends(types->default_type, sizeof(types->default_type));
}

static int raw_check_params(const struct raw_section *section, struct raw_params *ret)
{
    if (section->type != RAW_PARAMS || section->len != sizeof(*ret))
        return -EBADMSG;
    memcpy(ret, raw_section_data(section), sizeof(*ret));
    bool ok = raw_types_ok(ret) && ret->format < RAW_FORMAT_END &&
              ret->symbolize <= RAW_SYMBOLIZE_NONE && ret->period >= 0 &&
              raw_text_ends(ret->focus, sizeof(ret->focus)) &&
              raw_text_ends(ret->thread, sizeof(ret->thread));
    return ok ? 0 : -EBADMSG;
}

static size_t raw_copy_len(const void *data, size_t len)
{
    const struct copy_record *copy = data;

    if (len < sizeof(*copy) || copy->n_kernel > CPROFD_MAX_KERNEL_FRAMES || copy->stack_bytes > COPY_MAX_STACK_BYTES)
        return 0;
    size_t need = COPY_RECORD_BYTES(copy->n_kernel, copy->stack_bytes);
    return len >= need ? need : 0;
}

/* The length of the record at the start of data, or 0 where it is none. */
static size_t raw_record_len(const void *data, size_t len)
{
    const struct stack_record *stack = data;

    if (len < sizeof(stack->type))
        return 0;
    if (stack->type == RECORD_SAMPLE)
        return len >= sizeof(struct sample_record) ? sizeof(struct sample_record) : 0;
    if (stack->type == RECORD_COPY)
        return raw_copy_len(data, len);
    if (stack->type == RECORD_TRACE)
        return len >= sizeof(struct trace_record) ? sizeof(struct trace_record) : 0;
    if (stack->type != RECORD_STACK || len < sizeof(*stack))
        return 0;
    if (stack->n_kernel > CPROFD_MAX_KERNEL_FRAMES || stack->n_user > CPROFD_MAX_FRAMES ||
        stack->label_words > LABELS_MAX_WORDS || stack->end >= STACK_END_COUNT)
        return 0;
    size_t need = STACK_RECORD_BYTES(stack);
    return len >= need ? need : 0;
}

const void *raw_record_next(const struct raw_section *section, size_t *pos)
{
    const uint8_t *data = raw_section_data(section);

    if (*pos >= section->len)
        return NULL;
    const void *record = data + *pos;
    *pos += raw_record_len(record, section->len - *pos);
    return record;
}

static int raw_check_records(const struct raw_section *section)
{
    const uint8_t *data = raw_section_data(section);

    for (size_t pos = 0; pos < section->len;) {
        size_t n = raw_record_len(data + pos, section->len - pos);
        if (n == 0)
            return -EBADMSG;
        pos += n;
    }
    return 0;
}

static int raw_add_records(struct raw_profile *p, const struct raw_section *section)
{
    if (p->n_records == RAW_PROFILE_MAX_RECORD_SECTIONS || raw_check_records(section) < 0)
        return -EBADMSG;
    const struct raw_section **grown = reallocarray(p->records, p->n_records + 1, sizeof(*grown));
    if (!grown)
        return -ENOMEM;
    p->records = grown;
    p->records[p->n_records++] = section;
    return 0;
}

/* A section that stands once: an array of items. */
static int raw_take_array(const struct raw_section *section, size_t item_bytes, const void **ret_items,
                          size_t *ret_n)
{
    if (*ret_items || section->len % item_bytes != 0)
        return -EBADMSG;
    *ret_items = raw_section_data(section);
    *ret_n = section->len / item_bytes;
    return 0;
}

static int raw_take_section(struct raw_profile *p, const struct raw_section *section)
{
    switch (section->type) {
    case RAW_RECORDS:
        return raw_add_records(p, section);
    case RAW_COUNTS:
        return raw_take_array(section, sizeof(*p->counts), (const void **)&p->counts, &p->n_counts);
    case RAW_OBJECTS:
        return raw_take_array(section, sizeof(*p->objects), (const void **)&p->objects, &p->n_objects);
    case RAW_MAPPINGS:
        return raw_take_array(section, sizeof(*p->mappings), (const void **)&p->mappings, &p->n_mappings);
    case RAW_STRINGS:
        return raw_take_array(section, 1, (const void **)&p->strings, &p->strings_len);
    case RAW_FACTS:
        return raw_take_array(section, 1, (const void **)&p->facts, &p->facts_len);
    case RAW_ADDRESSES:
        return raw_take_array(section, sizeof(*p->addresses), (const void **)&p->addresses, &p->n_addresses);
    case RAW_GOROUTINES:
        return raw_take_array(section, sizeof(*p->goroutines), (const void **)&p->goroutines, &p->n_goroutines);
    case RAW_LABELS:
        return raw_take_array(section, 1, (const void **)&p->labels, &p->labels_len);
    case RAW_THREADS:
        return raw_take_array(section, sizeof(*p->threads), (const void **)&p->threads, &p->n_threads);
    default:
        return -EBADMSG;
    }
}

static bool raw_threads_ok(const struct raw_thread *threads, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct raw_thread *t = &threads[i];
        if (!raw_text_ends(t->state, sizeof(t->state)) || !raw_text_ends(t->channel, sizeof(t->channel)))
            return false;
        if (i > 0 && threads[i - 1].tid >= t->tid)
            return false;
    }
    return true;
}

/* Every fact is "key=value", and the last one ends. */
static bool raw_facts_ok(const char *facts, size_t len)
{
    if (len > 0 && facts[len - 1] != '\0')
        return false;
    for (size_t pos = 0; pos < len; pos += strlen(facts + pos) + 1)
        if (facts[pos] == '=' || !strchr(facts + pos, '='))
            return false;
    return true;
}

static bool raw_mapping_ok(const struct raw_profile *p, const struct raw_mapping *m)
{
    return m->start < m->end && m->first_epoch <= m->last_epoch &&
           (m->object == RAW_NO_OBJECT ? m->name < p->strings_len || m->name == 0 : m->object < p->n_objects);
}

static int raw_check_references(const struct raw_profile *p)
{
    if (p->strings_len > 0 && (p->strings[0] != '\0' || p->strings[p->strings_len - 1] != '\0'))
        return -EBADMSG;
    if (!raw_facts_ok(p->facts, p->facts_len) || !raw_threads_ok(p->threads, p->n_threads))
        return -EBADMSG;
    for (size_t i = 0; i < p->n_objects; i++)
        if (p->objects[i].path != 0 && p->objects[i].path >= p->strings_len)
            return -EBADMSG;
    for (size_t i = 0; i < p->n_mappings; i++)
        if (!raw_mapping_ok(p, &p->mappings[i]))
            return -EBADMSG;
    return p->n_objects < RAW_NO_OBJECT ? 0 : -EBADMSG;
}

/* The sections from pos on, which all must make sense together. */
static int raw_parse_sections(struct raw_profile p, size_t pos, struct raw_profile *ret)
{
    const struct raw_section *section;
    const void *data = p.base;
    size_t len = p.size;
    int r;

    while ((r = raw_section_next(data, len, &pos, &section)) == 0) {
        r = raw_take_section(&p, section);
        if (r < 0)
            break;
    }
    if (r == -ENODATA)
        r = raw_check_references(&p);
    if (r < 0) {
        free(p.records);
        return r == -ENOMEM ? r : -EBADMSG;
    }
    *ret = p;
    return 0;
}

int raw_profile_parse(const void *data, size_t len, struct raw_profile *ret)
{
    struct raw_profile p = {.base = data, .size = len};
    const struct raw_section *section;
    size_t pos = 0;

    int r = raw_section_next(data, len, &pos, &section);
    if (r < 0 || raw_check_params(section, &p.params) < 0)
        return -EBADMSG;
    return raw_parse_sections(p, pos, ret);
}

static int raw_table_parse(const void *data, size_t len, struct raw_profile *ret)
{
    return raw_parse_sections((struct raw_profile){.base = data, .size = len}, 0, ret);
}

static int raw_open(int fd, int (*parse)(const void *, size_t, struct raw_profile *), struct raw_profile *ret)
{
    void *data = NULL;
    size_t len = 0;
    int r = raw_map(fd, &data, &len);

    if (r < 0)
        return r;
    r = parse(data, len, ret);
    if (r < 0) {
        (void)munmap(data, len);
        return r;
    }
    ret->mapped = true;
    return 0;
}

int raw_profile_open(int fd, struct raw_profile *ret)
{
    return raw_open(fd, raw_profile_parse, ret);
}

int raw_table_open(int fd, struct raw_profile *ret)
{
    return raw_open(fd, raw_table_parse, ret);
}

void raw_profile_close(struct raw_profile *p)
{
    free(p->records);
    p->records = NULL;
    if (p->mapped)
        (void)munmap((void *)p->base, p->size);
    p->mapped = false;
}

const char *raw_profile_string(const struct raw_profile *p, uint64_t offset)
{
    return offset < p->strings_len ? p->strings + offset : "";
}

/* ---- labels */

void raw_labels_begin(const struct raw_profile *p, uint64_t offset, struct raw_labels *ret)
{
    struct raw_label_set set;

    *ret = (struct raw_labels){0};
    if (offset % RAW_ALIGN || offset >= p->labels_len || p->labels_len - offset < sizeof(set))
        return;
    memcpy(&set, p->labels + offset, sizeof(set));
    *ret = (struct raw_labels){p->labels + offset + sizeof(set), p->labels_len - offset - sizeof(set), set.n};
}

bool raw_labels_next(struct raw_labels *labels, struct raw_text *ret_key, struct raw_text *ret_value)
{
    struct raw_label label;

    if (labels->left == 0 || labels->room < sizeof(label))
        return false;
    memcpy(&label, labels->at, sizeof(label));
    size_t len = raw_padded((size_t)label.key_bytes + label.value_bytes);
    if (len > labels->room - sizeof(label))
        return false;
    const char *text = (const char *)labels->at + sizeof(label);
    *ret_key = (struct raw_text){text, label.key_bytes};
    *ret_value = (struct raw_text){text + label.key_bytes, label.value_bytes};
    labels->at += sizeof(label) + len;
    labels->room -= sizeof(label) + len;
    labels->left--;
    return true;
}
