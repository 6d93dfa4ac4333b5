"""What asyncio's loop can't do for aio on both interpreters alike: a sleep that others end, and
waiting for a socket.
"""

import asyncio

from covey import port

if hasattr(asyncio, "core"):  # MicroPython: its event loop polls the socket itself

    class Kick:
        """One task's sleep, which others may end. asyncio.wait_for would make a task each time."""

        def __init__(self):
            self._task = None  # the sleeping one; True: it is to be awake

        async def wait(self, ms):
            try:
                if self._task is None:
                    self._task = asyncio.current_task()
                    await asyncio.sleep_ms(ms)
            finally:
                self._task = None

        def set(self):
            task, self._task = self._task, True
            if task not in (None, True):  # bring it forward, as Task.cancel() does
                asyncio.core._task_queue.remove(task)
                asyncio.core._task_queue.push(task)

    def readable(sock):
        """Waits until it has something to read."""
        yield asyncio.core._io_queue.queue_read(port.pollable(sock))

    def shut(way):
        if way.task is not None:  # else there was no memory for it
            way.task.cancel()
        port.close(way.sock)

else:

    class Kick:
        """One task's sleep, which others may end."""

        def __init__(self):
            self._event = asyncio.Event()

        async def wait(self, ms):
            try:
                await asyncio.wait_for(self._event.wait(), ms / 1000)
            except asyncio.TimeoutError:
                pass
            self._event.clear()

        def set(self):
            self._event.set()

    async def readable(sock):
        """Waits until it has something to read."""
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(sock, ready.set)
        try:
            await ready.wait()
        finally:
            if sock.fileno() >= 0:
                loop.remove_reader(sock)

    def shut(way):
        if way.task is not None:  # else there was no memory for it
            way.task.cancel()
        asyncio.get_running_loop().remove_reader(way.sock)  # its number may be another's at once
        port.close(way.sock)
