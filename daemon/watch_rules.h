/* Watching by configuration: the rules of the setting watch, and a child that looks for processes that they fit. */
#pragma once

struct server;
struct watch;
struct watch_rules;

int watch_rules_new(struct server *server, struct watch_rules **ret);
void watch_rules_free(struct watch_rules *r); /* NULL is fine. Before the watches */
/* Root has ended it: it is not begun again, for as long as the process lives and the settings are not read anew. */
void watch_rules_keep_off(struct watch_rules *r, const struct watch *w);
/* Takes the rules of the server's settings from now on. */
void watch_rules_set(struct watch_rules *r);
