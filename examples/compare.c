/* compare: a wrong kernel is found. A copy of the ref backend gets a convolution with a planted
   mistake, and gan_open("compare:ref,mine") trains on both: every kernel runs on either from the
   same inputs, and the first whose results differ stops the program, which names kernel, layer
   and element.

   Run:   make build/compare && build/compare      the planted mistake is found
          build/compare ref,cpu                    two right backends: nothing to find
          build/compare cpu,cuda                   the same for a GPU (gan_cuda.o linked)

   This is how to find out why a network trains on one device and not on another, and how to
   judge a kernel of your own. */
#ifndef GAN_LINKED
#define GAN_IMPLEMENTATION
#endif
#include "../gan.h"
#include <stdio.h>
#include <string.h>

/* A convolution like ref's, but the last row of every output is computed from the row before it:
   wrong on one row in fourteen, and no NaN to see. */
static void my_conv2d(const gan_conv *p, const gan_real *x, const gan_real *w, gan_real *y)
{
    int h = gan_conv_out_h(p), wide = gan_conv_out_w(p);
    gan_ref_conv2d(p, x, w, y);
    for (int plane = 0; plane < p->n * p->out_c && h > 1; plane++)
        memcpy(y + ((size_t)plane * h + h - 1) * wide, y + ((size_t)plane * h + h - 2) * wide,
               (size_t)wide * sizeof *y);
}

static gan_tensor *critic(gan_model *D, gan_tensor *x) /* (N,1,28,28) -> (N,1,1,1) */
{
    x = gan_leaky_relu(gan_conv2d(D, "conv1", x, 8, 4, 2, 1), (gan_real)0.2);
    x = gan_leaky_relu(gan_batch_norm(D, "bn2", gan_conv2d(D, "conv2", x, 16, 4, 2, 1)),
                       (gan_real)0.2);
    return gan_linear(D, "fc", x, 1);
}

int main(int argc, char **argv)
{
    char device[128];
    gan_backend mine = *gan_find_backend("ref");
    mine.name = "mine";
    mine.conv2d = my_conv2d;
    if (!gan_register_backend(&mine)) {
        puts(gan_error());
        return 1;
    }
    snprintf(device, sizeof device, "compare:%.100s", argc > 1 ? argv[1] : "ref,mine");

    gan *g = gan_open(device, 42);
    if (!g) {
        puts(gan_error());
        return 1;
    }
    gan_model *D = gan_model_new(g, "D");
    gan_opt *adam = gan_adam(D, (gan_real)1e-3, (gan_real)0.5, (gan_real)0.999);
    gan_data *digits = gan_data_digits(g, 256);
    for (int step = 0; step < 5; step++) {
        gan_tensor *real = gan_batch(digits, 16, NULL);
        gan_tensor *noise = gan_randn(g, 16, 1, 28, 28);
        gan_tensor *loss = gan_d_loss(critic(D, real), critic(D, noise), GAN_NON_SATURATING);
        gan_minimize(adam, loss);
        printf("step %d  loss %.6f: every kernel of both agrees\n", step, (double)gan_item(loss));
        gan_clear(g);
    }
    gan_close(g);
    return 0;
}
