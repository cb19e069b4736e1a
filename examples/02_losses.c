/* 02_losses: the same small GAN trained with eight losses, several seeds each, and compared by numbers and by pictures; then, on a ring of
   eight Gaussians, a GAN that falls into one mode after the other and an unrolled one that does not.

   New since 01: what G and D want of each other is a choice, and choices are judged by a measure over seeds, not by one lucky picture.
   Papers:   Goodfellow et al. 2014 (minimax, non-saturating), Mao et al. 2017 (least squares), Lim and Ye 2017 (hinge), Arjovsky et al.
             2017 (WGAN), Gulrajani et al. 2017 (WGAN-GP), Mescheder et al. 2018 (R1), Miyato et al. 2018 (spectral norm),
             Heusel et al. 2017 (Frechet distance), Metz et al. 2017 (unrolled GAN)
   Run:      make 02_losses            or   make 02_losses ARGS="--losses hinge,wgan-gp --seeds 5"   or   make 02_losses ARGS="--ring"
   Data:     --data reads MNIST's folder, one IDX file of 28x28 images, or "digits"; without it data/mnist or the built-in digits.
   Time:     TIME
   Leaves:   out/02_losses/    samples.png (a row for each loss, in the table's order), ring.png, log.csv (every run), table.csv,
             LOSS-SEED.csv and .safetensors (a run's losses and generator), state.safetensors (of the run under way)
   Resume:   --resume skips the runs that log.csv holds and takes up the one that was interrupted where it was saved last; the ring
             begins again. */
#include "common.h"
#include "zoo.h"

enum { Z = 64, RUNS = 100 };
static int width = 32;      /* channels of G's and D's finest layer */

static gan_tensor *generator(gan_model *G, gan_tensor *z)       /* (N,64,1,1) -> (N,1,28,28) in [-1,1] */
{
    gan_tensor *x = gan_reshape(gan_linear(G, "fc", z, 2 * width * 7 * 7), -1, 2 * width, 7, 7);
    x = gan_relu(gan_batch_norm(G, "bn0", x));
    x = gan_conv_transpose2d(G, "up1", x, width, 4, 2, 1);      /* (N,32,14,14) */
    x = gan_relu(gan_batch_norm(G, "bn1", x));
    return gan_tanh(gan_conv_transpose2d(G, "up2", x, 1, 4, 2, 1));
}

static gan_tensor *discriminator(gan_model *D, gan_tensor *x)   /* (N,1,28,28) -> (N,1,1,1): any number, for every loss */
{
    x = gan_leaky_relu(gan_conv2d(D, "conv1", x, width, 4, 2, 1), 0.2f);        /* (N,32,14,14) */
    x = gan_leaky_relu(gan_conv2d(D, "conv2", x, 2 * width, 4, 2, 1), 0.2f);    /* (N,64,7,7) */
    return gan_linear(D, "fc", x, 1);
}

/* What differs between the runs. D makes critic steps for each of G's; Adam's beta1 and beta2, or RMSprop where beta1 is below 0. */
enum { NOTHING, CLIP, PENALTY, R1, SPECTRAL };
typedef struct { const char *name; int loss, extra, critic; float lr, beta1, beta2; } recipe;
static const recipe recipes[] = {
    {"minimax",        GAN_MINIMAX,        NOTHING,  1, 5e-4f, 0.5f, 0.999f},
    {"non-saturating", GAN_NON_SATURATING, NOTHING,  1, 5e-4f, 0.5f, 0.999f},
    {"least-squares",  GAN_LEAST_SQUARES,  NOTHING,  1, 5e-4f, 0.5f, 0.999f},
    {"hinge",          GAN_HINGE,          NOTHING,  1, 5e-4f, 0.5f, 0.999f},
    {"wgan",           GAN_WASSERSTEIN,    CLIP,     5, 5e-4f, -1,   0.99f},
    {"wgan-gp",        GAN_WASSERSTEIN,    PENALTY,  5, 5e-4f, 0.5f, 0.9f},
    {"ns-r1",          GAN_NON_SATURATING, R1,       1, 2e-3f, 0,    0.99f},
    {"hinge-sn",       GAN_HINGE,          SPECTRAL, 1, 5e-4f, 0.5f, 0.999f},
};
enum { RECIPES = sizeof recipes / sizeof recipes[0] };

