/* tests/device.c: devices and their memory (the same addresses every step), threads (the same bits,
   whatever their number), gan_register_backend, and compare:A,B, which finds what is wrong with a
   kernel.

       cc -O2 tests/device.c -o device -lm -pthread && ./device */
#define _POSIX_C_SOURCE 200809L
#include "test.h"

#ifndef _WIN32
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

static gan *open_device(const char *device, uint64_t seed)
{
    gan *g = gan_open(device, seed);
    if (!g) {
        printf("FAIL %s: %s\n", test_name, gan_error());
        exit(1);
    }
    return g;
}

static double item(gan_tensor *t)
{
    return (double)gan_item(t);
}

/* ---- a small DCGAN for pictures of 8x8 ---- */

static gan_tensor *generator(gan_model *G, gan_tensor *z)
{
    gan_tensor *x = gan_reshape(gan_linear(G, "fc", z, 8 * 2 * 2), -1, 8, 2, 2);
    x = gan_relu_(gan_batch_norm(G, "bn0", x));
    x = gan_relu(gan_batch_norm(G, "bn1", gan_conv_transpose2d(G, "up1", x, 6, 4, 2, 1)));
    return gan_tanh(gan_conv_transpose2d(G, "up2", x, 1, 4, 2, 1));
}

static gan_tensor *discriminator(gan_model *D, gan_tensor *x)
{
    x = gan_leaky_relu(gan_conv2d(D, "conv1", x, 6, 4, 2, 1), (gan_real)0.2);
    x = gan_leaky_relu_(gan_batch_norm(D, "bn2", gan_conv2d(D, "conv2", x, 8, 4, 2, 1)),
                        (gan_real)0.2);
    return gan_linear(D, "fc", x, 1);
}

static void train_step(gan *g, gan_opt *opt_g, gan_opt *opt_d, gan_model *G, gan_model *D)
{
    gan_tensor *real = gan_tanh(gan_randn(g, 5, 1, 8, 8));
    gan_tensor *fake = generator(G, gan_randn(g, 5, 10, 1, 1));
    gan_tensor *d_loss = gan_add(gan_bce_logits(discriminator(D, real), 1),
                                 gan_bce_logits(discriminator(D, gan_detach(fake)), 0));
    gan_minimize(opt_d, d_loss);
    gan_minimize(opt_g, gan_bce_logits(discriminator(D, fake), 1));
}

/* Trains for some steps; all that was learnt goes to result, and how many numbers that are is
   returned. */
enum { LEARNT = 5000, STEPS = 6 };

static size_t train(const char *device, uint64_t seed, int threads, gan_real result[LEARNT])
{
    static const char *const names[] = {
        "fc.weight",       "fc.bias",  "bn0.weight",   "bn0.running_mean", "up1.weight",
        "bn1.running_var", "up2.bias", "conv1.weight", "bn2.weight",       "conv2.weight"};
    gan *g = open_device(device, seed);
    gan_model *models[2] = {gan_model_new(g, "G"), gan_model_new(g, "D")};
    gan_opt *opt_g = gan_adam(models[0], (gan_real)1e-2, (gan_real)0.5, (gan_real)0.999);
    gan_opt *opt_d = gan_sgd(models[1], (gan_real)1e-2, (gan_real)0.9);
    size_t n = 0;
    gan_set_threads(g, threads);
    for (int step = 0; step < STEPS; step++) {
        train_step(g, opt_g, opt_d, models[0], models[1]);
        gan_clear(g);
    }
    for (int m = 0; m < 2; m++)
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            gan_tensor *t = gan_find_param(models[m], names[i]);
            if (t) {
                gan_to_host(t, result + n);
                n += gan_count(t);
            }
        }
    gan_close(g);
    return n;
}

/* WGAN-GP's penalty of D at x. */
static gan_tensor *gradient_penalty(gan_model *D, gan_tensor *x)
{
    gan_tensor *dx = gan_grad(gan_sum(discriminator(D, x)), x);
    gan_tensor *length = gan_sqrt(gan_sum_to(gan_square(dx), x->n, 1, 1, 1));
    return gan_mean(gan_square(gan_add_scalar(length, -1)));
}

/* ---- memory ---- */

