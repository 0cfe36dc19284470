/* What an allocator's function does with which arguments. Found by a worker (symbolize/), known to probes (bpf/). Included by *.bpf.c. */
#pragma once

enum heap_call_kind {
    HEAP_MALLOC = 1,     /* (size) */
    HEAP_CALLOC,         /* (n, size) */
    HEAP_REALLOC,        /* (pointer, size) */
    HEAP_REALLOCARRAY,   /* (pointer, n, size) */
    HEAP_MEMALIGN,       /* (alignment, size) */
    HEAP_POSIX_MEMALIGN, /* (where the pointer goes, alignment, size) */
    HEAP_FREE,           /* (pointer) */
    HEAP_NEW,            /* (size); it may throw, so that no probe can be put on its return: */
    HEAP_NEW_RETURN,     /* a ret instruction of such a one */
    /* What a program maps by itself, by the C library's functions: */
    HEAP_MAP,            /* (address, size, protection, flags) */
    HEAP_UNMAP,          /* (address, size) */
    HEAP_REMAP,          /* (address, size, new size, flags, new address) */
    /* Sites of allocators that sample by themselves (USDT, otel_memory), with their arguments in a call's registers: */
    HEAP_SITE_ALLOC,     /* (pointer, size, bytes that it stands for) */
    HEAP_SITE_FREE,      /* (pointer) */
    HEAP_SITE_UNTRACKED, /* (size, bytes that it stands for): one whose end will not be told, so that it has passed both of these */
    HEAP_CALL_KINDS,
};

/* Beside the kind, in what is told of a place: the kernel single-steps the instruction there. */
#define HEAP_STEPPED 0x80u
