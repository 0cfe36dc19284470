/* The rule of access. Owns nothing; what cannot be found out refuses. */
#include "daemon/access.h"

#include <fcntl.h>
#include <linux/nsfs.h>
#include <pwd.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "config/settings.h"
#include "util/cleanup.h"

/* A user's record may be long (a name service's); more than this is not looked at. */
#define PASSWD_MAX_BYTES (1 << 20)
/* The kernel nests user namespaces at most this deep. */
#define MAX_USER_NAMESPACES 33

/* 0 with the primary group; -ENOENT: no such user; -errno. */
static int lookup_primary_group(uid_t uid, gid_t *ret)
{
    for (size_t size = 4096; size <= PASSWD_MAX_BYTES; size *= 4) {
        AUTO_FREE char *buf = malloc(size);
        struct passwd pw, *found = NULL;
        if (!buf)
            return -ENOMEM;
        int error = getpwuid_r(uid, &pw, buf, size, &found);
        if (error == ERANGE)
            continue;
        if (!found)
            return error ? -error : -ENOENT;
        *ret = pw.pw_gid;
        return 0;
    }
    return -ERANGE;
}

void access_init(struct access *a, const struct settings *settings, const struct asker *asker)
{
    *a = (struct access){.settings = settings, .asker = *asker};
    if (!asker->known || asker->has_gid)
        return;
    a->lookup_error = lookup_primary_group(asker->uid, &a->asker.gid);
    a->asker.has_gid = a->lookup_error == 0;
}

static bool is_root(const struct access *a)
{
    return a->asker.known && a->asker.uid == 0;
}

/* ---- grants */

static bool all_uids_are(const struct target_status *s, uid_t uid)
{
    return s->uid[TARGET_REAL] == uid && s->uid[TARGET_EFFECTIVE] == uid && s->uid[TARGET_SAVED] == uid;
}

static bool grant_is_to(const struct settings_grant *g, const struct asker *asker)
{
    switch (g->to) {
    case GRANT_TO_EVERYONE:
        return true;
    case GRANT_TO_UID:
        return asker->known && asker->uid == g->to_id;
    case GRANT_TO_GID:
        return asker->known && asker->has_gid && asker->gid == g->to_id;
    }
    return false;
}

/* A program that runs set-user-ID is not a process of the user who started it alone: all its ids must be that
 * user's. */
static bool grant_is_on(const struct settings_grant *g, const struct target_status *s)
{
    return g->target == GRANT_ANY_TARGET || all_uids_are(s, g->target_uid);
}

static bool is_granted(const struct access *a, const struct target_status *s, bool kernel)
{
    for (size_t i = 0; i < a->settings->n_grants; i++) {
        const struct settings_grant *g = &a->settings->grant[i];
        if (grant_is_to(g, &a->asker) && grant_is_on(g, s) && (g->kernel || !kernel))
            return true;
    }
    return false;
}

bool access_is_unlimited(const struct access *a, bool kernel)
{
    for (size_t i = 0; i < a->settings->n_grants; i++) {
        const struct settings_grant *g = &a->settings->grant[i];
        if (grant_is_to(g, &a->asker) && g->target == GRANT_ANY_TARGET && (g->kernel || !kernel))
            return true;
    }
    return is_root(a);
}

#define NO_USER "this connection has no user (it comes from another machine, or through a proxy)"

int access_check_asker(const struct access *a, struct denial *d)
{
    if (a->asker.known)
        return 0;
    for (size_t i = 0; i < a->settings->n_grants; i++)
        if (grant_is_to(&a->settings->grant[i], &a->asker))
            return 0;
    return deny(d, 403, NO_USER ", so it gets only what is granted to everyone, which is nothing: ask on this "
                "machine, or add \"grant = everyone WHOM\" to cprofd.conf");
}

/* ---- the kernel's rule */

/* A refusal with the two ways out: to be root, or to be granted what WHOM names. */
__attribute__((format(printf, 4, 5))) static int deny_user(struct denial *d, uid_t uid, const char *whom,
                                                           const char *fmt, ...)
{
    char reason[512];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(reason, sizeof(reason), fmt, args);
    va_end(args);
    return deny(d, 403, "%s; ask as root, or add \"grant = user:%u %s\" to cprofd.conf", reason, uid, whom);
}

static int check_uids(const struct access *a, pid_t pid, const struct target_status *s, struct denial *d)
{
    if (all_uids_are(s, a->asker.uid))
        return 0;
    return deny_user(d, a->asker.uid, "any",
                     "process %d is not uid %u's: its real, effective and saved users are %u, %u and %u", pid,
                     a->asker.uid, s->uid[TARGET_REAL], s->uid[TARGET_EFFECTIVE], s->uid[TARGET_SAVED]);
}

/* Past check_uids: the target is the asker's own, but for something. */
static void own_processes(const struct access *a, char whom[32])
{
    (void)snprintf(whom, 32, "user:%u", a->asker.uid);
}

static int check_gids(const struct access *a, pid_t pid, const struct target_status *s, struct denial *d)
{
    gid_t gid = a->asker.gid;
    char whom[32];

    if (!a->asker.has_gid && a->lookup_error == -ENOENT)
        return deny(d, 403, "uid %u is not in the user database, so its group is unknown: ask by a Unix "
                    "socket, or as root", a->asker.uid);
    if (!a->asker.has_gid)
        return deny(d, 403, "the group of uid %u could not be looked up (%s): ask by a Unix socket, or as root",
                    a->asker.uid, strerror(-a->lookup_error));
    if (s->gid[TARGET_REAL] == gid && s->gid[TARGET_EFFECTIVE] == gid && s->gid[TARGET_SAVED] == gid)
        return 0;
    own_processes(a, whom);
    return deny_user(d, a->asker.uid, whom,
                     "process %d runs with other groups than the asker's gid %u: its real, effective and "
                     "saved groups are %u, %u and %u", pid, gid, s->gid[TARGET_REAL], s->gid[TARGET_EFFECTIVE],
                     s->gid[TARGET_SAVED]);
}

