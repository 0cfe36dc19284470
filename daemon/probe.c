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

struct probe_file {
    struct symbolizer *symbolizer;
    struct module *module; /* its */
};

static void probe_file_close(struct probe_file *file)
{
    symbolizer_free(file->symbolizer);
}

/* elf_fd becomes the callee's. */
static int probe_file_open(int elf_fd, struct probe_file *ret)
{
    static const struct symbolizer_ops ops = {.open_debug_file = probe_no_debug_file};
    AUTO_CLOSE int fd = elf_fd;

    ret->symbolizer = symbolizer_new(&ops, 0);
    return ret->symbolizer ? symbolizer_module(ret->symbolizer, &(struct file_identity){0}, TAKE_FD(fd), NULL, &ret->module) : -ENOMEM;
}

/* The answer while it is collected. */
struct probe_answer {
    struct probe_found found;
    struct probe_site *sites;
};

static void probe_answer_deinit(struct probe_answer *answer)
{
    free(answer->sites);
}

static int probe_usdt(struct module *module, const char *symbol, struct probe_answer *ret)
{
    char provider[sizeof(((struct worker_probe *)0)->symbol)];
    const char *colon = strchr(symbol, ':');
    AUTO_FREE struct usdt_site *sites = NULL;
    size_t n;

    if (!colon)
        return -ENOENT;
    (void)snprintf(provider, sizeof(provider), "%.*s", (int)(colon - symbol), symbol);
    int r = module_find_usdt(module, provider, colon + 1, &sites, &n);
    if (r < 0)
        return r;
    ret->sites = calloc(n, sizeof(*ret->sites));
    if (!ret->sites)
        return -ENOMEM;
    for (size_t i = 0; i < n; i++) {
        module_probe_point(module, sites[i].file_offset, &ret->sites[i].point);
        ret->sites[i].semaphore = sites[i].semaphore_file_offset;
    }
    ret->found.n = (uint32_t)n;
    return 0;
}

/* The first instruction, whatever it costs. */
static int probe_entry(struct module *module, const char *symbol, struct probe_answer *ret)
{
    uint64_t file_offset;

    int r = module_find_function(module, symbol, 0, &file_offset);
    if (r < 0)
        return r;
    ret->sites = calloc(1, sizeof(*ret->sites));
    if (!ret->sites)
        return -ENOMEM;
    module_probe_point(module, file_offset, &ret->sites[0].point);
    ret->sites[0].point.at_entry = 1;
    ret->found = (struct probe_found){.n = 1};
    return 0;
}

static int probe_function(struct module *module, const struct worker_probe *probe, struct probe_answer *ret)
{
    CLEANUP(probe_points_deinit) struct probe_points points = {0};

    if (probe->at_entry)
        return probe_entry(module, probe->symbol, ret);

    int r = module_find_probe(module, probe->symbol, probe->offset, probe->result ? PROBE_RESULT : PROBE_ARGS, probe->args, &points);
    if (r < 0)
        return r;
    ret->sites = calloc(points.n, sizeof(*ret->sites));
    if (!ret->sites)
        return -ENOMEM;
    for (size_t i = 0; i < points.n; i++)
        ret->sites[i].point = points.list[i];
    ret->found = (struct probe_found){.n = (uint32_t)points.n, .tail_calls = points.tail_calls, .ways_in = points.ways_in};
    return 0;
}

/* ---- what went wrong, for the user */

static const char *probe_why(int error, const struct worker_probe *probe)
{
    switch (error) {
    case -ENOENT:
        return probe->usdt ? "the file has no such USDT probe"
                           : "the file has no such function in its symbol tables";
    case -ENOTUNIQ:
        return "several functions have that name";
    case -ERANGE:
        return "the offset lies outside of the function";
    case -ENOEXEC:
        return "not an ELF file, or a malformed one";
    case -EILSEQ:
        return probe->offset ? "no instruction begins at that offset" : "its code can't be understood, so no place in it is safe for a probe";
    case -ENODATA:
        return probe->offset ? "there is no ret at that offset"
                             : "it has no ret of its own: it ends by jumps into other functions, whose results must be read there";
    case -E2BIG:
        return "too many sites";
    default:
        return strerror(-error);
    }
}

