/* Prints the table of a profile's parameters, "NAME\tBOUNDS\tDEFAULT" a line, for the check of the manual. */
#include <stdio.h>

#include "daemon/session_params.h"

int main(void)
{
    for (size_t i = 0; i < n_profile_params; i++)
        printf("%s\t%s\t%s\n", profile_params[i].name, profile_params[i].bounds, profile_params[i].fallback);
    return 0;
}
