/* Where the Go runtime's goroutines keep what is read of them, by release (src/runtime/runtime2.go of each), or by DWARF. A further
 * release: see what changed in struct g, struct m's procid and the constants waitReason* since the last one here, and add it; the
 * test of known layouts compares with the DWARF of programs that were built by it. */
#include <assert.h>
#include <dwarf.h>
#include <elfutils/libdw.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "symbolize/elf_file.h"
#include "symbolize/go_runtime.h"

#define MAX_UNITS 65536u
#define MAX_DIES 1000000u

/* ---- by release */

#define LEAST_RELEASE 18u

struct release {
    uint32_t first, last; /* 18 is Go 1.18 */
    struct go_layout layout;
};

static const struct release releases[] = {
    {18, 20, {.g_stack = 0, .g_m = 48, .g_sched_sp = 56, .g_sched_pc = 64, .g_sched_bp = 104, .g_syscallsp = 112, .g_syscallpc = 120,
              .g_status = 144, .g_goid = 152, .g_waitsince = 168, .g_waitreason = 176, .g_lockedm = 232, .g_gopc = 296, .g_startpc = 312,
              .g_labels = 360, .m_procid = 72}},
    {21, 22, {.g_stack = 0, .g_m = 48, .g_sched_sp = 56, .g_sched_pc = 64, .g_sched_bp = 104, .g_syscallsp = 112, .g_syscallpc = 120,
              .g_status = 144, .g_goid = 152, .g_waitsince = 168, .g_waitreason = 176, .g_lockedm = 208, .g_parent = 272, .g_gopc = 280,
              .g_startpc = 296, .g_labels = 344, .m_procid = 72}},
    {23, 24, {.g_stack = 0, .g_m = 48, .g_sched_sp = 56, .g_sched_pc = 64, .g_sched_bp = 104, .g_syscallsp = 112, .g_syscallpc = 120,
              .g_syscallbp = 128, .g_status = 152, .g_goid = 160, .g_waitsince = 176, .g_waitreason = 184, .g_lockedm = 216,
              .g_parent = 280, .g_gopc = 288, .g_startpc = 304, .g_labels = 352, .m_procid = 72}},
    {25, 25, {.g_stack = 0, .g_m = 48, .g_sched_sp = 56, .g_sched_pc = 64, .g_sched_bp = 96, .g_syscallsp = 104, .g_syscallpc = 112,
              .g_syscallbp = 120, .g_status = 144, .g_goid = 152, .g_waitsince = 168, .g_waitreason = 176, .g_lockedm = 208,
              .g_parent = 272, .g_gopc = 280, .g_startpc = 296, .g_labels = 344, .m_procid = 64}},
    {26, 26, {.g_stack = 0, .g_m = 48, .g_sched_sp = 56, .g_sched_pc = 64, .g_sched_bp = 96, .g_syscallsp = 104, .g_syscallpc = 112,
              .g_syscallbp = 120, .g_status = 144, .g_goid = 152, .g_waitsince = 168, .g_waitreason = 176, .g_lockedm = 208,
              .g_parent = 280, .g_gopc = 288, .g_startpc = 304, .g_labels = 352, .m_procid = 64}},
};

#define LABELS_BECAME_LISTS 24u

/* "go1.26", "go1.26.8", "go1.26.8 X:..."; 0 for what is no release: release candidates and development versions may be anything between
 * two. */
static uint32_t release_of(const char *version)
{
    char *end;
    if (strncmp(version, "go1.", 4) != 0 || version[4] < '0' || version[4] > '9')
        return 0;
    unsigned long release = strtoul(version + 4, &end, 10);
    if (*end == '.')
        end += 1 + strspn(end + 1, "0123456789");
    return (*end == '\0' || *end == ' ') && release < 1000 ? (uint32_t)release : 0;
}

bool go_layout_known(const char *version, struct go_layout *ret, enum go_labels *ret_labels, uint32_t *ret_reasons)
{
    uint32_t release = release_of(version);
    for (size_t i = 0; i < sizeof(releases) / sizeof(releases[0]); i++) {
        if (release < releases[i].first || release > releases[i].last)
            continue;
        *ret = releases[i].layout;
        *ret_labels = release < LABELS_BECAME_LISTS ? GO_LABELS_MAP : GO_LABELS_LIST;
        *ret_reasons = release;
        return true;
    }
    return false;
}

/* ---- what is waited for */

