/* What a thread of a dump does, or waits for. */
#pragma once

#include "bpf/sample.h"
#include "bpf/threads.h"

/* For people, as Go has it for goroutines: "futex wait", "IO wait", "running"; never "". */
#define THREAD_STATE_TEXT 48

enum sample_state thread_state(const struct thread_record *t, char ret_text[THREAD_STATE_TEXT]);