static void test_clear(void)
{
    gan *g = open_device("cpu", 1);
    gan_model *m = gan_model_new(g, "m");
    gan_tensor *p = gan_param(m, "p", 2, 3, 1, 1);
    gan_real before[6], after[6];
    gan_to_host(p, before);
    gan_backward(gan_sum(gan_square(p)), m);
    gan_clear(g);
    gan_randn(g, 8, 8, 8, 8); /* takes the memory that was freed */
    CHECK(gan_param(m, "p", 2, 3, 1, 1) == p && gan_find_param(m, "p") == p,
          "the parameter is another after gan_clear");
    gan_to_host(p, after);
    CHECK(!memcmp(before, after, sizeof before), "gan_clear changed a parameter");
    gan_to_host(gan_param_grad(p), after);
    for (int i = 0; i < 6; i++)
        CHECK(after[i] == 2 * before[i], "gan_clear changed a gradient: %g", (double)after[i]);
    gan_close(g);
}

static void test_clear_to(void)
{
    gan *g = open_device("cpu", 1);
    gan_model *m = gan_model_new(g, "m");
    gan_tensor *x = gan_randn(g, 4, 3, 2, 2);
    gan_real before[48], after[48];
    gan_to_host(x, before);
    gan_mark mark = gan_here(g);
    gan_tensor *a = gan_square(x);
    gan_backward(gan_sum(gan_mul(a, gan_param(m, "w", 1, 3, 1, 1))),
                 m); /* a parameter made after the mark stays, too */
    gan_real *place = a->data;
    gan_clear_to(g, mark);
    CHECK(gan_square(x)->data == place, "the memory is not used again");
    gan_to_host(x, after);
    CHECK(!memcmp(before, after, sizeof before),
          "gan_clear_to changed a tensor made before the mark");
    CHECK(gan_find_param(m, "w"), "gan_clear_to freed a parameter");
    CHECK(item(gan_sum(gan_abs(gan_param_grad(gan_find_param(m, "w"))))) > 0,
          "gan_clear_to freed a gradient");
    gan_to_host(gan_grad(gan_sum(gan_square(x)), x), after); /* the tape is whole */
    for (int i = 0; i < 48; i++)
        CHECK(after[i] == 2 * before[i], "after gan_clear_to: gradient %g of %g squared",
              (double)after[i], (double)before[i]);
    gan_close(g);
}

enum { PLAIN, PENALTY, IN_PARTS };

static void steady(const char *device, int kind)
{
    gan *g = open_device(device, 1);
    gan_model *G = gan_model_new(g, "G"), *D = gan_model_new(g, "D");
    gan_opt *opt_g = gan_adam(G, (gan_real)1e-3, (gan_real)0.5, (gan_real)0.999);
    gan_opt *opt_d = gan_adam(D, (gan_real)1e-3, (gan_real)0.5, (gan_real)0.999);
    gan_real *place = NULL;
    size_t held = 0;
    test_allocations = 0;
    for (int step = 0; step < 10; step++) {
        if (step == 4) {
            test_counting = 1;
            held = gan_memory(g, NULL);
        }
        train_step(g, opt_g, opt_d, G, D);
        if (kind == PENALTY)
            gan_minimize(opt_d, gradient_penalty(D, gan_randn(g, 5, 1, 8, 8)));
        for (int part = 0; kind == IN_PARTS && part < 3;
             part++) { /* one step from three batches, cleared in between */
            gan_backward(gan_bce_logits(discriminator(D, gan_randn(g, 5, 1, 8, 8)), 1), D);
            gan_clear(g);
        }
        if (kind == IN_PARTS)
            gan_step(opt_d);
        gan_real *now = gan_zeros(g, 1, 1, 1, 1)->data; /* where the step's memory ends */
        if (step == 3)
            place = now;
        CHECK(step < 4 || now == place, "%s, %d: step %d has other addresses than the step before",
              device, kind, step);
        gan_clear(g);
    }
    test_counting = 0;
    CHECK(test_allocations == 0, "%s, %d: %d calls of the allocator after the first four steps",
          device, kind, test_allocations);
    CHECK(gan_memory(g, NULL) == held, "%s, %d: memory grew from %d to %d bytes", device, kind,
          (int)held, (int)gan_memory(g, NULL));
    gan_close(g);
}

static void test_steady(void)
{
    for (int kind = PLAIN; kind <= IN_PARTS && !test_failed_now; kind++)
        steady("cpu", kind);
    if (!test_failed_now)
        steady("ref", PLAIN);
}

/* ---- the same bits ---- */

