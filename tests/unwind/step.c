/* Steps a program instruction by instruction, and compares at each the walker's stack with the true one and with libdw's.
 *
 *   step [OPTIONS] PROGRAM [ARGUMENTS]     prints one line of JSON
 *
 *   --begin=entry|exec|SYMBOL  where it begins: the program's entry point (default), the dynamic linker's, or a function that main itself
 *                              calls; what is before runs freely
 *   --seed                     with --begin=SYMBOL: who calls it is asked of libdw (Go)
 *   --end=SYMBOL               where it ends; default: with the program
 *   --steps=N                  at most so many (default 200000)
 *   --repeat=K                 a program counter is compared so often for each caller (default 3)
 *   --threads                  the newest thread is stepped
 *   --cpu=N                    where it runs
 *   --kernel                   each walk is done in the kernel as well
 *   --trace                    tells of each stack that is wrong */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <uthash.h>

#include "tests/unwind/host_walk.h"
#include "tests/unwind/kernel_walk.h"
#include "tests/unwind/libdw_stack.h"
#include "tests/unwind/shadow.h"
#include "tests/unwind/tally.h"
#include "util/cleanup.h"

#define MAX_FRAMES (CPROFD_MAX_FRAMES + 1)

struct options {
    const char *begin, *end;
    uint64_t steps, repeat;
    int cpu, threads, trace, seed, kernel;
};

/* How often a place was compared, by program counter and caller. */
struct place {
    uint64_t key[2];
    uint64_t times;
    UT_hash_handle hh;
};

struct stepper {
    struct options options;
    struct tracee tracee;
    struct shadow shadow;
    struct libdw_stack *libdw;
    struct space *space;
    struct host_walk *walk;
    struct kernel_walk *kernel; /* NULL: not asked for */
    uint64_t kernel_walks, kernel_same, kernel_unplaced; /* unplaced: something of this process is where the tracee's memory is */
    struct place *places;
    struct tally walker_tally, libdw_tally;
    uint64_t steps, unsettled; /* unsettled: stacks that have no true one */
    uint64_t truth[MAX_FRAMES], walked[MAX_FRAMES], found[MAX_FRAMES]; /* found: by libdw */
    bool interrupted[MAX_FRAMES];
};

static bool is_due(struct stepper *s)
{
    const struct shadow_chain *chain = &s->shadow.chain;
    uint64_t key[2] = {s->tracee.regs.rip, chain->n ? chain->entries[chain->n - 1].address : 0};
    struct place *place;

    HASH_FIND(hh, s->places, key, sizeof(key), place);
    if (!place) {
        place = calloc(1, sizeof(*place));
        if (!place)
            return false;
        memcpy(place->key, key, sizeof(key));
        HASH_ADD(hh, s->places, key, sizeof(place->key), place);
    }
    return place->times++ < s->options.repeat;
}

static void trace_stack(struct stepper *s, const char *who, const char *kind, const struct tally_truth *truth, const struct tally_stack *stack)
{
    size_t n = stack->n;

    (void)fprintf(stderr, "%s: %s at step %lu\n", who, kind, s->steps);
    for (size_t i = 0; i < 12 && (i < truth->n || i < n); i++) {
        const char *object, *function;

        libdw_stack_name(s->libdw, i < truth->n ? truth->frames[i] : stack->frames[i], &object, &function);
        (void)fprintf(stderr, "  %2zu %16lx %16lx %s %s\n", i, i < truth->n ? truth->frames[i] : 0, i < n ? stack->frames[i] : 0, object, function);
    }
}

/* What kind of wrong it is: how the walk ended where it fell short, else that it went astray. */
static const char *kind_of(const struct tally_stack *stack, const struct tally_truth *truth, size_t wrong, const char *end)
{
    if (wrong == stack->n && wrong >= truth->n)
        return "root not proven";
    if (wrong >= truth->n)
        return "went past the root";
    return wrong < stack->n ? "wrong caller" : end;
}

static int judge(struct stepper *s, struct tally *tally, const struct tally_stack *stack, const struct tally_truth *truth,
                 struct tally_verdict *verdict, const char *end)
{
    size_t wrong = tally_compare(stack, truth);
    const char *object, *function;
    AUTO_FREE char *object_copy = NULL;

