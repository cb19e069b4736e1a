/* gan.h - generative adversarial networks in one C header, to read, to run and to take apart.
   v0.1 Public domain or MIT-0, as you like; the text is at the end of the file.

   Do this in ONE C or C++ file, then build it with  cc main.c -lm  (add -fopenmp for all cores):

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
           gan *g = gan_open("cpu", 42);                             // device, seed
           gan_model *m = gan_model_new(g, "net");
           gan_opt *adam = gan_adam(m, 1e-2f, 0.9f, 0.999f);
           for (int step = 0; step <= 1000; step++) {
               gan_tensor *x = gan_randn(g, 64, 2, 1, 1);            // (N,C,H,W) = (64,2,1,1)
               gan_tensor *y = gan_mul(gan_slice(x, 1, 0, 1), gan_slice(x, 1, 1, 1));
               gan_tensor *loss = gan_mse(net(m, x), y);
               gan_minimize(adam, loss);                             // gradients, then one Adam
                 step
               if (step % 250 == 0) printf("step %4d  loss %.4f\n", step, (double)gan_item(loss));
               gan_clear(g);                                         // parameters stay, the rest
                 goes
           }
           gan_close(g);
       }

   A DCGAN that learns handwritten digits is examples/01_dcgan.c.

   CONTENTS (search for the tag, as in  grep -n '>>conv' gan.h : contents, declaration,
   implementation)

     >>errors      two kinds of error, and how to catch them
     >>kernels     the one list of kernels; backends ref, cpu, your own
     >>device      gan_open, threads, memory of a step
     >>tensors     four dimensions N,C,H,W; made, read, copied
     >>random      Philox numbers (Salmon et al. 2011)
     >>arithmetic  add, mul, exp, clamp ... with broadcasting; activations
     >>reduce      sum, mean, expand
     >>shape       reshape, permute, slice, concat
     >>gather      numbers taken by index, added up by index, one-hot
     >>matmul      the matrix product and the core that all products share
     >>conv        convolution and its two adjoints (Dumoulin and Visin 2016)
     >>resample    padding, resizing, FIR filters, pooling, pixel shuffle
     >>norm        batch, instance, group, layer and pixel norm, AdaIN, minibatch deviation
     >>autograd    gradients, and gradients of gradients
     >>gradcheck   a derivative against central differences
     >>models      named parameters and how they start
     >>layers      linear, conv2d, norms, embedding, attention, modulated convolution; spectral
                   norm, equalized rate
     >>losses      of generator and discriminator, gradient penalties, pictures' and features'
                   distances
     >>optim       SGD, Adam, RMSprop, L-BFGS; learning rates, clipping, averages
     >>data        IDX, CIFAR-10, folders of pictures, pairs; built-in digits and shapes; batches,
                   image pool
     >>augment     random flips, shifts, holes and colours; DiffAugment, ADA
     >>metrics     scores of samples: Frechet and kernel distance, precision, modes, SSIM ...
     >>files       checkpoints in safetensors
     >>pictures    a grid of a batch as PNG (with stb_image_write)
     >>progress    one line on the terminal, a CSV beside it
     >>look        what is in a model, and where the time goes
     >>doctor      what is wrong with a training, in plain words
     >>plan        a step's operations and memory before it is computed; a step recorded once and
                   played again

   CONVENTIONS

     letters     N images, C channels, H rows, W columns; O output channels; KH,KW kernel; S
                 stride; P padding
     memory      row-major and contiguous: element (n,c,h,w) is data[((n*C + c)*H + h)*W + w]
     names       gan_x a tensor function, gan_ref_x and gan_cpu_x bare kernels, gan__x private,
                 GAN_X a macro
     arguments   of a kernel: sizes, inputs (incoming gradient first), outputs last; outputs are
                 written, not added to
     ownership   tensors live until gan_clear; models, optimizers and data until gan_close; you
                 free nothing
     errors      a mistake in the program aborts with one line; a bad file or device gives NULL or
                 false and gan_error()
     randomness  Philox: every number is a function of (seed, stream, index)
     threads     OpenMP; they split outputs and never a sum, so that the same seed gives the same
                 bits on any number
     NULL        never a valid tensor, but for a bias, labels or a log file that is not wanted

   OPTIONS (define before the include)

     GAN_IMPLEMENTATION   makes this the file that holds the code; everywhere else gan.h is only
                          declarations
     GAN_STATIC           every function static, for a program of one file
     GAN_REAL             float (default) or double: the number type of the whole library
     GAN_MAX_VECTOR       widest vectors used, in bytes: 64 (default), 32, 16, or 0 for plain loops
     GAN_NO_OPENMP        no threads even where the compiler has OpenMP
     GAN_NO_THREADS       no thread that decodes a folder's pictures ahead
     GAN_MALLOC GAN_FREE  malloc and free
     GAN_HEADER           "gan.h": the name of this file, if you renamed it (it includes itself,
                          once per instruction set)

   stb_image.h before gan.h adds reading .gz files and gan_data_folder (with -pthread where glibc
   is older than 2.34); stb_image_write.h before gan.h adds gan_save_png. */

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
   A kernel is a pure function of sizes and arrays, without tensors and without a tape. All are
   listed once, in GAN_KERNELS; the list makes the fields of gan_backend and the bare functions
   gan_ref_NAME (textbook loops: the meaning) and gan_cpu_NAME (blocked, vectorised, threaded).
   To add an operation: a line here, its two kernels and its cost, its tensor function with its
   derivative, and a line in tests/gradients.c, tests/operations.c and tests/reference.py. */

/* Elementwise functions of one array: gan_map.op. a and b are the two scalars of gan_map. */
enum {
    GAN_AFFINE, /* a*x + b */
    GAN_EXP,
    GAN_LOG,
    GAN_SQRT,
    GAN_RSQRT,  /* e^x, ln x, x^1/2, x^-1/2 */
    GAN_SQUARE, /* x*x */
    GAN_ABS,    /* |x| */
    GAN_SIGN,   /* -1, 0 or 1 */
    GAN_CLAMP,  /* a where x < a, b where x > b, x between */
    GAN_LEAKY,  /* x where x > 0, a*x elsewhere; a = 0 is ReLU */
    GAN_TANH,
    GAN_SIGMOID,  /* 1 / (1 + e^-x) */
    GAN_SOFTPLUS, /* ln(1 + e^x) = max(x,0) + ln(1 + e^-|x|) */
    GAN_ERF       /* 2/sqrt(pi) * integral of e^-t^2 from 0 to x */
};

/* Elementwise functions of two arrays: gan_zip.op. k and l are the two scalars of gan_zip. */
enum {
    GAN_MIX, /* k*a + l*b */
    GAN_MUL,
    GAN_DIV,
    GAN_GATE,     /* a where b > 0, k*a elsewhere: leaky ReLU's derivative */
    GAN_INSIDE,   /* a where k <= b <= l, 0 elsewhere: clamp's derivative */
    GAN_DTANH,    /* a * (1 - b*b):  tanh's derivative, b = tanh x */
    GAN_DSIGMOID, /* a * b * (1 - b): sigmoid's derivative, b = sigmoid x */
    GAN_EQUAL     /* 1 where a = b, 0 elsewhere */
};

typedef struct {
    size_t count;
    gan_real value;
} gan_fill;

typedef struct {
    int normal;
    size_t count;
    uint64_t seed, stream, index;
    gan_real scale, shift;
} gan_random;

typedef struct {
    int op;
    size_t count;
    gan_real a, b;
} gan_map;

/* y (N,C,H,W) = op(a, b). A stride is how far apart neighbours along N,C,H,W lie in a or b; 0
   repeats one (broadcasting). */
typedef struct {
    int op, n, c, h, w;
    ptrdiff_t a[4], b[4];
    gan_real k, l;
} gan_zip;

/* y[y0 + i.y] = x[x0 + i.x] for every index i in (N,C,H,W): permute, slice, concat and expand
   are copies with strides. */
typedef struct {
    int n, c, h, w;
    ptrdiff_t x[4], y[4], x0, y0;
} gan_copy;

/* y (out) = x (in) summed over each dimension in which out is 1 and in is not. */
typedef struct {
    int in[4], out[4];
} gan_sums;

/* y (N,C,M,W) = op(a) op(b), op(a) (M,K) and op(b) (K,W); op transposes where asked. Batches of
   a and b lie a_n, a_c, b_n, b_c elements apart along N and C; 0 repeats one. */
typedef struct {
    int n, c, m, k, w, transpose_a, transpose_b;
    ptrdiff_t a_n, a_c, b_n, b_c;
} gan_product;

/* The geometry of a convolution from (N,C,H,W) to (N,OUT_C,OH,OW), shared by it and its two
   adjoints:
     OH = (H + 2*PAD - DILATION*(KERNEL_H-1) - 1)/STRIDE + 1;  0 for stride, groups or dilation
       means 1. */
typedef struct {
    int n, c, h, w, out_c, kernel_h, kernel_w, stride, pad, groups, dilation;
} gan_conv;

GAN_API int gan_conv_out_h(const gan_conv *p);
GAN_API int gan_conv_out_w(const gan_conv *p);

/* Normalisation of (N,C,SIZE) over N and SIZE, for each C. frozen: the statistics are constants,
   not computed from x. */
typedef struct {
    int n, c;
    size_t size;
    gan_real eps;
    int frozen;
} gan_norm;

/* y[n,c,i,j] = sum over a < TAPS_H, b < TAPS_W of R[i,a] C[j,b] x[n,c,r(i,a),k(j,b)]: x
   (N,C,H,W), y (N,C,OUT_H,OUT_W). rows (IMAGES,OUT_H, TAPS_H,2) holds index and weight of each
   r, R; columns likewise of each k, C; an index of -1 counts as a 0 in x. IMAGES is 1, or N for
   tables of each image's own. adjoint: x from y. Padding, resizing, blurring, average pooling,
   cropping and flipping are tables. */
typedef struct {
    int n, c, h, w, out_h, out_w, taps_h, taps_w, images, adjoint;
} gan_resample;

/* y[o,i,k] = x[o,index[o,i,k],k]: x (OUTER,IN,INNER), y (OUTER,OUT,INNER), index at o*STEP_OUTER
   + i*STEP + k*STEP_INNER (0: shared). adjoint: x[o,index[o,i,k],k] is the sum of its y[o,i,k]. */
typedef struct {
    size_t outer, in, out, inner, step_outer, step, step_inner;
    int adjoint;
} gan_index;

/* Maximum of each KERNEL_H x KERNEL_W window of PLANES planes (H,W), STRIDE apart, after PAD
   rows and columns that never win. */
typedef struct {
    int planes, h, w, out_h, out_w, kernel_h, kernel_w, stride, pad;
} gan_pool;

/* (OUTER,COUNT,INNER) along COUNT; log_: the logarithm of it. */
typedef struct {
    size_t outer, count, inner;
    int log_;
} gan_lines;

/* One step of an optimizer; bias1 and bias2 are Adam's 1 - beta^t, decay AdamW's. */
typedef struct {
    size_t count;
    gan_real lr, beta1, beta2, eps, bias1, bias2, decay;
} gan_update;

/* K(name, type of the sizes, inputs, outputs)
      fill              y[i] = value
      random            y[i] = shift + scale * (uniform in [0,1), or standard normal)
      map, zip          elementwise, above
      copy, sum         above; sum's inner loop adds in double precision or in fixed lanes
      matmul            y = op(a) op(b), above
      conv2d            y[n,o,i,j]  = sum over c,u,v of x[n,c,i*S+u*D-P,j*S+v*D-P] * w[o,c,u,v]   x
                        (N,C,H,W), w (O,C/G,KH,KW)
      conv_transpose2d  x[n,c,h,w]  = sum over o,u,v with i*S+u*D-P = h, j*S+v*D-P = w of
                        y[n,o,i,j] * w[o,c,u,v]   inputs y, w
      conv2d_weight     w[o,c,u,v]  = sum over n,i,j of x[n,c,i*S+u*D-P,j*S+v*D-P] * y[n,o,i,j]
                        inputs x, y
      norm_stats        s (2,C) = mean of x and biased variance of x
      norm_apply        y = (x - mean)/sqrt(var + eps) * weight + bias        inputs x, s, weight
                        (C), bias (C)
      norm_sums         s (2,C) = sum of gy, sum of gy*xhat, xhat = (x - mean)/sqrt(var + eps)
                        inputs gy, x, s
      norm_grad         gx = weight/sqrt(var + eps) * (gy - (sums0 + xhat*sums1)/(N*SIZE))  inputs
                        gy, x, s, weight, sums
      resample          above: a separable linear map of each plane, or its adjoint    inputs x,
                        rows, columns
      gather            above: numbers taken by index, or added up by index            inputs x,
                        index
      max_index         index (PLANES,OUT_H*OUT_W) of each window's first maximum in its plane; a
                        NaN wins
      softmax           y = e^x / sum of e^x, or x - ln sum of e^x, over COUNT
      softmax_grad      gx = y*(gy - sum of gy*y), or gy - e^y * sum of gy              inputs gy,
                        y
      sgd               m = beta1*m + g;  p = p - lr*m                         input g, outputs p,
                        m (read and written)
      adam              m = beta1*m + (1-beta1)*g;  v = beta2*v + (1-beta2)*g*g;
                        p = (1 - lr*decay)*p - lr * (m/bias1) / (sqrt(v/bias2) + eps)   input g,
                          outputs p, m, v (read and written)
      rmsprop           v = beta2*v + (1-beta2)*g*g;  p = p - lr * g / (sqrt(v) + eps)  input g,
                        outputs p, v (read and written) */
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

#define GAN__0_1(type) (const type *p, gan_real *y)
#define GAN__1_1(type) (const type *p, const gan_real *x, gan_real *y)
#define GAN__2_1(type) (const type *p, const gan_real *a, const gan_real *b, gan_real *y)
#define GAN__3_1(type) \
    (const type *p, const gan_real *a, const gan_real *b, const gan_real *c, gan_real *y)
#define GAN__4_1(type)                                                                          \
    (const type *p, const gan_real *a, const gan_real *b, const gan_real *c, const gan_real *d, \
     gan_real *y)
#define GAN__5_1(type)                                                                          \
    (const type *p, const gan_real *a, const gan_real *b, const gan_real *c, const gan_real *d, \
     const gan_real *e, gan_real *y)
#define GAN__1_2(type) (const type *p, const gan_real *x, gan_real *y, gan_real *z)
#define GAN__1_3(type) (const type *p, const gan_real *x, gan_real *y, gan_real *z, gan_real *u)

/* A backend: a name, its memory, and one function per kernel. Your own is a copy of ref with a
   kernel of yours in it. */
typedef struct gan_backend {
    const char *name;
    const char *(*start)(void);   /* NULL: always there; else why it cannot run here, or NULL */
    void *(*alloc)(size_t bytes); /* NULL in the four: host memory, malloc and memcpy */
    void (*release)(void *memory);
    void (*upload)(void *device, const void *host, size_t bytes);
    void (*download)(void *host, const void *device, size_t bytes);
    void (*record)(void);    /* NULL: no gan_capture. Uploads and kernels are noted from here on, */
    void *(*noted)(void);    /* (the last one's bytes or sizes, which may change between plays) */
    void *(*recorded)(void); /* not done, up to here: what play does, or NULL if it cannot be */
    void (*play)(void *recording);
    void (*forget)(void *recording_or_NULL);
#define GAN__FIELD(name, type, in, out) void(*name) GAN__##in##_##out(type);
    GAN_KERNELS(GAN__FIELD)
#undef GAN__FIELD
} gan_backend;

#define GAN__BARE(name, type, in, out)                   \
    GAN_API void gan_ref_##name GAN__##in##_##out(type); \
    GAN_API void gan_cpu_##name GAN__##in##_##out(type);
GAN_KERNELS(GAN__BARE)
#undef GAN__BARE

/* The backend of that name, or NULL. */
GAN_API const gan_backend *gan_find_backend(const char *name);

/* Makes a copy of *backend known to gan_open under its name (which must stay valid), in place of
   one of the same name. The list is the process's: register before other threads call gan_open.
   False if there is no room (32), the name is that of a built-in one, begins with "compare:" or
   holds a comma, or a kernel is NULL. */
GAN_API bool gan_register_backend(const gan_backend *backend);

/* ===========================================================================================
   >>device
   =========================================================================================== */
/* Opens a device: "ref", "cpu", the name of a registered backend, or "compare:A,B", which runs
   every kernel on A and on B from the same inputs and stops at the first whose results differ,
   naming kernel, layer and element; A's results are used. NULL if there is no such backend or it
   cannot run here: gan_error() says what there is and how to get the rest. */
GAN_API gan *gan_open(const char *device, uint64_t seed);

/* Frees g and everything made with it. NULL is allowed. */
GAN_API void gan_close(gan *g);

/* Threads for g's kernels: 1 or more, or 0 for what OpenMP chooses. Without OpenMP it is always
   1. Results do not depend on it. */
GAN_API void gan_set_threads(gan *g, int threads);

/* Frees every tensor made since the last gan_clear. Parameters, optimizer state and data stay.
   Memory is kept for the next step: a loop that does the same each time gets the same addresses
   and calls no allocator after the first steps. */
GAN_API void gan_clear(gan *g);

/* Frees only the tensors made since gan_here: the activations of a half-step that is done, for
   instance. */
typedef struct {
    int tape, slab;
    size_t used;
} gan_mark;

GAN_API gan_mark gan_here(gan *g);
GAN_API void gan_clear_to(gan *g, gan_mark mark);

/* Bytes that g holds now for tensors, parameters and optimizer state, and the most it held. */
GAN_API size_t gan_memory(const gan *g, size_t *peak_or_NULL);

/* ===========================================================================================
   >>tensors
   =========================================================================================== */
/* Four dimensions, always. data lies in the device's memory: read it with gan_to_host. The rest
   is the tape's. */
struct gan_tensor {
    int n, c, h, w;
    gan_real *data;
    gan *g;
    struct gan__buffer *buffer; /* who owns data, shared by views */
    const struct gan__op *op;   /* how it was computed: NULL for a leaf */
    gan_tensor *in[3], *saved;  /* from what; saved holds normalisation's statistics */

    union {
        gan_conv conv;
        gan_resample resample;
        gan_index gather;
        gan_lines softmax;
    } sizes; /* the operation's */

    int attr[4];
    gan_real real[2];
    int tape, uses,
        /* place on the tape (-1: a parameter), times used, overwritten by an in-place function */
        stale;
    uint64_t needs_grad_in; /* the last differentiation that needed its gradient */
    gan_tensor *grad;       /* that gradient, while it is computed */
    gan_tensor *memo;       /* norm_sums, shared by three derivatives */
    struct gan__buffer
        *gradient; /* a parameter's, from gan_backward to gan_step: references is 1 */
};

/* (N,C,H,W) of zeros; of value; a copy of N*C*H*W numbers at data. */
GAN_API gan_tensor *gan_zeros(gan *g, int n, int c, int h, int w);
GAN_API gan_tensor *gan_full(gan *g, gan_real value, int n, int c, int h, int w);
GAN_API gan_tensor *gan_from_host(gan *g, const gan_real *data, int n, int c, int h, int w);

GAN_API size_t gan_count(const gan_tensor *t); /* N*C*H*W */
GAN_API void gan_to_host(const gan_tensor *t,
                         gan_real *out);        /* copies all N*C*H*W numbers to out */
GAN_API gan_real gan_item(const gan_tensor *t); /* the number in a tensor of one */
GAN_API void gan_set(gan_tensor *t,
                     const gan_real *data); /* overwrites t's numbers: parameters, mostly */

/* The same numbers, with no past: no gradient flows through it. */
GAN_API gan_tensor *gan_detach(gan_tensor *x);

/* ===========================================================================================
   >>random
   ===========================================================================================
   Philox 4x32-10 (Salmon et al. 2011): the same seed and the same calls give the same numbers,
   on every device. */
GAN_API gan_tensor *gan_rand(gan *g, int n, int c, int h,
                             int w); /* uniform in [0,1), 24 bits each */
GAN_API gan_tensor *gan_randn(gan *g, int n, int c, int h,
                              int w); /* standard normal (Box and Muller 1958) */

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
GAN_API gan_tensor *gan_log(gan_tensor *x);   /* natural; -inf at 0, NaN below, as C's log */
GAN_API gan_tensor *gan_sqrt(gan_tensor *x);  /* derivative infinite at 0, as PyTorch's */
GAN_API gan_tensor *gan_rsqrt(gan_tensor *x); /* x^-1/2 */
GAN_API gan_tensor *gan_square(gan_tensor *x);
GAN_API gan_tensor *gan_abs(gan_tensor *x); /* derivative 0 at 0 */
GAN_API gan_tensor *gan_clamp(gan_tensor *x, gan_real lo,
                              gan_real hi);  /* derivative 1 on [lo,hi], ends included */
GAN_API gan_tensor *gan_relu(gan_tensor *x); /* max(x,0); derivative 0 at 0 */
GAN_API gan_tensor *gan_leaky_relu(gan_tensor *x,
                                   gan_real slope); /* x or slope*x (Maas et al. 2013) */
GAN_API gan_tensor *gan_tanh(gan_tensor *x);
GAN_API gan_tensor *gan_sigmoid(gan_tensor *x);  /* 1/(1+e^-x) */
GAN_API gan_tensor *gan_softplus(gan_tensor *x); /* ln(1+e^x), without overflow */
GAN_API gan_tensor *gan_elu(
    gan_tensor *x); /* x, or e^x - 1 below 0 (Clevert et al. 2016; alpha 1) */
GAN_API gan_tensor *gan_selu(
    gan_tensor *x); /* 1.0507 * (x, or 1.6733 (e^x - 1) below 0) (Klambauer et al. 2017) */
GAN_API gan_tensor *gan_silu(
    gan_tensor *x); /* x * sigmoid(x), also called Swish (Elfwing et al. 2018) */
GAN_API gan_tensor *gan_gelu(
    gan_tensor *x); /* x * P(normal < x) = x/2 (1 + erf(x/sqrt 2)) (Hendrycks and Gimpel 2016) */
GAN_API gan_tensor *gan_prelu_f(
    gan_tensor *x,
    gan_tensor *slope); /* x, or slope*x below 0; slope (1,C,1,1) or (1,1,1,1) (He et al. 2015) */

/* In place, as PyTorch's relu_: the result takes over x's memory, and x must not be used again:
   x = gan_relu_(x). slope >= 0. An error if x is a leaf, has been used already, or its maker's
   derivative needs it. */
GAN_API gan_tensor *gan_relu_(gan_tensor *x);
GAN_API gan_tensor *gan_leaky_relu_(gan_tensor *x, gan_real slope);

/* ===========================================================================================
   >>reduce
   =========================================================================================== */
GAN_API gan_tensor *gan_sum(gan_tensor *x);  /* (1,1,1,1) */
GAN_API gan_tensor *gan_mean(gan_tensor *x); /* (1,1,1,1) */
GAN_API gan_tensor *gan_sum_to(gan_tensor *x, int n, int c, int h,
                               int w); /* each is x's size, or 1: summed over */
GAN_API gan_tensor *gan_mean_to(gan_tensor *x, int n, int c, int h, int w);
GAN_API gan_tensor *gan_expand(gan_tensor *x, int n, int c, int h,
                               int w); /* the adjoint of sum_to: repeats dimensions of 1 */
GAN_API gan_tensor *gan_softmax(gan_tensor *x,
                                int dim); /* e^x / sum of e^x along dim, without overflow */
GAN_API gan_tensor *gan_log_softmax(gan_tensor *x, int dim); /* x - ln sum of e^x along dim */

/* ===========================================================================================
   >>shape
   ===========================================================================================
   dim and d0..d3 count 0 for N, 1 for C, 2 for H, 3 for W. */
GAN_API gan_tensor *gan_reshape(gan_tensor *x, int n, int c, int h,
                                int w); /* same numbers, same order; one may be -1 */
GAN_API gan_tensor *gan_permute(gan_tensor *x, int d0, int d1, int d2,
                                int d3); /* result's dimension i is x's d_i */
GAN_API gan_tensor *gan_transpose(gan_tensor *x, int dim0,
                                  int dim1); /* two dimensions change places */
GAN_API gan_tensor *gan_slice(gan_tensor *x, int dim, int start, int length);
GAN_API gan_tensor *gan_concat(gan_tensor *a, gan_tensor *b,
                               int dim); /* a then b along dim; the others equal */
GAN_API gan_tensor *gan_concat_all(gan_tensor **parts, int count,
                                   int dim); /* any number of parts */

/* ===========================================================================================
   >>gather
   ===========================================================================================
   An index is a tensor of whole numbers 0 .. size-1 along dim; others are an error where the
   host can see them cheaply (in ref and cpu). It has no gradient. */

/* index (K,1,1,1): x's slices index[0], index[1], ... along dim, K of them (PyTorch's
   index_select). index with x's sizes but along dim: y[..i..] = x[..index[..i..]..] (PyTorch's
   gather). */
GAN_API gan_tensor *gan_gather(gan_tensor *x, int dim, gan_tensor *index);

/* The adjoint: zeros of size along dim, to which each of x is added at its index (PyTorch's
   index_add and scatter_add). */
GAN_API gan_tensor *gan_scatter_add(gan_tensor *x, int dim, gan_tensor *index, int size);

/* labels (N,1,H,W) of class numbers -> (N,CLASSES,H,W): 1 in the label's channel, 0 in the
   others. */
GAN_API gan_tensor *gan_one_hot(gan_tensor *labels, int classes);

/* ===========================================================================================
   >>matmul
   =========================================================================================== */
/* (N,C,H,K) x (N,C,K,W) -> (N,C,H,W); N and C broadcast. gan_matmul_t first transposes the last
   two dimensions where asked. */
GAN_API gan_tensor *gan_matmul(gan_tensor *a, gan_tensor *b);
GAN_API gan_tensor *gan_matmul_t(gan_tensor *a, gan_tensor *b, bool transpose_a, bool transpose_b);

/* x (N,IN,1,1), weight (OUT,IN,1,1), bias (1,OUT,1,1) or NULL -> x weight^T + bias (N,OUT,1,1);
   other x are flattened to (N,C*H*W,1,1). */
GAN_API gan_tensor *gan_linear_f(gan_tensor *x, gan_tensor *weight, gan_tensor *bias);

/* ===========================================================================================
   >>conv
   =========================================================================================== */
/* y[n,o,i,j] = bias[o] + sum over c,u,v of x[n,c,i*S+u-P,j*S+v-P] * weight[o,c,u,v]; positions
   outside x count as 0. x (N,C,H,W), weight (O,C/groups,KH,KW) not flipped, bias (1,O,1,1) or
   NULL -> (N,O,OH,OW), OH = (H+2P-KH)/S + 1.  PyTorch's Conv2d. */
GAN_API gan_tensor *gan_conv2d_f(gan_tensor *x, gan_tensor *weight, gan_tensor *bias, int stride,
                                 int pad, int groups);

/* The same with holes: taps lie D = dilation pixels apart, OH = (H+2P-D*(KH-1)-1)/S + 1 (Yu and
   Koltun 2016). */
GAN_API gan_tensor *gan_dilated_conv2d_f(gan_tensor *x, gan_tensor *weight, gan_tensor *bias,
                                         int stride, int pad, int dilation, int groups);

/* The adjoint of conv2d in its input.  x (N,C,H,W), weight (C,O/groups,KH,KW), bias (1,O,1,1) or
   NULL -> (N,O,OH,OW), OH = (H-1)*S - 2P + KH + output_pad, output_pad < S.  PyTorch's
   ConvTranspose2d. */
GAN_API gan_tensor *gan_conv_transpose2d_f(gan_tensor *x, gan_tensor *weight, gan_tensor *bias,
                                           int stride, int pad, int output_pad, int groups);

/* The adjoint of conv2d in its weight: x (N,C,H,W), gy (N,O,OH,OW) -> (O,C/groups,KH,KW). */
GAN_API gan_tensor *gan_conv2d_weight(gan_tensor *x, gan_tensor *gy, int kernel_h, int kernel_w,
                                      int stride, int pad, int groups);

/* ===========================================================================================
   >>resample
   ===========================================================================================
   Linear maps of each plane (H,W) on its own: one kernel does all but the maximum. Their
   derivatives are their adjoints. */
enum {
    GAN_ZEROS,
    GAN_REFLECT,
    GAN_REPLICATE
}; /* beyond the border: 0; mirrored without the border's pixel; the border's pixel */

enum {
    GAN_NEAREST,
    GAN_BILINEAR,
    GAN_ALIGNED
}; /* pixel floor(i*H/OH); centres at i+0.5, PyTorch's bilinear; ends on ends, align_corners */

/* Adds so many rows and columns on each side; negative ones take away. GAN_REFLECT wants less
   than the size. PyTorch's pad. */
GAN_API gan_tensor *gan_pad(gan_tensor *x, int mode, int top, int bottom, int left, int right);
GAN_API gan_tensor *gan_resize(gan_tensor *x, int h, int w,
                               int mode); /* (N,C,H,W) -> (N,C,h,w); PyTorch's interpolate */

/* Along H and W: UP-1 zeros after each pixel, pad0 and pad1 zeros at the ends, convolution with
   gain * filter (COUNT taps at filter), then every DOWN-th pixel: OH = (H*UP + pad0 + pad1 -
   COUNT)/DOWN + 1. As in StyleGAN2 (Karras et al. 2020), with a separable filter. Upsampling:
   filter [1,3,3,1]/8, up 2, pads 2 and 1, gain 2 (for each axis). */
GAN_API gan_tensor *gan_upfirdn2d(gan_tensor *x, const gan_real *filter, int count, int up,
                                  int down, int pad0, int pad1, gan_real gain);

/* Windows of kernel x kernel, stride apart; kernel 0 is the whole image (global pooling). The
   mean counts the padding's zeros as PyTorch does. ceil: windows that begin inside and end
   beyond count too. */
GAN_API gan_tensor *gan_avg_pool2d(gan_tensor *x, int kernel, int stride, int pad);
GAN_API gan_tensor *gan_max_pool2d(gan_tensor *x, int kernel, int stride, int pad, bool ceil);

/* (N,C*r*r,H,W) -> (N,C,H*r,W*r): y[n,c,h*r+u,w*r+v] = x[n,(c*r+u)*r+v,h,w] (Shi et al. 2016).
   PyTorch's PixelShuffle. */
GAN_API gan_tensor *gan_pixel_shuffle(gan_tensor *x, int r);

/* ===========================================================================================
   >>norm
   =========================================================================================== */
/* y = (x - mean)/sqrt(var + eps) * weight + bias for each channel; all four of weight ..
   running_var are (1,C,1,1). training: mean and biased variance of this batch over N,H,W, and
   running = (1-momentum)*running + momentum*batch's, with the unbiased variance; an error if
   N*H*W is 1. Else the running ones, untouched. PyTorch's BatchNorm2d (Ioffe and Szegedy 2015). */
GAN_API gan_tensor *gan_batch_norm_f(gan_tensor *x, gan_tensor *weight, gan_tensor *bias,
                                     gan_tensor *running_mean, gan_tensor *running_var,
                                     bool training, gan_real momentum, gan_real eps);

/* The same with the statistics of each image: of each channel (instance norm, Ulyanov et al.
   2016), of each of so many groups of channels (group norm, Wu and He 2018), or of all of it
   (layer norm, Ba et al. 2016). weight and bias: (1,C,1,1), for instance norm also (N,C,1,1),
   for layer norm (1,C,H,W); or NULL for 1 and 0. PyTorch's InstanceNorm2d, GroupNorm and
   LayerNorm over (C,H,W). */
GAN_API gan_tensor *gan_instance_norm_f(gan_tensor *x, gan_tensor *weight, gan_tensor *bias,
                                        gan_real eps);
GAN_API gan_tensor *gan_group_norm_f(gan_tensor *x, int groups, gan_tensor *weight,
                                     gan_tensor *bias, gan_real eps);
GAN_API gan_tensor *gan_layer_norm_f(gan_tensor *x, gan_tensor *weight, gan_tensor *bias,
                                     gan_real eps);

/* deviation(y) * (x - mean(x))/deviation(x) + mean(y) for each image and channel; x (N,C,H,W), y
   (N,C,any,any); deviation is the root of the unbiased variance + eps. Huang and Belongie 2017;
   eps 1e-5 there. */
GAN_API gan_tensor *gan_adain(gan_tensor *x, gan_tensor *y, gan_real eps);
GAN_API gan_tensor *gan_pixel_norm(
    gan_tensor *x); /* x / sqrt(mean over C of x^2 + 1e-8) (Karras et al. 2018) */
GAN_API gan_tensor *gan_normalize(
    gan_tensor *x, int dim); /* x / |x| along dim, 0 where x is 0. PyTorch's F.normalize */

/* Adds a channel: how much the images of a group of so many (N if that is more) differ, sqrt(var
   + 1e-8) averaged over C,H,W, as in StyleGAN2: images N/group apart are a group. N must be a
   multiple of the group. (N,C,H,W) -> (N,C+1,H,W). */
GAN_API gan_tensor *gan_minibatch_stddev(gan_tensor *x, int group);

/* ===========================================================================================
   >>autograd
   =========================================================================================== */
/* dy/dx, x's shape, where y is one number (the gradient of y's sum otherwise); zeros where y
   does not depend on x. The result can be differentiated again. */
GAN_API gan_tensor *gan_grad(gan_tensor *y, gan_tensor *x);

/* Adds d(loss)/d(parameter) to the gradient of each of model's parameters, and computes nothing
   that does not lead to one. loss is one number. Calls add up until gan_step: a batch too large
   for the memory is k parts, each with its loss divided by k. */
GAN_API void gan_backward(gan_tensor *loss, gan_model *model);

/* The gradient that gan_backward left in a parameter, as a tensor of its own; zeros if it left
   none. */
GAN_API gan_tensor *gan_param_grad(gan_tensor *param);

/* gan_backward for the optimizer's model, then gan_step. An error if loss depends on no
   parameter of that model. */
GAN_API void gan_minimize(gan_opt *opt, gan_tensor *loss);

/* ===========================================================================================
   >>gradcheck
   ===========================================================================================
   f computes a tensor of any shape from the count tensors in[]. The worst relative error of its
   derivatives, |a-d| over the larger of |a|, |d| and 1% of the largest derivative, a analytic
   and d from central differences of a fixed random combination of f's elements. gan_error() then
   names the input, element, a and d of the worst. Infinity if a number is not finite, or if
   every first derivative is zero, which would test nothing. Good code gives 1e-7 with GAN_REAL
   double, about 1e-2 with float. */
typedef gan_tensor *gan_function(gan *g, gan_tensor **in, void *user);
GAN_API double gan_gradcheck(gan *g, gan_function *f, gan_tensor **in, int count, void *user);
GAN_API double gan_gradgradcheck(gan *g, gan_function *f, gan_tensor **in, int count,
                                 void *user); /* derivatives of the derivatives */

/* ===========================================================================================
   >>models
   =========================================================================================== */
GAN_API gan_model *gan_model_new(gan *g, const char *name); /* a name without . and # */
GAN_API void gan_train(
    gan_model
        *model); /* batch norm uses the batch's statistics, dropout is on: the state at birth */
GAN_API void gan_eval(gan_model *model); /* batch norm uses the running ones, dropout is off */
GAN_API void gan_freeze(
    gan_model *
        /* as gan_eval, and batch norm's weight and bias are constants (FrozenBatchNorm2d) */
        model);

/* The parameter of that name; made on first use, uniform in +-1/sqrt(C*H*W) as PyTorch's layers.
   An error if it is there in another shape. */
GAN_API gan_tensor *gan_param(gan_model *model, const char *name, int n, int c, int h, int w);
GAN_API gan_tensor *gan_find_param(gan_model *model, const char *name); /* NULL if there is none */
GAN_API size_t gan_param_count(const gan_model *model); /* numbers an optimizer changes */

/* The name of parameter i of model, in the order in which they were made; NULL from the last on. */
GAN_API const char *gan_param_name(const gan_model *model, int i);

/* How a parameter (N,C,H,W) starts; fan_in = C*H*W, fan_out = N*H*W (PyTorch's torch.nn.init). */
enum {
    GAN_INIT_DEFAULT, /* as its layer makes it */
    GAN_INIT_NORMAL,  /* normal, deviation gain; DCGAN's is 0.02 */
    /* uniform in +-gain*sqrt(6/(fan_in + fan_out)) (Glorot and Bengio 2010) */
    GAN_INIT_XAVIER_UNIFORM,
    GAN_INIT_XAVIER_NORMAL, /* normal, deviation gain*sqrt(2/(fan_in + fan_out)) */
    /* uniform in +-gain*sqrt(3/fan_in); gain sqrt(2/(1 + slope^2)) before a leaky ReLU (He et
       al. 2015) */
    GAN_INIT_KAIMING_UNIFORM,
    GAN_INIT_KAIMING_NORMAL, /* normal, deviation gain/sqrt(fan_in) */
    /* as (N, C*H*W): rows, or columns if those are fewer, at right angles, of length gain (Saxe
       et al. 2014) */
    GAN_INIT_ORTHOGONAL
};

/* The first draws param anew, with numbers that depend on the seed and the names of model and
   parameter alone; from XAVIER on it wants two dimensions. The second starts all of model's
   parameters anew, also those to come: weights of layers (NAME.weight) so, their biases at 0,
   others by default; but NORMAL draws normalisation's weights too, from N(1,gain), as DCGAN
   does. */
GAN_API void gan_init(gan_tensor *param, int kind, gan_real gain);
GAN_API void gan_init_model(gan_model *model, int kind, gan_real gain);

/* ===========================================================================================
   >>layers
   ===========================================================================================
   A layer makes its parameters on first use as PyTorch's layer of that name does (weights and
   biases uniform in +-1/sqrt(fan_in), normalisation 1 and 0), under name.weight and name.bias,
   and finds them by that name ever after. */
GAN_API gan_tensor *gan_linear(gan_model *model, const char *name, gan_tensor *x, int out);
GAN_API gan_tensor *gan_conv2d(gan_model *model, const char *name, gan_tensor *x, int out,
                               int kernel, int stride, int pad);
GAN_API gan_tensor *gan_conv_transpose2d(gan_model *model, const char *name, gan_tensor *x, int out,
                                         int kernel, int stride, int pad);
GAN_API gan_tensor *gan_batch_norm(gan_model *model, const char *name,
                                   gan_tensor *x); /* eps 1e-5, momentum 0.1 */
GAN_API gan_tensor *gan_instance_norm(gan_model *model, const char *name,
                                      gan_tensor *x); /* with weight and bias (C), eps 1e-5 */
GAN_API gan_tensor *gan_group_norm(gan_model *model, const char *name, gan_tensor *x, int groups);
GAN_API gan_tensor *gan_layer_norm(gan_model *model, const char *name,
                                   gan_tensor *x); /* weight and bias (C,H,W) */
GAN_API gan_tensor *gan_prelu(gan_model *model, const char *name,
                              gan_tensor *x); /* one slope, 0.25 at first */

/* labels (N,1,1,1) -> the labels' rows of weight (CLASSES,DIM), normal at first: (N,DIM,1,1). */
GAN_API gan_tensor *gan_embedding(gan_model *model, const char *name, gan_tensor *labels,
                                  int classes, int dim);

/* Batch norm whose weight and bias are rows of name.gamma.weight and name.beta.weight
   (CLASSES,C), chosen by labels (N,1,1,1) (Dumoulin et al. 2017, de Vries et al. 2017). */
GAN_API gan_tensor *gan_conditional_batch_norm(gan_model *model, const char *name, gan_tensor *x,
                                               gan_tensor *labels, int classes);

/* Each number is 0 with probability p, or divided by 1-p; x itself under gan_eval. PyTorch's
   Dropout. */
GAN_API gan_tensor *gan_dropout(gan_model *model, gan_tensor *x, gan_real p);

/* x + gamma * sum over places q of softmax_q(query_p . key_q) value_q at each place p; 1x1
   convolutions name.query, name.key (C/8 channels) and name.value; gamma (1) is 0 at first.
   SAGAN (Zhang et al. 2019). */
GAN_API gan_tensor *gan_self_attention(gan_model *model, const char *name, gan_tensor *x);

/* A convolution whose weight is its own for each image: w[o,c,u,v] * style[n,c], and if
   demodulate divided by its norm sqrt(sum over c,u,v of its squares + 1e-8); computed as
   x*style, one convolution, result*demodulation, as StyleGAN2's paper shows. x (N,C,H,W), weight
   (O,C,KH,KW), style (N,C,1,1). The layer's style is 1 + a linear map name.affine of latent
   (N,L,1,1); it adds name.bias. */
GAN_API gan_tensor *gan_modulated_conv2d_f(gan_tensor *x, gan_tensor *weight, gan_tensor *style,
                                           bool demodulate, int pad);
GAN_API gan_tensor *gan_demodulation(gan_tensor *weight,
                                     gan_tensor *style); /* (N,O,1,1): the factor of that result */
GAN_API gan_tensor *gan_modulated_conv2d(gan_model *model, const char *name, gan_tensor *x,
                                         gan_tensor *latent, int out, int kernel, bool demodulate);

/* weight / s, s its largest singular value as a matrix (O, C*KH*KW), by one step of power
   iteration a call while training; the vectors u, v stay in name.weight_u and name.weight_v and
   count as constants in the derivative (Miyato et al. 2018). */
GAN_API gan_tensor *gan_spectral_norm(gan_model *model, const char *name, gan_tensor *weight);

/* What linear, convolutions and attention of this model do with their weights, from now on.
   GAN_SPECTRAL: gan_spectral_norm. GAN_EQUALIZED (Karras et al. 2018): weights start as
   N(0,1)/rate and are multiplied by rate/sqrt(fan_in) when used, biases by rate. */
enum { GAN_PLAIN_WEIGHTS, GAN_SPECTRAL, GAN_EQUALIZED };

GAN_API void gan_weights(gan_model *model, int kind, gan_real rate);

/* ===========================================================================================
   >>losses
   ===========================================================================================
   Each is one number, the mean over every element where nothing else is said. One-sided label
   smoothing is a target of 0.9 for real. */
GAN_API gan_tensor *gan_bce_logits(
    gan_tensor *logits,
    gan_real target); /* -t ln s(x) - (1-t) ln(1-s(x)), s the sigmoid, without overflow */
GAN_API gan_tensor *gan_bce_logits_to(gan_tensor *logits,
                                      gan_tensor *targets); /* the same, a target for each */
GAN_API gan_tensor *gan_bce(
    gan_tensor *probabilities,
    gan_tensor *targets); /* logarithms are at least -100. PyTorch's BCELoss */
GAN_API gan_tensor *gan_flipped_labels(
    gan *g, int n, gan_real target,
    gan_real p); /* (n,1,1,1): target, or 1-target with probability p */
GAN_API gan_tensor *gan_mse(gan_tensor *a, gan_tensor *b); /* (a-b)^2 */
GAN_API gan_tensor *gan_l1(gan_tensor *a, gan_tensor *b);  /* |a-b| */
GAN_API gan_tensor *gan_smooth_l1(gan_tensor *a,
                                  gan_tensor *b); /* d^2/2 for d = |a-b| < 1, else d - 1/2 */

/* logits (N,CLASSES,H,W), labels (N,1,H,W): the mean of -log_softmax(logits)[label] over N,H,W. */
GAN_API gan_tensor *gan_cross_entropy(gan_tensor *logits, gan_tensor *labels);

/* The two sides of a GAN, a = D(real), b = D(fake), any shape.
   discriminator; generator
     GAN_MINIMAX         E ln(1+e^-a) + E ln(1+e^b);  -E ln(1+e^b)
                         Goodfellow et al. 2014; at rest 2 ln 2, -ln 2
     GAN_NON_SATURATING  the same;  E ln(1+e^-b)                                                the
                         same paper; at rest 2 ln 2, ln 2
     GAN_LEAST_SQUARES   (E(a-1)^2 + E b^2)/2;  E(b-1)^2                                        Mao
                         et al. 2017; at rest 1/4, 1/4
     GAN_HINGE           E max(0,1-a) + E max(0,1+b);  -E b                                     Lim
                         and Ye 2017; at rest 2, 0
     GAN_WASSERSTEIN     E b - E a;  -E b
                         Arjovsky et al. 2017
     GAN_RELATIVISTIC    E ln(1+e^-(a-Eb)) + E ln(1+e^(b-Ea)); a and b exchanged
                         Jolicoeur-Martineau 2019; at rest 2 ln 2 each
   real is used by GAN_RELATIVISTIC's generator only, and may be NULL for others. */
enum {
    GAN_MINIMAX,
    GAN_NON_SATURATING,
    GAN_LEAST_SQUARES,
    GAN_HINGE,
    GAN_WASSERSTEIN,
    GAN_RELATIVISTIC,
    GAN_LOSSES
};

GAN_API gan_tensor *gan_d_loss(int kind, gan_tensor *real, gan_tensor *fake);
GAN_API gan_tensor *gan_g_loss(int kind, gan_tensor *real, gan_tensor *fake);
GAN_API const char *gan_loss_name(
    /* "minimax", "non-saturating", "least-squares", "hinge", "wasserstein", "relativistic" */
    int kind);
GAN_API int gan_loss_kind(const char *name); /* the other way; -1 if there is none */

/* Penalties on the slope of a critic; multiply by your lambda. logits = D(x), and they must have
   been computed from x itself. gan_r1: E |dD/dx|^2 on real images, gan_r2 the same on fake ones
   (Mescheder et al. 2018, there times gamma/2). */
typedef gan_tensor *gan_network(gan_model *model, gan_tensor *x);
GAN_API gan_tensor *gan_gradient_penalty(gan_tensor *logits, gan_tensor *x,
                                         gan_real target); /* E (|dD/dx| - target)^2 */
GAN_API gan_tensor *gan_r1(gan_tensor *logits, gan_tensor *real);
GAN_API gan_tensor *gan_r2(gan_tensor *logits, gan_tensor *fake);
GAN_API gan_tensor *gan_wgan_gp(gan_network *critic, gan_model *D, gan_tensor *real,
                                gan_tensor *fake); /* at points between (Gulrajani et al. 2017) */
GAN_API gan_tensor *gan_dragan(gan_network *critic, gan_model *D,
                               gan_tensor *real); /* at points around real (Kodali et al. 2017) */

/* E (l - a)^2, l = |d(sum of image*y)/dw|, y normal / sqrt(H*W), a the running mean of l (rate
   0.01), kept in G's path_length.running_mean. w (N,L,1,1), or (N,L,K,1) for K layers, whose
   squares are averaged. StyleGAN2 (Karras et al. 2020), there times 2. */
GAN_API gan_tensor *gan_path_length(gan_model *G, gan_tensor *image, gan_tensor *w);
GAN_API gan_tensor *gan_cycle_loss(gan_tensor *x,
                                   gan_tensor *there_and_back); /* L1 (Zhu et al. 2017) */
GAN_API gan_tensor *gan_identity_loss(
    gan_tensor *x, gan_tensor *translated); /* L1: x is of the target domain already */

/* Sums over count feature maps: of the MSE (perceptual, Johnson et al. 2016), of the MSE of Gram
   matrices (style, Gatys et al. 2016; one style image or one for each), of the MSE of means over
   N (feature matching, Salimans et al. 2016). No gradient goes into target. */
GAN_API gan_tensor *gan_perceptual_loss(gan_tensor **target, gan_tensor **x, int count);
GAN_API gan_tensor *gan_style_loss(gan_tensor **target, gan_tensor **x, int count);
GAN_API gan_tensor *gan_feature_matching(gan_tensor **target, gan_tensor **x, int count);
GAN_API gan_tensor *gan_gram(gan_tensor *x); /* F F^T/(C*H*W), F (C,H*W): (N,C,H,W) -> (N,1,C,C) */
GAN_API gan_tensor *gan_total_variation(
    gan_tensor *x); /* per image, the sum of |differences| of neighbours; the mean over N */

/* q, k (N,C,1,P): P patches' features, each of length 1 (gan_normalize); cross-entropy of q_i .
   k_j / temperature, the right j being i. No gradient goes into k. CUT (Park et al. 2020;
   temperature 0.07). */
GAN_API gan_tensor *gan_patch_nce(gan_tensor *q, gan_tensor *k, gan_real temperature);

/* ===========================================================================================
   >>optim
   =========================================================================================== */
GAN_API gan_opt *gan_sgd(gan_model *model, gan_real lr, gan_real momentum); /* PyTorch's SGD */
GAN_API gan_opt *gan_adam(gan_model *model, gan_real lr, gan_real beta1,
                          gan_real beta2); /* PyTorch's Adam, eps 1e-8 */
GAN_API gan_opt *gan_adamw(gan_model *model, gan_real lr, gan_real beta1, gan_real beta2,
                           gan_real decay); /* Loshchilov and Hutter 2019 */
GAN_API gan_opt *gan_rmsprop(gan_model *model, gan_real lr,
                             gan_real alpha); /* PyTorch's RMSprop, eps 1e-8 */

/* L-BFGS (Liu and Nocedal 1989), PyTorch's with max_iter 1 and no line search: a step of
   Newton's method times lr, its Hessian guessed from the last history moves; the first goes
   lr*min(1, 1/|gradient|_1) down the gradient. For a loss that is the same function at every
   step. Holds 2*history + 2 numbers per parameter. */
GAN_API gan_opt *gan_lbfgs(gan_model *model, gan_real lr, int history);
GAN_API void gan_set_lr(gan_opt *opt, gan_real lr);
GAN_API void gan_step(
    gan_opt *opt); /* one step of every parameter that has a gradient; then no gradients are left */

/* Rates for gan_set_lr(opt, gan_lr_step(lr, step, ...)); lr is the largest. */
GAN_API gan_real gan_lr_step(gan_real lr, int step, int every,
                             gan_real gamma); /* lr * gamma^floor(step/every): PyTorch's StepLR */
GAN_API gan_real gan_lr_linear(gan_real lr, int step, int start,
                               int end); /* lr up to start, then straight to 0 at end: CycleGAN's */
GAN_API gan_real gan_lr_cosine(gan_real lr, int step,
                               int total); /* lr * (1 + cos(pi*step/total))/2, then 0: SGDR's */
GAN_API gan_real gan_lr_warmup(
    gan_real lr, int step, int steps); /* lr * (step + 1)/steps, then lr: LinearLR from 1/steps */
GAN_API gan_real gan_lr_inverse(gan_real lr, int step,
                                gan_real k); /* lr / (1 + k*step): AdaIN's, k = 5e-5 */

/* For after gan_backward: scales all gradients by max/(norm + 1e-6) if that is below 1 and
   returns their norm before, as PyTorch's clip_grad_norm_ (one that is not finite changes
   nothing); or clamps each number to +-max. For after gan_step: clamps the parameters to +-c,
   WGAN's 0.01 (Arjovsky et al. 2017). */
GAN_API gan_real gan_clip_grad_norm(gan_model *model, gan_real max);
GAN_API void gan_clip_grad_value(gan_model *model, gan_real max);
GAN_API void gan_clip_weights(gan_model *model, gan_real c);

/* Exponential moving average of model, parameter by parameter: into = decay*into +
   (1-decay)*model; running statistics are copied. What into lacks is copied. (Polyak averaging:
   Yazici et al. 2019 for GANs.) */
GAN_API void gan_ema(gan_model *into, gan_model *model, gan_real decay);

/* 0.5^(batch/min(images, rampup*step*batch)): a model's share halves in so many images, at first
   in rampup times those seen (rampup 0: no such limit). StyleGAN2-ADA's, rampup 0.05 (Karras et
   al. 2020). */
GAN_API gan_real gan_ema_decay(int step, int batch, gan_real images, gan_real rampup);
GAN_API void gan_copy_params(
    gan_model *into,
    gan_model *from); /* and running statistics; for unrolled GANs (Metz et al. 2017) */

/* ===========================================================================================
   >>data
   =========================================================================================== */
/* Images from an IDX file (magic 0x00000803: N,H,W; 0x00000804: N,C,H,W; bytes), labels from
   another (0x00000801) or NULL; .gz files where stb_image.h was included before gan.h. NULL if a
   file is missing, truncated, corrupt, or the two do not fit. */
GAN_API gan_data *gan_data_idx(gan *g, const char *images, const char *labels_or_NULL);

/* CIFAR-10's binary batches (Krizhevsky 2009), count files joined: records of a label 0..9 and
   planes R,G,B of 32x32 bytes -> (n,3,32,32). Any whole number of records, .gz as above. NULL if
   a file is not that. */
GAN_API gan_data *gan_data_cifar10(gan *g, const char *const *paths, int count);

#ifdef STBI_INCLUDE_STB_IMAGE_H
/* The pictures of a folder (.png .jpg .jpeg .bmp .tga .gif .psd .ppm .pgm .pnm) in order of
   their names -> (n,channels,h,w). Sub-folders, in that order, are the classes 0,1,2.. (at most
   256); without any there are no labels. A picture is scaled until it just covers h x w,
   averaging over what becomes one pixel, and what sticks out is cut off; channels is 1 (0.299 R
   + 0.587 G + 0.114 B) or 3; white shows where it is transparent. It is decoded once, by a
   thread that works ahead of gan_batch. A file without a picture's header is left out, one that
   proves broken later has the next good one in its place; stderr names both. NULL if there is no
   folder or no good picture. Of pairs side by side in one file (Isola et al. 2017) ask for 2*w
   columns and take gan_slice(x, 3, 0, w) and gan_slice(x, 3, w, w). */
GAN_API gan_data *gan_data_folder(gan *g, const char *path, int channels, int h, int w);
#endif

/* Image i of a and image i of b, their channels one behind the other, with a's labels:
   gan_slice(x, 1, ..) takes them apart. Two folders with the same names in both will do, or any
   sets; NULL if count, height or width differ, or a folder left files out. For unpaired domains
   (Zhu et al. 2017) call gan_batch on two sets: their orders differ. */
GAN_API gan_data *gan_data_pair(gan *g, gan_data *a, gan_data *b);

/* count handwritten-looking digits of 28x28 with their labels, drawn from strokes: no file
   needed. */
GAN_API gan_data *gan_data_digits(gan *g, int count);

/* count pictures (3,size,size) of a circle 0, square 1, triangle 2 or star 3 of any colour,
   place, size and turn; size 8 to 4096. FILLED: one colour on pale paper. EDGES: a black outline
   on white. STRIPED: stripes of that colour in a light outline, on dark dotted cloth. Shape i is
   the same in each style: edges and filled make a gan_data_pair, filled and striped two unpaired
   domains. */
typedef enum gan_shape_style {
    GAN_SHAPES_FILLED,
    GAN_SHAPES_EDGES,
    GAN_SHAPES_STRIPED
} gan_shape_style;

GAN_API gan_data *gan_data_shapes(gan *g, int count, int size, gan_shape_style style);

/* n images (n,c,h,w) in [-1,1], and their class numbers (n,1,1,1) if labels is not NULL. Every
   image once per epoch, in an order drawn for each epoch; a batch may end one epoch and begin
   the next. */
GAN_API gan_tensor *gan_batch(gan_data *data, int n, gan_tensor **labels_or_NULL);

GAN_API int gan_data_size(const gan_data *data); /* how many images */
GAN_API void gan_data_item(
    const gan_data *data, int i, gan_real *image,
    int *label_or_NULL); /* image i in file order, in [-1,1]; label -1 if none */
GAN_API const char *gan_data_class_name(
    const gan_data *data, int label); /* "star", a sub-folder's name ..; NULL if none */
GAN_API int gan_data_skipped(
    const gan_data *data); /* files of a folder that were found broken so far */

/* CycleGAN's history of generated images (Shrivastava et al. 2017). For each of images
   (N,C,H,W): until size are kept, it is kept and returned; then, with probability 1/2 each, it
   is returned, or changes places with a random one of those kept. The result has no past. size 0
   returns images. What is kept are name.running_images and name.running_count, parameters of
   model that are saved, not trained. */
GAN_API gan_tensor *gan_image_pool(gan_model *model, const char *name, gan_tensor *images,
                                   int size);

/* ===========================================================================================
   >>augment
   ===========================================================================================
   Random changes that gradients go through, drawn for each image: GAN_FLIP left and right
   exchanged; GAN_SHIFT by up to an eighth, zeros move in; GAN_CUTOUT a square hole of half the
   size; GAN_COLOR brightness + U(-.5,.5), saturation * U(0,2), contrast * U(.5,1.5). The last
   three with p = 1 are DiffAugment (Zhao et al. 2020): give real and fake images to D through
   it. */
enum { GAN_FLIP = 1, GAN_SHIFT = 2, GAN_CUTOUT = 4, GAN_COLOR = 8, GAN_DIFFAUGMENT = 14 };

GAN_API gan_tensor *gan_augment(gan_tensor *x, int which,
                                gan_real p); /* each of which, for each image, with probability p */

/* The probability for the next steps (ADA, Karras et al. 2020): after each call p, kept in D's
   ada.running_p, moves by N/images towards where the mean of sign(D(real)) is target (0.6),
   within [0,1]; images 500000 in the paper. */
GAN_API gan_real gan_ada(gan_model *D, gan_tensor *real_logits, gan_real target, double images);

GAN_API gan_tensor *gan_random_crop(gan_tensor *x, int h,
                                    int w); /* (N,C,H,W) -> (N,C,h,w), a place for each image */

/* ===========================================================================================
   >>metrics
   ===========================================================================================
   Features are n rows of d numbers in host memory: a classifier's layer, read with gan_to_host.
   Their scores are computed in double, on OpenMP's threads, with the same bits on any number of
   them; a number that is not finite makes a score NaN. */

/* |mean_a - mean_b|^2 + tr(A + B - 2 (A B)^1/2), A and B the unbiased covariances (numpy.cov),
   which may be singular (Heusel et al. 2017: FID, where the features are Inception's). n is 2 or
   more. */
GAN_API double gan_frechet_distance(const gan_real *a, int na, const gan_real *b, int nb, int d);

/* mean k(a,a') + mean k(b,b') - 2 mean k(a,b) over all pairs of rows, none with itself, k(x,y) =
   (x.y/d + 1)^3: the unbiased squared maximum mean discrepancy (KID, Binkowski et al. 2018), for
   equal distributions about 0, also below. n is 2 or more. */
GAN_API double gan_kernel_distance(const gan_real *a, int na, const gan_real *b, int nb, int d);

/* The share of fake rows within reach of a real row, its distance to the k-th nearest other real
   row: precision; recall is the same with real and fake in each other's place (Kynkaanniemi et
   al. 2019, k = 3). n_real is above k, k and n_fake 1 or more. */
GAN_API double gan_precision(const gan_real *real, int n_real, const gan_real *fake, int n_fake,
                             int d, int k);

/* exp of the mean over n of sum_y p(y|x) ln(p(y|x)/p(y)), p(y) the mean of p(y|x): 1 if all rows
   are the same, classes if each is sure of one and all are equally frequent (Salimans et al.
   2016, but all n at once). Rows (n,classes) sum to 1. */
GAN_API double gan_inception_score(const gan_real *probabilities, int n, int classes);

/* How many classes hold the largest score, the first of equals, of some of n rows (n,classes)
   without NaN. histogram (classes) counts. */
GAN_API int gan_modes(const gan_real *scores, int n, int classes, int *histogram);

/* Prints title, N, d and all of the above (k = 3) in one line, the last two only if fake's
   probabilities are there; returns the first. */
GAN_API double gan_print_scores(const char *title, const gan_real *real, int n_real,
                                const gan_real *fake, int n_fake, int d,
                                const gan_real *probabilities_or_NULL, int classes);

/* Mean over batch*batches draws of |F(G(z(t + eps))) - F(G(z(t)))|^2 / eps^2 (Karras et al.
   2019), F NULL: of pixels. z (latent,1,1) goes from a to b, each gan_randn, by cos(wt) a +
   sin(wt) b, w = pi/2 (slerp at the angle that independent normal vectors have in many
   dimensions), t uniform in [0,1). StyleGAN also leaves out 1% at both ends. With eps 1e-4, the
   paper's, float is right to 1e-3. */
GAN_API double gan_perceptual_path_length(gan_network *G, gan_model *generator,
                                          gan_network *F_or_NULL, gan_model *features_or_NULL,
                                          int latent, int batch, int batches, double eps);

/* Means over images of two tensors of one shape, whose values span range (2 for -1..1). psnr: 10
   log10(range^2 / MSE) dB. ssim: l*s, l = (2 mx my + C1)/(mx^2 + my^2 + C1), s = (2 cov +
   C2)/(vx + vy + C2), of each channel in all 11x11 Gaussian windows, sigma 1.5, that fit in; C1
   = (0.01 range)^2, C2 = (0.03 range)^2 (Wang et al. 2004). Sides of 11 or more.  ms_ssim: the
   product of the mean s of five scales, each the 2x2 means of the last, the fifth's l*s, to
   powers that sum to 1, negative means as 0 (Wang et al. 2003). Sides of 176 or more. */
GAN_API double gan_psnr(gan_tensor *a, gan_tensor *b, double range);
GAN_API double gan_ssim(gan_tensor *a, gan_tensor *b, double range);
GAN_API double gan_ms_ssim(gan_tensor *a, gan_tensor *b, double range);

/* a (n,n), symmetric: values, the largest first, and row i of a becomes values[i]'s unit
   eigenvector. NaN if a number is not finite. */
GAN_API void gan_eigen_symmetric(double *a, int n, double *values);

/* ===========================================================================================
   >>files
   ===========================================================================================
   Safetensors: 8 bytes little-endian header length, JSON, raw little-endian data. A file is
   written beside its target, flushed to the disk and renamed over it: at every moment the target
   is the old file or the new one, whole. */

/* Parameters and running statistics under their names; torch's load_file opens it. False:
   gan_error(). */
GAN_API bool gan_save(gan_model *model, const char *path);

/* The same in F16, half the size: rounded to 11 bits, ties to even. False if a number is too
   large for it (65520 and up). */
GAN_API bool gan_save_f16(gan_model *model, const char *path);

/* Fills model. Into a model without parameters: all that the file holds. Else names and shapes
   must be the same on both sides: false and nothing changed if not, and gan_error() names the
   first three that differ. F16, BF16, F32, F64, and bytes (U8) as 0 .. 255; PyTorch's
   num_batches_tracked is passed over. */
GAN_API bool gan_load(gan_model *model, const char *path);

/* The whole of a training: every model, its optimizer, random numbers, place in the data, and
   step. A program that makes the same models, optimizers and data, then loads, goes on exactly
   where it was. */
GAN_API bool gan_save_state(gan *g, const char *path, int step);
GAN_API bool gan_load_state(gan *g, const char *path, int *step);

/* ===========================================================================================
   >>pictures
   =========================================================================================== */
#ifdef INCLUDE_STB_IMAGE_WRITE_H
/* Writes x (N,1 or 3,H,W), [-1,1] to black..white, as a grid of N pictures with columns a row.
   False: gan_error(). */
GAN_API bool gan_save_png(gan_tensor *x, int columns, const char *path);
#endif

/* ===========================================================================================
   >>progress
   =========================================================================================== */
/* Begins a log of values named in columns, "D,G": on a terminal one line with a bar, step,
   values, images/s and time left; elsewhere a plain line now and then; every step a row of csv
   (or NULL for none). With first > 0, a training that goes on, rows of csv from step first on
   are dropped and the others kept. NULL if csv cannot be written. */
GAN_API gan_progress *gan_progress_open(gan *g, const char *csv, const char *columns, int first,
                                        int steps, int batch);
GAN_API void gan_progress_step(gan_progress *log, int step, ...); /* one double per column */
GAN_API void gan_progress_close(gan_progress *log);

/* ===========================================================================================
   >>look
   =========================================================================================== */
GAN_API void gan_summary(
    gan_model *model); /* prints the layers used so far: output shapes, parameter counts */
GAN_API void gan_profile(
    gan *g); /* prints, per kernel: calls, ms, GFLOP/s, GB/s, share of the time; then starts anew */
GAN_API size_t gan_profile_flops(
    gan *g); /* operations (a multiply-add is two) of products and convolutions since then */

/* ===========================================================================================
   >>doctor
   =========================================================================================== */
/* One line at the end of a training step, before gan_clear:  gan_doctor(g, step, 20, real, fake,
   NULL, NULL);  Every 20th step it prints what is wrong, the number that shows it and what to
   try; it is silent when all is well, and changes nothing. An illness is told when it lasts for
   some looks, and again after twice as long. Returns how many were told now. real, fake: the
   batches (N,C,H,W). The logits: what the discriminator made of them, any shape; NULL finds them
   if they are (N,1,1,1). It sees: numbers that are not finite (at every step, by the logits;
   every = 1 also names the kernel of a derivative), constant data, a discriminator that has won
   (where its logits go through a sigmoid or softplus), takes fakes for real or does not learn, a
   collapsed generator, gradients that vanish or explode, updates too large for their weights (of
   two or more dimensions), dead ReLUs. */
GAN_API int gan_doctor(gan *g, int step, int every, gan_tensor *real, gan_tensor *fake,
                       gan_tensor *real_logits, gan_tensor *fake_logits);

/* After gan_doctor, at a look: scores (N,K,1,1), N >= 10*K, that a classifier gives fakes. Tells
   of classes that no fake is best in. */
GAN_API int gan_doctor_classes(gan *g, gan_tensor *scores);
GAN_API const char *gan_doctor_text(
    const gan *g); /* the lines of the last step that had any; "" before the first */

/* ===========================================================================================
   >>plan
   =========================================================================================== */
/* Goes through a training step, step(g, user), without computing it: prints its operations in
   order (result, parameters, multiply-adds, bytes of the result, bytes held by then) and returns
   the most bytes held, exactly gan_memory's peak in a training of such steps. step is called
   twice, the first time it makes parameters and optimizer state. gan_item and gan_to_host give
   0, gan.h writes no file, and what step does to models, optimizers, data and random numbers,
   all made before, is put back: the training goes on as if there had been no plan. Shapes that
   do not fit are the usual error. For the peak of a term that only some steps have, plan one of
   them. */
typedef void gan_step_fn(gan *g, void *user);
GAN_API size_t gan_plan(gan *g, gan_step_fn *step, void *user);

/* gan_clear(g), then step(g, user), for a training's loop. Where the backend can (cuda, as a
   graph) step is called the first time, recorded the second, and from then on played without
   being called: the same bits, faster. Random numbers, gan_batch, Adam's count and gan_set_lr
   outside it go on; its own ifs and numbers stay as recorded. The tensors that it leaves in
   *user are there until the next gan_capture. One step for each user: another one, or a look of
   gan_doctor, begins anew. A step that reads tensors, gives numbers from the host, writes files
   or makes parameters at its second call cannot be recorded: stderr says what it was, and step
   is called each time. gan_profile counts what is called, not what is played. */
GAN_API void gan_capture(gan *g, gan_step_fn *step, void *user);
#ifdef __cplusplus
}
#endif
#endif /* GAN_H */

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
#if defined(_OPENMP) && !defined(GAN_NO_OPENMP)
#define GAN__OPENMP
#include <omp.h>
#endif
#if defined(GAN__POSIX) && defined(STBI_INCLUDE_STB_IMAGE_H)
#ifndef GAN_NO_THREADS
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
#define GAN__INLINE __attribute__((always_inline))
#else
#define GAN__INLINE
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

/* A function of math.h in the library's precision. */
#define GAN__F(name, x)                                                \
    (sizeof(gan_real) == sizeof(float) ? (gan_real)name##f((float)(x)) \
                                       : (gan_real)name((double)(x)))

#ifdef __cplusplus
extern "C" {
#endif

/* ===========================================================================================
   >>errors (implementation)
   =========================================================================================== */
/* What a thread has of its own: its error, its handler, and the workspace of the cpu kernels, a
   cache that no result depends on. */
static GAN__THREAD_LOCAL struct {
    char error[1024];
    gan_error_fn *handler;
    void *user, *workspace[3];
    size_t workspace_size[3];
    gan *planning; /* whose gan_plan is under way in this thread: an error ends it */
} gan__thread;

static void gan__clear_where(gan *g);
static const char *gan__where(gan *g, const char *function);
static void gan__plan_end(gan *g);

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
    if (gan__thread.planning)
        gan__plan_end(gan__thread.planning);
    if (gan__thread.handler)
        gan__thread.handler(gan__thread.error, gan__thread.user);
    fflush(stdout);
    fprintf(stderr, "%s\n", gan__thread.error);
    abort();
}

GAN_API void gan_fail(const char *where, const char *message)
{
    gan__fail(NULL, where, "%s", message);
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
static int gan__conv_out(const gan_conv *p, int size, int kernel)
{
    return (size + 2 * p->pad - GAN__MAX(p->dilation, 1) * (kernel - 1) - 1) /
               GAN__MAX(p->stride, 1) +
           1;
}

GAN_API int gan_conv_out_h(const gan_conv *p)
{
    return gan__conv_out(p, p->h, p->kernel_h);
}

GAN_API int gan_conv_out_w(const gan_conv *p)
{
    return gan__conv_out(p, p->w, p->kernel_w);
}

static int gan__threads(void)
{
#ifdef GAN__OPENMP
    return omp_get_max_threads();
#else
    return 1;
#endif
}

/* Calls body for [0,count) in blocks of grain, on all threads: the one place where threads are
   made. A block's result must not depend on the others, so which thread takes it, and when, does
   not show. */
typedef void gan__body(void *job, size_t begin, size_t end, int thread);

static void gan__parallel(size_t count, size_t grain, gan__body *body, void *job)
{
#ifdef GAN__OPENMP
    size_t blocks = (count + grain - 1) / grain;
    int threads = (int)GAN__MIN((size_t)gan__threads(), blocks);
    if (threads > 1 && !omp_in_parallel()) {
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
        for (long long i = 0; i < (long long)blocks; i++)
            body(job, (size_t)i * grain, GAN__MIN(((size_t)i + 1) * grain, count),
                 omp_get_thread_num());
        return;
    }
#endif
    for (size_t begin = 0; begin < count; begin += grain)
        body(job, begin, GAN__MIN(begin + grain, count), 0);
}

/* Scratch memory of this thread for one kernel call, 64-byte aligned; kept from call to call. 0
   is the matrix product's, 1 and 2 its callers'. */
static void *gan__workspace(int which, size_t bytes)
{
    void **memory = &gan__thread.workspace[which];
    if (gan__thread.workspace_size[which] < bytes) {
        GAN_FREE(*memory);
        *memory = NULL;
        gan__thread.workspace_size[which] = 0;
        *memory = gan__alloc(bytes + 64);
        gan__thread.workspace_size[which] = bytes;
    }
    return (void *)(((uintptr_t)*memory + 63) & ~(uintptr_t)63);
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

static size_t gan__conv_sums(const gan_conv *p)
{
    return gan__size(p->n, p->out_c, gan_conv_out_h(p), gan_conv_out_w(p));
}

static size_t gan__conv_taps(const gan_conv *p)
{
    return gan__size(p->out_c, p->c / GAN__MAX(p->groups, 1), p->kernel_h, p->kernel_w);
}

static double gan__conv_flops(const gan_conv *p)
{
    return 2.0 * p->n * gan_conv_out_h(p) * gan_conv_out_w(p) * (double)gan__conv_taps(p);
}

/* Of each kernel: a size n, then, in n and the sizes p, {numbers of the inputs}, {of the
   outputs}, operations. */
#define GAN__COST(name, type, size, ...)             \
    static gan__cost gan__cost_##name(const type *p) \
    {                                                \
        const size_t n = size;                       \
        gan__cost cost = {__VA_ARGS__};              \
        return cost;                                 \
    }
GAN__COST(fill, gan_fill, p->count, {0}, {n}, 0)
GAN__COST(random, gan_random, p->count, {0}, {n}, 0)
GAN__COST(map, gan_map, p->count, {n}, {n}, (double)n)
GAN__COST(zip, gan_zip, gan__size(GAN__SHAPE(p)),
          {gan__extent(GAN__SHAPE(p), p->a), gan__extent(GAN__SHAPE(p), p->b)}, {n}, (double)n)
GAN__COST(copy, gan_copy, p->x0 + gan__extent(GAN__SHAPE(p), p->x), {n},
          {p->y0 + gan__extent(GAN__SHAPE(p), p->y)}, 0)
GAN__COST(sum, gan_sums, gan__size(p->in[0], p->in[1], p->in[2], p->in[3]), {n},
          {gan__size(p->out[0], p->out[1], p->out[2], p->out[3])}, (double)n)
GAN__COST(matmul, gan_product, gan__size(p->n, p->c, p->m, p->w),
          {(p->n - 1) * p->a_n + (p->c - 1) * p->a_c + (size_t)p->m * p->k,
           (p->n - 1) * p->b_n + (p->c - 1) * p->b_c + (size_t)p->k * p->w},
          {n}, 2.0 * (double)n * p->k)
GAN__COST(conv2d, gan_conv, gan__size(GAN__SHAPE(p)), {n, gan__conv_taps(p)}, {gan__conv_sums(p)},
          gan__conv_flops(p))
GAN__COST(conv_transpose2d, gan_conv, gan__size(GAN__SHAPE(p)),
          {gan__conv_sums(p), gan__conv_taps(p)}, {n}, gan__conv_flops(p))
GAN__COST(conv2d_weight, gan_conv, gan__size(GAN__SHAPE(p)), {n, gan__conv_sums(p)},
          {gan__conv_taps(p)}, gan__conv_flops(p))
GAN__COST(norm_stats, gan_norm, p->n * p->c * p->size, {n}, {2 * (size_t)p->c}, 4.0 * (double)n)
GAN__COST(norm_apply, gan_norm, p->n * p->c * p->size,
          {n, 2 * (size_t)p->c, (size_t)p->c, (size_t)p->c}, {n}, 2.0 * (double)n)
GAN__COST(norm_sums, gan_norm, p->n * p->c * p->size, {n, n, 2 * (size_t)p->c}, {2 * (size_t)p->c},
          4.0 * (double)n)
GAN__COST(norm_grad, gan_norm, p->n * p->c * p->size,
          {n, n, 2 * (size_t)p->c, (size_t)p->c, 2 * (size_t)p->c}, {n}, 4.0 * (double)n)
GAN__COST(resample, gan_resample, gan__size(p->n, p->c, p->out_h, p->out_w),
          {p->adjoint ? n : gan__size(GAN__SHAPE(p)),
           2 * gan__size(p->images, p->out_h, p->taps_h, 1),
           2 * gan__size(p->images, p->out_w, p->taps_w, 1)},
          {p->adjoint ? gan__size(GAN__SHAPE(p)) : n}, 2.0 * (double)n * p->taps_h * p->taps_w)
GAN__COST(gather, gan_index, p->outer * p->inner,
          {n * (p->adjoint ? p->out : p->in), 1 + (p->outer - 1) * p->step_outer +
                                                  (p->out - 1) * p->step +
                                                  (p->inner - 1) * p->step_inner},
          {n * (p->adjoint ? p->in : p->out)}, 0)
GAN__COST(max_index, gan_pool, gan__size(p->planes, p->out_h, p->out_w, 1),
          {gan__size(p->planes, p->h, p->w, 1)}, {n}, (double)n * p->kernel_h * p->kernel_w)
GAN__COST(softmax, gan_lines, p->outer * p->count * p->inner, {n}, {n}, 4.0 * (double)n)
GAN__COST(softmax_grad, gan_lines, p->outer * p->count * p->inner, {n, n}, {n}, 4.0 * (double)n)
GAN__COST(sgd, gan_update, p->count, {n}, {n, n}, 4.0 * (double)n)
GAN__COST(adam, gan_update, p->count, {n}, {n, n, n}, 12.0 * (double)n)
GAN__COST(rmsprop, gan_update, p->count, {n}, {n, n}, 4.0 * (double)n)

/* The list once more: a number per kernel, the two tables, names, and calls through a table with
   untyped operands. */
#define GAN__NUMBER(name, type, in, out) GAN__K_##name,

enum { GAN_KERNELS(GAN__NUMBER) GAN__KERNEL_COUNT };

#define GAN__REF(name, type, in, out) gan_ref_##name,
static const gan_backend gan__ref = {"ref", NULL, NULL, NULL, NULL, NULL,
                                     NULL,  NULL, NULL, NULL, NULL, GAN_KERNELS(GAN__REF)};
#define GAN__CPU(name, type, in, out) gan_cpu_##name,
static const gan_backend gan__cpu = {"cpu", NULL, NULL, NULL, NULL, NULL,
                                     NULL,  NULL, NULL, NULL, NULL, GAN_KERNELS(GAN__CPU)};

#define GAN__ARGS_0_1 y[0]
#define GAN__ARGS_1_1 x[0], y[0]
#define GAN__ARGS_2_1 x[0], x[1], y[0]
#define GAN__ARGS_3_1 x[0], x[1], x[2], y[0]
#define GAN__ARGS_4_1 x[0], x[1], x[2], x[3], y[0]
#define GAN__ARGS_5_1 x[0], x[1], x[2], x[3], x[4], y[0]
#define GAN__ARGS_1_2 x[0], y[0], y[1]
#define GAN__ARGS_1_3 x[0], y[0], y[1], y[2]
#define GAN__CALL(name, type, in, out)                                                          \
    static void gan__call_##name(const gan_backend *b, const void *p, const gan_real *const *x, \
                                 gan_real *const *y)                                            \
    {                                                                                           \
        (void)x, b->name((const type *)p, GAN__ARGS_##in##_##out);                              \
    }                                                                                           \
    static gan__cost gan__cost_call_##name(const void *p)                                       \
    {                                                                                           \
        return gan__cost_##name((const type *)p);                                               \
    }                                                                                           \
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

/* The backends that the program added. The only list of the process: gan_register_backend has no
   gan to keep it in. */
static gan_backend gan__registered[32];
static int gan__registered_count;

GAN_API const gan_backend *gan_find_backend(const char *name)
{
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
   Two memories. Structs, in the host's, are taken from slabs front to back, and gan_clear goes
   back to the front. Numbers, in the device's, come from a list of free blocks, the smallest
   that fits; a buffer goes back when its last user goes, at gan_clear or, for what a
   gan_backward needs in between, at once. The first steps add slabs; a gan_clear then puts one
   in their place, in which every later step finds the same addresses. */

typedef struct {
    char *memory;
    size_t size;
} gan__slab;

typedef struct {
    gan__slab *slabs;
    int count, slab;
    size_t used;
} gan__arena;

typedef struct {
    char *memory;
    size_t size;
    int slab;
} gan__block;

/* references: tensors and gradient slots that use it; at 0 the block is free. */
typedef struct gan__buffer {
    gan__block block;
    int references;
} gan__buffer;

typedef gan_tensor *gan__vjp(gan_tensor *y, gan_tensor *gy,
                             int i); /* y's derivative: gradient of in[i], or NULL for zero */

struct gan__op {
    const char *name;
    gan__vjp *vjp;
    bool needs_output;
}; /* needs_output: vjp reads y's numbers */

struct gan {
    const gan_backend *backend, *other; /* other: the second of compare:A,B */
    uint64_t seed, drawn;               /* drawn: how far the stream of gan_rand and gan_randn is */
    int threads;
    gan__arena structs;
    gan__slab *slabs;
    gan__block *free_blocks;
    int slab_count, free_count,
        free_room; /* ..._room: the highest ..._count so far, up to which gan__grow has made room */
    gan_tensor **tape;
    int tape_count, tape_room;
    gan_tensor **temporaries; /* tensors of a gan_backward that nobody outside can see */
    int temporary_count, temporary_room;
    bool recording,
        reclaiming; /* operations are put on the tape; tensors are noted as temporaries */
    uint64_t differentiation;
    int gradients;     /* how many parameters hold a gradient, which gan_clear leaves */
    size_t held, peak; /* bytes */
    char where[128];   /* the layer being computed, for messages: gan_conv2d "conv1" */
    gan_model *models;
    gan_data *datas;
    gan_progress *logs;
    void *spare[3], *spare_in[5]; /* compare: other's outputs; inputs in other's memory */
    void *staging[2];             /* compare: results on the host */
    size_t spare_size[3], spare_in_size[5], staging_size[2];
    double kernel_calls, compare_scale; /* compare: how large the terms of the kernel's sums are */
    double profile_seconds[GAN__KERNEL_COUNT], profile_flops[GAN__KERNEL_COUNT],
        profile_bytes[GAN__KERNEL_COUNT];
    double profile_calls[GAN__KERNEL_COUNT];
    struct gan__doctor *doctor;
    bool look; /* the doctor looks at this step: gan__run and gan_step tell it what they see */
    struct gan__plan *plan; /* a gan_plan is under way, or a recording: nothing is computed */
    struct gan__capture *captures, *recorded; /* recorded: the one that is under way */
    /* that can be played: memory stays where it is, and up to floor what it holds */
    int recordings;
    gan_mark floor;
};

static void gan__doctor_watch(gan *g, int k, const void *p, const gan__cost *cost,
                              const gan_real *y);
static void gan__plan_note(gan *g, int k, const void *p, const gan__cost *cost,
                           const gan_real *const *x, const gan_real *y);
static bool gan__planned(gan *g, const char *function);
static void gan__changes(gan *g, gan_opt *opt, gan_data *data, int n);

static const char *gan__where(gan *g, const char *function)
{
    return g && g->where[0] ? g->where : function;
}

static void gan__clear_where(gan *g)
{
    if (g) {
        g->where[0] = 0;
        g->recording = true;
        g->reclaiming = false;
        g->temporary_count = 0;
    }
}

/* Seconds from some fixed moment. */
static double gan__now(void)
{
#if defined(GAN__OPENMP)
    return omp_get_wtime();
#elif defined(GAN__POSIX)
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

GAN_API gan *gan_open(const char *device, uint64_t seed)
{
    char names[2][64] = {"", ""};
    const gan_backend *found[2] = {NULL, NULL};
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
    snprintf(names[0], sizeof names[0], "%.*s", comma ? (int)(comma - first) : 63, first);
    if (comma)
        snprintf(names[1], sizeof names[1], "%s", comma + 1);
    for (int i = 0; i < (compare ? 2 : 1); i++) {
        found[i] = gan_find_backend(names[i]);
        if (!found[i]) {
            char known[256] = "ref, cpu";
            for (int k = 0; k < gan__registered_count; k++)
                snprintf(known + strlen(known), sizeof known - strlen(known), ", %s",
                         gan__registered[k].name);
            gan__refuse(
                "gan_open(\"%s\"): there is no backend \"%s\"; there are %s and compare:A,B%s",
                device, names[i], known,
                gan_find_backend("cuda")
                    ? ""
                    : ". For cuda compile gan_cuda.cu with nvcc and link it to the program");
            return NULL;
        }
        const char *why = found[i]->start ? found[i]->start() : NULL;
        if (why) {
            gan__refuse("gan_open(\"%s\"): %s", device, why);
            return NULL;
        }
    }
    gan *g = (gan *)gan__alloc_zero(sizeof *g);
    g->backend = found[0];
    g->other = found[1];
    g->seed = seed;
    g->recording = true;
    return g;
}

GAN_API void gan_set_threads(gan *g, int threads)
{
    g->threads = GAN__MAX(threads, 0);
}

GAN_API size_t gan_memory(const gan *g, size_t *peak)
{
    if (peak)
        *peak = g->peak;
    return g->held;
}

static void gan__account(gan *g, ptrdiff_t bytes)
{
    g->held += (size_t)bytes;
    g->peak = GAN__MAX(g->peak, g->held);
}

/* size bytes for structs, which are multiples of 16. */
static void *gan__take_struct(gan *g, size_t size)
{
    gan__arena *arena = &g->structs;
    size = (size + 15) & ~(size_t)15;
    while (arena->slab < arena->count && arena->used + size > arena->slabs[arena->slab].size) {
        arena->slab++;
        arena->used = 0;
    }
    if (arena->slab == arena->count) {
        gan__slab slab = {(char *)gan__alloc(64 << 10), 64 << 10};
        arena->slabs = (gan__slab *)gan__grow(arena->slabs, (size_t)arena->count, sizeof slab);
        arena->slabs[arena->count++] = slab;
    }
    arena->used += size;
    return memset(arena->slabs[arena->slab].memory + arena->used - size, 0, size);
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

/* Numbers for count elements. Small ones share slabs of 1 MiB. */
static gan__block gan__take_numbers(gan *g, size_t count)
{
    size_t size = (count * sizeof(gan_real) + 63) & ~(size_t)63;
    int best = -1;
    for (int i = 0; i < g->free_count; i++)
        if (g->free_blocks[i].size >= size &&
            (best < 0 || g->free_blocks[i].size < g->free_blocks[best].size))
            best = i;
    if (best < 0) {
        gan__slab_add(g, GAN__MAX(size, (size_t)1 << 20));
        gan__block whole = {g->slabs[g->slab_count - 1].memory, g->slabs[g->slab_count - 1].size,
                            g->slab_count - 1};
        gan__free_add(g, whole);
        best = g->free_count - 1;
    }
    gan__account(g, (ptrdiff_t)size);
    gan__block block = g->free_blocks[best];
    gan__block *rest = &g->free_blocks[best];
    rest->memory += size;
    rest->size -= size;
    if (rest->size == 0)
        *rest = g->free_blocks[--g->free_count];
    block.size = size;
    return block;
}

/* Gives a block back; free neighbours in its slab become one with it. */
static void gan__give_numbers(gan *g, gan__block block)
{
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
        i = -1;
    }
    gan__free_add(g, block);
}

/* Lets go of a tensor's numbers. */
static void gan__release(gan_tensor *t)
{
    if (t->buffer->references > 0 && --t->buffer->references == 0)
        gan__give_numbers(t->g, t->buffer->block);
}

GAN_API gan_mark gan_here(gan *g)
{
    gan_mark mark = {g->tape_count, g->structs.slab, g->structs.used};
    return mark;
}

GAN_API void gan_clear_to(gan *g, gan_mark mark)
{
    while (g->tape_count > mark.tape)
        gan__release(g->tape[--g->tape_count]);
    g->structs.slab = mark.slab;
    g->structs.used = mark.used;
}

GAN_API void gan_clear(gan *g)
{
    size_t total = 0;
    gan_clear_to(g, g->floor);
    if (g->gradients || g->recordings || g->recorded)
        return; /* free blocks lie between gradients; recordings know addresses */
    if (g->slab_count > 1) {
        for (int i = 0; i < g->slab_count; i++) {
            total += g->slabs[i].size;
            gan__device_free(g->backend, g->slabs[i].memory);
        }
        g->slab_count = 0;
        gan__slab_add(g, total);
    }
    g->free_count = 0;
    if (g->slab_count == 0)
        return;
    gan__block whole = {g->slabs[0].memory, g->slabs[0].size, 0};
    gan__free_add(g, whole);
}

/* Room in one of compare's buffers. */
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

static double gan__largest(const gan_real *x, size_t count)
{
    double largest = 0;
    for (size_t i = 0; i < count; i++)
        if (fabs((double)x[i]) <= DBL_MAX)
            largest = GAN__MAX(largest, fabs((double)x[i]));
    return largest;
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

/* Stops where A's and B's results x and y of kernel k differ: by more than rounding can make of
   the largest number, or in being finite. */
static void gan__compare_results(gan *g, int k, int output, const gan_real *x, const gan_real *y,
                                 size_t count)
{
    double tolerance = sizeof(gan_real) == 8 ? 1e-10 : 1e-4;
    double largest = GAN__MAX(gan__largest(x, count), g->compare_scale);
    for (size_t i = 0; i < count; i++) {
        bool same = fabs((double)x[i] - (double)y[i]) <= tolerance * largest || x[i] == y[i] ||
                    (x[i] != x[i] && y[i] != y[i]);
        if (!same)
            gan__fail(g, gan__kernels[k].name,
                      "%s and %s differ in kernel %s (call %.0f), output %d, element %.0f of %.0f: "
                      "%s has %.8g, %s has %.8g",
                      g->backend->name, g->other->name, gan__kernels[k].name, g->kernel_calls,
                      output, (double)i, (double)count, g->backend->name, (double)x[i],
                      g->other->name, (double)y[i]);
    }
}

/* compare: b's numbers x on the host, in one of two places. */
static const gan_real *gan__fetch(gan *g, int place, const gan_backend *b, const gan_real *x,
                                  size_t count)
{
    void *host = gan__ensure_buffer(g, &gan__ref, &g->staging[place], &g->staging_size[place],
                                    count);
    gan__download(b, host, x, count * sizeof *x);
    return (const gan_real *)host;
}

/* compare:A,B: the same kernel on B, from A's inputs and into memory of its own; then the judge. */
static void gan__run_other(gan *g, int k, const void *p, const gan__cost *cost,
                           const gan_real *const *x, gan_real *const *y, bool after)
{
    const gan_backend *a = g->backend, *b = g->other;
    const gan__kernel *kernel = &gan__kernels[k];
    const gan_real *in[5] = {NULL, NULL, NULL, NULL, NULL};
    gan_real *out[3] = {NULL, NULL, NULL};
    for (int i = 0; i < kernel->out; i++) {
        const gan_real *host = gan__fetch(g, 0, a, y[i], cost->out[i]);
        out[i] = (gan_real *)gan__ensure_buffer(g, b, &g->spare[i], &g->spare_size[i],
                                                cost->out[i]);
        if (after)
            gan__compare_results(g, k, i, host, gan__fetch(g, 1, b, out[i], cost->out[i]),
                                 cost->out[i]);
        else
            gan__upload(
                b, out[i], host,
                cost->out[i] *
                    sizeof *host); /* what A's find: optimizers read theirs, copy leaves gaps */
    }
    if (after)
        return;
    g->compare_scale = gan__products_summed(k)
                         ? sqrt(GAN__MAX(1, cost->flops / (2 * (double)cost->out[0])))
                         : 0;
    for (int i = 0; i < kernel->in; i++) {
        const gan_real *host = in[i] = x[i];
        if (a->alloc || b->alloc) { /* B cannot read A's memory */
            gan_real *copy = (gan_real *)gan__ensure_buffer(g, b, &g->spare_in[i],
                                                            &g->spare_in_size[i], cost->in[i]);
            host = gan__fetch(g, 0, a, x[i], cost->in[i]);
            gan__upload(b, copy, host, cost->in[i] * sizeof *host);
            in[i] = copy;
        }
        if (i < gan__products_summed(k))
            g->compare_scale *= gan__largest(host, cost->in[i]);
    }
    kernel->call(b, p, in, out);
}

/* Runs kernel k with sizes p on g's backend: every kernel call of tensors goes through here. */
static void gan__run(gan *g, int k, const void *p, const gan_real *const *x, gan_real *const *y)
{
    gan__cost cost = gan__kernels[k].cost(p);
    double bytes = 0;
    if (g->plan && !g->recorded) {
        gan__plan_note(g, k, p, &cost, x, y[0]);
        return;
    }
#ifdef GAN__OPENMP
    if (g->threads)
        omp_set_num_threads(g->threads);
#endif
    g->kernel_calls++;
    if (g->other)
        gan__run_other(g, k, p, &cost, x, y, false);
    double start = gan__now();
    gan__kernels[k].call(g->backend, p, x, y);
    g->profile_seconds[k] += gan__now() - start;
    if (g->other)
        gan__run_other(g, k, p, &cost, x, y, true);
    for (int i = 0; i < 5; i++)
        bytes += (double)cost.in[i];
    for (int i = 0; i < 3; i++)
        bytes += (double)cost.out[i];
    g->profile_calls[k]++;
    g->profile_flops[k] += cost.flops;
    g->profile_bytes[k] += bytes * sizeof(gan_real);
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
GAN_API size_t gan_count(const gan_tensor *t)
{
    return gan__size(GAN__SHAPE(t));
}

static bool gan__same_shape(const gan_tensor *a, const gan_tensor *b)
{
    return a->n == b->n && a->c == b->c && a->h == b->h && a->w == b->w;
}

/* A tensor that is not NULL and still has its numbers. */
static gan *gan__valid(const gan_tensor *x, const char *function)
{
    if (!x)
        gan__fail(NULL, function, "a tensor is NULL");
    if (x->stale)
        gan__fail(x->g, function,
                  "the tensor " GAN__DIMS
                  " was overwritten by an in-place function; use that one's result",
                  GAN__SHAPE(x));
    return x->g;
}

static void gan__valid_pair(const gan_tensor *a, const gan_tensor *b, const char *function)
{
    gan__valid(a, function);
    gan__valid(b, function);
    if (a->g != b->g)
        gan__fail(a->g, function, "the two tensors belong to different gan_open");
}

static void gan__check_shape(gan *g, const char *function, int n, int c, int h, int w)
{
    double count = (double)n * c * h * w;
    if (!g)
        gan__fail(
            NULL, function,
            "the device is NULL; gan_open gives NULL when it fails, and gan_error() says why");
    if (n < 1 || c < 1 || h < 1 || w < 1 || count > 2147483647.0)
        gan__fail(g, function,
                  "shape " GAN__DIMS ": each size is 1 or more, and their product below 2^31", n, c,
                  h, w);
}

/* A tensor on the tape that shares buffer, or has one of its own if buffer is NULL. */
static gan_tensor *gan__tensor(gan *g, gan__buffer *buffer, int n, int c, int h, int w)
{
    gan_tensor *t = (gan_tensor *)gan__take_struct(g, sizeof *t);
    t->n = n;
    t->c = c;
    t->h = h;
    t->w = w;
    t->g = g;
    if (!buffer) {
        buffer = (gan__buffer *)gan__take_struct(g, sizeof *buffer);
        buffer->block = gan__take_numbers(g, gan_count(t));
    }
    t->buffer = buffer;
    t->data = (gan_real *)buffer->block.memory;
    buffer->references++;
    t->tape = g->tape_count;
    if (g->tape_count == g->tape_room)
        g->tape = (gan_tensor **)gan__grow(g->tape, (size_t)g->tape_room++, sizeof t);
    g->tape[g->tape_count++] = t;
    if (!g->reclaiming)
        return t;
    if (g->temporary_count == g->temporary_room)
        g->temporaries = (gan_tensor **)gan__grow(g->temporaries, (size_t)g->temporary_room++,
                                                  sizeof t);
    return g->temporaries[g->temporary_count++] = t;
}

/* Notes how y came about. Every operation ends with it. */
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

/* A parameter or a piece of optimizer state: outside the arenas, until gan_close. NULL if there
   is no memory. */
static gan_tensor *gan__persistent_tensor(gan *g, int n, int c, int h, int w)
{
    gan__planned(g, "a new parameter or optimizer state");
    size_t size = (size_t)n * c * h * w * sizeof(gan_real);
    gan_tensor *t = (gan_tensor *)gan__try_alloc(sizeof *t);
    gan__buffer *buffer = (gan__buffer *)gan__try_alloc(sizeof *buffer);
    void *numbers = t && buffer ? gan__try_device_alloc(g->backend, size) : NULL;
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
    t->tape = -1;
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
    gan__device_free(t->g->backend, t->data);
    GAN_FREE(t->gradient);
    GAN_FREE(t->buffer);
    GAN_FREE(t);
}

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

/* Numbers that are the same in every step. */
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
    if (!gan__planned(t->g, "gan_set"))
        gan__upload(t->g->backend, t->data, data, gan_count(t) * sizeof(gan_real));
}

GAN_API gan_tensor *gan_detach(gan_tensor *x)
{
    return gan__tensor(gan__valid(x, "gan_detach"), x->buffer, GAN__SHAPE(x));
}

/* ===========================================================================================
   >>random (implementation)
   ===========================================================================================
   Philox 4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3",
   2011): ten rounds of multiply and exclusive-or turn a counter of four words and a key of two
   into four words. Here the key is the seed, the counter (index, stream). */

static void gan__philox(uint64_t seed, uint64_t stream, uint64_t index, uint32_t out[4])
{
    uint32_t c0 = (uint32_t)index;
    uint32_t c1 = (uint32_t)(index >> 32);
    uint32_t c2 = (uint32_t)stream;
    uint32_t c3 = (uint32_t)(stream >> 32);
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u) {
        uint64_t a = (uint64_t)0xD2511F53u * c0;
        uint64_t b = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(b >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)b;
        c3 = (uint32_t)a;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* Streams: gan_rand and gan_randn, shuffles, strokes, gradient checks, shapes; a parameter's own
   is a hash of its name, above these. */
enum {
    GAN__STREAM_DRAW,
    GAN__STREAM_SHUFFLE,
    GAN__STREAM_DIGITS,
    GAN__STREAM_CHECK,
    GAN__STREAM_SHAPES
};

/* Four numbers from one block: 24 bits each; normals by Box and Muller (1958), two from two. */
static void gan__random_block(const gan_random *p, uint64_t block, gan_real out[4])
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

typedef struct {
    const void *p;
    const gan_real *in[5];
    gan_real *out[3];
} gan__job;

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
    gan__changes(g, NULL, NULL, 0);
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

/* -------------------------------------------------------------------------------------------
   The inner loops of the cpu kernels stand in a section at the end of this file that is compiled
   once per instruction set. This is what it offers, and how a table of it is chosen when a
   kernel is called. */

/* Columns of an image seen as a matrix: rows are (channel, u, v) of a window of tu x tv taps,
   columns are positions (n, i, j) of a grid of rows x cols; the number there is src[n, channel,
   i*step + u0 + u*dir, j*step + v0 + v*dir], or 0 outside. No such matrix is ever stored: panels
   of it are packed on the way into the product. */
typedef struct {
    const gan_real *src, *end;
    ptrdiff_t image;
    int h, w, step, rows, cols, tu, tv, u0, v0, dir;
} gan__window; /* end: the tensor's */

/* Where packers read a matrix (K,columns): the two strides of an ordinary matrix, or a window
   (its columns, or its transpose). */
typedef struct {
    int kind;
    const gan_real *src;
    ptrdiff_t k_stride, column_stride;
    gan__window window;
} gan__matrix_source;

enum { GAN__PLAIN, GAN__WINDOW, GAN__WINDOW_T };

typedef struct {
    int rows, columns; /* of the register tile: the micro-kernel's C is rows x columns */
    void (*tile)(int depth, const gan_real *a, const gan_real *b, gan_real *c, bool add);
    void (*pack_left)(const gan_real *src, ptrdiff_t row_stride, const ptrdiff_t *k_offset,
                      int rows, int depth, gan_real *panel);
    void (*pack_right)(const gan__matrix_source *right, int column, int columns, int k, int depth,
                       gan_real *panel);
    void (*store)(const gan_real *tile, int rows, int columns, gan_real *dst, ptrdiff_t row_stride,
                  const ptrdiff_t *column_offset);
    void (*map)(const gan_map *p, const gan_real *x, gan_real *y, size_t n);
    void (*zip)(const gan_zip *p, const gan_real *a, int a_step, const gan_real *b, int b_step,
                gan_real *y, size_t n);
    double (*sum)(const gan_real *x, size_t rows, ptrdiff_t stride, size_t n);
    double (*squares)(const gan_real *x, size_t rows, ptrdiff_t stride, size_t n, gan_real center);
    void (*add_rows)(const gan_real *x, size_t rows, ptrdiff_t row_stride, gan_real *y, size_t n);
    void (*scale_shift)(const gan_real *x, gan_real scale, gan_real shift, gan_real *y, size_t n);
    void (*two_sums)(const gan_real *gy, const gan_real *x, size_t rows, ptrdiff_t stride, size_t n,
                     gan_real mean, double sums[2]);
    void (*blend)(const gan_real *gy, const gan_real *x, gan_real mean, gan_real a, gan_real b,
                  gan_real c, gan_real *gx, size_t n);
    void (*add_scaled)(const gan_real *x, gan_real k, gan_real *y, size_t n, bool add);
    void (*take)(const gan_real *x, const int *index, const gan_real *weight, int taps, int apart,
                 gan_real *y, int n);
    void (*take_even)(const gan_real *x, int in, const int *index, const gan_real *weight, int taps,
                      int apart, int phases, int step, gan_real *room, gan_real *y, int n);
    void (*max_line)(const gan_real *x, int step, int at, gan_real *best, gan_real *index, int n);
    void (*softmax)(const gan_real *x, gan_real *y, size_t n, int log_);
    void (*softmax_grad)(const gan_real *gy, const gan_real *y, gan_real *gx, size_t n, int log_);
    gan__body *sgd, *adam, *rmsprop; /* of a gan__job */
    void (*pairs)(size_t d, const double *a, const double *b, double *c, bool squares);
} gan__isa;

/* The section is compiled for vectors of 64, 32 and 16 bytes; GAN__LANES is how many numbers one
   holds. */
#define GAN__LANES (GAN__MAX(GAN__BYTES, 16) / GAN__SIZE)
#if GAN_MAX_VECTOR >= 64 && defined(GAN__IS_X86)
#define GAN__ISA(name) gan__##name##_avx512
#define GAN__BYTES     64
#include GAN_HEADER
#undef GAN__ISA
#undef GAN__BYTES
#endif
#if GAN_MAX_VECTOR >= 32 && defined(GAN__IS_X86)
#define GAN__ISA(name) gan__##name##_avx2
#define GAN__BYTES     32
#include GAN_HEADER
#undef GAN__ISA
#undef GAN__BYTES
#endif
#define GAN__ISA(name) gan__##name##_base
#define GAN__BYTES     (GAN_MAX_VECTOR >= 16 ? 16 : 0)
#include GAN_HEADER
#undef GAN__LANES

static const gan__isa *gan__cpu_isa(void)
{
#if GAN_MAX_VECTOR >= 64 && defined(GAN__IS_X86)
    if (__builtin_cpu_supports("avx512f"))
        return &gan__table_avx512;
#endif
#if GAN_MAX_VECTOR >= 32 && defined(GAN__IS_X86)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return &gan__table_avx2;
#endif
    return &gan__table_base;
}

/* ===========================================================================================
   >>arithmetic (implementation)
   =========================================================================================== */
GAN_API void gan_ref_fill(const gan_fill *p, gan_real *y)
{
    for (size_t i = 0; i < p->count; i++)
        y[i] = p->value;
}

static void gan__fill_body(void *job, size_t begin, size_t end, int thread)
{
    gan__job *j = (gan__job *)job;
    gan_fill p = {end - begin, ((const gan_fill *)j->p)->value};
    (void)thread;
    gan_ref_fill(&p, j->out[0] + begin);
}

GAN_API void gan_cpu_fill(const gan_fill *p, gan_real *y)
{
    gan__job job = {p, {NULL}, {y}};
    gan__parallel(p->count, 65536, gan__fill_body, &job);
}

static gan_real gan__map_one(const gan_map *p, gan_real x)
{
    switch (p->op) {
    case GAN_AFFINE: return p->a * x + p->b;
    case GAN_EXP: return GAN__F(exp, x);
    case GAN_LOG: return GAN__F(log, x);
    case GAN_SQRT: return GAN__F(sqrt, x);
    case GAN_RSQRT: return 1 / GAN__F(sqrt, x);
    case GAN_SQUARE: return x * x;
    case GAN_ABS: return GAN__F(fabs, x);
    case GAN_SIGN: return (gan_real)((x > 0) - (x < 0));
    case GAN_CLAMP: return x < p->a ? p->a : x > p->b ? p->b : x;
    case GAN_LEAKY: return x > 0 ? x : p->a * x;
    case GAN_TANH: return GAN__F(tanh, x);
    case GAN_SIGMOID: return 1 / (1 + GAN__F(exp, -x));
    case GAN_SOFTPLUS: return GAN__MAX(x, 0) + GAN__F(log1p, GAN__F(exp, -GAN__F(fabs, x)));
    default: return GAN__F(erf, x); /* GAN_ERF */
    }
}

GAN_API void gan_ref_map(const gan_map *p, const gan_real *x, gan_real *y)
{
    for (size_t i = 0; i < p->count; i++)
        y[i] = gan__map_one(p, x[i]);
}

static void gan__map_body(void *job, size_t begin, size_t end, int thread)
{
    gan__job *j = (gan__job *)job;
    (void)thread;
    gan__cpu_isa()->map((const gan_map *)j->p, j->in[0] + begin, j->out[0] + begin, end - begin);
}

GAN_API void gan_cpu_map(const gan_map *p, const gan_real *x, gan_real *y)
{
    gan__job job = {p, {x}, {y}};
    gan__parallel(p->count, 16384, gan__map_body, &job);
}

static gan_real gan__zip_one(const gan_zip *p, gan_real a, gan_real b)
{
    switch (p->op) {
    case GAN_MIX: return p->k * a + p->l * b;
    case GAN_MUL: return a * b;
    case GAN_DIV: return a / b;
    case GAN_GATE: return b > 0 ? a : p->k * a;
    case GAN_INSIDE: return b >= p->k && b <= p->l ? a : 0;
    case GAN_DTANH: return a * (1 - b * b);
    case GAN_DSIGMOID: return a * b * (1 - b);
    default: return (gan_real)(a == b); /* GAN_EQUAL */
    }
}

GAN_API void gan_ref_zip(const gan_zip *p, const gan_real *a, const gan_real *b, gan_real *y)
{
    for (int n = 0; n < p->n; n++)
        for (int c = 0; c < p->c; c++)
            for (int h = 0; h < p->h; h++)
                for (int w = 0; w < p->w; w++)
                    *y++ = gan__zip_one(p, a[n * p->a[0] + c * p->a[1] + h * p->a[2] + w * p->a[3]],
                                        b[n * p->b[0] + c * p->b[1] + h * p->b[2] + w * p->b[3]]);
}

/* A tour of two arrays whose neighbours along four dimensions lie a and b apart. part and
   stretch are the sum's. */
typedef struct {
    int dims, size[4];
    ptrdiff_t a[4], b[4];
    const void *p;
    const gan_real *in[2];
    gan_real *y;
    double *part;
    size_t stretch;
} gan__strided_loop;

/* Joins neighbouring dimensions that both operands walk through evenly, so that the last is as
   long as can be: dims are left. */
static gan__strided_loop gan__strided_loop_of(int n, int c, int h, int w, const ptrdiff_t a[4],
                                              const ptrdiff_t b[4], const void *p, gan_real *y)
{
    gan__strided_loop j = {0, {n, c, h, w}, {1}, {1}, p, {NULL}, y, NULL, 0};
    for (int i = 0; i < 4; i++) {
        if (j.size[i] == 1)
            continue;
        if (j.dims && j.a[j.dims - 1] == a[i] * j.size[i] && j.b[j.dims - 1] == b[i] * j.size[i])
            j.size[j.dims - 1] *= j.size[i];
        else
            j.size[j.dims++] = j.size[i];
        j.a[j.dims - 1] = a[i];
        j.b[j.dims - 1] = b[i];
    }
    j.dims = GAN__MAX(j.dims, 1);
    return j;
}

/* Where a line of the last dimension starts in both. */
static void gan__strided_loop_offsets(const gan__strided_loop *j, size_t line, ptrdiff_t *a,
                                      ptrdiff_t *b)
{
    *a = *b = 0;
    for (int d = j->dims - 2; d >= 0; d--) {
        ptrdiff_t place = (ptrdiff_t)(line % j->size[d]);
        *a += place * j->a[d];
        *b += place * j->b[d];
        line /= j->size[d];
    }
}

/* y's numbers begin .. end: the stretches of it that lie in one line of the last dimension. */
static void gan__zip_body(void *job, size_t begin, size_t end, int thread)
{
    const gan__strided_loop *j = (const gan__strided_loop *)job;
    const gan_zip *p = (const gan_zip *)j->p;
    const size_t length = (size_t)j->size[j->dims - 1];
    const ptrdiff_t step_a = j->a[j->dims - 1];
    const ptrdiff_t step_b = j->b[j->dims - 1];
    (void)thread;
    for (size_t n; begin < end; begin += n) {
        ptrdiff_t from_a, from_b, at = (ptrdiff_t)(begin % length);
        gan__strided_loop_offsets(j, begin / length, &from_a, &from_b);
        const gan_real *a = j->in[0] + from_a + at * step_a;
        const gan_real *b = j->in[1] + from_b + at * step_b;
        n = GAN__MIN(end - begin, length - (size_t)at);
        if (step_a <= 1 && step_b <= 1)
            gan__cpu_isa()->zip(p, a, (int)step_a, b, (int)step_b, j->y + begin, n);
        else
            for (ptrdiff_t i = 0; i < (ptrdiff_t)n; i++)
                j->y[begin + (size_t)i] = gan__zip_one(p, a[i * step_a], b[i * step_b]);
    }
}

GAN_API void gan_cpu_zip(const gan_zip *p, const gan_real *a, const gan_real *b, gan_real *y)
{
    gan__strided_loop job = gan__strided_loop_of(GAN__SHAPE(p), p->a, p->b, p, y);
    job.in[0] = a;
    job.in[1] = b;
    gan__parallel(gan__size(GAN__SHAPE(p)), 16384, gan__zip_body, &job);
}

/* ---- tensors: y = op(x), derivative gy * op'(x), itself made of these functions */

static gan__vjp gan__map_vjp, gan__zip_vjp;
static const struct gan__op gan__map_ops[] = {/* in the order of GAN_AFFINE ... */
                                              {"gan_mul_scalar or gan_add_scalar", gan__map_vjp,
                                               false},
                                              {"gan_exp", gan__map_vjp, true},
                                              {"gan_log", gan__map_vjp, false},
                                              {"gan_sqrt", gan__map_vjp, true},
                                              {"gan_rsqrt", gan__map_vjp, true},
                                              {"gan_square", gan__map_vjp, false},
                                              {"gan_abs", gan__map_vjp, false},
                                              {"the sign", gan__map_vjp, false},
                                              {"gan_clamp", gan__map_vjp, false},
                                              {"gan_leaky_relu", gan__map_vjp, true},
                                              {"gan_tanh", gan__map_vjp, true},
                                              {"gan_sigmoid", gan__map_vjp, true},
                                              {"gan_softplus", gan__map_vjp, false},
                                              {"erf", gan__map_vjp, false}};
static const struct gan__op gan__zip_ops[] = {/* in the order of GAN_MIX ... */
                                              {"gan_add or gan_sub", gan__zip_vjp, false},
                                              {"gan_mul", gan__zip_vjp, false},
                                              {"gan_div", gan__zip_vjp, true},
                                              {"leaky_relu's derivative", gan__zip_vjp, false},
                                              {"clamp's derivative", gan__zip_vjp, false},
                                              {"tanh's derivative", gan__zip_vjp, false},
                                              {"sigmoid's derivative", gan__zip_vjp, false},
                                              {"gan_one_hot", gan__zip_vjp, false}};

/* The result goes to into's memory where into is given. */
static gan_tensor *gan__map_into(gan_tensor *into, int op, gan_tensor *x, gan_real a, gan_real b)
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

static gan_tensor *gan__map(const char *function, int op, gan_tensor *x, gan_real a, gan_real b)
{
    gan__valid(x, function);
    return gan__map_into(NULL, op, x, a, b);
}

/* Strides of t seen as (N,C,H,W): 0 along what is repeated. */
static void gan__strides(const gan_tensor *t, ptrdiff_t stride[4])
{
    stride[3] = t->w > 1;
    stride[2] = t->h > 1 ? t->w : 0;
    stride[1] = t->c > 1 ? (ptrdiff_t)t->h * t->w : 0;
    stride[0] = t->n > 1 ? (ptrdiff_t)t->c * t->h * t->w : 0;
}

static int gan__join(int a, int b)
{
    return a == b || b == 1 ? a : a == 1 ? b : 0;
}

/* into: whose memory the result takes, or NULL. Both have the result's shape, or into is none. */
static gan_tensor *gan__zip_into(gan_tensor *into, const char *function, int op, gan_tensor *a,
                                 gan_tensor *b, gan_real k, gan_real l)
{
    gan__valid_pair(a, b, function);
    gan *g = a->g;
    gan_zip p = {op,
                 gan__join(a->n, b->n),
                 gan__join(a->c, b->c),
                 gan__join(a->h, b->h),
                 gan__join(a->w, b->w),
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

static gan_tensor *gan__zip(const char *function, int op, gan_tensor *a, gan_tensor *b, gan_real k,
                            gan_real l)
{
    return gan__zip_into(NULL, function, op, a, b, k, l);
}

/* gy's own memory for the derivative, where nobody else needs gy's numbers: half the memory of a
   backward pass. */
static gan_tensor *gan__reuse(gan_tensor *gy)
{
    return gy->g->reclaiming && gy->buffer->references == 1
             ? gy
             : NULL; /* one: the slot that holds gy */
}

static gan_tensor *gan__map_vjp(gan_tensor *y, gan_tensor *gy, int i)
{
    gan_tensor *x = y->in[i];
    const gan_real a = y->real[0], b = y->real[1];
    switch (y->attr[0]) {
    case GAN_AFFINE: return a == 1 ? gy : gan_mul_scalar(gy, a);
    case GAN_EXP: return gan_mul(gy, y);
    case GAN_LOG: return gan_div(gy, x);
    case GAN_SQRT: return gan_div(gan_mul_scalar(gy, (gan_real)0.5), y);
    case GAN_RSQRT:
        return gan_mul(gan_mul_scalar(gy, (gan_real)-0.5),
                       gan_mul(y, gan_square(y))); /* -x^-3/2 / 2 */
    case GAN_SQUARE: return gan_mul(gan_mul_scalar(gy, 2), x);
    case GAN_ABS: return gan_mul(gy, gan__map("gan_abs", GAN_SIGN, x, 0, 0));
    case GAN_CLAMP: return gan__zip("gan_clamp", GAN_INSIDE, gy, x, a, b);
    case GAN_LEAKY:
        return gan__zip_into(gan__reuse(gy), "gan_leaky_relu", GAN_GATE, gy, a >= 0 ? y : x, a,
                             0); /* y > 0 where x > 0 */
    case GAN_TANH: return gan__zip_into(gan__reuse(gy), "gan_tanh", GAN_DTANH, gy, y, 0, 0);
    case GAN_SIGMOID: return gan__zip("gan_sigmoid", GAN_DSIGMOID, gy, y, 0, 0);
    case GAN_SOFTPLUS: return gan_mul(gy, gan_sigmoid(x));
    case GAN_ERF:
        return gan_mul(gan_mul_scalar(gy, (gan_real)1.12837916709551257390),
                       gan_exp(gan_neg(gan_square(x)))); /* 2/sqrt(pi) */
    default: return NULL;                                /* GAN_SIGN is flat */
    }
}

/* The gradient of a broadcast operand: summed over what was repeated. */
static gan_tensor *gan__unbroadcast(gan_tensor *gradient, const gan_tensor *operand)
{
    return gan_sum_to(gradient, GAN__SHAPE(operand));
}

static gan_tensor *gan__zip_vjp(gan_tensor *y, gan_tensor *gy, int i)
{
    gan_tensor *a = y->in[0], *b = y->in[1];
    const gan_real k = y->real[0], l = y->real[1];
    gan_real factor = i == 0 ? k : l;
    switch (y->attr[0]) {
    case GAN_MIX:
        return factor == 1 ? gan__unbroadcast(gy, y->in[i])
                           : gan_mul_scalar(gan__unbroadcast(gy, y->in[i]), factor);
    case GAN_MUL: return gan__unbroadcast(gan_mul(gy, y->in[1 - i]), y->in[i]);
    case GAN_DIV:
        return i == 0 ? gan__unbroadcast(gan_div(gy, b), a)
                      : gan__unbroadcast(gan_neg(gan_div(gan_mul(gy, y), b)), b);
    case GAN_GATE: return i == 0 ? gan__zip("gan_leaky_relu", GAN_GATE, gy, b, k, 0) : NULL;
    case GAN_INSIDE: return i == 0 ? gan__zip("gan_clamp", GAN_INSIDE, gy, b, k, l) : NULL;
    case GAN_DTANH: /* a (1 - b^2) */
        return i == 0 ? gan__zip("gan_tanh", GAN_DTANH, gy, b, 0, 0)
                      : gan_mul_scalar(gan_mul(gy, gan_mul(a, b)), -2);
    case GAN_DSIGMOID: /* a (b - b^2) */
        return i == 0 ? gan__zip("gan_sigmoid", GAN_DSIGMOID, gy, b, 0, 0)
                      : gan_mul(gan_mul(gy, a), gan_add_scalar(gan_mul_scalar(b, -2), 1));
    default: return NULL; /* GAN_EQUAL is flat */
    }
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
    x->stale = 1;
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
GAN_API void gan_ref_sum(const gan_sums *p, const gan_real *x, gan_real *y)
{
    const int *in = p->in, *out = p->out;
    for (int n = 0; n < out[0]; n++)
        for (int c = 0; c < out[1]; c++)
            for (int h = 0; h < out[2]; h++)
                for (int w = 0; w < out[3]; w++) {
                    double total = 0;
                    for (int i = n; i < in[0];
                         i += out[0]) /* one place where out is in's size, all where out is 1 */
                        for (int j = c; j < in[1]; j += out[1])
                            for (int k = h; k < in[2]; k += out[2])
                                for (int l = w; l < in[3]; l += out[3])
                                    total += x[(((size_t)i * in[1] + j) * in[2] + k) * in[3] + l];
                    *y++ = (gan_real)total;
                }
}

/* b is y's stride, 0 along what is summed. Sum of everything that goes into one y: at is where
   its first number lies. The last dimension is summed in one go. */
static double gan__sum_at(const gan__strided_loop *j, const gan_real *at, int dim)
{
    double total = 0;
    while (dim < j->dims - 1 && j->b[dim] != 0)
        dim++;
    if (dim == j->dims - 1)
        return j->b[dim] ? *at : gan__cpu_isa()->sum(at, 1, 0, (size_t)j->size[dim]);
    for (int i = 0; i < j->size[dim]; i++)
        total += gan__sum_at(j, at + i * j->a[dim], dim + 1);
    return total;
}

/* Each y on its own: the last dimension is one of those summed. */
static void gan__sum_body(void *job, size_t begin, size_t end, int thread)
{
    const gan__strided_loop *j = (const gan__strided_loop *)job;
    (void)thread;
    for (size_t i = begin; i < end; i++) {
        size_t rest = i;
        const gan_real *at = j->in[0];
        for (int d = j->dims - 1; d >= 0; d--)
            if (j->b[d]) {
                at += (ptrdiff_t)(rest % j->size[d]) * j->a[d];
                rest /= (size_t)j->size[d];
            }
        j->y[i] = (gan_real)gan__sum_at(j, at, 0);
    }
}

/* Everything into one number: stretches of fixed length on their own, then their sum. */
static void gan__sum_part_body(void *job, size_t begin, size_t end, int thread)
{
    const gan__strided_loop *j = (const gan__strided_loop *)job;
    (void)thread;
    j->part[begin / j->stretch] = gan__cpu_isa()->sum(j->in[0] + begin, 1, 0, end - begin);
}

/* (R,K) or (K1,R,K): rows added to rows, a stretch of y's columns at a time. */
static void gan__sum_rows_body(void *job, size_t begin, size_t end, int thread)
{
    const gan__strided_loop *j = (const gan__strided_loop *)job;
    size_t columns = (size_t)j->size[j->dims - 1];
    size_t rows = (size_t)j->size[j->dims - 2];
    (void)thread;
    for (size_t n; begin < end; begin += n) {
        size_t outer = begin / columns, column = begin % columns;
        n = GAN__MIN(end - begin, columns - column);
        gan__cpu_isa()->add_rows(j->in[0] + outer * rows * columns + column, rows,
                                 (ptrdiff_t)columns, j->y + begin, n);
    }
}

GAN_API void gan_cpu_sum(const gan_sums *p, const gan_real *x, gan_real *y)
{
    double part[256], total = 0;
    size_t outputs = 1, count = 1;
    ptrdiff_t a[4], b[4];
    for (int d = 3; d >= 0; d--) {
        a[d] = (ptrdiff_t)count;
        b[d] = p->out[d] == p->in[d] ? (ptrdiff_t)outputs : 0;
        count *= (size_t)p->in[d];
        outputs *= (size_t)p->out[d];
    }
    gan__strided_loop job = gan__strided_loop_of(p->in[0], p->in[1], p->in[2], p->in[3], a, b, NULL,
                                                 y);
    const bool rows = job.dims >= 2 && job.dims <= 3 && job.b[job.dims - 1] != 0 &&
                      job.b[job.dims - 2] == 0; /* the last is kept */
    job.in[0] = x;
    job.part = part;
    if (outputs == 1) {
        job.stretch = GAN__MAX((size_t)16384, (count / 256 + 1024) & ~(size_t)1023);
        gan__parallel(count, job.stretch, gan__sum_part_body, &job);
        for (size_t i = 0; i * job.stretch < count; i++)
            total += part[i];
        *y = (gan_real)total;
    } else if (rows)
        gan__parallel(outputs, 1024, gan__sum_rows_body, &job);
    else
        gan__parallel(outputs, GAN__MAX((size_t)1, 16384 * outputs / count), gan__sum_body, &job);
}

/* ---- tensors: summing and repeating are each other's adjoints */

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

/* y (n,c,h,w) from x with x's strides: gaps in neither. */
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
    int from[4] = {GAN__SHAPE(x)}, to[4] = {n, c, h, w};
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

GAN_API void gan_ref_softmax(const gan_lines *p, const gan_real *x, gan_real *y)
{
    for (size_t line = 0; line < p->outer * p->inner; line++) {
        size_t start = line / p->inner * p->count * p->inner + line % p->inner;
        double most = -HUGE_VAL, total = 0;
        for (size_t i = 0; i < p->count; i++)
            most = GAN__MAX(most, (double)x[start + i * p->inner]);
        for (size_t i = 0; i < p->count; i++)
            total += exp(x[start + i * p->inner] - most);
        for (size_t i = 0; i < p->count; i++) {
            double z = x[start + i * p->inner] - most;
            y[start + i * p->inner] = (gan_real)(p->log_ ? z - log(total) : exp(z) / total);
        }
    }
}

GAN_API void gan_ref_softmax_grad(const gan_lines *p, const gan_real *gy, const gan_real *y,
                                  gan_real *gx)
{
    for (size_t line = 0; line < p->outer * p->inner; line++) {
        size_t start = line / p->inner * p->count * p->inner + line % p->inner;
        double total = 0;
        for (size_t i = start; i < start + p->count * p->inner; i += p->inner)
            total += (double)gy[i] * (p->log_ ? 1 : y[i]);
        for (size_t i = start; i < start + p->count * p->inner; i += p->inner)
            gx[i] = (gan_real)(p->log_ ? gy[i] - exp(y[i]) * total : y[i] * (gy[i] - total));
    }
}

/* Lines whose numbers do not lie side by side are copied to where they do: the job's second
   output. */
static void gan__lines_body(void *argument, size_t begin, size_t end, int thread)
{
    const gan__job *job = (const gan__job *)argument;
    const gan_lines *p = (const gan_lines *)job->p;
    const size_t count = p->count, inner = p->inner;
    for (size_t line = begin; line < end; line++) {
        size_t start = line / inner * count * inner + line % inner;
        const gan_real *in[2] = {job->in[0] + start, job->in[1] ? job->in[1] + start : NULL};
        gan_real *room = job->out[1] + (size_t)thread * 3 * count;
        gan_real *out = inner == 1 ? job->out[0] + start : room + 2 * count;
        for (int k = 0; k < 2 && inner > 1 && in[k]; in[k++] = room, room += count)
            for (size_t i = 0; i < count; i++)
                room[i] = in[k][i * inner];
        if (in[1])
            gan__cpu_isa()->softmax_grad(in[0], in[1], out, count, p->log_);
        else
            gan__cpu_isa()->softmax(in[0], out, count, p->log_);
        for (size_t i = 0; i < count && inner > 1; i++)
            job->out[0][start + i * inner] = out[i];
    }
}

static void gan__lines(const gan_lines *p, const gan_real *a, const gan_real *b, gan_real *y)
{
    gan__job job = {
        p,
        {a, b},
        {y, (gan_real *)gan__workspace(0, 3 * p->count * (size_t)gan__threads() * sizeof *y)}};
    gan__parallel(p->outer * p->inner, 8192 / p->count + 1, gan__lines_body, &job);
}

GAN_API void gan_cpu_softmax(const gan_lines *p, const gan_real *x, gan_real *y)
{
    gan__lines(p, x, NULL, y);
}

GAN_API void gan_cpu_softmax_grad(const gan_lines *p, const gan_real *gy, const gan_real *y,
                                  gan_real *gx)
{
    gan__lines(p, gy, y, gx);
}

/* The fused derivative, or plain functions where it is to be differentiated again. */
static gan_tensor *gan__softmax_vjp(gan_tensor *y, gan_tensor *gy, int i)
{
    int size[4] = {GAN__SHAPE(y)};
    (void)i;
    if (!y->g->recording) {
        gan_tensor *into = gan__reuse(gy);
        gan_tensor *gx = gan__tensor(y->g, into ? into->buffer : NULL, GAN__SHAPE(y));
        gan__run_2(y->g, GAN__K_softmax_grad, &y->sizes.softmax, gy->data, y->data, gx->data);
        return gx;
    }
    size[y->attr[0]] = 1;
    gan_tensor *total = gan_sum_to(y->sizes.softmax.log_ ? gy : gan_mul(gy, y), size[0], size[1],
                                   size[2], size[3]);
    return y->sizes.softmax.log_ ? gan_sub(gy, gan_mul(gan_exp(y), total))
                                 : gan_mul(y, gan_sub(gy, total));
}

static const struct gan__op gan__op_softmax = {"gan_softmax", gan__softmax_vjp, true};

/* OUTER, INNER: how many numbers lie before and after dim. */
static gan_lines gan__lines_of(const char *function, const gan_tensor *x, int dim)
{
    int size[4] = {GAN__SHAPE(x)};
    gan_lines p = {1, 1, 1, 0};
    if (dim < 0 || dim > 3)
        gan__fail(gan__valid(x, function), function, "dimension %d: it is 0 to 3", dim);
    p.count = (size_t)size[dim];
    for (int d = 0; d < dim; d++)
        p.outer *= (size_t)size[d];
    for (int d = dim + 1; d < 4; d++)
        p.inner *= (size_t)size[d];
    return p;
}

static gan_tensor *gan__softmax(const char *function, gan_tensor *x, int dim, int log_)
{
    gan *g = gan__valid(x, function);
    gan_lines p = gan__lines_of(function, x, dim);
    gan_tensor *y = gan__tensor(g, NULL, GAN__SHAPE(x));
    p.log_ = log_;
    gan__run_1(g, GAN__K_softmax, &p, x->data, y->data);
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
   =========================================================================================== */
GAN_API void gan_ref_copy(const gan_copy *p, const gan_real *x, gan_real *y)
{
    for (int n = 0; n < p->n; n++)
        for (int c = 0; c < p->c; c++)
            for (int h = 0; h < p->h; h++)
                for (int w = 0; w < p->w; w++)
                    y[p->y0 + n * p->y[0] + c * p->y[1] + h * p->y[2] + w * p->y[3]] =
                        x[p->x0 + n * p->x[0] + c * p->x[1] + h * p->x[2] + w * p->x[3]];
}

static void gan__copy_body(void *job, size_t begin, size_t end, int thread)
{
    const gan__strided_loop *j = (const gan__strided_loop *)job;
    const ptrdiff_t length = j->size[j->dims - 1];
    const ptrdiff_t step_x = j->a[j->dims - 1];
    const ptrdiff_t step_y = j->b[j->dims - 1];
    (void)thread;
    for (size_t line = begin; line < end; line++) {
        ptrdiff_t x, y;
        gan__strided_loop_offsets(j, line, &x, &y);
        const gan_real *from = j->in[0] + x;
        gan_real *to = j->y + y;
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
    gan__strided_loop job = gan__strided_loop_of(GAN__SHAPE(p), p->x, p->y, NULL, y + p->y0);
    size_t length = (size_t)job.size[job.dims - 1];
    job.in[0] = x + p->x0;
    gan__parallel(gan__size(GAN__SHAPE(p)) / length, 16384 / length + 1, gan__copy_body, &job);
}

/* ---- tensors */

static gan_tensor *gan__reshape_vjp(gan_tensor *y, gan_tensor *gy, int i)
{
    bool mine = gan__reuse(gy) != NULL;
    gan_tensor *gx = gan_reshape(gy, GAN__SHAPE(y->in[i]));
    if (mine) {
        gy->buffer->references--;
        gy->buffer = (gan__buffer *)gan__take_struct(gy->g, sizeof *gy->buffer);
    } /* gx has it alone */
    return gx;
}

static gan_tensor *gan__permute_vjp(gan_tensor *y, gan_tensor *gy, int i)
{
    int back[4];
    for (i = 0; i < 4; i++)
        back[y->attr[i]] = i;
    return gan_permute(gy, back[0], back[1], back[2], back[3]);
}

static gan__vjp gan__slice_vjp, gan__embed_vjp, gan__concat_vjp;
static const struct gan__op gan__op_reshape = {"gan_reshape", gan__reshape_vjp,
                                               true}; /* a view: in place would change x too */
static const struct gan__op gan__op_permute = {"gan_permute", gan__permute_vjp, false};
static const struct gan__op gan__op_slice = {"gan_slice", gan__slice_vjp, false};
static const struct gan__op gan__op_embed = {"gan_slice's adjoint", gan__embed_vjp, false};
static const struct gan__op gan__op_concat = {"gan_concat", gan__concat_vjp, false};

GAN_API gan_tensor *gan_reshape(gan_tensor *x, int n, int c, int h, int w)
{
    gan *g = gan__valid(x, "gan_reshape");
    int size[4] = {n, c, h, w}, unknown = -1;
    double known = 1;
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
    return gan__record(gan__tensor(g, x->buffer, size[0], size[1], size[2], size[3]),
                       &gan__op_reshape, x, NULL, NULL);
}

GAN_API gan_tensor *gan_permute(gan_tensor *x, int d0, int d1, int d2, int d3)
{
    gan *g = gan__valid(x, "gan_permute");
    int d[4] = {d0, d1, d2, d3}, size[4] = {GAN__SHAPE(x)}, seen = 0;
    ptrdiff_t from[4], stride[4];
    gan__strides(x, from);
    for (int i = 0; i < 4; i++) {
        if (d[i] < 0 || d[i] > 3)
            gan__fail(g, "gan_permute", "(%d,%d,%d,%d): dimensions are 0 to 3", d0, d1, d2, d3);
        seen |= 1 << d[i];
        stride[i] = from[d[i]];
    }
    if (seen != 15)
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

/* x's elements along a dimension lie this far apart. */
static ptrdiff_t gan__step_of(const gan_tensor *x, int dim)
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
    gan_tensor *y = gan__strided(x, size[0], size[1], size[2], size[3], stride,
                                 start * gan__step_of(x, dim));
    y->attr[0] = dim;
    y->attr[1] = start;
    return gan__record(y, &gan__op_slice, x, NULL, NULL);
}

/* Copies x into y at start along dim. */
static void gan__place(gan_tensor *x, gan_tensor *y, int dim, int start)
{
    gan_copy p = {GAN__SHAPE(x), {0}, {0}, 0, start * gan__step_of(y, dim)};
    gan__strides(x, p.x);
    gan__strides(y, p.y);
    gan__run_1(x->g, GAN__K_copy, &p, x->data, y->data);
}

/* The adjoint of slice: zeros, size long along dim, with x at start. */
static gan_tensor *gan__embed(gan_tensor *x, int dim, int start, int size)
{
    int s[4] = {GAN__SHAPE(x)};
    s[dim] = size;
    gan_tensor *y = gan__fill_with(gan__tensor(x->g, NULL, s[0], s[1], s[2], s[3]), 0);
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
    int sa[4] = {GAN__SHAPE(a)}, sb[4] = {GAN__SHAPE(b)};
    if (dim < 0 || dim > 3)
        gan__fail(g, "gan_concat", "dimension %d: it is 0 to 3", dim);
    for (int d = 0; d < 4; d++)
        if (d != dim && sa[d] != sb[d])
            gan__fail(g, "gan_concat",
                      GAN__DIMS " and " GAN__DIMS
                                " along dimension %d: the other sizes must be equal",
                      GAN__SHAPE(a), GAN__SHAPE(b), dim);
    sa[dim] += sb[dim];
    gan__check_shape(g, "gan_concat", sa[0], sa[1], sa[2], sa[3]);
    gan_tensor *y = gan__tensor(g, NULL, sa[0], sa[1], sa[2], sa[3]);
    gan__place(a, y, dim, 0);
    gan__place(b, y, dim, gan__size_of(a, dim));
    y->attr[0] = dim;
    return gan__record(y, &gan__op_concat, a, b, NULL);
}

static gan_tensor *gan__concat_vjp(gan_tensor *y, gan_tensor *gy, int i)
{
    int dim = y->attr[0], first = gan__size_of(y->in[0], dim);
    return gan_slice(gy, dim, i ? first : 0, gan__size_of(y->in[i], dim));
}

GAN_API gan_tensor *gan_concat_all(gan_tensor **parts, int count, int dim)
{
    if (!parts || count < 1)
        gan__fail(NULL, "gan_concat_all", "%d parts: 1 or more are wanted", parts ? count : 0);
    if (count == 1)
        return parts[0];
    return gan_concat(gan_concat_all(parts, count / 2, dim),
                      gan_concat_all(parts + count / 2, count - count / 2, dim), dim);
}

/* ===========================================================================================
   >>gather (implementation)
   =========================================================================================== */
GAN_API void gan_ref_gather(const gan_index *p, const gan_real *x, const gan_real *index,
                            gan_real *y)
{
    for (size_t i = 0; p->adjoint && i < p->outer * p->in * p->inner; i++)
        y[i] = 0;
    for (size_t o = 0; o < p->outer; o++)
        for (size_t i = 0; i < p->out; i++)
            for (size_t k = 0; k < p->inner; k++) {
                size_t there = (size_t)index[o * p->step_outer + i * p->step + k * p->step_inner];
                size_t far = (o * p->in + there) * p->inner + k;
                size_t near = (o * p->out + i) * p->inner + k;
                if (p->adjoint)
                    y[far] += x[near];
                else
                    y[near] = x[far];
            }
}

/* One outer slice at a time; where there is one only, stretches of its inner numbers, so that
   each sum is made by one thread, in order. */
static void gan__gather_lines(void *argument, size_t begin, size_t end, int thread)
{
    gan__job *job = (gan__job *)argument;
    const gan_index *p = (const gan_index *)job->p;
    bool split = p->outer == 1;
    size_t inner = p->inner;
    size_t k0 = split ? begin : 0;
    size_t k1 = split ? end : inner;
    (void)thread;
    for (size_t o = split ? 0 : begin; o < (split ? 1 : end); o++) {
        const gan_real *index = job->in[1] + o * p->step_outer;
        const gan_real *x = job->in[0] + o * (p->adjoint ? p->out : p->in) * inner;
        gan_real *y = job->out[0] + o * (p->adjoint ? p->in : p->out) * inner;
        for (size_t i = 0; p->adjoint && i < p->in; i++)
            memset(y + i * inner + k0, 0, (k1 - k0) * sizeof *y);
        if (inner == 1) {
            if (p->adjoint)
                for (size_t i = 0; i < p->out; i++)
                    y[(int)index[i * p->step]] += x[i];
            else
                for (size_t i = 0; i < p->out; i++)
                    y[i] = x[(int)index[i * p->step]];
            continue;
        }
        for (size_t i = 0; i < p->out; i++, index += p->step)
            if (p->step_inner)
                for (size_t k = k0; k < k1; k++) {
                    size_t there = (size_t)(int)index[k * p->step_inner] * inner + k;
                    if (p->adjoint)
                        y[there] += x[i * inner + k];
                    else
                        y[i * inner + k] = x[there];
                }
            else if (p->adjoint)
                gan__cpu_isa()->add_scaled(x + i * inner + k0, 1,
                                           y + (size_t)(int)*index * inner + k0, k1 - k0, true);
            else
                memcpy(y + i * inner + k0, x + (size_t)(int)*index * inner + k0,
                       (k1 - k0) * sizeof *y);
    }
}

GAN_API void gan_cpu_gather(const gan_index *p, const gan_real *x, const gan_real *index,
                            gan_real *y)
{
    gan__job job = {p, {x, index}, {y}};
    if (p->outer == 1)
        gan__parallel(p->inner, 32768 / (p->out + p->in) + 16, gan__gather_lines, &job);
    else
        gan__parallel(p->outer, 16384 / ((p->out + p->in) * p->inner) + 1, gan__gather_lines, &job);
}

/* ---- tensors */

static gan__vjp gan__gather_vjp;
static const struct gan__op gan__op_gather = {"gan_gather", gan__gather_vjp, false};

/* forward: x along dim by index; adjoint: x added up to size along dim. */
static gan_tensor *gan__gather(const char *function, gan_tensor *x, int dim, gan_tensor *index,
                               int size, int adjoint)
{
    gan__valid_pair(x, index, function);
    int shape[4] = {GAN__SHAPE(x)}, given[4] = {GAN__SHAPE(index)};
    gan_lines q = gan__lines_of(function, x, dim);
    bool list = index->n == (int)gan_count(index),
         full = true; /* a list of slices, or an index for each number */
    for (int d = 0; d < 4; d++)
        full = full && (given[d] == shape[d] || (d == dim && !adjoint));
    if (!(full || (list && (!adjoint || index->n == shape[dim]))))
        gan__fail(x->g, function,
                  "input " GAN__DIMS ", dimension %d, index " GAN__DIMS
                  ": the index is (K,1,1,1), or as the input%s",
                  GAN__SHAPE(x), dim, GAN__SHAPE(index),
                  adjoint ? "" : " but along that dimension");
    if (adjoint && size < 1)
        gan__fail(x->g, function, "size %d: it is 1 or more", size);
    list = list && !(full && q.inner == 1 && q.outer == 1);
    gan_index p = {q.outer,
                   adjoint ? (size_t)size : q.count,
                   (size_t)(list ? index->n : given[dim]),
                   q.inner,
                   0,
                   1,
                   0,
                   adjoint};
    if (!list) {
        p.step_outer = p.out * q.inner;
        p.step = q.inner;
        p.step_inner = 1;
    }
    shape[dim] = adjoint ? size : (int)p.out;
    if (!x->g->backend->alloc && !x->g->plan)
        for (size_t i = 0; i < gan_count(index); i++)
            if (!(index->data[i] >= 0 && index->data[i] < (gan_real)p.in))
                gan__fail(x->g, function,
                          "index %g at place %.0f: there are %.0f along dimension %d",
                          (double)index->data[i], (double)i, (double)p.in, dim);
    gan_tensor *y = gan__tensor(x->g, NULL, shape[0], shape[1], shape[2], shape[3]);
    gan__run_2(x->g, GAN__K_gather, &p, x->data, index->data, y->data);
    y->sizes.gather = p;
    y->attr[0] = dim;
    return gan__record(y, &gan__op_gather, x, index, NULL);
}

static gan_tensor *gan__gather_vjp(gan_tensor *y, gan_tensor *gy, int i)
{
    return i ? NULL
             : gan__gather("gan_gather", gy, y->attr[0], y->in[1],
                           gan__size_of(y->in[0], y->attr[0]), !y->sizes.gather.adjoint);
}

GAN_API gan_tensor *gan_gather(gan_tensor *x, int dim, gan_tensor *index)
{
    return gan__gather("gan_gather", x, dim, index, 0, 0);
}

GAN_API gan_tensor *gan_scatter_add(gan_tensor *x, int dim, gan_tensor *index, int size)
{
    return gan__gather("gan_scatter_add", x, dim, index, size, 1);
}

/* 0, 1 .. count-1 along C */
static gan_tensor *gan__counting(gan *g, int count)
{
    gan_real *numbers = (gan_real *)gan__workspace(0, (size_t)count * sizeof *numbers);
    for (int i = 0; i < count; i++)
        numbers[i] = (gan_real)i;
    return gan__constant(g, numbers, 1, count, 1, 1);
}

GAN_API gan_tensor *gan_one_hot(gan_tensor *labels, int classes)
{
    gan *g = gan__valid(labels, "gan_one_hot");
    if (labels->c != 1 || classes < 1)
        gan__fail(g, "gan_one_hot",
                  "labels " GAN__DIMS
                  " and %d classes: labels (N,1,H,W) and 1 class or more are wanted",
                  GAN__SHAPE(labels), classes);
    return gan__zip("gan_one_hot", GAN_EQUAL, labels, gan__counting(g, classes), 0, 0);
}

/* ===========================================================================================
   >>matmul (implementation)
   =========================================================================================== */
GAN_API void gan_ref_matmul(const gan_product *p, const gan_real *a, const gan_real *b, gan_real *y)
{
    for (int n = 0; n < p->n; n++)
        for (int c = 0; c < p->c; c++)
            for (int i = 0; i < p->m; i++)
                for (int j = 0; j < p->w; j++) {
                    const gan_real *an = a + n * p->a_n + c * p->a_c;
                    const gan_real *bn = b + n * p->b_n + c * p->b_c;
                    double total = 0;
                    for (int k = 0; k < p->k; k++)
                        total += (double)(p->transpose_a ? an[(size_t)k * p->m + i]
                                                         : an[(size_t)i * p->k + k]) *
                                 (p->transpose_b ? bn[(size_t)j * p->k + k]
                                                 : bn[(size_t)k * p->w + j]);
                    *y++ = (gan_real)total;
                }
}

/* The core of every product and convolution: C (M,N) = A (M,K) B (K,N), Goto's way (Goto and van
   de Geijn 2008). A block of C is computed from panels of A and B that are packed into the order
   in which the micro-kernel reads them, DEPTH terms at a time. Only the packing knows what the
   matrices are. Where an element lies is a number written in two digits and a rest: */
typedef struct {
    int d0, d1;
    ptrdiff_t s0, s1, s2;
} gan__index_map; /* i -> (i % d0)*s0 + (i / d0 % d1)*s1 + (i / d0 / d1)*s2 */

typedef struct {
    int m, n, k;
    const gan_real *left;
    ptrdiff_t left_row;
    gan__index_map left_k;    /* A[i][k] = left[i*left_row + walk of k] */
    gan__matrix_source right; /* B */
    gan_real *out;
    ptrdiff_t out_row;
    gan__index_map out_column; /* C[i][j] = out[i*out_row + walk of j] */
} gan__gemm;

enum { GAN__DEPTH = 256, GAN__BLOCK_ROWS = 512, GAN__BLOCK_COLUMNS = 768 };

static gan__index_map gan__stride_map(ptrdiff_t stride)
{
    gan__index_map walk = {INT32_MAX, INT32_MAX, stride, 0, 0};
    return walk;
}

static void gan__index_map_offsets(const gan__index_map *walk, int first, int count,
                                   ptrdiff_t *offset)
{
    for (int i = first, line = i / walk->d0; i < first + count; line++) {
        ptrdiff_t start = line % walk->d1 * walk->s1 + line / walk->d1 * walk->s2;
        for (int digit = i % walk->d0; digit < walk->d0 && i < first + count; digit++, i++)
            *offset++ = start + digit * walk->s0;
    }
}

typedef struct {
    gan__gemm p;
    const gan__isa *isa;
    int block_rows, block_columns, across;
    gan_real *workspace;
    size_t each;
} gan__gemm_job;

/* One block of C: every panel of B against every panel of A, tile by tile, then the tiles to
   their places. */
static void gan__gemm_block(void *argument, size_t block, size_t end, int thread)
{
    const gan__gemm_job *job = (const gan__gemm_job *)argument;
    const gan__gemm *p = &job->p;
    const gan__isa *isa = job->isa;
    int row = (int)(block / job->across) * job->block_rows;
    int column = (int)(block % job->across) * job->block_columns;
    int rows = GAN__MIN(job->block_rows, p->m - row);
    int columns = GAN__MIN(job->block_columns, p->n - column);
    int tile_size = isa->rows * isa->columns;
    gan_real *left = job->workspace + (size_t)thread * job->each;
    gan_real *right = left + (size_t)job->block_rows * GAN__DEPTH;
    gan_real *tiles = right + (size_t)isa->columns * GAN__DEPTH;
    (void)end; /* block + 1: the grain is 1 */
    ptrdiff_t k_offset[GAN__DEPTH], column_offset[GAN__BLOCK_COLUMNS];
    gan__index_map_offsets(&p->out_column, column, columns, column_offset);
    for (int k = 0; k < p->k || k == 0; k += GAN__DEPTH) {
        int depth = GAN__MIN(GAN__DEPTH, p->k - k), used = 0;
        bool last = k + depth >= p->k, only = last && k == 0;
        gan__index_map_offsets(&p->left_k, k, depth, k_offset);
        for (int i = 0; i < rows; i += isa->rows)
            isa->pack_left(p->left + (row + i) * p->left_row, p->left_row, k_offset,
                           GAN__MIN(isa->rows, rows - i), depth, left + (size_t)i * depth);
        for (int j = 0; j < columns; j += isa->columns) {
            int width = GAN__MIN(isa->columns, columns - j);
            isa->pack_right(&p->right, column + j, width, k, depth, right);
            for (int i = 0; i < rows; i += isa->rows, used++) {
                gan_real *tile = tiles + (only ? 0 : (size_t)used * tile_size);
                isa->tile(depth, left + (size_t)i * depth, right, tile, k > 0);
                if (last)
                    isa->store(tile, GAN__MIN(isa->rows, rows - i), width,
                               p->out + (row + i) * p->out_row, p->out_row, column_offset + j);
            }
        }
    }
}

static int gan__ceil(int x, int by)
{
    return (x + by - 1) / by;
}

/* Blocks of about one size, a few for each thread: how many changes who computes an element, not
   how. */
static int gan__divide(int size, int most, int tile, int pieces)
{
    int tiles = gan__ceil(size, tile);
    return gan__ceil(tiles, GAN__MIN(gan__ceil(gan__ceil(size, most), pieces) * pieces, tiles)) *
           tile;
}

static void gan__gemm_run(const gan__gemm *p)
{
    gan__gemm_job job;
    job.p = *p;
    job.isa = gan__cpu_isa();
    int threads = gan__threads();
    int most = GAN__BLOCK_COLUMNS - GAN__BLOCK_COLUMNS % job.isa->columns;
    bool wide = gan__ceil(p->n, job.isa->columns) >=
                4 * threads; /* threads share columns, or else rows */
    job.block_rows = gan__divide(p->m, GAN__BLOCK_ROWS, job.isa->rows, wide ? 1 : threads);
    job.block_columns = gan__divide(p->n, most, job.isa->columns, wide ? threads : 1);
    job.across = gan__ceil(p->n, job.block_columns);
    job.each = (((size_t)job.block_rows + job.isa->columns) * GAN__DEPTH +
                (size_t)job.block_rows * job.block_columns + 15) &
               ~(size_t)15;
    job.workspace = (gan_real *)gan__workspace(0, job.each * (size_t)threads * sizeof(gan_real));
    gan__parallel((size_t)job.across * gan__ceil(p->m, job.block_rows), 1, gan__gemm_block, &job);
}

GAN_API void gan_cpu_matmul(const gan_product *p, const gan_real *a, const gan_real *b, gan_real *y)
{
    const gan__window none = {NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    int ta = p->transpose_a, tb = p->transpose_b;
    for (int n = 0; n < p->n; n++)
        for (int c = 0; c < p->c; c++) {
            gan__gemm job = {
                p->m,
                p->w,
                p->k,
                a + n * p->a_n + c * p->a_c,
                ta ? 1 : p->k,
                gan__stride_map(ta ? p->m : 1),
                {GAN__PLAIN, b + n * p->b_n + c * p->b_c, tb ? 1 : p->w, tb ? p->k : 1, none},
                y + ((size_t)n * p->c + c) * p->m * p->w,
                p->w,
                gan__stride_map(1)};
            gan__gemm_run(&job);
        }
}

/* ---- tensors. With Y = op(A) op(B):  dA = dY op(B)^T and dB = op(A)^T dY, transposed back
   where A or B was */

static gan_tensor *gan__matmul_vjp(gan_tensor *y, gan_tensor *gy, int i)
{
    gan_tensor *a = y->in[0], *b = y->in[1];
    bool ta = y->attr[0] != 0, tb = y->attr[1] != 0;
    if (i == 0)
        return gan__unbroadcast(
            ta ? gan_matmul_t(b, gy, tb, true) : gan_matmul_t(gy, b, false, !tb), a);
    return gan__unbroadcast(tb ? gan_matmul_t(gy, a, true, ta) : gan_matmul_t(a, gy, !ta, false),
                            b);
}
static const struct gan__op gan__op_matmul = {"gan_matmul", gan__matmul_vjp, false};

GAN_API gan_tensor *gan_matmul_t(gan_tensor *a, gan_tensor *b, bool transpose_a, bool transpose_b)
{
    gan__valid_pair(a, b, "gan_matmul");
    int k = transpose_b ? b->w : b->h;
    ptrdiff_t as[4], bs[4];
    gan__strides(a, as);
    gan__strides(b, bs);
    gan_product p = {gan__join(a->n, b->n),
                     gan__join(a->c, b->c),
                     transpose_a ? a->w : a->h,
                     transpose_a ? a->h : a->w,
                     transpose_b ? b->h : b->w,
                     transpose_a,
                     transpose_b,
                     as[0],
                     as[1],
                     bs[0],
                     bs[1]};
    if (!p.n || !p.c || p.k != k)
        gan__fail(a->g, "gan_matmul",
                  GAN__DIMS "%s times " GAN__DIMS
                            "%s: %d columns meet %d rows, and batches must be equal or 1",
                  GAN__SHAPE(a), transpose_a ? " transposed" : "", GAN__SHAPE(b),
                  transpose_b ? " transposed" : "", p.k, k);
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

/* y + bias, in y's memory: products do not need their results again. */
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
/* Sizes that all loops below share. */
typedef struct {
    int s, d, groups, c, o, oh, ow;
} gan__conv_sizes; /* stride, dilation; c, o: channels in a group */

static gan__conv_sizes gan__conv_of(const gan_conv *p)
{
    int stride = GAN__MAX(p->stride, 1);
    int dilation = GAN__MAX(p->dilation, 1);
    int groups = GAN__MAX(p->groups, 1);
    gan__conv_sizes q = {stride,           dilation,          groups,
                         p->c / groups,    p->out_c / groups, gan_conv_out_h(p),
                         gan_conv_out_w(p)};
    return q;
}

GAN_API void gan_ref_conv2d(const gan_conv *p, const gan_real *x, const gan_real *w, gan_real *y)
{
    gan__conv_sizes q = gan__conv_of(p);
    for (int n = 0; n < p->n; n++)
        for (int o = 0; o < p->out_c; o++)
            for (int i = 0; i < q.oh; i++)
                for (int j = 0; j < q.ow; j++) {
                    double total = 0;
                    for (int c = 0; c < q.c; c++)
                        for (int u = 0; u < p->kernel_h; u++)
                            for (int v = 0; v < p->kernel_w; v++) {
                                int row = i * q.s + u * q.d - p->pad;
                                int column = j * q.s + v * q.d - p->pad;
                                int channel = o / q.o * q.c + c;
                                if (row < 0 || row >= p->h || column < 0 || column >= p->w)
                                    continue;
                                total +=
                                    (double)x[(((size_t)n * p->c + channel) * p->h + row) * p->w +
                                              column] *
                                    w[(((size_t)o * q.c + c) * p->kernel_h + u) * p->kernel_w + v];
                            }
                    *y++ = (gan_real)total;
                }
}

GAN_API void gan_ref_conv_transpose2d(const gan_conv *p, const gan_real *y, const gan_real *w,
                                      gan_real *x)
{
    gan__conv_sizes q = gan__conv_of(p);
    for (int n = 0; n < p->n; n++)
        for (int c = 0; c < p->c; c++)
            for (int row = 0; row < p->h; row++)
                for (int column = 0; column < p->w; column++) {
                    double total = 0;
                    for (int k = 0; k < q.o; k++)
                        for (int u = 0; u < p->kernel_h; u++)
                            for (int v = 0; v < p->kernel_w; v++) {
                                int is = row + p->pad - u * q.d;
                                int js = column + p->pad - v * q.d;
                                int o = c / q.c * q.o + k; /* i*S and j*S */
                                if (is < 0 || is % q.s || is / q.s >= q.oh || js < 0 || js % q.s ||
                                    js / q.s >= q.ow)
                                    continue;
                                total += (double)y[(((size_t)n * p->out_c + o) * q.oh + is / q.s) *
                                                       q.ow +
                                                   js / q.s] *
                                         w[(((size_t)o * q.c + c % q.c) * p->kernel_h + u) *
                                               p->kernel_w +
                                           v];
                            }
                    *x++ = (gan_real)total;
                }
}

GAN_API void gan_ref_conv2d_weight(const gan_conv *p, const gan_real *x, const gan_real *y,
                                   gan_real *w)
{
    gan__conv_sizes q = gan__conv_of(p);
    for (int o = 0; o < p->out_c; o++)
        for (int c = 0; c < q.c; c++)
            for (int u = 0; u < p->kernel_h; u++)
                for (int v = 0; v < p->kernel_w; v++) {
                    double total = 0;
                    for (int n = 0; n < p->n; n++)
                        for (int i = 0; i < q.oh; i++)
                            for (int j = 0; j < q.ow; j++) {
                                int row = i * q.s + u * q.d - p->pad;
                                int column = j * q.s + v * q.d - p->pad;
                                int channel = o / q.o * q.c + c;
                                if (row < 0 || row >= p->h || column < 0 || column >= p->w)
                                    continue;
                                total += (double)
                                             x[(((size_t)n * p->c + channel) * p->h + row) * p->w +
                                               column] *
                                         y[(((size_t)n * p->out_c + o) * q.oh + i) * q.ow + j];
                            }
                    *w++ = (gan_real)total;
                }
}

/* As products: y (O, N*OH*OW) = w (O, C*KH*KW) times the windows of x, and the weight's gradient
   = y times the windows, transposed. */
static void gan__cpu_conv(const gan_conv *p, bool weight, const gan_real *x, const gan_real *left,
                          gan_real *out)
{
    gan__conv_sizes q = gan__conv_of(p);
    ptrdiff_t plane = (ptrdiff_t)p->h * p->w;
    ptrdiff_t place = (ptrdiff_t)q.oh * q.ow;
    int count = (int)(p->n * place);
    int taps = q.c * p->kernel_h * p->kernel_w;
    const gan_real *end = x + p->n * p->c * plane;
    gan__index_map line = gan__stride_map(1);
    gan__index_map images = {(int)place, INT32_MAX, 1, p->out_c * place, 0};
    for (int group = 0; group < q.groups; group++) {
        gan__window window = {x,    end,         p->c * plane, p->h,    p->w,    q.s, q.oh,
                              q.ow, p->kernel_h, p->kernel_w,  -p->pad, -p->pad, q.d};
        gan__gemm product = {q.o, count, taps,  left, taps, line, {GAN__WINDOW, NULL, 0, 0, window},
                             out, place, images};
        gan__gemm gradient = {
            q.o, taps, count, left, place, images, {GAN__WINDOW_T, NULL, 0, 0, window},
            out, taps, line};
        gan__gemm_run(weight ? &gradient : &product);
        x += q.c * plane;
        left += q.o * (weight ? place : taps);
        out += q.o * (weight ? taps : place);
    }
}

GAN_API void gan_cpu_conv2d(const gan_conv *p, const gan_real *x, const gan_real *w, gan_real *y)
{
    gan__cpu_conv(p, false, x, w, y);
}

GAN_API void gan_cpu_conv2d_weight(const gan_conv *p, const gan_real *x, const gan_real *y,
                                   gan_real *w)
{
    gan__cpu_conv(p, true, x, y, w);
}

/* The adjoint, one phase (a, b) at a time: the pixels (i*S + a, j*S + b) of x all meet the same
   taps u = u0, u0 + S, ... of the kernel, so that each phase is an ordinary convolution of y
   with step 1, and nothing is added twice. */
static void gan__cpu_phase(const gan_conv *p, const gan__conv_sizes *q, int group, int a, int b,
                           const gan_real *y, const gan_real *w, gan_real *x)
{
    ptrdiff_t plane = (ptrdiff_t)p->h * p->w;
    ptrdiff_t place = (ptrdiff_t)q->oh * q->ow;
    ptrdiff_t taps = (ptrdiff_t)p->kernel_h * p->kernel_w;
    int rows = (p->h - a + q->s - 1) / q->s;
    int cols = (p->w - b + q->s - 1) / q->s;
    int u0 = (a + p->pad) % q->s;
    int v0 = (b + p->pad) % q->s;
    int tu = u0 < p->kernel_h ? (p->kernel_h - u0 + q->s - 1) / q->s : 0;
    int tv = v0 < p->kernel_w ? (p->kernel_w - v0 + q->s - 1) / q->s : 0;
    gan__window window = {y + group * q->o * place,
                          y + p->n * p->out_c * place,
                          p->out_c * place,
                          q->oh,
                          q->ow,
                          1,
                          rows,
                          cols,
                          tu,
                          tv,
                          (a + p->pad - u0) / q->s,
                          (b + p->pad - v0) / q->s,
                          -1};
    gan__index_map k = {GAN__MAX(tv, 1), GAN__MAX(tu, 1), q->s, (ptrdiff_t)q->s * p->kernel_w,
                        q->c * taps};
    gan__index_map columns = {cols, rows, q->s, (ptrdiff_t)q->s * p->w, p->c * plane};
    gan__gemm job = {q->c,
                     p->n * rows * cols,
                     q->o * tu * tv,
                     w + group * q->o * q->c * taps + u0 * p->kernel_w + v0,
                     taps,
                     k,
                     {GAN__WINDOW, NULL, 0, 0, window},
                     x + group * q->c * plane + (ptrdiff_t)a * p->w + b,
                     plane,
                     columns};
    gan__gemm_run(&job);
}

/* x with few channels would leave most rows of a tile empty, and dilated taps fit no phase. Then
   one product makes what each y gives to each tap, parts (C*KH*KW, N*OH*OW), and every image of
   x gathers its own, in a fixed order; a few images at a time, so that parts stay in the cache. */
typedef struct {
    const gan_conv *p;
    gan__conv_sizes q;
    const gan_real *parts;
    gan_real *x;
    int images;
} gan__gather_job;

static void gan__gather_image(void *argument, size_t n, size_t end, int thread)
{
    const gan__gather_job *job = (const gan__gather_job *)argument;
    const gan_conv *p = job->p;
    const gan__conv_sizes *q = &job->q;
    size_t plane = (size_t)p->h * p->w;
    size_t place = (size_t)q->oh * q->ow;
    gan_real *x = job->x + n * p->c * plane;
    (void)end;
    (void)thread;
    memset(x, 0, q->c * plane * sizeof *x);
    for (int tap = 0; tap < q->c * p->kernel_h * p->kernel_w; tap++) {
        int v = tap % p->kernel_w * q->d - p->pad;
        int u = tap / p->kernel_w % p->kernel_h * q->d - p->pad;
        int c = tap / p->kernel_w / p->kernel_h;
        int j0 = GAN__MAX(0, (q->s - 1 - v) / q->s);
        int j1 = GAN__MIN(q->ow, v < p->w ? (p->w - 1 - v) / q->s + 1 : 0);
        for (int i = 0; i < q->oh; i++) {
            int row = i * q->s + u;
            const gan_real *part = job->parts + ((size_t)tap * job->images + n) * place +
                                   (size_t)i * q->ow;
            if (row < 0 || row >= p->h)
                continue;
            gan_real *to = x + c * plane + (ptrdiff_t)row * p->w + v;
            for (int j = j0; j < j1; j++)
                to[j * q->s] += part[j];
        }
    }
}

static void gan__conv_transpose_scatter(const gan_conv *p, const gan__conv_sizes *q, int group,
                                        const gan_real *y, const gan_real *w, gan_real *x)
{
    ptrdiff_t plane = (ptrdiff_t)p->h * p->w;
    ptrdiff_t place = (ptrdiff_t)q->oh * q->ow;
    ptrdiff_t taps = (ptrdiff_t)q->c * p->kernel_h * p->kernel_w;
    int images = (int)GAN__MIN(p->n, 8192 / place + 1);
    gan_real *parts = (gan_real *)gan__workspace(1,
                                                 (size_t)(taps * images * place) * sizeof *parts);
    for (int n = 0; n < p->n; n += images) {
        int some = GAN__MIN(images, p->n - n);
        const gan_real *from = y + (n * p->out_c + group * q->o) * place;
        gan__gather_job gather = {p, *q, parts, x + (n * p->c + group * q->c) * plane, some};
        gan__window window = {from,
                              y + p->n * p->out_c * place,
                              p->out_c * place,
                              1,
                              (int)place,
                              1,
                              1,
                              (int)place,
                              1,
                              1,
                              0,
                              0,
                              1};
        gan__gemm job = {(int)taps,
                         (int)(some * place),
                         q->o,
                         w + group * q->o * taps,
                         1,
                         gan__stride_map(taps),
                         {GAN__WINDOW, NULL, 0, 0, window},
                         parts,
                         some * place,
                         gan__stride_map(1)};
        gan__gemm_run(&job);
        gan__parallel((size_t)some, 1, gan__gather_image, &gather);
    }
}

GAN_API void gan_cpu_conv_transpose2d(const gan_conv *p, const gan_real *y, const gan_real *w,
                                      gan_real *x)
{
    gan__conv_sizes q = gan__conv_of(p);
    for (int group = 0; group < q.groups; group++) {
        bool few = q.c < 32 && (double)q.o * p->h * p->w >
                                   4.0 * q.c * q.s * q.s * q.oh *
                                       q.ow; /* packing would cost more than the product */
        if (q.c < 4 || q.d > 1 || few)
            gan__conv_transpose_scatter(p, &q, group, y, w, x);
        else
            for (int a = 0; a < GAN__MIN(q.s, p->h); a++)
                for (int b = 0; b < GAN__MIN(q.s, p->w); b++)
                    gan__cpu_phase(p, &q, group, a, b, y, w, x);
    }
}

/* ---- tensors. The three are each other's derivatives, so that gradients of any order stay
   among them:
       y = conv2d(x, w)                dx = conv_transpose2d(dy, w)    dw = conv2d_weight(x, dy)
       x = conv_transpose2d(y, w)      dy = conv2d(dx, w)              dw = conv2d_weight(dx, y)
       w = conv2d_weight(x, y)         dx = conv_transpose2d(y, dw)    dy = conv2d(x, dw) */

enum { GAN__X, GAN__W, GAN__Y };

static gan_tensor *gan__conv_vjp(gan_tensor *t, gan_tensor *gt, int i);
static const struct gan__op gan__conv_ops[3] = {{"gan_conv_transpose2d", gan__conv_vjp, false},
                                                {"gan_conv2d_weight", gan__conv_vjp, false},
                                                {"gan_conv2d", gan__conv_vjp, false}};

/* The one of x, w and y that made says, from the two others. */
static gan_tensor *gan__conv(const gan_conv *p, int made, gan_tensor *x, gan_tensor *w,
                             gan_tensor *y)
{
    static const int kernel[3] = {GAN__K_conv_transpose2d, GAN__K_conv2d_weight, GAN__K_conv2d};
    gan_tensor *a = made == GAN__X ? y : x;
    gan_tensor *b = made == GAN__W ? y : w;
    gan_tensor *t = made == GAN__X ? gan__tensor(a->g, NULL, p->n, p->c, p->h, p->w)
                  : made == GAN__W ? gan__tensor(a->g, NULL, p->out_c, p->c / p->groups,
                                                 p->kernel_h, p->kernel_w)
                                   : gan__tensor(a->g, NULL, p->n, p->out_c, gan_conv_out_h(p),
                                                 gan_conv_out_w(p));
    gan__run_2(a->g, kernel[made], p, a->data, b->data, t->data);
    t->sizes.conv = *p;
    t->attr[0] = made;
    return gan__record(t, &gan__conv_ops[made], a, b, NULL);
}

static gan_tensor *gan__conv_vjp(gan_tensor *t, gan_tensor *gt, int i)
{
    int made = t->attr[0];
    int a = made == GAN__X ? GAN__Y : GAN__X;
    int b = made == GAN__W ? GAN__Y : GAN__W;
    gan_tensor *part[3];
    part[made] = gt;
    part[a] = t->in[0];
    part[b] = t->in[1];
    return gan__conv(&t->sizes.conv, i ? b : a, part[GAN__X], part[GAN__W], part[GAN__Y]);
}

static void gan__check_conv(const char *function, const gan_conv *p, const gan_tensor *x,
                            const gan_tensor *weight, int channels)
{
    gan *g = x->g;
    int groups = p->groups;
    if (p->stride < 1 || p->pad < 0 || p->dilation < 1)
        gan__fail(g, function,
                  "input " GAN__DIMS ", stride %d, padding %d, dilation %d: stride and dilation "
                  "are 1 or more, the padding 0 or more",
                  GAN__SHAPE(x), p->stride, p->pad, p->dilation);
    if (groups < 1 || p->c % groups || p->out_c % groups)
        gan__fail(g, function, "input " GAN__DIMS ": %d groups do not divide %d and %d channels",
                  GAN__SHAPE(x), groups, p->c, p->out_c);
    if (x->c != channels)
        gan__fail(g, function,
                  "input " GAN__DIMS " has %d channels, the weight " GAN__DIMS " wants %d",
                  GAN__SHAPE(x), x->c, GAN__SHAPE(weight), channels);
}

GAN_API gan_tensor *gan_dilated_conv2d_f(gan_tensor *x, gan_tensor *weight, gan_tensor *bias,
                                         int stride, int pad, int dilation, int groups)
{
    const char *function = dilation == 1 ? "gan_conv2d_f" : "gan_dilated_conv2d_f";
    gan__valid_pair(x, weight, function);
    gan_conv p = {GAN__SHAPE(x), weight->n, weight->h, weight->w, stride, pad, groups, dilation};
    gan__check_conv(function, &p, x, weight, weight->c * groups);
    if (dilation * (p.kernel_h - 1) >= p.h + 2 * pad ||
        dilation * (p.kernel_w - 1) >= p.w + 2 * pad)
        gan__fail(x->g, function,
                  "kernel %dx%d is larger than input " GAN__DIMS " with padding %d and dilation %d",
                  p.kernel_h, p.kernel_w, GAN__SHAPE(x), pad, dilation);
    gan__check_shape(x->g, function, p.n, p.out_c, gan_conv_out_h(&p), gan_conv_out_w(&p));
    return gan__add_bias(function, gan__conv(&p, GAN__Y, x, weight, NULL), bias);
}

GAN_API gan_tensor *gan_conv2d_f(gan_tensor *x, gan_tensor *weight, gan_tensor *bias, int stride,
                                 int pad, int groups)
{
    return gan_dilated_conv2d_f(x, weight, bias, stride, pad, 1, groups);
}

GAN_API gan_tensor *gan_conv_transpose2d_f(gan_tensor *x, gan_tensor *weight, gan_tensor *bias,
                                           int stride, int pad, int output_pad, int groups)
{
    const char *function = "gan_conv_transpose2d_f";
    gan__valid_pair(x, weight, function);
    gan_conv p = {x->n,
                  weight->c * groups,
                  (x->h - 1) * stride - 2 * pad + weight->h + output_pad,
                  (x->w - 1) * stride - 2 * pad + weight->w + output_pad,
                  x->c,
                  weight->h,
                  weight->w,
                  stride,
                  pad,
                  groups,
                  1};
    gan__check_conv(function, &p, x, weight, weight->n);
    if (output_pad < 0 || output_pad >= stride)
        gan__fail(x->g, function, "output padding %d: it is 0 or more and below the stride %d",
                  output_pad, stride);
    if (p.h < 1 || p.w < 1)
        gan__fail(x->g, function,
                  "input " GAN__DIMS
                  ", kernel %dx%d, stride %d and padding %d give an empty output",
                  GAN__SHAPE(x), p.kernel_h, p.kernel_w, stride, pad);
    gan__check_shape(x->g, function, p.n, p.c, p.h, p.w);
    return gan__add_bias(function, gan__conv(&p, GAN__X, NULL, weight, x), bias);
}

GAN_API gan_tensor *gan_conv2d_weight(gan_tensor *x, gan_tensor *gy, int kernel_h, int kernel_w,
                                      int stride, int pad, int groups)
{
    const char *function = "gan_conv2d_weight";
    gan__valid_pair(x, gy, function);
    gan_conv p = {GAN__SHAPE(x), gy->c, kernel_h, kernel_w, stride, pad, groups, 1};
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
GAN_API void gan_ref_resample(const gan_resample *p, const gan_real *x, const gan_real *rows,
                              const gan_real *columns, gan_real *y)
{
    size_t plane_x = (size_t)p->h * p->w;
    size_t plane_y = (size_t)p->out_h * p->out_w;
    for (size_t i = 0; i < (size_t)p->n * p->c * (p->adjoint ? plane_x : plane_y); i++)
        y[i] = 0;
    for (size_t plane = 0; plane < (size_t)p->n * p->c; plane++) {
        size_t image = p->images > 1 ? plane / p->c : 0;
        const gan_real *from = x + plane * (p->adjoint ? plane_y : plane_x);
        gan_real *to = y + plane * (p->adjoint ? plane_x : plane_y);
        for (int i = 0; i < p->out_h; i++)
            for (int j = 0; j < p->out_w; j++)
                for (int a = 0; a < p->taps_h; a++)
                    for (int b = 0; b < p->taps_w; b++) {
                        const gan_real *r = rows + 2 * ((image * p->out_h + i) * p->taps_h + a);
                        const gan_real *c = columns + 2 * ((image * p->out_w + j) * p->taps_w + b);
                        int near = i * p->out_w + j, far = (int)r[0] * p->w + (int)c[0];
                        if (r[0] < 0 || c[0] < 0)
                            continue;
                        if (p->adjoint)
                            to[far] += r[1] * c[1] * from[near];
                        else
                            to[near] += r[1] * c[1] * from[far];
                    }
    }
}

/* A table read for fast use: index[t*out + i] and weight[t*out + i] of every image; a tap
   outside has the index in. The adjoint's is the transpose, so that both directions only ever
   take. Between first and last every PHASES-th output repeats the pattern of the one before,
   STEP numbers further on: blurring (1,1), halving (1,2) and doubling (2,1) need no index there. */
typedef struct {
    int in, out, taps;
    int *index;
    gan_real *weight;
    int phases, step, first, last;
} gan__axis_taps;

/* Finds the longest stretch of outputs with one of the three patterns. */
static void gan__axis_pattern(gan__axis_taps *axis)
{
    static const int phases[3] = {1, 1, 2}, step[3] = {1, 2, 1};
    axis->first = axis->last = 0;
    axis->phases = axis->step = 1;
    for (int k = 0; k < 3; k++)
        for (int i = 0, begin = 0; i < axis->out; i++) {
            bool same = i >= phases[k];
            for (int t = 0; t < axis->taps && same; t++) {
                size_t at = (size_t)t * axis->out + i, before = at - phases[k];
                same = axis->weight[at] == axis->weight[before] &&
                       (axis->weight[at] == 0 ||
                        (axis->index[at] < axis->in &&
                         axis->index[at] == axis->index[before] + step[k]));
            }
            if (!same)
                begin = GAN__MAX(i - phases[k] + 1, begin);
            if (i + 1 - begin <= axis->last - axis->first || i + 1 - begin < 8 * phases[k])
                continue;
            axis->first = begin;
            axis->last = i + 1;
            axis->phases = phases[k];
            axis->step = step[k];
        }
}

static gan__axis_taps gan__axis_read(const gan_real *table, int images, int in, int out, int taps,
                                     int adjoint, int which)
{
    gan__axis_taps axis = {
        adjoint ? out : in, adjoint ? in : out, adjoint ? 1 : taps, NULL, NULL, 1, 1, 0, 0};
    int *used = (int *)gan__workspace(0, (size_t)in * sizeof(int));
    for (int pass = adjoint ? 0 : 1; pass < 2;
         pass++) { /* the adjoint first counts how many taps it needs */
        size_t each = (size_t)out * taps;
        size_t line = (size_t)axis.out * axis.taps;
        size_t room = pass ? images * line : 0;
        axis.index = (int *)gan__workspace(which, room * (sizeof(int) + sizeof(gan_real)));
        axis.weight = (gan_real *)(axis.index + (room + 1) / 2 * 2);
        for (size_t k = 0; k < room; k++) {
            axis.index[k] = axis.in;
            axis.weight[k] = 0;
        }
        for (size_t k = 0; k < images * each; k++) { /* k: image, i, tap */
            if (k % each == 0)
                memset(used, 0, (size_t)in * sizeof(int));
            if (table[2 * k] < 0)
                continue;
            int there = (int)table[2 * k];
            int i = (int)(k / taps % out);
            int place = adjoint ? used[there]++ : (int)(k % taps);
            size_t at = k / each * line + (size_t)place * axis.out + (adjoint ? there : i);
            if (pass) {
                axis.index[at] = adjoint ? i : there;
                axis.weight[at] = table[2 * k + 1];
            } else
                axis.taps = GAN__MAX(axis.taps, place + 1);
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
    gan_real *y, *line;
    size_t line_size;
} gan__resample_job;

/* Each line of y: its rows of x mixed into one line, numbers of which are then mixed by the
   columns' table. */
static void gan__resample_body(void *argument, size_t begin, size_t end, int thread)
{
    const gan__resample_job *job = (const gan__resample_job *)argument;
    const gan__axis_taps *r = &job->rows, *c = &job->columns;
    const gan__isa *isa = gan__cpu_isa();
    gan_real *line = job->line + (size_t)thread * job->line_size;
    int stretch = (c->last - c->first) / c->phases * c->phases;
    int rest = c->out - c->first - stretch;
    for (size_t at = begin; at < end; at++) {
        size_t plane = at / r->out;
        size_t i = at % r->out;
        size_t image = job->images > 1 ? plane / job->c : 0;
        const gan_real *x = job->x + plane * r->in * c->in;
        bool any = false;
        for (int t = 0; t < r->taps; t++) {
            size_t tap = (image * r->taps + t) * r->out + i;
            if (r->index[tap] == r->in)
                continue;
            isa->add_scaled(x + (size_t)r->index[tap] * c->in, r->weight[tap], line, (size_t)c->in,
                            any);
            any = true;
        }
        if (!any)
            memset(line, 0, (size_t)c->in * sizeof *line);
        line[c->in] = 0;
        const int *index = c->index + image * c->taps * c->out;
        const gan_real *weight = c->weight + image * c->taps * c->out;
        gan_real *y = job->y + at * c->out;
        if (c->first)
            isa->take(line, index, weight, c->taps, c->out, y, c->first);
        if (stretch)
            isa->take_even(line, c->in, index + c->first, weight + c->first, c->taps, c->out,
                           c->phases, c->step, line + c->in + 16, y + c->first,
                           stretch / c->phases);
        if (rest)
            isa->take(line, index + c->out - rest, weight + c->out - rest, c->taps, c->out,
                      y + c->out - rest, rest);
    }
}

GAN_API void gan_cpu_resample(const gan_resample *p, const gan_real *x, const gan_real *rows,
                              const gan_real *columns, gan_real *y)
{
    gan__resample_job job = {
        p->images,
        p->c,
        gan__axis_read(rows, p->images, p->h, p->out_h, p->taps_h, p->adjoint, 1),
        gan__axis_read(columns, p->images, p->w, p->out_w, p->taps_w, p->adjoint, 2),
        x,
        y,
        NULL,
        0};
    job.line_size = (size_t)2 * job.columns.in + job.columns.out + 64;
    job.line = (gan_real *)gan__workspace(0, (size_t)gan__threads() * job.line_size * sizeof *y);
    gan__parallel((size_t)p->n * p->c * job.rows.out, (size_t)(16384 / job.columns.out + 1),
                  gan__resample_body, &job);
}

GAN_API void gan_ref_max_index(const gan_pool *p, const gan_real *x, gan_real *y)
{
    for (int plane = 0; plane < p->planes; plane++, x += (size_t)p->h * p->w)
        for (int i = 0; i < p->out_h; i++)
            for (int j = 0; j < p->out_w; j++) {
                int best = -1;
                for (int u = 0; u < p->kernel_h; u++)
                    for (int v = 0; v < p->kernel_w; v++) {
                        int row = i * p->stride + u - p->pad;
                        int column = j * p->stride + v - p->pad;
                        int at = row * p->w + column;
                        if (row < 0 || row >= p->h || column < 0 || column >= p->w)
                            continue;
                        if (best < 0 || x[at] > x[best] || x[at] != x[at])
                            best = at;
                    }
                *y++ = (gan_real)best;
            }
}

/* A line of windows at a time: each place of the window, in order, against the best so far of
   all the line's windows it lies in. */
static void gan__max_index_body(void *argument, size_t begin, size_t end, int thread)
{
    gan__job *job = (gan__job *)argument;
    const gan_pool *p = (const gan_pool *)job->p;
    const gan__isa *isa = gan__cpu_isa();
    gan_real *best = job->out[1] + (size_t)thread * p->out_w;
    for (size_t line = begin; line < end; line++) {
        int i = (int)(line % p->out_h), s = p->stride;
        const gan_real *x = job->in[0] + line / p->out_h * p->h * p->w;
        gan_real *y = job->out[0] + line * p->out_w;
        for (int j = 0; j < p->out_w; j++)
            y[j] = -1;
        for (int u = GAN__MAX(0, p->pad - i * s); u < p->kernel_h && i * s + u - p->pad < p->h; u++)
            for (int v = 0; v < p->kernel_w; v++) {
                int left = v - p->pad;
                int j0 = left < 0 ? (s - 1 - left) / s : 0;
                int j1 = left >= p->w ? 0 : GAN__MIN(p->out_w, (p->w - 1 - left) / s + 1);
                int at = (i * s + u - p->pad) * p->w + j0 * s + left;
                if (j0 < j1)
                    isa->max_line(x + at, s, at, best + j0, y + j0, j1 - j0);
            }
    }
}

GAN_API void gan_cpu_max_index(const gan_pool *p, const gan_real *x, gan_real *y)
{
    gan__job job = {
        p, {x}, {y, (gan_real *)gan__workspace(0, (size_t)gan__threads() * p->out_w * sizeof *y)}};
    gan__parallel((size_t)p->planes * p->out_h, (size_t)(4096 / p->out_w + 1), gan__max_index_body,
                  &job);
}

/* ---- tensors */

/* One axis of a resampling: which taps an output i has. FIR: position i*down + t - pad0 in x
   with up-1 zeros after each number. */
enum { GAN__AXIS_PAD, GAN__AXIS_RESIZE, GAN__AXIS_FIR };

typedef struct {
    int kind, in, out, taps, mode, before, up, down, count;
    const gan_real *filter;
    gan_real gain;
} gan__axis;

static double gan__axis_tap(const gan__axis *a, int i, int t, int *index)
{
    *index = i - a->before;
    if (a->kind == GAN__AXIS_PAD) {
        if (a->mode == GAN_REPLICATE)
            *index = GAN__MIN(GAN__MAX(*index, 0), a->in - 1);
        if (a->mode == GAN_REFLECT)
            *index = a->in - 1 - abs(a->in - 1 - abs(*index));
        return 1;
    }
    if (a->kind == GAN__AXIS_RESIZE) {
        *index = (int)((int64_t)i * a->in / a->out);
        if (a->mode == GAN_NEAREST)
            return 1;
        double place = a->mode == GAN_BILINEAR ? (i + 0.5) * a->in / a->out - 0.5
                     : a->out > 1              ? (double)i * (a->in - 1) / (a->out - 1)
                                               : 0;
        place = GAN__MAX(place, 0);
        *index = GAN__MIN((int)place + t, a->in - 1);
        return t ? place - floor(place) : 1 - (place - floor(place));
    }
    int first = i * a->down - a->before;
    int tap = (a->up - (first % a->up + a->up) % a->up) % a->up + t * a->up;
    *index = first + tap < 0 || tap >= a->count ? -1 : (first + tap) / a->up;
    return *index < 0 ? 0 : (double)a->gain * (double)a->filter[a->count - 1 - tap];
}

/* The table (1,OUT,TAPS,2) of an axis. */
static gan_tensor *gan__axis_table(gan *g, const gan__axis *a)
{
    gan_real *table = (gan_real *)gan__workspace(0, 2 * (size_t)a->out * a->taps * sizeof *table);
    gan_real *to = table;
    for (int i = 0; i < a->out; i++)
        for (int t = 0; t < a->taps; t++) {
            int index;
            double weight = gan__axis_tap(a, i, t, &index);
            if (index < 0 || index >= a->in || weight == 0) {
                index = -1;
                weight = 0;
            }
            *to++ = (gan_real)index;
            *to++ = (gan_real)weight;
        }
    return gan__constant(g, table, 1, a->out, a->taps, 2);
}

static gan_tensor *gan__resample_vjp(gan_tensor *y, gan_tensor *gy, int i);
static const struct gan__op gan__op_resample = {"a resampling", gan__resample_vjp, false};

static gan_tensor *gan__resample_with(const gan_resample *p, gan_tensor *x, gan_tensor *rows,
                                      gan_tensor *columns)
{
    gan_tensor *y = gan__tensor(x->g, NULL, p->n, p->c, p->adjoint ? p->h : p->out_h,
                                p->adjoint ? p->w : p->out_w);
    const gan_real *in[3] = {x->data, rows->data, columns->data};
    gan__run(x->g, GAN__K_resample, p, in, &y->data);
    y->sizes.resample = *p;
    return gan__record(y, &gan__op_resample, x, rows, columns);
}

static gan_tensor *gan__resample_vjp(gan_tensor *y, gan_tensor *gy, int i)
{
    gan_resample p = y->sizes.resample;
    p.adjoint = !p.adjoint;
    return i ? NULL : gan__resample_with(&p, gy, y->in[1], y->in[2]);
}

/* x by tables (IMAGES,OUT,TAPS,2). */
static gan_tensor *gan__resample(gan_tensor *x, gan_tensor *rows, gan_tensor *columns)
{
    gan_resample p = {GAN__SHAPE(x), rows->c, columns->c, rows->h, columns->h, rows->n, 0};
    return gan__resample_with(&p, x, rows, columns);
}

/* x as h x w numbers, on either axis as a says, but that `left` is what the columns have before. */
static gan_tensor *gan__resample_axes(const char *function, gan_tensor *x, const gan__axis *a,
                                      int h, int w, int left)
{
    gan__axis rows = *a, columns = *a;
    if (h < 1 || w < 1)
        gan__fail(x->g, function,
                  "input " GAN__DIMS " would become %d rows of %d: at least 1 of 1 is wanted",
                  GAN__SHAPE(x), h, w);
    gan__check_shape(x->g, function, x->n, x->c, h, w);
    rows.in = x->h;
    rows.out = h;
    columns.in = x->w;
    columns.out = w;
    columns.before = left;
    gan_tensor *row_table = gan__axis_table(x->g, &rows);
    return gan__resample(x, row_table, gan__axis_table(x->g, &columns));
}

GAN_API gan_tensor *gan_pad(gan_tensor *x, int mode, int top, int bottom, int left, int right)
{
    gan *g = gan__valid(x, "gan_pad");
    gan__axis axis = {GAN__AXIS_PAD, 0, 0, 1, mode, top, 1, 1, 0, NULL, 1};
    if (mode < GAN_ZEROS || mode > GAN_REPLICATE)
        gan__fail(g, "gan_pad", "mode %d: it is GAN_ZEROS, GAN_REFLECT or GAN_REPLICATE", mode);
    if (mode == GAN_REFLECT && (GAN__MAX(top, bottom) >= x->h || GAN__MAX(left, right) >= x->w))
        gan__fail(g, "gan_pad",
                  "input " GAN__DIMS ", padding %d,%d,%d,%d: reflection wants less than the size",
                  GAN__SHAPE(x), top, bottom, left, right);
    return gan__resample_axes("gan_pad", x, &axis, x->h + top + bottom, x->w + left + right, left);
}

GAN_API gan_tensor *gan_resize(gan_tensor *x, int h, int w, int mode)
{
    gan *g = gan__valid(x, "gan_resize");
    gan__axis axis = {
        GAN__AXIS_RESIZE, 0, 0, mode == GAN_NEAREST ? 1 : 2, mode, 0, 1, 1, 0, NULL, 1};
    if (mode < GAN_NEAREST || mode > GAN_ALIGNED)
        gan__fail(g, "gan_resize", "mode %d: it is GAN_NEAREST, GAN_BILINEAR or GAN_ALIGNED", mode);
    return gan__resample_axes("gan_resize", x, &axis, h, w, 0);
}

GAN_API gan_tensor *gan_upfirdn2d(gan_tensor *x, const gan_real *filter, int count, int up,
                                  int down, int pad0, int pad1, gan_real gain)
{
    gan *g = gan__valid(x, "gan_upfirdn2d");
    if (!filter || count < 1 || up < 1 || down < 1)
        gan__fail(g, "gan_upfirdn2d",
                  "input " GAN__DIMS ": %d taps, up %d, down %d: each is 1 or more", GAN__SHAPE(x),
                  filter ? count : 0, up, down);
    int h = x->h * up + pad0 + pad1 - count;
    int w = x->w * up + pad0 + pad1 - count;
    gan__axis axis = {GAN__AXIS_FIR, 0,      0,   gan__ceil(count, up), 0, pad0, up, down,
                      count,         filter, gain};
    return gan__resample_axes("gan_upfirdn2d", x, &axis, h < 0 ? 0 : h / down + 1,
                              w < 0 ? 0 : w / down + 1, pad0);
}

static void gan__check_pool(const char *function, gan_tensor *x, int kernel, int stride, int pad)
{
    gan *g = gan__valid(x, function);
    if (kernel < 0 || (kernel && (stride < 1 || pad < 0 || 2 * pad > kernel ||
                                  kernel > GAN__MIN(x->h, x->w) + 2 * pad)))
        gan__fail(g, function,
                  "input " GAN__DIMS ", kernel %d, stride %d, padding %d: the kernel fits in the "
                  "padded input, the stride is 1 or more, the padding at most "
                  "half the kernel",
                  GAN__SHAPE(x), kernel, stride, pad);
}

GAN_API gan_tensor *gan_avg_pool2d(gan_tensor *x, int kernel, int stride, int pad)
{
    gan__check_pool("gan_avg_pool2d", x, kernel, stride, pad);
    if (kernel == 0)
        return gan_mean_to(x, x->n, x->c, 1, 1);
    gan_real filter[64];
    if (kernel > 64)
        gan__fail(x->g, "gan_avg_pool2d", "kernel %d: at most 64, or 0 for the whole image",
                  kernel);
    for (int i = 0; i < kernel; i++)
        filter[i] = (gan_real)(1.0 / kernel);
    return gan_upfirdn2d(x, filter, kernel, 1, stride, pad, pad, 1);
}

GAN_API gan_tensor *gan_max_pool2d(gan_tensor *x, int kernel, int stride, int pad, bool ceil_)
{
    gan__check_pool("gan_max_pool2d", x, kernel, stride, pad);
    if (kernel == 0) {
        stride = 1;
        pad = 0;
    }
    int kernel_h = kernel ? kernel : x->h;
    int kernel_w = kernel ? kernel : x->w;
    int more = 2 * pad + (ceil_ ? stride - 1 : 0);
    int h = (x->h - kernel_h + more) / stride + 1;
    int w = (x->w - kernel_w + more) / stride + 1;
    if ((h - 1) * stride >= x->h + pad)
        h--; /* a window begins in the image or its padding above and left */
    if ((w - 1) * stride >= x->w + pad)
        w--;
    gan_pool p = {x->n * x->c, x->h, x->w, h, w, kernel_h, kernel_w, stride, pad};
    gan_tensor *index = gan__tensor(x->g, NULL, 1, x->n * x->c, 1,
                                    h * w); /* (N,1,1,1) would be a list of slices */
    gan__run_1(x->g, GAN__K_max_index, &p, x->data, index->data);
    return gan_reshape(gan_gather(gan_reshape(x, 1, x->n * x->c, 1, x->h * x->w), 3, index), x->n,
                       x->c, h, w);
}

GAN_API gan_tensor *gan_pixel_shuffle(gan_tensor *x, int r)
{
    gan *g = gan__valid(x, "gan_pixel_shuffle");
    int n = x->n, c = r > 0 ? x->c / (r * r) : 0, h = x->h, w = x->w;
    if (r < 1 || c * r * r != x->c)
        gan__fail(g, "gan_pixel_shuffle",
                  "input " GAN__DIMS ": %d channels are no multiple of %d squared", GAN__SHAPE(x),
                  x->c, r);
    gan_tensor *wide = gan_permute(gan_reshape(x, n * c * r, r, h, w), 0, 2, 3,
                                   1); /* (N*C*u, H, W, v) */
    return gan_reshape(gan_permute(gan_reshape(wide, n * c, r, h, w * r), 0, 2, 1, 3), n, c, h * r,
                       w * r);
}

/* ===========================================================================================
   >>norm (implementation)
   =========================================================================================== */
GAN_API void gan_ref_norm_stats(const gan_norm *p, const gan_real *x, gan_real *s)
{
    double count = (double)p->n * (double)p->size;
    for (int c = 0; c < p->c; c++) {
        double mean = 0, squares = 0;
        for (int n = 0; n < p->n; n++)
            for (size_t i = 0; i < p->size; i++)
                mean += x[((size_t)n * p->c + c) * p->size + i] / count;
        for (int n = 0; n < p->n; n++)
            for (size_t i = 0; i < p->size; i++) {
                double d = x[((size_t)n * p->c + c) * p->size + i] - mean;
                squares += d * d / count;
            }
        s[c] = (gan_real)mean;
        s[p->c + c] = (gan_real)squares;
    }
}

GAN_API void gan_ref_norm_apply(const gan_norm *p, const gan_real *x, const gan_real *s,
                                const gan_real *weight, const gan_real *bias, gan_real *y)
{
    for (int n = 0; n < p->n; n++)
        for (int c = 0; c < p->c; c++)
            for (size_t i = 0; i < p->size; i++, x++, y++)
                *y = (*x - s[c]) / GAN__F(sqrt, s[p->c + c] + p->eps) * weight[c] + bias[c];
}

GAN_API void gan_ref_norm_sums(const gan_norm *p, const gan_real *gy, const gan_real *x,
                               const gan_real *s, gan_real *sums)
{
    for (int c = 0; c < p->c; c++) {
        double plain = 0;
        double weighted = 0;
        double deviation = sqrt((double)s[p->c + c] + p->eps);
        for (int n = 0; n < p->n; n++)
            for (size_t i = 0; i < p->size; i++) {
                size_t at = ((size_t)n * p->c + c) * p->size + i;
                plain += gy[at];
                weighted += gy[at] * (x[at] - (double)s[c]) / deviation;
            }
        sums[c] = (gan_real)plain;
        sums[p->c + c] = (gan_real)weighted;
    }
}

GAN_API void gan_ref_norm_grad(const gan_norm *p, const gan_real *gy, const gan_real *x,
                               const gan_real *s, const gan_real *weight, const gan_real *sums,
                               gan_real *gx)
{
    double count = (double)p->n * (double)p->size;
    for (int n = 0; n < p->n; n++)
        for (int c = 0; c < p->c; c++)
            for (size_t i = 0; i < p->size; i++, gy++, x++, gx++) {
                double deviation = sqrt((double)s[p->c + c] + p->eps);
                double xhat = (*x - (double)s[c]) / deviation;
                double through = p->frozen ? 0
                                           : (sums[c] + xhat * sums[p->c + c]) /
                                                 count; /* by way of mean and variance */
                *gx = (gan_real)(weight[c] / deviation * (*gy - through));
            }
}

/* Two passes, so that a large mean does not drown a small variance; one channel's numbers stay
   in the cache for the second. */
static void gan__norm_stats_body(void *argument, size_t begin, size_t end, int thread)
{
    gan__job *job = (gan__job *)argument;
    const gan_norm *p = (const gan_norm *)job->p;
    const ptrdiff_t stride = (ptrdiff_t)(p->c * p->size);
    double count = (double)p->n * (double)p->size;
    (void)thread;
    for (size_t c = begin; c < end; c++) {
        const gan_real *x = job->in[0] + c * p->size;
        double mean = gan__cpu_isa()->sum(x, (size_t)p->n, stride, p->size) / count;
        double off = mean - (gan_real)mean;
        double squares = gan__cpu_isa()->squares(x, (size_t)p->n, stride, p->size, (gan_real)mean) /
                             count -
                         off * off;
        job->out[0][c] = (gan_real)mean;
        job->out[0][p->c + c] = (gan_real)GAN__MAX(squares, 0);
    }
}

GAN_API void gan_cpu_norm_stats(const gan_norm *p, const gan_real *x, gan_real *s)
{
    gan__job job = {p, {x}, {s}};
    gan__parallel((size_t)p->c, 4096 / (p->n * p->size) + 1, gan__norm_stats_body, &job);
}

/* (n,c) rows begin .. end: y = scale*x + shift with the channel's numbers. */
static void gan__norm_apply_body(void *argument, size_t begin, size_t end, int thread)
{
    gan__job *job = (gan__job *)argument;
    const gan_norm *p = (const gan_norm *)job->p;
    (void)thread;
    for (size_t row = begin; row < end; row++) {
        size_t c = row % p->c;
        gan_real scale = job->in[2][c] / GAN__F(sqrt, job->in[1][p->c + c] + p->eps);
        gan__cpu_isa()->scale_shift(job->in[0] + row * p->size, scale,
                                    job->in[3][c] - scale * job->in[1][c],
                                    job->out[0] + row * p->size, p->size);
    }
}

GAN_API void gan_cpu_norm_apply(const gan_norm *p, const gan_real *x, const gan_real *s,
                                const gan_real *weight, const gan_real *bias, gan_real *y)
{
    gan__job job = {p, {x, s, weight, bias}, {y}};
    gan__parallel((size_t)p->n * p->c, 16384 / p->size + 1, gan__norm_apply_body, &job);
}

static void gan__norm_sums_body(void *argument, size_t begin, size_t end, int thread)
{
    gan__job *job = (gan__job *)argument;
    const gan_norm *p = (const gan_norm *)job->p;
    (void)thread;
    for (size_t c = begin; c < end; c++) {
        double total[2];
        gan__cpu_isa()->two_sums(job->in[0] + c * p->size, job->in[1] + c * p->size, (size_t)p->n,
                                 (ptrdiff_t)(p->c * p->size), p->size, job->in[2][c], total);
        job->out[0][c] = (gan_real)total[0];
        job->out[0][p->c + c] = (gan_real)(total[1] / sqrt((double)job->in[2][p->c + c] + p->eps));
    }
}

GAN_API void gan_cpu_norm_sums(const gan_norm *p, const gan_real *gy, const gan_real *x,
                               const gan_real *s, gan_real *sums)
{
    gan__job job = {p, {gy, x, s}, {sums}};
    gan__parallel((size_t)p->c, 4096 / (p->n * p->size) + 1, gan__norm_sums_body, &job);
}

/* gx = a*gy + b*(x - mean) + c with the channel's numbers: the formula of norm_grad, multiplied
   out. */
static void gan__norm_grad_body(void *argument, size_t begin, size_t end, int thread)
{
    gan__job *job = (gan__job *)argument;
    const gan_norm *p = (const gan_norm *)job->p;
    const gan_real *s = job->in[2], *sums = job->in[4];
    (void)thread;
    for (size_t row = begin; row < end; row++) {
        size_t c = row % p->c, at = row * p->size;
        double inverse = 1 / sqrt((double)s[p->c + c] + p->eps);
        double count = (double)p->n * (double)p->size;
        double a = job->in[3][c] * inverse;
        double b = p->frozen ? 0 : -a * inverse * sums[p->c + c] / count;
        double shift = p->frozen ? 0 : -a * sums[c] / count;
        gan__cpu_isa()->blend(job->in[0] + at, job->in[1] + at, s[c], (gan_real)a, (gan_real)b,
                              (gan_real)shift, job->out[0] + at, p->size);
    }
}

GAN_API void gan_cpu_norm_grad(const gan_norm *p, const gan_real *gy, const gan_real *x,
                               const gan_real *s, const gan_real *weight, const gan_real *sums,
                               gan_real *gx)
{
    gan__job job = {p, {gy, x, s, weight, sums}, {gx}};
    gan__parallel((size_t)p->n * p->c, 16384 / p->size + 1, gan__norm_grad_body, &job);
}

/* ---- tensors. y->in = x, weight, bias; y->saved = statistics (2,C,1,1); y->attr[0] says frozen */

/* The derivative in plain tensor functions, for a derivative that is itself to be
   differentiated. */
static gan_tensor *gan__norm_vjp_plain(gan_tensor *y, gan_tensor *gy, int i)
{
    gan_tensor *x = y->in[0], *mean, *var;
    int c = x->c;
    if (y->attr[0]) {
        mean = gan_slice(y->saved, 0, 0, 1);
        var = gan_slice(y->saved, 0, 1, 1);
    } else {
        mean = gan_mean_to(x, 1, c, 1, 1);
        var = gan_mean_to(gan_square(gan_sub(x, mean)), 1, c, 1, 1);
    }
    gan_tensor *inverse = gan_rsqrt(gan_add_scalar(var, y->real[0]));
    gan_tensor *xhat = gan_mul(gan_sub(x, mean), inverse);
    if (i == 1)
        return gan_sum_to(gan_mul(gy, xhat), 1, c, 1, 1);
    gan_tensor *scale = gan_mul(y->in[1], inverse);
    if (y->attr[0])
        return gan_mul(gy, scale);
    gan_tensor *through = gan_add(gan_mean_to(gy, 1, c, 1, 1),
                                  gan_mul(xhat, gan_mean_to(gan_mul(gy, xhat), 1, c, 1, 1)));
    return gan_mul(scale, gan_sub(gy, through));
}

static gan_tensor *gan__norm_vjp(gan_tensor *y, gan_tensor *gy, int i)
{
    gan *g = y->g;
    gan_tensor *x = y->in[0];
    gan_norm p = {x->n, x->c, (size_t)x->h * x->w, y->real[0], y->attr[0]};
    if (g->recording)
        return i == 2 ? gan__unbroadcast(gy, y->in[2]) : gan__norm_vjp_plain(y, gy, i);
    gan_tensor *sums = y->memo ? y->memo : gan__tensor(g, NULL, 2, x->c, 1, 1);
    const gan_real *in[5] = {gy->data, x->data, y->saved->data, y->in[1]->data, sums->data};
    if (!y->memo) {
        gan__run(g, GAN__K_norm_sums, &p, in, &sums->data);
        y->memo = sums;
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
    y->saved = stats;
    y->attr[0] = p->frozen;
    y->real[0] = p->eps;
    return gan__record(y, &gan__op_norm, x, weight, bias);
}

/* running = (1-momentum)*running + momentum*factor*batch */
static void gan__update_running(gan_tensor *running, gan_tensor *stats, int which,
                                gan_real momentum, gan_real factor)
{
    gan_zip p = {GAN_MIX,          1, running->c, 1, 1, {0, 1, 0, 0}, {0, 1, 0, 0}, 1 - momentum,
                 momentum * factor};
    gan__run_2(running->g, GAN__K_zip, &p, running->data, stats->data + (size_t)which * running->c,
               running->data);
}

GAN_API gan_tensor *gan_batch_norm_f(gan_tensor *x, gan_tensor *weight, gan_tensor *bias,
                                     gan_tensor *running_mean, gan_tensor *running_var,
                                     bool training, gan_real momentum, gan_real eps)
{
    const char *function = "gan_batch_norm_f";
    gan *g = gan__valid(x, function);
    gan_tensor *four[4] = {weight, bias, running_mean, running_var};
    for (int i = 0; i < 4; i++) {
        gan__valid_pair(x, four[i], function);
        if (four[i]->n != 1 || four[i]->c != x->c || four[i]->h != 1 || four[i]->w != 1)
            gan__fail(g, function,
                      "input " GAN__DIMS " has %d channels, the parameter " GAN__DIMS
                      " must be (1,%d,1,1)",
                      GAN__SHAPE(x), x->c, GAN__SHAPE(four[i]), x->c);
    }
    gan_norm p = {x->n, x->c, (size_t)x->h * x->w, eps, !training};
    double count = (double)p.n * (double)p.size;
    if (training && count < 2)
        gan__fail(g, function,
                  "input " GAN__DIMS " has one number per channel: its variance says nothing; use "
                  "gan_eval or a larger batch",
                  GAN__SHAPE(x));
    gan_tensor *stats = gan__tensor(g, NULL, 2, x->c, 1, 1);
    if (training)
        gan__run_1(g, GAN__K_norm_stats, &p, x->data, stats->data);
    for (int i = 0; i < 2; i++)
        if (training)
            gan__update_running(four[2 + i], stats, i, momentum,
                                i ? (gan_real)(count / (count - 1)) : 1);
        else
            gan__place(four[2 + i], stats, 0, i);
    return gan__norm_with(&p, x, stats, weight, bias);
}

/* The numbers of x in so many groups, each with statistics of its own; weight and bias (1 or
   N,C,1,1) for N*C groups, or NULL. */
static gan_tensor *gan__norm_groups(gan_tensor *x, int groups, gan_tensor *weight, gan_tensor *bias,
                                    gan_real eps)
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

/* A norm's weight or bias: NULL, or broadcast to x's shape. */
static void gan__check_affine(const char *function, gan_tensor *x, gan_tensor *weight,
                              gan_tensor *bias, bool images, bool places)
{
    gan__valid(x, function);
    int n = images ? x->n : 1;
    int h = places ? x->h : 1;
    int w = places ? x->w : 1;
    for (int i = 0; i < 2; i++) {
        const gan_tensor *t = i ? bias : weight;
        if (!t)
            continue;
        gan__valid_pair(x, t, function);
        if ((t->n != 1 && t->n != n) || t->c != x->c || t->h != h || t->w != w)
            gan__fail(x->g, function,
                      "input " GAN__DIMS " wants weight and bias (%d,%d,%d,%d), one is " GAN__DIMS,
                      GAN__SHAPE(x), n, x->c, h, w, GAN__SHAPE(t));
    }
}

static gan_tensor *gan__affine(gan_tensor *x, gan_tensor *weight, gan_tensor *bias)
{
    if (weight)
        x = gan_mul(x, weight);
    return bias ? gan_add(x, bias) : x;
}

GAN_API gan_tensor *gan_instance_norm_f(gan_tensor *x, gan_tensor *weight, gan_tensor *bias,
                                        gan_real eps)
{
    gan__check_affine("gan_instance_norm_f", x, weight, bias, true, false);
    if (x->h * x->w == 1)
        gan__fail(x->g, "gan_instance_norm_f",
                  "input " GAN__DIMS
                  " has one number per image and channel: its variance says nothing",
                  GAN__SHAPE(x));
    return gan__norm_groups(x, x->n * x->c, weight, bias, eps);
}

GAN_API gan_tensor *gan_group_norm_f(gan_tensor *x, int groups, gan_tensor *weight,
                                     gan_tensor *bias, gan_real eps)
{
    gan__check_affine("gan_group_norm_f", x, weight, bias, false, false);
    if (groups < 1 || x->c % groups)
        gan__fail(x->g, "gan_group_norm_f",
                  "input " GAN__DIMS ": %d groups do not divide %d channels", GAN__SHAPE(x), groups,
                  x->c);
    return gan__affine(gan__norm_groups(x, x->n * groups, NULL, NULL, eps), weight, bias);
}

GAN_API gan_tensor *gan_layer_norm_f(gan_tensor *x, gan_tensor *weight, gan_tensor *bias,
                                     gan_real eps)
{
    gan__check_affine("gan_layer_norm_f", x, weight, bias, false, true);
    return gan__affine(gan__norm_groups(x, x->n, NULL, NULL, eps), weight, bias);
}

/* The kernel's variance is biased: with m numbers, var*m/(m-1) + eps = (var + eps*(m-1)/m) *
   m/(m-1). */
GAN_API gan_tensor *gan_adain(gan_tensor *x, gan_tensor *y, gan_real eps)
{
    gan__valid_pair(x, y, "gan_adain");
    double m = (double)x->h * x->w, k = (double)y->h * y->w;
    if (x->n != y->n || x->c != y->c || m < 2 || k < 2)
        gan__fail(x->g, "gan_adain",
                  GAN__DIMS " and " GAN__DIMS
                            ": the same N and C, and more than one pixel, are wanted",
                  GAN__SHAPE(x), GAN__SHAPE(y));
    gan_tensor *mean = gan_mean_to(y, y->n, y->c, 1, 1);
    gan_tensor *var = gan_mul_scalar(gan_mean_to(gan_square(gan_sub(y, mean)), y->n, y->c, 1, 1),
                                     (gan_real)(k / (k - 1)));
    gan_tensor *deviation = gan_mul_scalar(gan_sqrt(gan_add_scalar(var, eps)),
                                           (gan_real)sqrt((m - 1) / m));
    return gan_instance_norm_f(x, deviation, mean, (gan_real)(eps * (m - 1) / m));
}

GAN_API gan_tensor *gan_pixel_norm(gan_tensor *x)
{
    gan__valid(x, "gan_pixel_norm");
    return gan_mul(x, gan_rsqrt(gan_add_scalar(gan_mean_to(gan_square(x), x->n, 1, x->h, x->w),
                                               (gan_real)1e-8)));
}

GAN_API gan_tensor *gan_normalize(gan_tensor *x, int dim)
{
    gan__valid(x, "gan_normalize");
    int size[4] = {GAN__SHAPE(x)};
    gan__lines_of("gan_normalize", x, dim);
    size[dim] = 1;
    return gan_mul(
        x, gan_rsqrt(gan_add_scalar(gan_sum_to(gan_square(x), size[0], size[1], size[2], size[3]),
                                    (gan_real)1e-24)));
}

GAN_API gan_tensor *gan_minibatch_stddev(gan_tensor *x, int group)
{
    gan *g = gan__valid(x, "gan_minibatch_stddev");
    int size = GAN__MIN(group, x->n), m = size > 0 ? x->n / size : 0;
    if (size < 1 || m * size != x->n)
        gan__fail(g, "gan_minibatch_stddev",
                  "input " GAN__DIMS ": groups of %d do not divide %d images", GAN__SHAPE(x), size,
                  x->n);
    gan_tensor *y = gan_reshape(x, size, m, -1, 1);
    gan_tensor *d = gan_sub(y, gan_mean_to(y, 1, m, y->h, 1));
    gan_tensor *deviation = gan_sqrt(
        gan_add_scalar(gan_mean_to(gan_square(d), 1, m, y->h, 1), (gan_real)1e-8));
    deviation = gan_expand(gan_mean_to(deviation, 1, m, 1, 1), size, m, x->h * x->w, 1);
    return gan_concat(x, gan_reshape(deviation, x->n, 1, x->h, x->w), 1);
}

/* ===========================================================================================
   >>autograd (implementation)
   ===========================================================================================
   The tape lists tensors in the order in which they were made. A first walk, forward, marks what
   leads to a tensor that is asked for; a second, backward, turns each marked tensor's gradient
   into its inputs' by the operation's vjp (vector-Jacobian product), which is written in tensor
   functions and so can go on the tape itself. */

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

static void gan__grad_clear(gan *g, gan_tensor *t)
{
    if (t->needs_grad_in == g->differentiation && t->grad) {
        gan__release(t->grad);
        t->grad = NULL;
    }
}

/* y = x, and y = k*y + l*x */
static void gan__copy_numbers(gan *g, size_t count, const gan_real *x, gan_real *y)
{
    gan_copy p = {1, 1, 1, (int)count, {0, 0, 0, 1}, {0, 0, 0, 1}, 0, 0};
    gan__run_1(g, GAN__K_copy, &p, x, y);
}

static void gan__mix_numbers(gan *g, size_t count, gan_real k, gan_real *y, gan_real l,
                             const gan_real *x)
{
    gan_zip p = {GAN_MIX, 1, 1, 1, (int)count, {0, 0, 0, 1}, {0, 0, 0, 1}, k, l};
    gan__run_2(g, GAN__K_zip, &p, y, x, y);
}

/* The gradient that a parameter holds, or NULL. */
static gan_real *gan__gradient_of(const gan_tensor *param)
{
    return param->gradient && param->gradient->references
             ? (gan_real *)param->gradient->block.memory
             : NULL;
}

/* A parameter's gradient outlives gan_clear: it takes over the block of the first that comes,
   and further ones are added to it. */
static void gan__gradient_add(gan_tensor *param, gan_tensor *gradient)
{
    gan *g = param->g;
    if (!param->gradient)
        param->gradient = (gan__buffer *)gan__alloc_zero(sizeof *param->gradient);
    if (param->gradient->references)
        gan__mix_numbers(g, gan_count(param), 1, gan__gradient_of(param), 1, gradient->data);
    else {
        bool mine = gradient->buffer->references == 1 &&
                    gradient->tape >= 0; /* nobody else uses its numbers */
        param->gradient->references = 1;
        g->gradients++;
        param->gradient->block = mine ? gradient->buffer->block
                                      : gan__take_numbers(g, gan_count(param));
        if (mine)
            gradient->buffer->references = 0;
        else
            gan__copy_numbers(g, gan_count(param), gradient->data, gan__gradient_of(param));
    }
}

static void gan__grad_add(gan_tensor *t, gan_tensor *gradient)
{
    gan_tensor *before = t->grad;
    if (t->g->reclaiming && t->tape < 0)
        gan__gradient_add(t, gradient);
    else {
        t->grad = before ? gan_add(before, gradient) : gradient;
        t->grad->buffer->references++;
        if (before)
            gan__release(before);
    }
}

/* Fills the slots of all that is marked with g->differentiation, from y's gradient seed. Inputs
   are taken from the last, so that the first may have its gradient in the memory of y's. */
static void gan__differentiate(gan *g, gan_tensor *y, gan_tensor *seed)
{
    uint64_t now = g->differentiation;
    for (int i = 0; i <= y->tape; i++) {
        gan_tensor *t = g->tape[i];
        for (int j = 0; t->op && j < 3; j++)
            if (t->in[j] && t->in[j]->needs_grad_in == now && t->needs_grad_in != now) {
                t->needs_grad_in = now;
                t->grad = NULL;
            }
    }
    if (y->needs_grad_in != now)
        return;
    gan__grad_add(y, seed);
    for (int i = y->tape; i >= 0; i--) {
        gan_tensor *t = g->tape[i];
        if (t->needs_grad_in != now || !t->grad || !t->op)
            continue;
        for (int j = 2; j >= 0; j--) {
            int before = g->temporary_count;
            if (!t->in[j] || t->in[j]->needs_grad_in != now)
                continue;
            gan_tensor *gradient = t->op->vjp(t, t->grad, j);
            t->grad
                ->buffer
                /* gradient may be the slot itself, as an addition's is: no parameter may take
                   that over */
                ->references++;
            if (gradient)
                gan__grad_add(t->in[j], gradient);
            t->grad->buffer->references--;
            if (g->reclaiming)
                gan__release_temporaries(g, before);
        }
        if (t->memo) {
            gan__release(t->memo);
            t->memo = NULL;
        }
        if (g->reclaiming)
            gan__grad_clear(
                g, t); /* or else what is on the tape may be asked for: gan__gradients lets go */
    }
}

/* dy/dx[i] of the sum of y's elements, each into out[i]. */
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
static gan_tensor *gan__check_value(gan *g, gan_function *f, gan_tensor **in, int count, void *user,
                                    int order, gan_tensor **gradients)
{
    gan_tensor *y = f(g, in, user);
    gan_tensor *value = gan_sum(gan_mul(y, gan__check_noise(y, 0)));
    gan_tensor *total = NULL;
    if (order == 1)
        return value;
    gan__gradients(value, in, count, gradients);
    for (int i = 0; i < count; i++) {
        gan_tensor *part = gan_sum(gan_mul(gradients[i], gan__check_noise(in[i], i + 1)));
        total = total ? gan_add(total, part) : part;
    }
    return total;
}

/* d/dh of value(x + h e) at h = 0 from four points: (8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / 12h,
   exact to h^4. */
static double gan__check_numeric(gan *g, gan_function *f, gan_tensor **in, int count, void *user,
                                 int order, gan_tensor **gradients, int which, gan_real *host,
                                 size_t element)
{
    static const double place[4] = {1, -1, 2, -2};
    static const double weight[4] = {8, -8, -1, 1};
    gan_real x = host[element];
    double h = (sizeof(gan_real) == 8 ? 1e-4 : 2e-2) * GAN__MAX(1, fabs((double)x));
    double total = 0;
    for (int i = 0; i < 4; i++) {
        gan_mark mark = gan_here(g);
        host[element] = (gan_real)(x + place[i] * h);
        gan_set(in[which], host);
        total += weight[i] *
                 (double)gan_item(gan__check_value(g, f, in, count, user, order, gradients));
        gan_clear_to(g, mark);
    }
    host[element] = x;
    gan_set(in[which], host);
    return total / (12 * h);
}

static double gan__check(gan *g, gan_function *f, gan_tensor **in, int count, void *user, int order)
{
    const char *function = order == 1 ? "gan_gradcheck" : "gan_gradgradcheck";
    double largest = 0, worst = -1;
    gan_mark mark = gan_here(g);
    size_t size = 0;
    if (count < 1)
        gan__fail(g, function, "%d inputs: 1 or more are wanted", count);
    for (int i = 0; i < count; i++) {
        gan__valid(in[i], function);
        size += gan_count(in[i]);
    }
    gan_tensor **gradients = (gan_tensor **)gan__alloc(sizeof *gradients * (size_t)count);
    gan_real *memory = (gan_real *)gan__alloc(2 * size * sizeof(gan_real));
    gan_real *analytic = memory;
    gan_real *host = memory + size;
    gan_tensor *value = gan__check_value(g, f, in, count, user, order, gradients);
    g->recording = false; /* as in gan_backward: fused derivatives are what is checked */
    gan__gradients(value, in, count, gradients);
    g->recording = true;
    for (int i = 0; i < count; analytic += gan_count(in[i++]))
        gan_to_host(gradients[i], analytic);
    for (size_t e = 0; e < size; e++)
        largest = GAN__MAX(largest, fabs((double)memory[e]));
    gan_clear_to(g, mark);
    analytic = memory;
    for (int i = 0; i < count; analytic += gan_count(in[i++])) {
        gan_to_host(in[i], host);
        for (size_t e = 0; e < gan_count(in[i]); e++) {
            double a = analytic[e];
            double d = gan__check_numeric(g, f, in, count, user, order, gradients, i, host, e);
            double scale = GAN__MAX(GAN__MAX(fabs(a), fabs(d)), 0.01 * largest);
            double error = a == d ? 0 : fabs(a - d) / scale;
            if (!(error <= DBL_MAX))
                error = INFINITY;
            if (error <= worst)
                continue;
            worst = error;
            int at = (int)e, hw = in[i]->h * in[i]->w;
            gan__refuse("%s: worst at input %d, element %d (%d,%d,%d,%d): analytic %.9g, numeric "
                        "%.9g, relative error %.3g",
                        function, i, at, at / (in[i]->c * hw), at / hw % in[i]->c,
                        at % hw / in[i]->w, at % in[i]->w, a, d, error);
        }
    }
    if (order == 1 && largest == 0 && worst <= 0) {
        gan__refuse("%s: every derivative is zero: nothing was tested", function);
        worst = INFINITY;
    }
    GAN_FREE(memory);
    GAN_FREE(gradients);
    return worst;
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
typedef struct {
    char *name;
    gan_tensor *value;
    bool trainable;
    /* dimensions in a file: PyTorch keeps a bias (C), a linear weight (OUT,IN), layer norm's
       (C,H,W) */
    int rank;
    double bound; /* GAN_INIT_DEFAULT: uniform in +-bound, or constant if that is 0 */
    gan_real constant;
    double gradient, change,
        /* the doctor's: lengths of gradient and update in this look, its own when first seen */
        size;
    int look;
} gan__param;

typedef struct {
    char *kind, *name;
    int n, c, h, w;
    size_t params;
} gan__layer;

enum { GAN__TRAIN, GAN__EVAL, GAN__FREEZE };

struct gan_model {
    gan *g;
    char *name;
    gan_opt *opts;
    gan_model *next;
    int mode;            /* GAN__TRAIN .. */
    int weights, init;   /* GAN_PLAIN_WEIGHTS ..; gan_init_model's, for layers to come */
    gan_real rate, gain; /* GAN_EQUALIZED's, and of init */
    gan__param *params;
    int count;
    gan__layer *layers;
    int layer_count; /* in the order of first use, for gan_summary */
};

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
    gan_model **last = &g->models;
    model->g = g;
    model->name = gan__copy_string(name);
    model->rate = 1;
    while (*last)
        last = &(*last)->next;
    *last = model;
    return model;
}

GAN_API void gan_train(gan_model *model)
{
    model->mode = GAN__TRAIN;
}

GAN_API void gan_eval(gan_model *model)
{
    model->mode = GAN__EVAL;
}

GAN_API void gan_freeze(gan_model *model)
{
    model->mode = GAN__FREEZE;
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
    gan__param *param = gan__find(model, name);
    return param ? param->value : NULL;
}

GAN_API const char *gan_param_name(const gan_model *model, int i)
{
    if (!model)
        gan__fail(NULL, "gan_param_name", "the model is NULL");
    return i >= 0 && i < model->count ? model->params[i].name : NULL;
}

/* A new parameter; its numbers are not set. Running statistics are kept and saved, but not
   trained. NULL if there is no memory; then model is as before. */
static gan__param *gan__try_param_new(gan_model *model, const char *name, int rank, int n, int c,
                                      int h, int w)
{
    gan__check_shape(model->g, "gan_param", n, c, h, w);
    gan__param *params = (gan__param *)gan__try_grow(model->params, (size_t)model->count,
                                                     sizeof *params);
    if (!params)
        return NULL;
    model->params = params;
    char *copy = (char *)gan__try_alloc(strlen(name) + 1);
    gan_tensor *value = copy ? gan__persistent_tensor(model->g, n, c, h, w) : NULL;
    if (!value) {
        GAN_FREE(copy);
        return NULL;
    }
    gan__param *param = &model->params[model->count++];
    memset(param, 0, sizeof *param);
    param->name = strcpy(copy, name);
    param->rank = rank;
    param->trainable = !strstr(name, "running_") && !strstr(name, ".weight_u") &&
                       !strstr(name, ".weight_v");
    param->bound = rank > 1 ? 1 / sqrt((double)c * h * w) : 0;
    param->constant = strstr(name, "weight") || strstr(name, "running_var") ? 1 : 0;
    param->value = value;
    return param;
}

static gan__param *gan__param_new(gan_model *model, const char *name, int rank, int n, int c, int h,
                                  int w)
{
    gan__param *param = gan__try_param_new(model, name, rank, n, c, h, w);
    if (!param)
        gan__out_of_memory(model->g, model->g->backend, (double)n * c * h * w * sizeof(gan_real));
    return param;
}

/* A stream of its own for each name (FNV-1a, Fowler, Noll and Vo): a parameter starts the same
   whatever is made before it. */
static uint64_t gan__stream_of(const char *model, const char *name)
{
    uint64_t hash = 14695981039346656037u;
    for (int part = 0; part < 2; part++)
        for (const char *s = part ? name : model; *s; s++)
            hash = (hash ^ (unsigned char)*s) * 1099511628211u;
    return hash | (uint64_t)1 << 63;
}

/* t as (N, C*H*W): what each column (row, if they are fewer) has along those before is taken
   off, the rest made as long as gain: Gram and Schmidt's Q with a positive diagonal in R, as
   PyTorch's. In double its errors lie below float's rounding. */
static void gan__orthogonalise(gan_tensor *t, double gain)
{
    size_t rows = (size_t)t->n;
    size_t columns = gan_count(t) / rows;
    size_t count = GAN__MIN(rows, columns);
    size_t length = GAN__MAX(rows, columns);
    size_t i_step = rows < columns ? columns : 1;
    size_t j_step = rows < columns ? 1 : columns;
    gan_real *host = (gan_real *)gan__ensure_buffer(t->g, &gan__ref, &t->g->staging[0],
                                                    &t->g->staging_size[0], count * length);
    double *vectors = (double *)gan__alloc(count * length * sizeof *vectors);
    gan_to_host(t, host);
    for (size_t i = 0; i < count; i++) {
        double *v = vectors + i * length, square = 0;
        for (size_t j = 0; j < length; j++)
            v[j] = (double)host[i * i_step + j * j_step];
        for (double *u = vectors; u < v; u += length) {
            double along = 0;
            for (size_t j = 0; j < length; j++)
                along += u[j] * v[j];
            for (size_t j = 0; j < length; j++)
                v[j] -= along * u[j];
        }
        for (size_t j = 0; j < length; j++)
            square += v[j] * v[j];
        for (size_t j = 0; j < length; j++) {
            v[j] /= sqrt(square);
            host[i * i_step + j * j_step] = (gan_real)(gain * v[j]);
        }
    }
    gan_set(t, host);
    GAN_FREE(vectors);
}

/* mean: of NORMAL. The numbers come from the parameter's own stream, whatever was drawn before. */
static void gan__init_param(gan_model *model, gan__param *param, int kind, double gain, double mean)
{
    gan_tensor *t = param->value;
    double in = (double)t->c * t->h * t->w;
    double out = (double)t->n * t->h * t->w;
    if (kind < 0 || kind > GAN_INIT_ORTHOGONAL || !(gain >= 0) ||
        (kind > GAN_INIT_NORMAL && param->rank < 2))
        gan__fail(model->g, "gan_init",
                  "\"%s\" " GAN__DIMS ", kind %d, gain %g: a kind is GAN_INIT_..., from XAVIER on "
                  "of two dimensions, a gain 0 or more",
                  param->name, GAN__SHAPE(t), kind, gain);
    bool uniform = kind == GAN_INIT_DEFAULT || kind == GAN_INIT_XAVIER_UNIFORM ||
                   kind == GAN_INIT_KAIMING_UNIFORM;
    double fan = kind == GAN_INIT_NORMAL                                           ? 1
               : kind == GAN_INIT_XAVIER_UNIFORM || kind == GAN_INIT_XAVIER_NORMAL ? (in + out) / 2
                                                                                   : in;
    double scale = kind == GAN_INIT_ORTHOGONAL ? 1
                 : kind == GAN_INIT_DEFAULT    ? param->bound
                                               : gain * sqrt((uniform ? 3 : 1) / fan);
    if (scale < 0) {
        uniform = false;
        scale = -scale;
    }
    gan_random p = {!uniform,
                    gan_count(t),
                    model->g->seed,
                    gan__stream_of(model->name, param->name),
                    0,
                    (gan_real)(uniform ? 2 * scale : scale),
                    (gan_real)(uniform ? -scale : mean)};
    if (kind == GAN_INIT_DEFAULT && scale == 0)
        gan__fill_with(t, param->constant);
    else
        gan__run_1(model->g, GAN__K_random, &p, NULL, t->data);
    if (kind == GAN_INIT_ORTHOGONAL)
        gan__orthogonalise(t, gain);
}

/* As gan_init_model has said. */
static void gan__init_by_rule(gan_model *model, gan__param *param)
{
    const char *dot = strrchr(param->name, '.');
    const char *last = dot ? dot : "";
    bool random = param->bound > 0;
    bool scales = param->constant == 1 && model->init == GAN_INIT_NORMAL;
    if (strcmp(last, ".weight") == 0 && (random || scales))
        gan__init_param(model, param, model->init, model->gain, random ? 0 : 1);
    else if (strcmp(last, ".bias") == 0 && random && model->init != GAN_INIT_DEFAULT)
        gan__fill_with(param->value, 0);
    else
        gan__init_param(model, param, GAN_INIT_DEFAULT, 0, 0);
}

GAN_API void gan_init(gan_tensor *param, int kind, gan_real gain)
{
    gan *g = gan__valid(param, "gan_init");
    for (gan_model *model = g->models; model; model = model->next)
        for (int i = 0; i < model->count; i++)
            if (model->params[i].value == param) {
                gan__init_param(model, &model->params[i], kind, gain, 0);
                return;
            }
    gan__fail(g, "gan_init", "the tensor " GAN__DIMS " is not a parameter", GAN__SHAPE(param));
}

GAN_API void gan_init_model(gan_model *model, int kind, gan_real gain)
{
    if (!model)
        gan__fail(NULL, "gan_init_model", "the model is NULL");
    model->init = kind;
    model->gain = gain;
    for (int i = 0; i < model->count; i++)
        if (model->params[i].trainable)
            gan__init_by_rule(model, &model->params[i]);
}

/* The parameter LAYER.KIND, made on first use: uniform in +-bound, of one value if bound is 0,
   normal times -bound if that is below 0. */
static gan_tensor *gan__param_get(gan_model *model, const char *layer, const char *kind, int rank,
                                  int n, int c, int h, int w, double bound, gan_real value)
{
    char name[256];
    int length = snprintf(name, sizeof name, *kind ? "%s.%s" : "%s%s", layer, kind);
    const char *end = length < 256 && length >= 20 ? name + length - 20 : name;
    if (!model)
        gan__fail(NULL, "gan_param", "\"%s\": the model is NULL", name);
    if (length > 255 || strchr(name, '#') || strcmp(end, ".num_batches_tracked") == 0 ||
        strcmp(name, "__metadata__") == 0)
        gan__fail(model->g, "gan_param",
                  "\"%.60s\", %d characters: a name has at most 255, no #, and is not what a file "
                  "keeps for itself",
                  name, length);
    gan__param *param = gan__find(model, name);
    if (param)
        return param->value;
    param = gan__param_new(model, name, rank, n, c, h, w);
    param->bound = bound;
    param->constant = value;
    gan__init_by_rule(model, param);
    return param->value;
}

GAN_API gan_tensor *gan_param(gan_model *model, const char *name, int n, int c, int h, int w)
{
    if (!model || !name)
        gan__fail(model ? model->g : NULL, "gan_param", "the model or the name is NULL");
    gan__check_shape(model->g, "gan_param", n, c, h, w);
    gan_tensor *t = gan__param_get(model, name, "", 4, n, c, h, w, 1 / sqrt((double)c * h * w), 0);
    if (t->n != n || t->c != c || t->h != h || t->w != w)
        gan__fail(model->g, "gan_param", "\"%s\" is " GAN__DIMS ", " GAN__DIMS " is asked for",
                  name, GAN__SHAPE(t), n, c, h, w);
    return t;
}

GAN_API size_t gan_param_count(const gan_model *model)
{
    size_t count = 0;
    for (int i = 0; i < model->count; i++)
        if (model->params[i].trainable)
            count += gan_count(model->params[i].value);
    return count;
}

GAN_API gan_tensor *gan_param_grad(gan_tensor *value)
{
    gan *g = gan__valid(value, "gan_param_grad");
    if (value->tape >= 0)
        gan__fail(g, "gan_param_grad",
                  "the tensor " GAN__DIMS " is not a parameter; gan_grad gives other gradients",
                  GAN__SHAPE(value));
    gan_tensor *copy = gan_zeros(g, GAN__SHAPE(value));
    if (gan__gradient_of(value))
        gan__copy_numbers(g, gan_count(value), gan__gradient_of(value), copy->data);
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
    gan_mark mark = gan_here(g);
    g->differentiation++;
    for (int i = 0; i < model->count; i++)
        if (model->params[i].trainable)
            gan__request_grad(g, model->params[i].value);
    g->recording = false;
    g->reclaiming = true;
    gan__differentiate(g, loss, gan_full(g, 1, 1, 1, 1, 1));
    gan__release_temporaries(g, 0);
    g->recording = true;
    g->reclaiming = false;
    g->tape_count = mark.tape; /* all of them have been let go */
    gan_clear_to(g, mark);
}

/* ===========================================================================================
   >>layers (implementation)
   =========================================================================================== */
static gan *gan__layer_begin(gan_model *model, const char *kind, const char *name, gan_tensor *x)
{
    if (!model)
        gan__fail(NULL, kind, "\"%s\": the model is NULL", name);
    snprintf(model->g->where, sizeof model->g->where, "%s \"%s\"", kind, name);
    if (!x)
        gan__fail(model->g, kind, "a tensor is NULL");
    gan__valid(x, kind);
    if (x->g != model->g)
        gan__fail(model->g, kind, "the input belongs to another gan_open");
    return model->g;
}

/* A layer's parameter that is there already must have the shape that the call says; 0 is any
   size. */
static void gan__layer_check(gan_tensor *weight, const char *kind, int n, int c, int h, int w)
{
    if ((n && weight->n != n) || (c && weight->c != c) || (h && weight->h != h) ||
        (w && weight->w != w))
        gan__fail(weight->g, kind,
                  "its weight is " GAN__DIMS
                  ", made by an earlier call or a file; this call wants " GAN__DIMS " (0: any)",
                  GAN__SHAPE(weight), n, c, h, w);
}

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

GAN_API void gan_weights(gan_model *model, int kind, gan_real rate)
{
    if (kind < GAN_PLAIN_WEIGHTS || kind > GAN_EQUALIZED || !(rate > 0))
        gan__fail(model->g, "gan_weights",
                  "kind %d, rate %g: the kind is GAN_PLAIN_WEIGHTS, GAN_SPECTRAL or GAN_EQUALIZED, "
                  "the rate above 0",
                  kind, (double)rate);
    model->weights = kind;
    model->rate = rate;
}

/* t's numbers into a parameter, which keeps its address. */
static void gan__assign(gan_tensor *param, gan_tensor *t)
{
    gan_map p = {GAN_AFFINE, gan_count(param), 1, 0};
    gan__run_1(param->g, GAN__K_map, &p, t->data, param->data);
}

/* outputs: which dimension of weight counts them, 0, or 1 for a transposed convolution. */
static gan_tensor *gan__spectral(gan_model *model, const char *name, gan_tensor *weight,
                                 int outputs)
{
    gan_tensor *flat = outputs ? gan_transpose(weight, 0, 1) : weight;
    gan_tensor *matrix = gan_reshape(flat, 1, 1, flat->n, -1);
    gan_tensor *still = gan_detach(matrix);
    gan_tensor *u = gan__param_get(model, name, "weight_u", 1, 1, flat->n, 1, 1, -1, 0);
    gan_tensor *v = gan__param_get(model, name, "weight_v", 1, 1, matrix->w, 1, 1, -1, 0);
    gan_tensor *left = gan_normalize(gan_reshape(gan_detach(u), 1, 1, 1, flat->n), 3);
    gan_tensor *right = gan_normalize(gan_reshape(gan_detach(v), 1, 1, matrix->w, 1), 2);
    if (model->mode == GAN__TRAIN) {
        right = gan_detach(
            gan_normalize(gan_matmul_t(still, left, true, true), 2)); /* v = W^T u / |W^T u| */
        left = gan_detach(
            gan_normalize(gan_matmul_t(right, still, true, true), 3)); /* u = W v / |W v| */
        gan__assign(v, right);
        gan__assign(u, left);
    }
    return gan_div(weight, gan_matmul(gan_matmul(left, matrix), right));
}

GAN_API gan_tensor *gan_spectral_norm(gan_model *model, const char *name, gan_tensor *weight)
{
    gan__valid(weight, "gan_spectral_norm");
    return gan__spectral(model, name, weight, 0);
}

/* Begins a layer: its weight (OUT,IN,K,K), or (IN,OUT,K,K) if transposed, and bias, as the
   model's kind of weights has them used; params counts their numbers. IN is x's channels, or in
   a linear layer (rank 2) all numbers of one. PyTorch takes the weight's second size for fan_in
   in transposed convolutions too. */
typedef struct {
    gan_tensor *weight, *bias;
    size_t params;
} gan__layer_weights;

static gan__layer_weights gan__weights_of(gan_model *model, const char *kind, const char *name,
                                          gan_tensor *x, int rank, int out, int kernel,
                                          bool transposed)
{
    gan__layer_begin(model, kind, name, x);
    int in = rank == 2 ? x->c * x->h * x->w : x->c;
    int n = transposed ? in : out;
    int c = transposed ? out : in;
    bool equalized = model->weights == GAN_EQUALIZED;
    double bound = 1 / sqrt((double)c * kernel * kernel);
    gan_tensor *weight = gan__param_get(model, name, "weight", rank, n, c, kernel, kernel,
                                        equalized ? -1 / (double)model->rate : bound, 0);
    gan_tensor *bias = gan__param_get(model, name, "bias", 1, 1, out, 1, 1, equalized ? 0 : bound,
                                      0);
    gan__layer_weights m = {weight, bias, gan_count(weight) + gan_count(bias)};
    gan__layer_check(weight, kind, transposed ? 0 : out, transposed ? out : 0, kernel, kernel);
    if (model->weights == GAN_SPECTRAL)
        m.weight = gan__spectral(model, name, weight, transposed);
    if (equalized) {
        m.weight = gan_mul_scalar(weight, (gan_real)(model->rate * bound));
        m.bias = gan_mul_scalar(bias, model->rate);
    }
    return m;
}

GAN_API gan_tensor *gan_linear(gan_model *model, const char *name, gan_tensor *x, int out)
{
    gan__layer_weights m = gan__weights_of(model, "gan_linear", name, x, 2, out, 1, false);
    return gan__layer_end(model, "linear", name, gan_linear_f(x, m.weight, m.bias), m.params);
}

GAN_API gan_tensor *gan_conv2d(gan_model *model, const char *name, gan_tensor *x, int out,
                               int kernel, int stride, int pad)
{
    gan__layer_weights m = gan__weights_of(model, "gan_conv2d", name, x, 4, out, kernel, false);
    return gan__layer_end(model, "conv2d", name, gan_conv2d_f(x, m.weight, m.bias, stride, pad, 1),
                          m.params);
}

GAN_API gan_tensor *gan_conv_transpose2d(gan_model *model, const char *name, gan_tensor *x, int out,
                                         int kernel, int stride, int pad)
{
    gan__layer_weights m = gan__weights_of(model, "gan_conv_transpose2d", name, x, 4, out, kernel,
                                           true);
    return gan__layer_end(model, "conv_transpose2d", name,
                          gan_conv_transpose2d_f(x, m.weight, m.bias, stride, pad, 0, 1), m.params);
}

/* x normalised over the batch, with the model's running statistics name.running_mean and
   name.running_var. */
static gan_tensor *gan__batch_norm(gan_model *model, const char *name, gan_tensor *x,
                                   gan_tensor *weight, gan_tensor *bias)
{
    gan_tensor *mean = gan__param_get(model, name, "running_mean", 1, 1, x->c, 1, 1, 0, 0);
    gan_tensor *var = gan__param_get(model, name, "running_var", 1, 1, x->c, 1, 1, 0, 1);
    if (model->mode == GAN__FREEZE) {
        weight = gan_detach(weight);
        bias = gan_detach(bias);
    }
    return gan_batch_norm_f(x, weight, bias, mean, var, model->mode == GAN__TRAIN, (gan_real)0.1,
                            (gan_real)1e-5);
}

enum { GAN__BATCH, GAN__INSTANCE, GAN__GROUP, GAN__LAYER };

static gan_tensor *gan__norm_layer(gan_model *model, const char *kind, const char *name,
                                   gan_tensor *x, int which, int groups)
{
    gan__layer_begin(model, kind, name, x);
    int whole = which == GAN__LAYER;
    int h = whole ? x->h : 1;
    int w = whole ? x->w : 1;
    int rank = whole ? 3 : 1;
    gan_tensor *weight = gan__param_get(model, name, "weight", rank, 1, x->c, h, w, 0, 1);
    gan_tensor *bias = gan__param_get(model, name, "bias", rank, 1, x->c, h, w, 0, 0);
    gan_tensor *y;
    const gan_real eps = (gan_real)1e-5;
    y = which == GAN__BATCH    ? gan__batch_norm(model, name, x, weight, bias)
      : which == GAN__INSTANCE ? gan_instance_norm_f(x, weight, bias, eps)
      : which == GAN__GROUP    ? gan_group_norm_f(x, groups, weight, bias, eps)
                               : gan_layer_norm_f(x, weight, bias, eps);
    return gan__layer_end(model, kind + 4, name, y, gan_count(weight) + gan_count(bias));
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
    gan_tensor *weight = gan__param_get(model, name, "weight", 1, 1, 1, 1, 1, 0, (gan_real)0.25);
    return gan__layer_end(model, "prelu", name, gan_prelu_f(x, weight), 1);
}

GAN_API gan_tensor *gan_embedding(gan_model *model, const char *name, gan_tensor *labels,
                                  int classes, int dim)
{
    gan *g = gan__layer_begin(model, "gan_embedding", name, labels);
    if (labels->n != (int)gan_count(labels))
        gan__fail(g, "gan_embedding", "labels " GAN__DIMS ": (N,1,1,1) is wanted",
                  GAN__SHAPE(labels));
    gan_tensor *weight = gan__param_get(model, name, "weight", 2, classes, dim, 1, 1, -1, 0);
    gan__layer_check(weight, "gan_embedding", classes, dim, 1, 1);
    return gan__layer_end(model, "embedding", name, gan_gather(weight, 0, labels),
                          gan_count(weight));
}

GAN_API gan_tensor *gan_conditional_batch_norm(gan_model *model, const char *name, gan_tensor *x,
                                               gan_tensor *labels, int classes)
{
    gan *g = gan__layer_begin(model, "gan_conditional_batch_norm", name, x);
    if (!labels)
        gan__fail(g, "gan_conditional_batch_norm", "a tensor is NULL");
    if (labels->n != x->n || gan_count(labels) != (size_t)x->n)
        gan__fail(g, "gan_conditional_batch_norm",
                  "input " GAN__DIMS " wants labels (%d,1,1,1), they are " GAN__DIMS, GAN__SHAPE(x),
                  x->n, GAN__SHAPE(labels));
    gan_tensor *gamma = gan__param_get(model, name, "gamma.weight", 2, classes, x->c, 1, 1, 0, 1);
    gan_tensor *beta = gan__param_get(model, name, "beta.weight", 2, classes, x->c, 1, 1, 0, 0);
    gan_tensor *y = gan__batch_norm(model, name, x, gan_full(g, 1, 1, x->c, 1, 1),
                                    gan_zeros(g, 1, x->c, 1, 1));
    y = gan__affine(y, gan_gather(gamma, 0, labels), gan_gather(beta, 0, labels));
    return gan__layer_end(model, "conditional_batch_norm", name, y,
                          gan_count(gamma) + gan_count(beta));
}

GAN_API gan_tensor *gan_dropout(gan_model *model, gan_tensor *x, gan_real p)
{
    gan *g = gan__valid(x, "gan_dropout");
    if (!model)
        gan__fail(g, "gan_dropout", "the model is NULL");
    if (!(p >= 0 && p < 1))
        gan__fail(g, "gan_dropout", "probability %g: it is in [0,1)", (double)p);
    if (model->mode != GAN__TRAIN || p == 0)
        return x;
    gan_tensor *kept = gan_add_scalar(gan_rand(g, GAN__SHAPE(x)), -p); /* above 0 where x stays */
    return gan_mul_scalar(gan__zip("gan_dropout", GAN_GATE, x, kept, 0, 0), 1 / (1 - p));
}

GAN_API gan_tensor *gan_self_attention(gan_model *model, const char *name, gan_tensor *x)
{
    static const char *const part[3] = {"query", "key", "value"};
    gan_tensor *map[3];
    char inner[256];
    gan__valid(x, "gan_self_attention");
    int n = x->n, c = x->c, places = x->h * x->w;
    for (int i = 0; i < 3; i++) {
        snprintf(inner, sizeof inner, "%s.%s", name, part[i]);
        map[i] = gan_reshape(gan_conv2d(model, inner, x, i == 2 ? c : GAN__MAX(c / 8, 1), 1, 1, 0),
                             n, 1, -1, places);
    }
    gan__layer_begin(model, "gan_self_attention", name, x);
    gan_tensor *gamma = gan__param_get(model, name, "gamma", 1, 1, 1, 1, 1, 0, 0);
    gan_tensor *to = gan_softmax(gan_matmul_t(map[0], map[1], true, false), 3);
    gan_tensor *y = gan_reshape(gan_matmul_t(map[2], to, false, true), GAN__SHAPE(x));
    return gan__layer_end(model, "self_attention", name, gan_add(x, gan_mul(y, gamma)), 1);
}

GAN_API gan_tensor *gan_demodulation(gan_tensor *weight, gan_tensor *style)
{
    gan__valid_pair(weight, style, "gan_demodulation");
    if (style->c != weight->c || style->h != 1 || style->w != 1)
        gan__fail(style->g, "gan_demodulation",
                  "the weight " GAN__DIMS " wants a style (N,%d,1,1), it is " GAN__DIMS,
                  GAN__SHAPE(weight), weight->c, GAN__SHAPE(style));
    gan_tensor *w2 = gan_reshape(gan_sum_to(gan_square(weight), weight->n, weight->c, 1, 1), 1, 1,
                                 weight->n, weight->c);
    gan_tensor *s2 = gan_reshape(gan_square(style), 1, 1, style->n, style->c);
    return gan_reshape(gan_rsqrt(gan_add_scalar(gan_matmul_t(s2, w2, false, true), (gan_real)1e-8)),
                       style->n, weight->n, 1, 1);
}

GAN_API gan_tensor *gan_modulated_conv2d_f(gan_tensor *x, gan_tensor *weight, gan_tensor *style,
                                           bool demodulate, int pad)
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
    char inner[256];
    gan__valid(x, "gan_modulated_conv2d");
    snprintf(inner, sizeof inner, "%s.affine", name);
    gan_tensor *style = gan_add_scalar(gan_linear(model, inner, latent, x->c), 1);
    gan__layer_weights m = gan__weights_of(model, "gan_modulated_conv2d", name, x, 4, out, kernel,
                                           false);
    gan_tensor *y = gan_add(gan_modulated_conv2d_f(x, m.weight, style, demodulate, kernel / 2),
                            m.bias);
    return gan__layer_end(model, "modulated_conv2d", name, y, m.params);
}

/* ===========================================================================================
   >>losses (implementation)
   =========================================================================================== */
/* -ln s(x) = softplus(-x) and -ln(1 - s(x)) = softplus(x): no logarithm of a number near 0 or 1
   is ever taken. */
GAN_API gan_tensor *gan_bce_logits(gan_tensor *logits, gan_real target)
{
    gan__valid(logits, "gan_bce_logits");
    if (target == 0)
        return gan_mean(gan_softplus(logits));
    gan_tensor *yes = gan_mean(gan_softplus(gan_neg(logits)));
    if (target == 1)
        return yes;
    return gan_add(gan_mul_scalar(yes, target),
                   gan_mul_scalar(gan_mean(gan_softplus(logits)), 1 - target));
}

static void gan__check_same(gan_tensor *a, gan_tensor *b, const char *function)
{
    gan__valid_pair(a, b, function);
    if (!gan__same_shape(a, b))
        gan__fail(a->g, function, GAN__DIMS " and " GAN__DIMS " must have the same shape",
                  GAN__SHAPE(a), GAN__SHAPE(b));
}

GAN_API gan_tensor *gan_bce_logits_to(gan_tensor *logits, gan_tensor *targets)
{
    gan__check_same(logits, targets, "gan_bce_logits_to"); /* softplus(x) - t x is the same */
    return gan_mean(gan_sub(gan_softplus(logits), gan_mul(targets, logits)));
}

/* ln x, at least -100; the inner clamp keeps 0/0 out of the derivative */
static gan_tensor *gan__log_from(gan_tensor *x)
{
    return gan_clamp(gan_log(gan_clamp(x, (gan_real)1e-45, (gan_real)HUGE_VAL)), -100,
                     (gan_real)HUGE_VAL);
}

GAN_API gan_tensor *gan_bce(gan_tensor *probabilities, gan_tensor *targets)
{
    gan__check_same(probabilities, targets, "gan_bce");
    gan_tensor *yes = gan__log_from(probabilities);
    gan_tensor *no = gan__log_from(gan_add_scalar(gan_neg(probabilities), 1));
    return gan_neg(gan_mean(gan_add(no, gan_mul(targets, gan_sub(yes, no)))));
}

/* (n,1,1,1): 1 with probability p, else 0 */
static gan_tensor *gan__bernoulli(const char *function, gan *g, int n, gan_real p)
{
    gan_tensor *rest = gan_add_scalar(gan_rand(g, n, 1, 1, 1), -p); /* 0 or more: 0 */
    return gan__zip(function, GAN_INSIDE, gan_full(g, 1, n, 1, 1, 1), rest, -1, (gan_real)-1e-12);
}

GAN_API gan_tensor *gan_flipped_labels(gan *g, int n, gan_real target, gan_real p)
{
    return gan__map("gan_flipped_labels", GAN_AFFINE, gan__bernoulli("gan_flipped_labels", g, n, p),
                    1 - 2 * target, target);
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

/* With e = d cut to [-1,1], e (d - e/2) is both halves. */
GAN_API gan_tensor *gan_smooth_l1(gan_tensor *a, gan_tensor *b)
{
    gan__check_same(a, b, "gan_smooth_l1");
    gan_tensor *d = gan_sub(a, b), *e = gan_clamp(d, -1, 1);
    return gan_mean(gan_mul(e, gan__zip("gan_smooth_l1", GAN_MIX, d, e, 1, (gan_real)-0.5)));
}

GAN_API gan_tensor *gan_cross_entropy(gan_tensor *logits, gan_tensor *labels)
{
    gan__valid_pair(logits, labels, "gan_cross_entropy");
    if (labels->n != logits->n || labels->c != 1 || labels->h != logits->h ||
        labels->w != logits->w)
        gan__fail(logits->g, "gan_cross_entropy",
                  "logits " GAN__DIMS " want labels (%d,1,%d,%d), they are " GAN__DIMS,
                  GAN__SHAPE(logits), logits->n, logits->h, logits->w, GAN__SHAPE(labels));
    gan_tensor *chosen = gan_mul(gan_log_softmax(logits, 1), gan_one_hot(labels, logits->c));
    return gan_mul_scalar(gan_sum(chosen), (gan_real)(-1.0 / (double)gan_count(labels)));
}

/* ---- GAN losses */
static const char *const gan__loss_names[GAN_LOSSES] = {
    "minimax", "non-saturating", "least-squares", "hinge", "wasserstein", "relativistic"};

GAN_API const char *gan_loss_name(int kind)
{
    if (kind < 0 || kind >= GAN_LOSSES)
        gan__fail(NULL, "gan_loss_name", "kind %d: there are %d", kind, GAN_LOSSES);
    return gan__loss_names[kind];
}

GAN_API int gan_loss_kind(const char *name)
{
    for (int i = 0; i < GAN_LOSSES; i++)
        if (strcmp(name, gan__loss_names[i]) == 0)
            return i;
    gan__refuse("gan_loss_kind: there is no loss \"%s\"; there are minimax, non-saturating, "
                "least-squares, hinge, wasserstein and relativistic",
                name);
    return -1;
}

/* E (x - target)^2 */
static gan_tensor *gan__square_to(gan_tensor *x, gan_real target)
{
    return gan_mean(gan_square(gan_add_scalar(x, -target)));
}

GAN_API gan_tensor *gan_d_loss(int kind, gan_tensor *real, gan_tensor *fake)
{
    gan__valid_pair(real, fake, "gan_d_loss");
    switch (kind) {
    case GAN_MINIMAX:
    case GAN_NON_SATURATING: return gan_add(gan_bce_logits(real, 1), gan_bce_logits(fake, 0));
    case GAN_LEAST_SQUARES:
        return gan_mul_scalar(gan_add(gan__square_to(real, 1), gan__square_to(fake, 0)),
                              (gan_real)0.5);
    case GAN_HINGE:
        return gan_add(gan_mean(gan_relu(gan_add_scalar(gan_neg(real), 1))),
                       gan_mean(gan_relu(gan_add_scalar(fake, 1))));
    case GAN_WASSERSTEIN: return gan_sub(gan_mean(fake), gan_mean(real));
    case GAN_RELATIVISTIC:
        return gan_add(gan_bce_logits(gan_sub(real, gan_mean(fake)), 1),
                       gan_bce_logits(gan_sub(fake, gan_mean(real)), 0));
    default:
        gan__fail(real->g, "gan_d_loss", "kind %d: it is GAN_MINIMAX .. GAN_RELATIVISTIC", kind);
        return (gan_tensor *)NULL;
    }
}

GAN_API gan_tensor *gan_g_loss(int kind, gan_tensor *real, gan_tensor *fake)
{
    gan *g = gan__valid(fake, "gan_g_loss");
    switch (kind) {
    case GAN_MINIMAX: return gan_neg(gan_bce_logits(fake, 0));
    case GAN_NON_SATURATING: return gan_bce_logits(fake, 1);
    case GAN_LEAST_SQUARES: return gan__square_to(fake, 1);
    case GAN_HINGE:
    case GAN_WASSERSTEIN: return gan_neg(gan_mean(fake));
    case GAN_RELATIVISTIC: return gan_d_loss(kind, fake, real);
    default:
        gan__fail(g, "gan_g_loss", "kind %d: it is GAN_MINIMAX .. GAN_RELATIVISTIC", kind);
        return (gan_tensor *)NULL;
    }
}

/* ---- penalties */

/* |dD/dx|^2 of each image, (N,1,1,1) */
static gan_tensor *gan__slope(const char *function, gan_tensor *logits, gan_tensor *x)
{
    gan__valid_pair(logits, x, function);
    return gan_sum_to(gan_square(gan_grad(gan_sum(logits), x)), x->n, 1, 1, 1);
}

/* sqrt(x + 1e-16): its slope stays finite at 0 */
static gan_tensor *gan__root(gan_tensor *x)
{
    return gan_sqrt(gan_add_scalar(x, (gan_real)1e-16));
}

GAN_API gan_tensor *gan_gradient_penalty(gan_tensor *logits, gan_tensor *x, gan_real target)
{
    return gan__square_to(gan__root(gan__slope("gan_gradient_penalty", logits, x)), target);
}

GAN_API gan_tensor *gan_r1(gan_tensor *logits, gan_tensor *real)
{
    return gan_mean(gan__slope("gan_r1", logits, real));
}

GAN_API gan_tensor *gan_r2(gan_tensor *logits, gan_tensor *fake)
{
    return gan_mean(gan__slope("gan_r2", logits, fake));
}

GAN_API gan_tensor *gan_wgan_gp(gan_network *critic, gan_model *D, gan_tensor *real,
                                gan_tensor *fake)
{
    gan__check_same(real, fake, "gan_wgan_gp");
    gan_tensor *t = gan_rand(real->g, real->n, 1, 1, 1);
    gan_tensor *x = gan_detach(gan_add(gan_mul(gan_sub(fake, real), t), real));
    return gan_gradient_penalty(critic(D, x), x, 1);
}

GAN_API gan_tensor *gan_dragan(gan_network *critic, gan_model *D, gan_tensor *real)
{
    gan *g = gan__valid(real, "gan_dragan");
    gan_tensor *deviation = gan_sqrt(gan_mean(gan_square(gan_sub(real, gan_mean(real)))));
    gan_tensor *u = gan_rand(g, GAN__SHAPE(real));
    gan_tensor *noise = gan_mul(gan_mul(u, gan_rand(g, real->n, 1, 1, 1)),
                                gan_mul_scalar(deviation, (gan_real)0.5));
    gan_tensor *x = gan_detach(gan_add(real, noise));
    return gan_gradient_penalty(critic(D, x), x, 1);
}

GAN_API gan_tensor *gan_path_length(gan_model *G, gan_tensor *image, gan_tensor *w)
{
    gan__valid_pair(image, w, "gan_path_length");
    gan_tensor *mean = gan__param_get(G, "path_length", "running_mean", 1, 1, 1, 1, 1, 0, 0);
    gan_tensor *noise = gan_mul_scalar(gan_randn(image->g, GAN__SHAPE(image)),
                                       (gan_real)(1 / sqrt((double)image->h * image->w)));
    gan_tensor *squares = gan_sum_to(gan_square(gan_grad(gan_sum(gan_mul(image, noise)), w)), w->n,
                                     1, w->h, 1);
    gan_tensor *length = gan__root(gan_mean_to(squares, w->n, 1, 1, 1));
    gan_tensor *now = gan__zip("gan_path_length", GAN_MIX, gan_detach(mean), gan_mean(length),
                               (gan_real)0.99, (gan_real)0.01);
    gan__assign(mean, now);
    return gan_mean(gan_square(gan_sub(length, now)));
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
    return gan_mul_scalar(gan_matmul_t(f, f, false, true),
                          (gan_real)(1 / ((double)x->c * x->h * x->w)));
}

enum { GAN__FEATURES, GAN__GRAMS, GAN__MEANS };

static gan_tensor *gan__feature_loss(const char *function, gan_tensor **target, gan_tensor **x,
                                     int count, int of)
{
    gan_tensor *total = NULL;
    if (!target || !x || count < 1)
        gan__fail(NULL, function, "%d feature maps: 1 or more are wanted", target && x ? count : 0);
    for (int i = 0; i < count; i++) {
        gan__valid_pair(target[i], x[i], function);
        gan_tensor *a = gan_detach(target[i]), *b = x[i];
        if (of == GAN__GRAMS) {
            b = gan_gram(b);
            a = gan_expand(gan_gram(a), b->n, 1, a->c, a->c);
        }
        if (of == GAN__MEANS) {
            a = gan_mean_to(a, 1, a->c, a->h, a->w);
            b = gan_mean_to(b, 1, b->c, b->h, b->w);
        }
        gan__check_same(a, b, function);
        total = total ? gan_add(total, gan_mse(b, a)) : gan_mse(b, a);
    }
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

GAN_API gan_tensor *gan_total_variation(gan_tensor *x)
{
    gan_tensor *total = gan_zeros(gan__valid(x, "gan_total_variation"), 1, 1, 1, 1);
    for (int dim = 2; dim < 4; dim++) {
        int size = dim == 2 ? x->h : x->w;
        if (size > 1)
            total = gan_add(total, gan_sum(gan_abs(gan_sub(gan_slice(x, dim, 1, size - 1),
                                                           gan_slice(x, dim, 0, size - 1)))));
    }
    return gan_mul_scalar(total, 1 / (gan_real)x->n);
}

GAN_API gan_tensor *gan_patch_nce(gan_tensor *q, gan_tensor *k, gan_real temperature)
{
    gan__check_same(q, k, "gan_patch_nce");
    if (q->h != 1 || !(temperature > 0))
        gan__fail(q->g, "gan_patch_nce",
                  "features " GAN__DIMS ", temperature %g: (N,C,1,P) and more than 0 are wanted",
                  GAN__SHAPE(q), (double)temperature);
    gan_tensor *a = gan_permute(q, 0, 2, 1, 3);
    gan_tensor *b = gan_permute(gan_detach(k), 0, 2, 1, 3); /* (N,1,C,P) */
    gan_tensor *scores = gan_mul_scalar(gan_matmul_t(a, b, true, false),
                                        1 / temperature); /* (N,1,P,P) */
    gan_tensor *own = gan_reshape(gan__counting(q->g, q->w), 1, 1, 1,
                                  q->w); /* patch i's label is i */
    return gan_cross_entropy(gan_permute(scores, 0, 3, 1, 2), gan_expand(own, q->n, 1, 1, q->w));
}

/* ===========================================================================================
   >>optim (implementation)
   =========================================================================================== */
GAN_API void gan_ref_sgd(const gan_update *p, const gan_real *g, gan_real *w, gan_real *m)
{
    for (size_t i = 0; i < p->count; i++) {
        m[i] = p->beta1 * m[i] + g[i];
        w[i] = w[i] - p->lr * m[i];
    }
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

GAN_API void gan_ref_rmsprop(const gan_update *p, const gan_real *g, gan_real *w, gan_real *v)
{
    for (size_t i = 0; i < p->count; i++) {
        v[i] = p->beta2 * v[i] + (1 - p->beta2) * g[i] * g[i];
        w[i] = w[i] - p->lr * g[i] / (GAN__F(sqrt, v[i]) + p->eps);
    }
}

static void gan__update(gan__body *body, const gan_update *p, const gan_real *g, gan_real *w,
                        gan_real *m, gan_real *v)
{
    gan__job job = {p, {g}, {w, m, v}};
    gan__parallel(p->count, 16384, body, &job);
}

GAN_API void gan_cpu_adam(const gan_update *p, const gan_real *g, gan_real *w, gan_real *m,
                          gan_real *v)
{
    gan__update(gan__cpu_isa()->adam, p, g, w, m, v);
}

GAN_API void gan_cpu_sgd(const gan_update *p, const gan_real *g, gan_real *w, gan_real *m)
{
    gan__update(gan__cpu_isa()->sgd, p, g, w, m, 0);
}

GAN_API void gan_cpu_rmsprop(const gan_update *p, const gan_real *g, gan_real *w, gan_real *v)
{
    gan__update(gan__cpu_isa()->rmsprop, p, g, w, v, 0);
}

enum { GAN__SGD, GAN__ADAM, GAN__RMSPROP, GAN__LBFGS };

static const char *const gan__opt_names[] = {"sgd", "adam", "rmsprop",
                                             "lbfgs"}; /* in the state of a training */

/* What an optimizer keeps of one parameter, NULL and 0 before its first step: slots, tensors of
   its shape (Adam's m and v). */
typedef struct {
    gan_tensor **slot;
    double steps;
} gan__moments;

struct gan_opt {
    gan_model *model;
    int kind, slots, count;
    gan_real lr, beta1, beta2, decay;
    gan__moments *moments; /* count, as many as the model has parameters, once there was a step */
    gan_opt *next;
};

static gan_opt *gan__opt_new(gan_model *model, const char *function, int kind, int slots,
                             gan_real lr, gan_real beta1, gan_real beta2, gan_real decay)
{
    if (!model)
        gan__fail(NULL, function, "the model is NULL");
    if (!(lr >= 0) || !(beta1 >= 0 && beta1 < 1) || !(beta2 >= 0 && beta2 < 1) || !(decay >= 0))
        gan__fail(model->g, function,
                  "learning rate %g and decay %g are 0 or more, momentum and betas %g, %g in [0,1)",
                  (double)lr, (double)decay, (double)beta1, (double)beta2);
    if (model->g->plan)
        gan__fail(model->g, function, "an optimizer is made before gan_plan and gan_capture");
    gan_opt *opt = (gan_opt *)gan__alloc_zero(sizeof *opt);
    gan_opt **last = &model->opts;
    opt->model = model;
    opt->kind = kind;
    opt->slots = slots;
    opt->lr = lr;
    opt->beta1 = beta1;
    opt->beta2 = beta2;
    opt->decay = decay;
    while (*last)
        last = &(*last)->next;
    return *last = opt;
}

GAN_API gan_opt *gan_sgd(gan_model *model, gan_real lr, gan_real momentum)
{
    return gan__opt_new(model, "gan_sgd", GAN__SGD, 1, lr, momentum, 0, 0);
}

GAN_API gan_opt *gan_adam(gan_model *model, gan_real lr, gan_real beta1, gan_real beta2)
{
    return gan__opt_new(model, "gan_adam", GAN__ADAM, 2, lr, beta1, beta2, 0);
}

GAN_API gan_opt *gan_adamw(gan_model *model, gan_real lr, gan_real beta1, gan_real beta2,
                           gan_real decay)
{
    return gan__opt_new(model, "gan_adamw", GAN__ADAM, 2, lr, beta1, beta2, decay);
}

GAN_API gan_opt *gan_rmsprop(gan_model *model, gan_real lr, gan_real alpha)
{
    return gan__opt_new(model, "gan_rmsprop", GAN__RMSPROP, 1, lr, 0, alpha, 0);
}

GAN_API void gan_set_lr(gan_opt *opt, gan_real lr)
{
    opt->lr = lr;
}

GAN_API gan_opt *gan_lbfgs(gan_model *model, gan_real lr, int history)
{
    if (history < 1 || history > 10000)
        gan__fail(model ? model->g : NULL, "gan_lbfgs",
                  "a history of %d steps; 1 to 10000 are possible, 10 to 100 usual", history);
    return gan__opt_new(model, "gan_lbfgs", GAN__LBFGS, 2 * (history + 1), lr, 0, 0, 0);
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
    return step >= total ? 0
                         : (gan_real)(lr * (1 + cos(3.14159265358979323846 * step / total)) / 2);
}

GAN_API gan_real gan_lr_warmup(gan_real lr, int step, int steps)
{
    return step + 1 >= steps ? lr : lr * (step + 1) / steps;
}

GAN_API gan_real gan_lr_inverse(gan_real lr, int step, gan_real k)
{
    return lr / (1 + k * step);
}

/* The moments of parameter i, as zeros if it had none. NULL if there is no memory for them. */
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
    gan__moments *of = &opt->moments[i];
    gan_tensor *value = opt->model->params[i].value;
    if (of->slot)
        return of;
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
    of->slot = slot;
    return slot ? of : NULL;
}

static gan__moments *gan__moments_of(gan_opt *opt, int i)
{
    gan__moments *of = gan__try_moments_of(opt, i);
    if (!of)
        gan__out_of_memory(opt->model->g, opt->model->g->backend,
                           (double)gan_count(opt->model->params[i].value) * opt->slots *
                               sizeof(gan_real));
    return of;
}

/* L-BFGS over all parameters. Pair j is slots 2*j and 2*j + 1: a move s of the parameters and
   the change y that it made in the gradient, pair 1 the last. A pair of zeros is none. Pair 0 is
   to become one: it holds the last move and the last gradient. */
enum { GAN__VALUES = -1, GAN__GRADIENTS = -2 }; /* beside the slots */

static double gan__slots_dot(gan_opt *opt, int a, int b)
{
    double total = 0;
    gan_mark mark = gan_here(opt->model->g);
    for (int i = 0; i < opt->count; i++)
        if (opt->moments[i].slot)
            total += (double)gan_item(
                gan_sum(gan_mul(opt->moments[i].slot[a], opt->moments[i].slot[b])));
    gan_clear_to(opt->model->g, mark);
    return total;
}

/* slot y = k*y + l*x, where there is an x */
static void gan__slots_mix(gan_opt *opt, double k, int y, double l, int x)
{
    for (int i = 0; i < opt->count; i++) {
        gan_tensor **slot = opt->moments[i].slot;
        gan_tensor *value = opt->model->params[i].value;
        if (!slot)
            continue;
        gan_real *to = y == GAN__VALUES ? value->data : slot[y]->data;
        gan_real *from = x == GAN__GRADIENTS ? gan__gradient_of(value) : slot[x]->data;
        gan__mix_numbers(value->g, gan_count(value), (gan_real)k, to, from ? (gan_real)l : 0,
                         from ? from : to);
    }
}

static void gan__lbfgs_step(gan_opt *opt)
{
    int pairs = opt->slots / 2;
    double *rho = (double *)gan__alloc_zero(2 * (size_t)pairs * sizeof *rho);
    double *alpha = rho + pairs;
    double size = 0;
    bool first = true;
    gan_mark mark = gan_here(opt->model->g);
    for (int i = 0; i < opt->model->count; i++) {
        if (!opt->model->params[i].trainable)
            continue;
        size += (double)gan_item(gan_sum(gan_abs(gan_param_grad(opt->model->params[i].value))));
        first = gan__moments_of(opt, i)->steps++ == 0 && first;
    }
    gan_clear_to(opt->model->g, mark);
    gan__slots_mix(opt, -1, 1, 1, GAN__GRADIENTS); /* y = gradient - last gradient */
    bool pair = gan__slots_dot(opt, 0, 1) >
                1e-10; /* if so, all pairs move one on; the oldest's memory is the new pair 0 */
    for (int i = 0; pair && i < opt->count; i++) {
        gan_tensor **slot = opt->moments[i].slot;
        gan_tensor *s = slot ? slot[opt->slots - 2] : NULL;
        gan_tensor *y = slot ? slot[opt->slots - 1] : NULL;
        if (slot) {
            memmove(slot + 2, slot, (size_t)(opt->slots - 2) * sizeof *slot);
            slot[0] = s;
            slot[1] = y;
        }
    }
    gan__slots_mix(opt, 0, 1, 1, GAN__GRADIENTS);
    gan__slots_mix(opt, 0, 0, -1, GAN__GRADIENTS);
    /* slot 0 = -H gradient from -gradient by the two loops of Liu and Nocedal (1989), with H =
       (y.s)/(y.y) of the last pair between them */
    for (int j = 1; j < pairs; j++) {
        double ys = gan__slots_dot(opt, 2 * j + 1, 2 * j);
        if (!(ys > 0))
            continue;
        rho[j] = 1 / ys;
        alpha[j] = gan__slots_dot(opt, 2 * j, 0) * rho[j];
        gan__slots_mix(opt, 1, 0, -alpha[j], 2 * j + 1);
    }
    if (rho[1] > 0)
        gan__slots_mix(opt, 1 / (rho[1] * gan__slots_dot(opt, 3, 3)), 0, 0, 0);
    for (int j = pairs - 1; j >= 1; j--)
        if (rho[j] > 0)
            gan__slots_mix(opt, 1, 0, alpha[j] - gan__slots_dot(opt, 2 * j + 1, 0) * rho[j], 2 * j);
    GAN_FREE(rho);
    gan__slots_mix(opt, first ? opt->lr * GAN__MIN(1, 1 / size) : opt->lr, 0, 0, 0);
    gan__slots_mix(opt, 1, GAN__VALUES, 1, 0);
}

/* Of step number steps of parameter i. */
static gan_update gan__update_of(const gan_opt *opt, int i, double steps)
{
    gan_real bias1 = (gan_real)(1 - pow(opt->beta1, steps));
    gan_real bias2 = (gan_real)(1 - pow(opt->beta2, steps));
    gan_update p = {gan_count(opt->model->params[i].value),
                    opt->lr,
                    opt->beta1,
                    opt->beta2,
                    (gan_real)1e-8,
                    bias1,
                    bias2,
                    opt->decay};
    return p;
}

static double gan__length(gan *g, const gan_real *data, const gan_real *from, size_t count);
static gan_real *gan__doctor_before(gan__param *param, const gan_real *gradient);

GAN_API void gan_step(gan_opt *opt)
{
    static const int kernels[] = {GAN__K_sgd, GAN__K_adam, GAN__K_rmsprop};
    gan_model *model = opt->model;
    if (opt->kind == GAN__LBFGS && model->g->gradients)
        gan__lbfgs_step(opt);
    for (int i = 0; i < model->count; i++) {
        gan_tensor *value = model->params[i].value;
        const gan_real *g = gan__gradient_of(value);
        if (!g)
            continue;
        if (opt->kind != GAN__LBFGS) {
            gan__moments *of = gan__moments_of(opt, i);
            gan_real *out[3] = {value->data, of->slot[0]->data,
                                opt->slots > 1 ? of->slot[1]->data : NULL};
            gan_update p = gan__update_of(opt, i, ++of->steps);
            gan_real *before = model->g->look ? gan__doctor_before(&model->params[i], g) : NULL;
            gan__run(model->g, kernels[opt->kind], &p, &g, out);
            gan__changes(model->g, opt, NULL, i);
            if (before) {
                model->params[i].change = gan__length(model->g, out[0], before, p.count);
                GAN_FREE(before);
            }
        }
        gan__give_numbers(model->g, value->gradient->block);
        value->gradient->references = 0;
        model->g->gradients--;
    }
}

GAN_API void gan_minimize(gan_opt *opt, gan_tensor *loss)
{
    if (!opt)
        gan__fail(NULL, "gan_minimize", "the optimizer is NULL");
    gan_backward(loss, opt->model);
    if (loss->needs_grad_in != loss->g->differentiation)
        gan__fail(loss->g, "gan_minimize",
                  "the loss depends on no parameter of the model \"%s\": another model's "
                  "optimizer, or a gan_detach?",
                  opt->model->name);
    gan_step(opt);
}

/* Puts gradients or, if weights, parameters through a gan_map. */
static void gan__map_all(gan_model *model, int op, gan_real a, gan_real b, bool weights)
{
    for (int i = 0; i < model->count; i++) {
        gan_tensor *value = model->params[i].value;
        gan_real *x = !weights                   ? gan__gradient_of(value)
                    : model->params[i].trainable ? value->data
                                                 : NULL;
        gan_map p = {op, gan_count(value), a, b};
        if (x)
            gan__run_1(model->g, GAN__K_map, &p, x, x);
    }
}

static gan_model *gan__clip(const char *function, gan_model *model, gan_real most)
{
    if (!model || !(most >= 0))
        gan__fail(model ? model->g : NULL, function,
                  "the model is %s, the limit %g; it is 0 or more", model ? model->name : "NULL",
                  (double)most);
    return model;
}

GAN_API void gan_clip_grad_value(gan_model *model, gan_real max)
{
    gan__map_all(gan__clip("gan_clip_grad_value", model, max), GAN_CLAMP, -max, max, false);
}

GAN_API void gan_clip_weights(gan_model *model, gan_real c)
{
    gan__map_all(gan__clip("gan_clip_weights", model, c), GAN_CLAMP, -c, c, true);
}

GAN_API gan_real gan_clip_grad_norm(gan_model *model, gan_real max)
{
    gan *g = gan__clip("gan_clip_grad_norm", model, max)->g;
    gan_mark mark = gan_here(g);
    double square = 0;
    for (int i = 0; i < model->count; i++)
        square += (double)gan_item(gan_sum(gan_square(gan_param_grad(model->params[i].value))));
    gan_clear_to(g, mark);
    double norm = sqrt(square), scale = max / (norm + 1e-6);
    if (norm <= DBL_MAX && scale < 1)
        gan__map_all(model, GAN_AFFINE, (gan_real)scale, 0, false);
    return (gan_real)norm;
}

static void gan__average(const char *function, gan_model *into, gan_model *model, gan_real decay)
{
    if (!into || !model || into->g != model->g)
        gan__fail(into ? into->g : NULL, function, "a model is NULL or of another gan_open");
    for (int i = 0; i < model->count; i++) {
        gan__param *from = &model->params[i];
        gan__param *to = gan__find(into, from->name);
        bool copy = !to || !from->trainable || decay == 0;
        if (!to)
            to = gan__param_new(into, from->name, from->rank, GAN__SHAPE(from->value));
        if (!gan__same_shape(to->value, from->value))
            gan__fail(into->g, function,
                      "\"%s\" is " GAN__DIMS " in one model and " GAN__DIMS " in the other",
                      to->name, GAN__SHAPE(to->value), GAN__SHAPE(from->value));
        if (copy)
            gan__copy_numbers(into->g, gan_count(to->value), from->value->data, to->value->data);
        else
            gan__mix_numbers(into->g, gan_count(to->value), decay, to->value->data, 1 - decay,
                             from->value->data);
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
    double window = rampup > 0 ? GAN__MIN((double)images, (double)rampup * step * batch)
                               : (double)images;
    return window > 0 ? (gan_real)pow(0.5, batch / window) : 0;
}

/* ===========================================================================================
   >>data (implementation)
   =========================================================================================== */
/* ---- reading files: regular ones only, for a device or a pipe may never end */

typedef enum { GAN__REGULAR, GAN__MISSING, GAN__IRREGULAR, GAN__UNREADABLE } gan__kind;

static const char gan__irregular[] = "it is a folder, a device or a pipe, where a file is wanted";

/* What path is; of a regular file its size and its permissions (mode may be NULL). UNREADABLE:
   errno. */
static gan__kind gan__file_kind(const char *path, size_t *size, long *mode)
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
        *mode = (long)(about.st_mode & 07777);
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
    gan__kind kind = gan__file_kind(path, size, NULL);
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

static uint32_t gan__little(const unsigned char *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint32_t gan__big(const unsigned char *p)
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
    bool whole = data && gan__little(zipped + n - 4) == (uint32_t)length &&
                 gan__little(zipped + n - 8) == gan__crc(data, (size_t)length);
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

/* Checks the first bytes, as many as there are up to 20, of a file of that many bytes, and reads
   its sizes: (N,H,W) as (N,1,H,W). False: gan_error(). */
static bool gan__idx_header(const char *path, const unsigned char *data, size_t bytes, bool labels,
                            int size[4])
{
    bool magic = bytes >= 4 && data[0] == 0 && data[1] == 0 && data[2] == 8;
    int dims = magic ? data[3] : 0;
    double wanted = 1, image = 1;
    if (labels ? dims != 1 : dims != 3 && dims != 4)
        return gan__refuse("%s: not an IDX file of %s: it begins with %02x %02x %02x %02x", path,
                           labels ? "labels (00 00 08 01)" : "images (00 00 08 03 or 04)",
                           bytes > 0 ? data[0] : 0, bytes > 1 ? data[1] : 0,
                           bytes > 2 ? data[2] : 0, bytes > 3 ? data[3] : 0);
    size_t header = 4 + 4 * (size_t)dims;
    for (int d = 0; d < 4; d++)
        size[d] = 1;
    for (int d = 0; d < dims && bytes >= header; d++) {
        uint32_t value = gan__big(data + 4 + 4 * d);
        size[dims == 3 && d > 0 ? d + 1 : d] = (int)GAN__MIN(value, 0x7FFFFFFFu);
        wanted *= value;
        image *= d > 0 ? value : 1;
        if (value > 0x7FFFFFFFu || image > 0x7FFFFFFFu)
            return gan__refuse("%s: its sizes are too large: 2^31 and more", path);
    }
    if (bytes < header || wanted < 1 || wanted != (double)(bytes - header))
        return gan__refuse("%s: its header promises %.0f bytes of data, there are %.0f", path,
                           bytes < header ? 4.0 * dims : wanted, (double)bytes - (double)header);
    return true;
}

/* The numbers of an IDX file, in new memory. A header that does not fit the file is refused before
   the rest is read. */
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

   Of a folder each picture has a state, for two threads decode them: one that runs ahead in the
   order of the epoch, and the one that is in gan_batch, which decodes what it finds WAITING, and
   waits for what it finds DECODING.

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
    uint32_t *order;                /* a permutation, drawn for epoch */
    uint64_t epoch;
    uint64_t drawn;  /* images given out since the beginning: all that a resumed run needs */
    uint64_t stream; /* of random numbers, for the order */
    char **classes;  /* their names, or NULL */
    int class_count;
    int style;              /* of the built-in sets: a gan_shape_style, or -1 for digits */
    gan__picture *pictures; /* the files that fill pixels, or NULL */
    int left_out, skipped;  /* files that are not in the set; broken files in all */
    gan_data *half[2];      /* the two sets of a pair, or NULL */
    /* (COUNT,C,H,W) and (COUNT,1,1,1), on a device with memory of its own, or NULL */
    gan_tensor *on_device, *labels_on_device;
    bool lazy;           /* has pictures, or a half that has */
    bool threaded, stop; /* a thread decodes them, in order from place start on; it is to end */
    int start;
#ifdef GAN__PTHREAD
    pthread_t thread;
#endif
    gan_data *next;
};

static void gan__data_free(gan_data *data)
{
    bool folder = data->lazy && !data->half[0];
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

static bool gan__good(gan_data *data, int i);

/* Makes data one of g's. NULL, and data is freed, if there is a problem or none of its images is
   good. */
static gan_data *gan__data_join(gan *g, gan_data *data, const char *name, const char *problem)
{
    gan_data **last = &g->datas;
    int i = 0;
    if (g->plan)
        gan__fail(g, name, "data is made before gan_plan and gan_capture");
    while (!problem && i < data->count && !gan__good(data, i))
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

/* ---- built-in digits: a pen that writes, in place of MNIST where that is not at hand. An image
   is a function of (seed, index): skeleton -> unsteady knots -> smooth curve -> slanted and
   fitted -> ink */

/* Skeletons: ten classes, four ways people write each. A point is two digits, x then y, on a
   10x10 grid with y pointing down; the character after it says how the pen goes on: ' '
   smoothly, '^' round a sharp corner, '/' lifted. */
static const char *const gan__skeletons[10][4] = {
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
   far more than the busiest digit uses. */
typedef struct {
    uint64_t seed, stream, block;
    uint32_t word[4];
    int left;
} gan__dice;

static float gan__uniform(gan__dice *d, float lo, float hi)
{
    if (d->left == 0) {
        gan__philox(d->seed, d->stream, d->block++, d->word);
        d->left = 4;
    }
    return lo + (hi - lo) * (float)(d->word[--d->left] >> 8) * (1.0f / 16777216.0f);
}

/* Bell-shaped in [-size, size]: small slips of the hand are the common ones. */
static float gan__slip(gan__dice *d, float size)
{
    float u = gan__uniform(d, -0.5f, 0.5f);
    return size * (u + gan__uniform(d, -0.5f, 0.5f));
}

/* A spot on the pen's path: where it is, how wide the nib presses there, and how it goes on ('
   ', '^', '/' as above, '\0' at the end). */
typedef struct {
    float x, y, r;
    char leave;
} gan__dot;

enum { GAN__STEPS = 8, GAN__MAX_KNOTS = 16, GAN__MAX_DOTS = GAN__MAX_KNOTS * GAN__STEPS };

/* Reads a skeleton with an unsteady hand; returns how many knots it has. */
static int gan__place_knots(const char *skeleton, gan__dice *dice, gan__dot *knots)
{
    float haste = gan__uniform(dice, 0.2f, 0.9f); /* some writers are neater */
    for (int n = 0;; n++, skeleton += 3) {
        knots[n].x = (float)(skeleton[0] - '0') + gan__slip(dice, haste);
        knots[n].y = (float)(skeleton[1] - '0') + gan__slip(dice, haste);
        knots[n].r = 1.0f + gan__slip(dice, 0.3f);
        knots[n].leave = skeleton[2];
        if (skeleton[2] == '\0')
            return n + 1;
    }
}

/* Catmull-Rom: the cubic from b to c whose end slopes look at a and d. */
static float gan__spline(float a, float b, float c, float d, float t)
{
    return b + 0.5f * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)));
}

/* Runs a curve through the knots as a chain of dots; returns its length. */
static int gan__join_knots(const gan__dot *knots, int n, gan__dot *dots)
{
    int count = 1;
    dots[0] = knots[0];
    for (int i = 0; i + 1 < n; i++) {
        const gan__dot *b = &knots[i], *c = b + 1;
        /* a corner or a stroke's end has no neighbour to lean towards */
        const gan__dot *a = i > 0 && b->leave == ' ' && b[-1].leave != '/' ? b - 1 : b;
        const gan__dot *d = c->leave == ' ' ? c + 1 : c;
        if (b->leave != '/')
            for (int k = 1; k < GAN__STEPS; k++, count++) {
                float t = (float)k / GAN__STEPS;
                dots[count].x = gan__spline(a->x, b->x, c->x, d->x, t);
                dots[count].y = gan__spline(a->y, b->y, c->y, d->y, t);
                dots[count].r = gan__spline(a->r, b->r, c->r, d->r, t);
                dots[count].leave = ' ';
            }
        dots[count++] = *c;
    }
    return count;
}

/* Gives the writing a slant, a tilt and proportions of its own, then does what the makers of
   MNIST do: scales it into a 20x20 box and puts its centre of mass at the centre of the 28x28
   paper. */
static void gan__fit_paper(gan__dot *dots, int count, gan__dice *dice)
{
    float slant = 0.15f + gan__slip(dice, 0.5f);
    float tilt = gan__slip(dice, 0.22f);
    float width = gan__uniform(dice, 0.55f, 1.0f);
    float taper = gan__slip(dice, 0.06f);
    float waist = gan__slip(dice, 0.06f);
    float nib = gan__uniform(dice, 0.6f, 1.2f);
    float x0 = 1e9f;
    float y0 = 1e9f;
    float x1 = -1e9f;
    float y1 = -1e9f;
    float scale;
    float mx = 0;
    float my = 0;
    float mass = 0;
    nib += gan__uniform(dice, 0.0f, 0.7f); /* half its width, in pixels */
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
    scale = (gan__uniform(dice, 18.4f, 19.4f) - 2 * nib) / fmaxf(x1 - x0, y1 - y0);
    for (int i = 0; i < count; i++) {
        dots[i].x *= scale;
        dots[i].y *= scale;
        dots[i].r *= nib;
        if (i > 0 && dots[i - 1].leave != '/') { /* a segment weighs length x width */
            float dx = dots[i].x - dots[i - 1].x;
            float dy = dots[i].y - dots[i - 1].y;
            float ink = sqrtf(dx * dx + dy * dy) * dots[i].r;
            mx += ink * (dots[i].x - 0.5f * dx);
            my += ink * (dots[i].y - 0.5f * dy);
            mass += ink;
        }
    }
    mx = 14 - mx / mass + gan__uniform(dice, -0.5f, 0.5f); /* MNIST moves by whole pixels, */
    my = 14 - my / mass + gan__uniform(dice, -0.5f, 0.5f); /* so it is off by up to a half */
    for (int i = 0; i < count; i++) {
        dots[i].x += mx;
        dots[i].y += my;
    }
}

/* Inks the stroke from a to b. How far a pixel lies inside the nib's edge makes it light or
   dark, over about one pixel; taking the darker of old and new keeps joints and crossings from
   adding up. */
static void gan__ink_segment(const gan__dot *a, const gan__dot *b, unsigned char *image)
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
                            1); /* nearest spot, 0 = a, 1 = b */
            float ex = px - t * dx;
            float ey = py - t * dy;
            float inside = a->r + t * (b->r - a->r) - sqrtf(ex * ex + ey * ey);
            int ink = (int)(255 * fminf(fmaxf(0.5f + inside / 1.1f, 0), 1));
            if (ink > image[28 * y + x])
                image[28 * y + x] = (unsigned char)ink;
        }
}

/* Draws digit index of the endless set seed: 28x28 bytes, 0 paper, 255 ink. The label and the
   way of writing it are both even draws. */
static void gan__draw_digit(uint64_t seed, uint32_t index, unsigned char *image,
                            unsigned char *label)
{
    gan__dot knots[GAN__MAX_KNOTS], dots[GAN__MAX_DOTS];
    gan__dice dice = {seed, GAN__STREAM_DIGITS, (uint64_t)index << 8, {0, 0, 0, 0}, 0};
    *label = (unsigned char)gan__uniform(&dice, 0, 10);
    int style = (int)gan__uniform(&dice, 0, 4);
    int count = gan__place_knots(gan__skeletons[*label][style], &dice, knots);
    count = gan__join_knots(knots, count, dots);
    gan__fit_paper(dots, count, &dice);
    memset(image, 0, 28 * 28);
    for (int i = 1; i < count; i++)
        if (dots[i - 1].leave != '/')
            gan__ink_segment(&dots[i - 1], &dots[i], image);
}

/* ---- built-in shapes: a pixel's colour follows from how far it lies from the outline, so edges
   are smooth at any size */

/* How far (x,y) lies outside a shape of radius r around (0,0), in pixels; below 0 inside. A
   polygon of n points is folded into half of one point, between the tip at angle 0 and, at angle
   pi/n, a star's hollow or the middle of an edge: one line is left. */
static float gan__outside(int kind, float r, float turn, float x, float y)
{
    static const int points[4] = {1, 4, 3, 5};
    float far = sqrtf(x * x + y * y);
    float half = 3.14159265f / (float)points[kind];
    float angle = atan2f(y, x) - turn;
    if (kind == 0)
        return far - 0.85f * r;
    angle = fabsf(angle - 2 * half * floorf(angle / (2 * half) + 0.5f));
    float inner = kind == 3 ? 0.45f * r : r * cosf(half);
    float ex = inner * cosf(half) - r;
    float ey = inner * sinf(half);
    float px = far * cosf(angle) - r;
    float py = far * sinf(angle);
    float t = fminf(fmaxf((px * ex + py * ey) / (ex * ex + ey * ey), 0), 1);
    float distance = sqrtf((px - t * ex) * (px - t * ex) + (py - t * ey) * (py - t * ey));
    return ex * py > ey * px ? -distance : distance;
}

static float gan__cover(float outside)
{
    return fminf(fmaxf(0.5f - outside, 0), 1);
} /* how much of a pixel is inside */

static float gan__paint(float under, float colour, float cover)
{
    return under + (colour - under) * cover;
}

static float gan__band(float x, float period)
{
    return fabsf(x - period * (floorf(x / period) + 0.5f));
} /* from a middle */

static void gan__draw_shape(uint64_t seed, uint32_t index, int size, int style,
                            unsigned char *image, unsigned char *label)
{
    gan__dice dice = {seed, GAN__STREAM_SHAPES, (uint64_t)index << 8, {0, 0, 0, 0}, 0};
    int kind = *label = (unsigned char)gan__uniform(&dice, 0, 4);
    float side = (float)size;
    float pen = fmaxf(side / 50, 0.6f);
    float period = fmaxf(side / 8, 3);
    float r = side * gan__uniform(&dice, 0.24f, 0.4f);
    float cx = gan__uniform(&dice, r + pen, side - r - pen);
    float cy = gan__uniform(&dice, r + pen, side - r - pen);
    float turn = gan__uniform(&dice, 0, 6.2831853f);
    float hue = gan__uniform(&dice, 0, 6.2831853f);
    float other = gan__uniform(&dice, 0, 6.2831853f);
    for (int i = 0; i < size * size; i++) {
        float x = (float)(i % size) + 0.5f;
        float y = (float)(i / size) + 0.5f;
        float d = gan__outside(kind, r, turn, x - cx, y - cy);
        float u = gan__band(x, period);
        float v = gan__band(y, period);
        float dot = gan__cover(sqrtf(u * u + v * v) - period / 6);
        float line = gan__cover(fabsf(d) - pen);
        float stripe = gan__cover(gan__band((x + y) * 0.7071068f, period) - period / 4);
        for (int c = 0; c < 3; c++) {
            float ink = 0.5f + 0.45f * cosf(hue - 2.0943951f * (float)c);
            float paper = 0.5f + 0.5f * cosf(other - 2.0943951f * (float)c);
            float cloth = gan__paint(0.08f + 0.12f * paper, 0.3f + 0.2f * paper, dot);
            float weave = gan__paint(0.35f * ink, ink, stripe);
            float level = style == GAN_SHAPES_EDGES ? 1 - line
                        : style == GAN_SHAPES_FILLED
                            ? gan__paint(0.86f + 0.14f * paper, ink, gan__cover(d))
                            : gan__paint(gan__paint(cloth, weave, gan__cover(d)),
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
    if (data->half[0])
        return gan_data_skipped(data->half[0]) + gan_data_skipped(data->half[1]);
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
    if (file && bytes < INT32_MAX && gan__is_picture(path, file, bytes))
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

/* Is image i good, in both halves of a pair? Decodes it, unless that is done, or another thread
   is at it: then it waits for that. */
static bool gan__good(gan_data *data, int i)
{
    if (data->half[0])
        return gan__good(data->half[0], i) && gan__good(data->half[1], i);
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
/* The thread: all of an epoch's pictures in its order, until it is told to stop. */
static void *gan__decode_ahead(void *argument)
{
    gan_data *data = (gan_data *)argument;
    for (int k = 0; k < data->count; k++) {
        gan__lock();
        bool stop = data->stop;
        gan__unlock();
        if (stop)
            break;
        gan__good(data, (int)data->order[(data->start + k) % data->count]);
    }
    return NULL;
}

/* Ends the thread that decodes data's pictures ahead, and begins one if go. If none can be made,
   gan_batch decodes them all. */
static void gan__ahead(gan_data *data, bool go)
{
    gan__lock();
    data->stop = true;
    gan__unlock();
    if (data->threaded)
        pthread_join(data->thread, NULL);
    data->stop = false;
    data->start = (int)(data->drawn % (uint64_t)data->count);
    data->threaded = go && data->lazy &&
                     pthread_create(&data->thread, NULL, gan__decode_ahead, data) == 0;
}
#endif

/* Paths of what lies in a folder. */
typedef struct {
    char **path;
    int count;
    bool failed; /* there was no memory for them all */
} gan__paths;

static int gan__by_path(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* FOLDER/NAME, unless the name begins with a dot. */
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

/* What lies in a folder, sorted by name; false and errno if it is none. */
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

static bool gan__has_picture_name(const char *path)
{
    static const char ends[] = ".png .jpg .jpeg .bmp .tga .gif .ppm .pgm .pnm "
                               ".PNG .JPG .JPEG .BMP .TGA .GIF .PPM .PGM .PNM ";
    const char *dot = strrchr(path, '.');
    const char *end = dot ? strstr(ends, dot) : NULL;
    return end && end[strlen(dot)] == ' ';
}

/* One more picture, whose path data takes over. False: no memory. */
static bool gan__add_picture(gan_data *data, char *path)
{
    gan__picture *pictures = (gan__picture *)gan__try_grow(data->pictures, (size_t)data->count,
                                                           sizeof *pictures);
    data->pictures = pictures ? pictures : data->pictures;
    unsigned char *labels = (unsigned char *)gan__try_grow(data->labels, (size_t)data->count, 1);
    data->labels = labels ? labels : data->labels;
    if (!pictures || !labels)
        return false;
    labels[data->count] = (unsigned char)data->class_count;
    pictures[data->count].path = path;
    pictures[data->count++].state = GAN__WAITING;
    return true;
}

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

/* Of memory or file descriptors: no reason to take a folder for a file. */
static bool gan__is_shortage(int error)
{
    return error == ENOMEM || error == EMFILE || error == ENFILE;
}

static const char gan__no_picture_memory[] = "no memory for its pictures";

/* Adds a folder's pictures to data; or, with classes, its sub-folders, each a class, and the
   pictures in them. NULL, or what is wrong. */
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
static bool gan__good(gan_data *data, int i)
{
    (void)data;
    (void)i;
    return true;
}
#endif
#ifndef GAN__PTHREAD
static void gan__ahead(gan_data *data, bool go)
{
    (void)data;
    (void)go;
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
    data->half[0] = a;
    data->half[1] = b;
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
    while (!gan__good((gan_data *)data, i))
        i = (i + 1) % data->count;
    if (label)
        *label = data->labels ? data->labels[i] : -1;
    if (data->half[0]) {
        gan_data_item(data->half[0], i, image, NULL);
        gan_data_item(data->half[1], i, image + (size_t)data->half[0]->c * data->h * data->w, NULL);
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
        gan__ahead(data, false);
        gan__shuffle(data, epoch);
        gan__ahead(data, true);
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
    gan__changes(g, NULL, data, n);
    if (labels)
        *labels = gan_detach(gan_gather(data->labels_on_device, 0, places));
    return gan_detach(gan_gather(data->on_device, 0, places));
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
    gan_tensor *kept = gan__param_get(model, name, "running_images", 4, size, images->c, images->h,
                                      images->w, 0, 0);
    gan_tensor *counter = gan__param_get(model, name, "running_count", 4, 1, 1, 1, 1, 0, 0);
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
    gan_real *numbers = (gan_real *)gan__workspace(1, (size_t)count * sizeof *numbers);
    gan_random p = {0, (size_t)count, g->seed, GAN__STREAM_DRAW, g->drawn, 1, 0};
    g->drawn += ((size_t)count + 3) / 4;
    gan_ref_random(&p, numbers);
    return numbers;
}

/* A table (N,OUT,1,2) that takes number i of an image's line from start[n] + i, backwards from
   there if flip[n]; outside is 0. */
static gan_tensor *gan__moved(gan *g, int n, int in, int out, const int *start, const int *flip)
{
    gan_real *table = (gan_real *)gan__workspace(0, 2 * (size_t)n * out * sizeof *table);
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

/* Places for each image: rows[n], columns[n], flip[n], in the third workspace; all 0 at first. */
static int *gan__places(int n)
{
    return (int *)memset(gan__workspace(2, 4 * (size_t)n * sizeof(int)), 0,
                         4 * (size_t)n * sizeof(int));
}

GAN_API gan_tensor *gan_random_crop(gan_tensor *x, int h, int w)
{
    gan *g = gan__valid(x, "gan_random_crop");
    if (h < 1 || w < 1 || h > x->h || w > x->w)
        gan__fail(g, "gan_random_crop", "input " GAN__DIMS " has no part of %d x %d", GAN__SHAPE(x),
                  h, w);
    int *row = gan__places(x->n);
    int *column = row + x->n;
    int *none = column + x->n;
    const gan_real *u = gan__host_rand(g, 2 * x->n);
    for (int i = 0; i < x->n; i++) {
        row[i] = (int)(u[2 * i] * (x->h - h + 1));
        column[i] = (int)(u[2 * i + 1] * (x->w - w + 1));
    }
    gan_tensor *rows = gan__moved(g, x->n, x->h, h, row, none);
    return gan__resample(x, rows, gan__moved(g, x->n, x->w, w, column, none));
}

static gan_tensor *gan__augment_color(gan_tensor *x, gan_real p)
{
    gan *g = x->g;
    for (int kind = 0; kind < 3; kind++) {
        gan_tensor *u = gan_rand(g, x->n, 1, 1, 1);
        gan_tensor *chosen = gan__bernoulli("gan_augment", g, x->n, p);
        gan_tensor *y;
        gan_tensor *mean;
        if (kind == 0)
            y = gan_add(x, gan_add_scalar(u, (gan_real)-0.5));
        else {
            mean = kind == 1 ? gan_mean_to(x, x->n, 1, x->h, x->w) : gan_mean_to(x, x->n, 1, 1, 1);
            u = kind == 1 ? gan_mul_scalar(u, 2) : gan_add_scalar(u, (gan_real)0.5);
            y = gan_add(gan_mul(gan_sub(x, mean), u), mean);
        }
        x = gan_add(x, gan_mul(gan_sub(y, x), chosen)); /* y where chosen is 1, x where it is 0 */
    }
    return x;
}

/* 1, and 0 in the hole of each image: half as high and wide, around any pixel. */
static gan_tensor *gan__augment_cutout(gan_tensor *x, gan_real p)
{
    size_t plane = (size_t)x->h * x->w;
    int high = x->h / 2, wide = x->w / 2;
    const gan_real *u = gan__host_rand(x->g, 3 * x->n);
    gan_real *mask = (gan_real *)gan__workspace(0, plane * x->n * sizeof *mask);
    for (size_t i = 0; i < plane * x->n; i++)
        mask[i] = 1;
    for (int n = 0; n < x->n; n++) {
        int top = (int)(u[3 * n] * (x->h + (1 - high % 2))) - high / 2;
        int left = (int)(u[3 * n + 1] * (x->w + (1 - wide % 2))) - wide / 2;
        for (int i = GAN__MAX(top, 0); u[3 * n + 2] < p && i < GAN__MIN(top + high, x->h); i++)
            for (int j = GAN__MAX(left, 0); j < GAN__MIN(left + wide, x->w); j++)
                mask[n * plane + (size_t)i * x->w + j] = 0;
    }
    return gan_mul(x, gan_from_host(x->g, mask, x->n, 1, x->h, x->w));
}

GAN_API gan_tensor *gan_augment(gan_tensor *x, int which, gan_real p)
{
    gan *g = gan__valid(x, "gan_augment");
    if (which & ~15 || !(p >= 0 && p <= 1))
        gan__fail(g, "gan_augment",
                  "kinds %d with probability %g: a sum of GAN_FLIP .. GAN_COLOR, and 0 to 1", which,
                  (double)p);
    if (which & GAN_COLOR)
        x = gan__augment_color(x, p);
    if (which & (GAN_FLIP | GAN_SHIFT)) {
        int *row = gan__places(x->n);
        int *column = row + x->n;
        int *flip = column + x->n;
        int *none = flip + x->n;
        int high = x->h / 8;
        int wide = x->w / 8;
        const gan_real *u = gan__host_rand(g, 5 * x->n);
        for (int n = 0; n < x->n; n++, u += 5) {
            bool shift = (which & GAN_SHIFT) && u[0] < p;
            if (shift) {
                row[n] = (int)(u[1] * (2 * high + 1)) - high;
                column[n] = (int)(u[2] * (2 * wide + 1)) - wide;
            }
            flip[n] = (which & GAN_FLIP) && u[3] < p && u[4] < (gan_real)0.5;
        }
        gan_tensor *rows = gan__moved(g, x->n, x->h, x->h, row, none);
        x = gan__resample(x, rows, gan__moved(g, x->n, x->w, x->w, column, flip));
    }
    return which & GAN_CUTOUT ? gan__augment_cutout(x, p) : x;
}

GAN_API gan_real gan_ada(gan_model *D, gan_tensor *real_logits, gan_real target, double images)
{
    gan__valid(real_logits, "gan_ada");
    gan_tensor *p = gan__param_get(D, "ada", "running_p", 1, 1, 1, 1, 1, 0, 0);
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
        gan__cpu_isa()->pairs(p->d, p->panels[0] + i0 * p->d, p->panels[1] + j0 * p->d, c,
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

/* With A = R^T R, tr (A B)^1/2 is the sum of the roots of the eigenvalues of R B R^T. R's rows
   are A's eigenvectors times the roots of their eigenvalues; those that are rounding, by numpy's
   matrix_rank, are left out. */
GAN_API double gan_frechet_distance(const gan_real *a, int na, const gan_real *b, int nb, int d)
{
    gan__check_rows("gan_frechet_distance", b, nb, d, 2);
    double *x[2] = {gan__features("gan_frechet_distance", a, na, d, 2, true),
                    gan__features("", b, nb, d, 2, true)};
    size_t square = (size_t)d * d, rank = 0;
    double total = 0;
    double *S = (double *)gan__alloc((4 * square + (size_t)d) * sizeof *S);
    double *R = S;
    double *B = R + square;
    double *RB = B + square;
    double *RBR = RB + square, *values = RBR + square;
    for (int side = 0; side < 2; side++) {
        int n = side ? nb : na;
        for (int i = 0; i < d; i++) {
            double mean = 0, *row = x[side] + (size_t)i * n;
            for (int k = 0; k < n; k++)
                mean += row[k] / n;
            for (int k = 0; k < n; k++)
                row[k] -= mean;
            values[i] = side ? values[i] - mean : mean;
        }
        gan__all_pairs(GAN__PAIR_DOT, false, x[side], d, x[side], d, n, S + side * square, 0, NULL);
        for (size_t i = 0; i < square; i++)
            S[side * square + i] /= n - 1;
        GAN_FREE(x[side]);
    }
    for (int i = 0; i < d; i++)
        total += values[i] * values[i] + R[(size_t)i * d + i] + B[(size_t)i * d + i];
    gan_eigen_symmetric(R, d, values);
    for (; rank < (size_t)d && values[rank] > d * DBL_EPSILON * values[0]; rank++)
        for (int k = 0; k < d; k++)
            R[rank * d + k] *= sqrt(values[rank]);
    gan__all_pairs(GAN__PAIR_DOT, false, R, (int)rank, B, d, d, RB, 0, NULL);
    gan__all_pairs(GAN__PAIR_DOT, false, RB, (int)rank, R, (int)rank, d, RBR, 0, NULL);
    gan_eigen_symmetric(RBR, (int)rank, values);
    for (size_t i = 0; i < rank; i++)
        total -= values[i] > 0 ? 2 * sqrt(values[i]) : 0;
    GAN_FREE(S);
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

GAN_API double gan_perceptual_path_length(gan_network *G, gan_model *generator, gan_network *F,
                                          gan_model *features, int latent, int batch, int batches,
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

/* scales 0: PSNR of images; 1: SSIM of planes; 5: MS-SSIM of planes. */
static double gan__likeness(const char *function, gan_tensor *a, gan_tensor *b, double range,
                            int scales, int side)
{
    static const double powers[5] = {0.0448, 0.2856, 0.3001, 0.2363, 0.1333};
    gan__check_same(a, b, function);
    if (!(range > 0))
        gan__fail(a->g, function, "range %g: values from -1 to 1 have range 2", range);
    if (GAN__MIN(a->h, a->w) < side)
        gan__fail(a->g, function, GAN__DIMS ": sides of %d or more are wanted", GAN__SHAPE(a),
                  side);
    int count = scales ? a->n * a->c : a->n;
    int last = GAN__MAX(scales - 1, 0);
    gan_real c1 = (gan_real)(1e-4 * range * range);
    gan_real c2 = (gan_real)(9e-4 * range * range);
    gan_real taps[121];
    gan_real sum = 0;
    double total = 0;
    double *score = (double *)gan__alloc((size_t)count * (sizeof *score + sizeof taps[0]));
    gan_real *mean = (gan_real *)(score + count);
    gan_mark mark = gan_here(a->g);
    for (int i = 0; i < 121; i++)
        sum += taps[i] = (gan_real)exp(((i / 11 - 5) * (i / 11 - 5) + (i % 11 - 5) * (i % 11 - 5)) /
                                       -4.5);
    gan_tensor *window = gan_mul_scalar(gan__constant(a->g, taps, 1, 1, 11, 11), 1 / sum);
    gan_tensor *quarter = gan_full(a->g, 0.25f, 1, 1, 2, 2);
    gan_tensor *x = gan_reshape(a, count, -1, a->h, a->w);
    gan_tensor *y = gan_reshape(b, count, -1, a->h, a->w);
    gan_tensor *s = gan_square(gan_sub(x, y));
    for (int scale = 0; scale <= last; scale++) {
        if (scale > 0) {
            x = gan_conv2d_f(x, quarter, NULL, 2, 0, 1);
            y = gan_conv2d_f(y, quarter, NULL, 2, 0, 1);
        }
        if (scales > 0) {
            gan_tensor *mx = gan_conv2d_f(x, window, NULL, 1, 0, 1);
            gan_tensor *my = gan_conv2d_f(y, window, NULL, 1, 0, 1);
            gan_tensor *mxy = gan_mul(mx, my);
            gan_tensor *mm = gan_add(gan_square(mx), gan_square(my));
            gan_tensor *xy = gan_conv2d_f(gan_mul(x, y), window, NULL, 1, 0, 1);
            gan_tensor *v = gan_sub(
                gan_conv2d_f(gan_add(gan_square(x), gan_square(y)), window, NULL, 1, 0, 1), mm);
            s = gan_div(gan_add_scalar(gan_mul_scalar(gan_sub(xy, mxy), 2), c2),
                        gan_add_scalar(v, c2));
            if (scale == last)
                s = gan_mul(
                    s, gan_div(gan_add_scalar(gan_mul_scalar(mxy, 2), c1), gan_add_scalar(mm, c1)));
        }
        gan_to_host(gan_mean_to(s, count, 1, 1, 1), mean);
        for (int i = 0; i < count; i++) {
            double m = (double)mean[i];
            double factor = scales > 1 ? pow(m < 0 ? 0 : m, powers[scale])
                          : scales     ? m
                                       : 10 * log10(range * range / m);
            score[i] = scale == 0 ? factor : score[i] * factor;
        }
    }
    for (int i = 0; i < count; i++)
        total += score[i] / count;
    gan_clear_to(a->g, mark);
    GAN_FREE(score);
    return total;
}

GAN_API double gan_psnr(gan_tensor *a, gan_tensor *b, double range)
{
    return gan__likeness("gan_psnr", a, b, range, 0, 1);
}

GAN_API double gan_ssim(gan_tensor *a, gan_tensor *b, double range)
{
    return gan__likeness("gan_ssim", a, b, range, 1, 11);
}

GAN_API double gan_ms_ssim(gan_tensor *a, gan_tensor *b, double range)
{
    return gan__likeness("gan_ms_ssim", a, b, range, 5, 176);
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

/* Removes what killed writers have left in the folder of w->temporary, whose text is overwritten. */
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
    gan__kind kind = w->target ? gan__file_kind(w->target, &size, &w->mode) : GAN__UNREADABLE;
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
    double number;
} gan__item; /* tensor NULL: the number, of rank 0 */

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
    for (int d = 0; tensor && d < rank; d++)
        gan__text_add(header, d ? ",%d" : "%d", shape[d + rank % 2]);
    gan__text_add(header, "],\"data_offsets\":[%" PRIu64 ",", list->bytes);
    list->bytes += gan__item_size(tensor, list->half);
    gan__text_add(header, "%" PRIu64 "]}", list->bytes);
    if (tensor)
        list->largest = GAN__MAX(list->largest, gan_count(tensor));
}

/* F16 (IEEE 754 binary16): sign, 5 bits of exponent, 10 of mantissa; below 2^-14 in steps of
   2^-24. To nearest, ties to even. */
static uint16_t gan__to_half(double x)
{
    double size = fabs(x);
    int exponent = -13;
    int bits = size >= 65520 ? 0x7c00 : 0x7e00; /* infinity, not a number */
    if (size >= 1.0 / 16384 && size < 65520)
        frexp(size, &exponent); /* size < 2^exponent, in steps of 2^(exponent - 11) */
    if (size < 65520)
        bits = (exponent + 13) * 1024 + (int)rint(ldexp(size, 11 - exponent));
    return (uint16_t)(bits | (signbit(x) ? 0x8000 : 0));
}

static double gan__from_half(uint16_t bits)
{
    int exponent = bits >> 10 & 31;
    int mantissa = bits & 1023;
    double size = ldexp(exponent ? 1024 + mantissa : mantissa, GAN__MAX(exponent, 1) - 25);
    if (exponent == 31)
        size = mantissa ? NAN : INFINITY;
    return bits & 0x8000 ? -size : size;
}

/* Numbers as F16, in the same place. */
static void gan__halve(gan__writer *w, gan_real *numbers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint16_t bits = gan__to_half((double)numbers[i]);
        bool too_large = (bits & 0x7fff) == 0x7c00 && fabs((double)numbers[i]) <= DBL_MAX;
        gan__write_note(w, !too_large, ERANGE);
        memcpy((char *)numbers + 2 * i, &bits, 2);
    }
}

/* The header's length, the header, the numbers. */
static void gan__list_put(gan__writer *w, gan__list *list, gan_real *numbers)
{
    unsigned char size[8];
    for (int i = 0; i < 8; i++)
        size[i] = (unsigned char)((uint64_t)list->header.length >> 8 * i);
    gan__write(w, size, 8);
    gan__write(w, list->header.at, list->header.length);
    for (int i = 0; i < list->count && !w->failed; i++) {
        gan_tensor *t = list->items[i].tensor;
        if (t)
            gan_to_host(t, numbers);
        if (t && list->half)
            gan__halve(w, numbers, gan_count(t));
        gan__write(w, t ? (void *)numbers : (void *)&list->items[i].number,
                   gan__item_size(t, list->half));
    }
}

/* Writes the file, and frees the list. */
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
        gan__list_put(&w, list, numbers);
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

static bool gan__json_problem(gan__tensors *f, const char *problem)
{
    if (!f->problem)
        f->problem = problem;
    return false;
}

static const char gan__no_memory[] = "no memory for what it holds";

static void gan__json_space(gan__tensors *f)
{
    while (f->at < f->end && *f->at && strchr(" \n\t\r", *f->at))
        f->at++;
}

static bool gan__json_take(gan__tensors *f, char c)
{
    gan__json_space(f);
    return f->at < f->end && *f->at == c && f->at++;
}

static bool gan__json_want(gan__tensors *f, char c)
{
    return gan__json_take(f, c) ||
           gan__json_problem(f, "its header is not the JSON of safetensors");
}

/* The number of \uXXXX, f->at at its u; -1 if there are not four digits. */
static long gan__json_hex(gan__tensors *f)
{
    char digits[5] = {0};
    if (f->end - f->at < 5)
        return -1;
    memcpy(digits, f->at + 1, 4);
    f->at += 4;
    return strspn(digits, "0123456789abcdefABCDEF") == 4 ? strtol(digits, NULL, 16) : -1;
}

/* The character of an escape, f->at at what follows the backslash, as UTF-8 at to: never longer
   than its escape. NULL if there is no such character. */
static char *gan__json_escape(gan__tensors *f, char *to)
{
    static const char from[] = "bfnrt\"\\/";
    static const char into[] = "\b\f\n\r\t\"\\/";
    const char *found = *f->at ? strchr(from, *f->at) : NULL;
    long code = found ? into[found - from] : *f->at == 'u' ? gan__json_hex(f) : -1;
    if (code >= 0xD800 && code < 0xDC00 && f->end - f->at > 2 && f->at[1] == '\\' &&
        f->at[2] == 'u') {
        f->at += 2; /* beyond 16 bits: two escapes make one character */
        long low = gan__json_hex(f);
        code = low >= 0xDC00 && low < 0xE000 ? 0x10000 + (code - 0xD800) * 1024 + low - 0xDC00 : -1;
    }
    if (code < 1 || (code >= 0xD800 && code < 0xE000))
        return NULL;
    int more = code < 0x80    ? 0
             : code < 0x800   ? 1
             : code < 0x10000 ? 2
                              : 3; /* bytes after the first */
    static const unsigned char mark[4] = {0, 0xC0, 0xE0, 0xF0};
    *to++ = (char)(mark[more] | code >> 6 * more);
    while (more-- > 0)
        *to++ = (char)(0x80 | (code >> 6 * more & 0x3F));
    return to;
}

/* A string without its quotes and escapes, in the header's own memory. NULL: there is a problem. */
static char *gan__json_text(gan__tensors *f)
{
    if (!gan__json_want(f, '"'))
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
    if (!gan__json_want(f, '"'))
        return NULL;
    *to = 0;
    return text;
}

/* [a,b,..]: how many whole numbers of 0 or more there are, or -1 if more than most or something
   else. */
static int gan__json_numbers(gan__tensors *f, int64_t *to, int most)
{
    int count = 0;
    if (!gan__json_want(f, '[') || gan__json_take(f, ']'))
        return f->problem ? -1 : 0;
    do {
        int64_t value = 0;
        gan__json_space(f);
        const char *start = f->at;
        for (; f->at < f->end && *f->at >= '0' && *f->at <= '9'; f->at++) {
            if (value > INT64_MAX / 16) {
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
    } while (gan__json_take(f, ','));
    return gan__json_want(f, ']') ? count : -1;
}

/* The next name in an object, its colon taken; NULL at the end, or where there is a problem.
   seen: how many so far. */
static char *gan__json_key(gan__tensors *f, int *seen)
{
    if (f->problem || (!*seen && (!gan__json_want(f, '{') || gan__json_take(f, '}'))))
        return NULL;
    if (*seen && !gan__json_take(f, ',')) {
        gan__json_want(f, '}');
        return NULL;
    }
    *seen = 1;
    char *key = gan__json_text(f);
    return key && gan__json_want(f, ':') ? key : NULL;
}

static bool gan__json_shape(gan__tensors *f, gan__entry *entry)
{
    int64_t size[4] = {0};
    double count = 1;
    entry->rank = gan__json_numbers(f, size, 4);
    bool fits = entry->rank >= 0;
    for (int d = 0; d < 4; d++)
        entry->shape[d] = 1;
    for (int d = 0; d < entry->rank; d++) {
        fits = fits && size[d] >= 1 && size[d] <= INT32_MAX;
        entry->shape[d + entry->rank % 2] = (int)GAN__MIN(size[d], INT32_MAX);
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
    int seen = 0, fields = 0;
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
           (fields == 7 ||
            gan__json_problem(f, "a tensor in its header lacks dtype, shape or data_offsets"));
}

static void gan__json_meta(gan__tensors *f)
{
    int seen = 0;
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

/* The whole header; false: f->problem. */
static bool gan__json_header(gan__tensors *f)
{
    int seen = 0;
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
        memset(&entries[f->count], 0, sizeof *entries);
        entries[f->count].name = key;
        gan__json_entry(f, &entries[f->count++]);
    }
    gan__json_space(f);
    return !f->problem &&
           (f->at == f->end || gan__json_problem(f, "its header goes on after its end"));
}

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

static size_t gan__entry_count(const gan__entry *e)
{
    return (size_t)e->shape[0] * e->shape[1] * e->shape[2] * e->shape[3];
}

/* Tensors lie one behind the other, each as long as its shape says, and fill the file; no name
   stands twice. */
static bool gan__tensors_check(gan__tensors *f)
{
    uint64_t at = 0;
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
        length = gan__little(first) | (uint64_t)gan__little(first + 4) << 32;
    if (length > 100000000)
        return gan__refuse("%s: a header of %.0f bytes; 100 million are the format's limit",
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

/* Is an entry of a type that is read, and of t's shape if t is not NULL? */
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

/* Number i of an entry; bytes are copied, for they may lie anywhere. */
static double gan__entry_number(const gan__tensors *f, const gan__entry *e, size_t i)
{
    const unsigned char *at = f->data + e->begin;
    uint16_t half;
    float single;
    double number;
    if (e->dtype[0] == 'U')
        return at[i];
    if (e->dtype[1] == '6') {
        memcpy(&number, at + i * 8, 8);
        return number;
    }
    if (e->dtype[1] == '3') {
        memcpy(&single, at + i * 4, 4);
        return single;
    }
    memcpy(&half, at + i * 2, 2);
    if (e->dtype[0] == 'F')
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

/* Parameters for a model without any. */
static bool gan__make_params(gan__tensors *f, gan_model *model, const char *of)
{
    bool empty = model->count == 0;
    for (int i = 0; empty && i < f->count; i++) {
        gan__entry *e = &f->entries[i];
        const char *name = gan__name_in(of, e);
        const int *s = e->shape;
        if (!name)
            continue;
        gan__param *param = gan__try_param_new(model, name, e->rank, s[0], s[1], s[2], s[3]);
        if (!param)
            return false;
        e->to = param->value;
        e->made_in = model;
    }
    return true;
}

static void gan__moments_free(const gan_opt *opt, gan__moments *of);
static void gan__model_cut(gan_model *model, int params, int layers);

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
        gan__model_cut(model, 0, model->layer_count);
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
    memset(&list, 0, sizeof list);
    if (gan__planned(gan__valid_model(model, function, path), function))
        return true;
    list.half = half;
    gan__text_add(&list.header, "{\"__metadata__\":{\"format\":\"pt\"}");
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
    int k = 0;
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
    gan__text_add(&list.header, "}");
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

/* A second moment is a mean of squares, steps are a count. */
static bool gan__moment_numbers_fit(const gan__tensors *f, const gan__entry *e, const gan_opt *opt,
                                    int slot)
{
    bool squares = (opt->kind == GAN__ADAM && slot == 1) ||
                   (opt->kind == GAN__RMSPROP && slot == 0);
    if (slot == opt->slots && !gan__is_whole(gan__entry_number(f, e, 0), 9007199254740992.0))
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
    bool steps = slot == opt->slots;
    bool same = of && e->rank == of->rank && memcmp(e->shape, of->shape, sizeof e->shape) == 0;
    bool whole = true;
    for (int s = steps ? 0 : opt->slots; s <= opt->slots; s++) {
        gan__slot_suffix(suffix, opt, s);
        whole = whole && gan__tensors_find_part(f, NULL, e->name, length, suffix);
    }
    if (!of || !whole || (steps ? e->rank != 0 : !same))
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
            for (int s = 0; of && s < opt->slots; s++)
                gan__tensors_find(f, model->name, name, gan__slot_suffix(suffix, opt, s))->to =
                    of->slot[s];
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
            gan__slot_suffix(suffix, opt, opt->slots);
            if (gan__tensors_find(f, model->name, model->params[i].name, suffix))
                continue;
            for (int s = 0; opt->moments[i].slot && s < opt->slots; s++)
                gan__fill_with(opt->moments[i].slot[s], 0);
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
    if (first > 0 && gan__file_kind(csv, &size, NULL) != GAN__MISSING) {
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
    return (size_t)(g->profile_flops[GAN__K_matmul] + g->profile_flops[GAN__K_conv2d] +
                    g->profile_flops[GAN__K_conv_transpose2d] +
                    g->profile_flops[GAN__K_conv2d_weight]);
}

GAN_API void gan_profile(gan *g)
{
    double total = 0;
    for (int k = 0; k < GAN__KERNEL_COUNT; k++)
        total += g->profile_seconds[k];
    printf("%-18s %10s %12s %10s %10s %7s\n", g->backend->name, "calls", "ms", "GFLOP/s", "GB/s",
           "share");
    for (int k;; g->profile_calls[k] = 0) { /* the longest of those that are left */
        k = -1;
        for (int i = 0; i < GAN__KERNEL_COUNT; i++)
            if (g->profile_calls[i] && (k < 0 || g->profile_seconds[i] > g->profile_seconds[k]))
                k = i;
        if (k < 0)
            break;
        double seconds = GAN__MAX(g->profile_seconds[k], 1e-12);
        printf("%-18s %10.0f %12.2f %10.1f %10.1f %6.1f%%\n", gan__kernels[k].name,
               g->profile_calls[k], 1e3 * seconds, g->profile_flops[k] / seconds * 1e-9,
               g->profile_bytes[k] / seconds * 1e-9, 100 * seconds / GAN__MAX(total, 1e-12));
    }
    printf("%-18s %10s %12.2f\n", "total", "", 1e3 * total);
    memset(g->profile_seconds, 0, sizeof g->profile_seconds);
    memset(g->profile_flops, 0, sizeof g->profile_flops);
    memset(g->profile_bytes, 0, sizeof g->profile_bytes);
}

/* ---- gan_close, which knows all of the above */

static void gan__moments_free(const gan_opt *opt, gan__moments *of)
{
    for (int s = 0; of->slot && s < opt->slots; s++)
        gan__persistent_tensor_free(of->slot[s]);
    GAN_FREE(of->slot);
    memset(of, 0, sizeof *of);
}

/* Leaves model its first params and layers. */
static void gan__model_cut(gan_model *model, int params, int layers)
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
    gan__model_cut(model, 0, 0);
    GAN_FREE(model->params);
    GAN_FREE(model->layers);
    GAN_FREE(model->name);
    GAN_FREE(model);
}

static void gan__captures_drop(gan *g, bool all);

GAN_API void gan_close(gan *g)
{
    if (!g)
        return;
    while (g->logs)
        gan_progress_close(g->logs);
    gan__captures_drop(g, true);
    for (gan_model *model = g->models, *next; model; model = next) {
        next = model->next;
        gan__model_free(model);
    }
    for (gan_data *data = g->datas; data; data = data->next)
        gan__ahead(data, false);
    for (gan_data *data = g->datas, *next; data; data = next) {
        next = data->next;
        gan__data_free(data);
    }
    for (int i = 0; i < g->slab_count; i++)
        gan__device_free(g->backend, g->slabs[i].memory);
    for (int i = 0; i < g->structs.count; i++)
        GAN_FREE(g->structs.slabs[i].memory);
    for (int i = 0; i < 3; i++)
        if (g->spare[i])
            gan__device_free(g->other, g->spare[i]);
    for (int i = 0; i < 5; i++)
        if (g->spare_in[i])
            gan__device_free(g->other, g->spare_in[i]);
    GAN_FREE(g->staging[0]);
    GAN_FREE(g->staging[1]);
    GAN_FREE(g->doctor);
    GAN_FREE(g->slabs);
    GAN_FREE(g->structs.slabs);
    GAN_FREE(g->free_blocks);
    GAN_FREE(g->tape);
    GAN_FREE(g->temporaries);
    GAN_FREE(g);
    for (int i = 0; i < 3; i++) {
        GAN_FREE(gan__thread.workspace[i]);
        gan__thread.workspace[i] = NULL;
        gan__thread.workspace_size[i] = 0;
    }
}

/* ===========================================================================================
   >>doctor (implementation)
   =========================================================================================== */
enum {
    GAN__VANISHES,
    GAN__EXPLODES,
    GAN__FAST,
    GAN__NOT_FINITE,
    GAN__CONSTANT,
    GAN__COLLAPSED,
    GAN__WON,
    GAN__DECEIVED,
    GAN__FROZEN,
    GAN__DEAD,
    GAN__CLASSES,
    GAN__ILLNESSES
};

struct gan__doctor {
    int step, looks, told, streak[GAN__ILLNESSES],
        seen[GAN__ILLNESSES]; /* looks in a row that saw the illness, the last of them */
    double weights;           /* of the discriminator: their lengths, summed up at the last look */
    char first[300], text[2048]; /* first: what gan__run saw become not finite in this step */
};

/* The parameter whose numbers lie at data, and its model; or NULL. */
static gan__param *gan__owner(gan *g, const gan_real *data, gan_model **model)
{
    for (*model = g->models; *model; *model = (*model)->next)
        for (int i = 0; i < (*model)->count; i++)
            if ((*model)->params[i].value->data == data)
                return &(*model)->params[i];
    return NULL;
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
        squares += pow((double)host[i] - (from ? from[i] : 0), 2);
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

/* gan_step's call in a step that is looked at: notes the gradient, returns the parameter as it
   still is. */
static gan_real *gan__doctor_before(gan__param *param, const gan_real *gradient)
{
    gan *g = param->value->g;
    param->gradient = gan__length(g, gradient, NULL, gan_count(param->value));
    param->look = g->doctor->looks + 1;
    return gan__on_host(g, param->value->data, gan_count(param->value));
}

static const char *gan__title(gan *g, int k, const void *p)
{
    const char *name = k == GAN__K_zip ? gan__zip_ops[((const gan_zip *)p)->op].name
                                       : gan__kernels[k].name;
    return gan__where(g, k == GAN__K_map ? gan__map_ops[((const gan_map *)p)->op].name : name);
}

/* gan__run's call in a step that is looked at. A copy makes no new numbers, and leaves gaps. */
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

/* Notes an illness in this look. It is told when need looks in a row have seen it, then after
   twice as many, and so on. */
static void gan__complain(gan *g, int illness, int need, const char *format, ...)
{
    struct gan__doctor *d = g->doctor;
    int streak = d->streak[illness] = d->seen[illness] == d->looks - 1 ? d->streak[illness] + 1 : 1;
    int times = streak / need;
    char line[600];
    va_list list;
    d->seen[illness] = d->looks;
    if (streak % need || (times & (times - 1)))
        return;
    va_start(list, format);
    vsnprintf(line, sizeof line, format, list);
    va_end(list);
    size_t used = d->told++ ? strlen(d->text) : 0;
    snprintf(d->text + used, sizeof d->text - used, "doctor, step %d: %s\n", d->step, line);
    printf("%s%s", g->logs && g->logs->terminal ? "\r\033[K" : "", d->text + used);
    fflush(stdout);
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

/* What the discriminator made of x: the first (N,1,1,1) on the tape that comes from x's numbers. */
static gan_tensor *gan__find_logits(gan *g, gan_tensor *x)
{
    uint64_t now = ++g->differentiation;
    for (int i = 0; i < g->tape_count; i++) {
        gan_tensor *t = g->tape[i];
        bool from = t->data == x->data;
        for (int j = 0; j < 3; j++)
            from = from || (t->in[j] && t->in[j]->needs_grad_in == now);
        if (from)
            t->needs_grad_in = now;
        if (from && t->op && !t->stale && t->data != x->data && t->n == x->n &&
            t->c * t->h * t->w == 1)
            return t;
    }
    gan__fail(g, "gan_doctor",
              "no tensor (%d,1,1,1) comes from the images " GAN__DIMS ": hand over the logits",
              x->n, GAN__SHAPE(x));
    return NULL;
}

/* How far an image of the batch t lies from the next, per number (root mean square). */
static double gan__spread(const gan_tensor *t)
{
    size_t count = gan_count(t), size = count / (size_t)t->n;
    double squares = 0;
    gan_real *x = gan__on_host(t->g, t->data, count);
    for (size_t i = size; i < count; i++)
        squares += pow((double)x[i] - x[i - size], 2);
    GAN_FREE(x);
    return sqrt(squares / (double)(count - size));
}

static void gan__doctor_discriminator(gan *g, gan_tensor *real, gan_tensor *fake)
{
    size_t n = gan_count(real);
    size_t m = gan_count(fake);
    size_t jump = 1 + GAN__MAX(n, m) / 512;
    gan_real *x = gan__on_host(g, real->data, n);
    gan_real *y = gan__on_host(g, fake->data, m);
    double a = 0, b = 0, right = 0, pairs = 0, weights = 0;
    bool saturates =
        /* the loss is flat where the discriminator is sure: a sigmoid or softplus of (-)logits */
        false;
    gan_model *model;
    for (size_t i = 0; i < n; i++)
        a += (double)x[i] / (double)n;
    for (size_t j = 0; j < m; j++)
        b += (double)y[j] / (double)m;
    for (size_t i = 0; i < n; i += jump)
        for (size_t j = 0; j < m; j += jump) {
            pairs++;
            right += x[i] > y[j] ? 100 : x[i] == y[j] ? 50 : 0;
        }
    right /= pairs;
    GAN_FREE(x);
    GAN_FREE(y);
    for (int i = 0; i < g->tape_count; i++) {
        const gan_tensor *t = g->tape[i];
        const gan_tensor *in = t->op && t->op->vjp == gan__map_vjp &&
                                       (t->attr[0] == GAN_SOFTPLUS || t->attr[0] == GAN_SIGMOID)
                                 ? t->in[0]
                                 : NULL;
        saturates = saturates || (in && (in == real || in == fake ||
                                         (in->op && (in->in[0] == real || in->in[0] == fake))));
    }
    if (saturates && right > 99 && a - b > 16)
        gan__complain(g, GAN__WON, 3,
                      "the discriminator has won: it tells %.0f%% of all pairs apart, logits %.1f "
                      "against %.1f, and has nothing left to teach. Lower its "
                      "learning rate, train it less often, add R1, or call real images 0.9",
                      right, a, b);
    if (right < 10)
        gan__complain(g, GAN__DECEIVED, 3,
                      "the discriminator takes fakes for real: it is right on %.0f%% of all pairs, "
                      "logits %.1f (real) against %.1f (fake). Are labels "
                      "swapped?",
                      right, a, b);
    gan__layer_of(real, &model);
    for (int i = 0; model && i < model->count; i++)
        if (model->params[i].trainable)
            weights += gan__tensor_length(model->params[i].value);
    if (model && weights == g->doctor->weights)
        gan__complain(g, GAN__FROZEN, 2,
                      "the discriminator does not learn: no parameter of %s has changed since the "
                      "last look. Is its optimizer called, with a rate above 0, "
                      "and the loss made of its logits?",
                      model->name);
    g->doctor->weights = weights;
}

/* The weights that gan_step changed in this step; of each illness the worst is named. A bias may
   be 0, or do nothing before batch norm. */
static void gan__doctor_weights(gan *g)
{
    static const char *say[3] = {
        "the gradient vanishes on its way to %s.%s: it is %.2g times smaller there than where it "
        "is largest. Batch norm, leaky ReLU, fewer layers",
        "the gradient explodes at %s.%s: it is %.2g times as long as the weight. Batch norm, "
        "smaller first weights, a lower learning rate",
        "the learning rate is too high for %s.%s: one update is %.2g of the weight's first length, "
        "0.001 to 0.05 is usual. Divide it by 10"};
    double most[3] = {1e5, 1e3, 0.5}, largest = 0;
    gan__param *worst[3] = {NULL, NULL, NULL};
    const char *of[3];
    for (gan_model *model = g->models; model; model = model->next, largest = 0)
        for (int i = 0; i < 2 * model->count; i++) { /* the second time the largest is known */
            gan__param *p = &model->params[i % model->count];
            double each = p->gradient / sqrt((double)gan_count(p->value));
            double size = GAN__MAX(p->size, sqrt(p->value->n / 3.0)); /* as PyTorch's begin */
            if (p->look != g->doctor->looks || p->rank < 2)
                continue;
            largest = GAN__MAX(largest, each);
            double found[3] = {largest / GAN__MAX(each, 1e-9 * largest), p->gradient / size,
                               p->change / size};
            for (int k = 0; i >= model->count && k < 3; k++)
                if (found[k] > most[k]) {
                    most[k] = found[k];
                    worst[k] = p;
                    of[k] = model->name;
                }
        }
    for (int k = 0; k < 3; k++)
        if (worst[k])
            gan__complain(g, GAN__VANISHES + k, k == 2 ? 2 : 3, say[k], of[k], worst[k]->name,
                          most[k]);
}

/* Channels of a ReLU's result that are 0 for every image and place; one channel alone is a hinge
   loss. */
static void gan__doctor_relus(gan *g)
{
    double worst = 0.5;
    char name[300] = "";
    for (int i = 0; i < g->tape_count; i++) {
        const gan_tensor *t = g->tape[i];
        if (!t->op || t->stale || t->op->vjp != gan__map_vjp || t->attr[0] != GAN_LEAKY ||
            t->real[0] != 0 || t->c == 1)
            continue;
        gan_real *x = gan__on_host(g, t->data, gan_count(t));
        int dead = t->c, size = t->h * t->w;
        for (int c = 0; c < t->c; c++)
            for (int k = 0; k < t->n * size; k++)
                if (x[((size_t)(k / size) * t->c + c) * size + k % size] != 0) {
                    dead--;
                    break;
                }
        GAN_FREE(x);
        if ((double)dead / t->c > worst) {
            worst = (double)dead / t->c;
            gan__doctor_name(t, name);
        }
    }
    if (name[0])
        gan__complain(g, GAN__DEAD, 3,
                      "ReLUs are dead: %.0f%% of the channels of %s are 0 for the whole batch and "
                      "let no gradient through. A lower learning rate, "
                      "leaky ReLU, batch norm before it",
                      100 * worst, name);
}

GAN_API int gan_doctor(gan *g, int step, int every, gan_tensor *real, gan_tensor *fake,
                       gan_tensor *real_logits, gan_tensor *fake_logits)
{
    gan__valid_pair(real, fake, "gan_doctor");
    if (every < 1 || real->n < 2 || fake->n < 2)
        gan__fail(g, "gan_doctor", "it wants every >= 1, not %d, and batches of 2 or more", every);
    if (!real_logits)
        real_logits = gan__find_logits(g, real);
    if (!fake_logits)
        fake_logits = gan__find_logits(g, fake);
    if (gan__planned(g, "gan_doctor"))
        return 0;
    gan_model *model = g->doctor ? NULL : g->models;
    if (!g->doctor)
        g->doctor = (struct gan__doctor *)gan__alloc_zero(sizeof *g->doctor);
    for (; model; model = model->next)
        for (int i = 0; i < model->count; i++)
            model->params[i].size = gan__tensor_length(model->params[i].value);
    struct gan__doctor *d = g->doctor;
    bool finite = gan__finite(real_logits) && gan__finite(fake_logits);
    for (model = g->models; model;
         model =
             model->next) /* an infinity that no weight meets, as in clamp(log 0), does no harm */
        for (int i = 0; i < model->count; i++)
            finite = finite &&
                     (model->params[i].look <= d->looks || model->params[i].change <= DBL_MAX);
    d->step = step;
    d->told = 0;
    d->looks += !finite || step % every == 0;
    for (int i = 0; !finite && i < g->tape_count && !d->first[0]; i++)
        if (!g->tape[i]->stale && !gan__owner(g, g->tape[i]->data, &model) &&
            !gan__finite(g->tape[i]))
            gan__doctor_name(g->tape[i], d->first);
    if (!finite && !gan__finite(real))
        gan__complain(g, GAN__NOT_FINITE, 1,
                      "the data itself is not finite: a batch holds NaN or infinity. How is it "
                      "read and scaled?");
    else if (!finite)
        gan__complain(g, GAN__NOT_FINITE, 1,
                      "numbers are not finite, first in %s. Go back to a saved state; lower the "
                      "learning rate; look for a logarithm, root or "
                      "quotient of 0",
                      d->first);
    else if (step % every == 0) {
        double apart = gan__spread(real), fakes = gan__spread(fake);
        if (apart < 1e-3)
            gan__complain(g, GAN__CONSTANT, 1,
                          "the images of the data are all the same: two differ by %.2g. How are "
                          "they read and scaled?",
                          apart);
        else if (fakes < 0.1 * apart)
            gan__complain(g, GAN__COLLAPSED, 3,
                          "the generator has collapsed: two fakes differ by %.2g, two real images "
                          "by %.2g. Lower its learning rate, try R1 "
                          "or batch norm, or start anew",
                          fakes, apart);
        gan__doctor_discriminator(g, real_logits, fake_logits);
        gan__doctor_weights(g);
        gan__doctor_relus(g);
    }
    d->first[0] = 0;
    g->look = (step + 1) % every == 0;
    return d->told;
}

GAN_API int gan_doctor_classes(gan *g, gan_tensor *scores)
{
    char list[200] = "";
    int missing = 0;
    int k = gan__valid(scores, "gan_doctor_classes") ? scores->c : 0;
    if (scores->n < 10 * k || scores->h * scores->w != 1)
        gan__fail(g, "gan_doctor_classes", "the scores " GAN__DIMS " must be (N,K,1,1), N >= 10*K",
                  GAN__SHAPE(scores));
    if (g->plan || !g->doctor)
        return 0;
    gan_real *x = gan__on_host(g, scores->data, gan_count(scores));
    for (int c = 0, found = 0; c < k; c++, found = 0) {
        for (int i = 0, j; i < scores->n && !found; i++, found = j == k)
            for (j = 0; j < k && x[i * k + j] <= x[i * k + c];)
                j++;
        if (!found && ++missing <= 20)
            snprintf(list + strlen(list), sizeof list - strlen(list), " %d", c);
    }
    GAN_FREE(x);
    if (missing)
        gan__complain(g, GAN__CLASSES, 1,
                      "the generator leaves out %d of %d classes in %d fakes:%s. Train longer, or "
                      "make the class an input",
                      missing, k, scores->n, list);
    return missing;
}

GAN_API const char *gan_doctor_text(const gan *g)
{
    return g->doctor ? g->doctor->text : "";
}

/* ===========================================================================================
   >>plan (implementation)
   ===========================================================================================
   While there is g->plan, gan__run notes a kernel in place of running it; memory is taken and
   given back as ever. What a step changes without a kernel is kept and put back, what it makes
   is freed. */

struct gan__plan {
    uint64_t *kept; /* a word for each number, in the order of gan__plan_walk */
    gan_mark mark;
    int at, kernels;
    bool undo, listing;
    double params, adds, all_adds, bytes,
        held; /* from here on: the row being noted, and the sum of all adds */
    const gan_tensor *result;
    char name[160], shape[64];
};

#define GAN__KEEP(field) gan__keep(g->plan, &(field), sizeof(field))

static void gan__keep(struct gan__plan *plan, void *field, size_t size)
{
    if (!plan->undo)
        plan->kept = (uint64_t *)gan__grow(plan->kept, (size_t)plan->at, sizeof *plan->kept);
    if (plan->undo)
        memcpy(field, &plan->kept[plan->at++], size);
    else
        memcpy(&plan->kept[plan->at++], field, size);
}

/* Keeps what a step may change, or puts it back. */
static void gan__plan_walk(gan *g, bool undo)
{
    g->plan->undo = undo;
    g->plan->at = 0;
    GAN__KEEP(g->drawn);
    for (gan_data *data = g->datas; data; data = data->next)
        GAN__KEEP(data->drawn);
    for (gan_model *model = g->models; model; model = model->next) {
        int params = model->count, layers = model->layer_count;
        GAN__KEEP(model->mode);
        GAN__KEEP(model->weights);
        GAN__KEEP(model->rate);
        GAN__KEEP(params);
        GAN__KEEP(layers);
        for (gan_opt *opt = model->opts; opt; opt = opt->next) {
            int count = opt->count;
            GAN__KEEP(count);
            GAN__KEEP(opt->lr);
            for (int i = 0; i < opt->count; i++) {
                gan__moments *of = &opt->moments[i];
                if (i < count)
                    GAN__KEEP(of->steps);
                if (i >= count || of->steps <= 0)
                    gan__moments_free(opt, of);
            }
            opt->count = count;
        }
        for (int i = 0; i < model->count; i++) {
            gan__buffer *gradient = model->params[i].value->gradient;
            if (gradient && gradient->references) {
                gan__give_numbers(g, gradient->block);
                gradient->references = 0;
                g->gradients--;
            }
        }
        gan__model_cut(model, params, layers);
    }
}

static void gan__plan_end(gan *g)
{
    if (g->recorded) {
        g->backend->forget(g->backend->recorded());
        g->recorded = NULL;
    }                               /* ended by an error */
    gan_clear_to(g, g->plan->mark); /* views of parameters go before them */
    gan__plan_walk(g, true);
    GAN_FREE(g->plan->kept);
    GAN_FREE(g->plan);
    g->plan = NULL;
    gan__thread.planning = NULL;
}

static void gan__plan_row(struct gan__plan *r)
{
    if (r->kernels)
        printf("%-44s %-20s %11.0f %15.0f %11.1f %11.1f\n", r->name, r->shape, r->params, r->adds,
               r->bytes / 1024, r->held / 1024);
    r->all_adds += r->adds;
    r->params = r->adds = r->bytes = r->held = 0;
    r->kernels = 0;
}

/* The kernels of one layer, of one result, of one gan_backward or gan_step are one row. */
static void gan__plan_note(gan *g, int k, const void *p, const gan__cost *cost,
                           const gan_real *const *x, const gan_real *y)
{
    struct gan__plan *r = g->plan;
    const gan_tensor *top = g->tape_count && !g->reclaiming ? g->tape[g->tape_count - 1] : NULL;
    gan_model *model = NULL, *other;
    double params = 0;
    char name[160];
    if (!r->listing)
        return;
    if (top && !g->where[0] && top->data != y)
        top = NULL;
    for (int in = gan__kernels[k].in, i = in; i >= 0 && !g->reclaiming; i--) {
        gan__param *param = gan__owner(g, i < in ? x[i] : y, &other);
        if (param) {
            model = other;
            params += param->trainable ? (double)gan_count(param->value) : 0;
        }
        if (param && i == in)
            break; /* what changes a parameter reads it too */
    }
    const char *title = g->reclaiming ? "gan_backward" : gan__title(g, k, p);
    snprintf(name, sizeof name, "%s%s%s", model ? model->name : "", model ? " " : "", title);
    bool same = strcmp(r->name, name) == 0 ||
                (g->where[0] && strstr(r->name, title) && (!model || strcmp(r->name, title) == 0));
    if (!(top && r->result == top) && !((g->where[0] || !top) && same))
        gan__plan_row(r);
    if (model || !r->kernels)
        strcpy(r->name, name);
    r->result = top;
    r->kernels++;
    r->params += params;
    r->held = GAN__MAX(r->held, (double)g->held);
    snprintf(r->shape, sizeof r->shape, "%d kernels", r->kernels);
    if (top) {
        snprintf(r->shape, sizeof r->shape, GAN__DIMS, GAN__SHAPE(top));
        r->bytes = (double)gan_count(top) * sizeof(gan_real);
    }
    if (gan__products_summed(k) == 2)
        r->adds += cost->flops / 2;
}

GAN_API size_t gan_plan(gan *g, gan_step_fn *step, void *user)
{
    if (!g || !step || g->plan || g->gradients)
        gan__fail(g, "gan_plan",
                  "it wants a device, a function, no other plan, and no gradient that waits for "
                  "gan_step");
    size_t before = g->peak, peak;
    double params = 0;
    g->plan = (struct gan__plan *)gan__alloc_zero(sizeof *g->plan);
    gan__thread.planning = g;
    g->plan->mark = gan_here(g);
    gan__plan_walk(g, false);
    g->peak = g->held;
    step(g, user);
    gan_clear_to(g, g->plan->mark);
    printf("%-44s %-20s %11s %15s %11s %11s\n", "operation", "result (N,C,H,W)", "parameters",
           "multiply-adds", "its KiB", "held KiB");
    g->plan->listing = true;
    step(g, user);
    gan_clear_to(g, g->plan->mark);
    gan__plan_row(g->plan);
    for (gan_model *model = g->models; model; model = model->next)
        params += (double)gan_param_count(model);
    printf("%-44s %-20s %11.0f %15.0f %11s %11.1f\n", "total, peak", "", params, g->plan->all_adds,
           "", (double)g->peak / 1024);
    printf("%-44s %72.1f\n", "of it parameters and optimizer state", (double)g->held / 1024);
    peak = g->peak;
    g->peak = GAN__MAX(before, peak);
    gan__plan_end(g);
    return peak;
}

/* A step is recorded inside a plan, so that nothing shows if it cannot be. changes: what is
   other in each play, where the backend noted it: the sizes of an update of parameter n, the
   places of a batch of n, or the sizes of random numbers. */
typedef struct {
    void *noted;
    gan_opt *opt;
    gan_data *data;
    int n;
} gan__change;

struct gan__capture {
    gan_step_fn *step;
    void *user, *recording;
    const char *why; /* it cannot be recorded */
    int calls, count;
    gan__change *changes;
    uint64_t drawn, draws; /* g->drawn at the last play; how much a step adds to it */
    struct gan__capture *next;
};

/* A plan or a recording is under way, and function is no part of either. */
static bool gan__planned(gan *g, const char *function)
{
    if (g->recorded && !g->recorded->why)
        g->recorded->why = function;
    return g->plan != NULL;
}

static void gan__changes(gan *g, gan_opt *opt, gan_data *data, int n)
{
    struct gan__capture *c = g->recorded;
    if (!c)
        return;
    gan__change change = {g->backend->noted(), opt, data, n};
    c->changes = (gan__change *)gan__grow(c->changes, (size_t)c->count, sizeof change);
    c->changes[c->count++] = change;
}

static void gan__captures_drop(gan *g, bool all)
{
    for (struct gan__capture *c = g->captures, *next; c; c = next) {
        if (c->recording)
            g->backend->forget(c->recording);
        GAN_FREE(c->changes);
        c->recording = NULL;
        c->changes = NULL;
        c->count = 0;
        c->calls = c->why ? 2 : 0;
        next = c->next;
        if (all)
            GAN_FREE(c);
    }
    memset(&g->floor, 0, sizeof g->floor);
    g->recordings = 0;
}

static void gan__capture_record(gan *g, struct gan__capture *c)
{
    g->plan = (struct gan__plan *)gan__alloc_zero(sizeof *g->plan);
    gan__thread.planning = g;
    g->plan->mark = gan_here(g);
    gan__plan_walk(g, false);
    g->recorded = c;
    c->drawn = g->drawn;
    g->backend->record();
    c->step(g, c->user);
    if (g->gradients)
        gan__planned(g, "a gradient that waits for gan_step");
    c->draws = g->drawn - c->drawn;
    c->recording = g->backend->recorded();
    g->recorded = NULL;
    if (!c->recording && !c->why)
        c->why = "the device gives no reason";
    if (!c->why) {
        g->plan->mark = g->floor = gan_here(g);
        g->recordings++;
    } else {
        fprintf(stderr, "gan_capture: the step is called each time, as it cannot be recorded: %s\n",
                c->why);
        g->backend->forget(c->recording);
        c->recording = NULL;
    }
    gan__plan_end(g);
}

GAN_API void gan_capture(gan *g, gan_step_fn *step, void *user)
{
    if (!g || !step || g->plan || g->gradients)
        gan__fail(
            g, "gan_capture",
            "it wants a device, a function, no plan, and no gradient that waits for gan_step");
    struct gan__capture *c = g->captures;
    while (c && c->user != user)
        c = c->next;
    if (!c) {
        c = (struct gan__capture *)gan__alloc_zero(sizeof *c);
        c->step = step;
        c->user = user;
        c->next = g->captures;
        g->captures = c;
    }
    if (c->step != step || g->look) {
        c->why = c->step == step ? c->why : NULL;
        gan__captures_drop(g, false);
        c->step = step;
    }
    gan_clear(g);
    if (g->backend->play && !g->other && c->calls < 2 && c->calls++ == 1)
        gan__capture_record(g, c);
    if (!c->recording) {
        step(g, user);
        return;
    }
    for (int i = 0; i < c->count; i++) {
        gan__change *at = &c->changes[i];
        gan_random *random = (gan_random *)at->noted;
        if (at->opt)
            *(gan_update *)at->noted = gan__update_of(at->opt, at->n,
                                                      ++at->opt->moments[at->n].steps);
        else if (at->data)
            for (int k = 0; k < at->n; k++)
                ((gan_real *)at->noted)[k] = (gan_real)gan__next_item(at->data);
        else {
            random->seed = g->seed;
            random->index += g->drawn - c->drawn;
        }
    }
    c->drawn = g->drawn;
    g->drawn += c->draws;
    g->backend->play(c->recording);
}

#ifdef __cplusplus
}
#endif
#endif /* GAN_IMPLEMENTATION */

/* ===========================================================================================
   The inner loops, compiled once per instruction set (see GAN__ISA above)
   ===========================================================================================
   Plain loops that the compiler vectorises, but for the micro-kernel of the matrix product,
   which keeps its tile in vector registers. The options below are this section's own, whatever
   the program is compiled with: contraction of a*b + c into one operation, and the vectoriser.
   Sums are kept in a fixed number of lanes, so that their order is the same everywhere. Macros
   that read the same every time stay defined. */
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
typedef gan_real GAN__ISA(vector) __attribute__((vector_size(GAN__BYTES)));
typedef gan_real GAN__ISA(loose)
    __attribute__((vector_size(GAN__BYTES), aligned(sizeof(gan_real)), may_alias));
#define GAN__VEC      GAN__ISA(vector)
#define GAN__AT(p, i) (*(GAN__ISA(loose) *)((p) + (i)*GAN__LANES))

#define GAN__ZERO(r) GAN__VEC c##r##0 = {0}, c##r##1 = {0}, c##r##2 = {0};
#define GAN__STEP(r) c##r##0 += a[r] * b0, c##r##1 += a[r] * b1, c##r##2 += a[r] * b2;
#define GAN__SAVE(r)                                                    \
    if (add)                                                            \
        c##r##0 += GAN__AT(c, 3 * r), c##r##1 += GAN__AT(c, 3 * r + 1), \
            c##r##2 += GAN__AT(c, 3 * r + 2);                           \
    GAN__AT(c, 3 * r) = c##r##0, GAN__AT(c, 3 * r + 1) = c##r##1, GAN__AT(c, 3 * r + 2) = c##r##2;

static void GAN__ISA(tile)(int depth, const gan_real *a, const gan_real *b, gan_real *c, bool add)
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
typedef gan_real GAN__ISA(loose16)
    __attribute__((vector_size(4 * sizeof(gan_real)), aligned(sizeof(gan_real)), may_alias));
typedef gan_real GAN__ISA(loose32)
    __attribute__((vector_size(8 * sizeof(gan_real)), aligned(sizeof(gan_real)), may_alias));
typedef gan_real GAN__ISA(loose64)
    __attribute__((vector_size(16 * sizeof(gan_real)), aligned(sizeof(gan_real)), may_alias));
#define GAN__SHUFFLE(type, dst, src, second, ...)                                                \
    *(GAN__ISA(loose##type) *)(dst) = __builtin_shufflevector(                                   \
        *(const GAN__ISA(loose##type) *)(src), *(const GAN__ISA(loose##type) *)((src) + second), \
        __VA_ARGS__)
#endif
#endif
#else
#define GAN__ROWS    4
#define GAN__COLUMNS 12

static void GAN__ISA(tile)(int depth, const gan_real *a, const gan_real *b, gan_real *c, bool add)
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
static void GAN__ISA(pack_left)(const gan_real *src, ptrdiff_t row_stride,
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
static inline GAN__INLINE void GAN__ISA(copy_line)(gan_real *dst, const gan_real *src, int step,
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

/* One run of n positions in a line of the grid, from (i, j) on: rows k .. k+depth of the window
   into panel. A tap that reaches over the border of the image is read over it where the tensor
   has numbers there, and the border's zeros are written after. */
static inline GAN__INLINE void GAN__ISA(pack_run)(const gan__window *s, const gan_real *plane,
                                                  int i, int j, int n, int k, int depth,
                                                  gan_real *dst)
{
    int taps = s->tu * s->tv;
    int channel = k / taps;
    int u = k % taps / s->tv;
    int v = k % s->tv;
    int step = s->step;
    plane += (ptrdiff_t)channel * s->h * s->w;
    for (int left = depth; left > 0;) {
        int line = i * step + s->u0 + u * s->dir;
        int part = GAN__MIN(s->tv - v, left);
        int first = j * step + s->v0 + v * s->dir;
        const gan_real *row = plane + (ptrdiff_t)line * s->w;
        for (int t = 0; t < part; t++, first += s->dir, dst += GAN__COLUMNS) {
            int last = first + (n - 1) * step;
            if (line < 0 || line >= s->h)
                for (int q = 0; q < n; q++)
                    dst[q] = 0;
            else if (first >= 0 && last < s->w)
                GAN__ISA(copy_line)(dst, row + first, step, n);
            else if (row + first >= s->src && row + last < s->end) {
                GAN__ISA(copy_line)(dst, row + first, step, n);
                for (int q = 0; q < n && first + q * step < 0; q++)
                    dst[q] = 0;
                for (int q = n - 1; q >= 0 && first + q * step >= s->w; q--)
                    dst[q] = 0;
            } else
                for (int q = 0; q < n; q++)
                    dst[q] = first + q * step >= 0 && first + q * step < s->w
                               ? row[first + q * step]
                               : 0;
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
static void GAN__ISA(pack_window)(const gan__window *s, int column, int columns, int k, int depth,
                                  gan_real *panel)
{
    for (int n; columns > 0; columns -= n, column += n, panel += n) {
        int i = column / s->cols % s->rows, j = column % s->cols;
        const gan_real *image = s->src + column / (s->rows * s->cols) * s->image;
        n = GAN__MIN(s->cols - j, columns);
        switch (n) {
#define GAN__RUN(length) \
    case length: GAN__ISA(pack_run)(s, image, i, j, length, k, depth, panel); break
            GAN__RUN(4);
            GAN__RUN(7);
            GAN__RUN(8);
            GAN__RUN(14);
            GAN__RUN(16);
            GAN__RUN(32);
        default: GAN__ISA(pack_run)(s, image, i, j, n, k, depth, panel);
        }
    }
}

/* The transpose: rows are positions k .. k+depth of the grid, columns (channel, u, v).
   Neighbouring v are neighbours in memory. */
static void GAN__ISA(pack_window_t)(const gan__window *s, int column, int columns, int k, int depth,
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
            int line = i * s->step + s->u0 + u * s->dir;
            int at = j * s->step + s->v0 + v * s->dir;
            part = GAN__MIN(s->tv - v, columns - q);
            const gan_real *row = s->src + image * s->image +
                                  ((ptrdiff_t)channel * s->h + line) * s->w;
            gan_real *dst = panel + (size_t)done * GAN__COLUMNS + q;
            for (int t = 0; t < run; t++, at += s->step, dst += GAN__COLUMNS) {
                if (line < 0 || line >= s->h)
                    for (int e = 0; e < part; e++)
                        dst[e] = 0;
                else if (at >= 0 && at + part <= s->w && part == 4 && s->dir == 1)
                    memcpy(dst, row + at, 4 * sizeof *dst);
                else
                    for (int e = 0, f = at; e < part; e++, f += s->dir)
                        dst[e] = f >= 0 && f < s->w ? row[f] : 0;
            }
        }
    }
}

/* panel (depth, COLUMNS) = rows k .. k+depth and columns column .. column+columns of the right
   matrix; the rest of a row is 0. */
static void GAN__ISA(pack_right)(const gan__matrix_source *right, int column, int columns, int k,
                                 int depth, gan_real *panel)
{
    if (depth == 0)
        return; /* a phase that no tap reaches */
    if (columns < GAN__COLUMNS)
        memset(panel, 0, (size_t)depth * GAN__COLUMNS * sizeof *panel);
    if (right->kind == GAN__WINDOW)
        GAN__ISA(pack_window)(&right->window, column, columns, k, depth, panel);
    else if (right->kind == GAN__WINDOW_T)
        GAN__ISA(pack_window_t)(&right->window, column, columns, k, depth, panel);
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
static void GAN__ISA(store)(const gan_real *tile, int rows, int columns, gan_real *dst,
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

/* ---- elementwise */

/* e^x, tanh and the square root in forms that compilers vectorise, to about 2 units in the last
   place (polynomials: Cephes, S. Moshier). e^x is 2^n times a polynomial of what is left, and 0
   where that is not normal; tanh has its own polynomial near 0, where 1 - small cancels; the
   root is Newton's from a guess at the bits, for numbers that are not negative. */
#if GAN__SIZE == 4
static inline GAN__INLINE float GAN__ISA(bits)(int32_t n)
{
    float x;
    memcpy(&x, &n, sizeof x);
    return x;
}

static inline GAN__INLINE float GAN__ISA(exp)(float x)
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
    y = y * GAN__ISA(bits)((half + 127) * (1 << 23)) * GAN__ISA(bits)((n - half + 127) * (1 << 23));
    y = x < -87.33654f ? 0 : x > 88.72284f ? (float)HUGE_VAL : y;
    return x != x ? x : y;
}

static inline GAN__INLINE float GAN__ISA(tanh)(float x)
{
    float z = x * x;
    float size = x < 0 ? -x : x;
    float far = 1 - 2 / (GAN__ISA(exp)(2 * size) + 1);
    float near = ((((-5.70498872745e-3f * z + 2.06390887954e-2f) * z - 5.37397155531e-2f) * z +
                   1.33314422036e-1f) *
                      z -
                  3.33332819422e-1f) *
                     z * x +
                 x;
    return size < 0.625f ? near : x < 0 ? -far : far;
}

static inline GAN__INLINE float GAN__ISA(root)(float x)
{
    uint32_t i; /* without a sign: -0 and NaN must not overflow below */
    memcpy(&i, &x, sizeof i);
    float y = GAN__ISA(bits)((int32_t)(0x5f3759df - (i >> 1))); /* about 1/sqrt(x) */
    float half = 0.5f * x;
    y = y * (1.5f - half * y * y);
    y = y * (1.5f - half * y * y);
    y = y * (1.5f - half * y * y);
    float root = x * y;
    return x <= FLT_MAX ? root + 0.5f * y * (x - root * root) : x;
}
#else
static inline GAN__INLINE double GAN__ISA(exp)(double x)
{
    return exp(x);
}

static inline GAN__INLINE double GAN__ISA(tanh)(double x)
{
    return tanh(x);
}

static inline GAN__INLINE double GAN__ISA(root)(double x)
{
    return sqrt(x);
}
#endif

#define GAN__EACH(expression)          \
    for (size_t i = 0; i < n; i++) {   \
        gan_real v = x[i];             \
        y[i] = (gan_real)(expression); \
    }                                  \
    break

static void GAN__ISA(map)(const gan_map *p, const gan_real *x, gan_real *y, size_t n)
{
    const gan_real a = p->a, b = p->b;
    switch (p->op) {
    case GAN_AFFINE: GAN__EACH(a * v + b);
    case GAN_EXP: GAN__EACH(GAN__ISA(exp)(v));
    case GAN_LOG: GAN__EACH(GAN__F(log, v));
    case GAN_SQRT: GAN__EACH(GAN__F(sqrt, v));
    case GAN_RSQRT: GAN__EACH(1 / GAN__F(sqrt, v));
    case GAN_SQUARE: GAN__EACH(v * v);
    case GAN_ABS: GAN__EACH(v < 0 ? -v : v + 0);
    case GAN_SIGN: GAN__EACH((v > 0) - (v < 0));
    case GAN_CLAMP: GAN__EACH(v < a ? a : v > b ? b : v);
    case GAN_LEAKY: GAN__EACH(v > 0 ? v : a * v);
    case GAN_TANH: GAN__EACH(GAN__ISA(tanh)(v));
    case GAN_SIGMOID: GAN__EACH(1 / (1 + GAN__ISA(exp)(-v)));
    case GAN_SOFTPLUS: GAN__EACH((v > 0 ? v : 0) + GAN__F(log1p, GAN__F(exp, v > 0 ? -v : v)));
    case GAN_ERF: GAN__EACH(GAN__F(erf, v));
    }
}

#undef GAN__EACH

#define GAN__EACH(expression)            \
    if (a_step && b_step)                \
        for (size_t i = 0; i < n; i++) { \
            gan_real u = a[i], v = b[i]; \
            y[i] = expression;           \
        }                                \
    else if (a_step) {                   \
        gan_real v = b[0];               \
        for (size_t i = 0; i < n; i++) { \
            gan_real u = a[i];           \
            y[i] = expression;           \
        }                                \
    } else if (b_step) {                 \
        gan_real u = a[0];               \
        for (size_t i = 0; i < n; i++) { \
            gan_real v = b[i];           \
            y[i] = expression;           \
        }                                \
    } else {                             \
        gan_real u = a[0], v = b[0];     \
        for (size_t i = 0; i < n; i++)   \
            y[i] = expression;           \
    }                                    \
    break

static void GAN__ISA(zip)(const gan_zip *p, const gan_real *a, int a_step, const gan_real *b,
                          int b_step, gan_real *y, size_t n)
{
    const gan_real k = p->k, l = p->l;
    switch (p->op) {
    case GAN_MIX: GAN__EACH(k * u + l * v);
    case GAN_MUL: GAN__EACH(u * v);
    case GAN_DIV: GAN__EACH(u / v);
    case GAN_GATE: GAN__EACH(v > 0 ? u : k * u);
    case GAN_INSIDE: GAN__EACH(v >= k && v <= l ? u : 0);
    case GAN_DTANH: GAN__EACH(u * (1 - v * v));
    case GAN_DSIGMOID: GAN__EACH(u * v * (1 - v));
    case GAN_EQUAL: GAN__EACH((gan_real)(u == v));
    }
}

#undef GAN__EACH

/* ---- sums over rows of n numbers that lie stride apart: 16 lanes in the working precision,
   folded into double every 1024 numbers */

#if GAN__BYTES > 0
typedef gan_real GAN__ISA(lanes)
    __attribute__((vector_size(16 * sizeof(gan_real)), aligned(sizeof(gan_real)), may_alias));
#define GAN__WIDE 16
#define GAN__FOLD(total, lane)   \
    for (int j = 0; j < 16; j++) \
    (total) += (lane)[j]
#define GAN__TAKE(p) (*(const GAN__ISA(lanes) *)(p))
#else
typedef double GAN__ISA(lanes);
#define GAN__WIDE              1
#define GAN__FOLD(total, lane) (total) += (lane)
#define GAN__TAKE(p)           (double)*(p)
#endif

/* Returns the sum of gy, or if square of (x - center)^2; if weigh, *weighted = sum of gy * (x -
   center). Both are constants. */
static inline GAN__INLINE double GAN__ISA(lane_sums)(bool square, bool weigh, const gan_real *gy,
                                                     const gan_real *x, size_t rows,
                                                     ptrdiff_t stride, size_t n, gan_real center,
                                                     double *weighted)
{
    const GAN__ISA(lanes) zero = {0};
    GAN__ISA(lanes) one = zero, two = zero, d;
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

static double GAN__ISA(sum)(const gan_real *x, size_t rows, ptrdiff_t stride, size_t n)
{
    return GAN__ISA(lane_sums)(false, false, x, x, rows, stride, n, 0, NULL);
}

static double GAN__ISA(squares)(const gan_real *x, size_t rows, ptrdiff_t stride, size_t n,
                                gan_real center)
{
    return GAN__ISA(lane_sums)(true, false, x, x, rows, stride, n, center, NULL);
}

/* sums[0] = sum of gy, sums[1] = sum of gy * (x - mean) */
static void GAN__ISA(two_sums)(const gan_real *gy, const gan_real *x, size_t rows, ptrdiff_t stride,
                               size_t n, gan_real mean, double sums[2])
{
    sums[0] = GAN__ISA(lane_sums)(false, true, gy, x, rows, stride, n, mean, &sums[1]);
}

/* y[j] = sum over rows of x[row*row_stride + j] */
static void GAN__ISA(add_rows)(const gan_real *x, size_t rows, ptrdiff_t row_stride, gan_real *y,
                               size_t n)
{
    for (size_t j = 0; j < n; j++)
        y[j] = 0;
    for (size_t r = 0; r < rows; r++, x += row_stride)
        for (size_t j = 0; j < n; j++)
            y[j] += x[j];
}

static void GAN__ISA(scale_shift)(const gan_real *x, gan_real scale, gan_real shift, gan_real *y,
                                  size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = scale * x[i] + shift;
}

/* gx = a*gy + b*(x - mean) + c */
static void GAN__ISA(blend)(const gan_real *gy, const gan_real *x, gan_real mean, gan_real a,
                            gan_real b, gan_real c, gan_real *gx, size_t n)
{
    for (size_t i = 0; i < n; i++)
        gx[i] = a * gy[i] + (b * (x[i] - mean) + c);
}

/* y = k*x, or y += k*x */
static void GAN__ISA(add_scaled)(const gan_real *x, gan_real k, gan_real *y, size_t n, bool add)
{
    if (add)
        for (size_t i = 0; i < n; i++)
            y[i] += k * x[i];
    else
        for (size_t i = 0; i < n; i++)
            y[i] = k * x[i];
}

/* y[j] = sum over taps of weight[t*apart + j] * x[index[t*apart + j]] */
static void GAN__ISA(take)(const gan_real *x, const int *index, const gan_real *weight, int taps,
                           int apart, gan_real *y, int n)
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
static void GAN__ISA(take_even)(const gan_real *x, int in, const int *index, const gan_real *weight,
                                int taps, int apart, int phases, int step, gan_real *room,
                                gan_real *y, int n)
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
                GAN__ISA(add_scaled)(from, k, part[f], (size_t)n, any);
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
static void GAN__ISA(max_line)(const gan_real *x, int step, int at, gan_real *best, gan_real *index,
                               int n)
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

static void GAN__ISA(softmax)(const gan_real *x, gan_real *y, size_t n, int log_)
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
        y[i] = GAN__ISA(exp)(x[i] - most);
    double total = GAN__ISA(sum)(y, 1, 0, n);
    gan_real shift = (gan_real)log(total);
    gan_real scale = (gan_real)(1 / total);
    if (log_)
        for (size_t i = 0; i < n; i++)
            y[i] = x[i] - most - shift;
    else
        for (size_t i = 0; i < n; i++)
            y[i] *= scale;
}

static void GAN__ISA(softmax_grad)(const gan_real *gy, const gan_real *y, gan_real *gx, size_t n,
                                   int log_)
{
    double total[2];
    GAN__ISA(two_sums)(gy, y, 1, 0, n, 0, total);
    const gan_real sum = (gan_real)total[log_ ? 0 : 1];
    if (log_)
        for (size_t i = 0; i < n; i++)
            gx[i] = gy[i] - GAN__ISA(exp)(y[i]) * sum;
    else
        for (size_t i = 0; i < n; i++)
            gx[i] = y[i] * (gy[i] - sum);
}

/* ---- optimizers */

static inline GAN__INLINE void GAN__ISA(update)(int kind, void *argument, size_t begin, size_t end)
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
            w[i] = wi - rate * mi / (GAN__ISA(root)(vi) * scale + eps);
        }
    else
        for (size_t i = begin; i < end; i++) {
            gan_real u = g[i], vi = beta2 * v[i] + (1 - beta2) * u * u;
            v[i] = vi;
            w[i] -= lr * u / (GAN__ISA(root)(vi) + eps);
        }
}

#define GAN__UPDATE(name)                                                     \
    static void GAN__ISA(name)(void *p, size_t begin, size_t end, int thread) \
    {                                                                         \
        (void)thread;                                                         \
        GAN__ISA(update)(GAN__K_##name, p, begin, end);                       \
    }
GAN__UPDATE(sgd)
GAN__UPDATE(adam)
GAN__UPDATE(rmsprop)

/* c (8,8) = dot products, or squared distances, of the rows in two panels (d,8). */
static void GAN__ISA(pairs)(size_t d, const double *a, const double *b, double *c, bool squares)
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

static const gan__isa GAN__ISA(table) = {
    GAN__ROWS,           GAN__COLUMNS,           GAN__ISA(tile),
    GAN__ISA(pack_left), GAN__ISA(pack_right),   GAN__ISA(store),
    GAN__ISA(map),       GAN__ISA(zip),          GAN__ISA(sum),
    GAN__ISA(squares),   GAN__ISA(add_rows),     GAN__ISA(scale_shift),
    GAN__ISA(two_sums),  GAN__ISA(blend),        GAN__ISA(add_scaled),
    GAN__ISA(take),      GAN__ISA(take_even),    GAN__ISA(max_line),
    GAN__ISA(softmax),   GAN__ISA(softmax_grad), GAN__ISA(sgd),
    GAN__ISA(adam),      GAN__ISA(rmsprop),      GAN__ISA(pairs)};
#undef GAN__ROWS
#undef GAN__COLUMNS
#if defined(__clang__) && defined(GAN__IS_X86) && GAN__BYTES >= 32
#pragma clang attribute pop
#elif defined(__GNUC__) && !defined(__clang__) && !defined(__TINYC__)
#pragma GCC pop_options
#endif
#endif /* GAN__LANES */

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
