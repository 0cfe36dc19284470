/* Images of debug sections: what is taken into one, however it is compressed, and what isn't. */
#include "symbolize/debug_image.h"

#include <check.h>
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#ifdef HAVE_ZSTD
#include <zstd.h>
#endif

#include "symbolize/elf_section.h"
#include "tests/unit/section_file.h"
#include "util/cleanup.h"

#define PLAIN_BYTES (3u << 20)

enum { AS_ZLIB = 1, AS_ZSTD = 2 };

static uint8_t *plain; /* PLAIN_BYTES that compress a little */

static void plain_make(void)
{
    uint32_t state = 1;
    plain = malloc(PLAIN_BYTES);
    for (size_t i = 0; i < PLAIN_BYTES; i++) {
        state = state * 1664525u + 1013904223u;
        plain[i] = (uint8_t)((state >> 24) & 31);
    }
}

static void plain_free(void)
{
    free(plain);
}

/* The ELF file of some sections, opened. */
static struct elf_file file_of(const struct section_given *given, size_t n, const uint8_t ident[EI_NIDENT])
{
    struct elf_file file = {0};
    AUTO_CLOSE int fd = section_file(given, n, ident);
    ck_assert_int_eq(elf_file_open(fd, &file), 0);
    return file;
}

/* Compressed bytes behind SHF_COMPRESSED's header. */
static size_t compress_into(int how, const uint8_t *bytes, size_t n, uint8_t *out, size_t room)
{
    Elf64_Chdr header = {.ch_type = (Elf64_Word)how, .ch_size = n, .ch_addralign = 1};
    memcpy(out, &header, sizeof(header));
    if (how == AS_ZLIB) {
        uLongf size = room - sizeof(header);
        ck_assert_int_eq(compress(out + sizeof(header), &size, bytes, n), Z_OK);
        return sizeof(header) + size;
    }
#ifdef HAVE_ZSTD
    return sizeof(header) + ZSTD_compress(out + sizeof(header), room - sizeof(header), bytes, n, 3);
#else
    return 0;
#endif
}

static size_t compress_gnu(const uint8_t *bytes, size_t n, uint8_t *out, size_t room)
{
    uint64_t size = htobe64(n);
    uLongf used = room - 12;
    memcpy(out, "ZLIB", 4);
    memcpy(out + 4, &size, sizeof(size));
    ck_assert_int_eq(compress(out + 12, &used, bytes, n), Z_OK);
    return 12 + used;
}

/* True where the image has that section with those bytes. */
static bool has(const struct debug_image *image, const char *name, const uint8_t *bytes, size_t n)
{
    struct elf_file file = {.elf = image->elf};
    GElf_Shdr header;
    Elf_Scn *section = elf_file_section(&file, name, &header);
    if (!section || header.sh_type == SHT_NOBITS)
        return false;
    const Elf_Data *data = elf_rawdata(section, NULL);
    return data && data->d_size == n && memcmp(data->d_buf, bytes, n) == 0;
}

static bool lacks(const struct debug_image *image, const char *name)
{
    struct elf_file file = {.elf = image->elf};
    return !elf_file_has_data(&file, name);
}

START_TEST(test_compressions)
{
    size_t room = 2 * PLAIN_BYTES;
    AUTO_FREE uint8_t *zlib = malloc(room);
    AUTO_FREE uint8_t *zstd = malloc(room);
    AUTO_FREE uint8_t *gnu = malloc(room);
    struct section_given given[] = {
        {".debug_info", SHF_COMPRESSED, zlib, compress_into(AS_ZLIB, plain, PLAIN_BYTES, zlib, room)},
        {".debug_line", SHF_COMPRESSED, zstd, compress_into(AS_ZSTD, plain, PLAIN_BYTES / 2, zstd, room)},
        {".zdebug_str", 0, gnu, compress_gnu(plain, 1000, gnu, room)},
        {".debug_abbrev", 0, plain, 2u << 20},
        {".debug_loclists", SHF_COMPRESSED, zlib, 100},
        {".debug_types", 0, plain, 100},
        {".debug_info.dwo", 0, plain + 1, 7},
        {".debug_rnglists", 0, plain, 200, SHT_NOBITS},
        {".debug_frame", 0, plain + 5, 50},
        {".text", 0, plain, 100},
    };
    CLEANUP(elf_file_close) struct elf_file file = file_of(given, sizeof(given) / sizeof(*given), section_file_ident);
    CLEANUP(debug_image_free) struct debug_image image = {0};
    ck_assert(debug_image_is_wanted(&file));
    ck_assert_int_eq(debug_image_new(&file, DEBUG_IMAGE_NAMES, &image), 0);
    ck_assert(has(&image, ".debug_info", plain, PLAIN_BYTES));
#ifdef HAVE_ZSTD
    ck_assert(has(&image, ".debug_line", plain, PLAIN_BYTES / 2));
#else
    ck_assert(lacks(&image, ".debug_line"));
#endif
    ck_assert(has(&image, ".debug_str", plain, 1000));
    ck_assert(has(&image, ".debug_abbrev", plain, 2u << 20));
    ck_assert(has(&image, ".debug_info.dwo", plain + 1, 7));
    ck_assert(lacks(&image, ".debug_loclists") && lacks(&image, ".debug_types") && lacks(&image, ".text"));
    ck_assert(lacks(&image, ".debug_rnglists") && lacks(&image, ".debug_frame") && lacks(&image, ".zdebug_str"));
    debug_image_free(&image);
    ck_assert_int_eq(debug_image_new(&file, DEBUG_IMAGE_FRAMES, &image), 0);
    ck_assert(has(&image, ".debug_frame", plain + 5, 50) && lacks(&image, ".debug_info"));
    elf_file_drop_pages(&file); /* what was dropped is there again */
    debug_image_free(&image);
    ck_assert_int_eq(debug_image_new(&file, DEBUG_IMAGE_NAMES, &image), 0);
    ck_assert(has(&image, ".debug_info", plain, PLAIN_BYTES));
}
END_TEST

