/* The kernel's symbols, for whoever may see them. */
#pragma once

/* Opens /proc/kallsyms, CLOEXEC. An fd, or -errno. */
int kallsyms_file_open(void);
