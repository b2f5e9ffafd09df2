/**
 * A value change dump, read by its grammar (IEEE 1364, 18.2) with the strings that GTKWave adds.
 */
import { expect } from 'vitest';

export interface Dump {
  /** By `device.signal`: the changes, `[nanoseconds, value]`. Bits are without leading zeroes. */
  readonly changes: ReadonlyMap<string, readonly (readonly [ns: number, value: string])[]>;
}

/** It fails where a line does not follow the grammar, and where time goes back. */
export function dumpOf(text: string): Dump {
  const [header, body] = text.split('$enddefinitions $end\n');
  const signals = new Map<string, { readonly path: string; readonly width: number; readonly string: boolean }>();
  const scopes: string[] = [];
  for (const line of header!.trimEnd().split('\n')) {
    const words = line.split(' ');
    expect(words.at(-1), line).toBe('$end');
    if (words[0] === '$scope') scopes.push(words[2]!);
    else if (words[0] === '$upscope') scopes.pop();
    else if (words[0] === '$var') {
      const [, type, width, id, name] = words;
      expect(signals.has(id!), `${id} is named once`).toBe(false);
      const path = [...scopes.slice(1), name].join('.');
      expect(
        [...signals.values()].some((each) => each.path === path),
        path,
      ).toBe(false);
      signals.set(id!, { path, width: Number(width), string: type === 'string' });
    } else expect(['$version', '$timescale']).toContain(words[0]);
  }
  expect(scopes).toEqual([]);
  const changes = new Map<string, [number, string][]>();
  let now = -1;
  for (const line of (body ?? '').split('\n').slice(0, -1)) {
    if (line === '$dumpvars' || line === '$end') continue;
    const time = /^#(\d+)$/.exec(line);
    if (time !== null) {
      expect(Number(time[1])).toBeGreaterThan(now);
      now = Number(time[1]);
      continue;
    }
    const match = /^(?:([01x])(\S+)|b([01x]+) (\S+)|s(\S+) (\S+))$/.exec(line);
    expect(match, line).not.toBeNull();
    const [, bit, bitId, bits, bitsId, string, stringId] = match!;
    const signal = signals.get((bitId ?? bitsId ?? stringId)!);
    expect(signal, line).toBeDefined();
    const { path, width } = signal!;
    expect([string !== undefined, bit !== undefined]).toEqual([signal!.string, width === 1 && !signal!.string]);
    expect((bits ?? '').length).toBeLessThanOrEqual(width);
    const value = (bit ?? bits ?? string)!;
    const list = changes.get(path) ?? [];
    changes.set(path, list);
    // The last value of a moment counts.
    if (list.at(-1)?.[0] === now) list.pop();
    list.push([now, value]);
  }
  return { changes };
}
