/* bench_engine: how fast one decoder is: load, prefill and decode of one stream, medians of several runs, beside the
 * machine's floors (memory read bandwidth of this many threads over the weights' bytes; int8 dot peak).
 *
 * One line of logfmt per figure, for tests/bench/engine.py, which compares with llama.cpp. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/opts.h"
#include "worker/engine/cpu/pool.h"
#include "worker/engine/decoder.h"

struct bench_options {
    int64_t threads, prompt, decode, runs, streams;
    const char *path;
    int kv;
};

static const struct opts_entry ENTRIES[] = {
    {"threads", 't', OPTS_INT, offsetof(struct bench_options, threads), "2", 1, 1024, NULL, "N", "compute threads"},
    {"prompt", 'p', OPTS_INT, offsetof(struct bench_options, prompt), "512", 1, 8192, NULL, "N", "tokens of prefill"},
    {"decode", 'd', OPTS_INT, offsetof(struct bench_options, decode), "128", 1, 8192, NULL, "N", "tokens of decode"},
    {"runs", 'r', OPTS_INT, offsetof(struct bench_options, runs), "5", 1, 100, NULL, "N", "runs; medians are printed"},
    {"streams", 's', OPTS_INT, offsetof(struct bench_options, streams), "1", 1, 64, NULL, "N",
     "streams decoded at once"},
    {"path", 0, OPTS_TEXT, offsetof(struct bench_options, path), NULL, 0, 0, NULL, "NAME", "c, avx2 or avx512"},
    {"kv", 0, OPTS_CHOICE, offsetof(struct bench_options, kv), "f16", 0, 0, "f32|f16|bf16|int8", "TYPE", "KV cache"},
};
static const struct opts OPTS = {.usage = "bench_engine [options] MODEL",
                                 .summary = "Measures load, prefill and decode of one decoder.",
                                 .entries = ENTRIES,
                                 .entries_count = sizeof ENTRIES / sizeof ENTRIES[0],
                                 .positional_min = 1,
                                 .positional_max = 1};

static double seconds_since(uint64_t begin_ns)
{
    return (double)(clock_mono_ns() - begin_ns) * 1e-9;
}

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, size_t count)
{
    qsort(values, count, sizeof *values, compare_doubles);
    return values[count / 2];
}

static void die(const struct error *error)
{
    fprintf(stderr, "bench_engine: %s\n", error->text);
    exit(1);
}

/* Runs one plan: `rows` streams of `count` tokens each at `position`. */
struct stepper {
    struct decoder *decoder;
    uint32_t per_slot;
    uint64_t step;
};

static void run_step(struct stepper *stepper, uint32_t *ids, uint32_t streams, uint32_t position, uint32_t count)
{
    struct plan_row rows[64] = {0};
    uint32_t blocks[64][600], out[64];
    struct error error = {0};
    for (uint32_t s = 0; s < streams; s++) {
        rows[s] = (struct plan_row){.slot = s,
                                    .reset = position == 0,
                                    .position = position,
                                    .count = count,
                                    .ids = ids + s * count,
                                    .new_blocks = blocks[s],
                                    .want_token = true};
        for (uint32_t b = (position + 15) / 16; b < (position + count + 15) / 16; b++)
            blocks[s][rows[s].new_blocks_count++] = s * stepper->per_slot + b;
    }
    const struct plan plan = {
        .epoch = 1, .step = ++stepper->step, .rows = rows, .rows_count = streams, .tokens = (size_t)streams * count};
    struct plan_result result = {.ids = out};
    if (decoder_run(stepper->decoder, &plan, &result, &error) != STATUS_OK)
        die(&error);
    for (uint32_t s = 0; s < streams; s++)
        ids[s] = out[s];
}

struct reading {
    const uint64_t *words;
    size_t count;
    struct pool *pool;
    _Atomic uint64_t sink;
};

static void read_all(void *context, unsigned thread)
{
    struct reading *reading = context;
    const struct pool_range range = pool_share(reading->count, thread, pool_threads(reading->pool));
    uint64_t sum[8] = {0};
    for (size_t i = range.first; i + 8 <= range.last; i += 8) {
        for (size_t j = 0; j < 8; j++)
            sum[j] += reading->words[i + j];
    }
    reading->sink += sum[0] + sum[1] + sum[2] + sum[3] + sum[4] + sum[5] + sum[6] + sum[7];
}

