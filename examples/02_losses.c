/* 02_losses: the same small GAN trained with eight losses, several seeds each, and measured by
   numbers and by pictures. New since 01: what D and G want is a choice, and a choice is compared
   by a measure and over seeds, not by one lucky picture.

   Papers:   Goodfellow et al. 2014, Mao et al. 2017, Lim and Ye 2017, Arjovsky et al. 2017,
             Gulrajani et al. 2017, Mescheder et al. 2018, Miyato et al. 2018 (the losses);
             Heusel et al. 2017 (Frechet distance)
   Run:      make 02_losses         or with ARGS="--losses hinge,wgan-gp --seeds 5"
   Data:     --data reads MNIST's folder, one IDX file of 28x28 images, or "digits"; without it
             data/mnist or built-in digits.
   Time:     8 minutes of one core
   Leaves:   out/02_losses/         samples.png (rows in the table's order), log.csv (every run),
                                    table.csv, state.safetensors (of the run under way), and
                                    LOSS-SEED.csv and .safetensors (a run's losses and generator)
   Resume:   passes over the runs that log.csv holds and takes up the interrupted one where it was
             last saved, every 100 steps */
#include "digits.h"
#include "zoo.h"

enum { Z = 64, MOST_SEEDS = 100, RECIPES = 8 };

static int width = 24;

/* Batch norm in D, as in DCGAN: it keeps D in reach of G in the runs that have nothing else for
   that. */
static bool normed;

/* z (N,64,1,1) -> (N,1,28,28) in [-1,1] */
static gan_tensor *generator(gan_model *G, gan_tensor *z)
{
    return digits_generator(G, z, width);
}

/* x (N,1,28,28) -> (N,1,1,1): any number; what it means is the loss's choice */
static gan_tensor *discriminator(gan_model *D, gan_tensor *x)
{
    return digits_discriminator(D, x, width, normed);
}

/* What differs between the losses. D makes critics steps for each of G's. Adam, or RMSprop where
   beta1 is below 0. */
enum { PLAIN, CLIP, PENALTY, R1, SPECTRAL };

typedef struct {
    const char *name;
    gan_loss loss;
    int extra, critics;
    float lr, beta1, beta2;
} recipe;

static const recipe recipes[RECIPES] = {
    {"minimax", GAN_MINIMAX, PLAIN, 1, 5e-4f, 0.5f, 0.999f},
    {"non-saturating", GAN_NON_SATURATING, PLAIN, 1, 5e-4f, 0.5f, 0.999f},
    {"least-squares", GAN_LEAST_SQUARES, PLAIN, 1, 5e-4f, 0.5f, 0.999f},
    {"hinge", GAN_HINGE, PLAIN, 1, 5e-4f, 0.5f, 0.999f},
    {"wgan", GAN_WASSERSTEIN, CLIP, 5, 5e-4f, -1, 0.99f},
    {"wgan-gp", GAN_WASSERSTEIN, PENALTY, 5, 5e-4f, 0.5f, 0.9f},
    {"ns-r1", GAN_NON_SATURATING, R1, 1, 2e-3f, 0, 0.99f},
    {"hinge-sn", GAN_HINGE, SPECTRAL, 1, 1e-3f, 0, 0.9f},
};

/* Of a = D(real), b = D(fake), as gan.h lists them. wgan-gp adds 10 E (|grad D(x)| - 1)^2 at
   points x between real and fake images; ns-r1 adds 1/2 E |grad D(x)|^2 at real images x, every
   4th step and then 4 times (lazily, as Karras et al. 2020 do). */
static gan_tensor *d_loss(const recipe *r, gan_model *D, gan_tensor *real, gan_tensor *fake,
                          int step)
{
    gan_tensor *a = discriminator(D, real);
    gan_tensor *loss = gan_d_loss(a, discriminator(D, fake), r->loss);
    if (r->extra == PENALTY)
        loss = gan_add(loss, gan_mul_scalar(gan_wgan_gp(D, discriminator, real, fake), 10));
    if (r->extra == R1 && step % 4 == 0)
        loss = gan_add(loss, gan_mul_scalar(gan_r1(a, real), 0.5f * 4));
    return loss;
}

static gan_opt *optimizer(gan_model *m, recipe r)
{
    return r.beta1 < 0 ? gan_rmsprop(m, r.lr, r.beta2) : gan_adam(m, r.lr, r.beta1, r.beta2);
}

/* ---- a run: one loss, one seed, and what came of it */
typedef struct {
    double frechet, ms;
    int classes;
    unsigned long long seed;
} result;

/* out/LOSS-SEED.ending */
static const char *run_file(const options *o, const recipe *r, unsigned long long seed,
                            const char *ending)
{
    char name[64];
    snprintf(name, sizeof name, "%s-%llu.%s", r->name, seed, ending);
    return in_folder(o, name);
}

static void add_line(const options *o, const char *name, const char *how, const char *line)
{
    FILE *file = fopen(in_folder(o, name), how);
    if (!file || fputs(line, file) < 0 || fclose(file) != 0) {
        perror(name);
        exit(1);
    }
}

