/* The files that a job needs: asked for one at a time, when the first frame in one is named, and not at all
 * where the cache has them. The word TOUCH goes out before a file is parsed, so that the loop knows whom to
 * blame. */
#include "daemon/render_job.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "util/cleanup.h"
#include "util/clock.h"

#define RENDER_KALLSYMS_KEEP_NS (60 * NSEC_PER_SEC) /* modules and BPF programs come and go */

/* The kernel has one vdso for 64-bit processes; no file has this identity. */
static const struct file_identity vdso_identity = {.dev = UINT64_MAX, .ino = UINT64_MAX};

int render_need(struct renderer *r, struct worker_message *need, int *ret_fd)
{
    if (r->cancelled)
        return -ECANCELED;
    int e = r->ops->need(r->userdata, need, ret_fd);
    r->cancelled = e == -ECANCELED;
    return e;
}

static const char *render_path(const struct render_job *job, uint32_t object)
{
    return raw_profile_string(job->raw, job->raw->objects[object].path);
}

static const char *render_blame_text(uint32_t blame)
{
    switch (blame) {
    case WORKER_BLAME_HANG:
        return "took the symbolizer too long";
    case WORKER_BLAME_MEMORY:
        return "took the symbolizer too much memory";
    default:
        return "crashed the symbolizer";
    }
}

void render_exclude(struct render_job *job)
{
    uint32_t n = job->message->u.job.n_excluded;

    for (uint32_t i = 0; i < n && i < WORKER_MAX_EXCLUDED; i++) {
        uint32_t object = job->message->u.job.excluded[i];
        if (object == WORKER_TOUCH_PERF_MAP) {
            job->jit_no_map = true;
            facts_note(&job->facts, "excluded", "the perf map: %s", render_blame_text(job->message->u.job.blame[i]));
        }
        if (object >= job->raw->n_objects || job->objects[object].no_debug)
            continue;
        bool wholly = job->message->u.job.wholly[i] != 0;
        job->objects[object].no_debug = true;
        job->objects[object].excluded = wholly;
        facts_note(&job->facts, "excluded", "%s: %s%s", render_path(job, object), wholly ? "" : "its debug information ",
                   render_blame_text(job->message->u.job.blame[i]));
    }
    if (job->message->u.job.spare == WORKER_SPARE_SPOILED)
        facts_note(&job->facts, "excluded", "debug information that is not known yet: some minutes ago it %s",
                   render_blame_text(job->message->u.job.spare_blame));
    if (job->message->u.job.no_symbols)
        facts_note(&job->facts, "no_symbols", "no file was read: too often one %s",
                   render_blame_text(job->message->u.job.no_symbols));
}

/* The same file, unchanged since it was mapped? A changed inode (ctime: a link more or less) is no other
 * content. */
static bool render_same_file(int fd, const struct file_identity *id)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return false;
    uint64_t mtime_ns = (uint64_t)st.st_mtim.tv_sec * NSEC_PER_SEC + (uint64_t)st.st_mtim.tv_nsec;
    return st.st_dev == id->dev && st.st_ino == id->ino && (uint64_t)st.st_size == id->size &&
           mtime_ns == id->mtime_ns;
}

/* The file of an object that is not cached. 0 or -errno; -ESTALE: it has changed. */
static int render_object_fd(struct render_job *job, uint32_t object, int *ret_fd)
{
    struct worker_message need = {.u.need = {.kind = WORKER_FILE_OBJECT, .object = object}};
    AUTO_CLOSE int fd = -1;

    int r = render_need(job->renderer, &need, &fd);
    if (r < 0)
        return r;
    if (!render_same_file(fd, &job->raw->objects[object].id))
        return -ESTALE;
    *ret_fd = TAKE_FD(fd);
    return 0;
}

void render_note_split(struct render_job *job)
{
    for (uint32_t i = 0; i < job->raw->n_objects; i++) {
        const char *first = NULL;
        size_t n = job->objects[i].module ? module_missing_dwos(job->objects[i].module, &first) : 0;
        if (n > 0)
            facts_note(&job->facts, "split_missing", "%s: %zu .dwo files could not be had or are of another build, the first one %s",
                       render_path(job, i), n, first ? first : "?");
    }
}

static void render_unavailable(struct render_job *job, uint32_t object, int error)
{
    const char *why = error == -ESTALE      ? "changed since it was mapped"
                      : error == -EUCLEAN   ? "what is found there now has other contents than what is mapped"
                      : error == -ENOEXEC   ? "no ELF file"
                      : error == -ENODEV    ? "could not be opened"
                      : error == -ETIMEDOUT ? "could not be opened in time"
                      : error == -ENOMEM    ? "larger than the setting worker-memory has room for"
                                            : strerror(-error);
    facts_note(&job->facts, "unavailable", "%s: %s", render_path(job, object), why);
}

