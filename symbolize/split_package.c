/* The index is a hash table of unit ids, whose rows say for each section where a unit's part begins and how
 * long it is (DWARF 5, 7.3.5.3; GNU's, version 2, is the same but for the numbers of sections). */
#include "symbolize/split_package.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#define INDEX_HEADER_BYTES 16u
#define INDEX_MAX_COLUMNS 16u
#define NO_SECTION SPLIT_SECTIONS

struct package_index {
    uint32_t version, n_columns, n_units, n_slots;
    const uint8_t *ids, *rows, *columns, *offsets, *sizes;
};

static uint32_t read_u32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

static uint64_t read_u64(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

/* The version is 16 bits and padding in DWARF 5, which reads the same. */
static int index_read(struct split_bytes bytes, struct package_index *ret)
{
    if (bytes.size < INDEX_HEADER_BYTES)
        return -ENOEXEC;
    struct package_index index = {read_u32(bytes.data), read_u32(bytes.data + 4), read_u32(bytes.data + 8),
                                  read_u32(bytes.data + 12), .ids = bytes.data + INDEX_HEADER_BYTES};
    uint16_t version;
    memcpy(&version, bytes.data, sizeof(version));
    index.version = version;
    if ((version != 2 && version != 5) || index.n_columns == 0 || index.n_columns > INDEX_MAX_COLUMNS
        || index.n_slots == 0 || (index.n_slots & (index.n_slots - 1)) != 0)
        return -ENOEXEC;
    uint64_t slots = (uint64_t)index.n_slots * 12, row = 4ull * index.n_columns;
    if (bytes.size - INDEX_HEADER_BYTES < slots
        || (bytes.size - INDEX_HEADER_BYTES - slots) / row < 1 + 2ull * index.n_units)
        return -ENOEXEC;
    index.rows = index.ids + 8ull * index.n_slots;
    index.columns = index.rows + 4ull * index.n_slots;
    index.offsets = index.columns + row;
    index.sizes = index.offsets + row * index.n_units;
    *ret = index;
    return 0;
}

/* The row of an id; -1: there is none. */
static int64_t index_find(const struct package_index *index, uint64_t id)
{
    uint32_t mask = index->n_slots - 1, slot = (uint32_t)id & mask, step = ((uint32_t)(id >> 32) & mask) | 1;
    for (uint32_t tried = 0; tried < index->n_slots; tried++, slot = (slot + step) & mask) {
        uint32_t row = read_u32(index->rows + 4ull * slot);
        if (row == 0)
            return -1;
        if (read_u64(index->ids + 8ull * slot) == id)
            return row <= index->n_units ? (int64_t)row - 1 : -1;
    }
    return -1;
}

static enum split_section section_of_column(const struct package_index *index, size_t column)
{
    switch (read_u32(index->columns + 4 * column)) {
    case 1:
        return SPLIT_INFO;
    case 3:
        return SPLIT_ABBREV;
    case 6:
        return SPLIT_STR_OFFSETS;
    case 8:
        return index->version == 5 ? SPLIT_RNGLISTS : NO_SECTION;
    default:
        return NO_SECTION;
    }
}

int split_package_find(struct split_bytes bytes, uint64_t id, struct split_bytes sections[static SPLIT_SECTIONS])
{
    struct package_index index;
    struct split_bytes found[SPLIT_SECTIONS] = {0};
    int r = index_read(bytes, &index);
    int64_t row = r == 0 ? index_find(&index, id) : -1;
    if (row < 0)
        return r < 0 ? r : -ENOENT;
    for (size_t i = 0; i < index.n_columns; i++) {
        enum split_section section = section_of_column(&index, i);
        uint64_t cell = ((uint64_t)row * index.n_columns + i) * 4;
        uint32_t offset = read_u32(index.offsets + cell), size = read_u32(index.sizes + cell);
        if (section == NO_SECTION)
            continue;
        if (offset > sections[section].size || size > sections[section].size - offset)
            return -ENOEXEC;
        found[section] = (struct split_bytes){sections[section].data + offset, size};
    }
    found[SPLIT_STR] = sections[SPLIT_STR];
    if (found[SPLIT_INFO].size == 0 || found[SPLIT_ABBREV].size == 0)
        return -ENOEXEC;
    memcpy(sections, found, sizeof(found));
    return 0;
}
