/* tests/data.c: data sets and batches, .gz files, the built-in digits, pictures, and the CSV
   log. */
#include "test.h"

/* Scratch files beside this program: main() names and removes them, and nothing else may set
   these. */
static char path[512], other[512];

static void write_file(const char *name, const void *data, size_t size)
{
    FILE *f = fopen(name, "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f)) {
        printf("cannot write %s\n", name);
        exit(2);
    }
}

static size_t read_text(const char *name, char *out, size_t room)
{
    FILE *f = fopen(name, "rb");
    size_t n = f ? fread(out, 1, room - 1, f) : 0;
    if (f)
        fclose(f);
    out[n] = 0;
    return n;
}

static double level(double byte)
{
    return byte / 127.5 - 1;
} /* 0..255 as -1..1 */

/* -------------------------------------------------------------------------------------------
   IDX
   ------------------------------------------------------------------------------------------- */
static void idx(void)
{
    static const unsigned char three[16 + 12] = {0, 0, 8, 3,  0,   0,   0,   2,   0, 0, 0, 3, 0, 0,
                                                 0, 2, 0, 51, 102, 153, 204, 255, 1, 2, 3, 4, 5, 6};
    static const unsigned char four[20 + 8] = {0, 0, 8, 4, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0,
                                               0, 2, 0, 0, 0, 2, 9, 8, 7, 6, 5, 4, 3, 255};
    static const unsigned char labels[8 + 2] = {0, 0, 8, 1, 0, 0, 0, 2, 7, 4};
    gan *g = gan_open("cpu", 1);
    gan_real x[8];
    int label = -7;

    write_file(path, three, sizeof three);
    write_file(other, labels, sizeof labels);
    gan_data *d = gan_data_idx(g, path, other);
    CHECK(d, "idx3: %s", gan_error());
    CHECK(gan_data_size(d) == 2, "idx3: %d images", gan_data_size(d));
    for (int i = 0; i < 2; i++) {
        gan_data_item(d, i, x, &label);
        CHECK(label == (i ? 4 : 7), "label %d of image %d", label, i);
        for (int k = 0; k < 6; k++) /* 1e-6: two roundings of a number of size 1 */
            CHECK(fabs((double)x[k] - level(three[16 + 6 * i + k])) <= 1e-6,
                  "image %d, pixel %d: %g", i, k, (double)x[k]);
    }
    gan_tensor *classes = NULL, *b = gan_batch(d, 3, &classes);
    CHECK(b->n == 3 && b->c == 1 && b->h == 3 && b->w == 2, "idx3: a batch of (%d,%d,%d,%d)", b->n,
          b->c, b->h, b->w);
    CHECK(classes && classes->n == 3 && classes->c == 1 && classes->h == 1 && classes->w == 1,
          "labels have another shape");

    d = gan_data_idx(g, path, NULL);
    CHECK(d, "idx3 without labels: %s", gan_error());
    gan_data_item(d, 1, x, &label);
    CHECK(label == -1, "a label %d where there are none", label);
    gan_data_item(d, 1, x, NULL);

    write_file(path, four, sizeof four);
    d = gan_data_idx(g, path, NULL);
    CHECK(d, "idx4: %s", gan_error());
    b = gan_batch(d, 2, NULL);
    CHECK(b->n == 2 && b->c == 2 && b->h == 2 && b->w == 2, "idx4: a batch of (%d,%d,%d,%d)", b->n,
          b->c, b->h, b->w);
    gan_data_item(d, 0, x, NULL);
    for (int k = 0; k < 8; k++)
        CHECK(fabs((double)x[k] - level(four[20 + k])) <= 1e-6, "idx4, pixel %d: %g", k,
              (double)x[k]);
    gan_close(g);
}

/* -------------------------------------------------------------------------------------------
   Batches, of 20 images of one pixel: image i has brightness i and label i, so that an order can
   be read off
   ------------------------------------------------------------------------------------------- */
enum { IMAGES = 20 };

static gan_data *numbered(gan *g)
{
    unsigned char images[16 + IMAGES] = {0, 0, 8, 3, 0, 0, 0, IMAGES, 0, 0, 0, 1, 0, 0, 0, 1};
    unsigned char labels[8 + IMAGES] = {0, 0, 8, 1, 0, 0, 0, IMAGES};
    for (int i = 0; i < IMAGES; i++)
        images[16 + i] = labels[8 + i] = (unsigned char)i;
    write_file(path, images, sizeof images);
    write_file(other, labels, sizeof labels);
    return gan_data_idx(g, path, other);
}

