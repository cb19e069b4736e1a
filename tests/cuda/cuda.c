/* tests/cuda/cuda.c: the device "cuda" as a program sees it, on a GPU or, linked to gan_cuda.cu
   compiled with -DGAN_CUDA_ON_CPU, on a CPU that plays one: every version of the product against
   ref, whole trainings against the CPU's, the same bits in any order of threads, and what a
   machine without a GPU says. The bare kernels on awkward shapes are tests/kernels.c's, compiled
   with -DTEST_CUDA. */
#include "../test.h"

void gan_cuda_matmul(const gan_product *p, const gan_real *a, const gan_real *b, gan_real *y);
void gan_cuda_conv2d(const gan_conv *p, const gan_real *x, const gan_real *w, gan_real *y);
void gan_cuda_conv_transpose2d(const gan_conv *p, const gan_real *y, const gan_real *w,
                               gan_real *x);
void gan_cuda_conv2d_weight(const gan_conv *p, const gan_real *x, const gan_real *y, gan_real *w);
void gan_cuda_set_version(int version);
void gan_cuda_synchronize(void);
#ifdef GAN_CUDA_ON_CPU
extern int gan_cuda_order, gan_cuda_devices, gan_cuda_driver, gan_cuda_fail_with;
extern int gan_cuda_code, gan_cuda_late, gan_cuda_fail_sticky;
extern long gan_cuda_fail_after;
extern const char *gan_cuda_fail_call;
#endif

static uint32_t seed = 1;

static gan_real *random_numbers(size_t count)
{
    gan_real *x = (gan_real *)malloc(count * sizeof *x);
    for (size_t i = 0; i < count; i++) {
        seed = 1664525u * seed + 1013904223u;
        x[i] = (gan_real)((seed >> 8) / 8388608.0 - 1);
    }
    return x;
}

/* |a - b| / |b| over all numbers. */
static double distance(const gan_real *a, const gan_real *b, size_t count)
{
    double d = 0, size = 0;
    for (size_t i = 0; i < count; i++) {
        d += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        size += (double)b[i] * (double)b[i];
    }
    return sqrt(d / size);
}

#ifdef GAN_CUDA_ON_CPU /* host memory is device memory there */
/* Each device, through its backend: the shapes of tests/kernels.c, in bf16 too. Factors are rounded
   to 24, 11 and 8 bits; sums have relative errors of the size of one such rounding, and not much
   less: else the device would not do what its name says. */
static void test_precisions(void)
{
    static const struct {
        const char *device;
        double least, most;
    } devices[] = {{"cuda", 0, 1e-5}, {"cuda:tf32", 1e-5, 1e-3}, {"cuda:bf16", 1e-4, 1e-2}};

    static const gan_conv shapes[] = {{2, 3, 9, 7, 5, 4, 4, 2, 1, 1, 1, 0, 0, 0, 0, 0, 0},
                                      {1, 8, 6, 6, 70, 3, 3, 1, 1, 2, 1, 0, 0, 0, 0, 0, 0},
                                      {3, 70, 8, 11, 13, 3, 2, 3, 0, 1, 1, 0, 0, 0, 0, 0, 0},
                                      {2, 10, 10, 9, 6, 3, 3, 1, 2, 1, 2, 0, 0, 0, 0, 0, 0},
                                      {3, 128, 7, 7, 136, 4, 4, 2, 1, 1, 1, 0, 0, 0, 0, 0, 0}};
    for (int i = 0; i < 15; i++) {
        const gan_conv *p = &shapes[i % 5];
        const gan_backend *b = gan_find_backend(devices[i / 5].device);
        size_t xn = (size_t)p->n * p->c * p->h * p->w;
        size_t wn = (size_t)p->out_c * p->c / p->groups * p->kernel_h * p->kernel_w;
        size_t yn = (size_t)p->n * p->out_c * gan_conv_out_h(p) * gan_conv_out_w(p);
        gan_real *x = random_numbers(xn);
        gan_real *w = random_numbers(wn);
        gan_real *y = random_numbers(yn);
        gan_real *want = random_numbers(xn + yn + wn);
        gan_real *got = random_numbers(xn + yn + wn);
        double d[3];
        gan_ref_conv2d(p, x, w, want);
        b->conv2d(p, x, w, got);
        d[0] = distance(got, want, yn);
        gan_ref_conv_transpose2d(p, y, w, want);
        b->conv_transpose2d(p, y, w, got);
        d[1] = distance(got, want, xn);
        gan_ref_conv2d_weight(p, x, y, want);
        b->conv2d_weight(p, x, y, got);
        d[2] = distance(got, want, wn);
        free(x);
        free(w);
        free(y);
        free(want);
        free(got);
        for (int k = 0; k < 3; k++) {
            bool thin = (k == 1 ? p->c : p->out_c) / p->groups <= 4; /* in float on each device */
            CHECK(d[k] <= devices[i / 5].most && (thin || d[k] >= devices[i / 5].least),
                  "%s, shape %d, kernel %d: relative error %.3g", devices[i / 5].device, i % 5, k,
                  d[k]);
        }
    }
}

