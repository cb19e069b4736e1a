/* 17_why_fake: what does a discriminator look at? Faults are planted in a part of generated digits,
   and the four heats of explain.h tell where it sees that the picture is fake: in the fault, or
   elsewhere.

   Papers:   those of explain.h
   Run:      make 17_why_fake
   Data:     --data MNIST's folder, an IDX file or "digits"; else data/mnist, else built-in digits.
             The networks are those of out/01_dcgan/state.safetensors where it is there (--from: of
             another), else they are trained here.
   Leaves:   out/17_why_fake/       faults.png, faults.csv, log.csv, state.safetensors
   Time:     45 s on one core
   Picture:  fakes, the same with a fault in the frame, and the four heats, in explain.h's order,
             for "this is fake". Red is hottest. */
#include "explain.h"

enum { NOISE, NEGATIVE, ANOTHER, FAULTS, PATCH = 8, COLUMNS = 12 };

/* clang-format off */
static const char *const fault_name[2 * FAULTS] = {
    "before", "noise",
    "before", "negative",
    "before", "another's patch",
};
/* clang-format on */

static int width = 64;

/* 01_dcgan's: z (N,100,1,1) -> (N,1,28,28) */
static gan_tensor *generator(gan_model *G, gan_tensor *z)
{
    return digits_generator(G, z, width);
}

/* 01_dcgan's, with the maps that Grad-CAM reads: x (N,1,28,28) -> (N,1,1,1) */
static gan_tensor *discriminator(gan_model *D, gan_tensor *x, gan_tensor **maps)
{
    *maps = digits_maps(D, x, width, false); /* (N,128,7,7) */
    return gan_linear(D, "fc", *maps, 1);
}

/* ---- the discriminator: 01's training in short, and faults planted in what its generator draws */

static void train(gan *g, gan_data *data, const options *o, const char *from, gan_model *G,
                  gan_model *D, gan_model *average)
{
    gan_opt *opt_g = gan_adam(G, 2e-3f, 0, 0.99f);
    gan_opt *opt_d = gan_adam(D, 2e-3f, 0, 0.99f);
    int first = 0;
    if (!from || !there(from) || !gan_load_state(g, from, &first))
        first = resume_from(g, o);
    else
        printf("discriminator and generator: those of %s, after %d steps\n", from, first);
    gan_progress *log = gan_progress_open(g, in_folder(o, "log.csv"), "D,G", first, o->steps,
                                          o->batch);
    if (!log)
        fail();
    for (int step = first; step < o->steps; step++) {
        gan_tensor *real = gan_batch(data, o->batch, NULL);
        gan_tensor *fake = generator(G, gan_randn(g, o->batch, 100, 1, 1));
        gan_tensor *maps;
        gan_tensor *a = discriminator(D, real, &maps);
        gan_tensor *b = discriminator(D, gan_detach(fake), &maps);
        gan_tensor *d_loss = gan_d_loss(a, b, GAN_NON_SATURATING);
        float rate = 2e-3f * (1 - (float)step / (float)o->steps);
        gan_set_lr(opt_g, rate);
        gan_set_lr(opt_d, rate);
        gan_tensor *d_loss_and_r1 = d_loss;
        if (step % 16 == 0)
            d_loss_and_r1 = gan_add(d_loss, gan_mul_scalar(gan_r1(a, real), 8));
        gan_minimize(opt_d, d_loss_and_r1);

        gan_tensor *g_loss = gan_g_loss(NULL, discriminator(D, fake, &maps), GAN_NON_SATURATING);
        gan_minimize(opt_g, g_loss);
        gan_ema(average, G, step < 20 ? 0 : 0.99f);
        gan_progress_step(log, step, (double)gan_item(d_loss), (double)gan_item(g_loss));
        gan_clear(g);
        if ((step + 1) % 200 == 0 || step + 1 == o->steps)
            save_all(g, o, step + 1);
    }
    gan_progress_close(log);
}

/* x (N,1,H,W) -> (N,3,H,W): with a frame around where mask (N,1,H,W) is 1. */
static gan_tensor *framed(gan_tensor *x, gan_tensor *mask)
{
    static const gan_real blue[3] = {-1, (gan_real)0.6, 1};
    gan_tensor *frame = gan_sub(gan_max_pool2d(mask, 3, 1, 1, false), mask);
    return gan_add(x, gan_mul(frame, gan_sub(gan_from_host(x->g, blue, 1, 3, 1, 1), x)));
}

