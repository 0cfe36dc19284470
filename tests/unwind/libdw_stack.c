/* libdw's unwinder over a tracee, and its symbols. Objects are reported anew when the tracee's mappings were read anew. Separate debug
 * files give names alone: libdw prefers .eh_frame. */
#include "tests/unwind/libdw_stack.h"

#include <elfutils/libdwfl.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DWARF_RSP 7

struct libdw_stack {
    struct tracee *tracee;
    Dwfl *dwfl;
    uint64_t maps_read; /* of the tracee, when its objects were reported */
    uint64_t *frames, *stack_pointers;
    size_t n, size;
};

static const Dwfl_Callbacks callbacks = {
    .find_elf = dwfl_linux_proc_find_elf,
    .find_debuginfo = dwfl_standard_find_debuginfo,
};

static pid_t next_thread(Dwfl *dwfl, void *arg, void **state)
{
    struct libdw_stack *libdw = arg;
    bool first = *state == NULL;

    *state = libdw;
    return first ? libdw->tracee->tid : 0;
}

static bool get_thread(Dwfl *dwfl, pid_t tid, void *arg, void **state)
{
    *state = arg;
    return true;
}

static bool read_word(Dwfl *dwfl, Dwarf_Addr address, Dwarf_Word *ret_word, void *arg)
{
    struct libdw_stack *libdw = arg;

    return tracee_read(libdw->tracee, ret_word, sizeof(*ret_word), address) == 0;
}

static bool set_registers(Dwfl_Thread *thread, void *arg)
{
    const struct user_regs_struct *regs = &((struct libdw_stack *)arg)->tracee->regs;
    const Dwarf_Word words[] = {
        regs->rax, regs->rdx, regs->rcx, regs->rbx, regs->rsi, regs->rdi, regs->rbp, regs->rsp, regs->r8,
        regs->r9,  regs->r10, regs->r11, regs->r12, regs->r13, regs->r14, regs->r15, regs->rip,
    };

    return dwfl_thread_state_registers(thread, 0, sizeof(words) / sizeof(words[0]), words);
}

static const Dwfl_Thread_Callbacks thread_callbacks = {
    .next_thread = next_thread,
    .get_thread = get_thread,
    .memory_read = read_word,
    .set_initial_registers = set_registers,
};

static int report(struct libdw_stack *libdw)
{
    if (libdw->dwfl)
        dwfl_end(libdw->dwfl);
    libdw->maps_read = libdw->tracee->maps_read;
    libdw->dwfl = dwfl_begin(&callbacks);
    if (!libdw->dwfl)
        return -ENOMEM;
    if (dwfl_linux_proc_report(libdw->dwfl, libdw->tracee->pid) || dwfl_report_end(libdw->dwfl, NULL, NULL))
        return -EIO;
    if (!dwfl_attach_state(libdw->dwfl, NULL, libdw->tracee->pid, &thread_callbacks, libdw))
        return -EIO;
    return 0;
}

/* The newest mappings' objects. */
static int refresh(struct libdw_stack *libdw)
{
    if (libdw->tracee->maps_stale) {
        int r = tracee_read_maps(libdw->tracee);

        if (r)
            return r;
    }
    return libdw->dwfl && libdw->maps_read == libdw->tracee->maps_read ? 0 : report(libdw);
}

int libdw_stack_new(struct tracee *tracee, struct libdw_stack **ret_libdw)
{
    struct libdw_stack *libdw = calloc(1, sizeof(*libdw));
    int r;

    if (!libdw)
        return -ENOMEM;
    libdw->tracee = tracee;
    r = refresh(libdw);
    if (r)
        libdw_stack_free(libdw);
    else
        *ret_libdw = libdw;
    return r;
}

void libdw_stack_free(struct libdw_stack *libdw)
{
    if (libdw && libdw->dwfl)
        dwfl_end(libdw->dwfl);
    free(libdw);
}

static int take_frame(Dwfl_Frame *frame, void *arg)
{
    struct libdw_stack *libdw = arg;
    Dwarf_Addr pc;

    if (!dwfl_frame_pc(frame, &pc, NULL))
        return DWARF_CB_ABORT;
    if (libdw->n < libdw->size)
        libdw->frames[libdw->n] = pc;
    if (libdw->n < libdw->size && libdw->stack_pointers && dwfl_frame_reg(frame, DWARF_RSP, &libdw->stack_pointers[libdw->n]))
        return DWARF_CB_ABORT;
    libdw->n++;
    return DWARF_CB_OK;
}

size_t libdw_stack_frames(struct libdw_stack *libdw, uint64_t *frames, size_t size, bool *ret_rooted)
{
    return libdw_stack_frames_at(libdw, frames, NULL, size, ret_rooted);
}

size_t libdw_stack_frames_at(struct libdw_stack *libdw, uint64_t *frames, uint64_t *stack_pointers, size_t size, bool *ret_rooted)
{
    *ret_rooted = false;
    if (refresh(libdw))
        return 0;
    libdw->frames = frames;
    libdw->stack_pointers = stack_pointers;
    libdw->size = size;
    libdw->n = 0;
    *ret_rooted = dwfl_getthread_frames(libdw->dwfl, libdw->tracee->tid, take_frame, libdw) == 0;
    return libdw->n;
}

void libdw_stack_name(struct libdw_stack *libdw, uint64_t address, const char **ret_object, const char **ret_function)
{
    Dwfl_Module *module = refresh(libdw) ? NULL : dwfl_addrmodule(libdw->dwfl, address);
    const char *path = module ? dwfl_module_info(module, NULL, NULL, NULL, NULL, NULL, NULL, NULL) : NULL;
    const char *slash = path ? strrchr(path, '/') : NULL;
    const char *function = module ? dwfl_module_addrname(module, address) : NULL;

    *ret_object = slash ? slash + 1 : path ? path : "?";
    *ret_function = function ? function : "?";
}

struct symbol_search {
    const char *name;
    uint64_t found;
};

static int find_symbol(Dwfl_Module *module, void **data, const char *name, Dwarf_Addr base, void *arg)
{
    struct symbol_search *search = arg;
    int n = dwfl_module_getsymtab(module);

    for (int i = 1; i < n; i++) {
        GElf_Sym symbol;
        GElf_Addr address;
        GElf_Word section;
        const char *found = dwfl_module_getsym_info(module, i, &symbol, &address, &section, NULL, NULL);

        if (found && section != SHN_UNDEF && strcmp(found, search->name) == 0) {
            search->found = address;
            return DWARF_CB_ABORT;
        }
    }
    return DWARF_CB_OK;
}

uint64_t libdw_stack_symbol(struct libdw_stack *libdw, const char *name)
{
    struct symbol_search search = {.name = name};

    if (!refresh(libdw))
        (void)dwfl_getmodules(libdw->dwfl, find_symbol, &search, 0);
    return search.found;
}

uint64_t libdw_stack_object_address(struct libdw_stack *libdw, uint64_t address)
{
    Dwfl_Module *module = refresh(libdw) ? NULL : dwfl_addrmodule(libdw->dwfl, address);

    if (module)
        (void)dwfl_module_relocate_address(module, &address);
    return address;
}
