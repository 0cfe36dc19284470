/* Reading and comparing the first page of mapped files. Owns nothing.
 *
 * By process_vm_readv, not by /proc/PID/mem: the page may have to be read from a file system that does not answer, and the latter holds the
 * target's memory lock meanwhile. */
#include "daemon/mapped_head.h"

#include <elf.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

/* Segments of notes that are looked at, and notes in each. */
#define MAX_PROGRAM_HEADERS 64
#define MAX_NOTES 16

void mapped_head_read(const struct target *t, uint64_t address, struct mapped_head *ret)
{
    struct iovec local = {.iov_base = ret->bytes, .iov_len = sizeof(ret->bytes)};
    struct iovec remote = {.iov_base = (void *)(uintptr_t)address, .iov_len = sizeof(ret->bytes)};

    ret->len = 0;
    if (address == 0)
        return;
    ssize_t n = process_vm_readv(t->tid, &local, 1, &remote, 1, 0);
    if (n > 0 && target_alive(t)) /* the number was the target's, then */
        ret->len = (size_t)n;
}

void mapped_head_read_file(int fd, struct mapped_head *ret)
{
    ssize_t n = pread(fd, ret->bytes, sizeof(ret->bytes), 0);

    ret->len = n > 0 ? (size_t)n : 0;
}

static bool head_elf(const struct mapped_head *head, Elf64_Ehdr *ret)
{
    if (head->len < sizeof(*ret))
        return false;
    memcpy(ret, head->bytes, sizeof(*ret));
    return memcmp(ret->e_ident, ELFMAG, SELFMAG) == 0 && ret->e_ident[EI_CLASS] == ELFCLASS64;
}

/* The n-th program header, where it is in the page. */
static bool head_segment(const struct mapped_head *head, const Elf64_Ehdr *elf, size_t n, Elf64_Phdr *ret)
{
    size_t at = n * sizeof(*ret);

    if (elf->e_phentsize != sizeof(*ret) || n >= elf->e_phnum || n >= MAX_PROGRAM_HEADERS || elf->e_phoff > head->len ||
        at > head->len - elf->e_phoff || sizeof(*ret) > head->len - elf->e_phoff - at)
        return false;
    memcpy(ret, head->bytes + elf->e_phoff + at, sizeof(*ret));
    return true;
}

static size_t round_up(size_t n, size_t align)
{
    return (n + align - 1) & ~(align - 1);
}

/* The build id among the notes of [at, end). */
static const uint8_t *notes_build_id(const uint8_t *at, const uint8_t *end, size_t align, size_t *ret_len)
{
    Elf64_Nhdr note;

    for (size_t i = 0; i < MAX_NOTES && (size_t)(end - at) >= sizeof(note); i++) {
        memcpy(&note, at, sizeof(note));
        at += sizeof(note);
        size_t left = (size_t)(end - at), name = round_up(note.n_namesz, align);
        if (name > left || note.n_descsz > left - name)
            return NULL;
        if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == sizeof(ELF_NOTE_GNU) &&
            memcmp(at, ELF_NOTE_GNU, sizeof(ELF_NOTE_GNU)) == 0 && note.n_descsz > 0 && note.n_descsz <= MAPPED_ID_MAX_BYTES) {
            *ret_len = note.n_descsz;
            return at + name;
        }
        size_t desc = round_up(note.n_descsz, align);
        if (desc > left - name)
            return NULL;
        at += name + desc;
    }
    return NULL;
}

const uint8_t *mapped_head_build_id(const struct mapped_head *head, size_t *ret_len)
{
    Elf64_Ehdr elf;
    Elf64_Phdr segment;

    if (!head_elf(head, &elf))
        return NULL;
    for (size_t i = 0; head_segment(head, &elf, i, &segment); i++) {
        if (segment.p_type != PT_NOTE || segment.p_offset > head->len)
            continue;
        size_t left = head->len - segment.p_offset, len = segment.p_filesz < left ? segment.p_filesz : left;
        const uint8_t *notes = head->bytes + segment.p_offset;
        const uint8_t *id = notes_build_id(notes, notes + len, segment.p_align == 8 ? 8 : 4, ret_len);
        if (id)
            return id;
    }
    return NULL;
}

/* The program headers, where no build id can be compared: what lies where in the two files. */
static bool same_segments(const struct mapped_head *a, const struct mapped_head *b)
{
    Elf64_Ehdr elf_a, elf_b;
    Elf64_Phdr segment_a, segment_b;

    if (!head_elf(a, &elf_a))
        return true;
    if (!head_elf(b, &elf_b) || elf_a.e_entry != elf_b.e_entry || elf_a.e_phnum != elf_b.e_phnum)
        return false;
    for (size_t i = 0; head_segment(a, &elf_a, i, &segment_a); i++)
        if (!head_segment(b, &elf_b, i, &segment_b) || memcmp(&segment_a, &segment_b, sizeof(segment_a)) != 0)
            return false;
    return true;
}

bool mapped_head_is_of(const struct mapped_head *head, int fd)
{
    struct mapped_head file;
    size_t len, file_len;

    if (head->len == 0)
        return true;
    mapped_head_read_file(fd, &file);
    if (file.len >= head->len && memcmp(file.bytes, head->bytes, head->len) == 0)
        return true;
    const uint8_t *id = mapped_head_build_id(head, &len), *file_id = mapped_head_build_id(&file, &file_len);
    if (id && file_id)
        return len == file_len && memcmp(id, file_id, len) == 0;
    return same_segments(head, &file);
}
