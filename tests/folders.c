/* tests/folders.c: the data sets beyond IDX - folders of pictures, CIFAR-10, pairs, built-in
   shapes - and the pool of images. */
#include "test.h"
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef HAVE_STB
extern unsigned char *stbi_zlib_compress(unsigned char *data, int length, int *packed, int quality);

/* The check sum of .gz and .png files, bit by bit (RFC 1952, section 8). */
static uint32_t crc32(const unsigned char *bytes, int count)
{
    uint32_t crc = 0xffffffffu;
    for (int i = 0; i < 8 * count; i++) {
        uint32_t bit = (crc ^ bytes[i / 8] >> i % 8) & 1;
        crc = crc >> 1 ^ (bit ? 0xedb88320u : 0);
    }
    return ~crc;
}
#endif

/* ---- scratch files, all in a folder of this program's own beside it; what was made is removed
   again, and nothing else */
static char root[400], made[512][512];
static int made_count;

static const char *at(const char *name) /* a name in the folder; the last 8 stay valid */
{
    static char names[8][512];
    static int next;
    char *to = names[next++ % 8];
    snprintf(to, sizeof names[0], "%s/%s", root, name);
    return to;
}

static const char *note(const char *path)
{
    for (int i = 0; i < made_count; i++)
        if (strcmp(made[i], path) == 0)
            return path;
    if (made_count == 512) {
        printf("too many scratch files\n");
        exit(2);
    }
    snprintf(made[made_count++], sizeof made[0], "%s", path);
    return path;
}

static void clean(void)
{
    while (made_count > 1)
        remove(made[--made_count]); /* the first is the folder itself */
}

static const char *folder(const char *name)
{
    if (mkdir(at(name), 0700) != 0 && errno != EEXIST) {
        printf("cannot make %s\n", at(name));
        exit(2);
    }
    return note(at(name));
}

static const char *file(const char *name, const void *data, size_t size)
{
    FILE *f = fopen(at(name), "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f)) {
        printf("cannot write %s\n", at(name));
        exit(2);
    }
    return note(at(name));
}

static double byte_of(gan_real x)
{
    return ((double)x + 1) * 127.5;
} /* -1..1 as 0..255 */

/* -------------------------------------------------------------------------------------------
   CIFAR-10
   ------------------------------------------------------------------------------------------- */
enum { RECORD = 3073 };

static unsigned char records[4 * RECORD];

static void make_records(void)
{
    for (int i = 0; i < 4 * RECORD; i++)
        records[i] = (unsigned char)(i % RECORD ? (i * 7 + i / RECORD * 31 + i / 1024) % 256
                                                : (3 * (i / RECORD) + 1) % 10);
}

static bool is_record(gan_data *d, int i, int record)
{
    static gan_real x[3072];
    int label;
    gan_data_item(d, i, x, &label);
    if (label != records[record * RECORD])
        return false;
    for (int k = 0; k < 3072; k++)
        if (!(fabs(byte_of(x[k]) - records[record * RECORD + 1 + k]) <= 1e-3))
            return false; /* 1e-3: roundings of 127.5 times 1e-7 */
    return true;
}

static void cifar(void)
{
    gan *g = gan_open("cpu", 1);
    const char *paths[3];
    make_records();
    paths[0] = file("one.bin", records, RECORD);
    paths[1] = file("more.bin", records + RECORD, 3 * RECORD);
    gan_data *d = gan_data_cifar10(g, paths, 2);
    CHECK(d && gan_data_size(d) == 4, "two files of 1 and 3 records: %s", gan_error());
    for (int i = 0; i < 4; i++)
        CHECK(is_record(d, i, i), "record %d differs", i);
    CHECK(strcmp(gan_data_class_name(d, 0), "airplane") == 0 &&
              strcmp(gan_data_class_name(d, 9), "truck") == 0,
          "other class names");
    CHECK(!gan_data_class_name(d, 10) && !gan_data_class_name(d, -1),
          "a name for a class that is not there");
    CHECK(gan_data_skipped(d) == 0, "files skipped");
    gan_tensor *labels, *b = gan_batch(d, 2, &labels);
    CHECK(b->n == 2 && b->c == 3 && b->h == 32 && b->w == 32, "a batch of (%d,%d,%d,%d)", b->n,
          b->c, b->h, b->w);

    paths[0] = file("short.bin", records, 2 * RECORD - 1); /* the second record lacks a byte */
    CHECK(!gan_data_cifar10(g, paths, 1), "a record that is cut off loads");
    CHECK(strstr(gan_error(), "short.bin") && strstr(gan_error(), "record 1") &&
              strstr(gan_error(), "3072"),
          "message: %s", gan_error());
    CHECK(!gan_data_cifar10(g, paths, 2), "a good file behind a bad one makes up for it");
    file("empty.bin", "", 0);
    paths[2] = at("empty.bin");
    CHECK(!gan_data_cifar10(g, paths + 2, 1) && strstr(gan_error(), "empty.bin"),
          "an empty file: %s", gan_error());
    records[2 * RECORD] = 10;
    paths[2] = file("label.bin", records, 4 * RECORD);
    CHECK(!gan_data_cifar10(g, paths + 1, 2) && strstr(gan_error(), "label.bin") &&
              strstr(gan_error(), "record 2"),
          "message: %s", gan_error());
    paths[0] = at("not-there.bin");
    CHECK(!gan_data_cifar10(g, paths, 1) && strstr(gan_error(), "not-there.bin"), "message: %s",
          gan_error());
#ifdef HAVE_STB
    static unsigned char gz[18 + 5 + RECORD] = {0x1f,
                                                0x8b,
                                                8,
                                                0,
                                                0,
                                                0,
                                                0,
                                                0,
                                                0,
                                                3,
                                                1,
                                                RECORD & 255,
                                                RECORD >> 8,
                                                255 - (RECORD & 255),
                                                255 - (RECORD >> 8)};
    uint32_t sum = crc32(records, RECORD); /* one stored block, and gzip's check sum and length */
    memcpy(gz + 15, records, RECORD);
    for (int i = 0; i < 4; i++) {
        gz[15 + RECORD + i] = (unsigned char)(sum >> 8 * i);
        gz[19 + RECORD + i] = (unsigned char)(RECORD >> 8 * i);
    }
    paths[0] = file("one.bin.gz", gz, sizeof gz);
    d = gan_data_cifar10(g, paths, 1);
    CHECK(d && gan_data_size(d) == 1 && is_record(d, 0, 0), ".gz: %s", gan_error());
#endif
    gan_close(g);
    clean();
}

