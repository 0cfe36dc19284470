/* Compression by zlib. Owns the stream and the output until it is handed over. */
#include "pprof/gzip.h"

#include <assert.h>
#include <limits.h>
#include <zlib.h>

#include "pprof/vec.h"
#include "util/cleanup.h"

#define GZIP_LEVEL 1
#define GZIP_WINDOW_BITS (15 + 16) /* the largest window; 16 asks for the gzip format */
#define GZIP_MEMORY_LEVEL 9
#define GZIP_OUTPUT_BYTES 65536u

struct gzip {
    z_stream stream;
    VEC(uint8_t) out;
};

static void cleanup_gzip(struct gzip **g) { gzip_free(*g); }

int gzip_new(struct gzip **ret)
{
    CLEANUP(cleanup_gzip) struct gzip *g = calloc(1, sizeof(*g));
    if (!g)
        return -ENOMEM;
    if (deflateInit2(&g->stream, GZIP_LEVEL, Z_DEFLATED, GZIP_WINDOW_BITS, GZIP_MEMORY_LEVEL,
                     Z_DEFAULT_STRATEGY) != Z_OK)
        return -ENOMEM;
    *ret = TAKE_PTR(g);
    return 0;
}

void gzip_free(struct gzip *g)
{
    if (!g)
        return;
    (void)deflateEnd(&g->stream); /* takes a zeroed stream */
    vec_free(&g->out);
    free(g);
}

/* Runs deflate until it wants more input, or the stream is finished. */
static int gzip_run(struct gzip *g, int flush)
{
    int r;
    do {
        if (vec_reserve(&g->out, GZIP_OUTPUT_BYTES) < 0)
            return -ENOMEM;
        g->stream.next_out = g->out.items + g->out.n;
        g->stream.avail_out = GZIP_OUTPUT_BYTES;
        r = deflate(&g->stream, flush);
        assert(r == Z_OK || r == Z_STREAM_END || r == Z_BUF_ERROR);
        g->out.n += GZIP_OUTPUT_BYTES - g->stream.avail_out;
    } while (g->stream.avail_out == 0 && r != Z_STREAM_END);
    return 0;
}

int gzip_write(struct gzip *g, const void *data, size_t len)
{
    const Bytef *at = data;
    while (len > 0) {
        uInt n = len < UINT_MAX ? (uInt)len : UINT_MAX;
        g->stream.next_in = (z_const Bytef *)at;
        g->stream.avail_in = n;
        if (gzip_run(g, Z_NO_FLUSH) < 0)
            return -ENOMEM;
        at += n;
        len -= n;
    }
    return 0;
}

int gzip_finish(struct gzip *g, uint8_t **ret_data, size_t *ret_len)
{
    g->stream.next_in = NULL;
    g->stream.avail_in = 0;
    if (gzip_run(g, Z_FINISH) < 0)
        return -ENOMEM;
    *ret_len = g->out.n;
    *ret_data = TAKE_PTR(g->out.items);
    return 0;
}