/* The run's row in log.csv, if it is there. */
static bool find_run(const options *o, const recipe *r, unsigned long long seed, result *run)
{
    FILE *file = fopen(in_folder(o, "log.csv"), "r");
    char line[256], start[64];
    int length = snprintf(start, sizeof start, "%s,%llu,%d,", r->name, seed, o->steps);
    run->seed = seed;
    bool found = false;
    while (file && !found && fgets(line, sizeof line, file))
        found = strncmp(line, start, (size_t)length) == 0 &&
                sscanf(line + length, "%lf,%d,%lf", &run->frechet, &run->classes, &run->ms) == 3;
    if (file)
        fclose(file);
    return found;
}

static gan_tensor *samples(gan *g, int n, void *G)
{
    return generator((gan_model *)G, gan_randn(g, n, Z, 1, 1));
}

static gan_tensor *real_images(gan *g, int n, void *data)
{
    (void)g;
    return gan_batch((gan_data *)data, n, NULL);
}

/* Trains, measures, and adds a row to log.csv. Every run has a device of its own: its numbers do
   not depend on what ran before it. */
static void run(options o, const recipe *r, const gan_real *real, int count)
{
    char name[2][64], row[256];
    /* Names of their own, so that a state fits the run that it comes from and no other. */
    snprintf(name[0], sizeof name[0], "G of %s %llu", r->name, o.seed);
    snprintf(name[1], sizeof name[1], "D of %s %llu", r->name, o.seed);
    gan *g = open_device(&o);
    gan_model *average = gan_model_new(g, "average");
    gan_model *classifier = zoo_classifier(g);
    gan_model *G = gan_model_new(g, name[0]);
    gan_model *D = gan_model_new(g, name[1]);
    normed = r->extra == PLAIN || r->extra == CLIP;
    if (r->extra == SPECTRAL)
        gan_weights(D, GAN_SPECTRAL, 1);
    gan_opt *opt_g = optimizer(G, *r);
    gan_opt *opt_d = optimizer(D, *r);
    gan_data *data = open_digits(g, &o);
    int first = resume_from(g, &o);
    printf("%s, seed %llu\n", r->name, o.seed);
    gan_progress *log = gan_progress_open(g, run_file(&o, r, o.seed, "csv"), "D,G", first, o.steps,
                                          o.batch);
    if (!log || !classifier)
        fail();

    clock_t start = clock();
    for (int step = first; step < o.steps; step++) {
        double d = 0;
        gan_real lr = gan_lr_linear(r->lr, step, o.steps / 2, o.steps); /* then falling to 0 */
        gan_set_lr(opt_g, lr);
        gan_set_lr(opt_d, lr);
        for (int k = 0; k < r->critics; k++) {
            gan_tensor *fake = gan_detach(samples(g, o.batch, G));
            gan_tensor *loss = d_loss(r, D, gan_batch(data, o.batch, NULL), fake, step);
            gan_minimize(opt_d, loss);
            if (r->extra == CLIP)
                gan_clip_weights(D, 0.01f);
            d = (double)gan_item(loss);
            gan_clear(g);
        }
        gan_tensor *loss = gan_g_loss(NULL, discriminator(D, samples(g, o.batch, G)), r->loss);
        gan_minimize(opt_g, loss);
        gan_ema(average, G, step < 20 ? 0 : 0.99f);
        gan_progress_step(log, step, d, (double)gan_item(loss));
        gan_clear(g);

        if ((step + 1) % 100 == 0 || step + 1 == o.steps)
            save_all(g, &o, step + 1);
    }
    int steps_done = o.steps > first ? o.steps - first : 1;
    double ms = 1000.0 * (double)(clock() - start) / CLOCKS_PER_SEC / steps_done;
    gan_progress_close(log);

    gan_eval(average);
    gan_real *fake = (gan_real *)malloc((size_t)count * 510 * sizeof *fake);
    gan_real *classes = fake + (size_t)count * 500;
    zoo_measure(classifier, g, samples, average, count, fake, classes);
    double frechet = gan_frechet_distance(real, count, fake, count, 500);
    int histogram[10];
    int caught = 0;
    gan_modes(classes, count, 10, histogram);
    for (int k = 0; k < 10; k++)
        caught += histogram[k] * 100 > count; /* a class is caught by more than 1% of the samples */
    if (!gan_save(average, run_file(&o, r, o.seed, "safetensors")))
        fail();
    snprintf(row, sizeof row, "%s,%llu,%d,%.3f,%d,%.3f\n", r->name, o.seed, o.steps, frechet,
             caught, ms);
    add_line(&o, "log.csv", "a", row);
    printf("  Frechet distance %.1f, %d of 10 classes\n", frechet, caught);
    free(fake);
    gan_close(g);
}

/* Features (count,500) of the real side: zoo.h's protocol, MNIST's test images, or else built-in
   digits of a seed that no run learns from. */
