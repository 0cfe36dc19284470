/* From a path to who answers it. */
#pragma once

struct http_request;

/* An http_handler; userdata is the struct server. */
void router_handle(struct http_request *request, void *userdata);
