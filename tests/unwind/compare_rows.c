/* compare_rows [--print | --time] [--seed N] [--reference FILE] FILE...
 *
 * Unwinding rows beside what libdw says, for each file: at the beginning of every row, at every place inside it where libdw's own rule
 * changes, and at random places. One line a file: its figures, and how many places agree or differ in which way; then each difference.
 * Fails where a difference has no name. --reference: what libdw reads is in another file, of the same code. Differences named "go": Go's
 * .debug_frame says nothing of the frame pointers that its functions save. "disbelieved": CFI that misses the push it begins with. "no
 * reference": libdw has no CFA where a program names a register again after an expression, but not its offset, which libgcc remembers.
 * --print: the rows instead, one a line, with link-time addresses. --time: instead, in one line of tab-separated fields: the file's bytes,
 * FDEs, rows, unsupported rows, rows that lose the frame pointer, bytes of the image, CPU time of its making and of its checking in ns, and by
 * how many bytes the process's peak memory grew. */
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <errno.h>
#include <fcntl.h>
#include <gelf.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "symbolize/elf_segments.h"
#include "symbolize/unwind_builder.h"
#include "util/cleanup.h"
#include "util/clock.h"
#include "util/unwind_table.h"

#define TEXT_ROOM 96
#define RANDOM_PLACES 20000
#define PADDING_BYTES 16
#define GO_PADDING_BYTES 64
#define SHOWN 20

enum class { SAME, PADDING, MARKED, DISBELIEVED, GO, NO_REFERENCE, FP_LOST, UNSUPPORTED, WRONG, N_CLASSES };
static const char *const class_names[] = {"same", "padding", "marked", "disbelieved", "go", "no reference", "fp lost", "unsupported", "WRONG"};

struct comparison {
    int fd, reference;
    bool is_go;
    Elf *elf;
    Dwarf *dwarf;
    Dwarf_CFI *eh, *debug;
    struct elf_segments segments;
    struct unwind_output output;
    int fp, sp;
    unsigned counts[N_CLASSES], shown;
    uint64_t places;
};

/* ---- rules as text: "CFA FP RA" */

static void rule_text(const struct comparison *c, const struct unwind_rule *rule, char ret[TEXT_ROOM])
{
    static const char *const kinds[] = {"none", "root", "", "", "plt", "signal", "frame-pointer", "unsupported"};
    enum unwind_cfa kind = UNWIND_CFA_KIND(rule->cfa);
    char fp[TEXT_ROOM / 3] = "same", ra[TEXT_ROOM / 3] = "c-8";
    int reg = UNWIND_CFA_REG(rule->cfa);
    bool guessed = c->fp != 29 && (reg & UNWIND_REG_GUESSED);
    if (guessed)
        reg &= ~UNWIND_REG_GUESSED;
    if (kind != UNWIND_CFA_REGISTER && kind != UNWIND_CFA_MEMORY) {
        (void)snprintf(ret, TEXT_ROOM, "%s", kinds[kind]);
        if (kind == UNWIND_CFA_PLT || kind == UNWIND_CFA_SIGNAL)
            (void)snprintf(ret + strlen(ret), TEXT_ROOM - strlen(ret), "%+d", rule->cfa_offset);
        return;
    }
    if (UNWIND_SAVED_FP(rule->saved) == UNWIND_FP_CFA)
        (void)snprintf(fp, sizeof(fp), "c%+d", 8 * rule->saved_offset);
    else if (UNWIND_SAVED_FP(rule->saved) == UNWIND_FP_FP)
        (void)snprintf(fp, sizeof(fp), "r%d%+d", c->fp, 8 * rule->saved_offset);
    else if (UNWIND_SAVED_FP(rule->saved) == UNWIND_FP_UNDEFINED)
        (void)snprintf(fp, sizeof(fp), "lost");
    if (UNWIND_SAVED_RA(rule->saved) == UNWIND_RA_REGISTER)
        (void)snprintf(ra, sizeof(ra), "r%d", c->fp == 29 ? 30 : rule->saved_offset);
    else if (UNWIND_SAVED_RA(rule->saved) != UNWIND_RA_CFA)
        (void)snprintf(ra, sizeof(ra), "c%+d", 8 * (rule->saved_offset + (UNWIND_SAVED_RA(rule->saved) == UNWIND_RA_AFTER_FP)));
    if (kind == UNWIND_CFA_MEMORY)
        (void)snprintf(ret, TEXT_ROOM, "%s*(r%d%+d)%+d %s %s", guessed ? "guess " : "", reg, rule->cfa_offset,
                       8 * UNWIND_SAVED_ADDEND(rule->saved), fp, ra);
    else
        (void)snprintf(ret, TEXT_ROOM, "%sr%d%+d %s %s", guessed ? "guess " : rule->saved & UNWIND_OTHER_STACK ? "~" : "", reg, rule->cfa_offset,
                       fp, ra);
}