static const char *render_debug_error_text(int error)
{
    switch (error) {
    case -EFBIG:
        return "is larger than what is decompressed";
    case -E2BIG:
        return "takes too much work to read: not all of it was";
    case -ENOMEM:
        return "is larger than the setting worker-memory has room for";
    case -ENOTSUP:
        return "is in a form that is not known";
    case -ENOLINK:
        return "needs a further file, which could not be had";
    default:
        return "is malformed";
    }
}

/* Else names of symbol tables, without files, lines and inlined calls, would pass for all that there is. */
static void render_note_debug_error(struct render_job *job, uint32_t object)
{
    const struct module *module = job->objects[object].module;
    int error = module ? module_debug_error(module) : 0;

    if (error < 0)
        facts_note(&job->facts, "excluded", "%s: its debug information %s", render_path(job, object), render_debug_error_text(error));
}

void render_note_unavailable(struct render_job *job)
{
    for (uint32_t i = 0; i < job->raw->n_objects; i++) {
        int error = job->objects[i].error;
        bool made = error == -ENOEXEC && render_path_is_memory(render_path(job, i)); /* code at run time, most likely */
        if (error < 0 && !made)
            render_unavailable(job, i, error);
        int debug_error = job->objects[i].debug_error;
        if (debug_error < 0)
            facts_note(&job->facts, "unavailable", "%s: its debug file: %s", render_path(job, i),
                       debug_error == -ETIMEDOUT ? "could not be opened in time" : strerror(-debug_error));
        render_note_debug_error(job, i);
    }
}

const char *render_build_id(const struct render_job *job, uint32_t object, char ret[RENDER_BUILD_ID_ROOM])
{
    const struct raw_object *o = &job->raw->objects[object];
    size_t len = o->build_id_len <= sizeof(o->build_id) ? o->build_id_len : 0;

    for (size_t i = 0; i < len; i++)
        (void)snprintf(ret + 2 * i, 3, "%02x", o->build_id[i]);
    return len > 0 ? ret : NULL;
}

/* The file that was opened has been checked to be what is mapped. It may have been written to since, by somebody who sets back its time. */
static bool render_is_mapped(const struct render_job *job, uint32_t object, const struct module *module)
{
    char mapped[RENDER_BUILD_ID_ROOM];
    const char *id = module_build_id(module);

    return !id || !render_build_id(job, object, mapped) || strcmp(id, mapped) == 0;
}

static int render_load(struct render_job *job, uint32_t object, struct module **ret)
{
    const struct raw_object *o = &job->raw->objects[object];
    struct renderer *r = job->renderer;
    int fd = -1;

    if (!o->available)
        return o->error == -EUCLEAN || o->error == -ETIMEDOUT ? o->error : -ENODEV;
    if (!symbolizer_has(r->symbolizer, &o->id)) {
        int e = render_object_fd(job, object, &fd);
        if (e < 0)
            return e;
    }
    struct module *module;
    int e = symbolizer_module(r->symbolizer, &o->id, fd, r, &module);
    if (e < 0)
        return e;
    if (!render_is_mapped(job, object, module))
        return -EUCLEAN;
    *ret = module;
    return 0;
}

/* Unwinding changes from one object to another all the time: beyond these, the loop takes the last one that it knows for guilty. */
#define RENDER_MAX_TOUCHES 20000

void render_touch(struct render_job *job, uint32_t object)
{
    if (job->touched == object || job->n_touches == RENDER_MAX_TOUCHES)
        return;
    job->touched = object;
    job->n_touches++;
    job->renderer->ops->touch(job->renderer->userdata, object);
}

bool render_is_cached(const struct render_job *job, uint32_t object)
{
    return symbolizer_has(job->renderer->symbolizer, &job->raw->objects[object].id);
}

struct module *render_module(struct render_job *job, uint32_t object)
{
    struct render_object *o = &job->objects[object];

    if (o->excluded || job->message->u.job.no_symbols)
        return NULL;
    job->renderer->object = object;
    if (!o->tried) {
        o->tried = true;
        render_touch(job, object);
        o->error = render_load(job, object, &o->module);
    }
    return o->module;
}

struct module *render_vdso(struct render_job *job)
{
    struct worker_message need = {.u.need.kind = WORKER_FILE_VDSO};
    struct renderer *r = job->renderer;
    int fd = -1;

    if (job->vdso_tried || job->message->u.job.no_symbols)
        return job->vdso;
    job->vdso_tried = true;
    render_touch(job, WORKER_TOUCH_NONE); /* the kernel's own file */
    if (!symbolizer_has(r->symbolizer, &vdso_identity) && render_need(r, &need, &fd) < 0)
        return NULL;
    r->object = WORKER_TOUCH_NONE;
    if (symbolizer_module(r->symbolizer, &vdso_identity, fd, r, &job->vdso) < 0)
        job->vdso = NULL;
    return job->vdso;
}

static int render_read_kallsyms(struct renderer *r)
{
    struct worker_message need = {.u.need.kind = WORKER_FILE_KALLSYMS};
    struct kallsyms *fresh;
    AUTO_CLOSE int fd = -1;

    int e = render_need(r, &need, &fd);
    if (e == 0)
        e = kallsyms_new(fd, &fresh);
    if (e < 0)
        return e;
    kallsyms_free(r->kallsyms);
    r->kallsyms = fresh;
    r->kallsyms_ns = monotonic_ns();
    return 0;
}

