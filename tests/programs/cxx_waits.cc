// C++'s ways to wait: each has a thread that holds for a known time (makes_*, hold_*) and one that waits for it (in_*, take_*); all is noted
// as in wait_log.h. The functions are extern "C", so that a test finds them by their plain names. Of the shared lock the first thread is the one
// writer; the others read, together, and begin no new hold while it waits: else two readers in turns keep it waiting for seconds.
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <future>
#include <mutex>
#include <shared_mutex>
#include <thread>

#include <pthread.h>

extern "C" {
#include "program.h"
#include "wait_log.h"
}

static struct tally tallies[] = {{"cxx_waits", 0, 0}};

static std::mutex mutex;
static std::shared_mutex shared;
static const pthread_rwlock_t prefers_writers = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
static std::mutex ready_lock;
static std::condition_variable ready;
static bool is_ready;

static void rest(unsigned ms)
{
    std::this_thread::sleep_for(std::chrono::milliseconds(ms));
}

extern "C" NOINLINE uint32_t take_cxx_mutex()
{
    LOGGED("lock", "cxx_mutex", mutex.lock());
    return wait_begin("release_cxx_mutex", "hold", "cxx_mutex");
}

extern "C" NOINLINE void release_cxx_mutex(uint32_t hold)
{
    wait_end(hold);
    mutex.unlock();
    KEEP_FRAME();
}

extern "C" NOINLINE uint32_t take_cxx_shared(bool is_writer)
{
    LOGGED("lock", "cxx_shared", if (is_writer) shared.lock(); else shared.lock_shared());
    return wait_begin("release_cxx_shared", "hold", "cxx_shared");
}

extern "C" NOINLINE void release_cxx_shared(uint32_t hold, bool is_writer)
{
    wait_end(hold);
    if (is_writer)
        shared.unlock();
    else
        shared.unlock_shared();
    KEEP_FRAME();
}

extern "C" NOINLINE void in_cxx_condition()
{
    std::unique_lock<std::mutex> lock(ready_lock);

    LOGGED("lock", "", ready.wait(lock, [] { return is_ready; }));
    is_ready = false;
}

extern "C" NOINLINE void makes_cxx_condition()
{
    LOGGED("sleep", "", rest(4));
    std::lock_guard<std::mutex> lock(ready_lock);
    is_ready = true;
    ready.notify_one();
}

extern "C" NOINLINE void in_cxx_future()
{
    auto made = std::async(std::launch::async, [] { rest(6); });

    LOGGED("lock", "", made.wait());
}

template <typename Function> static void repeat(Function function)
{
    std::thread([function] {
        while (program_running())
            function();
    }).detach();
}

int main(int argc, char **argv)
{
    wait_log_init();
    program_init(argc, argv, tallies, 1);
    *static_cast<pthread_rwlock_t *>(shared.native_handle()) = prefers_writers;
    for (unsigned i = 0; i < 3; i++)
        repeat([] {
            uint32_t hold = take_cxx_mutex();

            rest(3);
            release_cxx_mutex(hold);
            rest(1);
        });
    for (unsigned i = 0; i < 3; i++)
        repeat([i] {
            uint32_t hold = take_cxx_shared(i == 0);

            rest(4);
            release_cxx_shared(hold, i == 0);
            rest(1);
        });
    repeat(in_cxx_condition);
    repeat(makes_cxx_condition);
    repeat(in_cxx_future);
    program_ready();
    while (program_running())
        rest(100);
    return program_end();
}
