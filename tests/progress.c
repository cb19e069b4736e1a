/* tests/progress.c: the CSV log refuses what it cannot keep, and loses no row that is there. */
#if defined(__unix__) || defined(__APPLE__)
#define _XOPEN_SOURCE 700 /* mkfifo */
#define HAVE_POSIX    1
#include <sys/stat.h>
#include <unistd.h>
#endif
#include "test.h"

/* A scratch file beside this program: main() names and removes it. */
static char path[512];

static void write_text(const char *text)
{
    FILE *f = fopen(path, "wb");
    if (!f || fputs(text, f) < 0 || fclose(f) != 0)
        exit(2);
}

static const char *read_text(void)
{
    static char text[4096];
    FILE *f = fopen(path, "rb");
    text[f ? fread(text, 1, sizeof text - 1, f) : 0] = 0;
    if (f)
        fclose(f);
    return text;
}

/* -------------------------------------------------------------------------------------------
   Columns
   ------------------------------------------------------------------------------------------- */
static void ninth_column(void *g)
{
    gan_progress_open((gan *)g, NULL, "a,b,c,d,e,f,g,h,i", 0, 10, 1);
}

static void broken_line(void *g)
{
    gan_progress_open((gan *)g, NULL, "a,b\nc", 0, 10, 1);
}

static void no_columns(void *g)
{
    gan_progress_open((gan *)g, NULL, NULL, 0, 10, 1);
}

static void no_device(void *unused)
{
    (void)unused;
    gan_progress_open(NULL, NULL, "D", 0, 10, 1);
}

static void no_log(void *unused)
{
    (void)unused;
    gan_progress_step(NULL, 0, 1.0);
}

static void columns(void)
{
    char header[1000] = "step,";
    gan *g = gan_open("cpu", 1);
    CHECK(strstr(message_of(ninth_column, g), "8 columns"), "nine columns: %s", test_message);
    CHECK(message_of(broken_line, g)[0], "a line break in the columns");
    CHECK(message_of(no_columns, g)[0] && message_of(no_device, g)[0], "NULL");
    CHECK(strstr(message_of(no_log, g), "gan_progress_open"), "no log: %s", test_message);

    /* Eight are kept, of any length. */
    for (int i = 0; i < 8; i++)
        snprintf(header + strlen(header), sizeof header - strlen(header), "%s%0100d", i ? "," : "",
                 i);
    gan_progress *log = gan_progress_open(g, path, header + 5, 0, 1000, 1);
    CHECK(log, "%s", gan_error());
    gan_progress_step(log, 0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0);
    gan_progress_close(log);
    const char *text = read_text();
    CHECK(strncmp(text, header, strlen(header)) == 0, "the header is cut: %s", text);
    CHECK(strcmp(text + strlen(header), "\n0,1,2,3,4,5,6,7,8\n") == 0, "%s", text);
    gan_close(g);
}

/* -------------------------------------------------------------------------------------------
   A log that is gone on with
   ------------------------------------------------------------------------------------------- */
static void strange_rows(void)
{
    gan *g = gan_open("cpu", 1);
    write_text("step,D\n0,1\n1,2\n99999999999999999999,5\n-1,7\n\nx\n2,3\n3,4\n4,5");
    gan_progress *log = gan_progress_open(g, path, "D", 3, 1000, 1);
    CHECK(log, "%s", gan_error());
    gan_progress_close(log);
    CHECK(strcmp(read_text(), "step,D\n0,1\n1,2\n2,3\n") == 0, "%s", read_text());
    gan_close(g);
}

/* No steps, or fewer than are done: no division by zero, no time below zero. */
static void no_steps(void)
{
    gan *g = gan_open("cpu", 1);
    static const int first_steps[][2] = {{0, 0}, {5, 3}, {0, -1}};
    for (int i = 0; i < 3; i++) {
        gan_progress *log = gan_progress_open(g, NULL, "D", first_steps[i][0], first_steps[i][1],
                                              1);
        CHECK(log, "%s", gan_error());
        gan_progress_step(log, 0, 1.0);
        gan_progress_close(log);
    }
    gan_close(g);
}

#ifdef HAVE_POSIX
/* A log that is there and cannot be read stays as it is. */
static void unreadable(void)
{
    gan *g = gan_open("cpu", 1);
    struct stat about;
    write_text("step,D\n0,1\n");
    CHECK(chmod(path, 0200) == 0, "cannot change permissions");
    bool root = geteuid() == 0;
    if (root && seteuid(65534) != 0)
        root = false;
    gan_progress *log = gan_progress_open(g, path, "D", 1, 1000, 1);
    if (root && seteuid(0) != 0)
        exit(2);
    chmod(path, 0600);
    CHECK(!log, "a log that cannot be read was gone on with");
    CHECK(strstr(gan_error(), path), "the error does not name the file: %s", gan_error());
    CHECK(strcmp(read_text(), "step,D\n0,1\n") == 0, "it became %s", read_text());

    remove(path);
    CHECK(mkfifo(path, 0600) == 0, "cannot make a pipe");
    CHECK(!gan_progress_open(g, path, "D", 1, 1000, 1), "a pipe is a log");
    CHECK(!gan_progress_open(g, path, "D", 0, 1000, 1), "a pipe is a new log");
    CHECK(stat(path, &about) == 0 && S_ISFIFO(about.st_mode), "the pipe was replaced");
    gan_close(g);
}
#endif

int main(int argc, char **argv)
{
    char folder[400];
    snprintf(folder, sizeof folder, "%s.folder", argc > 0 ? argv[0] : "progress");
    snprintf(path, sizeof path, "%s.csv", argc > 0 ? argv[0] : "progress");
#ifdef HAVE_POSIX
    mkdir(folder, 0777); /* in which anybody may write: one test is not root for a while */
    chmod(folder, 0777);
    snprintf(path, sizeof path, "%s/log.csv", folder);
#endif
    run("progress: columns", columns);
    run("progress: strange rows", strange_rows);
    run("progress: no steps", no_steps);
#ifdef HAVE_POSIX
    run("progress: a log that cannot be read", unreadable);
#endif
    remove(path);
    remove(folder);
    return finish();
}
