/* Two functions to be probed, in a file of their own: no other process maps it, so none is disturbed. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Their offsets in the file: one begins with an instruction that the kernel emulates, one with one that it single-steps. */
enum { UPROBE_CODE_EMULATED = 0, UPROBE_CODE_STEPPED = 64 };

struct uprobe_code {
    int fd;
    uint8_t *at;
    size_t bytes;
};

#define UPROBE_CODE_INIT {.fd = -1}

/* 0 or -errno. */
int uprobe_code_init(struct uprobe_code *ret);
void uprobe_code_deinit(struct uprobe_code *code);
void uprobe_code_call(const struct uprobe_code *code, size_t offset);
