/* The unwinder of copies: against libdw's own walker at every instruction of a process that is single-stepped, and on stacks
 * made by hand where each way to end is provoked. */
#include <alloca.h>
#include <dwarf.h>
#include <elfutils/libdwfl.h>
#include <setjmp.h>
#include <stdlib.h>
#include <ucontext.h>

#include "symbolize/copy_expression.h"
#include "tests/unit/stopped.h"
#include "util/clock.h"

#define NEVER UINT64_MAX
#define MAX_FRAMES 256
#define RED_ZONE_BYTES 128

static const struct copy_ops ops = {.code = stopped_code};
static struct stopped stopped;

/* ---- what is stepped through */

static volatile double number;
static volatile long sum;

static int compare_longs(const void *a, const void *b)
{
    return *(const long *)a < *(const long *)b ? -1 : *(const long *)a > *(const long *)b;
}

static void step_library(void)
{
    long values[] = {5, 3, 9, 1, 7};
    char text[64];

    qsort(values, 5, sizeof(values[0]), compare_longs);
    (void)snprintf(text, sizeof(text), "%.3f %s %ld", number, "text", values[2]);
    number = strtod(text, NULL);
    free(strdup(text));
}

static void on_signal(int number_of_signal)
{
    long values[] = {2, 1};
    qsort(values, 2, sizeof(values[0]), compare_longs);
    sum += values[0];
}

static void step_signal(void)
{
    (void)raise(SIGUSR1);
}

static void __attribute__((noinline)) fill(char *to, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] = (char)i;
}

static void __attribute__((noinline)) step_alloca(void)
{
    for (size_t n = 16; n < 64; n += 16) {
        char *block = alloca(n);
        fill(block, n);
        sum += block[n - 1];
    }
}

static void __attribute__((noinline)) step_huge(void)
{
    char block[100000];
    fill(block, 32);
    __asm__ volatile("" : : "r"(block) : "memory");
    sum += block[3];
}

static jmp_buf jump_place;

static void __attribute__((noinline)) step_jump(void)
{
    if (setjmp(jump_place) == 0)
        longjmp(jump_place, 1);
}

static ucontext_t home, other;
static char other_stack[65536];

static void on_other_stack(void)
{
    fill(other_stack, 4);
}

static void step_context(void)
{
    (void)getcontext(&other);
    other.uc_stack.ss_sp = other_stack;
    other.uc_stack.ss_size = sizeof(other_stack);
    other.uc_link = &home;
    makecontext(&other, on_other_stack, 0);
    (void)swapcontext(&home, &other);
}

static void step_vfork(void)
{
    pid_t pid = vfork();
    if (pid == 0)
        _exit(0);
    (void)waitpid(pid, NULL, 0);
}

struct scenario {
    void (*run)(void);
    bool coroutine;
    unsigned least; /* instructions that it takes at least: fewer would mean that nothing was looked at */
};

static const struct scenario scenarios[] = {
    {step_library, false, 2000}, {step_signal, false, 100}, {step_alloca, false, 100}, {step_huge, false, 50},
    {step_jump, false, 20},      {step_context, true, 50},  {step_vfork, false, 20},
};
#ifdef __SANITIZE_ADDRESS__ /* which steps through its own code, and that is assembly in part */
#define N_SCENARIOS 1
#define MAX_STEPS 3000
#else
#define N_SCENARIOS (int)(sizeof(scenarios) / sizeof(scenarios[0]))
#define MAX_STEPS 100000
#endif

/* Stopped where the scenario begins; int3 ends it. */
static void start(void (*run)(void))
{
    stopped.pid = fork();
    ck_assert_int_ge(stopped.pid, 0);
    if (stopped.pid == 0) {
        (void)signal(SIGUSR1, on_signal);
        (void)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        (void)raise(SIGSTOP);
        run();
        (void)raise(SIGABRT);
        _exit(0);
    }
    int status;
    ck_assert_int_eq(waitpid(stopped.pid, &status, 0), stopped.pid);
    ck_assert(WIFSTOPPED(status));
    stopped_read_maps(&stopped);
}

/* ---- libdw's own walker */

struct reference {
    uint64_t pc[MAX_FRAMES];
    bool exact[MAX_FRAMES];
    size_t n;
};

