/* The query part of a URL. evhttp's own parser refuses a name without "=" and leaves names undecoded. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct evkeyvalq;

/* Percent-decodes len bytes; plus: "+" is a space. A "%" that no two hex digits follow stands for itself. NULL where a
 * zero byte would come out, or memory is short. */
char *http_query_decode(const char *text, size_t len, bool plus);
/* Adds the parameters of query to ret (initialised by the caller, and the caller's to clear, on failure too): at most max. 0, -E2BIG,
 * -EINVAL (a zero byte) or -ENOMEM. */
int http_query_parse(const char *query, size_t max, struct evkeyvalq *ret);
