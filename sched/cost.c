/* cost: see cost.h. */
#include "sched/cost.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/check.h"

/* Columns are scaled to similar sizes, so that the small systems stay well conditioned. */
static const double column_scale[COST_TERMS] = {1.0, 64.0, 65536.0};

static void model_to_terms(const struct cost_model *model, double terms[COST_TERMS])
{
    terms[0] = model->base_s * column_scale[0];
    terms[1] = model->token_s * column_scale[1];
    terms[2] = model->kv_token_s * column_scale[2];
}

void cost_init(struct cost *cost, struct cost_model prior)
{
    *cost = (struct cost){.model = prior};
    double terms[COST_TERMS];
    model_to_terms(&prior, terms);
    /* One pseudo-observation of each coefficient alone, weighted like a step whose whole time it is. It fades. */
    for (int i = 0; i < COST_TERMS; i++) {
        double whole = terms[0] + terms[1] + terms[2];
        double weight = whole > 0 ? 0.05 / (whole * whole) : 0;
        cost->small.matrix[i][i] = cost->large.matrix[i][i] = weight;
        cost->small.vector[i] = cost->large.vector[i] = weight * terms[i];
    }
}

/* Solves the normal equations restricted to the columns in `subset` (Gauss with pivoting). False: singular. */
static bool solve_subset(const struct cost_sums *sums, unsigned subset, double out[COST_TERMS])
{
    double a[COST_TERMS][COST_TERMS + 1];
    int columns[COST_TERMS], n = 0;
    for (int i = 0; i < COST_TERMS; i++)
        if (subset & (1u << i))
            columns[n++] = i;
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < n; j++)
            a[i][j] = sums->matrix[columns[i]][columns[j]];
        a[i][n] = sums->vector[columns[i]];
    }
    for (int i = 0; i < n; i++) {
        int pivot = i;
        for (int r = i + 1; r < n; r++)
            if (fabs(a[r][i]) > fabs(a[pivot][i]))
                pivot = r;
        if (fabs(a[pivot][i]) <= 1e-12 * sums->matrix[columns[i]][columns[i]] || a[pivot][i] == 0)
            return false;
        for (int c = 0; c <= n; c++) {
            double swap = a[i][c];
            a[i][c] = a[pivot][c];
            a[pivot][c] = swap;
        }
        for (int r = 0; r < n; r++) {
            double factor = r == i ? 0 : a[r][i] / a[i][i];
            for (int c = i; c <= n; c++)
                a[r][c] -= factor * a[i][c];
        }
    }
    memset(out, 0, sizeof(*out) * COST_TERMS);
    for (int i = 0; i < n; i++)
        out[columns[i]] = a[i][n] / a[i][i];
    return true;
}

/* What least squares minimises, but for a constant: θᵀMθ − 2vᵀθ. */
static double objective(const struct cost_sums *sums, const double terms[COST_TERMS])
{
    double sum = 0;
    for (int i = 0; i < COST_TERMS; i++) {
        for (int j = 0; j < COST_TERMS; j++)
            sum += terms[i] * sums->matrix[i][j] * terms[j];
        sum -= 2 * sums->vector[i] * terms[i];
    }
    return sum;
}

static void fit(struct cost *cost)
{
    struct cost_sums sums = cost->small;
    for (int i = 0; i < COST_TERMS; i++) {
        for (int j = 0; j < COST_TERMS; j++)
            sums.matrix[i][j] += cost->large.matrix[i][j];
        sums.vector[i] += cost->large.vector[i];
    }
    double best[COST_TERMS] = {0}, best_value = INFINITY;
    for (unsigned subset = 1; subset < 1u << COST_TERMS; subset++) {
        double terms[COST_TERMS];
        if (!solve_subset(&sums, subset, terms) || terms[0] < 0 || terms[1] < 0 || terms[2] < 0)
            continue;
        double value = objective(&sums, terms);
        if (value < best_value) {
            best_value = value;
            memcpy(best, terms, sizeof(best));
        }
    }
    if (!isfinite(best_value))
        return;
    cost->model.base_s = best[0] / column_scale[0];
    cost->model.token_s = best[1] / column_scale[1];
    cost->model.kv_token_s = best[2] / column_scale[2];
}

void cost_observe(struct cost *cost, uint64_t tokens, uint64_t kv_tokens, double seconds)
{
    if (tokens == 0 || !(seconds > 0) || !isfinite(seconds))
        return;
    const double x[COST_TERMS] = {1.0, (double)tokens / column_scale[1], (double)kv_tokens / column_scale[2]};
    double weight = 1 / (seconds * seconds), keep = 1 - 1.0 / COST_MEMORY_STEPS;
    struct cost_sums *sums = tokens <= COST_SMALL_TOKENS ? &cost->small : &cost->large;
    for (int i = 0; i < COST_TERMS; i++) {
        for (int j = 0; j < COST_TERMS; j++)
            sums->matrix[i][j] = keep * sums->matrix[i][j] + weight * x[i] * x[j];
        sums->vector[i] = keep * sums->vector[i] + weight * x[i] * seconds;
    }
    fit(cost);
}

double cost_predict(const struct cost *cost, uint64_t tokens, uint64_t kv_tokens)
{
    return cost->model.base_s + cost->model.token_s * (double)tokens + cost->model.kv_token_s * (double)kv_tokens;
}

uint64_t cost_kv_tokens(uint64_t position, uint64_t count)
{
    return count * position + count * (count + 1) / 2;
}

uint32_t cost_chunk_within(const struct cost *cost, uint64_t tokens, uint64_t kv_tokens, uint32_t position,
                           uint32_t count, double budget_s)
{
    if (budget_s <= 0)
        return count;
    uint32_t fits = 0, above = count;
    while (fits < above) {
        uint32_t middle = fits + (above - fits + 1) / 2;
        uint64_t read = kv_tokens + cost_kv_tokens(position, middle);
        if (cost_predict(cost, tokens + middle, read) <= budget_s)
            fits = middle;
        else
            above = middle - 1;
    }
    return fits;
}
