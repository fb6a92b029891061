/* model/name_map.h - tensor names to numbers: 200 thousand names per file need a hash table.
 * Owns: the slots. Names are borrowed and must outlive the map. The hash is keyed at random per map, so that
 * no file can be made whose names all collide. */
#ifndef PHX_MODEL_NAME_MAP_H
#define PHX_MODEL_NAME_MAP_H

#include "base/status.h"
#include "base/str.h"

typedef struct phx_name_slot {
    phx_str name; /* ptr NULL: free */
    uint32_t value;
} phx_name_slot;

typedef struct phx_name_map {
    phx_name_slot *slots; /* [n_slots] */
    size_t n_slots;       /* power of two, more than 1.5 n_names */
    size_t n_names;
    uint64_t key;
} phx_name_map;

/* Room for n_names_max names. */
phx_code phx_name_map_init(phx_name_map *map, size_t n_names_max, phx_error *err);
void phx_name_map_done(phx_name_map *map); /* a zeroed map is fine */

/* False when the name is there already (the map is unchanged). Adding beyond the room is our mistake. */
bool phx_name_map_add(phx_name_map *map, phx_str name, uint32_t value);
bool phx_name_map_find(const phx_name_map *map, phx_str name, uint32_t *ret_value);

#endif
