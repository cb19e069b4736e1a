/* 10_stylegan: StyleGAN2 in small. A mapping network bends z into w, and w sets the style of
   every layer of the generator. Karras et al. 2019 (StyleGAN), 2020 (StyleGAN2), 2020 (ADA:
   training with limited data), 2018 (progressive growing).

   Run:      make 10_stylegan    or
             cc -O2 examples/10_stylegan.c -o stylegan -lm -pthread && ./stylegan
   Data:     --data a folder of pictures of any size, or an IDX file of colour pictures whose side
             is a multiple of --size; without it data/avatars, or, where that is not there, shapes
             that gan.h draws
   Leaves:   out/10_stylegan/    samples-NNNNN.png, log.csv, state.safetensors,
                                 generator.safetensors (F16, with the mean w)
   Time:     one thread takes 87 ms of processor time a step, 10 minutes in all
   Expect:   after 1,500 steps heads, after 4,000 hair, clothes and backgrounds of many kinds. A few
             of a hundred fail at psi 0.85: --psi 0.7 is safer, and duller.

   New since the DCGAN:
     - The generator (stylegan.h): modulated and demodulated convolutions, noise in every layer, an
       RGB layer for each side.
     - Weights at an equalized rate: N(0,1), scaled when used. Adam's steps are then as large for a
       wide layer as for a narrow one, and a step is a part lr of the weights: the papers' 0.002 is
       for millions of pictures, 0.008 learns as much from a quarter of them.
     - A residual discriminator that also sees how varied four pictures are; lazy R1: every 16th
       step, 16 times as strong.
     - Style mixing: half of the pictures take their later layers' style from a second z.
       11_style_mixing shows what that is good for.
     - --path: path length regularisation. --ada: augmentation that grows where data is little.
       --progressive: 4x4 first, then doubled.

   10_stylegan.safetensors (the averaged generator) and 10_stylegan.png are what the defaults
   leave, --seed 42, 7000 steps of 8 pictures, from 5,977 CC0 avatars (peeps64: Open Peeps by
   Pablo Stanley, drawn by DiceBear; --data with their IDX file of 64x64, halved); 36 minutes
   with --threads 1 on a busy machine. */
#include "stylegan.h"

static int size = 32;
static float gamma_r1 = 0.5f, psi = 0.85f, mixing = 0.5f;
static bool progressive, ada, path;

/* ---- the discriminator: residual, the same sides backwards */

/* (N,C,S,S) -> (N,out,S/2,S/2); the halves of the sum are scaled so that its variance is theirs. */
static gan_tensor *block(gan_model *D, gan_tensor *x, int out)
{
    char name[3][32];
    for (int i = 0; i < 3; i++)
        snprintf(name[i], sizeof name[i], "block%d.%d", x->h, i);
    gan_tensor *skip = gan_conv2d(D, name[0], down(x), out, 1, 1, 0);
    x = act(gan_conv2d(D, name[1], x, x->c, 3, 1, 1));
    x = act(gan_conv2d(D, name[2], down(x), out, 3, 1, 1));
    return gan_mul_scalar(gan_add(x, skip), 0.70710678f);
}

static gan_tensor *from_rgb(gan_model *D, gan_tensor *x)
{
    char name[32];
    snprintf(name, sizeof name, "rgb%d", x->h);
    return act(gan_conv2d(D, name, x, channels(x->h), 1, 1, 0));
}

/* x (N,3,S,S) -> (N,1,1,1). fade below 1: its largest side is that much there, the rest is what
   the next smaller one sees. */
static gan_tensor *discriminator(gan_model *D, gan_tensor *x, float fade)
{
    gan_tensor *small = fade < 1 ? from_rgb(D, down(x)) : NULL;
    x = from_rgb(D, x);
    while (x->h > 4) {
        x = block(D, x, channels(x->h / 2));
        if (small) {
            x = gan_add(gan_mul_scalar(x, fade), gan_mul_scalar(small, 1 - fade));
            small = NULL;
        }
    }
    int group = x->n % 4 ? x->n : 4;
    x = gan_minibatch_stddev(x, group); /* (N,width+1,4,4): how varied are four pictures? */
    x = act(gan_conv2d(D, "conv", x, width, 3, 1, 1));
    return gan_linear(D, "out", act(gan_linear(D, "fc", x, width)), 1);
}

/* ---- the generator's styles */

/* n pictures' w, (n,LATENT,K,1). Style mixing: with probability mixing the layers from a random
   one on take their style from a second z, so that no layer relies on what another's style is. */
