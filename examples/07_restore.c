/* 07_restore: a network fills a hole in a picture (inpainting) and draws a picture of 16x16
   pixels at 64x64 (super-resolution). Both are trained on pixels alone for half of the steps,
   then against a discriminator too. (--lambda 0 --plain: on pixels to the end, to compare.)

   Papers:   Pathak et al. 2016 (context encoders: distance + GAN for a hole), Ledig et al. 2017
             (SRGAN: residual blocks, pixel shuffle, content + GAN, and the first half of the
             training without the GAN)
   New:      the input is a picture with something missing (05_pix2pix: a picture of another kind),
             so there is a truth to measure against: PSNR and SSIM on pictures that were held out,
             beside what needs no learning at all
   Run:      make 07_restore        or   ... ARGS="--task inpaint --data my/photos"
   Data:     --data a folder of pictures (any size: scaled and cropped to 64x64) or an IDX file
             (N,3,64,64); else data/avatars, data/emoji, shapes
   Leaves:   out/07_restore/        restore.png, table.csv, log.csv, state.safetensors,
                                    inpaint.safetensors, super.safetensors
   Time:     about 4 minutes on one core
   Picture:  a row: for each task what went in, the guess without learning, pixels alone, with the
             GAN, the truth

   The generator sees c: the picture with the hole in grey and the hole's mask (4 channels), or
   the small picture enlarged (3 channels).

     pixels alone   L = |G(c) - x|_1
                    Its best answer is the median of all that could be there: a blur.
     with the GAN   L = |G(c) - x|_1 + F + lambda E ln(1 + e^-D(G(c),c))
                    F = |phi(G(c)) - phi(x)|^2, phi the inner layers of D

   F is SRGAN's content loss with D's features in the place of VGG's (as Wang et al. 2018,
   pix2pixHD). */
#include "common.h"

static int side = 64;        /* of a picture, in pixels */
static int width = 32;       /* channels of the first layers */
static int hole = 24;        /* the hole's side */
static int held = 64;        /* pictures held out, a multiple of 8 */
static float lambda = 0.03f; /* --lambda */
static bool plain_content;   /* --plain: no F */

enum { INPAINT, SUPER, TASKS };

/* Kinds of picture: before, two without learning, two after, as it was. */
enum { INPUT, SIMPLE, GUESS, PIXELS, WITH_GAN, TRUTH, KINDS };

static const char *const task_name[TASKS] = {"inpaint", "super"};
static const char *const kind_name[TASKS][KINDS] = {
    {"input", "mean colour", "from the border", "pixels alone", "with the GAN", "truth"},
    {"input", "nearest", "bilinear", "pixels alone", "with the GAN", "truth"}};

typedef struct {
    gan_model *G, *pixels, *average, *D;
    gan_opt *opt_g, *opt_d;
} networks;

static gan_tensor *conv(gan_model *m, const char *name, int i, gan_tensor *x, int out, int kernel,
                        int stride)
{
    char numbered[32];
    snprintf(numbered, sizeof numbered, "%s%d", name, i);
    return gan_conv2d(m, numbered, x, out, kernel, stride, (kernel - 1) / 2);
}

/* x + conv(relu(conv(x))); without batch norm (Lim et al. 2017, EDSR) */
static gan_tensor *residual(gan_model *G, int i, gan_tensor *x)
{
    gan_tensor *y = gan_relu(conv(G, "res_a", i, x, x->c, 3, 1));
    return gan_add(x, conv(G, "res_b", i, y, x->c, 3, 1));
}

/* c (N,4,64,64) -> (N,3,64,64) in [-1,1]: down to 8x8, where every place sees the whole picture,
   and up again, with U-Net's skips. */
