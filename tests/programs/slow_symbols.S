/* A function, and debug information of it that takes long to read: behind a great many entries that mean nothing stands the one
 * that says where the function is declared. Assembled by the test that needs it, with as many ENTRIES as it wants. */
    .text
    .globl slow_burn
    .type slow_burn, @function
slow_burn:
    .cfi_startproc
    push %rbp
    .cfi_def_cfa_offset 16
    .cfi_offset %rbp, -16
    mov %rsp, %rbp
    .cfi_def_cfa_register %rbp
    mov $1000000, %ecx
1:  dec %ecx
    jnz 1b
    pop %rbp
    .cfi_def_cfa %rsp, 8
    ret
    .cfi_endproc
.Lend:
    .size slow_burn, .Lend - slow_burn

    .section .debug_abbrev, "", @progbits
    .uleb128 1, 0x11 /* DW_TAG_compile_unit, with children */
    .byte 1
    .uleb128 0x03, 0x08 /* name, string */
    .uleb128 0x11, 0x01 /* low_pc, addr */
    .uleb128 0x12, 0x07 /* high_pc, data8 */
    .uleb128 0, 0
    .uleb128 2, 0x24 /* DW_TAG_base_type */
    .byte 0
    .uleb128 0, 0
    .uleb128 3, 0x2e /* DW_TAG_subprogram */
    .byte 0
    .uleb128 0x03, 0x08 /* name */
    .uleb128 0x3b, 0x05 /* decl_line, data2 */
    .uleb128 0x11, 0x01
    .uleb128 0x12, 0x07
    .uleb128 0, 0
    .byte 0

    .section .debug_info, "", @progbits
    .long .Linfo_end - .Linfo
.Linfo:
    .short 4
    .long 0
    .byte 8
    .uleb128 1
    .string "slow.c"
    .quad slow_burn
    .quad .Lend - slow_burn
    .fill ENTRIES, 1, 2
    .uleb128 3
    .string "slow_burn"
    .short 4242
    .quad slow_burn
    .quad .Lend - slow_burn
    .byte 0
.Linfo_end:
    .section .note.GNU-stack, "", @progbits
