/* coordinator/http/parse.c - strict HTTP/1.1 request parser (RFC 9112, every leniency refused). */
#include "coordinator/http/parse.h"

#include <assert.h>
#include <string.h>

#include "base/alloc.h"
#include "coordinator/http/http.h"

enum { METHOD_BYTES_MAX = 16, CHUNK_DIGITS_MAX = 8 };

static phx_http_event parse_line(phx_http_parser *p, phx_bytes in, size_t *n_used);
static phx_http_fault parse_request_line(phx_http_parser *p, size_t n);
static phx_http_fault parse_header_line(phx_http_parser *p, size_t n);
static phx_http_fault parse_head_end(phx_http_parser *p);
static phx_http_event parse_data(phx_http_parser *p, phx_bytes in, size_t *n_used);
static phx_http_event parse_chunk_line(phx_http_parser *p, phx_bytes in, size_t *n_used);
static phx_http_fault parse_chunk_begin(phx_http_parser *p);
static phx_http_event parse_line_end(phx_http_parser *p, phx_bytes in, size_t *n_used);

static phx_http_event failed(phx_http_parser *p, phx_http_fault fault)
{
    p->fault = fault;
    p->step = PHX_HTTP_STEP_FAILED;
    return PHX_HTTP_FAILED;
}

static phx_http_fault fault_of_buf(phx_code rc, phx_http_fault too_long)
{
    return rc == PHX_ERR_NOMEM ? PHX_HTTP_FAULT_NO_MEMORY : too_long;
}

phx_code phx_http_parser_init(phx_http_parser *parser, const phx_http_limits *limits)
{
    *parser = (phx_http_parser){.limits = limits};
    /* Room for the line end of the request line and for the empty line. */
    phx_buf_init(&parser->head, (size_t)(limits->request_line_bytes + limits->headers_bytes + 4));
    phx_buf_init(&parser->body, (size_t)limits->body_bytes);
    parser->fields = phx_alloc((size_t)limits->n_headers, sizeof(*parser->fields));
    return parser->fields ? PHX_OK : PHX_ERR_NOMEM;
}

void phx_http_parser_done(phx_http_parser *parser)
{
    phx_buf_done(&parser->head);
    phx_buf_done(&parser->body);
    phx_free(parser->fields);
    parser->fields = NULL;
}

void phx_http_parser_reset(phx_http_parser *parser)
{
    const phx_http_parser old = *parser;
    phx_buf_done(&parser->body);
    phx_buf_clear(&parser->head);
    *parser = (phx_http_parser){
        .limits = old.limits, .head = parser->head, .body = parser->body, .fields = old.fields};
}

phx_http_event phx_http_parser_feed(phx_http_parser *parser, phx_bytes in, size_t *ret_n_used)
{
    phx_http_event event = PHX_HTTP_MORE;
    size_t n_used = 0;
    do {
        switch (parser->step) {
        case PHX_HTTP_STEP_LINE:
        case PHX_HTTP_STEP_HEADERS:
            event = parse_line(parser, in, &n_used);
            break;
        case PHX_HTTP_STEP_BODY:
        case PHX_HTTP_STEP_CHUNK_DATA:
            event = parse_data(parser, in, &n_used);
            break;
        case PHX_HTTP_STEP_CHUNK_LINE:
            event = parse_chunk_line(parser, in, &n_used);
            break;
        case PHX_HTTP_STEP_CHUNK_END:
        case PHX_HTTP_STEP_LAST_END:
            event = parse_line_end(parser, in, &n_used);
            break;
        case PHX_HTTP_STEP_DONE:
            event = PHX_HTTP_DONE;
            break;
        case PHX_HTTP_STEP_FAILED:
            event = PHX_HTTP_FAILED;
            break;
        }
    } while (event == PHX_HTTP_MORE && n_used < in.n);
    *ret_n_used = n_used;
    return event;
}

bool phx_http_parser_began(const phx_http_parser *parser)
{
    return parser->head.n > 0;
}

