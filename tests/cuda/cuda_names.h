/* tests/cuda/cuda_names.h: included after gan.h, it puts the bare kernels of gan_cuda.cu in the
   place of cpu's, so that a test of gan_cpu_NAME becomes one of gan_cuda_NAME. Updates wait in
   gan_cuda.cu for others to go with: here each goes at once. */
void gan_cuda_fill(const gan_fill *p, gan_real *y);
void gan_cuda_random(const gan_random *p, gan_real *y);
void gan_cuda_map(const gan_map *p, const gan_real *x, gan_real *y);
void gan_cuda_zip(const gan_zip *p, const gan_real *a, const gan_real *b, gan_real *y);
void gan_cuda_copy(const gan_copy *p, const gan_real *x, gan_real *y);
void gan_cuda_sum(const gan_sums *p, const gan_real *x, gan_real *y);
void gan_cuda_matmul(const gan_product *p, const gan_real *a, const gan_real *b, gan_real *y);
void gan_cuda_conv2d(const gan_conv *p, const gan_real *x, const gan_real *weight, gan_real *y);
void gan_cuda_conv_transpose2d(const gan_conv *p, const gan_real *y, const gan_real *weight,
                               gan_real *x);
void gan_cuda_conv2d_weight(const gan_conv *p, const gan_real *x, const gan_real *y,
                            gan_real *weight);
void gan_cuda_norm_stats(const gan_norm *p, const gan_real *x, gan_real *stats);
void gan_cuda_norm_apply(const gan_norm *p, const gan_real *x, const gan_real *stats,
                         const gan_real *weight, const gan_real *bias, gan_real *y);
void gan_cuda_norm_sums(const gan_norm *p, const gan_real *gy, const gan_real *x,
                        const gan_real *stats, gan_real *sums);
void gan_cuda_norm_grad(const gan_norm *p, const gan_real *gy, const gan_real *x,
                        const gan_real *stats, const gan_real *weight, const gan_real *sums,
                        gan_real *gx);
void gan_cuda_resample(const gan_resample *p, const gan_real *x, const gan_real *rows,
                       const gan_real *columns, gan_real *y);
void gan_cuda_gather(const gan_index *p, const gan_real *x, const gan_real *index, gan_real *y);
void gan_cuda_max_index(const gan_pool *p, const gan_real *x, gan_real *index);
void gan_cuda_softmax(const gan_lines *p, const gan_real *x, gan_real *y);
void gan_cuda_softmax_grad(const gan_lines *p, const gan_real *gy, const gan_real *y, gan_real *gx);
void gan_cuda_sgd(const gan_update *p, const gan_real *gradient, gan_real *weight, gan_real *m);
void gan_cuda_adam(const gan_update *p, const gan_real *gradient, gan_real *weight, gan_real *m,
                   gan_real *v);
void gan_cuda_rmsprop(const gan_update *p, const gan_real *gradient, gan_real *weight, gan_real *v);
void gan_cuda_synchronize(void);
void gan_cuda_set_version(int version);
#define gan_cpu_fill                gan_cuda_fill
#define gan_cpu_random              gan_cuda_random
#define gan_cpu_map                 gan_cuda_map
#define gan_cpu_zip                 gan_cuda_zip
#define gan_cpu_copy                gan_cuda_copy
#define gan_cpu_sum                 gan_cuda_sum
#define gan_cpu_matmul              gan_cuda_matmul
#define gan_cpu_conv2d              gan_cuda_conv2d
#define gan_cpu_conv_transpose2d    gan_cuda_conv_transpose2d
#define gan_cpu_conv2d_weight       gan_cuda_conv2d_weight
#define gan_cpu_norm_stats          gan_cuda_norm_stats
#define gan_cpu_norm_apply          gan_cuda_norm_apply
#define gan_cpu_norm_sums           gan_cuda_norm_sums
#define gan_cpu_norm_grad           gan_cuda_norm_grad
#define gan_cpu_resample            gan_cuda_resample
#define gan_cpu_gather              gan_cuda_gather
#define gan_cpu_max_index           gan_cuda_max_index
#define gan_cpu_softmax             gan_cuda_softmax
#define gan_cpu_softmax_grad        gan_cuda_softmax_grad
#define gan_cpu_sgd(p, g, w, m)     (gan_cuda_sgd(p, g, w, m), gan_cuda_synchronize())
#define gan_cpu_adam(p, g, w, m, v) (gan_cuda_adam(p, g, w, m, v), gan_cuda_synchronize())
#define gan_cpu_rmsprop(p, g, w, v) (gan_cuda_rmsprop(p, g, w, v), gan_cuda_synchronize())