static int on_reference_frame(Dwfl_Frame *frame, void *arg)
{
    struct reference *r = arg;
    Dwarf_Addr pc;
    bool exact;
    if (r->n == MAX_FRAMES || !dwfl_frame_pc(frame, &pc, &exact))
        return DWARF_CB_ABORT;
    r->pc[r->n] = pc;
    r->exact[r->n++] = exact;
    return DWARF_CB_OK;
}

static Dwfl *reference_open(pid_t pid)
{
    static const Dwfl_Callbacks callbacks = {.find_elf = dwfl_linux_proc_find_elf, .find_debuginfo = dwfl_standard_find_debuginfo};
    Dwfl *dwfl = dwfl_begin(&callbacks);
    ck_assert_ptr_nonnull(dwfl);
    ck_assert_int_eq(dwfl_linux_proc_report(dwfl, pid), 0);
    ck_assert_int_eq(dwfl_report_end(dwfl, NULL, NULL), 0);
    ck_assert_int_eq(dwfl_linux_proc_attach(dwfl, pid, true), 0);
    return dwfl;
}

/* Returns how many frames there are; 0: one was guessed, since no CFI covers it (the guess of libdw is another), or the walk came to
 * the bottom of a coroutine, where glibc has CFI as if there were a caller (libdw then guesses). */
static size_t check_frames(Dwfl *dwfl, unsigned long step, size_t below, bool on_coroutine)
{
    struct copy_frame frames[MAX_FRAMES];
    struct reference reference = {.n = 0};
    size_t n;

    stopped_copy(&stopped, below, STOPPED_STACK_BYTES);
    enum copy_end end = copy_unwind(&stopped.stack, &ops, &stopped, NEVER, frames, MAX_FRAMES, &n);
    int r = dwfl_getthread_frames(dwfl, stopped.pid, on_reference_frame, &reference);
    for (size_t i = 0; i < n && i < reference.n; i++) {
        if (frames[i].guessed && below)
            return 0;
        ck_assert_msg(frames[i].pc == reference.pc[i], "step %lu, frame %zu of %zu: %lx is not %lx", step, i, n,
                      (unsigned long)frames[i].pc, (unsigned long)reference.pc[i]);
        ck_assert_msg(frames[i].exact == reference.exact[i], "step %lu, frame %zu: exact", step, i);
    }
    if (end != COPY_END_ROOT && on_coroutine)
        return 0;
    /* libdw loses rbx (copy_unwind.c), and takes whatever is lost for the bottom: then this goes on to the real one. */
    ck_assert_msg(n >= reference.n, "step %lu at %lx: %zu frames, not %zu; end %d, %s", step, (unsigned long)frames[0].pc, n,
                  reference.n, (int)end, dwfl_errmsg(-1));
    ck_assert_msg(end == COPY_END_ROOT, "step %lu at %lx: end %d, %d", step, (unsigned long)frames[0].pc, (int)end, r);
    return n;
}

START_TEST(test_every_instruction)
{
    const struct scenario *s = &scenarios[_i];
    unsigned long steps = 0, frames = 0, guessed = 0;
    int status, pending = 0;

    start(s->run);
    Dwfl *dwfl = reference_open(stopped.pid);
    while (steps < MAX_STEPS) {
        ck_assert_int_eq(ptrace(PTRACE_SINGLESTEP, stopped.pid, NULL, pending), 0);
        ck_assert_int_eq(waitpid(stopped.pid, &status, 0), stopped.pid);
        pending = WIFSTOPPED(status) && WSTOPSIG(status) != SIGTRAP ? WSTOPSIG(status) : 0;
        if (!WIFSTOPPED(status) || pending == SIGABRT)
            break;
        size_t n = check_frames(dwfl, steps++, RED_ZONE_BYTES, s->coroutine);
        guessed += n == 0;
        frames += n;
        if (n > 0)
            (void)check_frames(dwfl, steps, 0, s->coroutine);
    }
    printf("scenario %d: %lu instructions, %lu frames, %lu guessed\n", _i, steps, frames, guessed);
    ck_assert_uint_ge(steps, s->least);
    ck_assert_uint_le(guessed, s->coroutine ? steps / 20 : 0);
    dwfl_end(dwfl);
    stopped_end(&stopped);
}
END_TEST

