/* tests/autograd.c: what the tape promises - gradients only along the paths that are asked for -
   and the errors of shapes.

       cc -O2 tests/autograd.c -o autograd -lm && ./autograd */

#include "test.h"

static gan *open_device(const char *device, uint64_t seed)
{
    gan *g = gan_open(device, seed);
    if (!g) {
        printf("FAIL %s: %s\n", test_name, gan_error());
        exit(1);
    }
    return g;
}

/* A tensor of one number. */
static gan_tensor *one(gan *g, double value)
{
    return gan_full(g, (gan_real)value, 1, 1, 1, 1);
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

enum { LEARNT = 5000 }; /* room for the gradients of D */

/* ---- gradients ---- */

static void test_twice(void)
{
    gan *g = open_device("cpu", 1);
    gan_tensor *x = one(g, 3);
    double once = item(gan_grad(gan_tanh(x), x));
    double twice = item(gan_grad(gan_add(gan_tanh(x), gan_tanh(x)), x));
    gan_tensor *shared = gan_tanh(x);
    CHECK(once != 0, "the gradient of tanh at 3 is 0");
    CHECK(twice == 2 * once, "used twice: %g, want %g", twice, 2 * once);
    CHECK(item(gan_grad(gan_add(shared, shared), x)) == 2 * once, "one result used twice");
    CHECK(item(gan_grad(gan_mul(x, x), x)) == 6, "d(x*x)/dx at 3 is %g",
          item(gan_grad(gan_mul(x, x), x)));
    CHECK(item(gan_grad(x, x)) == 1, "dx/dx is %g", item(gan_grad(x, x)));
    gan_close(g);
}

/* 2^40 paths lead from y to x: the gradient must be found by visiting each tensor once. */
static void test_many_paths(void)
{
    gan *g = open_device("cpu", 1);
    gan_tensor *x = one(g, 1), *y = x;
    for (int i = 0; i < 40; i++)
        y = gan_add(y, y);
    CHECK(item(gan_grad(y, x)) == 1099511627776.0, "2^40 paths: %g", item(gan_grad(y, x)));
    gan_close(g);
}

/* A long tape must not need a deep stack. */
static void test_long_tape(void)
{
    gan *g = open_device("cpu", 1);
    gan_tensor *x = one(g, 1), *y = x;
    for (int i = 0; i < 100000; i++)
        y = gan_add_scalar(y, 1);
    CHECK(item(gan_grad(y, x)) == 1, "100,000 additions: %g", item(gan_grad(y, x)));
    gan_close(g);
}

static void test_zeros(void)
{
    gan *g = open_device("cpu", 1);
    gan_tensor *x = gan_randn(g, 2, 3, 1, 2);
    gan_tensor *z = gan_randn(g, 2, 3, 1, 2);
    gan_tensor *dx = gan_grad(gan_sum(gan_square(z)), x);
    gan_real values[12];
    CHECK(dx && dx->n == 2 && dx->c == 3 && dx->h == 1 && dx->w == 2,
          "the gradient has not x's shape");
    gan_to_host(dx, values);
    for (int i = 0; i < 12; i++)
        CHECK(values[i] == 0, "y does not depend on x, but gradient %d is %g", i,
              (double)values[i]);
    dx = gan_grad(gan_sum(gan_mul_scalar(x, 2)), x); /* dx does not depend on x: zeros once more */
    CHECK(item(gan_sum(dx)) == 24, "the sum of twelve 2s is %g", item(gan_sum(dx)));
    CHECK(item(gan_sum(gan_abs(gan_grad(gan_sum(dx), x)))) == 0, "a constant's gradient");
    gan_close(g);
}

static void test_third_order(void)
{
    gan *g = open_device("cpu", 1);
    gan_tensor *x = one(g, 2), *d = gan_square(gan_square(x)); /* x^4: 4x^3, 12x^2, 24x */
    static const double want[] = {32, 48, 48, 24, 0};
    for (int i = 0; i < 5; i++) {
        d = gan_grad(d, x);
        CHECK(item(d) == want[i], "derivative %d of x^4 at 2 is %g, want %g", i + 1, item(d),
              want[i]);
    }
    gan_close(g);
}

static void test_detach(void)
{
    gan *g = open_device("cpu", 1);
    gan_tensor *x = one(g, 3), *square = gan_square(x);
    CHECK(item(gan_detach(square)) == 9, "detach changes the number");
    CHECK(item(gan_grad(gan_detach(square), x)) == 0, "a gradient flows through detach");
    CHECK(item(gan_grad(gan_mul(x, gan_detach(square)), x)) == 9, "x * detach(x^2): %g, want 9",
          item(gan_grad(gan_mul(x, gan_detach(square)), x)));
    gan_close(g);
}

static void test_in_place(void)
{
    gan *g = open_device("cpu", 1);
    gan_real values[4] = {-2, -1, 1, 2}, got[4];
    gan_tensor *x = gan_from_host(g, values, 1, 1, 1, 4);
    gan_tensor *y = gan_mul_scalar(x, 3);
    gan_real *place = y->data;
    y = gan_relu_(y);
    CHECK(y->data == place, "relu_ moved the numbers");
    gan_to_host(y, got);
    CHECK(got[0] == 0 && got[1] == 0 && got[2] == 3 && got[3] == 6, "relu_: %g %g %g %g",
          (double)got[0], (double)got[1], (double)got[2], (double)got[3]);
    gan_to_host(gan_grad(gan_sum(y), x), got);
    CHECK(got[0] == 0 && got[1] == 0 && got[2] == 3 && got[3] == 3, "its gradient: %g %g %g %g",
          (double)got[0], (double)got[1], (double)got[2], (double)got[3]);
    gan_close(g);
}

/* What the header promises where there is no derivative. */
static void test_kinks(void)
{
    gan *g = open_device("cpu", 1);
    gan_tensor *zero = one(g, 0), *half = one(g, 0.5);
    CHECK(item(gan_grad(gan_relu(zero), zero)) == 0, "relu's derivative at 0 is %g",
          item(gan_grad(gan_relu(zero), zero)));
    CHECK(item(gan_grad(gan_leaky_relu(zero, (gan_real)0.25), zero)) == 0.25,
          "leaky_relu's derivative at 0");
    CHECK(item(gan_grad(gan_abs(zero), zero)) == 0, "abs's derivative at 0 is %g",
          item(gan_grad(gan_abs(zero), zero)));
    CHECK(item(gan_grad(gan_clamp(half, (gan_real)0.5, 1), half)) == 1,
          "clamp's derivative at its lower end");
    CHECK(item(gan_grad(gan_clamp(half, -1, (gan_real)0.5), half)) == 1,
          "clamp's derivative at its upper end");
    CHECK(item(gan_grad(gan_clamp(zero, (gan_real)0.5, 1), zero)) == 0,
          "clamp's derivative outside");
    CHECK(item(gan_grad(gan_sqrt(zero), zero)) == INFINITY, "sqrt's derivative at 0 is %g",
          item(gan_grad(gan_sqrt(zero), zero)));
    gan_close(g);
}

static void test_param_grad(void)
{
    gan *g = open_device("cpu", 1);
    gan_model *m = gan_model_new(g, "m");
    gan_opt *sgd = gan_sgd(m, (gan_real)0.5, 0);
    gan_real start = 4;
    gan_tensor *p = gan_param(m, "p", 1, 1, 1, 1);
    gan_set(p, &start);
    CHECK(item(gan_param_grad(p)) == 0, "a gradient before gan_backward: %g",
          item(gan_param_grad(p)));
    gan_backward(gan_square(p), m);
    CHECK(item(gan_param_grad(p)) == 8, "d(p^2) at 4: %g", item(gan_param_grad(p)));
    gan_clear(g); /* gradients outlive a clear: large batches are summed up in parts */
    gan_backward(gan_mul_scalar(p, 3), m);
    CHECK(item(gan_param_grad(p)) == 11, "two gan_backward: %g, want 8 + 3",
          item(gan_param_grad(p)));
    gan_step(sgd);
    CHECK(item(p) == 4 - 0.5 * 11, "after the step: %g", item(p));
    CHECK(item(gan_param_grad(p)) == 0, "the gradient is still there after gan_step: %g",
          item(gan_param_grad(p)));
    gan_step(sgd); /* nothing to do */
    CHECK(item(p) == 4 - 0.5 * 11, "a step without a gradient moved the parameter to %g", item(p));
    gan_close(g);
}

/* gan_backward frees and overwrites gradients on its way, gan_grad keeps all: the parameters'
   must be the same. With one image a bias's gradient is the output's own. */
static void test_backward_is_grad(void)
{
    for (int images = 1; images <= 3; images++) {
        gan *g = gan_open("cpu", 3);
        gan_model *m = gan_model_new(g, "m");
        gan_tensor *x = gan_randn(g, images, 2, 5, 5);
        gan_tensor *scale = gan_param(m, "scale", 1, 4, 1, 1);
        gan_tensor *y = gan_relu_(gan_batch_norm(m, "bn", gan_conv2d(m, "conv", x, 3, 3, 2, 1)));
        y = gan_linear(m, "fc", y, 4);
        y = gan_add(gan_mul(y, scale), gan_add(y, scale));
        gan_tensor *loss = gan_sum(gan_square(gan_linear(m, "last", y, 4)));
        static const char *const names[] = {"scale",     "conv.weight", "conv.bias",
                                            "bn.weight", "bn.bias",     "fc.weight",
                                            "fc.bias",   "last.weight", "last.bias"};
        gan_backward(loss, m);
        for (int i = 0; i < 9; i++) {
            gan_tensor *param = gan_find_param(m, names[i]);
            gan_real a[128], b[128];
            gan_to_host(gan_param_grad(param), a);
            gan_to_host(gan_grad(loss, param), b);
            double size = 0, error = 0;
            for (size_t k = 0; k < gan_count(param); k++) {
                error += fabs((double)a[k] - (double)b[k]);
                size += fabs((double)b[k]);
            }
            /* The two take other ways through batch norm: some 100 roundings of 6e-8. A bias
               before batch norm has no gradient but these. */
            CHECK(error <= 1e-5 * size || (i == 2 && error <= 1e-3),
                  "%d images, %s: gan_backward and gan_grad differ by %g of %g", images, names[i],
                  error, size);
        }
        gan_close(g);
    }
}

/* WGAN-GP's penalty of D at x. */
static gan_tensor *gradient_penalty(gan_model *D, gan_tensor *x)
{
    gan_tensor *dx = gan_grad(gan_sum(discriminator(D, x)), x);
    gan_tensor *length = gan_sqrt(gan_sum_to(gan_square(dx), x->n, 1, 1, 1));
    return gan_mean(gan_square(gan_add_scalar(length, -1)));
}

/* D's gradients one after the other, from gan_grad or as gan_backward left them. */
static size_t gradients_of(gan_model *D, gan_tensor *loss, bool left, gan_real *all)
{
    static const char *const names[] = {"conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias",
                                        "bn2.weight",   "bn2.bias",   "fc.weight",    "fc.bias"};
    size_t n = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        gan_tensor *p = gan_find_param(D, names[i]);
        gan_tensor *gradient = left ? gan_param_grad(p) : gan_grad(loss, p);
        gan_to_host(gradient, all + n);
        n += gan_count(gradient);
    }
    return n;
}

