/* picture FILE...: is each a picture worth the name? A .png is decoded by stb_image: its sides,
   mean and deviation of its numbers (0 to 255) are printed, and one of a single colour, or too
   small to show anything, is a failure. A .gif must hold two frames or more that differ. */
#define STB_IMAGE_IMPLEMENTATION
#include <math.h>
#include <stdbool.h>
#include <stb/stb_image.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double deviation(const unsigned char *x, size_t count, double *mean)
{
    double sum = 0, squares = 0;
    for (size_t i = 0; i < count; i++) {
        sum += x[i];
        squares += (double)x[i] * x[i];
    }
    *mean = sum / (double)count;
    return sqrt(fmax(0, squares / (double)count - *mean * *mean));
}

static const char *check(const char *path)
{
    static char message[256];
    int w = 0, h = 0, frames = 1, channels = 0, *delays = NULL;
    double mean = 0;
    FILE *file = fopen(path, "rb");
    if (!file)
        return "is not there";
    unsigned char *bytes = (unsigned char *)malloc(1 << 26);
    unsigned char *x = NULL;
    size_t size = fread(bytes, 1, 1 << 26, file);
    fclose(file);
    bool gif = size > 4 && memcmp(bytes, "GIF8", 4) == 0;
    x = gif ? stbi_load_gif_from_memory(bytes, (int)size, &delays, &w, &h, &frames, &channels, 3)
            : stbi_load_from_memory(bytes, (int)size, &w, &h, &channels, 3);
    free(bytes);
    if (!x)
        return stbi_failure_reason();
    double spread = deviation(x, (size_t)w * h * 3 * frames, &mean);
    size_t frame = (size_t)w * h * 3;
    bool moves = gif && frames > 1 && memcmp(x, x + frame * (size_t)(frames / 2), frame) != 0;
    stbi_image_free(x);
    free(delays);
    printf("     %s: %dx%d, %d frame%s, mean %.0f, deviation %.0f\n", path, w, h, frames,
           frames > 1 ? "s" : "", mean, spread);
    if (gif && !moves)
        return "does not move";
    if (w < 16 || h < 16)
        return "is too small to show anything";
    if (!(spread >= 5)) {
        snprintf(message, sizeof message, "is almost of one colour: deviation %.1f", spread);
        return message;
    }
    return NULL;
}

int main(int argc, char **argv)
{
    int failed = 0;
    for (int i = 1; i < argc; i++) {
        const char *wrong = check(argv[i]);
        if (wrong) {
            printf("FAIL %s %s\n", argv[i], wrong);
            failed++;
        }
    }
    return failed != 0;
}
