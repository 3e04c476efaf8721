"""Questions that can wait, in a Redis or Valkey that all gateways share: any of them answers for any job."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from redis import asyncio as redis
from redis.exceptions import RedisError

from askonce import telemetry
from askonce.faults import Unreachable
from askonce.times import to_timestamp
from askonce.v1 import answer_pb2, job_pb2
from gateway.jobs import (
    PATIENCE,
    UNFINISHED,
    Answer,
    conclude,
    count,
    done_before,
    full,
    job_name,
    listed,
    new_job,
    page_of,
    tenant_of,
    unknown,
)
from gateway.settings import Jobs as JobSettings

PREFIX = "askonce:jobs"
CLAIM = 10.0
"""Seconds after which a job is asked again whose gateway has died; a living one says three times as often that it is at
it, and hears whether the job was cancelled meanwhile."""
IDLE = 0.5
"""Seconds between two looks for a job."""

# A job is a hash: `job`, and `request` until it is over. A tenant's jobs stand in a sorted set by time of creation;
# those that wait, in a list a tenant, and tenants that have any take turns in a list of their own; those that are being
# answered, in a sorted set by the time at which their gateway counts as dead.
COMMON = """
local prefix = ARGV[1]
local function whose(name) return string.match(name, '^(tenants/[^/]+)/') end
local function waiting(tenant) return prefix .. ':waiting:' .. tenant end
local function push(name, first)
  local tenant = whose(name)
  local queue = waiting(tenant)
  if redis.call('LLEN', queue) == 0 then redis.call('RPUSH', prefix .. ':turns', tenant) end
  redis.call(first and 'LPUSH' or 'RPUSH', queue, name)
end
local function key(name) return prefix .. ':job:' .. name end
"""
CREATE = (
    COMMON
    + """
local name, job, request, now, ttl = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local each, all, kept = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local known = redis.call('HGET', key(name), 'job')
if known then return known end
local tenant = whose(name)
local mine = prefix .. ':of:' .. tenant
if redis.call('LLEN', waiting(tenant)) >= each then return 'own' end
local total = 0
for _, other in ipairs(redis.call('LRANGE', prefix .. ':turns', 0, -1)) do
  total = total + redis.call('LLEN', waiting(other))
end
if total >= all then return 'all' end
redis.call('ZREMRANGEBYSCORE', mine, '-inf', now - ttl)
if redis.call('ZCARD', mine) >= kept then
  for _, old in ipairs(redis.call('ZRANGE', mine, 0, -1)) do
    if redis.call('HEXISTS', key(old), 'request') == 0 then
      redis.call('DEL', key(old))
      redis.call('ZREM', mine, old)
      break
    end
  end
  if redis.call('ZCARD', mine) >= kept then return 'all' end
end
redis.call('HSET', key(name), 'job', job, 'request', request)
redis.call('EXPIRE', key(name), ttl)
redis.call('ZADD', mine, now, name)
redis.call('EXPIRE', mine, ttl)
push(name, false)
return ''
"""
)
TAKE = (
    COMMON
    + """
local now, until_ = tonumber(ARGV[2]), tonumber(ARGV[3])
local running = prefix .. ':running'
for _, name in ipairs(redis.call('ZRANGEBYSCORE', running, '-inf', now)) do
  redis.call('ZREM', running, name)
  push(name, true)
end
while true do
  local tenant = redis.call('LPOP', prefix .. ':turns')
  if not tenant then return false end
  local name = redis.call('LPOP', waiting(tenant))
  if redis.call('LLEN', waiting(tenant)) > 0 then redis.call('RPUSH', prefix .. ':turns', tenant) end
  if name then
    local found = redis.call('HMGET', key(name), 'job', 'request')
    if found[1] and found[2] then
      redis.call('ZADD', running, until_, name)
      return found
    end
  end
end
"""
)
KEEP = (
    COMMON
    + """
if redis.call('HEXISTS', key(ARGV[2]), 'request') == 0 then return 0 end
redis.call('ZADD', prefix .. ':running', ARGV[3], ARGV[2])
if ARGV[4] then redis.call('HSET', key(ARGV[2]), 'job', ARGV[4]) end
return 1
"""
)
END = (
    COMMON
    + """
redis.call('ZREM', prefix .. ':running', ARGV[2])
if redis.call('HDEL', key(ARGV[2]), 'request') == 0 then return 0 end
redis.call('HSET', key(ARGV[2]), 'job', ARGV[3])
redis.call('LREM', waiting(whose(ARGV[2])), 0, ARGV[2])
return 1
"""
)
RETURN = (
    COMMON
    + """
if redis.call('ZREM', prefix .. ':running', ARGV[2]) == 1 and redis.call('HEXISTS', key(ARGV[2]), 'request') == 1 then
  redis.call('HSET', key(ARGV[2]), 'job', ARGV[3])
  push(ARGV[2], false)