static void test_same_bits(void)
{
    static gan_real alone[LEARNT], other[LEARNT];
    size_t n = train("cpu", 7, 1, alone);
    CHECK(n > 1000 && rel_error(alone, alone, n) == 0,
          "%d numbers were learnt, or some are not finite", (int)n);
    for (int threads = 1; threads <= 3; threads++) {
        train("cpu", 7, threads, other);
        CHECK(!memcmp(alone, other, n * sizeof *alone), "%d threads give other bits: %g apart",
              threads, rel_error(other, alone, n));
    }
    train("cpu", 8, 1, other);
    CHECK(rel_error(other, alone, n) > 1e-3, "another seed gives the same numbers");
}

#ifndef _WIN32
typedef struct {
    uint64_t seed;
    size_t n;
    gan_real learnt[LEARNT];
} job;

static void *work(void *arg)
{
    job *j = (job *)arg;
    for (int i = 0; i < 3; i++)
        j->n = train("cpu", j->seed, i + 1, j->learnt);
    return NULL;
}

static void test_two_threads(void)
{
    static job jobs[2];
    static gan_real alone[LEARNT];
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) {
        jobs[i].seed = (uint64_t)i + 7;
        CHECK(!pthread_create(&threads[i], NULL, work, &jobs[i]), "no thread");
    }
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 2; i++) {
        size_t n = train("cpu", jobs[i].seed, 1, alone);
        CHECK(n == jobs[i].n && !memcmp(alone, jobs[i].learnt, n * sizeof *alone),
              "thread %d learns other numbers beside the other", i);
    }
}
#endif

/* Two devices in one program, their calls interleaved. */
static void test_two_devices(void)
{
    gan *a = open_device("cpu", 5), *b = open_device("ref", 5);
    gan_real x[100], y[100];
    gan_to_host(gan_randn(a, 1, 1, 1, 50), x);
    gan_to_host(gan_randn(b, 1, 1, 1, 100), y);
    gan_to_host(gan_randn(a, 1, 1, 1, 50), x + 50);
    CHECK(x[0] != x[50], "the same numbers come again");
    gan_clear(b);
    CHECK(item(gan_sum(gan_zeros(a, 1, 2, 3, 4))) == 0, "clearing one device harms the other");
    CHECK(rel_error(x, y, 50) <= 1e-5, "one seed, two devices: %g apart",
          rel_error(x, y, 50)); /* ln and cos differ by roundings */
    gan_close(a);
    gan_close(b);
}

/* ---- devices ---- */

