/* tests/gradients.c: the derivative, and the derivative's derivative, of every operation against
   central differences, in double.

       cc -O2 -DGAN_REAL=double tests/gradients.c -o gradients -lm && ./gradients

   A new operation is one line of OPERATIONS. A gradient check alone proves little (a convolution
   that pads wrongly agrees with its own derivative): tests/kernels.c and
   tests/expected/reference.py judge the values. */

#include "test.h"

/* Central differences in double are good to about 1e-8 of the largest derivative: two roundings
   of 1e-16 over a step of 1e-5, and a truncation of the step's square. 1e-6 leaves room for sums
   of a few hundred terms and for elements that are 1% of it. */
#define TOLERANCE 1e-6

/* Where the inputs lie. KINKS: away from 0, +-0.75 and infinity, where abs, relu and clamp bend. */
enum { ANY, POSITIVE, KINKS };

typedef struct {
    const char *name;
    gan_function *f;
    int kind;
    int shape[3][4];
} operation;

/* Running statistics for a batch norm in evaluation mode: constants that differ by channel. */
static gan_tensor *constants(gan *g, int channels, double first)
{
    double values[16];
    for (int i = 0; i < 16; i++)
        values[i] = first + 0.25 * i;
    return gan_from_host(g, values, 1, channels, 1, 1);
}

static gan_tensor *norm(gan_tensor *x, gan_tensor *weight, gan_tensor *bias, bool training)
{
    return gan_batch_norm_f(x, weight, bias, constants(x->g, x->c, -0.5),
                            constants(x->g, x->c, 0.5), training, 0.1, 1e-5);
}

/* A critic and its gradient in its input: what penalties are made of. a: images, b: weight
   (4,2,3,3), c: weight (1,16,1,1). */
static gan_tensor *critic(gan_tensor *a, gan_tensor *b, gan_tensor *c)
{
    return gan_linear_f(gan_leaky_relu(gan_conv2d_f(a, b, NULL, 2, 1, 1), 0.2), c, NULL);
}

static gan_tensor *penalty(gan_tensor *a, gan_tensor *b,
                           gan_tensor *c) /* WGAN-GP: (|gradient| - 1)^2 (Gulrajani et al. 2017) */
{
    gan_tensor *dx = gan_grad(gan_sum(critic(gan_tanh(a), b, c)), a);
    gan_tensor *length = gan_sqrt(gan_sum_to(gan_square(dx), a->n, 1, 1, 1));
    return gan_mean(gan_square(gan_add_scalar(length, -1)));
}

static gan_tensor *norm_penalty(gan_tensor *a, gan_tensor *b,
                                gan_tensor *c) /* the same through a batch norm */
{
    gan_tensor *one = gan_full(a->g, 1, 1, 4, 1, 1);
    gan_tensor *zero = gan_zeros(a->g, 1, 4, 1, 1);
    gan_tensor *y = gan_leaky_relu(norm(gan_conv2d_f(a, b, NULL, 2, 1, 1), one, zero, true), 0.2);
    return gan_mean(gan_square(gan_grad(gan_sum(gan_tanh(gan_linear_f(y, c, NULL))), a)));
}

/* ---- what takes more than an expression ---- */

/* Numbers 0 .. count-1 in a fixed disorder: an index, or labels. */
static gan_tensor *whole(gan *g, int count, int n, int c, int h, int w)
{
    double values[64];
    for (int i = 0; i < n * c * h * w; i++)
        values[i] = (i * 7 + i / 3) % count;
    return gan_from_host(g, values, n, c, h, w);
}

/* Random numbers that are the same at each call, so that what draws some is a function. */
static gan *again(gan *g)
{
    gan_seed(g, 1);
    return g;
}

static gan_tensor *fixed(gan *g, int n, int c, int h, int w)
{
    return gan_randn(again(g), n, c, h, w);
}

static gan_tensor *concat3(gan_tensor *a, gan_tensor *b, gan_tensor *c, int dim)
{
    gan_tensor *parts[3] = {a, b, c};
    return gan_concat_all(parts, 3, dim);
}

static gan_tensor *fir(gan_tensor *x)
{
    static const double filter[] = {1, -0.5, 0.25, 2};
    return gan_upfirdn2d(x, filter, 4, 3, 2, 2, -1, 0.75);
}

/* A layer of a model that is made for it: a model of the same name has the same weights. */
static gan_tensor *attention(gan_tensor *x)
{
    gan_model *m = gan_model_new(x->g, "m");
    double half = 0.5;
    gan_set(gan_param(m, "a.gamma", 1, 1, 1, 1), &half);
    return gan_self_attention(m, "a", x);
}

static gan_tensor *modulated(gan_tensor *x, gan_tensor *latent)
{
    return gan_modulated_conv2d(gan_model_new(x->g, "m"), "a", x, latent, 2, 3, true);
}

static gan_tensor *conditional(gan_tensor *x)
{
    gan_model *m = gan_model_new(x->g, "m");
    gan_param(m, "a.gamma.weight", 3, x->c, 1, 1); /* random, where the layer's own are 1 and 0 */
    gan_param(m, "a.beta.weight", 3, x->c, 1, 1);
    return gan_conditional_batch_norm(m, "a", x, whole(x->g, 3, x->n, 1, 1, 1), 3);
}

static gan_tensor *spectral(
    gan_tensor *weight) /* evaluating: the vectors are constants, as they are in the derivative */
{
    gan_model *m = gan_model_new(weight->g, "m");
    gan_eval(m);
    return gan_spectral_norm(m, "a", weight);
}

static gan_tensor *layer_of(gan_tensor *x, int which)
{
    gan_model *m = gan_model_new(x->g, "m");
    if (which == 0)
        return gan_instance_norm(m, "a", x);
    if (which == 1)
        return gan_group_norm(m, "a", x, 2);
    if (which == 2)
        return gan_layer_norm(m, "a", x);
    if (which == 3)
        return gan_prelu(m, "a", x);
    if (which == 4)
        return gan_batch_norm(m, "a", x);
    return gan_dropout(m, again(x->g) ? x : NULL, 0.5);
}

