/* Whether a return probe harms the target. */
#pragma once

struct attacher_request;

/* 0; -EUCLEAN: a return probe is wanted, and this kernel kills programs under seccomp at one, or nobody knows. */
int attacher_returns_check(const struct attacher_request *q);