static gan_opt *optimizer(gan_model *m, const recipe *r)
{
    return r->beta1 < 0 ? gan_rmsprop(m, r->lr, r->beta2) : gan_adam(m, r->lr, r->beta1, r->beta2);
}

/* D's loss, with a = D(real), b = D(fake):
     wgan-gp   + 10 E (|grad D(x)| - 1)^2 at points x between real and fake ones
     ns-r1     + 1/2 E |grad D(x)|^2 at real images x, every 4th step and then 4 times as much (Karras et al. 2020) */
static gan_tensor *d_loss(const recipe *r, gan_model *D, gan_tensor *real, gan_tensor *fake, int step)
{
    gan_tensor *a = discriminator(D, real), *loss = gan_d_loss(r->loss, a, discriminator(D, fake));
    if (r->extra == PENALTY) loss = gan_add(loss, gan_mul_scalar(gan_wgan_gp(discriminator, D, real, fake), 10));
    if (r->extra == R1 && step % 4 == 0) loss = gan_add(loss, gan_mul_scalar(gan_r1(a, real), 0.5f * 4));
    return loss;
}

/* ---- one run: a loss and a seed, and what came of it */
typedef struct { double frechet, ms; int classes; unsigned long long seed; } result;

/* The run's row in log.csv: how --resume knows that it is done. */
static bool find_run(const options *o, const recipe *r, unsigned long long seed, result *found)
{
    FILE *file = fopen(in_folder(o, "log.csv"), "r");
    char line[256], name[32];
    int steps;
    bool is = false;
    while (file && !is && fgets(line, sizeof line, file))
        is = sscanf(line, "%31[^,],%llu,%d,%lf,%d,%lf", name, &found->seed, &steps, &found->frechet, &found->classes, &found->ms) == 6
             && strcmp(name, r->name) == 0 && found->seed == seed && steps == o->steps;
    if (file) fclose(file);
    return is;
}

/* out/LOSS-SEED.ending */
static const char *run_file(const options *o, const recipe *r, unsigned long long seed, const char *ending)
{
    char name[64];
    snprintf(name, sizeof name, "%s-%llu.%s", r->name, seed, ending);
    return in_folder(o, name);
}

/* Batch norm's running statistics for averaged weights, which no batch has met: a few batches, then evaluation mode. */
static void settle(gan *g, gan_model *G, int batch)
{
    for (int i = 0; i < 40; i++) {
        gan_mark mark = gan_here(g);
        generator(G, gan_randn(g, batch, Z, 1, 1));
        gan_clear_to(g, mark);
    }
    gan_eval(G);
}

static gan_tensor *samples(gan *g, int n, void *G) { return generator((gan_model *)G, gan_randn(g, n, Z, 1, 1)); }

static gan_tensor *real_images(gan *g, int n, void *data)       /* the first n, in batches: at is where the next begins */
{
    static int at = 0;
    gan_real *pixels = (gan_real *)malloc((size_t)n * 784 * sizeof *pixels);
    for (int i = 0; i < n; i++) gan_data_item((gan_data *)data, at++, pixels + 784 * i, NULL);
    gan_tensor *x = gan_from_host(g, pixels, n, 1, 28, 28);
    free(pixels);
    return x;
}

/* Features (count,500) of the real side: MNIST's test images (zoo.h's protocol), or built-in digits of a seed that no run learns from. */
static gan_real *real_features(const options *o, int *count)
{
    gan *g = gan_open(o->device, o->seed + 1000000);
    gan_data *data = NULL;
    const char *folder = o->data ? o->data : "data/mnist";
    if (!o->quick && is_folder(folder)) data = open_mnist(g, folder, "t10k");
    printf("Frechet distance: %d samples against %s\n", *count, data ? "MNIST's test images" : "built-in digits of another seed: not to be compared with MNIST's");
    if (!data) data = gan_data_digits(g, *count);
    gan_model *classifier = zoo_classifier(g);
    if (!classifier) fail();
    if (gan_data_size(data) < *count) *count = gan_data_size(data);
    gan_real *features = (gan_real *)malloc((size_t)*count * 510 * sizeof *features);
    zoo_measure(classifier, g, real_images, data, *count, features, features + (size_t)*count * 500);
    gan_close(g);
    return features;
}

