/* stylegan.h: the generator of 10_stylegan and 11_style_mixing, StyleGAN2 (Karras et al. 2020) in
   small. z becomes w by the mapping network; the synthesis network draws from a constant, and w
   tells each of its layers, through the convolutions' weights, in what style. */
#include "common.h"

enum {
    LATENT = 128,  /* numbers in z and in w */
    LARGEST = 256, /* the largest side of a picture */
    STYLES = 14    /* layers that have a style at that side */
};

static int width = 64; /* channels of the small sides */

static inline int channels(int side)
{
    return side <= 16 ? width : width * 16 / side;
}

/* How many w's a picture of that side takes: one for the first convolution, two a doubling, one
   for the last RGB. */
static inline int styles_of(int side)
{
    int count = 2;
    for (; side > 4; side /= 2)
        count += 2;
    return count;
}

/* Leaky ReLU, times sqrt 2 so that what comes out is about as large as what goes in. */
static inline gan_tensor *act(gan_tensor *x)
{
    return gan_mul_scalar(gan_leaky_relu_(x, 0.2f), 1.41421356f);
}

/* Twice and half the side, by the filter 1 3 3 1: no aliasing, unlike a pixel repeated or left
   out. */
static const gan_real fir[4] = {0.125f, 0.375f, 0.375f, 0.125f};

static inline gan_tensor *up(gan_tensor *x)
{
    return gan_upfirdn2d(x, fir, 4, 2, 1, 2, 1, 2);
}

static inline gan_tensor *down(gan_tensor *x)
{
    return gan_upfirdn2d(x, fir, 4, 1, 2, 1, 1, 1);
}

/* z (N,LATENT,1,1) -> w (N,LATENT,1,1). Its layers learn at a hundredth of the rate. */
static inline gan_tensor *mapping(gan_model *G, gan_tensor *z)
{
    const char *const name[3] = {"map0", "map1", "map2"};
    gan_weights(G, GAN_EQUALIZED, 0.01f);
    gan_tensor *w = gan_pixel_norm(z);
    for (int i = 0; i < 3; i++)
        w = act(gan_linear(G, name[i], w, LATENT));
    gan_weights(G, GAN_EQUALIZED, 1);
    return w;
}

/* A parameter that starts at N(0,deviation). */
static inline gan_tensor *normal_param(gan_model *G, const char *name, int c, int side,
                                       gan_real deviation)
{
    gan_tensor *p = gan_find_param(G, name);
    if (!p) {
        p = gan_param(G, name, 1, c, side, side);
        gan_init_param(p, GAN_INIT_NORMAL, deviation);
    }
    return p;
}

/* Layer number layer: x (N,C,S,S) -> (N,out,S,S), or (N,out,2S,2S) if grow; its style is that
   row of ws (N,LATENT,STYLES,1). Noise of one channel makes what no style decides, as strong as
   is learned: 0 at first, and at a 500th of the rate, or dots would be its first guess at what a
   face has inside. noise[layer] (1 or N,1,S,S) if given, else drawn. */
static inline gan_tensor *layer(gan_model *G, gan_tensor *x, gan_tensor *ws, int layer, int out,
                                bool grow, gan_tensor **noise)
{
    char name[32];
    snprintf(name, sizeof name, "conv%d", layer);
    x = gan_modulated_conv2d(G, name, x, gan_slice(ws, 2, layer, 1), out, 3, true);
    if (grow)
        x = up(x); /* after the convolution: a quarter of the work */
    snprintf(name, sizeof name, "conv%d.noise", layer);
    gan_tensor *n = noise ? noise[layer] : gan_randn(x->g, x->n, 1, x->h, x->w);
    return act(gan_add(x, gan_mul(n, gan_mul_scalar(normal_param(G, name, 1, 1, 0), 0.002f))));
}

static inline gan_tensor *to_rgb(gan_model *G, gan_tensor *x, gan_tensor *ws, int layer)
{
    char name[32];
    snprintf(name, sizeof name, "rgb%d", x->h);
    return gan_modulated_conv2d(G, name, x, gan_slice(ws, 2, layer, 1), 3, 1, false);
}

/* ws (N,LATENT,styles_of(side),1) -> (N,3,side,side). The picture is the sum of every side's
   RGB, doubled up to this one (skip connections in place of progressive growing); fade below 1:
   the last side's RGB is that much there. noise: NULL, or one a layer. */
static inline gan_tensor *synthesis(gan_model *G, gan_tensor *ws, int side, float fade,
                                    gan_tensor **noise)
{
    gan_weights(G, GAN_EQUALIZED, 1);
    gan_tensor *start = normal_param(G, "constant", width, 4, 1); /* (1,width,4,4) */
    gan_tensor *x = layer(G, gan_expand(start, ws->n, width, 4, 4), ws, 0, width, false, noise);
    gan_tensor *picture = to_rgb(G, x, ws, 1);
    for (int s = 8, i = 1; s <= side; s *= 2, i += 2) {
        x = layer(G, x, ws, i, channels(s), true, noise);
        x = layer(G, x, ws, i + 1, channels(s), false, noise); /* (N,channels(s),s,s) */
        gan_tensor *rgb = to_rgb(G, x, ws, i + 2);
        picture = gan_add(up(picture), s == side && fade < 1 ? gan_mul_scalar(rgb, fade) : rgb);
    }
    return picture;
}

/* The mean w, saved with the weights and not trained. */
static inline gan_tensor *mean_w(gan_model *G)
{
    return gan_buffer(G, "w_avg.running_mean", 1, LATENT, 1, 1);
}

static inline void measure_mean_w(gan *g, gan_model *G)
{
    gan_real host[LATENT];
    gan_mark mark = gan_here(g);
    gan_to_host(gan_mean_to(mapping(G, gan_randn(g, 4096, LATENT, 1, 1)), 1, LATENT, 1, 1), host);
    gan_set(mean_w(G), host);
    gan_clear_to(g, mark);
}

/* Truncation: w_avg + psi*(w - w_avg). psi 1 changes nothing, 0 gives the mean picture. */
static inline gan_tensor *truncate_w(gan_model *G, gan_tensor *w, float psi)
{
    gan_tensor *mean = gan_detach(mean_w(G));
    return gan_add(mean, gan_mul_scalar(gan_sub(w, mean), psi));
}

/* The same w for every layer: (N,LATENT,1,1) -> (N,LATENT,styles_of(side),1). */
static inline gan_tensor *all_layers(gan_tensor *w, int side)
{
    return gan_expand(w, w->n, LATENT, styles_of(side), 1);
}