static void test_open_errors(void)
{
    static const char *const names[][2] = {
        /* device, a word that its error must hold */
        {"foo", "foo"},
        {"foo", "ref"},
        {"foo", "cpu"},
        {"cuda", "cuda"},
        {"cuda", "gan_cuda.cu"},
        {"", "cpu"},
        {"compare:", "compare:"},
        {"compare:ref", "compare:"},
        {"compare:ref,foo", "foo"},
        {"compare:foo,ref", "foo"},
        {"compare:ref,cpu,ref", "compare:"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        gan *g = gan_open(names[i][0], 1);
        CHECK(!g, "gan_open(\"%s\") works", names[i][0]);
        CHECK(strstr(gan_error(), names[i][1]),
              "gan_open(\"%s\"): its error does not say \"%s\": %s", names[i][0], names[i][1],
              gan_error());
    }
    gan_close(NULL);
}

static void fail_on_purpose(void *unused)
{
    (void)unused;
    gan_fail("my_layer", "it wants 100% of them");
}

static void test_fail(void)
{
    const char *message = message_of(fail_on_purpose, NULL);
    CHECK(strcmp(message, "my_layer: it wants 100% of them") == 0, "the message is %s", message);
}

static void test_register_errors(void)
{
    gan_backend b = *gan_find_backend("ref");
    static const char *const names[] = {"ref", "cpu", "compare:b", "a,b"};
    for (int i = 0; i < 4; i++) {
        b.name = names[i];
        CHECK(!gan_register_backend(&b), "a backend can be called \"%s\"", names[i]);
    }
    b.name = "incomplete";
    b.matmul = NULL;
    CHECK(!gan_register_backend(&b), "a backend without matmul is taken");
    CHECK(!gan_find_backend("incomplete"), "a refused backend is there all the same");
}

static void compared_training(void *device)
{
    gan *g = open_device((const char *)device, 3);
    gan_model *G = gan_model_new(g, "G"), *D = gan_model_new(g, "D");
    gan_opt *opt_g = gan_adam(G, (gan_real)1e-3, (gan_real)0.5, (gan_real)0.999);
    gan_opt *opt_d = gan_sgd(D, (gan_real)1e-2, (gan_real)0.9);
    for (int step = 0; step < 3; step++) {
        train_step(g, opt_g, opt_d, G, D);
        gan_clear(g);
    }
    gan_close(g);
}

static void test_compare(void)
{
    const char *message = message_of(compared_training, (void *)"compare:ref,cpu");
    CHECK(!*message, "compare:ref,cpu stops: %s", message);
}

/* A bias before batch norm has no gradient but roundings: its sums cancel, and two right kernels
   agree in none of their digits. */
static void cancelling_sums(void *arg)
{
    (void)arg;
    gan *g = open_device("compare:ref,cpu", 3);
    gan_model *m = gan_model_new(g, "m");
    gan_tensor *y = gan_tanh(
        gan_batch_norm(m, "bn", gan_conv2d(m, "conv", gan_randn(g, 64, 3, 9, 9), 8, 3, 1, 1)));
    gan_backward(gan_mean(gan_square(gan_add_scalar(y, (gan_real)-0.5))), m);
    gan_close(g);
}

static void test_compare_cancelling(void)
{
    const char *message = message_of(cancelling_sums, NULL);
    CHECK(!*message, "compare:ref,cpu stops: %s", message);
}

/* A bug that only conv2 shows, the layer with 6 input channels: the last output is not computed. */
static void my_conv2d(const gan_conv *p, const gan_real *x, const gan_real *w, gan_real *y)
{
    gan_ref_conv2d(p, x, w, y);
    if (p->c == 6)
        y[p->n * p->out_c * gan_conv_out_h(p) * gan_conv_out_w(p) - 1] = 0;
}

static gan *left_open;

static void compare_mine(void *arg)
{
    (void)arg;
    left_open = open_device("compare:ref,mine", 3);
    gan_model *D = gan_model_new(left_open, "D");
    discriminator(D, gan_randn(left_open, 5, 1, 8, 8));
}

static void test_compare_finds(void)
{
    gan_backend mine = *gan_find_backend("ref");
    mine.name = "mine";
    mine.conv2d = my_conv2d;
    CHECK(gan_register_backend(&mine), "%s", gan_error());
    const char *message = message_of(compare_mine, NULL);
    CHECK(*message, "compare:ref,mine does not see that conv2d is wrong");
    CHECK(!strncmp(message, "gan_conv2d \"conv2\": ref and mine differ in kernel conv2d", 55),
          "the message lacks layer, backends or kernel: %s", message);
    CHECK(strstr(message, "1 of 160 elements of its result (5,8,2,2), first at (4,7,1,1)"),
          "the message names another element: %s", message);
    CHECK(strstr(message, "images (5,6,4,4), weight (8,6,4,4), stride 2x2, padding 1x1, "
                          "dilation 1x1, groups 1"),
          "the message lacks the sizes: %s", message);
    gan_close(left_open);
}

/* A kernel that is wrong in one way, as B and as A; the message must show all of says. */
enum { RIGHT, CHANGES_INPUT, WRITES_BEHIND, WRITES_BEFORE, OTHER_EVERY_TIME };

static int harm;

static void harmful_conv2d(const gan_conv *p, const gan_real *x, const gan_real *w, gan_real *y)
{
    static int calls;
    size_t count = (size_t)p->n * p->out_c * gan_conv_out_h(p) * gan_conv_out_w(p);
    gan_ref_conv2d(p, x, w, y);
    if (p->c != 6)
        return;
    if (harm == CHANGES_INPUT)
        ((gan_real *)x)[3] += 1;
    if (harm == WRITES_BEHIND)
        y[count] = 0;
    if (harm == WRITES_BEFORE)
        y[-1] = 0;
    if (harm == OTHER_EVERY_TIME)
        y[17] += (gan_real)1e-6 * (gan_real)++calls;
}

/* Off in one weight, in the layer with 6 input channels. */
static void wrong_conv2d_weight(const gan_conv *p, const gan_real *x, const gan_real *gy,
                                gan_real *w)
{
    gan_ref_conv2d_weight(p, x, gy, w);
    if (p->c == 6) {
        w[100] += 1;
        w[200] -= 3;
    }
}

static void wrong_adam(const gan_update *p, const gan_real *g, gan_real *param, gan_real *m,
                       gan_real *v)
{
    gan_ref_adam(p, g, param, m, v);
    if (p->count == 768)
        param[47] += 1;
}

static void compare_step(void *device)
{
    left_open = open_device((const char *)device, 3);
    gan_model *D = gan_model_new(left_open, "D");
    gan_opt *opt = gan_adam(D, (gan_real)1e-3, (gan_real)0.5, (gan_real)0.999);
    gan_tensor *y = discriminator(D, gan_randn(left_open, 5, 1, 8, 8));
    gan_minimize(opt, gan_bce_logits(y, 1));
}

static void harm_is_seen(int what, const char *device, const char *const says[3])
{
    harm = what;
    const char *message = message_of(compare_step, (void *)device);
    harm = RIGHT;
    CHECK(*message, "%s does not see harm %d", device, what);
    for (int i = 0; i < 3; i++)
        CHECK(strstr(message, says[i]), "%s, harm %d, does not show %s: %s", device, what, says[i],
              message);
    CHECK(!strncmp(message, "gan_conv2d \"conv2\": ", 20), "the layer: %s", message);
    gan_close(left_open);
}

static void test_compare_harm(void)
{
    static const char *const changed[] = {"mine's kernel conv2d", "changed its input 1",
                                          "(5,6,4,4)"};
    static const char *const behind[] = {"mine's kernel conv2d", "wrote behind its result 1", ""};
    static const char *const before[] = {"mine's kernel conv2d", "wrote before its result 1", ""};
    static const char *const twice[] = {"two runs of mine differ in kernel conv2d", "(0,4,0,1)",
                                        "which thread comes first"};
    gan_backend mine = *gan_find_backend("ref");
    mine.name = "mine";
    mine.conv2d = harmful_conv2d;
    CHECK(gan_register_backend(&mine), "%s", gan_error());
    static const char *const devices[] = {"compare:ref,mine", "compare:mine,ref"};
    for (int i = 0; i < 2 && !test_failed_now; i++) {
        harm_is_seen(CHANGES_INPUT, devices[i], changed);
        if (!test_failed_now)
            harm_is_seen(WRITES_BEHIND, devices[i], behind);
        if (!test_failed_now)
            harm_is_seen(WRITES_BEFORE, devices[i], before);
    }
    if (!test_failed_now)
        harm_is_seen(OTHER_EVERY_TIME, "compare:mine,mine", twice);
    if (test_failed_now)
        return;
    const char *message = message_of(compare_step, (void *)"compare:mine,mine");
    CHECK(!*message, "compare:mine,mine stops without a reason: %s", message);
    gan_close(left_open);
}

static void test_compare_backward(void)
{
    gan_backend mine = *gan_find_backend("cpu");
    mine.name = "mine";
    mine.conv2d_weight = wrong_conv2d_weight;
    CHECK(gan_register_backend(&mine), "%s", gan_error());
    const char *message = message_of(compare_step, (void *)"compare:ref,mine");
    CHECK(
        !strncmp(message, "gan_conv2d \"conv2\": ref and mine differ in kernel conv2d_weight", 62),
        "the message lacks layer or kernel: %s", message);
    CHECK(strstr(message, "in a derivative") && strstr(message, "2 of 768 elements"),
          "where, or how many: %s", message);
    CHECK(strstr(message, "first at (1,0,1,0)") && strstr(message, "the most at (2,0,2,0)"),
          "the coordinates: %s", message);
    gan_close(left_open);

    mine = *gan_find_backend("cpu");
    mine.name = "mine";
    mine.adam = wrong_adam;
    CHECK(gan_register_backend(&mine), "%s", gan_error());
    message = message_of(compare_step, (void *)"compare:ref,mine");
    CHECK(strstr(message, "kernel adam") && strstr(message, "(8,6,4,4), first at (0,2,3,3)"),
          "a wrong update: %s", message);
    gan_close(left_open);
}

/* ---- threads and processes ---- */

#ifndef _WIN32
#ifdef __SANITIZE_THREAD__
/* ThreadSanitizer ends a child of fork that makes threads, unless told otherwise. */
const char *__tsan_default_options(void);

const char *__tsan_default_options(void)
{
    return "die_after_fork=0";
}
#endif

/* A child of fork has no threads but the one that called it: its kernels must not wait for
   others. */
static void test_fork(void)
{
    static gan_real before[LEARNT], after[LEARNT];
    size_t n = train("cpu", 7, 3, before);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        alarm(60); /* a child that hangs is ended */
        train("cpu", 7, 3, after);
        _exit(memcmp(before, after, n * sizeof *after) != 0);
    }
    CHECK(child > 0, "no child");
    int status = 1;
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status), "the child hangs");
    CHECK(WEXITSTATUS(status) == 0, "the child learns other numbers");
    train("cpu", 7, 3, after);
    CHECK(!memcmp(before, after, n * sizeof *after), "the parent learns other numbers afterwards");
}
#endif