phx_str phx_http_parser_view(const phx_http_parser *parser, phx_http_span span)
{
    assert((size_t)span.at + span.n <= parser->head.n);
    return (phx_str){parser->head.ptr + span.at, span.n};
}

bool phx_http_is_nocase(phx_str value, const char *text)
{
    const size_t n = strlen(text);
    if (value.n != n)
        return false;
    for (size_t i = 0; i < n; i++) {
        const char c = value.ptr[i];
        if ((c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c) != text[i])
            return false;
    }
    return true;
}

phx_str phx_http_parser_header(const phx_http_parser *parser, const char *name)
{
    for (size_t i = 0; i < parser->n_fields; i++) {
        if (phx_http_is_nocase(phx_http_parser_view(parser, parser->fields[i].name), name))
            return phx_http_parser_view(parser, parser->fields[i].value);
    }
    return (phx_str){NULL, 0};
}

/* Head. */

/* Bounds are checked before a byte is stored: a partial line may hold one byte more, its CR. */
static phx_http_fault check_line_length(const phx_http_parser *p, size_t n, bool is_whole)
{
    const size_t n_end = is_whole ? 2 : 1;
    if (p->step == PHX_HTTP_STEP_LINE)
        return n > p->limits->request_line_bytes + n_end ? PHX_HTTP_FAULT_URI_LENGTH : PHX_HTTP_FAULT_NONE;
    if (n > p->limits->header_bytes + n_end)
        return PHX_HTTP_FAULT_HEADER_LENGTH;
    const bool is_blank = is_whole && n == 2;
    if (!is_blank && p->line_at - p->headers_at + n > p->limits->headers_bytes + (is_whole ? 0 : 1))
        return PHX_HTTP_FAULT_HEADERS_LENGTH;
    return PHX_HTTP_FAULT_NONE;
}

/* Takes bytes up to the end of one line and judges the line. */
static phx_http_event parse_line(phx_http_parser *p, phx_bytes in, size_t *n_used)
{
    if (*n_used == in.n)
        return PHX_HTTP_MORE;
    const uint8_t *from = in.ptr + *n_used;
    const size_t n_there = in.n - *n_used;
    const uint8_t *end = memchr(from, '\n', n_there);
    const size_t n_take = end ? (size_t)(end - from) + 1 : n_there;
    phx_http_fault fault = check_line_length(p, p->head.n - p->line_at + n_take, end != NULL);
    if (fault != PHX_HTTP_FAULT_NONE)
        return failed(p, fault);
    const phx_code rc = phx_buf_append(&p->head, from, n_take);
    if (rc != PHX_OK)
        return failed(p, fault_of_buf(rc, PHX_HTTP_FAULT_HEADERS_LENGTH));
    *n_used += n_take;
    if (!end)
        return PHX_HTTP_MORE;

    const size_t n = p->head.n - p->line_at; /* with its LF */
    const bool is_first = p->step == PHX_HTTP_STEP_LINE;
    if (n < 2 || p->head.ptr[p->head.n - 2] != '\r')
        return failed(p, is_first ? PHX_HTTP_FAULT_REQUEST_LINE : PHX_HTTP_FAULT_HEADER);
    if (!is_first && n == 2) {
        fault = parse_head_end(p);
        return fault == PHX_HTTP_FAULT_NONE ? PHX_HTTP_HEAD : failed(p, fault);
    }
    fault = is_first ? parse_request_line(p, n - 2) : parse_header_line(p, n - 2);
    if (fault != PHX_HTTP_FAULT_NONE)
        return failed(p, fault);
    p->line_at = p->head.n;
    if (is_first) {
        p->headers_at = p->head.n;
        p->step = PHX_HTTP_STEP_HEADERS;
    }
    return PHX_HTTP_MORE;
}

static phx_http_span span_of(size_t at, size_t n)
{
    return (phx_http_span){(uint32_t)at, (uint32_t)n};
}