/* K is long and C small: splits. */
static void test_splits(void)
{
    gan_product q = {1, 1, 5, 3000, 7, 0, 0, 0, 0, 0, 0};
    gan_real *a = random_numbers(5 * 3000);
    gan_real *b = random_numbers(3000 * 7);
    gan_real want[35];
    gan_real got[35];
    gan_ref_matmul(&q, a, b, want);
    gan_cuda_matmul(&q, a, b, got);
    double d = distance(got, want, 35);
    free(a);
    free(b);
    CHECK(d <= 1e-5, "relative error %.3g", d);
}

static void test_no_gpu(void)
{
    gan_cuda_devices = 0;
    gan *g = gan_open("cuda", 1);
    gan_cuda_devices = 1;
    CHECK(!g && strstr(gan_error(), "no GPU") && strstr(gan_error(), "\"cpu\""), "no GPU: %s",
          gan_error());
    int driver = gan_cuda_driver;
    gan_cuda_driver = 0;
    g = gan_open("cuda", 1);
    gan_cuda_driver = driver;
    CHECK(!g && strstr(gan_error(), "no NVIDIA driver"), "no driver: %s", gan_error());
    gan_cuda_driver = 10020;
    g = gan_open("cuda:bf16", 1);
    gan_cuda_driver = driver;
    CHECK(!g && strstr(gan_error(), "10.2") && strstr(gan_error(), "newer driver"),
          "an old driver: %s", gan_error());
}

static gan *on;

static void a_convolution(void *user)
{
    (void)user;
    gan_conv2d_f(gan_zeros(on, 2, 3, 8, 8), gan_zeros(on, 5, 3, 4, 4), NULL, 2, 1, 1);
}

static void a_download(void *user)
{
    (void)user;
    gan_item(gan_sum(gan_zeros(on, 2, 3, 1, 1)));
}

static void a_sum(void *user)
{
    (void)user;
    gan_sum(gan_zeros(on, 1000, 1000, 1, 1));
}

/* The code of the program is for other cards, or for cards without tensor cores. */
static void test_code(void)
{
    gan_cuda_code = 0;
    gan *g = gan_open("cuda", 1);
    gan_cuda_code = 90;
    CHECK(!g && strstr(gan_error(), "was not compiled") && strstr(gan_error(), "-arch=sm_90"),
          "no code for this card: %s", gan_error());
    gan_cuda_code = 75;
    g = gan_open("cuda:tf32", 1);
    CHECK(!g && strstr(gan_error(), "older cards") && strstr(gan_error(), "-arch=native"),
          "code for 7.5: %s", gan_error());
    g = gan_open("cuda", 1);
    gan_cuda_code = 90;
    CHECK(g, "exact products need no tensor cores: %s", gan_error());
    gan_close(g);
}

/* After an error that stays, closing the device reports nothing a second time. */
static void close_it(void *user)
{
    (void)user;
    gan_close(on);
}

static void test_lost(void)
{
    on = gan_open("cuda", 1);
    gan_cuda_fail_with = 700;
    gan_cuda_fail_after = 1;
    gan_cuda_fail_call = "cudaMemcpyAsync";
    gan_cuda_fail_sticky = 1;
    message_of(a_download, NULL);
    bool said = strstr(test_message, "illegal memory access") != NULL;
    message_of(close_it, NULL);
    gan_cuda_fail_after = gan_cuda_fail_sticky = 0;
    gan_cuda_fail_call = NULL;
    CHECK(said, "the error is not reported");
    CHECK(!test_message[0], "gan_close after it: %s", test_message);
}

