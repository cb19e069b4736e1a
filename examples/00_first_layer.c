/* 00_first_layer: one convolution, by hand and by gan.h; its gradient, checked; a kernel of your
   own, judged; and a layer that learns.

   Run:      make 00_first_layer      or   cc -O2 examples/00_first_layer.c -o first -lm && ./first
   Leaves:   out/00_first_layer/      learned.png (pictures, what Sobel's filter makes of them,
             what the layer makes), log.csv
   Data:     --data FOLDER            pictures of your own in place of built-in shapes
   Time:     two seconds on two cores
   Prints:   the numbers that stand in the comments below, then a planted mistake, found twice

   A convolution (LeCun et al. 1989) slides a small array of weights over a picture and writes
   down sums of products. All that a network learns comes from its two derivatives: by the
   picture, which carries the blame on to the layer before, and by the weights, which they
   follow. */
#include "common.h"

#include <setjmp.h>

/* y[i,j] = sum over u,v of x[i+u,j+v] * w[u,v]: x (3,3), w (2,2), y (2,2). */
static void convolve_by_hand(const gan_real x[3][3], const gan_real w[2][2], gan_real y[2][2])
{
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++) {
            y[i][j] = 0;
            for (int u = 0; u < 2; u++)
                for (int v = 0; v < 2; v++)
                    y[i][j] += x[i + u][j + v] * w[u][v];
        }
}

/* The derivatives of a loss L, given gy = dL/dy. Every product x*w of the sum above hands its
   share of gy to both:
   dL/dx[i+u,j+v] += gy[i,j] * w[u,v]      dL/dw[u,v] += gy[i,j] * x[i+u,j+v] */
static void derive_by_hand(const gan_real x[3][3], const gan_real w[2][2], gan_real gy[2][2],
                           gan_real gx[3][3], gan_real gw[2][2])
{
    memset(gx, 0, 9 * sizeof gx[0][0]);
    memset(gw, 0, 4 * sizeof gw[0][0]);
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < 2; j++)
            for (int u = 0; u < 2; u++)
                for (int v = 0; v < 2; v++) {
                    gx[i + u][j + v] += gy[i][j] * w[u][v];
                    gw[u][v] += gy[i][j] * x[i + u][j + v];
                }
}

/* By hand, and by gan.h: true where they are the same. */
static bool print_row(const char *what, const gan_real *hand, gan_tensor *t)
{
    gan_real ours[9];
    bool same = true;
    gan_to_host(t, ours);
    printf("  %-6s", what);
    for (size_t i = 0; i < gan_count(t); i++) {
        printf(" %6.1f", (double)hand[i]);
        same = same &&
               fabs((double)(hand[i] - ours[i])) < 1e-4; /* numbers up to 80, six decimal digits */
    }
    printf("   %s\n", same ? "gan.h says the same" : "gan.h says otherwise");
    return same;
}

/* With L = sum of y*y/2, dL/dy is y itself; x is 1 2 3 / 4 5 6 / 7 8 9 and w is -1 0 / 0 2:
     y        9.0   10.0   12.0   13.0
     dL/dx   -9.0  -10.0    0.0  -12.0    5.0   20.0    0.0   24.0   26.0
     dL/dw  142.0  186.0  274.0  318.0 */
static bool by_hand(gan *g)
{
    const gan_real x[3][3] = {{1, 2, 3}, {4, 5, 6}, {7, 8, 9}};
    const gan_real w[2][2] = {{-1, 0}, {0, 2}};
    gan_real y[2][2], gx[3][3], gw[2][2];
    convolve_by_hand(x, w, y);
    derive_by_hand(x, w, y, gx, gw);

    gan_tensor *X = gan_from_host(g, x[0], 1, 1, 3, 3);
    gan_tensor *W = gan_from_host(g, w[0], 1, 1, 2, 2);
    gan_tensor *Y = gan_conv2d_f(X, W, NULL, 1, 0, 1); /* bias, stride, padding, groups */
    gan_tensor *L = gan_mul_scalar(gan_sum(gan_square(Y)), (gan_real)0.5);
    printf("one convolution of 1..9 (3x3) with -1 0 / 0 2, and its derivatives for L = sum of "
           "y*y/2\n");
    bool same = print_row("y", y[0], Y);
    same = print_row("dL/dx", gx[0], gan_grad(L, X)) && same;
    return print_row("dL/dw", gw[0], gan_grad(L, W)) && same;
}