    libdw_stack_name(s->libdw, s->tracee.regs.rip, &object, &function);
    object_copy = strdup(object);
    if (!object_copy)
        return -ENOMEM;
    verdict->object = object_copy;
    verdict->object_pc = libdw_stack_object_address(s->libdw, s->tracee.regs.rip);
    if (wrong != TALLY_AGREES) {
        uint64_t culprit = wrong ? truth->frames[wrong - 1] : truth->frames[0];

        verdict->kind = kind_of(stack, truth, wrong, end);
        /* A call may be its function's last instruction. */
        if (wrong && !truth->interrupted[wrong - 1])
            culprit--;
        libdw_stack_name(s->libdw, culprit, &verdict->culprit_object, &verdict->culprit_function);
        verdict->culprit_pc = libdw_stack_object_address(s->libdw, culprit);
        if (s->options.trace)
            trace_stack(s, tally->name, verdict->kind, truth, stack);
    }
    return tally_add(tally, verdict);
}

/* What a walk leant on besides CFI. */
static enum tally_way way_of(const __u64 *frames, size_t n, unsigned end)
{
    enum tally_way way = end == STACK_END_NO_CFI ? TALLY_BY_GUESS : TALLY_BY_CFI;

    for (size_t i = 0; i < n; i++) {
        if (frames[i] & STACK_FRAME_GUESSED)
            return TALLY_BY_GUESS;
        if ((frames[i] & STACK_FRAME_FP) && way == TALLY_BY_CFI)
            way = TALLY_BY_FRAME_POINTER;
    }
    return way;
}

/* Symbols of return addresses are looked up one byte before: whether a frame is one is part of it. */
static void take_walked(struct stepper *s, const __u64 *frames, size_t n, const struct tally_truth *truth)
{
    for (size_t i = 0; i < n && i < MAX_FRAMES; i++) {
        bool exact = frames[i] & STACK_FRAME_EXACT;

        s->walked[i] = STACK_FRAME_ADDRESS(frames[i]);
        if (i < truth->n && exact != truth->interrupted[i])
            s->walked[i] = ~s->walked[i];
    }
}

/* What they have in common may still be cut. */
static bool same_stacks(const struct tally_stack *a, const struct tally_stack *b)
{
    return a->n == b->n && memcmp(a->frames, b->frames, (a->n < MAX_FRAMES ? a->n : MAX_FRAMES) * sizeof(a->frames[0])) == 0;
}

static void give_registers(const struct stepper *s, struct kernel_walk_case *ret)
{
    const struct user_regs_struct *regs = &s->tracee.regs;

    *ret = (struct kernel_walk_case){
        .registers = {regs->rax, regs->rdx, regs->rcx, regs->rbx, regs->rsi, regs->rdi, regs->rbp, regs->rsp, regs->r8, regs->r9, regs->r10,
                      regs->r11, regs->r12, regs->r13, regs->r14, regs->r15},
        .pc = regs->rip,
        .space = host_walk_last(s->walk)->space,
    };
}

/* The host's last walk, done by the kernel. */
static int compare_kernel(struct stepper *s)
{
    const struct stack_walk *host = host_walk_last(s->walk), *kernel;
    const uint64_t *pages;
    size_t n = host_walk_pages(s->walk, &pages);
    struct kernel_walk_case given;
    int r = 0;

    for (size_t i = 0; i < n && !r; i++)
        r = kernel_walk_add_page(s->kernel, pages[i]);
    if (r) {
        s->kernel_unplaced++;
        return r == -EEXIST ? 0 : r;
    }
    give_registers(s, &given);
    r = kernel_walk_run(s->kernel, &given, &kernel);
    if (r)
        return r;
    s->kernel_walks++;
    if (kernel->n == host->n && kernel->end == host->end && memcmp(kernel->frames, host->frames, host->n * sizeof(host->frames[0])) == 0)
        s->kernel_same++;
    else if (s->options.trace)
        (void)fprintf(stderr, "kernel: %u frames, %s; host: %u frames, %s, at step %lu\n", kernel->n, host_walk_end_name(kernel->end), host->n,
                      host_walk_end_name(host->end), s->steps);
    return 0;
}

