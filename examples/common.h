/* What the examples share: the command line, finding data, folders, and a picture of the losses.
   Include it in place of gan.h.

   Pictures and .gz files need stb_image.h and stb_image_write.h (Debian: libstb-dev); without
   them an example trains all the same. */

/* make compiles the code of gan.h and stb once, into build/gan.o, and links it to every example
   (-DGAN_LINKED). An example that is compiled alone holds the code itself. */
#ifndef GAN_LINKED
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_WRITE_IMPLEMENTATION
#define GAN_IMPLEMENTATION
#endif
#if defined(__has_include) && !defined(NO_STB)
#if __has_include(<stb/stb_image.h>)
#include <stb/stb_image.h>
#include <stb/stb_image_write.h>
#elif __has_include("stb_image.h")
#include "stb_image.h"
#include "stb_image_write.h"
#endif
#endif
#include "../gan.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <sys/stat.h>
#ifdef _WIN32
#include <direct.h>
#define make_folder(path) _mkdir(path)
#ifndef S_ISDIR
#define S_ISDIR(mode) (((mode)&_S_IFMT) == _S_IFDIR)
#endif
#else
#define make_folder(path) mkdir(path, 0777)
#endif

/* What every example takes. An example says where it writes and how much it trains, usually and
   with --quick; the rest may stay 0: device is then "cpu", seed 42. */
typedef struct {
    const char *device, *out;
    int steps, batch, quick_steps, quick_batch;
    unsigned long long seed;
    const char *data; /* NULL until --data is given */
    int threads;
    bool resume, quick;
} options;

/* A flag of one example alone: into is a bool for 's' (a switch), an int for 'i' (1 or more), a
   float for 'f', a const char * for 't' (text). */
typedef struct {
    const char *name;
    char kind;
    void *into;
    const char *what;
} flag;

static inline void usage(const char *about, const options *o, const flag *own, int status)
{
    printf("%s\n\n"
           "  --device NAME   ref, cpu, cuda or compare:A,B          (%s)\n"
           "  --steps N       training steps                         (%d)\n"
           "  --batch N       images a step                          (%d)\n"
           "  --seed N        same seed, same bits                   (%llu)\n"
           "  --threads N     0: as many as there are cores          (%d)\n"
           "  --data PATH     what to learn from; the example's head comment says what it reads\n"
           "  --out FOLDER    where pictures, log and state go       (%s)\n"
           "  --resume        go on from FOLDER/state.safetensors\n"
           "  --quick         all of it in little: seconds, built-in data, no picture to be proud "
           "of\n",
           about, o->device, o->steps, o->batch, o->seed, o->threads, o->out);
    for (; own && own->name; own++) {
        const char *value = own->kind == 's' ? "" : own->kind == 't' ? "TEXT" : "N";
        printf("  %-10s %-4s %s\n", own->name, value, own->what);
    }
    printf("  --help          this\n");
    exit(status);
}

/* A whole number of least or more, or the end of the program. */
static unsigned long long number(const char *name, const char *text, unsigned long long least)
{
    char *end;
    unsigned long long value = strtoull(text, &end, 10);
    if (*text >= '0' && *text <= '9' && !*end && value >= least &&
        (value <= 2147483647 || strcmp(name, "--seed") == 0))
        return value;
    fprintf(stderr, "%s %s: a whole number of %llu or more is wanted\n", name, text, least);
    exit(2);
}

static float real_number(const char *name, const char *text)
{
    char *end;
    double value = strtod(text, &end);
    if (end != text && !*end && value > -1e30 && value < 1e30)
        return (float)value;
    fprintf(stderr, "%s %s: a number is wanted\n", name, text);
    exit(2);
}

/* o holds the example's own numbers before, and what the command line says after; own (NULL: none)
   ends with an entry without a name. */
