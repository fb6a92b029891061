/* tests/emu/race.hpp - which memory accesses of a block's threads are unordered.
 * Owns: the last accesses per address. Two accesses are ordered by the same thread, by a __syncthreads
 * between, or by a __syncwarp between lanes of one warp. Shuffles order no memory. Accesses of up to four
 * bytes are compared by their first byte, longer ones word by word. Every access of every kernel asks here,
 * so it is made to be quick: shared memory has a cell for each byte, global memory a hashed one for what was
 * written. */
#ifndef PHX_TESTS_EMU_RACE_HPP
#define PHX_TESTS_EMU_RACE_HPP

#include <stddef.h>
#include <stdint.h>

#include <vector>

struct race_access {
    uint32_t phase = 0; /* 0: none. Grows with each block that begins and each __syncthreads that it passes */
    uint32_t who = 0;   /* the thread; above it the __syncwarps passed by its warp in this phase */
};

/* The accesses to the shared memory of one block after the other, by offset. */
class shared_races
{
  public:
    explicit shared_races(size_t bytes) : cells_(bytes)
    {
    }
    /* NULL, or what the new access collides with. */
    const char *read(size_t offset, race_access now);
    const char *write(size_t offset, race_access now);
    unsigned other_thread() const /* of the last collision */
    {
        return other_;
    }
    void forget();

  private:
    struct cell {
        race_access write;
        race_access read[2];
    };
    const char *collides(race_access with, const char *what);

    std::vector<cell> cells_;
    unsigned other_ = 0;
};

/* The writes of a launch to global memory, by address. */
class global_races
{
  public:
    global_races() : cells_(1u << 12)
    {
    }
    /* NULL, or what the new access collides with; now.phase is not below the block's first. */
    const char *read(uintptr_t address, race_access now, uint32_t first_of_block);
    const char *write(uintptr_t address, race_access now, uint32_t first_of_block, unsigned block);
    unsigned other_thread() const /* of the last collision */
    {
        return other_thread_;
    }
    unsigned other_block() const
    {
        return other_block_;
    }
    void begin(uint32_t first_of_launch) /* forgets earlier launches; phases grow from one to the next */
    {
        first_ = first_of_launch;
        n_used_ = 0;
        lowest_ = UINTPTR_MAX;
        highest_ = 0;
    }
    void forget();

  private:
    struct cell {
        uintptr_t address = 0;
        race_access write; /* in a phase before the launch: the cell is free */
        unsigned block = 0;
    };
    cell *find(uintptr_t address); /* its cell, or a free one */
    void grow();
    const char *collides(const cell &with, const char *what);

    std::vector<cell> cells_;
    size_t n_used_ = 0;
    uint32_t first_ = 1;
    uintptr_t lowest_ = UINTPTR_MAX; /* of what the launch wrote: most reads are of input */
    uintptr_t highest_ = 0;
    unsigned other_thread_ = 0;
    unsigned other_block_ = 0;
};

constexpr unsigned RACE_THREADS = 1024;

inline race_access race_of(uint32_t phase, unsigned thread, uint32_t syncs)
{
    return {phase, syncs * RACE_THREADS + thread};
}

#endif