static gan_tensor *dense_of(gan_tensor *x, int which, int kind)
{
    gan_model *m = gan_model_new(x->g, "m");
    gan_eval(m);
    gan_weights(m, kind, 0.5);
    return which == 0 ? gan_linear(m, "a", x, 3)
         : which == 1 ? gan_conv2d(m, "a", x, 3, 3, 2, 1)
                      : gan_conv_transpose2d(m, "a", x, 2, 4, 2, 1);
}

static gan_tensor *features(gan_tensor *x, int which)
{
    gan_tensor *target = fixed(x->g, x->n, x->c, x->h, x->w), *two[2], *targets[2];
    two[0] = x;
    two[1] = gan_square(x);
    targets[0] = targets[1] = target;
    return which == 0 ? gan_perceptual_loss(targets, two, 2)
         : which == 1 ? gan_style_loss(targets, two, 2)
                      : gan_feature_matching(targets, two, 2);
}

/* Critics with a normalisation after a convolution after an activation: what a penalty has to be
   differentiated through. Weights p, q. */
static gan_tensor *p, *q;
static int critic_norm;

static gan_tensor *normed(gan_model *model, gan_tensor *x)
{
    (void)model;
    gan_tensor *y = gan_conv2d_f(gan_silu(x), p, NULL, 2, 1, 1);
    if (critic_norm == 1)
        y = gan_instance_norm_f(y, NULL, NULL, 1e-2);
    if (critic_norm == 2)
        y = gan_layer_norm_f(y, NULL, NULL, 1e-2);
    if (critic_norm == 3)
        y = gan_group_norm_f(y, NULL, NULL, 2, 1e-2);
    if (critic_norm == 4) {
        y = gan_minibatch_stddev(y, 2);
        y = gan_slice(y, 1, 1, 4);
    }
    if (critic_norm == 5)
        y = gan_pixel_norm(y);
    return gan_linear_f(gan_gelu(y), q, NULL);
}

enum { R1, R2, TO_ONE, BETWEEN, AROUND };

static gan_tensor *penalised(gan_tensor *x, gan_tensor *weight, gan_tensor *fc, int norm_,
                             int which)
{
    p = weight;
    q = fc;
    critic_norm = norm_;
    gan *g = again(weight->g);
    if (which == BETWEEN) {
        gan_tensor *real = gan_randn(g, 2, 2, 4, 4);
        return gan_wgan_gp(NULL, normed, real, gan_randn(g, 2, 2, 4, 4));
    }
    if (which == AROUND)
        return gan_dragan(NULL, normed, gan_randn(g, 2, 2, 4, 4));
    gan_tensor *logits = normed(NULL, x);
    return which == R1 ? gan_r1(logits, x)
         : which == R2 ? gan_r2(logits, x)
                       : gan_gradient_penalty(logits, x, 1);
}

static gan_tensor *path(gan_tensor *w, gan_tensor *weight)
{
    gan_tensor *image = gan_tanh(gan_conv_transpose2d_f(gan_gelu(w), weight, NULL, 1, 0, 0, 1));
    again(w->g);
    return gan_path_length(gan_model_new(w->g, "G"), image, w);
}

