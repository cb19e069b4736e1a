/* tests/operations.c: every operation, layer, loss and optimizer against PyTorch, forward and
   backward, on ref and on cpu.

       operations [tests/expected/reference.safetensors]

   The numbers come from tests/expected/reference.py. A case is one line of CASES below and one
   call of case() there, under the same name: a is the input that the file calls NAME.a, and so
   on; an input that the file lacks is NULL (no bias). A layer finds its parameters NAME.weight ..
   in the file, which is a model like any other. Before each case the random numbers begin anew.
   Some numbers known from papers, or written out by hand, follow, so that the file is not the
   only witness. */
#include "test.h"

static gan *g;
static gan_model *file; /* all of reference.safetensors */

static gan_tensor *wgan_gp(gan_tensor *x, gan_tensor *conv_w, gan_tensor *conv_b, gan_tensor *fc_w,
                           gan_tensor *fc_b);
static gan_tensor *wgan_gp_norm(gan_tensor *x, gan_tensor *conv_w, gan_tensor *bn_w,
                                gan_tensor *bn_b, gan_tensor *fc_w);

static const char *name_of_case(void);
#define NAME name_of_case()

static gan_tensor *concat_of(gan_tensor *a, gan_tensor *b, gan_tensor *c, gan_tensor *d,
                             gan_tensor *e, int dim);
static gan_tensor *fir(gan_tensor *x, int kind);
static gan_tensor *mode_of(int freeze, gan_tensor *x);
static gan_tensor *with_weights(int kind, int layer, gan_tensor *x);
static gan_tensor *features(int kind, gan_tensor *a, gan_tensor *b, gan_tensor *c, gan_tensor *d);

enum {
    R1,
    R2,
    GP,
    GP_0,
    WGAN_GP,
    DRAGAN,
    CRITIC_CONV = 0,
    CRITIC_INSTANCE,
    CRITIC_LAYER,
    CRITIC_GROUP
};

static gan_tensor *penalty_of(int kind, int critic, gan_tensor *a, gan_tensor *b, gan_tensor *c,
                              gan_tensor *d, gan_tensor *e);
static gan_tensor *path_length(gan_tensor *w, gan_tensor *first, gan_tensor *second);