static void train(gan *g, const options *o, const recipe *r, unsigned long long seed, gan_model *average, result *out)
{
    char name[2][64];
    for (int i = 0; i < 2; i++) snprintf(name[i], sizeof name[i], "%c %s %llu", "GD"[i], r->name, seed);     /* whose state this is */
    gan_model *G = gan_model_new(g, name[0]), *D = gan_model_new(g, name[1]);
    if (r->extra == SPECTRAL) gan_weights(D, GAN_SPECTRAL, 1);
    gan_opt *opt_g = optimizer(G, r), *opt_d = optimizer(D, r);
    gan_data *data = open_digits(g, o);
    int first = resume_from(g, o);
    printf("%s, seed %llu\n", r->name, seed);
    gan_progress *log = gan_progress_open(g, run_file(o, r, seed, "csv"), "D,G", first, o->steps, o->batch);
    if (!log) fail();
    clock_t start = clock();
    for (int step = first; step < o->steps; step++) {
        double d = 0;
        gan_set_lr(opt_g, gan_lr_linear(r->lr, step, o->steps / 2, o->steps));
        gan_set_lr(opt_d, gan_lr_linear(r->lr, step, o->steps / 2, o->steps));
        for (int k = 0; k < r->critic; k++) {
            gan_tensor *fake = gan_detach(generator(G, gan_randn(g, o->batch, Z, 1, 1)));
            gan_tensor *loss = d_loss(r, D, gan_batch(data, o->batch, NULL), fake, step);
            gan_minimize(opt_d, loss);
            if (r->extra == CLIP) gan_clip_weights(D, 0.01f);
            d = (double)gan_item(loss);
            gan_clear(g);
        }
        gan_tensor *loss = gan_g_loss(r->loss, NULL, discriminator(D, generator(G, gan_randn(g, o->batch, Z, 1, 1))));
        gan_minimize(opt_g, loss);
        gan_ema(average, G, step < 20 ? 0 : 0.99f);
        gan_progress_step(log, step, d, (double)gan_item(loss));
        gan_clear(g);
        if ((step + 1) % 100 == 0 || step + 1 == o->steps) save_all(g, o, step + 1);
    }
    out->ms = 1000.0 * (double)(clock() - start) / CLOCKS_PER_SEC / (o->steps > first ? o->steps - first : 1);
    gan_progress_close(log);
}

/* Trains, measures, and appends the run to log.csv. Every run has a device of its own: its numbers do not depend on what ran before. */
static void run(const options *o, const recipe *r, unsigned long long seed, const gan_real *real, int count)
{
    options own = *o;
    own.seed = seed;
    gan *g = open_device(&own);
    gan_model *average = gan_model_new(g, "average"), *classifier = zoo_classifier(g);
    result out = {0, 0, 0, seed};
    int histogram[10];
    if (!classifier) fail();
    train(g, &own, r, seed, average, &out);
    settle(g, average, o->batch);
    gan_real *fake = (gan_real *)malloc((size_t)count * 510 * sizeof *fake), *classes = fake + (size_t)count * 500;
    zoo_measure(classifier, g, samples, average, count, fake, classes);
    out.frechet = gan_frechet_distance(real, count, fake, count, 500);
    gan_modes(classes, count, 10, histogram);
    for (int k = 0; k < 10; k++) out.classes += histogram[k] * 100 >= count;
    if (!gan_save(average, run_file(o, r, seed, "safetensors"))) fail();
    FILE *file = fopen(in_folder(o, "log.csv"), "a");
    if (!file) perror("log.csv"), exit(1);
    fprintf(file, "%s,%llu,%d,%.3f,%d,%.3f\n", r->name, seed, o->steps, out.frechet, out.classes, out.ms);
    if (fclose(file) != 0) perror("log.csv"), exit(1);
    printf("  Frechet distance %.1f, %d of 10 classes\n", out.frechet, out.classes);
    free(fake);
    gan_close(g);
}

