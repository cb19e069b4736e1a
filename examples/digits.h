/* digits.h: the networks for 28x28 digits that several examples share: those of 01_dcgan, with a
   width to choose, and the same with a class to draw or to recognise (03_conditional). width is the
   number of channels of the 14x14 maps; the 7x7 maps have twice as many. */
#ifndef DIGITS_H
#define DIGITS_H

#include "common.h"

/* z (N,any,1,1) -> (N,1,28,28) in [-1,1] */
static inline gan_tensor *digits_generator(gan_model *G, gan_tensor *z, int width)
{
    gan_tensor *x = gan_reshape(gan_linear(G, "fc", z, 2 * width * 7 * 7), -1, 2 * width, 7, 7);
    x = gan_relu(gan_batch_norm(G, "bn0", x));
    x = gan_conv_transpose2d(G, "up1", x, width, 4, 2, 1); /* (N,width,14,14) */
    x = gan_relu(gan_batch_norm(G, "bn1", x));
    return gan_tanh(gan_conv_transpose2d(G, "up2", x, 1, 4, 2, 1));
}

/* x (N,1,28,28) -> (N,2*width,7,7): what the discriminator sees before it decides. With norm,
   batch norm as in DCGAN's. */
static inline gan_tensor *digits_maps(gan_model *D, gan_tensor *x, int width, bool norm)
{
    x = gan_leaky_relu(gan_conv2d(D, "conv1", x, width, 4, 2, 1), 0.2f); /* (N,width,14,14) */
    x = gan_conv2d(D, "conv2", x, 2 * width, 4, 2, 1);
    return gan_leaky_relu(norm ? gan_batch_norm(D, "bn2", x) : x, 0.2f);
}

/* x (N,1,28,28) -> (N,1,1,1), a logit: above 0 it takes x for real. */
static inline gan_tensor *digits_discriminator(gan_model *D, gan_tensor *x, int width, bool norm)
{
    return gan_linear(D, "fc", digits_maps(D, x, width, norm), 1);
}

/* z (N,64,1,1), y (N,1,1,1) of 0 .. 9 -> (N,1,28,28). The class is 64 numbers behind z, learnt for
   each class; they start normal, as z is. */
static inline gan_tensor *digits_of_class(gan_model *G, gan_tensor *z, gan_tensor *y, int width)
{
    return digits_generator(G, gan_concat(z, gan_embedding(G, "class", y, 10, 64), 1), width);
}

/* phi (N,2*width,1,1): the maps of x (N,C,28,28), through one more layer. */
static inline gan_tensor *digits_features(gan_model *D, gan_tensor *x, int width)
{
    return gan_leaky_relu(gan_linear(D, "phi", digits_maps(D, x, width, false), 2 * width), 0.2f);
}

/* The projection discriminator (Miyato and Koyama 2018):

       psi(phi) + <v[y], phi> / sqrt(dimensions of phi)

   because log p(y|x) of a softmax is linear in phi(x), too. phi (N,2*width,1,1), y (N,1,1,1) ->
   (N,1,1,1). */
static inline gan_tensor *digits_projection(gan_model *D, gan_tensor *phi, gan_tensor *y)
{
    gan_tensor *v = gan_embedding(D, "v", y, 10, phi->c);
    gan_tensor *product = gan_sum_to(gan_mul(v, phi), phi->n, 1, 1, 1);
    return gan_add(gan_linear(D, "psi", phi, 1), gan_mul_scalar(product, 1 / sqrtf((float)phi->c)));
}

#endif
