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

typedef phx_code reader(phx_bytes text, phx_json_limits limits, phx_json **ret_root, phx_error *err);

/* What is written reads back, and is then written the same. */
static void check_again(reader *read, const phx_buf *text, const phx_buf *want)
{
    phx_json *root = NULL;
    phx_error err = {0};
    phx_buf out;
    fuzz_must(read(bytes_of(text), PHX_JSON_LIMITS_FILE, &root, &err), &err);
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

/* Is there a real past double? Python prints Infinity for it, which is no JSON. */
static bool has_infinity(const phx_json *node)
{
    phx_str literal;
    bool found = phx_json_as_literal(node, &literal) && phx_json_kind_of(node) == PHX_JSON_REAL;
    for (size_t i = 0; !found && phx_json_kind_of(node) == PHX_JSON_ARRAY && i < phx_json_count(node); i++)
        found = has_infinity(phx_json_at(node, i));
    if (phx_json_kind_of(node) != PHX_JSON_OBJECT)
        return found;
    for (phx_json_member it = phx_json_first(node); !found && it.value; it = phx_json_next(node, it))
        found = has_infinity(it.value);
    return found;
}

/* The loose reader takes all that the other takes, and reads it the same. */
static void check_loose(phx_bytes text, const phx_buf *strict)
{
    phx_json *root = NULL;
    phx_error err = {0};
    phx_buf compact;
    const phx_code rc = phx_json_parse_loose(text, PHX_JSON_LIMITS_REQUEST, &root, &err);
    if (rc != PHX_OK) {
        fuzz_check_refusal(rc, &err);
        FUZZ_CHECK(root == NULL && !strict);
        return;
    }
    write_compact(root, &compact);
    FUZZ_CHECK(!strict || phx_str_eq(phx_buf_view(&compact), phx_buf_view(strict)));
    check_again(phx_json_parse_loose, &compact, &compact);
    phx_buf_done(&compact);
    phx_json_destroy(root);
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
        check_loose((phx_bytes){data, n_bytes}, NULL);
        return 0;
    }
    phx_buf compact;
    phx_buf python;
    write_compact(root, &compact);
    check_again(phx_json_parse, &compact, &compact);
    check_loose((phx_bytes){data, n_bytes}, &compact);
    phx_buf_init(&python, OUT_BYTES_MAX);
    FUZZ_CHECK(phx_pyjson_node(&python, root) == PHX_OK);
    if (has_infinity(root))
        FUZZ_CHECK(memmem(python.ptr, python.n, "Infinity", 8) != NULL);
    else
        check_again(phx_json_parse, &python, &compact);
    phx_buf_done(&python);
    phx_buf_done(&compact);
    phx_json_destroy(root);
    return 0;
}
