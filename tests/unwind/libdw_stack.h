/* A second opinion on a stack: libdw's, from the same registers and memory. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/unwind/tracee.h"

struct libdw_stack;

int libdw_stack_new(struct tracee *tracee, struct libdw_stack **ret_libdw);
void libdw_stack_free(struct libdw_stack *libdw);
/* The frames, innermost first: how many there are, of which `size` are written; ret_rooted: by its CFI the last one is the outermost. */
size_t libdw_stack_frames(struct libdw_stack *libdw, uint64_t *frames, size_t size, bool *ret_rooted);
/* The same, with the stack pointer of each frame. */
size_t libdw_stack_frames_at(struct libdw_stack *libdw, uint64_t *frames, uint64_t *stack_pointers, size_t size, bool *ret_rooted);
/* Where an address is: "object" and "function". Both are borrowed, until the mappings change. */
void libdw_stack_name(struct libdw_stack *libdw, uint64_t address, const char **ret_object, const char **ret_function);
/* 0 where no object has it. */
uint64_t libdw_stack_symbol(struct libdw_stack *libdw, const char *name);
/* The object's own address for it: the same wherever it is loaded. */
uint64_t libdw_stack_object_address(struct libdw_stack *libdw, uint64_t address);
