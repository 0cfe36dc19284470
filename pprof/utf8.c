/* Validation and repair of UTF-8. Names of functions, files and threads can be any bytes, and protobuf
 * readers refuse a whole profile for one bad string. */
#include "pprof/utf8.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static const char replacement[] = "\xef\xbf\xbd"; /* U+FFFD */

/* The length of a character by its first byte, and the bounds of its second; 0: no character begins so. */
static size_t utf8_lead(unsigned char lead, unsigned char *ret_low, unsigned char *ret_high)
{
    *ret_low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    *ret_high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    if (lead < 0x80)
        return 1;
    if (lead < 0xc2 || lead > 0xf4)
        return 0;
    return lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}

/* The bytes of the first character, or where it is none (ret_valid), of what a single U+FFFD stands for. */
static size_t utf8_step(const unsigned char *text, size_t len, bool *ret_valid)
{
    unsigned char low, high;
    size_t want = utf8_lead(text[0], &low, &high), have = 1;
    while (have < want && have < len && text[have] >= low && text[have] <= high) {
        low = 0x80;
        high = 0xbf;
        have++;
    }
    *ret_valid = have == want;
    return have;
}

size_t utf8_valid_prefix(const char *text, size_t len)
{
    const unsigned char *bytes = (const unsigned char *)text;
    size_t at = 0;
    while (at < len) {
        uint64_t word;
        bool valid;
        if (len - at >= sizeof(word)) {
            memcpy(&word, bytes + at, sizeof(word));
            if (!(word & 0x8080808080808080ull)) {
                at += sizeof(word);
                continue;
            }
        }
        size_t step = utf8_step(bytes + at, len - at, &valid);
        if (!valid)
            return at;
        at += step;
    }
    return at;
}

size_t utf8_sanitize(const char *text, size_t len, char *out)
{
    const unsigned char *bytes = (const unsigned char *)text;
    size_t written = 0;
    for (size_t at = 0; at < len;) {
        bool valid;
        size_t step = utf8_step(bytes + at, len - at, &valid);
        const char *from = valid ? text + at : replacement;
        size_t n = valid ? step : sizeof(replacement) - 1;
        memcpy(out + written, from, n);
        written += n;
        at += step;
    }
    return written;
}
