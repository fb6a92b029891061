/* tests/emu/emu.cpp - the emulator's scheduler: fibres, barriers, warp functions, shared memory.
 * With runtime.cpp the one place of the project with mutable objects of the process (machine and device): a
 * kernel finds threadIdx without an argument. Never compiled with -fsanitize=thread; the kernels are, and
 * call the hooks at the end.
 */
#include "emu.hpp"

#include <stdarg.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include <memory>
#include <mutex>
#include <vector>

#include "base/rng.h"
#include "fibre.hpp"
#include "race.hpp"
#include "runtime.hpp"
#include "tests/emu/limits.hpp"

namespace
{

constexpr unsigned WARP = 32;
constexpr size_t STACK = 128u << 10;

enum class wait { none, barrier, sync, shuffle, ballot, together, pause };

const char *const wait_names[] = {"running",   "__syncthreads", "__syncwarp",
                                  "a shuffle", "__ballot_sync", "an instruction of the whole warp",
                                  "a pause"};

struct copy {
    void *to;
    const void *from;
    unsigned group;
};

struct thread {
    fibre at;
    wait waits = wait::none;
    bool done = false;
    emu::site site = {};
    unsigned mask = 0;
    uint64_t value = 0; /* given to a warp function; then its answer */
    int lane = 0;       /* asked for */
    void (*body)(void *const *lanes) = nullptr;
    std::vector<copy> copies; /* asked for and not yet done, oldest first */
    unsigned n_groups = 0;    /* committed */
};

struct shared_piece {
    const void *site;
    void *ptr;
};

/* Threads of the running block that did something between two barriers. */
struct doers {
    bool many = false;
    unsigned first = 0;
    uint32_t phase = 0; /* 0: none did */

    void add(unsigned thread, uint32_t now)
    {
        many = phase == now && (many || first != thread);
        first = phase == now ? first : thread;
        phase = now;
    }
    bool has_other(unsigned thread, uint32_t now) const
    {
        return phase == now && (many || first != thread);
    }
};

struct machine {
    std::mutex lock; /* of a launch */
    shared_permits permits;
    uint64_t seed = 1;
    uint64_t n_seeded = 0; /* launches since the seed was set */
    uint64_t n_switches = 0;
    char fault[512] = "";