/* In the order of their numbers, of all releases; those that moved stand twice. */
static const struct reason {
    uint32_t first, last;
    const char *text;
} reasons_known[] = {
    {18, 99, ""}, {18, 99, "GC assist marking"}, {18, 99, "IO wait"},
    {18, 25, "chan receive (nil chan)"}, {18, 25, "chan send (nil chan)"},
    {18, 99, "dumping heap"}, {18, 99, "garbage collection"}, {18, 99, "garbage collection scan"}, {18, 99, "panicwait"},
    {18, 25, "select"}, {18, 25, "select (no cases)"},
    {18, 99, "GC assist wait"}, {18, 99, "GC sweep wait"}, {18, 99, "GC scavenge wait"},
    {18, 25, "chan receive"}, {18, 25, "chan send"},
    {18, 99, "finalizer wait"}, {18, 99, "force gc (idle)"}, {25, 99, "GOMAXPROCS updater (idle)"}, {18, 99, "semacquire"}, {18, 99, "sleep"},
    {26, 99, "chan receive (nil chan)"}, {26, 99, "chan send (nil chan)"}, {26, 99, "select (no cases)"}, {26, 99, "select"},
    {26, 99, "chan receive"}, {26, 99, "chan send"},
    {18, 99, "sync.Cond.Wait"}, {18, 19, "timer goroutine (idle)"},
    {20, 99, "sync.Mutex.Lock"}, {20, 99, "sync.RWMutex.RLock"}, {20, 99, "sync.RWMutex.Lock"}, {24, 99, "sync.WaitGroup.Wait"},
    {18, 99, "trace reader (blocked)"}, {18, 99, "wait for GC cycle"}, {18, 99, "GC worker (idle)"}, {20, 99, "GC worker (active)"},
    {18, 99, "preempted"}, {18, 99, "debug call"}, {20, 99, "GC mark termination"}, {20, 99, "stopping the world"},
    {22, 99, "flushing proc caches"}, {22, 99, "trace goroutine status"}, {22, 99, "trace proc status"}, {22, 99, "page trace flush"},
    {22, 99, "coroutine"}, {23, 99, "GC weak to strong wait"}, {24, 99, "synctest.Run"}, {24, 99, "synctest.Wait"},
    {24, 24, "chan receive (synctest)"}, {24, 24, "chan send (synctest)"}, {24, 24, "select (synctest)"},
    {25, 99, "chan receive (durable)"}, {25, 99, "chan send (durable)"}, {25, 99, "select (durable)"},
    {25, 99, "sync.WaitGroup.Wait (durable)"}, {25, 99, "cleanup wait"},
};

const char *go_wait_reason(uint32_t reasons, uint8_t reason)
{
    uint32_t n = 0;
    for (size_t i = 0; reasons >= LEAST_RELEASE && i < sizeof(reasons_known) / sizeof(reasons_known[0]); i++) {
        const struct reason *r = &reasons_known[i];
        if (reasons >= r->first && reasons <= r->last && n++ == reason)
            return r->text;
    }
    return "";
}

static bool is_one_of(const char *text, const char *const *texts)
{
    for (; *texts; texts++)
        if (strcmp(text, *texts) == 0)
            return true;
    return false;
}

void go_block_reasons(uint32_t reasons, uint64_t *ret_all, uint64_t *ret_semaphores)
{
    static const char *const channels[] = {"chan receive", "chan send", "select", "chan receive (synctest)", "chan send (synctest)",
                                           "select (synctest)", "chan receive (durable)", "chan send (durable)", "select (durable)",
                                           "sync.Cond.Wait", NULL};
    static const char *const semaphores[] = {"semacquire", "sync.Mutex.Lock", "sync.RWMutex.RLock", "sync.RWMutex.Lock",
                                             "sync.WaitGroup.Wait", "sync.WaitGroup.Wait (durable)", NULL};
    *ret_all = *ret_semaphores = 0;
    for (uint8_t i = 0; i < 64; i++) {
        const char *text = go_wait_reason(reasons, i);
        *ret_semaphores |= is_one_of(text, semaphores) ? 1ull << i : 0;
        *ret_all |= is_one_of(text, channels) ? 1ull << i : 0;
    }
    *ret_all |= *ret_semaphores;
}

const char *go_status_name(uint32_t status)
{
    static const char *const names[] = {
        [GO_IDLE] = "idle", [GO_RUNNABLE] = "runnable", [GO_RUNNING] = "running", [GO_IN_SYSCALL] = "syscall", [GO_WAITING] = "waiting",
        [GO_DEAD] = "dead", [GO_COPYING_STACK] = "copystack", [GO_PREEMPTED] = "preempted", [GO_LEAKED] = "leaked",
        [GO_DEAD_EXTRA] = "waiting for cgo callback",
    };
    return status < sizeof(names) / sizeof(names[0]) && names[status] ? names[status] : "???";
}

/* ---- by DWARF */

struct wanted_member {
    const char *name;
    size_t at;        /* in struct go_layout */
    bool may_lack;
};

#define MEMBER(field) offsetof(struct go_layout, field)

