/* What is decompressed may be made to explode, and its header to ask for any amount of memory: output and memory are both bounded. */
#include "symbolize/unxz.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>

#include "util/cleanup.h"

#ifdef HAVE_LZMA
#include <lzma.h>

#define UNXZ_MAX_MEMORY_BYTES (128u << 20) /* of the decoder; xz -9 needs 65 MiB */

static void stream_end(lzma_stream *stream)
{
    lzma_end(stream);
}

static int to_errno(lzma_ret r)
{
    return r == LZMA_MEM_ERROR ? -ENOMEM : r == LZMA_MEMLIMIT_ERROR ? -EFBIG : -ENOEXEC;
}

int unxz(const void *bytes, size_t n, size_t max, void **ret, size_t *ret_n)
{
    CLEANUP(stream_end) lzma_stream stream = LZMA_STREAM_INIT;
    AUTO_FREE uint8_t *out = NULL;
    size_t len = 0, room = 0;
    lzma_ret r = lzma_stream_decoder(&stream, UNXZ_MAX_MEMORY_BYTES, 0);
    stream.next_in = bytes;
    stream.avail_in = n;
    while (r == LZMA_OK) {
        if (len == room) {
            if (len > max)
                return -EFBIG;
            room = room ? 2 * room : 1u << 16;
            room = room <= max ? room : max + 1; /* one more, so that the end is seen behind the last */
            uint8_t *grown = realloc(out, room);
            if (!grown)
                return -ENOMEM;
            out = grown;
        }
        stream.next_out = out + len;
        stream.avail_out = room - len;
        r = lzma_code(&stream, LZMA_FINISH);
        len = room - stream.avail_out;
    }
    if (r != LZMA_STREAM_END)
        return to_errno(r);
    if (len > max)
        return -EFBIG;
    *ret = TAKE_PTR(out);
    *ret_n = len;
    return 0;
}
#else
int unxz(const void *bytes, size_t n, size_t max, void **ret, size_t *ret_n)
{
    return -ENOTSUP;
}
#endif
