/* The first page of what a target maps: read from its memory, its build id found, and files held against it. */
#include <sched.h>
#include <sys/wait.h>

#include "tests/unit/elf_head.h"
#include "tests/unit/mapper.h"

static void check_id(const struct mapped_head *head, const char *expected)
{
    size_t len = 77;
    const uint8_t *id = mapped_head_build_id(head, &len);

    if (!expected) {
        ck_assert_ptr_null(id);
        return;
    }
    ck_assert_ptr_nonnull(id);
    ck_assert_uint_eq(len, strlen(expected));
    ck_assert_mem_eq(id, expected, len);
}

START_TEST(test_build_id)
{
    struct mapped_head head = head_make();
    check_id(&head, NULL);
    note_add(&head, 5, "GNU", 4, "properties", 10); /* what comes before, and needs padding */
    note_add(&head, NT_GNU_BUILD_ID, "Go", 3, "another's", 9);
    note_add(&head, NT_GNU_BUILD_ID, "GNUx", 4, "no end", 6);
    check_id(&head, NULL);
    note_add(&head, NT_GNU_BUILD_ID, "GNU", 4, "the id", 6);
    note_add(&head, NT_GNU_BUILD_ID, "GNU", 4, "a second", 8);
    check_id(&head, "the id");
}
END_TEST

START_TEST(test_alignment_of_eight)
{
    struct mapped_head head = head_make();
    head_notes(&head)->p_align = 8;
    note_add(&head, 5, "GNU", 4, "12345", 5);
    note_add(&head, NT_GNU_BUILD_ID, "GNU", 4, "the id", 6);
    check_id(&head, "the id");
}
END_TEST

START_TEST(test_length_of_an_id)
{
    char longest[MAPPED_ID_MAX_BYTES + 2];
    memset(longest, 'i', sizeof(longest));
    longest[MAPPED_ID_MAX_BYTES] = '\0';
    struct mapped_head head = head_with_id(longest);
    check_id(&head, longest);
    longest[MAPPED_ID_MAX_BYTES] = 'i';
    longest[MAPPED_ID_MAX_BYTES + 1] = '\0';
    head = head_with_id(longest);
    check_id(&head, NULL);
    head = head_with_id("");
    check_id(&head, NULL);
}
END_TEST

/* Each breaks what was well formed. */
static void break_head(struct mapped_head *head, unsigned how)
{
    Elf64_Nhdr *note = (Elf64_Nhdr *)(void *)(head->bytes + NOTES_AT);

    switch (how) {
    case 0: head->len = 0; break;
    case 1: head->len = sizeof(Elf64_Ehdr) - 1; break;
    case 2: head->len = sizeof(Elf64_Ehdr); break;
    case 3: head->len = NOTES_AT; break;
    case 4: head->len = NOTES_AT + sizeof(*note) + 4; break;
    case 5: head->bytes[0] = 0; break;
    case 6: head_elf(head)->e_ident[EI_CLASS] = ELFCLASS32; break;
    case 7: head_elf(head)->e_phentsize = 32; break;
    case 8: head_elf(head)->e_phoff = UINT64_MAX; break;
    case 9: head_elf(head)->e_phoff = UINT64_MAX - sizeof(Elf64_Phdr) + 1; break;
    case 10: head_elf(head)->e_phoff = MAPPED_HEAD_BYTES - 1; break;
    case 11: head_elf(head)->e_phnum = 1; break;
    case 12: head_notes(head)->p_offset = UINT64_MAX; break;
    case 13: head_notes(head)->p_offset = MAPPED_HEAD_BYTES; break;
    case 14: head_notes(head)->p_filesz = sizeof(*note) + 3; break;
    case 15: head_notes(head)->p_type = PT_LOAD; break;
    case 16: note->n_namesz = UINT32_MAX; break;
    case 17: note->n_descsz = UINT32_MAX; break;
    case 18: note->n_namesz = UINT32_MAX - 2; break;
    case 19: note->n_type = 1; break;
    }
}

START_TEST(test_broken_heads)
{
    for (unsigned how = 0; how < 20; how++) {
        struct mapped_head head = head_with_id("the id");
        check_id(&head, "the id");
        break_head(&head, how);
        check_id(&head, NULL);
    }
    /* Whatever length is left of a page, nothing behind it is looked at. */
    for (size_t len = 0; len < MAPPED_HEAD_BYTES; len++) {
        struct mapped_head head = head_with_id("the id");
        uint8_t *cut = malloc(sizeof(head));
        head.len = len;
        memcpy(cut, &head, sizeof(head));
        check_id((const struct mapped_head *)(const void *)cut,
                 len >= NOTES_AT + sizeof(Elf64_Nhdr) + 4 + 6 ? "the id" : NULL);
        free(cut);
    }
}
END_TEST

/* What a note that names huge lengths in a huge segment does: MAX_NOTES and the page bound it. */
START_TEST(test_many_notes)
{
    struct mapped_head head = head_make();
    for (unsigned i = 0; i < 16; i++)
        note_add(&head, 1, "x", 2, "", 0);
    note_add(&head, NT_GNU_BUILD_ID, "GNU", 4, "too late", 8);
    check_id(&head, NULL);
    head_notes(&head)->p_filesz = UINT64_MAX;
    check_id(&head, NULL);
}
END_TEST

/* ---- is it that file? */

