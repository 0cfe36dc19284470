/* Named profiles and their sites: those of this very program, as cprofd/profile.h leaves them, and notes of all malformed kinds. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "include/cprofd/profile.h"
#include "symbolize/profile_notes.h"
#include "symbolize/symbolizer.h"
#include "tests/unit/section_file.h"
#include "util/cleanup.h"

#define HELD __attribute__((noinline, noclone, used))
#define MAX_BYTES (1 << 20)

CPROFD_PROFILE(open_blobs, "blobstore.Open", "open blobs: 100% of {them|these}, \"quoted\", \\ \xff", "count");
CPROFD_PROFILE(blob_bytes, "bytes", "", "bytes");
CPROFD_PROFILE(open_again, "blobstore.Open", "another text", "blobs");
CPROFD_PROFILE(unused, "", "has no name", "count");

static volatile unsigned long sink;

HELD static void adds_open(void *blob)
{
    CPROFD_PROFILE_ADD(open_blobs, blob);
    sink++;
}

HELD static void adds_bytes(unsigned long key, unsigned short bytes)
{
    CPROFD_PROFILE_ADD_WEIGHT(blob_bytes, key, bytes, 0);
    sink++;
}

HELD static void adds_again(long key)
{
    CPROFD_PROFILE_ADD_WEIGHT(open_again, key, 1, 3);
    sink++;
}

HELD static void removes_both(void *blob)
{
    CPROFD_PROFILE_REMOVE(open_blobs, blob);
    CPROFD_PROFILE_REMOVE(blob_bytes, blob);
    sink++;
}

static struct profile_notes read_fd(int given)
{
    AUTO_CLOSE int fd = given;
    struct elf_file file = {0};
    struct profile_notes notes = {.n = 99};
    ck_assert_int_eq(elf_file_open(fd, &file), 0);
    ck_assert_int_eq(profile_notes_read(&file, &notes), 0);
    elf_file_close(&file);
    return notes;
}

static const struct profile_note *profile_named(const struct profile_notes *notes, const char *name)
{
    for (size_t i = 0; i < notes->n; i++)
        if (strcmp(notes->profiles[i].name, name) == 0)
            return &notes->profiles[i];
    ck_abort_msg("%s is not there", name);
    return NULL;
}

START_TEST(test_own_profiles)
{
    struct profile_notes notes = read_fd(open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    ck_assert_uint_eq(notes.n, 2);
    const struct profile_note *open_note = profile_named(&notes, "blobstore.Open");
    bool first = strcmp(open_note->unit, "count") == 0; /* which of the two comes first is the compiler's */
    ck_assert_str_eq(open_note->unit, first ? "count" : "blobs");
    ck_assert_str_eq(open_note->description,
                     first ? "open blobs: 100% of {them|these}, \"quoted\", \\ \xff" : "another text");
    ck_assert_str_eq(profile_named(&notes, "bytes")->unit, "bytes");
    ck_assert_str_eq(profile_named(&notes, "bytes")->description, "");
    ck_assert_uint_eq(notes.left_out, 0);
    profile_notes_deinit(&notes);
}
END_TEST

#if defined(__x86_64__) || defined(__aarch64__)
static int no_debug_file(void *userdata, const struct debug_file_request *request, int *ret_fd)
{
    return -ENOENT;
}

/* How many sites of that profile and kind are in that function. */
static unsigned sites_in(struct module *m, const struct profile_notes *notes, const char *profile, bool adds, const char *function)
{
    struct symbol_frame frames[SYMBOL_MAX_INLINED];
    unsigned found = 0;
    for (size_t i = 0; i < notes->n_sites; i++) {
        const struct profile_note_site *site = &notes->sites[i];
        ck_assert_uint_lt(site->profile, notes->n);
        if (strcmp(notes->profiles[site->profile].name, profile) != 0 || !!site->adds != adds)
            continue;
        ck_assert_uint_ge(module_resolve(m, site->file_offset, SYMBOLIZE_FAST, frames), 1);
        found += strcmp(frames[0].name, function) == 0;
    }
    return found;
}

