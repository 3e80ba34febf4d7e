/* cli/show: how the status message is shown to people and to programs. */
#ifndef SHOAL_CLI_SHOW_H
#define SHOAL_CLI_SHOW_H

#include <stdio.h>

#include "proto/proto.h"

void show_status_table(const struct proto_status *status, FILE *to);
void show_status_json(const struct proto_status *status, FILE *to);

#endif