/* ---- a kernel of your own: the convolution's derivative by its picture, in the place where
   gan.h has its own */

static gan_real sign = 1; /* -1 plants a mistake */

/* dL/dx as above for any sizes: y (N,O,OH,OW) is dL/dy, w (O,C/G,KH,KW), x (N,C,H,W) is dL/dx;
   what lies outside the picture is dropped. */
static void my_conv_transpose2d(const gan_conv *p, const gan_real *y, const gan_real *w,
                                gan_real *x)
{
    int oh = gan_conv_out_h(p);
    int ow = gan_conv_out_w(p);
    int groups = p->groups ? p->groups : 1;
    int stride = p->stride ? p->stride : 1;
    int far = p->dilation ? p->dilation : 1;
    int share = p->c / groups;
    int per_group = p->out_c / groups;
    memset(x, 0, sizeof *x * (size_t)p->n * p->c * p->h * p->w);
    for (int n = 0; n < p->n; n++)
        for (int o = 0; o < p->out_c; o++)
            for (int i = 0; i < oh; i++)
                for (int j = 0; j < ow; j++)
                    for (int c = 0; c < share; c++)
                        for (int u = 0; u < p->kernel_h; u++)
                            for (int v = 0; v < p->kernel_w; v++) {
                                int row = i * stride + u * far - p->pad;
                                int column = j * stride + v * far - p->pad;
                                int from = o / per_group * share + c;
                                if (row < 0 || row >= p->h || column < 0 || column >= p->w)
                                    continue;
                                x[((n * p->c + from) * p->h + row) * p->w + column] +=
                                    sign * y[((n * p->out_c + o) * oh + i) * ow + j] *
                                    w[((o * share + c) * p->kernel_h + u) * p->kernel_w + v];
                            }
}

static gan_tensor *layer(
    gan *g, gan_tensor **in,
    void *user) /* what gan_gradcheck asks for: in[0] (N,C,H,W), in[1] (O,C,3,3) */
{
    (void)g;
    (void)user;
    return gan_conv2d_f(in[0], in[1], NULL, 2, 1, 1);
}

static jmp_buf caught;
static char verdict[512];

static void keep_message(const char *message, void *user)
{
    (void)user;
    snprintf(verdict, sizeof verdict, "%s", message);
    longjmp(caught, 1);
}

/* Does device compute a layer and its derivatives? "" or what gan.h says where it stops. */
static const char *judge(const char *device, double *error)
{
    gan *g = gan_open(device, 1);
    if (!g)
        fail();
    verdict[0] = 0;
    gan_on_error(keep_message, NULL);
    if (!setjmp(caught)) {
        gan_tensor *in[2] = {gan_randn(g, 2, 3, 7, 6), gan_randn(g, 4, 3, 3, 3)};
        *error = gan_gradcheck(g, layer, in, 2, NULL);
    }
    gan_on_error(NULL, NULL);
    gan_close(g);
    return verdict;
}

/* Right: both ways of looking find nothing. With the sign turned: gan_gradcheck sees a
   derivative that differences deny (error 2: it points the other way), and compare:ref,mine
   names the kernel. True where all this comes out. */