/* T(name, what is computed of the inputs A, B and C, where they lie, their shapes) */
#define A in[0]
#define B in[1]
#define C in[2]
#define OPERATIONS(T)                                                                              \
    T(add, gan_add(A, B), ANY, {2, 3, 4, 5}, {2, 3, 4, 5})                                         \
    T(add_broadcast, gan_add(A, B), ANY, {2, 1, 4, 1}, {1, 3, 1, 5})                               \
    T(sub, gan_sub(A, B), ANY, {2, 3, 1, 5}, {1, 3, 4, 5})                                         \
    T(mul, gan_mul(A, B), ANY, {2, 3, 4, 5}, {2, 3, 4, 5})                                         \
    T(mul_broadcast, gan_mul(A, B), ANY, {2, 3, 1, 5}, {1, 3, 4, 1})                               \
    T(mul_with_itself, gan_mul(A, A), ANY, {2, 3, 1, 5})                                           \
    T(div, gan_div(A, B), POSITIVE, {2, 3, 4, 5}, {2, 3, 4, 5})                                    \
    T(div_broadcast, gan_div(A, B), POSITIVE, {2, 1, 1, 5}, {1, 3, 1, 1})                          \
    T(add_scalar, gan_add_scalar(A, 3), ANY, {2, 3, 1, 5})                                         \
    T(mul_scalar, gan_mul_scalar(A, -3), ANY, {2, 3, 1, 5})                                        \
    T(neg, gan_neg(A), ANY, {2, 3, 1, 5})                                                          \
    T(exp, gan_exp(A), ANY, {2, 3, 1, 5})                                                          \
    T(log, gan_log(A), POSITIVE, {2, 3, 1, 5})                                                     \
    T(sqrt, gan_sqrt(A), POSITIVE, {2, 3, 1, 5})                                                   \
    T(rsqrt, gan_rsqrt(A), POSITIVE, {2, 3, 1, 5})                                                 \
    T(square, gan_square(A), ANY, {2, 3, 1, 5})                                                    \
    T(abs, gan_abs(A), KINKS, {2, 3, 1, 5})                                                        \
    T(clamp, gan_clamp(A, -0.75, 0.75), KINKS, {2, 3, 4, 5})                                       \
    T(relu, gan_relu(A), KINKS, {2, 3, 1, 5})                                                      \
    T(leaky_relu, gan_leaky_relu(A, 0.2), KINKS, {2, 3, 1, 5})                                     \
    T(relu_, gan_relu_(gan_mul_scalar(A, 2)), KINKS, {2, 3, 1, 5})                                 \
    T(leaky_relu_, gan_leaky_relu_(gan_neg(A), 0.2), KINKS, {2, 3, 1, 5})                          \
    T(tanh, gan_tanh(A), ANY, {2, 3, 1, 5})                                                        \
    T(sigmoid, gan_sigmoid(A), ANY, {2, 3, 1, 5})                                                  \
    T(softplus, gan_softplus(A), ANY, {2, 3, 1, 5})                                                \
    T(sum, gan_sum(gan_square(A)), ANY, {2, 3, 4, 5})                                              \
    T(mean, gan_mean(gan_square(A)), ANY, {2, 3, 4, 5})                                            \
    T(sum_to, gan_sum_to(A, 1, 3, 1, 5), ANY, {2, 3, 4, 5})                                        \
    T(mean_to, gan_mean_to(A, 2, 1, 4, 1), ANY, {2, 3, 4, 5})                                      \
    T(expand, gan_expand(A, 2, 3, 4, 5), ANY, {2, 1, 1, 5})                                        \
    T(reshape, gan_reshape(A, 5, -1, 3, 1), ANY, {2, 3, 4, 5})                                     \
    T(permute, gan_permute(A, 2, 0, 3, 1), ANY, {2, 3, 4, 5})                                      \
    T(transpose, gan_transpose(A, 1, 3), ANY, {2, 3, 4, 5})                                        \
    T(slice, gan_slice(A, 2, 1, 2), ANY, {2, 3, 4, 5})                                             \
    T(concat, gan_concat(A, B, 1), ANY, {2, 3, 2, 5}, {2, 1, 2, 5})                                \
    T(matmul, gan_matmul(A, B), ANY, {2, 3, 4, 5}, {2, 3, 5, 2})                                   \
    T(matmul_broadcast, gan_matmul(A, B), ANY, {2, 1, 4, 5}, {1, 3, 5, 2})                         \
    T(matmul_t_10, gan_matmul_t(A, B, true, false), ANY, {1, 3, 5, 4}, {2, 3, 5, 2})               \
    T(matmul_t_01, gan_matmul_t(A, B, false, true), ANY, {2, 3, 4, 5}, {1, 1, 2, 5})               \
    T(matmul_t_11, gan_matmul_t(A, B, true, true), ANY, {2, 1, 5, 4}, {2, 3, 2, 5})                \
    T(linear_f, gan_linear_f(A, B, C), ANY, {3, 2, 2, 2}, {4, 8, 1, 1}, {1, 4, 1, 1})              \
    T(conv2d_f, gan_conv2d_f(A, B, C, 1, 0, 1), ANY, {2, 2, 4, 5}, {3, 2, 3, 2}, {1, 3, 1, 1})     \
    T(conv2d_f_stride, gan_conv2d_f(A, B, C, 2, 1, 1), ANY, {2, 2, 5, 6}, {3, 2, 3, 3},            \
      {1, 3, 1, 1})                                                                                \
    T(conv2d_f_large, gan_conv2d_f(A, B, NULL, 1, 3, 1), ANY, {1, 2, 3, 2}, {2, 2, 5, 7})          \
    T(conv2d_f_groups, gan_conv2d_f(A, B, C, 1, 1, 2), ANY, {2, 4, 3, 3}, {6, 2, 3, 3},            \
      {1, 6, 1, 1})                                                                                \
    T(conv2d_f_depth, gan_conv2d_f(A, B, NULL, 2, 1, 3), ANY, {2, 3, 5, 4}, {3, 1, 3, 3})          \
    T(conv_transpose, gan_conv_transpose2d_f(A, B, C, 2, 1, 0, 1), ANY, {2, 3, 3, 2},              \
      {3, 2, 4, 4}, {1, 2, 1, 1})                                                                  \
    T(conv_transpose_op, gan_conv_transpose2d_f(A, B, C, 3, 1, 2, 1), ANY, {1, 2, 2, 3},           \
      {2, 3, 3, 3}, {1, 3, 1, 1})                                                                  \
    T(conv_transpose_g, gan_conv_transpose2d_f(A, B, NULL, 2, 0, 1, 2), ANY, {2, 4, 2, 2},         \
      {4, 3, 3, 2})                                                                                \
    T(conv2d_weight, gan_conv2d_weight(A, B, 3, 3, 2, 1, 1), ANY, {2, 2, 5, 6}, {2, 3, 3, 3})      \
    T(conv2d_weight_g, gan_conv2d_weight(A, B, 2, 3, 1, 1, 2), ANY, {2, 4, 3, 3}, {2, 2, 4, 3})    \
    T(batch_norm, norm(A, B, C, true), ANY, {3, 2, 2, 3}, {1, 2, 1, 1}, {1, 2, 1, 1})              \
    T(batch_norm_flat, norm(A, B, C, true), ANY, {5, 3, 1, 1}, {1, 3, 1, 1}, {1, 3, 1, 1})         \
    T(batch_norm_eval, norm(A, B, C, false), ANY, {3, 2, 2, 3}, {1, 2, 1, 1}, {1, 2, 1, 1})        \
    T(bce_logits_1, gan_bce_logits(A, 1), ANY, {4, 1, 1, 3})                                       \
    T(bce_logits_0, gan_bce_logits(A, 0), ANY, {4, 1, 1, 3})                                       \
    T(bce_logits_smooth, gan_bce_logits(A, 0.9), ANY, {4, 1, 1, 3})                                \
    T(mse, gan_mse(A, B), ANY, {2, 3, 1, 5}, {2, 3, 1, 5})                                         \
    T(l1, gan_l1(A, gan_mul_scalar(B, 0.1)), KINKS, {2, 3, 1, 5}, {2, 3, 1, 5})                    \
    T(critic, critic(A, B, C), ANY, {2, 2, 4, 4}, {4, 2, 3, 3}, {1, 16, 1, 1})                     \
    T(gradient_penalty, penalty(A, B, C), ANY, {2, 2, 4, 4}, {4, 2, 3, 3}, {1, 16, 1, 1})          \
    T(norm_penalty, norm_penalty(A, B, C), ANY, {2, 2, 4, 4}, {4, 2, 3, 3}, {1, 16, 1, 1})         \
    T(elu, gan_elu(A), KINKS, {2, 3, 1, 5})                                                        \
    T(selu, gan_selu(A), KINKS, {2, 3, 1, 5})                                                      \
    T(silu, gan_silu(A), ANY, {2, 3, 1, 5})                                                        \
    T(gelu, gan_gelu(A), ANY, {2, 3, 1, 5})                                                        \
    T(prelu_f, gan_prelu_f(A, B), KINKS, {2, 3, 1, 5}, {1, 3, 1, 1})                               \
    T(prelu_f_one, gan_prelu_f(A, B), KINKS, {1, 1, 3, 5}, {1, 1, 1, 1})                           \
    T(softmax, gan_softmax(A, 1), ANY, {2, 5, 1, 3})                                               \
    T(softmax_last, gan_softmax(A, 3), ANY, {2, 1, 2, 7})                                          \
    T(log_softmax, gan_log_softmax(A, 1), ANY, {2, 5, 1, 3})                                       \
    T(log_softmax_last, gan_log_softmax(A, 3), ANY, {2, 1, 2, 7})                                  \
    T(concat_all, concat3(A, B, C, 1), ANY, {2, 3, 2, 5}, {2, 1, 2, 5}, {2, 2, 2, 5})              \
    T(gather, gan_gather(A, whole(g, 4, 6, 1, 1, 1), 1), ANY, {2, 4, 3, 2})                        \
    T(gather_each, gan_gather(A, whole(g, 3, 2, 2, 5, 2), 2), ANY, {2, 2, 3, 2})                   \
    T(scatter_add, gan_scatter_add(A, whole(g, 3, 4, 1, 1, 1), 1, 3), ANY, {2, 4, 3, 2})           \
    T(scatter_add_each, gan_scatter_add(A, whole(g, 4, 2, 2, 3, 2), 2, 4), ANY, {2, 2, 3, 2})      \
    T(one_hot, gan_mul(gan_square(A), gan_one_hot(whole(g, 4, 3, 1, 2, 1), 4)), ANY, {3, 4, 2, 1}) \
    T(dilated, gan_conv2d_with_f(A, B, C, OPTIONS(.pad = 2, .dilation = 2)), ANY, {2, 2, 4, 5},    \
      {3, 2, 3, 2}, {1, 3, 1, 1})                                                                  \
    T(dilated_stride,                                                                              \
      gan_conv2d_with_f(A, B, NULL, OPTIONS(.stride = 2, .pad = 3, .dilation = 3)), ANY,           \
      {1, 2, 6, 5}, {2, 2, 3, 3})                                                                  \
    T(dilated_groups,                                                                              \
      gan_conv2d_with_f(A, B, NULL, OPTIONS(.stride = 2, .pad = 1, .dilation = 2, .groups = 2)),   \
      ANY, {1, 4, 5, 6}, {4, 2, 3, 2})                                                             \
    T(conv_axes, gan_conv2d_with_f(A, B, C, OPTIONS(.stride_h = 2, .pad_w = 2, .dilation_w = 2)),  \
      ANY, {2, 2, 5, 4}, {3, 2, 3, 2}, {1, 3, 1, 1})                                               \
    T(conv_axes_groups,                                                                            \
      gan_conv2d_with_f(                                                                           \
          A, B, NULL, OPTIONS(.stride_w = 3, .pad = 1, .pad_h = 1, .dilation_h = 2, .groups = 2)), \
      ANY, {1, 4, 4, 5}, {2, 2, 3, 2})                                                             \
    T(up_axes,                                                                                     \
      gan_conv_transpose2d_with_f(A, B, C, OPTIONS(.stride_w = 2, .pad_h = 1, .output_pad_w = 1)), \
      ANY, {2, 2, 3, 2}, {2, 3, 3, 2}, {1, 3, 1, 1})                                               \
    T(up_dilated,                                                                                  \
      gan_conv_transpose2d_with_f(                                                                 \
          A, B, NULL,                                                                              \
          OPTIONS(.stride = 2, .stride_h = 3, .pad = 1, .dilation = 2, .dilation_w = 3)),          \
      ANY, {1, 2, 3, 2}, {2, 2, 2, 3})                                                             \
    T(up_axes_groups,                                                                              \
      gan_conv_transpose2d_with_f(A, B, NULL, OPTIONS(.stride_h = 2, .pad_w = 1, .groups = 2)),    \
      ANY, {1, 8, 2, 3}, {8, 4, 3, 2})                                                             \
    T(avg_pool_axes,                                                                               \
      gan_avg_pool2d_with(                                                                         \
          A, WINDOW(.kernel = 2, .kernel_w = 3, .stride_h = 1, .pad_w = 1, .ceil = true)),         \
      ANY, {2, 2, 4, 5})                                                                           \
    T(max_pool_axes,                                                                               \
      gan_max_pool2d_with(                                                                         \
          A, WINDOW(.kernel = 2, .kernel_w = 3, .stride_h = 1, .pad_w = 1, .ceil = true)),         \
      KINKS, {2, 2, 4, 5})                                                                         \
    T(pad, gan_pad(A, 1, 2, -1, 3, GAN_ZEROS), ANY, {2, 2, 3, 4})                                  \
    T(pad_reflect, gan_pad(A, 2, 1, 3, 0, GAN_REFLECT), ANY, {2, 2, 3, 4})                         \
    T(pad_replicate, gan_pad(A, 4, 0, 1, 2, GAN_REPLICATE), ANY, {2, 2, 3, 4})                     \
    T(resize, gan_resize(A, 5, 2, GAN_NEAREST), ANY, {2, 2, 3, 4})                                 \
    T(resize_bilinear, gan_resize(A, 5, 3, GAN_BILINEAR), ANY, {2, 2, 3, 4})                       \
    T(resize_aligned, gan_resize(A, 2, 7, GAN_ALIGNED), ANY, {2, 2, 3, 4})                         \
    T(upfirdn2d, fir(A), ANY, {2, 2, 3, 4})                                                        \
    T(avg_pool2d, gan_avg_pool2d(A, 3, 2, 1), ANY, {2, 2, 5, 4})                                   \
    T(avg_pool2d_all, gan_avg_pool2d(A, 0, 0, 0), ANY, {2, 2, 5, 4})                               \
    T(max_pool2d, gan_max_pool2d(A, 3, 2, 1, false), ANY, {2, 2, 5, 4})                            \
    T(max_pool2d_ceil, gan_max_pool2d(A, 2, 2, 0, true), ANY, {1, 2, 5, 5})                        \
    T(pixel_shuffle, gan_pixel_shuffle(A, 2), ANY, {2, 8, 2, 3})                                   \
    T(instance_norm_f, gan_instance_norm_f(A, B, C, 1e-3), ANY, {2, 2, 3, 4}, {1, 2, 1, 1},        \
      {1, 2, 1, 1})                                                                                \
    T(instance_norm_own, gan_instance_norm_f(A, B, C, 1e-3), ANY, {2, 2, 3, 2}, {2, 2, 1, 1},      \
      {2, 2, 1, 1})                                                                                \
    T(group_norm_f, gan_group_norm_f(A, B, C, 2, 1e-3), ANY, {2, 4, 3, 1}, {1, 4, 1, 1},           \
      {1, 4, 1, 1})                                                                                \
    T(layer_norm_f, gan_layer_norm_f(A, B, C, 1e-3), ANY, {2, 2, 3, 2}, {1, 2, 3, 2},              \
      {1, 2, 3, 2})                                                                                \
    T(adain, gan_adain(A, B, 1e-3), ANY, {2, 2, 3, 2}, {2, 2, 1, 5})                               \
    T(pixel_norm, gan_pixel_norm(A), KINKS, {2, 3, 1, 5})                                          \
    T(normalize, gan_normalize(A, 1), KINKS, {2, 3, 1, 5})                                         \
    T(minibatch_stddev, gan_minibatch_stddev(A, 3), ANY, {6, 2, 2, 1})                             \
    T(instance_norm, layer_of(A, 0), ANY, {2, 2, 3, 4})                                            \
    T(group_norm, layer_of(A, 1), ANY, {2, 4, 3, 1})                                               \
    T(layer_norm, layer_of(A, 2), ANY, {2, 2, 3, 2})                                               \
    T(prelu, layer_of(A, 3), KINKS, {2, 3, 1, 5})                                                  \
    T(batch_norm_layer, layer_of(A, 4), ANY, {3, 2, 2, 2})                                         \
    T(dropout, layer_of(A, 5), ANY, {2, 3, 2, 5})                                                  \
    T(conditional, conditional(A), ANY, {4, 2, 2, 2})                                              \
    T(self_attention, attention(A), ANY, {2, 3, 2, 3})                                             \
    T(modulated_f, gan_modulated_conv2d_f(A, B, C, 1, true), POSITIVE, {2, 2, 3, 3}, {3, 2, 3, 3}, \
      {2, 2, 1, 1})                                                                                \
    T(modulated_f_plain, gan_modulated_conv2d_f(A, B, C, 0, false), ANY, {2, 2, 3, 3},             \
      {3, 2, 3, 3}, {2, 2, 1, 1})                                                                  \
    T(demodulation, gan_demodulation(A, B), POSITIVE, {3, 2, 3, 2}, {2, 2, 1, 1})                  \
    T(modulated, modulated(A, B), POSITIVE, {2, 2, 3, 3}, {2, 3, 1, 1})                            \
    T(spectral_norm, spectral(A), POSITIVE, {3, 2, 2, 1})                                          \
    T(linear, dense_of(A, 0, GAN_PLAIN_WEIGHTS), ANY, {2, 3, 2, 1})                                \
    T(conv2d, dense_of(A, 1, GAN_EQUALIZED), ANY, {2, 2, 4, 3})                                    \
    T(conv_transpose2d, dense_of(A, 2, GAN_SPECTRAL), ANY, {1, 2, 3, 2})                           \
    T(bce_logits_to, gan_bce_logits_to(A, B), ANY, {4, 1, 1, 3}, {4, 1, 1, 3})                     \
    T(bce, gan_bce(gan_sigmoid(A), B), ANY, {4, 1, 1, 3}, {4, 1, 1, 3})                            \
    T(flipped_labels, gan_mul(gan_square(A), gan_flipped_labels(again(g), 4, 0.9, 0.5)), ANY,      \
      {4, 1, 1, 3})                                                                                \
    T(smooth_l1, gan_smooth_l1(A, gan_mul_scalar(B, 0.1)), KINKS, {2, 3, 1, 5}, {2, 3, 1, 5})      \
    T(cross_entropy, gan_cross_entropy(A, whole(g, 4, 2, 1, 3, 1)), ANY, {2, 4, 3, 1})             \
    T(d_minimax, gan_d_loss(A, B, GAN_MINIMAX), ANY, {4, 1, 1, 1}, {3, 1, 1, 1})                   \
    T(g_minimax, gan_g_loss(NULL, A, GAN_MINIMAX), ANY, {4, 1, 1, 1})                              \
    T(d_non_saturating, gan_d_loss(A, B, GAN_NON_SATURATING), ANY, {4, 1, 1, 1}, {3, 1, 1, 1})     \
    T(g_non_saturating, gan_g_loss(NULL, A, GAN_NON_SATURATING), ANY, {4, 1, 1, 1})                \
    T(d_least_squares, gan_d_loss(A, B, GAN_LEAST_SQUARES), ANY, {4, 1, 1, 1}, {3, 1, 1, 1})       \
    T(g_least_squares, gan_g_loss(NULL, A, GAN_LEAST_SQUARES), ANY, {4, 1, 1, 1})                  \
    T(d_hinge, gan_d_loss(A, B, GAN_HINGE), KINKS, {4, 1, 1, 1}, {3, 1, 1, 1})                     \
    T(g_hinge, gan_g_loss(NULL, A, GAN_HINGE), ANY, {4, 1, 1, 1})                                  \
    T(d_wasserstein, gan_d_loss(A, B, GAN_WASSERSTEIN), ANY, {4, 1, 1, 1}, {3, 1, 1, 1})           \
    T(g_wasserstein, gan_g_loss(NULL, A, GAN_WASSERSTEIN), ANY, {4, 1, 1, 1})                      \
    T(d_relativistic, gan_d_loss(A, B, GAN_RELATIVISTIC), ANY, {4, 1, 1, 1}, {3, 1, 1, 1})         \
    T(g_relativistic, gan_g_loss(A, B, GAN_RELATIVISTIC), ANY, {4, 1, 1, 1}, {3, 1, 1, 1})         \
    T(cycle_loss, gan_cycle_loss(A, gan_mul_scalar(B, 0.1)), KINKS, {2, 3, 1, 5}, {2, 3, 1, 5})    \
    T(identity_loss, gan_identity_loss(A, gan_mul_scalar(B, 0.1)), KINKS, {2, 3, 1, 5},            \
      {2, 3, 1, 5})                                                                                \
    T(perceptual_loss, features(A, 0), ANY, {2, 3, 2, 2})                                          \
    T(style_loss, features(A, 1), ANY, {2, 3, 2, 2})                                               \
    T(feature_matching, features(A, 2), ANY, {2, 3, 2, 2})                                         \
    T(gram, gan_gram(A), ANY, {2, 3, 2, 2})                                                        \
    T(total_variation, gan_total_variation(A), ANY, {2, 2, 3, 4})                                  \
    T(patch_nce, gan_patch_nce(A, fixed(g, 2, 3, 1, 4), 0.5), ANY, {2, 3, 1, 4})                   \
    T(r1, penalised(A, B, C, 0, R1), ANY, {2, 2, 4, 4}, {4, 2, 3, 3}, {1, 16, 1, 1})               \
    T(r2, penalised(A, B, C, 1, R2), ANY, {2, 2, 4, 4}, {4, 2, 3, 3}, {1, 16, 1, 1})               \
    T(penalty_instance, penalised(A, B, C, 1, TO_ONE), ANY, {2, 2, 4, 4}, {4, 2, 3, 3},            \
      {1, 16, 1, 1})                                                                               \
    T(penalty_layer, penalised(A, B, C, 2, TO_ONE), ANY, {2, 2, 4, 4}, {4, 2, 3, 3},               \
      {1, 16, 1, 1})                                                                               \
    T(penalty_group, penalised(A, B, C, 3, R1), ANY, {2, 2, 4, 4}, {4, 2, 3, 3}, {1, 16, 1, 1})    \
    T(penalty_stddev, penalised(A, B, C, 4, TO_ONE), ANY, {2, 2, 4, 4}, {4, 2, 3, 3},              \
      {1, 16, 1, 1})                                                                               \
    T(penalty_pixel, penalised(A, B, C, 5, TO_ONE), ANY, {2, 2, 4, 4}, {4, 2, 3, 3},               \
      {1, 16, 1, 1})                                                                               \
    T(wgan_gp, penalised(NULL, A, B, 1, BETWEEN), ANY, {4, 2, 3, 3}, {1, 16, 1, 1})                \
    T(dragan, penalised(NULL, A, B, 2, AROUND), ANY, {4, 2, 3, 3}, {1, 16, 1, 1})                  \
    T(path_length, path(A, B), ANY, {2, 3, 1, 1}, {3, 2, 3, 2})                                    \
    T(layer_after_conv,                                                                            \
      gan_layer_norm_f(gan_conv2d_f(gan_gelu(A), B, NULL, 2, 1, 1), NULL, NULL, 1e-3), ANY,        \
      {2, 2, 4, 3}, {2, 2, 3, 3})                                                                  \
    T(adain_after_fir, gan_adain(fir(gan_silu(A)), B, 1e-3), ANY, {1, 2, 3, 4}, {1, 2, 2, 2})      \
    T(shuffle_after_all,                                                                           \
      gan_pixel_shuffle(gan_instance_norm_f(gan_conv2d_with_f(gan_elu(A), B, NULL,                 \
                                                              OPTIONS(.pad = 2, .dilation = 2)),   \
                                            NULL, NULL, 1e-2),                                     \
                        2),                                                                        \
      KINKS, {1, 2, 3, 3}, {4, 2, 3, 3})                                                           \
    T(augment_flip, gan_augment(A, again(g) ? GAN_FLIP : 0, 1), ANY, {3, 2, 3, 4})                 \
    T(augment_shift, gan_augment(A, again(g) ? GAN_SHIFT : 0, 1), ANY, {2, 1, 9, 8})               \
    T(augment_cutout, gan_augment(A, again(g) ? GAN_CUTOUT : 0, 1), ANY, {2, 2, 4, 5})             \
    T(augment_color, gan_augment(A, again(g) ? GAN_COLOR : 0, 1), ANY, {2, 3, 2, 3})               \
    T(augment, gan_augment(A, again(g) ? 15 : 0, 0.75), ANY, {3, 1, 9, 8})                         \
    T(random_crop, gan_random_crop(A, again(g) ? 3 : 0, 2), ANY, {3, 2, 4, 5})

