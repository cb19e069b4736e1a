/* tests/plan.c: a plan's peak is the run's, to the byte, and the run does not notice that there
   was a plan. */
#define _POSIX_C_SOURCE 200809L
#include "test.h"
#include <unistd.h>

typedef struct {
    gan_model *G, *D, *average;
    gan_opt *opt_g, *opt_d;
    gan_data *data;
    gan_progress *log;
    int kind, calls, channels;
    gan_real zero;
} net;

enum { DCGAN, WGAN_GP, EMA, KINDS };

static gan_tensor *generator(net *a, gan_tensor *z) /* (N,16,1,1) -> (N,1,28,28) */
{
    gan_tensor *x = gan_reshape(gan_linear(a->G, "fc", z, 8 * 7 * 7), -1, 8, 7, 7);
    if (a->kind != WGAN_GP)
        x = gan_batch_norm(a->G, "bn", x);
    x = gan_relu(gan_conv_transpose2d(a->G, "up1", gan_relu(x), 8, 4, 2, 1));
    return gan_tanh(gan_conv_transpose2d(a->G, "up2", x, 1, 4, 2, 1));
}

static gan_tensor *discriminator(net *a, gan_tensor *x) /* (N,1,28,28) -> (N,1,1,1) */
{
    x = gan_leaky_relu(gan_conv2d(a->D, "conv1", x, 8, 4, 2, 1), (gan_real)0.2);
    x = gan_leaky_relu(gan_conv2d(a->D, "conv2", x, a->channels, 4, 2, 1), (gan_real)0.2);
    return gan_linear(a->D, "fc", x, 1);
}

static gan_tensor *penalty(net *a, gan_tensor *real, gan_tensor *fake)
{
    gan_tensor *eps = gan_rand(a->G ? real->g : NULL, real->n, 1, 1, 1);
    gan_tensor *mix = gan_add(gan_mul(eps, real), gan_mul(gan_add_scalar(gan_neg(eps), 1), fake));
    gan_tensor *dx = gan_grad(gan_sum(discriminator(a, mix)), mix);
    gan_tensor *norm = gan_sqrt(gan_sum_to(gan_square(dx), real->n, 1, 1, 1));
    return gan_mean(gan_square(gan_add_scalar(norm, -1)));
}

static void one_step(gan *g, void *user)
{
    net *a = (net *)user;
    gan_tensor *real = gan_batch(a->data, 8, NULL);
    gan_tensor *fake = generator(a, gan_randn(g, 8, 16, 1, 1));
    gan_tensor *d_loss;
    gan_tensor *g_loss;
    gan_tensor *on_real = discriminator(a, real);
    gan_tensor *on_fake = discriminator(a, gan_detach(fake));
    a->calls++;
    if (a->kind == WGAN_GP)
        d_loss = gan_add(gan_sub(gan_mean(on_fake), gan_mean(on_real)),
                         gan_mul_scalar(penalty(a, real, gan_detach(fake)), 10));
    else
        d_loss = gan_add(gan_bce_logits(on_real, 1), gan_bce_logits(on_fake, 0));
    gan_minimize(a->opt_d, d_loss);
    g_loss = a->kind == WGAN_GP ? gan_neg(gan_mean(discriminator(a, fake)))
                                : gan_bce_logits(discriminator(a, fake), 1);
    gan_minimize(a->opt_g, g_loss);
    if (a->kind == EMA) {
        gan_ema(a->average, a->G, (gan_real)0.9);
        gan_set_lr(a->opt_g, (gan_real)1e-4);
    }
    a->zero = gan_item(d_loss);
    if (a->log)
        gan_progress_step(a->log, a->calls, (double)a->zero);
    gan_doctor(g, a->calls, 2, real, fake, NULL, NULL);
}

static gan *begin(net *a, int kind)
{
    gan *g = gan_open("cpu", 7);
    memset(a, 0, sizeof *a);
    a->kind = kind;
    a->channels = 16;
    a->G = gan_model_new(g, "G");
    a->D = gan_model_new(g, "D");
    a->average = gan_model_new(g, "average");
    a->opt_g = gan_adam(a->G, (gan_real)2e-3, (gan_real)0.5, (gan_real)0.99);
    a->opt_d = kind == EMA ? gan_sgd(a->D, (gan_real)0.01, (gan_real)0.9)
                           : gan_adam(a->D, (gan_real)2e-3, 0, (gan_real)0.99);
    a->data = gan_data_digits(g, 20); /* an epoch ends within the third batch */
    return g;
}

/* gan_plan with its table caught in a file instead of stdout. */
static char table[16384];

static size_t plan_quietly(gan *g, gan_step_fn *step, void *user)
{
    FILE *f = tmpfile();
    fflush(stdout);
    int out = dup(1);
    dup2(fileno(f), 1);
    size_t peak = gan_plan(g, step, user);
    fflush(stdout);
    dup2(out, 1);
    close(out);
    rewind(f);
    table[fread(table, 1, sizeof table - 1, f)] = 0;
    fclose(f);
    return peak;
}

