/* gallery: what sick trainings look like. One small DCGAN learns digits eight times, once as it
   should and seven times with a mistake of one line (marked ILL below).

       make gallery                (2 minutes on one core)

   For each it leaves out/gallery/NAME.png, samples on the left and the losses of D and G on the
   right, and prints what gan_doctor says. All eight, two a row: out/gallery/gallery.png.
   examples/README.md, "Reading the log and the curves", explains them. */
#include "common.h"

#ifdef INCLUDE_STB_IMAGE_WRITE_H

typedef enum {
    HEALTHY,
    D_WINS,     /* G's learning rate is a thousand times too low */
    D_RATE,     /* D's learning rate is a hundred times too high */
    LABELS,     /* real images are labelled 0, fakes 1 */
    SIGN,       /* G minimises minus its loss */
    SIGMOID,    /* D ends in a sigmoid, but the loss takes logits */
    DATA_RANGE, /* pixels in 0..255 */
    NO_NOISE,   /* G's noise is multiplied by 0 */
    ILLNESSES
} illness;

static const char *const names[ILLNESSES] = {"healthy", "d_wins",  "d_rate",     "labels",
                                             "sign",    "sigmoid", "data_range", "no_noise"};

enum {
    SHOWN_ROWS = 5,
    SHOWN_COLUMNS = 6,
    SHOWN = SHOWN_ROWS * SHOWN_COLUMNS,
    SIDE = 28,
    PANEL_H = 160,     /* of CURVE_H, the height that dot() and text() know */
    CURVES_LEFT = 230, /* right of the samples and the numbers of the axis */
    CURVES_TOP = 14,
    CURVES_BOTTOM = PANEL_H - 18
};

/* (N,32,1,1) -> (N,1,28,28) */
static gan_tensor *generator(gan_model *G, gan_tensor *z, illness ill)
{
    if (ill == NO_NOISE)
        z = gan_mul_scalar(z, 0); /* ILL */
    gan_tensor *x = gan_reshape(gan_linear(G, "fc", z, 32 * 7 * 7), -1, 32, 7, 7);
    x = gan_relu(gan_batch_norm(G, "bn0", x));
    x = gan_relu(gan_batch_norm(G, "bn1", gan_conv_transpose2d(G, "up1", x, 16, 4, 2, 1)));
    return gan_tanh(gan_conv_transpose2d(G, "up2", x, 1, 4, 2, 1));
}

/* (N,1,28,28) -> (N,1,1,1) */
static gan_tensor *discriminator(gan_model *D, gan_tensor *x, illness ill)
{
    x = gan_leaky_relu(gan_conv2d(D, "conv1", x, 16, 4, 2, 1), 0.2f);
    x = gan_leaky_relu(gan_batch_norm(D, "bn2", gan_conv2d(D, "conv2", x, 32, 4, 2, 1)), 0.2f);
    x = gan_linear(D, "fc", x, 1);
    return ill == SIGMOID ? gan_sigmoid(x) : x; /* ILL */
}

/* One training; losses (steps,2) of D and G. Its last samples stay in shown (SHOWN,1,28,28). */
static void train(const options *o, illness ill, double *losses, gan_real *shown)
{
    gan *g = open_device(o);
    gan_model *G = gan_model_new(g, "G");
    gan_model *D = gan_model_new(g, "D");
    float d_rate = ill == D_RATE ? 1e-1f : 1e-3f; /* ILL */
    float g_rate = ill == D_WINS ? 1e-6f : 1e-3f; /* ILL */
    gan_opt *opt_g = gan_adam(G, g_rate, 0.5f, 0.999f);
    gan_opt *opt_d = gan_adam(D, d_rate, 0.5f, 0.999f);
    gan_data *data = o->data ? open_digits(g, o) : gan_data_digits(g, 3000);
    for (int step = 0; step < o->steps; step++) {
        gan_tensor *real = gan_batch(data, o->batch, NULL);
        if (ill == DATA_RANGE)
            real = gan_mul_scalar(gan_add_scalar(real, 1), 127.5f); /* ILL */
        gan_tensor *fake = generator(G, gan_randn(g, o->batch, 32, 1, 1), ill);
        gan_tensor *a = discriminator(D, real, ill);
        gan_tensor *b = discriminator(D, gan_detach(fake), ill);
        gan_tensor *d_loss = ill == LABELS ? gan_d_loss(b, a, GAN_NON_SATURATING) /* ILL */
                                           : gan_d_loss(a, b, GAN_NON_SATURATING);
        gan_minimize(opt_d, d_loss);
        gan_tensor *g_loss = gan_g_loss(NULL, discriminator(D, fake, ill), GAN_NON_SATURATING);
        if (ill == SIGN)
            g_loss = gan_neg(g_loss); /* ILL */
        gan_minimize(opt_g, g_loss);
        losses[2 * step] = (double)gan_item(d_loss);
        losses[2 * step + 1] = (double)gan_item(g_loss);
        gan_doctor(g, step, 50, real, fake, a, b);
        gan_clear(g);
    }
    gan_tensor *samples = generator(G, gan_randn(g, SHOWN, 32, 1, 1), ill);
    gan_to_host(samples, shown);
    gan_close(g);
}

