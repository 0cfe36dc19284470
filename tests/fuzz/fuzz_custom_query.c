/* What queries and targets call functions and profiles, from anybody. */
#include <stdio.h>
#include <string.h>

#include "bpf/custom.h"
#include "daemon/custom_spec.h"
#include "daemon/quote.h"
#include "symbolize/name_likeness.h"
#include "tests/fuzz/fuzz.h"
#include "util/cleanup.h"

static void check_function(const char *text)
{
    struct custom_function f, again;
    char written[sizeof(f.object) + sizeof(f.symbol) + 40], from[8];
    const char *why = NULL;

    if (custom_function_parse(text, &f, &why) < 0) {
        FUZZ_CHECK(why);
        return;
    }
    FUZZ_CHECK(f.symbol[0] && memchr(f.symbol, '\0', sizeof(f.symbol)) && memchr(f.object, '\0', sizeof(f.object)) && f.from <= CUSTOM_RESULT);
    /* Written in full it means the same, where that has room. */
    (void)snprintf(from, sizeof(from), f.from == CUSTOM_RESULT ? "ret" : "arg%u", f.from);
    (void)snprintf(written, sizeof(written), "%s%s%s+0x%llx:%s", f.object, f.object[0] ? ":" : "", f.symbol, (unsigned long long)f.offset, from);
    if (f.object[0] && f.symbol[0] != ':' && strlen(f.symbol) + sizeof("+0x0123456789abcdef") < sizeof(f.symbol)) {
        FUZZ_CHECK(custom_function_parse(written, &again, &why) == 0 && strcmp(f.object, again.object) == 0 && strcmp(f.symbol, again.symbol) == 0);
        FUZZ_CHECK(f.offset == again.offset && f.from == again.from);
    }
}

static void check_types(const char *name, const char *unit)
{
    struct raw_types types;

    custom_types(name, unit, &types);
    FUZZ_CHECK(types.n >= 1 && types.n <= 2 && is_plain_utf8(types.type[0]) && is_plain_utf8(types.unit[types.n - 1]));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_FREE char *text = malloc(size + 1);
    struct name_form a, b;
    uint32_t value = 99;

    FUZZ_CHECK(text);
    memcpy(text, data, size);
    text[size] = '\0';
    const char *half = text + strlen(text) / 2;
    check_function(text);
    check_types(text, half);
    FUZZ_CHECK(custom_key_parse(text, &value) < 0 || value <= CUSTOM_LONG);
    (void)custom_name_is_usable(text);
    name_form_make(text, &a);
    name_form_make(half, &b);
    FUZZ_CHECK(strlen(a.whole) < NAME_FORM_BYTES && a.base >= a.whole && a.base <= a.whole + strlen(a.whole));
    FUZZ_CHECK(name_likeness(&a, &b) <= NAME_UNLIKE && (!*a.base || name_likeness(&a, &a) == 0));
    return 0;
}