static gan_tensor *fill_hole(gan_model *G, gan_tensor *c)
{
    gan_tensor *half = conv(G, "down", 1, c, width, 4, 2);
    half = gan_leaky_relu(half, 0.2f); /* (N,32,32,32) */
    gan_tensor *quarter = conv(G, "down", 2, half, 2 * width, 4, 2);
    quarter = gan_leaky_relu(quarter, 0.2f); /* (N,64,16,16) */
    gan_tensor *x = conv(G, "down", 3, quarter, 4 * width, 4, 2);
    x = gan_leaky_relu(x, 0.2f); /* (N,128,8,8) */
    for (int i = 0; i < 2; i++)
        x = residual(G, i, x);

    x = conv(G, "up", 1, x, 8 * width, 3, 1);
    x = gan_relu(gan_pixel_shuffle(x, 2)); /* (N,64,16,16) */
    x = conv(G, "up", 2, gan_concat(x, quarter, 1), 4 * width, 3, 1);
    x = gan_relu(gan_pixel_shuffle(x, 2)); /* (N,32,32,32) */
    x = conv(G, "up", 3, gan_concat(x, half, 1), 2 * width, 3, 1);
    x = gan_relu(gan_pixel_shuffle(x, 2)); /* (N,16,64,64) */
    x = gan_tanh(conv(G, "out", 1, gan_concat(x, c, 1), 3, 3, 1));
    gan_tensor *mask = gan_slice(c, 1, 3, 1);
    gan_tensor *known = gan_slice(c, 1, 0, 3);
    return gan_add(known, gan_mul(mask, gan_sub(x, known))); /* what is known stays */
}

/* c (N,3,64,64) of 4x4 blocks -> (N,3,64,64): SRResNet works at 16x16, one pixel a block, and
   adds what bilinear enlarging leaves out. */
static gan_tensor *enlarge(gan_model *G, gan_tensor *c)
{
    gan_tensor *small = gan_avg_pool2d(c, 4, 4, 0);
    gan_tensor *first = gan_relu(conv(G, "in", 1, small, width, 3, 1));
    gan_tensor *x = first;
    for (int i = 0; i < 4; i++)
        x = residual(G, i, x);
    x = gan_add(first, conv(G, "mid", 1, x, width, 3, 1));
    x = gan_relu(gan_pixel_shuffle(conv(G, "up", 1, x, 4 * width, 3, 1), 2)); /* (N,32,32,32) */
    x = gan_relu(gan_pixel_shuffle(conv(G, "up", 2, x, 2 * width, 3, 1), 2)); /* (N,16,64,64) */
    return gan_add(gan_resize(small, c->h, c->w, GAN_BILINEAR), conv(G, "out", 1, x, 3, 3, 1));
}

static gan_tensor *generator(int task, gan_model *G, gan_tensor *c)
{
    return task == INPAINT ? fill_hole(G, c) : enlarge(G, c);
}

/* x (N,3,64,64) beside its c -> (N,1,8,8): for each patch, above 0 if it believes it (Isola et
   al. 2017). features: its inner layers, or NULL. */
static gan_tensor *discriminator(gan_model *D, gan_tensor *x, gan_tensor *c, gan_tensor **features)
{
    x = conv(D, "conv", 1, gan_concat(x, c, 1), width, 4, 2);
    x = gan_leaky_relu(x, 0.2f); /* (N,32,32,32) */
    if (features)
        features[0] = x;
    x = gan_leaky_relu(conv(D, "conv", 2, x, 2 * width, 4, 2), 0.2f); /* (N,64,16,16) */
    if (features)
        features[1] = x;
    x = gan_leaky_relu(conv(D, "conv", 3, x, 4 * width, 4, 2), 0.2f); /* (N,128,8,8) */
    return conv(D, "out", 1, x, 1, 3, 1);
}

/* ---- pictures: those held out are 8 runs of neighbours, since neighbours are often variants of
   one drawing; training draws from the rest */

/* The place in the data of held-out picture k. */
static int held_out(gan_data *data, int k)
{
    return k / (held / 8) * (gan_data_size(data) / 8) + k % (held / 8);
}