/* The number of threads that kernels without a device use is this thread's own setting. */
static void test_bare_threads(void)
{
    enum { COUNT = 300000 };

    static gan_real x[COUNT], one_thread[COUNT], many[COUNT];
    gan_map p = {GAN_TANH, COUNT, 0, 0};
    for (int i = 0; i < COUNT; i++)
        x[i] = (gan_real)(i % 1000 - 500) / 100;
    gan_set_threads(NULL, 1);
    gan_cpu_map(&p, x, one_thread);
    for (int threads = 2; threads <= 100; threads += 49) {
        gan_set_threads(NULL, threads);
        gan_cpu_map(&p, x, many);
        CHECK(!memcmp(one_thread, many, sizeof many), "%d threads give other bits", threads);
    }
    gan_set_threads(NULL, 0);
}

/* ---- arguments that are NULL ---- */

static const gan_mark no_mark = {0};
static gan *marked;

static void null_clear(void *unused)
{
    (void)unused;
    gan_clear(NULL);
}

static void null_clear_to(void *unused)
{
    (void)unused;
    gan_clear_to(NULL, no_mark);
}

static void null_here(void *unused)
{
    (void)unused;
    gan_here(NULL);
}

static void null_memory(void *unused)
{
    (void)unused;
    gan_memory(NULL, NULL);
}

