/* tests/gradients.c: the derivative, and the derivative's derivative, of every operation against central differences, in double.

       cc -O2 tests/gradients.c -o gradients -lm && ./gradients

   A new operation is one line of OPERATIONS. A gradient check alone proves little (a convolution that pads wrongly agrees with
   its own derivative): tests/kernels.c and tests/reference.py judge the values. */

#undef GAN_REAL
#define GAN_REAL double
#include "test.h"

/* Central differences in double are good to about 1e-8 of the largest derivative: two roundings of 1e-16 over a step of 1e-5,
   and a truncation of the step's square. 1e-6 leaves room for sums of a few hundred terms and for elements that are 1% of it. */
#define TOLERANCE 1e-6

/* Where the inputs lie. KINKS: away from 0, +-0.75 and infinity, where abs, relu and clamp bend. */
enum { ANY, POSITIVE, KINKS };

typedef struct { const char *name; gan_function *f; int kind; int shape[3][4]; } operation;

/* Running statistics for a batch norm in evaluation mode: constants that differ by channel. */
static gan_tensor *constants(gan *g, int channels, double first)
{
    double values[16];
    for (int i = 0; i < 16; i++) values[i] = first + 0.25 * i;
    return gan_from_host(g, values, 1, channels, 1, 1);
}

static gan_tensor *norm(gan_tensor *x, gan_tensor *weight, gan_tensor *bias, bool training)
{
    return gan_batch_norm_f(x, weight, bias, constants(x->g, x->c, -0.5), constants(x->g, x->c, 0.5), training, 0.1, 1e-5);
}

/* A critic and its gradient in its input: what penalties are made of. a: images, b: weight (4,2,3,3), c: weight (1,16,1,1). */
static gan_tensor *critic(gan_tensor *a, gan_tensor *b, gan_tensor *c)
{
    return gan_linear_f(gan_leaky_relu(gan_conv2d_f(a, b, NULL, 2, 1, 1), 0.2), c, NULL);
}

static gan_tensor *penalty(gan_tensor *a, gan_tensor *b, gan_tensor *c) /* WGAN-GP: (|gradient| - 1)^2 (Gulrajani et al. 2017) */
{
    gan_tensor *dx = gan_grad(gan_sum(critic(gan_tanh(a), b, c)), a);
    gan_tensor *length = gan_sqrt(gan_sum_to(gan_square(dx), a->n, 1, 1, 1));
    return gan_mean(gan_square(gan_add_scalar(length, -1)));
}

static gan_tensor *norm_penalty(gan_tensor *a, gan_tensor *b, gan_tensor *c) /* the same through a batch norm */
{
    gan_tensor *one = gan_full(a->g, 1, 1, 4, 1, 1), *zero = gan_zeros(a->g, 1, 4, 1, 1);
    gan_tensor *y = gan_leaky_relu(norm(gan_conv2d_f(a, b, NULL, 2, 1, 1), one, zero, true), 0.2);
    return gan_mean(gan_square(gan_grad(gan_sum(gan_tanh(gan_linear_f(y, c, NULL))), a)));
}

