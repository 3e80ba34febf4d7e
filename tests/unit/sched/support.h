/* support: what the tests of sched's cores share: cmocka's includes in their order, and small seeded choices. */
#ifndef SHOAL_TESTS_UNIT_SCHED_SUPPORT_H
#define SHOAL_TESTS_UNIT_SCHED_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/rng.h"

#endif
