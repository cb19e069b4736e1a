/* tests/stb.h: stb_image and stb_image_write where they are, Debian's folder or the program's own;
   HAVE_STB says so. -DNO_STB does without. */
#ifndef TEST_STB_H
#define TEST_STB_H

#ifndef TEST_LINKED
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_WRITE_IMPLEMENTATION
#endif

#ifdef __has_include
#if defined(NO_STB)
#elif __has_include(<stb/stb_image.h>) && __has_include(<stb/stb_image_write.h>)
#define HAVE_STB 1
#include <stb/stb_image.h>
#include <stb/stb_image_write.h>
#elif __has_include("stb_image.h") && __has_include("stb_image_write.h")
#define HAVE_STB 1
#include "stb_image.h"
#include "stb_image_write.h"
#endif
#endif

#endif
