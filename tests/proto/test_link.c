/* tests/proto/test_link.c - sockets: who gets through, who does not, and what happens when a peer goes. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/file.h"
#include "proto/link.h"

#define PATIENCE_MS 8000 /* for things that must happen; none of the tests depends on how soon */

typedef struct fixture {
    char directory[64];
    char path[96];
    char ipc[112];
    phx_link_keys keys;
} fixture;

static phx_bytes text_bytes(const char *text)
{
    return (phx_bytes){(const uint8_t *)text, strlen(text)};
}

static int setup(void **state)
{
    fixture *f = calloc(1, sizeof(*f));
    snprintf(f->directory, sizeof(f->directory), "/tmp/phx_test_link.XXXXXX");
    assert_non_null(mkdtemp(f->directory));
    snprintf(f->path, sizeof(f->path), "%s/control", f->directory);
    snprintf(f->ipc, sizeof(f->ipc), "ipc://%s", f->path);
    phx_error err = {0};
    assert_int_equal(phx_link_keys_make(&f->keys, &err), PHX_OK);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    char file[128];
    snprintf(file, sizeof(file), "%s/key", f->directory);
    (void)unlink(file);
    (void)unlink(f->path);
    assert_int_equal(rmdir(f->directory), 0);
    free(f);
    return 0;
}

/* Waits for the next message; fails the test when none comes. */
static phx_code receive_wait(phx_link *link, phx_peer *peer, phx_buf *message, phx_error *err)
{
    const uint64_t end_us = phx_clock_us() + PATIENCE_MS * 1000u;
    for (;;) {
        const phx_code rc = phx_link_receive(link, peer, message, err);
        if (rc != PHX_ERR_NOT_FOUND || phx_clock_us() > end_us)
            return rc;
        (void)phx_link_wait(link, -1, 100);
    }
}

static void expect_message(phx_link *link, phx_peer *peer, const char *text)
{
    phx_buf message;
    phx_error err = {0};
    phx_buf_init(&message, PHX_MESSAGE_MAX);
    const phx_code rc = receive_wait(link, peer, &message, &err);
    if (rc != PHX_OK)
        fail_msg("expected '%s': %s %s", text, phx_code_name(rc), err.text);
    assert_int_equal(message.n, strlen(text));
    assert_memory_equal(message.ptr, text, message.n);
    phx_buf_done(&message);
}

static void expect_silence(phx_link *link)
{
    phx_buf message;
    phx_peer peer;
    phx_buf_init(&message, PHX_MESSAGE_MAX);
    (void)phx_link_wait(link, -1, 50);
    assert_int_equal(phx_link_receive(link, &peer, &message, NULL), PHX_ERR_NOT_FOUND);
    phx_buf_done(&message);
}

static phx_link *bind_or_fail(const char *address, const phx_link_keys *keys)
{
    phx_link *link = NULL;
    phx_error err = {0};
    if (phx_link_bind(address, keys, &link, &err) != PHX_OK)
        fail_msg("%s", err.text);
    return link;
}

static phx_link *connect_or_fail(const char *address, const phx_link_keys *keys, const char *identity)
{
    phx_link *link = NULL;
    phx_error err = {0};
    if (phx_link_connect(address, keys, identity, &link, &err) != PHX_OK)
        fail_msg("%s", err.text);
    return link;
}

/* What a peer is given to connect with. */
static phx_link_keys client_keys(const fixture *f)
{
    phx_link_keys keys = f->keys;
    memset(keys.server_secret, 0, sizeof(keys.server_secret));
    return keys;
}

static void exchange(phx_link *router, phx_link *dealer, const char *identity)
{
    phx_peer peer = {0};
    assert_int_equal(phx_link_send(dealer, NULL, text_bytes("hello"), NULL), PHX_OK);
    expect_message(router, &peer, "hello");
    if (identity) {
        assert_int_equal(peer.n, strlen(identity));
        assert_memory_equal(peer.id, identity, peer.n);
    }
    assert_int_equal(phx_link_send(router, &peer, text_bytes("welcome"), NULL), PHX_OK);
    expect_message(dealer, NULL, "welcome");
    assert_int_equal(phx_link_send(router, &peer, text_bytes(""), NULL), PHX_OK);
    expect_message(dealer, NULL, "");
}

