/* Kernel symbols from the text of /proc/kallsyms, which a privileged process read. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct kallsyms;

/* Parses the text (read from fd, which stays the caller's). 0; -EPERM where all addresses are zero
 * (kptr_restrict); -ENODATA; -ENOMEM. */
int kallsyms_new(int fd, struct kallsyms **ret);
void kallsyms_free(struct kallsyms *k);
/* Memory that is held. */
size_t kallsyms_bytes(const struct kallsyms *k);

struct kernel_symbol {
    const char *name;
    const char *module; /* "nf_tables", "bpf"; NULL: the kernel itself */
    uint64_t address;   /* its start */
};
/* The function at an address, or NULL. Valid as long as k. */
const struct kernel_symbol *kallsyms_find(const struct kallsyms *k, uint64_t address);
/* The bounds of the kernel's text, [_stext, _etext). */
void kallsyms_text(const struct kallsyms *k, uint64_t *ret_start, uint64_t *ret_end);
