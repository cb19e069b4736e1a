/* 15_compare: a kernel of your own in gan.h's place, and three ways to find out whether it is
   right: against differences, against another backend, and in a training.

   New:      gan_backend, gan_register_backend, gan_gradcheck, gan_open("compare:A,B")
   Run:      make 15_compare                                   a planted mistake is found
             make 15_compare DEVICE=compare:ref,cpu            a training on two backends of gan.h
             make 15_compare DEVICE=compare:cpu,cuda           the same beside a GPU
   Leaves:   out/15_compare/      log.csv and state.safetensors of the training
   Time:     a second

   A backend is a table of kernels, gan_backend. A copy of "ref" with one kernel replaced is a
   backend of your own: everything trains on it. gan_gradcheck compares derivatives with central
   differences, and so sees a backward kernel that does not belong to its forward kernel.
   compare:A,B runs every kernel on A and on B from the same inputs, and stops at the first whose
   results differ by more than rounding: it names the kernel, the layer and the element. */
#include "common.h"

#include <setjmp.h>

static gan_real sign = 1; /* -1 plants a mistake */

/* The derivative of a convolution by its input, with the same stride on both axes:

       x[n,c,i*S+u*D-P,j*S+v*D-P] += y[n,o,i,j] * w[o,c,u,v]

   y (N,O,OH,OW) is the gradient that arrives, w (O,C/groups,KH,KW), x (N,C,H,W) the result. What
   falls on the padding, outside x, is dropped. */
static void my_conv_transpose2d(const gan_conv *p, const gan_real *y, const gan_real *w,
                                gan_real *x)
{
    int oh = gan_conv_out_h(p);
    int ow = gan_conv_out_w(p);
    int groups = p->groups ? p->groups : 1;
    int stride = p->stride ? p->stride : 1;
    int dilation = p->dilation ? p->dilation : 1;
    int group_in = p->c / groups;
    int group_out = p->out_c / groups;
    memset(x, 0, sizeof *x * (size_t)p->n * p->c * p->h * p->w);
    for (int n = 0; n < p->n; n++)
        for (int o = 0; o < p->out_c; o++)
            for (int i = 0; i < oh; i++)
                for (int j = 0; j < ow; j++)
                    for (int k = 0; k < group_in; k++)
                        for (int u = 0; u < p->kernel_h; u++)
                            for (int v = 0; v < p->kernel_w; v++) {
                                int c = o / group_out * group_in + k;
                                int row = i * stride + u * dilation - p->pad;
                                int column = j * stride + v * dilation - p->pad;
                                if (row < 0 || row >= p->h || column < 0 || column >= p->w)
                                    continue;
                                x[((n * p->c + c) * p->h + row) * p->w + column] +=
                                    sign * y[((n * p->out_c + o) * oh + i) * ow + j] *
                                    w[((o * group_in + k) * p->kernel_h + u) * p->kernel_w + v];
                            }
}

/* What gan_gradcheck differentiates: in[0] (N,C,H,W), in[1] (O,C,3,3). */
static gan_tensor *layer(gan *g, gan_tensor **in, void *user)
{
    (void)g;
    (void)user;
    return gan_conv2d_f(in[0], in[1], NULL, 2, 1, 1);
}

/* A mistake in a program ends it; here the message is kept and the program goes on. */
static jmp_buf caught;
static char message[512];

static void keep_message(const char *text, void *user)
{
    (void)user;
    snprintf(message, sizeof message, "%s", text);
    longjmp(caught, 1);
}

/* The worst error of a layer's derivatives on device; message is "" or what stopped it. */
static double gradient_error(const char *device)
{
    volatile double error = 0;
    gan *g = gan_open(device, 1);
    if (!g)
        fail();
    message[0] = 0;
    gan_on_error(keep_message, NULL);
    if (!setjmp(caught)) {
        gan_tensor *in[2] = {gan_randn(g, 2, 3, 7, 6), gan_randn(g, 4, 3, 3, 3)};
        error = gan_gradcheck(g, layer, in, 2, NULL);
    }
    gan_on_error(NULL, NULL);
    gan_close(g);
    return error;
}

/* Single precision's differences are good to about 1e-2. With the sign turned the derivative points
   the other way: a relative error of 2. True where all this comes out. */
static bool try_kernel(void)
{
    gan_backend mine = *gan_find_backend("ref");
    mine.name = "mine";
    mine.conv_transpose2d = my_conv_transpose2d;
    if (!gan_register_backend(&mine))
        fail();

    printf("your own conv_transpose2d in ref's place\n");
    double error = gradient_error("mine");
    bool right = !*message && error < 0.02;
    printf("  gan_gradcheck: worst relative error %.4f\n", error);
    gradient_error("compare:ref,mine");
    right = right && !*message;
    printf("  compare:ref,mine: %s\n", *message ? message : "no difference");

    printf("with a minus sign planted in it\n");
    sign = -1;
    error = gradient_error("mine");
    right = right && error > 1;
    printf("  gan_gradcheck: worst relative error %.4f\n", error);
    gradient_error("compare:ref,mine");
    right = right && strstr(message, "conv_transpose2d");
    printf("  compare:ref,mine: %s\n", *message ? message : "no difference");
    sign = 1;
    return right;
}

/* x (N,1,28,28) -> (N,1,1,1) */
static gan_tensor *critic(gan_model *D, gan_tensor *x)
{
    x = gan_leaky_relu(gan_conv2d(D, "conv1", x, 8, 4, 2, 1), 0.2f);
    x = gan_conv2d(D, "conv2", x, 16, 4, 2, 1);
    x = gan_leaky_relu(gan_batch_norm(D, "bn2", x), 0.2f);
    return gan_linear(D, "fc", x, 1);
}

/* A critic learns to tell digits from noise. On compare:A,B a step that is done shows that every
   kernel of both backends agrees; the program ends with the first that does not. */
static void train(const options *o)
{
    gan *g = open_device(o);
    gan_model *D = gan_model_new(g, "D");
    gan_opt *adam = gan_adam(D, 1e-3f, 0.5f, 0.999f);
    gan_data *digits = open_digits(g, o);
    int first = resume_from(g, o);
    gan_progress *log = gan_progress_open(g, in_folder(o, "log.csv"), "D", first, o->steps,
                                          o->batch);
    if (!log)
        fail();
    printf("a training on %s\n", o->device);
    for (int step = first; step < o->steps; step++) {
        gan_tensor *real = gan_batch(digits, o->batch, NULL);
        gan_tensor *noise = gan_randn(g, o->batch, 1, 28, 28);
        gan_tensor *loss = gan_add(gan_bce_logits(critic(D, real), 1),
                                   gan_bce_logits(critic(D, noise), 0));
        gan_minimize(adam, loss);
        gan_progress_step(log, step, (double)gan_item(loss));
        gan_clear(g);
    }
    gan_progress_close(log);
    save_all(g, o, o->steps);
    gan_close(g);
}

int main(int argc, char **argv)
{
    options o = {
        .out = "out/15_compare", .steps = 20, .batch = 16, .quick_steps = 3, .quick_batch = 4};
    parse(argc, argv, &o, "15_compare: a kernel of your own, tried three ways", NULL);
    bool right = try_kernel();
    train(&o);
    if (!right)
        printf("\nwhat was found of the kernel above is not what the comments say\n");
    return !right;
}
