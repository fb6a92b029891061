/* coordinator/http/judge.c - between head and body: Host, Origin, key, route, method, content type.
 * HEAD is GET whose reply has no body.
 * Keys come before routes, so that a caller without one learns nothing about which paths exist. */
#include "coordinator/http/conn.h"

#include <string.h>

static bool is_on(const phx_http_route *route, phx_str path)
{
    const phx_str own = phx_str_of(route->path);
    if (phx_str_ends(own, phx_str_of("/")) && path.n > own.n)
        return phx_str_starts(path, own);
    return phx_str_eq(path, own);
}

static const phx_http_route *find_route(const phx_http *http, phx_str method, phx_str path, bool *ret_is_path)
{
    const phx_http_route *found = NULL;
    *ret_is_path = false;
    for (size_t i = 0; i < http->n_routes; i++) {
        if (!is_on(&http->routes[i], path))
            continue;
        *ret_is_path = true;
        if (phx_str_is(method, http->routes[i].method))
            found = &http->routes[i];
    }
    return found;
}

/* Authorization: Bearer KEY, or X-Api-Key: KEY; both given must agree by being valid, the first decides. */
static phx_str sent_key(const phx_http_parser *parser)
{
    const phx_str bearer = phx_http_parser_header(parser, "authorization");
    if (!bearer.ptr)
        return phx_http_parser_header(parser, "x-api-key");
    if (bearer.n < 7 || !phx_http_is_nocase((phx_str){bearer.ptr, 7}, "bearer "))
        return (phx_str){NULL, 0};
    phx_str key = {bearer.ptr + 7, bearer.n - 7};
    while (key.n > 0 && key.ptr[0] == ' ')
        key = (phx_str){key.ptr + 1, key.n - 1};
    return key;
}

/* The connection counts for the key of its latest request. */
static phx_http_fault take_key(phx_http_conn *conn, uint32_t key_id)
{
    uint32_t *n_key_conns = conn->http->n_key_conns;
    if (conn->key_id == key_id)
        return PHX_HTTP_FAULT_NONE;
    if (key_id && n_key_conns[key_id - 1] >= conn->http->limits.n_conns_key)
        return PHX_HTTP_FAULT_N_CONNS_KEY;
    if (conn->key_id)
        n_key_conns[conn->key_id - 1]--;
    if (key_id)
        n_key_conns[key_id - 1]++;
    conn->key_id = key_id;
    return PHX_HTTP_FAULT_NONE;
}

static phx_http_fault check_key(phx_http_conn *conn, const phx_http_route *route)
{
    const phx_http *http = conn->http;
    if (!http->keys || (route && !route->needs_key))
        return take_key(conn, 0);
    const phx_str key = sent_key(&conn->parser);
    const uint32_t key_id = key.n ? phx_http_keys_find(http->keys, key) : 0;
    return key_id ? take_key(conn, key_id) : PHX_HTTP_FAULT_KEY;
}

phx_http_fault phx_http_judge(phx_http_conn *conn)
{
    const phx_http *http = conn->http;
    const phx_http_parser *parser = &conn->parser;
    const phx_str host = phx_http_parser_header(parser, "host");
    const phx_str origin = phx_http_parser_header(parser, "origin");
    const phx_str method = phx_http_parser_view(parser, parser->method);
    bool is_path = false;
    conn->route = NULL;
    conn->is_head = phx_str_is(method, "HEAD");
    const phx_http_route *route = find_route(http, conn->is_head ? phx_str_of("GET") : method,
                                             phx_http_parser_view(parser, parser->path), &is_path);
    if (http->checks_host && !phx_http_host_allowed(host, http->hosts, http->n_hosts))
        return PHX_HTTP_FAULT_HOST;
    if (origin.ptr && !phx_http_origin_is_own(origin, host))
        return PHX_HTTP_FAULT_ORIGIN;
    const phx_http_fault fault = check_key(conn, route);
    if (fault != PHX_HTTP_FAULT_NONE)
        return fault;
    if (!route)
        return is_path ? PHX_HTTP_FAULT_METHOD : PHX_HTTP_FAULT_NOT_FOUND;
    const bool is_post = phx_str_is(method, "POST");
    if (is_post && !phx_http_type_is_json(phx_http_parser_header(parser, "content-type")))
        return PHX_HTTP_FAULT_CONTENT_TYPE;
    if (!is_post && parser->has_body)
        return PHX_HTTP_FAULT_BODY_UNEXPECTED;
    conn->route = route;
    return PHX_HTTP_FAULT_NONE;
}

const char *phx_http_allowed_methods(const phx_http *http, phx_str path, phx_buf *buf)
{
    for (size_t i = 0; i < http->n_routes; i++) {
        if (!is_on(&http->routes[i], path))
            continue;
        const char *method = http->routes[i].method;
        const char *also = strcmp(method, "GET") == 0 ? ", HEAD" : "";
        (void)phx_buf_printf(buf, "%s%s%s", buf->n ? ", " : "", method, also);
    }
    return buf->code == PHX_OK && buf->ptr ? buf->ptr : "";
}
