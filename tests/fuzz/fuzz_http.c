/* tests/fuzz/fuzz_http.c - bytes of a connection: the same requests however they are cut.
 * Input: 1 byte of cuts, the rest the bytes. */
#include "tests/fuzz/fuzz.h"

#include <stdio.h>

#include "coordinator/http/guard.h"
#include "coordinator/http/parse.h"

#define LOG_BYTES_MAX (64u << 20)

static void log_span(const phx_http_parser *p, const char *name, phx_http_span span, phx_buf *log)
{
    const phx_str text = phx_http_parser_view(p, span);
    (void)phx_buf_printf(log, "%s=%zu:", name, text.n);
    (void)phx_buf_append(log, text.ptr, text.n);
}

/* Header values go through the judgements that a connection makes of them. */
static void check_guards(const phx_http_parser *p)
{
    const phx_str host = phx_http_parser_header(p, "host");
    const phx_str origin = phx_http_parser_header(p, "origin");
    const char *const extra[] = {"example.org"};
    phx_http_address address;
    phx_error err = {0};
    char text[300];
    (void)phx_http_host_allowed(host, extra, 1);
    (void)phx_http_origin_is_own(origin, host);
    (void)phx_http_type_is_json(phx_http_parser_header(p, "content-type"));
    if (!phx_str_copy(text, sizeof(text), host))
        return;
    const phx_code rc = phx_http_address_parse(text, 80, &address, &err);
    if (rc != PHX_OK) {
        fuzz_check_refusal(rc, &err);
        return;
    }
    char shown[PHX_HTTP_ADDRESS_TEXT];
    phx_http_address_text(&address, shown);
    (void)phx_http_address_is_loopback(&address);
    (void)phx_http_peer_of(&address);
}

static void log_request(const phx_http_parser *p, phx_buf *log)
{
    log_span(p, "\nmethod", p->method, log);
    log_span(p, " path", p->path, log);
    log_span(p, " query", p->query, log);
    FUZZ_CHECK(p->n_fields <= p->limits->n_headers);
    for (size_t i = 0; i < p->n_fields; i++) {
        log_span(p, "\n", p->fields[i].name, log);
        log_span(p, ": ", p->fields[i].value, log);
    }
    FUZZ_CHECK(p->body.n <= p->limits->body_bytes);
    (void)phx_buf_printf(log, "\nkeep=%d body=%zu:", p->keep_alive, p->body.n);
    (void)phx_buf_append(log, p->body.ptr ? p->body.ptr : "", p->body.n);
    check_guards(p);
}

/* Feeds one piece; false once the parser has failed. */
static bool feed(phx_http_parser *p, phx_bytes piece, phx_buf *log)
{
    for (;;) {
        size_t n_used = 0;
        const phx_http_event event = phx_http_parser_feed(p, piece, &n_used);
        FUZZ_CHECK(n_used <= piece.n);
        piece = (phx_bytes){piece.ptr + n_used, piece.n - n_used};
        switch (event) {
        case PHX_HTTP_MORE:
            FUZZ_CHECK(piece.n == 0);
            return true;
        case PHX_HTTP_HEAD:
            (void)phx_buf_str(log, "[head]");
            break;
        case PHX_HTTP_DONE:
            log_request(p, log);
            phx_http_parser_reset(p);
            FUZZ_CHECK(!phx_http_parser_began(p));
            if (piece.n == 0)
                return true;
            break;
        case PHX_HTTP_FAILED:
            (void)phx_buf_printf(log, "[fault %d]", (int)p->fault);
            return false;
        }
    }
}

static void run(phx_bytes bytes, fuzz_cuts *cuts, phx_buf *log)
{
    phx_http_limits limits = phx_http_limits_default();
    phx_http_parser p;
    limits.body_bytes = 4096; /* near enough to be met */
    limits.request_line_bytes = 256;
    limits.header_bytes = 256;
    limits.headers_bytes = 1024;
    limits.n_headers = 12;
    limits.n_chunks = 64;
    limits.n_chunks_any = 8;
    phx_buf_init(log, LOG_BYTES_MAX);
    FUZZ_CHECK(phx_http_parser_init(&p, &limits) == PHX_OK);
    bool alive = true;
    for (size_t at = 0; at < bytes.n && alive;) {
        const size_t n = cuts ? fuzz_next_cut(cuts, bytes.n - at) : bytes.n;
        alive = feed(&p, (phx_bytes){bytes.ptr + at, n}, log);
        at += n;
    }
    phx_http_parser_done(&p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
    fuzz_tape tape = {data, n_bytes};
    fuzz_cuts cuts = {fuzz_u8(&tape), 0};
    const phx_bytes bytes = fuzz_rest(&tape);
    phx_buf whole;
    phx_buf parts;
    run(bytes, NULL, &whole);
    run(bytes, &cuts, &parts);
    FUZZ_CHECK(phx_str_eq(phx_buf_view(&whole), phx_buf_view(&parts)));
    phx_buf_done(&whole);
    phx_buf_done(&parts);
    return 0;
}
