/* What the examples share: the command line, finding data, folders, and a picture of the losses. Include it in place of gan.h.

   Pictures and .gz files need stb_image.h and stb_image_write.h (Debian: libstb-dev); without them an example trains all the same. */
#if defined(__has_include) && !defined(NO_STB)
#if __has_include(<stb/stb_image.h>)
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_WRITE_IMPLEMENTATION
#include <stb/stb_image.h>
#include <stb/stb_image_write.h>
#elif __has_include("stb_image.h")
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_WRITE_IMPLEMENTATION
#include "stb_image.h"
#include "stb_image_write.h"
#endif
#endif
#define GAN_IMPLEMENTATION
#include "../gan.h"

#include <sys/stat.h>
#ifdef _WIN32
#include <direct.h>
#define make_folder(path) _mkdir(path)
#else
#define make_folder(path) mkdir(path, 0777)
#endif

typedef struct {
    const char *device, *data, *out;   /* data: a folder with MNIST's files, one IDX file, or "digits" */
    int steps, batch, threads, samples;
    unsigned long long seed;
    bool resume, plain;
} options;

static inline void usage(const char *about, const options *o, int status)
{
    printf("%s\n\n"
           "  --device NAME   ref, cpu, cuda or compare:A,B          (%s)\n"
           "  --steps N       training steps                         (%d)\n"
           "  --batch N       images a step                          (%d)\n"
           "  --seed N        same seed, same bits                   (%llu)\n"
           "  --threads N     0: as many as there are cores          (%d)\n"
           "  --data PATH     MNIST's folder, an IDX file, or digits: drawn by the program   (%s)\n"
           "  --out FOLDER    where pictures, log and state go       (%s)\n"
           "  --resume        go on from FOLDER/state.safetensors\n"
           "  --samples N     at the end write N samples as FOLDER/samples-idx3-ubyte\n"
           "  --plain         the first paper's settings, without what came later\n"
           "  --help          this\n",
           about, o->device, o->steps, o->batch, o->seed, o->threads, o->data, o->out);
    exit(status);
}

/* A whole number of least or more, or the end of the program. */
static unsigned long long number(const char *flag, const char *text, unsigned long long least)
{
    char *end;
    unsigned long long value = strtoull(text, &end, 10);
    if (*text >= '0' && *text <= '9' && !*end && value >= least && (value <= 2147483647 || strcmp(flag, "--seed") == 0)) return value;
    fprintf(stderr, "%s %s: a whole number of %llu or more is wanted\n", flag, text, least);
    exit(2);
}

/* o holds the defaults, and after it what the command line says. */
static inline void parse(int argc, char **argv, options *o, const char *about)
{
    for (int i = 1; i < argc; i++) {
        const char *flag = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(flag, "--help") == 0) usage(about, o, 0);
        if (strcmp(flag, "--resume") == 0) { o->resume = true; continue; }
        if (strcmp(flag, "--plain") == 0) { o->plain = true; continue; }
        if (!value) fprintf(stderr, "%s: it is unknown, or its value is missing; --help lists all\n", flag), exit(2);
        i++;
        if (strcmp(flag, "--device") == 0) o->device = value;
        else if (strcmp(flag, "--data") == 0) o->data = value;
        else if (strcmp(flag, "--out") == 0) o->out = value;
        else if (strcmp(flag, "--steps") == 0) o->steps = (int)number(flag, value, 1);
        else if (strcmp(flag, "--batch") == 0) o->batch = (int)number(flag, value, 2);
        else if (strcmp(flag, "--threads") == 0) o->threads = (int)number(flag, value, 0);
        else if (strcmp(flag, "--samples") == 0) o->samples = (int)number(flag, value, 1);
        else if (strcmp(flag, "--seed") == 0) o->seed = number(flag, value, 0);
        else fprintf(stderr, "%s: unknown; --help lists all\n", flag), exit(2);
    }
}

static void fail(void)
{
    fprintf(stderr, "%s\n", gan_error());
    exit(1);
}

/* out/name in a buffer of this function: use it before the next call. */
static inline const char *in_folder(const options *o, const char *name)
{
    static char path[1024];
    snprintf(path, sizeof path, "%s/%s", o->out, name);
    return path;
}

/* The folder and those above it. */
static inline void make_folders(const char *path)
{
    char part[1024];
    for (size_t i = 0; i < sizeof part && (i == 0 || path[i - 1]); i++) {
        if (i > 0 && (path[i] == '/' || !path[i])) part[i] = 0, make_folder(part);
        part[i] = path[i];
    }
}

/* The device, with data and a folder to write to; or the end of the program with the reason. */
static inline gan *open_device(const options *o)
{
    gan *g = gan_open(o->device, o->seed);
    if (!g) fail();
    gan_set_threads(g, o->threads);
    make_folders(o->out);
    return g;
}