/* ---- the panel: samples and curves, in an image (3,CURVE_H,CURVE_W), of which PANEL_H rows
   count */

static void draw_samples(gan_real *image, const gan_real *shown)
{
    for (int n = 0; n < SHOWN; n++)
        for (int i = 0; i < SIDE * SIDE; i++) {
            int x = 4 + n % SHOWN_COLUMNS * (SIDE + 2) + i % SIDE;
            int y = 5 + n / SHOWN_COLUMNS * (SIDE + 2) + i / SIDE;
            gan_real level = (gan_real)(floor((double)shown[n * SIDE * SIDE + i] * 3 + 0.5) / 3);
            gan_real grey[3] = {level, level, level}; /* 7 levels: a smaller file */
            dot(image, x, y, grey);
        }
}

static void draw_axis(gan_real *image, double most, int steps)
{
    static const gan_real grey[3] = {0.6f, 0.6f, 0.6f};
    char line[32];
    for (int tick = 0; tick <= 4; tick++) {
        int y = CURVES_BOTTOM - tick * (CURVES_BOTTOM - CURVES_TOP) / 4;
        int x = CURVES_LEFT + tick * (CURVE_W - CURVES_LEFT - 40) / 4;
        for (int i = CURVES_LEFT; i < CURVE_W - 4; i++)
            dot(image, i, y, grey);
        snprintf(line, sizeof line, "%.1f", most * tick / 4);
        text(image, CURVES_LEFT - 8 * (int)strlen(line) - 2, y - 4, line, grey);
        snprintf(line, sizeof line, "%d", steps * tick / 4);
        text(image, x, PANEL_H - 13, line, grey);
    }
}

/* D blue, G orange, each the mean of about ten steps. Values below 0 lie on the axis. */
static void draw_losses(gan_real *image, const double *losses, int steps)
{
    static const gan_real colour[2][3] = {{-1, -0.4f, 0.8f}, {0.8f, -0.4f, -1}};
    static const char *const name[2] = {"D", "G"};
    double most = 2;
    for (int i = 0; i < 2 * steps; i++)
        most = losses[i] > most ? losses[i] : most;
    draw_axis(image, most, steps);
    for (int k = 0; k < 2; k++) {
        double mean = losses[k];
        int last = -1;
        text(image, CURVE_W - 36 + 20 * k, 2, name[k], colour[k]);
        for (int i = 0; i < steps; i++) {
            mean += 0.1 * (losses[2 * i + k] - mean);
            double height = mean > 0 ? mean / most : 0;
            int x = CURVES_LEFT + i * (CURVE_W - CURVES_LEFT - 5) / steps;
            int y = CURVES_BOTTOM - (int)(height * (CURVES_BOTTOM - CURVES_TOP));
            int from = last < 0 || last > y ? y : last;
            int to = last > y ? last : y;
            for (int j = from; j <= to; j++)
                dot(image, x, j, colour[k]);
            last = y;
        }
    }
}

int main(int argc, char **argv)
{
    options o = {
        .out = "out/gallery", .steps = 400, .batch = 32, .quick_steps = 4, .quick_batch = 4};
    parse(argc, argv, &o, "gallery: what sick trainings look like", NULL);
    gan *g = open_device(&o);
    double *losses = (double *)malloc(2 * (size_t)o.steps * sizeof *losses);
    gan_real *shown = (gan_real *)malloc(SHOWN * SIDE * SIDE * sizeof *shown);
    size_t size = 3 * CURVE_W * CURVE_H;
    gan_real *image = (gan_real *)malloc(size * sizeof *image);
    gan_tensor *all = NULL;
    if (!losses || !shown || !image)
        return 1;
    for (int ill = 0; ill < ILLNESSES; ill++) {
        char name[64];
        printf("\n%d %s\n", ill + 1, names[ill]);
        train(&o, (illness)ill, losses, shown);
        for (size_t i = 0; i < size; i++)
            image[i] = 1;
        draw_samples(image, shown);
        draw_losses(image, losses, o.steps);
        gan_tensor *panel = gan_slice(gan_from_host(g, image, 1, 3, CURVE_H, CURVE_W), 2, 0,
                                      PANEL_H);
        snprintf(name, sizeof name, "%s.png", names[ill]);
        draw(panel, 1, &o, name);
        all = all ? gan_concat(all, panel, 0) : panel;
    }
    draw(all, 2, &o, "gallery.png");
    printf("\nthe pictures: %s\n", in_folder(&o, "gallery.png"));
    free(losses);
    free(shown);
    free(image);
    gan_close(g);
    return 0;
}

#else

int main(void)
{
    printf("gallery draws pictures: it wants stb_image_write.h (Debian: libstb-dev)\n");
    return 0;
}
#endif