static void test_ipc(void **state)
{
    const fixture *f = *state;
    phx_link *router = bind_or_fail(f->ipc, NULL);
    assert_string_equal(phx_link_address(router), f->ipc);
    phx_link *a = connect_or_fail(f->ipc, NULL, "e3r1"), *b = connect_or_fail(f->ipc, NULL, NULL);
    exchange(router, a, "e3r1");
    exchange(router, b, NULL);
    phx_link_close(a);
    phx_link_close(b);
    phx_link_close(router);
    assert_false(phx_file_exists(f->path));
}

static void test_tcp_curve(void **state)
{
    const fixture *f = *state;
    const phx_link_keys keys = client_keys(f);
    phx_link *router = bind_or_fail("tcp://127.0.0.1:0", &f->keys);
    phx_link *dealer = connect_or_fail(phx_link_address(router), &keys, "e1r0");
    exchange(router, dealer, "e1r0");
    phx_link_close(dealer);
    phx_link_close(router);
}

static void test_strangers_stay_out(void **state)
{
    const fixture *f = *state;
    phx_link *router = bind_or_fail("tcp://127.0.0.1:*", &f->keys), *dealer = NULL;
    const char *address = phx_link_address(router);
    phx_link_keys other, keys;
    assert_int_equal(phx_link_keys_make(&other, NULL), PHX_OK);

    keys = client_keys(f); /* knows the server, but its own key is not on the list */
    memcpy(keys.client_public, other.client_public, sizeof(keys.client_public));
    memcpy(keys.client_secret, other.client_secret, sizeof(keys.client_secret));
    assert_int_equal(phx_link_connect(address, &keys, NULL, &dealer, NULL), PHX_ERR_DENIED);

    keys = client_keys(f); /* is on the list, but takes another for the server */
    memcpy(keys.server_public, other.server_public, sizeof(keys.server_public));
    assert_int_not_equal(phx_link_connect(address, &keys, NULL, &dealer, NULL), PHX_OK);

    assert_int_equal(phx_link_connect(address, NULL, NULL, &dealer, NULL), PHX_ERR_INVALID); /* our rule */
    expect_silence(router);

    keys = client_keys(f);
    dealer = connect_or_fail(address, &keys, NULL); /* and the right one still gets in */
    exchange(router, dealer, NULL);
    phx_link_close(dealer);
    phx_link_close(router);
}

/* What a ZMTP 3.0 peer without encryption says first: greeting with the NULL mechanism, then READY as a
 * DEALER. */
static const char zmtp_hello[] = "\xFF\0\0\0\0\0\0\0\1\x7F\3\0NULL\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
                                 "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
                                 "\4\x1C\5READY\x0BSocket-Type\0\0\0\6"
                                 "DEALER";

static int tcp_socket_to(const char *address)
{
    const char *colon = strrchr(address, ':');
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)strtoul(colon + 1, NULL, 10)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

