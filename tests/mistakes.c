/* tests/mistakes.c: what a mistake in the use of each tensor function is told: the function's
   name, the shapes, what would be right.

       cc -O2 tests/mistakes.c -o mistakes -lm && ./mistakes

   A new function is a line of MISTAKES for each way to use it wrongly: M(name, what the message
   begins with, two things it says, the call). The functions that came first are in
   tests/autograd.c. */
#include "test.h"

static gan *g;

#define Z(n, c, h, w) gan_zeros(g, n, c, h, w)
#define MODEL         gan_model_new(g, "m")

static gan_tensor *numbers(double a, double b, double c) /* (3,1,1,1) */
{
    gan_real values[3];
    values[0] = (gan_real)a;
    values[1] = (gan_real)b;
    values[2] = (gan_real)c;
    return gan_from_host(g, values, 3, 1, 1, 1);
}

static gan_tensor *any_critic(gan_model *m, gan_tensor *x)
{
    (void)m;
    return gan_sum(x);
}

static gan_tensor *features(int which, gan_tensor *a, gan_tensor *b, int count)
{
    return which == 0 ? gan_perceptual_loss(&a, &b, count)
         : which == 1 ? gan_style_loss(&a, &b, count)
                      : gan_feature_matching(&a, &b, count);
}

static const gan_real filter[4] = {1, 2, 2, 1};

