/* tests/emu/race.cpp - the tables of accesses and the rule of order. */
#include "race.hpp"

#include <algorithm>

#include "base/rng.h"

static const unsigned WARP = 32;

static unsigned thread_of(race_access access)
{
    return access.who % RACE_THREADS;
}

/* Both of one block, or `before` of an earlier one whose shared memory this is. */
static bool is_ordered(race_access before, race_access now)
{
    if (before.phase != now.phase)
        return true;
    const unsigned a = thread_of(before);
    const unsigned b = thread_of(now);
    return a == b || (a / WARP == b / WARP && before.who / RACE_THREADS < now.who / RACE_THREADS);
}

const char *shared_races::collides(race_access with, const char *what)
{
    other_ = thread_of(with);
    return what;
}

const char *shared_races::write(size_t offset, race_access now)
{
    cell &c = cells_[offset];
    if (!is_ordered(c.write, now))
        return collides(c.write, "writes what another thread wrote");
    for (const race_access &r : c.read) {
        if (!is_ordered(r, now))
            return collides(r, "writes what another thread read");
    }
    c.write = now;
    c.read[0] = c.read[1] = race_access();
    return nullptr;
}

/* Two slots of readers can miss a third one, never blame a wrong one. */
const char *shared_races::read(size_t offset, race_access now)
{
    cell &c = cells_[offset];
    if (!is_ordered(c.write, now))
        return collides(c.write, "reads what another thread wrote");
    for (race_access &r : c.read) {
        if (is_ordered(r, now)) {
            r = now;
            break;
        }
    }
    return nullptr;
}

void shared_races::forget()
{
    std::fill(cells_.begin(), cells_.end(), cell());
}

/* Neighbours lie together: kernels walk. */
global_races::cell *global_races::find(uintptr_t address)
{
    const size_t mask = cells_.size() - 1;
    const uintptr_t line = 64;
    for (size_t i = (phx_rng_mix(address / line) * line + address % line) & mask;; i = (i + 1) & mask) {
        cell &c = cells_[i];
        if (c.write.phase < first_ || c.address == address)
            return &c;
    }
}

void global_races::grow()
{
    std::vector<cell> old(cells_.size() * 2);
    old.swap(cells_);
    for (const cell &c : old) {
        if (c.write.phase >= first_)
            *find(c.address) = c;
    }
}

const char *global_races::collides(const cell &with, const char *what)
{
    other_thread_ = thread_of(with.write);
    other_block_ = with.block;
    return what;
}

const char *global_races::write(uintptr_t address, race_access now, uint32_t first_of_block, unsigned block)
{
    lowest_ = std::min(lowest_, address);
    highest_ = std::max(highest_, address);
    if (2 * n_used_ >= cells_.size())
        grow();
    cell *c = find(address);
    if (c->write.phase < first_)
        n_used_++;
    else if (c->write.phase < first_of_block || !is_ordered(c->write, now))
        return collides(*c, "writes what another thread wrote");
    *c = {address, now, block};
    return nullptr;
}

/* Reads leave no trace: most of global memory is input, and it is large. */
const char *global_races::read(uintptr_t address, race_access now, uint32_t first_of_block)
{
    if (address < lowest_ || address > highest_)
        return nullptr;
    const cell *c = find(address);
    if (c->write.phase >= first_ && (c->write.phase < first_of_block || !is_ordered(c->write, now)))
        return collides(*c, "reads what another thread wrote");
    return nullptr;
}

void global_races::forget()
{
    std::fill(cells_.begin(), cells_.end(), cell());
}
