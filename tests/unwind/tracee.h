/* A program under single-step: its registers, its memory and its mappings at each stop. */
#pragma once

#include <elf.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

#define TRACEE_CACHED_PAGES 64
#define TRACEE_PAGE_BYTES 4096u

struct tracee_map {
    uint64_t start, end, offset;
    bool executable;
    unsigned device_major, device_minor;
    uint64_t inode;
    char *path; /* "" where there is none */
};

struct tracee {
    pid_t pid, tid;      /* the thread that is stepped */
    uint64_t stop;       /* counts stops: what is cached of memory is of one of them */
    int status;          /* of the last wait */
    bool ended;
    bool follow_threads; /* the newest thread is stepped, the others run */
    bool thread_began;   /* the last stop is a new thread's first */
    pid_t born;          /* a thread that waits to be followed */
    int signal;          /* passed on with the next step */
    int delivered;       /* passed on with the last one */
    struct user_regs_struct regs;
    struct tracee_map *maps;
    size_t n_maps;
    uint64_t maps_read;  /* how often: who keeps something made of them compares */
    bool maps_stale;
    struct {
        uint64_t address, stop;
        uint8_t bytes[TRACEE_PAGE_BYTES];
    } pages[TRACEE_CACHED_PAGES];
};

/* Starts a program on one CPU, without address space randomization, stopped at its first instruction. */
int tracee_start(struct tracee *tracee, char **argv, int cpu);
/* Runs freely until address is about to be executed. */
int tracee_run_to(struct tracee *tracee, uint64_t address);
/* One instruction, or the delivery of a signal. 0 also where that ended the program: tracee->ended. */
int tracee_step(struct tracee *tracee, bool is_system_call);
/* Lets it run to its end, or ends it. */
void tracee_end(struct tracee *tracee);

/* 0, or -EFAULT. All or nothing. */
int tracee_read(struct tracee *tracee, void *to, size_t size, uint64_t address);
/* The mapping that holds address; NULL: none. Borrowed until the mappings are read again. */
const struct tracee_map *tracee_map_at(struct tracee *tracee, uint64_t address);
int tracee_read_maps(struct tracee *tracee);
/* From the auxiliary vector; 0 where it has none. */
uint64_t tracee_auxv(struct tracee *tracee, uint64_t type);
