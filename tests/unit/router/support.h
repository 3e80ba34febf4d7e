/* support: cmocka's includes in their order, and what the router's tests share. */
#ifndef SHOAL_TESTS_UNIT_ROUTER_SUPPORT_H
#define SHOAL_TESTS_UNIT_ROUTER_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "base/check.h"
#include "base/json.h"

#endif