/* part ("train" or "t10k") of MNIST in a folder, with its labels, packed or not; NULL and gan_error() if it is not there. */
static inline gan_data *open_mnist(gan *g, const char *folder, const char *part)
{
    char path[2][1024];
    for (int zipped = 1; zipped >= 0; zipped--) {
        for (int i = 0; i < 2; i++)
            snprintf(path[i], sizeof path[i], "%s/%s-%s-ubyte%s", folder, part, i ? "labels-idx1" : "images-idx3", zipped ? ".gz" : "");
        FILE *file = fopen(path[0], "rb");
        if (!file) continue;
        fclose(file);
        break;
    }
    return gan_data_idx(g, path[0], path[1]);
}

/* The images of --data. A default that is not there becomes digits, and says so; a wish that cannot be met ends the program. */
static inline gan_data *open_data(gan *g, const options *o, bool asked)
{
    if (strcmp(o->data, "digits") == 0) return gan_data_digits(g, 20000);
    gan_data *data = open_mnist(g, o->data, "train");
    if (!data) data = gan_data_idx(g, o->data, NULL);
    if (data) return data;
    if (asked) fail();
    printf("data: no MNIST (%s): built-in digits take its place; \"make data\" fetches it\n", gan_error());
    return gan_data_digits(g, 20000);
}

/* ---- a picture of two columns of a CSV over its steps, drawn into a tensor */

#ifdef INCLUDE_STB_IMAGE_WRITE_H
enum { CURVE_W = 640, CURVE_H = 320, CURVE_LEFT = 36, CURVE_BOTTOM = 20 };

static void dot(gan_real *image, int x, int y, const gan_real colour[3])
{
    if (x < 0 || x >= CURVE_W || y < 0 || y >= CURVE_H) return;
    for (int c = 0; c < 3; c++) image[(c * CURVE_H + y) * CURVE_W + x] = colour[c];
}

/* Digits, point, D and G, three by five dots each, doubled. */
static void text(gan_real *image, int x, int y, const char *s, const gan_real colour[3])
{
    static const char known[] = "0123456789.DG";
    static const unsigned short glyph[] = {075557, 026227, 071747, 071717, 055711, 074717, 074757, 071111, 075757, 075717, 000002, 065556, 074557};
    for (; *s; s++, x += 8)
        for (int bit = 0; strchr(known, *s) && bit < 15; bit++)
            for (int e = 0; e < 4 && glyph[strchr(known, *s) - known] >> (14 - bit) & 1; e++)
                dot(image, x + bit % 3 * 2 + e % 2, y + bit / 3 * 2 + e / 2, colour);
}

static inline void save_curves(gan *g, const char *csv, const char *png)
{
    static const gan_real grey[3] = {0.4f, 0.4f, 0.4f}, colour[2][3] = {{-1, -0.4f, 0.8f}, {0.8f, -0.4f, -1}};
    static const char *const name[2] = {"D", "G"};
    FILE *file = fopen(csv, "r");
    double (*row)[2] = NULL, most = 1e-9, value[2];
    int count = 0, step;
    char line[256];
    while (file && fgets(line, sizeof line, file)) {
        if (sscanf(line, "%d,%lf,%lf", &step, &value[0], &value[1]) != 3) continue;
        if ((count & (count - 1)) == 0) row = (double (*)[2])realloc(row, sizeof *row * (size_t)(count ? 2 * count : 1));
        for (int k = 0; k < 2; k++) {
            double before = count ? row[count - 1][k] : value[k];
            row[count][k] = before + (value[k] - before) * 0.05;      /* smoothed over about 20 steps */
            most = row[count][k] > most ? row[count][k] : most;
        }
        count++;
    }
    if (file) fclose(file);
    gan_real *image = (gan_real *)malloc(sizeof *image * 3 * CURVE_W * CURVE_H);
    for (int i = 0; i < 3 * CURVE_W * CURVE_H; i++) image[i] = 1;
    for (int tick = 0; tick <= 4; tick++) {
        int y = CURVE_H - CURVE_BOTTOM - 1 - tick * (CURVE_H - CURVE_BOTTOM - 16) / 4, x = CURVE_LEFT + tick * (CURVE_W - CURVE_LEFT - 48) / 4;
        for (int i = CURVE_LEFT; i < CURVE_W; i++) dot(image, i, y, grey);
        snprintf(line, sizeof line, "%.1f", most * tick / 4);
        text(image, 2, y - 4, line, grey);
        snprintf(line, sizeof line, "%d", count * tick / 4);
        text(image, x, CURVE_H - 14, line, grey);
    }
    for (int k = 0; k < 2; k++) {
        text(image, CURVE_W - 40 + 20 * k, 4, name[k], colour[k]);
        for (int i = 0, last = -1; i < count; i++) {
            int x = CURVE_LEFT + (int)((double)i * (CURVE_W - CURVE_LEFT - 1) / count), y = CURVE_H - CURVE_BOTTOM - 1 - (int)(row[i][k] / most * (CURVE_H - CURVE_BOTTOM - 16));
            for (int j = last < 0 ? y : last < y ? last : y; j <= (last > y ? last : y); j++) dot(image, x, j, colour[k]);
            last = y;
        }
    }
    if (count && !gan_save_png(gan_from_host(g, image, 1, 3, CURVE_H, CURVE_W), 1, png)) fail();
    free(image), free(row);
}
#endif
