/* From addresses to names and locations. Each frame of a job is made once, whatever number of stacks it is
 * in, and becomes a location only when a sample that is kept needs it. Names of those in files are render_names.c's. */
#include "daemon/render_frame.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "util/cleanup.h"

#define MAPPING_VSYSCALL "[vsyscall]"
#define MAPPING_VDSO "[vdso]"
#define MAPPING_UPROBES "[uprobes]"
/* Where no address of a process or of the kernel can be: one for each way in which a walk ends. */
#define END_ADDRESS 0x0100000000000000ull

struct frame_table *frame_table_new(void)
{
    struct frame_table *t = calloc(1, sizeof(*t));

    if (t && getrandom(&t->salt, sizeof(t->salt), GRND_NONBLOCK) < 0)
        t->salt = (uintptr_t)t; /* at boot, the layout's randomness is all there is */
    return t;
}

void frame_table_free(struct frame_table *t)
{
    struct frame *frame, *next;

    if (!t)
        return;
    HASH_ITER(hh, t->by_key, frame, next) {
        HASH_DEL(t->by_key, frame);
        free(frame->lines);
        free(frame->name);
        free(frame);
    }
    free(t->in_files);
    free(t);
}

static struct frame *frame_get(struct render_job *job, struct frame_key key, uint32_t mapping)
{
    struct frame_table *t = job->frames;
    struct frame *frame;

    key.salt = t->salt;
    HASH_FIND(hh, t->by_key, &key, sizeof(key), frame);
    if (frame)
        return frame;
    frame = calloc(1, sizeof(*frame));
    if (!frame)
        return NULL;
    frame->key = key;
    frame->mapping = mapping;
    HASH_ADD(hh, t->by_key, key, sizeof(frame->key), frame);
    if (!frame->hh.tbl) {
        free(frame);
        return NULL;
    }
    return frame;
}

struct frame *frame_user(struct render_job *job, uint64_t address, uint32_t epoch)
{
    uint32_t mapping = address_map_find(&job->map, address, epoch);

    if (mapping == ADDRESS_MAP_NONE)
        return frame_get(job, (struct frame_key){.kind = FRAME_UNKNOWN, .address = address}, mapping);
    const struct raw_mapping *m = &job->raw->mappings[mapping];
    struct frame_key key = {
        .kind = FRAME_USER, .address = address, .offset = address - m->start + m->offset, .owner = m->object};
    if (m->object == RAW_NO_OBJECT)
        key.owner = OWNER_MAPPING | mapping;
    return frame_get(job, key, mapping);
}

struct frame *frame_kernel(struct render_job *job, uint64_t address)
{
    return frame_get(job, (struct frame_key){.kind = FRAME_KERNEL, .address = address}, ADDRESS_MAP_NONE);
}

/* The path or the name of what is mapped. */
static const char *mapping_name(const struct render_job *job, uint32_t mapping)
{
    const struct raw_mapping *m = &job->raw->mappings[mapping];
    uint64_t string = m->object == RAW_NO_OBJECT ? m->name : job->raw->objects[m->object].path;
    const char *name = raw_profile_string(job->raw, string);

    return name[0] ? name : m->object == RAW_NO_OBJECT ? "//anon" : "[unknown]";
}

/* What the name of an end says before the object that the walk ended in; NULL: it names none. */
static const char *end_phrase(enum stack_end end)
{
    switch (end) {
    case STACK_END_NO_CFI:
        return "no unwind info in";
    case STACK_END_UNSUPPORTED:
        return "unwind info that can't be evaluated in";
    case STACK_END_BAD_CFA:
        return "stack switch or wrong unwind info in";
    case STACK_END_NEW_CODE:
        return "no unwinding table yet of";
    default:
        return NULL;
    }
}

struct frame *frame_end(struct render_job *job, enum stack_end end, const struct frame *last)
{
    struct frame_key key = {.kind = FRAME_END, .address = end};
    uint32_t mapping = ADDRESS_MAP_NONE;

