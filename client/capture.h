/* client/capture.h - tensors captured from a server, put together from their parts.
 * Owns: the values, and the check that every row arrived whole and once. */
#ifndef PHX_CLIENT_CAPTURE_H
#define PHX_CLIENT_CAPTURE_H

#include "client/control_client.h"
#include "client/interrupt.h"
#include "model/dtype.h"

#define PHX_CAPTURE_TENSORS_MAX 4096u
#define PHX_CAPTURE_BYTES_MAX   (16ull << 30)

typedef struct phx_captured {
    char name[64];      /* "logits", "hidden.3", ... */
    phx_dtype dtype;    /* PHX_F32 or PHX_I32 */
    uint32_t n_rows;    /* of the prompt, whether they arrived or not; mtp.*: one less */
    uint32_t n_cols;    /* index_scores: n_rows; columns above the diagonal are 0 */
    uint32_t row_first; /* rows before it were reused from the prefix cache and are 0 */
    void *values;       /* [n_rows][n_cols] of 4 bytes */
} phx_captured;

typedef struct phx_capture phx_capture;

phx_code phx_capture_create(uint32_t n_tokens, phx_capture **ret_capture, phx_error *err);
void phx_capture_destroy(phx_capture *capture); /* accepts NULL */

/* Takes one part. PHX_ERR_CORRUPT: it does not fit what came before; PHX_ERR_TOO_LONG: a ceiling above. */
phx_code phx_capture_add(phx_capture *capture, const Phalanx__CapturePart *part, phx_error *err);

/* After the last part: joins the slices of tensor-parallel ranks and checks that nothing is missing from row
 * n_warm_max on, nor anything before the first row that came. PHX_ERR_CORRUPT names tensor and row. */
phx_code phx_capture_finish(phx_capture *capture, uint32_t n_warm_max, phx_error *err);

const phx_captured *phx_capture_find(const phx_capture *capture,
                                     const char *name); /* NULL: was not captured */
size_t phx_capture_count(const phx_capture *capture);
const phx_captured *phx_capture_at(const phx_capture *capture, size_t idx);

typedef struct phx_capture_request {
    const uint32_t *ids;
    uint32_t n_ids;
    uint32_t mask;  /* PHX_CAPTURE_* of proto/step_plan.h */
    uint32_t chunk; /* largest prefill chunk; 0: the server's */
    uint32_t warm;  /* leading tokens to take from the prefix cache */
} phx_capture_request;

/* Runs the capture and returns it finished; destroy with phx_capture_destroy. */
phx_code phx_capture_run(phx_client *client, phx_interrupt *interrupt, const phx_capture_request *request,
                         phx_capture **ret_capture, phx_error *err);

#endif