/* The table, a line for each loss: its run in the middle by Frechet distance, whose samples are the loss's row in the picture, and the
   best and worst. */
static void summary(const options *o, const bool *chosen, int seeds, int count)
{
    gan *g = gan_open(o->device, o->seed);
    gan_tensor *rows[RECIPES];
    int used = 0, columns = o->quick ? 4 : 24;
    FILE *file = fopen(in_folder(o, "table.csv"), "w");
    if (!file) perror("table.csv"), exit(1);
    fprintf(file, "loss,frechet,best,worst,classes,ms\n");
    printf("\n%-15s Frechet distance (N = %d)       classes   CPU ms\n%-15s   median    best   worst         caught   a step\n", "loss", count, "");
    gan_tensor *z = gan_randn(g, columns, Z, 1, 1);             /* the same for every row */
    for (int i = 0; i < RECIPES; i++) {
        result runs[RUNS], next;
        if (!chosen[i]) continue;
        for (int s = 0, k; s < seeds; s++) {                    /* sorted as they come */
            find_run(o, &recipes[i], o->seed + (unsigned)s, &next);
            for (k = s; k > 0 && runs[k - 1].frechet > next.frechet; k--) runs[k] = runs[k - 1];
            runs[k] = next;
        }
        result *median = &runs[(seeds - 1) / 2];
        printf("%-15s %8.1f %7.1f %7.1f       %2d of 10 %8.1f\n", recipes[i].name, median->frechet, runs[0].frechet, runs[seeds - 1].frechet, median->classes, median->ms);
        fprintf(file, "%s,%.3f,%.3f,%.3f,%d,%.3f\n", recipes[i].name, median->frechet, runs[0].frechet, runs[seeds - 1].frechet, median->classes, median->ms);
        gan_model *G = gan_model_new(g, recipes[i].name);
        if (!gan_load(G, run_file(o, &recipes[i], median->seed, "safetensors"))) fail();
        gan_eval(G);
        rows[used++] = generator(G, z);
    }
    if (fclose(file) != 0) perror("table.csv"), exit(1);
    draw(gan_concat_all(rows, used, 0), columns, o, "samples.png");
    gan_close(g);
}

/* ---- the ring: p(x) is eight Gaussians, deviation 0.1, on a circle of radius 2 */
enum { MODES = 8, HIDDEN = 64, WEIGHTS = 2 * HIDDEN + HIDDEN + HIDDEN * HIDDEN + HIDDEN + HIDDEN + 1, FRAMES = 6, SIDE = 140 };
static const double PI = 3.14159265358979, PI2 = 0;
static float deviation = 0.1f;
static float ring_lr = 1e-3f, virtual_lr = 0.3f, ring_dlr = 1e-4f;

static gan_tensor *ring(gan *g, int n)                          /* (N,2,1,1): every mode as often as any other */
{
    gan_real *x = (gan_real *)malloc((size_t)n * 2 * sizeof *x);
    for (int i = 0; i < n; i++) x[2 * i] = (gan_real)(2 * cos(i * 2 * PI / MODES)), x[2 * i + 1] = (gan_real)(2 * sin(i * 2 * PI / MODES));
    gan_tensor *centre = gan_from_host(g, x, n, 2, 1, 1);
    free(x);
    return gan_add(centre, gan_mul_scalar(gan_randn(g, n, 2, 1, 1), (gan_real)deviation));
}

static gan_tensor *ring_generator(gan_model *G, gan_tensor *z)  /* (N,64,1,1) -> (N,2,1,1) */
{
    z = gan_tanh(gan_linear(G, "fc1", z, HIDDEN));
    return gan_linear(G, "fc3", gan_tanh(gan_linear(G, "fc2", z, HIDDEN)), 2);
}

