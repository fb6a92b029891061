/* tests/fuzz/fuzz_keys.c - the two kinds of key files: of control links and of the API. */
#include "tests/fuzz/fuzz.h"

#include "coordinator/http/keys.h"
#include "proto/link.h"

static void check_link_keys(const char *path)
{
    phx_link_keys keys;
    phx_link_keys again;
    phx_error err = {0};
    char copy[4200];
    const phx_code rc = phx_link_keys_read(path, &keys, &err);
    if (rc != PHX_OK) {
        fuzz_check_refusal(rc, &err);
        return;
    }
    FUZZ_CHECK(strlen(keys.server_public) == 40);
    FUZZ_CHECK(strlen(keys.client_public) == 40);
    FUZZ_CHECK(strlen(keys.client_secret) == 40);
    FUZZ_CHECK(keys.server_secret[0] == 0);
    FUZZ_CHECK(phx_str_copy(copy, sizeof(copy), phx_str_of(path)));
    (void)fuzz_file("keys", (phx_bytes){0});
    fuzz_must(phx_link_keys_write(&keys, copy, &err), &err);
    fuzz_must(phx_link_keys_read(copy, &again, &err), &err);
    FUZZ_CHECK(strcmp(keys.server_public, again.server_public) == 0);
    FUZZ_CHECK(strcmp(keys.client_public, again.client_public) == 0);
    FUZZ_CHECK(strcmp(keys.client_secret, again.client_secret) == 0);
}

static void check_http_keys(const char *path, phx_str text)
{
    phx_http_keys *keys = NULL;
    phx_error err = {0};
    const phx_code rc = phx_http_keys_load(path, &keys, &err);
    if (rc != PHX_OK) {
        fuzz_check_refusal(rc, &err);
        FUZZ_CHECK(keys == NULL);
        return;
    }
    const size_t n = phx_http_keys_count(keys);
    FUZZ_CHECK(n >= 1 && n <= PHX_HTTP_KEYS_MAX);
    FUZZ_CHECK(phx_http_keys_find(keys, text) <= n);
    FUZZ_CHECK(phx_http_keys_find(keys, (phx_str){text.ptr, text.n / 2}) <= n);
    phx_http_keys_destroy(keys);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    const char *path = fuzz_file("keys", (phx_bytes){data, n_bytes});
    check_http_keys(path, (phx_str){(const char *)data, n_bytes});
    check_link_keys(path);
    return 0;
}