static void test_garbage_and_plaintext(void **state)
{
    const fixture *f = *state;
    const phx_link_keys keys = client_keys(f);
    phx_link *router = bind_or_fail("tcp://127.0.0.1:0", &f->keys);
    const char *address = phx_link_address(router);
    int fds[3];
    for (int i = 0; i < 3; i++)
        fds[i] = tcp_socket_to(address);
    assert_int_equal(send(fds[0], "GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27, MSG_NOSIGNAL), 27);
    assert_true(send(fds[1], zmtp_hello, sizeof(zmtp_hello) - 1, MSG_NOSIGNAL) > 0);
    (void)send(fds[1], "\0\5hello", 7, MSG_NOSIGNAL);
    uint8_t greeting[64];
    for (int i = 0; i < 64; i++)
        greeting[i] = (uint8_t)(i * 37);
    greeting[0] = 0xFF;
    (void)send(fds[2], greeting, sizeof(greeting), MSG_NOSIGNAL);
    expect_silence(router);
    phx_link *dealer = connect_or_fail(address, &keys, NULL);
    exchange(router, dealer, NULL);
    for (int i = 0; i < 3; i++)
        close(fds[i]);
    phx_link_close(dealer);
    phx_link_close(router);
}

static void send_raw(int fd, const char *ptr, size_t n)
{
    assert_int_equal(send(fd, ptr, n, MSG_NOSIGNAL), n);
}

/* A peer that speaks ZMTP by hand: what no link of ours sends is skipped, a frame past the limit ends the
 * connection. */
static void test_foreign_messages(void **state)
{
    const fixture *f = *state;
    phx_link *router = bind_or_fail(f->ipc, NULL);
    phx_peer peer;
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    (void)snprintf(to.sun_path, sizeof(to.sun_path), "%s", f->path);
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&to, sizeof(to)), 0);
    assert_int_equal(sizeof(zmtp_hello) - 1, 64 + 2 + 28);
    send_raw(fd, zmtp_hello, 64);
    char answer[256];
    ssize_t n;
    for (size_t n_read = 0; n_read < 64;
         n_read += (size_t)n) { /* libzmq 4.3.4 stalls when READY comes sooner */
        n = recv(fd, answer, sizeof(answer), 0);
        assert_true(n > 0);
    }
    send_raw(fd, zmtp_hello + 64, sizeof(zmtp_hello) - 1 - 64);
    send_raw(fd, "\0\2hi", 4);
    expect_message(router, &peer, "hi");
    send_raw(fd, "\1\1a\0\1b\0\2ok", 10); /* two parts, then one */
    expect_message(router, &peer, "ok");
    send_raw(fd, "\2\0\0\0\0\1\0\0\1", 9); /* 16 MiB + 1 announced */
    while ((n = recv(fd, answer, sizeof(answer), 0)) > 0)
        continue;
    assert_true(n == 0 || errno == ECONNRESET);
    close(fd);
    expect_silence(router);
    phx_link_close(router);
}

static void test_message_sizes(void **state)
{
    const fixture *f = *state;
    phx_link *router = bind_or_fail(f->ipc, NULL), *dealer = connect_or_fail(f->ipc, NULL, NULL);
    phx_buf big, message;
    phx_peer peer;
    phx_error err = {0};
    phx_buf_init(&big, PHX_MESSAGE_MAX + 1);
    phx_buf_init(&message, PHX_MESSAGE_MAX);
    char chunk[65536] = {1};
    while (big.n < PHX_MESSAGE_MAX)
        assert_int_equal(phx_buf_append(&big, chunk, sizeof(chunk)), PHX_OK);
    const phx_bytes at_limit = {(const uint8_t *)big.ptr, big.n};
    assert_int_equal(phx_link_send(dealer, NULL, at_limit, &err), PHX_OK);
    assert_int_equal(receive_wait(router, &peer, &message, &err), PHX_OK);
    assert_int_equal(message.n, big.n);
    const phx_bytes past_limit = {(const uint8_t *)big.ptr, big.n + 1}; /* with the terminator */
    assert_int_equal(phx_link_send(dealer, NULL, past_limit, NULL), PHX_ERR_TOO_LONG);

    phx_buf small; /* a receiver with less room loses the message, and knows */
    phx_buf_init(&small, 16);
    assert_int_equal(phx_link_send(dealer, NULL, (phx_bytes){at_limit.ptr, 17}, NULL), PHX_OK);
    assert_int_equal(receive_wait(router, &peer, &small, NULL), PHX_ERR_TOO_LONG);
    exchange(router, dealer, NULL);
    phx_buf_done(&small);
    phx_buf_done(&big);
    phx_buf_done(&message);
    phx_link_close(dealer);
    phx_link_close(router);
}

