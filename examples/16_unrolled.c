/* 16_unrolled: mode collapse, and a GAN that looks ahead. On a ring of eight heaps of points the
   usual generator runs after one heap at a time; one that sees what the discriminator will answer a
   few steps later finds them all.

   New:      derivatives through the optimizer's steps: a weight after k steps is a tensor that
             depends on the generator
   Paper:    Metz et al. 2017 (unrolled GAN)
   Run:      make 16_unrolled        or with ARGS="--unroll 10 --eta 0.01"
   Time:     1 minute of one core
   Leaves:   out/16_unrolled/        ring.png (above the usual GAN, below the unrolled one, from
                                     left to right as they train), log.csv, state.safetensors (the
                                     views of the trainings that are done)
   Resume:   begins the interrupted one of the two again */
#include "common.h"

enum {
    Z = 64,                                  /* numbers of noise */
    MODES = 8,                               /* heaps */
    H = 64,                                  /* hidden units of a layer */
    WEIGHTS = 2 * H + H + H * H + H + H + 1, /* of D: 2 -> H -> H -> 1 */
    FRAMES = 6,                              /* views of a training */
    SIDE = 140,                              /* of a view, in pixels */
    SHOWN = 2000                             /* points in a view */
};

/* p(x) is eight Gaussians of deviation 0.1 on a circle of radius 2. */
static const float mode[MODES][2] = {{2, 0},  {1.414f, 1.414f},   {0, 2},  {-1.414f, 1.414f},
                                     {-2, 0}, {-1.414f, -1.414f}, {0, -2}, {1.414f, -1.414f}};

/* (n,2,1,1), every mode as often as any other */
static gan_tensor *ring(gan *g, int n)
{
    gan_real *x = (gan_real *)malloc(2 * (size_t)n * sizeof *x);
    for (int i = 0; i < 2 * n; i++)
        x[i] = mode[i / 2 % MODES][i % 2];
    gan_tensor *centres = gan_from_host(g, x, n, 2, 1, 1);
    free(x);
    return gan_add(centres, gan_mul_scalar(gan_randn(g, n, 2, 1, 1), 0.1f));
}

/* z (N,64,1,1) -> (N,2,1,1) */
static gan_tensor *generator(gan_model *G, gan_tensor *z)
{
    gan_tensor *x = gan_relu(gan_linear(G, "fc1", z, H));
    return gan_linear(G, "fc3", gan_relu(gan_linear(G, "fc2", x, H)), 2);
}

/* x (N,2,1,1) -> (N,1,1,1). All weights of D are one column w (WEIGHTS,1,1,1), a tensor like any
   other: D after a step is another one. */
static gan_tensor *discriminator(gan_tensor *w, gan_tensor *x)
{
    for (int i = 0, at = 0; i < 3; i++) {
        int in = i > 0 ? H : 2;
        int out = i < 2 ? H : 1;
        gan_tensor *weight = gan_reshape(gan_slice(w, 0, at, out * in), out, in, 1, 1);
        gan_tensor *bias = gan_slice(w, 0, at + out * in, out);
        x = gan_linear_f(i > 0 ? gan_relu(x) : x, weight, gan_reshape(bias, 1, out, 1, 1));
        at += out * in + out;
    }
    return x;
}

/* E ln(1 + e^-D(real)) + E ln(1 + e^D(fake)) */
static gan_tensor *d_loss(gan_tensor *w, gan_tensor *real, gan_tensor *fake)
{
    return gan_add(gan_bce_logits(discriminator(w, real), 1),
                   gan_bce_logits(discriminator(w, fake), 0));
}

/* w_0 = w,  w_k+1 = w_k - eta grad_w L_D(w_k): D as it answers after so many steps. Every w_k
   depends on fake, and so on G's weights: the gradient of G's loss at the last one goes back
   through all of them. */
static gan_tensor *unrolled(gan_tensor *w, gan_tensor *real, gan_tensor *fake, int steps, float eta)
{
    for (int k = 0; k < steps; k++)
        w = gan_sub(w, gan_mul_scalar(gan_grad(d_loss(w, real, fake), w), eta));
    return w;
}

/* The mode on whose disc, three deviations wide, the point lies, or MODES if on none. */
static int mode_of(double x, double y)
{
    int m = 0;
    while (m < MODES && hypot(x - (double)mode[m][0], y - (double)mode[m][1]) > 0.3)
        m++;
    return m;
}

/* x (SHOWN,2) as blue points in a picture (3,SIDE,SIDE) of [-3,3]^2, on orange discs around the
   modes. Returns how many modes are caught: more than 1% of the points lie on its disc. */
