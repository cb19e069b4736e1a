/* tests/fuzz/readers.c: files from strangers. Whatever the bytes, a reader crashes on none, leaks
   nothing, leaves what was held as it was when it refuses them, names the file when it does, and
   what it takes can be saved and loads again to the same bytes.

       readers READER FILE ...     runs a reader on files (a corpus, or an input that was found)
       readers seeds FOLDER        writes FOLDER/READER/..., small valid files to begin with

   Compiled with -DFUZZ by clang -fsanitize=fuzzer it is libFuzzer's program instead, which makes
   inputs of its own; the environment's READER says for which reader (make fuzz). */
#define _XOPEN_SOURCE 700
#include <sys/stat.h>
#include <unistd.h>
#include "../test.h"

/* A fault: libFuzzer keeps the input, and the plain program ends. */
#define WANT(condition, ...)              \
    do {                                  \
        if (!(condition)) {               \
            fprintf(stderr, __VA_ARGS__); \
            fprintf(stderr, "\n");        \
            abort();                      \
        }                                 \
    } while (0)

static char folder[256], input[512], output[512], again[512];

static void write_file(const char *name, const void *data, size_t size)
{
    FILE *f = fopen(name, "wb");
    WANT(f && fwrite(data, 1, size, f) == size && fclose(f) == 0, "cannot write %s", name);
}

/* Is a file b's bytes? */
static bool same_files(const char *a, const char *b)
{
    bool same = true;
    FILE *x = fopen(a, "rb"), *y = fopen(b, "rb");
    WANT(x && y, "%s or %s is not there", a, b);
    for (int c = 0; same && c != EOF;) {
        c = fgetc(x);
        same = c == fgetc(y);
    }
    fclose(x);
    fclose(y);
    return same;
}

static void named(const char *reader)
{
    WANT(strstr(gan_error(), input), "%s: the error does not name the file: %s", reader,
         gan_error());
}

static gan *g;

static gan *open_device(void)
{
    gan *device = gan_open("ref", 1);
    WANT(device, "%s", gan_error());
    return device;
}

/* ---- gan_load */
static void read_empty(const uint8_t *data, size_t size)
{
    write_file(input, data, size);
    g = open_device();
    gan_model *m = gan_model_new(g, "m");
    gan_model *n = gan_model_new(g, "n");
    if (gan_load(m, input)) {
        WANT(gan_save(m, output), "what loads cannot be saved: %s", gan_error());
        WANT(gan_load(n, output) && gan_save(n, again), "and not loaded again: %s", gan_error());
        WANT(same_files(output, again), "other bytes come back");
    } else {
        named("gan_load");
        WANT(!gan_param_name(m, 0), "a refused file left a parameter");
    }
    gan_close(g);
}

static gan_model *small_net(gan *device)
{
    gan_model *m = gan_model_new(device, "m");
    gan_batch_norm(m, "bn", gan_linear(m, "fc", gan_full(device, 1, 2, 3, 1, 1), 2));
    return m;
}

static void read_filled(const uint8_t *data, size_t size)
{
    write_file(input, data, size);
    g = open_device();
    gan_model *m = small_net(g);
    WANT(gan_save(m, output), "%s", gan_error());
    bool loaded = gan_load(m, input);
    WANT(gan_save(m, again), "%s", gan_error());
    if (!loaded) {
        named("gan_load");
        WANT(same_files(output, again), "a refused file changed the model");
    }
    gan_close(g);
}

/* ---- gan_load_state, then a step of training with what was loaded */
static gan_opt *adam, *rmsprop;
static gan_model *model, *other;
static gan_data *digits;

static void begin_training(void)
{
    g = open_device();
    model = gan_model_new(g, "G");
    other = gan_model_new(g, "D");
    adam = gan_adam(model, (gan_real)0.01, (gan_real)0.5, (gan_real)0.9);
    rmsprop = gan_rmsprop(other, (gan_real)0.01, (gan_real)0.9);
    digits = gan_data_digits(g, 3);
}

static void train_step(void)
{
    gan_tensor *x = gan_resize(gan_batch(digits, 2, NULL), 2, 2, GAN_NEAREST);
    gan_tensor *y = gan_linear(model, "fc", gan_reshape(x, 2, 4, 1, 1), 2);
    gan_tensor *z = gan_image_pool(other, "pool", gan_detach(y), 2);
    gan_ada(other, z, (gan_real)0.6, 10);
    gan_minimize(adam, gan_mean(gan_square(y)));
    gan_minimize(rmsprop, gan_mean(gan_square(gan_linear(other, "fc", z, 1))));
    gan_clear(g);
}

