/* 05_pix2pix: a picture in, a picture out. A generator colours line drawings; pairs of drawing
   and coloured picture teach it. Isola, Zhu, Zhou and Efros 2017, "Image-to-image translation
   with conditional adversarial networks".

   New since 04: the generator's input is a picture x in place of noise z. Three ideas make that
   work:
     - the U-Net (Ronneberger et al. 2015): the picture is halved until 2x2 pixels are left,
       doubled again, and at every size what was found on the way down is laid beside what comes
       up. Where a line runs goes through these skips; what the drawing is of, through the middle.
     - the PatchGAN: D does not look at the whole but at every patch of it, together with the same
       patch of x: does this belong to that?
     - L = L_GAN(G,D) + lambda * L_1(G),  L_1 = E |y - G(x)|: the L1 distance tells what is where,
       the adversary how it should look.

   Run:      make 05_pix2pix        ARGS="--data A,B --test C,D" trains on A and B, shows C and D
   Data:     --data A,B: two folders with the same names in both, or two IDX files (N,H,W or
             N,C,H,W), input first; or one folder of pictures with input and output side by side
             (--swap: output and input). Without it: gan.h's shapes, from outlines to filled.
             --test: the same for pictures kept apart from training.
   Leaves:   out/05_pix2pix/        samples-NNNNN.png, log.csv, losses.png, state.safetensors,
                                    generator.safetensors
   Time:     eight minutes of one core
   Expect:   rows of four times input, output, truth, none of them seen in training. Drawings of
             faces and hands come out in the right colours; where the drawing does not tell the
             colour (the shapes), in one that would have been possible. */
#include "common.h"

static int width = 32;    /* channels of the first layer of G and of D */
static float lambda = 50; /* weight of L1 against the adversary */

/* ---- pairs of pictures */

typedef struct {
    gan_data *set;
    int a, b, c, h, w; /* channels of input and output; the shape of an item of set */
    int first, count;  /* the items that are shown, not trained on */
    bool beside, swap;
} pairs;

/* path is "A,B", or one folder of pictures side by side. */
static pairs open_pairs(gan *g, const char *path, int size, bool swap)
{
    pairs p = {.a = 3, .b = 3, .beside = there(path), .swap = swap};
    const char *comma = strchr(path, ',');
    if (p.beside) {
#ifdef STBI_INCLUDE_STB_IMAGE_H
        p.set = gan_data_folder(g, path, 3, size, 2 * size);
#endif
    } else if (comma) {
        char first[1024];
        snprintf(first, sizeof first, "%.*s", (int)(comma - path), path);
        gan_data *a = open_pictures(g, first, size);
        gan_data *b = a ? open_pictures(g, comma + 1, size) : NULL;
        if (b) {
            p.a = gan_batch(a, 1, NULL)->c;
            p.b = gan_batch(b, 1, NULL)->c;
            p.set = gan_data_pair(g, a, b);
        }
    } else {
        fprintf(stderr, "%s: neither a folder nor two paths with a comma between them\n", path);
        exit(1);
    }
    if (!p.set)
        fail();
    gan_tensor *one = gan_batch(p.set, 1, NULL);
    p.c = one->c;
    p.h = one->h;
    p.w = one->w;
    p.count = gan_data_size(p.set);
    if (swap) {
        int a = p.a;
        p.a = p.b;
        p.b = a;
    }
    gan_clear(g);
    return p;
}

/* Shapes, edges to filled; hold of them are made beyond those that are trained on. */
static pairs built_in(gan *g, int count, int hold, int size, bool swap)
{
    int all = count + hold;
    pairs p = {.a = 3, .b = 3, .c = 6, .h = size, .w = size, .swap = swap};
    gan_data *edges = gan_data_shapes(g, all, size, GAN_SHAPES_EDGES);
    gan_data *filled = gan_data_shapes(g, all, size, GAN_SHAPES_FILLED);
    p.set = gan_data_pair(g, edges, filled);
    p.first = count;
    p.count = hold;
    return p;
}

/* Items of a set, as they are -> x (N,A,size,size) and y (N,B,size,size). With jitter x and y
   are mirrored and shifted alike, a bit. */
static void take_apart(const pairs *p, gan_tensor *item, int size, bool jitter, gan_tensor **x,
                       gan_tensor **y)
{
    if (p->beside)
        item = gan_concat(gan_slice(item, 3, 0, size), gan_slice(item, 3, size, size), 1);
    if (item->h != size || item->w != size)
        item = gan_resize(item, size, size, GAN_BILINEAR);
    if (jitter) {
        int d = size / 16;
        item = gan_random_crop(gan_pad(item, d, d, d, d, GAN_REPLICATE), size, size);
        item = gan_augment(item, GAN_FLIP, 0.5f);
    }
    *x = gan_slice(item, 1, p->swap ? p->b : 0, p->a);
    *y = gan_slice(item, 1, p->swap ? 0 : p->a, p->b);
}

