/* coordinator/sched/requests.c - the queue, events, and how a request ends. */
#include <assert.h>

#include "base/alloc.h"
#include "coordinator/sched/state.h"

void phx_sched_queue_append(phx_sched *sched, uint32_t request)
{
    phx_sched_req *req = &sched->requests[request];
    req->life = PHX_SCHED_QUEUED;
    req->prev = sched->queue_last;
    req->next = PHX_SCHED_NONE;
    if (sched->queue_last != PHX_SCHED_NONE)
        sched->requests[sched->queue_last].next = request;
    else
        sched->queue_first = request;
    sched->queue_last = request;
    sched->n_queued++;
    sched->n_queued_tokens += req->n_prompt;
}

void phx_sched_queue_prepend(phx_sched *sched, uint32_t request)
{
    phx_sched_req *req = &sched->requests[request];
    req->life = PHX_SCHED_QUEUED;
    req->prev = PHX_SCHED_NONE;
    req->next = sched->queue_first;
    if (sched->queue_first != PHX_SCHED_NONE)
        sched->requests[sched->queue_first].prev = request;
    else
        sched->queue_last = request;
    sched->queue_first = request;
    sched->n_queued++;
    sched->n_queued_tokens += req->n_prompt;
}

void phx_sched_queue_remove(phx_sched *sched, uint32_t request)
{
    phx_sched_req *req = &sched->requests[request];
    assert(req->life == PHX_SCHED_QUEUED);
    if (req->prev != PHX_SCHED_NONE)
        sched->requests[req->prev].next = req->next;
    else
        sched->queue_first = req->next;
    if (req->next != PHX_SCHED_NONE)
        sched->requests[req->next].prev = req->prev;
    else
        sched->queue_last = req->prev;
    req->prev = req->next = PHX_SCHED_NONE;
    sched->n_queued--;
    sched->n_queued_tokens -= req->n_prompt;
}

/* There is always room: submit and tick keep a place for everything that can still be said. */
phx_sched_event *phx_sched_event_push(phx_sched *sched)
{
    assert(sched->n_events < sched->n_events_max);
    phx_sched_event *event = &sched->events[(sched->event_first + sched->n_events) % sched->n_events_max];
    sched->n_events++;
    return event;
}

void phx_sched_req_end(phx_sched *sched, uint32_t request, phx_end_reason reason)
{
    phx_sched_req *req = &sched->requests[request];
    assert(req->life != PHX_SCHED_ABSENT);
    *phx_sched_event_push(sched) = (phx_sched_event){
        .kind = PHX_EVENT_END,
        .id = req->id,
        .reason = reason,
        .n_prompt = req->n_prompt,
        .n_cached = req->n_cached,
    };
    if (req->life == PHX_SCHED_QUEUED)
        phx_sched_queue_remove(sched, request);
    else
        phx_sched_slot_leave(sched, req->slot);
    phx_free(req->memory);
    *req = (phx_sched_req){0};
    sched->n_living--;
}

void phx_sched_expire(phx_sched *sched, uint64_t now_us)
{
    for (uint32_t i = 0; i < sched->n_requests; i++) {
        const phx_sched_req *req = &sched->requests[i];
        if (req->life != PHX_SCHED_ABSENT && req->deadline_us != 0 && req->deadline_us <= now_us)
            phx_sched_req_end(sched, i, PHX_END_DEADLINE);
    }
}

void phx_sched_req_keys(phx_sched_req *req, uint32_t n)
{
    assert(n <= req->n_known / PHX_BLOCK_TOKENS);
    for (; req->n_keys < n; req->n_keys++) {
        const uint32_t at = req->n_keys;
        req->keys[at] = phx_kv_blocks_key(at == 0 ? NULL : &req->keys[at - 1], req->cache_salt,
                                          req->tokens + (size_t)at * PHX_BLOCK_TOKENS, PHX_BLOCK_TOKENS);
    }
}
