# The one place that looks for a CUDA toolkit. Sets PHX_CUDA_PLUGIN: whether libphalanx_cuda.so is built. Programs
# and the emulator never need it: without nvcc the plugin is left out, and that is said.
set(PHX_CUDA AUTO CACHE STRING "build the CUDA plugin: AUTO (where nvcc is found), ON, OFF")
set(PHX_CUDA_TARGETS "80;86;89;90a;100;120" CACHE STRING
  "architectures of the CUDA plugin; PTX of the last one is added, for chips that come later")
set(PHX_CUDA_PLUGIN OFF)

if(PHX_CUDA STREQUAL "OFF")
  message(STATUS "PHX_CUDA is OFF: libphalanx_cuda.so is not built")
elseif(PHX_SANITIZE OR PHX_FUZZ)
  message(STATUS "sanitizers: libphalanx_cuda.so is not built")
else()
  # A login shell adds the toolkit to PATH; cron, ssh and CI do not.
  find_program(PHX_NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH PATH_SUFFIXES bin PATHS /usr/local/cuda/bin)
  if(PHX_NVCC)
    set(PHX_CUDA_PLUGIN ON)
  elseif(PHX_CUDA STREQUAL "ON")
    message(FATAL_ERROR "PHX_CUDA is ON and there is no nvcc in PATH, CUDA_HOME or /usr/local/cuda/bin: "
      "install the CUDA toolkit 13, or configure with -DPHX_NVCC=/path/to/nvcc")
  else()
    message(STATUS "no nvcc in PATH, CUDA_HOME or /usr/local/cuda/bin: libphalanx_cuda.so is not built; "
      "for GPUs install the CUDA toolkit 13 and configure again")
  endif()
endif()

if(PHX_CUDA_PLUGIN)
  if(NOT CMAKE_CUDA_COMPILER)
    set(CMAKE_CUDA_COMPILER ${PHX_NVCC})
  endif()
  set(CMAKE_CUDA_ARCHITECTURES)
  foreach(target ${PHX_CUDA_TARGETS})
    list(APPEND CMAKE_CUDA_ARCHITECTURES ${target}-real)
  endforeach()
  list(GET PHX_CUDA_TARGETS -1 target)
  list(APPEND CMAKE_CUDA_ARCHITECTURES ${target}-virtual)
  set(CMAKE_CUDA_STANDARD 17)
  enable_language(CUDA)
  find_library(PHX_NCCL nccl HINTS /usr/local/cuda/lib64 ENV CUDA_HOME PATH_SUFFIXES lib64)
  if(NOT PHX_NCCL)
    message(STATUS "no libnccl: GPUs of several ranks need libnccl.so.2 when they run, not to build")
  endif()
  string(REPLACE ";" " " targets "${PHX_CUDA_TARGETS}")
  message(STATUS "libphalanx_cuda.so: ${PHX_NVCC} for ${targets}, and PTX of ${target}")
endif()
