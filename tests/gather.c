/* tests/gather.c: numbers taken and added up by index: the header's four pictures, on ref and cpu;
   the two as adjoints along each dimension; what bad indices and labels are told.

       cc -O2 tests/gather.c -o gather -lm && ./gather */

#include "test.h"

static const char *device;
static gan *g;

/* (1,1,H,W) of digits in a string, one number each; '-' for -1. */
static gan_tensor *rows(int h, int w, const char *digits)
{
    gan_real values[16];
    for (int i = 0; i < h * w; i++)
        values[i] = (gan_real)(digits[i] == '-' ? -1 : digits[i] - '0');
    return gan_from_host(g, values, 1, 1, h, w);
}

/* (K,1,1,1) */
static gan_tensor *list(int k, const char *digits)
{
    return gan_reshape(rows(1, k, digits), k, 1, 1, 1);
}

static bool holds(gan_tensor *t, int h, int w, const char *digits)
{
    gan_real got[16], want[16];
    if (t->n != 1 || t->c != 1 || t->h != h || t->w != w)
        return false;
    gan_to_host(t, got);
    gan_to_host(rows(h, w, digits), want);
    return !memcmp(got, want, (size_t)h * w * sizeof *got);
}

/* a b c / d e f of the header's pictures are 1 2 3 / 4 5 6. */
static void test_pictures(void)
{
    g = gan_open(device, 1);
    gan_tensor *x = rows(2, 3, "123456");
    CHECK(holds(gan_gather(x, list(2, "20"), 3), 2, 2, "3164"), "gan_gather, list");
    CHECK(holds(gan_gather(x, rows(2, 2, "2011"), 3), 2, 2, "3155"), "gan_gather, each");
    CHECK(holds(gan_scatter_add(rows(2, 2, "3164"), list(2, "20"), 3, 3), 2, 3, "103406"),
          "gan_scatter_add, list");
    CHECK(holds(gan_scatter_add(rows(2, 2, "3145"), rows(2, 2, "2011"), 3, 3), 2, 3, "103090"),
          "gan_scatter_add, each");
    gan_close(g);
}

/* Along rows: several numbers to each index of a list. */
static void test_slices(void)
{
    g = gan_open(device, 1);
    gan_tensor *x = rows(2, 3, "123456");
    CHECK(holds(gan_gather(x, list(3, "101"), 2), 3, 3, "456123456"), "gan_gather, list");
    CHECK(holds(gan_gather(x, rows(1, 3, "101"), 2), 1, 3, "426"), "gan_gather, each");
    CHECK(holds(gan_scatter_add(x, list(2, "11"), 2, 3), 3, 3, "000579000"),
          "gan_scatter_add, list");
    CHECK(holds(gan_scatter_add(x, rows(2, 3, "100101"), 2, 2), 2, 3, "073506"),
          "gan_scatter_add, each");
    gan_close(g);
}

/* The inner product of gather(x) and y is that of x and scatter(y), along each dimension and in
   both layouts: sums of up to 600 terms of size 1. 1e-4 is three roundings of 6e-8 in each. */
static void test_adjoint(void)
{
    static const int shape[4] = {3, 4, 5, 6};
    g = gan_open(device, 1);
    for (int dim = 0; dim < 4; dim++)
        for (int each = 0; each < 2; each++) {
            int size[4] = {3, 4, 5, 6};
            gan_real places[600];
            size[dim] = shape[dim] + 2;
            int count = each ? size[0] * size[1] * size[2] * size[3] : size[dim];
            for (int i = 0; i < count; i++)
                places[i] = (gan_real)((i * 7 + i / 5) % shape[dim]);
            gan_tensor *index = each ? gan_from_host(g, places, size[0], size[1], size[2], size[3])
                                     : gan_from_host(g, places, count, 1, 1, 1);
            gan_tensor *x = gan_randn(g, 3, 4, 5, 6);
            gan_tensor *taken = gan_gather(x, index, dim);
            gan_tensor *y = gan_randn(g, taken->n, taken->c, taken->h, taken->w);
            gan_tensor *added = gan_scatter_add(y, index, dim, shape[dim]);
            double a = (double)gan_item(gan_sum(gan_mul(taken, y)));
            double b = (double)gan_item(gan_sum(gan_mul(x, added)));
            CHECK(fabs(a - b) <= 1e-4, "dimension %d, %s: %g and %g", dim, each ? "each" : "list",
                  a, b);
            CHECK(fabs(a) > 1e-2, "dimension %d: nothing is compared", dim);
        }
    gan_close(g);
}