/* -------------------------------------------------------------------------------------------
   Shapes. What is drawn is measured and held against formulas for its class, with R from the
   centre to the tips: area and outline of a circle, a square, a triangle, a star whose hollows
   lie at 0.45 R
   ------------------------------------------------------------------------------------------- */
enum { SHAPES = 300, SIDE = 64, AREA = SIDE * SIDE };

static gan_real filled[3 * AREA], edges[3 * AREA], striped[3 * AREA];

static void shapes(void)
{
    static const char *const names[4] = {"circle", "square", "triangle", "star"};
    static const double area_of[4] = {3.1416, 2, 1.2990, 1.3225};
    static const double outline_of[4] = {6.2832, 5.6569, 5.1962, 6.8880};
    int count[4] = {0, 0, 0, 0}, label, same;
    gan *g = gan_open("cpu", 5);
    gan_data *f = gan_data_shapes(g, SHAPES, SIDE, GAN_SHAPES_FILLED);
    gan_data *e = gan_data_shapes(g, SHAPES, SIDE, GAN_SHAPES_EDGES);
    gan_data *s = gan_data_shapes(g, SHAPES, SIDE, GAN_SHAPES_STRIPED);
    for (int i = 0; i < SHAPES; i++) {
        double area = 0, x0 = 0, y0 = 0, reach = 0, ink = 0, range = 0;
        gan_data_item(f, i, filled, &label);
        gan_data_item(e, i, edges, &same);
        CHECK(label >= 0 && label < 4 && label == same, "shape %d is %d filled and %d as edges", i,
              label, same);
        gan_data_item(s, i, striped, &same);
        CHECK(label == same && strcmp(gan_data_class_name(s, label), names[label]) == 0,
              "shape %d is %d striped", i, same);
        count[label]++;
        double cover[AREA],
            far =
                /* how much of each pixel is inside: the colour between paper (a corner) and ink
                   (the colour furthest from it) */
            0;
        int furthest = 0;
        for (int k = 0; k < AREA; k++) {
            double distance = 0;
            for (int c = 0; c < 3; c++)
                distance += fabs((double)filled[c * AREA + k] - (double)filled[c * AREA]);
            if (distance > far) {
                far = distance;
                furthest = k;
            }
        }
        for (int c = 0; c < 3; c++)
            range += pow((double)filled[c * AREA + furthest] - (double)filled[c * AREA], 2);
        for (int k = 0; k < AREA; k++) {
            cover[k] = 0;
            for (int c = 0; c < 3; c++)
                cover[k] += ((double)filled[c * AREA + k] - (double)filled[c * AREA]) *
                            ((double)filled[c * AREA + furthest] - (double)filled[c * AREA]) /
                            range;
            area += cover[k];
            x0 += cover[k] * (k % SIDE);
            y0 += cover[k] * (k / SIDE);
            ink += (1 - (double)edges[k]) / 2;
        }
        x0 /= area;
        y0 /= area;
        for (int k = 0; k < AREA; k++) {
            double distance = sqrt(pow(k % SIDE - x0, 2) + pow(k / SIDE - y0, 2));
            if (cover[k] > 0.3)
                reach = distance > reach ? distance : reach;
            bool border = k % SIDE == 0 || k / SIDE == 0 || k % SIDE == SIDE - 1 ||
                          k / SIDE == SIDE - 1;
            CHECK(!border || cover[k] <= 0.51, "shape %d, a %s, sticks out", i, names[label]);
        }
        /* 20%: R is measured to whole pixels of a shape of 13 to 25, and enters squared; the
           area of a neighbouring class but the star's is 50% off */
        CHECK(fabs(area / (reach * reach) / area_of[label] - 1) <= 0.2,
              "shape %d, a %s: area %.3f R^2", i, names[label], area / (reach * reach));
        /* a line of 2*64/50 pixels; 15% as R enters once, and corners are cut */
        CHECK(fabs(ink / 2.56 / reach / outline_of[label] - 1) <= 0.15,
              "shape %d, a %s: outline %.3f R", i, names[label], ink / 2.56 / reach);
        double inside = 0, outside = 0; /* striped: dark cloth, a lighter shape in the same place */
        for (int k = 0; k < 3 * AREA; k++)
            *(cover[k % AREA] > 0.5 ? &inside : &outside) += (double)striped[k];
        CHECK(inside / (3 * area) > outside / (3 * (AREA - area)) + 0.2 &&
                  outside / (3 * (AREA - area)) < -0.3,
              "shape %d striped: %g in %g", i, inside / (3 * area), outside / (3 * (AREA - area)));
    }
    for (int c = 0; c < 4; c++)
        CHECK(count[c] >= 40 && count[c] <= 110, "%d of %d are %s", count[c], SHAPES,
              names[c]); /* 75 expected, deviation 7.5 */

    gan *h = gan_open(
        "ref",
        5); /* the same seed draws the same, another one not, and no order of making matters */
    gan_data_digits(h, 3);
    gan_data_item(gan_data_shapes(h, 7, SIDE, GAN_SHAPES_STRIPED), 6, edges, NULL);
    gan_data_item(s, 6, striped, NULL);
    CHECK(memcmp(edges, striped, sizeof edges) == 0, "shape 6 differs the second time");
    gan_close(h);
    h = gan_open("cpu", 6);
    gan_data_item(gan_data_shapes(h, 7, SIDE, GAN_SHAPES_STRIPED), 6, edges, NULL);
    CHECK(memcmp(edges, striped, sizeof edges) != 0, "another seed draws the same");
    gan_data_item(gan_data_shapes(h, 4, 8, GAN_SHAPES_EDGES), 3, edges, NULL);
    gan_close(h);
    gan_close(g);
}

static void shapes_wrong(void *g)
{
    gan_data_shapes((gan *)g, 10, 7, GAN_SHAPES_FILLED);
}

