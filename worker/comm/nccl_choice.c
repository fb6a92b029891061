/* worker/comm/nccl_choice.c - which way an exchange goes: through peers' memory or NCCL, in one shot or two.
 * Owns: the defaults, the measurement at start, the line in the log. The ways add in one order, so the choice
 * changes no bit, and all ranks of a stage choose alike. */
#include <inttypes.h>
#include <stdlib.h>

#include "worker/comm/nccl_state.h"

#define N_TIMED     5u    /* runs per way and size, after one for warming up */
#define TIMED_LEAST 4096u /* bytes; each next size is four times as long */

/* Longer exchanges do not go in one shot, measured or not: the sums of all ranks cost more than the second
 * message, on every interconnect that we know figures of (reference: 128 to 256 KiB). */
#define ONE_SHOT_BYTES_MAX     262144u
#define ONE_SHOT_BYTES_DEFAULT 131072u

static size_t lesser(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* The longest exchange that can go this way at all. */
static size_t most_bytes(const phx_nccl *c, phx_nccl_way way)
{
    const size_t longest = c->base.shape.exchange_bytes;
    const size_t slot = c->peers.on ? lesser(c->peers.slot_bytes, longest) : 0;
    switch (way) {
    case PHX_NCCL_PEERS_ONE_SHOT:
        return lesser(slot, ONE_SHOT_BYTES_MAX);
    case PHX_NCCL_PEERS_TWO_SHOTS:
        return slot;
    case PHX_NCCL_ONE_SHOT:
        return lesser(lesser(c->parts_bytes / c->base.shape.tp, longest), ONE_SHOT_BYTES_MAX);
    case PHX_NCCL_TWO_SHOTS:
    case PHX_NCCL_WAY_COUNT:
        break;
    }
    return longest;
}

phx_nccl_way phx_nccl_way_of(const phx_nccl *c, size_t n_bytes)
{
    for (uint32_t i = 0; i < c->n_limits; i++)
        if (n_bytes <= c->limits[i].n_bytes)
            return c->limits[i].way;
    return PHX_NCCL_TWO_SHOTS;
}

/* Neighbours that go the same way become one. */
static void add_limit(phx_nccl *c, size_t n_bytes, phx_nccl_way way)
{
    phx_nccl_limit *last = c->n_limits ? &c->limits[c->n_limits - 1] : NULL;
    if (n_bytes <= (last ? last->n_bytes : 0))
        return;
    if (!last || last->way != way)
        last = &c->limits[c->n_limits++];
    *last = (phx_nccl_limit){n_bytes, way};
}

void phx_nccl_choose_default(phx_nccl *c)
{
    c->n_limits = 0;
    for (phx_nccl_way way = PHX_NCCL_PEERS_ONE_SHOT; way < PHX_NCCL_TWO_SHOTS; way++)
        add_limit(c,
                  way == PHX_NCCL_PEERS_TWO_SHOTS ? most_bytes(c, way)
                                                  : lesser(most_bytes(c, way), ONE_SHOT_BYTES_DEFAULT),
                  way);
}

/* ---- measuring ---- */

static int compare_us(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

/* Median of some runs, of the slowest rank. */
static phx_code time_way(phx_nccl *c, phx_nccl_way way, float *values, size_t n, uint32_t *ret_us,
                         phx_error *err)
{
    uint32_t us[N_TIMED + 1], all_us[PHX_DEVICE_PEERS_MAX];
    phx_code rc = PHX_OK;
    for (uint32_t i = 0; i <= N_TIMED && rc == PHX_OK; i++)
        rc = phx_nccl_time(c, way, values, n, &us[i], err);
    if (rc != PHX_OK)
        return rc;
    qsort(us + 1, N_TIMED, sizeof(us[0]), compare_us);
    rc = c->under->ops->gather(c->under, &us[1 + N_TIMED / 2], sizeof(us[0]), all_us, err);
    if (rc != PHX_OK)
        return rc;
    qsort(all_us, c->base.shape.tp, sizeof(all_us[0]), compare_us);
    *ret_us = all_us[c->base.shape.tp - 1];
    return PHX_OK;
}

static phx_code time_size(phx_nccl *c, float *values, size_t n_bytes, phx_error *err)
{
    phx_nccl_times *t = &c->times[c->n_times];
    phx_nccl_way best = PHX_NCCL_TWO_SHOTS;
    phx_code rc = PHX_OK;
    t->n_bytes = n_bytes;
    for (phx_nccl_way way = PHX_NCCL_TWO_SHOTS + 1; way-- > 0 && rc == PHX_OK;) { /* equal: the first way */
        t->us[way] = UINT32_MAX;
        if (n_bytes <= most_bytes(c, way))
            rc = time_way(c, way, values, n_bytes / sizeof(float), &t->us[way], err);
        if (t->us[way] <= t->us[best])
            best = way;
    }
    if (rc != PHX_OK)
        return rc;
    c->n_times++;
    add_limit(c, n_bytes, best);
    return PHX_OK;
}

phx_code phx_nccl_measure(phx_nccl *c, phx_error *err)
{
    size_t longest = most_bytes(c, PHX_NCCL_ONE_SHOT), n_bytes = 0;
    void *values = NULL;
    phx_error cause = {0};
    if (longest < most_bytes(c, PHX_NCCL_PEERS_TWO_SHOTS))
        longest = most_bytes(c, PHX_NCCL_PEERS_TWO_SHOTS);
    phx_code rc = c->device->alloc(c->device->user, longest, &values, &cause);
    if (rc != PHX_OK)
        return phx_nccl_fail_as(c, &cause, err);
    c->n_limits = 0;
    while (n_bytes < longest && c->n_times < PHX_NCCL_TIMES && rc == PHX_OK) {
        n_bytes = lesser(n_bytes ? 4 * n_bytes : TIMED_LEAST, longest);
        rc = time_size(c, values, n_bytes, err);
    }
    if (!c->stuck)
        c->device->release(c->device->user, values);
    return rc;
}

/* ---- telling ---- */

phx_code phx_nccl_describe_choice(const phx_nccl *c, phx_buf *buf)
{
    static const char *const names[PHX_NCCL_WAY_COUNT] = {
        "peers' memory in one shot", "peers' memory in two shots", "NCCL in one shot", "NCCL in two shots"};
    const bool is_last = c->n_limits && c->limits[c->n_limits - 1].n_bytes >= c->base.shape.exchange_bytes;
    if (!c->peers.on)
        (void)phx_buf_printf(buf, "; no peers' memory (%s)", c->peers.reason);
    (void)phx_buf_str(buf, "; exchange by ");
    for (uint32_t i = 0; i < c->n_limits; i++)
        (void)phx_buf_printf(buf, "%s%s up to %zu bytes", i ? ", " : "", names[c->limits[i].way],
                             c->limits[i].n_bytes);
    if (!is_last)
        (void)phx_buf_printf(buf, "%s%s%s", c->n_limits ? ", " : "", names[PHX_NCCL_TWO_SHOTS],
                             c->n_limits ? " above" : "");
    if (c->n_times)
        (void)phx_buf_str(buf, ", as measured (peers one, two shots, NCCL one, two shots; us):");
    for (uint32_t i = 0; i < c->n_times; i++) {
        (void)phx_buf_printf(buf, "%s %zu B", i ? ";" : "", c->times[i].n_bytes);
        for (phx_nccl_way way = 0; way < PHX_NCCL_WAY_COUNT; way++)
            (void)(c->times[i].us[way] == UINT32_MAX ? phx_buf_str(buf, " -")
                                                     : phx_buf_printf(buf, " %" PRIu32, c->times[i].us[way]));
    }
    return buf->code;
}
