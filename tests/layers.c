/* tests/layers.c: layers with options: each computes what the function on tensors computes from
   the layer's own parameters, whose shapes, names and starts are PyTorch's. */
#include "test.h"

static gan *g;

#define LINEAR(...) ((gan_linear_options){__VA_ARGS__})

static bool has_shape(const gan_tensor *t, int n, int c, int h, int w)
{
    return t && t->n == n && t->c == c && t->h == h && t->w == w;
}

/* Do both hold the same bits? */
static bool same(const gan_tensor *a, const gan_tensor *b)
{
    size_t bytes = gan_count(a) * sizeof(gan_real);
    if (!has_shape(a, b->n, b->c, b->h, b->w))
        return false;
    gan_real *x = (gan_real *)malloc(2 * bytes);
    gan_real *y = x + gan_count(a);
    gan_to_host(a, x);
    gan_to_host(b, y);
    bool equal = memcmp(x, y, bytes) == 0;
    free(x);
    return equal;
}

static gan_tensor *param(gan_model *m, const char *layer, const char *part)
{
    char name[64];
    snprintf(name, sizeof name, "%s.%s", layer, part);
    return gan_find_param(m, name);
}

/* Uniform in +-bound: none beyond it, and of n numbers the largest is below 0.9 of it with
   probability 0.9^n: with 200 or more, 1e-9. */
static bool starts_in(const gan_tensor *t, double bound)
{
    double largest = 0;
    gan_real *x = (gan_real *)malloc(gan_count(t) * sizeof *x);
    gan_to_host(t, x);
    for (size_t i = 0; i < gan_count(t); i++)
        largest = fmax(largest, fabs((double)x[i]));
    free(x);
    return largest <= bound * (1 + 1e-6) && (gan_count(t) < 200 || largest > 0.9 * bound);
}

static const gan_conv_options forms[] = {
    {.out = 12, .kernel = 3},
    {.out = 12, .kernel = 3, .pad = 2, .dilation = 2},
    {.out = 12, .kernel = 3, .stride = 2, .pad = 1, .groups = 4},
    {.out = 8, .kernel = 5, .groups = 8, .pad = 2, .no_bias = true},
    {.out = 12, .kernel_h = 1, .kernel_w = 4, .stride_w = 2, .pad_w = 1, .dilation_h = 2},
    {.out = 16, .kernel = 2, .kernel_w = 3, .groups = 2, .no_bias = true},
};

enum { FORMS = sizeof forms / sizeof *forms };

/* A layer with options is the function of that name, on the layer's weight and bias. */
static void convolutions(void)
{
    for (int i = 0; i < FORMS; i++) {
        const gan_conv_options o = forms[i];
        int groups = o.groups ? o.groups : 1;
        int kernel_h = o.kernel_h ? o.kernel_h : o.kernel;
        int kernel_w = o.kernel_w ? o.kernel_w : o.kernel;
        gan_model *m = gan_model_new(g, "m");
        gan_tensor *x = gan_randn(g, 2, 8, 9, 11);

        gan_tensor *y = gan_conv2d_with(m, "c", x, o);
        gan_tensor *weight = param(m, "c", "weight");
        gan_tensor *bias = param(m, "c", "bias");
        CHECK(has_shape(weight, o.out, 8 / groups, kernel_h, kernel_w), "form %d: the weight", i);
        CHECK(o.no_bias ? !bias : has_shape(bias, 1, o.out, 1, 1), "form %d: the bias", i);
        CHECK(same(y, gan_conv2d_with_f(x, weight, bias, o)), "form %d: another result", i);

        y = gan_conv_transpose2d_with(m, "t", x, o);
        weight = param(m, "t", "weight");
        bias = param(m, "t", "bias");
        CHECK(has_shape(weight, 8, o.out / groups, kernel_h, kernel_w), "form %d: weight, up", i);
        CHECK(o.no_bias ? !bias : has_shape(bias, 1, o.out, 1, 1), "form %d: the bias, up", i);
        CHECK(same(y, gan_conv_transpose2d_with_f(x, weight, bias, o)), "form %d: result, up", i);
        gan_clear(g);
    }
}

