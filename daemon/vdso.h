/* The vdso: code that the kernel maps into every process, and that is in no file. */
#pragma once

/* A sealed memfd with an image of this process's own vdso, which is every 64-bit process's. fd; -ENOENT:
 * there is none; -errno. */
int vdso_open(void);
