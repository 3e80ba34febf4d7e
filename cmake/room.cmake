# shoal_room(NAME sources… LIBS libs…): the static library shoal_NAME of the calling folder.
# shoal_program(NAME sources… LIBS libs…): an executable.
# Sources are listed by glob (CONFIGURE_DEPENDS): a room is its folder. SOURCES overrides it.
function(shoal_room name)
    cmake_parse_arguments(ARG "" "" "SOURCES;LIBS;PRIVATE_LIBS" ${ARGN})
    if(NOT ARG_SOURCES)
        file(GLOB ARG_SOURCES CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.c)
    endif()
    add_library(shoal_${name} STATIC ${ARG_SOURCES})
    target_link_libraries(shoal_${name} PUBLIC shoal_flags ${ARG_LIBS} PRIVATE ${ARG_PRIVATE_LIBS})
endfunction()

function(shoal_program name)
    cmake_parse_arguments(ARG "" "" "SOURCES;LIBS" ${ARGN})
    add_executable(${name} ${ARG_SOURCES})
    target_link_libraries(${name} PRIVATE shoal_flags ${ARG_LIBS})
endfunction()

# A Debian library by its pkg-config name, as an imported target PkgConfig::VAR.
macro(shoal_pkg var name)
    if(NOT TARGET PkgConfig::${var})
        pkg_check_modules(${var} REQUIRED IMPORTED_TARGET GLOBAL ${name})
    endif()
endmacro()

# shoal_unit_test(ROOM NAME LIBS libs… [TIMEOUT s] [LABELS long]): tests/unit/ROOM/test_NAME.c as the CTest
# unit.ROOM.NAME. The label `long` keeps it out of tools/test --quick. Exit status 77 means skipped. The target
# unit_ROOM builds all of a room's.
function(shoal_unit_test room name)
    cmake_parse_arguments(ARG "" "TIMEOUT" "LIBS;SOURCES;LABELS" ${ARGN})
    if(NOT ARG_TIMEOUT)
        set(ARG_TIMEOUT 60)
    endif()
    shoal_pkg(CMOCKA cmocka)
    set(target test_${room}_${name})
    add_executable(${target} ${CMAKE_CURRENT_SOURCE_DIR}/test_${name}.c ${ARG_SOURCES})
    target_link_libraries(${target} PRIVATE shoal_flags ${ARG_LIBS} PkgConfig::CMOCKA)
    add_test(NAME unit.${room}.${name} COMMAND ${target} WORKING_DIRECTORY ${CMAKE_SOURCE_DIR})
    set_tests_properties(unit.${room}.${name} PROPERTIES TIMEOUT ${ARG_TIMEOUT} SKIP_RETURN_CODE 77
        LABELS "unit;${ARG_LABELS}")
    if(NOT TARGET unit_${room})
        add_custom_target(unit_${room})
    endif()
    add_dependencies(unit_${room} ${target})
endfunction()

# shoal_fuzz(ROOM NAME LIBS libs…): tests/fuzz/fuzz_ROOM_NAME.c as the CTest fuzz.ROOM.NAME, seeded from the folder
# tests/fuzz/corpus/ROOM_NAME where there is one. What it finds is written into the build folder, never the source.
function(shoal_fuzz room name)
    cmake_parse_arguments(ARG "" "" "LIBS" ${ARGN})
    set(target fuzz_${room}_${name})
    set(found ${CMAKE_CURRENT_BINARY_DIR}/${target})
    set(seeds ${CMAKE_CURRENT_SOURCE_DIR}/corpus/${room}_${name})
    file(MAKE_DIRECTORY ${found}/corpus)
    add_executable(${target} ${CMAKE_CURRENT_SOURCE_DIR}/${target}.c)
    target_link_libraries(${target} PRIVATE shoal_flags ${ARG_LIBS})
    target_link_options(${target} PRIVATE -fsanitize=fuzzer)
    if(NOT EXISTS ${seeds})
        set(seeds "")
    endif()
    add_test(NAME fuzz.${room}.${name}
        COMMAND ${target} -max_total_time=${SHOAL_FUZZ_SECONDS} -timeout=10 -rss_limit_mb=2048 -print_final_stats=1
            -artifact_prefix=${found}/ ${found}/corpus ${seeds})
    math(EXPR limit "${SHOAL_FUZZ_SECONDS} + 60")
    set_tests_properties(fuzz.${room}.${name} PROPERTIES TIMEOUT ${limit} LABELS fuzz)
endfunction()
