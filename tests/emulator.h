/* tests/emulator.h - for tests of `--backend emu`: whether this build has the emulator. */
#ifndef PHX_TESTS_EMULATOR_H
#define PHX_TESTS_EMULATOR_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* False after saying why; main then returns 77. Environment: PHX_BUILD. */
static inline bool phx_has_emulator(void)
{
    const char *build = getenv("PHX_BUILD");
    char plugin[512];
    (void)snprintf(plugin, sizeof(plugin), "%s/libphalanx_emu.so", build ? build : ".");
    if (access(plugin, R_OK) == 0)
        return true;
    (void)printf("SKIP: no libphalanx_emu.so: the build found no C++ compiler or has sanitizers\n");
    return false;
}

#endif