static bool is_of(const struct mapped_head *head, const struct mapped_head *file)
{
    AUTO_CLOSE int fd = memfd_create("file", MFD_CLOEXEC);
    ck_assert_int_eq(write(fd, file->bytes, file->len), (ssize_t)file->len);
    return mapped_head_is_of(head, fd);
}

START_TEST(test_compare_build_ids)
{
    struct mapped_head a = head_with_id("first"), b = head_with_id("other"), longer = head_with_id("first and more");
    struct mapped_head stripped = a;

    ck_assert(is_of(&a, &a));
    ck_assert(!is_of(&a, &b));
    ck_assert(!is_of(&a, &longer));
    head_elf(&stripped)->e_shoff = 0x123456;
    ck_assert(is_of(&a, &stripped)); /* the same build */
    b = (struct mapped_head){.len = 100};
    ck_assert(!is_of(&a, &b));
    b.len = 0;
    ck_assert(!is_of(&a, &b));
}
END_TEST

START_TEST(test_compare_without_build_ids)
{
    struct mapped_head a = head_make(), b = a;

    ck_assert(is_of(&a, &b));
    head_elf(&b)->e_shoff = 1;
    ck_assert(is_of(&a, &b));
    head_elf(&b)->e_entry = 1;
    ck_assert(!is_of(&a, &b));
    b = a;
    head_notes(&b)->p_offset++;
    ck_assert(!is_of(&a, &b));
    b = a;
    head_elf(&b)->e_phnum = 1;
    ck_assert(!is_of(&a, &b));
    b = a;
    b.len = sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr);
    ck_assert(!is_of(&a, &b));
    /* One of them has a build id: then it has its notes elsewhere, or more of them. */
    b = head_with_id("id");
    ck_assert(!is_of(&a, &b));
}
END_TEST

/* What can't be compared is known by its numbers alone. */
START_TEST(test_nothing_to_compare)
{
    struct mapped_head unread = {.len = 0}, scribbled = head_with_id("id"), file = head_with_id("id");

    ck_assert(is_of(&unread, &file));
    memset(scribbled.bytes, 0x55, 16);
    ck_assert(is_of(&scribbled, &file));
}
END_TEST

/* ---- reading */

static struct mapped_head read_head(pid_t pid, uint64_t address)
{
    struct mapped_head head = {.len = 99};
    struct target t = TARGET_INIT;
    struct denial d;

    ck_assert_int_eq(target_open(pid, &t, &d), 0);
    mapped_head_read(&t, address, &head);
    target_deinit(&t);
    return head;
}

START_TEST(test_read)
{
    struct mapper m = {.fd = {scratch_file("lib.so", 'x'), -1}};
    struct puppet p = puppet_start(run_mapper, &m);
    char expected[MAPPED_HEAD_BYTES];

    memset(expected, 'x', sizeof(expected));
    puppet_do(&p, 'a');
    struct mapped_head head = read_head(p.pid, (uint64_t)(uintptr_t)PLACE);
    ck_assert_uint_eq(head.len, sizeof(expected));
    ck_assert_mem_eq(head.bytes, expected, sizeof(expected));
    ck_assert_uint_eq(read_head(p.pid, 0).len, 0);
    ck_assert_uint_eq(read_head(p.pid, (uint64_t)(uintptr_t)PLACE + PLACE_BYTES).len, 0); /* not mapped */
    ck_assert_uint_eq(read_head(p.pid, UINT64_MAX - 1).len, 0);
    ck_assert_int_eq(ftruncate(m.fd[0], 0), 0);
    ck_assert_uint_eq(read_head(p.pid, (uint64_t)(uintptr_t)PLACE).len, 0); /* the target would get a SIGBUS there */
    puppet_end(&p);
    close(m.fd[0]);
}
END_TEST

START_TEST(test_read_of_one_that_ended)
{
    struct mapper m = {.fd = {-1, -1}};
    struct puppet p = puppet_start(run_mapper, &m);
    struct mapped_head head = {.len = 99};
    struct target t = TARGET_INIT;
    struct denial d;

    ck_assert_int_eq(target_open(p.pid, &t, &d), 0);
    puppet_end(&p);
    mapped_head_read(&t, (uint64_t)(uintptr_t)&m, &head);
    ck_assert_uint_eq(head.len, 0);
    target_deinit(&t);
}
END_TEST

/* The very file that this program is. */
START_TEST(test_own_program)
{
    extern const char __ehdr_start[];
    AUTO_CLOSE int self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), other = open("/bin/sh", O_RDONLY | O_CLOEXEC);
    struct mapped_head head = read_head(getpid(), (uint64_t)(uintptr_t)__ehdr_start);

    ck_assert_uint_eq(head.len, MAPPED_HEAD_BYTES);
    ck_assert(mapped_head_is_of(&head, self));
    ck_assert(!mapped_head_is_of(&head, other));
    ck_assert(!mapped_head_is_of(&head, -1));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("mapped_head");
    TCase *tc = tcase_create("mapped_head");
    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, scratch_make, scratch_remove);
    tcase_add_test(tc, test_build_id);
    tcase_add_test(tc, test_alignment_of_eight);
    tcase_add_test(tc, test_length_of_an_id);
    tcase_add_test(tc, test_broken_heads);
    tcase_add_test(tc, test_many_notes);
    tcase_add_test(tc, test_compare_build_ids);
    tcase_add_test(tc, test_compare_without_build_ids);
    tcase_add_test(tc, test_nothing_to_compare);
    tcase_add_test(tc, test_read);
    tcase_add_test(tc, test_read_of_one_that_ended);
    tcase_add_test(tc, test_own_program);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