static bool judged(void)
{
    double error = 0;
    gan_backend mine = *gan_find_backend("ref");
    mine.name = "mine";
    mine.conv_transpose2d = my_conv_transpose2d;
    if (!gan_register_backend(&mine))
        fail();
    printf("\nyour own conv_transpose2d in ref's place\n");
    bool right = !*judge("mine", &error) &&
                 error < 0.02; /* single precision's differences are good to 1e-2 */
    printf("  gan_gradcheck: worst relative error %.4f\n", error);
    right = !*judge("compare:ref,mine", &error) && right;
    printf("  compare:ref,mine: %s\n", *verdict ? verdict : "nothing to say");
    printf("and with a minus sign planted in it\n");
    sign = -1;
    right = !*judge("mine", &error) && error > 1 && right;
    printf("  gan_gradcheck: worst relative error %.4f: %s\n", error,
           error > 1 ? "found" : "not found");
    judge("compare:ref,mine", &error);
    printf("  %s\n", *verdict ? verdict : "compare:ref,mine: not found");
    return strstr(verdict, "conv_transpose2d") && right;
}

/* ---- and a layer that learns: shown pictures and what Sobel's filter (1968) makes of them, it
   finds the filter's nine weights */

static gan_tensor *sobel(
    gan_tensor *x) /* (N,1,H,W) -> (N,1,H-2,W-2): how steep the brightness is from left to right */
{
    const gan_real w[9] = {-0.25f, 0, 0.25f, -0.5f, 0, 0.5f, -0.25f, 0, 0.25f};
    return gan_conv2d_f(x, gan_from_host(x->g, w, 1, 1, 3, 3), NULL, 1, 0, 1);
}

static void learn(gan *g, const options *o)
{
    gan_model *m = gan_model_new(g, "edges");
    gan_opt *sgd = gan_sgd(m, 0.2f, 0.9f);
    gan_data *data = o->data ? open_pictures(g, o->data, 64)
                             : gan_data_shapes(g, 256, 64, GAN_SHAPES_FILLED);
    if (!data)
        fail();
    int first = resume_from(g, o);
    gan_progress *log = gan_progress_open(g, in_folder(o, "log.csv"), "loss", first, o->steps,
                                          o->batch);
    if (!log)
        fail();
    printf("\na convolution learns Sobel's filter from pictures\n");
    for (int step = first; step < o->steps; step++) {
        gan_tensor *x = gan_batch(data, o->batch, NULL);
        x = gan_mean_to(x, x->n, 1, x->h, x->w); /* grey */
        gan_tensor *y = gan_conv2d(m, "conv", x, 1, 3, 1, 0);
        gan_tensor *loss = gan_mse(y, sobel(x));
        gan_minimize(sgd, loss);
        gan_progress_step(log, step, (double)gan_item(loss));
        if (step + 1 == o->steps)
            draw(gan_concat(gan_concat(gan_slice(gan_slice(x, 2, 1, x->h - 2), 3, 1, x->w - 2),
                                       sobel(x), 0),
                            y, 0),
                 x->n, o, "learned.png");
        if ((step + 1) % 500 == 0 || step + 1 == o->steps)
            save_all(g, o, step + 1);
        gan_clear(g);
    }
    gan_progress_close(log);
    gan_real w[9];
    gan_to_host(gan_param(m, "conv.weight", 1, 1, 3, 3), w);
    for (int i = 0; i < 9; i++)
        printf("%s %6.3f%s", i % 3 ? "" : " ", (double)w[i], i % 3 == 2 ? "\n" : "");
}

int main(int argc, char **argv)
{
    options o = {"cpu", "out/00_first_layer", 2000, 8, 40, 4, 42, NULL, 0, false, false};
    parse(argc, argv, &o,
          "00_first_layer: one convolution, its gradient, your own kernel, and a layer that learns",
          NULL);
    gan *g = open_device(&o);
    bool right = by_hand(g);
    right = judged() && right;
    learn(g, &o);
    gan_close(g);
    if (!right)
        printf("\nsomething above is not what the comments say\n");
    return !right;
}
