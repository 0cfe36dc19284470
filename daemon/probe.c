/* The search for probe places. A symbolizer of its own: its modules see no separate debug file (which a probe
 * job can't ask for), and must not be kept for profiles, which can. */
#include "daemon/probe.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "symbolize/symbolizer.h"
#include "util/cleanup.h"

static int probe_no_debug_file(void *userdata, const struct debug_file_request *request, int *ret_fd)
{
    return -ENOENT;
}

static void probe_free_symbolizer(struct symbolizer **s)
{
    symbolizer_free(*s);
}

static int probe_usdt(struct module *module, const char *symbol, struct usdt_site **ret_sites, size_t *ret_n)
{
    char provider[sizeof(((struct worker_probe *)0)->symbol)];
    const char *colon = strchr(symbol, ':');

    if (!colon)
        return -ENOENT;
    (void)snprintf(provider, sizeof(provider), "%.*s", (int)(colon - symbol), symbol);
    return module_find_usdt(module, provider, colon + 1, ret_sites, ret_n);
}

static int probe_function(struct module *module, const struct worker_probe *probe,
                          struct usdt_site **ret_sites, size_t *ret_n)
{
    AUTO_FREE struct usdt_site *site = calloc(1, sizeof(*site));

    if (!site)
        return -ENOMEM;
    int r = module_find_function(module, probe->symbol, probe->offset, &site->file_offset);
    if (r < 0)
        return r;
    *ret_sites = TAKE_PTR(site);
    *ret_n = 1;
    return 0;
}

static int probe_sites(int elf_fd, const struct worker_probe *probe, struct usdt_site **ret_sites,
                       size_t *ret_n)
{
    static const struct symbolizer_ops ops = {.open_debug_file = probe_no_debug_file};
    AUTO_CLOSE int fd = elf_fd;
    CLEANUP(probe_free_symbolizer) struct symbolizer *symbolizer = symbolizer_new(&ops, 0);
    struct module *module;

    if (!symbolizer)
        return -ENOMEM;
    int r = symbolizer_module(symbolizer, &(struct file_identity){0}, TAKE_FD(fd), NULL, &module);
    if (r < 0)
        return r;
    return probe->usdt ? probe_usdt(module, probe->symbol, ret_sites, ret_n)
                       : probe_function(module, probe, ret_sites, ret_n);
}

static const char *probe_why(int error, const struct worker_probe *probe)
{
    switch (error) {
    case -ENOENT:
        return probe->usdt ? "the file has no such USDT probe"
                           : "the file has no such function in its symbol tables";
    case -ENOTUNIQ:
        return "several functions have that name: use the mangled one";
    case -ERANGE:
        return "the offset lies outside of the function";
    case -ENOEXEC:
        return "not an ELF file, or a malformed one";
    case -E2BIG:
        return "too many sites";
    default:
        return strerror(-error);
    }
}

int probe_find(int elf_fd, const struct worker_probe *probe, int out_fd, uint64_t *ret_len, char *message,
               size_t message_len)
{
    AUTO_FREE struct usdt_site *sites = NULL;
    size_t n = 0;

    int r = probe_sites(elf_fd, probe, &sites, &n);
    if (r == 0 && n > PROBE_MAX_SITES)
        r = -E2BIG;
    size_t len = n * sizeof(*sites);
    if (r == 0 && write(out_fd, sites, len) != (ssize_t)len)
        r = -EIO;
    if (r < 0) {
        (void)snprintf(message, message_len, "%s: %s", probe->symbol, probe_why(r, probe));
        return r;
    }
    *ret_len = len;
    return 0;
}
