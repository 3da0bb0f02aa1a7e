"""Chaos: a service under load, while its workers and servers fail and recover.

Run it as `python -m benchmarks.chaos [folder | scaled] [--seconds N] [--seed N]`. Every
three seconds a fault happens: a worker, Redis, PostgreSQL or the object store is
killed, frozen or read-only for a moment, and several may be at once. Then everything
that was acknowledged is checked, twice: on the same workers, and after a restart. The
exit code is 1 if anything was lost, came back, was answered with 500, or grew.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tests.servers import Server, until

from .chaos_checks import Checks, Usage
from .chaos_clients import Client, Lost
from .chaos_ledger import Ledger, make_picture
from .chaos_servers import Fault, PostgreSQL, Redis, Restartable, Workers
from .chaos_stores import ObjectStore, object_store

S = TypeVar('S', bound=Restartable)

WORKERS = 3
CLIENTS = 10

# Seconds between two faults, and for which one lasts: shorter and longer than the time
# limits of the service for Redis, PostgreSQL and the object store.
INTERVAL = 3.0
DURATIONS = 0.2, 1, 2, 5, 8

# Limits, in seconds: of the start of the service, and of its recovery from the last
# fault.
START_TIMEOUT = 60
MAX_RECOVERY = 10


class Chaos:
    """A service, what it depends on, and the load on it.

    Args:
        folder: an empty folder.
        configuration: `folder`, or `scaled` with PostgreSQL and an object store.
        seed: of the order of the faults, and of what the clients do.
    """

    def __init__(self, folder: Path, configuration: str, seed: int) -> None:
        self.ledger = Ledger()
        self._folder = folder
        self._seed = seed
        self._rng = random.Random(seed)
        self._is_strict = configuration == 'folder'
        self._injected: Counter[str] = Counter()
        self._usage: list[tuple[Usage, Usage]] = []
        self._recovery = 0.0
        self._servers: dict[str, Restartable] = {}
        self._store: ObjectStore | None = None
        with ExitStack() as self._stack:
            settings = self._start_servers(configuration)
            self._settings = settings | {
                'api_token': 's3cret',
                'min_thumb_size': 16,
                'cache_memory': '2 MiB',
                'cache_body_size': '16 KiB',
                'threads': 1,
            }
            self._server = self._serve()
            self._stack = self._stack.pop_all()

    def __enter__(self) -> Chaos:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    def run(
        self,
        seconds: float,
        *,
        pattern: str = '',
        interval: float = INTERVAL,
        durations: Sequence[float] = DURATIONS,
        max_recovery: float = MAX_RECOVERY,
    ) -> None:
        """Put load on the service while faults happen, and check what remains."""
        with self._load():
            time.sleep(interval)
            before = {pid: Usage.of(pid) for pid in self._workers.pids()}
            self._inject(seconds, self._faults(pattern), interval, durations)
            self._recover(max_recovery)
        self._measure(before)
        Checks(self._server, self.ledger, 'after the faults').run()
        self._server.stop()
        self._servers['Redis'].restart()
        self._server = self._serve()
        checks = Checks(self._server, self.ledger, 'after a restart')
        checks.run()
        checks.check_files(self._store)
        self._server.stop()

    def report(self) -> None:
        """Print what happened."""
        print(
            '\nfaults:', ', '.join(f'{n} {name}' for name, n in self._injected.items())
        )
        answers = self.ledger.answers
        columns = sorted({answer for _, answer in answers})
        print(f'\n{"":15}', *(f'{name:>12.12}' for name in columns))
        for action in sorted({action for action, _ in answers}):
            counts = (answers[action, name] or '' for name in columns)
            print(f'{action:15}', *(f'{count:>12}' for count in counts))
        stored = self.ledger.stored()
        deleted = sum(picture.deleted for picture in stored)
        print(f'\nstored: {len(stored)} images, of which {deleted} were deleted')
        seconds, which = self.ledger.slowest
        print(f'slowest response: {seconds:.1f} s, {which}')
        print(f'recovered from the last fault after {self._recovery:.1f} s')
        for old, new in self._usage:
            print(f'worker that was never killed: {old}, at the end {new}')
        for violation in self.ledger.violations:
            print('VIOLATED:', violation)
        print(f'{len(self.ledger.violations)} violations')

    def _start_servers(self, configuration: str) -> dict[str, Any]:
        """Start what the service depends on; return the settings."""
        redis = self._add('Redis', Redis(self._folder))
        if configuration == 'folder':
            return {'redis_host': redis.url}
        database = self._add('PostgreSQL', PostgreSQL(self._folder))
        self._store = self._add('object store', object_store(self._folder))
        return {
            'redis_host': redis.url,
            'database_url': database.url,
            'storage_url': self._store.url,
        }

    def _add(self, name: str, server: S) -> S:
        self._servers[name] = server
        self._stack.callback(server.kill)
        server.start()
        return server

    def _serve(self) -> Server:
        server = Server(self._folder, '--workers', str(WORKERS), **self._settings)
        self._stack.callback(server.kill)
        until(lambda: server.log.count(server.ready) >= WORKERS, START_TIMEOUT)
        self._workers = Workers(server, random.Random(self._seed), self.ledger)
        return server

    @contextmanager
    def _load(self) -> Iterator[None]:
        port, strict = self._server.port, self._is_strict
        seeds = [f'{self._seed}-{number}' for number in range(CLIENTS)]
        clients = [Client(port, self.ledger, seed, strict=strict) for seed in seeds]
        for client in clients:
            client.start()
        try:
            yield
        finally:
            for client in clients:
                client.stop()
            for client in clients:
                client.join()

    def _faults(self, pattern: str) -> list[Fault]:
        targets: dict[str, Workers | Restartable] = {'worker': self._workers}
        targets.update(self._servers)
        return [
            fault
            for target, server in targets.items()
            for fault in server.faults(target)
            if re.search(pattern, f'{fault.target} {fault.name}')
        ]

    def _inject(
        self,
        seconds: float,
        faults: Sequence[Fault],
        interval: float,
        durations: Sequence[float],
    ) -> None:
        """Inject all faults in random order, again and again, until all are over.

        A server has one fault at a time.
        """
        end = time.monotonic() + seconds
        running: dict[str, threading.Thread] = {}
        for fault in self._in_random_order(faults):
            if fault.target in running:
                running[fault.target].join()
            if time.monotonic() > end:
                break
            duration = self._rng.choice(durations)
            thread = threading.Thread(target=self._keep, args=(fault, duration))
            thread.start()
            running[fault.target] = thread
            time.sleep(interval)
        for thread in running.values():
            thread.join()

    def _in_random_order(self, faults: Sequence[Fault]) -> Iterator[Fault]:
        while True:
            yield from self._rng.sample(faults, len(faults))

    def _keep(self, fault: Fault, duration: float) -> None:
        name = f'{fault.target} {fault.name}'
        self._injected[name] += 1
        print(f'{time.strftime("%H:%M:%S")} {name} {duration:g} s', file=sys.stderr)
        try:
            with fault.inject():
                time.sleep(duration)
        except BaseException as ex:
            self.ledger.violated(f'this script failed at {name}: {ex!r}')
            raise

    def _recover(self, seconds: float) -> None:
        """Wait until every worker does all that a service has to do."""
        start = time.monotonic()
        while not self._is_good():
            if time.monotonic() > start + seconds:
                self.ledger.violated(f'not good {seconds} s after the last fault')
                return
            time.sleep(0.1)
        self._recovery = time.monotonic() - start

    def _is_good(self) -> bool:
        ask = Checks(self._server, self.ledger, 'recovery').ask
        if len(self._workers.pids()) < WORKERS:
            return False
        picture = make_picture(self._rng, large=0, keyed=False)
        try:
            for _ in range(4 * WORKERS):
                status, data = ask('GET', '/healthz/ready')
                if status != 200 or json.loads(data)['redis'] != 'up':
                    return False
            status, data = ask('POST', '/images', picture.body)
            if status != 201:
                return False
            uri = json.loads(data)['image']
            return ask('GET', uri)[0] == 200 and ask('DELETE', uri)[0] == 204
        except Lost:
            return False

    def _measure(self, before: dict[int, Usage]) -> None:
        pids = self._workers.pids()
        if len(pids) != WORKERS:
            self.ledger.violated(f'{len(pids)} workers')
        self._usage = [(before[pid], Usage.of(pid)) for pid in before.keys() & {*pids}]
        for old, new in self._usage:
            if new.has_grown(old):
                self.ledger.violated(f'a worker has grown: {old}, at the end {new}')


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument(
        'configuration', nargs='?', choices=['folder', 'scaled'], default='folder'
    )
    parser.add_argument('--seconds', type=float, default=300)
    parser.add_argument('--seed', type=int, default=1)
    parser.add_argument('--faults', default='', help='pattern of the faults to inject')
    options = parser.parse_args()
    folder = tempfile.mkdtemp(prefix='chaos-')
    print(f'seed {options.seed}; logs in {folder}')
    with Chaos(Path(folder), options.configuration, options.seed) as chaos:
        try:
            chaos.run(options.seconds, pattern=options.faults)
        finally:
            chaos.report()
    return 1 if chaos.ledger.violations else 0


if __name__ == '__main__':
    sys.exit(main())
