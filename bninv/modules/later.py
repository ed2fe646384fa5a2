"""Generators and coroutines, whose code runs after the call that made them has returned."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

Run = Callable[..., Any]  # calls a function with arguments, in the state that its code is to run in


def by_steps(run: Run, made: Any) -> Any:
    """What does as a generator, coroutine or asynchronous generator does, each step of it by `run`.

    Between the steps the thread belongs to others: nothing may stay switched on.
    """
    if isinstance(made, GeneratorType):
        return _steps(run, made)
    if isinstance(made, CoroutineType):
        return by_steps_async(run, made)
    assert isinstance(made, AsyncGeneratorType)
    return _steps_async(run, made)


async def by_steps_async(run: Run, made: Any) -> Any:
    """The result of a coroutine, each step of it by `run`."""
    return await _Awaitable(run, made)


def _steps(run: Run, made: Any) -> Generator[Any, Any, Any]:
    resume, value = made.send, None
    while True:
        try:
            result = run(resume, value)
        except StopIteration as end:
            return end.value
        try:
            resume, value = made.send, (yield result)
        except GeneratorExit:
            run(made.close)
            raise
        except BaseException as error:
            resume, value = made.throw, error


class _Awaitable:
    """What has the `send`, `throw` and `close` of a coroutine."""

    def __init__(self, run: Run, made: Any) -> None:
        self._run, self._made = run, made

    def __await__(self) -> Generator[Any, Any, Any]:
        return _steps(self._run, self._made)


async def _steps_async(run: Run, made: AsyncGenerator[Any, Any]) -> AsyncIterator[Any]:
    step = made.asend(None)
    while True:
        try:
            result = await _Awaitable(run, step)
        except StopAsyncIteration:
            return
        try:
            step = made.asend((yield result))
        except GeneratorExit:
            await _Awaitable(run, made.aclose())
            raise
        except BaseException as error:
            step = made.athrow(error)
