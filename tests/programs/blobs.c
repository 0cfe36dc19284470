/* A blob store with a profile of its open blobs (cprofd/profile.h), and a program that leaks some: for each line on standard input it opens
 * open= (1000) blobs in a loop and closes every close_every=th (5) at once, so 800 more are open, all opened by take_snapshots. The
 * function that adds is blob_open; the one to see in a profile is its caller. Each blob weighs 1000 bytes in blobstore.Bytes.
 * With replace=1 each blob is added twice, and with remove_unknown=1 each that was closed is removed twice. plain=1 leaves the macros
 * out, for those who watch blob_open and blob_close by configuration. before=1 opens the first lot before it says that it is ready. */
#include <stdlib.h>

#include "cprofd/profile.h"
#include "program.h"

CPROFD_PROFILE(open_blobs, "blobstore.Open", "blobs that are open now", "count");
CPROFD_PROFILE(blob_bytes, "blobstore.Bytes", "bytes of the blobs that are open now", "bytes");

#define BLOB_BYTES 1000

struct blob {
    struct blob *next;
    size_t bytes;
};

static struct tally tallies[] = { { .name = "take_snapshots" } };
static struct blob *opened;
static bool plain, replace, remove_unknown;
static long open_blobs, close_every;

/* A blob's parameters are there for probes on arguments: bytes is arg1. */
NOINLINE struct blob *blob_open(struct blob *blob, size_t bytes)
{
    blob->bytes = bytes;
    if (!plain) {
        CPROFD_PROFILE_ADD(open_blobs, blob);
        CPROFD_PROFILE_ADD_WEIGHT(blob_bytes, blob, bytes, 1);
        if (replace)
            CPROFD_PROFILE_ADD(open_blobs, blob);
    }
    return blob;
}

NOINLINE void blob_close(struct blob *blob)
{
    if (!plain) {
        CPROFD_PROFILE_REMOVE(open_blobs, blob);
        CPROFD_PROFILE_REMOVE(blob_bytes, blob);
        if (remove_unknown)
            CPROFD_PROFILE_REMOVE(open_blobs, blob);
    }
    KEEP_FRAME();
}

static NOINLINE void take_snapshots(void)
{
    for (long i = 0; i < open_blobs; i++) {
        struct blob *blob = malloc(sizeof(*blob));

        if (!blob)
            program_cannot("allocate");
        blob = blob_open(blob, BLOB_BYTES);
        if (close_every > 0 && i % close_every == 0) {
            blob_close(blob);
            free(blob);
            continue;
        }
        blob->next = opened;
        opened = blob;
        tallies[0].calls++;
    }
    KEEP_FRAME();
}

static void on_line(const char *line)
{
    (void)line;
    take_snapshots();
}

int main(int argc, char **argv)
{
    program_on_line(on_line);
    program_init(argc, argv, tallies, 1);
    plain = program_option("plain", 0) != 0;
    replace = program_option("replace", 0) != 0;
    remove_unknown = program_option("remove_unknown", 0) != 0;
    open_blobs = program_option("open", 1000);
    close_every = program_option("close_every", 5);
    if (program_option("before", 0))
        take_snapshots();
    program_ready();
    while (program_running())
        program_sleep_until(program_clock_ns(CLOCK_MONOTONIC) + 10 * MS_NS);
    return program_end();
}