/* T(name, what is computed of the inputs A, B and C, where they lie, their shapes) */
#define A in[0]
#define B in[1]
#define C in[2]
#define OPERATIONS(T)                                                                                                           \
    T(add,               gan_add(A, B),                     ANY,      {2,3,4,5}, {2,3,4,5})                                     \
    T(add_broadcast,     gan_add(A, B),                     ANY,      {2,1,4,1}, {1,3,1,5})                                     \
    T(sub,               gan_sub(A, B),                     ANY,      {2,3,1,5}, {1,3,4,5})                                     \
    T(mul,               gan_mul(A, B),                     ANY,      {2,3,4,5}, {2,3,4,5})                                     \
    T(mul_broadcast,     gan_mul(A, B),                     ANY,      {2,3,1,5}, {1,3,4,1})                                     \
    T(mul_with_itself,   gan_mul(A, A),                     ANY,      {2,3,1,5})                                                \
    T(div,               gan_div(A, B),                     POSITIVE, {2,3,4,5}, {2,3,4,5})                                     \
    T(div_broadcast,     gan_div(A, B),                     POSITIVE, {2,1,1,5}, {1,3,1,1})                                     \
    T(add_scalar,        gan_add_scalar(A, 3),              ANY,      {2,3,1,5})                                                \
    T(mul_scalar,        gan_mul_scalar(A, -3),             ANY,      {2,3,1,5})                                                \
    T(neg,               gan_neg(A),                        ANY,      {2,3,1,5})                                                \
    T(exp,               gan_exp(A),                        ANY,      {2,3,1,5})                                                \
    T(log,               gan_log(A),                        POSITIVE, {2,3,1,5})                                                \
    T(sqrt,              gan_sqrt(A),                       POSITIVE, {2,3,1,5})                                                \
    T(rsqrt,             gan_rsqrt(A),                      POSITIVE, {2,3,1,5})                                                \
    T(square,            gan_square(A),                     ANY,      {2,3,1,5})                                                \
    T(abs,               gan_abs(A),                        KINKS,    {2,3,1,5})                                                \
    T(clamp,             gan_clamp(A, -0.75, 0.75),         KINKS,    {2,3,4,5})                                                \
    T(relu,              gan_relu(A),                       KINKS,    {2,3,1,5})                                                \
    T(leaky_relu,        gan_leaky_relu(A, 0.2),            KINKS,    {2,3,1,5})                                                \
    T(relu_,             gan_relu_(gan_mul_scalar(A, 2)),   KINKS,    {2,3,1,5})                                                \
    T(leaky_relu_,       gan_leaky_relu_(gan_neg(A), 0.2),  KINKS,    {2,3,1,5})                                                \
    T(tanh,              gan_tanh(A),                       ANY,      {2,3,1,5})                                                \
    T(sigmoid,           gan_sigmoid(A),                    ANY,      {2,3,1,5})                                                \
    T(softplus,          gan_softplus(A),                   ANY,      {2,3,1,5})                                                \
    T(sum,               gan_sum(gan_square(A)),            ANY,      {2,3,4,5})                                                \
    T(mean,              gan_mean(gan_square(A)),           ANY,      {2,3,4,5})                                                \
    T(sum_to,            gan_sum_to(A, 1, 3, 1, 5),         ANY,      {2,3,4,5})                                                \
    T(mean_to,           gan_mean_to(A, 2, 1, 4, 1),        ANY,      {2,3,4,5})                                                \
    T(expand,            gan_expand(A, 2, 3, 4, 5),         ANY,      {2,1,1,5})                                                \
    T(reshape,           gan_reshape(A, 5, -1, 3, 1),       ANY,      {2,3,4,5})                                                \
    T(permute,           gan_permute(A, 2, 0, 3, 1),        ANY,      {2,3,4,5})                                                \
    T(transpose,         gan_transpose(A, 1, 3),            ANY,      {2,3,4,5})                                                \
    T(slice,             gan_slice(A, 2, 1, 2),             ANY,      {2,3,4,5})                                                \
    T(concat,            gan_concat(A, B, 1),               ANY,      {2,3,2,5}, {2,1,2,5})                                     \
    T(matmul,            gan_matmul(A, B),                  ANY,      {2,3,4,5}, {2,3,5,2})                                     \
    T(matmul_broadcast,  gan_matmul(A, B),                  ANY,      {2,1,4,5}, {1,3,5,2})                                     \
    T(matmul_t_10,       gan_matmul_t(A, B, true, false),   ANY,      {1,3,5,4}, {2,3,5,2})                                     \
    T(matmul_t_01,       gan_matmul_t(A, B, false, true),   ANY,      {2,3,4,5}, {1,1,2,5})                                     \
    T(matmul_t_11,       gan_matmul_t(A, B, true, true),    ANY,      {2,1,5,4}, {2,3,2,5})                                     \
    T(linear_f,          gan_linear_f(A, B, C),             ANY,      {3,2,2,2}, {4,8,1,1}, {1,4,1,1})                          \
    T(conv2d_f,          gan_conv2d_f(A, B, C, 1, 0, 1),    ANY,      {2,2,4,5}, {3,2,3,2}, {1,3,1,1})                          \
    T(conv2d_f_stride,   gan_conv2d_f(A, B, C, 2, 1, 1),    ANY,      {2,2,5,6}, {3,2,3,3}, {1,3,1,1})                          \
    T(conv2d_f_large,    gan_conv2d_f(A, B, NULL, 1, 3, 1), ANY,      {1,2,3,2}, {2,2,5,7})                                     \
    T(conv2d_f_groups,   gan_conv2d_f(A, B, C, 1, 1, 2),    ANY,      {2,4,3,3}, {6,2,3,3}, {1,6,1,1})                          \
    T(conv2d_f_depth,    gan_conv2d_f(A, B, NULL, 2, 1, 3), ANY,      {2,3,5,4}, {3,1,3,3})                                     \
    T(conv_transpose,    gan_conv_transpose2d_f(A, B, C, 2, 1, 0, 1),    ANY, {2,3,3,2}, {3,2,4,4}, {1,2,1,1})                  \
    T(conv_transpose_op, gan_conv_transpose2d_f(A, B, C, 3, 1, 2, 1),    ANY, {1,2,2,3}, {2,3,3,3}, {1,3,1,1})                  \
    T(conv_transpose_g,  gan_conv_transpose2d_f(A, B, NULL, 2, 0, 1, 2), ANY, {2,4,2,2}, {4,3,3,2})                             \
    T(conv2d_weight,     gan_conv2d_weight(A, B, 3, 3, 2, 1, 1),         ANY, {2,2,5,6}, {2,3,3,3})                             \
    T(conv2d_weight_g,   gan_conv2d_weight(A, B, 2, 3, 1, 1, 2),         ANY, {2,4,3,3}, {2,2,4,3})                             \
    T(batch_norm,        norm(A, B, C, true),               ANY,      {3,2,2,3}, {1,2,1,1}, {1,2,1,1})                          \
    T(batch_norm_flat,   norm(A, B, C, true),               ANY,      {5,3,1,1}, {1,3,1,1}, {1,3,1,1})                          \
    T(batch_norm_eval,   norm(A, B, C, false),              ANY,      {3,2,2,3}, {1,2,1,1}, {1,2,1,1})                          \
    T(bce_logits_1,      gan_bce_logits(A, 1),              ANY,      {4,1,1,3})                                                \
    T(bce_logits_0,      gan_bce_logits(A, 0),              ANY,      {4,1,1,3})                                                \
    T(bce_logits_smooth, gan_bce_logits(A, 0.9),            ANY,      {4,1,1,3})                                                \
    T(mse,               gan_mse(A, B),                     ANY,      {2,3,1,5}, {2,3,1,5})                                     \
    T(l1,                gan_l1(A, gan_mul_scalar(B, 0.1)), KINKS,    {2,3,1,5}, {2,3,1,5})                                     \
    T(critic,            critic(A, B, C),                   ANY,      {2,2,4,4}, {4,2,3,3}, {1,16,1,1})                         \
    T(gradient_penalty,  penalty(A, B, C),                  ANY,      {2,2,4,4}, {4,2,3,3}, {1,16,1,1})                         \
    T(norm_penalty,      norm_penalty(A, B, C),             ANY,      {2,2,4,4}, {4,2,3,3}, {1,16,1,1})