/* ---- ends */

/* Stopped in the midst of raise(3). */
static void setup_stopped(void)
{
    start(step_alloca);
    stopped_copy(&stopped, RED_ZONE_BYTES, STOPPED_STACK_BYTES);
}

static void teardown_stopped(void)
{
    stopped_end(&stopped);
}

static struct copy_frame frames[MAX_FRAMES];
static size_t n_frames;

static enum copy_end walk(void)
{
    n_frames = 0;
    return copy_unwind(&stopped.stack, &ops, &stopped, NEVER, frames, MAX_FRAMES, &n_frames);
}

START_TEST(test_root)
{
    ck_assert_int_eq(walk(), COPY_END_ROOT);
    ck_assert_uint_gt(n_frames, 5);
    ck_assert(frames[0].exact);
    for (size_t i = 1; i < n_frames; i++)
        ck_assert(!frames[i].exact && !frames[i].guessed && !frames[i].fp);
}
END_TEST

START_TEST(test_short_copy)
{
    ck_assert_int_eq(walk(), COPY_END_ROOT);
    size_t whole = n_frames, last = 0;
    for (size_t len = 0; len < 8192 && last < whole; len += 8) {
        stopped.stack.len = len;
        enum copy_end end = walk();
        ck_assert(n_frames >= last);
        ck_assert_int_eq(end, n_frames == whole ? COPY_END_ROOT : COPY_END_UNREADABLE);
        last = n_frames;
    }
    ck_assert_uint_eq(last, whole);
}
END_TEST

START_TEST(test_no_room)
{
    ck_assert_int_eq(copy_unwind(&stopped.stack, &ops, &stopped, NEVER, frames, 3, &n_frames), COPY_END_TOO_DEEP);
    ck_assert_uint_eq(n_frames, 3);
}
END_TEST

START_TEST(test_no_time)
{
    ck_assert_int_eq(copy_unwind(&stopped.stack, &ops, &stopped, monotonic_ns(), frames, MAX_FRAMES, &n_frames), COPY_END_NO_TIME);
    ck_assert_uint_eq(n_frames, 1);
    ck_assert_uint_eq(frames[0].pc, stopped.stack.registers[16]);
}
END_TEST

START_TEST(test_no_machine)
{
    stopped.stack.machine = EM_386;
    ck_assert_int_eq(walk(), COPY_END_UNSUPPORTED);
    ck_assert_uint_eq(n_frames, 1);
}
END_TEST

START_TEST(test_no_stack_pointer)
{
    stopped.stack.known &= ~(1ull << 7);
    ck_assert_int_eq(walk(), COPY_END_UNSUPPORTED);
    ck_assert_uint_eq(n_frames, 1);
}
END_TEST

START_TEST(test_no_code)
{
    stopped.stack.registers[16] = 0x1000;
    ck_assert_int_eq(walk(), COPY_END_NO_CODE);
    ck_assert_uint_eq(n_frames, 1);
}
END_TEST

/* A file that could not be had. */
START_TEST(test_no_module)
{
    for (size_t i = 0; i < stopped.n; i++)
        stopped.mappings[i].module = NULL;
    ck_assert_int_eq(walk(), COPY_END_NO_CFI);
    ck_assert_uint_eq(n_frames, 1);
}
END_TEST

/* ---- code made at run time: frame pointers */

#define MADE 0x700000ull
#define STACK 0x10000ull

static uint64_t words[64];

/* Frames of two words from STACK on; the outermost one's are zero. */
static void lay_frames(size_t n)
{
    memset(words, 0, sizeof(words));
    for (size_t i = 0; i + 1 < n; i++) {
        words[2 * i] = STACK + 16 * (i + 1);
        words[2 * i + 1] = MADE + 16 * i;
    }
    stopped = (struct stopped){.n = 1, .mappings[0] = {.start = MADE, .end = MADE + 4096}};
    stopped.stack = (struct copy_stack){.machine = EM_X86_64, .known = (1u << 17) - 1, .base = STACK,
                                        .bytes = (const uint8_t *)words, .len = sizeof(words)};
    stopped.stack.registers[6] = stopped.stack.registers[7] = STACK;
    stopped.stack.registers[16] = MADE + 100;
}

