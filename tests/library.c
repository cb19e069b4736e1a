/* tests/library.c: gan.h's code and stb's, compiled once for each variant of flags and linked to
   every test of that variant (-DTEST_LINKED). A test compiled alone, without that flag, holds the
   code itself. */
#define TEST_LIBRARY
#include "test.h"