static void steps(gan *g, net *a, int count)
{
    for (int i = 0; i < count; i++) {
        one_step(g, a);
        gan_clear(g);
    }
}

/* All numbers of all models, one after the other. */
static size_t everything(net *a, gan_real *out)
{
    static const char *const names[] = {"fc.weight",       "fc.bias",        "bn.weight",
                                        "bn.running_mean", "bn.running_var", "up1.weight",
                                        "up2.weight",      "conv1.weight",   "conv2.weight"};
    gan_model *models[3] = {a->G, a->D, a->average};
    size_t n = 0;
    for (int m = 0; m < 3; m++)
        for (int i = 0; i < 9; i++) {
            gan_tensor *p = gan_find_param(models[m], names[i]);
            if (p) {
                gan_to_host(p, out + n);
                n += gan_count(p);
            }
        }
    return n;
}

static gan_real with[200000], without[200000];

/* For each kind of training: the peak before any step, and planned again in the middle; then the
   numbers with and without the plans. */
static void equal(int kind)
{
    net a, b;
    gan *g = begin(&a, kind), *h = begin(&b, kind);
    size_t peak;
    size_t again;
    size_t held = gan_memory(g, NULL);
    size_t planned = plan_quietly(g, one_step, &a);
    CHECK(gan_memory(g, &peak) == held && peak == planned,
          "kind %d: %zu bytes held before, %zu after, peak %zu of %zu", kind, held,
          gan_memory(g, NULL), peak, planned);
    CHECK(a.calls == 2 && a.zero == 0, "kind %d: %d calls, loss %g", kind, a.calls, (double)a.zero);
    CHECK(gan_find_param(a.G, "fc.weight") == NULL && gan_param_count(a.D) == 0 &&
              gan_find_param(a.average, "fc.weight") == NULL,
          "kind %d: parameters are left", kind);
    steps(h, &b, 4);
    gan_memory(h, &peak);
    CHECK(peak == planned, "kind %d: planned %zu bytes, used %zu", kind, planned, peak);
    steps(g, &a, 2);
    again = plan_quietly(g, one_step, &a);
    CHECK(again == planned, "kind %d: planned %zu bytes, in the middle %zu", kind, planned, again);
    steps(g, &a, 2);
    gan_memory(g, &peak);
    CHECK(peak == planned, "kind %d: planned %zu bytes, then used %zu", kind, planned, peak);
    size_t n = everything(&a, with), m = everything(&b, without);
    CHECK(n == m && n > 10000 && memcmp(with, without, n * sizeof *with) == 0,
          "kind %d: the plan shows in the training", kind);
    CHECK(gan_memory(g, NULL) == gan_memory(h, NULL), "kind %d: memory is left", kind);
    gan_close(g);
    gan_close(h);
}

static void dcgan(void)
{
    equal(DCGAN);
}

static void wgan_gp(void)
{
    equal(WGAN_GP);
}

static void ema(void)
{
    equal(EMA);
}

/* Multiply-adds and parameters against the formulas, for rows that anyone can work out. */
static void the_table(void)
{
    static const char *const rows[] = {"D gan_conv2d \"conv1\"", "D gan_linear \"fc\"",
                                       "G gan_conv_transpose2d \"up1\"", "G gan_batch_norm \"bn\"",
                                       "G adam"};
    static const char *const shapes[] = {"(8,8,14,14)", "(8,1,1,1)", "(8,8,14,14)", "(8,8,7,7)",
                                         "kernels"};
    const int g_params = 16 * 392 + 392 + 16 + 8 * 8 * 16 + 8 + 8 * 16 + 1;
    const double params[] = {8 * 16 + 8, 16 * 49 + 1, 8 * 8 * 16 + 8, 16, g_params};
    const double adds[] = {8.0 * 8 * 14 * 14 * 16, 8.0 * 16 * 49, 8.0 * 8 * 49 * 8 * 16, 0, 0};
    net a;
    gan *g = begin(&a, DCGAN);
    size_t peak = plan_quietly(g, one_step, &a);
    for (int i = 0; i < 5; i++) {
        double p = 0, m = 0, kib = 0, held = 0;
        char shape[32] = "";
        const char *row = strstr(table, rows[i]);
        CHECK(row && row[strlen(rows[i])] == ' ', "no row %s in\n%s", rows[i], table);
        row += strlen(rows[i]);
        if (i == 4)
            row += strspn(row, " 0123456789");
        CHECK(sscanf(row, "%31s %lf %lf %lf %lf", shape, &p, &m, &kib, &held) == 5, "row %s: %s",
              rows[i], table);
        CHECK(strcmp(shape, shapes[i]) == 0 && p == params[i] && m == adds[i],
              "%s: %s, %.0f parameters, %.0f multiply-adds; %s, %.0f, %.0f are right", rows[i],
              shape, p, m, shapes[i], params[i], adds[i]);
        CHECK(held * 1024 <= (double)peak + 100 && held > 0, "%s: %g KiB held", rows[i], held);
    }
    CHECK(strstr(table, "gan_backward") && strstr(table, "total, peak") && strstr(table, "its KiB"),
          "the table: %s", table);
    gan_close(g);
}