/* The same through a penalty's second derivatives, and twice: nothing that the program holds may
   have changed after the first. */
static void test_backward_twice(void)
{
    static gan_real want[LEARNT], got[LEARNT], before[320], after[320];
    for (int which = 0; which < 4; which++) {
        gan *g = open_device("cpu", 1);
        gan_model *D = gan_model_new(g, "D");
        gan_tensor *x = gan_tanh(gan_randn(g, 5, 1, 8, 8));
        gan_tensor *y = discriminator(D, x);
        gan_tensor *loss = gan_bce_logits(y, 1);
        if (which == 1)
            loss = gradient_penalty(D, x);
        if (which == 2)
            loss = gan_add(gan_add(loss, gan_bce_logits(y, 0)),
                           gan_mul_scalar(gradient_penalty(D, x), 10)); /* y used twice */
        if (which == 3)
            loss = gan_mean(gan_add(gan_tanh(y), gan_sigmoid(discriminator(
                                                     D, gan_neg(x))))); /* both get one gradient */
        gan_real value = gan_item(loss);
        size_t n = gradients_of(D, loss, false, want);
        gan_to_host(x, before);
        for (int times = 1; times <= 2;
             times++) { /* the second time on the same tape, added to the first */
            gan_backward(loss, D);
            gradients_of(D, loss, true, got);
            for (size_t i = 0; i < n; i++)
                got[i] /= (gan_real)times;
            CHECK(rel_error(got, want, n) <= 1e-5,
                  "loss %d: gan_backward and gan_grad are %g apart", which,
                  rel_error(got, want, n)); /* sums in another order */
        }
        gan_to_host(x, after);
        gradients_of(D, loss, false, got);
        CHECK(!memcmp(before, after, sizeof before) && gan_item(loss) == value,
              "loss %d: gan_backward changed a tensor", which);
        CHECK(!memcmp(got, want, n * sizeof *got),
              "loss %d: gan_grad gives other numbers after gan_backward", which);
        gan_close(g);
    }
}

