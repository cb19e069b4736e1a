/* explain.h: which pixels gave it away? Four ways to ask a network for the pixels that its answer
   rests on, as heat over the picture; used by 12_explain for classifiers and by 17_why_fake for a
   discriminator.

   S is the score explained: a class's logit, or -D(x) for "x is fake". (Of +D Grad-CAM keeps what
   speaks for real, which can be nothing.)

     saliency               |dS/dx|: which pixels would change S
     SmoothGrad             |mean over k of dS/dx(x + noise_k)|: the same with less grain
     integrated gradients   |(x - b) mean over 0 < t < 1 of dS/dx(b + t(x - b))|, b blank; without
                            |.| its sum is S(x) - S(b)
     Grad-CAM               ReLU(sum over k of alpha_k A_k), alpha_k = mean over i,j of
                            dS/dA_k[i,j]; A_k a layer's maps: coarse

   Simonyan et al. 2014, Smilkov et al. 2017, Sundararajan et al. 2017, Selvaraju et al. 2017. */
#ifndef EXPLAIN_H
#define EXPLAIN_H

#include "digits.h"
#include "zoo.h"

enum { SALIENCY, SMOOTHGRAD, INTEGRATED, GRAD_CAM, METHODS };

static int points = 16; /* gradients averaged by SmoothGrad and integrated gradients */

/* A network that is asked: x (N,C,H,W) in [-1,1] -> logits (N,K,1,1), and the maps A (N,k,h,w) of
   the layer that Grad-CAM reads. */
typedef gan_tensor *forward(gan_model *m, gan_tensor *x, gan_tensor **maps);

typedef struct {
    gan_model *m;
    forward *f;
    float blank; /* the value of an empty pixel */
} subject;

/* Heat (N,1,H,W) of x for S = sum of wanted * logits; wanted (N,K,1,1) is 1 at the class asked
   about, or -1 for a discriminator's "fake". */
static inline gan_tensor *explain(int method, const subject *s, gan_tensor *x, gan_tensor *wanted)
{
    gan *g = x->g;
    size_t count = gan_count(x);
    int times = method == SMOOTHGRAD || method == INTEGRATED ? points : 1;
    gan_real *mean = (gan_real *)calloc(2 * count, sizeof *mean);
    gan_real *one = mean + count;
    gan_mark mark = gan_here(g);
    for (int k = 0; k < times; k++) {
        gan_tensor *maps;
        gan_tensor *at = x;
        float t = ((float)k + 0.5f) / (float)times;
        if (method == SMOOTHGRAD)
            at = gan_add(x, gan_mul_scalar(gan_randn(g, x->n, x->c, x->h, x->w), 0.3f));
        if (method == INTEGRATED)
            at = gan_add_scalar(gan_mul_scalar(x, t), (1 - t) * s->blank); /* b + t(x - b) */
        at = gan_detach(at);
        gan_tensor *S = gan_sum(gan_mul(wanted, s->f(s->m, at, &maps)));
        if (method == GRAD_CAM) {
            gan_tensor *alpha = gan_mean_to(gan_grad(S, maps), x->n, maps->c, 1, 1);
            gan_tensor *cam = gan_sum_to(gan_mul(alpha, maps), x->n, 1, maps->h, maps->w);
            free(mean);
            return gan_detach(gan_resize(gan_relu(cam), x->h, x->w, GAN_BILINEAR));
        }
        gan_to_host(gan_grad(S, at), one);
        for (size_t i = 0; i < count; i++)
            mean[i] += one[i] / (gan_real)times;
        gan_clear_to(g, mark); /* one pass through the network is held at a time */
    }
    gan_tensor *slope = gan_from_host(g, mean, x->n, x->c, x->h, x->w);
    if (method == INTEGRATED)
        slope = gan_mul(slope, gan_add_scalar(x, -s->blank));
    free(mean);
    return gan_sum_to(gan_abs(slope), x->n, 1, x->h, x->w); /* colours are added up */
}

/* (N,K,1,1): the network's answer; as steep as 10000 the softmax is 1 at the largest logit, the
   class that it names. */
static inline gan_tensor *answer(const subject *s, gan_tensor *x, float steep)
{
    gan_tensor *maps;
    return gan_detach(gan_softmax(gan_mul_scalar(s->f(s->m, x, &maps), steep), 1));
}

/* x (N,C,H,W), its heat (N,1,H,W) -> (N,3,H,W): the picture, grey and dark, and over it from
   green to red as it gets hot. */
static inline gan_tensor *overlay(gan_tensor *x, gan_tensor *heat)
{
    gan_tensor *hottest = gan_add_scalar(gan_max_pool2d(heat, 0, 1, 0, false), 1e-20f);
    gan_tensor *t = gan_div(heat, hottest); /* 0 .. 1 */
    gan_tensor *red = gan_clamp(gan_add_scalar(gan_mul_scalar(t, 4), -1), -1, 1);
    gan_tensor *green = gan_clamp(gan_add_scalar(gan_mul_scalar(t, -4), 3), -1, 1);
    gan_tensor *part[3] = {red, green, gan_full(x->g, -1, x->n, 1, x->h, x->w)};
    gan_tensor *opaque = gan_clamp(gan_mul_scalar(t, 2), 0, 1);
    gan_tensor *dark = gan_add_scalar(gan_mul_scalar(gan_mean_to(x, x->n, 1, x->h, x->w), 0.35f),
                                      -0.65f);
    return gan_add(dark, gan_mul(opaque, gan_sub(gan_concat_all(part, 3, 1), dark)));
}

/* Numbers (rows,columns) on the terminal and in out/name; the columns' names are comma
   separated. */
static inline void print_table(const char *about, const char *columns, const char *const *row,
                               const double *value, int rows, int width, const options *o,
                               const char *name)
{
    FILE *csv = fopen(in_folder(o, name), "w");
    if (!csv) {
        perror(name);
        exit(1);
    }
    fprintf(csv, "row,%s\n", columns);
    printf("%s\n%20s", about, "");
    for (const char *c = columns; c; c = strchr(c, ',') ? strchr(c, ',') + 1 : NULL)
        printf("%12.*s", (int)strcspn(c, ","), c);
    for (int i = 0; i < rows * width; i++) {
        if (i % width == 0) {
            printf("\n  %-18s", row[i / width]);
            fprintf(csv, "%s", row[i / width]);
        }
        printf("%12.3f", value[i]);
        fprintf(csv, i % width == width - 1 ? ",%.4f\n" : ",%.4f", value[i]);
    }
    if (fclose(csv) != 0) {
        perror(name);
        exit(1);
    }
    printf("\n");
}

#endif
