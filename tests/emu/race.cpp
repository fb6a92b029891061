/* tests/emu/race.cpp - the table of accesses and the rule of order. */
#include "race.hpp"

#include <utility>

#include "base/rng.h"

static const unsigned WARP = 32;

static bool is_ordered(const race_access &before, const race_access &now, bool shared)
{
    if (before.launch != now.launch)
        return true;
    if (before.block != now.block)
        return shared; /* a block's shared memory is its own */
    return before.thread == now.thread || before.barriers < now.barriers ||
           (before.thread / WARP == now.thread / WARP && before.syncs < now.syncs);
}

race_table::cell *race_table::find(uintptr_t address, bool make)
{
    const size_t mask = cells_.size() - 1;
    for (size_t i = phx_rng_mix(address) & mask;; i = (i + 1) & mask) {
        cell &c = cells_[i];
        if (c.launch != launch_) {
            if (!make)
                return nullptr;
            c = cell();
            c.address = address;
            c.launch = launch_;
            n_used_++;
            return &c;
        }
        if (c.address == address)
            return &c;
    }
}

void race_table::grow()
{
    std::vector<cell> old(cells_.size() * 2);
    old.swap(cells_);
    n_used_ = 0;
    for (const cell &c : old) {
        if (c.launch == launch_)
            *find(c.address, true) = c;
    }
}

const char *race_table::write(uintptr_t address, const race_access &now, bool shared)
{
    if (!shared) {
        lowest_ = address < lowest_ ? address : lowest_;
        highest_ = address > highest_ ? address : highest_;
    }
    if (2 * n_used_ >= cells_.size())
        grow();
    cell *c = find(address, true);
    if (!is_ordered(c->write, now, shared)) {
        other_ = c->write;
        return "writes what another thread wrote";
    }
    for (const race_access &r : c->read) {
        if (!is_ordered(r, now, shared)) {
            other_ = r;
            return "writes what another thread read";
        }
    }
    c->write = now;
    c->read[0] = c->read[1] = race_access();
    return nullptr;
}

/* Reads of global memory leave no trace: most of it is input, and it is large. Two slots of readers can miss
 * a third one, never blame a wrong one. */
const char *race_table::read(uintptr_t address, const race_access &now, bool shared)
{
    if (!shared && (address < lowest_ || address > highest_))
        return nullptr;
    if (2 * n_used_ >= cells_.size())
        grow();
    cell *c = find(address, shared);
    if (!c)
        return nullptr;
    if (!is_ordered(c->write, now, shared)) {
        other_ = c->write;
        return "reads what another thread wrote";
    }
    if (!shared)
        return nullptr;
    for (race_access &r : c->read) {
        if (is_ordered(r, now, shared)) {
            r = now;
            break;
        }
    }
    return nullptr;
}
