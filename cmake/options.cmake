# What the build may switch, and the flags that every room gets.
option(SHOAL_TESTS "build the tests" ON)
option(SHOAL_WERROR "warnings are errors" ON)
option(SHOAL_FUZZ "build the libFuzzer targets (clang only)" OFF)
set(SHOAL_FUZZ_SECONDS 10 CACHE STRING "how long CTest runs each fuzz target")
set(SHOAL_SANITIZE "" CACHE STRING "sanitizers: address,undefined or thread")

find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)

add_library(shoal_flags INTERFACE)
target_include_directories(shoal_flags INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_definitions(shoal_flags INTERFACE _GNU_SOURCE)
# -ffp-contract=off: results must not depend on where a compiler chooses to fuse; kernels call fma() where they mean it.
target_compile_options(shoal_flags INTERFACE -Wall -Wextra -Wshadow -Wconversion -Wstrict-prototypes
    -Wmissing-prototypes -Wvla -Wno-sign-conversion -ffp-contract=off -fno-strict-aliasing -fno-omit-frame-pointer)
if(SHOAL_WERROR)
    target_compile_options(shoal_flags INTERFACE -Werror)
endif()
if(SHOAL_FUZZ)
    target_compile_options(shoal_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
if(SHOAL_SANITIZE)
    target_compile_options(shoal_flags INTERFACE -fsanitize=${SHOAL_SANITIZE} -fno-sanitize-recover=all)
    target_link_options(shoal_flags INTERFACE -fsanitize=${SHOAL_SANITIZE})
endif()
