/* The newest view wins, and only a view is one; keys belong to tenants. */
#include "base/crypto.h"
#include "router/view.h"
#include "tests/unit/router/support.h"

static const uint8_t secret[32] = {9};

static void encode_view(struct buf *out, uint64_t incarnation, uint64_t index)
{
    uint8_t hash[32], orphan[32];
    struct bytes key = BYTES_LITERAL("sk-good"), other = BYTES_LITERAL("sk-orphan");
    crypto_blake2b(hash, bytes_of(NULL, 0), &key, 1);
    crypto_blake2b(orphan, bytes_of(NULL, 0), &other, 1);
    struct proto_view_key keys[] = {
        {.hash = bytes_of(hash, 32), .tenant = BYTES_LITERAL("default")},
        {.hash = bytes_of(orphan, 32), .tenant = BYTES_LITERAL("gone")},
    };
    struct proto_view_tenant tenants[] = {{.name = BYTES_LITERAL("default"), .secret = bytes_of(secret, 32)}};
    struct proto_view_model models[] = {{.name = BYTES_LITERAL("m"), .path = BYTES_LITERAL("/m.gguf")}};
    const struct proto_view view = {.incarnation = incarnation,
                                    .index = index,
                                    .keys = keys,
                                    .keys_count = 2,
                                    .tenants = tenants,
                                    .tenants_count = 1,
                                    .models = models,
                                    .models_count = 1};
    struct error why;
    buf_clear(out);
    assert_int_equal(proto_encode(out, PROTO_VIEW, &view, &why), STATUS_OK);
}

static void the_highest_wins(void **state)
{
    (void)state;
    struct view view;
    struct buf frame;
    struct error why;
    view_init(&view);
    buf_init(&frame, PROTO_FRAME_BYTES_MAX);
    encode_view(&frame, 1, 5);
    assert_int_equal(view_offer(&view, buf_bytes(&frame), &why), STATUS_OK);
    assert_int_equal(view_offer(&view, buf_bytes(&frame), &why), STATUS_AGAIN);
    encode_view(&frame, 1, 4);
    assert_int_equal(view_offer(&view, buf_bytes(&frame), &why), STATUS_AGAIN);
    encode_view(&frame, 2, 1);
    assert_int_equal(view_offer(&view, buf_bytes(&frame), &why), STATUS_OK);
    assert_int_equal(view.now.index, 1);
    assert_true(bytes_equal(buf_bytes(&view.frame), buf_bytes(&frame)));
    encode_view(&frame, 1, 9);
    assert_int_equal(view_offer(&view, buf_bytes(&frame), &why), STATUS_AGAIN);
    buf_free(&frame);
    view_free(&view);
}

static void what_is_no_view_changes_nothing(void **state)
{
    (void)state;
    struct view view;
    struct buf frame;
    struct error why;
    view_init(&view);
    buf_init(&frame, PROTO_FRAME_BYTES_MAX);
    encode_view(&frame, 1, 5);
    assert_int_equal(view_offer(&view, buf_bytes(&frame), &why), STATUS_OK);
    encode_view(&frame, 1, 6);
    struct bytes cut = buf_bytes(&frame);
    cut.length--;
    assert_int_equal(view_offer(&view, cut, &why), STATUS_INVALID);
    const struct proto_view_same same = {.index = 7};
    buf_clear(&frame);
    assert_int_equal(proto_encode(&frame, PROTO_VIEW_SAME, &same, &why), STATUS_OK);
    assert_int_equal(view_offer(&view, buf_bytes(&frame), &why), STATUS_INVALID);
    assert_int_equal(view.now.index, 5);
    buf_free(&frame);
    view_free(&view);
}

static void keys_belong_to_tenants(void **state)
{
    (void)state;
    struct view view;
    struct buf frame;
    struct error why;
    view_init(&view);
    buf_init(&frame, PROTO_FRAME_BYTES_MAX);
    assert_null(view_tenant_of_key(&view, BYTES_LITERAL("sk-good")));
    encode_view(&frame, 1, 5);
    assert_int_equal(view_offer(&view, buf_bytes(&frame), &why), STATUS_OK);
    const struct proto_view_tenant *tenant = view_tenant_of_key(&view, BYTES_LITERAL("sk-good"));
    assert_non_null(tenant);
    assert_true(bytes_equal(tenant->name, BYTES_LITERAL("default")));
    assert_null(view_tenant_of_key(&view, BYTES_LITERAL("sk-goo")));
    assert_null(view_tenant_of_key(&view, BYTES_LITERAL("")));
    assert_null(view_tenant_of_key(&view, BYTES_LITERAL("sk-orphan")));
    assert_non_null(view_model(&view, BYTES_LITERAL("m")));
    assert_null(view_model(&view, BYTES_LITERAL("n")));
    buf_free(&frame);
    view_free(&view);
}

static int set_up(void **state)
{
    (void)state;
    return crypto_init() == STATUS_OK ? 0 : 1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_highest_wins),
        cmocka_unit_test(what_is_no_view_changes_nothing),
        cmocka_unit_test(keys_belong_to_tenants),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
