/* tests/faults.c: every allocation, open, read, write, flush, rename in turn is made to fail while
   something is loaded, saved or resumed. Each time the call gives NULL or false, what was held and
   what lay on the disk is as before, and nothing leaks. The linker puts the functions below in
   the place of the C library's (-Wl,--wrap=..., with -DHAVE_WRAP). */
#ifdef HAVE_WRAP
#define _XOPEN_SOURCE 700
#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>
#include "test.h"

/* -------------------------------------------------------------------------------------------
   The functions that fail
   ------------------------------------------------------------------------------------------- */
static int armed, calls, fail_at; /* call number fail_at since it was armed fails */
static int held;                  /* blocks, files, descriptors and folders */

static bool fails(int error)
{
    if (!armed || ++calls != fail_at)
        return false;
    errno = error;
    return true;
}

void *__real_malloc(size_t);
void *__real_calloc(size_t, size_t);
void *__real_realloc(void *, size_t);
void __real_free(void *);
FILE *__real_fopen(const char *, const char *);
int __real_fclose(FILE *);
size_t __real_fread(void *, size_t, size_t, FILE *);
size_t __real_fwrite(const void *, size_t, size_t, FILE *);
int __real_fflush(FILE *);
int __real_fsync(int);
int __real_rename(const char *, const char *);
int __real_open(const char *, int, int);
int __real_close(int);
DIR *__real_opendir(const char *);
int __real_closedir(DIR *);

void *__wrap_malloc(size_t size)
{
    void *memory = fails(ENOMEM) ? NULL : __real_malloc(size);
    held += memory != NULL;
    return memory;
}

/* What an optimizer makes of malloc and memset. */
void *__wrap_calloc(size_t count, size_t size)
{
    void *memory = fails(ENOMEM) ? NULL : __real_calloc(count, size);
    held += memory != NULL;
    return memory;
}

void *__wrap_realloc(void *old, size_t size)
{
    void *memory = __real_realloc(old, size); /* stb_image_write's alone; it aborts without */
    held += memory && !old;
    return memory;
}

void __wrap_free(void *memory)
{
    held -= memory != NULL;
    __real_free(memory);
}

FILE *__wrap_fopen(const char *name, const char *mode)
{
    FILE *file = fails(EMFILE) ? NULL : __real_fopen(name, mode);
    held += file != NULL;
    return file;
}

int __wrap_fclose(FILE *file)
{
    held--;
    bool bad = fails(EIO);
    int result = __real_fclose(file);
    errno = bad ? EIO : errno;
    return bad ? EOF : result;
}

size_t __wrap_fread(void *to, size_t size, size_t n, FILE *file)
{
    return fails(EIO) ? 0 : __real_fread(to, size, n, file);
}

size_t __wrap_fwrite(const void *from, size_t size, size_t n, FILE *file)
{
    return fails(ENOSPC) ? 0 : __real_fwrite(from, size, n, file);
}

int __wrap_fflush(FILE *file)
{
    return fails(ENOSPC) ? EOF : __real_fflush(file);
}

int __wrap_fsync(int descriptor)
{
    return fails(EIO) ? -1 : __real_fsync(descriptor);
}

int __wrap_rename(const char *from, const char *to)
{
    return fails(EXDEV) ? -1 : __real_rename(from, to);
}

int __wrap_open(const char *name, int flags, int mode)
{
    int descriptor = fails(EMFILE) ? -1 : __real_open(name, flags, mode);
    held += descriptor >= 0;
    return descriptor;
}

int __wrap_close(int descriptor)
{
    held -= descriptor >= 0;
    return __real_close(descriptor);
}

DIR *__wrap_opendir(const char *name)
{
    DIR *folder = fails(EMFILE) ? NULL : __real_opendir(name);
    held += folder != NULL;
    return folder;
}

int __wrap_closedir(DIR *folder)
{
    held--;
    return __real_closedir(folder);
}

/* -------------------------------------------------------------------------------------------
   What is done: in a folder of this program's own
   ------------------------------------------------------------------------------------------- */
static char folder[400], model_file[512], state_file[512], other_file[512], table[512], idx[512];
static char cifar[512], png[512], pictures[512];

typedef struct {
    gan *g;
    gan_model *model;
    gan_opt *opt;
    gan_data *data;
} training;

