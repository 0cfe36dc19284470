/* Whether a return probe harms the target. */
#pragma once

struct attacher_request;

/* 0; -EUCLEAN: the target is under seccomp, and this kernel kills such a program at a return probe, or nobody knows. */
int attacher_returns_check(const struct attacher_request *q);