static const struct wanted_member g_members[] = {
    {"stack", MEMBER(g_stack), false}, {"m", MEMBER(g_m), false}, {"syscallsp", MEMBER(g_syscallsp), false},
    {"syscallpc", MEMBER(g_syscallpc), false}, {"syscallbp", MEMBER(g_syscallbp), true}, {"atomicstatus", MEMBER(g_status), false},
    {"goid", MEMBER(g_goid), false}, {"waitsince", MEMBER(g_waitsince), false}, {"waitreason", MEMBER(g_waitreason), false},
    {"lockedm", MEMBER(g_lockedm), false}, {"parentGoid", MEMBER(g_parent), true}, {"gopc", MEMBER(g_gopc), false},
    {"startpc", MEMBER(g_startpc), false}, {"labels", MEMBER(g_labels), true},
};

static const struct wanted_member gobuf_members[] = {
    {"sp", MEMBER(g_sched_sp), false}, {"pc", MEMBER(g_sched_pc), false}, {"bp", MEMBER(g_sched_bp), true},
};

static const struct wanted_member m_members[] = {{"procid", MEMBER(m_procid), false}};

static void set_member(struct go_layout *layout, const struct wanted_member *member, uint64_t value)
{
    uint16_t narrow = (uint16_t)value;
    memcpy((char *)layout + member->at, &narrow, sizeof(narrow));
}

/* A structure's member of a name, and where it is. */
static bool find_member(Dwarf_Die *structure, const char *name, Dwarf_Die *ret, uint64_t *ret_offset)
{
    Dwarf_Attribute attribute;
    Dwarf_Word offset;
    if (dwarf_child(structure, ret) != 0)
        return false;
    do {
        const char *its = dwarf_tag(ret) == DW_TAG_member ? dwarf_diename(ret) : NULL;
        if (!its || strcmp(its, name) != 0)
            continue;
        if (!dwarf_attr(ret, DW_AT_data_member_location, &attribute) || dwarf_formudata(&attribute, &offset) != 0 || offset >= UINT16_MAX)
            return false;
        *ret_offset = offset;
        return true;
    } while (dwarf_siblingof(ret, ret) == 0);
    return false;
}

static bool take_members(Dwarf_Die *structure, const struct wanted_member *wanted, size_t n, uint64_t base, struct go_layout *layout)
{
    for (size_t i = 0; i < n; i++) {
        Dwarf_Die member;
        uint64_t offset;
        if (find_member(structure, wanted[i].name, &member, &offset))
            set_member(layout, &wanted[i], base + offset);
        else if (!wanted[i].may_lack)
            return false;
    }
    return true;
}

/* The type of a structure's member, typedefs peeled off. */
static bool member_type(Dwarf_Die *structure, const char *name, Dwarf_Die *ret, uint64_t *ret_offset)
{
    Dwarf_Die member, type;
    Dwarf_Attribute attribute;
    return find_member(structure, name, &member, ret_offset) && dwarf_attr(&member, DW_AT_type, &attribute)
           && dwarf_formref_die(&attribute, &type) && dwarf_peel_type(&type, ret) == 0;
}

#define N_OF(members) (sizeof(members) / sizeof((members)[0]))

static bool take_g(Dwarf_Die *structure, struct go_layout *layout)
{
    Dwarf_Die sched;
    uint64_t at;
    return take_members(structure, g_members, N_OF(g_members), 0, layout) && member_type(structure, "sched", &sched, &at)
           && take_members(&sched, gobuf_members, N_OF(gobuf_members), at, layout);
}

struct dwarf_search {
    struct go_layout layout;
    bool has_g, has_m;
    size_t dies; /* looked at */
};

static void search_unit(struct dwarf_search *s, Dwarf_Die *unit)
{
    Dwarf_Die die;
    if (dwarf_child(unit, &die) != 0)
        return;
    do {
        const char *name = dwarf_tag(&die) == DW_TAG_structure_type ? dwarf_diename(&die) : NULL;
        if (name && strcmp(name, "runtime.g") == 0)
            s->has_g = s->has_g || take_g(&die, &s->layout);
        else if (name && strcmp(name, "runtime.m") == 0)
            s->has_m = s->has_m || take_members(&die, m_members, N_OF(m_members), 0, &s->layout);
    } while (!(s->has_g && s->has_m) && s->dies++ < MAX_DIES && dwarf_siblingof(&die, &die) == 0);
}

int go_layout_dwarf(const struct elf_file *file, struct go_layout *ret)
{
    struct dwarf_search s = {0};
    Dwarf *dwarf = dwarf_begin_elf(file->elf, DWARF_C_READ, NULL);
    Dwarf_CU *unit = NULL;
    Dwarf_Die die;
    uint8_t kind;
    for (uint32_t i = 0; dwarf && !(s.has_g && s.has_m) && i < MAX_UNITS; i++) {
        if (dwarf_get_units(dwarf, unit, &unit, NULL, &kind, &die, NULL) != 0)
            break;
        search_unit(&s, &die);
    }
    if (dwarf)
        (void)dwarf_end(dwarf);
    if (!s.has_g || !s.has_m)
        return -ENODATA;
    *ret = s.layout;
    return 0;
}