/* Child: connects to the address that comes through a pipe, says hello, waits to be killed. It must be forked
 * before we have links, whose threads a fork would leave in the middle of something. */
static pid_t start_client(const phx_link_keys *keys, int *ret_address_fd)
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        phx_link *dealer = NULL;
        char address[128];
        if (read(fds[0], address, sizeof(address)) != (ssize_t)sizeof(address) ||
            phx_link_connect(address, keys, "e1r1", &dealer, NULL) != PHX_OK ||
            phx_link_send(dealer, NULL, text_bytes("hello"), NULL) != PHX_OK)
            _exit(1);
        for (;;)
            pause();
    }
    close(fds[0]);
    *ret_address_fd = fds[1];
    return child;
}

static void kill_and_reap(pid_t child)
{
    int status = 0;
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, &status, 0), child);
}

static void test_killed_client(void **state)
{
    const fixture *f = *state;
    const phx_link_keys keys = client_keys(f);
    for (int tcp = 0; tcp < 2; tcp++) {
        int address_fd = -1;
        const pid_t child = start_client(tcp ? &keys : NULL, &address_fd);
        phx_link *router = bind_or_fail(tcp ? "tcp://127.0.0.1:0" : f->ipc, tcp ? &f->keys : NULL);
        char address[128] = {0};
        snprintf(address, sizeof(address), "%s", phx_link_address(router));
        assert_int_equal(write(address_fd, address, sizeof(address)), sizeof(address));
        close(address_fd);
        phx_peer peer = {0};
        expect_message(router, &peer, "hello");
        assert_int_equal(phx_link_send(router, &peer, text_bytes("still there"), NULL), PHX_OK);
        kill_and_reap(child);
        phx_code rc = PHX_OK;
        for (int i = 0; rc == PHX_OK && i < PATIENCE_MS / 10; i++) {
            rc = phx_link_send(router, &peer, text_bytes("anyone?"), NULL);
            (void)poll(NULL, 0, 10);
        }
        assert_int_equal(rc, PHX_ERR_UNAVAILABLE);
        phx_link_close(router);
    }
    phx_link *router = bind_or_fail(f->ipc, NULL);
    const phx_peer unknown = {.id = "nobody", .n = 6};
    assert_int_equal(phx_link_send(router, &unknown, text_bytes("x"), NULL), PHX_ERR_UNAVAILABLE);
    phx_link_close(router);
}

/* Child: binds, greets n_messages times whoever comes, waits to be killed. The address comes back through a
 * pipe. */
static pid_t start_server(const char *address, const phx_link_keys *keys, int n_messages,
                          char ret_address[128])
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        phx_link *router = NULL;
        if (phx_link_bind(address, keys, &router, NULL) != PHX_OK)
            _exit(1);
        char text[128] = {0};
        snprintf(text, sizeof(text), "%s", phx_link_address(router));
        if (write(fds[1], text, sizeof(text)) != (ssize_t)sizeof(text))
            _exit(2);
        phx_buf message;
        phx_peer peer;
        phx_buf_init(&message, 1024);
        if (receive_wait(router, &peer, &message, NULL) != PHX_OK)
            _exit(3);
        for (int i = 0; i < n_messages; i++)
            if (phx_link_send(router, &peer, text_bytes("welcome"), NULL) != PHX_OK)
                _exit(4);
        for (;;)
            pause();
    }
    close(fds[1]);
    assert_int_equal(read(fds[0], ret_address, 128), 128);
    close(fds[0]);
    return child;
}