#define FUNCTION(name, computed, ...)                                      \
    static gan_tensor *f_##name(gan *g, gan_tensor **in, void *user)       \
    {                                                                      \
        (void)g, (void)user;                                               \
        return computed;                                                   \
    }
OPERATIONS(FUNCTION)

#define ROW(name, computed, kind, ...) { #name, f_##name, kind, { __VA_ARGS__ } },
static const operation operations[] = { OPERATIONS(ROW) };
enum { OPERATION_COUNT = sizeof operations / sizeof *operations };

/* Fills in[] with op's inputs and returns how many. The others are NULL. */
static int inputs(gan *g, const operation *op, gan_tensor *in[3])
{
    int count = 0;
    in[0] = in[1] = in[2] = NULL;
    for (; count < 3 && op->shape[count][0]; count++) {
        const int *s = op->shape[count];
        double values[256];
        int n = s[0] * s[1] * s[2] * s[3];
        gan_to_host(gan_rand(g, s[0], s[1], s[2], s[3]), values);
        for (int i = 0; i < n; i++) {
            double u = values[i]; /* in [0,1) */
            if (op->kind == POSITIVE) values[i] = 0.5 + u;
            else if (op->kind == ANY) values[i] = 4 * u - 2;
            else values[i] = (i & 1 ? -1 : 1) * (u < 0.5 ? 0.15 + u : 0.4 + u); /* 0.15..0.65 or 0.9..1.4 */
        }
        in[count] = gan_from_host(g, values, s[0], s[1], s[2], s[3]);
    }
    return count;
}

/* ---- the tests ---- */

static const char *device;
static const operation *op;