static void read_state(const uint8_t *data, size_t size)
{
    int step = -1;
    write_file(input, data, size);
    begin_training();
    if (size % 2) /* into a training that has begun, or one that has not */
        train_step();
    WANT(gan_save_state(g, output, 1), "%s", gan_error());
    if (gan_load_state(g, input, &step)) {
        WANT(step >= 0, "step %d", step);
        WANT(gan_save_state(g, output, step), "%s", gan_error());
        WANT(gan_load_state(g, output, &step) && gan_save_state(g, again, step), "%s", gan_error());
        WANT(same_files(output, again), "other bytes come back");
    } else {
        named("gan_load_state");
        WANT(step == -1, "a refused file left a step");
        WANT(gan_save_state(g, again, 1), "%s", gan_error());
        WANT(same_files(output, again), "a refused file changed the training");
    }
    gan_close(g);
}

/* ---- data: IDX plain and packed, CIFAR-10, a folder of one picture */
static void use_data(gan_data *data)
{
    gan_tensor *x = data ? gan_batch(data, 1, NULL) : NULL;
    if (!data)
        named("the data");
    else
        WANT(x->n == 1 && gan_data_size(data) > 0, "a batch of (%d,%d,%d,%d)", x->n, x->c, x->h,
             x->w);
}

static void read_idx(const uint8_t *data, size_t size)
{
    write_file(input, data, size);
    g = open_device();
    use_data(gan_data_idx(g, input, NULL));
    gan_close(g);
}

static void read_labels(const uint8_t *data, size_t size)
{
    static const unsigned char images[18] = {0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 7, 9};
    write_file(output, images, sizeof images);
    write_file(input, data, size);
    g = open_device();
    use_data(gan_data_idx(g, output, input));
    gan_close(g);
}

static void read_cifar(const uint8_t *data, size_t size)
{
    const char *paths[2];
    paths[0] = paths[1] = input;
    write_file(input, data, size);
    g = open_device();
    use_data(gan_data_cifar10(g, paths, 1 + (int)(size % 2)));
    gan_close(g);
}

#ifdef HAVE_STB
static void read_folder(const uint8_t *data, size_t size)
{
    char sub[400], picture[512];
    snprintf(sub, sizeof sub, "%s/pictures", folder);
    snprintf(picture, sizeof picture, "%s/a.%s", sub, size % 2 ? "png" : "tga");
    mkdir(sub, 0700);
    write_file(picture, data, size);
    g = open_device();
    gan_data *set = gan_data_folder(g, sub, size % 3 ? 3 : 1, 3, 2);
    if (set)
        gan_batch(set, 2, NULL);
    else
        WANT(strstr(gan_error(), sub), "the error does not name the folder: %s", gan_error());
    gan_close(g);
    remove(picture);
}
#endif

/* ---- the CSV that a resumed training goes on with */
static void read_csv(const uint8_t *data, size_t size)
{
    write_file(input, data, size);
    g = open_device();
    gan_progress *log = gan_progress_open(g, input, "D", 3, 10, 1);
    WANT(log, "%s", gan_error());
    gan_progress_close(log);
    rename(input, output);
    FILE *f = fopen(output, "rb");
    char line[8] = {0};
    WANT(f && fgets(line, sizeof line, f) && strcmp(line, "step,D\n") == 0, "no header: %s", line);
    fclose(f);
    gan_close(g);
}

/* ---- the names of devices */
static void read_device(const uint8_t *data, size_t size)
{
    char *name = (char *)malloc(size + 1);
    if (size)
        memcpy(name, data, size);
    name[size] = 0;
    gan *device = gan_open(name, 1);
    WANT(device || gan_error()[0], "no text for \"%s\"", name);
    gan_close(device);
    free(name);
}

static const struct {
    const char *name;
    void (*read)(const uint8_t *data, size_t size);
} readers[] = {
    {"empty", read_empty},   {"filled", read_filled}, {"state", read_state},
    {"idx", read_idx},       {"labels", read_labels}, {"cifar", read_cifar},
#ifdef HAVE_STB
    {"folder", read_folder},
#endif
    {"csv", read_csv},       {"device", read_device},
};

enum { READERS = sizeof readers / sizeof *readers };

static void remove_folder(void)
{
    char sub[400];
    snprintf(sub, sizeof sub, "%s/pictures", folder);
    remove(input);
    remove(output);
    remove(again);
    remove(sub);
    remove(folder);
}

