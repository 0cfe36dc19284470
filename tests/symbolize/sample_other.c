/* A second file of the sample program. */
extern volatile int sample_other;
volatile int sample_other;

static __attribute__((noinline, used)) int named_twice(void)
{
    return sample_other;
}
