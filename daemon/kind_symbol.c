/* symbol: the names of addresses, for go tool pprof. */
#include "daemon/kind.h"
#include "daemon/symbol_request.h"

const struct kind kind_symbol = {
    .name = "symbol",
    .path = "symbol",
    .description = "The functions at the addresses given in the query or in a POST's body, as 0xADDRESS+0xADDRESS. "
                   "Profiles carry their names already.",
    .takes_post = true,
    .start = symbol_request_start,
};