START_TEST(test_nothing_to_do)
{
    struct section_given given[] = {{".debug_info", 0, plain, 100}, {".text", 0, plain, 100}, {".zdebug_line", 0, plain, 100, SHT_NOBITS}};
    CLEANUP(elf_file_close) struct elf_file file = file_of(given, 3, section_file_ident);
    CLEANUP(elf_file_close) struct elf_file other = file_of(given + 1, 1, section_file_ident);
    struct debug_image image = {0};
    ck_assert(!debug_image_is_wanted(&file));
    ck_assert_int_eq(debug_image_new(&other, DEBUG_IMAGE_NAMES, &image), -ENOENT);
    ck_assert_ptr_null(image.map);
    debug_image_free(&image);
}
END_TEST

/* A section that says it's something else than it is stays empty; the others are there. */
static void check_left_out(const char *name, uint64_t flags, const uint8_t *bytes, size_t n)
{
    struct section_given given[] = {{name, flags, bytes, n}, {".debug_abbrev", 0, plain, 33}};
    CLEANUP(elf_file_close) struct elf_file file = file_of(given, 2, section_file_ident);
    CLEANUP(debug_image_free) struct debug_image image = {0};
    ck_assert_int_eq(debug_image_new(&file, DEBUG_IMAGE_NAMES, &image), 0);
    ck_assert(lacks(&image, ".debug_info"));
    ck_assert(has(&image, ".debug_abbrev", plain, 33));
}

static void check_sizes(int how)
{
    uint8_t bytes[8192], other[8192];
    size_t n = compress_into(how, plain, 5000, bytes, sizeof(bytes));
    memcpy(other, bytes, n);
    ((Elf64_Chdr *)other)->ch_size = 4999; /* less than there is */
    check_left_out(".debug_info", SHF_COMPRESSED, other, n);
    ((Elf64_Chdr *)other)->ch_size = 5001;
    check_left_out(".debug_info", SHF_COMPRESSED, other, n);
    ((Elf64_Chdr *)other)->ch_size = 0;
    check_left_out(".debug_info", SHF_COMPRESSED, other, n);
    check_left_out(".debug_info", SHF_COMPRESSED, bytes, n - 6); /* cut */
    memcpy(other, bytes, n);
    memset(other + n / 2, 0xff, n - n / 2);
    check_left_out(".debug_info", SHF_COMPRESSED, other, n);
}

START_TEST(test_malformed)
{
    uint8_t bytes[8192];
    check_sizes(AS_ZLIB);
#ifdef HAVE_ZSTD
    check_sizes(AS_ZSTD);
#endif
    size_t n = compress_into(AS_ZLIB, plain, 5000, bytes, sizeof(bytes));
    ((Elf64_Chdr *)bytes)->ch_type = 77;
    check_left_out(".debug_info", SHF_COMPRESSED, bytes, n);
    check_left_out(".debug_info", SHF_COMPRESSED, bytes, sizeof(Elf64_Chdr) - 1);
    check_left_out(".zdebug_info", 0, (const uint8_t *)"ZLIB", 4);
    check_left_out(".zdebug_info", 0, plain, 100);
}
END_TEST