/* The place of a picture to train on, for u uniform in [0,1). */
static int for_training(gan_data *data, double u)
{
    int run = gan_data_size(data) / 8;
    int rest = run - held / 8;
    int i = (int)(u * 8 * rest);
    return i / rest * run + held / 8 + i % rest;
}

/* n pictures (n,3,64,64): drawn from the training set, or, with first 0 or more, held-out ones
   from first on, apart of each other. */
static gan_tensor *pictures(gan *g, gan_data *data, int n, int first, int apart)
{
    size_t count = (size_t)3 * side * side;
    gan_real *host = (gan_real *)malloc(((size_t)n * count + (size_t)n) * sizeof *host);
    gan_real *u = host + (size_t)n * count;
    if (first < 0)
        gan_to_host(gan_rand(g, n, 1, 1, 1), u);
    for (int i = 0; i < n; i++) {
        int item = first < 0 ? for_training(data, (double)u[i]) : held_out(data, first + i * apart);
        gan_data_item(data, item, host + (size_t)i * count, NULL);
    }
    gan_tensor *x = gan_from_host(g, host, n, 3, side, side);
    free(host);
    return x;
}

/* What is left of x (N,3,64,64). inpaint: grey in the hole, and the mask, 1 there (N,4,64,64);
   while training each hole lies elsewhere, by up to 12 pixels from the middle. super: the mean
   of each 4x4 block. */
static gan_tensor *damage(int task, gan_tensor *x, bool training)
{
    gan *g = x->g;
    if (task == SUPER)
        return gan_resize(gan_avg_pool2d(x, 4, 4, 0), side, side, GAN_NEAREST);
    gan_real *mask = (gan_real *)calloc((size_t)x->n * (size_t)(side * side + 2), sizeof *mask);
    gan_real *u = mask + (size_t)x->n * side * side;
    if (training)
        gan_to_host(gan_rand(g, x->n, 2, 1, 1), u);
    for (int n = 0; n < x->n; n++) {
        int top = (side - hole) / 2;
        int left = top;
        int reach = side * 3 / 16;
        if (training) {
            top += (int)(u[2 * n] * (2 * reach + 1)) - reach;
            left += (int)(u[2 * n + 1] * (2 * reach + 1)) - reach;
        }
        for (int i = 0; i < hole * hole; i++)
            mask[(n * side + top + i / hole) * side + left + i % hole] = 1;
    }
    gan_tensor *m = gan_from_host(g, mask, x->n, 1, side, side);
    free(mask);
    return gan_concat(gan_sub(x, gan_mul(m, x)), m, 1);
}

/* The hole in the middle from the pixels around it: the mean of two linear
   interpolations, from left to right and from top to bottom. */
static gan_tensor *from_border(gan_tensor *c)
{
    int at = (side - hole) / 2;
    int end = at + hole;
    gan_real ramp[64]; /* from 0 to 1, as far as each pixel is */
    for (int i = 0; i < hole; i++)
        ramp[i] = (gan_real)(i + 1) / (gan_real)(hole + 1);
    gan_tensor *to_right = gan_from_host(c->g, ramp, 1, 1, 1, hole);
    gan_tensor *to_bottom = gan_from_host(c->g, ramp, 1, 1, hole, 1);
    gan_tensor *known = gan_slice(c, 1, 0, 3);
    gan_tensor *rows = gan_slice(known, 2, at, hole);
    gan_tensor *columns = gan_slice(known, 3, at, hole);
    gan_tensor *left = gan_slice(rows, 3, at - 1, 1);
    gan_tensor *right = gan_slice(rows, 3, end, 1); /* (N,3,24,1) */
    gan_tensor *top = gan_slice(columns, 2, at - 1, 1);
    gan_tensor *bottom = gan_slice(columns, 2, end, 1); /* (N,3,1,24) */
    gan_tensor *across = gan_add(left, gan_mul(gan_sub(right, left), to_right));
    gan_tensor *down = gan_add(top, gan_mul(gan_sub(bottom, top), to_bottom));
    gan_tensor *inside = gan_mul_scalar(gan_add(across, down), 0.5f);
    return gan_add(known, gan_pad(inside, at, side - end, at, side - end, GAN_ZEROS));
}