static int compare_with(struct stepper *s, const struct tally_truth *truth)
{
    const __u64 *frames;
    unsigned end;
    struct tally_stack walked = {.frames = s->walked}, reference = {.frames = s->found};
    struct tally_verdict verdict = {0}, reference_verdict = {0};
    int r = host_walk_frames(s->walk, &frames, &walked.n, &end);

    if (r)
        return r;
    if (s->kernel)
        r = compare_kernel(s);
    if (r)
        return r;
    walked.rooted = end == STACK_END_ROOT;
    take_walked(s, frames, walked.n, truth);
    reference.n = libdw_stack_frames(s->libdw, s->found, MAX_FRAMES, &reference.rooted);
    verdict.way = way_of(frames, walked.n, end);
    verdict.seconded = same_stacks(&walked, &reference);
    r = judge(s, &s->walker_tally, &walked, truth, &verdict, host_walk_end_name(end));
    return r ? r : judge(s, &s->libdw_tally, &reference, truth, &reference_verdict, "ended");
}

static int compare(struct stepper *s)
{
    struct tally_truth truth = {.frames = s->truth, .interrupted = s->interrupted};
    bool settled;

    truth.whole = s->shadow.chain.bottom == SHADOW_ROOT;
    truth.open = s->shadow.chain.bottom == SHADOW_UNKNOWN;
    truth.n = shadow_frames(&s->shadow, &s->tracee, s->truth, s->interrupted, CPROFD_MAX_FRAMES, &settled);
    if (!settled) {
        s->unsettled++;
        return 0;
    }
    return compare_with(s, &truth);
}

/* One step of the program and of its shadow. */
static int step_once(struct stepper *s)
{
    struct user_regs_struct before = s->tracee.regs;
    struct instruction instruction = shadow_decode(&s->shadow, &s->tracee, before.rip);
    int r = tracee_step(&s->tracee, instruction.kind == INSTRUCTION_SYSTEM_CALL);

    s->steps++;
    if (r || s->tracee.ended)
        return r;
    if (s->tracee.thread_began)
        return shadow_begin(&s->shadow, &s->tracee);
    return shadow_step(&s->shadow, &s->tracee, &before, instruction);
}

/* Steps, without comparing, until address is about to be executed. */
static int step_to(struct stepper *s, uint64_t address)
{
    int r = 0;

    while (!r && !s->tracee.ended && s->tracee.regs.rip != address)
        r = step_once(s);
    return r ? r : s->tracee.ended ? -ESRCH : 0;
}

/* Runs to a function that main calls: what is below main is known from stepping there, and main's own frame by the call. */
static int run_to_marker(struct stepper *s, uint64_t marker)
{
    uint64_t main_address = libdw_stack_symbol(s->libdw, "main");
    struct shadow_chain below = {0};
    int r = main_address ? step_to(s, main_address) : -ENOENT;

    if (!r)
        r = shadow_copy(&s->shadow.chain, &below);
    if (!r)
        r = tracee_run_to(&s->tracee, marker);
    if (r) {
        free(below.entries);
        return r;
    }
    free(s->shadow.chain.entries);
    s->shadow.chain = below;
    return shadow_called(&s->shadow, &s->tracee);
}

/* Runs to any function: its callers are those that libdw finds. */
static int run_to_seed(struct stepper *s, uint64_t marker)
{
    static uint64_t stack_pointers[MAX_FRAMES];
    bool rooted;
    size_t n;
    int r = tracee_run_to(&s->tracee, marker);

    if (r)
        return r;
    n = libdw_stack_frames_at(s->libdw, s->found, stack_pointers, MAX_FRAMES, &rooted);
    if (n == 0 || n > MAX_FRAMES)
        return -EIO;
    return shadow_begin_with(&s->shadow, &s->tracee, s->found + 1, stack_pointers + 1, n - 1);
}

static int begin(struct stepper *s, char **argv)
{
    const char *at = s->options.begin;
    uint64_t marker;
    int r;

    s->tracee.follow_threads = s->options.threads;
    r = tracee_start(&s->tracee, argv, s->options.cpu);
    if (!r && strcmp(at, "exec") != 0)
        r = tracee_run_to(&s->tracee, tracee_auxv(&s->tracee, AT_ENTRY));
    if (!r)
        r = shadow_begin(&s->shadow, &s->tracee);
    if (!r)
        r = libdw_stack_new(&s->tracee, &s->libdw);
    if (!r && s->options.kernel)
        r = kernel_walk_new(&s->tracee, &s->kernel);
    if (!r)
        r = space_new(&s->tracee, s->kernel ? kernel_walk_slabs_map(s->kernel) : -1, &s->space);
    if (!r)
        r = host_walk_new(&s->tracee, s->space, &s->walk);
    if (r || strcmp(at, "exec") == 0 || strcmp(at, "entry") == 0)
        return r;
    marker = libdw_stack_symbol(s->libdw, at);
    if (!marker)
        return -ENOENT;
    return s->options.seed ? run_to_seed(s, marker) : run_to_marker(s, marker);
}

