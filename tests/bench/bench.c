/* How fast: the machine's multiply-add peak, then products and convolutions against it, then
   whole training steps.
   usage: bench [threads] [dcgan28|dcgan64|steps|kernels|operations|busy|all] [device]     (the
     device of steps; others need gan_cuda.o)
   busy: what threads gain while the machine is idle, and while another program takes one of its
   processors.
   The networks are those of tests/bench/bench_torch.py, layer by layer; the operations are its
   too, in the same sizes. */
#define _POSIX_C_SOURCE 200809L
#define GAN_IMPLEMENTATION
#include "../../gan.h"
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *seconds, int count)
{
    qsort(seconds, (size_t)count, sizeof *seconds, by_value);
    return seconds[count / 2];
}

/* ---- the peak: the micro-kernel of the matrix product on panels that stay in the first cache */

static void peak_body(void *job, size_t begin, size_t end, int thread)
{
    const gan__simd_table *simd = gan__simd();
    gan_real panel[(8 + 48) * 64 + 8 * 48 + 32],
        *a = (gan_real *)(((uintptr_t)panel + 63) & ~(uintptr_t)63);
    gan_real *b = a + 8 * 64, *c = b + 48 * 64;
    (void)job;
    (void)thread;
    memset(panel, 0, sizeof panel);
    for (size_t i = begin; i < end; i++)
        simd->tile(64, a, b, c, true);
}

static double peak_gflops(int threads)
{
    const gan__simd_table *simd = gan__simd();
    double best = 0;
    for (int i = 0; i < 9; i++) {
        size_t rounds =
            100000 *
            (size_t)threads; /* in pieces, so that a thread that wakes late still has its share */
        double start = gan__now();
        gan__parallel(rounds, 5000, peak_body, NULL);
        best = GAN__MAX(best, 2.0 * 64 * simd->tile_rows * simd->tile_columns * (double)rounds /
                                  (gan__now() - start) * 1e-9);
    }
    return best;
}

/* ---- products */

static double peak;

static void report(const char *name, double flops, double seconds)
{
    printf("%-46s %9.2f ms %9.1f GFLOP/s %5.0f%%\n", name, 1e3 * seconds, flops / seconds * 1e-9,
           flops / seconds * 1e-7 / peak);
    fflush(stdout);
}

static gan_real *filled(size_t count)
{
    gan_real *x = (gan_real *)malloc(count * sizeof *x + 64);
    for (size_t i = 0; i < count; i++)
        x[i] = (gan_real)((int)(i % 17) - 8);
    return x;
}

static void bench_matmul(int m, int k, int w)
{
    gan_product p = {1, 1, m, k, w, 0, 0, 0, 0, 0, 0};
    gan_real *a = filled((size_t)m * k);
    gan_real *b = filled((size_t)k * w);
    gan_real *y = filled((size_t)m * w);
    double seconds[7];
    char name[64];
    for (int i = 0; i < 7; i++) {
        double start = gan__now();
        gan_cpu_matmul(&p, a, b, y);
        seconds[i] = gan__now() - start;
    }
    snprintf(name, sizeof name, "matmul %dx%dx%d", m, k, w);
    report(name, 2.0 * m * k * w, median(seconds, 7));
    free(a);
    free(b);
    free(y);
}