static gan_real *real_features(const options *o, int count)
{
    gan *g = gan_open(o->device, o->seed + 1000000);
    gan_data *data = o->quick ? NULL : open_mnist(g, o->data ? o->data : "data/mnist", "t10k");
    gan_model *classifier = zoo_classifier(g);
    gan_real *features = (gan_real *)malloc((size_t)count * 510 * sizeof *features);
    if (!classifier)
        fail();
    printf("Frechet distance: to %d %s\n", count,
           data ? "test images of MNIST" : "built-in digits of another seed, not MNIST");
    zoo_measure(classifier, g, real_images, data ? data : gan_data_digits(g, count), count,
                features, features + (size_t)count * 500);
    gan_close(g);
    return features;
}

/* The table: for each loss its run in the middle by Frechet distance, whose samples are the
   loss's row in the picture; best and worst run. */
static void table(const options *o, const bool *chosen, int seeds, int count)
{
    gan *g = gan_open(o->device, o->seed);
    gan_tensor *rows[RECIPES];
    gan_tensor *z = gan_randn(g, o->quick ? 4 : 24, Z, 1, 1); /* the same z for every row */
    char row[256];
    int used = 0;
    add_line(o, "table.csv", "w", "loss,frechet,best,worst,classes,ms\n");
    printf("\nFrechet distance, N = %d; median, best and worst of %d seeds; classes caught; "
           "processor's ms a step\n",
           count, seeds);
    for (int i = 0; i < RECIPES; i++) {
        result runs[MOST_SEEDS], next;
        if (!chosen[i])
            continue;
        for (int s = 0, k; s < seeds; s++) { /* sorted as they come */
            find_run(o, &recipes[i], o->seed + (unsigned)s, &next);
            for (k = s; k > 0 && runs[k - 1].frechet > next.frechet; k--)
                runs[k] = runs[k - 1];
            runs[k] = next;
        }
        result m = runs[(seeds - 1) / 2];
        result best = runs[0];
        result worst = runs[seeds - 1];
        printf("%-15s %8.1f %8.1f %8.1f %6d of 10 %8.1f ms\n", recipes[i].name, m.frechet,
               best.frechet, worst.frechet, m.classes, m.ms);
        snprintf(row, sizeof row, "%s,%.3f,%.3f,%.3f,%d,%.3f\n", recipes[i].name, m.frechet,
                 best.frechet, worst.frechet, m.classes, m.ms);
        add_line(o, "table.csv", "a", row);
        gan_model *G = gan_model_new(g, recipes[i].name);
        if (!gan_load(G, run_file(o, &recipes[i], m.seed, "safetensors")))
            fail();
        gan_eval(G);
        rows[used++] = generator(G, z);
    }
    draw(gan_concat_all(rows, used, 0), z->n, o, "samples.png");
    gan_close(g);
}

/* Which of the recipes --losses names; all without it. Returns how many. */
static int choose(const char *losses, bool *chosen)
{
    int count = 0;
    for (int i = 0; i < RECIPES; i++) {
        char list[1024], name[64];
        snprintf(list, sizeof list, ",%s,", losses ? losses : recipes[i].name);
        snprintf(name, sizeof name, ",%s,", recipes[i].name);
        chosen[i] = strstr(list, name) != NULL;
        count += chosen[i];
    }
    return count;
}

int main(int argc, char **argv)
{
    options o = {
        .out = "out/02_losses", .steps = 600, .batch = 32, .quick_steps = 2, .quick_batch = 4};
    const char *losses = NULL;
    int seeds = 3;
    int count = 10000; /* samples a run is measured by */
    bool chosen[RECIPES];
    const flag own[] = {{"--losses", 't', &losses, "some of the losses: NAME,NAME"},
                        {"--seeds", 'i', &seeds, "runs of each loss"},
                        {0}};
    parse(argc, argv, &o, "02_losses: one small GAN, eight losses", own);
    seeds = o.quick ? 1 : seeds < MOST_SEEDS ? seeds : MOST_SEEDS;
    if (o.quick) {
        count = 20;
        width = 8;
    }
    if (!choose(losses, chosen)) {
        fprintf(stderr, "--losses %s: none of minimax, non-saturating, least-squares, hinge ..\n",
                losses);
        exit(2);
    }
    if (!o.resume) {
        make_folders(o.out);
        remove(in_folder(&o, "log.csv"));
    }

    gan_real *real = real_features(&o, count);
    options now = o;
    result ready;
    for (int i = 0; i < seeds * RECIPES; i++) { /* all losses with one seed, then with the next */
        const recipe *r = &recipes[i % RECIPES];
        now.seed = o.seed + (unsigned)(i / RECIPES);
        if (!chosen[i % RECIPES] || (now.resume && find_run(&o, r, now.seed, &ready)))
            continue;
        run(now, r, real, count);
        now.resume = false;
    }
    table(&o, chosen, seeds, count);
    free(real);
    return 0;
}