/* What is said of a call that fails: its name, the kernel's and its sizes. */
static void test_errors(void)
{
    static const struct {
        const char *call;
        long after;
        int with;
        void (*f)(void *);
        const char *words[3];
    } cases[] = {
        {"cudaLaunchKernel",
         3,
         701,
         a_convolution,
         {"a launch of (gan__gemm_tiled<P, HEIGHT>) failed",
          "conv2d, (2,3,8,8) -> (2,5,4,4), kernel 4x4, stride 2x2, pad 1x1", "kernel"}},
        {"cudaMemcpyAsync",
         1,
         700,
         a_download,
         {"cudaMemcpyAsync", "the last kernel was sum", "(2,3,1,1) -> (1,1,1,1)"}},
        {"cudaMalloc", 3, 2, a_sum, {"no memory on the GPU for", "scratch", "smaller batch"}},
        {"cudaMalloc", 3, 719, a_sum, {"cudaMalloc failed", "unspecified launch failure", ""}},
        {"cudaMalloc", 1, 719, a_sum, {"cudaMalloc failed", "unspecified launch failure", ""}},
    };

    for (int i = 0; i < 5; i++) {
        on = gan_open("cuda", 1);
        gan_cuda_fail_after = cases[i].after;
        gan_cuda_fail_call = cases[i].call;
        gan_cuda_fail_with = cases[i].with;
        message_of(cases[i].f, NULL);
        gan_cuda_fail_after = 0;
        gan_cuda_fail_call = NULL;
        for (int k = 0; k < 3; k++)
            CHECK(strstr(test_message, cases[i].words[k]), "%s: no \"%s\" in: %s", cases[i].call,
                  cases[i].words[k], test_message);
        gan_close(on);
    }
}
#endif

/* Four steps of a small GAN; losses go to out (8 numbers). */
static void training(const char *device, gan_real *out)
{
    gan *g = gan_open(device, 5);
    if (!g) {
        printf("%s\n", gan_error());
        exit(1);
    }
    gan_model *G = gan_model_new(g, "G"), *D = gan_model_new(g, "D");
    gan_opt *opt_g = gan_adam(G, (gan_real)1e-3, (gan_real)0.5, (gan_real)0.999);
    gan_opt *opt_d = gan_rmsprop(D, (gan_real)1e-3, (gan_real)0.99);
    gan_data *digits = gan_data_digits(g, 32);
    for (int step = 0; step < 4; step++) {
        gan_tensor *real = gan_avg_pool2d(gan_batch(digits, 4, NULL), 2, 2, 0); /* (4,1,14,14) */
        gan_tensor *x = gan_reshape(gan_linear(G, "fc", gan_randn(g, 4, 8, 1, 1), 4 * 7 * 7), -1, 4,
                                    7, 7);
        gan_tensor *fake = gan_tanh(gan_conv_transpose2d(
                       G, "up", gan_relu(gan_batch_norm(G, "bn", x)), 1, 4, 2, 1)),
                   *score[2], *loss;
        for (int k = 0; k < 2; k++) {
            gan_tensor *y = gan_conv2d(D, "conv", k ? gan_detach(fake) : real, 6, 4, 2, 1);
            score[k] = gan_linear(D, "fc",
                                  gan_leaky_relu(gan_instance_norm(D, "in", y), (gan_real)0.2), 1);
        }
        loss = gan_add(gan_d_loss(score[0], score[1], GAN_HINGE), gan_r1(score[0], real));
        gan_minimize(opt_d, loss);
        out[2 * step] = gan_item(loss);
        loss = gan_g_loss(
            NULL,
            gan_linear(
                D, "fc",
                gan_leaky_relu(gan_instance_norm(D, "in", gan_conv2d(D, "conv", fake, 6, 4, 2, 1)),
                               (gan_real)0.2),
                1),
            GAN_HINGE);
        gan_minimize(opt_g, loss);
        out[2 * step + 1] = gan_item(loss);
        gan_clear(g);
    }
    gan_close(g);
}

/* In exact precision rounding alone parts the two: 1e-3, as design wants of 100 steps of the
   DCGAN, is generous for four. */
static void test_training(void)
{
    gan_real cpu[8], cuda[8];
    training("cpu", cpu);
    training("cuda", cuda);
    for (int i = 0; i < 8; i++)
        CHECK(fabs((double)(cpu[i] - cuda[i])) <= 1e-3 * (1 + fabs((double)cpu[i])),
              "loss %d: cpu %.7g, cuda %.7g", i, (double)cpu[i], (double)cuda[i]);
}