#define FUNCTION(name, computed, ...)                                \
    static gan_tensor *f_##name(gan *g, gan_tensor **in, void *user) \
    {                                                                \
        (void)g, (void)user;                                         \
        return computed;                                             \
    }
OPERATIONS(FUNCTION)

#define ROW(name, computed, kind, ...) {#name, f_##name, kind, {__VA_ARGS__}},
static const operation operations[] = {OPERATIONS(ROW)};

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
            if (op->kind == POSITIVE)
                values[i] = 0.5 + u;
            else if (op->kind == ANY)
                values[i] = 4 * u - 2;
            else
                values[i] = (i & 1 ? -1 : 1) *
                            (u < 0.5 ? 0.15 + u : 0.4 + u); /* 0.15..0.65 or 0.9..1.4 */
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

/* ---- a layer's own parameters, which the rows above leave out */

enum { LAYERS = 12 };

static gan_tensor *layer_with(gan_model *m, int which, gan_tensor *x)
{
    gan_tensor *labels = whole(x->g, 3, x->n, 1, 1, 1);
    switch (which) {
    case 0: return gan_linear(m, "a", x, 3);
    case 1: return gan_conv2d(m, "a", x, 3, 3, 2, 1);
    case 2: return gan_conv_transpose2d(m, "a", x, 2, 4, 2, 1);
    case 3: return gan_batch_norm(m, "a", x);
    case 4: return gan_instance_norm(m, "a", x);
    case 5: return gan_group_norm(m, "a", x, 2);
    case 6: return gan_layer_norm(m, "a", x);
    case 7: return gan_prelu(m, "a", x);
    case 8: return gan_self_attention(m, "a", x);
    case 9: return gan_modulated_conv2d(m, "a", x, fixed(x->g, x->n, 3, 1, 1), 2, 3, true);
    case 10: return gan_conditional_batch_norm(m, "a", x, labels, 3);
    default: return gan_mul(x, gan_embedding(m, "a", labels, 3, x->c));
    }
}