static gan_tensor *styles(gan *g, gan_model *G, int n, int side)
{
    int k = styles_of(side);
    gan_tensor *w = mapping(G, gan_randn(g, 2 * n, LATENT, 1, 1));
    gan_tensor *a = all_layers(gan_slice(w, 0, 0, n), side);
    gan_real *u = (gan_real *)malloc(sizeof *u * (size_t)(2 * n));
    gan_real *second = (gan_real *)malloc(sizeof *second * (size_t)(n * k));
    gan_to_host(gan_rand(g, 2 * n, 1, 1, 1), u);
    for (int i = 0; i < n; i++) {
        int from = u[2 * i] < mixing ? 1 + (int)(u[2 * i + 1] * (gan_real)(k - 1)) : k;
        for (int j = 0; j < k; j++)
            second[i * k + j] = j >= from;
    }
    gan_tensor *mask = gan_from_host(g, second, n, 1, k, 1);
    gan_tensor *b = all_layers(gan_slice(w, 0, n, n), side);
    free(u);
    free(second);
    return gan_add(a, gan_mul(mask, gan_sub(b, a)));
}

/* A step in w shall move the picture equally far wherever it is taken. Lazy: on half a batch
   every fourth step, and 4 times as strong. */
static gan_tensor *path_penalty(gan *g, gan_model *G, int n, int side, float fade)
{
    gan_tensor *ws = styles(g, G, n, side);
    return gan_mul_scalar(gan_path_length(G, synthesis(G, ws, side, fade, NULL), ws), 4 * 2);
}

/* ---- growing: each side for an equal part of the first three fifths of the training, fading in
   during the first half of its part */
static int side_at(int step, int steps, float *fade)
{
    int stages = 1;
    while (4 << stages <= size)
        stages++;
    *fade = 1;
    if (!progressive)
        return size;

    float place = (float)step * (float)stages / (0.6f * (float)steps + 1);
    int stage = place < (float)(stages - 1) ? (int)place : stages - 1;
    if (stage > 0 && place - (float)stage < 0.5f)
        *fade = 2 * (place - (float)stage);
    return 4 << stage;
}

/* Real pictures (N,3,any,any) at the side that is trained, and while that fades in, partly as
   blurred as the side before. */
static gan_tensor *at_side(gan_tensor *x, int side, float fade)
{
    if (x->h > side)
        x = gan_avg_pool2d(x, x->h / side, x->h / side, 0);
    return fade < 1 ? gan_add(gan_mul_scalar(x, fade), gan_mul_scalar(up(down(x)), 1 - fade)) : x;
}

static gan_data *open_data(gan *g, const options *o)
{
    const char *path = o->data ? o->data : "data/avatars";
    gan_data *data = o->quick && !o->data ? NULL : open_pictures(g, path, size);
    if (!data && o->data)
        fail();
    if (!data && !o->quick)
        printf("data: no avatars (%s): built-in shapes take their place\n", gan_error());
    return data ? data : gan_data_shapes(g, o->quick ? 500 : 5000, size, GAN_SHAPES_FILLED);
}

/* 96 pictures of the averaged generator, twice as large. */
static void save_samples(gan *g, gan_model *G, const gan_real *noise, int step, const options *o)
{
    char name[64];
    float fade;
    int side = side_at(step - 1, o->steps, &fade);
    snprintf(name, sizeof name, "samples-%05d.png", step);
    measure_mean_w(g, G);
    gan_tensor *w = truncate_w(G, mapping(G, gan_from_host(g, noise, 96, LATENT, 1, 1)), psi);
    gan_tensor *x = synthesis(G, all_layers(w, side), side, fade, NULL);
    draw(gan_resize(x, 64, 64, GAN_NEAREST), 12, o, name);
    gan_clear(g);
}