static void bench_conv(const char *net, int n, int c, int h, int o, int kernel, int stride, int pad)
{
    gan_conv p = {.n = n,
                  .c = c,
                  .h = h,
                  .w = h,
                  .out_c = o,
                  .kernel_h = kernel,
                  .kernel_w = kernel,
                  .stride = stride,
                  .pad = pad};
    gan__cost cost = gan__cost_conv2d(&p);
    gan_real *x = filled(cost.in[0]);
    gan_real *w = filled(cost.in[1]);
    gan_real *y = filled(cost.out[0]);
    double seconds[3][5];
    char name[96];
    for (int i = 0; i < 5; i++) {
        double start = gan__now(), end;
        gan_cpu_conv2d(&p, x, w, y);
        end = gan__now();
        seconds[0][i] = end - start;
        start = end;
        gan_cpu_conv_transpose2d(&p, y, w, x);
        end = gan__now();
        seconds[1][i] = end - start;
        start = end;
        gan_cpu_conv2d_weight(&p, x, y, w);
        end = gan__now();
        seconds[2][i] = end - start;
        for (size_t j = 0; j < cost.in[1]; j++)
            w[j] = 1; /* keep numbers finite over the rounds */
        for (size_t j = 0; j < cost.in[0]; j++)
            x[j] = 1;
    }
    for (int i = 0; i < 3; i++) {
        static const char *const kind[3] = {"forward", "data gradient", "weight gradient"};
        snprintf(name, sizeof name, "%s %dx%dx%d to %d k%d s%d %s", net, c, h, h, o, kernel, stride,
                 kind[i]);
        report(name, cost.flops, median(seconds[i], 5));
    }
    free(x);
    free(w);
    free(y);
}

/* ---- the two networks; convolutions before a norm have no bias */

static gan_tensor *weight(gan_model *m, const char *name, int n, int c, int k)
{
    return gan_param(m, name, n, c, k, k);
}

static gan_tensor *up(gan_model *G, const char *name, const char *norm, gan_tensor *x, int out,
                      int stride, int pad)
{
    x = gan_conv_transpose2d_f(x, weight(G, name, x->c, out, 4), NULL, stride, pad, 0, 1);
    return gan_relu_(gan_batch_norm(G, norm, x));
}

static gan_tensor *down(gan_model *D, const char *name, const char *norm, gan_tensor *x, int out)
{
    x = gan_conv2d_f(x, weight(D, name, out, x->c, 4), NULL, 2, 1, 1);
    return gan_leaky_relu_(norm ? gan_batch_norm(D, norm, x) : x, 0.2f);
}

static gan_tensor *generator28(gan_model *G, gan_tensor *z)
{
    gan_tensor *x = gan_linear_f(z, gan_param(G, "fc.weight", 6272, 100, 1, 1), NULL);
    x = gan_relu_(gan_batch_norm(G, "bn0", gan_reshape(x, -1, 128, 7, 7)));
    x = up(G, "up1.weight", "bn1", x, 64, 2, 1);
    return gan_tanh(gan_conv_transpose2d(G, "up2", x, 1, 4, 2, 1));
}

static gan_tensor *discriminator28(gan_model *D, gan_tensor *x)
{
    x = gan_leaky_relu_(gan_conv2d(D, "conv1", x, 64, 4, 2, 1), 0.2f);
    return gan_linear(D, "fc", down(D, "conv2.weight", "bn2", x, 128), 1);
}

static gan_tensor *generator64(gan_model *G, gan_tensor *z)
{
    gan_tensor *x = up(G, "up1.weight", "bn1", z, 512, 1, 0);
    x = up(G, "up2.weight", "bn2", x, 256, 2, 1);
    x = up(G, "up3.weight", "bn3", x, 128, 2, 1);
    x = up(G, "up4.weight", "bn4", x, 64, 2, 1);
    return gan_tanh(gan_conv_transpose2d_f(x, weight(G, "up5.weight", 64, 1, 4), NULL, 2, 1, 0, 1));
}

static gan_tensor *discriminator64(gan_model *D, gan_tensor *x)
{
    x = down(D, "conv1.weight", NULL, x, 64);
    x = down(D, "conv2.weight", "bn2", x, 128);
    x = down(D, "conv3.weight", "bn3", x, 256);
    x = down(D, "conv4.weight", "bn4", x, 512);
    return gan_conv2d_f(x, weight(D, "conv5.weight", 1, 512, 4), NULL, 1, 0, 1);
}

typedef gan_tensor *network(gan_model *m, gan_tensor *x);

typedef struct {
    gan_model *G, *D, *X;
    gan_opt *opt_g, *opt_d;
    network *generator, *discriminator;
    int size, batch;
} training;

/* One step as the peer's: D on real images, D on generated ones, Adam; G through D, Adam. What a
   half-step leaves is cleared. The images stay in the device's memory, as the peer's do. */