/* x (N,3,64,64) damaged and restored in one of the ways. */
static gan_tensor *restored(int task, int kind, const networks *net, gan_tensor *x)
{
    gan_tensor *c = damage(task, x, false);
    gan_tensor *known = gan_slice(c, 1, 0, 3);
    if (kind == TRUTH)
        return x;
    if (kind == PIXELS || kind == WITH_GAN)
        return gan_clamp(generator(task, kind == PIXELS ? net->pixels : net->average, c), -1, 1);
    if (kind == INPUT || (kind == SIMPLE && task == SUPER))
        return known;
    if (task == SUPER)
        return gan_resize(gan_avg_pool2d(c, 4, 4, 0), side, side, GAN_BILINEAR);
    if (kind == GUESS)
        return from_border(c);
    gan_tensor *mean = gan_mul_scalar(gan_sum_to(known, x->n, 3, 1, 1),
                                      1 / (float)(side * side - hole * hole));
    return gan_add(known, gan_mul(gan_slice(c, 1, 3, 1), mean));
}

/* ---- how good */

/* Sum of squared differences of neighbours: half of it is left when an edge is spread over two
   pixels. */
static double steepness(gan_tensor *x)
{
    gan_tensor *across = gan_sub(gan_slice(x, 3, 1, x->w - 1), gan_slice(x, 3, 0, x->w - 1));
    gan_tensor *down = gan_sub(gan_slice(x, 2, 1, x->h - 1), gan_slice(x, 2, 0, x->h - 1));
    return (double)gan_item(gan_add(gan_sum(gan_square(across)), gan_sum(gan_square(down))));
}

/* The table: inside the hole, or of the whole enlarged picture; sharpness is steepness as a part
   of the truth's. */
static void measure(gan *g, int task, const networks *net, gan_data *data, FILE *csv)
{
    int at = (side - hole) / 2;
    printf("%s, %d held-out pictures%s\n", task_name[task], held,
           task == INPAINT ? ", inside the hole" : "");
    printf("  %-16s %8s %8s %10s\n", "", "PSNR/dB", "SSIM", "sharpness");
    for (int kind = SIMPLE; kind <= WITH_GAN; kind++) {
        double psnr = 0;
        double ssim = 0;
        double steep[2] = {0, 0};
        for (int k = 0; k < held; k += 8) {
            gan_tensor *x = pictures(g, data, 8, k, 1);
            gan_tensor *y = restored(task, kind, net, x);
            if (task == INPAINT) {
                x = gan_slice(gan_slice(x, 2, at, hole), 3, at, hole);
                y = gan_slice(gan_slice(y, 2, at, hole), 3, at, hole);
            }
            psnr += gan_psnr(y, x, 2) * 8 / held;
            ssim += gan_ssim(y, x, 2) * 8 / held;
            steep[0] += steepness(y);
            steep[1] += steepness(x);
            gan_clear(g);
        }
        printf("  %-16s %8.2f %8.3f %10.2f\n", kind_name[task][kind], psnr, ssim,
               steep[0] / steep[1]);
        fprintf(csv, "%s,%s,%.3f,%.4f,%.3f\n", task_name[task], kind_name[task][kind], psnr, ssim,
                steep[0] / steep[1]);
    }
}

/* Six held-out pictures, one a row; for each task in its columns input, guess, pixels alone,
   with the GAN, truth. */
static void save_rows(gan *g, const networks *net, const bool *wanted, gan_data *data,
                      const options *o, const char *name)
{
    gan_tensor *part[6 * TASKS * KINDS];
    gan_tensor *x = pictures(g, data, 6, 0, held / 6);
    int count = 0;
    for (int row = 0; row < 6; row++)
        for (int task = 0; task < TASKS; task++)
            for (int kind = 0; kind < KINDS && wanted[task]; kind++)
                if (kind != SIMPLE)
                    part[count++] = restored(task, kind, &net[task], gan_slice(x, 0, row, 1));
    draw(gan_concat_all(part, count, 0), count / 6, o, name);
    gan_clear(g);
}

