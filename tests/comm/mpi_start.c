/* tests/comm/mpi_start.c - begins and ends MPI for a test, as worker/main.c does for a worker. */
#include "tests/comm/mpi_start.h"

#include <mpi.h>
#include <stddef.h>

bool phx_mpi_start(uint32_t *ret_rank)
{
    int provided = MPI_THREAD_SINGLE, rank = 0;
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS)
        return false;
    if (provided < MPI_THREAD_FUNNELED || MPI_Comm_rank(MPI_COMM_WORLD, &rank) != MPI_SUCCESS)
        return false;
    *ret_rank = (uint32_t)rank;
    return true;
}

void phx_mpi_end(void)
{
    (void)MPI_Finalize();
}
