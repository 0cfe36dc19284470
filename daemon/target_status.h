/* What /proc/PID/status and /proc/PID/stat say of a process (man 5 proc; fs/proc/array.c). Names in them are
 * the target's own choice. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Supplementary groups that are kept; further ones are dropped, which can only take rights away. */
#define TARGET_MAX_GROUPS 256

enum target_id { TARGET_REAL, TARGET_EFFECTIVE, TARGET_SAVED, TARGET_FS, TARGET_N_IDS };

struct target_status {
    char state;   /* 'R', 'S', ...; 'Z': a zombie */
    pid_t tgid, pid;
    uint32_t threads;
    uid_t uid[TARGET_N_IDS];
    gid_t gid[TARGET_N_IDS];
    gid_t group[TARGET_MAX_GROUPS];
    size_t n_groups;
    uint64_t cap_permitted, cap_effective;
    pid_t namespace_pid; /* its number in its own PID namespace; 0 where the kernel does not say */
    uint64_t exe_kib, lib_kib; /* together what it maps executable (mm_struct's exec_vm); 0: the kernel does not say */
};

/* Parses the text of status. 0, or -EBADMSG where anything that is needed is missing or malformed: nobody is
 * let in by what could not be read. */
int target_status_parse(const char *text, size_t len, struct target_status *ret);

struct target_stat {
    uint64_t start_ticks; /* field 22 */
    uint32_t flags;       /* field 9, PF_* */
};

#define TARGET_PF_KTHREAD 0x00200000u

/* Parses the text of stat, whose second field, the name in parentheses, may hold anything. 0 or -EBADMSG. */
int target_stat_parse(const char *text, size_t len, struct target_stat *ret);
