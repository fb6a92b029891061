/* worker/comm/nccl_peers.c - exchange through memory that the devices of one host reach of each other, beside
 * NCCL's. Owns: who offers what to whom, the agreement of a stage that it works, its end. The kernels are the
 * device's (kernels/device.h); when this way is taken is nccl_choice.c's. */
#include "worker/comm/nccl_state.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define STAGE_RANKS_MAX PHX_DEVICE_PEERS_MAX

typedef struct verdict { /* of one rank about one step */
    uint32_t good;
    char reason[PHX_NCCL_REASON_BYTES];
} verdict;

typedef struct card { /* what a rank tells the others of its stage */
    verdict offers;
    char host[64]; /* names the running kernel: a handle means nothing under another */
    phx_device_offer offer;
} card;

static phx_code offer_room(phx_nccl *c, card *ret_card, phx_error *err);
static phx_code open_rooms(phx_nccl *c, const card *cards, phx_error *err);
static phx_code agree(phx_nccl *c, const verdict *mine, bool *ret_good, phx_error *err);
static void close_rooms(phx_nccl *c);

static verdict verdict_of(phx_code rc, const phx_error *cause)
{
    verdict v = {.good = rc == PHX_OK};
    (void)snprintf(v.reason, sizeof(v.reason), "%.199s", rc == PHX_OK ? "" : cause->text);
    return v;
}

size_t phx_nccl_slot_bytes(const phx_comm_shape *shape)
{
    const size_t longest =
        shape->exchange_bytes < PHX_NCCL_PEER_BYTES_MAX ? shape->exchange_bytes : PHX_NCCL_PEER_BYTES_MAX;
    return shape->tp > 1 ? (longest + 15) / 16 * 16 : 0;
}

/* Every rank of the stage takes the same steps, whatever it finds: a failure of one is told to all, and then
 * none takes this way. Only a failure of the group fails. */
phx_code phx_nccl_meet_peers(phx_nccl *c, phx_error *err)
{
    card mine, all[STAGE_RANKS_MAX];
    phx_error cause = {0};
    bool good = false;
    memset(&mine, 0, sizeof(mine)); /* with what lies between its fields */
    phx_code rc = offer_room(c, &mine, &cause);
    mine.offers = verdict_of(rc, &cause);
    rc = c->under->ops->gather(c->under, &mine, sizeof(mine), all, err);
    if (rc == PHX_OK)
        rc = agree(c, &mine.offers, &good, err);
    if (rc != PHX_OK)
        return rc;
    if (good) {
        const phx_code opened = open_rooms(c, all, &cause);
        const verdict opens = verdict_of(opened, &cause);
        rc = agree(c, &opens, &good, err);
    }
    c->peers.on = rc == PHX_OK && good;
    if (rc != PHX_OK || good)
        return rc;
    close_rooms(c);
    rc = phx_gather(c->under, &mine.offers.good, 1, all, err); /* nobody has it open any more */
    if (rc == PHX_OK)
        phx_nccl_release_peers(c);
    return rc;
}

/* card->host was all zeros. */
static phx_code host_of(card *ret_card, phx_error *err)
{
    static const char path[] = "/proc/sys/kernel/random/boot_id";
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    const ssize_t n = fd < 0 ? -1 : read(fd, ret_card->host, sizeof(ret_card->host));
    if (fd >= 0)
        (void)close(fd);
    return n > 0 ? PHX_OK : PHX_FAIL(err, PHX_ERR_UNAVAILABLE, "%s cannot be read", path);
}

static phx_code offer_room(phx_nccl *c, card *ret_card, phx_error *err)
{
    const phx_device *d = c->device;
    const uint32_t tp_rank = c->base.shape.rank - c->first;
    if (c->peers.forbidden)
        return PHX_FAIL(err, PHX_ERR_UNAVAILABLE, "peer access is switched off by NCCL_P2P_DISABLE");
    if (!d->peers)
        return PHX_FAIL(err, PHX_ERR_UNAVAILABLE, "this device shares no memory");
    phx_code rc = host_of(ret_card, err);
    if (rc == PHX_OK)
        rc = d->peers->alarm_create(d->user, &c->peers.alarm, err);
    if (rc == PHX_OK)
        rc = d->peers->offer(d->user, phx_device_room_bytes(c->peers.slot_bytes), &c->peers.rooms[tp_rank],
                             &ret_card->offer, err);
    return rc;
}