START_TEST(test_outside_of_file)
{
    struct section_given given[] = {{".debug_info", 0, plain, 100}};
    CLEANUP(elf_file_close) struct elf_file file = file_of(given, 1, section_file_ident);
    struct elf_section section;
    GElf_Shdr header = {.sh_type = SHT_PROGBITS, .sh_offset = file.map_bytes - 10, .sh_size = 10};
    ck_assert_int_eq(elf_section_locate(&file, &header, ".x", &section), 0);
    header.sh_size = 11;
    ck_assert_int_eq(elf_section_locate(&file, &header, ".x", &section), -ENOEXEC);
    header.sh_size = UINT64_MAX;
    ck_assert_int_eq(elf_section_locate(&file, &header, ".x", &section), -ENOEXEC);
    header.sh_offset = UINT64_MAX;
    ck_assert_int_eq(elf_section_locate(&file, &header, ".x", &section), -ENOEXEC);
}
END_TEST

START_TEST(test_too_much)
{
    uint8_t bytes[8192];
    size_t n = compress_into(AS_ZLIB, plain, 5000, bytes, sizeof(bytes));
    struct debug_image image = {0};
    ((Elf64_Chdr *)bytes)->ch_size = 3ull << 30;
    struct section_given one[] = {{".debug_info", SHF_COMPRESSED, bytes, n}};
    CLEANUP(elf_file_close) struct elf_file file = file_of(one, 1, section_file_ident);
    ck_assert_int_eq(debug_image_new(&file, DEBUG_IMAGE_NAMES, &image), -EFBIG);
    ((Elf64_Chdr *)bytes)->ch_size = 3ull << 29;
    struct section_given two[] = {{".debug_info", SHF_COMPRESSED, bytes, n}, {".debug_line", SHF_COMPRESSED, bytes, n}};
    CLEANUP(elf_file_close) struct elf_file both = file_of(two, 2, section_file_ident);
    ck_assert_int_eq(debug_image_new(&both, DEBUG_IMAGE_NAMES, &image), -EFBIG);
    struct section_given many[SECTION_FILE_MAX];
    for (size_t i = 0; i < SECTION_FILE_MAX; i++)
        many[i] = (struct section_given){".debug_info", 0, plain, 1};
    CLEANUP(elf_file_close) struct elf_file crowd = file_of(many, SECTION_FILE_MAX, section_file_ident);
    ck_assert_int_eq(debug_image_new(&crowd, DEBUG_IMAGE_NAMES, &image), -EFBIG);
}
END_TEST

START_TEST(test_other_machines)
{
    uint8_t ident[EI_NIDENT];
    struct debug_image image = {0};
    struct section_given given[] = {{".debug_info", 0, plain, 100}};
    memcpy(ident, section_file_ident, EI_NIDENT);
    ident[EI_CLASS] = ELFCLASS32;
    CLEANUP(elf_file_close) struct elf_file small = file_of(given, 1, ident);
    ck_assert_int_eq(debug_image_new(&small, DEBUG_IMAGE_NAMES, &image), -ENOTSUP);
    ident[EI_CLASS] = ELFCLASS64;
    ident[EI_DATA] = ELFDATA2LSB + ELFDATA2MSB - section_file_ident[EI_DATA];
    CLEANUP(elf_file_close) struct elf_file swapped = file_of(given, 1, ident);
    ck_assert_int_eq(debug_image_new(&swapped, DEBUG_IMAGE_NAMES, &image), -ENOTSUP);
}
END_TEST

START_TEST(test_no_dwarf)
{
    struct debug_dwarf dwarf = {0};
    struct section_given given[] = {{".debug_str", 0, plain, 100}, {".zdebug_loc", 0, plain, 100}};
    CLEANUP(elf_file_close) struct elf_file file = file_of(given, 2, section_file_ident);
    ck_assert_int_eq(debug_dwarf_open(&file, DEBUG_IMAGE_NAMES, &dwarf), -ENOEXEC);
    ck_assert_ptr_null(dwarf.image.map);
    ck_assert_int_eq(debug_dwarf_open(&file, DEBUG_IMAGE_FRAMES, &dwarf), -ENOENT);
    debug_dwarf_close(&dwarf);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("debug_image");
    TCase *tcase = tcase_create("debug_image");
    tcase_add_checked_fixture(tcase, plain_make, plain_free);
    tcase_add_test(tcase, test_compressions);
    tcase_add_test(tcase, test_nothing_to_do);
    tcase_add_test(tcase, test_malformed);
    tcase_add_test(tcase, test_outside_of_file);
    tcase_add_test(tcase, test_too_much);
    tcase_add_test(tcase, test_other_machines);
    tcase_add_test(tcase, test_no_dwarf);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