/* ---- nothing that is not asked for: counted in a backend ---- */

static int weight_calls, data_calls, product_calls;

static void counting_conv2d_weight(const gan_conv *p, const gan_real *a, const gan_real *b,
                                   gan_real *y)
{
    weight_calls++;
    gan_ref_conv2d_weight(p, a, b, y);
}

static void counting_conv_transpose2d(const gan_conv *p, const gan_real *a, const gan_real *b,
                                      gan_real *y)
{
    data_calls++;
    gan_ref_conv_transpose2d(p, a, b, y);
}

static void counting_matmul(const gan_product *p, const gan_real *a, const gan_real *b, gan_real *y)
{
    product_calls++;
    gan_ref_matmul(p, a, b, y);
}

static void test_only_what_is_asked(void)
{
    gan_backend b = *gan_find_backend("ref");
    b.name = "counting";
    b.conv2d_weight = counting_conv2d_weight;
    b.conv_transpose2d = counting_conv_transpose2d;
    b.matmul = counting_matmul;
    CHECK(gan_register_backend(&b), "%s", gan_error());
    gan *g = open_device("counting", 1);
    gan_model *G = gan_model_new(g, "G"), *D = gan_model_new(g, "D");
    gan_opt *opt_g = gan_adam(G, (gan_real)1e-3, (gan_real)0.5, (gan_real)0.999);
    gan_opt *opt_d = gan_adam(D, (gan_real)1e-3, (gan_real)0.5, (gan_real)0.999);

    gan_tensor *fake = gan_reshape(gan_linear(G, "fc", gan_randn(g, 3, 10, 1, 1), 64), -1, 1, 8,
                                   8); /* no convolution in this generator */
    gan_tensor *d_loss = gan_bce_logits(discriminator(D, gan_detach(fake)), 0);
    weight_calls = data_calls = product_calls = 0;
    gan_minimize(opt_d, d_loss);
    CHECK(weight_calls == 2, "D's step: %d weight gradients of convolutions, it has 2",
          weight_calls);
    CHECK(data_calls == 1, "D's step: %d data gradients, conv2's is the one needed", data_calls);
    CHECK(product_calls == 2, "D's step: %d products for fc, want 2", product_calls);

    gan_tensor *g_loss = gan_bce_logits(discriminator(D, fake), 1);
    weight_calls = data_calls = product_calls = 0;
    gan_minimize(opt_g, g_loss);
    CHECK(weight_calls == 0, "G's step computes %d weight gradients of D", weight_calls);
    CHECK(data_calls == 2, "G's step: %d data gradients of D, it has 2", data_calls);
    CHECK(product_calls == 2, "G's step: %d products, want D's fc in x and G's fc in its weight",
          product_calls);
    CHECK(item(gan_sum(gan_abs(gan_param_grad(gan_find_param(D, "conv1.weight"))))) == 0,
          "G's step left a gradient in D");
    gan_close(g);
}