START_TEST(test_frame_pointers)
{
    lay_frames(5);
    words[1] = MADE + 1;
    ck_assert_int_eq(walk(), COPY_END_ZERO);
    ck_assert_uint_eq(n_frames, 5);
    ck_assert(frames[0].exact && !frames[0].fp && frames[4].fp && !frames[4].guessed && !frames[4].exact);
    ck_assert_uint_eq(frames[1].pc, MADE + 1);
    ck_assert_uint_eq(frames[4].pc, MADE + 48);
}
END_TEST

START_TEST(test_no_frame_pointer)
{
    const struct {
        uint64_t fp;
        enum copy_end end;
    } cases[] = {{0, COPY_END_ZERO}, {STACK - 8, COPY_END_NO_CFI}, {STACK + 4, COPY_END_NO_CFI}, {STACK + sizeof(words), COPY_END_UNREADABLE},
                 {STACK + sizeof(words) - 8, COPY_END_UNREADABLE}, {UINT64_MAX - 7, COPY_END_UNREADABLE}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        lay_frames(5);
        words[1] = MADE + 1;
        stopped.stack.registers[6] = cases[i].fp;
        ck_assert_int_eq(walk(), cases[i].end);
        ck_assert_uint_eq(n_frames, 1);
    }
    lay_frames(5); /* what is there in place of a return address lies outside of all code */
    words[1] = 0x1234;
    ck_assert_int_eq(walk(), COPY_END_NO_CFI);
    lay_frames(5); /* a loop */
    words[1] = MADE + 1;
    words[2] = STACK;
    ck_assert_int_eq(walk(), COPY_END_NO_CFI);
    ck_assert_uint_eq(n_frames, 3);
}
END_TEST

START_TEST(test_lost_frame_pointer)
{
    lay_frames(5);
    stopped.stack.known &= ~(1ull << 6);
    ck_assert_int_eq(walk(), COPY_END_NO_CFI);
    ck_assert_uint_eq(n_frames, 1);
}
END_TEST

/* aarch64: frame pointer in x29, the pointer's authentication code removed. */
START_TEST(test_aarch64)
{
    lay_frames(4);
    words[1] = 0x00a5000000000000ull | (MADE + 4);
    stopped.mappings[0].end = UINT64_MAX;
    stopped.stack.machine = EM_AARCH64;
    stopped.stack.known = (1ull << 33) - 1;
    stopped.stack.registers[29] = stopped.stack.registers[31] = STACK;
    stopped.stack.registers[32] = MADE;
    ck_assert_int_eq(walk(), COPY_END_ZERO);
    ck_assert_uint_eq(n_frames, 4);
    ck_assert_uint_eq(frames[1].pc, MADE + 4);
}
END_TEST

/* ---- expressions */

static struct copy_registers registers = {.value = {100, 200}, .known = 3};

static int evaluate(const Dwarf_Op *expression, size_t n, uint64_t *ret)
{
    static const uint64_t memory[] = {0x1122334455667788, 42};
    const struct copy_stack stack = {.base = 0x1000, .bytes = (const uint8_t *)memory, .len = sizeof(memory)};
    struct copy_context context = {.stack = &stack, .registers = &registers, .cfa = 7000, .has_cfa = true, .bias = 0x10};
    enum copy_place place = COPY_PLACE_VALUE;
    return copy_evaluate(&context, expression, n, &place, ret);
}

#define BINARY(op, a, b) \
    { \
        {DW_OP_consts, (uint64_t)(a)}, {DW_OP_consts, (uint64_t)(b)}, \
        { \
            op \
        } \
    }