static int draw_points(const gan_real *x, gan_real *picture)
{
    static const gan_real paper[3] = {1, 1, 1}, disc[3] = {1, 0.6f, 0.2f}, point[3] = {-1, 0, 1};
    int inside[MODES + 1] = {0};
    int caught = 0;
    for (int i = 0; i < SIDE * SIDE; i++) {
        double px = (i % SIDE + 0.5) * 6 / SIDE - 3;
        double py = 3 - (i / SIDE + 0.5) * 6 / SIDE;
        for (int c = 0; c < 3; c++)
            picture[c * SIDE * SIDE + i] = mode_of(px, py) < MODES ? disc[c] : paper[c];
    }
    for (int i = 0; i < SHOWN; i++) {
        double px = (double)x[2 * i];
        double py = (double)x[2 * i + 1];
        inside[mode_of(px, py)]++;
        if (fabs(px) >= 3 || fabs(py) >= 3)
            continue;
        int row = (int)floor((3 - py) / 6 * SIDE);
        int column = (int)floor((px + 3) / 6 * SIDE);
        for (int c = 0; c < 3; c++)
            picture[(c * SIDE + row) * SIDE + column] = point[c];
    }
    for (int m = 0; m < MODES; m++)
        caught += inside[m] * 100 > SHOWN;
    return caught;
}

/* One row of the picture: FRAMES views of a training in which G sees D unrolled so many steps; 0 is
   the usual GAN. */
static void train(const options *o, int unroll, float eta, FILE *log, gan_real *views)
{
    gan *g = open_device(o);
    gan_model *G = gan_model_new(g, "G");
    gan_model *D = gan_model_new(g, "D");
    gan_opt *opt_g = gan_adam(G, 1e-3f, 0.5f, 0.999f);
    gan_opt *opt_d = gan_adam(D, 1e-3f, 0.5f, 0.999f);
    gan_tensor *w = gan_param(D, "w", WEIGHTS, 1, 1, 1);
    gan_real x[2 * SHOWN];
    gan_init_param(w, GAN_INIT_NORMAL, 0.1f);
    gan_init_model(G, GAN_INIT_ORTHOGONAL, 0.8f);
    for (int step = 0, frame = 0; step < o->steps; step++) {
        if (frame < FRAMES && step >= frame * (o->steps - 1) / (FRAMES - 1)) {
            gan_to_host(generator(G, gan_randn(g, SHOWN, Z, 1, 1)), x);
            int caught = draw_points(x, views + 3 * SIDE * SIDE * frame++);
            printf("%s step %5d: %d of 8 modes caught\n", unroll ? "unrolled" : "plain   ", step,
                   caught);
            fprintf(log, "%d,%d,%d\n", unroll, step, caught);
        }
        gan_real left = gan_lr_linear(1, step, 0, o->steps); /* every rate falls to 0 */
        gan_set_lr(opt_g, 1e-3f * left);
        gan_set_lr(opt_d, 1e-3f * left);
        gan_tensor *real = ring(g, o->batch);
        gan_tensor *fake = generator(G, gan_randn(g, o->batch, Z, 1, 1));
        gan_tensor *ahead = unrolled(w, real, fake, unroll, eta * left);
        gan_backward(gan_bce_logits(discriminator(ahead, fake), 1), G);
        gan_minimize(opt_d, d_loss(w, real, gan_detach(fake)));
        gan_step(opt_g);
        gan_clear(g);
    }
    gan_close(g);
}

int main(int argc, char **argv)
{
    options o = {
        .out = "out/16_unrolled", .steps = 2000, .batch = 256, .quick_steps = 6, .quick_batch = 32};
    int unroll = 5;
    float eta = 0.03f;
    const flag own[] = {{"--unroll", 'i', &unroll, "steps of D that G looks ahead"},
                        {"--eta", 'f', &eta, "rate of the steps looked ahead"},
                        {0}};
    parse(argc, argv, &o, "16_unrolled: unrolling against mode collapse", own);
    if (o.quick)
        unroll = 2;

    /* What is resumed are the views of the trainings that are done. */
    gan *g = open_device(&o);
    gan_tensor *done = gan_param(gan_model_new(g, "views"), "pixels", 2 * FRAMES, 3, SIDE, SIDE);
    size_t row = (size_t)FRAMES * 3 * SIDE * SIDE;
    gan_real *views = (gan_real *)calloc(2 * row, sizeof *views);
    int first = resume_from(g, &o);
    if (first)
        gan_to_host(done, views);
    FILE *log = fopen(in_folder(&o, "log.csv"), first ? "a" : "w");
    if (!log) {
        perror("log.csv");
        exit(1);
    }
    if (!first)
        fprintf(log, "unrolled,step,caught\n");
    if (first == 2)
        printf("both trainings are done: nothing is left to train\n");
    for (int k = first; k < 2; k++) {
        train(&o, k * unroll, eta, log, views + k * row);
        gan_set(done, views);
        save_all(g, &o, k + 1);
    }
    fclose(log);
    draw(gan_from_host(g, views, 2 * FRAMES, 3, SIDE, SIDE), FRAMES, &o, "ring.png");
    gan_close(g);
    free(views);
    return 0;
}
