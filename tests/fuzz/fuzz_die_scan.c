/* A .debug_info and .debug_abbrev from anybody: the length of the latter in 16 bits, it, the former. libdw reads the units' headers. */
#include <errno.h>

#include "symbolize/die_scan.h"
#include "symbolize/elf_file.h"
#include "tests/fuzz/fuzz.h"
#include "tests/unit/section_file.h"
#include "util/cleanup.h"

#define BUDGET (1u << 16)

static void scan(const struct die_table *t, const uint8_t *unit)
{
    struct die_cursor c = {t, unit};
    struct die_seen seen;
    uint64_t budget = BUDGET;
    for (unsigned n = 0;; n++) {
        const uint8_t *before = c.at;
        if (!die_cursor_next(&c, &seen))
            return;
        FUZZ_CHECK(c.at > before && c.at <= t->end);
        FUZZ_CHECK(!seen.sibling || (seen.sibling >= c.at && seen.sibling < t->end));
        if (seen.abbreviation && n % 3 == 2 && !die_cursor_skip(&c, &seen, &budget))
            return;
        FUZZ_CHECK(c.at > before && c.at <= t->end);
    }
}

static void units(Dwarf *dwarf, size_t size)
{
    Dwarf_CU *cu = NULL;
    Dwarf_Die die;
    uint64_t budget = BUDGET;
    for (unsigned n = 0; n < 64 && dwarf_get_units(dwarf, cu, &cu, NULL, NULL, &die, NULL) == 0; n++) {
        CLEANUP(die_table_deinit) struct die_table t = {0};
        int r = die_table_new(&die, (uint32_t)size, &budget, &t);
        FUZZ_CHECK(r == 0 || r == -ENOEXEC || r == -ENOMEM);
        FUZZ_CHECK(r == 0 || !t.list);
        if (r == 0)
            scan(&t, die.addr);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP(elf_file_close) struct elf_file file = {0};
    uint16_t abbrev_n;
    if (size < sizeof(abbrev_n))
        return 0;
    memcpy(&abbrev_n, data, sizeof(abbrev_n));
    data += sizeof(abbrev_n);
    size -= sizeof(abbrev_n);
    if (abbrev_n > size)
        return 0;
    const struct section_given sections[] = {{".debug_abbrev", 0, data, abbrev_n}, {".debug_info", 0, data + abbrev_n, size - abbrev_n}};
    AUTO_CLOSE int fd = section_file(sections, 2, section_file_ident);
    FUZZ_CHECK(elf_file_open(fd, &file) == 0);
    Dwarf *dwarf = dwarf_begin_elf(file.elf, DWARF_C_READ, NULL);
    if (dwarf)
        units(dwarf, size);
    (void)dwarf_end(dwarf);
    return 0;
}