static void train_step(gan *g, void *user)
{
    training *t = (training *)user;
    gan_mark mark = gan_here(g);
    gan_tensor *real = gan_detach(gan_param(t->X, "pixels", t->batch, 1, t->size, t->size));
    gan_backward(gan_bce_logits(t->discriminator(t->D, real), 1), t->D);
    gan_clear_to(g, mark);
    gan_tensor *fake = t->generator(t->G, gan_randn(g, t->batch, 100, 1, 1));
    mark = gan_here(g);
    gan_minimize(t->opt_d, gan_bce_logits(t->discriminator(t->D, gan_detach(fake)), 0));
    gan_clear_to(g, mark);
    gan_minimize(t->opt_g, gan_bce_logits(t->discriminator(t->D, fake), 1));
}

/* Two models, their optimizers, and a batch of pictures that stays the same. */
static training begin_training(gan *g, network *generator, network *discriminator, int size,
                               int batch, gan_real *pixels)
{
    training t = {gan_model_new(g, "G"),
                  gan_model_new(g, "D"),
                  gan_model_new(g, "X"),
                  NULL,
                  NULL,
                  generator,
                  discriminator,
                  size,
                  batch};
    t.opt_g = gan_adam(t.G, 2e-4f, 0.5f, 0.999f);
    t.opt_d = gan_adam(t.D, 2e-4f, 0.5f, 0.999f);
    for (size_t i = 0; i < (size_t)batch * size * size; i++)
        pixels[i] /= 8;
    gan_set(gan_param(t.X, "pixels", batch, 1, size, size), pixels);
    return t;
}

static void bench_step(const char *device, const char *name, network *generator,
                       network *discriminator, int size, int batch, int steps)
{
    gan *g = gan_open(device, 1);
    if (!g) {
        printf("%s\n", gan_error());
        exit(1);
    }
    gan_real *pixels = filled((size_t)batch * size * size);
    training t = begin_training(g, generator, discriminator, size, batch, pixels);
    double seconds[64], flops = 0;
    size_t peak_bytes;
    struct rusage usage;
    for (int i = -3; i < steps; i++) {
        if (i == -2)
            flops = (double)gan_profile_flops(
                g); /* of the first; a GPU does not call the step later on */
        double start = gan__now();
        gan_capture(g, train_step, &t);
        gan_item(gan_zeros(g, 1, 1, 1,
                           1)); /* a GPU may still be at work until a number is read from it */
        if (i >= 0)
            seconds[i] = gan__now() - start;
    }
    gan_memory(g, &peak_bytes);
    getrusage(RUSAGE_SELF, &usage);
    double step_s = median(seconds, steps);
    report(name, flops, step_s);
    gan_profile(g);
    printf("{\"net\": \"%s\", \"device\": \"%s\", \"batch\": %d, \"threads\": %d, \"step_s\": "
           "%.6f, \"gflop_per_s\": %.1f, \"percent_of_peak\": %.1f, \"tensor_bytes\": %zu, "
           "\"peak_bytes\": %.0f}\n\n",
           name, device, batch, gan__threads(), step_s, flops / step_s * 1e-9,
           flops / step_s * 1e-7 / peak, peak_bytes, usage.ru_maxrss * 1024.0);
    gan_close(g);
    free(pixels);
}

/* ---- threads on an idle machine and on a busy one */

/* Another program that computes without end, until it is killed. */
static pid_t busy_program(void)
{
    pid_t child = fork();
    if (child == 0) {
        alarm(600); /* should this program die first */
        for (volatile unsigned i = 0;; i++)
            ;
    }
    return child;
}

