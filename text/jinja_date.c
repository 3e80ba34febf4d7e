/* jinja_date: strftime without the C library's clock and locale: pure, and the same on every machine. */
#include <inttypes.h>
#include <stdio.h>

#include "base/check.h"
#include "text/jinja_eval.h"

enum { DAY_S = 86400, PART_MAX = 40 };

struct date {
    int64_t year;
    int month, day; /* 1..12, 1..31 */
    int hour, minute, second;
    int weekday;  /* 0: Sunday */
    int year_day; /* 1..366 */
};

static bool is_leap(int64_t year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

/* Days since 1970-01-01 as a date of the Gregorian calendar: eras of 400 years, years that begin in March (H. Hinnant,
 * chrono-compatible low-level date algorithms). */
static struct date date_of(int64_t time_s)
{
    static const int before_month[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    int64_t days = floor_div(time_s, DAY_S);
    int second = (int)(time_s - days * DAY_S);
    int64_t shifted = days + 719468, era = floor_div(shifted, 146097);
    int64_t day_of_era = shifted - era * 146097;
    int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100); /* from March */
    int64_t month_from_march = (5 * day_of_year + 2) / 153;
    struct date date = {
        .day = (int)(day_of_year - (153 * month_from_march + 2) / 5 + 1),
        .month = (int)(month_from_march < 10 ? month_from_march + 3 : month_from_march - 9),
        .hour = second / 3600,
        .minute = second / 60 % 60,
        .second = second % 60,
    };
    date.year = year_of_era + era * 400 + (date.month <= 2);
    date.weekday = (int)((days % 7 + 11) % 7); /* 1970-01-01 was a Thursday */
    date.year_day = before_month[date.month - 1] + date.day + (date.month > 2 && is_leap(date.year));
    return date;
}

static const char *const DAYS[] = {"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"};
static const char *const MONTHS[] = {"January", "February", "March",     "April",   "May",      "June",
                                     "July",    "August",   "September", "October", "November", "December"};

/* One directive; padded: with zeros (a - in front of it leaves them out). False: not known. */
static bool format_part(const struct date *date, uint32_t directive, bool padded, char out[PART_MAX])
{
    int hour12 = date->hour % 12 == 0 ? 12 : date->hour % 12, width = padded ? 2 : 1;
    switch (directive) {
    case 'Y':
        return snprintf(out, PART_MAX, "%" PRId64, date->year) > 0;
    case 'y':
        return snprintf(out, PART_MAX, "%0*d", width, (int)(date->year % 100)) > 0;
    case 'm':
        return snprintf(out, PART_MAX, "%0*d", width, date->month) > 0;
    case 'd':
        return snprintf(out, PART_MAX, "%0*d", width, date->day) > 0;
    case 'e':
        return snprintf(out, PART_MAX, "%*d", width, date->day) > 0;
    case 'j':
        return snprintf(out, PART_MAX, "%0*d", padded ? 3 : 1, date->year_day) > 0;
    case 'H':
        return snprintf(out, PART_MAX, "%0*d", width, date->hour) > 0;
    case 'I':
        return snprintf(out, PART_MAX, "%0*d", width, hour12) > 0;
    case 'M':
        return snprintf(out, PART_MAX, "%0*d", width, date->minute) > 0;
    case 'S':
        return snprintf(out, PART_MAX, "%0*d", width, date->second) > 0;
    case 'p':
        return snprintf(out, PART_MAX, "%s", date->hour < 12 ? "AM" : "PM") > 0;
    case 'A':
        return snprintf(out, PART_MAX, "%s", DAYS[date->weekday]) > 0;
    case 'a':
        return snprintf(out, PART_MAX, "%.3s", DAYS[date->weekday]) > 0;
    case 'B':
        return snprintf(out, PART_MAX, "%s", MONTHS[date->month - 1]) > 0;
    case 'b':
    case 'h':
        return snprintf(out, PART_MAX, "%.3s", MONTHS[date->month - 1]) > 0;
    case 'F':
        return snprintf(out, PART_MAX, "%" PRId64 "-%02d-%02d", date->year, date->month, date->day) > 0;
    case 'T':
        return snprintf(out, PART_MAX, "%02d:%02d:%02d", date->hour, date->minute, date->second) > 0;
    case 'D':
        return snprintf(out, PART_MAX, "%02d/%02d/%02d", date->month, date->day, (int)(date->year % 100)) > 0;
    case '%':
        return snprintf(out, PART_MAX, "%%") > 0;
    default:
        return false;
    }
}

bool jinja_date(struct render *render, const struct text *format, int64_t now_s, struct value *out)
{
    /* Years of four digits: beyond them the reference has none. */
    struct date date = date_of(now_s < 0 ? 0 : MIN_OF(now_s, 253402300799));
    struct walker walker = walk_start(format);
    struct builder builder;
    builder_init(&builder, render);
    while (walk(&walker)) {
        char part[PART_MAX];
        bool client = walker.client;
        if (walker.point != '%') {
            if (!builder_add_point(&builder, walker.point, client))
                return false;
            continue;
        }
        bool more = walk(&walker), padded = !more || walker.point != '-';
        if (more && !padded)
            more = walk(&walker);
        if (!more || !format_part(&date, walker.point, padded, part))
            return render_fail(render, TEMPLATE_UNSUPPORTED, "a directive of strftime is not supported");
        if (!builder_add(&builder, bytes_of_text(part), client))
            return false;
    }
    return builder_finish(&builder, out);
}