/* ---- training */

/* E ln(1 + e^(sign*logits)) over the patches, by the share of the hole in each: outside of it
   nothing can be told. */
static gan_tensor *patch_loss(int task, gan_tensor *logits, float sign, gan_tensor *c)
{
    gan_tensor *each = gan_softplus(gan_mul_scalar(logits, sign));
    if (task == SUPER)
        return gan_mean(each);
    gan_tensor *share = gan_avg_pool2d(gan_slice(c, 1, 3, 1), 8, 8, 0); /* (N,1,8,8) */
    return gan_div(gan_sum(gan_mul(each, share)), gan_sum(share));
}

static networks new_networks(gan *g, int task)
{
    static const char *const name[TASKS][4] = {
        {"inpaint_G", "inpaint_pixels", "inpaint_average", "inpaint_D"},
        {"super_G", "super_pixels", "super_average", "super_D"}};
    networks net;
    net.G = gan_model_new(g, name[task][0]);
    net.pixels = gan_model_new(g, name[task][1]);
    net.average = gan_model_new(g, name[task][2]);
    net.D = gan_model_new(g, name[task][3]);
    net.opt_g = gan_adam(net.G, 1e-3f, 0.5f, 0.99f);
    net.opt_d = gan_adam(net.D, 2e-3f, 0.5f, 0.99f);
    return net;
}

/* One step of a task, its first half on pixels alone. Fills in what the log shows: D,
   adversarial and content loss. */
static void train(gan *g, int task, networks *net, gan_data *data, int step, const options *o,
                  double losses[3])
{
    int half = o->steps / 2;
    bool adversarial = step >= half;
    gan_tensor *x = pictures(g, data, o->batch, -1, 0);
    gan_tensor *c = damage(task, x, true);
    gan_tensor *y = generator(task, net->G, c);
    gan_tensor *fx[2];
    gan_tensor *fy[2];

    /* For the hole the mean is taken over its pixels: the others are given. */
    float of_all = task == INPAINT ? (float)(side * side) / (float)(hole * hole) : 1;
    gan_tensor *content = gan_mul_scalar(gan_l1(y, x), of_all);
    gan_tensor *loss = content;
    losses[0] = losses[1] = 0;
    gan_set_lr(net->opt_g, adversarial ? gan_lr_linear(1e-3f, step, half, o->steps)
                                       : gan_lr_cosine(1.5e-3f, step, half));
    gan_set_lr(net->opt_d, gan_lr_linear(2e-3f, step, half, o->steps));
    if (adversarial) {
        gan_tensor *a = discriminator(net->D, x, c, fx);
        gan_tensor *b = discriminator(net->D, y, c, fy);
        gan_tensor *fooled = patch_loss(task, b, -1, c);
        gan_tensor *d_loss = gan_add(patch_loss(task, a, -1, c), patch_loss(task, b, 1, c));
        losses[0] = (double)gan_item(d_loss);
        losses[1] = (double)gan_item(fooled);
        /* What fills a hole is easily told from the truth, what was enlarged is not. */
        float gamma = task == INPAINT ? 0.5f : 0.02f;
        if (step % 16 == 0) {
            gan_tensor *penalty = gan_r1(discriminator(net->D, x, c, NULL), x);
            d_loss = gan_add(d_loss, gan_mul_scalar(penalty, gamma));
        }
        loss = gan_add(content, gan_mul_scalar(fooled, lambda));
        if (!plain_content)
            loss = gan_add(loss, gan_perceptual_loss(fx, fy, 2));
        /* Both losses hang on both networks; each optimizer differentiates by its own model. */
        gan_minimize(net->opt_g, loss);
        gan_minimize(net->opt_d, d_loss);
        gan_ema(net->average, net->G, step == half ? 0 : 0.99f);
    } else {
        gan_minimize(net->opt_g, loss);
        gan_copy_params(net->pixels, net->G);
        gan_copy_params(net->average, net->G);
    }
    losses[2] = (double)gan_item(content);
}