/* ---- gan_ema ---- */

static void test_ema(void)
{
    gan *g = open_device("cpu", 1);
    gan_model *m = gan_model_new(g, "m");
    gan_model *average = gan_model_new(g, "average");
    gan_real a = 8, b = 0, got[2];
    gan_tensor *p = gan_param(m, "p", 1, 1, 1, 1), *q;
    gan_set(p, &a);
    gan_ema(average, m, (gan_real)0.75);
    q = gan_find_param(average, "p");
    CHECK(q && q != p && item(q) == 8, "what the average lacks is not copied");
    CHECK(!strcmp(gan_param_name(average, 0), "p") && !gan_param_name(average, 1) &&
              !gan_param_name(average, -1),
          "gan_param_name does not go through the parameters");
    gan_set(p, &b);
    gan_ema(average, m, (gan_real)0.75);
    CHECK(item(q) == 6, "0.75*8 + 0.25*0 is %g", item(q));
    CHECK(item(p) == 0, "gan_ema changed the model");

    gan_batch_norm(m, "bn", gan_add_scalar(gan_randn(g, 8, 2, 3, 3), 5));
    gan_ema(average, m, (gan_real)0.75);
    gan_batch_norm(m, "bn", gan_add_scalar(gan_randn(g, 8, 2, 3, 3), 5));
    gan_ema(average, m, (gan_real)0.75);
    gan_real want[2];
    gan_to_host(gan_find_param(m, "bn.running_mean"), want);
    gan_to_host(gan_find_param(average, "bn.running_mean"), got);
    CHECK(want[0] > 0.5 && got[0] == want[0] && got[1] == want[1],
          "running statistics are not copied: %g, want %g", (double)got[0], (double)want[0]);
    gan_close(g);
}