static phx_code open_rooms(phx_nccl *c, const card *cards, phx_error *err)
{
    const phx_device *d = c->device;
    const uint32_t tp_rank = c->base.shape.rank - c->first;
    phx_code rc = PHX_OK;
    for (uint32_t r = 0; r < c->base.shape.tp && rc == PHX_OK; r++) {
        phx_device_offer offer = cards[r].offer;
        offer.where[sizeof(offer.where) - 1] = '\0';
        if (r == tp_rank)
            continue;
        if (memcmp(cards[r].host, cards[tp_rank].host, sizeof(cards[r].host)) != 0)
            return PHX_FAIL(err, PHX_ERR_UNAVAILABLE, "rank %" PRIu32 " is on another host", c->first + r);
        phx_error cause = {0};
        rc = d->peers->open(d->user, &offer, &c->peers.rooms[r], &cause);
        if (rc != PHX_OK)
            return PHX_FAIL(err, rc, "rank %" PRIu32 ": %.120s", c->first + r, cause.text);
    }
    return rc;
}

/* Good when all say so; else the first rank's reason is everybody's. */
static phx_code agree(phx_nccl *c, const verdict *mine, bool *ret_good, phx_error *err)
{
    verdict all[STAGE_RANKS_MAX];
    const phx_code rc = c->under->ops->gather(c->under, mine, sizeof(*mine), all, err);
    if (rc != PHX_OK)
        return rc;
    *ret_good = true;
    for (uint32_t r = c->base.shape.tp; r-- > 0;) {
        all[r].reason[sizeof(all[r].reason) - 1] = '\0';
        if (all[r].good)
            continue;
        *ret_good = false;
        (void)snprintf(c->peers.reason, sizeof(c->peers.reason), "rank %" PRIu32 ": %.150s", c->first + r,
                       all[r].reason);
    }
    return PHX_OK;
}

phx_code phx_nccl_peers_exchange(phx_nccl *c, float *values, size_t n, bool in_two_shots, phx_error *err)
{
    phx_device_exchange what = {
        .values = values,
        .n = n,
        .slot_bytes = c->peers.slot_bytes,
        .n_ranks = c->base.shape.tp,
        .rank = c->base.shape.rank - c->first,
        .in_two_shots = in_two_shots,
        .alarm = c->peers.alarm,
    };
    memcpy(what.rooms, c->peers.rooms, sizeof(what.rooms));
    return c->device->peers->exchange(c->device->user, c->stream, &what, err);
}

/* ---- ending ---- */

void phx_nccl_alarm(phx_nccl *c)
{
    if (c->peers.alarm)
        __atomic_store_n(c->peers.alarm, 1, __ATOMIC_SEQ_CST);
}

static void close_rooms(phx_nccl *c)
{
    const uint32_t tp_rank = c->base.shape.rank - c->first;
    for (uint32_t r = 0; r < c->base.shape.tp; r++) {
        if (r == tp_rank || !c->peers.rooms[r])
            continue;
        c->device->peers->close(c->device->user, c->peers.rooms[r]);
        c->peers.rooms[r] = NULL;
    }
}

void phx_nccl_leave_peers(phx_nccl *c)
{
    phx_error ignored = {0};
    uint8_t all[STAGE_RANKS_MAX] = {0};
    if (!c->peers.on)
        return;
    c->peers.on = false;
    const bool all_leave =
        !c->gave_up && phx_nccl_peers_exchange(c, NULL, 0, false, &ignored) == PHX_OK && phx_nccl_drain(c);
    phx_nccl_alarm(c);
    c->stuck = false; /* the alarm ends what is queued */
    if (!phx_nccl_drain(c) || !all_leave)
        return;
    close_rooms(c);
    c->peers.closed = phx_gather(c->under, &c->peers.on, 1, all, &ignored) == PHX_OK;
}

/* What somebody may still have open stays: the driver takes it back with the process, which ends soon. */
void phx_nccl_release_peers(phx_nccl *c)
{
    const phx_device *d = c->device;
    const uint32_t tp_rank = c->base.shape.rank - c->first;
    if (!d->peers)
        return;
    d->release(d->user, c->peers.rooms[tp_rank]);
    d->peers->alarm_destroy(d->user, c->peers.alarm);
    c->peers.rooms[tp_rank] = NULL;
    c->peers.alarm = NULL;
}