/* Steps on one thread and on all, in turn, so that what else happens on the machine meets both. */
static void bench_busy(void)
{
    enum { STEPS = 25 };

    gan *g = gan_open("cpu", 1);
    gan_real *pixels = filled((size_t)64 * 28 * 28);
    training t = begin_training(g, generator28, discriminator28, 28, 64, pixels);
    int threads = gan__threads();
    double seconds[2][STEPS];
    for (int busy = 0; busy < 2; busy++) {
        pid_t other = busy ? busy_program() : 0;
        for (int i = -4; i < 2 * STEPS; i++) {
            gan_set_threads(g, i & 1 ? threads : 1);
            double start = gan__now();
            train_step(g, &t);
            gan_clear(g);
            if (i >= 0)
                seconds[i & 1][i / 2] = gan__now() - start;
        }
        if (other > 0) {
            kill(other, SIGKILL);
            waitpid(other, NULL, 0);
        }
        double one = median(seconds[0], STEPS), all = median(seconds[1], STEPS);
        printf("dcgan28, %-32s 1 thread %7.1f ms   %d threads %7.1f ms   ratio %.2f\n",
               busy ? "one processor taken by another:" : "idle:", 1e3 * one, threads, 1e3 * all,
               all / one);
        fflush(stdout);
    }
    gan_close(g);
    free(pixels);
}

/* ---- single operations, forward and backward, against the bandwidth of copying 64 MiB */

static gan *g;
static gan_model *M; /* its parameter x is what an operation works on */
static double copy_bandwidth;

static gan_tensor *x_of(int n, int c, int h, int w)
{
    return gan_param(M, "x", n, c, h, w);
}

static gan_tensor *op_batch_norm(void)
{
    return gan_batch_norm(M, "bn", x_of(64, 64, 64, 64));
}

static gan_tensor *op_instance_norm(void)
{
    return gan_instance_norm(M, "in", x_of(64, 64, 64, 64));
}

static gan_tensor *op_upfirdn2d(void)
{
    static const gan_real filter[4] = {0.125f, 0.375f, 0.375f, 0.125f};
    return gan_upfirdn2d(x_of(16, 64, 64, 64), filter, 4, 2, 1, 2, 1, 2);
}

static gan_tensor *op_blur_down(void)
{
    static const gan_real filter[4] = {0.125f, 0.375f, 0.375f, 0.125f};
    return gan_upfirdn2d(x_of(16, 64, 128, 128), filter, 4, 1, 2, 1, 1, 1);
}

static gan_tensor *op_bilinear(void)
{
    return gan_resize(x_of(16, 64, 64, 64), 128, 128, GAN_BILINEAR);
}

static gan_tensor *op_softmax(void)
{
    return gan_softmax(x_of(16, 1, 1024, 1024), 3);
}

static gan_tensor *op_tanh(void)
{
    return gan_tanh(x_of(64, 64, 64, 64));
}

static gan_tensor *op_modulated_conv(void)
{
    gan_tensor *style = gan_param(M, "style", 16, 128, 1, 1);
    return gan_modulated_conv2d_f(x_of(16, 128, 32, 32), gan_param(M, "w", 128, 128, 3, 3), style,
                                  1, true);
}

/* Adds d(y . seed)/d(parameter) to the gradients of M: gan_backward with a gradient of one's
   own. */
static void backward_from(gan_tensor *y, gan_tensor *seed)
{
    gan_mark mark = gan_here(g);
    g->differentiation++;
    for (int i = 0; i < M->count; i++)
        gan__request_grad(g, M->params[i].value);
    g->recording = false;
    g->reclaiming = true;
    gan__differentiate(g, y, seed);
    gan__release_temporaries(g, 0);
    g->recording = true;
    g->reclaiming = false;
    g->tape_count = mark.tape;
    gan_clear_to(g, mark);
}

/* floats: how many numbers an implementation cannot avoid to move, times what it is told in
   units of x or y. */