static int run(struct stepper *s)
{
    uint64_t end = s->options.end ? libdw_stack_symbol(s->libdw, s->options.end) : 0, last = s->steps + s->options.steps;
    int r = s->options.end && !end ? -ENOENT : 0;

    while (!r && !s->tracee.ended && s->steps < last && s->tracee.regs.rip != end) {
        if (is_due(s))
            r = compare(s);
        if (!r)
            r = step_once(s);
    }
    return r;
}

static void print_result(const struct stepper *s, char **argv)
{
    const char *name = strrchr(argv[0], '/');
    int status = s->tracee.status;

    printf("{\"program\": \"%s\", \"steps\": %lu, \"unsettled\": %lu, \"ended\": \"", name ? name + 1 : argv[0], s->steps,
           s->unsettled);
    if (!s->tracee.ended)
        printf("%s", s->steps >= s->options.steps ? "steps" : "marker");
    else if (WIFEXITED(status))
        printf("exit %d", WEXITSTATUS(status));
    else
        printf("signal %d", WTERMSIG(status));
    printf("\", \"kernel\": {\"walks\": %lu, \"same\": %lu, \"unplaced\": %lu}, ", s->kernel_walks, s->kernel_same, s->kernel_unplaced);
    tally_print_json(&s->walker_tally, stdout);
    printf(", ");
    tally_print_json(&s->libdw_tally, stdout);
    printf("}\n");
}

static void deinit(struct stepper *s)
{
    struct place *place, *next;

    HASH_ITER(hh, s->places, place, next) {
        HASH_DEL(s->places, place);
        free(place);
    }
    host_walk_free(s->walk);
    space_free(s->space);
    kernel_walk_free(s->kernel);
    libdw_stack_free(s->libdw);
    shadow_deinit(&s->shadow);
    tracee_end(&s->tracee);
    tally_deinit(&s->walker_tally);
    tally_deinit(&s->libdw_tally);
}

static int take_options(struct options *options, int argc, char **argv)
{
    static const struct option known[] = {
        {"begin", required_argument, NULL, 'b'}, {"end", required_argument, NULL, 'e'},   {"steps", required_argument, NULL, 's'},
        {"repeat", required_argument, NULL, 'r'}, {"threads", no_argument, NULL, 't'},    {"cpu", required_argument, NULL, 'c'},
        {"trace", no_argument, NULL, 'v'},        {"seed", no_argument, NULL, 'd'},
        {"kernel", no_argument, NULL, 'k'},
        {0},
    };
    int found;

    while ((found = getopt_long(argc, argv, "+", known, NULL)) != -1) {
        switch (found) {
        case 'b': options->begin = optarg; break;
        case 'e': options->end = optarg; break;
        case 's': options->steps = strtoul(optarg, NULL, 10); break;
        case 'r': options->repeat = strtoul(optarg, NULL, 10); break;
        case 't': options->threads = 1; break;
        case 'c': options->cpu = atoi(optarg); break;
        case 'd': options->seed = 1; break;
        case 'k': options->kernel = 1; break;
        case 'v': options->trace = 1; break;
        default: return -EINVAL;
        }
    }
    return optind < argc ? 0 : -EINVAL;
}

int main(int argc, char **argv)
{
    static struct stepper s = {
        .options = {.begin = "entry", .steps = 200000, .repeat = 3},
        .walker_tally = {.name = "walker"},
        .libdw_tally = {.name = "libdw"},
    };
    int r = take_options(&s.options, argc, argv);

    if (!r)
        r = shadow_init(&s.shadow);
    if (!r)
        r = begin(&s, argv + optind);
    if (!r)
        r = run(&s);
    if (!r)
        print_result(&s, argv + optind);
    else
        (void)fprintf(stderr, "step: %s: %s\n", optind < argc ? argv[optind] : "usage", strerror(-r));
    deinit(&s);
    return r ? 1 : 0;
}
