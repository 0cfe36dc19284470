/* The table of kinds. */
#include <string.h>

#include "daemon/kind.h"

static const struct kind *const kinds[] = {&kind_cmdline, &kind_profile, &kind_symbol};

const struct kind *kind_at(size_t i)
{
    return i < sizeof(kinds) / sizeof(kinds[0]) ? kinds[i] : NULL;
}

const struct kind *kind_find(const char *name)
{
    for (size_t i = 0; kind_at(i); i++)
        if (strcmp(kind_at(i)->name, name) == 0)
            return kind_at(i);
    return NULL;
}