    const emu::kernel_call *call = nullptr;
    phx_rng rng = {};
    char *stacks = nullptr; /* THREADS_MAX of STACK, the lowest page of each closed */
    std::vector<thread> threads;
    std::vector<unsigned> ready;
    std::vector<char> shared;
    std::vector<shared_piece> pieces;
    size_t shared_used = 0;
    size_t shared_allowed = 0; /* dynamic bytes of the running kernel */
    fibre scheduler;
    unsigned block = 0;
    unsigned n_threads = 0;
    unsigned n_done = 0;
    uint32_t phase = 0;                        /* race.hpp */
    uint32_t first_phase = 0;                  /* of the block */
    uint32_t syncs[THREADS_MAX / WARP] = {};   /* __syncwarps of a warp in this phase */
    unsigned arrived[THREADS_MAX / WARP] = {}; /* bit per lane that waits in a warp function */
    unsigned current = 0;
    dim3 current_index; /* its threadIdx */
    unsigned n_pauses = 0;
    doers writes;                      /* to global memory */
    doers flags;                       /* raised */
    bool looked = false;               /* at a flag */
    emu::device_piece touched[4] = {}; /* by this launch: they are asked for again and again */
    unsigned n_touched = 0;
    global_races global;
    shared_races shared_by{SHARED_MAX};
};

machine the_machine;

/* A fibre runs on this thread: others are host code, also when it is compiled with the hooks. Every access
 * asks, so it lies where no call is needed to find it. */
thread_local bool inside __attribute__((tls_model("initial-exec"))) = false;

inline machine &the()
{
    return the_machine;
}

/* One mix per draw: a launch draws once per switch. */
unsigned draw(size_t n)
{
    machine &m = the();
    return (unsigned)(((phx_rng_mix(m.rng.seed + m.rng.n++) >> 32) * n) >> 32);
}

void note_fault(const char *format, ...) __attribute__((format(printf, 1, 2)));

void note_fault(const char *format, ...)
{
    machine &m = the();
    if (m.fault[0] != '\0')
        return;
    const int n = snprintf(m.fault, sizeof(m.fault), "%s, block %u: ", m.call->name, m.block);
    va_list args;
    va_start(args, format);
    vsnprintf(m.fault + n, sizeof(m.fault) - (size_t)n, format, args);
    va_end(args);
}

dim3 split(unsigned i, dim3 size)
{
    return i < size.x ? dim3(i, 0, 0) : dim3(i % size.x, i / size.x % size.y, i / (size.x * size.y));
}

void to_scheduler()
{
    machine &m = the();
    inside = false;
    m.n_switches++;
    fibre_switch(&m.threads[m.current].at, &m.scheduler);
    inside = true;
}

/* Leaves a fibre for good: kernels hold nothing that needs a destructor. */
[[noreturn]] void abandon()
{
    for (;;)
        to_scheduler();
}

void thread_main()
{
    machine &m = the();
    inside = true;
    m.call->body(m.call->user);
    m.threads[m.current].done = true;
    m.n_done++;
    abandon();
}

void wait_here(wait what, emu::site at, unsigned mask, uint64_t value, int lane)
{
    machine &m = the();
    thread &t = m.threads[m.current];
    t.waits = what;
    t.site = at;
    t.mask = mask;
    t.value = value;
    t.lane = lane;
    to_scheduler();
}

void check_mask(wait what, unsigned mask)
{
    machine &m = the();
    const unsigned lane = m.current % WARP;
    if ((mask >> lane & 1u) != 0)
        return;
    note_fault("thread %u calls %s with mask %08x, which leaves it out", m.current, wait_names[(int)what],
               mask);
    abandon();
}

/* Answers the lanes of one warp function that has all its lanes. */
void answer(unsigned first, const thread &asked)
{
    machine &m = the();
    uint64_t given[WARP] = {};
    unsigned votes = 0;
    for (unsigned i = 0; i < WARP && first + i < m.n_threads; i++) {
        given[i] = m.threads[first + i].value;
        if ((asked.mask >> i & 1u) != 0 && given[i] != 0)
            votes |= 1u << i;
    }
    const wait what = asked.waits;
    const unsigned mask = asked.mask;
    for (unsigned i = 0; i < WARP; i++) {
        if ((mask >> i & 1u) == 0)
            continue;
        thread &t = m.threads[first + i];
        if (what == wait::ballot)
            t.value = votes;
        if (what == wait::shuffle && (t.lane < 0 || t.lane >= (int)WARP || (mask >> t.lane & 1u) == 0)) {
            note_fault("thread %u reads lane %d, which is not in mask %08x", first + i, t.lane, mask);
            return;
        }
        if (what == wait::shuffle)
            t.value = given[t.lane];
        t.waits = wait::none;
        m.arrived[first / WARP] &= ~(1u << i);
        m.ready.push_back(first + i);
    }
    if (what == wait::sync)
        m.syncs[first / WARP]++;
    if (what == wait::together) {
        void *lanes[WARP];
        for (unsigned i = 0; i < WARP; i++)
            lanes[i] = reinterpret_cast<void *>(given[i]);
        asked.body(lanes);
    }
}

/* A thread has arrived at a warp function: is it the last one? */
void try_warp(unsigned arrived)
{
    machine &m = the();
    const unsigned first = arrived / WARP * WARP;
    const thread asked = m.threads[arrived];
    unsigned *here = &m.arrived[first / WARP];
    *here |= 1u << (arrived - first);
    if ((*here & asked.mask) != asked.mask)
        return; /* the others may still come; if not, try_barrier says so */
    for (unsigned i = 0; i < WARP; i++) {
        const thread &t = m.threads[first + i];
        if ((asked.mask >> i & 1u) == 0)
            continue;
        if (t.waits != asked.waits || t.mask != asked.mask || t.site.line != asked.site.line ||
            t.site.file != asked.site.file) {
            note_fault(
                "lanes of one warp meet in different functions: thread %u in %s at line %d, thread %u in %s "
                "at line %d",
                arrived, wait_names[(int)asked.waits], asked.site.line, first + i, wait_names[(int)t.waits],
                t.site.line);
            return;
        }
    }
    answer(first, asked);
}

void begin_phase(machine &m)
{
    m.phase++;
    memset(m.syncs, 0, sizeof(m.syncs));
}

/* No thread can run: either all wait at one barrier, or the kernel hangs. */
void try_barrier()
{
    machine &m = the();
    const thread *at = nullptr;
    for (unsigned i = 0; i < m.n_threads; i++) {
        const thread &t = m.threads[i];
        if (t.done)
            continue;
        if (t.waits != wait::barrier) {
            note_fault("thread %u waits in %s at line %d for lanes that never come", i,
                       wait_names[(int)t.waits], t.site.line);
            return;
        }
        if (at && (at->site.line != t.site.line || at->site.file != t.site.file)) {
            note_fault("divergent barrier: some threads wait at line %d, thread %u at line %d", at->site.line,
                       i, t.site.line);
            return;
        }
        at = &t;
    }
    if (m.n_done > 0) {
        note_fault("divergent barrier: %u of %u threads have exited, others wait at line %d", m.n_done,
                   m.n_threads, at->site.line);
        return;
    }
    begin_phase(m);
    for (unsigned i = 0; i < m.n_threads; i++) {
        m.threads[i].waits = wait::none;
        m.ready.push_back(i);
    }
}

void run_block()
{
    machine &m = the();
    memset(m.shared.data(), 0xFF, m.shared_used); /* NaN to a kernel that reads before it writes */
    m.pieces.clear();
    m.shared_used = m.call->shared_bytes;
    m.n_done = 0;
    begin_phase(m);
    m.first_phase = m.phase;
    m.looked = false;
    memset(m.arrived, 0, sizeof(m.arrived));
    m.ready.clear();
    const size_t page = 4096;
    for (unsigned i = 0; i < m.n_threads; i++) {
        m.threads[i] = thread();
        fibre_make(&m.threads[i].at, m.stacks + i * STACK + page, STACK - page, thread_main);
        m.ready.push_back(i);
    }
    while (m.n_done < m.n_threads && m.fault[0] == '\0') {
        if (m.ready.empty()) {
            try_barrier();
            continue;
        }
        const size_t pick = draw(m.ready.size());
        m.current = m.ready[pick];
        m.current_index = split(m.current, m.call->block);
        m.ready[pick] = m.ready.back();
        m.ready.pop_back();
        m.n_switches++;
        fibre_switch(&m.scheduler, &m.threads[m.current].at);
        thread &t = m.threads[m.current];
        if (t.waits == wait::pause) {
            t.waits = wait::none;
            m.ready.push_back(m.current);
        } else if (!t.done && t.waits != wait::barrier && m.fault[0] == '\0') {
            try_warp(m.current);
        }
    }
}

bool make_stacks(machine &m)
{
    if (m.stacks)
        return true;
    void *p = mmap(nullptr, THREADS_MAX * STACK, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return false;
    m.stacks = static_cast<char *>(p);
    for (unsigned i = 0; i < THREADS_MAX; i++)
        mprotect(m.stacks + i * STACK, 4096, PROT_NONE);
    return true;
}

/* Notes the fault of a block with `fixed` bytes of shared arrays beside the dynamic ones. */
bool shared_fits(size_t fixed)
{
    machine &m = the();
    const char *reason = limits_of_shared(fixed, m.call->shared_bytes, m.shared_allowed);
    if (reason)
        note_fault("%zu fixed and %zu dynamic bytes of shared memory: %s", fixed, m.call->shared_bytes,
                   reason);
    return !reason;
}

} // namespace

static void touch(const void *address, size_t bytes, bool is_write);
static void check_aligned(const void *p, size_t bytes, const char *file, uint32_t line);

namespace emu
{

dim3 thread_index()
{
    return the().current_index;
}

dim3 block_index()
{
    return split(the().block, the().call->grid);
}

dim3 block_size()
{
    return the().call->block;
}

dim3 grid_size()
{
    return the().call->grid;
}

void barrier(site at)
{
    wait_here(wait::barrier, at, 0, 0, 0);
}

void warp_sync(site at, unsigned mask)
{
    check_mask(wait::sync, mask);
    wait_here(wait::sync, at, mask, 0, 0);
}

uint64_t shuffle(site at, unsigned mask, uint64_t bits, int lane)
{
    check_mask(wait::shuffle, mask);
    wait_here(wait::shuffle, at, mask, bits, lane);
    return the().threads[the().current].value;
}

uint64_t shuffle_xor(site at, unsigned mask, uint64_t bits, int lane_mask)
{
    return shuffle(at, mask, bits, (int)(the().current % WARP) ^ lane_mask);
}

unsigned ballot(site at, unsigned mask, bool yes)
{
    check_mask(wait::ballot, mask);
    wait_here(wait::ballot, at, mask, yes ? 1 : 0, 0);
    return (unsigned)the().threads[the().current].value;
}

void warp_together(site at, void (*body)(void *const *lanes), void *mine)
{
    machine &m = the();
    if (m.n_threads % WARP != 0) {
        note_fault("an instruction of the whole warp in a block of %u threads", m.n_threads);
        abandon();
    }
    m.threads[m.current].body = body;
    wait_here(wait::together, at, 0xFFFFFFFFu, reinterpret_cast<uint64_t>(mine), 0);
}

cudaError_t allow_shared(const void *kernel, size_t bytes)
{
    return the().permits.set(kernel, bytes) ? cudaSuccess : cudaErrorInvalidValue;
}

void copy_later(void *to, const void *from)
{
    check_aligned(to, 16, "a copy to shared memory", 0);
    check_aligned(from, 16, "a copy to shared memory", 0);
    touch(to, 16, true); /* a chip may write at once: nobody else may be reading what is there */
    thread &t = the().threads[the().current];
    t.copies.push_back({to, from, t.n_groups});
}

void copy_commit()
{
    the().threads[the().current].n_groups++;
}

void copy_wait(unsigned n_pending)
{
    thread &t = the().threads[the().current];
    size_t n = 0;
    for (; n < t.copies.size() && t.copies[n].group + n_pending < t.n_groups; n++) {
        touch(t.copies[n].from, 16, false);
        touch(t.copies[n].to, 16, true);
        memcpy(t.copies[n].to, t.copies[n].from, 16);
    }
    t.copies.erase(t.copies.begin(), t.copies.begin() + (long)n);
}

int atomic_add(int *p, int value)
{
    const int old = *p;
    *p += value;
    return old;
}

unsigned atomic_or(unsigned *p, unsigned value)
{
    const unsigned old = *p;
    *p |= value;
    return old;
}

static void check_word(const void *word)
{
    machine &m = the();
    device_piece piece;
    if (find_device_piece(static_cast<const char *>(word), &piece))
        return;
    note_fault("thread %u uses a flag in host memory", m.current);
    abandon();
}

/* As a slow chip does: what follows the look may come late. */
uint64_t load_acquire(const uint64_t *word)
{
    check_word(word);
    const uint64_t value = __atomic_load_n(word, __ATOMIC_ACQUIRE);
    the().looked = true;
    if (draw(8) == 0)
        device_rest(draw(200));
    return value;
}

void store_release(uint64_t *word, uint64_t value)
{
    machine &m = the();
    check_word(word);
    if (m.writes.has_other(m.current, m.phase)) {
        note_fault("thread %u raises a flag without a barrier after what thread %u wrote", m.current,
                   m.writes.first);
        abandon();
    }
    m.flags.add(m.current, m.phase);
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

uint32_t load_host(const uint32_t *word)
{
    check_word(word);
    return __atomic_load_n(word, __ATOMIC_RELAXED);
}

void pause()
{
    machine &m = the();
    if (!m.call->waits) {
        note_fault("thread %u waits in a launch that must not", m.current);
        abandon();
    }
    device_rest(m.n_pauses++ < 100 ? 0 : 50);
    m.threads[m.current].waits = wait::pause;
    to_scheduler();
}

void *shared_array(const void *site, size_t bytes)
{
    machine &m = the();
    for (const shared_piece &piece : m.pieces) {
        if (piece.site == site)
            return piece.ptr;
    }
    const size_t at = (m.shared_used + 15) & ~(size_t)15;
    if (!shared_fits(at + bytes - m.call->shared_bytes))
        abandon();
    m.shared_used = at + bytes;
    m.pieces.push_back({site, m.shared.data() + at});
    return m.pieces.back().ptr;
}

void *shared_rest(const char *name, size_t bytes)
{
    machine &m = the();
    if (bytes > m.call->shared_bytes) {
        note_fault("dynamic shared array %s needs %zu bytes, the launch gave %zu", name, bytes,
                   m.call->shared_bytes);
        abandon();
    }
    return m.shared.data();
}

void bad_index(const char *name, int64_t i, int64_t n)
{
    note_fault("thread %u: index %lld of shared array %s of %lld", the().current, (long long)i, name,
               (long long)n);
    abandon();
}

cudaError_t run(const kernel_call &call)
{
    machine &m = the();
    const std::lock_guard<std::mutex> alone(m.lock);
    const device_open open;
    const uint64_t n_blocks = limits_volume(call.grid);
    m.fault[0] = '\0';
    m.call = &call;
    m.block = 0;
    m.shared_allowed = m.permits.of(call.kernel);
    if (!limits_hold(call))
        note_fault("a grid of %u x %u x %u blocks of %u x %u x %u threads, which no chip runs", call.grid.x,
                   call.grid.y, call.grid.z, call.block.x, call.block.y, call.block.z);
    if (m.fault[0] != '\0' || !shared_fits(0) || !make_stacks(m))
        return cudaErrorInvalidConfiguration;
    m.n_pauses = 0;
    m.rng = {phx_rng_key(m.seed, m.n_seeded++, 0, 0), 0};
    if (m.phase > UINT32_MAX / 2) { /* no launch has as many barriers as are left */
        m.phase = 0;
        m.writes = m.flags = doers();
        m.global.forget();
        m.shared_by.forget();
    }
    m.global.begin(m.phase + 1);
    memset(m.touched, 0, sizeof(m.touched));
    m.n_threads = (unsigned)limits_volume(call.block);
    m.threads.resize(THREADS_MAX);
    m.shared.resize(SHARED_MAX, (char)0xFF);
    std::vector<unsigned> order(n_blocks);
    for (unsigned i = 0; i < n_blocks; i++) {
        const unsigned other = call.waits ? i : draw(i + 1);
        order[i] = order[other];
        order[other] = i;
    }
    for (size_t i = 0; i < n_blocks && m.fault[0] == '\0'; i++) {
        m.block = order[i];
        run_block();
    }
    return m.fault[0] == '\0' ? cudaSuccess : cudaErrorLaunchFailure;
}

} // namespace emu

void phx_emu_seed(uint64_t seed)
{
    the().seed = seed;
    the().n_seeded = 0;
}

const char *phx_emu_fault(void)
{
    return the().fault;
}

uint64_t phx_emu_switches(void)
{
    return the().n_switches;
}

/* The memory of this or another device, or of the host and open to both, where p lies; NULL: none. */
static const emu::device_piece *piece_at(const char *p)
{
    machine &m = the();
    for (const emu::device_piece &piece : m.touched) {
        if (static_cast<size_t>(p - piece.first) < piece.bytes)
            return &piece;
    }
    emu::device_piece &next = m.touched[m.n_touched % 4];
    if (!emu::find_device_piece(p, &next))
        return nullptr;
    m.n_touched++;
    return &next;
}

/* Order between devices: what a flag tells of has been written, and what others wrote is read after a flag.
 */
static void check_devices(const emu::device_piece *piece, bool is_write)
{
    machine &m = the();
    if (is_write && m.flags.has_other(m.current, m.phase)) {
        note_fault("thread %u writes without a barrier after the flag that thread %u raised", m.current,
                   m.flags.first);
        abandon();
    }
    if (is_write)
        m.writes.add(m.current, m.phase);
    if (m.looked || !piece || !piece->is_elsewhere)
        return;
    note_fault("thread %u %s another device's memory before a look at a flag", m.current,
               is_write ? "writes" : "reads");
    abandon();
}

static void race_in(const char *memory, const char *what, unsigned thread, unsigned block)
{
    note_fault("race in %s memory: thread %u %s without a barrier between (thread %u of block %u)", memory,
               the().current, what, thread, block);
    abandon();
}

static void touch_shared(size_t offset, size_t bytes, bool is_write)
{
    machine &m = the();
    const race_access now = race_of(m.phase, m.current, m.syncs[m.current / WARP]);
    if (bytes > m.shared.size() - offset) {
        note_fault("thread %u: %zu bytes at offset %zu of shared memory", m.current, bytes, offset);
        abandon();
    }
    for (size_t i = 0; i < bytes; i += 4) {
        const char *what = is_write ? m.shared_by.write(offset + i, now) : m.shared_by.read(offset + i, now);
        if (what)
            race_in("shared", what, m.shared_by.other_thread(), m.block);
    }
}

static void touch_global(const char *p, size_t bytes, bool is_write)
{
    machine &m = the();
    const char *args = static_cast<const char *>(m.call->user);
    const bool is_arg = p >= args && p < args + m.call->user_bytes;
    const emu::device_piece *piece = is_arg ? nullptr : piece_at(p);
    if (!is_arg && !piece) {
        note_fault("thread %u %s host memory", m.current, is_write ? "writes" : "reads");
        abandon();
    }
    check_devices(piece, is_write);
    const race_access now = race_of(m.phase, m.current, m.syncs[m.current / WARP]);
    for (size_t i = 0; i < bytes; i += 4) {
        const uintptr_t at = reinterpret_cast<uintptr_t>(p + i);
        const char *what = is_write ? m.global.write(at, now, m.first_phase, m.block)
                                    : m.global.read(at, now, m.first_phase);
        if (what)
            race_in("global", what, m.global.other_thread(), m.global.other_block());
    }
}

static void check_aligned(const void *p, size_t bytes, const char *file, uint32_t line)
{
    if (!inside || reinterpret_cast<uintptr_t>(p) % bytes == 0)
        return;
    note_fault("thread %u: address %p is not aligned to %zu bytes, %s:%u", the().current, p, bytes, file,
               line);
    abandon();
}

/* What -fsanitize=thread makes of the kernels' loads and stores. */
static void touch(const void *address, size_t bytes, bool is_write)
{
    machine &m = the();
    const char *p = static_cast<const char *>(address);
    const size_t offset = static_cast<size_t>(p - m.shared.data());
    if (offset < m.shared.size())
        touch_shared(offset, bytes, is_write);
    else
        touch_global(p, bytes, is_write);
}

/* Most accesses are to a thread's own variables, and some are of host code that was compiled with the hooks.
 */
static inline void hook(const void *address, size_t bytes, bool is_write)
{
    const size_t of_stacks = static_cast<size_t>(static_cast<const char *>(address) - the().stacks);
    if (of_stacks >= THREADS_MAX * STACK && inside)
        touch(address, bytes, is_write);
}

extern "C" {
/* What -fsanitize=alignment calls where an access is not aligned to its type. */
struct ubsan_mismatch {
    const char *file;
    uint32_t line;
    uint32_t column;
    const void *type;
    unsigned char log_alignment;
    unsigned char kind;
};
void __ubsan_handle_type_mismatch_v1(const ubsan_mismatch *what, const void *p);
void __ubsan_handle_type_mismatch_v1(const ubsan_mismatch *what, const void *p)
{
    check_aligned(p, (size_t)1 << what->log_alignment, what->file, what->line);
}

#define HOOKS(n)                             \
    void __tsan_read##n(void *p);            \
    void __tsan_read##n(void *p)             \
    {                                        \
        hook(p, n, false);                   \
    }                                        \
    void __tsan_write##n(void *p);           \
    void __tsan_write##n(void *p)            \
    {                                        \
        hook(p, n, true);                    \
    }                                        \
    void __tsan_unaligned_read##n(void *p);  \
    void __tsan_unaligned_read##n(void *p)   \
    {                                        \
        hook(p, n, false);                   \
    }                                        \
    void __tsan_unaligned_write##n(void *p); \
    void __tsan_unaligned_write##n(void *p)  \
    {                                        \
        hook(p, n, true);                    \
    }
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)
void __tsan_read_range(void *p, size_t n);
void __tsan_read_range(void *p, size_t n)
{
    hook(p, n, false);
}
void __tsan_write_range(void *p, size_t n);
void __tsan_write_range(void *p, size_t n)
{
    hook(p, n, true);
}
void __tsan_init(void);
void __tsan_init(void)
{
}
void __tsan_func_entry(void *);
void __tsan_func_entry(void *)
{
}
void __tsan_func_exit(void);
void __tsan_func_exit(void)
{
}
}
