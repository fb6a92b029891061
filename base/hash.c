/* base/hash.c - BLAKE2b-256 and secrets, by libsodium. */
#include "base/hash.h"

#include <assert.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

static_assert(sizeof(crypto_generichash_state) <= sizeof(((phx_hasher *)0)->state), "hasher state too small");

static crypto_generichash_state *state_of(phx_hasher *hasher)
{
    return (crypto_generichash_state *)(void *)hasher->state;
}

void phx_hasher_init(phx_hasher *hasher)
{
    const int rc = sodium_init();
    assert(rc >= 0);
    (void)crypto_generichash_init(state_of(hasher), NULL, 0, PHX_HASH_BYTES);
}

void phx_hasher_add(phx_hasher *hasher, const void *ptr, size_t n)
{
    (void)crypto_generichash_update(state_of(hasher), ptr, n);
}

void phx_hasher_add_u64(phx_hasher *hasher, uint64_t value)
{
    uint8_t bytes[8];
    for (unsigned i = 0; i < 8; i++)
        bytes[i] = (uint8_t)(value >> (8 * i));
    phx_hasher_add(hasher, bytes, sizeof(bytes));
}

void phx_hasher_add_text(phx_hasher *hasher, const char *text)
{
    const size_t n = strlen(text);
    phx_hasher_add_u64(hasher, n);
    phx_hasher_add(hasher, text, n);
}

phx_hash phx_hasher_final(phx_hasher *hasher)
{
    phx_hash hash;
    (void)crypto_generichash_final(state_of(hasher), hash.bytes, sizeof(hash.bytes));
    return hash;
}

phx_hash phx_hash_of(const void *ptr, size_t n)
{
    phx_hasher hasher;
    phx_hasher_init(&hasher);
    phx_hasher_add(&hasher, ptr, n);
    return phx_hasher_final(&hasher);
}

bool phx_hash_eq(const phx_hash *a, const phx_hash *b)
{
    return sodium_memcmp(a->bytes, b->bytes, PHX_HASH_BYTES) == 0;
}

void phx_hash_hex(const phx_hash *hash, size_t n_chars, char *ret_text)
{
    static const char digits[] = "0123456789abcdef";
    assert(n_chars <= 2 * PHX_HASH_BYTES);
    for (size_t i = 0; i < n_chars; i++)
        ret_text[i] = digits[(hash->bytes[i / 2] >> (i % 2 ? 0 : 4)) & 15];
    ret_text[n_chars] = 0;
}

void phx_random_bytes(void *ptr, size_t n)
{
    const int rc = sodium_init();
    assert(rc >= 0);
    randombytes_buf(ptr, n);
}

void phx_secret_wipe(void *ptr, size_t n)
{
    sodium_memzero(ptr, n);
}