/* METHOD SP /path[?query] SP HTTP/1.1 */
static phx_http_fault parse_request_line(phx_http_parser *p, size_t n)
{
    const char *line = p->head.ptr + p->line_at;
    size_t n_method = 0;
    while (n_method < n && line[n_method] >= 'A' && line[n_method] <= 'Z')
        n_method++;
    if (n_method == 0 || n_method > METHOD_BYTES_MAX || n_method == n || line[n_method] != ' ')
        return PHX_HTTP_FAULT_REQUEST_LINE;
    const size_t target = n_method + 1;
    size_t end = target;
    size_t query = 0;
    while (end < n && line[end] > ' ' && line[end] < 0x7f && line[end] != '#') {
        if (line[end] == '?' && query == 0)
            query = end;
        end++;
    }
    if (end == target || end == n || line[end] != ' ')
        return PHX_HTTP_FAULT_REQUEST_LINE;
    const phx_str version = {line + end + 1, n - end - 1};
    if (!phx_str_is(version, "HTTP/1.1")) {
        const bool is_version = version.n == 8 && phx_str_starts(version, phx_str_of("HTTP/")) &&
                                version.ptr[5] >= '0' && version.ptr[5] <= '9' && version.ptr[6] == '.' &&
                                version.ptr[7] >= '0' && version.ptr[7] <= '9';
        return is_version ? PHX_HTTP_FAULT_VERSION : PHX_HTTP_FAULT_REQUEST_LINE;
    }
    if (line[target] != '/')
        return PHX_HTTP_FAULT_TARGET;
    p->method = span_of(p->line_at, n_method);
    p->path = span_of(p->line_at + target, (query ? query : end) - target);
    if (query)
        p->query = span_of(p->line_at + query + 1, end - query - 1);
    return PHX_HTTP_FAULT_NONE;
}