typedef struct {
    gan_model *model;
    int which;
    bool cut; /* a mistake: no gradient reaches the layer */
} layer_case;

static gan_tensor *layer_function(gan *g, gan_tensor **in, void *user)
{
    layer_case *l = (layer_case *)user;
    (void)g;
    gan_tensor *y = gan_tanh(layer_with(l->model, l->which, in[0]));
    return l->cut ? gan_add(gan_detach(y), gan_mean(gan_square(in[0]))) : y;
}

/* x, then all parameters that have a derivative, with random numbers in place of zeros and ones. */
static int layer_inputs(layer_case *l, gan *g, gan_tensor *in[16])
{
    int count = 1;
    in[0] = gan_add_scalar(gan_randn(g, 3, 4, 2, 3), 0.25);
    layer_with(l->model, l->which, in[0]);
    for (int i = 0; count < 16 && gan_param_name(l->model, i); i++) {
        const char *name = gan_param_name(l->model, i);
        double values[512];
        if (strstr(name, "running"))
            continue;
        gan_tensor *param = gan_find_param(l->model, name);
        gan_to_host(gan_add_scalar(gan_rand(g, param->n, param->c, param->h, param->w), -0.4),
                    values);
        gan_set(param, values);
        in[count++] = param;
    }
    return count;
}