#define BROADCASTS(X, op)             \
    X(op##_same, gan_##op(a, b))      \
    X(op##_number, gan_##op(a, b))    \
    X(op##_to_number, gan_##op(a, b)) \
    X(op##_channel, gan_##op(a, b))   \
    X(op##_image, gan_##op(a, b))     \
    X(op##_row, gan_##op(a, b)) X(op##_plane, gan_##op(a, b)) X(op##_both, gan_##op(a, b))
#define FUNCTION_AND_SLOPE(X, op) \
    X(op, gan_##op(a)) X(op##_slope, gan_grad(gan_sum(gan_##op(a)), a))
#define ARITHMETIC(X)                                                       \
    BROADCASTS(X, add)                                                      \
    BROADCASTS(X, sub)                                                      \
    BROADCASTS(X, mul)                                                      \
    BROADCASTS(X, div)                                                      \
    X(div_negative, gan_div(a, b))                                          \
    X(add_scalar, gan_add_scalar(a, 0.75))                                  \
    X(mul_scalar, gan_mul_scalar(a, -1.5))                                  \
    X(neg, gan_neg(a))                                                      \
    FUNCTION_AND_SLOPE(X, exp)                                              \
    FUNCTION_AND_SLOPE(X, square)                                           \
    FUNCTION_AND_SLOPE(X, tanh)                                             \
    FUNCTION_AND_SLOPE(X, sigmoid)                                          \
    FUNCTION_AND_SLOPE(X, softplus)                                         \
    FUNCTION_AND_SLOPE(X, log)                                              \
    FUNCTION_AND_SLOPE(X, sqrt)                                             \
    FUNCTION_AND_SLOPE(X, rsqrt)                                            \
    X(tanh_far, gan_tanh(a))                                                \
    X(sigmoid_far, gan_sigmoid(a))                                          \
    X(softplus_far, gan_softplus(a))                                        \
    X(abs, gan_abs(a))                                                      \
    X(abs_at_0, gan_abs(a))                                                 \
    X(relu, gan_relu(a))                                                    \
    X(relu_at_0, gan_relu(a))                                               \
    X(leaky_relu, gan_leaky_relu(a, 0.2))                                   \
    X(leaky_relu_at_0, gan_leaky_relu(a, 0.2))                              \
    X(leaky_relu_negative, gan_leaky_relu(a, -0.3))                         \
    X(clamp, gan_clamp(a, -0.5, 1))                                         \
    X(clamp_ends, gan_clamp(a, -0.5, 1))                                    \
    X(relu_in_place, gan_relu_(gan_mul_scalar(a, 2)))                       \
    X(leaky_relu_in_place, gan_leaky_relu_(gan_mul_scalar(a, 2), 0.2))      \
    X(used_twice, gan_mul(a, gan_add(a, b)))                                \
    X(detach, gan_mul(gan_square(gan_detach(a)), a))                        \
    X(shared_gradient, gan_add(gan_tanh(a), gan_leaky_relu(b, 0.2)))        \
    X(residual, gan_add(gan_add(a, gan_sigmoid(a)), gan_relu(gan_tanh(a)))) \
    X(unused, gan_mul_scalar(a, 3))

/* The same computed of three shapes: cases NAME and NAME with either suffix. */
#define THREE(X, name, one, two, expression) \
    X(name, expression) X(name##one, expression) X(name##two, expression)

#define ACTIVATION(X, op)     \
    FUNCTION_AND_SLOPE(X, op) \
    X(op##_n1, gan_##op(a)) X(op##_at_0, gan_##op(a)) X(op##_far, gan_##op(a))
#define ACTIVATIONS(X)              \
    ACTIVATION(X, elu)              \
    ACTIVATION(X, selu)             \
    ACTIVATION(X, silu)             \
    ACTIVATION(X, gelu)             \
    X(prelu, gan_prelu_f(a, b))     \
    X(prelu_one, gan_prelu_f(a, b)) \
    X(prelu_n1, gan_prelu_f(a, b))  \
    X(prelu_at_0, gan_prelu_f(a, b))

#define IN_DIM(X, dim, size)                                \
    X(softmax_##dim, gan_softmax(a, dim))                   \
    X(log_softmax_##dim, gan_log_softmax(a, dim))           \
    X(concat_all_##dim, concat_of(a, b, c, d, e, dim))      \
    X(gather_list_##dim, gan_gather(a, b, dim))             \
    X(gather_##dim, gan_gather(a, b, dim))                  \
    X(scatter_list_##dim, gan_scatter_add(a, b, dim, size)) \
    X(scatter_##dim, gan_scatter_add(a, b, dim, size))
#define GATHER(X)                                    \
    IN_DIM(X, 0, 3)                                  \
    IN_DIM(X, 1, 4)                                  \
    IN_DIM(X, 2, 2)                                  \
    IN_DIM(X, 3, 5)                                  \
    X(softmax_far, gan_softmax(a, 3))                \
    X(log_softmax_far, gan_log_softmax(a, 3))        \
    X(softmax_many, gan_softmax(a, 1))               \
    X(log_softmax_many, gan_log_softmax(a, 1))       \
    X(softmax_one, gan_softmax(a, 1))                \
    X(concat_all_5, concat_of(a, b, c, d, e, 1))     \
    X(concat_all_alone, concat_of(a, b, c, d, e, 1)) \
    X(gather_one, gan_gather(a, b, 0))               \
    THREE(X, one_hot, _map, _n1, gan_mul(a, gan_one_hot(b, 4)))

#define EACH_PART(X, part, n, c, h, w)          \
    X(sum_to_##part, gan_sum_to(a, n, c, h, w)) \
    X(mean_to_##part, gan_mean_to(a, n, c, h, w)) X(expand_##part, gan_expand(a, 2, 3, 2, 5))
#define REDUCE(X)                     \
    X(sum, gan_sum(a))                \
    X(mean, gan_mean(a))              \
    EACH_PART(X, all, 1, 1, 1, 1)     \
    EACH_PART(X, channel, 1, 3, 1, 1) \
    EACH_PART(X, image, 2, 1, 1, 1)   \
    EACH_PART(X, plane, 2, 3, 1, 1)   \
    EACH_PART(X, columns, 1, 1, 1, 5) \
    EACH_PART(X, rows, 1, 1, 2, 1)    \
    EACH_PART(X, batch, 1, 3, 2, 5)   \
    EACH_PART(X, width, 2, 3, 2, 1)   \
    EACH_PART(X, none, 2, 3, 2, 5)

#define SHAPE(X)                                 \
    X(reshape, gan_reshape(a, 3, 10, 1, 2))      \
    X(reshape_rest, gan_reshape(a, 2, -1, 1, 1)) \
    X(permute_0231, gan_permute(a, 0, 2, 3, 1))  \
    X(permute_3102, gan_permute(a, 3, 1, 0, 2))  \
    X(permute_1203, gan_permute(a, 1, 2, 0, 3))  \
    X(transpose_01, gan_transpose(a, 0, 1))      \
    X(transpose_23, gan_transpose(a, 2, 3))      \
    X(transpose_13, gan_transpose(a, 1, 3))      \
    X(slice_0, gan_slice(a, 0, 1, 2))            \
    X(slice_1, gan_slice(a, 1, 2, 1))            \
    X(slice_2, gan_slice(a, 2, 0, 3))            \
    X(slice_3, gan_slice(a, 3, 1, 4))            \
    X(concat_0, gan_concat(a, b, 0))             \
    X(concat_1, gan_concat(a, b, 1))             \
    X(concat_2, gan_concat(a, b, 2))             \
    X(concat_3, gan_concat(a, b, 3))

#define MATMUL(X)                                       \
    X(matmul, gan_matmul(a, b))                         \
    X(matmul_nn, gan_matmul_t(a, b, false, false))      \
    X(matmul_nt, gan_matmul_t(a, b, false, true))       \
    X(matmul_tn, gan_matmul_t(a, b, true, false))       \
    X(matmul_tt, gan_matmul_t(a, b, true, true))        \
    X(matmul_shared_b, gan_matmul(a, b))                \
    X(matmul_shared_a, gan_matmul_t(a, b, false, true)) \
    X(matmul_crossed, gan_matmul_t(a, b, true, false))  \
    X(matmul_dot, gan_matmul(a, b))                     \
    X(matmul_outer, gan_matmul(a, b))                   \
    X(matmul_odd, gan_matmul(a, b))                     \
    X(linear, gan_linear_f(a, b, c))                    \
    X(linear_no_bias, gan_linear_f(a, b, c))            \
    X(linear_flattens, gan_linear_f(a, b, c))           \
    X(linear_n1, gan_linear_f(a, b, c))                 \
    X(linear_one, gan_linear_f(a, b, c))

/* stride, pad, groups; after the name of a transposed one: stride, pad, output_pad, groups */
#define CONV(X)                                                      \
    X(conv_1x1, gan_conv2d_f(a, b, c, 1, 0, 1))                      \
    X(conv_1x1_s2, gan_conv2d_f(a, b, c, 2, 0, 1))                   \
    X(conv_3x3, gan_conv2d_f(a, b, c, 1, 0, 1))                      \
    X(conv_3x3_p1, gan_conv2d_f(a, b, c, 1, 1, 1))                   \
    X(conv_3x3_s2_odd, gan_conv2d_f(a, b, c, 2, 1, 1))               \
    X(conv_3x3_s2_even, gan_conv2d_f(a, b, c, 2, 0, 1))              \
    X(conv_4x4_s2_p1, gan_conv2d_f(a, b, c, 2, 1, 1))                \
    X(conv_4x4_s2_p1_odd, gan_conv2d_f(a, b, c, 2, 1, 1))            \
    X(conv_5x3, gan_conv2d_f(a, b, c, 1, 1, 1))                      \
    X(conv_2x5_s2_p2, gan_conv2d_f(a, b, c, 2, 2, 1))                \
    X(conv_s3_rest, gan_conv2d_f(a, b, c, 3, 0, 1))                  \
    X(conv_s3_gap, gan_conv2d_f(a, b, c, 3, 1, 1))                   \
    X(conv_5x5_on_3x3, gan_conv2d_f(a, b, c, 1, 1, 1))               \
    X(conv_5x5_on_2x3_s2, gan_conv2d_f(a, b, c, 2, 2, 1))            \
    X(conv_3x3_on_1x1, gan_conv2d_f(a, b, c, 1, 1, 1))               \
    X(conv_to_1x1, gan_conv2d_f(a, b, c, 1, 0, 1))                   \
    X(conv_pad_2_of_3x3, gan_conv2d_f(a, b, c, 1, 2, 1))             \
    X(conv_n1, gan_conv2d_f(a, b, c, 1, 1, 1))                       \
    X(conv_to_1x1_n1, gan_conv2d_f(a, b, c, 1, 0, 1))                \
    X(conv_groups, gan_conv2d_f(a, b, c, 1, 1, 2))                   \
    X(conv_depthwise, gan_conv2d_f(a, b, c, 1, 1, 3))                \
    X(conv_depthwise_s2, gan_conv2d_f(a, b, c, 2, 1, 3))             \
    X(conv_many_channels, gan_conv2d_f(a, b, c, 1, 1, 1))            \
    X(up_1x1, gan_conv_transpose2d_f(a, b, c, 1, 0, 0, 1))           \
    X(up_3x3, gan_conv_transpose2d_f(a, b, c, 1, 0, 0, 1))           \
    X(up_3x3_p1, gan_conv_transpose2d_f(a, b, c, 1, 1, 0, 1))        \
    X(up_4x4_s2_p1, gan_conv_transpose2d_f(a, b, c, 2, 1, 0, 1))     \
    X(up_4x4_s2_p1_n1, gan_conv_transpose2d_f(a, b, c, 2, 1, 0, 1))  \
    X(up_from_1x1, gan_conv_transpose2d_f(a, b, c, 1, 0, 0, 1))      \
    X(up_5x3_s2, gan_conv_transpose2d_f(a, b, c, 2, 1, 0, 1))        \
    X(up_3x3_s2_out1, gan_conv_transpose2d_f(a, b, c, 2, 1, 1, 1))   \
    X(up_4x4_s3_out2, gan_conv_transpose2d_f(a, b, c, 3, 1, 2, 1))   \
    X(up_2x2_s3_gap, gan_conv_transpose2d_f(a, b, c, 3, 0, 1, 1))    \
    X(up_5x5_p3, gan_conv_transpose2d_f(a, b, c, 1, 3, 0, 1))        \
    X(up_groups, gan_conv_transpose2d_f(a, b, c, 2, 1, 0, 2))        \
    X(up_depthwise, gan_conv_transpose2d_f(a, b, c, 2, 1, 1, 3))     \
    X(up_many_channels, gan_conv_transpose2d_f(a, b, c, 2, 1, 0, 1)) \
    X(weight_3x3_p1, gan_conv2d_weight(a, b, 3, 3, 1, 1, 1))         \
    X(weight_4x4_s2_p1, gan_conv2d_weight(a, b, 4, 4, 2, 1, 1))      \
    X(weight_5x3_rest, gan_conv2d_weight(a, b, 5, 3, 2, 1, 1))       \
    X(weight_groups, gan_conv2d_weight(a, b, 3, 3, 2, 1, 2))

#define DILATED(X)                                                                               \
    X(dilated_2, gan_conv2d_with_f(a, b, c, OPTIONS(.pad = 2, .dilation = 2)))                   \
    X(dilated_3_s2, gan_conv2d_with_f(a, b, c, OPTIONS(.stride = 2, .pad = 3, .dilation = 3)))   \
    X(dilated_2_s2, gan_conv2d_with_f(a, b, c, OPTIONS(.stride = 2, .pad = 1, .dilation = 2)))   \
    X(dilated_groups, gan_conv2d_with_f(a, b, c, OPTIONS(.pad = 2, .dilation = 2, .groups = 2))) \
    X(dilated_depthwise,                                                                         \
      gan_conv2d_with_f(a, b, c, OPTIONS(.stride = 2, .pad = 4, .dilation = 4, .groups = 3)))    \
    X(dilated_to_1x1, gan_conv2d_with_f(a, b, c, OPTIONS(.dilation = 3)))

#define AXES(X)                                                                                    \
    X(conv_axes, gan_conv2d_with_f(a, b, c, OPTIONS(.stride_h = 2, .pad_w = 3, .dilation_w = 2)))  \
    X(conv_axes_both,                                                                              \
      gan_conv2d_with_f(                                                                           \
          a, b, c, OPTIONS(.stride = 2, .stride_h = 3, .pad = 1, .pad_h = 1, .dilation_h = 2)))    \
    X(conv_axes_groups, gan_conv2d_with_f(a, b, c,                                                 \
                                          OPTIONS(.stride_w = 3, .pad_h = 1, .dilation = 2,        \
                                                  .dilation_w = 1, .groups = 2)))                  \
    X(conv_axes_depthwise,                                                                         \
      gan_conv2d_with_f(                                                                           \
          a, b, c, OPTIONS(.stride_h = 2, .pad = 2, .pad_h = -1, .dilation_w = 3, .groups = 3)))   \
    X(conv_axes_row,                                                                               \
      gan_conv2d_with_f(a, b, c, OPTIONS(.out = 2, .kernel = 7, .kernel_h = 1, .pad_w = 3)))       \
    X(conv_axes_c1, gan_conv2d_with_f(a, b, c, OPTIONS(.stride_w = 2, .pad_h = 2)))                \
    X(up_axes,                                                                                     \
      gan_conv_transpose2d_with_f(a, b, c, OPTIONS(.stride_h = 2, .pad_h = 1, .output_pad_h = 1))) \
    X(up_axes_both,                                                                                \
      gan_conv_transpose2d_with_f(                                                                 \
          a, b, c, OPTIONS(.stride = 2, .stride_w = 3, .pad = 1, .pad_w = 1, .output_pad_w = 2)))  \
    X(up_axes_groups,                                                                              \
      gan_conv_transpose2d_with_f(                                                                 \
          a, b, c, OPTIONS(.stride_w = 2, .pad_w = 1, .output_pad_w = 1, .groups = 2)))            \
    X(up_axes_dilated,                                                                             \
      gan_conv_transpose2d_with_f(a, b, c,                                                         \
                                  OPTIONS(.stride_h = 3, .stride_w = 2, .pad_h = 1, .pad_w = 2,    \
                                          .output_pad = 1, .output_pad_h = 1, .dilation_w = 2)))   \
    X(up_dilated, gan_conv_transpose2d_with_f(a, b, c, OPTIONS(.pad = 2, .dilation = 2)))          \
    X(up_dilated_s2, gan_conv_transpose2d_with_f(                                                  \
                         a, b, c, OPTIONS(.stride = 2, .pad = 1, .output_pad = 1, .dilation = 3))) \
    POOL_AXES(X, avg)                                                                              \
    POOL_AXES(X, max)
#define POOL_AXES(X, kind)                                                                       \
    X(kind##_pool_axes,                                                                          \
      gan_##kind##_pool2d_with(                                                                  \
          a, WINDOW(.kernel_h = 3, .kernel_w = 2, .stride_h = 2, .stride_w = 1, .pad_h = 1)))    \
    X(kind##_pool_axes_ceil,                                                                     \
      gan_##kind##_pool2d_with(a, WINDOW(.kernel = 3, .kernel_w = 4, .stride = 2, .stride_w = 3, \
                                         .pad = 1, .pad_w = 1, .ceil = true)))                   \
    X(kind##_pool_axes_stride, gan_##kind##_pool2d_with(a, WINDOW(.kernel = 2, .kernel_w = 3)))  \
    X(kind##_pool_axes_width, gan_##kind##_pool2d_with(a, WINDOW(.kernel_h = 2, .stride = 1)))   \
    X(kind##_pool_axes_height,                                                                   \
      gan_##kind##_pool2d_with(a, WINDOW(.kernel_w = 3, .stride = 2, .pad_w = 1)))               \
    X(kind##_pool_ceil_end,                                                                      \
      gan_##kind##_pool2d_with(a, WINDOW(.kernel = 3, .stride = 2, .ceil = true)))               \
    X(kind##_pool_ceil_far,                                                                      \
      gan_##kind##_pool2d_with(a, WINDOW(.kernel = 2, .stride = 5, .pad = 1, .ceil = true)))

#define PAD(X, mode, MODE)                                       \
    THREE(X, pad_##mode, _c1, _n3, gan_pad(a, 2, 1, 0, 2, MODE)) \
    THREE(X, pad_##mode##_crop, _c1, _n3, gan_pad(a, -1, 1, 1, -1, MODE))
#define RESIZE(X, mode, MODE)                                              \
    THREE(X, resize_##mode##_larger, _c1, _n3, gan_resize(a, 8, 10, MODE)) \
    THREE(X, resize_##mode##_smaller, _c1, _n3, gan_resize(a, 3, 2, MODE)) \
    THREE(X, resize_##mode##_one, _c1, _n3, gan_resize(a, 1, 1, MODE))     \
    THREE(X, resize_##mode##_mixed, _c1, _n3, gan_resize(a, 2, 11, MODE))  \
    X(resize_##mode##_point, gan_resize(a, 4, 3, MODE))
#define RESAMPLE(X)                                                         \
    PAD(X, zeros, GAN_ZEROS)                                                \
    PAD(X, reflect, GAN_REFLECT)                                            \
    PAD(X, replicate, GAN_REPLICATE)                                        \
    RESIZE(X, nearest, GAN_NEAREST)                                         \
    RESIZE(X, bilinear, GAN_BILINEAR)                                       \
    RESIZE(X, aligned, GAN_ALIGNED)                                         \
    THREE(X, fir_up, _c1, _n3, fir(a, 0))                                   \
    THREE(X, fir_down, _c1, _n3, fir(a, 1))                                 \
    THREE(X, fir_uneven, _c1, _n3, fir(a, 2))                               \
    THREE(X, fir_cropped, _c1, _n3, fir(a, 3))                              \
    THREE(X, avg_pool_2, _c1, _n3, gan_avg_pool2d(a, 2, 2, 0))              \
    THREE(X, avg_pool_3_s2, _c1, _n3, gan_avg_pool2d(a, 3, 2, 1))           \
    THREE(X, avg_pool_3_s1, _c1, _n3, gan_avg_pool2d(a, 3, 1, 1))           \
    THREE(X, avg_pool_all, _c1, _n3, gan_avg_pool2d(a, 0, 0, 0))            \
    THREE(X, max_pool_2, _c1, _n3, gan_max_pool2d(a, 2, 2, 0, false))       \
    THREE(X, max_pool_3_s2, _c1, _n3, gan_max_pool2d(a, 3, 2, 1, false))    \
    THREE(X, max_pool_ceil, _c1, _n3, gan_max_pool2d(a, 2, 2, 0, true))     \
    THREE(X, max_pool_ceil_pad, _c1, _n3, gan_max_pool2d(a, 3, 3, 1, true)) \
    THREE(X, max_pool_all, _c1, _n3, gan_max_pool2d(a, 0, 0, 0, false))     \
    X(max_pool_ties, gan_max_pool2d(a, 3, 2, 1, false))                     \
    X(pixel_shuffle_2, gan_pixel_shuffle(a, 2))                             \
    X(pixel_shuffle_3, gan_pixel_shuffle(a, 3))                             \
    X(pixel_shuffle_1, gan_pixel_shuffle(a, 1))

#define IMAGE_NORMS(X)                                                             \
    THREE(X, instance_norm, _n1, _thin, gan_instance_norm_f(a, b, c, 1e-5))        \
    THREE(X, instance_norm_plain, _n1, _thin, gan_instance_norm_f(a, b, c, 0.125)) \
    THREE(X, instance_norm_each, _n1, _thin, gan_instance_norm_f(a, b, c, 1e-5))   \
    X(instance_norm_offset, gan_instance_norm_f(a, b, c, 1e-5))                    \
    THREE(X, group_norm_1, _n1, _thin, gan_group_norm_f(a, b, c, 1, 1e-5))         \
    THREE(X, group_norm_c, _n1, _thin, gan_group_norm_f(a, b, c, a->c, 1e-5))      \
    THREE(X, group_norm_plain, _n1, _thin, gan_group_norm_f(a, b, c, 1, 0.125))    \
    X(group_norm_2, gan_group_norm_f(a, b, c, 2, 1e-5))                            \
    THREE(X, layer_norm, _n1, _thin, gan_layer_norm_f(a, b, c, 1e-5))              \
    THREE(X, layer_norm_plain, _n1, _thin, gan_layer_norm_f(a, b, c, 0.125))       \
    THREE(X, adain, _n1, _thin, gan_adain(a, b, 1e-5))                             \
    THREE(X, pixel_norm, _n1, _thin, gan_pixel_norm(a))                            \
    THREE(X, normalize_0, _n1, _thin, gan_normalize(a, 0))                         \
    THREE(X, normalize_1, _n1, _thin, gan_normalize(a, 1))                         \
    THREE(X, normalize_2, _n1, _thin, gan_normalize(a, 2))                         \
    THREE(X, normalize_3, _n1, _thin, gan_normalize(a, 3))                         \
    X(minibatch_stddev_2, gan_minibatch_stddev(a, 2))                              \
    X(minibatch_stddev_4, gan_minibatch_stddev(a, 4))                              \
    X(minibatch_stddev_all, gan_minibatch_stddev(a, 4))                            \
    X(minibatch_stddev_one, gan_minibatch_stddev(a, 4))

#define LAYERS(X)                                                                                 \
    THREE(X, layer_instance_norm, _n1, _odd, gan_instance_norm(file, NAME, a))                    \
    THREE(X, layer_layer_norm, _n1, _odd, gan_layer_norm(file, NAME, a))                          \
    THREE(X, layer_group_norm, _n1, _odd, gan_group_norm(file, NAME, a, a->c > 1 ? a->c / 2 : 1)) \
    THREE(X, layer_prelu, _n1, _odd, gan_prelu(file, NAME, a))                                    \
    THREE(X, layer_batch_norm_train, _n1, _odd, gan_batch_norm(file, NAME, a))                    \
    THREE(X, layer_batch_norm_eval, _n1, _odd, mode_of(0, a))                                     \
    THREE(X, layer_batch_norm_freeze, _n1, _odd, mode_of(1, a))                                   \
    THREE(X, conditional_batch_norm, _n1, _odd, gan_conditional_batch_norm(file, NAME, a, b, 3))  \
    THREE(X, self_attention, _n1, _odd, gan_self_attention(file, NAME, a))                        \
    X(self_attention_8, gan_self_attention(file, NAME, a))                                        \
    THREE(X, modulated_layer, _n1, _odd, gan_modulated_conv2d(file, NAME, a, b, 3, 3, true))      \
    THREE(X, modulated_plain, _n1, _odd, gan_modulated_conv2d(file, NAME, a, b, 5, 1, false))     \
    THREE(X, modulated_f, _n1, _odd, gan_modulated_conv2d_f(a, b, c, 1, true))                    \
    THREE(X, modulated_f_plain, _n1, _odd, gan_modulated_conv2d_f(a, b, c, 0, false))             \
    THREE(X, demodulation, _n1, _odd, gan_demodulation(a, b))                                     \
    THREE(X, dropout, _n1, _odd, gan_dropout(file, a, 0.25))                                      \
    X(embedding, gan_embedding(file, NAME, a, 4, 3))                                              \
    X(embedding_one, gan_embedding(file, NAME, a, 1, 5))                                          \
    X(embedding_unused, gan_embedding(file, NAME, a, 5, 1))                                       \
    X(spectral, gan_spectral_norm(file, NAME, a))                                                 \
    X(spectral_row, gan_spectral_norm(file, NAME, a))                                             \
    X(spectral_column, gan_spectral_norm(file, NAME, a))                                          \
    X(spectral_conv, with_weights(GAN_SPECTRAL, 0, a))                                            \
    X(spectral_up, with_weights(GAN_SPECTRAL, 1, a))                                              \
    X(spectral_fc, with_weights(GAN_SPECTRAL, 2, a))                                              \
    X(equalized_conv, with_weights(GAN_EQUALIZED, 3, a))                                          \
    X(equalized_fc, with_weights(GAN_EQUALIZED, 2, a))

#define NORM(X)                                                               \
    X(batch_norm, gan_batch_norm_f(a, b, c, d, e, true, 0.1, 1e-5))           \
    X(batch_norm_n1, gan_batch_norm_f(a, b, c, d, e, true, 0.1, 1e-5))        \
    X(batch_norm_1x1, gan_batch_norm_f(a, b, c, d, e, true, 0.1, 1e-5))       \
    X(batch_norm_options, gan_batch_norm_f(a, b, c, d, e, true, 0.25, 0.125)) \
    X(batch_norm_offset, gan_batch_norm_f(a, b, c, d, e, true, 0.1, 1e-5))    \
    X(batch_norm_eval, gan_batch_norm_f(a, b, c, d, e, false, 0.1, 1e-5))     \
    X(batch_norm_eval_one, gan_batch_norm_f(a, b, c, d, e, false, 0.1, 1e-5)) \
    X(batch_norm_slope, batch_norm_slope(a, b, c, d))                         \
    X(penalty, wgan_gp(a, b, c, d, e))                                        \
    X(penalty_norm, wgan_gp_norm(a, b, c, d, e))

#define LOSSES(X)                         \
    X(bce_0, gan_bce_logits(a, 0))        \
    X(bce_1, gan_bce_logits(a, 1))        \
    X(bce_09, gan_bce_logits(a, 0.9))     \
    X(bce_0_far, gan_bce_logits(a, 0))    \
    X(bce_1_far, gan_bce_logits(a, 1))    \
    X(bce_09_far, gan_bce_logits(a, 0.9)) \
    X(mse, gan_mse(a, b))                 \
    X(l1, gan_l1(a, b))                   \
    X(l1_equal, gan_l1(a, b))

#define BOTH_SIDES(X, name, KIND)                             \
    THREE(X, d_##name, _uneven, _one, gan_d_loss(a, b, KIND)) \
    THREE(X, g_##name, _uneven, _one, gan_g_loss(a, b, KIND))
#define MORE_LOSSES(X)                                               \
    BOTH_SIDES(X, minimax, GAN_MINIMAX)                              \
    BOTH_SIDES(X, non_saturating, GAN_NON_SATURATING)                \
    BOTH_SIDES(X, hinge, GAN_HINGE)                                  \
    BOTH_SIDES(X, least_squares, GAN_LEAST_SQUARES)                  \
    BOTH_SIDES(X, wasserstein, GAN_WASSERSTEIN)                      \
    BOTH_SIDES(X, relativistic, GAN_RELATIVISTIC)                    \
    THREE(X, bce_to, _one, _odd, gan_bce_logits_to(a, b))            \
    X(bce_to_far, gan_bce_logits_to(a, b))                           \
    THREE(X, bce_probabilities, _one, _odd, gan_bce(a, b))           \
    THREE(X, smooth_l1, _one, _odd, gan_smooth_l1(a, b))             \
    X(smooth_l1_ends, gan_smooth_l1(a, b))                           \
    THREE(X, cycle, _one, _odd, gan_cycle_loss(a, b))                \
    THREE(X, identity, _one, _odd, gan_identity_loss(a, b))          \
    THREE(X, cross_entropy, _map, _one, gan_cross_entropy(a, b))     \
    X(cross_entropy_n1, gan_cross_entropy(a, b))                     \
    X(cross_entropy_masked, gan_cross_entropy(a, b))                 \
    X(cross_entropy_masked_map, gan_cross_entropy(a, b))             \
    THREE(X, gram, _n1, _c1, gan_gram(a))                            \
    X(perceptual, features(0, a, b, c, d))                           \
    X(perceptual_one, features(0, a, b, c, d))                       \
    X(style, features(1, a, b, c, d))                                \
    X(style_of_one, features(1, a, b, c, d))                         \
    X(feature_matching, features(2, a, b, c, d))                     \
    THREE(X, total_variation, _row, _column, gan_total_variation(a)) \
    THREE(X, patch_nce, _n1, _c1, gan_patch_nce(a, b, 0.25))         \
    X(flipped_labels, gan_mul(a, gan_flipped_labels(g, 9, 0.875, 0.25)))

#define OF_CRITIC(X, name, CRITIC)                                \
    X(r1_##name, penalty_of(R1, CRITIC, a, b, c, d, e))           \
    X(r2_##name, penalty_of(R2, CRITIC, a, b, c, d, e))           \
    X(gp_##name, penalty_of(GP, CRITIC, a, b, c, d, e))           \
    X(gp_0_##name, penalty_of(GP_0, CRITIC, a, b, c, d, e))       \
    X(wgan_gp_##name, penalty_of(WGAN_GP, CRITIC, a, b, c, d, e)) \
    X(dragan_##name, penalty_of(DRAGAN, CRITIC, a, b, c, d, e))
#define PENALTIES(X)                        \
    OF_CRITIC(X, conv, CRITIC_CONV)         \
    OF_CRITIC(X, instance, CRITIC_INSTANCE) \
    OF_CRITIC(X, layer, CRITIC_LAYER)       \
    OF_CRITIC(X, group, CRITIC_GROUP)       \
    THREE(X, path_length, _n1, _layers, path_length(a, b, c))

#define AUGMENT(X)                                                        \
    THREE(X, augment_flip, _n1, _odd, gan_augment(a, GAN_FLIP, 1))        \
    THREE(X, augment_shift, _n1, _odd, gan_augment(a, GAN_SHIFT, 1))      \
    THREE(X, augment_cutout, _n1, _odd, gan_augment(a, GAN_CUTOUT, 1))    \
    THREE(X, augment_color, _n1, _odd, gan_augment(a, GAN_COLOR, 1))      \
    THREE(X, augment_diff, _n1, _odd, gan_augment(a, GAN_DIFFAUGMENT, 1)) \
    THREE(X, augment_half, _n1, _odd, gan_augment(a, 15, 0.5))            \
    THREE(X, augment_crop, _n1, _odd, gan_random_crop(a, 5, 8))

#define CASES(X)   \
    ARITHMETIC(X)  \
    ACTIVATIONS(X) \
    REDUCE(X)      \
    SHAPE(X)       \
    GATHER(X)      \
    MATMUL(X)      \
    CONV(X)        \
    DILATED(X)     \
    AXES(X)        \
    RESAMPLE(X)    \
    NORM(X)        \
    IMAGE_NORMS(X) \
    LAYERS(X)      \
    LOSSES(X)      \
    MORE_LOSSES(X) \
    PENALTIES(X)   \
    AUGMENT(X)

/* ---- the cases as functions
   -------------------------------------------------------------------------------- */

/* Batch norm with running statistics that nobody looks at. */
static gan_tensor *batch_norm(gan_tensor *x, gan_tensor *weight, gan_tensor *bias)
{
    gan_tensor *mean = gan_zeros(g, 1, x->c, 1, 1);
    gan_tensor *var = gan_full(g, 1, 1, x->c, 1, 1);
    return gan_batch_norm_f(x, weight, bias, mean, var, true, 0.1, 1e-5);
}

/* The squared norm of a gradient: its derivatives are second derivatives. */
static gan_tensor *batch_norm_slope(gan_tensor *x, gan_tensor *weight, gan_tensor *bias,
                                    gan_tensor *r)
{
    return gan_sum(gan_square(gan_grad(gan_sum(gan_mul(batch_norm(x, weight, bias), r)), x)));
}

/* The mean of (|dx| - 1)^2 over images (Gulrajani et al. 2017). */
static gan_tensor *penalty(gan_tensor *dx)
{
    gan_tensor *norm = gan_sqrt(gan_sum_to(gan_square(dx), dx->n, 1, 1, 1));
    return gan_mean(gan_square(gan_add_scalar(norm, -1)));
}

static gan_tensor *wgan_gp(gan_tensor *x, gan_tensor *conv_w, gan_tensor *conv_b, gan_tensor *fc_w,
                           gan_tensor *fc_b)
{
    gan_tensor *h = gan_leaky_relu(gan_conv2d_f(x, conv_w, conv_b, 2, 1, 1), 0.2);
    return penalty(gan_grad(gan_sum(gan_linear_f(h, fc_w, fc_b)), x));
}

static gan_tensor *wgan_gp_norm(gan_tensor *x, gan_tensor *conv_w, gan_tensor *bn_w,
                                gan_tensor *bn_b, gan_tensor *fc_w)
{
    gan_tensor *h = gan_tanh(batch_norm(gan_conv2d_f(x, conv_w, NULL, 2, 1, 1), bn_w, bn_b));
    return penalty(gan_grad(gan_sum(gan_square(gan_linear_f(h, fc_w, NULL))), x));
}

/* Those of five that are there, one after the other. */
static gan_tensor *concat_of(gan_tensor *a, gan_tensor *b, gan_tensor *c, gan_tensor *d,
                             gan_tensor *e, int dim)
{
    gan_tensor *parts[5] = {a, b, c, d, e};
    int count = 0;
    while (count < 5 && parts[count])
        count++;
    return gan_concat_all(parts, count, dim);
}

static gan_tensor *fir(gan_tensor *x, int kind)
{
    static const gan_real smooth[] = {0.125, 0.375, 0.375, 0.125};
    static const gan_real uneven[] = {1, -0.5, 0.25, 2, 0.75};
    static const gan_real three[] = {1, 2, -0.5};
    if (kind == 0)
        return gan_upfirdn2d(x, smooth, 4, 2, 1, 2, 1, 2);
    if (kind == 1)
        return gan_upfirdn2d(x, smooth, 4, 1, 2, 1, 1, 1);
    if (kind == 2)
        return gan_upfirdn2d(x, uneven, 5, 3, 2, 1, 3, 0.5);
    return gan_upfirdn2d(x, three, 3, 2, 1, -1, 3, 1);
}

static gan_tensor *mode_of(int freeze, gan_tensor *x)
{
    if (freeze)
        gan_freeze_norm(file);
    else
        gan_eval(file);
    x = gan_batch_norm(file, NAME, x);
    gan_train(file);
    return x;
}

static gan_tensor *with_weights(int kind, int layer, gan_tensor *x)
{
    gan_weights(file, kind, 0.5);
    x = layer == 0 ? gan_conv2d(file, NAME, x, 4, 3, 2, 1)
      : layer == 1 ? gan_conv_transpose2d(file, NAME, x, 2, 4, 2, 1)
      : layer == 2 ? gan_linear(file, NAME, x, 4)
                   : gan_conv2d(file, NAME, x, 4, 3, 1, 1);
    gan_weights(file, GAN_PLAIN_WEIGHTS, 1);
    return x;
}

static gan_tensor *features(int kind, gan_tensor *a, gan_tensor *b, gan_tensor *c, gan_tensor *d)
{
    gan_tensor *target[2] = {a, c}, *x[2] = {b, d};
    int count = c ? 2 : 1;
    return kind == 0 ? gan_perceptual_loss(target, x, count)
         : kind == 1 ? gan_style_loss(target, x, count)
                     : gan_feature_matching(target, x, count);
}

static gan_tensor *critic_weights[4]; /* what critic_of reads: the weights of the case */
static int critic_kind;

static gan_tensor *critic_of(gan_model *model, gan_tensor *x)
{
    gan_tensor *w = critic_weights[0];
    gan_tensor *p = critic_weights[1];
    gan_tensor *q = critic_weights[2];
    gan_tensor *fc = critic_weights[3];
    gan_tensor *h;
    (void)model;
    switch (critic_kind) {
    case CRITIC_CONV:
        return gan_linear_f(gan_leaky_relu(gan_conv2d_f(x, w, p, 2, 1, 1), 0.2), q, fc);
    case CRITIC_INSTANCE:
        h = gan_tanh(gan_instance_norm_f(gan_conv2d_f(x, w, NULL, 2, 1, 1), p, q, 1e-5));
        break;
    case CRITIC_LAYER:
        h = gan_leaky_relu(gan_layer_norm_f(gan_conv2d_f(x, w, NULL, 1, 1, 1), p, q, 1e-5), 0.2);
        break;
    default:
        h = gan_gelu(gan_group_norm_f(gan_conv2d_f(x, w, NULL, 2, 1, 1), p, q, 2, 1e-5));
        break;
    }
    return gan_linear_f(h, fc, NULL);
}

static gan_tensor *penalty_of(int kind, int critic, gan_tensor *a, gan_tensor *b, gan_tensor *c,
                              gan_tensor *d, gan_tensor *e)
{
    critic_kind = critic;
    critic_weights[0] = b;
    critic_weights[1] = c;
    critic_weights[2] = d;
    critic_weights[3] = e;
    if (kind == WGAN_GP) { /* b is the fake images; a bias is left out */
        critic_weights[0] = c;
        critic_weights[1] = critic == CRITIC_CONV ? NULL : d;
        critic_weights[2] = critic == CRITIC_CONV ? d : NULL;
        return gan_wgan_gp(file, critic_of, a, b);
    }
    if (kind == DRAGAN)
        return gan_dragan(file, critic_of, a);
    gan_tensor *logits = critic_of(NULL, a);
    return kind == R1 ? gan_r1(logits, a)
         : kind == R2 ? gan_r2(logits, a)
                      : gan_gradient_penalty(logits, a, kind == GP);
}

/* A generator of one linear map, or of three whose layers of w it uses differently. */
static gan_tensor *path_length(gan_tensor *w, gan_tensor *first, gan_tensor *second)
{
    gan_model *G = w->n == 3 ? file : gan_model_new(g, "generator");
    gan_tensor *one = w->h > 1 ? gan_mean_to(w, w->n, w->c, 1, 1) : w;
    gan_tensor *image = gan_conv2d_f(gan_tanh(gan_conv_transpose2d_f(one, first, NULL, 1, 0, 0, 1)),
                                     second, NULL, 1, 1, 1);
    if (w->h > 1)
        image = gan_mul(image, gan_add_scalar(gan_slice(gan_slice(w, 1, 0, 1), 2, 1, 1), 1));
    return gan_path_length(G, image, w);
}

#define AS_FUNCTION(name, expression)                                                          \
    static gan_tensor *case_##name(gan_tensor *a, gan_tensor *b, gan_tensor *c, gan_tensor *d, \
                                   gan_tensor *e)                                              \
    {                                                                                          \
        (void)a;                                                                               \
        (void)b;                                                                               \
        (void)c;                                                                               \
        (void)d;                                                                               \
        (void)e;                                                                               \
        return expression;                                                                     \
    }
CASES(AS_FUNCTION)

static const struct one {
    const char *name;
    gan_tensor *(*f)(gan_tensor *a, gan_tensor *b, gan_tensor *c, gan_tensor *d, gan_tensor *e);
} cases[] = {

#define AS_ROW(name, expression) {#name, case_##name},
    CASES(AS_ROW)};

enum { COUNT = sizeof cases / sizeof *cases };

/* ---- comparing
   -------------------------------------------------------------------------------- */

/* In roundings of gan_real, 6e-8 in single and 1.1e-16 in double precision. An element is a sum
   of at most a few hundred products, in any order: some 20 roundings if they behave like random
   ones. Seen: 35, in a norm's sum that cancels. */
#define ROUNDING  (sizeof(gan_real) == 4 ? 5.96e-8 : 1.11e-16)
#define TOLERANCE (48 * ROUNDING)

/* The file's tensors in the order of their names: there are thousands, and most that are looked
   for are not there. */
static struct entry {
    const char *name;
    gan_tensor *value;
} * entries;

static int entry_count;

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->name, ((const struct entry *)b)->name);
}

static void sort_entries(void)
{
    for (entry_count = 0; gan_param_name(file, entry_count);)
        entry_count++;
    entries = (struct entry *)realloc(entries, (size_t)entry_count * sizeof *entries);
    if (!entries)
        exit(2);
    for (int i = 0; i < entry_count; i++) {
        entries[i].name = gan_param_name(file, i);
        entries[i].value = gan_find_param(file, entries[i].name);
    }
    qsort(entries, (size_t)entry_count, sizeof *entries, by_name);
}

static gan_tensor *find(const char *name, const char *suffix)
{
    char key[80];
    struct entry wanted = {key, NULL};
    snprintf(key, sizeof key, "%s.%s", name, suffix);
    struct entry *found = (struct entry *)bsearch(&wanted, entries, (size_t)entry_count,
                                                  sizeof *entries, by_name);
    return found ? found->value : NULL;
}

/* Relative error of t against the file's NAME.SUFFIX; infinity if that is not there, or of
   another shape. Some gradients are 0 by theory (of a length-1 vector normalised, of a key's
   bias before a softmax): what is left of them is rounding, of terms near 1. */
static double error(const gan_tensor *t, const char *name, const char *suffix)
{
    static gan_real got[4096], right[4096];
    gan_tensor *want = find(name, suffix);
    if (!want || t->n != want->n || t->c != want->c || t->h != want->h || t->w != want->w)
        return INFINITY;
    if (gan_count(t) > 4096)
        return INFINITY;
    gan_to_host(t, got);
    gan_to_host(want, right);
    double size = 0;
    for (size_t i = 0; i < gan_count(t); i++)
        size += fabs((double)right[i]);
    for (size_t i = 0; i < gan_count(t) && size < 1e-6; i++) {
        got[i] -= right[i];
        right[i] = 0;
    }
    return rel_error(got, right, gan_count(t));
}

static const struct one *now; /* the case that test_case runs */

static const char *name_of_case(void)
{
    return now->name;
}

/* The parameters that layers have, and what a call changes. */
static const char *const of_layers[] = {
    "weight",      "bias",         "gamma",       "gamma.weight", "beta.weight", "query.weight",
    "query.bias",  "key.weight",   "key.bias",    "value.weight", "value.bias",  "affine.weight",
    "affine.bias", "running_mean", "running_var", "weight_u",     "weight_v"};

enum { OF_LAYERS = sizeof of_layers / sizeof *of_layers };

/* Attention's gradients in its maps are differences of terms some times larger than they are,
   and so are slopes through a group norm of one image. Seen: 101 roundings. */
static double tolerance_of(const struct one *one)
{
    return strncmp(one->name, "self_attention", 14) && strcmp(one->name, "dragan_group")
             ? TOLERANCE
             : 8 * TOLERANCE;
}

/* The layer's parameters became what the file says they became, or stayed; -1 if all did, else
   which did not. */
static int wrong_parameter(void)
{
    char after[40];
    for (int i = 0; i < OF_LAYERS; i++) {
        gan_tensor *p = find(now->name, of_layers[i]);
        snprintf(after, sizeof after, "%s_after", of_layers[i]);
        if (p && find(now->name, after) && !(error(p, now->name, after) <= TOLERANCE))
            return i;
    }
    return -1;
}

static void test_case(void)
{
    static const char *const inputs[] = {"a", "b", "c", "d", "e"};
    static const char *const gradients[] = {"da", "db", "dc", "dd", "de"};
    static const char *const after[] = {"a_after", "b_after", "c_after", "d_after", "e_after"};
    gan_tensor *in[5], *r = find(now->name, "r");
    int compared = 0;
    CHECK(r, "reference.safetensors has no such case: python3 tests/expected/reference.py");
    for (int i = 0; i < 5; i++)
        in[i] = find(now->name, inputs[i]);
    gan_seed(g, 1);

    gan_tensor *y = now->f(in[0], in[1], in[2], in[3], in[4]);
    double off = error(y, now->name, "y");
    CHECK(off <= tolerance_of(now), "output (%d,%d,%d,%d) is off by %.1e", y->n, y->c, y->h, y->w,
          off);

    gan_tensor *loss = gan_sum(gan_mul(y, r));
    for (int i = 0; i < 5; i++) {
        if (!find(now->name, after[i]))
            continue;
        off = error(in[i], now->name, after[i]);
        CHECK(off <= tolerance_of(now), "what %s became is off by %.1e", inputs[i], off);
    }
    for (int i = 0; i < 5; i++) {
        if (!find(now->name, gradients[i]))
            continue;
        off = error(gan_grad(loss, in[i]), now->name, gradients[i]);
        CHECK(off <= tolerance_of(now), "gan_grad of %s is off by %.1e", inputs[i], off);
        compared++;
    }
    int wrong = wrong_parameter();
    CHECK(wrong < 0, "%s did not become what it should", of_layers[wrong]);
    for (int i = 0; i < OF_LAYERS; i++) {
        char key[40];
        snprintf(key, sizeof key, "d_%s", of_layers[i]);
        if (!find(now->name, key))
            continue;
        off = error(gan_grad(loss, find(now->name, of_layers[i])), now->name, key);
        CHECK(off <= tolerance_of(now), "gan_grad of %s is off by %.1e", of_layers[i], off);
        compared++;
    }
    gan_backward(loss, file); /* it need not be differentiated again, and takes shorter ways */
    for (int i = 0; i < 5; i++) {
        if (!find(now->name, gradients[i]))
            continue;
        off = error(gan_param_grad(in[i]), now->name, gradients[i]);
        CHECK(off <= tolerance_of(now), "gan_backward's gradient of %s is off by %.1e", inputs[i],
              off);
    }
    for (int i = 0; i < OF_LAYERS; i++) {
        char key[40];
        snprintf(key, sizeof key, "d_%s", of_layers[i]);
        if (!find(now->name, key))
            continue;
        off = error(gan_param_grad(find(now->name, of_layers[i])), now->name, key);
        CHECK(off <= tolerance_of(now), "gan_backward's gradient of %s is off by %.1e",
              of_layers[i], off);
    }
    CHECK(compared, "no gradient was compared");
}

static void test_count(void)
{
    CHECK(find("cases", "count"), "the file does not say how many cases it holds");
    int in_file = (int)gan_item(find("cases", "count"));
    CHECK(in_file == COUNT, "%d cases here, %d in the file: python3 tests/expected/reference.py",
          COUNT, in_file);
}

/* ---- optimizers: ten steps of every layer
   ----------------------------------------------------------------------------- */

static gan_tensor *net(gan_model *m, gan_tensor *x)
{
    x = gan_batch_norm(m, "bn", gan_leaky_relu(gan_conv2d(m, "conv", x, 3, 3, 2, 1), 0.2));
    x = gan_tanh(gan_conv_transpose2d(m, "up", x, 2, 4, 2, 1));
    return gan_linear(m, "fc", x, 1);
}

static const char *const parameters[] = {
    "conv.weight",    "conv.bias", "bn.weight", "bn.bias",   "bn.running_mean",
    "bn.running_var", "up.weight", "up.bias",   "fc.weight", "fc.bias"};

enum { PARAMETERS = sizeof parameters / sizeof *parameters };

/* net with the values that the file starts from; NULL if they do not fit. */
static gan_model *start(void)
{
    static gan_real values[256];
    gan_model *m = gan_model_new(g, "net");
    gan_eval(
        m); /* the first use makes the parameters, and eval leaves the running statistics alone */
    net(m, find("net", "x"));
    gan_train(m);
    for (int i = 0; i < PARAMETERS; i++) {
        gan_tensor *from = find("net.start", parameters[i]);
        gan_tensor *to = gan_find_param(m, parameters[i]);
        if (!from || !to || gan_count(from) != gan_count(to) || gan_count(to) > 256)
            return NULL;
        gan_to_host(from, values);
        gan_set(to, values);
    }
    return m;
}

static gan_opt *make_sgd(gan_model *m)
{
    return gan_sgd(m, 0.05, 0);
}

static gan_opt *make_momentum(gan_model *m)
{
    return gan_sgd(m, 0.02, 0.9);
}

static gan_opt *make_adam(gan_model *m)
{
    return gan_adam(m, 0.01, 0.5, 0.999);
}

/* scale: of the loss. Gradients as small as Adam's eps show where eps is added. */
static const struct training {
    const char *name;
    gan_opt *(*make)(gan_model *m);
    gan_real scale;
} trainings[] = {
    {"sgd", make_sgd, 1},
    {"momentum", make_momentum, 1},
    {"adam", make_adam, 1},
    {"adam_small", make_adam, (gan_real)(1.0 / (1 << 24))},
};

enum { TRAININGS = sizeof trainings / sizeof *trainings };
static const struct training *training; /* the one that test_optimizer runs */

/* Ten steps carry the errors of each into the next, and Adam enlarges those of small gradients:
   four times the tolerance of one operation. Seen: 18 roundings. */
#define TOLERANCE_OF_STEPS (4 * TOLERANCE)

static void test_optimizer(void)
{
    gan_real losses[10];
    char key[32];
    gan_model *m = start();
    CHECK(m, "the parameters of net are not those of the file");
    gan_opt *opt = training->make(m);
    for (int step = 1; step <= 10; step++) {
        gan_tensor *loss = gan_mse(net(m, find("net", "x")), find("net", "target"));
        losses[step - 1] = gan_item(loss);
        gan_minimize(opt, gan_mul_scalar(loss, training->scale));
        gan_clear(g);
        if (step != 1 && step != 10)
            continue;
        snprintf(key, sizeof key, "%s.%d", training->name, step);
        for (int i = 0; i < PARAMETERS; i++) {
            double off = error(gan_find_param(m, parameters[i]), key, parameters[i]);
            CHECK(off <= TOLERANCE_OF_STEPS, "after step %d %s is off by %.1e", step, parameters[i],
                  off);
        }
    }
    double off = error(gan_from_host(g, losses, 1, 1, 1, 10), training->name, "losses");
    CHECK(off <= TOLERANCE_OF_STEPS, "the losses are off by %.1e", off);
    gan_eval(m);
    off = error(net(m, find("net", "x")), training->name, "eval");
    CHECK(off <= TOLERANCE_OF_STEPS, "the output with running statistics is off by %.1e", off);
}

/* ---- numbers known from papers, or by hand
   ---------------------------------------------------------------------------- */

/* True if t holds exactly these numbers; they are small integers, which no order of adding can
   round. */
static bool holds(const gan_tensor *t, int h, int w, const gan_real *want)
{
    gan_real got[64];
    if (t->h != h || t->w != w || gan_count(t) != (size_t)(h * w) || h * w > 64)
        return false;
    gan_to_host(t, got);
    for (int i = 0; i < h * w; i++)
        if (!(got[i] == want[i]))
            return false;
    return true;
}

/* The numbers drawn in figures 1.1 and 1.2 of Dumoulin and Visin 2016, "A guide to convolution
   arithmetic". */
static void test_guide(void)
{
    static const gan_real image[] = {3, 3, 2, 1, 0, 0, 0, 1, 3, 1, 3, 1, 2,
                                     2, 3, 2, 0, 0, 2, 2, 2, 0, 0, 0, 1};
    static const gan_real kernel[] = {0, 1, 2, 2, 2, 0, 0, 1, 2};
    static const gan_real plain[] = {12, 12, 17, 10, 17, 19, 9, 6, 14};
    static const gan_real strided[] = {6, 17, 3, 8, 17, 13, 6, 4, 4};
    gan_tensor *x = gan_from_host(g, image, 1, 1, 5, 5);
    gan_tensor *w = gan_from_host(g, kernel, 1, 1, 3, 3);
    CHECK(holds(gan_conv2d_f(x, w, NULL, 1, 0, 1), 3, 3, plain),
          "figure 1.1: stride 1, no padding");
    CHECK(holds(gan_conv2d_f(x, w, NULL, 2, 1, 1), 3, 3, strided),
          "figure 1.2: stride 2, padding 1");
}

/* A single 1 shows which way round the kernel lies: a convolution reads it turned by half, its
   adjoint stamps it. */
static void test_stamp(void)
{
    static const gan_real point[] = {0, 0, 0, 0, 1, 0, 0, 0, 0};
    static const gan_real kernel[] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    static const gan_real turned[] = {9, 8, 7, 6, 5, 4, 3, 2, 1};
    static const gan_real shifted[] = {1, 2, 4, 5};
    gan_tensor *x = gan_from_host(g, point, 1, 1, 3, 3);
    gan_tensor *w = gan_from_host(g, kernel, 1, 1, 3, 3);
    CHECK(holds(gan_conv2d_f(x, w, NULL, 1, 1, 1), 3, 3, turned), "conv2d: 9 8 7 / 6 5 4 / 3 2 1");
    CHECK(holds(gan_conv_transpose2d_f(x, w, NULL, 1, 1, 0, 1), 3, 3, kernel),
          "conv_transpose2d: the kernel");
    CHECK(holds(gan_conv2d_weight(x, w, 3, 3, 1, 1, 1), 3, 3, turned),
          "conv2d_weight: turned as well");
    /* A number at the corner of stride 2 and padding 1 loses the kernel's first row and column. */
    gan_tensor *one = gan_full(g, 1, 1, 1, 1, 1);
    static const gan_real cropped[] = {5};
    CHECK(holds(gan_conv_transpose2d_f(one, w, NULL, 2, 1, 0, 1), 1, 1, cropped),
          "one number, stride 2, padding 1: 5");
    static const gan_real two_by_two[] = {5, 6, 8, 9};
    CHECK(holds(gan_conv_transpose2d_f(one, w, NULL, 2, 1, 1, 1), 2, 2, two_by_two),
          "with output_pad 1: 5 6 / 8 9");
    CHECK(holds(gan_slice(gan_slice(w, 2, 0, 2), 3, 0, 2), 2, 2, shifted), "slice: 1 2 / 4 5");
}

/* A 3x3 convolution with padding, stride 2 and two channels, in five loops that know nothing of
   gan.h. */
static void test_loops(void)
{
    enum { N = 2, C = 2, H = 7, W = 5, O = 3, OH = 4, OW = 3 };

    gan_real x[N][C][H][W], w[O][C][3][3], y[N][O][OH][OW], got[N * O * OH * OW];
    gan_tensor *tx = gan_randn(g, N, C, H, W);
    gan_tensor *tw = gan_randn(g, O, C, 3, 3);
    gan_to_host(tx, &x[0][0][0][0]);
    gan_to_host(tw, &w[0][0][0][0]);
    for (int n = 0; n < N; n++)
        for (int o = 0; o < O; o++)
            for (int i = 0; i < OH; i++)
                for (int j = 0; j < OW; j++) {
                    double sum = 0;
                    for (int c = 0; c < C; c++)
                        for (int h = 0; h < H; h++)
                            for (int v = 0; v < W; v++) {
                                int row = h - (2 * i - 1),
                                    column = v - (2 * j -
                                                  1); /* where in the kernel pixel (h,v) falls */
                                if (row >= 0 && row < 3 && column >= 0 && column < 3)
                                    sum += (double)x[n][c][h][v] * (double)w[o][c][row][column];
                            }
                    y[n][o][i][j] = (gan_real)sum;
                }
    gan_to_host(gan_conv2d_f(tx, tw, NULL, 2, 1, 1), got);
    double off = rel_error(got, &y[0][0][0][0], N * O * OH * OW);
    CHECK(off <= TOLERANCE, "off by %.1e", off);
}

/* DCGAN's shapes (Radford et al. 2016): kernel 4, stride 2, padding 1 halves an image, and its
   adjoint doubles it. */
static void test_dcgan_shapes(void)
{
    gan_tensor *w = gan_zeros(g, 1, 1, 4, 4);
    for (int size = 4; size <= 64; size *= 2) {
        gan_tensor *half = gan_conv2d_f(gan_zeros(g, 1, 1, size, size), w, NULL, 2, 1, 1);
        CHECK(half->h == size / 2 && half->w == size / 2, "%d became %d", size, half->h);
        CHECK(gan_conv_transpose2d_f(half, w, NULL, 2, 1, 0, 1)->w == size, "%d did not come back",
              size);
    }
    gan_tensor *seven = gan_conv2d_f(gan_conv2d_f(gan_zeros(g, 1, 1, 28, 28), w, NULL, 2, 1, 1), w,
                                     NULL, 2, 1, 1);
    CHECK(seven->h == 7 && seven->w == 7, "28 became %d, not 7", seven->h);
}

static bool close_to(double a, double b)
{
    return fabs(a - b) <= TOLERANCE * fabs(b);
}

/* Goodfellow et al. 2014, theorem 1: where D cannot tell, its loss is ln 4; and each half has
   slope 1/2 - target there. */
static void test_ln_4(void)
{
    gan_tensor *logits = gan_zeros(g, 8, 1, 1, 1);
    gan_tensor *real = gan_bce_logits(logits, 1);
    gan_tensor *fake = gan_bce_logits(logits, 0);
    double loss = (double)gan_item(gan_add(real, fake));
    CHECK(close_to(loss, 1.386294361119890619), "D's loss at equilibrium is %.9f, not ln 4", loss);
    double slope = (double)gan_item(gan_slice(gan_grad(real, logits), 0, 3, 1));
    CHECK(close_to(slope, -0.5 / 8), "its slope is %g, not -1/16", slope);
}

/* Two numbers 1 and 3: mean 2, biased variance 1, unbiased variance 2. */
static void test_two_numbers(void)
{
    static const gan_real numbers[] = {1, 3};
    gan_real y[2];
    gan_tensor *mean = gan_zeros(g, 1, 1, 1, 1);
    gan_tensor *var = gan_full(g, 1, 1, 1, 1, 1);
    gan_tensor *one = gan_full(g, 1, 1, 1, 1, 1);
    gan_tensor *x = gan_from_host(g, numbers, 2, 1, 1, 1);
    gan_to_host(gan_batch_norm_f(x, one, gan_zeros(g, 1, 1, 1, 1), mean, var, true, 0.1, 1e-5), y);
    CHECK(close_to((double)y[0], -0.99999500003750) && close_to((double)y[1], 0.99999500003750),
          "%.9f %.9f is not -+1/sqrt(1 + 1e-5)", (double)y[0], (double)y[1]);
    CHECK(close_to((double)gan_item(mean), 0.2), "running mean %g, not 0.9*0 + 0.1*2",
          (double)gan_item(mean));
    CHECK(close_to((double)gan_item(var), 1.1), "running variance %g, not 0.9*1 + 0.1*2",
          (double)gan_item(var));
}

/* A linear critic with weight (3,4) has a gradient of length 5 everywhere: penalty (5-1)^2,
   derivative 2(5-1) w/5. */
static void test_penalty_by_hand(void)
{
    static const gan_real three_four[] = {3, 4};
    gan_real dw[2];
    gan_tensor *x = gan_randn(g, 6, 2, 1, 1);
    gan_tensor *w = gan_from_host(g, three_four, 1, 2, 1, 1);
    gan_tensor *gp = penalty(gan_grad(gan_sum(gan_linear_f(x, w, NULL)), x));
    CHECK(close_to((double)gan_item(gp), 16), "penalty %g, not 16", (double)gan_item(gp));
    gan_to_host(gan_grad(gp, w), dw);
    CHECK(close_to((double)dw[0], 4.8) && close_to((double)dw[1], 6.4),
          "derivative %g %g, not 4.8 6.4", (double)dw[0], (double)dw[1]);
}

/* Under a constant gradient momentum 0.9 goes 1, 1.9, 2.71 learning rates, and Adam one each
   (Kingma and Ba 2015, 2.1). */
static void test_constant_gradient(void)
{
    gan_model *m = gan_model_new(g, "a"), *n = gan_model_new(g, "b");
    gan_tensor *p = gan_param(m, "p", 1, 1, 1, 1);
    gan_tensor *q = gan_param(n, "p", 1, 1, 1, 1);
    gan_real zero = 0;
    gan_set(p, &zero);
    gan_set(q, &zero);
    gan_opt *sgd = gan_sgd(m, 0.5, 0.9);
    gan_opt *adam = gan_adam(n, 0.5, 0.9, 0.999);
    for (int step = 0; step < 3; step++) {
        gan_minimize(sgd, gan_mul_scalar(p, 3));
        gan_minimize(adam, gan_mul_scalar(q, -3));
    }
    CHECK(close_to((double)gan_item(p), -0.5 * 3 * (1 + 1.9 + 2.71)), "momentum went to %g",
          (double)gan_item(p));
    /* Adam's eps of 1e-8 beside the gradient's 3 shortens each step by 3e-9 of it. */
    double adam_off = fabs((double)gan_item(q) - 1.5) / 1.5;
    CHECK(adam_off <= TOLERANCE + 4e-9, "Adam went to %.9f, not 1.5", (double)gan_item(q));
}

/* gan_set_lr: the next steps go the new way; the momentum stays. */
static void test_learning_rate(void)
{
    gan_model *m = gan_model_new(g, "rate");
    gan_tensor *p = gan_param(m, "p", 1, 1, 1, 1);
    gan_real zero = 0;
    gan_set(p, &zero);
    gan_opt *sgd = gan_sgd(m, 0.5, 0.5);
    gan_minimize(sgd, p);
    gan_set_lr(sgd, 0.125);
    gan_minimize(sgd, p);
    CHECK((double)gan_item(p) == -(0.5 * 1 + 0.125 * 1.5),
          "after steps of 1/2 and 1/8 with momentum 1/2 the parameter is %g", (double)gan_item(p));
}

/* gan_rand and gan_randn are the kernel's stream 0, one block of four after the other. */
static void test_draws(void)
{
    gan_random first = {0, 7, 1, 0, 0, 1, 0};
    gan_random second = {1, 6, 1, 0, 2, 1, 0};
    gan_real want[7], got[7];
    gan_seed(g, 1);
    gan_tensor *u = gan_rand(g, 1, 7, 1, 1);
    gan_tensor *v = gan_randn(g, 2, 1, 3, 1);
    gan_ref_random(&first, want);
    gan_to_host(u, got);
    CHECK(!memcmp(got, want, 7 * sizeof *got), "gan_rand draws %g first, not %g", (double)got[0],
          (double)want[0]);
    gan_ref_random(&second, want);
    gan_to_host(v, got);
    CHECK(!memcmp(got, want, 6 * sizeof *got), "gan_randn draws %g first, not %g", (double)got[0],
          (double)want[0]);
}

/* The size of a convolution's output is how many times the window fits, counted. */
static void test_conv_sizes(void)
{
    for (int i = 0; i < 3000; i++) {
        int h = 1 + i % 13;
        int k = 1 + i % 4;
        int s = 1 + i % 3;
        int pad = i % 5;
        int d = 1 + i % 2;
        int fits = 0;
        gan_conv p = {1, 1, h, 40 - h, 1, k, k, s, pad, 1, d, ALIKE};
        gan_conv plain = {1, 1, h, 40 - h, 1, k, k, 0, pad, 0, 0, ALIKE};
        if (h + 2 * pad < d * (k - 1) + 1)
            continue;
        for (int at = -pad; at + d * (k - 1) < h + pad; at += s)
            fits++;
        CHECK(gan_conv_out_h(&p) == fits,
              "%d rows, kernel %d, stride %d, padding %d, dilation %d: %d, not %d", h, k, s, pad, d,
              gan_conv_out_h(&p), fits);
        fits = 0;
        for (int at = -pad; at + d * (k - 1) < 40 - h + pad; at += s)
            fits++;
        CHECK(gan_conv_out_w(&p) == fits,
              "%d columns, kernel %d, stride %d, padding %d, dilation %d: %d, not %d", 40 - h, k, s,
              pad, d, gan_conv_out_w(&p), fits);
        CHECK(gan_conv_out_h(&plain) == h + 2 * pad - k + 1, "0 for stride and dilation is not 1");
    }
}

/* What the header promises at the ends of a domain. */
static void test_ends(void)
{
    static const gan_real at[] = {0, -1, 4};
    gan_real y[3];
    gan_tensor *x = gan_from_host(g, at, 1, 1, 1, 3);
    gan_to_host(gan_log(x), y);
    CHECK(y[0] == -INFINITY && isnan(y[1]), "log(0) = %g, log(-1) = %g", (double)y[0],
          (double)y[1]);
    gan_to_host(gan_sqrt(x), y);
    CHECK(y[0] == 0 && isnan(y[1]) && y[2] == 2, "sqrt of 0, -1, 4 = %g %g %g", (double)y[0],
          (double)y[1], (double)y[2]);
    gan_to_host(gan_rsqrt(x), y);
    CHECK(y[0] == INFINITY && isnan(y[1]) && close_to((double)y[2], 0.5),
          "rsqrt of 0, -1, 4 = %g %g %g", (double)y[0], (double)y[1], (double)y[2]);
    gan_to_host(gan_grad(gan_sum(gan_sqrt(x)), x), y);
    CHECK(y[0] == INFINITY && close_to((double)y[2], 0.25), "sqrt' of 0, 4 = %g %g", (double)y[0],
          (double)y[2]);
}

/* What the header promises where a formula has a hole: probabilities of exactly 0 and 1, a
   vector of length 0, a critic without slope. */
static void test_holes(void)
{
    static const gan_real p[] = {0, 1, 0, 1, 0.5};
    static const gan_real t[] = {0, 1, 1, 0, 1};
    gan_real got[5];
    gan_tensor *x = gan_from_host(g, p, 1, 1, 1, 5);
    gan_tensor *loss = gan_bce(x, gan_from_host(g, t, 1, 1, 1, 5));
    gan_tensor *zero = gan_zeros(g, 1, 2, 1, 3);
    CHECK(close_to((double)gan_item(loss), (0 + 0 + 100 + 100 + 0.69314718055994531) / 5),
          "gan_bce at 0 and 1: %g", (double)gan_item(loss));
    gan_to_host(gan_grad(loss, x), got);
    CHECK(close_to((double)got[0], 0.2) && close_to((double)got[1], -0.2),
          "gan_bce's slope where p is right: %g %g", (double)got[0], (double)got[1]);
    CHECK(got[2] == 0 && got[3] == 0,
          "gan_bce's slope where p is wrong and the logarithm cut off: %g %g", (double)got[2],
          (double)got[3]);
    CHECK(close_to((double)got[4], -2.0 / 5), "gan_bce's slope at 1/2 is %g", (double)got[4]);
    for (int dim = 0; dim < 4; dim++) {
        gan_tensor *y = gan_normalize(zero, dim);
        CHECK((double)gan_item(gan_sum(gan_abs(y))) == 0, "a zero normalised is not zero");
        CHECK(isfinite((double)gan_item(gan_sum(gan_grad(gan_sum(y), zero)))),
              "its slope is not finite");
    }
    gan_tensor *logits = gan_add_scalar(gan_mul_scalar(x, 0), 3);
    gan_tensor *penalty0 = gan_gradient_penalty(logits, x, 1);
    gan_tensor *again = gan_grad(penalty0, x);
    /* the root is of 1e-16 at least: 1e-8, of which the square takes twice as much */
    CHECK(fabs((double)gan_item(penalty0) - 1) <= 2e-8 + TOLERANCE,
          "a critic without slope has penalty %g, not 1", (double)gan_item(penalty0));
    CHECK(isfinite((double)gan_item(gan_sum(again))), "its slope is not finite");
}

/* The losses of a discriminator that cannot tell, as the header's table has them. */
static void test_losses_at_rest(void)
{
    static const double d[] = {1.38629436111989061883, 1.38629436111989061883, 0.25, 2, 0,
                               1.38629436111989061883};
    static const double at_rest[] = {-0.69314718055994530942, 0.69314718055994530942, 0.25, 0, 0,
                                     1.38629436111989061883};
    for (int kind = 0; kind < GAN_LOSSES; kind++) {
        gan_tensor *x = gan_full(g, (gan_real)(kind == GAN_LEAST_SQUARES ? 0.5 : 0), 6, 1, 1, 1);
        double of_d = (double)gan_item(gan_d_loss(x, x, kind));
        double of_g = (double)gan_item(gan_g_loss(kind == GAN_RELATIVISTIC ? x : NULL, x, kind));
        CHECK(close_to(of_d, d[kind]) || of_d == d[kind], "%s: D's loss at rest is %.9f, not %.9f",
              gan_loss_name(kind), of_d, d[kind]);
        CHECK(close_to(of_g, at_rest[kind]) || of_g == at_rest[kind],
              "%s: G's loss at rest is %.9f, not %.9f", gan_loss_name(kind), of_g, at_rest[kind]);
        CHECK(gan_loss_kind(gan_loss_name(kind)) == kind, "%s is not found by its name",
              gan_loss_name(kind));
    }
    static const char *const names[] = {"minimax", "non-saturating", "least-squares",
                                        "hinge",   "wasserstein",    "relativistic"};
    for (int kind = 0; kind < GAN_LOSSES; kind++)
        CHECK(!strcmp(gan_loss_name(kind), names[kind]), "loss %d is called %s", kind,
              gan_loss_name(kind));
    CHECK(gan_loss_kind("hinges") == -1 && strstr(gan_error(), "hinges") &&
              strstr(gan_error(), "hinge,"),
          "an unknown loss: %s", gan_error());
}

/* DRAGAN's and WGAN-GP's points: a linear critic of slope (3,4) has the same penalty (5-1)^2
   anywhere; of a quadratic one, D(x) = |x|^2/2, the slope is the point's own length, between
   those of the two images. */
static gan_tensor *quadratic(gan_model *D, gan_tensor *x)
{
    (void)D;
    return gan_mul_scalar(gan_sum_to(gan_square(x), x->n, 1, 1, 1), 0.5);
}

static void test_points_between(void)
{
    gan_tensor *real = gan_full(g, 2, 64, 1, 1, 1);
    gan_tensor *fake = gan_full(g, 5, 64, 1, 1, 1);
    double same = (double)gan_item(gan_wgan_gp(file, quadratic, real, real));
    double far = (double)gan_item(gan_wgan_gp(file, quadratic, real, fake));
    CHECK(close_to(same, 1), "between 2 and 2: %g, not (2-1)^2", same);
    /* (2 + 3t - 1)^2 over t in [0,1): mean 7, variance 19.2; of 64 draws 0.55 off is one
       deviation */
    CHECK(fabs(far - 7) < 4 * 0.55, "between 2 and 5: %g, 7 is expected", far);
    CHECK(close_to((double)gan_item(gan_dragan(file, quadratic, real)), 1),
          "around images that are all the same there is no noise");
}

/* ---- both devices
   -------------------------------------------------------------------------------- */

static const char *device;

static void run_on_device(const char *name, void (*test)(void))
{
    char line[80];
    snprintf(line, sizeof line, "operations %s %s", device, name);
    run(line, test);
    gan_clear(g);
}

static void run_all(void)
{
    run_on_device("count", test_count);
    for (int i = 0; i < COUNT; i++) {
        now = &cases[i];
        run_on_device(now->name, test_case);
    }
    for (int i = 0; i < TRAININGS; i++) {
        training = &trainings[i];
        run_on_device(training->name, test_optimizer);
    }

    run_on_device("by_hand_guide", test_guide);
    run_on_device("by_hand_stamp", test_stamp);
    run_on_device("by_hand_loops", test_loops);
    run_on_device("by_hand_dcgan_shapes", test_dcgan_shapes);
    run_on_device("by_hand_ln_4", test_ln_4);
    run_on_device("by_hand_two_numbers", test_two_numbers);
    run_on_device("by_hand_penalty", test_penalty_by_hand);
    run_on_device("by_hand_constant_gradient", test_constant_gradient);
    run_on_device("by_hand_learning_rate", test_learning_rate);
    run_on_device("by_hand_draws", test_draws);
    run_on_device("by_hand_conv_sizes", test_conv_sizes);
    run_on_device("by_hand_ends", test_ends);
    run_on_device("by_hand_holes", test_holes);
    run_on_device("by_hand_losses_at_rest", test_losses_at_rest);
    run_on_device("by_hand_points_between", test_points_between);
}

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : "tests/expected/reference.safetensors";
    static const char *const devices[] = {"ref", "cpu", "cuda"};
    for (int i = 0; i < (gan_find_backend("cuda") ? 3 : 2);
         i++) { /* cuda where gan_cuda.o is linked */
        device = devices[i];
        g = gan_open(device, 1);
        file = g ? gan_model_new(g, "reference") : NULL;
        if (!file || !gan_load(file, path)) {
            printf("FAIL operations %s: %s\n", device, gan_error());
            return 1;
        }
        sort_entries();
        run_all();
        gan_close(g);
    }
    free(entries);
    return finish();
}
