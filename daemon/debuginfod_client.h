/* The debuginfod client: a role of the binary that fetches debug files from servers into a folder, in a sandbox of its own. */
#pragma once

/* To be called by main where argv[1] is "--role=debuginfod", before anything else. The arguments and the environment are the loop's own
 * (daemon/debuginfod_process.c), the socket is fd 3. Serves until its end of file. Returns the exit status. */
int debuginfod_client_main(int argc, char **argv);
