/* tests/fuzz/fuzz_json.c - JSON read, written and read again; both writers. */
#include "tests/fuzz/fuzz.h"

#include "base/json.h"
#include "coordinator/text/pyjson.h"

#define OUT_BYTES_MAX (64u << 20)

static phx_bytes bytes_of(const phx_buf *buf)
{
    return (phx_bytes){(const uint8_t *)buf->ptr, buf->n};
}

static void write_compact(const phx_json *root, phx_buf *out)
{
    phx_json_writer w;
    phx_buf_init(out, OUT_BYTES_MAX);
    phx_json_writer_init(&w, out);
    phx_json_node(&w, root);
    FUZZ_CHECK(out->code == PHX_OK);
    FUZZ_CHECK(phx_utf8_valid(out->ptr, out->n));
}

/* What is written reads back, and is then written the same. */
static void check_again(const phx_buf *text, const phx_buf *want)
{
    phx_json *root = NULL;
    phx_error err = {0};
    phx_buf out;
    fuzz_must(phx_json_parse(bytes_of(text), PHX_JSON_LIMITS_FILE, &root, &err), &err);
    write_compact(root, &out);
    FUZZ_CHECK(phx_str_eq(phx_buf_view(&out), phx_buf_view(want)));
    phx_buf_done(&out);
    phx_json_destroy(root);
}

/* Any bytes as a string: the writer makes them valid. */
static void check_string(phx_str value)
{
    phx_json *root = NULL;
    phx_error err = {0};
    phx_buf out;
    phx_json_writer w;
    phx_str back = {0};
    phx_buf_init(&out, OUT_BYTES_MAX);
    phx_json_writer_init(&w, &out);
    phx_json_str(&w, value);
    FUZZ_CHECK(out.code == PHX_OK);
    if (memchr(value.ptr ? value.ptr : "", 0, value.n) == NULL) { /* the reader refuses NUL */
        fuzz_must(phx_json_parse(bytes_of(&out), PHX_JSON_LIMITS_FILE, &root, &err), &err);
        FUZZ_CHECK(phx_json_as_str(root, &back));
        if (phx_utf8_valid(value.ptr, value.n))
            FUZZ_CHECK(phx_str_eq(back, value));
        phx_json_destroy(root);
    }
    phx_buf_clear(&out);
    FUZZ_CHECK(phx_pyjson_str(&out, value) == PHX_OK);
    FUZZ_CHECK(phx_utf8_valid(out.ptr, out.n));
    phx_buf_done(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    phx_json *root = NULL;
    phx_error err = {0};
    const phx_code rc = phx_json_parse((phx_bytes){data, n_bytes}, PHX_JSON_LIMITS_REQUEST, &root, &err);
    check_string((phx_str){(const char *)data, n_bytes});
    if (rc != PHX_OK) {
        fuzz_check_refusal(rc, &err);
        FUZZ_CHECK(root == NULL);
        return 0;
    }
    phx_buf compact;
    phx_buf python;
    write_compact(root, &compact);
    check_again(&compact, &compact);
    phx_buf_init(&python, OUT_BYTES_MAX);
    FUZZ_CHECK(phx_pyjson_node(&python, root) == PHX_OK);
    check_again(&python, &compact);
    phx_buf_done(&python);
    phx_buf_done(&compact);
    phx_json_destroy(root);
    return 0;
}