#define MISTAKES(M)                                                                                \
    M(elu_null, "gan_elu", "NULL", "", gan_elu(NULL))                                              \
    M(selu_null, "gan_selu", "NULL", "", gan_selu(NULL))                                           \
    M(silu_null, "gan_silu", "NULL", "", gan_silu(NULL))                                           \
    M(gelu_null, "gan_gelu", "NULL", "", gan_gelu(NULL))                                           \
    M(prelu_slope, "gan_prelu_f", "(2,3,4,5)", "(1,2,1,1)",                                        \
      gan_prelu_f(Z(2, 3, 4, 5), Z(1, 2, 1, 1)))                                                   \
    M(prelu_slope_n, "gan_prelu_f", "(2,3,4,5)", "(2,3,1,1)",                                      \
      gan_prelu_f(Z(2, 3, 4, 5), Z(2, 3, 1, 1)))                                                   \
    M(prelu_null, "gan_prelu_f", "NULL", "", gan_prelu_f(Z(2, 3, 4, 5), NULL))                     \
    M(softmax_dim, "gan_softmax", "4", "0 to 3", gan_softmax(Z(2, 3, 4, 5), 4))                    \
    M(softmax_null, "gan_softmax", "NULL", "", gan_softmax(NULL, 1))                               \
    M(log_softmax_dim, "gan_log_softmax", "-1", "0 to 3", gan_log_softmax(Z(2, 3, 4, 5), -1))      \
    M(concat_all_none, "gan_concat_all", "0 parts", "1 or more", gan_concat_all(NULL, 3, 1))       \
    M(concat_all_shape, "gan_concat", "(1,2,3,4)", "(1,2,3,5)", {                                  \
        gan_tensor *p[3];                                                                          \
        p[0] = p[1] = Z(1, 2, 3, 4);                                                               \
        p[2] = Z(1, 2, 3, 5);                                                                      \
        gan_concat_all(p, 3, 1);                                                                   \
    })                                                                                             \
    M(gather_dim, "gan_gather", "7", "0 to 3", gan_gather(Z(2, 3, 4, 5), numbers(0, 1, 0), 7))     \
    M(gather_shape, "gan_gather", "(2,3,4,5)", "(2,3,4,4)",                                        \
      gan_gather(Z(2, 3, 4, 5), Z(2, 3, 4, 4), 1))                                                 \
    M(gather_large, "gan_gather", "index 3", "there are 3",                                        \
      gan_gather(Z(2, 3, 4, 5), numbers(0, 1, 3), 1))                                              \
    M(gather_negative, "gan_gather", "index -1", "place 2",                                        \
      gan_gather(Z(2, 3, 4, 5), numbers(0, 1, -1), 1))                                             \
    M(gather_nan, "gan_gather", "nan", "place 0",                                                  \
      gan_gather(Z(2, 3, 4, 5), numbers(fabs((double)NAN), 1, 1), 1))                              \
    M(gather_null, "gan_gather", "NULL", "", gan_gather(Z(2, 3, 4, 5), NULL, 1))                   \
    M(scatter_shape, "gan_scatter_add", "(2,4,4,5)", "(3,1,1,1)",                                  \
      gan_scatter_add(Z(2, 4, 4, 5), numbers(0, 1, 0), 1, 3))                                      \
    M(scatter_size, "gan_scatter_add", "size 0", "1 or more",                                      \
      gan_scatter_add(Z(2, 3, 4, 5), numbers(0, 0, 0), 1, 0))                                      \
    M(scatter_large, "gan_scatter_add", "index 2", "there are 2",                                  \
      gan_scatter_add(Z(2, 3, 4, 5), numbers(0, 2, 0), 1, 2))                                      \
    M(one_hot_shape, "gan_one_hot", "(2,3,1,1)", "4 classes", gan_one_hot(Z(2, 3, 1, 1), 4))       \
    M(one_hot_classes, "gan_one_hot", "(2,1,1,1)", "0 classes", gan_one_hot(Z(2, 1, 1, 1), 0))     \
    M(dilated_zero, "gan_conv2d_with_f", "dilation -1", "1 or more",                               \
      gan_conv2d_with_f(Z(1, 2, 9, 9), Z(3, 2, 3, 3), NULL, OPTIONS(.pad = 1, .dilation = -1)))    \
    M(dilated_large, "gan_conv2d_with_f", "(1,2,6,9)", "dilation 3",                               \
      gan_conv2d_with_f(Z(1, 2, 6, 9), Z(3, 2, 3, 3), NULL, OPTIONS(.dilation = 3)))               \
    M(pad_mode, "gan_pad", "mode 3", "GAN_REPLICATE", gan_pad(Z(1, 2, 3, 4), 1, 1, 1, 1, 3))       \
    M(pad_reflect, "gan_pad", "(1,2,3,4)", "3", gan_pad(Z(1, 2, 3, 4), 0, 3, 1, 1, GAN_REFLECT))   \
    M(pad_nothing, "gan_pad", "(1,2,3,4)", "at least 1",                                           \
      gan_pad(Z(1, 2, 3, 4), -1, -2, 0, 0, GAN_ZEROS))                                             \
    M(pad_null, "gan_pad", "NULL", "", gan_pad(NULL, 1, 1, 1, 1, GAN_ZEROS))                       \
    M(resize_mode, "gan_resize", "mode 9", "GAN_ALIGNED", gan_resize(Z(1, 2, 3, 4), 5, 5, 9))      \
    M(resize_zero, "gan_resize", "(1,2,3,4)", "0 rows",                                            \
      gan_resize(Z(1, 2, 3, 4), 0, 5, GAN_NEAREST))                                                \
    M(resize_null, "gan_resize", "NULL", "", gan_resize(NULL, 4, 5, GAN_NEAREST))                  \
    M(fir_filter, "gan_upfirdn2d", "(1,2,3,4)", "0 taps",                                          \
      gan_upfirdn2d(Z(1, 2, 3, 4), NULL, 4, 2, 1, 0, 0, 1))                                        \
    M(fir_up, "gan_upfirdn2d", "up 0", "1 or more",                                                \
      gan_upfirdn2d(Z(1, 2, 3, 4), filter, 4, 0, 1, 0, 0, 1))                                      \
    M(fir_down, "gan_upfirdn2d", "down 0", "1 or more",                                            \
      gan_upfirdn2d(Z(1, 2, 3, 4), filter, 4, 1, 0, 0, 0, 1))                                      \
    M(fir_long, "gan_upfirdn2d", "(1,2,3,4)", "at least 1",                                        \
      gan_upfirdn2d(Z(1, 2, 3, 4), filter, 4, 1, 1, 0, 0, 1))                                      \
    M(avg_kernel, "gan_avg_pool2d", "(1,2,3,9)", "kernel 4",                                       \
      gan_avg_pool2d(Z(1, 2, 3, 9), 4, 1, 0))                                                      \
    M(avg_stride, "gan_avg_pool2d", "(1,2,9,9)", "stride 0",                                       \
      gan_avg_pool2d(Z(1, 2, 9, 9), 2, 0, 0))                                                      \
    M(avg_pad, "gan_avg_pool2d", "(1,2,9,9)", "padding 2", gan_avg_pool2d(Z(1, 2, 9, 9), 3, 1, 2)) \
    M(avg_with_kernel, "gan_avg_pool2d_with", "(1,1,70,7)", "kernel 9",                            \
      gan_avg_pool2d_with(Z(1, 1, 70, 7), WINDOW(.kernel_h = 65, .kernel_w = 9)))                  \
    M(avg_with_pad, "gan_avg_pool2d_with", "padding -1", "kernel 3",                               \
      gan_avg_pool2d_with(Z(1, 1, 7, 7), WINDOW(.kernel = 3, .pad_w = -1)))                        \
    M(avg_with_null, "gan_avg_pool2d_with", "NULL", "", gan_avg_pool2d_with(NULL, WINDOW(0)))      \
    M(max_with_stride, "gan_max_pool2d_with", "stride -2", "kernel 2",                             \
      gan_max_pool2d_with(Z(1, 1, 7, 7), WINDOW(.kernel = 2, .stride_h = -2)))                     \
    M(max_with_pad, "gan_max_pool2d_with", "padding 2", "kernel 3",                                \
      gan_max_pool2d_with(Z(1, 1, 7, 7), WINDOW(.kernel = 3, .kernel_h = 7, .pad_w = 2)))          \
    M(max_with_null, "gan_max_pool2d_with", "NULL", "", gan_max_pool2d_with(NULL, WINDOW(0)))      \
    M(conv_out_h_null, "gan_conv_out_h", "NULL", "", gan_conv_out_h(NULL))                         \
    M(conv_out_w_null, "gan_conv_out_w", "NULL", "", gan_conv_out_w(NULL))                         \
    M(matmul_null, "gan_matmul", "NULL", "", gan_matmul(NULL, Z(1, 1, 2, 2)))                      \
    M(matmul_t_null, "gan_matmul", "NULL", "", gan_matmul_t(Z(1, 1, 2, 2), NULL, true, false))     \
    M(linear_null, "gan_linear_f", "NULL", "", gan_linear_f(Z(2, 3, 1, 1), NULL, NULL))            \
    M(conv_null, "gan_conv2d_f", "NULL", "", gan_conv2d_f(NULL, Z(3, 2, 3, 3), NULL, 1, 1, 1))     \
    M(up_null, "gan_conv_transpose2d_f", "NULL", "",                                               \
      gan_conv_transpose2d_f(Z(1, 2, 4, 4), NULL, NULL, 1, 1, 0, 1))                               \
    M(conv_weight_null, "gan_conv2d_weight", "NULL", "",                                           \
      gan_conv2d_weight(Z(1, 2, 4, 4), NULL, 3, 3, 1, 1, 1))                                       \
    M(fir_null, "gan_upfirdn2d", "NULL", "", gan_upfirdn2d(NULL, filter, 4, 2, 1, 0, 0, 1))        \
    M(avg_null, "gan_avg_pool2d", "NULL", "", gan_avg_pool2d(NULL, 2, 2, 0))                       \
    M(max_null, "gan_max_pool2d", "NULL", "", gan_max_pool2d(NULL, 2, 2, 0, false))                \
    M(shuffle_null, "gan_pixel_shuffle", "NULL", "", gan_pixel_shuffle(NULL, 2))                   \
    M(batch_null, "gan_batch_norm_f", "NULL", "",                                                  \
      gan_batch_norm_f(Z(2, 3, 2, 2), Z(1, 3, 1, 1), NULL, Z(1, 3, 1, 1), Z(1, 3, 1, 1), true,     \
                       0.1, 1))                                                                    \
    M(instance_null, "gan_instance_norm_f", "NULL", "", gan_instance_norm_f(NULL, NULL, NULL, 1))  \
    M(group_null, "gan_group_norm_f", "NULL", "", gan_group_norm_f(NULL, NULL, NULL, 2, 1))        \
    M(layer_null, "gan_layer_norm_f", "NULL", "", gan_layer_norm_f(NULL, NULL, NULL, 1))           \
    M(adain_null, "gan_adain", "NULL", "", gan_adain(Z(2, 3, 2, 2), NULL, 1))                      \
    M(normalize_null, "gan_normalize", "NULL", "", gan_normalize(NULL, 1))                         \
    M(stddev_null, "gan_minibatch_stddev", "NULL", "", gan_minibatch_stddev(NULL, 2))              \
    M(conv_with_null, "gan_conv2d_with_f", "NULL", "",                                             \
      gan_conv2d_with_f(Z(1, 2, 9, 9), NULL, NULL, OPTIONS(0)))                                    \
    M(conv_with_stride, "gan_conv2d_with_f", "stride 1x-2", "1 or more",                           \
      gan_conv2d_with_f(Z(1, 2, 9, 9), Z(3, 2, 3, 3), NULL, OPTIONS(.stride_w = -2)))              \
    M(conv_with_pad, "gan_conv2d_with_f", "padding 1x-1", "0 or more",                             \
      gan_conv2d_with_f(Z(1, 2, 9, 9), Z(3, 2, 3, 3), NULL, OPTIONS(.pad = 1, .pad_w = -2)))       \
    M(conv_with_kernel, "gan_conv2d_with_f", "kernel 4x3", "(3,2,3,3)",                            \
      gan_conv2d_with_f(Z(1, 2, 9, 9), Z(3, 2, 3, 3), NULL, OPTIONS(.kernel_h = 4, .kernel = 3)))  \
    M(conv_with_out, "gan_conv2d_with_f", "5 channels", "(3,2,3,3)",                               \
      gan_conv2d_with_f(Z(1, 2, 9, 9), Z(3, 2, 3, 3), NULL, OPTIONS(.out = 5)))                    \
    M(conv_with_output_pad, "gan_conv2d_with_f", "output_pad", "transposed",                       \
      gan_conv2d_with_f(Z(1, 2, 9, 9), Z(3, 2, 3, 3), NULL, OPTIONS(.output_pad_w = 1)))           \
    M(conv_with_no_bias, "gan_conv2d_with_f", "(1,3,1,1)", "no_bias",                              \
      gan_conv2d_with_f(Z(1, 2, 9, 9), Z(3, 2, 3, 3), Z(1, 3, 1, 1), OPTIONS(.no_bias = true)))    \
    M(up_with_output_pad, "gan_conv_transpose2d_with_f", "output padding 0 and 2", "stride 3x2",   \
      gan_conv_transpose2d_with_f(Z(1, 2, 4, 4), Z(2, 3, 3, 3), NULL,                              \
                                  OPTIONS(.stride = 2, .stride_h = 3, .output_pad_w = 2)))         \
    M(up_with_empty, "gan_conv_transpose2d_with_f", "(1,2,1,4)", "padding 2x0",                    \
      gan_conv_transpose2d_with_f(Z(1, 2, 1, 4), Z(2, 3, 3, 3), NULL, OPTIONS(.pad_h = 2)))        \
    M(up_with_channels, "gan_conv_transpose2d_with_f", "(1,2,4,4)", "(4,3,3,3)",                   \
      gan_conv_transpose2d_with_f(Z(1, 2, 4, 4), Z(4, 3, 3, 3), NULL, OPTIONS(.dilation = 2)))     \
    M(up_with_null, "gan_conv_transpose2d_with_f", "NULL", "",                                     \
      gan_conv_transpose2d_with_f(NULL, Z(4, 3, 3, 3), NULL, OPTIONS(0)))                          \
    M(max_kernel, "gan_max_pool2d", "(1,2,3,9)", "kernel 4",                                       \
      gan_max_pool2d(Z(1, 2, 3, 9), 4, 1, 0, true))                                                \
    M(max_pad, "gan_max_pool2d", "(1,2,9,9)", "padding 2",                                         \
      gan_max_pool2d(Z(1, 2, 9, 9), 3, 1, 2, false))                                               \
    M(max_negative, "gan_max_pool2d", "(1,2,9,9)", "kernel -1",                                    \
      gan_max_pool2d(Z(1, 2, 9, 9), -1, 1, 0, false))                                              \
    M(shuffle_channels, "gan_pixel_shuffle", "(1,6,2,2)", "6 channels",                            \
      gan_pixel_shuffle(Z(1, 6, 2, 2), 2))                                                         \
    M(shuffle_zero, "gan_pixel_shuffle", "(1,4,2,2)", "0", gan_pixel_shuffle(Z(1, 4, 2, 2), 0))    \
    M(instance_one, "gan_instance_norm_f", "(2,3,1,1)", "",                                        \
      gan_instance_norm_f(Z(2, 3, 1, 1), NULL, NULL, 1))                                           \
    M(instance_weight, "gan_instance_norm_f", "(2,3,4,4)", "(1,4,1,1)",                            \
      gan_instance_norm_f(Z(2, 3, 4, 4), Z(1, 4, 1, 1), NULL, 1))                                  \
    M(instance_bias, "gan_instance_norm_f", "(2,3,4,4)", "(3,3,1,1)",                              \
      gan_instance_norm_f(Z(2, 3, 4, 4), NULL, Z(3, 3, 1, 1), 1))                                  \
    M(group_groups, "gan_group_norm_f", "(2,6,4,4)", "4 groups",                                   \
      gan_group_norm_f(Z(2, 6, 4, 4), NULL, NULL, 4, 1))                                           \
    M(group_zero, "gan_group_norm_f", "(2,6,4,4)", "0 groups",                                     \
      gan_group_norm_f(Z(2, 6, 4, 4), NULL, NULL, 0, 1))                                           \
    M(group_weight, "gan_group_norm_f", "(2,6,4,4)", "(1,2,1,1)",                                  \
      gan_group_norm_f(Z(2, 6, 4, 4), Z(1, 2, 1, 1), NULL, 2, 1))                                  \
    M(layer_weight, "gan_layer_norm_f", "(2,6,4,4)", "(1,6,1,1)",                                  \
      gan_layer_norm_f(Z(2, 6, 4, 4), Z(1, 6, 1, 1), NULL, 1))                                     \
    M(layer_bias, "gan_layer_norm_f", "(2,6,4,4)", "(1,6,4,5)",                                    \
      gan_layer_norm_f(Z(2, 6, 4, 4), NULL, Z(1, 6, 4, 5), 1))                                     \
    M(adain_channels, "gan_adain", "(2,6,4,4)", "(2,5,4,4)",                                       \
      gan_adain(Z(2, 6, 4, 4), Z(2, 5, 4, 4), 1))                                                  \
    M(adain_pixel, "gan_adain", "(2,6,4,4)", "(2,6,1,1)",                                          \
      gan_adain(Z(2, 6, 4, 4), Z(2, 6, 1, 1), 1))                                                  \
    M(pixel_norm_null, "gan_pixel_norm", "NULL", "", gan_pixel_norm(NULL))                         \
    M(normalize_dim, "gan_normalize", "5", "0 to 3", gan_normalize(Z(2, 3, 4, 5), 5))              \
    M(stddev_group, "gan_minibatch_stddev", "(6,2,2,2)", "4",                                      \
      gan_minibatch_stddev(Z(6, 2, 2, 2), 4))                                                      \
    M(stddev_zero, "gan_minibatch_stddev", "(6,2,2,2)", "0",                                       \
      gan_minibatch_stddev(Z(6, 2, 2, 2), 0))                                                      \
    M(instance_layer, "gan_instance_norm \"in\"", "(2,3,1,1)", "",                                 \
      gan_instance_norm(MODEL, "in", Z(2, 3, 1, 1)))                                               \
    M(group_layer, "gan_group_norm \"gn\"", "(2,3,4,4)", "2 groups",                               \
      gan_group_norm(MODEL, "gn", Z(2, 3, 4, 4), 2))                                               \
    M(layer_layer, "gan_layer_norm \"ln\"", "(2,3,4,5)", "(1,3,4,4)", {                            \
        gan_model *m = MODEL;                                                                      \
        gan_layer_norm(m, "ln", Z(2, 3, 4, 4));                                                    \
        gan_layer_norm(m, "ln", Z(2, 3, 4, 5));                                                    \
    })                                                                                             \
    M(prelu_layer, "gan_prelu \"p\"", "NULL", "", gan_prelu(MODEL, "p", NULL))                     \
    M(embedding_shape, "gan_embedding \"e\"", "(2,1,3,1)", "",                                     \
      gan_embedding(MODEL, "e", Z(2, 1, 3, 1), 4, 5))                                              \
    M(embedding_label, "gan_embedding \"e\"", "index 2", "there are 2",                            \
      gan_embedding(MODEL, "e", numbers(0, 1, 2), 2, 5))                                           \
    M(embedding_other, "gan_embedding \"e\"", "(2,5,1,1)", "", {                                   \
        gan_model *m = MODEL;                                                                      \
        gan_embedding(m, "e", Z(1, 1, 1, 1), 2, 5);                                                \
        gan_embedding(m, "e", Z(1, 1, 1, 1), 3, 5);                                                \
    })                                                                                             \
    M(conditional_labels, "gan_conditional_batch_norm \"c\"", "(2,3,4,4)", "(3,1,1,1)",            \
      gan_conditional_batch_norm(MODEL, "c", Z(2, 3, 4, 4), numbers(0, 1, 0), 2))                  \
    M(conditional_label, "gan_conditional_batch_norm \"c\"", "index 9", "there are 2",             \
      gan_conditional_batch_norm(MODEL, "c", Z(3, 3, 4, 4), numbers(0, 1, 9), 2))                  \
    M(conditional_null, "gan_conditional_batch_norm \"c\"", "NULL", "",                            \
      gan_conditional_batch_norm(MODEL, "c", Z(3, 3, 4, 4), NULL, 2))                              \
    M(dropout_model, "gan_dropout", "model is NULL", "", gan_dropout(NULL, Z(2, 3, 4, 4), 0.5))    \
    M(path_model, "gan_param", "model is NULL", "path_length.running_mean",                        \
      gan_path_length(NULL, gan_neg(Z(2, 3, 1, 1)), Z(2, 3, 1, 1)))                                \
    M(ada_model, "gan_ada", "model is NULL", "", gan_ada(NULL, Z(2, 1, 1, 1), 0.6, 1000))          \
    M(spectral_model, "gan_param", "model is NULL", "s.weight_u",                                  \
      gan_spectral_norm(NULL, "s", Z(2, 3, 1, 1)))                                                 \
    M(dropout_one, "gan_dropout", "probability 1", "[0,1)", gan_dropout(MODEL, Z(2, 3, 4, 4), 1))  \
    M(dropout_negative, "gan_dropout", "probability -0.5", "[0,1)",                                \
      gan_dropout(MODEL, Z(2, 3, 4, 4), -0.5))                                                     \
    M(dropout_nan, "gan_dropout", "nan", "[0,1)",                                                  \
      gan_dropout(MODEL, Z(2, 3, 4, 4), (gan_real)fabs((double)NAN)))                              \
    M(attention_null, "gan_self_attention", "NULL", "", gan_self_attention(MODEL, "a", NULL))      \
    M(demodulation_style, "gan_demodulation", "(4,3,3,3)", "(2,4,1,1)",                            \
      gan_demodulation(Z(4, 3, 3, 3), Z(2, 4, 1, 1)))                                              \
    M(modulated_style, "gan_modulated_conv2d_f", "(2,3,5,5)", "(1,3,1,1)",                         \
      gan_modulated_conv2d_f(Z(2, 3, 5, 5), Z(4, 3, 3, 3), Z(1, 3, 1, 1), 1, true))                \
    M(modulated_weight, "gan_", "(2,3,5,5)", "(4,2,3,3)",                                          \
      gan_modulated_conv2d_f(Z(2, 3, 5, 5), Z(4, 2, 3, 3), Z(2, 3, 1, 1), 1, true))                \
    M(modulated_latent, "gan_modulated_conv2d", "(2,3,5,5)", "(1,3,1,1)",                          \
      gan_modulated_conv2d(MODEL, "a", Z(2, 3, 5, 5), Z(1, 7, 1, 1), 4, 3, true))                  \
    M(modulated_null, "gan_modulated_conv2d", "NULL", "",                                          \
      gan_modulated_conv2d(MODEL, "a", NULL, Z(1, 7, 1, 1), 4, 3, true))                           \
    M(spectral_null, "gan_spectral_norm", "NULL", "", gan_spectral_norm(MODEL, "s", NULL))         \
    M(weights_kind, "gan_weights", "kind 3", "GAN_EQUALIZED", gan_weights(MODEL, 3, 1))            \
    M(weights_rate, "gan_weights", "rate 0", "above 0", gan_weights(MODEL, GAN_EQUALIZED, 0))      \
    M(bce_to_shape, "gan_bce_logits_to", "(4,1,1,1)", "(5,1,1,1)",                                 \
      gan_bce_logits_to(Z(4, 1, 1, 1), Z(5, 1, 1, 1)))                                             \
    M(bce_shape, "gan_bce", "(4,1,1,1)", "(5,1,1,1)", gan_bce(Z(4, 1, 1, 1), Z(5, 1, 1, 1)))       \
    M(flipped_zero, "gan_rand", "(0,1,1,1)", "", gan_flipped_labels(g, 0, 1, 0.5))                 \
    M(smooth_shape, "gan_smooth_l1", "(4,1,1,1)", "(4,1,1,2)",                                     \
      gan_smooth_l1(Z(4, 1, 1, 1), Z(4, 1, 1, 2)))                                                 \
    M(cross_shape, "gan_cross_entropy", "(4,3,2,2)", "(4,1,1,1)",                                  \
      gan_cross_entropy(Z(4, 3, 2, 2), Z(4, 1, 1, 1)))                                             \
    M(d_loss_kind, "gan_d_loss", "kind 6", "GAN_RELATIVISTIC",                                     \
      gan_d_loss(Z(1, 1, 1, 1), Z(1, 1, 1, 1), 6))                                                 \
    M(d_loss_null, "gan_d_loss", "NULL", "", gan_d_loss(NULL, Z(1, 1, 1, 1), GAN_HINGE))           \
    M(g_loss_kind, "gan_g_loss", "kind -1", "GAN_MINIMAX", gan_g_loss(NULL, Z(1, 1, 1, 1), -1))    \
    M(g_loss_real, "gan_d_loss", "NULL", "", gan_g_loss(NULL, Z(1, 1, 1, 1), GAN_RELATIVISTIC))    \
    M(loss_name, "gan_loss_name", "kind 6", "6", gan_loss_name(6))                                 \
    M(penalty_null, "gan_gradient_penalty", "NULL", "",                                            \
      gan_gradient_penalty(Z(1, 1, 1, 1), NULL, 1))                                                \
    M(r1_null, "gan_r1", "NULL", "", gan_r1(NULL, Z(1, 1, 1, 1)))                                  \
    M(r2_null, "gan_r2", "NULL", "", gan_r2(Z(1, 1, 1, 1), NULL))                                  \
    M(wgan_gp_shape, "gan_wgan_gp", "(2,1,4,4)", "(3,1,4,4)",                                      \
      gan_wgan_gp(MODEL, any_critic, Z(2, 1, 4, 4), Z(3, 1, 4, 4)))                                \
    M(dragan_null, "gan_dragan", "NULL", "", gan_dragan(MODEL, any_critic, NULL))                  \
    M(path_null, "gan_path_length", "NULL", "", gan_path_length(MODEL, NULL, Z(2, 3, 1, 1)))       \
    M(cycle_shape, "gan_l1", "(2,3,1,1)", "(2,3,1,2)",                                             \
      gan_cycle_loss(Z(2, 3, 1, 1), Z(2, 3, 1, 2)))                                                \
    M(identity_shape, "gan_l1", "(2,3,1,1)", "(2,3,1,2)",                                          \
      gan_identity_loss(Z(2, 3, 1, 1), Z(2, 3, 1, 2)))                                             \
    M(gram_null, "gan_gram", "NULL", "", gan_gram(NULL))                                           \
    M(perceptual_none, "gan_perceptual_loss", "0 feature maps", "1 or more",                       \
      features(0, Z(1, 1, 1, 1), Z(1, 1, 1, 1), 0))                                                \
    M(perceptual_shape, "gan_perceptual_loss", "(1,2,3,4)", "(1,2,3,5)",                           \
      features(0, Z(1, 2, 3, 4), Z(1, 2, 3, 5), 1))                                                \
    M(style_shape, "gan_style_loss", "(1,1,2,2)", "(1,1,3,3)",                                     \
      features(1, Z(1, 3, 3, 4), Z(1, 2, 3, 5), 1))                                                \
    M(matching_shape, "gan_feature_matching", "(1,2,3,4)", "(1,2,3,5)",                            \
      features(2, Z(7, 2, 3, 4), Z(1, 2, 3, 5), 1))                                                \
    M(variation_null, "gan_total_variation", "NULL", "", gan_total_variation(NULL))                \
    M(nce_shape, "gan_patch_nce", "(1,3,1,4)", "(1,3,1,5)",                                        \
      gan_patch_nce(Z(1, 3, 1, 4), Z(1, 3, 1, 5), 1))                                              \
    M(nce_rows, "gan_patch_nce", "(1,3,2,4)", "", gan_patch_nce(Z(1, 3, 2, 4), Z(1, 3, 2, 4), 1))  \
    M(nce_temperature, "gan_patch_nce", "temperature 0", "",                                       \
      gan_patch_nce(Z(1, 3, 1, 4), Z(1, 3, 1, 4), 0))                                              \
    M(augment_kind, "gan_augment", "kinds 16", "GAN_COLOR", gan_augment(Z(1, 3, 4, 4), 16, 1))     \
    M(augment_p, "gan_augment", "probability 1.5", "0 to 1",                                       \
      gan_augment(Z(1, 3, 4, 4), GAN_FLIP, 1.5))                                                   \
    M(augment_null, "gan_augment", "NULL", "", gan_augment(NULL, GAN_FLIP, 1))                     \
    M(ada_null, "gan_ada", "NULL", "", gan_ada(MODEL, NULL, 0.6, 1000))                            \
    M(crop_large, "gan_random_crop", "(1,3,4,4)", "5 x 4", gan_random_crop(Z(1, 3, 4, 4), 5, 4))   \
    M(crop_zero, "gan_random_crop", "(1,3,4,4)", "4 x 0", gan_random_crop(Z(1, 3, 4, 4), 4, 0))