    if (last && last->key.kind == FRAME_USER && end_phrase(end)) {
        key.owner = last->key.owner;
        mapping = last->mapping;
    }
    return frame_get(job, key, mapping);
}

void frame_add_weight(struct frame *frame, uint64_t weight)
{
    frame->weight = render_plus(frame->weight, weight);
}

/* ---- names */

void frame_clear_name(struct frame *frame)
{
    free(frame->lines);
    free(frame->name);
    frame->lines = NULL;
    frame->name = NULL;
    frame->n_lines = 0;
    frame->known = frame->unread = false;
}

int frame_set_lines(struct frame *frame, const struct symbol_frame *symbols, size_t n)
{
    free(frame->lines);
    frame->lines = calloc(n, sizeof(*frame->lines));
    if (!frame->lines)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++)
        frame->lines[i] = (struct profile_line){
            .name = symbols[i].name,
            .system_name = symbols[i].system_name,
            .filename = symbols[i].filename,
            .start_line = symbols[i].start_line,
            .line = symbols[i].line,
        };
    frame->n_lines = n;
    return 0;
}

/* A name that is made here. */
int frame_set_name(struct frame *frame, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    int n = vasprintf(&frame->name, fmt, args);
    va_end(args);
    if (n < 0) {
        frame->name = NULL;
        return -ENOMEM;
    }
    return frame_set_lines(frame, &(struct symbol_frame){.name = frame->name}, 1);
}

const char *path_basename(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash && slash[1] ? slash + 1 : path;
}

static enum symbolize_mode render_mode(const struct render_job *job)
{
    return job->raw->params.symbolize == RAW_SYMBOLIZE_FAST ? SYMBOLIZE_FAST : SYMBOLIZE_FULL;
}

int frame_name_in(struct frame *frame, struct module *module, const struct symbol_frame *symbols, size_t n,
                         uint64_t offset, const char *fallback)
{
    if (n > 0) {
        frame->known = true;
        return frame_set_lines(frame, symbols, n);
    }
    return frame_set_name(frame, "%s+0x%" PRIx64, fallback, module ? module_code_start(module, offset) : offset);
}

/* What Go's runtime does where a goroutine goes to wait, or ends another's wait: Go's own profiles begin with what called it. */
static bool is_go_waiting(const char *name)
{
    static const char *const names[] = {
        "runtime.gopark", "runtime.goparkunlock", "runtime.chanrecv", "runtime.chansend", "runtime.semacquire", "runtime.semacquire1",
        "runtime.semrelease", "runtime.semrelease1", "runtime.readyWithTime", "runtime.goready", "runtime.ready", "runtime.systemstack",
        "sync.(*Mutex).lockSlow", "sync.(*Mutex).unlockSlow", "sync.(*RWMutex).rUnlockSlow",
    };
    static const char *const beginnings[] = {"sync.runtime_", "internal/sync.runtime_", "internal/poll.runtime_", "internal/sync.(*Mutex)."};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    for (size_t i = 0; i < sizeof(beginnings) / sizeof(beginnings[0]); i++)
        if (strncmp(name, beginnings[i], strlen(beginnings[i])) == 0)
            return true;
    return strstr(name, "goready.func1") != NULL; /* what it has run on the system's stack, by the name of whoever it was inlined into */
}

size_t frame_elide(const struct render_job *job, struct frame *frame, struct symbol_frame *symbols, size_t n)
{
    size_t kept = 0;

    frame->elided = false;
    frame->function = NULL;
    if ((job->raw->n_goroutines == 0 && !job->raw->params.go_waits) || n == 0)
        return n;
    const char *function = symbols[n - 1].name;
    for (size_t i = 0; i < n; i++)
        if (!symbols[i].wrapper && !(job->raw->params.go_waits && is_go_waiting(symbols[i].name)))
            symbols[kept++] = symbols[i];
    frame->elided = n > 0 && kept == 0;
    frame->function = function;
    return kept > 0 ? kept : n;
}