/* Bytes per second that `threads` threads read from `bytes` of memory, best of 7. */
static double read_bandwidth(unsigned threads, size_t bytes)
{
    struct error error;
    struct reading reading = {.count = bytes / 8};
    if (pool_open(threads, threads, &reading.pool, &error) != STATUS_OK)
        die(&error);
    uint64_t *words = mem_alloc(bytes);
    memset(words, 1, bytes);
    reading.words = words;
    double best = 0.0;
    for (int i = 0; i < 7; i++) {
        const uint64_t begin = clock_mono_ns();
        pool_run(reading.pool, read_all, &reading);
        const double rate = (double)bytes / seconds_since(begin);
        best = rate > best ? rate : best;
    }
    pool_close(reading.pool);
    mem_free(words);
    return best;
}

int main(int argc, char **argv)
{
    struct bench_options options = {0};
    struct error error = {0};
    char **positional;
    size_t positional_count;
    enum status status = opts_parse(&OPTS, argc, argv, &options, &positional, &positional_count, &error);
    if (status == STATUS_CANCELLED) {
        opts_help(&OPTS, stdout);
        return 0;
    }
    if (status != STATUS_OK) {
        fprintf(stderr, "bench_engine: %s\n", error.text);
        return 2;
    }
    uint64_t begin = clock_mono_ns();
    struct model_desc *desc;
    if (model_open(positional[0], NULL, &desc, &error) != STATUS_OK)
        die(&error);
    const double open_s = seconds_since(begin);
    const uint32_t per_slot = (uint32_t)(options.prompt + options.decode + 16) / 16;
    const struct decoder_config config = {.desc = desc,
                                          .cpu_path = options.path,
                                          .threads = (unsigned)options.threads,
                                          .kv_type = (enum decoder_kv_type)options.kv,
                                          .blocks = per_slot * (uint32_t)options.streams,
                                          .slots = (uint32_t)options.streams,
                                          .tokens_max = (uint32_t)(options.prompt * options.streams),
                                          .blocks_per_slot_max = per_slot};
    struct stepper stepper = {.per_slot = per_slot};
    begin = clock_mono_ns();
    if (decoder_open(&config, &stepper.decoder, &error) != STATUS_OK)
        die(&error);
    const double load_s = seconds_since(begin);
    struct decoder_info info;
    decoder_info(stepper.decoder, &info);
    double prefill[100], decode[100];
    uint32_t *ids = mem_new_array(uint32_t, (size_t)(options.prompt * options.streams));
    for (int64_t run = 0; run < options.runs; run++) {
        for (int64_t i = 0; i < options.prompt * options.streams; i++)
            ids[i] = (uint32_t)((i * 7919 + 13) % (int64_t)desc->vocab_size);
        begin = clock_mono_ns();
        run_step(&stepper, ids, (uint32_t)options.streams, 0, (uint32_t)options.prompt);
        prefill[run] = (double)(options.prompt * options.streams) / seconds_since(begin);
        begin = clock_mono_ns();
        for (int64_t i = 0; i < options.decode; i++)
            run_step(&stepper, ids, (uint32_t)options.streams, (uint32_t)(options.prompt + i), 1);
        decode[run] = (double)(options.decode * options.streams) / seconds_since(begin);
    }
    const double bandwidth = read_bandwidth((unsigned)options.threads, info.weights_bytes);
    printf("path=%s threads=%lld model_open_ms=%.1f decoder_open_ms=%.1f weights_mb=%.1f class=%016llx\n",
           info.cpu_path, (long long)options.threads, open_s * 1e3, load_s * 1e3, (double)info.weights_bytes * 1e-6,
           (unsigned long long)info.class_id);
    printf("prefill_tokens=%lld prefill_tok_s=%.1f\n", (long long)options.prompt,
           median(prefill, (size_t)options.runs));
    const double rate = median(decode, (size_t)options.runs);
    printf("decode_tokens=%lld streams=%lld decode_tok_s=%.1f read_gb_s=%.1f decode_share_of_bandwidth=%.2f\n",
           (long long)options.decode, (long long)options.streams, rate, bandwidth * 1e-9,
           rate / (double)options.streams * (double)info.weights_bytes / bandwidth);
    decoder_close(stepper.decoder);
    model_close(desc);
    mem_free(ids);
    return 0;
}