static void test_compare(void)
{
    gan_real losses[8];
    training("compare:ref,cuda", losses); /* stops the program where a kernel differs */
    CHECK(losses[7] == losses[7], "a loss is no number");
}

static void test_same_bits(void)
{
    gan_real first[8], second[8];
    training("cuda", first);
#ifdef GAN_CUDA_ON_CPU
    gan_cuda_order = 7; /* threads and blocks take their turns in another order */
#endif
    training("cuda", second);
#ifdef GAN_CUDA_ON_CPU
    gan_cuda_order = 0;
#endif
    CHECK(memcmp(first, second, sizeof first) == 0, "two runs differ: %.9g and %.9g",
          (double)first[7], (double)second[7]);
}

/* A training that gan_capture may record: random numbers, batches that go over an epoch's end,
   two optimizers of which one steps twice, constant tables. */
typedef struct {
    gan_model *G, *D, *average;
    gan_opt *opt_g, *opt_d;
    gan_data *digits;
    gan_tensor *loss, *labels;
    int calls;
    bool reads;
} net;

static gan_tensor *judge(net *a, gan_tensor *x)
{
    x = gan_leaky_relu(gan_conv2d(a->D, "conv", x, 3, 4, 2, 1), (gan_real)0.2);
    return gan_linear(a->D, "fc", gan_dropout(a->D, x, (gan_real)0.3), 1);
}

static void one_step(gan *g, void *user)
{
    net *a = (net *)user;
    a->calls++;
    gan_tensor *fake = NULL;
    for (int k = 0; k < 2; k++) {
        gan_tensor *real = gan_avg_pool2d(gan_batch(a->digits, 4, &a->labels), 4, 4,
                                          0); /* (4,1,7,7) */
        fake = gan_tanh(gan_batch_norm(
            a->G, "bn",
            gan_reshape(gan_linear(a->G, "fc", gan_randn(g, 4, 5, 1, 1), 49), -1, 1, 7, 7)));
        a->loss = gan_d_loss(judge(a, real), judge(a, gan_detach(fake)), GAN_HINGE);
        if (a->reads && gan_item(a->loss) < 0)
            printf("a hinge loss below 0\n");
        gan_minimize(a->opt_d, a->loss);
    }
    gan_minimize(a->opt_g, gan_g_loss(NULL, judge(a, fake), GAN_HINGE));
    gan_ema(a->average, a->G, (gan_real)0.9);
}

enum { PLAIN, CAPTURED, READING };

/* 10 steps; losses, labels and all parameters go to out. Returns how many numbers there are;
   *called: how often the step was. */
static int captured(const char *device, int how, gan_real *out, int *called)
{
    gan *g = gan_open(device, 9);
    net a = {NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, how == READING};
    int n = 0;
    if (!g) {
        printf("%s\n", gan_error());
        exit(1);
    }
    a.G = gan_model_new(g, "G");
    a.D = gan_model_new(g, "D");
    a.average = gan_model_new(g, "average");
    a.opt_g = gan_adam(a.G, (gan_real)2e-2, (gan_real)0.5, (gan_real)0.99);
    a.opt_d = gan_rmsprop(a.D, (gan_real)1e-2, (gan_real)0.9);
    a.digits = gan_data_digits(g, 24);
    for (int step = 0; step < 10; step++) {
        gan_set_lr(a.opt_g, (gan_real)(2e-2 - 1e-3 * step));
        if (how == PLAIN) {
            gan_clear(g);
            one_step(g, &a);
        } else
            gan_capture(g, one_step, &a);
        out[n++] = gan_item(a.loss);
        gan_to_host(a.labels, out + n);
        n += 4;
        gan_clear(g);
        if (step % 3 == 2)
            out[n++] = gan_item(gan_mean(gan_rand(
                g, 1 + step, 64, 9, 9))); /* what else a program does, in more memory and more */
    }
    gan_model *models[3] = {a.G, a.D, a.average};
    static const char *const names[] = {"fc.weight",      "fc.bias",     "bn.weight",
                                        "bn.running_var", "conv.weight", "conv.bias"};
    for (int m = 0; m < 3; m++)
        for (int k = 0; k < 6; k++) {
            gan_tensor *p = gan_find_param(models[m], names[k]);
            if (p) {
                gan_to_host(p, out + n);
                n += (int)gan_count(p);
            }
        }
    gan_close(g);
    *called = a.calls;
    return n;
}

