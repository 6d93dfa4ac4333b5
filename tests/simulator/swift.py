"""What makes a thousand members in one process bearable, and the eye on every seal.

While a Swift is in force:

    x25519.multiply         by `cryptography`: the same octets as lib's, see the test
    p256.Verifier.verify    lib's, once for each (key, digest, signature): members that check the
                            same message share the answer; so with the tables of a key
    keywrap.unwrap_job      lib's, once for each (KEK, wrapped key, length)
    rekey._take_apart       lib's, once for each text of a GSA_REKEY, and
    rekey._parse            of its GSA and KD: what comes of it is only read
    KeyWork.step            as it is, one slice behind the other: no time passes in between anyway
    Rekey.work              as it is, and counted: .worked
    GCMContext.seal         as it is, and watched: no (key, nonce) pair may come twice

The rest of lib and of the key server runs as it is.
"""

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from covey import keywrap, p256, rekey, x25519
from covey.keywork import KeyWork
from covey.port import cpy_gcm

_X25519_LEN = 32
_MOST = 4096  # answers that are kept


class Swift:
    """A context manager. on_repeat(keymat, nonce): called where a pair comes again."""

    def __init__(self, on_repeat):
        self.on_repeat = on_repeat
        self.seals = 0
        self._pairs = set()
        self._verified = {}
        self._tables = {}
        self._unwrapped = {}
        self._parts = {}
        self._told = {}
        self._undo = []

    def __enter__(self):
        self._patch(x25519, "multiply", _multiply)
        self._patch(p256.Verifier, "verify", self._shared_verify(p256.Verifier.verify))
        self._patch(p256.Verifier, "prepare", self._shared_prepare(p256.Verifier.prepare))
        self._patch(keywrap, "unwrap_job", self._shared_unwrap(keywrap.unwrap_job))
        self._patch(rekey, "_take_apart", self._shared_parts(rekey._take_apart))
        self._patch(rekey, "_parse", self._shared_parse(rekey._parse))
        self._patch(KeyWork, "step", _whole(KeyWork.step))
        self._patch(rekey.Rekey, "work", _counted(rekey.Rekey.work))
        self._patch(rekey.Rekey, "worked", 0)
        for context in (cpy_gcm.GCMContext, cpy_gcm.GMACContext):
            self._patch(context, "__init__", _keeping_keymat(context.__init__))
            self._patch(context, "seal", self._watched(context.seal))
        return self

    def __exit__(self, *_):
        while self._undo:
            owner, name, former, is_own = self._undo.pop()
            if is_own:
                setattr(owner, name, former)
            else:
                delattr(owner, name)

    def _patch(self, owner, name, value):
        self._undo.append((owner, name, getattr(owner, name, None), name in vars(owner)))
        setattr(owner, name, value)

    def _shared_verify(self, verify):
        def shared(verifier, digest, r, s):
            key = verifier._point, bytes(digest), r, s
            if key not in self._verified:
                result = yield from verify(verifier, digest, r, s)
                _keep(self._verified, key, result)
            return self._verified[key]

        return shared

    def _shared_prepare(self, prepare):
        def shared(verifier):
            table = self._tables.get(verifier._point)
            if table is None:
                yield from prepare(verifier)
                _keep(self._tables, verifier._point, verifier._table)
            else:
                verifier._table = table

        return shared

    def _shared_unwrap(self, unwrap_job):
        def shared(kek, wrapped, key_len=None):
            key = bytes(kek), bytes(wrapped), key_len
            if key not in self._unwrapped:
                result = yield from unwrap_job(kek, wrapped, key_len)
                _keep(self._unwrapped, key, None if result is None else bytes(result))
            found = self._unwrapped[key]
            return None if found is None else bytearray(found)

        return shared

    def _shared_parts(self, take_apart):
        def shared(opened, made):
            key = opened.first, bytes(opened.inner)
            if key not in self._parts:
                told = yield from take_apart(opened, made)
                _keep(self._parts, key, (made.deletes, *told))
            made.deletes, auth, brought = self._parts[key]
            return auth, list(brought)

        return shared

    def _shared_parse(self, parse):
        def shared(brought, made):
            key = tuple(map(bytes, brought))
            if key and key not in self._told:
                yield from parse(list(brought), made)
                _keep(self._told, key, (made.policy, made.keys))
            if key:
                made.policy, made.keys = self._told[key]
                brought.clear()

        return shared

    def _watched(self, seal):
        pairs = self._pairs

        def watched(context, buf, off, aad_len, text_len):
            iv = off + aad_len
            pair = context.keymat, bytes(buf[iv : iv + 8])
            if pair in pairs:
                self.on_repeat(*pair)
            pairs.add(pair)
            self.seals += 1
            seal(context, buf, off, aad_len, text_len)

        return watched


def _keeping_keymat(init):
    def keeping(context, keymat):
        context.keymat = bytes(keymat)
        init(context, keymat)

    return keeping


def _whole(step):
    def whole(keys, now_ms):
        while True:
            result = step(keys, now_ms)
            if result is not None:
                return result
            has_worked = keys._job is not None
            for result in keys._job or ():
                if result is not None:
                    return result
            keys._job = None
            if has_worked:
                return None

    return whole


def _counted(work):
    def counted(it, *args):
        it.worked += 1
        return work(it, *args)

    return counted


def _multiply(scalar, u):
    """As covey.x25519.multiply: a job."""
    if len(u) != _X25519_LEN:
        return None
    yield
    secret = X25519PrivateKey.from_private_bytes(bytes(scalar))
    try:
        return bytearray(secret.exchange(X25519PublicKey.from_public_bytes(bytes(u))))
    except ValueError:  # all zeros
        return None


def _keep(answers, key, answer):
    if len(answers) >= _MOST:
        del answers[next(iter(answers))]
    answers[key] = answer
