/* 01_dcgan: a generator learns to draw handwritten digits that a discriminator cannot tell from
   real ones. Radford, Metz and Chintala 2016; the losses are those of Goodfellow et al. 2014
   (the generator's non-saturating).

   Run:      make dcgan        or   cc -O2 examples/01_dcgan.c -o dcgan -lm -pthread && ./dcgan
   Leaves:   out/01_dcgan/     samples-NNNNN.png, losses.png, log.csv, state.safetensors,
                               generator.safetensors

   The networks are the paper's, at 28x28. What came after it, and what --plain leaves out:
     - R1 (Mescheder et al. 2018): the discriminator pays for being steep at real images, which
       keeps it from running away from the generator; every 16th step is enough (Karras et al.
       2020). It takes the place of the discriminator's batch norm, allows ten times the learning
       rate, and wants Adam without momentum: beta1 0, beta2 0.99.
     - The pictures come from a moving average of the generator's weights (Yazici et al. 2019),
       which smooths the to and fro of the two.
     - The learning rate falls to zero. */
#include "common.h"

static bool plain;        /* --plain */
static int drawn = 100;   /* digits in a picture */
static int settling = 20; /* batches of as many, for batch norm's statistics */

/* z (N,100,1,1) -> (N,1,28,28) in [-1,1] */
static gan_tensor *generator(gan_model *G, gan_tensor *z)
{
    gan_tensor *x = gan_reshape(gan_linear(G, "fc", z, 128 * 7 * 7), -1, 128, 7, 7);
    x = gan_relu(gan_batch_norm(G, "bn0", x));
    x = gan_conv_transpose2d(G, "up1", x, 64, 4, 2, 1); /* (N,64,14,14) */
    x = gan_relu(gan_batch_norm(G, "bn1", x));
    return gan_tanh(gan_conv_transpose2d(G, "up2", x, 1, 4, 2, 1));
}

/* x (N,1,28,28) -> (N,1,1,1), a logit: above 0 it takes the picture for real. */
static gan_tensor *discriminator(gan_model *D, gan_tensor *x)
{
    x = gan_leaky_relu(gan_conv2d(D, "conv1", x, 64, 4, 2, 1), 0.2f);
    x = gan_conv2d(D, "conv2", x, 128, 4, 2, 1);
    x = gan_leaky_relu(plain ? gan_batch_norm(D, "bn2", x) : x, 0.2f);
    return gan_linear(D, "fc", x, 1);
}

/* R1 = 1/2 E |grad D(x)|^2 at real images x. The gradient is a tensor like any other:
   gan_minimize differentiates it once more. */
static gan_tensor *r1(gan_model *D, gan_tensor *real)
{
    gan_tensor *slope = gan_grad(gan_sum(discriminator(D, real)), real);
    return gan_mul_scalar(gan_sum(gan_square(slope)), 0.5f / (float)real->n);
}

/* Puts G into evaluation mode, with batch norm's running mean and variance measured anew: G is an
   average of weights, and no batch has gone through these weights yet. A few batches do. */
static void settle(gan *g, gan_model *G)
{
    gan_train(G);
    for (int i = 0; i < settling; i++) {
        gan_mark mark = gan_here(g);
        generator(G, gan_randn(g, drawn, 100, 1, 1));
        gan_clear_to(g, mark);
    }
    gan_eval(G);
}

static void save_samples(gan *g, gan_model *G, const gan_real *noise, int step, const options *o)
{
    char name[64];
    snprintf(name, sizeof name, "samples-%05d.png", step);
    settle(g, G);
    draw(generator(G, gan_from_host(g, noise, drawn, 100, 1, 1)), drawn / 5, o, name);
    gan_train(G);
}

/* A number as IDX files hold it: four bytes, the highest first. */
static void write_number(FILE *file, int number)
{
    for (int shift = 24; shift >= 0; shift -= 8)
        fputc(number >> shift & 255, file);
}