START_TEST(test_binary_operations)
{
    const struct {
        Dwarf_Op expression[3];
        uint64_t result;
    } cases[] = {
        {BINARY(DW_OP_and, 12, 10), 8}, {BINARY(DW_OP_or, 12, 10), 14}, {BINARY(DW_OP_xor, 12, 10), 6},
        {BINARY(DW_OP_plus, 12, -2), 10}, {BINARY(DW_OP_minus, 12, 14), (uint64_t)-2}, {BINARY(DW_OP_mul, -3, 5), (uint64_t)-15},
        {BINARY(DW_OP_div, -9, 3), (uint64_t)-3}, {BINARY(DW_OP_mod, 9, 4), 1}, {BINARY(DW_OP_shl, 3, 2), 12},
        {BINARY(DW_OP_shl, 3, 64), 0}, {BINARY(DW_OP_shr, -1, 60), 15}, {BINARY(DW_OP_shr, 8, 64), 0},
        {BINARY(DW_OP_shra, -8, 1), (uint64_t)-4}, {BINARY(DW_OP_shra, -8, 99), UINT64_MAX}, {BINARY(DW_OP_eq, 2, 2), 1},
        {BINARY(DW_OP_ne, 2, 2), 0}, {BINARY(DW_OP_lt, -1, 0), 1}, {BINARY(DW_OP_le, 1, 0), 0}, {BINARY(DW_OP_gt, 1, 0), 1},
        {BINARY(DW_OP_ge, -1, 0), 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t value;
        ck_assert_int_eq(evaluate(cases[i].expression, 3, &value), 0);
        ck_assert_msg(value == cases[i].result, "case %zu: %lx", i, (unsigned long)value);
        ck_assert_int_eq(evaluate(cases[i].expression + 1, 2, &value), -ENOTSUP); /* one operand is missing */
    }
}
END_TEST

#define EXPRESSION(...) (const Dwarf_Op[]){__VA_ARGS__}, sizeof((const Dwarf_Op[]){__VA_ARGS__}) / sizeof(Dwarf_Op)

START_TEST(test_expressions)
{
    const struct {
        const Dwarf_Op *ops;
        size_t n;
        int error;
        uint64_t result;
    } cases[] = {
        {EXPRESSION({DW_OP_lit31}), 0, 31},
        {EXPRESSION({DW_OP_addr, 0x100}), 0, 0x110},
        {EXPRESSION({DW_OP_breg1, -8}), 0, 192},
        {EXPRESSION({DW_OP_bregx, 0, 5}), 0, 105},
        {EXPRESSION({DW_OP_breg2, 0}), -ENODATA, 0},
        {EXPRESSION({DW_OP_bregx, 1000, 5}), -ENODATA, 0},
        {EXPRESSION({DW_OP_call_frame_cfa}, {DW_OP_plus_uconst, 1}), 0, 7001},
        {EXPRESSION({DW_OP_constu, 0x1008}, {DW_OP_deref}), 0, 42},
        {EXPRESSION({DW_OP_constu, 0x1009}, {DW_OP_deref}), -EFAULT, 0},
        {EXPRESSION({DW_OP_constu, 0xfff}, {DW_OP_deref}), -EFAULT, 0},
        {EXPRESSION({DW_OP_constu, 0x1000}, {DW_OP_deref_size, 2}), 0, 0x7788},
        {EXPRESSION({DW_OP_constu, 0x1000}, {DW_OP_deref_size, 9}), -ENOTSUP, 0},
        {EXPRESSION({DW_OP_lit1}, {DW_OP_lit2}, {DW_OP_lit3}, {DW_OP_rot}), 0, 2},
        {EXPRESSION({DW_OP_lit1}, {DW_OP_lit2}, {DW_OP_lit3}, {DW_OP_rot}, {DW_OP_drop}), 0, 1},
        {EXPRESSION({DW_OP_lit1}, {DW_OP_lit2}, {DW_OP_lit3}, {DW_OP_rot}, {DW_OP_drop}, {DW_OP_drop}), 0, 3},
        {EXPRESSION({DW_OP_lit1}, {DW_OP_lit2}, {DW_OP_swap}), 0, 1},
        {EXPRESSION({DW_OP_lit1}, {DW_OP_swap}), -ENOTSUP, 0},
        {EXPRESSION({DW_OP_lit4}, {DW_OP_lit5}, {DW_OP_over}), 0, 4},
        {EXPRESSION({DW_OP_lit4}, {DW_OP_dup}, {DW_OP_plus}), 0, 8},
        {EXPRESSION({DW_OP_lit4}, {DW_OP_pick, 1}), -ENOTSUP, 0},
        {EXPRESSION({DW_OP_consts, -4}, {DW_OP_abs}), 0, 4},
        {EXPRESSION({DW_OP_lit4}, {DW_OP_neg}), 0, (uint64_t)-4},
        {EXPRESSION({DW_OP_lit0}, {DW_OP_not}), 0, UINT64_MAX},
        {EXPRESSION({DW_OP_not}), -ENOTSUP, 0},
        {EXPRESSION({DW_OP_lit1}, {DW_OP_lit0}, {DW_OP_div}), -ENOTSUP, 0},
        {EXPRESSION({DW_OP_lit1}, {DW_OP_lit0}, {DW_OP_mod}), -ENOTSUP, 0},
        {EXPRESSION({DW_OP_constu, 1ull << 63}, {DW_OP_consts, -1}, {DW_OP_div}), -ENOTSUP, 0},
        {EXPRESSION({DW_OP_nop}), -ENOTSUP, 0},
        {EXPRESSION({DW_OP_drop}), -ENOTSUP, 0},
        {EXPRESSION({DW_OP_plus_uconst, 1}), -ENOTSUP, 0},
        {EXPRESSION({DW_OP_deref}), -ENOTSUP, 0},
        {EXPRESSION({DW_OP_lit1}, {DW_OP_push_object_address}), -ENOTSUP, 0},
        {EXPRESSION({DW_OP_lit7}, {DW_OP_stack_value}), 0, 7},
        {EXPRESSION({DW_OP_reg5}), 0, 5},
        {EXPRESSION({DW_OP_regx, 17}), 0, 17},
        /* jumps: over an operation; to the end; into the midst of one; a loop */
        {EXPRESSION({DW_OP_lit1, 0, 0, 0}, {DW_OP_skip, 1, 0, 1}, {DW_OP_lit2, 0, 0, 4}, {DW_OP_lit3, 0, 0, 5}), 0, 3},
        {EXPRESSION({DW_OP_lit1, 0, 0, 0}, {DW_OP_skip, 1, 0, 1}, {DW_OP_lit2, 0, 0, 4}), 0, 1},
        {EXPRESSION({DW_OP_lit1, 0, 0, 0}, {DW_OP_lit0, 0, 0, 1}, {DW_OP_bra, 1, 0, 2}, {DW_OP_lit2, 0, 0, 5}), 0, 2},
        {EXPRESSION({DW_OP_skip, 1, 0, 0}, {DW_OP_plus_uconst, 1, 0, 3}, {DW_OP_lit1, 0, 0, 5}), -ENOTSUP, 0},
        {EXPRESSION({DW_OP_skip, (uint16_t)-3, 0, 0}), -ENOTSUP, 0},
        {EXPRESSION({DW_OP_bra, 0, 0, 0}), -ENOTSUP, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t value = 0;
        int r = evaluate(cases[i].ops, cases[i].n, &value);
        ck_assert_msg(r == cases[i].error && (r < 0 || value == cases[i].result), "case %zu: %d, %lx", i, r, (unsigned long)value);
    }
    Dwarf_Op many[65];
    for (size_t i = 0; i < 65; i++)
        many[i] = (Dwarf_Op){.atom = DW_OP_lit1};
    uint64_t value;
    ck_assert_int_eq(evaluate(many, 64, &value), 0);
    ck_assert_int_eq(evaluate(many, 65, &value), -ENOTSUP);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("copy_unwind");
    TCase *live = tcase_create("live");
    tcase_set_timeout(live, 120);
    tcase_add_loop_test(live, test_every_instruction, 0, N_SCENARIOS);
    suite_add_tcase(suite, live);
    TCase *ends = tcase_create("ends");
    tcase_add_checked_fixture(ends, setup_stopped, teardown_stopped);
    tcase_add_test(ends, test_root);
    tcase_add_test(ends, test_short_copy);
    tcase_add_test(ends, test_no_room);
    tcase_add_test(ends, test_no_time);
    tcase_add_test(ends, test_no_machine);
    tcase_add_test(ends, test_no_stack_pointer);
    tcase_add_test(ends, test_no_code);
    tcase_add_test(ends, test_no_module);
    suite_add_tcase(suite, ends);
    TCase *made = tcase_create("made by hand");
    tcase_add_test(made, test_frame_pointers);
    tcase_add_test(made, test_no_frame_pointer);
    tcase_add_test(made, test_lost_frame_pointer);
    tcase_add_test(made, test_aarch64);
    tcase_add_test(made, test_binary_operations);
    tcase_add_test(made, test_expressions);
    suite_add_tcase(suite, made);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
