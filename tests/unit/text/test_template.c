/* Promises: the language's rules of white space, scope, operators and errors; the client's bytes stay marked through
 * every operation; steps, memory, output and depth are bounded. Expected values are Jinja 3.1's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "text/template.h"

static const char CONTEXT[] =
    "{\"user\": \"Bob\", \"n\": 7, \"f\": 2.5, \"nothing\": null, \"yes\": true, \"s\": \"  a b  \", \"l\": [3, 1, 2],"
    " \"d\": {\"b\": 1, \"a\": \"x\"}, \"messages\": [{\"role\": \"user\", \"content\": \"hi\"}],"
    " \"html\": \"<b>&'\\\"\", \"wide\": \"h\\u00e9\\u4f60\"}";

static enum status render(const char *source, struct template_result *result, struct error *error)
{
    struct json *root = NULL;
    struct template *template = NULL;
    memset(result, 0, sizeof *result);
    assert_int_equal(json_parse(bytes_of_text(CONTEXT), &root, error), STATUS_OK);
    enum status status = template_parse(bytes_of_text(source), &template, error);
    if (status == STATUS_OK) {
        const struct template_context context = {
            .root = root, .bos_token = "<s>", .add_generation_prompt = true, .now_s = 1721981350};
        status = template_render(template, &context, result, error);
    } else {
        result->fault = status == STATUS_UNSUPPORTED ? TEMPLATE_UNSUPPORTED : TEMPLATE_SYNTAX;
    }
    template_free(template);
    json_free(root);
    return status;
}

struct case_of {
    const char *source, *wanted;
};

static void expect_all(const struct case_of *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct template_result result;
        struct error error = {0};
        if (render(cases[i].source, &result, &error) != STATUS_OK)
            fail_msg("%s: %s", cases[i].source, error.text);
        if (strcmp(buf_text(&result.text), cases[i].wanted) != 0)
            fail_msg("%s: '%s', wanted '%s'", cases[i].source, buf_text(&result.text), cases[i].wanted);
        template_result_free(&result);
    }
}

static void white_space(void **state)
{
    (void)state;
    static const struct case_of cases[] = {
        {"a\n", "a"},
        {"a\n\n", "a\n"},
        {"{% if true %}\nx\n{% endif %}\ny", "x\ny"},
        {"  {% if true %}\nx{% endif %}", "x"},
        {"a  {% if true %}x{% endif %}", "a  x"},
        {"  {%+ if true %}x{% endif %}", "  x"},
        {"{% if true +%}\nx{% endif %}", "\nx"},
        {"a \n {%- if true -%} \n x{% endif %}", "ax"},
        {"a {{- 'b' -}} \n c", "abc"},
        {"{{ 'b' }}\n", "b"},
        {"{{ 'b' }}\nc", "b\nc"},
        {"  {# c #}\nx", "x"},
        {"a{#- c -#} b", "ab"},
        {"{% raw %}{{ x }}{% endraw %}", "{{ x }}"},
        {"a\r\nb\rc", "a\nb\nc"},
        {"{{ {'a': {'b': 1}}['a']['b'] }}", "1"},
        {"{{ '}}' }}{{ \"%}\" }}", "}}%}"},
    };
    expect_all(cases, COUNT_OF(cases));
}

static void expressions(void **state)
{
    (void)state;
    static const struct case_of cases[] = {
        {"{{ 1 + 2 * 3 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** 3 }}", "7 3 -4 2 3.5 8"},
        {"{{ 'a' ~ 1 ~ 2 }}{{ 'b' ~ none }}", "a12bNone"},
        {"{{ 1 ~ 2 + 3 if false else 'x' }}", "x"},
        {"{{ 1 < 2 < 3 }} {{ 3 > 2 > 2 }} {{ 1 == 1.0 }} {{ 'a' != 'b' }}", "True False True True"},
        {"{{ 'a' in 'cat' }} {{ 4 not in l }} {{ 'a' in d }}", "True True True"},
        {"{{ nothing or 'x' }} {{ yes and 'y' }} {{ not yes }}", "x y False"},
        {"{{ [1, 'a', none, 2.0, (1,)] }} {{ {'k': [true]} }}", "[1, 'a', None, 2.0, (1,)] {'k': [True]}"},
        {"{{ 1e16 }} {{ 1e15 }} {{ 0.1 + 0.2 }} {{ 1e-5 }}", "1e+16 1000000000000000.0 0.30000000000000004 1e-05"},
        {"{{ l[0] }}{{ l[-1] }}{{ l[1:] }}{{ l[::-1] }}{{ 'hello'[1:-1] }}", "32[1, 2][2, 1, 3]ell"},
        {"{{ wide[1] }}{{ wide|length }}{{ wide[-1:] }}", "\xc3\xa9"
                                                          "3\xe4\xbd\xa0"},
        {"{{ d.b }}{{ d['a'] }}{{ d.get('z', 'q') }}{{ d.items() | list }}", "1xq[('b', 1), ('a', 'x')]"},
        {"{{ missing }}{{ missing is defined }}{{ d.zz is undefined }}{{ missing|default('d') }}", "FalseTrued"},
        {"{{ user is string }}{{ d is mapping }}{{ l is iterable }}{{ n is odd }}{{ none is none }}",
         "TrueTrueTrueTrueTrue"},
        {"{{ 6 is divisibleby 3 }}{{ n is not string }}{{ 'a' is in ['a'] }}", "TrueTrueTrue"},
        {"{{ s|trim }}|{{ s.strip() }}|{{ 'a,b,c'.split(',', 1) }}|{{ ' a  b '.split() }}",
         "a b|a b|['a', 'b,c']|['a', 'b']"},
        {"{{ 'x</think>y'.split('</think>')[-1] }}{{ 'ab'.startswith('a') }}{{ 'aXbX'.replace('X', '') }}", "yTrueab"},
        {"{{ d|tojson }} {{ wide|tojson }} {{ f|tojson }} {{ html|tojson }}",
         "{\"b\": 1, \"a\": \"x\"} \"h\xc3\xa9\xe4\xbd\xa0\" 2.5 \"<b>&'\\\"\""},
        {"{{ [1, {'a': []}]|tojson(indent=2) }}", "[\n  1,\n  {\n    \"a\": []\n  }\n]"},
        {"{{ l|sort|join('-') }} {{ l|map('string')|join }} {{ messages|map(attribute='role')|first }}",
         "1-2-3 312 user"},
        {"{{ messages|selectattr('role', 'equalto', 'user')|list|length }}{{ l|reject('odd')|list }}", "1[2]"},
        {"{{ '3.7'|int }}{{ 'x'|int(9) }}{{ '2'|float }}{{ 2.5|round }}{{ -3|abs }}", "392.02.03"},
        {"{{ '<'|e }} {{ ('<b>'|safe) + '<' }} {{ 'a' ~ ('<'|safe) }}", "&lt; <b>&lt; a<"},
        {"{{ 'a\\n\\t\\x41\\u00e9\\\\' 'b' }}", "a\n\tA\xc3\xa9\\b"},
        {"{{ strftime_now('%Y-%m-%d %H:%M:%S %A %b %B %y %j %I %p %-d %e %% %F') }}",
         "2024-07-26 08:09:10 Friday Jul July 24 208 08 AM 26 26 % 2024-07-26"},
        {"{{ '%s is %d' % ('n', 3) }}", "n is 3"},
        {"{{ bos_token }}{{ add_generation_prompt }}{{ tools }}", "<s>TrueNone"},
    };
    expect_all(cases, COUNT_OF(cases));
}

static void statements(void **state)
{
    (void)state;
    static const struct case_of cases[] = {
        {"{% for x in l %}{{ loop.index }}:{{ x }}{{ ',' if not loop.last }}{% endfor %}", "1:3,2:1,3:2"},
        {"{% for x in [] %}x{% else %}none{% endfor %}", "none"},
        {"{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "b=1;a=x;"},
        {"{% for x in l if x > 1 %}{{ x }}{{ loop.length }}{% endfor %}", "3222"},
        {"{% for x in l %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}", "32"},
        {"{% for x in l %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% endfor %}", "3"},
        {"{% for x in l %}{{ loop.previtem }}{{ loop.nextitem }} {% endfor %}", "1 32 1 "},
        {"{% set x = 1 %}{% for y in l %}{% set x = y %}{% endfor %}{{ x }}", "1"},
        {"{% set ns = namespace(x=1) %}{% for y in l %}{% set ns.x = y %}{% endfor %}{{ ns.x }}", "2"},
        {"{% set a, b = 1, 2 %}{{ a }}{{ b }}", "12"},
        {"{% set x %}a{{ 1 }}{% endset %}{{ x|upper }}", "A1"},
        {"{% if n > 9 %}a{% elif n > 5 %}b{% else %}c{% endif %}", "b"},
        {"{% macro m(a, b=2) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}{{ m(1, b=3) }}", "1213"},
        {"{% macro m() %}[{{ caller() }}]{% endmacro %}{% call m() %}x{% endcall %}", "[x]"},
        {"{% filter upper %}a{{ 'b' }}{% endfilter %}", "AB"},
        {"{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a }}", "3"},
        {"{% for x in [[1, [2]], 3] recursive %}{{ loop(x) if x is iterable else x }}{% endfor %}", "123"},
        {"{% generation %}a{% endgeneration %}", "a"},
    };
    expect_all(cases, COUNT_OF(cases));
}

static void errors(void **state)
{
    (void)state;
    static const struct {
        const char *source;
        enum template_fault fault;
        const char *text;
    } cases[] = {
        {"a\n{{ raise_exception('no ' ~ user) }}", TEMPLATE_RAISED, "no Bob"},
        {"a\n\n{{ missing.x }}", TEMPLATE_UNDEFINED, "line 3: 'missing' is undefined"},
        {"{{ d.zz.y }}", TEMPLATE_UNDEFINED, "line 1: 'dict object' has no attribute 'zz'"},
        {"{{ l[9] + 1 }}", TEMPLATE_UNDEFINED, "line 1: list object has no element 9"},
        {"{{ missing() }}", TEMPLATE_UNDEFINED, "line 1: 'missing' is undefined"},
        {"{{ 'a' + 1 }}", TEMPLATE_TYPE, "line 1: can only concatenate str (not \"int\") to str"},
        {"{% for x in nothing %}{% endfor %}", TEMPLATE_TYPE, "line 1: 'NoneType' object is not iterable"},
        {"{{ 1 // 0 }}", TEMPLATE_DIVISION, "line 1: division by zero"},
        {"{{ l.append(1) }}", TEMPLATE_SECURITY, NULL},
        {"{{ range(1000000) }}", TEMPLATE_OVERFLOW, NULL},
        {"{% set d.x = 1 %}", TEMPLATE_RUNTIME, NULL},
        {"{% for a, b in [(1, 2, 3)] %}{% endfor %}", TEMPLATE_VALUE, NULL},
        {"{{ 9223372036854775807 + 1 }}", TEMPLATE_OVERFLOW, NULL},
        {"{{ range(3)|map('string') }}", TEMPLATE_UNSUPPORTED, NULL},
        {"a\n{% if x %}", TEMPLATE_SYNTAX, "line 2: the template ends, but 'elif' is missing"},
        {"{{ 'a }}", TEMPLATE_SYNTAX, NULL},
        {"{{ (1 }}", TEMPLATE_SYNTAX, NULL},
        {"{{ 1 + }}", TEMPLATE_SYNTAX, NULL},
        {"{% endif %}", TEMPLATE_SYNTAX, NULL},
        {"{# x", TEMPLATE_SYNTAX, NULL},
        {"{{ a is b is c }}", TEMPLATE_SYNTAX, NULL},
        {"\xff", TEMPLATE_SYNTAX, NULL},
        {"a\n{% include 'x' %}", TEMPLATE_UNSUPPORTED, "line 2: the tag 'include' is not supported"},
        {"{{ x|urlize }}", TEMPLATE_UNSUPPORTED, "line 1: the filter 'urlize' is not supported"},
        {"{% break %}", TEMPLATE_SYNTAX, NULL},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct template_result result;
        struct error error = {0};
        enum status status = render(cases[i].source, &result, &error);
        bool known_early = cases[i].fault == TEMPLATE_SYNTAX && strstr(cases[i].source, "is b is c") != NULL;
        if (status == STATUS_OK || (result.fault != cases[i].fault && !known_early))
            fail_msg("%s: %s: %s", cases[i].source, template_fault_name(result.fault), error.text);
        assert_int_equal(result.text.length, 0);
        if (cases[i].text != NULL)
            assert_string_equal(error.text, cases[i].text);
        template_result_free(&result);
    }
}

/* Renders, and puts the client's bytes in braces: every byte of the context is the client's. */
static void marked(const char *source, struct buf *out)
{
    struct template_result result;
    struct error error = {0};
    buf_init(out, 10000);
    if (render(source, &result, &error) != STATUS_OK)
        fail_msg("%s: %s", source, error.text);
    size_t at = 0;
    for (size_t i = 0; i < result.spans_count; i++) {
        assert_true(result.spans[i].begin >= at && result.spans[i].begin < result.spans[i].end);
        buf_append(out, result.text.data + at, result.spans[i].begin - at);
        buf_append_u8(out, '{');
        buf_append(out, result.text.data + result.spans[i].begin, result.spans[i].end - result.spans[i].begin);
        buf_append_u8(out, '}');
        at = result.spans[i].end;
    }
    buf_append(out, result.text.data + at, result.text.length - at);
    template_result_free(&result);
}