/* x (N,2,1,1) -> (N,1,1,1). All weights of D are one row w (WEIGHTS,1,1,1), a tensor like any other: D after a step is another row. */
static gan_tensor *ring_discriminator(gan_tensor *w, gan_tensor *x)
{
    static const int size[4] = {2, HIDDEN, HIDDEN, 1};
    for (int i = 0, at = 0; i < 3; at += size[i + 1] * (size[i] + 1), i++) {
        gan_tensor *weight = gan_reshape(gan_slice(w, 0, at, size[i] * size[i + 1]), size[i + 1], size[i], 1, 1);
        x = gan_linear_f(x, weight, gan_reshape(gan_slice(w, 0, at + size[i] * size[i + 1], size[i + 1]), 1, size[i + 1], 1, 1));
        if (i < 2) x = gan_tanh(x);
    }
    return x;
}

/* w_0 = w, w_k+1 = w_k - eta grad_w L_D(w_k): D as it will be after so many steps. Each w_k depends on G through fake, so that G's loss at
   the last one also says how D would answer (Metz et al. 2017, equation 6). */
static gan_tensor *unrolled(gan_tensor *w, gan_tensor *real, gan_tensor *fake, int steps)
{
    for (int k = 0; k < steps; k++) {
        gan_tensor *loss = gan_d_loss(GAN_NON_SATURATING, ring_discriminator(w, real), ring_discriminator(w, fake));
        w = gan_sub(w, gan_mul_scalar(gan_grad(loss, w), (gan_real)virtual_lr));
    }
    return w;
}

/* The frame's picture (3,SIDE,SIDE): blue points for the samples x (n,2), an orange circle of three deviations around each mode. Returns how
   many modes are caught: more than 1% of the samples are in its circle. */
static int draw_ring(const gan_real *x, int n, gan_real *picture)
{
    int inside[MODES] = {0}, caught = 0;
    for (int i = 0; i < 3 * SIDE * SIDE; i++) picture[i] = 1;
    for (int i = -360 * MODES; i < n; i++) {                    /* the circles, then the samples */
        int m = (i + 360 * MODES) / 360;
        double px = i < 0 ? 2 * cos(m * 2 * PI / MODES) + 3 * deviation * cos(i * PI / 180) : (double)x[2 * i];
        double py = i < 0 ? 2 * sin(m * 2 * PI / MODES) + 3 * deviation * sin(i * PI / 180) : (double)x[2 * i + 1];
        for (m = 0; i >= 0 && m < MODES; m++)
            inside[m] += hypot(px - 2 * cos(m * 2 * PI / MODES), py - 2 * sin(m * 2 * PI / MODES)) < 3 * deviation;
        int column = (int)((px / 6 + 0.5) * SIDE), row = (int)((0.5 - py / 6) * SIDE);
        if (!(fabs(px) < 3 && fabs(py) < 3)) continue;
        for (int c = 0; c < 3; c++) picture[(c * SIDE + row) * SIDE + column] = (gan_real)(i < 0 ? 0.9 - 0.5 * c : c - 1);
    }
    for (int m = 0; m < MODES; m++) caught += inside[m] * 100 > n;
    return caught;
}

