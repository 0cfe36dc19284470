/* Named profiles of a program's own values, in the manner of Go's pprof.NewProfile: open files, blobs, sessions, each with the stack
 * that opened it. cprofd reads them from outside the process; there is no library to link, and no header but
 * this one. While nobody looks, a macro costs one nop and the loading of its arguments into registers.
 *
 *     CPROFD_PROFILE(open_blobs, "blobstore.Open", "blobs that are open now", "count");
 *
 *     struct blob *blob_open(...)
 *     {
 *         ...
 *         CPROFD_PROFILE_ADD(open_blobs, blob);        // the stack shown begins with blob_open's caller
 *         return blob;
 *     }
 *
 *     void blob_close(struct blob *blob)
 *     {
 *         CPROFD_PROFILE_REMOVE(open_blobs, blob);
 *         ...
 *     }
 *
 * For C (gnu99 and later) and C++ (11 and later), by gcc or clang, on x86-64 and aarch64. Elsewhere the macros evaluate their arguments, and
 * nobody can look. Nothing is allocated, locked or written by any of them; they may stand in signal handlers and at any depth.
 *
 * What ends up in the ELF file, for readers other than cprofd:
 * - USDT sites (the notes of <sys/sdt.h>, "stapsdt", type 3), without semaphores, each at a one-byte nop (x86-64), their arguments in the
 *   registers of a function call (rdi, rsi, rdx, rcx; x0 to x3) whatever the function that holds them:
 *       cprofd:profile_add(const char *name, uintptr_t key, uint64_t weight, uint32_t skip)
 *       cprofd:profile_remove(const char *name, uintptr_t key)
 * - in section .note.cprofd (loaded), a note for each profile: owner "cprofd", type 1; its descriptor is name, description and unit, each
 *   with its NUL. The note may stand there several times. It begins at a multiple of 4; zero words may lie between notes.
 * - in section .note.cprofd.site (not loaded), a note for each USDT site: owner "cprofd", type 2; its descriptor is two 8-byte words in the
 *   file's byte order, the address of the site as in its stapsdt note, and the address of the header of its profile's note.
 */
#ifndef CPROFD_PROFILE_H
#define CPROFD_PROFILE_H

#define CPROFD_NOTE_PROFILE 1
#define CPROFD_NOTE_SITE 2

#if defined(__clang__)
#define CPROFD_NO_REDZONE __attribute__((no_sanitize("address")))
#else
#define CPROFD_NO_REDZONE
#endif

/* Defines a profile, at file or namespace scope, in the file that uses it or in a header that several include: what has the same NAME
 * is one profile, wherever in the process it is defined. ID is a C identifier, for the macros below. NAME is what the path has,
 * DESCRIPTION what the index page says, UNIT what weights are in ("bytes", "nanoseconds"), or "count" where there are none. The three are
 * string literals (without a NUL in them), all bytes that a literal can have allowed; readers may cut what is longer than 255 bytes. */
#define CPROFD_PROFILE(id, profile_name, profile_description, profile_unit) \
    static const struct { \
        unsigned int owner_bytes, bytes, type; \
        char owner[8]; \
        char name[sizeof("" profile_name "")]; \
        char description[sizeof("" profile_description "")]; \
        char unit[sizeof("" profile_unit "")]; \
    } cprofd_profile_##id __attribute__((used, section(".note.cprofd"), aligned(4))) CPROFD_NO_REDZONE = { \
        7, sizeof(profile_name) + sizeof(profile_description) + sizeof(profile_unit), CPROFD_NOTE_PROFILE, "cprofd", \
        profile_name, profile_description, profile_unit }

/* Says that KEY (a pointer or an integer that no other value of this profile has) is live from now on. The stack is taken here, without its
 * leaf: the function that holds the macro is left out, and its caller comes first, as in Go's example. */
#define CPROFD_PROFILE_ADD(id, key) CPROFD_PROFILE_ADD_WEIGHT(id, key, 1, 1)

/* The same with WEIGHT (>= 0, in the profile's unit: what the value costs), and SKIP, the number of functions to leave out at the leaf: 0 keeps
 * the one that holds the macro. A second add of a live KEY replaces the first. */