/* ---- mistakes ---- */

static gan *left_open;
static gan *here; /* the device of the mistakes; it works on after each */

#define MISTAKE(name, ...)      \
    static void name(void *arg) \
    {                           \
        gan *g = here;          \
        (void)arg;              \
        (void)g;                \
        __VA_ARGS__;            \
    }

MISTAKE(wrong_channels, {
    gan_model *D = gan_model_new(g, "D");
    gan_conv2d(D, "conv2", gan_zeros(g, 1, 64, 8, 8), 128, 4, 2, 1);
    gan_conv2d(D, "conv2", gan_zeros(g, 64, 3, 28, 28), 128, 4, 2, 1);
})
MISTAKE(large_kernel, gan_conv2d(gan_model_new(g, "D"), "c", gan_zeros(g, 1, 2, 5, 5), 3, 8, 1, 1))
MISTAKE(high_kernel,
        gan_conv2d_f(gan_zeros(g, 1, 2, 5, 5), gan_zeros(g, 3, 2, 6, 1), NULL, 1, 0, 1))
MISTAKE(wide_kernel,
        gan_conv2d_f(gan_zeros(g, 1, 2, 5, 5), gan_zeros(g, 3, 2, 1, 6), NULL, 2, 0, 1))
MISTAKE(no_groups, gan_conv2d_f(gan_zeros(g, 1, 3, 5, 5), gan_zeros(g, 4, 1, 3, 3), NULL, 1, 1, 2))
MISTAKE(bad_bias, gan_conv2d_f(gan_zeros(g, 1, 3, 5, 5), gan_zeros(g, 4, 3, 3, 3),
                               gan_zeros(g, 1, 3, 1, 1), 1, 1, 1))
MISTAKE(transpose_channels, gan_conv_transpose2d_f(gan_zeros(g, 1, 3, 5, 5),
                                                   gan_zeros(g, 4, 3, 3, 3), NULL, 1, 1, 0, 1))
MISTAKE(large_output_pad, gan_conv_transpose2d_f(gan_zeros(g, 1, 3, 5, 5), gan_zeros(g, 3, 4, 3, 3),
                                                 NULL, 2, 1, 2, 1))
MISTAKE(no_broadcast, gan_add(gan_zeros(g, 2, 3, 4, 5), gan_zeros(g, 2, 3, 4, 6)))
MISTAKE(bad_reshape, gan_reshape(gan_zeros(g, 2, 3, 4, 5), -1, 7, 1, 1))
MISTAKE(bad_permute, gan_permute(gan_zeros(g, 2, 3, 4, 5), 0, 1, 1, 3))
MISTAKE(bad_slice, gan_slice(gan_zeros(g, 2, 3, 4, 5), 1, 2, 2))
MISTAKE(bad_concat, gan_concat(gan_zeros(g, 2, 3, 4, 5), gan_zeros(g, 2, 3, 4, 6), 1))
MISTAKE(bad_expand, gan_expand(gan_zeros(g, 2, 3, 1, 5), 2, 4, 4, 5))
MISTAKE(bad_sum_to, gan_sum_to(gan_zeros(g, 2, 3, 4, 5), 1, 2, 1, 1))
MISTAKE(bad_matmul, gan_matmul(gan_zeros(g, 1, 1, 2, 3), gan_zeros(g, 1, 1, 4, 5)))
MISTAKE(large_weight,
        gan_conv2d_weight(gan_zeros(g, 1, 1, 3, 3), gan_zeros(g, 1, 1, 1, 1), 4, 4, 2, 0, 1))
