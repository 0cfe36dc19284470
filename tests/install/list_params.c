/* Prints the table of a profile's parameters, "NAME\tBOUNDS\tDEFAULT" a line, for the check of the manual. */
#include <stdio.h>

#include "daemon/params.h"

int main(void)
{
    for (size_t i = 0; i < profile_params.n; i++) {
        const struct param_spec *spec = &profile_params.specs[i];
        printf("%s\t%s\t%s\n", spec->name, spec->bounds, spec->fallback);
    }
    return 0;
}