/* ---- the same of libdw's operations */

static bool is_breg(const Dwarf_Op *op, int *ret_reg, int64_t *ret_offset)
{
    if (op->atom >= DW_OP_breg0 && op->atom <= DW_OP_breg31) {
        *ret_reg = op->atom - DW_OP_breg0;
        *ret_offset = (int64_t)op->number;
    } else if (op->atom == DW_OP_bregx) {
        *ret_reg = (int)op->number;
        *ret_offset = (int64_t)op->number2;
    } else {
        return false;
    }
    return true;
}

static bool is_plt(const Dwarf_Op *ops, size_t n)
{
    static const int atoms[] = {DW_OP_breg7, DW_OP_breg16, DW_OP_lit15, DW_OP_and, 0, DW_OP_ge, DW_OP_lit3, DW_OP_shl, DW_OP_plus};
    if (n != sizeof(atoms) / sizeof(*atoms) || ops[0].number != 8 || ops[1].number != 0)
        return false;
    for (size_t i = 0; i < n; i++)
        if (atoms[i] && ops[i].atom != atoms[i])
            return false;
    return true;
}

static void cfa_text(Dwarf_Frame *frame, char *ret, size_t room)
{
    Dwarf_Op *ops;
    size_t n;
    int reg;
    int64_t offset;
    (void)snprintf(ret, room, "expression");
    if (dwarf_frame_cfa(frame, &ops, &n) != 0 || n == 0)
        (void)snprintf(ret, room, "undefined");
    else if (is_plt(ops, n))
        (void)snprintf(ret, room, "plt%+d", ops[4].atom - DW_OP_lit0);
    else if (n == 1 && is_breg(&ops[0], &reg, &offset))
        (void)snprintf(ret, room, "r%d%+" PRId64, reg, offset);
    else if ((n == 2 || (n == 3 && ops[2].atom == DW_OP_plus_uconst)) && is_breg(&ops[0], &reg, &offset) && ops[1].atom == DW_OP_deref)
        (void)snprintf(ret, room, "*(r%d%+" PRId64 ")%+" PRId64, reg, offset, n == 2 ? 0 : (int64_t)ops[2].number);
}

static void register_text(Dwarf_Frame *frame, int number, char *ret, size_t room)
{
    Dwarf_Op memory[3], *ops;
    size_t n;
    int reg;
    int64_t offset;
    (void)snprintf(ret, room, "expression");
    if (dwarf_frame_register(frame, number, memory, &ops, &n) != 0)
        (void)snprintf(ret, room, "error");
    else if (n == 0)
        (void)snprintf(ret, room, ops ? "undefined" : "same");
    else if (n <= 2 && ops[0].atom == DW_OP_call_frame_cfa && (n == 1 || ops[1].atom == DW_OP_plus_uconst))
        (void)snprintf(ret, room, "c%+" PRId64, n == 1 ? 0 : (int64_t)ops[1].number);
    else if (n == 2 && ops[0].atom == DW_OP_call_frame_cfa && ops[1].atom == DW_OP_stack_value)
        (void)snprintf(ret, room, "cfa");
    else if (n == 1 && ops[0].atom == DW_OP_regx)
        (void)snprintf(ret, room, "r%d", (int)ops[0].number);
    else if (n == 2 && ops[0].atom == DW_OP_call_frame_cfa && is_breg(&ops[1], &reg, &offset)) /* it finds the CFA on its stack */
        (void)snprintf(ret, room, "r%d%+" PRId64, reg, offset);
}

