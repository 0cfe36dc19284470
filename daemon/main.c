/* The binary's roles: the daemon, and (started by it) a worker and a debuginfod client. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/settings.h"
#include "config/watch_rule.h"
#include "daemon/debuginfod_client.h"
#include "daemon/options.h"
#include "daemon/server.h"
#include "daemon/watch_query.h"
#include "daemon/worker_pool.h"
#include "util/clock.h"

int main(int argc, char **argv)
{
    struct options options;
    int r = clock_init();

    if (r < 0) {
        fprintf(stderr, "cprofd: %s\n", r == -EXDEV ? "its children would be in another time namespace than itself: start it by `unshare --fork`"
                                                    : "the clock of its time namespace cannot be told from /proc/self/timens_offsets");
        return EXIT_FAILURE;
    }
    if (argc > 1 && strcmp(argv[1], "--role=worker") == 0)
        return worker_main(argc, argv);
    if (argc > 1 && strcmp(argv[1], "--role=debuginfod") == 0)
        return debuginfod_client_main(argc, argv);
    if (options_parse(argc, argv, &options, stderr) < 0)
        return EXIT_FAILURE;
    if (options.help) {
        options_print_help(stdout);
        return EXIT_SUCCESS;
    }
    if (options.version) {
        puts("cprofd " CPROFD_VERSION);
        return EXIT_SUCCESS;
    }
    watch_rule_use_check(watch_query_check_rule);
    struct settings *settings = calloc(1, sizeof(*settings));
    if (!settings || options_settings(&options, settings, stderr) < 0) {
        free(settings);
        return EXIT_FAILURE;
    }
    if (options.check_config) {
        settings_deinit(settings);
        free(settings);
        puts("the settings are right");
        return EXIT_SUCCESS;
    }
    return server_run(&options, settings);
}