static inline void parse(int argc, char **argv, options *o, const char *about, const flag *own)
{
    o->device = "cpu";
    o->seed = 42;
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--quick") == 0) {
            o->quick = true;
            o->steps = o->quick_steps;
            o->batch = o->quick_batch;
        }
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i];
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        const flag *f = own;
        while (f && f->name && strcmp(f->name, name) != 0)
            f++;
        if (f && !f->name)
            f = NULL;
        if (strcmp(name, "--help") == 0)
            usage(about, o, own, 0);
        if (strcmp(name, "--quick") == 0)
            continue;
        if (strcmp(name, "--resume") == 0) {
            o->resume = true;
            continue;
        }
        if (f && f->kind == 's') {
            *(bool *)f->into = true;
            continue;
        }
        if (!value) {
            fprintf(stderr, "%s: it is unknown, or its value is missing; --help lists all\n", name);
            exit(2);
        }
        i++;
        if (f && f->kind == 'i')
            *(int *)f->into = (int)number(name, value, 1);
        else if (f && f->kind == 'f')
            *(float *)f->into = real_number(name, value);
        else if (f)
            *(const char **)f->into = value;
        else if (strcmp(name, "--device") == 0)
            o->device = value;
        else if (strcmp(name, "--data") == 0)
            o->data = value;
        else if (strcmp(name, "--out") == 0)
            o->out = value;
        else if (strcmp(name, "--steps") == 0)
            o->steps = (int)number(name, value, 1);
        else if (strcmp(name, "--batch") == 0)
            o->batch = (int)number(name, value, 2);
        else if (strcmp(name, "--threads") == 0)
            o->threads = (int)number(name, value, 0);
        else if (strcmp(name, "--seed") == 0)
            o->seed = number(name, value, 0);
        else {
            fprintf(stderr, "%s: unknown; --help lists all\n", name);
            exit(2);
        }
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
        if (i > 0 && (path[i] == '/' || !path[i])) {
            part[i] = 0;
            make_folder(part);
        }
        part[i] = path[i];
    }
}

/* The device, with data and a folder to write to; or the end of the program with the reason. */
static inline gan *open_device(const options *o)
{
    gan *g = gan_open(o->device, o->seed);
    if (!g)
        fail();
    gan_set_threads(g, o->threads);
    make_folders(o->out);
    return g;
}

/* part ("train" or "t10k") of MNIST in a folder, with its labels, packed or not; NULL and
   gan_error() if it is not there. */
static inline gan_data *open_mnist(gan *g, const char *folder, const char *part)
{
    char path[2][1024];
    for (int zipped = 1; zipped >= 0; zipped--) {
        for (int i = 0; i < 2; i++)
            snprintf(path[i], sizeof path[i], "%s/%s-%s-ubyte%s", folder, part,
                     i ? "labels-idx1" : "images-idx3", zipped ? ".gz" : "");
        FILE *file = fopen(path[0], "rb");
        if (!file)
            continue;
        fclose(file);
        break;
    }
    return gan_data_idx(g, path[0], path[1]);
}

/* A file is there, or a folder. */
static inline bool there(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0;
}