MISTAKE(no_device, gan_open(NULL, 1))
MISTAKE(bad_batch, gan_matmul(gan_zeros(g, 2, 1, 2, 3), gan_zeros(g, 3, 1, 3, 5)))
MISTAKE(bad_channels, gan_matmul(gan_zeros(g, 1, 2, 2, 3), gan_zeros(g, 1, 3, 3, 5)))
MISTAKE(bad_linear, gan_linear_f(gan_zeros(g, 2, 3, 1, 1), gan_zeros(g, 4, 5, 1, 1), NULL))
MISTAKE(no_item, gan_item(gan_zeros(g, 1, 2, 1, 1)))
MISTAKE(one_value, gan_batch_norm(gan_model_new(g, "m"), "bn", gan_zeros(g, 1, 3, 1, 1)))
MISTAKE(other_shape, {
    gan_model *m = gan_model_new(g, "m");
    gan_param(m, "p", 1, 2, 1, 1);
    gan_param(m, "p", 1, 3, 1, 1);
})
MISTAKE(no_tensor, gan_relu(NULL))
MISTAKE(empty, gan_zeros(g, 1, 0, 2, 2))
MISTAKE(of_a_leaf, gan_relu_(gan_zeros(g, 1, 2, 1, 1)))
MISTAKE(of_a_used_one, {
    gan_tensor *x = gan_neg(gan_zeros(g, 1, 2, 1, 1));
    gan_square(x);
    gan_relu_(x);
})
MISTAKE(of_a_needed_one, gan_relu_(gan_tanh(gan_zeros(g, 1, 2, 1, 1))))
MISTAKE(overwritten, {
    gan_tensor *x = gan_neg(gan_zeros(g, 1, 2, 1, 1));
    gan_relu_(x);
    gan_square(x);
})
MISTAKE(large_loss, {
    gan_model *m = gan_model_new(g, "m");
    gan_backward(gan_param(m, "p", 1, 2, 1, 1), m);
})
MISTAKE(two_devices, {
    gan *other = gan_open("ref", 1);
    left_open = other;
    gan_add(gan_zeros(g, 1, 1, 1, 1), gan_zeros(other, 1, 1, 1, 1));
})

static void test_example_message(void)
{
    static const char want[] =
        "gan_conv2d \"conv2\": input (64,3,28,28) has 3 channels, the weight (128,64,4,4) wants 64";
    here = open_device("cpu", 1);
    const char *message = message_of(wrong_channels, NULL);
    CHECK(!strcmp(message, want), "the message is: %s", message);
    CHECK(!strcmp(gan_error(), want), "gan_error() is: %s", gan_error());
    gan_close(here);
}

