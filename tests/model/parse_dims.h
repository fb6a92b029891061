/* tests/model/parse_dims.h - dimensions from the text of a config.json, for tests of them. */
#ifndef PHX_TESTS_MODEL_PARSE_DIMS_H
#define PHX_TESTS_MODEL_PARSE_DIMS_H

#include <string.h>

#include "base/json.h"
#include "model/dims.h"
#include "tests/model/testing.h"

static inline phx_code parse(const char *text, phx_dims *ret_dims, phx_error *err)
{
    phx_json *root = NULL;
    phx_code rc =
        phx_json_parse((phx_bytes){(const uint8_t *)text, strlen(text)}, PHX_JSON_LIMITS_REQUEST, &root, err);
    if (rc == PHX_OK)
        rc = phx_dims_parse(root, ret_dims, err);
    phx_json_destroy(root);
    return rc;
}

static inline phx_dims parse_ok(const char *text)
{
    phx_error err = {0};
    phx_dims dims;
    must(parse(text, &dims, &err), &err);
    return dims;
}

#endif