/* The layers of fixed arguments are those with options. */
static void plain_layers(void)
{
    gan_model *a = gan_model_new(g, "same");
    gan_model *b = gan_model_new(g, "same"); /* the same names start the same */
    gan_tensor *x = gan_randn(g, 2, 3, 8, 8);
    CHECK(same(gan_conv2d(a, "c", x, 5, 4, 2, 1),
               gan_conv2d_with(b, "c", x, OPTIONS(.out = 5, .kernel = 4, .stride = 2, .pad = 1))),
          "gan_conv2d");
    CHECK(same(gan_conv_transpose2d(a, "t", x, 5, 4, 2, 1),
               gan_conv_transpose2d_with(b, "t", x,
                                         OPTIONS(.out = 5, .kernel = 4, .stride = 2, .pad = 1))),
          "gan_conv_transpose2d");
    CHECK(same(gan_linear(a, "fc", x, 5), gan_linear_with(b, "fc", x, LINEAR(.out = 5))),
          "gan_linear");
    gan_tensor *y = gan_linear_with(b, "free", x, LINEAR(.out = 5, .no_bias = true));
    CHECK(!param(b, "free", "bias"), "no_bias made a bias");
    CHECK(same(y, gan_linear_f(x, param(b, "free", "weight"), NULL)), "gan_linear_with, no bias");
    CHECK(gan_param_count(b) - gan_param_count(a) == 5 * 3 * 8 * 8, "no_bias has %.0f numbers",
          (double)(gan_param_count(b) - gan_param_count(a)));
}

/* PyTorch's reset_parameters: bound 1/sqrt(fan_in), with fan_in the product of the weight's last
   three sizes; for weight and bias alike. */
static void fans(void)
{
    gan_model *m = gan_model_new(g, "m");
    gan_tensor *x = gan_zeros(g, 1, 64, 4, 4);
    gan_conv_options o = OPTIONS(.out = 256, .kernel = 3, .pad = 1, .groups = 8);
    gan_conv2d_with(m, "c", x, o);
    double bound = 1 / sqrt(64 / 8 * 9);
    CHECK(starts_in(param(m, "c", "weight"), bound), "weight of 8 groups");
    CHECK(starts_in(param(m, "c", "bias"), bound), "bias of 8 groups");
    gan_conv_transpose2d_with(m, "t", x, o);
    bound = 1 / sqrt(256 / 8 * 9);
    CHECK(starts_in(param(m, "t", "weight"), bound), "transposed weight of 8 groups");
    CHECK(starts_in(param(m, "t", "bias"), bound), "transposed bias of 8 groups");
    gan_linear_with(m, "fc", x, LINEAR(.out = 300, .no_bias = true));
    CHECK(starts_in(param(m, "fc", "weight"), 1 / sqrt(64 * 16)), "linear weight");
}

/* gan_weights' kinds take groups and no bias too. */
static void kinds_of_weights(void)
{
    gan_model *m = gan_model_new(g, "m");
    gan_tensor *x = gan_randn(g, 2, 6, 5, 5);
    gan_conv_options o = OPTIONS(.out = 4, .kernel = 3, .groups = 2, .no_bias = true);
    gan_eval(m); /* so that u and v stay */
    gan_weights(m, GAN_SPECTRAL, 1);
    gan_tensor *y = gan_conv2d_with(m, "s", x, o);
    gan_tensor *weight = gan_spectral_norm(m, "s", param(m, "s", "weight"));
    CHECK(same(y, gan_conv2d_with_f(x, weight, NULL, o)), "GAN_SPECTRAL");
    y = gan_conv_transpose2d_with(m, "t", x, o);
    CHECK(has_shape(param(m, "t", "weight_u"), 1, 2, 1, 1) &&
              has_shape(param(m, "t", "weight_v"), 1, 6 * 9, 1, 1),
          "GAN_SPECTRAL, transposed: u and v are of another size");
    gan_weights(m, GAN_EQUALIZED, 2);
    y = gan_conv2d_with(m, "e", x, o);
    weight = gan_mul_scalar(param(m, "e", "weight"), (gan_real)(2 / sqrt(27)));
    CHECK(same(y, gan_conv2d_with_f(x, weight, NULL, o)), "GAN_EQUALIZED");
    CHECK(gan_param_count(m) == 4 * 3 * 9 + 6 * 2 * 9 + 4 * 3 * 9, "%.0f numbers train",
          (double)gan_param_count(m));
}

/* ---- misuse */
#define MODEL gan_model_new(g, "m")
#define X     gan_zeros(g, 2, 6, 5, 5)

