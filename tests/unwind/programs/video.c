/* x264's assembly, most of which has no CFI: a small picture of noise that moves. The first pictures are encoded freely. */
#include <stdint.h>
#include <stdlib.h>

#include <x264.h>

#define WIDTH 64
#define HEIGHT 48

static x264_t *encoder;
static x264_picture_t in, out;
static unsigned number;

static void draw(void)
{
    uint32_t seed = 1;

    for (int plane = 0; plane < 3; plane++) {
        int height = plane ? HEIGHT / 2 : HEIGHT, stride = in.img.i_stride[plane];

        for (int i = 0; i < height * stride; i++) {
            seed = seed * 1664525 + 1013904223;
            in.img.plane[plane][(i + number * 3) % (height * stride)] = (uint8_t)(seed >> 27) + (uint8_t)(i / 40);
        }
    }
    in.i_pts = number++;
}

static void encode(void)
{
    x264_nal_t *units;
    int n;

    draw();
    (void)x264_encoder_encode(encoder, &units, &n, &in, &out);
}

__attribute__((noinline)) void step_begin(void)
{
    encode();
    encode();
}

__attribute__((noinline)) void step_end(void)
{
    __asm__ volatile("");
}

int main(void)
{
    x264_param_t parameters;

    x264_param_default_preset(&parameters, "medium", "zerolatency");
    parameters.i_width = WIDTH;
    parameters.i_height = HEIGHT;
    parameters.i_csp = X264_CSP_I420;
    parameters.i_threads = 1;
    parameters.i_log_level = X264_LOG_NONE;
    (void)x264_param_apply_profile(&parameters, "high");
    encoder = x264_encoder_open(&parameters);
    if (!encoder || x264_picture_alloc(&in, X264_CSP_I420, WIDTH, HEIGHT))
        return 1;
    for (int i = 0; i < 3; i++)
        encode();
    step_begin();
    step_end();
    return 0;
}
