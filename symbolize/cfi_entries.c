/* Both formats by one reader: .eh_frame differs in how an FDE names its CIE, in its pointers' encodings, and in a terminator. */
#include "symbolize/cfi_entries.h"

#include <dwarf.h>

#include "symbolize/cfi_cursor.h"

#define ADDRESS_BYTES 8
#define LENGTH_IS_64_BIT 0xffffffffu
#define LENGTH_RESERVED 0xfffffff0u

bool cfi_entry_read(const struct cfi_section *section, uint64_t offset, struct cfi_entry *ret)
{
    if (offset >= section->bytes)
        return false;
    struct cfi_cursor c = {section->data + offset, section->data + section->bytes, false};
    bool is_64_bit = false;
    uint64_t bytes = cfi_get(&c, 4);
    if (bytes == LENGTH_IS_64_BIT) {
        is_64_bit = true;
        bytes = cfi_get(&c, 8);
    } else if (bytes >= LENGTH_RESERVED) {
        return false;
    }
    if (c.bad || bytes == 0 || !cfi_cursor_has(&c, bytes))
        return false;
    uint64_t start = (uint64_t)(c.at - section->data);
    size_t id_bytes = is_64_bit && !section->is_eh_frame ? 8 : 4;
    c.end = c.at + bytes;
    uint64_t id = cfi_get(&c, id_bytes), cie_id = section->is_eh_frame ? 0 : id_bytes == 8 ? UINT64_MAX : UINT32_MAX;
    if (c.bad)
        return false;
    *ret = (struct cfi_entry){
        .kind = id == cie_id ? CFI_ENTRY_CIE : CFI_ENTRY_FDE,
        .next = start + bytes,
        .cie_offset = section->is_eh_frame ? start - id : id,
        .body = start + id_bytes,
        .end = start + bytes,
    };
    return true;
}

static uint64_t read_value(struct cfi_cursor *c, uint8_t encoding)
{
    switch (encoding & 0x0f) {
    case DW_EH_PE_absptr:
    case DW_EH_PE_udata8:
    case DW_EH_PE_sdata8:
        return cfi_get(c, 8);
    case DW_EH_PE_uleb128:
        return cfi_get_uleb(c);
    case DW_EH_PE_sleb128:
        return (uint64_t)cfi_get_sleb(c);
    case DW_EH_PE_udata2:
        return cfi_get(c, 2);
    case DW_EH_PE_udata4:
        return cfi_get(c, 4);
    case DW_EH_PE_sdata2:
        return (uint64_t)cfi_get_signed(c, 2);
    case DW_EH_PE_sdata4:
        return (uint64_t)cfi_get_signed(c, 4);
    default:
        cfi_cursor_fail(c);
        return 0;
    }
}

uint64_t cfi_pointer_read(const struct cfi_section *section, struct cfi_cursor *c, uint8_t encoding)
{
    uint64_t here = section->address + (uint64_t)(c->at - section->data), base = 0;
    if ((encoding & 0x70) == DW_EH_PE_aligned) {
        cfi_skip(c, (0 - here) % ADDRESS_BYTES);
        return cfi_get(c, ADDRESS_BYTES);
    }
    uint64_t value = read_value(c, encoding);
    switch (encoding & 0x70) {
    case DW_EH_PE_absptr:
        break;
    case DW_EH_PE_pcrel:
        base = here;
        break;
    case DW_EH_PE_datarel:
        base = section->data_address;
        if (base)
            break;
        /* fallthrough */
    default:
        cfi_cursor_fail(c);
    }
    value += base;
    if (!c->bad && encoding & DW_EH_PE_indirect && !section->image->read(section->image, value, &value))
        cfi_cursor_fail(c);
    return c->bad ? 0 : value;
}

/* Behind the letters: the values that they stand for. */
static void read_augmentation_data(const struct cfi_section *section, struct cfi_cursor *c, const char *letters, struct cfi_cie *cie)
{
    uint64_t bytes = cfi_get_uleb(c);
    if (!cfi_cursor_has(c, bytes)) {
        cfi_cursor_fail(c);
        return;
    }
    struct cfi_cursor data = {c->at, c->at + bytes, false};
    for (; *letters && !data.bad; letters++) {
        uint8_t encoding;
        switch (*letters) {
        case 'R':
            cie->pointer_encoding = (uint8_t)cfi_get(&data, 1);
            break;
        case 'P': /* the personality routine: its place is not needed, and its pointer may well be one that only ld.so can fill */
            encoding = (uint8_t)cfi_get(&data, 1);
            (void)cfi_pointer_read(section, &data, encoding & 0x7f);
            break;
        case 'L':
            (void)cfi_get(&data, 1);
            break;
        case 'S':
            cie->is_signal = true;
            break;
        case 'B': /* aarch64: signed with the B key */
        case 'G': /* aarch64: tagged stack */
            break;
        default:
            cfi_cursor_fail(&data);
        }
    }
    if (data.bad)
        cfi_cursor_fail(c);
    cfi_skip(c, bytes);
}

static void read_augmentation(const struct cfi_section *section, struct cfi_cursor *c, const char *letters, struct cfi_cie *cie)
{
    if (*letters == 'z') {
        cie->has_augmentation_data = true;
        read_augmentation_data(section, c, letters + 1, cie);
    } else if (*letters) {
        cfi_cursor_fail(c);
    }
}

static const char *read_string(struct cfi_cursor *c)
{
    const char *string = (const char *)c->at;
    const uint8_t *end = memchr(c->at, 0, (size_t)(c->end - c->at));
    if (!end) {
        cfi_cursor_fail(c);
        return "";
    }
    c->at = end + 1;
    return string;
}

bool cfi_cie_read(const struct cfi_section *section, uint64_t offset, struct cfi_cie *ret)
{
    struct cfi_entry entry;
    if (!cfi_entry_read(section, offset, &entry) || entry.kind != CFI_ENTRY_CIE)
        return false;
    struct cfi_cursor c = {section->data + entry.body, section->data + entry.end, false};
    struct cfi_cie cie = {.offset = offset, .pointer_encoding = DW_EH_PE_absptr};
    uint64_t version = cfi_get(&c, 1);
    if (version != 1 && version != 3 && version != 4)
        return false;
    const char *letters = read_string(&c);
    if (version == 4 && (cfi_get(&c, 1) != ADDRESS_BYTES || cfi_get(&c, 1) != 0))
        return false;
    cie.code_align = cfi_get_uleb(&c);
    cie.data_align = cfi_get_sleb(&c);
    cie.return_register = version == 1 ? cfi_get(&c, 1) : cfi_get_uleb(&c);
    read_augmentation(section, &c, letters, &cie);
    if (c.bad)
        return false;
    cie.code = c.at;
    cie.code_bytes = (size_t)(c.end - c.at);
    *ret = cie;
    return true;
}

bool cfi_fde_read(const struct cfi_section *section, const struct cfi_entry *entry, const struct cfi_cie *cie, struct cfi_fde *ret)
{
    struct cfi_cursor c = {section->data + entry->body, section->data + entry->end, false};
    struct cfi_fde fde = {.start = cfi_pointer_read(section, &c, cie->pointer_encoding)};
    fde.bytes = read_value(&c, cie->pointer_encoding);
    if (cie->has_augmentation_data)
        cfi_skip(&c, cfi_get_uleb(&c));
    if (c.bad)
        return false;
    fde.code = c.at;
    fde.code_bytes = (size_t)(c.end - c.at);
    *ret = fde;
    return true;
}