static void test_operation(void)
{
    gan *g = gan_open(device, 7);
    CHECK(g, "%s", gan_error());
    gan_tensor *in[3];
    int count = inputs(g, op, in);
    double first = gan_gradcheck(g, op->f, in, count, NULL);
    const char *why = first <= TOLERANCE ? "" : gan_error();
    CHECK(first <= TOLERANCE, "gan_gradcheck says %g: %s", first, why);
    double second = gan_gradgradcheck(g, op->f, in, count, NULL);
    CHECK(second <= TOLERANCE, "gan_gradgradcheck says %g: %s", second, gan_error());
    gan_close(g);
}

/* ---- that a wrong derivative is caught: ref with one kernel spoiled ---- */

static void negate(gan_real *y, size_t n) { for (size_t i = 0; i < n; i++) y[i] = -y[i]; }

static void wrong_conv_transpose2d(const gan_conv *p, const gan_real *a, const gan_real *b, gan_real *y)
{
    gan_ref_conv_transpose2d(p, a, b, y);
    negate(y, (size_t)p->n * p->c * p->h * p->w);
}
static void flipped_conv2d_weight(const gan_conv *p, const gan_real *a, const gan_real *b, gan_real *y)
{
    int k = p->kernel_h * p->kernel_w;
    gan_ref_conv2d_weight(p, a, b, y);
    for (int i = 0; i < p->out_c * (p->c / (p->groups ? p->groups : 1)); i++, y += k)
        for (int j = 0; j < k / 2; j++) { gan_real t = y[j]; y[j] = y[k - 1 - j]; y[k - 1 - j] = t; }
}
static void wrong_norm_sums(const gan_norm *p, const gan_real *a, const gan_real *b, const gan_real *c, gan_real *y)
{
    gan_ref_norm_sums(p, a, b, c, y);
    negate(y + p->c, (size_t)p->c); /* the weight's gradient */
}
static void wrong_norm_grad(const gan_norm *p, const gan_real *a, const gan_real *b, const gan_real *c, const gan_real *d,
                            const gan_real *e, gan_real *y)
{
    gan_ref_norm_grad(p, a, b, c, d, e, y);
    negate(y, (size_t)p->n * p->c * p->size);
}
static void wrong_zip(const gan_zip *p, const gan_real *a, const gan_real *b, gan_real *y)
{
    gan_ref_zip(p, a, b, y);
    if (p->op >= GAN_GATE) negate(y, (size_t)p->n * p->c * p->h * p->w); /* the derivatives only */
}

/* ref under the name "wrong", with one kernel replaced. */
static void spoil(gan_backend *b, const char *kernel)
{
    *b = *gan_find_backend("ref");
    b->name = "wrong";
    if (!strcmp(kernel, "conv_transpose2d")) b->conv_transpose2d = wrong_conv_transpose2d;
    if (!strcmp(kernel, "conv2d_weight")) b->conv2d_weight = flipped_conv2d_weight;
    if (!strcmp(kernel, "norm_sums")) b->norm_sums = wrong_norm_sums;
    if (!strcmp(kernel, "norm_grad")) b->norm_grad = wrong_norm_grad;
    if (!strcmp(kernel, "zip")) b->zip = wrong_zip;
}

static void test_wrong_is_caught(void)
{
    static const char *const wrong[][2] = { /* kernel, operation whose derivative it computes */
        { "conv_transpose2d", "conv2d_f" }, { "conv2d_weight", "conv2d_f" }, { "conv2d_weight", "conv_transpose" },
        { "norm_sums", "batch_norm" }, { "norm_grad", "batch_norm" }, { "norm_grad", "batch_norm_eval" }, { "zip", "relu" },
        { "zip", "leaky_relu_" }, { "zip", "clamp" }, { "zip", "tanh" }, { "zip", "sigmoid" },
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const operation *found = NULL;
        gan_backend b;
        gan_tensor *in[3];
        for (int k = 0; k < OPERATION_COUNT; k++) if (!strcmp(operations[k].name, wrong[i][1])) found = &operations[k];
        CHECK(found, "no operation %s", wrong[i][1]);
        spoil(&b, wrong[i][0]);
        CHECK(gan_register_backend(&b), "%s", gan_error());
        gan *g = gan_open("wrong", 7);
        CHECK(g, "%s", gan_error());
        double error = gan_gradcheck(g, found->f, in, inputs(g, found, in), NULL);
        /* A flipped sign is an error of 2, a flipped kernel about 1. */
        CHECK(error > 1e-2, "%s with a wrong %s: gan_gradcheck says %g", wrong[i][1], wrong[i][0], error);
        CHECK(strstr(gan_error(), "input ") && strstr(gan_error(), "element"), "%s: the message names no input and element: %s", wrong[i][1], gan_error());
        gan_close(g);
    }
}