int frame_resolve_in(struct render_job *job, struct frame *frame, struct module *module,
                            uint64_t offset, const char *fallback)
{
    struct symbol_frame symbols[SYMBOL_MAX_INLINED];

    frame->tried = module != NULL;
    size_t n = module ? module_resolve(module, offset, render_mode(job), symbols) : 0;
    n = frame_elide(job, frame, symbols, n);
    return frame_name_in(frame, module, symbols, n, offset, fallback);
}

/* The three entry points of a page that never changes; each one is 1,024 bytes long. */
static int frame_resolve_vsyscall(struct frame *frame, uint64_t offset)
{
    static const char *const names[] = {"gettimeofday", "time", "getcpu"};

    if (offset / 1024 >= sizeof(names) / sizeof(names[0]))
        return frame_set_name(frame, MAPPING_VSYSCALL "+0x%" PRIx64, offset);
    frame->known = true;
    return frame_set_lines(frame, &(struct symbol_frame){.name = names[offset / 1024]}, 1);
}

static int frame_resolve_nameless(struct render_job *job, struct frame *frame)
{
    const struct raw_mapping *m = &job->raw->mappings[frame->mapping];
    const char *name = raw_profile_string(job->raw, m->name);
    uint64_t offset = frame->key.address - m->start;

    if (strcmp(name, MAPPING_VSYSCALL) == 0)
        return frame_resolve_vsyscall(frame, offset);
    if (strcmp(name, MAPPING_VDSO) == 0) /* the mapping is the file */
        return frame_resolve_in(job, frame, render_vdso(job), offset, MAPPING_VDSO);
    /* Code made at run time: unless its runtime has a name for it, only its own address says which. */
    frame->made = strcmp(name, MAPPING_UPROBES) != 0;
    return frame_set_name(frame, "%s+0x%" PRIx64,
                          strncmp(name, "//", 2) == 0 || !name[0] ? "[anon]" : path_basename(name),
                          frame->key.address);
}

static int frame_resolve_kernel(struct render_job *job, struct frame *frame)
{
    const struct kernel_symbol *symbol = render_kernel_symbol(job, frame->key.address);

    if (!symbol)
        return frame_set_name(frame, "[kernel]+0x%" PRIx64, frame->key.address);
    frame->known = true;
    if (symbol->module)
        return frame_set_name(frame, "%s [%s]", symbol->name, symbol->module);
    return frame_set_name(frame, "%s", symbol->name);
}

static int frame_resolve_end(struct render_job *job, struct frame *frame)
{
    enum stack_end end = (enum stack_end)frame->key.address;
    const char *phrase = end_phrase(end);

    if (end == STACK_END_RUNNING)
        return frame_set_name(frame, "[running]");
    if (end == STACK_END_UNSAMPLED)
        return frame_set_name(frame, "[cpu: unsampled]");
    if (end == STACK_END_EARLIER)
        return frame_set_name(frame, "[created earlier]");
    if (end == STACK_END_WOKEN)
        return frame_set_name(frame, "[woken by]");
    if (end == STACK_END_WOKEN_FROM_OUTSIDE)
        return frame_set_name(frame, "[woken from outside the process]");
    if (!phrase || frame->mapping == ADDRESS_MAP_NONE)
        return frame_set_name(frame, "[truncated: %s]", render_end_name(end));
    return frame_set_name(frame, "[truncated: %s %s]", phrase, path_basename(mapping_name(job, frame->mapping)));
}

int frame_resolve_elsewhere(struct render_job *job, struct frame *frame)
{
    if (frame->key.kind == FRAME_END)
        return frame_resolve_end(job, frame);
    if (frame->key.kind == FRAME_USER)
        return frame_resolve_nameless(job, frame);
    if (frame->key.kind == FRAME_KERNEL)
        return frame_resolve_kernel(job, frame);
    return frame_set_name(frame, "0x%" PRIx64, frame->key.address);
}