static training t;

static void begin(bool with_parameters)
{
    t.g = gan_open("ref", 3);
    t.model = gan_model_new(t.g, "m");
    t.opt = gan_adam(t.model, (gan_real)0.01, (gan_real)0.5, (gan_real)0.9);
    t.data = gan_data_digits(t.g, 4);
    for (int i = 0; with_parameters && i < 2; i++) {
        gan_tensor *x = gan_reshape(gan_batch(t.data, 2, NULL), 2, 784, 1, 1);
        gan_tensor *y = gan_linear(t.model, "fc", x, 3);
        gan_minimize(t.opt, gan_mean(gan_square(gan_batch_norm(t.model, "bn", y))));
        gan_clear(t.g);
    }
}

static long size_of(const char *name, unsigned char *to, long room)
{
    FILE *f = fopen(name, "rb");
    long n = f ? (long)fread(to, 1, (size_t)room, f) : -1;
    if (f)
        fclose(f);
    return n;
}

static bool same_files(const char *a, const char *b)
{
    static unsigned char x[1 << 17], y[1 << 17];
    long n = size_of(a, x, sizeof x);
    return n >= 0 && n == size_of(b, y, sizeof y) && memcmp(x, y, (size_t)n) == 0;
}

static void copy_file(const char *from, const char *to)
{
    static unsigned char x[1 << 17];
    long n = size_of(from, x, sizeof x);
    FILE *f = fopen(to, "wb");
    if (n < 0 || !f || fwrite(x, 1, (size_t)n, f) != (size_t)n || fclose(f) != 0)
        exit(2);
}

static int files_in_folder(void)
{
    int count = 0;
    DIR *d = opendir(folder);
    for (struct dirent *entry; d && (entry = readdir(d)) != NULL;)
        count += entry->d_name[0] != '.' || strlen(entry->d_name) > 2;
    if (d)
        closedir(d);
    return count;
}

static bool save(void)
{
    return gan_save(t.model, other_file);
}

static bool save_half(void)
{
    return gan_save_f16(t.model, other_file);
}

static bool save_state(void)
{
    return gan_save_state(t.g, other_file, 9);
}

static bool load(void)
{
    return gan_load(t.model, model_file);
}

static bool load_state(void)
{
    int step = -1;
    bool done = gan_load_state(t.g, state_file, &step);
    return done && step == 2;
}

static bool read_idx(void)
{
    return gan_data_idx(t.g, idx, NULL) != NULL;
}

static bool read_cifar(void)
{
    const char *paths[2];
    paths[0] = paths[1] = cifar;
    return gan_data_cifar10(t.g, paths, 2) != NULL;
}

static bool draw_digits(void)
{
    return gan_data_digits(t.g, 3) != NULL;
}

static bool make_pair(void)
{
    return gan_data_pair(t.g, t.data, t.data) != NULL;
}

static bool go_on_with_log(void)
{
    gan_progress *log = gan_progress_open(t.g, table, "D", 2, 10, 1);
    gan_progress_close(log);
    return log != NULL;
}

#ifdef HAVE_STB
static bool save_png(void)
{
    return gan_save_png(gan_zeros(t.g, 2, 1, 3, 3), 2, other_file);
}

static bool read_folder(void)
{
    return gan_data_folder(t.g, pictures, 1, 4, 4) != NULL;
}
#endif

static const struct {
    const char *name;
    bool (*act)(void);
    bool empty; /* into a model without parameters */
} acts[] = {
    {"gan_save", save, false},
    {"gan_save_f16", save_half, false},
    {"gan_save_state", save_state, false},
    {"gan_load", load, false},
    {"gan_load, empty", load, true},
    {"gan_load_state", load_state, false},
    {"gan_load_state, empty", load_state, true},
    {"gan_data_idx", read_idx, false},
    {"gan_data_cifar10", read_cifar, false},
    {"gan_data_digits", draw_digits, false},
    {"gan_data_pair", make_pair, false},
    {"gan_progress_open", go_on_with_log, false},
#ifdef HAVE_STB
    {"gan_save_png", save_png, false},
    {"gan_data_folder", read_folder, false},
#endif
};

static void act_without_memory(void *i)
{
    armed = 1;
    calls = 0;
    bool done = acts[*(int *)i].act();
    armed = 0;
    *(int *)i = done ? -1 : -2;
}

