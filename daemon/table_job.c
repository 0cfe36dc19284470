/* From a file to the image of its table. Owns nothing beyond the call. */
#include "daemon/table_job.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "symbolize/label_place.h"
#include "symbolize/unwind_builder.h"
#include "util/cleanup.h"

static int write_all(int fd, const uint8_t *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

int table_make(int elf_fd, int out_fd, uint64_t *ret_len, char *message, size_t message_len)
{
    CLEANUP(unwind_output_deinit) struct unwind_output output = {0};

    int r = unwind_build(elf_fd, &output);
    if (r == 0)
        r = write_all(out_fd, output.image, output.image_bytes);
    if (r < 0) {
        (void)snprintf(message, message_len, "no unwinding table: %s", strerror(-r));
        return r;
    }
    *ret_len = output.image_bytes;
    return 0;
}

int table_labels(int elf_fd, struct label_place *ret)
{
    CLEANUP(elf_file_close) struct elf_file file = {0};

    int r = elf_file_open(elf_fd, &file);
    return r < 0 ? r : label_place_find(&file, ret);
}