/* ---- locations */

bool frame_in_file(const struct frame *frame)
{
    return frame->key.kind == FRAME_USER && !(frame->key.owner & OWNER_MAPPING);
}

void frames_forget(struct render_job *job)
{
    struct frame_table *t = job->frames;
    struct frame *frame, *next;

    t->kernel_id = t->unknown_id = t->end_id = 0;
    HASH_ITER(hh, t->by_key, frame, next) {
        frame->location = 0;
        frame->match = MATCH_UNASKED;
        frame->placed = false;
    }
}

static uint64_t special_mapping(const struct render_job *job, struct profile *p, uint64_t *id,
                                const char *name, uint64_t start, uint64_t limit)
{
    if (*id == 0)
        *id = profile_mapping(p, &(struct profile_mapping){.start = start, .limit = limit, .filename = name,
                                                           .has_functions = true});
    return *id;
}

/* Of what is mapped, whether or not its file can be had. */
static const char *user_build_id(struct render_job *job, const struct frame *frame, char room[RENDER_BUILD_ID_ROOM])
{
    bool nameless = frame->key.owner & OWNER_MAPPING;
    bool vdso = nameless && strcmp(mapping_name(job, frame->mapping), MAPPING_VDSO) == 0;
    const char *mapped = nameless ? NULL : render_build_id(job, frame->key.owner, room);

    if (mapped)
        return mapped;
    /* What is not read yet is not read for this: a draft must not wait. */
    struct module *module = vdso ? render_vdso(job) : nameless ? NULL : job->objects[frame->key.owner].module;
    return module ? module_build_id(module) : NULL;
}

/* Whether all that debug information says of what is mapped there is in the frames: else the flags leave it to the reader to ask his own. */
static bool lines_are_known(const struct render_job *job, const struct frame *frame)
{
    if (!frame->tried || job->raw->params.symbolize != RAW_SYMBOLIZE_FULL)
        return false;
    if (!frame_in_file(frame))
        return true;
    const struct render_object *o = &job->objects[frame->key.owner];
    return o->n_pending == 0 && !o->no_debug && job->message->u.job.spare != WORKER_SPARE_SPOILED &&
           (!o->module || module_debug_error(o->module) == 0);
}

static uint64_t user_mapping(struct render_job *job, struct profile *p, const struct frame *frame)
{
    char room[RENDER_BUILD_ID_ROOM];
    const struct raw_mapping *m = &job->raw->mappings[frame->mapping];
    uint64_t *id = &job->mapping_ids[frame->mapping];
    bool none = job->raw->params.symbolize == RAW_SYMBOLIZE_NONE && frame_in_file(frame);
    bool lines = lines_are_known(job, frame);

    if (*id != 0)
        return *id;
    *id = profile_mapping(p, &(struct profile_mapping){
                                 .start = m->start,
                                 .limit = m->end,
                                 .offset = m->offset,
                                 .filename = frame_object_name(job, frame),
                                 .build_id = user_build_id(job, frame, room),
                                 .has_functions = !none,
                                 .has_filenames = lines,
                                 .has_line_numbers = lines,
                                 .has_inline_frames = lines,
                             });
    return *id;
}

uint64_t frame_mapping(struct render_job *job, struct profile *p, const struct frame *frame)
{
    struct frame_table *t = job->frames;
    uint64_t start = RAW_KERNEL_HALF, end;

    switch (frame->key.kind) {
    case FRAME_USER:
        return user_mapping(job, p, frame);
    case FRAME_KERNEL:
        if (job->kallsyms)
            kallsyms_text(job->kallsyms, &start, &end);
        /* Modules lie behind the text. */
        return special_mapping(job, p, &t->kernel_id, "[kernel.kallsyms]", start, UINT64_MAX);
    case FRAME_UNKNOWN:
        return special_mapping(job, p, &t->unknown_id, "[unknown]", 0, UINT64_MAX);
    default:
        return special_mapping(job, p, &t->end_id, "[cprofd]", END_ADDRESS, END_ADDRESS + STACK_END_COUNT);
    }
}