static bool frame_text(struct comparison *c, Dwarf_Frame *frame, char ret[TEXT_ROOM])
{
    char cfa[TEXT_ROOM / 4], fp[TEXT_ROOM / 4], ra[TEXT_ROOM / 4], sp[TEXT_ROOM / 4];
    Dwarf_Addr start, end;
    bool is_signal;
    int ra_register = dwarf_frame_info(frame, &start, &end, &is_signal);
    cfa_text(frame, cfa, sizeof(cfa));
    register_text(frame, c->fp, fp, sizeof(fp));
    register_text(frame, c->sp, sp, sizeof(sp));
    register_text(frame, ra_register, ra, sizeof(ra));
    if (strcmp(ra, "same") == 0)
        (void)snprintf(ra, sizeof(ra), "r%d", ra_register);
    if (strcmp(ra, "undefined") == 0 && ra_register == (c->fp == 29 ? 30 : 16)) /* of another register libdw means: not known */
        (void)snprintf(ret, TEXT_ROOM, "root");
    else if (strncmp(cfa, "plt", 3) == 0)
        (void)snprintf(ret, TEXT_ROOM, "%s", cfa);
    else if (is_signal)
        (void)snprintf(ret, TEXT_ROOM, "signal%+d", c->fp == 29 ? 128 : atoi(strchr(cfa, '7') ? strchr(cfa, '7') + 1 : "9999") - 160);
    else
        (void)snprintf(ret, TEXT_ROOM, "%s %s %s", cfa, fp, ra);
    return strcmp(sp, "cfa") == 0 || strcmp(sp, "same") == 0;
}

/* ---- the comparison */

static Dwarf_Frame *frame_at(struct comparison *c, uint64_t address)
{
    Dwarf_Frame *frame = NULL;
    if (c->eh && dwarf_cfi_addrframe(c->eh, address, &frame) == 0)
        return frame;
    return c->debug && dwarf_cfi_addrframe(c->debug, address, &frame) == 0 ? frame : NULL;
}

/* True where a function begins a few bytes further on; behind Go's, which has larger gaps, one that ended a few bytes before is enough. */
static bool is_beside_function(struct comparison *c, uint64_t address)
{
    uint64_t first = address / PADDING_BYTES * PADDING_BYTES, last = first + PADDING_BYTES;
    if (c->is_go) {
        first -= GO_PADDING_BYTES;
        last += GO_PADDING_BYTES;
    }
    for (uint64_t at = first; at <= last; at += PADDING_BYTES) {
        Dwarf_Frame *frame = frame_at(c, at);
        free(frame);
        if (frame && (c->is_go || at > address))
            return true;
    }
    return false;
}

/* "CFA FP RA" with another FP; "" where there are no three parts. */
static const char *with_fp(const char *text, const char *fp, char ret[TEXT_ROOM])
{
    const char *first = strchr(text, ' '), *last = strrchr(text, ' ');
    ret[0] = '\0';
    if (first && first != last)
        (void)snprintf(ret, TEXT_ROOM, "%.*s %s%s", (int)(first - text), text, fp, last);
    return ret;
}

static enum class classify(const struct comparison *c, const char *ours, const char *theirs, bool sp_is_cfa)
{
    char changed[TEXT_ROOM];
    if (strcmp(ours, theirs) == 0)
        return SAME;
    if (strcmp(ours, "root") == 0 || strcmp(ours, "frame-pointer") == 0 || strncmp(ours, "signal", 6) == 0 || ours[0] == '~')
        return MARKED;
    if (strncmp(ours, "guess ", 6) == 0)
        return strcmp(theirs, "none") == 0 ? MARKED : WRONG; /* never where CFI says something */
    if (strcmp(ours, "unsupported") == 0 && (strstr(theirs, "expression") || strstr(theirs, "undefined") || !sp_is_cfa || c->is_go))
        return UNSUPPORTED;
    if (c->is_go && strstr(ours, " c-16 ") && strcmp(with_fp(theirs, "c-16", changed), ours) == 0)
        return GO;
    if (strncmp(theirs, "undefined ", 10) == 0 && strchr(ours, ' ') && strcmp(strchr(ours, ' '), strchr(theirs, ' ')) == 0)
        return NO_REFERENCE;
    return strstr(ours, " lost ") && strcmp(with_fp(theirs, "lost", changed), ours) == 0 ? FP_LOST : WRONG;
}

static void report(struct comparison *c, uint64_t address, enum class class, const char *ours, const char *theirs)
{
    c->counts[class]++;
    if (class == SAME || class == PADDING || class == GO || (class == WRONG ? c->counts[WRONG] : ++c->shown) > SHOWN)
        return;
    printf("    %s at %" PRIx64 ": %s, by libdw: %s\n", class_names[class], address, ours, theirs);
}