static void test_killed_server(void **state)
{
    const fixture *f = *state;
    const phx_link_keys keys = client_keys(f);
    for (int tcp = 0; tcp < 2; tcp++) {
        char address[128];
        const pid_t child =
            start_server(tcp ? "tcp://127.0.0.1:0" : f->ipc, tcp ? &f->keys : NULL, 100, address);
        phx_link *dealer = connect_or_fail(address, tcp ? &keys : NULL, NULL);
        assert_int_equal(phx_link_send(dealer, NULL, text_bytes("hello"), NULL), PHX_OK);
        for (int i = 0; i < 100; i++) /* all that was sent before the death is there */
            expect_message(dealer, NULL, "welcome");
        phx_buf message;
        phx_buf_init(&message, 64);
        assert_int_equal(phx_link_receive(dealer, NULL, &message, NULL), PHX_ERR_NOT_FOUND);
        const uint64_t start_us = phx_clock_us();
        kill_and_reap(child);
        /* The descriptor of an event loop tells it, too. */
        struct pollfd item = {.fd = phx_link_fd(dealer), .events = POLLIN};
        assert_int_equal(poll(&item, 1, PATIENCE_MS), 1);
        assert_int_equal(receive_wait(dealer, NULL, &message, NULL), PHX_ERR_UNAVAILABLE);
        print_message("loss noticed after %llu us\n", (unsigned long long)(phx_clock_us() - start_us));
        assert_true(phx_link_wait(dealer, -1, 0));
        assert_int_equal(phx_link_send(dealer, NULL, text_bytes("x"), NULL), PHX_ERR_UNAVAILABLE);
        if (!tcp) { /* a new coordinator replaces the dead one's socket; the old link stays lost */
            assert_true(phx_file_exists(f->path));
            phx_link *router = bind_or_fail(f->ipc, NULL);
            assert_int_equal(phx_link_send(dealer, NULL, text_bytes("x"), NULL), PHX_ERR_UNAVAILABLE);
            expect_silence(router);
            phx_link_close(router);
        }
        phx_link_close(dealer);
        phx_buf_done(&message);
    }
}

static void test_nobody_there(void **state)
{
    const fixture *f = *state;
    phx_link *link = NULL;
    const phx_link_keys keys = client_keys(f);
    assert_int_equal(phx_link_connect(f->ipc, NULL, NULL, &link, NULL), PHX_ERR_UNAVAILABLE);
    phx_link *router = bind_or_fail("tcp://127.0.0.1:0", &f->keys);
    char address[128];
    snprintf(address, sizeof(address), "%s", phx_link_address(router));
    phx_link_close(router);
    assert_int_equal(phx_link_connect(address, &keys, NULL, &link, NULL), PHX_ERR_UNAVAILABLE);
    assert_null(link);
}

static void test_bind_rules(void **state)
{
    const fixture *f = *state;
    phx_link *router = bind_or_fail(f->ipc, NULL), *other = NULL;
    assert_int_equal(phx_link_bind(f->ipc, NULL, &other, NULL), PHX_ERR_IN_USE);
    phx_link_close(router);
    assert_int_equal(chmod(f->directory, 0750), 0);
    assert_int_equal(phx_link_bind(f->ipc, NULL, &other, NULL), PHX_ERR_DENIED);
    assert_int_equal(chmod(f->directory, 0700), 0);
    const int fd = open(f->path, O_CREAT | O_WRONLY, 0600); /* a file is not ours to remove */
    close(fd);
    assert_int_equal(phx_link_bind(f->ipc, NULL, &other, NULL), PHX_ERR_IN_USE);
    assert_int_equal(unlink(f->path), 0);
    char address[256];
    snprintf(address, sizeof(address), "ipc://%s/no/control", f->directory);
    assert_int_equal(phx_link_bind(address, NULL, &other, NULL), PHX_ERR_NOT_FOUND);
    snprintf(address, sizeof(address), "ipc://%s/%0120d", f->directory, 1);
    assert_int_equal(phx_link_bind(address, NULL, &other, NULL), PHX_ERR_INVALID);
    assert_int_equal(phx_link_bind("tcp://127.0.0.1:0", NULL, &other, NULL), PHX_ERR_INVALID);
    assert_int_equal(phx_link_bind("inproc://x", NULL, &other, NULL), PHX_ERR_INVALID);
    assert_int_equal(phx_link_bind("tcp://no.such.host.invalid:1", &f->keys, &other, NULL), PHX_ERR_IO);
    router = bind_or_fail("tcp://127.0.0.1:0", &f->keys);
    assert_int_equal(phx_link_bind(phx_link_address(router), &f->keys, &other, NULL), PHX_ERR_IN_USE);
    phx_link_close(router);
    assert_null(other);
}