/* Draws count images in batches of n; -1 in order[] where image and label are of different
   images. */
static void draw(gan_data *d, int count, int n, int *order)
{
    gan_real pixel[64], label[64];
    for (int i = 0; i < count; i += n) {
        gan_tensor *labels, *b = gan_batch(d, n, &labels);
        gan_to_host(b, pixel);
        gan_to_host(labels, label);
        for (int k = 0; k < n; k++)
            order[i + k] = fabs((double)pixel[k] - level((double)label[k])) <= 1e-6 ? (int)label[k]
                                                                                    : -1;
    }
}

static bool is_permutation(const int *order)
{
    bool seen[IMAGES] = {false};
    for (int i = 0; i < IMAGES; i++) {
        if (order[i] < 0 || order[i] >= IMAGES || seen[order[i]])
            return false;
        seen[order[i]] = true;
    }
    return true;
}

static void epochs(void)
{
    enum { EPOCHS = 6 };

    static const int sizes[] = {
        1, 5, 6, 8,
        /* some divide 20, some cross from one epoch into the next, some span several */
        20, 30, 60};
    int first[EPOCHS * IMAGES], order[EPOCHS * IMAGES + 64];
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        gan *g = gan_open("cpu", 11);
        gan_data *d = numbered(g);
        CHECK(d, "%s", gan_error());
        draw(d, EPOCHS * IMAGES, sizes[s], order);
        for (int e = 0; e < EPOCHS; e++)
            CHECK(is_permutation(order + e * IMAGES),
                  "batches of %d: epoch %d is not every image once", sizes[s], e);
        if (s == 0)
            memcpy(first, order, sizeof first);
        CHECK(memcmp(first, order, sizeof first) == 0,
              "batches of %d come in another order than batches of 1", sizes[s]);
        gan_close(g);
    }
    for (int e = 1; e < EPOCHS; e++) /* 1 in 20! that two are the same by chance */
        CHECK(memcmp(first, first + e * IMAGES, IMAGES * sizeof *first) != 0,
              "epoch %d repeats the order of the first", e);
    bool moved = false;
    for (int i = 0; i < IMAGES; i++)
        moved |= first[i] != i;
    CHECK(moved, "the first epoch is in file order");

    gan *g = gan_open("cpu", 12);
    draw(numbered(g), IMAGES, 1, order);
    CHECK(memcmp(first, order, IMAGES * sizeof *first) != 0, "another seed gives the same order");
    gan_close(g);

    g = gan_open("cpu", 11); /* random numbers drawn elsewhere do not disturb the order */
    gan_data *d = numbered(g);
    gan_randn(g, 3, 5, 7, 1);
    draw(d, IMAGES, 1, order);
    CHECK(memcmp(first, order, IMAGES * sizeof *first) == 0,
          "gan_randn changed the order of the data");
    gan_close(g);
}

static void two_sets(void)
{
    int a[IMAGES], b[IMAGES];
    gan *g = gan_open("cpu", 11);
    gan_data *one = numbered(g), *two = numbered(g);
    draw(one, IMAGES, 1, a);
    draw(two, IMAGES, 1, b);
    CHECK(is_permutation(a) && is_permutation(b), "two sets side by side disturb each other");
    CHECK(memcmp(a, b, sizeof a) != 0, "two sets come in the same order");
    gan_close(g);
}

/* -------------------------------------------------------------------------------------------
   The built-in digits
   ------------------------------------------------------------------------------------------- */
enum { PIXELS = 28 * 28, DIGITS = 1000 };

static gan_real digits[DIGITS][PIXELS];
static int digit[DIGITS];

