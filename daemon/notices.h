/* Reads the ring by which the BPF watches tell of exec, exit and new code, and hands each notice to its session. */
#pragma once

struct notices;
struct server;

int notices_new(struct server *server, struct notices **ret);
void notices_free(struct notices *n);
