/* cli/up_keys: the keys and the members file of a cluster on one machine. */
#ifndef SHOAL_CLI_UP_KEYS_H
#define SHOAL_CLI_UP_KEYS_H

#include "cli/home.h"

/* Makes what is missing under <dir>/keys and (re)writes members.json from it. Existing keys are kept. */
MUST_CHECK enum status up_keys(const char *dir, const struct home_up *up, struct error *error);

#endif
