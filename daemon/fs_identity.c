/* Switching the file system identity. Owns what is needed to switch back. Only fsuid and fsgid change: with
 * the real and effective ids, the target's user would gain the right to trace and to signal this process. */
#include "daemon/fs_identity.h"

#include <grp.h>
#include <linux/capability.h>
#include <stdlib.h>
#include <sys/fsuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/child.h"
#include "util/cleanup.h"

#define CAPS_THAT_OVERRIDE (1u << CAP_DAC_OVERRIDE | 1u << CAP_DAC_READ_SEARCH)

struct fs_identity {
    struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3];
    uid_t fsuid;
    gid_t fsgid;
    gid_t group[TARGET_MAX_GROUPS];
    int n_groups;
    bool groups_changed;
};

static int set_caps(const struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3])
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    return (int)syscall(SYS_capset, &header, caps);
}

/* Of this thread alone, as all else here. The C library's would wait for all others, of which one may hang in a file system. */
static int set_groups(size_t n, const gid_t *groups)
{
    return (int)syscall(SYS_setgroups, n, groups);
}

/* Where the groups in force cannot be remembered they stay as they are. */
static void change_groups(struct fs_identity *f, const struct target_status *s)
{
    f->n_groups = getgroups(TARGET_MAX_GROUPS, f->group);
    f->groups_changed = f->n_groups >= 0 && set_groups(s->n_groups, s->group) == 0;
}

/* An id that is not valid changes nothing, and tells the present one. */
static uid_t current_fsuid(void) { return (uid_t)setfsuid((uid_t)-1); }
static gid_t current_fsgid(void) { return (gid_t)setfsgid((gid_t)-1); }

struct fs_identity *fs_identity_assume(const struct target_status *s)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct caps[_LINUX_CAPABILITY_U32S_3];
    AUTO_FREE struct fs_identity *f = calloc(1, sizeof(*f));

    if (!f || syscall(SYS_capget, &header, f->caps) < 0)
        return NULL;
    f->fsuid = current_fsuid();
    f->fsgid = current_fsgid();
    change_groups(f, s);
    (void)setfsgid(s->gid[TARGET_FS]);
    (void)setfsuid(s->uid[TARGET_FS]);
    /* Leaving uid 0, the kernel drops some capabilities: they are read again. */
    if (syscall(SYS_capget, &header, caps) == 0) {
        caps[0].effective &= ~CAPS_THAT_OVERRIDE;
        if (set_caps(caps) == 0)
            return TAKE_PTR(f);
    }
    fs_identity_restore(TAKE_PTR(f), getppid());
    return NULL;
}

void fs_identity_restore(struct fs_identity *before, pid_t parent)
{
    if (!before)
        return;
    (void)setfsuid(before->fsuid);
    (void)setfsgid(before->fsgid);
    (void)set_caps(before->caps);
    if (before->groups_changed)
        (void)set_groups((size_t)before->n_groups, before->group);
    free(before);
    if (child_die_with_parent(parent) < 0)
        _exit(EXIT_FAILURE);
}
