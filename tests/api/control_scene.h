/* tests/api/control_scene.h - the control service over a Unix socket, and a bare link to it where a test must
 * see frames, in one thread with the api's rig. */
#ifndef PHX_TESTS_API_CONTROL_SCENE_H
#define PHX_TESTS_API_CONTROL_SCENE_H

#include "proto/codec.h"
#include "proto/link.h"
#include "tests/api/api_rig.h"

enum { PATIENCE_US = 60 * 1000 * 1000 }; /* against hanging, on a busy machine and under sanitizers */

typedef struct scene {
    api_rig r;
    char dir[64];
    char address[128];
    phx_link *client; /* bare; NULL until scene_connect */
    phx_buf in;       /* what came last, with room from the start: receiving allocates nothing */
} scene;

void scene_open(scene *s);
void scene_close(scene *s); /* checks that nothing is left */
void scene_connect(scene *s);
void scene_step(scene *s,
                uint64_t start_us); /* a round of the loop; fails when patience since then is over */

void scene_send(scene *s, Phalanx__ClientFrame *frame);
/* Greedy, unless the request has a sampling. */
void scene_generate(scene *s, uint64_t call_id, Phalanx__GenerateRequest *request, uint32_t deadline_ms);
void scene_credit(scene *s, uint64_t call_id, uint32_t n);

/* The next frame that comes, to be freed by phx_server_frame_free; or in two parts, the first of which lets
 * an allocation fail nowhere but in the server. */
Phalanx__ServerFrame *scene_await(scene *s);
void scene_receive(scene *s);
Phalanx__ServerFrame *scene_decode(scene *s);

#endif
