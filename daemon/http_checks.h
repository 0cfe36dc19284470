/* What every request must pass before a handler sees it, whatever its path. Pure functions on the headers. */
#pragma once

#include <stddef.h>

struct asker;
struct evkeyvalq;
struct settings;

struct http_check_input {
    const struct evkeyvalq *headers;
    const char *uri_scheme; /* of an absolute request target; NULL else */
    const char *uri_host;   /* the same, with its port where it has one */
    int major, minor;       /* HTTP version */
    const struct asker *asker;
    const struct settings *settings;
};

struct http_refusal {
    int status;
    char message[512];
};

/* Framing that a proxy may read otherwise than evhttp did (request smuggling). method_has_no_body: evhttp read none, for HEAD and
 * TRACE. 0, or -EINVAL with the answer; the connection must then be closed, since where the request ends is not known. */
int http_check_framing(const struct http_check_input *in, int method_has_no_body, struct http_refusal *ret);
/* Host, Origin, Sec-Fetch-Site, and headers of proxies. 0, or -EINVAL with the answer. */
int http_check_source(const struct http_check_input *in, struct http_refusal *ret);
