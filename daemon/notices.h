/* What the watches tell: the ring of the BPF programs (exec, exit, new code as samples see it) and perf's records of new executable
 * mappings. Each is handed to the recordings that it concerns. */
#pragma once

struct notices;
struct server;

int notices_new(struct server *server, struct notices **ret);
void notices_free(struct notices *n);

/* The watches are attached while anybody needs them. 0 or -errno. */
int notices_watch(struct notices *n);
void notices_unwatch(struct notices *n);