static void test_layer_parameters(void)
{
    for (int which = 0; which < LAYERS; which++) {
        gan *g = gan_open("cpu", 11);
        gan_tensor *in[16];
        layer_case l = {gan_model_new(g, "m"), which, false};
        int count = layer_inputs(&l, g, in);
        CHECK(count > 1, "layer %d has no parameter", which);
        double first = gan_gradcheck(g, layer_function, in, count, &l);
        CHECK(first <= TOLERANCE, "layer %d: gan_gradcheck says %g: %s", which, first, gan_error());
        double second = gan_gradgradcheck(g, layer_function, in, count, &l);
        CHECK(second <= TOLERANCE, "layer %d: gan_gradgradcheck says %g: %s", which, second,
              gan_error());
        l.cut = true;
        first = gan_gradcheck(g, layer_function, in, count, &l);
        CHECK(first == INFINITY && strstr(gan_error(), "by input 1 is 0"),
              "layer %d, cut off by gan_detach: %g: %s", which, first, gan_error());
        gan_close(g);
    }
}

/* ---- that a wrong derivative is caught: ref with one kernel spoiled ---- */

static void negate(gan_real *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = -y[i];
}

static void wrong_conv_transpose2d(const gan_conv *p, const gan_real *a, const gan_real *b,
                                   gan_real *y)
{
    gan_ref_conv_transpose2d(p, a, b, y);
    negate(y, (size_t)p->n * p->c * p->h * p->w);
}

