import { describe, expect, it } from 'vitest';
import { turn } from '../../tests/kit/event-loop.ts';
import { ProbeModel } from '../../tests/kit/machines.ts';
import { silentLogger } from '../base/log.ts';
import { Machine } from '../engine/machine/machine.ts';
import type { DeviceModel } from '../pci/declaration.ts';
import { HeapMemory } from '../sys/fake.ts';
import { DeviceServer } from './serve.ts';
import { simulate } from './simulation.ts';

/**
 * A model that owns a resource: `log` records when the resource is closed, and when a device of the
 * model goes.
 */
function owning(log: string[], name: string, declaration = ProbeModel.declaration): DeviceModel {
  let open = true;
  const owns = {
    [Symbol.dispose]: () => {
      if (open) log.push(`${name} closed`);
      open = false;
    },
  };
  const create = () => ({ read: () => 0, write: () => {}, reset: () => {}, dispose: () => void log.push(`${name} gone`) });
  return { declaration, create, owns };
}
const noDevice = { ...ProbeModel.declaration, bars: [{ index: 9, size: 16, type: 'mem32' }] } as const;

describe('a resource that a model owns', () => {
  it('is closed with the simulation, after the device', () => {
    const log: string[] = [];
    const { device, owns } = simulate(owning(log, 'a'), { log: silentLogger });
    device.close();
    expect(log).toEqual([]);
    owns[Symbol.dispose]();
    expect(log).toEqual(['a gone', 'a closed']);
    expect(() => simulate(owning(log, 'b', noDevice), { log: silentLogger })).toThrow();
    expect(log.slice(2)).toEqual(['b closed']);
  });

  it('is closed with the server, or when another device takes the model’s place', () => {
    const log: string[] = [];
    const server = new DeviceServer(owning(log, 'a'), { log: silentLogger });
    expect(() => server.replace(owning(log, 'b', noDevice))).toThrow();
    expect(log).toEqual(['b closed']);
    server.replace(owning(log, 'c'));
    expect(log.slice(1)).toEqual(['a gone', 'a closed']);
    server[Symbol.dispose]();
    server[Symbol.dispose]();
    expect(log.slice(3)).toEqual(['c gone', 'c closed']);
    expect(() => new DeviceServer(owning(log, 'd', noDevice), { log: silentLogger })).toThrow();
    expect(log.slice(5)).toEqual(['d closed']);
  });

  it.each<[string, () => unknown, RegExp]>([
    [
      'throws',
      () => {
        throw new Error('vendor bug');
      },
      /^dispose of what \S+ owns failed: Error: vendor bug/,
    ],
    [
      'is async and rejects',
      async () => {
        throw new Error('vendor bug');
      },
      /^dispose of what \S+ owns failed: Error: vendor bug/,
    ],
  ])('whose dispose %s: the log has the error, and all other resources are closed', async (_, dispose, line) => {
    const log: string[] = [];
    const logger = { log: (_level: string, text: string) => void log.push(text) };
    const careless = (): DeviceModel => ({ ...owning([], 'a'), owns: { [Symbol.dispose]: dispose as () => void } });
    const simulated = simulate(careless(), { log: logger });
    simulated.device.close();
    simulated.owns[Symbol.dispose]();
    new DeviceServer(careless(), { log: logger })[Symbol.dispose]();
    const spec = { devices: [{ at: '01.0', model: 'a' }] };
    new Machine(spec, { allocate: HeapMemory.allocate, log: logger, models: { a: careless } })[Symbol.dispose]();
    await turn();
    const said = log.filter((text) => /owns/.test(text));
    expect(said.map((text) => text.replace(/^0000:\S+ /, ''))).toEqual([1, 2, 3].map(() => expect.stringMatching(line)));
  });
});
