"""A member for tests, on MicroPython or CPython: `member_script.py COVEY.JSON SECONDS [LOSS]`.

Lines on stdin are sent, each when it may be; the end of stdin ends the membership. Events are
objects of JSON, one a line, as `covey join --json` has them. LOSS: percent of what the group sends
that does not arrive here.
"""From now on so much of it is taken for nothing."""
    receive = member.receive

    def some(n, now_ms):
        is_lost = os.urandom(1)[0] * 100 < percent * 256
        return receive(0 if is_lost else n, now_ms)

    member.receive = some


async def main(path, timeout_s, loss=0):
    lines = await open_stdin()
    async with covey.aio.join(path, tell, int(timeout_s)) as member:
        if loss:
            lose(member.member, int(loss))
        listening = asyncio.create_task(listen(member))
        reporting = asyncio.create_task(report(member))  # from here on every packet is told
        await obey(member, lines)
        tell("status", member.status())
        listening.cancel()
        reporting.cancel()


try:
    asyncio.run(main(*sys.argv[1:]))
except covey.aio.JoinError as error:
    tell("failed", str(error))
    sys.exit(1)
