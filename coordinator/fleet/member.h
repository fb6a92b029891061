/* coordinator/fleet/member.h - what the coordinator knows of one rank.
 * Owns: the fields of a member and the questions asked over all of them. Used by fleet.c alone. */
#ifndef PHX_COORDINATOR_FLEET_MEMBER_H
#define PHX_COORDINATOR_FLEET_MEMBER_H

#include "model/plan.h"
#include "proto/codec.h"
#include "proto/link.h"

#define PHX_MEMBER_CPUS_MAX 256u

typedef struct phx_member {
    bool known; /* has said hello */
    bool ready;
    uint32_t rank;
    phx_peer peer;
    char host[256];
    char level[16];        /* of the CPU */
    char device_level[16]; /* "" without a device */
    char device[512];      /* what it is, or why there is none */
    uint64_t device_bytes;
    char state[16]; /* "starting", "loading", "checking", "ready", "lost" */
    uint32_t pid;
    uint32_t n_cpus;
    uint32_t n_ranks_on_host;
    uint64_t memory_bytes;
    uint64_t heard_us; /* on fleet.c's clock, which sets it */
    uint64_t done_bytes;
    uint64_t total_bytes;
    uint64_t n_steps;
    uint64_t n_verbs;
    uint64_t done_step; /* last step that it answered: all of the reporting rank, those that capture of the
                           others */
    uint64_t resident_bytes;
    uint64_t exchange_bytes;
    uint64_t n_replays;
    Phalanx__RankStatus status;
    Phalanx__RankStatus *status_list[PHX_RANKS_MAX]; /* used of member 0 */
} phx_member;

void phx_member_greet(phx_member *member, const phx_peer *peer, const Phalanx__Hello *hello);
void phx_member_progress(phx_member *member, const Phalanx__Progress *progress);

/* Fills what the request leaves open from what all ranks can do: the backend ("auto": the device that all
 * have, else the CPU, and one line says why), there the highest common kernel level (not above the one asked
 * for), threads, memory. PHX_ERR_UNSUPPORTED when the level asked for is above a rank's, or the memory
 * above what a rank's device has free; PHX_ERR_UNAVAILABLE when a rank lacks the backend asked for. */
phx_code phx_member_agree(const phx_member *members, uint32_t n, const char *backend,
                          phx_plan_request *request, phx_error *err);

/* Processors for the compute threads of a rank: its own consecutive ones when the host has enough for all its
 * ranks, else none (the kernel schedules). Returns how many. */
size_t phx_member_cpus(const phx_member *members, uint32_t rank, uint32_t n_threads, uint32_t *ret_cpus);

uint32_t phx_member_slowest(const phx_member *members, uint32_t n); /* fewest collectives finished */

/* Only for ranks on this host; others end with their launcher. A zombie counts as gone. */
bool phx_member_alive(const phx_member *member);
void phx_member_kill(const phx_member *member);

Phalanx__RankStatus **phx_member_status(phx_member *members, uint32_t n, const phx_plan *plan);

#endif
