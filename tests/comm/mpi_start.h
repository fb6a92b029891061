/* tests/comm/mpi_start.h - begins and ends MPI for a test, as worker/main.c does for a worker. */
#ifndef PHX_TESTS_COMM_MPI_START_H
#define PHX_TESTS_COMM_MPI_START_H

#include <stdbool.h>
#include <stdint.h>

bool phx_mpi_start(uint32_t *ret_rank);
void phx_mpi_end(void);

#endif