static void built_in_digits(void)
{
    static gan_real again[PIXELS];
    gan *g = gan_open("cpu", 3);
    gan_data *d = gan_data_digits(g, DIGITS);
    CHECK(d && gan_data_size(d) == DIGITS, "%s", gan_error());
    gan_tensor *b = gan_batch(d, 4, NULL);
    CHECK(b->n == 4 && b->c == 1 && b->h == 28 && b->w == 28, "a batch of (%d,%d,%d,%d)", b->n,
          b->c, b->h, b->w);

    int count[10] = {0};
    double ink = 0, low = 1, high = -1;
    for (int i = 0; i < DIGITS; i++) {
        gan_data_item(d, i, digits[i], &digit[i]);
        CHECK(digit[i] >= 0 && digit[i] <= 9, "label %d", digit[i]);
        count[digit[i]]++;
        for (int k = 0; k < PIXELS; k++) {
            double v = (double)digits[i][k];
            ink += (v + 1) / 2 / ((double)DIGITS * PIXELS);
            low = v < low ? v : low;
            high = v > high ? v : high;
        }
    }
    for (int c = 0; c < 10; c++) /* 100 expected; 50 is five standard deviations away */
        CHECK(count[c] >= 50 && count[c] <= 150, "%d images of %d in %d", count[c], c, DIGITS);
    CHECK(low == -1 && high <= 1 && high > 0.99, "from %g to %g instead of from -1 to 1", low,
          high);
    CHECK(fabs(ink - 0.13) <= 0.03, "ink %g; MNIST has 0.13",
          ink); /* near enough that settings carry over */

    gan *h = gan_open("cpu", 3);
    gan_data *e = gan_data_digits(h, DIGITS);
    for (int i = 0; i < DIGITS; i++) {
        gan_data_item(e, i, again, NULL);
        CHECK(memcmp(again, digits[i], sizeof again) == 0, "image %d differs the second time", i);
    }
    gan_close(h);
    h = gan_open("cpu", 4);
    gan_data_item(gan_data_digits(h, 1), 0, again, NULL);
    CHECK(memcmp(again, digits[0], sizeof again) != 0, "another seed draws the same image");
    gan_close(h);
    gan_close(g);
}

/* Labels belong to their images and classes look different: the nearest mean image of half the
   set names the other half. */
static void digits_can_be_told_apart(void)
{
    static double mean[10][PIXELS];
    int count[10] = {0}, right = 0;
    for (int i = 0; i < DIGITS / 2; i++)
        count[digit[i]]++;
    for (int i = 0; i < DIGITS / 2; i++)
        for (int k = 0; k < PIXELS; k++)
            mean[digit[i]][k] += (double)digits[i][k] / count[digit[i]];
    for (int i = DIGITS / 2; i < DIGITS; i++) {
        int best = -1;
        double nearest = INFINITY;
        for (int c = 0; c < 10; c++) {
            double distance = 0;
            for (int k = 0; k < PIXELS; k++)
                distance += pow((double)digits[i][k] - mean[c][k], 2);
            if (distance < nearest) {
                nearest = distance;
                best = c;
            }
        }
        right += best == digit[i];
    }
    CHECK(right * 100 >= 60 * (DIGITS / 2), "%d of %d recognised", right,
          DIGITS / 2); /* chance is 10%; MNIST gives 80% */
    for (int i = 1; i < DIGITS; i++)
        CHECK(memcmp(digits[i], digits[i - 1], sizeof digits[i]) != 0,
              "images %d and %d are the same", i - 1, i);
}

/* -------------------------------------------------------------------------------------------
   .gz and .png, with stb
   ------------------------------------------------------------------------------------------- */
#ifdef HAVE_STB
enum { GZ_IMAGES = 20, GZ_PIXELS = 120 };

/* gzip's deflate stream, checksum and length of an idx3 file of 20 images (3,2); gz_pixel(i) is
   what it holds. */
static const unsigned char gz_body[] = {
    0x63, 0x60, 0xe0, 0x60, 0x66, 0x60, 0x60, 0x10, 0x01, 0x62, 0x10, 0xcd, 0xc4, 0xc0, 0x2e,
    0xc3, 0x50, 0xb0, 0x9e, 0x21, 0xea, 0x30, 0xc3, 0xfe, 0x20, 0x86, 0xa5, 0x49, 0x0c, 0x6c,
    0x6f, 0x19, 0x5e, 0xfc, 0x64, 0x70, 0x6d, 0x60, 0x50, 0xee, 0x60, 0xa8, 0xe1, 0x66, 0x08,
    0xe3, 0x67, 0x58, 0xdd, 0xc7, 0xd0, 0xd8, 0xc7, 0x70, 0x89, 0x93, 0x61, 0x09, 0x2b, 0xc3,
    0xc7, 0x1a, 0x86, 0xfd, 0x25, 0x0c, 0x1c, 0xcf, 0x19, 0x2e, 0xdd, 0x66, 0x10, 0xf7, 0x62,
    0xb8, 0x6b, 0xc5, 0x20, 0xb7, 0x94, 0xe1, 0xc1, 0x44, 0x06, 0xd9, 0x1f, 0x0c, 0xb7, 0x1f,
    0x30, 0x88, 0x38, 0x33, 0x9c, 0x53, 0x67, 0x60, 0x6e, 0x63, 0xd8, 0x99, 0xc6, 0xf0, 0xea,
    0x20, 0xc3, 0x9c, 0xb9, 0x0c, 0x27, 0xbf, 0x30, 0x94, 0x9f, 0x61, 0x58, 0x20, 0xcf, 0xe0,
    0xf5, 0x99, 0x21, 0xdf, 0x89, 0x41, 0x54, 0x88, 0xc1, 0x2c, 0x96, 0xe1, 0x86, 0x26, 0xc3,
    0xd7, 0x02, 0x00, 0x9e, 0x64, 0xc2, 0xf7, 0x88, 0x00, 0x00, 0x00};