static void style_wrong(void *g)
{
    gan_data_shapes((gan *)g, 10, 64, (gan_shape_style)3);
}

static void null_paths(void *g)
{
    gan_data_cifar10((gan *)g, NULL, 1);
}

static void null_half(void *g)
{
    gan_data_pair((gan *)g, gan_data_digits((gan *)g, 2), NULL);
}

static void null_size(void *unused)
{
    (void)unused;
    gan_data_size(NULL);
}

static void null_item(void *unused)
{
    (void)unused;
    gan_data_item(NULL, 0, NULL, NULL);
}

static void null_image(void *g)
{
    gan_data_item(gan_data_digits((gan *)g, 2), 0, NULL, NULL);
}

static void null_name(void *unused)
{
    (void)unused;
    gan_data_class_name(NULL, 0);
}

static void null_skipped(void *unused)
{
    (void)unused;
    gan_data_skipped(NULL);
}

static void null_batch(void *unused)
{
    (void)unused;
    gan_batch(NULL, 1, NULL);
}

static void null_path(void *g)
{
    const char *paths[1] = {NULL};
    gan_data_cifar10((gan *)g, paths, 1);
}

static void nulls(void)
{
    static const struct {
        void (*call)(void *);
        const char *name;
    } calls[] = {
        {null_size, "gan_data_size"},       {null_item, "gan_data_item"},
        {null_image, "gan_data_item"},      {null_name, "gan_data_class_name"},
        {null_skipped, "gan_data_skipped"}, {null_batch, "gan_batch"},
        {null_path, "gan_data_cifar10"},
    };

    gan *g = gan_open("cpu", 1);
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        const char *message = message_of(calls[i].call, g);
        CHECK(strstr(message, calls[i].name) == message && strstr(message, "NULL"), "%s: %s",
              calls[i].name, message);
    }
    gan_close(g);
}

static void mistakes(void)
{
    gan *g = gan_open("cpu", 1);
    const char *message = message_of(shapes_wrong, g);
    CHECK(strstr(message, "gan_data_shapes") && strstr(message, "size 7 (8"), "message: %s",
          message);
    message = message_of(style_wrong, g);
    CHECK(strstr(message, "style 3 (0 to 2)"), "message: %s", message);
    message = message_of(null_paths, g);
    CHECK(strstr(message, "gan_data_cifar10"), "message: %s", message);
    message = message_of(null_half, g);
    CHECK(strstr(message, "gan_data_pair") && strstr(message, "NULL"), "message: %s", message);
    gan_close(g);
}

/* -------------------------------------------------------------------------------------------
   Pairs
   ------------------------------------------------------------------------------------------- */
static void pairs(void)
{
    static gan_real both[6 * AREA], batch[5 * 6 * AREA];
    gan *g = gan_open("cpu", 9);
    gan_data *e = gan_data_shapes(g, 20, SIDE, GAN_SHAPES_EDGES);
    gan_data *f = gan_data_shapes(g, 20, SIDE, GAN_SHAPES_FILLED);
    gan_data *p = gan_data_pair(g, e, f);
    CHECK(p && gan_data_size(p) == 20, "%s", gan_error());
    CHECK(gan_data_class_name(p, 3) && strcmp(gan_data_class_name(p, 3), "star") == 0,
          "the classes are lost");
    for (int round = 0; round < 8;
         round++) { /* two epochs: the two halves of every pair of a batch are the same item */
        gan_tensor *labels, *b = gan_batch(p, 5, &labels);
        gan_real classes[5];
        CHECK(b->n == 5 && b->c == 6 && b->h == SIDE && b->w == SIDE, "a batch of (%d,%d,%d,%d)",
              b->n, b->c, b->h, b->w);
        gan_to_host(b, batch);
        gan_to_host(labels, classes);
        for (int k = 0; k < 5; k++) {
            int found = -1, label = -1, of_pair;
            for (int i = 0; i < 20 && found < 0; i++) {
                gan_data_item(e, i, edges, &label);
                if (memcmp(edges, batch + k * 6 * AREA, sizeof edges) == 0)
                    found = i;
            }
            CHECK(found >= 0 && (int)classes[k] == label,
                  "image %d is no edges, or of another class", k);
            gan_data_item(f, found, filled, NULL);
            CHECK(memcmp(filled, batch + (k * 6 + 3) * AREA, sizeof filled) == 0,
                  "the second half of pair %d is another shape", found);
            gan_data_item(p, found, both, &of_pair);
            CHECK(memcmp(both, batch + k * 6 * AREA, sizeof both) == 0 && of_pair == label,
                  "gan_data_item gives another pair %d", found);
        }
        gan_clear(g);
    }
    CHECK(!gan_data_pair(g, e, gan_data_shapes(g, 19, SIDE, 0)), "20 and 19 make pairs");
    CHECK(strstr(gan_error(), "20") && strstr(gan_error(), "19"), "message: %s", gan_error());
    CHECK(!gan_data_pair(g, e, gan_data_shapes(g, 20, 32, 0)) && strstr(gan_error(), "64x64") &&
              strstr(gan_error(), "32x32"),
          "message: %s", gan_error());
    p = gan_data_pair(g, gan_data_pair(g, e, f), e); /* pairs of pairs */
    CHECK(p && gan_batch(p, 1, NULL)->c == 9, "a pair of a pair: %s", gan_error());
    gan_close(g);
}

/* -------------------------------------------------------------------------------------------
   The pool of images; image number i is (2,1,2) of the numbers i, i+0.25, ..
   ------------------------------------------------------------------------------------------- */
static gan_tensor *numbered(gan *g, int first, int n)
{
    gan_real x[64];
    for (int i = 0; i < 4 * n; i++)
        x[i] = (gan_real)(first + i / 4 + 0.25 * (i % 4));
    return gan_from_host(g, x, n, 2, 1, 2);
}

/* The image number in each place of t, or -1 where an image is mixed up. */
static void read_numbers(gan_tensor *t, int *out)
{
    gan_real x[64];
    gan_to_host(t, x);
    for (int i = 0; i < t->n; i++) {
        out[i] = (int)x[4 * i];
        for (int k = 0; k < 4; k++)
            if (x[4 * i + k] != (gan_real)(out[i] + 0.25 * k))
                out[i] = -1;
    }
}

