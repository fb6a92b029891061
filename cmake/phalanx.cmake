# phx_library, phx_program, phx_test: the only ways a target is made, so that warnings, hardening and
# sanitizers are the same everywhere.

add_library(phx_flags INTERFACE)
target_compile_definitions(phx_flags INTERFACE _GNU_SOURCE)
target_include_directories(phx_flags INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_options(phx_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wvla -Walloca -Wstrict-prototypes
  -Wmissing-prototypes -Wwrite-strings -Wformat=2 $<$<BOOL:${PHX_WERROR}>:-Werror>
  # One arithmetic per kernel (DESIGN 7a): the compiler may not fuse or reorder on its own.
  -ffp-contract=off -fno-fast-math -fno-math-errno
  -fstack-protector-strong -fvisibility=hidden)
if(CMAKE_BUILD_TYPE MATCHES "Rel" AND NOT PHX_SANITIZE)
  target_compile_options(phx_flags INTERFACE -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2)
  target_link_options(phx_flags INTERFACE -Wl,-z,relro,-z,now)
endif()
if(PHX_SANITIZE)
  target_compile_options(phx_flags INTERFACE -fsanitize=${PHX_SANITIZE} -fno-sanitize-recover=all
    -fno-omit-frame-pointer)
  target_link_options(phx_flags INTERFACE -fsanitize=${PHX_SANITIZE})
endif()

if(CMAKE_C_COMPILER_ID MATCHES "Clang")
  target_compile_options(phx_flags INTERFACE -Wno-string-conversion) # assert(!"reason"), which gcc takes
endif()
if(PHX_FUZZ)
  target_compile_options(phx_flags INTERFACE -fsanitize=fuzzer-no-link)
  target_link_options(phx_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()

# phx_library(NAME SOURCES a.c ... LINKS lib ...)
function(phx_library name)
  cmake_parse_arguments(A "" "" "SOURCES;LINKS" ${ARGN})
  add_library(${name} STATIC ${A_SOURCES})
  target_link_libraries(${name} PUBLIC phx_flags ${A_LINKS})
endfunction()

# phx_program(NAME SOURCES a.c ... LINKS lib ...): lands in the top of the build folder.
function(phx_program name)
  cmake_parse_arguments(A "" "" "SOURCES;LINKS" ${ARGN})
  add_executable(${name} ${A_SOURCES})
  target_link_libraries(${name} PRIVATE phx_flags ${A_LINKS})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})
endfunction()

# phx_script_test(NAME SCRIPT [LABELS l ...] [TIMEOUT s] [LONG_TIMEOUT s]): a script; exit 77 means skipped. With
# LONG_TIMEOUT there is NAME_long too, labelled long, which runs it with --long.
function(phx_script_test name script)
  cmake_parse_arguments(A "" "TIMEOUT;LONG_TIMEOUT" "LABELS" ${ARGN})
  if(NOT A_TIMEOUT)
    set(A_TIMEOUT 900)
  endif()
  add_test(NAME ${name} COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/${script} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  set(all ${name})
  set_tests_properties(${name} PROPERTIES TIMEOUT ${A_TIMEOUT} LABELS "${A_LABELS}")
  if(A_LONG_TIMEOUT)
    add_test(NAME ${name}_long COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/${script} --long
      WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
    set_tests_properties(${name}_long PROPERTIES TIMEOUT ${A_LONG_TIMEOUT} LABELS "${A_LABELS};long")
    list(APPEND all ${name}_long)
  endif()
  set_tests_properties(${all} PROPERTIES SKIP_RETURN_CODE 77 ENVIRONMENT
    "PHX_SHARED=${CMAKE_SOURCE_DIR}/../shared;PHX_BUILD=${CMAKE_BINARY_DIR};PHX_SOURCE=${CMAKE_SOURCE_DIR}")
endfunction()

# phx_test(NAME SOURCES a.c ... LINKS lib ... [LABELS l ...] [TIMEOUT s]): a cmocka program; exit 77 means skipped.
function(phx_test name)
  cmake_parse_arguments(A "" "TIMEOUT" "SOURCES;LINKS;LABELS" ${ARGN})
  add_executable(${name} ${A_SOURCES})
  target_link_libraries(${name} PRIVATE phx_flags ${A_LINKS} PkgConfig::CMOCKA)
  add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
  if(NOT A_TIMEOUT)
    set(A_TIMEOUT 600)
  endif()
  set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT ${A_TIMEOUT} LABELS "${A_LABELS}"
    ENVIRONMENT "PHX_SHARED=${CMAKE_SOURCE_DIR}/../shared;PHX_BUILD=${CMAKE_BINARY_DIR};PHX_SOURCE=${CMAKE_SOURCE_DIR}")
endfunction()
