/* Owns the newest list. One is looked through at a time; those that come meanwhile are worth no more than the last of them. */
#include "daemon/recording_late.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "daemon/raw_profile.h"
#include "daemon/recording_impl.h"
#include "util/cleanup.h"

void recording_late_on_mappings(struct recording *rec, int fd)
{
    if (fd < 0 || rec->phase > PHASE_OPEN)
        return;
    close_fd(&rec->late.fd);
    rec->late.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    recording_late_work(rec);
}

void recording_late_work(struct recording *rec)
{
    struct recording_late *late = &rec->late;

    if (rec->phase != PHASE_OPEN || late->busy || late->fd < 0)
        return;
    AUTO_CLOSE int fd = TAKE_FD(late->fd);
    late->busy = true;
    if (rec->heap)
        recording_heap_look(rec, fd);
    else
        recording_custom_look(rec, fd);
}

void recording_late_looked(struct recording *rec)
{
    struct recording_late *late = &rec->late;

    late->busy = false;
    for (; rec->phase == PHASE_OPEN && late->n_attached < rec->places.n_files; late->n_attached++) {
        int r = recorder_more(rec->recorder, &rec->places.files[late->n_attached]);
        if (r < 0)
            recording_late_on_probed(rec, r);
    }
    recording_late_work(rec);
}

void recording_late_on_file(struct recording *rec, int error, int fd)
{
    if (rec->phase != PHASE_OPEN) {
        close_fd(&fd);
        return;
    }
    if (rec->heap)
        recording_heap_on_file(rec, error, fd);
    else
        recording_custom_on_file(rec, error, fd);
}

void recording_late_on_probed(struct recording *rec, int error)
{
    rec->late.n_probed += error == 0;
    rec->late.n_failed += error < 0;
    rec->late.error = error < 0 ? error : rec->late.error;
}

void recording_late_deinit(struct recording *rec)
{
    close_fd(&rec->late.fd);
}

int recording_late_facts(const struct recording *rec, const char *kind, struct raw_writer *w)
{
    const struct recording_late *late = &rec->late;
    char key[64];
    int e = 0;

    (void)snprintf(key, sizeof(key), "%s.loaded_later", kind);
    if (late->n_probed > 0)
        e = raw_writer_fact(w, key, "%u: what these files did before their probes were there is missing%s", late->n_probed,
                            rec->heap ? ", but what an allocator among them had mapped by then counts as mapped by the program" : "");
    (void)snprintf(key, sizeof(key), "%s.later_unprobed", kind);
    if (late->n_failed > 0)
        e = e ? e : raw_writer_fact(w, key, "%u: what these files do is missing: %s", late->n_failed, strerror(-late->error));
    return e;
}
