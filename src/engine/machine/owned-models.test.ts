import { describe, expect, it } from 'vitest';
import { ProbeModel } from '../../../tests/kit/machines.ts';
import type { DeviceModel } from '../../pci/declaration.ts';
import { HeapMemory } from '../../sys/fake.ts';
import { Machine } from './machine.ts';
import type { FunctionSpec } from './machine-spec.ts';

/** Models that opened resources; `open` lists those that are still open. */
function owning() {
  const open = new Set<unknown>();
  const log: string[] = [];
  const make = (name: string): DeviceModel => {
    open.add(name);
    const owns = {
      [Symbol.dispose]: () => {
        if (open.delete(name)) log.push(`${name} closed`);
      },
    };
    const create = () => ({ read: () => 0, write: () => {}, reset: () => {}, dispose: () => void log.push(`${name} gone`) });
    return { declaration: { ...ProbeModel.declaration, name }, create, owns };
  };
  const models = { disk: (options: Readonly<Record<string, unknown>>) => make(String(options.name)) };
  const start = (devices: readonly FunctionSpec[]) => new Machine({ devices: [...devices] }, { allocate: HeapMemory.allocate, models });
  return { open, log, make, start };
}

const disk = (at: string, name: string, more: Partial<FunctionSpec> = {}): FunctionSpec => ({
  at,
  model: 'disk',
  options: { name },
  ...more,
});

describe('what a model opened', () => {
  it('goes with the machine that made it, after the model', () => {
    const { open, log, start } = owning();
    const machine = start([disk('04.0', 'a'), disk('05.0', 'b')]);
    expect(open.size).toBe(2);
    machine[Symbol.dispose]();
    machine[Symbol.dispose]();
    expect(open.size).toBe(0);
    for (const name of ['a', 'b']) expect(log.indexOf(`${name} closed`)).toBeGreaterThan(log.indexOf(`${name} gone`));
    expect(log).toHaveLength(4);
  });

  it('goes with the function when that is removed', async () => {
    const { open, log, start } = owning();
    using machine = start([disk('04.0', 'a'), disk('05.0', 'b')]);
    await machine.remove('00:04.0');
    expect([...open]).toEqual(['b']);
    expect(log).toEqual(['a gone', 'a closed']);
  });

  it('is closed again when the machine cannot be', () => {
    const { open, start } = owning();
    for (const wrong of [
      disk('04.0', 'twice'),
      disk('05.0', 'b', { kind: 'conventional' }),
      disk('05.0', 'b', { iommu: 'none of that name' }),
      disk('05.1', 'no function 0'),
    ]) {
      expect(() => start([disk('04.0', 'a'), wrong])).toThrow();
      expect([...open]).toEqual([]);
    }
  });

  it('stays open when the machine did not make the model', () => {
    const { open, make, start } = owning();
    start([{ at: '04.0', model: make('mine') }])[Symbol.dispose]();
    expect([...open]).toEqual(['mine']);
  });
});
