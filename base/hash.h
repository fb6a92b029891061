/* base/hash.h - BLAKE2b-256 of libsodium (which libzmq already brings) for plans, keys and cache chains.
 * Owns: the only include of sodium.h. */
#ifndef PHX_BASE_HASH_H
#define PHX_BASE_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PHX_HASH_BYTES 32u

typedef struct phx_hash {
    uint8_t bytes[PHX_HASH_BYTES];
} phx_hash;

typedef struct phx_hasher {
    _Alignas(64) uint8_t state[384]; /* crypto_generichash_state */
} phx_hasher;

void phx_hasher_init(phx_hasher *hasher);
void phx_hasher_add(phx_hasher *hasher, const void *ptr, size_t n);
void phx_hasher_add_u64(phx_hasher *hasher, uint64_t value); /* little endian */
void phx_hasher_add_text(phx_hasher *hasher,
                         const char *text); /* with its length, so that ab,c differs from a,bc */
phx_hash phx_hasher_final(phx_hasher *hasher);

phx_hash phx_hash_of(const void *ptr, size_t n);
bool phx_hash_eq(const phx_hash *a, const phx_hash *b);                  /* constant time */
void phx_hash_hex(const phx_hash *hash, size_t n_chars, char *ret_text); /* n_chars <= 64, plus terminator */

void phx_random_bytes(void *ptr, size_t n); /* from the kernel: keys, request ids */
void phx_secret_wipe(void *ptr, size_t n);

#endif