static void pool(void)
{
    enum { SIZE = 10, ROUNDS = 1000, N = 4 };

    static int seen[N * ROUNDS];
    int out[N], swaps = 0, age[SIZE + 1] = {0}, kept[SIZE];
    gan *g = gan_open("cpu", 3);
    gan_model *m = gan_model_new(g, "pool");
    for (int round = 0; round < ROUNDS; round++) {
        read_numbers(gan_image_pool(m, "a", numbered(g, N * round, N), SIZE), out);
        for (int i = 0; i < N; i++) {
            int now = N * round + i;
            CHECK(out[i] >= 0 && out[i] <= now, "image %d comes out where %d goes in", out[i], now);
            if (now < SIZE) { /* until full: kept and returned */
                CHECK(out[i] == now, "image %d comes out in place of %d before the pool is full",
                      out[i], now);
                kept[now] = now;
                continue;
            }
            if (out[i] == now)
                continue;
            int place = 0; /* a swap: what comes out was kept, and goes */
            while (place < SIZE && kept[place] != out[i])
                place++;
            CHECK(place < SIZE, "image %d comes out, which was not kept", out[i]);
            kept[place] = now;
            age[place]++;
            swaps++;
            CHECK(!seen[out[i]]++, "image %d was swapped out twice", out[i]);
        }
        gan_clear(g);
    }
    CHECK(abs(swaps - (N * ROUNDS - SIZE) / 2) <= 158, "%d swaps of %d", swaps,
          N * ROUNDS - SIZE); /* five deviations of sqrt(3990)/2 */
    for (int k = 0; k < SIZE; k++)
        CHECK(abs(age[k] - swaps / SIZE) <= 67, "place %d was taken %d times of %d", k, age[k],
              swaps); /* five of sqrt(200*.9) */
    CHECK(gan_param_count(m) == 0, "an optimizer would train the pool");

    gan_tensor *x = numbered(g, 0, 4);
    gan_tensor *y = gan_square(x);
    gan_tensor *z = gan_image_pool(m, "a", y, 0);
    CHECK(z->n == 4 && rel_error(z->data, y->data, 16) == 0, "size 0 does not return the images");
    gan_tensor *dx = gan_grad(gan_sum(gan_add(z, gan_image_pool(m, "b", y, 5))), x);
    for (int i = 0; i < 16; i++)
        CHECK(dx->data[i] == 0, "a gradient %g flows through the pool", (double)dx->data[i]);
    gan_close(g);
}

static int pool_run(
    gan *g, gan_model *m, int from, int to,
    int *out) /* random numbers drawn between must not matter to the resume either */
{
    for (int i = from; i < to; i++) {
        read_numbers(gan_image_pool(m, "a", numbered(g, 3 * i, 3), 7), out + 3 * i);
        gan_randn(g, 1, 1, 1, 3);
        gan_clear(g);
    }
    return to;
}

static void pool_resumes(void)
{
    int whole[90], again[90];
    const char *devices[] = {"cpu", "ref", "compare:ref,cpu"};
    for (int at_step = 1; at_step < 30; at_step += 9) { /* saved while it fills, and later */
        gan *g = gan_open("cpu", 8);
        gan_model *m = gan_model_new(g, "pool");
        pool_run(g, m, 0, at_step, whole);
        CHECK(gan_save_state(g, note(at("pool.state")), at_step), "%s", gan_error());
        pool_run(g, m, at_step, 30, whole);
        gan_close(g);
        g = gan_open(devices[at_step / 9 % 3], 8);
        m = gan_model_new(g, "pool");
        int step = 0;
        CHECK(gan_load_state(g, at("pool.state"), &step) && step == at_step, "%s", gan_error());
        CHECK(gan_param_count(m) == 0, "the pool became trainable");
        pool_run(g, m, step, 30, again);
        CHECK(memcmp(whole + 3 * step, again + 3 * step, (size_t)(90 - 3 * step) * sizeof *whole) ==
                  0,
              "resumed at %d other images come out", step);
        gan_close(g);
    }
    clean();
}

static void other_size(void *g)
{
    gan_model *m = gan_model_new((gan *)g, "m");
    gan_image_pool(m, "a", numbered((gan *)g, 0, 2), 5);
    gan_image_pool(m, "a", numbered((gan *)g, 0, 2), 6);
}

static void other_images(void *g)
{
    gan_model *m = gan_model_new((gan *)g, "n");
    gan_image_pool(m, "a", numbered((gan *)g, 0, 2), 5);
    gan_image_pool(m, "a", gan_zeros((gan *)g, 1, 2, 2, 2), 5);
}

static void no_pool_model(void *g)
{
    gan_image_pool(NULL, "a", numbered((gan *)g, 0, 2), 5);
}

static void pool_mistakes(void)
{
    gan *g = gan_open("cpu", 1);
    const char *message = message_of(other_size, g);
    CHECK(strstr(message, "gan_image_pool") && strstr(message, "(5,2,1,2)") &&
              strstr(message, "size 6"),
          "message: %s", message);
    message = message_of(other_images, g);
    CHECK(strstr(message, "gan_image_pool") && strstr(message, "(1,2,2,2)"), "message: %s",
          message);
    message = message_of(no_pool_model, g);
    CHECK(strstr(message, "gan_image_pool") && strstr(message, "NULL"), "message: %s", message);
    gan_close(g);
}

#ifdef HAVE_STB
/* -------------------------------------------------------------------------------------------
   Folders
   ------------------------------------------------------------------------------------------- */
static const char *png(const char *name, int w, int h, int c, const unsigned char *pixels)
{
    if (!stbi_write_png(note(at(name)), w, h, c, pixels, w * c)) {
        printf("cannot write %s\n", at(name));
        exit(2);
    }
    return at(name);
}

static const char *plain(const char *name, int byte) /* 2x2 of one grey */
{
    unsigned char x[4];
    memset(x, byte, sizeof x);
    return png(name, 2, 2, 1, x);
}

/* What is written to stderr between the two is in text[] afterwards. */
static char text[8192];
static int saved_stderr;

static void hear(void)
{
    fflush(stderr);
    saved_stderr = dup(2);
    if (!freopen(note(at("stderr.txt")), "w", stderr))
        exit(2);
}

