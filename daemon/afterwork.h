/* What goes on behind a reply that was due before all names were there: a worker reads on, so that the next request finds them in its
 * cache, and a collector opens what it still needs. Nobody waits for it; the worker pool bounds it. */
#pragma once

struct child;
struct debuginfod_asker;
struct watch_run;
struct worker_job;

/* Within the done callback of a render job, where there is more. The collector (NULL: there is none any more) and what asks
 * debuginfod servers become ours, and so do their callbacks. Where memory is short, both end. */
void afterwork_begin(struct worker_job *job, struct child *collector, struct debuginfod_asker *debuginfod);
/* The same of what was read of a watch, whose run it holds: files come from the recording's collector. */
void afterwork_begin_watch(struct worker_job *job, struct watch_run *run, struct debuginfod_asker *debuginfod);
/* At the daemon's end. */
void afterwork_end_all(void);