static char csv[512];

static void files(void)
{
    net a;
    gan *g = begin(&a, DCGAN);
    char text[256] = "";
    a.log = gan_progress_open(g, csv, "D", 0, 1000000, 8);
    CHECK(a.log, "%s", gan_error());
    plan_quietly(g, one_step, &a);
    gan_close(g);
    FILE *f = fopen(csv, "rb");
    CHECK(f, "no log");
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    remove(csv);
    CHECK(strcmp(text, "step,D\n") == 0, "the plan wrote to the log: %s", text);
}

/* A device that cannot record calls the step each time. What a device that can does is
   tests/cuda/cuda.c's. */
static void capture(void)
{
    net a, b;
    gan *g = begin(&a, DCGAN), *h = begin(&b, DCGAN);
    for (int i = 0; i < 5; i++)
        gan_capture(g, one_step, &a);
    steps(h, &b, 5);
    CHECK(a.calls == 5 && gan_item(gan_add_scalar(gan_zeros(g, 1, 1, 1, 1), a.zero)) == b.zero,
          "%d calls, losses %.9g and %.9g", a.calls, (double)a.zero, (double)b.zero);
    size_t n = everything(&a, with), m = everything(&b, without);
    CHECK(n == m && memcmp(with, without, n * sizeof *with) == 0,
          "the bits of the training are others");
    gan_close(g);
    gan_close(h);
}

static void misfit(gan *g, void *user)
{
    net *a = (net *)user;
    generator(a, gan_randn(g, 8, 16, 1, 1));
    if (a->calls++ % 2 == 0)
        gan_add(discriminator(a, gan_zeros(g, 2, 1, 28, 28)), gan_zeros(g, 3, 1, 1, 1));
}

static void makes_model(gan *g, void *user)
{
    (void)user;
    gan_model_new(g, "late");
}

static void null_tensor(gan *g, void *user)
{
    generator((net *)user, gan_randn(g, 8, 16, 1, 1));
    gan_add(NULL, NULL);
}

static void nested(gan *g, void *user)
{
    gan_plan(g, nested, user);
}

static void captures(gan *g, void *user)
{
    gan_capture(g, nested, user);
}

static gan *on;
static net *of;

static void plan_misfit(void *f)
{
    gan_plan(on, f == (void *)of ? misfit : null_tensor, of);
}

static void plan_late(void *f)
{
    (void)f;
    gan_plan(on, makes_model, of);
}

static void plan_nested(void *f)
{
    (void)f;
    gan_plan(on, nested, of);
}

static void plan_capture(void *f)
{
    (void)f;
    gan_plan(on, captures, of);
}

static void plan_waiting(void *f)
{
    (void)f;
    gan_backward(gan_sum(generator(of, gan_randn(on, 8, 16, 1, 1))), of->G);
    gan_plan(on, one_step, of);
}

/* A step that does not fit says so as it would in the run, and leaves nothing behind. */
static void mistakes(void)
{
    net a, b;
    gan *h = begin(&b, DCGAN);
    steps(h, &b, 2);
    on = begin(&a, DCGAN);
    of = &a;
    CHECK(
        strcmp(
            message_of(plan_misfit, &a),
            "gan_add: (2,1,1,1) and (3,1,1,1): each size must be the same in both, or 1 in one") ==
            0,
        "%s", test_message);
    CHECK(gan_find_param(a.G, "fc.weight") == NULL, "a parameter without numbers is left");
    gan_clear(on);
    CHECK(strstr(message_of(plan_misfit, NULL), "a tensor is NULL"), "%s", test_message);
    CHECK(strstr(message_of(plan_late, NULL), "made before gan_plan"), "%s", test_message);
    CHECK(strstr(message_of(plan_nested, NULL), "inside of a plan"), "%s", test_message);
    CHECK(strstr(message_of(plan_capture, NULL), "gan_capture: it was called inside of a plan"),
          "%s", test_message);
    gan_clear(on);
    steps(on, &a, 2);
    size_t n = everything(&a, with), m = everything(&b, without);
    CHECK(n == m && memcmp(with, without, n * sizeof *with) == 0,
          "the failed plans show in the training");
    CHECK(strstr(message_of(plan_waiting, NULL), "still waits for gan_step"), "%s", test_message);
    gan_close(on);
    gan_close(h);
}

int main(int argc, char **argv)
{
    (void)argc;
    snprintf(csv, sizeof csv, "%.400s.csv", argv[0]);
    run("a DCGAN step with Adam: the peak, and the same bits", dcgan);
    run("a WGAN-GP step, differentiated twice", wgan_gp);
    run("a step with batch norm, SGD and a moving average", ema);
    run("the table", the_table);
    run("a plan writes no log", files);
    run("a capture where nothing can be recorded", capture);
    run("mistakes in a plan", mistakes);
    return finish();
}