static void heard(void)
{
    fflush(stderr);
    dup2(saved_stderr, 2);
    close(saved_stderr);
    FILE *f = fopen(at("stderr.txt"), "rb");
    text[f ? fread(text, 1, sizeof text - 1, f) : 0] = 0;
    if (f)
        fclose(f);
}

static int times(const char *word)
{
    int n = 0;
    for (const char *p = text; (p = strstr(p, word)) != NULL; p++)
        n++;
    return n;
}

static int grey_at(gan_data *d, int i, int *label) /* the first pixel of image i as a byte */
{
    static gan_real x[1 << 16];
    gan_data_item(d, i, x, label);
    return (int)lround(byte_of(x[0]));
}

static void classes(void)
{
    static const struct {
        const char *name;
        int grey, label;
    } files[] = {/* as they must come: names in order of their bytes */
                 {"set/A/z.png", 10, 0}, {"set/a/1.png", 20, 1},   {"set/a/10.PNG", 30, 1},
                 {"set/a/2.png", 40, 1}, {"set/a-b/x.png", 50, 2}, {"set/b/y.png", 60, 3}};

    int label;
    folder("set");
    folder("set/b");
    folder("set/a-b");
    folder("set/a");
    folder("set/A");
    folder("set/.hidden");
    folder("set/a/deeper");
    for (int i = 5; i >= 0; i--)
        plain(files[i].name, files[i].grey);
    plain("set/beside.png", 99);
    plain("set/.hidden/h.png", 98);
    plain("set/a/deeper/d.png", 97);
    plain("set/a/.dot.png", 96);
    file("set/a/notes.txt", "hello", 5);
    file("set/read.me", "hello", 5);
    gan *g = gan_open("cpu", 1);
    hear();
    gan_data *d = gan_data_folder(g, at("set"), 1, 2, 2);
    heard();
    CHECK(d && gan_data_size(d) == 6, "%d pictures: %s", d ? gan_data_size(d) : 0, gan_error());
    CHECK(!*text, "complaints: %s", text);
    for (int i = 0; i < 6; i++) {
        int grey = grey_at(d, i, &label);
        CHECK(grey == files[i].grey && label == files[i].label,
              "picture %d is of grey %d, class %d", i, grey, label);
    }
    static const char *const names[4] = {"A", "a", "a-b", "b"};
    for (int k = 0; k < 4; k++)
        CHECK(gan_data_class_name(d, k) && strcmp(gan_data_class_name(d, k), names[k]) == 0,
              "class %d is %s", k, gan_data_class_name(d, k));
    CHECK(!gan_data_class_name(d, 4) && !gan_data_class_name(d, -1), "more classes");

    char slash[512];
    snprintf(slash, sizeof slash, "%s/", at("set/a"));
    d = gan_data_folder(g, slash, 1, 2, 2); /* "deeper" is a sub-folder, so it is the class */
    CHECK(d && gan_data_size(d) == 1 && grey_at(d, 0, &label) == 97 && label == 0, "%s",
          gan_error());
    CHECK(strcmp(gan_data_class_name(d, 0), "deeper") == 0, "the class is called %s",
          gan_data_class_name(d, 0));
    d = gan_data_folder(g, at("set/b"), 3, 5, 4); /* no sub-folder: no labels; enlarged and cut */
    CHECK(d && gan_data_size(d) == 1 && grey_at(d, 0, &label) == 60 && label == -1 &&
              !gan_data_class_name(d, 0),
          "%s", gan_error());
    gan_tensor *b = gan_batch(d, 2, NULL);
    CHECK(b->n == 2 && b->c == 3 && b->h == 5 && b->w == 4, "a batch of (%d,%d,%d,%d)", b->n, b->c,
          b->h, b->w);
    gan_close(g);
    clean();
}

static void big(unsigned char *to, uint32_t x)
{
    for (int i = 0; i < 4; i++)
        to[i] = (unsigned char)(x >> (24 - 8 * i));
}

/* A PNG of 16 bits, which stb does not write: 4x4 grey, whose high bytes are 16*k and whose low
   bytes are noise. */
static void png16(const char *name)
{
    unsigned char raw[4 * 9];
    unsigned char chunk[256] = {137, 'P', 'N', 'G', 13, 10, 26, 10};
    unsigned char *p = chunk + 8;
    int length;
    for (int i = 0; i < 36; i++)
        raw[i] = (unsigned char)(i % 9 == 0  ? 0
                                 : i % 9 % 2 ? 16 * (i / 9 * 4 + i % 9 / 2)
                                             : 77 * i);
    unsigned char *packed = stbi_zlib_compress(raw, sizeof raw, &length, 8);
    big(p, 13);
    memcpy(p + 4, "IHDR\0\0\0\4\0\0\0\4\20\0\0\0\0", 17);
    big(p + 21, crc32(p + 4, 17));
    p += 25;
    big(p, (uint32_t)length);
    memcpy(p + 4, "IDAT", 4);
    memcpy(p + 8, packed, (size_t)length);
    big(p + 8 + length, crc32(p + 4, length + 4));
    p += 12 + length;
    big(p, 0);
    memcpy(p + 4, "IEND", 4);
    big(p + 8, crc32(p + 4, 4));
    p += 12;
    free(packed);
    file(name, chunk, (size_t)(p - chunk));
}

static void channels(void)
{
    unsigned char x[4 * 16];
    gan_real y[48];
    for (int i = 0; i < 64; i++)
        x[i] = (unsigned char)(37 * i + i * i);
    folder("c");
    png("c/1.png", 4, 4, 1, x);
    png("c/2.png", 4, 4, 2, x);
    png("c/3.png", 4, 4, 3, x);
    png("c/4.png", 4, 4, 4, x);
    png16("c/5.png");
    gan *g = gan_open("cpu", 1);
    for (int c = 1; c <= 3; c += 2) {
        gan_data *d = gan_data_folder(g, at("c"), c, 4, 4);
        CHECK(d && gan_data_size(d) == 5, "%s", gan_error());
        for (int i = 0; i < 5; i++) {
            gan_data_item(d, i, y, NULL);
            for (int k = 0; k < 16 * c; k++) {
                int n = i < 4 ? i + 1 : 1, pixel = k % 16;
                const unsigned char *p = x + pixel * n;
                double want = i == 4 ? 16 * pixel
                            : n < 3  ? p[0]
                            : c == 3 ? p[k / 16]
                                     : (299 * p[0] + 587 * p[1] + 114 * p[2]) / 1000.0;
                if (n % 2 == 0)
                    want = (want * p[n - 1] + 255.0 * (255 - p[n - 1])) / 255;
                CHECK(fabs(byte_of(y[k]) - want) <= 0.501,
                      "%d channels, file %d, number %d: %g, %g is right", c, i + 1, k,
                      byte_of(y[k]), want); /* bytes */
            }
        }
    }
    gan_close(g);
    clean();
}