static void flipped_conv2d_weight(const gan_conv *p, const gan_real *a, const gan_real *b,
                                  gan_real *y)
{
    int k = p->kernel_h * p->kernel_w;
    gan_ref_conv2d_weight(p, a, b, y);
    for (int i = 0; i < p->out_c * (p->c / (p->groups ? p->groups : 1)); i++, y += k)
        for (int j = 0; j < k / 2; j++) {
            gan_real t = y[j];
            y[j] = y[k - 1 - j];
            y[k - 1 - j] = t;
        }
}

static void wrong_norm_sums(const gan_norm *p, const gan_real *a, const gan_real *b,
                            const gan_real *c, gan_real *y)
{
    gan_ref_norm_sums(p, a, b, c, y);
    negate(y + p->c, (size_t)p->c); /* the weight's gradient */
}

static void wrong_norm_grad(const gan_norm *p, const gan_real *a, const gan_real *b,
                            const gan_real *c, const gan_real *d, const gan_real *e, gan_real *y)
{
    gan_ref_norm_grad(p, a, b, c, d, e, y);
    negate(y, (size_t)p->n * p->c * p->size);
}

static void wrong_zip(const gan_zip *p, const gan_real *a, const gan_real *b, gan_real *y)
{
    gan_ref_zip(p, a, b, y);
    if (p->op >= GAN_GATE)
        negate(y, (size_t)p->n * p->c * p->h * p->w); /* the derivatives only */
}

/* ref under the name "wrong", with one kernel replaced. */
static void spoil(gan_backend *b, const char *kernel)
{
    *b = *gan_find_backend("ref");
    b->name = "wrong";
    if (!strcmp(kernel, "conv_transpose2d"))
        b->conv_transpose2d = wrong_conv_transpose2d;
    if (!strcmp(kernel, "conv2d_weight"))
        b->conv2d_weight = flipped_conv2d_weight;
    if (!strcmp(kernel, "norm_sums"))
        b->norm_sums = wrong_norm_sums;
    if (!strcmp(kernel, "norm_grad"))
        b->norm_grad = wrong_norm_grad;
    if (!strcmp(kernel, "zip"))
        b->zip = wrong_zip;
}

