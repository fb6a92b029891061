/* tests/emu/record.hpp - recordings of a stream, a part of runtime.hpp. While a stream records, launches and
 * copies between device and pinned memory are kept, and run on the stream's thread whenever that is replayed.
 * A wait, a question to an event, taken or given memory, a copy of other memory, and an order of streams
 * spoil it: as on a chip, or more so. */
#ifndef PHX_TESTS_EMU_RECORD_HPP
#define PHX_TESTS_EMU_RECORD_HPP

#include "tests/emu/emu.hpp"
#include "tests/emu/stream.h"

constexpr cudaError_t cudaErrorStreamCaptureUnsupported = (cudaError_t)900;
constexpr cudaError_t cudaErrorStreamCaptureInvalidated = (cudaError_t)901;

enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 };
typedef phx_emu_recording *cudaGraph_t; /* goes with the cudaGraphExec_t made of it */
typedef phx_emu_recording *cudaGraphExec_t;
typedef void *cudaGraphNode_t;

extern "C" {
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *ret);
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *ret_n); /* nodes: NULL */
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *ret, cudaGraph_t graph, unsigned long long flags);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphUpload(cudaGraphExec_t graph, cudaStream_t stream);
cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph);
}

#endif