/* A row that begins with a push and goes on behind it: sp moved, and the row does not say so. */
static bool misses_a_push(const struct comparison *c, Dwarf_Addr start, Dwarf_Addr end)
{
    uint64_t offset;
    uint8_t code[2];
    return end - start > 2 && elf_segments_offset(&c->segments, start, &offset) &&
        pread(c->fd, code, sizeof(code), (off_t)offset) == sizeof(code) && ((code[0] == 0x41 ? code[1] : code[0]) & 0xf8) == 0x50;
}

/* Compares at one address; returns how far libdw's rule reaches. */
static uint64_t compare_at(struct comparison *c, uint64_t address, const struct unwind_rule *rule)
{
    char ours[TEXT_ROOM], theirs[TEXT_ROOM] = "none";
    Dwarf_Addr start, end = 0;
    bool is_signal;
    rule_text(c, rule, ours);
    c->places++;
    Dwarf_Frame *frame = frame_at(c, address);
    if (!frame) {
        enum class class = strcmp(ours, "none") == 0 ? SAME : is_beside_function(c, address) ? PADDING : classify(c, ours, theirs, true);
        report(c, address, class, ours, theirs);
        return 0;
    }
    bool sp_is_cfa = frame_text(c, frame, theirs);
    (void)dwarf_frame_info(frame, &start, &end, &is_signal);
    enum class class = classify(c, ours, theirs, sp_is_cfa);
    if (class == WRONG && strcmp(ours, "none") == 0 && misses_a_push(c, start, end))
        class = DISBELIEVED;
    report(c, address, class, ours, theirs);
    free(frame);
    return end;
}

static void compare_row(struct comparison *c, uint64_t start, uint64_t end, const struct unwind_rule *rule)
{
    uint64_t address, limit;
    if (!elf_segments_address(&c->segments, start, &address))
        return;
    limit = address + (end - start);
    while (address < limit) {
        uint64_t next = compare_at(c, address, rule);
        if (next <= address)
            return;
        address = next;
    }
}

static void print_row(struct comparison *c, uint64_t start, uint64_t end, const struct unwind_rule *rule)
{
    char text[TEXT_ROOM];
    uint64_t address = start;
    (void)elf_segments_address(&c->segments, start, &address);
    rule_text(c, rule, text);
    printf("%" PRIx64 " %" PRIu64 " %s\n", address, end - start, text);
}

static void each_row(struct comparison *c, void (*take)(struct comparison *, uint64_t, uint64_t, const struct unwind_rule *))
{
    const struct unwind_image *header = c->output.image;
    const uint32_t *pages = (const uint32_t *)(header + 1);
    for (uint32_t i = 0; i < header->n_pages; i++) {
        if (pages[i] == 0)
            continue;
        const struct unwind_page *page = (const struct unwind_page *)((const char *)c->output.image + 8 * (size_t)pages[i]);
        const struct unwind_rule *rules = (const struct unwind_rule *)(page + 1);
        const uint16_t *low = (const uint16_t *)(rules + page->n_rules);
        const uint8_t *rule = (const uint8_t *)(low + page->n_rows);
        uint64_t base = header->base + ((uint64_t)i << header->page_shift);
        for (uint32_t j = 0; j < page->n_rows; j++)
            take(c, base + low[j], base + (j + 1u < page->n_rows ? low[j + 1] : 1ull << header->page_shift), &rules[rule[j]]);
    }
}

static void compare_random(struct comparison *c, unsigned seed)
{
    srandom(seed);
    for (size_t i = 0; i < c->segments.n; i++) {
        const struct elf_segment *s = &c->segments.list[i];
        for (unsigned j = 0; s->executable && s->file_bytes && j < RANDOM_PLACES; j++) {
            uint64_t from = (((uint64_t)random() << 31) + (uint64_t)random()) % s->file_bytes;
            struct unwind_rule rule = unwind_image_find(c->output.image, s->offset + from);
            (void)compare_at(c, s->address + from, &rule);
        }
    }
}

static bool has_section(Elf *elf, const char *name)
{
    size_t names;
    GElf_Shdr header;
    Elf_Scn *section = NULL;
    while (elf_getshdrstrndx(elf, &names) == 0 && (section = elf_nextscn(elf, section))) {
        const char *found = gelf_getshdr(section, &header) ? elf_strptr(elf, names, header.sh_name) : NULL;
        if (found && strcmp(found, name) == 0)
            return true;
    }
    return false;
}

