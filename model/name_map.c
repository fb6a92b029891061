/* model/name_map.c - open addressing with linear probing over a keyed hash. */
#include "model/name_map.h"

#include <assert.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "base/rng.h"

phx_code phx_name_map_init(phx_name_map *map, size_t n_names_max, phx_error *err)
{
    size_t n_slots = 16;
    while (n_slots / 3 * 2 <= n_names_max)
        n_slots *= 2;
    phx_name_slot *slots = phx_alloc(n_slots, sizeof(*slots));
    if (!slots)
        return PHX_FAIL(err, PHX_ERR_NOMEM, "name table of %zu entries", n_names_max);
    *map = (phx_name_map){slots, n_slots, 0, 0};
    phx_random_bytes(&map->key, sizeof(map->key));
    return PHX_OK;
}

void phx_name_map_done(phx_name_map *map)
{
    phx_free(map->slots);
    *map = (phx_name_map){0};
}

static uint64_t hash_name(uint64_t key, phx_str name)
{
    uint64_t hash = phx_rng_mix(key ^ name.n);
    for (size_t at = 0; at < name.n; at += sizeof(uint64_t)) {
        uint64_t word = 0;
        const size_t left = name.n - at;
        memcpy(&word, name.ptr + at, left < sizeof(word) ? left : sizeof(word));
        hash = phx_rng_mix(hash ^ word);
    }
    return hash;
}

/* The slot that holds the name, or the free one where it would go. */
static size_t slot_of(const phx_name_map *map, phx_str name)
{
    size_t at = (size_t)hash_name(map->key, name) & (map->n_slots - 1);
    while (map->slots[at].name.ptr && !phx_str_eq(map->slots[at].name, name))
        at = (at + 1) & (map->n_slots - 1);
    return at;
}

bool phx_name_map_add(phx_name_map *map, phx_str name, uint32_t value)
{
    assert(name.ptr);
    const size_t at = slot_of(map, name);
    if (map->slots[at].name.ptr)
        return false;
    assert(map->n_names + 1 < map->n_slots);
    map->slots[at] = (phx_name_slot){name, value};
    map->n_names++;
    return true;
}

bool phx_name_map_find(const phx_name_map *map, phx_str name, uint32_t *ret_value)
{
    if (map->n_slots == 0)
        return false;
    const size_t at = slot_of(map, name);
    if (!map->slots[at].name.ptr)
        return false;
    *ret_value = map->slots[at].value;
    return true;
}
