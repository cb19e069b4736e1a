/* gan.h - generative adversarial networks in one C header, to read, to run and to take apart. v0.2
   Public domain or MIT-0, as you like; the text is at the end of the file.

   Do this in ONE C or C++ file, then build it with  cc main.c -lm

       #define GAN_IMPLEMENTATION
       #include "gan.h"

   A complete program: a network learns y = x0 * x1 from examples that it draws itself.

       static gan_tensor *net(gan_model *m, gan_tensor *x)
       {
           x = gan_tanh(gan_linear(m, "fc1", x, 32));
           return gan_linear(m, "fc2", x, 1);
       }

       int main(void)
       {
           gan *g = gan_open("cpu", 42);                      // device, seed
           gan_model *m = gan_model_new(g, "net");
           gan_opt *adam = gan_adam(m, 1e-2f, 0.9f, 0.999f);
           for (int step = 0; step <= 1000; step++) {
               gan_tensor *x = gan_randn(g, 64, 2, 1, 1);     // (N,C,H,W) = (64,2,1,1)
               gan_tensor *y = gan_mul(gan_slice(x, 1, 0, 1), gan_slice(x, 1, 1, 1));
               gan_tensor *loss = gan_mse(net(m, x), y);
               gan_minimize(adam, loss);                      // gradients, then one Adam step
               if (step % 250 == 0)
                   printf("step %4d  loss %.4f\n", step, (double)gan_item(loss));
               gan_clear(g);                                  // parameters stay, the rest goes
           }
           gan_close(g);
       }

   A DCGAN that learns handwritten digits is examples/01_dcgan.c.

   CONTENTS (search for the tag: grep -n '>>conv' gan.h  finds this, declaration, implementation)

     >>errors      two kinds of error, and how to catch them
     >>kernels     the pure functions beneath; backends ref, cpu, your own; adding an operation
     >>device      gan_open, threads, memory of a step
     >>tensors     four dimensions N,C,H,W; made, read, copied
     >>random      Philox numbers (Salmon et al. 2011)
     >>arithmetic  add, mul, exp, clamp ... with broadcasting; activations
     >>reduce      sum, mean, expand
     >>shape       reshape, permute, slice, concat
     >>gather      numbers taken by index, added up by index, one-hot
     >>simd        the inner loops, compiled once for each instruction set
     >>matmul      the matrix product and the core that all products share
     >>conv        convolution and its two adjoints (Dumoulin and Visin 2016)
     >>resample    padding, resizing, FIR filters, pooling, pixel shuffle
     >>norm        batch, instance, group, layer and pixel norm, AdaIN, minibatch deviation
     >>autograd    gradients, and gradients of gradients
     >>gradcheck   a derivative against central differences
     >>models      named parameters and how they start
     >>layers      linear, conv2d, norms, embedding, attention, modulated convolution, spectral norm
     >>losses      of generator and discriminator, penalties, distances of pictures and features
     >>optim       SGD, Adam, RMSprop, L-BFGS; learning rates, clipping, averages
     >>data        IDX, CIFAR-10, folders of pictures, pairs; built-in digits and shapes; batches
     >>augment     random flips, shifts, holes and colours; DiffAugment, ADA
     >>metrics     scores of samples: Frechet and kernel distance, precision, modes, SSIM ...
     >>files       checkpoints in safetensors
     >>pictures    a grid of a batch as PNG (with stb_image_write)
     >>progress    one line on the terminal, a CSV beside it
     >>look        what is in a model, and where the time goes
     >>doctor      what is wrong with a training, in plain words
     >>plan        a step's operations and memory before it is computed; steps captured, replayed

   CONVENTIONS

     letters     N images, C channels, H rows, W columns; O output channels; KH,KW kernel;
                 S stride, P padding, D dilation (SH, SW ... where rows and columns differ)
     memory      row-major and contiguous: element (n,c,h,w) is data[((n*C + c)*H + h)*W + w]
     names       gan_x is a tensor function; gan_x_f is a layer's function on tensors you hold,
                 without a model; gan_x_with takes an options struct; gan_x_ works in place;
                 gan_matmul_t transposes; gan_ref_x, gan_cpu_x and gan_cuda_x are bare kernels;
                 gan__x is private, GAN_X a macro or a constant
     arguments   model or optimizer (and the layer's name), then tensors, then sizes and numbers,
                 then a mode and the numbers that belong to it. A kernel's: sizes, inputs (the
                 incoming gradient first), outputs, which are written, not added to
     ownership   tensors live until gan_clear; models, optimizers and data until gan_close; you free
                 nothing. A tensor that is used in the step after its gan_clear is told so
     errors      a mistake in the program aborts with one line; a bad file or device gives NULL or
                 false and gan_error()
     randomness  Philox: every number is a function of (seed, stream, index)
     threads     a pool of the library's own. Threads split outputs and never a sum, so that the
                 same seed gives the same bits on any number of them
     NULL        never a valid argument, but for a bias, labels or a log file that is not wanted; it
                 ends in one line

   OPTIONS (define before the include)

     GAN_IMPLEMENTATION   makes this the file that holds the code; elsewhere gan.h only declares
     GAN_STATIC           every function static, for a program of one file
     GAN_REAL             float (default) or double: the number type of the whole library
     GAN_MAX_VECTOR       widest vectors used, in bytes: 64 (default), 32, 16, or 0 for plain loops
     GAN_NO_OPENMP        kernels run on the calling thread alone
     GAN_NO_THREADS       no threads at all: no pool, and no picture of a folder decoded ahead
     GAN_MALLOC GAN_FREE  malloc and free
     GAN_HEADER           "gan.h": the name of this file, if you renamed it (it includes itself,
                          once for each instruction set)

   Threads want -pthread where glibc is older than 2.34, and -fopenmp with MinGW.
   stb_image.h before gan.h adds reading .gz files and gan_data_folder (PNG, JPEG, BMP, GIF, PNM,
   TGA); stb_image_write.h before gan.h adds gan_save_png. */

/* ===========================================================================================
   PART I: DECLARATIONS
   =========================================================================================== */
#ifndef GAN_H
#define GAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifndef GAN_REAL
#define GAN_REAL float
#endif
#if defined(GAN_STATIC) && defined(__GNUC__)
#define GAN_API static __attribute__((unused))
#elif defined(GAN_STATIC)
#define GAN_API static
#else
#define GAN_API extern
#endif
#ifdef __cplusplus
extern "C" {
#endif

typedef GAN_REAL gan_real;                /* the number type: float, or double to check gradients */
typedef struct gan gan;                   /* a device with its memory, random numbers and tape */
typedef struct gan_tensor gan_tensor;     /* numbers (N,C,H,W) and how they were computed */
typedef struct gan_model gan_model;       /* named parameters */
typedef struct gan_opt gan_opt;           /* an optimizer of one model's parameters */
typedef struct gan_data gan_data;         /* a data set in host memory */
typedef struct gan_progress gan_progress; /* the progress line and its CSV file */

/* Every object that includes gan.h refers to a name that holds its number type, and only the
   object with the code defines one: float and double do not link to each other ("undefined
   reference to gan__compiled_with_GAN_REAL_double"). */
#ifndef GAN_STATIC
#define GAN__REAL_NAME_OF(type) gan__compiled_with_GAN_REAL_##type
#define GAN__REAL_NAME(type)    GAN__REAL_NAME_OF(type)
extern const char GAN__REAL_NAME(GAN_REAL);
#ifdef __GNUC__
__attribute__((used))
#endif
static const char *const gan__real_wanted = &GAN__REAL_NAME(GAN_REAL);
#endif

/* ===========================================================================================
   >>errors
   ===========================================================================================
   A mistake in the program (shapes that do not fit, a NULL) prints one line - what was called,
   with which shapes, what would be right - and aborts. The world's fault (a file, a device,
   memory) returns NULL or false; gan_error() then says what and which file, and nothing held
   before is lost. */

/* The text of this thread's last error. Never NULL; "" before the first. Valid until the next
   error in this thread. */
GAN_API const char *gan_error(void);

/* Calls fn(message, user) in place of the abort, in this thread. fn leaves by longjmp (or a C++
   exception, or exit): if it returns, the abort follows. NULL brings the abort back. */
typedef void gan_error_fn(const char *message, void *user);
GAN_API void gan_on_error(gan_error_fn *fn, void *user);

/* Ends like any mistake in the program, with "where: message": for backends and layers of your
   own. */
GAN_API void gan_fail(const char *where, const char *message);

/* ===========================================================================================
   >>kernels
   ===========================================================================================
   A kernel is a pure function of sizes and arrays, without tensors and without a tape. Each comes
   twice: gan_ref_NAME is textbook loops (the meaning), gan_cpu_NAME is blocked, vectorised and
   threaded. gan_cuda.cu adds gan_cuda_NAME, with device pointers. All take their sizes first (p),
   then the inputs, then the outputs, which are written, not added to. They check nothing: the
   tensor functions have done so.

   ADDING AN OPERATION, that of one or two numbers at a time (hard swish, say). One line:

     1. a row in GAN_MAP_OPS or GAN_ZIP_OPS below: the constant, the name for messages, whether
        the derivative needs the result, the formula, the derivative. The kernels of ref, cpu and
        cuda, the enum and the derivative are made from the row.
     2. a tensor function in >>arithmetic, both parts, that calls gan__map or gan__zip with the
        constant.
     3. tests: its formula, written in another way, in map_of or zip_of of tests/kernels.c, which
        compares every row of ref, cpu and cuda with it. A line in OPERATIONS of
        tests/gradients.c, with inputs that reach every branch of the formula and lie near no bend
        (hard swish bends at -3 and 3: gan_mul_scalar(A, 4) with KINKS); make
        build/tests/gradients-double builds it. A line in the list of tests/operations.c where
        its like are, its value in tests/expected/reference.py (run with PyTorch it writes
        reference.safetensors), a row in tests/tools/proofs.txt.

   ADDING AN OPERATION with a kernel of its own:

     1. here: a struct of sizes, or one that is there; two prototypes with the formula; a field in
        gan_backend, at its end.
     2. in >>kernels (implementation): a line in GAN_KERNELS, at its end. It says the kernel's
        name, the struct, and how many arrays it reads and writes (5 and 3 at most).
     3. in the chapter it belongs to (implementation): gan_ref_NAME; gan_cpu_NAME, whose threads
        come from gan__parallel; gan__cost_NAME, which says how many numbers each operand has and
        how many operations there are.
     4. there too, the tensor function: check the shapes, gan__tensor makes the result, gan__run_1
        or gan__run_2 runs kernel GAN__K_NAME, gan__record notes what it was made from, with a
        struct gan__op: the name, the function of the derivative, whether that reads the result.
        What the derivative wants to know of the sizes goes to attr and real. The derivative is
        made of tensor functions, so that it has derivatives itself. Its prototype in PART I.
     5. in gan_cuda.cu, the same chapter: a __global__ function and gan_cuda_NAME, which launches
        it; a line in the table of gan__cuda_register, whose number of kernels is checked below
        it, and two in tests/cuda/cuda_names.h.
     6. tests: the bare kernel against numbers made another way in tests/kernels.c (of ref and of
        cpu), and the rest as above.

   What is forgotten of a kernel's parts does not compile or does not link. */

/* -------------------------------------------------------------------------------------------
   Elementwise functions of one array, y = f(x), with two scalars a and b: gan_map.op. A row is

       X(constant, name, does the derivative need y, f(x), derivative)

   f(x) is C; GAN__EXP and the like are e^x and so on in the number type and the backend at hand.
   The derivative is the gradient of x made of tensors: gy is y's gradient. */

/* clang-format off */
#define GAN_MAP_OPS(X)                                                                          \
    /* the line: gan_add_scalar has a = 1, gan_mul_scalar b = 0 */                              \
    X(GAN_AFFINE,   "gan_mul_scalar or gan_add_scalar",  false,                                 \
      a * x + b,                                gan__times(gy, a))                              \
    X(GAN_EXP,      "gan_exp",                           true,                                  \
      GAN__EXP(x),                              gan_mul(gy, y))                                 \
    X(GAN_LOG,      "gan_log",                           false,                                 \
      GAN__LOG(x),                              gan_div(gy, x))                                 \
    X(GAN_SQRT,     "gan_sqrt",                          true,  /* 1 / (2 sqrt x) */            \
      GAN__SQRT(x),                             gan_div(gan__times(gy, (gan_real)0.5), y))      \
    X(GAN_RSQRT,    "gan_rsqrt",                         true,  /* -x^-3/2 / 2 */               \
      1 / GAN__SQRT(x),                         gan_mul(gan__times(gy, (gan_real)-0.5),         \
                                                        gan_mul(y, gan_square(y))))             \
    X(GAN_SQUARE,   "gan_square",                        false,                                 \
      x * x,                                    gan_mul(gan__times(gy, 2), x))                  \
    X(GAN_ABS,      "gan_abs",                           false,                                 \
      GAN__ABS(x),                              gan_mul(gy, gan__map("gan_abs", GAN_SIGN,       \
                                                                     x, 0, 0)))                 \
    X(GAN_SIGN,     "the sign",                          false, /* -1, 0 or 1 */                \
      (x > 0) - (x < 0),                        NULL)                                           \
    X(GAN_CLAMP,    "gan_clamp",                         false, /* to the range a .. b */       \
      x < a ? a : x > b ? b : x,                gan__zip("gan_clamp", GAN_INSIDE, gy, x, a, b)) \
    X(GAN_LEAKY,    "gan_leaky_relu",                    true,  /* a = 0 is ReLU */             \
      x > 0 ? x : a * x,                        gan__zip_into(gan__reuse(gy), "gan_leaky_relu", \
                                                              GAN_GATE, gy, a >= 0 ? y : x,     \
                                                              a, 0))                            \
    X(GAN_TANH,     "gan_tanh",                          true,                                  \
      GAN__TANH(x),                             gan__zip_into(gan__reuse(gy), "gan_tanh",       \
                                                              GAN_DTANH, gy, y, 0, 0))          \
    X(GAN_SIGMOID,  "gan_sigmoid",                       true,                                  \
      1 / (1 + GAN__EXP(-x)),                   gan__zip("gan_sigmoid", GAN_DSIGMOID, gy, y,    \
                                                         0, 0))                                 \
    X(GAN_SOFTPLUS, "gan_softplus",                      false, /* ln(1 + e^x), no overflow */  \
      (x > 0 ? x : 0) + GAN__LOG1P_EXP(-GAN__ABS(x)), gan_mul(gy, gan_sigmoid(x)))              \
    X(GAN_ERF,      "erf",                               false, /* 2/sqrt(pi) e^-x^2 */         \
      GAN__ERF(x),                              gan_mul(gan__times(gy,                          \
                                                           (gan_real)1.12837916709551257390),   \
                                                gan_exp(gan_neg(gan_square(x)))))

/* -------------------------------------------------------------------------------------------
   Elementwise functions of two arrays, y = f(a, b), with two scalars k and l: gan_zip.op. A row is

       X(constant, name, does a derivative need y, f(a, b), derivative of a, derivative of b)

   In the derivatives a, b, y and gy are tensors. They have y's shape; where a or b was repeated,
   they are summed to its own after. NULL: no gradient. */
#define GAN_ZIP_OPS(X)                                                                          \
    /* gan_add has k = l = 1, gan_sub l = -1; summed first, as that is less to multiply */      \
    X(GAN_MIX,      "gan_add or gan_sub",                false,                                 \
      k * a + l * b,                            gan__times(gan__unbroadcast(gy, a), k),         \
                                                gan__times(gan__unbroadcast(gy, b), l))         \
    X(GAN_MUL,      "gan_mul",                           false,                                 \
      a * b,                                    gan_mul(gy, b),                                 \
                                                gan_mul(gy, a))                                 \
    X(GAN_DIV,      "gan_div",                           true,                                  \
      a / b,                                    gan_div(gy, b),                                 \
                                                gan_neg(gan_div(gan_mul(gy, y), b)))            \
    /* leaky ReLU's derivative: a is the gradient */                                            \
    X(GAN_GATE,     "leaky_relu's derivative",           false,                                 \
      b > 0 ? a : k * a,                        gan__zip("gan_leaky_relu", GAN_GATE, gy, b,     \
                                                         k, 0),                                 \
                                                NULL)                                           \
    /* clamp's derivative: a is the gradient */                                                 \
    X(GAN_INSIDE,   "clamp's derivative",                false,                                 \
      b >= k && b <= l ? a : 0,                 gan__zip("gan_clamp", GAN_INSIDE, gy, b, k, l), \
                                                NULL)                                           \
    /* tanh's derivative: a is the gradient, b = tanh x */                                      \
    X(GAN_DTANH,    "tanh's derivative",                 false,                                 \
      a * (1 - b * b),                          gan__zip("gan_tanh", GAN_DTANH, gy, b, 0, 0),   \
                                                gan__times(gan_mul(gy, gan_mul(a, b)), -2))     \
    /* sigmoid's derivative: a is the gradient, b = sigmoid x */                                \
    X(GAN_DSIGMOID, "sigmoid's derivative",              false,                                 \
      a * b * (1 - b),                          gan__zip("gan_sigmoid", GAN_DSIGMOID, gy, b,    \
                                                         0, 0),                                 \
                                                gan_mul(gan_mul(gy, a),                         \
                                                        gan_add_scalar(gan__times(b, -2), 1)))  \
    X(GAN_EQUAL,    "gan_one_hot",                       false,                                 \
      a == b,                                   NULL,                                           \
                                                NULL)
/* clang-format on */

#define GAN__MAP_OP(op, name, needs_y, formula, derivative)    op,
#define GAN__ZIP_OP(op, name, needs_y, formula, of_a, of_b)    op,
#define GAN__COUNT_MAP(op, name, needs_y, formula, derivative) +1
#define GAN__COUNT_ZIP(op, name, needs_y, formula, of_a, of_b) +1

typedef enum gan_map_op { GAN_MAP_OPS(GAN__MAP_OP) } gan_map_op;

typedef enum gan_zip_op { GAN_ZIP_OPS(GAN__ZIP_OP) } gan_zip_op;

enum { GAN__MAP_OP_COUNT = 0 GAN_MAP_OPS(GAN__COUNT_MAP) };

enum { GAN__ZIP_OP_COUNT = 0 GAN_ZIP_OPS(GAN__COUNT_ZIP) };

/* y[i] = value, for i < COUNT. */
typedef struct {
    size_t count;
    gan_real value;
} gan_fill;

GAN_API void gan_ref_fill(const gan_fill *p, gan_real *y);
GAN_API void gan_cpu_fill(const gan_fill *p, gan_real *y);

/* y[i] = shift + scale * u[i], for i < COUNT, u uniform in [0,1) or (normal) standard normal: the
   numbers 4*index and on of Philox's stream number stream under the key seed. */
typedef struct {
    int normal;
    size_t count;
    uint64_t seed, stream, index;
    gan_real scale, shift;
} gan_random;

GAN_API void gan_ref_random(const gan_random *p, gan_real *y);
GAN_API void gan_cpu_random(const gan_random *p, gan_real *y);

/* y[i] = f(x[i]), for i < COUNT: f is op's of GAN_MAP_OPS, with its scalars a and b. y may be x. */
typedef struct {
    gan_map_op op;
    size_t count;
    gan_real a, b;
} gan_map;

GAN_API void gan_ref_map(const gan_map *p, const gan_real *x, gan_real *y);
GAN_API void gan_cpu_map(const gan_map *p, const gan_real *x, gan_real *y);

/* y (N,C,H,W) = f(a, b) elementwise: f is op's of GAN_ZIP_OPS, with its scalars k and l. The
   fields a and b are strides: how far apart neighbours along N,C,H,W lie in the array of that
   name; 0 repeats one (broadcasting). Bias (1,C,1,1) added to (N,C,H,W), for instance:

       a = {C*H*W, H*W, W, 1}      a walks as y does
       b = {0,     1,   0, 0}      the next channel is the next number, all else repeats it

   y may be the array a or b that walks as y does. */
typedef struct {
    gan_zip_op op;
    int n, c, h, w;
    ptrdiff_t a[4], b[4];
    gan_real k, l;
} gan_zip;

GAN_API void gan_ref_zip(const gan_zip *p, const gan_real *a, const gan_real *b, gan_real *y);
GAN_API void gan_cpu_zip(const gan_zip *p, const gan_real *a, const gan_real *b, gan_real *y);

/* y[y0 + i.y] = x[x0 + i.x] for every index i in (N,C,H,W), where i.x is n*x[0] + c*x[1] + h*x[2]
   + w*x[3] and i.y likewise: permute, slice, concat and expand are copies with strides. */
typedef struct {
    int n, c, h, w;
    ptrdiff_t x[4], y[4], x0, y0;
} gan_copy;

GAN_API void gan_ref_copy(const gan_copy *p, const gan_real *x, gan_real *y);
GAN_API void gan_cpu_copy(const gan_copy *p, const gan_real *x, gan_real *y);

/* y (out) = x (in) summed over each dimension in which out is 1 and in is not. The inner loop
   adds in double precision, or in a fixed number of lanes (see >>simd). */
typedef struct {
    int in[4], out[4];
} gan_sums;

GAN_API void gan_ref_sum(const gan_sums *p, const gan_real *x, gan_real *y);
GAN_API void gan_cpu_sum(const gan_sums *p, const gan_real *x, gan_real *y);

/* y (N,C,M,W) = op(a) op(b), op(a) (M,K) and op(b) (K,W); op transposes where asked. Batches of
   a and b lie a_n, a_c, b_n, b_c elements apart along N and C; 0 repeats one. */
typedef struct {
    int n, c, m, k, w, transpose_a, transpose_b;
    ptrdiff_t a_n, a_c, b_n, b_c;
} gan_product;

GAN_API void gan_ref_matmul(const gan_product *p, const gan_real *a, const gan_real *b,
                            gan_real *y);
GAN_API void gan_cpu_matmul(const gan_product *p, const gan_real *a, const gan_real *b,
                            gan_real *y);

/* The geometry of a convolution from (N,C,H,W) to (N,OUT_C,OH,OW), shared by it and its two
   adjoints. Strides, padding and dilation of the two axes are

     SH = stride_h, or stride where that is 0     SW = stride_w, or stride     (0 both: 1)
     PH = pad + pad_h                             PW = pad + pad_w
     DH = dilation_h, or dilation                 DW = dilation_w, or dilation (0 both: 1)

     OH = (H + 2*PH - DH*(KERNEL_H-1) - 1)/SH + 1        OW likewise.  groups: 0 means 1. */
typedef struct {
    int n, c, h, w, out_c, kernel_h, kernel_w, stride, pad, groups, dilation;
    int stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
} gan_conv;

GAN_API int gan_conv_out_h(const gan_conv *p);
GAN_API int gan_conv_out_w(const gan_conv *p);

/* y[n,o,i,j] = sum over c,u,v of x[n,c,i*SH+u*DH-PH,j*SW+v*DW-PW] * weight[o,c,u,v]
     x (N,C,H,W)                        positions outside the image count as 0
     weight (OUT_C,C/G,KERNEL_H,KERNEL_W)
     y (N,OUT_C,OH,OW)                  with G groups, output channel o sees the input channels of
                                        its group only */
GAN_API void gan_ref_conv2d(const gan_conv *p, const gan_real *x, const gan_real *weight,
                            gan_real *y);
GAN_API void gan_cpu_conv2d(const gan_conv *p, const gan_real *x, const gan_real *weight,
                            gan_real *y);

/* conv2d's adjoint in x: x[n,c,h,w] = sum over o,u,v with i*SH+u*DH-PH = h and j*SW+v*DW-PW = w of
   y[n,o,i,j] * weight[o,c,u,v]. Shapes as above. */
GAN_API void gan_ref_conv_transpose2d(const gan_conv *p, const gan_real *y, const gan_real *weight,
                                      gan_real *x);
GAN_API void gan_cpu_conv_transpose2d(const gan_conv *p, const gan_real *y, const gan_real *weight,
                                      gan_real *x);

/* conv2d's adjoint in weight: weight[o,c,u,v] = sum over n,i,j of
   x[n,c,i*SH+u*DH-PH,j*SW+v*DW-PW] * y[n,o,i,j]. Shapes as above. */
GAN_API void gan_ref_conv2d_weight(const gan_conv *p, const gan_real *x, const gan_real *y,
                                   gan_real *weight);
GAN_API void gan_cpu_conv2d_weight(const gan_conv *p, const gan_real *x, const gan_real *y,
                                   gan_real *weight);

/* Normalisation of (N,C,SIZE) over N and SIZE, for each C: xhat = (x - mean)/sqrt(var + eps).
   frozen: mean and var are constants, not computed from x. Every one of the four kernels takes
   this struct; stats (2,C) is mean and variance. */
typedef struct {
    int n, c;
    size_t size;
    gan_real eps;
    int frozen;
} gan_norm;

/* stats (2,C) = mean of x (N,C,SIZE) and its biased variance (divided by N*SIZE). */
GAN_API void gan_ref_norm_stats(const gan_norm *p, const gan_real *x, gan_real *stats);
GAN_API void gan_cpu_norm_stats(const gan_norm *p, const gan_real *x, gan_real *stats);

/* y (N,C,SIZE) = xhat * weight + bias, weight (C), bias (C). */
GAN_API void gan_ref_norm_apply(const gan_norm *p, const gan_real *x, const gan_real *stats,
                                const gan_real *weight, const gan_real *bias, gan_real *y);
GAN_API void gan_cpu_norm_apply(const gan_norm *p, const gan_real *x, const gan_real *stats,
                                const gan_real *weight, const gan_real *bias, gan_real *y);

/* sums (2,C) = sum of gy, sum of gy*xhat: the gradients of bias and weight. gy (N,C,SIZE). */
GAN_API void gan_ref_norm_sums(const gan_norm *p, const gan_real *gy, const gan_real *x,
                               const gan_real *stats, gan_real *sums);
GAN_API void gan_cpu_norm_sums(const gan_norm *p, const gan_real *gy, const gan_real *x,
                               const gan_real *stats, gan_real *sums);

/* gx (N,C,SIZE) = weight/sqrt(var + eps) * (gy - (sums[0] + xhat*sums[1])/(N*SIZE)), sums being
   norm_sums' output; frozen: weight/sqrt(var + eps) * gy. */
GAN_API void gan_ref_norm_grad(const gan_norm *p, const gan_real *gy, const gan_real *x,
                               const gan_real *stats, const gan_real *weight, const gan_real *sums,
                               gan_real *gx);
GAN_API void gan_cpu_norm_grad(const gan_norm *p, const gan_real *gy, const gan_real *x,
                               const gan_real *stats, const gan_real *weight, const gan_real *sums,
                               gan_real *gx);

/* y[n,c,i,j] = sum over a < TAPS_H, b < TAPS_W of R[i,a] C[j,b] x[n,c,r(i,a),k(j,b)]: a linear map
   of each plane, rows and columns apart. x (N,C,H,W), y (N,C,OUT_H,OUT_W). rows (IMAGES,OUT_H,
   TAPS_H,2) holds index r(i,a) and weight R[i,a]; columns (IMAGES,OUT_W,TAPS_W,2) likewise k and
   C; an index of -1 counts as a 0 in x. IMAGES is 1, or N for tables of each image's own.
   adjoint: x is y's place and y x's. Padding, resizing, blurring, average pooling, cropping and
   flipping are tables. */
typedef struct {
    int n, c, h, w, out_h, out_w, taps_h, taps_w, images, adjoint;
} gan_resample;

GAN_API void gan_ref_resample(const gan_resample *p, const gan_real *x, const gan_real *rows,
                              const gan_real *columns, gan_real *y);
GAN_API void gan_cpu_resample(const gan_resample *p, const gan_real *x, const gan_real *rows,
                              const gan_real *columns, gan_real *y);

/* Chooses numbers along the middle dimension, x (OUTER,IN,INNER) and y (OUTER,OUT,INNER):

       y[o,i,k] = x[o,index(o,i,k),k]

   where index(o,i,k) is the number at o*STEP_OUTER + i*STEP + k*STEP_INNER of the array index. A
   step of 0 uses the same indices everywhere along its dimension.
   adjoint != 0: the gradient of that, from x (OUTER,OUT,INNER) to y (OUTER,IN,INNER): y[o,c,k] is
   the sum of all x[o,i,k] with index(o,i,k) = c. */
typedef struct {
    size_t outer, in, out, inner, step_outer, step, step_inner;
    int adjoint;
} gan_index;

GAN_API void gan_ref_gather(const gan_index *p, const gan_real *x, const gan_real *index,
                            gan_real *y);
GAN_API void gan_cpu_gather(const gan_index *p, const gan_real *x, const gan_real *index,
                            gan_real *y);

/* index (PLANES,OUT_H,OUT_W) = where in its plane the first maximum of each KERNEL_H x KERNEL_W
   window of x (PLANES,H,W) is, counted row by row; a NaN counts as the maximum. Windows are SH
   rows and SW columns apart; the first begins PH rows above and PW columns left of the plane, in
   padding that is never the maximum. As in gan_conv, SH is stride_h, or stride if that is 0, PH is
   pad + pad_h, and SW and PW likewise. */
typedef struct {
    int planes, h, w, out_h, out_w, kernel_h, kernel_w, stride, pad;
    int stride_h, stride_w, pad_h, pad_w;
} gan_pool;

GAN_API void gan_ref_max_index(const gan_pool *p, const gan_real *x, gan_real *index);
GAN_API void gan_cpu_max_index(const gan_pool *p, const gan_real *x, gan_real *index);

/* Softmax along the middle dimension of (OUTER,COUNT,INNER); log-softmax if logarithm != 0. */
typedef struct {
    size_t outer, count, inner;
    int logarithm;
} gan_lines;

/* softmax: y = e^x / (sum of e^x); log-softmax: y = x - ln(sum of e^x). The sums run over COUNT. */
GAN_API void gan_ref_softmax(const gan_lines *p, const gan_real *x, gan_real *y);
GAN_API void gan_cpu_softmax(const gan_lines *p, const gan_real *x, gan_real *y);

/* The gradient gx of x from the gradient gy of y, the result of gan_ref_softmax:
     softmax       gx = y * (gy - sum of gy*y)
     log-softmax   gx = gy - e^y * (sum of gy) */
GAN_API void gan_ref_softmax_grad(const gan_lines *p, const gan_real *gy, const gan_real *y,
                                  gan_real *gx);
GAN_API void gan_cpu_softmax_grad(const gan_lines *p, const gan_real *gy, const gan_real *y,
                                  gan_real *gx);

/* One step of an optimizer on COUNT numbers: weight and its moments m, v are read and written.
   bias1 = 1 - beta1^t and bias2 = 1 - beta2^t are Adam's bias corrections in step t = 1, 2, ..;
   decay is AdamW's weight decay. */
typedef struct {
    size_t count;
    gan_real lr, beta1, beta2, eps, bias1, bias2, decay;
} gan_update;

/* m = beta1*m + gradient;  weight = weight - lr*m */
GAN_API void gan_ref_sgd(const gan_update *p, const gan_real *gradient, gan_real *weight,
                         gan_real *m);
GAN_API void gan_cpu_sgd(const gan_update *p, const gan_real *gradient, gan_real *weight,
                         gan_real *m);

/* m = beta1*m + (1-beta1)*gradient;  v = beta2*v + (1-beta2)*gradient^2;
   weight = (1 - lr*decay)*weight - lr * (m/bias1) / (sqrt(v/bias2) + eps) */
GAN_API void gan_ref_adam(const gan_update *p, const gan_real *gradient, gan_real *weight,
                          gan_real *m, gan_real *v);
GAN_API void gan_cpu_adam(const gan_update *p, const gan_real *gradient, gan_real *weight,
                          gan_real *m, gan_real *v);

/* v = beta2*v + (1-beta2)*gradient^2;  weight = weight - lr * gradient / (sqrt(v) + eps) */
GAN_API void gan_ref_rmsprop(const gan_update *p, const gan_real *gradient, gan_real *weight,
                             gan_real *v);
GAN_API void gan_cpu_rmsprop(const gan_update *p, const gan_real *gradient, gan_real *weight,
                             gan_real *v);

/* A backend: a name, its memory, and one function per kernel. Your own is a copy of another with a
   kernel of yours in it:

       static void my_conv2d(const gan_conv *p, const gan_real *x, const gan_real *weight,
                             gan_real *y) { ... }

       gan_backend mine = *gan_find_backend("ref");
       mine.name = "mine";
       mine.conv2d = my_conv2d;
       gan_register_backend(&mine);

   Three ways to find out whether it is right:

     gan_open("compare:ref,mine", seed)    in your training, each kernel beside ref's: see gan_open
     gan_open("compare:mine,mine", seed)   each kernel beside itself: a race between its threads
     tests/kernels.c                       on some hundred shapes that go wrong: odd, tiny, larger
                                           than a tile by one. In a file mine.c, my_conv2d and
                                               #define gan_cpu_conv2d my_conv2d
                                           then, for that kernel in place of cpu's,
                                               cc -O2 -I. '-DTEST_BACKEND="mine.c"' \
                                                  tests/kernels.c -o kernels -lm && ./kernels */
typedef struct gan_backend {
    const char *name;
    const char *(*start)(void);   /* NULL: always there; else why it cannot run here, or NULL */
    void *(*alloc)(size_t bytes); /* NULL in the four: host memory, malloc and memcpy */
    void (*release)(void *memory);
    void (*upload)(void *device, const void *host, size_t bytes);
    void (*download)(void *host, const void *device, size_t bytes);

    /* For gan_capture; NULL in the five: this backend captures nothing. */
    void (*capture_begin)(void); /* from here on uploads and kernels are taken down, not done */
    void *(*capture_last)(void); /* of the last one the bytes or the sizes, which replay reads: they
                                    may be changed before each */
    void *(*capture_end)(void);  /* up to here: what replay does, or NULL if that cannot be */
    void (*replay)(void *captured);
    void (*capture_free)(void *captured_or_NULL);

    /* The kernels, as gan_ref_NAME above. */
    void (*fill)(const gan_fill *p, gan_real *y);
    void (*random)(const gan_random *p, gan_real *y);
    void (*map)(const gan_map *p, const gan_real *x, gan_real *y);
    void (*zip)(const gan_zip *p, const gan_real *a, const gan_real *b, gan_real *y);
    void (*copy)(const gan_copy *p, const gan_real *x, gan_real *y);
    void (*sum)(const gan_sums *p, const gan_real *x, gan_real *y);
    void (*matmul)(const gan_product *p, const gan_real *a, const gan_real *b, gan_real *y);
    void (*conv2d)(const gan_conv *p, const gan_real *x, const gan_real *weight, gan_real *y);
    void (*conv_transpose2d)(const gan_conv *p, const gan_real *y, const gan_real *weight,
                             gan_real *x);
    void (*conv2d_weight)(const gan_conv *p, const gan_real *x, const gan_real *y,
                          gan_real *weight);
    void (*norm_stats)(const gan_norm *p, const gan_real *x, gan_real *stats);
    void (*norm_apply)(const gan_norm *p, const gan_real *x, const gan_real *stats,
                       const gan_real *weight, const gan_real *bias, gan_real *y);
    void (*norm_sums)(const gan_norm *p, const gan_real *gy, const gan_real *x,
                      const gan_real *stats, gan_real *sums);
    void (*norm_grad)(const gan_norm *p, const gan_real *gy, const gan_real *x,
                      const gan_real *stats, const gan_real *weight, const gan_real *sums,
                      gan_real *gx);
    void (*resample)(const gan_resample *p, const gan_real *x, const gan_real *rows,
                     const gan_real *columns, gan_real *y);
    void (*gather)(const gan_index *p, const gan_real *x, const gan_real *index, gan_real *y);
    void (*max_index)(const gan_pool *p, const gan_real *x, gan_real *index);
    void (*softmax)(const gan_lines *p, const gan_real *x, gan_real *y);
    void (*softmax_grad)(const gan_lines *p, const gan_real *gy, const gan_real *y, gan_real *gx);
    void (*sgd)(const gan_update *p, const gan_real *gradient, gan_real *weight, gan_real *m);
    void (*adam)(const gan_update *p, const gan_real *gradient, gan_real *weight, gan_real *m,
                 gan_real *v);
    void (*rmsprop)(const gan_update *p, const gan_real *gradient, gan_real *weight, gan_real *v);
} gan_backend;

/* The backend of that name ("ref", "cpu", "cuda" where gan_cuda.cu is linked, a registered one), or
   NULL. */
GAN_API const gan_backend *gan_find_backend(const char *name);

/* Makes a copy of *backend known to gan_open under its name (which must stay valid), in place of
   one of the same name. The list is the process's: register before other threads call gan_open.
   False if there is no room (32), the name is that of a built-in one, begins with "compare:" or
   holds a comma, or a kernel is NULL. */
GAN_API bool gan_register_backend(const gan_backend *backend);

/* ===========================================================================================
   >>device
   =========================================================================================== */
/* Opens a device: "ref", "cpu", "cuda" (with gan_cuda.cu), the name of a registered backend, or
   "compare:A,B" of two of them. seed is that of all random numbers. NULL if there is no such
   backend or it cannot run here: gan_error() says what there is and how to get the rest.

   compare:A,B runs each kernel on B and on A from the same inputs, stops at the first whose results
   differ, and goes on with A's. The message has the layer, in derivatives too; the kernel, its
   sizes, stride and padding; how many elements differ, the coordinates (n,c,h,w) of the first and
   of the one that differs most, and both numbers there. It also stops at a kernel that changes its
   input, or that writes just before or behind an operand.

     compare:ref,mine    a kernel of yours beside the textbook's
     compare:mine,mine   the same kernel twice: must give the same bits. If not, threads of yours
                         write to one place, or you read memory that nobody wrote
     compare:cpu,cuda    the GPU beside the CPU

   Results may differ by 1e-4 of the largest number of the result or, in a sum, of what its terms
   are together (sqrt(how many) * the largest product): with GAN_REAL double by 1e-10. Two devices
   add in different orders, and each addition rounds by 6e-8, so that two right kernels are some
   1e-6 apart, and up to 1e-5 in the longest sums; a wrong index shows as 1e-2 or more. (cuda:tf32
   and cuda:bf16 round factors to 5e-4 and 4e-3, and do not pass.) */
GAN_API gan *gan_open(const char *device, uint64_t seed);

/* Frees g and everything made with it. NULL is allowed. */
GAN_API void gan_close(gan *g);

/* Threads for g's kernels: 1 to 64, or 0 (at first) for OMP_NUM_THREADS, if that is set in the
   environment, or else as many as there are processors for this process. g NULL: for what this
   thread calls without a device, bare kernels and the functions of >>metrics. Results do not depend
   on it.

   The threads are made when they are first of use; if the system refuses, there are fewer. They
   belong to the process, serve all devices, and sleep when there is nothing to do: another program
   on one of the processors takes a part of the speed and no more. After fork a child makes its own.
   Where gan.h is built without threads (see OPTIONS) there is always one. */
GAN_API void gan_set_threads(gan *g, int threads);

/* Frees every tensor made since the last gan_clear. Parameters, optimizer state and data stay.
   Memory is kept for the next step: a loop that does the same each time gets the same addresses
   and calls no allocator after the first steps. */
GAN_API void gan_clear(gan *g);

/* gan_clear_to frees only the tensors made since gan_here: the activations of a half-step that is
   done, for instance. A mark is good until the next gan_clear. */
typedef struct {
    int tape; /* how many tensors there were */
} gan_mark;

GAN_API gan_mark gan_here(gan *g);
GAN_API void gan_clear_to(gan *g, gan_mark mark);

/* Bytes that g holds now for tensors, parameters and optimizer state, and the most it held. */
GAN_API size_t gan_memory(const gan *g, size_t *peak_or_NULL);

/* ===========================================================================================
   >>tensors
   ===========================================================================================
   Every tensor has four dimensions (N,C,H,W). A tensor is made by a function below or computed by
   an operation, belongs to the gan it was made with, and lives until gan_clear; parameters live
   until gan_close. A function that is given NULL, or a tensor that gan_clear has freed, ends in
   one line that says so. A freed one is recognised until the second gan_clear after that, at
   least. */

/* A program reads n, c, h and w. The numbers are read with gan_to_host: data may lie in a GPU's
   memory. The other fields are the library's own. */
struct gan_tensor {
    /* What the program reads. */
    int n, c, h, w; /* the four sizes */

    /* The numbers, and who owns them. */
    gan_real *data;             /* N*C*H*W numbers in the device's memory, row-major */
    gan *g;                     /* the device */
    struct gan__buffer *buffer; /* the memory in which data lies, shared by views */
    bool overwritten;           /* an in-place function has put its result there */
    bool freed;                 /* by gan_clear: the numbers are gone */

    /* How it was computed: what the derivative needs. */
    const char *layer;        /* the layer that made it, as gan_conv2d "conv1", or NULL */
    int tape;                 /* its place on the tape; -1 for a parameter, which is on none */
    int uses;                 /* how many operations have it as an input */
    const struct gan__op *op; /* the operation that computed it; NULL for a leaf */
    gan_tensor *in[3];        /* that operation's inputs; NULL where it has fewer */

    /* The operation's settings. attr holds, for
         elementwise   0: which one (GAN_EXP ...)       concat, softmax   0: dim
         slice         0: dim, 1: start                 gather            0: dim
         permute       0..3: d0, d1, d2, d3             matmul            0, 1: transpose a, b
         convolutions  0: which of the three products   batch norm        0: frozen */
    int attr[4];
    gan_real real[2]; /* elementwise: its two scalars; batch norm: 0 is eps */

    union { /* the kernel's sizes, where shapes alone do not tell them */
        gan_conv conv;
        gan_resample resample;
        gan_index gather;
        gan_lines softmax;
    } sizes;

    gan_tensor *norm_stats; /* batch norm: mean and variance (2,C,1,1) of the forward pass */
    gan_tensor *norm_sums;  /* batch norm: two sums that its three derivatives share */

    /* The differentiation under way. */
    uint64_t needs_grad_in; /* the number of the last differentiation that wants its gradient */
    gan_tensor *grad;       /* the gradient that has arrived so far; NULL before and after */

    /* A parameter's gradient, from gan_backward to gan_step. */
    struct gan__buffer *param_grad; /* NULL, or with references 0 (none there) or 1 */
};

/* (N,C,H,W) of zeros; of value; a copy of N*C*H*W numbers at data. Each size is 1 or more, and
   their product below 2^31. */
GAN_API gan_tensor *gan_zeros(gan *g, int n, int c, int h, int w);
GAN_API gan_tensor *gan_full(gan *g, gan_real value, int n, int c, int h, int w);
GAN_API gan_tensor *gan_from_host(gan *g, const gan_real *data, int n, int c, int h, int w);

/* N*C*H*W. */
GAN_API size_t gan_count(const gan_tensor *t);

/* Copies all N*C*H*W numbers to out. */
GAN_API void gan_to_host(const gan_tensor *t, gan_real *out);

/* The number in a tensor (1,1,1,1); any other shape is an error. */
GAN_API gan_real gan_item(const gan_tensor *t);

/* Overwrites t's numbers, of a parameter mostly, by N*C*H*W numbers at data. The tape does not
   notice: what was computed from the old numbers stays. */
GAN_API void gan_set(gan_tensor *t, const gan_real *data);

/* The same numbers (not a copy), as a leaf: no gradient flows through it to x. PyTorch's
   Tensor.detach. */
GAN_API gan_tensor *gan_detach(gan_tensor *x);

/* ===========================================================================================
   >>random
   ===========================================================================================
   Philox 4x32-10 (Salmon et al. 2011): the same seed and the same calls give the same numbers,
   on every device. */

/* (n,c,h,w) random numbers, uniform in [0,1), multiples of 2^-24. */
GAN_API gan_tensor *gan_rand(gan *g, int n, int c, int h, int w);

/* (n,c,h,w) random numbers of the standard normal distribution (Box and Muller 1958). */
GAN_API gan_tensor *gan_randn(gan *g, int n, int c, int h, int w);

/* The numbers drawn from here on are those of a fresh gan_open(device, seed). PyTorch's
   manual_seed. */
GAN_API void gan_seed(gan *g, uint64_t seed);

/* ===========================================================================================
   >>arithmetic
   ===========================================================================================
   Elementwise. Of two shapes, each dimension is equal or 1 in one of them, and that one is
   repeated (broadcasting). */
GAN_API gan_tensor *gan_add(gan_tensor *a, gan_tensor *b);
GAN_API gan_tensor *gan_sub(gan_tensor *a, gan_tensor *b);
GAN_API gan_tensor *gan_mul(gan_tensor *a, gan_tensor *b);
GAN_API gan_tensor *gan_div(gan_tensor *a, gan_tensor *b);
GAN_API gan_tensor *gan_add_scalar(gan_tensor *x, gan_real value);
GAN_API gan_tensor *gan_mul_scalar(gan_tensor *x, gan_real value);
GAN_API gan_tensor *gan_neg(gan_tensor *x);
GAN_API gan_tensor *gan_exp(gan_tensor *x);
GAN_API gan_tensor *gan_square(gan_tensor *x);

/* The natural logarithm; -infinity at 0, NaN below, as C's log. */
GAN_API gan_tensor *gan_log(gan_tensor *x);

/* The square root. Its derivative is infinite at 0, as PyTorch's. */
GAN_API gan_tensor *gan_sqrt(gan_tensor *x);

/* x^-1/2. */
GAN_API gan_tensor *gan_rsqrt(gan_tensor *x);

/* |x|; derivative 0 at 0. */
GAN_API gan_tensor *gan_abs(gan_tensor *x);

/* x, but lo where x is below lo and hi where it is above hi; derivative 1 on [lo,hi], ends
   included, else 0. */
GAN_API gan_tensor *gan_clamp(gan_tensor *x, gan_real lo, gan_real hi);

/* max(x,0); derivative 0 at 0. */
GAN_API gan_tensor *gan_relu(gan_tensor *x);

/* x, or slope*x below 0 (Maas et al. 2013). */
GAN_API gan_tensor *gan_leaky_relu(gan_tensor *x, gan_real slope);

/* The hyperbolic tangent. */
GAN_API gan_tensor *gan_tanh(gan_tensor *x);

/* 1/(1+e^-x). */
GAN_API gan_tensor *gan_sigmoid(gan_tensor *x);

/* ln(1+e^x), without overflow. */
GAN_API gan_tensor *gan_softplus(gan_tensor *x);

/* x, or e^x - 1 below 0 (Clevert et al. 2016, with alpha 1). */
GAN_API gan_tensor *gan_elu(gan_tensor *x);

/* 1.0507 * (x, or 1.6733 (e^x - 1) below 0) (Klambauer et al. 2017). */
GAN_API gan_tensor *gan_selu(gan_tensor *x);

/* x * sigmoid(x), also called Swish (Elfwing et al. 2018). */
GAN_API gan_tensor *gan_silu(gan_tensor *x);

/* x * P(a standard normal number < x) = x/2 (1 + erf(x/sqrt 2)) (Hendrycks and Gimpel 2016). */
GAN_API gan_tensor *gan_gelu(gan_tensor *x);

/* x, or slope*x below 0, with a slope that is learnt: (1,C,1,1), or (1,1,1,1) for all channels (He
   et al. 2015). */
GAN_API gan_tensor *gan_prelu_f(gan_tensor *x, gan_tensor *slope);

/* In place, as PyTorch's relu_: the result takes over x's memory, and x must not be used again:
   x = gan_relu_(x). slope >= 0. An error if x is a leaf, has been used already, or its maker's
   derivative needs it. */
GAN_API gan_tensor *gan_relu_(gan_tensor *x);
GAN_API gan_tensor *gan_leaky_relu_(gan_tensor *x, gan_real slope);

/* ===========================================================================================
   >>reduce
   ===========================================================================================
   dim counts 0 for N, 1 for C, 2 for H, 3 for W. */

/* The sum and the mean of all numbers: (N,C,H,W) -> (1,1,1,1). */
GAN_API gan_tensor *gan_sum(gan_tensor *x);
GAN_API gan_tensor *gan_mean(gan_tensor *x);

/* The sum and the mean over some dimensions: each of n, c, h, w is x's size, which stays, or 1,
   which is summed over. gan_sum_to(x, 1, C, 1, 1) has one number per channel. */
GAN_API gan_tensor *gan_sum_to(gan_tensor *x, int n, int c, int h, int w);
GAN_API gan_tensor *gan_mean_to(gan_tensor *x, int n, int c, int h, int w);

/* Repeats x along dimensions of size 1: each of n, c, h, w is x's size, or anything where x's is
   1. The adjoint of gan_sum_to: the derivative of each is the other. */
GAN_API gan_tensor *gan_expand(gan_tensor *x, int n, int c, int h, int w);

/* y_i = e^x_i / sum over j of e^x_j, along dim, computed from x - max x so that nothing
   overflows; and its logarithm, x_i - ln sum over j of e^x_j. Same shape. PyTorch's softmax and
   log_softmax. */
GAN_API gan_tensor *gan_softmax(gan_tensor *x, int dim);
GAN_API gan_tensor *gan_log_softmax(gan_tensor *x, int dim);

/* ===========================================================================================
   >>shape
   ===========================================================================================
   The same numbers in another arrangement. dim and d0..d3 count 0 for N, 1 for C, 2 for H, 3 for
   W; others are an error. */

/* (n,c,h,w) with the same numbers in the same order, not copied. One size may be -1: it is what
   fills up. An error if the sizes' product is not x's. */
GAN_API gan_tensor *gan_reshape(gan_tensor *x, int n, int c, int h, int w);

/* Dimension i of the result is dimension d_i of x: each of 0..3 once. PyTorch's permute.
   gan_permute(x, 0, 2, 3, 1) makes (N,H,W,C) of (N,C,H,W). */
GAN_API gan_tensor *gan_permute(gan_tensor *x, int d0, int d1, int d2, int d3);

/* Two dimensions change places. */
GAN_API gan_tensor *gan_transpose(gan_tensor *x, int dim0, int dim1);

/* length indices along dim, from start on; all of them must be inside. PyTorch's narrow. */
GAN_API gan_tensor *gan_slice(gan_tensor *x, int dim, int start, int length);

/* a, then b behind it along dim; the other sizes must be equal. And any number of parts. */
GAN_API gan_tensor *gan_concat(gan_tensor *a, gan_tensor *b, int dim);
GAN_API gan_tensor *gan_concat_all(gan_tensor **parts, int count, int dim);

/* ===========================================================================================
   >>gather
   ===========================================================================================
   An index is a tensor of whole numbers 0 .. size-1, size being that of x along dim. It has two
   layouts: a list (K,1,1,1) that holds for every line along dim, or one index for each number.
   With lines along W, dim 3:

       gan_gather, list         x = a b c   index = 2 0   y = c a      y[..,i] = x[..,index[i]]
                                    d e f                     f d
       gan_gather, each         x = a b c   index = 2 0   y = c a      y[..,i] = x[..,index[..,i]]
                                    d e f           1 1       e e
       gan_scatter_add, list    x = c a     index = 2 0   y = a 0 c    y[..,index[i]] += x[..,i]
                                    f d                       d 0 f
       gan_scatter_add, each    x = c a     index = 2 0   y = a 0  c   y[..,index[..,i]] += x[..,i]
                                    e f             1 1       0 e+f 0

   The two are each other's adjoints, and so each other's derivatives; an index has no gradient.
   Where the device's memory is the host's (ref, cpu) an index that is not whole or not inside is
   an error; a GPU does not look, and reads or writes outside. */

/* index (K,1,1,1): x's slices index[0], index[1], ... along dim, K of them (PyTorch's
   index_select). index with x's sizes, but any along dim: a number of x for each index (PyTorch's
   gather). */
GAN_API gan_tensor *gan_gather(gan_tensor *x, gan_tensor *index, int dim);

/* Zeros of size along dim, to which each of x is added at its index: index (K,1,1,1), K being x's
   size along dim (PyTorch's index_add), or of x's shape (PyTorch's scatter_add). */
GAN_API gan_tensor *gan_scatter_add(gan_tensor *x, gan_tensor *index, int dim, int size);

/* labels (N,1,H,W) of class numbers 0 .. classes-1 -> (N,CLASSES,H,W): 1 in the label's channel,
   0 in the others. Where the device's memory is the host's, other labels are an error; on a GPU
   they get zeros in every channel. */
GAN_API gan_tensor *gan_one_hot(gan_tensor *labels, int classes);

/* ===========================================================================================
   >>simd
   ===========================================================================================
   Nothing to call. The inner loops of the cpu kernels are compiled once for each instruction set,
   and the widest that the machine has is taken when the program runs:

     GAN_MAX_VECTOR   on x86-64                                        elsewhere
     64 (default)     AVX-512, AVX2 with FMA, or SSE2: what is there    16 bytes: NEON and the like
     32               AVX2 with FMA, or SSE2                            16 bytes
     16               SSE2                                              16 bytes
     0                plain loops, for any C compiler                   plain loops

   Results of AVX-512 and AVX2 are the same to the bit; those of the others differ in rounding,
   since they have no a*b + c in one operation. */

/* ===========================================================================================
   >>matmul
   =========================================================================================== */
/* y[n,c,i,j] = sum over k of a[n,c,i,k] * b[n,c,k,j]: (N,C,H,K) x (N,C,K,W) -> (N,C,H,W); N and
   C broadcast. gan_matmul_t first transposes the last two dimensions where asked. PyTorch's
   matmul. */
GAN_API gan_tensor *gan_matmul(gan_tensor *a, gan_tensor *b);
GAN_API gan_tensor *gan_matmul_t(gan_tensor *a, gan_tensor *b, bool transpose_a, bool transpose_b);

/* x weight^T + bias: x (N,IN,1,1), weight (OUT,IN,1,1), bias (1,OUT,1,1) or NULL -> (N,OUT,1,1);
   other x are flattened to (N,C*H*W,1,1). PyTorch's Linear. */
GAN_API gan_tensor *gan_linear_f(gan_tensor *x, gan_tensor *weight, gan_tensor *bias);

/* ===========================================================================================
   >>conv
   =========================================================================================== */
/* y[n,o,i,j] = bias[o] + sum over c,u,v of x[n,c,i*S+u-P,j*S+v-P] * weight[o,c,u,v]; positions
   outside x count as 0. x (N,C,H,W), weight (O,C/groups,KH,KW) not flipped, bias (1,O,1,1) or
   NULL -> (N,O,OH,OW), OH = (H+2P-KH)/S + 1.  PyTorch's Conv2d. */
GAN_API gan_tensor *gan_conv2d_f(gan_tensor *x, gan_tensor *weight, gan_tensor *bias, int stride,
                                 int pad, int groups);

/* The adjoint of conv2d in its input: x[n,c] adds x[n,c,h,w] * weight[c,o,u,v] to
   y[n,o,h*S+u-P,w*S+v-P].  x (N,C,H,W), weight (C,O/groups,KH,KW), bias (1,O,1,1) or NULL ->
   (N,O,OH,OW), OH = (H-1)*S - 2P + KH + output_pad, output_pad < S.  PyTorch's ConvTranspose2d. */
GAN_API gan_tensor *gan_conv_transpose2d_f(gan_tensor *x, gan_tensor *weight, gan_tensor *bias,
                                           int stride, int pad, int output_pad, int groups);

/* All that PyTorch's Conv2d and ConvTranspose2d can be told; what is left out is 0 and means the
   usual:

       gan_conv2d_with_f(x, weight, bias, (gan_conv_options){.stride = 2, .pad_w = 3})

   Of a pair, NAME is for both axes; NAME_h and NAME_w, where not 0, take its place for one axis.
   Padding is a sum: pad on every side, pad_h more above and below, pad_w more left and right;
   output_pad likewise. */
typedef struct {
    int out;                              /* output channels */
    int kernel, kernel_h, kernel_w;       /* size of the kernel */
    int stride, stride_h, stride_w;       /* 0: 1 */
    int pad, pad_h, pad_w;                /* rows and columns of zeros */
    int dilation, dilation_h, dilation_w; /* taps lie so far apart; 0: 1 (Yu and Koltun 2016) */
    int groups;                           /* 0: 1 */
    int output_pad, output_pad_h, output_pad_w; /* more rows and columns; transposed only */
    bool no_bias;                               /* the named layers make no bias */
} gan_conv_options;

/* gan_conv2d_f and gan_conv_transpose2d_f with all options. out and kernel are the weight's, and
   may be left 0; with no_bias the bias is NULL. Sizes, for each axis:
     conv2d            OH = (H + 2P - D*(KH-1) - 1)/S + 1
     conv_transpose2d  OH = (H-1)*S - 2P + D*(KH-1) + 1 + output_pad,  output_pad < S */
GAN_API gan_tensor *gan_conv2d_with_f(gan_tensor *x, gan_tensor *weight, gan_tensor *bias,
                                      gan_conv_options options);
GAN_API gan_tensor *gan_conv_transpose2d_with_f(gan_tensor *x, gan_tensor *weight, gan_tensor *bias,
                                                gan_conv_options options);

/* The adjoint of conv2d in its weight: x (N,C,H,W), gy (N,O,OH,OW) -> (O,C/groups,KH,KW). */
GAN_API gan_tensor *gan_conv2d_weight(gan_tensor *x, gan_tensor *gy, int kernel_h, int kernel_w,
                                      int stride, int pad, int groups);

/* ===========================================================================================
   >>resample
   ===========================================================================================
   Linear maps of each plane (H,W) on its own: one kernel does all but the maximum. Their
   derivatives are their adjoints. */
/* What lies beyond the border. */
typedef enum gan_pad_mode {
    GAN_ZEROS,    /* 0:                                   0 0|a b c|0 0 */
    GAN_REFLECT,  /* mirrored, without the border pixel:  c b|a b c|b a */
    GAN_REPLICATE /* the border's pixel:                  a a|a b c|c c */
} gan_pad_mode;

/* Where output pixel i of OH lies among H input pixels. */
typedef enum gan_resize_mode {
    GAN_NEAREST,  /* pixel floor(i*H/OH) */
    GAN_BILINEAR, /* centres at i + 0.5: (i + 0.5)*H/OH - 0.5, PyTorch's bilinear */
    GAN_ALIGNED   /* ends on ends: i*(H-1)/(OH-1), PyTorch's bilinear with align_corners */
} gan_resize_mode;

/* Adds so many rows and columns on each side; negative ones take away. (N,C,H,W) ->
   (N,C,H+top+bottom,W+left+right), at least one pixel. GAN_REFLECT wants less than the size on
   each side. PyTorch's pad. */
GAN_API gan_tensor *gan_pad(gan_tensor *x, int top, int bottom, int left, int right,
                            gan_pad_mode mode);

/* (N,C,H,W) -> (N,C,h,w). PyTorch's interpolate. */
GAN_API gan_tensor *gan_resize(gan_tensor *x, int h, int w, gan_resize_mode mode);

/* Along H and W: UP-1 zeros after each pixel, pad0 and pad1 zeros at the ends, convolution with
   gain * filter (COUNT taps at filter), then every DOWN-th pixel: OH = (H*UP + pad0 + pad1 -
   COUNT)/DOWN + 1. As in StyleGAN2 (Karras et al. 2020), with a separable filter. Upsampling:
   filter [1,3,3,1]/8, up 2, pads 2 and 1, gain 2 (for each axis). */
GAN_API gan_tensor *gan_upfirdn2d(gan_tensor *x, const gan_real *filter, int count, int up,
                                  int down, int pad0, int pad1, gan_real gain);

/* The mean, or the maximum, of each window of kernel x kernel pixels; windows are stride apart.
   (N,C,H,W) -> (N,C,OH,OW), OH = (H + 2*pad - kernel)/stride + 1. kernel 0 is the whole image
   (global pooling). pad is at most half the kernel; the mean counts its zeros, the maximum passes
   it over. ceil: OH is rounded up instead, for windows that begin inside and end beyond.
   PyTorch's AvgPool2d and MaxPool2d. */
GAN_API gan_tensor *gan_avg_pool2d(gan_tensor *x, int kernel, int stride, int pad);
GAN_API gan_tensor *gan_max_pool2d(gan_tensor *x, int kernel, int stride, int pad, bool ceil);

/* The same with all options, as in gan_conv_options:

       gan_max_pool2d_with(x, (gan_pool_options){.kernel_h = 3, .kernel_w = 2, .pad_h = 1})  */
typedef struct {
    int kernel, kernel_h, kernel_w; /* size of the window; 0: all rows, or all columns */
    int stride, stride_h, stride_w; /* 0: as the kernel */
    int pad, pad_h, pad_w;
    bool ceil;
} gan_pool_options;

GAN_API gan_tensor *gan_avg_pool2d_with(gan_tensor *x, gan_pool_options options);
GAN_API gan_tensor *gan_max_pool2d_with(gan_tensor *x, gan_pool_options options);

/* r*r channels of a pixel become r x r pixels of a channel: (N,C*r*r,H,W) -> (N,C,H*r,W*r),
   y[n,c,h*r+u,w*r+v] = x[n,(c*r+u)*r+v,h,w] (Shi et al. 2016). PyTorch's PixelShuffle. */
GAN_API gan_tensor *gan_pixel_shuffle(gan_tensor *x, int r);

/* ===========================================================================================
   >>norm
   =========================================================================================== */
/* y = (x - mean)/sqrt(var + eps) * weight + bias for each channel of x (N,C,H,W); weight, bias,
   running_mean and running_var are (1,C,1,1). training: mean and biased variance of this batch,
   over N,H,W, and running = (1-momentum)*running + momentum*batch's, with the unbiased variance;
   an error if N*H*W is 1. Else the running ones, untouched. PyTorch's BatchNorm2d (Ioffe and
   Szegedy 2015). */
GAN_API gan_tensor *gan_batch_norm_f(gan_tensor *x, gan_tensor *weight, gan_tensor *bias,
                                     gan_tensor *running_mean, gan_tensor *running_var,
                                     bool training, gan_real momentum, gan_real eps);

/* The same with statistics of each image's own (variance biased, nothing running):

     instance norm   of each channel, over H,W                    Ulyanov et al. 2016
     group norm      of each of so many groups of channels        Wu and He 2018
     layer norm      of the whole image, over C,H,W               Ba et al. 2016

   weight and bias: (1,C,1,1); for instance norm also (N,C,1,1), for layer norm (1,C,H,W); or NULL
   for 1 and 0. groups divides C. PyTorch's InstanceNorm2d, GroupNorm and LayerNorm over (C,H,W). */
GAN_API gan_tensor *gan_instance_norm_f(gan_tensor *x, gan_tensor *weight, gan_tensor *bias,
                                        gan_real eps);
GAN_API gan_tensor *gan_group_norm_f(gan_tensor *x, gan_tensor *weight, gan_tensor *bias,
                                     int groups, gan_real eps);
GAN_API gan_tensor *gan_layer_norm_f(gan_tensor *x, gan_tensor *weight, gan_tensor *bias,
                                     gan_real eps);

/* deviation(y) * (x - mean(x))/deviation(x) + mean(y) for each image and channel; x (N,C,H,W), y
   (N,C,any,any), both of more than one pixel; deviation is the root of the unbiased variance +
   eps. AdaIN, Huang and Belongie 2017; eps 1e-5 there. */
GAN_API gan_tensor *gan_adain(gan_tensor *x, gan_tensor *y, gan_real eps);

/* x / sqrt(mean over C of x^2 + 1e-8), at each pixel (Karras et al. 2018) */
GAN_API gan_tensor *gan_pixel_norm(gan_tensor *x);

/* x / |x|, |x| the root of the sum of squares along dim; 0 where x is 0. PyTorch's F.normalize */
GAN_API gan_tensor *gan_normalize(gan_tensor *x, int dim);

/* Adds a channel that tells how much images differ: for each group, sqrt(var over its images +
   1e-8) averaged over C,H,W, in every pixel of all its images. A group has so many images (N if
   that is more), N/group apart, as in StyleGAN2 (Karras et al. 2020); N must be a multiple of the
   group. (N,C,H,W) -> (N,C+1,H,W). */
GAN_API gan_tensor *gan_minibatch_stddev(gan_tensor *x, int group);

/* ===========================================================================================
   >>autograd
   ===========================================================================================
   Reverse mode: every operation is put on a tape as it is computed, and the tape is gone through
   backwards. */

/* dy/dx in x's shape, where y is one number (the gradient of the sum of y's numbers otherwise);
   zeros where y does not depend on x. The result is a tensor like any other and can be
   differentiated again. PyTorch's torch.autograd.grad with create_graph=True. */
GAN_API gan_tensor *gan_grad(gan_tensor *y, gan_tensor *x);

/* Adds d(loss)/d(parameter) to the gradient of each of model's parameters. loss is one number.
   Operations that depend on none of these parameters are skipped. The gradients of several calls
   add up until gan_step: a batch too large for the memory can be computed in k parts, each with its
   loss divided by k. */
GAN_API void gan_backward(gan_tensor *loss, gan_model *model);

/* A copy of the gradient that gan_backward left in a parameter; zeros if it left none. */
GAN_API gan_tensor *gan_param_grad(gan_tensor *param);

/* gan_backward for the optimizer's model, then gan_step. An error if loss depends on no
   parameter of that model, or if the model is frozen. */
GAN_API void gan_minimize(gan_opt *opt, gan_tensor *loss);

/* ===========================================================================================
   >>gradcheck
   ===========================================================================================
   Tests the derivatives of a function f by comparing them with differences of its values.

   f computes a tensor of any shape from the count tensors in[]; user is passed on to it unchanged.
   f must give the same numbers each time it is called with the same inputs: no dropout, no fresh
   random numbers. Only derivatives by the tensors of in[] are checked: if f uses parameters of a
   model, list these in in[], too. */
typedef gan_tensor *gan_function(gan *g, gan_tensor **in, void *user);

/* The worst relative error of f's derivatives, over all elements of all inputs:

       |a - d| / max(|a|, |d|, A/100)

     a   the derivative by the tape, as gan_backward computes it, of a fixed random combination of
         the elements of f's result
     d   the same by central differences
     A   the largest |a| of all: derivatives below 1% of it are compared with that 1%

   Correct code gives about 1e-7 with GAN_REAL double and 1e-2 with float. Where f bends (relu at
   0, clamp at its ends) differences mean nothing: keep the inputs further from bends than twice
   the step of the differences, 4e-2 with float and 2e-4 with double, times the input where that is
   above 1. The result is infinity

     - if a number is not finite,
     - if all of one input's a are 0 but not all of its d, as when f calls gan_detach on it,
     - or if all a and d of all inputs are 0, so that nothing was tested.

   The check passes if the result is at most GAN_GRADCHECK_TOLERANCE and f depends on every input;
   gan_error() stays as it was then. Otherwise gan_error() names the worst element with its a and d,
   or an input whose a are all 0.

   Afterwards the inputs hold exactly the numbers they held before, even if f ends in an error that
   a function given to gan_on_error leaves by longjmp. */
#define GAN_GRADCHECK_TOLERANCE (sizeof(gan_real) == 8 ? 1e-6 : 2e-2)
GAN_API double gan_gradcheck(gan *g, gan_function *f, gan_tensor **in, int count, void *user);

/* The same for second derivatives: what is differentiated by each input is the sum of all first
   derivatives, each multiplied by a fixed random number. That all a and d of an input are 0 is no
   error here: the second derivatives of a linear f are 0. */
GAN_API double gan_gradgradcheck(gan *g, gan_function *f, gan_tensor **in, int count, void *user);

/* ===========================================================================================
   >>models
   ===========================================================================================
   A model is a list of named tensors. Parameters train: gan_backward computes their gradients and
   an optimizer changes them. Buffers (running statistics, for instance) are kept and saved with
   them, and no optimizer changes them. */

/* A model without parameters yet. Its name is not empty and holds no '.' and no '#', which
   divide names in a file. It lives until gan_close. */
GAN_API gan_model *gan_model_new(gan *g, const char *name);

/* What batch norm and dropout of this model do, from now on; a new model trains.
     gan_train         batch norm uses the batch's statistics and updates the running ones,
                       dropout is on
     gan_eval          batch norm uses the running statistics, dropout is off
     gan_freeze_norm   as gan_eval, and batch norm's weight and bias are constants, while other
                       parameters train on (torchvision's FrozenBatchNorm2d) */
GAN_API void gan_train(gan_model *model);
GAN_API void gan_eval(gan_model *model);
GAN_API void gan_freeze_norm(gan_model *model);

/* gan_freeze: the model's parameters, and those that its layers have yet to make, are constants,
   as after PyTorch's requires_grad_(False), until gan_unfreeze. gan_backward computes no gradients
   for them, gan_step and gan_clip_weights change none of them, and gan_minimize is an error.
   Gradients that wait for a gan_step are dropped. Gradients still pass through the model to its
   inputs, and gan_grad gives the derivative in any tensor it is asked for. Buffers are no
   parameters: batch norm updates its running statistics unless gan_eval is called too. */
GAN_API void gan_freeze(gan_model *model);
GAN_API void gan_unfreeze(gan_model *model);

/* The parameter of that name, (n,c,h,w). The first call makes it, uniform in +-1/sqrt(c*h*w) as
   PyTorch's layers start; later calls find it, and another shape is an error. */
GAN_API gan_tensor *gan_param(gan_model *model, const char *name, int n, int c, int h, int w);

/* The same for a buffer, a tensor that is saved and loaded with the model but never trained. It
   starts as zeros; gan_set fills it. If the model has a parameter of that name, it becomes a
   buffer. PyTorch's register_buffer. */
GAN_API gan_tensor *gan_buffer(gan_model *model, const char *name, int n, int c, int h, int w);

/* The parameter or buffer of that name; NULL if the model has none. */
GAN_API gan_tensor *gan_find_param(gan_model *model, const char *name);

/* How many numbers the model's parameters hold, buffers not counted, frozen or not. */
GAN_API size_t gan_param_count(const gan_model *model);

/* The name of parameter or buffer i = 0, 1, .., in the order in which they were made; NULL if i is
   past the last. */
GAN_API const char *gan_param_name(const gan_model *model, int i);

/* How a parameter (N,C,H,W) starts, with fan_in = C*H*W and fan_out = N*H*W. PyTorch's
   torch.nn.init. */
typedef enum gan_init_kind {
    GAN_INIT_DEFAULT, /* as its layer makes it */
    GAN_INIT_NORMAL,  /* normal, deviation gain; DCGAN's is 0.02 (Radford et al. 2016) */
    /* uniform in +-gain*sqrt(6/(fan_in + fan_out)) (Glorot and Bengio 2010) */
    GAN_INIT_XAVIER_UNIFORM,
    /* normal, deviation gain*sqrt(2/(fan_in + fan_out)) */
    GAN_INIT_XAVIER_NORMAL,
    /* uniform in +-gain*sqrt(3/fan_in); gain sqrt(2/(1 + slope^2)) before a leaky ReLU (He et
       al. 2015) */
    GAN_INIT_KAIMING_UNIFORM,
    /* normal, deviation gain/sqrt(fan_in) */
    GAN_INIT_KAIMING_NORMAL,
    /* as a matrix (N, C*H*W): its rows, or its columns if those are fewer, are at right angles to
       each other and of length gain (Saxe et al. 2014) */
    GAN_INIT_ORTHOGONAL
} gan_init_kind;

/* Draws one parameter anew. The numbers depend on the seed and on the names of model and
   parameter alone, so that they are the same whatever was drawn before. gain is 0 or more; kinds
   from XAVIER on want a weight, which has two dimensions or more, not a bias. */
GAN_API void gan_init_param(gan_tensor *param, gan_init_kind kind, gan_real gain);

/* Draws all parameters of model anew, and those that later layers make, by one rule: the weights
   (NAME.weight) of linear layers and convolutions by kind and gain, their biases 0, all others by
   default, embeddings and the weights of GAN_EQUALIZED too. NORMAL also draws the weights of
   normalisation, from N(1,gain), as DCGAN does. Buffers stay as they are. */
GAN_API void gan_init_model(gan_model *model, gan_init_kind kind, gan_real gain);

/* ===========================================================================================
   >>layers
   ===========================================================================================
   A layer makes its parameters on first use as PyTorch's layer of that name does (weights and
   biases uniform in +-1/sqrt(fan_in), normalisation's weight 1 and bias 0), under NAME.weight and
   NAME.bias, and finds them by that name ever after. Parameters that are there already, from an
   earlier call or a file, must have the shape that the call asks for. */

/* x (N,C,H,W), flattened to (N,C*H*W) -> x weight^T + bias (N,out,1,1); weight (out,C*H*W,1,1).
   PyTorch's Linear. */
GAN_API gan_tensor *gan_linear(gan_model *model, const char *name, gan_tensor *x, int out);

/* gan_conv2d_f with weight (out,C,kernel,kernel): (N,C,H,W) -> (N,out,OH,OW),
   OH = (H + 2*pad - kernel)/stride + 1. PyTorch's Conv2d. */
GAN_API gan_tensor *gan_conv2d(gan_model *model, const char *name, gan_tensor *x, int out,
                               int kernel, int stride, int pad);

/* gan_conv_transpose2d_f with weight (C,out,kernel,kernel): (N,C,H,W) -> (N,out,OH,OW),
   OH = (H - 1)*stride - 2*pad + kernel. PyTorch's ConvTranspose2d. */
GAN_API gan_tensor *gan_conv_transpose2d(gan_model *model, const char *name, gan_tensor *x, int out,
                                         int kernel, int stride, int pad);

/* The same layers with everything that PyTorch's take, each option by its name; what is not named
   has its usual value (see >>conv):
       gan_conv2d_with(m, "c", x, (gan_conv_options){.out = 64, .kernel = 3, .dilation = 2})
   Convolutions in groups have weights (out,C/groups,KH,KW), transposed ones (C,out/groups,KH,KW);
   groups must divide C and out. fan_in is the product of the weight's last three sizes, for
   transposed convolutions too, as in PyTorch. */
typedef struct gan_linear_options {
    int out;
    bool no_bias; /* y = x weight^T */
} gan_linear_options;

GAN_API gan_tensor *gan_linear_with(gan_model *model, const char *name, gan_tensor *x,
                                    gan_linear_options options);
GAN_API gan_tensor *gan_conv2d_with(gan_model *model, const char *name, gan_tensor *x,
                                    gan_conv_options options);
GAN_API gan_tensor *gan_conv_transpose2d_with(gan_model *model, const char *name, gan_tensor *x,
                                              gan_conv_options options);

/* y = (x - mean)/sqrt(var + 1e-5) * weight + bias for each channel, mean and var over N,H,W;
   weight and bias (1,C,1,1). NAME.running_mean and NAME.running_var, buffers (1,C,1,1), move a
   tenth of the way to each batch's in training, and take their place after gan_eval (Ioffe and
   Szegedy 2015). PyTorch's BatchNorm2d. */
GAN_API gan_tensor *gan_batch_norm(gan_model *model, const char *name, gan_tensor *x);

/* The same with mean and var of each image's channel, over H,W (Ulyanov et al. 2016). PyTorch's
   InstanceNorm2d with affine=True. */
GAN_API gan_tensor *gan_instance_norm(gan_model *model, const char *name, gan_tensor *x);

/* The same with mean and var of each image's groups of C/groups channels (Wu and He 2018). groups
   must divide C. PyTorch's GroupNorm. */
GAN_API gan_tensor *gan_group_norm(gan_model *model, const char *name, gan_tensor *x, int groups);

/* The same with mean and var of each image, over C,H,W; weight and bias (1,C,H,W) (Ba et al.
   2016). PyTorch's LayerNorm. */
GAN_API gan_tensor *gan_layer_norm(gan_model *model, const char *name, gan_tensor *x);

/* x where x > 0, else weight*x; weight is one number, 0.25 at first (He et al. 2015). PyTorch's
   PReLU. */
GAN_API gan_tensor *gan_prelu(gan_model *model, const char *name, gan_tensor *x);

/* labels (N,1,1,1), whole numbers 0 .. classes-1 -> (N,dim,1,1): the labels' rows of weight
   (classes,dim,1,1), which is normal at first. Other labels are an error where the host sees
   them. PyTorch's Embedding. */
GAN_API gan_tensor *gan_embedding(gan_model *model, const char *name, gan_tensor *labels,
                                  int classes, int dim);

/* Batch norm whose weight and bias depend on the image's class: rows of NAME.gamma.weight and
   NAME.beta.weight (classes,C,1,1), chosen by labels (N,1,1,1) (Dumoulin et al. 2017, de Vries et
   al. 2017). */
GAN_API gan_tensor *gan_conditional_batch_norm(gan_model *model, const char *name, gan_tensor *x,
                                               gan_tensor *labels, int classes);

/* Each number is 0 with probability p in [0,1), or divided by 1-p; x itself unless the model
   trains. PyTorch's Dropout. */
GAN_API gan_tensor *gan_dropout(gan_model *model, gan_tensor *x, gan_real p);

/* Every place (h,w) of an image looks at all its places and adds what it finds there:
     y[p] = x[p] + gamma * sum over places q of softmax over q (query[p] . key[q]) * value[q]
   query and key are 1x1 convolutions NAME.query and NAME.key with C/8 channels, value is
   NAME.value with C; gamma (one number) is 0 at first. (N,C,H,W) -> (N,C,H,W). SAGAN (Zhang et
   al. 2019). */
GAN_API gan_tensor *gan_self_attention(gan_model *model, const char *name, gan_tensor *x);

/* A convolution whose weight differs from image to image, as StyleGAN2's (Karras et al. 2020):
     w'[n,o,c,u,v] = weight[o,c,u,v] * style[n,c]
     if demodulate:  w' is divided by sqrt(sum over c,u,v of w'^2 + 1e-8)
   x (N,C,H,W), weight (O,C,KH,KW), style (N,C,1,1) -> (N,O,OH,OW), stride 1. Computed as that
   paper shows, with one weight for all images: conv(x * style) * gan_demodulation. */
GAN_API gan_tensor *gan_modulated_conv2d_f(gan_tensor *x, gan_tensor *weight, gan_tensor *style,
                                           int pad, bool demodulate);

/* 1/sqrt(sum over c,u,v of (weight[o,c,u,v]*style[n,c])^2 + 1e-8), (N,O,1,1). */
GAN_API gan_tensor *gan_demodulation(gan_tensor *weight, gan_tensor *style);

/* The layer: style = 1 + a linear map NAME.affine of latent (N,L,1,1), pad = kernel/2, plus
   NAME.bias. */
GAN_API gan_tensor *gan_modulated_conv2d(gan_model *model, const char *name, gan_tensor *x,
                                         gan_tensor *latent, int out, int kernel, bool demodulate);

/* weight / s with s the largest singular value of weight as a matrix (O, C*KH*KW), so that the
   map stretches nothing (Miyato et al. 2018). s is estimated by power iteration, one step a call
   while the model trains; its vectors u and v stay in the buffers NAME.weight_u and NAME.weight_v
   and count as constants in the derivative. PyTorch's spectral_norm. */
GAN_API gan_tensor *gan_spectral_norm(gan_model *model, const char *name, gan_tensor *weight);

/* What linear layers, convolutions and attention of a model do with their weights. */
typedef enum gan_weight_kind {
    GAN_PLAIN_WEIGHTS, /* use them as they are */
    GAN_SPECTRAL,      /* gan_spectral_norm */
    /* weights start as N(0,1)/rate and are multiplied by rate/sqrt(fan_in) when used, biases
       start as 0 and are multiplied by rate: all learn equally fast (Karras et al. 2018) */
    GAN_EQUALIZED
} gan_weight_kind;

/* Chooses one for all calls of the model's layers from here on. rate is above 0; GAN_EQUALIZED
   alone uses it. */
GAN_API void gan_weights(gan_model *model, gan_weight_kind kind, gan_real rate);

/* ===========================================================================================
   >>losses
   ===========================================================================================
   Each is one number (1,1,1,1): the mean over every element where nothing else is said. Tensors
   that are compared have the same shape; another is an error. */

/* Binary cross-entropy of logits, with s the sigmoid and t = target:
     -t ln s(x) - (1-t) ln(1 - s(x))
   computed without overflow for any logit. One-sided label smoothing is a target of 0.9 for real
   images (Salimans et al. 2016). PyTorch's BCEWithLogitsLoss. */
GAN_API gan_tensor *gan_bce_logits(gan_tensor *logits, gan_real target);

/* The same with a target in [0,1] for each logit. */
GAN_API gan_tensor *gan_bce_logits_to(gan_tensor *logits, gan_tensor *targets);

/* The same for probabilities in [0,1], -t ln p - (1-t) ln(1-p); logarithms are cut at -100.
   PyTorch's BCELoss. */
GAN_API gan_tensor *gan_bce(gan_tensor *probabilities, gan_tensor *targets);

/* Targets (n,1,1,1): target, or 1-target with probability p. */
GAN_API gan_tensor *gan_flipped_labels(gan *g, int n, gan_real target, gan_real p);

/* (a-b)^2. PyTorch's MSELoss. */
GAN_API gan_tensor *gan_mse(gan_tensor *a, gan_tensor *b);

/* |a-b|. PyTorch's L1Loss. */
GAN_API gan_tensor *gan_l1(gan_tensor *a, gan_tensor *b);

/* d^2/2 where d = |a-b| is below 1, else d - 1/2. PyTorch's SmoothL1Loss. */
GAN_API gan_tensor *gan_smooth_l1(gan_tensor *a, gan_tensor *b);

/* logits (N,CLASSES,H,W), labels (N,1,H,W) with whole numbers 0 .. CLASSES-1: the mean over N,H,W
   of -log_softmax(logits)[label]. Other labels are an error where the host sees them (ref and
   cpu). A class whose logit is -infinity has probability 0: it changes nothing, unless it is the
   label, which makes the loss infinite. PyTorch's CrossEntropyLoss. */
GAN_API gan_tensor *gan_cross_entropy(gan_tensor *logits, gan_tensor *labels);

/* The losses of the two networks of a GAN, a = D(real) and b = D(fake), logits of any shape.

     kind                discriminator                            generator         undecided
     GAN_MINIMAX         E ln(1+e^-a) + E ln(1+e^b)               -E ln(1+e^b)      2 ln 2, -ln 2
     GAN_NON_SATURATING  E ln(1+e^-a) + E ln(1+e^b)               E ln(1+e^-b)      2 ln 2, ln 2
     GAN_LEAST_SQUARES   (E (a-1)^2 + E b^2)/2                    E (b-1)^2         1/4, 1/4
     GAN_HINGE           E max(0,1-a) + E max(0,1+b)              -E b              2, 0
     GAN_WASSERSTEIN     E b - E a                                -E b
     GAN_RELATIVISTIC    E ln(1+e^-(a-E b)) + E ln(1+e^(b-E a))   a, b exchanged    2 ln 2 each

   undecided: the values of the two losses where the discriminator cannot tell real from fake and
   gives each image the logit 0, or 1/2 for least squares. "a, b exchanged" is the discriminator's
   loss with real and fake exchanged.
   Papers: Goodfellow et al. 2014 (the first two), Mao et al. 2017, Lim and Ye 2017, Arjovsky et
   al. 2017, Jolicoeur-Martineau 2019. */
typedef enum gan_loss {
    GAN_MINIMAX,
    GAN_NON_SATURATING,
    GAN_LEAST_SQUARES,
    GAN_HINGE,
    GAN_WASSERSTEIN,
    GAN_RELATIVISTIC,
    GAN_LOSSES /* how many there are */
} gan_loss;

/* gan_g_loss uses real for GAN_RELATIVISTIC only; it may be NULL for the others. */
GAN_API gan_tensor *gan_d_loss(gan_tensor *real, gan_tensor *fake, gan_loss kind);
GAN_API gan_tensor *gan_g_loss(gan_tensor *real, gan_tensor *fake, gan_loss kind);

/* "minimax", "non-saturating", "least-squares", "hinge", "wasserstein" or "relativistic". */
GAN_API const char *gan_loss_name(gan_loss kind);

/* The gan_loss of that name. If there is none: -1, and gan_error() lists the names. */
GAN_API int gan_loss_kind(const char *name);

/* ---- Penalties on the slope of a critic D, to be multiplied by a factor lambda and added to its
   loss. logits = D(x) must have been computed from the tensor x (N,C,H,W) that is given; |dD/dx| is
   the length of one image's gradient, over C,H,W, and E the mean over the N images. */

/* E (|dD/dx| - target)^2. */
GAN_API gan_tensor *gan_gradient_penalty(gan_tensor *logits, gan_tensor *x, gan_real target);

/* E |dD/dx|^2 at real images, or at fake ones; the paper multiplies by gamma/2 (Mescheder et al.
   2018). */
GAN_API gan_tensor *gan_r1(gan_tensor *logits, gan_tensor *real);
GAN_API gan_tensor *gan_r2(gan_tensor *logits, gan_tensor *fake);

/* A network: a function that computes a tensor from x with the parameters of model. */
typedef gan_tensor *gan_network(gan_model *model, gan_tensor *x);

/* gan_gradient_penalty with target 1 at x = real + t*(fake - real), t uniform in [0,1) for each
   image (Gulrajani et al. 2017, who multiply by 10). critic is called with the model D, which may
   be NULL if critic does not use it. */
GAN_API gan_tensor *gan_wgan_gp(gan_model *D, gan_network *critic, gan_tensor *real,
                                gan_tensor *fake);

/* The same around real images: x = real + t*u*s/2, with t uniform in [0,1) for each image, u for
   each number, and s the standard deviation of all numbers of real (Kodali et al. 2017). */
GAN_API gan_tensor *gan_dragan(gan_model *D, gan_network *critic, gan_tensor *real);

/* Path length regularisation of a generator, StyleGAN2 (Karras et al. 2020, who multiply by 2):

       E (l - m)^2,  l = |d(sum of image*y)/dw| for each image

   where y are normal random numbers / sqrt(H*W), and m is the running mean of l, 0.99 times its
   last value + 0.01 times the mean of this batch, kept in G's buffer path_length.running_mean.
   image (N,C,H,W) must have been computed from w (N,L,1,1), or from w (N,L,K,1) with a vector for
   each of K layers; then l^2 is the mean over the layers. */
GAN_API gan_tensor *gan_path_length(gan_model *G, gan_tensor *image, gan_tensor *w);

/* ---- Distances between pictures and between features */

/* L1 of x and there_and_back, the image that CycleGAN's two generators make of x one after the
   other: from domain A to B, and back to A (Zhu et al. 2017). */
GAN_API gan_tensor *gan_cycle_loss(gan_tensor *x, gan_tensor *there_and_back);

/* L1 of x and translated = G(x), where x is already an image of the domain that G translates to and
   should stay as it is (Zhu et al. 2017). */
GAN_API gan_tensor *gan_identity_loss(gan_tensor *x, gan_tensor *translated);

/* Sums over count pairs of feature maps, target[i] and x[i]. No gradient goes into target.
     gan_perceptual_loss    MSE of the maps (Johnson et al. 2016)
     gan_style_loss         MSE of their Gram matrices (Gatys et al. 2016); target holds one image
                            for all of x, or one for each
     gan_feature_matching   MSE of their means over N (Salimans et al. 2016) */
GAN_API gan_tensor *gan_perceptual_loss(gan_tensor **target, gan_tensor **x, int count);
GAN_API gan_tensor *gan_style_loss(gan_tensor **target, gan_tensor **x, int count);
GAN_API gan_tensor *gan_feature_matching(gan_tensor **target, gan_tensor **x, int count);

/* F F^T/(C*H*W), with F an image as a matrix (C,H*W): (N,C,H,W) -> (N,1,C,C). */
GAN_API gan_tensor *gan_gram(gan_tensor *x);

/* For each image the sum of |differences| of pixels that are neighbours in a row or in a column;
   the mean of these sums over N. */
GAN_API gan_tensor *gan_total_variation(gan_tensor *x);

/* Features q and k (N,C,1,P) of P patches, each of length 1 (gan_normalize): cross-entropy of the
   scores q_i . k_j / temperature over all j, where the correct class of row i is j = i. No gradient
   goes into k. CUT (Park et al. 2020; temperature 0.07). */
GAN_API gan_tensor *gan_patch_nce(gan_tensor *q, gan_tensor *k, gan_real temperature);

/* ===========================================================================================
   >>optim
   ===========================================================================================
   An optimizer changes the parameters of one model; it lives until gan_close. In the formulas w is
   a parameter, g its gradient, t the number of the step, and m and v begin at 0. lr and decay are
   0 or more, momentum, beta1, beta2 and alpha in [0,1); others are an error. */

/* m = momentum*m + g,  w = w - lr*m. PyTorch's SGD. */
GAN_API gan_opt *gan_sgd(gan_model *model, gan_real lr, gan_real momentum);

/* m = beta1*m + (1-beta1)*g,  v = beta2*v + (1-beta2)*g^2,
   w = w - lr * m/(1-beta1^t) / (sqrt(v/(1-beta2^t)) + 1e-8)
   (Kingma and Ba 2015). PyTorch's Adam. */
GAN_API gan_opt *gan_adam(gan_model *model, gan_real lr, gan_real beta1, gan_real beta2);

/* The same, with w multiplied by 1 - lr*decay before each step (Loshchilov and Hutter 2019).
   PyTorch's AdamW. */
GAN_API gan_opt *gan_adamw(gan_model *model, gan_real lr, gan_real beta1, gan_real beta2,
                           gan_real decay);

/* v = alpha*v + (1-alpha)*g^2,  w = w - lr * g/(sqrt(v) + 1e-8). PyTorch's RMSprop. */
GAN_API gan_opt *gan_rmsprop(gan_model *model, gan_real lr, gan_real alpha);

/* L-BFGS (Liu and Nocedal 1989), PyTorch's with max_iter 1 and no line search: a step of Newton's
   method times lr, whose inverse Hessian is estimated from the last history steps. The first step
   goes lr*min(1, 1/|g|_1) down the gradient. For a loss that is the same function in every step.
   history is 1 to 10000, usually 10 to 100; 2*history + 2 numbers are held for each parameter. */
GAN_API gan_opt *gan_lbfgs(gan_model *model, gan_real lr, int history);

/* The learning rate from the next step on. */
GAN_API void gan_set_lr(gan_opt *opt, gan_real lr);

/* One step of every parameter that has a gradient; then no gradients are left. */
GAN_API void gan_step(gan_opt *opt);

/* Rates for gan_set_lr(opt, gan_lr_step(lr, step, ...)), step counted from 0:
     gan_lr_step      lr * gamma^floor(step/every). PyTorch's StepLR
     gan_lr_linear    lr up to the step start, from there in a straight line to 0 at end (Zhu et al.
                      2017, CycleGAN)
     gan_lr_cosine    lr * (1 + cos(pi*step/total))/2, from total on 0 (Loshchilov and Hutter 2017,
                      SGDR)
     gan_lr_warmup    lr * (step + 1)/steps, then lr. PyTorch's LinearLR from 1/steps
     gan_lr_inverse   lr / (1 + k*step) (Huang and Belongie 2017, AdaIN, k = 5e-5) */
GAN_API gan_real gan_lr_step(gan_real lr, int step, int every, gan_real gamma);
GAN_API gan_real gan_lr_linear(gan_real lr, int step, int start, int end);
GAN_API gan_real gan_lr_cosine(gan_real lr, int step, int total);
GAN_API gan_real gan_lr_warmup(gan_real lr, int step, int steps);
GAN_API gan_real gan_lr_inverse(gan_real lr, int step, gan_real k);

/* Between gan_backward and gan_step. The first multiplies all gradients of model by
   max/(norm + 1e-6) if that is below 1, norm being the length of all of them as one vector, and
   returns norm; a norm that is not finite changes nothing. PyTorch's clip_grad_norm_. The second
   clamps each number to [-max,max]. max is 0 or more. */
GAN_API gan_real gan_clip_grad_norm(gan_model *model, gan_real max);
GAN_API void gan_clip_grad_value(gan_model *model, gan_real max);

/* After gan_step: clamps each number of model's parameters to [-c,c], c 0 or more. WGAN's 0.01
   (Arjovsky et al. 2017). */
GAN_API void gan_clip_weights(gan_model *model, gan_real c);

/* Exponential moving average of model in into, by the names of parameters:
     into = decay*into + (1-decay)*model
   Buffers are copied, and so is what into lacks. Two shapes for one name are an error. Averaged
   generators draw better pictures (Yazici et al. 2019). */
GAN_API void gan_ema(gan_model *into, gan_model *model, gan_real decay);

/* A decay for gan_ema given by images instead of steps: 0.5^(batch/min(images, rampup*step*batch)).
   The share of one step's parameters in the average halves with every images training images, or,
   early in training, with every rampup*step*batch, a part of those seen so far, if that is less.
   rampup 0 means no such limit. StyleGAN2-ADA (Karras et al. 2020) has rampup 0.05. */
GAN_API gan_real gan_ema_decay(int step, int batch, gan_real images, gan_real rampup);

/* Copies from's parameters and buffers to those of the same name in into, and makes those that into
   does not have. For unrolled GANs (Metz et al. 2017), for instance. */
GAN_API void gan_copy_params(gan_model *into, gan_model *from);

/* ===========================================================================================
   >>data
   ===========================================================================================
   A data set is bytes in the host's memory, made once, freed by gan_close. What cannot be made
   (a file that is missing, truncated, damaged or of another kind, a shape of 2^31 numbers and
   more, no memory) gives NULL, and gan_error() names the file and what is wrong. Only regular
   files are read: a device, a pipe or a folder in their place is refused. */

/* Images from a file in IDX, MNIST's format: bytes of (N,H,W) (it begins with 00 00 08 03) or
   (N,C,H,W) (00 00 08 04), and labels from another (00 00 08 01) or NULL. Files of gzip are
   unpacked where stb_image.h was included before gan.h. NULL also if there are not as many labels
   as images. */
GAN_API gan_data *gan_data_idx(gan *g, const char *images, const char *labels_or_NULL);

/* CIFAR-10's binary batches (Krizhevsky 2009) -> (n,3,32,32): count files, one behind the other.
   A file is records of 3073 bytes, a label 0..9 and planes R,G,B of 32x32; gzip as above. NULL if
   a file is not that. */
GAN_API gan_data *gan_data_cifar10(gan *g, const char *const *paths, int count);

#ifdef STBI_INCLUDE_STB_IMAGE_H
/* The pictures of a folder (.png .jpg .jpeg .bmp .tga .gif .ppm .pgm .pnm) in the order of their
   names -> (n,channels,h,w). Its sub-folders, in that order, are the classes 0,1,2.. (at most
   256); without any there are no labels.

   A picture is scaled until it just covers h x w, averaging over what becomes one pixel, and what
   sticks out is cut off. channels is 1 (0.299 R + 0.587 G + 0.114 B) or 3; white shows where it is
   transparent. It is decoded once, by a thread that works ahead of gan_batch.

   A file that does not begin like one of these formats is left out, one that proves broken later
   has the next good one in its place; stderr names both. NULL if there is no folder or no good
   picture. Of pairs side by side in one file (Isola et al. 2017) ask for 2*w columns and take
   gan_slice(x, 3, 0, w) and gan_slice(x, 3, w, w). */
GAN_API gan_data *gan_data_folder(gan *g, const char *path, int channels, int h, int w);
#endif

/* Image i of a and image i of b, their channels one behind the other, with a's labels: gan_slice
   along dimension 1 takes them apart. Two folders with the same names in both will do, or any
   sets; NULL if their counts, heights or widths differ, or a folder left files out. For unpaired
   domains (Zhu et al. 2017) call gan_batch on two sets: their orders differ. */
GAN_API gan_data *gan_data_pair(gan *g, gan_data *a, gan_data *b);

/* count digits (1,28,28) with their labels that look handwritten, drawn from strokes: no file is
   needed. They depend on the seed and the place in the set. */
GAN_API gan_data *gan_data_digits(gan *g, int count);

/* count pictures (3,size,size) of a circle 0, square 1, triangle 2 or star 3 of any colour, place,
   size and turn; size is 8 to 4096. Shape i is the same in each style: edges and filled make a
   gan_data_pair, filled and striped two unpaired domains. */
typedef enum gan_shape_style {
    GAN_SHAPES_FILLED, /* one colour on pale paper */
    GAN_SHAPES_EDGES,  /* a black outline on white */
    GAN_SHAPES_STRIPED /* stripes of that colour in a light outline, on dark dotted cloth */
} gan_shape_style;

GAN_API gan_data *gan_data_shapes(gan *g, int count, int size, gan_shape_style style);

/* n images (n,c,h,w) in [-1,1], bytes b as b/127.5 - 1, and their class numbers (n,1,1,1) if labels
   is not NULL. Every image comes once per epoch, in an order drawn for each epoch; a batch may end
   one epoch and begin the next. */
GAN_API gan_tensor *gan_batch(gan_data *data, int n, gan_tensor **labels_or_NULL);

/* How many images there are. */
GAN_API int gan_data_size(const gan_data *data);

/* Image i in file order: C*H*W numbers in [-1,1], and its label, -1 if there are none. */
GAN_API void gan_data_item(const gan_data *data, int i, gan_real *image, int *label_or_NULL);

/* "star", the name of a sub-folder ..; NULL if the label has no name. */
GAN_API const char *gan_data_class_name(const gan_data *data, int label);

/* How many files of a folder were found broken so far. */
GAN_API int gan_data_skipped(const gan_data *data);

/* CycleGAN's history of generated images, so that the discriminator also sees fakes of earlier
   steps (Shrivastava et al. 2017). The pool holds up to size images. For each of images (N,C,H,W):

     while the pool is not full      the image is stored and returned
     then, with probability 1/2      the image is returned, the pool stays as it is
           else                      a random image of the pool is returned, and the new one is
                                     stored in its place

   No gradient flows through the result. size 0 returns images, detached. The pool is kept in
   name.running_images (size,C,H,W) and name.running_count, buffers of model: saved, not trained. */
GAN_API gan_tensor *gan_image_pool(gan_model *model, const char *name, gan_tensor *images,
                                   int size);

/* ===========================================================================================
   >>augment
   ===========================================================================================
   Random changes of images, drawn anew for each image of a batch. Gradients go through them, so
   the generator can be trained through them, too. */

/* What gan_augment may do to an image. They are bits, to be combined by |, so gan_augment takes an
   int: GAN_FLIP | GAN_SHIFT is none of the values that an enum type would list. */
enum {
    GAN_FLIP = 1,   /* left and right are exchanged in half of the images */
    GAN_SHIFT = 2,  /* moved by up to 1/8 of the sides, along both; zeros move in */
    GAN_CUTOUT = 4, /* a hole of zeros, half as high and wide as the image, anywhere */
    GAN_COLOR = 8, /* brightness + U(-.5,.5), then saturation * U(0,2), then contrast * U(.5,1.5) */
    GAN_DIFFAUGMENT = GAN_SHIFT | GAN_CUTOUT | GAN_COLOR
};

/* (N,C,H,W) -> (N,C,H,W): applies to each image each kind in kinds with probability p in [0,1].
   GAN_DIFFAUGMENT with p = 1 is DiffAugment (Zhao et al. 2020). D then sees
   only changed images, T(x) = gan_augment(x, ..), in both losses:

       gan_d_loss(D(T(real)), D(T(fake)), kind)     gan_g_loss(NULL, D(T(fake)), kind) */
GAN_API gan_tensor *gan_augment(gan_tensor *x, int kinds, gan_real p);

/* Adaptive augmentation (ADA, Karras et al. 2020): returns the p for gan_augment in the next step.
   A D that overfits, having memorised a small data set, gives nearly all real images positive
   logits; p rises then, so that it sees more varied ones. With the logits D(real), N first:

       p = p + N/images   if the mean of sign(D(real)) is above target,
           p - N/images   else; within [0,1]

   p starts at 0 and is kept in D's buffer ada.running_p. The paper has target 0.6 and images
   500000: after that many real images p has gone from 0 to 1. */
GAN_API gan_real gan_ada(gan_model *D, gan_tensor *real_logits, gan_real target, double images);

/* (N,C,H,W) -> (N,C,h,w): cuts h x w pixels out of each image, at a place drawn anew for each. */
GAN_API gan_tensor *gan_random_crop(gan_tensor *x, int h, int w);

/* ===========================================================================================
   >>metrics
   ===========================================================================================
   How good samples are. Features are n rows of d numbers in host memory: the outputs of a layer of
   a classifier for n images, copied there with gan_to_host. They are compared in double precision,
   by several threads, with the same result for any number of them. A score is NaN if a feature is
   not finite. */

/* |m_a - m_b|^2 + tr(A + B - 2 (A B)^1/2): the squared distance of two normal distributions with
   the means m and the covariances A and B of the rows of a and b (unbiased, as numpy.cov; they may
   be singular). 0 is best. With Inception's features it is the FID (Heusel et al. 2017). na and
   nb are 2 or more. */
GAN_API double gan_frechet_distance(const gan_real *a, int na, const gan_real *b, int nb, int d);

/* KID (Binkowski et al. 2018), the squared maximum mean discrepancy of the rows of a and b:

       E k(a,a') + E k(b,b') - 2 E k(a,b),  k(x,y) = (x.y/d + 1)^3

   with E the mean over all pairs of rows; a and a', or b and b', are two different rows. The
   estimate is unbiased: for equal distributions it is 0 on average, and can be negative. na and nb
   are 2 or more. */
GAN_API double gan_kernel_distance(const gan_real *a, int na, const gan_real *b, int nb, int d);

/* Precision: the share of the fakes that are near the data. Around each real row lies a ball that
   reaches to its k-th nearest other real row, and a fake counts if it is in one (here k = 1):

           . - ~ - .
         /           \              R  a real row
        |   R---------R    f        f  a fake in no ball
         \    F      /  \           F  a fake in a ball: 1 of 2, precision 0.5
           ' - ~ - '
   Recall is the same with real and fake exchanged: the share of the data that lies near fakes.
   Good fakes that are all alike have high precision and low recall. Kynkaanniemi et al. 2019,
   with k = 3. k and n_fake are 1 or more, n_real above k. */
GAN_API double gan_precision(const gan_real *real, int n_real, const gan_real *fake, int n_fake,
                             int d, int k);

/* The inception score (Salimans et al. 2016, who average it over ten parts of the samples):

       exp( mean over the n rows x of  sum over classes y of  p(y|x) ln(p(y|x)/p(y)) )

   probabilities (n,classes) are the p(y|x) of a classifier, each row of sum 1, and p(y) is their
   mean over the rows. The score lies between 1, where all rows are the same, and classes, where
   each row is certain of one class and all classes are equally frequent. */
GAN_API double gan_inception_score(const gan_real *probabilities, int n, int classes);

/* The number of modes: how many of the classes are predicted for at least one of n samples. Row i
   of scores (n,classes) predicts the class of its largest number, the first of equals; a row with a
   NaN predicts none. histogram (classes) receives how many rows predict each class. */
GAN_API int gan_modes(const gan_real *scores, int n, int classes, int *histogram);

/* Prints title, the sizes and all scores above in one line, precision and recall with k = 3, the
   last two only with probabilities (n_fake,classes). Returns the Frechet distance. */
GAN_API double gan_print_scores(const char *title, const gan_real *real, int n_real,
                                const gan_real *fake, int n_fake, int d,
                                const gan_real *probabilities_or_NULL, int classes);

/* How far an image moves when its noise moves a little (Karras et al. 2019): the mean over
   batch*batches draws of |F(G(z(t + eps))) - F(G(z(t)))|^2 / eps^2, F the identity if it is NULL.
   z(t) (latent,1,1) goes from one normal vector to another, cos(wt) a + sin(wt) b with w = pi/2,
   which is slerp where vectors are at right angles, as in many dimensions they nearly are; t is
   uniform in [0,1). StyleGAN also leaves out 1% at both ends. eps is 1e-4 in the paper: single
   precision then gives the result to about 1e-3. */
GAN_API double gan_perceptual_path_length(gan_model *generator, gan_network *G,
                                          gan_model *features_or_NULL, gan_network *F_or_NULL,
                                          int latent, int batch, int batches, double eps);

/* How alike two tensors (N,C,H,W) are: means over images. range is how far apart the values can
   be, 2 for -1..1. PSNR in dB: 10 log10(range^2 / MSE), infinite for equals. */
GAN_API double gan_psnr(gan_tensor *a, gan_tensor *b, double range);

/* SSIM (Wang et al. 2004): at every place where a window of 11x11 pixels with Gaussian weights,
   sigma 1.5, lies inside the images, their means m, variances v and covariance in it are taken:

       +-----------+                 luminance  l = (2 m_a m_b + C1) / (m_a^2 + m_b^2 + C1)
       |  . : . .  |  at every       structure  s = (2 cov + C2) / (v_a + v_b + C2)
       |  : # : .  |  place, every   C1 = (0.01 range)^2, C2 = (0.03 range)^2
       |  . : . .  |  channel        SSIM = the mean of l s, from -1 to 1 for equals
       +-----------+
   Sides of 11 or more. */
GAN_API double gan_ssim(gan_tensor *a, gan_tensor *b, double range);

/* MS-SSIM (Wang et al. 2003) compares the images at five scales, each half as large as the one
   before (means of 2x2 pixels). With s and l s of gan_ssim, and M the mean over all places:

       M(s at scale 1)^w1 * .. * M(s at scale 4)^w4 * M(l s at scale 5)^w5

   with the paper's w, of sum 1; a negative mean counts as 0. This is computed for each channel of
   each image, and the result is the mean over them. Sides of 176 = 11 * 2^4 or more. */
GAN_API double gan_ms_ssim(gan_tensor *a, gan_tensor *b, double range);

/* The eigenvalues of the symmetric a (n,n), the largest first, in values (n); row i of a becomes
   the eigenvector of values[i], of length 1. All NaN if a number is not finite. */
GAN_API void gan_eigen_symmetric(double *a, int n, double *values);

/* ===========================================================================================
   >>files
   ===========================================================================================
   Checkpoints in safetensors: 8 bytes little-endian header length, JSON, raw little-endian data.

   Saving: a new file is written beside the target under a random name, flushed to the disk and
   renamed over it. At every moment the target is the old file or the new one, whole: after a kill,
   a power cut, a full disk, or with two programs that save to one path (the last one stays). A
   symbolic link is followed, permissions stay, and what is no regular file is refused.

   Loading: all is checked before anything is changed. False leaves everything as it was, and
   gan_error() names the file and what is wrong with it. */

/* Parameters and buffers (running statistics ..) under their names; torch's load_file opens the
   file. False: gan_error(). */
GAN_API bool gan_save(gan_model *model, const char *path);

/* The same in F16, half the size: rounded to 11 bits, ties to even. False if a number is too large
   for it (65520 and up). */
GAN_API bool gan_save_f16(gan_model *model, const char *path);

/* Fills model. A model without parameters takes all that the file holds. Else names and shapes must
   be the same on both sides, or gan_error() names the first three that differ. F16, BF16, F32, F64
   are read, and bytes (U8) as 0 .. 255; PyTorch's num_batches_tracked is passed over. */
GAN_API bool gan_load(gan_model *model, const char *path);

/* The whole of a training: each model's parameters and buffers, its optimizers' moments and steps,
   the seed and how many random numbers were drawn, the place in each data set, and step (0 or
   more), which is the program's own count.

   A program that makes the same models, optimizers and data in the same order, then loads, goes on
   from the last gan_save_state and computes the same bits as if it had not stopped. What it did
   after that save is lost, and done again. The file's seed takes the place of gan_open's. Not in
   the file, and the program's to set: learning rates, gan_freeze and gan_eval, and what the program
   computes from its own options, such as another batch size. step may be NULL. */
GAN_API bool gan_save_state(gan *g, const char *path, int step);
GAN_API bool gan_load_state(gan *g, const char *path, int *step);

/* ===========================================================================================
   >>pictures
   =========================================================================================== */
#ifdef INCLUDE_STB_IMAGE_WRITE_H
/* Writes x (N,1 or 3,H,W), with -1 black and 1 white, as a PNG: a grid of N pictures, columns in a
   row, saved like a checkpoint. False: gan_error(). */
GAN_API bool gan_save_png(gan_tensor *x, int columns, const char *path);
#endif

/* ===========================================================================================
   >>progress
   =========================================================================================== */
/* Begins a log of the values named in columns, "D,G", at most 8: on a terminal one line with a bar,
   step, values, images/s and time left; elsewhere a plain line now and then; and every step a row
   of the file csv, which may be NULL. With first > 0, a training that goes on, rows of csv from
   step first on are dropped and the others kept. NULL if csv cannot be written, or is there and
   cannot be read: then it stays as it is. */
GAN_API gan_progress *gan_progress_open(gan *g, const char *csv, const char *columns, int first,
                                        int steps, int batch);

/* Logs a step: one double for each column. */
GAN_API void gan_progress_step(gan_progress *log, int step, ...);
GAN_API void gan_progress_close(gan_progress *log);

/* ===========================================================================================
   >>look
   =========================================================================================== */
/* Prints the layers that were used so far, in the order of first use, with the shape of their
   output and how many numbers they learn. */
GAN_API void gan_summary(gan_model *model);

/* Prints for each kernel: calls, milliseconds, billions of operations and of bytes per second,
   share of the time. Then counting starts anew. */
GAN_API void gan_profile(gan *g);

/* The operations of products and convolutions since then; a multiply-add is two. */
GAN_API size_t gan_profile_flops(gan *g);

/* ===========================================================================================
   >>doctor
   =========================================================================================== */
/* One line at the end of a training step, before gan_clear:

       gan_doctor(g, step, 20, real, fake, NULL, NULL);

   It prints what is wrong, the number that shows it and what to try; it is silent when all is
   well, and changes nothing. It looks at the first step, 1, 2, 4, 8 .. steps later, and at every
   20th step. Where several things are wrong it names the one that most likely causes the others,
   and puts those behind it:

       doctor, step 40: the learning rate is too high for D.fc.weight: one update is 0.29 of the
       weight's first length, 0.001 to 0.05 is usual. Divide it by 10. Also seen: dead ReLUs (0.6)

   (in one line). It says so again when the trouble has lasted twice as long. Returns how many
   things it named, 0 if it said nothing.

     real, fake                the batches (N,C,H,W), N >= 2, fake with its past (not detached)
     real_logits, fake_logits  what the discriminator made of them, of any shape; NULL finds them
                               if they are (N,1,1,1)

   It sees, causes first: numbers that are not finite (this at every step; with every = 1 it also
   names the kernel of a derivative); data that is constant or out of the generator's range;
   memory that grows from step to step; a sigmoid where the loss wants logits; noise that repeats;
   a network of which no parameter changes; swapped labels; a generator's loss of the wrong sign;
   updates that are large beside their weights (those of two or more dimensions); dead ReLUs;
   gradients that explode or vanish; fakes far outside of the data's range, where no tanh ends the
   generator; a discriminator that has won (if its loss has a sigmoid or softplus in it) or takes
   fakes for real; a collapsed generator. */
GAN_API int gan_doctor(gan *g, int step, int every, gan_tensor *real, gan_tensor *fake,
                       gan_tensor *real_logits, gan_tensor *fake_logits);

/* After gan_doctor, in the same step: prints which of K classes no fake belongs to, and returns how
   many these are. scores (N,K,1,1), N >= 10*K, are a classifier's scores of N fakes; a fake belongs
   to the class of its largest score. */
GAN_API int gan_doctor_classes(gan *g, gan_tensor *scores);

/* The lines of the last step that had any; "" before the first. */
GAN_API const char *gan_doctor_text(const gan *g);

/* ===========================================================================================
   >>plan
   =========================================================================================== */
/* A training step as a function, for gan_plan and gan_capture: gan_clear is not its own. */
typedef void gan_step_fn(gan *g, void *user);

/* A plan: what a training step will take, before any of it is computed. Calls step(g, user) twice
   without running a kernel, prints a table of its operations in order

       operation   result (N,C,H,W)   parameters   multiply-adds   its KiB   held KiB

   (KiB of the result, KiB held by all tensors at that point) and returns the most bytes held:
   exactly gan_memory's peak in a training of such steps. The first call makes parameters and
   optimizer state; whatever step does to models, optimizers, data and random numbers is undone, so
   that the training goes on as if there had been no plan. Meanwhile gan_item and gan_to_host give
   0, and gan.h writes no file. Shapes that do not fit end in the error that the training would end
   in. A term that only some steps have is in the peak only if the planned step has it. */
GAN_API size_t gan_plan(gan *g, gan_step_fn *step, void *user);

/* gan_clear(g), then step(g, user), for a training's loop; faster where the backend can replay a
   step (cuda does, as a CUDA graph), and with the same bits. step is called the first time; at the
   second it is captured, which notes its kernels in order; from then on it is replayed: not called,
   its kernels are run again in the same memory.

     goes on in a replay    random numbers, gan_batch, Adam's step count, gan_set_lr outside of step
     stays as captured      step's own ifs, loops and numbers
     cannot be captured     reading tensors, gan_from_host and gan_set, writing files, making
                            parameters at the second call: stderr names it once, and step is called
                            each time

   Tensors that step leaves in *user stay until the next gan_capture. There is one step for each
   user: another one, or a look of gan_doctor, begins anew. gan_profile counts what is called, not
   what is replayed. */
GAN_API void gan_capture(gan *g, gan_step_fn *step, void *user);

#ifdef __cplusplus
}
#endif
#endif /* GAN_H */

/* ===========================================================================================
   SHARED BY BOTH PARTS' KERNELS: what gan_cuda.cu computes in the same words
   ===========================================================================================
   gan_cuda.cu includes gan.h without GAN_IMPLEMENTATION and defines GAN_HOST_DEVICE as __host__
   __device__ static inline: then these functions are compiled for the GPU, from the same lines.
   With GAN_IMPLEMENTATION they are the ref kernels' (and the random numbers' of every backend). */
#if defined(GAN_IMPLEMENTATION) && !defined(GAN_HOST_DEVICE)
#define GAN_HOST_DEVICE static inline
#endif
#if defined(GAN_HOST_DEVICE) && !defined(GAN__HOST_DEVICE_DONE)
#define GAN__HOST_DEVICE_DONE

#include <math.h>

/* A function of math.h in the library's precision. */
#define GAN__F(name, x)                                                \
    (sizeof(gan_real) == sizeof(float) ? (gan_real)name##f((float)(x)) \
                                       : (gan_real)name((double)(x)))

/* The function words of GAN_MAP_OPS. >>simd has its own GAN__EXP and GAN__TANH. */
#define GAN__EXP(x)       GAN__F(exp, x)
#define GAN__TANH(x)      GAN__F(tanh, x)
#define GAN__LOG(x)       GAN__F(log, x)
#define GAN__SQRT(x)      GAN__F(sqrt, x)
#define GAN__ABS(x)       GAN__F(fabs, x)
#define GAN__ERF(x)       GAN__F(erf, x)
#define GAN__LOG1P_EXP(x) GAN__F(log1p, GAN__F(exp, x)) /* ln(1 + e^x) */

/* f(x) of one row of GAN_MAP_OPS. A value that is no operation gives a NaN. */
GAN_HOST_DEVICE gan_real gan__map_one(gan_map_op op, gan_real x, gan_real a, gan_real b)
{
#define GAN__CASE(op, name, needs_y, formula, derivative) \
    case op: return (gan_real)(formula);
    switch (op) {
        GAN_MAP_OPS(GAN__CASE)
    }
#undef GAN__CASE
    return (gan_real)NAN;
}

/* f(a, b) of one row of GAN_ZIP_OPS. */
GAN_HOST_DEVICE gan_real gan__zip_one(gan_zip_op op, gan_real a, gan_real b, gan_real k, gan_real l)
{
#define GAN__CASE(op, name, needs_y, formula, of_a, of_b) \
    case op: return (gan_real)(formula);
    switch (op) {
        GAN_ZIP_OPS(GAN__CASE)
    }
#undef GAN__CASE
    return (gan_real)NAN;
}

/* Philox 4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3",
   2011): ten rounds of multiply and exclusive-or turn a counter of four words and a key of two
   into four words. Here the key is the seed, the counter (index, stream). */
GAN_HOST_DEVICE void gan__philox(uint64_t seed, uint64_t stream, uint64_t index, uint32_t out[4])
{
    uint32_t c0 = (uint32_t)index;
    uint32_t c1 = (uint32_t)(index >> 32);
    uint32_t c2 = (uint32_t)stream;
    uint32_t c3 = (uint32_t)(stream >> 32);
    uint32_t k0 = (uint32_t)seed;
    uint32_t k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t a = (uint64_t)0xD2511F53u * c0;
        uint64_t b = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)b;
        c3 = (uint32_t)a;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* Four numbers from one block: 24 bits each; normals by Box and Muller (1958), two from two. */
GAN_HOST_DEVICE void gan__random_block(const gan_random *p, uint64_t block, gan_real out[4])
{
    uint32_t word[4];
    gan__philox(p->seed, p->stream, p->index + block, word);
    for (int i = 0; i < 4; i++)
        out[i] = (gan_real)(word[i] >> 8) * (gan_real)(1.0 / 16777216);
    for (int i = 0; p->normal && i < 4; i += 2) {
        gan_real radius = (gan_real)sqrt(-2 * log((double)out[i] + 0.5 / 16777216));
        gan_real angle = (gan_real)(6.28318530717958647692 * (double)out[i + 1]);
        out[i] = radius * (gan_real)cos((double)angle);
        out[i + 1] = radius * (gan_real)sin((double)angle);
    }
    for (int i = 0; i < 4; i++)
        out[i] = p->shift + p->scale * out[i];
}
#endif /* GAN_HOST_DEVICE */

/* ===========================================================================================
   PART II: IMPLEMENTATION, the same chapters in the same order
   =========================================================================================== */
#ifndef GAN_HEADER
#define GAN_HEADER "gan.h"
#endif
#if defined(GAN_IMPLEMENTATION) && !defined(GAN__IMPLEMENTED) && !defined(GAN__LANES)
#define GAN__IMPLEMENTED

#include <errno.h>
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if defined(_WIN32)
#include <fcntl.h>
#include <io.h>
#include <sys/stat.h>
#elif defined(__unix__) || defined(__APPLE__)
#define GAN__POSIX
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>
#endif
#ifndef GAN_NO_THREADS
/* Threads that share the work of a kernel: wherever a program may use pthreads without being linked
   in another way (glibc from 2.34 on, musl, macOS), elsewhere if it was compiled with -pthread or
   -fopenmp, which define these macros. tcc has no thread-local variables. */
#if !defined(GAN_NO_OPENMP) && defined(__GNUC__) && !defined(__TINYC__) && \
    (defined(GAN__POSIX) || defined(__MINGW32__)) &&                       \
    (defined(_REENTRANT) || defined(_OPENMP) || defined(__APPLE__) ||      \
     (defined(__linux__) && !defined(__GLIBC__)) ||                        \
     (defined(__GLIBC__) && __GLIBC__ * 100 + __GLIBC_MINOR__ >= 234))
#define GAN__POOL
#include <pthread.h>
#endif
/* A thread that decodes a folder's pictures ahead. */
#if defined(GAN__POSIX) && defined(STBI_INCLUDE_STB_IMAGE_H)
#define GAN__PTHREAD
#include <pthread.h>
#endif
#endif

#ifndef GAN_MALLOC
#define GAN_MALLOC malloc
#define GAN_FREE   free
#endif
#ifndef GAN_MAX_VECTOR
#define GAN_MAX_VECTOR 64
#endif
#if !defined(__GNUC__) || defined(__TINYC__) /* vector extensions are GCC's and Clang's */
#undef GAN_MAX_VECTOR
#define GAN_MAX_VECTOR 0
#endif

#if defined(__cplusplus)
#define GAN__THREAD_LOCAL thread_local
#elif defined(__TINYC__)
#define GAN__THREAD_LOCAL
#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
#define GAN__THREAD_LOCAL _Thread_local
#elif defined(_MSC_VER)
#define GAN__THREAD_LOCAL __declspec(thread)
#else
#define GAN__THREAD_LOCAL __thread
#endif

#if defined(__GNUC__) && !defined(_WIN32)
#define GAN__PRINTF(a, b) __attribute__((format(printf, a, b)))
#else
#define GAN__PRINTF(a, b)
#endif
#if defined(__GNUC__)
#define GAN__INLINE   __attribute__((always_inline))
#define GAN__NOINLINE __attribute__((noinline))
#else
#define GAN__INLINE
#define GAN__NOINLINE
#endif

#if defined(__x86_64__) || defined(_M_X64)
#define GAN__IS_X86
#endif

#define GAN__MIN(a, b) ((a) < (b) ? (a) : (b))
#define GAN__MAX(a, b) ((a) > (b) ? (a) : (b))

/* sizeof(gan_real) for the preprocessor. */
#define GAN__SIZE_float    4
#define GAN__SIZE_double   8
#define GAN__PASTE(a, b)   a##b
#define GAN__SIZE_OF(type) GAN__PASTE(GAN__SIZE_, type)
#define GAN__SIZE          GAN__SIZE_OF(GAN_REAL)

#ifdef __cplusplus
extern "C" {
#endif

#ifndef GAN_STATIC
const char GAN__REAL_NAME(GAN_REAL) = 1;
#endif

/* ===========================================================================================
   >>errors (implementation)
   =========================================================================================== */
/* Scratch memory of the cpu kernels, by who uses it: see gan__workspace. */
enum { GAN__SCRATCH_LEAF, GAN__SCRATCH_CALLER, GAN__SCRATCH_CALLER_2, GAN__SCRATCH_COUNT };

/* What each thread has of its own. No result depends on the scratch memory or on the numbers of
   threads. */
static GAN__THREAD_LOCAL struct {
    char error[1024];      /* gan_error's text */
    gan_error_fn *handler; /* gan_on_error's function */
    void *user;            /* and its argument */
    gan *planning;         /* the device whose gan_plan is under way: an error ends the plan */
    struct gan__gradcheck *checking; /* the gan_gradcheck that is under way: likewise */
    void *scratch[GAN__SCRATCH_COUNT];
    size_t scratch_size[GAN__SCRATCH_COUNT];
    int threads;        /* gan_set_threads(NULL, threads): for kernels that no device calls */
    int g_threads;      /* while a device's kernel runs: gan_set_threads(g, g_threads) */
    int alone, penalty; /* kernels yet to be computed without workers: see gan__parallel_in_pool */
    bool in_parallel;   /* this thread computes a part of a kernel: it may not share that again */
} gan__thread;

static void gan__clear_where(gan *g);
static const char *gan__where(gan *g, const char *function);
static void gan__plan_end(gan *g);
static void gan__gradcheck_end(struct gan__gradcheck *check);

GAN_API const char *gan_error(void)
{
    return gan__thread.error;
}

GAN_API void gan_on_error(gan_error_fn *fn, void *user)
{
    gan__thread.handler = fn;
    gan__thread.user = user;
}

/* The world's fault: leaves the text and returns false. */
GAN__PRINTF(1, 2) static bool gan__refuse(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vsnprintf(gan__thread.error, sizeof gan__thread.error, format, list);
    va_end(list);
    return false;
}

/* The program's fault: does not return. The layer being computed, if any, takes the function's
   place in the message. */
GAN__PRINTF(3, 4) static void gan__fail(gan *g, const char *function, const char *format, ...)
{
    char text[900];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    snprintf(gan__thread.error, sizeof gan__thread.error, "%.100s: %s", gan__where(g, function),
             text);
    gan__clear_where(g);
    gan__thread.g_threads = 0;
    if (gan__thread.planning)
        gan__plan_end(gan__thread.planning);
    if (gan__thread.checking)
        gan__gradcheck_end(gan__thread.checking);
    if (gan__thread.handler)
        gan__thread.handler(gan__thread.error, gan__thread.user);
    fflush(stdout);
    fprintf(stderr, "%s\n", gan__thread.error);
    abort();
}

GAN_API void gan_fail(const char *where, const char *message)
{
    gan__fail(NULL, where ? where : "gan_fail", "%s", message ? message : "the message is NULL");
}

/* Memory that the program can go on without: NULL if there is none. */
static void *gan__try_alloc(size_t bytes)
{
    return GAN_MALLOC(bytes ? bytes : 1);
}

/* Memory that the program cannot go on without. */
static void *gan__alloc(size_t bytes)
{
    void *memory = gan__try_alloc(bytes);
    if (!memory)
        gan__fail(NULL, "gan.h", "out of memory: %.0f bytes wanted", (double)bytes);
    return memory;
}

static void *gan__alloc_zero(size_t bytes)
{
    return memset(gan__alloc(bytes), 0, bytes);
}

static char *gan__copy_string(const char *s)
{
    return strcpy((char *)gan__alloc(strlen(s) + 1), s);
}

/* An array of elements of size bytes with room for one more than count: moved to twice the room
   when count is a power of two. NULL if there is no memory; then array stays as it is. */
static void *gan__try_grow(void *array, size_t count, size_t size)
{
    if (count != 0 && (count & (count - 1)) != 0)
        return array;
    void *larger = gan__try_alloc((count ? 2 * count : 1) * size);
    if (!larger)
        return NULL;
    if (count)
        memcpy(larger, array, count * size);
    GAN_FREE(array);
    return larger;
}

static void *gan__grow(void *array, size_t count, size_t size)
{
    void *larger = gan__try_grow(array, count, size);
    if (!larger)
        gan__fail(NULL, "gan.h", "out of memory: %.0f bytes wanted", 2.0 * (double)(count * size));
    return larger;
}

/* ===========================================================================================
   >>kernels (implementation)
   =========================================================================================== */
/* A gan_conv with its defaults filled in, and the sizes that follow from it. */
typedef struct {
    int stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
    int groups, group_in, group_out; /* channels of x and of y in a group */
    int out_h, out_w;
} gan__conv_geometry;

static gan__conv_geometry gan__geometry_of(const gan_conv *p)
{
    gan__conv_geometry geometry;
    geometry.stride_h = p->stride_h ? p->stride_h : GAN__MAX(p->stride, 1);
    geometry.stride_w = p->stride_w ? p->stride_w : GAN__MAX(p->stride, 1);
    geometry.pad_h = p->pad + p->pad_h;
    geometry.pad_w = p->pad + p->pad_w;
    geometry.dilation_h = p->dilation_h ? p->dilation_h : GAN__MAX(p->dilation, 1);
    geometry.dilation_w = p->dilation_w ? p->dilation_w : GAN__MAX(p->dilation, 1);
    geometry.groups = GAN__MAX(p->groups, 1);
    geometry.group_in = p->c / geometry.groups;
    geometry.group_out = p->out_c / geometry.groups;
    /* rows and columns that a window covers, from its first tap to its last */
    int covered_h = geometry.dilation_h * (p->kernel_h - 1) + 1;
    int covered_w = geometry.dilation_w * (p->kernel_w - 1) + 1;
    geometry.out_h = (p->h + 2 * geometry.pad_h - covered_h) / geometry.stride_h + 1;
    geometry.out_w = (p->w + 2 * geometry.pad_w - covered_w) / geometry.stride_w + 1;
    return geometry;
}

GAN_API int gan_conv_out_h(const gan_conv *p)
{
    if (!p)
        gan__fail(NULL, "gan_conv_out_h", "the geometry is NULL");
    return gan__geometry_of(p).out_h;
}

GAN_API int gan_conv_out_w(const gan_conv *p)
{
    if (!p)
        gan__fail(NULL, "gan_conv_out_w", "the geometry is NULL");
    return gan__geometry_of(p).out_w;
}

/* Scratch memory for one call of a kernel, 64-byte aligned; kept by this thread from call to call.
   A function that calls another must not use the other's slot:

       GAN__SCRATCH_LEAF      functions that call nothing that uses scratch memory: the matrix
                              product, lines of softmax and of resampling, tables made on the host
       GAN__SCRATCH_CALLER    those that call them: the parts of a transposed convolution, the taps
                              of resampling's rows, random numbers on the host
       GAN__SCRATCH_CALLER_2  and need two: the taps of resampling's columns, places of crops */
static void *gan__workspace(int slot, size_t bytes)
{
    void **memory = &gan__thread.scratch[slot];
    if (gan__thread.scratch_size[slot] < bytes) {
        GAN_FREE(*memory);
        *memory = NULL;
        gan__thread.scratch_size[slot] = 0;
        *memory = gan__alloc(bytes + 64);
        gan__thread.scratch_size[slot] = bytes;
    }
    return (void *)(((uintptr_t)*memory + 63) & ~(uintptr_t)63);
}

static void gan__free_scratch(void)
{
    for (int slot = 0; slot < GAN__SCRATCH_COUNT; slot++) {
        GAN_FREE(gan__thread.scratch[slot]);
        gan__thread.scratch[slot] = NULL;
        gan__thread.scratch_size[slot] = 0;
    }
}

/* ---- threads

   gan__parallel shares one kernel's work with the threads of a pool. They are made when a kernel
   first has use for them, and sleep when there is nothing to do. The work is cut into blocks, and
   whoever is free takes the next one from a counter:

       the thread that calls          worker 1                 worker 2
       ---------------------          --------                 --------
       puts the work on a list
       wakes the workers              joins the work           (its processor is taken
       computes block 0               computes block 1          by another program)
       computes block 3               computes block 2
       finds no block left            computes block 4
       takes the work off the list    finds no block left      finds nothing to join
       waits for worker 1             leaves the work

   Nobody waits for a worker that has not joined, so that another program on one of the processors
   takes a part of the speed and no more. Several threads of a program may have work on the list.
   The result of a block must not depend on the other blocks: then it does not show which thread
   computes it, and when. */
typedef void gan__body(void *job, size_t begin, size_t end, int thread);

#ifdef GAN__POOL
static double gan__now(void);

enum { GAN__MAX_THREADS = 64 };

/* How long a thread that waits (a worker for work, a caller for its workers) looks again and again
   before it sleeps: longer than the pause between most kernels, and far shorter than the some
   milliseconds for which the system lets a program have a processor. */
#define GAN__SPIN_SECONDS 50e-6

/* Who waits this much longer for a worker than a block takes was held up: another program has the
   worker's processor. */
#define GAN__HELD_UP_SECONDS 1e-3

/* One call of gan__parallel. */
typedef struct gan__work {
    gan__body *body;
    void *job;
    size_t count, grain;
    size_t next;             /* atomic: the first element that nobody has taken */
    int threads;             /* how many may take part */
    int joined;              /* how many have, the caller among them */
    unsigned working;        /* atomic: workers that have joined and not yet left */
    struct gan__work *below; /* in the list */
} gan__work;

/* The process has one pool, as it has one set of processors. All but the atomic fields is changed
   under the lock. */
static pthread_mutex_t gan__pool_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gan__work_added = PTHREAD_COND_INITIALIZER; /* workers sleep until then */
static pthread_cond_t gan__work_done = PTHREAD_COND_INITIALIZER;  /* callers sleep until then */

static struct {
    gan__work *list;
    unsigned added;   /* atomic: how often work was added */
    unsigned waiting; /* atomic: callers that sleep */
    int asleep;       /* workers that sleep */
    int processors;   /* atomic: gan__processors(), or 0 before the first call */
    int worker_count;
    pthread_t workers[GAN__MAX_THREADS];
    bool prepared; /* exit and fork know of the pool */
    bool closed;   /* no further worker can be made */
    bool ending;   /* the process ends */
} gan__pool;

/* How many threads are of use: OMP_NUM_THREADS where the user has set it, as for OpenMP's programs
   and PyTorch's, or the number of processors that this process may run on. */
static int gan__processors(void)
{
    const char *wanted = getenv("OMP_NUM_THREADS");
    int count = wanted ? atoi(wanted) : 0;
#if defined(__linux__)
    char line[1024];
    FILE *status = count < 1 ? fopen("/proc/self/status", "r") : NULL;
    while (status && fgets(line, sizeof line, status)) {
        if (strncmp(line, "Cpus_allowed:", 13) != 0)
            continue;
        for (const char *at = line + 13; *at; at++) { /* hexadecimal: a bit for each processor */
            int digit = *at >= 'a' && *at <= 'f' ? *at - 'a' + 10 : *at - '0';
            for (; digit > 0 && digit < 16; digit &= digit - 1)
                count++;
        }
    }
    if (status)
        fclose(status);
#endif
#if defined(_WIN32)
    const char *processors = getenv("NUMBER_OF_PROCESSORS");
    if (count < 1 && processors)
        count = atoi(processors);
#elif defined(_SC_NPROCESSORS_ONLN)
    if (count < 1)
        count = (int)sysconf(_SC_NPROCESSORS_ONLN);
#endif
    return GAN__MIN(GAN__MAX(count, 1), GAN__MAX_THREADS);
}

/* Looks at *at until it is (or, if not equal, is no longer) value; gives up after a short time. */
static void gan__spin(const unsigned *at, unsigned value, bool equal)
{
    double start = gan__now();
    do {
        for (int i = 0; i < 50; i++) {
            if ((__atomic_load_n(at, __ATOMIC_SEQ_CST) == value) == equal)
                return;
#if defined(GAN__IS_X86)
            __builtin_ia32_pause(); /* leaves the core to its other hardware thread */
#elif defined(__aarch64__)
            __asm__ __volatile__("yield");
#endif
        }
    } while (fabs(gan__now() - start) < GAN__SPIN_SECONDS);
}

/* Computes blocks until none is left, and returns how many. */
static int gan__compute_blocks(gan__work *work, int thread)
{
    for (int blocks = 0;; blocks++) {
        size_t begin = __atomic_fetch_add(&work->next, work->grain, __ATOMIC_RELAXED);
        if (begin >= work->count)
            return blocks;
        work->body(work->job, begin, GAN__MIN(begin + work->grain, work->count), thread);
    }
}

/* Work on the list that has blocks left and wants another thread, or NULL. */
static gan__work *gan__work_to_join(void)
{
    gan__work *work = gan__pool.list;
    while (work && (work->joined >= work->threads ||
                    __atomic_load_n(&work->next, __ATOMIC_RELAXED) >= work->count))
        work = work->below;
    return work;
}

static void *gan__worker(void *unused)
{
    gan__thread.in_parallel = true;
    pthread_mutex_lock(&gan__pool_lock);
    while (!gan__pool.ending) {
        gan__work *work = gan__work_to_join();
        if (!work) {
            gan__pool.asleep++;
            pthread_cond_wait(&gan__work_added, &gan__pool_lock);
            gan__pool.asleep--;
            continue;
        }
        unsigned added = __atomic_load_n(&gan__pool.added, __ATOMIC_SEQ_CST);
        int thread = work->joined++;
        __atomic_add_fetch(&work->working, 1, __ATOMIC_SEQ_CST);
        pthread_mutex_unlock(&gan__pool_lock);
        gan__compute_blocks(work, thread);
        /* *work is the caller's, who goes on once working is 0. */
        bool last = __atomic_sub_fetch(&work->working, 1, __ATOMIC_SEQ_CST) == 0;
        if (!last || !__atomic_load_n(&gan__pool.waiting, __ATOMIC_SEQ_CST))
            gan__spin(&gan__pool.added, added, false);
        pthread_mutex_lock(&gan__pool_lock);
        if (last && gan__pool.waiting)
            pthread_cond_broadcast(&gan__work_done);
    }
    pthread_mutex_unlock(&gan__pool_lock);
    gan__free_scratch();
    return unused;
}

/* At the process's end, or when the library that holds this code is unloaded. */
static void gan__pool_end(void)
{
    pthread_mutex_lock(&gan__pool_lock);
    gan__pool.ending = true;
    gan__pool.closed = true;
    pthread_cond_broadcast(&gan__work_added);
    pthread_mutex_unlock(&gan__pool_lock);
    for (int i = 0; i < gan__pool.worker_count; i++)
        pthread_join(gan__pool.workers[i], NULL);
    gan__pool.worker_count = 0;
}

#ifndef _WIN32
/* A child of fork has none of its parent's workers: its first kernel makes some of its own. */
static void gan__pool_in_child(void)
{
    memset(&gan__pool, 0, sizeof gan__pool);
    gan__pool.prepared = true;
    pthread_mutex_init(&gan__pool_lock, NULL);
    pthread_cond_init(&gan__work_added, NULL);
    pthread_cond_init(&gan__work_done, NULL);
}
#endif

/* Called with the lock. Where the system refuses another thread, those that are there do. */
static void gan__make_workers(int wanted)
{
    if (!gan__pool.prepared) {
        gan__pool.prepared = true;
        gan__pool.closed = atexit(gan__pool_end) != 0;
#ifndef _WIN32
        gan__pool.closed |= pthread_atfork(NULL, NULL, gan__pool_in_child) != 0;
#endif
    }
    while (gan__pool.worker_count < wanted && !gan__pool.closed) {
        pthread_t *worker = &gan__pool.workers[gan__pool.worker_count];
        gan__pool.closed = pthread_create(worker, NULL, gan__worker, NULL) != 0;
        gan__pool.worker_count += !gan__pool.closed;
    }
}

/* Puts work on the list and wakes workers; false, and nothing done, if there are none. */
static bool gan__add_work(gan__work *work)
{
    pthread_mutex_lock(&gan__pool_lock);
    gan__make_workers(work->threads - 1);
    bool alone = gan__pool.worker_count == 0;
    int asleep = GAN__MIN(gan__pool.asleep, work->threads - 1);
    if (!alone) {
        work->below = gan__pool.list;
        gan__pool.list = work;
    }
    pthread_mutex_unlock(&gan__pool_lock);
    if (alone)
        return false;
    __atomic_add_fetch(&gan__pool.added, 1, __ATOMIC_SEQ_CST);
    for (int i = 0; i < asleep; i++)
        pthread_cond_signal(&gan__work_added);
    return true;
}

/* Takes work off the list and waits for the workers that have joined it. */
static void gan__finish_work(gan__work *work)
{
    pthread_mutex_lock(&gan__pool_lock);
    gan__work **at = &gan__pool.list;
    while (*at != work)
        at = &(*at)->below;
    *at = work->below;
    pthread_mutex_unlock(&gan__pool_lock);
    gan__spin(&work->working, 0, true);
    if (__atomic_load_n(&work->working, __ATOMIC_SEQ_CST) == 0)
        return;
    pthread_mutex_lock(&gan__pool_lock);
    __atomic_add_fetch(&gan__pool.waiting, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&work->working, __ATOMIC_SEQ_CST))
        pthread_cond_wait(&gan__work_done, &gan__pool_lock);
    __atomic_sub_fetch(&gan__pool.waiting, 1, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&gan__pool_lock);
}

/* gan__parallel with the workers' help; false, and nothing done, if there is none.

   A worker whose processor is given to another program in the middle of a block holds its caller up
   for milliseconds. Who was held up computes its next kernels alone: 8 of them, and twice as many
   each time it happens again, up to 512. A kernel that goes well halves that number. */
static bool gan__parallel_in_pool(gan__work *work)
{
    if (gan__thread.alone > 0) {
        gan__thread.alone--;
        return false;
    }
    if (!gan__add_work(work))
        return false;
    gan__thread.in_parallel = true;
    double start = gan__now();
    int blocks = gan__compute_blocks(work, 0);
    double computed = gan__now();
    gan__finish_work(work);
    gan__thread.in_parallel = false;

    double fair = (computed - start) / GAN__MAX(blocks, 1) + GAN__HELD_UP_SECONDS;
    if (gan__now() - computed > fair) {
        gan__thread.penalty = GAN__MIN(GAN__MAX(8, 2 * gan__thread.penalty), 512);
        gan__thread.alone = gan__thread.penalty;
    } else
        gan__thread.penalty /= 2;
    return true;
}
#endif

/* Threads that a kernel called now may use: an upper bound of gan__body's thread. */
static int gan__threads(void)
{
#ifdef GAN__POOL
    int wanted = gan__thread.g_threads ? gan__thread.g_threads : gan__thread.threads;
    if (wanted)
        return GAN__MIN(wanted, GAN__MAX_THREADS);
    int processors = __atomic_load_n(&gan__pool.processors, __ATOMIC_RELAXED);
    if (!processors) {
        processors = gan__processors();
        __atomic_store_n(&gan__pool.processors, processors, __ATOMIC_RELAXED);
    }
    return processors;
#else
    return 1;
#endif
}

/* Calls body for [0,count) in blocks of grain. thread, below gan__threads(), tells the threads
   apart, for scratch memory. Called inside of a body it computes all in the same thread. A body
   must return, and so makes no error by gan__fail. */
static void gan__parallel(size_t count, size_t grain, gan__body *body, void *job)
{
#ifdef GAN__POOL
    size_t blocks = count / grain + (count % grain != 0);
    int threads = (int)GAN__MIN((size_t)gan__threads(), blocks);
    gan__work work = {body, job, count, grain, 0, threads, 1, 0, NULL};
    if (threads > 1 && !gan__thread.in_parallel && gan__parallel_in_pool(&work))
        return;
#endif
    for (size_t begin = 0; begin < count; begin += grain)
        body(job, begin, GAN__MIN(begin + grain, count), 0);
}

/* How many numbers each operand of a kernel has, and its operations: what compare:A,B and
   gan_profile need to know. */
typedef struct {
    size_t in[5], out[3];
    double flops;
} gan__cost;

#define GAN__DIMS     "(%d,%d,%d,%d)"
#define GAN__SHAPE(t) (t)->n, (t)->c, (t)->h, (t)->w

static size_t gan__size(int n, int c, int h, int w)
{
    return (size_t)n * c * h * w;
}

/* How far an operand with these strides reaches. */
static size_t gan__extent(int n, int c, int h, int w, const ptrdiff_t stride[4])
{
    return 1 + (size_t)((n - 1) * stride[0] + (c - 1) * stride[1] + (h - 1) * stride[2] +
                        (w - 1) * stride[3]);
}

/* How many numbers a convolution computes, each a sum over the taps of its window. */
static size_t gan__conv_output_count(const gan_conv *p)
{
    return gan__size(p->n, p->out_c, gan_conv_out_h(p), gan_conv_out_w(p));
}

/* How many numbers the weight (OUT_C,C/GROUPS,KERNEL_H,KERNEL_W) has. */
static size_t gan__conv_weight_count(const gan_conv *p)
{
    return gan__size(p->out_c, p->c / GAN__MAX(p->groups, 1), p->kernel_h, p->kernel_w);
}

/* Each number of the weight is multiplied and added once for each image and output pixel. */
static double gan__conv_flops(const gan_conv *p)
{
    return 2.0 * p->n * gan_conv_out_h(p) * gan_conv_out_w(p) * (double)gan__conv_weight_count(p);
}

/* The list of kernels: K(name, type of the sizes, arrays read, arrays written), in the order of
   gan_backend's fields. Numbers, tables, names and calls below are made from it. */
#define GAN_KERNELS(K)                  \
    K(fill, gan_fill, 0, 1)             \
    K(random, gan_random, 0, 1)         \
    K(map, gan_map, 1, 1)               \
    K(zip, gan_zip, 2, 1)               \
    K(copy, gan_copy, 1, 1)             \
    K(sum, gan_sums, 1, 1)              \
    K(matmul, gan_product, 2, 1)        \
    K(conv2d, gan_conv, 2, 1)           \
    K(conv_transpose2d, gan_conv, 2, 1) \
    K(conv2d_weight, gan_conv, 2, 1)    \
    K(norm_stats, gan_norm, 1, 1)       \
    K(norm_apply, gan_norm, 4, 1)       \
    K(norm_sums, gan_norm, 3, 1)        \
    K(norm_grad, gan_norm, 5, 1)        \
    K(resample, gan_resample, 3, 1)     \
    K(gather, gan_index, 2, 1)          \
    K(max_index, gan_pool, 1, 1)        \
    K(softmax, gan_lines, 1, 1)         \
    K(softmax_grad, gan_lines, 2, 1)    \
    K(sgd, gan_update, 1, 2)            \
    K(adam, gan_update, 1, 3)           \
    K(rmsprop, gan_update, 1, 2)

/* A number for each kernel: GAN__K_fill ... */
#define GAN__NUMBER(name, type, in, out) GAN__K_##name,

enum { GAN_KERNELS(GAN__NUMBER) GAN__KERNEL_COUNT };

/* Compiles only if gan_backend has the fields of this list, in its order, and no other after
   them. */
#define GAN__FIELD_CHECK(name, type, in, out)                                             \
    typedef char gan__##name##_is_not_in_its_place[offsetof(gan_backend, name) ==         \
                                                           offsetof(gan_backend, fill) +  \
                                                               (size_t)GAN__K_##name *    \
                                                                   sizeof(void (*)(void)) \
                                                       ? 1                                \
                                                       : -1];
GAN_KERNELS(GAN__FIELD_CHECK)
typedef char gan__a_kernel_is_not_in_the_list[sizeof(gan_backend) == offsetof(gan_backend, fill) +
                                                                         (size_t)GAN__KERNEL_COUNT *
                                                                             sizeof(void (*)(void))
                                                  ? 1
                                                  : -1];

#define GAN__REF(name, type, in, out) gan_ref_##name,
static const gan_backend gan__ref = {"ref", NULL, NULL, NULL, NULL, NULL,
                                     NULL,  NULL, NULL, NULL, NULL, GAN_KERNELS(GAN__REF)};
#define GAN__CPU(name, type, in, out) gan_cpu_##name,
static const gan_backend gan__cpu = {"cpu", NULL, NULL, NULL, NULL, NULL,
                                     NULL,  NULL, NULL, NULL, NULL, GAN_KERNELS(GAN__CPU)};

/* A kernel's call and cost by its number: its sizes come as const void *, its arrays in two lists.
   gan__cost_NAME stands beside the kernel. */
#define GAN__ARGS_0_1 y[0]
#define GAN__ARGS_1_1 x[0], y[0]
#define GAN__ARGS_2_1 x[0], x[1], y[0]
#define GAN__ARGS_3_1 x[0], x[1], x[2], y[0]
#define GAN__ARGS_4_1 x[0], x[1], x[2], x[3], y[0]
#define GAN__ARGS_5_1 x[0], x[1], x[2], x[3], x[4], y[0]
#define GAN__ARGS_1_2 x[0], y[0], y[1]
#define GAN__ARGS_1_3 x[0], y[0], y[1], y[2]
#define GAN__CALL(name, type, in, out)                                                          \
    static gan__cost gan__cost_##name(const type *p);                                           \
                                                                                                \
    static void gan__call_##name(const gan_backend *b, const void *p, const gan_real *const *x, \
                                 gan_real *const *y)                                            \
    {                                                                                           \
        (void)x;                                                                                \
        b->name((const type *)p, GAN__ARGS_##in##_##out);                                       \
    }                                                                                           \
                                                                                                \
    static gan__cost gan__cost_call_##name(const void *p)                                       \
    {                                                                                           \
        return gan__cost_##name((const type *)p);                                               \
    }                                                                                           \
                                                                                                \
    static bool gan__has_##name(const gan_backend *b)                                           \
    {                                                                                           \
        return b->name != NULL;                                                                 \
    }
GAN_KERNELS(GAN__CALL)

typedef struct {
    const char *name;
    int in, out;
    void (*call)(const gan_backend *b, const void *p, const gan_real *const *x, gan_real *const *y);
    gan__cost (*cost)(const void *p);
    bool (*has)(const gan_backend *b);
} gan__kernel;

#define GAN__KERNEL(name, type, in, out) \
    {#name, in, out, gan__call_##name, gan__cost_call_##name, gan__has_##name},
static const gan__kernel gan__kernels[GAN__KERNEL_COUNT] = {GAN_KERNELS(GAN__KERNEL)};

/* What the threads of a cpu kernel are given: its sizes and arrays. */
typedef struct {
    const void *p;
    const gan_real *in[5];
    gan_real *out[3];
} gan__job;

/* Where the matrix product reads a matrix from; see >>matmul. */
typedef struct gan__matrix_source gan__matrix_source;

/* The inner loops of the cpu kernels, which >>simd compiles once for each instruction set:
   gan__simd()->tile is gan__simd_tile there, and so on. */
typedef struct {
    int tile_rows, tile_columns; /* of the product's result, how much the registers hold */
    void (*tile)(int depth, const gan_real *a, const gan_real *b, gan_real *c, bool add);
    void (*pack_left)(const gan_real *src, ptrdiff_t row_stride, const ptrdiff_t *k_offset,
                      int rows, int depth, gan_real *panel);
    void (*pack_right)(const gan__matrix_source *right, int column, int columns, int k, int depth,
                       gan_real *panel);
    void (*store_tile)(const gan_real *tile, int rows, int columns, gan_real *dst,
                       ptrdiff_t row_stride, const ptrdiff_t *column_offset);
    void (*map)(const gan_map *p, const gan_real *x, gan_real *y, size_t n);
    void (*zip)(const gan_zip *p, const gan_real *a, const gan_real *b, int b_step, gan_real *y,
                size_t n);
    double (*sum)(const gan_real *x, size_t rows, ptrdiff_t stride, size_t n);
    double (*sum_of_squares)(const gan_real *x, size_t rows, ptrdiff_t stride, size_t n,
                             gan_real center);
    void (*sum_rows)(const gan_real *x, size_t rows, ptrdiff_t row_stride, gan_real *y, size_t n);
    void (*scale_shift)(const gan_real *x, gan_real scale, gan_real shift, gan_real *y, size_t n);
    void (*norm_sums)(const gan_real *gy, const gan_real *x, size_t rows, ptrdiff_t stride,
                      size_t n, gan_real mean, double sums[2]);
    void (*norm_grad)(const gan_real *gy, const gan_real *x, gan_real mean, gan_real a, gan_real b,
                      gan_real c, gan_real *gx, size_t n);
    void (*add_scaled)(const gan_real *x, gan_real k, gan_real *y, size_t n, bool add);
    void (*resample_line)(const gan_real *x, const int *index, const gan_real *weight, int taps,
                          int apart, gan_real *y, int n);
    void (*resample_even)(const gan_real *x, int in, const int *index, const gan_real *weight,
                          int taps, int apart, int phases, int step, gan_real *scratch, gan_real *y,
                          int n);
    void (*max_of_line)(const gan_real *x, int step, int at, gan_real *best, gan_real *index,
                        int n);
    void (*softmax)(const gan_real *x, gan_real *y, size_t n, int logarithm);
    void (*softmax_grad)(const gan_real *gy, const gan_real *y, gan_real *gx, size_t n,
                         int logarithm);
    gan__body *sgd, *adam, *rmsprop; /* of a gan__job */
    void (*pairs_of_rows)(size_t d, const double *a, const double *b, double *c, bool distances);
} gan__simd_table;

/* The table of the widest vectors that this machine has. */
static const gan__simd_table *gan__simd(void);

/* The backends that the program added. The only list of the process: gan_register_backend has no
   gan to keep it in. */
static gan_backend gan__registered[32];
static int gan__registered_count;

GAN_API const gan_backend *gan_find_backend(const char *name)
{
    if (!name)
        gan__fail(NULL, "gan_find_backend", "the name is NULL");
    if (strcmp(name, "ref") == 0)
        return &gan__ref;
    if (strcmp(name, "cpu") == 0)
        return &gan__cpu;
    for (int i = 0; i < gan__registered_count; i++)
        if (strcmp(name, gan__registered[i].name) == 0)
            return &gan__registered[i];
    return NULL;
}

GAN_API bool gan_register_backend(const gan_backend *backend)
{
    if (!backend)
        gan__fail(NULL, "gan_register_backend", "the backend is NULL");
    const char *name = backend->name;
    if (!name || !*name || strchr(name, ',') || strncmp(name, "compare:", 8) == 0 ||
        strcmp(name, "ref") == 0 || strcmp(name, "cpu") == 0)
        return gan__refuse("gan_register_backend: a backend cannot be named \"%s\"",
                           name ? name : "NULL");
    for (int k = 0; k < GAN__KERNEL_COUNT; k++)
        if (!gan__kernels[k].has(backend))
            return gan__refuse("gan_register_backend: \"%s\" has no %s kernel; copy "
                               "*gan_find_backend(\"ref\") first",
                               name, gan__kernels[k].name);
    gan_backend *place = (gan_backend *)gan_find_backend(name);
    if (!place) {
        if (gan__registered_count == 32)
            return gan__refuse("gan_register_backend: no room for \"%s\": 32 are registered", name);
        place = &gan__registered[gan__registered_count++];
    }
    *place = *backend;
    return true;
}

/* ===========================================================================================
   >>device (implementation)
   ===========================================================================================
   Two memories. The structs of tensors lie in the host's: see gan__node. Their numbers lie in the
   device's, in slabs, large pieces that hold the blocks of many tensors:

       slab 0  |   a   |  free  |    b    |  c  |       free       |     free list: 2 blocks

   A new tensor takes the smallest free block that is large enough, and the rest stays free:

       slab 0  |   a   | d |free|    b    |  c  |       free       |     free list: 2 blocks

   A block is given back when its last user goes, and becomes one with free neighbours. b goes:

       slab 0  |   a   | d |     free     |  c  |       free       |     free list: 2 blocks

   Where no free block is large enough another slab is added. gan_clear frees all tensors, and puts
   one slab as large as all together in the place of several:

       slab 0  |                free                 |
       slab 1  |            free            |

       slab 0  |                               free                               |

   After the first steps there is one slab, large enough; as the same steps take the same blocks,
   they get the same addresses, and no allocator is called. */

/* A piece of memory. */
typedef struct {
    char *memory;
    size_t size; /* bytes */
} gan__slab;

/* A part of a slab, free or a tensor's. */
typedef struct {
    char *memory;
    size_t size; /* bytes, a multiple of 64 */
    int slab;    /* its number: blocks of two slabs are no neighbours, wherever they lie */
} gan__block;

/* Memory that grows when more is wanted: see gan__ensure_buffer. */
typedef struct {
    void *memory;
    size_t size;
} gan__memory;

/* A block and the number of tensors, and of gradients of tensors, that use it; at 0 it is free. */
typedef struct gan__buffer {
    gan__block block;
    int references;
} gan__buffer;

/* A tensor's struct, and the buffer it uses if its numbers are its own (a view uses another's).
   The nodes of freed tensors wait in a queue before they are used again, so that a pointer kept
   past gan_clear points to a struct that says "freed" and not to a new tensor. A node waits until
   two more gan_clear have been called, or, which bounds the queue of a loop over gan_clear_to,
   until twice as many nodes wait as the tape ever held.

       used again <- | freed after step 1 | freed after step 2 | freed after step 3 | <- freed

   Only nodes are kept back; the blocks of their numbers are free at once. */
typedef struct gan__node {
    gan_tensor tensor; /* the first member: a gan_tensor * is its node's address */
    gan__buffer numbers;
    struct gan__node *next; /* in the queue */
    uint64_t reusable_from; /* the value of g->clears from which the node may be used again */
} gan__node;

enum { GAN__NODES_PER_SLAB = 128 };

/* An operation's derivative: from y's gradient gy that of its input y->in[i]; NULL for zeros. */
typedef gan_tensor *gan__vjp(gan_tensor *y, gan_tensor *gy, int i);

struct gan__op {
    const char *name;
    gan__vjp *vjp;
    bool needs_output; /* vjp reads y's numbers: no function in place may overwrite them */
};

struct gan {
    const gan_backend *backend;
    const gan_backend *other; /* compare:A,B: B, while backend is A; else NULL */
    int threads;              /* gan_set_threads */
    uint64_t seed;
    uint64_t drawn; /* how far the stream of gan_rand and gan_randn is */

    /* Structs of tensors. */
    gan__node **node_slabs;
    int node_slab_count, nodes_made;
    gan__node *freed_first, *freed_last; /* the queue of freed nodes */
    int freed_count, longest_tape;
    uint64_t clears; /* how often gan_clear was called */

    /* Numbers of tensors. Of each list ..._room is the highest count so far, up to which gan__grow
       has made room. */
    gan__slab *slabs;
    int slab_count;
    gan__block *free_blocks;
    int free_count, free_room;
    size_t held, peak; /* bytes of all tensors now, and the most there were */

    /* The tape. */
    gan_tensor **tape;
    int tape_count, tape_room;
    gan_tensor **temporaries; /* tensors of a gan_backward that nobody outside can see */
    int temporary_count, temporary_room;
    bool recording;  /* operations are put on the tape */
    bool reclaiming; /* tensors are noted as temporaries */
    uint64_t differentiation;
    int gradients; /* how many parameters hold a gradient, which gan_clear leaves */

    /* For messages. */
    char where[128];       /* the layer being computed: gan_conv2d "conv1" */
    const char *where_vjp; /* while a derivative is computed: the layer it belongs to, or NULL */
    bool in_vjp;           /* a derivative is computed */
    char **layer_names;    /* the texts that were in where, for gan_tensor.layer */
    int layer_name_count;
    int layer_name_last; /* the one that was looked up last */

    gan_model *models;
    gan_data *datas;
    gan_progress *logs;

    /* Two buffers on the host (staging buffers) in which numbers stand on their way between the
       device and a file, a picture or a comparison. */
    void *staging[2];
    size_t staging_size[2];

    /* compare:A,B. */
    gan__slab *guarded; /* the numbers of A that guards lie around */
    int guarded_count, guarded_room;
    gan__memory compare_input[5]; /* on the host: A's inputs as they were before the kernel */
    gan__memory compare_in[5];    /* on B, between guards: copies of A's inputs */
    gan__memory compare_out[3];   /* and of its outputs */

    /* gan_profile. */
    double kernel_calls;
    double profile_seconds[GAN__KERNEL_COUNT], profile_flops[GAN__KERNEL_COUNT];
    double profile_bytes[GAN__KERNEL_COUNT], profile_calls[GAN__KERNEL_COUNT];

    struct gan__doctor *doctor;
    bool look; /* the doctor looks at this step: gan__run and gan_step tell it what they see */

    /* gan_plan and gan_capture. */
    struct gan__plan *plan;         /* a plan is under way, or the recording of a step */
    struct gan__capture *captures;  /* steps given to gan_capture */
    struct gan__capture *capturing; /* the one that is being captured, or NULL */
    int captured_count;             /* those that can be replayed: memory stays where it is, */
    gan_mark floor;                 /* and the tensors up to here are theirs */
};

/* compare:A,B: what lies before and behind each operand of a kernel. */
enum { GAN__GUARD_BYTES = 64 };

static gan_tensor *gan__param_at(gan *g, const gan_real *data);
static void gan__doctor_watch(gan *g, int k, const void *p, const gan__cost *cost,
                              const gan_real *y);
static void gan__doctor_loss(gan *g, gan_tensor *loss, gan_model *model);
static void gan__doctor_forget(gan *g, int tape);
static void gan__plan_kernel(gan *g, int k, const void *p, const gan__cost *cost,
                             const gan_real *const *x, const gan_real *y);
static bool gan__planned(gan *g, const char *function);
static void gan__replay_value_add(gan *g, gan_opt *opt, gan_data *data, int n);

/* What a message begins with: the layer being computed or differentiated, else the function. */
static const char *gan__where(gan *g, const char *function)
{
    if (g && g->where[0])
        return g->where;
    return g && g->where_vjp ? g->where_vjp : function;
}

/* After an error, which may have left a layer or a derivative in the middle. */
static void gan__clear_where(gan *g)
{
    if (g) {
        g->where[0] = 0;
        g->where_vjp = NULL;
        g->in_vjp = false;
        g->recording = true;
        g->reclaiming = false;
        g->temporary_count = 0;
    }
}

/* The layer to which a new tensor belongs, as text that stays until gan_close; NULL outside of
   layers. Layers follow each other in the same order in each step: the next is looked at first. */
static const char *gan__layer_name(gan *g)
{
    if (!g->where[0])
        return g->where_vjp;
    for (int i = 0; i < g->layer_name_count; i++) {
        int k = (g->layer_name_last + i) % g->layer_name_count;
        if (strcmp(g->layer_names[k], g->where) == 0) {
            g->layer_name_last = k;
            return g->layer_names[k];
        }
    }
    g->layer_names = (char **)gan__grow(g->layer_names, (size_t)g->layer_name_count,
                                        sizeof *g->layer_names);
    g->layer_name_last = g->layer_name_count++;
    return g->layer_names[g->layer_name_last] = gan__copy_string(g->where);
}

static gan *gan__check_device(const gan *g, const char *function)
{
    if (!g)
        gan__fail(
            NULL, function,
            "the device is NULL; gan_open gives NULL when it fails, and gan_error() says why");
    return (gan *)g;
}

/* Seconds from some fixed moment. */
static double gan__now(void)
{
#if defined(GAN__POSIX)
    struct timeval now;
    gettimeofday(&now, NULL);
    return (double)now.tv_sec + 1e-6 * (double)now.tv_usec;
#else
    return (double)clock() / CLOCKS_PER_SEC; /* wall time in Microsoft's C library */
#endif
}

static void *gan__try_device_alloc(const gan_backend *b, size_t bytes)
{
    return b->alloc ? b->alloc(bytes) : GAN_MALLOC(bytes + 64);
}

static void gan__out_of_memory(gan *g, const gan_backend *b, double bytes)
{
    gan__fail(g, "gan.h", "out of memory on \"%s\": %.0f bytes wanted, %.0f held", b->name, bytes,
              (double)g->held);
}

static void *gan__device_alloc(gan *g, const gan_backend *b, size_t bytes)
{
    void *memory = gan__try_device_alloc(b, bytes);
    if (!memory)
        gan__out_of_memory(g, b, (double)bytes);
    return memory;
}

static void gan__device_free(const gan_backend *b, void *memory)
{
    if (b->release)
        b->release(memory);
    else
        GAN_FREE(memory);
}

/* To and from the device: fn is the backend's upload or download. */
static void gan__move(void (*fn)(void *, const void *, size_t), void *to, const void *from,
                      size_t bytes)
{
    if (fn)
        fn(to, from, bytes);
    else
        memcpy(to, from, bytes);
}

static void gan__upload(const gan_backend *b, void *to, const void *host, size_t bytes)
{
    gan__move(b->upload, to, host, bytes);
}

static void gan__download(const gan_backend *b, void *host, const void *from, size_t bytes)
{
    gan__move(b->download, host, from, bytes);
}

/* The backend called name, able to run here, for gan_open(device); or NULL. */
static const gan_backend *gan__open_backend(const char *device, const char *name)
{
    const gan_backend *found = gan_find_backend(name);
    if (!found) {
        char known[256] = "ref, cpu";
        for (int i = 0; i < gan__registered_count; i++)
            snprintf(known + strlen(known), sizeof known - strlen(known), ", %s",
                     gan__registered[i].name);
        gan__refuse("gan_open(\"%s\"): there is no backend \"%s\"; there are %s and compare:A,B%s",
                    device, name, known,
                    gan_find_backend("cuda")
                        ? ""
                        : ". For cuda compile gan_cuda.cu with nvcc and link it to the program");
        return NULL;
    }
    const char *why = found->start ? found->start() : NULL;
    if (why) {
        gan__refuse("gan_open(\"%s\"): %s", device, why);
        return NULL;
    }
    return found;
}

GAN_API gan *gan_open(const char *device, uint64_t seed)
{
    if (!device)
        gan__fail(NULL, "gan_open", "the device is NULL; \"cpu\" is the usual one");
    bool compare = strncmp(device, "compare:", 8) == 0;
    const char *first = compare ? device + 8 : device;
    const char *comma = compare ? strchr(first, ',') : NULL;
    if (compare && !comma) {
        gan__refuse("gan_open(\"%s\"): compare wants two backends, as in \"compare:ref,cpu\"",
                    device);
        return NULL;
    }
    char name[64];
    snprintf(name, sizeof name, "%.*s", comma ? (int)GAN__MIN(comma - first, 63) : 63, first);
    const gan_backend *backend = gan__open_backend(device, name);
    if (!backend)
        return NULL;
    const gan_backend *other = comma ? gan__open_backend(device, comma + 1) : NULL;
    if (comma && !other)
        return NULL;
    gan *g = (gan *)gan__alloc_zero(sizeof *g);
    g->backend = backend;
    g->other = other;
    g->seed = seed;
    g->recording = true;
    return g;
}

GAN_API void gan_set_threads(gan *g, int threads)
{
    if (g)
        g->threads = GAN__MAX(threads, 0);
    else
        gan__thread.threads = GAN__MAX(threads, 0);
}

GAN_API size_t gan_memory(const gan *g, size_t *peak)
{
    gan__check_device(g, "gan_memory");
    if (peak)
        *peak = g->peak;
    return g->held;
}

static void gan__account(gan *g, ptrdiff_t bytes)
{
    g->held += (size_t)bytes;
    g->peak = GAN__MAX(g->peak, g->held);
}

/* A node of zeros: the first of the queue if it has waited long enough, or a new one. */
static gan__node *gan__take_node(gan *g)
{
    gan__node *node = g->freed_first;
    if (node && (g->clears >= node->reusable_from || g->freed_count > 2 * g->longest_tape)) {
        g->freed_first = node->next;
        g->freed_count--;
    } else {
        int slab = g->nodes_made / GAN__NODES_PER_SLAB;
        if (slab == g->node_slab_count) {
            g->node_slabs = (gan__node **)gan__grow(g->node_slabs, (size_t)slab,
                                                    sizeof *g->node_slabs);
            g->node_slabs[g->node_slab_count++] = (gan__node *)gan__alloc(GAN__NODES_PER_SLAB *
                                                                          sizeof *node);
        }
        node = &g->node_slabs[slab][g->nodes_made++ % GAN__NODES_PER_SLAB];
    }
    return (gan__node *)memset(node, 0, sizeof *node);
}

/* A tensor that was freed, to the end of the queue. */
static void gan__free_node(gan *g, gan_tensor *t)
{
    gan__node *node = (gan__node *)t;
    t->freed = true;
    node->reusable_from = g->clears + 3;
    node->next = NULL;
    if (g->freed_first)
        g->freed_last->next = node;
    else
        g->freed_first = node;
    g->freed_last = node;
    g->freed_count++;
}

/* A tensor that no program has seen, to the front of the queue: nobody can hold a pointer to it. */
static void gan__free_unseen_node(gan *g, gan_tensor *t)
{
    gan__node *node = (gan__node *)t;
    node->reusable_from = 0;
    node->next = g->freed_first;
    if (!g->freed_first)
        g->freed_last = node;
    g->freed_first = node;
    g->freed_count++;
}

static void gan__free_add(gan *g, gan__block block)
{
    if (g->free_count == g->free_room)
        g->free_blocks = (gan__block *)gan__grow(g->free_blocks, (size_t)g->free_room++,
                                                 sizeof block);
    g->free_blocks[g->free_count++] = block;
}

static void gan__slab_add(gan *g, size_t size)
{
    gan__slab slab = {(char *)gan__device_alloc(g, g->backend, size), size};
    g->slabs = (gan__slab *)gan__grow(g->slabs, (size_t)g->slab_count, sizeof slab);
    g->slabs[g->slab_count++] = slab;
}

static void gan__guarded_add(gan *g, char *memory, size_t bytes);
static void gan__guarded_remove(gan *g, const char *memory);

/* The number of the smallest free block of size bytes or more, in a new slab if there is none.
   Small blocks share slabs of 1 MiB. */
static int gan__best_block(gan *g, size_t size)
{
    int best = -1;
    for (int i = 0; i < g->free_count; i++)
        if (g->free_blocks[i].size >= size &&
            (best < 0 || g->free_blocks[i].size < g->free_blocks[best].size))
            best = i;
    if (best >= 0)
        return best;
    gan__slab_add(g, GAN__MAX(size, (size_t)1 << 20));
    gan__slab slab = g->slabs[g->slab_count - 1];
    gan__block whole = {slab.memory, slab.size, g->slab_count - 1};
    gan__free_add(g, whole);
    return g->free_count - 1;
}

/* A block for count numbers: the front of a free one, whose rest stays free. Under compare:A,B it
   lies between two guards. */
static gan__block gan__take_numbers(gan *g, size_t count)
{
    size_t guard = g->other ? GAN__GUARD_BYTES : 0;
    size_t size = ((count * sizeof(gan_real) + 63) & ~(size_t)63) + 2 * guard;
    int best = gan__best_block(g, size);
    gan__block *rest = &g->free_blocks[best];
    gan__block block = {rest->memory + guard, size - 2 * guard, rest->slab};
    rest->memory += size;
    rest->size -= size;
    if (rest->size == 0)
        *rest = g->free_blocks[--g->free_count];
    gan__account(g, (ptrdiff_t)size);
    if (guard)
        gan__guarded_add(g, block.memory, count * sizeof(gan_real));
    return block;
}

/* Gives a block back; free neighbours in its slab become one with it. */
static void gan__give_numbers(gan *g, gan__block block)
{
    if (g->other) {
        gan__guarded_remove(g, block.memory);
        block.memory -= GAN__GUARD_BYTES;
        block.size += 2 * GAN__GUARD_BYTES;
    }
    gan__account(g, -(ptrdiff_t)block.size);
    for (int i = 0; i < g->free_count; i++) {
        gan__block other = g->free_blocks[i];
        bool before = other.memory + other.size == block.memory;
        bool after = block.memory + block.size == other.memory;
        if (other.slab != block.slab || (!before && !after))
            continue;
        if (before)
            block.memory = other.memory;
        block.size += other.size;
        g->free_blocks[i] = g->free_blocks[--g->free_count];
        i = -1; /* the larger block may have another neighbour */
    }
    gan__free_add(g, block);
}

/* t uses its numbers no longer. */
static void gan__release(gan_tensor *t)
{
    if (t->buffer->references > 0 && --t->buffer->references == 0)
        gan__give_numbers(t->g, t->buffer->block);
}

GAN_API gan_mark gan_here(gan *g)
{
    gan_mark mark = {gan__check_device(g, "gan_here")->tape_count};
    return mark;
}

GAN_API void gan_clear_to(gan *g, gan_mark mark)
{
    gan__check_device(g, "gan_clear_to");
    if (mark.tape < 0 || mark.tape > g->tape_count)
        gan__fail(g, "gan_clear_to",
                  "the mark is of %d tensors, %d are there: gan_here came before a gan_clear",
                  mark.tape, g->tape_count);
    if (g->look)
        gan__doctor_forget(g, mark.tape);
    g->longest_tape = GAN__MAX(g->longest_tape, g->tape_count);
    while (g->tape_count > mark.tape) {
        gan_tensor *t = g->tape[--g->tape_count];
        gan__release(t);
        gan__free_node(g, t);
    }
}

/* One slab in the place of several. */
static void gan__merge_slabs(gan *g)
{
    size_t total = 0;
    for (int i = 0; i < g->slab_count; i++) {
        total += g->slabs[i].size;
        gan__device_free(g->backend, g->slabs[i].memory);
    }
    g->slab_count = 0;
    gan__slab_add(g, total);
}

GAN_API void gan_clear(gan *g)
{
    gan__check_device(g, "gan_clear");
    gan_clear_to(g, g->floor);
    g->clears++;
    if (g->gradients || g->captured_count || g->capturing)
        return; /* gradients lie between the free blocks, and recordings know addresses */
    if (g->slab_count > 1)
        gan__merge_slabs(g);
    g->free_count = 0;
    if (g->slab_count == 0)
        return;
    gan__block whole = {g->slabs[0].memory, g->slabs[0].size, 0};
    gan__free_add(g, whole);
}

/* Makes *memory, b's, large enough for count numbers. */
static void *gan__ensure_buffer(gan *g, const gan_backend *b, void **memory, size_t *size,
                                size_t count)
{
    if (*size < count * sizeof(gan_real)) {
        if (*memory)
            gan__device_free(b, *memory);
        *memory = gan__device_alloc(g, b, count * sizeof(gan_real));
        *size = count * sizeof(gan_real);
    }
    return *memory;
}

/* ---- compare:A,B

   Every kernel runs on B and then on A, from the same inputs, and what both made is compared on the
   host. A's results are the ones that the program goes on with.

       A's inputs --> host --> copies for B --> B's kernel --> B's outputs --> host --+
           |                                                                          +--> the same?
           +--------------------------------> A's kernel --> A's outputs --> host ----+

   Around each tensor of A and each copy of B lie guards, numbers that no kernel may change:

       | guard | numbers of an operand | guard |

   A guard is no NaN: a kernel that reads one has a result which differs from the other's, where a
   NaN could pass for a number that is not finite in both. */
#define GAN__GUARD       ((gan_real)-1.7e30)
#define GAN__GUARD_COUNT (GAN__GUARD_BYTES / sizeof(gan_real))

/* Sets the guards around bytes bytes at memory of backend b. */
static void gan__guards_set(const gan_backend *b, char *memory, size_t bytes)
{
    gan_real guard[GAN__GUARD_COUNT];
    for (size_t i = 0; i < GAN__GUARD_COUNT; i++)
        guard[i] = GAN__GUARD;
    gan__upload(b, memory - GAN__GUARD_BYTES, guard, sizeof guard);
    gan__upload(b, memory + bytes, guard, sizeof guard);
}

/* "before" or "behind" where the guard there was changed, or NULL. */
static const char *gan__guards_changed(const gan_backend *b, const char *memory, size_t bytes)
{
    gan_real guard[2][GAN__GUARD_COUNT];
    gan__download(b, guard[0], memory - GAN__GUARD_BYTES, sizeof guard[0]);
    gan__download(b, guard[1], memory + bytes, sizeof guard[1]);
    for (int behind = 0; behind < 2; behind++)
        for (size_t i = 0; i < GAN__GUARD_COUNT; i++)
            if (guard[behind][i] != GAN__GUARD)
                return behind ? "behind" : "before";
    return NULL;
}

/* compare only: numbers of backend A that guards lie around, from now on and no longer. */
static void gan__guarded_add(gan *g, char *memory, size_t bytes)
{
    gan__slab numbers = {memory, bytes};
    if (g->guarded_count == g->guarded_room)
        g->guarded = (gan__slab *)gan__grow(g->guarded, (size_t)g->guarded_room++, sizeof numbers);
    g->guarded[g->guarded_count++] = numbers;
    gan__guards_set(g->backend, memory, bytes);
}

static void gan__guarded_remove(gan *g, const char *memory)
{
    for (int i = g->guarded_count - 1; i >= 0; i--)
        if (g->guarded[i].memory == memory) {
            g->guarded[i] = g->guarded[--g->guarded_count];
            return;
        }
}

/* Device memory of its own for bytes bytes, outside of the slabs: a parameter's, for instance. NULL
   if there is none. */
static void *gan__persistent_alloc(gan *g, size_t bytes)
{
    size_t guard = g->other ? GAN__GUARD_BYTES : 0;
    char *memory = (char *)gan__try_device_alloc(g->backend, bytes + 2 * guard);
    if (!memory)
        return NULL;
    if (guard)
        gan__guarded_add(g, memory + guard, bytes);
    return memory + guard;
}

static void gan__persistent_free(gan *g, void *memory)
{
    size_t guard = g->other ? GAN__GUARD_BYTES : 0;
    if (guard)
        gan__guarded_remove(g, (char *)memory);
    gan__device_free(g->backend, (char *)memory - guard);
}

/* B's copy, between guards, of numbers that lie on the host. */
static gan_real *gan__guarded_copy(gan *g, gan__memory *to, const gan_real *host, size_t count)
{
    size_t with_guards = count + 2 * GAN__GUARD_COUNT;
    gan__ensure_buffer(g, g->other, &to->memory, &to->size, with_guards);
    char *memory = (char *)to->memory + GAN__GUARD_BYTES;
    gan__upload(g->other, memory, host, count * sizeof *host);
    gan__guards_set(g->other, memory, count * sizeof *host);
    return (gan_real *)memory;
}

/* b's count numbers x, copied to one of the two staging buffers on the host. */
static gan_real *gan__staged(gan *g, int which, const gan_backend *b, const gan_real *x,
                             size_t count)
{
    void *host = gan__ensure_buffer(g, &gan__ref, &g->staging[which], &g->staging_size[which],
                                    count);
    gan__download(b, host, x, count * sizeof *x);
    return (gan_real *)host;
}

static double gan__largest(const gan_real *x, size_t count)
{
    double largest = 0;
    for (size_t i = 0; i < count; i++)
        if (fabs((double)x[i]) <= DBL_MAX)
            largest = GAN__MAX(largest, fabs((double)x[i]));
    return largest;
}

/* The tensor whose numbers lie at data, or NULL: the newest one, or a parameter. */
static const gan_tensor *gan__tensor_at(gan *g, const gan_real *data)
{
    for (int i = g->tape_count - 1; i >= 0; i--)
        if (g->tape[i]->data == data)
            return g->tape[i];
    return gan__param_at(g, data);
}

/* The coordinates (n,c,h,w) of element i of t, which has count numbers; i itself where there is no
   such tensor. */
static void gan__element_text(char text[64], const gan_tensor *t, size_t count, size_t i)
{
    if (!t || gan_count(t) != count) {
        snprintf(text, 64, "%.0f", (double)i);
        return;
    }
    size_t plane = (size_t)t->h * t->w;
    snprintf(text, 64, GAN__DIMS, (int)(i / plane / t->c), (int)(i / plane % t->c),
             (int)(i / t->w % t->h), (int)(i % t->w));
}

/* What a kernel was called with, as far as the shape of its result does not show it. */
static void gan__sizes_text(char text[256], int k, const void *p)
{
    text[0] = 0;
    if (k == GAN__K_conv2d || k == GAN__K_conv_transpose2d || k == GAN__K_conv2d_weight) {
        const gan_conv *conv = (const gan_conv *)p;
        gan__conv_geometry geometry = gan__geometry_of(conv);
        snprintf(text, 256,
                 " of images " GAN__DIMS ", weight " GAN__DIMS
                 ", stride %dx%d, padding %dx%d, dilation %dx%d, groups %d",
                 GAN__SHAPE(conv), conv->out_c, geometry.group_in, conv->kernel_h, conv->kernel_w,
                 geometry.stride_h, geometry.stride_w, geometry.pad_h, geometry.pad_w,
                 geometry.dilation_h, geometry.dilation_w, geometry.groups);
    } else if (k == GAN__K_max_index) {
        const gan_pool *pool = (const gan_pool *)p;
        snprintf(text, 256, " of %d planes of %dx%d, window %dx%d, stride %dx%d, padding %dx%d",
                 pool->planes, pool->h, pool->w, pool->kernel_h, pool->kernel_w,
                 pool->stride_h ? pool->stride_h : pool->stride,
                 pool->stride_w ? pool->stride_w : pool->stride, pool->pad + pool->pad_h,
                 pool->pad + pool->pad_w);
    } else if (k == GAN__K_matmul) {
        const gan_product *product = (const gan_product *)p;
        snprintf(text, 256, " of (%dx%d)%s and (%dx%d)%s", product->m, product->k,
                 product->transpose_a ? " transposed" : "", product->k, product->w,
                 product->transpose_b ? " transposed" : "");
    }
}

/* The beginning of a message: the kernel, its sizes, which call it is. */
static void gan__kernel_text(char text[400], gan *g, int k, const void *p)
{
    char sizes[256];
    gan__sizes_text(sizes, k, p);
    snprintf(text, 400, "kernel %s%s (call %.0f%s)", gan__kernels[k].name, sizes, g->kernel_calls,
             g->in_vjp ? ", in a derivative" : "");
}

/* Does kernel k sum products of its first two inputs (2), its first (1), or nothing (0)? Where
   terms cancel, rounding is measured by them. */
static int gan__products_summed(int k)
{
    if (k == GAN__K_matmul || k == GAN__K_conv2d || k == GAN__K_conv_transpose2d ||
        k == GAN__K_conv2d_weight)
        return 2;
    return k == GAN__K_sum || k == GAN__K_norm_stats || k == GAN__K_norm_sums ||
           k == GAN__K_norm_grad;
}

/* How large the terms of a kernel's sums are together, as a random sum grows: sqrt(terms) times the
   largest product; 0 where nothing is summed. */
static double gan__sum_scale(int k, const gan__cost *cost, gan_real *const *inputs)
{
    int products = gan__products_summed(k);
    double scale = sqrt(GAN__MAX(1, cost->flops / (2 * (double)cost->out[0])));
    for (int i = 0; i < products; i++)
        scale *= gan__largest(inputs[i], cost->in[i]);
    return products ? scale : 0;
}

/* The numbers of a gan__guarded_copy. */
static gan_real *gan__numbers_of(const gan__memory *copy)
{
    return (gan_real *)((char *)copy->memory + GAN__GUARD_BYTES);
}

/* How the results x of A and y of B differ. */
typedef struct {
    size_t count, first, worst; /* how many elements, the first of them, that which differs most */
    double most;                /* by how much; infinity where only one is a finite number */
} gan__difference;

static gan__difference gan__difference_of(const gan_real *x, const gan_real *y, size_t count,
                                          double tolerance)
{
    gan__difference d = {0, 0, 0, -1};
    for (size_t i = 0; i < count; i++) {
        bool both_nan = x[i] != x[i] && y[i] != y[i];
        double difference = fabs((double)x[i] - (double)y[i]);
        if (difference <= tolerance || x[i] == y[i] || both_nan)
            continue;
        if (!(difference <= DBL_MAX))
            difference = HUGE_VAL;
        if (d.count++ == 0)
            d.first = i;
        if (difference > d.most) {
            d.most = difference;
            d.worst = i;
        }
    }
    return d;
}

/* Stops where output i of kernel k differs. What may differ is a part of the largest number: of the
   results, or where terms cancel, of the terms. 1e-4 is far above what rounding does (6e-8 for each
   operation, in whatever order a sum is made, and some 5e-7 for exp and its like) and far below the
   part of the result that one wrong term makes. A backend that is compared with itself must give
   the same bits. */
static void gan__compare_results(gan *g, int k, const void *p, const gan__cost *cost, int i,
                                 const gan_real *y, double scale)
{
    size_t count = cost->out[i];
    const gan_real *a = gan__staged(g, 0, g->backend, y, count);
    const gan_real *b = gan__staged(g, 1, g->other, gan__numbers_of(&g->compare_out[i]), count);
    bool twice = g->backend == g->other;
    double part = twice ? 0 : sizeof(gan_real) == 8 ? 1e-10 : 1e-4;
    double tolerance = part * GAN__MAX(gan__largest(a, count), scale);
    gan__difference d = gan__difference_of(a, b, count, tolerance);
    if (!d.count)
        return;
    const gan_tensor *t = gan__tensor_at(g, y);
    char kernel[400], result[16] = "", shape[64] = "", first[64], worst[64], who[160];
    gan__kernel_text(kernel, g, k, p);
    if (gan__kernels[k].out > 1)
        snprintf(result, sizeof result, " %d", i + 1);
    if (t && gan_count(t) == count)
        snprintf(shape, sizeof shape, " " GAN__DIMS, GAN__SHAPE(t));
    gan__element_text(first, t, count, d.first);
    gan__element_text(worst, t, count, d.worst);
    if (twice)
        snprintf(who, sizeof who, "two runs of %.60s differ", g->backend->name);
    else
        snprintf(who, sizeof who, "%.60s and %.60s differ", g->backend->name, g->other->name);
    gan__fail(g, gan__kernels[k].name,
              "%s in %s: %.0f of %.0f elements of its result%s%s, first at %s: %.8g and %.8g; the "
              "most at %s: %.8g and %.8g, %.3g allowed%s",
              who, kernel, (double)d.count, (double)count, result, shape, first, (double)a[d.first],
              (double)b[d.first], worst, (double)a[d.worst], (double)b[d.worst], tolerance,
              twice ? "; it depends on which thread comes first, or on memory that nobody wrote"
                    : "");
}

/* Stops: backend b's kernel did something it must not do. */
static void gan__compare_fail(gan *g, int k, const void *p, const gan_backend *b, const char *did)
{
    char kernel[400];
    gan__kernel_text(kernel, g, k, p);
    gan__fail(g, gan__kernels[k].name, "%.60s's %s %s", b->name, kernel, did);
}

/* Stops if the guards around count numbers x of backend b have changed. what: whose numbers. */
static void gan__check_guards(gan *g, int k, const void *p, const gan_backend *b, const gan_real *x,
                              size_t count, const char *what, int number)
{
    const char *side = gan__guards_changed(b, (const char *)x, count * sizeof *x);
    if (!side)
        return;
    char did[128];
    snprintf(did, sizeof did, "wrote %s %s", side, what);
    if (number > 0)
        snprintf(did + strlen(did), sizeof did - strlen(did), " %d", number);
    gan__guards_set(b, (char *)x, count * sizeof *x); /* the device can go on */
    gan__compare_fail(g, k, p, b, did);
}

/* The inputs x of backend b are still what they were, host. An input that is an output too, as in
   an in-place function, may change. */
static void gan__check_inputs(gan *g, int k, const void *p, const gan__cost *cost,
                              const gan_backend *b, const gan_real *const *x,
                              gan_real *const *outputs)
{
    for (int i = 0; i < gan__kernels[k].in; i++) {
        size_t bytes = cost->in[i] * sizeof(gan_real);
        bool in_place = false;
        for (int o = 0; o < gan__kernels[k].out; o++)
            in_place |= x[i] < outputs[o] + cost->out[o] && outputs[o] < x[i] + cost->in[i];
        if (in_place)
            continue;
        const gan_real *now = gan__staged(g, 0, b, x[i], cost->in[i]);
        if (memcmp(now, g->compare_input[i].memory, bytes) == 0)
            continue;
        char did[64];
        snprintf(did, sizeof did, "changed its input %d", i + 1);
        gan__compare_fail(g, k, p, b, did);
    }
}

/* Before A's kernel: B's, from copies of A's operands. Outputs are copied too, as optimizers read
   theirs and a copy with strides leaves gaps. */
static double gan__compare_begin(gan *g, int k, const void *p, const gan__cost *cost,
                                 const gan_real *const *x, gan_real *const *y)
{
    const gan_backend *a = g->backend, *b = g->other;
    const gan__kernel *kernel = &gan__kernels[k];
    gan_real *inputs[5] = {NULL, NULL, NULL, NULL, NULL};
    gan_real *in[5] = {NULL, NULL, NULL, NULL, NULL};
    gan_real *out[3] = {NULL, NULL, NULL};
    for (int i = 0; i < kernel->in; i++) {
        gan__memory *kept = &g->compare_input[i];
        inputs[i] = (gan_real *)gan__ensure_buffer(g, &gan__ref, &kept->memory, &kept->size,
                                                   cost->in[i]);
        gan__download(a, inputs[i], x[i], cost->in[i] * sizeof *inputs[i]);
        in[i] = gan__guarded_copy(g, &g->compare_in[i], inputs[i], cost->in[i]);
    }
    for (int i = 0; i < kernel->out; i++) {
        const gan_real *host = gan__staged(g, 0, a, y[i], cost->out[i]);
        out[i] = gan__guarded_copy(g, &g->compare_out[i], host, cost->out[i]);
    }
    kernel->call(b, p, (const gan_real *const *)in, out);
    for (int i = 0; i < kernel->in; i++)
        gan__check_guards(g, k, p, b, in[i], cost->in[i], "its input", i + 1);
    for (int i = 0; i < kernel->out; i++)
        gan__check_guards(g, k, p, b, out[i], cost->out[i], "its result", i + 1);
    gan__check_inputs(g, k, p, cost, b, (const gan_real *const *)in, out);
    return gan__sum_scale(k, cost, inputs);
}

/* After A's kernel. In the host's memory the guards of all tensors are looked at, elsewhere, where
   each look is a transfer, those of the operands. */
static void gan__compare_end(gan *g, int k, const void *p, const gan__cost *cost,
                             const gan_real *const *x, gan_real *const *y, double scale)
{
    const gan_backend *a = g->backend;
    const gan__kernel *kernel = &gan__kernels[k];
    for (int i = 0; i < g->guarded_count; i++) {
        const gan_real *numbers = (const gan_real *)g->guarded[i].memory;
        size_t count = g->guarded[i].size / sizeof *numbers;
        const char *what = NULL;
        int number = 0;
        for (int o = 0; o < kernel->in; o++)
            if (x[o] == numbers) {
                what = "its input";
                number = o + 1;
            }
        for (int o = 0; o < kernel->out; o++)
            if (y[o] == numbers) {
                what = "its result";
                number = o + 1;
            }
        if (!what && !a->download)
            what = "a tensor that is none of its operands";
        if (what)
            gan__check_guards(g, k, p, a, numbers, count, what, number);
    }
    gan__check_inputs(g, k, p, cost, a, x, y);
    for (int i = 0; i < kernel->out; i++)
        gan__compare_results(g, k, p, cost, i, y[i], scale);
}

/* A kernel's call, for gan_profile. */
static void gan__profile_note(gan *g, int k, const gan__cost *cost, double seconds)
{
    double numbers = 0;
    for (int i = 0; i < 5; i++)
        numbers += (double)cost->in[i];
    for (int i = 0; i < 3; i++)
        numbers += (double)cost->out[i];
    g->profile_calls[k]++;
    g->profile_seconds[k] += seconds;
    g->profile_flops[k] += cost->flops;
    g->profile_bytes[k] += numbers * sizeof(gan_real);
}

/* Runs kernel k with sizes p, inputs x and outputs y on g's backend: every call of a kernel for
   tensors goes through here. */
static void gan__run(gan *g, int k, const void *p, const gan_real *const *x, gan_real *const *y)
{
    gan__cost cost = gan__kernels[k].cost(p);
    if (g->plan && !g->capturing) {
        gan__plan_kernel(g, k, p, &cost, x, y[0]);
        return;
    }
    g->kernel_calls++;
    gan__thread.g_threads = g->threads;
    double scale = g->other ? gan__compare_begin(g, k, p, &cost, x, y) : 0;
    double start = gan__now();
    gan__kernels[k].call(g->backend, p, x, y);
    double seconds = gan__now() - start;
    if (g->other)
        gan__compare_end(g, k, p, &cost, x, y, scale);
    gan__thread.g_threads = 0;
    gan__profile_note(g, k, &cost, seconds);
    if (g->look)
        gan__doctor_watch(g, k, p, &cost, y[0]);
}

static void gan__run_1(gan *g, int k, const void *p, const gan_real *x, gan_real *y)
{
    gan__run(g, k, p, &x, &y);
}

static void gan__run_2(gan *g, int k, const void *p, const gan_real *a, const gan_real *b,
                       gan_real *y)
{
    const gan_real *x[2] = {a, b};
    gan__run(g, k, p, x, &y);
}

/* ===========================================================================================
   >>tensors (implementation)
   =========================================================================================== */
/* Fails unless x is a tensor that has not been freed; returns x's device. Reading the struct of a
   freed tensor is possible because gan__node keeps it for a while. */
static gan *gan__alive(const gan_tensor *x, const char *function)
{
    if (!x)
        gan__fail(NULL, function, "a tensor is NULL");
    if (x->freed)
        gan__fail(x->g, function,
                  "the tensor " GAN__DIMS
                  " was freed by gan_clear (or gan_clear_to): use it before, or keep its numbers "
                  "with gan_to_host",
                  GAN__SHAPE(x));
    return x->g;
}

/* The same, and fails if an in-place function such as gan_relu_ has overwritten x's numbers. */
static gan *gan__valid(const gan_tensor *x, const char *function)
{
    gan *g = gan__alive(x, function);
    if (x->overwritten)
        gan__fail(g, function,
                  "the tensor " GAN__DIMS
                  " was overwritten by an in-place function; use that one's result",
                  GAN__SHAPE(x));
    return g;
}

GAN_API size_t gan_count(const gan_tensor *t)
{
    gan__alive(t, "gan_count");
    return gan__size(GAN__SHAPE(t));
}

static bool gan__same_shape(const gan_tensor *a, const gan_tensor *b)
{
    return a->n == b->n && a->c == b->c && a->h == b->h && a->w == b->w;
}

static void gan__valid_pair(const gan_tensor *a, const gan_tensor *b, const char *function)
{
    gan__valid(a, function);
    gan__valid(b, function);
    if (a->g != b->g)
        gan__fail(a->g, function, "the two tensors belong to different gan_open");
}

/* Fails unless a tensor (n,c,h,w) can be made on g. The product is computed in double, where it
   cannot overflow. */
static void gan__check_shape(gan *g, const char *function, int n, int c, int h, int w)
{
    double count = (double)n * c * h * w;
    gan__check_device(g, function);
    if (n < 1 || c < 1 || h < 1 || w < 1 || count > 2147483647.0)
        gan__fail(g, function,
                  "shape " GAN__DIMS ": each size is 1 or more, and their product below 2^31", n, c,
                  h, w);
}

/* Adds t at the end of a list of *count tensors, which has memory for *room or more: gan__grow
   doubles it where *room is a power of two. */
static void gan__append(gan_tensor ***list, int *count, int *room, gan_tensor *t)
{
    if (*count == *room)
        *list = (gan_tensor **)gan__grow(*list, (size_t)(*room)++, sizeof t);
    (*list)[(*count)++] = t;
}

/* A new tensor, put on the tape. It shares the numbers of buffer with other tensors; if buffer is
   NULL, it gets memory of its own, not yet written. During gan_backward it is also put on the list
   of temporaries, whose memory is used again as soon as possible. */
static gan_tensor *gan__tensor(gan *g, gan__buffer *buffer, int n, int c, int h, int w)
{
    gan__node *node = gan__take_node(g);
    gan_tensor *t = &node->tensor;
    t->n = n;
    t->c = c;
    t->h = h;
    t->w = w;
    t->g = g;
    t->layer = gan__layer_name(g);
    if (!buffer) {
        buffer = &node->numbers;
        buffer->block = gan__take_numbers(g, gan_count(t));
    }
    t->buffer = buffer;
    t->data = (gan_real *)buffer->block.memory;
    buffer->references++;
    t->tape = g->tape_count;
    gan__append(&g->tape, &g->tape_count, &g->tape_room, t);
    if (g->reclaiming)
        gan__append(&g->temporaries, &g->temporary_count, &g->temporary_room, t);
    return t;
}

/* Notes that y was computed by op from a, b and c (NULL where there are fewer). Every operation
   ends with it. Without it y is a leaf. */
static gan_tensor *gan__record(gan_tensor *y, const struct gan__op *op, gan_tensor *a,
                               gan_tensor *b, gan_tensor *c)
{
    if (!y->g->recording)
        return y;
    y->op = op;
    y->in[0] = a;
    y->in[1] = b;
    y->in[2] = c;
    for (int i = 0; i < 3; i++)
        if (y->in[i])
            y->in[i]->uses++;
    return y;
}

/* A parameter, a buffer or a moment of an optimizer. It lies on no tape, so that gan_clear leaves
   it, and has memory of its own until gan_close. NULL if there is no memory. */
static gan_tensor *gan__persistent_tensor(gan *g, int n, int c, int h, int w)
{
    gan__planned(g, "a new parameter or optimizer state");
    size_t size = (size_t)n * c * h * w * sizeof(gan_real);
    gan_tensor *t = (gan_tensor *)gan__try_alloc(sizeof *t);
    gan__buffer *buffer = (gan__buffer *)gan__try_alloc(sizeof *buffer);
    void *numbers = t && buffer ? gan__persistent_alloc(g, size) : NULL;
    if (!numbers) {
        GAN_FREE(t);
        GAN_FREE(buffer);
        return NULL;
    }
    memset(t, 0, sizeof *t);
    memset(buffer, 0, sizeof *buffer);
    t->n = n;
    t->c = c;
    t->h = h;
    t->w = w;
    t->g = g;
    t->tape = -1; /* on no tape */
    t->buffer = buffer;
    t->buffer->references = 1;
    t->buffer->block.size = size;
    t->buffer->block.memory = (char *)numbers;
    t->data = (gan_real *)numbers;
    gan__account(g, (ptrdiff_t)size);
    return t;
}

static void gan__persistent_tensor_free(gan_tensor *t)
{
    if (!t)
        return;
    gan__account(t->g, -(ptrdiff_t)t->buffer->block.size);
    gan__persistent_free(t->g, t->data);
    GAN_FREE(t->param_grad);
    GAN_FREE(t->buffer);
    GAN_FREE(t);
}

/* Writes value into all of t's numbers; returns t. */
static gan_tensor *gan__fill_with(gan_tensor *t, gan_real value)
{
    gan_fill p = {gan_count(t), value};
    gan__run_1(t->g, GAN__K_fill, &p, NULL, t->data);
    return t;
}

GAN_API gan_tensor *gan_full(gan *g, gan_real value, int n, int c, int h, int w)
{
    gan__check_shape(g, "gan_full", n, c, h, w);
    return gan__fill_with(gan__tensor(g, NULL, n, c, h, w), value);
}

GAN_API gan_tensor *gan_zeros(gan *g, int n, int c, int h, int w)
{
    gan__check_shape(g, "gan_zeros", n, c, h, w);
    return gan_full(g, 0, n, c, h, w);
}

/* gan_from_host for numbers that are the same in every step, such as the tables of a resampling:
   unlike gan_from_host it may be called while gan_capture records a step. */
static gan_tensor *gan__constant(gan *g, const gan_real *data, int n, int c, int h, int w)
{
    gan_tensor *t = gan__tensor(g, NULL, n, c, h, w);
    gan__upload(g->backend, t->data, data, gan_count(t) * sizeof(gan_real));
    return t;
}

GAN_API gan_tensor *gan_from_host(gan *g, const gan_real *data, int n, int c, int h, int w)
{
    gan__check_shape(g, "gan_from_host", n, c, h, w);
    if (!data)
        gan__fail(g, "gan_from_host", "data is NULL; " GAN__DIMS " wants %.0f numbers", n, c, h, w,
                  (double)n * c * h * w);
    gan__planned(g, "gan_from_host");
    return gan__constant(g, data, n, c, h, w);
}

GAN_API void gan_to_host(const gan_tensor *t, gan_real *out)
{
    gan__valid(t, "gan_to_host");
    if (!out)
        gan__fail(t->g, "gan_to_host",
                  "out is NULL; the tensor " GAN__DIMS " has %.0f numbers to put there",
                  GAN__SHAPE(t), (double)gan_count(t));
    if (gan__planned(t->g, "gan_item, or another that reads a tensor"))
        memset(out, 0, gan_count(t) * sizeof(gan_real));
    else
        gan__download(t->g->backend, out, t->data, gan_count(t) * sizeof(gan_real));
}

GAN_API gan_real gan_item(const gan_tensor *t)
{
    gan_real value = 0;
    gan__valid(t, "gan_item");
    if (gan_count(t) != 1)
        gan__fail(t->g, "gan_item", "the tensor " GAN__DIMS " has %.0f numbers, 1 is wanted",
                  GAN__SHAPE(t), (double)gan_count(t));
    gan_to_host(t, &value);
    return value;
}

GAN_API void gan_set(gan_tensor *t, const gan_real *data)
{
    gan__valid(t, "gan_set");
    if (!data)
        gan__fail(t->g, "gan_set", "data is NULL; the tensor " GAN__DIMS " wants %.0f numbers",
                  GAN__SHAPE(t), (double)gan_count(t));
    if (!gan__planned(t->g, "gan_set"))
        gan__upload(t->g->backend, t->data, data, gan_count(t) * sizeof(gan_real));
}

GAN_API gan_tensor *gan_detach(gan_tensor *x)
{
    gan *g = gan__valid(x, "gan_detach");
    return gan__tensor(g, x->buffer, GAN__SHAPE(x));
}

/* ===========================================================================================
   >>random (implementation)
   ===========================================================================================
   gan__philox and gan__random_block stand above PART II: gan_cuda.cu has them too. */

/* Streams: gan_rand and gan_randn, shuffles, strokes, gradient checks, shapes; a parameter's own
   is a hash of its name, above these. */
enum {
    GAN__STREAM_DRAW,
    GAN__STREAM_SHUFFLE,
    GAN__STREAM_DIGITS,
    GAN__STREAM_CHECK,
    GAN__STREAM_SHAPES
};

static void gan__random_body(void *argument, size_t begin, size_t end, int thread)
{
    gan__job *job = (gan__job *)argument;
    gan_real four[4];
    (void)thread;
    for (size_t i = begin; i < end; i += 4) {
        gan__random_block((const gan_random *)job->p, i / 4, four);
        memcpy(job->out[0] + i, four, GAN__MIN((size_t)4, end - i) * sizeof *four);
    }
}

static gan__cost gan__cost_random(const gan_random *p)
{
    gan__cost cost = {{0}, {p->count}, 0};
    return cost;
}

GAN_API void gan_ref_random(const gan_random *p, gan_real *y)
{
    gan__job job = {p, {NULL}, {y}};
    gan__random_body(&job, 0, p->count, 0);
}

GAN_API void gan_cpu_random(const gan_random *p, gan_real *y)
{
    gan__job job = {p, {NULL}, {y}};
    gan__parallel(p->count, 4096, gan__random_body, &job);
}

static gan_tensor *gan__draw(gan *g, const char *function, int normal, int n, int c, int h, int w)
{
    gan__check_shape(g, function, n, c, h, w);
    gan_tensor *t = gan__tensor(g, NULL, n, c, h, w);
    gan_random p = {normal, gan_count(t), g->seed, GAN__STREAM_DRAW, g->drawn, 1, 0};
    g->drawn += (gan_count(t) + 3) / 4;
    gan__run_1(g, GAN__K_random, &p, NULL, t->data);
    gan__replay_value_add(g, NULL, NULL, 0);
    return t;
}

GAN_API gan_tensor *gan_rand(gan *g, int n, int c, int h, int w)
{
    return gan__draw(g, "gan_rand", 0, n, c, h, w);
}

GAN_API gan_tensor *gan_randn(gan *g, int n, int c, int h, int w)
{
    return gan__draw(g, "gan_randn", 1, n, c, h, w);
}

GAN_API void gan_seed(gan *g, uint64_t seed)
{
    if (!g)
        gan__fail(NULL, "gan_seed", "the device is NULL");
    g->seed = seed;
    g->drawn = 0;
}

/* ===========================================================================================
   >>arithmetic (implementation)
   =========================================================================================== */
static gan__cost gan__cost_fill(const gan_fill *p)
{
    gan__cost cost = {{0}, {p->count}, 0};
    return cost;
}

GAN_API void gan_ref_fill(const gan_fill *p, gan_real *y)
{
    for (size_t i = 0; i < p->count; i++)
        y[i] = p->value;
}

static void gan__fill_body(void *argument, size_t begin, size_t end, int thread)
{
    gan__job *job = (gan__job *)argument;
    gan_fill p = {end - begin, ((const gan_fill *)job->p)->value};
    (void)thread;
    gan_ref_fill(&p, job->out[0] + begin);
}

GAN_API void gan_cpu_fill(const gan_fill *p, gan_real *y)
{
    gan__job job = {p, {NULL}, {y}};
    gan__parallel(p->count, 65536, gan__fill_body, &job);
}

static gan__cost gan__cost_map(const gan_map *p)
{
    gan__cost cost = {{p->count}, {p->count}, (double)p->count};
    return cost;
}

GAN_API void gan_ref_map(const gan_map *p, const gan_real *x, gan_real *y)
{
    for (size_t i = 0; i < p->count; i++)
        y[i] = gan__map_one(p->op, x[i], p->a, p->b);
}

static void gan__map_body(void *argument, size_t begin, size_t end, int thread)
{
    gan__job *job = (gan__job *)argument;
    (void)thread;
    gan__simd()->map((const gan_map *)job->p, job->in[0] + begin, job->out[0] + begin, end - begin);
}

GAN_API void gan_cpu_map(const gan_map *p, const gan_real *x, gan_real *y)
{
    gan__job job = {p, {x}, {y}};
    gan__parallel(p->count, 16384, gan__map_body, &job);
}

static gan__cost gan__cost_zip(const gan_zip *p)
{
    size_t n = gan__size(GAN__SHAPE(p));
    size_t a = gan__extent(GAN__SHAPE(p), p->a);
    size_t b = gan__extent(GAN__SHAPE(p), p->b);
    gan__cost cost = {{a, b}, {n}, (double)n};
    return cost;
}

GAN_API void gan_ref_zip(const gan_zip *p, const gan_real *a, const gan_real *b, gan_real *y)
{
    for (int n = 0; n < p->n; n++)
        for (int c = 0; c < p->c; c++)
            for (int h = 0; h < p->h; h++)
                for (int w = 0; w < p->w; w++)
                    *y++ = gan__zip_one(
                        p->op, a[n * p->a[0] + c * p->a[1] + h * p->a[2] + w * p->a[3]],
                        b[n * p->b[0] + c * p->b[1] + h * p->b[2] + w * p->b[3]], p->k, p->l);
}

/* A loop over dims dimensions and two arrays a and b. stride_a[d] says how far apart a's neighbours
   along dimension d lie in memory, 0 where one number is repeated; stride_b likewise. Neighbouring
   dimensions are merged into one where both arrays allow it, so that the last dimension, the inner
   loop, is as long as possible. Bias b (1,C,1,1) added to a (N,C,H,W) = (8,3,4,5):

       size       8   3   4   5     the four dimensions
       stride_a  60  20   5   1
       stride_b   0   1   0   0
                          \___/     H and W become one dimension of 20: in both arrays a row begins
       size       8   3    20       where the one before ends (a: 5 = 1 * 5; b: 0 = 0 * 5).
       stride_a  60  20     1       N and C stay apart: b's next image would have to begin 3 numbers
       stride_b   0   1     0       further on (1 * 3), but begins 0 further on */
typedef struct {
    int dims, size[4];
    ptrdiff_t stride_a[4], stride_b[4];
    const void *p;         /* the kernel's sizes */
    const gan_real *in[2]; /* a and b in gan_cpu_zip; x in gan_cpu_sum and gan_cpu_copy */
    gan_real *y;
    double *partial_sums; /* gan_cpu_sum, all into one number: of each part_length numbers of x */
    size_t part_length;
} gan__strided_loop;

/* The loop over (n,c,h,w) with arrays of strides a and b, its dimensions merged. in is set by the
   caller. */
static gan__strided_loop gan__strided_loop_of(int n, int c, int h, int w, const ptrdiff_t a[4],
                                              const ptrdiff_t b[4], const void *p, gan_real *y)
{
    gan__strided_loop loop = {0, {n, c, h, w}, {1}, {1}, p, {NULL}, y, NULL, 0};
    for (int i = 0; i < 4; i++) {
        if (loop.size[i] == 1)
            continue;
        if (loop.dims && loop.stride_a[loop.dims - 1] == a[i] * loop.size[i] &&
            loop.stride_b[loop.dims - 1] == b[i] * loop.size[i])
            loop.size[loop.dims - 1] *= loop.size[i];
        else
            loop.size[loop.dims++] = loop.size[i];
        loop.stride_a[loop.dims - 1] = a[i];
        loop.stride_b[loop.dims - 1] = b[i];
    }
    loop.dims = GAN__MAX(loop.dims, 1);
    return loop;
}

/* How far from the start of the two arrays a line, a run of the last dimension, begins. */
static void gan__strided_loop_offsets(const gan__strided_loop *loop, size_t line, ptrdiff_t *a,
                                      ptrdiff_t *b)
{
    *a = *b = 0;
    for (int d = loop->dims - 2; d >= 0; d--) {
        ptrdiff_t place = (ptrdiff_t)(line % loop->size[d]);
        *a += place * loop->stride_a[d];
        *b += place * loop->stride_b[d];
        line /= loop->size[d];
    }
}

/* n numbers of an array, step apart, as neighbours: the array itself if step is 1, else copy. */
static const gan_real *gan__neighbours(const gan_real *x, ptrdiff_t step, size_t n, gan_real *copy)
{
    if (step == 1)
        return x;
    for (size_t i = 0; i < n; i++)
        copy[i] = x[(ptrdiff_t)i * step];
    return copy;
}

/* Computes y's numbers begin .. end-1, line by line of the last dimension. simd->zip reads numbers
   that are neighbours in memory: where those of a or b are not, they are copied first, 256 at a
   time. One number of b that is repeated along the line (a bias, a scalar) is frequent and needs no
   copy: simd->zip is told to read that number alone. */
static void gan__zip_body(void *job, size_t begin, size_t end, int thread)
{
    const gan__strided_loop *loop = (const gan__strided_loop *)job;
    const gan__simd_table *simd = gan__simd();
    const gan_zip *p = (const gan_zip *)loop->p;
    const size_t length = (size_t)loop->size[loop->dims - 1];
    const ptrdiff_t step_a = loop->stride_a[loop->dims - 1];
    const ptrdiff_t step_b = loop->stride_b[loop->dims - 1];
    const bool repeated = step_b == 0;
    const bool copied = step_a != 1 || step_b > 1;
    const size_t most = copied ? 256 : length;
    gan_real copy_a[256], copy_b[256];
    (void)thread;
    for (size_t n; begin < end; begin += n) {
        ptrdiff_t from_a, from_b;
        const size_t at = begin % length;
        gan__strided_loop_offsets(loop, begin / length, &from_a, &from_b);
        const gan_real *a = loop->in[0] + from_a + (ptrdiff_t)at * step_a;
        const gan_real *b = loop->in[1] + from_b + (ptrdiff_t)at * step_b;
        n = GAN__MIN(GAN__MIN(end - begin, length - at), most);
        a = gan__neighbours(a, step_a, n, copy_a);
        b = repeated ? b : gan__neighbours(b, step_b, n, copy_b);
        simd->zip(p, a, b, !repeated, loop->y + begin, n);
    }
}

GAN_API void gan_cpu_zip(const gan_zip *p, const gan_real *a, const gan_real *b, gan_real *y)
{
    gan__strided_loop loop = gan__strided_loop_of(GAN__SHAPE(p), p->a, p->b, p, y);
    loop.in[0] = a;
    loop.in[1] = b;
    gan__parallel(gan__size(GAN__SHAPE(p)), 16384, gan__zip_body, &loop);
}

/* ---- tensors: y = op(x), whose derivative gy * op'(x) is computed by tensor functions, too, so
   that it has derivatives itself. gan__map_ops and gan__zip_ops have a row for each operation of
   GAN_MAP_OPS and GAN_ZIP_OPS: name, function for the derivative, whether that reads y. */

static gan__vjp gan__map_vjp, gan__zip_vjp;
#define GAN__MAP_ROW(op, name, needs_y, formula, derivative) {name, gan__map_vjp, needs_y},
#define GAN__ZIP_ROW(op, name, needs_y, formula, of_a, of_b) {name, gan__zip_vjp, needs_y},
static const struct gan__op gan__map_ops[] = {GAN_MAP_OPS(GAN__MAP_ROW)};
static const struct gan__op gan__zip_ops[] = {GAN_ZIP_OPS(GAN__ZIP_ROW)};

/* y = op(x) with the scalars a and b, in the memory of into, or in new memory if into is NULL. attr
   and real keep the operation and its scalars for the derivative. */
static gan_tensor *gan__map_into(gan_tensor *into, gan_map_op op, gan_tensor *x, gan_real a,
                                 gan_real b)
{
    gan *g = x->g;
    gan_tensor *y = gan__tensor(g, into ? into->buffer : NULL, GAN__SHAPE(x));
    gan_map p = {op, gan_count(x), a, b};
    gan__run_1(g, GAN__K_map, &p, x->data, y->data);
    y->attr[0] = op;
    y->real[0] = a;
    y->real[1] = b;
    return gan__record(y, &gan__map_ops[op], x, NULL, NULL);
}

static gan_tensor *gan__map(const char *function, gan_map_op op, gan_tensor *x, gan_real a,
                            gan_real b)
{
    gan__valid(x, function);
    return gan__map_into(NULL, op, x, a, b);
}

/* How far apart t's neighbours along N, C, H and W lie in memory; 0 along a dimension of size 1,
   whose one number is repeated where t meets a larger tensor. */
static void gan__strides(const gan_tensor *t, ptrdiff_t stride[4])
{
    stride[3] = t->w > 1;
    stride[2] = t->h > 1 ? t->w : 0;
    stride[1] = t->c > 1 ? (ptrdiff_t)t->h * t->w : 0;
    stride[0] = t->n > 1 ? (ptrdiff_t)t->c * t->h * t->w : 0;
}

/* The size of the result where sizes a and b of two operands meet: a size of 1 is repeated. 0 if
   they do not match. */
static int gan__broadcast_size(int a, int b)
{
    if (a == b || b == 1)
        return a;
    return a == 1 ? b : 0;
}

/* y = op(a, b) with the scalars k and l, in the memory of into, which then has y's shape, or in new
   memory if into is NULL. */
static gan_tensor *gan__zip_into(gan_tensor *into, const char *function, gan_zip_op op,
                                 gan_tensor *a, gan_tensor *b, gan_real k, gan_real l)
{
    gan__valid_pair(a, b, function);
    gan *g = a->g;
    gan_zip p = {op,
                 gan__broadcast_size(a->n, b->n),
                 gan__broadcast_size(a->c, b->c),
                 gan__broadcast_size(a->h, b->h),
                 gan__broadcast_size(a->w, b->w),
                 {0},
                 {0},
                 k,
                 l};
    if (!p.n || !p.c || !p.h || !p.w)
        gan__fail(g, function,
                  GAN__DIMS " and " GAN__DIMS ": each size must be the same in both, or 1 in one",
                  GAN__SHAPE(a), GAN__SHAPE(b));
    gan__check_shape(g, function, p.n, p.c, p.h, p.w);
    gan__strides(a, p.a);
    gan__strides(b, p.b);
    gan_tensor *y = gan__tensor(g, into ? into->buffer : NULL, p.n, p.c, p.h, p.w);
    gan__run_2(g, GAN__K_zip, &p, a->data, b->data, y->data);
    y->attr[0] = op;
    y->real[0] = k;
    y->real[1] = l;
    return gan__record(y, &gan__zip_ops[op], a, b, NULL);
}

static gan_tensor *gan__zip(const char *function, gan_zip_op op, gan_tensor *a, gan_tensor *b,
                            gan_real k, gan_real l)
{
    return gan__zip_into(NULL, function, op, a, b, k, l);
}

/* gy if the derivative may overwrite gy's numbers because nothing else needs them, else NULL. This
   halves the memory of a backward pass. */
static gan_tensor *gan__reuse(gan_tensor *gy)
{
    bool only_reference = gy->buffer->references == 1; /* gy's own */
    return gy->g->reclaiming && only_reference ? gy : NULL;
}

/* t times k, or t itself where k is 1. */
static gan_tensor *gan__times(gan_tensor *t, gan_real k)
{
    return k == 1 ? t : gan_mul_scalar(t, k);
}

/* The gradient of x, by the rows of GAN_MAP_OPS. */
static gan_tensor *gan__map_vjp(gan_tensor *y, gan_tensor *gy, int i)
{
#define GAN__CASE(op, name, needs_y, formula, derivative) \
    case op: return derivative;
    gan_tensor *x = y->in[i];
    const gan_real a = y->real[0];
    const gan_real b = y->real[1];
    switch ((gan_map_op)y->attr[0]) {
        GAN_MAP_OPS(GAN__CASE)
    }
#undef GAN__CASE
    return NULL;
}

/* The gradient of a broadcast operand: summed over what was repeated. */
static gan_tensor *gan__unbroadcast(gan_tensor *gradient, const gan_tensor *operand)
{
    return gan_sum_to(gradient, GAN__SHAPE(operand));
}

/* The gradient of a (i = 0) or b (i = 1), by the rows of GAN_ZIP_OPS. */
static gan_tensor *gan__zip_vjp(gan_tensor *y, gan_tensor *gy, int i)
{
#define GAN__CASE(op, name, needs_y, formula, of_a, of_b) \
    case op:                                              \
        if (i == 0)                                       \
            gradient = of_a;                              \
        else                                              \
            gradient = of_b;                              \
        break;
    gan_tensor *a = y->in[0];
    gan_tensor *b = y->in[1];
    gan_tensor *gradient = NULL;
    const gan_real k = y->real[0];
    const gan_real l = y->real[1];
    switch ((gan_zip_op)y->attr[0]) {
        GAN_ZIP_OPS(GAN__CASE)
    }
#undef GAN__CASE
    return gradient ? gan__unbroadcast(gradient, y->in[i]) : NULL;
}

GAN_API gan_tensor *gan_add(gan_tensor *a, gan_tensor *b)
{
    return gan__zip("gan_add", GAN_MIX, a, b, 1, 1);
}

GAN_API gan_tensor *gan_sub(gan_tensor *a, gan_tensor *b)
{
    return gan__zip("gan_sub", GAN_MIX, a, b, 1, -1);
}

GAN_API gan_tensor *gan_mul(gan_tensor *a, gan_tensor *b)
{
    return gan__zip("gan_mul", GAN_MUL, a, b, 0, 0);
}

GAN_API gan_tensor *gan_div(gan_tensor *a, gan_tensor *b)
{
    return gan__zip("gan_div", GAN_DIV, a, b, 0, 0);
}

GAN_API gan_tensor *gan_add_scalar(gan_tensor *x, gan_real value)
{
    return gan__map("gan_add_scalar", GAN_AFFINE, x, 1, value);
}

GAN_API gan_tensor *gan_mul_scalar(gan_tensor *x, gan_real value)
{
    return gan__map("gan_mul_scalar", GAN_AFFINE, x, value, 0);
}

GAN_API gan_tensor *gan_neg(gan_tensor *x)
{
    return gan__map("gan_neg", GAN_AFFINE, x, -1, 0);
}

GAN_API gan_tensor *gan_exp(gan_tensor *x)
{
    return gan__map("gan_exp", GAN_EXP, x, 0, 0);
}

GAN_API gan_tensor *gan_log(gan_tensor *x)
{
    return gan__map("gan_log", GAN_LOG, x, 0, 0);
}

GAN_API gan_tensor *gan_sqrt(gan_tensor *x)
{
    return gan__map("gan_sqrt", GAN_SQRT, x, 0, 0);
}

GAN_API gan_tensor *gan_rsqrt(gan_tensor *x)
{
    return gan__map("gan_rsqrt", GAN_RSQRT, x, 0, 0);
}

GAN_API gan_tensor *gan_square(gan_tensor *x)
{
    return gan__map("gan_square", GAN_SQUARE, x, 0, 0);
}

GAN_API gan_tensor *gan_abs(gan_tensor *x)
{
    return gan__map("gan_abs", GAN_ABS, x, 0, 0);
}

GAN_API gan_tensor *gan_relu(gan_tensor *x)
{
    return gan__map("gan_relu", GAN_LEAKY, x, 0, 0);
}

GAN_API gan_tensor *gan_leaky_relu(gan_tensor *x, gan_real slope)
{
    return gan__map("gan_leaky_relu", GAN_LEAKY, x, slope, 0);
}

GAN_API gan_tensor *gan_tanh(gan_tensor *x)
{
    return gan__map("gan_tanh", GAN_TANH, x, 0, 0);
}

GAN_API gan_tensor *gan_sigmoid(gan_tensor *x)
{
    return gan__map("gan_sigmoid", GAN_SIGMOID, x, 0, 0);
}

GAN_API gan_tensor *gan_softplus(gan_tensor *x)
{
    return gan__map("gan_softplus", GAN_SOFTPLUS, x, 0, 0);
}

GAN_API gan_tensor *gan_clamp(gan_tensor *x, gan_real lo, gan_real hi)
{
    gan *g = gan__valid(x, "gan_clamp");
    if (!(lo <= hi))
        gan__fail(g, "gan_clamp", "lo = %g is not at most hi = %g", (double)lo, (double)hi);
    return gan__map("gan_clamp", GAN_CLAMP, x, lo, hi);
}

/* Below 0 and above 0 apart: the derivative at 0 is that of below, as PyTorch's. */
static gan_tensor *gan__below(gan_tensor *x)
{
    return gan__map("the negative part", GAN_CLAMP, x, (gan_real)-HUGE_VAL, 0);
}

static gan_tensor *gan__elu(const char *function, gan_tensor *x, gan_real alpha, gan_real scale)
{
    gan__valid(x, function);
    gan_tensor *low = gan_add_scalar(gan_exp(gan__below(x)), -1);
    return gan__zip(function, GAN_MIX, gan_relu(x), low, scale, scale * alpha);
}

GAN_API gan_tensor *gan_elu(gan_tensor *x)
{
    return gan__elu("gan_elu", x, 1, 1);
}

GAN_API gan_tensor *gan_selu(gan_tensor *x)
{
    return gan__elu("gan_selu", x, (gan_real)1.6732632423543772848,
                    (gan_real)1.0507009873554804934);
}

GAN_API gan_tensor *gan_silu(gan_tensor *x)
{
    gan__valid(x, "gan_silu");
    return gan_mul(x, gan_sigmoid(x));
}

GAN_API gan_tensor *gan_gelu(gan_tensor *x)
{
    gan__valid(x, "gan_gelu");
    gan_tensor *erf_ = gan__map("gan_gelu", GAN_ERF,
                                gan_mul_scalar(x, (gan_real)0.70710678118654752440), 0, 0);
    return gan_mul(x, gan__map("gan_gelu", GAN_AFFINE, erf_, (gan_real)0.5, (gan_real)0.5));
}

GAN_API gan_tensor *gan_prelu_f(gan_tensor *x, gan_tensor *slope)
{
    gan__valid_pair(x, slope, "gan_prelu_f");
    if (slope->n != 1 || slope->h != 1 || slope->w != 1 || (slope->c != 1 && slope->c != x->c))
        gan__fail(x->g, "gan_prelu_f",
                  "input " GAN__DIMS " wants slopes (1,%d,1,1) or (1,1,1,1), they are " GAN__DIMS,
                  GAN__SHAPE(x), x->c, GAN__SHAPE(slope));
    return gan_add(gan_relu(x), gan_mul(gan__below(x), slope));
}

/* y lies in x's memory, and x is no more. */
static gan_tensor *gan__mark_overwritten(gan_tensor *y, gan_tensor *x)
{
    x->overwritten = true;
    x->buffer->references--;
    return y;
}

static gan_tensor *gan__leaky_in_place(const char *function, gan_tensor *x, gan_real slope)
{
    gan *g = gan__valid(x, function);
    if (!(slope >= 0))
        gan__fail(g, function, "slope %g: in place it must be 0 or more", (double)slope);
    if (!x->op)
        gan__fail(g, function,
                  "the tensor " GAN__DIMS " was not computed; use the function without the last _",
                  GAN__SHAPE(x));
    if (x->uses)
        gan__fail(g, function,
                  "the tensor " GAN__DIMS
                  " is used elsewhere already; use the function without the last _",
                  GAN__SHAPE(x));
    if (x->op->needs_output || x->buffer->references > 1)
        gan__fail(g, function,
                  "%s needs its result for its derivative; use the function without the last _",
                  x->op->name);
    return gan__mark_overwritten(gan__map_into(x, GAN_LEAKY, x, slope, 0), x);
}

GAN_API gan_tensor *gan_relu_(gan_tensor *x)
{
    return gan__leaky_in_place("gan_relu_", x, 0);
}

GAN_API gan_tensor *gan_leaky_relu_(gan_tensor *x, gan_real slope)
{
    return gan__leaky_in_place("gan_leaky_relu_", x, slope);
}

/* ===========================================================================================
   >>reduce (implementation)
   =========================================================================================== */
static gan__cost gan__cost_sum(const gan_sums *p)
{
    size_t in = gan__size(p->in[0], p->in[1], p->in[2], p->in[3]);
    size_t out = gan__size(p->out[0], p->out[1], p->out[2], p->out[3]);
    gan__cost cost = {{in}, {out}, (double)in};
    return cost;
}

/* y[n,c,h,w] is the sum of all x[i,j,k,l] with i = n, n + out[0], .. and likewise j, k and l. Along
   a dimension that stays, out[d] = in[d], and i takes the value n alone; along one that is summed,
   out[d] = 1, and i takes all values. */
GAN_API void gan_ref_sum(const gan_sums *p, const gan_real *x, gan_real *y)
{
    const int *in = p->in;
    const int *out = p->out;
    for (int n = 0; n < out[0]; n++)
        for (int c = 0; c < out[1]; c++)
            for (int h = 0; h < out[2]; h++)
                for (int w = 0; w < out[3]; w++) {
                    double total = 0;
                    for (int i = n; i < in[0]; i += out[0])
                        for (int j = c; j < in[1]; j += out[1])
                            for (int k = h; k < in[2]; k += out[2])
                                for (int l = w; l < in[3]; l += out[3])
                                    total += x[(((size_t)i * in[1] + j) * in[2] + k) * in[3] + l];
                    *y++ = (gan_real)total;
                }
}

/* gan_cpu_sum has y in the place of the loop's array b: stride_b is y's stride, and 0 along the
   dimensions that are summed.

   The sum of the numbers of x that go into one number of y, over the dimensions dim and after; at
   is the first of them. Each summed dimension but the last is a loop of recursive calls. */
static double gan__sum_from(const gan__strided_loop *loop, const gan_real *at, int dim)
{
    const int last = loop->dims - 1;
    double total = 0;
    while (dim < last && loop->stride_b[dim] != 0)
        dim++;
    if (dim == last)
        return loop->stride_b[dim] ? *at : gan__simd()->sum(at, 1, 0, (size_t)loop->size[dim]);
    for (int i = 0; i < loop->size[dim]; i++)
        total += gan__sum_from(loop, at + i * loop->stride_a[dim], dim + 1);
    return total;
}

/* Computes one number of y after the other. Used where x's last dimension is summed, so that each
   number of y is made from neighbours in memory, and for every other case not treated below. */
static void gan__sum_body(void *job, size_t begin, size_t end, int thread)
{
    const gan__strided_loop *loop = (const gan__strided_loop *)job;
    (void)thread;
    for (size_t i = begin; i < end; i++) {
        size_t rest = i;
        const gan_real *at = loop->in[0];
        for (int d = loop->dims - 1; d >= 0; d--)
            if (loop->stride_b[d]) {
                at += (ptrdiff_t)(rest % loop->size[d]) * loop->stride_a[d];
                rest /= (size_t)loop->size[d];
            }
        loop->y[i] = (gan_real)gan__sum_from(loop, at, 0);
    }
}

/* All of x into one number: the sum of one part of x; gan_cpu_sum adds up the parts. Their length
   does not depend on the number of threads, and so neither does the rounding of the result. */
static void gan__sum_part_body(void *job, size_t begin, size_t end, int thread)
{
    const gan__strided_loop *loop = (const gan__strided_loop *)job;
    (void)thread;
    loop->partial_sums[begin / loop->part_length] = gan__simd()->sum(loop->in[0] + begin, 1, 0,
                                                                     end - begin);
}

/* (ROWS,COLUMNS) to (COLUMNS), or (OUTER,ROWS,COLUMNS) to (OUTER,COLUMNS): adds whole rows, which
   lie one after the other in memory, for y's numbers begin .. end-1. */
static void gan__sum_rows_body(void *job, size_t begin, size_t end, int thread)
{
    const gan__strided_loop *loop = (const gan__strided_loop *)job;
    size_t columns = (size_t)loop->size[loop->dims - 1];
    size_t rows = (size_t)loop->size[loop->dims - 2];
    (void)thread;
    for (size_t n; begin < end; begin += n) {
        size_t outer = begin / columns, column = begin % columns;
        n = GAN__MIN(end - begin, columns - column);
        gan__simd()->sum_rows(loop->in[0] + outer * rows * columns + column, rows,
                              (ptrdiff_t)columns, loop->y + begin, n);
    }
}

/* All of x into one number, in at most 256 parts of at least 16384 numbers. */
static double gan__sum_of_all(gan__strided_loop *loop, size_t count)
{
    enum { MOST_PARTS = 256 };

    double partial_sums[MOST_PARTS];
    double total = 0;
    size_t length = (count / MOST_PARTS + 1024) / 1024 * 1024; /* a multiple of 1024 */
    loop->partial_sums = partial_sums;
    loop->part_length = GAN__MAX((size_t)16384, length);
    gan__parallel(count, loop->part_length, gan__sum_part_body, loop);
    for (size_t i = 0; i * loop->part_length < count; i++)
        total += partial_sums[i];
    return total;
}

/* Three ways, by what is summed: everything, the dimension before the last, or another. */
GAN_API void gan_cpu_sum(const gan_sums *p, const gan_real *x, gan_real *y)
{
    size_t outputs = 1;
    size_t count = 1;
    ptrdiff_t stride_x[4], stride_y[4];
    for (int d = 3; d >= 0; d--) {
        stride_x[d] = (ptrdiff_t)count;
        stride_y[d] = p->out[d] == p->in[d] ? (ptrdiff_t)outputs : 0;
        count *= (size_t)p->in[d];
        outputs *= (size_t)p->out[d];
    }

    gan__strided_loop loop = gan__strided_loop_of(p->in[0], p->in[1], p->in[2], p->in[3], stride_x,
                                                  stride_y, NULL, y);
    const int last = loop.dims - 1;
    const bool last_stays = loop.stride_b[last] != 0;
    const bool rows_are_summed = last_stays && (last == 1 || last == 2) &&
                                 loop.stride_b[last - 1] == 0;
    loop.in[0] = x;
    if (outputs == 1)
        *y = (gan_real)gan__sum_of_all(&loop, count);
    else if (rows_are_summed)
        gan__parallel(outputs, 1024, gan__sum_rows_body, &loop);
    else /* blocks of outputs that read 16384 numbers of x together */
        gan__parallel(outputs, GAN__MAX((size_t)1, 16384 * outputs / count), gan__sum_body, &loop);
}

/* ---- tensors. The derivative of summing is repeating, and that of repeating is summing. */

static gan_tensor *gan__sum_vjp(gan_tensor *y, gan_tensor *gy, int i)
{
    return gan_expand(gy, GAN__SHAPE(y->in[i]));
}

static gan_tensor *gan__expand_vjp(gan_tensor *y, gan_tensor *gy, int i)
{
    return gan__unbroadcast(gy, y->in[i]);
}

static const struct gan__op gan__op_sum = {"gan_sum_to", gan__sum_vjp, false};
static const struct gan__op gan__op_expand = {"gan_expand", gan__expand_vjp, false};

GAN_API gan_tensor *gan_sum_to(gan_tensor *x, int n, int c, int h, int w)
{
    gan *g = gan__valid(x, "gan_sum_to");
    gan_sums p = {{GAN__SHAPE(x)}, {n, c, h, w}};
    for (int d = 0; d < 4; d++)
        if (p.out[d] != p.in[d] && p.out[d] != 1)
            gan__fail(g, "gan_sum_to", GAN__DIMS " to " GAN__DIMS ": each size stays, or becomes 1",
                      GAN__SHAPE(x), n, c, h, w);
    if (memcmp(p.in, p.out, sizeof p.in) == 0)
        return x;
    gan_tensor *y = gan__tensor(g, NULL, n, c, h, w);
    gan__run_1(g, GAN__K_sum, &p, x->data, y->data);
    return gan__record(y, &gan__op_sum, x, NULL, NULL);
}

/* y (n,c,h,w), a copy of numbers of x: element (0,0,0,0) is x's number x0, and neighbours along
   each dimension lie stride apart in x. See >>shape. */
static gan_tensor *gan__strided(gan_tensor *x, int n, int c, int h, int w,
                                const ptrdiff_t stride[4], ptrdiff_t x0)
{
    gan_tensor *y = gan__tensor(x->g, NULL, n, c, h, w);
    gan_copy p = {n, c, h, w, {stride[0], stride[1], stride[2], stride[3]}, {0}, x0, 0};
    gan__strides(y, p.y);
    gan__run_1(x->g, GAN__K_copy, &p, x->data, y->data);
    return y;
}

GAN_API gan_tensor *gan_expand(gan_tensor *x, int n, int c, int h, int w)
{
    gan *g = gan__valid(x, "gan_expand");
    int from[4] = {GAN__SHAPE(x)};
    int to[4] = {n, c, h, w};
    ptrdiff_t stride[4];
    gan__check_shape(g, "gan_expand", n, c, h, w);
    for (int d = 0; d < 4; d++)
        if (from[d] != to[d] && from[d] != 1)
            gan__fail(g, "gan_expand", GAN__DIMS " to " GAN__DIMS ": each size stays, or was 1",
                      GAN__SHAPE(x), n, c, h, w);
    if (memcmp(from, to, sizeof from) == 0)
        return x;
    gan__strides(x, stride);
    return gan__record(gan__strided(x, n, c, h, w, stride, 0), &gan__op_expand, x, NULL, NULL);
}

GAN_API gan_tensor *gan_sum(gan_tensor *x)
{
    gan__valid(x, "gan_sum");
    return gan_sum_to(x, 1, 1, 1, 1);
}

GAN_API gan_tensor *gan_mean(gan_tensor *x)
{
    gan__valid(x, "gan_mean");
    return gan_mean_to(x, 1, 1, 1, 1);
}

GAN_API gan_tensor *gan_mean_to(gan_tensor *x, int n, int c, int h, int w)
{
    gan__valid(x, "gan_mean_to");
    gan_tensor *total = gan_sum_to(x, n, c, h, w);
    return gan_mul_scalar(total, (gan_real)((double)gan_count(total) / (double)gan_count(x)));
}

/* ---- softmax */

/* Where line number `line` along COUNT begins: its numbers lie INNER apart. */
static size_t gan__line_start(const gan_lines *p, size_t line)
{
    return line / p->inner * p->count * p->inner + line % p->inner;
}

static gan__cost gan__cost_softmax(const gan_lines *p)
{
    size_t n = p->outer * p->count * p->inner;
    gan__cost cost = {{n}, {n}, 4.0 * (double)n};
    return cost;
}

GAN_API void gan_ref_softmax(const gan_lines *p, const gan_real *x, gan_real *y)
{
    for (size_t line = 0; line < p->outer * p->inner; line++) {
        size_t start = gan__line_start(p, line);
        double most = -HUGE_VAL; /* the largest x, subtracted from all: e^x cannot overflow then */
        double total = 0;
        for (size_t i = 0; i < p->count; i++)
            most = GAN__MAX(most, (double)x[start + i * p->inner]);
        for (size_t i = 0; i < p->count; i++)
            total += exp(x[start + i * p->inner] - most);
        for (size_t i = 0; i < p->count; i++) {
            double z = x[start + i * p->inner] - most;
            y[start + i * p->inner] = (gan_real)(p->logarithm ? z - log(total) : exp(z) / total);
        }
    }
}

static gan__cost gan__cost_softmax_grad(const gan_lines *p)
{
    size_t n = p->outer * p->count * p->inner;
    gan__cost cost = {{n, n}, {n}, 4.0 * (double)n};
    return cost;
}

GAN_API void gan_ref_softmax_grad(const gan_lines *p, const gan_real *gy, const gan_real *y,
                                  gan_real *gx)
{
    for (size_t line = 0; line < p->outer * p->inner; line++) {
        size_t start = gan__line_start(p, line);
        double total = 0;
        for (size_t i = start; i < start + p->count * p->inner; i += p->inner)
            total += (double)gy[i] * (p->logarithm ? 1 : y[i]);
        for (size_t i = start; i < start + p->count * p->inner; i += p->inner)
            gx[i] = (gan_real)(p->logarithm ? gy[i] - exp(y[i]) * total : y[i] * (gy[i] - total));
    }
}

/* Computes one line after the other with the simd functions, which want the numbers of a line side
   by side in memory. Where INNER > 1 they are not: such a line is copied to scratch memory (out[1],
   three lines for each thread), computed there, and copied to its place in out[0]. in[0] is x and
   in[1] NULL; for the derivative in[0] is gy and in[1] is y. */
static void gan__softmax_body(void *argument, size_t begin, size_t end, int thread)
{
    const gan__job *job = (const gan__job *)argument;
    const gan_lines *p = (const gan_lines *)job->p;
    const size_t count = p->count;
    const bool apart = p->inner > 1;
    gan_real *scratch = job->out[1] + (size_t)thread * 3 * count;
    for (size_t line = begin; line < end; line++) {
        size_t start = gan__line_start(p, line);
        const gan_real *a = job->in[0] + start;
        const gan_real *b = job->in[1] ? job->in[1] + start : NULL;
        gan_real *y = apart ? scratch + 2 * count : job->out[0] + start;
        if (apart)
            a = gan__neighbours(a, (ptrdiff_t)p->inner, count, scratch);
        if (apart && b)
            b = gan__neighbours(b, (ptrdiff_t)p->inner, count, scratch + count);
        if (b)
            gan__simd()->softmax_grad(a, b, y, count, p->logarithm);
        else
            gan__simd()->softmax(a, y, count, p->logarithm);
        for (size_t i = 0; apart && i < count; i++)
            job->out[0][start + i * p->inner] = y[i];
    }
}

static void gan__softmax_lines(const gan_lines *p, const gan_real *a, const gan_real *b,
                               gan_real *y)
{
    size_t scratch = 3 * p->count * (size_t)gan__threads() * sizeof *y;
    gan__job job = {p, {a, b}, {y, (gan_real *)gan__workspace(GAN__SCRATCH_LEAF, scratch)}};
    gan__parallel(p->outer * p->inner, 8192 / p->count + 1, gan__softmax_body, &job);
}

GAN_API void gan_cpu_softmax(const gan_lines *p, const gan_real *x, gan_real *y)
{
    gan__softmax_lines(p, x, NULL, y);
}

GAN_API void gan_cpu_softmax_grad(const gan_lines *p, const gan_real *gy, const gan_real *y,
                                  gan_real *gx)
{
    gan__softmax_lines(p, gy, y, gx);
}

/* softmax:      gx = y * (gy - sum of gy*y)
   log_softmax:  gx = gy - e^y * sum of gy
   Where gx is to be differentiated again (recording), it is made of tensor functions; else one
   kernel computes it in one pass. */
static gan_tensor *gan__softmax_vjp(gan_tensor *y, gan_tensor *gy, int i)
{
    const bool logarithm = y->sizes.softmax.logarithm != 0;
    (void)i;
    if (!y->g->recording) {
        gan_tensor *into = gan__reuse(gy);
        gan_tensor *gx = gan__tensor(y->g, into ? into->buffer : NULL, GAN__SHAPE(y));
        gan__run_2(y->g, GAN__K_softmax_grad, &y->sizes.softmax, gy->data, y->data, gx->data);
        return gx;
    }
    int size[4] = {GAN__SHAPE(y)};
    size[y->attr[0]] = 1;
    gan_tensor *total = gan_sum_to(logarithm ? gy : gan_mul(gy, y), size[0], size[1], size[2],
                                   size[3]);
    return logarithm ? gan_sub(gy, gan_mul(gan_exp(y), total)) : gan_mul(y, gan_sub(gy, total));
}

static const struct gan__op gan__op_softmax = {"gan_softmax", gan__softmax_vjp, true};

/* The sizes of softmax along dim of x, which is seen as (OUTER,COUNT,INNER): OUTER is the product
   of the sizes before dim, COUNT the size along dim, INNER the product of those after it. */
static gan_lines gan__lines_of(const char *function, const gan_tensor *x, int dim)
{
    gan_lines p = {1, 1, 1, 0};
    gan__valid(x, function);

    int size[4] = {GAN__SHAPE(x)};
    if (dim < 0 || dim > 3)
        gan__fail(x->g, function, "dimension %d: it is 0 to 3", dim);
    p.count = (size_t)size[dim];
    for (int d = 0; d < dim; d++)
        p.outer *= (size_t)size[d];
    for (int d = dim + 1; d < 4; d++)
        p.inner *= (size_t)size[d];
    return p;
}

/* gan_softmax, or gan_log_softmax if logarithm is 1. */
static gan_tensor *gan__softmax(const char *function, gan_tensor *x, int dim, int logarithm)
{
    gan_lines p = gan__lines_of(function, x, dim);
    gan_tensor *y = gan__tensor(x->g, NULL, GAN__SHAPE(x));
    p.logarithm = logarithm;
    gan__run_1(x->g, GAN__K_softmax, &p, x->data, y->data);
    y->sizes.softmax = p;
    y->attr[0] = dim;
    return gan__record(y, &gan__op_softmax, x, NULL, NULL);
}

GAN_API gan_tensor *gan_softmax(gan_tensor *x, int dim)
{
    return gan__softmax("gan_softmax", x, dim, 0);
}

GAN_API gan_tensor *gan_log_softmax(gan_tensor *x, int dim)
{
    return gan__softmax("gan_log_softmax", x, dim, 1);
}

/* ===========================================================================================
   >>shape (implementation)
   ===========================================================================================
   permute, slice, concat and expand are copies with strides, all by one kernel: of two arrays the
   first number's place and how far apart neighbours lie along each of four dimensions.

     x (H,W) = (2,3) lies in memory as 0 1 2 3 4 5:        0 1 2     place 0, strides 3, 1
                                                           3 4 5
     permuted to (W,H), y[i,j] = x[j,i]:                   0 3       place 0, strides 1, 3
                                                           1 4
                                                           2 5
     sliced along W from 1 on, length 2:                   1 2       place 1, strides 3, 1
                                                           4 5
     its first row, expanded to 2 rows:                    0 1 2     place 0, strides 0, 1
                                                           0 1 2

   These read x so and write y from front to back. concat reads a and b from front to back and
   writes them into slices of y: (2,3) and (2,1) along W

     a a a b     a goes to place 0, strides 4, 1
     a a a b     b goes to place 3, strides 4, 1                                              */
static gan__cost gan__cost_copy(const gan_copy *p)
{
    size_t x = (size_t)p->x0 + gan__extent(GAN__SHAPE(p), p->x);
    size_t y = (size_t)p->y0 + gan__extent(GAN__SHAPE(p), p->y);
    gan__cost cost = {{x}, {y}, 0};
    return cost;
}

GAN_API void gan_ref_copy(const gan_copy *p, const gan_real *x, gan_real *y)
{
    for (int n = 0; n < p->n; n++)
        for (int c = 0; c < p->c; c++)
            for (int h = 0; h < p->h; h++)
                for (int w = 0; w < p->w; w++)
                    y[p->y0 + n * p->y[0] + c * p->y[1] + h * p->y[2] + w * p->y[3]] =
                        x[p->x0 + n * p->x[0] + c * p->x[1] + h * p->x[2] + w * p->x[3]];
}

/* One line of the last dimension after the other: a memcpy where neighbours touch in both. */
static void gan__copy_body(void *job, size_t begin, size_t end, int thread)
{
    const gan__strided_loop *loop = (const gan__strided_loop *)job;
    const ptrdiff_t length = loop->size[loop->dims - 1];
    const ptrdiff_t step_x = loop->stride_a[loop->dims - 1];
    const ptrdiff_t step_y = loop->stride_b[loop->dims - 1];
    (void)thread;
    for (size_t line = begin; line < end; line++) {
        ptrdiff_t x, y;
        gan__strided_loop_offsets(loop, line, &x, &y);
        const gan_real *from = loop->in[0] + x;
        gan_real *to = loop->y + y;
        if (step_x == 1 && step_y == 1)
            memcpy(to, from, (size_t)length * sizeof *to);
        else if (step_x == 0 && step_y == 1)
            for (ptrdiff_t i = 0; i < length; i++)
                to[i] = *from;
        else
            for (ptrdiff_t i = 0; i < length; i++)
                to[i * step_y] = from[i * step_x];
    }
}

GAN_API void gan_cpu_copy(const gan_copy *p, const gan_real *x, gan_real *y)
{
    gan__strided_loop loop = gan__strided_loop_of(GAN__SHAPE(p), p->x, p->y, NULL, y + p->y0);
    size_t length = (size_t)loop.size[loop.dims - 1];
    loop.in[0] = x + p->x0;
    gan__parallel(gan__size(GAN__SHAPE(p)) / length, 16384 / length + 1, gan__copy_body, &loop);
}

/* ---- tensors */

static gan_tensor *gan__reshape_vjp(gan_tensor *y, gan_tensor *gy, int i)
{
    return gan_reshape(gy, GAN__SHAPE(y->in[i]));
}

/* Dimension d_i went to place i: i goes back to d_i. */
static gan_tensor *gan__permute_vjp(gan_tensor *y, gan_tensor *gy, int i)
{
    int back[4];
    for (i = 0; i < 4; i++)
        back[y->attr[i]] = i;
    return gan_permute(gy, back[0], back[1], back[2], back[3]);
}

static gan__vjp gan__slice_vjp, gan__embed_vjp, gan__concat_vjp;

/* true: a function in place must not write into y, since y is a view and x would change too. */
static const struct gan__op gan__op_reshape = {"gan_reshape", gan__reshape_vjp, true};
static const struct gan__op gan__op_permute = {"gan_permute", gan__permute_vjp, false};
static const struct gan__op gan__op_slice = {"gan_slice", gan__slice_vjp, false};
static const struct gan__op gan__op_embed = {"gan_slice's adjoint", gan__embed_vjp, false};
static const struct gan__op gan__op_concat = {"gan_concat", gan__concat_vjp, false};

GAN_API gan_tensor *gan_reshape(gan_tensor *x, int n, int c, int h, int w)
{
    gan *g = gan__valid(x, "gan_reshape");
    int size[4] = {n, c, h, w};
    int unknown = -1;
    double known = 1; /* the product of the sizes; 0 if one is not allowed */
    for (int d = 0; d < 4; d++) {
        if (size[d] == -1 && unknown < 0)
            unknown = d;
        else
            known *= size[d] < 1 ? 0 : size[d];
    }
    if (unknown >= 0 && known > 0) {
        size[unknown] = (int)((double)gan_count(x) / known);
        known *= size[unknown];
    }
    if (known != (double)gan_count(x))
        gan__fail(g, "gan_reshape", GAN__DIMS " has %.0f numbers, they do not fill " GAN__DIMS,
                  GAN__SHAPE(x), (double)gan_count(x), n, c, h, w);
    gan_tensor *y = gan__tensor(g, x->buffer, size[0], size[1], size[2], size[3]);
    return gan__record(y, &gan__op_reshape, x, NULL, NULL);
}

GAN_API gan_tensor *gan_permute(gan_tensor *x, int d0, int d1, int d2, int d3)
{
    gan *g = gan__valid(x, "gan_permute");
    int d[4] = {d0, d1, d2, d3};
    int size[4] = {GAN__SHAPE(x)};
    int seen = 0; /* a bit for each dimension */
    ptrdiff_t stride_x[4], stride[4];
    gan__strides(x, stride_x);
    for (int i = 0; i < 4; i++) {
        if (d[i] < 0 || d[i] > 3)
            gan__fail(g, "gan_permute", "(%d,%d,%d,%d): dimensions are 0 to 3", d0, d1, d2, d3);
        seen |= 1 << d[i];
        stride[i] = stride_x[d[i]];
    }
    if (seen != 0xF)
        gan__fail(g, "gan_permute", "(%d,%d,%d,%d): each of 0, 1, 2, 3 is wanted once", d0, d1, d2,
                  d3);
    gan_tensor *y = gan__strided(x, size[d0], size[d1], size[d2], size[d3], stride, 0);
    memcpy(y->attr, d, sizeof d);
    return gan__record(y, &gan__op_permute, x, NULL, NULL);
}

GAN_API gan_tensor *gan_transpose(gan_tensor *x, int dim0, int dim1)
{
    gan *g = gan__valid(x, "gan_transpose");
    int d[4] = {0, 1, 2, 3};
    if (dim0 < 0 || dim0 > 3 || dim1 < 0 || dim1 > 3)
        gan__fail(g, "gan_transpose", "dimensions %d and %d: they are 0 to 3", dim0, dim1);
    d[dim0] = dim1;
    d[dim1] = dim0;
    return gan_permute(x, d[0], d[1], d[2], d[3]);
}

/* How far apart x's neighbours along dim lie. */
static ptrdiff_t gan__stride_along(const gan_tensor *x, int dim)
{
    return (ptrdiff_t)gan__lines_of("gan_slice", x, dim).inner;
}

GAN_API gan_tensor *gan_slice(gan_tensor *x, int dim, int start, int length)
{
    gan *g = gan__valid(x, "gan_slice");
    int size[4] = {GAN__SHAPE(x)};
    ptrdiff_t stride[4];
    if (dim < 0 || dim > 3)
        gan__fail(g, "gan_slice", "dimension %d: it is 0 to 3", dim);
    if (start < 0 || length < 1 || length > size[dim] - start)
        gan__fail(g, "gan_slice",
                  GAN__DIMS " has %d along dimension %d, start %d and length %d are not inside",
                  GAN__SHAPE(x), size[dim], dim, start, length);
    gan__strides(x, stride);
    size[dim] = length;
    ptrdiff_t first = start * gan__stride_along(x, dim);
    gan_tensor *y = gan__strided(x, size[0], size[1], size[2], size[3], stride, first);
    y->attr[0] = dim;
    y->attr[1] = start;
    return gan__record(y, &gan__op_slice, x, NULL, NULL);
}

/* Copies x into a slice of y: from start on along dim. */
static void gan__place(gan_tensor *x, gan_tensor *y, int dim, int start)
{
    gan_copy p = {GAN__SHAPE(x), {0}, {0}, 0, start * gan__stride_along(y, dim)};
    gan__strides(x, p.x);
    gan__strides(y, p.y);
    gan__run_1(x->g, GAN__K_copy, &p, x->data, y->data);
}

/* The adjoint of slice: zeros, length long along dim, with x from start on. */
static gan_tensor *gan__embed(gan_tensor *x, int dim, int start, int length)
{
    int size[4] = {GAN__SHAPE(x)};
    size[dim] = length;
    gan_tensor *y = gan__tensor(x->g, NULL, size[0], size[1], size[2], size[3]);
    gan__fill_with(y, 0);
    gan__place(x, y, dim, start);
    y->attr[0] = dim;
    y->attr[1] = start;
    return gan__record(y, &gan__op_embed, x, NULL, NULL);
}

static int gan__size_of(const gan_tensor *x, int dim)
{
    return dim == 0 ? x->n : dim == 1 ? x->c : dim == 2 ? x->h : x->w;
}

static gan_tensor *gan__slice_vjp(gan_tensor *y, gan_tensor *gy, int i)
{
    return gan__embed(gy, y->attr[0], y->attr[1], gan__size_of(y->in[i], y->attr[0]));
}

static gan_tensor *gan__embed_vjp(gan_tensor *y, gan_tensor *gy, int i)
{
    return gan_slice(gy, y->attr[0], y->attr[1], gan__size_of(y->in[i], y->attr[0]));
}

GAN_API gan_tensor *gan_concat(gan_tensor *a, gan_tensor *b, int dim)
{
    gan__valid_pair(a, b, "gan_concat");
    gan *g = a->g;
    int size[4] = {GAN__SHAPE(a)};
    int size_b[4] = {GAN__SHAPE(b)};
    if (dim < 0 || dim > 3)
        gan__fail(g, "gan_concat", "dimension %d: it is 0 to 3", dim);
    for (int d = 0; d < 4; d++)
        if (d != dim && size[d] != size_b[d])
            gan__fail(g, "gan_concat",
                      GAN__DIMS " and " GAN__DIMS
                                " along dimension %d: the other sizes must be equal",
                      GAN__SHAPE(a), GAN__SHAPE(b), dim);
    size[dim] += size_b[dim];
    gan__check_shape(g, "gan_concat", size[0], size[1], size[2], size[3]);
    gan_tensor *y = gan__tensor(g, NULL, size[0], size[1], size[2], size[3]);
    gan__place(a, y, dim, 0);
    gan__place(b, y, dim, gan__size_of(a, dim));
    y->attr[0] = dim;
    return gan__record(y, &gan__op_concat, a, b, NULL);
}

static gan_tensor *gan__concat_vjp(gan_tensor *y, gan_tensor *gy, int i)
{
    int dim = y->attr[0];
    int start = i == 0 ? 0 : gan__size_of(y->in[0], dim);
    return gan_slice(gy, dim, start, gan__size_of(y->in[i], dim));
}

/* Half and half, so that no number is copied more than log2(count) times, rounded up. */
GAN_API gan_tensor *gan_concat_all(gan_tensor **parts, int count, int dim)
{
    if (!parts || count < 1)
        gan__fail(NULL, "gan_concat_all", "%d parts: 1 or more are wanted", parts ? count : 0);
    if (count == 1) {
        gan__lines_of("gan_concat_all", parts[0], dim); /* its checks */
        return parts[0];
    }
    return gan_concat(gan_concat_all(parts, count / 2, dim),
                      gan_concat_all(parts + count / 2, count - count / 2, dim), dim);
}

/* ===========================================================================================
   >>gather (implementation)
   =========================================================================================== */
static gan__cost gan__cost_gather(const gan_index *p)
{
    size_t in = p->outer * p->in * p->inner;
    size_t out = p->outer * p->out * p->inner;
    size_t index = 1 + (p->outer - 1) * p->step_outer + (p->out - 1) * p->step +
                   (p->inner - 1) * p->step_inner;
    gan__cost cost = {{p->adjoint ? out : in, index}, {p->adjoint ? in : out}, 0};
    return cost;
}

GAN_API void gan_ref_gather(const gan_index *p, const gan_real *x, const gan_real *index,
                            gan_real *y)
{
    for (size_t i = 0; p->adjoint && i < p->outer * p->in * p->inner; i++)
        y[i] = 0;
    for (size_t o = 0; o < p->outer; o++)
        for (size_t i = 0; i < p->out; i++)
            for (size_t k = 0; k < p->inner; k++) {
                size_t chosen = (size_t)index[o * p->step_outer + i * p->step + k * p->step_inner];
                size_t at_in = (o * p->in + chosen) * p->inner + k;
                size_t at_out = (o * p->out + i) * p->inner + k;
                if (p->adjoint)
                    y[at_in] += x[at_out];
                else
                    y[at_out] = x[at_in];
            }
}

/* A list, INNER numbers to each of its indices: whole slices, of which numbers k0 to k1. */
static void gan__gather_slices(const gan_index *p, const gan_real *x, const gan_real *index,
                               gan_real *y, size_t k0, size_t k1)
{
    for (size_t i = 0; i < p->out; i++) {
        size_t at_out = i * p->inner + k0;
        size_t at_in = (size_t)(int)index[i * p->step] * p->inner + k0;
        if (p->adjoint)
            gan__simd()->add_scaled(x + at_out, 1, y + at_in, k1 - k0, true);
        else
            memcpy(y + at_out, x + at_in, (k1 - k0) * sizeof *y);
    }
}

/* INNER is 1: either layout, a number for each index. */
static void gan__gather_line(const gan_index *p, const gan_real *x, const gan_real *index,
                             gan_real *y)
{
    if (p->adjoint)
        for (size_t i = 0; i < p->out; i++)
            y[(int)index[i * p->step]] += x[i];
    else
        for (size_t i = 0; i < p->out; i++)
            y[i] = x[(int)index[i * p->step]];
}

/* An index for each number: of the INNER lines k0 to k1. */
static void gan__gather_each(const gan_index *p, const gan_real *x, const gan_real *index,
                             gan_real *y, size_t k0, size_t k1)
{
    for (size_t i = 0; i < p->out; i++, index += p->step)
        for (size_t k = k0; k < k1; k++) {
            size_t at_out = i * p->inner + k;
            size_t at_in = (size_t)(int)index[k * p->step_inner] * p->inner + k;
            if (p->adjoint)
                y[at_in] += x[at_out];
            else
                y[at_out] = x[at_in];
        }
}

/* Blocks of OUTER, or of INNER if OUTER is 1: each sum is then made by one thread, in order. */
static void gan__gather_body(void *argument, size_t begin, size_t end, int thread)
{
    gan__job *job = (gan__job *)argument;
    const gan_index *p = (const gan_index *)job->p;
    const bool split_inner = p->outer == 1;
    const size_t k0 = split_inner ? begin : 0;
    const size_t k1 = split_inner ? end : p->inner;
    (void)thread;
    for (size_t o = split_inner ? 0 : begin; o < (split_inner ? 1 : end); o++) {
        const gan_real *index = job->in[1] + o * p->step_outer;
        const gan_real *x = job->in[0] + o * (p->adjoint ? p->out : p->in) * p->inner;
        gan_real *y = job->out[0] + o * (p->adjoint ? p->in : p->out) * p->inner;
        for (size_t i = 0; p->adjoint && i < p->in; i++)
            memset(y + i * p->inner + k0, 0, (k1 - k0) * sizeof *y);
        if (p->inner == 1)
            gan__gather_line(p, x, index, y);
        else if (p->step_inner == 0)
            gan__gather_slices(p, x, index, y, k0, k1);
        else
            gan__gather_each(p, x, index, y, k0, k1);
    }
}

GAN_API void gan_cpu_gather(const gan_index *p, const gan_real *x, const gan_real *index,
                            gan_real *y)
{
    gan__job job = {p, {x, index}, {y}};
    if (p->outer == 1)
        gan__parallel(p->inner, 32768 / (p->out + p->in) + 16, gan__gather_body, &job);
    else
        gan__parallel(p->outer, 16384 / ((p->out + p->in) * p->inner) + 1, gan__gather_body, &job);
}

/* ---- tensors */

static gan__vjp gan__gather_vjp;
static const struct gan__op gan__op_gather = {"gan_gather", gan__gather_vjp, false};

/* Every number of t must be whole and 0 .. count-1, and is looked at where the host can read it.
   what: an index, a label. */
static void gan__check_whole(const char *function, const char *what, const gan_tensor *t, int count,
                             const char *of)
{
    size_t numbers = gan_count(t);
    if (t->g->backend->alloc || t->g->plan)
        return;
    for (size_t i = 0; i < numbers; i++) {
        gan_real value = t->data[i];
        if (!(value >= 0 && value < (gan_real)count))
            gan__fail(t->g, function, "%s %g at place %.0f: there are %d %s, counted from 0", what,
                      (double)value, (double)i, count, of);
        if (value != (gan_real)(int)value)
            gan__fail(t->g, function, "%s %g at place %.0f: it must be a whole number", what,
                      (double)value, (double)i);
    }
}

/* Is index a list, and not an index for each number? An error if it is neither: x is gathered from
   or, if adjoint, added up. */
static bool gan__is_list(const char *function, const gan_tensor *x, const gan_tensor *index,
                         int dim, bool adjoint)
{
    const int shape[4] = {GAN__SHAPE(x)};
    const int given[4] = {GAN__SHAPE(index)};
    bool list = index->n == (int)gan_count(index) && (!adjoint || index->n == shape[dim]);
    bool each = true;
    bool one_line = true; /* x has one line along dim: both layouts mean the same */
    for (int d = 0; d < 4; d++) {
        each = each && (given[d] == shape[d] || (d == dim && !adjoint));
        one_line = one_line && (d == dim || shape[d] == 1);
    }
    if (!each && !list)
        gan__fail(x->g, function,
                  "input " GAN__DIMS ", dimension %d, index " GAN__DIMS
                  ": the index is (K,1,1,1), or as the input%s",
                  GAN__SHAPE(x), dim, GAN__SHAPE(index),
                  adjoint ? "" : " but along that dimension");
    return list && !(each && one_line);
}

/* gan_gather (adjoint 0), or gan_scatter_add to size along dim (adjoint 1). The kernel's IN is the
   size of the side that the indices point into, OUT that of the side with a number for each. */
static gan_tensor *gan__gather(const char *function, gan_tensor *x, gan_tensor *index, int dim,
                               int size, int adjoint)
{
    static const char *const along[4] = {"along dimension 0", "along dimension 1",
                                         "along dimension 2", "along dimension 3"};
    gan__valid_pair(x, index, function);
    gan_lines lines = gan__lines_of(function, x, dim);
    bool list = gan__is_list(function, x, index, dim, adjoint != 0);
    if (adjoint && size < 1)
        gan__fail(x->g, function, "size %d: it is 1 or more", size);

    gan_index p;
    p.outer = lines.outer;
    p.in = adjoint ? (size_t)size : lines.count;
    p.out = (size_t)(list ? index->n : gan__size_of(index, dim));
    p.inner = lines.inner;
    p.step_outer = list ? 0 : p.out * lines.inner;
    p.step = list ? 1 : lines.inner;
    p.step_inner = list ? 0 : 1;
    p.adjoint = adjoint;
    gan__check_whole(function, "index", index, (int)p.in, along[dim]);

    int shape[4] = {GAN__SHAPE(x)};
    shape[dim] = adjoint ? size : (int)p.out;
    gan__check_shape(x->g, function, shape[0], shape[1], shape[2], shape[3]);
    gan_tensor *y = gan__tensor(x->g, NULL, shape[0], shape[1], shape[2], shape[3]);
    gan__run_2(x->g, GAN__K_gather, &p, x->data, index->data, y->data);
    y->sizes.gather = p;
    y->attr[0] = dim;
    return gan__record(y, &gan__op_gather, x, index, NULL);
}

/* The derivative of each is the other; the index has none. */
static gan_tensor *gan__gather_vjp(gan_tensor *y, gan_tensor *gy, int i)
{
    int dim = y->attr[0];
    if (i == 1)
        return NULL;
    return gan__gather("gan_gather", gy, y->in[1], dim, gan__size_of(y->in[0], dim),
                       !y->sizes.gather.adjoint);
}

GAN_API gan_tensor *gan_gather(gan_tensor *x, gan_tensor *index, int dim)
{
    return gan__gather("gan_gather", x, index, dim, 0, 0);
}

GAN_API gan_tensor *gan_scatter_add(gan_tensor *x, gan_tensor *index, int dim, int size)
{
    return gan__gather("gan_scatter_add", x, index, dim, size, 1);
}

/* 0, 1, .. count-1 along C. */
static gan_tensor *gan__counting(gan *g, int count)
{
    gan_real *numbers = (gan_real *)gan__workspace(GAN__SCRATCH_LEAF,
                                                   (size_t)count * sizeof *numbers);
    for (int i = 0; i < count; i++)
        numbers[i] = (gan_real)i;
    return gan__constant(g, numbers, 1, count, 1, 1);
}

/* labels == 0, 1, .. classes-1, broadcast along C. */
GAN_API gan_tensor *gan_one_hot(gan_tensor *labels, int classes)
{
    gan *g = gan__valid(labels, "gan_one_hot");
    if (labels->c != 1 || classes < 1)
        gan__fail(g, "gan_one_hot",
                  "labels " GAN__DIMS
                  " and %d classes: labels (N,1,H,W) and 1 class or more are wanted",
                  GAN__SHAPE(labels), classes);
    gan__check_whole("gan_one_hot", "label", labels, classes, "classes");
    return gan__zip("gan_one_hot", GAN_EQUAL, labels, gan__counting(g, classes), 0, 0);
}

/* ===========================================================================================
   >>simd (implementation)
   ===========================================================================================
   This chapter is compiled once for each instruction set: gan.h includes itself here, up to three
   times, with GAN__LANES defined, and then consists of nothing but the section below.

       gan.h --- first chapters --- #include "gan.h" (AVX2)    --- the section for 32 bytes
                                    #include "gan.h" (AVX-512) --- its matrix product for 64
                                    #include "gan.h" (base)    --- the section for 16, or 0
             --- further chapters

   gan__simd_tile in it becomes gan__simd_tile_avx2, gan__simd_tile_avx512 and gan__simd_tile_base,
   by the list of names below. Each time ends with a table of its functions. gan__simd() chooses
   the table: the other chapters call gan__simd()->tile. */

/* Columns of an image seen as a matrix: rows are (channel, u, v) of a window of tu x tv taps,
   columns are positions (n, i, j) of a grid of rows x cols; the number there is src[n, channel,
   i*step_h + u0 + u*dir_h, j*step_w + v0 + v*dir_w], or 0 outside. No such matrix is ever
   stored: panels of it are packed on the way into the product. */
typedef struct {
    const gan_real *src, *end; /* end: the tensor's */
    ptrdiff_t image;           /* how far apart images lie */
    int h, w;                  /* the image */
    int rows, cols;            /* the grid of window positions */
    int tu, tv;                /* taps of a window: rows and columns */
    int u0, v0;                /* row and column of the first tap of the first window */
    int step_h, step_w;        /* how far apart windows are */
    int dir_h, dir_w;          /* how far apart taps are; negative: backwards */
} gan__window;

/* Where packers read a matrix (K,columns): the two strides of an ordinary matrix, or a window
   (its columns, or its transpose). */
struct gan__matrix_source {
    int kind;
    const gan_real *src;
    ptrdiff_t k_stride, column_stride;
    gan__window window;
};

enum { GAN__PLAIN, GAN__WINDOW, GAN__WINDOW_T };

/* The names of this section. */
#define gan__simd_adam           GAN__SIMD_REST(adam)
#define gan__simd_add_scaled     GAN__SIMD_REST(add_scaled)
#define gan__simd_copy_line      GAN__SIMD(copy_line)
#define gan__simd_exp            GAN__SIMD_REST(exp)
#define gan__simd_float_of_bits  GAN__SIMD_REST(float_of_bits)
#define gan__simd_functions      GAN__SIMD(functions)
#define gan__simd_lane_sums      GAN__SIMD_REST(lane_sums)
#define gan__simd_lanes          GAN__SIMD_REST(lanes)
#define gan__simd_map            GAN__SIMD_REST(map)
#define gan__simd_max_of_line    GAN__SIMD_REST(max_of_line)
#define gan__simd_norm_grad      GAN__SIMD_REST(norm_grad)
#define gan__simd_norm_sums      GAN__SIMD_REST(norm_sums)
#define gan__simd_pack_border    GAN__SIMD(pack_border)
#define gan__simd_pack_careful   GAN__SIMD(pack_careful)
#define gan__simd_pack_left      GAN__SIMD(pack_left)
#define gan__simd_pack_right     GAN__SIMD(pack_right)
#define gan__simd_pack_run       GAN__SIMD(pack_run)
#define gan__simd_pack_window    GAN__SIMD(pack_window)
#define gan__simd_pack_window_t  GAN__SIMD(pack_window_t)
#define gan__simd_pairs_of_rows  GAN__SIMD_REST(pairs_of_rows)
#define gan__simd_resample_even  GAN__SIMD_REST(resample_even)
#define gan__simd_resample_line  GAN__SIMD_REST(resample_line)
#define gan__simd_rmsprop        GAN__SIMD_REST(rmsprop)
#define gan__simd_scale_shift    GAN__SIMD_REST(scale_shift)
#define gan__simd_sgd            GAN__SIMD_REST(sgd)
#define gan__simd_softmax        GAN__SIMD_REST(softmax)
#define gan__simd_softmax_grad   GAN__SIMD_REST(softmax_grad)
#define gan__simd_sqrt           GAN__SIMD_REST(sqrt)
#define gan__simd_store_tile     GAN__SIMD(store_tile)
#define gan__simd_sum            GAN__SIMD_REST(sum)
#define gan__simd_sum_of_squares GAN__SIMD_REST(sum_of_squares)
#define gan__simd_sum_rows       GAN__SIMD_REST(sum_rows)
#define gan__simd_tanh           GAN__SIMD_REST(tanh)
#define gan__simd_tile           GAN__SIMD(tile)
#define gan__simd_unaligned      GAN__SIMD(unaligned)
#define gan__simd_unaligned16    GAN__SIMD(unaligned16)
#define gan__simd_unaligned32    GAN__SIMD(unaligned32)
#define gan__simd_unaligned64    GAN__SIMD(unaligned64)
#define gan__simd_update         GAN__SIMD_REST(update)
#define gan__simd_vector         GAN__SIMD(vector)
#define gan__simd_zip            GAN__SIMD_REST(zip)

/* GAN__BYTES: of a vector; GAN__LANES: how many numbers one holds. */
#define GAN__LANES (GAN__MAX(GAN__BYTES, 16) / GAN__SIZE)
#if GAN_MAX_VECTOR >= 32 && defined(GAN__IS_X86)
#define GAN__SIMD(name)      gan__simd_##name##_avx2
#define GAN__SIMD_REST(name) GAN__SIMD(name)
#define GAN__BYTES           32
#include GAN_HEADER
#undef GAN__SIMD
#undef GAN__SIMD_REST
#undef GAN__BYTES
#endif
/* The matrix product alone: what is limited by memory is no faster with longer vectors, and not
   compiling it again is a fifth of a program's compile time. */
#if GAN_MAX_VECTOR >= 64 && defined(GAN__IS_X86)
#define GAN__SIMD(name)      gan__simd_##name##_avx512
#define GAN__SIMD_REST(name) gan__simd_##name##_avx2
#define GAN__BYTES           64
#include GAN_HEADER
#undef GAN__SIMD
#undef GAN__SIMD_REST
#undef GAN__BYTES
#endif
#define GAN__SIMD(name)      gan__simd_##name##_base
#define GAN__SIMD_REST(name) GAN__SIMD(name)
#define GAN__BYTES           (GAN_MAX_VECTOR >= 16 ? 16 : 0)
#include GAN_HEADER
#undef GAN__SIMD
#undef GAN__SIMD_REST
#undef GAN__LANES

static const gan__simd_table *gan__simd(void)
{
#if GAN_MAX_VECTOR >= 64 && defined(GAN__IS_X86)
    if (__builtin_cpu_supports("avx512f"))
        return &gan__simd_functions_avx512;
#endif
#if GAN_MAX_VECTOR >= 32 && defined(GAN__IS_X86)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return &gan__simd_functions_avx2;
#endif
    return &gan__simd_functions_base;
}

#define GAN__SECOND_HALF
#endif /* GAN_IMPLEMENTATION, first half */

/* ---- The section. Plain loops that the compiler vectorises, but for the micro-kernel of the
   matrix product, which keeps its tile in vector registers. The options below are this section's
   own, whatever the program is compiled with: contraction of a*b + c into one operation, and the
   vectoriser. Macros that read the same every time stay defined. */
#ifdef GAN__LANES

#if defined(__clang__) && defined(GAN__IS_X86) && GAN__BYTES == 64
#pragma clang attribute push(__attribute__((target("avx512f,avx2,fma"))), apply_to = function)
#elif defined(__clang__) && defined(GAN__IS_X86) && GAN__BYTES == 32
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#elif defined(__GNUC__) && !defined(__clang__) && !defined(__TINYC__)
#pragma GCC push_options
#pragma GCC optimize("O3", "fp-contract=fast", "no-trapping-math", "no-math-errno", \
                     "no-tree-loop-distribute-patterns")
#if defined(GAN__IS_X86) && GAN__BYTES == 64
#pragma GCC target("avx512f,avx2,fma")
#elif defined(GAN__IS_X86) && GAN__BYTES == 32
#pragma GCC target("avx2,fma")
#endif
#endif

/* ---- the matrix product: a tile of C in registers, C (+)= A B over depth terms
   a (depth, ROWS) and b (depth, COLUMNS) are packed panels; c (ROWS, COLUMNS). */
#if GAN__BYTES > 0

/* 32 vector registers hold 8 x 3 of C, 16 hold 4 x 3; the rest is b's three and the broadcast of
   an element of a. */
#if GAN__BYTES == 64 || defined(__aarch64__)
#define GAN__ROWS   8
#define GAN__ALL(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#else
#define GAN__ROWS   4
#define GAN__ALL(X) X(0) X(1) X(2) X(3)
#endif
#define GAN__COLUMNS (3 * GAN__LANES)
typedef gan_real gan__simd_vector __attribute__((vector_size(GAN__BYTES)));
typedef gan_real gan__simd_unaligned
    __attribute__((vector_size(GAN__BYTES), aligned(sizeof(gan_real)), may_alias));
#define GAN__VEC      gan__simd_vector
#define GAN__AT(p, i) (*(gan__simd_unaligned *)((p) + (i)*GAN__LANES))

#define GAN__ZERO(r) GAN__VEC c##r##0 = {0}, c##r##1 = {0}, c##r##2 = {0};
#define GAN__STEP(r) c##r##0 += a[r] * b0, c##r##1 += a[r] * b1, c##r##2 += a[r] * b2;
#define GAN__SAVE(r)                                                    \
    if (add)                                                            \
        c##r##0 += GAN__AT(c, 3 * r), c##r##1 += GAN__AT(c, 3 * r + 1), \
            c##r##2 += GAN__AT(c, 3 * r + 2);                           \
    GAN__AT(c, 3 * r) = c##r##0, GAN__AT(c, 3 * r + 1) = c##r##1, GAN__AT(c, 3 * r + 2) = c##r##2;

static void gan__simd_tile(int depth, const gan_real *a, const gan_real *b, gan_real *c, bool add)
{
    GAN__ALL(GAN__ZERO)
    for (int k = 0; k < depth; k++, a += GAN__ROWS, b += GAN__COLUMNS) {
        GAN__VEC b0 = GAN__AT(b, 0);
        GAN__VEC b1 = GAN__AT(b, 1);
        GAN__VEC b2 = GAN__AT(b, 2);
        GAN__ALL(GAN__STEP)
    }
    GAN__ALL(GAN__SAVE)
}

#undef GAN__ALL

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
typedef gan_real gan__simd_unaligned16
    __attribute__((vector_size(4 * sizeof(gan_real)), aligned(sizeof(gan_real)), may_alias));
typedef gan_real gan__simd_unaligned32
    __attribute__((vector_size(8 * sizeof(gan_real)), aligned(sizeof(gan_real)), may_alias));
typedef gan_real gan__simd_unaligned64
    __attribute__((vector_size(16 * sizeof(gan_real)), aligned(sizeof(gan_real)), may_alias));
#define GAN__SHUFFLE(type, dst, src, second, ...)                   \
    *(GAN__SIMD(unaligned##type) *)(dst) = __builtin_shufflevector( \
        *(const GAN__SIMD(unaligned##type) *)(src),                 \
        *(const GAN__SIMD(unaligned##type) *)((src) + second), __VA_ARGS__)
#endif
#endif
#else
#define GAN__ROWS    4
#define GAN__COLUMNS 12

static void gan__simd_tile(int depth, const gan_real *a, const gan_real *b, gan_real *c, bool add)
{
    gan_real sum[GAN__ROWS * GAN__COLUMNS] = {0};
    for (int k = 0; k < depth; k++, a += GAN__ROWS, b += GAN__COLUMNS)
        for (int r = 0; r < GAN__ROWS; r++)
            for (int j = 0; j < GAN__COLUMNS; j++)
                sum[r * GAN__COLUMNS + j] += a[r] * b[j];
    for (int i = 0; i < GAN__ROWS * GAN__COLUMNS; i++)
        c[i] = sum[i] + (add ? c[i] : 0);
}
#endif

/* panel (depth, ROWS) = rows of the left matrix, element (r,k) at src[r*row_stride +
   k_offset[k]]; rows that are not there are 0. */
static void gan__simd_pack_left(const gan_real *src, ptrdiff_t row_stride,
                                const ptrdiff_t *k_offset, int rows, int depth, gan_real *panel)
{
    for (int k = 0; k < depth; k++, panel += GAN__ROWS) {
        const gan_real *at = src + k_offset[k];
        if (rows == GAN__ROWS)
            for (int r = 0; r < GAN__ROWS; r++)
                panel[r] = at[r * row_stride];
        else
            for (int r = 0; r < GAN__ROWS; r++)
                panel[r] = r < rows ? at[r * row_stride] : 0;
    }
}

/* dst[0..n) = src[j*step]. Copies of fixed length become vector instructions; every second
   number comes from two vectors that overlap by one, so that nothing behind the last is read. */
static inline GAN__INLINE void gan__simd_copy_line(gan_real *dst, const gan_real *src, int step,
                                                   int n)
{
    int j = 0;
#define GAN__COPY(size)                           \
    for (; step == 1 && j + size <= n; j += size) \
    memcpy(dst + j, src + j, size * sizeof *dst)
    GAN__COPY(16);
    GAN__COPY(8);
    GAN__COPY(4);
#ifdef GAN__SHUFFLE
    for (; GAN__LANES >= 16 && step == 2 && j + 16 <= n; j += 16)
        GAN__SHUFFLE(64, dst + j, src + 2 * j, 15, 0, 2, 4, 6, 8, 10, 12, 14, 17, 19, 21, 23, 25,
                     27, 29, 31);
    for (; GAN__LANES >= 8 && step == 2 && j + 8 <= n; j += 8)
        GAN__SHUFFLE(32, dst + j, src + 2 * j, 7, 0, 2, 4, 6, 9, 11, 13, 15);
    for (; step == 2 && j + 4 <= n; j += 4)
        GAN__SHUFFLE(16, dst + j, src + 2 * j, 3, 0, 2, 5, 7);
#endif
    for (; j < n; j++)
        dst[j] = src[j * step];
}

/* 0 for those of n numbers whose places first + q*step in a row are outside of 0 .. w. */
static GAN__NOINLINE void gan__simd_pack_border(gan_real *dst, int first, int step, int n, int w)
{
    for (int q = 0; q < n && first + q * step < 0; q++)
        dst[q] = 0;
    for (int q = n - 1; q >= 0 && first + q * step >= w; q--)
        dst[q] = 0;
}

/* dst[q] = row[first + q*step], or 0 outside of the row, where nothing is read. */
static GAN__NOINLINE void gan__simd_pack_careful(gan_real *dst, const gan_real *row, int first,
                                                 int step, int n, int w)
{
    for (int q = 0; q < n; q++) {
        int place = first + q * step;
        dst[q] = place >= 0 && place < w ? row[place] : 0;
    }
}

/* One run of n positions in a line of the grid, from (i, j) on: rows k .. k+depth of the window
   into panel. A tap that reaches over the border of the image is read over it where the tensor
   has numbers there, and the border's zeros are written after. */
static inline GAN__INLINE void gan__simd_pack_run(const gan__window *s, const gan_real *plane,
                                                  int i, int j, int n, int k, int depth,
                                                  gan_real *dst)
{
    int taps = s->tu * s->tv;
    int channel = k / taps;
    int u = k % taps / s->tv;
    int v = k % s->tv;
    int step = s->step_w;
    plane += (ptrdiff_t)channel * s->h * s->w;
    for (int left = depth; left > 0;) {
        int line = i * s->step_h + s->u0 + u * s->dir_h;
        int part = GAN__MIN(s->tv - v, left);
        int first = j * step + s->v0 + v * s->dir_w;
        const gan_real *row = plane + (ptrdiff_t)line * s->w;
        for (int t = 0; t < part; t++, first += s->dir_w, dst += GAN__COLUMNS) {
            int last = first + (n - 1) * step;
            if (line < 0 || line >= s->h)
                for (int q = 0; q < n; q++)
                    dst[q] = 0;
            else if (row + first >= s->src && row + last < s->end) {
                gan__simd_copy_line(dst, row + first, step, n);
                if (first < 0 || last >= s->w)
                    gan__simd_pack_border(dst, first, step, n, s->w);
            } else
                gan__simd_pack_careful(dst, row, first, step, n, s->w);
        }
        left -= part;
        v = 0;
        if (++u == s->tu) {
            u = 0;
            plane += (ptrdiff_t)s->h * s->w;
        }
    }
}

/* Rows k .. k+depth of a window, columns column .. column+columns. Frequent lengths of runs are
   compiled as constants. */
static void gan__simd_pack_window(const gan__window *s, int column, int columns, int k, int depth,
                                  gan_real *panel)
{
    for (int n; columns > 0; columns -= n, column += n, panel += n) {
        int i = column / s->cols % s->rows, j = column % s->cols;
        const gan_real *image = s->src + column / (s->rows * s->cols) * s->image;
        n = GAN__MIN(s->cols - j, columns);
        switch (n) {
#define GAN__RUN(length) \
    case length: gan__simd_pack_run(s, image, i, j, length, k, depth, panel); break
            GAN__RUN(4);
            GAN__RUN(7);
            GAN__RUN(8);
            GAN__RUN(14);
            GAN__RUN(16);
            GAN__RUN(32);
        default: gan__simd_pack_run(s, image, i, j, n, k, depth, panel);
        }
    }
}

/* The transpose: rows are positions k .. k+depth of the grid, columns (channel, u, v).
   Neighbouring v are neighbours in memory. */
static void gan__simd_pack_window_t(const gan__window *s, int column, int columns, int k, int depth,
                                    gan_real *panel)
{
    int taps = s->tu * s->tv;
    for (int done = 0, run; done < depth; done += run) {
        int place = k + done;
        int image = place / (s->rows * s->cols);
        int i = place / s->cols % s->rows;
        int j = place % s->cols;
        run = GAN__MIN(s->cols - j, depth - done);
        for (int q = 0, part; q < columns; q += part) {
            int channel = (column + q) / taps;
            int u = (column + q) % taps / s->tv;
            int v = (column + q) % s->tv;
            int line = i * s->step_h + s->u0 + u * s->dir_h;
            int at = j * s->step_w + s->v0 + v * s->dir_w;
            part = GAN__MIN(s->tv - v, columns - q);
            const gan_real *row = s->src + image * s->image +
                                  ((ptrdiff_t)channel * s->h + line) * s->w;
            gan_real *dst = panel + (size_t)done * GAN__COLUMNS + q;
            for (int t = 0; t < run; t++, at += s->step_w, dst += GAN__COLUMNS) {
                if (line < 0 || line >= s->h)
                    for (int e = 0; e < part; e++)
                        dst[e] = 0;
                else if (at >= 0 && at + part <= s->w && part == 4 && s->dir_w == 1)
                    memcpy(dst, row + at, 4 * sizeof *dst);
                else
                    for (int e = 0, f = at; e < part; e++, f += s->dir_w)
                        dst[e] = f >= 0 && f < s->w ? row[f] : 0;
            }
        }
    }
}

/* panel (depth, COLUMNS) = rows k .. k+depth and columns column .. column+columns of the right
   matrix; the rest of a row is 0. */
static void gan__simd_pack_right(const gan__matrix_source *right, int column, int columns, int k,
                                 int depth, gan_real *panel)
{
    if (depth == 0)
        return; /* a phase that no tap reaches */
    if (columns < GAN__COLUMNS)
        memset(panel, 0, (size_t)depth * GAN__COLUMNS * sizeof *panel);
    if (right->kind == GAN__WINDOW)
        gan__simd_pack_window(&right->window, column, columns, k, depth, panel);
    else if (right->kind == GAN__WINDOW_T)
        gan__simd_pack_window_t(&right->window, column, columns, k, depth, panel);
    else {
        const gan_real *src = right->src + column * right->column_stride + k * right->k_stride;
        for (int t = 0; t < depth; t++, src += right->k_stride, panel += GAN__COLUMNS) {
            if (right->column_stride == 1)
                memcpy(panel, src, (size_t)columns * sizeof *panel);
            else
                for (int j = 0; j < columns; j++)
                    panel[j] = src[j * right->column_stride];
        }
    }
}

/* dst[r*row_stride + column_offset[j]] = tile[r][j]. Offsets grow, so 16 of them are neighbours
   if the ends are 15 apart. */
static void gan__simd_store_tile(const gan_real *tile, int rows, int columns, gan_real *dst,
                                 ptrdiff_t row_stride, const ptrdiff_t *column_offset)
{
    for (int j = 0, run; j < columns; j += run) {
        run = GAN__MIN(16, columns - j);
        bool together = run == 16 && column_offset[j + 15] == column_offset[j] + 15;
        gan_real *to = dst;
        for (const gan_real *from = tile + j, *end = from + rows * GAN__COLUMNS; from < end;
             to += row_stride, from += GAN__COLUMNS)
            if (together)
                memcpy(to + column_offset[j], from, 16 * sizeof *to);
            else
                for (int t = 0; t < run; t++)
                    to[column_offset[j + t]] = from[t];
    }
}

#if GAN__BYTES != 64
/* ---- elementwise: vectorised, but with less of the optimizer's time than the loops above, as
   memory is the limit here */
#if defined(__GNUC__) && !defined(__clang__) && !defined(__TINYC__)
#pragma GCC push_options
#pragma GCC optimize("O2", "tree-vectorize", "vect-cost-model=dynamic")
#endif

/* e^x, tanh and the square root in forms that compilers vectorise, to about 2 units in the last
   place (polynomials: Cephes, S. Moshier). e^x is 2^n times a polynomial of what is left, and 0
   where that is not normal; tanh has its own polynomial near 0, where 1 - small cancels; the
   root is Newton's from a guess at the bits, for numbers that are not negative. */
#if GAN__SIZE == 4
static inline GAN__INLINE float gan__simd_float_of_bits(int32_t n)
{
    float x;
    memcpy(&x, &n, sizeof x);
    return x;
}

static inline GAN__INLINE float gan__simd_exp(float x)
{
    float t = x >= -87.33654f ? (x <= 88.72284f ? x : 88.72284f) : -87.33654f;
    float whole = (t * 1.44269504f + 12582912.0f) - 12582912.0f;
    float r = t - whole * 0.693359375f + whole * 2.12194440e-4f;
    float y = (((((1.9875691500e-4f * r + 1.3981999507e-3f) * r + 8.3334519073e-3f) * r +
                 4.1665795894e-2f) *
                    r +
                1.6666665459e-1f) *
                   r +
               5.0000001201e-1f) *
                  r * r +
              r + 1;
    int32_t n = (int32_t)whole, half = n >> 1;
    y = y * gan__simd_float_of_bits((half + 127) * (1 << 23)) *
        gan__simd_float_of_bits((n - half + 127) * (1 << 23));
    y = x < -87.33654f ? 0 : x > 88.72284f ? (float)HUGE_VAL : y;
    return x != x ? x : y;
}

static inline GAN__INLINE float gan__simd_tanh(float x)
{
    float z = x * x;
    float size = x < 0 ? -x : x;
    float far = 1 - 2 / (gan__simd_exp(2 * size) + 1);
    float near = ((((-5.70498872745e-3f * z + 2.06390887954e-2f) * z - 5.37397155531e-2f) * z +
                   1.33314422036e-1f) *
                      z -
                  3.33332819422e-1f) *
                     z * x +
                 x;
    return size < 0.625f ? near : x < 0 ? -far : far;
}

static inline GAN__INLINE float gan__simd_sqrt(float x)
{
    uint32_t i; /* without a sign: -0 and NaN must not overflow below */
    memcpy(&i, &x, sizeof i);
    float y = gan__simd_float_of_bits((int32_t)(0x5f3759df - (i >> 1))); /* about 1/sqrt(x) */
    float half = 0.5f * x;
    y = y * (1.5f - half * y * y);
    y = y * (1.5f - half * y * y);
    y = y * (1.5f - half * y * y);
    float root = x * y;
    return x <= FLT_MAX ? root + 0.5f * y * (x - root * root) : x;
}
#else
static inline GAN__INLINE double gan__simd_exp(double x)
{
    return exp(x);
}

static inline GAN__INLINE double gan__simd_tanh(double x)
{
    return tanh(x);
}

static inline GAN__INLINE double gan__simd_sqrt(double x)
{
    return sqrt(x);
}
#endif

#undef GAN__EXP
#undef GAN__TANH
#define GAN__EXP(x)  gan__simd_exp(x)
#define GAN__TANH(x) gan__simd_tanh(x)

/* y = f(x), a loop for each row of GAN_MAP_OPS. y may be x. */
static void gan__simd_map(const gan_map *p, const gan_real *in, gan_real *out, size_t n)
{
#define GAN__CASE(op, name, needs_y, formula, derivative) \
    case op:                                              \
        for (size_t i = 0; i < n; i++) {                  \
            const gan_real x = in[i];                     \
            out[i] = (gan_real)(formula);                 \
        }                                                 \
        break;
    const gan_real a = p->a;
    const gan_real b = p->b;
    switch (p->op) {
        GAN_MAP_OPS(GAN__CASE)
    }
#undef GAN__CASE
}

/* y = f(a, b), for each row of GAN_ZIP_OPS two loops: a step of 0 repeats b's first number. y may
   be a or b. */
static void gan__simd_zip(const gan_zip *p, const gan_real *in_a, const gan_real *in_b, int b_step,
                          gan_real *y, size_t n)
{
#define GAN__CASE(op, name, needs_y, formula, of_a, of_b) \
    case op:                                              \
        if (b_step)                                       \
            for (size_t i = 0; i < n; i++) {              \
                const gan_real a = in_a[i];               \
                const gan_real b = in_b[i];               \
                y[i] = (gan_real)(formula);               \
            }                                             \
        else                                              \
            for (size_t i = 0; i < n; i++) {              \
                const gan_real a = in_a[i];               \
                const gan_real b = first_b;               \
                y[i] = (gan_real)(formula);               \
            }                                             \
        break;
    const gan_real k = p->k;
    const gan_real l = p->l;
    const gan_real first_b = in_b[0];
    switch (p->op) {
        GAN_ZIP_OPS(GAN__CASE)
    }
#undef GAN__CASE
}

#if defined(__GNUC__) && !defined(__clang__) && !defined(__TINYC__)
#pragma GCC pop_options
#endif

/* ---- sums over rows of n numbers that lie stride apart: in 16 lanes, that is, 16 sums at once in
   the working precision, which are folded into a total in double every 1024 numbers:

       x    0  1  2 ... 15 | 16 17 18 ... 31 | 32 ...        lane 0 adds x[0], x[16], x[32] ...
            |  |  |     |    |  |  |      |                  lane 1 adds x[1], x[17], x[33] ...
       lane 0  1  2 ... 15 | 0  1  2 ...  15 | 0  ...       total += lane 0 + lane 1 + ... + lane 15

   16 lanes are one vector of AVX-512, two of AVX2 and four of SSE2, with the same additions in
   the same order. What is left of a row goes to the total directly. */

#if GAN__BYTES > 0
typedef gan_real gan__simd_lanes
    __attribute__((vector_size(16 * sizeof(gan_real)), aligned(sizeof(gan_real)), may_alias));
#define GAN__WIDE 16
#define GAN__FOLD(total, lane)   \
    for (int j = 0; j < 16; j++) \
    (total) += (lane)[j]
#define GAN__TAKE(p) (*(const gan__simd_lanes *)(p))
#else
typedef double gan__simd_lanes;
#define GAN__WIDE              1
#define GAN__FOLD(total, lane) (total) += (lane)
#define GAN__TAKE(p)           (double)*(p)
#endif

/* Returns the sum of gy, or if square of (x - center)^2; if weigh, *weighted = sum of gy * (x -
   center). Both are constants. */
static inline GAN__INLINE double gan__simd_lane_sums(bool square, bool weigh, const gan_real *gy,
                                                     const gan_real *x, size_t rows,
                                                     ptrdiff_t stride, size_t n, gan_real center,
                                                     double *weighted)
{
    const gan__simd_lanes zero = {0};
    gan__simd_lanes one = zero, two = zero, d;
    double total = 0, products = 0;
    for (size_t pending = 0; rows > 0; rows--, x += stride, gy += stride)
        for (size_t i = 0; i < n;) {
            size_t stop = GAN__MIN(n, i + 1024);
            for (pending += stop - i; i + GAN__WIDE <= stop; i += GAN__WIDE) {
                if (square) {
                    d = GAN__TAKE(x + i) - center;
                    one += d * d;
                } else
                    one += GAN__TAKE(gy + i);
                if (weigh)
                    two += GAN__TAKE(gy + i) * (GAN__TAKE(x + i) - center);
            }
            for (; i < stop; i++) {
                if (square)
                    total += (x[i] - center) * (x[i] - center);
                else
                    total += gy[i];
                if (weigh)
                    products += gy[i] * (x[i] - center);
            }
            if (pending < 1024)
                continue;
            GAN__FOLD(total, one);
            GAN__FOLD(products, two);
            one = two = zero;
            pending = 0;
        }
    GAN__FOLD(total, one);
    GAN__FOLD(products, two);
    if (weigh)
        *weighted = products;
    return total;
}

static double gan__simd_sum(const gan_real *x, size_t rows, ptrdiff_t stride, size_t n)
{
    return gan__simd_lane_sums(false, false, x, x, rows, stride, n, 0, NULL);
}

static double gan__simd_sum_of_squares(const gan_real *x, size_t rows, ptrdiff_t stride, size_t n,
                                       gan_real center)
{
    return gan__simd_lane_sums(true, false, x, x, rows, stride, n, center, NULL);
}

/* sums[0] = sum of gy, sums[1] = sum of gy * (x - mean) */
static void gan__simd_norm_sums(const gan_real *gy, const gan_real *x, size_t rows,
                                ptrdiff_t stride, size_t n, gan_real mean, double sums[2])
{
    sums[0] = gan__simd_lane_sums(false, true, gy, x, rows, stride, n, mean, &sums[1]);
}

/* y[j] = sum over rows of x[row*row_stride + j] */
static void gan__simd_sum_rows(const gan_real *x, size_t rows, ptrdiff_t row_stride, gan_real *y,
                               size_t n)
{
    for (size_t j = 0; j < n; j++)
        y[j] = 0;
    for (size_t r = 0; r < rows; r++, x += row_stride)
        for (size_t j = 0; j < n; j++)
            y[j] += x[j];
}

static void gan__simd_scale_shift(const gan_real *x, gan_real scale, gan_real shift, gan_real *y,
                                  size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = scale * x[i] + shift;
}

/* gx = a*gy + b*(x - mean) + c */
static void gan__simd_norm_grad(const gan_real *gy, const gan_real *x, gan_real mean, gan_real a,
                                gan_real b, gan_real c, gan_real *gx, size_t n)
{
    for (size_t i = 0; i < n; i++)
        gx[i] = a * gy[i] + (b * (x[i] - mean) + c);
}

/* y = k*x, or y += k*x */
static void gan__simd_add_scaled(const gan_real *x, gan_real k, gan_real *y, size_t n, bool add)
{
    if (add)
        for (size_t i = 0; i < n; i++)
            y[i] += k * x[i];
    else
        for (size_t i = 0; i < n; i++)
            y[i] = k * x[i];
}

/* y[j] = sum over taps of weight[t*apart + j] * x[index[t*apart + j]] */
static void gan__simd_resample_line(const gan_real *x, const int *index, const gan_real *weight,
                                    int taps, int apart, gan_real *y, int n)
{
    for (int j = 0; j < n; j++)
        y[j] = weight[j] * x[index[j]];
    for (int t = 1; t < taps; t++) {
        index += apart;
        weight += apart;
        for (int j = 0; j < n; j++)
            y[j] += weight[j] * x[index[j]];
    }
}

/* The same where y[PHASES*q + f] takes x[index[f] + STEP*q] with the weights of f: every second
   number of x, and of y, is kept apart in room while it is worked on, so that all that is
   multiplied lies side by side. */
static void gan__simd_resample_even(const gan_real *x, int in, const int *index,
                                    const gan_real *weight, int taps, int apart, int phases,
                                    int step, gan_real *room, gan_real *y, int n)
{
    gan_real *half = room + in / 2 + 1, *part[2] = {y, y};
    if (step == 2)
        for (int k = 0; k < (in + 1) / 2; k++) {
            room[k] = x[2 * k];
            half[k] = x[2 * k + 1];
        }
    if (phases == 2) {
        part[0] = room;
        part[1] = room + n + 16;
    }
    for (int f = 0; f < phases; f++, index++, weight++) {
        bool any = false;
        for (int t = 0; t < taps; t++) {
            const int i = index[t * apart];
            const gan_real k = weight[t * apart];
            const gan_real *from = step == 1 ? x + i : i % 2 ? half + i / 2 : room + i / 2;
            if (k != 0) {
                gan__simd_add_scaled(from, k, part[f], (size_t)n, any);
                any = true;
            }
        }
        if (!any)
            memset(part[f], 0, (size_t)n * sizeof *y);
    }
    for (int q = 0; q < n && phases == 2; q++) {
        y[2 * q] = part[0][q];
        y[2 * q + 1] = part[1][q];
    }
}

/* Where x[j*step] is above best[j], or a NaN, or the first (index below 0): best[j] is it, and
   index[j] its place at + j*step. */
static void gan__simd_max_of_line(const gan_real *x, int step, int at, gan_real *best,
                                  gan_real *index, int n)
{
#define GAN__EACH(step)                                                       \
    for (int j = 0; j < n; j++) {                                             \
        gan_real value = x[j * (step)], place = (gan_real)(at + j * (step));  \
        bool wins = (index[j] < 0) | (value > best[j]) | (value != value);    \
        best[j] = wins ? value : best[j], index[j] = wins ? place : index[j]; \
    }
    if (step == 2)
        GAN__EACH(2)
    else
        GAN__EACH(step)
#undef GAN__EACH
}

static void gan__simd_softmax(const gan_real *x, gan_real *y, size_t n, int logarithm)
{
    gan_real lane[64] = {0};
    for (size_t j = 0; j < GAN__MIN(n, 64); j++)
        lane[j] = x[j];
    for (size_t i = 64; i < n; i += 64)
        for (size_t j = 0, m = GAN__MIN(n - i, 64); j < m; j++)
            lane[j] = x[i + j] > lane[j] ? x[i + j] : lane[j];
    gan_real most = lane[0];
    for (size_t j = 1; j < GAN__MIN(n, 64); j++)
        most = lane[j] > most ? lane[j] : most;
    for (size_t i = 0; i < n; i++)
        y[i] = gan__simd_exp(x[i] - most);
    double total = gan__simd_sum(y, 1, 0, n);
    gan_real shift = (gan_real)log(total);
    gan_real scale = (gan_real)(1 / total);
    if (logarithm)
        for (size_t i = 0; i < n; i++)
            y[i] = x[i] - most - shift;
    else
        for (size_t i = 0; i < n; i++)
            y[i] *= scale;
}

static void gan__simd_softmax_grad(const gan_real *gy, const gan_real *y, gan_real *gx, size_t n,
                                   int logarithm)
{
    double total[2];
    gan__simd_norm_sums(gy, y, 1, 0, n, 0, total);
    const gan_real sum = (gan_real)total[logarithm ? 0 : 1];
    if (logarithm)
        for (size_t i = 0; i < n; i++)
            gx[i] = gy[i] - gan__simd_exp(y[i]) * sum;
    else
        for (size_t i = 0; i < n; i++)
            gx[i] = y[i] * (gy[i] - sum);
}

/* ---- optimizers */

static inline GAN__INLINE void gan__simd_update(int kind, void *argument, size_t begin, size_t end)
{
    const gan__job *job = (const gan__job *)argument;
    const gan_update *p = (const gan_update *)job->p;
    const gan_real *g = job->in[0];
    const gan_real beta1 = p->beta1;
    const gan_real beta2 = p->beta2;
    const gan_real eps = p->eps;
    const gan_real lr = p->lr;
    const gan_real keep = 1 - lr * p->decay;
    const gan_real rate = lr / p->bias1;
    const gan_real scale = (gan_real)(1 / sqrt((double)p->bias2));
    gan_real *w = job->out[0];
    gan_real *m = job->out[1];
    gan_real *v = kind == GAN__K_adam ? job->out[2] : m;
    if (kind == GAN__K_sgd)
        for (size_t i = begin; i < end; i++) {
            m[i] = beta1 * m[i] + g[i];
            w[i] -= lr * m[i];
        }
    else if (kind == GAN__K_adam)
        for (size_t i = begin; i < end; i++) {
            gan_real u = g[i];
            gan_real mi = beta1 * m[i] + (1 - beta1) * u;
            gan_real vi = beta2 * v[i] + (1 - beta2) * u * u;
            gan_real wi = keep * w[i];
            m[i] = mi;
            v[i] = vi;
            w[i] = wi - rate * mi / (gan__simd_sqrt(vi) * scale + eps);
        }
    else
        for (size_t i = begin; i < end; i++) {
            gan_real u = g[i], vi = beta2 * v[i] + (1 - beta2) * u * u;
            v[i] = vi;
            w[i] -= lr * u / (gan__simd_sqrt(vi) + eps);
        }
}

#define GAN__UPDATE(name)                                                      \
    static void GAN__SIMD(name)(void *p, size_t begin, size_t end, int thread) \
    {                                                                          \
        (void)thread;                                                          \
        gan__simd_update(GAN__K_##name, p, begin, end);                        \
    }
GAN__UPDATE(sgd)
GAN__UPDATE(adam)
GAN__UPDATE(rmsprop)

/* c (8,8) = dot products, or squared distances, of the rows in two panels (d,8). */
static void gan__simd_pairs_of_rows(size_t d, const double *a, const double *b, double *c,
                                    bool squares)
{
#if GAN__BYTES > 0
    typedef double line __attribute__((vector_size(64), aligned(8), may_alias));
#else
    typedef double line;
#endif
    const int wide = sizeof(line) / sizeof *c;
    for (int i = 0; i < 8; i += GAN__ROWS)
        for (int j = 0; j < 8; j += wide) {
            line sum[GAN__ROWS], y;
            memset(sum, 0, sizeof sum);
            for (size_t k = 0; k < 8 * d; k += 8)
                for (int r = i; r < i + GAN__ROWS; r++) {
                    y = *(const line *)(b + k + j);
                    if (squares) {
                        y -= a[k + r];
                        sum[r - i] += y * y;
                    } else
                        sum[r - i] += a[k + r] * y;
                }
            for (int r = 0; r < GAN__ROWS; r++)
                memcpy(c + 8 * (i + r) + j, sum + r, sizeof *sum);
        }
}
#endif /* the rest, which AVX-512 takes from AVX2 */

static const gan__simd_table gan__simd_functions = {GAN__ROWS,
                                                    GAN__COLUMNS,
                                                    gan__simd_tile,
                                                    gan__simd_pack_left,
                                                    gan__simd_pack_right,
                                                    gan__simd_store_tile,
                                                    gan__simd_map,
                                                    gan__simd_zip,
                                                    gan__simd_sum,
                                                    gan__simd_sum_of_squares,
                                                    gan__simd_sum_rows,
                                                    gan__simd_scale_shift,
                                                    gan__simd_norm_sums,
                                                    gan__simd_norm_grad,
                                                    gan__simd_add_scaled,
                                                    gan__simd_resample_line,
                                                    gan__simd_resample_even,
                                                    gan__simd_max_of_line,
                                                    gan__simd_softmax,
                                                    gan__simd_softmax_grad,
                                                    gan__simd_sgd,
                                                    gan__simd_adam,
                                                    gan__simd_rmsprop,
                                                    gan__simd_pairs_of_rows};
#undef GAN__ROWS
#undef GAN__COLUMNS
#if defined(__clang__) && defined(GAN__IS_X86) && GAN__BYTES >= 32
#pragma clang attribute pop
#elif defined(__GNUC__) && !defined(__clang__) && !defined(__TINYC__)
#pragma GCC pop_options
#endif
#endif /* GAN__LANES */

#ifdef GAN__SECOND_HALF
#undef GAN__SECOND_HALF

/* ===========================================================================================
   >>matmul (implementation)
   =========================================================================================== */
static gan__cost gan__cost_matmul(const gan_product *p)
{
    size_t a = (size_t)((p->n - 1) * p->a_n + (p->c - 1) * p->a_c) + (size_t)p->m * p->k;
    size_t b = (size_t)((p->n - 1) * p->b_n + (p->c - 1) * p->b_c) + (size_t)p->k * p->w;
    size_t y = gan__size(p->n, p->c, p->m, p->w);
    gan__cost cost = {{a, b}, {y}, 2.0 * (double)y * p->k};
    return cost;
}

GAN_API void gan_ref_matmul(const gan_product *p, const gan_real *a, const gan_real *b, gan_real *y)
{
    /* op(a)[i,k] = a[i*a_i + k*a_k] and op(b)[k,j] = b[k*b_k + j*b_j] in each batch */
    ptrdiff_t a_i = p->transpose_a ? 1 : p->k;
    ptrdiff_t a_k = p->transpose_a ? p->m : 1;
    ptrdiff_t b_k = p->transpose_b ? 1 : p->w;
    ptrdiff_t b_j = p->transpose_b ? p->k : 1;
    for (int n = 0; n < p->n; n++)
        for (int c = 0; c < p->c; c++) {
            const gan_real *a_batch = a + n * p->a_n + c * p->a_c;
            const gan_real *b_batch = b + n * p->b_n + c * p->b_c;
            for (int i = 0; i < p->m; i++)
                for (int j = 0; j < p->w; j++) {
                    double total = 0;
                    for (int k = 0; k < p->k; k++)
                        total += (double)a_batch[i * a_i + k * a_k] * b_batch[k * b_k + j * b_j];
                    *y++ = (gan_real)total;
                }
        }
}

/* ---- the core of every product and convolution: C (M,N) = A (M,K) B (K,N), in the way of Goto
   and van de Geijn 2008. What A, B and C are - plain matrices, transposed ones, the windows of
   an image - is known to the packing alone. C is divided into blocks of rows x columns, each a job
   of one thread, which adds up DEPTH terms of the sum at a time:

                K                        N                        N
          +----+----+----+      +----+------+----+       +----+------+----+
          |    |    |    |      |    |      |    |       |    |      |    |
          +----+----+----+      +----+------+----+       +----+------+----+
     rows |    | A  |    |      |    |  B   |    | DEPTH |    |  C   |    | rows
          +----+----+----+      +----+------+----+       +----+------+----+
      M   |    |    |    |      |    |      |    |       |    |      |    |
          +----+----+----+      +----+------+----+       +----+------+----+
               DEPTH                 columns                  columns

   Of the block of A all panels of ROWS rows are packed, to stay in the second-level cache; of the
   block of B one panel of COLUMNS columns at a time, to stay in the first-level cache, and each
   panel of A meets it there. A panel holds its numbers in the order in which the micro-kernel
   reads them; rows and columns that are not there are 0:

        panel of A                      panel of B                         tile of C
        k=0:  a00 a10 a20 .. ROWS       k=0:  b00 b01 b02 .. COLUMNS       ROWS x COLUMNS sums that
        k=1:  a01 a11 a21 ..            k=1:  b10 b11 b12 ..               stay in registers while k
        ..                              ..                                 runs over the panels

   Tiles lie one after the other in scratch memory until all K terms are in; then they go to their
   places in C. */

/* Mixed-radix index: offset of element i. As a number of seconds is so many hours, minutes and
   seconds, i is written in digits, and each digit has a stride:

       i = (d2*count1 + d1)*count0 + d0,  d0 < count0, d1 < count1
       offset of i = d0*stride0 + d1*stride1 + d2*stride2

   Channel c of a batch (N,C,H,W), for instance, read in the order (n,i,j), has the digits j, i and
   n, the counts W and H and the strides 1, W and C*H*W:

       i        0  1 .. W-1 | W  W+1 .. 2W-1 | .. H*W-1 || H*W    H*W+1   ..
       offset   0  1 .. W-1 | W  W+1 .. 2W-1 | .. H*W-1 || C*H*W  C*H*W+1 ..
                row 0       | row 1          |          || image 1           */
typedef struct {
    int count0, count1;
    ptrdiff_t stride0, stride1, stride2;
} gan__index_map;

/* offset of i = i*stride */
static gan__index_map gan__stride_map(ptrdiff_t stride)
{
    gan__index_map map = {INT32_MAX, INT32_MAX, stride, 0, 0};
    return map;
}

/* offset[0..count) = offsets of elements first, first + 1, ... */
static void gan__index_map_offsets(const gan__index_map *map, int first, int count,
                                   ptrdiff_t *offset)
{
    int end = first + count;
    int line = first / map->count0;
    for (int i = first; i < end; line++) {
        ptrdiff_t start = line % map->count1 * map->stride1 + line / map->count1 * map->stride2;
        for (int d0 = i % map->count0; d0 < map->count0 && i < end; d0++, i++)
            *offset++ = start + d0 * map->stride0;
    }
}

/* One product: A[i][k] = a[i*a_row + a_k(k)], B as b tells it, C[i][j] = c[i*c_row + c_column(j)],
   where a_k(k) and c_column(j) are offsets of index maps. */
typedef struct {
    int m, n, k;
    const gan_real *a;
    ptrdiff_t a_row;
    gan__index_map a_k;
    gan__matrix_source b;
    gan_real *c;
    ptrdiff_t c_row;
    gan__index_map c_column;
} gan__gemm;

/* B[k][j] = src[k*k_stride + j*column_stride] */
static gan__matrix_source gan__plain_source(const gan_real *src, ptrdiff_t k_stride,
                                            ptrdiff_t column_stride)
{
    gan__matrix_source source;
    memset(&source, 0, sizeof source);
    source.kind = GAN__PLAIN;
    source.src = src;
    source.k_stride = k_stride;
    source.column_stride = column_stride;
    return source;
}

/* B = the windows of an image as a matrix, or its transpose. */
static gan__matrix_source gan__window_source(gan__window window, bool transposed)
{
    gan__matrix_source source;
    memset(&source, 0, sizeof source);
    source.kind = transposed ? GAN__WINDOW_T : GAN__WINDOW;
    source.window = window;
    return source;
}

/* DEPTH, and the most rows and columns of a block, of the picture above. */
enum { GAN__DEPTH = 256, GAN__BLOCK_ROWS = 512, GAN__BLOCK_COLUMNS = 768 };

typedef struct {
    gan__gemm p;
    const gan__simd_table *simd;
    int block_rows, block_columns, blocks_across;
    gan_real *workspace; /* thread t's begins at t*workspace_each */
    size_t workspace_each;
} gan__gemm_job;

/* Computes one block of C, which begins at row and column: all panels of A times each panel of B,
   tile by tile. The first DEPTH terms of the sum are written to the tiles and later ones added;
   after the last terms each tile is copied to its place in C. i and j count rows and columns inside
   the block. A tile is always computed whole: height x width of it lie inside C. */
static void gan__gemm_block(void *argument, size_t block, size_t end, int thread)
{
    const gan__gemm_job *job = (const gan__gemm_job *)argument;
    const gan__gemm *p = &job->p;
    const gan__simd_table *simd = job->simd;
    int row = (int)(block / job->blocks_across) * job->block_rows;
    int column = (int)(block % job->blocks_across) * job->block_columns;
    int rows = GAN__MIN(job->block_rows, p->m - row);
    int columns = GAN__MIN(job->block_columns, p->n - column);
    int tile_size = simd->tile_rows * simd->tile_columns;
    gan_real *a_panels = job->workspace + (size_t)thread * job->workspace_each;
    gan_real *b_panel = a_panels + (size_t)job->block_rows * GAN__DEPTH;
    gan_real *tiles = b_panel + (size_t)simd->tile_columns * GAN__DEPTH;
    ptrdiff_t k_offset[GAN__DEPTH], column_offset[GAN__BLOCK_COLUMNS];
    (void)end; /* block + 1, because gan__parallel is called with a grain of 1 */

    gan__index_map_offsets(&p->c_column, column, columns, column_offset);
    for (int k = 0; k < p->k || k == 0; k += GAN__DEPTH) { /* K = 0 is one pass that writes 0 */
        int depth = GAN__MIN(GAN__DEPTH, p->k - k);
        bool first = k == 0;
        bool last = k + depth >= p->k;
        bool single_pass = first && last; /* no tile has to be kept: all use the same memory */
        size_t tile_index = 0;

        gan__index_map_offsets(&p->a_k, k, depth, k_offset);
        for (int i = 0; i < rows; i += simd->tile_rows)
            simd->pack_left(p->a + (row + i) * p->a_row, p->a_row, k_offset,
                            GAN__MIN(simd->tile_rows, rows - i), depth,
                            a_panels + (size_t)i * depth);

        for (int j = 0; j < columns; j += simd->tile_columns) {
            int width = GAN__MIN(simd->tile_columns, columns - j);
            simd->pack_right(&p->b, column + j, width, k, depth, b_panel);
            for (int i = 0; i < rows; i += simd->tile_rows, tile_index++) {
                int height = GAN__MIN(simd->tile_rows, rows - i);
                gan_real *tile = tiles + (single_pass ? 0 : tile_index * tile_size);
                simd->tile(depth, a_panels + (size_t)i * depth, b_panel, tile, !first);
                if (last)
                    simd->store_tile(tile, height, width, p->c + (row + i) * p->c_row, p->c_row,
                                     column_offset + j);
            }
        }
    }
}

/* x / by, rounded up. */
static int gan__ceil_div(int x, int by)
{
    return (x + by - 1) / by;
}

/* How many rows (or columns) a block has if C has size of them: a multiple of tile, at most about
   most, and such that the number of blocks is a multiple of threads, if there are enough tiles for
   that. Block sizes decide which thread computes an element of C, but not in which order its terms
   are added, so that results do not depend on them. */
static int gan__block_size(int size, int most, int tile, int threads)
{
    int tiles = gan__ceil_div(size, tile);
    int blocks = gan__ceil_div(gan__ceil_div(size, most), threads) * threads;
    return gan__ceil_div(tiles, GAN__MIN(blocks, tiles)) * tile;
}

static void gan__gemm_run(const gan__gemm *p)
{
    gan__gemm_job job;
    job.p = *p;
    job.simd = gan__simd();
    int threads = gan__threads();
    int most_columns = GAN__BLOCK_COLUMNS - GAN__BLOCK_COLUMNS % job.simd->tile_columns;
    /* the threads share the columns of C if there are 4 tiles or more for each, else the rows */
    bool wide = gan__ceil_div(p->n, job.simd->tile_columns) >= 4 * threads;
    job.block_rows = gan__block_size(p->m, GAN__BLOCK_ROWS, job.simd->tile_rows,
                                     wide ? 1 : threads);
    job.block_columns = gan__block_size(p->n, most_columns, job.simd->tile_columns,
                                        wide ? threads : 1);
    job.blocks_across = gan__ceil_div(p->n, job.block_columns);

    size_t panels = ((size_t)job.block_rows + job.simd->tile_columns) * GAN__DEPTH;
    size_t tiles = (size_t)job.block_rows * job.block_columns;
    job.workspace_each = (panels + tiles + 15) / 16 * 16; /* whole cache lines: 16 floats are one */
    job.workspace = (gan_real *)gan__workspace(
        GAN__SCRATCH_LEAF, job.workspace_each * (size_t)threads * sizeof(gan_real));
    gan__parallel((size_t)job.blocks_across * gan__ceil_div(p->m, job.block_rows), 1,
                  gan__gemm_block, &job);
}

GAN_API void gan_cpu_matmul(const gan_product *p, const gan_real *a, const gan_real *b, gan_real *y)
{
    for (int n = 0; n < p->n; n++)
        for (int c = 0; c < p->c; c++) {
            const gan_real *an = a + n * p->a_n + c * p->a_c;
            const gan_real *bn = b + n * p->b_n + c * p->b_c;
            gan__gemm product;
            product.m = p->m;
            product.n = p->w;
            product.k = p->k;
            product.a = an;
            product.a_row = p->transpose_a ? 1 : p->k;
            product.a_k = gan__stride_map(p->transpose_a ? p->m : 1);
            product.b = p->transpose_b ? gan__plain_source(bn, 1, p->k)
                                       : gan__plain_source(bn, p->w, 1);
            product.c = y + ((size_t)n * p->c + c) * p->m * p->w;
            product.c_row = p->w;
            product.c_column = gan__stride_map(1);
            gan__gemm_run(&product);
        }
}

/* ---- tensors. With Y = op(A) op(B):  dA = dY op(B)^T and dB = op(A)^T dY, transposed back
   where A or B was */

static gan_tensor *gan__matmul_vjp(gan_tensor *y, gan_tensor *gy, int i)
{
    gan_tensor *a = y->in[0], *b = y->in[1];
    bool ta = y->attr[0] != 0, tb = y->attr[1] != 0;
    if (i == 0) {
        gan_tensor *ga = ta ? gan_matmul_t(b, gy, tb, true) : gan_matmul_t(gy, b, false, !tb);
        return gan__unbroadcast(ga, a);
    }
    gan_tensor *gb = tb ? gan_matmul_t(gy, a, true, ta) : gan_matmul_t(a, gy, !ta, false);
    return gan__unbroadcast(gb, b);
}

static const struct gan__op gan__op_matmul = {"gan_matmul", gan__matmul_vjp, false};

GAN_API gan_tensor *gan_matmul_t(gan_tensor *a, gan_tensor *b, bool transpose_a, bool transpose_b)
{
    gan__valid_pair(a, b, "gan_matmul");
    int b_rows = transpose_b ? b->w : b->h;
    ptrdiff_t a_stride[4], b_stride[4];
    gan__strides(a, a_stride);
    gan__strides(b, b_stride);
    gan_product p;
    p.n = gan__broadcast_size(a->n, b->n);
    p.c = gan__broadcast_size(a->c, b->c);
    p.m = transpose_a ? a->w : a->h;
    p.k = transpose_a ? a->h : a->w;
    p.w = transpose_b ? b->h : b->w;
    p.transpose_a = transpose_a;
    p.transpose_b = transpose_b;
    p.a_n = a_stride[0];
    p.a_c = a_stride[1];
    p.b_n = b_stride[0];
    p.b_c = b_stride[1];
    if (!p.n || !p.c || p.k != b_rows)
        gan__fail(a->g, "gan_matmul",
                  GAN__DIMS "%s times " GAN__DIMS
                            "%s: %d columns meet %d rows, and batches must be equal or 1",
                  GAN__SHAPE(a), transpose_a ? " transposed" : "", GAN__SHAPE(b),
                  transpose_b ? " transposed" : "", p.k, b_rows);
    gan__check_shape(a->g, "gan_matmul", p.n, p.c, p.m, p.w);
    gan_tensor *y = gan__tensor(a->g, NULL, p.n, p.c, p.m, p.w);
    gan__run_2(a->g, GAN__K_matmul, &p, a->data, b->data, y->data);
    y->attr[0] = transpose_a;
    y->attr[1] = transpose_b;
    return gan__record(y, &gan__op_matmul, a, b, NULL);
}

GAN_API gan_tensor *gan_matmul(gan_tensor *a, gan_tensor *b)
{
    return gan_matmul_t(a, b, false, false);
}

/* y + bias (1,C,1,1) or NULL, in y's memory: a product's derivative does not need its result. */
static gan_tensor *gan__add_bias(const char *function, gan_tensor *y, gan_tensor *bias)
{
    if (!bias)
        return y;
    gan__valid_pair(y, bias, function);
    if (bias->n != 1 || bias->c != y->c || bias->h != 1 || bias->w != 1)
        gan__fail(y->g, function, "the bias " GAN__DIMS " must be (1,%d,1,1)", GAN__SHAPE(bias),
                  y->c);
    return gan__mark_overwritten(gan__zip_into(y, function, GAN_MIX, y, bias, 1, 1), y);
}

GAN_API gan_tensor *gan_linear_f(gan_tensor *x, gan_tensor *weight, gan_tensor *bias)
{
    gan__valid_pair(x, weight, "gan_linear_f");
    int in = x->c * x->h * x->w;
    if (weight->h != 1 || weight->w != 1 || weight->c != in)
        gan__fail(x->g, "gan_linear_f",
                  "input " GAN__DIMS " has %d numbers each, the weight " GAN__DIMS " wants %d",
                  GAN__SHAPE(x), in, GAN__SHAPE(weight), weight->c * weight->h * weight->w);
    gan_tensor *y = gan_matmul_t(gan_reshape(x, 1, 1, x->n, in),
                                 gan_reshape(weight, 1, 1, weight->n, in), false, true);
    return gan__add_bias("gan_linear_f",
                         gan__mark_overwritten(gan_reshape(y, x->n, weight->n, 1, 1), y), bias);
}

/* ===========================================================================================
   >>conv (implementation)
   =========================================================================================== */
/* Offset of element (i0,i1,i2,i3) of an array (any,n1,n2,n3). */
static size_t gan__offset(int i0, int i1, int i2, int i3, int n1, int n2, int n3)
{
    return (((size_t)i0 * n1 + i1) * n2 + i2) * n3 + i3;
}

/* Whether (row, column) lies outside a plane (h,w), in its padding. */
static bool gan__in_padding(int row, int column, int h, int w)
{
    return row < 0 || row >= h || column < 0 || column >= w;
}

static gan__cost gan__cost_conv2d(const gan_conv *p)
{
    gan__cost cost = {{gan__size(GAN__SHAPE(p)), gan__conv_weight_count(p)},
                      {gan__conv_output_count(p)},
                      gan__conv_flops(p)};
    return cost;
}

GAN_API void gan_ref_conv2d(const gan_conv *p, const gan_real *x, const gan_real *weight,
                            gan_real *y)
{
    const gan__conv_geometry geometry = gan__geometry_of(p);
    for (int n = 0; n < p->n; n++)
        for (int o = 0; o < p->out_c; o++)
            for (int i = 0; i < geometry.out_h; i++)
                for (int j = 0; j < geometry.out_w; j++) {
                    int first = o / geometry.group_out *
                                geometry.group_in; /* channel of o's group */
                    double total = 0;
                    for (int c = 0; c < geometry.group_in; c++)
                        for (int u = 0; u < p->kernel_h; u++)
                            for (int v = 0; v < p->kernel_w; v++) {
                                int row = i * geometry.stride_h + u * geometry.dilation_h -
                                          geometry.pad_h;
                                int column = j * geometry.stride_w + v * geometry.dilation_w -
                                             geometry.pad_w;
                                if (gan__in_padding(row, column, p->h, p->w))
                                    continue;
                                double pixel =
                                    x[gan__offset(n, first + c, row, column, p->c, p->h, p->w)];
                                total += pixel * weight[gan__offset(o, c, u, v, geometry.group_in,
                                                                    p->kernel_h, p->kernel_w)];
                            }
                    *y++ = (gan_real)total;
                }
}

/* The i in 0 .. count-1 with i*stride = distance, or -1 if there is none: which output of a
   convolution meets a pixel with a given tap. */
static int gan__solve_stride(int distance, int stride, int count)
{
    if (distance < 0 || distance % stride != 0 || distance / stride >= count)
        return -1;
    return distance / stride;
}

static gan__cost gan__cost_conv_transpose2d(const gan_conv *p)
{
    gan__cost cost = {{gan__conv_output_count(p), gan__conv_weight_count(p)},
                      {gan__size(GAN__SHAPE(p))},
                      gan__conv_flops(p)};
    return cost;
}

GAN_API void gan_ref_conv_transpose2d(const gan_conv *p, const gan_real *y, const gan_real *weight,
                                      gan_real *x)
{
    const gan__conv_geometry geometry = gan__geometry_of(p);
    for (int n = 0; n < p->n; n++)
        for (int c = 0; c < p->c; c++)
            for (int row = 0; row < p->h; row++)
                for (int column = 0; column < p->w; column++) {
                    int first = c / geometry.group_in *
                                geometry.group_out; /* output channel of c's group */
                    double total = 0;
                    for (int o = first; o < first + geometry.group_out; o++)
                        for (int u = 0; u < p->kernel_h; u++)
                            for (int v = 0; v < p->kernel_w; v++) {
                                int i = gan__solve_stride(row + geometry.pad_h -
                                                              u * geometry.dilation_h,
                                                          geometry.stride_h, geometry.out_h);
                                int j = gan__solve_stride(column + geometry.pad_w -
                                                              v * geometry.dilation_w,
                                                          geometry.stride_w, geometry.out_w);
                                if (i < 0 || j < 0)
                                    continue;
                                double pixel = y[gan__offset(n, o, i, j, p->out_c, geometry.out_h,
                                                             geometry.out_w)];
                                total += pixel * weight[gan__offset(o, c % geometry.group_in, u, v,
                                                                    geometry.group_in, p->kernel_h,
                                                                    p->kernel_w)];
                            }
                    *x++ = (gan_real)total;
                }
}

static gan__cost gan__cost_conv2d_weight(const gan_conv *p)
{
    gan__cost cost = {{gan__size(GAN__SHAPE(p)), gan__conv_output_count(p)},
                      {gan__conv_weight_count(p)},
                      gan__conv_flops(p)};
    return cost;
}

GAN_API void gan_ref_conv2d_weight(const gan_conv *p, const gan_real *x, const gan_real *y,
                                   gan_real *weight)
{
    const gan__conv_geometry geometry = gan__geometry_of(p);
    for (int o = 0; o < p->out_c; o++)
        for (int c = 0; c < geometry.group_in; c++)
            for (int u = 0; u < p->kernel_h; u++)
                for (int v = 0; v < p->kernel_w; v++) {
                    int first = o / geometry.group_out *
                                geometry.group_in; /* channel of o's group */
                    double total = 0;
                    for (int n = 0; n < p->n; n++)
                        for (int i = 0; i < geometry.out_h; i++)
                            for (int j = 0; j < geometry.out_w; j++) {
                                int row = i * geometry.stride_h + u * geometry.dilation_h -
                                          geometry.pad_h;
                                int column = j * geometry.stride_w + v * geometry.dilation_w -
                                             geometry.pad_w;
                                if (gan__in_padding(row, column, p->h, p->w))
                                    continue;
                                double pixel =
                                    x[gan__offset(n, first + c, row, column, p->c, p->h, p->w)];
                                total += pixel * y[gan__offset(n, o, i, j, p->out_c, geometry.out_h,
                                                               geometry.out_w)];
                            }
                    *weight++ = (gan_real)total;
                }
}

/* ---- cpu. A convolution is a product with the windows of x as a matrix (im2col): rows are the
   taps (c,u,v), columns the outputs (n,i,j). A plane (3,3), kernel 2x2, stride 1, no padding:

         x = 1 2 3      output (i,j)   0,0 0,1 1,0 1,1
             4 5 6      tap (u,v) 0,0   1   2   4   5
             7 8 9                0,1   2   3   5   6       y (O, N*OH*OW) = w (O, C*KH*KW)
                                  1,0   4   5   7   8                        times this matrix
                                  1,1   5   6   8   9

   A tap that lies in the padding gives a 0 in the matrix. The weight's gradient is y (O, N*OH*OW)
   times the same matrix transposed. The matrix itself is never in memory: the packers read panels
   of it from x. */

/* The windows of one group of x, or of as many channels as follow src: taps as in conv2d. */
static gan__window gan__conv_window(const gan_conv *p, const gan__conv_geometry *geometry,
                                    const gan_real *src, const gan_real *end)
{
    gan__window window;
    window.src = src;
    window.end = end;
    window.image = (ptrdiff_t)p->c * p->h * p->w;
    window.h = p->h;
    window.w = p->w;
    window.rows = geometry->out_h;
    window.cols = geometry->out_w;
    window.tu = p->kernel_h;
    window.tv = p->kernel_w;
    window.u0 = -geometry->pad_h;
    window.v0 = -geometry->pad_w;
    window.step_h = geometry->stride_h;
    window.step_w = geometry->stride_w;
    window.dir_h = geometry->dilation_h;
    window.dir_w = geometry->dilation_w;
    return window;
}

GAN_API void gan_cpu_conv2d(const gan_conv *p, const gan_real *x, const gan_real *weight,
                            gan_real *y)
{
    const gan__conv_geometry geometry = gan__geometry_of(p);
    const gan_real *end = x + gan__size(GAN__SHAPE(p));
    ptrdiff_t plane_x = (ptrdiff_t)p->h * p->w;
    ptrdiff_t plane_y = (ptrdiff_t)geometry.out_h * geometry.out_w;
    int taps = geometry.group_in * p->kernel_h * p->kernel_w;
    const gan__index_map images = {(int)plane_y, INT32_MAX, 1, p->out_c * plane_y, 0};
    for (int group = 0; group < geometry.groups; group++) {
        const gan_real *x_group = x + group * geometry.group_in * plane_x;
        gan__gemm product;
        product.m = geometry.group_out;
        product.n = (int)(p->n * plane_y);
        product.k = taps;
        product.a = weight + (ptrdiff_t)group * geometry.group_out * taps;
        product.a_row = taps;
        product.a_k = gan__stride_map(1);
        product.b = gan__window_source(gan__conv_window(p, &geometry, x_group, end), false);
        product.c = y + group * geometry.group_out * plane_y;
        product.c_row = plane_y;
        product.c_column = images;
        gan__gemm_run(&product);
    }
}

GAN_API void gan_cpu_conv2d_weight(const gan_conv *p, const gan_real *x, const gan_real *y,
                                   gan_real *weight)
{
    const gan__conv_geometry geometry = gan__geometry_of(p);
    const gan_real *end = x + gan__size(GAN__SHAPE(p));
    ptrdiff_t plane_x = (ptrdiff_t)p->h * p->w;
    ptrdiff_t plane_y = (ptrdiff_t)geometry.out_h * geometry.out_w;
    int taps = geometry.group_in * p->kernel_h * p->kernel_w;
    const gan__index_map images = {(int)plane_y, INT32_MAX, 1, p->out_c * plane_y, 0};
    for (int group = 0; group < geometry.groups; group++) {
        const gan_real *x_group = x + group * geometry.group_in * plane_x;
        gan__gemm product;
        product.m = geometry.group_out;
        product.n = taps;
        product.k = (int)(p->n * plane_y);
        product.a = y + group * geometry.group_out * plane_y;
        product.a_row = plane_y;
        product.a_k = images;
        product.b = gan__window_source(gan__conv_window(p, &geometry, x_group, end), true);
        product.c = weight + (ptrdiff_t)group * geometry.group_out * taps;
        product.c_row = taps;
        product.c_column = gan__stride_map(1);
        gan__gemm_run(&product);
    }
}

/* The transposed convolution (the adjoint in x), one phase at a time. Which taps u meet row r of
   x, i*S + u - P = r, depends on (r + P) mod S alone. Stride 2, kernel 4, padding 1, along one
   axis; y has 4 numbers, x has 8:

        r =        0      1      2      3      4      5      6      7
        u of i=0:  1      2      3
        u of i=1:         0      1      2      3               even r (phase 0): taps 1 and 3
        u of i=2:                       0      1      2      3  odd  r (phase 1): taps 0 and 2
        u of i=3:                                     0      1      2

   The rows a, a + S, a + 2S, ... (phase a) all meet the taps u0, u0 + S, ..., so that a phase is
   an ordinary convolution of y with stride 1, whose windows run backwards; the S*S phases of an
   image together write each pixel of x once. */

/* One axis of a phase: the lines phase, phase + S, ... of x (count of them) meet the taps
   first_tap, first_tap + S, ... (taps of them); the k-th line meets its t-th tap at y's line
   start + k - t. */
typedef struct {
    int phase, count, first_tap, taps, start;
} gan__phase;

static gan__phase gan__phase_of(int phase, int size, int kernel, int stride, int pad)
{
    gan__phase axis;
    axis.phase = phase;
    axis.count = gan__ceil_div(size - phase, stride);
    axis.first_tap = (phase + pad) % stride;
    axis.taps = axis.first_tap < kernel ? gan__ceil_div(kernel - axis.first_tap, stride) : 0;
    axis.start = (phase + pad - axis.first_tap) / stride;
    return axis;
}

static void gan__conv_transpose_phase(const gan_conv *p, const gan__conv_geometry *geometry,
                                      int group, gan__phase row, gan__phase column,
                                      const gan_real *y, const gan_real *weight, gan_real *x)
{
    ptrdiff_t plane_x = (ptrdiff_t)p->h * p->w;
    ptrdiff_t plane_y = (ptrdiff_t)geometry->out_h * geometry->out_w;
    ptrdiff_t kernel = (ptrdiff_t)p->kernel_h * p->kernel_w;

    gan__window window;
    window.src = y + group * geometry->group_out * plane_y;
    window.end = y + p->n * p->out_c * plane_y;
    window.image = p->out_c * plane_y;
    window.h = geometry->out_h;
    window.w = geometry->out_w;
    window.rows = row.count;
    window.cols = column.count;
    window.tu = row.taps;
    window.tv = column.taps;
    window.u0 = row.start;
    window.v0 = column.start;
    window.step_h = 1;
    window.step_w = 1;
    window.dir_h = -1;
    window.dir_w = -1;

    gan__gemm product;
    product.m = geometry->group_in;
    product.n = p->n * row.count * column.count;
    product.k = geometry->group_out * row.taps * column.taps;
    /* A[c][(o,u,v)] = weight[o,c,u,v] for the phase's taps */
    product.a = weight + group * geometry->group_out * geometry->group_in * kernel +
                row.first_tap * p->kernel_w + column.first_tap;
    product.a_row = kernel;
    product.a_k.count0 = GAN__MAX(column.taps, 1);
    product.a_k.count1 = GAN__MAX(row.taps, 1);
    product.a_k.stride0 = geometry->stride_w;
    product.a_k.stride1 = (ptrdiff_t)geometry->stride_h * p->kernel_w;
    product.a_k.stride2 = geometry->group_in * kernel;
    product.b = gan__window_source(window, false);
    /* C[c][(n,h,w)] = x[n,c,h,w] for the phase's pixels */
    product.c = x + group * geometry->group_in * plane_x + (ptrdiff_t)row.phase * p->w +
                column.phase;
    product.c_row = plane_x;
    product.c_column.count0 = column.count;
    product.c_column.count1 = row.count;
    product.c_column.stride0 = geometry->stride_w;
    product.c_column.stride1 = (ptrdiff_t)geometry->stride_h * p->w;
    product.c_column.stride2 = p->c * plane_x;
    gan__gemm_run(&product);
}

/* The other way, for few channels of x, which would leave most rows of a tile empty, and for
   dilated taps, which fit no phase. One product computes what each pixel of y gives to each tap,
   parts (C*KH*KW, N*OH*OW) = weight^T y; then every image of x adds up its own parts, in a fixed
   order. A few images at a time, so that the parts stay in the cache. */
typedef struct {
    const gan_conv *p;
    gan__conv_geometry geometry;
    const gan_real *parts;
    gan_real *x;
    int images;
} gan__scatter_job;

static void gan__conv_scatter_image(void *argument, size_t n, size_t end, int thread)
{
    const gan__scatter_job *job = (const gan__scatter_job *)argument;
    const gan_conv *p = job->p;
    const gan__conv_geometry *geometry = &job->geometry;
    size_t plane_x = (size_t)p->h * p->w;
    size_t plane_y = (size_t)geometry->out_h * geometry->out_w;
    gan_real *x = job->x + n * p->c * plane_x;
    int stride_w = geometry->stride_w;
    (void)end; /* n + 1: gan__parallel's grain is 1 */
    (void)thread;
    memset(x, 0, geometry->group_in * plane_x * sizeof *x);
    for (int tap = 0; tap < geometry->group_in * p->kernel_h * p->kernel_w; tap++) {
        int v = tap % p->kernel_w;
        int u = tap / p->kernel_w % p->kernel_h;
        int c = tap / p->kernel_w / p->kernel_h;
        int left = v * geometry->dilation_w - geometry->pad_w; /* j = 0 meets this column of x */
        /* j = first .. last-1 meet columns that are there */
        int first = left < 0 ? gan__ceil_div(-left, stride_w) : 0;
        int last = left < p->w ? (p->w - 1 - left) / stride_w + 1 : 0;
        for (int i = 0; i < geometry->out_h; i++) {
            int row = i * geometry->stride_h + u * geometry->dilation_h - geometry->pad_h;
            if (row < 0 || row >= p->h)
                continue;
            const gan_real *part = job->parts + ((size_t)tap * job->images + n) * plane_y +
                                   (size_t)i * geometry->out_w;
            gan_real *to = x + c * plane_x + (ptrdiff_t)row * p->w + left;
            for (int j = first; j < GAN__MIN(geometry->out_w, last); j++)
                to[j * stride_w] += part[j];
        }
    }
}

/* y's pixels as the columns of a matrix (OUT_C, N*OH*OW): windows of one tap. */
static gan__window gan__pixels_window(const gan_conv *p, ptrdiff_t plane, const gan_real *src,
                                      const gan_real *end)
{
    gan__window window;
    window.src = src;
    window.end = end;
    window.image = p->out_c * plane;
    window.h = 1;
    window.w = (int)plane;
    window.rows = 1;
    window.cols = (int)plane;
    window.tu = 1;
    window.tv = 1;
    window.u0 = 0;
    window.v0 = 0;
    window.step_h = 1;
    window.step_w = 1;
    window.dir_h = 1;
    window.dir_w = 1;
    return window;
}

static void gan__conv_transpose_scatter(const gan_conv *p, const gan__conv_geometry *geometry,
                                        int group, const gan_real *y, const gan_real *weight,
                                        gan_real *x)
{
    ptrdiff_t plane_x = (ptrdiff_t)p->h * p->w;
    ptrdiff_t plane_y = (ptrdiff_t)geometry->out_h * geometry->out_w;
    ptrdiff_t taps = (ptrdiff_t)geometry->group_in * p->kernel_h * p->kernel_w;
    const gan_real *end = y + p->n * p->out_c * plane_y;
    int most = (int)GAN__MIN(p->n, 8192 / plane_y + 1);
    gan_real *parts = (gan_real *)gan__workspace(GAN__SCRATCH_CALLER,
                                                 (size_t)(taps * most * plane_y) * sizeof *parts);
    for (int n = 0; n < p->n; n += most) {
        int images = GAN__MIN(most, p->n - n);
        const gan_real *y_group = y + (n * p->out_c + group * geometry->group_out) * plane_y;
        gan_real *x_group = x + (n * p->c + group * geometry->group_in) * plane_x;
        gan__gemm product;
        product.m = (int)taps;
        product.n = (int)(images * plane_y);
        product.k = geometry->group_out;
        product.a = weight + group * geometry->group_out * taps;
        product.a_row = 1;
        product.a_k = gan__stride_map(taps);
        product.b = gan__window_source(gan__pixels_window(p, plane_y, y_group, end), false);
        product.c = parts;
        product.c_row = images * plane_y;
        product.c_column = gan__stride_map(1);
        gan__gemm_run(&product);

        gan__scatter_job scatter = {p, *geometry, parts, x_group, images};
        gan__parallel((size_t)images, 1, gan__conv_scatter_image, &scatter);
    }
}

GAN_API void gan_cpu_conv_transpose2d(const gan_conv *p, const gan_real *y, const gan_real *weight,
                                      gan_real *x)
{
    const gan__conv_geometry geometry = gan__geometry_of(p);
    /* For each tap, phases pack group_out*H*W/(SH*SW) numbers, and the other way adds up
       group_in*OH*OW; with few channels the packing can cost more than the product. */
    double packed = (double)geometry.group_out * p->h * p->w;
    double added = (double)geometry.group_in * geometry.out_h * geometry.out_w * geometry.stride_h *
                   geometry.stride_w;
    bool few = geometry.group_in < 4 || (geometry.group_in < 32 && packed > 4 * added);
    bool dilated = geometry.dilation_h > 1 || geometry.dilation_w > 1;
    for (int group = 0; group < geometry.groups; group++) {
        if (few || dilated) {
            gan__conv_transpose_scatter(p, &geometry, group, y, weight, x);
            continue;
        }
        for (int a = 0; a < GAN__MIN(geometry.stride_h, p->h); a++)
            for (int b = 0; b < GAN__MIN(geometry.stride_w, p->w); b++) {
                gan__phase row = gan__phase_of(a, p->h, p->kernel_h, geometry.stride_h,
                                               geometry.pad_h);
                gan__phase column = gan__phase_of(b, p->w, p->kernel_w, geometry.stride_w,
                                                  geometry.pad_w);
                gan__conv_transpose_phase(p, &geometry, group, row, column, y, weight, x);
            }
    }
}

/* ---- tensors. The three are each other's derivatives, so that gradients of any order stay
   among them:
       y = conv2d(x, w)                dx = conv_transpose2d(dy, w)    dw = conv2d_weight(x, dy)
       x = conv_transpose2d(y, w)      dy = conv2d(dx, w)              dw = conv2d_weight(dx, y)
       w = conv2d_weight(x, y)         dx = conv_transpose2d(y, dw)    dy = conv2d(x, dw)
   Each is made from the two others, which are its in[0] and in[1] in the order of the calls
   above. */

enum { GAN__X, GAN__W, GAN__Y };

static gan_tensor *gan__conv_vjp(gan_tensor *t, gan_tensor *gt, int i);
static const struct gan__op gan__conv_ops[3] = {{"gan_conv_transpose2d", gan__conv_vjp, false},
                                                {"gan_conv2d_weight", gan__conv_vjp, false},
                                                {"gan_conv2d", gan__conv_vjp, false}};

/* Computes the one of x, w and y that made (GAN__X, GAN__W or GAN__Y) names from the other two; the
   argument in its place is not used. */
static gan_tensor *gan__conv(const gan_conv *p, int made, gan_tensor *x, gan_tensor *w,
                             gan_tensor *y)
{
    static const int kernel[3] = {GAN__K_conv_transpose2d, GAN__K_conv2d_weight, GAN__K_conv2d};
    gan_tensor *first = made == GAN__X ? y : x;
    gan_tensor *second = made == GAN__W ? y : w;
    gan *g = first->g;
    gan_tensor *result;
    if (made == GAN__X)
        result = gan__tensor(g, NULL, p->n, p->c, p->h, p->w);
    else if (made == GAN__W)
        result = gan__tensor(g, NULL, p->out_c, gan__geometry_of(p).group_in, p->kernel_h,
                             p->kernel_w);
    else
        result = gan__tensor(g, NULL, p->n, p->out_c, gan_conv_out_h(p), gan_conv_out_w(p));
    gan__run_2(g, kernel[made], p, first->data, second->data, result->data);
    result->sizes.conv = *p;
    result->attr[0] = made;
    return gan__record(result, &gan__conv_ops[made], first, second, NULL);
}

/* By the table above, where t is any of x, w and y: in the formula for a derivative, dt (here gt)
   stands in t's place, and the input that is not differentiated in its own. From these two
   gan__conv makes the third, the derivative by in[i]. */
static gan_tensor *gan__conv_vjp(gan_tensor *t, gan_tensor *gt, int i)
{
    int made = t->attr[0];
    int first = made == GAN__X ? GAN__Y : GAN__X;
    int second = made == GAN__W ? GAN__Y : GAN__W;
    gan_tensor *role[3];
    role[made] = gt;
    role[first] = t->in[0];
    role[second] = t->in[1];
    return gan__conv(&t->sizes.conv, i == 0 ? first : second, role[GAN__X], role[GAN__W],
                     role[GAN__Y]);
}

/* "stride 2x1, padding 0x3, dilation 1", for messages: rows x columns where they differ. text has
   space for three names and six numbers of up to 11 characters. */
static const char *gan__conv_text(const gan_conv *p, char text[200])
{
    const char *const names[3] = {"stride", "padding", "dilation"};
    const int rows[3] = {p->stride_h ? p->stride_h : p->stride, p->pad + p->pad_h,
                         p->dilation_h ? p->dilation_h : p->dilation};
    const int columns[3] = {p->stride_w ? p->stride_w : p->stride, p->pad + p->pad_w,
                            p->dilation_w ? p->dilation_w : p->dilation};
    for (int i = 0, length = 0; i < 3; i++) {
        const char *separator = i > 0 ? ", " : "";
        length += snprintf(text + length, 200 - (size_t)length, "%s%s %d", separator, names[i],
                           rows[i]);
        if (rows[i] != columns[i])
            length += snprintf(text + length, 200 - (size_t)length, "x%d", columns[i]);
    }
    return text;
}

/* Fails unless the arguments of one of the three functions fit: strides and dilations of 1 or more,
   padding of 0 or more, groups that divide both numbers of channels, and an x with as many channels
   as the weight wants. A stride_h or stride_w of 0 stands for stride, and likewise dilation. */
static void gan__check_conv(const char *function, const gan_conv *p, const gan_tensor *x,
                            const gan_tensor *weight, int channels)
{
    char text[200];
    bool steps_fit = p->stride >= 1 && p->stride_h >= 0 && p->stride_w >= 0 && p->dilation >= 1 &&
                     p->dilation_h >= 0 && p->dilation_w >= 0;
    if (!steps_fit || p->pad + p->pad_h < 0 || p->pad + p->pad_w < 0)
        gan__fail(x->g, function,
                  "input " GAN__DIMS
                  ", %s: stride and dilation are 1 or more, the padding 0 or more",
                  GAN__SHAPE(x), gan__conv_text(p, text));
    if (p->groups < 1 || p->c % p->groups || p->out_c % p->groups)
        gan__fail(x->g, function, "input " GAN__DIMS ": %d groups do not divide %d and %d channels",
                  GAN__SHAPE(x), p->groups, p->c, p->out_c);
    if (x->c != channels)
        gan__fail(x->g, function,
                  "input " GAN__DIMS " has %d channels, the weight " GAN__DIMS " wants %d",
                  GAN__SHAPE(x), x->c, GAN__SHAPE(weight), channels);
}

/* A gan_conv whose sizes are still 0: gan__conv2d and the others take them from the tensors. */
static gan_conv gan__conv_from_steps(int stride, int pad, int dilation, int groups)
{
    gan_conv p;
    memset(&p, 0, sizeof p);
    p.stride = stride;
    p.pad = pad;
    p.dilation = dilation;
    p.groups = groups;
    return p;
}

/* The same from options, where a stride, a dilation or a number of groups of 0 stands for 1. */
static gan_conv gan__conv_from_options(const gan_conv_options *options)
{
    gan_conv p = gan__conv_from_steps(options->stride ? options->stride : 1, options->pad,
                                      options->dilation ? options->dilation : 1,
                                      options->groups ? options->groups : 1);
    p.stride_h = options->stride_h;
    p.stride_w = options->stride_w;
    p.pad_h = options->pad_h;
    p.pad_w = options->pad_w;
    p.dilation_h = options->dilation_h;
    p.dilation_w = options->dilation_w;
    return p;
}

/* The functions with tensors for weight and bias know from these the number of output channels, the
   kernel and whether there is a bias. Options that give them as well must agree with the tensors;
   0 means not given. */
static void gan__check_conv_options(const char *function, const gan_conv_options *options,
                                    const gan_tensor *weight, const gan_tensor *bias, int out)
{
    int kernel_h = options->kernel_h ? options->kernel_h : options->kernel;
    int kernel_w = options->kernel_w ? options->kernel_w : options->kernel;
    if ((options->out && options->out != out) || (kernel_h && kernel_h != weight->h) ||
        (kernel_w && kernel_w != weight->w))
        gan__fail(weight->g, function,
                  "options of %d channels and kernel %dx%d, but the weight " GAN__DIMS
                  " makes %d channels; leave them 0",
                  options->out, kernel_h, kernel_w, GAN__SHAPE(weight), out);
    if (options->no_bias && bias)
        gan__fail(weight->g, function, "a bias " GAN__DIMS " is given, and the option no_bias",
                  GAN__SHAPE(bias));
}

/* x (N,C,H,W) with weight (OUT_C,C/GROUPS,KERNEL_H,KERNEL_W), + bias if that is not NULL. p comes
   with strides, padding, dilations and groups; its sizes are filled in here. */
static gan_tensor *gan__conv2d(const char *function, gan_tensor *x, gan_tensor *weight,
                               gan_tensor *bias, gan_conv p)
{
    char text[200];
    p.n = x->n;
    p.c = x->c;
    p.h = x->h;
    p.w = x->w;
    p.out_c = weight->n;
    p.kernel_h = weight->h;
    p.kernel_w = weight->w;
    gan__check_conv(function, &p, x, weight, weight->c * p.groups);
    const gan__conv_geometry geometry = gan__geometry_of(&p);
    if (geometry.dilation_h * (p.kernel_h - 1) >= p.h + 2 * geometry.pad_h ||
        geometry.dilation_w * (p.kernel_w - 1) >= p.w + 2 * geometry.pad_w)
        gan__fail(x->g, function, "kernel %dx%d is larger than input " GAN__DIMS " with %s",
                  p.kernel_h, p.kernel_w, GAN__SHAPE(x), gan__conv_text(&p, text));
    gan__check_shape(x->g, function, p.n, p.out_c, geometry.out_h, geometry.out_w);
    return gan__add_bias(function, gan__conv(&p, GAN__Y, x, weight, NULL), bias);
}

GAN_API gan_tensor *gan_conv2d_f(gan_tensor *x, gan_tensor *weight, gan_tensor *bias, int stride,
                                 int pad, int groups)
{
    gan__valid_pair(x, weight, "gan_conv2d_f");
    return gan__conv2d("gan_conv2d_f", x, weight, bias,
                       gan__conv_from_steps(stride, pad, 1, groups));
}

GAN_API gan_tensor *gan_conv2d_with_f(gan_tensor *x, gan_tensor *weight, gan_tensor *bias,
                                      gan_conv_options options)
{
    const char *function = "gan_conv2d_with_f";
    gan__valid_pair(x, weight, function);
    gan__check_conv_options(function, &options, weight, bias, weight->n);
    if (options.output_pad || options.output_pad_h || options.output_pad_w)
        gan__fail(x->g, function, "output_pad is an option of transposed convolutions");
    return gan__conv2d(function, x, weight, bias, gan__conv_from_options(&options));
}

/* A transposed convolution: x takes the place of a convolution's output, and the result that of its
   input. Several input sizes of a convolution with stride give the same output size: output_pad
   chooses one, by rows and columns that are added at the end. */
static gan_tensor *gan__conv_transpose2d(const char *function, gan_tensor *x, gan_tensor *weight,
                                         gan_tensor *bias, gan_conv p, int output_pad_h,
                                         int output_pad_w)
{
    char text[200];
    p.n = x->n;
    p.c = weight->c * p.groups;
    p.out_c = x->c;
    p.kernel_h = weight->h;
    p.kernel_w = weight->w;
    gan__check_conv(function, &p, x, weight, weight->n);
    const gan__conv_geometry geometry = gan__geometry_of(&p);
    if (output_pad_h < 0 || output_pad_h >= geometry.stride_h || output_pad_w < 0 ||
        output_pad_w >= geometry.stride_w)
        gan__fail(x->g, function,
                  "output padding %d and %d with %s: it is 0 or more and below the stride",
                  output_pad_h, output_pad_w, gan__conv_text(&p, text));
    p.h = (x->h - 1) * geometry.stride_h - 2 * geometry.pad_h +
          geometry.dilation_h * (p.kernel_h - 1) + 1 + output_pad_h;
    p.w = (x->w - 1) * geometry.stride_w - 2 * geometry.pad_w +
          geometry.dilation_w * (p.kernel_w - 1) + 1 + output_pad_w;
    if (p.h < 1 || p.w < 1)
        gan__fail(x->g, function, "input " GAN__DIMS ", kernel %dx%d, %s: the output is empty",
                  GAN__SHAPE(x), p.kernel_h, p.kernel_w, gan__conv_text(&p, text));
    gan__check_shape(x->g, function, p.n, p.c, p.h, p.w);
    return gan__add_bias(function, gan__conv(&p, GAN__X, NULL, weight, x), bias);
}

GAN_API gan_tensor *gan_conv_transpose2d_f(gan_tensor *x, gan_tensor *weight, gan_tensor *bias,
                                           int stride, int pad, int output_pad, int groups)
{
    const char *function = "gan_conv_transpose2d_f";
    gan__valid_pair(x, weight, function);
    return gan__conv_transpose2d(function, x, weight, bias,
                                 gan__conv_from_steps(stride, pad, 1, groups), output_pad,
                                 output_pad);
}

GAN_API gan_tensor *gan_conv_transpose2d_with_f(gan_tensor *x, gan_tensor *weight, gan_tensor *bias,
                                                gan_conv_options options)
{
    const char *function = "gan_conv_transpose2d_with_f";
    gan__valid_pair(x, weight, function);
    gan_conv p = gan__conv_from_options(&options);
    gan__check_conv_options(function, &options, weight, bias, weight->c * p.groups);
    return gan__conv_transpose2d(function, x, weight, bias, p,
                                 options.output_pad + options.output_pad_h,
                                 options.output_pad + options.output_pad_w);
}

GAN_API gan_tensor *gan_conv2d_weight(gan_tensor *x, gan_tensor *gy, int kernel_h, int kernel_w,
                                      int stride, int pad, int groups)
{
    const char *function = "gan_conv2d_weight";
    gan__valid_pair(x, gy, function);
    gan_conv p = gan__conv_from_steps(stride, pad, 1, groups);
    p.n = x->n;
    p.c = x->c;
    p.h = x->h;
    p.w = x->w;
    p.out_c = gy->c;
    p.kernel_h = kernel_h;
    p.kernel_w = kernel_w;
    gan__check_conv(function, &p, x, gy, x->c);
    if (kernel_h < 1 || kernel_w < 1 || kernel_h > x->h + 2 * pad || kernel_w > x->w + 2 * pad ||
        gy->n != x->n || gy->h != gan_conv_out_h(&p) || gy->w != gan_conv_out_w(&p))
        gan__fail(
            x->g, function,
            "x " GAN__DIMS
            " with kernel %dx%d, stride %d and padding %d wants gy (%d,*,%d,%d), it is " GAN__DIMS,
            GAN__SHAPE(x), kernel_h, kernel_w, stride, pad, x->n, gan_conv_out_h(&p),
            gan_conv_out_w(&p), GAN__SHAPE(gy));
    return gan__conv(&p, GAN__W, x, NULL, gy);
}

/* ===========================================================================================
   >>resample (implementation)
   =========================================================================================== */
static gan__cost gan__cost_resample(const gan_resample *p)
{
    size_t in = gan__size(GAN__SHAPE(p));
    size_t out = gan__size(p->n, p->c, p->out_h, p->out_w);
    size_t rows = 2 * gan__size(p->images, p->out_h, p->taps_h, 1);
    size_t columns = 2 * gan__size(p->images, p->out_w, p->taps_w, 1);
    gan__cost cost = {{p->adjoint ? out : in, rows, columns},
                      {p->adjoint ? in : out},
                      2.0 * (double)out * p->taps_h * p->taps_w};
    return cost;
}

GAN_API void gan_ref_resample(const gan_resample *p, const gan_real *x, const gan_real *rows,
                              const gan_real *columns, gan_real *y)
{
    size_t plane_x = (size_t)p->h * p->w;
    size_t plane_y = (size_t)p->out_h * p->out_w;
    size_t planes = (size_t)p->n * p->c;
    size_t from_size = p->adjoint ? plane_y : plane_x;
    size_t to_size = p->adjoint ? plane_x : plane_y;
    for (size_t k = 0; k < planes * to_size; k++)
        y[k] = 0;
    for (size_t plane = 0; plane < planes; plane++) {
        size_t image = p->images > 1 ? plane / p->c : 0;
        const gan_real *from = x + plane * from_size;
        gan_real *to = y + plane * to_size;
        for (int i = 0; i < p->out_h; i++)
            for (int j = 0; j < p->out_w; j++)
                for (int a = 0; a < p->taps_h; a++)
                    for (int b = 0; b < p->taps_w; b++) {
                        const gan_real *r = rows + 2 * ((image * p->out_h + i) * p->taps_h + a);
                        const gan_real *k = columns + 2 * ((image * p->out_w + j) * p->taps_w + b);
                        gan_real weight = r[1] * k[1];
                        if (r[0] < 0 || k[0] < 0)
                            continue;
                        size_t small = (size_t)i * p->out_w + j; /* (i,j), in the output's plane */
                        size_t large = (size_t)r[0] * p->w + (size_t)k[0]; /* in the input's */
                        if (p->adjoint)
                            to[large] += weight * from[small];
                        else
                            to[small] += weight * from[large];
                    }
    }
}

/* An axis' table as the cpu kernel reads it:

     out[i] = sum over t < taps of weight[t*outs + i] * in[index[t*outs + i]]      of image 0;

   image n's numbers begin n*taps*outs later. A tap that counts as 0 has the index ins, where the
   kernel keeps a 0. For the adjoint, ins and outs change places and the table is transposed, so
   that both directions collect their terms and nothing is scattered.

   Most tables repeat a pattern: for regular <= i < regular_end - period,

     weight of i + period = weight of i,     index of i + period = index of i + advance

   blurring has (period, advance) = (1,1), halving (1,2), doubling (2,1). There the kernel needs
   no index, and neighbours in the output are computed together. */
typedef struct {
    int ins, outs, taps;
    int *index;
    gan_real *weight;
    int period, advance, regular, regular_end;
} gan__axis_taps;

/* Whether output i has the taps of output i - period, moved on by advance. */
static bool gan__axis_repeats(const gan__axis_taps *axis, int i, int period, int advance)
{
    if (i < period)
        return false;
    for (int t = 0; t < axis->taps; t++) {
        size_t tap = (size_t)t * axis->outs + i;
        size_t before = tap - period;
        if (axis->weight[tap] != axis->weight[before])
            return false;
        if (axis->weight[tap] == 0)
            continue;
        if (axis->index[tap] == axis->ins || axis->index[tap] != axis->index[before] + advance)
            return false;
    }
    return true;
}

/* Finds the longest stretch of outputs with one of the three patterns; under 8 periods are not
   worth it. */
static void gan__axis_pattern(gan__axis_taps *axis)
{
    static const int periods[3] = {1, 1, 2}, advances[3] = {1, 2, 1};
    for (int k = 0; k < 3; k++) {
        int begin = 0;
        for (int i = 0; i < axis->outs; i++) {
            if (!gan__axis_repeats(axis, i, periods[k], advances[k]))
                begin = GAN__MAX(i - periods[k] + 1, begin);
            int length = i + 1 - begin;
            if (length <= axis->regular_end - axis->regular || length < 8 * periods[k])
                continue;
            axis->regular = begin;
            axis->regular_end = i + 1;
            axis->period = periods[k];
            axis->advance = advances[k];
        }
    }
}

/* How often one number of the input is used at most: the number of the adjoint's taps. */
static int gan__axis_most_uses(const gan_real *table, int images, int in, int out, int taps)
{
    size_t each = (size_t)out * taps;
    int most = 1;
    int *uses = (int *)gan__workspace(GAN__SCRATCH_LEAF, (size_t)in * sizeof *uses);
    for (size_t k = 0; k < images * each; k++) {
        int index = (int)table[2 * k];
        if (k % each == 0)
            memset(uses, 0, (size_t)in * sizeof *uses);
        if (index < 0)
            continue;
        uses[index]++;
        most = GAN__MAX(most, uses[index]);
    }
    return most;
}

/* The table (IMAGES,OUT,TAPS,2) of an axis, read into the workspace. */
static gan__axis_taps gan__axis_read(const gan_real *table, int images, int in, int out, int taps,
                                     bool adjoint, int slot)
{
    gan__axis_taps axis;
    axis.ins = adjoint ? out : in;
    axis.outs = adjoint ? in : out;
    axis.taps = adjoint ? gan__axis_most_uses(table, images, in, out, taps) : taps;
    axis.period = axis.advance = 1;
    axis.regular = axis.regular_end = 0;

    size_t each = (size_t)axis.outs * axis.taps;
    size_t total = images * each;
    axis.index = (int *)gan__workspace(slot, total * (sizeof(int) + sizeof(gan_real)) + 8);
    axis.weight = (gan_real *)(axis.index + (total + 1) / 2 * 2);
    for (size_t k = 0; k < total; k++) {
        axis.index[k] = axis.ins;
        axis.weight[k] = 0;
    }

    /* how many taps each output of the adjoint has so far */
    int *used = (int *)gan__workspace(GAN__SCRATCH_LEAF, (size_t)in * sizeof *used);
    for (int image = 0; image < images; image++) {
        memset(used, 0, (size_t)in * sizeof *used);
        for (int i = 0; i < out; i++)
            for (int t = 0; t < taps; t++, table += 2) {
                int from = (int)table[0];
                if (from < 0)
                    continue;
                size_t tap = image * each + (adjoint ? (size_t)used[from]++ * axis.outs + from
                                                     : (size_t)t * axis.outs + i);
                axis.index[tap] = adjoint ? i : from;
                axis.weight[tap] = table[1];
            }
    }
    if (images == 1)
        gan__axis_pattern(&axis);
    return axis;
}

typedef struct {
    int images, c;
    gan__axis_taps rows, columns;
    const gan_real *x;
    gan_real *y, *lines; /* a line for each thread, line_size apart */
    size_t line_size;
} gan__resample_job;

/* Lines begin .. end of y: the rows of x that a line needs are added up, weighted, into one line,
   and its numbers by the columns' table into y. */
static void gan__resample_body(void *argument, size_t begin, size_t end, int thread)
{
    const gan__resample_job *job = (const gan__resample_job *)argument;
    const gan__axis_taps *rows = &job->rows, *columns = &job->columns;
    const gan__simd_table *simd = gan__simd();
    gan_real *line = job->lines + (size_t)thread * job->line_size;
    int regular = columns->regular;
    int repeats = (columns->regular_end - regular) / columns->period;
    int tail = regular + repeats * columns->period; /* outputs behind the pattern begin here */
    for (size_t k = begin; k < end; k++) {
        size_t plane = k / rows->outs;
        size_t i = k % rows->outs;
        size_t image = job->images > 1 ? plane / job->c : 0;
        const gan_real *x = job->x + plane * rows->ins * columns->ins;
        gan_real *y = job->y + k * columns->outs;

        bool any = false;
        for (int t = 0; t < rows->taps; t++) {
            size_t tap = (image * rows->taps + t) * rows->outs + i;
            if (rows->index[tap] == rows->ins)
                continue;
            simd->add_scaled(x + (size_t)rows->index[tap] * columns->ins, rows->weight[tap], line,
                             (size_t)columns->ins, any);
            any = true;
        }
        if (!any)
            memset(line, 0, (size_t)columns->ins * sizeof *line);
        line[columns->ins] = 0; /* what a tap of 0 reads */

        const int *index = columns->index + image * columns->taps * columns->outs;
        const gan_real *weight = columns->weight + image * columns->taps * columns->outs;
        if (regular > 0)
            simd->resample_line(line, index, weight, columns->taps, columns->outs, y, regular);
        if (repeats > 0)
            simd->resample_even(line, columns->ins, index + regular, weight + regular,
                                columns->taps, columns->outs, columns->period, columns->advance,
                                line + columns->ins + 16, y + regular, repeats);
        if (tail < columns->outs)
            simd->resample_line(line, index + tail, weight + tail, columns->taps, columns->outs,
                                y + tail, columns->outs - tail);
    }
}

GAN_API void gan_cpu_resample(const gan_resample *p, const gan_real *x, const gan_real *rows,
                              const gan_real *columns, gan_real *y)
{
    bool adjoint = p->adjoint != 0;
    gan__resample_job job;
    job.images = p->images;
    job.c = p->c;
    job.rows = gan__axis_read(rows, p->images, p->h, p->out_h, p->taps_h, adjoint,
                              GAN__SCRATCH_CALLER);
    job.columns = gan__axis_read(columns, p->images, p->w, p->out_w, p->taps_w, adjoint,
                                 GAN__SCRATCH_CALLER_2);
    job.x = x;
    job.y = y;
    /* a line of x, and behind it take_even's memory: x's numbers and y's, split in two */
    job.line_size = (size_t)2 * job.columns.ins + job.columns.outs + 64;
    job.lines = (gan_real *)gan__workspace(GAN__SCRATCH_LEAF,
                                           (size_t)gan__threads() * job.line_size * sizeof *y);
    size_t grain = (size_t)(16384 / job.columns.outs + 1);
    gan__parallel((size_t)p->n * p->c * job.rows.outs, grain, gan__resample_body, &job);
}

/* Strides and padding of a gan_pool's axes, the defaults filled in. */
typedef struct {
    int stride_h, stride_w, pad_h, pad_w;
} gan__pool_steps;

static gan__pool_steps gan__pool_steps_of(const gan_pool *p)
{
    gan__pool_steps steps;
    steps.stride_h = p->stride_h ? p->stride_h : GAN__MAX(p->stride, 1);
    steps.stride_w = p->stride_w ? p->stride_w : GAN__MAX(p->stride, 1);
    steps.pad_h = p->pad + p->pad_h;
    steps.pad_w = p->pad + p->pad_w;
    return steps;
}

static gan__cost gan__cost_max_index(const gan_pool *p)
{
    size_t in = gan__size(p->planes, p->h, p->w, 1);
    size_t out = gan__size(p->planes, p->out_h, p->out_w, 1);
    gan__cost cost = {{in}, {out}, (double)out * p->kernel_h * p->kernel_w};
    return cost;
}

GAN_API void gan_ref_max_index(const gan_pool *p, const gan_real *x, gan_real *index)
{
    const gan__pool_steps steps = gan__pool_steps_of(p);
    for (int plane = 0; plane < p->planes; plane++, x += (size_t)p->h * p->w)
        for (int i = 0; i < p->out_h; i++)
            for (int j = 0; j < p->out_w; j++) {
                int best = -1;
                for (int u = 0; u < p->kernel_h; u++)
                    for (int v = 0; v < p->kernel_w; v++) {
                        int row = i * steps.stride_h + u - steps.pad_h;
                        int column = j * steps.stride_w + v - steps.pad_w;
                        int place = row * p->w + column;
                        if (gan__in_padding(row, column, p->h, p->w))
                            continue;
                        if (best < 0 || x[place] > x[best] || x[place] != x[place])
                            best = place;
                    }
                *index++ = (gan_real)best;
            }
}

/* A line of outputs at a time: tap (u,v) of all its windows at once, in the order of ref, against
   the best number that each window has so far. */
static void gan__max_index_body(void *argument, size_t begin, size_t end, int thread)
{
    gan__job *job = (gan__job *)argument;
    const gan_pool *p = (const gan_pool *)job->p;
    const gan__pool_steps steps = gan__pool_steps_of(p);
    const gan__simd_table *simd = gan__simd();
    gan_real *best = job->out[1] + (size_t)thread * p->out_w;
    for (size_t line = begin; line < end; line++) {
        int top = (int)(line % p->out_h) * steps.stride_h -
                  steps.pad_h; /* row of the windows' u = 0 */
        const gan_real *x = job->in[0] + line / p->out_h * p->h * p->w;
        gan_real *y = job->out[0] + line * p->out_w;
        for (int j = 0; j < p->out_w; j++)
            y[j] = -1;
        for (int u = GAN__MAX(0, -top); u < p->kernel_h && top + u < p->h; u++)
            for (int v = 0; v < p->kernel_w; v++) {
                /* outputs first .. last-1 have this tap inside the image */
                int left = v - steps.pad_w;
                int first = left < 0 ? gan__ceil_div(-left, steps.stride_w) : 0;
                int last = left < p->w ? (p->w - 1 - left) / steps.stride_w + 1 : 0;
                last = GAN__MIN(p->out_w, last);
                int place = (top + u) * p->w + first * steps.stride_w + left;
                if (first < last)
                    simd->max_of_line(x + place, steps.stride_w, place, best + first, y + first,
                                      last - first);
            }
    }
}

GAN_API void gan_cpu_max_index(const gan_pool *p, const gan_real *x, gan_real *index)
{
    size_t best = (size_t)gan__threads() * p->out_w; /* numbers: a line for each thread */
    gan__job job = {p, {x}, {index, NULL}};
    job.out[1] = (gan_real *)gan__workspace(GAN__SCRATCH_LEAF, best * sizeof *index);
    gan__parallel((size_t)p->planes * p->out_h, (size_t)(4096 / p->out_w + 1), gan__max_index_body,
                  &job);
}

/* ---- tensors. Every number of the output is a weighted sum of a few numbers of the input, its
   taps. A table holds for each output i its TAPS pairs (index of a number of the input, weight); an
   index of -1 is a tap that is not used. gan_resize of 2 numbers to 4, GAN_BILINEAR: output i lies
   at input position (i + 0.5)*2/4 - 0.5,

       i   position    tap 0        tap 1
       0    -0.25     (0, 1   )    (-1, 0  )     y[0] = x[0]         before the first centre
       1     0.25     (0, 0.75)    (1, 0.25)     y[1] = 0.75 x[0] + 0.25 x[1]
       2     0.75     (0, 0.25)    (1, 0.75)     y[2] = 0.25 x[0] + 0.75 x[1]
       3     1.25     (1, 0.75)    (1, 0.25)     y[3] = x[1]         behind the last centre

   A plane is resampled by a table of its rows and one of its columns: y[i,j] is the sum over all
   pairs of a tap (r, R) of row i and a tap (k, K) of column j of R * K * x[r,k]. */
typedef struct {
    int in, out, taps; /* numbers of the input and of the output along this axis, taps of each */
    gan_real *pairs;   /* (out,taps,2): index and weight of tap t of output i at 2*(i*taps + t) */
} gan__tap_table;

/* A table to be filled by gan__set_tap, in scratch memory: gan__tap_tensor makes a tensor of it. */
static gan__tap_table gan__tap_table_new(int in, int out, int taps)
{
    gan__tap_table table = {in, out, taps, NULL};
    table.pairs = (gan_real *)gan__workspace(GAN__SCRATCH_LEAF,
                                             2 * (size_t)out * taps * sizeof *table.pairs);
    return table;
}

/* Sets tap t of output i. A tap without effect is stored as unused: an index outside the input,
   where x counts as 0, or a weight of 0. */
static void gan__set_tap(gan__tap_table *table, int i, int t, int index, double weight)
{
    gan_real *pair = table->pairs + 2 * ((size_t)i * table->taps + t);
    bool used = index >= 0 && index < table->in && weight != 0;
    pair[0] = (gan_real)(used ? index : -1);
    pair[1] = (gan_real)(used ? weight : 0);
}

static gan_tensor *gan__tap_tensor(gan *g, const gan__tap_table *table)
{
    return gan__constant(g, table->pairs, 1, table->out, table->taps, 2);
}

static gan_tensor *gan__resample_vjp(gan_tensor *y, gan_tensor *gy, int i);
static const struct gan__op gan__op_resample = {"a resampling", gan__resample_vjp, false};

/* x resampled, or, if p->adjoint, a tensor (n,c,out_h,out_w) brought back to (n,c,h,w). */
static gan_tensor *gan__resample_with(const gan_resample *p, gan_tensor *x, gan_tensor *rows,
                                      gan_tensor *columns)
{
    int h = p->adjoint ? p->h : p->out_h;
    int w = p->adjoint ? p->w : p->out_w;
    gan_tensor *y = gan__tensor(x->g, NULL, p->n, p->c, h, w);
    const gan_real *in[3] = {x->data, rows->data, columns->data};
    gan__run(x->g, GAN__K_resample, p, in, &y->data);
    y->sizes.resample = *p;
    return gan__record(y, &gan__op_resample, x, rows, columns);
}

/* Resampling is a linear map of x, so that the gradient of x is the adjoint map of gy. The tables,
   inputs 1 and 2, are constants and have no gradient. */
static gan_tensor *gan__resample_vjp(gan_tensor *y, gan_tensor *gy, int i)
{
    gan_resample p = y->sizes.resample;
    p.adjoint = !p.adjoint;
    return i ? NULL : gan__resample_with(&p, gy, y->in[1], y->in[2]);
}

/* x resampled by the tables rows (IMAGES,OUT_H,TAPS,2) and columns (IMAGES,OUT_W,TAPS,2). */
static gan_tensor *gan__resample(gan_tensor *x, gan_tensor *rows, gan_tensor *columns)
{
    gan_resample p = {GAN__SHAPE(x), rows->c, columns->c, rows->h, columns->h, rows->n, 0};
    return gan__resample_with(&p, x, rows, columns);
}

static void gan__check_resampled(const char *function, const gan_tensor *x, int h, int w)
{
    if (h < 1 || w < 1)
        gan__fail(x->g, function,
                  "input " GAN__DIMS " would become %d rows of %d: at least 1 of 1 is wanted",
                  GAN__SHAPE(x), h, w);
    gan__check_shape(x->g, function, x->n, x->c, h, w);
}

/* The table of one axis of gan_pad. Output i is the input's number i - before. If that lies outside
   the input, it is 0 (GAN_ZEROS), the first or last number (GAN_REPLICATE), or the number mirrored
   at the first or last one (GAN_REFLECT): -1 becomes 1, and in becomes in - 2. */
static gan_tensor *gan__pad_table(gan *g, int in, int out, int before, gan_pad_mode mode)
{
    gan__tap_table table = gan__tap_table_new(in, out, 1);
    for (int i = 0; i < out; i++) {
        int index = i - before;
        if (mode == GAN_REPLICATE)
            index = GAN__MIN(GAN__MAX(index, 0), in - 1);
        if (mode == GAN_REFLECT)
            index = in - 1 - abs(in - 1 - abs(index));
        gan__set_tap(&table, i, 0, index, 1);
    }
    return gan__tap_tensor(g, &table);
}

GAN_API gan_tensor *gan_pad(gan_tensor *x, int top, int bottom, int left, int right,
                            gan_pad_mode mode)
{
    const char *function = "gan_pad";
    gan *g = gan__valid(x, function);
    int h = x->h + top + bottom;
    int w = x->w + left + right;
    if (mode != GAN_ZEROS && mode != GAN_REFLECT && mode != GAN_REPLICATE)
        gan__fail(g, function, "mode %d: it is GAN_ZEROS, GAN_REFLECT or GAN_REPLICATE", (int)mode);
    if (mode == GAN_REFLECT && (GAN__MAX(top, bottom) >= x->h || GAN__MAX(left, right) >= x->w))
        gan__fail(g, function,
                  "input " GAN__DIMS ", padding %d,%d,%d,%d: reflection wants less than the size",
                  GAN__SHAPE(x), top, bottom, left, right);
    gan__check_resampled(function, x, h, w);
    gan_tensor *rows = gan__pad_table(g, x->h, h, top, mode);
    return gan__resample(x, rows, gan__pad_table(g, x->w, w, left, mode));
}

/* The table of one axis of gan_resize. In the linear modes an output whose position lies between
   the centres of two inputs has these as taps, the closer one with the larger weight; before the
   first centre and behind the last it equals that input. */
static gan_tensor *gan__resize_table(gan *g, int in, int out, gan_resize_mode mode)
{
    gan__tap_table table = gan__tap_table_new(in, out, mode == GAN_NEAREST ? 1 : 2);
    for (int i = 0; i < out; i++) {
        if (mode == GAN_NEAREST) {
            gan__set_tap(&table, i, 0, (int)((int64_t)i * in / out), 1);
            continue;
        }
        double position = 0; /* GAN_ALIGNED, one output: the first number */
        if (mode == GAN_BILINEAR)
            position = GAN__MAX((i + 0.5) * in / out - 0.5, 0);
        else if (out > 1)
            position = (double)i * (in - 1) / (out - 1);
        int before = (int)position;
        double fraction = position - floor(position);
        gan__set_tap(&table, i, 0, GAN__MIN(before, in - 1), 1 - fraction);
        gan__set_tap(&table, i, 1, GAN__MIN(before + 1, in - 1), fraction);
    }
    return gan__tap_tensor(g, &table);
}

GAN_API gan_tensor *gan_resize(gan_tensor *x, int h, int w, gan_resize_mode mode)
{
    const char *function = "gan_resize";
    gan *g = gan__valid(x, function);
    if (mode != GAN_NEAREST && mode != GAN_BILINEAR && mode != GAN_ALIGNED)
        gan__fail(g, function, "mode %d: it is GAN_NEAREST, GAN_BILINEAR or GAN_ALIGNED",
                  (int)mode);
    gan__check_resampled(function, x, h, w);
    gan_tensor *rows = gan__resize_table(g, x->h, h, mode);
    return gan__resample(x, rows, gan__resize_table(g, x->w, w, mode));
}

typedef struct {
    const gan_real *filter;
    int count, up, down, pad0;
    gan_real gain;
} gan__fir;

/* One axis of gan_upfirdn2d. The filter's tap t of output i lies at i*down + t - pad0 of the
   numbers spread out by up: only every up-th tap meets a number of x, the others meet zeros. */
static gan_tensor *gan__fir_table(gan *g, int in, int out, const gan__fir *fir)
{
    gan__tap_table table = gan__tap_table_new(in, out, gan__ceil_div(fir->count, fir->up));
    for (int i = 0; i < out; i++) {
        int first = i * fir->down - fir->pad0;
        int remainder = (first % fir->up + fir->up) % fir->up; /* of a division rounded down */
        int skipped = (fir->up - remainder) % fir->up;         /* taps before the first number */
        for (int t = 0; t < table.taps; t++) {
            int tap = skipped + t * fir->up;
            int position = first + tap;
            bool used = tap < fir->count && position >= 0;
            double weight = used ? (double)fir->gain * (double)fir->filter[fir->count - 1 - tap]
                                 : 0; /* a convolution: the filter is turned round */
            gan__set_tap(&table, i, t, used ? position / fir->up : -1, weight);
        }
    }
    return gan__tap_tensor(g, &table);
}

GAN_API gan_tensor *gan_upfirdn2d(gan_tensor *x, const gan_real *filter, int count, int up,
                                  int down, int pad0, int pad1, gan_real gain)
{
    const char *function = "gan_upfirdn2d";
    gan *g = gan__valid(x, function);
    gan__fir fir = {filter, count, up, down, pad0, gain};
    if (!filter || count < 1 || up < 1 || down < 1)
        gan__fail(g, function, "input " GAN__DIMS ": %d taps, up %d, down %d: each is 1 or more",
                  GAN__SHAPE(x), filter ? count : 0, up, down);
    int h = x->h * up + pad0 + pad1 - count; /* the last place of the filter, before `down` */
    int w = x->w * up + pad0 + pad1 - count;
    h = h < 0 ? 0 : h / down + 1;
    w = w < 0 ? 0 : w / down + 1;
    gan__check_resampled(function, x, h, w);
    gan_tensor *rows = gan__fir_table(g, x->h, h, &fir);
    return gan__resample(x, rows, gan__fir_table(g, x->w, w, &fir));
}

/* One axis of a pooling, its options filled in: windows of kernel, stride apart, after pad. */
typedef struct {
    int in, out, kernel, stride, pad;
} gan__pool_axis;

static gan__pool_axis gan__pool_axis_of(const char *function, const gan_tensor *x, int in,
                                        int kernel, int stride, int pad, bool ceil_)
{
    gan__pool_axis axis = {in, 1, in, 1, 0};
    if (kernel == 0)
        return axis; /* one window */
    if (kernel < 0 || stride < 1 || pad < 0 || 2 * pad > kernel || kernel > in + 2 * pad)
        gan__fail(x->g, function,
                  "input " GAN__DIMS ", kernel %d, stride %d, padding %d: the kernel fits in the "
                  "padded input, the stride is 1 or more, the padding at most "
                  "half the kernel",
                  GAN__SHAPE(x), kernel, stride, pad);
    axis.kernel = kernel;
    axis.stride = stride;
    axis.pad = pad;
    axis.out = (in + 2 * pad - kernel + (ceil_ ? stride - 1 : 0)) / stride + 1;
    if ((axis.out - 1) * stride >= in + pad)
        axis.out--; /* the last window would begin in the padding behind the image */
    return axis;
}

static void gan__pool_axes(const char *function, const gan_tensor *x, const gan_pool_options *o,
                           gan__pool_axis *rows, gan__pool_axis *columns)
{
    int kernel_h = o->kernel_h ? o->kernel_h : o->kernel;
    int kernel_w = o->kernel_w ? o->kernel_w : o->kernel;
    int stride_h = o->stride_h ? o->stride_h : o->stride ? o->stride : kernel_h;
    int stride_w = o->stride_w ? o->stride_w : o->stride ? o->stride : kernel_w;
    *rows = gan__pool_axis_of(function, x, x->h, kernel_h, stride_h, o->pad + o->pad_h, o->ceil);
    *columns = gan__pool_axis_of(function, x, x->w, kernel_w, stride_w, o->pad + o->pad_w, o->ceil);
}

/* Options of a square window, whose stride must be given. */
static gan_pool_options gan__square_window(const char *function, const gan_tensor *x, int kernel,
                                           int stride, int pad, bool ceil_)
{
    gan_pool_options options;
    memset(&options, 0, sizeof options);
    if (kernel != 0 && stride == 0)
        gan__fail(x->g, function, "input " GAN__DIMS ", kernel %d, stride 0: it is 1 or more",
                  GAN__SHAPE(x), kernel);
    options.kernel = kernel;
    options.stride = stride;
    options.pad = pad;
    options.ceil = ceil_;
    return options;
}

/* The mean as a resampling: a window's taps are its pixels, each with the weight 1/kernel. The
   padding's zeros count; what a window has behind them (ceil) does not. */
static gan_tensor *gan__pool_table(gan *g, const gan__pool_axis *p)
{
    gan__tap_table table = gan__tap_table_new(p->in, p->out, p->kernel);
    for (int i = 0; i < p->out; i++) {
        int first = i * p->stride - p->pad;
        int end = GAN__MIN(first + p->kernel, p->in + p->pad);
        for (int t = 0; t < p->kernel; t++)
            gan__set_tap(&table, i, t, first + t, 1.0 / (end - first));
    }
    return gan__tap_tensor(g, &table);
}

static gan_tensor *gan__avg_pool2d(const char *function, gan_tensor *x,
                                   const gan_pool_options *options)
{
    gan__pool_axis rows, columns;
    gan__pool_axes(function, x, options, &rows, &columns);
    if (!options->kernel && !options->kernel_h && !options->kernel_w)
        return gan_mean_to(x, x->n, x->c, 1, 1);
    gan__check_shape(x->g, function, x->n, x->c, rows.out, columns.out);
    gan_tensor *row_table = gan__pool_table(x->g, &rows);
    return gan__resample(x, row_table, gan__pool_table(x->g, &columns));
}

GAN_API gan_tensor *gan_avg_pool2d(gan_tensor *x, int kernel, int stride, int pad)
{
    const char *function = "gan_avg_pool2d";
    gan__valid(x, function);
    gan_pool_options options = gan__square_window(function, x, kernel, stride, pad, false);
    return gan__avg_pool2d(function, x, &options);
}

GAN_API gan_tensor *gan_avg_pool2d_with(gan_tensor *x, gan_pool_options options)
{
    gan__valid(x, "gan_avg_pool2d_with");
    return gan__avg_pool2d("gan_avg_pool2d_with", x, &options);
}

/* The maximum's place in each window, then the numbers there: the derivative is gather's. */
static gan_tensor *gan__max_pool2d(const char *function, gan_tensor *x,
                                   const gan_pool_options *options)
{
    gan__pool_axis rows, columns;
    gan__pool_axes(function, x, options, &rows, &columns);
    int planes = x->n * x->c, places = rows.out * columns.out;
    gan_pool p;
    memset(&p, 0, sizeof p);
    p.planes = planes;
    p.h = x->h;
    p.w = x->w;
    p.out_h = rows.out;
    p.out_w = columns.out;
    p.kernel_h = rows.kernel;
    p.kernel_w = columns.kernel;
    p.stride = rows.stride; /* so that a square window has 0 in the fields of one axis */
    p.stride_w = columns.stride == rows.stride ? 0 : columns.stride;
    p.pad = rows.pad;
    p.pad_w = columns.pad - rows.pad;
    /* planes along C, since an index (N,1,1,1) would be a list of slices */
    gan_tensor *index = gan__tensor(x->g, NULL, 1, planes, 1, places);
    gan__run_1(x->g, GAN__K_max_index, &p, x->data, index->data);
    gan_tensor *y = gan_gather(gan_reshape(x, 1, planes, 1, x->h * x->w), index, 3);
    return gan_reshape(y, x->n, x->c, rows.out, columns.out);
}

GAN_API gan_tensor *gan_max_pool2d(gan_tensor *x, int kernel, int stride, int pad, bool ceil_)
{
    const char *function = "gan_max_pool2d";
    gan__valid(x, function);
    gan_pool_options options = gan__square_window(function, x, kernel, stride, pad, ceil_);
    return gan__max_pool2d(function, x, &options);
}

GAN_API gan_tensor *gan_max_pool2d_with(gan_tensor *x, gan_pool_options options)
{
    gan__valid(x, "gan_max_pool2d_with");
    return gan__max_pool2d("gan_max_pool2d_with", x, &options);
}

/* Channel (c*r + u)*r + v of a pixel becomes pixel (u,v) of an r x r block of channel c; r = 2:

       channels  0 1 2 3   ->   0 1
                                2 3

   In axes: x (N,C*r*r,H,W) = (N*C, u, v, H, W) and y (N,C,H*r,W*r) = (N*C, H, u, W, v). A tensor
   has four dimensions, so that v moves behind W first, then u behind H:

       (N*C*u, v, H, W) -> (N*C*u, H, W, v) = (N*C, u, H, W*v) -> (N*C, H, u, W*v) */
GAN_API gan_tensor *gan_pixel_shuffle(gan_tensor *x, int r)
{
    gan *g = gan__valid(x, "gan_pixel_shuffle");
    int n = x->n, h = x->h, w = x->w;
    int c = r > 0 ? x->c / r / r : 0;
    if (r < 1 || c * r * r != x->c)
        gan__fail(g, "gan_pixel_shuffle",
                  "input " GAN__DIMS ": %d channels are no multiple of %d squared", GAN__SHAPE(x),
                  x->c, r);
    gan_tensor *y = gan_permute(gan_reshape(x, n * c * r, r, h, w), 0, 2, 3, 1);
    y = gan_permute(gan_reshape(y, n * c, r, h, w * r), 0, 2, 1, 3);
    return gan_reshape(y, n, c, h * r, w * r);
}

/* ===========================================================================================
   >>norm (implementation)
   =========================================================================================== */
/* One channel of a batch has M = N*SIZE numbers x_i. With r = (var + eps)^-1/2 and xhat_i =
   (x_i - mean)*r the result is y_i = weight*xhat_i + bias. Its derivative (Ioffe and Szegedy 2015,
   section 3), with g_i = dL/dy_i, S0 = sum of g_i and S1 = sum of g_i*xhat_i:

     dL/dbias   = S0,    dL/dweight = S1,    dL/dxhat_i = weight*g_i
     dL/dvar    = sum of dL/dxhat_i * (x_i - mean) * -r^3/2           = -weight * r^2 * S1/2
     dL/dmean   = sum of dL/dxhat_i * -r     (x_i - mean adds up to 0) = -weight * r * S0
     dL/dx_i    = dL/dxhat_i * r + dL/dvar * 2(x_i - mean)/M + dL/dmean/M
                = weight*r * (g_i - (S0 + xhat_i*S1)/M)

   frozen: mean and var are constants, and dL/dx_i = weight*r*g_i. norm_sums computes S0 and S1,
   norm_grad the last line. stats and sums are (2,C): the means and the variances, S0 and S1. */

static gan__cost gan__cost_norm_stats(const gan_norm *p)
{
    size_t n = p->n * p->c * p->size;
    size_t c = (size_t)p->c;
    gan__cost cost = {{n}, {2 * c}, 4.0 * (double)n};
    return cost;
}

GAN_API void gan_ref_norm_stats(const gan_norm *p, const gan_real *x, gan_real *stats)
{
    double count = (double)p->n * (double)p->size;
    for (int c = 0; c < p->c; c++) {
        double mean = 0, var = 0;
        for (int n = 0; n < p->n; n++)
            for (size_t i = 0; i < p->size; i++)
                mean += x[((size_t)n * p->c + c) * p->size + i] / count;
        for (int n = 0; n < p->n; n++)
            for (size_t i = 0; i < p->size; i++) {
                double d = x[((size_t)n * p->c + c) * p->size + i] - mean;
                var += d * d / count;
            }
        stats[c] = (gan_real)mean;
        stats[p->c + c] = (gan_real)var;
    }
}

static gan__cost gan__cost_norm_apply(const gan_norm *p)
{
    size_t n = p->n * p->c * p->size;
    size_t c = (size_t)p->c;
    gan__cost cost = {{n, 2 * c, c, c}, {n}, 2.0 * (double)n};
    return cost;
}

GAN_API void gan_ref_norm_apply(const gan_norm *p, const gan_real *x, const gan_real *stats,
                                const gan_real *weight, const gan_real *bias, gan_real *y)
{
    const gan_real *mean = stats, *var = stats + p->c;
    for (int n = 0; n < p->n; n++)
        for (int c = 0; c < p->c; c++)
            for (size_t i = 0; i < p->size; i++, x++, y++)
                *y = (*x - mean[c]) / GAN__F(sqrt, var[c] + p->eps) * weight[c] + bias[c];
}

static gan__cost gan__cost_norm_sums(const gan_norm *p)
{
    size_t n = p->n * p->c * p->size;
    size_t c = (size_t)p->c;
    gan__cost cost = {{n, n, 2 * c}, {2 * c}, 4.0 * (double)n};
    return cost;
}

/* For each channel S0 and S1: the sum of gy, and of gy*xhat with xhat = (x - mean)/deviation. */
GAN_API void gan_ref_norm_sums(const gan_norm *p, const gan_real *gy, const gan_real *x,
                               const gan_real *stats, gan_real *sums)
{
    const gan_real *mean = stats, *var = stats + p->c;
    for (int c = 0; c < p->c; c++) {
        double sum_gy = 0, sum_gy_xhat = 0;
        double deviation = sqrt((double)var[c] + p->eps);
        for (int n = 0; n < p->n; n++)
            for (size_t i = 0; i < p->size; i++) {
                size_t at = ((size_t)n * p->c + c) * p->size + i;
                sum_gy += gy[at];
                sum_gy_xhat += gy[at] * (x[at] - (double)mean[c]) / deviation;
            }
        sums[c] = (gan_real)sum_gy;
        sums[p->c + c] = (gan_real)sum_gy_xhat;
    }
}

static gan__cost gan__cost_norm_grad(const gan_norm *p)
{
    size_t n = p->n * p->c * p->size;
    size_t c = (size_t)p->c;
    gan__cost cost = {{n, n, 2 * c, c, 2 * c}, {n}, 4.0 * (double)n};
    return cost;
}

/* gx = weight/deviation * (gy - (S0 + xhat*S1)/count). The second term is there because x also
   moves the mean and the variance of its channel; frozen ones it does not move. */
GAN_API void gan_ref_norm_grad(const gan_norm *p, const gan_real *gy, const gan_real *x,
                               const gan_real *stats, const gan_real *weight, const gan_real *sums,
                               gan_real *gx)
{
    const gan_real *mean = stats, *var = stats + p->c;
    const gan_real *sum_gy = sums, *sum_gy_xhat = sums + p->c;
    double count = (double)p->n * (double)p->size;
    for (int n = 0; n < p->n; n++)
        for (int c = 0; c < p->c; c++)
            for (size_t i = 0; i < p->size; i++, gy++, x++, gx++) {
                double deviation = sqrt((double)var[c] + p->eps);
                double xhat = (*x - (double)mean[c]) / deviation;
                double through_stats = p->frozen ? 0 : (sum_gy[c] + xhat * sum_gy_xhat[c]) / count;
                *gx = (gan_real)(weight[c] / deviation * (*gy - through_stats));
            }
}

/* ---- cpu: one channel, or one (n,c) line, at a time. Statistics take two passes, the mean first
   and then the squares of x - mean: the mean of x^2 minus mean^2 would lose a small variance to
   rounding where the mean is large. A channel's numbers are still in the cache for the second
   pass.

   Kernels compute with gan_real, so the squares are of x - m, with m the mean rounded to gan_real.
   As mean of (x - m)^2 = var + (mean - m)^2, the last term is subtracted. */
static void gan__norm_stats_body(void *argument, size_t begin, size_t end, int thread)
{
    gan__job *job = (gan__job *)argument;
    const gan_norm *p = (const gan_norm *)job->p;
    const gan__simd_table *simd = gan__simd();
    const ptrdiff_t stride = (ptrdiff_t)(p->c * p->size);
    double count = (double)p->n * (double)p->size;
    gan_real *stats = job->out[0];
    (void)thread;
    for (size_t c = begin; c < end; c++) {
        const gan_real *x = job->in[0] + c * p->size;
        double mean = simd->sum(x, (size_t)p->n, stride, p->size) / count;
        double rounding = mean - (gan_real)mean;
        double squares = simd->sum_of_squares(x, (size_t)p->n, stride, p->size, (gan_real)mean);
        double var = squares / count - rounding * rounding;
        stats[c] = (gan_real)mean;
        stats[p->c + c] = (gan_real)GAN__MAX(var, 0);
    }
}

GAN_API void gan_cpu_norm_stats(const gan_norm *p, const gan_real *x, gan_real *stats)
{
    gan__job job = {p, {x}, {stats}};
    gan__parallel((size_t)p->c, 4096 / (p->n * p->size) + 1, gan__norm_stats_body, &job);
}

/* y = scale*x + shift, with scale = weight/sqrt(var + eps) and shift = bias - scale*mean */
static void gan__norm_apply_body(void *argument, size_t begin, size_t end, int thread)
{
    gan__job *job = (gan__job *)argument;
    const gan_norm *p = (const gan_norm *)job->p;
    const gan_real *mean = job->in[1], *var = job->in[1] + p->c;
    const gan_real *weight = job->in[2], *bias = job->in[3];
    (void)thread;
    for (size_t line = begin; line < end; line++) {
        size_t c = line % p->c, first = line * p->size;
        gan_real scale = weight[c] / GAN__F(sqrt, var[c] + p->eps);
        gan_real shift = bias[c] - scale * mean[c];
        gan__simd()->scale_shift(job->in[0] + first, scale, shift, job->out[0] + first, p->size);
    }
}

GAN_API void gan_cpu_norm_apply(const gan_norm *p, const gan_real *x, const gan_real *stats,
                                const gan_real *weight, const gan_real *bias, gan_real *y)
{
    gan__job job = {p, {x, stats, weight, bias}, {y}};
    gan__parallel((size_t)p->n * p->c, 16384 / p->size + 1, gan__norm_apply_body, &job);
}

static void gan__norm_sums_body(void *argument, size_t begin, size_t end, int thread)
{
    gan__job *job = (gan__job *)argument;
    const gan_norm *p = (const gan_norm *)job->p;
    const gan_real *mean = job->in[2], *var = job->in[2] + p->c;
    (void)thread;
    for (size_t c = begin; c < end; c++) {
        double total[2]; /* of gy and of gy*(x - mean) */
        gan__simd()->norm_sums(job->in[0] + c * p->size, job->in[1] + c * p->size, (size_t)p->n,
                               (ptrdiff_t)(p->c * p->size), p->size, mean[c], total);
        job->out[0][c] = (gan_real)total[0];
        job->out[0][p->c + c] = (gan_real)(total[1] / sqrt((double)var[c] + p->eps));
    }
}

GAN_API void gan_cpu_norm_sums(const gan_norm *p, const gan_real *gy, const gan_real *x,
                               const gan_real *stats, gan_real *sums)
{
    gan__job job = {p, {gy, x, stats}, {sums}};
    gan__parallel((size_t)p->c, 4096 / (p->n * p->size) + 1, gan__norm_sums_body, &job);
}

/* The formula multiplied out: gx = a*gy + b*(x - mean) + shift, with r = 1/sqrt(var + eps),
   a = weight*r, b = -a*r*S1/M and shift = -a*S0/M; S0 and S1 are the sums of gy and of gy*xhat,
   M their count */
static void gan__norm_grad_body(void *argument, size_t begin, size_t end, int thread)
{
    gan__job *job = (gan__job *)argument;
    const gan_norm *p = (const gan_norm *)job->p;
    const gan_real *mean = job->in[2], *var = job->in[2] + p->c;
    const gan_real *weight = job->in[3];
    const gan_real *sum_gy = job->in[4], *sum_gy_xhat = job->in[4] + p->c;
    double count = (double)p->n * (double)p->size;
    (void)thread;
    for (size_t line = begin; line < end; line++) {
        size_t c = line % p->c, first = line * p->size;
        double r = 1 / sqrt((double)var[c] + p->eps);
        double a = weight[c] * r;
        double b = p->frozen ? 0 : -a * r * sum_gy_xhat[c] / count;
        double shift = p->frozen ? 0 : -a * sum_gy[c] / count;
        gan__simd()->norm_grad(job->in[0] + first, job->in[1] + first, mean[c], (gan_real)a,
                               (gan_real)b, (gan_real)shift, job->out[0] + first, p->size);
    }
}

GAN_API void gan_cpu_norm_grad(const gan_norm *p, const gan_real *gy, const gan_real *x,
                               const gan_real *stats, const gan_real *weight, const gan_real *sums,
                               gan_real *gx)
{
    gan__job job = {p, {gy, x, stats, weight, sums}, {gx}};
    gan__parallel((size_t)p->n * p->c, 16384 / p->size + 1, gan__norm_grad_body, &job);
}

/* ---- tensors. y->in is x, weight and bias; y->norm_stats the statistics (2,C,1,1); y->attr[0]
   frozen; y->real[0] eps */

/* The derivative in tensor functions, for a gradient that is to be differentiated itself:
     d/dbias   sum of gy      (gan__norm_vjp has it)
     d/dweight sum of gy*xhat
     d/dx      weight*r * (gy - mean of gy - xhat * mean of gy*xhat), or weight*r*gy if frozen */
static gan_tensor *gan__norm_vjp_recorded(gan_tensor *y, gan_tensor *gy, int i)
{
    gan_tensor *x = y->in[0], *weight = y->in[1];
    bool frozen = y->attr[0] != 0;
    int c = x->c;
    gan_tensor *mean, *var;
    if (frozen) {
        mean = gan_slice(y->norm_stats, 0, 0, 1);
        var = gan_slice(y->norm_stats, 0, 1, 1);
    } else {
        mean = gan_mean_to(x, 1, c, 1, 1);
        var = gan_mean_to(gan_square(gan_sub(x, mean)), 1, c, 1, 1);
    }
    gan_tensor *r = gan_rsqrt(gan_add_scalar(var, y->real[0]));
    gan_tensor *xhat = gan_mul(gan_sub(x, mean), r);
    if (i == 1)
        return gan_sum_to(gan_mul(gy, xhat), 1, c, 1, 1);
    gan_tensor *scale = gan_mul(weight, r);
    if (frozen)
        return gan_mul(gy, scale);
    gan_tensor *mean_gy = gan_mean_to(gy, 1, c, 1, 1);
    gan_tensor *mean_gy_xhat = gan_mean_to(gan_mul(gy, xhat), 1, c, 1, 1);
    gan_tensor *through_stats = gan_add(mean_gy, gan_mul(xhat, mean_gy_xhat));
    return gan_mul(scale, gan_sub(gy, through_stats));
}

/* The sums of norm_sums are d/dbias (row 0) and d/dweight (row 1), and norm_grad needs them for
   d/dx: they are computed once for all three and kept in y->norm_sums. */
static gan_tensor *gan__norm_vjp(gan_tensor *y, gan_tensor *gy, int i)
{
    gan *g = y->g;
    gan_tensor *x = y->in[0];
    gan_norm p = {x->n, x->c, (size_t)x->h * x->w, y->real[0], y->attr[0]};
    if (g->recording)
        return i == 2 ? gan__unbroadcast(gy, y->in[2]) : gan__norm_vjp_recorded(y, gy, i);
    gan_tensor *sums = y->norm_sums ? y->norm_sums : gan__tensor(g, NULL, 2, x->c, 1, 1);
    const gan_real *in[5] = {gy->data, x->data, y->norm_stats->data, y->in[1]->data, sums->data};
    if (!y->norm_sums) {
        gan__run(g, GAN__K_norm_sums, &p, in, &sums->data);
        y->norm_sums = sums;
        sums->buffer->references++; /* until all three derivatives are computed */
    }
    if (i > 0)
        return gan_slice(sums, 0, 2 - i, 1);
    gan_tensor *into = gan__reuse(gy);
    gan_tensor *gx = gan__tensor(g, into ? into->buffer : NULL, GAN__SHAPE(x));
    gan__run(g, GAN__K_norm_grad, &p, in, &gx->data);
    return gx;
}

static const struct gan__op gan__op_norm = {"gan_batch_norm", gan__norm_vjp, false};

static gan_tensor *gan__norm_with(const gan_norm *p, gan_tensor *x, gan_tensor *stats,
                                  gan_tensor *weight, gan_tensor *bias)
{
    gan_tensor *y = gan__tensor(x->g, NULL, GAN__SHAPE(x));
    const gan_real *in[4] = {x->data, stats->data, weight->data, bias->data};
    gan__run(x->g, GAN__K_norm_apply, p, in, &y->data);
    y->norm_stats = stats;
    y->attr[0] = p->frozen;
    y->real[0] = p->eps;
    return gan__record(y, &gan__op_norm, x, weight, bias);
}

/* running = (1-momentum)*running + momentum*factor*(row of stats) */
static void gan__update_running(gan_tensor *running, gan_tensor *stats, int row, gan_real momentum,
                                gan_real factor)
{
    gan_zip p = {GAN_MIX,          1, running->c, 1, 1, {0, 1, 0, 0}, {0, 1, 0, 0}, 1 - momentum,
                 momentum * factor};
    const gan_real *batch = stats->data + (size_t)row * running->c;
    gan__run_2(running->g, GAN__K_zip, &p, running->data, batch, running->data);
}

GAN_API gan_tensor *gan_batch_norm_f(gan_tensor *x, gan_tensor *weight, gan_tensor *bias,
                                     gan_tensor *running_mean, gan_tensor *running_var,
                                     bool training, gan_real momentum, gan_real eps)
{
    const char *function = "gan_batch_norm_f";
    gan *g = gan__valid(x, function);
    const gan_tensor *const params[4] = {weight, bias, running_mean, running_var};
    for (int i = 0; i < 4; i++) {
        gan__valid_pair(x, params[i], function);
        if (params[i]->n != 1 || params[i]->c != x->c || params[i]->h != 1 || params[i]->w != 1)
            gan__fail(g, function,
                      "input " GAN__DIMS " has %d channels, the parameter " GAN__DIMS
                      " must be (1,%d,1,1)",
                      GAN__SHAPE(x), x->c, GAN__SHAPE(params[i]), x->c);
    }
    gan_norm p = {x->n, x->c, (size_t)x->h * x->w, eps, !training};
    double count = (double)p.n * (double)p.size;
    if (training && count < 2)
        gan__fail(g, function,
                  "input " GAN__DIMS " has one number per channel: its variance says nothing; use "
                  "gan_eval or a larger batch",
                  GAN__SHAPE(x));

    gan_tensor *stats = gan__tensor(g, NULL, 2, x->c, 1, 1);
    if (training) {
        gan_real unbiased = (gan_real)(count / (count - 1));
        gan__run_1(g, GAN__K_norm_stats, &p, x->data, stats->data);
        gan__update_running(running_mean, stats, 0, momentum, 1);
        gan__update_running(running_var, stats, 1, momentum, unbiased);
    } else {
        gan__place(running_mean, stats, 0, 0);
        gan__place(running_var, stats, 0, 1);
    }
    return gan__norm_with(&p, x, stats, weight, bias);
}

/* x's numbers, in the order of memory, as so many groups of equal size, each with statistics of
   its own: a batch norm of (1,GROUPS,SIZE,1). weight and bias, (1 or N,C,1,1) for N*C groups, or
   NULL for 1 and 0. */
static gan_tensor *gan__norm_by_group(gan_tensor *x, int groups, gan_tensor *weight,
                                      gan_tensor *bias, gan_real eps)
{
    gan *g = x->g;
    gan_tensor *lines = gan_reshape(x, 1, groups, -1, 1);
    gan_tensor *stats = gan__tensor(g, NULL, 2, groups, 1, 1);
    gan_norm p = {1, groups, gan_count(x) / (size_t)groups, eps, 0};
    gan__run_1(g, GAN__K_norm_stats, &p, x->data, stats->data);
    weight = weight ? gan_reshape(gan_expand(weight, x->n, x->c, 1, 1), 1, groups, 1, 1)
                    : gan_full(g, 1, 1, groups, 1, 1);
    bias = bias ? gan_reshape(gan_expand(bias, x->n, x->c, 1, 1), 1, groups, 1, 1)
                : gan_zeros(g, 1, groups, 1, 1);
    return gan_reshape(gan__norm_with(&p, lines, stats, weight, bias), GAN__SHAPE(x));
}

/* x*weight + bias; either may be NULL. */
static gan_tensor *gan__weight_and_bias(gan_tensor *x, gan_tensor *weight, gan_tensor *bias)
{
    if (weight)
        x = gan_mul(x, weight);
    return bias ? gan_add(x, bias) : x;
}

/* weight and bias are each NULL or (1 or n,C,h,w). */
static void gan__check_norm_params(const char *function, gan_tensor *x, gan_tensor *weight,
                                   gan_tensor *bias, int n, int h, int w)
{
    const gan_tensor *const params[2] = {weight, bias};
    for (int i = 0; i < 2; i++) {
        const gan_tensor *t = params[i];
        if (!t)
            continue;
        gan__valid_pair(x, t, function);
        if ((t->n != 1 && t->n != n) || t->c != x->c || t->h != h || t->w != w)
            gan__fail(x->g, function,
                      "input " GAN__DIMS " wants weight and bias (%d,%d,%d,%d), one is " GAN__DIMS,
                      GAN__SHAPE(x), n, x->c, h, w, GAN__SHAPE(t));
    }
}

GAN_API gan_tensor *gan_instance_norm_f(gan_tensor *x, gan_tensor *weight, gan_tensor *bias,
                                        gan_real eps)
{
    const char *function = "gan_instance_norm_f";
    gan__valid(x, function);
    gan__check_norm_params(function, x, weight, bias, x->n, 1, 1);
    if (x->h * x->w == 1)
        gan__fail(x->g, function,
                  "input " GAN__DIMS
                  " has one number per image and channel: its variance says nothing",
                  GAN__SHAPE(x));
    return gan__norm_by_group(x, x->n * x->c, weight, bias, eps);
}

GAN_API gan_tensor *gan_group_norm_f(gan_tensor *x, gan_tensor *weight, gan_tensor *bias,
                                     int groups, gan_real eps)
{
    const char *function = "gan_group_norm_f";
    gan__valid(x, function);
    gan__check_norm_params(function, x, weight, bias, 1, 1, 1);
    if (groups < 1 || x->c % groups)
        gan__fail(x->g, function, "input " GAN__DIMS ": %d groups do not divide %d channels",
                  GAN__SHAPE(x), groups, x->c);
    gan_tensor *xhat = gan__norm_by_group(x, x->n * groups, NULL, NULL, eps);
    return gan__weight_and_bias(xhat, weight, bias);
}

GAN_API gan_tensor *gan_layer_norm_f(gan_tensor *x, gan_tensor *weight, gan_tensor *bias,
                                     gan_real eps)
{
    const char *function = "gan_layer_norm_f";
    gan__valid(x, function);
    gan__check_norm_params(function, x, weight, bias, 1, x->h, x->w);
    gan_tensor *xhat = gan__norm_by_group(x, x->n, NULL, NULL, eps);
    return gan__weight_and_bias(xhat, weight, bias);
}

/* Instance norm with y's deviation as weight and y's mean as bias. AdaIN's variance is unbiased,
   instance norm's is biased: with M numbers in a plane

     unbiased + eps = var*M/(M-1) + eps = (var + eps*(M-1)/M) * M/(M-1)

   so that eps becomes eps*(M-1)/M, and the root of M/(M-1) goes into the weight. */
GAN_API gan_tensor *gan_adain(gan_tensor *x, gan_tensor *y, gan_real eps)
{
    const char *function = "gan_adain";
    gan__valid_pair(x, y, function);
    double in_x = (double)x->h * x->w, in_y = (double)y->h * y->w;
    if (x->n != y->n || x->c != y->c || in_x < 2 || in_y < 2)
        gan__fail(x->g, function,
                  GAN__DIMS " and " GAN__DIMS
                            ": the same N and C, and more than one pixel, are wanted",
                  GAN__SHAPE(x), GAN__SHAPE(y));
    gan_tensor *mean = gan_mean_to(y, y->n, y->c, 1, 1);
    gan_tensor *biased = gan_mean_to(gan_square(gan_sub(y, mean)), y->n, y->c, 1, 1);
    gan_tensor *var = gan_mul_scalar(biased, (gan_real)(in_y / (in_y - 1)));
    gan_tensor *deviation = gan_sqrt(gan_add_scalar(var, eps));
    gan_tensor *weight = gan_mul_scalar(deviation, (gan_real)sqrt((in_x - 1) / in_x));
    return gan_instance_norm_f(x, weight, mean, (gan_real)(eps * (in_x - 1) / in_x));
}

GAN_API gan_tensor *gan_pixel_norm(gan_tensor *x)
{
    gan__valid(x, "gan_pixel_norm");
    gan_tensor *mean_square = gan_mean_to(gan_square(x), x->n, 1, x->h, x->w);
    return gan_mul(x, gan_rsqrt(gan_add_scalar(mean_square, (gan_real)1e-8)));
}

/* The 1e-24 keeps 0/0 away, and is lost beside any other square. */
GAN_API gan_tensor *gan_normalize(gan_tensor *x, int dim)
{
    gan__valid(x, "gan_normalize");
    int size[4] = {GAN__SHAPE(x)};
    gan__lines_of("gan_normalize", x, dim); /* checks dim */
    size[dim] = 1;
    gan_tensor *square = gan_sum_to(gan_square(x), size[0], size[1], size[2], size[3]);
    return gan_mul(x, gan_rsqrt(gan_add_scalar(square, (gan_real)1e-24)));
}

/* x as (SIZE,M,C*H*W,1): image i is place i/M of group i%M. */
GAN_API gan_tensor *gan_minibatch_stddev(gan_tensor *x, int group)
{
    gan *g = gan__valid(x, "gan_minibatch_stddev");
    int size = GAN__MIN(group, x->n);
    int m = size > 0 ? x->n / size : 0;
    if (size < 1 || m * size != x->n)
        gan__fail(g, "gan_minibatch_stddev",
                  "input " GAN__DIMS ": groups of %d do not divide %d images", GAN__SHAPE(x), size,
                  x->n);
    gan_tensor *grouped = gan_reshape(x, size, m, -1, 1);
    int numbers = grouped->h; /* of an image */
    gan_tensor *d = gan_sub(grouped, gan_mean_to(grouped, 1, m, numbers, 1));
    gan_tensor *var = gan_mean_to(gan_square(d), 1, m, numbers, 1);
    gan_tensor *deviation = gan_sqrt(gan_add_scalar(var, (gan_real)1e-8));
    gan_tensor *plane = gan_expand(gan_mean_to(deviation, 1, m, 1, 1), size, m, x->h * x->w, 1);
    return gan_concat(x, gan_reshape(plane, x->n, 1, x->h, x->w), 1);
}

/* ===========================================================================================
   >>autograd (implementation)
   ===========================================================================================
   The tape lists tensors in the order in which they were computed, so that a tensor's inputs stand
   before it. A differentiation goes over it twice: forward, to mark what lies between y and the
   tensors whose gradient is asked for; then backward. A marked tensor's grad is complete when the
   second pass reaches it, and the vjp (vector-Jacobian product) of the operation that computed it
   then makes of it the gradients of its inputs, each of which is added to that input's grad.

   y = x*x + x*c at x = 3, c = 5, and dy/dx = 2x + c = 11. The column of a step holds every grad
   as it is after that step:

       tape  tensor       inputs  marked   step 1    step 2    step 3    step 4
                                           y = 1     vjp of y  vjp of b  vjp of a
         0   x = 3                asked                        5         5 + 3 + 3 = 11
         1   c = 5                no                                     (never computed)
         2   a = x*x =  9  x, x   yes                1         1         1
         3   b = x*c = 15  x, c   yes                1         1         1
         4   y = a+b = 24  a, b   yes      1         1         1         1

   gan_grad: vjps are written in tensor functions, whose results go on the tape behind y, and can be
   differentiated like any others.
   gan_backward: nobody differentiates its gradients again, so nothing is recorded (g->recording is
   false) and memory is given back on the way (g->reclaiming is true): that of temporaries after
   each vjp, that of a tensor's grad once it has been passed on. buffer->references counts who
   needs a buffer: every tensor that has its numbers there, until it is released, and every grad
   that points to such a tensor. */

/* Gives back the numbers of the temporaries from place `to` of their list on. */
static void gan__release_temporaries(gan *g, int to)
{
    while (g->temporary_count > to)
        gan__release(g->temporaries[--g->temporary_count]);
}

static void gan__request_grad(gan *g, gan_tensor *x)
{
    x->needs_grad_in = g->differentiation;
    x->grad = NULL;
}

/* t's gradient is not needed any longer. */
static void gan__grad_clear(gan *g, gan_tensor *t)
{
    if (t->needs_grad_in == g->differentiation && t->grad) {
        gan__release(t->grad);
        t->grad = NULL;
    }
}

/* y = x */
static void gan__copy_numbers(gan *g, size_t count, const gan_real *x, gan_real *y)
{
    gan_copy p = {1, 1, 1, (int)count, {0, 0, 0, 1}, {0, 0, 0, 1}, 0, 0};
    gan__run_1(g, GAN__K_copy, &p, x, y);
}

/* y = k*y + l*x */
static void gan__mix_numbers(gan *g, size_t count, gan_real k, gan_real *y, gan_real l,
                             const gan_real *x)
{
    gan_zip p = {GAN_MIX, 1, 1, 1, (int)count, {0, 0, 0, 1}, {0, 0, 0, 1}, k, l};
    gan__run_2(g, GAN__K_zip, &p, y, x, y);
}

/* The gradient that a parameter holds, or NULL. */
static gan_real *gan__gradient_of(const gan_tensor *param)
{
    return param->param_grad && param->param_grad->references
             ? (gan_real *)param->param_grad->block.memory
             : NULL;
}

/* Adds gradient to the one that param holds. A parameter's gradient outlives gan_clear: the first
   to come gives it its block of memory if nobody else needs that, or else is copied. */
static void gan__param_grad_add(gan_tensor *param, gan_tensor *gradient)
{
    gan *g = param->g;
    if (gan__gradient_of(param)) {
        gan__mix_numbers(g, gan_count(param), 1, gan__gradient_of(param), 1, gradient->data);
        return;
    }
    if (!param->param_grad)
        param->param_grad = (gan__buffer *)gan__alloc_zero(sizeof *param->param_grad);
    param->param_grad->references = 1;
    g->gradients++;
    if (gradient->buffer->references == 1 && gradient->tape >= 0) {
        param->param_grad->block = gradient->buffer->block;
        gradient->buffer->references = 0;
    } else {
        param->param_grad->block = gan__take_numbers(g, gan_count(param));
        gan__copy_numbers(g, gan_count(param), gradient->data, gan__gradient_of(param));
    }
}

/* Adds gradient to what has arrived at t. In a gan_backward a parameter's goes where it stays. */
static void gan__grad_add(gan_tensor *t, gan_tensor *gradient)
{
    gan_tensor *before = t->grad;
    if (t->g->reclaiming && t->tape < 0) {
        gan__param_grad_add(t, gradient);
        return;
    }
    t->grad = before ? gan_add(before, gradient) : gradient;
    t->grad->buffer->references++;
    if (before)
        gan__release(before);
}

/* Marks all that was computed from a tensor whose gradient is asked for, up to y. */
static void gan__mark_paths(gan *g, const gan_tensor *y)
{
    for (int i = 0; i <= y->tape; i++) {
        gan_tensor *t = g->tape[i];
        for (int j = 0; t->op && j < 3; j++)
            if (t->in[j] && t->in[j]->needs_grad_in == g->differentiation &&
                t->needs_grad_in != g->differentiation)
                gan__request_grad(g, t);
    }
}

/* The gradient of t's input j from t's. Meanwhile messages name the layer that made t. */
static gan_tensor *gan__call_vjp(gan_tensor *t, int j)
{
    t->g->in_vjp = true;
    t->g->where_vjp = t->layer;
    gan_tensor *gradient = t->op->vjp(t, t->grad, j);
    t->g->in_vjp = false;
    t->g->where_vjp = NULL;
    return gradient;
}

/* t's gradient is complete: those of its inputs that are marked are computed from it. The last
   input comes first, and t's gradient is given back before the first input's is added: that may
   then lie in the same memory, and a parameter keep it. */
static void gan__backpropagate(gan *g, gan_tensor *t)
{
    bool wanted[3];
    for (int j = 0; j < 3; j++)
        wanted[j] = t->in[j] && t->in[j]->needs_grad_in == g->differentiation;
    for (int j = 2; j >= 0; j--) {
        if (!wanted[j])
            continue;
        int before = g->temporary_count;
        bool last = !(j > 0 && wanted[0]) && !(j > 1 && wanted[1]);
        gan_tensor *gradient = gan__call_vjp(t, j);
        if (g->reclaiming && gradient == t->grad)
            gradient = gan_detach(gradient); /* an addition passes its own on: two need it now */
        if (g->reclaiming && last)
            gan__grad_clear(g, t);
        if (gradient)
            gan__grad_add(t->in[j], gradient);
        if (g->reclaiming)
            gan__release_temporaries(g, before);
    }
    if (t->norm_sums) {
        gan__release(t->norm_sums);
        t->norm_sums = NULL;
    }
}

/* With the gradients asked for by gan__request_grad: fills in their grad, from y's gradient seed.
   Without g->reclaiming the grad of all that is between stays, for gan__gradients to clear. */
static void gan__differentiate(gan *g, gan_tensor *y, gan_tensor *seed)
{
    gan__mark_paths(g, y);
    if (y->needs_grad_in != g->differentiation)
        return;
    gan__grad_add(y, seed);
    for (int i = y->tape; i >= 0; i--) {
        gan_tensor *t = g->tape[i];
        if (t->needs_grad_in == g->differentiation && t->grad && t->op)
            gan__backpropagate(g, t);
    }
}

/* out[i] = d(sum of y's numbers)/dx[i] for count tensors x. */
static void gan__gradients(gan_tensor *y, gan_tensor **x, int count, gan_tensor **out)
{
    gan *g = y->g;
    g->differentiation++;
    for (int i = 0; i < count; i++)
        gan__request_grad(g, x[i]);
    gan__differentiate(g, y, gan_full(g, 1, GAN__SHAPE(y)));
    for (int i = 0; i < count; i++)
        out[i] = x[i]->grad ? x[i]->grad : gan_zeros(g, GAN__SHAPE(x[i]));
    for (int i = 0; i <= y->tape; i++)
        gan__grad_clear(g, g->tape[i]);
    for (int i = 0; i < count; i++)
        gan__grad_clear(g, x[i]);
}

GAN_API gan_tensor *gan_grad(gan_tensor *y, gan_tensor *x)
{
    gan_tensor *out;
    gan__valid_pair(y, x, "gan_grad");
    gan__gradients(y, &x, 1, &out);
    return out;
}

/* ===========================================================================================
   >>gradcheck (implementation)
   =========================================================================================== */
struct gan__gradcheck {
    gan *g;
    gan_function *f;
    gan_tensor **in;
    int count;
    void *user;
    int order; /* 1: first derivatives, 2: second */
    const char *function;

    /* Held until gan__gradcheck_end. */
    gan_tensor **gradients; /* one for each input: scratch of second order */
    gan_real *analytic;     /* the derivatives by all inputs' elements, input after input */
    gan_real *host;         /* the numbers of the input whose elements are moved */
    int moved;              /* that input, or -1 */
    size_t element;         /* the element that is moved now, */
    gan_real number;        /* and its own number */

    /* What was found. */
    double largest;       /* of the analytic derivatives */
    double worst;         /* relative error */
    int zero_inputs;      /* inputs whose derivatives are all 0, analytic and numeric, */
    int a_zero_input;     /* and one of them */
    char worst_text[400]; /* where the worst is */
};

/* Standard normal numbers of t's shape, the same each time: the fixed combination in which f's
   elements are checked. */
static gan_tensor *gan__check_noise(gan_tensor *t, int which)
{
    gan_tensor *noise = gan__tensor(t->g, NULL, GAN__SHAPE(t));
    gan_random p = {1, gan_count(t), 1, GAN__STREAM_CHECK, (uint64_t)which << 32, 1, 0};
    gan__run_1(t->g, GAN__K_random, &p, NULL, noise->data);
    return noise;
}

/* The number that is differentiated: <f(in), noise>, or for second order the sum over i of <its
   gradient in in[i], noise_i>. */
static gan_tensor *gan__check_value(struct gan__gradcheck *c)
{
    gan_tensor *y = c->f(c->g, c->in, c->user);
    if (!y)
        gan__fail(c->g, c->function, "f gives NULL, a tensor is wanted");
    gan_tensor *value = gan_sum(gan_mul(y, gan__check_noise(y, 0)));
    if (c->order == 1)
        return value;
    gan_tensor *total = NULL;
    gan__gradients(value, c->in, c->count, c->gradients);
    for (int i = 0; i < c->count; i++) {
        gan_tensor *part = gan_sum(gan_mul(c->gradients[i], gan__check_noise(c->in[i], i + 1)));
        total = total ? gan_add(total, part) : part;
    }
    return total;
}

/* All derivatives of the value by the tape. Not recording, as in gan_backward: the fused
   derivatives, which a training uses, are the ones that are checked. */
static void gan__check_analytic(struct gan__gradcheck *c)
{
    gan *g = c->g;
    gan_mark mark = gan_here(g);
    gan_tensor *value = gan__check_value(c);
    gan_real *at = c->analytic;
    g->recording = false;
    gan__gradients(value, c->in, c->count, c->gradients);
    g->recording = true;
    for (int i = 0; i < c->count; i++) {
        size_t count = gan_count(c->in[i]);
        gan_to_host(c->gradients[i], at);
        for (size_t e = 0; e < count; e++)
            c->largest = GAN__MAX(c->largest, fabs((double)at[e]));
        at += count;
    }
    gan_clear_to(g, mark);
}

/* Gives the element under way number in place of its own. */
static void gan__check_move(struct gan__gradcheck *c, double number)
{
    c->host[c->element] = (gan_real)number;
    gan_set(c->in[c->moved], c->host);
}

/* d/dh of value(x + h e) at h = 0, e being the element under way, from four points:
   (8 (v(h) - v(-h)) - (v(2h) - v(-2h))) / 12h, exact to h^4. */
static double gan__check_numeric(struct gan__gradcheck *c)
{
    static const double place[4] = {1, -1, 2, -2};
    static const double weight[4] = {8, -8, -1, 1};
    double step = sizeof(gan_real) == 8 ? 1e-4 : 2e-2;
    double h = step * GAN__MAX(1, fabs((double)c->number));
    double total = 0;
    for (int i = 0; i < 4; i++) {
        gan_mark mark = gan_here(c->g);
        gan__check_move(c, c->number + place[i] * h);
        total += weight[i] * (double)gan_item(gan__check_value(c));
        gan_clear_to(c->g, mark);
    }
    gan__check_move(c, (double)c->number);
    return total / (12 * h);
}

/* Compares a and d of the element under way. zero: every a of its input is 0. */
static double gan__check_element(struct gan__gradcheck *c, double a, double d, bool zero)
{
    double scale = GAN__MAX(GAN__MAX(fabs(a), fabs(d)), 0.01 * c->largest);
    double error = a == d ? 0 : fabs(a - d) / scale;
    bool detached = zero && error > GAN_GRADCHECK_TOLERANCE;
    if (!(fabs(a) <= DBL_MAX && fabs(d) <= DBL_MAX) || detached)
        error = INFINITY;
    if (error <= c->worst)
        return error;
    c->worst = error;
    const gan_tensor *x = c->in[c->moved];
    int at = (int)c->element;
    int plane = x->h * x->w;
    char place[100];
    snprintf(place, sizeof place, "input %d, element %d (%d,%d,%d,%d)", c->moved, at,
             at / (x->c * plane), at / plane % x->c, at % plane / x->w, at % x->w);
    if (detached)
        snprintf(c->worst_text, sizeof c->worst_text,
                 "%s: every derivative by input %d is 0, but f depends on it, numeric %.9g at %s: "
                 "is there a gan_detach in its way?",
                 c->function, c->moved, d, place);
    else
        snprintf(c->worst_text, sizeof c->worst_text,
                 "%s: worst at %s: analytic %.9g, numeric %.9g, relative error %.3g", c->function,
                 place, a, d, error);
    return error;
}

/* Input i, element by element; analytic holds its derivatives. */
static void gan__check_input(struct gan__gradcheck *c, int i, const gan_real *analytic)
{
    size_t count = gan_count(c->in[i]);
    double worst = 0;
    bool zero = true;
    for (size_t e = 0; e < count; e++)
        zero = zero && analytic[e] == 0;
    gan_to_host(c->in[i], c->host);
    for (size_t e = 0; e < count; e++) {
        c->element = e;
        c->number = c->host[e];
        c->moved = i;
        double numeric = gan__check_numeric(c);
        worst = GAN__MAX(worst, gan__check_element(c, (double)analytic[e], numeric, zero));
    }
    c->moved = -1;
    if (zero && worst <= GAN_GRADCHECK_TOLERANCE) {
        c->zero_inputs++;
        c->a_zero_input = i;
    }
}

/* Puts the moved element back, if an error left it moved, and frees what was held. */
static void gan__gradcheck_end(struct gan__gradcheck *c)
{
    gan__thread.checking = NULL;
    c->g->recording = true;
    if (c->moved >= 0 && !c->in[c->moved]->freed && !c->in[c->moved]->overwritten)
        gan__check_move(c, (double)c->number);
    GAN_FREE(c->gradients);
    GAN_FREE(c->analytic);
    GAN_FREE(c->host);
}

/* The result, and gan_error() where all is not well. */
static double gan__check_result(struct gan__gradcheck *c)
{
    if (c->worst > GAN_GRADCHECK_TOLERANCE)
        gan__refuse("%s", c->worst_text);
    else if (c->order == 1 && c->zero_inputs == c->count) {
        gan__refuse("%s: every derivative is 0, and so is every difference: nothing was tested",
                    c->function);
        return INFINITY;
    } else if (c->order == 1 && c->zero_inputs > 0)
        gan__refuse("%s: f does not depend on input %d: every derivative by it is 0, and so is "
                    "every difference",
                    c->function, c->a_zero_input);
    return c->worst;
}

static double gan__check(gan *g, gan_function *f, gan_tensor **in, int count, void *user, int order)
{
    const char *function = order == 1 ? "gan_gradcheck" : "gan_gradgradcheck";
    size_t all = 0, most = 0;
    if (!g || !f || !in)
        gan__fail(g, function, "%s is NULL", !g ? "the device" : !f ? "f" : "in");
    if (count < 1)
        gan__fail(g, function, "%d inputs: 1 or more are wanted", count);
    for (int i = 0; i < count; i++) {
        if (gan__valid(in[i], function) != g)
            gan__fail(g, function, "input %d belongs to another gan_open", i);
        all += gan_count(in[i]);
        most = GAN__MAX(most, gan_count(in[i]));
    }

    struct gan__gradcheck c;
    memset(&c, 0, sizeof c);
    c.g = g;
    c.f = f;
    c.in = in;
    c.count = count;
    c.user = user;
    c.order = order;
    c.function = function;
    c.gradients = (gan_tensor **)gan__alloc((size_t)count * sizeof *c.gradients);
    c.analytic = (gan_real *)gan__alloc(all * sizeof *c.analytic);
    c.host = (gan_real *)gan__alloc(most * sizeof *c.host);
    c.moved = -1;
    gan__thread.checking = &c;
    gan__check_analytic(&c);
    const gan_real *analytic = c.analytic;
    for (int i = 0; i < count; i++) {
        gan__check_input(&c, i, analytic);
        analytic += gan_count(in[i]);
    }
    gan__gradcheck_end(&c);
    return gan__check_result(&c);
}

GAN_API double gan_gradcheck(gan *g, gan_function *f, gan_tensor **in, int count, void *user)
{
    return gan__check(g, f, in, count, user, 1);
}

GAN_API double gan_gradgradcheck(gan *g, gan_function *f, gan_tensor **in, int count, void *user)
{
    return gan__check(g, f, in, count, user, 2);
}

/* ===========================================================================================
   >>models (implementation)
   =========================================================================================== */

/* How a parameter starts by default. */
typedef enum gan__start_kind {
    GAN__START_AT,
    GAN__START_UNIFORM,
    GAN__START_NORMAL
} gan__start_kind;

typedef struct gan__start {
    gan__start_kind kind;
    double scale; /* the constant; uniform in +-scale; normal of deviation scale */
} gan__start;

static gan__start gan__start_at(double constant)
{
    gan__start start = {GAN__START_AT, constant};
    return start;
}

static gan__start gan__start_uniform(double bound)
{
    gan__start start = {GAN__START_UNIFORM, bound};
    return start;
}

static gan__start gan__start_normal(double deviation)
{
    gan__start start = {GAN__START_NORMAL, deviation};
    return start;
}

/* A parameter's sizes here, and how many of them it has in a file: PyTorch keeps a bias as (C), a
   linear layer's weight as (OUT,IN) and layer norm's as (C,H,W). */
typedef struct gan__param_shape {
    int rank;
    int n, c, h, w;
} gan__param_shape;

static gan__param_shape gan__shape_of(int rank, int n, int c, int h, int w)
{
    gan__param_shape shape = {rank, n, c, h, w};
    return shape;
}

/* One number for each channel: (1,c,1,1). */
static gan__param_shape gan__vector(int c)
{
    return gan__shape_of(1, 1, c, 1, 1);
}

static gan__param_shape gan__matrix(int rows, int columns)
{
    return gan__shape_of(2, rows, columns, 1, 1);
}

/* A parameter, or a buffer if it is not trainable. */
typedef struct gan__param {
    char *name;
    gan_tensor *value;
    bool trainable;
    int rank; /* see gan__param_shape */
    gan__start start;
    /* what gan_doctor notes: the lengths of the gradient and of the update in its last look, the
       parameter's own length when it was first seen, and the number of that look */
    double gradient;
    double change;
    double size;
    int look;
} gan__param;

/* A layer's line in gan_summary: the shape of its output, and how many numbers it holds. */
typedef struct gan__layer {
    char *kind;
    char *name;
    int n, c, h, w;
    size_t params;
} gan__layer;

typedef enum gan__mode { GAN__TRAIN, GAN__EVAL, GAN__FREEZE_NORM } gan__mode;

struct gan_model {
    gan *g;
    char *name;
    gan_model *next; /* of the same gan_open */
    gan_opt *opts;   /* the optimizers of this model, a list */
    gan__mode mode;
    bool frozen;             /* by gan_freeze */
    gan_weight_kind weights; /* kind and rate of gan_weights */
    gan_real rate;
    gan_init_kind init; /* kind and gain of gan_init_model, for parameters to come */
    gan_real gain;
    gan__param *params; /* in the order in which they were made */
    int count;
    gan__layer *layers; /* in the order of their first use */
    int layer_count;
};

static void gan__check_model(const gan_model *model, const char *function)
{
    if (!model)
        gan__fail(NULL, function, "the model is NULL");
}

GAN_API gan_model *gan_model_new(gan *g, const char *name)
{
    if (!g)
        gan__fail(
            NULL, "gan_model_new",
            "the device is NULL; gan_open gives NULL when it fails, and gan_error() says why");
    if (!name || !*name || strpbrk(name, ".#"))
        gan__fail(g, "gan_model_new",
                  "\"%s\": a model has a name, without . and #, which divide names in a file",
                  name ? name : "NULL");
    if (g->plan)
        gan__fail(g, "gan_model_new", "\"%s\": a model is made before gan_plan and gan_capture",
                  name);
    gan_model *model = (gan_model *)gan__alloc_zero(sizeof *model);
    model->g = g;
    model->name = gan__copy_string(name);
    model->rate = 1;
    gan_model **last = &g->models;
    while (*last)
        last = &(*last)->next;
    *last = model;
    return model;
}

GAN_API void gan_train(gan_model *model)
{
    gan__check_model(model, "gan_train");
    model->mode = GAN__TRAIN;
}

GAN_API void gan_eval(gan_model *model)
{
    gan__check_model(model, "gan_eval");
    model->mode = GAN__EVAL;
}

GAN_API void gan_freeze_norm(gan_model *model)
{
    gan__check_model(model, "gan_freeze_norm");
    model->mode = GAN__FREEZE_NORM;
}

/* Parameter i has no gradient from here on. */
static void gan__drop_gradient(gan_model *model, int i)
{
    gan__buffer *gradient = model->params[i].value->param_grad;
    if (!gradient || !gradient->references)
        return;
    gan__give_numbers(model->g, gradient->block);
    gradient->references = 0;
    model->g->gradients--;
}

GAN_API void gan_freeze(gan_model *model)
{
    gan__check_model(model, "gan_freeze");
    model->frozen = true;
    for (int i = 0; i < model->count; i++)
        gan__drop_gradient(model, i);
}

GAN_API void gan_unfreeze(gan_model *model)
{
    gan__check_model(model, "gan_unfreeze");
    model->frozen = false;
}

/* Does an optimizer change parameter i now? */
static bool gan__trains(const gan_model *model, int i)
{
    return model->params[i].trainable && !model->frozen;
}

static gan__param *gan__find(const gan_model *model, const char *name)
{
    for (int i = 0; i < model->count; i++)
        if (strcmp(model->params[i].name, name) == 0)
            return &model->params[i];
    return NULL;
}

GAN_API gan_tensor *gan_find_param(gan_model *model, const char *name)
{
    gan__check_model(model, "gan_find_param");
    if (!name)
        gan__fail(model->g, "gan_find_param", "the name is NULL");
    gan__param *param = gan__find(model, name);
    return param ? param->value : NULL;
}

GAN_API const char *gan_param_name(const gan_model *model, int i)
{
    gan__check_model(model, "gan_param_name");
    return i >= 0 && i < model->count ? model->params[i].name : NULL;
}

GAN_API size_t gan_param_count(const gan_model *model)
{
    size_t count = 0;
    gan__check_model(model, "gan_param_count");
    for (int i = 0; i < model->count; i++)
        if (model->params[i].trainable)
            count += gan_count(model->params[i].value);
    return count;
}

/* ---- making parameters */

/* Adds a parameter, or a buffer if it is not trainable; its numbers are not set yet. NULL if there
   is no memory; then model is as before. */
static gan__param *gan__try_param_new(gan_model *model, const char *name, gan__param_shape shape,
                                      bool trainable, gan__start start)
{
    gan__check_shape(model->g, "gan_param", shape.n, shape.c, shape.h, shape.w);
    gan__param *params = (gan__param *)gan__try_grow(model->params, (size_t)model->count,
                                                     sizeof *params);
    if (!params)
        return NULL;
    model->params = params;
    char *copy = (char *)gan__try_alloc(strlen(name) + 1);
    gan_tensor *value = NULL;
    if (copy)
        value = gan__persistent_tensor(model->g, shape.n, shape.c, shape.h, shape.w);
    if (!value) {
        GAN_FREE(copy);
        return NULL;
    }
    gan__param *param = &model->params[model->count++];
    memset(param, 0, sizeof *param);
    param->name = strcpy(copy, name);
    param->rank = shape.rank;
    param->trainable = trainable;
    param->start = start;
    param->value = value;
    return param;
}

static gan__param *gan__param_new(gan_model *model, const char *name, gan__param_shape shape,
                                  bool trainable, gan__start start)
{
    gan__param *param = gan__try_param_new(model, name, shape, trainable, start);
    if (!param)
        gan__out_of_memory(model->g, model->g->backend,
                           (double)shape.n * shape.c * shape.h * shape.w * sizeof(gan_real));
    return param;
}

/* "weight" of "net.0.weight": what follows the last dot of a name, or the whole name. */
static const char *gan__last_part(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot ? dot + 1 : name;
}

/* PyTorch's files do not tell which tensors are buffers (kept in the model, but not trained). The
   buffers of its batch norm and of its spectral norm are recognised by their names. */
static bool gan__is_torch_buffer(const char *name)
{
    static const char *const buffers[4] = {"running_mean", "running_var", "weight_u", "weight_v"};
    for (int i = 0; i < 4; i++)
        if (strcmp(gan__last_part(name), buffers[i]) == 0)
            return true;
    return false;
}

/* Adds a parameter that a file holds and the model does not have yet. Its start value is what a
   layer would have given it, for gan_init_model: uniform for weights of two or more dimensions, 1
   for the weight and the variance of a normalisation, 0 for the rest. NULL: no memory. */
static gan__param *gan__param_from_file(gan_model *model, const char *name, gan__param_shape shape,
                                        bool trainable)
{
    bool starts_at_1 = strstr(name, "weight") || strstr(name, "running_var");
    double inputs = (double)shape.c * shape.h * shape.w; /* of one output: fan_in */
    gan__start start = shape.rank > 1 ? gan__start_uniform(1 / sqrt(inputs))
                                      : gan__start_at(starts_at_1 ? 1 : 0);
    return gan__try_param_new(model, name, shape, trainable, start);
}

/* The stream of random numbers that a parameter starts from: a hash of the model's name and its
   own, so that it starts the same whatever is made before it. The hash is the 64-bit FNV-1a
   (Fowler, Noll and Vo), whose two constants are its published offset basis and prime. The highest
   bit is set, so that no name's stream is one of GAN__STREAM_DRAW and those after it. */
static uint64_t gan__stream_of(const char *model, const char *name)
{
    uint64_t hash = 14695981039346656037u;
    for (const char *s = model; *s; s++)
        hash = (hash ^ (unsigned char)*s) * 1099511628211u;
    for (const char *s = name; *s; s++)
        hash = (hash ^ (unsigned char)*s) * 1099511628211u;
    return hash | (uint64_t)1 << 63;
}

/* Makes count vectors, each of length numbers and stored one after the other, orthogonal to each
   other (Gram and Schmidt): from each vector v its projections onto the vectors u before it are
   subtracted, then v is divided by its norm; at last all are multiplied by gain. Computed in
   double, its errors lie below float's rounding. */
static void gan__orthogonalise_vectors(double *vectors, size_t count, size_t length, double gain)
{
    for (double *v = vectors; v < vectors + count * length; v += length) {
        for (const double *u = vectors; u < v; u += length) {
            double dot = 0;
            for (size_t j = 0; j < length; j++)
                dot += u[j] * v[j];
            for (size_t j = 0; j < length; j++)
                v[j] -= dot * u[j];
        }
        double squares = 0;
        for (size_t j = 0; j < length; j++)
            squares += v[j] * v[j];
        for (size_t j = 0; j < length; j++)
            v[j] /= sqrt(squares);
    }
    for (size_t i = 0; i < count * length; i++)
        vectors[i] *= gain;
}

/* t as a matrix (N, C*H*W): its columns, or its rows if they are fewer, become orthogonal vectors
   of norm gain. Those with gain 1 are the Q of the QR decomposition whose R has a positive
   diagonal, as PyTorch's orthogonal_ computes. */
static void gan__orthogonalise(gan_tensor *t, double gain)
{
    size_t rows = (size_t)t->n;
    size_t columns = gan_count(t) / rows;
    bool by_row = rows < columns;
    size_t count = by_row ? rows : columns;
    size_t length = by_row ? columns : rows;
    size_t vector_step = by_row ? columns : 1; /* in t, from one vector to the next */
    size_t number_step = by_row ? 1 : columns; /* in t, from one number of a vector to the next */
    gan_real *host = (gan_real *)gan__ensure_buffer(t->g, &gan__ref, &t->g->staging[0],
                                                    &t->g->staging_size[0], count * length);
    double *vectors = (double *)gan__alloc(count * length * sizeof *vectors);
    gan_to_host(t, host);
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < length; j++)
            vectors[i * length + j] = (double)host[i * vector_step + j * number_step];
    gan__orthogonalise_vectors(vectors, count, length, gain);
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < length; j++)
            host[i * vector_step + j * number_step] = (gan_real)vectors[i * length + j];
    gan_set(t, host);
    GAN_FREE(vectors);
}

/* Draws param's numbers from the stream of its own name. */
static void gan__draw_param(const gan_model *model, gan__param *param, gan__start start,
                            double mean)
{
    gan_tensor *t = param->value;
    bool uniform = start.kind == GAN__START_UNIFORM;
    if (start.kind == GAN__START_AT) {
        gan__fill_with(t, (gan_real)start.scale);
        return;
    }
    gan_random p = {!uniform,
                    gan_count(t),
                    model->g->seed,
                    gan__stream_of(model->name, param->name),
                    0,
                    (gan_real)(uniform ? 2 * start.scale : start.scale),
                    (gan_real)(uniform ? -start.scale : mean)};
    gan__run_1(model->g, GAN__K_random, &p, NULL, t->data);
}

/* Starts param anew by kind and gain; mean is NORMAL's. */
static void gan__init(gan_model *model, gan__param *param, gan_init_kind kind, double gain,
                      double mean)
{
    gan_tensor *t = param->value;
    bool known = (int)kind >= 0 && kind <= GAN_INIT_ORTHOGONAL;
    if (!known || !(gain >= 0) || (kind > GAN_INIT_NORMAL && param->rank < 2))
        gan__fail(model->g, "gan_init_param",
                  "\"%s\" " GAN__DIMS ", kind %d, gain %g: a kind is GAN_INIT_..., from XAVIER on "
                  "of two dimensions, a gain 0 or more",
                  param->name, GAN__SHAPE(t), (int)kind, gain);
    double fan_in = (double)t->c * t->h * t->w;
    double fan_out = (double)t->n * t->h * t->w;
    double fan_mean = (fan_in + fan_out) / 2;
    gan__start start = param->start;
    switch (kind) {
    case GAN_INIT_DEFAULT: break;
    case GAN_INIT_NORMAL: start = gan__start_normal(gain); break;
    case GAN_INIT_XAVIER_UNIFORM: start = gan__start_uniform(gain * sqrt(3 / fan_mean)); break;
    case GAN_INIT_XAVIER_NORMAL: start = gan__start_normal(gain * sqrt(1 / fan_mean)); break;
    case GAN_INIT_KAIMING_UNIFORM: start = gan__start_uniform(gain * sqrt(3 / fan_in)); break;
    case GAN_INIT_KAIMING_NORMAL: start = gan__start_normal(gain * sqrt(1 / fan_in)); break;
    case GAN_INIT_ORTHOGONAL: start = gan__start_normal(1); break;
    }
    gan__draw_param(model, param, start, mean);
    if (kind == GAN_INIT_ORTHOGONAL)
        gan__orthogonalise(t, gain);
}

/* Starts param anew by gan_init_model's rule. */
static void gan__init_by_rule(gan_model *model, gan__param *param)
{
    bool in_layer = strchr(param->name, '.') != NULL;
    bool is_weight = in_layer && strcmp(gan__last_part(param->name), "weight") == 0;
    bool is_bias = in_layer && strcmp(gan__last_part(param->name), "bias") == 0;
    bool is_uniform = param->start.kind == GAN__START_UNIFORM;
    bool is_one = param->start.kind == GAN__START_AT && param->start.scale == 1;
    if (param->trainable && is_weight && is_uniform)
        gan__init(model, param, model->init, model->gain, 0);
    else if (param->trainable && is_weight && is_one && model->init == GAN_INIT_NORMAL)
        gan__init(model, param, GAN_INIT_NORMAL, model->gain, 1);
    else if (param->trainable && is_bias && is_uniform && model->init != GAN_INIT_DEFAULT)
        gan__fill_with(param->value, 0);
    else
        gan__init(model, param, GAN_INIT_DEFAULT, 0, 0);
}

GAN_API void gan_init_param(gan_tensor *param, gan_init_kind kind, gan_real gain)
{
    gan *g = gan__valid(param, "gan_init_param");
    for (gan_model *model = g->models; model; model = model->next)
        for (int i = 0; i < model->count; i++)
            if (model->params[i].value == param) {
                gan__init(model, &model->params[i], kind, gain, 0);
                return;
            }
    gan__fail(g, "gan_init_param", "the tensor " GAN__DIMS " is not a parameter",
              GAN__SHAPE(param));
}

GAN_API void gan_init_model(gan_model *model, gan_init_kind kind, gan_real gain)
{
    gan__check_model(model, "gan_init_model");
    if ((int)kind < 0 || kind > GAN_INIT_ORTHOGONAL || !(gain >= 0))
        gan__fail(model->g, "gan_init_model",
                  "kind %d, gain %g: a kind is GAN_INIT_..., a gain 0 or more", (int)kind,
                  (double)gain);
    model->init = kind;
    model->gain = gain;
    for (int i = 0; i < model->count; i++)
        if (model->params[i].trainable)
            gan__init_by_rule(model, &model->params[i]);
}

/* LAYER.PART, or LAYER alone if part is empty. A name is refused that would be lost or mistaken
   in a file: see >>files. */
static void gan__full_name(const gan_model *model, char name[256], const char *layer,
                           const char *part)
{
    int length = snprintf(name, 256, *part ? "%s.%s" : "%s%s", layer, part);
    bool fits = length < 256 && !strchr(name, '#') && strcmp(name, "__metadata__") != 0 &&
                strcmp(gan__last_part(name), "num_batches_tracked") != 0;
    for (const char *c = name; *c; c++)
        fits = fits && (unsigned char)*c >= 32;
    if (!model)
        gan__fail(NULL, "gan_param", "\"%s\": the model is NULL", name);
    if (!fits)
        gan__fail(model->g, "gan_param",
                  "\"%.60s\", %d characters: a name has at most 255, no # and no line break, and "
                  "is not __metadata__ or num_batches_tracked",
                  name, length);
}

/* The parameter LAYER.PART, made on first use. */
static gan_tensor *gan__layer_param(gan_model *model, const char *layer, const char *part,
                                    gan__param_shape shape, gan__start start)
{
    char name[256];
    gan__full_name(model, name, layer, part);
    gan__param *param = gan__find(model, name);
    if (param)
        return param->value;
    param = gan__param_new(model, name, shape, true, start);
    gan__init_by_rule(model, param);
    return param->value;
}

/* The buffer LAYER.PART. What is there already, from a file perhaps, is a buffer from here on. */
static gan_tensor *gan__layer_buffer(gan_model *model, const char *layer, const char *part,
                                     gan__param_shape shape, gan__start start)
{
    char name[256];
    gan__full_name(model, name, layer, part);
    gan__param *param = gan__find(model, name);
    if (!param) {
        param = gan__param_new(model, name, shape, false, start);
        gan__init_by_rule(model, param);
    }
    param->trainable = false;
    return param->value;
}

/* For gan_param and gan_buffer, which are asked with a shape. */
static void gan__check_named(gan_model *model, const char *function, const char *name, int n, int c,
                             int h, int w)
{
    gan__check_model(model, function);
    gan__check_shape(model->g, function, n, c, h, w);
    if (!name || !*name)
        gan__fail(model->g, function, "the name is %s", name ? "empty" : "NULL");
    gan__param *param = gan__find(model, name);
    const gan_tensor *t = param ? param->value : NULL;
    if (t && (t->n != n || t->c != c || t->h != h || t->w != w))
        gan__fail(model->g, function, "\"%s\" is " GAN__DIMS ", " GAN__DIMS " is asked for", name,
                  GAN__SHAPE(t), n, c, h, w);
}

GAN_API gan_tensor *gan_param(gan_model *model, const char *name, int n, int c, int h, int w)
{
    gan__check_named(model, "gan_param", name, n, c, h, w);
    return gan__layer_param(model, name, "", gan__shape_of(4, n, c, h, w),
                            gan__start_uniform(1 / sqrt((double)c * h * w)));
}

GAN_API gan_tensor *gan_buffer(gan_model *model, const char *name, int n, int c, int h, int w)
{
    gan__check_named(model, "gan_buffer", name, n, c, h, w);
    return gan__layer_buffer(model, name, "", gan__shape_of(4, n, c, h, w), gan__start_at(0));
}

/* ---- gradients of parameters */
GAN_API gan_tensor *gan_param_grad(gan_tensor *param)
{
    gan *g = gan__valid(param, "gan_param_grad");
    if (param->tape >= 0)
        gan__fail(g, "gan_param_grad",
                  "the tensor " GAN__DIMS " is not a parameter; gan_grad gives other gradients",
                  GAN__SHAPE(param));
    gan_tensor *copy = gan_zeros(g, GAN__SHAPE(param));
    if (gan__gradient_of(param))
        gan__copy_numbers(g, gan_count(param), gan__gradient_of(param), copy->data);
    return copy;
}

GAN_API void gan_backward(gan_tensor *loss, gan_model *model)
{
    gan *g = gan__valid(loss, "gan_backward");
    if (!model || model->g != g)
        gan__fail(g, "gan_backward", "the model is NULL or of another gan_open");
    if (gan_count(loss) != 1)
        gan__fail(g, "gan_backward",
                  "the loss " GAN__DIMS " has %.0f numbers, 1 is wanted: take gan_mean of it",
                  GAN__SHAPE(loss), (double)gan_count(loss));
    int before = g->tape_count;
    g->differentiation++;
    for (int i = 0; i < model->count; i++)
        if (gan__trains(model, i))
            gan__request_grad(g, model->params[i].value);
    g->recording = false; /* the derivatives are not differentiated themselves .. */
    g->reclaiming = true; /* .. and their memory is given back as soon as it is not needed */
    gan__differentiate(g, loss, gan_full(g, 1, 1, 1, 1, 1));
    gan__release_temporaries(g, 0);
    while (g->tape_count > before)
        gan__free_unseen_node(g, g->tape[--g->tape_count]);
    g->recording = true;
    g->reclaiming = false;
    if (g->look)
        gan__doctor_loss(g, loss, model);
}

/* ===========================================================================================
   >>layers (implementation)
   =========================================================================================== */

/* Every layer begins with this: checks its arguments, and notes the layer for messages of the
   functions that it calls. */
static gan *gan__layer_begin(gan_model *model, const char *function, const char *name,
                             gan_tensor *x)
{
    if (!model)
        gan__fail(NULL, function, "\"%s\": the model is NULL", name ? name : "NULL");
    if (!name || !*name)
        gan__fail(model->g, function, "the layer's name is %s", name ? "empty" : "NULL");
    snprintf(model->g->where, sizeof model->g->where, "%s \"%s\"", function, name);
    if (!x)
        gan__fail(model->g, function, "a tensor is NULL");
    gan__valid(x, function);
    if (x->g != model->g)
        gan__fail(model->g, function, "the input belongs to another gan_open");
    return model->g;
}

/* And ends with this: y is its output, params how many numbers gan_summary says it holds. */
static gan_tensor *gan__layer_end(gan_model *model, const char *kind, const char *name,
                                  gan_tensor *y, size_t params)
{
    model->g->where[0] = 0;
    for (int i = 0; i < model->layer_count; i++)
        if (strcmp(model->layers[i].name, name) == 0)
            return y;
    model->layers = (gan__layer *)gan__grow(model->layers, (size_t)model->layer_count,
                                            sizeof *model->layers);
    gan__layer layer = {gan__copy_string(kind), gan__copy_string(name), GAN__SHAPE(y), params};
    model->layers[model->layer_count++] = layer;
    return y;
}

/* A weight that is there already must have the shape that the call asks for; 0 is any size. */
static void gan__check_weight(const char *function, const gan_tensor *weight, int n, int c, int h,
                              int w)
{
    if ((n && weight->n != n) || (c && weight->c != c) || (h && weight->h != h) ||
        (w && weight->w != w))
        gan__fail(weight->g, function,
                  "its weight is " GAN__DIMS
                  ", made by an earlier call or a file; this call wants " GAN__DIMS " (0: any)",
                  GAN__SHAPE(weight), n, c, h, w);
}

/* ---- linear layers and convolutions */

GAN_API void gan_weights(gan_model *model, gan_weight_kind kind, gan_real rate)
{
    gan__check_model(model, "gan_weights");
    if ((int)kind < 0 || kind > GAN_EQUALIZED || !(rate > 0))
        gan__fail(model->g, "gan_weights",
                  "kind %d, rate %g: the kind is GAN_PLAIN_WEIGHTS, GAN_SPECTRAL or GAN_EQUALIZED, "
                  "the rate above 0",
                  (int)kind, (double)rate);
    model->weights = kind;
    model->rate = rate;
}

/* Copies t's numbers into a buffer, which keeps its address. */
static void gan__assign(gan_tensor *buffer, gan_tensor *t)
{
    gan_map p = {GAN_AFFINE, gan_count(buffer), 1, 0};
    gan__run_1(buffer->g, GAN__K_map, &p, t->data, buffer->data);
}

/* weight / s as gan_spectral_norm has it, with W the weight as a matrix (OUT,REST); by_column: OUT
   is the weight's second dimension, as in transposed convolutions. One step of power iteration:
     v = W^T u / |W^T u|,   u = W v / |W v|,   s = u^T W v */
static gan_tensor *gan__spectral(gan_model *model, const char *name, gan_tensor *weight,
                                 bool by_column)
{
    gan_tensor *rows = by_column ? gan_transpose(weight, 0, 1) : weight;
    gan_tensor *matrix = gan_reshape(rows, 1, 1, rows->n, -1);
    gan_tensor *constant = gan_detach(matrix);
    int out = matrix->h;
    int rest = matrix->w;
    gan_tensor *kept_u = gan__layer_buffer(model, name, "weight_u", gan__vector(out),
                                           gan__start_normal(1));
    gan_tensor *kept_v = gan__layer_buffer(model, name, "weight_v", gan__vector(rest),
                                           gan__start_normal(1));
    gan_tensor *u = gan_normalize(gan_reshape(gan_detach(kept_u), 1, 1, 1, out), 3);  /* a row */
    gan_tensor *v = gan_normalize(gan_reshape(gan_detach(kept_v), 1, 1, rest, 1), 2); /* a column */
    if (model->mode == GAN__TRAIN) {
        v = gan_detach(gan_normalize(gan_matmul_t(constant, u, true, true), 2));
        u = gan_detach(gan_normalize(gan_matmul_t(v, constant, true, true), 3));
        gan__assign(kept_v, v);
        gan__assign(kept_u, u);
    }
    return gan_div(weight, gan_matmul(gan_matmul(u, matrix), v));
}

GAN_API gan_tensor *gan_spectral_norm(gan_model *model, const char *name, gan_tensor *weight)
{
    gan__valid(weight, "gan_spectral_norm");
    if (!name)
        gan__fail(weight->g, "gan_spectral_norm", "the name is NULL");
    return gan__spectral(model, name, weight, false);
}

/* A layer's weight and its bias, which may be NULL, as the model's kind of weights has them used;
   params: how many numbers they are. */
typedef struct gan__layer_weights {
    gan_tensor *weight;
    gan_tensor *bias;
    size_t params;
} gan__layer_weights;

/* What the weight of a layer with out outputs is to be: (out,IN,KH,KW), or (IN,out/groups,KH,KW)
   if transposed. */
typedef struct gan__weight_form {
    int out;
    gan__param_shape shape;
    bool transposed;
    bool no_bias;
} gan__weight_form;

static gan__layer_weights gan__weights_of(gan_model *model, const char *function, const char *name,
                                          const gan__weight_form *form)
{
    gan__param_shape shape = form->shape;
    double bound = 1 / sqrt((double)shape.c * shape.h * shape.w); /* 1/sqrt(fan_in) */
    bool equalized = model->weights == GAN_EQUALIZED;
    gan__start start = equalized ? gan__start_normal(1 / (double)model->rate)
                                 : gan__start_uniform(bound);
    gan__layer_weights layer;
    gan_tensor *weight = gan__layer_param(model, name, "weight", shape, start);
    gan__check_weight(function, weight, form->transposed ? 0 : shape.n,
                      form->transposed ? shape.c : 0, shape.h, shape.w);
    layer.weight = weight;
    layer.bias = NULL;
    if (!form->no_bias)
        layer.bias = gan__layer_param(model, name, "bias", gan__vector(form->out),
                                      equalized ? gan__start_at(0) : gan__start_uniform(bound));
    layer.params = gan_count(weight) + (layer.bias ? gan_count(layer.bias) : 0);
    if (model->weights == GAN_SPECTRAL)
        layer.weight = gan__spectral(model, name, weight, form->transposed);
    if (equalized) {
        layer.weight = gan_mul_scalar(weight, (gan_real)(model->rate * bound));
        layer.bias = layer.bias ? gan_mul_scalar(layer.bias, model->rate) : NULL;
    }
    return layer;
}

GAN_API gan_tensor *gan_linear_with(gan_model *model, const char *name, gan_tensor *x,
                                    gan_linear_options options)
{
    gan *g = gan__layer_begin(model, "gan_linear", name, x);
    if (options.out < 1)
        gan__fail(g, "gan_linear", "%d outputs: 1 or more are wanted", options.out);
    int in = x->c * x->h * x->w;
    gan__weight_form form = {options.out, gan__matrix(options.out, in), false, options.no_bias};
    gan__layer_weights layer = gan__weights_of(model, "gan_linear", name, &form);
    gan_tensor *y = gan_linear_f(x, layer.weight, layer.bias);
    return gan__layer_end(model, "linear", name, y, layer.params);
}

GAN_API gan_tensor *gan_linear(gan_model *model, const char *name, gan_tensor *x, int out)
{
    gan_linear_options options = {out, false};
    return gan_linear_with(model, name, x, options);
}

/* The weight and bias that a convolution's options ask for, on an input of channels channels. */
static gan__layer_weights gan__conv_weights(gan_model *model, const char *function,
                                            const char *name, int channels,
                                            const gan_conv_options *options, bool transposed)
{
    int kernel_h = options->kernel_h ? options->kernel_h : options->kernel;
    int kernel_w = options->kernel_w ? options->kernel_w : options->kernel;
    int groups = options->groups ? options->groups : 1;
    int out = options->out;
    if (out < 1 || kernel_h < 1 || kernel_w < 1)
        gan__fail(model->g, function, "%d output channels, a kernel of %d x %d: each is 1 or more",
                  out, kernel_h, kernel_w);
    if (groups < 1 || channels % groups != 0 || out % groups != 0)
        gan__fail(model->g, function,
                  "%d groups do not divide %d input channels and %d output channels", groups,
                  channels, out);
    gan__weight_form form = {out, gan__shape_of(4, out, channels / groups, kernel_h, kernel_w),
                             transposed, options->no_bias};
    if (transposed)
        form.shape = gan__shape_of(4, channels, out / groups, kernel_h, kernel_w);
    return gan__weights_of(model, function, name, &form);
}

GAN_API gan_tensor *gan_conv2d_with(gan_model *model, const char *name, gan_tensor *x,
                                    gan_conv_options options)
{
    gan__layer_begin(model, "gan_conv2d", name, x);
    gan__layer_weights layer = gan__conv_weights(model, "gan_conv2d", name, x->c, &options, false);
    gan_tensor *y = gan_conv2d_with_f(x, layer.weight, layer.bias, options);
    return gan__layer_end(model, "conv2d", name, y, layer.params);
}

GAN_API gan_tensor *gan_conv_transpose2d_with(gan_model *model, const char *name, gan_tensor *x,
                                              gan_conv_options options)
{
    const char *function = "gan_conv_transpose2d";
    gan__layer_begin(model, function, name, x);
    gan__layer_weights layer = gan__conv_weights(model, function, name, x->c, &options, true);
    gan_tensor *y = gan_conv_transpose2d_with_f(x, layer.weight, layer.bias, options);
    return gan__layer_end(model, "conv_transpose2d", name, y, layer.params);
}

/* Options of the layers without: 0 is no stride here. */
static gan_conv_options gan__plain_options(gan_model *model, const char *function, const char *name,
                                           int out, int kernel, int stride, int pad)
{
    gan_conv_options options;
    if (stride < 1)
        gan__fail(model ? model->g : NULL, function, "\"%s\": stride %d: it is 1 or more",
                  name ? name : "NULL", stride);
    memset(&options, 0, sizeof options);
    options.out = out;
    options.kernel = kernel;
    options.stride = stride;
    options.pad = pad;
    return options;
}

GAN_API gan_tensor *gan_conv2d(gan_model *model, const char *name, gan_tensor *x, int out,
                               int kernel, int stride, int pad)
{
    return gan_conv2d_with(model, name, x,
                           gan__plain_options(model, "gan_conv2d", name, out, kernel, stride, pad));
}

GAN_API gan_tensor *gan_conv_transpose2d(gan_model *model, const char *name, gan_tensor *x, int out,
                                         int kernel, int stride, int pad)
{
    return gan_conv_transpose2d_with(
        model, name, x,
        gan__plain_options(model, "gan_conv_transpose2d", name, out, kernel, stride, pad));
}

/* ---- normalisation */

/* x normalised over the batch, with the running statistics of the layer called name. */
static gan_tensor *gan__batch_norm(gan_model *model, const char *name, gan_tensor *x,
                                   gan_tensor *weight, gan_tensor *bias)
{
    gan_tensor *mean = gan__layer_buffer(model, name, "running_mean", gan__vector(x->c),
                                         gan__start_at(0));
    gan_tensor *var = gan__layer_buffer(model, name, "running_var", gan__vector(x->c),
                                        gan__start_at(1));
    if (model->mode == GAN__FREEZE_NORM) {
        weight = gan_detach(weight);
        bias = gan_detach(bias);
    }
    return gan_batch_norm_f(x, weight, bias, mean, var, model->mode == GAN__TRAIN, (gan_real)0.1,
                            (gan_real)1e-5);
}

typedef enum gan__norm_kind { GAN__BATCH, GAN__INSTANCE, GAN__GROUP, GAN__LAYER } gan__norm_kind;

static gan_tensor *gan__norm_layer(gan_model *model, const char *function, const char *name,
                                   gan_tensor *x, gan__norm_kind kind, int groups)
{
    const gan_real eps = (gan_real)1e-5;
    gan__layer_begin(model, function, name, x);
    gan__param_shape shape = kind == GAN__LAYER ? gan__shape_of(3, 1, x->c, x->h, x->w)
                                                : gan__vector(x->c);
    gan_tensor *weight = gan__layer_param(model, name, "weight", shape, gan__start_at(1));
    gan_tensor *bias = gan__layer_param(model, name, "bias", shape, gan__start_at(0));
    gan_tensor *y = NULL;
    switch (kind) {
    case GAN__BATCH: y = gan__batch_norm(model, name, x, weight, bias); break;
    case GAN__INSTANCE: y = gan_instance_norm_f(x, weight, bias, eps); break;
    case GAN__GROUP: y = gan_group_norm_f(x, weight, bias, groups, eps); break;
    case GAN__LAYER: y = gan_layer_norm_f(x, weight, bias, eps); break;
    }
    const char *title = function + strlen("gan_");
    return gan__layer_end(model, title, name, y, gan_count(weight) + gan_count(bias));
}

GAN_API gan_tensor *gan_batch_norm(gan_model *model, const char *name, gan_tensor *x)
{
    return gan__norm_layer(model, "gan_batch_norm", name, x, GAN__BATCH, 0);
}

GAN_API gan_tensor *gan_instance_norm(gan_model *model, const char *name, gan_tensor *x)
{
    return gan__norm_layer(model, "gan_instance_norm", name, x, GAN__INSTANCE, 0);
}

GAN_API gan_tensor *gan_layer_norm(gan_model *model, const char *name, gan_tensor *x)
{
    return gan__norm_layer(model, "gan_layer_norm", name, x, GAN__LAYER, 0);
}

GAN_API gan_tensor *gan_group_norm(gan_model *model, const char *name, gan_tensor *x, int groups)
{
    return gan__norm_layer(model, "gan_group_norm", name, x, GAN__GROUP, groups);
}

GAN_API gan_tensor *gan_prelu(gan_model *model, const char *name, gan_tensor *x)
{
    gan__layer_begin(model, "gan_prelu", name, x);
    gan_tensor *weight = gan__layer_param(model, name, "weight", gan__vector(1),
                                          gan__start_at(0.25));
    return gan__layer_end(model, "prelu", name, gan_prelu_f(x, weight), 1);
}

/* ---- layers that know the image's class */

GAN_API gan_tensor *gan_embedding(gan_model *model, const char *name, gan_tensor *labels,
                                  int classes, int dim)
{
    gan *g = gan__layer_begin(model, "gan_embedding", name, labels);
    if (labels->n != (int)gan_count(labels))
        gan__fail(g, "gan_embedding", "labels " GAN__DIMS ": (N,1,1,1) is wanted",
                  GAN__SHAPE(labels));
    gan_tensor *weight = gan__layer_param(model, name, "weight", gan__matrix(classes, dim),
                                          gan__start_normal(1));
    gan__check_weight("gan_embedding", weight, classes, dim, 1, 1);
    return gan__layer_end(model, "embedding", name, gan_gather(weight, labels, 0),
                          gan_count(weight));
}

GAN_API gan_tensor *gan_conditional_batch_norm(gan_model *model, const char *name, gan_tensor *x,
                                               gan_tensor *labels, int classes)
{
    const char *function = "gan_conditional_batch_norm";
    gan *g = gan__layer_begin(model, function, name, x);
    if (!labels)
        gan__fail(g, function, "the labels are NULL");
    gan__valid_pair(x, labels, function);
    if (labels->n != x->n || gan_count(labels) != (size_t)x->n)
        gan__fail(g, function, "input " GAN__DIMS " wants labels (%d,1,1,1), they are " GAN__DIMS,
                  GAN__SHAPE(x), x->n, GAN__SHAPE(labels));
    gan__param_shape shape = gan__matrix(classes, x->c);
    gan_tensor *gamma = gan__layer_param(model, name, "gamma.weight", shape, gan__start_at(1));
    gan_tensor *beta = gan__layer_param(model, name, "beta.weight", shape, gan__start_at(0));
    gan_tensor *one = gan_full(g, 1, 1, x->c, 1, 1);
    gan_tensor *zero = gan_zeros(g, 1, x->c, 1, 1);
    gan_tensor *y = gan__batch_norm(model, name, x, one, zero);
    y = gan__weight_and_bias(y, gan_gather(gamma, labels, 0), gan_gather(beta, labels, 0));
    return gan__layer_end(model, "conditional_batch_norm", name, y,
                          gan_count(gamma) + gan_count(beta));
}

/* ---- dropout, attention, modulated convolution */

/* A number stays where u - p, u uniform in [0,1), is above 0. */
GAN_API gan_tensor *gan_dropout(gan_model *model, gan_tensor *x, gan_real p)
{
    gan *g = gan__valid(x, "gan_dropout");
    gan__check_model(model, "gan_dropout");
    if (!(p >= 0 && p < 1))
        gan__fail(g, "gan_dropout", "probability %g: it is in [0,1)", (double)p);
    if (model->mode != GAN__TRAIN || p == 0)
        return x;
    gan_tensor *stays = gan_add_scalar(gan_rand(g, GAN__SHAPE(x)), -p);
    gan_tensor *dropped = gan__zip("gan_dropout", GAN_GATE, x, stays, 0, 0);
    return gan_mul_scalar(dropped, 1 / (1 - p));
}

/* A 1x1 convolution NAME.PART with its places in a row: (N,1,OUT,H*W). */
static gan_tensor *gan__attention_part(gan_model *model, const char *name, const char *part,
                                       gan_tensor *x, int out)
{
    char inner[256];
    gan__full_name(model, inner, name, part);
    return gan_reshape(gan_conv2d(model, inner, x, out, 1, 1, 0), x->n, 1, out, x->h * x->w);
}

GAN_API gan_tensor *gan_self_attention(gan_model *model, const char *name, gan_tensor *x)
{
    gan__layer_begin(model, "gan_self_attention", name, x);
    int key_channels = GAN__MAX(x->c / 8, 1);
    gan_tensor *query = gan__attention_part(model, name, "query", x, key_channels);
    gan_tensor *key = gan__attention_part(model, name, "key", x, key_channels);
    gan_tensor *value = gan__attention_part(model, name, "value", x, x->c);
    gan__layer_begin(model, "gan_self_attention", name, x); /* its parts are layers too */
    gan_tensor *gamma = gan__layer_param(model, name, "gamma", gan__vector(1), gan__start_at(0));
    gan_tensor *scores = gan_matmul_t(query, key, true, false); /* (N,1,H*W,H*W): query, key */
    gan_tensor *attention = gan_softmax(scores, 3);
    gan_tensor *mean_value = gan_matmul_t(value, attention, false, true); /* (N,1,C,H*W) */
    gan_tensor *y = gan_add(x, gan_mul(gan_reshape(mean_value, GAN__SHAPE(x)), gamma));
    return gan__layer_end(model, "self_attention", name, y, 1);
}

/* The sum over c,u,v of (weight*style)^2 is the sum over c of (style^2 times the sum over u,v of
   weight^2): a product of matrices (N,C) and (C,O). */
GAN_API gan_tensor *gan_demodulation(gan_tensor *weight, gan_tensor *style)
{
    gan__valid_pair(weight, style, "gan_demodulation");
    if (style->c != weight->c || style->h != 1 || style->w != 1)
        gan__fail(style->g, "gan_demodulation",
                  "the weight " GAN__DIMS " wants a style (N,%d,1,1), it is " GAN__DIMS,
                  GAN__SHAPE(weight), weight->c, GAN__SHAPE(style));
    int n = style->n;
    int c = weight->c;
    int out = weight->n;
    gan_tensor *weight_squares = gan_sum_to(gan_square(weight), out, c, 1, 1);
    gan_tensor *of_weight = gan_reshape(weight_squares, 1, 1, out, c);
    gan_tensor *of_style = gan_reshape(gan_square(style), 1, 1, n, c);
    gan_tensor *squares = gan_matmul_t(of_style, of_weight, false, true);    /* (1,1,N,O) */
    gan_tensor *factor = gan_rsqrt(gan_add_scalar(squares, (gan_real)1e-8)); /* never 1/0 */
    return gan_reshape(factor, n, out, 1, 1);
}

GAN_API gan_tensor *gan_modulated_conv2d_f(gan_tensor *x, gan_tensor *weight, gan_tensor *style,
                                           int pad, bool demodulate)
{
    gan__valid_pair(x, weight, "gan_modulated_conv2d_f");
    gan__valid_pair(x, style, "gan_modulated_conv2d_f");
    if (style->n != x->n || style->c != x->c || style->h != 1 || style->w != 1)
        gan__fail(x->g, "gan_modulated_conv2d_f",
                  "input " GAN__DIMS " wants a style (%d,%d,1,1), it is " GAN__DIMS, GAN__SHAPE(x),
                  x->n, x->c, GAN__SHAPE(style));
    gan_tensor *y = gan_conv2d_f(gan_mul(x, style), weight, NULL, 1, pad, 1);
    return demodulate ? gan_mul(y, gan_demodulation(weight, style)) : y;
}

GAN_API gan_tensor *gan_modulated_conv2d(gan_model *model, const char *name, gan_tensor *x,
                                         gan_tensor *latent, int out, int kernel, bool demodulate)
{
    const char *function = "gan_modulated_conv2d";
    char inner[256];
    gan__layer_begin(model, function, name, x);
    gan__full_name(model, inner, name, "affine");
    gan_tensor *style = gan_add_scalar(gan_linear(model, inner, latent, x->c), 1);
    gan__layer_begin(model, function, name, x); /* affine is a layer too */
    gan_conv_options options = gan__plain_options(model, function, name, out, kernel, 1, 0);
    gan__layer_weights layer = gan__conv_weights(model, function, name, x->c, &options, false);
    gan_tensor *y = gan_modulated_conv2d_f(x, layer.weight, style, kernel / 2, demodulate);
    return gan__layer_end(model, "modulated_conv2d", name, gan_add(y, layer.bias), layer.params);
}

/* ===========================================================================================
   >>losses (implementation)
   ===========================================================================================
   Losses are compositions of tensor functions, and have no derivatives of their own. */

static void gan__check_same(gan_tensor *a, gan_tensor *b, const char *function)
{
    gan__valid_pair(a, b, function);
    if (!gan__same_shape(a, b))
        gan__fail(a->g, function, GAN__DIMS " and " GAN__DIMS " must have the same shape",
                  GAN__SHAPE(a), GAN__SHAPE(b));
}

/* -ln s(x) = softplus(-x) and -ln(1 - s(x)) = softplus(x): no logarithm of a number near 0 or 1
   is ever taken. */
GAN_API gan_tensor *gan_bce_logits(gan_tensor *logits, gan_real target)
{
    gan__valid(logits, "gan_bce_logits");
    if (target == 0)
        return gan_mean(gan_softplus(logits));
    gan_tensor *if_one = gan_mean(gan_softplus(gan_neg(logits)));
    if (target == 1)
        return if_one;
    gan_tensor *if_zero = gan_mean(gan_softplus(logits));
    return gan_add(gan_mul_scalar(if_one, target), gan_mul_scalar(if_zero, 1 - target));
}

/* t softplus(-x) + (1-t) softplus(x) = softplus(x) - t x, for softplus(-x) = softplus(x) - x. */
GAN_API gan_tensor *gan_bce_logits_to(gan_tensor *logits, gan_tensor *targets)
{
    gan__check_same(logits, targets, "gan_bce_logits_to");
    return gan_mean(gan_sub(gan_softplus(logits), gan_mul(targets, logits)));
}

/* max(ln x, -100). The inner clamp keeps the derivative, 1/x times 0, from being 0/0 at x = 0. */
static gan_tensor *gan__log_from(gan_tensor *x)
{
    gan_tensor *positive = gan_clamp(x, (gan_real)1e-45, (gan_real)HUGE_VAL);
    return gan_clamp(gan_log(positive), -100, (gan_real)HUGE_VAL);
}

/* -(t ln p + (1-t) ln(1-p)) = -(ln(1-p) + t (ln p - ln(1-p))) */
GAN_API gan_tensor *gan_bce(gan_tensor *probabilities, gan_tensor *targets)
{
    gan__check_same(probabilities, targets, "gan_bce");
    gan_tensor *log_p = gan__log_from(probabilities);
    gan_tensor *log_rest = gan__log_from(gan_add_scalar(gan_neg(probabilities), 1));
    gan_tensor *difference = gan_sub(log_p, log_rest);
    return gan_neg(gan_mean(gan_add(log_rest, gan_mul(targets, difference))));
}

/* (n,1,1,1): 1 with probability p, else 0. That is where u - p lies in [-1,0), u uniform in
   [0,1). */
static gan_tensor *gan__bernoulli(const char *function, gan *g, int n, gan_real p)
{
    gan_tensor *difference = gan_add_scalar(gan_rand(g, n, 1, 1, 1), -p);
    gan_tensor *ones = gan_full(g, 1, n, 1, 1, 1);
    return gan__zip(function, GAN_INSIDE, ones, difference, -1, (gan_real)-1e-12);
}

/* target + (1 - 2 target)*flipped */
GAN_API gan_tensor *gan_flipped_labels(gan *g, int n, gan_real target, gan_real p)
{
    gan_tensor *flipped = gan__bernoulli("gan_flipped_labels", g, n, p);
    return gan__map("gan_flipped_labels", GAN_AFFINE, flipped, 1 - 2 * target, target);
}

GAN_API gan_tensor *gan_mse(gan_tensor *a, gan_tensor *b)
{
    gan__check_same(a, b, "gan_mse");
    return gan_mean(gan_square(gan_sub(a, b)));
}

GAN_API gan_tensor *gan_l1(gan_tensor *a, gan_tensor *b)
{
    gan__check_same(a, b, "gan_l1");
    return gan_mean(gan_abs(gan_sub(a, b)));
}

/* With d = a-b and e = d clamped to [-1,1], e (d - e/2) is d^2/2 inside and |d| - 1/2 outside. */
GAN_API gan_tensor *gan_smooth_l1(gan_tensor *a, gan_tensor *b)
{
    gan__check_same(a, b, "gan_smooth_l1");
    gan_tensor *d = gan_sub(a, b);
    gan_tensor *e = gan_clamp(d, -1, 1);
    gan_tensor *d_minus_half_e = gan__zip("gan_smooth_l1", GAN_MIX, d, e, 1, (gan_real)-0.5);
    return gan_mean(gan_mul(e, d_minus_half_e));
}

/* The numbers along C of x (N,C,H,W) that labels (N,1,H,W) name: (1,N,1,H*W). In this shape each
   place has its own label, whatever N, H and W are. */
static gan_tensor *gan__pick_class(gan_tensor *x, gan_tensor *labels)
{
    int places = x->h * x->w;
    gan_tensor *index = gan_reshape(labels, 1, x->n, 1, places);
    return gan_gather(gan_reshape(x, 1, x->n, x->c, places), index, 2);
}

/* Only the label's log-probability is taken. A sum over all classes times 0 or 1 would be NaN
   where a class has probability 0, for 0 * -infinity is not a number. */
GAN_API gan_tensor *gan_cross_entropy(gan_tensor *logits, gan_tensor *labels)
{
    gan__valid_pair(logits, labels, "gan_cross_entropy");
    if (labels->n != logits->n || labels->c != 1 || labels->h != logits->h ||
        labels->w != logits->w)
        gan__fail(logits->g, "gan_cross_entropy",
                  "logits " GAN__DIMS " want labels (%d,1,%d,%d), they are " GAN__DIMS,
                  GAN__SHAPE(logits), logits->n, logits->h, logits->w, GAN__SHAPE(labels));
    gan__check_whole("gan_cross_entropy", "label", labels, logits->c, "classes");
    gan_tensor *chosen = gan__pick_class(gan_log_softmax(logits, 1), labels);
    return gan_mul_scalar(gan_sum(chosen), (gan_real)(-1.0 / (double)gan_count(labels)));
}

/* ---- losses of the two networks */
static const char *const gan__loss_names[GAN_LOSSES] = {
    "minimax", "non-saturating", "least-squares", "hinge", "wasserstein", "relativistic",
};

GAN_API const char *gan_loss_name(gan_loss kind)
{
    if ((int)kind < 0 || kind >= GAN_LOSSES)
        gan__fail(NULL, "gan_loss_name", "kind %d: there are %d", (int)kind, (int)GAN_LOSSES);
    return gan__loss_names[kind];
}

GAN_API int gan_loss_kind(const char *name)
{
    if (!name)
        gan__fail(NULL, "gan_loss_kind", "the name is NULL");
    for (int i = 0; i < GAN_LOSSES; i++)
        if (strcmp(name, gan__loss_names[i]) == 0)
            return i;
    gan__refuse("gan_loss_kind: there is no loss \"%s\"; there are minimax, non-saturating, "
                "least-squares, hinge, wasserstein and relativistic",
                name);
    return -1;
}

static void gan__check_loss(gan *g, const char *function, gan_loss kind)
{
    if ((int)kind < 0 || kind >= GAN_LOSSES)
        gan__fail(g, function, "kind %d: it is GAN_MINIMAX .. GAN_RELATIVISTIC", (int)kind);
}

/* E (x - target)^2 */
static gan_tensor *gan__square_to(gan_tensor *x, gan_real target)
{
    return gan_mean(gan_square(gan_add_scalar(x, -target)));
}

/* E max(0, 1 + x) */
static gan_tensor *gan__hinge(gan_tensor *x)
{
    return gan_mean(gan_relu(gan_add_scalar(x, 1)));
}

GAN_API gan_tensor *gan_d_loss(gan_tensor *real, gan_tensor *fake, gan_loss kind)
{
    gan__valid_pair(real, fake, "gan_d_loss");
    gan__check_loss(real->g, "gan_d_loss", kind);
    switch (kind) {
    case GAN_MINIMAX:
    case GAN_NON_SATURATING: return gan_add(gan_bce_logits(real, 1), gan_bce_logits(fake, 0));
    case GAN_LEAST_SQUARES:
        return gan_mul_scalar(gan_add(gan__square_to(real, 1), gan__square_to(fake, 0)),
                              (gan_real)0.5);
    case GAN_HINGE: return gan_add(gan__hinge(gan_neg(real)), gan__hinge(fake));
    case GAN_WASSERSTEIN: return gan_sub(gan_mean(fake), gan_mean(real));
    case GAN_RELATIVISTIC:
        return gan_add(gan_bce_logits(gan_sub(real, gan_mean(fake)), 1),
                       gan_bce_logits(gan_sub(fake, gan_mean(real)), 0));
    case GAN_LOSSES: break;
    }
    return NULL;
}

GAN_API gan_tensor *gan_g_loss(gan_tensor *real, gan_tensor *fake, gan_loss kind)
{
    gan *g = gan__valid(fake, "gan_g_loss");
    gan__check_loss(g, "gan_g_loss", kind);
    switch (kind) {
    case GAN_MINIMAX: return gan_neg(gan_bce_logits(fake, 0));
    case GAN_NON_SATURATING: return gan_bce_logits(fake, 1);
    case GAN_LEAST_SQUARES: return gan__square_to(fake, 1);
    case GAN_HINGE:
    case GAN_WASSERSTEIN: return gan_neg(gan_mean(fake));
    case GAN_RELATIVISTIC: return gan_d_loss(fake, real, kind);
    case GAN_LOSSES: break;
    }
    return NULL;
}

/* ---- penalties */

/* |dD/dx|^2 of each image, (N,1,1,1). An image's logit depends on that image alone, so the
   gradient of the sum of all logits holds every image's own. */
static gan_tensor *gan__squared_slope(const char *function, gan_tensor *logits, gan_tensor *x)
{
    gan__valid_pair(logits, x, function);
    gan_tensor *slope = gan_grad(gan_sum(logits), x);
    return gan_sum_to(gan_square(slope), x->n, 1, 1, 1);
}

/* sqrt(x + 1e-16): its slope stays finite at 0. */
static gan_tensor *gan__safe_sqrt(gan_tensor *x)
{
    return gan_sqrt(gan_add_scalar(x, (gan_real)1e-16));
}

GAN_API gan_tensor *gan_gradient_penalty(gan_tensor *logits, gan_tensor *x, gan_real target)
{
    gan_tensor *squares = gan__squared_slope("gan_gradient_penalty", logits, x);
    return gan__square_to(gan__safe_sqrt(squares), target);
}

GAN_API gan_tensor *gan_r1(gan_tensor *logits, gan_tensor *real)
{
    return gan_mean(gan__squared_slope("gan_r1", logits, real));
}

GAN_API gan_tensor *gan_r2(gan_tensor *logits, gan_tensor *fake)
{
    return gan_mean(gan__squared_slope("gan_r2", logits, fake));
}

static void gan__check_critic(gan *g, const char *function, gan_network *critic)
{
    if (!critic)
        gan__fail(g, function, "the critic is NULL: a function of a model and a tensor is wanted");
}

GAN_API gan_tensor *gan_wgan_gp(gan_model *D, gan_network *critic, gan_tensor *real,
                                gan_tensor *fake)
{
    gan__check_same(real, fake, "gan_wgan_gp");
    gan__check_critic(real->g, "gan_wgan_gp", critic);
    gan_tensor *t = gan_rand(real->g, real->n, 1, 1, 1);
    gan_tensor *x = gan_detach(gan_add(gan_mul(gan_sub(fake, real), t), real));
    return gan_gradient_penalty(critic(D, x), x, 1);
}

GAN_API gan_tensor *gan_dragan(gan_model *D, gan_network *critic, gan_tensor *real)
{
    gan *g = gan__valid(real, "gan_dragan");
    gan__check_critic(g, "gan_dragan", critic);
    gan_tensor *deviation = gan_sqrt(gan_mean(gan_square(gan_sub(real, gan_mean(real)))));
    gan_tensor *u = gan_rand(g, GAN__SHAPE(real));
    gan_tensor *t = gan_rand(g, real->n, 1, 1, 1);
    gan_tensor *noise = gan_mul(gan_mul(u, t), gan_mul_scalar(deviation, (gan_real)0.5));
    gan_tensor *x = gan_detach(gan_add(real, noise));
    return gan_gradient_penalty(critic(D, x), x, 1);
}

GAN_API gan_tensor *gan_path_length(gan_model *G, gan_tensor *image, gan_tensor *w)
{
    gan__valid_pair(image, w, "gan_path_length");
    gan_tensor *running = gan__layer_buffer(G, "path_length", "running_mean", gan__vector(1),
                                            gan__start_at(0));
    gan_real deviation = (gan_real)(1 / sqrt((double)image->h * image->w));
    gan_tensor *y = gan_mul_scalar(gan_randn(image->g, GAN__SHAPE(image)), deviation);
    gan_tensor *slope = gan_grad(gan_sum(gan_mul(image, y)), w);
    gan_tensor *squares = gan_sum_to(gan_square(slope), w->n, 1, w->h, 1);
    gan_tensor *length = gan__safe_sqrt(gan_mean_to(squares, w->n, 1, 1, 1));
    gan_tensor *mean = gan__zip("gan_path_length", GAN_MIX, gan_detach(running), gan_mean(length),
                                (gan_real)0.99, (gan_real)0.01);
    gan__assign(running, mean);
    return gan_mean(gan_square(gan_sub(length, mean)));
}

/* ---- distances between pictures and between features */
GAN_API gan_tensor *gan_cycle_loss(gan_tensor *x, gan_tensor *there_and_back)
{
    return gan_l1(there_and_back, x);
}

GAN_API gan_tensor *gan_identity_loss(gan_tensor *x, gan_tensor *translated)
{
    return gan_l1(translated, x);
}

GAN_API gan_tensor *gan_gram(gan_tensor *x)
{
    gan__valid(x, "gan_gram");
    gan_tensor *f = gan_reshape(x, x->n, 1, x->c, x->h * x->w);
    gan_real scale = (gan_real)(1 / ((double)x->c * x->h * x->w));
    return gan_mul_scalar(gan_matmul_t(f, f, false, true), scale);
}

/* What gan__feature_distance compares of two feature maps (N,C,H,W). */
typedef enum gan__feature_kind {
    GAN__FEATURES, /* all their numbers */
    GAN__GRAMS,    /* their Gram matrices, (N,1,C,C) */
    GAN__MEANS     /* their means over the batch, (1,C,H,W) */
} gan__feature_kind;

/* The mean squared difference of what kind names. No gradient goes into target. */
static gan_tensor *gan__feature_distance(const char *function, gan_tensor *target, gan_tensor *x,
                                         gan__feature_kind kind)
{
    gan__valid_pair(target, x, function);
    target = gan_detach(target);
    if (kind == GAN__GRAMS) {
        x = gan_gram(x);
        target = gan_gram(target);
        target = gan_expand(target, x->n, 1, target->h, target->w); /* one target for all x */
    }
    if (kind == GAN__MEANS) {
        target = gan_mean_to(target, 1, target->c, target->h, target->w);
        x = gan_mean_to(x, 1, x->c, x->h, x->w);
    }
    gan__check_same(target, x, function);
    return gan_mse(x, target);
}

/* The sum of the distances of count pairs of feature maps, one pair for each layer looked at. */
static gan_tensor *gan__feature_loss(const char *function, gan_tensor **target, gan_tensor **x,
                                     int count, gan__feature_kind kind)
{
    if (!target || !x)
        gan__fail(NULL, function, "the array of %s is NULL", target ? "x" : "target");
    if (count < 1)
        gan__fail(NULL, function, "%d feature maps: 1 or more are wanted", count);
    gan_tensor *total = gan__feature_distance(function, target[0], x[0], kind);
    for (int i = 1; i < count; i++)
        total = gan_add(total, gan__feature_distance(function, target[i], x[i], kind));
    return total;
}

GAN_API gan_tensor *gan_perceptual_loss(gan_tensor **target, gan_tensor **x, int count)
{
    return gan__feature_loss("gan_perceptual_loss", target, x, count, GAN__FEATURES);
}

GAN_API gan_tensor *gan_style_loss(gan_tensor **target, gan_tensor **x, int count)
{
    return gan__feature_loss("gan_style_loss", target, x, count, GAN__GRAMS);
}

GAN_API gan_tensor *gan_feature_matching(gan_tensor **target, gan_tensor **x, int count)
{
    return gan__feature_loss("gan_feature_matching", target, x, count, GAN__MEANS);
}

/* The sum of |pixel - the pixel before it| along H (dim 2) or W (dim 3), where x has size pixels:
   the pixels from the second on, minus those up to the last but one. */
static gan_tensor *gan__variation_along(gan_tensor *x, int dim, int size)
{
    gan_tensor *pixels = gan_slice(x, dim, 1, size - 1);
    gan_tensor *pixels_before = gan_slice(x, dim, 0, size - 1);
    return gan_sum(gan_abs(gan_sub(pixels, pixels_before)));
}

GAN_API gan_tensor *gan_total_variation(gan_tensor *x)
{
    gan_tensor *total = gan_zeros(gan__valid(x, "gan_total_variation"), 1, 1, 1, 1);
    if (x->h > 1)
        total = gan_add(total, gan__variation_along(x, 2, x->h));
    if (x->w > 1)
        total = gan_add(total, gan__variation_along(x, 3, x->w));
    return gan_mul_scalar(total, 1 / (gan_real)x->n);
}

/* scores[n,i,j] = q_i . k_j / temperature: how well key j answers query i. The right key of query
   i is key i, so the labels are 0, 1, .. P-1. gan_cross_entropy wants the P choices j along C and
   the P patches i along W. */
GAN_API gan_tensor *gan_patch_nce(gan_tensor *q, gan_tensor *k, gan_real temperature)
{
    gan__check_same(q, k, "gan_patch_nce");
    if (q->h != 1 || !(temperature > 0))
        gan__fail(q->g, "gan_patch_nce",
                  "features " GAN__DIMS ", temperature %g: (N,C,1,P) and more than 0 are wanted",
                  GAN__SHAPE(q), (double)temperature);
    int patches = q->w;
    gan_tensor *queries = gan_permute(q, 0, 2, 1, 3);                /* (N,1,C,P) */
    gan_tensor *keys = gan_permute(gan_detach(k), 0, 2, 1, 3);       /* (N,1,C,P) */
    gan_tensor *products = gan_matmul_t(queries, keys, true, false); /* (N,1,P,P) */
    gan_tensor *scores = gan_mul_scalar(products, 1 / temperature);
    gan_tensor *labels = gan_reshape(gan__counting(q->g, patches), 1, 1, 1, patches);
    return gan_cross_entropy(gan_permute(scores, 0, 3, 1, 2),
                             gan_expand(labels, q->n, 1, 1, patches));
}

/* ===========================================================================================
   >>optim (implementation)
   =========================================================================================== */
static gan__cost gan__cost_sgd(const gan_update *p)
{
    size_t n = p->count;
    gan__cost cost = {{n}, {n, n}, 4.0 * (double)n};
    return cost;
}

/* g is the gradient of the weights w, m the momentum: a fading sum of the gradients so far. */
GAN_API void gan_ref_sgd(const gan_update *p, const gan_real *g, gan_real *w, gan_real *m)
{
    for (size_t i = 0; i < p->count; i++) {
        m[i] = p->beta1 * m[i] + g[i];
        w[i] = w[i] - p->lr * m[i];
    }
}

static gan__cost gan__cost_adam(const gan_update *p)
{
    size_t n = p->count;
    gan__cost cost = {{n}, {n, n, n}, 12.0 * (double)n};
    return cost;
}

GAN_API void gan_ref_adam(const gan_update *p, const gan_real *g, gan_real *w, gan_real *m,
                          gan_real *v)
{
    for (size_t i = 0; i < p->count; i++) {
        m[i] = p->beta1 * m[i] + (1 - p->beta1) * g[i];
        v[i] = p->beta2 * v[i] + (1 - p->beta2) * g[i] * g[i];
        w[i] = (1 - p->lr * p->decay) * w[i] -
               p->lr * (m[i] / p->bias1) / (GAN__F(sqrt, v[i] / p->bias2) + p->eps);
    }
}

static gan__cost gan__cost_rmsprop(const gan_update *p)
{
    size_t n = p->count;
    gan__cost cost = {{n}, {n, n}, 4.0 * (double)n};
    return cost;
}

GAN_API void gan_ref_rmsprop(const gan_update *p, const gan_real *g, gan_real *w, gan_real *v)
{
    for (size_t i = 0; i < p->count; i++) {
        v[i] = p->beta2 * v[i] + (1 - p->beta2) * g[i] * g[i];
        w[i] = w[i] - p->lr * g[i] / (GAN__F(sqrt, v[i]) + p->eps);
    }
}

/* The loops above in vectors (>>simd), by several threads from 16384 numbers on. */
static void gan__update(gan__body *body, const gan_update *p, const gan_real *g, gan_real *w,
                        gan_real *m, gan_real *v)
{
    gan__job job = {p, {g}, {w, m, v}};
    gan__parallel(p->count, 16384, body, &job);
}

GAN_API void gan_cpu_adam(const gan_update *p, const gan_real *g, gan_real *w, gan_real *m,
                          gan_real *v)
{
    gan__update(gan__simd()->adam, p, g, w, m, v);
}

GAN_API void gan_cpu_sgd(const gan_update *p, const gan_real *g, gan_real *w, gan_real *m)
{
    gan__update(gan__simd()->sgd, p, g, w, m, 0);
}

GAN_API void gan_cpu_rmsprop(const gan_update *p, const gan_real *g, gan_real *w, gan_real *v)
{
    gan__update(gan__simd()->rmsprop, p, g, w, v, 0);
}

/* ---- optimizers */
typedef enum gan__opt_kind { GAN__SGD, GAN__ADAM, GAN__RMSPROP, GAN__LBFGS } gan__opt_kind;

/* In the names of a saved training's tensors. */
static const char *const gan__opt_names[] = {"sgd", "adam", "rmsprop", "lbfgs"};

/* What an optimizer keeps of one parameter: tensors of the parameter's shape (SGD's m, Adam's m
   and v, RMSprop's v, L-BFGS' history), and how many steps it has taken. NULL and 0 before the
   first step. */
typedef struct gan__moments {
    gan_tensor **slot;
    double steps;
} gan__moments;

struct gan_opt {
    gan_model *model;
    gan__opt_kind kind;
    int slots; /* of each parameter */
    gan_real lr;
    gan_real beta1; /* SGD's momentum */
    gan_real beta2; /* RMSprop's alpha */
    gan_real decay;
    gan__moments *moments; /* one for each of the model's parameters that were there at a step */
    int count;
    gan_opt *next; /* the next optimizer of the same model */
};

/* The numbers that an optimizer is made with. */
typedef struct gan__opt_rates {
    gan_real lr, beta1, beta2, decay;
} gan__opt_rates;

static gan_opt *gan__opt_new(gan_model *model, const char *function, gan__opt_kind kind, int slots,
                             gan__opt_rates rates)
{
    gan__check_model(model, function);
    if (!(rates.lr >= 0) || !(rates.decay >= 0) || !(rates.beta1 >= 0 && rates.beta1 < 1) ||
        !(rates.beta2 >= 0 && rates.beta2 < 1))
        gan__fail(model->g, function,
                  "learning rate %g and decay %g are 0 or more, momentum and betas %g, %g in [0,1)",
                  (double)rates.lr, (double)rates.decay, (double)rates.beta1, (double)rates.beta2);
    if (model->g->plan)
        gan__fail(model->g, function, "an optimizer is made before gan_plan and gan_capture");
    gan_opt *opt = (gan_opt *)gan__alloc_zero(sizeof *opt);
    opt->model = model;
    opt->kind = kind;
    opt->slots = slots;
    opt->lr = rates.lr;
    opt->beta1 = rates.beta1;
    opt->beta2 = rates.beta2;
    opt->decay = rates.decay;
    gan_opt **last = &model->opts;
    while (*last)
        last = &(*last)->next;
    *last = opt;
    return opt;
}

GAN_API gan_opt *gan_sgd(gan_model *model, gan_real lr, gan_real momentum)
{
    gan__opt_rates rates = {lr, momentum, 0, 0};
    return gan__opt_new(model, "gan_sgd", GAN__SGD, 1, rates);
}

GAN_API gan_opt *gan_adam(gan_model *model, gan_real lr, gan_real beta1, gan_real beta2)
{
    gan__opt_rates rates = {lr, beta1, beta2, 0};
    return gan__opt_new(model, "gan_adam", GAN__ADAM, 2, rates);
}

GAN_API gan_opt *gan_adamw(gan_model *model, gan_real lr, gan_real beta1, gan_real beta2,
                           gan_real decay)
{
    gan__opt_rates rates = {lr, beta1, beta2, decay};
    return gan__opt_new(model, "gan_adamw", GAN__ADAM, 2, rates);
}

GAN_API gan_opt *gan_rmsprop(gan_model *model, gan_real lr, gan_real alpha)
{
    gan__opt_rates rates = {lr, 0, alpha, 0};
    return gan__opt_new(model, "gan_rmsprop", GAN__RMSPROP, 1, rates);
}

GAN_API gan_opt *gan_lbfgs(gan_model *model, gan_real lr, int history)
{
    gan__opt_rates rates = {lr, 0, 0, 0};
    gan__check_model(model, "gan_lbfgs");
    if (history < 1 || history > 10000)
        gan__fail(model->g, "gan_lbfgs",
                  "a history of %d steps; 1 to 10000 are possible, 10 to 100 usual", history);
    return gan__opt_new(model, "gan_lbfgs", GAN__LBFGS, 2 * (history + 1), rates);
}

static void gan__check_opt(const gan_opt *opt, const char *function)
{
    if (!opt)
        gan__fail(NULL, function, "the optimizer is NULL");
}

GAN_API void gan_set_lr(gan_opt *opt, gan_real lr)
{
    gan__check_opt(opt, "gan_set_lr");
    if (!(lr >= 0))
        gan__fail(opt->model->g, "gan_set_lr", "learning rate %g: it is 0 or more", (double)lr);
    opt->lr = lr;
}

GAN_API gan_real gan_lr_step(gan_real lr, int step, int every, gan_real gamma)
{
    return (gan_real)(lr * pow(gamma, step / GAN__MAX(every, 1)));
}

GAN_API gan_real gan_lr_linear(gan_real lr, int step, int start, int end)
{
    return step < start ? lr : step >= end ? 0 : lr * (end - step) / (end - start);
}

GAN_API gan_real gan_lr_cosine(gan_real lr, int step, int total)
{
    const double pi = 3.14159265358979323846;
    return step >= total ? 0 : (gan_real)(lr * (1 + cos(pi * step / total)) / 2);
}

GAN_API gan_real gan_lr_warmup(gan_real lr, int step, int steps)
{
    return step + 1 >= steps ? lr : lr * (step + 1) / steps;
}

GAN_API gan_real gan_lr_inverse(gan_real lr, int step, gan_real k)
{
    return lr / (1 + k * step);
}

/* The moments of parameter i, zeros before its first step. NULL if there is no memory for them. */
static gan__moments *gan__try_moments_of(gan_opt *opt, int i)
{
    while (opt->count < opt->model->count) {
        gan__moments *larger = (gan__moments *)gan__try_grow(opt->moments, (size_t)opt->count,
                                                             sizeof *larger);
        if (!larger)
            return NULL;
        opt->moments = larger;
        memset(&opt->moments[opt->count++], 0, sizeof *opt->moments);
    }
    gan__moments *moments = &opt->moments[i];
    const gan_tensor *value = opt->model->params[i].value;
    if (moments->slot)
        return moments;
    gan_tensor **slot = (gan_tensor **)gan__try_alloc((size_t)opt->slots * sizeof *slot);
    for (int s = 0; slot && s < opt->slots; s++) {
        slot[s] = gan__persistent_tensor(value->g, GAN__SHAPE(value));
        if (slot[s]) {
            gan__fill_with(slot[s], 0);
            continue;
        }
        while (s > 0)
            gan__persistent_tensor_free(slot[--s]);
        GAN_FREE(slot);
        return NULL;
    }
    moments->slot = slot;
    return slot ? moments : NULL;
}

static gan__moments *gan__moments_of(gan_opt *opt, int i)
{
    gan__moments *moments = gan__try_moments_of(opt, i);
    if (!moments)
        gan__out_of_memory(opt->model->g, opt->model->g->backend,
                           (double)gan_count(opt->model->params[i].value) * opt->slots *
                               sizeof(gan_real));
    return moments;
}

/* ---- L-BFGS

   All parameters together are one vector w, with the gradient g. Newton's step is -H g, H the
   inverse of the matrix of second derivatives, which is never written down. It is estimated from
   pairs of vectors: a step s that was taken, and the change y of the gradient over that step.
   H must turn y into s. BFGS begins with a multiple of the identity and corrects it once for each
   pair, from the oldest to the newest:

       H' = V^T H V + rho s s^T,   V = I - rho y s^T,   rho = 1/(y.s)

   H' q is therefore  V q first, then H, then V^T and what is left:

       V q        = q - alpha y                 with alpha = rho (s.q)
       V^T r + .. = r + (alpha - beta) s        with beta  = rho (y.r)

   Written out for pairs 1 (the newest) to m, this is two loops over vectors:

       q = -g                                               step = q
         |                                                    ^
         v                                                    |
       pair 1   q -= alpha_1 y_1                q += (alpha_1 - beta_1) s_1
       pair 2   q -= alpha_2 y_2                q += (alpha_2 - beta_2) s_2
        ...                                                   ^
       pair m   q -= alpha_m y_m                q += (alpha_m - beta_m) s_m
         |                                                    |
         +----------->  q *= (y_1.s_1)/(y_1.y_1)  ------------+

   The slots of each parameter hold its part of these vectors:

       slot      0      1      2    3     4    5    ...
       between   step   g      s_1  y_1   s_2  y_2
       steps

   During a step slot 0 is q; slot 1 becomes y of the last step, then g again. */
enum { GAN__LBFGS_STEP = 0, GAN__LBFGS_GRADIENT = 1 };

static int gan__lbfgs_s(int pair)
{
    return 2 * pair;
}

static int gan__lbfgs_y(int pair)
{
    return 2 * pair + 1;
}

/* The inner product of two slots, over all parameters. */
static double gan__lbfgs_dot(gan_opt *opt, int a, int b)
{
    double total = 0;
    gan_mark mark = gan_here(opt->model->g);
    for (int i = 0; i < opt->count; i++) {
        gan_tensor **slot = opt->moments[i].slot;
        if (slot)
            total += (double)gan_item(gan_sum(gan_mul(slot[a], slot[b])));
    }
    gan_clear_to(opt->model->g, mark);
    return total;
}

/* Slot y = k*y + l*x. */
static void gan__lbfgs_mix(gan_opt *opt, double k, int y, double l, int x)
{
    for (int i = 0; i < opt->count; i++) {
        gan_tensor **slot = opt->moments[i].slot;
        if (slot)
            gan__mix_numbers(slot[y]->g, gan_count(slot[y]), (gan_real)k, slot[y]->data,
                             (gan_real)l, slot[x]->data);
    }
}

static void gan__lbfgs_scale(gan_opt *opt, int slot, double k)
{
    gan__lbfgs_mix(opt, k, slot, 0, slot);
}

/* Slot y = k*y + l*g. A parameter without a gradient has zeros for it. */
static void gan__lbfgs_mix_gradient(gan_opt *opt, double k, int y, double l)
{
    for (int i = 0; i < opt->count; i++) {
        gan_tensor **slot = opt->moments[i].slot;
        if (!slot)
            continue;
        gan_real *to = slot[y]->data;
        const gan_real *g = gan__gradient_of(opt->model->params[i].value);
        gan__mix_numbers(slot[y]->g, gan_count(slot[y]), (gan_real)k, to, g ? (gan_real)l : 0,
                         g ? g : to);
    }
}

/* Makes the last step and its change of the gradient, in slots 0 and 1, pair 1; every pair moves
   on by one, and the oldest pair's memory is slots 0 and 1. */
static void gan__lbfgs_push(gan_opt *opt)
{
    for (int i = 0; i < opt->count; i++) {
        gan_tensor **slot = opt->moments[i].slot;
        if (!slot)
            continue;
        gan_tensor *oldest_s = slot[opt->slots - 2];
        gan_tensor *oldest_y = slot[opt->slots - 1];
        memmove(slot + 2, slot, (size_t)(opt->slots - 2) * sizeof *slot);
        slot[0] = oldest_s;
        slot[1] = oldest_y;
    }
}

/* q = H q, q being slot 0, by the two loops. A pair that is not there yet is zeros. */
static void gan__lbfgs_two_loops(gan_opt *opt)
{
    const int q = GAN__LBFGS_STEP;
    int pairs = opt->slots / 2;
    double *rho = (double *)gan__alloc_zero(2 * (size_t)pairs * sizeof *rho);
    double *alpha = rho + pairs;
    for (int j = 1; j < pairs; j++) {
        double ys = gan__lbfgs_dot(opt, gan__lbfgs_y(j), gan__lbfgs_s(j));
        if (!(ys > 0))
            continue;
        rho[j] = 1 / ys;
        alpha[j] = gan__lbfgs_dot(opt, gan__lbfgs_s(j), q) * rho[j];
        gan__lbfgs_mix(opt, 1, q, -alpha[j], gan__lbfgs_y(j));
    }
    if (rho[1] > 0) {
        double yy = gan__lbfgs_dot(opt, gan__lbfgs_y(1), gan__lbfgs_y(1));
        gan__lbfgs_scale(opt, q, 1 / (rho[1] * yy));
    }
    for (int j = pairs - 1; j >= 1; j--) {
        if (!(rho[j] > 0))
            continue;
        double beta = gan__lbfgs_dot(opt, gan__lbfgs_y(j), q) * rho[j];
        gan__lbfgs_mix(opt, 1, q, alpha[j] - beta, gan__lbfgs_s(j));
    }
    GAN_FREE(rho);
}

/* One more step of each parameter is counted. Returns whether it is the first of all, and in
   *size |g|_1, the sum of the gradient's absolute values. */
static bool gan__lbfgs_count(gan_opt *opt, double *size)
{
    gan_model *model = opt->model;
    gan_mark mark = gan_here(model->g);
    bool first = true;
    *size = 0;
    for (int i = 0; i < model->count; i++) {
        if (!model->params[i].trainable)
            continue;
        *size += (double)gan_item(gan_sum(gan_abs(gan_param_grad(model->params[i].value))));
        first = gan__moments_of(opt, i)->steps++ == 0 && first;
    }
    gan_clear_to(model->g, mark);
    return first;
}

static void gan__lbfgs_step(gan_opt *opt)
{
    double size;
    bool first = gan__lbfgs_count(opt, &size);

    /* The last step's pair is kept if the loss is curved upwards along it. */
    gan__lbfgs_mix_gradient(opt, -1, GAN__LBFGS_GRADIENT, 1); /* y = g - last g */
    if (gan__lbfgs_dot(opt, GAN__LBFGS_STEP, GAN__LBFGS_GRADIENT) > 1e-10)
        gan__lbfgs_push(opt);

    gan__lbfgs_mix_gradient(opt, 0, GAN__LBFGS_GRADIENT, 1);
    gan__lbfgs_mix_gradient(opt, 0, GAN__LBFGS_STEP, -1);
    gan__lbfgs_two_loops(opt);
    gan__lbfgs_scale(opt, GAN__LBFGS_STEP, first ? opt->lr * GAN__MIN(1, 1 / size) : opt->lr);
    for (int i = 0; i < opt->count; i++) {
        gan_tensor *value = opt->model->params[i].value;
        if (opt->moments[i].slot)
            gan__mix_numbers(value->g, gan_count(value), 1, value->data, 1,
                             opt->moments[i].slot[GAN__LBFGS_STEP]->data);
    }
}

/* ---- a step */

/* The kernel's numbers for step number steps of parameter i. */
static gan_update gan__update_of(const gan_opt *opt, int i, double steps)
{
    gan_update p;
    p.count = gan_count(opt->model->params[i].value);
    p.lr = opt->lr;
    p.beta1 = opt->beta1;
    p.beta2 = opt->beta2;
    p.eps = (gan_real)1e-8;
    p.bias1 = (gan_real)(1 - pow(opt->beta1, steps));
    p.bias2 = (gan_real)(1 - pow(opt->beta2, steps));
    p.decay = opt->decay;
    return p;
}

static double gan__length(gan *g, const gan_real *data, const gan_real *from, size_t count);
static gan_real *gan__doctor_before(gan__param *param, const gan_real *gradient);

/* One step of parameter i with that gradient, by SGD, Adam or RMSprop. */
static void gan__step_param(gan_opt *opt, int i, const gan_real *gradient)
{
    static const int kernels[] = {GAN__K_sgd, GAN__K_adam, GAN__K_rmsprop};
    gan *g = opt->model->g;
    gan__param *param = &opt->model->params[i];
    gan__moments *moments = gan__moments_of(opt, i);
    gan_update p = gan__update_of(opt, i, ++moments->steps);
    gan_real *out[3] = {param->value->data, moments->slot[0]->data, NULL};
    if (opt->slots > 1)
        out[2] = moments->slot[1]->data;
    gan_real *before = g->look ? gan__doctor_before(param, gradient) : NULL;
    gan__run(g, kernels[opt->kind], &p, &gradient, out);
    gan__replay_value_add(g, opt, NULL, i);
    if (before) {
        param->change = gan__length(g, param->value->data, before, p.count);
        GAN_FREE(before);
    }
}

static bool gan__has_gradients(const gan_model *model)
{
    for (int i = 0; i < model->count; i++)
        if (gan__gradient_of(model->params[i].value))
            return true;
    return false;
}

GAN_API void gan_step(gan_opt *opt)
{
    gan__check_opt(opt, "gan_step");
    gan_model *model = opt->model;
    if (opt->kind == GAN__LBFGS && gan__has_gradients(model))
        gan__lbfgs_step(opt);
    for (int i = 0; i < model->count; i++) {
        const gan_real *gradient = gan__gradient_of(model->params[i].value);
        if (gradient && opt->kind != GAN__LBFGS)
            gan__step_param(opt, i, gradient);
        gan__drop_gradient(model, i);
    }
}

GAN_API void gan_minimize(gan_opt *opt, gan_tensor *loss)
{
    gan__check_opt(opt, "gan_minimize");
    gan__valid(loss, "gan_minimize");
    if (opt->model->frozen)
        gan__fail(loss->g, "gan_minimize",
                  "the model \"%s\" is frozen, its parameters are constants; gan_unfreeze takes "
                  "that back",
                  opt->model->name);
    gan_backward(loss, opt->model);
    if (loss->needs_grad_in != loss->g->differentiation)
        gan__fail(loss->g, "gan_minimize",
                  "the loss depends on no parameter of the model \"%s\": another model's "
                  "optimizer, or a gan_detach?",
                  opt->model->name);
    gan_step(opt);
}

/* ---- clipping, averages, copies */

/* x = op(x), a gan_map with its two numbers, of all gradients of model. */
static void gan__map_gradients(gan_model *model, gan_map_op op, gan_real a, gan_real b)
{
    for (int i = 0; i < model->count; i++) {
        gan_tensor *value = model->params[i].value;
        gan_real *gradient = gan__gradient_of(value);
        gan_map p = {op, gan_count(value), a, b};
        if (gradient)
            gan__run_1(model->g, GAN__K_map, &p, gradient, gradient);
    }
}

static void gan__check_limit(const char *function, const gan_model *model, gan_real limit)
{
    gan__check_model(model, function);
    if (!(limit >= 0))
        gan__fail(model->g, function, "model \"%s\", limit %g: it is 0 or more", model->name,
                  (double)limit);
}

GAN_API void gan_clip_grad_value(gan_model *model, gan_real max)
{
    gan__check_limit("gan_clip_grad_value", model, max);
    gan__map_gradients(model, GAN_CLAMP, -max, max);
}

GAN_API void gan_clip_weights(gan_model *model, gan_real c)
{
    gan__check_limit("gan_clip_weights", model, c);
    for (int i = 0; i < model->count; i++) {
        gan_tensor *value = model->params[i].value;
        gan_map p = {GAN_CLAMP, gan_count(value), -c, c};
        if (gan__trains(model, i))
            gan__run_1(model->g, GAN__K_map, &p, value->data, value->data);
    }
}

GAN_API gan_real gan_clip_grad_norm(gan_model *model, gan_real max)
{
    gan__check_limit("gan_clip_grad_norm", model, max);
    gan_mark mark = gan_here(model->g);
    double square = 0;
    for (int i = 0; i < model->count; i++)
        square += (double)gan_item(gan_sum(gan_square(gan_param_grad(model->params[i].value))));
    gan_clear_to(model->g, mark);
    double norm = sqrt(square);
    double scale = max / (norm + 1e-6);
    if (norm <= DBL_MAX && scale < 1)
        gan__map_gradients(model, GAN_AFFINE, (gan_real)scale, 0);
    return (gan_real)norm;
}

/* into = decay*into + (1-decay)*model; decay 0 copies. */
static void gan__average(const char *function, gan_model *into, gan_model *model, gan_real decay)
{
    if (!into || !model || into->g != model->g)
        gan__fail(into ? into->g : NULL, function, "a model is NULL or of another gan_open");
    for (int i = 0; i < model->count; i++) {
        gan__param *from = &model->params[i];
        gan_tensor *x = from->value;
        gan__param *to = gan__find(into, from->name);
        bool copy = !to || !from->trainable || decay == 0;
        if (!to)
            to = gan__param_new(into, from->name, gan__shape_of(from->rank, GAN__SHAPE(x)),
                                from->trainable, from->start);
        if (!gan__same_shape(to->value, x))
            gan__fail(into->g, function,
                      "\"%s\" is " GAN__DIMS " in one model and " GAN__DIMS " in the other",
                      to->name, GAN__SHAPE(to->value), GAN__SHAPE(x));
        if (copy)
            gan__copy_numbers(into->g, gan_count(x), x->data, to->value->data);
        else
            gan__mix_numbers(into->g, gan_count(x), decay, to->value->data, 1 - decay, x->data);
    }
}

GAN_API void gan_ema(gan_model *into, gan_model *model, gan_real decay)
{
    gan__average("gan_ema", into, model, decay);
}

GAN_API void gan_copy_params(gan_model *into, gan_model *from)
{
    gan__average("gan_copy_params", into, from, 0);
}

GAN_API gan_real gan_ema_decay(int step, int batch, gan_real images, gan_real rampup)
{
    double half_life = (double)images;
    double seen = (double)step * batch;
    if (rampup > 0)
        half_life = GAN__MIN(half_life, (double)rampup * seen);
    return half_life > 0 ? (gan_real)pow(0.5, batch / half_life) : 0;
}

/* ===========================================================================================
   >>data (implementation)
   =========================================================================================== */
/* ---- reading files: regular ones only, for a device or a pipe may never end */

typedef enum {
    GAN__REGULAR,
    GAN__MISSING,
    GAN__IRREGULAR, /* a folder, a device or a pipe */
    GAN__UNREADABLE /* errno says why */
} gan__file_kind;

static const char gan__irregular[] = "it is a folder, a device or a pipe, where a file is wanted";

/* What path is. Of a regular file also its size and its permissions; mode may be NULL. */
static gan__file_kind gan__examine_file(const char *path, size_t *size, long *mode)
{
#if defined(GAN__POSIX) || defined(_WIN32)
#ifdef _WIN32
    struct __stat64 about;
    int missing = _stat64(path, &about);
    bool regular = !missing && (about.st_mode & _S_IFMT) == _S_IFREG;
#else
    struct stat about;
    int missing = stat(path, &about);
    bool regular = !missing && S_ISREG(about.st_mode);
#endif
    if (missing)
        return errno == ENOENT ? GAN__MISSING : GAN__UNREADABLE;
    if (!regular)
        return GAN__IRREGULAR;
    if ((double)about.st_size > (double)(SIZE_MAX / 2)) {
        errno = ENOMEM;
        return GAN__UNREADABLE;
    }
    *size = (size_t)about.st_size;
    if (mode)
        *mode = (long)(about.st_mode & 07777); /* the bits that chmod sets */
    return GAN__REGULAR;
#else
    FILE *file = fopen(path, "rb");
    long end = file && fseek(file, 0, SEEK_END) == 0 ? ftell(file) : -1;
    if (file)
        fclose(file);
    *size = (size_t)GAN__MAX(end, 0);
    (void)mode;
    return !file ? GAN__MISSING : end < 0 ? GAN__IRREGULAR : GAN__REGULAR;
#endif
}

/* A regular file, open for reading, and its size. NULL: then gan_error() says why. */
static FILE *gan__open_file(const char *path, size_t *size)
{
    gan__file_kind kind = gan__examine_file(path, size, NULL);
    FILE *file = kind == GAN__REGULAR ? fopen(path, "rb") : NULL;
    if (!file)
        gan__refuse("%s: %s", path, kind == GAN__IRREGULAR ? gan__irregular : strerror(errno));
    return file;
}

/* The whole of a file, or NULL: then gan_error() says why. */
static unsigned char *gan__read_file(const char *path, size_t *size)
{
    FILE *file = gan__open_file(path, size);
    if (!file)
        return NULL;
    unsigned char *data = (unsigned char *)gan__try_alloc(*size);
    if (!data)
        gan__refuse("%s: no memory for its %.0f bytes", path, (double)*size);
    else if (fread(data, 1, *size, file) != *size) {
        gan__refuse("%s: it cannot be read", path);
        GAN_FREE(data);
        data = NULL;
    }
    fclose(file);
    return data;
}

static uint32_t gan__from_little_endian(const unsigned char *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint32_t gan__from_big_endian(const unsigned char *p)
{
    return p[3] | (uint32_t)p[2] << 8 | (uint32_t)p[1] << 16 | (uint32_t)p[0] << 24;
}

#ifdef STBI_INCLUDE_STB_IMAGE_H
/* The check sum of gzip, CRC-32 (RFC 1952), four bits at a time. */
static uint32_t gan__crc(const unsigned char *data, size_t length)
{
    uint32_t table[16];
    uint32_t crc = 0xFFFFFFFFu;
    for (uint32_t i = 0; i < 16; i++) {
        table[i] = i;
        for (int bit = 0; bit < 4; bit++)
            table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0xEDB88320u : 0);
    }
    for (size_t i = 0; i < length; i++) {
        crc ^= data[i];
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return ~crc;
}

/* Where the compressed bytes of a gzip file of n bytes begin, or n. The header has 10 bytes, of
   which the fourth says which fields follow: 4 an extra one with its length, 8 a name, 16 a
   comment, both texts that end with 0, 2 a check sum of two bytes. */
static size_t gan__gzip_header(const unsigned char *zipped, size_t n)
{
    size_t at = 10;
    if (n < 18 || zipped[2] != 8)
        return n;
    int flags = zipped[3];
    if (flags & 4)
        at += n > at + 2 ? 2 + (size_t)(zipped[at] | zipped[at + 1] << 8) : n;
    for (int text = 8; text <= 16; text *= 2)
        while ((flags & text) && at < n && zipped[at++] != 0) {}
    if (flags & 2)
        at += 2;
    return GAN__MIN(at, n);
}

/* Replaces a gzip file by its contents, which stb_image decompresses. At its end stand the check
   sum and the length; stb_image alone would take a truncated file for a whole one. */
static unsigned char *gan__gunzip(const char *path, unsigned char *zipped, size_t *size)
{
    size_t n = *size;
    size_t at = gan__gzip_header(zipped, n);
    int length = 0;
    unsigned char *data = NULL, *copy = NULL;
    if (at + 8 <= n && n < INT32_MAX)
        data = (unsigned char *)stbi_zlib_decode_noheader_malloc((const char *)zipped + at,
                                                                 (int)(n - at), &length);
    bool whole = data && gan__from_little_endian(zipped + n - 4) == (uint32_t)length &&
                 gan__from_little_endian(zipped + n - 8) == gan__crc(data, (size_t)length);
    if (whole)
        copy = (unsigned char *)gan__try_alloc((size_t)length); /* not of stb's allocator */
    if (copy)
        memcpy(copy, data, (size_t)length);
    else
        gan__refuse("%s: %s", path,
                    whole ? "no memory for what it unpacks to"
                          : "the gzip file is truncated or damaged, or unpacks to 2 GiB and more");
    stbi_image_free(data);
    GAN_FREE(zipped);
    *size = (size_t)length;
    return copy;
}
#endif

static bool gan__is_gzip(const unsigned char *data, size_t size)
{
    return size >= 3 && data[0] == 0x1f && data[1] == 0x8b;
}

/* The whole of a file, unpacked if it is gzip's. */
static unsigned char *gan__read_unpacked(const char *path, size_t *bytes)
{
    unsigned char *data = gan__read_file(path, bytes);
    if (!data || !gan__is_gzip(data, *bytes))
        return data;
#ifdef STBI_INCLUDE_STB_IMAGE_H
    return gan__gunzip(path, data, bytes);
#else
    gan__refuse("%s: to read a .gz file include stb_image.h before gan.h, or unpack it with gunzip",
                path);
    GAN_FREE(data);
    return NULL;
#endif
}

/* ---- IDX, the format of MNIST, of bytes: two zeros, 8 for bytes, the number of dimensions, then
   each size in 32 bits big-endian, then the numbers. 60,000 images of 28x28 and their labels:

       00 00 08 03  00 00 ea 60  00 00 00 1c  00 00 00 1c   60000*28*28 bytes, 0 black 255 white
       00 00 08 01  00 00 ea 60                             60000 bytes, a label each            */

enum { GAN__IDX_HEADER = 20 }; /* the longest: four dimensions */

/* Reads an IDX file's header into size: (N), or (N,H,W) as (N,1,H,W), or (N,C,H,W). data holds the
   first 20 bytes of the file or more (all of them, if it is shorter), bytes is the file's whole
   length. False, and gan_error() says why: it is no IDX file, or its length does not fit. */
static bool gan__idx_header(const char *path, const unsigned char *data, size_t bytes, bool labels,
                            int size[4])
{
    bool begins_right = bytes >= 4 && data[0] == 0 && data[1] == 0 && data[2] == 8;
    int dims = begins_right ? data[3] : 0;
    double numbers = 1;       /* all sizes multiplied; in double this cannot overflow */
    double image_numbers = 1; /* all but the first */
    if (labels ? dims != 1 : dims != 3 && dims != 4)
        return gan__refuse("%s: not an IDX file of %s: it begins with %02x %02x %02x %02x", path,
                           labels ? "labels (00 00 08 01)" : "images (00 00 08 03 or 04)",
                           bytes > 0 ? data[0] : 0, bytes > 1 ? data[1] : 0,
                           bytes > 2 ? data[2] : 0, bytes > 3 ? data[3] : 0);
    size_t header = 4 + 4 * (size_t)dims;
    for (int d = 0; d < 4; d++)
        size[d] = 1;
    for (int d = 0; d < dims && bytes >= header; d++) {
        uint32_t value = gan__from_big_endian(data + 4 + 4 * d);
        bool after_c = dims == 3 && d > 0; /* H or W of (N,H,W): a C of 1 comes before them */
        size[after_c ? d + 1 : d] = (int)GAN__MIN(value, INT32_MAX);
        numbers *= value;
        image_numbers *= d > 0 ? value : 1;
        if (value > INT32_MAX || image_numbers > INT32_MAX)
            return gan__refuse("%s: its sizes are too large: 2^31 and more", path);
    }
    if (bytes < header || numbers < 1 || numbers != (double)(bytes - header))
        return gan__refuse("%s: its header promises %.0f bytes of data, there are %.0f", path,
                           bytes < header ? 4.0 * dims : numbers, (double)bytes - (double)header);
    return true;
}

/* The numbers of an IDX file, gzip or not, in new memory; NULL, and gan_error() says why. A header
   that does not fit the file's length is refused before the rest is read; of a gzip file the
   length is not known so early. */
static unsigned char *gan__read_idx(const char *path, bool labels, int size[4])
{
    unsigned char first[GAN__IDX_HEADER] = {0};
    size_t bytes = 0;
    FILE *file = gan__open_file(path, &bytes);
    if (!file)
        return NULL;
    size_t begin = fread(first, 1, sizeof first, file);
    fclose(file);
    if (begin < GAN__MIN(bytes, sizeof first)) {
        gan__refuse("%s: it cannot be read", path);
        return NULL;
    }
    if (!gan__is_gzip(first, begin) && !gan__idx_header(path, first, bytes, labels, size))
        return NULL;
    unsigned char *data = gan__read_unpacked(path, &bytes);
    if (data && !gan__idx_header(path, data, bytes, labels, size)) {
        GAN_FREE(data);
        data = NULL;
    }
    size_t header = data ? 4 + 4 * (size_t)data[3] : 0;
    return data ? (unsigned char *)memmove(data, data + header, bytes - header) : NULL;
}

/* ---- a data set: bytes in the host's memory, from which gan_batch makes numbers

   The pictures of a folder are decoded when they are wanted, by two threads: one that decodes ahead
   in the order of the epoch, and the program's, which in gan_batch decodes a picture that it finds
   WAITING, and waits for one that it finds DECODING. So each picture has a state:

       order of the epoch      17   4  29   8   0  12  33   6  ...
       state                    G   G   G   B   G   D   W   W        W waiting  D decoding
                                        ^           ^                G good     B broken
                                    gan_batch   the thread that decodes ahead

   A mutex guards the states, the pixels belong to the thread that set DECODING, and from GOOD on
   nobody writes them. */
enum { GAN__WAITING, GAN__DECODING, GAN__GOOD, GAN__BROKEN };

typedef struct {
    char *path;
    int state; /* GAN__WAITING .. */
} gan__picture;

struct gan_data {
    gan *g;
    int count, c, h, w;
    unsigned char *pixels, *labels; /* labels: NULL if there are none */
    uint32_t *order;                /* of the images in epoch: a permutation of 0 .. count-1 */
    uint64_t epoch;
    uint64_t drawn;  /* images given out since the beginning: all that a resumed run needs */
    uint64_t stream; /* of random numbers, for the order */
    char **classes;  /* their names, or NULL */
    int class_count;
    int style;              /* of the built-in sets: a gan_shape_style, or -1 for digits */
    gan__picture *pictures; /* the files that fill pixels, or NULL */
    int left_out;           /* files of the folder that are no pictures and not counted */
    int skipped;            /* those, and pictures that turned out broken when decoded */
    gan_data *pair[2];      /* the two sets that gan_data_pair joined, or NULL */
    /* (COUNT,C,H,W) and (COUNT,1,1,1), on a device with memory of its own, or NULL */
    gan_tensor *on_device, *labels_on_device;
    bool lazy;     /* has pictures, which are decoded when wanted, or a set of its pair has */
    bool threaded; /* a thread decodes pictures ahead, from order[start] on */
    bool stop;     /* tells that thread to end */
    int start;
#ifdef GAN__PTHREAD
    pthread_t thread;
#endif
    gan_data *next;
};

/* A pair shares its classes with its first set, and leaves them to that. */
static void gan__data_free(gan_data *data)
{
    bool folder = data->lazy && !data->pair[0];
    for (int i = 0; folder && i < data->count; i++)
        GAN_FREE(data->pictures[i].path);
    for (int i = 0; folder && i < data->class_count; i++)
        GAN_FREE(data->classes[i]);
    if (folder)
        GAN_FREE(data->classes);
    gan__persistent_tensor_free(data->on_device);
    gan__persistent_tensor_free(data->labels_on_device);
    GAN_FREE(data->pictures);
    GAN_FREE(data->pixels);
    GAN_FREE(data->labels);
    GAN_FREE(data->order);
    GAN_FREE(data);
}

static bool gan__ensure_decoded(gan_data *data, int i);

/* Makes data one of g's. NULL, and data is freed, if there is a problem or none of its images is
   good. */
static gan_data *gan__data_join(gan *g, gan_data *data, const char *name, const char *problem)
{
    gan_data **last = &g->datas;
    int i = 0;
    if (g->plan)
        gan__fail(g, name, "data is made before gan_plan and gan_capture");
    while (!problem && i < data->count && !gan__ensure_decoded(data, i))
        i++;
    if (!problem && i == data->count)
        problem = "no picture (.png .jpg ..) that can be read";
    if (!problem) {
        data->order = (uint32_t *)gan__try_alloc((size_t)data->count * sizeof *data->order);
        problem = data->order ? NULL : "no memory for it";
    }
    if (problem) {
        gan__refuse("%s: %s", name, problem);
        gan__data_free(data);
        return NULL;
    }
    data->g = g;
    data->epoch = UINT64_MAX; /* no order has been drawn */
    data->stream = GAN__STREAM_SHUFFLE;
    while (*last) {
        last = &(*last)->next;
        data->stream += 16; /* a stream of its own for each data set */
    }
    return *last = data;
}

/* A set of those pixels and labels, which it takes over, or frees where it is NULL. */
static gan_data *gan__data_new(gan *g, const char *name, int count, int c, int h, int w,
                               unsigned char *pixels, unsigned char *labels)
{
    gan_data *data = (gan_data *)gan__try_alloc(sizeof *data);
    if (!data) {
        gan__refuse("%s: no memory for it", name);
        GAN_FREE(pixels);
        GAN_FREE(labels);
        return NULL;
    }
    memset(data, 0, sizeof *data);
    data->count = count;
    data->c = c;
    data->h = h;
    data->w = w;
    data->pixels = pixels;
    data->labels = labels;
    return gan__data_join(g, data, name, NULL);
}

GAN_API gan_data *gan_data_idx(gan *g, const char *images, const char *labels_path)
{
    int size[4], label_size[4] = {0, 0, 0, 0};
    if (!g || !images)
        gan__fail(g, "gan_data_idx", "the device or the path is NULL");
    unsigned char *labels = NULL;
    unsigned char *pixels = gan__read_idx(images, false, size);
    if (pixels && labels_path)
        labels = gan__read_idx(labels_path, true, label_size);
    if (labels && label_size[0] != size[0]) {
        gan__refuse("%s has %d labels, %s has %d images", labels_path, label_size[0], images,
                    size[0]);
        GAN_FREE(labels);
        labels = NULL;
    }
    if (!pixels || (labels_path && !labels)) {
        GAN_FREE(pixels);
        return NULL;
    }
    return gan__data_new(g, images, size[0], size[1], size[2], size[3], pixels, labels);
}

enum { GAN__CIFAR_IMAGE = 3 * 32 * 32, GAN__CIFAR_RECORD = GAN__CIFAR_IMAGE + 1 };

/* A file of records behind those of all, in new memory; all is freed. NULL: gan_error(). */
static unsigned char *gan__cifar_append(unsigned char *all, size_t *total, const char *path)
{
    size_t bytes = 0, at = 0;
    unsigned char *file = path ? gan__read_unpacked(path, &bytes) : NULL;
    unsigned char *joined = NULL;
    while (file && at + GAN__CIFAR_RECORD <= bytes && file[at] <= 9)
        at += GAN__CIFAR_RECORD;
    if (file && (bytes == 0 || at != bytes))
        gan__refuse("%s: record %.0f is cut off or has no label 0 to 9 before its 3072 bytes", path,
                    (double)(at / GAN__CIFAR_RECORD));
    else if (file) {
        joined = (unsigned char *)gan__try_alloc(*total + bytes);
        if (!joined)
            gan__refuse("%s: no memory for its images", path);
    }
    if (joined) {
        if (*total)
            memcpy(joined, all, *total);
        memcpy(joined + *total, file, bytes);
        *total += bytes;
    }
    GAN_FREE(all);
    GAN_FREE(file);
    return joined;
}

GAN_API gan_data *gan_data_cifar10(gan *g, const char *const *paths, int count)
{
    static const char *const names[10] = {"airplane", "automobile", "bird",  "cat",  "deer",
                                          "dog",      "frog",       "horse", "ship", "truck"};
    unsigned char *all = NULL;
    size_t total = 0;
    if (!g || !paths || count < 1)
        gan__fail(g, "gan_data_cifar10",
                  "the device or the paths are NULL, or there are %d of them", count);
    for (int i = 0; i < count; i++)
        if (!paths[i])
            gan__fail(g, "gan_data_cifar10", "path %d is NULL", i);
    for (int i = 0; i < count; i++) {
        all = gan__cifar_append(all, &total, paths[i]);
        if (!all)
            return NULL;
    }
    size_t records = total / GAN__CIFAR_RECORD;
    unsigned char *labels = (unsigned char *)gan__try_alloc(records);
    if (!labels || records > INT32_MAX) {
        gan__refuse("%s: no memory for its labels", paths[0]);
        GAN_FREE(all);
        GAN_FREE(labels);
        return NULL;
    }
    for (size_t i = 0; i < records; i++) {
        labels[i] = all[i * GAN__CIFAR_RECORD];
        memmove(all + i * GAN__CIFAR_IMAGE, all + i * GAN__CIFAR_RECORD + 1, GAN__CIFAR_IMAGE);
    }
    gan_data *data = gan__data_new(g, paths[0], (int)records, 3, 32, 32, all, labels);
    if (data) {
        data->classes = (char **)names;
        data->class_count = 10;
    }
    return data;
}

/* ---- built-in digits, in place of MNIST where that is not at hand. An image is a function of
   (seed, index), in five steps:

       gan__digit_strokes    a skeleton of a few points
       gan__place_knots      each moved a little
       gan__join_knots       a smooth curve through them
       gan__fit_to_image     slanted, scaled and centred
       gan__draw_segment     pixels, segment by segment */

/* Ten classes, four ways people write each. A point is two digits, x then y, on a 10x10 grid with
   y pointing down; the character after it says how the pen goes on: ' ' smoothly, '^' round a
   sharp corner, '/' lifted. */
static const char *const gan__digit_strokes[10][4] = {
    {"60 31 04 17 49 87 94 71 40", "50 12 05 18 49 87 94 82 50", "71 40 12 06 29 68 94 82 50 31",
     "30 12 05 27 59 88 95 82 60 20"},
    {"50 54 49", "60 55 39", "23 50^49", "23 50^59/19 99"},
    {"12 40 71 73 46 08^59 99", "12 40 71 73 46 18 07 27 58 98", "03 20 61 63 36 08^49 99",
     "11 40 71 74 38 19 07 26 67 99"},
    {"11 40 81 73 44^75 87 59 18", "01 40 72 54 34 54 86 69 29 07", "10 80^44^85 87 59 18",
     "02 50 81 54^65 77 49 08"},
    {"20 05^95/80 69", "60 06^96/60 59", "10 13 25 65 92/90 86 79", "30 14 05 35 84/80 75 69"},
    {"80 20^14^54 86 68 39 08", "20 14^54 86 69 39 08/20 90", "90 30 14 44 76 68 39 08",
     "90 20^14 54 85 78 39 07"},
    {"70 31 06 28 59 87 85 55 17", "50 13 07 39 78 85 55 17", "70 43 16 28 59 77 75 46 18",
     "81 40 12 06 29 69 87 65 35 17"},
    {"00 90^49", "00 90^49/25 85", "02 00^90^65 39", "02 20 50 90^64 49"},
    {"82 50 12 45 87 59 17 44 81", "72 50 22 34 66 68 39 27 55 82 70",
     "50 12 44 82 50/44 17 49 87 44", "80 40 12 54 87 59 18 45 82 90"},
    {"72 40 12 25 54 81^69", "82 50 12 25 65 81^85 69 28", "71 30 13 35 73 80^75 59",
     "81 50 22 14 35 63 81^59"},
};

/* Successive random numbers for one image. Each Philox block holds four, and an image owns 256,
   many more than a digit uses. */
typedef struct {
    uint64_t seed, stream, block;
    uint32_t word[4];
    int left;
} gan__draws;

static float gan__uniform(gan__draws *d, float lo, float hi)
{
    if (d->left == 0) {
        gan__philox(d->seed, d->stream, d->block++, d->word);
        d->left = 4;
    }
    return lo + (hi - lo) * (float)(d->word[--d->left] >> 8) * (1.0f / 16777216.0f);
}

/* Between -size and size, small numbers more often: the sum of two uniform ones, whose density is
   a triangle. */
static float gan__triangular(gan__draws *d, float size)
{
    float u = gan__uniform(d, -0.5f, 0.5f);
    return size * (u + gan__uniform(d, -0.5f, 0.5f));
}

/* A point on the pen's path: where it is, half the width of the stroke there, and how the pen goes
   on (' ', '^', '/' as above, '\0' at the end). */
typedef struct {
    float x, y, r;
    char join;
} gan__pen_point;

enum { GAN__STEPS = 8, GAN__MAX_KNOTS = 16, GAN__MAX_DOTS = GAN__MAX_KNOTS * GAN__STEPS };

/* The points of strokes, each moved a little; returns how many there are. */
static int gan__place_knots(const char *strokes, gan__draws *draws, gan__pen_point *knots)
{
    float unsteady = gan__uniform(draws, 0.2f, 0.9f); /* some writers are neater */
    for (int n = 0;; n++, strokes += 3) {
        knots[n].x = (float)(strokes[0] - '0') + gan__triangular(draws, unsteady);
        knots[n].y = (float)(strokes[1] - '0') + gan__triangular(draws, unsteady);
        knots[n].r = 1.0f + gan__triangular(draws, 0.3f);
        knots[n].join = strokes[2];
        if (strokes[2] == '\0')
            return n + 1;
    }
}

/* Catmull-Rom: the cubic from b to c with the slopes (c - a)/2 in b and (d - b)/2 in c. */
static float gan__spline(float a, float b, float c, float d, float t)
{
    return b + 0.5f * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)));
}

/* A curve through the knots, as many points close together; returns how many. */
static int gan__join_knots(const gan__pen_point *knots, int n, gan__pen_point *dots)
{
    int count = 1;
    dots[0] = knots[0];
    for (int i = 0; i + 1 < n; i++) {
        const gan__pen_point *b = &knots[i], *c = b + 1;
        /* at a corner or a stroke's end the neighbour does not count */
        const gan__pen_point *a = i > 0 && b->join == ' ' && b[-1].join != '/' ? b - 1 : b;
        const gan__pen_point *d = c->join == ' ' ? c + 1 : c;
        if (b->join != '/')
            for (int k = 1; k < GAN__STEPS; k++, count++) {
                float t = (float)k / GAN__STEPS;
                dots[count].x = gan__spline(a->x, b->x, c->x, d->x, t);
                dots[count].y = gan__spline(a->y, b->y, c->y, d->y, t);
                dots[count].r = gan__spline(a->r, b->r, c->r, d->r, t);
                dots[count].join = ' ';
            }
        dots[count++] = *c;
    }
    return count;
}

/* Gives the writing a slant, a tilt and proportions of its own, then does what the makers of
   MNIST do: scales it into a 20x20 box and puts its centre of mass at the centre of the 28x28
   paper. */
static void gan__fit_to_image(gan__pen_point *dots, int count, gan__draws *draws)
{
    float slant = 0.15f + gan__triangular(draws, 0.5f);
    float tilt = gan__triangular(draws, 0.22f);
    float width = gan__uniform(draws, 0.55f, 1.0f);
    float taper = gan__triangular(draws, 0.06f);
    float waist = gan__triangular(draws, 0.06f);
    float nib = gan__uniform(draws, 0.6f, 1.2f);
    float x0 = 1e9f;
    float y0 = 1e9f;
    float x1 = -1e9f;
    float y1 = -1e9f;
    float scale;
    float mx = 0;
    float my = 0;
    float mass = 0;
    nib += gan__uniform(draws, 0.0f, 0.7f); /* half its width, in pixels */
    for (int i = 0; i < count; i++) {
        float y = dots[i].y, x = dots[i].x - 4.5f;
        x *= width * (1 + taper * (y - 4.5f)); /* narrower above or below */
        y += waist * y * (9 - y);              /* high- or low-waisted */
        x -= slant * y;
        dots[i].x = x * cosf(tilt) - y * sinf(tilt);
        dots[i].y = x * sinf(tilt) + y * cosf(tilt);
        x0 = fminf(x0, dots[i].x);
        x1 = fmaxf(x1, dots[i].x);
        y0 = fminf(y0, dots[i].y);
        y1 = fmaxf(y1, dots[i].y);
    }
    scale = (gan__uniform(draws, 18.4f, 19.4f) - 2 * nib) / fmaxf(x1 - x0, y1 - y0);
    for (int i = 0; i < count; i++) {
        dots[i].x *= scale;
        dots[i].y *= scale;
        dots[i].r *= nib;
        if (i > 0 && dots[i - 1].join != '/') { /* a segment weighs length x width */
            float dx = dots[i].x - dots[i - 1].x;
            float dy = dots[i].y - dots[i - 1].y;
            float ink = sqrtf(dx * dx + dy * dy) * dots[i].r;
            mx += ink * (dots[i].x - 0.5f * dx);
            my += ink * (dots[i].y - 0.5f * dy);
            mass += ink;
        }
    }
    mx = 14 - mx / mass + gan__uniform(draws, -0.5f, 0.5f); /* MNIST moves by whole pixels, */
    my = 14 - my / mass + gan__uniform(draws, -0.5f, 0.5f); /* so it is off by up to a half */
    for (int i = 0; i < count; i++) {
        dots[i].x += mx;
        dots[i].y += my;
    }
}

/* Draws the stroke from a to b. How far a pixel lies inside the stroke's edge makes it light or
   dark, over about one pixel; taking the darker of old and new keeps joints and crossings from
   adding up. */
static void gan__draw_segment(const gan__pen_point *a, const gan__pen_point *b,
                              unsigned char *image)
{
    float dx = b->x - a->x;
    float dy = b->y - a->y;
    float len2 = dx * dx + dy * dy + 1e-9f;
    float reach = fmaxf(a->r, b->r) + 1;
    int x0 = (int)fmaxf(fminf(a->x, b->x) - reach, 0);
    int x1 = (int)fminf(fmaxf(a->x, b->x) + reach, 27);
    int y0 = (int)fmaxf(fminf(a->y, b->y) - reach, 0);
    int y1 = (int)fminf(fmaxf(a->y, b->y) + reach, 27);
    for (int y = y0; y <= y1; y++)
        for (int x = x0; x <= x1; x++) {
            float px = (float)x + 0.5f - a->x, py = (float)y + 0.5f - a->y;
            float t = fminf(fmaxf((px * dx + py * dy) / len2, 0),
                            1); /* nearest point, 0 = a, 1 = b */
            float ex = px - t * dx;
            float ey = py - t * dy;
            float inside = a->r + t * (b->r - a->r) - sqrtf(ex * ex + ey * ey);
            int ink = (int)(255 * fminf(fmaxf(0.5f + inside / 1.1f, 0), 1));
            if (ink > image[28 * y + x])
                image[28 * y + x] = (unsigned char)ink;
        }
}

/* Draws digit index of the endless set seed: 28x28 bytes, 0 paper, 255 ink. The label and the
   way of writing it are all equally likely. */
static void gan__draw_digit(uint64_t seed, uint32_t index, unsigned char *image,
                            unsigned char *label)
{
    gan__pen_point knots[GAN__MAX_KNOTS], dots[GAN__MAX_DOTS];
    gan__draws draws = {seed, GAN__STREAM_DIGITS, (uint64_t)index << 8, {0, 0, 0, 0}, 0};
    *label = (unsigned char)gan__uniform(&draws, 0, 10);
    int style = (int)gan__uniform(&draws, 0, 4);
    int count = gan__place_knots(gan__digit_strokes[*label][style], &draws, knots);
    count = gan__join_knots(knots, count, dots);
    gan__fit_to_image(dots, count, &draws);
    memset(image, 0, 28 * 28);
    for (int i = 1; i < count; i++)
        if (dots[i - 1].join != '/')
            gan__draw_segment(&dots[i - 1], &dots[i], image);
}

/* ---- built-in shapes: a pixel's colour follows from how far it lies from the outline, so edges
   are smooth at any size */

/* How far (x,y) lies outside a shape of radius r around (0,0), in pixels; below 0 inside. A
   polygon of n points is folded into half of one point, between the tip at angle 0 and, at angle
   pi/n, a star's hollow or the middle of an edge: one line is left. */
static float gan__shape_distance(int kind, float r, float turn, float x, float y)
{
    static const int points[4] = {1, 4, 3, 5};
    float radius = sqrtf(x * x + y * y);
    float half = 3.14159265f / (float)points[kind];
    float angle = atan2f(y, x) - turn;
    if (kind == 0)
        return radius - 0.85f * r;
    angle = fabsf(angle - 2 * half * floorf(angle / (2 * half) + 0.5f));
    float inner = kind == 3 ? 0.45f * r : r * cosf(half);
    float ex = inner * cosf(half) - r;
    float ey = inner * sinf(half);
    float px = radius * cosf(angle) - r;
    float py = radius * sinf(angle);
    float t = fminf(fmaxf((px * ex + py * ey) / (ex * ex + ey * ey), 0), 1);
    float distance = sqrtf((px - t * ex) * (px - t * ex) + (py - t * ey) * (py - t * ey));
    return ex * py > ey * px ? -distance : distance;
}

static float gan__coverage(float outside)
{
    return fminf(fmaxf(0.5f - outside, 0), 1);
} /* how much of a pixel is inside */

static float gan__blend(float under, float colour, float cover)
{
    return under + (colour - under) * cover;
}

static float gan__band_distance(float x, float period)
{
    return fabsf(x - period * (floorf(x / period) + 0.5f));
} /* from a middle */

static void gan__draw_shape(uint64_t seed, uint32_t index, int size, int style,
                            unsigned char *image, unsigned char *label)
{
    gan__draws draws = {seed, GAN__STREAM_SHAPES, (uint64_t)index << 8, {0, 0, 0, 0}, 0};
    int kind = *label = (unsigned char)gan__uniform(&draws, 0, 4);
    float side = (float)size;
    float pen = fmaxf(side / 50, 0.6f);
    float period = fmaxf(side / 8, 3);
    float r = side * gan__uniform(&draws, 0.24f, 0.4f);
    float cx = gan__uniform(&draws, r + pen, side - r - pen);
    float cy = gan__uniform(&draws, r + pen, side - r - pen);
    float turn = gan__uniform(&draws, 0, 6.2831853f);
    float hue = gan__uniform(&draws, 0, 6.2831853f);
    float other = gan__uniform(&draws, 0, 6.2831853f);
    for (int i = 0; i < size * size; i++) {
        float x = (float)(i % size) + 0.5f;
        float y = (float)(i / size) + 0.5f;
        float d = gan__shape_distance(kind, r, turn, x - cx, y - cy);
        float u = gan__band_distance(x, period);
        float v = gan__band_distance(y, period);
        float dot = gan__coverage(sqrtf(u * u + v * v) - period / 6);
        float line = gan__coverage(fabsf(d) - pen);
        float stripe = gan__coverage(gan__band_distance((x + y) * 0.7071068f, period) - period / 4);
        for (int c = 0; c < 3; c++) {
            float ink = 0.5f + 0.45f * cosf(hue - 2.0943951f * (float)c);
            float paper = 0.5f + 0.5f * cosf(other - 2.0943951f * (float)c);
            float background = gan__blend(0.08f + 0.12f * paper, 0.3f + 0.2f * paper, dot);
            float stripes = gan__blend(0.35f * ink, ink, stripe);
            float level = style == GAN_SHAPES_EDGES ? 1 - line
                        : style == GAN_SHAPES_FILLED
                            ? gan__blend(0.86f + 0.14f * paper, ink, gan__coverage(d))
                            : gan__blend(gan__blend(background, stripes, gan__coverage(d)),
                                         0.75f + 0.25f * ink, line);
            image[c * size * size + i] = (unsigned char)(255 * level + 0.5f);
        }
    }
}

/* Draws image i of a built-in set, for gan__parallel. */
static void gan__draw_body(void *argument, size_t begin, size_t end, int thread)
{
    gan_data *data = (gan_data *)argument;
    (void)thread;
    for (size_t i = begin; i < end; i++) {
        unsigned char *image = data->pixels + i * data->c * data->h * data->w;
        if (data->style < 0)
            gan__draw_digit(data->g->seed, (uint32_t)i, image, &data->labels[i]);
        else
            gan__draw_shape(data->g->seed, (uint32_t)i, data->h, data->style, image,
                            &data->labels[i]);
    }
}

/* style: a gan_shape_style, or -1 for digits */
static gan_data *gan__built_in(gan *g, const char *name, int count, int c, int size, int style)
{
    static const char *const names[4] = {"circle", "square", "triangle", "star"};
    double bytes = (double)count * c * size * size;
    bool fits = bytes < (double)(SIZE_MAX / 2);
    unsigned char *pixels = fits ? (unsigned char *)gan__try_alloc((size_t)bytes) : NULL;
    unsigned char *labels = (unsigned char *)gan__try_alloc((size_t)count);
    if (!pixels || !labels) {
        gan__refuse("%s: no memory for %d images", name, count);
        GAN_FREE(pixels);
        GAN_FREE(labels);
        return NULL;
    }
    gan_data *data = gan__data_new(g, name, count, c, size, size, pixels, labels);
    if (!data)
        return NULL;
    data->classes = style < 0 ? NULL : (char **)names;
    data->class_count = style < 0 ? 0 : 4;
    data->style = style;
    gan__parallel((size_t)count, 64, gan__draw_body, data);
    return data;
}

GAN_API gan_data *gan_data_digits(gan *g, int count)
{
    if (!g || count < 1)
        gan__fail(g, "gan_data_digits", "the device is NULL or %d digits are asked for", count);
    return gan__built_in(g, "gan_data_digits", count, 1, 28, -1);
}

GAN_API gan_data *gan_data_shapes(gan *g, int count, int size, gan_shape_style style)
{
    if (!g || count < 1 || size < 8 || size > 4096 || (int)style < GAN_SHAPES_FILLED ||
        (int)style > GAN_SHAPES_STRIPED)
        gan__fail(g, "gan_data_shapes",
                  "no device, or %d (1 or more) of size %d (8 to 4096), style %d (0 to 2)", count,
                  size, (int)style);
    return gan__built_in(g, "gan_data_shapes", count, 3, size, (int)style);
}

/* ---- a folder of pictures: listed at once, each decoded when it is wanted, or before that by a
   thread */
#ifdef GAN__PTHREAD
static pthread_mutex_t gan__mutex =
    PTHREAD_MUTEX_INITIALIZER; /* of all pictures' states, not held while decoding */
static pthread_cond_t gan__decoded = PTHREAD_COND_INITIALIZER;

static void gan__lock(void)
{
    pthread_mutex_lock(&gan__mutex);
}

static void gan__unlock(void)
{
    pthread_cond_broadcast(&gan__decoded);
    pthread_mutex_unlock(&gan__mutex);
}
#else
static void gan__lock(void)
{
}

static void gan__unlock(void)
{
}
#endif

static const gan_data *gan__valid_data(const gan_data *data, const char *function)
{
    if (!data)
        gan__fail(NULL, function,
                  "the data is NULL; gan_data_... gives NULL when it fails, and gan_error() says "
                  "why");
    return data;
}

GAN_API int gan_data_skipped(const gan_data *data)
{
    gan__valid_data(data, "gan_data_skipped");
    if (data->pair[0])
        return gan_data_skipped(data->pair[0]) + gan_data_skipped(data->pair[1]);
    int skipped;
    gan__lock();
    skipped = data->skipped;
    gan__unlock();
    return skipped;
}

#ifdef STBI_INCLUDE_STB_IMAGE_H
/* out (size,lines) from in (lines,n), one direction of a resize. Output i lies at centre = start
   + (i + 1/2)*scale of the inputs, and averages them with weights that fall off to zero at the
   next output's centre, or the next input's if that is further, so that no fine pattern turns
   into a coarse one:

       weight           /\
                      /    \            scale = 2: an output reaches 2 inputs far
                    /        \
       inputs    .  .  .  .  .  .  .
       outputs       x     x     x                                                            */
static void gan__shrink(const float *in, int lines, int n, double scale, float *out, int size)
{
    double reach = GAN__MAX(scale, 1);
    double start = (n - size * scale) / 2;
    for (size_t i = 0; i < (size_t)size * lines; i++) {
        const float *line = in + i % lines * n;
        double centre = start + ((double)(i / lines) + 0.5) * scale;
        int first = (int)GAN__MAX(centre - reach, 0);
        int last = (int)GAN__MIN(centre + reach, n - 1.0);
        double sum = 0;
        double weights = 0;
        for (int k = first; k <= last; k++) {
            double weight = GAN__MAX(1 - fabs(k + 0.5 - centre) / reach, 0);
            sum += weight * (double)line[k];
            weights += weight;
        }
        out[i] = (float)(sum / weights);
    }
}

/* Is this the beginning of a PNG, JPEG, BMP, GIF, PPM or PGM, or a name that ends in .tga? Only
   those are given to stb_image, which goes by the content: its decoders of PSD, HDR, PIC are
   little used and tested, and here nothing needs them. TGA has no mark of its own. */
static bool gan__is_picture(const char *path, const unsigned char *data, size_t size)
{
    static const char *const marks[] = {"\x89PNG", "\xff\xd8\xff", "BM", "GIF8", "P5", "P6"};
    static const char *const others[] = {"8BPS", "#?RA", "#?RG", "\x53\x80\xf6\x34"};
    const char *dot = strrchr(path, '.');
    for (int i = 0; i < 6; i++)
        if (size >= strlen(marks[i]) && memcmp(data, marks[i], strlen(marks[i])) == 0)
            return true;
    for (int i = 0; i < 4; i++)
        if (size >= 4 && memcmp(data, others[i], 4) == 0)
            return false;
    return dot && (strcmp(dot, ".tga") == 0 || strcmp(dot, ".TGA") == 0);
}

/* Is a file of that many bytes too short for its pixels? PPM and PGM hold them as they are, and
   stb_image does not look. */
static bool gan__picture_cut(const unsigned char *file, size_t bytes)
{
    int width = 0, height = 0, n = 0;
    if (bytes < 2 || file[0] != 'P')
        return false;
    return !stbi_info_from_memory(file, (int)bytes, &width, &height, &n) ||
           (double)bytes < (double)width * height * n;
}

/* Does a file begin like a picture of 1 pixel or more? Only its header is read. */
static bool gan__picture_header(const char *path)
{
    unsigned char first[16] = {0};
    size_t size;
    int width = 0, height = 0, n = 0;
    FILE *file = gan__open_file(path, &size);
    if (!file)
        return false;
    size = fread(first, 1, sizeof first, file);
    rewind(file);
    bool good = gan__is_picture(path, first, size) &&
                stbi_info_from_file(file, &width, &height, &n) && width > 0 && height > 0;
    fclose(file);
    return good;
}

/* One channel of height*width pixels of n bytes: grey, grey and alpha, RGB or RGBA. channels: how
   many the set has. White shows where it is transparent. */
static void gan__picture_plane(const unsigned char *pixel, size_t area, int n, int channels,
                               int channel, float *plane)
{
    for (size_t i = 0; i < area; i++, pixel += n) {
        double level = pixel[0];
        if (n >= 3 && channels == 3)
            level = pixel[channel];
        else if (n >= 3)
            level = 0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2];
        if (n % 2 == 0)
            level = 255 + pixel[n - 1] / 255.0 * (level - 255);
        plane[i] = (float)level;
    }
}

/* Fills out (c,h,w) from a file; false if it is broken. */
static bool gan__read_picture(const char *path, int c, int h, int w, unsigned char *out)
{
    int height = 0, width = 0, n = 0;
    size_t bytes = 0;
    unsigned char *pixels = NULL;
    unsigned char *file = gan__read_file(path, &bytes);
    if (file && bytes < INT32_MAX && gan__is_picture(path, file, bytes) &&
        !gan__picture_cut(file, bytes))
        pixels = stbi_load_from_memory(file, (int)bytes, &width, &height, &n, 0);
    GAN_FREE(file);
    if (!pixels || width < 1 || height < 1) {
        stbi_image_free(pixels);
        return false;
    }
    double scale = GAN__MIN((double)height / h, (double)width / w);
    size_t area = (size_t)height * width;
    size_t strip = (size_t)height * w;
    size_t size = (size_t)h * w;
    double numbers = (double)height * width + (double)height * w + (double)size;
    bool fits = numbers * sizeof(float) < (double)(SIZE_MAX / 2);
    float *plane = fits ? (float *)gan__try_alloc((area + strip + size) * sizeof *plane) : NULL;
    for (int k = 0; plane && k < c; k++, out += size) {
        float *narrow = plane + area;
        float *small = narrow + strip;
        gan__picture_plane(pixels, area, n, c, k, plane);
        gan__shrink(plane, height, width, scale, narrow, w);
        gan__shrink(narrow, w, height, scale, small, h);
        for (size_t i = 0; i < size; i++)
            out[i] = (unsigned char)(small[i] + 0.5f);
    }
    stbi_image_free(pixels);
    GAN_FREE(plane);
    return plane != NULL;
}

/* Decodes image i unless that is done, or waits for the other thread if that is decoding it; of a
   pair, in both sets. False: the picture is broken. */
static bool gan__ensure_decoded(gan_data *data, int i)
{
    if (data->pair[0])
        return gan__ensure_decoded(data->pair[0], i) && gan__ensure_decoded(data->pair[1], i);
    if (!data->pictures)
        return true;
    gan__picture *picture = &data->pictures[i];
    gan__lock();
#ifdef GAN__PTHREAD
    while (picture->state == GAN__DECODING)
        pthread_cond_wait(&gan__decoded, &gan__mutex);
#endif
    if (picture->state == GAN__WAITING) {
        picture->state = GAN__DECODING;
        gan__unlock();
        bool read = gan__read_picture(picture->path, data->c, data->h, data->w,
                                      data->pixels + (size_t)i * data->c * data->h * data->w);
        gan__lock();
        picture->state = read ? GAN__GOOD : GAN__BROKEN;
        if (!read) {
            data->skipped++;
            fprintf(stderr, "%s: the picture is broken; the next good one takes its place\n",
                    picture->path);
        }
    }
    bool good = picture->state == GAN__GOOD;
    gan__unlock();
    return good;
}

#ifdef GAN__PTHREAD
/* What the thread runs: it decodes an epoch's pictures in their order, until it is told to stop. */
static void *gan__decode_ahead(void *argument)
{
    gan_data *data = (gan_data *)argument;
    for (int k = 0; k < data->count; k++) {
        gan__lock();
        bool stop = data->stop;
        gan__unlock();
        if (stop)
            break;
        gan__ensure_decoded(data, (int)data->order[(data->start + k) % data->count]);
    }
    return NULL;
}

/* Ends the thread that decodes data's pictures ahead, if there is one. */
static void gan__decoder_stop(gan_data *data)
{
    if (!data->threaded)
        return;
    gan__lock();
    data->stop = true;
    gan__unlock();
    pthread_join(data->thread, NULL);
    data->stop = false;
    data->threaded = false;
}

/* Starts that thread at the next image to be drawn. If none can be made, gan_batch decodes all
   pictures itself. */
static void gan__decoder_start(gan_data *data)
{
    if (!data->lazy)
        return;
    data->start = (int)(data->drawn % (uint64_t)data->count);
    data->threaded = pthread_create(&data->thread, NULL, gan__decode_ahead, data) == 0;
}
#endif

/* The paths of a folder's files and sub-folders. */
typedef struct {
    char **path;
    int count;
    bool failed; /* there was no memory for them all */
} gan__paths;

/* For qsort, which hands pointers to the array's elements. */
static int gan__by_path(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Adds FOLDER/NAME, unless the name begins with a dot: ".", ".." and hidden files. */
static void gan__path_add(gan__paths *list, const char *folder, const char *name)
{
    if (name[0] == '.' || list->failed)
        return;
    char **grown = (char **)gan__try_grow(list->path, (size_t)list->count, sizeof *grown);
    list->path = grown ? grown : list->path;
    char *path = grown ? (char *)gan__try_alloc(strlen(folder) + strlen(name) + 2) : NULL;
    list->failed = path == NULL;
    if (path)
        list->path[list->count++] = strcat(strcat(strcpy(path, folder), "/"), name);
}

/* The paths of what lies in a folder, sorted by name. False, and errno says why, if it is not a
   folder that can be read. */
static bool gan__list_folder(const char *folder, gan__paths *list)
{
    memset(list, 0, sizeof *list);
#if defined(_WIN32)
    struct _finddata_t entry;
    char *pattern = (char *)gan__try_alloc(strlen(folder) + 3);
    intptr_t search = pattern ? _findfirst(strcat(strcpy(pattern, folder), "/*"), &entry) : -1;
    GAN_FREE(pattern);
    if (search == -1)
        return false;
    do
        gan__path_add(list, folder, entry.name);
    while (_findnext(search, &entry) == 0);
    _findclose(search);
#elif defined(GAN__POSIX)
    DIR *search = opendir(folder);
    if (!search)
        return false;
    for (struct dirent *entry; (entry = readdir(search)) != NULL;)
        gan__path_add(list, folder, entry->d_name);
    closedir(search);
#endif
    if (list->count)
        qsort(list->path, (size_t)list->count, sizeof *list->path, gan__by_path);
    return true;
}

/* Is the path's ending, from its last dot on, a word of endings? The space after the word is
   checked too, so that ".jp" is none although ".jpg" begins with it. */
static bool gan__has_picture_name(const char *path)
{
    static const char endings[] = ".png .jpg .jpeg .bmp .tga .gif .ppm .pgm .pnm "
                                  ".PNG .JPG .JPEG .BMP .TGA .GIF .PPM .PGM .PNM ";
    const char *dot = strrchr(path, '.');
    const char *found = dot ? strstr(endings, dot) : NULL;
    return found && found[strlen(dot)] == ' ';
}

/* Adds a picture and its label. data keeps path and frees it later. False: no memory. */
static bool gan__add_picture(gan_data *data, char *path)
{
    gan__picture *pictures = (gan__picture *)gan__try_grow(data->pictures, (size_t)data->count,
                                                           sizeof *pictures);
    data->pictures = pictures ? pictures : data->pictures;
    unsigned char *labels = (unsigned char *)gan__try_grow(data->labels, (size_t)data->count, 1);
    data->labels = labels ? labels : data->labels;
    if (!pictures || !labels)
        return false;
    labels[data->count] = (unsigned char)data->class_count; /* its class is added after it */
    pictures[data->count].path = path;
    pictures[data->count].state = GAN__WAITING;
    data->count++;
    return true;
}

/* Adds a class, named as the sub-folder at path. False: no memory. */
static bool gan__add_class(gan_data *data, const char *path)
{
    const char *name = strrchr(path, '/') + 1;
    char **classes = (char **)gan__try_grow(data->classes, (size_t)data->class_count,
                                            sizeof *classes);
    data->classes = classes ? classes : data->classes;
    char *copy = classes ? (char *)gan__try_alloc(strlen(name) + 1) : NULL;
    if (copy)
        classes[data->class_count++] = strcpy(copy, name);
    return copy != NULL;
}

/* Did opening a folder fail for want of memory or of file descriptors? Any other error means that
   it is not a folder. */
static bool gan__is_shortage(int error)
{
    return error == ENOMEM || error == EMFILE || error == ENFILE;
}

static const char gan__no_picture_memory[] = "no memory for its pictures";

/* Adds a folder's pictures to data; or, with classes, its sub-folders, each a class, and the
   pictures in them. Returns what is wrong, or NULL if nothing is. */
static const char *gan__scan(gan_data *data, const char *folder, bool classes)
{
    gan__paths list;
    const char *problem = NULL;
    if (!gan__list_folder(folder, &list))
        return strerror(errno);
    if (list.failed)
        problem = gan__no_picture_memory;
    for (int i = 0; i < list.count && !problem; i++) {
        bool is_picture = gan__has_picture_name(list.path[i]);
        if (classes && !is_picture) {
            problem = gan__scan(data, list.path[i], false);
            if (problem == gan__no_picture_memory || (problem && gan__is_shortage(errno)))
                break;
            if (problem) /* not a folder: a file beside the classes */
                problem = NULL;
            else if (!gan__add_class(data, list.path[i]))
                problem = gan__no_picture_memory;
        } else if (!classes && is_picture && gan__picture_header(list.path[i])) {
            if (!gan__add_picture(data, list.path[i]))
                problem = gan__no_picture_memory;
            else
                list.path[i] = NULL;
        } else if (!classes && is_picture) {
            data->skipped++;
            fprintf(stderr, "%s: not a picture; it is left out\n", list.path[i]);
        }
    }
    for (int i = 0; i < list.count; i++)
        GAN_FREE(list.path[i]);
    GAN_FREE(list.path);
    return problem;
}

GAN_API gan_data *gan_data_folder(gan *g, const char *path, int channels, int h, int w)
{
    if (!g || !path)
        gan__fail(g, "gan_data_folder", "the device or the path is NULL");
    if ((channels != 1 && channels != 3) || h < 1 || w < 1 || (double)h * w * channels > INT32_MAX)
        gan__fail(g, "gan_data_folder",
                  "(%d,%d,%d): 1 (grey) or 3 (colour) channels and sizes of 1 or more are wanted",
                  channels, h, w);
    gan_data *data = (gan_data *)gan__try_alloc(sizeof *data);
    if (!data) {
        gan__refuse("%s: %s", path, gan__no_picture_memory);
        return NULL;
    }
    memset(data, 0, sizeof *data);
    const char *problem = gan__scan(data, path, true);
    if (!problem && !data->class_count)
        problem = gan__scan(data, path, false);
    data->c = channels;
    data->h = h;
    data->w = w;
    data->lazy = true;
    data->left_out = data->skipped;
    double bytes = (double)data->count * channels * h * w + 1;
    if (bytes < (double)(SIZE_MAX / 2))
        data->pixels = (unsigned char *)gan__try_alloc((size_t)bytes);
    if (!problem && !data->pixels)
        problem = gan__no_picture_memory;
    if (!problem && data->class_count > 256)
        problem = "it has more than 256 sub-folders";
    if (!data->class_count) {
        GAN_FREE(data->labels);
        data->labels = NULL;
    }
    return gan__data_join(g, data, path, problem);
}
#else
static bool gan__ensure_decoded(gan_data *data, int i)
{
    (void)data;
    (void)i;
    return true;
}
#endif
#ifndef GAN__PTHREAD
static void gan__decoder_stop(gan_data *data)
{
    (void)data;
}

static void gan__decoder_start(gan_data *data)
{
    (void)data;
}
#endif

GAN_API gan_data *gan_data_pair(gan *g, gan_data *a, gan_data *b)
{
    if (!g || !a || !b || a->g != g || b->g != g)
        gan__fail(g, "gan_data_pair",
                  "a set is NULL or of another gan_open than the first argument");
    if (a->count != b->count || a->h != b->h || a->w != b->w || a->left_out || b->left_out) {
        gan__refuse("gan_data_pair: %d images of %dx%d, %d files left out; %d images of %dx%d, %d "
                    "left out: no pairs",
                    a->count, a->h, a->w, a->left_out, b->count, b->h, b->w, b->left_out);
        return NULL;
    }
    gan_data *data = (gan_data *)gan__try_alloc(sizeof *data);
    unsigned char *labels = a->labels ? (unsigned char *)gan__try_alloc((size_t)a->count) : NULL;
    if (!data || (a->labels && !labels)) {
        gan__refuse("gan_data_pair: no memory for it");
        GAN_FREE(data);
        GAN_FREE(labels);
        return NULL;
    }
    memset(data, 0, sizeof *data);
    data->count = a->count;
    data->c = a->c + b->c;
    data->h = a->h;
    data->w = a->w;
    data->classes = a->classes;
    data->class_count = a->class_count;
    data->style = a->style;
    data->pair[0] = a;
    data->pair[1] = b;
    data->lazy = a->lazy || b->lazy;
    data->labels = labels;
    if (labels)
        memcpy(labels, a->labels, (size_t)a->count);
    return gan__data_join(g, data, "gan_data_pair", NULL);
}

GAN_API int gan_data_size(const gan_data *data)
{
    return gan__valid_data(data, "gan_data_size")->count;
}

GAN_API const char *gan_data_class_name(const gan_data *data, int label)
{
    gan__valid_data(data, "gan_data_class_name");
    return label >= 0 && label < data->class_count ? data->classes[label] : NULL;
}

GAN_API void gan_data_item(const gan_data *data, int i, gan_real *image, int *label)
{
    gan__valid_data(data, "gan_data_item");
    size_t size = (size_t)data->c * data->h * data->w;
    if (i < 0 || i >= data->count || !image)
        gan__fail(data->g, "gan_data_item", "image %d of %d%s", i, data->count,
                  image ? "" : ": the place for its numbers is NULL");
    while (!gan__ensure_decoded((gan_data *)data, i))
        i = (i + 1) % data->count;
    if (label)
        *label = data->labels ? data->labels[i] : -1;
    if (data->pair[0]) {
        gan_data_item(data->pair[0], i, image, NULL);
        gan_data_item(data->pair[1], i, image + (size_t)data->pair[0]->c * data->h * data->w, NULL);
    }
    for (size_t e = 0; data->pixels && e < size; e++)
        image[e] = data->pixels[(size_t)i * size + e] / (gan_real)127.5 - 1;
}

/* Fisher and Yates's shuffle, with the numbers of (seed, the set's stream, epoch). */
static void gan__shuffle(gan_data *data, uint64_t epoch)
{
    uint32_t word[4] = {0, 0, 0, 0};
    for (int i = 0; i < data->count; i++)
        data->order[i] = (uint32_t)i;
    for (int i = data->count - 1, used = 0; i > 0; i--, used++) {
        if (used % 4 == 0)
            gan__philox(data->g->seed, data->stream, epoch << 32 | (uint32_t)(used / 4), word);
        uint32_t j = (uint32_t)((uint64_t)word[used % 4] * (uint64_t)(i + 1) >> 32);
        uint32_t swap = data->order[i];
        data->order[i] = data->order[j];
        data->order[j] = swap;
    }
    data->epoch = epoch;
}

static int gan__next_item(gan_data *data)
{
    uint64_t epoch = data->drawn / (uint64_t)data->count;
    if (epoch != data->epoch) {
        gan__decoder_stop(data); /* it reads the order that is shuffled here */
        gan__shuffle(data, epoch);
        gan__decoder_start(data);
    }
    return (int)data->order[data->drawn++ % (uint64_t)data->count];
}

/* Brings a set to a device that has memory of its own, up to 4 GiB and not a folder's. Without the
   memory for that, batches go on coming from the host. */
static void gan__data_to_device(gan_data *data, size_t size)
{
    size_t count = (size_t)data->count;
    if (data->on_device || data->lazy || !data->g->backend->alloc || count > 1 << 24 ||
        count * (size + 1) > 1 << 30 || data->g->plan)
        return;
    gan_real *host = (gan_real *)gan__try_alloc(count * (size + 1) * sizeof *host);
    gan_tensor *images = gan__persistent_tensor(data->g, data->count, data->c, data->h, data->w);
    gan_tensor *classes = gan__persistent_tensor(data->g, data->count, 1, 1, 1);
    if (host && images && classes) {
        gan_real *labels = host + count * size;
        for (int i = 0, label; i < data->count; i++) {
            gan_data_item(data, i, host + (size_t)i * size, &label);
            labels[i] = (gan_real)label;
        }
        gan_set(images, host);
        gan_set(classes, labels);
        data->on_device = images;
        data->labels_on_device = classes;
    } else {
        gan__persistent_tensor_free(images);
        gan__persistent_tensor_free(classes);
    }
    GAN_FREE(host);
}

GAN_API gan_tensor *gan_batch(gan_data *data, int n, gan_tensor **labels)
{
    gan *g = gan__valid_data(data, "gan_batch")->g;
    gan__check_shape(g, "gan_batch", n, data->c, data->h, data->w);
    if (labels && !data->labels)
        gan__fail(g, "gan_batch", "labels are asked for, the data has none");
    size_t size = (size_t)data->c * data->h * data->w;
    gan__data_to_device(data, size);
    gan_real *host = (gan_real *)gan__ensure_buffer(g, &gan__ref, &g->staging[0],
                                                    &g->staging_size[0],
                                                    (size_t)n * (data->on_device ? 1 : size));
    gan_real *classes = (gan_real *)gan__ensure_buffer(g, &gan__ref, &g->staging[1],
                                                       &g->staging_size[1], (size_t)n);
    for (int i = 0, label; i < n; i++) {
        int item = gan__next_item(data);
        if (data->on_device)
            host[i] = (gan_real)item;
        else {
            gan_data_item(data, item, host + (size_t)i * size, &label);
            classes[i] = (gan_real)label;
        }
    }
    if (!data->on_device) {
        if (labels)
            *labels = gan_from_host(g, classes, n, 1, 1, 1);
        return gan_from_host(g, host, n, data->c, data->h, data->w);
    }
    gan_tensor *places = gan__constant(g, host, n, 1, 1, 1);
    gan__replay_value_add(g, NULL, data, n);
    if (labels)
        *labels = gan_detach(gan_gather(data->labels_on_device, places, 0));
    return gan_detach(gan_gather(data->on_device, places, 0));
}

/* Until size images are kept, an image of the batch is kept and returned; then a coin decides
   whether it is returned, or changes places with one of those kept. */
GAN_API gan_tensor *gan_image_pool(gan_model *model, const char *name, gan_tensor *images, int size)
{
    gan *g = gan__valid(images, "gan_image_pool");
    if (!model || model->g != g || !name || size < 0)
        gan__fail(g, "gan_image_pool",
                  "model or name is NULL, model is of another gan_open, or size %d < 0", size);
    if (size == 0)
        return gan_detach(images);
    gan_tensor *kept = gan__layer_buffer(model, name, "running_images",
                                         gan__shape_of(4, size, images->c, images->h, images->w),
                                         gan__start_at(0));
    gan_tensor *counter = gan__layer_buffer(model, name, "running_count",
                                            gan__shape_of(4, 1, 1, 1, 1), gan__start_at(0));
    gan_tensor *y = gan__tensor(g, NULL, GAN__SHAPE(images));
    if (kept->n != size || kept->c != images->c || kept->h != images->h || kept->w != images->w)
        gan__fail(g, "gan_image_pool", "it keeps " GAN__DIMS ", not " GAN__DIMS ", size %d",
                  GAN__SHAPE(kept), GAN__SHAPE(images), size);
    double counted = (double)gan_item(counter);
    if (!(counted >= 0 && counted <= size && counted == floor(counted)))
        gan__fail(g, "gan_image_pool", "%s.running_count is %g, where 0 to %d is possible", name,
                  counted, size);
    size_t each = gan_count(images) / (size_t)images->n;
    size_t count = (size_t)counted;
    size_t before = count;
    gan_map copy = {GAN_AFFINE, each, 1, 0};
    for (int i = 0; i < images->n; i++) {
        const gan_real *image = images->data + (size_t)i * each;
        uint32_t word[4] = {0, 0, 0, 0};
        bool full = count == (size_t)size;
        if (full)
            gan__philox(g->seed, GAN__STREAM_DRAW, g->drawn++, word);
        bool swap = word[0] >> 31;
        size_t which = full ? (size_t)((uint64_t)word[1] * (uint64_t)size >> 32) : count++;
        gan_real *place = kept->data + which * each;
        gan__run_1(g, GAN__K_map, &copy, swap ? place : image, y->data + (size_t)i * each);
        if (!full || swap)
            gan__run_1(g, GAN__K_map, &copy, image, place);
    }
    if (count != before)
        gan__fill_with(counter, (gan_real)count);
    return y;
}

/* ===========================================================================================
   >>augment (implementation)
   =========================================================================================== */
/* count numbers uniform in [0,1) on the host, from the stream of gan_rand; valid until the next
   call. */
static gan_real *gan__host_rand(gan *g, int count)
{
    gan_real *numbers = (gan_real *)gan__workspace(GAN__SCRATCH_CALLER,
                                                   (size_t)count * sizeof *numbers);
    gan_random p = {0, (size_t)count, g->seed, GAN__STREAM_DRAW, g->drawn, 1, 0};
    g->drawn += ((size_t)count + 3) / 4;
    gan_ref_random(&p, numbers);
    return numbers;
}

/* A resampling table (N,OUT,1,2), one for each image, of (index, weight): number i of a line of
   image n is number start[n] + i of the input's, or if flip[n] the one as far from its other end.
   What lies outside has index -1 and weight 0. For lines of 4 numbers:

       shifted, start = 1                 flipped, start = 0
       in   0   1   2   3                 in   0   1   2   3
              /   /   /                         \ \   / /
            /   /   /                            / \ / \
       out  0   1   2   3                 out  0   1   2   3
       table (1,1) (2,1) (3,1) (-1,0)     table (3,1) (2,1) (1,1) (0,1) */
static gan_tensor *gan__line_tables(gan *g, int n, int in, int out, const int *start,
                                    const int *flip)
{
    gan_real *table = (gan_real *)gan__workspace(GAN__SCRATCH_LEAF,
                                                 2 * (size_t)n * out * sizeof *table);
    gan_real *to = table;
    for (int k = 0; k < n; k++)
        for (int i = 0; i < out; i++) {
            int at = start[k] + (flip[k] ? in - 1 - i : i);
            bool inside = at >= 0 && at < in;
            *to++ = (gan_real)(inside ? at : -1);
            *to++ = (gan_real)inside;
        }
    return gan_from_host(g, table, n, out, 1, 2);
}

/* count ints, all 0, for the arguments start and flip of gan__line_tables; valid until the next
   call. */
static int *gan__zero_ints(size_t count)
{
    void *ints = gan__workspace(GAN__SCRATCH_CALLER_2, count * sizeof(int));
    return (int *)memset(ints, 0, count * sizeof(int));
}

GAN_API gan_tensor *gan_random_crop(gan_tensor *x, int h, int w)
{
    gan *g = gan__valid(x, "gan_random_crop");
    if (h < 1 || w < 1 || h > x->h || w > x->w)
        gan__fail(g, "gan_random_crop", "input " GAN__DIMS " has no part of %d x %d", GAN__SHAPE(x),
                  h, w);
    int *top = gan__zero_ints(3 * (size_t)x->n); /* each image's first row, .. */
    int *left = top + x->n;                      /* .. its first column .. */
    int *no_flip = left + x->n;                  /* .. and 0: nothing is flipped */
    const gan_real *u = gan__host_rand(g, 2 * x->n);
    for (int n = 0; n < x->n; n++, u += 2) {
        top[n] = (int)(u[0] * (x->h - h + 1));
        left[n] = (int)(u[1] * (x->w - w + 1));
    }
    gan_tensor *rows = gan__line_tables(g, x->n, x->h, h, top, no_flip);
    return gan__resample(x, rows, gan__line_tables(g, x->n, x->w, w, left, no_flip));
}

/* mean + factor*(x - mean) */
static gan_tensor *gan__scale_about(gan_tensor *x, gan_tensor *mean, gan_tensor *factor)
{
    return gan_add(gan_mul(gan_sub(x, mean), factor), mean);
}

/* Three changes one after the other, each made to an image with probability p and by an amount of
   its own: brightness by -0.5 to 0.5, saturation by a factor of 0 to 2 about each pixel's grey,
   contrast by a factor of 0.5 to 1.5 about the image's mean. */
static gan_tensor *gan__augment_color(gan_tensor *x, gan_real p)
{
    enum { BRIGHTNESS, SATURATION, CONTRAST };

    gan *g = x->g;
    for (int change = BRIGHTNESS; change <= CONTRAST; change++) {
        gan_tensor *u = gan_rand(g, x->n, 1, 1, 1); /* 0 to 1 */
        gan_tensor *chosen = gan__bernoulli("gan_augment", g, x->n, p);
        gan_tensor *y;
        if (change == BRIGHTNESS) {
            y = gan_add(x, gan_add_scalar(u, (gan_real)-0.5));
        } else if (change == SATURATION) {
            gan_tensor *grey = gan_mean_to(x, x->n, 1, x->h, x->w);
            y = gan__scale_about(x, grey, gan_mul_scalar(u, 2));
        } else {
            gan_tensor *mean = gan_mean_to(x, x->n, 1, 1, 1);
            y = gan__scale_about(x, mean, gan_add_scalar(u, (gan_real)0.5));
        }
        x = gan_add(x, gan_mul(gan_sub(y, x), chosen)); /* y where chosen is 1, x where it is 0 */
    }
    return x;
}

/* Sets a hole in each image to 0, with probability p: half as high and as wide as the image. Its
   middle may be anywhere, so that a part of the hole may lie outside. */
static gan_tensor *gan__augment_cutout(gan_tensor *x, gan_real p)
{
    size_t plane = (size_t)x->h * x->w;
    int high = x->h / 2, wide = x->w / 2;
    int middle_rows = x->h + (high % 2 == 0);    /* an odd hole's middle is one of h pixels, an */
    int middle_columns = x->w + (wide % 2 == 0); /* even one's one of the h + 1 edges of pixels */
    const gan_real *u = gan__host_rand(x->g, 3 * x->n);
    gan_real *mask = (gan_real *)gan__workspace(GAN__SCRATCH_LEAF, plane * x->n * sizeof *mask);
    for (size_t i = 0; i < plane * x->n; i++)
        mask[i] = 1;
    for (int n = 0; n < x->n; n++, u += 3) {
        int top = (int)(u[0] * middle_rows) - high / 2;
        int left = (int)(u[1] * middle_columns) - wide / 2;
        if (!(u[2] < p))
            continue;
        for (int i = GAN__MAX(top, 0); i < GAN__MIN(top + high, x->h); i++)
            for (int j = GAN__MAX(left, 0); j < GAN__MIN(left + wide, x->w); j++)
                mask[n * plane + (size_t)i * x->w + j] = 0;
    }
    return gan_mul(x, gan_from_host(x->g, mask, x->n, 1, x->h, x->w));
}

/* Flips left and right, and shifts by up to an eighth of the size, each with probability p. One
   resampling does both: its tables hold the input row and column of each output row and column. */
static gan_tensor *gan__augment_flip_shift(gan_tensor *x, int kinds, gan_real p)
{
    gan *g = x->g;
    int *row = gan__zero_ints(4 * (size_t)x->n); /* how far each image is shifted up, .. */
    int *column = row + x->n;                    /* .. how far to the left, .. */
    int *flip = column + x->n;                   /* .. whether it is flipped .. */
    int *no_flip = flip + x->n;                  /* .. and 0: no rows are flipped */
    int high = x->h / 8;
    int wide = x->w / 8;
    const gan_real *u = gan__host_rand(g, 5 * x->n);
    for (int n = 0; n < x->n; n++, u += 5) {
        if ((kinds & GAN_SHIFT) && u[0] < p) {
            row[n] = (int)(u[1] * (2 * high + 1)) - high;
            column[n] = (int)(u[2] * (2 * wide + 1)) - wide;
        }
        flip[n] = (kinds & GAN_FLIP) && u[3] < p && u[4] < (gan_real)0.5;
    }
    gan_tensor *rows = gan__line_tables(g, x->n, x->h, x->h, row, no_flip);
    return gan__resample(x, rows, gan__line_tables(g, x->n, x->w, x->w, column, flip));
}

GAN_API gan_tensor *gan_augment(gan_tensor *x, int kinds, gan_real p)
{
    gan *g = gan__valid(x, "gan_augment");
    if (kinds & ~15 || !(p >= 0 && p <= 1))
        gan__fail(g, "gan_augment",
                  "kinds %d with probability %g: a sum of GAN_FLIP .. GAN_COLOR, and 0 to 1", kinds,
                  (double)p);
    if (kinds & GAN_COLOR)
        x = gan__augment_color(x, p);
    if (kinds & (GAN_FLIP | GAN_SHIFT))
        x = gan__augment_flip_shift(x, kinds, p);
    return kinds & GAN_CUTOUT ? gan__augment_cutout(x, p) : x;
}

GAN_API gan_real gan_ada(gan_model *D, gan_tensor *real_logits, gan_real target, double images)
{
    gan__check_model(D, "gan_ada");
    gan__valid(real_logits, "gan_ada");
    if (!(images > 0))
        gan__fail(D->g, "gan_ada", "images %g: above 0, as 500000", images);
    gan_tensor *p = gan__layer_buffer(D, "ada", "running_p", gan__vector(1), gan__start_at(0));
    gan_real sign = gan_item(
        gan_mean(gan__map("gan_ada", GAN_SIGN, gan_detach(real_logits), 0, 0)));
    gan_real value = gan_item(p);
    value += (gan_real)((sign > target ? 1 : -1) * real_logits->n / images);
    value = value < 0 ? 0 : value > 1 ? 1 : value;
    gan_set(p, &value);
    return value;
}

/* ===========================================================================================
   >>metrics (implementation)
   ===========================================================================================
   What takes time is one number for each pair of rows of two matrices. Rows stand in panels of
   8: (r,k) at (r/8*d + k)*8 + r%8. */
enum { GAN__PAIR_DOT, GAN__PAIR_KERNEL, GAN__PAIR_NEAREST, GAN__PAIR_REACHED };

typedef struct {
    int kind;
    bool same;
    size_t na, nb, d, k;
    double *out;
    const double *reach;
    double *panels[2];
} gan__pairs;

static void gan__pairs_body(void *job, size_t begin, size_t end, int thread)
{
    const gan__pairs *p = (const gan__pairs *)job;
    size_t down = (end - begin + 7) / 8, across = (p->nb + 7) / 8;
    (void)thread;
    for (size_t tile = 0; tile < 64 * down * across; tile += 64) {
        double c[64], v, *out;
        size_t i0 = begin + tile / 64 % down * 8;
        size_t j0 = tile / 64 / down * 8;
        gan__simd()->pairs_of_rows(p->d, p->panels[0] + i0 * p->d, p->panels[1] + j0 * p->d, c,
                                   p->kind >= GAN__PAIR_NEAREST);
        for (size_t e = 0; e < 64; e++) {
            size_t i = i0 + e / 8, j = j0 + e % 8;
            if (i >= end || j >= p->nb || (p->same && i == j))
                continue;
            v = c[e];
            out = p->out + i;
            if (p->kind == GAN__PAIR_DOT)
                p->out[i * p->nb + j] = v;
            else if (p->kind == GAN__PAIR_KERNEL) {
                v = v / (double)p->d + 1;
                *out += v * v * v;
            } else if (p->kind == GAN__PAIR_REACHED)
                *out = v <= p->reach[j] ? 1 : v > p->reach[j] ? *out : NAN;
            else
                for (out = p->out + i * p->k; out < p->out + (i + 1) * p->k;
                     out++) /* the k smallest, ascending */
                    if (v < *out) {
                        double larger = *out;
                        *out = v;
                        v = larger;
                    }
        }
    }
}

/* Rows of a (na,d) with rows of b (nb,d), but none with itself if same. DOT: y (na,nb) = a b^T.
   KERNEL: y (na) += sums of k(x,y). NEAREST: y (na,k), the smallest squared distances. REACHED:
   y (na) is 1 where one is at most the row of b's reach. */
static void gan__all_pairs(int kind, bool same, double *a, int na, double *b, int nb, int d,
                           double *y, int k, const double *reach)
{
    gan__pairs p = {kind,      same, (size_t)na, (size_t)nb,  (size_t)d,
                    (size_t)k, y,    reach,      {NULL, NULL}};
    for (int side = 0; side < 2; side++) {
        size_t count = (size_t)(side ? nb : na) * p.d;
        p.panels[side] = (double *)gan__alloc_zero((count + 7 * p.d) * sizeof *y);
        for (size_t i = 0; i < count; i++)
            p.panels[side][(i / p.d / 8 * p.d + i % p.d) * 8 + i / p.d % 8] = (side ? b : a)[i];
    }
    gan__parallel(p.na, 64, gan__pairs_body, &p);
    GAN_FREE(p.panels[0]);
    GAN_FREE(p.panels[1]);
}

/* Jacobi's method on one side (Hestenes 1958): rotations of two rows, until all are orthogonal
   and the longest is first. The shift leaves no eigenvalue below shift/2, so that rows are then
   eigenvectors, as long as their eigenvalues. */
GAN_API void gan_eigen_symmetric(double *a, int n, double *values)
{
    if (!a || !values || n < 0)
        gan__fail(NULL, "gan_eigen_symmetric", "n is %d%s", n,
                  a && values ? "" : ", an array NULL");
    size_t row = (size_t)n, count = row * row;
    double size = 0, *end = a + count;
    for (size_t i = 0; i < count; i++)
        size += a[i] * a[i];
    double shift = size > 0 ? 2 * sqrt(size) : 1;
    for (size_t i = 0; i < count; i += row + 1)
        a[i] += shift;
    for (int sweep = 0, turned = 1; sweep < 60 && turned && size <= DBL_MAX; sweep++) {
        turned = 0;
        for (double *u = a; u < end; u += row)
            for (double *v = u + row; v < end; v += row) {
                double uu = 0, vv = 0, uv = 0;
                for (int i = 0; i < n; i++) {
                    uu += u[i] * u[i];
                    vv += v[i] * v[i];
                    uv += u[i] * v[i];
                }
                if (fabs(uv) <= 5e-15 * vv && uu >= vv * (1 - 1e-14))
                    continue;
                double angle = atan2(2 * uv, uu - vv) / 2;
                double c = cos(angle);
                double s = sin(angle);
                for (int i = 0; i < n; i++) {
                    uv = c * u[i] + s * v[i];
                    v[i] = c * v[i] - s * u[i];
                    u[i] = uv;
                }
                turned = 1;
            }
    }
    for (double square = 0; a < end; a += row, values++, square = 0) {
        for (int j = 0; j < n; j++)
            square += a[j] * a[j];
        for (int j = 0; j < n; j++)
            a[j] /= sqrt(square);
        *values = size <= DBL_MAX ? sqrt(square) - shift : NAN;
    }
}

static void gan__check_rows(const char *function, const gan_real *x, int n, int d, int least)
{
    if (!x || n < least || d < 1)
        gan__fail(NULL, function, "(%d,%d)%s: %d or more rows of 1 or more numbers are wanted", n,
                  d, x ? "" : " at NULL", least);
}

/* x (n,d) in double, or its transpose */
static double *gan__features(const char *function, const gan_real *x, int n, int d, int least,
                             bool transpose)
{
    gan__check_rows(function, x, n, d, least);
    double *y = (double *)gan__alloc((size_t)n * d * sizeof *y);
    for (size_t i = 0; i < (size_t)n * d; i++)
        y[transpose ? i % d * n + i / d : i] = (double)x[i];
    return y;
}

/* x (d,n), the transposed features: takes each row's mean away, writes it to mean (d), and the
   unbiased covariance to covariance (d,d). */
static void gan__covariance(double *x, int d, int n, double *mean, double *covariance)
{
    for (int i = 0; i < d; i++) {
        double *row = x + (size_t)i * n;
        mean[i] = 0;
        for (int k = 0; k < n; k++)
            mean[i] += row[k] / n;
        for (int k = 0; k < n; k++)
            row[k] -= mean[i];
    }
    gan__all_pairs(GAN__PAIR_DOT, false, x, d, x, d, n, covariance, 0, NULL);
    for (size_t i = 0; i < (size_t)d * d; i++)
        covariance[i] /= n - 1;
}

/* tr (A B)^1/2, A and B (d,d). With A = R^T R it is the sum of the roots of the eigenvalues of
   R B R^T. R's rows are A's eigenvectors times the roots of their eigenvalues; those that are
   rounding, by numpy's matrix_rank, are left out. A becomes R; room has 2 d d + d numbers. */
static double gan__trace_of_root(double *A, double *B, int d, double *room)
{
    double *R = A, *RB = room, *RBR = RB + (size_t)d * d, *values = RBR + (size_t)d * d;
    double trace = 0;
    int rank = 0;
    gan_eigen_symmetric(R, d, values);
    for (; rank < d && values[rank] > d * DBL_EPSILON * values[0]; rank++)
        for (int k = 0; k < d; k++)
            R[(size_t)rank * d + k] *= sqrt(values[rank]);
    gan__all_pairs(GAN__PAIR_DOT, false, R, rank, B, d, d, RB, 0, NULL);
    gan__all_pairs(GAN__PAIR_DOT, false, RB, rank, R, rank, d, RBR, 0, NULL);
    gan_eigen_symmetric(RBR, rank, values);
    for (int i = 0; i < rank; i++)
        trace += values[i] > 0 ? sqrt(values[i]) : 0;
    return trace;
}

GAN_API double gan_frechet_distance(const gan_real *a, int na, const gan_real *b, int nb, int d)
{
    gan__check_rows("gan_frechet_distance", b, nb, d, 2);
    double *x = gan__features("gan_frechet_distance", a, na, d, 2, true);
    double *y = gan__features("", b, nb, d, 2, true);
    size_t square = (size_t)d * d;
    double *A = (double *)gan__alloc((4 * square + 3 * (size_t)d) * sizeof *A);
    double *B = A + square;
    double *room = B + square; /* 2 d d + d */
    double *mean_a = room + 2 * square + d, *mean_b = mean_a + d;
    double total = 0;
    gan__covariance(x, d, na, mean_a, A);
    gan__covariance(y, d, nb, mean_b, B);
    for (int i = 0; i < d; i++) {
        double apart = mean_b[i] - mean_a[i];
        total += apart * apart + A[(size_t)i * d + i] + B[(size_t)i * d + i];
    }
    total -= 2 * gan__trace_of_root(A, B, d, room);
    GAN_FREE(x);
    GAN_FREE(y);
    GAN_FREE(A);
    return total < 0 ? 0 : total;
}

GAN_API double gan_kernel_distance(const gan_real *a, int na, const gan_real *b, int nb, int d)
{
    gan__check_rows("gan_kernel_distance", b, nb, d, 2);
    double total = 0;
    double *x[2] = {gan__features("gan_kernel_distance", a, na, d, 2, false),
                    gan__features("", b, nb, d, 2, false)};
    for (int i = 0; i < 3; i++) { /* a with a, b with b, a with b */
        int n = i == 1 ? nb : na, m = i == 0 ? na : nb;
        double *sums = (double *)gan__alloc_zero((size_t)n * sizeof *sums);
        gan__all_pairs(GAN__PAIR_KERNEL, i < 2, x[i == 1], n, x[i > 0], m, d, sums, 0, NULL);
        for (int r = 0; r < n; r++)
            total += (i < 2 ? 1.0 / (n - 1) : -2.0 / m) * sums[r] / n;
        GAN_FREE(sums);
    }
    GAN_FREE(x[0]);
    GAN_FREE(x[1]);
    return total;
}

GAN_API double gan_precision(const gan_real *real, int n_real, const gan_real *fake, int n_fake,
                             int d, int k)
{
    if (k < 1)
        gan__fail(NULL, "gan_precision", "k is %d: 1 or more neighbours are wanted", k);
    gan__check_rows("gan_precision", fake, n_fake, d, 1);
    double *b = gan__features("gan_precision", real, n_real, d, k + 1, false);
    double *a = gan__features("", fake, n_fake, d, 1, false);
    size_t held = (size_t)n_real * k;
    double share = 0;
    double *reach = (double *)gan__alloc_zero((held + n_fake) * sizeof *reach);
    double *inside = reach + held;
    for (size_t i = 0; i < held; i++)
        reach[i] = INFINITY;
    gan__all_pairs(GAN__PAIR_NEAREST, true, b, n_real, b, n_real, d, reach, k, NULL);
    for (int j = 0; j < n_real; j++)
        reach[j] = reach[(size_t)j * k + k - 1];
    gan__all_pairs(GAN__PAIR_REACHED, false, a, n_fake, b, n_real, d, inside, 0, reach);
    for (int i = 0; i < n_fake; i++)
        share += inside[i];
    for (int j = 0; j < n_real; j++)
        share = reach[j] == INFINITY ? NAN : share; /* no distance from there is a number */
    GAN_FREE(a);
    GAN_FREE(b);
    GAN_FREE(reach);
    return share / n_fake;
}

GAN_API double gan_inception_score(const gan_real *p, int n, int classes)
{
    double total = 0;
    gan__check_rows("gan_inception_score", p, n, classes, 1);
    for (int y = 0; y < classes; y++) {
        const gan_real *end = p + (size_t)n * classes;
        double mean = 0;
        for (const gan_real *v = p + y; v < end; v += classes)
            mean += (double)*v / n;
        for (const gan_real *v = p + y; v < end; v += classes)
            total += *v == 0 ? 0 : (double)*v * log((double)*v / mean) / n;
    }
    return exp(total);
}

GAN_API int gan_modes(const gan_real *scores, int n, int classes, int *histogram)
{
    int caught = 0;
    gan__check_rows("gan_modes", scores, n, classes, 1);
    if (!histogram)
        gan__fail(NULL, "gan_modes", "histogram is NULL: it takes %d numbers", classes);
    memset(histogram, 0, (size_t)classes * sizeof *histogram);
    for (int i = 0; i < n; i++, scores += classes) {
        int best = 0, numbers = 1;
        for (int y = 0; y < classes; y++) {
            best = scores[y] > scores[best] ? y : best;
            numbers &= scores[y] == scores[y];
        }
        caught += numbers && histogram[best] == 0;
        histogram[best] += numbers;
    }
    return caught;
}

GAN_API double gan_print_scores(const char *title, const gan_real *real, int n_real,
                                const gan_real *fake, int n_fake, int d, const gan_real *p,
                                int classes)
{
    int *histogram = (int *)gan__alloc((size_t)GAN__MAX(classes, 0) * sizeof *histogram);
    double distance = gan_frechet_distance(real, n_real, fake, n_fake, d);
    printf("%s: N %d real, %d fake, d %d: Frechet %.4g, kernel %.4g, precision %.3f, recall %.3f",
           title, n_real, n_fake, d, distance, gan_kernel_distance(real, n_real, fake, n_fake, d),
           gan_precision(real, n_real, fake, n_fake, d, 3),
           gan_precision(fake, n_fake, real, n_real, d, 3));
    if (p)
        printf(", inception %.3f, modes %d", gan_inception_score(p, n_fake, classes),
               gan_modes(p, n_fake, classes, histogram));
    if (p)
        printf(" of %d", classes);
    printf("\n");
    GAN_FREE(histogram);
    return distance;
}

GAN_API double gan_perceptual_path_length(gan_model *generator, gan_network *G, gan_model *features,
                                          gan_network *F, int latent, int batch, int batches,
                                          double eps)
{
    double total = 0;
    if (!G || !generator || latent < 1 || batch < 1 || batches < 1 || !(eps > 0))
        gan__fail(NULL, "gan_perceptual_path_length",
                  "generator%s, latent %d, batch %d, batches %d, eps %g: all are above 0",
                  G && generator ? "" : " NULL", latent, batch, batches, eps);
    gan *g = generator->g;
    size_t half = (size_t)batch * latent;
    gan_real *ends = (gan_real *)gan__alloc((4 * half + batch) * sizeof *ends);
    gan_real *z = ends + 2 * half;
    gan_real *t = z + 2 * half;
    for (int done = 0; done < batches; done++) {
        gan_mark mark = gan_here(g);
        gan_to_host(gan_randn(g, 2 * batch, latent, 1, 1), ends);
        gan_to_host(gan_rand(g, batch, 1, 1, 1), t);
        for (size_t i = 0; i < 2 * half; i++) { /* z(t) of the batch, then z(t + eps) */
            double w = 1.57079632679489661923 *
                       ((double)t[i % half / (size_t)latent] + (i < half ? 0 : eps));
            z[i] = (gan_real)(cos(w) * ends[i % half] + sin(w) * ends[half + i % half]);
        }
        gan_tensor *y = G(generator, gan_from_host(g, z, 2 * batch, latent, 1, 1));
        if (F)
            y = F(features, y);
        y = gan_mul_scalar(gan_sub(gan_slice(y, 0, 0, batch), gan_slice(y, 0, batch, batch)),
                           (gan_real)(1 / eps));
        total += (double)gan_item(gan_sum(gan_square(y))) / batch / batches;
        gan_clear_to(g, mark);
    }
    GAN_FREE(ends);
    return total;
}

static void gan__check_likeness(const char *function, gan_tensor *a, gan_tensor *b, double range,
                                int side)
{
    gan__check_same(a, b, function);
    if (!(range > 0))
        gan__fail(a->g, function, "range %g: values from -1 to 1 have range 2", range);
    if (GAN__MIN(a->h, a->w) < side)
        gan__fail(a->g, function, GAN__DIMS ": sides of %d or more are wanted", GAN__SHAPE(a),
                  side);
}

/* The means of x (N,C,H,W) over each n, on the host, to be freed. */
static gan_real *gan__means(gan_tensor *x)
{
    gan_real *mean = (gan_real *)gan__alloc((size_t)x->n * sizeof *mean);
    gan_to_host(gan_mean_to(x, x->n, 1, 1, 1), mean);
    return mean;
}

/* SSIM's window, a Gaussian of standard deviation 1.5: (1,1,11,11), with a sum of 1. At a distance
   r from its middle it is proportional to exp(-r^2 / (2 * 1.5^2)). */
static gan_tensor *gan__ssim_window(gan *g)
{
    gan_real weight[121], sum = 0;
    for (int i = 0; i < 121; i++) {
        int down = i / 11 - 5, right = i % 11 - 5;
        weight[i] = (gan_real)exp((down * down + right * right) / -4.5);
        sum += weight[i];
    }
    return gan_mul_scalar(gan__constant(g, weight, 1, 1, 11, 11), 1 / sum);
}

/* SSIM at each place of the window, l*s, or without luminance s alone; x and y are (planes,1,H,W).
   With the means mx and my, the variances vx and vy and the covariance in the window:

     luminance   l = (2 mx my + c1) / (mx^2 + my^2 + c1)          c1 = (0.01 range)^2
     structure   s = (2 covariance + c2) / (vx + vy + c2)         c2 = (0.03 range)^2 */
static gan_tensor *gan__ssim_map(gan_tensor *x, gan_tensor *y, gan_tensor *window, double range,
                                 bool luminance)
{
    gan_real c1 = (gan_real)(1e-4 * range * range);
    gan_real c2 = (gan_real)(9e-4 * range * range);
    gan_tensor *mx = gan_conv2d_f(x, window, NULL, 1, 0, 1);
    gan_tensor *my = gan_conv2d_f(y, window, NULL, 1, 0, 1);
    gan_tensor *mxy = gan_mul(mx, my);
    gan_tensor *mean_squares = gan_add(gan_square(mx), gan_square(my));
    gan_tensor *products = gan_conv2d_f(gan_mul(x, y), window, NULL, 1, 0, 1);
    gan_tensor *squares = gan_add(gan_square(x), gan_square(y));
    gan_tensor *variances = gan_sub(gan_conv2d_f(squares, window, NULL, 1, 0, 1), mean_squares);
    gan_tensor *covariance = gan_sub(products, mxy);
    gan_tensor *s = gan_div(gan_add_scalar(gan_mul_scalar(covariance, 2), c2),
                            gan_add_scalar(variances, c2));
    if (!luminance)
        return s;
    gan_tensor *l = gan_div(gan_add_scalar(gan_mul_scalar(mxy, 2), c1),
                            gan_add_scalar(mean_squares, c1));
    return gan_mul(s, l);
}

/* The mean over all planes of SSIM (scales 1) or of MS-SSIM (scales 5; Wang et al. 2003): the
   structure at each scale, each half as large as the one before it, and the luminance at the last,
   raised to the paper's powers and multiplied. */
static double gan__ssim(const char *function, gan_tensor *a, gan_tensor *b, double range,
                        int scales)
{
    static const double powers[5] = {0.0448, 0.2856, 0.3001, 0.2363, 0.1333};
    int side = 11 << (scales - 1); /* so that the smallest scale has the window's 11 pixels */
    gan__check_likeness(function, a, b, range, side);
    int planes = a->n * a->c;
    double total = 0;
    double *score = (double *)gan__alloc((size_t)planes * sizeof *score);
    gan_mark mark = gan_here(a->g);
    gan_tensor *window = gan__ssim_window(a->g);
    gan_tensor *mean_of_four = gan_full(a->g, 0.25f, 1, 1, 2, 2); /* with stride 2 it halves */
    gan_tensor *x = gan_reshape(a, planes, 1, a->h, a->w);
    gan_tensor *y = gan_reshape(b, planes, 1, a->h, a->w);
    for (int scale = 0; scale < scales; scale++) {
        if (scale > 0) {
            x = gan_conv2d_f(x, mean_of_four, NULL, 2, 0, 1);
            y = gan_conv2d_f(y, mean_of_four, NULL, 2, 0, 1);
        }
        gan_real *mean = gan__means(gan__ssim_map(x, y, window, range, scale == scales - 1));
        for (int i = 0; i < planes; i++) {
            double factor = (double)mean[i];
            if (scales > 1)
                factor = pow(factor < 0 ? 0 : factor, powers[scale]);
            score[i] = scale == 0 ? factor : score[i] * factor;
        }
        GAN_FREE(mean);
    }
    for (int i = 0; i < planes; i++)
        total += score[i] / planes;
    gan_clear_to(a->g, mark);
    GAN_FREE(score);
    return total;
}

GAN_API double gan_psnr(gan_tensor *a, gan_tensor *b, double range)
{
    gan__check_likeness("gan_psnr", a, b, range, 1);
    gan_mark mark = gan_here(a->g);
    gan_real *mean = gan__means(gan_square(gan_sub(a, b)));
    double total = 0;
    for (int i = 0; i < a->n; i++)
        total += 10 * log10(range * range / (double)mean[i]) / a->n;
    GAN_FREE(mean);
    gan_clear_to(a->g, mark);
    return total;
}

GAN_API double gan_ssim(gan_tensor *a, gan_tensor *b, double range)
{
    return gan__ssim("gan_ssim", a, b, range, 1);
}

GAN_API double gan_ms_ssim(gan_tensor *a, gan_tensor *b, double range)
{
    return gan__ssim("gan_ms_ssim", a, b, range, 5);
}

/* ===========================================================================================
   >>files (implementation)
   ===========================================================================================
   Writing. A file is complete under its name, or not there: it is written under another name in
   the same folder, flushed to the disk, and renamed.

       out/model.safetensors -> ../best/model.safetensors      the path, a symbolic link
       best/.gan-5be0cd19137e2179.tmp                          written first, then renamed to ..
       best/model.safetensors                                  .. the target, with its old mode

   The random name and O_EXCL give each writer a file of its own, so that two programs that save
   to one path cannot mix; the one that renames last stays. A writer that was killed leaves its
   temporary file behind. It held a lock on it, which has gone with the process: the next writer
   in that folder takes every lock that is free and removes the file. */

#if defined(GAN__POSIX) && defined(__STRICT_ANSI__) && !defined(__cplusplus)
/* gcc -std=c99 hides what is not of the C standard; declared twice it does no harm. */
extern ssize_t readlink(const char *path, char *to, size_t size);
#endif

enum { GAN__TEMPORARY_LENGTH = 25 }; /* of .gan-0123456789abcdef.tmp */

typedef struct {
    const char *path; /* as the caller said it, for messages */
    char *target;     /* path, its symbolic links followed */
    char *temporary;  /* FOLDER/.gan-0123456789abcdef.tmp */
    FILE *file;
    int lock;  /* a second descriptor of the temporary file, which holds the lock */
    long mode; /* permissions of the file that the new one replaces, or -1 */
    bool failed;
    int error; /* errno of the first failure */
} gan__writer;

/* path, or where it leads if it is a symbolic link, in new memory. NULL and errno if it leads
   nowhere. A target that is not there yet is none of its business. */
static char *gan__follow_links(const char *path)
{
    char *target = (char *)gan__try_alloc(strlen(path) + 1);
    if (!target) {
        errno = ENOMEM;
        return NULL;
    }
    strcpy(target, path);
#ifdef GAN__POSIX
    char to[4096];
    ssize_t length;
    for (int links = 0; (length = readlink(target, to, sizeof to)) >= 0; links++) {
        const char *slash = strrchr(target, '/');
        size_t folder = slash && to[0] != '/' ? (size_t)(slash + 1 - target) : 0;
        bool fits = links < 40 && length < (ssize_t)sizeof to;
        char *next = fits ? (char *)gan__try_alloc(folder + (size_t)length + 1) : NULL;
        if (next) {
            memcpy(next, target, folder);
            memcpy(next + folder, to, (size_t)length);
            next[folder + (size_t)length] = 0;
        }
        GAN_FREE(target);
        target = next;
        if (!target) {
            errno = fits ? ENOMEM : ELOOP;
            return NULL;
        }
    }
#endif
    return target;
}

/* How much of a path is its folder, with the last slash. */
static size_t gan__folder_length(const char *path)
{
    const char *slash = strrchr(path, '/');
#ifdef _WIN32
    const char *back = strrchr(path, '\\');
    slash = !slash || (back && back > slash) ? back : slash;
#endif
    return slash ? (size_t)(slash + 1 - path) : 0;
}

/* A new file beside the target that no other program has, locked. False and errno if there is
   none. */
static bool gan__create_temporary(gan__writer *w)
{
    size_t folder = gan__folder_length(w->target);
    w->temporary = (char *)gan__try_alloc(folder + GAN__TEMPORARY_LENGTH + 1);
    if (!w->temporary) {
        errno = ENOMEM;
        return false;
    }
    memcpy(w->temporary, w->target, folder);
    for (int attempt = 0; attempt < 100; attempt++) {
        uint32_t word[4];
        uint64_t process = (uint64_t)(uintptr_t)w;
#ifdef GAN__POSIX
        process += (uint64_t)getpid() << 32;
#endif
        gan__philox((uint64_t)(gan__now() * 1e6), process, (uint64_t)attempt, word);
        sprintf(w->temporary + folder, ".gan-%08" PRIx32 "%08" PRIx32 ".tmp", word[0], word[1]);
#if defined(GAN__POSIX)
        struct stat about;
        w->lock = open(w->temporary, O_CREAT | O_EXCL | O_RDWR, w->mode < 0 ? 0666 : 0600);
        if (w->lock >= 0) {
            /* Between open and flock another program may have taken it for a dead one's. */
            bool mine = flock(w->lock, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
            if (mine && (fstat(w->lock, &about) != 0 || about.st_nlink > 0))
                return true;
            close(w->lock);
            w->lock = -1;
            errno = EEXIST;
        }
#elif defined(_WIN32)
        w->lock = _open(w->temporary, _O_CREAT | _O_EXCL | _O_RDWR, _S_IREAD | _S_IWRITE);
        if (w->lock >= 0) {
            _close(w->lock);
            return true;
        }
#else
        return true;
#endif
        if (errno != EEXIST)
            return false;
    }
    return false;
}

/* Removes what killed writers have left in the folder of w->temporary, whose text is overwritten.
   A living writer holds the lock on its file. */
static void gan__remove_abandoned(gan__writer *w)
{
#ifdef GAN__POSIX
    char *name = w->temporary + gan__folder_length(w->temporary);
    *name = 0;
    DIR *folder = opendir(*w->temporary ? w->temporary : ".");
    for (struct dirent *entry; folder && (entry = readdir(folder)) != NULL;) {
        const char *found = entry->d_name;
        if (strlen(found) != GAN__TEMPORARY_LENGTH || strncmp(found, ".gan-", 5) != 0 ||
            strspn(found + 5, "0123456789abcdef") != 16 || strcmp(found + 21, ".tmp") != 0)
            continue;
        strcpy(name, found);
        int lock = open(w->temporary, O_RDONLY | O_NONBLOCK);
        if (lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) == 0)
            unlink(w->temporary);
        if (lock >= 0)
            close(lock);
    }
    if (folder)
        closedir(folder);
#else
    (void)w;
#endif
}

static bool gan__write_begin(gan__writer *w, const char *path)
{
    size_t size;
    memset(w, 0, sizeof *w);
    w->path = path;
    w->lock = w->mode = -1;
    w->target = gan__follow_links(path);
    gan__file_kind kind = GAN__UNREADABLE;
    if (w->target)
        kind = gan__examine_file(w->target, &size, &w->mode);
    if (kind == GAN__IRREGULAR) {
        gan__refuse("%s: %s", path, gan__irregular);
    } else if (kind == GAN__UNREADABLE || !gan__create_temporary(w)) {
        gan__refuse("%s: it could not be written: %s", path, strerror(errno));
    } else {
        w->file = fopen(w->temporary, "wb");
        if (w->file)
            return true;
        gan__refuse("%s: it could not be written: %s", path, strerror(errno));
        remove(w->temporary);
    }
#ifdef GAN__POSIX
    if (w->lock >= 0)
        close(w->lock);
#endif
    GAN_FREE(w->temporary);
    GAN_FREE(w->target);
    return false;
}

static void gan__write_note(gan__writer *w, bool done, int error)
{
    if (!done && !w->failed) {
        w->failed = true;
        w->error = error;
    }
}

static void gan__write(gan__writer *w, const void *data, size_t n)
{
    if (!w->failed)
        gan__write_note(w, fwrite(data, 1, n, w->file) == n, errno);
}

/* To the disk, not only to the system: else a power cut could leave the new name on an empty
   file. path: the folder, which holds the name, or NULL. */
static bool gan__sync(const char *path, int descriptor)
{
#ifdef GAN__POSIX
    int folder = path ? open(path, O_RDONLY) : -1;
    bool done = fsync(path ? folder : descriptor) == 0;
    if (folder >= 0)
        close(folder);
    return done;
#else
    (void)path;
    (void)descriptor;
    return true;
#endif
}

#ifdef _WIN32
__declspec(dllimport) int __stdcall MoveFileExA(const char *from, const char *to,
                                                unsigned long flags);
#endif

static bool gan__rename(const char *from, const char *to)
{
#ifdef _WIN32
    return MoveFileExA(from, to, 1 | 8) != 0; /* replace, and write through */
#else
    return rename(from, to) == 0;
#endif
}

/* False, the target is as it was, and no temporary file is left, if anything went wrong since
   gan__write_begin. */
static bool gan__write_end(gan__writer *w)
{
    gan__write_note(w, fflush(w->file) == 0, errno);
    if (!w->failed)
        gan__write_note(w, gan__sync(NULL, w->lock), errno);
    gan__write_note(w, fclose(w->file) == 0, errno);
#ifdef GAN__POSIX
    if (!w->failed && w->mode >= 0)
        (void)!chmod(w->temporary, (mode_t)w->mode); /* some file systems have no permissions */
#endif
    if (!w->failed)
        gan__write_note(w, gan__rename(w->temporary, w->target), errno);
    if (w->failed) {
        remove(w->temporary);
        gan__refuse("%s: it could not be written: %s", w->path, strerror(w->error));
    } else {
        /* The target is the old file or the new one, whole, also where a folder cannot be
           flushed. */
        size_t folder = gan__folder_length(w->target);
        w->target[folder] = 0;
        gan__sync(folder ? w->target : ".", -1);
        gan__remove_abandoned(w);
    }
#ifdef GAN__POSIX
    close(w->lock);
#endif
    GAN_FREE(w->temporary);
    GAN_FREE(w->target);
    return !w->failed;
}

/* A text of any length, put together piece by piece. */
typedef struct {
    char *at;
    size_t length, size;
    bool failed; /* there was no memory */
} gan__text;

GAN__PRINTF(2, 3) static void gan__text_add(gan__text *text, const char *format, ...)
{
    while (!text->failed) {
        size_t left = text->size - text->length;
        va_list list;
        va_start(list, format);
        int length = vsnprintf(left ? text->at + text->length : NULL, left, format, list);
        va_end(list);
        if (length >= 0 && (size_t)length < left) {
            text->length += (size_t)length;
            return;
        }
        size_t size = 2 * (text->length + (size_t)GAN__MAX(length, 0) + 64);
        char *larger = length < 0 ? NULL : (char *)gan__try_alloc(size);
        text->failed = larger == NULL;
        if (larger && text->length)
            memcpy(larger, text->at, text->length);
        if (larger) {
            GAN_FREE(text->at);
            text->at = larger;
            text->size = size;
        }
    }
}

/* ---- safetensors, out (github.com/huggingface/safetensors). A file of a convolution's weight
   (16,1,4,4) and bias (16):

       offset 0    8        the length of the header, 64 bits little-endian: here 192
              8             the header, JSON, filled up with spaces to a multiple of 8:
                   {"__metadata__":{"format":"pt"},
                    "conv.weight":{"dtype":"F32","shape":[16,1,4,4],"data_offsets":[0,1024]},
                    "conv.bias":{"dtype":"F32","shape":[16],"data_offsets":[1024,1088]}}
            200             1024 bytes: 256 numbers of conv.weight, little-endian
           1224             64 bytes: 16 numbers of conv.bias; the file ends where they end

   Offsets are counted from the header's end, and leave no gaps. */

typedef struct {
    gan_tensor *tensor;
    double number; /* what is saved, with rank 0, where tensor is NULL */
} gan__item;

typedef struct {
    gan__text header;
    gan__item *items;
    int count;
    uint64_t bytes; /* of all items so far */
    size_t largest; /* numbers of the largest tensor */
    bool half;      /* as F16 */
} gan__list;

static size_t gan__item_size(const gan_tensor *t, bool half)
{
    return t ? gan_count(t) * (half ? 2 : sizeof(gan_real)) : sizeof(double);
}

/* s inside a JSON string: quotes, backslashes and control characters escaped. */
static void gan__text_add_json(gan__text *text, const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s < 32)
            gan__text_add(text, "\\u%04x", (unsigned char)*s);
        else
            gan__text_add(text, *s == '"' || *s == '\\' ? "\\%c" : "%c", *s);
}

/* The metadata's list of a model's buffers, what is no parameter: MODEL.NAME, a line for each.
   count: how many so far. */
static void gan__list_add_buffers(gan__list *list, const char *model, const gan_model *of,
                                  int *count)
{
    for (int i = 0; i < of->count; i++) {
        if (of->params[i].trainable)
            continue;
        gan__text_add_json(&list->header, (*count)++ ? "\n" : "");
        gan__text_add_json(&list->header, model ? model : "");
        gan__text_add_json(&list->header, model ? "." : "");
        gan__text_add_json(&list->header, of->params[i].name);
    }
}

/* Adds tensor, or number if that is NULL, under the name MODEL.NAMESUFFIX, or NAME if model is
   NULL. A tensor of odd rank goes without its N: a bias (1,C,1,1) of rank 1 is [C]. */
static void gan__list_add(gan__list *list, const char *model, const char *name, const char *suffix,
                          int rank, gan_tensor *tensor, double number)
{
    gan__text *header = &list->header;
    gan__item *items = (gan__item *)gan__try_grow(list->items, (size_t)list->count, sizeof *items);
    if (!items) {
        header->failed = true;
        return;
    }
    list->items = items;
    items[list->count].tensor = tensor;
    items[list->count++].number = number;

    const int shape[4] = {tensor ? tensor->n : 0, tensor ? tensor->c : 0, tensor ? tensor->h : 0,
                          tensor ? tensor->w : 0};
    const char *type = list->half ? "F16" : tensor && sizeof(gan_real) == 4 ? "F32" : "F64";
    gan__text_add(header, ",\"");
    if (model) {
        gan__text_add_json(header, model);
        gan__text_add(header, ".");
    }
    gan__text_add_json(header, name);
    gan__text_add(header, "%s\":{\"dtype\":\"%s\",\"shape\":[", suffix, type);
    int first = rank % 2; /* 1, C, if the rank is odd; 0, N, if not */
    for (int d = 0; tensor && d < rank; d++)
        gan__text_add(header, d ? ",%d" : "%d", shape[first + d]);
    gan__text_add(header, "],\"data_offsets\":[%" PRIu64 ",", list->bytes);
    list->bytes += gan__item_size(tensor, list->half);
    gan__text_add(header, "%" PRIu64 "]}", list->bytes);
    if (tensor)
        list->largest = GAN__MAX(list->largest, gan_count(tensor));
}

/* x as F16 (IEEE 754 binary16), rounded to nearest, ties to even:

       15   14 .. 10   9 .. 0
       sign exponent   mantissa      exponent 1 .. 30: (1 + mantissa/1024) * 2^(exponent - 15)
                                     exponent 0:       mantissa * 2^-24
                                     exponent 31:      infinity, or with a mantissa not a number

   In the formula below, power is the one with 2^(power - 1) <= |x| < 2^power, and at least -13.
   The numbers there are 2^(power - 11) apart, so |x| is 1024 .. 2047 of these steps, and fewer
   below 2^-14. The leading 1024 counts as one more in the exponent's bits, and so does a mantissa
   that is rounded up to 2048. */
static uint16_t gan__to_half(double x)
{
    const double smallest_normal = 1.0 / 16384; /* 2^-14 */
    const double rounds_to_infinity = 65520;    /* half a step above the largest number, 65504 */
    double size = fabs(x);
    int power = -13;
    int bits;
    if (size >= smallest_normal && size < rounds_to_infinity)
        frexp(size, &power);
    if (size < rounds_to_infinity)
        bits = (power + 13) * 1024 + (int)rint(ldexp(size, 11 - power));
    else if (size >= rounds_to_infinity)
        bits = 0x7c00;
    else
        bits = 0x7e00; /* not a number */
    return (uint16_t)(bits | (signbit(x) ? 0x8000 : 0));
}

/* The number whose F16 is bits. */
static double gan__from_half(uint16_t bits)
{
    int exponent = bits >> 10 & 31;
    int mantissa = bits & 1023;
    int steps = exponent ? 1024 + mantissa : mantissa;
    double size = ldexp(steps, GAN__MAX(exponent, 1) - 25);
    if (exponent == 31)
        size = mantissa ? NAN : INFINITY;
    return bits & 0x8000 ? -size : size;
}

/* Makes numbers F16, in the same memory. A finite number too large for F16 makes the writing
   fail. */
static void gan__convert_to_half(gan__writer *w, gan_real *numbers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint16_t bits = gan__to_half((double)numbers[i]);
        bool became_infinite = (bits & 0x7fff) == 0x7c00;
        bool too_large = became_infinite && fabs((double)numbers[i]) <= DBL_MAX;
        gan__write_note(w, !too_large, ERANGE);
        memcpy((char *)numbers + 2 * i, &bits, 2);
    }
}

/* Writes the header's length in 8 bytes, little-endian, the header, and each item's numbers.
   numbers: memory for those of the largest tensor. */
static void gan__list_write_to(gan__writer *w, gan__list *list, gan_real *numbers)
{
    unsigned char length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)((uint64_t)list->header.length >> 8 * i);
    gan__write(w, length, 8);
    gan__write(w, list->header.at, list->header.length);
    for (int i = 0; i < list->count && !w->failed; i++) {
        gan_tensor *t = list->items[i].tensor;
        void *data = &list->items[i].number;
        if (t) {
            data = numbers;
            gan_to_host(t, numbers);
        }
        if (t && list->half)
            gan__convert_to_half(w, numbers, gan_count(t));
        gan__write(w, data, gan__item_size(t, list->half));
    }
}

/* Writes the file, and frees the list. Spaces after the header make its length a multiple of 8, so
   that the numbers are aligned. */
static bool gan__list_write(gan__list *list, const char *path)
{
    gan__writer w;
    gan__text_add(&list->header, "}");
    while (list->header.length % 8 != 0 && !list->header.failed)
        gan__text_add(&list->header, " ");
    gan_real *numbers = (gan_real *)gan__try_alloc(list->largest * sizeof *numbers);
    bool done = numbers && !list->header.failed;
    if (!done)
        gan__refuse("%s: no memory to write it", path);
    else if ((done = gan__write_begin(&w, path))) {
        gan__list_write_to(&w, list, numbers);
        done = gan__write_end(&w);
    }
    GAN_FREE(numbers);
    GAN_FREE(list->header.at);
    GAN_FREE(list->items);
    return done;
}

/* ---- safetensors, in. Nothing in a file is believed before it is checked, and nothing is
   changed before all is checked, read and given its memory:

       gan__tensors_read     the header, its checks against the file's size, then the numbers
       gan__model_fits       names and shapes against the model's; each entry learns where it goes
       gan__make_room        memory for parameters and moments that are not there yet
       gan__tensors_copy     numbers into the model; this cannot fail */

typedef struct {
    char *name, *dtype;
    int rank, shape[4];  /* (N,C,H,W): [C] is (1,C,1,1) */
    uint64_t begin, end; /* bytes of the data */
    gan_tensor *to;      /* where its numbers go, or NULL */
    double *steps;       /* or where its one number goes, or NULL */
    gan_model *made_in;  /* the model that got a parameter for it, or NULL */
    bool buffer;         /* the metadata lists it as one */
} gan__entry;

typedef struct {
    const char *path;
    char *header;   /* names and texts lie in it, unescaped in place */
    char *at, *end; /* the part of the header that is still to be read */
    const char *problem;
    unsigned char *data;
    uint64_t data_size;
    gan__entry *entries; /* in the order of their data */
    gan__entry **by_name;
    char *(*meta)[2];  /* __metadata__: names and texts */
    gan_real *numbers; /* of one entry, converted */
    int count, meta_count;
} gan__tensors;

/* Keeps the first problem found in the header. Always false, for the caller to return. */
static bool gan__json_problem(gan__tensors *f, const char *problem)
{
    if (!f->problem)
        f->problem = problem;
    return false;
}

static const char gan__no_memory[] = "no memory for what it holds";

/* Skips white space. */
static void gan__json_space(gan__tensors *f)
{
    while (f->at < f->end && *f->at && strchr(" \n\t\r", *f->at))
        f->at++;
}

/* Skips c, if it is next after white space. */
static bool gan__json_accept(gan__tensors *f, char c)
{
    gan__json_space(f);
    if (f->at == f->end || *f->at != c)
        return false;
    f->at++;
    return true;
}

/* Skips c; it is a problem if that is not next. */
static bool gan__json_expect(gan__tensors *f, char c)
{
    return gan__json_accept(f, c) ||
           gan__json_problem(f, "its header is not the JSON of safetensors");
}

/* The number XXXX of \uXXXX. f->at goes from the u to the last digit. -1: not four digits. */
static long gan__json_hex_digits(gan__tensors *f)
{
    char digits[5] = {0};
    if (f->end - f->at < 5)
        return -1;
    memcpy(digits, f->at + 1, 4);
    f->at += 4;
    return strspn(digits, "0123456789abcdefABCDEF") == 4 ? strtol(digits, NULL, 16) : -1;
}

/* code, a Unicode character, as 1 to 4 bytes of UTF-8 at to; returns the end. The first byte tells
   how many follow; each byte after it holds 6 bits:

       0xxxxxxx   110xxxxx 10xxxxxx   1110xxxx 10xxxxxx 10xxxxxx   11110xxx and three more */
static char *gan__put_utf8(long code, char *to)
{
    static const unsigned char mark[4] = {0, 0xC0, 0xE0, 0xF0};
    int following = 3;
    if (code < 0x80)
        following = 0;
    else if (code < 0x800)
        following = 1;
    else if (code < 0x10000)
        following = 2;
    *to++ = (char)(mark[following] | code >> 6 * following);
    while (following-- > 0)
        *to++ = (char)(0x80 | (code >> 6 * following & 0x3F));
    return to;
}

/* Puts the character of an escape as UTF-8 at to, which is never longer than the escape, and
   returns the end. f->at goes from what follows the backslash to the escape's last character. NULL
   if there is no such character.

   A character beyond 16 bits is two escapes, a high surrogate D800 .. DBFF and a low one DC00 ..
   DFFF, with 10 bits in each; one alone is no character. */
static char *gan__json_escape(gan__tensors *f, char *to)
{
    static const char from[] = "bfnrt\"\\/";
    static const char into[] = "\b\f\n\r\t\"\\/";
    const char *found = *f->at ? strchr(from, *f->at) : NULL;
    long code = -1;
    if (found)
        code = into[found - from];
    else if (*f->at == 'u')
        code = gan__json_hex_digits(f);
    bool high = code >= 0xD800 && code < 0xDC00;
    if (high && f->end - f->at > 2 && f->at[1] == '\\' && f->at[2] == 'u') {
        f->at += 2;
        long low = gan__json_hex_digits(f);
        if (low < 0xDC00 || low > 0xDFFF)
            return NULL;
        code = 0x10000 + (code - 0xD800) * 1024 + (low - 0xDC00);
    }
    if (code < 1 || (code >= 0xD800 && code <= 0xDFFF))
        return NULL;
    return gan__put_utf8(code, to);
}

/* A string without its quotes and escapes, in the header's own memory. NULL: there is a problem. */
static char *gan__json_text(gan__tensors *f)
{
    if (!gan__json_expect(f, '"'))
        return NULL;
    char *text = f->at;
    char *to = text;
    for (; f->at < f->end && *f->at != '"'; f->at++) {
        if ((unsigned char)*f->at < 32) {
            gan__json_problem(f, "a text in its header holds a control character");
            return NULL;
        }
        if (*f->at != '\\') {
            *to++ = *f->at;
            continue;
        }
        f->at++;
        to = f->at < f->end ? gan__json_escape(f, to) : NULL;
        if (!to) {
            gan__json_problem(f, "a text in its header holds an escape that means no character");
            return NULL;
        }
    }
    if (!gan__json_expect(f, '"'))
        return NULL;
    *to = 0;
    return text;
}

/* Reads an array of whole numbers, [16,1,4,4], each 0 or more, and returns how many there are. -1:
   there are more than most, or it is not such an array. */
static int gan__json_numbers(gan__tensors *f, int64_t *to, int most)
{
    int count = 0;
    if (!gan__json_expect(f, '[') || gan__json_accept(f, ']'))
        return f->problem ? -1 : 0;
    do {
        int64_t value = 0;
        gan__json_space(f);
        const char *start = f->at;
        for (; f->at < f->end && *f->at >= '0' && *f->at <= '9'; f->at++) {
            if (value > INT64_MAX / 16) { /* another digit might not fit */
                gan__json_problem(f, "a number in its header is too large");
                return -1;
            }
            value = value * 10 + (*f->at - '0');
        }
        if (f->at == start) {
            gan__json_problem(f, "a size in its header is not a whole number");
            return -1;
        }
        if (count == most)
            return -1;
        to[count++] = value;
    } while (gan__json_accept(f, ','));
    return gan__json_expect(f, ']') ? count : -1;
}

/* The next name of an object {"name":value,"name":value}, with its brace or comma before it and
   its colon; the caller reads the value. NULL at the end, or where there is a problem. seen: has
   this object had a name yet? False in the first call for it. */
static char *gan__json_key(gan__tensors *f, bool *seen)
{
    if (f->problem)
        return NULL;
    if (!*seen && (!gan__json_expect(f, '{') || gan__json_accept(f, '}')))
        return NULL;
    if (*seen && !gan__json_accept(f, ',')) {
        gan__json_expect(f, '}');
        return NULL;
    }
    *seen = true;
    char *key = gan__json_text(f);
    return key && gan__json_expect(f, ':') ? key : NULL;
}

/* Reads [16,1,4,4] as (16,1,4,4); an odd rank lacks N, which becomes 1: [16] is (1,16,1,1). */
static bool gan__json_shape(gan__tensors *f, gan__entry *entry)
{
    int64_t size[4] = {0};
    double count = 1;
    entry->rank = gan__json_numbers(f, size, 4);
    int first = entry->rank % 2; /* 1, C, if the rank is odd; 0, N, if not */
    bool fits = entry->rank >= 0;
    for (int d = 0; d < 4; d++)
        entry->shape[d] = 1;
    for (int d = 0; d < entry->rank; d++) {
        fits = fits && size[d] >= 1 && size[d] <= INT32_MAX;
        entry->shape[first + d] = (int)GAN__MIN(size[d], INT32_MAX);
        count *= (double)size[d];
    }
    return (fits && count <= INT32_MAX) ||
           gan__json_problem(f, "a tensor in its header has more than 4 dimensions, an impossible "
                                "size or 2^31 numbers and more");
}

/* {"dtype":"F32","shape":[..],"data_offsets":[begin,end]}, in any order */
static bool gan__json_entry(gan__tensors *f, gan__entry *entry)
{
    static const char *const names[] = {"dtype", "shape", "data_offsets"};
    bool seen = false;
    int fields = 0; /* bit i: names[i] has come */
    for (char *key; (key = gan__json_key(f, &seen)) != NULL;) {
        int64_t offset[2] = {0, 0};
        int field = 0;
        while (field < 3 && strcmp(key, names[field]) != 0)
            field++;
        if (field == 3 || (fields & 1 << field))
            return gan__json_problem(f, "a tensor in its header has an unknown or a double field");
        fields |= 1 << field;
        if (field == 0 && !(entry->dtype = gan__json_text(f)))
            return false;
        if (field == 1 && !gan__json_shape(f, entry))
            return false;
        if (field == 2 && (gan__json_numbers(f, offset, 2) != 2 || offset[1] < offset[0]))
            return gan__json_problem(f, "a tensor in its header has impossible offsets");
        if (field == 2) {
            entry->begin = (uint64_t)offset[0];
            entry->end = (uint64_t)offset[1];
        }
    }
    return !f->problem &&
           (fields == (1 | 2 | 4) ||
            gan__json_problem(f, "a tensor in its header lacks dtype, shape or data_offsets"));
}

/* Reads {"name":"text", ..} into f->meta. */
static void gan__json_meta(gan__tensors *f)
{
    bool seen = false;
    for (char *key, *text; (key = gan__json_key(f, &seen)) != NULL;) {
        char *(*meta)[2] = (char *(*)[2])gan__try_grow(f->meta, (size_t)f->meta_count,
                                                       sizeof *meta);
        if (!meta) {
            gan__json_problem(f, gan__no_memory);
            return;
        }
        f->meta = meta;
        text = gan__json_text(f);
        meta[f->meta_count][0] = key;
        meta[f->meta_count][1] = text;
        f->meta_count += text != NULL;
    }
}

/* Reads the whole header into f->entries and f->meta. False: f->problem tells why. */
static bool gan__json_header(gan__tensors *f)
{
    bool seen = false;
    for (char *key; (key = gan__json_key(f, &seen)) != NULL;) {
        if (strcmp(key, "__metadata__") == 0) {
            gan__json_meta(f);
            continue;
        }
        gan__entry *entries = (gan__entry *)gan__try_grow(f->entries, (size_t)f->count,
                                                          sizeof *entries);
        if (!entries)
            return gan__json_problem(f, gan__no_memory);
        f->entries = entries;
        for (const char *c = key; *c; c++)
            if ((unsigned char)*c < 32)
                return gan__json_problem(f, "a name in its header holds a control character");
        memset(&entries[f->count], 0, sizeof *entries);
        entries[f->count].name = key;
        gan__json_entry(f, &entries[f->count++]);
    }
    gan__json_space(f);
    return !f->problem &&
           (f->at == f->end || gan__json_problem(f, "its header goes on after its end"));
}

/* For qsort: entries in the order of their data. */
static int gan__by_begin(const void *a, const void *b)
{
    const gan__entry *x = (const gan__entry *)a;
    const gan__entry *y = (const gan__entry *)b;
    return x->begin < y->begin ? -1 : x->begin > y->begin;
}

static int gan__by_entry_name(const void *a, const void *b)
{
    return strcmp((*(gan__entry *const *)a)->name, (*(gan__entry *const *)b)->name);
}

/* How many bytes a number of the entry's type has; 0 for an unknown type. */
static int gan__entry_bytes(const gan__entry *entry)
{
    static const char *const names[] = {"F64",  "I64", "U64", "F32", "I32", "U32", "F16",
                                        "BF16", "I16", "U16", "I8",  "U8",  "BOOL"};
    static const int bytes[] = {8, 8, 8, 4, 4, 4, 2, 2, 2, 2, 1, 1, 1};
    for (int i = 0; i < 13; i++)
        if (strcmp(entry->dtype, names[i]) == 0)
            return bytes[i];
    return 0;
}

/* How many numbers the entry has. */
static size_t gan__entry_count(const gan__entry *e)
{
    return (size_t)e->shape[0] * e->shape[1] * e->shape[2] * e->shape[3];
}

/* Tensors lie one behind the other, each as long as its shape says, and fill the file; no name
   stands twice. */
static bool gan__tensors_check(gan__tensors *f)
{
    uint64_t at = 0; /* where the next tensor must begin */
    f->by_name = (gan__entry **)gan__try_alloc((size_t)f->count * sizeof *f->by_name);
    if (!f->by_name)
        return gan__refuse("%s: %s", f->path, gan__no_memory);
    if (f->count)
        qsort(f->entries, (size_t)f->count, sizeof *f->entries, gan__by_begin);
    for (int i = 0; i < f->count; i++) {
        gan__entry *e = f->by_name[i] = &f->entries[i];
        uint64_t size = (uint64_t)gan__entry_bytes(e) * gan__entry_count(e);
        if (size == 0)
            return gan__refuse("%s: \"%.200s\" is of the unknown type %.20s", f->path, e->name,
                               e->dtype);
        if (e->begin != at || size != e->end - e->begin)
            return gan__refuse(
                "%s: \"%.200s\" does not lie where its shape and the tensor before it say", f->path,
                e->name);
        at = e->end;
    }
    if (at != f->data_size)
        return gan__refuse("%s: its header promises %.0f bytes of data, there are %.0f", f->path,
                           (double)at, (double)f->data_size);
    if (f->count)
        qsort(f->by_name, (size_t)f->count, sizeof *f->by_name, gan__by_entry_name);
    for (int i = 1; i < f->count; i++)
        if (strcmp(f->by_name[i - 1]->name, f->by_name[i]->name) == 0)
            return gan__refuse("%s: \"%.200s\" stands in its header twice", f->path,
                               f->by_name[i]->name);
    return true;
}

static void gan__tensors_free(gan__tensors *f)
{
    GAN_FREE(f->header);
    GAN_FREE(f->data);
    GAN_FREE(f->entries);
    GAN_FREE(f->by_name);
    GAN_FREE(f->meta);
    GAN_FREE(f->numbers);
}

/* The header with its checks, then the numbers, so that a file that promises more than it holds
   costs no memory. */
static bool gan__tensors_parse(gan__tensors *f, FILE *file, size_t size)
{
    unsigned char first[8] = {0};
    uint64_t length = 0;
    if (size >= 8 && fread(first, 1, 8, file) == 8)
        length = gan__from_little_endian(first) | (uint64_t)gan__from_little_endian(first + 4)
                                                      << 32;
    if (length > 100000000)
        return gan__refuse(
            "%s: not a safetensors file: it begins with a header of %.0f bytes, and 100 "
            "million are the format's limit",
            f->path, (double)length);
    if (size < 8 || length > size - 8)
        return gan__refuse(
            "%s: not a safetensors file, or truncated: %.0f bytes, a header of %.0f promised",
            f->path, (double)size, (double)length);
    f->data_size = size - 8 - length;
    f->header = (char *)gan__try_alloc((size_t)length + 1);
    if (!f->header)
        return gan__refuse("%s: %s", f->path, gan__no_memory);
    if (fread(f->header, 1, (size_t)length, file) != length)
        return gan__refuse("%s: it cannot be read", f->path);
    f->at = f->header;
    f->end = f->header + length;
    *f->end = 0;
    if (!gan__json_header(f))
        return gan__refuse("%s: %s", f->path, f->problem);
    if (!gan__tensors_check(f))
        return false;

    size_t most = 1;
    for (int i = 0; i < f->count; i++)
        most = GAN__MAX(most, gan__entry_count(&f->entries[i]));
    f->data = (unsigned char *)gan__try_alloc((size_t)f->data_size);
    f->numbers = (gan_real *)gan__try_alloc(most * sizeof *f->numbers);
    if (!f->data || !f->numbers)
        return gan__refuse("%s: %s", f->path, gan__no_memory);
    return fread(f->data, 1, (size_t)f->data_size, file) == f->data_size ||
           gan__refuse("%s: it cannot be read", f->path);
}

static bool gan__values_fit(const gan__tensors *f);
static void gan__note_buffers(gan__tensors *f);

static bool gan__tensors_read(gan__tensors *f, const char *path)
{
    size_t size = 0;
    memset(f, 0, sizeof *f);
    f->path = path;
    FILE *file = gan__open_file(path, &size);
    if (!file)
        return false;
    bool done = gan__tensors_parse(f, file, size);
    fclose(file);
    if (done)
        gan__note_buffers(f);
    done = done && gan__values_fit(f);
    if (!done)
        gan__tensors_free(f);
    return done;
}

/* As strcmp(MODEL.NAMESUFFIX, entry), or of NAMESUFFIX if model is NULL; NAME is length
   characters of name. */
static int gan__compare_name(const char *model, const char *name, size_t length, const char *suffix,
                             const char *entry)
{
    const char *const parts[4] = {model ? model : "", model ? "." : "", name, suffix};
    const size_t lengths[4] = {strlen(parts[0]), strlen(parts[1]), length, strlen(suffix)};
    for (int i = 0; i < 4; i++) {
        int order = strncmp(parts[i], entry, lengths[i]);
        if (order != 0)
            return order;
        entry += lengths[i];
    }
    return *entry ? -1 : 0;
}

static gan__entry *gan__tensors_find_part(const gan__tensors *f, const char *model,
                                          const char *name, size_t length, const char *suffix)
{
    int low = 0, high = f->count;
    while (low < high) {
        int middle = low + (high - low) / 2;
        int order = gan__compare_name(model, name, length, suffix, f->by_name[middle]->name);
        if (order == 0)
            return f->by_name[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

static gan__entry *gan__tensors_find(const gan__tensors *f, const char *model, const char *name,
                                     const char *suffix)
{
    return gan__tensors_find_part(f, model, name, strlen(name), suffix);
}

static const char *gan__tensors_meta(const gan__tensors *f, const char *name)
{
    for (int i = 0; i < f->meta_count; i++)
        if (strcmp(f->meta[i][0], name) == 0)
            return f->meta[i][1];
    return NULL;
}

/* Marks the entries that the metadata lists as buffers, a line for each. */
static void gan__note_buffers(gan__tensors *f)
{
    const char *line = gan__tensors_meta(f, "buffers");
    while (line && *line) {
        size_t length = strcspn(line, "\n");
        gan__entry *e = gan__tensors_find_part(f, NULL, line, length, "");
        if (e)
            e->buffer = true;
        line += length + (line[length] == '\n');
    }
}

/* What is wrong with a file, for one message: the first three things, and how many. */
typedef struct {
    char text[900];
    int count;
} gan__wrongs;

GAN__PRINTF(2, 3) static void gan__wrong(gan__wrongs *wrongs, const char *format, ...)
{
    size_t length = strlen(wrongs->text);
    va_list list;
    va_start(list, format);
    if (wrongs->count > 0 && wrongs->count < 3) {
        strcpy(wrongs->text + length, "; ");
        length += 2;
    }
    if (wrongs->count++ < 3)
        vsnprintf(wrongs->text + length, sizeof wrongs->text - length, format, list);
    va_end(list);
}

static bool gan__wrongs_refuse(const gan__tensors *f, const gan__wrongs *wrongs)
{
    if (wrongs->count > 3)
        return gan__refuse("%s: %s and %d more", f->path, wrongs->text, wrongs->count - 3);
    return wrongs->count == 0 || gan__refuse("%s: %s", f->path, wrongs->text);
}

/* F16, BF16, F32, F64 and U8 are read. */
static bool gan__entry_readable(const gan__entry *e)
{
    return e->dtype[0] == 'F' || strcmp(e->dtype, "BF16") == 0 || strcmp(e->dtype, "U8") == 0;
}

/* Notes in wrongs if an entry is of a type that is not read, or, where t is not NULL, not of t's
   shape. */
static void gan__entry_fits(const gan__entry *e, const gan_tensor *t, gan__wrongs *wrongs)
{
    const int *s = e->shape;
    if (!gan__entry_readable(e))
        gan__wrong(wrongs, "\"%.150s\" is %s, which is not read: F16, BF16, F32, F64 and U8 are",
                   e->name, e->dtype);
    else if (t && (s[0] != t->n || s[1] != t->c || s[2] != t->h || s[3] != t->w))
        gan__wrong(wrongs, "\"%.150s\" is " GAN__DIMS " in the file and " GAN__DIMS " in the model",
                   e->name, s[0], s[1], s[2], s[3], GAN__SHAPE(t));
}

/* Number i of an entry. Its bytes are copied, for a float or double may not lie at any address. */
static double gan__entry_number(const gan__tensors *f, const gan__entry *e, size_t i)
{
    const unsigned char *at = f->data + e->begin;
    uint16_t half;
    float single;
    double number;
    if (strcmp(e->dtype, "U8") == 0)
        return at[i];
    if (strcmp(e->dtype, "F64") == 0) {
        memcpy(&number, at + i * 8, 8);
        return number;
    }
    if (strcmp(e->dtype, "F32") == 0) {
        memcpy(&single, at + i * 4, 4);
        return single;
    }
    memcpy(&half, at + i * 2, 2);
    if (strcmp(e->dtype, "F16") == 0)
        return gan__from_half(half);
    uint32_t bits = (uint32_t)half << 16; /* BF16: the upper half of a float */
    memcpy(&single, &bits, 4);
    return single;
}

static bool gan__is_whole(double x, double most)
{
    return x >= 0 && x <= most && floor(x) == x;
}

/* Numbers that are used as an index, a count or a probability must be one: gan_image_pool's
   NAME.running_count of NAME.running_images, gan_ada's running_p. */
static bool gan__values_fit(const gan__tensors *f)
{
    for (int i = 0; i < f->count; i++) {
        const gan__entry *e = &f->entries[i];
        const char *dot = strrchr(e->name, '.');
        bool count = dot && strcmp(dot, ".running_count") == 0;
        bool chance = dot && strcmp(dot, ".running_p") == 0;
        if ((!count && !chance) || !gan__entry_readable(e))
            continue;
        double value = gan__entry_count(e) == 1 ? gan__entry_number(f, e, 0) : -1;
        double most = 1;
        if (count) {
            const gan__entry *images = gan__tensors_find_part(
                f, NULL, e->name, (size_t)(dot - e->name), ".running_images");
            most = images ? images->shape[0] : 0;
        }
        if (count ? !gan__is_whole(value, most) : !(value >= 0 && value <= 1))
            return gan__refuse("%s: \"%.200s\" is %g, where %s from 0 to %g is wanted", f->path,
                               e->name, value, count ? "a whole number" : "one number", most);
    }
    return true;
}

/* The part of an entry's name behind MODEL. (behind nothing if model is NULL), if it is a
   parameter's: not an optimizer's, not a counter of PyTorch's batch norm. */
static const char *gan__name_in(const char *model, const gan__entry *e)
{
    size_t length = model ? strlen(model) : 0;
    const char *dot = strrchr(e->name, '.');
    if (model && (strncmp(e->name, model, length) != 0 || e->name[length] != '.'))
        return NULL;
    if (strchr(e->name, '#') || (dot && strcmp(dot, ".num_batches_tracked") == 0))
        return NULL;
    return e->name + length + (model ? 1 : 0);
}

/* Does the file hold just model's parameters, under the names MODEL.NAME, or NAME if of is NULL?
   A model without any takes all. */
static bool gan__model_fits(gan__tensors *f, gan_model *model, const char *of)
{
    gan__wrongs wrongs = {"", 0};
    for (int i = 0; i < model->count; i++) {
        const gan__param *param = &model->params[i];
        gan__entry *e = gan__tensors_find(f, of, param->name, "");
        if (e) {
            gan__entry_fits(e, param->value, &wrongs);
            e->to = param->value;
        } else
            gan__wrong(&wrongs, "it lacks \"%s%s%.150s\" " GAN__DIMS " of the model", of ? of : "",
                       of ? "." : "", param->name, GAN__SHAPE(param->value));
    }
    for (int i = 0; i < f->count; i++) {
        const gan__entry *e = &f->entries[i];
        const char *name = gan__name_in(of, e);
        const int *s = e->shape;
        if (!of && strchr(e->name, '#'))
            gan__wrong(&wrongs, "it holds \"%.150s\", a name that no parameter can have", e->name);
        else if (name && !model->count)
            gan__entry_fits(e, NULL, &wrongs);
        else if (name && !e->to)
            gan__wrong(&wrongs, "it holds \"%.150s\" " GAN__DIMS ", which the model lacks", e->name,
                       s[0], s[1], s[2], s[3]);
    }
    return gan__wrongs_refuse(f, &wrongs);
}

/* Parameters and buffers for a model without any. gan.h's files list the buffers, those of
   PyTorch do not. */
static bool gan__make_params(gan__tensors *f, gan_model *model, const char *of)
{
    bool empty = model->count == 0;
    bool listed = gan__tensors_meta(f, "buffers") != NULL;
    for (int i = 0; empty && i < f->count; i++) {
        gan__entry *e = &f->entries[i];
        const char *name = gan__name_in(of, e);
        const int *s = e->shape;
        if (!name)
            continue;
        bool buffer = e->buffer || (!listed && gan__is_torch_buffer(e->name));
        gan__param *param = gan__param_from_file(
            model, name, gan__shape_of(e->rank, s[0], s[1], s[2], s[3]), !buffer);
        if (!param)
            return false;
        e->to = param->value;
        e->made_in = model;
    }
    return true;
}

static void gan__moments_free(const gan_opt *opt, gan__moments *of);
static void gan__model_truncate(gan_model *model, int params, int layers);

/* No memory in the midst of gan__make_params: models that had no parameters have none again. */
static bool gan__unmake(gan__tensors *f)
{
    for (int i = 0; i < f->count; i++) {
        gan_model *model = f->entries[i].made_in;
        if (!model || model->count == 0)
            continue;
        for (gan_opt *opt = model->opts; opt; opt = opt->next) {
            for (int k = 0; k < opt->count; k++)
                gan__moments_free(opt, &opt->moments[k]);
            opt->count = 0;
        }
        gan__model_truncate(model, 0, model->layer_count);
    }
    return gan__refuse("%s: %s", f->path, gan__no_memory);
}

/* Numbers to where they go. */
static void gan__tensors_copy(gan__tensors *f)
{
    for (int i = 0; i < f->count; i++) {
        const gan__entry *e = &f->entries[i];
        size_t count = e->to ? gan__entry_count(e) : 0;
        for (size_t k = 0; k < count; k++)
            f->numbers[k] = (gan_real)gan__entry_number(f, e, k);
        if (e->to)
            gan_set(e->to, f->numbers);
        if (e->steps)
            *e->steps = gan__entry_number(f, e, 0);
    }
}

static gan *gan__valid_model(const gan_model *model, const char *function, const char *path)
{
    if (!model || !path)
        gan__fail(model ? model->g : NULL, function, "the %s is NULL", model ? "path" : "model");
    return model->g;
}

static bool gan__save(gan_model *model, const char *function, const char *path, bool half)
{
    gan__list list;
    int buffers = 0;
    memset(&list, 0, sizeof list);
    if (gan__planned(gan__valid_model(model, function, path), function))
        return true;
    list.half = half;
    gan__text_add(&list.header, "{\"__metadata__\":{\"format\":\"pt\",\"buffers\":\"");
    gan__list_add_buffers(&list, NULL, model, &buffers);
    gan__text_add(&list.header, "\"}");
    for (int i = 0; i < model->count; i++) {
        const gan__param *param = &model->params[i];
        gan__list_add(&list, NULL, param->name, "", param->rank, param->value, 0);
    }
    return gan__list_write(&list, path);
}

GAN_API bool gan_save(gan_model *model, const char *path)
{
    return gan__save(model, "gan_save", path, false);
}

GAN_API bool gan_save_f16(gan_model *model, const char *path)
{
    return gan__save(model, "gan_save_f16", path, true);
}

GAN_API bool gan_load(gan_model *model, const char *path)
{
    gan__tensors f;
    gan__valid_model(model, "gan_load", path);
    if (!gan__tensors_read(&f, path))
        return false;
    bool fits = gan__tensors_meta(&f, "drawn")
                  ? gan__refuse("%s: it is the state of a training; gan_load_state reads it", path)
                  : gan__model_fits(&f, model, NULL);
    if (fits)
        fits = gan__make_params(&f, model, NULL) || gan__unmake(&f);
    if (fits)
        gan__tensors_copy(&f);
    gan__tensors_free(&f);
    return fits;
}

/* ---- the state of a training, one safetensors file for all models:

       __metadata__           step, seed, drawn (how many random numbers), and of each data set
                              data0, data1 .. how many images it has given out
       G.fc.weight            a parameter of the model "G"
       G.fc.weight#0.adam0    of G's first optimizer, Adam: the first moment of that parameter
       G.fc.weight#0.adam1    the second moment
       G.fc.weight#0.adam.steps   how many steps it has made

   A second optimizer of G would be #1; others are called sgd, rmsprop and lbfgs. What has not
   been trained yet has no moments. */

/* What follows a parameter's name for slot s of opt, and for the steps, which are s = slots. */
static const char *gan__slot_suffix(char suffix[48], const gan_opt *opt, int s)
{
    int k = 0;
    for (const gan_opt *other = opt->model->opts; other != opt; other = other->next)
        k++;
    if (s < opt->slots)
        snprintf(suffix, 48, "#%d.%s%d", k, gan__opt_names[opt->kind], s);
    else
        snprintf(suffix, 48, "#%d.%s.steps", k, gan__opt_names[opt->kind]);
    return suffix;
}

static void gan__list_add_model(gan__list *list, gan_model *model)
{
    for (int i = 0; i < model->count; i++) {
        const gan__param *param = &model->params[i];
        gan__list_add(list, model->name, param->name, "", param->rank, param->value, 0);
        for (gan_opt *opt = model->opts; opt; opt = opt->next)
            for (int s = 0; i < opt->count && opt->moments[i].slot && s <= opt->slots; s++) {
                char suffix[48];
                gan_tensor *moment = s < opt->slots ? opt->moments[i].slot[s] : NULL;
                gan__list_add(list, model->name, param->name, gan__slot_suffix(suffix, opt, s),
                              param->rank, moment, opt->moments[i].steps);
            }
    }
}

static void gan__names_differ(gan *g, const char *function)
{
    for (gan_model *model = g->models; model; model = model->next)
        for (gan_model *other = model->next; other; other = other->next)
            if (strcmp(other->name, model->name) == 0)
                gan__fail(g, function,
                          "two models are named \"%.100s\"; in the file they would be one",
                          model->name);
}

GAN_API bool gan_save_state(gan *g, const char *path, int step)
{
    gan__list list;
    int k = 0, buffers = 0;
    memset(&list, 0, sizeof list);
    if (!g || !path)
        gan__fail(g, "gan_save_state", "the device or the path is NULL");
    if (step < 0)
        gan__fail(g, "gan_save_state", "step %d: 0 or more is wanted", step);
    if (gan__planned(g, "gan_save_state"))
        return true;
    gan__names_differ(g, "gan_save_state");
    gan__text_add(&list.header,
                  "{\"__metadata__\":{\"format\":\"pt\",\"step\":\"%d\",\"seed\":\"%" PRIu64
                  "\",\"drawn\":\"%" PRIu64 "\"",
                  step, g->seed, g->drawn);
    for (gan_data *data = g->datas; data; data = data->next, k++)
        gan__text_add(&list.header, ",\"data%d\":\"%" PRIu64 "\"", k, data->drawn);
    gan__text_add(&list.header, ",\"buffers\":\"");
    for (gan_model *model = g->models; model; model = model->next)
        gan__list_add_buffers(&list, model->name, model, &buffers);
    gan__text_add(&list.header, "\"}");
    for (gan_model *model = g->models; model; model = model->next)
        gan__list_add_model(&list, model);
    return gan__list_write(&list, path);
}

/* Which of model's optimizers does an entry belong to, mark being its '#', and to which slot?
   NULL if to none. */
static gan_opt *gan__slot_of(const gan_model *model, const char *mark, int *slot)
{
    char suffix[48];
    for (gan_opt *opt = model->opts; opt; opt = opt->next) {
        size_t length = strlen(gan__slot_suffix(suffix, opt, opt->slots)) - strlen(".steps");
        if (strncmp(mark, suffix, length) != 0)
            continue;
        long number = strtol(mark + length, NULL, 10);
        *slot = number >= 0 && number < opt->slots ? (int)number : opt->slots;
        if (strcmp(mark + length, ".steps") == 0)
            *slot = opt->slots;
        if (strcmp(mark, gan__slot_suffix(suffix, opt, *slot)) == 0)
            return opt;
    }
    return NULL;
}

/* Checks the numbers of an optimizer's slot: a second moment is a mean of squares and not negative,
   the last slot is the count of steps. */
static bool gan__moment_numbers_fit(const gan__tensors *f, const gan__entry *e, const gan_opt *opt,
                                    int slot)
{
    const double most = 9007199254740992.0; /* 2^53: up to here doubles hold every whole number */
    bool squares = (opt->kind == GAN__ADAM && slot == 1) ||
                   (opt->kind == GAN__RMSPROP && slot == 0);
    if (slot == opt->slots && !gan__is_whole(gan__entry_number(f, e, 0), most))
        return gan__refuse("%s: \"%.200s\" is not a count", f->path, e->name);
    for (size_t i = 0; squares && i < gan__entry_count(e); i++)
        if (gan__entry_number(f, e, i) < 0)
            return gan__refuse("%s: \"%.200s\", a mean of squares, holds %g", f->path, e->name,
                               gan__entry_number(f, e, i));
    return true;
}

/* One entry MODEL.NAME#K.KIND: is it of an optimizer of model, of the shape of its parameter in
   the file, and complete: a moment with its steps, steps with all their moments? */
static bool gan__moment_fits(gan__tensors *f, gan_model *model, gan__entry *e)
{
    gan__wrongs wrongs = {"", 0};
    const char *mark = strchr(e->name, '#');
    size_t length = (size_t)(mark - e->name); /* of its parameter's name */
    char suffix[48];
    int slot = 0;
    const gan_opt *opt = gan__slot_of(model, mark, &slot);
    if (!opt)
        return gan__refuse("%s: \"%.200s\" belongs to an optimizer that the model \"%.100s\" lacks",
                           f->path, e->name, model->name);
    gan__entry_fits(e, NULL, &wrongs);
    if (wrongs.count)
        return gan__wrongs_refuse(f, &wrongs);
    const gan__entry *of = gan__tensors_find_part(f, NULL, e->name, length, "");
    bool is_steps = slot == opt->slots;
    bool fits = of && (is_steps ? e->rank == 0
                                : e->rank == of->rank &&
                                      memcmp(e->shape, of->shape, sizeof e->shape) == 0);
    bool complete = true;
    for (int s = is_steps ? 0 : opt->slots; s <= opt->slots; s++) {
        bool history = opt->kind == GAN__LBFGS && s >= 2 && s < opt->slots;
        gan__slot_suffix(suffix, opt, s);
        if (!history) /* an L-BFGS history may still be shorter than its slots */
            complete = complete && gan__tensors_find_part(f, NULL, e->name, length, suffix);
    }
    if (!fits || !complete)
        return gan__refuse("%s: \"%.200s\" does not fit its parameter, or others of its optimizer "
                           "are missing",
                           f->path, e->name);
    return gan__moment_numbers_fit(f, e, opt, slot);
}

/* Memory for model's parameters and moments; moments learn where they go. */
static bool gan__make_room(gan__tensors *f, gan_model *model)
{
    char suffix[48];
    if (!gan__make_params(f, model, model->name))
        return false;
    for (gan_opt *opt = model->opts; opt; opt = opt->next)
        for (int i = 0; i < model->count; i++) {
            const char *name = model->params[i].name;
            gan__entry *steps = gan__tensors_find(f, model->name, name,
                                                  gan__slot_suffix(suffix, opt, opt->slots));
            gan__moments *of = steps ? gan__try_moments_of(opt, i) : NULL;
            if (steps && !of)
                return false;
            for (int s = 0; of && s < opt->slots; s++) {
                gan__entry *e = gan__tensors_find(f, model->name, name,
                                                  gan__slot_suffix(suffix, opt, s));
                if (e)
                    e->to = of->slot[s];
            }
            if (steps)
                steps->steps = &of->steps;
        }
    return true;
}

/* Moments that model has and the file has not were made after it was saved: zeros. */
static void gan__clear_moments(const gan__tensors *f, gan_model *model)
{
    char suffix[48];
    for (gan_opt *opt = model->opts; opt; opt = opt->next)
        for (int i = 0; i < opt->count; i++) {
            const char *name = model->params[i].name;
            for (int s = 0; opt->moments[i].slot && s < opt->slots; s++)
                if (!gan__tensors_find(f, model->name, name, gan__slot_suffix(suffix, opt, s)))
                    gan__fill_with(opt->moments[i].slot[s], 0);
            if (!gan__tensors_find(f, model->name, name, gan__slot_suffix(suffix, opt, opt->slots)))
                opt->moments[i].steps = 0;
        }
}

/* The whole number that a text of the metadata is; false if it is none, or above most. */
static bool gan__meta_number(const gan__tensors *f, const char *name, uint64_t most,
                             uint64_t *number)
{
    const char *text = gan__tensors_meta(f, name);
    uint64_t value = 0;
    const char *c = text ? text : "";
    for (; *c >= '0' && *c <= '9'; c++) {
        uint64_t digit = (uint64_t)(*c - '0');
        if (value > (most - digit) / 10)
            break;
        value = value * 10 + digit;
    }
    if (!text || c == text || *c)
        return gan__refuse("%s: its %s is \"%.40s\", where a whole number is wanted", f->path, name,
                           text ? text : "");
    *number = value;
    return true;
}

/* The model whose name stands before the first dot of an entry's, or NULL. */
static gan_model *gan__model_of_name(gan *g, const char *name)
{
    for (gan_model *model = g->models; model; model = model->next) {
        size_t length = strlen(model->name);
        if (strncmp(name, model->name, length) == 0 && name[length] == '.')
            return model;
    }
    return NULL;
}

/* All checks of a state, before anything is changed. number: step, seed, drawn. */
static bool gan__state_fits(gan__tensors *f, gan *g, uint64_t number[3])
{
    int k = 0;
    if (!gan__tensors_meta(f, "step") || !gan__tensors_meta(f, "seed") ||
        !gan__tensors_meta(f, "drawn"))
        return gan__refuse("%s: it is not the state of a training; gan_load reads a single model",
                           f->path);
    if (!gan__meta_number(f, "step", INT32_MAX, &number[0]) ||
        !gan__meta_number(f, "seed", UINT64_MAX, &number[1]) ||
        !gan__meta_number(f, "drawn", UINT64_MAX, &number[2]))
        return false;
    for (gan_data *data = g->datas; data; data = data->next, k++) {
        char name[32];
        uint64_t drawn;
        snprintf(name, sizeof name, "data%d", k);
        if (!gan__tensors_meta(f, name))
            return gan__refuse("%s: it was saved with %d data sets, this program has more", f->path,
                               k);
        if (!gan__meta_number(f, name, INT64_MAX, &drawn))
            return false;
    }
    for (gan_model *model = g->models; model; model = model->next)
        if (!gan__model_fits(f, model, model->name))
            return false;
    for (int i = 0; i < f->count; i++) {
        gan__entry *e = &f->entries[i];
        gan_model *owner = gan__model_of_name(g, e->name);
        if (!owner)
            return gan__refuse("%s: \"%.200s\" belongs to no model of this program", f->path,
                               e->name);
        if (strchr(e->name, '#') && !gan__moment_fits(f, owner, e))
            return false;
    }
    return true;
}

GAN_API bool gan_load_state(gan *g, const char *path, int *step)
{
    gan__tensors f;
    uint64_t number[3];
    int k = 0;
    if (!g || !path)
        gan__fail(g, "gan_load_state", "the device or the path is NULL");
    gan__names_differ(g, "gan_load_state");
    if (!gan__tensors_read(&f, path))
        return false;
    bool fits = gan__state_fits(&f, g, number);
    bool made = fits;
    for (gan_model *model = g->models; made && model; model = model->next)
        made = gan__make_room(&f, model);
    if (fits && !made)
        fits = gan__unmake(&f);
    if (fits) {
        gan__tensors_copy(&f);
        for (gan_model *model = g->models; model; model = model->next)
            gan__clear_moments(&f, model);
        for (gan_data *data = g->datas; data; data = data->next) {
            char name[32];
            snprintf(name, sizeof name, "data%d", k++);
            gan__meta_number(&f, name, INT64_MAX, &data->drawn);
            data->epoch = UINT64_MAX;
        }
        g->seed = number[1];
        g->drawn = number[2];
        if (step)
            *step = (int)number[0];
    }
    gan__tensors_free(&f);
    return fits;
}

/* ===========================================================================================
   >>pictures (implementation)
   =========================================================================================== */
#ifdef INCLUDE_STB_IMAGE_WRITE_H

static void gan__png_write(void *writer, void *data, int size)
{
    gan__write((gan__writer *)writer, data, (size_t)size);
}

/* Pixel (row, column) of the grid is image row/(H+gap)*columns + column/(W+gap)'s, or part of a
   black gap:

       +-----------------------+
       |  gap                  |
       |  +-----+ gap +-----+  |     columns = 2, gap = 2 pixels; one picture has no gap
       |  |  0  |     |  1  |  |
       |  +-----+     +-----+  |
       |  +-----+              |
       |  |  2  |    black     |
       |  +-----+              |
       +-----------------------+ */
static void gan__draw_grid(const gan_tensor *x, const gan_real *from, int columns, int gap,
                           int width, unsigned char *pixels)
{
    for (int n = 0; n < x->n; n++)
        for (int c = 0; c < x->c; c++)
            for (int i = 0; i < x->h; i++)
                for (int j = 0; j < x->w; j++, from++) {
                    int row = n / columns * (x->h + gap) + gap + i;
                    int column = n % columns * (x->w + gap) + gap + j;
                    double level = *from >= -1 ? *from <= 1 ? (double)*from : 1 : -1; /* NaN: -1 */
                    pixels[((size_t)row * width + column) * x->c + c] =
                        (unsigned char)((level + 1) * 127.5 + 0.5);
                }
}

GAN_API bool gan_save_png(gan_tensor *x, int columns, const char *path)
{
    gan *g = gan__valid(x, "gan_save_png");
    if (x->c != 1 && x->c != 3)
        gan__fail(g, "gan_save_png",
                  "the tensor " GAN__DIMS " has %d channels, 1 (grey) or 3 (colour) are wanted",
                  GAN__SHAPE(x), x->c);
    if (columns < 1 || !path)
        gan__fail(g, "gan_save_png", path ? "%d columns" : "the path is NULL", columns);
    if (gan__planned(g, "gan_save_png"))
        return true;
    columns = GAN__MIN(columns, x->n);
    int gap = x->n > 1 ? 2 : 0;
    int rows = (x->n + columns - 1) / columns;
    double width = columns * ((double)x->w + gap) + gap;
    double height = rows * ((double)x->h + gap) + gap;
    if ((width + 1) * height * x->c > INT32_MAX) /* stb_image_write counts in int */
        return gan__refuse("%s: a picture of %.0f x %.0f pixels is too large for a PNG", path,
                           width, height);
    size_t size = (size_t)(width * height) * x->c;
    gan_real *host = (gan_real *)gan__try_alloc(gan_count(x) * sizeof *host);
    unsigned char *pixels = (unsigned char *)gan__try_alloc(size);
    gan__writer w;
    bool done = host && pixels;
    if (!done)
        gan__refuse("%s: no memory for its %.0f pixels", path, width * height);
    else {
        memset(pixels, 0, size);
        gan_to_host(x, host);
        gan__draw_grid(x, host, columns, gap, (int)width, pixels);
        done = gan__write_begin(&w, path);
    }
    if (done) {
        bool coded = stbi_write_png_to_func(gan__png_write, &w, (int)width, (int)height, x->c,
                                            pixels, (int)width * x->c);
        gan__write_note(&w, coded, ENOMEM);
        done = gan__write_end(&w);
    }
    GAN_FREE(pixels);
    GAN_FREE(host);
    return done;
}
#endif

/* ===========================================================================================
   >>progress (implementation)
   =========================================================================================== */
enum { GAN__MAX_COLUMNS = 8 };

struct gan_progress {
    gan *g;
    FILE *csv;
    char *columns; /* "D,G" */
    int count;     /* of them */
    int first, steps, batch;
    bool terminal;
    double start, shown; /* seconds: when it began, and when the line was last printed */
    gan_progress *next;
};

/* A new file of the header and, of the rows that are there, those of the steps before first. A
   log that is there and cannot be read is left as it is. */
static bool gan__progress_cut(const char *csv, const char *columns, int first)
{
    gan__writer w;
    size_t size = 0;
    char *rows = NULL;
    if (first > 0 && gan__examine_file(csv, &size, NULL) != GAN__MISSING) {
        rows = (char *)gan__read_file(csv, &size);
        if (!rows)
            return false;
    }
    char *end = rows ? rows + size : NULL;
    bool done = gan__write_begin(&w, csv);
    if (done) {
        gan__write(&w, "step,", 5);
        gan__write(&w, columns, strlen(columns));
        gan__write(&w, "\n", 1);
    }
    for (char *row = rows, *next; done && row < end; row = next) {
        next = (char *)memchr(row, '\n', (size_t)(end - row));
        if (!next)
            break; /* a row without its end was being written when the program was killed */
        next++;
        if (*row >= '0' && *row <= '9' && strtol(row, NULL, 10) < first)
            gan__write(&w, row, (size_t)(next - row));
    }
    GAN_FREE(rows);
    return done && gan__write_end(&w);
}

GAN_API gan_progress *gan_progress_open(gan *g, const char *csv, const char *columns, int first,
                                        int steps, int batch)
{
    int count = 1;
    if (!g || !columns)
        gan__fail(g, "gan_progress_open", "the device or the columns are NULL");
    for (const char *c = columns; *c; c++)
        count += *c == ',';
    if (count > GAN__MAX_COLUMNS || strpbrk(columns, "\r\n"))
        gan__fail(g, "gan_progress_open", "\"%.200s\": one line of at most %d columns is wanted",
                  columns, (int)GAN__MAX_COLUMNS);
    if (csv && !gan__progress_cut(csv, columns, first))
        return NULL;
    FILE *file = csv ? fopen(csv, "a") : NULL;
    gan_progress *log = (gan_progress *)gan__try_alloc(sizeof *log);
    char *copy = (char *)gan__try_alloc(strlen(columns) + 1);
    if ((csv && !file) || !log || !copy) {
        gan__refuse("%s: %s", csv ? csv : "gan_progress_open",
                    csv && !file ? strerror(errno) : "no memory for it");
        if (file)
            fclose(file);
        GAN_FREE(log);
        GAN_FREE(copy);
        return NULL;
    }
    memset(log, 0, sizeof *log);
    log->g = g;
    log->csv = file;
    log->columns = strcpy(copy, columns);
    log->count = count;
    log->first = first;
    log->steps = steps;
    log->batch = batch;
#if defined(GAN__POSIX)
    log->terminal = isatty(1) != 0;
#elif defined(_WIN32)
    log->terminal = _isatty(1) != 0;
#endif
    log->start = log->shown = gan__now();
    gan_progress **last = &g->logs;
    while (*last)
        last = &(*last)->next;
    *last = log;
    return log;
}

/* step 1200/2000 [######....]  D 1.02  G 1.53  2100 images/s  0:25 left */
static void gan__progress_show(gan_progress *log, int step, const double *values)
{
    double spent = gan__now() - log->start;
    double done = GAN__MAX((double)step + 1 - log->first, 1);
    double total = GAN__MAX(log->steps, 1);
    double share = GAN__MIN(GAN__MAX((step + 1.0) / total, 0), 1);
    double seconds = GAN__MIN(GAN__MAX(spent / done * (total - step - 1), 0) + 0.5, 1e9);
    int filled = (int)(20 * share);
    int left = (int)seconds;
    if (log->terminal)
        printf("\r\033[K[%.*s%.*s] ", filled, "####################", 20 - filled,
               "....................");
    printf("step %.0f/%d", step + 1.0, log->steps);
    const char *name = log->columns;
    for (int i = 0; i < log->count; i++) {
        int length = (int)strcspn(name, ",");
        printf("  %.*s %.3f", length, name, values[i]);
        name += length + 1;
    }
    printf("  %.0f images/s  %d:%02d left%s", done * (double)log->batch / GAN__MAX(spent, 1e-9),
           left / 60, left % 60, log->terminal ? "" : "\n");
    fflush(stdout);
}

GAN_API void gan_progress_step(gan_progress *log, int step, ...)
{
    double values[GAN__MAX_COLUMNS];
    double now = gan__now();
    va_list list;
    if (!log)
        gan__fail(NULL, "gan_progress_step",
                  "the log is NULL; gan_progress_open gives NULL when it fails, and gan_error() "
                  "says why");
    bool last = step >= log->steps - 1;
    if (gan__planned(log->g, "gan_progress_step"))
        return;
    va_start(list, step);
    for (int i = 0; i < log->count; i++)
        values[i] = va_arg(list, double);
    va_end(list);
    if (log->csv) {
        fprintf(log->csv, "%d", step);
        for (int i = 0; i < log->count; i++)
            fprintf(log->csv, ",%.9g", values[i]);
        fprintf(log->csv, "\n");
        fflush(log->csv);
    }
    int every = GAN__MAX(log->steps / 20, 1); /* lines where there is no terminal: 20 in all */
    bool due = log->terminal ? now - log->shown >= 0.1 : step % every == every - 1;
    if (!due && !last)
        return;
    gan__progress_show(log, step, values);
    log->shown = now;
}

GAN_API void gan_progress_close(gan_progress *log)
{
    if (!log)
        return;
    gan_progress **place = &log->g->logs;
    while (*place != log)
        place = &(*place)->next;
    *place = log->next;
    if (log->terminal)
        printf("\n");
    if (log->csv)
        fclose(log->csv);
    GAN_FREE(log->columns);
    GAN_FREE(log);
}

/* ===========================================================================================
   >>look (implementation)
   =========================================================================================== */
GAN_API void gan_summary(gan_model *model)
{
    gan__check_model(model, "gan_summary");
    printf("%-24s %-18s %-22s %12s\n", model->name, "layer", "output (N,C,H,W)", "parameters");
    for (const gan__layer *layer = model->layers;
         layer && layer < model->layers + model->layer_count; layer++) {
        char shape[64];
        snprintf(shape, sizeof shape, GAN__DIMS, GAN__SHAPE(layer));
        printf("%-24s %-18s %-22s %12.0f\n", layer->name, layer->kind, shape,
               (double)layer->params);
    }
    printf("%-24s %-18s %-22s %12.0f\n", "total", "", "", (double)gan_param_count(model));
}

GAN_API size_t gan_profile_flops(gan *g)
{
    if (!g)
        gan__fail(NULL, "gan_profile_flops", "the device is NULL");
    return (size_t)(g->profile_flops[GAN__K_matmul] + g->profile_flops[GAN__K_conv2d] +
                    g->profile_flops[GAN__K_conv_transpose2d] +
                    g->profile_flops[GAN__K_conv2d_weight]);
}

/* The kernel that took longest of those with calls, or -1. */
static int gan__slowest_kernel(const gan *g)
{
    int slowest = -1;
    for (int i = 0; i < GAN__KERNEL_COUNT; i++)
        if (g->profile_calls[i] &&
            (slowest < 0 || g->profile_seconds[i] > g->profile_seconds[slowest]))
            slowest = i;
    return slowest;
}

GAN_API void gan_profile(gan *g)
{
    double total = 0;
    if (!g)
        gan__fail(NULL, "gan_profile", "the device is NULL");
    for (int k = 0; k < GAN__KERNEL_COUNT; k++)
        total += g->profile_seconds[k];
    printf("%-18s %10s %12s %10s %10s %7s\n", g->backend->name, "calls", "ms", "GFLOP/s", "GB/s",
           "share");
    /* The slowest first. A kernel without calls is no longer found: the loop's end sets its calls
       back to 0. */
    for (int k; (k = gan__slowest_kernel(g)) >= 0; g->profile_calls[k] = 0) {
        double seconds = GAN__MAX(g->profile_seconds[k], 1e-12); /* never a division by 0 */
        printf("%-18s %10.0f %12.2f %10.1f %10.1f %6.1f%%\n", gan__kernels[k].name,
               g->profile_calls[k], 1e3 * seconds, g->profile_flops[k] / seconds * 1e-9,
               g->profile_bytes[k] / seconds * 1e-9, 100 * seconds / GAN__MAX(total, 1e-12));
    }
    printf("%-18s %10s %12.2f\n", "total", "", 1e3 * total);
    memset(g->profile_seconds, 0, sizeof g->profile_seconds);
    memset(g->profile_flops, 0, sizeof g->profile_flops);
    memset(g->profile_bytes, 0, sizeof g->profile_bytes);
}

/* ---- gan_close, and what it frees: models with their optimizers, data sets, recordings */

static void gan__moments_free(const gan_opt *opt, gan__moments *of)
{
    for (int s = 0; of->slot && s < opt->slots; s++)
        gan__persistent_tensor_free(of->slot[s]);
    GAN_FREE(of->slot);
    memset(of, 0, sizeof *of);
}

/* Removes all but the first params parameters and the first layers layers of model. */
static void gan__model_truncate(gan_model *model, int params, int layers)
{
    for (int i = params; i < model->count; i++) {
        gan__persistent_tensor_free(model->params[i].value);
        GAN_FREE(model->params[i].name);
    }
    for (int i = layers; i < model->layer_count; i++) {
        GAN_FREE(model->layers[i].kind);
        GAN_FREE(model->layers[i].name);
    }
    model->count = params;
    model->layer_count = layers;
}

static void gan__model_free(gan_model *model)
{
    for (gan_opt *opt = model->opts, *next; opt; opt = next) {
        next = opt->next;
        for (int i = 0; i < opt->count; i++)
            gan__moments_free(opt, &opt->moments[i]);
        GAN_FREE(opt->moments);
        GAN_FREE(opt);
    }
    gan__model_truncate(model, 0, 0);
    GAN_FREE(model->params);
    GAN_FREE(model->layers);
    GAN_FREE(model->name);
    GAN_FREE(model);
}

static void gan__captures_free(gan *g, bool closing);

GAN_API void gan_close(gan *g)
{
    if (!g)
        return;
    while (g->logs)
        gan_progress_close(g->logs);
    gan__captures_free(g, true);
    for (gan_model *model = g->models, *next; model; model = next) {
        next = model->next;
        gan__model_free(model);
    }
    for (gan_data *data = g->datas; data; data = data->next)
        gan__decoder_stop(data);
    for (gan_data *data = g->datas, *next; data; data = next) {
        next = data->next;
        gan__data_free(data);
    }
    for (int i = 0; i < g->slab_count; i++)
        gan__device_free(g->backend, g->slabs[i].memory);
    for (int i = 0; i < g->node_slab_count; i++)
        GAN_FREE(g->node_slabs[i]);
    for (int i = 0; i < 5; i++) {
        GAN_FREE(g->compare_input[i].memory);
        if (g->compare_in[i].memory)
            gan__device_free(g->other, g->compare_in[i].memory);
        if (i < 3 && g->compare_out[i].memory)
            gan__device_free(g->other, g->compare_out[i].memory);
    }
    GAN_FREE(g->guarded);
    for (int i = 0; i < g->layer_name_count; i++)
        GAN_FREE(g->layer_names[i]);
    GAN_FREE(g->layer_names);
    GAN_FREE(g->staging[0]);
    GAN_FREE(g->staging[1]);
    GAN_FREE(g->doctor);
    GAN_FREE(g->slabs);
    GAN_FREE(g->node_slabs);
    GAN_FREE(g->free_blocks);
    GAN_FREE(g->tape);
    GAN_FREE(g->temporaries);
    GAN_FREE(g);
    gan__free_scratch();
}

/* ===========================================================================================
   >>doctor (implementation)
   ===========================================================================================
   A look measures symptoms. Each has a threshold, and counts when it was above it at so many looks
   in a row, over so many steps: what a training shows for a moment at its start is no illness. An
   illness usually shows several symptoms, those of its effects among them: a learning rate that is
   too high kills ReLUs, and dead ReLUs collapse the generator. So the list is in the order of
   causes. The first that counts is the diagnosis, the others are "also seen".

     S(symptom, threshold, looks, steps, short name)             what is measured, and why there */
#define GAN__SYMPTOMS(S)                                                                          \
    /* numbers of the batch that are NaN or infinite: none may be */                              \
    S(DATA_NOT_FINITE, 0, 1, 0, "data not finite")                                                \
    /* the same in a logit, or an update of a parameter */                                        \
    S(NOT_FINITE, 0, 1, 0, "numbers not finite")                                                  \
    /* 0.001 over the difference of two images, per number */                                     \
    S(DATA_CONSTANT, 1, 1, 0, "constant data")                                                    \
    /* |number| over the largest that the generator can give (8, if it has no tanh at its end) */ \
    S(DATA_RANGE, 1.05, 1, 0, "range of the data")                                                \
    /* steps in a row with more tensors on the tape than in the step before */                    \
    S(MEMORY, 15, 1, 0, "memory grows")                                                           \
    /* losses that take a logit, and get a sigmoid of it */                                       \
    S(SIGMOID, 0, 1, 0, "sigmoid before the loss")                                                \
    /* looks in a row at which the generator's inputs were those of the look before */            \
    S(SAME_NOISE, 0, 2, 0, "the same noise")                                                      \
    /* steps without a change of any parameter: five critic's steps for one of G are usual */     \
    S(D_FROZEN, 9, 1, 0, "D does not learn")                                                      \
    S(G_FROZEN, 9, 1, 0, "G does not learn")                                                      \
    /* derivative of G's loss by D(fake) over D's pull on it: below 0, as they are opponents */   \
    S(SWAPPED, 0.1, 3, 3, "labels swapped")                                                       \
    S(SIGN, 0.1, 3, 3, "sign of G's loss")                                                        \
    /* |update| over |weight| when it was new: 0.001 to 0.05 is usual, 0.7 once in a while */     \
    S(RATE, 0.3, 2, 0, "learning rate")                                                           \
    /* the largest of those so far, if an effect is seen: 0.15 alone harms few */                 \
    S(JUMPED, 0.15, 1, 0, "weights jumped")                                                       \
    /* share of a layer's channels that are 0 for the whole batch; ReLU's usual one is small */   \
    S(DEAD, 0.5, 3, 20, "dead ReLUs")                                                             \
    /* |gradient| over |weight| */                                                                \
    S(EXPLODES, 1e3, 3, 10, "gradient explodes")                                                  \
    /* largest gradient of a model's layers, per number, over the smallest */                     \
    S(VANISHES, 1e5, 3, 20, "gradient vanishes")                                                  \
    /* share of the fakes' numbers outside of the data's range */                                 \
    S(G_RANGE, 0.02, 3, 20, "range of the fakes")                                                 \
    /* mean logit of real images less that of fakes: sigmoid'(6) is 0.0025 */                     \
    S(WON, 12, 3, 100, "D has won")                                                               \
    /* share of the pairs (real, fake) that D takes for each other; a coin's is 0.5 */            \
    S(DECEIVED, 0.8, 3, 30, "D takes fakes for real")                                             \
    /* difference of two real images over that of two fakes */                                    \
    S(COLLAPSED, 10, 3, 30, "collapsed generator")                                                \
    /* classes without a fake */                                                                  \
    S(CLASSES, 0, 1, 0, "missing classes")

#define GAN__SYMPTOM(name, threshold, looks, steps, text) GAN__##name,

enum { GAN__SYMPTOMS(GAN__SYMPTOM) GAN__SYMPTOM_COUNT };

#undef GAN__SYMPTOM

static const struct {
    double threshold;
    int looks, steps;
    const char *name;
} gan__symptoms[GAN__SYMPTOM_COUNT] = {

#define GAN__SYMPTOM(name, threshold, looks, steps, text) {threshold, looks, steps, text},
    GAN__SYMPTOMS(GAN__SYMPTOM)
#undef GAN__SYMPTOM
};

/* A symptom's course: value and text are of the last look that saw it. */
typedef struct {
    int last_look, looks; /* the last look that saw it, how many in a row did */
    int since, next;      /* the first step of that row; the step from which it is told again */
    double value;
    char text[500];
} gan__course;

struct gan__doctor {
    int start, step, every; /* step: of the last call; start: of the first */
    int looks;              /* how many there were */
    int told;               /* in this step */
    gan__course course[GAN__SYMPTOM_COUNT];
    int tape_count, growing; /* tensors on the tape at the last call, steps in a row of growth */
    uint64_t noise;          /* checksum of the generator's inputs at the last look */
    uint64_t weights[2];     /* checksums of the parameters of D and G, */
    int changed[2];          /* and the look's step that saw them change */

    struct {
        gan_tensor *loss;
        gan_model *model;
    } losses[8]; /* gan_backward's in this step */

    int loss_count;
    double jump, gap; /* |update| / |weight|, the largest so far; D(real) - D(fake) */
    char jumped[80];  /* the weight's name */
    char first[300];  /* what gan__run saw become not finite in this step */
    char text[4096];  /* gan_doctor_text */
};

/* ---- reading numbers */

/* The parameter whose numbers lie at data, and its model; or NULL. */
static gan__param *gan__owner(gan *g, const gan_real *data, gan_model **model)
{
    for (*model = g->models; *model; *model = (*model)->next)
        for (int i = 0; i < (*model)->count; i++)
            if ((*model)->params[i].value->data == data)
                return &(*model)->params[i];
    return NULL;
}

static gan_tensor *gan__param_at(gan *g, const gan_real *data)
{
    gan_model *model;
    gan__param *param = gan__owner(g, data, &model);
    return param ? param->value : NULL;
}

static gan_real *gan__on_host(gan *g, const gan_real *data, size_t count)
{
    gan_real *host = (gan_real *)gan__alloc(count * sizeof *host);
    gan__download(g->backend, host, data, count * sizeof *host);
    return host;
}

/* |data - from|, from on the host or NULL for 0. Not finite if a number is not. */
static double gan__length(gan *g, const gan_real *data, const gan_real *from, size_t count)
{
    gan_real *host = gan__on_host(g, data, count);
    double squares = 0;
    for (size_t i = 0; i < count; i++)
        squares += pow((double)host[i] - (from ? (double)from[i] : 0), 2);
    GAN_FREE(host);
    return sqrt(squares);
}

static double gan__tensor_length(const gan_tensor *t)
{
    return gan__length(t->g, t->data, NULL, gan_count(t));
}

static bool gan__finite(const gan_tensor *t)
{
    return gan__tensor_length(t) <= DBL_MAX;
}

/* Adds t's bytes to a checksum (FNV-1a). Where two checksums differ, a number does; where they are
   the same, so are all numbers, but for one chance in 2^64. */
static uint64_t gan__checksum(uint64_t sum, const gan_tensor *t)
{
    size_t count = gan_count(t);
    gan_real *host = gan__on_host(t->g, t->data, count);
    const unsigned char *byte = (const unsigned char *)host;
    for (size_t i = 0; i < count * sizeof *host; i++)
        sum = (sum ^ byte[i]) * 1099511628211u;
    GAN_FREE(host);
    return sum;
}

/* How far an image of the batch t lies from the next, per number (root mean square). */
static double gan__spread(const gan_tensor *t)
{
    size_t count = gan_count(t), size = count / (size_t)t->n;
    double squares = 0;
    gan_real *x = gan__on_host(t->g, t->data, count);
    for (size_t i = size; i < count; i++)
        squares += pow((double)x[i] - (double)x[i - size], 2);
    GAN_FREE(x);
    return sqrt(squares / (double)(count - size));
}

/* ---- what the rest of gan.h tells the doctor in a step that is looked at */

/* gan_step: notes the gradient, returns the parameter as it still is. */
static gan_real *gan__doctor_before(gan__param *param, const gan_real *gradient)
{
    gan *g = param->value->g;
    param->gradient = gan__length(g, gradient, NULL, gan_count(param->value));
    param->look = g->doctor->looks + 1;
    return gan__on_host(g, param->value->data, gan_count(param->value));
}

/* gan_backward: the losses, and whose they are. */
static void gan__doctor_loss(gan *g, gan_tensor *loss, gan_model *model)
{
    struct gan__doctor *d = g->doctor;
    if (d->loss_count == 8)
        return;
    d->losses[d->loss_count].loss = loss;
    d->losses[d->loss_count++].model = model;
}

/* gan_clear_to: the tape's tensors from tape on are gone. */
static void gan__doctor_forget(gan *g, int tape)
{
    struct gan__doctor *d = g->doctor;
    int kept = 0;
    for (int i = 0; i < d->loss_count; i++)
        if (d->losses[i].loss->tape < tape)
            d->losses[kept++] = d->losses[i];
    d->loss_count = kept;
}

static const char *gan__title(gan *g, int k, const void *p)
{
    const char *name = k == GAN__K_zip ? gan__zip_ops[((const gan_zip *)p)->op].name
                                       : gan__kernels[k].name;
    return gan__where(g, k == GAN__K_map ? gan__map_ops[((const gan_map *)p)->op].name : name);
}

/* gan__run: the first kernel whose result is not finite. A copy makes no new numbers, and leaves
   gaps. */
static void gan__doctor_watch(gan *g, int k, const void *p, const gan__cost *cost,
                              const gan_real *y)
{
    char *first = g->doctor->first;
    const gan_tensor *top = g->tape_count ? g->tape[g->tape_count - 1] : NULL;
    if (first[0] || k == GAN__K_copy || gan__length(g, y, NULL, cost->out[0]) <= DBL_MAX)
        return;
    snprintf(first, 200, "%s (kernel %s)%s", gan__title(g, k, p), gan__kernels[k].name,
             g->reclaiming ? " in gan_backward" : "");
    if (top && top->data == y)
        snprintf(first + strlen(first), 64, " " GAN__DIMS, GAN__SHAPE(top));
}

/* ---- symptoms, and what is told of them */

/* This look measured value; the text, if it is above the symptom's threshold. */
GAN__PRINTF(4, 5)

static void gan__measured(gan *g, int symptom, double value, const char *format, ...)
{
    struct gan__doctor *d = g->doctor;
    gan__course *c = &d->course[symptom];
    va_list list;
    if (!(value > gan__symptoms[symptom].threshold))
        return;
    if (!c->looks || c->last_look < d->looks - 1) {
        c->looks = c->next = 0;
        c->since = d->step;
    }
    c->looks += c->last_look != d->looks;
    c->last_look = d->looks;
    c->value = value;
    va_start(list, format);
    vsnprintf(c->text, sizeof c->text, format, list);
    va_end(list);
}

/* Seen at this look, and for long enough. */
static bool gan__counts(const struct gan__doctor *d, int symptom)
{
    const gan__course *c = &d->course[symptom];
    return c->last_look == d->looks && c->looks >= gan__symptoms[symptom].looks &&
           d->step - c->since >= gan__symptoms[symptom].steps;
}

/* New, or told the last time when it had lasted half as long. Notes that it is told now. */
static bool gan__due(struct gan__doctor *d, int symptom)
{
    gan__course *c = &d->course[symptom];
    if (c->next && d->step < c->next)
        return false;
    c->next = d->step + GAN__MAX(d->every, d->step - c->since);
    return true;
}

/* Puts a line behind those of this step, and on the screen. */
static void gan__doctor_say(gan *g, const char *line)
{
    struct gan__doctor *d = g->doctor;
    size_t used = d->told ? strlen(d->text) : 0;
    snprintf(d->text + used, sizeof d->text - used, "doctor, step %d: %s\n", d->step, line);
    printf("%s%s", g->logs && g->logs->terminal ? "\r\033[K" : "", d->text + used);
    fflush(stdout);
}

/* Of all symptoms that count the first is the diagnosis. */
static void gan__doctor_tell(gan *g)
{
    struct gan__doctor *d = g->doctor;
    char line[2000];
    int diagnosis = 0, others = 0;
    while (diagnosis < GAN__SYMPTOM_COUNT && !gan__counts(d, diagnosis))
        diagnosis++;
    if (diagnosis == GAN__SYMPTOM_COUNT || !gan__due(d, diagnosis))
        return;
    int used = snprintf(line, sizeof line, "%s", d->course[diagnosis].text);
    for (int i = diagnosis + 1; i < GAN__SYMPTOM_COUNT; i++)
        if (gan__counts(d, i))
            used += snprintf(line + used, sizeof line - (size_t)used, "%s%s (%.2g)",
                             others++ ? ", " : ". Also seen: ", gan__symptoms[i].name,
                             d->course[i].value);
    gan__doctor_say(g, line);
    d->told += 1 + others;
}

/* ---- which tensors belong to what */

/* Marks all that t was computed from, t itself too: those whose needs_grad_in is the result. */
static uint64_t gan__mark_ancestors(gan_tensor *t)
{
    gan *g = t->g;
    uint64_t now = t->needs_grad_in = ++g->differentiation;
    for (int i = t->tape; i >= 0; i--)
        for (int j = 0; g->tape[i]->needs_grad_in == now && j < 3; j++)
            if (g->tape[i]->in[j])
                g->tape[i]->in[j]->needs_grad_in = now;
    return now;
}

/* A parameter of the layer that made t, or of the last one before it. */
static gan__param *gan__layer_of(const gan_tensor *t, gan_model **model)
{
    gan__param *param = NULL;
    for (*model = NULL; t && t->op && !param; t = t->in[0])
        for (int j = 1; j < 3 && !param; j++)
            if (t->in[j])
                param = gan__owner(t->g, t->in[j]->data, model);
    return param;
}

static void gan__doctor_name(const gan_tensor *t, char *name)
{
    gan_model *model;
    gan__param *param = gan__layer_of(t, &model);
    int n = snprintf(name, 140, "%s " GAN__DIMS,
                     t->op ? t->op->name : "a tensor that no operation made", GAN__SHAPE(t));
    if (param)
        n += snprintf(name + n, 80, " at %.40s.%.*s", model->name,
                      GAN__MIN((int)strcspn(param->name, "."), 30), param->name);
    if (param && !gan__finite(param->value))
        snprintf(name + n, 70, ", whose %.30s is not finite by now", param->name);
}

/* on[i], to be freed: tensor i of the tape was computed from the numbers at data, and loss (if it
   is not NULL) from it. */
static bool *gan__paths_to(gan *g, const gan_real *data, gan_tensor *loss)
{
    bool *on = (bool *)gan__alloc((size_t)g->tape_count * sizeof *on);
    uint64_t now = loss ? gan__mark_ancestors(loss) : 0;
    for (int i = 0; i < g->tape_count; i++)
        on[i] = !loss || g->tape[i]->needs_grad_in == now;
    now = ++g->differentiation;
    for (int i = 0; i < g->tape_count; i++) {
        gan_tensor *t = g->tape[i];
        bool from = t->data == data;
        for (int j = 0; j < 3; j++)
            from = from || (t->in[j] && t->in[j]->needs_grad_in == now);
        if (from)
            t->needs_grad_in = now;
        on[i] = on[i] && from;
    }
    return on;
}

/* What the discriminator made of the images x: the first tensor on the way from x's numbers to
   loss (or anywhere, if that is NULL) that looks like known (or has one number per image, if that
   is NULL). NULL if there is none. */
static gan_tensor *gan__find_logits(gan_tensor *x, const gan_tensor *known, gan_tensor *loss)
{
    gan *g = x->g;
    gan_tensor *found = NULL;
    bool *on = gan__paths_to(g, x->data, loss);
    for (int i = 0; i < g->tape_count && !found; i++) {
        gan_tensor *t = g->tape[i];
        bool alike = known ? t->op == known->op && gan__same_shape(t, known)
                           : t->n == x->n && t->c * t->h * t->w == 1;
        if (on[i] && alike && t->op && !t->overwritten && t->data != x->data)
            found = t;
    }
    GAN_FREE(on);
    return found;
}

/* The first model with a parameter from which t was computed, or NULL. */
static gan_model *gan__model_of(gan_tensor *t)
{
    uint64_t now = gan__mark_ancestors(t);
    for (gan_model *model = t->g->models; model; model = model->next)
        for (int i = 0; i < model->count; i++)
            if (model->params[i].trainable && model->params[i].value->needs_grad_in == now)
                return model;
    return NULL;
}

/* Is y a map of this kind? */
static bool gan__is_map(const gan_tensor *y, int op)
{
    return y && y->op && y->op->vjp == gan__map_vjp && y->attr[0] == op;
}

/* ---- rules: each measures one thing, or a few that belong together */

/* An infinity that no weight meets, as in clamp(log 0), does no harm; one in a logit or in an
   update does. */
static bool gan__all_finite(gan *g, gan_tensor *real_logits, gan_tensor *fake_logits)
{
    bool finite = gan__finite(real_logits) && gan__finite(fake_logits);
    for (gan_model *model = g->models; model; model = model->next)
        for (int i = 0; i < model->count; i++)
            finite = finite && (model->params[i].look <= g->doctor->looks ||
                                model->params[i].change <= DBL_MAX);
    return finite;
}

static void gan__look_not_finite(gan *g, gan_tensor *real)
{
    struct gan__doctor *d = g->doctor;
    gan_model *model;
    for (int i = 0; i < g->tape_count && !d->first[0]; i++)
        if (!g->tape[i]->overwritten && !gan__owner(g, g->tape[i]->data, &model) &&
            !gan__finite(g->tape[i]))
            gan__doctor_name(g->tape[i], d->first);
    if (!gan__finite(real))
        gan__measured(g, GAN__DATA_NOT_FINITE, 1,
                      "the data itself is not finite: a batch holds NaN or infinity. How is it "
                      "read and scaled?");
    else
        gan__measured(g, GAN__NOT_FINITE, 1,
                      "numbers are not finite, first in %s. Go back to a saved state; lower the "
                      "learning rate; look for a logarithm, root or quotient of 0",
                      d->first);
}

/* The share of the n numbers x below low or above high. */
static double gan__share_outside(const gan_real *x, size_t n, double low, double high)
{
    size_t outside = 0;
    for (size_t i = 0; i < n; i++)
        outside += (double)x[i] < low || (double)x[i] > high;
    return (double)outside / (double)n;
}

static void gan__range_of(const gan_real *x, size_t n, double *low, double *high)
{
    *low = *high = (double)x[0];
    for (size_t i = 1; i < n; i++) {
        *low = GAN__MIN(*low, (double)x[i]);
        *high = GAN__MAX(*high, (double)x[i]);
    }
}

/* The data: where the generator cannot go. The fakes: where no data is, though no
   tanh or sigmoid bounds them. */
static void gan__look_ranges(gan *g, gan_tensor *real, gan_tensor *fake)
{
    const gan_tensor *last = fake; /* below views, as gan_reshape makes them */
    while (last->op && last->in[0] && last->in[0]->buffer == last->buffer)
        last = last->in[0];
    bool tanh_ends = gan__is_map(last, GAN_TANH), sigmoid_ends = gan__is_map(last, GAN_SIGMOID);
    bool bounded = tanh_ends || sigmoid_ends;
    size_t n = gan_count(real), m = gan_count(fake);
    gan_real *x = gan__on_host(g, real->data, n);
    gan_real *y = gan__on_host(g, fake->data, m);
    double least, most, low, high;
    gan__range_of(x, n, &least, &most);
    gan__range_of(y, m, &low, &high);
    double margin = 0.1 * (most - least);
    double outside = gan__share_outside(y, m, least - margin, most + margin);
    GAN_FREE(x);
    GAN_FREE(y);
    gan__measured(g, GAN__DATA_RANGE, GAN__MAX(most, -least) / (bounded ? 1 : 8),
                  "the data runs from %.3g to %.3g, %s. Scale it: bytes by x/127.5 - 1", least,
                  most,
                  tanh_ends      ? "the generator's tanh gives -1 to 1"
                  : sigmoid_ends ? "the generator's sigmoid gives 0 to 1"
                                 : "a network works best with numbers around -1 to 1");
    if (!bounded)
        gan__measured(g, GAN__G_RANGE, outside,
                      "the fakes run from %.2g to %.2g, the data from %.2g to %.2g: %.0f%% of "
                      "their numbers are where no data is. Does the generator end in tanh?",
                      low, high, least, most, 100 * outside);
}

/* At every call: the tape begins anew with gan_clear, and has the same length at the end of each
   step. */
static void gan__count_growth(gan *g, int tape_count)
{
    struct gan__doctor *d = g->doctor;
    d->growing = tape_count > d->tape_count ? d->growing + 1 : 0;
    d->tape_count = tape_count;
}

static void gan__look_memory(gan *g)
{
    int steps = g->doctor->growing;
    gan__measured(g, GAN__MEMORY, steps,
                  "memory grows from step to step: %d tensors and %.1f MB are held, and in each "
                  "of the last %d steps there were more. gan_clear(g) belongs at the end of a "
                  "step",
                  g->tape_count, (double)gan_memory(g, NULL) / 1e6, steps);
}

/* softplus and the hinge's ReLU want a logit, any number; of s(x) in (0,1) they learn little. */
static void gan__look_sigmoid(gan *g)
{
    int wrong = 0;
    for (int i = 0; i < g->tape_count; i++) {
        const gan_tensor *t = g->tape[i];
        bool loss = gan__is_map(t, GAN_SOFTPLUS) ||
                    (gan__is_map(t, GAN_LEAKY) && t->real[0] == 0 && t->c == 1);
        const gan_tensor *from = loss ? t->in[0] : NULL;
        while (gan__is_map(from, GAN_AFFINE)) /* 1 - x and the like */
            from = from->in[0];
        wrong += gan__is_map(from, GAN_SIGMOID);
    }
    gan__measured(g, GAN__SIGMOID, wrong,
                  "the discriminator ends in a sigmoid, and %d terms of the losses want logits: "
                  "of a number between 0 and 1 they cannot tell how sure it is. Leave the "
                  "sigmoid out",
                  wrong);
}

/* All that the fakes were computed from, parameters aside. */
static void gan__look_noise(gan *g, gan_tensor *fake)
{
    struct gan__doctor *d = g->doctor;
    uint64_t now = gan__mark_ancestors(fake), sum = 14695981039346656037u;
    gan_model *model;
    for (int i = 0; i <= fake->tape; i++) {
        const gan_tensor *t = g->tape[i];
        if (t->needs_grad_in == now && !t->op && !t->overwritten && !gan__owner(g, t->data, &model))
            sum = gan__checksum(sum, t);
    }
    gan__measured(g, GAN__SAME_NOISE, sum == d->noise,
                  "the noise is the same at every look: the generator is taught %d images only. "
                  "Draw it anew in each step",
                  fake->n);
    d->noise = sum;
}

/* Why a network that has an optimizer does not learn. */
static const char *gan__why_frozen(gan *g, const gan_model *model)
{
    struct gan__doctor *d = g->doctor;
    bool rate = false, stepped = false;
    int own = 0, others = 0;
    for (int i = 0; i < model->count; i++)
        stepped = stepped || model->params[i].look == d->looks;
    for (const gan_opt *opt = model->opts; opt; opt = opt->next)
        rate = rate || opt->lr != 0;
    for (int i = 0; i < d->loss_count; i++) {
        own += d->losses[i].model == model;
        others += d->losses[i].model != model;
    }
    if (!model->opts)
        return "It has no optimizer";
    if (!rate)
        return "Its optimizer has the learning rate 0";
    if (own == 0 && others > 1)
        return "Is its loss given to the other network's optimizer?";
    if (stepped)
        return "Its gradients are 0: its loss asks for nothing more";
    return own ? "Is gan_step called after gan_backward?"
               : "Is gan_minimize called with its optimizer?";
}

/* side 0: the discriminator, whose output is the logits; 1: the generator, whose is the fakes. */
static void gan__look_frozen(gan *g, int side, gan_tensor *output)
{
    struct gan__doctor *d = g->doctor;
    const gan_model *model = gan__model_of(output);
    uint64_t sum = 14695981039346656037u;
    if (!model)
        return;
    for (int i = 0; i < model->count; i++)
        if (model->params[i].trainable)
            sum = gan__checksum(sum, model->params[i].value);
    if (sum != d->weights[side])
        d->changed[side] = d->step;
    d->weights[side] = sum;
    gan__measured(g, side ? GAN__G_FROZEN : GAN__D_FROZEN, d->step - d->changed[side],
                  "the %s does not learn: no parameter of %s has changed in %d steps. %s",
                  side ? "generator" : "discriminator", model->name, d->step - d->changed[side],
                  gan__why_frozen(g, model));
}

/* The derivative of loss by the logits that were computed from images on the way to it, their
   mean; 0 where there are none, or where an in-place function overwrote what it needs. */
static double gan__loss_slope(gan_tensor *loss, gan_tensor *images, const gan_tensor *known)
{
    gan *g = loss->g;
    gan_tensor *logits = gan__find_logits(images, known, loss);
    if (!logits)
        return 0;
    bool overwritten = false;
    bool *on = gan__paths_to(g, logits->data, loss);
    for (int i = 0; i < g->tape_count; i++)
        for (int j = 0; on[i] && g->tape[i]->data != logits->data && j < 3; j++)
            overwritten = overwritten || g->tape[i]->overwritten ||
                          (g->tape[i]->in[j] && g->tape[i]->in[j]->overwritten);
    GAN_FREE(on);
    if (overwritten)
        return 0;
    gan_mark mark = gan_here(g);
    gan_tensor *slope = gan_grad(loss, logits);
    gan_real *x = gan__on_host(g, slope->data, gan_count(slope));
    double sum = 0;
    for (size_t i = 0; i < gan_count(slope); i++)
        sum += (double)x[i];
    GAN_FREE(x);
    gan_clear_to(g, mark);
    return sum;
}

/* Let D's loss be L and G's K, a = D(real) and b = D(fake). D's step moves a by -dL/da and b by
   -dL/db, so it pulls them apart by dL/db - dL/da, above 0 where real images are to have the larger
   logits. G's moves b by -dK/db, and should go against that: dK/db and D's pull have opposite
   signs. Where D's pull is next to nothing, its sign says nothing. */
static void gan__look_signs(gan *g, gan_tensor *real, gan_tensor *fake, gan_tensor *real_logits,
                            gan_tensor *fake_logits)
{
    struct gan__doctor *d = g->doctor;
    const gan_model *D = gan__model_of(real_logits), *G = gan__model_of(fake);
    double L_a = 0, L_b = 0, K_b = 0;
    int given = d->loss_count; /* differentiating adds none */
    for (int i = 0; i < given; i++) {
        gan_tensor *loss = d->losses[i].loss;
        if (d->losses[i].model == D) {
            L_a += gan__loss_slope(loss, real, real_logits);
            L_b += gan__loss_slope(loss, fake, fake_logits);
        } else if (d->losses[i].model == G)
            K_b += gan__loss_slope(loss, fake, fake_logits);
    }
    double pull = L_b - L_a;
    if (D == G || fabs(pull) <= 0.1 * fabs(K_b))
        return;
    if (pull < 0)
        gan__measured(g, GAN__SWAPPED, K_b / pull,
                      "the discriminator's labels are swapped: the derivative of its loss by "
                      "D(real) is %.2g and by D(fake) %.2g, so it learns to take fakes for real. "
                      "Real images have the label 1",
                      L_a, L_b);
    else
        gan__measured(g, GAN__SIGN, K_b / pull,
                      "the sign of the generator's loss is wrong: its derivative by D(fake) is "
                      "%.2g, that of the discriminator's loss %.2g, so both want D(fake) lower. "
                      "The generator's loss is to fall as D(fake) rises",
                      K_b, L_b);
}

/* The weights that gan_step changed in this step; of each symptom the worst is named. A bias may
   be 0, or do nothing before batch norm; no gradient at all comes of dead ReLUs or of zeros. */
static void gan__look_weights(gan *g)
{
    static const int symptom[3] = {GAN__VANISHES, GAN__EXPLODES, GAN__RATE};
    static const char *const say[3] = {
        "the gradient vanishes on its way to %s: it is %.2g times smaller there than where it is "
        "largest. Batch norm, leaky ReLU, fewer layers",
        "the gradient explodes at %s: it is %.2g times as long as the weight. Batch norm, smaller "
        "first weights, a lower learning rate",
        "the learning rate is too high for %s: one update is %.2g of the weight's first length, "
        "0.001 to 0.05 is usual. Divide it by 10"};
    double most[3] = {0, 0, 0};
    char worst[3][80] = {"", "", ""};
    for (gan_model *model = g->models; model; model = model->next) {
        double largest = 0;
        for (int i = 0; i < 2 * model->count; i++) { /* the second time the largest is known */
            gan__param *p = &model->params[i % model->count];
            double each = p->gradient / sqrt((double)gan_count(p->value));
            double size = GAN__MAX(p->size, sqrt(p->value->n / 3.0)); /* as PyTorch's begin */
            if (p->look != g->doctor->looks || p->rank < 2 || each == 0)
                continue;
            largest = GAN__MAX(largest, each);
            double found[3] = {largest / GAN__MAX(each, 1e-9 * largest), p->gradient / size,
                               p->change / size};
            for (int k = 0; i >= model->count && k < 3; k++)
                if (found[k] > most[k]) {
                    most[k] = found[k];
                    snprintf(worst[k], sizeof worst[k], "%.30s.%.40s", model->name, p->name);
                }
        }
    }
    for (int k = 0; k < 3; k++)
        gan__measured(g, symptom[k], most[k], say[k], worst[k], most[k]);
    struct gan__doctor *d = g->doctor;
    d->jump *= 0.95; /* what was long ago is no cause */
    if (most[2] > d->jump) {
        d->jump = most[2];
        memcpy(d->jumped, worst[2], sizeof d->jumped);
    }
}

/* Weights that jumped at first may hardly move later, when all has gone wrong: then the effects
   remain. */
static void gan__look_jumped(gan *g)
{
    static const int effects[] = {GAN__DEAD, GAN__EXPLODES, GAN__WON, GAN__DECEIVED,
                                  GAN__COLLAPSED};
    struct gan__doctor *d = g->doctor;
    bool seen = d->gap > 16 && d->step - d->start > 30; /* no loss asks for that much so soon */
    for (int i = 0; i < 5; i++)
        seen = seen || gan__counts(d, effects[i]);
    if (seen)
        gan__measured(g, GAN__JUMPED, d->jump,
                      "the learning rate is too high for %s: one update was %.2g of the weight's "
                      "first length, 0.001 to 0.05 is usual. Divide it by 10",
                      d->jumped, d->jump);
}

/* Channels of t (N,C,H,W) that are 0 for every image and place. */
static int gan__dead_channels(const gan_tensor *t)
{
    gan_real *x = gan__on_host(t->g, t->data, gan_count(t));
    int dead = t->c, size = t->h * t->w;
    for (int c = 0; c < t->c; c++)
        for (int k = 0; k < t->n * size; k++)
            if (x[((size_t)(k / size) * t->c + c) * size + k % size] != 0) {
                dead--;
                break;
            }
    GAN_FREE(x);
    return dead;
}

/* Of all results of ReLUs the one with most dead channels; one channel alone is a hinge loss. */
static void gan__look_relus(gan *g)
{
    const gan_tensor *worst = NULL;
    double most = 0;
    for (int i = 0; i < g->tape_count; i++) {
        const gan_tensor *t = g->tape[i];
        if (!gan__is_map(t, GAN_LEAKY) || t->overwritten || t->real[0] != 0 || t->c == 1)
            continue;
        double share = (double)gan__dead_channels(t) / t->c;
        worst = share > most ? t : worst;
        most = GAN__MAX(most, share);
    }
    char name[300];
    if (!worst)
        return;
    gan__doctor_name(worst, name);
    gan__measured(g, GAN__DEAD, most,
                  "ReLUs are dead: %.0f%% of the channels of %s are 0 for the whole batch and "
                  "let no gradient through. A lower learning rate, leaky ReLU, batch norm before "
                  "it",
                  100 * most, name);
}

/* Does a loss go through softplus or sigmoid, which are flat where the discriminator is sure? */
static bool gan__loss_saturates(gan *g, const gan_tensor *real, const gan_tensor *fake)
{
    for (int i = 0; i < g->tape_count; i++) {
        const gan_tensor *t = g->tape[i];
        const gan_tensor *in = gan__is_map(t, GAN_SOFTPLUS) || gan__is_map(t, GAN_SIGMOID)
                                 ? t->in[0]
                                 : NULL;
        if (in && (in == real || in == fake ||
                   (in->op && (in->in[0] == real || in->in[0] == fake)))) /* or of -logits */
            return true;
    }
    return false;
}

static double gan__mean(const gan_real *x, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (double)x[i];
    return sum / (double)count;
}

/* How well D tells real images from fakes: the share of pairs in which the real one has the
   larger logit (of at most some 512 x 512). */
static void gan__look_contest(gan *g, gan_tensor *real, gan_tensor *fake)
{
    size_t n = gan_count(real), m = gan_count(fake);
    size_t jump = 1 + GAN__MAX(n, m) / 512;
    gan_real *x = gan__on_host(g, real->data, n);
    gan_real *y = gan__on_host(g, fake->data, m);
    double a = gan__mean(x, n), b = gan__mean(y, m), right = 0, pairs = 0;
    for (size_t i = 0; i < n; i += jump)
        for (size_t j = 0; j < m; j += jump) {
            pairs++;
            right += x[i] > y[j] ? 1 : x[i] == y[j] ? 0.5 : 0;
        }
    right /= pairs;
    GAN_FREE(x);
    GAN_FREE(y);
    g->doctor->gap = right > 0.99 ? a - b : 0;
    if (right > 0.99 && gan__loss_saturates(g, real, fake))
        gan__measured(g, GAN__WON, a - b,
                      "the discriminator has won: it tells %.0f%% of all pairs apart, logits %.1f "
                      "against %.1f, and has nothing left to teach. Lower its learning rate, train "
                      "it less often, add R1, or call real images 0.9",
                      100 * right, a, b);
    gan__measured(g, GAN__DECEIVED, 1 - right,
                  "the discriminator takes fakes for real: it is right on %.0f%% of all pairs, "
                  "logits %.1f (real) against %.1f (fake). Is it trained, and less than the "
                  "generator?",
                  100 * right, a, b);
}

/* How much images differ: those of the data, and the fakes. */
static void gan__look_variety(gan *g, gan_tensor *real, gan_tensor *fake)
{
    double reals = gan__spread(real), fakes = gan__spread(fake);
    gan__measured(g, GAN__DATA_CONSTANT, 1e-3 / GAN__MAX(reals, 1e-9),
                  "the images of the data are all the same: two differ by %.2g. How are they read "
                  "and scaled?",
                  reals);
    gan__measured(g, GAN__COLLAPSED, reals / GAN__MAX(fakes, 1e-9),
                  "the generator has collapsed: two fakes differ by %.2g, two real images by %.2g. "
                  "Lower its learning rate, try R1 or batch norm, or start anew",
                  fakes, reals);
}

static void gan__look_all(gan *g, gan_tensor *real, gan_tensor *fake, gan_tensor *real_logits,
                          gan_tensor *fake_logits)
{
    gan__look_ranges(g, real, fake);
    gan__look_memory(g);
    gan__look_sigmoid(g);
    gan__look_noise(g, fake);
    gan__look_frozen(g, 0, real_logits);
    gan__look_frozen(g, 1, fake);
    gan__look_signs(g, real, fake, real_logits, fake_logits);
    gan__look_weights(g);
    gan__look_relus(g);
    gan__look_contest(g, real_logits, fake_logits);
    gan__look_variety(g, real, fake);
    gan__look_jumped(g); /* reads what the others found */
}

/* ---- the public functions */

/* The first call: the parameters as they are now are what updates are compared with. */
static void gan__doctor_new(gan *g, int step)
{
    g->doctor = (struct gan__doctor *)gan__alloc_zero(sizeof *g->doctor);
    g->doctor->start = step;
    g->doctor->changed[0] = g->doctor->changed[1] = step;
    for (gan_model *model = g->models; model; model = model->next)
        for (int i = 0; i < model->count; i++)
            model->params[i].size = gan__tensor_length(model->params[i].value);
}

/* Steps 1, 2, 4, 8 .. after the first, and each every-th. */
static bool gan__look_at(const struct gan__doctor *d, int step)
{
    int since = step - d->start;
    return step % d->every == 0 || (since > 0 && since < d->every && !(since & (since - 1)));
}

GAN_API int gan_doctor(gan *g, int step, int every, gan_tensor *real, gan_tensor *fake,
                       gan_tensor *real_logits, gan_tensor *fake_logits)
{
    if (!g)
        gan__fail(NULL, "gan_doctor", "the device is NULL");
    gan__valid_pair(real, fake, "gan_doctor");
    if (every < 1 || real->n < 2 || fake->n < 2)
        gan__fail(g, "gan_doctor", "it wants every >= 1, not %d, and batches of 2 or more", every);
    int tape_count = g->tape_count;
    gan_tensor *images[2] = {real, fake}, *logits[2] = {real_logits, fake_logits};
    for (int i = 0; i < 2; i++) {
        if (logits[i])
            gan__valid(logits[i], "gan_doctor");
        logits[i] = logits[i] ? logits[i] : gan__find_logits(images[i], NULL, NULL);
        if (!logits[i])
            gan__fail(g, "gan_doctor",
                      "no tensor (%d,1,1,1) comes from the images " GAN__DIMS
                      ": hand over the logits",
                      images[i]->n, GAN__SHAPE(images[i]));
    }
    if (gan__planned(g, "gan_doctor"))
        return 0;
    if (!g->doctor)
        gan__doctor_new(g, step);
    struct gan__doctor *d = g->doctor;
    bool finite = gan__all_finite(g, logits[0], logits[1]);
    d->step = step;
    d->every = every;
    d->told = 0;
    gan__count_growth(g, tape_count);
    if (!finite || gan__look_at(d, step)) {
        d->looks++;
        if (!finite)
            gan__look_not_finite(g, real);
        else
            gan__look_all(g, real, fake, logits[0], logits[1]);
        gan__doctor_tell(g);
    }
    d->first[0] = 0;
    d->loss_count = 0;
    g->look = gan__look_at(d, step + 1);
    return d->told;
}

/* Which of k classes no row of scores (n,k) is best in: their number, and the first 20 in list. */
static int gan__classes_missing(const gan_real *scores, int n, int k, char *list, size_t size)
{
    int missing = 0;
    list[0] = 0;
    for (int c = 0; c < k; c++) {
        bool found = false;
        for (int i = 0; i < n && !found; i++) {
            int better = 0;
            for (int j = 0; j < k; j++)
                better += scores[i * k + j] > scores[i * k + c];
            found = better == 0;
        }
        if (!found && ++missing <= 20)
            snprintf(list + strlen(list), size - strlen(list), " %d", c);
    }
    return missing;
}

GAN_API int gan_doctor_classes(gan *g, gan_tensor *scores)
{
    char list[200];
    int k = gan__valid(scores, "gan_doctor_classes") ? scores->c : 0;
    if (scores->n < 10 * k || scores->h * scores->w != 1)
        gan__fail(g, "gan_doctor_classes", "the scores " GAN__DIMS " must be (N,K,1,1), N >= 10*K",
                  GAN__SHAPE(scores));
    if (g->plan || !g->doctor)
        return 0;
    gan_real *x = gan__on_host(g, scores->data, gan_count(scores));
    int missing = gan__classes_missing(x, scores->n, k, list, sizeof list);
    GAN_FREE(x);
    gan__measured(g, GAN__CLASSES, missing,
                  "the generator leaves out %d of %d classes in %d fakes:%s. Train longer, or make "
                  "the class an input",
                  missing, k, scores->n, list);
    if (missing && gan__due(g->doctor, GAN__CLASSES)) {
        gan__doctor_say(g, g->doctor->course[GAN__CLASSES].text);
        g->doctor->told++;
    }
    return missing;
}

GAN_API const char *gan_doctor_text(const gan *g)
{
    return g && g->doctor ? g->doctor->text : "";
}

/* ===========================================================================================
   >>plan (implementation)
   ===========================================================================================
   A plan calls a step whose kernels are listed and not run: while there is g->plan, gan__run calls
   gan__plan_kernel instead of the kernel, and memory is taken and given back as ever. Afterwards
   all is as before: what a step changes without a kernel (counts, rates, positions) was saved and
   is restored, and what it made (parameters, optimizer state) is freed.

   A captured step is a sequence of kernels and uploads that the backend took down while the step
   was called once, and can replay without the step (cuda: a graph). It is captured inside of a
   plan, so that a step which turns out to be impossible to capture leaves no trace. What differs
   from replay to replay lies in memory that the replayed kernels read, and is written before each:

       the step as captured     random    upload of a batch    conv2d  ...  adam    adam  ...
                                  ^             ^                             ^       ^
       written before a replay   its counter   the images' numbers           rate and step count */

/* What a plan keeps. */
struct gan__plan {
    /* To make all as before. */
    uint64_t *saved; /* a word for each number, in the order of gan__plan_state */
    int saved_count; /* how many have been saved, or restored */
    bool restoring;
    gan_mark mark; /* tensors made after it are freed */

    /* The table. */
    bool printing;     /* the second call of the step */
    double total_adds; /* multiply-adds of all rows */

    /* Its row: the kernels of a layer, of a tensor function, of a gan_backward or of a gan_step. */
    char name[160], shape[64];
    int kernels;
    const gan_tensor *result;
    double params, adds; /* parameters that are trained, multiply-adds */
    double bytes, held;  /* of the result; the most that was held */
};

#define GAN__PLAN_STATE(field) gan__plan_field(g->plan, &(field), sizeof(field))

/* Saves a field, or restores it. */
static void gan__plan_field(struct gan__plan *plan, void *field, size_t size)
{
    if (plan->restoring) {
        memcpy(field, &plan->saved[plan->saved_count++], size);
        return;
    }
    plan->saved = (uint64_t *)gan__grow(plan->saved, (size_t)plan->saved_count, sizeof(uint64_t));
    memcpy(&plan->saved[plan->saved_count++], field, size);
}

/* An optimizer's state. What the step made of it is freed when the rest is restored. */
static void gan__plan_optimizer(gan *g, gan_opt *opt)
{
    int count = opt->count;
    GAN__PLAN_STATE(count);
    GAN__PLAN_STATE(opt->lr);
    for (int i = 0; i < opt->count; i++) {
        gan__moments *moments = &opt->moments[i];
        if (i < count)
            GAN__PLAN_STATE(moments->steps);
        if (i >= count || moments->steps <= 0)
            gan__moments_free(opt, moments);
    }
    opt->count = count;
}

/* Saves what a step may change without a kernel, or restores it and frees what the step made. */
static void gan__plan_state(gan *g, bool restoring)
{
    g->plan->restoring = restoring;
    g->plan->saved_count = 0;
    GAN__PLAN_STATE(g->drawn);
    for (gan_data *data = g->datas; data; data = data->next)
        GAN__PLAN_STATE(data->drawn);
    for (gan_model *model = g->models; model; model = model->next) {
        int params = model->count;
        int layers = model->layer_count;
        GAN__PLAN_STATE(model->mode);
        GAN__PLAN_STATE(model->frozen);
        GAN__PLAN_STATE(model->weights);
        GAN__PLAN_STATE(model->rate);
        GAN__PLAN_STATE(params);
        GAN__PLAN_STATE(layers);
        for (gan_opt *opt = model->opts; opt; opt = opt->next)
            gan__plan_optimizer(g, opt);
        for (int i = 0; i < model->count; i++)
            gan__drop_gradient(model, i);
        gan__model_truncate(model, params, layers);
    }
}

static void gan__plan_begin(gan *g)
{
    g->plan = (struct gan__plan *)gan__alloc_zero(sizeof *g->plan);
    gan__thread.planning = g;
    g->plan->mark = gan_here(g);
    gan__plan_state(g, false);
}

/* Also after an error in the step. */
static void gan__plan_end(gan *g)
{
    if (g->capturing) {
        g->backend->capture_free(g->backend->capture_end());
        g->capturing = NULL;
    }
    gan_clear_to(g, g->plan->mark); /* views of parameters, before the parameters themselves */
    gan__plan_state(g, true);
    GAN_FREE(g->plan->saved);
    GAN_FREE(g->plan);
    g->plan = NULL;
    gan__thread.planning = NULL;
}

/* The row that is complete, if there is one; an empty one follows. */
static void gan__plan_print_row(struct gan__plan *row)
{
    if (row->kernels)
        printf("%-44s %-20s %11.0f %15.0f %11.1f %11.1f\n", row->name, row->shape, row->params,
               row->adds, row->bytes / 1024, row->held / 1024);
    row->total_adds += row->adds;
    row->params = row->adds = row->bytes = row->held = 0;
    row->kernels = 0;
}

/* The model whose parameter is an operand of kernel k, or NULL; *params: how many numbers of it are
   trained. A parameter that the kernel writes counts once, though it is read too. */
static gan_model *gan__plan_model(gan *g, int k, const gan_real *const *x, const gan_real *y,
                                  double *params)
{
    gan_model *model = NULL, *owner;
    int in = gan__kernels[k].in;
    for (int i = in; i >= 0; i--) {
        gan__param *param = gan__owner(g, i < in ? x[i] : y, &owner);
        if (!param)
            continue;
        model = owner;
        *params += param->trainable ? (double)gan_count(param->value) : 0;
        if (i == in)
            break;
    }
    return model;
}

/* A plan's kernel k: added to the row, or the first of a new one. */
static void gan__plan_kernel(gan *g, int k, const void *p, const gan__cost *cost,
                             const gan_real *const *x, const gan_real *y)
{
    struct gan__plan *row = g->plan;
    if (!row->printing)
        return;
    bool in_layer = g->where[0] != 0;
    const gan_tensor *top = g->tape_count && !g->reclaiming ? g->tape[g->tape_count - 1] : NULL;
    if (top && !in_layer && top->data != y)
        top = NULL; /* the kernel writes no new tensor, but a parameter or optimizer state */
    double params = 0;
    gan_model *model = g->reclaiming ? NULL : gan__plan_model(g, k, x, y, &params);
    const char *title = g->reclaiming ? "gan_backward" : gan__title(g, k, p);
    char name[160];
    snprintf(name, sizeof name, "%s%s%s", model ? model->name : "", model ? " " : "", title);
    bool same_name = strcmp(row->name, name) == 0;
    bool same_layer = in_layer && strstr(row->name, title) &&
                      (!model || strcmp(row->name, title) == 0);
    bool same_result = top && row->result == top;
    if (!same_result && !((in_layer || !top) && (same_name || same_layer)))
        gan__plan_print_row(row);

    if (model || !row->kernels)
        strcpy(row->name, name);
    row->result = top;
    row->kernels++;
    row->params += params;
    row->held = GAN__MAX(row->held, (double)g->held);
    snprintf(row->shape, sizeof row->shape, "%d kernels", row->kernels);
    if (top) {
        snprintf(row->shape, sizeof row->shape, GAN__DIMS, GAN__SHAPE(top));
        row->bytes = (double)gan_count(top) * sizeof(gan_real);
    }
    if (gan__products_summed(k) == 2)
        row->adds += cost->flops / 2;
}

/* What gan_plan and gan_capture want before they begin. */
static void gan__plan_check(gan *g, gan_step_fn *step, const char *function)
{
    gan__check_device(g, function);
    if (!step)
        gan__fail(g, function, "the step is NULL; a function (gan *, void *user) is wanted");
    if (g->plan)
        gan__fail(g, function, "it was called inside of a plan or of a step that is captured");
    if (g->gradients)
        gan__fail(g, function, "a gradient of gan_backward still waits for gan_step");
}

GAN_API size_t gan_plan(gan *g, gan_step_fn *step, void *user)
{
    gan__plan_check(g, step, "gan_plan");
    size_t peak_before = g->peak;
    gan__plan_begin(g);
    g->peak = g->held;
    step(g, user); /* makes parameters and optimizer state */
    gan_clear_to(g, g->plan->mark);
    printf("%-44s %-20s %11s %15s %11s %11s\n", "operation", "result (N,C,H,W)", "parameters",
           "multiply-adds", "its KiB", "held KiB");
    g->plan->printing = true;
    step(g, user);
    gan_clear_to(g, g->plan->mark);
    gan__plan_print_row(g->plan);

    double params = 0;
    for (gan_model *model = g->models; model; model = model->next)
        params += (double)gan_param_count(model);
    printf("%-44s %-20s %11.0f %15.0f %11s %11.1f\n", "total, peak", "", params,
           g->plan->total_adds, "", (double)g->peak / 1024);
    printf("%-44s %72.1f\n", "of it parameters and optimizer state", (double)g->held / 1024);
    size_t peak = g->peak;
    g->peak = GAN__MAX(peak_before, peak);
    gan__plan_end(g);
    return peak;
}

/* ---- captured steps */

/* The place of a number, or numbers, that differ in each replay. */
typedef struct {
    void *memory;   /* read by the replayed kernel or upload */
    gan_opt *opt;   /* it holds the sizes of the update of parameter n, */
    gan_data *data; /* or the numbers of a batch of n images, */
    int n;          /* or, without both, the sizes of a kernel of random numbers */
} gan__replay_value;

struct gan__capture {
    gan_step_fn *step;
    void *user;
    int calls;            /* of the step by gan_capture; the second one captures it */
    const char *obstacle; /* why the step cannot be captured, or NULL */
    void *captured;       /* the backend's, or NULL: the step is called each time */
    gan__replay_value *values;
    int value_count;
    uint64_t drawn;          /* g->drawn before the last replay */
    uint64_t drawn_per_step; /* what a step adds to it */
    struct gan__capture *next;
};

/* Is nothing computed now, in a plan or in a step that is captured? A function that asks cannot be
   a part of a captured step: its name is noted as the reason. */
static bool gan__planned(gan *g, const char *function)
{
    if (g->capturing && !g->capturing->obstacle)
        g->capturing->obstacle = function;
    return g->plan != NULL;
}

/* The kernel or upload just called differs in each replay: see gan__replay_value. */
static void gan__replay_value_add(gan *g, gan_opt *opt, gan_data *data, int n)
{
    struct gan__capture *c = g->capturing;
    if (!c)
        return;
    gan__replay_value value = {g->backend->capture_last(), opt, data, n};
    c->values = (gan__replay_value *)gan__grow(c->values, (size_t)c->value_count, sizeof value);
    c->values[c->value_count++] = value;
}

/* Frees what was captured; each step is called again, and captured again if nothing is in the way.
   closing: at gan_close. */
static void gan__captures_free(gan *g, bool closing)
{
    for (struct gan__capture *c = g->captures, *next; c; c = next) {
        next = c->next;
        if (c->captured)
            g->backend->capture_free(c->captured);
        GAN_FREE(c->values);
        c->captured = NULL;
        c->values = NULL;
        c->value_count = 0;
        c->calls = c->obstacle ? 2 : 0;
        if (closing)
            GAN_FREE(c);
    }
    memset(&g->floor, 0, sizeof g->floor);
    g->captured_count = 0;
}

/* Calls the step once, without computing it, while the backend takes down what it does. */
static void gan__capture_step(gan *g, struct gan__capture *c)
{
    gan__plan_begin(g);
    g->capturing = c;
    c->drawn = g->drawn;
    g->backend->capture_begin();
    c->step(g, c->user);
    if (g->gradients)
        gan__planned(g, "a gradient that waits for gan_step");
    c->drawn_per_step = g->drawn - c->drawn;
    c->captured = g->backend->capture_end();
    g->capturing = NULL;
    if (!c->captured && !c->obstacle)
        c->obstacle = "the device gives no reason";
    if (!c->obstacle) {
        g->plan->mark = g->floor = gan_here(g); /* the step's tensors stay for its replays */
        g->captured_count++;
    } else {
        fprintf(stderr, "gan_capture: the step is called each time, as it cannot be recorded: %s\n",
                c->obstacle);
        g->backend->capture_free(c->captured);
        c->captured = NULL;
    }
    gan__plan_end(g);
}

/* Writes what differs in this replay: the next images, the next random numbers, the optimizers'
   rates and counts of now. */
static void gan__replay(gan *g, struct gan__capture *c)
{
    for (int i = 0; i < c->value_count; i++) {
        gan__replay_value *value = &c->values[i];
        if (value->opt) {
            int steps = ++value->opt->moments[value->n].steps;
            *(gan_update *)value->memory = gan__update_of(value->opt, value->n, steps);
        } else if (value->data) {
            for (int k = 0; k < value->n; k++)
                ((gan_real *)value->memory)[k] = (gan_real)gan__next_item(value->data);
        } else {
            gan_random *random = (gan_random *)value->memory;
            random->seed = g->seed;
            random->index += g->drawn - c->drawn;
        }
    }
    c->drawn = g->drawn;
    g->drawn += c->drawn_per_step;
    g->backend->replay(c->captured);
}

/* The capture of this user's step, new if it has none. */
static struct gan__capture *gan__find_capture(gan *g, gan_step_fn *step, void *user)
{
    for (struct gan__capture *c = g->captures; c; c = c->next)
        if (c->user == user)
            return c;
    struct gan__capture *c = (struct gan__capture *)gan__alloc_zero(sizeof *c);
    c->step = step;
    c->user = user;
    c->next = g->captures;
    return g->captures = c;
}

GAN_API void gan_capture(gan *g, gan_step_fn *step, void *user)
{
    gan__plan_check(g, step, "gan_capture");
    struct gan__capture *c = gan__find_capture(g, step, user);
    bool another_step = c->step != step;
    if (another_step || g->look) { /* gan_doctor's look wants every kernel called */
        if (another_step)
            c->obstacle = NULL;
        c->step = step;
        gan__captures_free(g, false);
    }
    gan_clear(g);
    bool can_replay = g->backend->replay && !g->other;
    if (can_replay && c->calls < 2 && c->calls++ == 1)
        gan__capture_step(g, c);
    if (c->captured)
        gan__replay(g, c);
    else
        step(g, user);
}

#ifdef __cplusplus
}
#endif
#endif /* GAN__SECOND_HALF */

/* LICENCE. Choose the one that you like; both let you do anything.

   ALTERNATIVE A - MIT No Attribution (MIT-0) Copyright (c) 2026 gan.h authors Permission is
   hereby granted, free of charge, to any person obtaining a copy of this software and associated
   documentation files (the "Software"), to deal in the Software without restriction, including
   without limitation the rights to use, copy, modify, merge, publish, distribute, sublicense,
   and/or sell copies of the Software, and to permit persons to whom the Software is furnished to
   do so. THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED,
   INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR
   PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR
   ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE,
   ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
   SOFTWARE.

   ALTERNATIVE B - Public domain (www.unlicense.org) This is free and unencumbered software
   released into the public domain. Anyone is free to copy, modify, publish, use, compile, sell,
   or distribute this software, either in source code form or as a compiled binary, for any
   purpose, commercial or non-commercial, and by any means. In jurisdictions that recognize
   copyright laws, the author or authors of this software dedicate any and all copyright interest
   in the software to the public domain. THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF
   ANY KIND, EXPRESS OR IMPLIED. */
