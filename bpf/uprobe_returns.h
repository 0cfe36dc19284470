/* Whether this kernel's return probes let a program under seccomp live: some take the system call by which such a probe comes back (Linux 6.11) for
 * the program's own, and its filter kills it. */
#pragma once

#include <stdbool.h>

/* Probes a child under a filter that lets nothing through but its end. To be called in a child, once. 0, or -errno: it could not be tried. */
int uprobe_returns_try(bool *ret_survive);
