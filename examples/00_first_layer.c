/* 00_first_layer: one convolution by hand and by gan.h, with its two derivatives; and a layer that
   learns.

   Run:      make 00_first_layer      or
             cc -O2 examples/00_first_layer.c -o first -lm -pthread && ./first
   Data:     --data FOLDER            pictures of your own in place of built-in shapes
   Leaves:   out/00_first_layer/      learned.png (pictures, what Sobel's filter makes of them, what
                                      the layer makes of them), log.csv, state.safetensors
   Time:     two seconds on two cores
   Prints:   the numbers that stand in the comments below

   A convolution (LeCun et al. 1989) slides a small array of weights over a picture and writes
   down sums of products. All that a network learns comes from its two derivatives: by the
   picture, which says what the layer before should change, and by the weights, which gradient
   descent follows. */
#include "common.h"

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

/* The derivatives of a loss L, given gy = dL/dy. Each product x*w of the sum above passes its share
   of gy on to both factors:

       dL/dx[i+u,j+v] += gy[i,j] * w[u,v]
       dL/dw[u,v]     += gy[i,j] * x[i+u,j+v] */
static void differentiate_by_hand(const gan_real x[3][3], const gan_real w[2][2], gan_real gy[2][2],
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

/* Prints the numbers computed by hand, and whether gan.h's are the same. */
static bool print_row(const char *what, const gan_real *hand, gan_tensor *t)
{
    gan_real ours[9];
    bool same = true;
    gan_to_host(t, ours);
    printf("  %-6s", what);
    for (size_t i = 0; i < gan_count(t); i++) {
        printf(" %6.1f", (double)hand[i]);
        same = same && fabs((double)(hand[i] - ours[i])) < 1e-3; /* float, numbers up to 318 */
    }
    printf("   %s\n", same ? "gan.h says the same" : "gan.h says otherwise");
    return same;
}

/* With L = sum of y*y/2, dL/dy is y itself. For x = 1 2 3 / 4 5 6 / 7 8 9 and w = -1 0 / 0 2:

     y        9.0   10.0   12.0   13.0
     dL/dx   -9.0  -10.0    0.0  -12.0    5.0   20.0    0.0   24.0   26.0
     dL/dw  142.0  186.0  274.0  318.0 */
static bool by_hand(gan *g)
{
    const gan_real x[3][3] = {{1, 2, 3}, {4, 5, 6}, {7, 8, 9}};
    const gan_real w[2][2] = {{-1, 0}, {0, 2}};
    gan_real y[2][2], gx[3][3], gw[2][2];
    convolve_by_hand(x, w, y);
    differentiate_by_hand(x, w, y, gx, gw);

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

/* ---- a layer that learns: shown pictures and what Sobel's filter makes of them, it finds the
   filter's nine weights */

/* x (N,1,H,W) -> (N,1,H-2,W-2): the slope of the brightness from left to right (Sobel 1968). */
static gan_tensor *sobel(gan_tensor *x)
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

        if (step + 1 == o->steps) {
            gan_tensor *inside = gan_slice(gan_slice(x, 2, 1, x->h - 2), 3, 1, x->w - 2);
            gan_tensor *rows[3] = {inside, sobel(x), y};
            draw(gan_concat_all(rows, 3, 0), x->n, o, "learned.png");
        }
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
    options o = {.out = "out/00_first_layer",
                 .steps = 2000,
                 .batch = 8,
                 .quick_steps = 40,
                 .quick_batch = 4};
    parse(argc, argv, &o, "00_first_layer: one convolution, its gradient, a layer that learns",
          NULL);
    gan *g = open_device(&o);
    bool same = by_hand(g);
    learn(g, &o);
    gan_close(g);
    if (!same)
        printf("\nthe convolution by hand is not what the comments say\n");
    return !same;
}