/* One row of the strip: FRAMES pictures of a training with D unrolled so many steps, or of a plain one (0). */
static void train_ring(const options *o, int steps, int unroll, gan_real *pictures)
{
    gan *g = gan_open(o->device, o->seed);
    gan_set_threads(g, o->threads);
    gan_model *G = gan_model_new(g, "G"), *D = gan_model_new(g, "D");
    gan_opt *opt_g = gan_adam(G, ring_lr, 0.5f, 0.999f), *opt_d = gan_adam(D, ring_dlr, 0.5f, 0.999f);
    gan_tensor *w = gan_param(D, "w", WEIGHTS, 1, 1, 1);
    int batch = o->quick ? 16 : 256, shown = o->quick ? 100 : 2000;
    gan_real *x = (gan_real *)malloc(sizeof *x * (size_t)(2 * shown > WEIGHTS ? 2 * shown : WEIGHTS));
    gan_to_host(gan_randn(g, WEIGHTS, 1, 1, 1), x);             /* normal, deviation 0.8/sqrt(fan in) */
    for (int i = 0; i < WEIGHTS; i++) x[i] *= (gan_real)(0.8 / sqrt(i < 3 * HIDDEN ? 2 : HIDDEN));
    gan_set(w, x);
    gan_init_model(G, GAN_INIT_ORTHOGONAL, 0.8f);
    for (int step = 0, frame = 0; step <= steps; step++) {
        if (step == (int)((double)steps * frame * frame / ((FRAMES - 1) * (FRAMES - 1)))) {      /* at 0, 1/25, 4/25 .. 1 of the steps */
            gan_to_host(ring_generator(G, gan_randn(g, shown, Z, 1, 1)), x);
            printf("%s, step %5d: %d of %d modes\n", unroll ? "unrolled" : "plain   ", step, draw_ring(x, shown, pictures + 3 * SIDE * SIDE * frame), MODES);
            frame++;
        }
        gan_tensor *real = ring(g, batch), *fake = ring_generator(G, gan_randn(g, batch, Z, 1, 1));
        gan_tensor *d_loss = gan_d_loss(GAN_NON_SATURATING, ring_discriminator(w, real), ring_discriminator(w, gan_detach(fake)));
        gan_minimize(opt_g, gan_g_loss(GAN_NON_SATURATING, NULL, ring_discriminator(unrolled(w, real, fake, unroll), fake)));
        gan_minimize(opt_d, d_loss);
        gan_clear(g);
    }
    free(x);
    gan_close(g);
}

int main(int argc, char **argv)
{
    options o = {"cpu", "out/02_losses", 800, 32, 2, 4, 42, NULL, 0, false, false};
    const char *losses = NULL;
    int seeds = 3, unroll = 5, ring_steps = 5000, count = 10000;
    bool ring_only = false, chosen[RECIPES];
    const flag own[] = {{"--losses", 't', &losses, "some of them: NAME,NAME"}, {"--seeds", 'i', &seeds, "runs of each loss"},
                        {"--ring", 's', &ring_only, "only the ring of Gaussians"}, {"--unroll", 'i', &unroll, "virtual steps of D"},
                        {"--ring-steps", 'i', &ring_steps, "training steps on the ring"},
                        {"--dev", 'f', &deviation, ""}, {"--rlr", 'f', &ring_lr, ""}, {"--rdlr", 'f', &ring_dlr, ""}, {"--vlr", 'f', &virtual_lr, ""}, {0}};
    parse(argc, argv, &o, "02_losses: one small GAN, eight losses; and unrolling against mode collapse", own);
    if (o.quick) seeds = 1, ring_steps = 3, unroll = 2, count = 20, width = 8;
    if (seeds > RUNS) seeds = RUNS;
    make_folders(o.out);
    if (!o.resume && !ring_only) remove(in_folder(&o, "log.csv"));
    gan_real *real = ring_only ? NULL : real_features(&o, &count);
    for (int i = 0; i < RECIPES && !ring_only; i++) {
        size_t length = strlen(recipes[i].name);
        const char *at = losses;
        while (at && (strncmp(at, recipes[i].name, length) != 0 || (at[length] && at[length] != ','))) at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL;
        chosen[i] = !losses || at;
        for (int s = 0; chosen[i] && s < seeds; s++) {
            result done;
            if (o.resume && find_run(&o, &recipes[i], o.seed + (unsigned)s, &done)) continue;
            run(&o, &recipes[i], o.seed + (unsigned)s, real, count);
            o.resume = false;
        }
    }
    if (!ring_only) summary(&o, chosen, seeds, count);
    gan_real *pictures = (gan_real *)malloc(sizeof *pictures * 2 * FRAMES * 3 * SIDE * SIDE);
    for (int row = 0; row < 2; row++) train_ring(&o, ring_steps, row * unroll, pictures + row * FRAMES * 3 * SIDE * SIDE);
    gan *g = gan_open(o.device, o.seed);
    draw(gan_from_host(g, pictures, 2 * FRAMES, 3, SIDE, SIDE), FRAMES, &o, "ring.png");
    gan_close(g);
    free(pictures), free(real);
    return 0;
}
