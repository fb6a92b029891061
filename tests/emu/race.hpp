/* tests/emu/race.hpp - which memory accesses of a block's threads are unordered.
 * Owns: the last accesses per address. Two accesses are ordered by the same thread, by a __syncthreads
 * between, or by a __syncwarp between lanes of one warp. Shuffles order no memory. Accesses of up to four
 * bytes are compared by their first byte, longer ones word by word. */
#ifndef PHX_TESTS_EMU_RACE_HPP
#define PHX_TESTS_EMU_RACE_HPP

#include <stdint.h>
#include <stddef.h>

#include <vector>

struct race_access {
    uint64_t launch = 0; /* 0: none */
    unsigned block = 0;
    unsigned thread = 0;
    unsigned barriers = 0; /* passed by the block */
    unsigned syncs = 0;    /* __syncwarps passed by the thread's warp */
};

class race_table
{
  public:
    race_table() : cells_(1u << 12)
    {
    }
    /* NULL, or what the new access collides with. */
    const char *read(uintptr_t address, const race_access &now, bool shared);
    const char *write(uintptr_t address, const race_access &now, bool shared);
    const race_access &other() const /* of the last collision */
    {
        return other_;
    }
    void begin(uint64_t launch) /* forgets the accesses of earlier launches */
    {
        launch_ = launch;
        n_used_ = 0;
        lowest_ = UINTPTR_MAX;
        highest_ = 0;
    }

  private:
    struct cell {
        uintptr_t address = 0;
        uint64_t launch = 0; /* that owns the cell; older ones are free */
        race_access write;
        race_access read[2];
    };
    cell *find(uintptr_t address, bool make);
    void grow();

    std::vector<cell> cells_;
    size_t n_used_ = 0;
    uint64_t launch_ = 0;
    uintptr_t lowest_ = UINTPTR_MAX; /* of global memory that the launch wrote: most reads are of input */
    uintptr_t highest_ = 0;
    race_access other_;
};

#endif
