/* The checks that keep browsers and proxies from being used against the daemon. A page from anywhere can make a browser on
 * this machine send requests here, as its user: so a Host that is not ours (DNS rebinding), a foreign Origin and a
 * cross-site fetch are refused. And what a reverse proxy passes on would be taken for the proxy's own wish. */
#include "daemon/http_checks.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/queue.h>
#include <unistd.h>

#include "config/settings.h"
#include "daemon/asker.h"

static int __attribute__((format(printf, 3, 4))) refuse(struct http_refusal *ret, int status, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    ret->status = status;
    (void)vsnprintf(ret->message, sizeof(ret->message), fmt, args);
    va_end(args);
    return -EINVAL;
}

static size_t count_headers(const struct evkeyvalq *headers, const char *name)
{
    size_t n = 0;
    const struct evkeyval *h;
    TAILQ_FOREACH(h, headers, next)
        n += strcasecmp(h->key, name) == 0;
    return n;
}

/* RFC 9110, 5.6.2. */
static bool is_token(const char *text)
{
    static const char extra[] = "!#$%&'*+-.^_`|~";
    if (!*text)
        return false;
    for (; *text; text++) {
        char c = *text;
        if (!((c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || strchr(extra, c)))
            return false;
    }
    return true;
}

static bool is_decimal(const char *text)
{
    return *text && text[strspn(text, "0123456789")] == '\0';
}

int http_check_framing(const struct http_check_input *in, int method_has_no_body, struct http_refusal *ret)
{
    const struct evkeyval *h;
    const char *length = evhttp_find_header(in->headers, "Content-Length");
    const char *coding = evhttp_find_header(in->headers, "Transfer-Encoding");
    TAILQ_FOREACH(h, in->headers, next)
        if (!is_token(h->key))
            return refuse(ret, 400, "malformed header name");
    if (in->major != 1 || in->minor < 0 || in->minor > 1)
        return refuse(ret, 505, "HTTP/1.1 and HTTP/1.0 are what is spoken here");
    if (count_headers(in->headers, "Content-Length") > 1 || (length && !is_decimal(length)))
        return refuse(ret, 400, "Content-Length must be there once, a decimal number");
    if (coding && (length || count_headers(in->headers, "Transfer-Encoding") > 1))
        return refuse(ret, 400, "Transfer-Encoding must be there once, and without Content-Length");
    if (coding && strcasecmp(coding, "chunked") != 0)
        return refuse(ret, 501, "the only Transfer-Encoding known here is chunked");
    if (method_has_no_body && (coding || (length && strspn(length, "0") != strlen(length))))
        return refuse(ret, 400, "a body does not go with this method");
    if (count_headers(in->headers, "Host") > 1)
        return refuse(ret, 400, "more than one Host header");
    if (in->minor >= 1 && !evhttp_find_header(in->headers, "Host"))
        return refuse(ret, 400, "HTTP/1.1 needs a Host header");
    return 0;
}

/* The name or address of "NAME[:PORT]" or "[ADDRESS][:PORT]", without brackets. */
static bool split_host(const char *text, char *out, size_t size)
{
    const char *end, *port;
    if (*text == '[') {
        end = strchr(++text, ']');
        port = end ? end + 1 : NULL;
    } else {
        end = port = text + strcspn(text, ":");
    }
    if (!end || end == text || (size_t)(end - text) >= size)
        return false;
    if (*port && !(*port == ':' && (port[1] == '\0' || is_decimal(port + 1))))
        return false;
    memcpy(out, text, (size_t)(end - text));
    out[end - text] = '\0';
    return true;
}

static bool is_address(const char *host)
{
    unsigned char bytes[sizeof(struct in6_addr)];
    return inet_pton(AF_INET, host, bytes) == 1 || inet_pton(AF_INET6, host, bytes) == 1;
}

static bool is_configured(const struct settings *settings, const char *host)
{
    for (size_t i = 0; i < settings->hosts.n; i++)
        if (strcasecmp(settings->hosts.item[i], host) == 0)
            return true;
    return false;
}

/* The kernel's name of this machine, whole or its first label. */
static bool is_machine_name(const char *host)
{
    char own[256] = "";
    if (gethostname(own, sizeof(own) - 1) < 0 || !own[0])
        return false;
    if (strcasecmp(own, host) == 0)
        return true;
    own[strcspn(own, ".")] = '\0';
    return own[0] && strcasecmp(own, host) == 0;
}

/* An IP address can't be rebound to us by a name server of somebody else's; a name can. */
static bool host_is_ours(const struct settings *settings, const char *text)
{
    char host[256];
    if (!split_host(text, host, sizeof(host)))
        return false;
    size_t len = strlen(host);
    if (host[len - 1] == '.' && len > 1)
        host[len - 1] = '\0';
    return is_address(host) || strcasecmp(host, "localhost") == 0 || is_configured(settings, host) ||
           is_machine_name(host);
}

static int check_host(const struct http_check_input *in, struct http_refusal *ret)
{
    const char *header = evhttp_find_header(in->headers, "Host");
    if (in->uri_host && (!in->uri_scheme || strcasecmp(in->uri_scheme, "http") != 0))
        return refuse(ret, 400, "this is no proxy: ask for a path, such as /pid/1234/debug/pprof/");
    if (in->asker->local)
        return 0;
    if ((header && !host_is_ours(in->settings, header)) || (in->uri_host && !host_is_ours(in->settings, in->uri_host)))
        return refuse(ret, 403, "the Host header names another machine; use an IP address, localhost or this machine's name, "
                                "or add the name to the setting hosts");
    return 0;
}

/* A page's own origin: the Host that it was fetched from, or a configured name of ours. */
static int check_origin(const struct http_check_input *in, struct http_refusal *ret)
{
    const char *origin = evhttp_find_header(in->headers, "Origin");
    const char *host = evhttp_find_header(in->headers, "Host");
    char name[256];
    if (!origin)
        return 0;
    if (count_headers(in->headers, "Origin") == 1) {
        const char *rest = strncasecmp(origin, "http://", 7) == 0 ? origin + 7
                         : strncasecmp(origin, "https://", 8) == 0 ? origin + 8 : NULL;
        if (rest && host && strcasecmp(rest, host) == 0)
            return 0;
        if (rest && split_host(rest, name, sizeof(name)) && is_configured(in->settings, name))
            return 0;
    }
    return refuse(ret, 403, "a page of another origin may not ask; use a page of this daemon, or a tool such as curl");
}

static int check_forwarded(const struct http_check_input *in, struct http_refusal *ret)
{
    const struct evkeyval *h;
    if (in->asker->proxied)
        return 0;
    TAILQ_FOREACH(h, in->headers, next)
        if (strcasecmp(h->key, "Forwarded") == 0 || strcasecmp(h->key, "Via") == 0 ||
            strncasecmp(h->key, "X-Forwarded-", 12) == 0)
            return refuse(ret, 403, "the request came through a proxy that is not configured; name the user that the proxy runs "
                                    "as in the setting proxy");
    return 0;
}

int http_check_source(const struct http_check_input *in, struct http_refusal *ret)
{
    const char *site = evhttp_find_header(in->headers, "Sec-Fetch-Site");
    int r = check_host(in, ret);
    if (r < 0)
        return r;
    if (site && strcasecmp(site, "cross-site") == 0)
        return refuse(ret, 403, "a page of another site may not ask (Sec-Fetch-Site: cross-site); open the address by hand");
    r = check_origin(in, ret);
    return r < 0 ? r : check_forwarded(in, ret);
}
