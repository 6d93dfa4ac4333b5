"""Names that MicroPython knows: those in ROM that have a number, and what else it may be asked.

A .mpy file says a name of ROM by its number, in one octet or two; on a board it takes no memory.
The numbers belong to version 6 of .mpy files, so they are the same in every firmware that loads
ours. A test asks mpy-cross for each.
"""

# By their numbers, without those that mean something to MicroPython wherever they stand.
SHORTEST = tuple(  # one octet
    """
    _ ArithmeticError AssertionError AttributeError BaseException EOFError Ellipsis Exception
    GeneratorExit ImportError IndentationError IndexError KeyError KeyboardInterrupt
    LookupError MemoryError NameError NoneType NotImplementedError OSError OverflowError
    RuntimeError StopIteration SyntaxError SystemExit TypeError ValueError ZeroDivisionError
    abs all any append args bool builtins
    """.split()
)
SHORT = tuple(  # two octets
    """
    bytearray bytecode bytes callable chr classmethod clear close const copy count dict dir
    divmod end endswith eval exec extend find format from_bytes get getattr globals hasattr
    hash id index insert int isalpha isdigit isinstance islower isspace issubclass isupper
    items iter join key keys len list little locals lower lstrip main map micropython next
    object open ord pop popitem pow print range read readinto readline remove replace repr
    reverse rfind rindex round rsplit rstrip self send sep set setattr setdefault sort sorted
    split start startswith staticmethod step stop str strip sum super throw to_bytes tuple type
    update upper value values write zip
    """.split()
)

# What foreign objects have: modules, types and methods of MicroPython, of the ESP32 and the Pico W
# besides. A name of ours that is among them stays: who asks for it may mean theirs.
FOREIGN = frozenset(
    """
    AF_INET AF_INET6 AF_UNIX AP_IF ARRAY AUTO BFINT16 BFINT32 BFINT8 BFUINT16 BFUINT32 BFUINT8
    BF_LEN BF_POS BIG_ENDIAN BytesIO CERT_NONE CERT_OPTIONAL CERT_REQUIRED CancelledError
    DEEPSLEEP_RESET DeflateIO EACCES EADDRINUSE EAGAIN EALREADY EBADF ECONNABORTED ECONNREFUSED
    ECONNRESET EEXIST EHOSTUNREACH EINPROGRESS EINVAL EIO EISDIR ENOBUFS ENODEV ENOENT ENOMEM
    ENOTCONN EOPNOTSUPP EPERM ETIMEDOUT Event FLOAT32 FLOAT64 GZIP IF_AP IF_STA IN INT INT16
    INT32 INT64 INT8 IOBase IOQueue IPPROTO_IP IPPROTO_UDP IP_ADD_MEMBERSHIP LITTLE_ENDIAN LONG
    LONGLONG Lock LockType Loop MBEDTLS_VERSION MSG_DONTROUTE MSG_DONTWAIT NATIVE NVS NeoPixel
    NotImplemented OUT OrderedDict PM_NONE PM_PERFORMANCE POLLERR POLLHUP POLLIN POLLOUT
    PROTOCOL_DTLS_CLIENT PROTOCOL_DTLS_SERVER PROTOCOL_TLS_CLIENT PROTOCOL_TLS_SERVER PTR
    PULL_UP Pin PinBase RAW RTC RingIO SHORT SOCK_DGRAM SOCK_RAW SOCK_STREAM SOL_SOCKET
    SO_BINDTODEVICE SO_BROADCAST SO_ERROR SO_KEEPALIVE SO_LINGER SO_REUSEADDR SSLContext STA_IF
    Server Signal SingletonGenerator StopAsyncIteration Stream StreamReader StreamWriter
    StringIO Task TaskQueue ThreadSafeFlag TimeoutError UINT UINT16 UINT32 UINT64 UINT8 ULONG
    ULONGLONG USHORT UnicodeError VOID VfsFat VfsLfs1 VfsLfs2 VfsPosix VfsRom ViperTypeError
    WDT WLAN ZLIB _Remove _attrs _dequeue _enqueue _exc_context _exc_handler _io_queue
    _promote_to_task _run _serve _stop_task _stopper _task_queue _thread a2b_base64 accept
    aclose acos acosh acquire active add addressof aes allocate_lock appendleft argv array
    as_bytearray asin asinh asm_thumb asyncio atan atan2 atanh atexit awrite awritestr
    b2a_base64 big bin binascii bind bytearray_at byteorder bytes_at calcsize
    call_exception_handler callback cancel ceil center chdir choice clock cmath collect
    collections commit compile complex config connect connected copysign core coro cos cosh
    crc32 create_task cryptolib cur_task current_task data decode decrypt deepsleep
    default_exception_handler deflate degrees delattr deleter deque difference
    difference_update digest disable discard disconnect done drain dump dumps e enable encode
    encrypt enumerate erf erfc errno errorcode esp32 event exc_info execfile executable exit
    exp expm1 fabs factorial feed ffi fileno fill filter float floor flush fmod freq frexp
    fromhex fromkeys frozenset func funcs gamma gather gc get_blob get_ciphers get_event_loop
    get_exception_handler get_extra_info get_ident getaddrinfo getcwd getenv getrandbits getter
    getvalue gmtime hashlib heap_lock heap_unlock heapify heappop heappush heapq help hex
    hexlify idf_heap_info idle ifconfig ilistdir implementation inet_ntop inet_pton inf input
    intersection intersection_update io ioctl ipconfig ipoll is_set isclose isconnected
    isdisjoint isenabled isfinite isinf isnan issubset issuperset json kbd_intr ldexp lgamma
    libc_ver lightsleep listdir listen load load_cert_chain load_verify_locations loads
    localtime lock locked log log10 log2 machine makefile match math max maxsize md5 mem16
    mem32 mem8 mem_alloc mem_current mem_free mem_info mem_peak mem_total memory memoryview min
    mkdir mkfs mktime modf modify modules mount namedtuple nan native network new_event_loop
    oct off on open_connection opt_level os pack pack_into partition path peek pend_throw
    ph_child ph_child_last ph_key ph_next ph_rightmost_parent phase pi platform polar poll
    popleft print_exception property ps1 ps2 ptr ptr16 ptr32 ptr8 push putenv python_compiler
    qstr_info queue_read queue_write radians randint random randrange re readexactly readlines
    rect recv recvfrom register release rename reset reset_cause reversed rmdir rpartition run
    run_forever run_until_complete scan schedule search seed seek select sendto set_blob
    set_ciphers set_exception_handler setblocking setsockopt setter settimeout sha1 sha256 sin
    sinh sizeof sleep sleep_ms sleep_us slice sockaddr socket soft_reset splitlines sqrt ssl
    stack_size stack_use start_new_thread start_server stat state status statvfs stderr stdin
    stdout stream stream_awrite struct sub symmetric_difference symmetric_difference_update sys
    system tan tanh tau tell threshold ticks ticks_add ticks_cpu ticks_diff ticks_ms ticks_us
    time time_ns time_pulse_us tls trunc uctypes uint umount unhexlify uniform union unique_id
    unlink unpack unpack_from unregister unsetenv urandom version version_info vfs viper wait
    wait_closed wait_for wait_for_ms wait_io_event waiting websocket wrap_socket
    """.split()
)

# Of these what the unix port alone has, as far as we know: on a board such a name takes memory.
DESKTOPS = frozenset(
    """
    AF_UNIX SO_LINGER VfsPosix bytes_at bytearray_at ffi func funcs getenv inet_ntop mem_current
    mem_peak mem_total ps1 ps2 putenv sockaddr stack_size system unsetenv
    """.split()
)