/* x (N,1,28,28) with something wrong where mask is 1, a patch of 8x8 somewhere in each picture. */
static gan_tensor *plant(int fault, gan_tensor *x, gan_tensor **mask)
{
    gan *g = x->g;
    gan_real *m = (gan_real *)malloc((size_t)x->n * 786 * sizeof *m);
    gan_real *at = m + x->n * 784;
    gan_to_host(gan_rand(g, x->n, 2, 1, 1), at);
    for (int i = 0; i < x->n * 784; i++) {
        int down = i % 784 / 28 - 5 - (int)(at[i / 784 * 2] * 11);
        int right = i % 28 - 5 - (int)(at[i / 784 * 2 + 1] * 11);
        m[i] = down >= 0 && down < PATCH && right >= 0 && right < PATCH;
    }
    *mask = gan_from_host(g, m, x->n, 1, 28, 28);
    free(m);
    gan_tensor *wrong;
    if (fault == NOISE)
        wrong = gan_add_scalar(gan_mul_scalar(gan_rand(g, x->n, 1, 28, 28), 2), -1);
    else if (fault == NEGATIVE)
        wrong = gan_neg(x);
    else
        wrong = gan_concat(gan_slice(x, 0, 1, x->n - 1), gan_slice(x, 0, 0, 1), 0);
    return gan_add(x, gan_mul(*mask, gan_sub(wrong, x)));
}

/* For each fault, in n fakes: D, and the share of the heat for "fake" in the patch, without and
   with the fault. rows: 6 rows of pictures, of which each fault fills a third. */
static void faults(gan *g, const subject *s, gan_model *G, int n, const options *o,
                   gan_tensor **rows)
{
    double value[2 * FAULTS][1 + METHODS];
    int some = COLUMNS / FAULTS;
    for (int fault = 0; fault < FAULTS; fault++) {
        gan_tensor *fake = generator(G, gan_randn(g, n, 100, 1, 1));
        gan_tensor *mask;
        gan_tensor *maps;
        gan_tensor *both[2] = {fake, plant(fault, fake, &mask)};
        rows[fault] = gan_expand(gan_slice(fake, 0, 0, some), some, 3, 28, 28);
        rows[FAULTS + fault] = framed(gan_slice(both[1], 0, 0, some), gan_slice(mask, 0, 0, some));
        for (int planted = 0; planted < 2; planted++) {
            gan_tensor *x = both[planted];
            gan_tensor *wanted = gan_full(g, -1, n, 1, 1, 1);
            double *row = value[2 * fault + planted];
            row[0] = (double)gan_item(gan_mean(s->f(s->m, x, &maps)));
            for (int method = 0; method < METHODS; method++) {
                gan_tensor *heat = explain(method, s, x, wanted);
                gan_tensor *all = gan_add_scalar(gan_sum_to(heat, n, 1, 1, 1), (gan_real)1e-20);
                gan_tensor *in_patch = gan_sum_to(gan_mul(heat, mask), n, 1, 1, 1);
                row[1 + method] = (double)gan_item(gan_mean(gan_div(in_patch, all)));
                if (planted)
                    rows[(2 + method) * FAULTS + fault] = overlay(gan_slice(x, 0, 0, some),
                                                                  gan_slice(heat, 0, 0, some));
            }
        }
    }
    print_table("faults: D(x), and the share of the heat in the patch, which is 0.082 of the area",
                "D,saliency,SmoothGrad,integrated,Grad-CAM", fault_name, value[0], 2 * FAULTS,
                1 + METHODS, o, "faults.csv");
}

int main(int argc, char **argv)
{
    options o = {
        .out = "out/17_why_fake", .steps = 800, .batch = 32, .quick_steps = 10, .quick_batch = 8};
    const char *from = NULL;
    const flag own[] = {{"--from", 't', &from,
                         "a state of 01_dcgan (out/01_dcgan/state.safetensors where it is there)"},
                        {0}};
    parse(argc, argv, &o, "17_why_fake: what a discriminator looks at", own);
    if (o.quick) {
        width = 16;
        points = 2;
    } else if (!from && !o.resume) {
        from = "out/01_dcgan/state.safetensors";
    }

    gan *g = open_device(&o);
    gan_model *G = gan_model_new(g, "G");
    gan_model *D = gan_model_new(g, "D");
    gan_model *average = gan_model_new(g, "average");
    gan_data *data = open_digits(g, &o);
    gan_tensor *rows[6 * FAULTS];
    train(g, data, &o, from, G, D, average);
    subject asked = {D, discriminator, -1};
    faults(g, &asked, average, o.quick ? COLUMNS : 100, &o, rows);
    draw(gan_resize(gan_concat_all(rows, 6 * FAULTS, 0), 56, 56, GAN_NEAREST), COLUMNS, &o,
         "faults.png");
    gan_profile(g);
    gan_close(g);
    return 0;
}
