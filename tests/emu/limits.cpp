/* tests/emu/limits.cpp - the limits of a launch. */
#include "tests/emu/limits.hpp"

bool shared_permits::set(const void *kernel, size_t bytes)
{
    if (bytes > SHARED_MAX)
        return false;
    const std::lock_guard<std::mutex> alone(lock_);
    for (permit &one : all_) {
        if (one.kernel == kernel) {
            one.bytes = bytes;
            return true;
        }
    }
    all_.push_back({kernel, bytes});
    return true;
}

size_t shared_permits::of(const void *kernel)
{
    const std::lock_guard<std::mutex> alone(lock_);
    for (const permit &one : all_) {
        if (one.kernel == kernel)
            return one.bytes;
    }
    return 0;
}

uint64_t limits_volume(dim3 d)
{
    return (uint64_t)d.x * d.y * d.z;
}

bool limits_hold(const emu::kernel_call &call)
{
    const dim3 g = call.grid;
    const dim3 b = call.block;
    const bool is_grid = g.x <= INT32_MAX && g.y <= UINT16_MAX && g.z <= UINT16_MAX;
    return is_grid && limits_volume(g) > 0 && limits_volume(g) < UINT32_MAX / 2 && b.z <= 64 &&
           limits_volume(b) > 0 && limits_volume(b) <= THREADS_MAX;
}

const char *limits_of_shared(size_t fixed, size_t dynamic, size_t allowed)
{
    if (fixed > SHARED_FREE || fixed + dynamic > SHARED_MAX)
        return "a block has at most 48 KiB fixed and 99 KiB in all";
    if (fixed + dynamic > SHARED_FREE && dynamic > allowed)
        return "above 48 KiB in all PHX_ALLOW_SHARED must allow the dynamic ones";
    return nullptr;
}