static inline bool is_folder(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

/* Handwritten digits (1,28,28) with labels. --data: MNIST's folder, one IDX file, or "digits"
   for those that gan.h draws. Without --data it is data/mnist, or, where that is not there,
   digits, and it says so. With --quick always digits. */
static inline gan_data *open_digits(gan *g, const options *o)
{
    if (o->data ? strcmp(o->data, "digits") == 0 : o->quick)
        return gan_data_digits(g, o->quick ? 1000 : 20000);
    gan_data *data = open_mnist(g, o->data ? o->data : "data/mnist", "train");
    if (!data && o->data)
        data = gan_data_idx(g, o->data, NULL);
    if (data)
        return data;
    if (o->data)
        fail();
    printf("data: no MNIST (%s): built-in digits take its place; \"make data\" fetches it\n",
           gan_error());
    return gan_data_digits(g, 20000);
}

/* Pictures (3,size,size) of path: a folder of pictures of any size, or an IDX file of that size.
   NULL and gan_error() if there are none. */
static inline gan_data *open_pictures(gan *g, const char *path, int size)
{
#ifdef STBI_INCLUDE_STB_IMAGE_H
    if (is_folder(path))
        return gan_data_folder(g, path, 3, size, size);
#endif
    (void)size;
    return gan_data_idx(g, path, NULL);
}

/* ---- where a training stands, and what it leaves */

/* The step to go on from with --resume; 0 without it, or where there is nothing to go on from.
   Call it when all models, optimizers and data are made. The training ends in the same bytes as
   one that was not interrupted, if it is given the same --steps, --batch, --seed and --data: the
   state holds neither of them. What other values do is in README.md, "Going on". */
static inline int resume_from(gan *g, const options *o)
{
    int step = 0;
    if (o->resume && !gan_load_state(g, in_folder(o, "state.safetensors"), &step))
        printf("%s: starting anew\n", gan_error());
    return step;
}

static inline void save_all(gan *g, const options *o, int step)
{
    if (!gan_save_state(g, in_folder(o, "state.safetensors"), step))
        fail();
}

/* x (N,1 or 3,H,W) as a grid of columns a row in out/name; without stb_image_write.h nothing is
   drawn. */
static inline void draw(gan_tensor *x, int columns, const options *o, const char *name)
{
#ifdef INCLUDE_STB_IMAGE_WRITE_H
    if (!gan_save_png(x, columns, in_folder(o, name)))
        fail();
#else
    (void)x;
    (void)columns;
    (void)o;
    (void)name;
#endif
}

/* A number in a GIF: two bytes, the lower first. */
static inline void gif_number(FILE *file, int number)
{
    fputc(number & 255, file);
    fputc(number >> 8 & 255, file);
}

/* The pixel at x, whose channels (1 or 3) are area numbers apart: which of the 6x7x6 colours. */
static inline int gif_colour(const gan_real *x, int channels, int area)
{
    int level[3];
    for (int c = 0; c < 3; c++) {
        double v = ((double)x[(size_t)(channels == 3 ? c : 0) * area] + 1) / 2;
        level[c] = (int)((v < 0 ? 0 : v > 1 ? 1 : v) * (c == 1 ? 6 : 5) + 0.5);
    }
    return level[0] * 42 + level[1] * 6 + level[2];
}

/* frames (N,1 or 3,H,W), [-1,1], as an endless animation out/name, each shown for hundredths of
   a second. A colour becomes the nearest of 6x7x6 levels of red, green and blue. The pixels are
   not packed: GIF's codes stay nine bits wide when the table is cleared often enough. */
static inline void save_gif(gan_tensor *frames, int hundredths, const options *o, const char *name)
{
    int w = frames->w;
    int h = frames->h;
    int area = w * h;
    int bits = 0;
    int held = 0;
    gan_real *x = (gan_real *)malloc(gan_count(frames) * sizeof *x);
    FILE *file = fopen(in_folder(o, name), "wb");
    if (!file) {
        perror(name);
        exit(1);
    }
    fwrite("GIF89a", 1, 6, file);
    gif_number(file, w);
    gif_number(file, h);
    fwrite("\367\0\0", 1, 3, file); /* a table of 256 colours follows */
    for (int i = 0; i < 256; i++) {
        int colour[3] = {i / 42 % 6 * 51, i / 6 % 7 * 255 / 6, i % 6 * 51};
        for (int c = 0; c < 3; c++)
            fputc(i < 252 ? colour[c] : 0, file);
    }
    fwrite("!\377\013NETSCAPE2.0\003\001\0\0\0", 1, 19, file); /* endless */
    gan_to_host(frames, x);
    for (int n = 0; n < frames->n; n++) {
        unsigned char block[256];
        int used = 0;
        fwrite("!\371\004\004", 1, 4, file); /* how long the frame is shown */
        gif_number(file, hundredths);
        fwrite("\0\0,", 1, 3, file); /* and then the picture: left, top, width, height */
        gif_number(file, 0);
        gif_number(file, 0);
        gif_number(file, w);
        gif_number(file, h);
        fwrite("\0\010", 1, 2, file);      /* codes of 8 bits and one */
        for (int i = -1; i <= area; i++) { /* 256 begins, and again every 200 pixels; 257 ends */
            int code[2] = {i < 0 ? 256 : 257, 0};
            int codes = 1;
            if (i >= 0 && i < area) {
                code[0] = gif_colour(x + (size_t)n * frames->c * area + i, frames->c, area);
                if (i % 200 == 199) {
                    code[1] = 256;
                    codes = 2;
                }
            }
            for (int k = 0; k < codes; k++) {
                held |= code[k] << bits;
                bits += 9;
            }
            while (bits >= 8 || (i == area && bits > 0)) {
                block[used++] = (unsigned char)held;
                held >>= 8;
                bits = bits > 8 ? bits - 8 : 0;
                if (used == 255) {
                    fputc(used, file);
                    fwrite(block, 1, 255, file);
                    used = 0;
                }
            }
        }
        if (used) {
            fputc(used, file);
            fwrite(block, 1, (size_t)used, file);
        }
        fputc(0, file);
    }
    fputc(';', file);
    if (fclose(file) != 0) {
        perror(name);
        exit(1);
    }
    free(x);
}

/* ---- a picture of two columns of a CSV over its steps, drawn into a tensor */

#ifdef INCLUDE_STB_IMAGE_WRITE_H
enum { CURVE_W = 640, CURVE_H = 320, CURVE_LEFT = 36, CURVE_BOTTOM = 20 };

static void dot(gan_real *image, int x, int y, const gan_real colour[3])
{
    if (x < 0 || x >= CURVE_W || y < 0 || y >= CURVE_H)
        return;
    for (int c = 0; c < 3; c++)
        image[(c * CURVE_H + y) * CURVE_W + x] = colour[c];
}

/* Digits, point, D and G, three by five dots each, doubled. */
static void text(gan_real *image, int x, int y, const char *s, const gan_real colour[3])
{
    static const char known[] = "0123456789.DG";
    static const unsigned short glyph[] = {075557, 026227, 071747, 071717, 055711, 074717, 074757,
                                           071111, 075757, 075717, 000002, 065556, 074557};
    for (; *s; s++, x += 8)
        for (int bit = 0; strchr(known, *s) && bit < 15; bit++)
            for (int e = 0; e < 4 && glyph[strchr(known, *s) - known] >> (14 - bit) & 1; e++)
                dot(image, x + bit % 3 * 2 + e % 2, y + bit / 3 * 2 + e / 2, colour);
}

static inline void save_curves(gan *g, const char *csv, const char *png)
{
    static const gan_real grey[3] = {0.4f, 0.4f, 0.4f};
    static const gan_real colour[2][3] = {{-1, -0.4f, 0.8f}, {0.8f, -0.4f, -1}};
    static const char *const name[2] = {"D", "G"};
    FILE *file = fopen(csv, "r");
    double(*row)[2] = NULL; /* the two columns, smoothed */
    double most = 1e-9;
    double value[2];
    int count = 0;
    int step;
    char line[256];
    while (file && fgets(line, sizeof line, file)) {
        if (sscanf(line, "%d,%lf,%lf", &step, &value[0], &value[1]) != 3)
            continue;
        if ((count & (count - 1)) == 0)
            row = (double(*)[2])realloc(row, sizeof *row * (size_t)(count ? 2 * count : 1));
        for (int k = 0; k < 2; k++) {
            double before = count ? row[count - 1][k] : value[k];
            row[count][k] = before + (value[k] - before) * 0.05; /* smoothed over about 20 steps */
            most = row[count][k] > most ? row[count][k] : most;
        }
        count++;
    }
    if (file)
        fclose(file);

    gan_real *image = (gan_real *)malloc(sizeof *image * 3 * CURVE_W * CURVE_H);
    for (int i = 0; i < 3 * CURVE_W * CURVE_H; i++)
        image[i] = 1;
    for (int tick = 0; tick <= 4; tick++) {
        int y = CURVE_H - CURVE_BOTTOM - 1 - tick * (CURVE_H - CURVE_BOTTOM - 16) / 4;
        int x = CURVE_LEFT + tick * (CURVE_W - CURVE_LEFT - 48) / 4;
        for (int i = CURVE_LEFT; i < CURVE_W; i++)
            dot(image, i, y, grey);
        snprintf(line, sizeof line, "%.1f", most * tick / 4);
        text(image, 2, y - 4, line, grey);
        snprintf(line, sizeof line, "%d", count * tick / 4);
        text(image, x, CURVE_H - 14, line, grey);
    }
    for (int k = 0; k < 2; k++) {
        text(image, CURVE_W - 40 + 20 * k, 4, name[k], colour[k]);
        for (int i = 0, last = -1; i < count; i++) {
            int x = CURVE_LEFT + (int)((double)i * (CURVE_W - CURVE_LEFT - 1) / count);
            int y = CURVE_H - CURVE_BOTTOM - 1 -
                    (int)(row[i][k] / most * (CURVE_H - CURVE_BOTTOM - 16));
            for (int j = last < 0 ? y : last < y ? last : y; j <= (last > y ? last : y); j++)
                dot(image, x, j, colour[k]);
            last = y;
        }
    }
    if (count && !gan_save_png(gan_from_host(g, image, 1, 3, CURVE_H, CURVE_W), 1, png))
        fail();
    free(image);
    free(row);
}
#endif

/* The first two columns of out/log.csv as out/losses.png; without stb_image_write.h nothing is
   drawn. */
static inline void draw_curves(gan *g, const options *o)
{
#ifdef INCLUDE_STB_IMAGE_WRITE_H
    char csv[1024];
    snprintf(csv, sizeof csv, "%s", in_folder(o, "log.csv"));
    save_curves(g, csv, in_folder(o, "losses.png"));
#else
    (void)g;
    (void)o;
#endif
}
