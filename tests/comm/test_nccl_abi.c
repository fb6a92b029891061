/* tests/comm/test_nccl_abi.c - our own words for NCCL's types against nccl.h, and what is said without NCCL.
 * Where nccl.h is not installed the comparison is left out of the build, and the test says so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "worker/comm/nccl_api.h"

#ifdef PHX_TEST_NCCL_H
#include <nccl.h>

static void types_are_those_of_nccl_h(void **state)
{
    (void)state;
    assert_int_equal(sizeof(phx_nccl_id), sizeof(ncclUniqueId));
    assert_int_equal(offsetof(phx_nccl_config, bytes), offsetof(ncclConfig_t, size));
    assert_int_equal(offsetof(phx_nccl_config, magic), offsetof(ncclConfig_t, magic));
    assert_int_equal(offsetof(phx_nccl_config, version), offsetof(ncclConfig_t, version));
    assert_int_equal(offsetof(phx_nccl_config, blocking), offsetof(ncclConfig_t, blocking));
    assert_true(sizeof(phx_nccl_config) <= sizeof(ncclConfig_t));
    const ncclConfig_t theirs = NCCL_CONFIG_INITIALIZER;
    assert_int_equal(PHX_NCCL_CONFIG_MAGIC, theirs.magic);
    assert_true(PHX_NCCL_VERSION_LEAST <= theirs.version);
    assert_int_equal(PHX_NCCL_SUCCESS, ncclSuccess);
    assert_int_equal(PHX_NCCL_UNHANDLED_CUDA_ERROR, ncclUnhandledCudaError);
    assert_int_equal(PHX_NCCL_SYSTEM_ERROR, ncclSystemError);
    assert_int_equal(PHX_NCCL_INTERNAL_ERROR, ncclInternalError);
    assert_int_equal(PHX_NCCL_INVALID_ARGUMENT, ncclInvalidArgument);
    assert_int_equal(PHX_NCCL_INVALID_USAGE, ncclInvalidUsage);
    assert_int_equal(PHX_NCCL_REMOTE_ERROR, ncclRemoteError);
    assert_int_equal(PHX_NCCL_IN_PROGRESS, ncclInProgress);
    assert_int_equal(PHX_NCCL_UINT8, ncclUint8);
    assert_int_equal(PHX_NCCL_FLOAT32, ncclFloat32);
    assert_int_equal(PHX_NCCL_SUM, ncclSum);
    assert_int_equal(sizeof(phx_nccl_result), sizeof(ncclResult_t));
    assert_int_equal(sizeof(phx_nccl_type), sizeof(ncclDataType_t));
    assert_int_equal(sizeof(phx_nccl_op), sizeof(ncclRedOp_t));
    /* A function of another number or kind of arguments does not build. Nothing is called: no library is
     * linked. */
    phx_nccl_comm comm = NULL;
    ncclComm_t same = comm;
    ncclResult_t (*send)(const void *, size_t, ncclDataType_t, int, ncclComm_t, cudaStream_t);
    ncclResult_t (*recv)(void *, size_t, ncclDataType_t, int, ncclComm_t, cudaStream_t);
    ncclResult_t (*gather)(const void *, void *, size_t, ncclDataType_t, ncclComm_t, cudaStream_t);
    ncclResult_t (*reduce)(const void *, void *, size_t, ncclDataType_t, ncclRedOp_t, ncclComm_t,
                           cudaStream_t);
    ncclResult_t (*init)(ncclComm_t *, int, ncclUniqueId, int, ncclConfig_t *);
    assert_null(same);
    assert_true(sizeof(send = ncclSend) + sizeof(recv = ncclRecv) + sizeof(gather = ncclAllGather) +
                    sizeof(reduce = ncclAllReduce) + sizeof(init = ncclCommInitRankConfig) >
                0);
}
#endif

static void a_missing_library_is_named(void **state)
{
    (void)state;
    phx_nccl_api api = {.version = 1};
    phx_error err = {0};
    assert_int_equal(phx_nccl_open("libnccl-not-here.so.2", &api, &err), PHX_ERR_UNAVAILABLE);
    assert_non_null(strstr(err.text, "libnccl-not-here.so.2"));
    assert_non_null(strstr(err.text, "install libnccl2"));
    assert_null(strchr(err.text, '\n'));
    memset(&err, 0, sizeof(err));
    assert_int_equal(phx_nccl_open("libc.so.6", &api, &err), PHX_ERR_UNAVAILABLE);
    assert_non_null(strstr(err.text, "NCCL has no function ncclGetVersion"));
    assert_int_equal(api.version, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#ifdef PHX_TEST_NCCL_H
        cmocka_unit_test(types_are_those_of_nccl_h),
#endif
        cmocka_unit_test(a_missing_library_is_named),
    };
#ifndef PHX_TEST_NCCL_H
    (void)printf("nccl.h is not installed: types are not compared\n");
#endif
    return cmocka_run_group_tests(tests, NULL, NULL);
}
