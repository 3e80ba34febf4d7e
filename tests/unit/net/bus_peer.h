/* bus_peer: the other process of test_bus: the same program, started again as `test_net_bus peer ROLE ...`.
 *
 * It does what frames tell it to, so that all of a test's script stands in the test:
 *   'E' rest             sends the frame back
 *   'S' count32 size32   sends count frames of size bytes ('s' first, then zeros)
 *   'N' number32         counts, and remembers whether each number was the last one's successor
 *   'C'                  answers 'C' count32 in_order8
 *   'X'                  exits with 0
 * A dialling peer says "hello" whenever it gets connected. Roles:
 *   dial ENDPOINT SERVER_KEY PUBLIC SECRET FRAME_MAX     serve ENDPOINT PUBLIC SECRET ALLOWED_KEY
 *   raw-id ENDPOINT SERVER_KEY PUBLIC SECRET             a routing id of its own choice, frames of three parts; then
 * "done" raw-plain ENDPOINT                                   without CURVE; then exits with 0 */
#ifndef SHOAL_TESTS_UNIT_NET_BUS_PEER_H
#define SHOAL_TESTS_UNIT_NET_BUS_PEER_H

int bus_peer_main(int argc, char **argv);

#endif
