"""Working Key Paths, with the example of RFC 9838's appendix on LKH."""

from covey import gsa, iana, kd, keypath, keywrap
from covey.drops import DROP_KEY_WRAP, DROP_REKEY_PORTION, FormatError
from covey.job import finish

GSK_W = bytes(range(16))


def key_id(number):
    return number.to_bytes(4, "big")


def kwk(number):
    return bytes([number]) * 16


def wrap(under, number):
    """under{number}, as the appendix has it; under 0: GSK_w; a number below 0: an SA's key."""
    keymat = kwk(number) if number > 0 else sa_key(-number)
    outer = kwk(under) if under else GSK_W
    wrapped = bytes(keywrap.wrap(outer, keymat))
    return kd.WrappedKey(key_id(max(0, number)), key_id(under), wrapped)


def sa_key(number):
    return bytes([0xF0 | number]) * 36


def path_of(*numbers):
    return tuple([(key_id(number), bytearray(kwk(number))) for number in numbers])


def follow(path, sa_keys, wrap_keys=()):
    """(K_sa, numbers of the path from now on), or None."""
    found = finish(keypath.unwrap_job(sa_keys, wrap_keys, path, GSK_W, 16, 36))
    if found is None:
        return None
    keymat, path = found
    for number, key in path:
        assert key == kwk(number[3])
    return bytes(keymat), [number[3] for number, _ in path]


def test_a_joins_as_in_the_appendix():
    """KD(GP(SA1)(1{K_sa1}),MP(3{1},7{3},GSK_w{7}))"""
    found = follow((), [wrap(1, -1)], [wrap(3, 1), wrap(7, 3), wrap(0, 7)])
    assert found == (sa_key(1), [1, 3, 7])


def test_the_order_of_attributes_means_nothing():
    keys = [wrap(0, 7), wrap(3, 1), wrap(7, 3)]
    assert follow((), [wrap(1, -1)], keys) == (sa_key(1), [1, 3, 7])


def test_a_simple_rekey_changes_no_path():
    """KD(GP(SA2)(GSK_w{K_sa2}))"""
    assert follow(path_of(1, 3, 7), [wrap(0, -2)]) == (sa_key(2), [1, 3, 7])


def test_f_is_excluded_as_in_the_appendix():
    """KD(GP(SA3)(1{K_sa3},15{K_sa3}),MP(6{15},16{15},11{16}))"""
    sa_keys = [wrap(1, -3), wrap(15, -3)]
    keys = [wrap(6, 15), wrap(16, 15), wrap(11, 16)]
    for was, now in (
        ((1, 3, 7), [1, 3, 7]),
        ((1, 3, 8), [1, 3, 8]),
        ((1, 4, 9), [1, 4, 9]),
        ((1, 4, 10), [1, 4, 10]),
        ((2, 5, 11), [15, 16, 11]),
        ((2, 6, 13), [15, 6, 13]),
        ((2, 6, 14), [15, 6, 14]),
    ):
        assert follow(path_of(*was), sa_keys, keys) == (sa_key(3), now)
    assert follow(path_of(2, 5, 12), sa_keys, keys) is None


def test_a_tree_that_grows_puts_a_key_in_front():
    assert follow(path_of(3, 7), [wrap(9, -1)], [wrap(3, 9)]) == (sa_key(1), [9, 3, 7])


def test_a_path_that_ends_in_gsk_w_is_the_whole_path():
    assert follow(path_of(1, 3, 7), [wrap(2, -1)], [wrap(0, 2)]) == (sa_key(1), [2])


def test_keys_in_a_circle_lead_nowhere():
    keys = [wrap(5, 4), wrap(4, 5), wrap(6, 6)]
    assert follow(path_of(1), [wrap(4, -1), wrap(6, -1)], keys) is None


def test_many_keys_that_are_not_ours():
    keys = [wrap(20 + n % 90, 120) for n in range(100)]
    assert follow(path_of(1, 7), [wrap(120, -1)], keys) is None
    assert follow(path_of(1, 7), [wrap(120, -1)], keys + [wrap(7, 120)]) == (sa_key(1), [120, 7])


