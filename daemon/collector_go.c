/* Where the program lies in memory, and its memory by /proc/PID/mem, which is that of one image whatever the process becomes. */
#include "daemon/collector_go.h"

#include <errno.h>
#include <unistd.h>

#include "daemon/mapping_table.h"
#include "daemon/raw_profile.h"
#include "util/cleanup.h"
#include "util/clock.h"

int collector_go_take(struct collector_go *go, int fd)
{
    if (go->known || fd < 0)
        return -EPROTO;
    int r = go_program_read(fd, &go->program);
    go->known = r == 0;
    return r;
}

void collector_go_deinit(struct collector_go *go)
{
    go_program_deinit(&go->program);
    go->known = false;
}

static ssize_t read_memory(void *userdata, uint64_t address, void *to, size_t len)
{
    const int *memory = userdata;

    if (address > INT64_MAX)
        return -EFAULT;
    ssize_t n = pread(*memory, to, len, (off_t)address);
    return n < 0 ? -errno : n;
}

/* What is to be added to the file's addresses. */
static bool find_bias(const struct mapping_table *table, const struct go_runtime *runtime, uint64_t *ret)
{
    const struct raw_mapping *m;

    for (size_t i = 0; (m = mapping_table_program(table, i)); i++) {
        uint64_t from = runtime->text_offset - m->offset;
        if (runtime->text_offset < m->offset || from >= m->end - m->start)
            continue;
        *ret = m->start + from - runtime->text;
        return true;
    }
    return false;
}

int collector_go_read(const struct collector_go *go, const struct mapping_table *table, const struct target_clock *clock, uint32_t epoch,
                      int memory, struct goroutine_counts *ret)
{
    struct goroutine_source source = {.read = read_memory, .userdata = &memory, .runtime = &go->program.runtime, .image = go->program.image};

    if (mapping_table_images(table) != go->images || !find_bias(table, &go->program.runtime, &source.bias))
        return -ESTALE;
    CLEANUP(raw_writer_cleanup) struct raw_writer *w = raw_writer_new();
    if (!w)
        return -ENOMEM;
    int r = goroutines_read(&source, clock->known ? monotonic_ns() + clock->ahead_ns : 0, epoch, w, ret);
    return r < 0 ? r : raw_writer_finish(w);
}
