/* Unwinding tables: what .eh_frame says, as rows that a BPF program can search. Written by a worker (symbolize/), checked and
 * loaded by the loop (daemon/), read by the stack engine (bpf/). Included by *.bpf.c: __u types only, no pointers.
 *
 * An image is one object's table, in file offsets, so that it serves every process and every mapping of the file:
 *
 *   struct unwind_image; __u32 pages[n_pages]; the pages, each 8-aligned
 *
 * Page i covers the file offsets base + (i << page_shift) and up. pages[i] is where in the image it begins, in units of 8 bytes; 0:
 * nothing covers any of it. A page is
 *
 *   struct unwind_page; struct unwind_rule rules[n_rules]; __u16 low[n_rows]; __u8 rule[n_rows]
 *
 * low[] ascends strictly and begins with 0: the row in force at the page's beginning is repeated. So a row takes 3 bytes, and its
 * rule is one of at most 256 in its page. A page takes at most UNWIND_PAGE_MAX_BYTES: an object that would need more has a smaller
 * page_shift. Pages lie in the image in their order, none in another. */
#pragma once

#ifndef __bpf__
#include <linux/types.h>
#include <stddef.h>
#endif

/* How the canonical frame address (CFA: the caller's stack pointer) is found. */
enum unwind_cfa {
    UNWIND_CFA_NONE = 0,      /* nothing is known of this code: between functions, or assembly without CFI */
    UNWIND_CFA_ROOT,          /* the return address is undefined, or the object's entry point: the outermost frame */
    UNWIND_CFA_REGISTER,      /* register + cfa_offset */
    UNWIND_CFA_MEMORY,        /* *(register + cfa_offset) + 8 * UNWIND_SAVED_ADDEND */
    UNWIND_CFA_PLT,           /* x86-64, lazy PLT: sp + 8, and 8 more where (pc & 15) >= cfa_offset */
    UNWIND_CFA_SIGNAL,        /* a signal trampoline: sp + cfa_offset is the kernel's ucontext */
    UNWIND_CFA_FRAME_POINTER, /* no CFI, but code that is known to keep frame pointers (Go) */
    UNWIND_CFA_UNSUPPORTED,   /* a rule that rows can't express */
};

/* Where the caller's frame pointer is. */
enum unwind_fp {
    UNWIND_FP_SAME = 0,       /* in its register: also where CFI has no rule */
    UNWIND_FP_CFA,            /* at CFA + 8 * saved_offset */
    UNWIND_FP_FP,             /* at fp + 8 * saved_offset (stack realignment: DW_OP_breg6) */
    UNWIND_FP_UNDEFINED,      /* lost */
};

/* Where the return address is. */
enum unwind_ra {
    UNWIND_RA_CFA = 0,        /* at CFA - 8 (x86-64) */
    UNWIND_RA_REGISTER,       /* in a register: the innermost frame's alone (x86-64 vfork: saved_offset is its DWARF number, fp SAME);
                                 aarch64: x30, where it was not saved yet; saved_offset is 30 too unless fp needs it */
    UNWIND_RA_AFTER_FP,       /* aarch64: at CFA + 8 * (saved_offset + 1), beside the frame pointer */
    UNWIND_RA_SAVED,          /* at CFA + 8 * saved_offset, where the frame pointer takes no room (fp SAME or UNDEFINED) */
};

struct unwind_rule {
    __u8 cfa;           /* UNWIND_CFA(enum unwind_cfa, DWARF number of its register) */
    __u8 saved;         /* UNWIND_SAVED(enum unwind_fp, enum unwind_ra) */
    __s16 saved_offset; /* in words of 8 bytes */
    __s32 cfa_offset;   /* in bytes */
};

#define UNWIND_CFA(kind, reg) ((kind) | (reg) << 3)
#define UNWIND_CFA_KIND(cfa) ((cfa) & 7)
#define UNWIND_CFA_REG(cfa) ((cfa) >> 3)
#define UNWIND_REG_GUESSED 16 /* x86-64, in the register's number: the rule is what its code looks like, for assembly without CFI */
#define UNWIND_SAVED(fp, ra) ((fp) | (ra) << 2)
#define UNWIND_SAVED_ADDEND(saved) ((saved) >> 4) /* 0 but for UNWIND_CFA_MEMORY, and: */
#define UNWIND_MAX_ADDEND 15
#define UNWIND_OTHER_STACK (1 << 4) /* in saved, with UNWIND_CFA_REGISTER alone: the CFA may lie on another stack, so below sp too */
#define UNWIND_SAVED_FP(saved) ((saved) & 3)
#define UNWIND_SAVED_RA(saved) (((saved) >> 2) & 3)

#define UNWIND_MAX_REGISTERS 32 /* DWARF numbers that rules can name: 0 to 31 */

#define UNWIND_PAGE_MAX_RULES 256
#define UNWIND_PAGE_MAX_SHIFT 16
#define UNWIND_PAGE_MIN_SHIFT 8
#define UNWIND_PAGE_MAX_BYTES 32768
#define UNWIND_IMAGE_MAX_PAGES 16376 /* its index fits 64 KiB with room for a header */

struct unwind_page {
    __u16 n_rows;
    __u16 n_rules;
    __u32 pad;
};

#define UNWIND_IMAGE_MAGIC 0x57554350u /* "PCUW" */
#define UNWIND_IMAGE_VERSION 1

struct unwind_image {
    __u32 magic, version;
    __u32 machine;    /* ELF e_machine */
    __u32 page_shift;
    __u32 n_pages;
    __u32 n_rows;
    __u64 base;       /* file offset of the first page; a multiple of the page size */
    __u64 len;        /* of the whole image, in bytes */
};

#ifndef __bpf__
_Static_assert(sizeof(struct unwind_rule) == 8, "layout shared with BPF");
_Static_assert(sizeof(struct unwind_page) == 8, "layout shared with BPF");
_Static_assert(sizeof(struct unwind_image) == 40, "layout shared with the worker");

/* 0, or -EBADMSG unless everything holds that is said above. */
int unwind_image_check(const void *image, size_t len);
/* The rule in force at a file offset, of an image that was checked: what the kernel's programs find there. */
struct unwind_rule unwind_image_find(const void *image, __u64 file_offset);
#endif