static void test_capture(void)
{
    static gan_real plain[2000], other[2000];
    int calls, n = captured("cuda", PLAIN, plain, &calls);
    CHECK(n > 500 && n < 2000 && calls == 10, "%d numbers, %d calls", n, calls);
    CHECK(captured("cuda", CAPTURED, other, &calls) == n &&
              memcmp(plain, other, (size_t)n * sizeof *plain) == 0,
          "a recorded step has other bits");
    CHECK(calls == 2, "a recorded step was called %d times", calls);
}

/* A step that reads its loss, and devices that cannot record: each step is called. */
static void test_no_capture(void)
{
    static gan_real plain[2000], other[2000];
    int calls, n = captured("cuda", PLAIN, plain, &calls);
    fflush(stdout);
    CHECK(captured("cuda", READING, other, &calls) == n &&
              memcmp(plain, other, (size_t)n * sizeof *plain) == 0,
          "a step that is not recorded has other bits");
    CHECK(calls == 11, "the step was called %d times, not 10 and in vain", calls);
    n = captured("cpu", PLAIN, plain, &calls);
    CHECK(captured("cpu", CAPTURED, other, &calls) == n && calls == 10 &&
              memcmp(plain, other, (size_t)n * sizeof *plain) == 0,
          "cpu: %d calls", calls);
}

/* A step that uploads 300,000 numbers: it is not recorded, but called. */
static void upload_step(gan *g, void *user)
{
    enum { COUNT = 300000 };

    static gan_real numbers[COUNT];
    net *a = (net *)user;
    a->calls++;
    for (int i = 0; i < COUNT; i++)
        numbers[i] = (gan_real)(i % 7);
    a->loss = gan_add(gan_mean(gan_from_host(g, numbers, 1, 1, 1, COUNT)),
                      gan_mean(gan_randn(g, 1, 1, 1, 9)));
    numbers[0] = 1000; /* what was uploaded is the program's again */
    a->loss = gan_add(a->loss, gan_mean(gan_from_host(g, numbers, 1, 1, 1, COUNT)));
}

/* The losses of four steps, called or captured. */
static int uploads(bool capture, gan_real out[4])
{
    gan *g = gan_open("cuda", 3);
    net a = {NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, false};
    for (int step = 0; step < 4; step++) {
        if (capture)
            gan_capture(g, upload_step, &a);
        else {
            gan_clear(g);
            upload_step(g, &a);
        }
        out[step] = gan_item(a.loss);
    }
    gan_close(g);
    return a.calls;
}

static void test_large_uploads(void)
{
    gan_real called[4], recorded[4];
    int calls = uploads(false, called);
    CHECK(calls == 4 && called[0] != called[1], "%d calls, losses %g and %g", calls,
          (double)called[0], (double)called[1]);
    calls = uploads(true, recorded);
    CHECK(calls == 5, "called %d times, not 4 and once to find that it cannot be recorded", calls);
    CHECK(memcmp(called, recorded, sizeof called) == 0, "other bits: %.9g and %.9g",
          (double)called[3], (double)recorded[3]);
}

#ifdef GAN_CUDA_ON_CPU
/* All that need not be done at once is done late: uploads and the numbers of a play must not be
   overwritten before. */
static void test_late(void)
{
    static gan_real soon[2000], late[2000];
    int calls, n = captured("cuda", CAPTURED, soon, &calls);
    gan_cuda_late = 1;
    int same = captured("cuda", CAPTURED, late, &calls);
    gan_cuda_late = 0;
    CHECK(same == n && memcmp(soon, late, (size_t)n * sizeof *soon) == 0, "other bits");
}
#endif

int main(void)
{
#ifdef GAN_CUDA_ON_CPU
    run("cuda: products of each device", test_precisions);
    run("cuda: a long product in parts", test_splits);
    run("cuda: no GPU, no driver, an old driver", test_no_gpu);
    run("cuda: code for other cards", test_code);
    run("cuda: what failing calls say", test_errors);
    run("cuda: closed after an error that stays", test_lost);
#endif
    run("cuda: a training as the CPU's", test_training);
    run("cuda: compare:ref,cuda", test_compare);
    run("cuda: the same bits twice", test_same_bits);
    run("cuda: a recorded step has the bits of a called one", test_capture);
    run("cuda: a step that cannot be recorded is called", test_no_capture);
    run("cuda: large uploads in a step that gan_capture calls", test_large_uploads);
#ifdef GAN_CUDA_ON_CPU
    run("cuda: the same bits when the GPU is late", test_late);
#endif
    return finish();
}