START_TEST(test_own_sites)
{
    static const struct symbolizer_ops ops = {.open_debug_file = no_debug_file};
    struct symbolizer *s = symbolizer_new(&ops, SIZE_MAX);
    struct module *m;
    AUTO_CLOSE int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    ck_assert_int_eq(symbolizer_module(s, &(struct file_identity){.ino = 1}, dup(fd), NULL, &m), 0);
    struct profile_notes notes = read_fd(dup(fd));
    ck_assert_uint_eq(notes.n_sites, 5);
    ck_assert_uint_eq(sites_in(m, &notes, "blobstore.Open", true, "adds_open"), 1);
    ck_assert_uint_eq(sites_in(m, &notes, "blobstore.Open", true, "adds_again"), 1);
    ck_assert_uint_eq(sites_in(m, &notes, "bytes", true, "adds_bytes"), 1);
    ck_assert_uint_eq(sites_in(m, &notes, "blobstore.Open", false, "removes_both"), 1);
    ck_assert_uint_eq(sites_in(m, &notes, "bytes", false, "removes_both"), 1);
#ifdef __x86_64__
    for (size_t i = 0; i < notes.n_sites; i++) {
        uint8_t byte;
        ck_assert_int_eq(pread(fd, &byte, 1, (off_t)notes.sites[i].file_offset), 1);
        ck_assert_uint_eq(byte, 0x90);
    }
#endif
    profile_notes_deinit(&notes);
    symbolizer_free(s);
}
END_TEST
#endif

struct notes_given {
    uint8_t *bytes;
    size_t n;
};

static struct notes_given notes_new(void)
{
    struct notes_given notes = {.bytes = calloc(1, MAX_BYTES)};
    ck_assert_ptr_nonnull(notes.bytes);
    return notes;
}

static void put_note(struct notes_given *notes, const char *owner, uint32_t type, const void *text, size_t n)
{
    Elf64_Nhdr header = {.n_namesz = (uint32_t)strlen(owner) + 1, .n_descsz = (uint32_t)n, .n_type = type};
    ck_assert_uint_lt(notes->n + n + 64, MAX_BYTES);
    memcpy(notes->bytes + notes->n, &header, sizeof(header));
    notes->n += sizeof(header);
    memcpy(notes->bytes + notes->n, owner, header.n_namesz);
    notes->n += (header.n_namesz + 3u) & ~3u;
    if (n)
        memcpy(notes->bytes + notes->n, text, n);
    notes->n += (n + 3) & ~(size_t)3;
}

static struct profile_notes read_notes(struct notes_given *given, const struct section_given *more)
{
    struct section_given sections[] = {
        {".note.cprofd", SHF_ALLOC, given->bytes, given->n, SHT_NOTE}, more ? *more : (struct section_given){0}};
    return read_fd(section_file(sections, more ? 2 : 1, section_file_ident));
}

START_TEST(test_malformed_notes)
{
    struct notes_given given = notes_new();
    put_note(&given, "cprofd", 1, "no end", 6);
    put_note(&given, "cprofd", 1, "no\0description", 14);
    put_note(&given, "cprofd", 1, "no\0unit\0here", 12);
    put_note(&given, "cprofd", 1, "", 0);
    put_note(&given, "cprofd", 1, "\0no name\0count", 15);
    put_note(&given, "others", 1, "others\0text\0count", 18);
    put_note(&given, "cprofd", 3, "type\0text\0count", 16);
    given.n += 8; /* zero words, as a sanitizer leaves them */
    put_note(&given, "cprofd", 1, "good\0text\0", 11);
    put_note(&given, "cprofd", 1, "good\0later text\0bytes", 22);
    put_note(&given, "cprofd", 1, "cut off\0text\0count", 19);
    given.n -= 4;
    struct profile_notes notes = read_notes(&given, NULL);
    ck_assert_uint_eq(notes.n, 1);
    ck_assert_str_eq(notes.profiles[0].name, "good");
    ck_assert_str_eq(notes.profiles[0].description, "text");
    ck_assert_str_eq(notes.profiles[0].unit, "count");
    ck_assert_uint_eq(notes.left_out, 0);
    ck_assert_uint_eq(notes.n_sites, 0);
    profile_notes_deinit(&notes);
    free(given.bytes);
}
END_TEST