/* n items from number i on, in the set's order. */
static gan_tensor *items(gan *g, const pairs *p, int i, int n)
{
    size_t each = (size_t)p->c * (size_t)p->h * (size_t)p->w;
    gan_real *host = (gan_real *)malloc((size_t)n * each * sizeof *host);
    for (int k = 0; k < n; k++)
        gan_data_item(p->set, p->first + i + k, host + (size_t)k * each, NULL);
    gan_tensor *x = gan_from_host(g, host, n, p->c, p->h, p->w);
    free(host);
    return x;
}

/* ---- the two networks */

/* One size of the U-Net and all that are inside it: x (N,C,H,W) -> (N,out,H,W). Each halving has
   twice the channels, 8*width at most. */
static gan_tensor *unet(gan_model *G, gan_tensor *x, int level, int out)
{
    char down[32], up[32], norm[32];
    int channels = width << (level < 3 ? level : 3);
    snprintf(down, sizeof down, "down%d", level);
    snprintf(up, sizeof up, "up%d", level);
    if (level)
        x = gan_leaky_relu(x, 0.2f);
    x = gan_conv2d(G, down, x, channels, 4, 2, 1); /* (N,channels,H/2,W/2) */
    if (x->h > 2) {
        snprintf(norm, sizeof norm, "norm_down%d", level);
        if (level)
            x = gan_instance_norm(G, norm, x);
        gan_tensor *inside = unet(G, x, level + 1, channels);
        x = gan_concat(x, inside, 1); /* (N,2*channels,H/2,W/2): the skip */
    }
    x = gan_conv_transpose2d(G, up, gan_relu(x), out, 4, 2, 1); /* (N,out,H,W) */
    if (level == 0)
        return gan_tanh(x);
    snprintf(norm, sizeof norm, "norm_up%d", level);
    x = gan_instance_norm(G, norm, x);
    return level > 2 ? gan_dropout(G, x, 0.5f) : x; /* the paper's noise z */
}

/* x (N,A,S,S) -> (N,B,S,S) in [-1,1], B = channels */
static gan_tensor *generator(gan_model *G, gan_tensor *x, int channels)
{
    return unet(G, x, 0, channels);
}

/* x (N,A,S,S), y (N,B,S,S) -> (N,1,S/4-2,S/4-2): for each patch of 34x34 pixels, above 0 where y
   seems to be x's true picture. */
static gan_tensor *discriminator(gan_model *D, gan_tensor *x, gan_tensor *y)
{
    gan_tensor *h = gan_conv2d(D, "conv1", gan_concat(x, y, 1), width, 4, 2, 1);
    h = gan_leaky_relu(h, 0.2f);
    h = gan_conv2d(D, "conv2", h, 2 * width, 4, 2, 1);
    h = gan_leaky_relu(gan_instance_norm(D, "norm2", h), 0.2f);
    h = gan_conv2d(D, "conv3", h, 4 * width, 4, 1, 1);
    h = gan_leaky_relu(gan_instance_norm(D, "norm3", h), 0.2f);
    return gan_conv2d(D, "conv4", h, 1, 4, 1, 1);
}

/* ---- how good it is */

static gan_tensor *in_colour(gan_tensor *x)
{
    return gan_expand(x, x->n, 3, x->h, x->w);
}

/* Mean |y - G(x)| over the pictures kept apart, in steps of 255, and PSNR in dB; without G what
   x itself gets, where its channels fit. */
static void measure(gan *g, gan_model *G, const pairs *test, int size, double score[2])
{
    int count = test->count < 128 ? test->count : 128;
    score[0] = score[1] = 0;
    for (int i = 0, n; i < count; i += n) {
        gan_mark mark = gan_here(g);
        gan_tensor *x, *y, *out;
        n = count - i < 16 ? count - i : 16;
        take_apart(test, items(g, test, i, n), size, false, &x, &y);
        if (G)
            out = generator(G, x, y->c);
        else if (x->c == y->c)
            out = x;
        else
            out = gan_expand(gan_mean_to(x, n, 1, size, size), n, y->c, size, size);
        score[0] += (double)gan_item(gan_l1(out, y)) * 127.5 * n / count;
        score[1] += gan_psnr(out, y, 2) * n / count;
        gan_clear_to(g, mark);
    }
}

/* Rows of four times input, output, truth: (N,3,S,S) three times -> (N,9,S,S) -> (3N,3,S,S). */
static void save_triples(gan *g, gan_model *G, const pairs *test, int size, int step,
                         const options *o)
{
    gan_tensor *x, *y, *part[3];
    char name[64];
    int n = test->count < 24 ? test->count : 24;
    take_apart(test, items(g, test, 0, n), size, false, &x, &y);
    part[0] = in_colour(x);
    part[1] = in_colour(generator(G, x, y->c));
    part[2] = in_colour(y);
    snprintf(name, sizeof name, "samples-%05d.png", step);
    draw(gan_reshape(gan_concat_all(part, 3, 1), 3 * n, 3, size, size), 12, o, name);
}