static void test_mistakes(void)
{
    static const struct {
        void (*make)(void *);
        const char *says[3];
    } mistakes[] = {
        /* the function, and what the message shows */
        {large_kernel, {"gan_conv2d \"c\"", "(1,2,5,5)", "8"}},
        {high_kernel, {"gan_conv2d_f", "6x1", "(1,2,5,5)"}},
        {wide_kernel, {"gan_conv2d_f", "1x6", "(1,2,5,5)"}},
        {no_groups, {"gan_conv2d_f", "(1,3,5,5)", "2"}},
        {bad_bias, {"gan_conv2d_f", "(1,3,1,1)", "(1,4,1,1)"}},
        {transpose_channels, {"gan_conv_transpose2d_f", "(1,3,5,5)", "(4,3,3,3)"}},
        {large_output_pad, {"gan_conv_transpose2d_f", "2", ""}},
        {no_broadcast, {"gan_add", "(2,3,4,5)", "(2,3,4,6)"}},
        {bad_reshape, {"gan_reshape", "(2,3,4,5)", "7"}},
        {bad_permute, {"gan_permute", "1", ""}},
        {bad_slice, {"gan_slice", "(2,3,4,5)", "2"}},
        {bad_concat, {"gan_concat", "(2,3,4,5)", "(2,3,4,6)"}},
        {bad_expand, {"gan_expand", "(2,3,1,5)", "(2,4,4,5)"}},
        {bad_sum_to, {"gan_sum_to", "(2,3,4,5)", "(1,2,1,1)"}},
        {bad_matmul, {"gan_matmul", "(1,1,2,3)", "(1,1,4,5)"}},
        {large_weight, {"gan_conv2d_weight", "(1,1,3,3)", "4x4"}},
        {no_device, {"gan_open", "NULL", ""}},
        {bad_batch, {"gan_matmul", "(2,1,2,3)", "(3,1,3,5)"}},
        {bad_channels, {"gan_matmul", "(1,2,2,3)", "(1,3,3,5)"}},
        {bad_linear, {"gan_linear_f", "(2,3,1,1)", "(4,5,1,1)"}},
        {no_item, {"gan_item", "(1,2,1,1)", ""}},
        {one_value, {"gan_batch_norm \"bn\"", "(1,3,1,1)", ""}},
        {other_shape, {"gan_param", "\"p\"", "(1,3,1,1)"}},
        {no_tensor, {"gan_relu", "NULL", ""}},
        {empty, {"gan_zeros", "(1,0,2,2)", ""}},
        {of_a_leaf, {"gan_relu_", "", ""}},
        {of_a_used_one, {"gan_relu_", "", ""}},
        {of_a_needed_one, {"gan_relu_", "gan_tanh", ""}},
        {overwritten, {"gan_square", "", ""}},
        {large_loss, {"gan_backward", "(1,2,1,1)", ""}},
    };

    here = open_device("cpu", 1);
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        const char *message = message_of(mistakes[i].make, NULL);
        CHECK(*message, "mistake %d (%s) is let through", (int)i, mistakes[i].says[0]);
        CHECK(!strncmp(message, mistakes[i].says[0], strlen(mistakes[i].says[0])),
              "mistake %d (%s): the message begins otherwise: %s", (int)i, mistakes[i].says[0],
              message);
        for (int k = 1; k < 3; k++)
            CHECK(strstr(message, mistakes[i].says[k]),
                  "mistake %d: the message does not say %s: %s", (int)i, mistakes[i].says[k],
                  message);
        CHECK(!strchr(message, '\n'), "the message has more than one line: %s", message);
    }
    CHECK(item(gan_sum(gan_full(here, 2, 1, 2, 3, 4))) == 48,
          "the device does not work after the mistakes");
    CHECK(*message_of(two_devices, NULL), "tensors of two devices are added");
    gan_close(left_open);
    gan_close(here);
}

/* Pictures of one channel, each pooled to one number: the places of the maxima must not be taken
   for a list of slices. */
static void test_max_pool_to_one(void)
{
    const gan_real pixels[12] = {1, 4, 2, 3, -1, -2, -3, -4, 5, 6, 8, 7};
    const gan_real most[3] = {4, -1, 8};
    gan_real y[3], slope[12];
    gan *g = gan_open("cpu", 1);
    gan_tensor *x = gan_from_host(g, pixels, 3, 1, 2, 2);
    gan_tensor *pooled = gan_max_pool2d(x, 2, 2, 0, false);
    gan_to_host(pooled, y);
    gan_to_host(gan_grad(gan_sum(pooled), x), slope);
    gan_close(g);
    for (int i = 0; i < 3; i++)
        CHECK(y[i] == most[i], "picture %d: %g, not %g", i, (double)y[i], (double)most[i]);
    for (int i = 0; i < 12; i++)
        CHECK(slope[i] == (pixels[i] == most[i / 4]), "pixel %d has the derivative %g", i,
              (double)slope[i]);
}

int main(void)
{
    run("using a tensor twice doubles its gradient", test_twice);
    run("every tensor is visited once", test_many_paths);
    run("a long tape", test_long_tape);
    run("zeros where y does not depend on x", test_zeros);
    run("derivatives of derivatives", test_third_order);
    run("detach", test_detach);
    run("in place", test_in_place);
    run("derivatives at kinks", test_kinks);
    run("gan_param_grad", test_param_grad);
    run("gan_backward gives what gan_grad gives", test_backward_is_grad);
    run("gan_backward twice, and through a penalty", test_backward_twice);
    run("only what is asked for", test_only_what_is_asked);
    run("gan_ema", test_ema);
    run("the message of a mistake", test_example_message);
    run("mistakes", test_mistakes);
    run("max pooling of whole pictures", test_max_pool_to_one);
    return finish();
}