/* The message says which input: here only the second one's derivative is wrong. */
static gan_tensor *half_detached(gan *g, gan_tensor **in, void *user)
{
    (void)g, (void)user;
    return gan_mul(in[0], gan_add(in[1], gan_detach(in[1])));
}

static void check_refused(gan_function *f, int kind, bool finite)
{
    operation row = { "", f, kind, { { 2, 1, 1, 3 }, { 2, 1, 1, 3 } } };
    gan_tensor *in[3];
    gan *g = gan_open("ref", 7);
    CHECK(g, "%s", gan_error());
    double error = gan_gradcheck(g, f, in, inputs(g, &row, in), NULL);
    CHECK(finite ? error > 1e-2 && error < INFINITY : error == INFINITY, "gan_gradcheck says %g: %s", error, gan_error());
    gan_close(g);
}

static void test_message_names_input(void)
{
    check_refused(half_detached, POSITIVE, true);
    CHECK(strstr(gan_error(), "input 1"), "the derivative in input 1 is wrong, the message says: %s", gan_error());
}

/* One element's derivative is half of what it should be: the first's, one in the middle, or the last's. */
static gan_tensor *one_wrong(gan *g, gan_tensor **in, void *user)
{
    int wrong = *(int *)user;
    double mask[6] = { 1, 1, 1, 1, 1, 1 };
    mask[wrong] = 0.5;
    gan_tensor *with = gan_from_host(g, mask, 2, 1, 1, 3), *without = gan_add_scalar(gan_neg(with), 1);
    return gan_add(in[0], gan_add(gan_mul(in[1], with), gan_mul(gan_detach(in[1]), without)));
}

static void test_message_names_element(void)
{
    static const operation row = { "", one_wrong, ANY, { { 2, 1, 1, 3 }, { 2, 1, 1, 3 } } };
    for (int wrong = 0; wrong < 6; wrong++) {
        gan_tensor *in[3];
        char want[32];
        gan *g = gan_open("cpu", 7);
        CHECK(g, "%s", gan_error());
        double error = gan_gradcheck(g, one_wrong, in, inputs(g, &row, in), &wrong);
        snprintf(want, sizeof want, "input 1, element %d", wrong);
        CHECK(fabs(error - 0.5) < 1e-6 && strstr(gan_error(), want), "element %d is off by a half, gan_gradcheck says %g: %s", wrong, error, gan_error());
        gan_close(g);
    }
}

static gan_tensor *nothing(gan *g, gan_tensor **in, void *user)
{
    (void)g, (void)user;
    return gan_mul_scalar(gan_add(in[0], in[1]), 0);
}
static gan_tensor *undefined(gan *g, gan_tensor **in, void *user)
{
    (void)g, (void)user;
    return gan_log(gan_neg(gan_add(in[0], in[1])));
}
static gan_tensor *infinite(gan *g, gan_tensor **in, void *user)
{
    (void)g, (void)user;
    return gan_sqrt(gan_mul_scalar(gan_add(in[0], in[1]), 0)); /* its derivative at 0 */
}
static void test_zero_is_refused(void) { check_refused(nothing, ANY, false); }
static void test_nan_is_refused(void) { check_refused(undefined, POSITIVE, false); }
static void test_infinity_is_refused(void) { check_refused(infinite, POSITIVE, false); }

int main(void)
{
    static const char *const devices[] = { "ref", "cpu" };
    char name[64];
    for (int d = 0; d < 2; d++)
        for (int i = 0; i < OPERATION_COUNT; i++) {
            device = devices[d], op = &operations[i];
            snprintf(name, sizeof name, "%s on %s", op->name, device);
            run(name, test_operation);
        }
    run("a wrong derivative is caught", test_wrong_is_caught);
    run("the message names the input", test_message_names_input);
    run("the message names the element", test_message_names_element);
    run("a gradient that is zero everywhere is refused", test_zero_is_refused);
    run("a NaN is refused", test_nan_is_refused);
    run("an infinite derivative is refused", test_infinity_is_refused);
    return finish();
}
