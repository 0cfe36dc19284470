/* The labels that threads had given themselves (include/cprofd/labels.h), from behind their stacks to those of samples. What a program published is
 * believed as far as it goes: a set that is not made as one is shown as none, and said to be. */
#include "daemon/render_labels.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "daemon/render_job.h"
#include "pprof/utf8.h"

/* Keys that samples have from us, or may have one day. */
static bool is_our_key(const char *key)
{
    static const char *const keys[] = {"", "pid", "tid", "thread", "state"};

    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        if (strcmp(key, keys[i]) == 0)
            return true;
    return strncmp(key, "cprofd.", strlen("cprofd.")) == 0;
}

/* Text of any bytes: what is no UTF-8, could end a line or move a terminal's cursor becomes a question mark each. */
static char *put_text(struct render_labels *labels, const uint8_t *bytes, size_t n)
{
    char *text = labels->text + labels->text_bytes;

    assert(labels->text_bytes + n + 1 <= sizeof(labels->text));
    for (size_t i = 0; i < n; i++)
        text[i] = (char)(bytes[i] < ' ' || bytes[i] == 0x7f ? '?' : bytes[i]);
    for (size_t valid = 0; (valid += utf8_valid_prefix(text + valid, n - valid)) < n;)
        text[valid] = '?';
    text[n] = '\0';
    labels->text_bytes += n + 1;
    return text;
}

/* The place of a key's label: no reader takes one twice, and of several objects' the last, a library's rather than the program's, counts. NULL: there
 * is no room. */
static struct profile_label *label_of(struct render_labels *labels, const char *key)
{
    for (size_t i = 0; i < labels->n; i++)
        if (strcmp(labels->list[i].key, key) == 0)
            return &labels->list[i];
    if (labels->n == RENDER_MAX_LABELS)
        return NULL;
    labels->list[labels->n] = (struct profile_label){.key = key};
    return &labels->list[labels->n++];
}

static void add_label(struct render_labels *labels, const uint8_t *pair, size_t n)
{
    size_t key_bytes = strnlen((const char *)pair, n);
    size_t prefix_bytes = strlen(RENDER_LABELS_PREFIX);
    char *start = labels->text + labels->text_bytes;

    memcpy(start, RENDER_LABELS_PREFIX, prefix_bytes);
    labels->text_bytes += prefix_bytes;
    char *key = put_text(labels, pair, key_bytes);
    const char *value = put_text(labels, pair + key_bytes + 1, n - key_bytes - 1);
    struct profile_label *label = label_of(labels, is_our_key(key) ? start : key);
    if (label)
        label->str = value;
    else
        labels->left_out = true;
}

/* The entry at *at: its bytes, or NULL where it is none. */
static const uint8_t *next_entry(const uint8_t *entries, size_t n, size_t *at, size_t *ret_bytes)
{
    const uint8_t *entry = entries + *at;

    if (n - *at < 2 || n - *at - 2 < entry[1])
        return NULL;
    *ret_bytes = entry[1];
    *at += 2u + entry[1];
    bool lost = entry[0] == LABELS_ENTRY_LOST && entry[1] == 2;
    bool pair = entry[0] == LABELS_ENTRY_PAIR && memchr(entry + 2, 0, entry[1]);
    return lost || pair ? entry : NULL;
}

static bool is_set(const uint8_t *entries, size_t n)
{
    size_t bytes;

    for (size_t at = 0; at < n;)
        if (!next_entry(entries, n, &at, &bytes))
            return false;
    return true;
}

static void read_set(struct render_labels *labels, const uint8_t *entries, size_t n)
{
    size_t bytes;

    for (size_t at = 0; at < n;) {
        const uint8_t *entry = next_entry(entries, n, &at, &bytes);
        if (entry[0] == LABELS_ENTRY_PAIR) {
            add_label(labels, entry + 2, bytes);
        } else {
            labels->cut = labels->cut || entry[2];
            labels->left_out = labels->left_out || entry[3];
        }
    }
}

/* What went wrong, in a word; NULL: nothing. Most programs have no labels: none were missed there. */
static const char *lost_of(const struct render_job *job, const struct stack_record *stack)
{
    switch (stack->label_state) {
    case LABELS_KNOWN:
        return NULL;
    case LABELS_NO_ROOM:
        return "no_room";
    case LABELS_LATE:
        return job->has_labels ? "late" : NULL;
    default:
        return "unreadable";
    }
}

void render_labels_read(const struct render_job *job, const struct stack_record *stack, struct render_labels *ret)
{
    const __u64 *words = stack->frames + stack->n_kernel + stack->n_user;
    size_t left = stack->label_words;

    ret->n = ret->text_bytes = 0;
    ret->cut = ret->left_out = false;
    ret->lost = lost_of(job, stack);
    for (size_t sets = 0; left > 0; sets++) {
        uint64_t bytes = words[0];
        if (sets == LABELS_PLACES || bytes > LABELS_SET_BYTES || (bytes + 7) / 8 > left - 1 || !is_set((const uint8_t *)(words + 1), bytes)) {
            ret->lost = "malformed";
            break;
        }
        read_set(ret, (const uint8_t *)(words + 1), bytes);
        words += 1 + (bytes + 7) / 8;
        left -= 1 + (bytes + 7) / 8;
    }
    if (ret->lost)
        ret->list[ret->n++] = (struct profile_label){.key = "cprofd.labels", .str = ret->lost};
}

void render_labels_count(struct render_job *job, const struct stack_record *stack, uint64_t samples)
{
    struct render_labels labels;

    if (!stack->label_words && stack->label_state == LABELS_KNOWN)
        return;
    render_labels_read(job, stack, &labels);
    if (labels.n == 0 && !labels.cut && !labels.left_out)
        return;
    facts_count(&job->facts, "labels.samples", samples);
    if (labels.cut)
        facts_count(&job->facts, "labels.cut", samples);
    if (labels.left_out)
        facts_count(&job->facts, "labels.left_out", samples);
    if (labels.lost) {
        char key[32];
        (void)snprintf(key, sizeof(key), "labels.%s", labels.lost);
        facts_count(&job->facts, key, samples);
    }
}