/* The triangle filter in two dimensions at once, over every pixel of the picture. */
static double slow_resize(const unsigned char *x, int height, int width, int h, int w, int i, int j)
{
    double scale = (double)height / h < (double)width / w ? (double)height / h : (double)width / w;
    double reach = scale > 1 ? scale : 1;
    double sum = 0;
    double weights = 0;
    double y0 = height / 2.0 + (i + 0.5 - h / 2.0) * scale;
    double x0 = width / 2.0 + (j + 0.5 - w / 2.0) * scale;
    for (int r = 0; r < height; r++)
        for (int c = 0; c < width; c++) {
            double u = fabs(r + 0.5 - y0) / reach;
            double v = fabs(c + 0.5 - x0) / reach;
            double weight = u < 1 && v < 1 ? (1 - u) * (1 - v) : 0;
            sum += weight * x[r * width + c];
            weights += weight;
        }
    return sum / weights;
}

static void resize(void)
{
    static const int sizes[][4] = {{4, 4, 2, 2}, {23, 17, 9, 5}, {17, 23, 9, 5},
                                   {3, 3, 5, 5}, {2, 9, 7, 4},   {40, 40, 3, 3},
                                   {1, 1, 4, 6}, {31, 8, 8, 31}, {50, 7, 1, 1}};
    static unsigned char x[3 * 300 * 60];
    static gan_real y[4096];
    gan *g = gan_open("cpu", 1);
    folder("r");
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        int height = sizes[k][0];
        int width = sizes[k][1];
        int h = sizes[k][2];
        int w = sizes[k][3];
        for (int i = 0; i < height * width; i++)
            x[i] = (unsigned char)((i * 2654435761u) >> 13);
        png("r/x.png", width, height, 1, x);
        gan_data *d = gan_data_folder(g, at("r"), 1, h, w);
        CHECK(d, "%s", gan_error());
        gan_data_item(d, 0, y, NULL);
        for (int i = 0; i < h * w; i++) /* 0.51: the result is a byte, and sums are in float */
            CHECK(fabs(byte_of(y[i]) - slow_resize(x, height, width, h, w, i / w, i % w)) <= 0.51,
                  "%dx%d to %dx%d, pixel %d: %g, %g is right", height, width, h, w, i,
                  byte_of(y[i]), slow_resize(x, height, width, h, w, i / w, i % w));
    }
    for (int i = 0; i < 16; i++)
        x[i] = (unsigned char)(i % 4 == 0   ? 200
                               : i % 4 == 1 ? 60
                               : i % 4 == 2 ? 130
                                            : 4); /* four columns */
    png("r/x.png", 4, 4, 1, x);
    gan_data_item(gan_data_folder(g, at("r"), 1, 2, 2), 0, y,
                  NULL); /* by hand: (3a+3b+c)/7 = 130, (b+3c+3d)/7 = 66: weights 3/4, 3/4, 1/4 */
    for (int i = 0; i < 4; i++)
        CHECK(fabs(byte_of(y[i]) - (i % 2 ? 66 : 130)) <= 1e-3, "pixel %d is %g", i, byte_of(y[i]));

    for (int i = 0; i < 56 * 56; i++)
        x[i] = (unsigned char)((i / 56 + i) % 2 *
                               255); /* a chequerboard of pixels, 7 times smaller */
    png("r/x.png", 56, 56, 1, x);
    gan_data_item(gan_data_folder(g, at("r"), 1, 8, 8), 0, y, NULL);
    for (int i = 0; i < 64; i++)
        CHECK(fabs(byte_of(y[i]) - 127.5) <= 3, "the chequerboard is %g at %d", byte_of(y[i]),
              i); /* picking pixels gives 0 and 255 */

    for (int turn = 0; turn < 2; turn++) { /* 300x2: red, green, blue thirds; the middle is green */
        for (int i = 0; i < 600; i++)
            for (int c = 0; c < 3; c++)
                x[3 * i + c] = (unsigned char)((turn ? i / 2 : i % 300) / 100 == c ? 255 : 0);
        png("r/x.png", turn ? 2 : 300, turn ? 300 : 2, 3, x);
        gan_data_item(gan_data_folder(g, at("r"), 3, 8, 8), 0, y, NULL);
        for (int i = 0; i < 192; i++)
            CHECK(fabs(byte_of(y[i]) - (i / 64 == 1 ? 255 : 0)) <= 1e-3, "%s: number %d is %g",
                  turn ? "tall" : "wide", i, byte_of(y[i]));
    }
    gan_close(g);
    clean();
}

/* Writes a PNG whose header is fine and whose pixels are cut off. */
static void truncated(const char *name)
{
    unsigned char x[64 * 64], whole[8192];
    for (int i = 0; i < 64 * 64; i++)
        x[i] = (unsigned char)((i * 2654435761u) >> 11);
    png(name, 64, 64, 1, x);
    FILE *f = fopen(at(name), "rb");
    size_t size = f ? fread(whole, 1, sizeof whole, f) : 0;
    if (f)
        fclose(f);
    file(name, whole, size / 2);
}