/* Learns from data, and shows and measures what it can do on test. */
static void train(gan *g, const options *o, const pairs *data, const pairs *test, int size,
                  float adversary)
{
    const float lr = 1e-3f;
    gan_model *G = gan_model_new(g, "G");
    gan_model *D = gan_model_new(g, "D");
    gan_model *average = gan_model_new(g, "average");
    gan_opt *opt_g = gan_adam(G, lr, 0.5f, 0.999f);
    gan_opt *opt_d = gan_adam(D, lr / 2, 0.5f, 0.999f);
    gan_eval(average); /* its dropout is off: one answer, not one of many */
    int first = resume_from(g, o);
    gan_progress *log = gan_progress_open(g, in_folder(o, "log.csv"), "D,G,L1", first, o->steps,
                                          o->batch);
    if (!log)
        fail();

    double score[2];
    measure(g, NULL, test, size, score);
    printf("test: the input as it is: L1 %.1f of 255, PSNR %.2f dB\n", score[0], score[1]);

    int every = o->steps / 10 > 0 ? o->steps / 10 : 1;
    for (int step = first; step < o->steps; step++) {
        gan_set_lr(opt_g, gan_lr_linear(lr, step, o->steps / 2, o->steps));
        gan_set_lr(opt_d, gan_lr_linear(lr / 2, step, o->steps / 2, o->steps));

        gan_tensor *x, *y;
        take_apart(data, gan_batch(data->set, o->batch, NULL), size, true, &x, &y);
        gan_tensor *fake = generator(G, x, y->c);

        /* D: -E ln s(D(x,y)) - E ln(1 - s(D(x,G(x)))), halved to slow it down */
        gan_tensor *d_loss = gan_add(gan_bce_logits(discriminator(D, x, y), 1),
                                     gan_bce_logits(discriminator(D, x, gan_detach(fake)), 0));
        d_loss = gan_mul_scalar(d_loss, 0.5f);
        if (adversary > 0)
            gan_minimize(opt_d, d_loss);

        /* G: -E ln s(D(x,G(x))) + lambda E |y - G(x)| */
        gan_tensor *l1 = gan_l1(fake, y);
        gan_tensor *g_loss = gan_bce_logits(discriminator(D, x, fake), 1);
        gan_minimize(opt_g, gan_add(gan_mul_scalar(g_loss, adversary), gan_mul_scalar(l1, lambda)));
        gan_ema(average, G, step < 20 ? 0 : 0.995f);

        gan_progress_step(log, step, (double)gan_item(d_loss), (double)gan_item(g_loss),
                          (double)gan_item(l1));
        if (step == 0) {
            gan_summary(G);
            gan_summary(D);
        }
        gan_clear(g);

        if ((step + 1) % every == 0 || step + 1 == o->steps) {
            if (!o->quick || step + 1 == o->steps) {
                save_triples(g, average, test, size, step + 1, o);
                measure(g, average, test, size, score);
                printf("test: after %d steps: L1 %.1f of 255, PSNR %.2f dB\n", step + 1, score[0],
                       score[1]);
            }
            gan_clear(g);
            save_all(g, o, step + 1);
        }
    }
    gan_progress_close(log);
    if (!gan_save(average, in_folder(o, "generator.safetensors")))
        fail();
    draw_curves(g, o);
}

int main(int argc, char **argv)
{
    options o = {
        .out = "out/05_pix2pix", .steps = 4000, .batch = 8, .quick_steps = 12, .quick_batch = 4};
    const char *test_path = NULL;
    int size = 64;
    bool swap = false;
    float adversary = 1;
    const flag own[] = {
        {"--test", 't', &test_path, "pairs that are shown and measured, not trained on; as --data"},
        {"--size", 'i', &size, "side of the pictures: 32, 64, 128 ... (64)"},
        {"--swap", 's', &swap, "from the second to the first of each pair"},
        {"--width", 'i', &width, "channels of the first layers (32)"},
        {"--lambda", 'f', &lambda, "weight of L1 (50)"},
        {"--adversary", 'f', &adversary, "weight of the adversary (1); 0 leaves L1 alone"},
        {0, 0, 0, 0}};
    parse(argc, argv, &o, "05_pix2pix: from line drawings to coloured pictures, learnt from pairs",
          own);
    if (o.quick) {
        size = 32;
        width = 8;
    }
    if (size < 16 || size > 1024 || (size & (size - 1))) {
        fprintf(stderr, "--size %d: 16, 32, 64 ... 1024 is wanted\n", size);
        exit(2);
    }

    gan *g = open_device(&o);
    bool own_data = o.data && !o.quick;
    pairs data = own_data ? open_pairs(g, o.data, size, swap)
                          : built_in(g, o.quick ? 64 : 2000, 0, size, swap);
    pairs test = data;
    if (own_data && test_path)
        test = open_pairs(g, test_path, size, swap);
    else if (own_data)
        printf("no --test: what is shown has also been trained on\n");
    else
        test = built_in(g, o.quick ? 64 : 2000, o.quick ? 8 : 64, size, swap);
    if (test.a != data.a || test.b != data.b) {
        fprintf(stderr, "--test %s: its channels are not those of --data\n", test_path);
        exit(1);
    }

    train(g, &o, &data, &test, size, adversary);
    gan_close(g);
    return 0;
}