static void bench_operation(const char *name, gan_tensor *(*op)(void), double x_forward,
                            double y_forward, double x_backward, double y_backward)
{
    double seconds[2][9], x = 0, y_count = 0, bytes[2];
    g = gan_open("cpu", 1);
    M = gan_model_new(g, "M");
    gan_opt *still = gan_sgd(M, 0, 0);
    for (int i = -2; i < 9; i++) {
        double start = gan__now(), middle;
        gan_tensor *y = op(), *seed;
        middle = gan__now();
        x = (double)gan_count(gan_find_param(M, "x"));
        y_count = (double)gan_count(y);
        if (i >= 0)
            seconds[0][i] = middle - start;
        seed = gan_full(g, 1, y->n, y->c, y->h, y->w);
        start = gan__now();
        backward_from(y, seed);
        if (i >= 0)
            seconds[1][i] = gan__now() - start;
        gan_step(still); /* the gradients go */
        gan_clear(g);
    }
    bytes[0] = 4 * (x_forward * x + y_forward * y_count);
    bytes[1] = 4 * (x_backward * x + y_backward * y_count);
    for (int k = 0; k < 2; k++) {
        double s = median(seconds[k], 9);
        printf("%s_%s %.3f ms %.1f GB/s %.0f%% of copying\n", name, k ? "backward" : "forward",
               1e3 * s, bytes[k] / s * 1e-9, 100 * bytes[k] / s / copy_bandwidth);
    }
    fflush(stdout);
    gan_close(g);
}

static void bench_operations(void)
{
    size_t count = (size_t)16 << 20;
    gan_map copy = {GAN_AFFINE, count, 1,
                    0}; /* y = x: every number is read once and written once */
    gan_update adam = {10000000, 1e-3f, 0.9f, 0.999f, 1e-8f, 0.5f, 0.5f, 0};
    gan_real *a = filled(count);
    gan_real *b = filled(count);
    gan_real *c = filled(count);
    gan_real *d = filled(count);
    double seconds[9], s;
    for (int part = 0; part < 2; part++) {
        for (int i = 0; i < 9; i++) {
            double start = gan__now();
            if (part)
                gan_cpu_adam(&adam, a, b, c, d);
            else
                gan_cpu_map(&copy, a, b);
            seconds[i] = gan__now() - start;
        }
        s = median(seconds, 9);
        if (!part)
            copy_bandwidth = 8.0 * (double)count / s;
        if (!part)
            printf("copy %.3f ms %.1f GB/s\n", 1e3 * s, copy_bandwidth * 1e-9);
        else
            printf("adam_10M %.3f ms %.1f GB/s %.0f%% of copying\n", 1e3 * s, 28e7 / s * 1e-9,
                   100 * 28e7 / s / copy_bandwidth);
    }
    free(a);
    free(b);
    free(c);
    free(d);
    bench_operation("batch_norm", op_batch_norm, 2, 1, 3,
                    2); /* x for the statistics and again for y; gy and x twice, gx */
    bench_operation("instance_norm", op_instance_norm, 1, 1, 2,
                    1); /* one image's channel stays in the cache */
    bench_operation("upfirdn2d_up", op_upfirdn2d, 1, 1, 1, 1);
    bench_operation("upfirdn2d_down", op_blur_down, 1, 1, 1, 1);
    bench_operation("bilinear", op_bilinear, 1, 1, 1, 1);
    bench_operation("softmax", op_softmax, 1, 1, 1, 2);
    bench_operation("tanh", op_tanh, 1, 1, 1, 2);
    bench_operation("modulated_conv", op_modulated_conv, 1, 1, 2, 1);
}

#ifdef BENCH_CUDA
/* ---- on a GPU (tests/cuda/gpu.sh): kernels against the card's own copying, the versions of the
   product, and convolutions against cuBLAS's product of the same size in tf32, all in the
   device's memory */
#include <cuda_runtime_api.h>
#ifdef BENCH_CUBLAS
#include <cublas_v2.h>
static cublasHandle_t cublas;
#endif
void gan_cuda_synchronize(void);
void gan_cuda_set_version(int version);

static const gan_backend *gpu;
static gan_real *there
    /* 16M numbers, 64 MiB, are used of each; the first has 32M, cuBLAS's matrix of windows, the
       last 4M */
    [5];

enum { COPY, MAP, ZIP, SGD, ADAM, NORM, CONV, DATA, WEIGHT, CUBLAS };

static const gan_conv *conv;