static int gz_pixel(int i)
{
    return i % 3 ? (7 * i * i + 3 * (i / 6)) % 256 : 0;
}

/* Writes a .gz with those header flags and the bytes that belong to them; returns its length. */
static size_t write_gz(unsigned char flags, const void *extra, size_t extra_size, unsigned char *b)
{
    static const unsigned char fixed[10] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 2, 3};
    memcpy(b, fixed, 10);
    b[3] = flags;
    if (extra_size)
        memcpy(b + 10, extra, extra_size);
    memcpy(b + 10 + extra_size, gz_body, sizeof gz_body);
    write_file(path, b, 10 + extra_size + sizeof gz_body);
    return 10 + extra_size + sizeof gz_body;
}

static bool is_gz_data(gan_data *d)
{
    gan_real x[6];
    if (gan_data_size(d) != GZ_IMAGES)
        return false;
    for (int k = 0; k < GZ_PIXELS; k++) {
        if (k % 6 == 0)
            gan_data_item(d, k / 6, x, NULL);
        if (!(fabs((double)x[k % 6] - level(gz_pixel(k))) <= 1e-6))
            return false;
    }
    return true;
}

static void gz(void)
{
    static const struct {
        const char *what;
        unsigned char flags;
        const char *bytes;
        size_t size;
    } headers[] = {
        {"a plain header", 0, "", 0},
        {"a text flag", 1, "", 0},
        {"a file name", 8, "train-images", 13},
        {"a comment", 16, "made by hand", 13},
        {"an extra field", 4, "\3\0abc", 5},
        {"an empty extra field", 4, "\0\0", 2},
        {"a header checksum", 2, "\1\2", 2},
        {"all of them", 2 | 4 | 8 | 16,
         "\3\0abc"
         "name\0"
         "comment\0"
         "\1\2",
         20},
    };

    unsigned char b[256];
    gan *g = gan_open("cpu", 1);
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        write_gz(headers[i].flags, headers[i].bytes, headers[i].size, b);
        gan_data *d = gan_data_idx(g, path, NULL);
        CHECK(d, "%s: %s", headers[i].what, gan_error());
        CHECK(is_gz_data(d), "%s: other images", headers[i].what);
    }
    gan_close(g);
}

static void broken_gz(void)
{
    unsigned char b[256];
    gan *g = gan_open("cpu", 1);
    size_t size = write_gz(2 | 4 | 8 | 16,
                           "\3\0abc"
                           "name\0"
                           "comment\0"
                           "\1\2",
                           20, b);
    for (size_t n = 0; n < size; n++) {
        write_file(path, b, n);
        CHECK(!gan_data_idx(g, path, NULL), "the first %lu of %lu bytes load", (unsigned long)n,
              (unsigned long)size);
        CHECK(strstr(gan_error(), path), "the error does not name the file: %s", gan_error());
    }
    size = write_gz(0, "", 0, b);
    for (size_t i = 0; i < size;
         i++) /* a wrong bit is refused, or is one that means nothing: a time stamp, padding */
        for (int k = 0; k < 8; k++) {
            b[i] ^= (unsigned char)(1 << k);
            write_file(path, b, size);
            gan_data *d = gan_data_idx(g, path, NULL);
            CHECK(!d || is_gz_data(d), "byte %lu, bit %d wrong: other images", (unsigned long)i, k);
            CHECK(d || strstr(gan_error(), path), "the error does not name the file: %s",
                  gan_error());
            CHECK(!d || i < 10 || i >= size - 12, "byte %lu, bit %d wrong: it loads",
                  (unsigned long)i, k);
            b[i] ^= (unsigned char)(1 << k);
        }
    gan_close(g);
}