static void make_folder(void)
{
    const char *where = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%.200s/gan-fuzz-XXXXXX", where ? where : "/tmp");
    WANT(mkdtemp(folder), "cannot make a folder in %s", where ? where : "/tmp");
    snprintf(input, sizeof input, "%s/input", folder);
    snprintf(output, sizeof output, "%s/output", folder);
    snprintf(again, sizeof again, "%s/again", folder);
    atexit(remove_folder);
}

static int find_reader(const char *name)
{
    int i = 0;
    while (i < READERS && strcmp(readers[i].name, name ? name : "") != 0)
        i++;
    return i;
}

#ifdef FUZZ
static int chosen;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    chosen = find_reader(getenv("READER"));
    WANT(chosen < READERS, "READER=NAME says which reader");
    make_folder();
    if (!freopen("/dev/null", "w", stdout))
        return 1;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    readers[chosen].read(data, size);
    return 0;
}
#else
/* FOLDER/READER/NAME */
static const char *seed(const char *to, const char *reader, const char *name)
{
    static char path[600];
    snprintf(path, sizeof path, "%s/%s", to, reader);
    mkdir(path, 0777);
    snprintf(path, sizeof path, "%s/%s/%s", to, reader, name);
    return path;
}

static void write_seeds(const char *to)
{
    static const unsigned char idx3[18] = {0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 7, 9};
    static const unsigned char idx4[24] = {0, 0, 8, 4, 0, 0, 0, 1, 0, 0, 0, 1,
                                           0, 0, 0, 2, 0, 0, 0, 2, 1, 2, 3, 4};
    static const unsigned char idx1[10] = {0, 0, 8, 1, 0, 0, 0, 2, 3, 4};
    static const unsigned char packed[] = {/* idx3, of gzip -9 without a name */
                                           0x1f, 0x8b, 0x08, 0,    0, 0, 0, 0, 0x02, 0x03, 0x01,
                                           0x12, 0x00, 0xed, 0xff, 0, 0, 8, 3, 0,    0,    0,
                                           2,    0,    0,    0,    1, 0, 0, 0, 1,    7,    9};
    unsigned char record[3073] = {3};
    write_file(seed(to, "idx", "idx3"), idx3, sizeof idx3);
    write_file(seed(to, "idx", "idx4"), idx4, sizeof idx4);
    write_file(seed(to, "idx", "packed"), packed, sizeof packed); /* its check sum is missing */
    write_file(seed(to, "labels", "idx1"), idx1, sizeof idx1);
    write_file(seed(to, "cifar", "record"), record, sizeof record);
    write_file(seed(to, "csv", "rows"), "step,D\n0,1\n1,2.5\n2,nan\n3,4\n", 28);
    write_file(seed(to, "csv", "cut"), "step,D\n0,1\n1,2\n2", 16);
    write_file(seed(to, "device", "cpu"), "cpu", 3);
    write_file(seed(to, "device", "compare"), "compare:ref,cpu", 15);
    write_file(seed(to, "folder", "pgm"), "P5 2 2 255\n1234", 15);
    write_file(seed(to, "folder", "flat"), "P6\n0 3 255\n", 11); /* of no width */
    g = open_device();
    gan_model *m = small_net(g);
    WANT(gan_save(m, seed(to, "empty", "model")) && gan_save(m, seed(to, "filled", "model")) &&
             gan_save_f16(m, seed(to, "empty", "half")),
         "%s", gan_error());
    gan_close(g);
    begin_training();
    WANT(gan_save_state(g, seed(to, "state", "new"), 0), "%s", gan_error());
    train_step();
    WANT(gan_save_state(g, seed(to, "state", "begun"), 1), "%s", gan_error());
    gan_close(g);
}

int main(int argc, char **argv)
{
    static unsigned char data[1 << 20];
    int reader = argc > 1 ? find_reader(argv[1]) : READERS;
    make_folder();
    if (argc == 3 && strcmp(argv[1], "seeds") == 0) {
        write_seeds(argv[2]);
        return 0;
    }
    if (reader == READERS)
        printf("skip fuzz: no reader %s here\n", argc > 1 ? argv[1] : "was named");
    for (int i = 2; i < argc && reader < READERS; i++) {
        FILE *f = fopen(argv[i], "rb");
        size_t size = f ? fread(data, 1, sizeof data, f) : 0;
        WANT(f, "cannot read %s", argv[i]);
        fclose(f);
        readers[reader].read(data, size);
    }
    printf("%s: %d inputs\n", argc > 1 ? argv[1] : "", argc > 2 ? argc - 2 : 0);
    return 0;
}
#endif