static void test_one_hot(void)
{
    gan_real got[9];
    static const gan_real want[9] = {0, 0, 1, 1, 0, 0, 0, 1, 0};
    g = gan_open(device, 1);
    gan_to_host(gan_one_hot(list(3, "201"), 3), got);
    CHECK(!memcmp(got, want, sizeof want), "other numbers");
    gan_close(g);
}

/* ---- bad indices and labels */

typedef struct {
    gan_real value;
    const char *says;
} bad;

static const bad bad_numbers[] = {
    {3, "there are 3"},
    {-1, "there are 3"},
    {(gan_real)2.999, "whole number"},
    {(gan_real)0.5, "whole number"},
    {(gan_real)-0.5, "there are 3"},
    {1000000, "there are 3"},
};

static void label(void *arg)
{
    gan_real labels[4] = {0, 1, 2, 0};
    labels[3] = *(gan_real *)arg;
    gan_one_hot(gan_from_host(g, labels, 4, 1, 1, 1), 3);
}

static void class_of_pixel(void *arg)
{
    gan_real labels[4] = {0, 1, 2, 0};
    labels[3] = *(gan_real *)arg;
    gan_cross_entropy(gan_zeros(g, 1, 3, 2, 2), gan_from_host(g, labels, 1, 1, 2, 2));
}

static void taken(void *arg)
{
    gan_real places[4] = {0, 1, 2, 0};
    places[3] = *(gan_real *)arg;
    gan_gather(gan_zeros(g, 2, 3, 1, 1), gan_from_host(g, places, 4, 1, 1, 1), 1);
}

static void added(void *arg)
{
    gan_real places[4] = {0, 1, 2, 0};
    places[3] = *(gan_real *)arg;
    gan_scatter_add(gan_zeros(g, 1, 4, 1, 1), gan_from_host(g, places, 1, 4, 1, 1), 1, 3);
}

static void check_refused(void (*make)(void *), const char *begins)
{
    gan_real nan_ = (gan_real)fabs((double)NAN);
    g = gan_open(device, 1);
    for (size_t i = 0; i <= sizeof bad_numbers / sizeof *bad_numbers; i++) {
        bool last = i == sizeof bad_numbers / sizeof *bad_numbers;
        gan_real value = last ? nan_ : bad_numbers[i].value;
        const char *message = message_of(make, &value);
        CHECK(!strncmp(message, begins, strlen(begins)), "%g: the message is \"%s\"", (double)value,
              message);
        CHECK(strstr(message, "at place 3") && strstr(message, last ? "" : bad_numbers[i].says) &&
                  !strchr(message, '\n'),
              "%g: the message is \"%s\"", (double)value, message);
    }
    gan_real right = 2;
    CHECK(!*message_of(make, &right), "2 is refused: %s", test_message);
    gan_close(g);
}

static void test_labels(void)
{
    check_refused(label, "gan_one_hot: label");
}

static void test_classes(void)
{
    check_refused(class_of_pixel, "gan_");
}

static void test_gather_index(void)
{
    check_refused(taken, "gan_gather: index");
}

static void test_scatter_index(void)
{
    check_refused(added, "gan_scatter_add: index");
}

/* In a plan there are no numbers to look at. */
static void one_hot_step(gan *planned, void *user)
{
    gan_tensor *labels = gan_rand(planned, 4, 1, 1, 1);
    (void)user;
    gan_gather(gan_one_hot(labels, 3), labels, 0);
}

static void plan(void *arg)
{
    (void)arg;
    gan_plan(g, one_hot_step, NULL);
}

static void test_plan(void)
{
    g = gan_open(device, 1);
    CHECK(!*message_of(plan, NULL), "a plan looks at labels: %s", test_message);
    gan_close(g);
}

int main(void)
{
    static const char *const devices[] = {"ref", "cpu", "compare:ref,cpu"};
    for (int i = 0; i < 3; i++) {
        device = devices[i];
        printf("on %s:\n", device);
        run("the header's pictures", test_pictures);
        run("slices along rows", test_slices);
        run("adjoints of each other", test_adjoint);
        run("one_hot", test_one_hot);
        run("labels that are no class", test_labels);
        run("labels of gan_cross_entropy", test_classes);
        run("indices of gan_gather", test_gather_index);
        run("indices of gan_scatter_add", test_scatter_index);
        run("a plan", test_plan);
    }
    return finish();
}
