/* Places of a file that the target has mapped since its probes were attached. */
#pragma once

struct attacher_duty;
struct attacher_message;
struct attacher_request;
struct attachment;

/* Answers ATTACHER_MORE, with the fds that came. 0 or -errno: the loop is gone. */
int attacher_more(int sock, const struct attacher_request *q, const struct attacher_message *m, int fds[2], struct attacher_duty *duty,
                  struct attachment *a);
