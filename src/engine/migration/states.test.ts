/**
 * Every pair of states, for every combination of optional states, against the kernel's table and
 * its skipping.
 */
import { describe, expect, it } from 'vitest';
import { MigrationFlags, MigrationState as S } from '../../abi/vfio.ts';
import { hasState, nextState, states, wayTo } from './states.ts';

const { STOP_COPY, P2P, PRE_COPY } = MigrationFlags;

/**
 * linux/vfio.h says: "the shortest path", and no saving state as an interior node. Arcs that
 * devices implement, by the flags that they need.
 */
const arcs: readonly (readonly [number, number, number])[] = [
  [S.RUNNING, S.RUNNING_P2P, P2P],
  [S.RUNNING_P2P, S.RUNNING, P2P],
  [S.RUNNING_P2P, S.STOP, P2P],
  [S.STOP, S.RUNNING_P2P, P2P],
  [S.STOP, S.STOP_COPY, 0],
  [S.STOP_COPY, S.STOP, 0],
  [S.STOP, S.RESUMING, 0],
  [S.RESUMING, S.STOP, 0],
  [S.RUNNING, S.PRE_COPY, PRE_COPY],
  [S.PRE_COPY, S.RUNNING, PRE_COPY],
  [S.PRE_COPY, S.PRE_COPY_P2P, P2P | PRE_COPY],
  [S.PRE_COPY_P2P, S.PRE_COPY, P2P | PRE_COPY],
  [S.RUNNING_P2P, S.PRE_COPY_P2P, P2P | PRE_COPY],
  [S.PRE_COPY_P2P, S.RUNNING_P2P, P2P | PRE_COPY],
  [S.PRE_COPY_P2P, S.STOP_COPY, P2P | PRE_COPY],
];
const withoutP2p: typeof arcs = [
  [S.RUNNING, S.STOP, 0],
  [S.STOP, S.RUNNING, 0],
  [S.PRE_COPY, S.STOP_COPY, PRE_COPY],
];

function implemented(flags: number): (readonly [number, number])[] {
  const all = (flags & P2P) === 0 ? [...arcs, ...withoutP2p] : arcs;
  return all.filter(([, , takes]) => (takes & ~flags) === 0).map(([from, to]) => [from, to]);
}

const saving: ReadonlySet<number> = new Set<number>([S.PRE_COPY, S.PRE_COPY_P2P, S.STOP_COPY, S.RESUMING]);

/** The shortest way over those arcs that crosses no state with a stream, unless it began in one. */
function shortest(flags: number, from: number, to: number): number | null {
  const known = new Map([[from, 0]]);
  const queue = [from];
  for (let at = queue.shift(); at !== undefined; at = queue.shift()) {
    if (at === to) return known.get(at)!;
    const copies = (state: number) => state === S.PRE_COPY || state === S.PRE_COPY_P2P;
    for (const [a, b] of implemented(flags)) {
      if (a !== at || known.has(b)) continue;
      if (b !== to && saving.has(b) && !(copies(at) && copies(b) && at === from)) continue;
      known.set(b, known.get(at)! + 1);
      queue.push(b);
    }
  }
  return null;
}

const combinations = [STOP_COPY, STOP_COPY | P2P, STOP_COPY | PRE_COPY, STOP_COPY | P2P | PRE_COPY];
const names = (flags: number) => ['STOP_COPY', ...(flags & P2P ? ['P2P'] : []), ...(flags & PRE_COPY ? ['PRE_COPY'] : [])].join('|');

describe.each(combinations.map((flags) => [names(flags), flags] as const))('B.11 a device with %s', (_, flags) => {
  const own = states.map((_row, i) => i).filter((state) => state !== S.ERROR && hasState(flags, state));

  it('has these states', () => {
    const expected: number[] = [S.STOP, S.RUNNING, S.STOP_COPY, S.RESUMING, ...(flags & P2P ? [S.RUNNING_P2P] : [])];
    if (flags & PRE_COPY) expected.push(S.PRE_COPY, ...(flags & P2P ? [S.PRE_COPY_P2P] : []));
    expect(own).toEqual([...expected].sort());
  });

  it('goes between any two over arcs that a device has, the shortest way, and not through another stream', () => {
    for (const from of own) {
      for (const to of own) {
        const pair = `${states[from]!.name} to ${states[to]!.name}`;
        const way = wayTo(flags, from as S, to);
        if (from === S.STOP_COPY && (to === S.PRE_COPY || to === S.PRE_COPY_P2P)) {
          expect(way, pair).toBeNull();
          continue;
        }
        expect(way, pair).not.toBeNull();
        let at = from;
        for (const next of way!) {
          expect(implemented(flags), `${pair} by ${states[at]!.name} to ${states[next]!.name}`).toContainEqual([at, next]);
          if (next !== to && !(from === S.PRE_COPY && next === S.PRE_COPY_P2P)) expect(saving.has(next), pair).toBe(false);
          at = next;
        }
        expect(at, pair).toBe(to);
        expect(way!.length, pair).toBe(shortest(flags, from, to));
      }
    }
  });

  it('has no way to ERROR, from it, or to what it has not', () => {
    for (const from of own) {
      expect(nextState(flags, from as S, S.ERROR)).toBeNull();
      expect(nextState(flags, S.ERROR, from)).toBeNull();
      for (const to of [-1, 8, 99, 0.5, Number.NaN, 2 ** 32]) expect(nextState(flags, from as S, to)).toBeNull();
      for (let other = 1; other < 8; other++) {
        if (own.includes(other)) continue;
        expect([nextState(flags, from as S, other), nextState(flags, other as S, from)]).toEqual([null, null]);
      }
    }
  });
});

/**
 * The table of B.11, row by row: columns STOP, RUNNING, PRE_COPY, PRE_COPY_P2P, STOP_COPY,
 * RESUMING, RUNNING_P2P.
 */
it.each([
  ['STOP', 'STOP RUNNING_P2P RUNNING_P2P RUNNING_P2P STOP_COPY RESUMING RUNNING_P2P'],
  ['RUNNING', 'RUNNING_P2P RUNNING PRE_COPY RUNNING_P2P RUNNING_P2P RUNNING_P2P RUNNING_P2P'],
  ['PRE_COPY', 'RUNNING RUNNING PRE_COPY PRE_COPY_P2P PRE_COPY_P2P RUNNING RUNNING'],
  ['PRE_COPY_P2P', 'RUNNING_P2P RUNNING_P2P PRE_COPY PRE_COPY_P2P STOP_COPY RUNNING_P2P RUNNING_P2P'],
  ['STOP_COPY', 'STOP STOP none none STOP_COPY STOP STOP'],
  ['RESUMING', 'STOP STOP STOP STOP STOP RESUMING STOP'],
  ['RUNNING_P2P', 'STOP RUNNING RUNNING PRE_COPY_P2P STOP STOP RUNNING_P2P'],
  ['ERROR', 'none none none none none none none'],
] as const)('B.11 from %s the next states are %s', (from, row) => {
  const columns = ['STOP', 'RUNNING', 'PRE_COPY', 'PRE_COPY_P2P', 'STOP_COPY', 'RESUMING', 'RUNNING_P2P'] as const;
  const next = columns.map((to) => nextState(STOP_COPY | P2P | PRE_COPY, S[from], S[to]));
  expect(next.map((state) => (state === null ? 'none' : states[state]!.name)).join(' ')).toBe(row);
});