#define MISTAKES(M)                                                                              \
    M(conv_out, "gan_conv2d \"c\": 0 output channels",                                           \
      gan_conv2d_with(MODEL, "c", X, OPTIONS(.kernel = 3)))                                      \
    M(conv_kernel, "gan_conv2d \"c\": 4 output channels, a kernel of 0 x 3",                     \
      gan_conv2d_with(MODEL, "c", X, OPTIONS(.out = 4, .kernel_w = 3)))                          \
    M(conv_groups, "gan_conv2d \"c\": 4 groups do not divide 6 input channels",                  \
      gan_conv2d_with(MODEL, "c", X, OPTIONS(.out = 4, .kernel = 3, .groups = 4)))               \
    M(conv_groups_out, "gan_conv2d \"c\": 3 groups do not divide 6 input channels and 4 output", \
      gan_conv2d_with(MODEL, "c", X, OPTIONS(.out = 4, .kernel = 3, .groups = 3)))               \
    M(conv_groups_negative, "gan_conv2d \"c\": -1 groups",                                       \
      gan_conv2d_with(MODEL, "c", X, OPTIONS(.out = 4, .kernel = 3, .groups = -1)))              \
    M(conv_dilation, "gan_conv2d \"c\"",                                                         \
      gan_conv2d_with(MODEL, "c", X, OPTIONS(.out = 4, .kernel = 3, .dilation = -1)))            \
    M(conv_stride, "gan_conv2d: \"c\": stride 0", gan_conv2d(MODEL, "c", X, 4, 3, 0, 1))         \
    M(conv_there, "gan_conv2d \"c\": its weight is (4,6,3,3)", {                                 \
        gan_model *m = MODEL;                                                                    \
        gan_conv2d(m, "c", X, 4, 3, 1, 1);                                                       \
        gan_conv2d(m, "c", X, 4, 2, 1, 1);                                                       \
    })                                                                                           \
    M(up_out, "gan_conv_transpose2d \"c\": -4 output channels",                                  \
      gan_conv_transpose2d(MODEL, "c", X, -4, 3, 1, 1))                                          \
    M(up_output_pad, "gan_conv_transpose2d \"c\": output padding",                               \
      gan_conv_transpose2d_with(MODEL, "c", X, OPTIONS(.out = 4, .kernel = 3, .output_pad = 1))) \
    M(linear_out, "gan_linear \"c\": 0 outputs",                                                 \
      gan_linear_with(MODEL, "c", X, LINEAR(.no_bias = true)))                                   \
    M(linear_model, "gan_linear: \"c\": the model is NULL", gan_linear(NULL, "c", X, 3))         \
    M(linear_name, "gan_linear: the layer's name is NULL", gan_linear(MODEL, NULL, X, 3))        \
    M(conv_name, "gan_conv2d: the layer's name is empty", gan_conv2d(MODEL, "", X, 4, 3, 1, 1))  \
    M(conv_model, "gan_conv2d: \"c\": the model is NULL", gan_conv2d(NULL, "c", X, 4, 3, 1, 1))  \
    M(both_null, "gan_conv2d: \"NULL\": the model is NULL",                                      \
      gan_conv2d(NULL, NULL, NULL, 4, 3, 1, 1))                                                  \
    M(norm_name, "gan_batch_norm: the layer's name is NULL", gan_batch_norm(MODEL, NULL, X))     \
    M(embedding_name, "gan_embedding: the layer's name is NULL",                                 \
      gan_embedding(MODEL, NULL, gan_zeros(g, 2, 1, 1, 1), 3, 4))                                \
    M(attention_name, "gan_self_attention: the layer's name is NULL",                            \
      gan_self_attention(MODEL, NULL, X))                                                        \
    M(attention_model, "gan_self_attention: \"a\": the model is NULL",                           \
      gan_self_attention(NULL, "a", X))                                                          \
    M(modulated_model, "gan_modulated_conv2d: \"a\": the model is NULL",                         \
      gan_modulated_conv2d(NULL, "a", X, X, 3, 3, true))                                         \
    M(modulated_latent, "gan_linear \"a.affine\": a tensor is NULL",                             \
      gan_modulated_conv2d(MODEL, "a", X, NULL, 3, 3, true))                                     \
    M(dropout_model, "gan_dropout: the model is NULL", gan_dropout(NULL, X, 0.5))                \
    M(spectral_name, "gan_spectral_norm: the name is NULL", gan_spectral_norm(MODEL, NULL, X))

#define FUNCTION(name, begins, ...)    \
    static void make_##name(void *arg) \
    {                                  \
        (void)arg;                     \
        __VA_ARGS__;                   \
    }
MISTAKES(FUNCTION)

#define ROW(name, begins, ...) {#name, begins, make_##name},

static void mistakes(void)
{
    static const struct {
        const char *name;
        const char *begins;
        void (*make)(void *);
    } table[] = {MISTAKES(ROW)};

    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        const char *message = message_of(table[i].make, NULL);
        CHECK(!strncmp(message, table[i].begins, strlen(table[i].begins)) && !strchr(message, '\n'),
              "%s: \"%s\"", table[i].name, message);
    }
}

int main(void)
{
    g = gan_open("cpu", 4);
    run("layers: convolutions with options", convolutions);
    run("layers: those without are the same", plain_layers);
    run("layers: starts by fan_in, with groups", fans);
    run("layers: spectral and equalized with groups", kinds_of_weights);
    run("layers: misuse ends in one line", mistakes);
    gan_close(g);
    return finish();
}