/* 5 pictures in rows of 2, with 2 dark pixels between them and around. */
static void png(int channels)
{
    enum { H = 3, W = 4, N = 5, GAP = 2 };

    gan_real x[N * 3 * H * W];
    for (int i = 0; i < N * channels * H * W; i++)
        x[i] = (gan_real)level(2 * i % 256); /* every second byte value comes back */
    gan *g = gan_open("cpu", 1);
    CHECK(gan_save_png(gan_from_host(g, x, N, channels, H, W), 2, path), "%s", gan_error());
    int w, h, c;
    unsigned char *image = stbi_load(path, &w, &h, &c, channels);
    unsigned char want[17 * 14 * 3] = {0};
    CHECK(image, "the file is no PNG: %s", stbi_failure_reason());
    CHECK(c == channels && w == 2 * (W + GAP) + GAP && h == 3 * (H + GAP) + GAP,
          "%d channels, %dx%d", c, w, h);
    for (int n = 0; n < N; n++)
        for (int k = 0; k < channels; k++)
            for (int i = 0; i < H; i++)
                for (int j = 0; j < W; j++) {
                    int row = n / 2 * (H + GAP) + GAP + i;
                    int column = n % 2 * (W + GAP) + GAP + j;
                    want[(row * w + column) * channels + k] =
                        (unsigned char)(2 * (((n * channels + k) * H + i) * W + j) % 256);
                }
    int different = memcmp(image, want, (size_t)(w * h * channels));
    stbi_image_free(image);
    CHECK(different == 0, "the picture is not what was saved");
    gan_close(g);
}

static void png_grey(void)
{
    png(1);
}

static void png_colour(void)
{
    png(3);
}

static void png_limits(void)
{
    static const gan_real x[4] = {-3, 3, (gan_real)-1.001, (gan_real)1.001};
    gan *g = gan_open("cpu", 1);
    CHECK(gan_save_png(gan_from_host(g, x, 1, 1, 1, 4), 1, path), "%s", gan_error());
    int w, h, c;
    unsigned char *image = stbi_load(path, &w, &h, &c, 1);
    CHECK(image, "the file is no PNG");
    bool right = w == 4 && h == 1 && image[0] == 0 && image[1] == 255 && image[2] == 0 &&
                 image[3] == 255;
    stbi_image_free(image);
    CHECK(right, "numbers outside [-1,1] are not black and white, or one picture has a frame");
    CHECK(!gan_save_png(gan_zeros(g, 1, 1, 2, 2), 1, "no-such-folder/x.png"),
          "saved into a folder that is not there");
    CHECK(strstr(gan_error(), "no-such-folder/x.png"), "the error does not name the file: %s",
          gan_error());
    gan_close(g);
}

/* The first image of MNIST, if it is there: its label 5, the sum of its bytes, and the sum
   weighted by place. */
static const char *mnist_folder(void)
{
    static const char *const folders[] = {"data/mnist", "../shared/data/mnist"};
    for (int i = 0; i < 2; i++) {
        char images[128];
        snprintf(images, sizeof images, "%s/train-images-idx3-ubyte.gz", folders[i]);
        FILE *f = fopen(images, "rb");
        if (f)
            fclose(f);
        if (f)
            return folders[i];
    }
    return NULL;
}

static void mnist(void)
{
    char images[128], labels[128];
    gan_real x[PIXELS];
    int label;
    long sum = 0, weighted = 0;
    snprintf(images, sizeof images, "%s/train-images-idx3-ubyte.gz", mnist_folder());
    snprintf(labels, sizeof labels, "%s/train-labels-idx1-ubyte.gz", mnist_folder());
    gan *g = gan_open("cpu", 1);
    gan_data *d = gan_data_idx(g, images, labels);
    CHECK(d, "%s", gan_error());
    CHECK(gan_data_size(d) == 60000, "%d images", gan_data_size(d));
    gan_data_item(d, 0, x, &label);
    for (int k = 0; k < PIXELS; k++) {
        long byte = lround(((double)x[k] + 1) * 127.5);
        sum += byte;
        weighted += byte * (k + 1);
    }
    CHECK(label == 5 && sum == 27525 && weighted == 11220489, "%s: label %d, sums %ld and %ld",
          images, label, sum, weighted);
    gan_close(g);
}
#endif

/* -------------------------------------------------------------------------------------------
   The CSV log
   ------------------------------------------------------------------------------------------- */
