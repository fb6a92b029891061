/* tests/api/control_scene.c - see control_scene.h. */
#include "tests/api/control_scene.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"

void scene_open(scene *s)
{
    phx_link *link = NULL;
    phx_error err = {0};
    static const char room[4096];
    *s = (scene){0};
    api_rig_open(&s->r);
    phx_buf_init(&s->in, PHX_MESSAGE_MAX);
    assert_int_equal(phx_buf_append(&s->in, room, sizeof(room)), PHX_OK);
    (void)snprintf(s->dir, sizeof(s->dir), "/tmp/phx_api_XXXXXX");
    assert_non_null(mkdtemp(s->dir));
    (void)snprintf(s->address, sizeof(s->address), "ipc://%s/control", s->dir);
    if (phx_link_bind(s->address, NULL, &link, &err) != PHX_OK ||
        phx_api_serve_control(s->r.api, link, &err) != PHX_OK)
        fail_msg("%s", err.text);
}

void scene_close(scene *s)
{
    char path[160];
    phx_link_close(s->client);
    phx_buf_done(&s->in);
    api_rig_close(&s->r);
    (void)snprintf(path, sizeof(path), "%s/control", s->dir);
    (void)unlink(path);
    assert_int_equal(rmdir(s->dir), 0);
}

void scene_connect(scene *s)
{
    phx_error err = {0}; /* the handshake is made by the library's own threads, so this may block */
    if (phx_link_connect(s->address, NULL, NULL, &s->client, &err) != PHX_OK)
        fail_msg("%s", err.text);
}

void scene_step(scene *s, uint64_t start_us)
{
    assert_int_equal(phx_loop_step(s->r.web.loop, 1000, NULL), PHX_OK);
    assert_true(phx_clock_us() - start_us < PATIENCE_US);
}

void scene_send(scene *s, Phalanx__ClientFrame *frame)
{
    phx_buf wire;
    phx_buf_init(&wire, PHX_MESSAGE_MAX);
    assert_int_equal(phx_message_encode(&frame->base, &wire, NULL), PHX_OK);
    assert_int_equal(phx_link_send(s->client, NULL, (phx_bytes){(const uint8_t *)wire.ptr, wire.n}, NULL),
                     PHX_OK);
    phx_buf_done(&wire);
}

void scene_generate(scene *s, uint64_t call_id, Phalanx__GenerateRequest *request, uint32_t deadline_ms)
{
    Phalanx__Sampling sampling = PHALANX__SAMPLING__INIT;
    Phalanx__ClientFrame frame = PHALANX__CLIENT_FRAME__INIT;
    sampling.top_p = sampling.repetition_penalty = 1;
    if (!request->sampling)
        request->sampling = &sampling;
    frame.call_id = call_id;
    frame.deadline_ms = deadline_ms;
    frame.body_case = PHALANX__CLIENT_FRAME__BODY_GENERATE;
    frame.generate = request;
    scene_send(s, &frame);
    if (request->sampling == &sampling)
        request->sampling = NULL;
}

void scene_credit(scene *s, uint64_t call_id, uint32_t n)
{
    Phalanx__CaptureCredit credit = PHALANX__CAPTURE_CREDIT__INIT;
    Phalanx__ClientFrame frame = PHALANX__CLIENT_FRAME__INIT;
    credit.n_parts = n;
    frame.call_id = call_id;
    frame.body_case = PHALANX__CLIENT_FRAME__BODY_CREDIT;
    frame.credit = &credit;
    scene_send(s, &frame);
}

Phalanx__ServerFrame *scene_await(scene *s)
{
    scene_receive(s);
    return scene_decode(s);
}

void scene_receive(scene *s)
{
    const uint64_t start_us = phx_clock_us();
    while (phx_link_receive(s->client, NULL, &s->in, NULL) != PHX_OK)
        scene_step(s, start_us);
}

Phalanx__ServerFrame *scene_decode(scene *s)
{
    Phalanx__ServerFrame *frame = NULL;
    assert_int_equal(phx_server_frame_decode((phx_bytes){(const uint8_t *)s->in.ptr, s->in.n}, &frame, NULL),
                     PHX_OK);
    return frame;
}
