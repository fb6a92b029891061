/* tests/emu/limits.hpp - what every target of the kernels can launch. Owns: sizes of grids and blocks, shared
 * memory of a block, how much of it kernels have been allowed. Not here: who asks, and the fault (emu.cpp).
 */
#ifndef PHX_TESTS_EMU_LIMITS_HPP
#define PHX_TESTS_EMU_LIMITS_HPP

#include <mutex>
#include <vector>

#include "tests/emu/emu.hpp"

constexpr unsigned THREADS_MAX = 1024;    /* of a block */
constexpr size_t SHARED_MAX = 99u << 10;  /* of a block, on the smallest of the targets */
constexpr size_t SHARED_FREE = 48u << 10; /* without PHX_ALLOW_SHARED; arrays of a fixed size have no more */

/* Dynamic shared memory by kernel, each instance of a template for itself. For several threads. */
class shared_permits
{
  public:
    bool set(const void *kernel, size_t bytes); /* false: no target has so much */
    size_t of(const void *kernel);

  private:
    struct permit {
        const void *kernel;
        size_t bytes;
    };
    std::mutex lock_;
    std::vector<permit> all_;
};

uint64_t limits_volume(dim3 d);

/* Of grid and block. */
bool limits_hold(const emu::kernel_call &call);

/* NULL, or why a block cannot have so much shared memory. */
const char *limits_of_shared(size_t fixed, size_t dynamic, size_t allowed);

#endif
