/* A file with notes of profiles and labels, from anybody. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "symbolize/label_place.h"
#include "symbolize/profile_notes.h"
#include "tests/fuzz/fuzz.h"
#include "util/cleanup.h"

static void check_notes(const struct profile_notes *notes)
{
    FUZZ_CHECK(notes->n <= PROFILE_NOTES_MAX && notes->n_sites <= PROFILE_NOTES_MAX_SITES);
    for (size_t i = 0; i < notes->n; i++) {
        const struct profile_note *note = &notes->profiles[i];
        FUZZ_CHECK(note->name[0] && note->unit[0]);
        FUZZ_CHECK(!note->name[sizeof(note->name) - 1] && !note->description[sizeof(note->description) - 1]
                   && !note->unit[sizeof(note->unit) - 1]);
    }
    for (size_t i = 0; i < notes->n_sites; i++)
        FUZZ_CHECK(notes->sites[i].profile < notes->n && notes->sites[i].adds <= 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct elf_file file = {0};
    struct profile_notes notes = {0};
    struct label_place place;
    AUTO_CLOSE int fd = memfd_create("input", MFD_CLOEXEC);
    FUZZ_CHECK(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    if (elf_file_open(fd, &file) < 0)
        return 0;
    if (profile_notes_read(&file, &notes) == 0)
        check_notes(&notes);
    profile_notes_deinit(&notes);
    int r = label_place_find(&file, &place);
    FUZZ_CHECK(r == 0 || r == -ENOENT || r == -ENOTSUP || r == -ENOEXEC);
    elf_file_close(&file);
    return 0;
}