static int comparison_open(struct comparison *c, const char *path, const char *reference)
{
    GElf_Ehdr header;
    c->fd = open(path, O_RDONLY | O_CLOEXEC);
    c->reference = open(reference, O_RDONLY | O_CLOEXEC);
    if (c->fd < 0 || c->reference < 0)
        return -errno;
    int r = unwind_build(c->fd, &c->output);
    if (r == 0)
        r = unwind_image_check(c->output.image, c->output.image_bytes);
    if (r < 0)
        return r;
    c->elf = elf_begin(c->reference, ELF_C_READ_MMAP, NULL);
    if (!c->elf || !gelf_getehdr(c->elf, &header))
        return -ENOEXEC;
    c->fp = header.e_machine == EM_AARCH64 ? 29 : 6;
    c->sp = header.e_machine == EM_AARCH64 ? 31 : 7;
    c->is_go = has_section(c->elf, ".gopclntab");
    c->eh = dwarf_getcfi_elf(c->elf);
    c->dwarf = dwarf_begin_elf(c->elf, DWARF_C_READ, NULL);
    c->debug = c->dwarf ? dwarf_getcfi(c->dwarf) : NULL;
    return elf_segments_load(c->elf, &c->segments);
}

static void comparison_close(struct comparison *c)
{
    elf_segments_deinit(&c->segments);
    unwind_output_deinit(&c->output);
    if (c->eh)
        (void)dwarf_cfi_end(c->eh);
    if (c->dwarf)
        (void)dwarf_end(c->dwarf);
    if (c->elf)
        (void)elf_end(c->elf);
    close_fd(&c->reference);
    close_fd(&c->fd);
}

static uint64_t peak_bytes(void)
{
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (uint64_t)usage.ru_maxrss * 1024 : 0;
}

static int print_times(const char *path)
{
    AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    CLEANUP(unwind_output_deinit) struct unwind_output output = {0};
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    uint64_t peak = peak_bytes(), start = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    int r = unwind_build(fd, &output);
    uint64_t built = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    peak = peak_bytes() - peak;
    if (r == 0)
        r = unwind_image_check(output.image, output.image_bytes);
    if (r < 0)
        return r;
    printf("%jd\t%u\t%u\t%u\t%u\t%zu\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\n", (intmax_t)st.st_size, output.n_fdes, output.n_rows,
           output.unsupported_rows, output.fp_lost_rows, output.image_bytes, built - start, clock_ns(CLOCK_PROCESS_CPUTIME_ID) - built, peak);
    return 0;
}

static int run(const char *path, const char *reference, bool print, unsigned seed)
{
    CLEANUP(comparison_close) struct comparison c = {.fd = -1, .reference = -1};
    int r = comparison_open(&c, path, reference ? reference : path);
    if (r < 0) {
        printf("%s: %s\n", path, strerror(-r));
        return r;
    }
    if (print) {
        each_row(&c, print_row);
        return 0;
    }
    printf("%s: %u FDEs, %u rows, %zu bytes, %.2f a row, %u unsupported, %u fp lost\n", path, c.output.n_fdes, c.output.n_rows,
           c.output.image_bytes, (double)c.output.image_bytes / c.output.n_rows, c.output.unsupported_rows, c.output.fp_lost_rows);
    each_row(&c, compare_row);
    compare_random(&c, seed);
    printf("  ");
    for (int i = 0; i < N_CLASSES; i++)
        printf(" %s %u", class_names[i], c.counts[i]);
    printf("\n");
    return c.counts[WRONG] ? -EBADMSG : 0;
}

int main(int argc, char **argv)
{
    bool print = false, time = false, failed = false;
    const char *reference = NULL;
    unsigned seed = 1;
    (void)elf_version(EV_CURRENT);
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--print") == 0)
            print = true;
        else if (strcmp(argv[i], "--reference") == 0 && i + 1 < argc)
            reference = argv[++i];
        else if (strcmp(argv[i], "--time") == 0)
            time = true;
        else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            seed = (unsigned)strtoul(argv[++i], NULL, 0);
        else
            failed |= (time ? print_times(argv[i]) : run(argv[i], reference, print, seed)) < 0;
    }
    return failed;
}
