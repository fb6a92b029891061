/* tests/http/test_http.c - requests over real sockets: routes, hygiene, keys, hosts, binding. */
#include <setjmp.h>
#include <stdarg.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "tests/http/rig.h"

#define H "Host: localhost\r\n"
#define J "Content-Type: application/json\r\n"

static void test_plain_requests(void **state)
{
    rig r;
    (void)state;
    rig_open(&r, &(phx_http_options){0});
    client *c = client_open(&r);
    client_send(c, "GET /hello?a=b&c HTTP/1.1\r\n" H "\r\n");
    client_wait(c, "\r\n\r\nhello");
    assert_string_equal(r.query, "a=b&c");
    assert_string_equal(r.remote, "127.0.0.1");
    assert_int_equal(r.key_id, 0);
    assert_non_null(strstr(c->in, "HTTP/1.1 200 OK\r\n"));
    assert_null(strstr(c->in, "Connection: close"));
    client_forget(c);
    /* The connection lives on; head and body may come in pieces. */
    client_send(c, "POST /echo HTTP/1.1\r\n" H J "Content-");
    rig_spin(&r);
    client_send(c, "Length: 7\r\n\r\n{\"a\"");
    rig_spin(&r);
    client_send(c, ":1}");
    client_wait(c, "\r\n\r\n{\"a\":1}");
    client_forget(c);
    client_send(c, "POST /echo HTTP/1.1\r\n" H J
                   "Transfer-Encoding: chunked\r\n\r\n3\r\n{\"b\r\nA\r\n\":\"0123456"
                   "\r\n2\r\n\"}\r\n0\r\n\r\n");
    client_wait(c, "{\"b\":\"0123456\"}");
    client_forget(c);
    client_send(c, "GET /hello HTTP/1.1\r\n" H "Connection: foo, Close\r\n\r\n");
    client_wait(c, "Connection: close");
    client_wait(c, "hello");
    client_wait_closed(c);
    client_close(c);
    assert_int_equal(phx_http_stats_of(r.http)->by_status[100], 4);
    rig_close(&r);
}

static void test_pipelined(void **state)
{
    rig r;
    (void)state;
    rig_open(&r, &(phx_http_options){0});
    client *c = client_open(&r);
    client_send(c, "GET /hello HTTP/1.1\r\n" H "\r\nPOST /echo HTTP/1.1\r\n" H J
                   "Content-Length: 2\r\n\r\n{}GET /hello HTTP/1.1\r\n" H "\r\n");
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(client_ask(c, ""), 200);
    client_close(c);
    rig_close(&r);
}

/* What follows the head of a reply to HEAD is the next reply. */
static void test_head_has_no_body(void **state)
{
    rig r;
    (void)state;
    rig_open(&r, &(phx_http_options){0});
    client *c = client_open(&r);
    client_send(c, "HEAD /hello HTTP/1.1\r\n" H "\r\nHEAD /nothing HTTP/1.1\r\n" H "\r\n");
    client_wait(c, "HTTP/1.1 200 ");
    client_wait(c, "Content-Length: 5\r\n");
    client_wait(c, "\r\n\r\nHTTP/1.1 404 ");
    client_forget(c);
    assert_int_equal(client_ask(c, "GET /hello HTTP/1.1\r\n" H "\r\n"), 200);
    client_close(c);
    rig_close(&r);
}

static void test_policy_faults_keep_the_connection(void **state)
{
    rig r;
    (void)state;
    rig_open(&r, &(phx_http_options){0});
    client *c = client_open(&r);
    assert_int_equal(client_ask(c, "GET /nothing HTTP/1.1\r\n" H "\r\n"), 404);
    client_send(c, "DELETE /hold HTTP/1.1\r\n" H "\r\n");
    client_wait(c, "Allow: GET, HEAD, POST\r\n");
    assert_int_equal(client_ask(c, ""), 405);
    assert_int_equal(client_ask(c, "GET /hello HTTP/1.1\r\n" H "\r\n"), 200);
    client_close(c);
    /* With a body in the way it closes, and the answer arrives all the same. */
    const char *post = "POST /nothing HTTP/1.1\r\n" H J "Content-Length: 100000\r\n\r\n{";
    check_refused(&r, post, strlen(post), PHX_HTTP_FAULT_NOT_FOUND);
    rig_close(&r);
}

