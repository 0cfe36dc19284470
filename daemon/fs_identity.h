/* The file access rights of a target, for a child that opens by names which the target, or a file of its,
 * chose: what the target could not read, nobody reads through the daemon. */
#pragma once

#include "daemon/target_status.h"

struct fs_identity;

/* From now on this thread opens files as the target would: its file system user, group and groups (as far as
 * the daemon may change its own), and without the capabilities that override permissions. NULL when memory is
 * short, or capabilities cannot be given up. */
struct fs_identity *fs_identity_assume(const struct target_status *s);
/* Back to what was before; NULL is fine. Dies with parent, as before (the kernel forgets that with each
 * change). */
void fs_identity_restore(struct fs_identity *before, pid_t parent);