static void work(int what)
{
    gan_map map = {GAN_TANH, (size_t)16 << 20, 1, 0};
    gan_zip zip = {GAN_MIX, 256, 64, 32, 32, {65536, 1024, 32, 1}, {65536, 1024, 32, 1}, 1, 2};
    gan_update update = {(size_t)16 << 20, 1e-3f, 0.9f, 0.999f, 1e-8f, 0.5f, 0.5f, 0};
    gan_norm norm = {256, 64, 1024, 1e-5f, 0};
    gan_real **t = there;
    if (what == COPY)
        cudaMemcpyAsync(t[1], t[0], map.count * sizeof(gan_real), cudaMemcpyDeviceToDevice, NULL);
    if (what == MAP)
        gpu->map(&map, t[0], t[1]);
    if (what == ZIP)
        gpu->zip(&zip, t[0], t[1], t[2]);
    if (what == SGD)
        gpu->sgd(&update, t[0], t[1], t[2]);
    if (what == ADAM)
        gpu->adam(&update, t[0], t[1], t[2], t[3]);
    if (what == NORM) {
        gpu->norm_stats(&norm, t[0], t[4]);
        gpu->norm_apply(&norm, t[0], t[4], t[4], t[4], t[1]);
    }
    if (what == CONV)
        gpu->conv2d(conv, t[0], t[4], t[1]);
    if (what == DATA)
        gpu->conv_transpose2d(conv, t[1], t[4], t[0]);
    if (what == WEIGHT)
        gpu->conv2d_weight(conv, t[0], t[1], t[4]);
#ifdef BENCH_CUBLAS
    int m = CONV <= what ? conv->out_c : 0;
    int k = m ? conv->c * conv->kernel_h * conv->kernel_w : 0;
    int n = m ? conv->n * gan_conv_out_h(conv) * gan_conv_out_w(conv) : 0;
    const float one = 1, zero = 0;
    if (what == CUBLAS)
        cublasSgemm(cublas, CUBLAS_OP_N, CUBLAS_OP_N, n, m, k, &one, t[0], n, t[4], k, &zero, t[1],
                    n);
#endif
}

/* Until all is done, in gan_cuda.cu's stream and in the others' alike. */
static void wait_for_device(void)
{
    gan_cuda_synchronize();
    cudaDeviceSynchronize();
}

/* The median time of ten runs of ten, so that the wait at the end of a run counts little. */
static double device_time(int what)
{
    double seconds[10];
    for (int i = -1; i < 10; i++) {
        wait_for_device();
        double start = gan__now();
        for (int k = 0; k < 10; k++)
            work(what);
        wait_for_device();
        if (i >= 0)
            seconds[i] = (gan__now() - start) / 10;
    }
    return median(seconds, 10);
}