static gan_data *open_data(gan *g, const options *o)
{
    static const char *const known[2] = {"data/avatars", "data/emoji"};
    gan_data *data = NULL;
    if (o->quick && !o->data)
        return gan_data_shapes(g, 400, side, GAN_SHAPES_FILLED);
    if (o->data && !(data = open_pictures(g, o->data, side)))
        fail();
    for (int i = 0; i < 2 && !data; i++)
        if (there(known[i]))
            data = open_pictures(g, known[i], side);
    if (!data)
        printf("data: neither data/avatars nor data/emoji: built-in shapes take their place; "
               "\"make avatars\" fetches the first\n");
    return data ? data : gan_data_shapes(g, 4000, side, GAN_SHAPES_STRIPED);
}

int main(int argc, char **argv)
{
    options o = {
        .out = "out/07_restore", .steps = 1600, .batch = 8, .quick_steps = 6, .quick_batch = 4};
    const char *only = "";
    const flag own[] = {
        {"--task", 't', &only, "inpaint or super; both without it"},
        {"--lambda", 'f', &lambda, "the weight of the adversarial loss (0.03)"},
        {"--plain", 's', &plain_content, "content by pixels only, without D's features"},
        {0}};
    parse(argc, argv, &o, "07_restore: inpainting and super-resolution with a GAN", own);
    bool wanted[TASKS] = {strcmp(only, "super") != 0, strcmp(only, "inpaint") != 0};
    if (*only && wanted[INPAINT] && wanted[SUPER]) {
        fprintf(stderr, "--task %s: inpaint or super\n", only);
        exit(2);
    }
    if (o.quick) {
        side = 32;
        width = 16;
        hole = 12;
        held = 8;
    }

    gan *g = open_device(&o);
    networks net[TASKS];
    for (int task = 0; task < TASKS; task++)
        net[task] = new_networks(g, task);
    gan_data *data = open_data(g, &o);
    if (gan_data_size(data) < 2 * held) {
        fprintf(stderr, "%d pictures: at least %d are wanted\n", gan_data_size(data), 2 * held);
        exit(1);
    }

    int total = o.steps * (wanted[INPAINT] + wanted[SUPER]);
    int every = o.steps / 4 > 0 ? o.steps / 4 : 1;
    int first = resume_from(g, &o);
    gan_progress *log = gan_progress_open(g, in_folder(&o, "log.csv"), "D,G,content", first, total,
                                          o.batch);
    if (!log)
        fail();
    for (int step = first; step < total; step++) {
        double losses[3];
        int task = !wanted[INPAINT] || step >= o.steps ? SUPER : INPAINT;
        train(g, task, &net[task], data, step % o.steps, &o, losses);
        gan_progress_step(log, step, losses[0], losses[1], losses[2]);
        gan_clear(g);
        if ((step + 1) % every == 0 || step + 1 == total)
            save_all(g, &o, step + 1);
    }
    gan_progress_close(log);

    FILE *csv = fopen(in_folder(&o, "table.csv"), "w");
    if (!csv) {
        perror("table.csv");
        exit(1);
    }
    fprintf(csv, "task,method,psnr,ssim,sharpness\n");
    for (int task = 0; task < TASKS; task++) {
        if (!wanted[task])
            continue;
        measure(g, task, &net[task], data, csv);
        const char *name = task == INPAINT ? "inpaint.safetensors" : "super.safetensors";
        if (!gan_save(net[task].average, in_folder(&o, name)))
            fail();
    }
    if (fclose(csv) != 0) {
        perror("table.csv");
        exit(1);
    }
    save_rows(g, net, wanted, data, &o, "restore.png");
    gan_profile(g);
    gan_close(g);
    return 0;
}