#define CPROFD_PROFILE_ADD_WEIGHT(id, key, weight, skip) \
    CPROFD_SITE_ADD(cprofd_profile_##id, (unsigned long)(key), (unsigned long)(weight), (unsigned int)(skip))

/* Says that KEY is live no longer. For one that is not, it does nothing. */
#define CPROFD_PROFILE_REMOVE(id, key) CPROFD_SITE_REMOVE(cprofd_profile_##id, (unsigned long)(key))

/* From here on, how. The notes are in the group of the function that holds them ("?"), so that the linker drops them with it. */
#define CPROFD_USDT(provider, probe, arguments) \
    "990: nop\n" \
    ".pushsection .note.stapsdt,\"?\",\"note\"\n" \
    ".balign 4\n" \
    ".4byte 992f-991f, 994f-993f, 3\n" \
    "991: .asciz \"stapsdt\"\n" \
    "992: .balign 4\n" \
    "993: .8byte 990b, _.stapsdt.base, 0\n" \
    ".asciz \"" provider "\"\n" \
    ".asciz \"" probe "\"\n" \
    ".asciz \"" arguments "\"\n" \
    "994: .balign 4\n" \
    ".popsection\n" \
    ".ifndef _.stapsdt.base\n" \
    ".pushsection .stapsdt.base,\"aG\",\"progbits\",.stapsdt.base,comdat\n" \
    ".weak _.stapsdt.base\n" \
    ".hidden _.stapsdt.base\n" \
    "_.stapsdt.base: .space 1\n" \
    ".size _.stapsdt.base, 1\n" \
    ".popsection\n" \
    ".endif\n"

#define CPROFD_SITE(probe, arguments, profile) \
    CPROFD_USDT("cprofd", probe, arguments) \
    ".pushsection .note.cprofd.site,\"?\",\"note\"\n" \
    ".balign 4\n" \
    ".4byte 7, 16, 2\n" \
    ".asciz \"cprofd\"\n" \
    ".balign 4\n" \
    ".8byte 990b, " profile "\n" \
    ".popsection\n"

#if defined(__x86_64__) && defined(__LP64__) && defined(__ELF__)

#define CPROFD_SITE_ADD(profile, key, weight, skip) \
    __asm__ __volatile__(CPROFD_SITE("profile_add", "8@%%rdi 8@%%rsi 8@%%rdx 4@%%ecx", "%c[cprofd_note]") \
                         : : "D"((profile).name), "S"(key), "d"(weight), "c"(skip), [cprofd_note] "i"(&(profile)))

#define CPROFD_SITE_REMOVE(profile, key) \
    __asm__ __volatile__(CPROFD_SITE("profile_remove", "8@%%rdi 8@%%rsi", "%c[cprofd_note]") \
                         : : "D"((profile).name), "S"(key), [cprofd_note] "i"(&(profile)))

#elif defined(__aarch64__) && defined(__LP64__) && defined(__ELF__)

/* The values are worked out before any is in its register: working one out may call a function. */
#define CPROFD_SITE_ADD(profile, key, weight, skip) \
    do { \
        unsigned long cprofd_key = (key), cprofd_weight = (weight); \
        unsigned int cprofd_skip = (skip); \
        register const char *cprofd_x0 __asm__("x0") = (profile).name; \
        register unsigned long cprofd_x1 __asm__("x1") = cprofd_key; \
        register unsigned long cprofd_x2 __asm__("x2") = cprofd_weight; \
        register unsigned int cprofd_x3 __asm__("w3") = cprofd_skip; \
        __asm__ __volatile__(CPROFD_SITE("profile_add", "8@x0 8@x1 8@x2 4@x3", "%[cprofd_note]") \
                             : : "r"(cprofd_x0), "r"(cprofd_x1), "r"(cprofd_x2), "r"(cprofd_x3), [cprofd_note] "S"(&(profile))); \
    } while (0)

#define CPROFD_SITE_REMOVE(profile, key) \
    do { \
        unsigned long cprofd_key = (key); \
        register const char *cprofd_x0 __asm__("x0") = (profile).name; \
        register unsigned long cprofd_x1 __asm__("x1") = cprofd_key; \
        __asm__ __volatile__(CPROFD_SITE("profile_remove", "8@x0 8@x1", "%[cprofd_note]") \
                             : : "r"(cprofd_x0), "r"(cprofd_x1), [cprofd_note] "S"(&(profile))); \
    } while (0)

#else

#define CPROFD_SITE_ADD(profile, key, weight, skip) ((void)(profile), (void)(key), (void)(weight), (void)(skip))
#define CPROFD_SITE_REMOVE(profile, key) ((void)(profile), (void)(key))

#endif

#endif