START_TEST(test_other_machines)
{
    struct notes_given given = notes_new();
    put_note(&given, "cprofd", 1, "good\0text\0count", 16);
    const struct section_given section = {".note.cprofd", SHF_ALLOC, given.bytes, given.n, SHT_NOTE};
    uint8_t ident[EI_NIDENT];
    memcpy(ident, section_file_ident, sizeof(ident));
    ident[EI_DATA] = ident[EI_DATA] == ELFDATA2LSB ? ELFDATA2MSB : ELFDATA2LSB;
    AUTO_CLOSE int fd = section_file(&section, 1, ident);
    struct elf_file file = {0};
    if (elf_file_open(fd, &file) == 0) {
        struct profile_notes notes;
        ck_assert_int_eq(profile_notes_read(&file, &notes), 0);
        ck_assert_uint_eq(notes.n, 0);
        profile_notes_deinit(&notes);
        elf_file_close(&file);
    }
    free(given.bytes);
}
END_TEST

START_TEST(test_long_texts_are_cut)
{
    struct notes_given given = notes_new();
    char text[3 * 400];
    for (int i = 0; i < 3; i++) {
        memset(text + 400 * i, 'a' + i, 399);
        text[400 * i + 399] = 0;
    }
    put_note(&given, "cprofd", 1, text, sizeof(text));
    struct profile_notes notes = read_notes(&given, NULL);
    ck_assert_uint_eq(notes.n, 1);
    ck_assert_uint_eq(strlen(notes.profiles[0].name), PROFILE_NOTE_TEXT_BYTES - 1);
    ck_assert_uint_eq(strlen(notes.profiles[0].unit), PROFILE_NOTE_TEXT_BYTES - 1);
    ck_assert_int_eq(notes.profiles[0].description[0], 'b');
    profile_notes_deinit(&notes);
    free(given.bytes);
}
END_TEST

START_TEST(test_too_many_profiles)
{
    struct notes_given given = notes_new();
    for (unsigned i = 0; i < PROFILE_NOTES_MAX + 5; i++) {
        char text[32] = "";
        int n = snprintf(text, sizeof(text), "name%u", i);
        put_note(&given, "cprofd", 1, text, (size_t)n + 3); /* an empty description and unit */
    }
    struct profile_notes notes = read_notes(&given, NULL);
    ck_assert_uint_eq(notes.n, PROFILE_NOTES_MAX);
    ck_assert_str_eq(notes.profiles[PROFILE_NOTES_MAX - 1].name, "name1023");
    ck_assert_uint_eq(notes.left_out, 5);
    profile_notes_deinit(&notes);
    free(given.bytes);
}
END_TEST

/* Sites that no USDT note tells of, or of a wrong size. */
START_TEST(test_sites_without_a_probe)
{
    struct notes_given given = notes_new(), sites = notes_new();
    const uint64_t words[] = {0x1000, 0};
    put_note(&given, "cprofd", 1, "good\0text\0count", 16);
    put_note(&sites, "cprofd", 2, words, sizeof(words));
    put_note(&sites, "cprofd", 2, words, sizeof(words[0]));
    const struct section_given section = {".note.cprofd.site", 0, sites.bytes, sites.n, SHT_NOTE};
    struct profile_notes notes = read_notes(&given, &section);
    ck_assert_uint_eq(notes.n, 1);
    ck_assert_uint_eq(notes.n_sites, 0);
    ck_assert_uint_eq(notes.left_out, 1);
    profile_notes_deinit(&notes);
    free(given.bytes);
    free(sites.bytes);
}
END_TEST

START_TEST(test_none)
{
    const struct section_given section = {".text", SHF_ALLOC, (const uint8_t *)"x", 1, 0};
    struct profile_notes notes = read_fd(section_file(&section, 1, section_file_ident));
    ck_assert_uint_eq(notes.n, 0);
    ck_assert_ptr_null(notes.profiles);
    profile_notes_deinit(&notes);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("profile_notes");
    TCase *tests = tcase_create("profile_notes");
    tcase_add_test(tests, test_own_profiles);
#if defined(__x86_64__) || defined(__aarch64__)
    tcase_add_test(tests, test_own_sites);
#endif
    tcase_add_test(tests, test_malformed_notes);
    tcase_add_test(tests, test_other_machines);
    tcase_add_test(tests, test_long_texts_are_cut);
    tcase_add_test(tests, test_too_many_profiles);
    tcase_add_test(tests, test_sites_without_a_probe);
    tcase_add_test(tests, test_none);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