static const char *probe_why_absent(enum symbol_absence absence)
{
    switch (absence) {
    case SYMBOL_CHOSEN_AT_RUN_TIME:
        return ": which code it means is chosen at run time (IFUNC), so name that";
    case SYMBOL_OF_ANOTHER_FILE:
        return ": it calls that of another file, which must be named before it";
    case SYMBOL_TABLES_ABSENT:
        return ": it has none (it is stripped), or they name no functions";
    case SYMBOL_ABSENT:
        break;
    }
    return "";
}

static void probe_append(char *why, size_t len, const char *before, const struct symbol_suggestion *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        (void)snprintf(why + strlen(why), len - strlen(why), "%s%s", i == 0 ? before : ", ", list[i].name);
}

static void probe_explain(int error, struct module *module, const struct worker_probe *probe, char *why, size_t len)
{
    struct symbol_suggestion list[SUGGESTIONS_MAX];
    const char *colon = strchr(probe->symbol, ':');

    (void)snprintf(why, len, "%s", probe_why(error, probe));
    if (error == -ENOENT && probe->usdt) {
        probe_append(why, len, "; it has, for example: ", list, module_usdt_names(module, colon ? colon + 1 : probe->symbol, list));
    } else if (error == -ENOENT) {
        enum symbol_absence absence = module_absence(module, probe->symbol);
        (void)snprintf(why + strlen(why), len - strlen(why), "%s", probe_why_absent(absence));
        if (absence != SYMBOL_OF_ANOTHER_FILE && absence != SYMBOL_TABLES_ABSENT)
            probe_append(why, len, "; like it: ", list, module_similar(module, probe->symbol, list));
        if (absence == SYMBOL_ABSENT)
            (void)snprintf(why + strlen(why), len - strlen(why), "; C++ and Rust: as it reads, ns::f or ns::f(int), or mangled");
    } else if (error == -ENOTUNIQ) {
        probe_append(why, len, ": write one of ", list, module_namesakes(module, probe->symbol, list));
    }
}

/* ---- the search */

static int probe_sites(int elf_fd, const struct worker_probe *probe, struct probe_answer *ret, char *why, size_t why_len)
{
    CLEANUP(probe_file_close) struct probe_file file = {0};

    int r = probe_file_open(elf_fd, &file);
    if (r < 0) {
        (void)snprintf(why, why_len, "%s", probe_why(r, probe));
        return r;
    }
    r = probe->usdt ? probe_usdt(file.module, probe->symbol, ret) : probe_function(file.module, probe, ret);
    if (r < 0)
        probe_explain(r, file.module, probe, why, why_len);
    return r;
}

bool probe_has_function(int elf_fd, const char *symbol)
{
    CLEANUP(probe_file_close) struct probe_file file = {0};
    uint64_t file_offset;

    if (probe_file_open(elf_fd, &file) < 0)
        return false;
    int r = module_find_function(file.module, symbol, 0, &file_offset);
    return r == 0 || r == -ENOTUNIQ;
}

int probe_find_sites(int elf_fd, const struct worker_probe *probe, struct probe_found *ret, struct probe_site **ret_sites, char *why,
                     size_t why_len)
{
    struct probe_answer answer = {0};

    int r = probe_sites(elf_fd, probe, &answer, why, why_len);
    if (r < 0) {
        probe_answer_deinit(&answer);
        return r;
    }
    *ret = answer.found;
    *ret_sites = answer.sites;
    return 0;
}

int probe_find(int elf_fd, const struct worker_probe *probe, int out_fd, uint64_t *ret_len, char *message,
               size_t message_len)
{
    CLEANUP(probe_answer_deinit) struct probe_answer answer = {0};
    char why[PROBE_WHY_BYTES] = "";

    int r = probe_sites(elf_fd, probe, &answer, why, sizeof(why));
    if (r == 0 && answer.found.n > PROBE_MAX_SITES)
        r = -E2BIG;
    size_t len = answer.found.n * sizeof(*answer.sites);
    if (r == 0 && (write(out_fd, &answer.found, sizeof(answer.found)) != sizeof(answer.found)
                   || write(out_fd, answer.sites, len) != (ssize_t)len))
        r = -EIO;
    if (r < 0) {
        (void)snprintf(message, message_len, "%s: %s", probe->symbol, why[0] ? why : probe_why(r, probe));
        return r;
    }
    *ret_len = sizeof(answer.found) + len;
    return 0;
}