static bool is_token(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

/* name ":" OWS value OWS. A line that starts with a space (obs-fold) has no name; a space before the colon is
 * no token. */
static phx_http_fault parse_header_line(phx_http_parser *p, size_t n)
{
    const char *line = p->head.ptr + p->line_at;
    if (p->n_fields == p->limits->n_headers)
        return PHX_HTTP_FAULT_N_HEADERS;
    size_t n_name = 0;
    while (n_name < n && is_token(line[n_name]))
        n_name++;
    if (n_name == 0 || n_name == n || line[n_name] != ':')
        return PHX_HTTP_FAULT_HEADER;
    size_t at = n_name + 1;
    size_t end = n;
    while (at < end && (line[at] == ' ' || line[at] == '\t'))
        at++;
    while (end > at && (line[end - 1] == ' ' || line[end - 1] == '\t'))
        end--;
    for (size_t i = at; i < end; i++) {
        const unsigned char c = (unsigned char)line[i];
        if ((c < ' ' && c != '\t') || c == 0x7f)
            return PHX_HTTP_FAULT_HEADER;
    }
    p->fields[p->n_fields++] =
        (phx_http_field){span_of(p->line_at, n_name), span_of(p->line_at + at, end - at)};
    return PHX_HTTP_FAULT_NONE;
}

/* Headers whose second appearance could be read differently by someone in front of us. */
static phx_http_fault check_singles(const phx_http_parser *p)
{
    static const char *const singles[] = {"host",         "content-length",   "transfer-encoding",
                                          "content-type", "authorization",    "x-api-key",
                                          "origin",       "content-encoding", "expect"};
    for (size_t s = 0; s < sizeof(singles) / sizeof(singles[0]); s++) {
        size_t n_seen = 0;
        for (size_t i = 0; i < p->n_fields; i++)
            n_seen += phx_http_is_nocase(phx_http_parser_view(p, p->fields[i].name), singles[s]);
        if (n_seen > 1)
            return PHX_HTTP_FAULT_DUPLICATE;
    }
    return PHX_HTTP_FAULT_NONE;
}

static phx_http_fault parse_lengths(phx_http_parser *p)
{
    const phx_str length = phx_http_parser_header(p, "content-length");
    const phx_str coding = phx_http_parser_header(p, "transfer-encoding");
    if (length.ptr && coding.ptr)
        return PHX_HTTP_FAULT_LENGTH_CONFLICT;
    if (coding.ptr) {
        if (!phx_str_is(coding, "chunked"))
            return PHX_HTTP_FAULT_TRANSFER_ENCODING;
        p->is_chunked = true;
        p->has_body = true;
        p->step = PHX_HTTP_STEP_CHUNK_LINE;
        return PHX_HTTP_FAULT_NONE;
    }
    p->n_left = 0;
    if (length.ptr) {
        if (length.n == 0)
            return PHX_HTTP_FAULT_CONTENT_LENGTH;
        for (size_t i = 0; i < length.n; i++) {
            if (length.ptr[i] < '0' || length.ptr[i] > '9')
                return PHX_HTTP_FAULT_CONTENT_LENGTH;
        }
        for (size_t i = 0; i < length.n; i++) {
            p->n_left = p->n_left * 10 + (uint64_t)(length.ptr[i] - '0');
            if (p->n_left > p->limits->body_bytes)
                return PHX_HTTP_FAULT_BODY_LENGTH;
        }
    }
    p->has_body = p->n_left > 0;
    p->step = PHX_HTTP_STEP_BODY;
    return PHX_HTTP_FAULT_NONE;
}

/* Connection: a list of words; only close means something here. */
static bool has_word(phx_str list, const char *word)
{
    size_t at = 0;
    while (at < list.n) {
        size_t end = at;
        while (end < list.n && list.ptr[end] != ',')
            end++;
        size_t last = end;
        while (at < last && (list.ptr[at] == ' ' || list.ptr[at] == '\t'))
            at++;
        while (last > at && (list.ptr[last - 1] == ' ' || list.ptr[last - 1] == '\t'))
            last--;
        if (phx_http_is_nocase((phx_str){list.ptr + at, last - at}, word))
            return true;
        at = end + 1;
    }
    return false;
}

static phx_http_fault parse_head_end(phx_http_parser *p)
{
    phx_http_fault fault = check_singles(p);
    if (fault != PHX_HTTP_FAULT_NONE)
        return fault;
    if (!phx_http_parser_header(p, "host").ptr)
        return PHX_HTTP_FAULT_HOST_MISSING;
    fault = parse_lengths(p);
    if (fault != PHX_HTTP_FAULT_NONE)
        return fault;
    const phx_str encoding = phx_http_parser_header(p, "content-encoding");
    if (encoding.ptr && !phx_http_is_nocase(encoding, "identity"))
        return PHX_HTTP_FAULT_CONTENT_ENCODING;
    const phx_str expect = phx_http_parser_header(p, "expect");
    if (expect.ptr && !phx_http_is_nocase(expect, "100-continue"))
        return PHX_HTTP_FAULT_EXPECT;
    p->wants_continue = expect.ptr != NULL && p->has_body;
    p->keep_alive = true;
    for (size_t i = 0; i < p->n_fields; i++) {
        if (phx_http_is_nocase(phx_http_parser_view(p, p->fields[i].name), "connection") &&
            has_word(phx_http_parser_view(p, p->fields[i].value), "close"))
            p->keep_alive = false;
    }
    return PHX_HTTP_FAULT_NONE;
}

/* Body. */

static phx_http_event parse_data(phx_http_parser *p, phx_bytes in, size_t *n_used)
{
    const size_t n_there = in.n - *n_used;
    const size_t n = p->n_left < n_there ? (size_t)p->n_left : n_there;
    if (n > 0) {
        const phx_code rc = phx_buf_append(&p->body, in.ptr + *n_used, n);
        if (rc != PHX_OK)
            return failed(p, fault_of_buf(rc, PHX_HTTP_FAULT_BODY_LENGTH));
    }
    *n_used += n;
    p->n_left -= n;
    if (p->n_left > 0)
        return PHX_HTTP_MORE;
    p->step = p->is_chunked ? PHX_HTTP_STEP_CHUNK_END : PHX_HTTP_STEP_DONE;
    return p->is_chunked ? PHX_HTTP_MORE : PHX_HTTP_DONE;
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool phx_http_path_spells(phx_str part, const char *text)
{
    size_t at = 0;
    for (; at < part.n && *text; text++) {
        uint8_t byte = (uint8_t)part.ptr[at];
        if (byte == '%') {
            const int high = part.n - at > 2 ? hex_digit((uint8_t)part.ptr[at + 1]) : -1;
            const int low = part.n - at > 2 ? hex_digit((uint8_t)part.ptr[at + 2]) : -1;
            if (high < 0 || low < 0)
                return false;
            byte = (uint8_t)(high * 16 + low);
            at += 2;
        }
        at++;
        if (byte != (uint8_t)*text)
            return false;
    }
    return at == part.n && *text == '\0';
}

/* 1 to 8 hexadecimal digits, CR LF, nothing else. */
static phx_http_event parse_chunk_line(phx_http_parser *p, phx_bytes in, size_t *n_used)
{
    while (*n_used < in.n) {
        const uint8_t c = in.ptr[(*n_used)++];
        const int digit = hex_digit(c);
        if (digit >= 0) {
            if (p->n_digits >= CHUNK_DIGITS_MAX)
                return failed(p, PHX_HTTP_FAULT_CHUNK);
            p->n_left = p->n_left * 16 + (uint64_t)digit;
            p->n_digits++;
        } else if (c == '\r' && p->n_digits > 0) {
            p->n_digits = UINT32_MAX; /* only the LF may follow */
        } else if (c == '\n' && p->n_digits == UINT32_MAX) {
            const phx_http_fault fault = parse_chunk_begin(p);
            return fault == PHX_HTTP_FAULT_NONE ? PHX_HTTP_MORE : failed(p, fault);
        } else {
            const bool is_extension = p->n_digits > 0 && p->n_digits <= CHUNK_DIGITS_MAX && c == ';';
            return failed(p, is_extension ? PHX_HTTP_FAULT_CHUNK_EXTENSION : PHX_HTTP_FAULT_CHUNK);
        }
    }
    return PHX_HTTP_MORE;
}

/* Refuses before the chunk's bytes are read. */
static phx_http_fault parse_chunk_begin(phx_http_parser *p)
{
    p->n_digits = 0;
    if (p->n_left == 0) {
        p->step = PHX_HTTP_STEP_LAST_END;
        return PHX_HTTP_FAULT_NONE;
    }
    if (p->n_left > p->limits->body_bytes - p->body.n)
        return PHX_HTTP_FAULT_BODY_LENGTH;
    p->n_chunks++;
    if (p->n_chunks > p->limits->n_chunks)
        return PHX_HTTP_FAULT_N_CHUNKS;
    if (p->n_chunks > p->limits->n_chunks_any &&
        p->body.n + p->n_left < p->n_chunks * p->limits->chunk_avg_bytes)
        return PHX_HTTP_FAULT_CHUNK_SIZE;
    p->step = PHX_HTTP_STEP_CHUNK_DATA;
    return PHX_HTTP_FAULT_NONE;
}

/* CR LF after a chunk's data, or after the last chunk, where anything else would be a trailer. */
static phx_http_event parse_line_end(phx_http_parser *p, phx_bytes in, size_t *n_used)
{
    const bool is_last = p->step == PHX_HTTP_STEP_LAST_END;
    while (*n_used < in.n) {
        const uint8_t c = in.ptr[(*n_used)++];
        if (c != (p->n_digits == 0 ? '\r' : '\n'))
            return failed(p, is_last && p->n_digits == 0 ? PHX_HTTP_FAULT_TRAILER : PHX_HTTP_FAULT_CHUNK);
        if (p->n_digits++ == 0)
            continue;
        p->n_digits = 0;
        p->step = is_last ? PHX_HTTP_STEP_DONE : PHX_HTTP_STEP_CHUNK_LINE;
        return is_last ? PHX_HTTP_DONE : PHX_HTTP_MORE;
    }
    return PHX_HTTP_MORE;
}