static gan_progress *log_steps(gan *g, int first, int from, int to)
{
    gan_progress *l = gan_progress_open(g, path, "D,G", first, 1000,
                                        8); /* of 1000, so that none is printed */
    for (int i = from; l && i < to; i++)
        gan_progress_step(l, i, 0.1 + i, 1e-7 * i);
    return l;
}

static void csv(void)
{
    static char whole[4096], now[4096];
    gan *g = gan_open("cpu", 1);
    gan_progress *l = log_steps(g, 0, 0, 12);
    CHECK(l, "%s", gan_error());

    size_t size = read_text(path, whole, sizeof whole); /* after the flush it is all there */
    gan_progress_close(l);
    CHECK(size == read_text(path, now, sizeof now) && strcmp(whole, now) == 0,
          "closing changed the file");

    int lines = 0;
    for (char *p = whole; *p; p++)
        lines += *p == '\n';
    CHECK(lines == 13, "%d lines instead of a title and 12 rows", lines);
    CHECK(strstr(whole, "D,G"), "no columns in the first line: %.40s", whole);
    char *row = whole;
    for (int i = 0; i < 12;
         i++) { /* rows hold what was logged, to the 6 digits that a plot needs */
        row = strchr(row, '\n') + 1;
        long step = strtol(row, &row, 10);
        double d = strtod(row + 1, &row), e = strtod(row + 1, &row);
        CHECK(step == i && fabs(d - (0.1 + i)) <= 1e-5 * d && fabs(e - 1e-7 * i) <= 1e-5 * e,
              "row %d: %ld %g %g", i, step, d, e);
    }

    /* A training that was killed at step 9, when the state of step 6 was on the disk; its last
       row is cut off in the middle. */
    l = log_steps(g, 0, 0, 9);
    gan_progress_close(l);
    size = read_text(path, now, sizeof now);
    write_file(path, now, size - 3);
    l = log_steps(g, 6, 6, 12);
    CHECK(l, "%s", gan_error());
    gan_progress_close(l);
    read_text(path, now, sizeof now);
    CHECK(strcmp(whole, now) == 0, "the CSV of a resumed training differs:\n%s", now);

    l = log_steps(g, 0, 0, 12); /* a new training starts a new file */
    gan_progress_close(l);
    read_text(path, now, sizeof now);
    CHECK(strcmp(whole, now) == 0, "the CSV of a second training differs:\n%s", now);

    remove(path); /* going on where there is no file is a new file of the later rows */
    l = log_steps(g, 6, 6, 12);
    CHECK(l, "%s", gan_error());
    gan_progress_close(l);
    read_text(path, now, sizeof now);
    CHECK(strstr(now, "D,G") && strstr(now, "\n6,") && strstr(now, "\n11,"),
          "going on without a file:\n%s", now);

    CHECK(!gan_progress_open(g, "no-such-folder/x.csv", "D,G", 0, 1000, 8),
          "a log in a folder that is not there");
    CHECK(strstr(gan_error(), "no-such-folder/x.csv"), "the error does not name the file: %s",
          gan_error());
    l = gan_progress_open(g, NULL, "D,G", 0, 1000, 8);
    CHECK(l, "no log without a CSV: %s", gan_error());
    gan_progress_step(l, 0, 1.0, 2.0);
    gan_progress_close(l);
    gan_close(g);
}

int main(int argc, char **argv)
{
    snprintf(path, sizeof path, "%s.1.tmp", argc > 0 ? argv[0] : "data");
    snprintf(other, sizeof other, "%s.2.tmp", argc > 0 ? argv[0] : "data");
    run("data: IDX of 3 and 4 dimensions, labels", idx);
    run("data: every image once an epoch, in batches of any size", epochs);
    run("data: two sets do not disturb each other", two_sets);
    run("data: built-in digits", built_in_digits);
    run("data: built-in digits can be told apart", digits_can_be_told_apart);
#ifdef HAVE_STB
    run("data: .gz", gz);
    run("data: broken .gz", broken_gz);
    if (mnist_folder())
        run("data: the first image of MNIST", mnist);
    else
        printf("skip data: the first image of MNIST (it is not here; make data fetches it)\n");
    run("pictures: a grid in grey", png_grey);
    run("pictures: a grid in colour", png_colour);
    run("pictures: limits and a missing folder", png_limits);
#else
    printf("skip .gz and pictures (stb is not here)\n");
#endif
    run("progress: the CSV", csv);
    remove(path);
    remove(other);
    return finish();
}