static bool same_file(int a, int b)
{
    struct stat st_a, st_b;
    return fstat(a, &st_a) == 0 && fstat(b, &st_b) == 0 && st_a.st_dev == st_b.st_dev &&
           st_a.st_ino == st_b.st_ino;
}

enum namespace_relation { NAMESPACE_OWN, NAMESPACE_OF_ASKER, NAMESPACE_FOREIGN };

/* Walks up from the target's user namespace to the daemon's. Who owns the last one below it has all
 * capabilities in all of them (cap_capable in security/commoncap.c). */
static int target_namespace(const struct target *t, uid_t asker_uid, enum namespace_relation *ret)
{
    AUTO_CLOSE int own = open("/proc/self/ns/user", O_RDONLY | O_CLOEXEC);
    AUTO_CLOSE int at = target_open_file(t, "ns/user", O_RDONLY);

    if (own < 0)
        return -errno;
    if (at < 0)
        return at;
    *ret = NAMESPACE_OWN;
    for (unsigned depth = 0; depth < MAX_USER_NAMESPACES; depth++) {
        uid_t owner;
        if (same_file(own, at))
            return 0;
        bool owned = ioctl(at, NS_GET_OWNER_UID, &owner) == 0 && owner == asker_uid;
        *ret = owned ? NAMESPACE_OF_ASKER : NAMESPACE_FOREIGN;
        int parent = ioctl(at, NS_GET_PARENT);
        if (parent < 0)
            break;
        (void)close(at);
        at = parent;
    }
    *ret = NAMESPACE_FOREIGN;
    return 0;
}

static int check_privilege(const struct access *a, const struct target *t, const struct target_status *s,
                           struct denial *d)
{
    enum namespace_relation relation = NAMESPACE_FOREIGN;
    uid_t uid = a->asker.uid;
    char whom[32];
    bool dumpable = false;
    int r = target_dumpable(t, s, &dumpable);

    if (r == 0)
        r = target_namespace(t, uid, &relation);
    if (r == -ESRCH)
        return target_gone(t->pid, d);
    if (r < 0)
        return deny(d, 503, "what process %d may do cannot be read: %s", t->pid, target_error(-r));
    own_processes(a, whom);
    if (!dumpable)
        return deny_user(d, uid, whom, "process %d is not dumpable (it changed its user, holds secrets by prctl "
                         "PR_SET_DUMPABLE, or its program is not readable)", t->pid);
    if (relation == NAMESPACE_FOREIGN)
        return deny_user(d, uid, whom, "process %d is in a user namespace that is not uid %u's", t->pid, uid);
    if (relation == NAMESPACE_OWN && s->cap_permitted != 0)
        return deny_user(d, uid, whom, "process %d has capabilities (CapPrm %016llx) that uid %u is not known "
                         "to have", t->pid, (unsigned long long)s->cap_permitted, uid);
    return 0;
}

int access_check_target(const struct access *a, const struct target *t, const struct target_status *s,
                        struct denial *d)
{
    if (is_root(a) || is_granted(a, s, false))
        return 0;
    if (!a->asker.known)
        return deny(d, 403, NO_USER ", and process %d is not among what is granted to everyone: ask on this "
                    "machine, or add \"grant = everyone user:%u\" to cprofd.conf", t->pid,
                    s->uid[TARGET_EFFECTIVE]);
    int r = check_uids(a, t->pid, s, d);
    if (r == 0)
        r = check_gids(a, t->pid, s, d);
    if (r == 0)
        r = check_privilege(a, t, s, d);
    return r;
}

/* ---- the kernel's part */

static int read_sysctl(const char *path, int *ret)
{
    AUTO_FCLOSE FILE *f = fopen(path, "re");
    if (!f)
        return -errno;
    return fscanf(f, "%d", ret) == 1 ? 0 : -EBADMSG;
}

int access_kernel_rule(int paranoid, int kptr_restrict, struct denial *d)
{
    if (paranoid > 1)
        return deny(d, 403, "kernel frames and kernel-only events are root's, since kernel.perf_event_paranoid is "
                    "%d: ask without them, or as root, or set it to 1, or add \"kernel\" to a grant in "
                    "cprofd.conf", paranoid);
    if (kptr_restrict != 0)
        return deny(d, 403, "kernel addresses are root's, since kernel.kptr_restrict is %d: ask without kernel "
                    "frames and kernel-only events, or as root, or set it to 0, or add \"kernel\" to a grant "
                    "in cprofd.conf", kptr_restrict);
    return 0;
}

int access_check_kernel(const struct access *a, const struct target_status *s, struct denial *d)
{
    int paranoid, kptr_restrict;

    if (is_root(a) || is_granted(a, s, true))
        return 0;
    if (!a->asker.known)
        return deny(d, 403, NO_USER ", and kernel frames and kernel-only events are not granted to everyone: ask "
                    "without them, or on this machine, or add \"kernel\" to a grant in cprofd.conf");
    int r = read_sysctl("/proc/sys/kernel/perf_event_paranoid", &paranoid);
    if (r == 0)
        r = read_sysctl("/proc/sys/kernel/kptr_restrict", &kptr_restrict);
    if (r < 0)
        return deny(d, 403, "kernel.perf_event_paranoid and kernel.kptr_restrict cannot be read (%s), so kernel "
                    "frames and kernel-only events are refused", strerror(-r));
    return access_kernel_rule(paranoid, kptr_restrict, d);
}