static void test_full_queue(void **state)
{
    const fixture *f = *state;
    phx_link *router = bind_or_fail(f->ipc, NULL), *dealer = connect_or_fail(f->ipc, NULL, NULL);
    phx_code rc = PHX_OK;
    uint32_t n = 0;
    static const uint8_t body[8192];
    for (; rc == PHX_OK && n < 10 * PHX_LINK_QUEUE_MAX; n++) /* nobody reads */
        rc = phx_link_send(dealer, NULL, (phx_bytes){body, sizeof(body)}, NULL);
    assert_int_equal(rc, PHX_ERR_UNAVAILABLE);
    assert_true(n > PHX_LINK_QUEUE_MAX);
    phx_buf message;
    phx_peer peer;
    phx_buf_init(&message, 65536);
    for (uint32_t i = 0; i + 1 < n; i++) /* and nothing was dropped */
        assert_int_equal(receive_wait(router, &peer, &message, NULL), PHX_OK);
    expect_silence(router);
    phx_buf_done(&message);
    phx_link_close(dealer);
    phx_link_close(router);
}

static void test_wait_for_another_descriptor(void **state)
{
    const fixture *f = *state;
    phx_link *router = bind_or_fail(f->ipc, NULL);
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    assert_false(phx_link_wait(router, fds[0], 0));
    assert_int_equal(write(fds[1], "x", 1), 1);
    assert_true(phx_link_wait(router, fds[0], PATIENCE_MS));
    close(fds[0]);
    close(fds[1]);
    phx_link_close(router);
}

static void test_key_file(void **state)
{
    const fixture *f = *state;
    char path[128];
    snprintf(path, sizeof(path), "%s/key", f->directory);
    phx_link_keys keys = {0};
    assert_int_equal(phx_link_keys_read(path, &keys, NULL), PHX_ERR_NOT_FOUND);
    assert_int_equal(phx_link_keys_write(&f->keys, path, NULL), PHX_OK);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(phx_link_keys_read(path, &keys, NULL), PHX_OK);
    const phx_link_keys expected = client_keys(f);
    assert_memory_equal(&keys, &expected, sizeof(keys));
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(phx_link_keys_read(path, &keys, NULL), PHX_ERR_DENIED);
    assert_int_equal(chmod(path, 0600), 0);
    static const char *const malformed[] = {"", "server x\n",
                                            "secret 0123456789012345678901234567890123456789\n",
                                            "server 0123456789012345678901234567890123456789\n"
                                            "server 0123456789012345678901234567890123456789\n"
                                            "public 0123456789012345678901234567890123456789\n",
                                            "server \"123456789012345678901234567890123456789\n"};
    for (size_t i = 0; i < sizeof(malformed) / sizeof(malformed[0]); i++) {
        assert_int_equal(phx_file_write(path, text_bytes(malformed[i]), 0600, NULL), PHX_OK);
        assert_int_equal(phx_link_keys_read(path, &keys, NULL), PHX_ERR_CORRUPT);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_ipc),
        TEST(test_tcp_curve),
        TEST(test_strangers_stay_out),
        TEST(test_garbage_and_plaintext),
        TEST(test_foreign_messages),
        TEST(test_message_sizes),
        TEST(test_killed_client),
        TEST(test_killed_server),
        TEST(test_nobody_there),
        TEST(test_bind_rules),
        TEST(test_full_queue),
        TEST(test_wait_for_another_descriptor),
        TEST(test_key_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
