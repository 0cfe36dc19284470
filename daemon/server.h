/* The daemon: what the loop has, how it starts, reloads and stops. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "bpf/sampler.h"
#include "config/settings.h"

struct debuginfod;
struct event;
struct event_base;
struct http_server;
struct notices;
struct options;
struct service;
struct recording;
struct scheduler;
struct unwind_tables;
struct watch_rules;
struct watches;
struct worker_pool;

struct server {
    const struct options *options;
    struct event_base *base;
    struct settings *settings; /* replaced as a whole by a reload; what began with the old ones goes on */
    struct http_server *http;
    struct worker_pool *pool;
    struct debuginfod *debuginfod;
    struct service *service;
    struct event *signals[3];
    bool stopping;             /* nothing new is begun */
    bool can_sample;           /* the BPF programs are loaded; else sampler_error says why not */
    bool can_copy;             /* events can be had that copy stacks: what is left without programs */
    struct sampler sampler;
    char sampler_error[1024];
    struct notices *notices;
    struct scheduler *scheduler; /* where can_sample */
    struct unwind_tables *tables; /* where can_sample */
    struct watches *watches;
    struct watch_rules *rules;
    struct recording *recordings[CPROFD_MAX_SESSIONS]; /* by slot; deregister themselves */
};

/* Runs the daemon to its end. settings become the server's. The exit status. */
int server_run(const struct options *options, struct settings *settings);
