from counting import cost, report
from covey.port import micropython, ticks_diff, later_kernels
from covey.waiting import WaitingRoom


class A:
    def __init__(self):
        self.a = 1
        self.b = 2
        self.c = 3
        self.d = 4
        self.e = 5
        self.f = 6
        self.g = 7
        self.h = 8
        self.i = 9
        self.j = 10
        self.k = [0] * 17

    @micropython.native
    def none(self):
        pass

    @micropython.native
    def loads(self):
        self.a
        self.b
        self.c
        self.d
        self.e
        self.f
        self.g
        self.h
        self.i
        self.j

    @micropython.native
    def stores(self):
        self.a = 1
        self.b = 1
        self.c = 1
        self.d = 1
        self.e = 1
        self.f = 1
        self.g = 1
        self.h = 1
        self.i = 1
        self.j = 1

    @micropython.native
    def subs(self):
        k = self.k
        k[1] = 1
        k[1] = 1
        k[1] = 1
        k[1] = 1
        k[1] = 1
        k[1] = 1
        k[1] = 1
        k[1] = 1
        k[1] = 1
        k[1] = 1

    @micropython.native
    def calls(self):
        self.none()
        self.none()
        self.none()
        self.none()
        self.none()
        self.none()
        self.none()
        self.none()
        self.none()
        self.none()

    @micropython.native
    def td(self):
        ticks_diff(5, 3)
        ticks_diff(5, 3)
        ticks_diff(5, 3)
        ticks_diff(5, 3)
        ticks_diff(5, 3)
        ticks_diff(5, 3)
        ticks_diff(5, 3)
        ticks_diff(5, 3)
        ticks_diff(5, 3)
        ticks_diff(5, 3)

    @micropython.native
    def adds(self):
        x = 5
        x + 1
        x + 1
        x + 1
        x + 1
        x + 1
        x + 1
        x + 1
        x + 1
        x + 1
        x + 1

    @micropython.native
    def glob(self):
        A
        A
        A
        A
        A
        A
        A
        A
        A
        A

    @micropython.native
    def cmps(self):
        x = 5
        if x < 3:
            return
        if x < 3:
            return
        if x < 3:
            return
        if x < 3:
            return
        if x < 3:
            return
        if x < 3:
            return
        if x < 3:
            return
        if x < 3:
            return
        if x < 3:
            return
        if x < 3:
            return


a = A()
copy, _, num, scan, first = later_kernels()
r = WaitingRoom(16, 500)
rx = bytearray(500)
for n in ("none", "loads", "stores", "subs", "calls", "td", "adds", "glob", "cmps"):
    cost(n, getattr(a, n))
cost("scan", lambda: scan(r.states, r._heads, 17, rx))
cost("first", lambda: first(r.states, 17, 0))
cost("copy", lambda: copy(rx, 0, r._heads, 0, 116))
cost("num", lambda: num(rx, 3))
report()
