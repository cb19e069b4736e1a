/* tests/tools/matrix.c: three steps of a convolutional GAN with batch normalisation, which end
   in the same losses wherever they are computed. */
#include <stdio.h>
#include <math.h>
#include "gan.h"

static gan_tensor *generator(gan_model *m, gan_tensor *z) /* (N,8,1,1) -> (N,1,28,28) */
{
    gan_tensor *x = gan_reshape(gan_linear(m, "fc", z, 8 * 7 * 7), -1, 8, 7, 7);
    x = gan_relu(gan_batch_norm(m, "bn", x));
    x = gan_leaky_relu(gan_conv_transpose2d(m, "up0", x, 5, 4, 2, 1), (gan_real)0.1);
    return gan_tanh(gan_conv_transpose2d(m, "up", x, 1, 4, 2, 1));
}

static gan_tensor *discriminator(gan_model *m, gan_tensor *x) /* (N,1,28,28) -> (N,1,1,1) */
{
    x = gan_leaky_relu(gan_conv2d(m, "conv1", x, 6, 4, 2, 1), (gan_real)0.2);
    x = gan_batch_norm(m, "bn", gan_conv2d(m, "conv2", x, 10, 3, 2, 1));
    x = gan_leaky_relu(x, (gan_real)0.2);
    return gan_linear(m, "fc", x, 1);
}

int main(void)
{
    double d = 0, e = 0;
    int step;
    gan *g = gan_open("cpu", 42);
    gan_model *G, *D;
    gan_opt *opt_g, *opt_d;
    gan_data *data;
    if (!g) {
        printf("%s\n", gan_error());
        return 1;
    }
    G = gan_model_new(g, "G");
    D = gan_model_new(g, "D");
    opt_g = gan_adam(G, (gan_real)2e-3, (gan_real)0.5, (gan_real)0.999);
    opt_d = gan_sgd(D, (gan_real)1e-2, (gan_real)0.9);
    data = gan_data_digits(g, 64);
    for (step = 0; step < 3; step++) {
        gan_tensor *real = gan_batch(data, 16, NULL);
        gan_tensor *fake = generator(G, gan_randn(g, 16, 8, 1, 1));
        gan_tensor *loss;
        loss = gan_add(gan_bce_logits(discriminator(D, real), 1),
                       gan_bce_logits(discriminator(D, gan_detach(fake)), 0));
        gan_minimize(opt_d, loss);
        d = (double)gan_item(loss);
        loss = gan_bce_logits(discriminator(D, fake), 1);
        gan_minimize(opt_g, loss);
        e = (double)gan_item(loss);
        gan_clear(g);
    }
    gan_close(g);
    printf("D %.6f  G %.6f\n", d, e);
    /* What "ref" gives in double precision. 1e-3: rounding differs between compilers and vector
       widths, by about 1e-6 after three steps; a mistake moves more. */
    return !(fabs(d - 0.645977) <= 1e-3 && fabs(e - 2.282975) <= 1e-3);
}