/* count samples as an IDX file (count,28,28) of bytes, for measuring how good they are. */
static void write_idx(gan *g, gan_model *G, int count, const char *path)
{
    gan_real *host = (gan_real *)malloc(100 * 784 * sizeof *host);
    FILE *file = fopen(path, "wb");
    if (!file) {
        perror(path);
        exit(1);
    }
    write_number(file, 0x803); /* 8: bytes; 3: three sizes follow */
    write_number(file, count);
    write_number(file, 28);
    write_number(file, 28);

    settle(g, G);
    for (int done = 0; done < count; done += 100) {
        int some = count - done < 100 ? count - done : 100;
        gan_to_host(generator(G, gan_randn(g, 100, 100, 1, 1)), host);
        for (int i = 0; i < 784 * some; i++)
            fputc((int)((host[i] + 1) * 127.5f + 0.5f), file);
        gan_clear(g);
    }
    if (fclose(file) != 0) {
        perror(path);
        exit(1);
    }
    free(host);
}

int main(int argc, char **argv)
{
    options o = {
        .out = "out/01_dcgan", .steps = 4000, .batch = 64, .quick_steps = 10, .quick_batch = 4};
    int samples = 0;
    const flag own[] = {
        {"--samples", 'i', &samples, "at the end write N samples as FOLDER/samples-idx3-ubyte"},
        {"--plain", 's', &plain, "the first paper's settings, without what came later"},
        {0}};
    parse(argc, argv, &o, "01_dcgan: a DCGAN learns handwritten digits", own);

    if (o.quick) {
        drawn = 10;
        settling = 2;
    }
    const float lr = plain ? 2e-4f : 2e-3f;
    const float beta1 = plain ? 0.5f : 0;
    const float beta2 = plain ? 0.999f : 0.99f;

    gan *g = open_device(&o);
    gan_model *G = gan_model_new(g, "G");
    gan_model *D = gan_model_new(g, "D");
    gan_model *average = gan_model_new(g, "average");
    gan_opt *opt_g = gan_adam(G, lr, beta1, beta2);
    gan_opt *opt_d = gan_adam(D, lr, beta1, beta2);
    gan_data *data = open_digits(g, &o);

    gan_real noise[100 * 100]; /* the same for every picture */
    gan_to_host(gan_randn(g, 100, 100, 1, 1), noise);
    int first = resume_from(g, &o);
    gan_progress *log = gan_progress_open(g, in_folder(&o, "log.csv"), "D,G", first, o.steps,
                                          o.batch);
    if (!log)
        fail();

    int every = o.steps / 10 > 500 ? 500 : o.steps / 10 > 0 ? o.steps / 10 : 1;
    if (o.quick)
        every = o.steps;
    for (int step = first; step < o.steps; step++) {
        float rate = plain ? lr : lr * (1 - (float)step / (float)o.steps);
        gan_set_lr(opt_g, rate);
        gan_set_lr(opt_d, rate);

        gan_tensor *real = gan_batch(data, o.batch, NULL);
        gan_tensor *fake = generator(G, gan_randn(g, o.batch, 100, 1, 1));

        gan_tensor *d_loss = gan_add(gan_bce_logits(discriminator(D, real), 1.0f),
                                     gan_bce_logits(discriminator(D, gan_detach(fake)), 0.0f));
        bool penalized = !plain && step % 16 == 0; /* every 16th step, and then 16 times */
        gan_minimize(opt_d, penalized ? gan_add(d_loss, gan_mul_scalar(r1(D, real), 16)) : d_loss);

        gan_tensor *g_loss = gan_bce_logits(discriminator(D, fake), 1.0f);
        gan_minimize(opt_g, g_loss);
        gan_ema(average, G, plain || step < 20 ? 0 : 0.998f);

        gan_progress_step(log, step, (double)gan_item(d_loss), (double)gan_item(g_loss));
        if (step == 0) {
            gan_summary(G);
            gan_summary(D);
        }
        gan_clear(g);
        if ((step + 1) % every == 0 || step + 1 == o.steps) {
            save_samples(g, average, noise, step + 1, &o);
            gan_clear(g);
            save_all(g, &o, step + 1);
        }
    }
    gan_progress_close(log);
    if (!gan_save_f16(average, in_folder(&o, "generator.safetensors")))
        fail();
    if (samples)
        write_idx(g, average, samples, in_folder(&o, "samples-idx3-ubyte"));
#ifdef INCLUDE_STB_IMAGE_WRITE_H
    draw_curves(g, &o);
    printf("the digits: %s/samples-%05d.png\n", o.out, o.steps);
#endif
    gan_profile(g);
    gan_close(g);
    return 0;
}