static const struct kallsyms *render_kallsyms(struct render_job *job)
{
    struct renderer *r = job->renderer;

    if (job->kallsyms_tried)
        return job->kallsyms;
    job->kallsyms_tried = true;
    render_touch(job, WORKER_TOUCH_NONE);
    bool fresh = r->kallsyms && monotonic_ns() - r->kallsyms_ns < RENDER_KALLSYMS_KEEP_NS;
    int e = fresh ? 0 : render_read_kallsyms(r);
    job->kallsyms_read = !fresh;
    if (e < 0)
        facts_note(&job->facts, "unavailable", "[kernel.kallsyms]: %s",
                   e == -EPERM ? "hidden by kernel.kptr_restrict, or without CAP_SYSLOG" : strerror(-e));
    else
        job->kallsyms = r->kallsyms;
    return job->kallsyms;
}

/* The kernel's own functions stay where they are; a module or a BPF program may since have come where another one was. */
const struct kernel_symbol *render_kernel_symbol(struct render_job *job, uint64_t address)
{
    const struct kallsyms *kallsyms = render_kallsyms(job);
    const struct kernel_symbol *symbol = kallsyms ? kallsyms_find(kallsyms, address) : NULL;

    if (!kallsyms || (symbol && !symbol->module))
        return symbol;
    if (!job->kallsyms_read) {
        job->kallsyms_read = true;
        render_touch(job, WORKER_TOUCH_NONE);
        job->kallsyms_stale = render_read_kallsyms(job->renderer) < 0;
        job->kallsyms = job->renderer->kallsyms;
        symbol = kallsyms_find(job->kallsyms, address);
    }
    return job->kallsyms_stale && symbol && symbol->module ? NULL : symbol;
}

/* Says that there is no such file, for good, rather than that it could not be had this time? */
static bool render_error_is_final(int error)
{
    static const int final[] = {ENOENT,       ENOTDIR, EACCES, EPERM, ELOOP,
                                ENAMETOOLONG, EINVAL,  ENXIO,  EXDEV, EISDIR};

    for (size_t i = 0; i < sizeof(final) / sizeof(final[0]); i++)
        if (error == -final[i])
            return true;
    return false;
}

/* A module goes on with the debug file that it was given, for whoever asks next. A target finds its debug
 * files in a root directory of its own making, and their build ids are easily forged: only root's are good
 * for others, and any for who asks about the same program of the same user again. */
static bool render_fit_for_all(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && st.st_uid == 0 && (st.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

/* What the profile says of a file that the servers were asked for and that it does without. */
static const char *render_server_text(int error)
{
    switch (-error) {
    case ENOENT:
        return "no debuginfod server has its debug file";
    case EAGAIN:
        return "its debug file is being fetched: a later profile may have it";
    case EHOSTUNREACH:
        return "not all debuginfod servers could be asked for its debug file";
    case EBADMSG:
        return "a debuginfod server sent something else than its debug file";
    case EFBIG:
        return "its debug file is larger than what may be fetched";
    case ELIBACC:
        return "no debug file can be fetched: the daemon's log says why";
    default:
        return "its debug file could not be fetched";
    }
}

static void render_note_server(struct renderer *r, int error)
{
    if (r->job && error != -ENOSYS && error != -ECANCELED)
        facts_note(&r->job->facts, "debuginfod", "%s: %s", render_path(r->job, r->object), render_server_text(error));
}

int render_open_debug_file(void *userdata, const struct debug_file_request *request, int *ret_fd)
{
    struct renderer *r = userdata;
    struct worker_message need = {
        .u.need = {.kind = WORKER_FILE_DEBUG, .object = r->object, .debug_kind = request->kind}};
    const char *build_id = request->build_id ? request->build_id : "";

    if (r->object == WORKER_TOUCH_NONE || strlen(request->name) >= sizeof(need.u.need.name) ||
        strlen(build_id) >= sizeof(need.u.need.build_id))
        return -ENOENT;
    strcpy(need.u.need.name, request->name);
    strcpy(need.u.need.build_id, build_id);
    int e = render_need(r, &need, ret_fd);
    if (request->kind == DEBUG_FILE_SERVER) { /* of one build id all servers have one file; what passes is the symbolizer's to forget */
        if (e < 0)
            render_note_server(r, e);
        return e;
    }
    struct module *module = r->job->objects[r->object].module;
    if (e < 0 && e != -ECANCELED && !render_error_is_final(e))
        r->job->objects[r->object].debug_error = e;
    if (module && e < 0 && !render_error_is_final(e))
        module_keep_for(module, 0);
    else if (module && (e == 0 ? !render_fit_for_all(*ret_fd) : e == -EACCES || e == -EPERM)) /* another may read it */
        module_keep_for(module, r->job->message->u.job.key);
    return e;
}