static void train(gan *g, const options *o, float lr)
{
    gan_model *G = gan_model_new(g, "G");
    gan_model *D = gan_model_new(g, "D");
    gan_model *average = gan_model_new(g, "average");
    gan_weights(D, GAN_EQUALIZED, 1);
    gan_opt *opt_g = gan_adam(G, lr, 0, 0.99f);
    gan_opt *opt_d = gan_adam(D, lr, 0, 0.99f);
    gan_data *data = open_data(g, o);
    gan_real *noise = (gan_real *)malloc(sizeof *noise * 96 * LATENT);
    gan_to_host(gan_randn(g, 96, LATENT, 1, 1), noise);
    int first = resume_from(g, o);
    gan_progress *log = gan_progress_open(g, in_folder(o, "log.csv"), "D,G,p", first, o->steps,
                                          o->batch);
    if (!log)
        fail();

    int every = o->steps / 10 > 500 ? 500 : o->steps / 10;
    if (o->quick || o->steps < 10)
        every = o->steps;
    for (int step = first; step < o->steps; step++) {
        float fade;
        int side = side_at(step, o->steps, &fade);
        float rate = gan_lr_linear(lr, step, o->steps * 4 / 5, o->steps);
        gan_tensor *kept = gan_find_param(D, "ada.running_p");
        gan_real p = ada && kept ? gan_item(kept) : 0; /* how often to augment */
        gan_set_lr(opt_g, rate);
        gan_set_lr(opt_d, rate);

        gan_tensor *real = at_side(gan_batch(data, o->batch, NULL), side, fade);
        gan_tensor *fake = synthesis(G, styles(g, G, o->batch, side), side, fade, NULL);
        gan_tensor *shown = ada ? gan_augment(fake, GAN_DIFFAUGMENT | GAN_FLIP, p) : fake;
        if (ada)
            real = gan_augment(real, GAN_DIFFAUGMENT | GAN_FLIP, p);
        gan_tensor *d_real = discriminator(D, real, fade);
        gan_tensor *d_loss = gan_d_loss(d_real, discriminator(D, gan_detach(shown), fade),
                                        GAN_NON_SATURATING);
        gan_tensor *d_loss_and_r1 = d_loss;
        if (step % 16 == 0)
            d_loss_and_r1 = gan_add(d_loss,
                                    gan_mul_scalar(gan_r1(d_real, real), 16 * gamma_r1 / 2));
        if (ada)
            p = gan_ada(D, d_real, 0.6f, 100000); /* for the next step */
        gan_minimize(opt_d, d_loss_and_r1);

        gan_tensor *g_loss = gan_g_loss(NULL, discriminator(D, shown, fade), GAN_NON_SATURATING);
        gan_tensor *g_loss_and_path = g_loss;
        if (path && step % 4 == 0)
            g_loss_and_path = gan_add(g_loss, path_penalty(g, G, (o->batch + 1) / 2, side, fade));
        gan_minimize(opt_g, g_loss_and_path);
        gan_ema(average, G, gan_ema_decay(step, o->batch, 8000, 0.05f));

        gan_progress_step(log, step, (double)gan_item(d_loss), (double)gan_item(g_loss), (double)p);
        if (step == 0) {
            gan_summary(G);
            gan_summary(D);
        }
        gan_clear(g);

        if ((step + 1) % every == 0 || step + 1 == o->steps) {
            save_samples(g, average, noise, step + 1, o);
            save_all(g, o, step + 1);
            if (!gan_save_f16(average, in_folder(o, "generator.safetensors")))
                fail();
        }
    }
    gan_progress_close(log);
    free(noise);
}

int main(int argc, char **argv)
{
    options o = {
        .out = "out/10_stylegan", .steps = 7000, .batch = 8, .quick_steps = 9, .quick_batch = 4};
    float lr = 8e-3f;
    const flag own[] = {
        {"--size", 'i', &size, "side of the pictures: a power of two from 8 to 256"},
        {"--width", 'i', &width, "channels of the small sides"},
        {"--gamma", 'f', &gamma_r1, "weight of R1"},
        {"--mixing", 'f', &mixing, "how often two w share a picture"},
        {"--psi", 'f', &psi, "truncation of the samples"},
        {"--lr", 'f', &lr, "learning rate"},
        {"--path", 's', &path, "path length regularisation, every fourth step"},
        {"--ada", 's', &ada, "adaptive augmentation: for little data"},
        {"--progressive", 's', &progressive, "grow from 4x4 to the full size"},
        {NULL, 0, NULL, NULL}};
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--quick") == 0) {
            size = 16;
            width = 8;
            progressive = path = ada = true;
        }
    parse(argc, argv, &o, "10_stylegan: StyleGAN2 in small learns faces, or your pictures", own);
    if (size < 8 || size > LARGEST || (size & (size - 1))) {
        fprintf(stderr, "--size %d: a power of two from 8 to %d\n", size, LARGEST);
        exit(2);
    }

    gan *g = open_device(&o);
    train(g, &o, lr);
    gan_profile(g);
    gan_close(g);
    return 0;
}
