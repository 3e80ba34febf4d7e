/* open: the one door: a path to a description, whatever lies there. */
#include <stdio.h>
#include <string.h>

#include "base/crypto.h"
#include "base/file.h"
#include "model/config.h"
#include "model/desc.h"
#include "model/gguf.h"
#include "model/owner.h"

static enum status load(const char *path, const struct model_options *options, struct model_desc *desc,
                        struct error *error)
{
    if (file_is_dir(path))
        return hf_load(path, options, desc, error);
    struct bytes file;
    enum status status = desc_map(desc, path, &file, error);
    return status == STATUS_OK ? gguf_load(file, options, desc, error) : status;
}

enum status model_open(const char *path, const struct model_options *options, struct model_desc **out,
                       struct error *error)
{
    static const struct model_options defaults = {0};
    struct model_desc *desc = desc_new();
    enum status status = crypto_init();
    if (status != STATUS_OK)
        status = error_set(error, status, "the crypto library doesn't start");
    else if (strlen(path) >= sizeof desc->path)
        status = error_set(error, STATUS_LIMIT, "the path is longer than %zu bytes", sizeof desc->path - 1);
    if (status == STATUS_OK) {
        snprintf(desc->path, sizeof desc->path, "%s", path);
        model_id_of_path(path, desc->id, sizeof desc->id);
        status = load(path, options == NULL ? &defaults : options, desc, error);
        if (status != STATUS_OK && (error == NULL || strstr(error->text, path) == NULL))
            error_prefix(error, "%s", path); /* base/file names it by itself */
    }
    if (status != STATUS_OK) {
        model_close(desc);
        return status;
    }
    desc_hash(desc);
    *out = desc;
    return STATUS_OK;
}
