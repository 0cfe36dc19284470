/* A short list of ranges. Owns nothing. */
#include "daemon/image_access.h"

void image_access_init(struct image_access *a)
{
    *a = (struct image_access){.ranges = {{0, UINT32_MAX}}, .n = 1, .open = true};
}

void image_access_exec(struct image_access *a, uint32_t epoch)
{
    if (!a->open)
        return;
    a->open = false;
    if (epoch <= a->ranges[a->n - 1].first)
        a->n--;
    else
        a->ranges[a->n - 1].last = epoch - 1;
}

void image_access_grant(struct image_access *a, uint32_t epoch, uint32_t newest)
{
    if (a->open || epoch != newest || a->n == IMAGE_ACCESS_MAX_RANGES)
        return;
    a->ranges[a->n].first = epoch;
    a->ranges[a->n].last = UINT32_MAX;
    a->n++;
    a->open = true;
}

/* Ranges are in order, and what is revoked are the latest images that ended: it cuts whole ranges and the end of one. */
void image_access_revoke(struct image_access *a, uint32_t first, uint32_t end)
{
    unsigned n = 0;

    if (first >= end)
        return;
    for (unsigned i = 0; i < a->n; i++) {
        __typeof__(a->ranges[0]) range = a->ranges[i];
        if (range.first < end && range.last >= first) {
            if (range.first >= first)
                continue;
            range.last = first - 1;
        }
        a->ranges[n++] = range;
    }
    a->open = a->open && n > 0 && a->ranges[n - 1].last == UINT32_MAX;
    a->n = n;
}

bool image_access_allows(const struct image_access *a, uint32_t epoch)
{
    for (unsigned i = 0; i < a->n; i++)
        if (epoch >= a->ranges[i].first && epoch <= a->ranges[i].last)
            return true;
    return false;
}

bool image_access_allows_all(const struct image_access *a)
{
    return a->n == 1 && a->ranges[0].first == 0 && a->ranges[0].last == UINT32_MAX;
}

bool image_access_allows_some(const struct image_access *a, uint32_t first, uint32_t last)
{
    for (unsigned i = 0; i < a->n; i++)
        if (first <= a->ranges[i].last && last >= a->ranges[i].first)
            return true;
    return false;
}

void image_access_since(const struct image_access *a, uint32_t epoch, struct image_access *ret)
{
    *ret = (struct image_access){.open = a->open};
    for (unsigned i = 0; i < a->n; i++) {
        uint32_t first = a->ranges[i].first, last = a->ranges[i].last;
        if (last < epoch)
            continue;
        ret->ranges[ret->n].first = first > epoch ? first : epoch;
        ret->ranges[ret->n++].last = last;
    }
}
