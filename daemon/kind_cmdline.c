/* cmdline: the target's arguments, joined by NUL. */
#include "daemon/collector.h"
#include "daemon/http.h"
#include "daemon/kind.h"
#include "daemon/oneshot.h"

static void kind_cmdline_body(struct server *server, struct http_request *request, int fd, uint64_t len)
{
    http_reply_fd(request, 200, "text/plain; charset=utf-8", fd, 0, len);
}

static void kind_cmdline_start(struct server *server, struct http_request *request, pid_t pid, const struct kind *kind)
{
    oneshot_start(server, request, pid, cmdline_main, kind_cmdline_body);
}

const struct kind kind_cmdline = {
    .name = "cmdline",
    .path = "cmdline",
    .description = "The command line of the process, its arguments separated by NUL bytes.",
    .start = kind_cmdline_start,
};