def broken(wrapped):
    data = bytearray(wrapped.data)
    data[9] ^= 1
    return kd.WrappedKey(wrapped.key_id, wrapped.kwk_id, bytes(data))


def fails(path, sa_keys, wrap_keys=()):
    try:
        follow(path, sa_keys, wrap_keys)
    except FormatError as error:
        return error.reason
    return None


def test_a_broken_way_is_left_for_another():
    path = path_of(1, 7)
    sa_keys = [broken(wrap(1, -1)), wrap(9, -1)]
    assert follow(path, sa_keys, [wrap(7, 9)]) == (sa_key(1), [9, 7])
    keys = [broken(wrap(1, 9)), wrap(7, 9)]
    assert follow(path, [wrap(9, -1)], keys) == (sa_key(1), [9, 7])


def test_only_broken_ways_are_no_exclusion():
    path = path_of(1, 7)
    assert fails(path, [broken(wrap(1, -1))]) == DROP_KEY_WRAP
    assert fails(path, [wrap(9, -1)], [broken(wrap(1, 9))]) == DROP_KEY_WRAP
    assert fails((), [broken(wrap(0, -1))]) == DROP_KEY_WRAP


def test_keys_of_another_length_are_broken():
    long = bytes(keywrap.wrap(kwk(7), bytes(24)))
    assert fails(path_of(7), [wrap(9, -1)], [kd.WrappedKey(key_id(9), key_id(7), long)])
    assert fails(path_of(7), [kd.WrappedKey(kd.ZERO_ID, key_id(7), long)]) == DROP_KEY_WRAP


def test_the_path_that_we_have_is_never_changed():
    path = path_of(2, 5, 11)
    keys = [wrap(6, 15), wrap(16, 15), wrap(11, 16)]
    follow(path, [wrap(15, -3)], keys)
    fails(path, [wrap(15, -3)], [wrap(16, 15), broken(wrap(11, 16))])
    assert path == path_of(2, 5, 11)


class Held:
    """In the place of rekey.Rekey: which Rekey SAs are here."""

    def __init__(self, spi=b""):
        self._spi = spi

    def find(self, spi):
        return self if spi == self._spi else None


def portion(left, sa_keys, wrap_keys=()):
    """GSA and KD of one message of several; left None: of the only one."""
    spi = bytes(range(16))
    attributes = [(17000, b"of somebody else")]
    if left is not None:
        attributes.append((gsa.COVEY_PORTIONS, left))
    policy = gsa.SAPolicy(iana.GIKE_UPDATE, spi, None, None, [], attributes=attributes)
    bag = kd.KeyBag(iana.GIKE_UPDATE, spi, sa_keys)
    member = kd.MemberBag(wrap_keys) if wrap_keys else None
    return gsa.GSA([policy]), kd.KD([bag], member)


def is_ours(message, held=b""):
    policy, keys = message
    try:
        finish(keypath.check_portion(policy, keys, path_of(2, 6, 13), Held(held)))
    except FormatError as error:
        assert error.reason == DROP_REKEY_PORTION
        return False
    return True


def test_of_several_messages_one_is_ours():
    keys = [wrap(6, 15), wrap(16, 15)]
    for left in (3, 1):
        assert is_ours(portion(left, [wrap(15, -3)], keys))
        assert is_ours(portion(left, [wrap(2, -3)]))
        assert not is_ours(portion(left, [wrap(15, -3)], [wrap(16, 15), wrap(11, 16)]))
        assert not is_ours(portion(left, [wrap(1, -3)]))


def test_the_last_one_is_looked_into_whatever_it_has_and_so_is_a_lone_one():
    """That we are put out is believed only with a signature."""
    for left in (0, None):
        assert is_ours(portion(left, [wrap(1, -3)]))
    for left, said in ((0, 0), (3, 3), (None, None)):
        assert keypath.left_of(portion(left, [])[0].policies[0]) == said


def test_what_we_have_already_is_not_looked_into():
    for left in (0, 2):
        assert not is_ours(portion(left, [wrap(2, -3)]), bytes(range(16)))
    assert is_ours(portion(None, [wrap(2, -3)]), bytes(range(16)))