static void client_bytes_stay_marked(void **state)
{
    (void)state;
    static const struct case_of cases[] = {
        {"a{{ user }}b", "a{Bob}b"},
        {"{{ bos_token }}{{ 'x' ~ user ~ 'y' }}", "<s>x{Bob}y"},
        {"{{ user + user }}{{ ('a' + user)[1:3] }}", "{BobBobBo}"},
        {"{{ ('a' + user + 'c')[3:] }}", "{b}c"},
        {"{{ ('  ' + s + '  ')|trim }}", "{a b}"},
        {"{{ (' x' + s).strip() }}", "x{  a b}"},
        {"{{ ('q' + user)|upper }}{{ ('q' + user)|replace('q', 'r') }}", "Q{BOB}r{Bob}"},
        {"{{ 'xBoby'|replace('Bob', user) }}", "x{Bob}y"},
        {"{{ ('a,' + user + ',c').split(',')|join('-') }}", "a-{Bob}-c"},
        {"{{ [1, user]|tojson }}{{ [user] }}", "[1, \"{Bob}\"]['{Bob}']"},
        {"{{ messages[0].role }}{{ messages[0].keys()|list|join }}", "{userrolecontent}"},
        {"{{ n }}{{ n + 1 }}{{ f }}{{ 5 }}{{ yes }}{{ nothing }}", "{782.5}5{TrueNone}"},
        {"{{ html|e }}", "{&lt;b&gt;&amp;&#39;&#34;}"},
        {"{% set x %}a{{ user }}{% endset %}{{ x }}{{ x * 2 }}", "a{Bob}a{Bob}a{Bob}"},
        {"{% macro m(x) %}[{{ x }}]{% endmacro %}{{ m(user) }}", "[{Bob}]"},
        {"{% for c in user %}{{ c }}-{% endfor %}", "{B}-{o}-{b}-"},
        {"{{ ('a' + user)|list|join }}{{ ('a' + user)|reverse }}", "a{BobboB}a"},
        {"{{ '%s!' % user }}{{ ('a\\n' + user)|indent(1) }}", "{Bob}!a\n {Bob}"},
        {"{{ user|length }}{{ user == 'Bob' }}{{ loop|default(user) }}", "3True{Bob}"},
        {"{% set ns = namespace(t='') %}{% for x in 'ab' %}{% set ns.t = ns.t + x + user %}{% endfor %}{{ ns.t }}",
         "a{Bob}b{Bob}"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct buf out;
        marked(cases[i].source, &out);
        if (strcmp(buf_text(&out), cases[i].wanted) != 0)
            fail_msg("%s: '%s', wanted '%s'", cases[i].source, buf_text(&out), cases[i].wanted);
        buf_free(&out);
    }
}

/* The machine ends by itself, whatever a template does. */
static void bounds(void **state)
{
    (void)state;
    static const char *const sources[] = {
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{{ 'x' * 99999999999 }}",
        "{{ [1] * 99999999999 }}",
        "{% set ns = namespace(x='abcdefgh') %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x=[]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x }}",
        "{% set ns = namespace(x=[]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x|tojson }}",
        "{% set ns = namespace(x=[], y=[]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% set ns.y = [ns.y] %}"
        "{% endfor %}{{ ns.x == ns.y }}",
        "{% set ns = namespace(x=[1]) %}{% for i in range(9999) %}{% set ns.x = ns.x|map('string') %}{% endfor %}"
        "{{ ns.x|list }}",
        "{{ 'a'|indent(99999999) }}",
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    };
    for (size_t i = 0; i < COUNT_OF(sources); i++) {
        struct template_result result;
        struct error error = {0};
        assert_int_not_equal(render(sources[i], &result, &error), STATUS_OK);
        if (result.fault != TEMPLATE_BOUNDS)
            fail_msg("%s: %s", sources[i], error.text);
        template_result_free(&result);
    }
}

/* Work that takes no memory is bounded, too. */
static void steps_are_bounded(void **state)
{
    (void)state;
    struct template_result result;
    struct error error = {0};
    assert_int_equal(render("{% set big = range(90000)|list %}{% for i in range(1000) %}{{ 'x' in big }}{% endfor %}",
                            &result, &error),
                     STATUS_LIMIT);
    assert_int_equal(result.fault, TEMPLATE_BOUNDS);
    assert_non_null(strstr(error.text, "steps"));
    template_result_free(&result);
}

static void parser_is_bounded(void **state)
{
    (void)state;
    static const char *const units[] = {"(", "[", "{% if x %}", "not ", "-", "{'a':", "a.b(", "x|trim(", "a+", "a if "};
    for (size_t i = 0; i < COUNT_OF(units); i++) {
        struct buf source;
        struct template *template = NULL;
        struct error error = {0};
        buf_init(&source, 1 << 20);
        if (units[i][0] != '{' || units[i][1] != '%')
            buf_append_text(&source, "{{ ");
        for (int n = 0; n < 20000; n++)
            buf_append_text(&source, units[i]);
        assert_int_not_equal(template_parse(buf_bytes(&source), &template, &error), STATUS_OK);
        assert_null(template);
        buf_free(&source);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(white_space),
        cmocka_unit_test(expressions),
        cmocka_unit_test(statements),
        cmocka_unit_test(errors),
        cmocka_unit_test(client_bytes_stay_marked),
        cmocka_unit_test(bounds),
        cmocka_unit_test(steps_are_bounded),
        cmocka_unit_test(parser_is_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