#define FUNCTION(name, begins, says, also, ...) \
    static void make_##name(void *arg)          \
    {                                           \
        (void)arg;                              \
        __VA_ARGS__;                            \
    }
MISTAKES(FUNCTION)

#define ROW(name, begins, says, also, ...) {#name, begins, {says, also}, make_##name},

static const struct mistake {
    const char *name, *begins, *says[2];
    void (*make)(void *);
} mistakes[] = {MISTAKES(ROW)};

enum { COUNT = sizeof mistakes / sizeof *mistakes };

static const struct mistake *now;

static void item_of_two(void *arg)
{
    (void)arg;
    gan_item(gan_full(g, 1, 2, 1, 1, 1));
}

static void test_mistake(void)
{
    const char *message = message_of(now->make, NULL);
    CHECK(*message, "it is let through");
    CHECK(!strncmp(message, now->begins, strlen(now->begins)),
          "the message does not begin with %s: %s", now->begins, message);
    for (int i = 0; i < 2; i++)
        CHECK(strstr(message, now->says[i]), "the message does not say %s: %s", now->says[i],
              message);
    CHECK(!strchr(message, '\n') && strlen(message) < 240, "the message is not one line: %s",
          message);
    CHECK(!strcmp(message, gan_error()), "gan_error() is: %s", gan_error());
    CHECK(gan_item(gan_sum(gan_full(g, 2, 1, 2, 3, 4))) == 48,
          "the device does not work afterwards");
    const char *next = message_of(item_of_two, NULL);
    CHECK(!strncmp(next, "gan_item: ", 10), "the next message names this layer: %s", next);
    gan_tensor *x = gan_full(g, 3, 1, 1, 1, 1);
    CHECK(gan_item(gan_grad(gan_square(x), x)) == 6, "there are no gradients afterwards");
}

int main(void)
{
    char line[100];
    g = gan_open("cpu", 1);
    for (int i = 0; i < COUNT; i++) {
        now = &mistakes[i];
        snprintf(line, sizeof line, "mistake %s", now->name);
        run(line, test_mistake);
        gan_clear(g);
    }
    gan_close(g);
    return finish();
}