static void test_hygiene(void **state)
{
    static const struct {
        const char *text;
        size_t n; /* 0: strlen */
        phx_http_fault fault;
    } cases[] = {
#define T(f, t) {t, sizeof(t) - 1, PHX_HTTP_FAULT_##f}
        T(REQUEST_LINE, "\r\nGET / HTTP/1.1\r\n\r\n"),
        T(REQUEST_LINE, "GET  /hello HTTP/1.1\r\n" H "\r\n"),
        T(REQUEST_LINE, "GET /hello  HTTP/1.1\r\n" H "\r\n"),
        T(REQUEST_LINE, "GET\t/hello HTTP/1.1\r\n" H "\r\n"),
        T(REQUEST_LINE, " GET /hello HTTP/1.1\r\n" H "\r\n"),
        T(REQUEST_LINE, "get /hello HTTP/1.1\r\n" H "\r\n"),
        T(REQUEST_LINE, "GET /hello HTTP/1.1\n" H "\r\n"),
        T(REQUEST_LINE, "GET /hello HTTP/1.1 \r\n" H "\r\n"),
        T(REQUEST_LINE, "GET /hel\0lo HTTP/1.1\r\n" H "\r\n"),
        T(REQUEST_LINE, "GET /h\xc3\xa4 HTTP/1.1\r\n" H "\r\n"),
        T(REQUEST_LINE, "GET /a#b HTTP/1.1\r\n" H "\r\n"),
        T(REQUEST_LINE, "GET /hello\r\n" H "\r\n"),
        T(REQUEST_LINE, "GET /hello HTTX/1.1\r\n" H "\r\n"),
        T(REQUEST_LINE, "GET /hello\r HTTP/1.1\r\n" H "\r\n"),
        T(REQUEST_LINE, "\x16\x03\x01\x02\n"),
        T(VERSION, "GET /hello HTTP/1.0\r\n" H "\r\n"),
        T(VERSION, "GET /hello HTTP/2.0\r\n" H "\r\n"),
        T(TARGET, "GET http://localhost/hello HTTP/1.1\r\n" H "\r\n"),
        T(TARGET, "CONNECT localhost:80 HTTP/1.1\r\n" H "\r\n"),
        T(TARGET, "OPTIONS * HTTP/1.1\r\n" H "\r\n"),
        T(HEADER, "GET /hello HTTP/1.1\r\n" H "A : b\r\n\r\n"),
        T(HEADER, "GET /hello HTTP/1.1\r\n" H "A: b\r\n c\r\n\r\n"),
        T(HEADER, "GET /hello HTTP/1.1\r\n" H "A: b\r\n\tc\r\n\r\n"),
        T(HEADER, "GET /hello HTTP/1.1\r\n A: b\r\n" H "\r\n"),
        T(HEADER, "GET /hello HTTP/1.1\r\n" H ": b\r\n\r\n"),
        T(HEADER, "GET /hello HTTP/1.1\r\n" H "A\r\n\r\n"),
        T(HEADER, "GET /hello HTTP/1.1\r\n" H "A: b\0c\r\n\r\n"),
        T(HEADER, "GET /hello HTTP/1.1\r\n" H "A\0: b\r\n\r\n"),
        T(HEADER, "GET /hello HTTP/1.1\r\n" H "A: b\rc\r\n\r\n"),
        T(HEADER, "GET /hello HTTP/1.1\r\n" H "A: b\nC: d\r\n\r\n"),
        T(HEADER, "GET /hello HTTP/1.1\r\n" H "\n"),
        T(HEADER, "GET /hello HTTP/1.1\r\n" H "A: \x01\r\n\r\n"),
        T(HEADER, "GET /hello HTTP/1.1\r\n" H "(A): b\r\n\r\n"),
        T(HOST_MISSING, "GET /hello HTTP/1.1\r\n\r\n"),
        T(DUPLICATE, "GET /hello HTTP/1.1\r\n" H H "\r\n"),
        T(DUPLICATE, "POST /echo HTTP/1.1\r\n" H J "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}"),
        T(DUPLICATE, "POST /echo HTTP/1.1\r\n" H J "Content-Length: 2\r\ncontent-length: 3\r\n\r\n{}"),
        T(DUPLICATE,
          "POST /echo HTTP/1.1\r\n" H J "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"
          "\r\n0\r\n\r\n"),
        T(CONTENT_LENGTH, "POST /echo HTTP/1.1\r\n" H J "Content-Length: -1\r\n\r\n"),
        T(CONTENT_LENGTH, "POST /echo HTTP/1.1\r\n" H J "Content-Length: +2\r\n\r\n{}"),
        T(CONTENT_LENGTH, "POST /echo HTTP/1.1\r\n" H J "Content-Length: 2, 2\r\n\r\n{}"),
        T(CONTENT_LENGTH, "POST /echo HTTP/1.1\r\n" H J "Content-Length: 0x2\r\n\r\n{}"),
        T(CONTENT_LENGTH, "POST /echo HTTP/1.1\r\n" H J "Content-Length:\r\n\r\n{}"),
        T(BODY_LENGTH, "POST /echo HTTP/1.1\r\n" H J "Content-Length: 99999999999999999999999\r\n\r\n{}"),
        T(BODY_LENGTH, "POST /echo HTTP/1.1\r\n" H J "Content-Length: 18446744073709551618\r\n\r\n{}"),
        T(TRANSFER_ENCODING,
          "POST /echo HTTP/1.1\r\n" H J "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        T(TRANSFER_ENCODING, "POST /echo HTTP/1.1\r\n" H J "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
        T(TRANSFER_ENCODING, "POST /echo HTTP/1.1\r\n" H J "Transfer-Encoding: Chunked\r\n\r\n0\r\n\r\n"),
        T(TRANSFER_ENCODING, "POST /echo HTTP/1.1\r\n" H J "Transfer-Encoding: identity\r\n\r\n"),
        T(LENGTH_CONFLICT,
          "POST /echo HTTP/1.1\r\n" H J "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
        T(CHUNK, "POST /echo HTTP/1.1\r\n" H J "Transfer-Encoding: chunked\r\n\r\nxyz\r\n"),
        T(CHUNK, "POST /echo HTTP/1.1\r\n" H J "Transfer-Encoding: chunked\r\n\r\n\r\n"),
        T(CHUNK, "POST /echo HTTP/1.1\r\n" H J "Transfer-Encoding: chunked\r\n\r\n 2\r\n{}\r\n0\r\n\r\n"),
        T(CHUNK, "POST /echo HTTP/1.1\r\n" H J "Transfer-Encoding: chunked\r\n\r\n2\n{}\r\n0\r\n\r\n"),
        T(CHUNK, "POST /echo HTTP/1.1\r\n" H J "Transfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n"),
        T(CHUNK, "POST /echo HTTP/1.1\r\n" H J "Transfer-Encoding: chunked\r\n\r\n000000002\r\n{}\r\n"),
        T(CHUNK, "POST /echo HTTP/1.1\r\n" H J "Transfer-Encoding: chunked\r\n\r\n2\r\n{}x\r\n0\r\n\r\n"),
        T(CHUNK, "POST /echo HTTP/1.1\r\n" H J "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\n0\r\n\r\n"),
        T(CHUNK, "POST /echo HTTP/1.1\r\n" H J "Transfer-Encoding: chunked\r\n\r\n2\r2\r\n"),
        T(CHUNK_EXTENSION,
          "POST /echo HTTP/1.1\r\n" H J "Transfer-Encoding: chunked\r\n\r\n2;a=b\r\n{}\r\n0\r\n\r\n"),
        T(TRAILER,
          "POST /echo HTTP/1.1\r\n" H J "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nA: b\r\n\r\n"),
        T(CONTENT_ENCODING,
          "POST /echo HTTP/1.1\r\n" H J "Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}"),
        T(CONTENT_TYPE, "POST /echo HTTP/1.1\r\n" H "Content-Length: 2\r\n\r\n{}"),
        T(CONTENT_TYPE,
          "POST /echo HTTP/1.1\r\n" H "Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}"),
        T(CONTENT_TYPE, "POST /echo HTTP/1.1\r\n" H
                        "Content-Type: application/json; charset=latin1\r\nContent-Length: 2\r\n\r\n{}"),
        T(EXPECT, "POST /echo HTTP/1.1\r\n" H J "Expect: tea\r\nContent-Length: 2\r\n\r\n{}"),
        T(BODY_UNEXPECTED, "GET /hello HTTP/1.1\r\n" H "Content-Length: 2\r\n\r\n{}"),
#undef T
    };
    rig r;
    (void)state;
    rig_open(&r, &(phx_http_options){0});
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        check_refused(&r, cases[i].text, cases[i].n, cases[i].fault);
    /* What looks odd and is right. */
    assert_int_equal(
        ask(&r, "GET /hello HTTP/1.1\r\nHOST:localhost:1\r\nA:\r\nB: \t c \t\r\nC: \xc3\xa4\r\n\r\n"), 200);
    assert_int_equal(ask(&r, "POST /echo HTTP/1.1\r\n" H "content-type: Application/JSON ; charset=UTF-8\r\n"
                             "Content-Encoding: identity\r\nContent-Length: 002\r\n\r\n{}"),
                     200);
    assert_int_equal(ask(&r, "GET /hello HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\n"), 200);
    rig_close(&r);
}

static void test_continue(void **state)
{
    rig r;
    (void)state;
    rig_open(&r, &(phx_http_options){0});
    client *c = client_open(&r);
    client_send(c, "POST /echo HTTP/1.1\r\n" H J "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    client_wait(c, "HTTP/1.1 100 Continue\r\n\r\n");
    client_forget(c);
    assert_int_equal(client_ask(c, "{}"), 200);
    /* No invitation to send what will be refused. */
    client_send(c, "POST /nothing HTTP/1.1\r\n" H J "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    client_wait(c, "HTTP/1.1 404 ");
    assert_null(strstr(c->in, "100 Continue"));
    client_wait_closed(c);
    client_close(c);
    rig_close(&r);
}

static void test_host_and_origin(void **state)
{
    static const struct {
        const char *headers;
        int status;
    } cases[] = {
        {"Host: localhost\r\n", 200},
        {"Host: LocalHost:8080\r\n", 200},
        {"Host: 127.0.0.1:65535\r\n", 200},
        {"Host: [::1]\r\n", 200},
        {"Host: [::1]:80\r\n", 200},
        {"Host: model.lan:80\r\n", 200},
        {"Host: evil.example\r\n", 403},
        {"Host: localhost.evil.example\r\n", 403},
        {"Host: localhost:\r\n", 403},
        {"Host: localhost:80x\r\n", 403},
        {"Host: localhost:123456\r\n", 403},
        {"Host: \r\n", 403},
        {"Host: :80\r\n", 403},
        {"Host: 127.0.0.1.nip.io\r\n", 403},
        {"Host: localhost:8080\r\nOrigin: http://localhost:8080\r\n", 200},
        {"Host: localhost:8080\r\nOrigin: http://localhost:8081\r\n", 403},
        {"Host: localhost\r\nOrigin: null\r\n", 403},
        {"Host: localhost\r\nOrigin: http://evil.example\r\n", 403},
    };
    static const char *const hosts[] = {"model.lan"};
    rig r;
    char text[256];
    (void)state;
    rig_open(&r, &(phx_http_options){.hosts = hosts, .n_hosts = 1});
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        (void)snprintf(text, sizeof(text), "GET /hello HTTP/1.1\r\n%s\r\n", cases[i].headers);
        if (ask(&r, text) != cases[i].status)
            fail_msg("wanted %d for %s", cases[i].status, cases[i].headers);
    }
    rig_close(&r);
}

/* Writes a key file with the given mode; the name goes into path. */
static void write_keys(char path[64], const char *content, unsigned mode)
{
    (void)snprintf(path, 64, "/tmp/phx_test_keys_%d", (int)getpid());
    phx_error err = {0};
    if (phx_file_write(path, (phx_bytes){(const uint8_t *)content, strlen(content)}, mode, &err) != PHX_OK)
        fail_msg("%s", err.text);
}

static void test_keys(void **state)
{
    rig r;
    char path[64];
    (void)state;
    write_keys(path, "# two\nalpha-key-1\r\n\nbeta-key-22\n", 0600);
    rig_open(&r, &(phx_http_options){.key_file = path});
    assert_int_equal(ask(&r, "GET /livez HTTP/1.1\r\n" H "\r\n"), 200);
    assert_int_equal(r.key_id, 0);
    assert_int_equal(ask(&r, "GET /hello HTTP/1.1\r\n" H "\r\n"), 401);
    assert_int_equal(ask(&r, "GET /nothing HTTP/1.1\r\n" H "\r\n"),
                     401); /* paths are no secret to guess at */
    assert_int_equal(ask(&r, "POST /livez HTTP/1.1\r\n" H "\r\n"), 401);
    assert_int_equal(ask(&r, "GET /hello HTTP/1.1\r\n" H "Authorization: Bearer alpha-key-\r\n\r\n"), 401);
    assert_int_equal(ask(&r, "GET /hello HTTP/1.1\r\n" H "Authorization: Bearer alpha-key-11\r\n\r\n"), 401);
    assert_int_equal(ask(&r, "GET /hello HTTP/1.1\r\n" H "Authorization: alpha-key-1\r\n\r\n"), 401);
    assert_int_equal(ask(&r, "GET /hello HTTP/1.1\r\n" H "Authorization: Bearer \r\n\r\n"), 401);
    assert_int_equal(ask(&r, "GET /hello HTTP/1.1\r\n" H "X-Api-Key: # two\r\n\r\n"), 401);
    assert_int_equal(ask(&r, "GET /hello HTTP/1.1\r\n" H "Authorization: Bearer alpha-key-1\r\n\r\n"), 200);
    assert_int_equal(r.key_id, 1);
    const phx_hash first = r.key_hash;
    assert_int_equal(ask(&r, "GET /hello HTTP/1.1\r\n" H "authorization: bearer beta-key-22\r\n\r\n"), 200);
    assert_int_equal(r.key_id, 2);
    assert_false(phx_hash_eq(&first, &r.key_hash));
    assert_int_equal(ask(&r, "GET /hello HTTP/1.1\r\n" H "X-Api-Key: beta-key-22\r\n\r\n"), 200);
    assert_int_equal(ask(&r, "GET /nothing HTTP/1.1\r\n" H "X-Api-Key: beta-key-22\r\n\r\n"), 404);
    client *c = client_open(&r);
    client_send(c, "GET /hello HTTP/1.1\r\n" H "\r\n");
    client_wait(c, "WWW-Authenticate: Bearer\r\n");
    client_wait(c, "\"code\":\"invalid_api_key\"");
    client_close(c);
    assert_int_equal(phx_http_stats_of(r.http)->by_fault[PHX_HTTP_FAULT_KEY], 9);
    (void)unlink(path);
    rig_close(&r);
}

static void check_create_fails(phx_http_options options, phx_code want, const char *part)
{
    phx_loop *loop = NULL;
    phx_http *http = NULL;
    phx_error err = {0};
    assert_int_equal(phx_loop_create(&loop, &err), PHX_OK);
    options.loop = loop;
    const phx_code rc = phx_http_create(&options, &http, &err);
    if (rc != want || !strstr(err.text, part))
        fail_msg("%s: %s; wanted '%s'", phx_code_name(rc), err.text, part);
    assert_null(http);
    phx_loop_destroy(loop);
}

static void test_key_files_refused(void **state)
{
    char path[64];
    (void)state;
    phx_http_options options = {.host = "127.0.0.1", .key_file = path};
    write_keys(path, "alpha-key-1\n", 0640);
    check_create_fails(options, PHX_ERR_DENIED, "chmod 600");
    write_keys(path, "alpha-key-1\n", 0604);
    check_create_fails(options, PHX_ERR_DENIED, "chmod 600");
    write_keys(path, "# none\n", 0600);
    check_create_fails(options, PHX_ERR_INVALID, "no key");
    write_keys(path, "", 0600);
    check_create_fails(options, PHX_ERR_INVALID, "no key");
    write_keys(path, "alpha-key-1\nalpha-key-1\n", 0600);
    check_create_fails(options, PHX_ERR_INVALID, "line 2 appears twice");
    write_keys(path, "short\n", 0600);
    check_create_fails(options, PHX_ERR_INVALID, "line 1 has 5 bytes");
    write_keys(path, "alpha key 1\n", 0600);
    check_create_fails(options, PHX_ERR_INVALID, "holds a space");
    (void)unlink(path);
    check_create_fails(options, PHX_ERR_DENIED, "cannot open key file");
    options.key_file = "/tmp";
    check_create_fails(options, PHX_ERR_DENIED, "not a regular file");
    if (geteuid() == 0) {
        write_keys(path, "alpha-key-1\n", 0600);
        assert_int_equal(chown(path, 1, 1), 0);
        options.key_file = path;
        check_create_fails(options, PHX_ERR_DENIED, "belongs to user 1");
        (void)unlink(path);
    }
}

static void test_binding(void **state)
{
    rig r;
    (void)state;
    rig_open(&r, &(phx_http_options){0});
    check_create_fails((phx_http_options){.host = "127.0.0.1", .port = phx_http_port(r.http)}, PHX_ERR_IN_USE,
                       "in use by another program");
    rig_close(&r);
    check_create_fails((phx_http_options){.host = "0.0.0.0"}, PHX_ERR_DENIED, "API keys");
    check_create_fails((phx_http_options){.host = "::"}, PHX_ERR_DENIED, "API keys");
    check_create_fails((phx_http_options){.host = "example.com"}, PHX_ERR_INVALID, "numeric address");
    phx_http_limits limits = phx_http_limits_default();
    limits.n_headers = 0;
    check_create_fails((phx_http_options){.host = "127.0.0.1", .limits = &limits}, PHX_ERR_INVALID,
                       "n_headers");
    /* Beyond loopback any Host goes, unless a list is given. */
    rig_open(&r, &(phx_http_options){.host = "0.0.0.0", .insecure_no_auth = true});
    assert_int_equal(ask(&r, "GET /hello HTTP/1.1\r\nHost: any.example\r\n\r\n"), 200);
    rig_close(&r);
}

/* Every descriptor of a served connection closes on exec, and small events are not held back. */
static void test_socket_flags(void **state)
{
    rig r;
    size_t n_served = 0;
    (void)state;
    rig_open(&r, &(phx_http_options){0});
    client *c = client_open(&r);
    assert_int_equal(client_ask(c, "GET /hello HTTP/1.1\r\n" H "\r\n"), 200);
    for (int fd = 3; fd < 256; fd++) {
        struct sockaddr_in at = {0};
        socklen_t n_at = sizeof(at);
        int is_set = 0;
        socklen_t n_set = sizeof(is_set);
        if (getsockname(fd, (struct sockaddr *)&at, &n_at) != 0 ||
            ntohs(at.sin_port) != phx_http_port(r.http))
            continue;
        assert_true((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
        assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &is_set, &n_set), 0);
        if (is_set)
            continue;
        assert_int_equal(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &is_set, &n_set), 0);
        assert_int_not_equal(is_set, 0);
        n_served++;
    }
    assert_int_equal(n_served, 1);
    client_close(c);
    rig_close(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_requests),    cmocka_unit_test(test_pipelined),
        cmocka_unit_test(test_head_has_no_body),  cmocka_unit_test(test_policy_faults_keep_the_connection),
        cmocka_unit_test(test_hygiene),           cmocka_unit_test(test_continue),
        cmocka_unit_test(test_host_and_origin),   cmocka_unit_test(test_keys),
        cmocka_unit_test(test_key_files_refused), cmocka_unit_test(test_binding),
        cmocka_unit_test(test_socket_flags),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
