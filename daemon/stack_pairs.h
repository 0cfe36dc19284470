/* Stacks of who waited and of who woke it, put together: leaf first, the waker's from its root on, a frame [woken by], and the waiter's. */
#pragma once

struct recorder;

/* Puts a whole stack in place of each pair (STACK_END_PAIR) among a recorder's records. What finds no room is lost, and counted as that. 0
 * or -ENOMEM. */
int stack_pairs_join(struct recorder *r);
