/* A thread, from its first instruction to its end: by return, by pthread_exit, by cancellation. */
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline))

static volatile uint64_t sink;
static __thread uint64_t own;

NOINLINE void work(uint64_t n)
{
    own += n;
    sink += own;
}

static void clean_up(void *arg)
{
    work((uint64_t)(uintptr_t)arg);
}

NOINLINE void leave(const char *how)
{
    pthread_cleanup_push(clean_up, (void *)3);
    work(2);
    if (strcmp(how, "exit") == 0)
        pthread_exit(NULL);
    if (strcmp(how, "cancel") == 0) {
        (void)pthread_cancel(pthread_self());
        pthread_testcancel();
    }
    pthread_cleanup_pop(1);
}

static void *begin(void *how)
{
    work(1);
    leave(how);
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t thread;

    if (argc != 2 || pthread_create(&thread, NULL, begin, argv[1]))
        return 1;
    return pthread_join(thread, NULL) ? 1 : 0;
}