end
"""
)


class SharedJobs:
    """Implements `gateway.jobs.Queue`. A job that was taken by a gateway that died is asked again by another one."""

    def __init__(
        self,
        settings: JobSettings,
        client: redis.Redis,
        answer: Answer,
        clock: Callable[[], float] = time.time,
        claim: float = CLAIM,
    ) -> None:
        """`clock` returns seconds since the epoch, about the same at all gateways."""
        self.settings = settings
        self.client = client
        self.answer = answer
        self.clock = clock
        self.claim = claim

    async def create(self, tenant: str, request: answer_pb2.AnswerRequest, identifier: str) -> job_pb2.Job:
        name, now = job_name(tenant, identifier), self.clock()
        job = new_job(name, now, self.settings.ttl)
        bounds = (self.settings.queued_each, self.settings.queued, self.settings.kept)
        packed = (job.SerializeToString(), request.SerializeToString())
        known = await self.run(CREATE, name, *packed, now, int(self.settings.ttl), *bounds)
        if known in (b"own", b"all"):
            raise full(own=known == b"own")
        return job_pb2.Job.FromString(known) if known else job

    async def get(self, name: str) -> job_pb2.Job:
        tenant_of(name)
        async with reached():
            found: Any = await self.client.hget(key_of(name), "job")
        if found is None:
            raise unknown()
        return job_pb2.Job.FromString(found)

    async def list(self, tenant: str, size: int, token: str) -> job_pb2.ListJobsResponse:
        async with reached():
            names: Any = await self.client.zrevrange(f"{PREFIX}:of:{tenant}", 0, -1)
            page, following = page_of([name.decode() for name in names], tenant, size, token)
            found: list[Any] = [await self.client.hget(key_of(name), "job") for name in page]
        return listed([job_pb2.Job.FromString(each) for each in found if each is not None], following)

    async def cancel(self, name: str) -> job_pb2.Job:
        job = await self.get(name)
        if job.state in UNFINISHED and not await self.end(job, job_pb2.JOB_STATE_CANCELLED):
            return await self.get(name)
        return job

    async def load(self) -> None:
        """What was being answered by a gateway that ended comes back by itself."""

    async def step(self) -> None:
        try:
            taken = await self.run(TAKE, self.clock(), self.clock() + self.claim)
        except Unreachable:
            taken = None
        if not taken:
            await asyncio.sleep(IDLE)
            return
        job, request = job_pb2.Job.FromString(taken[0]), answer_pb2.AnswerRequest.FromString(taken[1])
        pause = await self.attempt(job, request)
        if pause is not None:
            await asyncio.sleep(min(max(pause, PATIENCE[0]), PATIENCE[1]))

    async def attempt(self, job: job_pb2.Job, request: answer_pb2.AnswerRequest) -> float | None:
        """Has one job answered. Returns the seconds to wait when it should be tried again."""
        with telemetry.request(telemetry.accept_request_id(None)):
            job.state = job_pb2.JOB_STATE_RUNNING
            with suppress(Unreachable):
                await self.run(KEEP, job.name, self.clock() + self.claim, job.SerializeToString())
            task = asyncio.ensure_future(self.answer(request, tenant_of(job.name)))
            keeping = asyncio.create_task(self.keep(job.name))
            try:
                await asyncio.wait({task, keeping}, return_when=asyncio.FIRST_COMPLETED)
                if not task.done():  # it was cancelled through some gateway
                    return None
                pause, state = conclude(job, task)
                if pause is not None:
                    job.state = job_pb2.JOB_STATE_QUEUED
                    await self.run(RETURN, job.name, job.SerializeToString())
                else:
                    await self.end(job, state)
                return pause
            except Unreachable:  # it is asked again once its claim has run out
                return PATIENCE[0]
            finally:
                task.cancel()
                keeping.cancel()

    async def keep(self, name: str) -> None:
        """Says now and then that a job is being answered; returns once it is over, whoever ended it."""
        while True:
            await asyncio.sleep(self.claim / 3)
            with suppress(Unreachable):
                if not await self.run(KEEP, name, self.clock() + self.claim):
                    return

    async def end(self, job: job_pb2.Job, state: job_pb2.JobState.ValueType) -> bool:
        """Ends a job; False when it has ended before, and then nothing changes."""
        job.state = state
        job.end_time.CopyFrom(to_timestamp(self.clock()))
        if not await self.run(END, job.name, job.SerializeToString()):
            return False
        count(state)
        return True

    async def expire(self) -> None:
        """Redis forgets by itself."""

    async def purge(self, tenant: str, before: float) -> None:
        mine = f"{PREFIX}:of:{tenant}"
        async with reached():
            names: Any = await self.client.zrange(mine, 0, -1)
            for name in names:
                found: Any = await self.client.hget(key_of(name.decode()), "job")
                if found is not None and done_before(job_pb2.Job.FromString(found), before):
                    await self.client.delete(key_of(name.decode()))
                    await self.client.zrem(mine, name)

    async def run(self, script: str, *arguments: bytes | str | float) -> Any:
        """Runs a script. Raises Unreachable."""
        async with reached():
            return await self.client.eval(script, 0, PREFIX, *arguments)


@asynccontextmanager
async def reached() -> AsyncIterator[None]:
    """Gives the errors of Redis a name. Raises Unreachable."""
    try:
        yield
    except RedisError as error:
        message = "The place where jobs are kept does not answer; try again shortly."
        raise Unreachable("JOBS_UNAVAILABLE", message, retry_after=1.0) from error


def key_of(name: str) -> str:
    """Where a job is kept."""
    return f"{PREFIX}:job:{name}"
