/* A program with a table of functions as Go's linker makes it, small enough to know each value of. GO_LAYOUT: 116, 118 or 120. GO_TABLE and
 * GO_RECORD: the sections of the table and of the runtime's record of the module. */

#if GO_LAYOUT == 116
#define MAGIC 0xfffffffa
#define ADDRESS(where) .quad where
#define RECORD(where) .quad where - functions
#elif GO_LAYOUT == 118
#define MAGIC 0xfffffff0
#define ADDRESS(where) .long where - text
#define RECORD(where) .long where - functions
#else
#define MAGIC 0xfffffff1
#define ADDRESS(where) .long where - text
#define RECORD(where) .long where - functions
#endif

        .text
        .globl  _start
_start:
        ud2
        .balign 16, 0xcc
text:
        .type   outer, @function
        .size   outer, 48
/* main.outer: own code, an inlined call that inlines another, own code, padding. */
outer:
        .fill   16, 1, 0x90
        .fill   4, 1, 0x90      /* main.middle */
        .fill   8, 1, 0x90      /* main.inner in it */
        .fill   4, 1, 0x90      /* main.middle */
        .fill   16, 1, 0x90
        .fill   16, 1, 0xcc
instance:
        .fill   32, 1, 0x90
c_code:
        .fill   32, 1, 0x90
end:

        .section GO_TABLE, GO_TABLE_FLAGS, @progbits
        .balign 32
table:
        .long   MAGIC
        .byte   0, 0, 1, 8
        .quad   3, 2
#if GO_LAYOUT != 116
        .quad   0               /* text: left to the record */
#endif
        .quad   names - table, units - table, files - table, values - table, functions - table

names:
        .byte   0
name_outer:
        .asciz  "main.outer"
name_middle:
        .asciz  "main.middle"
name_inner:
        .asciz  "main.(*T).inner"
name_instance:
        .asciz  "main.instance[go.shape.int]"
name_c:
        .asciz  "c_code"
        .balign 4
units:
        .long   file_main - files, file_other - files, -1
files:
        .byte   0
file_main:
        .asciz  "/go/src/main.go"
file_other:
        .asciz  "/go/src/other.go"
values:
        .byte   0
/* Pairs: the difference, its sign in the lowest bit; how many bytes. From -1 on. */
outer_files:
        .byte   2, 16           /* 0 */
        .byte   2, 16           /* 1 */
        .byte   1, 16           /* 0 */
        .byte   0
outer_lines:
        .byte   22, 16          /* 10 */
        .byte   180, 1, 4       /* 100 */
        .byte   20, 8           /* 110 */
        .byte   17, 4           /* 101 */
        .byte   175, 1, 16      /* 13 */
        .byte   0
outer_stack:
        .byte   2, 1            /* 0 */
        .byte   32, 47          /* 16 */
        .byte   0
outer_calls:
        .byte   0, 16           /* -1 */
        .byte   2, 4            /* 0 */
        .byte   2, 8            /* 1 */
        .byte   1, 4            /* 0 */
        .byte   1, 16           /* -1 */
        .byte   0
instance_lines:
        .byte   62, 32          /* 30 */
        .byte   0
instance_files:
        .byte   2, 32           /* 0 */
        .byte   0

        .balign 8
functions:
        ADDRESS(outer)
        RECORD(record_outer)
        ADDRESS(instance)
        RECORD(record_instance)
        ADDRESS(c_code)
        RECORD(record_c)
        ADDRESS(end)

        .macro  record entry, name, stack, file, line, n_pcdata, start, n_further
        ADDRESS(\entry)
        .long   \name - names, 0, 0, \stack, \file, \line, \n_pcdata, 0
#if GO_LAYOUT == 120
        .long   \start
#endif
        .byte   0, 0, 0, \n_further
        .endm
record_outer:
        record  outer, name_outer, outer_stack-values, outer_files-values, outer_lines-values, 3, 9, 4
        .long   0, 0, outer_calls - values
        .long   -1, -1, -1, calls - further
record_instance:
        record  instance, name_instance, outer_stack-values, instance_files-values, instance_lines-values, 0, 29, 0
record_c:
        record  c_code, name_c, 0, 0, 0, 0, 0, 0

        .section .rodata
further:
        .quad   0
calls:
#if GO_LAYOUT == 120
        .long   0, name_middle - names, 15, 90 /* the call site is the byte before it */
        .long   0, name_inner - names, 16, 105
#else
        .short  -1, 0
        .long   0, 12, name_middle - names, 15
        .short  0, 0
        .long   1, 100, name_inner - names, 16
#endif

        .section GO_RECORD, "aw", @progbits
        .balign 32
        .quad   0, 0
        .quad   table, 0        /* not it: its second word is another */
        .quad   table, names
        .fill   18, 8, 0
        .quad   text, end, text
#if GO_LAYOUT == 120
        .fill   17, 8, 0
#else
        .fill   15, 8, 0
#endif
        .quad   further
        .fill   8, 8, 0

        .section .go.buildinfo, "aw", @progbits
        .quad   0
        .section .note.GNU-stack, "", @progbits