static void bench_device(const char *device)
{
    static const struct {
        const char *name;
        int what;
        double moves;
    } kernels[] = {{"copy (cudaMemcpy)", COPY, 2},
                   {"map, tanh", MAP, 2},
                   {"zip, mix", ZIP, 3},
                   {"sgd", SGD, 5},
                   {"adam", ADAM, 7},
                   {"batch norm, forward", NORM, 3}};

    static const gan_conv convs[] = {{128, 64, 32, 32, 128, 4, 4, 2, 1, 1, 1, 0, 0, 0, 0, 0, 0},
                                     {128, 128, 16, 16, 256, 4, 4, 2, 1, 1, 1, 0, 0, 0, 0, 0, 0},
                                     {128, 256, 8, 8, 512, 4, 4, 2, 1, 1, 1, 0, 0, 0, 0, 0, 0},
                                     {128, 1, 64, 64, 64, 4, 4, 2, 1, 1, 1, 0, 0, 0, 0, 0, 0}};
    double copying = 0;
    gan *g = gan_open(device, 1);
    if (!g) {
        printf("%s\n", gan_error());
        exit(1);
    }
    gpu = gan_find_backend(device);
    for (int i = 0; i < 5; i++) {
        gan_fill p = {(size_t)(i == 0 ? 32 : i < 4 ? 16 : 4) << 20, 0.25f};
        there[i] = (gan_real *)gpu->alloc(p.count * sizeof(gan_real));
        gpu->fill(&p, there[i]);
    }
    for (int i = 0; i < 6; i++) {
        double s = device_time(kernels[i].what);
        double rate = kernels[i].moves * 4 * (double)((size_t)16 << 20) / s;
        if (i == 0)
            copying = rate;
        printf("%-22s %8.3f ms %8.1f GB/s  %3.0f%% of copying\n", kernels[i].name, 1e3 * s,
               rate * 1e-9, 100 * rate / copying);
    }
    conv = &convs[0];
    for (int version = 0; version < 4; version++) {
        gan_cuda_set_version(version);
        printf("version %d of the product: conv2d %.3f ms, conv_transpose2d %.3f ms, conv2d_weight "
               "%.3f ms\n",
               version, 1e3 * device_time(CONV), 1e3 * device_time(DATA),
               1e3 * device_time(WEIGHT));
    }
    gan_cuda_set_version(3);
#ifdef BENCH_CUBLAS
    if (cublasCreate(&cublas) != CUBLAS_STATUS_SUCCESS) {
        printf("no cuBLAS\n");
        exit(1);
    }
    cublasSetMathMode(cublas, CUBLAS_TF32_TENSOR_OP_MATH);
#endif
    for (int i = 0; i < 4; i++) {
        conv = &convs[i];
        double s = device_time(CONV), flops = gan__conv_flops(conv);
        printf("conv2d tf32 (128,%d,%d,%d) to %d: %.3f ms %.0f GFLOP/s", conv->c, conv->h, conv->w,
               conv->out_c, 1e3 * s, flops / s * 1e-9);
#ifdef BENCH_CUBLAS
        double their = device_time(CUBLAS);
        printf(", cuBLAS's product of that size %.3f ms, %.0f%% of its speed", 1e3 * their,
               100 * their / s);
#endif
        printf("\n");
    }
    gan_cuda_set_version(-1);
    for (int i = 0; i < 5; i++)
        gpu->release(there[i]);
    gan_close(g);
}
#endif

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : 0;
    const char *what = argc > 2 ? argv[2] : "all";
    const char *device = argc > 3 ? argv[3] : "cpu";
    bool all = strcmp(what, "all") == 0;
    gan_set_threads(NULL, threads);
    threads = gan__threads();
    peak = peak_gflops(threads);
    printf("multiply-add peak, %d thread%s: %.1f GFLOP/s\n", threads, threads > 1 ? "s" : "", peak);
    if (all || strcmp(what, "kernels") == 0) {
        bench_matmul(512, 2048, 4096);
        bench_conv("dcgan28", 64, 1, 28, 64, 4, 2, 1);
        bench_conv("dcgan28", 64, 64, 14, 128, 4, 2, 1);
        bench_conv("dcgan64", 128, 1, 64, 64, 4, 2, 1);
        bench_conv("dcgan64", 128, 64, 32, 128, 4, 2, 1);
        bench_conv("dcgan64", 128, 128, 16, 256, 4, 2, 1);
        bench_conv("dcgan64", 128, 256, 8, 512, 4, 2, 1);
        bench_conv("dcgan64", 128, 512, 4, 100, 4, 1, 0);
    }
    if (all || strcmp(what, "operations") == 0)
        bench_operations();
#ifdef BENCH_CUDA
    if (strcmp(what, "cuda") == 0)
        bench_device(device);
#endif
    if (all || strcmp(what, "busy") == 0)
        bench_busy();
    bool steps = all || strcmp(what, "steps") == 0;
    if (steps || strcmp(what, "dcgan28") == 0)
        bench_step(device, "dcgan28", generator28, discriminator28, 28, 64,
                   strncmp(device, "cuda", 4) ? 15 : 60);
    if (steps || strcmp(what, "dcgan64") == 0)
        bench_step(device, "dcgan64", generator64, discriminator64, 64, 128,
                   strncmp(device, "cuda", 4) ? 5 : 60);
    return 0;
}