static void broken(void)
{
    int label;
    folder("b");
    folder("b/0");
    folder("b/1");
    truncated("b/0/1.png");
    plain("b/0/2.png", 20);
    file("b/0/3.png", "", 0);
    truncated("b/0/4.png");
    plain("b/1/5.png", 50);
    file("b/1/6.jpg", "no picture", 10);
    truncated("b/1/7.png");
    gan *g = gan_open("cpu", 1);
    hear();
    gan_data *d = gan_data_folder(g, at("b"), 1, 2, 2);
    heard();
    CHECK(d && gan_data_size(d) == 5, "%d pictures: %s", d ? gan_data_size(d) : 0, gan_error());
    CHECK(times("b/0/3.png") == 1 && times("b/1/6.jpg") == 1 && times("b/0/1.png") == 1 &&
              times("\n") == 3,
          "complaints: %s", text);
    CHECK(gan_data_skipped(d) == 3, "%d skipped",
          gan_data_skipped(d)); /* two without a header, and the first, which was tried */
    static const int greys[5] = {20, 20, 50, 50, 20};
    static const int labels[5] = {
        0, 0, 1, 1, 0}; /* the next good one, its class with it; after the last the first */
    hear();
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 5; i++) {
            int grey = grey_at(d, i, &label);
            CHECK(grey == greys[i] && label == labels[i], "picture %d is of grey %d, class %d", i,
                  grey, label);
        }
    heard();
    CHECK(times("b/0/4.png") == 1 && times("b/1/7.png") == 1 && times("\n") == 2, "complaints: %s",
          text);
    CHECK(gan_data_skipped(d) == 5, "%d skipped", gan_data_skipped(d));

    hear(); /* a batch, with its thread, says the same */
    gan *h = gan_open("cpu", 2);
    gan_data *e = gan_data_folder(h, at("b"), 1, 2, 2);
    gan_real x[40], y[10];
    gan_tensor *classes, *b = gan_batch(e, 10, &classes);
    gan_to_host(b, x);
    gan_to_host(classes, y);
    heard();
    int twenty = 0;
    for (int i = 0; i < 10; i++)
        twenty += lround(byte_of(x[4 * i])) == 20 && y[i] == 0;
    CHECK(twenty == 6 && gan_data_skipped(e) == 5 && times("\n") == 5,
          "%d of 10, %d skipped, complaints: %s", twenty, gan_data_skipped(e), text);
    gan_close(h);

    hear();
    folder("all");
    truncated("all/1.png");
    truncated("all/2.png");
    file("all/3.png", "x", 1);
    CHECK(!gan_data_folder(g, at("all"), 1, 2, 2), "a folder of broken pictures opens");
    heard();
    CHECK(strstr(gan_error(), "all") && strstr(gan_error(), "no picture"), "message: %s",
          gan_error());
    CHECK(times("all/") == 3, "complaints: %s", text);
    folder("none");
    file("none/notes.txt", "hello", 5);
    CHECK(!gan_data_folder(g, at("none"), 1, 2, 2) && strstr(gan_error(), "none: no picture"),
          "message: %s", gan_error());
    CHECK(!gan_data_folder(g, at("nowhere"), 1, 2, 2) && strstr(gan_error(), "nowhere: "),
          "message: %s", gan_error());
    CHECK(!gan_data_folder(g, at("none/notes.txt"), 1, 2, 2) && strstr(gan_error(), "notes.txt"),
          "message: %s", gan_error());
    folder("sub");
    folder("sub/a");
    folder("sub/b");
    file("sub/b/notes.txt", "hello", 5);
    CHECK(!gan_data_folder(g, at("sub"), 1, 2, 2) && strstr(gan_error(), "sub: no picture"),
          "message: %s", gan_error());
    CHECK(gan_save_state(g, note(at("s.state")), 0), "%s",
          gan_error()); /* what did not open leaves nothing behind */
    gan_close(g);
    clean();
}

/* What is called a picture and is none: of no width, of a format that is not read, a pipe. */
static void not_pictures(void)
{
    folder("strange");
    file("strange/flat.pgm", "P5 0 3 255\n123", 14);
    file("strange/photoshop.png", "8BPS\0\1\0\0\0\0\0\0\0\3\0\0\0\2\0\0\0\2\0\10\0\3", 26);
    file("strange/radiance.jpg", "#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 1 +X 1\n1234", 49);
    int complaints = 3;
#ifndef _WIN32
    CHECK(mkfifo(at("strange/pipe.png"), 0600) == 0, "cannot make a pipe");
    note(at("strange/pipe.png"));
    complaints++;
#endif
    file("strange/short.pgm", "P5 115 1121214", 14); /* begins well, and holds no pixel */
    plain("strange/real.png", 40);
    gan *g = gan_open("cpu", 1);
    hear();
    gan_data *d = gan_data_folder(g, at("strange"), 1, 2, 2);
    heard();
    CHECK(d && gan_data_size(d) == 2 && gan_data_skipped(d) == complaints,
          "%d pictures, %d left out", d ? gan_data_size(d) : 0, d ? gan_data_skipped(d) : 0);
    CHECK(times("left out") == complaints, "complaints: %s", text);
    hear();
    CHECK(grey_at(d, 0, NULL) == 40 && grey_at(d, 1, NULL) == 40, "another picture");
    heard();
    CHECK(times("broken") == 1, "complaints: %s", text);
    gan_close(g);
    clean();
}

static void two_channels(void *g)
{
    gan_data_folder((gan *)g, root, 2, 8, 8);
}

static void folder_mistakes(void)
{
    gan *g = gan_open("cpu", 1);
    const char *message = message_of(two_channels, g);
    CHECK(strstr(message, "gan_data_folder") && strstr(message, "(2,8,8)"), "message: %s", message);
    gan_close(g);
}

