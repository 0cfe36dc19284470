// Idle until told; "mutex", "shared", "condition", "semaphore" and "atomic" make three threads wait for one, each 20 times, by the C++ library's
// means.
// The truth is of functions that wait (cpu_ns: how long) and that release (calls).
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <semaphore>
#include <shared_mutex>
#include <thread>
#include <vector>

extern "C" {
#include "program.h"
}

enum { WAIT_MUTEX, RELEASE_MUTEX, WAIT_SHARED, RELEASE_SHARED, WAIT_CONDITION, SIGNAL_CONDITION, WAIT_SEMAPHORE, SIGNAL_SEMAPHORE,
       WAIT_ATOMIC, SIGNAL_ATOMIC };
static struct tally tallies[] = {
    {"wait_mutex", 0, 0},     {"release_mutex", 0, 0},    {"wait_shared", 0, 0},    {"release_shared", 0, 0},
    {"wait_condition", 0, 0}, {"signal_condition", 0, 0}, {"wait_semaphore", 0, 0}, {"signal_semaphore", 0, 0},
    {"wait_atomic", 0, 0},    {"signal_atomic", 0, 0},
};

namespace {

constexpr unsigned waiters = 3, rounds = 20;

uint64_t now()
{
    return program_clock_ns(CLOCK_MONOTONIC);
}

void hold()
{
    program_sleep_until(now() + 4 * MS_NS);
}

uint64_t delay_ns; // that threads waited for a CPU

class Waited {
public:
    explicit Waited(unsigned which) : tally(&tallies[which]), began_ns(now()) {}
    ~Waited()
    {
        uint64_t ns = now() - began_ns;
        if (ns > MS_NS) {
            __atomic_fetch_add(&tally->cpu_ns, ns, __ATOMIC_RELAXED);
            __atomic_fetch_add(&tally->calls, 1, __ATOMIC_RELAXED);
        }
        __atomic_fetch_add(&delay_ns, program_run_delay_ns(), __ATOMIC_RELAXED);
    }

private:
    struct tally *tally;
    uint64_t began_ns;
};

std::mutex mutex;
std::shared_mutex shared;
std::condition_variable condition;
unsigned round_now;
std::counting_semaphore<64> semaphore(0);
std::atomic<int> word;

NOINLINE void wait_mutex()
{
    Waited waited(WAIT_MUTEX);
    std::lock_guard<std::mutex> guard(mutex);
}

NOINLINE void release_mutex()
{
    tallies[RELEASE_MUTEX].calls++;
    mutex.unlock();
    __asm__ volatile("");
}

NOINLINE void wait_shared()
{
    Waited waited(WAIT_SHARED);
    std::shared_lock<std::shared_mutex> guard(shared);
}

NOINLINE void release_shared()
{
    tallies[RELEASE_SHARED].calls++;
    shared.unlock();
    __asm__ volatile("");
}

NOINLINE void wait_condition(unsigned round)
{
    std::unique_lock<std::mutex> guard(mutex);
    Waited waited(WAIT_CONDITION);
    condition.wait(guard, [round] { return round_now > round; });
}

NOINLINE void signal_condition()
{
    {
        std::lock_guard<std::mutex> guard(mutex);
        round_now++;
    }
    tallies[SIGNAL_CONDITION].calls++;
    condition.notify_all();
}

NOINLINE void wait_semaphore()
{
    Waited waited(WAIT_SEMAPHORE);
    semaphore.acquire();
}

NOINLINE void signal_semaphore()
{
    tallies[SIGNAL_SEMAPHORE].calls++;
    semaphore.release(waiters);
}

NOINLINE void wait_atomic()
{
    Waited waited(WAIT_ATOMIC);
    word.wait(0);
}

NOINLINE void signal_atomic()
{
    tallies[SIGNAL_ATOMIC].calls++;
    word = 1;
    word.notify_all();
}

// So many threads wait while this one holds, and then lets them go.
template <typename Begin, typename Wait, typename End> void run(Begin begin, Wait wait, End end)
{
    for (unsigned i = 0; i < rounds; i++) {
        std::vector<std::thread> threads;
        begin();
        for (unsigned k = 0; k < waiters; k++)
            threads.emplace_back([wait, i] { wait(i); });
        hold();
        end();
        for (auto &thread : threads)
            thread.join();
    }
}

void on_line(const char *line)
{
    if (strncmp(line, "mutex", 5) == 0)
        run([] { mutex.lock(); }, [](unsigned) { wait_mutex(); }, release_mutex);
    else if (strncmp(line, "shared", 6) == 0)
        run([] { shared.lock(); }, [](unsigned) { wait_shared(); }, release_shared);
    else if (strncmp(line, "condition", 9) == 0)
        run([] { round_now = 0; }, [](unsigned) { wait_condition(0); }, signal_condition);
    else if (strncmp(line, "semaphore", 9) == 0)
        run([] {}, [](unsigned) { wait_semaphore(); }, signal_semaphore);
    else if (strncmp(line, "atomic", 6) == 0)
        run([] { word = 0; }, [](unsigned) { wait_atomic(); }, signal_atomic);
    program_note("delay_ns", delay_ns);
}

} // namespace

int main(int argc, char **argv)
{
    program_on_line(on_line);
    program_init(argc, argv, tallies, sizeof(tallies) / sizeof(tallies[0]));
    program_ready();
    while (program_running())
        program_sleep_until(now() + 1000 * MS_NS);
    return program_end();
}
