/* libelf decompresses a section all at once, its input staying in memory beside its output; and 0.188 knows
 * zlib alone. Here the input is consumed in pieces, each given back at once, and the output goes where its
 * reader wants it. Nothing is written beyond the room that was asked for, whatever the stream holds. */
#include "symbolize/elf_section.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>
#ifdef HAVE_ZSTD
#include <zstd.h>
#endif

#include "util/cleanup.h"

#define PIECE_BYTES (1u << 20)
#define GNU_HEADER_BYTES 12u /* "ZLIB", and the size, big-endian */
#ifndef ELFCOMPRESS_ZSTD
#define ELFCOMPRESS_ZSTD 2
#endif
/* Of what zstd looks back on: what compressors use by default is less, at their highest levels it is this. */
#define ZSTD_WINDOW_LOG_MAX 27

static int locate_compressed(const uint8_t *bytes, size_t n, struct elf_section *section)
{
    Elf64_Chdr header;
    if (n < sizeof(header))
        return -ENOEXEC;
    memcpy(&header, bytes, sizeof(header));
    section->stored = bytes + sizeof(header);
    section->stored_bytes = n - sizeof(header);
    section->plain_bytes = header.ch_size;
    if (header.ch_type == ELFCOMPRESS_ZLIB)
        section->compression = SECTION_ZLIB;
    else if (header.ch_type == ELFCOMPRESS_ZSTD)
        section->compression = SECTION_ZSTD;
    else
        return -ENOTSUP;
    return 0;
}

static int locate_gnu(const uint8_t *bytes, size_t n, struct elf_section *section)
{
    uint64_t plain_bytes;
    if (n < GNU_HEADER_BYTES || memcmp(bytes, "ZLIB", 4) != 0)
        return -ENOEXEC;
    memcpy(&plain_bytes, bytes + 4, sizeof(plain_bytes));
    *section = (struct elf_section){bytes + GNU_HEADER_BYTES, n - GNU_HEADER_BYTES, be64toh(plain_bytes), SECTION_ZLIB};
    return 0;
}

int elf_section_locate(const struct elf_file *file, const GElf_Shdr *header, const char *name, struct elf_section *ret)
{
    struct elf_section section = {.plain_bytes = header->sh_size};
    int r = 0;
    if (header->sh_type == SHT_NOBITS || header->sh_size == 0)
        return -ENOENT;
    if (header->sh_offset > file->map_bytes || header->sh_size > file->map_bytes - header->sh_offset)
        return -ENOEXEC;
    section.stored = file->map + header->sh_offset;
    section.stored_bytes = (size_t)header->sh_size;
    if (header->sh_flags & SHF_COMPRESSED)
        r = gelf_getclass(file->elf) == ELFCLASS64 ? locate_compressed(section.stored, section.stored_bytes, &section) : -ENOTSUP;
    else if (strncmp(name, ".zdebug_", strlen(".zdebug_")) == 0)
        r = locate_gnu(section.stored, section.stored_bytes, &section);
    if (r == 0)
        *ret = section;
    return r;
}

/* Gives back the whole pages in a part of the file. */
static void drop_part(const uint8_t *from, const uint8_t *to)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = ((uintptr_t)from + page - 1) & ~(page - 1), end = (uintptr_t)to & ~(page - 1);
    if (begin < end)
        (void)madvise((void *)begin, end - begin, MADV_DONTNEED);
}

static void read_plain(const struct elf_section *section, uint8_t *into)
{
    for (size_t at = 0; at < section->stored_bytes; at += PIECE_BYTES) {
        size_t n = section->stored_bytes - at < PIECE_BYTES ? section->stored_bytes - at : PIECE_BYTES;
        memcpy(into + at, section->stored + at, n);
        drop_part(section->stored + at, section->stored + at + n);
    }
}

static void zlib_end(z_stream *stream)
{
    (void)inflateEnd(stream);
}

/* zlib counts what it has room for in 32 bits. */
static uInt at_most(size_t n)
{
    return n < PIECE_BYTES ? (uInt)n : PIECE_BYTES;
}

static int read_zlib(const struct elf_section *section, uint8_t *into)
{
    CLEANUP(zlib_end) z_stream stream = {0};
    const uint8_t *in = section->stored, *in_end = in + section->stored_bytes;
    uint8_t *out = into, *out_end = into + section->plain_bytes;
    if (inflateInit(&stream) != Z_OK)
        return -ENOMEM;
    for (int r = Z_OK; r != Z_STREAM_END;) {
        stream.next_in = (Bytef *)in;
        stream.avail_in = at_most((size_t)(in_end - in));
        stream.next_out = out;
        stream.avail_out = at_most((size_t)(out_end - out));
        r = inflate(&stream, Z_NO_FLUSH);
        bool moved = stream.next_in != in || stream.next_out != out;
        drop_part(in, stream.next_in);
        in = stream.next_in;
        out = stream.next_out;
        if (r == Z_MEM_ERROR)
            return -ENOMEM;
        if ((r != Z_OK && r != Z_STREAM_END) || (r == Z_OK && !moved))
            return -ENOEXEC;
    }
    return out == out_end ? 0 : -ENOEXEC;
}

#ifdef HAVE_ZSTD
static void zstd_free(ZSTD_DCtx **context)
{
    (void)ZSTD_freeDCtx(*context);
}

static int read_zstd(const struct elf_section *section, uint8_t *into)
{
    CLEANUP(zstd_free) ZSTD_DCtx *context = ZSTD_createDCtx();
    ZSTD_outBuffer out = {into, (size_t)section->plain_bytes, 0};
    size_t left = 1;
    if (!context || ZSTD_isError(ZSTD_DCtx_setParameter(context, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG_MAX)))
        return -ENOMEM;
    for (size_t at = 0; at < section->stored_bytes && left != 0;) {
        ZSTD_inBuffer in = {section->stored + at, at_most(section->stored_bytes - at), 0};
        size_t before = out.pos;
        left = ZSTD_decompressStream(context, &out, &in);
        if (ZSTD_isError(left) || (left != 0 && in.pos == 0 && out.pos == before))
            return -ENOEXEC;
        drop_part(in.src, (const uint8_t *)in.src + in.pos);
        at += in.pos;
    }
    return left == 0 && out.pos == out.size ? 0 : -ENOEXEC;
}
#else
static int read_zstd(const struct elf_section *section, uint8_t *into)
{
    return -ENOTSUP;
}
#endif

int elf_section_read(const struct elf_section *section, uint8_t *into)
{
    switch (section->compression) {
    case SECTION_ZLIB:
        return read_zlib(section, into);
    case SECTION_ZSTD:
        return read_zstd(section, into);
    default:
        read_plain(section, into);
        return 0;
    }
}
