/* tests/proto/fake_server.h - a tiny coordinator for tests of clients: one child process that speaks the
 * control service.
 *
 * It is the test program itself, started anew: a fork of a process with threads may not go on by itself.
 * Status answers at once. Plan is refused: queue full. Drain is never answered. Generate does what its text
 * says: "count N"   N events with one token each, ids 1 to N, then a good end "together"  one event in the
 * frame that ends the call "forever"   an event whenever nothing else is to do, until cancelled "silent"
 * nothing "capture N" N parts, never more than were granted, then a good end "pair"      answers to two such
 * calls in turn, once both are there "bad"       bytes that are no frame "die"       ends the process */
#ifndef PHX_TESTS_FAKE_SERVER_H
#define PHX_TESTS_FAKE_SERVER_H

#include <stdint.h>
#include <sys/types.h>

#include "proto/link.h"

/* Returns once the address is bound; keys NULL for ipc. ret_address gets what is bound. */
pid_t fake_server_start(const char *address, const phx_link_keys *keys, char ret_address[256]);
int fake_server_main(const char *address); /* what main does when called with --fake-server ADDRESS */
void fake_server_kill(pid_t child);        /* also one that has ended by itself */

#endif
