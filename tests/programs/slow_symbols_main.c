/* Runs slow_symbols.S's function for ever. Compiled by the test that needs it. */
#include <stdio.h>

void slow_burn(void);

int main(void)
{
    (void)puts("ready");
    (void)fflush(stdout);
    for (;;)
        slow_burn();
}