static void test_wrong_is_caught(void)
{
    static const char *const wrong[][2] = {
        /* kernel, operation whose derivative it computes */
        {"conv_transpose2d", "conv2d_f"},
        {"conv2d_weight", "conv2d_f"},
        {"conv2d_weight", "conv_transpose"},
        {"norm_sums", "batch_norm"},
        {"norm_grad", "batch_norm"},
        {"norm_grad", "batch_norm_eval"},
        {"zip", "relu"},
        {"zip", "leaky_relu_"},
        {"zip", "clamp"},
        {"zip", "tanh"},
        {"zip", "sigmoid"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        const operation *found = NULL;
        gan_backend b;
        gan_tensor *in[3];
        for (int k = 0; k < OPERATION_COUNT; k++)
            if (!strcmp(operations[k].name, wrong[i][1]))
                found = &operations[k];
        CHECK(found, "no operation %s", wrong[i][1]);
        spoil(&b, wrong[i][0]);
        CHECK(gan_register_backend(&b), "%s", gan_error());
        gan *g = gan_open("wrong", 7);
        CHECK(g, "%s", gan_error());
        double error = gan_gradcheck(g, found->f, in, inputs(g, found, in), NULL);
        /* A flipped sign is an error of 2, a flipped kernel about 1. */
        CHECK(error > 1e-2, "%s with a wrong %s: gan_gradcheck says %g", wrong[i][1], wrong[i][0],
              error);
        CHECK(strstr(gan_error(), "input ") && strstr(gan_error(), "element"),
              "%s: the message names no input and element: %s", wrong[i][1], gan_error());
        gan_close(g);
    }
}

/* The message says which input: here only the second one's derivative is wrong. */
static gan_tensor *half_detached(gan *g, gan_tensor **in, void *user)
{
    (void)g;
    (void)user;
    return gan_mul(in[0], gan_add(in[1], gan_detach(in[1])));
}

static void check_refused(gan_function *f, int kind, bool finite)
{
    operation row = {"", f, kind, {{2, 1, 1, 3}, {2, 1, 1, 3}}};
    gan_tensor *in[3];
    gan *g = gan_open("ref", 7);
    CHECK(g, "%s", gan_error());
    double error = gan_gradcheck(g, f, in, inputs(g, &row, in), NULL);
    CHECK(finite ? error > 1e-2 && error < INFINITY : error == INFINITY,
          "gan_gradcheck says %g: %s", error, gan_error());
    gan_close(g);
}

static void test_message_names_input(void)
{
    check_refused(half_detached, POSITIVE, true);
    CHECK(strstr(gan_error(), "input 1"),
          "the derivative in input 1 is wrong, the message says: %s", gan_error());
}

/* One element's derivative is half of what it should be: the first's, one in the middle, or the
   last's. */
static gan_tensor *one_wrong(gan *g, gan_tensor **in, void *user)
{
    int wrong = *(int *)user;
    double mask[6] = {1, 1, 1, 1, 1, 1};
    mask[wrong] = 0.5;
    gan_tensor *with = gan_from_host(g, mask, 2, 1, 1, 3);
    gan_tensor *without = gan_add_scalar(gan_neg(with), 1);
    return gan_add(in[0], gan_add(gan_mul(in[1], with), gan_mul(gan_detach(in[1]), without)));
}

static void test_message_names_element(void)
{
    static const operation row = {"", one_wrong, ANY, {{2, 1, 1, 3}, {2, 1, 1, 3}}};
    for (int wrong = 0; wrong < 6; wrong++) {
        gan_tensor *in[3];
        char want[32];
        gan *g = gan_open("cpu", 7);
        CHECK(g, "%s", gan_error());
        double error = gan_gradcheck(g, one_wrong, in, inputs(g, &row, in), &wrong);
        snprintf(want, sizeof want, "input 1, element %d", wrong);
        CHECK(fabs(error - 0.5) < 1e-6 && strstr(gan_error(), want),
              "element %d is off by a half, gan_gradcheck says %g: %s", wrong, error, gan_error());
        gan_close(g);
    }
}

static gan_tensor *nothing(gan *g, gan_tensor **in, void *user)
{
    (void)g;
    (void)user;
    return gan_mul_scalar(gan_add(in[0], in[1]), 0);
}

static gan_tensor *undefined(gan *g, gan_tensor **in, void *user)
{
    (void)g;
    (void)user;
    return gan_log(gan_neg(gan_add(in[0], in[1])));
}

static gan_tensor *infinite(gan *g, gan_tensor **in, void *user)
{
    (void)g;
    (void)user;
    return gan_sqrt(gan_mul_scalar(gan_add(in[0], in[1]), 0)); /* its derivative at 0 */
}

static void test_zero_is_refused(void)
{
    check_refused(nothing, ANY, false);
}

static void test_nan_is_refused(void)
{
    check_refused(undefined, POSITIVE, false);
}

static void test_infinity_is_refused(void)
{
    check_refused(infinite, POSITIVE, false);
}

int main(void)
{
    static const char *const devices[] = {"ref", "cpu"};
    char name[64];
    for (int d = 0; d < 2; d++)
        for (int i = 0; i < OPERATION_COUNT; i++) {
            device = devices[d];
            op = &operations[i];
            snprintf(name, sizeof name, "%s on %s", op->name, device);
            run(name, test_operation);
        }
    run("layers' own parameters", test_layer_parameters);
    run("a wrong derivative is caught", test_wrong_is_caught);
    run("the message names the input", test_message_names_input);
    run("the message names the element", test_message_names_element);
    run("a gradient that is zero everywhere is refused", test_zero_is_refused);
    run("a NaN is refused", test_nan_is_refused);
    run("an infinite derivative is refused", test_infinity_is_refused);
    return finish();
}