uint64_t frame_location(struct render_job *job, struct profile *p, struct frame *frame)
{
    if (frame->location == 0) {
        uint64_t mapping = frame_mapping(job, p, frame);
        frame->location = mapping ? profile_location(p, mapping, frame_shown_address(frame), frame->lines, frame->n_lines) : 0;
    }
    return frame->location;
}

/* ---- questions */

uint64_t frame_shown_address(const struct frame *frame)
{
    return frame->key.kind == FRAME_END ? END_ADDRESS + frame->key.address : frame->key.address;
}

size_t frame_lines(const struct frame *frame, const struct profile_line **ret_lines)
{
    *ret_lines = frame->lines;
    return frame->n_lines;
}

static uint64_t frame_in_function(struct render_job *job, const struct frame *frame)
{
    const struct kernel_symbol *symbol = frame->key.kind == FRAME_KERNEL ? render_kernel_symbol(job, frame->key.address) : NULL;

    if (symbol)
        return frame->key.address - symbol->address;
    if (frame->key.kind != FRAME_USER || !frame->known)
        return 0;
    bool vdso = !frame_in_file(frame) && strcmp(mapping_name(job, frame->mapping), MAPPING_VDSO) == 0;
    struct module *m = vdso ? render_vdso(job) : frame_in_file(frame) ? render_module(job, frame->key.owner) : NULL;
    return m ? module_vaddr(m, frame->key.offset) - module_code_start(m, frame->key.offset) : 0;
}

uint64_t frame_function_offset(struct render_job *job, struct frame *frame, uint64_t address)
{
    if (frame->key.kind == FRAME_END)
        return 0;
    if (!frame->placed) {
        frame->in_function = frame_in_function(job, frame);
        frame->placed = true;
    }
    return frame->in_function + address - frame->key.address;
}

bool frame_matches(struct frame *frame, const regex_t *focus)
{
    if (frame->match == MATCH_UNASKED) {
        frame->match = MATCH_NO;
        for (size_t i = 0; i < frame->n_lines && frame->match == MATCH_NO; i++)
            if (regexec(focus, frame->lines[i].name, 0, NULL, 0) == 0)
                frame->match = MATCH_YES;
    }
    return frame->match == MATCH_YES;
}

bool frame_is_elided(const struct frame *frame)
{
    return frame->elided;
}

const char *frame_function(const struct frame *frame)
{
    return frame->function ? frame->function : "";
}

bool frame_is_unmapped(const struct frame *frame)
{
    return frame->key.kind == FRAME_UNKNOWN;
}

/* A name that the code has, or one of its place in a file. */
bool frame_is_named(const struct frame *frame)
{
    return frame->n_lines > 0 && !frame->unread && frame->key.kind != FRAME_UNKNOWN;
}

bool frame_is_known(const struct frame *frame)
{
    return frame->known;
}

const char *frame_symbol(const struct frame *frame)
{
    if (!frame->known)
        return "";
    const struct profile_line *outer = &frame->lines[frame->n_lines - 1];
    return outer->system_name ? outer->system_name : outer->name;
}

const char *frame_outer_name(const struct frame *frame)
{
    return frame->n_lines > 0 ? frame->lines[frame->n_lines - 1].name : "";
}

const char *frame_inner_name(const struct frame *frame)
{
    return frame->n_lines > 0 ? frame->lines[0].name : "";
}

const char *frame_object_name(const struct render_job *job, const struct frame *frame)
{
    switch (frame->key.kind) {
    case FRAME_USER:
        return mapping_name(job, frame->mapping);
    case FRAME_KERNEL:
        return "[kernel.kallsyms]";
    case FRAME_UNKNOWN:
        return "[unknown]";
    default:
        return "[cprofd]";
    }
}