static void null_name(void *unused)
{
    (void)unused;
    gan_find_backend(NULL);
}

static void null_backend(void *unused)
{
    (void)unused;
    gan_register_backend(NULL);
}

static void null_plan(void *unused)
{
    (void)unused;
    gan_plan(NULL, NULL, NULL);
}

static void null_capture(void *unused)
{
    (void)unused;
    gan_capture(NULL, NULL, NULL);
}

static void null_message(void *unused)
{
    (void)unused;
    gan_fail(NULL, NULL);
}

static void late_mark(void *unused)
{
    (void)unused;
    gan_zeros(marked, 1, 1, 1, 1);
    gan_mark mark = gan_here(marked);
    gan_clear(marked);
    gan_clear_to(marked, mark);
}

static void test_null(void)
{
    static const struct {
        void (*make)(void *);
        const char *message;
    } mistakes[] = {
        {null_clear, "gan_clear: the device is NULL"},
        {null_clear_to, "gan_clear_to: the device is NULL"},
        {null_here, "gan_here: the device is NULL"},
        {null_memory, "gan_memory: the device is NULL"},
        {null_name, "gan_find_backend: the name is NULL"},
        {null_backend, "gan_register_backend: the backend is NULL"},
        {null_plan, "gan_plan: the device is NULL"},
        {null_capture, "gan_capture: the device is NULL"},
        {null_message, "gan_fail: "},
        {late_mark, "gan_clear_to: the mark is of 1 tensors, 0 are there"},
    };

    marked = open_device("cpu", 1);
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        const char *message = message_of(mistakes[i].make, NULL);
        CHECK(!strncmp(message, mistakes[i].message, strlen(mistakes[i].message)),
              "%s expected, it says: %s", mistakes[i].message, message);
        CHECK(!strchr(message, '\n'), "more than one line: %s", message);
    }
    gan_close(marked);
}

int main(void)
{
    run("gan_clear", test_clear);
    run("gan_here, gan_clear_to", test_clear_to);
    run("no allocation and the same addresses", test_steady);
    run("same seed, same bits with 1, 2, 3 threads", test_same_bits);
#if !defined(_WIN32) && !defined(__TINYC__) /* tcc has no thread-local variables */
    run("two trainings in two threads", test_two_threads);
#endif
    run("two devices in one program", test_two_devices);
    run("gan_open's errors", test_open_errors);
    run("gan_register_backend's errors", test_register_errors);
    run("a mistake of a layer of one's own", test_fail);
    run("compare:ref,cpu", test_compare);
    run("compare lets roundings pass", test_compare_cancelling);
    run("compare finds a wrong kernel", test_compare_finds);
    run("compare sees changed inputs, stray writes and races", test_compare_harm);
    run("compare names the layer of a derivative", test_compare_backward);
#ifndef _WIN32
    run("a child of fork", test_fork);
#endif
    run("threads of bare kernels", test_bare_threads);
    run("arguments that are NULL", test_null);
    return finish();
}
