/* proto/build_id.c - which build this is: version, revision, compiler, build type. */
#include "proto/codec.h"

#if defined(__clang__)
#define COMPILER "clang " __clang_version__
#else
#define COMPILER "gcc " __VERSION__
#endif

const char *phx_build_id(void)
{
    return PHX_BUILD_VERSION "+" PHX_BUILD_REVISION " " COMPILER " " PHX_BUILD_TYPE;
}
