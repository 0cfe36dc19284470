/* A target as a recording hears of it: what is mapped, as the collector lists it, and a collector that opens its files, which are scripts for
 * fault_worker. */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <check.h>

#include "daemon/collector.h"
#include "daemon/raw_profile.h"
#include "util/cleanup.h"
#include "util/fdmsg.h"

#define MAX_OBJECTS 64

/* What each object's file does to its worker; NULL: the collector can't open it. */
static const char *scripts[MAX_OBJECTS];

struct mapped {
    uint64_t start, end;
    int object; /* -1: name */
    const char *name;
    bool main_binary;
};

/* A list as the collector sends it: objects are /lib/N with identity N. */
static int list_fd(const struct mapped *mapped, size_t n)
{
    struct raw_writer *w = raw_writer_new();
    struct raw_object objects[MAX_OBJECTS];
    struct raw_mapping *mappings = calloc(n + 1, sizeof(*mappings));
    char strings[8192] = "";
    size_t len = 1;

    for (unsigned i = 0; i < MAX_OBJECTS; i++) {
        objects[i] = (struct raw_object){.id = {.dev = 1, .ino = i + 1}, .path = len, .available = i != 13};
        len += (size_t)snprintf(strings + len, sizeof(strings) - len, "/lib/%u", i) + 1;
    }
    for (size_t i = 0; i < n; i++) {
        mappings[i] = (struct raw_mapping){.start = mapped[i].start, .end = mapped[i].end, .last_epoch = UINT32_MAX,
                                           .object = mapped[i].object < 0 ? RAW_NO_OBJECT : (uint32_t)mapped[i].object,
                                           .main_binary = mapped[i].main_binary};
        if (mapped[i].object >= 0)
            continue;
        mappings[i].name = len;
        len += (size_t)snprintf(strings + len, sizeof(strings) - len, "%s", mapped[i].name) + 1;
    }
    ck_assert_int_eq(raw_writer_section(w, RAW_OBJECTS, objects, sizeof(objects)), 0);
    ck_assert_int_eq(raw_writer_section(w, RAW_MAPPINGS, mappings, n * sizeof(*mappings)), 0);
    ck_assert_int_eq(raw_writer_section(w, RAW_STRINGS, strings, len), 0);
    int fd = raw_writer_finish(w);
    raw_writer_free(w);
    free(mappings);
    ck_assert_int_ge(fd, 0);
    return fd;
}

/* The collector: answers for files, and for nothing else. */
static int play_collector(int sock, void *arg)
{
    struct collector_message m;

    while (fdmsg_recv(sock, &m, sizeof(m), NULL, NULL) == sizeof(m)) {
        if (m.type == COLLECTOR_EPOCH)
            continue;
        uint32_t index = m.u.object.index;
        const char *script = index == COLLECTOR_OBJECT_VDSO ? "table 1 10" : scripts[index];
        int fd = script ? memfd_create("file", MFD_CLOEXEC) : -1;
        if (m.type != COLLECTOR_OBJECT || (script && write(fd, script, strlen(script)) < 0))
            return 1;
        if (script && strcmp(script, "silence") == 0)
            continue;
        m.u.object.error = fd < 0 ? -ENOENT : 0;
        (void)fdmsg_send(sock, &m, sizeof(m), &fd, fd >= 0);
        close_fd(&fd);
    }
    return 0;
}
