/* tests/tools/saver.c: saver PATH NUMBER saves a model of that number for ever, until kills.sh
   kills it; saver PATH says whether the file is whole. */
#define GAN_IMPLEMENTATION
#include "../../gan.h"
#include <stdio.h>
#include <stdlib.h>

enum { COUNT = 20000 };

int main(int argc, char **argv)
{
    static gan_real numbers[COUNT];
    gan *g = gan_open("ref", 1);
    gan_model *m = gan_model_new(g, "m");
    if (argc > 2) {
        for (int i = 0; i < COUNT; i++)
            numbers[i] = (gan_real)atoi(argv[2]);
        gan_set(gan_param(m, "w", COUNT, 1, 1, 1), numbers);
        while (gan_save(m, argv[1]))
            continue;
        printf("%s\n", gan_error());
        return 1;
    }
    if (!gan_load(m, argv[1])) {
        printf("%s\n", gan_error());
        return 1;
    }
    gan_to_host(gan_find_param(m, "w"), numbers);
    for (int i = 0; i < COUNT; i++)
        if (!(numbers[i] == 1 || numbers[i] == 2) || numbers[i] != numbers[0]) {
            printf("torn\n");
            return 1;
        }
    gan_close(g);
    return 0;
}