/* What the training held and what lay on the disk before, as files. */
static char before_state[512], before_other[512], before_table[512], now_state[512];

static void every_fault(void)
{
    for (int a = 0; a < (int)(sizeof acts / sizeof *acts); a++) {
        bool fired = true;
        int refused = 0;
        for (fail_at = 1; fired; fail_at++) {
            int start = held;
            begin(!acts[a].empty);
            copy_file(model_file, other_file);
            copy_file(model_file, before_other);
            copy_file(before_table, table);
            CHECK(gan_save_state(t.g, before_state, 2), "%s", gan_error());
            int files = files_in_folder();
            int outcome = a;
            const char *message = message_of(act_without_memory, &outcome);
            armed = 0;
            fired = calls >= fail_at;
            refused += outcome == -2;
            CHECK(!message[0], "%s, fault %d: ends the program: %s", acts[a].name, fail_at,
                  message);
            CHECK(outcome == -1 || fired, "%s without a fault: %s", acts[a].name, gan_error());
            CHECK(files_in_folder() == files, "%s, fault %d: a temporary file is left",
                  acts[a].name, fail_at);
            if (outcome == -2) {
                CHECK(gan_error()[0], "%s, fault %d: no text", acts[a].name, fail_at);
                CHECK(same_files(other_file, before_other), "%s, fault %d: the file changed (%s)",
                      acts[a].name, fail_at, gan_error());
                CHECK(same_files(table, before_table) || acts[a].act == go_on_with_log,
                      "%s, fault %d: the log changed", acts[a].name, fail_at);
                static unsigned char rows[100];
                long n = size_of(table, rows, 99);
                CHECK(n > 0 && strstr((char *)rows, "step,D\n0,1\n1,2\n"),
                      "%s, fault %d: rows are lost", acts[a].name, fail_at);
                CHECK(gan_save_state(t.g, now_state, 2), "%s", gan_error());
                CHECK(same_files(now_state, before_state), "%s, fault %d: the training changed",
                      acts[a].name, fail_at);
            }
            gan_close(t.g);
            bool of_stb = strcmp(acts[a].name, "gan_save_png") == 0; /* it frees not all itself */
            CHECK(held == start || of_stb, "%s, fault %d: %d blocks or files leak", acts[a].name,
                  fail_at, held - start);
        }
        printf("     %s: %d faults, %d refusals\n", acts[a].name, fail_at - 2, refused);
        CHECK(refused > 0, "%s: no fault was refused", acts[a].name);
    }
}

static void write_bytes(const char *name, const void *data, size_t size)
{
    FILE *f = fopen(name, "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f) != 0)
        exit(2);
}

int main(int argc, char **argv)
{
    static const unsigned char images[16 + 4] = {0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 2};
    static unsigned char record[3073];
    snprintf(folder, sizeof folder, "%s.folder", argc > 0 ? argv[0] : "faults");
    mkdir(folder, 0700);

    struct {
        char *to;
        const char *name;
    } names[] = {
        {model_file, "model"},
        {state_file, "state"},
        {other_file, "other"},
        {table, "log.csv"},
        {idx, "idx"},
        {cifar, "cifar"},
        {png, "a.pgm"},
        {pictures, "."},
        {before_state, "before.state"},
        {before_other, "before.other"},
        {before_table, "before.csv"},
        {now_state, "now.state"},
    };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        snprintf(names[i].to, 512, "%s/%s", folder, names[i].name);
    begin(true);
    if (!gan_save(t.model, model_file) || !gan_save_state(t.g, state_file, 2))
        exit(2);
    gan_close(t.g);
    copy_file(state_file, now_state);
    write_bytes(before_table, "step,D\n0,1\n1,2\n2,3\n", 19);
    write_bytes(idx, images, sizeof images);
    write_bytes(cifar, record, sizeof record);
    write_bytes(png, "P5 2 2 255\n1234", 15);
    fflush(stdout); /* stdio allocates its buffers now, and not while faults are counted */
    run("faults: every call fails once", every_fault);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        remove(names[i].to);
    remove(folder);
    return finish();
}
#else
#include <stdio.h>

int main(void)
{
    printf("skip faults: the linker has no --wrap\n0 passed, 0 failed\n");
    return 0;
}
#endif