static void paired_folders(void)
{
    char name[64];
    int label;
    folder("A");
    folder("B");
    folder("C");
    for (int i = 0; i < 6; i++) {
        snprintf(name, sizeof name, "A/%d.png", i);
        plain(name, 10 * i);
        snprintf(name, sizeof name, "B/%d.png", i);
        plain(name, 100 + 10 * i);
        snprintf(name, sizeof name, "C/%d.png", i);
        plain(name, 1);
    }
    truncated("A/1.png");
    truncated("B/2.png");
    truncated("B/5.png");
    file("C/3.png", "x", 1);
    gan *g = gan_open("cpu", 1);
    hear();
    gan_data *a = gan_data_folder(g, at("A"), 1, 2, 2);
    gan_data *b = gan_data_folder(g, at("B"), 3, 2, 2);
    gan_data *p = gan_data_pair(g, a, b);
    gan_data *c;
    static const int real[6] = {0, 3, 3,
                                3, 4, 0}; /* 1 lacks its left half, 2 and 5 their right ones */
    for (int i = 0; i < 6 && p; i++) {
        gan_real x[16];
        gan_data_item(p, i, x, &label);
        CHECK(lround(byte_of(x[0])) == 10 * real[i] &&
                  lround(byte_of(x[4])) == 100 + 10 * real[i] && label == -1,
              "pair %d is %g, %g", i, byte_of(x[0]), byte_of(x[4]));
    }
    for (int i = 0; i < 5 && p; i++) {
        gan_tensor *x = gan_batch(p, 4, NULL);
        gan_tensor *left = gan_slice(x, 1, 0, 1);
        gan_tensor *right = gan_slice(x, 1, 1, 3);
        for (int k = 0; k < 4; k++)
            CHECK(lround(byte_of(left->data[4 * k])) + 100 == lround(byte_of(right->data[12 * k])),
                  "batch %d: %g is beside %g", i, byte_of(left->data[4 * k]),
                  byte_of(right->data[12 * k]));
    }
    c = gan_data_folder(g, at("C"), 1, 2, 2);
    heard();
    CHECK(p && gan_data_skipped(p) == 3 && times("\n") == 4, "%d skipped; %s",
          p ? gan_data_skipped(p) : -1, text);
    CHECK(c && gan_data_size(c) == 5, "C has %d", c ? gan_data_size(c) : 0);
    CHECK(!gan_data_pair(g, a, c) && strstr(gan_error(), "6 images") &&
              strstr(gan_error(), "5 images"),
          "message: %s", gan_error());
    CHECK(!gan_data_pair(g, c, c) && strstr(gan_error(), "1 files left out"), "message: %s",
          gan_error());
    gan_close(g);
    clean();
}

/* Batches that a thread decodes ahead are those that gan_data_item decodes one by one, in the
   order of a set in memory; and a training that was stopped goes on with the same ones. The same
   program built with GAN_NO_THREADS answers for the other half. */
enum { MANY = 60, SMALL = 16 };

static gan_real one_by_one[MANY][SMALL * SMALL], drawn[7 * SMALL * SMALL];

static void thread_and_resume(void)
{
    static unsigned char x[40 * 50],
        images[16 + MANY] = {0, 0, 8, 3, 0, 0, 0, MANY, 0, 0, 0, 1, 0, 0, 0, 1};
    char name[64];
    gan_real order[7];
    folder("many");
    for (int i = 0; i < MANY; i++) {
        for (int k = 0; k < 40 * 50; k++)
            x[k] = (unsigned char)(i + 3 * k + k * k * (i + 1) / 64);
        snprintf(name, sizeof name, "many/%02d.png", i);
        if (i == 17 || i == 18)
            truncated(name);
        else
            png(name, 40 + i % 11, 40, 1, x);
        images[16 + i] = (unsigned char)i;
    }
    hear();
    gan *g = gan_open("cpu", 1);
    gan_data *d = gan_data_folder(g, at("many"), 1, SMALL, SMALL);
    for (int i = MANY - 1; i >= 0 && d; i--)
        gan_data_item(d, i, one_by_one[i], NULL);
    gan_close(g);
    heard();
    CHECK(d && times("\n") == 2, "%s; complaints: %s", gan_error(), text);

    hear();
    file("order", images, sizeof images);
    g = gan_open("cpu", 21);
    d = gan_data_folder(g, at("many"), 1, SMALL, SMALL);
    gan *h = gan_open("cpu", 21);
    gan_data *in_memory = gan_data_idx(h, at("order"), NULL);
    for (int step = 0; step < 26; step++) { /* three epochs */
        gan_to_host(gan_batch(d, 7, NULL), drawn);
        gan_to_host(gan_batch(in_memory, 7, NULL), order);
        for (int k = 0; k < 7; k++)
            CHECK(memcmp(drawn + k * SMALL * SMALL, one_by_one[lround(byte_of(order[k]))],
                         sizeof one_by_one[0]) == 0,
                  "step %d, image %d differs", step, k);
        if (step != 3 && step != 8)
            continue;
        CHECK(gan_save_state(g, note(at("many.state")), step), "%s",
              gan_error()); /* step 3: in the first epoch; 8: at the turn */
        gan_close(g);
        g = gan_open("cpu", 21);
        d = gan_data_folder(g, at("many"), 1, SMALL, SMALL);
        CHECK(d && gan_load_state(g, at("many.state"), NULL), "%s", gan_error());
    }
    CHECK(gan_load_state(g, at("many.state"), NULL), "%s",
          gan_error()); /* back, while the thread is at work or done */
    gan_to_host(gan_batch(d, 7, NULL), drawn);
    gan_close(g);
    for (int i = 0; i < 20; i++) { /* closed while it works */
        g = gan_open("cpu", (uint64_t)i);
        d = gan_data_folder(g, at("many"), 3, 64, 64);
        for (int k = 0; k < i % 4; k++)
            gan_batch(d, 1, NULL);
        gan_close(g);
    }
    gan_close(h);
    heard();
    clean();
}
#endif

int main(int argc, char **argv)
{
    snprintf(root, sizeof root, "%s.tmp", argc > 0 ? argv[0] : "folders");
    folder("");
    run("cifar10: records, joined files, .gz, messages", cifar);
    run("shapes: areas and outlines of the four, the same in every style", shapes);
    run("data: mistakes are named", mistakes);
    run("data: NULL", nulls);
    run("pair: two sets item by item", pairs);
    run("pool: fills, then swaps half of the time", pool);
    run("pool: a resumed training gets the same images", pool_resumes);
    run("pool: mistakes are named", pool_mistakes);
#ifdef HAVE_STB
    run("folder: classes, names and their order", classes);
    run("folder: grey, colour, transparent, 16 bits", channels);
    run("folder: resized and cut", resize);
    run("folder: broken files", broken);
    run("folder: what is no picture", not_pictures);
    run("folder: mistakes are named", folder_mistakes);
    run("folder: two of them as pairs", paired_folders);
    run("folder: decoded ahead or not, resumed or not, the same batches", thread_and_resume);
#else
    printf("skip folders of pictures (stb is not here)\n");
#endif
    remove(made[0]);
    return finish();
}
