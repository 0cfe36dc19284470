/* Listening sockets: made from an address of the settings, or taken over from the service manager. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

/* What a Unix socket leaves behind in the file system. */
struct http_listen_path {
    char path[108]; /* "" for TCP */
    dev_t dev;
    ino_t ino;
};

/* A listening, non-blocking socket for "127.0.0.1:6060", "[::1]:6060" or "unix:/run/cprofd.sock" (ret_path then names
 * the file, which http_listen_unlink removes). fd, or -errno with a message. */
int http_listen_open(const char *address, struct http_listen_path *ret_path, char *error, size_t error_len);
/* Where fd, opened for address, listens: with the port that the kernel chose for port 0. */
#define HTTP_LISTEN_NAME_LEN 128
void http_listen_name(int fd, const char *address, char ret[HTTP_LISTEN_NAME_LEN]);
/* Checks that fd is a listening stream socket of a known family, and makes it non-blocking. 0 or -errno. */
int http_listen_check(int fd);
/* Removes the file, unless another one has taken its place. */
void http_listen_unlink(const struct http_listen_path *path);
