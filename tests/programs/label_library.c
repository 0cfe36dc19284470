/* A shared object with labels of its own (cprofd/labels.h): where they are is known only once it is loaded. */
#include "cprofd/labels.h"

struct cprofd_thread_labels *library_labels(void)
{
    return &cprofd_thread_labels_v1;
}

void library_work(const char *request, void (*work)(void))
{
    CPROFD_LABEL(label, "request", request);
    work();
}
